/* Arenas, texts, names and diagnostics: ir/arena.c, ir/names.c, ir/diag.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base.h"

static bool all_zero(const void *p, size_t n) {
  const unsigned char *c = p;
  for (size_t i = 0; i < n; i++)
    if (c[i]) return false;
  return true;
}

static void allocations(void **state) {
  (void)state;
  Arena *a = arena_new(NULL);
  unsigned char *last = NULL;
  for (size_t n = 0; n < 3000; n += 7) {
    unsigned char *p = arena_alloc(a, n);
    assert_int_equal((uintptr_t)p % 16, 0);
    assert_ptr_not_equal(p, last);
    assert_true(all_zero(p, n));
    memset(p, 0xff, n);
    last = p;
  }
  unsigned char *big = arena_alloc(a, 5u << 20);
  assert_true(all_zero(big, 5u << 20));
  memset(big, 0xff, 5u << 20);
  assert_true(arena_bytes(a) > 5u << 20);
  arena_free(a);
  arena_free(NULL);
}

static void release_gives_back(void **state) {
  (void)state;
  Arena *a = arena_new(NULL);
  ArenaMark start = arena_mark(a);   /* of an empty arena */
  int *kept = NEW(a, int);
  *kept = 42;
  ArenaMark m = arena_mark(a);
  size_t before = arena_bytes(a);
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 100; i++) memset(arena_alloc(a, 3000), 1, 3000);
    memset(arena_alloc(a, 3u << 20), 1, 3u << 20);
    arena_release(a, m);
    assert_int_equal(arena_bytes(a), before);
    assert_true(all_zero(arena_alloc(a, 1000), 1000));
    arena_release(a, m);
  }
  assert_int_equal(*kept, 42);
  arena_release(a, start);
  assert_true(all_zero(arena_alloc(a, 100), 100));
  arena_free(a);
}

static int order[8], norder;
static void note(void *arg) { order[norder++] = *(int *)arg; }

static void cleanups(void **state) {
  (void)state;
  static int id[] = {0, 1, 2, 3};
  norder = 0;
  Arena *a = arena_new(NULL);
  arena_on_free(a, note, &id[0]);
  arena_on_free(a, note, &id[1]);
  ArenaMark m = arena_mark(a);
  arena_on_free(a, note, &id[2]);
  arena_alloc(a, 2u << 20);
  arena_on_free(a, note, &id[3]);
  arena_release(a, m);
  assert_int_equal(norder, 2);
  assert_int_equal(order[0], 3);
  assert_int_equal(order[1], 2);
  arena_free(a);
  assert_int_equal(norder, 4);
  assert_int_equal(order[2], 1);
  assert_int_equal(order[3], 0);
}

static void growth(void **state) {
  (void)state;
  Arena *a = arena_new(NULL);
  VEC(int) v = {0}, w = {0};
  for (int i = 0; i < 5000; i++) {
    vec_push(a, &v, i);
    if (i % 3 == 0) vec_push(a, &w, -i);
  }
  for (int i = 0; i < 5000; i++) assert_int_equal(v.at[i], i);
  for (int i = 0; i < w.n; i++) assert_int_equal(w.at[i], -3 * i);
  char *p = arena_alloc(a, 16), *q = arena_grow(a, p, 16, 64);
  assert_ptr_equal(p, q);   /* the newest piece grows where it is */
  assert_true(all_zero(q, 64));
  arena_alloc(a, 1);
  q[3] = 'x';
  char *r = arena_grow(a, q, 64, 128);
  assert_ptr_not_equal(q, r);
  assert_int_equal(r[3], 'x');
  arena_free(a);
}

static void out_of_memory(void **state) {
  (void)state;
  Diag *d = spinec_diagnostics_new();
  Fail f;
  Arena *volatile a = NULL;
  volatile int reached = 0;
  if (FAIL_ARM(&f, d)) {
    a = arena_new(&f);
    reached = 1;
    arena_alloc(a, SIZE_MAX - 5);
    reached = 2;
  }
  assert_int_equal(reached, 1);
  assert_int_equal(f.status, SPINEC_ERR_MEMORY);
  if (FAIL_ARM(&f, d)) {
    arena_alloc_array(a, SIZE_MAX / 4, 8);
    reached = 2;
  }
  assert_int_equal(reached, 1);
  if (FAIL_ARM(&f, d)) {
    arena_strndup(a, "", SIZE_MAX);
    reached = 2;
  }
  assert_int_equal(reached, 1);
  assert_int_equal(diag_status(d), SPINEC_ERR_MEMORY);
  assert_int_equal(spinec_diagnostics_count(d), 1);
  assert_string_equal(spinec_diagnostics_text(d, 0), "out of memory");
  arena_free(a);
  spinec_diagnostics_free(d);
}

static void texts(void **state) {
  (void)state;
  Arena *a = arena_new(NULL);
  Text t = {.a = a};
  text_add(&t, "");
  assert_string_equal(t.s, "");
  for (int i = 0; i < 1000; i++) text_addf(&t, "%d,", i);
  assert_int_equal(t.n, strlen(t.s));
  assert_int_equal(strncmp(t.s + t.n - 8, "998,999,", 8), 0);
  text_addn(&t, "abcdef", 3);
  assert_string_equal(t.s + t.n - 4, ",abc");
  assert_string_equal(arena_printf(a, "%s-%03d", "x", 7), "x-007");
  assert_string_equal(arena_strndup(a, "hello", 2), "he");
  arena_free(a);
}

static const char *number(Arena *a, double x, int digits) {
  Text t = {.a = a};
  text_add_number(&t, x, digits);
  return t.s;
}

static void numbers(void **state) {
  (void)state;
  Arena *a = arena_new(NULL);
  assert_string_equal(number(a, 0.1f, 9), "0.1");
  assert_string_equal(number(a, 0.1, 17), "0.1");
  assert_string_equal(number(a, -0.0, 9), "-0");
  assert_string_equal(number(a, 16777217.0, 17), "16777217");
  assert_string_equal(number(a, (double)INFINITY, 9), "inf");
  assert_string_equal(number(a, -(double)INFINITY, 17), "-inf");
  assert_string_equal(number(a, -(double)NAN, 9), "nan");
  uint32_t bits = 12345;
  for (int i = 0; i < 20000; i++) {
    bits = bits * 1664525u + 1013904223u;
    float x;
    memcpy(&x, &bits, sizeof x);
    if (isnan(x)) continue;
    float y = strtof(number(a, x, 9), NULL);
    assert_memory_equal(&x, &y, sizeof x);
    double u = (double)x * 1.2345678901234567, w = strtod(number(a, u, 17), NULL);
    assert_memory_equal(&u, &w, sizeof u);
  }
  arena_free(a);
}

static void names(void **state) {
  (void)state;
  Arena *a = arena_new(NULL);
  Names m = {.a = a};
  int x = -1;
  assert_false(names_find(&m, "a", 1, &x));
  for (int i = 0; i < 3000; i++) {
    char *s = arena_printf(a, "name%d", i);
    names_put(&m, s, strlen(s), i);
  }
  names_put(&m, "", 0, 77);
  names_put(&m, "name5", 5, 99);   /* replaces */
  for (int i = 0; i < 3000; i++) {
    char *s = arena_printf(a, "name%d", i);
    assert_true(names_find(&m, s, strlen(s), &x));
    assert_int_equal(x, i == 5 ? 99 : i);
  }
  assert_true(names_find(&m, "", 0, &x));
  assert_int_equal(x, 77);
  assert_true(names_find(&m, "name12345", 6, &x));   /* the length counts */
  assert_int_equal(x, 12);
  assert_false(names_find(&m, "name3000", 8, NULL));
  assert_int_equal(m.n, 3001);
  arena_free(a);
}

static void messages(void **state) {
  (void)state;
  Diag *d = spinec_diagnostics_new();
  assert_int_equal(diag_status(d), SPINEC_OK);
  Where w = {.file = "m.onnx", .node = "conv1", .op = "Conv", .opset = 17};
  assert_int_equal(diag_error(d, SPINEC_ERR_INPUT, &w, "do this", "rank %d", 3), SPINEC_ERR_INPUT);
  assert_int_equal(diag_error(d, SPINEC_ERR_IO, &(Where){.file = "f"}, NULL, "gone"), SPINEC_ERR_IO);
  diag_error(d, SPINEC_ERR_IO, &(Where){.op = "Add"}, NULL, "x");
  diag_error(d, SPINEC_ERR_IO, NULL, NULL, "line\nbreak\x1b");
  diag_error(NULL, SPINEC_ERR_IO, NULL, NULL, "dropped");
  assert_int_equal(diag_errors(d), 4);
  assert_int_equal(diag_status(d), SPINEC_ERR_INPUT);
  assert_string_equal(spinec_diagnostics_text(d, 0), "m.onnx: node 'conv1' (Conv, opset 17): rank 3; hint: do this");
  assert_string_equal(spinec_diagnostics_text(d, 1), "f: gone");
  assert_string_equal(spinec_diagnostics_text(d, 2), "node (Add): x");
  assert_string_equal(spinec_diagnostics_text(d, 3), "line break ");
  assert_null(spinec_diagnostics_text(d, 4));
  assert_null(spinec_diagnostics_text(d, -1));
  for (int i = 0; i < 100; i++) diag_error(d, SPINEC_ERR_IO, NULL, NULL, "%d", i);
  assert_string_equal(spinec_diagnostics_text(d, 103), "99");
  spinec_diagnostics_free(d);
  spinec_diagnostics_free(NULL);
  assert_int_equal(spinec_diagnostics_count(NULL), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(allocations),   cmocka_unit_test(release_gives_back),
      cmocka_unit_test(cleanups),      cmocka_unit_test(growth),
      cmocka_unit_test(out_of_memory), cmocka_unit_test(texts),
      cmocka_unit_test(numbers),       cmocka_unit_test(names),
      cmocka_unit_test(messages),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
