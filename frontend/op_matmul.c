/* op_matmul.c: matrix products: operands of one dimension become matrices, Gemm its parts. */
#include "import.h"

#include <math.h>

/* numpy's rule: a vector on the left is a row, on the right a column, and its dimension leaves the result. */
Value *emit_matmul(Onode *o, Value *a, Value *b) {
  if (!a || !b || o->failed) return NULL;
  int ra = a->shape.rank, rb = b->shape.rank;
  if (ra < 1 || rb < 1) {
    onnx_bad(o, NULL, "an operand is a scalar");
    return NULL;
  }
  if (ra == 1) a = emit_reshape(o, a, 2, (int64_t[]){1, a->shape.d[0].n});
  if (rb == 1) b = emit_reshape(o, b, 2, (int64_t[]){b->shape.d[0].n, 1});
  Value *y = emit2(o, OP_MatMul, &(MatMulAttr){0}, a, b);
  if (!y || (ra > 1 && rb > 1)) return y;
  Shape s = {0};
  for (int i = 0, r = y->shape.rank; i < r; i++) {
    bool drop = (i == r - 2 && ra == 1) || (i == r - 1 && rb == 1);
    if (!drop) s.d[s.rank++] = y->shape.d[i];
  }
  return emit_reshape_to(o, y, &s);
}

bool onnx_matmul(Onode *o) { return onnx_out(o, 0, emit_matmul(o, o->in[0], o->in[1])); }

/* x * k, computed in the type of x. */
static Value *scaled(Onode *o, Value *x, double k) {
  if (!x || k == 1) return x;
  if (!dt_is_float(x->dt) && (fabs(k) > 0x1p31 || k != (double)(int64_t)k)) {
    onnx_refuse(o, NULL, "an integer product scaled by %g", k);
    return NULL;
  }
  return emit2(o, OP_Mul, NULL, x, emit_scalar(o, x->dt, k));
}

bool onnx_gemm(Onode *o) {
  MatMulAttr t = {.trans_a = attr_flag(o, "transA", false), .trans_b = attr_flag(o, "transB", false)};
  double alpha = attr_float(o, "alpha", 1), beta = attr_float(o, "beta", 1);
  if (o->opset < 7) attr_ignore(o, "broadcast");
  if (o->in[0]->shape.rank != 2 || o->in[1]->shape.rank != 2)
    return onnx_bad(o, NULL, "operands have ranks %d and %d, expected 2", o->in[0]->shape.rank, o->in[1]->shape.rank);
  Value *y = scaled(o, emit2(o, OP_MatMul, &t, o->in[0], o->in[1]), alpha);
  if (!y || !has_in(o, 2) || beta == 0) return onnx_out(o, 0, y);
  Shape s = y->shape;
  Value *sum = emit2(o, OP_Add, NULL, y, scaled(o, o->in[2], beta));
  if (sum && !shape_equal(&sum->shape, &s)) return onnx_bad(o, NULL, "the third operand does not broadcast to the product");
  return onnx_out(o, 0, sum);
}

/* The canonical operator reads ONNX's equations as they are. */
bool onnx_einsum(Onode *o) {
  const char *equation = attr_string(o, "equation", NULL);
  if (!equation) return !o->failed && onnx_bad(o, NULL, "attribute 'equation' is missing");
  for (int i = 0; i < o->nin; i++)
    if (!o->in[i]) return onnx_bad(o, NULL, "operand %d is missing", i + 1);
  return onnx_out(o, 0, emit(o, OP_Einsum, &(EinsumAttr){.equation = equation}, o->in, o->nin));
}
