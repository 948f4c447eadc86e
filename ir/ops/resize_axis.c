/* ops/resize_axis.c: what Resize does along one axis, as tables made at compile time.
 *
 * Output position o maps to a real input coordinate x (ONNX Resize, "coordinate_transformation_mode"), and its value is a weighted sum of
 * `taps` neighbouring input elements from first[o] on. Elements outside the input are the edge's, or nobody's with exclude_outside (the
 * other weights then sum to 1): their weights are added to the edge's or dropped here, so that what is left lies inside the input.
 * Antialiasing widens the kernel by 1/scale when shrinking. Weights are computed in double.
 */
#include "ops.h"
#include <math.h>

/* x / scale. A scale that is the quotient of the extents, be it rounded to f32, means that quotient: of what is 3 by 6/8 (or by the f32 next to
 * 8/6, which exporters write) nothing is left to round the wrong way. */
static double unscale(const ResizeAxis *r, double x) {
  double quotient = (double)r->out / (double)r->in;
  if (r->scale == quotient || (float)r->scale == (float)quotient) return x * (double)r->in / (double)r->out;
  return x / r->scale;
}

/* The input coordinate of output position o; false if it is to be extrapolated. */
static bool source_coordinate(const ResizeAttr *a, const ResizeAxis *r, int64_t o, double *x) {
  double in = (double)r->in, out = (double)r->out, size = r->scale * in;
  if (fabs(size - out) < 1e-4) size = out;
  switch (a->coord) {
  case COORD_ALIGN_CORNERS: *x = size == 1 ? 0 : (double)o * (in - 1) / (size - 1); return true;
  case COORD_ASYMMETRIC: *x = unscale(r, (double)o); return true;
  case COORD_PYTORCH_HALF_PIXEL: *x = size == 1 ? 0 : unscale(r, (double)o + 0.5) - 0.5; return true;
  case COORD_HALF_PIXEL: *x = unscale(r, (double)o + 0.5) - 0.5; return true;
  case COORD_HALF_PIXEL_SYMMETRIC: *x = in / 2 * (1 - out / size) + unscale(r, (double)o + 0.5) - 0.5; return true;
  case COORD_TF_CROP_AND_RESIZE: break;
  }
  double span = (r->end - r->start) * (in - 1);
  *x = (size == 1 ? span / 2 : (double)o * span / (size - 1)) + r->start * (in - 1);
  return *x >= 0 && *x <= in - 1;
}

static double cubic(double x, double a) {
  x = fabs(x);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

static double clamp(double x, double lo, double hi) { return x < lo || x != x ? lo : x > hi ? hi : x; }

static double nearest(NearestMode mode, double x) {
  double down = floor(x), part = x - down;
  switch (mode) {
  case NEAREST_ROUND_PREFER_FLOOR: return part <= 0.5 ? down : down + 1;
  case NEAREST_ROUND_PREFER_CEIL: return part < 0.5 ? down : down + 1;
  case NEAREST_FLOOR: return down;
  case NEAREST_CEIL: return ceil(x);
  }
  return down;
}

/* The kernel's half width in input elements, and how its argument shrinks. */
static double kernel_scale(const ResizeAttr *a, const ResizeAxis *r) { return a->antialias && r->scale < 1 ? r->scale : 1; }

static double kernel_reach(const ResizeAttr *a, const ResizeAxis *r) {
  return (a->mode == RESIZE_CUBIC ? 2 : 1) / kernel_scale(a, r);
}

/* Weights of input elements around x, from `first` on, into w[0..in): only a window of at most r->taps is not zero. */
static void spread(const ResizeAttr *a, const ResizeAxis *r, double x, double *w, int64_t *lo, int64_t *hi) {
  double shrink = kernel_scale(a, r), reach = kernel_reach(a, r), base = floor(x), sum = 0;
  int64_t n = (int64_t)ceil(reach), edge = r->in - 1;
  *lo = r->in, *hi = -1;
  for (int64_t k = 1 - n; k <= n; k++) {
    double at = base + (double)k, d = (at - x) * shrink;
    double v = a->mode == RESIZE_CUBIC ? cubic(d, a->cubic_a) : fabs(d) < 1 ? 1 - fabs(d) : 0;
    if (a->exclude_outside && (at < 0 || at > (double)edge)) continue;
    int64_t i = (int64_t)clamp(at, 0, (double)edge);
    if (v == 0 && i != (int64_t)clamp(base, 0, (double)edge)) continue;
    if (i < *lo) *lo = i;
    if (i > *hi) *hi = i;
    w[i] += v;
    sum += v;
  }
  if (sum != 0)
    for (int64_t i = *lo; i <= *hi; i++) w[i] /= sum;
}

/* The widest run of input elements that any output needs. */
static int64_t count_taps(const ResizeAttr *a, ResizeAxis *r, double *w) {
  int64_t widest = 1, lo, hi;
  for (int64_t o = 0; o < r->out; o++) {
    double x;
    if (!source_coordinate(a, r, o, &x)) continue;
    spread(a, r, clamp(x, -1e9, 1e12), w, &lo, &hi);
    for (int64_t i = lo; i <= hi; i++) w[i] = 0;
    if (hi - lo + 1 > widest) widest = hi - lo + 1;
  }
  return widest;
}

static void linear_tables(Arena *arena, const ResizeAttr *a, ResizeAxis *r) {
  double *w = NEW_N(arena, double, r->in);
  r->taps = count_taps(a, r, w);
  r->weight = NEW_N(arena, double, r->out * r->taps);
  for (int64_t o = 0; o < r->out; o++) {
    double x;
    int64_t lo = 0, hi = -1;
    if (!source_coordinate(a, r, o, &x)) {
      r->outside[o] = 1;
      r->extrapolates = true;
      continue;
    }
    spread(a, r, clamp(x, -1e9, 1e12), w, &lo, &hi);
    int64_t first = MAXI(MINI(lo, r->in - r->taps), 0);
    r->first[o] = (int32_t)first;
    for (int64_t i = lo; i <= hi; i++) {
      r->weight[o * r->taps + i - first] = w[i];
      w[i] = 0;
    }
  }
}

static void nearest_table(const ResizeAttr *a, ResizeAxis *r) {
  r->taps = 1;
  for (int64_t o = 0; o < r->out; o++) {
    double x;
    if (source_coordinate(a, r, o, &x)) {
      r->first[o] = (int32_t)clamp(nearest(a->nearest, x), 0, (double)(r->in - 1));
    } else {
      r->outside[o] = 1;
      r->extrapolates = true;
    }
  }
}

/* first[o] as o / div * mul + add, if it is. */
static void find_formula(ResizeAxis *r) {
  r->div = r->mul = 0;
  if (r->extrapolates) return;
  int64_t f = r->out / r->in, m = r->out > 1 ? r->first[1] - r->first[0] : 0, add = r->first[0];
  bool div = f >= 1, mul = true;
  for (int64_t o = 0; o < r->out; o++) {
    div &= f >= 1 && r->first[o] == o / f;
    mul &= r->first[o] == o * m + add;
  }
  if (div) r->div = f, r->mul = 1, r->add = 0;
  else if (mul) r->div = 1, r->mul = m, r->add = add;
}

void resize_axis(Arena *arena, const ResizeAttr *a, int dim, int rank, int64_t in, int64_t out, ResizeAxis *r) {
  *r = (ResizeAxis){.in = in, .out = out, .scale = a->scales.v[dim], .start = 0, .end = 1};
  if (a->roi.n == 2 * rank) r->start = a->roi.v[dim], r->end = a->roi.v[dim + rank];
  r->first = NEW_N(arena, int32_t, out);
  r->outside = NEW_N(arena, int32_t, out);
  if (a->mode == RESIZE_NEAREST) nearest_table(a, r);
  else linear_tables(arena, a, r);
  if (r->taps > 1) {   /* an axis whose positions all fall on elements needs no arithmetic */
    bool plain = true;
    for (int64_t o = 0; o < out && plain; o++) {
      int hits = 0;
      for (int64_t t = 0; t < r->taps; t++) {
        double w = r->weight[o * r->taps + t];
        hits += w == 1;
        plain &= w == 0 || w == 1;
      }
      plain &= hits == 1 || r->outside[o];
    }
    for (int64_t o = 0; o < out && plain; o++)
      for (int64_t t = 0, first = r->first[o]; t < r->taps; t++)
        if (r->weight[o * r->taps + t] == 1) r->first[o] = (int32_t)(first + t);
    if (plain) r->taps = 1;
  }
  if (r->taps == 1) find_formula(r);
  r->same = r->taps == 1 && r->div == 1 && r->mul == 1 && r->add == 0;
}

bool resize_axis_fits(const ResizeAttr *a, int dim, int64_t in, int64_t out) {
  ResizeAxis r = {.in = in, .out = out, .scale = a->scales.v[dim]};
  double reach = 2 * kernel_reach(a, &r), most = (double)(1 << 28);
  return reach < 1e7 && (a->mode == RESIZE_NEAREST || reach * (double)out <= most) && (double)out <= most && (double)in <= most;
}
