/* ops/arg.c: ArgMax, ArgMin, and the scan for the place of an extreme that Hardmax shares. NaN wins over every number, as in numpy. */
#include "ops.h"

bool infer_arg(Graph *g, Node *n) {
  const ArgAttr *a = n->attr;
  const Value *x = n->in[0];
  int axis;
  if (!op_check_computable(g, n, x, "the input") || !op_axis(g, n, a->axis, x->shape.rank, &axis)) return false;
  int64_t extent = x->shape.d[axis].n;
  if (extent < 1 || extent > INT32_MAX)
    REFUSE(g, n, NULL, "axis %d has %lld elements, expected 1 to %d", axis, (long long)extent, INT32_MAX);
  Shape s = {0};
  for (int i = 0; i < x->shape.rank; i++) {
    if (i != axis) s.d[s.rank++] = x->shape.d[i];
    else if (a->keepdims) s.d[s.rank++] = dim_of(1);
  }
  return op_set_out(g, n, 0, DT_I64, &s);
}

Expr *arg_scan(Lower *l, const Value *x, const At *at, int axis, bool largest, bool last) {
  Build *b = &l->b;
  DType t = x->dt == DT_BOOL ? DT_I32 : x->dt == DT_F16 || x->dt == DT_BF16 ? DT_F32 : x->dt;
  At from = *at;
  from.c[axis] = x_idx(b, 0);
  Var *best = s_reg(b, "best", x_cast(b, t, lower_load(l, x, &from)));
  Var *place = s_reg(b, "place", x_int(b, type_of(DT_I32, at->lanes), 0));
  Expr *j = s_for(b, "j", x_idx(b, 1), x_idx(b, x->shape.d[axis].n), 1);
  from.c[axis] = j;
  Expr *v = s_let(b, "v", x_cast(b, t, lower_load(l, x, &from)));
  Expr *better = x_bin(b, largest ? (last ? X_GE : X_GT) : last ? X_LE : X_LT, v, x_var(b, best));
  if (dt_is_float(t)) {
    better = x_bin(b, X_OR, better, x_is_nan(b, v));
    if (!last) better = x_bin(b, X_AND, better, x_bin(b, X_EQ, x_var(b, best), x_var(b, best)));
  }
  better = s_let(b, "better", better);
  s_set(b, best, x_select(b, better, v, x_var(b, best)));
  s_set(b, place, x_select(b, better, x_cast(b, DT_I32, j), x_var(b, place)));
  s_end(b);
  return x_var(b, place);
}

typedef struct ArgPlan { const Node *n; int axis; } ArgPlan;

static void arg_place(Lower *l, const At *at, void *user) {
  const ArgPlan *r = user;
  Build *b = &l->b;
  const ArgAttr *a = r->n->attr;
  const Value *x = r->n->in[0];
  At from = at_zero(b, x->shape.rank);
  for (int d = 0, o = 0; d < x->shape.rank; d++) {
    if (d == r->axis && !a->keepdims) continue;
    if (at->lanes > 1 && o == at->vdim) from.vdim = d;
    from.c[d] = at->c[o++];
  }
  from.lanes = at->lanes;
  from.count = at->count;
  Expr *place = arg_scan(l, x, &from, r->axis, r->n->op == OP_ArgMax, a->select_last);
  if (at->lanes == 1) {
    lower_finish(l, r->n, x_cast(b, DT_I64, place), at);
    return;
  }
  /* i64 has no vectors: lane by lane. */
  int64_t count = at->lanes;
  bool fixed = !at->count || x_is_int(at->count, &count);
  for (int i = 0; i < count; i++) {
    At one = *at;
    one.lanes = 1;
    one.count = NULL;
    one.c[at->vdim] = x_addi(b, at->c[at->vdim], i);
    if (!fixed) s_if(b, x_bin(b, X_LT, x_idx(b, i), at->count));
    lower_finish(l, r->n, x_cast(b, DT_I64, x_extract(b, place, i)), &one);
    if (!fixed) s_end(b);
  }
}

void lower_arg(Lower *l, const Node *n) {
  const ArgAttr *a = n->attr;
  const Value *x = n->in[0], *y = n->out[0];
  ArgPlan r = {.n = n};
  if (value_count(y) == 0 || !op_axis(l->g, n, a->axis, x->shape.rank, &r.axis)) return;
  int last = MAXI(y->shape.rank - 1, 0);
  bool vectors = (x->dt == DT_F32 || x->dt == DT_I32) && r.axis < x->shape.rank - 1 && y->shape.d[last].n >= l->t->lanes;
  lower_open(l, n, "%s of %lld", op_info(n->op)->name, (long long)x->shape.d[r.axis].n);
  lower_nest(l, &y->shape, y->layout, last, vectors ? l->t->lanes : 1, arg_place, &r);
  lower_body_in_place(l, n, 0);
  lower_close(l, (double)value_count(x));
}
