/* Every operator in every element type it has, scalars and vectors: the interpreter against plain C, and the constant folder against the
 * interpreter, over operands that are extreme as well as ordinary. */
#include "loop_test.h"

#define N 64   /* operands per buffer */

static const DType types[] = {DT_F32, DT_F64, DT_I8, DT_U8, DT_I16, DT_U16, DT_I32, DT_U32, DT_I64, DT_U64, DT_BOOL, DT_IDX};

/* idx cannot be stored: buffers of i64 stand for it. */
static DType stored(DType t) { return t == DT_IDX ? DT_I64 : t; }

static XValue read_value(const void *data, DType t, int i) {
  XValue v;
  if (dt_is_float(t)) v.f = data_get_f(data, t, i);
  else v.i = data_get_i(data, stored(t), i);
  return v;
}

static void fill(void *data, DType t, uint64_t seed) {
  static const double f[] = {0,        -0.0,      1,       -1,    0.5,          -0.5,         1.5,           2.5,          -2.5,
                             INFINITY, -INFINITY, NAN,     3e38,  -3e38,        1e-40,        127,           128,          255,
                             256,      -129,      32767.5, 65536, 2147483520.0, 2147483648.0, -2147483648.0, 4294967296.0, 9.2e18,
                             1.9e19,   -1e30,     88,      -88,   0.1};
  static const int64_t n[] = {0, 1, -1, 2, -2, 3, 7, 127, 128, -128, 255, 256, 32767, -32768, 65535, INT32_MAX, INT32_MIN, UINT32_MAX,
                              INT64_MAX, INT64_MIN, 5, 8, 31, 63};
  for (int i = 0; i < N; i++) {
    uint64_t r = test_random(&seed);
    if (dt_is_float(t)) data_set_f(data, t, i, r % 3 ? f[r / 3 % COUNTOF(f)] : ldexp((double)(int64_t)(r >> 8), (int)(r % 61) - 60));
    else if (t == DT_BOOL) ((uint8_t *)data)[i] = r & 1;
    else data_set_i(data, stored(t), i, int_wrap(t, r % 3 ? n[r / 3 % COUNTOF(n)] : (int64_t)(r >> 5)));
  }
}

/* ---- the reference: nothing of loop_eval.c but int_wrap ---- */

static bool ref_int(XOp op, DType t, int64_t a, int64_t b, int64_t c, int64_t *r) {
  bool sgn = t == DT_IDX || dt_is_signed(t);
  int bits = t == DT_IDX ? 64 : dt_bits(t);
  uint64_t ua = (uint64_t)a, ub = (uint64_t)b;
  switch ((int)op) {
  case X_ADD: *r = (int64_t)(ua + ub); break;
  case X_SUB: *r = (int64_t)(ua - ub); break;
  case X_MUL: *r = (int64_t)(ua * ub); break;
  case X_DIV: *r = b == 0 ? 0 : sgn ? (b == -1 ? (int64_t)(0 - ua) : a / b) : (int64_t)(ua / ub); break;
  case X_REM: *r = b == 0 ? 0 : sgn ? (b == -1 ? 0 : a % b) : (int64_t)(ua % ub); break;
  case X_MIN: *r = (sgn ? a < b : ua < ub) ? a : b; break;
  case X_MAX: *r = (sgn ? a > b : ua > ub) ? a : b; break;
  case X_AND: *r = a & b; break;
  case X_OR: *r = a | b; break;
  case X_XOR: *r = a ^ b; break;
  case X_SHL: *r = (int64_t)(ua << (ub % (unsigned)bits)); break;
  case X_SHR: *r = sgn ? a >> (ub % (unsigned)bits) : (int64_t)(ua >> (ub % (unsigned)bits)); break;
  case X_NEG: *r = (int64_t)(0 - ua); break;
  case X_NOT: *r = t == DT_BOOL ? !a : ~a; break;
  case X_ABS: *r = sgn && a < 0 ? (int64_t)(0 - ua) : a; break;
  default: return false;
  }
  (void)c;
  *r = int_wrap(t, *r);
  return true;
}

#define REF_FLOAT(NAME, T, F)                                                                                                           \
  static bool NAME(XOp op, T a, T b, T c, T *r) {                                                                                       \
    switch ((int)op) {                                                                                                                  \
    case X_ADD: *r = a + b; break;                                                                                                      \
    case X_SUB: *r = a - b; break;                                                                                                      \
    case X_MUL: *r = a * b; break;                                                                                                      \
    case X_DIV: *r = a / b; break;                                                                                                      \
    case X_REM: *r = fmod##F(a, b); break;                                                                                              \
    case X_MIN: *r = a < b ? a : b; break;                                                                                              \
    case X_MAX: *r = a > b ? a : b; break;                                                                                              \
    case X_POW: *r = (T)pow(a, b); break;                                                                                               \
    case X_FMA: *r = fma##F(a, b, c); break;                                                                                            \
    case X_NEG: *r = -a; break;                                                                                                         \
    case X_ABS: *r = fabs##F(a); break;                                                                                                 \
    case X_SQRT: *r = sqrt##F(a); break;                                                                                                \
    case X_FLOOR: *r = floor##F(a); break;                                                                                              \
    case X_CEIL: *r = ceil##F(a); break;                                                                                                \
    case X_ROUND: *r = rint##F(a); break;                                                                                               \
    case X_TRUNC: *r = trunc##F(a); break;                                                                                              \
    case X_EXP: *r = (T)exp(a); break;                                                                                                  \
    case X_LOG: *r = (T)log(a); break;                                                                                                  \
    case X_SIN: *r = (T)sin(a); break;                                                                                                  \
    case X_COS: *r = (T)cos(a); break;                                                                                                  \
    case X_TAN: *r = (T)tan(a); break;                                                                                                  \
    case X_ASIN: *r = (T)asin(a); break;                                                                                                \
    case X_ACOS: *r = (T)acos(a); break;                                                                                                \
    case X_ATAN: *r = (T)atan(a); break;                                                                                                \
    case X_SINH: *r = (T)sinh(a); break;                                                                                                \
    case X_COSH: *r = (T)cosh(a); break;                                                                                                \
    case X_TANH: *r = (T)tanh(a); break;                                                                                                \
    case X_ASINH: *r = (T)asinh(a); break;                                                                                              \
    case X_ACOSH: *r = (T)acosh(a); break;                                                                                              \
    case X_ATANH: *r = (T)atanh(a); break;                                                                                              \
    case X_ERF: *r = (T)erf(a); break;                                                                                                  \
    case X_SIGMOID: *r = (T)(a >= 0 ? 1 / (1 + exp(-(double)a)) : exp((double)a) / (1 + exp((double)a))); break;                         \
    default: return false;                                                                                                              \
    }                                                                                                                                   \
    return true;                                                                                                                        \
  }
REF_FLOAT(ref_f32, float, f)
REF_FLOAT(ref_f64, double, )

static bool ref_compare(XOp op, DType t, XValue a, XValue b, int64_t *r) {
#define COMPARE(x, y)        \
  (op == X_EQ   ? (x) == (y) \
   : op == X_NE ? (x) != (y) \
   : op == X_LT ? (x) < (y)  \
   : op == X_LE ? (x) <= (y) \
   : op == X_GT ? (x) > (y)  \
                : (x) >= (y))
  if (op < X_EQ || op > X_GE) return false;
  if (dt_is_float(t)) *r = COMPARE(a.f, b.f);
  else if (t == DT_U64) *r = COMPARE((uint64_t)a.i, (uint64_t)b.i);
  else *r = COMPARE(a.i, b.i);
  return true;
}

static void ref(XOp op, DType t, const XValue *v, XValue *r) {
  float f = 0;
  if (ref_compare(op, t, v[0], v[1], &r->i)) return;
  if (t == DT_F32) {
    assert_true(ref_f32(op, (float)v[0].f, (float)v[1].f, (float)v[2].f, &f));
    r->f = f;
  } else if (t == DT_F64) {
    assert_true(ref_f64(op, v[0].f, v[1].f, v[2].f, &r->f));
  } else {
    assert_true(ref_int(op, t, v[0].i, v[1].i, v[2].i, &r->i));
  }
}

static bool has_op(XOp op, DType t) {
  bool f = dt_is_float(t);
  if (op >= X_EQ && op <= X_GE) return t != DT_BOOL || op <= X_NE;
  if (t == DT_BOOL) return op == X_AND || op == X_OR || op == X_XOR || op == X_NOT;
  if ((op >= X_ADD && op <= X_MAX) || op == X_NEG || op == X_ABS) return true;
  if (op >= X_AND && op <= X_SHR) return !f;
  if (op == X_NOT) return !f;
  return f && (op == X_POW || op == X_FMA || (op >= X_SQRT && op <= X_TRUNC) || (op >= X_EXP && op <= X_SIGMOID));
}

/* ---- kernels ---- */

static Expr *raw(LoopTest *t, XOp op, Type type, Expr *a, Expr *b, Expr *c) {
  Expr *e = NEW(t->arena, Expr);
  *e = (Expr){.op = op, .type = type, .a = {a, b, c}};
  return e;
}

/* Element j of parameter i, as an idx if that is the type. */
static Expr *operand(LoopTest *t, Build *b, Var *buf, Expr *j, DType dt, int lanes) {
  (void)t;
  Expr *e = x_load(b, buf, j, lanes);
  return dt == DT_IDX ? x_cast(b, DT_IDX, e) : e;
}

static Kernel *op_kernel(LoopTest *t, XOp op, DType dt, int lanes, Var *in[3], Build *b) {
  int n = x_table[op].nargs;
  Kernel *k = kernel_new(t->arena, "one operator");
  build_start(b, t->arena, k);
  build_range(b, "r", 1);
  for (int i = 0; i < n; i++) in[i] = build_param(b, "x", stored(dt), ACCESS_IN);
  DType out = op >= X_EQ && op <= X_GE ? DT_BOOL : dt;
  Var *y = build_param(b, "y", stored(out), ACCESS_OUT);
  Expr *j = s_for(b, "j", x_idx(b, 0), x_idx(b, N), lanes), *a[3] = {NULL, NULL, NULL};
  for (int i = 0; i < n; i++) a[i] = operand(t, b, in[i], j, dt, lanes);
  Expr *e = raw(t, op, type_of(out, lanes), a[0], a[1], a[2]);
  s_store(b, y, j, out == DT_IDX ? x_cast(b, DT_I64, e) : e);
  s_end(b);
  return k;
}

static bool same(DType t, XValue a, XValue b) {
  if (!dt_is_float(t)) return a.i == b.i;
  if (isnan(a.f) || isnan(b.f)) return isnan(a.f) && isnan(b.f);
  return a.f == b.f && signbit(a.f) == signbit(b.f);
}

/* The folder on the same operands. */
static void check_fold(Build *b, XOp op, DType dt, DType out, const XValue *v, XValue got) {
  Expr *a[3];
  for (int i = 0; i < x_table[op].nargs; i++)
    a[i] = dt_is_float(dt) ? x_float(b, type_of(dt, 1), v[i].f) : x_int(b, type_of(dt, 1), v[i].i);
  Expr *e = op == X_FMA ? x_fma(b, a[0], a[1], a[2]) : x_table[op].nargs == 2 ? x_bin(b, op, a[0], a[1]) : x_un(b, op, a[0]);
  XValue folded;
  assert_int_equal(e->op, X_CONST);
  if (dt_is_float(out)) folded.f = e->f;
  else folded.i = e->i;
  if (!same(out, folded, got))
    fail_msg("folding %s of %s: %g and %lld, not %lld", x_table[op].name, dt_name(dt), v[0].f, (long long)folded.i, (long long)got.i);
}

static void check_op(XOp op, DType dt, int lanes) {
  LoopTest t;
  loop_open(&t);
  Build b;
  Var *in[3];
  Kernel *k = op_kernel(&t, op, dt, lanes, in, &b);
  DType out = op >= X_EQ && op <= X_GE ? DT_BOOL : dt;
  _Alignas(8) char x[3][N * 8], y[N * 8];
  void *data[4];
  int64_t bytes[4];
  int n = x_table[op].nargs;
  for (int i = 0; i < n; i++) {
    fill(x[i], dt, 1000 * (uint64_t)op + 10 * (uint64_t)dt + (uint64_t)i);
    data[i] = x[i];
    bytes[i] = N * (int64_t)dt_size(stored(dt));
  }
  data[n] = y;
  bytes[n] = N * (int64_t)dt_size(stored(out));
  loop_run(&t, k, data, bytes, 1);
  for (int j = 0; j < N; j++) {
    XValue v[3] = {{0}}, want = {0}, got = read_value(y, out, j);
    for (int i = 0; i < n; i++) v[i] = read_value(x[i], dt, j);
    ref(op, dt, v, &want);
    if (!same(out, got, want))
      fail_msg("%s of %s x%d, element %d: got %.17g/%lld, want %.17g/%lld", x_table[op].name, dt == DT_IDX ? "idx" : dt_name(dt), lanes, j,
               got.f, (long long)got.i, want.f, (long long)want.i);
    if (lanes == 1) check_fold(&b, op, dt, out, v, got);
  }
  loop_close(&t);
}

static void every_operator(void **state) {
  (void)state;
  for (int op = X_ADD; op <= X_SIGMOID; op++) {
    for (int i = 0; i < COUNTOF(types); i++) {
      DType dt = types[i];
      if (op == X_SELECT || !has_op((XOp)op, dt)) continue;
      check_op((XOp)op, dt, 1);
      if (dt != DT_F32 && dt != DT_I32 && dt != DT_BOOL) continue;
      for (int lanes = 2; lanes <= 64; lanes *= 2) check_op((XOp)op, dt, lanes);
    }
  }
}

/* ---- conversions ---- */

static int64_t ref_float_to_int(double x, DType to) {
  if (isnan(x)) return 0;
  int bits = to == DT_IDX ? 64 : dt_bits(to);
  bool sgn = to == DT_IDX || dt_is_signed(to);
  long double v = truncl((long double)x), lo = sgn ? -ldexpl(1, bits - 1) : 0, hi = ldexpl(1, bits - sgn) - 1;
  if (v < lo) v = lo;
  if (v > hi) v = hi;
  return sgn ? (int64_t)v : (int64_t)(uint64_t)v;
}

static XValue ref_cast(DType to, DType from, XValue v) {
  XValue r;
  if (dt_is_float(to)) {
    double d = dt_is_float(from) ? v.f : from == DT_U64 ? (double)(uint64_t)v.i : (double)v.i;
    float f = dt_is_float(from) ? (float)v.f : from == DT_U64 ? (float)(uint64_t)v.i : (float)v.i;
    r.f = to == DT_F32 ? f : d;
  } else if (to == DT_BOOL) {
    r.i = dt_is_float(from) ? v.f != 0 : v.i != 0;
  } else {
    r.i = dt_is_float(from) ? ref_float_to_int(v.f, to) : int_wrap(to, v.i);
  }
  return r;
}

static void check_cast(DType to, DType from, int lanes) {
  LoopTest t;
  loop_open(&t);
  Build b;
  Kernel *k = kernel_new(t.arena, "cast");
  build_start(&b, t.arena, k);
  build_range(&b, "r", 1);
  Var *x = build_param(&b, "x", stored(from), ACCESS_IN), *y = build_param(&b, "y", stored(to), ACCESS_OUT);
  Expr *j = s_for(&b, "j", x_idx(&b, 0), x_idx(&b, N), lanes);
  Expr *e = raw(&t, X_CAST, type_of(to, lanes), operand(&t, &b, x, j, from, lanes), NULL, NULL);
  s_store(&b, y, j, to == DT_IDX ? x_cast(&b, DT_I64, e) : e);
  s_end(&b);
  _Alignas(8) char in[N * 8], out[N * 8];
  fill(in, from, 77 * (uint64_t)to + (uint64_t)from);
  loop_run(&t, k, (void *[]){in, out}, (int64_t[]){N * (int64_t)dt_size(stored(from)), N * (int64_t)dt_size(stored(to))}, 1);
  for (int i = 0; i < N; i++) {
    XValue v = read_value(in, from, i), got = read_value(out, to, i), want = ref_cast(to, from, v);
    if (!same(to, got, want))
      fail_msg("cast of %.17g/%lld from %s to %s x%d: got %.17g/%lld, want %.17g/%lld", v.f, (long long)v.i, dt_name(stored(from)),
               dt_name(stored(to)), lanes, got.f, (long long)got.i, want.f, (long long)want.i);
    Expr *c = x_cast(&b, to, dt_is_float(from) ? x_float(&b, type_of(from, 1), v.f) : x_int(&b, type_of(from, 1), v.i));
    XValue folded = {0};
    if (dt_is_float(to)) folded.f = c->f;
    else folded.i = c->i;
    assert_int_equal(c->op, X_CONST);
    assert_true(same(to, folded, want));
  }
  loop_close(&t);
}

static void every_cast(void **state) {
  (void)state;
  for (int i = 0; i < COUNTOF(types); i++) {
    for (int j = 0; j < COUNTOF(types); j++) {
      if (i == j) continue;
      check_cast(types[i], types[j], 1);
      bool vectors = (types[i] == DT_F32 || types[i] == DT_I32 || types[i] == DT_BOOL) &&
                     (types[j] == DT_F32 || types[j] == DT_I32 || types[j] == DT_BOOL);
      for (int lanes = 2; vectors && lanes <= 64; lanes *= 2) check_cast(types[i], types[j], lanes);
    }
  }
}

static void bitcasts(void **state) {
  (void)state;
  static const DType pairs[][2] = {{DT_F32, DT_I32}, {DT_F32, DT_U32}, {DT_F64, DT_I64}, {DT_F64, DT_U64}, {DT_I32, DT_U32}, {DT_I8, DT_U8},
                                   {DT_I16, DT_U16}, {DT_I64, DT_U64}};
  for (int i = 0; i < 2 * COUNTOF(pairs); i++) {
    DType from = pairs[i / 2][i % 2], to = pairs[i / 2][1 - i % 2];
    LoopTest t;
    loop_open(&t);
    Kernel *k = loop_kernel(
        &t, arena_printf(t.arena,
                         "kernel k \"\" (x: %s in, y: %s out) range r in 0..1 { for j in 0..%d { store y[j] = bitcast.%s(load x[j]) } }",
                         dt_name(from), dt_name(to), N, dt_name(to)));
    _Alignas(8) char x[N * 8], y[N * 8];
    int64_t bytes = N * (int64_t)dt_size(from);
    fill(x, from, 5);
    loop_run(&t, k, (void *[]){x, y}, (int64_t[]){bytes, bytes}, 1);
    assert_memory_equal(x, y, (size_t)bytes);
    loop_close(&t);
  }
}

/* ---- lanes ---- */

static void check_lanes(const char *body, const float *want, int n) {
  LoopTest t;
  loop_open(&t);
  float x[32], y[32];
  for (int i = 0; i < 32; i++) x[i] = (float)i, y[i] = -1;
  Kernel *k = loop_kernel(&t, arena_printf(t.arena, "kernel k \"\" (x: f32 in, y: f32 out) range r in 0..1 { %s }", body));
  loop_run(&t, k, (void *[]){x, y}, (int64_t[]){sizeof x, sizeof y}, 1);
  for (int i = 0; i < n; i++) {
    if (y[i] != want[i]) fail_msg("element %d is %g, not %g in %s", i, y[i], want[i], body);
  }
  loop_close(&t);
}

static void lanes(void **state) {
  (void)state;
  check_lanes("store y[0] = splat.4(load x[3])", (float[]){3, 3, 3, 3, -1}, 5);
  check_lanes("store y[1] = extract.2(load.8 x[4])", (float[]){-1, 6, -1}, 3);
  check_lanes("store y[0] = shuffle(load.4 x[0], load.4 x[8], [0, 4, 1, 5])", (float[]){0, 8, 1, 9, -1}, 5);
  check_lanes("store y[0] = shuffle(load.4 x[0], load.4 x[8], [7, 6, 5, 4, 3, 2, 1, 0])", (float[]){11, 10, 9, 8, 3, 2, 1, 0, -1}, 9);
  check_lanes("reg a: f32x4 = load.4 x[4] a = shuffle(a, a, [3, 2, 1, 0]) store y[0] = a", (float[]){7, 6, 5, 4, -1}, 5);
  check_lanes("store y[0] = cast.f32(iota.8 * const.i32x8(2))", (float[]){0, 2, 4, 6, 8, 10, 12, 14, -1}, 9);
  check_lanes("store y[0] = load.4 x[1 first 3]", (float[]){1, 2, 3, 0, -1}, 5);
  check_lanes("store y[0] = load.4 x[1 by 5]", (float[]){1, 6, 11, 16, -1}, 5);
  check_lanes("store y[0] = load.4 x[30 first 2 by -10]", (float[]){30, 20, 0, 0, -1}, 5);
  check_lanes("store y[0] = load.4 x[999 first 0]", (float[]){0, 0, 0, 0, -1}, 5);
  check_lanes("store y[1 first 2] = load.4 x[8]", (float[]){-1, 8, 9, -1, -1}, 5);
  check_lanes("store y[0 by 2] = load.4 x[8]", (float[]){8, -1, 9, -1, 10, -1, 11, -1}, 8);
  check_lanes("store y[0 first 2 by 3] = load.4 x[8]", (float[]){8, -1, -1, 9, -1, -1, -1, -1}, 8);
  check_lanes("store y[0] = load.2 x[8]", (float[]){8, 9, -1}, 3);
  check_lanes("store y[0] = select(load.4 x[0] < splat.4(load x[2]), load.4 x[0], const.f32x4(9.0))", (float[]){0, 1, 9, 9, -1}, 5);
  check_lanes("store y[0] = reduce_add(load.8 x[0]) store y[1] = reduce_mul(load.4 x[1]) store y[2] = reduce_min(load.16 x[5]) store y[3] "
              "= reduce_max(load.2 x[5])",
              (float[]){28, 24, 5, 6, -1}, 5);
}

/* Sums go by halves, which shows in the rounding. */
static void reduce_order(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  float x[4] = {1e8f, 1, -1e8f, 1}, y[1];
  Kernel *k = loop_kernel(&t, "kernel k \"\" (x: f32 in, y: f32 out) range r in 0..1 { store y[0] = reduce_add(load.4 x[0]) }");
  loop_run(&t, k, (void *[]){x, y}, (int64_t[]){sizeof x, sizeof y}, 1);
  assert_true(y[0] == (x[0] + x[2]) + (x[1] + x[3]));
  loop_close(&t);
}

/* ---- fused multiply-add ---- */

/* Operands chosen so that rounding the product and the sum to double first would differ, and results near the denormals. */
static float awkward(uint64_t *seed) {
  uint64_t r = test_random(seed);
  int e = (int)(r % 16) * 18 - 150;
  float m = 1 + (float)(r >> 20 & (r >> 50 & 1 ? 0x7fffff : 0x40003)) * 0x1p-23f;
  return ldexpf(r >> 60 & 1 ? -m : m, e);
}

/* A product a little below half the last place of a denormal z. */
static void denormal_case(uint64_t *seed, float *x, float *y, float *z) {
  float a = (float)(1 + test_random(seed) % 4) * 0x1p-23f;
  *x = ldexpf(1 + a, -75);
  *y = ldexpf(1 - a, -75);
  *z = ldexpf((float)(test_random(seed) % (1 << 22)), -149);
}

static void fused(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  enum { COUNT = 4096 };
  static float x[COUNT], y[COUNT], z[COUNT], got[COUNT];
  uint64_t seed = 7;
  for (int lanes = 1; lanes <= 32; lanes *= 2) {
    for (int round = 0; round < 40; round++) {
      for (int i = 0; i < COUNT; i++) {
        x[i] = awkward(&seed);
        y[i] = awkward(&seed);
        if (test_random(&seed) % 64 == 0) {
          denormal_case(&seed, &x[i], &y[i], &z[i]);
          continue;
        }
        /* Often about as large as the product, or a half of its last place. */
        int e;
        frexpf(x[i] * y[i], &e);
        z[i] = test_random(&seed) & 1 ? awkward(&seed)
                                      : ldexpf(1 + (float)(test_random(&seed) >> 41) * 0x1p-23f, e - 1 - (int)(test_random(&seed) % 30));
      }
      char *load = lanes == 1 ? "load" : arena_printf(t.arena, "load.%d", lanes);
      Kernel *k = loop_kernel(
          &t, arena_printf(t.arena,
                           "kernel k \"\" (x: f32 in, y: f32 in, z: f32 in, r: f32 out) range i in 0..%d { let j: idx = i * %d\n"
                           "store r[j] = fma(%s x[j], %s y[j], %s z[j]) }",
                           COUNT / lanes, lanes, load, load, load));
      loop_run(&t, k, (void *[]){x, y, z, got}, (int64_t[]){sizeof x, sizeof y, sizeof z, sizeof got}, 1);
      for (int i = 0; i < COUNT; i++) {
        float want = fmaf(x[i], y[i], z[i]);
        if (memcmp(&got[i], &want, 4)) fail_msg("fma(%a, %a, %a) is %a, not %a", x[i], y[i], z[i], got[i], want);
      }
    }
  }
  /* With a splat operand, which has instructions of its own. */
  Kernel *k = loop_kernel(&t, "kernel k \"\" (x: f32 in, y: f32 in, z: f32 in, r: f32 out) range i in 0..256 { let j: idx = i * 16\n"
                              "store r[j] = fma(splat.16(load x[j]), load.16 y[j], load.16 z[j]) }");
  loop_run(&t, k, (void *[]){x, y, z, got}, (int64_t[]){sizeof x, sizeof y, sizeof z, sizeof got}, 1);
  for (int i = 0; i < COUNT; i++) {
    float want = fmaf(x[i / 16 * 16], y[i], z[i]);
    assert_memory_equal(&got[i], &want, 4);
  }
  loop_close(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_operator), cmocka_unit_test(every_cast), cmocka_unit_test(bitcasts),
      cmocka_unit_test(lanes),          cmocka_unit_test(reduce_order), cmocka_unit_test(fused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
