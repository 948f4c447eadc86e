/* passes/lower/conv_direct.h: within the direct schedule. Sections: conv_direct_plan.c · conv_direct_tile.c; kernels: conv_direct.c,
 * conv_stream.c */
#ifndef PASSES_LOWER_CONV_DIRECT_H
#define PASSES_LOWER_CONV_DIRECT_H

#include "conv_plan.h"
#include "rows.h"
#include "turn.h"

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
/* The same, row by row: tiles of one row, never flat, one group of panels. */
void direct_plan_rows(Lower *l, const Node *n, DirectPlan *p);
/* Room for the input of `strip` output rows (flat: pixels), where it is copied. */
void direct_set_source(DirectPlan *p, int64_t strip);
/* Panels and blocks of a plan that has a tile, for the output channels in p->s. */
void direct_set_panels(const Lower *l, DirectPlan *p);
/* Weights of `panels` panels of `vecs` vectors from output channel `first` on, each with `blocks` channel blocks. */
Var *direct_pack(Lower *l, const DirectPlan *plan, int64_t first, int64_t panels, int64_t blocks, int vecs);

/* ---- conv_direct_tile.c ---- */

/* Results that another operator reads while they are in cache. */
typedef struct DirectStream {
  Expr *from, *to;          /* rows of this convolution to be made now */
  RowReader *reader;
  Expr *first, *end;        /* rows that the reader then makes of them */
} DirectStream;

typedef struct DirectEmit {
  Lower *l;
  const Node *n;
  Build *b;
  DirectPlan p;
  Var *x, *src;
  ConvAffine affine;
  Turn turn;                /* PLAIN results: a tile row waits in [vecs][rows][turn_cols] slots */
  int64_t turn_cols;
  Var *gated;               /* a panel's weights times the gates of the open image */
  Expr *img, *y0;           /* image; first output row (flat: pixel) of the strip */
  Expr *src_origin;         /* element offset of the source's first channel block, row 0 of the strip */
  struct DirectEmit *more;  /* further sources of a sum: as this one, with their own x, src, src_origin, and s, blocks, src_rows, src_cols in p */
  int nmore;
  bool further;             /* is one of them; then w are its weights for the open panel */
  Var *w;
  const DirectStream *stream;   /* or NULL */
} DirectEmit;

/* Constants, place and layout of node e->n's result, whose shape was `given`, in the open kernel. Its memory may be that of an operand of the
 * body, but not of `kept`. */
void direct_open_result(DirectEmit *e, const ConvShape *given, const Value *kept);
/* The first `rows` of the strip's input rows to e->src, with zeros where the window leaves the image. */
void direct_copy(DirectEmit *e, Expr *rows);
/* All panels of `group`: the open strip's results, or those that e->stream wants. */
void direct_panels(DirectEmit *e, Expr *group);

#endif
