/* Arena, messages, input files, number parsing. */
#include "spinenet.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 256 * 1024, TEXT_LIMIT = 1 << 20 };

typedef struct Chunk {
  struct Chunk *next;
  size_t used, size;
  max_align_t data[];
} Chunk;

/* ---- messages ---- */

static void message(const char *fmt, va_list ap) {
  fputs("spinenet-gen: ", stderr);
  vfprintf(stderr, fmt, ap);
  fputc('\n', stderr);
}

void complain(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  message(fmt, ap);
  va_end(ap);
}

_Noreturn void die(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  message(fmt, ap);
  va_end(ap);
  exit(EXIT_FAILURE);
}

/* ---- arena ---- */

void *arena_get(Arena *a, size_t bytes) {
  const size_t align = sizeof(max_align_t);
  if (bytes > SIZE_MAX / 2) die("out of memory");
  bytes = (bytes + align - 1) / align * align;
  if (!a->chunks || bytes > a->chunks->size - a->chunks->used) {
    size_t size = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
    Chunk *c = calloc(1, sizeof(Chunk) + size);
    if (!c) die("out of memory (%zu bytes asked)", size);
    c->size = size;
    c->next = a->chunks;
    a->chunks = c;
  }
  void *p = (char *)a->chunks->data + a->chunks->used;
  a->chunks->used += bytes;
  return p;
}

void *arena_array(Arena *a, size_t n, size_t size) {
  if (size && n > SIZE_MAX / size) die("out of memory");
  return arena_get(a, n * size);
}

const char *arena_printf(Arena *a, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(NULL, 0, fmt, ap);
  va_end(ap);
  if (n < 0) die("cannot format a name");
  char *s = arena_get(a, (size_t)n + 1);
  va_start(ap, fmt);
  vsnprintf(s, (size_t)n + 1, fmt, ap);
  va_end(ap);
  return s;
}

void arena_free(Arena *a) {
  while (a->chunks) {
    Chunk *next = a->chunks->next;
    free(a->chunks);
    a->chunks = next;
  }
}

/* ---- input ---- */

char *read_text(Arena *a, const char *path) {
  FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
  if (!f) {
    complain("%s: %s", path, strerror(errno));
    return NULL;
  }
  char *text = arena_get(a, TEXT_LIMIT + 2);
  size_t n = fread(text, 1, TEXT_LIMIT + 1, f);
  const char *trouble = ferror(f) ? strerror(errno) : n > TEXT_LIMIT ? "larger than 1 MiB" : memchr(text, 0, n) ? "not a text file" : NULL;
  if (f != stdin) fclose(f);
  if (trouble) complain("%s: %s", path, trouble);
  return trouble ? NULL : text;
}

bool parse_int(const char *s, int lo, int hi, int *out) {
  char *end;
  if (*s != '-' && (*s < '0' || *s > '9')) return false;
  errno = 0;
  long v = strtol(s, &end, 10);
  if (errno || *end || end == s || v < lo || v > hi) return false;
  *out = (int)v;
  return true;
}

bool parse_real(const char *s, double lo, double hi, double *out) {
  char *end;
  if (*s != '.' && (*s < '0' || *s > '9')) return false;
  double v = strtod(s, &end);
  if (*end || !isfinite(v) || v < lo || v > hi) return false;
  *out = v;
  return true;
}
