/* ir/loop_eval.c: one operator of the loop IR on constants. See loop_eval.h for the representation of values. */
#include "loop_eval.h"

int64_t float_to_int(double x, DType to) {
  if (isnan(x)) return 0;
  int bits = xt_bits(to);
  if (xt_is_signed(to)) {
    double lim = ldexp(1, bits - 1);
    if (x >= lim) return (int64_t)(((uint64_t)1 << (bits - 1)) - 1);
    if (x < -lim) return bits == 64 ? INT64_MIN : -((int64_t)1 << (bits - 1));
    return (int64_t)x;
  }
  if (x <= 0) return 0;
  if (x >= ldexp(1, bits)) return bits == 64 ? -1 : ((int64_t)1 << bits) - 1;
  return (int64_t)(uint64_t)x;
}

double float_math(XOp op, double x) {
  switch ((int)op) {
  case X_SQRT: return sqrt(x);
  case X_FLOOR: return floor(x);
  case X_CEIL: return ceil(x);
  case X_ROUND: return nearbyint(x);
  case X_TRUNC: return trunc(x);
  case X_EXP: return exp(x);
  case X_LOG: return log(x);
  case X_SIN: return sin(x);
  case X_COS: return cos(x);
  case X_TAN: return tan(x);
  case X_ASIN: return asin(x);
  case X_ACOS: return acos(x);
  case X_ATAN: return atan(x);
  case X_SINH: return sinh(x);
  case X_COSH: return cosh(x);
  case X_TANH: return tanh(x);
  case X_ASINH: return asinh(x);
  case X_ACOSH: return acosh(x);
  case X_ATANH: return atanh(x);
  case X_ERF: return erf(x);
  case X_SIGMOID: return ev_sigmoid(x);
  }
  return x;
}

static bool eval_f32(XOp op, const XValue *v, XValue *out) {
  float a = (float)v[0].f, b = (float)v[1].f, r;
  switch ((int)op) {
  case X_ADD: r = a + b; break;
  case X_SUB: r = a - b; break;
  case X_MUL: r = a * b; break;
  case X_DIV: r = a / b; break;
  case X_REM: r = fmodf(a, b); break;
  case X_MIN: r = a < b ? a : b; break;
  case X_MAX: r = a > b ? a : b; break;
  case X_POW: r = (float)pow(a, b); break;
  case X_FMA: r = fmaf(a, b, (float)v[2].f); break;
  case X_NEG: r = -a; break;
  case X_ABS: r = fabsf(a); break;
  default:
    if (op != X_SQRT && op != X_FLOOR && op != X_CEIL && op != X_ROUND && op != X_TRUNC && !x_is_math(op)) return false;
    r = (float)float_math(op, a);
  }
  out->f = r;
  return true;
}

static bool eval_f64(XOp op, const XValue *v, XValue *out) {
  double a = v[0].f, b = v[1].f, r;
  switch ((int)op) {
  case X_ADD: r = a + b; break;
  case X_SUB: r = a - b; break;
  case X_MUL: r = a * b; break;
  case X_DIV: r = a / b; break;
  case X_REM: r = fmod(a, b); break;
  case X_MIN: r = a < b ? a : b; break;
  case X_MAX: r = a > b ? a : b; break;
  case X_POW: r = pow(a, b); break;
  case X_FMA: r = fma(a, b, v[2].f); break;
  case X_NEG: r = -a; break;
  case X_ABS: r = fabs(a); break;
  default:
    if (op != X_SQRT && op != X_FLOOR && op != X_CEIL && op != X_ROUND && op != X_TRUNC && !x_is_math(op)) return false;
    r = float_math(op, a);
  }
  out->f = r;
  return true;
}

static bool eval_int(XOp op, DType t, const XValue *v, XValue *out) {
  int64_t a = v[0].i, b = v[1].i, r;
  bool sgn = xt_is_signed(t), less = sgn ? a < b : (uint64_t)a < (uint64_t)b;
  int bits = xt_bits(t);
  switch ((int)op) {
  case X_ADD: r = ev_add(a, b); break;
  case X_SUB: r = ev_sub(a, b); break;
  case X_MUL: r = ev_mul(a, b); break;
  case X_DIV: r = sgn ? ev_div(a, b) : ev_divu(a, b); break;
  case X_REM: r = sgn ? ev_rem(a, b) : ev_remu(a, b); break;
  case X_MIN: r = less ? a : b; break;
  case X_MAX: r = less ? b : a; break;
  case X_AND: r = a & b; break;
  case X_OR: r = a | b; break;
  case X_XOR: r = a ^ b; break;
  case X_SHL: r = ev_shl(a, b, bits); break;
  case X_SHR: r = sgn ? ev_shr(a, b, bits) : ev_shru(a, b, bits); break;
  case X_FMA: r = ev_add(ev_mul(a, b), v[2].i); break;
  case X_NEG: r = ev_sub(0, a); break;
  case X_NOT: r = ~a; break;
  case X_ABS: r = sgn && a < 0 ? ev_sub(0, a) : a; break;
  default: return false;
  }
  out->i = int_wrap(t, r);
  return true;
}

static bool eval_bool(XOp op, const XValue *v, XValue *out) {
  int64_t a = v[0].i, b = v[1].i;
  switch ((int)op) {
  case X_AND: out->i = a & b; return true;
  case X_OR: out->i = a | b; return true;
  case X_XOR: out->i = a ^ b; return true;
  case X_NOT: out->i = !a; return true;
  }
  return false;
}

static bool eval_compare(XOp op, DType from, const XValue *v, XValue *out) {
  bool eq, lt, gt;
  if (dt_is_float(from)) eq = v[0].f == v[1].f, lt = v[0].f < v[1].f, gt = v[0].f > v[1].f;
  else if (from == DT_U64) eq = v[0].i == v[1].i, lt = (uint64_t)v[0].i < (uint64_t)v[1].i, gt = !eq && !lt;
  else eq = v[0].i == v[1].i, lt = v[0].i < v[1].i, gt = v[0].i > v[1].i;
  switch ((int)op) {
  case X_EQ: out->i = eq; return true;
  case X_NE: out->i = !eq; return true;
  case X_LT: out->i = lt; return true;
  case X_LE: out->i = lt || eq; return true;
  case X_GT: out->i = gt; return true;
  case X_GE: out->i = gt || eq; return true;
  }
  return false;
}

static void eval_cast(DType to, DType from, XValue a, XValue *out) {
  bool from_float = dt_is_float(from);
  if (to == DT_BOOL) out->i = from_float ? a.f != 0 : a.i != 0;
  else if (to == DT_F32) out->f = from_float ? (float)a.f : from == DT_U64 ? (float)(uint64_t)a.i : (float)a.i;
  else if (to == DT_F64) out->f = from_float ? a.f : from == DT_U64 ? (double)(uint64_t)a.i : (double)a.i;
  else out->i = from_float ? float_to_int(a.f, to) : int_wrap(to, a.i);
}

static bool eval_bitcast(DType to, DType from, XValue a, XValue *out) {
  if (xt_bits(to) != xt_bits(from) || to == DT_BOOL || from == DT_BOOL) return false;
  int64_t bits = from == DT_F32 ? f32_bits((float)a.f) : from == DT_F64 ? f64_bits(a.f) : a.i;
  if (to == DT_F32) out->f = bits_f32((int32_t)bits);
  else if (to == DT_F64) out->f = bits_f64(bits);
  else out->i = int_wrap(to, bits);
  return true;
}

bool x_eval(XOp op, DType to, DType from, const XValue *a, XValue *out) {
  if (op == X_CAST) {
    eval_cast(to, from, a[0], out);
    return true;
  }
  if (op == X_BITCAST) return eval_bitcast(to, from, a[0], out);
  if (op == X_SELECT) {
    *out = a[0].i ? a[1] : a[2];
    return true;
  }
  if (x_is_compare(op)) return eval_compare(op, from, a, out);
  if (from == DT_F32) return eval_f32(op, a, out);
  if (from == DT_F64) return eval_f64(op, a, out);
  if (from == DT_BOOL) return eval_bool(op, a, out);
  return xt_is_int(from) && eval_int(op, from, a, out);
}
