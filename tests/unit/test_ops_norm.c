/* Softmax, LogSoftmax, Hardmax and Normalize against their definitions in double: every axis of random shapes, rows of -inf, large values,
 * long rows, bodies. */
#include "op_test.h"

static uint32_t seed;
static int pick(int lo, int hi) { return lo + (int)(op_random(&seed) % (uint32_t)(hi - lo + 1)); }

typedef struct Shape3 { int outer, n, inner; } Shape3;

static void softmax_reference(Shape3 s, const float *x, float *y, int kind) {
  for (int o = 0; o < s.outer; o++)
    for (int k = 0; k < s.inner; k++) {
      double max = -INFINITY, sum = 0;
      int best = 0;
      for (int j = 0; j < s.n; j++) {
        float v = x[(o * s.n + j) * s.inner + k];
        if (v > max) max = v, best = j;
      }
      for (int j = 0; j < s.n; j++) sum += exp(x[(o * s.n + j) * s.inner + k] - max);
      for (int j = 0; j < s.n; j++) {
        int i = (o * s.n + j) * s.inner + k;
        y[i] = (float)(kind == 0 ? exp(x[i] - max) / sum : kind == 1 ? x[i] - max - log(sum) : j == best);
      }
    }
}

static const char *const names[] = {"Softmax", "LogSoftmax", "Hardmax"};

static void softmax_case(Shape3 s, int kind, double scale, bool holes, bool body, int config) {
  int count = s.outer * s.n * s.inner;
  float *x = malloc((size_t)count * 4), *want = malloc((size_t)count * 4);
  op_fill_f32(x, count, 7);
  for (int i = 0; i < count; i++) x[i] = holes && i % 3 == 0 ? -INFINITY : (float)(x[i] * scale);
  softmax_reference(s, x, want, kind);
  for (int i = 0; body && i < count; i++) want[i] = -want[i];
  const char *text = op_text("graph \"t\" { input %%x: f32[%d,%d,%d] %%y = %s(%%x) {axis=1}%s output %%y }", s.outer, s.n, s.inner,
                             names[kind],
                             body ? " body { %0 = Neg(acc) }" : "");
  op_run(text, &op_configs[config], (const void *[]){x}, (const void *[]){want}, kind == 1 ? 2e-6 : 1e-6);
  free(x), free(want);
}

static void softmax(void **state) {
  (void)state;
  seed = 2;
  for (int i = 0; i < 600; i++) {
    Shape3 s = {pick(1, 4), pick(1, i % 5 ? 20 : 80), i % 2 ? pick(1, 20) : 1};
    softmax_case(s, i % 3, i % 7 ? 1 : 1000, s.n > 3 && !(i % 4), i % 8 == 5, i % COUNTOF(op_configs));
  }
  /* Too long for the exponentials to be kept. */
  for (int i = 0; i < COUNTOF(op_configs); i++) {
    softmax_case((Shape3){1, 70001, 1}, 0, 1, false, false, i);
    softmax_case((Shape3){1, 9001, 17}, 0, 1, false, false, i);
  }
}

static void softmax_special(void **state) {
  (void)state;
  const float x[6] = {-INFINITY, -INFINITY, -INFINITY, NAN, 1, 2}, want[6] = {NAN, NAN, NAN, NAN, NAN, NAN};
  op_check("graph \"t\" { input %x: f32[2,3] %y = Softmax(%x) {axis=-1} output %y }", (const void *[]){x}, (const void *[]){want}, 0);
  const double d[2] = {0, 1}, dw[2] = {1 / (1 + exp(1)), exp(1) / (1 + exp(1))};
  op_check("graph \"t\" { input %x: f64[2] %y = Softmax(%x) {axis=0} output %y }", (const void *[]){d}, (const void *[]){dw}, 1e-14);
  op_refuse("graph \"t\" { input %x: i32[2] %y = Softmax(%x) {axis=0} output %y }", "expected a floating-point type");
  op_refuse("graph \"t\" { input %x: f32[2] %y = LogSoftmax(%x) {axis=1} output %y }", "axis 1 is out of range");
}

/* ---- normalize ---- */

typedef struct Norm { int rank, d[5]; unsigned axes; bool center; double offset; } Norm;

static int row_of(const Norm *c, int i) {
  int at[5], o = 0;
  for (int k = c->rank - 1; k >= 0; k--) at[k] = i % c->d[k], i /= c->d[k];
  for (int k = 0; k < c->rank; k++)
    if (!(c->axes >> k & 1)) o = o * c->d[k] + at[k];
  return o;
}

static void normalize_case(const Norm *c, bool stats, bool body, int config) {
  int n = 1, m = 1;
  for (int k = 0; k < c->rank; k++) {
    n *= c->d[k];
    if (!(c->axes >> k & 1)) m *= c->d[k];
  }
  float *x = malloc((size_t)n * 4), *y = malloc((size_t)n * 4), *mean = malloc((size_t)m * 4), *inv = malloc((size_t)m * 4);
  double *sum = calloc((size_t)m, 8), *square = calloc((size_t)m, 8), count = (double)n / m;
  op_fill_f32(x, n, 8);
  for (int i = 0; i < n; i++) x[i] += (float)c->offset;
  for (int i = 0; i < n && c->center; i++) sum[row_of(c, i)] += x[i] / count;
  for (int i = 0; i < n; i++) square[row_of(c, i)] += (x[i] - sum[row_of(c, i)]) * (x[i] - sum[row_of(c, i)]) / count;
  for (int i = 0; i < m; i++) mean[i] = (float)sum[i], inv[i] = (float)(1 / sqrt(square[i] + 1e-3));
  for (int i = 0; i < n; i++) {
    y[i] = (float)((x[i] - sum[row_of(c, i)]) / sqrt(square[row_of(c, i)] + 1e-3));
    if (body) y[i] = y[i] < 0 ? 0 : y[i];
  }
  char dims[64] = "", axes[64] = "";
  for (int k = 0; k < c->rank; k++) {
    sprintf(dims + strlen(dims), "%s%d", k ? "," : "", c->d[k]);
    if (c->axes >> k & 1) sprintf(axes + strlen(axes), "%s%d", *axes ? "," : "", k);
  }
  const char *text = op_text("graph \"t\" { input %%x: f32[%s] %%y%s = Normalize(%%x) {axes=[%s], eps=1e-3, center=%s}%s output %%y%s }",
                             dims,
                             stats ? ", %m, %s" : "", axes, c->center ? "true" : "false", body ? " body { %0 = Relu(acc) }" : "",
                             stats ? " output %m output %s" : "");
  op_run(text, &op_configs[config], (const void *[]){x}, (const void *[]){y, mean, inv}, 2e-5 * (1 + fabs(c->offset) / 10));
  free(x), free(y), free(mean), free(inv), free(sum), free(square);
}

static void normalize(void **state) {
  (void)state;
  seed = 6;
  for (int i = 0; i < 1500; i++) {
    Norm c = {.rank = pick(1, 4), .center = pick(0, 3), .offset = i % 5 ? 0 : 100};
    for (int k = 0; k < c.rank; k++) c.d[k] = pick(0, 2) ? pick(1, 8) : pick(1, 24);
    c.axes = (unsigned)pick(1, (1 << c.rank) - 1);
    normalize_case(&c, i % 2, i % 3 == 0, i % COUNTOF(op_configs));
  }
  op_refuse("graph \"t\" { input %x: f32[2,0] %y = Normalize(%x) {axes=[1], eps=1e-3} output %y }", "axis 1 has no elements");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(softmax), cmocka_unit_test(softmax_special), cmocka_unit_test(normalize)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
