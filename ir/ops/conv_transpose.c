/* ops/conv_transpose.c: transposed convolution, computed per output element.
 *
 * Output position o of an axis receives input position i through kernel position k where i*stride + k*dilation = o + pad = t. With
 * g = gcd(stride, dilation) and p = stride/g that has solutions only if g divides t, and then for k = k0 (mod p), where
 * k0 = (t/g) * inverse(dilation/g) mod p: the loops over k start at the first such k whose input exists and take steps of p, so nothing
 * is tested inside and nothing is written twice.
 *
 * A vector holds output channels of one pixel, in either layout; input elements are splat (depthwise: a vector of the same channels).
 * Pixels a stride apart meet the same kernel positions one input element apart: away from the edges a few of them share each weight.
 */
#include "ops.h"

#define PIXEL_TILE 4

static bool transpose_window(Graph *g, const Node *n, Window *w) {
  const ConvTransposeAttr *a = n->attr;
  const Value *x = n->in[0], *wt = n->in[1];
  int r = x->shape.rank;
  if (!op_check_rank(g, n, x, "the input", 3, MAX_RANK) || !op_check_rank(g, n, wt, "the weight", r, r)) return false;
  int rank = x->shape.rank - 2;
  int64_t kernel[MAX_RANK], none[2 * MAX_RANK] = {0};
  for (int i = 0; i < rank; i++) kernel[i] = wt->shape.d[i + 2].n;
  /* Negative pads enlarge the result: they are fine here, so they are checked apart. */
  if (!window_check(g, n, x, (Ints){kernel, rank}, a->strides, (Ints){none, 2 * rank}, a->dilations, w) ||
      !op_check_ints(g, n, "pads", a->pads, 2 * rank, -INT32_MAX, INT32_MAX) ||
      !op_check_ints(g, n, "output_padding", a->output_padding, rank, 0, INT32_MAX))
    return false;
  for (int i = 0; i < rank; i++) {
    w->d[i].pad = a->pads.v[i];
    w->d[i].pad_end = a->pads.v[i + rank];
  }
  return true;
}

bool infer_conv_transpose(Graph *g, Node *n) {
  const ConvTransposeAttr *a = n->attr;
  Window w;
  if (!transpose_window(g, n, &w)) return false;
  const Shape *x = &n->in[0]->shape, *wt = &n->in[1]->shape;
  int64_t c = x->d[1].n;
  if (a->group < 1 || c < 1 || c % a->group)
    REFUSE(g, n, NULL, "%lld groups do not divide %lld input channels", (long long)a->group, (long long)c);
  if (wt->d[0].n != c || wt->d[1].n < 1 || wt->d[1].n > EXTENT_MAX / a->group)
    REFUSE(g, n, "the weight is [input channels, output channels / group, kernel...]", "the weight %s does not fit the input %s",
           shape_text(g->arena, wt), shape_text(g->arena, x));
  int64_t k = wt->d[1].n * a->group;
  DType dt;
  if (!conv_check_operands(g, n, k, &dt)) return false;
  Shape s = {.rank = x->rank, .d = {x->d[0], dim_of(k)}};
  for (int i = 0; i < w.rank; i++) {
    const WindowDim *d = &w.d[i];
    if (d->in > EXTENT_MAX / d->stride) REFUSE(g, n, NULL, "the result's axis %d is too large", i + 2);
    int64_t span = d->dilation * (d->kernel - 1) + 1 + a->output_padding.v[i];
    int64_t out = d->in < 1 ? 0 : (d->in - 1) * d->stride + span - d->pad - d->pad_end;
    if (out < 0 || (out == 0 && d->in > 0))
      REFUSE(g, n, NULL, "the pads %lld and %lld leave nothing of axis %d", (long long)d->pad, (long long)d->pad_end, i + 2);
    s.d[i + 2] = dim_of(out);
  }
  return op_set_out(g, n, 0, dt, &s);
}

/* ---- lowering ---- */

typedef struct Deconv {
  Window w;
  const Value *x, *wt, *bias, *scale;
  DType acc, out;
  int64_t group, c, k, volume;   /* c, k: channels per group */
  bool depthwise, scaled;
  int lanes, weight;
} Deconv;

static int64_t gcd(int64_t a, int64_t b) { return b ? gcd(b, a % b) : a; }

/* a * inverse = 1 (mod m), for coprime a and m; 0 for m == 1. Extended Euclid. */
static int64_t inverse(int64_t a, int64_t m) {
  int64_t r0 = m, r1 = a % m, s0 = 0, s1 = 1;
  while (r1) {
    int64_t q = r0 / r1, r = r0 - q * r1, s = s0 - q * s1;
    r0 = r1, r1 = r;
    s0 = s1, s1 = s;
  }
  return m == 1 ? 0 : s0 < 0 ? s0 + m : s0;
}

/* Opens the loop over the kernel positions of one axis that reach output position o; gives k, and the input position in *in. */
static Expr *open_axis(Build *b, const WindowDim *d, Expr *o, Expr **in) {
  int64_t g = gcd(d->stride, d->dilation), p = d->stride / g;
  Expr *t = s_let(b, "t", x_addi(b, o, d->pad)), *zero = x_idx(b, 0);
  Expr *tc = d->pad < 0 ? s_let(b, "tc", x_bin(b, X_MAX, t, zero)) : t;
  Expr *over = x_bin(b, X_MAX, x_addi(b, tc, -(d->in - 1) * d->stride), zero);   /* k*dilation has to make up for this */
  Expr *lo = x_divi(b, x_addi(b, over, d->dilation - 1), d->dilation);
  if (p > 1) {
    lo = s_let(b, "m", lo);
    Expr *k0 = x_remi(b, x_muli(b, x_remi(b, x_divi(b, tc, g), p), inverse(d->dilation / g, p)), p);
    Expr *ahead = x_sub(b, x_addi(b, k0, p), x_remi(b, lo, p));
    lo = x_add(b, lo, x_remi(b, ahead, p));
  }
  Expr *hi = x_bin(b, X_MIN, x_addi(b, x_divi(b, tc, d->dilation), 1), x_idx(b, d->kernel));
  if (d->pad < 0) hi = x_select(b, x_bin(b, X_LT, t, zero), zero, hi);
  if (g > 1) hi = x_select(b, x_bin(b, X_NE, x_remi(b, tc, g), zero), zero, hi);
  lo = s_let(b, "lo", lo);
  hi = s_let(b, "hi", hi);
  Expr *k = s_for(b, "k", lo, hi, p);
  *in = s_let(b, "i", x_divi(b, x_sub(b, tc, x_muli(b, k, d->dilation)), d->stride));
  return k;
}

static Expr *weight_vector(Lower *l, const Deconv *c, const At *at, Expr *g, Expr *k0, Expr *kk, Expr *ci) {
  Build *b = &l->b;
  if (c->weight < 0) {
    Expr *row = c->depthwise ? at->c[1] : x_add(b, x_muli(b, x_add(b, x_muli(b, g, c->c), ci), c->k), k0);
    Expr *i = x_add(b, x_muli(b, row, c->volume), kk);
    return x_load_as(b, c->acc, lower_in(l, c->wt), i, c->lanes, at->count, c->volume);
  }
  int64_t panels = c->depthwise ? 1 : (c->k + c->lanes - 1) / c->lanes;
  Expr *panel = x_add(b, x_muli(b, g, panels), x_divi(b, k0, c->lanes));
  Expr *i = x_muli(b, x_add(b, x_muli(b, x_add(b, x_muli(b, panel, c->volume), kk), c->c), ci), c->lanes);
  return x_cast(b, c->acc, x_load(b, lower_weight(l, "w", c->weight, c->wt->dt), i, c->lanes));
}

/* nx output pixels, a stride apart along the last axis: at->c[1] is the first of their channels, k0 that channel within group g. */
static void pixels(Lower *l, const Node *n, const Deconv *c, const At *at, int nx, Expr *g, Expr *k0) {
  Build *b = &l->b;
  int last = at->rank - 1;
  Var *x = lower_in(l, c->x), *acc[PIXEL_TILE];
  for (int i = 0; i < nx; i++) acc[i] = s_reg(b, "acc", x_num(b, type_of(c->acc, c->lanes), 0));
  Expr *k[WINDOW_DIMS];
  At from = at_zero(b, at->rank);
  from.c[0] = at->c[0];
  for (int i = 0; i < c->w.rank; i++) k[i] = open_axis(b, &c->w.d[i], at->c[i + 2], &from.c[i + 2]);
  Expr *kk = s_let(b, "kk", window_kernel_at(b, &c->w, k));
  Expr *ci = s_for_n(b, "ci", c->c);
  bool blocked = c->x->layout.kind == LAYOUT_BLOCKED;
  from.c[1] = c->depthwise ? at->c[1] : x_add(b, x_muli(b, g, c->c), ci);
  Expr *ix = s_let(b, "ix", lower_index(l, c->x, &from, NULL));
  Expr *wv = s_let(b, "wv", weight_vector(l, c, at, g, k0, kk, ci));
  for (int i = 0; i < nx; i++) {
    Expr *px = x_load_as(b, c->acc, x, x_addi(b, ix, i * value_stride(c->x, last)), c->depthwise ? c->lanes : 1, blocked ? NULL : at->count,
                         blocked ? 1 : value_stride(c->x, 1));
    s_set(b, acc[i], x_fma(b, px, wv, x_var(b, acc[i])));
  }
  s_end(b);
  for (int i = 0; i < c->w.rank; i++) s_end(b);
  for (int i = 0; i < nx; i++) {
    At to = *at;
    to.c[last] = x_addi(b, at->c[last], i * c->w.d[last - 2].stride);
    Expr *e = conv_scale_bias(l, c->out, c->scaled ? NULL : c->scale, c->bias, x_var(b, acc[i]), at->c[1], c->lanes, at->count);
    lower_finish(l, n, e, &to);
  }
}

/* A row of output pixels: tiles in the interior, where every kernel position that fits the stride meets the input, else one by one. */
static void row(Lower *l, const Node *n, const Deconv *c, At *at, Expr *g, Expr *k0) {
  Build *b = &l->b;
  int last = at->rank - 1;
  const WindowDim *d = &c->w.d[last - 2];
  int64_t left = MAXI(d->dilation * (d->kernel - 1) - d->pad, 0), right = MINI((d->in - 1) * d->stride - d->pad + 1, d->out);
  int64_t step = PIXEL_TILE * d->stride, tiles = right > left ? (right - left) / step : 0, end = left + tiles * step;
  if (tiles == 0) left = end = 0;
  if (left > 0) {
    at->c[last] = s_for(b, "x", x_idx(b, 0), x_idx(b, left), 1);
    pixels(l, n, c, at, 1, g, k0);
    s_end(b);
  }
  if (tiles > 0) {
    Expr *tile = s_for(b, "x", x_idx(b, left), x_idx(b, end), step);
    at->c[last] = x_add(b, tile, s_for_n(b, "phase", d->stride));
    pixels(l, n, c, at, PIXEL_TILE, g, k0);
    s_end(b);
    s_end(b);
  }
  if (end < d->out) {
    at->c[last] = s_for(b, "x", x_idx(b, end), x_idx(b, d->out), 1);
    pixels(l, n, c, at, 1, g, k0);
    s_end(b);
  }
}

/* [group][panels of lanes][kernel...][C / group][lanes]; depthwise: [C / lanes][kernel...][lanes]. Lanes past a group's channels hold
 * weights of the next one; their results are not stored. */
static void pack_weights(Lower *l, Deconv *c) {
  c->weight = -1;
  if (!value_is_const(c->wt)) return;
  c->scaled = conv_scale_packs(c->wt, c->scale);
  int64_t v = c->volume, panels = (c->k + c->lanes - 1) / c->lanes;
  Pack p = {.src = c->wt->data, .dt = c->wt->dt, .limit = {c->k * c->group}, .scale = c->scaled ? c->scale->data : NULL};
  if (c->depthwise) {
    p.ndims = 3;
    p.dim[0] = (PackDim){(c->group + c->lanes - 1) / c->lanes, c->lanes * v, 0, c->lanes};
    p.dim[1] = (PackDim){v, 1, -1, 0};
    p.dim[2] = (PackDim){c->lanes, v, 0, 1};
  } else {
    p.ndims = 5;
    p.dim[0] = (PackDim){c->group, c->c * c->k * v, 0, c->k};
    p.dim[1] = (PackDim){panels, c->lanes * v, 0, c->lanes};
    p.dim[2] = (PackDim){v, 1, -1, 0};
    p.dim[3] = (PackDim){c->c, c->k * v, -1, 0};
    p.dim[4] = (PackDim){c->lanes, v, 0, 1};
  }
  const char *desc = arena_printf(l->arena, "conv_transpose [%lld][%lld][%lld][%lld][%d]", (long long)c->group, (long long)panels,
                                  (long long)v, (long long)c->c, c->lanes);
  c->weight = program_add_pack(l->p, c->wt->name, &p, desc);
}

static int pick_lanes(const Lower *l, const Node *n, const Deconv *c) {
  int lanes = op_lanes(l, n, c->x->dt);
  /* Groups start anywhere in a block. */
  for (int i = 0; i < n->nin; i++)
    if (c->group > 1 && !c->depthwise && n->in[i] && n->in[i]->layout.kind == LAYOUT_BLOCKED) return 1;
  if (n->out[0]->layout.kind == LAYOUT_BLOCKED) {
    if (c->depthwise) return c->x->layout.kind == LAYOUT_BLOCKED && c->x->layout.block % lanes == 0 ? lanes : 1;
    return c->group == 1 ? lanes : 1;
  }
  return !c->depthwise && c->k >= 4 ? lanes : 1;
}

void lower_conv_transpose(Lower *l, const Node *n) {
  const ConvTransposeAttr *a = n->attr;
  const Value *y = n->out[0];
  Deconv c = {.x = n->in[0], .wt = n->in[1], .bias = op_in(n, 2), .scale = op_in(n, 3), .group = a->group};
  if (value_count(y) == 0 || !transpose_window(l->g, n, &c.w)) return;
  for (int i = 0; i < c.w.rank; i++) c.w.d[i].out = y->shape.d[i + 2].n;
  c.acc = acc_type(c.x->dt);
  c.out = product_type(c.x->dt);
  c.c = c.wt->shape.d[0].n / a->group;
  c.k = c.wt->shape.d[1].n;
  c.volume = window_volume(&c.w);
  c.depthwise = a->group > 1 && c.c == 1 && c.k == 1;
  c.lanes = pick_lanes(l, n, &c);
  Build *b = lower_open(l, n, "conv_transpose, %lld to %lld channels, kernel %lld, %lld groups", (long long)(c.c * c.group),
                        (long long)(c.k * c.group), (long long)c.volume, (long long)c.group);
  pack_weights(l, &c);
  int rank = y->shape.rank;
  /* Depthwise: the groups are the channels, in vectors. */
  int64_t groups = c.depthwise ? (c.group + c.lanes - 1) / c.lanes : c.group, kg = c.depthwise ? c.group : c.k;
  int64_t panels = c.depthwise ? 1 : (c.k + c.lanes - 1) / c.lanes;
  int64_t extent[MAX_RANK] = {y->shape.d[0].n, groups, panels}, total = extent[0] * groups * panels;
  for (int d = 2; d < rank - 1; d++) total *= extent[d + 1] = y->shape.d[d].n;
  Expr *range = lower_range(l, "r", total), *co[MAX_RANK];
  unflatten(b, range, extent, rank, co);
  At at = at_zero(b, rank);
  at.c[0] = co[0];
  Expr *g = co[1], *k0 = c.depthwise ? x_idx(b, 0) : x_muli(b, co[2], c.lanes);
  at.c[1] = c.depthwise ? x_muli(b, g, c.lanes) : x_add(b, x_muli(b, g, c.k), k0);
  for (int d = 2; d < rank - 1; d++) at.c[d] = co[d + 1];
  at.lanes = c.lanes;
  at.vdim = 1;
  if (c.lanes > 1 && kg % c.lanes)
    at.count = s_let(b, "count", x_bin(b, X_MIN, x_sub(b, x_idx(b, kg), c.depthwise ? at.c[1] : k0), x_idx(b, c.lanes)));
  row(l, n, &c, &at, g, k0);
  lower_body_in_place(l, n, 0);
  lower_close(l, 2.0 * (double)value_count(c.x) * (double)c.k * (double)c.volume);
}
