/* passes/lower/rows.h: operators that make each row of their result from a few rows of an image, one block of channels at a time: pools
 * (pool.c) and depthwise convolutions (conv_depthwise.c). Section: rows.c
 *
 * In a kernel of their own they read an image in memory. The rows may as well be those that a convolution has just computed, in a ring
 * that stays in cache (conv_stream.c): then the image never exists.
 */
#ifndef PASSES_LOWER_ROWS_H
#define PASSES_LOWER_ROWS_H

#include "../../ir/lower.h"

/* Where rows lie. An image: [N][blocks][height][width][lanes]. A ring: [blocks][height][width][lanes], row y in place y % height. */
typedef struct Rows {
  Var *v;
  int64_t blocks, height, width;
  int lanes;
  bool ring;
} Rows;

/* The image x, a BLOCKED f32 tensor, as a parameter of the open kernel. */
Rows rows_of(Lower *l, const Value *x);
/* Per-thread scratch of the open kernel, where the last `height` rows of x that it makes are kept; x is not stored. */
Rows rows_ring(Lower *l, const Value *x, int64_t height);
int64_t rows_ring_bytes(const Value *x, int64_t height, int lanes);
/* Element offset of pixel (y, x) of image img, channel block cb. */
Expr *rows_at(Build *b, const Rows *r, Expr *img, Expr *cb, Expr *y, Expr *x);

/* An operator of this kind, n. Row y of out[0] depends on rows y*stride - pad .. y*stride - pad + reach - 1 of in[0], as far as they exist. */
typedef struct RowReader {
  const Node *n;
  int64_t rows;             /* of out[0] */
  int64_t reach, stride, pad;
  bool whole;               /* all rows of a block of channels are made in one range iteration, from the first to the last */
  double flops;
  const char *what;         /* the first words of a kernel's name */
  void *self;
  /* In an open kernel: parameters and scratch; rows come from `in` from then on. */
  void (*open)(struct RowReader *r, const Rows *in);
  void (*row)(const struct RowReader *r, Expr *img, Expr *cb, Expr *y);
} RowReader;

/* False unless n can be made row by row. whole: the kernel could make all rows of a block of channels in one range iteration. */
bool pool_reader(Lower *l, const Node *n, RowReader *r);
bool depthwise_reader(Lower *l, const Node *n, bool whole, RowReader *r);

#endif
