/* op_gather.c: ONNX operators that read or write at positions held in tensors. Positions known now are checked now. */
#include "import.h"

#include <string.h>

/* Constant positions must lie in -extent .. extent-1; the others are clamped where they are read. */
static bool check_indices(Onode *o, const Value *v, int64_t first, int64_t stride, int64_t extent) {
  if (!value_is_const(v)) return true;
  for (int64_t i = first, n = value_count(v); i < n; i += stride) {
    int64_t x = data_get_i(v->data, v->dt, i);
    if (x < -extent || x >= extent) return onnx_bad(o, NULL, "index %lld is outside 0 to %lld", (long long)x, (long long)extent - 1);
  }
  return true;
}

/* The tuples of GatherND and ScatterND: as many numbers as the index's last dimension says, from dimension `from` of x on. */
static bool check_tuples(Onode *o, const Value *x, const Value *index, int from) {
  int rank = index->shape.rank;
  if (rank < 1 || x->shape.rank < 1) return onnx_bad(o, NULL, "operands must have at least one dimension");
  int64_t k = index->shape.d[rank - 1].n;
  if (k < 1 || from + k > x->shape.rank)
    return onnx_bad(o, NULL, "indices of %lld numbers for an operand of rank %d", (long long)k, x->shape.rank);
  for (int i = 0; i < k; i++)
    if (!check_indices(o, index, i, k, x->shape.d[from + i].n)) return false;
  return true;
}

bool onnx_gather(Onode *o) {
  Value *x = o->in[0], *index = o->in[1];
  GatherAttr a = {0};
  if (o->row->op == OP_GatherND) {
    a.batch_dims = attr_int_in(o, "batch_dims", 0, 0, MAX_RANK);
    if (a.batch_dims >= x->shape.rank || a.batch_dims >= index->shape.rank)
      return !o->failed &&
             onnx_bad(o, NULL, "%lld batch dimensions for ranks %d and %d", (long long)a.batch_dims, x->shape.rank, index->shape.rank);
    if (!check_tuples(o, x, index, (int)a.batch_dims)) return false;
  } else {
    a.axis = attr_axis(o, "axis", 0, x->shape.rank);
    if (o->failed || !check_indices(o, index, 0, 1, x->shape.d[a.axis].n)) return false;
  }
  return onnx_out(o, 0, emit2(o, o->row->op, &a, x, index));
}

bool onnx_scatter(Onode *o) {
  static const char *const reductions[] = {"none", "add", "mul", "max", "min", NULL};
  Value *x = o->in[0], *index = o->in[1];
  ScatterAttr a = {.reduction = (ScatterReduction)attr_choice(o, "reduction", reductions, SCATTER_NONE)};
  if (o->row->op == OP_ScatterND) {
    if (!check_tuples(o, x, index, 0)) return false;
  } else {
    a.axis = attr_axis(o, "axis", 0, x->shape.rank);
    if (o->failed || !check_indices(o, index, 0, 1, x->shape.d[a.axis].n)) return false;
  }
  if (value_count(index) == 0) return onnx_out(o, 0, x);
  return onnx_out(o, 0, emit3(o, o->row->op, &a, x, index, o->in[2]));
}

bool onnx_one_hot(Onode *o) {
  Value *index = o->in[0], *values = o->in[2];
  OneHotAttr a = {.axis = attr_axis(o, "axis", -1, index->shape.rank + 1)};
  if (!const_int(o, 1, "the depth", &a.depth)) return false;
  if (a.depth < 1 || a.depth > MAX_DIM) return onnx_bad(o, NULL, "the depth is %lld", (long long)a.depth);
  if (values->shape.rank != 1 || value_count(values) != 2) return onnx_bad(o, NULL, "the values must be a list of two");
  if (index->shape.rank >= MAX_RANK)
    return onnx_refuse(o, NULL, "a tensor of %d dimensions; at most %d are supported", index->shape.rank + 1, MAX_RANK);
  return onnx_out(o, 0, emit2(o, OP_OneHot, &a, emit_cast(o, index, DT_I64), values));
}

/* Operand k: attribute, then operand; which extremes and whether in order: attributes since 11. */
bool onnx_topk(Onode *o) {
  Value *x = o->in[0];
  if (x->shape.rank < 1) return onnx_bad(o, NULL, "the operand is a scalar");
  TopKAttr a = {
      .axis = attr_axis(o, "axis", -1, x->shape.rank), .largest = attr_flag(o, "largest", true), .sorted = attr_flag(o, "sorted", true)};
  if (o->failed) return false;
  if (o->opset < 10)
    a.k = attr_int(o, "k", -1);
  else if (!const_int(o, 1, "k", &a.k))
    return false;
  int64_t extent = x->shape.d[a.axis].n;
  if (a.k < 0 || a.k > extent) return onnx_bad(o, NULL, "k is %lld, the axis has %lld elements", (long long)a.k, (long long)extent);
  Value *outs[2];
  if (!emit_outs(o, OP_TopK, &a, &x, 1, outs)) return false;
  onnx_out(o, 1, outs[1]);
  return onnx_out(o, 0, outs[0]);
}
