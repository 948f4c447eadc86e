/* ops/reduce.c: ReduceSum, -Mean, -Max, -Min, -Prod over any axes.
 *
 * Neighbouring reduced axes whose elements lie evenly in memory are joined. Then, for each output place:
 *  - vectors along a kept dimension (the innermost, or the channels of a BLOCKED input): every lane sums on its own
 *  - or, when the innermost dimension is reduced: vectors along it, summed across lanes at the end
 *  - or one element at a time (types without vectors, short rows)
 * Nothing to reduce over gives the identity: 0, 1, -inf or inf (the extreme integers), NaN or 0 for a mean. Integer means are computed in
 * 64 bits and truncated. A NaN makes Max and Min NaN.
 */
#include "ops.h"
#include <math.h>

static bool reduced_axes(Graph *g, const Node *n, bool reduced[MAX_RANK]) {
  const ReduceAttr *a = n->attr;
  int rank = n->in[0]->shape.rank, axis;
  for (int i = 0; i < MAX_RANK; i++) reduced[i] = false;
  for (int i = 0; i < a->axes.n; i++) {
    if (!op_axis(g, n, a->axes.v[i], rank, &axis)) return false;
    if (reduced[axis]) REFUSE(g, n, NULL, "axis %d is given twice", axis);
    reduced[axis] = true;
  }
  return true;
}

bool infer_reduce(Graph *g, Node *n) {
  const ReduceAttr *a = n->attr;
  const Value *x = n->in[0];
  bool reduced[MAX_RANK];
  if (!op_check_computable(g, n, x, "the input") || !reduced_axes(g, n, reduced)) return false;
  if (x->dt == DT_BOOL && n->op != OP_ReduceMax && n->op != OP_ReduceMin) REFUSE(g, n, NULL, "the input is bool, expected numbers");
  Shape s = {0};
  for (int i = 0; i < x->shape.rank; i++) {
    if (!reduced[i]) s.d[s.rank++] = x->shape.d[i];
    else if (a->keepdims) s.d[s.rank++] = dim_of(1);
  }
  return op_set_out(g, n, 0, x->dt, &s);
}

/* ---- lowering ---- */

typedef struct Reduce {
  const Node *n;
  const Value *x;
  Fold fold;
  DType acc;
  bool mean;
  int from[MAX_RANK];          /* input dimension of each output dimension; -1: a kept extent of 1 */
  int64_t count;               /* elements folded into one */
  int nloops, ngeneral;
  int64_t extent[MAX_RANK], stride[MAX_RANK];
  int dim[MAX_RANK];           /* the dimension of a loop; -1: joined ones */
  bool by_coordinates;         /* the channels of a BLOCKED input are reduced: no strides */
  bool along;
  int lanes;
  /* while emitting */
  At at;                       /* input place of the first element */
  Expr *base;
} Reduce;

static Expr *reduce_term(Lower *l, Expr *const *i, int lanes, Expr *count, void *user) {
  Reduce *r = user;
  Build *b = &l->b;
  if (r->by_coordinates) {
    At at = r->at;
    for (int d = 0; d < r->nloops; d++) at.c[r->dim[d]] = i[d];
    return x_cast(b, r->acc, lower_load(l, r->x, &at));
  }
  Expr *e = r->base;
  for (int d = 0; d < r->nloops; d++) e = x_add(b, e, x_muli(b, i[d], r->stride[d]));
  if (!r->along) count = r->x->layout.kind == LAYOUT_BLOCKED ? NULL : r->at.count;
  return x_load_as(b, r->acc, lower_in(l, r->x), e, lanes, count, 1);
}

static void reduce_place(Lower *l, const At *at, void *user) {
  Reduce *r = user;
  Build *b = &l->b;
  r->at = at_zero(b, r->x->shape.rank);
  for (int d = 0; d < at->rank; d++)
    if (r->from[d] >= 0) r->at.c[r->from[d]] = at->c[d];
  if (at->lanes > 1) {
    r->at.lanes = at->lanes;
    r->at.vdim = r->from[at->vdim];
    r->at.count = at->count;
  }
  if (!r->by_coordinates) r->base = s_let(b, "base", lower_index(l, r->x, &r->at, NULL));
  Type t = type_of(r->acc, r->along ? r->lanes : at->lanes);
  Expr *e = fold_nest(l, r->fold, t, r->extent, r->nloops, r->along, reduce_term, r);
  if (r->mean && r->count != 1) e = x_bin(b, X_DIV, e, x_num(b, e->type, (double)r->count));
  lower_finish(l, r->n, x_cast(b, r->x->dt, e), at);
}

/* The loops over reduced dimensions, joined where one's stride is the next one's whole extent. */
static void plan_loops(Reduce *r, const bool *reduced) {
  const Value *x = r->x;
  r->by_coordinates = x->layout.kind == LAYOUT_BLOCKED && reduced[1];
  r->count = 1;
  for (int d = 0; d < x->shape.rank; d++) {
    int64_t n = x->shape.d[d].n;
    if (!reduced[d]) continue;
    r->count *= n;
    if (n == 1) continue;
    int64_t stride = r->by_coordinates ? 0 : value_stride(x, d);
    int last = r->nloops - 1;
    if (last >= 0 && !r->by_coordinates && r->stride[last] == n * stride) {
      r->extent[last] *= n;
      r->stride[last] = stride;
      continue;
    }
    r->dim[r->nloops] = d;
    r->extent[r->nloops] = n;
    r->stride[r->nloops++] = stride;
  }
}

static Expr *empty_point(Lower *l, const Node *n, const At *at, const void *user) {
  const Reduce *r = user;
  Type t = type_of(n->in[0]->dt, at->lanes);
  if (r->mean) return x_num(&l->b, t, dt_is_float(t.dt) ? NAN : 0);
  return fold_identity(&l->b, r->fold, t);
}

static Fold fold_of(Op op) {
  if (op == OP_ReduceProd) return FOLD_PROD;
  if (op == OP_ReduceMax) return FOLD_MAX;
  return op == OP_ReduceMin ? FOLD_MIN : FOLD_SUM;
}

static DType reduce_acc(Op op, DType t) {
  if (t == DT_F16 || t == DT_BF16) return DT_F32;
  return op == OP_ReduceMean && dt_is_int(t) && t != DT_U64 ? DT_I64 : t;
}

/* Decides where lanes run; gives the output dimension they run along, and their number in *lanes (1: none along the output). */
static int plan_lanes(Lower *l, const Node *n, Reduce *r, int *lanes) {
  const Value *x = r->x, *y = n->out[0];
  int last = y->shape.rank - 1, v = op_lanes(l, n, r->acc), vdim = MAXI(last, 0);
  bool blocked = x->layout.kind == LAYOUT_BLOCKED;
  *lanes = 1;
  if (blocked) {
    /* Lanes are channels, which have to be dimension 1 of the output too. */
    while (v > 1 && x->layout.block % v) v /= 2;
    if (!r->by_coordinates && y->shape.rank > 1 && r->from[1] == 1 && y->shape.d[1].n > 1) {
      *lanes = v;
      return 1;
    }
    return vdim;
  }
  if (y->layout.kind == LAYOUT_BLOCKED) return vdim;
  r->along = v > 1 && r->nloops > 0 && r->stride[r->nloops - 1] == 1 && r->extent[r->nloops - 1] >= v / 2;
  if (r->along) r->lanes = v;
  /* Kept extents of 1 at the end leave lanes to the last dimension that is more. */
  while (vdim > 0 && y->shape.d[vdim].n == 1) vdim--;
  bool contiguous = last >= 0 && r->from[vdim] >= 0 && value_stride(x, r->from[vdim]) == 1;
  if (!r->along && v > 1 && contiguous && y->shape.d[vdim].n >= v / 2) *lanes = v;
  return vdim;
}

void lower_reduce(Lower *l, const Node *n) {
  const ReduceAttr *a = n->attr;
  const Value *x = n->in[0], *y = n->out[0];
  bool reduced[MAX_RANK];
  if (value_count(y) == 0 || !reduced_axes(l->g, n, reduced)) return;
  Reduce r = {.n = n, .x = x, .fold = fold_of(n->op), .acc = reduce_acc(n->op, x->dt), .mean = n->op == OP_ReduceMean};
  if (value_count(x) == 0) {
    lower_points(l, n, "reduce nothing", empty_point, &r, POINT_VECTOR, 0);
    return;
  }
  int k = 0, lanes;
  for (int d = 0; d < x->shape.rank; d++) {
    if (!reduced[d]) r.from[k++] = d;
    else if (a->keepdims) r.from[k++] = -1;
  }
  plan_loops(&r, reduced);
  int vdim = plan_lanes(l, n, &r, &lanes);
  lower_open(l, n, "%s of %lld into %lld", op_info(n->op)->name, (long long)r.count, (long long)value_count(y));
  lower_nest(l, &y->shape, y->layout, vdim, lanes, reduce_place, &r);
  lower_body_in_place(l, n, 0);
  lower_close(l, (double)value_count(x));
}
