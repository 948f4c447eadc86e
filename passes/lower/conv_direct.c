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
 * The range runs over images, strips, and (when the image has too few strips to share out) groups of output channels.
 */
#include "conv_plan.h"

#define MAX_PIXELS 16
#define MAX_VECS 4

typedef struct Plan {
  ConvShape s;
  ConvTile tile;
  bool copy, flat;          /* flat: rows joined, s.oh == 1 */
  int64_t strip;            /* output rows (flat: pixels) per strip */
  int64_t strips, groups;   /* range = n * strips * groups */
  int64_t panels, rest;     /* full panels, and vectors in the narrow last one (0: none) */
  int64_t panels_per_group;
  int64_t blocks;           /* channel blocks of the input */
  int64_t src_rows, src_cols;   /* of the (copied) source image */
} Plan;

typedef struct Emit {
  Lower *l;
  const Node *n;
  Build *b;
  Plan p;
  Var *x, *src;
  ConvAffine affine;
  Expr *img, *y0;           /* image; first output row (flat: pixel) of the strip */
  Expr *src_origin;         /* element offset of the source's first channel block, row 0 of the strip */
} Emit;

/* ---- planning ---- */

static void spatial(const Value *v, int64_t *h, int64_t *w) {
  const Shape *s = &v->shape;
  *h = s->rank >= 2 ? s->d[s->rank - 2].n : 1;
  *w = s->rank >= 1 ? s->d[s->rank - 1].n : 1;
}

static bool can_flatten(const Node *n, const ConvShape *s) {
  if (s->kh != 1 || s->kw != 1 || s->sh != 1 || s->sw != 1 || s->oh != s->h || s->ow != s->iw || s->ph || s->pw) return false;
  for (int k = 0; k < n->nbody; k++)
    for (int j = 0; j < n->body[k].nargs; j++)
      if (n->body[k].arg[j].kind == ARG_IN && n->body[k].arg[j].up) return false;
  for (int i = n->ncore; i < n->nin; i++) {   /* a body operand must be the whole image, or the same at every pixel */
    int64_t h, w;
    spatial(n->in[i], &h, &w);
    if (!(h == s->oh && w == s->ow) && !(h == 1 && w == 1)) return false;
  }
  return true;
}

/* Places of v, whose pixels are those of the output, are given with all pixels in one row. */
static void see_flat(Lower *l, const Value *v) {
  int64_t h, w;
  spatial(v, &h, &w);
  if (v->shape.rank < 2 || h * w == 1) return;
  Shape flat = v->shape;
  flat.d[flat.rank - 2] = dim_of(1);
  flat.d[flat.rank - 1] = dim_of(h * w);
  lower_see_as(l, v, &flat, v->layout);
}

static int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Cycles of all tiles of one image per reduction step, if cut into tiles of rows x cols pixels by vecs vectors. */
static double plan_cost(const ConvShape *s, int64_t vectors, ConvTile t) {
  double sum = 0;
  for (int panel = 0; panel < 2; panel++) {
    int64_t np = panel ? (vectors % t.vecs != 0) : vectors / t.vecs, nv = panel ? vectors % t.vecs : t.vecs;
    for (int ry = 0; np && ry < 2; ry++) {
      int64_t nr = ry ? (s->oh % t.rows != 0) : s->oh / t.rows, hr = ry ? s->oh % t.rows : t.rows;
      for (int rx = 0; nr && rx < 2; rx++) {
        int64_t nc = rx ? (s->ow % t.cols != 0) : s->ow / t.cols, wc = rx ? s->ow % t.cols : t.cols;
        sum += (double)(np * nr * nc) * conv_tile_cycles((int)(hr * wc), (int)nv);
      }
    }
  }
  return sum;
}

static ConvTile choose_tile(const Target *t, const ConvShape *s) {
  int64_t vectors = div_up(s->k, t->lanes);
  ConvTile best = {1, 1, 1};
  double best_cost = 0;
  for (int vecs = (int)MINI(vectors, MAX_VECS); vecs >= 1; vecs--) {
    int most = MINI(conv_tile_pixels(t, vecs), MAX_PIXELS);
    for (int cols = (int)MINI(s->ow, most); cols >= 1; cols--) {
      int rows = cols == s->ow ? (int)MINI(s->oh, most / cols) : 1;
      for (; rows >= 1; rows--) {
        ConvTile c = {rows, cols, vecs};
        /* A ragged edge costs code too: one more copy of the tile. */
        double cost = plan_cost(s, vectors, c) * (s->ow % cols || s->oh % rows ? 1.01 : 1);
        if (best_cost == 0 || cost < best_cost) best = c, best_cost = cost;
      }
    }
  }
  return best;
}

double conv_direct_cycles(const Lower *l, const ConvShape *s) {
  return plan_cost(s, div_up(s->k, l->t->lanes), choose_tile(l->t, s)) * (double)(s->c * s->kh * s->kw);
}

static void plan_strips(Lower *l, Plan *p) {
  const ConvShape *s = &p->s;
  int64_t budget = (l->t->l2 ? l->t->l2 : 256 << 10) / 2 / 4;   /* floats of input a strip may occupy */
  int64_t along = p->flat ? s->ow : s->oh, unit = p->flat ? p->tile.cols : p->tile.rows;
  int64_t strip = along;
  for (;;) {
    int64_t rows = p->flat ? 1 : (strip - 1) * s->sh + (s->kh - 1) * s->dh + 1;
    int64_t cols = p->flat ? strip : (s->ow - 1) * s->sw + (s->kw - 1) * s->dw + 1;
    if (p->blocks * rows * cols * s->block <= budget || strip <= unit) break;
    strip = div_up(strip, 2);
  }
  int64_t wanted = l->p->max_threads > 1 ? 4 * l->p->max_threads : 1;
  strip = MINI(strip, MAXI(unit, div_up(along, div_up(wanted, s->n))));
  p->strip = div_up(strip, unit) * unit;
  p->strips = div_up(along, p->strip);
  int64_t total = p->panels + (p->rest != 0);
  p->groups = MAXI(1, MINI(total, wanted / (s->n * p->strips)));
  p->panels_per_group = div_up(total, p->groups);
  p->groups = div_up(total, p->panels_per_group);
  p->src_rows = p->copy ? (p->strip - 1) * s->sh + (s->kh - 1) * s->dh + 1 : s->h;
  p->src_cols = p->copy ? (s->ow - 1) * s->sw + (s->kw - 1) * s->dw + 1 : s->iw;
  /* Channel blocks a multiple of 4 KB apart would fall into the same cache sets. */
  if (p->copy && p->src_rows * p->src_cols * s->block * 4 % 4096 == 0) p->src_cols++;
}

static void make_plan(Lower *l, const Node *n, Plan *p) {
  ConvShape *s = &p->s;
  p->flat = can_flatten(n, s);
  if (p->flat) s->ow *= s->oh, s->oh = 1, s->iw *= s->h, s->h = 1;
  /* Pads may also be negative, or the window may run past the end: anything but windows inside the image is copied. */
  bool inside = s->ph == 0 && s->pw == 0 && (s->oh - 1) * s->sh + (s->kh - 1) * s->dh < s->h && (s->ow - 1) * s->sw + (s->kw - 1) * s->dw < s->iw;
  p->copy = !inside;
  p->tile = choose_tile(l->t, s);
  int64_t width = (int64_t)p->tile.vecs * l->t->lanes;
  p->panels = s->k / width;
  p->rest = div_up(s->k % width, l->t->lanes);
  p->blocks = div_up(s->c, s->block);
  plan_strips(l, p);
}

/* ---- emission ---- */

static Var *pack_weights(Emit *e, int64_t first, int64_t panels, int vecs) {
  const ConvShape *s = &e->p.s;
  int64_t kk = s->kh * s->kw, width = (int64_t)vecs * e->l->t->lanes;
  Pack p = {
      .src = (const float *)s->w->data + first * s->c * kk, .dt = DT_F32, .ndims = 6,
      .dim = {{panels, width * s->c * kk, 0, width}, {e->p.blocks, s->block * kk, 1, s->block}, {s->kh, s->kw, -1, 0}, {s->kw, 1, -1, 0},
              {s->block, kk, 1, 1}, {width, s->c * kk, 0, 1}},
      .limit = {s->k - first, s->c},
      .scale = conv_pack_scale(s, first),
  };
  const char *desc = arena_printf(e->l->arena, "conv [%lld][%lld][%lld][%lld][%d][%lld]%s", (long long)panels, (long long)e->p.blocks, (long long)s->kh,
                                  (long long)s->kw, s->block, (long long)width, p.scale ? " scaled" : "");
  return lower_weight(e->l, "w", program_add_pack(e->l->p, s->w->name, &p, desc), DT_F32);
}

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

typedef struct TileAt { int rows, cols, vecs; Var *w; Expr *panel, *k, *y, *x; } TileAt;

static void emit_reduction(Emit *e, const TileAt *t, Var *acc[MAX_PIXELS][MAX_VECS]) {
  Build *b = e->b;
  const ConvShape *s = &e->p.s;
  int lanes = e->l->t->lanes, width = t->vecs * lanes;
  int64_t row = e->p.src_cols * s->block;
  Expr *ry = e->p.copy ? x_sub(b, t->y, e->y0) : t->y;
  Expr *base = s_let(b, "xb", x_add(b, e->src_origin, x_add(b, x_muli(b, ry, s->sh * row), x_muli(b, t->x, s->sw * s->block))));
  Expr *wbase = s_let(b, "wb", x_muli(b, t->panel, e->p.blocks * s->kh * s->kw * s->block * width));
  Expr *cb = s_for_n(b, "cb", e->p.blocks);
  Expr *kh = s_for_n(b, "kh", s->kh);
  Expr *kw = s_for_n(b, "kw", s->kw);
  Expr *xi = s_let(b, "xi", x_add(b, base, x_add(b, x_muli(b, x_add(b, x_muli(b, cb, e->p.src_rows), x_muli(b, kh, s->dh)), row), x_muli(b, kw, s->dw * s->block))));
  Expr *tap = x_add(b, x_muli(b, x_add(b, x_muli(b, cb, s->kh), kh), s->kw), kw);
  Expr *wi = s_let(b, "wi", x_add(b, wbase, x_muli(b, tap, (int64_t)s->block * width)));
  Expr *channels = s->c % s->block ? x_bin(b, X_MIN, x_idx(b, s->block), x_sub(b, x_idx(b, s->c), x_muli(b, cb, s->block))) : x_idx(b, s->block);
  bool loop = s->block > 1;
  Expr *c = loop ? s_for(b, "c", x_idx(b, 0), channels, 1) : x_idx(b, 0);
  /* A channel block's pixels are far from the next block's: the next tile's lines are asked for one a step, a tile ahead of their use. */
  if (e->p.flat && loop) s_prefetch(b, e->src, x_add(b, xi, x_addi(b, x_muli(b, c, s->block), (int64_t)t->cols * s->block)), 2, false);
  Expr *w[MAX_VECS];
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

static void emit_tile(Emit *e, const TileAt *t) {
  Build *b = e->b;
  const ConvShape *s = &e->p.s;
  int lanes = e->l->t->lanes;
  Var *acc[MAX_PIXELS][MAX_VECS];
  for (int j = 0; j < t->vecs; j++) {
    Expr *init = conv_start(e->l, &e->affine, x_addi(b, t->k, (int64_t)j * lanes));
    for (int i = 0; i < t->rows * t->cols; i++) {
      char name[32];
      snprintf(name, sizeof name, "a%d_%d", i, j);
      acc[i][j] = s_reg(b, name, init);
    }
  }
  emit_reduction(e, t, acc);
  for (int j = 0; j < t->vecs; j++) {
    Expr *k = x_addi(b, t->k, (int64_t)j * lanes);
    int64_t k0;
    Expr *count = x_is_int(k, &k0) && k0 + lanes > s->k ? x_idx(b, s->k - k0) : NULL;
    for (int i = 0; i < t->rows * t->cols; i++) {
      At at = {.rank = 4, .c = {e->img, k, x_addi(b, t->y, i / t->cols), x_addi(b, t->x, i % t->cols)}, .lanes = lanes, .vdim = 1, .count = count};
      lower_finish(e->l, e->n, conv_result(e->l, &e->affine, x_var(b, acc[i][j]), k), &at);
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

static void emit_pixels(Emit *e, TileAt t) {
  Build *b = e->b;
  const Plan *p = &e->p;
  const ConvShape *s = &p->s;
  int64_t ragged_x = s->ow % p->tile.cols, ragged_y = s->oh % p->tile.rows;
  if (p->flat) {
    Expr *full = p->strips == 1 ? x_idx(b, s->ow - ragged_x) : x_bin(b, X_MIN, x_addi(b, e->y0, p->strip), x_idx(b, s->ow - ragged_x));
    t.rows = 1;
    t.y = x_idx(b, 0);
    Expr *is_last = p->strips == 1 ? NULL : x_bin(b, X_GE, x_addi(b, e->y0, p->strip), x_idx(b, s->ow));
    emit_columns(e, t, e->y0, full, ragged_x, is_last);
    return;
  }
  Expr *full = p->strips == 1 ? x_idx(b, s->oh - ragged_y) : x_bin(b, X_MIN, x_addi(b, e->y0, p->strip), x_idx(b, s->oh - ragged_y));
  if (s->oh >= p->tile.rows) {
    t.rows = p->tile.rows;
    t.y = s_for(b, "y", e->y0, full, t.rows);
    emit_columns(e, t, x_idx(b, 0), x_idx(b, s->ow - ragged_x), ragged_x, NULL);
    s_end(b);
  }
  if (ragged_y) {
    if (p->strips > 1) s_if(b, x_bin(b, X_GE, x_addi(b, e->y0, p->strip), x_idx(b, s->oh)));
    t.rows = (int)ragged_y;
    t.y = x_idx(b, s->oh - ragged_y);
    emit_columns(e, t, x_idx(b, 0), x_idx(b, s->ow - ragged_x), ragged_x, NULL);
    if (p->strips > 1) s_end(b);
  }
}

static void emit_panels(Emit *e, Expr *group) {
  Build *b = e->b;
  const Plan *p = &e->p;
  int width = p->tile.vecs * e->l->t->lanes;
  TileAt t = {.vecs = p->tile.vecs};
  if (p->panels) {
    t.w = pack_weights(e, 0, p->panels, p->tile.vecs);
    Expr *first = x_muli(b, group, p->panels_per_group);
    Expr *end = p->groups == 1 ? x_idx(b, p->panels) : x_bin(b, X_MIN, x_addi(b, first, p->panels_per_group), x_idx(b, p->panels));
    t.panel = s_for(b, "kp", first, end, 1);
    t.k = s_let(b, "k", x_muli(b, t.panel, width));
    emit_pixels(e, t);
    s_end(b);
  }
  if (p->rest) {
    t.vecs = (int)p->rest;
    t.w = pack_weights(e, p->panels * width, 1, t.vecs);
    t.panel = x_idx(b, 0);
    t.k = x_idx(b, p->panels * width);
    if (p->groups > 1) s_if(b, x_bin(b, X_EQ, group, x_idx(b, p->groups - 1)));
    emit_pixels(e, t);
    if (p->groups > 1) s_end(b);
  }
}

bool conv_direct(Lower *l, const Node *n) {
  Emit e = {.l = l, .n = n};
  if (!conv_shape(l, n, &e.p.s) || e.p.s.group != 1) return false;
  ConvShape given = e.p.s;
  make_plan(l, n, &e.p);
  const Plan *p = &e.p;
  e.b = lower_open(l, n, "conv%lldx%lld%s %lld->%lld, %lldx%lld, tile %dx%dx%d", (long long)given.kh, (long long)given.kw,
                   given.sh > 1 ? " strided" : "", (long long)given.c, (long long)given.k, (long long)given.oh, (long long)given.ow, p->tile.rows,
                   p->tile.cols, p->tile.vecs * l->t->lanes);
  Build *b = e.b;
  Expr *r = lower_range(l, "r", given.n * p->strips * p->groups);
  e.x = lower_in(l, given.x);
  e.affine = conv_affine(l, &given);
  if (p->flat) {
    see_flat(l, given.y);
    for (int i = n->ncore; i < n->nin; i++) see_flat(l, n->in[i]);
  }
  conv_allow_in_place(l, n, &given);
  Expr *group = p->groups == 1 ? x_idx(b, 0) : s_let(b, "kg", x_remi(b, r, p->groups));
  Expr *rest = p->groups == 1 ? r : s_let(b, "rs", x_divi(b, r, p->groups));
  e.img = given.n == 1 ? x_idx(b, 0) : s_let(b, "img", x_divi(b, rest, p->strips));
  Expr *strip = given.n == 1 ? rest : x_remi(b, rest, p->strips);
  e.y0 = p->strips == 1 ? x_idx(b, 0) : s_let(b, p->flat ? "x0" : "y0", x_muli(b, strip, p->strip));
  if (p->copy) {
    e.src = lower_scratch(l, "s", DT_F32, p->blocks * p->src_rows * p->src_cols * given.block * 4);
    e.src_origin = x_idx(b, 0);
    emit_copy(&e);
  } else {
    e.src = e.x;
    e.src_origin = x_muli(b, e.img, p->blocks * p->src_rows * p->src_cols * given.block);
  }
  emit_panels(&e, group);
  lower_close(l, 2.0 * (double)(given.n * given.k * given.c * given.kh * given.kw) * (double)(given.oh * given.ow));
  return true;
}
