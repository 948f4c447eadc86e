/* pool_plan.c: which pools vectors of channels compute, and which of pool.c's two ways is cheaper.
 *
 * Cycles are those of two loads, two operations and one store at a time, whichever takes longest, and some of bookkeeping. A maximum takes
 * three operations, two of them for NaN's sake. What is stored between the two directions of a window is to stay in a quarter of the
 * first-level cache, beside the input rows: blocks of columns are no wider than that (half of it cost 5 to 25%).
 */
#include "pool.h"
#include "../passes.h"

#include <math.h>

#define EDGE_MOST 16               /* output columns at the edges that are unrolled */
#define SCRATCH_MOST (256 << 10)   /* of rows between the two directions, per thread */

bool pool_shape(const Target *t, Op op, const PoolAttr *a, const Value *x, const Value *y, PoolShape *s) {
  if (x->shape.rank != 4 || x->dt != DT_F32 || y->dt != DT_F32 || x->layout.kind != LAYOUT_BLOCKED || x->layout.block != t->lanes) return false;
  if (value_count(x) == 0 || value_count(y) == 0 || x->shape.d[1].n == 1) return false;
  if (a->dilations.v[0] != 1 || a->dilations.v[1] != 1) return false;
  const Dim *in = x->shape.d, *out = y->shape.d;
  *s = (PoolShape){.fold = op == OP_MaxPool ? FOLD_MAX : FOLD_SUM, .n = in[0].n, .c = in[1].n, .h = in[2].n, .w = in[3].n, .oh = out[2].n, .ow = out[3].n,
                   .kh = a->kernel.v[0], .kw = a->kernel.v[1], .sh = a->strides.v[0], .sw = a->strides.v[1], .ph = a->pads.v[0], .pw = a->pads.v[1],
                   .ph_end = a->pads.v[2], .pw_end = a->pads.v[3], .lanes = t->lanes, .count_pad = a->count_include_pad};
  return s->sw <= s->kw;
}

bool pool_inside(const PoolShape *s, int64_t ox, int64_t k) {
  int64_t ix = ox * s->sw - s->pw + k;
  return ix >= 0 && ix < s->w;
}

void pool_interior(const PoolShape *s, int64_t *left, int64_t *right) {
  *left = MINI(s->ow, (s->pw + s->sw - 1) / s->sw);
  int64_t last = s->w + s->pw - s->kw;   /* the first column of the last window inside */
  *right = MAXI(*left, last < 0 ? 0 : MINI(s->ow, last / s->sw + 1));
}

static bool counts_all(bool pads, int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t pad, int64_t pad_end) {
  int64_t end = (out - 1) * stride + kernel - pad;
  return pads ? end <= in + pad_end : pad == 0 && end <= in;
}

bool pool_counts_rows(const PoolShape *s) { return counts_all(s->count_pad, s->h, s->oh, s->kh, s->sh, s->ph, s->ph_end); }

bool pool_counts_columns(const PoolShape *s) { return counts_all(s->count_pad, s->w, s->ow, s->kw, s->sw, s->pw, s->pw_end); }

/* ---- what it costs ---- */

#define NEXT_CACHE 1.5   /* cycles that a load takes longer from the second-level cache */
#define ROW_STEP 3.0     /* a turn of the loop over a tile's rows */
#define TILE_STEP 1.0    /* a turn of the loop over tiles that are folded across */
#define GUARD 0.5        /* a row that the image may not have */
#define COUNTING 4.0     /* to find out how many columns a window counts */

static double cycles(const PoolShape *s, double loads, double folds, double stores) {
  return fmax(fmax(loads, folds * (s->fold == FOLD_MAX ? 3 : 1)) / 2, stores);
}

/* Of `reads` loads of which `fresh` are of rows not read before. */
static double refill(const Target *t, const PoolShape *s, double reads, double fresh) {
  return s->kh * s->w * s->lanes * 4 > t->l1 / 2 ? NEXT_CACHE * fmax(0, reads - fresh) : 0;
}

static double planes(const PoolShape *s) { return (double)s->n * (double)((s->c + s->lanes - 1) / s->lanes); }

/* Columns in registers, beside a few for the results. */
static bool plan_tiles(const Target *t, const PoolShape *s, PoolPlan *p) {
  int64_t left, right, span, most = MINI(POOL_SPAN, t->vregs - 4);
  if (s->kw > most) return false;
  int tile = (int)MINI(POOL_TILE, s->ow);
  while (tile > 1 && (tile - 1) * s->sw + s->kw > most) tile--;
  span = (tile - 1) * s->sw + s->kw;
  pool_interior(s, &left, &right);
  if (s->ow - (right - left) > EDGE_MOST) return false;
  double each = (double)(span * s->kh), across = (double)(tile * (s->kw - 1));
  double all = cycles(s, each, each + across, tile) + ROW_STEP * (double)s->kh + refill(t, s, each, (double)(span * s->sh));
  *p = (PoolPlan){.tile = tile, .cycles = all / tile * (double)(s->oh * s->ow) * planes(s)};
  return true;
}

/* Output columns whose windows, for `rows` rows, span no more than `bytes` of memory; blocks of about one size. */
static int64_t block_columns(const PoolShape *s, int64_t rows, int64_t tile, int64_t bytes) {
  int64_t columns = bytes / (rows * s->lanes * 4);
  if (columns < s->kw) return 0;
  int64_t fit = (columns - s->kw) / s->sw + 1;
  if (fit >= s->ow) return s->ow;
  fit = fit / tile * tile;
  if (fit == 0) return 0;
  int64_t blocks = (s->ow + fit - 1) / fit, even = (s->ow + blocks - 1) / blocks;
  return (even + tile - 1) / tile * tile;
}

/* Of p->rows output rows by way of memory. */
static double rows_cycles(const Target *t, const PoolShape *s, const PoolPlan *p) {
  double down = (double)((p->rows - 1) * s->sh + s->kh), across = (double)((p->tile - 1) * s->sw + s->kw), blocks = (double)((s->ow + p->block - 1) / p->block);
  double column = cycles(s, down, down + p->rows - 1, p->rows) + (1 + GUARD * down) / p->columns + refill(t, s, down, (double)(p->rows * s->sh));
  double tile = cycles(s, across, across + p->tile - 2, p->tile) + TILE_STEP;
  if (s->fold == FOLD_SUM && !pool_counts_columns(s)) tile += COUNTING * p->tile;
  return blocks * (double)MINI(p->row_columns, s->w) * column + (double)(s->ow * p->rows) / p->tile * tile;
}

static bool plan_rows(const Target *t, const PoolShape *s, int most, int64_t bytes, PoolPlan *best) {
  *best = (PoolPlan){0};
  for (int rows = 1; rows <= MINI(most, s->oh) && (rows - 1) * s->sh < s->kh && 2 * (rows + 1) <= t->vregs - 2; rows++)
    for (int tile = 1; tile <= MINI(POOL_TILE, s->ow) && (tile - 1) * s->sw < s->kw; tile++) {
      PoolPlan p = {.by_rows = true, .rows = rows, .tile = tile, .block = block_columns(s, rows, tile, bytes)};
      if (!p.block) continue;
      p.row_columns = (p.block - 1) * s->sw + s->kw;
      p.columns = (int)MAXI(1, MINI(POOL_COLUMNS, MINI(s->w, (t->vregs - 2) / (rows + 1))));
      p.cycles = rows_cycles(t, s, &p) / rows * (double)s->oh * planes(s);
      if (!best->rows || p.cycles < best->cycles) *best = p;
    }
  return best->rows > 0;
}

/* Sums are made one row at a time: in the same order whether rows are read from an image or as a convolution makes them, which may depend on
 * the number of threads. */
bool pool_plan(const Target *t, const PoolShape *s, int rows, int64_t scratch, PoolPlan *p) {
  if (s->fold == FOLD_SUM) rows = 1;
  PoolPlan tiles, other;
  bool have = plan_tiles(t, s, &tiles);
  bool by_rows = plan_rows(t, s, rows, MINI(scratch, t->l1 / 4), &other) || plan_rows(t, s, rows, MINI(scratch, SCRATCH_MOST), &other);
  *p = !have || (by_rows && other.cycles < tiles.cycles) ? other : tiles;
  return have || by_rows;
}

double pool_cycles(const Target *t, Op op, const PoolAttr *a, const Value *x, const Value *y) {
  PoolShape s;
  PoolPlan p;
  return pool_shape(t, op, a, x, y, &s) && pool_plan(t, &s, POOL_ROWS, INT64_MAX, &p) ? p.cycles : 0;
}
