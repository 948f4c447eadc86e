/* Element types, shapes and single elements: ir/types.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "ir/base.h"

#define SHAPE(...) shape_of(COUNTOF(((int64_t[]){__VA_ARGS__})), (int64_t[]){__VA_ARGS__})

static const DType all[] = {DT_F32, DT_U8, DT_I8, DT_U16, DT_I16, DT_I32, DT_I64, DT_BOOL, DT_F16, DT_F64, DT_U32, DT_U64, DT_BF16};

static void names_and_sizes(void **state) {
  (void)state;
  for (int i = 0; i < COUNTOF(all); i++) {
    DType t;
    const char *name = dt_name(all[i]);
    assert_true(dt_parse(name, strlen(name), &t));
    assert_int_equal(t, all[i]);
    assert_int_equal(dt_bits(t), 8 * dt_size(t));
    assert_int_equal(dt_is_float(t) + dt_is_int(t) + (t == DT_BOOL), 1);
  }
  DType t;
  assert_false(dt_parse("f3", 2, &t));
  assert_false(dt_parse("none", 4, &t));
  assert_false(dt_parse("", 0, &t));
  assert_int_equal(dt_size(DT_STRING), 0);
  assert_int_equal(spinec_dtype_size((spinec_dtype)-1), 0);
  assert_int_equal(spinec_dtype_size((spinec_dtype)1000), 0);
  assert_string_equal(dt_name((DType)12345), "none");
  assert_false(dt_computable(DT_F16));
  assert_true(dt_computable(DT_BOOL));
  assert_true(dt_is_signed(DT_F32));
  assert_false(dt_is_signed(DT_U32));
}

static void counts(void **state) {
  (void)state;
  Shape s = SHAPE(2, 3, 5), scalar = {0}, huge = SHAPE(INT64_C(1) << 40, INT64_C(1) << 40),
        empty = SHAPE(INT64_C(1) << 40, INT64_C(1) << 40, 0);
  assert_int_equal(shape_count(&s), 30);
  assert_int_equal(shape_count_from(&s, 1), 15);
  assert_int_equal(shape_count_to(&s, 2), 6);
  assert_int_equal(shape_count(&scalar), 1);
  assert_int_equal(shape_count(&huge), INT64_MAX);
  assert_int_equal(shape_count(&empty), 0);
  int64_t strides[MAX_RANK];
  shape_strides(&s, strides);
  assert_int_equal(strides[0], 15);
  assert_int_equal(strides[1], 5);
  assert_int_equal(strides[2], 1);
  shape_strides(&huge, strides);
  assert_int_equal(strides[0], INT64_C(1) << 40);
  spinec_tensor t = {.dtype = SPINEC_F32, .rank = 2, .dims = {4, 5}};
  assert_int_equal(spinec_tensor_count(&t), 20);
  t.rank = 99;
  assert_int_equal(spinec_tensor_count(&t), 0);
}

static void broadcasting(void **state) {
  (void)state;
  Shape a = SHAPE(2, 1, 4), b = SHAPE(3, 1), c = SHAPE(3), empty = SHAPE(0), one = SHAPE(1), out;
  assert_true(shape_broadcast(&a, &b, &out));
  Shape want = SHAPE(2, 3, 4);
  assert_true(shape_equal(&out, &want));
  assert_false(shape_broadcast(&a, &c, &out));
  assert_true(shape_broadcast(&empty, &one, &out));
  assert_int_equal(shape_count(&out), 0);
  Shape n = {.rank = 1, .d = {{8, "N"}}}, n2 = {.rank = 1, .d = {{8, "N"}}}, m = {.rank = 1, .d = {{8, "M"}}}, eight = SHAPE(8);
  char copy[] = "N";
  n2.d[0].sym = copy;
  assert_true(shape_equal(&n, &n2));
  assert_false(shape_equal(&n, &m));
  assert_false(shape_equal(&n, &eight));
  assert_false(shape_is_static(&n));
  assert_true(shape_broadcast(&n, &one, &out));
  assert_true(shape_equal(&out, &n));
  assert_false(shape_broadcast(&n, &m, &out));
  assert_false(shape_broadcast(&n, &eight, &out));
}

static void axes(void **state) {
  (void)state;
  int axis;
  assert_true(axis_normalise(-1, 4, &axis));
  assert_int_equal(axis, 3);
  assert_true(axis_normalise(0, 1, &axis));
  assert_false(axis_normalise(4, 4, &axis));
  assert_false(axis_normalise(-5, 4, &axis));
  assert_false(axis_normalise(INT64_MIN, 4, &axis));
  assert_false(axis_normalise(0, 0, &axis));
}

/* Every half survives; what lies between two neighbours goes to the nearer, half way to the even one. */
static void half_precision(void **state) {
  (void)state;
  uint16_t back;
  for (unsigned h = 0; h < 65536; h++) {
    uint16_t in = (uint16_t)h;
    double x = data_get_f(&in, DT_F16, 0);
    if (isnan(x)) continue;
    data_set_f(&back, DT_F16, 0, x);
    assert_int_equal(back, in);
    if ((h & 0x7fff) >= 0x7bff) continue;
    uint16_t next = (uint16_t)(h + 1);
    double y = data_get_f(&next, DT_F16, 0), middle = (x + y) / 2;
    data_set_f(&back, DT_F16, 0, middle);
    assert_int_equal(back, h % 2 ? next : in);
    data_set_f(&back, DT_F16, 0, middle + (x - middle) * 1e-6);
    assert_int_equal(back, in);
    data_set_f(&back, DT_F16, 0, middle + (y - middle) * 1e-6);
    assert_int_equal(back, next);
  }
  data_set_f(&back, DT_F16, 0, 65519);
  assert_int_equal(back, 0x7bff);
  data_set_f(&back, DT_F16, 0, 65520);
  assert_int_equal(back, 0x7c00);
  data_set_f(&back, DT_F16, 0, (double)NAN);
  assert_true(isnan(data_get_f(&back, DT_F16, 0)));
  data_set_f(&back, DT_F16, 0, 1e-300);
  assert_int_equal(back, 0);
}

static void bfloat(void **state) {
  (void)state;
  uint16_t back;
  for (unsigned h = 0; h < 65536; h++) {
    uint16_t in = (uint16_t)h;
    double x = data_get_f(&in, DT_BF16, 0);
    if (isnan(x)) continue;
    data_set_f(&back, DT_BF16, 0, x);
    assert_int_equal(back, in);
  }
  data_set_f(&back, DT_BF16, 0, 1.00390625);   /* half way between 1 and the next: even */
  assert_int_equal(back, 0x3f80);
  data_set_f(&back, DT_BF16, 0, 1.01171875);
  assert_int_equal(back, 0x3f82);
  data_set_f(&back, DT_BF16, 0, (double)NAN);
  assert_true(isnan(data_get_f(&back, DT_BF16, 0)));
}

static void saturation(void **state) {
  (void)state;
  for (int i = 0; i < COUNTOF(all); i++) {
    DType t = all[i];
    if (!dt_is_int(t)) continue;
    unsigned char x[8];
    data_set_f(x, t, 0, 1e30);
    uint64_t max = dt_is_signed(t) ? (UINT64_C(1) << (dt_bits(t) - 1)) - 1 : UINT64_MAX >> (64 - dt_bits(t));
    assert_true((uint64_t)data_get_i(x, t, 0) == max);
    data_set_f(x, t, 0, -1e30);
    assert_true(data_get_i(x, t, 0) == (dt_is_signed(t) ? -(int64_t)max - 1 : 0));
    data_set_f(x, t, 0, (double)NAN);
    assert_int_equal(data_get_i(x, t, 0), 0);
    data_set_f(x, t, 0, 1.99);
    assert_int_equal(data_get_i(x, t, 0), 1);
    if (dt_is_signed(t)) {
      data_set_f(x, t, 0, -1.99);
      assert_int_equal(data_get_i(x, t, 0), -1);
    }
  }
  uint8_t b;
  data_set_f(&b, DT_BOOL, 0, 0.5);
  assert_int_equal(b, 1);
  data_set_i(&b, DT_BOOL, 0, 256);
  assert_int_equal(b, 1);
  uint64_t big = UINT64_MAX;
  assert_true(data_get_f(&big, DT_U64, 0) == 18446744073709551616.0);
  data_set_i(&b, DT_U8, 0, 257);   /* integers wrap */
  assert_int_equal(b, 1);
}

static void unaligned(void **state) {
  (void)state;
  unsigned char buf[64] = {0};
  for (int i = 0; i < COUNTOF(all); i++) {
    data_set_f(buf + 1, all[i], 3, 1);
    assert_true(data_get_f(buf + 1, all[i], 3) == 1);
    assert_int_equal(data_get_i(buf + 1, all[i], 3), 1);
  }
}

static void lists(void **state) {
  (void)state;
  Arena *a = arena_new(NULL);
  Ints x = ints_copy(a, (int64_t[]){1, 2, 3}, 3), y = ints_fill(a, 7, 3), none = ints_copy(a, NULL, 0);
  assert_int_equal(x.v[2], 3);
  assert_int_equal(y.v[0] + y.v[2], 14);
  assert_false(ints_equal(x, y));
  assert_true(ints_equal(none, (Ints){NULL, 0}));
  assert_true(ints_equal(x, (Ints){(int64_t[]){1, 2, 3}, 3}));
  arena_free(a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names_and_sizes), cmocka_unit_test(counts), cmocka_unit_test(broadcasting), cmocka_unit_test(axes),
      cmocka_unit_test(half_precision),  cmocka_unit_test(bfloat), cmocka_unit_test(saturation),   cmocka_unit_test(unaligned),
      cmocka_unit_test(lists),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
