/* pool.c: maximum and average pools over images of blocked channels, a vector of channels per pixel.
 *
 * A window is folded column by column: for a tile of neighbouring outputs, first every input column under the tile is folded over the window's
 * rows, then each output takes its columns. Windows overlap, so columns are shared: 3x3 with stride 1 needs about 4 operations per output
 * rather than 8, and a quarter of the loads. Rows outside the image are skipped; tiles at the left and right edge are unrolled with the columns
 * that exist.
 */
#include "../../ir/ops/ops.h"
#include "rows.h"
#include "schedules.h"

#define MAX_TILE 8
#define MAX_COLUMNS 32

typedef struct Emit {
  Lower *l;
  const Node *n;
  Build *b;
  const PoolAttr *a;
  Fold fold;
  const Value *x;
  Value *y;
  int64_t h, w, oh, ow, kh, kw, sh, sw, ph, pw, c;
  int lanes, tile;
  Rows in;
  Expr *img, *cb, *oy;
} Emit;

/* Output column ox has the window's column kw inside the image. */
static bool inside(const Emit *e, int64_t ox, int64_t kw) {
  int64_t ix = ox * e->sw - e->pw + kw;
  return ix >= 0 && ix < e->w;
}

/* Positions a window counts along an axis where `in` of them lie inside the image; it may hang over the end pad, which counts for nothing. */
static Expr *counted(Emit *e, Expr *first, int64_t kernel, int64_t extent, int64_t pad_end, Expr *in) {
  Build *b = e->b;
  if (!e->a->count_include_pad) return in;
  return x_bin(b, X_MIN, x_idx(b, kernel), x_sub(b, x_idx(b, extent + pad_end), first));
}

/* Input columns at, at+1, .. below the tile, each folded over the window's rows; those not wanted stay NULL. */
static void emit_columns(Emit *e, Expr *x0, const bool *wanted, int span, Var **column) {
  Build *b = e->b;
  Type t = type_of(DT_F32, e->lanes);
  for (int i = 0; i < span; i++) column[i] = wanted[i] ? s_reg(b, "c", fold_identity(b, e->fold, t)) : NULL;
  Expr *kh = s_for_n(b, "kh", e->kh);
  Expr *iy = s_let(b, "iy", x_addi(b, x_add(b, x_muli(b, e->oy, e->sh), kh), -e->ph));
  s_if(b, x_bin(b, X_AND, x_bin(b, X_GE, iy, x_idx(b, 0)), x_bin(b, X_LT, iy, x_idx(b, e->h))));
  Expr *row = s_let(b, "xi", rows_at(b, &e->in, e->img, e->cb, iy, x_addi(b, x_muli(b, x0, e->sw), -e->pw)));
  for (int i = 0; i < span; i++) {
    if (!column[i]) continue;
    Expr *v = s_let(b, "v", x_load(b, e->in.v, x_addi(b, row, (int64_t)i * e->lanes), e->lanes));
    s_set(b, column[i], fold_combine(b, e->fold, x_var(b, column[i]), v));
  }
  s_end(b);
  s_end(b);
}

/* Outputs x0 .. x0+cols-1; at_edge: x0 is a constant, and columns outside the image are left out. */
static void emit_tile(Emit *e, Expr *x0, int cols, bool at_edge) {
  Build *b = e->b;
  int span = (int)((cols - 1) * e->sw + e->kw);
  bool wanted[MAX_COLUMNS] = {false};
  int64_t first = 0;
  if (at_edge) x_is_int(x0, &first);
  for (int i = 0; i < cols; i++)
    for (int64_t k = 0; k < e->kw; k++)
      if (!at_edge || inside(e, first + i, k)) wanted[i * e->sw + k] = true;
  Var *column[MAX_COLUMNS];
  emit_columns(e, x0, wanted, span, column);
  Expr *k = x_muli(b, e->cb, e->lanes), *iy = s_let(b, "iy", x_addi(b, x_muli(b, e->oy, e->sh), -e->ph)), *rows = NULL;
  if (e->fold == FOLD_SUM) {
    Expr *end = x_bin(b, X_MIN, x_addi(b, iy, e->kh), x_idx(b, e->h));
    rows = s_let(b, "rows", counted(e, iy, e->kh, e->h, e->a->pads.v[2], x_sub(b, end, x_bin(b, X_MAX, iy, x_idx(b, 0)))));
  }
  for (int i = 0; i < cols; i++) {
    Expr *v = NULL;
    int64_t in = 0;
    for (int64_t kw = 0; kw < e->kw; kw++) {
      Var *c = column[i * e->sw + kw];
      if (at_edge && !inside(e, first + i, kw)) continue;
      in++;
      v = v ? s_let(b, "v", fold_combine(b, e->fold, v, x_var(b, c))) : x_var(b, c);
    }
    if (!v) v = fold_identity(b, e->fold, type_of(DT_F32, e->lanes));
    if (e->fold == FOLD_SUM) {
      Expr *x = x_addi(b, x_muli(b, x_addi(b, x0, i), e->sw), -e->pw);
      Expr *n = x_mul(b, rows, counted(e, x, e->kw, e->w, e->a->pads.v[3], x_idx(b, in)));
      v = x_bin(b, X_DIV, v, x_splat(b, x_cast(b, DT_F32, n), e->lanes));
    }
    At at = {.rank = 4, .c = {e->img, k, e->oy, x_addi(b, x0, i)}, .lanes = e->lanes, .vdim = 1};
    if (e->c % e->lanes) at.count = x_bin(b, X_MIN, x_idx(b, e->lanes), x_sub(b, x_idx(b, e->c), k));
    lower_finish(e->l, e->n, v, &at);
  }
}

static void emit_edge(Emit *e, int64_t from, int64_t to) {
  for (int64_t x = from; x < to; x += e->tile) emit_tile(e, x_idx(e->b, x), (int)MINI(e->tile, to - x), true);
}

/* Output columns whose windows are inside: left .. right-1. */
static void interior(const Emit *e, int64_t *left, int64_t *right) {
  *left = 0;
  *right = e->ow;
  while (*left < e->ow && !inside(e, *left, 0)) ++*left;
  while (*right > *left && !inside(e, *right - 1, e->kw - 1)) --*right;
}

static void emit_row(Emit *e) {
  Build *b = e->b;
  int64_t left, right;
  interior(e, &left, &right);
  int64_t whole = (right - left) / e->tile * e->tile;
  emit_edge(e, 0, left);
  if (whole) {
    Expr *x = s_for(b, "x", x_idx(b, left), x_idx(b, left + whole), e->tile);
    emit_tile(e, x, e->tile, false);
    s_end(b);
  }
  if (right - left > whole) emit_tile(e, x_idx(b, left + whole), (int)(right - left - whole), false);
  emit_edge(e, right, e->ow);
}

/* False unless this is a pool of images with blocked channels that the registers have room for. */
static bool read_node(Lower *l, const Node *n, Emit *e) {
  const PoolAttr *a = n->attr;
  const Value *x = n->in[0];
  Value *y = n->out[0];
  if (x->shape.rank != 4 || x->dt != DT_F32 || x->layout.kind != LAYOUT_BLOCKED || x->layout.block != l->t->lanes || !lower_vectors_ok(l, n)) return false;
  if (value_count(x) == 0 || value_count(y) == 0 || x->shape.d[1].n == 1 || (n->op == OP_MaxPool && (n->out[1]->uses.n || n->out[1]->is_output))) return false;
  if (y->layout.kind == LAYOUT_BLOCKED && y->layout.block != l->t->lanes) return false;
  for (int i = n->ncore; i < n->nin; i++)
    if (n->in[i]->layout.kind == LAYOUT_BLOCKED && n->in[i]->layout.block != l->t->lanes) return false;
  if (a->dilations.v[0] != 1 || a->dilations.v[1] != 1) return false;
  *e = (Emit){.l = l, .n = n, .a = a, .fold = n->op == OP_MaxPool ? FOLD_MAX : FOLD_SUM, .x = x, .y = y, .h = x->shape.d[2].n, .w = x->shape.d[3].n,
              .oh = y->shape.d[2].n, .ow = y->shape.d[3].n, .kh = a->kernel.v[0], .kw = a->kernel.v[1], .sh = a->strides.v[0], .sw = a->strides.v[1],
              .ph = a->pads.v[0], .pw = a->pads.v[1], .c = x->shape.d[1].n, .lanes = l->t->lanes};
  /* Columns in registers beside two for the sums; at most a kernel of 7, which leaves some to share. */
  if (e->kw > 7 || e->sw > e->kw) return false;
  for (e->tile = (int)MINI(MAX_TILE, e->ow); e->tile > 1 && (e->tile - 1) * e->sw + e->kw > l->t->vregs - 4; e->tile--) {}
  int64_t left, right;
  interior(e, &left, &right);
  return (e->tile - 1) * e->sw + e->kw <= MAX_COLUMNS && e->ow - (right - left) <= 16;
}

static const char *describe(const Emit *e) {
  return arena_printf(e->l->arena, "%s %lldx%lld%s", e->fold == FOLD_MAX ? "maximum" : "average", (long long)e->kh, (long long)e->kw, e->sh > 1 ? " strided" : "");
}

static double flops(const Emit *e) { return (double)(e->kh * e->kw) * (double)value_count(e->y); }

bool pool_blocked(Lower *l, const Node *n) {
  Emit e;
  if (!read_node(l, n, &e)) return false;
  int64_t batch = e.x->shape.d[0].n, blocks = (e.c + e.lanes - 1) / e.lanes;
  Build *b = e.b = lower_open(l, n, "%s %lld, %lldx%lld, tile %dx%d", describe(&e), (long long)e.c, (long long)e.oh, (long long)e.ow, e.tile, e.lanes);
  /* Rows per range iteration: enough iterations to share out, else whole planes. */
  int64_t wanted = l->p->max_threads > 1 ? 4 * l->p->max_threads : 1;
  int64_t strips = MAXI(1, MINI(e.oh, wanted / (batch * blocks))), strip = (e.oh + strips - 1) / strips;
  strips = (e.oh + strip - 1) / strip;
  Expr *r = lower_range(l, "r", batch * blocks * strips);
  e.in = rows_of(l, e.x);
  Expr *plane = strips == 1 ? r : s_let(b, "plane", x_divi(b, r, strips));
  e.img = batch == 1 ? x_idx(b, 0) : s_let(b, "img", x_divi(b, plane, blocks));
  e.cb = batch == 1 ? plane : s_let(b, "cb", x_remi(b, plane, blocks));
  Expr *y0 = strips == 1 ? x_idx(b, 0) : s_let(b, "y0", x_muli(b, x_remi(b, r, strips), strip));
  e.oy = s_for(b, "y", y0, strips == 1 ? x_idx(b, e.oh) : x_bin(b, X_MIN, x_addi(b, y0, strip), x_idx(b, e.oh)), 1);
  emit_row(&e);
  s_end(b);
  lower_body_in_place(l, n, 0);
  lower_close(l, flops(&e));
  return true;
}

/* ---- row by row ---- */

static void reader_open(RowReader *r, const Rows *in) {
  Emit *e = r->self;
  e->b = &e->l->b;
  e->in = *in;
}

static void reader_row(const RowReader *r, Expr *img, Expr *cb, Expr *y) {
  Emit *e = r->self;
  e->img = img;
  e->cb = cb;
  e->oy = y;
  emit_row(e);
}

bool pool_reader(Lower *l, const Node *n, RowReader *r) {
  Emit *e = NEW(l->arena, Emit);
  if ((n->op != OP_MaxPool && n->op != OP_AveragePool) || !read_node(l, n, e)) return false;
  *r = (RowReader){.n = n, .rows = e->oh, .reach = e->kh, .stride = e->sh, .pad = e->ph, .flops = flops(e), .what = describe(e), .self = e,
                   .open = reader_open, .row = reader_row};
  return true;
}
