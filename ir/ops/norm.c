/* ops/norm.c: Softmax, LogSoftmax, Hardmax along an axis; Normalize over any axes.
 *
 * Softmax subtracts the row's maximum first: no exponential overflows, and at least one is 1. Rows of -inf alone give NaN, as the formula
 * does. The exponentials are kept in scratch while they fit there, else computed again.
 * Normalize makes two passes before the one that writes: the mean, then the variance around it.
 * Vectors run along the axes where these are innermost (lanes are summed at the end of a row), else along the innermost kept dimension.
 */
#include "ops.h"

#define SOFTMAX_SCRATCH (128 << 10)   /* bytes per thread */

/* ---- softmax ---- */

bool infer_softmax(Graph *g, Node *n) {
  const AxisAttr *a = n->attr;
  const Value *x = n->in[0];
  int axis;
  if (!op_check_float(g, n, x, "the input") || !op_axis(g, n, a->axis, x->shape.rank, &axis)) return false;
  if (x->shape.d[axis].n > INT32_MAX) REFUSE(g, n, NULL, "axis %d has more than %d elements", axis, INT32_MAX);
  return op_set_out(g, n, 0, x->dt, &x->shape);
}

typedef struct Rows {
  const Node *n;
  const Value *x;
  int axis;
  DType acc;
  int64_t count, stride;    /* of the axis */
  bool along;               /* vectors along the axis */
  int lanes;                /* of those */
  Var *scratch;             /* exponentials; NULL: computed again */
  /* while emitting */
  At at;
  Expr *base, *max, *bias;
} Rows;

static Expr *row_term(Lower *l, Expr *const *i, int lanes, Expr *count, void *user) {
  Rows *r = user;
  Build *b = &l->b;
  return x_load_as(b, r->acc, lower_in(l, r->x), x_add(b, r->base, x_muli(b, i[0], r->stride)), lanes, r->along ? count : r->at.count, 1);
}

static Expr *exp_term(Lower *l, Expr *const *i, int lanes, Expr *count, void *user) {
  Rows *r = user;
  Build *b = &l->b;
  Expr *e = x_un(b, X_EXP, x_bin(b, X_SUB, row_term(l, i, lanes, count, r), r->max));
  if (!r->scratch) return e;
  e = s_let(b, "e", e);
  s_store(b, r->scratch, x_muli(b, i[0], r->along ? 1 : lanes), e);
  return e;
}

/* The result at element j of the row, for a vector of `lanes`. */
static void write_row(Lower *l, Rows *r, Expr *j, int lanes, Expr *count) {
  Build *b = &l->b;
  At at = r->at;
  at.c[r->axis] = j;
  if (r->along) {
    at.lanes = lanes;
    at.vdim = r->axis;
    at.count = count;
  }
  Expr *e;
  if (r->n->op == OP_LogSoftmax) e = x_sub(b, x_bin(b, X_SUB, row_term(l, &j, lanes, count, r), r->max), r->bias);
  else if (r->scratch) e = x_bin(b, X_DIV, x_load(b, r->scratch, x_muli(b, j, r->along ? 1 : lanes), lanes), r->bias);
  else e = x_bin(b, X_DIV, x_un(b, X_EXP, x_bin(b, X_SUB, row_term(l, &j, lanes, count, r), r->max)), r->bias);
  lower_finish(l, r->n, x_cast(b, r->x->dt, e), &at);
}

static void softmax_place(Lower *l, const At *at, void *user) {
  Rows *r = user;
  Build *b = &l->b;
  r->at = *at;
  r->base = s_let(b, "base", lower_index(l, r->x, at, NULL));
  Type t = type_of(r->acc, r->along ? r->lanes : at->lanes);
  r->max = s_let(b, "max", fold_nest(l, FOLD_MAX, t, &r->count, 1, r->along, row_term, r));
  r->bias = s_let(b, "sum", fold_nest(l, FOLD_SUM, t, &r->count, 1, r->along, exp_term, r));
  if (r->n->op == OP_LogSoftmax) r->bias = s_let(b, "bias", x_un(b, X_LOG, r->bias));
  int64_t step = r->along ? r->lanes : 1, whole = r->count / step * step;
  if (whole > 0) {
    Expr *j = s_for(b, "j", x_idx(b, 0), x_idx(b, whole), step);
    write_row(l, r, j, t.lanes, NULL);
    s_end(b);
  }
  if (whole < r->count) write_row(l, r, x_idx(b, whole), t.lanes, x_idx(b, r->count - whole));
}

/* Picks where vectors run over x with the axes of `reduced` set apart: along them (true, *lanes along), or along dimension *vdim of the
 * rest. */
static bool pick_lanes(const Lower *l, const Node *n, const bool *reduced, int64_t inner, int *lanes, int *vdim) {
  const Value *x = n->in[0];
  int last = x->shape.rank - 1, v = op_lanes(l, n, acc_type(x->dt));
  while (last > 0 && x->shape.d[last].n == 1) last--;
  *vdim = last;
  bool along = reduced[last] && inner > 1 && 2 * inner >= v;
  *lanes = along || (!reduced[last] && 2 * x->shape.d[last].n >= v && x->shape.d[last].n > 1) ? v : 1;
  return along && v > 1;
}

void lower_softmax(Lower *l, const Node *n) {
  const AxisAttr *a = n->attr;
  const Value *x = n->in[0];
  Rows r = {.n = n, .x = x, .acc = acc_type(x->dt)};
  if (value_count(x) == 0 || !op_axis(l->g, n, a->axis, x->shape.rank, &r.axis)) return;
  bool reduced[MAX_RANK] = {0};
  int vdim;
  reduced[r.axis] = true;
  r.count = x->shape.d[r.axis].n;
  r.stride = value_stride(x, r.axis);
  r.along = pick_lanes(l, n, reduced, r.count, &r.lanes, &vdim);
  lower_open(l, n, "%s of %lld", op_info(n->op)->name, (long long)r.count);
  int64_t bytes = (r.count + r.lanes) * (int64_t)dt_size(r.acc) * (r.along ? 1 : r.lanes);
  if (n->op == OP_Softmax && bytes <= SOFTMAX_SCRATCH) r.scratch = lower_scratch(l, "exps", r.acc, bytes);
  Shape rows = x->shape;
  rows.d[r.axis] = dim_of(1);
  lower_nest(l, &rows, n->out[0]->layout, vdim, r.along ? 1 : r.lanes, softmax_place, &r);
  lower_body_in_place(l, n, 1);
  lower_close(l, 4 * (double)value_count(x));
}

/* ---- hardmax ---- */

static void hardmax_place(Lower *l, const At *at, void *user) {
  Rows *r = user;
  Build *b = &l->b;
  Expr *best = s_let(b, "best", arg_scan(l, r->x, at, r->axis, true, false));
  Expr *j = s_for_n(b, "j", r->count);
  At to = *at;
  to.c[r->axis] = j;
  Type t = type_of(r->x->dt, at->lanes);
  Expr *hit = x_bin(b, X_EQ, best, x_splat(b, x_cast(b, DT_I32, j), at->lanes));
  lower_finish(l, r->n, x_select(b, hit, x_num(b, t, 1), x_num(b, t, 0)), &to);
  s_end(b);
}

void lower_hardmax(Lower *l, const Node *n) {
  const AxisAttr *a = n->attr;
  const Value *x = n->in[0];
  Rows r = {.n = n, .x = x};
  if (value_count(x) == 0 || !op_axis(l->g, n, a->axis, x->shape.rank, &r.axis)) return;
  r.count = x->shape.d[r.axis].n;
  Shape rows = x->shape;
  rows.d[r.axis] = dim_of(1);
  int last = x->shape.rank - 1;
  lower_open(l, n, "hardmax of %lld", (long long)r.count);
  lower_nest(l, &rows, n->out[0]->layout, last, r.axis == last ? 1 : lower_lanes(l, n), hardmax_place, &r);
  lower_body_in_place(l, n, 1);
  lower_close(l, (double)value_count(x));
}

/* ---- normalize ---- */

static bool normalize_axes(Graph *g, const Node *n, bool reduced[MAX_RANK]) {
  const NormalizeAttr *a = n->attr;
  for (int i = 0; i < MAX_RANK; i++) reduced[i] = false;
  for (int i = 0; i < a->axes.n; i++) {
    int axis;
    if (!op_axis(g, n, a->axes.v[i], n->in[0]->shape.rank, &axis)) return false;
    if (n->in[0]->shape.d[axis].n < 1) REFUSE(g, n, NULL, "axis %d has no elements", axis);
    reduced[axis] = true;
  }
  return true;
}

bool infer_normalize(Graph *g, Node *n) {
  const Value *x = n->in[0];
  bool reduced[MAX_RANK];
  if (!op_check_float(g, n, x, "the input") || !normalize_axes(g, n, reduced)) return false;
  Shape s = x->shape;
  for (int i = 0; i < s.rank; i++)
    if (reduced[i]) s.d[i] = dim_of(1);
  DType stat = acc_type(x->dt);
  return op_set_out(g, n, 0, x->dt, &x->shape) && op_set_out(g, n, 1, stat, &s) && op_set_out(g, n, 2, stat, &s);
}

typedef struct Norm {
  const Node *n;
  const Value *x;
  DType acc;
  bool reduced[MAX_RANK];
  int nloops;
  int64_t extent[MAX_RANK], stride[MAX_RANK], count;
  bool along;
  int lanes;
  /* while emitting */
  At at;
  Expr *base, *mean, *inv;
} Norm;

static Expr *norm_load(Lower *l, Expr *const *i, int lanes, Expr *count, void *user) {
  Norm *r = user;
  Build *b = &l->b;
  Expr *e = r->base;
  for (int d = 0; d < r->nloops; d++) e = x_add(b, e, x_muli(b, i[d], r->stride[d]));
  return x_load_as(b, r->acc, lower_in(l, r->x), e, lanes, r->along ? count : r->at.count, 1);
}

static Expr *norm_square(Lower *l, Expr *const *i, int lanes, Expr *count, void *user) {
  Norm *r = user;
  Build *b = &l->b;
  Expr *d = norm_load(l, i, lanes, count, user);
  if (r->mean) d = x_bin(b, X_SUB, d, r->mean);
  d = s_let(b, "d", d);
  return x_mul(b, d, d);
}

static void write_element(Lower *l, Norm *r, const At *at) {
  Build *b = &l->b;
  Expr *e = x_cast(b, r->acc, lower_load(l, r->x, at));
  if (r->mean) e = x_bin(b, X_SUB, e, r->mean);
  lower_finish(l, r->n, x_cast(b, r->x->dt, x_bin(b, X_MUL, e, r->inv)), at);
}

/* Loops over the reduced dimensions from d on, then writes; the last of them in vectors. */
static void write_dims(Lower *l, Norm *r, int d, At *at) {
  Build *b = &l->b;
  while (d < r->x->shape.rank && (!r->reduced[d] || r->x->shape.d[d].n == 1)) d++;
  if (d >= r->x->shape.rank) {
    write_element(l, r, at);
    return;
  }
  int64_t n = r->x->shape.d[d].n;
  bool vectors = r->along && value_stride(r->x, d) == 1 && 2 * n >= r->lanes;
  int step = vectors ? r->lanes : 1;
  int64_t whole = n / step * step;
  if (vectors) {
    at->lanes = step;
    at->vdim = d;
  }
  if (whole > 0) {
    at->c[d] = s_for(b, "i", x_idx(b, 0), x_idx(b, whole), step);
    write_dims(l, r, d + 1, at);
    s_end(b);
  }
  if (whole < n) {
    at->c[d] = x_idx(b, whole);
    at->count = x_idx(b, n - whole);
    write_dims(l, r, d + 1, at);
    at->count = NULL;
  }
  if (vectors) at->lanes = 1;
}

static void norm_place(Lower *l, const At *at, void *user) {
  Norm *r = user;
  Build *b = &l->b;
  const NormalizeAttr *a = r->n->attr;
  r->at = *at;
  r->base = s_let(b, "base", lower_index(l, r->x, at, NULL));
  r->mean = NULL;
  Type t = type_of(r->acc, r->along ? r->lanes : at->lanes);
  Type out = type_of(r->acc, at->lanes);
  Expr *count = x_num(b, out, (double)r->count);
  if (a->center) {
    Expr *sum = fold_nest(l, FOLD_SUM, t, r->extent, r->nloops, r->along, norm_load, r);
    r->mean = s_let(b, "mean", x_bin(b, X_DIV, sum, count));
  }
  Expr *square = fold_nest(l, FOLD_SUM, t, r->extent, r->nloops, r->along, norm_square, r);
  Expr *deviation = x_un(b, X_SQRT, x_add(b, x_bin(b, X_DIV, square, count), x_float(b, out, a->eps)));
  r->inv = s_let(b, "inv", x_bin(b, X_DIV, x_num(b, out, 1), deviation));
  if (value_used(r->n->out[1])) lower_store(l, r->n->out[1], at, r->mean ? r->mean : x_num(b, out, 0));
  if (value_used(r->n->out[2])) lower_store(l, r->n->out[2], at, r->inv);
  At to = *at;
  if (value_used(r->n->out[0])) write_dims(l, r, 0, &to);
}

void lower_normalize(Lower *l, const Node *n) {
  const Value *x = n->in[0];
  Norm r = {.n = n, .x = x, .acc = acc_type(x->dt), .count = 1};
  if (value_count(x) == 0 || !normalize_axes(l->g, n, r.reduced)) return;
  Shape rest = x->shape;
  for (int d = 0; d < x->shape.rank; d++) {
    if (!r.reduced[d]) continue;
    int64_t e = x->shape.d[d].n, stride = value_stride(x, d);
    rest.d[d] = dim_of(1);
    r.count *= e;
    if (e == 1) continue;
    if (r.nloops && r.stride[r.nloops - 1] == e * stride) {
      r.extent[r.nloops - 1] *= e;
      r.stride[r.nloops - 1] = stride;
    } else {
      r.extent[r.nloops] = e;
      r.stride[r.nloops++] = stride;
    }
  }
  int vdim = 0;
  r.lanes = 1;
  if (x->shape.rank) r.along = pick_lanes(l, n, r.reduced, r.nloops ? r.extent[r.nloops - 1] : 1, &r.lanes, &vdim);
  lower_open(l, n, "normalize %lld", (long long)r.count);
  lower_nest(l, &rest, n->out[0]->layout, vdim, r.along ? 1 : r.lanes, norm_place, &r);
  lower_body_in_place(l, n, 1);
  lower_close(l, 6 * (double)value_count(x));
}
