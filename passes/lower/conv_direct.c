/* conv_direct.c: direct convolution as an implicit matrix product with register tiles.
 *
 * A tile is `rows x cols` output pixels by `vecs` vectors of output channels, all in registers. One reduction step loads `vecs` weight
 * vectors and, for each pixel, broadcasts one input element into `vecs` FMAs. Weights are packed in the order they are consumed,
 * [panel][C/block][kh][kw][block][vecs*lanes], a folded scale multiplied in; the last panel is as narrow as the channels left.
 *
 * Windows that reach into the padding: a strip of input rows is first copied, with its zero border, into per-thread scratch
 * [C/block][rows][cols][block], small enough for L2. The copy costs one load and one store where the convolution spends K*kh*kw/lanes
 * FMAs, and in return every tile is an interior one. Without padding the input is read where it lies; a 1x1 convolution of stride 1
 * treats the image as a single row.
 *
 * Grouped convolutions: a panel reads the channels of the groups it touches and no others. Where it touches several, weights between a
 * channel and the outputs of another group are zero; narrower panels waste less on that, and the cost model weighs it. (An infinity or a NaN
 * can so reach the other groups of its panel, as NaN.)
 *
 * A sum of 1x1 convolutions (ConvSum) accumulates one source after the other in the same registers: each reads its own image with its own
 * strides and has weights of its own, in panels of the same width.
 *
 * The range runs over groups of panels, images and strips: conv_split.
 */
#include "../passes.h"
#include "conv_direct.h"
#include "turn.h"

#include <string.h>

#define JOINED_MAX 6

typedef struct Emit {
  Lower *l;
  const Node *n;
  Build *b;
  DirectPlan p;
  Var *x, *src;
  ConvAffine affine;
  Turn turn;                /* PLAIN results: a tile row waits in [vecs][rows][turn_cols] slots */
  int64_t turn_cols;
  Var *gated;               /* a panel's weights times the gates of the open image */
  Expr *img, *y0;           /* image; first output row (flat: pixel) of the strip */
  Expr *src_origin;         /* element offset of the source's first channel block, row 0 of the strip */
  struct Emit *more;        /* further sources of a sum: as this one, with their own x, src, src_origin, and s, blocks, src_rows, src_cols in p */
  int nmore;
  bool further;             /* is one of them; then w are its weights for the open panel */
  Var *w;
} Emit;

/* Zeroes `count` elements from `at`, in vectors and a part. */
static void emit_zero(Emit *e, Expr *at, int64_t count) {
  Build *b = e->b;
  int lanes = e->l->t->lanes;
  Expr *zero = x_float(b, type_of(DT_F32, lanes), 0);
  if (count >= lanes) {
    Expr *i = s_for(b, "i", x_idx(b, 0), x_idx(b, count / lanes * lanes), lanes);
    s_store(b, e->src, x_add(b, at, i), zero);
    s_end(b);
  }
  if (count % lanes) s_store_part(b, e->src, x_addi(b, at, count / lanes * lanes), zero, x_idx(b, count % lanes), NULL);
}

static void emit_copy_row(Emit *e, Expr *from, Expr *to, int64_t count) {
  Build *b = e->b;
  int lanes = e->l->t->lanes;
  if (count >= lanes) {
    Expr *i = s_for(b, "i", x_idx(b, 0), x_idx(b, count / lanes * lanes), lanes);
    s_store(b, e->src, x_add(b, to, i), x_load(b, e->x, x_add(b, from, i), lanes));
    s_end(b);
  }
  if (count % lanes) {
    int64_t done = count / lanes * lanes;
    Expr *n = x_idx(b, count % lanes);
    s_store_part(b, e->src, x_addi(b, to, done), x_load_part(b, e->x, x_addi(b, from, done), lanes, n, NULL), n, NULL);
  }
}

/* The strip's input rows, with zeros where the window leaves the image. */
static void emit_copy(Emit *e) {
  Build *b = e->b;
  const ConvShape *s = &e->p.s;
  int64_t row = e->p.src_cols * s->block, left = MAXI(0, MINI(s->pw, e->p.src_cols)), skip = MAXI(0, -s->pw);
  int64_t take = MAXI(0, MINI(s->iw - skip, e->p.src_cols - left));
  s_comment(b, "the strip's rows, zero where the window leaves the image");
  Expr *cb = s_for_n(b, "cb", e->p.blocks);
  Expr *r = s_for_n(b, "sr", e->p.src_rows);
  Expr *to = s_let(b, "to", x_muli(b, x_add(b, x_muli(b, cb, e->p.src_rows), r), row));
  Expr *iy = s_let(b, "iy", x_addi(b, x_add(b, x_muli(b, e->y0, s->sh), r), -s->ph));
  s_if(b, x_bin(b, X_AND, x_bin(b, X_GE, iy, x_idx(b, 0)), x_bin(b, X_LT, iy, x_idx(b, s->h))));
  Expr *plane = x_add(b, x_muli(b, e->img, e->p.blocks), cb);
  Expr *from = s_let(b, "from", x_muli(b, x_addi(b, x_muli(b, x_add(b, x_muli(b, plane, s->h), iy), s->iw), skip), s->block));
  emit_zero(e, to, left * s->block);
  emit_copy_row(e, from, x_addi(b, to, left * s->block), take * s->block);
  emit_zero(e, x_addi(b, to, (left + take) * s->block), row - (left + take) * s->block);
  s_else(b);
  emit_zero(e, to, row);
  s_end(b);
  s_end(b);
  s_end(b);
}

/* panel: among those of w, which have weights for `blocks` channel blocks each; they read channels c0 .. c1-1. */
typedef struct TileAt { int rows, cols, vecs; Var *w; int64_t blocks; Expr *panel, *k, *c0, *c1, *y, *x; } TileAt;

/* The panel's input channels. */
static void emit_channels(Emit *e, TileAt *t) {
  Build *b = e->b;
  const ConvShape *s = &e->p.s;
  int64_t kg = s->k / s->group, cg = s->c / s->group, width = (int64_t)t->vecs * e->l->t->lanes;
  if (s->group == 1) {
    t->c0 = x_idx(b, 0);
    t->c1 = x_idx(b, s->c);
    return;
  }
  t->c0 = s_let(b, "c0", x_muli(b, x_divi(b, t->k, kg), cg));
  Expr *last = kg % width == 0 ? t->k : x_bin(b, X_MIN, x_addi(b, t->k, width - 1), x_idx(b, s->k - 1));
  t->c1 = kg % width == 0 ? x_addi(b, t->c0, cg) : s_let(b, "c1", x_muli(b, x_addi(b, x_divi(b, last, kg), 1), cg));
}

/* Opens the loop over the panel's channel blocks; gives the block, its place among the panel's, and its channels. */
static Expr *open_blocks(Emit *e, const TileAt *t, Expr **place, Expr **from, Expr **to) {
  Build *b = e->b;
  const ConvShape *s = &e->p.s;
  int64_t block = s->block;
  Expr *zero = x_idx(b, 0), *full = x_idx(b, block), *cb;
  *from = zero;
  *to = full;
  if (s->group == 1) {
    *place = cb = s_for_n(b, "cb", e->p.blocks);
    if (s->c % block) *to = x_bin(b, X_MIN, full, x_sub(b, t->c1, x_muli(b, cb, block)));
    return cb;
  }
  Expr *first = x_divi(b, t->c0, block);
  *place = s_for(b, "cb", zero, x_sub(b, x_divi(b, x_addi(b, t->c1, block - 1), block), first), 1);
  cb = s_let(b, "block", x_add(b, first, *place));
  if (s->c / s->group % block == 0) return cb;
  *from = s_let(b, "from", x_bin(b, X_MAX, zero, x_sub(b, t->c0, x_muli(b, cb, block))));
  *to = s_let(b, "to", x_bin(b, X_MIN, full, x_sub(b, t->c1, x_muli(b, cb, block))));
  return cb;
}

/* The next tile's lines of the images the body reads, a line a step: pixel c of the panel's channel block cb, as far as there are such. */
static void prefetch_operands(Emit *e, const TileAt *t, Expr *cb, Expr *c) {
  Build *b = e->b;
  for (int i = e->n->ncore; i < e->n->nin; i++) {
    const Value *v = e->n->in[i];
    if (v->layout.kind != LAYOUT_BLOCKED || value_is_const(v) || v == e->p.s.x || v->shape.d[1].n != e->p.s.k || v->shape.d[3].n * v->shape.d[2].n == 1) continue;
    Expr *vec = e->p.blocks > t->vecs ? x_bin(b, X_MIN, cb, x_idx(b, t->vecs - 1)) : cb;
    At at = {.rank = 4, .c = {e->img, x_add(b, t->k, x_muli(b, vec, e->l->t->lanes)), t->y, x_addi(b, x_add(b, t->x, c), t->cols)}, .lanes = e->l->t->lanes, .vdim = 1};
    int64_t step;
    s_prefetch(b, lower_in(e->l, v), lower_index(e->l, v, &at, &step), 2, false);
  }
}

static void emit_reduction(Emit *e, const TileAt *t, Var *acc[DIRECT_PIXELS][DIRECT_VECS]) {
  Build *b = e->b;
  const ConvShape *s = &e->p.s;
  int lanes = e->l->t->lanes, width = t->vecs * lanes;
  int64_t row = e->p.src_cols * s->block;
  Expr *ry = e->p.copy ? x_sub(b, t->y, e->y0) : t->y;
  Expr *base = s_let(b, "xb", x_add(b, e->src_origin, x_add(b, x_muli(b, ry, s->sh * row), x_muli(b, t->x, s->sw * s->block))));
  Expr *wbase = s_let(b, "wb", x_muli(b, t->panel, t->blocks * s->kh * s->kw * s->block * width));
  Expr *place, *from, *to, *cb = open_blocks(e, t, &place, &from, &to);
  Expr *kh = s_for_n(b, "kh", s->kh);
  Expr *kw = s_for_n(b, "kw", s->kw);
  Expr *xi = s_let(b, "xi", x_add(b, base, x_add(b, x_muli(b, x_add(b, x_muli(b, cb, e->p.src_rows), x_muli(b, kh, s->dh)), row), x_muli(b, kw, s->dw * s->block))));
  Expr *tap = x_add(b, x_muli(b, x_add(b, x_muli(b, place, s->kh), kh), s->kw), kw);
  Expr *wi = s_let(b, "wi", x_add(b, wbase, x_muli(b, tap, (int64_t)s->block * width)));
  bool loop = s->block > 1;
  Expr *c = loop ? s_for(b, "c", from, to, 1) : x_idx(b, 0);
  /* A channel block's pixels are far from the next block's: the next tile's lines are asked for one a step, a tile ahead of their use. */
  if (e->p.flat && loop) {
    s_prefetch(b, e->src, x_add(b, xi, x_addi(b, x_muli(b, c, s->block), (int64_t)t->cols * s->block)), 2, false);
    if (!e->further) prefetch_operands(e, t, cb, c);
  }
  Expr *w[DIRECT_VECS];
  for (int j = 0; j < t->vecs; j++) w[j] = s_let(b, "w", x_load(b, t->w, x_add(b, wi, x_addi(b, x_muli(b, c, width), (int64_t)j * lanes)), lanes));
  for (int i = 0; i < t->rows * t->cols; i++) {
    int64_t off = (i / t->cols) * s->sh * row + (i % t->cols) * s->sw * s->block;
    Expr *p = s_let(b, "p", x_splat(b, x_load(b, e->src, x_add(b, xi, x_addi(b, c, off)), 1), lanes));
    if (t->vecs > 1) s_pin(b, p->var);
    for (int j = 0; j < t->vecs; j++) s_set(b, acc[i][j], x_fma(b, p, w[j], x_var(b, acc[i][j])));
  }
  if (loop) s_end(b);
  s_end(b);
  s_end(b);
  s_end(b);
}

/* Where the result of output vector j, row r of the tile, pixel x waits to be turned. */
static Expr *turn_slot(Emit *e, int j, int r, Expr *x) {
  Expr *in_row = e->p.flat ? x_sub(e->b, x, e->y0) : x;
  return x_addi(e->b, in_row, (j * e->p.tile.rows + r) * e->turn_cols);
}

/* Stores the row of tiles that waits. */
static void emit_turned(Emit *e, const TileAt *t) {
  Build *b = e->b;
  const ConvShape *s = &e->p.s;
  if (!e->turn.t) return;
  Expr *x = e->p.flat ? e->y0 : x_idx(b, 0);
  Expr *count = e->p.flat && e->p.strips > 1 ? s_let(b, "nx", x_bin(b, X_MIN, x_idx(b, e->p.strip), x_sub(b, x_idx(b, s->ow), e->y0))) : x_idx(b, s->ow);
  for (int j = 0; j < t->vecs; j++)
    for (int r = 0; r < t->rows; r++) {
      At at = {.rank = 4, .c = {e->img, x_addi(b, t->k, (int64_t)j * e->l->t->lanes), x_addi(b, t->y, r), x}};
      turn_row(&e->turn, turn_slot(e, j, r, x), count, &at);
    }
}

static void emit_tile(Emit *e, const TileAt *t) {
  Build *b = e->b;
  const ConvShape *s = &e->p.s;
  int lanes = e->l->t->lanes;
  Var *acc[DIRECT_PIXELS][DIRECT_VECS];
  for (int j = 0; j < t->vecs; j++) {
    Expr *init = conv_start(e->l, &e->affine, x_addi(b, t->k, (int64_t)j * lanes));
    for (int i = 0; i < t->rows * t->cols; i++) {
      char name[32];
      snprintf(name, sizeof name, "a%d_%d", i, j);
      acc[i][j] = s_reg(b, name, init);
    }
  }
  emit_reduction(e, t, acc);
  for (int i = 0; i < e->nmore; i++) {
    TileAt u = *t;
    u.w = e->more[i].w;
    u.blocks = e->more[i].p.blocks;
    u.c1 = x_idx(b, e->more[i].p.s.c);
    emit_reduction(&e->more[i], &u, acc);
  }
  for (int j = 0; j < t->vecs; j++) {
    Expr *k = x_addi(b, t->k, (int64_t)j * lanes);
    int64_t k0;
    Expr *count = x_is_int(k, &k0) && k0 + lanes > s->k ? x_idx(b, s->k - k0) : NULL;
    for (int i = 0; i < t->rows * t->cols; i++) {
      Expr *y = x_addi(b, x_muli(b, x_addi(b, t->y, i / t->cols), s->ysy), s->y0);
      Expr *x = x_addi(b, x_muli(b, x_addi(b, t->x, i % t->cols), s->ysx), s->x0);
      At at = {.rank = 4, .c = {e->img, k, y, x}, .lanes = lanes, .vdim = 1, .count = count};
      Expr *sum = conv_result(e->l, &e->affine, x_var(b, acc[i][j]), k);
      if (e->turn.t) turn_put(&e->turn, turn_slot(e, j, i / t->cols, at.c[3]), sum, &at);
      else lower_finish(e->l, e->n, sum, &at);
    }
  }
}

/* One row of tiles: x from x0 to x1, of which the last may be narrower. x1 is a constant in all but the flat case. */
static void emit_columns(Emit *e, TileAt t, Expr *x0, Expr *full, int64_t ragged, Expr *is_last) {
  Build *b = e->b;
  t.cols = e->p.tile.cols;
  int64_t lo, hi;
  if (!(x_is_int(x0, &lo) && x_is_int(full, &hi) && lo >= hi)) {
    t.x = s_for(b, "x", x0, full, t.cols);
    emit_tile(e, &t);
    s_end(b);
  }
  if (!ragged) return;
  if (is_last) s_if(b, is_last);
  t.cols = (int)ragged;
  t.x = x_idx(b, e->p.s.ow - ragged);
  emit_tile(e, &t);
  if (is_last) s_end(b);
}

/* The open panel's weights times the gates of the image's channels, once for all its pixels; they are what the tiles read then. */
static void emit_gated(Emit *e, TileAt *t) {
  Build *b = e->b;
  const ConvShape *s = &e->p.s;
  int lanes = e->l->t->lanes, width = t->vecs * lanes;
  if (!s->gate) return;
  Var *gate = lower_in(e->l, s->gate);
  int64_t row = s->block * width, stride = s->gate->layout.kind == LAYOUT_BLOCKED ? div_up(s->c, s->gate->layout.block) * s->gate->layout.block : s->c;
  Expr *wbase = s_let(b, "wb", x_muli(b, t->panel, t->blocks * s->kh * s->kw * row));
  s_comment(b, "weights times gates");
  Expr *cb = s_for_n(b, "cb", t->blocks);
  Expr *first = s_let(b, "c0", x_muli(b, cb, s->block));
  Expr *end = s->c % s->block ? x_bin(b, X_MIN, x_idx(b, s->block), x_sub(b, x_idx(b, s->c), first)) : x_idx(b, s->block);
  Expr *tap = s_for_n(b, "kk", s->kh * s->kw);
  Expr *to = s_let(b, "to", x_muli(b, x_add(b, x_muli(b, cb, s->kh * s->kw), tap), row));
  Expr *c = s->block > 1 ? s_for(b, "c", x_idx(b, 0), end, 1) : x_idx(b, 0);
  Expr *g = s_let(b, "g", x_splat(b, x_load(b, gate, x_add(b, x_muli(b, e->img, stride), x_add(b, first, c)), 1), lanes));
  for (int j = 0; j < t->vecs; j++) {
    Expr *at = x_add(b, to, x_addi(b, x_muli(b, c, width), (int64_t)j * lanes));
    s_store(b, e->gated, at, x_mul(b, x_load(b, t->w, x_add(b, wbase, at), lanes), g));
  }
  if (s->block > 1) s_end(b);
  s_end(b);
  s_end(b);
  t->w = e->gated;
  t->panel = x_idx(b, 0);
}

static void emit_pixels(Emit *e, TileAt t) {
  Build *b = e->b;
  const DirectPlan *p = &e->p;
  const ConvShape *s = &p->s;
  int64_t ragged_x = s->ow % p->tile.cols, ragged_y = s->oh % p->tile.rows;
  if (p->flat) {
    Expr *full = p->strips == 1 ? x_idx(b, s->ow - ragged_x) : x_bin(b, X_MIN, x_addi(b, e->y0, p->strip), x_idx(b, s->ow - ragged_x));
    t.rows = 1;
    t.y = x_idx(b, 0);
    Expr *is_last = p->strips == 1 ? NULL : x_bin(b, X_GE, x_addi(b, e->y0, p->strip), x_idx(b, s->ow));
    emit_columns(e, t, e->y0, full, ragged_x, is_last);
    emit_turned(e, &t);
    return;
  }
  Expr *full = p->strips == 1 ? x_idx(b, s->oh - ragged_y) : x_bin(b, X_MIN, x_addi(b, e->y0, p->strip), x_idx(b, s->oh - ragged_y));
  if (s->oh >= p->tile.rows) {
    t.rows = p->tile.rows;
    t.y = s_for(b, "y", e->y0, full, t.rows);
    emit_columns(e, t, x_idx(b, 0), x_idx(b, s->ow - ragged_x), ragged_x, NULL);
    emit_turned(e, &t);
    s_end(b);
  }
  if (ragged_y) {
    if (p->strips > 1) s_if(b, x_bin(b, X_GE, x_addi(b, e->y0, p->strip), x_idx(b, s->oh)));
    t.rows = (int)ragged_y;
    t.y = x_idx(b, s->oh - ragged_y);
    emit_columns(e, t, x_idx(b, 0), x_idx(b, s->ow - ragged_x), ragged_x, NULL);
    emit_turned(e, &t);
    if (p->strips > 1) s_end(b);
  }
}

/* Weights of panels from output channel `first` on, of all sources. */
static void pack_sources(Emit *e, TileAt *t, int64_t first, int64_t panels) {
  t->w = direct_pack(e->l, &e->p, first, panels, t->blocks, t->vecs);
  for (int i = 0; i < e->nmore; i++) e->more[i].w = direct_pack(e->l, &e->more[i].p, first, panels, e->more[i].p.blocks, t->vecs);
}

static void emit_panels(Emit *e, Expr *group) {
  Build *b = e->b;
  const DirectPlan *p = &e->p;
  int width = p->tile.vecs * e->l->t->lanes;
  TileAt t = {.vecs = p->tile.vecs};
  if (p->panels) {
    t.blocks = p->panel_blocks;
    pack_sources(e, &t, 0, p->panels);
    Expr *first = x_muli(b, group, p->panels_per_group);
    Expr *end = p->groups == 1 ? x_idx(b, p->panels) : x_bin(b, X_MIN, x_addi(b, first, p->panels_per_group), x_idx(b, p->panels));
    t.panel = s_for(b, "kp", first, end, 1);
    t.k = s_let(b, "k", x_muli(b, t.panel, width));
    emit_channels(e, &t);
    emit_gated(e, &t);
    emit_pixels(e, t);
    s_end(b);
  }
  if (p->rest) {
    t.vecs = (int)p->rest;
    t.blocks = p->rest_blocks;
    pack_sources(e, &t, p->panels * width, 1);
    t.panel = x_idx(b, 0);
    t.k = x_idx(b, p->panels * width);
    emit_channels(e, &t);
    if (p->groups > 1) s_if(b, x_bin(b, X_EQ, group, x_idx(b, p->groups - 1)));
    emit_gated(e, &t);
    emit_pixels(e, t);
    if (p->groups > 1) s_end(b);
  }
}

/* ---- sums ---- */

/* The further sources follow the plan of the first. */
static void open_sources(Emit *e) {
  for (int i = 0; i < e->nmore; i++) {
    ConvShape s = e->more[i].p.s;
    if (e->p.flat) direct_flatten(&s);
    Emit *m = &e->more[i];
    *m = *e;
    m->nmore = 0;
    m->further = true;
    m->p.s = s;
    m->p.blocks = div_up(s.c, s.block);
    m->p.src_rows = s.h;
    m->p.src_cols = s.iw;
    m->x = m->src = lower_in(e->l, s.x);
    m->src_origin = x_muli(e->b, e->img, m->p.blocks * s.h * s.iw * s.block);
  }
}

static int64_t channels_in(const Emit *e) {
  int64_t sum = e->p.s.c / e->p.s.group;
  for (int i = 0; i < e->nmore; i++) sum += e->more[i].p.s.c;
  return sum;
}

static const char *describe(const Emit *e, const ConvShape *s, const char *what) {
  Text t = {.a = e->l->arena};
  text_addf(&t, "%s%lldx%lld", what, (long long)s->kh, (long long)s->kw);
  if (e->nmore) text_add(&t, " sum");
  else if (s->sh > 1) text_add(&t, " strided");
  if (s->group > 1) text_addf(&t, " in %lld groups", (long long)s->group);
  text_addf(&t, " %lld", (long long)s->c);
  for (int i = 0; i < e->nmore; i++) text_addf(&t, "+%lld", (long long)e->more[i].p.s.c);
  text_addf(&t, "->%lld, %lldx%lld, tile %dx%dx%d", (long long)s->k, (long long)s->oh, (long long)s->ow, e->p.tile.rows, e->p.tile.cols,
            e->p.tile.vecs * e->l->t->lanes);
  return t.s;
}

/* ---- kernels ---- */

/* Constants, place and layout of node e->n's result, whose shape was `given`. */
static void open_result(Emit *e, const ConvShape *given) {
  Lower *l = e->l;
  const Node *n = e->n;
  const DirectPlan *p = &e->p;
  e->affine = conv_affine(l, given);
  if (p->flat) {
    direct_see_flat(l, given->y);
    for (int i = n->ncore; i < n->nin; i++) direct_see_flat(l, n->in[i]);
  }
  if (direct_whole_image(given)) conv_allow_in_place(l, n, given);
  e->turn_cols = p->flat ? p->strip : p->s.ow;
  int64_t slots = p->tile.vecs * p->tile.rows * e->turn_cols;
  if (direct_whole_image(given) && turn_pays(l, n) && slots * l->t->lanes * 4 <= MINI(TURN_MOST, lower_scratch_limit(l))) e->turn = turn_open(l, n, slots);
  int64_t weights = p->blocks * given->block * given->kh * given->kw * p->tile.vecs * l->t->lanes;
  if (given->gate) e->gated = lower_scratch(l, "gw", DT_F32, weights * 4);
}

/* The image, strip and source of range iteration r; gives the group of panels. */
static Expr *open_strip(Emit *e, Expr *r) {
  Build *b = e->b;
  const DirectPlan *p = &e->p;
  const ConvShape *s = &p->s;
  int64_t pieces = s->n * p->strips;
  Expr *group = p->groups == 1 ? x_idx(b, 0) : s_let(b, "kg", x_divi(b, r, pieces));
  Expr *rest = p->groups == 1 ? r : s_let(b, "rs", x_remi(b, r, pieces));
  e->img = s->n == 1 ? x_idx(b, 0) : s_let(b, "img", x_divi(b, rest, p->strips));
  Expr *strip = s->n == 1 ? rest : x_remi(b, rest, p->strips);
  e->y0 = p->strips == 1 ? x_idx(b, 0) : s_let(b, p->flat ? "x0" : "y0", x_muli(b, strip, p->strip));
  int64_t image = p->blocks * p->src_rows * p->src_cols * s->block;
  if (p->copy) {
    e->src = lower_scratch(e->l, "s", DT_F32, image * 4);
    e->src_origin = x_idx(b, 0);
    emit_copy(e);
  } else {
    e->src = e->x;
    e->src_origin = x_muli(b, e->img, image);
  }
  return group;
}

static double flops(const ConvShape *s, int64_t channels) {
  return 2.0 * (double)(s->n * s->k * channels * s->kh * s->kw) * (double)(s->oh * s->ow);
}

void conv_direct_emit(Lower *l, const Node *n, const ConvShape *shape, int sources, const char *what) {
  Emit e = {.l = l, .n = n, .p.s = *shape, .nmore = sources - 1};
  if (e.nmore) e.more = NEW_N(l->arena, Emit, e.nmore);
  for (int i = 0; i < e.nmore; i++) e.more[i].p.s = shape[i + 1];
  direct_plan(l, n, shape + 1, e.nmore, &e.p);
  e.b = lower_open(l, n, "%s", describe(&e, shape, what));
  Expr *r = lower_range(l, "r", e.p.groups * shape->n * e.p.strips);
  e.x = lower_in(l, shape->x);
  open_result(&e, shape);
  Expr *group = open_strip(&e, r);
  open_sources(&e);
  emit_panels(&e, group);
  lower_close(l, flops(shape, channels_in(&e)));
}

/* ---- joined convolutions ---- */

/* n and the convolutions joined to it; 1 if there are none, or one of them cannot be computed here. */
static int read_joined(const Lower *l, const Node *n, const Node **node, ConvShape *s) {
  int count = 0;
  for (const Node *m = n; m && count < JOINED_MAX && (m == n || m->joined); m = m->next, count++) {
    if (m->op != OP_Conv || !conv_shape(l, m, &s[count]) || s[count].late_scale) return 1;
    node[count] = m;
  }
  return count;
}

static void merge_origins(Lower *l, const Node *const *node, int count) {
  Call *c = &l->p->calls.at[l->p->calls.n - 1];
  int n = 0;
  for (int i = 0; i < count; i++) n += node[i]->norigin;
  const char **origin = NEW_N(l->p->arena, const char *, n + 1);
  c->origin = origin;
  c->norigin = n;
  for (int i = 0; i < count; i++)
    for (int k = 0; k < node[i]->norigin; k++) *origin++ = node[i]->origin[k];
}

/* One kernel for all: a strip of the input, copied if need be, then the panels of one node after the other in tiles of one size. False, and
 * nothing done, where threads are to share out the panels of a strip, or pixels lie differently. */
static bool emit_joined(Lower *l, const Node *const *node, const ConvShape *s, int count) {
  Emit e = {.l = l, .n = node[0], .p.s = s[0]};
  Text k = {.a = l->arena};
  double work = 0;
  e.p.s.k = 0;
  for (int i = 0; i < count; i++) {
    if (direct_is_flat(node[i], &s[i]) != direct_is_flat(node[0], &s[0])) return false;
    e.p.s.k += div_up(s[i].k, l->t->lanes) * l->t->lanes;
    text_addf(&k, "%s%lld", i ? "/" : "", (long long)s[i].k);
    work += flops(&s[i], s[i].c);
  }
  direct_plan(l, node[0], NULL, 0, &e.p);
  if (e.p.groups > 1) return false;
  e.b = lower_open(l, node[0], "conv%lldx%lld joined %lld->%s, %lldx%lld, tile %dx%dx%d", (long long)s->kh, (long long)s->kw,
                   (long long)s->c, k.s, (long long)s->oh, (long long)s->ow, e.p.tile.rows, e.p.tile.cols, e.p.tile.vecs * l->t->lanes);
  Expr *r = lower_range(l, "r", s->n * e.p.strips);
  e.x = lower_in(l, s->x);
  Expr *group = open_strip(&e, r);
  for (int i = 0; i < count; i++) {
    Emit m = e;
    m.n = node[i];
    m.p.s = s[i];
    if (m.p.flat) direct_flatten(&m.p.s);
    direct_set_panels(l, &m.p);
    open_result(&m, &s[i]);
    emit_panels(&m, group);
  }
  lower_close(l, work);
  merge_origins(l, node, count);
  for (int i = 1; i < count; i++) lower_done(l, node[i]);
  return true;
}

bool conv_direct(Lower *l, const Node *n) {
  ConvShape s[MAXI(CONV_SOURCES_MAX, JOINED_MAX)];
  const Node *node[JOINED_MAX];
  if (n->op == OP_Conv && n->next && n->next->joined) {
    int count = read_joined(l, n, node, s);
    if (count > 1 && emit_joined(l, node, s, count)) return true;
  }
  int sources = conv_sources(n);
  for (int i = 0; i < sources; i++)
    if (!conv_source(l, n, i, &s[i])) return false;
  if (n->op == OP_Conv && !conv_groups_dense(n, l->t->lanes)) return false;
  conv_direct_emit(l, n, s, sources, "conv");
  return true;
}
