/* The rounding error that Winograd convolution brings, against sums in double: inputs N(0,1), weights N(0, 1/fan-in), error as a share of the
 * largest result. The bounds are those the documentation states; the direct schedule, measured the same way, shows what float32 costs. */
#include "backend/backend.h"
#include "passes/passes.h"
#include "runtime/runtime.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { H = 31, W = 33, K = 32, MOST = 128 * H * W };

typedef struct Layer { int c; float *x, *w; } Layer;

static Value *weights(Graph *g, int64_t k, int64_t c, int64_t side, const float *w) {
  Shape s = shape_of(4, (int64_t[]){k, c, side, side});
  return graph_add_const(g, NULL, DT_F32, &s, (void *)(uintptr_t)w);
}

static Value *conv(Graph *g, Value *x, Value *w, int64_t pad) {
  ConvAttr a = {.strides = ints_fill(g->arena, 1, 2), .pads = ints_fill(g->arena, pad, 4), .dilations = ints_fill(g->arena, 1, 2), .group = 1};
  return graph_make(g, NULL, OP_Conv, &a, (Value *[]){x, w}, 2)->out[0];
}

/* An identity convolution in front makes the input come in blocks, exactly. */
static void run(const Layer *l, int winograd, float *out) {
  Fail fail;
  Diag *d = spinec_diagnostics_new();
  if (!FAIL_ARM(&fail, d)) fail_msg("left through Fail: %s", spinec_diagnostics_text(d, 0));
  Arena *a = arena_new(&fail);
  Graph *g = graph_new(a, d, "test");
  Shape s = shape_of(4, (int64_t[]){1, l->c, H, W});
  float *one = NEW_N(a, float, (size_t)l->c * (size_t)l->c);
  for (int i = 0; i < l->c; i++) one[i * l->c + i] = 1;
  Value *x = conv(g, graph_add_input(g, "x", DT_F32, &s), weights(g, l->c, l->c, 1, one), 0);
  graph_add_output(g, conv(g, x, weights(g, K, l->c, 3, l->w), 1));
  spinec_compile_options o = spinec_compile_options_default();
  o.winograd = winograd;
  Ctx ctx = {.arena = a, .diag = d, .target = target_find("x86-64-v3"), .opt = &o, .eval = interp_eval};
  bool stopped = false, used = false;
  Program *p = passes_run(g, &ctx, &stopped);
  assert_non_null(p);
  for (int i = 0; i < p->calls.n; i++) used |= strstr(p->calls.at[i].kernel->what, "winograd") != NULL;
  assert_true(used == (winograd > 0));
  assert_int_equal(interp_eval(p, (const void *const[]){l->x}, (void *const[]){out}, d), SPINEC_OK);
  arena_free(a);
  spinec_diagnostics_free(d);
}

static double exact(const Layer *l, int k, int y, int x) {
  double sum = 0;
  for (int c = 0; c < l->c; c++)
    for (int i = 0; i < 3; i++)
      for (int j = 0; j < 3; j++) {
        int iy = y + i - 1, ix = x + j - 1;
        if (iy < 0 || iy >= H || ix < 0 || ix >= W) continue;
        sum += (double)l->x[(c * H + iy) * W + ix] * (double)l->w[((k * l->c + c) * 3 + i) * 3 + j];
      }
  return sum;
}

static double error_of(const Layer *l, int winograd, const double *want, double top) {
  static float got[K * H * W];
  double worst = 0;
  run(l, winograd, got);
  for (int i = 0; i < K * H * W; i++) worst = fmax(worst, fabs((double)got[i] - want[i]));
  return worst / top;
}

static void stated_errors(void **state) {
  (void)state;
  static const struct { int m; double bound; } stated[] = {{0, 2e-6}, {2, 1e-6}, {4, 2e-5}, {5, 2.5e-5}, {6, 4e-5}};
  static const int channels[] = {16, 41, 128};
  static float x[MOST], w[K * 128 * 9];
  static double want[K * H * W];
  Rng r = rng_new(3);
  for (size_t c = 0; c < COUNTOF(channels); c++) {
    Layer l = {channels[c], x, w};
    double top = 0;
    for (int i = 0; i < l.c * H * W; i++) x[i] = (float)rng_normal(&r);
    for (int i = 0; i < K * l.c * 9; i++) w[i] = (float)(rng_normal(&r) / sqrt(9.0 * l.c));
    for (int i = 0; i < K * H * W; i++) {
      want[i] = exact(&l, i / (H * W), i / W % H, i % W);
      top = fmax(top, fabs(want[i]));
    }
    for (size_t i = 0; i < COUNTOF(stated); i++) {
      double e = error_of(&l, stated[i].m, want, top);
      print_message("%3d channels, F(%d,3): %.1e\n", l.c, stated[i].m, e);
      assert_true(e <= stated[i].bound);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(stated_errors)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
