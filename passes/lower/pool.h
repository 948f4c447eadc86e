/* passes/lower/pool.h: between the two halves of the schedule for pools. Sections: pool_plan.c · pool.c */
#ifndef PASSES_LOWER_POOL_H
#define PASSES_LOWER_POOL_H

#include "../../ir/ops/ops.h"

#define POOL_TILE 8        /* most results side by side that one tile makes; at most POOL_ROWS */
#define POOL_SPAN 32       /* most columns under a tile in registers */
#define POOL_ROWS 8        /* most output rows whose windows are folded together */
#define POOL_COLUMNS 4     /* most columns that are folded at a time */

/* A maximum or average of 2-D windows over BLOCKED channels, in plain numbers. */
typedef struct PoolShape {
  Fold fold;
  int64_t n, c, h, w, oh, ow, kh, kw, sh, sw, ph, pw, ph_end, pw_end;
  int lanes;
  bool count_pad;          /* an average counts the places in the pads */
} PoolShape;

/* How it is computed: see pool.c. */
typedef struct PoolPlan {
  bool by_rows;
  int tile;                /* results side by side */
  int rows;                /* by_rows: output rows, and */
  int columns;             /* input columns folded at a time, and */
  int64_t block;           /* output columns whose windows are folded down before any is across; a multiple of tile, or all */
  int64_t row_columns;     /* by_rows: input columns that the windows of a block span, pads included */
  double cycles;           /* estimate for all of it */
} PoolPlan;

/* False unless the pool with attributes a, from x to y, is one that vectors of channels can compute. */
bool pool_shape(const Target *t, Op op, const PoolAttr *a, const Value *x, const Value *y, PoolShape *s);
/* The cheapest way with at most `rows` output rows at a time and `scratch` bytes per thread; false if there is none. */
bool pool_plan(const Target *t, const PoolShape *s, int rows, int64_t scratch, PoolPlan *p);
/* Output column ox has the window's column k inside the image. */
bool pool_inside(const PoolShape *s, int64_t ox, int64_t k);
/* All windows count all their rows, all their columns, for an average. */
bool pool_counts_rows(const PoolShape *s);
bool pool_counts_columns(const PoolShape *s);
/* Output columns whose windows are inside: left .. right-1. */
void pool_interior(const PoolShape *s, int64_t *left, int64_t *right);

#endif
