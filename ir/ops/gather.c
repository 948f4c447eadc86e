/* ops/gather.c: Gather, GatherElements, GatherND, OneHot: reading at indices that are tensors.
 *
 * Indices are known at run time only. What ONNX calls an error, an index outside [-n, n), reads the nearest valid element instead:
 * generated code never leaves its buffers.
 */
#include "ops.h"

Expr *safe_index(Lower *l, Expr *index, int64_t extent) {
  Build *b = &l->b;
  bool negative = dt_is_signed(index->type.dt);
  Expr *i = s_let(b, "index", x_cast(b, DT_IDX, index));
  if (negative) i = x_select(b, x_bin(b, X_LT, i, x_idx(b, 0)), x_addi(b, i, extent), i);
  return s_let(b, "index", x_clamp_idx(b, i, 0, extent - 1));
}

Expr *index_at(Lower *l, const Value *indices, const At *at, int64_t extent) {
  return safe_index(l, lower_load_broadcast(l, indices, at, 0), extent);
}

/* ---- inference ---- */

static bool check_indices(Graph *g, const Node *n, const Value *v) {
  if (!dt_is_int(v->dt)) REFUSE(g, n, NULL, "indices are %s, expected integers", dt_name(v->dt));
  return true;
}

static bool push_dim(Graph *g, const Node *n, Shape *s, Dim d) {
  if (s->rank == MAX_RANK) REFUSE(g, n, NULL, "the result's rank is more than %d", MAX_RANK);
  s->d[s->rank++] = d;
  return true;
}

static bool push_dims(Graph *g, const Node *n, Shape *s, const Shape *from, int first, int end) {
  for (int i = first; i < end; i++)
    if (!push_dim(g, n, s, from->d[i])) return false;
  return true;
}

static bool set_gathered(Graph *g, Node *n, const Shape *y) {
  if (shape_count(y) > 0 && value_count(n->in[0]) == 0)
    REFUSE(g, n, NULL, "nothing can be gathered from %s", shape_text(g->arena, &n->in[0]->shape));
  return op_set_out(g, n, 0, n->in[0]->dt, y);
}

bool infer_gather(Graph *g, Node *n) {
  const GatherAttr *a = n->attr;
  const Shape *x = &n->in[0]->shape, *i = &n->in[1]->shape;
  Shape y = {0};
  int axis;
  if (a->batch_dims) REFUSE(g, n, NULL, "batch_dims is %lld, expected 0", (long long)a->batch_dims);
  if (!check_indices(g, n, n->in[1]) || !op_axis(g, n, a->axis, x->rank, &axis)) return false;
  if (!push_dims(g, n, &y, x, 0, axis) || !push_dims(g, n, &y, i, 0, i->rank) || !push_dims(g, n, &y, x, axis + 1, x->rank)) return false;
  return set_gathered(g, n, &y);
}

bool infer_gather_elements(Graph *g, Node *n) {
  const Shape *x = &n->in[0]->shape, *i = &n->in[1]->shape;
  int axis;
  if (!check_indices(g, n, n->in[1]) || !op_axis(g, n, ((const GatherAttr *)n->attr)->axis, x->rank, &axis)) return false;
  bool fits = i->rank == x->rank;
  for (int d = 0; fits && d < x->rank; d++) fits = d == axis || i->d[d].n <= x->d[d].n;
  if (!fits) REFUSE(g, n, NULL, "indices %s do not fit data %s", shape_text(g->arena, i), shape_text(g->arena, x));
  return set_gathered(g, n, i);
}

bool infer_gather_nd(Graph *g, Node *n) {
  const Shape *x = &n->in[0]->shape, *i = &n->in[1]->shape;
  int64_t batch = ((const GatherAttr *)n->attr)->batch_dims;
  Shape y = {0};
  if (!check_indices(g, n, n->in[1]) || !op_check_rank(g, n, n->in[1], "indices", 1, MAX_RANK)) return false;
  if (batch < 0 || batch >= i->rank || batch > x->rank)
    REFUSE(g, n, NULL, "batch_dims is %lld for indices of rank %d", (long long)batch, i->rank);
  int64_t k = i->d[i->rank - 1].n;
  if (k > x->rank - batch) REFUSE(g, n, NULL, "indices have %lld entries for data of rank %d", (long long)k, x->rank);
  for (int d = 0; d < batch; d++)
    if (x->d[d].n != i->d[d].n)
      REFUSE(g, n, NULL, "data %s and indices %s differ in dimension %d", shape_text(g->arena, x), shape_text(g->arena, i), d);
  if (!push_dims(g, n, &y, i, 0, i->rank - 1) || !push_dims(g, n, &y, x, (int)(batch + k), x->rank)) return false;
  return set_gathered(g, n, &y);
}

bool infer_one_hot(Graph *g, Node *n) {
  const OneHotAttr *a = n->attr;
  const Shape *i = &n->in[0]->shape, *v = &n->in[1]->shape;
  Shape y = {0};
  int axis;
  if (!op_check_computable(g, n, n->in[0], "indices")) return false;
  if (shape_count(v) != 2) REFUSE(g, n, NULL, "values have shape %s, expected [2]", shape_text(g->arena, v));
  if (a->depth < 0 || a->depth > EXTENT_MAX) REFUSE(g, n, NULL, "depth is %lld", (long long)a->depth);
  if (!op_axis(g, n, a->axis, i->rank + 1, &axis)) return false;
  if (!push_dims(g, n, &y, i, 0, axis) || !push_dim(g, n, &y, dim_of(a->depth)) || !push_dims(g, n, &y, i, axis, i->rank)) return false;
  return op_set_out(g, n, 0, n->in[1]->dt, &y);
}

/* ---- Gather: data [outer, extent, inner], indices [count], result [outer, count, inner] ---- */

static int gather_axis(const Node *n) {
  int axis = 0;
  axis_normalise(((const GatherAttr *)n->attr)->axis, n->in[0]->shape.rank, &axis);
  return axis;
}

static Expr *gather_point(Lower *l, const Node *n, const At *at, const void *user) {
  (void)user;
  const Value *x = n->in[0], *i = n->in[1];
  int axis = gather_axis(n), ri = i->shape.rank;
  At index = {.rank = ri, .lanes = 1}, from = {.rank = x->shape.rank, .lanes = at->lanes, .count = at->count};
  for (int d = 0; d < ri; d++) index.c[d] = at->c[axis + d];
  for (int d = 0; d < from.rank; d++)
    if (d != axis) from.c[d] = at->c[d < axis ? d : d + ri - 1];
  from.c[axis] = index_at(l, i, &index, x->shape.d[axis].n);
  from.vdim = at->lanes > 1 ? at->vdim - ri + 1 : 0;
  return lower_load(l, x, &from);
}

static void gather_place(Lower *l, const At *at, void *user) {
  const Node *n = user;
  At index = {.rank = 1, .c = {at->c[1]}, .lanes = 1}, from = *at;
  from.c[1] = index_at(l, n->in[1], &index, n->in[0]->shape.d[gather_axis(n)].n);
  lower_store(l, n->out[0], at, lower_load(l, n->in[0], &from));
}

void lower_gather(Lower *l, const Node *n) {
  const Value *x = n->in[0], *i = n->in[1];
  Value *y = n->out[0];
  int axis = gather_axis(n);
  if (x->layout.kind == LAYOUT_BLOCKED) {
    lower_channels(l, n);
    return;
  }
  if (n->nbody || x == i || value_count(y) == 0) {
    /* Lanes run along the data's own last dimension. */
    lower_points(l, n, "Gather", gather_point, NULL, axis < x->shape.rank - 1 ? POINT_VECTOR : 0, 0);
    return;
  }
  int64_t outer = shape_count_to(&x->shape, axis), inner = shape_count_from(&x->shape, axis + 1), count = value_count(i);
  Shape sx = shape_of(3, (int64_t[]){outer, x->shape.d[axis].n, inner}), si = shape_of(1, (int64_t[]){count});
  Shape sy = shape_of(3, (int64_t[]){outer, count, inner});
  Layout plain = {LAYOUT_PLAIN, 0};
  lower_open(l, n, "Gather %lld of %lld", (long long)count, (long long)inner);
  lower_see_as(l, x, &sx, plain);
  lower_see_as(l, i, &si, plain);
  lower_see_as(l, y, &sy, plain);
  lower_nest(l, &sy, plain, 2, inner * 2 >= l->t->lanes ? run_lanes(l, y->dt) : 1, gather_place, (void *)n);
  lower_close(l, 0);
}

/* ---- GatherElements ---- */

static Expr *gather_elements_point(Lower *l, const Node *n, const At *at, const void *user) {
  (void)user;
  int axis = gather_axis(n);
  At from = *at;
  from.c[axis] = index_at(l, n->in[1], at, n->in[0]->shape.d[axis].n);
  return lower_load(l, n->in[0], &from);
}

void lower_gather_elements(Lower *l, const Node *n) { lower_points(l, n, "GatherElements", gather_elements_point, NULL, 0, 0); }

/* ---- GatherND ---- */

static Expr *gather_nd_point(Lower *l, const Node *n, const At *at, const void *user) {
  (void)user;
  const Value *x = n->in[0], *i = n->in[1];
  int batch = (int)((const GatherAttr *)n->attr)->batch_dims, ri = i->shape.rank, k = (int)i->shape.d[ri - 1].n;
  At index = {.rank = ri, .lanes = 1}, from = {.rank = x->shape.rank, .lanes = at->lanes, .count = at->count};
  for (int d = 0; d < ri - 1; d++) index.c[d] = at->c[d];
  for (int d = 0; d < from.rank; d++) {
    index.c[ri - 1] = x_idx(&l->b, d - batch);
    if (d < batch) from.c[d] = at->c[d];
    else if (d < batch + k) from.c[d] = index_at(l, i, &index, x->shape.d[d].n);
    else from.c[d] = at->c[ri - 1 + d - batch - k];
  }
  from.vdim = at->lanes > 1 ? at->vdim - (ri - 1) + batch + k : 0;
  return lower_load(l, x, &from);
}

void lower_gather_nd(Lower *l, const Node *n) {
  const Shape *i = &n->in[1]->shape;
  int64_t used = ((const GatherAttr *)n->attr)->batch_dims + i->d[i->rank - 1].n;
  lower_points(l, n, "GatherND", gather_nd_point, NULL, used < n->in[0]->shape.rank ? POINT_VECTOR : 0, 0);
}

/* ---- OneHot ---- */

static Expr *one_hot_point(Lower *l, const Node *n, const At *at, const void *user) {
  Build *b = &l->b;
  int axis = *(const int *)user;
  int64_t depth = ((const OneHotAttr *)n->attr)->depth;
  At from = {.rank = at->rank - 1, .lanes = 1};
  for (int d = 0; d < from.rank; d++) from.c[d] = at->c[d < axis ? d : d + 1];
  Expr *i = s_let(b, "index", x_cast(b, DT_I64, lower_load(l, n->in[0], &from)));
  Expr *c = x_cast(b, DT_I64, at->c[axis]), *back = x_addi(b, c, -depth);
  Expr *hot = x_bin(b, X_OR, x_bin(b, X_EQ, i, c), x_bin(b, X_EQ, i, back));   /* index depth - 1 is also -1 */
  /* One load, of the value or the other: values may be of any rank. */
  Var *values = lower_in(l, n->in[1]);
  return x_load(b, values, x_select(b, hot, x_idx(b, 1), x_idx(b, 0)), 1);
}

void lower_one_hot(Lower *l, const Node *n) {
  int axis = 0;
  axis_normalise(((const OneHotAttr *)n->attr)->axis, n->out[0]->shape.rank, &axis);
  lower_points(l, n, "OneHot", one_hot_point, &axis, 0, 0);
}
