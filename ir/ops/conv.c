/* ops/conv.c: convolution of 1 to 6 spatial axes, direct.
 *
 * Two forms of one loop nest, both over images, output channels and rows in parallel:
 *  - rows: a vector runs along the output row; a few output channels share each loaded input vector. Any group, any weights.
 *  - channels: a vector holds output channels of one pixel, input elements are splat; a few pixels share each loaded weight vector. For
 *    BLOCKED results, and for PLAIN ones whose rows are short or strided. Depthwise: the input is a vector of the same channels.
 * Sums are kept in acc_type; f16 and bf16 results are rounded once, before the body.
 */
#include "ops.h"

#define ROW_TILE 4     /* output channels that share an input vector */
#define PIXEL_TILE 4   /* pixels that share a weight vector */

static bool conv_window(Graph *g, const Node *n, Window *w) {
  const ConvAttr *a = n->attr;
  const Value *x = n->in[0], *wt = n->in[1];
  int r = x->shape.rank;
  if (!op_check_rank(g, n, x, "the input", 3, MAX_RANK) || !op_check_rank(g, n, wt, "the weight", r, r)) return false;
  int64_t kernel[MAX_RANK];
  for (int i = 2; i < wt->shape.rank; i++) kernel[i - 2] = wt->shape.d[i].n;
  return window_check(g, n, x, (Ints){kernel, wt->shape.rank - 2}, a->strides, a->pads, a->dilations, w);
}

bool conv_check_operands(Graph *g, const Node *n, int64_t k, DType *out) {
  if (!op_check_product(g, n, 2, out)) return false;
  for (int i = 2; i < 4; i++) {
    const Value *v = op_in(n, i);
    if (!v) continue;
    const char *what = i == 2 ? "the bias" : "the scale";
    if (v->shape.rank != 1 || v->shape.d[0].n != k)
      REFUSE(g, n, NULL, "%s has shape %s, expected [%lld]", what, shape_text(g->arena, &v->shape), (long long)k);
    if (v->dt != *out) REFUSE(g, n, NULL, "%s is %s, expected %s", what, dt_name(v->dt), dt_name(*out));
  }
  return true;
}

static bool check_gate(Graph *g, const Node *n) {
  const Value *v = op_in(n, 4), *x = n->in[0];
  if (!v) return true;
  if (((const ConvAttr *)n->attr)->group != 1) REFUSE(g, n, NULL, "a gate needs a single group");
  bool fits = v->shape.rank == x->shape.rank && v->shape.d[0].n == x->shape.d[0].n && v->shape.d[1].n == x->shape.d[1].n;
  if (!fits || shape_count_from(&v->shape, 2) != 1)
    REFUSE(g, n, NULL, "the gate %s does not fit the input %s", shape_text(g->arena, &v->shape), shape_text(g->arena, &x->shape));
  if (v->dt != x->dt) REFUSE(g, n, NULL, "the gate is %s, expected %s", dt_name(v->dt), dt_name(x->dt));
  return true;
}

bool infer_conv(Graph *g, Node *n) {
  const ConvAttr *a = n->attr;
  Window w;
  if (!conv_window(g, n, &w)) return false;
  const Shape *x = &n->in[0]->shape, *wt = &n->in[1]->shape;
  int64_t c = x->d[1].n, k = wt->d[0].n;
  if (a->group < 1 || c < 1 || k < 1 || c % a->group || k % a->group)
    REFUSE(g, n, NULL, "%lld groups do not divide %lld input and %lld output channels", (long long)a->group, (long long)c, (long long)k);
  if (wt->d[1].n != c / a->group)
    REFUSE(g, n, "the weight is [output channels, input channels / group, kernel...]",
           "the weight %s does not fit the input %s in %lld groups",
           shape_text(g->arena, wt), shape_text(g->arena, x), (long long)a->group);
  DType dt;
  if (!conv_check_operands(g, n, k, &dt) || !check_gate(g, n)) return false;
  Shape s = {.rank = x->rank, .d = {x->d[0], dim_of(k)}};
  for (int i = 0; i < w.rank; i++) {
    const WindowDim *d = &w.d[i];
    int64_t out = window_extent(d->in, d->kernel, d->stride, d->pad, d->pad_end, d->dilation, false);
    if (out < 0)
      REFUSE(g, n, NULL, "the kernel spans %lld positions of axis %d, the padded input has %lld",
             (long long)(d->dilation * (d->kernel - 1) + 1),
             i + 2, (long long)(d->in + d->pad + d->pad_end));
    s.d[i + 2] = dim_of(out);
  }
  return op_set_out(g, n, 0, dt, &s);
}

/* ---- lowering ---- */

typedef struct Conv {
  Window w;
  const Value *x, *wt, *bias, *scale, *gate;
  DType acc, out;
  int64_t group, c, k, volume;   /* c, k: channels per group */
  bool depthwise;
  int lanes, tile;
  int weight;                    /* buffer of the packed weights, -1: as they are */
  bool scaled;                   /* the packed weights carry the scale */
} Conv;

bool conv_scale_packs(const Value *wt, const Value *scale) {
  return scale && value_is_const(wt) && value_is_const(scale) && wt->dt == DT_F32 && scale->dt == DT_F32;
}

Expr *conv_scale_bias(Lower *l, DType out, const Value *scale, const Value *bias, Expr *acc, Expr *k, int lanes, Expr *count) {
  Build *b = &l->b;
  DType t = acc->type.dt;
  if (scale) acc = x_bin(b, X_MUL, acc, x_cast(b, t, lower_load_vector(l, scale, k, lanes, count)));
  if (bias) acc = x_bin(b, X_ADD, acc, x_cast(b, t, lower_load_vector(l, bias, k, lanes, count)));
  return x_cast(b, out, acc);
}

/* Offset of input place in[] from the image plane at `plane`, and of kernel position k[]. */
static Expr *input_at(Build *b, const Conv *c, Expr *plane, Expr *const *in) {
  Expr *e = plane;
  for (int i = 0; i < c->w.rank; i++) e = x_add(b, e, x_muli(b, in[i], value_stride(c->x, i + 2)));
  return e;
}

static Expr *plane_of(Lower *l, const Conv *c, const At *at, Expr *channel) {
  At p = at_zero(&l->b, at->rank);
  p.c[0] = at->c[0];
  p.c[1] = channel;
  return lower_index(l, c->x, &p, NULL);
}

/* px, elements of input channel `channel`, times its gate. */
static Expr *gated(Lower *l, const Conv *c, const At *at, Expr *channel, Expr *px) {
  if (!c->gate) return px;
  At g = at_zero(&l->b, at->rank);
  g.c[0] = at->c[0];
  g.c[1] = channel;
  return x_mul(&l->b, px, x_splat(&l->b, x_cast(&l->b, c->acc, lower_load(l, c->gate, &g)), px->type.lanes));
}

static void conv_rows(Lower *l, const Node *n, const WindowAt *w, void *user) {
  const Conv *c = user;
  Build *b = &l->b;
  Var *x = lower_in(l, c->x), *wt = lower_in(l, c->wt), *acc[ROW_TILE];
  Expr *k0 = w->at.c[1], *kp[WINDOW_DIMS], *in[WINDOW_DIMS];
  int last = w->at.rank - 1;
  for (int t = 0; t < c->tile; t++) acc[t] = s_reg(b, "acc", x_num(b, type_of(c->acc, w->at.lanes), 0));
  Expr *first = c->group == 1 ? x_idx(b, 0) : s_let(b, "g", x_muli(b, x_divi(b, k0, c->k), c->c));
  Expr *ci = s_for_n(b, "ci", c->c);
  Expr *plane = s_let(b, "plane", plane_of(l, c, &w->at, x_add(b, first, ci)));
  Expr *wrow = s_let(b, "wrow", x_muli(b, x_add(b, x_muli(b, k0, c->c), ci), c->volume));
  window_open(b, &c->w, w, kp, in);
  int64_t step = c->w.d[last - 2].stride * value_stride(c->x, last);
  Expr *px = x_load_as(b, c->acc, x, input_at(b, c, plane, in), w->at.lanes, w->at.count, step);
  px = s_let(b, "px", gated(l, c, &w->at, ci, px));
  Expr *wk = s_let(b, "wk", x_add(b, wrow, window_kernel_at(b, &c->w, kp)));
  for (int t = 0; t < c->tile; t++) {
    Expr *wv = x_load_as(b, c->acc, wt, x_addi(b, wk, t * c->c * c->volume), 1, NULL, 1);
    s_set(b, acc[t], x_fma(b, wv, px, x_var(b, acc[t])));
  }
  window_close(b, &c->w);
  s_end(b);
  for (int t = 0; t < c->tile; t++) {
    At at = w->at;
    at.c[1] = x_addi(b, k0, t);
    lower_finish(l, n, conv_scale_bias(l, c->out, c->scale, c->bias, x_var(b, acc[t]), at.c[1], 1, NULL), &at);
  }
}

/* The weights of output channels k0.. for input channel ci and kernel position wk. */
static Expr *weight_vector(Lower *l, const Conv *c, const At *at, Expr *ci, Expr *wk) {
  Build *b = &l->b;
  Expr *k0 = at->c[1];
  if (c->weight < 0) {
    Expr *i = x_add(b, x_muli(b, x_add(b, x_muli(b, k0, c->c), ci), c->volume), wk);
    return x_load_as(b, c->acc, lower_in(l, c->wt), i, c->lanes, at->count, c->c * c->volume);
  }
  Expr *panel = x_add(b, x_muli(b, x_divi(b, k0, c->lanes), c->c), ci);
  Expr *i = x_muli(b, x_add(b, x_muli(b, panel, c->volume), wk), c->lanes);
  return x_load(b, lower_weight(l, "w", c->weight, c->wt->dt), i, c->lanes);
}

static void conv_channels(Lower *l, const Node *n, const WindowAt *w, void *user) {
  const Conv *c = user;
  Build *b = &l->b;
  Var *x = lower_in(l, c->x), *acc[PIXEL_TILE];
  Expr *k0 = w->at.c[1], *kp[WINDOW_DIMS], *in[WINDOW_DIMS];
  int last = w->at.rank - 1;
  for (int i = 0; i < w->nx; i++) acc[i] = s_reg(b, "acc", x_num(b, type_of(c->acc, c->lanes), 0));
  Expr *ci = s_for_n(b, "ci", c->c);
  Expr *plane = s_let(b, "plane", plane_of(l, c, &w->at, c->depthwise ? k0 : ci));
  window_open(b, &c->w, w, kp, in);
  int64_t step = c->w.d[last - 2].stride * value_stride(c->x, last);
  int64_t between = c->x->layout.kind == LAYOUT_BLOCKED ? 1 : value_stride(c->x, 1);   /* channels, for depthwise */
  Expr *wv = s_let(b, "wv", weight_vector(l, c, &w->at, ci, window_kernel_at(b, &c->w, kp)));
  Expr *at_x = s_let(b, "ix", input_at(b, c, plane, in));
  for (int i = 0; i < w->nx; i++) {
    Expr *px = x_load_as(b, c->acc, x, x_addi(b, at_x, i * step), c->depthwise ? c->lanes : 1,
                         c->x->layout.kind == LAYOUT_BLOCKED ? NULL : w->at.count, between);
    px = gated(l, c, &w->at, ci, px);
    s_set(b, acc[i], x_fma(b, px, wv, x_var(b, acc[i])));
  }
  window_close(b, &c->w);
  s_end(b);
  for (int i = 0; i < w->nx; i++) {
    At at = w->at;
    at.c[last] = x_addi(b, at.c[last], i);
    Expr *e = conv_scale_bias(l, c->out, c->scaled ? NULL : c->scale, c->bias, x_var(b, acc[i]), k0, c->lanes, at.count);
    lower_finish(l, n, e, &at);
  }
}

/* [K / lanes][C / group][kernel...][lanes], zero past K, times the scale. */
static void pack_weights(Lower *l, Conv *c) {
  c->weight = -1;
  if (!value_is_const(c->wt)) return;
  c->scaled = conv_scale_packs(c->wt, c->scale);
  int64_t k = c->k * c->group, row = c->c * c->volume, panels = (k + c->lanes - 1) / c->lanes;
  Pack p = {.src = c->wt->data, .dt = c->wt->dt, .ndims = 4, .limit = {k}, .scale = c->scaled ? c->scale->data : NULL,
            .dim = {{panels, c->lanes * row, 0, c->lanes}, {c->c, c->volume, -1, 0}, {c->volume, 1, -1, 0}, {c->lanes, row, 0, 1}}};
  c->weight = program_add_pack(l->p, c->wt->name, &p, arena_printf(l->arena, "conv [%lld][%lld][%lld][%d]", (long long)panels,
                                                                   (long long)c->c, (long long)c->volume, c->lanes));
}

/* Whether vectors hold output channels; sets lanes. */
static bool by_channels(const Lower *l, const Node *n, Conv *c) {
  const Value *y = n->out[0];
  int64_t width = y->shape.d[y->shape.rank - 1].n;
  c->lanes = op_lanes(l, n, c->x->dt);
  if (y->layout.kind == LAYOUT_BLOCKED) {
    /* The lanes of a vector have to be in one group, and beside each other in a BLOCKED input. */
    bool fits = c->group == 1 || (c->depthwise && c->x->layout.kind == LAYOUT_BLOCKED && c->x->layout.block % c->lanes == 0);
    if (!fits) c->lanes = 1;
    return fits && c->lanes > 1;
  }
  if (c->lanes == 1) return false;
  if (c->x->layout.kind == LAYOUT_BLOCKED && c->group > 1) return (c->lanes = 1, false);
  bool narrow = width < c->lanes || c->w.d[c->w.rank - 1].stride > 1;
  return c->x->layout.kind == LAYOUT_BLOCKED ? c->k > 1 : narrow && c->group == 1 && c->k >= c->lanes && value_is_const(c->wt);
}

void lower_conv(Lower *l, const Node *n) {
  const ConvAttr *a = n->attr;
  const Value *y = n->out[0];
  Conv c = {.x = n->in[0], .wt = n->in[1], .bias = op_in(n, 2), .scale = op_in(n, 3), .gate = op_in(n, 4), .group = a->group};
  if (value_count(y) == 0 || !conv_window(l->g, n, &c.w)) return;
  for (int i = 0; i < c.w.rank; i++) c.w.d[i].out = y->shape.d[i + 2].n;
  c.acc = acc_type(c.x->dt);
  c.out = product_type(c.x->dt);
  c.c = c.wt->shape.d[1].n;
  c.k = c.wt->shape.d[0].n / a->group;
  c.volume = window_volume(&c.w);
  c.depthwise = a->group > 1 && c.c == 1 && c.k == 1;
  bool channels = by_channels(l, n, &c);
  if (!channels && c.x->layout.kind == LAYOUT_BLOCKED) c.lanes = 1;
  if (!channels && y->layout.kind == LAYOUT_BLOCKED) c.lanes = 1;
  c.tile = c.k % 4 == 0 ? ROW_TILE : c.k % 2 == 0 ? 2 : 1;
  lower_open(l, n, "conv %s, %lld to %lld channels, kernel %lld, %lld groups", channels ? "channels" : "rows", (long long)(c.c * c.group),
             (long long)(c.k * c.group), (long long)c.volume, (long long)c.group);
  if (channels) pack_weights(l, &c);
  WindowNest nest = {.w = &c.w, .lanes = c.lanes, .vdim = channels ? 1 : y->shape.rank - 1, .ctile = c.tile, .xtile = PIXEL_TILE,
                     .fn = channels ? conv_channels : conv_rows, .user = &c};
  window_nest(l, n, &nest);
  lower_body_in_place(l, n, 0);
  lower_close(l, 2.0 * (double)value_count(y) * (double)c.c * (double)c.volume);
}
