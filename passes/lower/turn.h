/* passes/lower/turn.h: results computed in vectors of channels, stored to an image whose pixels are contiguous (NCHW). Section: turn.c */
#ifndef PASSES_LOWER_TURN_H
#define PASSES_LOWER_TURN_H

#include "../../ir/lower.h"

/* Results wait in per-thread scratch, [slot][lanes], until there are whole rows to turn. t is NULL when they are stored one by one. */
typedef struct Turn {
  Lower *l;
  const Node *n;
  Var *t;
  bool body_first;   /* the body works on vectors of channels, before the turn; else on vectors of pixels */
} Turn;

/* Bytes of scratch that are worth turning for. */
enum { TURN_MOST = 256 << 10 };

/* Whether n's result, [N, C, H, W], is stored better by turning. */
bool turn_pays(const Lower *l, const Node *n);
/* In an open kernel: scratch for `slots` vectors, and lanes more which are read but not stored. */
Turn turn_open(Lower *l, const Node *n, int64_t slots);
/* The node's finished sum for the `lanes` channels from at->c[1] of one pixel: to its slot. */
void turn_put(const Turn *t, Expr *slot, Expr *sum, const At *at);
/* Stores `count` (idx) pixels, in slots from `slot`, to the row of out[0] at `at`: its channels from at->c[1], its pixels from at->c[3]. */
void turn_row(const Turn *t, Expr *slot, Expr *count, const At *at);

#endif
