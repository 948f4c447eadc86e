/* ops/lrn.c: local response normalisation across channels: y = x / (bias + alpha/size * s)^beta, where s is the sum of squares of the
 * `size` channels around, floor((size-1)/2) of them before (ONNX LRN).
 */
#include "ops.h"

bool infer_lrn(Graph *g, Node *n) {
  const LrnAttr *a = n->attr;
  const Value *x = n->in[0];
  if (!op_check_float(g, n, x, "the input") || !op_check_rank(g, n, x, "the input", 2, MAX_RANK)) return false;
  if (a->size < 1 || a->size > INT32_MAX) REFUSE(g, n, NULL, "size is %lld, expected at least 1", (long long)a->size);
  return op_set_out(g, n, 0, x->dt, &x->shape);
}

/* base^-beta; the exponents that networks use need no pow. */
static Expr *inverse_power(Build *b, Expr *base, double beta) {
  Expr *one = x_num(b, base->type, 1);
  if (beta == 1) return x_bin(b, X_DIV, one, base);
  if (beta == 0.5) return x_bin(b, X_DIV, one, x_un(b, X_SQRT, base));
  if (beta == 0.75) {
    Expr *root = s_let(b, "root", x_un(b, X_SQRT, base));
    return x_bin(b, X_DIV, one, x_mul(b, root, x_un(b, X_SQRT, root)));
  }
  return x_bin(b, X_POW, base, x_float(b, base->type, -beta));
}

static Expr *lrn_point(Lower *l, const Node *n, const At *at, const void *user) {
  const LrnAttr *a = n->attr;
  const Value *x = n->in[0];
  Build *b = &l->b;
  (void)user;
  DType acc = acc_type(x->dt);
  Type t = type_of(acc, at->lanes);
  int64_t channels = x->shape.d[1].n, before = (a->size - 1) / 2, after = a->size - 1 - before;
  Var *sum = s_reg(b, "sum", x_num(b, t, 0));
  Expr *from = s_let(b, "from", x_bin(b, X_MAX, x_addi(b, at->c[1], -before), x_idx(b, 0)));
  Expr *to = s_let(b, "to", x_bin(b, X_MIN, x_addi(b, at->c[1], after + 1), x_idx(b, channels)));
  At near = *at;
  near.c[1] = s_for(b, "ch", from, to, 1);
  Expr *v = s_let(b, "v", x_cast(b, acc, lower_load(l, x, &near)));
  s_set(b, sum, x_fma(b, v, v, x_var(b, sum)));
  s_end(b);
  Expr *base = x_fma(b, x_var(b, sum), x_float(b, t, a->alpha / (double)a->size), x_float(b, t, a->bias));
  Expr *e = x_mul(b, x_cast(b, acc, lower_load(l, x, at)), inverse_power(b, s_let(b, "base", base), a->beta));
  return x_cast(b, x->dt, e);
}

void lower_lrn(Lower *l, const Node *n) {
  const Value *x = n->in[0];
  const LrnAttr *a = n->attr;
  /* Lanes run along the last axis: of a matrix that would be the channels themselves. */
  unsigned flags = x->shape.rank > 2 ? POINT_VECTOR : 0;
  lower_points(l, n, "lrn", lrn_point, NULL, flags, 2.0 * (double)MINI(a->size, x->shape.d[1].n) + 4);
}
