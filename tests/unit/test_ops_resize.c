/* Resize against ONNX's definition (neighbours of a real coordinate and their coefficients, axis by axis, in double): every mode,
 * coordinate transformation, rounding, antialiasing, exclude_outside and extrapolation, over random shapes and layouts. */
#include "op_test.h"

#include "ir/ops/ops.h"

static uint32_t seed;
static int pick(int lo, int hi) { return lo + (int)(op_random(&seed) % (uint32_t)(hi - lo + 1)); }

static const char *const coords[] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
                                     "tf_crop_and_resize"};
static const char *const modes[] = {"nearest", "linear", "cubic"};
static const char *const rounds[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"};

typedef struct Case {
  int rank, in[5], out[5], mode, coord, round, block, block_out;
  double scale[5], roi[10], a, extrapolation;
  bool exclude, antialias, body;
} Case;

/* A scale that is a quotient of extents divides as one. */
static double unscale(const Case *c, int d, double x) {
  return c->scale[d] == (double)c->out[d] / c->in[d] ? x * c->in[d] / c->out[d] : x / c->scale[d];
}

static double coordinate(const Case *c, int d, int o) {
  double in = c->in[d], out = c->out[d], s = c->scale[d], size = s * in;
  if (fabs(size - out) < 1e-6) size = out;
  switch (c->coord) {
  case 0: return unscale(c, d, o + 0.5) - 0.5;
  case 1: return in / 2 * (1 - out / size) + unscale(c, d, o + 0.5) - 0.5;
  case 2: return size == 1 ? 0 : unscale(c, d, o + 0.5) - 0.5;
  case 3: return size == 1 ? 0 : o * (in - 1) / (size - 1);
  case 4: return unscale(c, d, o);
  }
  double start = c->roi[d], end = c->roi[c->rank + d];
  return (size == 1 ? (end - start) * (in - 1) / 2 : o * (end - start) * (in - 1) / (size - 1)) + start * (in - 1);
}

static double keys(double x, double a) {
  x = fabs(x);
  return x <= 1 ? (a + 2) * x * x * x - (a + 3) * x * x + 1 : x < 2 ? a * x * x * x - 5 * a * x * x + 8 * a * x - 4 * a : 0;
}

/* The row of weights over the input for output o; false: extrapolate. As ONNX's text has it: the neighbour to the left of x is nearer than
 * or as near as 1, so an x on an element is its own right neighbour. */
static bool weights(const Case *c, int d, int o, double *w) {
  double x = coordinate(c, d, o), left = ceil(x) - 1, ratio = x - left, scale = c->antialias && c->scale[d] < 1 ? c->scale[d] : 1, sum = 0;
  int n = c->in[d], taps, first;
  double coeff[512];
  for (int i = 0; i < n; i++) w[i] = 0;
  if (c->coord == 5 && (x < 0 || x > n - 1)) return false;
  if (c->mode == 0) {
    static const bool up_tie[] = {false, true};
    bool right = ratio == 1 || (c->round == 2 ? false : c->round == 3 ? true : up_tie[c->round] ? ratio >= 0.5 : ratio > 0.5);
    double at = left + right;
    w[at < 0 ? 0 : at > n - 1 ? n - 1 : (int)at] = 1;
    return true;
  }
  int reach = c->mode == 2 ? 2 : 1;
  first = (int)floor(-reach / scale) + 1;
  taps = 2 - 2 * first;
  for (int i = 0; i < taps; i++) {
    double t = (first + i - ratio) * scale;
    coeff[i] = c->mode == 2 ? keys(t, c->a) : fabs(t) < 1 ? 1 - fabs(t) : 0;
    double at = left + first + i;
    if (c->exclude && (at < 0 || at > n - 1)) coeff[i] = 0;
    sum += coeff[i];
  }
  for (int i = 0; i < taps; i++) {
    double at = left + first + i;
    w[at < 0 ? 0 : at > n - 1 ? n - 1 : (int)at] += coeff[i] / sum;
  }
  return true;
}

/* Resizes axis d of x (extents e, changed) into a new array; marks what is extrapolated with NaN. */
static double *resize_axis_of(const Case *c, int d, double *x, int *e) {
  int outer = 1, inner = 1, n = e[d], m = c->out[d];
  for (int i = 0; i < d; i++) outer *= e[i];
  for (int i = d + 1; i < c->rank; i++) inner *= e[i];
  double *y = calloc((size_t)(outer * m * inner) + 1, 8), *w = malloc((size_t)n * 8);
  for (int o = 0; o < m; o++) {
    bool inside = weights(c, d, o, w);
    for (int a = 0; a < outer; a++)
      for (int b = 0; b < inner; b++) {
        double sum = 0;
        for (int i = 0; i < n; i++)
          if (w[i] != 0) sum += w[i] * x[(a * n + i) * inner + b];
        y[(a * m + o) * inner + b] = inside ? sum : NAN;
      }
  }
  e[d] = m;
  free(x), free(w);
  return y;
}

static char text[4000];
static int text_n;
static void add(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void add(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  text_n += vsnprintf(text + text_n, sizeof text - (size_t)text_n, fmt, ap);
  va_end(ap);
  assert_true((size_t)text_n < sizeof text);
}
static void add_type(const char *t, const int *d, int n, int block) {
  add("%s[", t);
  for (int i = 0; i < n; i++) add("%s%d", i ? "," : "", d[i]);
  add("]");
  if (block) add("{c%d}", block);
}

static void run_case(const Case *c, const char *type, int config) {
  int n = 1, m = 1, e[5];
  bool f64 = !strcmp(type, "f64"), u8 = !strcmp(type, "u8");
  for (int i = 0; i < c->rank; i++) n *= c->in[i], m *= c->out[i], e[i] = c->in[i];
  float *x = malloc((size_t)n * 4 + 4), *want = malloc((size_t)m * 4 + 4);
  double *xd = malloc((size_t)n * 8 + 8), *wantd = malloc((size_t)m * 8 + 8), *y = malloc((size_t)n * 8 + 8);
  uint8_t *xb = malloc((size_t)n + 1), *wantb = malloc((size_t)m + 1);
  op_fill_f32(x, n, 70);
  for (int i = 0; i < n; i++) xb[i] = (uint8_t)((x[i] + 2) * 60), xd[i] = y[i] = u8 ? xb[i] : x[i];
  for (int d = 0; d < c->rank; d++) y = resize_axis_of(c, d, y, e);
  for (int i = 0; i < m; i++) {
    double v = isnan(y[i]) ? c->extrapolation : y[i];
    if (c->body) v = -v;
    want[i] = (float)v;
    wantd[i] = v;
    wantb[i] = (uint8_t)(v + 1e-4);
  }
  text_n = 0;
  add("graph \"t\" { input %%x: ");
  add_type(type, c->in, c->rank, 0);
  if (c->block) {
    add(" %%xb: ");
    add_type(type, c->in, c->rank, c->block);
    add(" = Reorder(%%x)");
  }
  add(" %%y: ");
  add_type(type, c->out, c->rank, c->block_out);
  add(" = Resize(%s) {sizes=[", c->block ? "%xb" : "%x");
  for (int i = 0; i < c->rank; i++) add("%s%d", i ? "," : "", c->out[i]);
  add("], scales=[");
  for (int i = 0; i < c->rank; i++) add("%s%.17g", i ? "," : "", c->scale[i]);
  add("], roi=[");
  for (int i = 0; c->coord == 5 && i < 2 * c->rank; i++) add("%s%.17g", i ? "," : "", c->roi[i]);
  add("], mode=%s, coord=%s, nearest=%s, cubic_a=%g, extrapolation=%g, exclude_outside=%s, antialias=%s}", modes[c->mode], coords[c->coord],
      rounds[c->round], c->a, c->extrapolation, c->exclude ? "true" : "false", c->antialias ? "true" : "false");
  if (c->body) add(" body { %%0 = Neg(acc) }");
  if (c->block_out) {
    add(" %%z: ");
    add_type(type, c->out, c->rank, 0);
    add(" = Reorder(%%y) output %%z }");
  } else {
    add(" output %%y }");
  }
  op_run(text, &op_configs[config], (const void *[]){f64 ? (const void *)xd : u8 ? (const void *)xb : x},
         (const void *[]){f64 ? (const void *)wantd : u8 ? (const void *)wantb : want}, f64 ? 1e-12 : 5e-6);
  free(x), free(want), free(xd), free(wantd), free(xb), free(wantb), free(y);
}

static void random_case(Case *c) {
  static const double scales[] = {2, 3, 0.5, 0.25, 1.5, 0.6, 1, 2.5, 0.3, 1.0 / 3};
  static const int blocks[] = {0, 0, 4, 8, 16};
  *c = (Case){.rank = pick(0, 4) ? 4 : pick(1, 5), .mode = pick(0, 2), .coord = pick(0, 5), .round = pick(0, 3),
              .a = pick(0, 1) ? -0.75 : -0.5,
              .extrapolation = pick(0, 1) ? 0 : 7.5, .exclude = pick(0, 1), .antialias = pick(0, 1), .body = !pick(0, 3)};
  if (c->mode == 0) c->antialias = false;
  if (c->rank >= 3) c->block = blocks[pick(0, 4)];
  if (c->rank >= 3) c->block_out = pick(0, 2) ? c->block : blocks[pick(0, 4)];
  for (int d = 0; d < c->rank; d++) {
    c->in[d] = pick(1, d == 1 ? 9 : 8);
    c->scale[d] = d < 2 && (c->rank > 2 || c->block) && pick(0, 9) ? 1 : scales[pick(0, COUNTOF(scales) - 1)];
    if (d == 1 && c->block) c->scale[d] = 1;
    c->out[d] = (int)(c->in[d] * c->scale[d] + 1e-9);
    if (c->out[d] < 1 || !pick(0, 3)) {   /* as given by sizes */
      c->out[d] = d == 1 && c->block ? c->in[d] : pick(1, 14);
      c->scale[d] = (double)c->out[d] / c->in[d];
    }
    c->roi[d] = d < 2 ? 0 : pick(-2, 4) * 0.125;
    c->roi[c->rank + d] = d < 2 ? 1 : pick(3, 10) * 0.125;
  }
  if (c->coord == 3)   /* a size within 1 of 1, but not 1, scales without bound */
    for (int d = 0; d < c->rank; d++)
      if (fabs(c->scale[d] * c->in[d] - 1) < 0.3 && c->scale[d] * c->in[d] != 1) c->coord = 4;
  if (c->coord == 5)
    for (int d = 0; d < c->rank; d++)
      if (fabs(c->scale[d] * c->in[d] - 1) < 0.3 && c->scale[d] * c->in[d] != 1) c->coord = 4;
}

static void sweep(void **state) {
  (void)state;
  static const char *const types[] = {"f32", "f32", "f32", "f32", "f64", "u8"};
  seed = 41;
  for (int i = 0; i < 4000; i++) {
    Case c;
    random_case(&c);
    const char *type = types[pick(0, COUNTOF(types) - 1)];
    if (!strcmp(type, "u8")) {   /* results within 0..255, not at the edge between two integers */
      c.body = false;
      if (c.mode == 2) c.mode = 0, c.antialias = false;
    }
    run_case(&c, type, i % COUNTOF(op_configs));
  }
}

static void factors(void **state) {
  (void)state;
  for (int f = 1; f <= 4; f++)
    for (int block = 0; block <= 8; block += 8) {
      Case c = {.rank = 4, .in = {1, 9, 5, 7}, .out = {1, 9, 5 * f, 7 * f}, .scale = {1, 1, f, f}, .coord = 4, .round = 2, .block = block,
                .block_out = block};
      for (int i = 0; i < COUNTOF(op_configs); i++) run_case(&c, "f32", i);
      c.mode = 1;
      for (int i = 0; i < COUNTOF(op_configs); i++) run_case(&c, "f32", i);
    }
}

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

/* Nearest elements by integers, where the scale is the quotient of the extents, or the f32 next to it, as exporters write it. */
static void quotients(void **state) {
  (void)state;
  Arena *arena = arena_new(NULL);
  for (int64_t in = 1; in <= 64; in++)
    for (int64_t out = 1; out <= 160; out++)
      for (int i = 0; i < 4; i++) {
        double exact = (double)out / (double)in, scale = i & 1 ? (double)(float)exact : exact;
        ResizeAttr a = {.mode = RESIZE_NEAREST, .coord = i & 2 ? COORD_HALF_PIXEL : COORD_ASYMMETRIC,
                        .nearest = i & 2 ? NEAREST_ROUND_PREFER_CEIL : NEAREST_FLOOR, .scales = {&scale, 1}};
        ArenaMark mark = arena_mark(arena);
        ResizeAxis r;
        resize_axis(arena, &a, 0, 1, in, out, &r);
        for (int64_t o = 0; o < out; o++) assert_int_equal(r.first[o], i & 2 ? floor_div((2 * o + 1) * in, 2 * out) : o * in / out);
        arena_release(arena, mark);
      }
  arena_free(arena);
}

static void refused(void **state) {
  (void)state;
  const char *f = "graph \"t\" { input %%x: f32[1,4] %%y = Resize(%%x) {sizes=[%s], scales=[%s], roi=[], mode=linear, coord=%s} output %%y "
                  "}";
  op_refuse(op_text(f, "1", "1,2", "asymmetric"), "sizes has 1 entries, expected 2");
  op_refuse(op_text(f, "1,8", "1", "asymmetric"), "scales has 1 entries");
  op_refuse(op_text(f, "1,8", "1,-2", "asymmetric"), "expected a positive number");
  op_refuse(op_text(f, "1,8", "1,nan", "asymmetric"), "expected a positive number");
  op_refuse(op_text(f, "1,8", "1,2", "tf_crop_and_resize"), "roi has 0 entries");
  op_refuse("graph \"t\" { input %x: f32[1,4] %y = Resize(%x) {sizes=[1,9], scales=[1,1e-30], mode=linear, antialias=true} output %y }",
            "too far from 1");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(sweep), cmocka_unit_test(factors), cmocka_unit_test(quotients), cmocka_unit_test(refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
