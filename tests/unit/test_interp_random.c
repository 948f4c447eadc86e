/* Random kernels: their text round-trips; what is read back computes the same; splitting the range over threads changes nothing;
 * simplifying changes nothing (the folder's laws, bit for bit); legalising without FMA and mathematics keeps them valid. */
#include "loop_random.h"
#include "passes/passes.h"

enum { KERNELS = 1500 };

static void run(LoopTest *t, Kernel *k, RandomData *r, int threads) {
  random_data(r, 1);
  loop_run(t, k, r->data, r->bytes, threads);
}

static bool apply(LoopTest *t, bool (*pass)(Program *, Ctx *), Kernel *k) {
  spinec_compile_options opt = {0};
  Ctx c = {.arena = t->arena, .diag = t->diag, .target = &t->target, .opt = &opt};
  Program p = {.arena = t->arena, .target = &t->target};
  vec_push(t->arena, &p.kernels, k);
  bool changed = pass(&p, &c);
  const char *wrong = kernel_verify(k, t->arena);
  if (wrong) fail_msg("%s in\n%s", wrong, loop_text(t, k));
  return changed;
}

static void text_and_threads(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= KERNELS; seed++) {
    LoopTest t;
    loop_open(&t);
    Kernel *k = random_kernel(t.arena, seed, 0);
    const char *text = loop_text(&t, k), *wrong = kernel_verify(k, t.arena);
    if (wrong) fail_msg("seed %d: %s in\n%s", (int)seed, wrong, text);
    Kernel *again = loop_kernel(&t, text);
    assert_string_equal(loop_text(&t, again), text);
    static RandomData a, b, c;
    run(&t, k, &a, 1);
    run(&t, again, &b, 1);
    run(&t, k, &c, RANDOM_EXTENT);
    if (!random_same(&a, &b)) fail_msg("seed %d: read back, it differs\n%s", (int)seed, text);
    if (!random_same(&a, &c)) fail_msg("seed %d: on threads, it differs\n%s", (int)seed, text);
    loop_close(&t);
  }
}

static void simplified(void **state) {
  (void)state;
  int changed = 0;
  for (uint64_t seed = 1; seed <= KERNELS; seed++) {
    LoopTest t;
    loop_open(&t);
    Kernel *k = random_kernel(t.arena, seed, 0);
    const char *text = loop_text(&t, k);
    static RandomData a, b;
    run(&t, k, &a, 1);
    changed += apply(&t, pass_simplify, k);
    run(&t, k, &b, 1);
    if (!random_same(&a, &b)) fail_msg("seed %d: simplified, it differs\n%s\n%s", (int)seed, text, loop_text(&t, k));
    /* It comes to an end: what a round uncovers is less than what it did. */
    int rounds = 1;
    while (apply(&t, pass_simplify, k)) assert_true(rounds++ < 6);
    loop_close(&t);
  }
  assert_true(changed > KERNELS / 2);
}

static void legalised(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 300; seed++) {
    LoopTest t;
    loop_open(&t);
    t.target.fma = seed & 1;
    Kernel *k = random_kernel(t.arena, seed, RANDOM_MATH);
    apply(&t, pass_legalise, k);
    const char *text = loop_text(&t, k);
    if (!t.target.fma) assert_null(strstr(text, "fma("));
    assert_false(apply(&t, pass_legalise, k));
    static RandomData a, b;
    run(&t, k, &a, 1);
    apply(&t, pass_simplify, k);
    run(&t, k, &b, 1);
    if (!random_same(&a, &b)) fail_msg("seed %d: simplified, it differs\n%s\n%s", (int)seed, text, loop_text(&t, k));
    loop_close(&t);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(text_and_threads), cmocka_unit_test(simplified), cmocka_unit_test(legalised)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
