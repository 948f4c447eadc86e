/* ops/pool.c: MaxPool, AveragePool, LpPool over 1 to 6 spatial axes.
 *
 * Positions outside the input take no part: the maximum of a window is of what lies inside it, NaN if any of that is NaN. Averages divide
 * by the positions inside the input, or inside input and pads (count_include_pad); in ceil mode the last window may hang over the end
 * pad, and what does is counted in neither case.
 *
 * Vectors run along the output row, or along the channels where input or output is BLOCKED. With indices wanted, one element at a time.
 */
#include "ops.h"

static bool pool_window(Graph *g, const Node *n, Window *w) {
  const PoolAttr *a = n->attr;
  if (!window_check(g, n, n->in[0], a->kernel, a->strides, a->pads, a->dilations, w)) return false;
  for (int i = 0; i < w->rank; i++) {
    const WindowDim *d = &w->d[i];
    if (MAXI(d->pad, d->pad_end) > d->dilation * (d->kernel - 1))
      REFUSE(g, n, "a window may not lie in the padding alone", "the pads of axis %d are %lld and %lld, the kernel spans %lld", i + 2,
             (long long)d->pad,
             (long long)d->pad_end, (long long)(d->dilation * (d->kernel - 1) + 1));
  }
  return true;
}

bool infer_pool(Graph *g, Node *n) {
  const PoolAttr *a = n->attr;
  const Value *x = n->in[0];
  Window w;
  if (!pool_window(g, n, &w) || !op_check_computable(g, n, x, "the input")) return false;
  if (n->op != OP_MaxPool && !op_check_float(g, n, x, "the input")) return false;
  if (n->op == OP_LpPool && (a->p < 1 || a->p > INT32_MAX)) REFUSE(g, n, NULL, "p is %lld, expected at least 1", (long long)a->p);
  Shape s = {.rank = x->shape.rank, .d = {x->shape.d[0], x->shape.d[1]}};
  for (int i = 0; i < w.rank; i++) {
    const WindowDim *d = &w.d[i];
    int64_t out = window_extent(d->in, d->kernel, d->stride, d->pad, d->pad_end, d->dilation, a->ceil_mode);
    if (out < 0)
      REFUSE(g, n, NULL, "the kernel spans %lld positions of axis %d, the padded input has %lld",
             (long long)(d->dilation * (d->kernel - 1) + 1),
             i + 2, (long long)(d->in + d->pad + d->pad_end));
    s.d[i + 2] = dim_of(out);
  }
  if (n->op == OP_MaxPool && !op_set_out(g, n, 1, DT_I64, &s)) return false;
  return op_set_out(g, n, 0, x->dt, &s);
}

/* ---- lowering ---- */

typedef struct Pool {
  Window w;
  const PoolAttr *a;
  const Value *x;
  DType acc;
  int64_t row;        /* input elements between neighbouring outputs along the last axis */
} Pool;

/* Offset of the image plane, to which input coordinates add their strides. */
static Expr *plane_of(Lower *l, const Pool *p, const WindowAt *w) {
  At at = at_zero(&l->b, w->at.rank);
  at.c[0] = w->at.c[0];
  at.c[1] = w->at.c[1];
  return s_let(&l->b, "plane", lower_index(l, p->x, &at, NULL));
}

static Expr *input_at(Build *b, const Pool *p, Expr *plane, Expr *const *in) {
  Expr *e = plane;
  for (int i = 0; i < p->w.rank; i++) e = x_add(b, e, x_muli(b, in[i], value_stride(p->x, i + 2)));
  return e;
}

/* The step between lanes; a BLOCKED input has lanes along its channels beside each other. */
static int64_t lane_step(const Pool *p, const At *at) {
  if (at->vdim != 1) return p->row;
  return p->x->layout.kind == LAYOUT_BLOCKED ? 1 : value_stride(p->x, 1);
}

static Expr *load(Lower *l, const Pool *p, const WindowAt *w, Expr *plane, Expr *const *in) {
  Build *b = &l->b;
  bool whole = p->x->layout.kind == LAYOUT_BLOCKED && w->at.vdim == 1;
  return x_load_as(b, p->acc, lower_in(l, p->x), input_at(b, p, plane, in), w->at.lanes, whole ? NULL : w->at.count, lane_step(p, &w->at));
}

static void max_place(Lower *l, const Node *n, const WindowAt *w, void *user) {
  const Pool *p = user;
  Build *b = &l->b;
  Expr *k[WINDOW_DIMS], *in[WINDOW_DIMS], *plane = plane_of(l, p, w);
  Var *max = s_reg(b, "max", x_lowest(b, type_of(p->acc, w->at.lanes)));
  window_open(b, &p->w, w, k, in);
  s_set(b, max, fold_combine(b, FOLD_MAX, x_var(b, max), s_let(b, "v", load(l, p, w, plane, in))));
  window_close(b, &p->w);
  lower_finish(l, n, x_cast(b, p->x->dt, x_var(b, max)), &w->at);
}

/* The index of an input element in the flat input, spatial axes row-major or column-major. */
static Expr *flat_index(Lower *l, const Pool *p, const WindowAt *w, Expr *const *in) {
  Build *b = &l->b;
  Expr *e = x_add(b, x_muli(b, w->at.c[0], p->x->shape.d[1].n), w->at.c[1]);
  int r = p->w.rank;
  if (!p->a->column_major) {
    for (int i = 0; i < r; i++) e = x_add(b, x_muli(b, e, p->w.d[i].in), in[i]);
    return e;
  }
  for (int i = r - 1; i >= 0; i--) e = x_add(b, x_muli(b, e, p->w.d[i].in), in[i]);
  return e;
}

/* Ties: the first position in row-major order. */
static void max_index_place(Lower *l, const Node *n, const WindowAt *w, void *user) {
  const Pool *p = user;
  Build *b = &l->b;
  Expr *k[WINDOW_DIMS], *in[WINDOW_DIMS], *plane = plane_of(l, p, w);
  Var *max = s_reg(b, "max", x_lowest(b, type_of(p->acc, 1))), *at = s_reg(b, "at", x_idx(b, -1));
  window_open(b, &p->w, w, k, in);
  Expr *v = s_let(b, "v", load(l, p, w, plane, in));
  Expr *better = x_bin(b, X_GT, v, x_var(b, max));
  if (dt_is_float(p->acc))   /* the first NaN stays */
    better = x_bin(b, X_AND, x_bin(b, X_OR, better, x_is_nan(b, v)), x_bin(b, X_EQ, x_var(b, max), x_var(b, max)));
  s_if(b, x_bin(b, X_OR, better, x_bin(b, X_LT, x_var(b, at), x_idx(b, 0))));
  s_set(b, max, v);
  s_set(b, at, flat_index(l, p, w, in));
  s_end(b);
  window_close(b, &p->w);
  lower_store(l, n->out[1], &w->at, x_cast(b, DT_I64, x_var(b, at)));
  if (value_used(n->out[0])) lower_finish(l, n, x_cast(b, p->x->dt, x_var(b, max)), &w->at);
}

/* Positions counted along axis i. */
static Expr *positions(Build *b, const Pool *p, const WindowAt *w, int i) {
  const WindowDim *d = &p->w.d[i];
  if (!p->a->count_include_pad) return x_sub(b, w->hi[i], w->lo[i]);
  if ((d->out - 1) * d->stride + (d->kernel - 1) * d->dilation < d->in + d->pad + d->pad_end) return x_idx(b, d->kernel);
  Expr *room = x_bin(b, X_MAX, x_sub(b, x_idx(b, d->in + d->pad_end), w->base[i]), x_idx(b, 0));
  return x_bin(b, X_MIN, x_divi(b, x_addi(b, room, d->dilation - 1), d->dilation), x_idx(b, d->kernel));
}

static void average_place(Lower *l, const Node *n, const WindowAt *w, void *user) {
  const Pool *p = user;
  Build *b = &l->b;
  Expr *k[WINDOW_DIMS], *in[WINDOW_DIMS], *plane = plane_of(l, p, w);
  Type t = type_of(p->acc, w->at.lanes);
  Var *sum = s_reg(b, "sum", x_num(b, t, 0));
  window_open(b, &p->w, w, k, in);
  s_set(b, sum, x_add(b, x_var(b, sum), load(l, p, w, plane, in)));
  window_close(b, &p->w);
  Expr *count = x_idx(b, 1);
  /* Lanes along the row are all inside, where every position counts but for those past the end pad. */
  for (int i = 0; i < p->w.rank; i++) count = x_mul(b, count, positions(b, p, w, i));
  Expr *mean = x_bin(b, X_DIV, x_var(b, sum), x_splat(b, x_cast(b, p->acc, count), t.lanes));
  lower_finish(l, n, x_cast(b, p->x->dt, mean), &w->at);
}

static void lp_place(Lower *l, const Node *n, const WindowAt *w, void *user) {
  const Pool *p = user;
  Build *b = &l->b;
  Expr *k[WINDOW_DIMS], *in[WINDOW_DIMS], *plane = plane_of(l, p, w);
  Type t = type_of(p->acc, w->at.lanes);
  double power = (double)p->a->p;
  Var *sum = s_reg(b, "sum", x_num(b, t, 0));
  window_open(b, &p->w, w, k, in);
  Expr *v = s_let(b, "v", load(l, p, w, plane, in));
  if (p->a->p == 2) v = x_mul(b, v, v);
  else if (p->a->p == 1) v = x_un(b, X_ABS, v);
  else v = x_bin(b, X_POW, x_un(b, X_ABS, v), x_float(b, t, power));
  s_set(b, sum, x_add(b, x_var(b, sum), v));
  window_close(b, &p->w);
  Expr *e = x_var(b, sum);
  if (p->a->p == 2) e = x_un(b, X_SQRT, e);
  else if (p->a->p != 1) e = x_bin(b, X_POW, e, x_float(b, t, 1 / power));
  lower_finish(l, n, x_cast(b, p->x->dt, e), &w->at);
}

static void lower_pool(Lower *l, const Node *n, const char *what, WindowFn fn, bool vectors, double flops) {
  const Value *y = n->out[0];
  Pool p = {.a = n->attr, .x = n->in[0], .acc = acc_type(n->in[0]->dt)};
  if (value_count(y) == 0 || !pool_window(l->g, n, &p.w)) return;
  for (int i = 0; i < p.w.rank; i++) p.w.d[i].out = y->shape.d[i + 2].n;
  if (n->op == OP_MaxPool) p.acc = p.x->dt == DT_F16 || p.x->dt == DT_BF16 ? DT_F32 : p.x->dt;
  int rank = y->shape.rank, lanes = vectors ? op_lanes(l, n, p.acc) : 1;
  bool blocked = y->layout.kind == LAYOUT_BLOCKED || p.x->layout.kind == LAYOUT_BLOCKED;
  if (blocked && y->shape.d[1].n == 1) lanes = 1;
  p.row = p.w.d[p.w.rank - 1].stride * value_stride(p.x, rank - 1);
  lower_open(l, n, "%s, kernel %lld, %lld channels", what, (long long)window_volume(&p.w), (long long)y->shape.d[1].n);
  WindowNest nest = {.w = &p.w, .lanes = lanes, .vdim = blocked ? 1 : rank - 1, .ctile = 1, .xtile = 1, .fn = fn, .user = &p};
  window_nest(l, n, &nest);
  lower_body_in_place(l, n, 0);
  lower_close(l, flops * (double)value_count(y) * (double)window_volume(&p.w));
}

void lower_max_pool(Lower *l, const Node *n) {
  bool indices = value_used(n->out[1]);
  lower_pool(l, n, "max_pool", indices ? max_index_place : max_place, !indices, 1);
}

void lower_average_pool(Lower *l, const Node *n) { lower_pool(l, n, "average_pool", average_place, true, 1); }

void lower_lp_pool(Lower *l, const Node *n) { lower_pool(l, n, "lp_pool", lp_place, true, 2); }
