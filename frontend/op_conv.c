/* op_conv.c: convolutions and pools: windows that slide over an image. Automatic padding and given output shapes end here as pads. */
#include "import.h"

#include <string.h>

static const char *const auto_pads[] = {"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", NULL};
enum { PADS_GIVEN, PADS_SAME_UPPER, PADS_SAME_LOWER, PADS_NONE };

/* Total padding split over both ends; an odd rest goes to the end, or to the begin for SAME_LOWER. */
static void split_pad(int64_t total, bool lower, int64_t *begin, int64_t *end) {
  total = MAXI(total, 0);
  *begin = lower ? total - total / 2 : total / 2;
  *end = total - *begin;
}

bool window_of(Onode *o, const Shape *x, Ints kernel, bool with_dilations, bool with_ceil, Window *w) {
  int n = x->rank - 2;
  if (n < 1) return onnx_bad(o, NULL, "the operand has rank %d, expected at least 3", x->rank);
  if (kernel.n != n) return onnx_bad(o, NULL, "a kernel of %d dimensions for an operand of rank %d", kernel.n, x->rank);
  Ints pads = attr_ints_n(o, "pads", 2 * n, 0, -MAX_DIM, MAX_DIM);
  int mode = attr_choice(o, "auto_pad", auto_pads, PADS_GIVEN);
  w->kernel = kernel;
  w->strides = attr_ints_n(o, "strides", n, 1, 1, MAX_DIM);
  w->dilations = with_dilations ? attr_ints_n(o, "dilations", n, 1, 1, MAX_DIM) : ints_fill(o->im->arena, 1, n);
  w->ceil_mode = with_ceil && attr_flag(o, "ceil_mode", false);
  int64_t *p = NEW_N(o->im->arena, int64_t, 2 * n);
  for (int i = 0; i < n; i++) {
    if (kernel.v[i] < 1 || kernel.v[i] > MAX_DIM) return onnx_bad(o, NULL, "a kernel of size %lld", (long long)kernel.v[i]);
    int64_t in = x->d[2 + i].n, out = (in + w->strides.v[i] - 1) / w->strides.v[i];
    int64_t span = (kernel.v[i] - 1) * w->dilations.v[i] + 1;
    if (mode == PADS_GIVEN) p[i] = pads.v[i], p[n + i] = pads.v[n + i];
    if (mode == PADS_SAME_UPPER || mode == PADS_SAME_LOWER)
      split_pad((out - 1) * w->strides.v[i] + span - in, mode == PADS_SAME_LOWER, &p[i], &p[n + i]);
  }
  w->pads = (Ints){p, 2 * n};
  return !o->failed;
}

/* The spatial dimensions of a convolution's weight; kernel_shape, if given, must agree. */
static bool weight_kernel(Onode *o, const Shape *x, const Shape *w, Ints *kernel) {
  if (x->rank < 3 || w->rank != x->rank) return onnx_bad(o, NULL, "weight has rank %d, the operand %d", w->rank, x->rank);
  int64_t *v = NEW_N(o->im->arena, int64_t, w->rank - 2);
  for (int i = 2; i < w->rank; i++) v[i - 2] = w->d[i].n;
  *kernel = (Ints){v, w->rank - 2};
  Ints given;
  if (attr_ints(o, "kernel_shape", &given) && !ints_equal(given, *kernel))
    return onnx_bad(o, NULL, "kernel_shape differs from the weight's shape");
  return !o->failed;
}

Value *emit_conv(Onode *o, Value *x, Value *w, Value *bias) {
  Window win;
  Ints kernel;
  if (!x || !w || !weight_kernel(o, &x->shape, &w->shape, &kernel) || !window_of(o, &x->shape, kernel, true, false, &win)) return NULL;
  ConvAttr a = {.strides = win.strides, .pads = win.pads, .dilations = win.dilations, .group = attr_int_in(o, "group", 1, 1, MAX_DIM)};
  return emit(o, OP_Conv, &a, (Value *[]){x, w, bias}, bias ? 3 : 2);
}

bool onnx_conv(Onode *o) { return onnx_out(o, 0, emit_conv(o, o->in[0], o->in[1], has_in(o, 2) ? o->in[2] : NULL)); }

/* ---- ConvTranspose ---- */

/* Pads so that the result has the given extent; where even no padding at all leaves it too small, the rest is output padding. */
static void pads_for(int64_t want, int64_t natural, bool lower, int64_t *begin, int64_t *end, int64_t *extra) {
  if (want > natural) *extra += want - natural;
  split_pad(natural - want, lower, begin, end);
}

bool onnx_conv_transpose(Onode *o) {
  const Shape *x = &o->in[0]->shape;
  Ints kernel, shape;
  if (!weight_kernel(o, x, &o->in[1]->shape, &kernel)) return false;
  int n = kernel.n;
  bool shaped = attr_ints(o, "output_shape", &shape);
  int mode = attr_choice(o, "auto_pad", auto_pads, PADS_GIVEN);
  Ints pads = attr_ints_n(o, "pads", 2 * n, 0, -MAX_DIM, MAX_DIM), extra = attr_ints_n(o, "output_padding", n, 0, 0, MAX_DIM);
  ConvTransposeAttr a = {.strides = attr_ints_n(o, "strides", n, 1, 1, MAX_DIM),
                         .dilations = attr_ints_n(o, "dilations", n, 1, 1, MAX_DIM),
                         .group = attr_int_in(o, "group", 1, 1, MAX_DIM)};
  if (o->failed) return false;
  /* Some exporters list batch and channels too. */
  if (shaped && shape.n == n + 2) shape = (Ints){shape.v + 2, n};
  if (shaped && shape.n != n) return onnx_bad(o, NULL, "output_shape has %d elements, expected %d", shape.n, n);
  int64_t p[2 * MAX_RANK] = {0}, op[MAX_RANK];
  for (int i = 0; i < n; i++) {
    int64_t in = x->d[2 + i].n, s = a.strides.v[i];
    int64_t natural = s * (in - 1) + extra.v[i] + (kernel.v[i] - 1) * a.dilations.v[i] + 1;
    bool same = mode == PADS_SAME_UPPER || mode == PADS_SAME_LOWER;
    if (kernel.v[i] < 1) return onnx_bad(o, NULL, "a kernel of size %lld", (long long)kernel.v[i]);
    if (shaped && (shape.v[i] < 1 || shape.v[i] > MAX_DIM)) return onnx_bad(o, NULL, "output_shape holds %lld", (long long)shape.v[i]);
    op[i] = extra.v[i];
    if (shaped)
      pads_for(shape.v[i], natural, mode != PADS_SAME_UPPER, &p[i], &p[n + i], &op[i]);
    else if (same)
      pads_for(in * s, natural, mode == PADS_SAME_LOWER, &p[i], &p[n + i], &op[i]);
    else if (mode == PADS_GIVEN)
      p[i] = pads.v[i], p[n + i] = pads.v[n + i];
  }
  a.pads = (Ints){p, 2 * n};
  a.output_padding = (Ints){op, n};
  return onnx_out(o, 0, emit(o, OP_ConvTranspose, &a, o->in, has_in(o, 2) ? 3 : 2));
}

/* ---- pools ---- */

bool onnx_pool(Onode *o) {
  Value *x = o->in[0];
  Op op = o->row->op;
  Ints kernel;
  Window w;
  bool max = op == OP_MaxPool, average = op == OP_AveragePool;
  if (!attr_ints(o, "kernel_shape", &kernel)) return !o->failed && onnx_bad(o, NULL, "attribute 'kernel_shape' is missing");
  if (!window_of(o, &x->shape, kernel, true, true, &w)) return false;
  if (max && dt_is_int(x->dt) && o->opset < 12) return onnx_bad(o, NULL, "integers are allowed from operator set 12 on");
  PoolAttr a = {.kernel = w.kernel, .strides = w.strides, .pads = w.pads, .dilations = w.dilations, .ceil_mode = w.ceil_mode};
  if (average) a.count_include_pad = attr_flag(o, "count_include_pad", false);
  if (max) a.column_major = attr_flag(o, "storage_order", false);
  if (op == OP_LpPool) a.p = attr_int_in(o, "p", 2, 1, MAX_DIM);
  for (int i = 0; i < a.pads.n; i++)
    if (a.pads.v[i] < 0) return onnx_refuse(o, NULL, "a pool with negative pads");
  Value *outs[2];
  if (!emit_outs(o, op, &a, &x, 1, outs)) return false;
  if (max) onnx_out(o, 1, outs[1]);
  return onnx_out(o, 0, outs[0]);
}

bool onnx_global_pool(Onode *o) {
  Value *x = o->in[0];
  if (x->shape.rank < 3) return onnx_bad(o, NULL, "the operand has rank %d, expected at least 3", x->shape.rank);
  return onnx_out(o, 0, emit_reduce(o, o->row->op, x, spatial_axes(o->im->arena, x->shape.rank), true));
}

bool onnx_global_lp_pool(Onode *o) {
  Value *x = o->in[0];
  int64_t p = attr_int_in(o, "p", 2, 1, MAX_DIM);
  if (x->shape.rank < 3) return onnx_bad(o, NULL, "the operand has rank %d, expected at least 3", x->shape.rank);
  Ints axes = spatial_axes(o->im->arena, x->shape.rank);
  if (p == 2) return onnx_out(o, 0, emit1(o, OP_Sqrt, NULL, emit_reduce(o, OP_ReduceSum, emit2(o, OP_Mul, NULL, x, x), axes, true)));
  Value *y = emit1(o, OP_Abs, NULL, x);
  if (p > 1) y = emit2(o, OP_Pow, NULL, y, emit_scalar(o, x->dt, (double)p));
  y = emit_reduce(o, OP_ReduceSum, y, axes, true);
  if (p > 1) y = emit2(o, OP_Pow, NULL, y, emit_scalar(o, x->dt, 1 / (double)p));
  return onnx_out(o, 0, y);
}

/* Indices count in the shape the attributes give; a larger output_shape adds zeros behind. */
bool onnx_max_unpool(Onode *o) {
  Value *x = o->in[0];
  int rank = x->shape.rank, n = rank - 2;
  Ints kernel, want = {0};
  if (rank < 3) return onnx_bad(o, NULL, "the operand has rank %d, expected at least 3", rank);
  if (!attr_ints(o, "kernel_shape", &kernel) || kernel.n != n)
    return !o->failed && onnx_bad(o, NULL, "kernel_shape must have %d elements", n);
  Ints strides = attr_ints_n(o, "strides", n, 1, 1, MAX_DIM), pads = attr_ints_n(o, "pads", 2 * n, 0, 0, MAX_DIM);
  if (o->failed || (has_in(o, 2) && !const_ints(o, 2, "the output shape", &want))) return false;
  int64_t dims[MAX_RANK] = {x->shape.d[0].n, x->shape.d[1].n}, more[2 * MAX_RANK] = {0};
  for (int i = 0; i < n; i++) {
    dims[2 + i] = (x->shape.d[2 + i].n - 1) * strides.v[i] - pads.v[i] - pads.v[n + i] + MINI(MAXI(kernel.v[i], 0), MAX_DIM);
    if (dims[2 + i] < 0 || dims[2 + i] > MAX_DIM)
      return onnx_bad(o, NULL, "the result would have a dimension of %lld", (long long)dims[2 + i]);
  }
  bool larger = false;
  if (has_in(o, 2)) {
    if (want.n != rank) return onnx_bad(o, NULL, "the output shape has %d elements, expected %d", want.n, rank);
    for (int i = 0; i < rank; i++) {
      if (want.v[i] < dims[i] || want.v[i] > MAX_DIM)
        return onnx_bad(o, NULL, "dimension %d of the output shape is %lld, expected at least %lld", i, (long long)want.v[i],
                        (long long)dims[i]);
      more[rank + i] = want.v[i] - dims[i];
      larger |= more[rank + i] != 0;
    }
  }
  Value *y = emit2(o, OP_MaxUnpool, &(UnpoolAttr){.shape = {dims, rank}}, x, emit_cast(o, o->in[1], DT_I64));
  return onnx_out(o, 0, larger ? emit1(o, OP_Pad, &(PadAttr){.pads = {more, 2 * rank}}, y) : y);
}
