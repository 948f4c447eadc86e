/* op_move.c: ONNX operators that choose or place elements at positions known at compile time: slices, splits, pads, triangles. */
#include "import.h"

#include <math.h>

/* ---- Slice ---- */

static int64_t clamp(int64_t x, int64_t lo, int64_t hi) { return MINI(MAXI(x, lo), hi); }

/* Clamps one axis as the specification says and gives start and size of the canonical form. */
static void slice_axis(int64_t extent, int64_t start, int64_t end, int64_t step, int64_t *out_start, int64_t *out_size) {
  int64_t last = step > 0 ? extent : extent - 1;
  start = clamp(start < 0 ? start + extent : start, 0, last);
  end = clamp(end < 0 ? end + extent : end, step > 0 ? 0 : -1, last);
  int64_t span = step > 0 ? end - start : start - end;
  int64_t by = step > 0 ? step : step == INT64_MIN ? INT64_MAX : -step;
  *out_size = span > 0 ? (span - 1) / by + 1 : 0;
  *out_start = *out_size ? start : 0;
}

static bool slice_operands(Onode *o, Ints *starts, Ints *ends, Ints *axes, Ints *steps) {
  *axes = *steps = (Ints){0};
  if (o->opset < 10) {
    bool have_starts = attr_ints(o, "starts", starts), have_ends = attr_ints(o, "ends", ends);
    attr_ints(o, "axes", axes);
    if (o->failed) return false;
    return (have_starts && have_ends) || onnx_bad(o, NULL, "starts or ends are missing");
  }
  return const_ints(o, 1, "the list of starts", starts) && const_ints(o, 2, "the list of ends", ends) &&
         (!has_in(o, 3) || const_ints(o, 3, "the list of axes", axes)) && (!has_in(o, 4) || const_ints(o, 4, "the list of steps", steps));
}

bool onnx_slice(Onode *o) {
  Value *x = o->in[0];
  int rank = x->shape.rank;
  Ints starts, ends, axes, steps;
  if (!slice_operands(o, &starts, &ends, &axes, &steps)) return false;
  if (ends.n != starts.n || (axes.n && axes.n != starts.n) || (steps.n && steps.n != starts.n) || starts.n > rank)
    return onnx_bad(o, NULL, "%d starts, %d ends, %d axes and %d steps for rank %d", starts.n, ends.n, axes.n, steps.n, rank);
  int64_t start[MAX_RANK] = {0}, step[MAX_RANK], size[MAX_RANK];
  for (int i = 0; i < rank; i++) step[i] = 1, size[i] = x->shape.d[i].n;
  unsigned seen = 0;
  for (int i = 0; i < starts.n; i++) {
    int axis = i;
    if (axes.n && !axis_normalise(axes.v[i], rank, &axis))
      return onnx_bad(o, NULL, "axis %lld is out of range for rank %d", (long long)axes.v[i], rank);
    if (seen >> axis & 1) return onnx_bad(o, NULL, "axis %d is given twice", axis);
    seen |= 1u << axis;
    int64_t by = steps.n ? steps.v[i] : 1;
    if (by == 0) return onnx_bad(o, NULL, "a step is 0");
    slice_axis(x->shape.d[axis].n, starts.v[i], ends.v[i], by, &start[axis], &size[axis]);
    step[axis] = size[axis] > 1 ? by : 1; /* a step past the end means nothing */
  }
  bool whole = true;
  for (int i = 0; i < rank; i++) whole &= step[i] == 1 && size[i] == x->shape.d[i].n;
  SliceAttr a = {.starts = {start, rank}, .steps = {step, rank}, .sizes = {size, rank}};
  return onnx_out(o, 0, whole ? x : emit1(o, OP_Slice, &a, x));
}

/* ---- Split ---- */

/* The lengths of the parts: given; or equal; or, with num_outputs, equal but for a smaller last one. */
static bool split_sizes(Onode *o, int64_t extent, Ints *sizes) {
  bool given = o->opset < 13 ? attr_ints(o, "split", sizes) : has_in(o, 1);
  if (given && o->opset >= 13 && !const_ints(o, 1, "the list of lengths", sizes)) return false;
  if (o->failed) return false;
  if (given) return true;
  int64_t n = attr_int_in(o, "num_outputs", o->nout, 1, MAX_LIST);
  if (o->failed || n != o->nout) return !o->failed && onnx_bad(o, NULL, "num_outputs is %lld, %d outputs are named", (long long)n, o->nout);
  if (extent % n && o->opset < 18) return onnx_bad(o, NULL, "%lld elements do not split into %d equal parts", (long long)extent, o->nout);
  int64_t *v = NEW_N(o->im->arena, int64_t, n), part = (extent + n - 1) / n, left = extent;
  for (int64_t i = 0; i < n; i++, left -= v[i - 1]) v[i] = MINI(part, left);
  *sizes = (Ints){v, (int)n};
  return true;
}

bool onnx_split(Onode *o) {
  Value *x = o->in[0];
  Ints sizes = {0};
  int axis = attr_axis(o, "axis", 0, x->shape.rank);
  if (o->failed || !split_sizes(o, x->shape.d[axis].n, &sizes)) return false;
  if (sizes.n != o->nout) return onnx_bad(o, NULL, "%d lengths given, %d outputs are named", sizes.n, o->nout);
  int64_t at = 0, extent = x->shape.d[axis].n;
  for (int i = 0; i < sizes.n; i++) {
    if (sizes.v[i] < 0 || sizes.v[i] > extent - at) return onnx_bad(o, NULL, "the lengths do not add up to %lld", (long long)extent);
    if (wants_out(o, i) && !onnx_out(o, i, emit_slice(o, x, axis, at, sizes.v[i]))) return false;
    at += sizes.v[i];
  }
  return at == extent || onnx_bad(o, NULL, "the lengths add up to %lld, not %lld", (long long)at, (long long)extent);
}

/* ---- Pad ---- */

static bool pad_amounts(Onode *o, int rank, int64_t *out) {
  Ints pads, axes = {0};
  bool given = false;
  if (o->opset < 11 ? !attr_ints(o, "pads", &pads) : !const_ints(o, 1, "the list of pads", &pads))
    return !o->failed && onnx_bad(o, NULL, "no pads");
  if (o->opset >= 18 && !axes_of(o, 3, 18, rank, &axes, &given)) return false;
  int n = given ? axes.n : rank;
  if (pads.n != 2 * n) return onnx_bad(o, NULL, "%d pads given for %d axes", pads.n, n);
  for (int i = 0; i < 2 * rank; i++) out[i] = 0;
  for (int i = 0; i < n; i++) {
    int axis = given ? (int)axes.v[i] : i;
    out[axis] = pads.v[i];
    out[rank + axis] = pads.v[n + i];
  }
  for (int i = 0; i < 2 * rank; i++)
    if (out[i] < -MAX_DIM || out[i] > MAX_DIM) return onnx_bad(o, NULL, "a pad of %lld", (long long)out[i]);
  return true;
}

bool onnx_pad(Onode *o) {
  static const char *const modes[] = {"constant", "reflect", "edge", "wrap", NULL};
  Value *x = o->in[0];
  int64_t pads[2 * MAX_RANK];
  PadAttr a = {.mode = (PadMode)attr_choice(o, "mode", modes, PAD_CONSTANT)};
  if (o->opset < 11) a.value = attr_float(o, "value", 0);
  if (!pad_amounts(o, x->shape.rank, pads)) return false;
  if (o->opset >= 11 && has_in(o, 2) && !const_float(o, 2, "the padding value", &a.value)) return false;
  if (fabs(a.value) > 0x1p53 && !dt_is_float(x->dt)) return onnx_refuse(o, NULL, "integers are padded with values up to 2^53 only");
  a.pads = (Ints){pads, 2 * x->shape.rank};
  bool none = true;
  for (int i = 0; i < a.pads.n; i++) none &= pads[i] == 0;
  return onnx_out(o, 0, none ? x : emit1(o, OP_Pad, &a, x));
}

/* Centred: an odd rest is cropped from the end and padded at the end. */
bool onnx_center_crop_pad(Onode *o) {
  Value *x = o->in[0];
  int rank = x->shape.rank;
  Ints want, axes;
  bool given;
  if (!axes_of(o, 1, INT32_MAX, rank, &axes, &given) || !const_ints(o, 1, "the target shape", &want)) return false;
  if (want.n != (given ? axes.n : rank)) return onnx_bad(o, NULL, "%d sizes given for %d axes", want.n, given ? axes.n : rank);
  int64_t pads[2 * MAX_RANK] = {0};
  for (int i = 0; i < want.n; i++) {
    int axis = given ? (int)axes.v[i] : i;
    int64_t have = x->shape.d[axis].n, to = want.v[i];
    if (to < 0 || to > MAX_DIM) return onnx_bad(o, NULL, "a size of %lld", (long long)to);
    int64_t begin = to > have ? (to - have) / 2 : -((have - to) / 2);
    pads[axis] = begin;
    pads[rank + axis] = to - have - begin;
  }
  bool none = true;
  for (int i = 0; i < 2 * rank; i++) none &= pads[i] == 0;
  return onnx_out(o, 0, none ? x : emit1(o, OP_Pad, &(PadAttr){.pads = {pads, 2 * rank}}, x));
}

/* ---- others ---- */

bool onnx_trilu(Onode *o) {
  TriluAttr a = {.upper = attr_flag(o, "upper", true)};
  if (has_in(o, 1) && !const_int(o, 1, "the diagonal", &a.k)) return false;
  a.k = MINI(MAXI(a.k, -MAX_DIM), MAX_DIM);
  return onnx_out(o, 0, emit1(o, OP_Trilu, &a, o->in[0]));
}

bool onnx_reverse_sequence(Onode *o) {
  ReverseSequenceAttr a = {.batch_axis = attr_int_in(o, "batch_axis", 1, 0, 1), .time_axis = attr_int_in(o, "time_axis", 0, 0, 1)};
  if (o->in[0]->shape.rank < 2) return onnx_bad(o, NULL, "the operand has rank %d, expected at least 2", o->in[0]->shape.rank);
  if (a.batch_axis == a.time_axis) return onnx_bad(o, NULL, "batch_axis and time_axis are the same");
  return onnx_out(o, 0, emit2(o, OP_ReverseSequence, &a, o->in[0], o->in[1]));
}
