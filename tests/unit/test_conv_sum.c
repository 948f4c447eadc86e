/* Sums of 1x1 convolutions: merged and in register tiles against apart and plain, both run by the interpreter, over a seeded sweep of
 * sources, channels, strides, sizes, layouts, further summands, bodies, vector widths and threads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "compiled.h"

enum { SOURCES = 5, MOST = 1 << 17 };

typedef struct Case {
  int64_t n, k, h, w, c[SOURCES], sh[SOURCES], sw[SOURCES], over[SOURCES];   /* over: rows and columns no stride reaches */
  int sources, lanes, vregs, threads, l2;
  bool bias[SOURCES], scale[SOURCES], plain[SOURCES], residual, up, broadcast, relu, out_too;
} Case;

static const char *describe(const Case *c) {
  static char s[600];
  int at = snprintf(s, sizeof s, "n%d k%d %dx%d%s%s%s%s lanes %d vregs %d threads %d l2 %d:", (int)c->n, (int)c->k, (int)c->h,
                    (int)c->w, c->residual ? " residual" : "", c->up ? " up" : "", c->broadcast ? " broadcast" : "", c->relu ? " relu" : "",
                    c->lanes, c->vregs, c->threads, c->l2);
  for (int i = 0; i < c->sources; i++)
    at += snprintf(s + at, sizeof s - (size_t)at, " [c%d s%dx%d+%d%s%s%s]", (int)c->c[i], (int)c->sh[i], (int)c->sw[i], (int)c->over[i],
                   c->bias[i] ? " bias" : "", c->scale[i] ? " scale" : "", c->plain[i] ? " plain" : "");
  return s;
}

static Value *conv(Graph *g, Rng *r, Value *x, int64_t k, int64_t sh, int64_t sw, bool bias, bool scale) {
  ConvAttr a = {.strides = ints_copy(g->arena, (int64_t[]){sh, sw}, 2), .pads = ints_fill(g->arena, 0, 4),
                .dilations = ints_fill(g->arena, 1, 2), .group = 1};
  int64_t c = x->shape.d[1].n;
  Value *w = test_const(g, r, 4, (int64_t[]){k, c, 1, 1}, 1 / sqrt((double)c));
  Value *in[4] = {x, w, bias ? test_const(g, r, 1, &k, 1) : NULL, scale ? test_const(g, r, 1, &k, 1) : NULL};
  return graph_make(g, NULL, OP_Conv, &a, in, 4)->out[0];
}

static Value *input(Graph *g, int64_t n, int64_t c, int64_t h, int64_t w) {
  Shape s = shape_of(4, (int64_t[]){n, c, h, w});
  return graph_add_input(g, arena_printf(g->arena, "x%d", g->inputs.n), DT_F32, &s);
}

static Value *add(Graph *g, Value *a, Value *b) { return graph_make(g, NULL, OP_Add, NULL, (Value *[]){a, b}, 2)->out[0]; }

static Graph *build(Arena *a, Diag *d, const void *of, uint64_t seed) {
  const Case *c = of;
  Rng r = rng_new(seed);
  Graph *g = graph_new(a, d, "test");
  Value *y = NULL, *part;
  for (int i = 0; i < c->sources; i++) {
    int64_t sh = c->sh[i], sw = c->sw[i];
    Value *x = input(g, c->n, c->c[i], (c->h - 1) * sh + 1 + MINI(c->over[i], sh - 1), (c->w - 1) * sw + 1 + MINI(c->over[i], sw - 1));
    if (!c->plain[i]) x = conv(g, &r, x, c->c[i], 1, 1, false, false);   /* comes in blocks */
    part = conv(g, &r, x, c->k, sh, sw, c->bias[i], c->scale[i]);
    y = y ? add(g, y, part) : part;
    if (i == 0 && c->residual) y = add(g, input(g, c->n, c->k, c->h, c->w), y);
    if (i == 0 && c->broadcast) y = add(g, y, test_const(g, &r, 3, (int64_t[]){c->k, 1, 1}, 1));
  }
  if (c->up) {
    part = conv(g, &r, input(g, c->n, 5, c->h / 2, c->w / 2), c->k, 1, 1, false, false);
    ResizeAttr up = {.sizes = ints_copy(a, (int64_t[]){c->n, c->k, c->h, c->w}, 4), .mode = RESIZE_NEAREST, .coord = COORD_ASYMMETRIC,
                     .nearest = NEAREST_FLOOR, .scales = floats_copy(a, (double[]){1, 1, 2, 2}, 4)};
    y = add(g, y, graph_make(g, NULL, OP_Resize, &up, &part, 1)->out[0]);
  }
  if (c->relu) y = graph_make(g, NULL, OP_Relu, NULL, &y, 1)->out[0];
  ReduceAttr rows = {.axes = ints_copy(a, (int64_t[]){2}, 1), .keepdims = true};
  if (!c->out_too) y = graph_make(g, NULL, OP_ReduceMax, &rows, &y, 1)->out[0];   /* else it is PLAIN */
  graph_add_output(g, y);
  return g;
}

static int64_t sums, strided;

static int64_t run(const Case *c, uint64_t seed, int level, const float *x, float *out) {
  TestCompile o = {.level = level, .lanes = c->lanes, .vregs = c->vregs, .threads = c->threads, .l2 = c->l2};
  return test_run(build, c, seed, o, x, out, MOST, "conv1x1 sum", &sums, describe(c));
}

static Case random_case(Rng *r) {
  static const int lanes[] = {4, 8, 16}, vregs[] = {16, 32}, l2[] = {1, 1, 4096};
  Case c = {.n = test_pick(r, 1, 2), .k = test_pick(r, 1, 67), .h = 2 * test_pick(r, 1, 7), .w = 2 * test_pick(r, 1, 9), .sources = (int)test_pick(r, 2, SOURCES),
            .lanes = lanes[rng_below(r, 3)], .vregs = vregs[rng_below(r, 2)], .l2 = l2[rng_below(r, 3)], .threads = (int)test_pick(r, 1, 3),
            .residual = rng_below(r, 3) == 0, .up = rng_below(r, 3) == 0, .broadcast = rng_below(r, 4) == 0, .relu = rng_below(r, 2),
            .out_too = rng_below(r, 2)};
  bool strides = rng_below(r, 2);
  for (int i = 0; i < c.sources; i++) {
    c.c[i] = test_pick(r, 1, 24);
    c.sh[i] = strides ? test_pick(r, 1, 2) : 1;
    c.sw[i] = strides ? test_pick(r, 1, 2) : 1;
    c.over[i] = test_pick(r, 0, 1);
    c.bias[i] = rng_below(r, 2);
    c.scale[i] = rng_below(r, 2);
    c.plain[i] = rng_below(r, 4) == 0;
  }
  return c;
}

static void test_sweep(void **state) {
  (void)state;
  static float x[MOST], want[MOST], got[MOST];
  spinec_tensor t = {.dtype = SPINEC_F32, .rank = 1, .dims = {MOST}, .data = x};
  random_fill(&t, 1);
  Rng r = rng_new(7);
  for (int i = 0; i < 250; i++) {
    Case c = random_case(&r);
    int64_t before = sums, n = run(&c, (uint64_t)i, 0, x, want);
    assert_int_equal(sums, before);
    assert_int_equal(n, run(&c, (uint64_t)i, 2, x, got));
    for (int k = 0; k < c.sources && sums > before; k++) strided += c.sh[k] > 1;
    double error = test_error(want, got, n);
    if (!(error <= 2e-5)) fail_msg("%s: error %g", describe(&c), error);
  }
  assert_true(sums > 150 && strided > 50);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_sweep)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
