/* conv_winograd.c: Winograd convolution F(m x m, 3 x 3) in strips that stay in cache.
 *
 * An output tile of m x m pixels comes from an input tile of t x t, t = m + 2, with t*t multiplications per channel pair where the direct
 * sum takes 9*m*m. For a strip of T tiles of one image, in per-thread scratch:
 *
 *   1. V = bt x bt^T   every input tile and channel block, columns then rows; pixels outside the image are zero
 *   2. M_p = U_p V_p   for each of the t*t positions a small matrix product with the transformed weights, in register tiles
 *   3. Y = at M at^T   every output tile and channel block, then bias, fused body, store
 *
 * Where results are about as many as inputs, V_p lies in slot p+1 and M_p in slot p of the same memory: when M_p is written, V_p is all that
 * is still needed from there on, and V_{p-1} is not. Where they are many more, V stays, and steps 2 and 3 are done for a chunk of the output
 * channels after the other, so that scratch, and with it the length of strips, does not depend on how many there are. Slots are an odd number
 * of cache lines apart. See winograd.c for the matrices; transforms are linear forms with common parts of rows and columns of opposite sign
 * computed once.
 *
 * Convolutions of one tensor (horizontal.c) are computed by one kernel where that is faster: V is made once, then the chunks of one
 * convolution after the other go by the same way, each to its own result with its own constants and body.
 *
 * Of a grouped convolution, whose groups are whole channel blocks, each panel's products are over the channels of its group only.
 *
 * The range runs over groups of output channels (of all joined convolutions), images and strips: conv_split.
 */
#include "../passes.h"
#include "conv_winograd.h"
#include "turn.h"

/* Floats by which weights are asked for ahead of their use: 16 KB, some microseconds of products. */
#define AHEAD 4096

typedef struct Emit {
  Lower *l;
  const Node *n;
  Build *b;
  ConvShape s;
  WinogradPlan p;
  ConvAffine affine;
  Var *x, *vm, *tmp;
  Turn turn;                    /* PLAIN results wait in [m][strip * m] slots */
  Expr *img, *first, *count;    /* image; first tile of the strip and how many */
  Expr *group;
} Emit;

/* ---- linear forms ---- */

static Expr *scaled(Build *b, double c, Expr *x) {
  if (c == 1) return x;
  return c == -1 ? x_un(b, X_NEG, x) : x_mul(b, x, x_float(b, x->type, c));
}

static Expr *accumulate(Build *b, Expr *sum, double c, Expr *x) {
  if (!sum) return scaled(b, c, x);
  if (c == 1) return x_add(b, sum, x);
  if (c == -1) return x_sub(b, sum, x);
  return x_fma(b, x, x_float(b, x->type, c), sum);
}

/* Sum of m[k] * x[k] over the k picked; NULL if there are none. A coefficient of 1 goes first: it saves a multiplication. */
static Expr *linear_sum(Build *b, const double *m, Expr *const *x, int n, const bool *pick) {
  Expr *sum = NULL;
  int lead = -1;
  for (int k = 0; k < n && lead < 0; k++)
    if (pick[k] && m[k] == 1) lead = k;
  if (lead >= 0) sum = x[lead];
  for (int k = 0; k < n; k++)
    if (pick[k] && m[k] != 0 && k != lead) sum = accumulate(b, sum, m[k], x[k]);
  return sum;
}

static Expr *or_zero(Build *b, Expr *e, Type t) { return e ? e : x_float(b, t, 0); }

/* Row r of the matrix is row q with some signs turned: then sum and difference of two partial sums give both. */
static bool opposite_rows(const double *r, const double *q, int n, bool *even, bool *odd) {
  bool any_even = false, any_odd = false;
  for (int k = 0; k < n; k++) {
    even[k] = r[k] != 0 && r[k] == q[k];
    odd[k] = r[k] != 0 && r[k] == -q[k];
    if (!even[k] && !odd[k] && (r[k] != 0 || q[k] != 0)) return false;
    any_even |= even[k];
    any_odd |= odd[k];
  }
  return any_even && any_odd;
}

/* y = m x, for a matrix of `rows` rows of n coefficients. */
static void emit_rows(Build *b, const double (*m)[WINOGRAD_MAX], int rows, int n, Expr *const *x, Expr **y) {
  bool done[WINOGRAD_MAX] = {false}, all[WINOGRAD_MAX];
  for (int k = 0; k < n; k++) all[k] = true;
  for (int i = 0; i < rows; i++) {
    bool even[WINOGRAD_MAX], odd[WINOGRAD_MAX];
    for (int j = i + 1; j < rows && !done[i]; j++) {
      if (done[j] || !opposite_rows(m[i], m[j], n, even, odd)) continue;
      Expr *e = s_let(b, "e", linear_sum(b, m[i], x, n, even)), *o = s_let(b, "o", linear_sum(b, m[i], x, n, odd));
      y[i] = s_let(b, "y", x_add(b, e, o));
      y[j] = s_let(b, "y", x_sub(b, e, o));
      done[i] = done[j] = true;
    }
    if (!done[i]) y[i] = s_let(b, "y", or_zero(b, linear_sum(b, m[i], x, n, all), x[0]->type));
  }
}

/* bt x. An odd number of points leaves the last one, a, without its opposite. Then every polynomial but that of a itself has the factor
 * (x - a), and the rows are those of the smaller transform applied to z[k] = x[k+1] - a x[k]. */
static void emit_bt(Build *b, const Winograd *f, Expr *const *x, Expr **y) {
  Winograd half;
  if (f->t % 2 == 0 || !winograd_make(f->m - 1, &half)) {
    emit_rows(b, f->bt, f->t, f->t, x, y);
    return;
  }
  Expr *z[WINOGRAD_MAX];
  double a = f->at[1][f->t - 2];
  for (int k = 0; k + 1 < f->t; k++) z[k] = s_let(b, "z", x_fma(b, x[k], x_float(b, x[k]->type, -a), x[k + 1]));
  Expr *inner[WINOGRAD_MAX];
  emit_rows(b, half.bt, half.t, half.t, z, inner);
  for (int i = 0; i < half.t - 1; i++) y[i] = inner[i];
  y[half.t] = inner[half.t - 1];
  emit_rows(b, &half.bt[half.t - 1], 1, half.t, x, &y[half.t - 1]);
}

/* at v: columns of opposite points enter as their sum in even rows and their difference in odd ones. */
static void emit_at(Build *b, const Winograd *f, Expr *const *v, Expr **y) {
  Expr *s[WINOGRAD_MAX], *d[WINOGRAD_MAX];
  bool paired[WINOGRAD_MAX] = {false}, second[WINOGRAD_MAX] = {false};
  for (int i = 1; i + 2 < f->t; i++) {
    if (second[i] || f->at[1][i] != -f->at[1][i + 1]) continue;
    paired[i] = second[i + 1] = true;
    s[i] = s_let(b, "s", x_add(b, v[i], v[i + 1]));
    d[i] = s_let(b, "d", x_sub(b, v[i], v[i + 1]));
  }
  for (int j = 0; j < f->m; j++) {
    Expr *x[WINOGRAD_MAX];
    bool pick[WINOGRAD_MAX];
    for (int i = 0; i < f->t; i++) {
      pick[i] = !second[i];
      x[i] = paired[i] ? (j % 2 ? d[i] : s[i]) : v[i];
    }
    y[j] = s_let(b, "y", or_zero(b, linear_sum(b, f->at[j], x, f->t, pick), v[0]->type));
  }
}

/* ---- 1. input ---- */

static Expr *tmp_at(Emit *e, Expr *i, Expr *j) { return x_muli(e->b, x_add(e->b, x_muli(e->b, i, e->p.f.t), j), e->l->t->lanes); }

static void store_column(Emit *e, Expr *j, Expr *const *y) {
  for (int i = 0; i < e->p.f.t; i++) s_store(e->b, e->tmp, tmp_at(e, x_idx(e->b, i), j), y[i]);
}

static Expr *in_range(Build *b, Expr *i, int64_t n) { return x_bin(b, X_AND, x_bin(b, X_GE, i, x_idx(b, 0)), x_bin(b, X_LT, i, x_idx(b, n))); }

/* Column j of the tile at (y0, x0) of channel plane `plane`, transformed, to tmp. */
static void emit_column(Emit *e, Expr *plane, Expr *y0, Expr *x0, Expr *j) {
  Build *b = e->b;
  const ConvShape *s = &e->s;
  int t = e->p.f.t, lanes = e->l->t->lanes;
  Type v = type_of(DT_F32, lanes);
  Expr *x[WINOGRAD_MAX] = {NULL}, *y[WINOGRAD_MAX] = {NULL};
  Expr *ix = s_let(b, "ix", x_add(b, x0, j));
  Expr *at = s_let(b, "xi", x_muli(b, x_add(b, x_muli(b, x_add(b, x_muli(b, plane, s->h), y0), s->iw), ix), lanes));
  int64_t row = s->iw * lanes;
  s_if(b, in_range(b, ix, s->iw));
  {
    s_if(b, x_bin(b, X_AND, x_bin(b, X_GE, y0, x_idx(b, 0)), x_bin(b, X_LE, y0, x_idx(b, s->h - t))));
    for (int i = 0; i < t; i++) x[i] = s_let(b, "x", x_load(b, e->x, x_addi(b, at, i * row), lanes));
    emit_bt(b, &e->p.f, x, y);
    store_column(e, j, y);
    s_else(b);
    for (int i = 0; i < t; i++) {
      Var *r = s_reg(b, "r", x_float(b, v, 0));
      s_if(b, in_range(b, x_addi(b, y0, i), s->h));
      s_set(b, r, x_load(b, e->x, x_addi(b, at, i * row), lanes));
      s_end(b);
      x[i] = x_var(b, r);
    }
    emit_bt(b, &e->p.f, x, y);
    store_column(e, j, y);
    s_end(b);
  }
  s_else(b);
  for (int i = 0; i < t; i++) y[i] = x_float(b, v, 0);
  store_column(e, j, y);
  s_end(b);
}

static void emit_input(Emit *e) {
  Build *b = e->b;
  const WinogradPlan *p = &e->p;
  int t = p->f.t, lanes = e->l->t->lanes;
  s_comment(b, "input tiles, transformed");
  Expr *cb = s_for_n(b, "cb", p->blocks);
  Expr *plane = s_let(b, "plane", x_add(b, x_muli(b, e->img, p->blocks), cb));
  Expr *ti = s_for(b, "ti", x_idx(b, 0), e->count, 1);
  Expr *tile = s_let(b, "tile", x_add(b, e->first, ti));
  Expr *y0 = s_let(b, "y0", x_addi(b, x_muli(b, x_divi(b, tile, p->ntx), p->f.m), -e->s.ph));
  Expr *x0 = s_let(b, "x0", x_addi(b, x_muli(b, x_remi(b, tile, p->ntx), p->f.m), -e->s.pw));
  Expr *j = s_for_n(b, "j", t);
  emit_column(e, plane, y0, x0, j);
  s_end(b);
  Expr *i = s_for_n(b, "i", t);
  Expr *x[WINOGRAD_MAX] = {NULL}, *y[WINOGRAD_MAX] = {NULL};
  for (int k = 0; k < t; k++) x[k] = s_let(b, "x", x_load(b, e->tmp, tmp_at(e, i, x_idx(b, k)), lanes));
  emit_bt(b, &p->f, x, y);
  Expr *to = s_let(b, "vi", x_add(b, x_addi(b, x_muli(b, x_muli(b, i, t), p->slot), p->v), x_muli(b, x_add(b, x_muli(b, cb, p->held), ti), lanes)));
  for (int k = 0; k < t; k++) s_store(b, e->vm, x_addi(b, to, k * p->slot), y[k]);
  s_end(b);
  s_end(b);
  s_end(b);
}

/* ---- 2. products ---- */

static Var *pack_weights(Emit *e, int64_t first, int64_t panels, int vecs) {
  const ConvShape *s = &e->s;
  WinogradPack *p = NEW(e->l->p->arena, WinogradPack);
  *p = (WinogradPack){.w = (const float *)s->w->data + first * (s->c / s->group) * 9, .scale = conv_pack_scale(s, first), .k = s->k - first, .c = s->c / s->group,
                      .width = (int64_t)vecs * e->l->t->lanes, .panels = panels, .f = e->p.f};
  const char *desc = arena_printf(e->l->p->arena, "winograd F(%d,3) [%d][%lld][%lld][%lld]%s", p->f.m, p->f.t * p->f.t, (long long)panels, (long long)p->c,
                                  (long long)p->width, p->scale ? " scaled" : "");
  /* A folded scale is part of what the weights are: such weights are never shared. */
  Weight w = {.name = s->w->name, .desc = desc, .source = p->scale ? NULL : p->w, .bytes = winograd_pack_count(p) * 4, .fill = winograd_pack_fill, .ctx = p};
  return lower_weight(e->l, "u", program_add_weight(e->l->p, w), DT_F32);
}

/* Weights of panels of one width: how many panels, and which of them the open chunk has. */
typedef struct Panels { Var *u; int vecs; int64_t n; Expr *from, *to; } Panels;

/* Asks for weights AHEAD of those of channel block cb, in the order in which they are used: all positions of a chunk's panels. Every strip
 * streams all weights: nothing is kept of them (locality 0). */
static Expr *ahead(Emit *e, const Panels *w, Expr *panel, Expr *ui, Expr *cb) {
  Build *b = e->b;
  int64_t width = (int64_t)w->vecs * e->l->t->lanes, cg = e->s.c / e->s.group, far = MINI(AHEAD, cg * width), n0, n1;
  Expr *at = x_addi(b, ui, far);
  if (x_is_int(w->from, &n0) && x_is_int(w->to, &n1) && n1 - n0 == w->n) return at;
  Expr *skip = x_muli(b, x_sub(b, x_idx(b, w->n), x_sub(b, w->to, w->from)), cg * width);
  Expr *past = x_bin(b, X_AND, x_bin(b, X_EQ, x_addi(b, panel, 1), w->to), x_bin(b, X_GE, x_muli(b, cb, e->l->t->lanes * width), x_idx(b, cg * width - far)));
  return s_let(b, "ua", x_add(b, at, x_select(b, past, skip, x_idx(b, 0))));
}

/* One register tile: tiles tb .. tb+cols of panel `panel`, whose first vector is `vec` within the chunk. */
static void emit_product(Emit *e, const Panels *of, Expr *panel, Expr *vec, Expr *pos, Expr *tb) {
  Build *b = e->b;
  const WinogradPlan *p = &e->p;
  int lanes = e->l->t->lanes, vecs = of->vecs, width = vecs * lanes;
  Var *acc[WINOGRAD_TILES][WINOGRAD_VECS];
  for (int i = 0; i < p->tile.cols; i++)
    for (int j = 0; j < vecs; j++) acc[i][j] = s_reg(b, arena_printf(e->l->arena, "a%d_%d", i, j), x_float(b, type_of(DT_F32, lanes), 0));
  int64_t cg = e->s.c / e->s.group, group_blocks = p->blocks / e->s.group;   /* exact where there are several groups */
  Expr *ub = s_let(b, "ub", x_muli(b, x_add(b, x_muli(b, pos, of->n), panel), cg * width));
  Expr *vb = x_add(b, x_addi(b, x_muli(b, pos, p->slot), p->v), x_muli(b, tb, lanes));
  if (e->s.group > 1) vb = x_add(b, vb, x_muli(b, x_divi(b, panel, e->s.k / e->s.group / width), group_blocks * p->held * lanes));
  vb = s_let(b, "vb", vb);
  Expr *cb = s_for_n(b, "cb", group_blocks);
  Expr *ui = s_let(b, "ui", x_add(b, ub, x_muli(b, cb, (int64_t)lanes * width)));
  Expr *vi = s_let(b, "vi", x_add(b, vb, x_muli(b, cb, p->held * lanes)));
  Expr *ua = p->far_weights ? ahead(e, of, panel, ui, cb) : NULL;
  Expr *channels = e->s.c % lanes ? x_bin(b, X_MIN, x_idx(b, lanes), x_sub(b, x_idx(b, e->s.c), x_muli(b, cb, lanes))) : x_idx(b, lanes);
  Expr *c = s_for(b, "c", x_idx(b, 0), channels, 1);
  for (int q = 0; ua && q < width; q += WINOGRAD_LINE) s_prefetch(b, of->u, x_add(b, ua, x_addi(b, x_muli(b, c, width), q)), 0, false);
  Expr *w[WINOGRAD_VECS];
  for (int j = 0; j < vecs; j++) w[j] = s_let(b, "w", x_load(b, of->u, x_add(b, ui, x_addi(b, x_muli(b, c, width), (int64_t)j * lanes)), lanes));
  for (int i = 0; i < p->tile.cols; i++) {
    Expr *v = s_let(b, "v", x_splat(b, x_load(b, e->vm, x_add(b, vi, x_addi(b, c, (int64_t)i * lanes)), 1), lanes));
    if (vecs > 1) s_pin(b, v->var);
    for (int j = 0; j < vecs; j++) s_set(b, acc[i][j], x_fma(b, v, w[j], x_var(b, acc[i][j])));
  }
  s_end(b);
  s_end(b);
  Expr *mi = s_let(b, "mi", x_add(b, x_addi(b, x_muli(b, pos, p->result_slot), p->m), x_muli(b, x_add(b, x_muli(b, vec, p->held), tb), lanes)));
  for (int i = 0; i < p->tile.cols; i++)
    for (int j = 0; j < vecs; j++) s_store(b, e->vm, x_addi(b, mi, ((int64_t)j * p->held + i) * lanes), x_var(b, acc[i][j]));
}

/* Products of panels from .. to-1. */
static void emit_products(Emit *e, Expr *from, Expr *to) {
  Build *b = e->b;
  const WinogradPlan *p = &e->p;
  int64_t end;
  s_comment(b, "a matrix product per position of the tile");
  Panels full = {.vecs = p->tile.vecs, .n = p->panels, .from = from};
  Panels last = {.vecs = (int)p->rest, .n = 1, .from = x_idx(b, 0), .to = x_idx(b, 1)};
  if (p->panels) {
    full.u = pack_weights(e, 0, p->panels, full.vecs);
    full.to = p->rest ? x_bin(b, X_MIN, to, x_idx(b, p->panels)) : to;
    if (!x_is_int(full.to, &end)) full.to = s_let(b, "end", full.to);
  }
  if (p->rest) last.u = pack_weights(e, p->panels * p->tile.vecs * e->l->t->lanes, 1, last.vecs);
  Expr *pos = s_for_n(b, "p", p->f.t * p->f.t);
  if (p->panels) {
    Expr *panel = s_for(b, "kp", from, full.to, 1);
    Expr *tb = s_for(b, "tb", x_idx(b, 0), e->count, p->tile.cols);
    emit_product(e, &full, panel, x_muli(b, x_sub(b, panel, from), p->tile.vecs), pos, tb);
    s_end(b);
    s_end(b);
  }
  if (p->rest) {
    bool always = x_is_int(to, &end);
    /* A group of panels may begin behind the last one of this convolution. */
    if (!always) s_if(b, x_bin(b, X_AND, x_bin(b, X_LE, from, x_idx(b, p->panels)), x_bin(b, X_GT, to, x_idx(b, p->panels))));
    Expr *tb = s_for(b, "tb", x_idx(b, 0), e->count, p->tile.cols);
    emit_product(e, &last, x_idx(b, 0), x_muli(b, x_sub(b, x_idx(b, p->panels), from), p->tile.vecs), pos, tb);
    s_end(b);
    if (!always) s_end(b);
  }
  s_end(b);
}

/* ---- 3. output ---- */

/* Stores what waits: by tile rows, of which the strip has parts of at least one. */
static void emit_turned(Emit *e, Expr *k) {
  Build *b = e->b;
  const WinogradPlan *p = &e->p;
  const ConvShape *s = &e->s;
  int m = p->f.m;
  Expr *last = x_divi(b, x_addi(b, x_add(b, e->first, e->count), -1), p->ntx);
  Expr *ty = s_for(b, "ty", x_divi(b, e->first, p->ntx), x_addi(b, last, 1), 1);
  Expr *before = s_let(b, "tf", x_sub(b, x_muli(b, ty, p->ntx), e->first));   /* of the tile row's first tile in the strip */
  Expr *from = s_let(b, "t0", x_bin(b, X_MAX, before, x_idx(b, 0)));
  Expr *to = x_bin(b, X_MIN, x_addi(b, before, p->ntx), e->count);
  Expr *x = s_let(b, "x0", x_muli(b, x_sub(b, from, before), m));
  Expr *count = s_let(b, "nx", x_sub(b, x_bin(b, X_MIN, x_muli(b, x_sub(b, to, before), m), x_idx(b, s->ow)), x));
  Expr *y0 = s_let(b, "y0", x_muli(b, ty, m));
  Expr *rows = s->oh % m ? x_bin(b, X_MIN, x_idx(b, m), x_sub(b, x_idx(b, s->oh), y0)) : x_idx(b, m);
  Expr *i = s_for(b, "i", x_idx(b, 0), rows, 1);
  At at = {.rank = 4, .c = {e->img, k, x_add(b, y0, i), x}};
  turn_row(&e->turn, x_add(b, x_muli(b, i, p->strip * m), x_muli(b, from, m)), count, &at);
  s_end(b);
  s_end(b);
}

/* Results of panels from .. to-1. */
static void emit_output(Emit *e, Expr *from, Expr *to) {
  Build *b = e->b;
  const WinogradPlan *p = &e->p;
  const ConvShape *s = &e->s;
  int t = p->f.t, m = p->f.m, lanes = e->l->t->lanes;
  s_comment(b, "output tiles");
  Expr *first = x_muli(b, from, p->tile.vecs), *end = x_muli(b, to, p->tile.vecs);
  Expr *vectors = x_sub(b, p->rest ? x_bin(b, X_MIN, end, x_idx(b, p->vectors)) : end, first);
  Expr *kb = s_for(b, "kb", x_idx(b, 0), vectors, 1);
  Expr *k = s_let(b, "k", x_muli(b, x_add(b, first, kb), lanes));
  Expr *start = conv_start(e->l, &e->affine, k);
  Expr *ti = s_for(b, "ti", x_idx(b, 0), e->count, 1);
  Expr *tile = s_let(b, "tile", x_add(b, e->first, ti));
  Expr *y0 = s_let(b, "y0", x_muli(b, x_divi(b, tile, p->ntx), m));
  Expr *x0 = s_let(b, "x0", x_muli(b, x_remi(b, tile, p->ntx), m));
  Expr *mi = s_let(b, "mi", x_addi(b, x_muli(b, x_add(b, x_muli(b, kb, p->held), ti), lanes), p->m));
  Expr *v[WINOGRAD_MAX] = {NULL}, *y[WINOGRAD_MAX] = {NULL};
  Expr *j = s_for_n(b, "j", t);
  Expr *column = s_let(b, "mj", x_add(b, mi, x_muli(b, j, p->result_slot)));
  for (int i = 0; i < t; i++) v[i] = s_let(b, "v", x_load(b, e->vm, x_addi(b, column, (int64_t)i * t * p->result_slot), lanes));
  emit_at(b, &p->f, v, y);
  for (int i = 0; i < m; i++) s_store(b, e->tmp, tmp_at(e, x_idx(b, i), j), y[i]);
  s_end(b);
  Expr *rows = s->oh % m ? x_bin(b, X_MIN, x_idx(b, m), x_sub(b, x_idx(b, s->oh), y0)) : x_idx(b, m);
  Expr *i = s_for(b, "i", x_idx(b, 0), rows, 1);
  for (int q = 0; q < t; q++) v[q] = s_let(b, "v", x_load(b, e->tmp, tmp_at(e, i, x_idx(b, q)), lanes));
  emit_at(b, &p->f, v, y);
  Expr *count = s->k % lanes && s->y->layout.kind == LAYOUT_PLAIN ? s_let(b, "nk", x_bin(b, X_MIN, x_idx(b, lanes), x_sub(b, x_idx(b, s->k), k))) : NULL;
  for (int q = 0; q < m; q++) {
    At at = {.rank = 4, .c = {e->img, k, x_add(b, y0, i), x_addi(b, x0, q)}, .lanes = lanes, .vdim = 1, .count = count};
    bool ragged = s->ow % m && q >= s->ow % m;
    if (ragged) s_if(b, x_bin(b, X_LT, at.c[3], x_idx(b, s->ow)));
    Expr *sum = conv_result(e->l, &e->affine, x_add(b, y[q], start), k);
    if (e->turn.t) turn_put(&e->turn, x_add(b, x_muli(b, i, p->strip * m), x_addi(b, x_muli(b, ti, m), q)), sum, &at);
    else lower_finish(e->l, e->n, sum, &at);
    if (ragged) s_end(b);
  }
  s_end(b);
  s_end(b);
  if (e->turn.t) emit_turned(e, k);
  s_end(b);
}

/* ---- kernel ---- */

static Expr *clamp(Build *b, Expr *i, int64_t most) { return x_bin(b, X_MIN, x_bin(b, X_MAX, i, x_idx(b, 0)), x_idx(b, most)); }

/* What this range iteration computes of e's convolution, from the transformed tiles: chunk after chunk. */
static void emit_panels(Emit *e) {
  Build *b = e->b;
  const WinogradPlan *p = &e->p;
  int64_t all = p->panels + (p->rest != 0);
  Expr *from = x_idx(b, 0), *to = x_idx(b, all);
  if (p->groups > 1) {
    Expr *first = x_addi(b, x_muli(b, e->group, p->group_panels), -p->before);
    from = s_let(b, "from", clamp(b, first, all));
    to = s_let(b, "to", clamp(b, x_addi(b, first, p->group_panels), all));
  }
  bool chunks = p->chunk < MINI(all, p->group_panels);
  if (chunks) {
    Expr *end = to;
    from = s_for(b, "chunk", from, end, p->chunk);
    to = s_let(b, "to", x_bin(b, X_MIN, x_addi(b, from, p->chunk), end));
  }
  emit_products(e, from, to);
  emit_output(e, from, to);
  if (chunks) s_end(b);
}

/* Constants, place and layout of node e->n's result. */
static void open_result(Emit *e) {
  e->affine = conv_affine(e->l, &e->s);
  conv_allow_in_place(e->l, e->n, &e->s, NULL);
  if (turn_pays(e->l, e->n)) e->turn = turn_open(e->l, e->n, e->p.f.m * e->p.strip * e->p.f.m);
}

/* The part of range iteration r: group of panels, image, tiles. */
static void open_strip(Emit *e, Expr *r) {
  Build *b = e->b;
  const WinogradPlan *p = &e->p;
  const ConvShape *s = &e->s;
  int64_t pieces = s->n * p->strips;
  e->group = p->groups == 1 ? x_idx(b, 0) : s_let(b, "kg", x_divi(b, r, pieces));
  Expr *rest = p->groups == 1 ? r : s_let(b, "rs", x_remi(b, r, pieces));
  e->img = s->n == 1 ? x_idx(b, 0) : s_let(b, "img", x_divi(b, rest, p->strips));
  e->first = p->strips == 1 ? x_idx(b, 0) : s_let(b, "first", x_muli(b, s->n == 1 ? rest : x_remi(b, rest, p->strips), p->strip));
  e->count = p->strips == 1 ? x_idx(b, p->tiles) : s_let(b, "tiles", x_bin(b, X_MIN, x_idx(b, p->strip), x_sub(b, x_idx(b, p->tiles), e->first)));
}

static const char *describe(Lower *l, const ConvShape *s, const WinogradPlan *p, int count) {
  Text t = {.a = l->arena};
  text_addf(&t, "conv3x3 winograd F(%d,3)%s", p->f.m, count > 1 ? " joined" : "");
  if (s->group > 1) text_addf(&t, " in %lld groups", (long long)s->group);
  text_addf(&t, " %lld->", (long long)s->c);
  for (int i = 0; i < count; i++) text_addf(&t, "%s%lld", i ? "/" : "", (long long)s[i].k);
  text_addf(&t, ", %lldx%lld, tile %dx%d", (long long)s->oh, (long long)s->ow, p->tile.cols, p->tile.vecs * l->t->lanes);
  return t.s;
}

/* One kernel: for each strip, the input tiles once, then one convolution after the other. */
static void emit_kernel(Lower *l, const Node *const *node, const ConvShape *s, const WinogradPlan *p, int count) {
  Emit e = {.l = l, .n = node[0], .s = s[0], .p = p[0]};
  double work = 0;
  for (int i = 0; i < count; i++) work += 2.0 * (double)(s[i].n * s[i].k * (s[i].c / s[i].group) * 9) * (double)(s[i].oh * s[i].ow);
  e.b = lower_open(l, node[0], "%s", describe(l, s, p, count));
  Expr *r = lower_range(l, "r", p->groups * s->n * p->strips);
  e.x = lower_in(l, s->x);
  open_strip(&e, r);
  e.vm = lower_scratch(l, "vm", DT_F32, winograd_scratch(p) * 4);
  e.tmp = lower_scratch(l, "t", DT_F32, (int64_t)p->f.t * p->f.t * l->t->lanes * 4);
  emit_input(&e);
  for (int i = 0; i < count; i++) {
    Emit m = e;
    m.n = node[i];
    m.s = s[i];
    m.p = p[i];
    open_result(&m);
    emit_panels(&m);
    if (i) lower_done(l, node[i]);
  }
  lower_close(l, work);
}

bool conv_winograd_apart(Lower *l, const Node *n) {
  ConvShape s;
  if (n->op != OP_Conv || !n->next || !n->next->joined || !conv_for_winograd(n, l->t, l->winograd) || !conv_shape(l, n, &s)) return false;
  conv_direct_emit(l, n, &s, 1, "conv");
  return true;
}

bool conv_winograd(Lower *l, const Node *n) {
  const Node *node[CONV_JOINED_MAX] = {n};
  ConvShape s[CONV_JOINED_MAX];
  WinogradPlan p[CONV_JOINED_MAX];
  int count = n->next && n->next->joined ? conv_joined(l, n, node, s) : 1;
  while (count > 1 && !winograd_plan_joined(l, node, s, count, p)) count--;
  if (count == 1 && (!conv_shape(l, n, s) || !winograd_plan(l, n, s, p))) return false;
  emit_kernel(l, node, s, p, count);
  return true;
}
