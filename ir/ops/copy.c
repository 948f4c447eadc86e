/* ops/copy.c: strided copies, what transpositions, slices, concatenations, expansions and tilings come down to.
 *
 * Neighbouring dims that step alike on both sides become one. Then, by the innermost dim of the destination:
 *
 *   rows     the source steps by 1 or 0 there: vectors
 *   tiles    another dim is the source's innermost: tiles of lanes x lanes elements are transposed in registers, so that both sides are
 *            read and written in whole vectors; what is left at the edges goes element by element
 *   else     element by element
 */
#include "ops.h"

int run_lanes(const Lower *l, DType t) { return t == DT_F32 || t == DT_I32 ? l->t->lanes : 1; }

/* ---- runs inside a kernel ---- */

/* src NULL: e is stored. */
static void run(Lower *l, Var *src, Expr *from, Expr *e, Var *dst, Expr *to, int64_t count) {
  Build *b = &l->b;
  int lanes = run_lanes(l, dst->type.dt);
  int64_t whole = lanes > 1 && count >= lanes ? count / lanes * lanes : 0;
  for (int part = 0; part < 2; part++) {
    int64_t first = part ? whole : 0, end = part ? count : whole, step = part ? 1 : lanes;
    if (first == end) continue;
    Expr *i = end - first == step ? x_idx(b, first) : s_for(b, "i", x_idx(b, first), x_idx(b, end), step);
    s_store(b, dst, x_add(b, to, i), src ? x_load(b, src, x_add(b, from, i), (int)step) : x_splat(b, e, (int)step));
    if (end - first != step) s_end(b);
  }
}

void copy_run(Lower *l, Var *src, Expr *from, Var *dst, Expr *to, int64_t count) {
  run(l, src, s_let(&l->b, "from", from), NULL, dst, s_let(&l->b, "to", to), count);
}

void fill_run(Lower *l, Expr *e, Var *dst, Expr *to, int64_t count) { run(l, NULL, NULL, e, dst, s_let(&l->b, "to", to), count); }

/* In-place swaps of off-diagonal blocks of 1, 2, 4, ... lanes. */
void transpose_tile(Build *b, Expr **v, int n) {
  uint8_t low[MAX_LANES], high[MAX_LANES];
  for (int s = 1; s < n; s *= 2) {
    for (int i = 0; i < n; i++) {
      low[i] = (uint8_t)(i & s ? n + i - s : i);
      high[i] = (uint8_t)(i & s ? n + i : i + s);
    }
    for (int i = 0; i < n; i++) {
      if (i & s) continue;
      Expr *x = v[i], *y = v[i + s];
      v[i] = s_let(b, "t", x_shuffle(b, x, y, low, n));
      v[i + s] = s_let(b, "t", x_shuffle(b, x, y, high, n));
    }
  }
}

/* ---- kernels ---- */

static Copy simplified(const Copy *c) {
  Copy s = {.from = c->from, .to = c->to};
  for (int i = 0; i < c->ndims; i++) {
    CopyDim d = c->d[i];
    CopyDim *last = s.ndims ? &s.d[s.ndims - 1] : NULL;
    if (d.n == 1) continue;
    if (last && last->from == d.from * d.n && last->to == d.to * d.n) *last = (CopyDim){last->n * d.n, d.from, d.to};
    else s.d[s.ndims++] = d;
  }
  return s;
}

typedef struct Emit {
  const Copy *c;
  Var *src, *dst;
} Emit;

static Expr *offset(Build *b, const Copy *c, Expr *const *i, bool to) {
  Expr *e = x_idx(b, to ? c->to : c->from);
  for (int d = 0; d < c->ndims; d++) e = x_add(b, e, x_muli(b, i[d], to ? c->d[d].to : c->d[d].from));
  return e;
}

static void row_place(Lower *l, const At *at, void *user) {
  Build *b = &l->b;
  const Emit *e = user;
  Expr *from = offset(b, e->c, at->c, false), *to = offset(b, e->c, at->c, true), *x;
  if (at->lanes > 1 && e->c->d[e->c->ndims - 1].from) x = x_load_part(b, e->src, from, at->lanes, at->count, NULL);
  else x = x_splat(b, x_load(b, e->src, from, 1), at->lanes);
  s_store_part(b, e->dst, to, x, at->count, NULL);
}

static void emit_rows(Lower *l, Emit *e) {
  const Copy *c = e->c;
  Shape s = {.rank = c->ndims};
  for (int d = 0; d < c->ndims; d++) s.d[d] = dim_of(c->d[d].n);
  const CopyDim *in = &c->d[MAXI(c->ndims - 1, 0)];
  int lanes = c->ndims && in->to == 1 && (in->from == 0 || in->from == 1) ? run_lanes(l, e->dst->type.dt) : 1;
  if (lanes > 1 && in->n * 2 < lanes) lanes = 1;
  lower_nest(l, &s, (Layout){LAYOUT_PLAIN, 0}, MAXI(c->ndims - 1, 0), lanes, row_place, e);
}

/* The dim that is the source's innermost, if tiles of at least 4 x 4 are worth it. */
static int tile_dim(const Lower *l, const Copy *c, DType t, int *lanes) {
  *lanes = run_lanes(l, t);
  const CopyDim *p = &c->d[c->ndims - 1];
  int q = 0;
  while (q < c->ndims - 1 && c->d[q].from != 1) q++;
  if (q == c->ndims - 1 || p->to != 1 || p->from == 0) return -1;
  /* Narrower vectors where full tiles would leave much of the area over. */
  for (; *lanes >= 4; *lanes /= 2) {
    int64_t across = c->d[q].n / *lanes * *lanes, along = p->n / *lanes * *lanes;
    if (across * along * 4 >= c->d[q].n * p->n * 3 || (*lanes == 4 && across * along > 0)) return q;
  }
  return -1;
}

/* Element by element: q0 <= i_q < q1, p0 <= i_p < p1. */
static void emit_edge(Build *b, const Emit *e, Expr **i, int q, Expr *q0, Expr *p0, int lanes) {
  const Copy *c = e->c;
  int p = c->ndims - 1;
  Expr *q1 = x_bin(b, X_MIN, x_addi(b, q0, lanes), x_idx(b, c->d[q].n)), *p1 = x_bin(b, X_MIN, x_addi(b, p0, lanes), x_idx(b, c->d[p].n));
  i[q] = s_for(b, "q", q0, q1, 1);
  i[p] = s_for(b, "p", p0, p1, 1);
  s_store(b, e->dst, offset(b, c, i, true), x_load(b, e->src, offset(b, c, i, false), 1));
  s_end(b);
  s_end(b);
}

static void emit_tiles(Lower *l, Emit *e, int q, int lanes) {
  Build *b = &l->b;
  const Copy *c = e->c;
  int p = c->ndims - 1;
  int64_t extent[COPY_DIMS], range = 1, np = c->d[p].n, nq = c->d[q].n;
  for (int d = 0; d < p; d++) {
    extent[d] = d == q ? (nq + lanes - 1) / lanes : c->d[d].n;
    range *= extent[d];
  }
  Expr *i[COPY_DIMS], *v[MAX_LANES], *r = lower_range(l, "r", range);
  unflatten(b, r, extent, p, i);
  Expr *q0 = s_let(b, "q0", x_muli(b, i[q], lanes));
  Expr *p0 = s_for(b, "p0", x_idx(b, 0), x_idx(b, np), lanes);
  Expr *whole = NULL;
  if (nq % lanes) whole = x_bin(b, X_LE, q0, x_idx(b, nq - lanes));
  if (np % lanes) {
    Expr *w = x_bin(b, X_LE, p0, x_idx(b, np - lanes));
    whole = whole ? x_bin(b, X_AND, whole, w) : w;
  }
  if (whole) s_if(b, whole);
  i[q] = q0;
  i[p] = p0;
  Expr *from = s_let(b, "from", offset(b, c, i, false)), *to = s_let(b, "to", offset(b, c, i, true));
  for (int k = 0; k < lanes; k++) v[k] = s_let(b, "v", x_load(b, e->src, x_addi(b, from, k * c->d[p].from), lanes));
  transpose_tile(b, v, lanes);
  for (int k = 0; k < lanes; k++) s_store(b, e->dst, x_addi(b, to, k * c->d[q].to), v[k]);
  if (whole) {
    s_else(b);
    emit_edge(b, e, i, q, q0, p0, lanes);
    s_end(b);
  }
  s_end(b);
}

bool copy_strided(Lower *l, const Node *n, const char *what, const Value *src, Value *dst, const Copy *c) {
  Copy s = simplified(c);
  int64_t count = 1;
  for (int d = 0; d < s.ndims; d++) count *= s.d[d].n;
  if (count == 0) return true;
  if (s.ndims > MAX_RANK) return false;
  lower_open(l, n, "%s", what);
  Emit e = {.c = &s, .src = lower_in(l, src), .dst = lower_out(l, dst)};
  int lanes, q = s.ndims > 1 ? tile_dim(l, &s, dst->dt, &lanes) : -1;
  if (q >= 0) emit_tiles(l, &e, q, lanes);
  else emit_rows(l, &e);
  lower_close(l, 0);
  return true;
}
