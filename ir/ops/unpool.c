/* ops/unpool.c: MaxUnpool: a zero tensor with each value stored where its index says, in the flat result.
 *
 * Indices are data: one outside the result is dropped; of equal ones the last in row-major order wins. They may point anywhere, so all of
 * it is one iteration.
 */
#include "ops.h"

bool infer_max_unpool(Graph *g, Node *n) {
  const UnpoolAttr *a = n->attr;
  const Value *x = n->in[0], *at = n->in[1];
  if (!op_check_computable(g, n, x, "the input") || !op_check_rank(g, n, x, "the input", 1, MAX_RANK)) return false;
  if (at->dt != DT_I64 || !shape_equal(&at->shape, &x->shape))
    REFUSE(g, n, NULL, "the indices are %s %s, expected i64 %s", dt_name(at->dt), shape_text(g->arena, &at->shape),
           shape_text(g->arena, &x->shape));
  if (!op_check_ints(g, n, "the output shape", a->shape, x->shape.rank, 0, EXTENT_MAX)) return false;
  Shape s = shape_of(a->shape.n, a->shape.v);
  return op_set_out(g, n, 0, x->dt, &s);
}

void lower_max_unpool(Lower *l, const Node *n) {
  const Value *x = n->in[0];
  Value *y = n->out[0];
  int64_t total = value_count(y), count = value_count(x);
  if (total == 0) return;
  Build *b = lower_open(l, n, "max_unpool %lld to %lld", (long long)count, (long long)total);
  lower_range(l, "r", 1);
  Var *px = lower_in(l, x), *pi = lower_in(l, n->in[1]), *py = lower_out(l, y);
  int lanes = x->dt == DT_F32 || x->dt == DT_I32 ? l->t->lanes : 1;
  int64_t whole = total / lanes * lanes;
  Expr *i = s_for(b, "i", x_idx(b, 0), x_idx(b, whole), lanes);
  s_store(b, py, i, x_num(b, type_of(x->dt, lanes), 0));
  s_end(b);
  if (whole < total) {
    i = s_for(b, "i", x_idx(b, whole), x_idx(b, total), 1);
    s_store(b, py, i, x_num(b, type_of(x->dt, 1), 0));
    s_end(b);
  }
  Expr *j = s_for_n(b, "j", count);
  Expr *at = s_let(b, "at", x_load(b, pi, j, 1));
  Type t = type_of(DT_I64, 1);
  s_if(b, x_bin(b, X_AND, x_bin(b, X_GE, at, x_int(b, t, 0)), x_bin(b, X_LT, at, x_int(b, t, total))));
  s_store(b, py, x_cast(b, DT_IDX, at), x_load(b, px, j, 1));
  s_end(b);
  s_end(b);
  lower_close(l, 0);
}
