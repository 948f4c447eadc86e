/* conv_direct_tile.c: the body of a direct convolution's kernels: copies of padded strips, register tiles, panels. What they compute, and how
 * it is laid out: conv_direct.c.
 */
#include "conv_direct.h"

/* Zeroes `count` elements from `at`, in vectors and a part. */
static void emit_zero(DirectEmit *e, Expr *at, int64_t count) {
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

static void emit_copy_row(DirectEmit *e, Expr *from, Expr *to, int64_t count) {
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

void direct_copy(DirectEmit *e, Expr *rows) {
  Build *b = e->b;
  const ConvShape *s = &e->p.s;
  int64_t row = e->p.src_cols * s->block, left = MAXI(0, MINI(s->pw, e->p.src_cols)), skip = MAXI(0, -s->pw);
  int64_t take = MAXI(0, MINI(s->iw - skip, e->p.src_cols - left));
  s_comment(b, "the strip's rows, zero where the window leaves the image");
  Expr *cb = s_for_n(b, "cb", e->p.blocks);
  Expr *r = s_for(b, "sr", x_idx(b, 0), rows, 1);
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

/* panel: among those of w, which have weights for `blocks` channel blocks each; they read channels c0 .. c1-1 and make output vectors vec, vec+1, ... */
typedef struct TileAt { int rows, cols, vecs; Var *w; int64_t blocks; Expr *panel, *vec, *k, *c0, *c1, *y, *x; } TileAt;

/* The panel's input channels. */
static void emit_channels(DirectEmit *e, TileAt *t) {
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
static Expr *open_blocks(DirectEmit *e, const TileAt *t, Expr **place, Expr **from, Expr **to) {
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
static void prefetch_operands(DirectEmit *e, const TileAt *t, Expr *cb, Expr *c) {
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

static void emit_reduction(DirectEmit *e, const TileAt *t, Var *acc[DIRECT_PIXELS][DIRECT_VECS]) {
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
  if (loop && (e->p.flat || (e->stream && !e->p.copy && s->kh * s->kw * s->sw == 1))) {
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
static Expr *turn_slot(DirectEmit *e, int j, int r, Expr *x) {
  Expr *in_row = e->p.flat ? x_sub(e->b, x, e->y0) : x;
  return x_addi(e->b, in_row, (j * e->p.tile.rows + r) * e->turn_cols);
}

/* Stores the row of tiles that waits. */
static void emit_turned(DirectEmit *e, const TileAt *t) {
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

static void emit_tile(DirectEmit *e, const TileAt *t) {
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
static void emit_columns(DirectEmit *e, TileAt t, Expr *x0, Expr *full, int64_t ragged, Expr *is_last) {
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
static void emit_gated(DirectEmit *e, TileAt *t) {
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

/* The rows that are wanted, and what is made of them, while they are in the nearest cache. */
static void emit_streamed(DirectEmit *e, TileAt t) {
  Build *b = e->b;
  const DirectStream *m = e->stream;
  int64_t ragged = e->p.s.ow % e->p.tile.cols;
  t.rows = 1;
  t.y = s_for(b, "y", m->from, m->to, 1);
  emit_columns(e, t, x_idx(b, 0), x_idx(b, e->p.s.ow - ragged), ragged, NULL);
  s_end(b);
  Expr *cb = s_for(b, "cb", t.vec, x_addi(b, t.vec, t.vecs), 1);
  Expr *y = s_for(b, "y", m->first, m->end, 1);
  m->reader->row(m->reader, e->img, cb, y);
  s_end(b);
  s_end(b);
}

static void emit_pixels(DirectEmit *e, TileAt t) {
  Build *b = e->b;
  const DirectPlan *p = &e->p;
  const ConvShape *s = &p->s;
  int64_t ragged_x = s->ow % p->tile.cols, ragged_y = s->oh % p->tile.rows;
  if (e->stream) {
    emit_streamed(e, t);
    return;
  }
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
static void pack_sources(DirectEmit *e, TileAt *t, int64_t first, int64_t panels) {
  t->w = direct_pack(e->l, &e->p, first, panels, t->blocks, t->vecs);
  for (int i = 0; i < e->nmore; i++) e->more[i].w = direct_pack(e->l, &e->more[i].p, first, panels, e->more[i].p.blocks, t->vecs);
}

void direct_panels(DirectEmit *e, Expr *group) {
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
    t.vec = x_muli(b, t.panel, t.vecs);
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
    t.vec = x_idx(b, p->panels * p->tile.vecs);
    emit_channels(e, &t);
    if (p->groups > 1) s_if(b, x_bin(b, X_EQ, group, x_idx(b, p->groups - 1)));
    emit_gated(e, &t);
    emit_pixels(e, t);
    if (p->groups > 1) s_end(b);
  }
}

