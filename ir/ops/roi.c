/* ops/roi.c: RoiAlign and MaxRoiPool: regions of interest of an image batch, pooled to a fixed size.
 *
 * Regions are data. Their coordinates are brought into a finite range (NaN to its lower end), batch indices into the batch, and the numbers
 * of samples that an adaptive RoiAlign asks for are limited to those of a region four times the image: nothing reads outside and no
 * loop is long, whatever they hold.
 * RoiAlign's maximum is over the four weighted neighbours of each sample, as ONNX's reference and its test data have it.
 */
#include "ops.h"
#include <math.h>

#define FAR 1e6   /* pixels */

static bool check_common(Graph *g, Node *n, int64_t height, int64_t width, double scale, int columns) {
  const Value *x = n->in[0], *rois = n->in[1];
  if (!op_check_float(g, n, x, "the input") || !op_check_rank(g, n, x, "the input", 4, 4) || !op_check_float(g, n, rois, "the regions") ||
      !op_check_rank(g, n, rois, "the regions", 2, 2))
    return false;
  if (rois->shape.d[1].n != columns)
    REFUSE(g, n, NULL, "the regions are %s, expected %d columns", shape_text(g->arena, &rois->shape), columns);
  for (int i = 0; i < 4; i++)
    if (x->shape.d[i].n < 1 || x->shape.d[i].n > INT32_MAX) REFUSE(g, n, NULL, "the input's shape is %s", shape_text(g->arena, &x->shape));
  if (height < 1 || width < 1 || height > INT32_MAX || width > INT32_MAX)
    REFUSE(g, n, NULL, "the output is %lld by %lld", (long long)height, (long long)width);
  if (!isfinite(scale)) REFUSE(g, n, NULL, "the spatial scale is not finite");
  Shape s = {.rank = 4, .d = {rois->shape.d[0], x->shape.d[1], dim_of(height), dim_of(width)}};
  return op_set_out(g, n, 0, x->dt, &s);
}

bool infer_roi_align(Graph *g, Node *n) {
  const RoiAlignAttr *a = n->attr;
  const Value *rois = n->in[1], *batch = n->in[2];
  if (!check_common(g, n, a->height, a->width, a->scale, 4)) return false;
  if (!dt_is_int(batch->dt) || batch->shape.rank != 1 || batch->shape.d[0].n != rois->shape.d[0].n)
    REFUSE(g, n, NULL, "the batch indices are %s %s, expected integers [%lld]", dt_name(batch->dt), shape_text(g->arena, &batch->shape),
           (long long)rois->shape.d[0].n);
  if (a->sampling_ratio < 0 || a->sampling_ratio > 4096) REFUSE(g, n, NULL, "the sampling ratio is %lld", (long long)a->sampling_ratio);
  return true;
}

bool infer_max_roi_pool(Graph *g, Node *n) {
  const MaxRoiPoolAttr *a = n->attr;
  return check_common(g, n, a->height, a->width, a->scale, 5);
}

/* ---- lowering ---- */

/* Column i of region r, times scale, plus add; finite. */
static Expr *region(Lower *l, const Value *rois, Expr *r, int i, DType t, double scale, double add) {
  Build *b = &l->b;
  Type type = type_of(t, 1);
  At at = {.rank = 2, .c = {r, x_idx(b, i)}, .lanes = 1};
  Expr *e = x_mul(b, x_cast(b, t, lower_load(l, rois, &at)), x_float(b, type, scale));
  if (add != 0) e = x_add(b, e, x_float(b, type, add));
  return s_let(b, "roi", x_bin(b, X_MIN, x_bin(b, X_MAX, e, x_float(b, type, -FAR)), x_float(b, type, FAR)));
}

static Expr *plane_of(Lower *l, const Value *x, Expr *image, Expr *channel) {
  At at = at_zero(&l->b, 4);
  at.c[0] = image;
  at.c[1] = channel;
  return s_let(&l->b, "plane", lower_index(l, x, &at, NULL));
}

/* ---- RoiAlign ---- */

typedef struct Span { Expr *start, *bin, *samples; double extent; int64_t n; } Span;   /* of one axis: in pixels; samples per bin (idx) */

/* The region's extent along one axis: columns lo and hi, `parts` bins over n pixels. */
static Span span_of(Lower *l, const Node *n, Expr *r, int lo, int hi, int64_t parts, int64_t pixels, DType t) {
  Build *b = &l->b;
  const RoiAlignAttr *a = n->attr;
  Type type = type_of(t, 1);
  double add = a->half_pixel ? -0.5 : 0;
  Span s = {.n = pixels};
  s.start = region(l, n->in[1], r, lo, t, a->scale, add);
  Expr *size = x_sub(b, region(l, n->in[1], r, hi, t, a->scale, add), s.start);
  if (!a->half_pixel) size = x_bin(b, X_MAX, size, x_float(b, type, 1));
  s.bin = s_let(b, "bin", x_bin(b, X_DIV, size, x_float(b, type, (double)parts)));
  if (a->sampling_ratio > 0) {
    s.samples = x_idx(b, a->sampling_ratio);
  } else {
    int64_t most = MAXI(16, 4 * pixels / parts + 1);
    s.samples = s_let(b, "samples", x_clamp_idx(b, x_cast(b, DT_IDX, x_un(b, X_CEIL, s.bin)), 0, most));
  }
  return s;
}

typedef struct Sampled { Expr *lo, *hi, *wlo, *whi, *outside; } Sampled;

/* The two neighbours of sample i of bin p, and their weights. */
static Sampled sample_axis(Build *b, const Span *s, Expr *p, Expr *i) {
  Type t = s->start->type;
  Expr *half = x_add(b, x_cast(b, t.dt, i), x_float(b, t, 0.5));
  Expr *within = x_bin(b, X_DIV, x_mul(b, half, s->bin), x_cast(b, t.dt, s->samples));
  Expr *v = s_let(b, "v", x_add(b, x_add(b, s->start, x_mul(b, x_cast(b, t.dt, p), s->bin)), within));
  Sampled o;
  o.outside = s_let(b, "outside", x_bin(b, X_OR, x_bin(b, X_LT, v, x_float(b, t, -1)), x_bin(b, X_GT, v, x_float(b, t, (double)s->n))));
  v = s_let(b, "v", x_bin(b, X_MIN, x_bin(b, X_MAX, v, x_float(b, t, 0)), x_float(b, t, (double)(s->n - 1))));
  o.lo = s_let(b, "lo", x_clamp_idx(b, x_cast(b, DT_IDX, v), 0, s->n - 1));
  o.hi = s_let(b, "hi", x_bin(b, X_MIN, x_addi(b, o.lo, 1), x_idx(b, s->n - 1)));
  o.whi = s_let(b, "whi", x_sub(b, v, x_cast(b, t.dt, o.lo)));
  o.wlo = s_let(b, "wlo", x_sub(b, x_float(b, t, 1), o.whi));
  return o;
}

static Expr *pixel(Lower *l, const Value *x, Expr *plane, Expr *y, Expr *c, DType t) {
  Build *b = &l->b;
  Expr *i = x_add(b, plane, x_add(b, x_muli(b, y, value_stride(x, 2)), c));
  return x_cast(b, t, x_load(b, lower_in(l, x), i, 1));
}

static Expr *align_point(Lower *l, const Node *n, const At *at, const void *user) {
  const RoiAlignAttr *a = n->attr;
  const Value *x = n->in[0];
  Build *b = &l->b;
  (void)user;
  DType t = acc_type(x->dt);
  Expr *r = at->c[0];
  At bat = {.rank = 1, .c = {r}, .lanes = 1};
  Expr *image = x_cast(b, DT_IDX, x_cast(b, DT_I64, lower_load(l, n->in[2], &bat)));
  image = s_let(b, "image", x_clamp_idx(b, image, 0, x->shape.d[0].n - 1));
  Expr *plane = plane_of(l, x, image, at->c[1]);
  Span sy = span_of(l, n, r, 1, 3, a->height, x->shape.d[2].n, t), sx = span_of(l, n, r, 0, 2, a->width, x->shape.d[3].n, t);
  bool max = a->mode == POOL_MAX;
  Type type = type_of(t, 1);
  Var *acc = s_reg(b, "acc", max ? x_lowest(b, type) : x_num(b, type, 0));
  Expr *iy = s_for(b, "iy", x_idx(b, 0), sy.samples, 1);
  Sampled v = sample_axis(b, &sy, at->c[2], iy);
  Expr *ix = s_for(b, "ix", x_idx(b, 0), sx.samples, 1);
  Sampled h = sample_axis(b, &sx, at->c[3], ix);
  Expr *part[4];
  for (int k = 0; k < 4; k++) {
    Expr *w = x_mul(b, k & 2 ? v.whi : v.wlo, k & 1 ? h.whi : h.wlo);
    part[k] = s_let(b, "part", x_mul(b, w, pixel(l, x, plane, k & 2 ? v.hi : v.lo, k & 1 ? h.hi : h.lo, t)));
  }
  XOp op = max ? X_MAX : X_ADD;
  Expr *e = x_bin(b, op, x_bin(b, op, x_bin(b, op, part[0], part[1]), part[2]), part[3]);
  e = x_select(b, x_bin(b, X_OR, v.outside, h.outside), x_num(b, type, 0), e);
  s_set(b, acc, x_bin(b, op, x_var(b, acc), e));
  s_end(b);
  s_end(b);
  Expr *count = s_let(b, "count", x_mul(b, sy.samples, sx.samples));
  if (max) e = x_select(b, x_bin(b, X_EQ, count, x_idx(b, 0)), x_num(b, type, 0), x_var(b, acc));
  else e = x_bin(b, X_DIV, x_var(b, acc), x_cast(b, t, x_bin(b, X_MAX, count, x_idx(b, 1))));
  return x_cast(b, x->dt, e);
}

void lower_roi_align(Lower *l, const Node *n) { lower_points(l, n, "roi_align", align_point, NULL, 0, 40); }

/* ---- MaxRoiPool ---- */

/* Pixels [from, to) of bin p of `parts` between the rounded columns lo and hi. */
static void bin_of(Lower *l, const Node *n, Expr *r, int lo, int hi, Expr *p, int64_t parts, int64_t pixels, DType t, Expr **from,
                   Expr **to) {
  const MaxRoiPoolAttr *a = n->attr;
  Build *b = &l->b;
  Type type = type_of(t, 1);
  Expr *edge[2], *half = x_float(b, type, 0.5), *zero = x_float(b, type, 0);
  for (int k = 0; k < 2; k++) {   /* halves away from zero */
    Expr *e = region(l, n->in[1], r, k ? hi : lo, t, a->scale, 0);
    e = x_select(b, x_bin(b, X_GE, e, zero), x_un(b, X_FLOOR, x_add(b, e, half)), x_un(b, X_CEIL, x_sub(b, e, half)));
    edge[k] = s_let(b, "edge", e);
  }
  Expr *size = x_bin(b, X_MAX, x_add(b, x_sub(b, edge[1], edge[0]), x_float(b, type, 1)), x_float(b, type, 1));
  Expr *bin = s_let(b, "bin", x_bin(b, X_DIV, size, x_float(b, type, (double)parts)));
  Expr *first = x_add(b, x_un(b, X_FLOOR, x_mul(b, x_cast(b, t, p), bin)), edge[0]);
  Expr *last = x_add(b, x_un(b, X_CEIL, x_mul(b, x_cast(b, t, x_addi(b, p, 1)), bin)), edge[0]);
  *from = s_let(b, "from", x_clamp_idx(b, x_cast(b, DT_IDX, first), 0, pixels));
  *to = s_let(b, "to", x_clamp_idx(b, x_cast(b, DT_IDX, last), 0, pixels));
}

static Expr *max_roi_point(Lower *l, const Node *n, const At *at, const void *user) {
  const MaxRoiPoolAttr *a = n->attr;
  const Value *x = n->in[0];
  Build *b = &l->b;
  (void)user;
  DType t = acc_type(x->dt);
  Type type = type_of(t, 1);
  Expr *r = at->c[0], *y0, *y1, *x0, *x1;
  Expr *image = x_cast(b, DT_IDX, region(l, n->in[1], r, 0, t, 1, 0));
  image = s_let(b, "image", x_clamp_idx(b, image, 0, x->shape.d[0].n - 1));
  Expr *plane = plane_of(l, x, image, at->c[1]);
  bin_of(l, n, r, 2, 4, at->c[2], a->height, x->shape.d[2].n, t, &y0, &y1);
  bin_of(l, n, r, 1, 3, at->c[3], a->width, x->shape.d[3].n, t, &x0, &x1);
  Var *max = s_reg(b, "max", x_lowest(b, type));
  Expr *iy = s_for(b, "iy", y0, y1, 1), *ix = s_for(b, "ix", x0, x1, 1);
  s_set(b, max, fold_combine(b, FOLD_MAX, x_var(b, max), s_let(b, "v", pixel(l, x, plane, iy, ix, t))));
  s_end(b);
  s_end(b);
  Expr *empty = x_bin(b, X_OR, x_bin(b, X_GE, y0, y1), x_bin(b, X_GE, x0, x1));
  return x_cast(b, x->dt, x_select(b, empty, x_num(b, type, 0), x_var(b, max)));
}

void lower_max_roi_pool(Lower *l, const Node *n) { lower_points(l, n, "max_roi_pool", max_roi_point, NULL, 0, 10); }
