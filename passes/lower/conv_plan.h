/* passes/lower/conv_plan.h: what the convolution schedules share. Sections: conv_plan.c */
#ifndef PASSES_LOWER_CONV_PLAN_H
#define PASSES_LOWER_CONV_PLAN_H

#include "../../ir/lower.h"

static inline int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* A 2-D convolution of one node, in plain numbers. */
typedef struct ConvShape {
  const Value *x, *w, *bias, *scale, *gate;   /* bias, scale, gate may be NULL */
  Value *y;
  int64_t n, c, h, iw, k, oh, ow, kh, kw, sh, sw, ph, pw, dh, dw, group;
  int block;                           /* channels per block of x: its layout's, or 1 when PLAIN */
  int64_t w0, wk, wc, wy, wx;          /* element of w for output k, input c, kernel place (y, x): w0 + k*wk + c*wc + y*wy + x*wx */
  int64_t y0, x0, ysy, ysx;            /* results (oy, ox) are out[0]'s pixels (y0 + oy*ysy, x0 + ox*ysx) */
  bool late_scale;                     /* several convolutions share the weights: pack them once, scale the sums instead */
} ConvShape;

/* Bias and late scale of the open kernel, as padded vectors; NULL where there is none. */
typedef struct ConvAffine { Var *bias, *scale; } ConvAffine;

#define CONV_SHARERS_MAX 32
#define CONV_SOURCES_MAX 5
#define CONV_JOINED_MAX 6

/* A register tile: rows x cols output pixels by vecs vectors of output channels. */
typedef struct ConvTile { int rows, cols, vecs; } ConvTile;

/* False unless n, a Conv, is a 2-D f32 convolution of constant weights that vectors can compute. */
bool conv_shape(const Lower *l, const Node *n, ConvShape *s);
/* The sources of a Conv (one) or ConvSum, and source i of them in the form of a convolution; a scale of theirs never comes late. */
int conv_sources(const Node *n);
bool conv_source(const Lower *l, const Node *n, int i, ConvShape *s);
/* The convolutions that read the weights of n, at most CONV_SHARERS_MAX, and their nodes. 0 if one of them is not to be had as vectors. */
int conv_sharers(const Lower *l, const Node *n, ConvShape *s, const Node **nodes);
/* n and the convolutions after it that are marked as joined to it, at most CONV_JOINED_MAX; 1 if there are none, or one cannot be computed with
 * vectors. */
int conv_joined(const Lower *l, const Node *n, const Node **node, ConvShape *s);
/* Estimated cycles of one reduction step of a register tile: two FMAs or two loads a cycle, four cycles of latency. */
double conv_tile_cycles(int pixels, int vecs);
/* Pixels that fit beside `vecs` weight vectors and one broadcast. */
int conv_tile_pixels(const Target *t, int vecs);
ConvAffine conv_affine(Lower *l, const ConvShape *s);
/* What sums of channels k .. k+lanes-1 start from: the bias, or zero where conv_result still has to scale. */
Expr *conv_start(Lower *l, const ConvAffine *a, Expr *k);
/* The result from a finished sum: scaled and shifted where conv_start did not. */
Expr *conv_result(Lower *l, const ConvAffine *a, Expr *sum, Expr *k);
/* The scale to multiply into packed weights, from channel `first`; NULL if there is none or it comes late. */
const float *conv_pack_scale(const ConvShape *s, int64_t first);
/* Marks residual operands of the body whose memory the result may take over; not `kept`. */
void conv_allow_in_place(Lower *l, const Node *n, const ConvShape *s, const Value *kept);

/* How a kernel's range is cut: every strip of output pixels with every group of panels of output channels. */
typedef struct ConvSplit { int64_t strip, strips, group_panels, groups; } ConvSplit;

typedef struct ConvWork {
  int64_t images, units, unit;   /* units: register tiles along the direction that is cut, each `unit` pixels (or tiles) */
  int64_t most;                  /* units whose input fits the cache */
  int64_t panels;
  double unit_cycles;            /* one panel of one unit */
  double input_cycles;           /* preparing a unit's input, which every group does again */
  double halo;                   /* units of input that neighbouring strips both prepare */
  double panel_bytes;            /* of weights */
} ConvWork;

/* The cut with which the slowest of the threads is done first. The range runs over groups, images and strips, the last fastest: threads,
 * which get equal consecutive parts of it, then share out the weights where there are groups. */
ConvSplit conv_split(int threads, const ConvWork *w);

bool conv_direct(Lower *l, const Node *n);      /* conv_direct.c: any dense or grouped one */
/* The kernel of a convolution, or the sum of several 1x1 ones without padding, that conv_source or another schedule has put into numbers;
 * `what` begins its name. */
void conv_direct_emit(Lower *l, const Node *n, const ConvShape *s, int sources, const char *what);
double conv_direct_cycles(const Lower *l, const ConvShape *s);   /* estimate for one image */
bool conv_stream(Lower *l, const Node *n);      /* conv_stream.c: with the window over its result that follows */
bool conv_winograd(Lower *l, const Node *n);    /* conv_winograd.c: 3x3, stride 1, blocked channels, where it is faster */
/* conv_winograd.c: joined for Winograd's method (horizontal.c), which does not compute it: by the direct one, but apart */
bool conv_winograd_apart(Lower *l, const Node *n);
bool conv_transposed(Lower *l, const Node *n);  /* conv_transposed.c: one direct convolution per output pixel modulo the strides */
bool conv_depthwise(Lower *l, const Node *n);   /* conv_depthwise.c: group == input channels, BLOCKED */

#endif
