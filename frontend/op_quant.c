/* op_quant.c: linear quantisation, and the integer operators that come with it.
 *
 * QuantizeLinear and DequantizeLinear become elementwise operators. Integer products are exact: the canonical Conv and MatMul add integers
 * of 8 and 16 bits up in 32; an operand with a zero point is widened to 16 bits, where the difference fits, and those without stay as they
 * are.
 */
#include "import.h"

#include <math.h>
#include <string.h>

/* A scale or zero point of one element, of one per channel of `axis`, or, with a block size, of one per block of that axis, in a shape that
 * broadcasts to x. */
static Value *granular(Onode *o, Value *v, const Shape *x, int64_t axis, int64_t block) {
  int at;
  if (!v || value_count(v) == 1) return v ? emit_reshape(o, v, 0, NULL) : NULL;
  if (!axis_normalise(axis, x->rank, &at)) {
    onnx_bad(o, NULL, "axis %lld is out of range for rank %d", (long long)axis, x->rank);
    return NULL;
  }
  int64_t n = x->d[at].n;
  if (!block && v->shape.rank == 1 && value_count(v) == n) return emit_channel(o, v, x->rank, at);
  bool blocked = block > 0 && v->shape.rank == x->rank && v->shape.d[at].n == (n + block - 1) / block;
  for (int i = 0; blocked && i < x->rank; i++) blocked = i == at || v->shape.d[i].n == x->d[i].n;
  if (!blocked || x->rank == MAX_RANK) {
    onnx_bad(o, NULL, "the scale or zero point fits neither the whole operand nor its axis %d", at);
    return NULL;
  }
  Shape one = {.rank = x->rank + 1}, many, flat = *x;
  for (int i = 0; i < one.rank; i++) one.d[i] = i <= at ? v->shape.d[i] : i == at + 1 ? dim_of(1) : v->shape.d[i - 1];
  many = shape_with(&one, at + 1, block);
  flat.d[at] = dim_of(v->shape.d[at].n * block);
  v = emit_reshape_to(o, emit_expand(o, emit_reshape_to(o, v, &one), &many), &flat);
  return emit_slice(o, v, at, 0, n); /* the last block may be cut short */
}

static bool all_zero(const Value *v) {
  double x;
  return !v || (value_scalar_f(v, &x) && x == 0);
}

/* saturate(round(x) + zero). */
static Value *saturated(Onode *o, Value *x, Value *zero, DType to) {
  if (!x) return NULL;
  int bits = dt_bits(to);
  ClipAttr range = {.lo = dt_is_signed(to) ? -ldexp(1, bits - 1) : 0, .hi = ldexp(1, dt_is_signed(to) ? bits - 1 : bits) - 1};
  Value *y = emit1(o, OP_Round, NULL, x);
  if (!all_zero(zero)) y = emit2(o, OP_Add, NULL, y, emit_cast(o, zero, x->dt));
  return emit_cast(o, emit1(o, OP_Clip, &range, y), to);
}

/* x and scale: of one floating type, of shapes that broadcast. */
static Value *quantize(Onode *o, Value *x, Value *scale, Value *zero, DType to) {
  return saturated(o, emit2(o, OP_Div, NULL, x, scale), zero, to);
}

static bool quantized_type(Onode *o, DType t) {
  return t == DT_I8 || t == DT_U8 || t == DT_I16 || t == DT_U16 || onnx_refuse(o, NULL, "quantised type %s is not supported", dt_name(t));
}

bool onnx_quantize(Onode *o) {
  Value *x = o->in[0], *scale = o->in[1], *zero = has_in(o, 2) ? o->in[2] : NULL;
  const Shape *s = &x->shape;
  int64_t axis = attr_int(o, "axis", 1), block = attr_int_in(o, "block_size", 0, 0, MAX_DIM);
  DType out = attr_dtype(o, "output_dtype", DT_NONE), at = attr_dtype(o, "precision", DT_NONE);
  attr_ignore(o, "saturate"); /* of 8-bit floats only */
  if (o->failed) return false;
  if (zero && out && out != zero->dt) return onnx_bad(o, NULL, "output_dtype is %s, the zero point %s", dt_name(out), dt_name(zero->dt));
  if (zero) out = zero->dt;
  if (!out) out = DT_U8;
  if (!at) at = scale->dt;
  if (!quantized_type(o, out)) return false;
  if (!dt_is_float(at)) return onnx_refuse(o, NULL, "a precision of type %s", dt_name(at));
  scale = granular(o, scale, s, axis, block);
  zero = granular(o, zero, s, axis, block);
  return onnx_out(o, 0, quantize(o, emit_cast(o, x, at), emit_cast(o, scale, at), zero, out));
}

bool onnx_dequantize(Onode *o) {
  Value *x = o->in[0], *scale = o->in[1], *zero = has_in(o, 2) ? o->in[2] : NULL;
  const Shape *s = &x->shape;
  int64_t axis = attr_int(o, "axis", 1), block = attr_int_in(o, "block_size", 0, 0, MAX_DIM);
  DType at = attr_dtype(o, "output_dtype", scale->dt);
  if (o->failed) return false;
  if (!dt_is_float(at)) return onnx_bad(o, NULL, "output_dtype is %s", dt_name(at));
  if (x->dt != DT_I32 && !quantized_type(o, x->dt)) return false;
  scale = granular(o, scale, s, axis, block);
  zero = all_zero(zero) ? NULL : granular(o, zero, s, axis, block);
  /* Of 32 bits, the difference is taken before rounding to floating point. */
  if (zero && x->dt == DT_I32) x = emit2(o, OP_Sub, NULL, x, zero), zero = NULL;
  Value *y = emit_cast(o, x, at);
  if (zero) y = emit2(o, OP_Sub, NULL, y, emit_cast(o, zero, at));
  return onnx_out(o, 0, emit2(o, OP_Mul, NULL, y, emit_cast(o, scale, at)));
}

/* Scale and zero point of u8 from the operand's range, which is made to include 0. */
bool onnx_dynamic_quantize(Onode *o) {
  Value *x = o->in[0], *none = emit_scalar(o, x->dt, 0);
  Ints all = {(int64_t[]){0, 1, 2, 3, 4, 5, 6, 7}, x->shape.rank};
  if (x->dt != DT_F32) return onnx_bad(o, NULL, "the operand is %s, expected f32", dt_name(x->dt));
  Value *hi = emit2(o, OP_Max, NULL, emit_reduce(o, OP_ReduceMax, x, all, false), none);
  Value *lo = emit2(o, OP_Min, NULL, emit_reduce(o, OP_ReduceMin, x, all, false), none);
  Value *scale = emit2(o, OP_Div, NULL, emit2(o, OP_Sub, NULL, hi, lo), emit_scalar(o, x->dt, 255));
  Value *zero = emit2(o, OP_Div, NULL, emit1(o, OP_Neg, NULL, lo), scale);
  zero = emit1(o, OP_Round, NULL, emit1(o, OP_Clip, &(ClipAttr){.lo = 0, .hi = 255}, zero));
  onnx_out(o, 1, scale);
  onnx_out(o, 2, emit_cast(o, zero, DT_U8));
  return onnx_out(o, 0, quantize(o, x, scale, zero, DT_U8));
}

/* ---- integer products ---- */

/* x - zero, in 16 bits unless there is nothing to subtract. zero: of a shape that broadcasts to x without growing it. */
static Value *centred(Onode *o, Value *x, Value *zero) {
  if (all_zero(zero)) return x;
  Value *y = emit2(o, OP_Sub, NULL, emit_cast(o, x, DT_I16), emit_cast(o, zero, DT_I16));
  if (y && !shape_equal(&y->shape, &x->shape)) {
    onnx_bad(o, NULL, "a zero point does not fit its operand");
    return NULL;
  }
  return y;
}

/* Per output channel of a convolution's weight. */
static Value *per_channel(Onode *o, Value *v, const Value *w) {
  if (!v || value_count(v) == 1) return v ? emit_reshape(o, v, 0, NULL) : NULL;
  if (v->shape.rank == 1 && w->shape.rank && v->shape.d[0].n == w->shape.d[0].n) return v;
  onnx_bad(o, NULL, "a scale or zero point fits neither the weight nor its output channels");
  return NULL;
}

static Value *integer_conv(Onode *o, Value *x, Value *x_zero, Value *w, Value *w_zero, Value *bias) {
  if (x_zero && value_count(x_zero) != 1) {
    onnx_bad(o, NULL, "the zero point of the input must be one number");
    return NULL;
  }
  Value *zero = per_channel(o, w_zero, w);
  if (zero && zero->shape.rank) zero = emit_channel(o, zero, w->shape.rank, 0);
  x = centred(o, x, x_zero ? emit_reshape(o, x_zero, 0, NULL) : NULL);
  return emit_conv(o, x, centred(o, w, zero), bias);
}

/* A list for a matrix product's left operand is one number per row, for its right one per column; others broadcast as they are. */
static Value *per_row(Onode *o, Value *v, const Value *a, bool left) {
  if (!v || value_count(v) == 1) return v ? emit_reshape(o, v, 0, NULL) : NULL;
  if (left && v->shape.rank == 1 && a->shape.rank > 1) return emit_reshape(o, v, 2, (int64_t[]){v->shape.d[0].n, 1});
  return v;
}

static Value *integer_matmul(Onode *o, Value *a, Value *a_zero, Value *b, Value *b_zero) {
  a = centred(o, a, per_row(o, a_zero, a, true));
  return emit_matmul(o, a, centred(o, b, per_row(o, b_zero, b, false)));
}

bool onnx_conv_integer(Onode *o) {
  Value *x_zero = has_in(o, 2) ? o->in[2] : NULL, *w_zero = has_in(o, 3) ? o->in[3] : NULL;
  return onnx_out(o, 0, integer_conv(o, o->in[0], x_zero, o->in[1], w_zero, NULL));
}

bool onnx_matmul_integer(Onode *o) {
  Value *a_zero = has_in(o, 2) ? o->in[2] : NULL, *b_zero = has_in(o, 3) ? o->in[3] : NULL;
  return onnx_out(o, 0, integer_matmul(o, o->in[0], a_zero, o->in[1], b_zero));
}

/* The sums of products, each worth x_scale * w_scale, in steps of y_scale. */
static Value *requantize(Onode *o, Value *sum, Value *scale, Value *y_scale, Value *y_zero) {
  if (value_count(y_scale) != 1 || value_count(y_zero) != 1) {
    onnx_bad(o, NULL, "scale and zero point of the result must be one number each");
    return NULL;
  }
  Value *unit = emit_reshape(o, y_scale, 0, NULL);
  if (!unit || !sum) return NULL;
  Value *y = emit2(o, OP_Mul, NULL, emit_cast(o, sum, unit->dt), emit2(o, OP_Div, NULL, scale, unit));
  return saturated(o, y, emit_reshape(o, y_zero, 0, NULL), y_zero->dt);
}

bool onnx_qlinear_conv(Onode *o) {
  Value *bias = has_in(o, 8) ? o->in[8] : NULL;
  Value *sum = integer_conv(o, o->in[0], o->in[2], o->in[3], o->in[5], bias);
  Value *w_scale = per_channel(o, o->in[4], o->in[3]);
  if (!sum || !w_scale) return false;
  if (value_count(o->in[1]) != 1) return onnx_bad(o, NULL, "the scale of the input must be one number");
  if (w_scale->shape.rank) w_scale = emit_channel(o, w_scale, sum->shape.rank, 1);
  Value *scale = emit2(o, OP_Mul, NULL, emit_reshape(o, o->in[1], 0, NULL), w_scale);
  return onnx_out(o, 0, requantize(o, sum, scale, o->in[6], o->in[7]));
}

bool onnx_qlinear_matmul(Onode *o) {
  Value *a = o->in[0], *b = o->in[3];
  Value *sum = integer_matmul(o, a, o->in[2], b, o->in[5]);
  Value *scale = emit2(o, OP_Mul, NULL, per_row(o, o->in[1], a, true), per_row(o, o->in[4], b, false));
  return onnx_out(o, 0, requantize(o, sum, scale, o->in[6], o->in[7]));
}
