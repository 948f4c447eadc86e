/* ops/scatter.c: ScatterElements, ScatterND: a copy of the data, then a second kernel that writes the updates into it.
 *
 * Updates go in in their own order, so that of several for one element the last stays, and sums are always added up alike. The range is
 * over parts of the result that no two of its iterations share. Indices are made safe as in gather.c.
 */
#include "ops.h"

/* ---- inference ---- */

static bool check_elements(Graph *g, const Node *n) {
  const Shape *x = &n->in[0]->shape, *i = &n->in[1]->shape, *u = &n->in[2]->shape;
  int axis;
  if (!op_axis(g, n, ((const ScatterAttr *)n->attr)->axis, x->rank, &axis)) return false;
  bool fits = i->rank == x->rank && shape_equal(i, u);
  for (int d = 0; fits && d < x->rank; d++) fits = d == axis || i->d[d].n <= x->d[d].n;
  if (!fits)
    REFUSE(g, n, NULL, "indices %s and updates %s do not fit data %s", shape_text(g->arena, i), shape_text(g->arena, u),
           shape_text(g->arena, x));
  return true;
}

static bool check_nd(Graph *g, const Node *n) {
  const Shape *x = &n->in[0]->shape, *i = &n->in[1]->shape, *u = &n->in[2]->shape;
  if (!op_check_rank(g, n, n->in[1], "indices", 1, MAX_RANK)) return false;
  int64_t k = i->d[i->rank - 1].n;
  bool fits = k <= x->rank && u->rank == i->rank - 1 + x->rank - k;
  for (int d = 0; fits && d < u->rank; d++) fits = u->d[d].n == (d < i->rank - 1 ? i->d[d].n : x->d[d - (i->rank - 1) + k].n);
  if (!fits)
    REFUSE(g, n, NULL, "indices %s and updates %s do not fit data %s", shape_text(g->arena, i), shape_text(g->arena, u),
           shape_text(g->arena, x));
  return true;
}

bool infer_scatter(Graph *g, Node *n) {
  const Value *x = n->in[0], *i = n->in[1], *u = n->in[2];
  if (!dt_is_int(i->dt)) REFUSE(g, n, NULL, "indices are %s, expected integers", dt_name(i->dt));
  if (u->dt != x->dt) REFUSE(g, n, NULL, "updates are %s, data is %s", dt_name(u->dt), dt_name(x->dt));
  if (x->dt == DT_BOOL && ((const ScatterAttr *)n->attr)->reduction != SCATTER_NONE) REFUSE(g, n, NULL, "bool elements cannot be reduced");
  if (n->op == OP_ScatterND ? !check_nd(g, n) : !check_elements(g, n)) return false;
  if (value_count(u) > 0 && value_count(x) == 0) REFUSE(g, n, NULL, "data %s has no elements to update", shape_text(g->arena, &x->shape));
  return op_set_out(g, n, 0, x->dt, &x->shape);
}

/* ---- lowering ---- */

static Expr *combined(Lower *l, const Node *n, Expr *old, Expr *e) {
  DType t = n->out[0]->dt;
  Expr *x[2] = {old, e};
  switch (((const ScatterAttr *)n->attr)->reduction) {
  case SCATTER_NONE: return e;
  case SCATTER_ADD: return lower_ew(l, OP_Add, NULL, t, x, 2);
  case SCATTER_MUL: return lower_ew(l, OP_Mul, NULL, t, x, 2);
  case SCATTER_MAX: return lower_ew(l, OP_Max, NULL, t, x, 2);
  case SCATTER_MIN: return lower_ew(l, OP_Min, NULL, t, x, 2);
  }
  return e;
}

static void copy_data(Lower *l, const Node *n) {
  lower_copy(l, n, n->out[0]->dt, value_count(n->out[0]), lower_buffer(l, n->in[0]), lower_buffer(l, n->out[0]));
}

void lower_scatter_elements(Lower *l, const Node *n) {
  const Value *i = n->in[1], *u = n->in[2];
  Value *y = n->out[0];
  int axis, rank = y->shape.rank;
  if (value_count(y) == 0 || !axis_normalise(((const ScatterAttr *)n->attr)->axis, rank, &axis)) return;
  copy_data(l, n);
  if (value_count(u) == 0) return;
  Build *b = lower_open(l, n, "ScatterElements axis %d", axis);
  int64_t extent[MAX_RANK];
  for (int d = 0; d < rank; d++) extent[d] = i->shape.d[d].n;
  Expr *r = lower_range(l, "r", shape_count_to(&i->shape, axis));
  Var *out = lower_inout(l, y);
  At at = {.rank = rank, .lanes = 1}, to;
  unflatten(b, r, extent, axis, at.c);
  for (int d = axis; d < rank; d++) at.c[d] = s_for_n(b, "i", extent[d]);
  to = at;
  to.c[axis] = index_at(l, i, &at, y->shape.d[axis].n);
  Expr *offset = s_let(b, "to", lower_index(l, y, &to, NULL));
  s_store(b, out, offset, combined(l, n, x_load(b, out, offset, 1), lower_load(l, u, &at)));
  for (int d = axis; d < rank; d++) s_end(b);
  lower_close(l, (double)value_count(u));
}

#define SPLIT 2048   /* elements of an update from which on it is worth splitting */

/* Elements first.. of every update, `count` of them. */
static void scatter_slices(Lower *l, const Node *n, Expr *first, int64_t count) {
  Build *b = &l->b;
  const Value *i = n->in[1], *u = n->in[2];
  Value *y = n->out[0];
  int k = (int)i->shape.d[i->shape.rank - 1].n;
  int64_t updates = shape_count_to(&i->shape, i->shape.rank - 1), slice = shape_count_from(&y->shape, k), stride[MAX_RANK];
  shape_strides(&y->shape, stride);
  Var *out = lower_inout(l, y), *in = lower_in(l, u);
  Expr *p = s_for_n(b, "p", updates), *to = first;
  for (int j = 0; j < k; j++) {
    Expr *index = x_load(b, lower_in(l, i), x_addi(b, x_muli(b, p, k), j), 1);
    to = x_add(b, to, x_muli(b, safe_index(l, index, y->shape.d[j].n), stride[j]));
  }
  Expr *from = s_let(b, "from", x_add(b, x_muli(b, p, slice), first));
  to = s_let(b, "to", to);
  int lanes = run_lanes(l, y->dt);
  int64_t whole = lanes > 1 ? count / lanes * lanes : 0;
  for (int part = 0; part < 2; part++) {
    int64_t begin = part ? whole : 0, end = part ? count : whole;
    if (begin == end) continue;
    Expr *e = s_for(b, "e", x_idx(b, begin), x_idx(b, end), part ? 1 : lanes), *at = x_add(b, to, e);
    s_store(b, out, at, combined(l, n, x_load(b, out, at, part ? 1 : lanes), x_load(b, in, x_add(b, from, e), part ? 1 : lanes)));
    s_end(b);
  }
  s_end(b);
}

void lower_scatter_nd(Lower *l, const Node *n) {
  const Value *i = n->in[1], *u = n->in[2];
  Value *y = n->out[0];
  if (value_count(y) == 0) return;
  copy_data(l, n);
  if (value_count(u) == 0) return;
  int64_t slice = shape_count_from(&y->shape, (int)i->shape.d[i->shape.rank - 1].n),
          parts = slice >= SPLIT ? MINI(slice / (SPLIT / 2), 256) : 1;
  while (slice % parts) parts--;
  Build *b = lower_open(l, n, "ScatterND slices of %lld", (long long)slice);
  Expr *r = lower_range(l, "r", parts);
  scatter_slices(l, n, s_let(b, "first", x_muli(b, r, slice / parts)), slice / parts);
  lower_close(l, (double)value_count(u));
}
