/* Every convolution schedule against the plain lowering, both run by the interpreter, over a seeded sweep of shapes: channels odd and even,
 * strides, dilations, asymmetric pads, groups, depthwise, batches, bodies, gates, vector widths, thread counts and Winograd tile sizes. Counters make sure
 * that the sweep reaches every schedule. */
#include "backend/backend.h"
#include "passes/passes.h"
#include "runtime/runtime.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct Case {
  int64_t n, c, h, w, k, kh, kw, sh, sw, dh, dw, pad[4], group, pad_out[2];
  bool transposed, bias, scale, residual, broadcast, plain_in, second, gate;
  int lanes, vregs, threads, winograd, body, move;
} Case;

static const char *describe(const Case *c) {
  static char s[300];
  snprintf(s, sizeof s, "n%d c%d %dx%d k%d %dx%d s%dx%d d%dx%d pads %d,%d,%d,%d groups %d%s%s%s%s%s body %d move %d lanes %d vregs %d threads %d winograd %d", (int)c->n, (int)c->c,
           (int)c->h, (int)c->w, (int)c->k, (int)c->kh, (int)c->kw, (int)c->sh, (int)c->sw, (int)c->dh, (int)c->dw, (int)c->pad[0], (int)c->pad[1],
           (int)c->pad[2], (int)c->pad[3], (int)c->group, c->transposed ? " transposed" : "", c->bias ? " bias" : "", c->scale ? " scale" : "", c->residual ? " residual" : "",
           c->gate ? " gate" : c->broadcast ? " broadcast" : "", c->body, c->move, c->lanes, c->vregs, c->threads, c->winograd);
  return s;
}

static Value *random_const(Graph *g, Rng *r, int rank, const int64_t *dims, double gain) {
  Shape s = shape_of(rank, dims);
  int64_t n = shape_count(&s);
  float *d = NEW_N(g->arena, float, n + 1);
  for (int64_t i = 0; i < n; i++) d[i] = (float)(rng_normal(r) * gain);
  return graph_add_const(g, NULL, DT_F32, &s, d);
}

/* What moves channels behind a convolution: shuffles, and concatenation and slices at any channel. A convolution reads the result, so that
 * it stays blocked. */
static Value *move_channels(Graph *g, Rng *r, const Case *c, Value *conv, Value *y) {
  int64_t k = y->shape.d[1].n;
  if (c->move < 1 || c->move > 3) return y;
  if (c->move == 1) {
    Value *in[3] = {y, conv, y};
    y = graph_make(g, NULL, OP_Concat, &(AxisAttr){.axis = 1}, in, 3)->out[0];
  } else if (c->move == 2) {
    int64_t first = rng_below(r, k), *starts = NEW_N(g->arena, int64_t, 4), *steps = NEW_N(g->arena, int64_t, 4), *sizes = NEW_N(g->arena, int64_t, 4);
    for (int i = 0; i < 4; i++) starts[i] = 0, steps[i] = 1, sizes[i] = y->shape.d[i].n;
    starts[1] = first;
    sizes[1] = k - first;
    SliceAttr at = {.starts = {starts, 4}, .steps = {steps, 4}, .sizes = {sizes, 4}};
    y = graph_make(g, NULL, OP_Slice, &at, &y, 1)->out[0];
  } else {
    int64_t groups = 1, *split = NEW_N(g->arena, int64_t, 5), *perm = NEW_N(g->arena, int64_t, 5), *join = NEW_N(g->arena, int64_t, 4);
    for (int64_t d = 2; d <= 4; d++)
      if (k % d == 0) groups = d;
    for (int i = 0; i < 5; i++) split[i] = i < 3 ? 0 : y->shape.d[i - 1].n, perm[i] = i == 1 ? 2 : i == 2 ? 1 : i;
    for (int i = 0; i < 4; i++) join[i] = y->shape.d[i].n;
    split[0] = join[0], split[1] = groups, split[2] = k / groups;
    y = graph_make(g, NULL, OP_Reshape, &(ShapeAttr){.shape = {split, 5}}, &y, 1)->out[0];
    y = graph_make(g, NULL, OP_Transpose, &(PermAttr){.perm = {perm, 5}}, &y, 1)->out[0];
    y = graph_make(g, NULL, OP_Reshape, &(ShapeAttr){.shape = {join, 4}}, &y, 1)->out[0];
  }
  ConvAttr one = {.strides = ints_fill(g->arena, 1, 2), .pads = ints_fill(g->arena, 0, 4), .dilations = ints_fill(g->arena, 1, 2), .group = 1};
  Value *w = random_const(g, r, 4, (int64_t[]){9, y->shape.d[1].n, 1, 1}, 1 / sqrt((double)y->shape.d[1].n));
  return graph_make(g, NULL, OP_Conv, &one, (Value *[]){y, w}, 2)->out[0];
}

/* Squeeze and excite: every channel times a number made from its mean; a 1x1 convolution reads the product. */
static Value *gate_channels(Graph *g, Rng *r, Value *y) {
  ConvAttr one = {.strides = ints_fill(g->arena, 1, 2), .pads = ints_fill(g->arena, 0, 4), .dilations = ints_fill(g->arena, 1, 2), .group = 1};
  int64_t k = y->shape.d[1].n, out = 1 + rng_below(r, 60);
  Value *w = random_const(g, r, 4, (int64_t[]){k, k, 1, 1}, 1), *v = random_const(g, r, 4, (int64_t[]){out, k, 1, 1}, 1 / sqrt((double)k));
  Value *m = graph_make(g, NULL, OP_ReduceMean, &(ReduceAttr){.axes = ints_copy(g->arena, (int64_t[]){2, 3}, 2), .keepdims = true}, &y, 1)->out[0];
  m = graph_make(g, NULL, OP_Conv, &one, (Value *[]){m, w}, 2)->out[0];
  m = graph_make(g, NULL, OP_Sigmoid, NULL, &m, 1)->out[0];
  y = graph_make(g, NULL, OP_Mul, NULL, (Value *[]){y, m}, 2)->out[0];
  return graph_make(g, NULL, OP_Conv, &one, (Value *[]){y, v}, 2)->out[0];
}

/* input -> Relu (so that the layout pass has a blocked producer to follow) ... conv -> body -> output */
static Graph *build(Arena *a, Diag *d, const Case *c, uint64_t seed) {
  Rng r = rng_new(seed);
  Graph *g = graph_new(a, d, "test");
  Shape xs = shape_of(4, (int64_t[]){c->n, c->c, c->h, c->w});
  Value *x = graph_add_input(g, "x", DT_F32, &xs);
  int64_t cw = c->c / c->group;
  if (!c->plain_in) {
    /* A 1x1 convolution gives the one under test a blocked operand. */
    ConvAttr one = {.strides = ints_fill(a, 1, 2), .pads = ints_fill(a, 0, 4), .dilations = ints_fill(a, 1, 2), .group = 1};
    Value *w1 = random_const(g, &r, 4, (int64_t[]){c->c, c->c, 1, 1}, 1 / sqrt((double)c->c));
    Node *n1 = graph_make(g, NULL, OP_Conv, &one, (Value *[]){x, w1}, 2);
    x = n1->out[0];
  }
  ConvAttr at = {.strides = ints_copy(a, (int64_t[]){c->sh, c->sw}, 2), .pads = ints_copy(a, c->pad, 4), .dilations = ints_copy(a, (int64_t[]){c->dh, c->dw}, 2),
                 .group = c->group};
  Value *w = random_const(g, &r, 4, (int64_t[]){c->k, cw, c->kh, c->kw}, 1 / sqrt((double)(cw * c->kh * c->kw)));
  ConvTransposeAttr tr = {.strides = at.strides, .pads = at.pads, .dilations = at.dilations, .group = c->group, .output_padding = ints_copy(a, c->pad_out, 2)};
  if (c->transposed) w = random_const(g, &r, 4, (int64_t[]){c->c, c->k / c->group, c->kh, c->kw}, 1 / sqrt((double)(cw * c->kh * c->kw)));
  Op op = c->transposed ? OP_ConvTranspose : OP_Conv;
  const void *attr = c->transposed ? (const void *)&tr : &at;
  Value *in[4] = {x, w, c->bias ? random_const(g, &r, 1, &c->k, 1) : NULL, c->scale ? random_const(g, &r, 1, &c->k, 1) : NULL};
  Node *conv = graph_make(g, NULL, op, attr, in, 4);
  if (!conv) return NULL;
  Value *y = conv->out[0];
  if (c->second) {   /* shares the weights with another scale */
    in[3] = random_const(g, &r, 1, &c->k, 1);
    Node *other = graph_make(g, NULL, op, attr, in, 4);
    y = graph_make(g, NULL, OP_Add, NULL, (Value *[]){y, other->out[0]}, 2)->out[0];
  }
  if (c->residual) {
    Shape ys = y->shape;
    Value *res = graph_add_input(g, "res", DT_F32, &ys);
    y = graph_make(g, NULL, OP_Add, NULL, (Value *[]){y, res}, 2)->out[0];
  }
  if (c->broadcast) y = graph_make(g, NULL, OP_Mul, NULL, (Value *[]){y, random_const(g, &r, 3, (int64_t[]){c->k, 1, 1}, 1)}, 2)->out[0];
  if (c->body == 1) y = graph_make(g, NULL, OP_Relu, NULL, &y, 1)->out[0];
  if (c->body == 2) {
    Node *sig = graph_make(g, NULL, OP_Sigmoid, NULL, &y, 1);
    y = graph_make(g, NULL, OP_Mul, NULL, (Value *[]){y, sig->out[0]}, 2)->out[0];
  }
  if (c->body == 3) y = graph_make(g, NULL, OP_LeakyRelu, &(AlphaAttr){.alpha = 0.1}, &y, 1)->out[0];
  if (c->gate) y = gate_channels(g, &r, y);
  else y = move_channels(g, &r, c, conv->out[0], y);
  graph_add_output(g, y);
  return g;
}

static int64_t reached[9];   /* conv_depthwise, winograd, direct, plain, direct in groups, winograd in groups, transposed, gated, depthwise with means */

static const char *const movers[] = {"Concat", "Slice", "Gather"};
static int64_t moved[3];

static void count_schedules(const Program *p) {
  for (int i = 0; i < p->calls.n; i++) {
    const Kernel *kernel = p->calls.at[i].kernel;
    const char *w = kernel->what;
    int outs = 0;
    for (int k = 0; k < kernel->params.n; k++) {
      reached[7] += !strncmp(kernel->params.at[k]->name, "gw", 2);
      outs += kernel->params.at[k]->access == ACCESS_OUT;
    }
    reached[8] += !strncmp(w, "depthwise", 9) && outs == 2;
    for (int k = 0; k < 3; k++) moved[k] += !strncmp(w, movers[k], strlen(movers[k])) && strstr(w, " channels of ");
    if (!strncmp(w, "depthwise", 9)) reached[0]++;
    else if (!strncmp(w, "conv_transposed", 15)) reached[6]++;
    else if (strstr(w, "winograd")) reached[strstr(w, " groups") ? 5 : 1]++;
    else if (!strncmp(w, "conv", 4) && strstr(w, "tile") && strstr(w, " groups")) reached[4]++;
    else if (!strncmp(w, "conv", 4) && strstr(w, "tile")) reached[2]++;
    else if (!strncmp(w, "conv", 4)) reached[3]++;
  }
}

static void run(const Case *c, uint64_t seed, int level, const float *const in[2], float *out, int64_t *count) {
  Fail fail;
  Diag *d = spinec_diagnostics_new();
  if (!FAIL_ARM(&fail, d)) fail_msg("%s: left through Fail: %s", describe(c), spinec_diagnostics_text(d, 0));
  Arena *a = arena_new(&fail);
  Graph *g = build(a, d, c, seed);
  if (!g) fail_msg("%s: %s", describe(c), spinec_diagnostics_text(d, 0));
  Target t = *target_find("x86-64-v4");
  t.lanes = c->lanes;
  t.vregs = c->vregs;
  t.l2 = 64 << 10;   /* small, so that strips are many */
  spinec_compile_options o = spinec_compile_options_default();
  o.opt_level = level;
  o.winograd = c->winograd;
  o.max_threads = c->threads;
  Ctx ctx = {.arena = a, .diag = d, .target = &t, .opt = &o, .eval = interp_eval};
  bool stopped = false;
  Program *p = passes_run(g, &ctx, &stopped);
  if (!p) fail_msg("%s: %s", describe(c), spinec_diagnostics_text(d, 0));
  const char *wrong = program_verify(p, a);
  if (wrong) fail_msg("%s: %s", describe(c), wrong);
  if (level) count_schedules(p);
  *count = shape_count(&p->outputs.at[0].shape);
  Runner *runner = interp_open(p, c->threads, d);
  if (!runner || runner->run(runner, (const void *const *)in, (void *const[]){out}, d)) fail_msg("%s: %s", describe(c), spinec_diagnostics_text(d, 0));
  runner->close(runner);
  arena_free(a);
  spinec_diagnostics_free(d);
}

static void check(const Case *c, uint64_t seed) {
  enum { MOST = 1 << 20 };
  static float x[MOST], res[MOST], want[MOST], got[MOST];
  spinec_tensor t = {.dtype = SPINEC_F32, .rank = 1, .dims = {MOST / 4}, .data = x};
  random_fill(&t, seed);
  t.data = res;
  random_fill(&t, seed + 1);
  const float *in[2] = {x, res};
  int64_t n, m;
  run(c, seed, 0, in, want, &n);
  run(c, seed, 2, in, got, &m);
  assert_int_equal(n, m);
  double top = 0, worst = 0;
  for (int64_t i = 0; i < n; i++) {
    top = fmax(top, fabs(want[i]));
    worst = fmax(worst, isfinite(got[i]) ? fabs((double)got[i] - want[i]) : INFINITY);
  }
  if (!(worst <= 1e-4 * top + 1e-6)) fail_msg("%s: error %g of %g", describe(c), worst, top);
}

static int64_t pick(Rng *r, int64_t lo, int64_t hi) { return lo + rng_below(r, hi - lo + 1); }

typedef enum { DIRECT, WINOGRAD, DEPTHWISE, GROUPS, WINOGRAD_GROUPS, TRANSPOSED } Kind;

static void sweep(uint64_t seed, int cases, Kind kind) {
  bool winograd = kind == WINOGRAD || kind == WINOGRAD_GROUPS, depthwise = kind == DEPTHWISE, groups = kind == GROUPS || kind == WINOGRAD_GROUPS;
  static const int lanes[] = {4, 8, 16}, vregs[] = {16, 32};
  Rng r = rng_new(seed);
  for (int i = 0; i < cases; i++) {
    Case c = {.n = pick(&r, 1, 3), .c = pick(&r, 1, 40), .h = pick(&r, 1, 19), .w = pick(&r, 1, 19), .k = pick(&r, 1, 67), .kh = pick(&r, 1, 4),
              .kw = pick(&r, 1, 4), .sh = pick(&r, 1, 3), .sw = pick(&r, 1, 3), .dh = pick(&r, 1, 2), .dw = pick(&r, 1, 2),
              .bias = rng_below(&r, 2), .scale = rng_below(&r, 2), .residual = rng_below(&r, 2), .broadcast = rng_below(&r, 4) == 0,
              .plain_in = rng_below(&r, 4) == 0, .second = rng_below(&r, 8) == 0, .lanes = lanes[rng_below(&r, 3)], .vregs = vregs[rng_below(&r, 2)],
              .threads = (int)pick(&r, 1, 3), .winograd = 0, .body = (int)pick(&r, 0, 3), .move = (int)pick(&r, 0, 7), .group = 1};
    for (int k = 0; k < 4; k++) c.pad[k] = pick(&r, 0, 2);
    if (rng_below(&r, 3) == 0) c.kh = c.kw = 1, c.sh = c.sw = 1, c.pad[0] = c.pad[1] = c.pad[2] = c.pad[3] = 0;
    if (winograd) {
      static const int tiles[] = {2, 4, 5, 6, -1};
      c.kh = c.kw = 3, c.sh = c.sw = c.dh = c.dw = 1, c.plain_in = false;
      c.winograd = tiles[rng_below(&r, 5)];
    }
    if (depthwise) {
      c.k = c.c = c.group = pick(&r, 2, 40), c.plain_in = false;
      if (rng_below(&r, 2)) c.kh = c.kw = 3;
    }
    if (groups) {
      c.group = pick(&r, 2, 5);
      c.c = c.group * (winograd ? c.lanes * pick(&r, 1, 2) : pick(&r, 1, 20));
      c.k = c.group * (winograd ? c.lanes * pick(&r, 1, 3) : pick(&r, 1, 24));
    }
    if (kind == TRANSPOSED) {
      c.transposed = true;
      c.h = pick(&r, 1, 9), c.w = pick(&r, 1, 9), c.k = pick(&r, 1, 40);
      for (int k = 0; k < 2; k++) c.pad_out[k] = rng_below(&r, 3) == 0;
      if (rng_below(&r, 4)) c.kh = MAXI(c.kh, c.sh), c.kw = MAXI(c.kw, c.sw), c.dh = c.dw = 1;
      for (int k = 0; k < 4; k++) c.pad[k] = pick(&r, -1, 2);
      if (rng_below(&r, 5) == 0) c.c = c.k = c.group = pick(&r, 2, 20);
      int64_t oh = (c.h - 1) * c.sh + (c.kh - 1) * c.dh + 1 + c.pad_out[0] - c.pad[0] - c.pad[2];
      int64_t ow = (c.w - 1) * c.sw + (c.kw - 1) * c.dw + 1 + c.pad_out[1] - c.pad[1] - c.pad[3];
      if (oh >= 1 && ow >= 1) check(&c, seed * 1000 + (uint64_t)i);
      else i--;
      continue;
    }
    c.gate = i % 4 == 0;
    if (c.h + c.pad[0] + c.pad[2] < (c.kh - 1) * c.dh + 1 || c.w + c.pad[1] + c.pad[3] < (c.kw - 1) * c.dw + 1) {
      i--;
      continue;
    }
    check(&c, seed * 1000 + (uint64_t)i);
  }
}

static void test_direct(void **state) { (void)state; sweep(1, 250, DIRECT); assert_true(reached[2] > 100); for (int i = 0; i < 3; i++) assert_true(moved[i] > 10); }
static void test_winograd(void **state) { (void)state; sweep(2, 150, WINOGRAD); assert_true(reached[1] > 100); }
static void test_depthwise(void **state) { (void)state; sweep(3, 120, DEPTHWISE); assert_true(reached[0] > 100 && reached[7] > 50 && reached[8] > 5); }
static void test_groups(void **state) { (void)state; sweep(4, 200, GROUPS); assert_true(reached[4] > 100); sweep(5, 60, WINOGRAD_GROUPS); assert_true(reached[5] > 30); }
static void test_transposed(void **state) { (void)state; sweep(6, 200, TRANSPOSED); assert_true(reached[6] > 100); }

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_direct), cmocka_unit_test(test_winograd), cmocka_unit_test(test_depthwise), cmocka_unit_test(test_groups),
                                     cmocka_unit_test(test_transposed)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
