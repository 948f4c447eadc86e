/* random_rewrites.c: random networks, rewritten and not, compute the same.
 *
 *   random_rewrites [FIRST [COUNT]]        seeds; SPINEC_RANDOM_GRAPHS in the environment is another default for COUNT
 *
 * The networks are made of what the rewrites look for: convolutions of all kinds, sums and concatenations over scales, pools, gates,
 * activations, tensors with several readers. Each is run as it stands, lowered plainly and interpreted; then after every graph pass alone,
 * after a few of them in a row, and through the whole pipeline for targets of 4, 8 and 16 lanes. What commute does has to give the same bits.
 * Every fourth network reads infinities and NaN; those are left out where sums are made in another order or from transformed numbers. At
 * the end every rewrite must have changed something.
 */
#include "backend/backend.h"
#include "passes/passes.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define VALUES_MAX 64
#define LISTS_MAX 48

typedef struct Tensor { int c, h, w; bool used; } Tensor;

typedef struct Net {
  uint32_t state;
  Text text;
  Tensor t[VALUES_MAX];
  int n, consts, inputs, batch;
  bool scaled;             /* convolutions have scales */
} Net;

static const char *lists[LISTS_MAX];
static int fired[LISTS_MAX], nlists;
static int64_t chains;     /* pools that pool_chain merged; alone it finds none, since it looks at layouts */

/* ---- making a network ---- */

static uint32_t draw(Net *m, uint32_t n) {
  m->state ^= m->state << 13;
  m->state ^= m->state >> 17;
  m->state ^= m->state << 5;
  return m->state % n;
}

/* One of the newest values more often than an old one. */
static int pick(Net *m) { return draw(m, 5) ? m->n - 1 - (int)draw(m, (uint32_t)MINI(m->n, 2)) : (int)draw(m, (uint32_t)m->n); }

static int define(Net *m, int c, int h, int w, const char *fmt, ...) PRINTF_LIKE(5, 6);
static int define(Net *m, int c, int h, int w, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  char line[1000];
  vsnprintf(line, sizeof line, fmt, ap);
  va_end(ap);
  text_addf(&m->text, "  %%t%d = %s\n", m->n, line);
  m->t[m->n] = (Tensor){c, h, w, false};
  return m->n++;
}

static int constant(Net *m, const char *shape, const char *data) {
  text_addf(&m->text, "  const %%c%d: f32[%s] = %s\n", m->consts, shape, data);
  return m->consts++;
}

static const char *format(Net *m, const char *fmt, ...) PRINTF_LIKE(2, 3);
static const char *format(Net *m, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  char line[200];
  vsnprintf(line, sizeof line, fmt, ap);
  va_end(ap);
  return arena_strndup(m->text.a, line, strlen(line));
}

static const char *opaque(Net *m) { return format(m, "opaque 0x%x", draw(m, 1u << 20) + 1); }

/* Mostly scaled so that results stay about as large as operands. Scales are multiplied into packed weights or into sums, depending on the
 * image's width; without them the plain lowering of a convolution gives the same bits for any image. */
static int conv(Net *m, int x, int out, int k, int stride, bool depthwise) {
  Tensor t = m->t[x];
  int group = depthwise ? t.c : 1, pad = k / 2;
  if (depthwise) out = t.c;
  if (!draw(m, 5) && out > 1 && !depthwise && t.c % 2 == 0 && out % 2 == 0) group = 2;
  int w = constant(m, format(m, "%d,%d,%d,%d", out, t.c / group, k, k), opaque(m));
  int s = m->scaled ? constant(m, format(m, "%d", out), format(m, "splat %.3g", 1 / sqrt(t.c / group * k * k / 3.0))) : -1;
  int b = draw(m, 2) ? constant(m, format(m, "%d", out), opaque(m)) : -1;
  int h = (t.h + 2 * pad - k) / stride + 1, wd = (t.w + 2 * pad - k) / stride + 1;
  m->t[x].used = true;
  return define(m, out, h, wd, "Conv(%%t%d, %%c%d, %s, %s) {strides=[%d,%d], pads=[%d,%d,%d,%d], dilations=[1,1], group=%d}", x, w,
                b < 0 ? "_" : format(m, "%%c%d", b), s < 0 ? "_" : format(m, "%%c%d", s), stride, stride, pad, pad, pad, pad, group);
}

static int unary(Net *m, int x, const char *op, const char *attr) {
  m->t[x].used = true;
  return define(m, m->t[x].c, m->t[x].h, m->t[x].w, "%s(%%t%d)%s", op, x, attr);
}

static int activation(Net *m, int x) {
  static const char *const acts[][2] = {{"Relu", ""}, {"Sigmoid", ""}, {"Tanh", ""}, {"LeakyRelu", " {alpha=0.1f}"}, {"Swish", " {alpha=1}"},
                                        {"Clip", " {lo=0, hi=6}"}, {"HardSwish", ""}, {"Neg", ""}, {"Softplus", ""}};
  const char *const *act = acts[draw(m, COUNTOF(acts))];
  return unary(m, x, act[0], act[1]);
}

static int resize(Net *m, int x, int up) {
  Tensor t = m->t[x];
  bool half = draw(m, 2);
  m->t[x].used = true;
  return define(m, t.c, t.h * up, t.w * up, "Resize(%%t%d) {sizes=[%d,%d,%d,%d], scales=[1,1,%d,%d], mode=nearest, coord=%s, nearest=%s}", x, m->batch, t.c,
                t.h * up, t.w * up, up, up, half ? "half_pixel" : "asymmetric", half ? "round_prefer_floor" : "floor");
}

static int pool(Net *m, int x) {
  static const int kinds[][3] = {{3, 2, 1}, {2, 2, 0}, {1, 2, 0}, {3, 1, 1}, {3, 2, 0}};
  const int *k = kinds[draw(m, COUNTOF(kinds))];
  Tensor t = m->t[x];
  int h = (t.h + 2 * k[2] - k[0]) / k[1] + 1, w = (t.w + 2 * k[2] - k[0]) / k[1] + 1;
  if (t.h + 2 * k[2] < k[0] || t.w + 2 * k[2] < k[0]) return x;
  bool max = draw(m, 2), count = draw(m, 4) == 0;
  m->t[x].used = true;
  return define(m, t.c, h, w, "%s(%%t%d) {kernel=[%d,%d], strides=[%d,%d], pads=[%d,%d,%d,%d], dilations=[1,1], count_include_pad=%s}",
                max ? "MaxPool" : "AveragePool", x, k[0], k[0], k[1], k[1], k[2], k[2], k[2], k[2], count ? "true" : "false");
}

/* Maxima in a row, with pads and ends of all kinds, behind a convolution, whose result is in blocks of channels. */
static void maxima(Net *m) {
  int x = conv(m, pick(m), 2 + (int)draw(m, 20), 1, 1, false);
  for (int i = 2 + (int)draw(m, 2); i > 0; i--) {
    Tensor t = m->t[x];
    int k[2], s[2], p[4], size[2] = {t.h, t.w}, out[2];
    bool ceil = draw(m, 4) == 0;
    for (int d = 0; d < 2; d++) {
      k[d] = 1 + (int)draw(m, 4), s[d] = 1 + (int)draw(m, 2);
      p[d] = (int)draw(m, (uint32_t)k[d]), p[d + 2] = (int)draw(m, (uint32_t)k[d]);
      out[d] = (int)window_extent(size[d], k[d], s[d], p[d], p[d + 2], 1, ceil);
    }
    if (out[0] < 1 || out[1] < 1) return;
    m->t[x].used = true;
    x = define(m, t.c, out[0], out[1], "MaxPool(%%t%d) {kernel=[%d,%d], strides=[%d,%d], pads=[%d,%d,%d,%d], dilations=[1,1], ceil_mode=%s}", x, k[0], k[1],
               s[0], s[1], p[0], p[1], p[2], p[3], ceil ? "true" : "false");
  }
  conv(m, x, 1 + (int)draw(m, 12), 1, 1, false);
}

static int per_channel(Net *m, int x) {
  Tensor t = m->t[x];
  int c = constant(m, draw(m, 2) ? format(m, "1,%d,1,1", t.c) : format(m, "%d,1,1", t.c), opaque(m));
  m->t[x].used = true;
  return define(m, t.c, t.h, t.w, "%s(%%t%d, %%c%d)", draw(m, 2) ? "Mul" : "Add", x, c);
}

static int binary(Net *m, int x, int y, const char *op) {
  m->t[x].used = m->t[y].used = true;
  if (draw(m, 2)) return define(m, m->t[x].c, m->t[x].h, m->t[x].w, "%s(%%t%d, %%t%d)", op, x, y);
  return define(m, m->t[x].c, m->t[x].h, m->t[x].w, "%s(%%t%d, %%t%d)", op, y, x);
}

/* y in the size of x and `channels` channels, by what a resampling connection does; -1 if no such thing leads there. */
static int match(Net *m, int x, int y, int channels) {
  if (m->t[y].c != channels || draw(m, 3) == 0) y = conv(m, y, channels, 1, 1, false);
  if (draw(m, 3) == 0) y = activation(m, y);
  const Tensor a = m->t[x], b = m->t[y];
  if (a.h == b.h && a.w == b.w) return y;
  if (a.h % b.h == 0 && a.w % b.w == 0 && a.h / b.h == a.w / b.w) return resize(m, y, a.h / b.h);
  if (b.h == 2 * a.h && b.w == 2 * a.w) return conv(m, y, channels, 3, 2, false);
  return -1;
}

static void merge(Net *m) {
  int x = pick(m), y = (int)draw(m, (uint32_t)m->n);
  bool projected = draw(m, 2);
  if (projected) x = conv(m, x, m->t[x].c, 1, 1, false);
  y = match(m, x, y, m->t[x].c);
  if (y < 0) return;
  x = binary(m, x, y, "Add");
  if (draw(m, 2)) activation(m, x);
}

static void join(Net *m) {
  int x = pick(m), y = match(m, x, (int)draw(m, (uint32_t)m->n), 1 + (int)draw(m, 20));
  if (y < 0) return;
  m->t[x].used = m->t[y].used = true;
  int k = define(m, m->t[x].c + m->t[y].c, m->t[x].h, m->t[x].w, "Concat(%%t%d, %%t%d) {axis=1}", x, y);
  if (draw(m, 4)) conv(m, k, 1 + (int)draw(m, 12), 1, 1, false);
  if (draw(m, 3) == 0) conv(m, k, 1 + (int)draw(m, 12), 1, 1, false);
}

static void gate(Net *m) {
  int x = pick(m), y;
  if (draw(m, 2)) x = conv(m, x, 0, 3, 1, true);
  m->t[x].used = true;
  y = define(m, m->t[x].c, 1, 1, "ReduceMean(%%t%d) {axes=[2,3], keepdims=true}", x);
  y = unary(m, conv(m, y, 1 + (int)draw(m, 4), 1, 1, false), "Relu", "");
  y = conv(m, y, m->t[x].c, 1, 1, false);
  y = draw(m, 2) ? unary(m, y, "Sigmoid", "") : unary(m, y, "HardSigmoid", " {alpha=0.16666667f, beta=0.5}");
  y = binary(m, x, y, "Mul");
  if (draw(m, 4)) conv(m, y, 1 + (int)draw(m, 12), 1, 1, false);
}

static void branch(Net *m) {
  int x = pick(m), k = draw(m, 2) ? 1 : 3;
  for (int i = 2 + (int)draw(m, 2); i > 0; i--) activation(m, conv(m, x, 1 + (int)draw(m, 20), k, 1, false));
}

/* What a detection head does to each scale. */
static void towers(Net *m) {
  int x = unary(m, conv(m, pick(m), 8 + (int)draw(m, 20), 1, 1, false), "Relu", ""), most = m->t[x].c / 2;
  for (int i = 2 + (int)draw(m, 2); i > 0; i--) {
    int y = conv(m, x, 1 + (int)draw(m, (uint32_t)most), 3, 1, false);
    if (draw(m, 3)) y = unary(m, y, "Relu", "");
    if (draw(m, 3)) conv(m, y, 1 + (int)draw(m, 20), 3, 1, false);
  }
}

static void slice(Net *m) {
  int x = pick(m);
  Tensor t = m->t[x];
  if (t.c < 2) return;
  int from = (int)draw(m, (uint32_t)t.c - 1), n = 1 + (int)draw(m, (uint32_t)(t.c - from)), step = t.h > 3 && t.w > 3 && draw(m, 2) ? 2 : 1;
  if (step > 1) from = 0, n = t.c;
  m->t[x].used = true;
  define(m, n, (t.h + step - 1) / step, (t.w + step - 1) / step, "Slice(%%t%d) {starts=[0,%d,0,0], steps=[1,1,%d,%d], sizes=[%d,%d,%d,%d]}", x, from,
         step, step, m->batch, n, (t.h + step - 1) / step, (t.w + step - 1) / step);
}

static void shuffle(Net *m) {
  int x = pick(m);
  Tensor t = m->t[x];
  if (t.c % 2) return;
  text_addf(&m->text, "  %%s%d = Reshape(%%t%d) {shape=[%d,2,%d,%d,%d]}\n", m->n, x, m->batch, t.c / 2, t.h, t.w);
  text_addf(&m->text, "  %%p%d = Transpose(%%s%d) {perm=[0,2,1,3,4]}\n", m->n, m->n);
  m->t[x].used = true;
  define(m, t.c, t.h, t.w, "Reshape(%%p%d) {shape=[%d,%d,%d,%d]}", m->n, m->batch, t.c, t.h, t.w);
}

/* A weighted sum as some write it: products divided by the sum of the weights, or a stack that is multiplied and summed up. */
static void weigh(Net *m) {
  int x = pick(m), y = match(m, x, (int)draw(m, (uint32_t)m->n), m->t[x].c);
  if (y < 0) return;
  Tensor t = m->t[x];
  m->t[x].used = m->t[y].used = true;
  if (draw(m, 2)) {
    int w = constant(m, "1", "splat 0.7"), v = draw(m, 2) ? constant(m, "", "splat 0.9") : constant(m, format(m, "%d,1,1", t.c), opaque(m));
    int sum = constant(m, draw(m, 2) ? "" : "1,1,1,1", "splat 1.6");
    text_addf(&m->text, "  %%a%d = Mul(%%t%d, %%c%d)\n  %%b%d = Div(%%a%d, %%c%d)\n", m->n, x, w, m->n, m->n, sum);
    text_addf(&m->text, "  %%d%d = Mul(%%c%d, %%t%d)\n  %%e%d = Div(%%d%d, %%c%d)\n", m->n, v, y, m->n, m->n, sum);
    define(m, t.c, t.h, t.w, "Add(%%b%d, %%e%d)", m->n, m->n);
    return;
  }
  int at = draw(m, 2) ? 4 : 0, n = 2 + (int)draw(m, 2), w = constant(m, format(m, at ? "%d" : "%d,1,1,1,1", n), opaque(m));
  const char *shape = at ? format(m, "[%d,%d,%d,%d,1]", m->batch, t.c, t.h, t.w) : format(m, "[1,%d,%d,%d,%d]", m->batch, t.c, t.h, t.w);
  text_addf(&m->text, "  %%a%d = Reshape(%%t%d) {shape=%s}\n  %%b%d = Reshape(%%t%d) {shape=%s}\n", m->n, x, shape, m->n, y, shape);
  text_addf(&m->text, "  %%d%d = Concat(%%a%d, %%b%d%s) {axis=%d}\n", m->n, m->n, m->n, n == 3 ? format(m, ", %%a%d", m->n) : "", at);
  text_addf(&m->text, "  %%e%d = Mul(%%d%d, %%c%d)\n", m->n, m->n, w);
  define(m, t.c, t.h, t.w, "Reduce%s(%%e%d) {axes=[%d], keepdims=false}", draw(m, 2) ? "Sum" : "Mean", m->n, at);
}

/* What detectors end with: pixels first, and a function of all that. */
static void flatten(Net *m) {
  int x = conv(m, pick(m), 1 + (int)draw(m, 12), 1, 1, false), n = m->n;
  Tensor t = m->t[x];
  m->t[x].used = true;
  text_addf(&m->text, "  %%p%d = Transpose(%%t%d) {perm=[0,2,3,1]}\n  %%s%d = Reshape(%%p%d) {shape=[%d,%d]}\n", n, x, n, n, m->batch, t.c * t.h * t.w);
  text_addf(&m->text, "  %%f%d = %s(%%s%d)\n", n, draw(m, 2) ? "Sigmoid" : "Relu", n);
  define(m, t.h, t.w, t.c, "Reshape(%%f%d) {shape=[%d,%d,%d,%d]}", n, m->batch, t.h, t.w, t.c);
}

/* A connection to a larger scale, in the order some networks have it. */
static void upsample(Net *m) {
  int x = pick(m);
  if (m->t[x].h > 4 || m->t[x].w > 4) return;
  x = conv(m, resize(m, x, 2 + (int)draw(m, 3)), 1 + (int)draw(m, 20), 1, 1, false);
  if (draw(m, 2)) x = per_channel(m, x);
  if (draw(m, 2)) x = activation(m, x);
  if (draw(m, 2)) binary(m, x, unary(m, x, "Sigmoid", ""), "Mul");
}

static void step(Net *m) {
  int x = pick(m);
  const Tensor t = m->t[x];
  switch (draw(m, 21)) {
  case 0: conv(m, x, 1 + (int)draw(m, 20), 1, 1, false); break;
  case 1: conv(m, x, 1 + (int)draw(m, 20), 3, 1 + (int)draw(m, 2), false); break;
  case 2: conv(m, x, 0, 3, 1, true); break;
  case 3: activation(m, x); break;
  case 4: per_channel(m, x); break;
  case 5:
    if (t.h <= 4 && t.w <= 4) resize(m, x, 2 + (int)draw(m, 3));
    break;
  case 6: case 7: pool(m, x); break;
  case 8: case 9: merge(m); break;
  case 10: join(m); break;
  case 11: gate(m); break;
  case 12: branch(m); break;
  case 13: slice(m); break;
  case 14: case 15: upsample(m); break;
  case 16: shuffle(m); break;
  case 17: weigh(m); break;
  case 18: flatten(m); break;
  case 19: towers(m); break;
  case 20: maxima(m); break;
  }
}

static void make_net(Net *m, Arena *a, uint32_t seed) {
  *m = (Net){.state = seed * 2654435761u + 12345, .text = {.a = a}};
  text_addf(&m->text, "graph \"random%u\" {\n", seed);
  for (int i = 0; i < 20; i++) draw(m, 2);
  m->inputs = 1 + (int)draw(m, 2);
  m->batch = draw(m, 4) ? 1 : 2;
  m->scaled = draw(m, 3);
  int size = 2 + (int)draw(m, 7), c = 1 + (int)draw(m, 20);
  for (int i = 0; i < m->inputs; i++) {
    m->t[m->n] = (Tensor){i ? 1 + (int)draw(m, 20) : c, size << i, size << i, false};
    text_addf(&m->text, "  input %%t%d: f32[%d,%d,%d,%d]\n", m->n, m->batch, m->t[m->n].c, m->t[m->n].h, m->t[m->n].w);
    m->n++;
  }
  for (int i = 4 + (int)draw(m, 12); i > 0 && m->n < VALUES_MAX - 20; i--) step(m);
  if (m->n == m->inputs) activation(m, 0);
  for (int i = m->inputs; i < m->n; i++)
    if (!m->t[i].used || !draw(m, 12)) text_addf(&m->text, "  output %%t%d\n", i);
  text_add(&m->text, "}\n");
}

/* ---- running it ---- */

typedef struct Run {
  Arena *a;
  Ctx c;
  const Graph *g;
  const void *in[4];
  void *want[VALUES_MAX];
  bool scaled;
  bool special;            /* infinities and NaN among the inputs */
} Run;

static void fill_inputs(Run *r, uint32_t seed) {
  for (int i = 0; i < r->g->inputs.n; i++) {
    const Value *v = r->g->inputs.at[i];
    float *data = arena_alloc(r->a, value_bytes(v));
    int64_t n = value_count(v);
    opaque_fill(data, v->dt, n, 0x9e3779b97f4a7c15u * (uint64_t)(seed + (uint32_t)i + 1));
    if (r->special) {
      data[n / 2] = NAN;
      data[n / 3] = INFINITY;
      data[n - 1] = -INFINITY;
    }
    r->in[i] = data;
  }
}

static bool same(Run *r, void *const *got, const char *what, double tol) {
  for (int i = 0; i < r->g->outputs.n; i++) {
    int64_t n = value_count(r->g->outputs.at[i]);
    const float *x = r->want[i], *y = got[i];
    double most = 1e-3;
    for (int64_t k = 0; k < n; k++)
      if (isfinite(x[k])) most = fmax(most, fabs((double)x[k]));
    for (int64_t k = 0; k < n; k++) {
      if (x[k] == y[k] || (isnan(x[k]) && isnan(y[k])) || fabs((double)x[k] - (double)y[k]) <= tol * most) continue;
      fprintf(stderr, "%s: output %s, element %lld: %.9g, not %.9g (largest %.3g)\n", what, r->g->outputs.at[i]->name, (long long)k, (double)y[k],
              (double)x[k], most);
      return false;
    }
  }
  return true;
}

static bool evaluate(Run *r, const Program *p, void **out) {
  for (int i = 0; i < r->g->outputs.n; i++) out[i] = arena_alloc(r->a, value_bytes(r->g->outputs.at[i]));
  return p && interp_eval(p, r->in, out, r->c.diag) == SPINEC_OK;
}

/* With small caches, so that what is done for large tensors is done here. */
static Target small_caches(const char *name) {
  Target t = *target_find(name);
  t.l2 = 1 << 10;
  return t;
}

/* Lowered plainly. */
static bool run_graph(Run *r, const Graph *g, void **out) {
  Graph *copy = graph_clone(g, r->a, r->c.diag);
  graph_compact(copy);
  Program *p = lower_graph(copy, &r->c);
  if (!p) return false;
  pass_legalise(p, &r->c);
  pass_dedup(p, &r->c);
  pass_memory(p, &r->c);
  return evaluate(r, p, out);
}

static char *printed(Run *r, const Graph *g) {
  Text t = {.a = r->a};
  graph_print(g, &t);
  return t.s;
}

static bool reorders_sums(const char *list) { return !strstr(list, "clean") && !strstr(list, "fold") && strcmp(list, "epilogue"); }

/* Where convolutions have no scales sums grow from layer to layer; an activation that is bounded leaves nothing of that but the errors. */
static double tolerance(const Run *r, double tol) { return r->scaled ? tol : 5 * tol; }

static int64_t counted(const Run *r, const char *what) {
  for (int i = 0; i < r->c.stats.n; i++)
    if (!strcmp(r->c.stats.at[i].what, what)) return r->c.stats.at[i].n;
  return 0;
}

/* How often commute took a concatenation apart, its only rewrite that is not exact to the bit. */
static int64_t taken_apart(const Run *r) { return counted(r, "concatenations taken apart"); }

static bool check_list(Run *r, int i) {
  Graph *g = graph_clone(r->g, r->a, r->c.diag);
  graph_compact(g);
  char *before = printed(r, g);
  int64_t apart = taken_apart(r);
  bool ok = passes_run_list(g, &r->c, lists[i]);
  bool exact = !r->scaled && !strcmp(lists[i], "commute") && taken_apart(r) == apart;
  graph_compact(g);
  const char *wrong = ok ? graph_verify(g, r->a) : "it does not run";
  if (wrong) fprintf(stderr, "%s: %s\n", lists[i], wrong);
  ok = !wrong;
  if (ok && strcmp(before, printed(r, g))) {
    void *got[VALUES_MAX];
    fired[i]++;
    ok = (r->special && reorders_sums(lists[i])) || (run_graph(r, g, got) && same(r, got, lists[i], exact ? 0 : tolerance(r, 2e-5)));
  }
  return ok;
}

static bool check_pipeline(Run *r, const char *target, int winograd) {
  spinec_compile_options opt = {.opt_level = 2, .max_threads = 2, .winograd = winograd};
  Target t = small_caches(target);
  Ctx c = {.arena = r->a, .diag = r->c.diag, .target = &t, .opt = &opt, .eval = interp_eval};
  bool stopped;
  void *got[VALUES_MAX];
  bool ok = evaluate(r, passes_run(graph_clone(r->g, r->a, r->c.diag), &c, &stopped), got) && same(r, got, target, winograd ? 2e-4 : tolerance(r, 2e-5));
  return ok;
}

static bool check_net(Arena *a, Diag *d, uint32_t seed, const char *volatile *text) {
  Net net;
  make_net(&net, a, seed);
  *text = net.text.s;
  spinec_compile_options opt = {.opt_level = 0, .max_threads = 1};
  Run r = {.a = a, .special = seed % 4 == 3, .scaled = net.scaled};
  Target v3 = small_caches("x86-64-v3");
  r.c = (Ctx){.arena = a, .diag = d, .target = &v3, .opt = &opt, .eval = interp_eval};
  r.g = graph_parse(a, d, "random", net.text.s);
  bool ok = r.g != NULL;
  if (ok) fill_inputs(&r, seed);
  ok = ok && run_graph(&r, r.g, r.want);
  for (int i = 0; i < nlists && ok; i++) ok = check_list(&r, i);
  static const char *const targets[] = {"generic", "x86-64-v3", "x86-64-v4"};
  chains += counted(&r, "maximum pools merged into the next");
  if (ok && !r.special) ok = check_pipeline(&r, targets[seed % 3], seed % 2 ? -1 : 0);
  return ok;
}

static bool check_seed(uint32_t seed) {
  Fail f;
  spinec_diagnostics *d = spinec_diagnostics_new();
  Arena *volatile a = NULL;
  volatile bool ok = false;
  const char *volatile text = NULL;
  if (FAIL_ARM(&f, d)) {
    a = arena_new(&f);
    ok = check_net(a, d, seed, &text);
  }
  if (!ok) fprintf(stderr, "seed %u:\n%s", seed, text ? text : "");
  for (int i = 0; !ok && i < spinec_diagnostics_count(d); i++) fprintf(stderr, "  %s\n", spinec_diagnostics_text(d, i));
  if (a) arena_set_fail(a, NULL);
  arena_free(a);
  spinec_diagnostics_free(d);
  return ok;
}

/* Of the others some find nothing here: there is nothing constant to fold, and no two constants are proportional. */
static bool must_fire(const char *pass) {
  static const char *const names[] = {"clean", "conv_fold", "activation", "terms", "commute", "pool_order", "merge_sum", "shuffle", "layout", "gate", "epilogue"};
  for (int i = 0; i < COUNTOF(names); i++)
    if (!strcmp(names[i], pass)) return true;
  return false;
}

int main(int argc, char **argv) {
  const char *more = getenv("SPINEC_RANDOM_GRAPHS");
  int first = argc > 1 ? atoi(argv[1]) : 1, count = argc > 2 ? atoi(argv[2]) : more ? atoi(more) : 400, failed = 0;
  for (const char *name; nlists < LISTS_MAX - 4 && (name = passes_graph_name(nlists)); nlists++) lists[nlists] = name;
  lists[nlists++] = "commute,pool_order";
  lists[nlists++] = "layout,epilogue";
  lists[nlists++] = "layout,pool_chain";
  lists[nlists++] = "commute,clean,layout,gate,epilogue";
  for (int i = 0; i < count; i++) failed += !check_seed((uint32_t)(first + i));
  for (int i = 0; i < nlists; i++) {
    printf("%6d  %s\n", fired[i], lists[i]);
    if (count >= 100 && !fired[i] && must_fire(lists[i])) fprintf(stderr, "%s never changed anything\n", lists[i]), failed++;
  }
  if (count >= 100 && !chains) fprintf(stderr, "pool_chain never changed anything\n"), failed++;
  printf("%6lld  pools merged by pool_chain\n", (long long)chains);
  printf("%d of %d networks failed\n", failed, count);
  return failed > 0;
}
