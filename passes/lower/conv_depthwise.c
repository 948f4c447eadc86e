/* conv_depthwise.c: depthwise convolution on blocked channels: a vector of channels per pixel.
 *
 * For each output row, a tile of neighbouring pixels is accumulated in registers: per kernel row the input vectors under the tile are loaded
 * once and shared by the taps. Columns whose window leaves the image are tiles of their own, unrolled with only the taps that exist; kernel
 * rows outside the image are skipped.
 *
 * With several results per channel (a channel multiplier m) the vectors of one block of channels become m vectors of results, each of which
 * takes its channels, every one m times, by a shuffle.
 *
 * Where the mean of each channel is wanted as well (squeeze and excite) and a plane is computed in one go, its results are added up on their
 * way to memory, row by row, and the ReduceMean needs no kernel.
 */
#include "conv_plan.h"
#include "rows.h"

#define MAX_TILE 16
#define MAX_TAPS 16
#define MULTIPLIER_MAX 4   /* conv_direct's waste is as much */

typedef struct Emit {
  Lower *l;
  const Node *n;
  Build *b;
  ConvShape s;
  Rows x;
  Var *w;
  ConvAffine affine;
  Expr *img, *cb, *kb, *y;   /* blocks of channels: read, written */
  int multiplier, part;      /* kb is cb * multiplier + part */
  const Node *mean;   /* of the result's planes, made here; or NULL */
  Var *row_sum, *sums;   /* the mean's sums of the open row; of all rows so far, by channel, where rows are made one at a time */
  int tile;
} Emit;

/* Output column ox reads input column ox*sw - pw + kw*dw. */
static bool tap_inside(const ConvShape *s, int64_t ox, int64_t kw) {
  int64_t ix = ox * s->sw - s->pw + kw * s->dw;
  return ix >= 0 && ix < s->iw;
}

/* The channels that the lanes of the results' vector are of. */
static Expr *channels_of(Emit *e, Expr *v) {
  if (e->multiplier == 1) return v;
  uint8_t table[MAX_LANES];
  int lanes = e->l->t->lanes;
  for (int i = 0; i < lanes; i++) table[i] = (uint8_t)((e->part * lanes + i) / e->multiplier);
  v = s_let(e->b, "v", v);
  return x_shuffle(e->b, v, v, table, lanes);
}

/* Pixels x0 .. x0+cols-1; at_edge: x0 is a constant and taps outside the image are left out. */
static void emit_tile(Emit *e, Expr *x0, int cols, bool at_edge) {
  Build *b = e->b;
  const ConvShape *s = &e->s;
  int lanes = e->l->t->lanes;
  int64_t x0i = 0;
  if (at_edge) x_is_int(x0, &x0i);
  Var *acc[MAX_TILE];
  Expr *k = x_muli(b, e->kb, lanes), *init = conv_start(e->l, &e->affine, k);
  for (int i = 0; i < cols; i++) {
    char name[32];
    snprintf(name, sizeof name, "a%d", i);
    acc[i] = s_reg(b, name, init);
  }
  Expr *kh = s_for_n(b, "kh", s->kh);
  Expr *iy = s_let(b, "iy", x_addi(b, x_add(b, x_muli(b, e->y, s->sh), x_muli(b, kh, s->dh)), -s->ph));
  s_if(b, x_bin(b, X_AND, x_bin(b, X_GE, iy, x_idx(b, 0)), x_bin(b, X_LT, iy, x_idx(b, s->h))));
  Expr *row = s_let(b, "xi", rows_at(b, &e->x, e->img, e->cb, iy, x_addi(b, x_muli(b, x0, s->sw), -s->pw)));
  Expr *wrow = s_let(b, "wi", x_muli(b, x_add(b, x_muli(b, e->kb, s->kh), kh), s->kw * lanes));
  Expr *w[MAX_TAPS];
  for (int64_t kw = 0; kw < s->kw; kw++) w[kw] = s_let(b, "w", x_load(b, e->w, x_addi(b, wrow, kw * lanes), lanes));
  int64_t span = (cols - 1) * s->sw + (s->kw - 1) * s->dw + 1;
  for (int64_t at = 0; at < span; at++) {
    Expr *v = NULL;
    for (int i = 0; i < cols; i++)
      for (int64_t kw = 0; kw < s->kw; kw++) {
        if (i * s->sw + kw * s->dw != at || (at_edge && !tap_inside(s, x0i + i, kw))) continue;
        if (!v) v = s_let(b, "v", channels_of(e, x_load(b, e->x.v, x_addi(b, row, at * lanes), lanes)));
        s_set(b, acc[i], x_fma(b, v, w[kw], x_var(b, acc[i])));
      }
  }
  s_end(b);
  s_end(b);
  for (int i = 0; i < cols; i++) {
    At at = {.rank = 4, .c = {e->img, k, e->y, x_addi(b, x0, i)}, .lanes = lanes, .vdim = 1};
    if (s->k % lanes) at.count = x_bin(b, X_MIN, x_idx(b, lanes), x_sub(b, x_idx(b, s->k), at.c[1]));
    Expr *v = lower_body(e->l, e->n, conv_result(e->l, &e->affine, x_var(b, acc[i]), k), &at);
    if (e->mean) {
      v = s_let(b, "v", v);
      s_set(b, e->row_sum, x_add(b, x_var(b, e->row_sum), v));
    }
    lower_store(e->l, s->y, &at, v);
  }
}

static void emit_edge(Emit *e, int64_t from, int64_t to) {
  for (int64_t x = from; x < to; x += e->tile) emit_tile(e, x_idx(e->b, x), (int)MINI(e->tile, to - x), true);
}

static void emit_row(Emit *e) {
  Build *b = e->b;
  const ConvShape *s = &e->s;
  int64_t left = 0, right = s->ow;
  while (left < s->ow && !tap_inside(s, left, 0)) left++;
  while (right > left && !tap_inside(s, right - 1, s->kw - 1)) right--;
  int64_t inner = right - left, whole = inner / e->tile * e->tile;
  emit_edge(e, 0, left);
  if (whole) {
    Expr *x = s_for(b, "x", x_idx(b, left), x_idx(b, left + whole), e->tile);
    emit_tile(e, x, e->tile, false);
    s_end(b);
  }
  if (inner > whole) emit_tile(e, x_idx(b, left + whole), (int)(inner - whole), false);
  emit_edge(e, right, s->ow);
}

/* Unrolled edges longer than this would be more code than they are worth. */
static bool edges_short(const ConvShape *s) {
  int64_t outside = 0;
  for (int64_t x = 0; x < s->ow; x++) outside += !tap_inside(s, x, 0) || !tap_inside(s, x, s->kw - 1);
  return outside <= 32;
}

/* The mean over each plane of n's result, if someone wants it and nothing but that. */
static Node *plane_mean(const Node *n) {
  const Value *y = n->out[0];
  for (int i = 0; i < y->uses.n; i++) {
    Node *r = y->uses.at[i].node;
    if (r->op != OP_ReduceMean || r->nbody || r->out[0]->dt != DT_F32 || y->uses.at[i].slot != 0) continue;
    const ReduceAttr *a = r->attr;
    if (a->keepdims && a->axes.n == 2 && a->axes.v[0] + a->axes.v[1] == 5 && a->axes.v[0] >= 2 && a->axes.v[1] >= 2) return r;
  }
  return NULL;
}

/* ---- means of planes ---- */

static Expr *zeros(Emit *e) { return x_float(e->b, type_of(DT_F32, e->l->t->lanes), 0); }

/* Row e->y, and its sums. */
static void emit_summed_row(Emit *e) {
  if (e->mean) e->row_sum = s_reg(e->b, "row", zeros(e));
  emit_row(e);
}

static void store_mean(Emit *e, Expr *sum) {
  Build *b = e->b;
  const ConvShape *s = &e->s;
  int lanes = e->l->t->lanes;
  At at = {.rank = 4, .c = {e->img, x_muli(b, e->cb, lanes), x_idx(b, 0), x_idx(b, 0)}, .lanes = lanes, .vdim = 1};
  if (s->k % lanes) at.count = x_bin(b, X_MIN, x_idx(b, lanes), x_sub(b, x_idx(b, s->k), at.c[1]));
  lower_store(e->l, e->mean->out[0], &at, x_bin(b, X_DIV, sum, x_float(b, type_of(DT_F32, lanes), (double)(s->oh * s->ow))));
}

/* All rows of the open range iteration, y0 to y1; with the mean, which is made of whole planes. */
static void emit_rows(Emit *e, Expr *y0, Expr *y1) {
  Build *b = e->b;
  Var *sum = e->mean ? s_reg(b, "sum", zeros(e)) : NULL;
  e->y = s_for(b, "y", y0, y1, 1);
  emit_summed_row(e);
  if (sum) s_set(b, sum, x_add(b, x_var(b, sum), x_var(b, e->row_sum)));
  s_end(b);
  if (sum) store_mean(e, x_var(b, sum));
}

/* ---- kernels ---- */

static bool read_node(Lower *l, const Node *n, Emit *e) {
  ConvShape *s = &e->s;
  *e = (Emit){.l = l, .n = n};
  if (!conv_shape(l, n, s) || s->gate || s->group != s->c || s->group == 1 || s->k / s->c > MULTIPLIER_MAX) return false;
  if (s->block == 1 || s->kw > MAX_TAPS || !edges_short(s)) return false;
  e->multiplier = (int)(s->k / s->c);
  e->tile = (int)MAXI(1, MINI(MAX_TILE, MINI(s->ow, l->t->vregs / 4)));
  return true;
}

static double flops(const ConvShape *s) { return 2.0 * (double)(s->n * s->k * s->kh * s->kw) * (double)(s->oh * s->ow); }

/* Weights and the rest, in the open kernel. */
static void open_node(Emit *e) {
  Lower *l = e->l;
  const ConvShape *s = &e->s;
  int lanes = l->t->lanes;
  int64_t kk = s->kh * s->kw, results = div_up(s->k, lanes);
  e->b = &l->b;
  Pack p = {.src = s->w->data, .dt = DT_F32, .ndims = 4, .limit = {s->k}, .scale = conv_pack_scale(s, 0),
            .dim = {{results, lanes * kk, 0, lanes}, {s->kh, s->kw, -1, 0}, {s->kw, 1, -1, 0}, {lanes, kk, 0, 1}}};
  const char *desc = arena_printf(l->arena, "depthwise [%lld][%lld][%lld][%d]%s", (long long)results, (long long)s->kh, (long long)s->kw, lanes,
                                  p.scale ? " scaled" : "");
  e->w = lower_weight(l, "w", program_add_pack(l->p, s->w->name, &p, desc), DT_F32);
  e->affine = conv_affine(l, s);
  if (e->mean) lower_done(l, e->mean);
}

static const char *describe(const Emit *e) {
  const ConvShape *s = &e->s;
  return arena_printf(e->l->arena, "depthwise%lldx%lld%s", (long long)s->kh, (long long)s->kw, s->sh > 1 ? " strided" : e->multiplier > 1 ? " multiplied" : "");
}

bool conv_depthwise(Lower *l, const Node *n) {
  Emit e;
  const ConvShape *s = &e.s;
  if (!read_node(l, n, &e)) return false;
  int lanes = l->t->lanes;
  int64_t blocks = div_up(s->c, lanes), results = div_up(s->k, lanes);
  /* Rows per range iteration: enough iterations to share out, else whole planes. */
  int64_t wanted = l->p->max_threads > 1 ? 4 * l->p->max_threads : 1;
  int64_t strips = MAXI(1, MINI(s->oh, wanted / (s->n * blocks))), strip = div_up(s->oh, strips);
  strips = div_up(s->oh, strip);
  if (strips == 1 && e.multiplier == 1) e.mean = plane_mean(n);
  Build *b = lower_open(l, n, "%s %lld, %lldx%lld, tile %dx%d", describe(&e), (long long)s->k, (long long)s->oh, (long long)s->ow, e.tile, lanes);
  Expr *r = lower_range(l, "r", s->n * blocks * strips);
  e.x = rows_of(l, s->x);
  open_node(&e);
  conv_allow_in_place(l, n, s, NULL);
  Expr *plane = strips == 1 ? r : s_let(b, "plane", x_divi(b, r, strips));
  e.img = s->n == 1 ? x_idx(b, 0) : s_let(b, "img", x_divi(b, plane, blocks));
  e.cb = s->n == 1 ? plane : s_let(b, "cb", x_remi(b, plane, blocks));
  Expr *y0 = strips == 1 ? x_idx(b, 0) : s_let(b, "y0", x_muli(b, x_remi(b, r, strips), strip));
  Expr *y1 = strips == 1 ? x_idx(b, s->oh) : x_bin(b, X_MIN, x_addi(b, y0, strip), x_idx(b, s->oh));
  for (e.part = 0; e.part < e.multiplier; e.part++) {
    e.kb = x_addi(b, x_muli(b, e.cb, e.multiplier), e.part);
    bool more = blocks * e.multiplier > results && e.part;   /* the last block of channels makes fewer */
    if (more) s_if(b, x_bin(b, X_LT, e.kb, x_idx(b, results)));
    emit_rows(&e, y0, y1);
    if (more) s_end(b);
  }
  lower_close(l, flops(s));
  return true;
}

/* ---- row by row ---- */

static void reader_open(RowReader *r, const Rows *in) {
  Emit *e = r->self;
  e->x = *in;
  open_node(e);
  if (e->mean) e->sums = lower_scratch(e->l, "sums", DT_F32, div_up(e->s.k, e->l->t->lanes) * e->l->t->lanes * 4);
}

static void reader_row(const RowReader *r, Expr *img, Expr *cb, Expr *y) {
  Emit *e = r->self;
  Build *b = e->b;
  int lanes = e->l->t->lanes;
  e->img = img;
  e->cb = e->kb = cb;
  e->y = y;
  emit_summed_row(e);
  if (!e->mean) return;
  Expr *at = s_let(b, "at", x_muli(b, cb, lanes));
  Var *sum = s_reg(b, "sum", zeros(e));
  s_if(b, x_bin(b, X_GT, y, x_idx(b, 0)));
  s_set(b, sum, x_load(b, e->sums, at, lanes));
  s_end(b);
  s_set(b, sum, x_add(b, x_var(b, sum), x_var(b, e->row_sum)));
  s_if(b, x_bin(b, X_LT, y, x_idx(b, e->s.oh - 1)));
  s_store(b, e->sums, at, x_var(b, sum));
  s_else(b);
  store_mean(e, x_var(b, sum));
  s_end(b);
}

bool depthwise_reader(Lower *l, const Node *n, bool whole, RowReader *r) {
  Emit *e = NEW(l->arena, Emit);
  const ConvShape *s = &e->s;
  if (n->op != OP_Conv || !read_node(l, n, e) || e->multiplier > 1) return false;
  e->mean = whole ? plane_mean(n) : NULL;
  *r = (RowReader){.n = n, .rows = s->oh, .reach = (s->kh - 1) * s->dh + 1, .stride = s->sh, .pad = s->ph, .whole = e->mean != NULL,
                   .flops = flops(s), .what = describe(e), .self = e, .open = reader_open, .row = reader_row};
  return true;
}
