/* ops/cumsum.c: running sums along an axis; forwards or backwards, with or without the element itself. Vectors run along the innermost
 * dimension when it is not the axis. */
#include "ops.h"

bool infer_cumsum(Graph *g, Node *n) {
  const CumSumAttr *a = n->attr;
  const Value *x = n->in[0];
  int axis;
  if (!op_check_computable(g, n, x, "the input") || !op_axis(g, n, a->axis, x->shape.rank, &axis)) return false;
  if (x->dt == DT_BOOL) REFUSE(g, n, NULL, "the input is bool, expected numbers");
  return op_set_out(g, n, 0, x->dt, &x->shape);
}

typedef struct Running { const Node *n; int axis; } Running;

static void cumsum_place(Lower *l, const At *at, void *user) {
  const Running *r = user;
  Build *b = &l->b;
  const CumSumAttr *a = r->n->attr;
  const Value *x = r->n->in[0];
  DType acc = x->dt == DT_F16 || x->dt == DT_BF16 ? DT_F32 : x->dt;
  int64_t n = x->shape.d[r->axis].n;
  Var *sum = s_reg(b, "sum", x_num(b, type_of(acc, at->lanes), 0));
  Expr *j = s_for(b, "j", x_idx(b, 0), x_idx(b, n), 1);
  At here = *at;
  here.c[r->axis] = a->reverse ? x_sub(b, x_idx(b, n - 1), j) : j;
  Expr *v = s_let(b, "v", x_cast(b, acc, lower_load(l, x, &here)));
  if (a->exclusive) lower_store(l, r->n->out[0], &here, x_cast(b, x->dt, x_var(b, sum)));
  s_set(b, sum, x_add(b, x_var(b, sum), v));
  if (!a->exclusive) lower_store(l, r->n->out[0], &here, x_cast(b, x->dt, x_var(b, sum)));
  s_end(b);
}

void lower_cumsum(Lower *l, const Node *n) {
  const CumSumAttr *a = n->attr;
  const Value *x = n->in[0];
  Running r = {.n = n};
  if (value_count(x) == 0 || !op_axis(l->g, n, a->axis, x->shape.rank, &r.axis)) return;
  Shape rows = x->shape;
  rows.d[r.axis] = dim_of(1);
  int last = x->shape.rank - 1;
  lower_open(l, n, "cumsum of %lld", (long long)x->shape.d[r.axis].n);
  lower_nest(l, &rows, n->out[0]->layout, last, r.axis == last ? 1 : lower_lanes(l, n), cumsum_place, &r);
  lower_close(l, (double)value_count(x));
}
