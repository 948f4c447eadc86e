/* Plain convolutions and transposed convolutions against their definitions, computed in double: seeded sweeps over ranks 1 to 3, odd
 * channel counts, groups, strides, dilations, asymmetric pads, layouts, constant and run-time weights, bias, scale and bodies. */
#include "op_test.h"

typedef struct Case {
  int rank, n, c, k, group;          /* c, k: all channels */
  int in[3], kernel[3], stride[3], dil[3], pad[3], pad_end[3], out_pad[3], out[3];
  bool transpose, bias, scale, constant, relu, residual;
  int block, block_in, block_res;    /* 0: PLAIN */
} Case;

static char text[6000];
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
  add(", %s=[", name);
  for (int i = 0; i < n; i++) add("%s%d", i ? "," : "", v[i]);
  for (int i = 0; w && i < n; i++) add(",%d", w[i]);
  add("]");
}

static void add_shape(int a, int b, const int *s, int rank, int block) {
  add("f32[%d,%d", a, b);
  for (int i = 0; i < rank; i++) add(",%d", s[i]);
  add("]");
  if (block) add("{c%d}", block);
}

static void write_graph(const Case *c) {
  text_n = 0;
  add("graph \"t\" { input %%x: ");
  add_shape(c->n, c->c, c->in, c->rank, 0);
  add(" %s %%w: ", c->constant ? "const" : "input");
  if (c->transpose) add_shape(c->c, c->k / c->group, c->kernel, c->rank, 0);
  else add_shape(c->k, c->c / c->group, c->kernel, c->rank, 0);
  if (c->constant) add(" = opaque 77");
  if (c->bias) add(" %s %%b: f32[%d]", c->constant ? "const" : "input", c->k);
  if (c->bias && c->constant) {
    add(" = [");
    for (int i = 0; i < c->k; i++) add("%s%g", i ? "," : "", i * 0.25 - 1);
    add("]");
  }
  if (c->scale) {
    add(" const %%s: f32[%d] = [", c->k);
    for (int i = 0; i < c->k; i++) add("%s%g", i ? "," : "", 1.5 - i * 0.125);
    add("]");
  }
  if (c->residual) {
    add(" input %%r: ");
    add_shape(c->n, c->k, c->out, c->rank, 0);
  }
  const char *x = "%x", *r = "%r";
  if (c->block_in) {
    add(" %%xb: ");
    add_shape(c->n, c->c, c->in, c->rank, c->block_in);
    add(" = Reorder(%%x)");
    x = "%xb";
  }
  if (c->block_res && c->residual) {
    add(" %%rb: ");
    add_shape(c->n, c->k, c->out, c->rank, c->block_res);
    add(" = Reorder(%%r)");
    r = "%rb";
  }
  add(" %%y: ");
  add_shape(c->n, c->k, c->out, c->rank, c->block);
  add(" = %s(%s, %%w, %s, %s", c->transpose ? "ConvTranspose" : "Conv", x, c->bias ? "%b" : "_", c->scale ? "%s" : "_");
  if (c->residual) add("; %s", r);
  add(") {group=%d", c->group);
  add_list("strides", c->stride, NULL, c->rank);
  add_list("pads", c->pad, c->pad_end, c->rank);
  add_list("dilations", c->dil, NULL, c->rank);
  if (c->transpose) add_list("output_padding", c->out_pad, NULL, c->rank);
  add("}");
  if (c->residual && c->relu) add(" body { %%0 = Add(acc, in4); %%1 = Relu(%%0) }");
  else if (c->residual) add(" body { %%0 = Add(in4, acc) }");
  else if (c->relu) add(" body { %%0 = Relu(acc) }");
  if (c->block) {
    add(" %%z: ");
    add_shape(c->n, c->k, c->out, c->rank, 0);
    add(" = Reorder(%%y) output %%z }");
  } else {
    add(" output %%y }");
  }
}

static int volume(const int *s, int rank) {
  int v = 1;
  for (int i = 0; i < rank; i++) v *= s[i];
  return v;
}

/* Spatial extents as three, the missing ones in front. */
static void three(const int *v, int rank, int fill, int out[3]) {
  for (int i = 0; i < 3; i++) out[i] = i < 3 - rank ? fill : v[i - (3 - rank)];
}

typedef struct Spatial { int in[3], out[3], k[3], s[3], d[3], p[3]; } Spatial;

static Spatial spatial(const Case *c) {
  Spatial s;
  three(c->in, c->rank, 1, s.in);
  three(c->out, c->rank, 1, s.out);
  three(c->kernel, c->rank, 1, s.k);
  three(c->stride, c->rank, 1, s.s);
  three(c->dil, c->rank, 1, s.d);
  three(c->pad, c->rank, 0, s.p);
  return s;
}

/* Adds what one (n, k, c, kernel position) contributes; sum has the output's layout. */
static void add_tap(const Case *c, const Spatial *s, double *sum, const float *x, const float *w, int n, int k, int ci, const int kp[3]) {
  int kg = c->k / c->group, cg = c->c / c->group, vol = volume(c->kernel, c->rank), kk = (kp[0] * s->k[1] + kp[1]) * s->k[2] + kp[2];
  int channel = k / kg * cg + ci;
  float wv = c->transpose ? w[(channel * kg + k % kg) * vol + kk] : w[(k * cg + ci) * vol + kk];
  const int *from = c->transpose ? s->in : s->out;
  int a[3];
  for (a[0] = 0; a[0] < from[0]; a[0]++)
    for (a[1] = 0; a[1] < from[1]; a[1]++)
      for (a[2] = 0; a[2] < from[2]; a[2]++) {
        int o[3];
        bool inside = true;
        for (int i = 0; i < 3; i++) {
          o[i] = a[i] * s->s[i] - s->p[i] + kp[i] * s->d[i];
          inside &= o[i] >= 0 && o[i] < (c->transpose ? s->out : s->in)[i];
        }
        if (!inside) continue;
        const int *xi = c->transpose ? a : o, *yi = c->transpose ? o : a;
        double xv = x[((((int64_t)n * c->c + channel) * s->in[0] + xi[0]) * s->in[1] + xi[1]) * s->in[2] + xi[2]];
        sum[((((int64_t)n * c->k + k) * s->out[0] + yi[0]) * s->out[1] + yi[1]) * s->out[2] + yi[2]] += xv * wv;
      }
}

static void reference(const Case *c, const float *x, const float *w, const float *bias, const float *res, float *y) {
  Spatial s = spatial(c);
  int64_t plane = volume(c->out, c->rank), count = (int64_t)c->n * c->k * plane;
  double *sum = calloc((size_t)count + 1, sizeof *sum);
  int kp[3];
  for (int n = 0; n < c->n; n++)
    for (int k = 0; k < c->k; k++)
      for (int ci = 0; ci < c->c / c->group; ci++)
        for (kp[0] = 0; kp[0] < s.k[0]; kp[0]++)
          for (kp[1] = 0; kp[1] < s.k[1]; kp[1]++)
            for (kp[2] = 0; kp[2] < s.k[2]; kp[2]++) add_tap(c, &s, sum, x, w, n, k, ci, kp);
  for (int64_t i = 0; i < count; i++) {
    int k = (int)(i / plane % c->k);
    double v = sum[i] * (c->scale ? 1.5 - k * 0.125 : 1) + (c->bias ? (c->constant ? k * 0.25 - 1 : bias[k]) : 0);
    if (c->residual) v += res[i];
    y[i] = (float)(c->relu && v < 0 ? 0 : v);
  }
  free(sum);
}

static void run_case(const Case *c, int config) {
  int64_t nx = (int64_t)c->n * c->c * volume(c->in, c->rank), nw = (int64_t)c->c * c->k / c->group * volume(c->kernel, c->rank);
  int64_t ny = (int64_t)c->n * c->k * volume(c->out, c->rank);
  float *x = malloc((size_t)(nx + 1) * 4), *w = malloc((size_t)(nw + 1) * 4), *bias = malloc((size_t)c->k * 4),
      *res = malloc((size_t)(ny + 1) * 4);
  float *want = malloc((size_t)(ny + 1) * 4);
  op_fill_f32(x, nx, 1);
  op_fill_f32(bias, c->k, 3);
  op_fill_f32(res, ny, 4);
  if (c->constant) opaque_fill(w, DT_F32, nw, 77);
  else op_fill_f32(w, nw, 2);
  reference(c, x, w, bias, res, want);
  write_graph(c);
  const void *in[5];
  int k = 0;
  in[k++] = x;
  if (!c->constant) in[k++] = w;
  if (c->bias && !c->constant) in[k++] = bias;
  if (c->residual) in[k++] = res;
  op_run(text, &op_configs[config], in, (const void *[]){want}, 2e-5);
  free(x), free(w), free(bias), free(res), free(want);
}

static uint32_t seed;
static int pick(int lo, int hi) { return lo + (int)(op_random(&seed) % (uint32_t)(hi - lo + 1)); }

static void random_channels(Case *c) {
  int kind = pick(0, 9);
  c->group = 1;
  c->c = pick(1, 20);
  c->k = pick(1, 20);
  if (kind == 0) c->group = c->c = c->k;                                     /* depthwise */
  if (kind == 1) c->group = pick(2, 4), c->c = c->group * pick(1, 3), c->k = c->group * pick(1, 5);
  if (kind == 2) c->group = c->c = pick(2, 6), c->k = c->group * 2;
  static const int blocks[] = {0, 4, 8, 16};
  c->block = blocks[pick(0, 3)];
  c->block_in = kind != 0 && pick(0, 1) ? 0 : c->block;
  if (kind == 1 || kind == 2) c->block = c->block_in = pick(0, 5) ? 0 : 4;   /* allowed, if never made */
  c->block_res = pick(0, 3) ? c->block : blocks[pick(0, 3)];
}

static bool random_case(Case *c, bool transpose) {
  *c = (Case){.rank = pick(0, 9) ? 2 : pick(1, 3), .n = pick(1, 3), .transpose = transpose, .bias = pick(0, 1), .scale = !pick(0, 3),
              .constant = pick(0, 3), .relu = !pick(0, 3), .residual = !pick(0, 3)};
  random_channels(c);
  for (int i = 0; i < c->rank; i++) {
    c->in[i] = c->rank == 3 ? pick(1, 6) : pick(1, 17);
    if (c->rank == 1) c->in[i] = pick(1, 40);
    c->kernel[i] = pick(1, c->rank == 3 ? 3 : 4);
    c->stride[i] = pick(1, 3);
    c->dil[i] = pick(1, 2);
    c->pad[i] = pick(0, 3);
    c->pad_end[i] = pick(0, 3);
    int span = c->dil[i] * (c->kernel[i] - 1) + 1;
    if (transpose) {
      c->out_pad[i] = pick(0, 2);
      if (!pick(0, 4)) c->pad[i] = -c->pad[i];
      c->out[i] = c->stride[i] * (c->in[i] - 1) + c->out_pad[i] + span - c->pad[i] - c->pad_end[i];
      if (c->out[i] < 1) return false;
    } else {
      if (c->in[i] + c->pad[i] + c->pad_end[i] < span) return false;
      c->out[i] = (c->in[i] + c->pad[i] + c->pad_end[i] - span) / c->stride[i] + 1;
    }
  }
  return true;
}

/* The plain lowerings run at -O0: configurations of 4, 8 and 16 lanes. */
static void sweep(bool transpose, uint32_t from, int count) {
  static const int plain[] = {0, 2, 4};
  seed = from;
  for (int i = 0; i < count;) {
    Case c;
    if (!random_case(&c, transpose)) continue;
    run_case(&c, plain[i % 3]);
    i++;
  }
}

static void conv_sweep(void **state) {
  (void)state;
  sweep(false, 5, 3000);
}

static void transpose_sweep(void **state) {
  (void)state;
  sweep(true, 6, 2000);
}

/* A few larger ones in every configuration. */
static void conv_configs(void **state) {
  (void)state;
  Case c = {.rank = 2, .n = 2, .c = 19, .k = 21, .group = 1, .in = {13, 15}, .kernel = {3, 3}, .stride = {1, 2}, .dil = {1, 1},
            .pad = {1, 1}, .pad_end = {1, 0}, .out = {13, 7}, .bias = true, .scale = true, .constant = true, .relu = true, .residual = true};
  for (int i = 0; i < COUNTOF(op_configs); i++) run_case(&c, i);
  for (int i = 0; i < COUNTOF(op_configs); i++) {
    c.block = c.block_in = c.block_res = op_configs[i].lanes;
    run_case(&c, i);
  }
  Case t = {.rank = 2, .n = 1, .c = 9, .k = 18, .group = 1, .in = {7, 9}, .kernel = {4, 4}, .stride = {2, 2}, .dil = {1, 1}, .pad = {1, 1},
            .pad_end = {1, 1}, .out = {14, 18}, .bias = true, .constant = true, .transpose = true};
  for (int i = 0; i < COUNTOF(op_configs); i++) run_case(&t, i);
}

#define BIG 8
static void other_types(void **state) {
  (void)state;
  double x[BIG * BIG], w[9], want[BIG * BIG] = {0};
  int32_t xi[BIG * BIG], wi[9], wanti[BIG * BIG] = {0};
  int8_t xb[BIG * BIG], wb[9];
  for (int i = 0; i < BIG * BIG; i++) x[i] = sin(i), xi[i] = i * i % 17 - 8, xb[i] = (int8_t)xi[i];
  for (int i = 0; i < 9; i++) w[i] = cos(i), wi[i] = i - 4, wb[i] = (int8_t)wi[i];
  for (int o = 0; o < BIG * BIG; o++)
    for (int k = 0; k < 9; k++) {
      int h = o / BIG + k / 3 - 1, v = o % BIG + k % 3 - 1;
      if (h < 0 || h >= BIG || v < 0 || v >= BIG) continue;
      want[o] += x[h * BIG + v] * w[k];
      wanti[o] += xi[h * BIG + v] * wi[k];
    }
  const char *f = "graph \"t\" { input %%x: %s[1,1,8,8] input %%w: %s[1,1,3,3] %%y: %s[1,1,8,8] = Conv(%%x, %%w) {group=1, strides=[1,1], "
                  "pads=[1,1,1,1], dilations=[1,1]} output %%y }";
  op_check(op_text(f, "f64", "f64", "f64"), (const void *[]){x, w}, (const void *[]){want}, 1e-14);
  op_check(op_text(f, "i32", "i32", "i32"), (const void *[]){xi, wi}, (const void *[]){wanti}, 0);
  op_check(op_text(f, "i8", "i8", "i32"), (const void *[]){xb, wb}, (const void *[]){wanti}, 0);
  uint8_t xu[BIG * BIG];
  for (int i = 0; i < BIG * BIG; i++) xu[i] = (uint8_t)(200 + xi[i]), wanti[i] = 0;
  for (int o = 0; o < BIG * BIG; o++)
    for (int k = 0; k < 9; k++) {
      int h = o / BIG + k / 3 - 1, v = o % BIG + k % 3 - 1;
      if (h >= 0 && h < BIG && v >= 0 && v < BIG) wanti[o] += xu[h * BIG + v] * wi[k];
    }
  op_check(op_text(f, "u8", "i8", "i32"), (const void *[]){xu, wb}, (const void *[]){wanti}, 0);
}

static void refused(void **state) {
  (void)state;
  const char *f = "graph \"t\" { input %%x: f32[1,4,8,8] input %%w: f32[%s] %%y = Conv(%%x, %%w) {group=%d, strides=[%s], pads=[%s], "
                  "dilations=[1,1]} output %%y }";
  op_refuse(op_text(f, "6,4,3,3", 3, "1,1", "0,0,0,0"), "3 groups do not divide 4 input and 6 output channels");
  op_refuse(op_text(f, "6,4,3,3", 0, "1,1", "0,0,0,0"), "0 groups");
  op_refuse(op_text(f, "6,3,3,3", 1, "1,1", "0,0,0,0"), "does not fit the input [1, 4, 8, 8]");
  op_refuse(op_text(f, "6,4,9,3", 1, "1,1", "0,0,0,0"), "the kernel spans 9 positions of axis 2, the padded input has 8");
  op_refuse(op_text(f, "6,4,3,3", 1, "0,1", "0,0,0,0"), "strides[0] is 0");
  op_refuse(op_text(f, "6,4,3,3", 1, "1", "0,0,0,0"), "strides has 1 entries, expected 2");
  op_refuse(op_text(f, "6,4,3,3", 1, "1,1", "0,-1,0,0"), "pads[1] is -1");
  op_refuse(op_text(f, "6,4,3", 1, "1,1", "0,0,0,0"), "the weight has rank 3, expected 4");
  op_refuse(op_text(f, "6,4,99999,99999", 1, "1,1", "99999,99999,99999,99999"), "the kernel has more than");
  op_refuse("graph \"t\" { input %x: f32[1,4,8,8] input %w: f64[4,4,1,1] %y = Conv(%x, %w) {group=1, strides=[1,1], pads=[0,0,0,0], "
            "dilations=[1,1]} output %y }", "expected one type");
  op_refuse("graph \"t\" { input %x: f32[1,4,8,8] input %w: f32[4,4,1,1] input %b: f32[3] %y = Conv(%x, %w, %b) {group=1, strides=[1,1], "
            "pads=[0,0,0,0], dilations=[1,1]} output %y }", "the bias has shape [3], expected [4]");
  op_refuse("graph \"t\" { input %x: f32[1,4,8] input %w: f32[4,4,1] %y = ConvTranspose(%x, %w) {group=1, strides=[1], "
            "pads=[5,5], dilations=[1], output_padding=[0]} output %y }", "leave nothing of axis 2");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(conv_sweep), cmocka_unit_test(transpose_sweep), cmocka_unit_test(conv_configs),
      cmocka_unit_test(other_types), cmocka_unit_test(refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
