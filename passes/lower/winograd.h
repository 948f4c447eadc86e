/* passes/lower/winograd.h: the matrices of Winograd convolution. Section: winograd.c */
#ifndef PASSES_LOWER_WINOGRAD_H
#define PASSES_LOWER_WINOGRAD_H

#include "../../ir/base.h"

#define WINOGRAD_MAX 8   /* largest tile: F(6,3) */
#define WINOGRAD_MAX_WIDTH 64   /* output channels of a panel: 4 vectors of 16 */

/* F(m,3) in one dimension: y = at * ((g * w) .* (bt * x)), x of t = m + 2 inputs, y of m outputs. */
typedef struct Winograd {
  int m, t;
  double at[WINOGRAD_MAX][WINOGRAD_MAX];   /* m x t */
  double g[WINOGRAD_MAX][3];               /* t x 3 */
  double bt[WINOGRAD_MAX][WINOGRAD_MAX];   /* t x t */
} Winograd;

/* m = 2, 4, 5 or 6; false otherwise. */
bool winograd_make(int m, Winograd *w);

/* Weights [K][C][3][3] to u = g w g^T, packed [t*t][panels][C][width] (panels of `width` output channels; channels past K are zero),
 * multiplied by scale[k] if given. Computed in double. */
typedef struct WinogradPack {
  const float *w, *scale;
  int64_t k, c, width, panels;
  Winograd f;
} WinogradPack;
int64_t winograd_pack_count(const WinogradPack *p);
void winograd_pack_fill(const void *ctx, void *dst);

#endif
