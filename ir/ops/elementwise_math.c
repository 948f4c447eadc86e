/* ops/elementwise_math.c: elementwise operators of mathematics: functions and activations.
 *
 * Formulas are chosen to neither overflow nor cancel: exp(x) - 1 is 2t / (1 - t) with t = tanh(x / 2); softplus is
 * max(x, 0) + log(1 + exp(-|x|)). Maxima keep NaN as x_bin(MAX, c, x).
 */
#include "ops.h"

#include <math.h>

#define EW(Name) Expr *ew_##Name(Build *b, const void *attr_, Expr *const *in, int n)
#define UNARY(Name, expr)                                                                                                              \
  EW(Name) {                                                                                                                           \
    (void)attr_, (void)n;                                                                                                              \
    Expr *x = in[0];                                                                                                                   \
    return expr;                                                                                                                       \
  }
/* For functions that use x several times, with parameters. */
#define ACTIVATION(Name, expr)                                                                                                         \
  EW(Name) {                                                                                                                           \
    (void)n;                                                                                                                           \
    const AlphaAttr *a = attr_;                                                                                                        \
    (void)a;                                                                                                                           \
    Expr *x = s_let(b, "v", in[0]);                                                                                                    \
    return expr;                                                                                                                       \
  }

static Expr *num(Build *b, const Expr *like, double v) { return x_num(b, like->type, v); }
static Expr *plus(Build *b, Expr *x, double v) { return x_add(b, x, num(b, x, v)); }
static Expr *times(Build *b, Expr *x, double v) { return x_mul(b, x, num(b, x, v)); }
static Expr *at_least(Build *b, Expr *x, double v) { return x_bin(b, X_MAX, num(b, x, v), x); }
static Expr *at_most(Build *b, Expr *x, double v) { return x_bin(b, X_MIN, num(b, x, v), x); }
static Expr *is(Build *b, XOp op, Expr *x, double v) { return x_bin(b, op, x, num(b, x, v)); }

UNARY(Floor, x_un(b, X_FLOOR, x))
UNARY(Ceil, x_un(b, X_CEIL, x))
UNARY(Round, x_un(b, X_ROUND, x))
UNARY(Sqrt, x_un(b, X_SQRT, x))
UNARY(Reciprocal, x_bin(b, X_DIV, num(b, x, 1), x))
UNARY(Exp, x_un(b, X_EXP, x))
UNARY(Log, x_un(b, X_LOG, x))
UNARY(Sin, x_un(b, X_SIN, x))
UNARY(Cos, x_un(b, X_COS, x))
UNARY(Tan, x_un(b, X_TAN, x))
UNARY(Asin, x_un(b, X_ASIN, x))
UNARY(Acos, x_un(b, X_ACOS, x))
UNARY(Atan, x_un(b, X_ATAN, x))
UNARY(Sinh, x_un(b, X_SINH, x))
UNARY(Cosh, x_un(b, X_COSH, x))
UNARY(Tanh, x_un(b, X_TANH, x))
UNARY(Asinh, x_un(b, X_ASINH, x))
UNARY(Acosh, x_un(b, X_ACOSH, x))
UNARY(Atanh, x_un(b, X_ATANH, x))
UNARY(Erf, x_un(b, X_ERF, x))
UNARY(Sigmoid, x_un(b, X_SIGMOID, x))

/* Of x <= 0 or NaN; what it gives for other x is not used. */
static Expr *exp_minus_1(Build *b, Expr *x) {
  Expr *t = s_let(b, "t", x_un(b, X_TANH, times(b, x, 0.5)));
  return x_bin(b, X_DIV, times(b, t, 2), x_sub(b, num(b, x, 1), t));
}

static Expr *elu(Build *b, Expr *x, double alpha, double inner) {
  Expr *low = at_most(b, x, 0);
  return x_select(b, is(b, X_GT, x, 0), x, times(b, exp_minus_1(b, inner == 1 ? low : x_bin(b, X_DIV, low, num(b, x, inner))), alpha));
}

static Expr *softplus(Build *b, Expr *x) {
  Expr *tail = x_un(b, X_LOG, plus(b, x_un(b, X_EXP, x_un(b, X_NEG, x_un(b, X_ABS, x))), 1));
  return x_add(b, at_least(b, x, 0), tail);
}

/* tanh(log(1 + e)) for e = exp(x) is (e*e + 2e) / (e*e + 2e + 2); 1 in f32 and f64 from x = 20 on. */
static Expr *mish(Build *b, Expr *x) {
  Expr *e = s_let(b, "e", x_un(b, X_EXP, at_most(b, x, 20)));
  Expr *m = s_let(b, "m", x_mul(b, e, plus(b, e, 2)));
  return x_mul(b, x, x_bin(b, X_DIV, m, plus(b, m, 2)));
}

static Expr *gelu(Build *b, Expr *x, bool by_tanh) {
  Expr *t;
  if (by_tanh) {
    Expr *cube = x_mul(b, x_mul(b, x, x), x);
    t = x_un(b, X_TANH, times(b, x_add(b, x, times(b, cube, 0.044715)), 0.79788456080286535588));   /* sqrt(2 / pi) */
  } else {
    t = x_un(b, X_ERF, times(b, x, 0.70710678118654752440));
  }
  return x_mul(b, times(b, x, 0.5), plus(b, t, 1));
}

static Expr *hard_sigmoid(Build *b, Expr *x, double alpha, double beta) {
  return at_least(b, at_most(b, plus(b, times(b, x, alpha), beta), 1), 0);
}

/* Integers in f64: the threshold may be a fraction. */
static Expr *shrink(Build *b, Expr *x, double lambd, double bias) {
  if (!dt_is_float(x->type.dt)) return x_cast(b, x->type.dt, shrink(b, s_let(b, "v", x_cast(b, DT_F64, x)), lambd, bias));
  Expr *high = x_select(b, is(b, X_GT, x, lambd), plus(b, x, -bias), num(b, x, 0));
  return x_select(b, is(b, X_LT, x, -lambd), plus(b, x, bias), high);
}

ACTIVATION(LeakyRelu, x_select(b, is(b, X_LT, x, 0), times(b, x, a->alpha), x))
ACTIVATION(Elu, elu(b, x, a->alpha, 1))
ACTIVATION(Selu, times(b, elu(b, x, a->alpha, 1), a->beta))
ACTIVATION(Celu, elu(b, x, a->alpha, a->alpha))
ACTIVATION(HardSigmoid, hard_sigmoid(b, x, a->alpha, a->beta))
ACTIVATION(HardSwish, x_mul(b, x, hard_sigmoid(b, x, 1.0 / 6, 0.5)))
ACTIVATION(Softplus, softplus(b, x))
ACTIVATION(Softsign, x_bin(b, X_DIV, x, plus(b, x_un(b, X_ABS, x), 1)))
ACTIVATION(ThresholdedRelu, x_select(b, is(b, X_GT, x, a->alpha), x, num(b, x, 0)))
ACTIVATION(Shrink, shrink(b, x, a->alpha, a->beta))
ACTIVATION(Gelu, gelu(b, x, a->alpha != 0))
ACTIVATION(Mish, mish(b, x))
ACTIVATION(Swish, x_mul(b, x, x_un(b, X_SIGMOID, a->alpha == 1 ? x : times(b, x, a->alpha))))
