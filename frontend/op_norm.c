/* op_norm.c: normalisations and softmaxes.
 *
 * With constant parameters BatchNormalization is one multiplication and one addition per channel, their factors computed in double:
 *   scale * (x - mean) / sqrt(var + eps) + bias  =  x * s + (bias - mean * s),  s = scale / sqrt(var + eps)
 * The others are Normalize, then the parameters.
 */
#include "import.h"

#include <math.h>
#include <string.h>

/* ---- BatchNormalization ---- */

static bool fold_parameters(Onode *o, Value **factor, Value **shift) {
  double eps = attr_float(o, "epsilon", (double)1e-5f);
  DType dt = o->in[0]->dt;
  const Value *p[4];
  for (int i = 0; i < 4; i++) p[i] = o->in[1 + i];
  const Shape *s = &p[0]->shape;
  void *f = made_data(o, dt, s), *b = f ? made_data(o, dt, s) : NULL;
  if (!b) return false;
  for (int64_t i = 0, n = shape_count(s); i < n; i++) {
    double scale = data_get_f(p[0]->data, p[0]->dt, i), bias = data_get_f(p[1]->data, p[1]->dt, i);
    double mean = data_get_f(p[2]->data, p[2]->dt, i), var = data_get_f(p[3]->data, p[3]->dt, i);
    double k = scale / sqrt(var + eps);
    data_set_f(f, dt, i, k);
    data_set_f(b, dt, i, bias - mean * k);
  }
  *factor = emit_const(o, dt, s, f);
  *shift = emit_const(o, dt, s, b);
  return true;
}

static void compute_parameters(Onode *o, Value **factor, Value **shift) {
  Value *eps = emit_scalar(o, o->in[4]->dt, attr_float(o, "epsilon", (double)1e-5f));
  Value *dev = emit1(o, OP_Sqrt, NULL, emit2(o, OP_Add, NULL, o->in[4], eps));
  DType dt = o->in[0]->dt;
  *factor = emit2(o, OP_Div, NULL, emit_cast(o, o->in[1], dt), emit_cast(o, dev, dt));
  *shift = emit2(o, OP_Sub, NULL, emit_cast(o, o->in[2], dt), emit2(o, OP_Mul, NULL, emit_cast(o, o->in[3], dt), *factor));
}

bool onnx_batch_norm(Onode *o) {
  Value *x = o->in[0], *factor, *shift;
  int rank = x->shape.rank;
  bool fixed = true;
  attr_ignore(o, "momentum");
  if (o->opset < 7 && !attr_flag(o, "is_test", false))
    return onnx_refuse(o, "export the model for inference", "batch normalization in training mode");
  if (attr_flag(o, "training_mode", false)) return onnx_refuse(o, "export the model for inference", "batch normalization in training mode");
  if (!attr_flag(o, "spatial", true)) return onnx_refuse(o, NULL, "batch normalization with statistics for each element (spatial = 0)");
  for (int i = 1; i < o->nout; i++)
    if (wants_out(o, i)) return onnx_refuse(o, "export the model for inference", "output %d exists in training mode only", i + 1);
  if (rank < 2) return onnx_bad(o, NULL, "the operand has rank %d, expected at least 2", rank);
  for (int i = 1; i < 5; i++) {
    if (o->in[i]->shape.rank != 1 || o->in[i]->shape.d[0].n != x->shape.d[1].n)
      return onnx_bad(o, NULL, "operand %d must be a list of %lld", i + 1, (long long)x->shape.d[1].n);
    fixed &= value_is_const(o->in[i]);
  }
  if (!fixed)
    compute_parameters(o, &factor, &shift);
  else if (!fold_parameters(o, &factor, &shift))
    return false;
  Value *y = emit2(o, OP_Mul, NULL, x, emit_channel(o, factor, rank, 1));
  return onnx_out(o, 0, emit2(o, OP_Add, NULL, y, emit_channel(o, shift, rank, 1)));
}

/* ---- Normalize and its parameters ---- */

static Ints axes_from(Onode *o, int axis, int rank) {
  int64_t *v = NEW_N(o->im->arena, int64_t, rank - axis);
  for (int i = axis; i < rank; i++) v[i - axis] = i;
  return (Ints){v, rank - axis};
}

static Value *normalize(Onode *o, Value *x, Ints axes, double eps, bool center, Value **stats) {
  Value *outs[3] = {NULL, NULL, NULL};
  if (x) emit_outs(o, OP_Normalize, &(NormalizeAttr){.axes = axes, .eps = eps, .center = center}, &x, 1, outs);
  if (stats) stats[0] = outs[1], stats[1] = outs[2];
  return outs[0];
}

/* y * scale + bias, both per channel. */
static Value *scale_channels(Onode *o, Value *y, Value *scale, Value *bias, int rank) {
  y = emit2(o, OP_Mul, NULL, y, emit_channel(o, scale, rank, 1));
  return emit2(o, OP_Add, NULL, y, emit_channel(o, bias, rank, 1));
}

static bool is_list(Onode *o, int i, int64_t n) {
  const Shape *s = &o->in[i]->shape;
  return (s->rank == 1 && s->d[0].n == n) || onnx_bad(o, NULL, "operand %d must be a list of %lld", i + 1, (long long)n);
}

bool onnx_instance_norm(Onode *o) {
  Value *x = o->in[0];
  int rank = x->shape.rank;
  double eps = attr_float(o, "epsilon", (double)1e-5f);
  if (rank < 3) return onnx_bad(o, NULL, "the operand has rank %d, expected at least 3", rank);
  if (!is_list(o, 1, x->shape.d[1].n) || !is_list(o, 2, x->shape.d[1].n)) return false;
  Value *y = normalize(o, x, spatial_axes(o->im->arena, rank), eps, true, NULL);
  return onnx_out(o, 0, scale_channels(o, y, o->in[1], o->in[2], rank));
}

/* Parameters per group in operator sets 18 to 20, per channel from 21 on. */
bool onnx_group_norm(Onode *o) {
  Value *x = o->in[0];
  int rank = x->shape.rank;
  double eps = attr_float(o, "epsilon", (double)1e-5f);
  attr_ignore(o, "stash_type");
  if (rank < 2) return onnx_bad(o, NULL, "the operand has rank %d, expected at least 2", rank);
  int64_t c = x->shape.d[1].n, groups = attr_int_in(o, "num_groups", 0, 1, MAX_DIM);
  if (o->failed || c % groups)
    return !o->failed && onnx_bad(o, NULL, "%lld groups do not divide %lld channels", (long long)groups, (long long)c);
  bool per_group = o->opset < 21;
  if (!is_list(o, 1, per_group ? groups : c) || !is_list(o, 2, per_group ? groups : c)) return false;
  int64_t rest = c / groups * shape_count_from(&x->shape, 2);
  Value *y = emit_reshape(o, x, 3, (int64_t[]){x->shape.d[0].n, groups, rest});
  y = normalize(o, y, axes_from(o, 2, 3), eps, true, NULL);
  if (per_group) return onnx_out(o, 0, emit_reshape_to(o, scale_channels(o, y, o->in[1], o->in[2], 3), &x->shape));
  return onnx_out(o, 0, scale_channels(o, emit_reshape_to(o, y, &x->shape), o->in[1], o->in[2], rank));
}

/* The parameters broadcast to the operand, never the other way round. */
static bool same_shape(Onode *o, const Value *y, const Value *x) {
  return y && (shape_equal(&y->shape, &x->shape) || onnx_bad(o, NULL, "the parameters do not broadcast to the operand"));
}

bool onnx_layer_norm(Onode *o) {
  Value *x = o->in[0], *stats[2];
  int rank = x->shape.rank, axis = attr_axis(o, "axis", -1, rank);
  double eps = attr_float(o, "epsilon", (double)1e-5f);
  attr_ignore(o, "stash_type");
  if (o->failed) return false;
  Value *y = normalize(o, x, axes_from(o, axis, rank), eps, true, stats);
  y = emit2(o, OP_Mul, NULL, y, o->in[1]);
  if (has_in(o, 2)) y = emit2(o, OP_Add, NULL, y, o->in[2]);
  onnx_out(o, 1, stats[0]);
  onnx_out(o, 2, stats[1]);
  return same_shape(o, y, x) && onnx_out(o, 0, y);
}

bool onnx_rms_norm(Onode *o) {
  Value *x = o->in[0];
  int rank = x->shape.rank, axis = attr_axis(o, "axis", -1, rank);
  double eps = attr_float(o, "epsilon", (double)1e-5f);
  attr_ignore(o, "stash_type");
  if (o->failed) return false;
  Value *y = emit2(o, OP_Mul, NULL, normalize(o, x, axes_from(o, axis, rank), eps, false, NULL), o->in[1]);
  return same_shape(o, y, x) && onnx_out(o, 0, y);
}

/* The specification divides by the deviation plus 1e-9: where there is no deviation, 1e-18 under the root is the same. */
bool onnx_mean_variance_norm(Onode *o) {
  static const int64_t usual[] = {0, 2, 3};
  Value *x = o->in[0];
  Ints axes;
  bool given;
  if (!axes_of(o, 1, INT32_MAX, x->shape.rank, &axes, &given)) return false;
  if (!given && x->shape.rank != 4) return onnx_bad(o, NULL, "the operand has rank %d, expected 4", x->shape.rank);
  return onnx_out(o, 0, normalize(o, x, given ? axes : (Ints){usual, 3}, 1e-18, true, NULL));
}

/* x / |x|, and 0 where the norm is 0. */
bool onnx_lp_norm(Onode *o) {
  Value *x = o->in[0];
  int axis = attr_axis(o, "axis", -1, x->shape.rank);
  bool two = attr_int_in(o, "p", 2, 1, 2) == 2;
  if (o->failed) return false;
  Ints axes = {(int64_t[]){axis}, 1};
  Value *norm = emit_reduce(o, OP_ReduceSum, two ? emit2(o, OP_Mul, NULL, x, x) : emit1(o, OP_Abs, NULL, x), axes, true);
  if (two) norm = emit1(o, OP_Sqrt, NULL, norm);
  Value *zero = emit2(o, OP_Equal, NULL, norm, emit_scalar(o, x->dt, 0));
  norm = emit3(o, OP_Where, NULL, zero, emit_scalar(o, x->dt, 1), norm);
  return onnx_out(o, 0, emit2(o, OP_Div, NULL, x, norm));
}

bool onnx_lrn(Onode *o) {
  LrnAttr a = {.size = attr_int_in(o, "size", 0, 1, MAX_DIM),
               .alpha = attr_float(o, "alpha", (double)1e-4f),
               .beta = attr_float(o, "beta", 0.75),
               .bias = attr_float(o, "bias", 1)};
  return onnx_out(o, 0, emit1(o, OP_Lrn, &a, o->in[0]));
}

/* ---- softmaxes ---- */

/* Before operator set 13 all dimensions from the axis on count as one. */
bool onnx_softmax(Onode *o) {
  Value *x = o->in[0];
  const Shape *s = &x->shape;
  int axis = attr_axis(o, "axis", o->opset < 13 ? 1 : -1, s->rank);
  if (o->failed) return false;
  bool flat = o->opset < 13 && shape_count_from(s, axis + 1) != 1;
  Value *y = !flat ? x : emit_reshape(o, x, 2, (int64_t[]){shape_count_to(s, axis), shape_count_from(s, axis)});
  y = emit1(o, o->row->op, &(AxisAttr){.axis = flat ? 1 : axis}, y);
  return onnx_out(o, 0, flat ? emit_reshape_to(o, y, s) : y);
}
