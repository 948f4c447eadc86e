/* winograd.c: the transforms of Winograd's minimal filtering F(m,3), derived from interpolation points.
 *
 * Linear convolution of m outputs by 3 taps is the transpose of multiplying polynomials of degree m-1 and 2: evaluate both at t-1 points and
 * at infinity, multiply, interpolate (Toom and Cook; Winograd, "Arithmetic Complexity of Computations", 1980; Lavin and Gray, "Fast
 * Algorithms for Convolutional Neural Networks", 2016). Transposed:
 *   at[j][i] = a_i^j                       and 1 for the last output at infinity
 *   g[i][j]  = a_i^j / N_i,  N_i = prod_{k != i} (a_i - a_k)     and the last tap at infinity
 *   bt[i]    = coefficients of prod_{k != i} (x - a_k)           and of prod_k (x - a_k) at infinity
 * Points 0, 1, -1, 2, -2, 1/2, -1/2: small, with exact powers, and in pairs of opposite sign, which halves the transforms' arithmetic.
 */
#include "winograd.h"
#include <string.h>

static const double points[] = {0, 1, -1, 2, -2, 0.5, -0.5};

bool winograd_make(int m, Winograd *w) {
  if (m != 2 && m != 4 && m != 5 && m != 6) return false;
  int t = m + 2, n = t - 1;
  *w = (Winograd){.m = m, .t = t};
  for (int i = 0; i < n; i++) {
    double power = 1, norm = 1;
    for (int j = 0; j < m; j++, power *= points[i]) w->at[j][i] = power;
    for (int k = 0; k < n; k++)
      if (k != i) norm *= points[i] - points[k];
    power = 1;
    for (int j = 0; j < 3; j++, power *= points[i]) w->g[i][j] = power / norm;
  }
  w->at[m - 1][n] = 1;
  w->g[n][2] = 1;
  for (int i = 0; i < t; i++) {
    w->bt[i][0] = 1;
    int degree = 0;
    for (int k = 0; k < n; k++) {
      if (k == i) continue;
      for (int d = degree + 1; d >= 0; d--) w->bt[i][d] = (d ? w->bt[i][d - 1] : 0) - points[k] * w->bt[i][d];
      degree++;
    }
  }
  return true;
}

int64_t winograd_pack_count(const WinogradPack *p) { return (int64_t)p->f.t * p->f.t * p->panels * p->c * p->width; }

static void transform_filter(const Winograd *f, const float *w, double scale, double u[WINOGRAD_MAX][WINOGRAD_MAX]) {
  double half[WINOGRAD_MAX][3];
  for (int i = 0; i < f->t; i++)
    for (int j = 0; j < 3; j++) half[i][j] = f->g[i][0] * (double)w[j] + f->g[i][1] * (double)w[3 + j] + f->g[i][2] * (double)w[6 + j];
  for (int i = 0; i < f->t; i++)
    for (int j = 0; j < f->t; j++) u[i][j] = scale * (half[i][0] * f->g[j][0] + half[i][1] * f->g[j][1] + half[i][2] * f->g[j][2]);
}

/* The panel's channels for one input channel are made together, so that every plane is written a line at a time. */
static void fill_line(const WinogradPack *p, int64_t panel, int64_t c, float *line) {
  int t = p->f.t;
  double u[WINOGRAD_MAX][WINOGRAD_MAX];
  for (int64_t i = 0; i < p->width; i++) {
    int64_t k = panel * p->width + i;
    bool real = k < p->k;
    if (real) transform_filter(&p->f, p->w + (k * p->c + c) * 9, p->scale ? (double)p->scale[k] : 1, u);
    for (int q = 0; q < t * t; q++) line[q * p->width + i] = real ? (float)u[q / t][q % t] : 0;
  }
}

void winograd_pack_fill(const void *ctx, void *dst) {
  const WinogradPack *p = ctx;
  float line[WINOGRAD_MAX * WINOGRAD_MAX * WINOGRAD_MAX_WIDTH], *out = dst;
  int64_t plane = p->panels * p->c * p->width;
  for (int64_t panel = 0; panel < p->panels; panel++)
    for (int64_t c = 0; c < p->c; c++) {
      fill_line(p, panel, c, line);
      for (int q = 0; q < p->f.t * p->f.t; q++)
        memcpy(out + q * plane + (panel * p->c + c) * p->width, line + q * p->width, (size_t)p->width * sizeof *line);
    }
}
