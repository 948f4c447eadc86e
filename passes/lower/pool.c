/* pool.c: maximum and average pools over images of blocked channels, a vector of channels per pixel.
 *
 * A window is folded down its columns first, then across them, in one of two ways.
 *
 * By tiles, for small windows: for a tile of neighbouring outputs every input column under the tile is folded over the window's rows into a
 * register, then each output takes its columns. Windows overlap, so columns are shared: 3x3 with stride 1 needs about 4 operations per output
 * rather than 8, and a quarter of the loads. Tiles at the left and right edge are unrolled with the columns that exist.
 *
 * By rows, for any window: the columns, folded, are stored as a row of per-thread memory, with pads of what changes nothing at both ends, and
 * a second sweep folds the row across, without edges. Both sweeps take several windows at a time that have a place in common: what is
 * before it is folded backwards, the rest forwards, and each window is one result of the first and one of the second (van Herk, Gil and
 * Werman's method, its blocks as long as there are registers). 13x13 with stride 1 is some 7 operations per output, not 24.
 *
 * Input rows outside the image are skipped. Tiles of rows start at multiples of their height, whatever is shared out among threads.
 */
#include "pool.h"
#include "rows.h"
#include "schedules.h"

#define STORE_AND_LOAD 3.0   /* cycles a vector, beyond the nearest cache */
#define UNROLLED 8   /* places of a sweep in a row; more are a loop */

typedef struct Emit {
  Lower *l;
  const Node *n;
  Build *b;
  PoolShape s;
  PoolPlan p;
  bool leaves;             /* windows reach above or below the image */
  Rows in;
  Var *row;                /* [rows][row_columns][lanes] */
  Expr *img, *cb;
} Emit;

/* ---- input and results ---- */

/* Pixel ix of row `at` of the window of output row oy. Where windows leave the image a scope opens, which is entered if the image has that
 * row. */
static Expr *open_row(Emit *e, Expr *oy, Expr *at, Expr *ix) {
  Build *b = e->b;
  const PoolShape *s = &e->s;
  Expr *iy = s_let(b, "iy", x_addi(b, x_add(b, x_muli(b, oy, s->sh), at), -s->ph));
  if (e->leaves) s_if(b, x_bin(b, X_AND, x_bin(b, X_GE, iy, x_idx(b, 0)), x_bin(b, X_LT, iy, x_idx(b, s->h))));
  return rows_at(b, &e->in, e->img, e->cb, iy, ix);
}

static void close_row(Emit *e) {
  if (e->leaves) s_end(e->b);
}

/* Places that a window from `first` on counts along an axis: those in the image, or those in the pads too. It may hang over the end pad, and
 * what does counts for nothing. */
static Expr *counted(Emit *e, Expr *first, int64_t kernel, int64_t extent, int64_t pad_end) {
  Build *b = e->b;
  if (e->s.count_pad) return x_bin(b, X_MIN, x_idx(b, kernel), x_sub(b, x_idx(b, extent + pad_end), first));
  Expr *end = x_bin(b, X_MIN, x_addi(b, first, kernel), x_idx(b, extent));
  return x_sub(b, end, x_bin(b, X_MAX, first, x_idx(b, 0)));
}

/* Rows that the windows of output row oy count; NULL for maxima. */
static Expr *counted_rows(Emit *e, Expr *oy) {
  Build *b = e->b;
  const PoolShape *s = &e->s;
  if (s->fold == FOLD_MAX) return NULL;
  if (pool_counts_rows(s)) return x_idx(b, s->kh);
  Expr *iy = s_let(b, "iy", x_addi(b, x_muli(b, oy, s->sh), -s->ph));
  return s_let(b, "rows", counted(e, iy, s->kh, s->h, s->ph_end));
}

/* v is all that the window of output (oy, ox) holds; whole: it counts all its columns. */
static void emit_result(Emit *e, Expr *oy, Expr *ox, Expr *v, Expr *rows, bool whole) {
  Build *b = e->b;
  const PoolShape *s = &e->s;
  if (rows) {
    Expr *columns = x_idx(b, s->kw);
    if (!whole) columns = counted(e, s_let(b, "ix", x_addi(b, x_muli(b, ox, s->sw), -s->pw)), s->kw, s->w, s->pw_end);
    v = x_bin(b, X_DIV, v, x_splat(b, x_cast(b, DT_F32, x_mul(b, rows, columns)), s->lanes));
  }
  Expr *k = x_muli(b, e->cb, s->lanes);
  At at = {.rank = 4, .c = {e->img, k, oy, ox}, .lanes = s->lanes, .vdim = 1};
  if (s->c % s->lanes) at.count = x_bin(b, X_MIN, x_idx(b, s->lanes), x_sub(b, x_idx(b, s->c), k));
  lower_finish(e->l, e->n, v, &at);
}

/* ---- by tiles ---- */

/* Input columns at, at+1, .. below the tile, each folded over the window's rows; those not wanted stay NULL. */
static void emit_columns(Emit *e, Expr *oy, Expr *x0, const bool *wanted, int span, Var **column) {
  Build *b = e->b;
  const PoolShape *s = &e->s;
  for (int i = 0; i < span; i++) column[i] = wanted[i] ? s_reg(b, "c", fold_identity(b, s->fold, type_of(DT_F32, s->lanes))) : NULL;
  Expr *kh = s_for_n(b, "kh", s->kh), *row = s_let(b, "xi", open_row(e, oy, kh, x_addi(b, x_muli(b, x0, s->sw), -s->pw)));
  for (int i = 0; i < span; i++) {
    if (!column[i]) continue;
    Expr *v = s_let(b, "v", x_load(b, e->in.v, x_addi(b, row, (int64_t)i * s->lanes), s->lanes));
    s_set(b, column[i], fold_combine(b, s->fold, x_var(b, column[i]), v));
  }
  close_row(e);
  s_end(b);
}

/* Outputs x0 .. x0+cols-1; at_edge: x0 is a constant, and columns outside the image are left out. */
static void emit_tile(Emit *e, Expr *oy, Expr *x0, int cols, bool at_edge) {
  Build *b = e->b;
  const PoolShape *s = &e->s;
  int span = (int)((cols - 1) * s->sw + s->kw);
  bool wanted[POOL_SPAN] = {false};
  int64_t first = 0;
  if (at_edge) x_is_int(x0, &first);
  for (int i = 0; i < cols; i++)
    for (int64_t k = 0; k < s->kw; k++)
      if (!at_edge || pool_inside(s, first + i, k)) wanted[i * s->sw + k] = true;
  Var *column[POOL_SPAN];
  emit_columns(e, oy, x0, wanted, span, column);
  Expr *rows = counted_rows(e, oy);
  for (int i = 0; i < cols; i++) {
    Expr *v = NULL;
    for (int64_t k = 0; k < s->kw; k++) {
      if (at_edge && !pool_inside(s, first + i, k)) continue;
      Var *c = column[i * s->sw + k];
      v = v ? s_let(b, "v", fold_combine(b, s->fold, v, x_var(b, c))) : x_var(b, c);
    }
    if (!v) v = fold_identity(b, s->fold, type_of(DT_F32, s->lanes));
    emit_result(e, oy, x_addi(b, x0, i), v, rows, !at_edge);
  }
}

static void emit_edge(Emit *e, Expr *oy, int64_t from, int64_t to) {
  for (int64_t x = from; x < to; x += e->p.tile) emit_tile(e, oy, x_idx(e->b, x), (int)MINI(e->p.tile, to - x), true);
}

static void emit_tiles(Emit *e, Expr *oy) {
  Build *b = e->b;
  int64_t left, right;
  pool_interior(&e->s, &left, &right);
  int64_t whole = (right - left) / e->p.tile * e->p.tile;
  emit_edge(e, oy, 0, left);
  if (whole) {
    Expr *x = s_for(b, "x", x_idx(b, left), x_idx(b, left + whole), e->p.tile);
    emit_tile(e, oy, x, e->p.tile, false);
    s_end(b);
  }
  if (right - left > whole) emit_tile(e, oy, x_idx(b, left + whole), (int)(right - left - whole), false);
  emit_edge(e, oy, right, e->s.ow);
}

/* ---- by rows ---- */

/* `windows` windows of k places, `step` apart, folded along one axis for `units` neighbours along the other; the first place of the last
 * window is in all of them. */
typedef struct Sweep {
  Emit *e;
  int windows, units;
  int64_t k, step;
  bool down;               /* through the input's rows, to memory; else through the row in memory, to the result */
  Expr *oy, *x;            /* down: the first output row, the first input column; across: the output's row and column */
  Expr *x0;                /* down: the input column, across: the output column that rows in memory begin with */
  int64_t row;             /* across: the row in memory */
  Expr *counted;           /* across: rows */
} Sweep;

/* A place that some windows do not have: registers begin with what changes nothing, not with their first place. */
static bool missing_places(const Sweep *w) { return w->down && w->e->leaves; }

/* Folds place `at` into acc[0 .. units-1], of which those that are NULL begin with it. */
static void fold_place(const Sweep *w, Expr *at, Var **acc) {
  Emit *e = w->e;
  Build *b = e->b;
  const PoolShape *s = &e->s;
  Expr *first = w->down ? open_row(e, w->oy, at, w->x)
                        : x_muli(b, x_addi(b, x_add(b, x_muli(b, x_sub(b, w->x, w->x0), s->sw), at), w->row * e->p.row_columns), s->lanes);
  if (w->units > 1) first = s_let(b, "xi", first);
  for (int u = 0; u < w->units; u++) {
    Expr *v = x_load(b, w->down ? e->in.v : e->row, x_addi(b, first, (int64_t)u * s->lanes), s->lanes);
    if (acc[u]) s_set(b, acc[u], fold_combine(b, s->fold, x_var(b, acc[u]), s_let(b, "v", v)));
    else acc[u] = s_reg(b, "a", v);
  }
  if (w->down) close_row(e);
}

static void fold_places(const Sweep *w, int64_t from, int64_t to, Var **acc) {
  Build *b = w->e->b;
  if (!acc[0] && from < to) fold_place(w, x_idx(b, from++), acc);
  if (to - from <= UNROLLED) {
    for (int64_t i = from; i < to; i++) fold_place(w, x_idx(b, i), acc);
    return;
  }
  fold_place(w, s_for(b, "k", x_idx(b, from), x_idx(b, to), 1), acc);
  s_end(b);
}

static void put_window(const Sweep *w, int window, Expr **v) {
  Emit *e = w->e;
  Build *b = e->b;
  const PoolShape *s = &e->s;
  if (!w->down) {
    emit_result(e, w->oy, x_addi(b, w->x, window), v[0], w->counted, pool_counts_columns(s));
    return;
  }
  for (int u = 0; u < w->units; u++)
    s_store(b, e->row, x_muli(b, x_addi(b, x_sub(b, w->x, w->x0), window * e->p.row_columns + u), s->lanes), v[u]);
}

static void emit_sweep(const Sweep *w) {
  Build *b = w->e->b;
  Fold f = w->e->s.fold;
  Expr *none = fold_identity(b, f, type_of(DT_F32, w->e->s.lanes)), *v[POOL_COLUMNS];
  Var *head[POOL_ROWS][POOL_COLUMNS] = {{NULL}}, *acc[POOL_COLUMNS] = {NULL};
  int last = w->windows - 1;
  for (int u = 0; u < w->units && missing_places(w); u++) {
    if (last) head[last - 1][u] = s_reg(b, "h", none);
    acc[u] = s_reg(b, "a", none);
  }
  for (int i = last - 1; i >= 0; i--) {      /* from each window's start to the last one's */
    for (int u = 0; u < w->units && i < last - 1; u++) head[i][u] = s_reg(b, "h", x_var(b, head[i + 1][u]));
    fold_places(w, i * w->step, (i + 1) * w->step, head[i]);
  }
  int64_t at = last * w->step;
  for (int i = 0; i <= last; i++) {          /* from there to each window's end */
    fold_places(w, at, i * w->step + w->k, acc);
    at = i * w->step + w->k;
    for (int u = 0; u < w->units; u++)
      v[u] = i < last ? s_let(b, "v", fold_combine(b, f, x_var(b, head[i][u]), x_var(b, acc[u]))) : x_var(b, acc[u]);
    put_window(w, i, v);
  }
}

/* Columns from .. to-1 of the rows in memory, which the image does not have. */
static void emit_pads(Emit *e, Expr *from, Expr *to) {
  Build *b = e->b;
  const PoolShape *s = &e->s;
  int64_t first, end;
  if (x_is_int(from, &first) && x_is_int(to, &end) && first >= end) return;
  Expr *row = s_for_n(b, "row", e->p.rows), *i = s_for(b, "i", from, to, 1);
  s_store(b, e->row, x_muli(b, x_add(b, x_muli(b, row, e->p.row_columns), i), s->lanes), fold_identity(b, s->fold, type_of(DT_F32, s->lanes)));
  s_end(b);
  s_end(b);
}

/* Input columns lo .. hi-1, folded for `rows` output rows. */
static void emit_down(Emit *e, Expr *oy, int rows, Expr *x0, Expr *lo, Expr *hi) {
  Build *b = e->b;
  Sweep w = {.e = e, .windows = rows, .units = e->p.columns, .k = e->s.kh, .step = e->s.sh, .down = true, .oy = oy, .x0 = x0};
  Expr *rest = x_sub(b, hi, lo), *whole = s_let(b, "whole", x_add(b, lo, x_muli(b, x_divi(b, rest, w.units), w.units)));
  int64_t n;
  w.x = s_for(b, "x", lo, whole, w.units);
  emit_sweep(&w);
  s_end(b);
  bool known = x_is_int(rest, &n);
  if (known && n % w.units == 0) return;
  w.x = known ? whole : s_for(b, "x", whole, hi, 1);
  w.units = known ? (int)(n % w.units) : 1;
  emit_sweep(&w);
  if (!known) s_end(b);
}

/* Results from output column x0 on, as many as rows in memory are for, from row `row` of them. */
static void emit_across(Emit *e, Expr *oy, int row, Expr *x0) {
  Build *b = e->b;
  const PoolShape *s = &e->s;
  Sweep w = {.e = e, .windows = e->p.tile, .units = 1, .k = s->kw, .step = s->sw, .oy = oy, .x0 = x0, .row = row, .counted = counted_rows(e, oy)};
  int64_t whole = s->ow / e->p.tile * e->p.tile;
  Expr *end = x_addi(b, x0, e->p.block);
  w.x = s_for(b, "x", x0, x_bin(b, X_MIN, end, x_idx(b, whole)), e->p.tile);
  emit_sweep(&w);
  s_end(b);
  if (whole == s->ow) return;
  s_if(b, x_bin(b, X_GT, end, x_idx(b, whole)));   /* the last block */
  w.windows = (int)(s->ow - whole);
  w.x = x_idx(b, whole);
  emit_sweep(&w);
  s_end(b);
}

/* Output rows oy .. oy+rows-1, in blocks of columns. */
static void emit_rows(Emit *e, Expr *oy, int rows) {
  Build *b = e->b;
  const PoolShape *s = &e->s;
  bool whole = e->p.block >= s->ow;
  Expr *xb = whole ? x_idx(b, 0) : s_for(b, "xb", x_idx(b, 0), x_idx(b, s->ow), e->p.block), *span = x_idx(b, e->p.row_columns);
  Expr *x0 = s_let(b, "x0", x_addi(b, x_muli(b, xb, s->sw), -s->pw));
  Expr *lo = s_let(b, "lo", x_bin(b, X_MAX, x0, x_idx(b, 0))), *hi = s_let(b, "hi", x_bin(b, X_MIN, x_add(b, x0, span), x_idx(b, s->w)));
  emit_pads(e, x_idx(b, 0), x_sub(b, lo, x0));
  emit_pads(e, x_sub(b, hi, x0), span);
  emit_down(e, oy, rows, x0, lo, hi);
  for (int i = 0; i < rows; i++) emit_across(e, x_addi(b, oy, i), i, xb);
  if (!whole) s_end(b);
}

/* ---- the kernel ---- */

/* False unless this is a pool of images with blocked channels, all of whose operands are vectors. rows: made at a time, at most. */
static bool read_node(Lower *l, const Node *n, int rows, int64_t scratch, Emit *e) {
  Value *y = n->out[0];
  *e = (Emit){.l = l, .n = n};
  if (!lower_vectors_ok(l, n) || (n->op == OP_MaxPool && value_used(n->out[1])) || !pool_shape(l->t, n->op, n->attr, n->in[0], y, &e->s)) return false;
  if (y->layout.kind == LAYOUT_BLOCKED && y->layout.block != l->t->lanes) return false;
  for (int i = n->ncore; i < n->nin; i++)
    if (n->in[i]->layout.kind == LAYOUT_BLOCKED && n->in[i]->layout.block != l->t->lanes) return false;
  e->leaves = e->s.ph > 0 || (e->s.oh - 1) * e->s.sh - e->s.ph + e->s.kh > e->s.h;
  return pool_plan(l->t, &e->s, rows, scratch, &e->p);
}

static void open_input(Emit *e, const Rows *in) {
  e->b = &e->l->b;
  e->in = *in;
  if (e->p.by_rows) e->row = lower_scratch(e->l, "row", DT_F32, e->p.rows * e->p.row_columns * e->s.lanes * 4);
}

static const char *describe(const Emit *e) {
  const PoolShape *s = &e->s;
  return arena_printf(e->l->arena, "%s %lldx%lld%s", s->fold == FOLD_MAX ? "maximum" : "average", (long long)s->kh, (long long)s->kw, s->sh > 1 ? " strided" : "");
}

/* Of windows folded down, then across. */
static double flops(const Emit *e) {
  const PoolShape *s = &e->s;
  return ((double)(s->kh * s->oh) * (double)s->w + (double)(s->kw * s->oh) * (double)s->ow) * (double)(s->n * s->c);
}

/* Output rows y0 .. y1-1 of the open range iteration; y0 is a multiple of the plan's rows. */
static void emit_strip(Emit *e, Expr *y0, Expr *y1) {
  Build *b = e->b;
  int rows = e->p.by_rows ? e->p.rows : 1, rest = (int)(e->s.oh % rows);
  int64_t whole = e->s.oh - rest;
  if (whole) {
    Expr *y = s_for(b, "y", y0, x_bin(b, X_MIN, y1, x_idx(b, whole)), rows);
    if (e->p.by_rows) emit_rows(e, y, rows);
    else emit_tiles(e, y);
    s_end(b);
  }
  if (!rest) return;
  s_if(b, x_bin(b, X_GT, y1, x_idx(b, whole)));   /* the last strip */
  emit_rows(e, x_idx(b, whole), rest);
  s_end(b);
}

bool pool_blocked(Lower *l, const Node *n) {
  Emit e;
  if (!read_node(l, n, POOL_ROWS, lower_scratch_limit(l), &e)) return false;
  const PoolShape *s = &e.s;
  const char *how = e.p.by_rows ? arena_printf(l->arena, "rows %d, ", e.p.rows) : "";
  Build *b = lower_open(l, n, "%s %lld, %lldx%lld, %stile %dx%d", describe(&e), (long long)s->c, (long long)s->oh, (long long)s->ow, how, e.p.tile, s->lanes);
  int64_t blocks = (s->c + s->lanes - 1) / s->lanes, rows = e.p.by_rows ? e.p.rows : 1, tiles = (s->oh + rows - 1) / rows;
  /* Rows per range iteration: enough iterations to share out, else whole planes. */
  int64_t wanted = l->p->max_threads > 1 ? 4 * l->p->max_threads : 1;
  int64_t strips = MAXI(1, MINI(tiles, wanted / (s->n * blocks))), strip = (tiles + strips - 1) / strips * rows;
  strips = (s->oh + strip - 1) / strip;
  Expr *r = lower_range(l, "r", s->n * blocks * strips);
  Rows in = rows_of(l, n->in[0]);
  open_input(&e, &in);
  Expr *plane = strips == 1 ? r : s_let(b, "plane", x_divi(b, r, strips));
  e.img = s->n == 1 ? x_idx(b, 0) : s_let(b, "img", x_divi(b, plane, blocks));
  e.cb = s->n == 1 ? plane : s_let(b, "cb", x_remi(b, plane, blocks));
  Expr *y0 = strips == 1 ? x_idx(b, 0) : s_let(b, "y0", x_muli(b, x_remi(b, r, strips), strip));
  Expr *y1 = strips == 1 ? x_idx(b, s->oh) : s_let(b, "y1", x_bin(b, X_MIN, x_addi(b, y0, strip), x_idx(b, s->oh)));
  emit_strip(&e, y0, y1);
  lower_body_in_place(l, n, 0);
  lower_close(l, flops(&e));
  return true;
}

/* ---- row by row ---- */

static void reader_open(RowReader *r, const Rows *in) { open_input(r->self, in); }

static void reader_row(const RowReader *r, Expr *img, Expr *cb, Expr *y) {
  Emit *e = r->self;
  e->img = img;
  e->cb = cb;
  if (e->p.by_rows) emit_rows(e, y, 1);
  else emit_tiles(e, y);
}

/* One row at a time costs more than several, of large windows more than the image's way to memory and back. */
static bool several_pay(const Lower *l, const Emit *e) {
  PoolPlan p;
  double vectors = (double)value_storage_count(e->n->in[0]) / e->s.lanes;
  return pool_plan(l->t, &e->s, POOL_ROWS, INT64_MAX, &p) && e->p.cycles > p.cycles + STORE_AND_LOAD * vectors;
}

bool pool_reader(Lower *l, const Node *n, RowReader *r) {
  Emit *e = NEW(l->arena, Emit);
  if ((n->op != OP_MaxPool && n->op != OP_AveragePool) || !read_node(l, n, 1, INT64_MAX, e) || several_pay(l, e)) return false;
  *r = (RowReader){.n = n, .rows = e->s.oh, .reach = e->s.kh, .stride = e->s.sh, .pad = e->s.ph, .flops = flops(e), .what = describe(e), .self = e,
                   .open = reader_open, .row = reader_row};
  return true;
}
