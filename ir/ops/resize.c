/* ops/resize.c: Resize of any number of axes: nearest, linear, cubic; also when shrinking with antialiasing.
 *
 * Everything is static, so each axis is a table (resize_axis.c): first source element and weights of every output position. Axes that pick
 * single elements at o/f or o*m+c need no table. The result is the sum over the taps of all axes, the innermost first:
 *  - places: any layout. Vectors along a dimension that is not resized (the channels of a BLOCKED value, the last of a PLAIN one)
 *  - rows: a PLAIN value that is interpolated along its last axis: a row of the input is summed over the other axes' taps into scratch,
 *    in vectors; outputs are then sums over that row.
 */
#include "ops.h"
#include <math.h>
#include <string.h>

#define UNROLL_TAPS 4

bool infer_resize(Graph *g, Node *n) {
  const ResizeAttr *a = n->attr;
  const Value *x = n->in[0];
  int rank = x->shape.rank;
  if (!op_check_computable(g, n, x, "the input") || !op_check_ints(g, n, "sizes", a->sizes, rank, 0, INT32_MAX)) return false;
  if (x->dt == DT_BOOL && a->mode != RESIZE_NEAREST) REFUSE(g, n, NULL, "the input is bool, which cannot be interpolated");
  if (a->scales.n != rank) REFUSE(g, n, NULL, "scales has %d entries, expected %d", a->scales.n, rank);
  if (a->roi.n != 2 * rank && (a->roi.n || a->coord == COORD_TF_CROP_AND_RESIZE))
    REFUSE(g, n, NULL, "roi has %d entries, expected %d", a->roi.n, 2 * rank);
  for (int i = 0; i < a->roi.n; i++)
    if (!isfinite(a->roi.v[i])) REFUSE(g, n, NULL, "roi[%d] is not finite", i);
  Shape s = {.rank = rank};
  for (int i = 0; i < rank; i++) {
    int64_t in = x->shape.d[i].n, out = a->sizes.v[i];
    if (!(a->scales.v[i] > 0) || !isfinite(a->scales.v[i]))
      REFUSE(g, n, NULL, "scales[%d] is %g, expected a positive number", i, a->scales.v[i]);
    if (in > INT32_MAX || (in < 1 && out > 0)) REFUSE(g, n, NULL, "axis %d cannot go from %lld to %lld", i, (long long)in, (long long)out);
    if (in > 0 && !resize_axis_fits(a, i, in, out)) REFUSE(g, n, NULL, "scales[%d] is %g: too far from 1", i, a->scales.v[i]);
    s.d[i] = in == out ? x->shape.d[i] : dim_of(out);
  }
  return op_set_out(g, n, 0, x->dt, &s);
}

/* ---- lowering ---- */

typedef struct AxisTables { ResizeAxis t; Var *first, *weight, *outside; } AxisTables;

typedef struct Resize {
  const Node *n;
  const Value *x;
  const ResizeAttr *a;
  DType acc;
  AxisTables axis[MAX_RANK];
  int lanes;
  /* while emitting */
  Expr *from[MAX_RANK];      /* first source coordinate */
  const At *at;
  At src;
  Var *row;
  Expr *base;
} Resize;

/* A constant table as a weight; equal ones of one program share their memory. */
static Var *table(Lower *l, const char *name, DType dt, const void *data, int64_t bytes) {
  const void *source = data;
  for (int i = 0; i < l->p->weights.n; i++) {
    const Weight *w = &l->p->weights.at[i];
    bool like = w->fill == weight_fill_dense && w->bytes == bytes && !strcmp(w->desc, "table");
    if (like && !memcmp(w->source, data, (size_t)bytes)) source = w->source;
  }
  DenseWeight *d = NEW(l->arena, DenseWeight);
  *d = (DenseWeight){source, (size_t)bytes};
  Weight w = {.name = name, .desc = "table", .source = source, .bytes = bytes, .fill = weight_fill_dense, .ctx = d};
  return lower_weight(l, name, program_add_weight(l->p, w), dt);
}

static void make_tables(Lower *l, Resize *r) {
  for (int d = 0; d < r->x->shape.rank; d++) {
    AxisTables *a = &r->axis[d];
    ResizeAxis *t = &a->t;
    if (t->same) continue;
    if (t->taps > 1 || !t->div) a->first = table(l, "first", DT_I32, t->first, t->out * 4);
    if (t->extrapolates) a->outside = table(l, "outside", DT_I32, t->outside, t->out * 4);
    if (t->taps == 1) continue;
    int64_t n = t->out * t->taps;
    if (r->acc == DT_F64) {
      a->weight = table(l, "weight", DT_F64, t->weight, n * 8);
    } else {
      float *w = NEW_N(l->arena, float, n);
      for (int64_t i = 0; i < n; i++) w[i] = (float)t->weight[i];
      a->weight = table(l, "weight", DT_F32, w, n * 4);
    }
  }
}

/* First source coordinate of output coordinate o along dimension d. */
static Expr *source(Build *b, const AxisTables *a, Expr *o) {
  if (a->t.same) return o;
  if (a->first) return s_let(b, "from", x_cast(b, DT_IDX, x_load(b, a->first, o, 1)));
  return x_addi(b, x_muli(b, x_divi(b, o, a->t.div), a->t.mul), a->t.add);
}

static Expr *weight_of(Build *b, const AxisTables *a, Expr *o, Expr *t) {
  return x_load(b, a->weight, x_add(b, x_muli(b, o, a->t.taps), t), 1);
}

static Expr *sum_taps(Lower *l, Resize *r, int d);

static Expr *tap(Lower *l, Resize *r, int d, Expr *t) {
  r->src.c[d] = x_add(&l->b, r->from[d], t);
  return sum_taps(l, r, d + 1);
}

/* The sum over the taps of dimensions d.., at src and r->at. */
static Expr *sum_taps(Lower *l, Resize *r, int d) {
  Build *b = &l->b;
  if (d == r->src.rank) return x_cast(b, r->acc, lower_load(l, r->x, &r->src));
  const AxisTables *a = &r->axis[d];
  if (a->t.taps == 1) return tap(l, r, d, x_idx(b, 0));
  Expr *o = r->at->c[d];
  if (a->t.taps <= UNROLL_TAPS) {
    Expr *e = x_mul(b, x_splat(b, weight_of(b, a, o, x_idx(b, 0)), r->src.lanes), tap(l, r, d, x_idx(b, 0)));
    for (int64_t t = 1; t < a->t.taps; t++) {
      e = s_let(b, "s", e);
      e = x_fma(b, weight_of(b, a, o, x_idx(b, t)), tap(l, r, d, x_idx(b, t)), e);
    }
    return s_let(b, "s", e);
  }
  Var *sum = s_reg(b, "sum", x_num(b, type_of(r->acc, r->src.lanes), 0));
  Expr *t = s_for_n(b, "t", a->t.taps);
  Expr *x = tap(l, r, d, t);
  s_set(b, sum, x_fma(b, weight_of(b, a, o, t), x, x_var(b, sum)));
  s_end(b);
  return x_var(b, sum);
}

/* Stores value e; the extrapolation value where any axis is outside. */
static void finish(Lower *l, Resize *r, const At *at, Expr *e) {
  Build *b = &l->b;
  DType t = r->x->dt;
  if (!dt_is_float(t) && r->acc != t) {   /* integers truncate: not what rounding left just short of one */
    Type f = e->type;
    e = s_let(b, "e", e);
    e = x_add(b, e, x_select(b, x_bin(b, X_LT, e, x_num(b, f, 0)), x_float(b, f, -1e-4), x_float(b, f, 1e-4)));
  }
  e = x_cast(b, t, e);
  for (int d = 0; d < at->rank; d++) {
    if (!r->axis[d].outside) continue;
    Expr *out = x_bin(b, X_NE, x_load(b, r->axis[d].outside, at->c[d], 1), x_int(b, type_of(DT_I32, 1), 0));
    e = x_select(b, out, x_num(b, type_of(t, at->lanes), r->a->extrapolation), e);
  }
  lower_finish(l, r->n, e, at);
}

static void resize_place(Lower *l, const At *at, void *user) {
  Resize *r = user;
  r->at = at;
  r->src = *at;
  for (int d = 0; d < at->rank; d++) r->from[d] = source(&l->b, &r->axis[d], at->c[d]);
  finish(l, r, at, sum_taps(l, r, 0));
}

/* A row of the input, summed over the other axes' taps, into scratch. */
static void fill_row(Lower *l, Resize *r, const At *at, int lanes) {
  Build *b = &l->b;
  int last = at->rank - 1;
  int64_t n = r->axis[last].t.in, whole = n / lanes * lanes;
  AxisTables kept = r->axis[last];
  r->axis[last].t.taps = 1;   /* read as it is */
  for (int tail = 0; tail < 2; tail++) {
    int v = tail ? 1 : lanes;
    if (tail ? whole == n : whole == 0) continue;
    Expr *i = s_for(b, "i", x_idx(b, tail ? whole : 0), x_idx(b, tail ? n : whole), v);
    r->src = *at;
    r->src.lanes = v;
    r->src.vdim = last;
    r->from[last] = i;
    s_store(b, r->row, i, sum_taps(l, r, 0));
    s_end(b);
  }
  r->axis[last] = kept;
}

static void resize_row(Lower *l, const At *place, void *user) {
  Resize *r = user;
  Build *b = &l->b;
  At at = *place;
  int last = at.rank - 1;
  const AxisTables *a = &r->axis[last];
  r->at = &at;
  for (int d = 0; d < last; d++) r->from[d] = source(b, &r->axis[d], at.c[d]);
  fill_row(l, r, &at, r->lanes);
  at.c[last] = s_for_n(b, "o", a->t.out);
  Expr *from = source(b, a, at.c[last]), *e = NULL;
  if (a->t.taps <= UNROLL_TAPS) {
    for (int64_t t = 0; t < a->t.taps; t++) {
      Expr *w = weight_of(b, a, at.c[last], x_idx(b, t)), *x = x_load(b, r->row, x_addi(b, from, t), 1);
      e = e ? x_fma(b, w, x, e) : x_mul(b, w, x);
    }
  } else {
    Var *sum = s_reg(b, "sum", x_num(b, type_of(r->acc, 1), 0));
    Expr *t = s_for_n(b, "t", a->t.taps);
    s_set(b, sum, x_fma(b, weight_of(b, a, at.c[last], t), x_load(b, r->row, x_add(b, from, t), 1), x_var(b, sum)));
    s_end(b);
    e = x_var(b, sum);
  }
  finish(l, r, &at, e);
  s_end(b);
}

static DType resize_acc(const ResizeAttr *a, DType t) {
  if (a->mode == RESIZE_NEAREST) return t;
  return t == DT_F64 || (dt_is_int(t) && dt_size(t) >= 2) ? DT_F64 : DT_F32;
}

void lower_resize(Lower *l, const Node *n) {
  static const char *const names[] = {"nearest", "linear", "cubic"};
  const Value *x = n->in[0], *y = n->out[0];
  if (value_count(y) == 0) return;
  Resize *r = NEW(l->arena, Resize);
  r->n = n;
  r->x = x;
  r->a = n->attr;
  r->acc = resize_acc(r->a, x->dt);
  int rank = x->shape.rank, last = rank - 1;
  double taps = 1;
  bool others = false;
  for (int d = 0; d < rank; d++) {
    resize_axis(l->arena, r->a, d, rank, x->shape.d[d].n, y->shape.d[d].n, &r->axis[d].t);
    taps *= (double)r->axis[d].t.taps;
    if (d < last) others |= r->axis[d].t.taps > 1;
  }
  lower_open(l, n, "resize %s, %lld to %lld", names[r->a->mode], (long long)value_count(x), (long long)value_count(y));
  make_tables(l, r);
  r->lanes = x->dt == r->acc ? op_lanes(l, n, x->dt) : 1;
  bool plain = x->layout.kind == LAYOUT_PLAIN && y->layout.kind == LAYOUT_PLAIN;
  if (plain && rank > 1 && others && r->axis[last].t.taps > 1) {
    Shape rows = y->shape;
    rows.d[last] = dim_of(1);
    r->row = lower_scratch(l, "row", r->acc, x->shape.d[last].n * (int64_t)dt_size(r->acc));
    lower_nest(l, &rows, y->layout, last, 1, resize_row, r);
  } else {
    int vdim = y->layout.kind == LAYOUT_BLOCKED || x->layout.kind == LAYOUT_BLOCKED ? 1 : MAXI(last, 0);
    bool vectors = rank > 0 && r->axis[vdim].t.same && y->shape.d[vdim].n > 1;
    lower_nest(l, &y->shape, y->layout, vdim, vectors ? r->lanes : 1, resize_place, r);
  }
  lower_body_in_place(l, n, 0);
  lower_close(l, taps == 1 ? 0 : 2 * taps * (double)value_count(y));
}
