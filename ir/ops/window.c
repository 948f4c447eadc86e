/* ops/window.c: windows sliding over an image: what convolutions and pools share.
 *
 * Output position o of an axis sees input positions o*stride - pad + k*dilation for kernel positions k in [0, kernel). Those outside the
 * input are never read: per row, the range [lo, hi) of k that stays inside is computed before the loops over k. Along the last axis the
 * output is cut into a left edge, an interior where every k is inside (so a vector or tile of neighbours can be computed at once), and
 * a right edge; edges are computed one place at a time.
 */
#include "ops.h"

int64_t window_extent(int64_t in, int64_t kernel, int64_t stride, int64_t pad_begin, int64_t pad_end, int64_t dilation, bool ceil_mode) {
  int64_t span = in + pad_begin + pad_end - (dilation * (kernel - 1) + 1);
  if (span < 0 && (!ceil_mode || -span >= stride)) return span > -stride - 1 && in == 0 ? 0 : -1;
  int64_t out = span < 0 ? 1 : span / stride + 1;
  if (ceil_mode && span > 0 && span % stride) out++;
  /* A last window that would start in the end padding is not one. */
  if (ceil_mode && out > 0 && (out - 1) * stride >= in + pad_begin) out--;
  return out;
}

bool window_check(Graph *g, const Node *n, const Value *x, Ints kernel, Ints strides, Ints pads, Ints dilations, Window *w) {
  if (!op_check_rank(g, n, x, "the input", 3, MAX_RANK)) return false;
  int rank = x->shape.rank - 2;
  if (!op_check_ints(g, n, "kernel", kernel, rank, 1, INT32_MAX) || !op_check_ints(g, n, "strides", strides, rank, 1, INT32_MAX) ||
      !op_check_ints(g, n, "pads", pads, 2 * rank, 0, INT32_MAX) || !op_check_ints(g, n, "dilations", dilations, rank, 1, INT32_MAX))
    return false;
  *w = (Window){.rank = rank};
  int64_t volume = 1;
  for (int i = 0; i < rank; i++) {
    int64_t in = x->shape.d[i + 2].n;
    if (in < 0 || in > EXTENT_MAX) REFUSE(g, n, NULL, "the input's shape %s is out of range", shape_text(g->arena, &x->shape));
    w->d[i] = (WindowDim){in, 0, kernel.v[i], strides.v[i], dilations.v[i], pads.v[i], pads.v[i + rank]};
    volume = volume > WINDOW_VOLUME_MAX / kernel.v[i] ? WINDOW_VOLUME_MAX + 1 : volume * kernel.v[i];
  }
  if (volume > WINDOW_VOLUME_MAX) REFUSE(g, n, NULL, "the kernel has more than %lld positions", (long long)WINDOW_VOLUME_MAX);
  return true;
}

int64_t window_volume(const Window *w) {
  int64_t v = 1;
  for (int i = 0; i < w->rank; i++) v *= w->d[i].kernel;
  return v;
}

/* ---- lowering ---- */

/* base, lo and hi of one axis at output position o; inside: all kernel positions are known to be. */
static void place(Build *b, const WindowDim *d, Expr *o, bool inside, WindowAt *w, int axis) {
  Expr *base = s_let(b, "base", x_addi(b, x_muli(b, o, d->stride), -d->pad));
  w->base[axis] = base;
  w->lo[axis] = x_idx(b, 0);
  w->hi[axis] = x_idx(b, d->kernel);
  if (inside) return;
  int64_t up = d->dilation - 1;
  if (d->pad > 0) {
    Expr *before = x_bin(b, X_MAX, x_sub(b, x_idx(b, 0), base), x_idx(b, 0));
    w->lo[axis] = s_let(b, "lo", x_divi(b, x_addi(b, before, up), d->dilation));
  }
  if ((d->out - 1) * d->stride - d->pad + (d->kernel - 1) * d->dilation >= d->in) {
    Expr *after = x_bin(b, X_MAX, x_sub(b, x_idx(b, d->in), base), x_idx(b, 0));
    w->hi[axis] = s_let(b, "hi", x_bin(b, X_MIN, x_divi(b, x_addi(b, after, up), d->dilation), x_idx(b, d->kernel)));
  }
}

typedef struct Row {
  Lower *l;
  const Node *n;
  const WindowNest *nest;
  WindowAt w;
} Row;

static void emit(Row *r, Expr *x, bool inside, int lanes, int64_t count, int nx) {
  const WindowNest *nest = r->nest;
  int last = nest->w->rank - 1, dim = r->w.at.rank - 1;
  WindowAt w = r->w;
  w.nx = nx;
  w.at.c[dim] = x;
  if (nest->vdim == dim) {
    w.at.lanes = lanes;
    w.at.count = count < lanes ? x_idx(&r->l->b, count) : NULL;
  }
  place(&r->l->b, &nest->w->d[last], x, inside, &w, last);
  nest->fn(r->l, r->n, &w, nest->user);
}

/* Output positions [begin, end) one at a time. */
static void singles(Row *r, int64_t begin, int64_t end, bool inside) {
  if (begin >= end) return;
  Build *b = &r->l->b;
  int lanes = r->nest->vdim == r->w.at.rank - 1 ? 1 : r->nest->lanes;
  Expr *x = x_idx(b, begin);
  if (end - begin > 1) x = s_for(b, "x", x, x_idx(b, end), 1);
  emit(r, x, inside, lanes, lanes, 1);
  if (end - begin > 1) s_end(b);
}

/* Output positions [begin, end), all inside, `step` at a time: lanes of a vector or places of a tile. */
static void interior(Row *r, int64_t begin, int64_t end) {
  Build *b = &r->l->b;
  bool along = r->nest->vdim == r->w.at.rank - 1;
  if (along && begin + 1 == end) {   /* no lanes along an extent of 1 */
    singles(r, begin, end, true);
    return;
  }
  int64_t step = along ? r->nest->lanes : r->nest->xtile, full = step > 1 ? (end - begin) / step * step : 0;
  if (full > 0) {
    Expr *x = full == step ? x_idx(b, begin) : s_for(b, "x", x_idx(b, begin), x_idx(b, begin + full), step);
    emit(r, x, true, r->nest->lanes, r->nest->lanes, along ? 1 : (int)step);
    if (full != step) s_end(b);
  }
  if (begin + full == end) return;
  if (along && step > 1) emit(r, x_idx(b, begin + full), true, r->nest->lanes, end - begin - full, 1);
  else singles(r, begin + full, end, true);
}

void window_nest(Lower *l, const Node *n, const WindowNest *nest) {
  Build *b = &l->b;
  const Value *y = n->out[0];
  const Window *win = nest->w;
  int rank = y->shape.rank;
  int64_t channels = y->shape.d[1].n, ctile = nest->vdim == 1 ? nest->lanes : nest->ctile;
  int64_t extent[MAX_RANK] = {y->shape.d[0].n, (channels + ctile - 1) / ctile}, total = extent[0] * extent[1];
  for (int d = 2; d < rank - 1; d++) total *= extent[d] = y->shape.d[d].n;
  Expr *range = lower_range(l, "r", total);
  Row r = {.l = l, .n = n, .nest = nest};
  r.w.at = at_zero(b, rank);
  At *at = &r.w.at;
  unflatten(b, range, extent, rank - 1, at->c);
  at->c[1] = x_muli(b, at->c[1], ctile);   /* not named: its divisions by a block fold */
  at->vdim = nest->vdim;
  if (nest->vdim == 1) {
    at->lanes = nest->lanes;
    if (channels % ctile) at->count = s_let(b, "count", x_bin(b, X_MIN, x_sub(b, x_idx(b, channels), at->c[1]), x_idx(b, ctile)));
  }
  for (int i = 0; i < win->rank - 1; i++) place(b, &win->d[i], at->c[i + 2], false, &r.w, i);
  const WindowDim *d = &win->d[win->rank - 1];
  int64_t left = MINI((d->pad + d->stride - 1) / d->stride, d->out);
  int64_t slack = d->in - 1 - (d->kernel - 1) * d->dilation + d->pad;   /* o * stride <= slack: the last kernel position is inside */
  int64_t right = MAXI(MINI(slack < 0 ? 0 : slack / d->stride + 1, d->out), left);
  singles(&r, 0, left, false);
  interior(&r, left, right);
  singles(&r, right, d->out, false);
}

void window_open(Build *b, const Window *w, const WindowAt *at, Expr **k, Expr **in) {
  for (int i = 0; i < w->rank; i++) {
    int64_t lo, hi;
    bool fixed = x_is_int(at->lo[i], &lo) && x_is_int(at->hi[i], &hi);
    k[i] = fixed && lo == 0 ? s_for_n(b, "k", hi) : s_for(b, "k", at->lo[i], at->hi[i], 1);
    in[i] = x_add(b, at->base[i], x_muli(b, k[i], w->d[i].dilation));
  }
}

void window_close(Build *b, const Window *w) {
  for (int i = 0; i < w->rank; i++) s_end(b);
}

Expr *window_kernel_at(Build *b, const Window *w, Expr *const *k) {
  Expr *e = x_idx(b, 0);
  for (int i = 0; i < w->rank; i++) e = x_add(b, x_muli(b, e, w->d[i].kernel), k[i]);
  return e;
}
