/* Every operator in every type and number of lanes, loads and stores of every shape, every statement: the JIT's machine code against the
 * interpreter, bit for bit, on one thread and on several. */
#include "support.h"

static const int all_lanes[] = {1, 2, 4, 8, 16, 32, 64};

static void compare(Bench *t, int threads) {
  void **want = bench_outputs(t), **got = bench_outputs(t);
  bench_run(t, interp_open(t->p, 1, t->d), want, "interpreter");
  bench_run(t, llvm_open(t->p, threads, t->d), got, "JIT");
  bench_same(t, want, got, (Slack){false, false}, "JIT");
}

static void check(void (*suite)(Bench *t, const int *lanes, int nlanes)) {
  Bench t;
  bench_open(&t, target_find("native"));
  suite(&t, all_lanes, COUNTOF(all_lanes));
  bench_plan(&t);
  compare(&t, 1);
  bench_close(&t);
}

static void operators(void **state) { (void)state; check(suite_operators); }
static void conversions(void **state) { (void)state; check(suite_conversions); }
static void lanes(void **state) { (void)state; check(suite_lanes); }
static void memory(void **state) { (void)state; check(suite_memory); }

static void pointer_sized(void **state) {
  (void)state;
  Bench t;
  bench_open(&t, target_find("native"));
  suite_pointer_sized(&t);
  bench_plan(&t);
  compare(&t, 2);
  bench_close(&t);
}

static void statements(void **state) {
  (void)state;
  Bench t;
  bench_open(&t, target_find("native"));
  suite_statements(&t);
  bench_plan(&t);
  for (int threads = 1; threads <= 4; threads++) compare(&t, threads);
  bench_close(&t);
}

/* Narrower instruction sets than this machine's, of which it must have all: vectors are split and masks emulated. */
static void other_targets(void **state) {
  (void)state;
  static const char *const names[] = {"generic", "x86-64-v2", "x86-64-v3"};
  static const int few[] = {1, 4, 16};
  for (int i = 0; i < COUNTOF(names); i++) {
    Bench t;
    bench_open(&t, target_find(names[i]));
    if (i == 0 || (target_find("native")->arch == ARCH_X86_64 && target_find("native")->lanes >= t.p->target->lanes)) {
      suite_memory(&t, few, COUNTOF(few));
      bench_plan(&t);
      compare(&t, 1);
    }
    bench_close(&t);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(operators),     cmocka_unit_test(conversions), cmocka_unit_test(lanes),         cmocka_unit_test(memory),
    cmocka_unit_test(pointer_sized), cmocka_unit_test(statements),  cmocka_unit_test(other_targets),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
