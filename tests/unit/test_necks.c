/* The rewrites for scale-permuted networks on other people's: FPN, BiFPN, HRNet's exchange, the neck of a YOLO, a squeeze-and-excite block.
 * Each is built as exporters write it, compiled, and compared with its plain lowering; then it is counted what is left: nothing enlarged is
 * stored, no addition or activation has a kernel of its own, and the rewrites have said that they applied. */
#include "backend/backend.h"
#include "passes/passes.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- networks as text ---- */

static uint32_t weights;   /* constants so far */

static void conv(Text *t, const char *y, const char *x, int in, int out, int kernel, int stride, int group) {
  int pad = kernel / 2, w = (int)weights++;
  text_addf(t, "  const %%w%d: f32[%d,%d,%d,%d] = opaque 0x%x\n", w, out, in / group, kernel, kernel, w + 1);
  text_addf(t, "  const %%b%d: f32[%d] = opaque 0x%x\n", w, out, w + 77);
  text_addf(t, "  const %%s%d: f32[%d] = splat %.3g\n", w, out, sqrt(3.0 * group / (in * kernel * kernel)));
  text_addf(t, "  %%%s = Conv(%%%s, %%w%d, %%b%d, %%s%d) {strides=[%d,%d], pads=[%d,%d,%d,%d], dilations=[1,1], group=%d}\n", y, x, w, w, w, stride, stride,
            pad, pad, pad, pad, group);
}

static void up(Text *t, const char *y, const char *x, int c, int size, int factor) {
  text_addf(t, "  %%%s = Resize(%%%s) {sizes=[1,%d,%d,%d], scales=[1,1,%d,%d], mode=nearest, coord=asymmetric, nearest=floor}\n", y, x, c, size, size,
            factor, factor);
}

static void op(Text *t, const char *y, const char *op, const char *a, const char *b) {
  text_addf(t, b ? "  %%%s = %s(%%%s, %%%s)\n" : "  %%%s = %s(%%%s)\n", y, op, a, b);
}

static void concat(Text *t, const char *y, const char *a, const char *b) { text_addf(t, "  %%%s = Concat(%%%s, %%%s) {axis=1}\n", y, a, b); }

static void pool(Text *t, const char *y, const char *x) {
  text_addf(t, "  %%%s = MaxPool(%%%s) {kernel=[3,3], strides=[2,2], pads=[1,1,1,1], dilations=[1,1]}\n", y, x);
}

static void swish(Text *t, const char *y, const char *x) {
  text_addf(t, "  %%%s_s = Sigmoid(%%%s)\n  %%%s = Mul(%%%s, %%%s_s)\n", y, x, y, x, y);
}

/* Three levels of a backbone's end, `c` channels each if c is not 0. */
static void inputs(Text *t, int c) {
  for (int i = 0; i < 3; i++) {
    char x[8], y[8], z[8];
    snprintf(x, sizeof x, "x%d", i);
    snprintf(y, sizeof y, "c%d_", i);
    snprintf(z, sizeof z, "c%d", i);
    text_addf(t, "  input %%%s: f32[1,%d,%d,%d]\n", x, 24 << i, 16 >> i, 16 >> i);
    conv(t, y, x, 24 << i, c ? c : 24 << i, 1, 1, 1);
    op(t, z, "Relu", y, NULL);
  }
}

/* Lin et al., arXiv 1612.03144. */
static void fpn(Text *t) {
  inputs(t, 0);
  for (int i = 0; i < 3; i++) conv(t, (const char *[]){"l0", "l1", "l2"}[i], (const char *[]){"c0", "c1", "c2"}[i], 24 << i, 20, 1, 1, 1);
  up(t, "u2", "l2", 20, 8, 2);
  op(t, "p1", "Add", "l1", "u2");
  up(t, "u1", "p1", 20, 16, 2);
  op(t, "p0", "Add", "l0", "u1");
  for (int i = 0; i < 3; i++) conv(t, (const char *[]){"o0", "o1", "o2"}[i], (const char *[]){"p0", "p1", "l2"}[i], 20, 20, 3, 1, 1);
  text_add(t, "  output %o0\n  output %o1\n  output %o2\n");
}

/* Tan et al., arXiv 1911.09070, with the weights of its sums computed. Weights are numbers here; `stacked`, as exporters of stacks write it,
 * they are divided by their sum after the product, and the sum is one over a dimension made for it. */
static void bifpn_sum(Text *t, const char *y, const char *a, const char *b, int size) {
  text_addf(t, "  const %%%s_p: f32[] = [1.25]\n  const %%%s_q: f32[] = [0.75]\n  const %%%s_r: f32[] = [2]\n", y, y, y);
  text_addf(t, "  %%%s_m = Mul(%%%s, %%%s_p)\n  %%%s_o = Div(%%%s_m, %%%s_r)\n", y, a, y, y, y, y);
  text_addf(t, "  %%%s_n = Mul(%%%s, %%%s_q)\n  %%%s_u = Div(%%%s_n, %%%s_r)\n", y, b, y, y, y, y);
  for (int i = 0; i < 2; i++) text_addf(t, "  %%%s_%d = Reshape(%%%s_%c) {shape=[1,20,%d,%d,1]}\n", y, i, y, "ou"[i], size, size);
  text_addf(t, "  %%%s_k = Concat(%%%s_0, %%%s_1) {axis=4}\n  %%%s_a = ReduceSum(%%%s_k) {axes=[4], keepdims=false}\n", y, y, y, y, y);
}

static bool stacked;

static void bifpn_node(Text *t, const char *y, const char *a, const char *b, int size) {
  char n[3][16];
  for (int i = 0; i < 3; i++) snprintf(n[i], sizeof n[i], "%s_%c", y, 'a' + i);
  if (stacked)
    bifpn_sum(t, y, a, b, size);
  else
    text_addf(t, "  const %%%s_p: f32[1] = [0.625]\n  const %%%s_q: f32[1] = [0.375]\n"
                 "  %%%s_m = Mul(%%%s, %%%s_p)\n  %%%s_n = Mul(%%%s, %%%s_q)\n  %%%s = Add(%%%s_m, %%%s_n)\n",
              y, y, y, a, y, y, b, y, n[0], y, y);
  swish(t, n[1], n[0]);
  conv(t, n[2], n[1], 20, 20, 3, 1, 20);
  conv(t, y, n[2], 20, 20, 1, 1, 1);
}

static void bifpn(Text *t) {
  inputs(t, 20);
  up(t, "u2", "c2", 20, 8, 2);
  bifpn_node(t, "m1", "c1", "u2", 8);
  up(t, "u1", "m1", 20, 16, 2);
  bifpn_node(t, "p0", "c0", "u1", 16);
  pool(t, "d0", "p0");
  bifpn_node(t, "p1", "m1", "d0", 8);
  pool(t, "d1", "p1");
  bifpn_node(t, "p2", "c2", "d1", 4);
  text_add(t, "  output %p0\n  output %p1\n  output %p2\n");
}

/* Wang et al., arXiv 1908.07919: every resolution to every other; here as it would be written with the upsampling first. */
static void hrnet(Text *t) {
  inputs(t, 0);
  up(t, "a1", "c1", 48, 16, 2);
  conv(t, "a1c", "a1", 48, 24, 1, 1, 1);
  up(t, "a2", "c2", 96, 16, 4);
  conv(t, "a2c", "a2", 96, 24, 1, 1, 1);
  op(t, "y0s", "Add", "c0", "a1c");
  op(t, "y0t", "Add", "y0s", "a2c");
  op(t, "y0", "Relu", "y0t", NULL);
  conv(t, "f0", "c0", 24, 48, 3, 2, 1);
  conv(t, "f2", "c2", 96, 48, 1, 1, 1);
  up(t, "b2u", "f2", 48, 8, 2);
  op(t, "y1s", "Add", "f0", "c1");
  op(t, "y1t", "Add", "y1s", "b2u");
  op(t, "y1", "Relu", "y1t", NULL);
  conv(t, "e0", "c0", 24, 24, 3, 2, 1);
  op(t, "e0r", "Relu", "e0", NULL);
  conv(t, "e0c", "e0r", 24, 96, 3, 2, 1);
  conv(t, "e1", "c1", 48, 96, 3, 2, 1);
  op(t, "y2s", "Add", "e0c", "e1");
  op(t, "y2t", "Add", "y2s", "c2");
  op(t, "y2", "Relu", "y2t", NULL);
  text_add(t, "  output %y0\n  output %y1\n  output %y2\n");
}

/* Redmon and Farhadi, arXiv 1804.02767, and the way down again of Liu et al., arXiv 1803.01534. */
static void yolo(Text *t) {
  inputs(t, 0);
  conv(t, "l2", "c2", 96, 40, 1, 1, 1);
  text_add(t, "  %a2 = LeakyRelu(%l2) {alpha=0.1f}\n");
  up(t, "u2", "a2", 40, 8, 2);
  concat(t, "k1", "u2", "c1");
  conv(t, "l1", "k1", 88, 24, 1, 1, 1);
  text_add(t, "  %a1 = LeakyRelu(%l1) {alpha=0.1f}\n");
  conv(t, "m1", "k1", 88, 20, 1, 1, 1);
  swish(t, "n1", "m1");
  up(t, "u1", "a1", 24, 16, 2);
  concat(t, "k0", "u1", "c0");
  conv(t, "l0", "k0", 48, 20, 1, 1, 1);
  text_add(t, "  %a0 = LeakyRelu(%l0) {alpha=0.1f}\n");
  conv(t, "d0", "a0", 20, 20, 3, 2, 1);
  concat(t, "j1", "d0", "n1");
  conv(t, "o1", "j1", 40, 16, 3, 1, 1);
  text_add(t, "  output %a0\n  output %o1\n");
}

/* Hu et al., arXiv 1709.01507, in an inverted bottleneck. */
static void excite(Text *t) {
  text_add(t, "  input %x: f32[1,20,12,12]\n");
  conv(t, "e", "x", 20, 60, 1, 1, 1);
  swish(t, "es", "e");
  conv(t, "d", "es", 60, 60, 3, 1, 60);
  swish(t, "ds", "d");
  text_add(t, "  %p = ReduceMean(%ds) {axes=[2,3], keepdims=true}\n");
  conv(t, "q", "p", 60, 5, 1, 1, 1);
  op(t, "qr", "Relu", "q", NULL);
  conv(t, "g", "qr", 5, 60, 1, 1, 1);
  op(t, "gs", "Sigmoid", "g", NULL);
  op(t, "m", "Mul", "ds", "gs");
  conv(t, "z", "m", 60, 20, 1, 1, 1);
  op(t, "y", "Add", "z", "x");
  text_add(t, "  output %y\n");
}

/* ---- checks ---- */

typedef struct Net {
  Arena *a;
  Diag *d;
  Graph *plain, *g;        /* as written; after the graph passes */
  char *stats;
  const void *in[3];
  Program *p;
} Net;

static void evaluate(Net *n, Program *p, void **out) {
  for (int i = 0; i < n->plain->outputs.n; i++) out[i] = arena_alloc(n->a, value_bytes(n->plain->outputs.at[i]));
  assert_non_null(p);
  assert_int_equal(interp_eval(p, n->in, out, n->d), SPINEC_OK);
}

static Program *compile(Net *n, Graph *g, int level, FILE *stats) {
  Target *t = NEW(n->a, Target);
  *t = *target_find("x86-64-v3");
  t->l2 = 1 << 10;         /* these are large networks, made small */
  spinec_compile_options *o = NEW(n->a, spinec_compile_options);
  *o = (spinec_compile_options){.opt_level = level, .max_threads = 1, .stats = stats != NULL, .dump = stats};
  Ctx c = {.arena = n->a, .diag = n->d, .target = t, .opt = o, .eval = interp_eval};
  bool stopped;
  return passes_run(g, &c, &stopped);
}

static void same_results(Net *n) {
  void *want[3], *got[3];
  evaluate(n, compile(n, graph_clone(n->plain, n->a, n->d), 0, NULL), want);
  evaluate(n, n->p, got);
  for (int i = 0; i < n->plain->outputs.n; i++) {
    const float *x = want[i], *y = got[i];
    int64_t count = value_count(n->plain->outputs.at[i]);
    double most = 0;
    for (int64_t k = 0; k < count; k++) most = fmax(most, fabs((double)x[k]));
    for (int64_t k = 0; k < count; k++)
      if (!(fabs((double)x[k] - (double)y[k]) <= 1e-5 * most)) fail_msg("output %d[%lld]: %g, not %g", i, (long long)k, (double)y[k], (double)x[k]);
  }
}

static Net open_net(void (*write)(Text *t)) {
  Net n = {.a = arena_new(NULL), .d = spinec_diagnostics_new()};
  Text t = {.a = n.a};
  weights = 0;
  text_add(&t, "graph \"neck\" {\n");
  write(&t);
  text_add(&t, "}\n");
  n.plain = graph_parse(n.a, n.d, "neck", t.s);
  if (!n.plain) fail_msg("%s", spinec_diagnostics_text(n.d, 0));
  for (int i = 0; i < n.plain->inputs.n; i++) {
    const Value *v = n.plain->inputs.at[i];
    void *data = arena_alloc(n.a, value_bytes(v));
    opaque_fill(data, v->dt, value_count(v), 0x9e3779b97f4a7c15u * (uint64_t)(i + 1));
    n.in[i] = data;
  }
  n.g = graph_clone(n.plain, n.a, n.d);
  FILE *f = tmpfile();
  n.p = compile(&n, n.g, 2, f);
  long bytes = ftell(f);
  n.stats = arena_alloc(n.a, (size_t)bytes + 1);
  rewind(f);
  assert_int_equal(fread(n.stats, 1, (size_t)bytes, f), bytes);
  fclose(f);
  same_results(&n);
  return n;
}

static void close_net(Net *n) {
  arena_free(n->a);
  spinec_diagnostics_free(n->d);
}

static int count_op(const Graph *g, Op what) {
  int k = 0;
  for (const Node *n = g->first; n; n = n->next) k += n->op == what;
  return k;
}

/* Upsamplings that store what they copy, without adding anything. */
static int enlarged(const Graph *g) {
  int k = 0;
  for (const Node *n = g->first; n; n = n->next) k += n->op == OP_Resize && !n->nbody;
  return k;
}

/* Nodes that are elementwise and nothing else. */
static int alone(const Graph *g) {
  int k = 0;
  for (const Node *n = g->first; n; n = n->next) k += (op_info(n->op)->flags & OPF_EW) != 0;
  return k;
}

static int64_t macs(const Graph *g) { return graph_cost(g).macs; }

static void applied(const Net *n, const char *pass, int times) {
  char line[80];
  snprintf(line, sizeof line, "stats: %s applied %d times", pass, times);
  if (!strstr(n->stats, line)) fail_msg("'%s' is not in\n%s", line, n->stats);
}

/* ---- tests ---- */

static void test_fpn(void **state) {
  (void)state;
  Net n = open_net(fpn);
  assert_int_equal(enlarged(n.g), 0);
  assert_int_equal(alone(n.g) + count_op(n.g, OP_Map), 0);
  assert_int_equal(macs(n.g), macs(n.plain));   /* FPN enlarges behind its convolutions */
  assert_non_null(strstr(n.stats, "2  epilogue: upsamplings read in place"));
  assert_int_equal(n.p->calls.n, 9 + 3);        /* the convolutions, and the inputs brought into blocks */
  close_net(&n);
}

static void test_bifpn(void **state) {
  (void)state;
  Net n = open_net(bifpn);
  assert_int_equal(enlarged(n.g), 0);
  assert_int_equal(alone(n.g), 0);
  close_net(&n);
}

/* However it is written, the same is left. */
static void test_bifpn_stacked(void **state) {
  (void)state;
  Net n = open_net(bifpn);
  stacked = true;
  Net m = open_net(bifpn);
  stacked = false;
  assert_non_null(strstr(m.stats, "4  terms: sums of stacks made additions"));
  assert_non_null(strstr(m.stats, "8  terms: factors joined"));
  assert_int_equal(count_op(m.g, OP_Reshape) + count_op(m.g, OP_Concat) + enlarged(m.g) + alone(m.g), 0);
  assert_int_equal(m.p->calls.n, n.p->calls.n);
  assert_int_equal(m.p->live_bytes, n.p->live_bytes);
  close_net(&m);
  close_net(&n);
}

static void test_hrnet(void **state) {
  (void)state;
  Net n = open_net(hrnet);
  applied(&n, "commute", 2);
  assert_int_equal(enlarged(n.g), 0);
  assert_int_equal(alone(n.g), 0);
  int64_t pixels = 16 * 16;
  assert_int_equal(macs(n.plain) - macs(n.g), pixels * 24 * (48 * 3 / 4) + pixels * 24 * 96 * 15 / 16);
  close_net(&n);
}

static void test_yolo(void **state) {
  (void)state;
  Net n = open_net(yolo);
  assert_non_null(strstr(n.stats, "3  commute: concatenations taken apart"));
  assert_int_equal(enlarged(n.g), 0);
  assert_int_equal(count_op(n.g, OP_Concat), 1);   /* the one a 3x3 convolution reads */
  assert_int_equal(alone(n.g), 0);
  assert_int_equal(macs(n.plain) - macs(n.g), 8 * 8 * 40 * (24 + 20) * 3 / 4 + 16 * 16 * 24 * 20 * 3 / 4);
  close_net(&n);
}

static void test_excite(void **state) {
  (void)state;
  Net n = open_net(excite);
  applied(&n, "activation", 2);
  applied(&n, "gate", 1);
  assert_int_equal(count_op(n.g, OP_Mul) + alone(n.g), 0);
  assert_non_null(strstr(n.stats, "1  lower: results made beside another node's"));
  close_net(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_fpn), cmocka_unit_test(test_bifpn), cmocka_unit_test(test_bifpn_stacked),
                                     cmocka_unit_test(test_hrnet), cmocka_unit_test(test_yolo),
                                     cmocka_unit_test(test_excite)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
