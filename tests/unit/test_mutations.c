#define _GNU_SOURCE
/* Real models, cut short or with bits turned: an error with a message or a compile, never a crash. SPINEC_MUTATIONS says how many (default 80);
 * a few thousand take some minutes under the sanitizers. Does nothing where the shared models are not there. */
#include "include/spinec.h"
#include "runtime/runtime.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char *read_file(const char *path, size_t *n) {
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  fseek(f, 0, SEEK_END);
  *n = (size_t)ftell(f);
  rewind(f);
  char *s = malloc(*n);
  if (s && fread(s, 1, *n, f) != *n) abort();
  fclose(f);
  return s;
}

static void attempt(const char *path, int *refused, int *compiled) {
  spinec_diagnostics *d = spinec_diagnostics_new();
  spinec_model *m = NULL;
  spinec_status s = spinec_load(path, NULL, &m, d);
  if (!s) {
    spinec_compile_options o = spinec_compile_options_default();
    o.target = "x86-64-v3";
    spinec_program *p = NULL;
    s = spinec_compile(m, &o, &p, d);
    spinec_program_free(p);
  }
  if (s == SPINEC_ERR_INTERNAL) fail_msg("%s", spinec_diagnostics_text(d, 0));
  if (s) assert_true(spinec_diagnostics_count(d) > 0);
  *(s ? refused : compiled) += 1;
  spinec_model_free(m);
  spinec_diagnostics_free(d);
}

/* Nodes come first in these files, weights after: most mutations go where the structure is. */
static void mutate(Rng *r, char *bytes, size_t *n) {
  if (rng_below(r, 4) == 0) {
    *n = (size_t)rng_below(r, (int64_t)*n);
    return;
  }
  int flips = 1 + (int)rng_below(r, 6);
  for (int i = 0; i < flips; i++) {
    int64_t within = rng_below(r, 8) ? 200000 : (int64_t)*n;
    bytes[rng_below(r, within < (int64_t)*n ? within : (int64_t)*n)] ^= (char)(1 << rng_below(r, 8));
  }
}

static void mutations(const char *model, int count) {
  char path[600], temp[] = "/tmp/spinec-mutation-XXXXXX";
  size_t n = 0;
  snprintf(path, sizeof path, "%s/../../../shared/spinenet/%s", TEST_DATA_DIR, model);
  char *whole = read_file(path, &n), *bytes = whole ? malloc(n) : NULL;
  if (!whole) skip();
  int fd = mkstemp(temp), refused = 0, compiled = 0;
  assert_true(fd >= 0 && bytes);
  Rng r = rng_new(n);
  for (int i = 0; i < count; i++) {
    size_t size = n;
    memcpy(bytes, whole, n);
    mutate(&r, bytes, &size);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_true(pwrite(fd, bytes, size, 0) == (ssize_t)size);
    attempt(temp, &refused, &compiled);
  }
  printf("%s: %d refused, %d compiled\n", model, refused, compiled);
  close(fd);
  unlink(temp);
  free(whole);
  free(bytes);
}

static int wanted(void) {
  const char *s = getenv("SPINEC_MUTATIONS");
  return s ? atoi(s) : 80;
}

static void test_mobile(void **state) { (void)state; mutations("spinenet-mobile-49XS-128-retinanet-b1.onnx", wanted()); }
static void test_batch(void **state) { (void)state; mutations("spinenet-mobile-49S-256-none-b2.onnx", wanted()); }

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_mobile), cmocka_unit_test(test_batch)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
