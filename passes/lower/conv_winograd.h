/* passes/lower/conv_winograd.h: between the two halves of Winograd's method. Sections: conv_winograd_plan.c · conv_winograd.c */
#ifndef PASSES_LOWER_CONV_WINOGRAD_H
#define PASSES_LOWER_CONV_WINOGRAD_H

#include "conv_plan.h"
#include "winograd.h"

#define WINOGRAD_TILES 16   /* most Winograd tiles and output vectors of a register tile */
#define WINOGRAD_VECS 4
#define WINOGRAD_LINE 16    /* floats in a cache line */

typedef struct WinogradPlan {
  Winograd f;
  ConvTile tile;                /* rows: 1; cols: Winograd tiles, vecs: output vectors of the products */
  int64_t nty, ntx, tiles;      /* of one image */
  int64_t strip, strips;        /* tiles per strip, a multiple of tile.cols */
  int64_t blocks, vectors;      /* channel blocks in and out */
  int64_t panels, rest;         /* full panels of tile.vecs vectors; vectors of a narrower last one */
  int64_t groups, group_panels; /* panels (the last one included) per range iteration */
  int64_t before;               /* panels of the convolutions joined in front of this one */
  int64_t chunk;                /* panels whose products are complete before they are transformed back */
  int64_t held;                 /* tiles there is room for: those that register tiles reach */
  int64_t v, slot, m, result_slot;   /* in scratch, floats: transformed input, products, and from one position's to the next one's */
  bool far_weights;             /* transformed weights do not fit into L2 */
  double tile_input, tile_output;   /* cycles: a tile's input transform; its inverse transform, per output vector */
  double cycles;
} WinogradPlan;

/* The plan of n, whose shape is s. False: this method cannot compute it in the scratch it may have, or others are faster. */
bool winograd_plan(Lower *l, const Node *n, const ConvShape *s, WinogradPlan *p);
/* The plans of `count` convolutions of one tensor and one geometry that share its transformed tiles: of one output tile size, strips and
 * scratch. False, where it is better to compute them one by one. */
bool winograd_plan_joined(Lower *l, const Node *const *node, const ConvShape *s, int count, WinogradPlan *p);
/* Floats of scratch for the transformed tiles of a strip. */
int64_t winograd_scratch(const WinogradPlan *p);

#endif
