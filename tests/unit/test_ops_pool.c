/* Pools, unpooling and local response normalisation against their definitions: seeded sweeps over ranks 1 to 3, strides, dilations,
 * asymmetric pads, ceil mode, layouts, indices, NaN. */
#include "op_test.h"

typedef enum { MAX, AVERAGE, LP } Kind;

typedef struct Case {
  Kind kind;
  int rank, n, c, in[3], kernel[3], stride[3], dil[3], pad[3], pad_end[3], out[3], p, block, block_out;
  bool ceil, include, column, indices, relu, special;
} Case;

static char text[3000];
static int text_n;
static void add(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void add(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  text_n += vsnprintf(text + text_n, sizeof text - (size_t)text_n, fmt, ap);
  va_end(ap);
  assert_true((size_t)text_n < sizeof text);
}

static void add_list(const char *name, const int *v, const int *w, int n) {
  add("%s=[", name);
  for (int i = 0; i < n; i++) add("%s%d", i ? "," : "", v[i]);
  for (int i = 0; w && i < n; i++) add(",%d", w[i]);
  add("], ");
}

static void add_shape(const Case *c, const char *type, const int *s, int block) {
  add("%s[%d,%d", type, c->n, c->c);
  for (int i = 0; i < c->rank; i++) add(",%d", s[i]);
  add("]");
  if (block) add("{c%d}", block);
}

static void write_graph(const Case *c) {
  static const char *const ops[] = {"MaxPool", "AveragePool", "LpPool"};
  text_n = 0;
  add("graph \"t\" { input %%x: ");
  add_shape(c, "f32", c->in, 0);
  if (c->block) {
    add(" %%xb: ");
    add_shape(c, "f32", c->in, c->block);
    add(" = Reorder(%%x)");
  }
  add(" %%y: ");
  add_shape(c, "f32", c->out, c->block_out);
  if (c->indices) add(", %%i");
  add(" = %s(%s) {", ops[c->kind], c->block ? "%xb" : "%x");
  add_list("kernel", c->kernel, NULL, c->rank);
  add_list("strides", c->stride, NULL, c->rank);
  add_list("pads", c->pad, c->pad_end, c->rank);
  add_list("dilations", c->dil, NULL, c->rank);
  add("ceil_mode=%s, count_include_pad=%s, column_major=%s, p=%d}", c->ceil ? "true" : "false", c->include ? "true" : "false",
      c->column ? "true" : "false", c->p);
  if (c->relu) add(" body { %%0 = Neg(acc) }");
  if (c->block_out) {
    add(" %%z: ");
    add_shape(c, "f32", c->out, 0);
    add(" = Reorder(%%y) output %%z");
  } else {
    add(" output %%y");
  }
  add("%s }", c->indices ? " output %i" : "");
}

static int volume(const int *s, int rank) {
  int v = 1;
  for (int i = 0; i < rank; i++) v *= s[i];
  return v;
}

/* Splits flat index i into coordinates of s. */
static void split(int i, const int *s, int rank, int *c) {
  for (int d = rank - 1; d >= 0; d--) {
    c[d] = i % s[d];
    i /= s[d];
  }
}

/* The window of one output place over one image plane. */
static float window(const Case *c, const float *x, int o, int64_t *index) {
  int oc[3], kc[3], counted = 0;
  double sum = 0, max = -INFINITY;
  int64_t at = -1;
  split(o, c->out, c->rank, oc);
  for (int k = 0; k < volume(c->kernel, c->rank); k++) {
    bool inside = true, padded = true;
    int64_t row = 0, column = 0;
    split(k, c->kernel, c->rank, kc);
    for (int d = 0; d < c->rank; d++) {
      int i = oc[d] * c->stride[d] - c->pad[d] + kc[d] * c->dil[d];
      inside &= i >= 0 && i < c->in[d];
      padded &= i < c->in[d] + c->pad_end[d];
      row = row * c->in[d] + i;
    }
    for (int d = c->rank - 1; d >= 0; d--) column = column * c->in[d] + oc[d] * c->stride[d] - c->pad[d] + kc[d] * c->dil[d];
    counted += inside || (c->include && padded);
    if (!inside) continue;
    double v = x[row];
    sum += c->kind == LP ? pow(fabs(v), c->p) : v;
    if (at < 0 || (!isnan(max) && (v > max || isnan(v)))) max = v, at = c->column ? column : row;
  }
  *index = at;
  return (float)(c->kind == MAX ? max : c->kind == AVERAGE ? sum / counted : pow(sum, 1.0 / c->p));
}

static void run_case(const Case *c, int config) {
  int64_t in = volume(c->in, c->rank), out = volume(c->out, c->rank), planes = c->n * c->c;
  float *x = malloc((size_t)(in * planes) * 4), *want = malloc((size_t)(out * planes) * 4);
  int64_t *index = malloc((size_t)(out * planes) * 8);
  op_fill_f32(x, in * planes, 9);
  for (int64_t i = 0; c->special && i < in * planes; i += 13) x[i] = i % 2 ? -INFINITY : i % 3 ? NAN : x[i];
  for (int64_t i = 1; i < in * planes; i += 5) x[i] = x[i - 1];   /* ties */
  for (int64_t p = 0; p < planes; p++)
    for (int64_t o = 0; o < out; o++) {
      want[p * out + o] = window(c, x + p * in, (int)o, &index[p * out + o]);
      if (c->relu) want[p * out + o] = -want[p * out + o];
      index[p * out + o] += p * in;
    }
  write_graph(c);
  op_run(text, &op_configs[config], (const void *[]){x}, (const void *[]){want, index}, c->kind == MAX ? 0 : 1e-5);
  free(x), free(want), free(index);
}

static uint32_t seed;
static int pick(int lo, int hi) { return lo + (int)(op_random(&seed) % (uint32_t)(hi - lo + 1)); }

static bool random_case(Case *c) {
  static const int blocks[] = {0, 0, 4, 8, 16};
  *c = (Case){.kind = (Kind)pick(0, 2), .rank = pick(0, 5) ? 2 : pick(1, 3), .n = pick(1, 3), .c = pick(1, 20), .p = pick(1, 3),
              .ceil = pick(0, 1),
              .include = pick(0, 1), .relu = !pick(0, 3), .block = blocks[pick(0, 4)]};
  c->block_out = pick(0, 2) ? c->block : blocks[pick(0, 4)];
  if (c->kind == MAX) c->indices = pick(0, 1), c->column = pick(0, 1), c->special = pick(0, 1);
  for (int i = 0; i < c->rank; i++) {
    bool wide = c->rank == 2 && !pick(0, 3);
    c->in[i] = pick(1, wide ? 40 : c->rank == 3 ? 7 : 17);
    c->kernel[i] = pick(1, wide ? 17 : 4);
    c->stride[i] = pick(1, 3);
    c->dil[i] = wide ? 1 : pick(1, 2);
    int reach = c->dil[i] * (c->kernel[i] - 1), span = reach + 1;
    c->pad[i] = pick(0, reach);
    c->pad_end[i] = pick(0, reach);
    int room = c->in[i] + c->pad[i] + c->pad_end[i] - span;
    if (room < 0) return false;
    c->out[i] = room / c->stride[i] + 1;
    if (c->ceil && room % c->stride[i]) c->out[i]++;
    if (c->ceil && (c->out[i] - 1) * c->stride[i] >= c->in[i] + c->pad[i]) c->out[i]--;
    /* A dilated window may straddle a tiny input and meet nothing of it. */
    if (c->kind == MAX && c->in[i] < c->dil[i]) return false;
  }
  return true;
}

static void pool_sweep(void **state) {
  (void)state;
  seed = 11;
  for (int i = 0; i < 3000;) {
    Case c;
    if (!random_case(&c)) continue;
    int config = i % COUNTOF(op_configs);
    /* Vectors wider than a block are for the schedules to refuse, at -O0 they are narrowed. */
    run_case(&c, config);
    i++;
  }
}

static void integer_pool(void **state) {
  (void)state;
  const uint8_t u[9] = {1, 200, 3, 4, 5, 6, 255, 8, 9}, want[4] = {200, 200, 255, 9};
  const int8_t s[9] = {-1, -2, -3, -4, -5, -6, -7, -8, -9}, wants[4] = {-1, -2, -4, -5};
  const char *f = "graph \"t\" { input %%x: %s[1,1,3,3] %%y = MaxPool(%%x) {kernel=[2,2], strides=[1,1], pads=[0,0,0,0], dilations=[1,1]} "
                  "output %%y }";
  op_check(op_text(f, "u8"), (const void *[]){u}, (const void *[]){want}, 0);
  op_check(op_text(f, "i8"), (const void *[]){s}, (const void *[]){wants}, 0);
  /* Padding never wins, not even over the smallest number. */
  const int8_t low[1] = {-128};
  const int8_t lows[4] = {-128, -128, -128, -128};
  op_check("graph \"t\" { input %x: i8[1,1,1,1] %y = MaxPool(%x) {kernel=[2,2], strides=[1,1], pads=[1,1,1,1], dilations=[1,1]} output %y "
           "}",
           (const void *[]){low}, (const void *[]){lows}, 0);
  double d[3] = {1, 2, 4}, mean[2] = {1.5, 3};
  op_check("graph \"t\" { input %x: f64[1,1,3] %y = AveragePool(%x) {kernel=[2], strides=[1], pads=[0,0], dilations=[1]} output %y }",
           (const void *[]){d}, (const void *[]){mean}, 1e-15);
}

static void unpool(void **state) {
  (void)state;
  const float x[4] = {1, 2, 3, 4};
  const int64_t at[4] = {5, 7, 13, 15}, wild[4] = {-1, 7, 1000, 7};
  float want[16] = {0}, few[16] = {0}, five[25] = {0};
  for (int i = 0; i < 4; i++) want[at[i]] = five[at[i]] = x[i];
  few[7] = 4;
  const char *f = "graph \"t\" { input %%x: f32[1,1,2,2] input %%i: i64[1,1,2,2] %%y = MaxUnpool(%%x, %%i) {shape=[1,1,%d,%d]} output %%y "
                  "}";
  op_check(op_text(f, 4, 4), (const void *[]){x, at}, (const void *[]){want}, 0);
  op_check(op_text(f, 4, 4), (const void *[]){x, wild}, (const void *[]){few}, 0);
  op_check(op_text(f, 5, 5), (const void *[]){x, at}, (const void *[]){five}, 0);
  op_refuse("graph \"t\" { input %x: f32[1,1,2,2] input %i: i64[1,1,2] %y = MaxUnpool(%x, %i) {shape=[1,1,4,4]} output %y }",
            "the indices are");
}

static void lrn_case(int n, int c, int h, int w, int size, double beta) {
  int count = n * c * h * w, plane = h * w;
  float *x = malloc((size_t)count * 4), *want = malloc((size_t)count * 4);
  op_fill_f32(x, count, 3);
  for (int i = 0; i < count; i++) {
    int ch = i / plane % c;
    double sum = 0;
    for (int j = ch - (size - 1) / 2; j <= ch + size / 2; j++)
      if (j >= 0 && j < c) sum += (double)x[i + (j - ch) * plane] * x[i + (j - ch) * plane];
    want[i] = (float)(x[i] / pow(1.5 + 0.25 / size * sum, beta));
  }
  op_check(op_text("graph \"t\" { input %%x: f32[%d,%d,%d,%d] %%y = Lrn(%%x) {size=%d, alpha=0.25, beta=%g, bias=1.5} output %%y }", n, c,
                   h, w, size,
                   beta), (const void *[]){x}, (const void *[]){want}, 2e-6);
  for (int block = 4; block <= 32; block *= 2)   /* in either layout behind a BLOCKED operand; Reorder leaves padding lanes undefined */
    for (int out = 0; out < 2; out++)
      op_check(op_text("graph \"t\" { input %%x: f32[%d,%d,%d,%d] %%b: f32[%d,%d,%d,%d]{c%d} = Reorder(%%x) "
                       "%%l: f32[%d,%d,%d,%d]%s = Lrn(%%b) {size=%d, alpha=0.25, beta=%g, bias=1.5} %%y = Reorder(%%l) output %%y }", n, c, h, w,
                       n, c, h, w, block, n, c, h, w, out ? op_text("{c%d}", block) : "", size, beta),
               (const void *[]){x}, (const void *[]){want}, 2e-6);
  free(x), free(want);
}

static void lrn(void **state) {
  (void)state;
  lrn_case(2, 7, 3, 5, 5, 0.75);
  lrn_case(1, 20, 1, 17, 3, 0.5);
  lrn_case(1, 5, 9, 2, 4, 1);
  lrn_case(1, 3, 4, 4, 9, 0.6);
  lrn_case(2, 41, 4, 4, 5, 0.75);
  lrn_case(1, 64, 1, 3, 2, 1);
}

static void refused(void **state) {
  (void)state;
  const char *f = "graph \"t\" { input %%x: f32[1,4,%s] %%y = MaxPool(%%x) {kernel=[%s], strides=[%s], pads=[%s], dilations=[1,1]} output "
                  "%%y }";
  op_refuse(op_text(f, "8,8", "2,2", "1,1", "2,0,0,0"), "the pads of axis 2 are 2 and 0, the kernel spans 2");
  op_refuse(op_text(f, "8,8", "9,2", "1,1", "0,0,0,0"), "the kernel spans 9 positions of axis 2");
  op_refuse(op_text(f, "8,8", "0,2", "1,1", "0,0,0,0"), "kernel[0] is 0");
  op_refuse(op_text(f, "8,8", "2,2", "1,-1", "0,0,0,0"), "strides[1] is -1");
  op_refuse(op_text(f, "8", "2,2", "1,1", "0,0,0,0"), "kernel has 2 entries, expected 1");
  op_refuse("graph \"t\" { input %x: i32[1,4,8] %y = AveragePool(%x) {kernel=[2], strides=[1], pads=[0,0], dilations=[1]} output %y }",
            "expected a floating-point type");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(pool_sweep), cmocka_unit_test(integer_pool), cmocka_unit_test(unpool), cmocka_unit_test(lrn),
          cmocka_unit_test(refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
