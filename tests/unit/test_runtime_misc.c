/* Element sizes, random numbers, workspace, processor detection, clock and statistics. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/runtime.h"

static void shapes(void **state) {
  (void)state;
  int64_t n;
  size_t bytes;
  assert_true(rt_shape_bytes(SPINEC_F32, 2, (int64_t[]){3, 5}, &n, &bytes));
  assert_int_equal(n, 15);
  assert_int_equal(bytes, 60);
  assert_true(rt_shape_bytes(SPINEC_F64, 0, NULL, &n, &bytes));
  assert_int_equal(n, 1);
  assert_true(rt_shape_bytes(SPINEC_U8, 2, (int64_t[]){7, 0}, &n, &bytes));
  assert_int_equal(n, 0);
  assert_int_equal(bytes, 0);
  assert_true(rt_shape_bytes(SPINEC_U8, 1, (int64_t[]){PTRDIFF_MAX}, &n, &bytes));
  assert_false(rt_shape_bytes(SPINEC_U16, 1, (int64_t[]){PTRDIFF_MAX / 2 + 1}, &n, &bytes));
  assert_false(rt_shape_bytes(SPINEC_F32, 2, (int64_t[]){INT64_C(1) << 40, INT64_C(1) << 40}, &n, &bytes));
  assert_false(rt_shape_bytes(SPINEC_F32, 1, (int64_t[]){-1}, &n, &bytes));
  assert_false(rt_shape_bytes(SPINEC_F32, SPINEC_MAX_RANK + 1, (int64_t[SPINEC_MAX_RANK + 1]){0}, &n, &bytes));
  assert_false(rt_shape_bytes(SPINEC_F32, -1, NULL, &n, &bytes));
  assert_false(rt_shape_bytes(SPINEC_STRING, 0, NULL, &n, &bytes));
  assert_false(rt_shape_bytes((spinec_dtype)99, 0, NULL, &n, &bytes));
}

static void splitmix(void **state) {
  (void)state;
  /* The generator's published first outputs from state 0. */
  Rng r = {0};
  assert_true(rng_next(&r) == UINT64_C(0xe220a8397b1dcdaf));
  assert_true(rng_next(&r) == UINT64_C(0x6e789e6aa1b965f4));
  assert_true(rng_next(&r) == UINT64_C(0x06c45d188009454f));
  Rng a = rng_new(1), b = rng_new(1), c = rng_new(2);
  assert_true(rng_next(&a) == rng_next(&b));
  assert_true(rng_next(&a) != rng_next(&c));
}

static void ranges(void **state) {
  (void)state;
  Rng r = rng_new(3);
  int seen[7] = {0};
  for (int i = 0; i < 7000; i++) seen[rng_below(&r, 7)]++;
  for (int i = 0; i < 7; i++) assert_true(seen[i] > 800 && seen[i] < 1200);
  for (int i = 0; i < 100; i++) {
    int64_t big = rng_below(&r, INT64_MAX);
    double u = rng_uniform(&r);
    assert_true(big >= 0 && big < INT64_MAX);
    assert_true(u >= 0 && u < 1);
    assert_int_equal(rng_below(&r, 1), 0);
  }
}

static void normal(void **state) {
  (void)state;
  enum { N = 100000 };
  double sum = 0, squares = 0, largest = 0;
  Rng r = rng_new(4);
  for (int i = 0; i < N; i++) {
    double v = rng_normal(&r);
    sum += v;
    squares += v * v;
    largest = fmax(largest, fabs(v));
  }
  assert_true(fabs(sum / N) < 0.02);
  assert_true(fabs(squares / N - 1) < 0.02);
  assert_true(largest < 3.4642 && largest > 2.5);
}

static double half_value(uint16_t h) {
  int e = h >> 10 & 31, m = h & 1023;
  double v = e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
  return h >> 15 ? -v : v;
}

static double bfloat_value(uint16_t h) {
  uint32_t u = (uint32_t)h << 16;
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

static void fills_every_type(void **state) {
  (void)state;
  enum { N = 4096 };
  static double wide[N];
  static float single[N];
  static uint16_t half[N], brain[N];
  spinec_tensor t = {SPINEC_F64, 1, {N}, wide};
  random_fill(&t, 9);
  t = (spinec_tensor){SPINEC_F32, 1, {N}, single};
  random_fill(&t, 9);
  t = (spinec_tensor){SPINEC_F16, 1, {N}, half};
  random_fill(&t, 9);
  t = (spinec_tensor){SPINEC_BF16, 1, {N}, brain};
  random_fill(&t, 9);
  for (int i = 0; i < N; i++) {  /* the same numbers, rounded */
    assert_true(single[i] == (float)wide[i]);
    assert_true(fabs(half_value(half[i]) - wide[i]) <= fmax(fabs(wide[i]) * 0x1p-11, 0x1p-25));
    assert_true(fabs(bfloat_value(brain[i]) - wide[i]) <= fabs(wide[i]) * 0x1.01p-8);
  }
  static const struct { spinec_dtype type; int64_t low, high; } ints[] = {
    {SPINEC_BOOL, 0, 1}, {SPINEC_U8, 0, 255},  {SPINEC_I8, -128, 127}, {SPINEC_U16, 0, 15}, {SPINEC_I16, -8, 7},
    {SPINEC_U32, 0, 15}, {SPINEC_I32, -8, 7},  {SPINEC_U64, 0, 15},    {SPINEC_I64, -8, 7},
  };
  for (size_t k = 0; k < sizeof ints / sizeof *ints; k++) {
    static int64_t data[N];
    int64_t low = INT64_MAX, high = INT64_MIN;
    t = (spinec_tensor){ints[k].type, 1, {N}, data};
    random_fill(&t, 5);
    for (int i = 0; i < N; i++) {
      int64_t v = 0;
      switch (ints[k].type) {
      case SPINEC_BOOL: case SPINEC_U8: v = ((uint8_t *)data)[i]; break;
      case SPINEC_I8: v = ((int8_t *)data)[i]; break;
      case SPINEC_U16: v = ((uint16_t *)data)[i]; break;
      case SPINEC_I16: v = ((int16_t *)data)[i]; break;
      case SPINEC_U32: v = ((uint32_t *)data)[i]; break;
      case SPINEC_I32: v = ((int32_t *)data)[i]; break;
      case SPINEC_U64: case SPINEC_I64: v = data[i]; break;
      case SPINEC_UNDEFINED: case SPINEC_F32: case SPINEC_STRING: case SPINEC_F16: case SPINEC_F64: case SPINEC_BF16: fail();
      }
      low = v < low ? v : low;
      high = v > high ? v : high;
    }
    assert_int_equal(low, ints[k].low);
    assert_int_equal(high, ints[k].high);
  }
}

static void workspace(void **state) {
  (void)state;
  static const size_t sizes[] = {0, 1, 64, 1000, 1 << 20, 5 << 20};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    unsigned char *p = workspace_alloc(sizes[i]);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % WORKSPACE_ALIGN, 0);
    if (sizes[i] >= 4 << 20) assert_int_equal((uintptr_t)p % (2 << 20), 0);
    memset(p, 1, sizes[i]);
    workspace_free(p);
  }
  workspace_free(NULL);
  assert_null(workspace_alloc(SIZE_MAX));
  assert_null(workspace_alloc(PTRDIFF_MAX));
}

/* The kernel's own list of x86 features, where there is one. */
static bool kernel_lists(const char *flag) {
  FILE *f = fopen("/proc/cpuinfo", "r");
  char *line = NULL;
  size_t size = 0;
  bool found = false;
  while (f && !found && getline(&line, &size, f) > 0)
    if (!strncmp(line, "flags", 5))
      for (char *s = strtok(line, " \t\n"); s && !found; s = strtok(NULL, " \t\n")) found = !strcmp(s, flag);
  free(line);
  if (f) fclose(f);
  return found;
}

static void processor(void **state) {
  (void)state;
  CpuInfo c = cpu_detect();
  assert_true(c.cores >= 1);
  assert_int_equal(c.cores, cpu_cores());
  assert_true(c.l1d_bytes >= 0 && c.l2_bytes >= 0 && c.l3_bytes >= 0);
  if (c.l1d_bytes && c.l2_bytes) assert_true(c.l1d_bytes < c.l2_bytes);
#if defined(__x86_64__)
  if (!kernel_lists("fpu")) skip();
  assert_int_equal(c.sse42, kernel_lists("sse4_2"));
  assert_int_equal(c.popcnt, kernel_lists("popcnt"));
  assert_int_equal(c.avx, kernel_lists("avx"));
  assert_int_equal(c.avx2, kernel_lists("avx2"));
  assert_int_equal(c.fma, kernel_lists("fma"));
  assert_int_equal(c.f16c, kernel_lists("f16c"));
  assert_int_equal(c.bmi1, kernel_lists("bmi1"));
  assert_int_equal(c.bmi2, kernel_lists("bmi2"));
  assert_int_equal(c.lzcnt, kernel_lists("abm"));
  assert_int_equal(c.movbe, kernel_lists("movbe"));
  assert_int_equal(c.avx512f, kernel_lists("avx512f"));
  assert_int_equal(c.avx512bw, kernel_lists("avx512bw"));
  assert_int_equal(c.avx512cd, kernel_lists("avx512cd"));
  assert_int_equal(c.avx512dq, kernel_lists("avx512dq"));
  assert_int_equal(c.avx512vl, kernel_lists("avx512vl"));
  assert_int_equal(c.avx512vnni, kernel_lists("avx512_vnni"));
  assert_false(c.neon);
#elif defined(__aarch64__)
  assert_true(c.neon);
  assert_false(c.avx2);
#endif
}

static void cores_follow_the_affinity(void **state) {
  (void)state;
  cpu_set_t all, one;
  if (sched_getaffinity(0, sizeof all, &all)) skip();
  int first = 0;
  while (!CPU_ISSET(first, &all)) first++;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  if (sched_setaffinity(0, sizeof one, &one)) skip();
  int cores = cpu_cores();
  sched_setaffinity(0, sizeof all, &all);
  assert_int_equal(cores, 1);
}

static void statistics(void **state) {
  (void)state;
  double odd[] = {3, 1, 2}, even[] = {4, 1, 3, 2}, one[] = {5}, hundred[100];
  for (int i = 0; i < 100; i++) hundred[i] = (i * 37) % 100 + 1;
  TimeStats s = time_stats(odd, 3);
  assert_true(s.min == 1 && s.median == 2 && s.p95 == 3 && s.mean == 2);
  s = time_stats(even, 4);
  assert_true(s.min == 1 && s.median == 2.5 && s.p95 == 4 && s.mean == 2.5);
  s = time_stats(one, 1);
  assert_true(s.min == 5 && s.median == 5 && s.p95 == 5 && s.mean == 5);
  s = time_stats(hundred, 100);
  assert_true(s.min == 1 && s.median == 50.5 && s.p95 == 95 && s.mean == 50.5);
  s = time_stats(NULL, 0);
  assert_true(s.min == 0 && s.median == 0 && s.p95 == 0 && s.mean == 0);
  int64_t before = time_ns();
  for (int i = 0; i < 1000; i++) {
    int64_t now = time_ns();
    assert_true(now >= before);
    before = now;
  }
}

static void messages_are_cut(void **state) {
  (void)state;
  char err[RT_ERR_MAX], name[1000];
  memset(name, 'n', sizeof name - 1);
  name[sizeof name - 1] = 0;
  assert_int_equal(rt_fail(err, SPINEC_ERR_IO, "%s: x", name), SPINEC_ERR_IO);
  assert_int_equal(strlen(err), RT_ERR_MAX - 1);
  assert_int_equal(rt_fail(NULL, SPINEC_ERR_INPUT, "%s", name), SPINEC_ERR_INPUT);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(shapes),    cmocka_unit_test(splitmix),         cmocka_unit_test(ranges),
    cmocka_unit_test(normal),    cmocka_unit_test(fills_every_type), cmocka_unit_test(workspace),
    cmocka_unit_test(processor), cmocka_unit_test(cores_follow_the_affinity), cmocka_unit_test(statistics),
    cmocka_unit_test(messages_are_cut),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
