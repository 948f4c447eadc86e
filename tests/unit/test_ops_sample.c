/* GridSample, RoiAlign and MaxRoiPool against C written from ONNX's descriptions, over random and over hostile coordinates (NaN, infinite,
 * huge, far outside, batch indices out of range): those need only give some number without an access out of bounds. */
#include "op_test.h"

static uint32_t seed;
static int pick(int lo, int hi) { return lo + (int)(op_random(&seed) % (uint32_t)(hi - lo + 1)); }
static double real(double lo, double hi) { return lo + (hi - lo) * op_random(&seed) / (1 << 24); }

/* ---- grid sample ---- */

enum { NEAREST, LINEAR, CUBIC };
enum { ZEROS, BORDER, REFLECTION };
typedef struct Grid { int n, c, dims, in[3], out[3], mode, pad; bool align, body; } Grid;

static double mirror(double x, double lo, double hi) {
  double range = hi - lo;
  if (range <= 0) return lo;
  while (x < lo || x > hi) x = x < lo ? 2 * lo - x : 2 * hi - x;
  return x;
}

/* Element i of an axis: its index, or -1 for a zero. */
static int settle(const Grid *g, int i, int n) {
  if (i >= 0 && i < n) return i;
  if (g->pad == ZEROS) return -1;
  if (g->pad == BORDER) return i < 0 ? 0 : n - 1;
  return (int)mirror(i, g->align ? 0 : -0.5, g->align ? n - 1 : n - 0.5);
}

static int axis_taps(const Grid *g, float v, int n, int *at, double *w) {
  double lo = g->align ? 0 : -0.5, hi = g->align ? n - 1 : n - 0.5;
  double x = g->align ? ((double)v + 1) / 2 * (n - 1) : (((double)v + 1) * n - 1) / 2;
  if (g->mode == NEAREST) x = nearbyint(x);
  if ((x < lo || x > hi) && g->pad == BORDER) x = x < 0 ? 0 : n - 1;
  if ((x < lo || x > hi) && g->pad == REFLECTION) x = mirror(x, lo, hi);
  int first = (int)floor(x);
  double f = x - first, a = -0.75;
  int k = g->mode == NEAREST ? 1 : g->mode == LINEAR ? 2 : 4;
  if (g->mode == CUBIC) first--;
  for (int i = 0; i < k; i++) {
    double d = fabs(i - (k == 4) - f);
    at[i] = settle(g, first + i, n);
    double keys = d <= 1 ? (a + 2) * d * d * d - (a + 3) * d * d + 1 : a * d * d * d - 5 * a * d * d + 8 * a * d - 4 * a;
    w[i] = k == 1 ? 1 : k == 2 ? 1 - d : keys;
  }
  return k;
}

static float sample(const Grid *g, const float *plane, const float *v) {
  int at[3][4], k[3] = {1, 1, 1};
  double w[3][4] = {{1}, {1}, {1}}, sum = 0;
  at[0][0] = at[1][0] = at[2][0] = 0;
  for (int d = 0; d < g->dims; d++) k[d] = axis_taps(g, v[g->dims - 1 - d], g->in[d], at[d], w[d]);
  for (int i = 0; i < k[0]; i++)
    for (int j = 0; j < k[1]; j++)
      for (int l = 0; l < k[2]; l++) {
        int a[3] = {at[0][i], at[1][j], at[2][l]}, o = 0;
        bool zero = false;
        for (int d = 0; d < g->dims; d++) zero |= a[d] < 0, o = o * g->in[d] + a[d];
        if (!zero) sum += w[0][i] * w[1][j] * w[2][l] * plane[o];
      }
  return (float)sum;
}

static void grid_case(const Grid *g, bool hostile, int config) {
  static const char *const modes[] = {"nearest", "linear", "cubic"}, *const pads[] = {"zeros", "border", "reflection"};
  int plane = 1, points = 1;
  char in[64], out[64];
  sprintf(in, "%d,%d", g->n, g->c);
  sprintf(out, "%d", g->n);
  for (int d = 0; d < g->dims; d++) {
    plane *= g->in[d], points *= g->out[d];
    sprintf(in + strlen(in), ",%d", g->in[d]);
    sprintf(out + strlen(out), ",%d", g->out[d]);
  }
  int nx = g->n * g->c * plane, ng = g->n * points * g->dims, ny = g->n * g->c * points;
  float *x = malloc((size_t)nx * 4), *v = malloc((size_t)ng * 4), *want = malloc((size_t)ny * 4);
  op_fill_f32(x, nx, 1);
  for (int i = 0; i < ng; i++) v[i] = (float)real(-1.6, 1.6);
  for (int i = 0; i < ng; i++) {   /* nearest: not on the edge between two elements; reflection: not where f32 decides */
    int n = g->in[g->dims - 1 - i % g->dims];
    double at = g->align ? ((double)v[i] + 1) / 2 * (n - 1) : (((double)v[i] + 1) * n - 1) / 2, part = fabs(at * 2 - nearbyint(at * 2));
    if (part < 1e-3) v[i] = (float)0.05;
  }
  static const float bad[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 3e9f, -12345};
  for (int i = 0; hostile && i < ng; i += 2) v[i] = bad[i / 2 % COUNTOF(bad)];
  for (int i = 0; i < ny && !hostile; i++) {
    int p = i % points, nc = i / points, n = nc / g->c;
    want[i] = sample(g, x + nc * plane, v + (n * points + p) * g->dims);
    if (g->body) want[i] = -want[i];
  }
  const char *text = op_text("graph \"t\" { input %%x: f32[%s] input %%g: f32[%s,%d] %%y = GridSample(%%x, %%g) {mode=%s, padding=%s, "
                             "align_corners=%s}"
                             "%s output %%y }", in, out, g->dims, modes[g->mode], pads[g->pad], g->align ? "true" : "false",
                             g->body ? " body { %0 = Neg(acc) }" : "");
  op_run(text, &op_configs[config], (const void *[]){x, v}, (const void *[]){hostile ? NULL : want}, 3e-5);
  free(x), free(v), free(want);
}

static void grid_sample(void **state) {
  (void)state;
  seed = 17;
  for (int i = 0; i < 1500; i++) {
    Grid g = {.n = pick(1, 2), .c = pick(1, 5), .dims = i % 4 == 3 ? 3 : i % 40 == 0 ? 1 : 2, .mode = pick(0, 2), .pad = pick(0, 2),
              .align = pick(0, 1),
              .body = !pick(0, 3)};
    if (g.dims == 3 && g.mode == CUBIC) g.mode = LINEAR;
    for (int d = 0; d < g.dims; d++) g.in[d] = pick(1, 7), g.out[d] = pick(1, 6);
    grid_case(&g, i % 5 == 4, i % COUNTOF(op_configs));
  }
  op_refuse("graph \"t\" { input %x: f32[1,1,4,4] input %g: f32[1,2,2,3] %y = GridSample(%x, %g) {mode=linear} output %y }",
            "does not fit the input");
  op_refuse("graph \"t\" { input %x: f32[1,1,4,4] input %g: f32[2,2,2,2] %y = GridSample(%x, %g) {mode=linear} output %y }",
            "does not fit the input");
}

/* Half way between two elements: to the even one. */
static void nearest_ties(void **state) {
  (void)state;
  const float x[3] = {1, 2, 3}, v2[4] = {-0.5f, -1, 0.5f, -1}, want2[2] = {1, 3}, v3[6] = {-0.5f, -1, -1, 0.5f, -1, -1}, want3[2] = {1, 3};
  op_check("graph \"t\" { input %x: f32[1,1,1,3] input %g: f32[1,1,2,2] %y = GridSample(%x, %g) {mode=nearest, padding=border, "
           "align_corners=true} "
           "output %y }", (const void *[]){x, v2}, (const void *[]){want2}, 0);
  op_check("graph \"t\" { input %x: f32[1,1,1,1,3] input %g: f32[1,1,1,2,3] %y = GridSample(%x, %g) {mode=nearest, padding=border, "
           "align_corners=true} "
           "output %y }", (const void *[]){x, v3}, (const void *[]){want3}, 0);
}

/* ---- regions ---- */

typedef struct Roi { int n, c, h, w, rois, oh, ow, ratio; double scale; bool half, max; } Roi;

static double bilinear(const float *x, int h, int w, double y, double v, bool max) {
  if (y < -1 || y > h || v < -1 || v > w) return 0;
  y = y < 0 ? 0 : y > h - 1 ? h - 1 : y;
  v = v < 0 ? 0 : v > w - 1 ? w - 1 : v;
  int y0 = (int)y, x0 = (int)v, y1 = y0 + 1 < h ? y0 + 1 : y0, x1 = x0 + 1 < w ? x0 + 1 : x0;
  double fy = y - y0, fx = v - x0, p[4] = {(1 - fy) * (1 - fx) * x[y0 * w + x0], (1 - fy) * fx * x[y0 * w + x1],
                                           fy * (1 - fx) * x[y1 * w + x0],
                                          fy * fx * x[y1 * w + x1]};
  if (!max) return p[0] + p[1] + p[2] + p[3];
  return fmax(fmax(p[0], p[1]), fmax(p[2], p[3]));
}

static double align_one(const Roi *r, const float *plane, const float *roi, int ph, int pw) {
  double off = r->half ? 0.5 : 0, x1 = roi[0] * r->scale - off, y1 = roi[1] * r->scale - off, x2 = roi[2] * r->scale - off,
      y2 = roi[3] * r->scale - off;
  double w = x2 - x1, h = y2 - y1;
  if (!r->half) w = fmax(w, 1), h = fmax(h, 1);
  double bh = h / r->oh, bw = w / r->ow, acc = r->max ? -INFINITY : 0;
  int gh = r->ratio ? r->ratio : (int)ceil(bh), gw = r->ratio ? r->ratio : (int)ceil(bw);
  for (int i = 0; i < gh; i++)
    for (int j = 0; j < gw; j++) {
      double v = bilinear(plane, r->h, r->w, y1 + (ph + (i + 0.5) / gh) * bh, x1 + (pw + (j + 0.5) / gw) * bw, r->max);
      acc = r->max ? fmax(acc, v) : acc + v;
    }
  return gh * gw <= 0 ? 0 : r->max ? acc : acc / (gh * gw);
}

static void roi_case(const Roi *r, bool hostile, int config) {
  int plane = r->h * r->w, nx = r->n * r->c * plane, ny = r->rois * r->c * r->oh * r->ow;
  float *x = malloc((size_t)nx * 4), roi[8 * 4], *want = malloc((size_t)ny * 4);
  int64_t batch[8];
  op_fill_f32(x, nx, 2);
  for (int i = 0; i < r->rois; i++) {
    batch[i] = pick(0, r->n - 1);
    double cx = real(-2, r->w + 2) / r->scale, cy = real(-2, r->h + 2) / r->scale;
    roi[4 * i] = (float)cx, roi[4 * i + 1] = (float)cy;
    /* Not on the edge of one sample more. */
    double w = real(0, r->w) / r->scale, h = real(0, r->h) / r->scale;
    if (fabs(w * r->scale / r->ow - nearbyint(w * r->scale / r->ow)) < 1e-3) w += 0.01 * r->ow / r->scale;
    if (fabs(h * r->scale / r->oh - nearbyint(h * r->scale / r->oh)) < 1e-3) h += 0.01 * r->oh / r->scale;
    roi[4 * i + 2] = (float)(cx + w), roi[4 * i + 3] = (float)(cy + h);
  }
  static const float bad[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 3e9f};
  for (int i = 0; hostile && i < 4 * r->rois; i++)
    if (pick(0, 1)) roi[i] = bad[pick(0, COUNTOF(bad) - 1)];
  for (int i = 0; hostile && i < r->rois; i++) batch[i] = i % 3 == 0 ? INT64_MIN : i % 3 == 1 ? INT64_MAX : 7;
  for (int i = 0; i < ny && !hostile; i++) {
    int pw = i % r->ow, ph = i / r->ow % r->oh, c = i / r->ow / r->oh % r->c, k = i / r->ow / r->oh / r->c;
    want[i] = (float)align_one(r, x + (batch[k] * r->c + c) * plane, roi + 4 * k, ph, pw);
  }
  const char *text = op_text("graph \"t\" { input %%x: f32[%d,%d,%d,%d] input %%r: f32[%d,4] input %%b: i64[%d] %%y: f32[%d,%d,%d,%d] = "
                             "RoiAlign(%%x, %%r, "
                             "%%b) {height=%d, width=%d, sampling_ratio=%d, scale=%.17g, half_pixel=%s, mode=%s} output %%y }", r->n, r->c,
                                 r->h, r->w,
                             r->rois, r->rois, r->rois, r->c, r->oh, r->ow, r->oh, r->ow, r->ratio, r->scale, r->half ? "true" : "false",
                             r->max ? "max" : "avg");
  op_run(text, &op_configs[config], (const void *[]){x, roi, batch}, (const void *[]){hostile ? NULL : want}, 1e-4);
  free(x), free(want);
}

static void roi_align(void **state) {
  (void)state;
  seed = 18;
  for (int i = 0; i < 500; i++) {
    Roi r = {.n = pick(1, 3), .c = pick(1, 4), .h = pick(1, 9), .w = pick(1, 9), .rois = pick(1, 8), .oh = pick(1, 4), .ow = pick(1, 4),
             .ratio = pick(0, 2), .scale = pick(0, 1) ? 1 : 0.25, .half = pick(0, 1), .max = pick(0, 1)};
    roi_case(&r, i % 5 == 4, i % COUNTOF(op_configs));
  }
  op_refuse("graph \"t\" { input %x: f32[1,1,4,4] input %r: f32[2,5] input %b: i64[2] %y = RoiAlign(%x, %r, %b) {height=1, width=1} output "
            "%y }",
            "expected 4 columns");
  op_refuse("graph \"t\" { input %x: f32[1,1,4,4] input %r: f32[2,4] input %b: i64[3] %y = RoiAlign(%x, %r, %b) {height=1, width=1} output "
            "%y }",
            "the batch indices are");
  op_refuse("graph \"t\" { input %x: f32[1,1,4,4] input %r: f32[2,4] input %b: i64[2] %y = RoiAlign(%x, %r, %b) {height=0, width=1} output "
            "%y }",
            "the output is 0 by 1");
}

static void max_roi_pool(void **state) {
  (void)state;
  seed = 19;
  for (int i = 0; i < 200; i++) {
    int n = pick(1, 2), c = pick(1, 3), h = pick(1, 9), w = pick(1, 9), rois = pick(1, 5), oh = pick(1, 4), ow = pick(1, 4),
        ny = rois * c * oh * ow;
    bool hostile = i % 5 == 4;
    float x[600], roi[25], want[300];
    op_fill_f32(x, n * c * h * w, 3);
    for (int k = 0; k < rois; k++) {
      float row[5] = {(float)pick(0, n - 1), (float)real(-3, w), (float)real(-3, h), (float)real(0, w + 3), (float)real(0, h + 3)};
      memcpy(roi + 5 * k, row, sizeof row);
      if (hostile) roi[5 * k + pick(0, 4)] = k % 2 ? NAN : -INFINITY, roi[5 * k + pick(0, 4)] = 1e20f;
    }
    for (int o = 0; o < ny && !hostile; o++) {
      int pw = o % ow, ph = o / ow % oh, ch = o / ow / oh % c;
      const float *r = roi + 5 * (o / ow / oh / c), *plane = x + ((int)r[0] * c + ch) * h * w;
      int x1 = (int)roundf(r[1]), y1 = (int)roundf(r[2]), x2 = (int)roundf(r[3]), y2 = (int)roundf(r[4]);
      float bw = (float)MAXI(x2 - x1 + 1, 1) / (float)ow, bh = (float)MAXI(y2 - y1 + 1, 1) / (float)oh, max = -INFINITY;
      int v0 = MINI(MAXI((int)floorf((float)pw * bw) + x1, 0), w), v1 = MINI(MAXI((int)ceilf((float)(pw + 1) * bw) + x1, 0), w);
      int u0 = MINI(MAXI((int)floorf((float)ph * bh) + y1, 0), h), u1 = MINI(MAXI((int)ceilf((float)(ph + 1) * bh) + y1, 0), h);
      for (int u = u0; u < u1; u++)
        for (int v = v0; v < v1; v++) max = fmaxf(max, plane[u * w + v]);
      want[o] = u1 <= u0 || v1 <= v0 ? 0 : max;
    }
    op_run(op_text("graph \"t\" { input %%x: f32[%d,%d,%d,%d] input %%r: f32[%d,5] %%y: f32[%d,%d,%d,%d] = MaxRoiPool(%%x, %%r) "
                   "{height=%d, width=%d, "
                   "scale=1} output %%y }", n, c, h, w, rois, rois, c, oh, ow, oh, ow), &op_configs[i % COUNTOF(op_configs)],
           (const void *[]){x, roi}, (const void *[]){hostile ? NULL : want}, 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(grid_sample), cmocka_unit_test(nearest_ties), cmocka_unit_test(roi_align),
                                     cmocka_unit_test(max_roi_pool)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
