/* The expansions of exp, log, tanh, erf and sigmoid (passes/loop/math.c) against libm in double: over all exponents and both signs, more
 * densely where the functions bend, with and without FMA; vectors against scalars bit for bit; and pow with the usual exponents. */
#include "loop_test.h"
#include "passes/passes.h"
#include <float.h>

enum { COUNT = 1 << 14 };

typedef struct Function {
  const char *name;
  double (*f)(double);
  double rel, abs;         /* an error within either is fine */
  double lo, hi;           /* where most of the values are */
} Function;

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

static const Function functions[] = {
    {"exp", exp, 1e-7, 0x1p-149, -104, 89},     {"log", log, 1e-7, 0, 0, 4},         {"tanh", tanh, 2e-7, 1e-44, -10, 10},
    {"erf", erf, 2e-7, 1e-44, -4.5, 4.5},           {"sigmoid", sigmoid, 2.5e-7, 2e-38, -90, 90},
};

static void legalise(LoopTest *t, Kernel *k, bool fma) {
  spinec_compile_options opt = {0};
  Ctx c = {.arena = t->arena, .diag = t->diag, .target = &t->target, .opt = &opt};
  Program p = {.arena = t->arena, .target = &t->target};
  t->target.fma = fma;
  vec_push(t->arena, &p.kernels, k);
  assert_true(pass_legalise(&p, &c));
  const char *wrong = kernel_verify(k, t->arena);
  if (wrong) fail_msg("%s in\n%s", wrong, loop_text(t, k));
}

static Kernel *function_kernel(LoopTest *t, const char *name, int lanes, bool fma) {
  char *load = lanes == 1 ? "load" : arena_printf(t->arena, "load.%d", lanes);
  Kernel *k = loop_kernel(
      t, arena_printf(t->arena, "kernel k \"\" (x: f32 in, y: f32 out) range r in 0..%d { let j: idx = r * %d store y[j] = %s(%s x[j]) }",
                      COUNT / lanes, lanes, name, load));
  legalise(t, k, fma);
  return k;
}

static float from_bits(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}

/* Round 0: special values and their neighbours; odd rounds: all floats; even rounds: the interesting interval. */
static void operands(const Function *f, int round, uint64_t *seed, float *x) {
  static const float special[] = {0,     1,         0.5f,       2,          INFINITY,   NAN,         FLT_MAX, FLT_MIN, 0x1p-149f, 88,
                                  88.5f, 88.72283f, 88.72284f,  87.3f,      103.9f,     104,         105,     9,       9.1f,      3.9f,
                                  3.95f, 4,         0.6931472f, 0.3465736f, 1.4142135f, 0.70710678f, 1e30f,   1e-30f,  10,        100};
  for (int i = 0; i < COUNT; i++) {
    uint64_t r = test_random(seed);
    if (round == 0) {
      float s = special[r % COUNTOF(special)];
      for (int n = (int)(r >> 32 & 3); n > 0; n--) s = nextafterf(s, r >> 40 & 1 ? INFINITY : -INFINITY);
      x[i] = r >> 41 & 1 ? -s : s;
    } else if (round & 1) {
      x[i] = from_bits((uint32_t)(r >> 20));
    } else {
      x[i] = (float)(f->lo + (f->hi - f->lo) * (double)(r >> 11) * 0x1p-53);
    }
  }
}

typedef struct Worst { double rel, abs; } Worst;

static void compare(const Function *f, bool fma, const float *x, const float *y, Worst *w) {
  for (int i = 0; i < COUNT; i++) {
    double want = f->f((double)x[i]), err = fabs((double)y[i] - want);
    if (isnan(want) != (isnan(y[i]) != 0)) fail_msg("%s(%a) is %a, not %a (fma %d)", f->name, x[i], y[i], want, fma);
    if (isnan(want)) continue;
    float rounded = (float)want;
    if (isinf(rounded) || isinf(y[i])) {
      /* The largest finite value and infinity are neighbours. */
      if (y[i] != rounded && !(fabs(want) > (double)FLT_MAX * (1 - 3e-7) && fabsf(y[i]) >= FLT_MAX * (1 - 3e-7f)))
        fail_msg("%s(%a) is %a, not %a (fma %d)", f->name, x[i], y[i], want, fma);
      continue;
    }
    if (err > f->abs && err > f->rel * fabs(want))
      fail_msg("%s(%.9g) is %.9g, not %.12g: error %.3g (fma %d)", f->name, x[i], y[i], want, err, fma);
    w->abs = fmax(w->abs, err);
    if (fabs(want) > (double)FLT_MIN) w->rel = fmax(w->rel, err / fabs(want));
    /* Zeros and limits are exact. */
    if (isinf(x[i]) || want == 0) assert_true((double)y[i] == want);
  }
}

static void accuracy(void **state) {
  (void)state;
  for (int i = 0; i < COUNTOF(functions); i++) {
    const Function *f = &functions[i];
    for (int fma = 0; fma < 2; fma++) {
      LoopTest t;
      loop_open(&t);
      static float x[COUNT], y[COUNT], z[COUNT];
      Kernel *wide = function_kernel(&t, f->name, 16, fma), *narrow = function_kernel(&t, f->name, 1, fma);
      Worst w = {0, 0};
      uint64_t seed = 11 + (uint64_t)i;
      for (int round = 0; round < 40; round++) {
        operands(f, round, &seed, x);
        loop_run(&t, wide, (void *[]){x, y}, (int64_t[]){sizeof x, sizeof y}, 1);
        compare(f, fma, x, y, &w);
        if (round > 2) continue;
        loop_run(&t, narrow, (void *[]){x, z}, (int64_t[]){sizeof x, sizeof z}, 1);
        for (int j = 0; j < COUNT; j++) {
          if (memcmp(&y[j], &z[j], 4) && !(isnan(y[j]) && isnan(z[j]))) fail_msg("%s(%a): vector %a, scalar %a", f->name, x[j], y[j], z[j]);
        }
      }
      print_message("%-8s %s fma: relative error %.2e, absolute %.2e\n", f->name, fma ? "with" : "no  ", w.rel, w.abs);
      loop_close(&t);
    }
  }
}

/* What stays: other functions, other types. */
static void leaves_the_rest(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  t.target.fma = true;
  const char *text = "kernel k \"\" (x: f32 in, d: f64 in, y: f32 out, e: f64 out) range r in 0..4 {\n"
                     "  store y[r] = fma(sin(load x[r]), load x[r], pow(load x[r], 2.5))\n"
                     "  store e[r] = exp(load d[r])\n"
                     "}\n";
  Kernel *k = loop_kernel(&t, text);
  Program p = {.arena = t.arena, .target = &t.target};
  spinec_compile_options opt = {0};
  Ctx c = {.arena = t.arena, .diag = t.diag, .target = &t.target, .opt = &opt};
  vec_push(t.arena, &p.kernels, k);
  assert_false(pass_legalise(&p, &c));
  assert_string_equal(loop_text(&t, k), text);
  loop_close(&t);
}

static void powers(void **state) {
  (void)state;
  static const char *const exponent[] = {"0.0", "1.0", "-1.0", "2.0", "3.0", "0.5"};
  float x[] = {0, -0.0f, 1, -1, 2, -2.5f, 0.1f, INFINITY, -INFINITY, NAN, 1e20f, 1e-20f, 0x1p-149f, 7, 100, -1e-3f}, y[16];
  for (int i = 0; i < COUNTOF(exponent); i++) {
    LoopTest t;
    loop_open(&t);
    Kernel *k = loop_kernel(
        &t,
        arena_printf(t.arena, "kernel k \"\" (x: f32 in, y: f32 out) range r in 0..1 { store y[0] = pow(load.16 x[0], %s) }", exponent[i]));
    legalise(&t, k, true);
    assert_null(strstr(loop_text(&t, k), "pow"));
    loop_run(&t, k, (void *[]){x, y}, (int64_t[]){sizeof x, sizeof y}, 1);
    for (int j = 0; j < COUNTOF(x); j++) {
      float want = (float)pow((double)x[j], strtod(exponent[i], NULL));
      if (isnan(want) ? !isnan(y[j]) : isinf(want) || want == 0 ? memcmp(&y[j], &want, 4) != 0 : fabsf(y[j] - want) > 2e-7f * fabsf(want))
        fail_msg("pow(%g, %s) is %g, not %g", x[j], exponent[i], y[j], want);
    }
    loop_close(&t);
  }
}

/* A while loop's condition is expanded into a register that each turn sets again. */
static void while_condition(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  Kernel *k = loop_kernel(&t, "kernel k \"\" (x: f32 in, y: f32 out) range r in 0..1 { reg a: f32 = load x[0]\n while exp(a) < 100.0 { a = "
                              "a + 1.0 }\n store y[0] = a }");
  legalise(&t, k, true);
  float x[1] = {0.5f}, y[1];
  loop_run(&t, k, (void *[]){x, y}, (int64_t[]){sizeof x, sizeof y}, 1);
  assert_true(y[0] == 5.5f);   /* exp(4.5) is 90.0, exp(5.5) is 244.7 */
  loop_close(&t);
}

static void sigmoid_f64(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  Kernel *k = loop_kernel(&t, "kernel k \"\" (x: f64 in, y: f64 out) range r in 0..6 { store y[r] = sigmoid(load x[r]) }");
  legalise(&t, k, true);
  double x[6] = {0, -1000, 1000, 2.5, -INFINITY, NAN}, y[6];
  loop_run(&t, k, (void *[]){x, y}, (int64_t[]){sizeof x, sizeof y}, 1);
  assert_true(y[0] == 0.5 && y[1] == 0 && y[2] == 1 && fabs(y[3] - 0.92414181997875655) < 1e-15 && y[4] == 0 && isnan(y[5]));
  loop_close(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(accuracy),        cmocka_unit_test(leaves_the_rest), cmocka_unit_test(powers),
      cmocka_unit_test(while_condition), cmocka_unit_test(sigmoid_f64),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
