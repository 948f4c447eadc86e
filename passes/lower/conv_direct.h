/* passes/lower/conv_direct.h: between the two halves of the direct schedule. Sections: conv_direct_plan.c · conv_direct.c */
#ifndef PASSES_LOWER_CONV_DIRECT_H
#define PASSES_LOWER_CONV_DIRECT_H

#include "conv_plan.h"

#define DIRECT_PIXELS 16   /* most pixels and output vectors of a register tile */
#define DIRECT_VECS 4

typedef struct DirectPlan {
  ConvShape s;
  ConvTile tile;
  bool copy, flat;          /* flat: rows joined, s.oh == 1 */
  int64_t strip;            /* output rows (flat: pixels) per strip */
  int64_t strips, groups;   /* range = groups * n * strips */
  int64_t panels, rest;     /* full panels, and vectors in the narrow last one (0: none) */
  int64_t panels_per_group;
  int64_t blocks;           /* channel blocks of the input */
  int64_t panel_blocks, rest_blocks;   /* channel blocks whose weights a panel has, the last one has */
  int64_t src_rows, src_cols;   /* of the (copied) source image */
} DirectPlan;

/* All pixels of out[0], as they lie. */
bool direct_whole_image(const ConvShape *s);
/* The image may be treated as one row: 1x1, stride 1, no body operand that tells rows apart. */
bool direct_is_flat(const Node *n, const ConvShape *s);
void direct_flatten(ConvShape *s);
/* Places of v, whose pixels are those of the output, are given with all pixels in one row. */
void direct_see_flat(Lower *l, const Value *v);
/* The input channels that outputs k0 .. k0+width-1 depend on. */
int64_t direct_panel_channels(const ConvShape *s, int64_t k0, int64_t width, int64_t *first);
/* Fills in the plan of p->s; more: the further sources of a sum. */
void direct_plan(Lower *l, const Node *n, const ConvShape *more, int nmore, DirectPlan *p);
/* Panels and blocks of a plan that has a tile, for the output channels in p->s. */
void direct_set_panels(const Lower *l, DirectPlan *p);
/* Weights of `panels` panels of `vecs` vectors from output channel `first` on, each with `blocks` channel blocks. */
Var *direct_pack(Lower *l, const DirectPlan *plan, int64_t first, int64_t panels, int64_t blocks, int vecs);

#endif
