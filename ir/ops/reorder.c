/* ops/reorder.c: Reorder: the same tensor in another layout.
 *
 * Between PLAIN and BLOCKED, tiles of L channels by L pixels are transposed in registers: PLAIN rows are whole vectors of pixels, BLOCKED
 * ones of channels. Pixels left at the end of a row go one at a time. The body is applied to vectors of channels. Rows past the last
 * channel are read again from the last one (the padding they fill is never looked at) and not written.
 */
#include "ops.h"

typedef struct Reorder {
  Lower *l;
  const Node *n;
  const Value *x;
  Value *y;
  bool block;        /* PLAIN to BLOCKED */
  int lanes;
  int64_t channels;
  At at;             /* channel and pixel of the tile */
  int last;          /* dim of the pixels in a row */
  Expr *whole;       /* whether all channels of this block exist; NULL: always */
} Reorder;

static At pixel(const Reorder *r, int64_t i) {
  At a = r->at;
  a.c[r->last] = x_addi(&r->l->b, a.c[r->last], i);
  return a;
}

/* Row k of the tile: L pixels of one channel. */
static At row(const Reorder *r, int k) {
  Build *b = &r->l->b;
  At a = {.rank = r->at.rank, .lanes = r->lanes, .vdim = r->last};
  for (int i = 0; i < a.rank; i++) a.c[i] = r->at.c[i];
  a.c[1] = x_addi(b, a.c[1], k);
  if (r->block && r->whole && k >= r->channels % r->lanes) a.c[1] = x_bin(b, X_MIN, a.c[1], x_idx(b, r->channels - 1));
  return a;
}

static void emit_tile(const Reorder *r) {
  Lower *l = r->l;
  Build *b = &l->b;
  Expr *v[MAX_LANES];
  At a;
  for (int k = 0; k < r->lanes; k++) {
    a = r->block ? row(r, k) : pixel(r, k);
    Expr *e = lower_load(l, r->x, &a);
    v[k] = s_let(b, "v", r->block ? e : lower_body(l, r->n, e, &a));
  }
  transpose_tile(b, v, r->lanes);
  int sure = r->block || !r->whole ? r->lanes : (int)(r->channels % r->lanes);
  for (int k = 0; k < r->lanes; k++) {
    if (k == sure) s_if(b, r->whole);
    a = r->block ? pixel(r, k) : row(r, k);
    lower_store(l, r->y, &a, r->block ? lower_body(l, r->n, v[k], &a) : v[k]);
  }
  if (sure < r->lanes) s_end(b);
}

/* Pixels of a row per range iteration: all, unless several threads would then have too few iterations to share. */
static int64_t chunk_of(const Reorder *r, int64_t rows, int64_t pixels) {
  int64_t want = r->l->p->max_threads > 1 ? 64 : 1, parts = MAXI(want / rows, 1), least = 1024 / r->lanes;
  int64_t chunk = MAXI((pixels + parts - 1) / parts, least);
  return MINI((chunk + r->lanes - 1) / r->lanes * r->lanes, pixels);
}

static void emit_rows(Reorder *r) {
  Build *b = &r->l->b;
  Shape s = lower_shape(r->l, r->y, NULL);
  int L = r->lanes, rank = s.rank;
  int64_t pixels = s.d[rank - 1].n, extent[MAX_RANK], rows = 1;
  for (int i = 0; i < rank - 1; i++) rows *= extent[i] = i == 1 ? (r->channels + L - 1) / L : s.d[i].n;
  int64_t chunk = chunk_of(r, rows, pixels);
  extent[rank - 1] = (pixels + chunk - 1) / chunk;
  Expr *c[MAX_RANK], *at = lower_range(r->l, "r", rows * extent[rank - 1]);
  unflatten(b, at, extent, rank, c);
  if (r->channels % L) {
    r->whole = s_let(b, "whole", x_bin(b, X_LT, c[1], x_idx(b, r->channels / L)));
    r->at.count = s_let(b, "count", x_bin(b, X_MIN, x_idx(b, L), x_sub(b, x_idx(b, r->channels), x_muli(b, c[1], L))));
  }
  c[1] = x_muli(b, c[1], L);
  for (int i = 0; i < rank; i++) r->at.c[i] = c[i];
  r->last = rank - 1;
  Expr *from = s_let(b, "from", x_muli(b, c[rank - 1], chunk)), *to = x_bin(b, X_MIN, x_addi(b, from, chunk), x_idx(b, pixels / L * L));
  if (extent[rank - 1] == 1) to = x_idx(b, pixels / L * L);
  if (pixels >= L) {
    r->at.c[rank - 1] = s_for(b, "p", from, to, L);
    emit_tile(r);
    s_end(b);
  }
  if (pixels % L == 0) return;
  if (extent[rank - 1] > 1) s_if(b, x_bin(b, X_EQ, c[rank - 1], x_idx(b, extent[rank - 1] - 1)));
  r->at.c[rank - 1] = s_for(b, "p", x_idx(b, pixels / L * L), x_idx(b, pixels), 1);
  lower_finish(r->l, r->n, lower_load(r->l, r->x, &r->at), &r->at);
  s_end(b);
  if (extent[rank - 1] > 1) s_end(b);
}

static bool reorder_tiled(Lower *l, const Node *n) {
  const Value *x = n->in[0], *y = n->out[0];
  bool block = y->layout.kind == LAYOUT_BLOCKED;
  if ((x->layout.kind == LAYOUT_BLOCKED) == block || x->shape.rank < 3 || x->shape.d[1].n == 1 || !lower_vectors_ok(l, n)) return false;
  int lanes = l->t->lanes;
  for (int i = 0; i < n->nin; i++)
    while (lanes > 1 && n->in[i]->layout.kind == LAYOUT_BLOCKED && n->in[i]->layout.block % lanes) lanes /= 2;
  while (block && lanes > 1 && y->layout.block % lanes) lanes /= 2;
  if (lanes < 4) return false;
  lower_open(l, n, "Reorder %lldx%lld %s", (long long)x->shape.d[1].n, (long long)shape_count_from(&x->shape, 2),
             block ? "blocked" : "plain");
  lower_see_joined(l, n);
  Reorder r = {.l = l, .n = n, .x = x, .y = n->out[0], .block = block, .lanes = lanes, .channels = x->shape.d[1].n,
               .at = {.rank = lower_shape(l, y, NULL).rank, .lanes = lanes, .vdim = 1}};
  emit_rows(&r);
  lower_body_in_place(l, n, 0);
  lower_close(l, (double)n->nbody * (double)value_count(y));
  return true;
}

static Expr *same_place(Lower *l, const Node *n, const At *at, const void *user) {
  (void)user;
  return lower_load(l, n->in[0], at);
}

void lower_reorder(Lower *l, const Node *n) {
  Layout x = n->in[0]->layout, y = n->out[0]->layout;
  if (value_count(n->out[0]) == 0 || reorder_tiled(l, n)) return;
  bool alike = x.kind == y.kind;
  lower_points(l, n, "Reorder", same_place, NULL, (alike ? POINT_VECTOR : 0) | (alike && x.block == y.block ? POINT_IN_PLACE : 0), 0);
}
