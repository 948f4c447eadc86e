/* op_reduce.c: reductions over axes, running sums, and the places of extremes.
 *
 * The composite ones do their elementwise part even where an empty list of axes means that nothing is reduced.
 */
#include "import.h"

#include <float.h>

typedef struct Reduction {
  Ints axes;
  bool keepdims;
} Reduction;

/* Axes are an attribute up to operator set 17 (ReduceSum: 12), an operand later; none given means all, or none if noop_with_empty_axes. */
static bool reduction(Onode *o, Reduction *r) {
  int rank = o->in[0]->shape.rank, since = o->row->op == OP_ReduceSum ? 13 : 18;
  bool given, noop = o->opset >= since && attr_flag(o, "noop_with_empty_axes", false);
  r->keepdims = attr_flag(o, "keepdims", true);
  if (o->opset < since && o->nin > 1) return onnx_bad(o, NULL, "axes are an attribute up to operator set %d", since - 1);
  if (!axes_of(o, 1, since, rank, &r->axes, &given) || o->failed) return false;
  if ((given && r->axes.n) || noop) return true;
  int64_t *all = NEW_N(o->im->arena, int64_t, rank);
  for (int i = 0; i < rank; i++) all[i] = i;
  r->axes = (Ints){all, rank};
  return true;
}

static Value *sum(Onode *o, Value *x, const Reduction *r) { return emit_reduce(o, OP_ReduceSum, x, r->axes, r->keepdims); }

bool onnx_reduce(Onode *o) {
  Reduction r;
  return reduction(o, &r) && onnx_out(o, 0, emit_reduce(o, o->row->op, o->in[0], r.axes, r.keepdims));
}

bool onnx_reduce_l1(Onode *o) {
  Reduction r;
  return reduction(o, &r) && onnx_out(o, 0, sum(o, emit1(o, OP_Abs, NULL, o->in[0]), &r));
}

static Value *sum_square(Onode *o, const Reduction *r) { return sum(o, emit2(o, OP_Mul, NULL, o->in[0], o->in[0]), r); }

/* The root of an integer is taken in floating point. */
bool onnx_reduce_l2(Onode *o) {
  Reduction r;
  DType dt = o->in[0]->dt;
  if (!reduction(o, &r)) return false;
  Value *y = emit_cast(o, sum_square(o, &r), dt_is_float(dt) ? dt : DT_F64);
  return onnx_out(o, 0, emit_cast(o, emit1(o, OP_Sqrt, NULL, y), dt));
}

bool onnx_reduce_sum_square(Onode *o) {
  Reduction r;
  return reduction(o, &r) && onnx_out(o, 0, sum_square(o, &r));
}

bool onnx_reduce_log_sum(Onode *o) {
  Reduction r;
  return reduction(o, &r) && onnx_out(o, 0, emit1(o, OP_Log, NULL, sum(o, o->in[0], &r)));
}

/* log(sum(exp(x - m))) + m with m the largest x, made finite so that infinities come through. */
bool onnx_reduce_log_sum_exp(Onode *o) {
  Reduction r;
  Value *x = o->in[0];
  if (!reduction(o, &r)) return false;
  double top = x->dt == DT_F64 ? DBL_MAX : (double)FLT_MAX;
  Value *m = emit1(o, OP_Clip, &(ClipAttr){.lo = -top, .hi = top}, emit_reduce(o, OP_ReduceMax, x, r.axes, true));
  Value *e = emit1(o, OP_Exp, NULL, emit2(o, OP_Sub, NULL, x, m));
  Value *y = emit2(o, OP_Add, NULL, emit1(o, OP_Log, NULL, emit_reduce(o, OP_ReduceSum, e, r.axes, true)), m);
  if (!y || r.keepdims) return onnx_out(o, 0, y);
  bool reduced[MAX_RANK] = {0};
  for (int i = 0; i < r.axes.n; i++) reduced[r.axes.v[i]] = true;
  Shape s = {0};
  for (int i = 0; i < x->shape.rank; i++)
    if (!reduced[i]) s.d[s.rank++] = x->shape.d[i];
  return onnx_out(o, 0, emit_reshape_to(o, y, &s));
}

bool onnx_arg(Onode *o) {
  ArgAttr a = {.axis = attr_axis(o, "axis", 0, o->in[0]->shape.rank),
               .keepdims = attr_flag(o, "keepdims", true),
               .select_last = attr_flag(o, "select_last_index", false)};
  return onnx_out(o, 0, emit1(o, o->row->op, &a, o->in[0]));
}

bool onnx_cumsum(Onode *o) {
  CumSumAttr a = {.exclusive = attr_flag(o, "exclusive", false), .reverse = attr_flag(o, "reverse", false)};
  int axis;
  if (!const_int(o, 1, "the axis", &a.axis)) return false;
  if (!axis_normalise(a.axis, o->in[0]->shape.rank, &axis)) return onnx_bad(o, NULL, "axis %lld is out of range", (long long)a.axis);
  a.axis = axis;
  return onnx_out(o, 0, emit1(o, OP_CumSum, &a, o->in[0]));
}
