/* passes/loop/math.c: elementary functions of f32 as arithmetic, for scalars and vectors alike, so that every backend gives the same bits
 * and can use its vector unit.
 *
 * Coefficients come from the Remez exchange algorithm in 40 digits, for the error relative to the function on the reduced interval (log
 * erfc: relative to erfc), then rounded to f32. The rational functions one often sees for tanh and erf are shorter but lose 6 units in
 * the last place to rounding, these lose 3 (tests/unit/test_math.c measures).
 *
 * The order of operands of min and max matters: min(c, x) and max(c, x) let a NaN x through.
 */
#include "rewrite.h"

typedef struct Math {
  Build *b;
  Type t;                  /* f32, with the lanes of the operand */
  bool fma;
} Math;

static Expr *num(const Math *m, double c) { return x_float(m->b, m->t, c); }
static Expr *num_i(const Math *m, int64_t c) { return x_int(m->b, type_of(DT_I32, m->t.lanes), c); }
static Expr *let(const Math *m, const char *name, Expr *e) { return s_let(m->b, name, e); }
static Expr *add(const Math *m, Expr *x, Expr *y) { return x_bin(m->b, X_ADD, x, y); }
static Expr *sub(const Math *m, Expr *x, Expr *y) { return x_bin(m->b, X_SUB, x, y); }
static Expr *mul(const Math *m, Expr *x, Expr *y) { return x_bin(m->b, X_MUL, x, y); }
static Expr *divide(const Math *m, Expr *x, Expr *y) { return x_bin(m->b, X_DIV, x, y); }
static Expr *shl(const Math *m, Expr *x, int n) { return x_bin(m->b, X_SHL, x, num_i(m, n)); }
static Expr *shr(const Math *m, Expr *x, int n) { return x_bin(m->b, X_SHR, x, num_i(m, n)); }
static Expr *as_float(const Math *m, Expr *x) { return x_bitcast(m->b, DT_F32, x); }
static Expr *as_int(const Math *m, Expr *x) { return x_bitcast(m->b, DT_I32, x); }

static Expr *muladd(const Math *m, Expr *x, Expr *y, Expr *z) { return m->fma ? x_fma(m->b, x, y, z) : add(m, mul(m, x, y), z); }

static Expr *clamp(const Math *m, Expr *x, double lo, double hi) {
  return x_bin(m->b, X_MIN, num(m, hi), x_bin(m->b, X_MAX, num(m, lo), x));
}

/* c[0] + c[1]*x + ... by Horner's rule. */
static Expr *poly(const Math *m, Expr *x, const double *c, int n) {
  Expr *p = num(m, c[n - 1]);
  for (int i = n - 2; i >= 0; i--) p = let(m, "p", muladd(m, p, x, num(m, c[i])));
  return p;
}

/* exp(x) = 2^n * (1 + y) with n = round(x / ln 2), y = e^r - 1, |r| <= ln(2)/2. Adding 1.5 * 2^23 rounds to an integer and leaves it in the
 * low bits. */
static Expr *exp_reduced(const Math *m, Expr *x, Expr **n) {
  static const double c[] = {0.49999994, 0.166665092, 0.0416685268, 0.00837013498, 0.0013811664};
  const double magic = 12582912, ln2_hi = 0.693359375, ln2_lo = -2.12194440054690583e-4;
  Expr *t = let(m, "t", muladd(m, x, num(m, 1.44269504088896341), num(m, magic)));
  Expr *k = let(m, "k", sub(m, t, num(m, magic)));
  Expr *r = let(m, "r", muladd(m, k, num(m, -ln2_hi), x));
  r = let(m, "r", muladd(m, k, num(m, -ln2_lo), r));
  Expr *p = poly(m, r, c, COUNTOF(c));
  *n = let(m, "n", sub(m, as_int(m, t), num_i(m, 0x4b400000)));
  return let(m, "y", muladd(m, mul(m, r, r), p, r));
}

/* 2^n for -126 <= n <= 127. */
static Expr *power_of_two(const Math *m, Expr *n) { return let(m, "s", as_float(m, shl(m, add(m, n, num_i(m, 127)), 23))); }

/* The power in two factors, so that denormal results are reached and overflow is. */
static Expr *expand_exp(const Math *m, Expr *x) {
  Expr *n, *y = exp_reduced(m, let(m, "x", clamp(m, x, -104, 89)), &n);
  Expr *half = let(m, "n", shr(m, n, 1)), *first = power_of_two(m, half), *second = power_of_two(m, sub(m, n, half));
  return mul(m, mul(m, add(m, y, num(m, 1)), first), second);
}

/* 1 / (1 + exp(-x)). exp(-x) must overflow but what would be denormal counts as nothing: one factor, for twice the rest, does. */
static Expr *expand_sigmoid(const Math *m, Expr *x) {
  Expr *n, *y = exp_reduced(m, let(m, "x", clamp(m, x_un(m->b, X_NEG, x), -86, 89)), &n);
  Expr *e = let(m, "e", add(m, y, num(m, 1)));
  return divide(m, num(m, 1), muladd(m, add(m, e, e), power_of_two(m, sub(m, n, num_i(m, 1))), num(m, 1)));
}

/* With u = exp(2x) - 1: u / (u + 2). No cancellation: u is 2^n * y + (2^n - 1), exact but for the last sum, and y where n is 0. */
static Expr *expand_tanh(const Math *m, Expr *x) {
  Expr *n, *y = exp_reduced(m, let(m, "x", clamp(m, add(m, x, x), -20, 20)), &n);
  Expr *scale = power_of_two(m, n);
  Expr *u = let(m, "u", muladd(m, scale, y, sub(m, scale, num(m, 1))));
  return divide(m, u, add(m, u, num(m, 2)));
}

/* |x| < 0.875: x * p(x^2); beyond: 1 - exp(q(|x|)) with q = log(erfc), and x's sign. At 4 and beyond erf rounds to 1. */
static Expr *expand_erf(const Math *m, Expr *x) {
  static const double p[] = {1.12837911, -0.376125515, 0.1128245, -0.0267912559, 0.00503183901, -0.000620128936};
  static const double q[] = {-0.000144215126, -1.12788939, -0.636820674, -0.104250163, 0.0223810114, -0.00308199064, 0.000199900765};
  Expr *a = let(m, "a", x_un(m->b, X_ABS, x)), *z = let(m, "z", mul(m, x, x));
  Expr *small = let(m, "y", mul(m, x, poly(m, z, p, COUNTOF(p))));
  Expr *t = poly(m, let(m, "a", x_bin(m->b, X_MIN, num(m, 4), a)), q, COUNTOF(q));
  Expr *n, *y = exp_reduced(m, t, &n), *scale = power_of_two(m, n);
  Expr *large = as_int(m, sub(m, num(m, 1), muladd(m, y, scale, scale)));
  Expr *sign = x_bin(m->b, X_AND, as_int(m, x), num_i(m, INT32_MIN));
  return x_select(m->b, x_bin(m->b, X_LT, a, num(m, 0.875)), small, as_float(m, x_bin(m->b, X_OR, large, sign)));
}

/* x = 2^e * (1 + f), sqrt(1/2) <= 1 + f < sqrt(2); log(1 + f) = f - f^2/2 + f^3 * p(f). */
static Expr *expand_log(const Math *m, Expr *x) {
  static const double c[] = {0.333333313, -0.250008374, 0.200012982, -0.16622813, 0.141996399, -0.13163732, 0.127792403, -0.0764731318};
  const double ln2_hi = 0.693359375, ln2_lo = -2.12194440054690583e-4, smallest_normal = 0x1p-126;
  const int64_t root_half = 0x3f3504f3;
  Expr *denormal = let(m, "m", x_bin(m->b, X_LT, x, num(m, smallest_normal)));
  Expr *bits = let(m, "i", as_int(m, x_select(m->b, denormal, mul(m, x, num(m, 8388608)), x)));
  Expr *e = let(m, "i", shr(m, sub(m, bits, num_i(m, root_half)), 23));
  Expr *f = let(m, "f", sub(m, as_float(m, sub(m, bits, shl(m, e, 23))), num(m, 1)));
  Expr *k = let(m, "k", sub(m, x_cast(m->b, DT_F32, e), x_select(m->b, denormal, num(m, 23), num(m, 0))));
  Expr *z = let(m, "z", mul(m, f, f));
  Expr *y = let(m, "y", mul(m, mul(m, f, z), poly(m, f, c, COUNTOF(c))));
  y = let(m, "y", muladd(m, k, num(m, ln2_lo), y));
  y = let(m, "y", add(m, f, muladd(m, z, num(m, -0.5), y)));
  y = muladd(m, k, num(m, ln2_hi), y);
  Expr *inf = num(m, INFINITY);
  Expr *nonpositive = x_select(m->b, x_bin(m->b, X_EQ, x, num(m, 0)), num(m, -INFINITY), num(m, NAN));
  y = x_select(m->b, x_bin(m->b, X_LT, x, inf), y, inf);
  return x_select(m->b, x_bin(m->b, X_GT, x, num(m, 0)), y, nonpositive);
}

bool math_expands(XOp op, Type t) {
  if (op == X_SIGMOID) return t.dt == DT_F32 || t.dt == DT_F64;
  return t.dt == DT_F32 && (op == X_EXP || op == X_LOG || op == X_TANH || op == X_ERF);
}

Expr *math_expand(Build *b, XOp op, Expr *x, bool fma) {
  Math m = {b, x->type, fma};
  x = s_let(b, "x", x);
  switch ((int)op) {
  case X_EXP: return expand_exp(&m, x);
  case X_LOG: return expand_log(&m, x);
  case X_TANH: return expand_tanh(&m, x);
  case X_ERF: return expand_erf(&m, x);
  case X_SIGMOID:
    if (x->type.dt == DT_F32) return expand_sigmoid(&m, x);
    return divide(&m, num(&m, 1), add(&m, num(&m, 1), x_un(b, X_EXP, x_un(b, X_NEG, x))));
  }
  return x_un(b, op, x);
}
