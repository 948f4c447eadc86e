/* tests/sweep/cases.h: generated graphs that between them use every schedule of passes/lower, in all shapes that make a difference: channels
 * odd and even, sizes, strides, dilations, groups, asymmetric pads, batches, epilogues, layouts. The same seed gives the same case. */
#ifndef TESTS_SWEEP_CASES_H
#define TESTS_SWEEP_CASES_H

#include "ir/graph.h"
#include "runtime/runtime.h"

typedef enum { DIRECT, POINTWISE, WINOGRAD, DEPTHWISE, GROUPS, WINOGRAD_GROUPS, TRANSPOSED, PRODUCT, DOT, GATED, NEIGHBOURS, MAXIMUM, AVERAGE,
  SUM /* of 1x1 convolutions */, JOINED /* convolutions of one tensor */,
  STREAMED /* a convolution, a window over its result, perhaps a 1x1 convolution of that */, KIND_COUNT } Kind;

typedef enum { ACT_NONE, ACT_RELU, ACT_SWISH, ACT_LEAKY, ACT_CLIP, ACT_HARD, ACT_COUNT } Act;

/* What happens to the channels of the result: they are stored as they are, or moved, or scaled by numbers made from their means (squeeze and
 * excite), and read by another convolution. */
typedef enum { MOVE_NONE, MOVE_CONCAT, MOVE_SLICE, MOVE_SHUFFLE, MOVE_GATE, MOVE_COUNT = 8 /* the others: as MOVE_NONE */ } Move;

typedef struct Case {
  uint64_t seed;           /* of weights */
  Kind kind;
  int64_t n, c, h, w, k, kh, kw, sh, sw, dh, dw, pad[4], group, pad_out[2];
  bool bias, scale, residual, broadcast, upsampled, plain_in, second;
  bool trans_a, trans_b;   /* PRODUCT, DOT: of n batches of h x c and c x k */
  bool run_time;           /* weights are an input */
  bool ceil_mode, include_pad;   /* of pools */
  Act act;
  int move;
} Case;

/* A case of the kind for a target with vectors of `lanes`. */
Case case_make(Rng *r, Kind kind, int lanes);
/* Adds its inputs, nodes and one output to g. */
void case_build(Graph *g, const Case *c);
const char *case_text(const Case *c);   /* valid until the next call */

#endif
