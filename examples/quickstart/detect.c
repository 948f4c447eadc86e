/* detect.c: a program around the C that spinec wrote for a SpineNet with RetinaNet head.
 *
 *   detect INPUT.npy DIR        writes DIR/cls3.npy .. cls7.npy, box3.npy .. box7.npy and prints timings
 *
 * It shows all that using a compiled model takes: its header, one workspace, one call. Besides the generated code it needs the C library
 * and libm; files and the clock are used here, never in the generated code.
 */
#define _POSIX_C_SOURCE 200809L
#include "spinenet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The outputs: name in the header, name of its size. */
#define OUTPUTS(X)                                                                      \
  X(cls3, CLS3) X(cls4, CLS4) X(cls5, CLS5) X(cls6, CLS6) X(cls7, CLS7)                  \
  X(box3, BOX3) X(box4, BOX4) X(box5, BOX5) X(box6, BOX6) X(box7, BOX7)

static float input[SPINENET_INPUT_INPUT_COUNT];
#define MEMORY(name, NAME) static float name[SPINENET_OUTPUT_##NAME##_COUNT];
OUTPUTS(MEMORY)
static _Alignas(SPINENET_WORKSPACE_ALIGN) unsigned char workspace[SPINENET_WORKSPACE_BYTES];

/* ---- .npy: a magic string, a length, a Python dictionary as text, the numbers ---- */

enum { MAGIC = 8, HEADER_MAX = 256 };

static int read_npy(const char *path, float *data, size_t count) {
  unsigned char head[MAGIC + 2];
  char text[HEADER_MAX + 1] = "";
  FILE *f = fopen(path, "rb");
  if (!f) return perror(path), 0;
  int ok = fread(head, 1, sizeof head, f) == sizeof head && !memcmp(head, "\x93NUMPY\x01", MAGIC - 1);
  const size_t n = ok ? head[MAGIC] + 256u * head[MAGIC + 1] : 0;
  ok = ok && n <= HEADER_MAX && fread(text, 1, n, f) == n && strstr(text, "'<f4'") && strstr(text, "'fortran_order': False");
  ok = ok && fread(data, sizeof *data, count, f) == count && fgetc(f) == EOF;
  if (!ok) fprintf(stderr, "%s: not a .npy file of %zu little-endian floats\n", path, count);
  fclose(f);
  return ok;
}

static int write_npy(const char *dir, const char *name, const float *data, size_t count, int level) {
  char path[4096], text[HEADER_MAX];
  const size_t pixels = SPINENET_INPUT_INPUT_COUNT / 3;
  size_t side = 1;
  while (side * side < pixels) side++;
  side >>= level;
  const size_t channels = count / (side * side);
  const int n =
      snprintf(text, sizeof text, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, %zu, %zu, %zu), }", channels, side, side);
  const int padded = (MAGIC + 2 + n + 1 + 63) / 64 * 64 - MAGIC - 2;   /* the numbers start at a multiple of 64 */
  const unsigned char size[2] = {(unsigned char)(padded & 255), (unsigned char)(padded >> 8)};
  if (snprintf(path, sizeof path, "%s/%s.npy", dir, name) >= (int)sizeof path) return fprintf(stderr, "%s: name too long\n", dir), 0;
  FILE *f = fopen(path, "wb");
  if (!f) return perror(path), 0;
  fwrite("\x93NUMPY\x01\x00", 1, MAGIC, f);
  fwrite(size, 1, sizeof size, f);
  fprintf(f, "%s%*s\n", text, padded - n - 1, "");
  fwrite(data, sizeof *data, count, f);
  const int failed = ferror(f);
  if (fclose(f) || failed) return perror(path), 0;
  return 1;
}

/* ---- running ---- */

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* One inference to warm up, then until a second has passed, at least 3 and at most 100. */
static void run_and_time(void) {
  enum { AT_LEAST = 3, AT_MOST = 100 };
  const spinenet_inputs in = {input};
#define MEMBER(name, NAME) .name = name,
  const spinenet_outputs out = {OUTPUTS(MEMBER)};
  double ms[AT_MOST];
  int n = 0;
  spinenet_run(&in, &out, workspace);
  const double start = now_ms();
  while (n < AT_LEAST || (n < AT_MOST && now_ms() - start < 1000)) {
    const double t = now_ms();
    spinenet_run(&in, &out, workspace);
    ms[n++] = now_ms() - t;
  }
  qsort(ms, (size_t)n, sizeof *ms, ascending);
  printf("runs %d\nms_min %.3f\nms_median %.3f\n", n, ms[0], n & 1 ? ms[n / 2] : (ms[n / 2 - 1] + ms[n / 2]) / 2);
}

int main(int argc, char **argv) {
  if (argc != 3) return fprintf(stderr, "usage: detect INPUT.npy DIR\n"), 2;
  if (!read_npy(argv[1], input, SPINENET_INPUT_INPUT_COUNT)) return 1;
  run_and_time();
  int ok = 1;
#define WRITE(name, NAME) ok &= write_npy(argv[2], #name, name, SPINENET_OUTPUT_##NAME##_COUNT, #name[3] - '0');
  OUTPUTS(WRITE)
  return ok ? 0 : 1;
}
