/* Elementwise operators against C, for odd sizes, special values, every element type, and broadcasting in all directions. */
#include "op_test.h"

#include <limits.h>

#define N 1031   /* odd, and more than a few vectors */

/* ---- one operand, f32 and f64 ---- */

typedef struct Unary { const char *call; double (*fn)(double x); double lo, hi, tol; bool special; } Unary;

static double r_relu(double x) { return x > 0 || isnan(x) ? x : 0; }
static double r_sign(double x) { return isnan(x) ? x : (x > 0) - (x < 0); }
static double r_recip(double x) { return 1 / x; }
static double r_sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double r_leaky(double x) { return x < 0 ? 0.25 * x : x; }
static double r_elu(double x) { return x > 0 ? x : 1.5 * expm1(x); }
static double r_selu(double x) { return 1.0507 * (x > 0 ? x : 1.67326 * expm1(x)); }
static double r_celu(double x) { return x > 0 ? x : 2 * expm1(x / 2); }
static double r_hsig(double x) { return isnan(x) ? x : fmax(0, fmin(1, 0.25 * x + 0.375)); }
static double r_hswish(double x) { return isnan(x) ? x : x * fmax(0, fmin(1, x / 6 + 0.5)); }
static double r_softplus(double x) { return x > 30 ? x : log1p(exp(x)); }
static double r_softsign(double x) { return x / (1 + fabs(x)); }
static double r_thresholded(double x) { return x > 0.75 ? x : 0; }
static double r_shrink(double x) { return x < -0.5 ? x + 0.125 : x > 0.5 ? x - 0.125 : 0; }
static double r_gelu(double x) { return 0.5 * x * (1 + erf(x * 0.70710678118654752)); }
static double r_gelu_tanh(double x) { return 0.5 * x * (1 + tanh(0.79788456080286536 * (x + 0.044715 * x * x * x))); }
static double r_mish(double x) { return x * tanh(r_softplus(x)); }
static double r_swish(double x) { return x / (1 + exp(-1.5 * x)); }
static double r_clip(double x) { return x < -0.5 ? -0.5 : x > 1.25 ? 1.25 : x; }
static double r_clip_low(double x) { return x < -0.5 ? -0.5 : x; }
static double r_neg(double x) { return -x; }

static const Unary unaries[] = {
    {"Neg(%x)", r_neg, -2, 2, 0, true}, {"Abs(%x)", fabs, -2, 2, 0, true}, {"Sign(%x)", r_sign, -2, 2, 0, true},
    {"Floor(%x)", floor, -9, 9, 0, true}, {"Ceil(%x)", ceil, -9, 9, 0, true}, {"Round(%x)", nearbyint, -9, 9, 0, true},
    {"Sqrt(%x)", sqrt, -1, 9, 1e-6, true}, {"Reciprocal(%x)", r_recip, 0.25, 9, 1e-6, true}, {"Exp(%x)", exp, -9, 9, 1e-6, true},
    {"Log(%x)", log, 0.01, 9, 1e-6, true}, {"Sin(%x)", sin, -9, 9, 1e-6, false}, {"Cos(%x)", cos, -9, 9, 1e-6, false},
    {"Tan(%x)", tan, -1, 1, 1e-6, false}, {"Asin(%x)", asin, -1, 1, 1e-6, false}, {"Acos(%x)", acos, -1, 1, 1e-6, false},
    {"Atan(%x)", atan, -9, 9, 1e-6, true}, {"Sinh(%x)", sinh, -4, 4, 1e-6, true}, {"Cosh(%x)", cosh, -4, 4, 1e-6, true},
    {"Tanh(%x)", tanh, -9, 9, 1e-6, true}, {"Asinh(%x)", asinh, -9, 9, 1e-6, true}, {"Acosh(%x)", acosh, 1, 9, 1e-6, false},
    {"Atanh(%x)", atanh, -0.9, 0.9, 1e-6, false}, {"Erf(%x)", erf, -4, 4, 1e-6, true}, {"Sigmoid(%x)", r_sigmoid, -9, 9, 1e-6, true},
    {"Relu(%x)", r_relu, -2, 2, 0, true}, {"LeakyRelu(%x) {alpha=0.25, beta=0}", r_leaky, -2, 2, 1e-6, true},
    {"Elu(%x) {alpha=1.5, beta=0}", r_elu, -9, 9, 1e-6, true}, {"Selu(%x) {alpha=1.67326, beta=1.0507}", r_selu, -9, 9, 2e-6, true},
    {"Celu(%x) {alpha=2, beta=0}", r_celu, -9, 9, 1e-6, true}, {"HardSigmoid(%x) {alpha=0.25, beta=0.375}", r_hsig, -9, 9, 1e-6, true},
    {"HardSwish(%x)", r_hswish, -9, 9, 2e-6, false}, {"Softplus(%x)", r_softplus, -20, 100, 1e-6, true},
    {"Softsign(%x)", r_softsign, -9, 9, 1e-6, false}, {"ThresholdedRelu(%x) {alpha=0.75, beta=0}", r_thresholded, -2, 2, 0, true},
    {"Shrink(%x) {alpha=0.5, beta=0.125}", r_shrink, -2, 2, 1e-6, true}, {"Gelu(%x) {alpha=0, beta=0}", r_gelu, -9, 9, 2e-6, false},
    {"Gelu(%x) {alpha=1, beta=0}", r_gelu_tanh, -9, 9, 2e-6, false}, {"Mish(%x)", r_mish, -20, 60, 2e-6, false},
    {"Swish(%x) {alpha=1.5, beta=0}", r_swish, -9, 9, 2e-6, false}, {"Clip(%x) {lo=-0.5, hi=1.25}", r_clip, -2, 2, 0, true},
    {"Clip(%x) {lo=-0.5, hi=inf}", r_clip_low, -2, 2, 0, true},
};

static const double specials[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0, 1e30, -1e30, 1e-30, 0.5, -0.5, 1.5, 2.5, -2.5, 1, -1};

static void unary_f32(void **state) {
  (void)state;
  static float x[N], want[N];
  for (int k = 0; k < COUNTOF(unaries); k++) {
    const Unary *u = &unaries[k];
    op_fill_f32(x, N, 1 + (uint32_t)k);
    for (int i = 0; i < N; i++) {
      x[i] = (float)(u->lo + (x[i] + 2) / 4 * (u->hi - u->lo));
      if (u->special && i % 64 < COUNTOF(specials)) x[i] = (float)specials[i % 64];
      want[i] = (float)u->fn(x[i]);
    }
    op_check(op_text("graph \"t\" { input %%x: f32[%d] %%y = %s output %%y }", N, u->call), (const void *[]){x}, (const void *[]){want},
             u->tol);
  }
}

static void unary_f64(void **state) {
  (void)state;
  static double x[77], want[77];
  static float f[77];
  for (int k = 0; k < COUNTOF(unaries); k++) {
    const Unary *u = &unaries[k];
    op_fill_f32(f, 77, 9 + (uint32_t)k);
    for (int i = 0; i < 77; i++) {
      x[i] = u->special && i < COUNTOF(specials) ? specials[i] : u->lo + (f[i] + 2) / 4 * (u->hi - u->lo);
      want[i] = u->fn(x[i]);
    }
    op_check(op_text("graph \"t\" { input %%x: f64[7,11] %%y = %s output %%y }", u->call), (const void *[]){x}, (const void *[]){want},
             u->tol > 0 ? 1e-12 : 0);
  }
}

/* ---- integers of every type ---- */

typedef struct IntType { const char *name; DType dt; int64_t lo, hi; } IntType;
static const IntType int_types[] = {
    {"i8", DT_I8, INT8_MIN, INT8_MAX},    {"u8", DT_U8, 0, UINT8_MAX},    {"i16", DT_I16, INT16_MIN, INT16_MAX},
    {"u16", DT_U16, 0, UINT16_MAX},       {"i32", DT_I32, INT32_MIN, INT32_MAX}, {"u32", DT_U32, 0, UINT32_MAX},
    {"i64", DT_I64, INT64_MIN, INT64_MAX}, {"u64", DT_U64, 0, INT64_MAX},   /* u64: values that fit an int64_t */
};

static int64_t wrap(const IntType *t, int64_t x) {
  int64_t y;
  data_set_i(&y, t->dt, 0, x);
  return data_get_i(&y, t->dt, 0);
}

static int64_t i_neg(const IntType *t, int64_t x, int64_t y) { (void)y; return wrap(t, (int64_t)(0 - (uint64_t)x)); }
static int64_t i_abs(const IntType *t, int64_t x, int64_t y) { return x < 0 ? i_neg(t, x, y) : x; }
static int64_t i_sign(const IntType *t, int64_t x, int64_t y) { (void)t, (void)y; return (x > 0) - (x < 0); }
static int64_t i_relu(const IntType *t, int64_t x, int64_t y) { (void)t, (void)y; return x > 0 ? x : 0; }
static int64_t i_not(const IntType *t, int64_t x, int64_t y) { (void)y; return wrap(t, ~x); }
static int64_t i_clip(const IntType *t, int64_t x, int64_t y) { (void)t, (void)y; return x < 3 ? 3 : x > 100 ? 100 : x; }
static int64_t i_add(const IntType *t, int64_t x, int64_t y) { return wrap(t, (int64_t)((uint64_t)x + (uint64_t)y)); }
static int64_t i_sub(const IntType *t, int64_t x, int64_t y) { return wrap(t, (int64_t)((uint64_t)x - (uint64_t)y)); }
static int64_t i_mul(const IntType *t, int64_t x, int64_t y) { return wrap(t, (int64_t)((uint64_t)x * (uint64_t)y)); }
static int64_t i_div(const IntType *t, int64_t x, int64_t y) { return y == 0 ? 0 : y == -1 ? i_neg(t, x, y) : x / y; }
static int64_t i_fmod(const IntType *t, int64_t x, int64_t y) { (void)t; return y == 0 || y == -1 ? 0 : x % y; }
static int64_t i_mod(const IntType *t, int64_t x, int64_t y) {
  int64_t r = i_fmod(t, x, y);
  return r && (r < 0) != (y < 0) ? r + y : r;
}
static int64_t i_min(const IntType *t, int64_t x, int64_t y) { (void)t; return x < y ? x : y; }
static int64_t i_max(const IntType *t, int64_t x, int64_t y) { (void)t; return x > y ? x : y; }
static int64_t i_and(const IntType *t, int64_t x, int64_t y) { (void)t; return x & y; }
static int64_t i_or(const IntType *t, int64_t x, int64_t y) { return wrap(t, x | y); }
static int64_t i_xor(const IntType *t, int64_t x, int64_t y) { return wrap(t, x ^ y); }
static int64_t i_shl(const IntType *t, int64_t x, int64_t y) {
  return y < 0 || y >= dt_bits(t->dt) ? 0 : wrap(t, (int64_t)((uint64_t)x << y));
}
static int64_t i_shr(const IntType *t, int64_t x, int64_t y) { return y < 0 || y >= dt_bits(t->dt) ? 0 : x >> y; }
static int64_t i_pow(const IntType *t, int64_t x, int64_t y) {
  if (y < 0) return x == 1 ? 1 : x == -1 ? (y % 2 ? -1 : 1) : 0;
  uint64_t p = 1, b = (uint64_t)x;
  for (; y; y >>= 1, b *= b)
    if (y & 1) p *= b;
  return wrap(t, (int64_t)p);
}

typedef struct IntOp { const char *call; int64_t (*fn)(const IntType *t, int64_t x, int64_t y); int nin; } IntOp;
static const IntOp int_ops[] = {
    {"Neg(%x)", i_neg, 1}, {"Abs(%x)", i_abs, 1}, {"Sign(%x)", i_sign, 1}, {"Relu(%x)", i_relu, 1}, {"BitwiseNot(%x)", i_not, 1},
    {"Clip(%x) {lo=3, hi=100}", i_clip, 1}, {"Add(%x, %y)", i_add, 2}, {"Sub(%x, %y)", i_sub, 2}, {"Mul(%x, %y)", i_mul, 2},
    {"Div(%x, %y)", i_div, 2}, {"Mod(%x, %y) {alpha=0, beta=0}", i_mod, 2}, {"Mod(%x, %y) {alpha=1, beta=0}", i_fmod, 2},
    {"Min(%x, %y)", i_min, 2}, {"Max(%x, %y)", i_max, 2}, {"BitwiseAnd(%x, %y)", i_and, 2}, {"BitwiseOr(%x, %y)", i_or, 2},
    {"BitwiseXor(%x, %y)", i_xor, 2}, {"BitShift(%x, %y) {alpha=1, beta=0}", i_shl, 2}, {"BitShift(%x, %y) {alpha=0, beta=0}", i_shr, 2},
    {"Pow(%x, %y)", i_pow, 2},
};

/* Values that matter to integers: near 0, near the ends of the type, shift counts. */
static int64_t int_sample(const IntType *t, int i) {
  static const int64_t small[] = {0, 1, 2, 3, 5, 7, 8, 12, 31, 63, 64, 100};
  int64_t s = small[i % COUNTOF(small)];
  switch (i / COUNTOF(small) % 4) {
  case 0: return s;
  case 1: return wrap(t, t->hi - s);
  case 2: return t->lo < 0 ? wrap(t, -s) : wrap(t, s * 3);
  }
  return t->lo < 0 ? t->lo + s : s * 2;
}

static void integers(void **state) {
  (void)state;
  enum { M = 48 * 47 };
  static int64_t x[M], y[M], want[M], tx[M], ty[M], tw[M];
  for (int k = 0; k < COUNTOF(int_types); k++) {
    const IntType *t = &int_types[k];
    for (int o = 0; o < COUNTOF(int_ops); o++) {
      for (int i = 0; i < M; i++) {
        x[i] = int_sample(t, i % 48);
        y[i] = int_sample(t, i % 47);
        want[i] = int_ops[o].fn(t, x[i], y[i]);
        data_set_i(tx, t->dt, i, x[i]);
        data_set_i(ty, t->dt, i, y[i]);
        data_set_i(tw, t->dt, i, want[i]);
      }
      const char *second = int_ops[o].nin == 2 ? op_text("input %%y: %s[%d]", t->name, M) : "";
      op_check(op_text("graph \"t\" { input %%x: %s[%d] %s %%z = %s output %%z }", t->name, M, second, int_ops[o].call),
               (const void *[]){tx, ty}, (const void *[]){tw}, 0);
    }
  }
}

/* Division by constants, where nothing is left to guard. */
static void integer_constants(void **state) {
  (void)state;
  static const int32_t x[] = {7, -7, 0, INT_MAX, INT_MIN, 1, -1};
  for (int32_t d = -3; d <= 3; d++) {
    int32_t div[7], mod[7], pow2[7];
    const IntType *t = &int_types[4];
    for (int i = 0; i < 7; i++) {
      div[i] = (int32_t)i_div(t, x[i], d);
      mod[i] = (int32_t)i_mod(t, x[i], d);
      pow2[i] = (int32_t)i_pow(t, x[i], d);
    }
    op_check(op_text("graph \"t\" { input %%x: i32[7] const %%d: i32[] = [%d] %%a = Div(%%x, %%d) %%b = Mod(%%x, %%d) {alpha=0, beta=0} "
                     "%%c = Pow(%%x, %%d) output %%a output %%b output %%c }", d),
             (const void *[]){x}, (const void *[]){div, mod, pow2}, 0);
  }
}

/* ---- two operands: NaN, comparisons, logic ---- */

static void binary_f32(void **state) {
  (void)state;
  enum { K = COUNTOF(specials), M = K * K + 6 };
  static float x[M], y[M], min[M], max[M], sum[M], div[M], rem[M], mod[M], power[M], prelu[M];
  static uint8_t eq[M], lt[M], le[M], gt[M], ge[M];
  for (int i = 0; i < M; i++) {
    float a = x[i] = (float)specials[i % K], b = y[i] = (float)specials[i / K % K];
    bool nan = isnan(a) || isnan(b);
    min[i] = nan ? NAN : a < b ? a : b;
    max[i] = nan ? NAN : a > b ? a : b;
    sum[i] = a + b;
    div[i] = a / b;
    rem[i] = fmodf(a, b);
    mod[i] = rem[i] != 0 && (rem[i] < 0) != (b < 0) ? rem[i] + b : rem[i];
    power[i] = powf(a, b);
    prelu[i] = a < 0 ? a * b : a;
    eq[i] = a == b, lt[i] = a < b, le[i] = a <= b, gt[i] = a > b, ge[i] = a >= b;
  }
  op_check(op_text("graph \"t\" { input %%x: f32[%d] input %%y: f32[%d] %%a = Min(%%x, %%y) %%b = Max(%%x, %%y) %%c = Add(%%x, %%y) "
                   "%%d = Div(%%x, %%y) %%e = Mod(%%x, %%y) {alpha=1, beta=0} %%f = Mod(%%x, %%y) {alpha=0, beta=0} %%g = Pow(%%x, %%y) "
                   "%%h = PRelu(%%x, %%y) output %%a output %%b output %%c output %%d output %%e output %%f output %%g output %%h }", M, M),
           (const void *[]){x, y}, (const void *[]){min, max, sum, div, rem, mod, power, prelu}, 1e-6);
  op_check(
      op_text("graph \"t\" { input %%x: f32[%d] input %%y: f32[%d] %%a = Equal(%%x, %%y) %%b = Less(%%x, %%y) %%c = LessOrEqual(%%x, %%y) "
              "%%d = Greater(%%x, %%y) %%e = GreaterOrEqual(%%x, %%y) output %%a output %%b output %%c output %%d output %%e }",
              M, M),
      (const void *[]){x, y}, (const void *[]){eq, lt, le, gt, ge}, 0);
}

/* min and max of a constant keep NaN without asking for it. */
static void constant_bounds(void **state) {
  (void)state;
  static const float x[] = {NAN, -INFINITY, INFINITY, 0, 3, -3, 0.5f};
  float want[7];
  for (int i = 0; i < 7; i++) want[i] = isnan(x[i]) ? x[i] : x[i] < -1 ? -1 : x[i] > 2 ? 2 : x[i];
  op_check("graph \"t\" { input %x: f32[7] const %lo: f32[] = [-1] const %hi: f32[1] = [2] %a = Max(%x, %lo) %b = Min(%hi, %a) output %b }",
           (const void *[]){x}, (const void *[]){want}, 0);
}

static void powers(void **state) {
  (void)state;
  static const char *const exponents[] = {"2", "3", "0.5", "-1", "1", "0", "2.5"};
  static const float x[] = {0.5f, 1, 2, 3.25f, 9, 0.01f, 7};
  for (int k = 0; k < COUNTOF(exponents); k++) {
    float want[7];
    for (int i = 0; i < 7; i++) want[i] = powf(x[i], (float)atof(exponents[k]));
    op_check(op_text("graph \"t\" { input %%x: f32[7] const %%e: f32[] = [%s] %%y = Pow(%%x, %%e) output %%y }", exponents[k]),
             (const void *[]){x}, (const void *[]){want}, 1e-6);
  }
  /* mixed types: the result has the base's */
  static const int32_t base[] = {2, 3, -2, 10, 0, 1, -1};
  static const int64_t e[] = {10, 0, 3, 9, 0, 100, 101};
  static const int32_t want[] = {1024, 1, -8, 1000000000, 1, 1, -1};
  op_check("graph \"t\" { input %x: i32[7] input %e: i64[7] %y = Pow(%x, %e) output %y }", (const void *[]){base, e},
           (const void *[]){want}, 0);
  static const float fe[] = {0.5f, 2, 3, 1, 1, 1, 2};
  static const int32_t fwant[] = {1, 9, -8, 10, 0, 1, 1};
  op_check("graph \"t\" { input %x: i32[7] input %e: f32[7] %y = Pow(%x, %e) output %y }", (const void *[]){base, fe},
           (const void *[]){fwant}, 0);
  static const float want3[] = {1024, 1, -8, 1e9f, 1, 1, -1};
  static const float fbase[] = {2, 3, -2, 10, 0, 1, -1};
  op_check("graph \"t\" { input %x: f32[7] input %e: i64[7] %y = Pow(%x, %e) output %y }", (const void *[]){fbase, e},
           (const void *[]){want3}, 1e-6);
}

static void logic(void **state) {
  (void)state;
  static const uint8_t x[] = {0, 0, 1, 1, 1}, y[] = {0, 1, 0, 1, 1}, z[] = {1, 1, 0, 0, 1};
  uint8_t and[5], or[5], xor[5], not[5], eq[5], where[5];
  for (int i = 0; i < 5; i++) {
    and[i] = x[i] && y[i], or[i] = x[i] || y[i], xor[i] = x[i] != y[i], not[i] = !x[i], eq[i] = x[i] == y[i];
    where[i] = x[i] ? y[i] : z[i];
  }
  op_check(
      "graph \"t\" { input %x: bool[5] input %y: bool[5] input %z: bool[5] %a = And(%x, %y) %b = Or(%x, %y) %c = Xor(%x, %y) %d = Not(%x) "
      "%e = Equal(%x, %y) %f = Where(%x, %y, %z) output %a output %b output %c output %d output %e output %f }",
      (const void *[]){x, y, z}, (const void *[]){and, or, xor, not, eq, where}, 0);
}

static void classes(void **state) {
  (void)state;
  static const float x[] = {NAN, INFINITY, -INFINITY, 0, 1e30f};
  static const uint8_t nan[] = {1, 0, 0, 0, 0}, inf[] = {0, 1, 1, 0, 0}, pos[] = {0, 1, 0, 0, 0}, neg[] = {0, 0, 1, 0, 0}, none[5] = {0};
  op_check("graph \"t\" { input %x: f32[5] %a = IsNaN(%x) %b = IsInf(%x) {alpha=1, beta=1} %c = IsInf(%x) {alpha=1, beta=0} "
           "%d = IsInf(%x) {alpha=0, beta=1} %e = IsInf(%x) {alpha=0, beta=0} output %a output %b output %c output %d output %e }",
           (const void *[]){x}, (const void *[]){nan, inf, pos, neg, none}, 0);
}

/* ---- Cast ---- */

static const DType cast_types[] = {DT_F32, DT_F64, DT_I8, DT_U8, DT_I16, DT_U16, DT_I32, DT_U32, DT_I64, DT_U64, DT_BOOL};

static void casts(void **state) {
  (void)state;
  static const double x[] = {0, 1, -1, 2.5, -2.5, 100, 127, 128, 255, 256, -128, -129, 32767, 65536, 2147483520.0, 0.25, 1e9};
  enum { M = COUNTOF(x) };
  int64_t from[M], to[M];
  for (int a = 0; a < COUNTOF(cast_types); a++)
    for (int b = 0; b < COUNTOF(cast_types); b++) {
      DType f = cast_types[a], t = cast_types[b];
      for (int i = 0; i < M; i++) {
        data_set_f(from, f, i, x[i]);
        if (dt_is_float(f) || dt_is_float(t)) data_set_f(to, t, i, data_get_f(from, f, i));
        else if (t == DT_BOOL) data_set_i(to, t, i, data_get_i(from, f, i) != 0);
        else data_set_i(to, t, i, data_get_i(from, f, i));
      }
      op_check(op_text("graph \"t\" { input %%x: %s[%d] %%y = Cast(%%x) {to=%s} output %%y }", dt_name(f), M, dt_name(t)),
               (const void *[]){from}, (const void *[]){to}, 0);
    }
  static const float odd[] = {NAN, INFINITY, -INFINITY, 3e9f, -3e9f, 0.9f, -0.9f};
  static const int32_t want[] = {0, INT_MAX, INT_MIN, INT_MAX, INT_MIN, 0, 0};
  static const uint8_t wantb[] = {1, 1, 1, 1, 1, 1, 1};
  op_check("graph \"t\" { input %x: f32[7] %y = Cast(%x) {to=i32} %z = Cast(%x) {to=bool} output %y output %z }", (const void *[]){odd},
           (const void *[]){want, wantb}, 0);
}

/* ---- broadcasting ---- */

/* Index into an operand of these dims (padded in front to rank 4) of the result's element (c0..c3). */
static int64_t source(const int *dims, const int *c) {
  int64_t i = 0;
  for (int d = 0; d < 4; d++) i = i * dims[d] + (dims[d] == 1 ? 0 : c[d]);
  return i;
}

static void dims_text(char *s, const int *dims, int skip) {
  *s = 0;
  for (int d = skip; d < 4; d++) sprintf(s + strlen(s), "%s%d", d == skip ? "" : ",", dims[d]);
}

/* Each operand has each dimension or broadcasts it: all 256 pairs of patterns, at two sizes, leading ones kept or left out. */
static void broadcasts(void **state) {
  (void)state;
  static const int sizes[2][4] = {{2, 3, 5, 19}, {3, 1, 4, 2}};
  static float x[600], y[600], want[600];
  op_fill_f32(x, 600, 3);
  op_fill_f32(y, 600, 4);
  for (int k = 0; k < 2; k++)
    for (int p = 0; p < 256; p++) {
      int dx[4], dy[4], dz[4], c[4], skip = 0;
      for (int d = 0; d < 4; d++) {
        dx[d] = p >> d & 1 ? sizes[k][d] : 1;
        dy[d] = p >> (4 + d) & 1 ? sizes[k][d] : 1;
        dz[d] = MAXI(dx[d], dy[d]);
      }
      while (skip < 4 && dy[skip] == 1) skip++;
      int64_t i = 0;
      for (c[0] = 0; c[0] < dz[0]; c[0]++)
        for (c[1] = 0; c[1] < dz[1]; c[1]++)
          for (c[2] = 0; c[2] < dz[2]; c[2]++)
            for (c[3] = 0; c[3] < dz[3]; c[3]++) want[i++] = x[source(dx, c)] - y[source(dy, c)];
      char tx[40], ty[40];
      dims_text(tx, dx, 0);
      dims_text(ty, dy, p & 16 ? 0 : skip);
      op_check(op_text("graph \"t\" { input %%x: f32[%s] input %%y: f32[%s] %%z = Sub(%%x, %%y) output %%z }", tx, ty),
               (const void *[]){x, y}, (const void *[]){want}, 0);
    }
}

static void where_broadcasts(void **state) {
  (void)state;
  static const uint8_t c[] = {1, 0, 1};
  static float x[20], y[1] = {-7}, want[60];
  op_fill_f32(x, 20, 5);
  for (int i = 0; i < 60; i++) want[i] = c[i / 20] ? x[i % 20] : -7;
  op_check("graph \"t\" { input %c: bool[3,1,1] input %x: f32[4,5] input %y: f32[] %z = Where(%c, %x, %y) output %z }",
           (const void *[]){c, x, y}, (const void *[]){want}, 0);
}

static void scalars_and_empties(void **state) {
  (void)state;
  static const float x[] = {2.5f}, y[] = {-1}, want[] = {1.5f};
  op_check("graph \"t\" { input %x: f32[] input %y: f32[] %z = Add(%x, %y) output %z }", (const void *[]){x, y}, (const void *[]){want}, 0);
  op_check("graph \"t\" { input %x: f32[1,1] input %y: f32[1] %z = Add(%x, %y) output %z }", (const void *[]){x, y}, (const void *[]){want},
           0);
  op_check("graph \"t\" { input %x: f32[3,0,2] input %y: f32[2] %z = Add(%x, %y) output %z }", (const void *[]){x, y},
           (const void *[]){want}, 0);
  op_check("graph \"t\" { input %x: f32[0] %z = Exp(%x) output %z }", (const void *[]){x}, (const void *[]){want}, 0);
  /* the same operand twice */
  static const float four[] = {6.25f};
  op_check("graph \"t\" { input %x: f32[] %z = Mul(%x, %x) output %z }", (const void *[]){x}, (const void *[]){four}, 0);
}

/* Long tensors: the range is split into chunks. */
static void long_tensors(void **state) {
  (void)state;
  enum { M = 3 * 9001 };
  static float x[M], y[3], want[M], want2[M];
  op_fill_f32(x, M, 6);
  op_fill_f32(y, 3, 7);
  for (int i = 0; i < M; i++) want[i] = fmaxf(x[i], 0), want2[i] = x[i] * y[i / 9001];
  op_check(op_text("graph \"t\" { input %%x: f32[3,9001] input %%y: f32[3,1] %%z = Relu(%%x) %%w = Mul(%%x, %%y) output %%z output %%w }"),
           (const void *[]){x, y}, (const void *[]){want, want2}, 0);
}

/* ---- refusals ---- */

static void refusals(void **state) {
  (void)state;
  op_refuse("graph \"t\" { input %x: f32[2,3] input %y: f32[4] %z = Add(%x, %y) output %z }", "[2, 3] and [4] do not broadcast");
  op_refuse("graph \"t\" { input %x: f32[2] input %y: i32[2] %z = Add(%x, %y) output %z }", "different types, f32 and i32");
  op_refuse("graph \"t\" { input %x: i32[2] %z = Exp(%x) output %z }", "type i32");
  op_refuse("graph \"t\" { input %x: f32[2] %z = Not(%x) output %z }", "type f32");
  op_refuse("graph \"t\" { input %x: bool[2] input %y: bool[2] %z = Add(%x, %y) output %z }", "type bool");
  op_refuse("graph \"t\" { input %c: f32[2] input %x: f32[2] %z = Where(%c, %x, %x) output %z }", "condition is f32");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(unary_f32),
      cmocka_unit_test(unary_f64),
      cmocka_unit_test(integers),
      cmocka_unit_test(integer_constants),
      cmocka_unit_test(binary_f32),
      cmocka_unit_test(powers),
      cmocka_unit_test(constant_bounds),
      cmocka_unit_test(logic),
      cmocka_unit_test(classes),
      cmocka_unit_test(casts),
      cmocka_unit_test(broadcasts),
      cmocka_unit_test(where_broadcasts),
      cmocka_unit_test(scalars_and_empties),
      cmocka_unit_test(long_tensors),
      cmocka_unit_test(refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
