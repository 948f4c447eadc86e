/* op_elementwise.c: ONNX operators that act on each element: arithmetic, comparisons, activations, type conversions. */
#include "import.h"

#include <float.h>
#include <math.h>
#include <string.h>

bool onnx_unary(Onode *o) { return onnx_out(o, 0, emit1(o, o->row->op, NULL, o->in[0])); }

/* ---- two operands ---- */

/* Before operator set 7 the second operand broadcasts only on request, its dimensions aligned at `axis` of the first. */
static Value *aligned(Onode *o, const Value *a, Value *b) {
  if (o->opset >= 7) return b;
  bool broadcast = attr_flag(o, "broadcast", false), given = attr_given(o, "axis");
  int64_t axis = attr_int(o, "axis", 0);
  if (!broadcast) {
    if (!shape_equal(&a->shape, &b->shape)) onnx_bad(o, NULL, "the operands differ in shape and broadcasting is not asked for");
    return b;
  }
  if (b->shape.rank > a->shape.rank) onnx_bad(o, NULL, "the second operand has more dimensions than the first");
  if (o->failed || !given) return b;
  if (axis < 0) axis += a->shape.rank;
  if (axis < 0 || axis + b->shape.rank > a->shape.rank) {
    onnx_bad(o, NULL, "axis %lld is out of range", (long long)axis);
    return b;
  }
  Shape s = b->shape;
  while (axis + s.rank < a->shape.rank) s.d[s.rank++] = dim_of(1);
  return emit_reshape_to(o, b, &s);
}

bool onnx_binary(Onode *o) {
  Value *b = aligned(o, o->in[0], o->in[1]);
  return onnx_out(o, 0, emit2(o, o->row->op, NULL, o->in[0], b));
}

bool onnx_mod(Onode *o) {
  bool fmod = attr_flag(o, "fmod", false);
  if (!fmod && dt_is_float(o->in[0]->dt)) return onnx_bad(o, NULL, "fmod must be 1 for floating point");
  return onnx_out(o, 0, emit2(o, OP_Mod, &(AlphaAttr){.alpha = fmod}, o->in[0], o->in[1]));
}

bool onnx_bit_shift(Onode *o) {
  static const char *const directions[] = {"RIGHT", "LEFT", NULL};
  if (!attr_given(o, "direction")) return onnx_bad(o, NULL, "attribute 'direction' is missing");
  int left = attr_choice(o, "direction", directions, 0);
  return onnx_out(o, 0, emit2(o, OP_BitShift, &(AlphaAttr){.alpha = left}, o->in[0], o->in[1]));
}

/* The result has the type of the base; an integer base with a fractional exponent is computed in the exponent's type. */
bool onnx_pow(Onode *o) {
  Value *x = o->in[0], *y = o->in[1];
  DType t = x->dt, at = !dt_is_float(t) && dt_is_float(y->dt) ? y->dt : t;
  if (o->opset < 7) y = aligned(o, x, y);
  return onnx_out(o, 0, emit_cast(o, emit2(o, OP_Pow, NULL, emit_cast(o, x, at), emit_cast(o, y, at)), t));
}

/* Before operator set 7 the slopes are one per channel, later they broadcast from the back. */
bool onnx_prelu(Onode *o) {
  Value *x = o->in[0], *slope = o->in[1];
  if (o->opset < 7 && slope->shape.rank == 1 && value_count(slope) > 1)
    slope = emit_channel(o, slope, x->shape.rank, MINI(1, x->shape.rank - 1));
  Value *y = emit2(o, OP_PRelu, NULL, x, slope);
  if (y && !shape_equal(&y->shape, &x->shape)) return onnx_bad(o, NULL, "the slope does not broadcast to the operand");
  return onnx_out(o, 0, y);
}

bool onnx_swiglu(Onode *o) {
  Value *gate = emit1(o, OP_Swish, &(AlphaAttr){.alpha = attr_float(o, "alpha", 1)}, o->in[0]);
  if (!shape_equal(&o->in[0]->shape, &o->in[1]->shape)) return onnx_bad(o, NULL, "the operands differ in shape");
  return onnx_out(o, 0, emit2(o, OP_Mul, NULL, gate, o->in[1]));
}

/* ---- any number of operands ---- */

bool onnx_variadic(Onode *o) {
  Value *x = o->in[0];
  for (int i = 1; i < o->nin; i++) {
    if (!o->in[i]) return onnx_bad(o, NULL, "operand %d is missing", i + 1);
    x = emit2(o, o->row->op, NULL, x, o->in[i]);
  }
  return onnx_out(o, 0, x);
}

bool onnx_mean(Onode *o) {
  Value *x = o->in[0];
  for (int i = 1; i < o->nin; i++) {
    if (!o->in[i]) return onnx_bad(o, NULL, "operand %d is missing", i + 1);
    x = emit2(o, OP_Add, NULL, x, o->in[i]);
  }
  if (o->nin > 1) x = emit2(o, OP_Div, NULL, x, emit_scalar(o, o->in[0]->dt, o->nin));
  return onnx_out(o, 0, x);
}

bool onnx_where(Onode *o) {
  if (o->in[1]->dt != o->in[2]->dt)
    return onnx_bad(o, NULL, "the two choices are of types %s and %s", dt_name(o->in[1]->dt), dt_name(o->in[2]->dt));
  return onnx_out(o, 0, emit3(o, OP_Where, NULL, o->in[0], o->in[1], o->in[2]));
}

/* ---- activations with parameters ---- */

typedef struct Parameters {
  Op op;
  const char *alpha, *beta; /* attribute names; NULL: none */
  double alpha_default, beta_default;
} Parameters;

static const Parameters parameters[] = {
    {OP_LeakyRelu, "alpha", NULL, (double)0.01f, 0},
    {OP_Elu, "alpha", NULL, 1, 0},
    {OP_Selu, "alpha", "gamma", 1.67326319217681884765625, 1.05070102214813232421875},
    {OP_Celu, "alpha", NULL, 1, 0},
    {OP_HardSigmoid, "alpha", "beta", (double)0.2f, 0.5},
    {OP_ThresholdedRelu, "alpha", NULL, 1, 0},
    {OP_Shrink, "lambd", "bias", 0.5, 0},
    {OP_Swish, "alpha", NULL, 1, 0},
};

bool onnx_alpha(Onode *o) {
  for (int i = 0; i < COUNTOF(parameters); i++) {
    const Parameters *p = &parameters[i];
    if (p->op != o->row->op) continue;
    AlphaAttr a = {.alpha = attr_float(o, p->alpha, p->alpha_default), .beta = p->beta ? attr_float(o, p->beta, p->beta_default) : 0};
    return onnx_out(o, 0, emit1(o, p->op, &a, o->in[0]));
  }
  return false;
}

bool onnx_gelu(Onode *o) {
  static const char *const forms[] = {"none", "tanh", NULL};
  int form = attr_choice(o, "approximate", forms, 0);
  return onnx_out(o, 0, emit1(o, OP_Gelu, &(AlphaAttr){.alpha = form}, o->in[0]));
}

bool onnx_is_inf(Onode *o) {
  AlphaAttr a = {.alpha = attr_flag(o, "detect_positive", true), .beta = attr_flag(o, "detect_negative", true)};
  return onnx_out(o, 0, emit1(o, OP_IsInf, &a, o->in[0]));
}

/* A bound given as an operand, as a scalar; must be one element. */
static Value *bound(Onode *o, int i) {
  if (value_count(o->in[i]) != 1) onnx_bad(o, NULL, "a bound has %lld elements, expected one", (long long)value_count(o->in[i]));
  return emit_reshape(o, o->in[i], 0, NULL);
}

bool onnx_clip(Onode *o) {
  Value *x = o->in[0];
  ClipAttr c = {.lo = -(double)INFINITY, .hi = (double)INFINITY};
  if (o->opset < 11) {
    c.lo = attr_float(o, "min", -(double)FLT_MAX);
    c.hi = attr_float(o, "max", (double)FLT_MAX);
    return onnx_out(o, 0, emit1(o, OP_Clip, &c, x));
  }
  bool lo = has_in(o, 1), hi = has_in(o, 2);
  if (!lo && !hi) return onnx_out(o, 0, x);
  bool fixed = dt_is_float(x->dt) && (!lo || value_is_const(o->in[1])) && (!hi || value_is_const(o->in[2]));
  if (fixed) {
    if (lo) const_float(o, 1, "the lower bound", &c.lo);
    if (hi) const_float(o, 2, "the upper bound", &c.hi);
    return onnx_out(o, 0, emit1(o, OP_Clip, &c, x));
  }
  /* Integers go through Max and Min: not every bound of theirs is a double. */
  if (lo) x = emit2(o, OP_Max, NULL, x, bound(o, 1));
  if (hi) x = emit2(o, OP_Min, NULL, x, bound(o, 2));
  return onnx_out(o, 0, x);
}

/* ---- conversions ---- */

bool onnx_cast(Onode *o) {
  Value *x = o->in[0];
  attr_ignore(o, "saturate"); /* of 8-bit floats only */
  attr_ignore(o, "round_mode");
  if (!attr_given(o, "to")) return onnx_bad(o, NULL, "attribute 'to' is missing");
  const char *why;
  DType to = onnx_dtype(attr_int(o, "to", 0), &why);
  if (!to) return !o->failed && onnx_refuse(o, NULL, "element type %s is not supported", why);
  if (!dt_computable(x->dt) && !value_is_const(x)) return onnx_refuse(o, NULL, "element type %s is not supported", dt_name(x->dt));
  if (!dt_computable(to) && !value_is_const(x)) return onnx_refuse(o, NULL, "element type %s is not supported", dt_name(to));
  return onnx_out(o, 0, emit_cast(o, x, to));
}

bool onnx_cast_like(Onode *o) {
  Value *x = o->in[0];
  DType to = o->in[1]->dt;
  attr_ignore(o, "saturate");
  attr_ignore(o, "round_mode");
  if ((!dt_computable(x->dt) || !dt_computable(to)) && !value_is_const(x))
    return onnx_refuse(o, NULL, "a conversion from %s to %s is not supported", dt_name(x->dt), dt_name(to));
  return onnx_out(o, 0, emit_cast(o, x, to));
}

/* Kernels convert numbers, not bits: constants only, and types of the same bits. */
bool onnx_bit_cast(Onode *o) {
  Value *x = o->in[0];
  DType to = attr_dtype(o, "to", DT_NONE);
  if (!to) return !o->failed && onnx_bad(o, NULL, "attribute 'to' is missing");
  if (dt_size(to) != dt_size(x->dt)) return onnx_bad(o, NULL, "%s and %s differ in size", dt_name(x->dt), dt_name(to));
  if (to == x->dt) return onnx_out(o, 0, x);
  bool integers = dt_is_int(to) && dt_is_int(x->dt);
  if (value_is_const(x) && to != DT_BOOL) return onnx_out(o, 0, emit_const(o, to, &x->shape, x->data));
  if (integers || (x->dt == DT_BOOL && dt_is_int(to))) return onnx_out(o, 0, emit_cast(o, x, to));
  return onnx_refuse(o, NULL, "reinterpreting %s as %s is supported for constants only", dt_name(x->dt), dt_name(to));
}

bool onnx_identity(Onode *o) { return onnx_out(o, 0, o->in[0]); }

/* Inference: nothing is dropped. */
bool onnx_dropout(Onode *o) {
  int64_t training = 0;
  double ratio = 0.5;
  attr_ignore(o, "seed");
  attr_ignore(o, "ratio");
  attr_ignore(o, "is_test");
  if (o->opset < 12 && o->nin > 1) return onnx_bad(o, NULL, "%d operands given, one expected", o->nin);
  if (has_in(o, 2) && !const_int(o, 2, "the training mode", &training)) return false;
  if (training && has_in(o, 1) && !const_float(o, 1, "the ratio", &ratio)) return false;
  if (training && ratio != 0) return onnx_refuse(o, "export the model for inference", "dropout in training mode draws random numbers");
  if (wants_out(o, 1)) onnx_out(o, 1, emit_full(o, o->opset < 10 ? o->in[0]->dt : DT_BOOL, &o->in[0]->shape, 1));
  return onnx_out(o, 0, o->in[0]);
}
