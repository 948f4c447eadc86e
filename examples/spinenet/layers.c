/* One function per layer: emits the node, creates the weights, predicts the statistics of the result.
 *
 * In a dry pass weights are NULL and statistics are not followed; nodes, parameters and multiply-adds are counted all the same.
 * A tensor is named after the node that computes it. Statistics arrays are never changed once a tensor is returned: tensors share them. */
#include "spinenet.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *net_name(Net *n, const char *fmt, ...) {
  char buf[256];
  va_list ap;
  va_start(ap, fmt);
  int len = vsnprintf(buf, sizeof buf, fmt, ap);
  va_end(ap);
  if (len < 0 || (size_t)len >= sizeof buf) die("a node name is too long");
  return arena_printf(n->mem, "%s", buf);
}

static Moments moments_new(Net *n, int c) {
  if (n->dry) return (Moments){0};
  return (Moments){.mean = arena_array(n->mem, (size_t)c, sizeof(double)), .var = arena_array(n->mem, (size_t)c, sizeof(double))};
}

Tensor layer_input(Net *n, const char *name) {
  const Config *cfg = n->cfg;
  Tensor t = {.name = name, .c = 3, .h = cfg->height, .w = cfg->width, .m = moments_new(n, 3)};
  for (int i = 0; !n->dry && i < 3; i++) t.m.var[i] = 1; /* images are normalised */
  onnx_input(n->onnx, name, 4, (const int64_t[]){cfg->batch, 3, t.h, t.w}, cfg->batch_name);
  return t;
}

void layer_output(Net *n, Tensor t) {
  onnx_output(n->onnx, t.name, 4, (const int64_t[]){n->cfg->batch, t.c, t.h, t.w}, n->cfg->batch_name);
}

/* ---- convolution ---- */

static float *vector(Net *n, const char *layer, const char *what, int c) {
  return onnx_weights(n->onnx, net_name(n, "%s.%s", layer, what), 1, (const int64_t[]){c});
}

static float *filters(Net *n, const char *layer, int cout, int cin, int k) {
  return onnx_weights(n->onnx, net_name(n, "%s.weight", layer), 4, (const int64_t[]){cout, cin, k, k});
}

Kernel layer_kernel(Net *n, const char *name, int cin, int cout, int k, bool bn) {
  const bool stored = !bn || n->cfg->keep_bn;
  Kernel s = {.name = name, .w = stored ? filters(n, name, cout, cin, k) : NULL, .bias = stored ? vector(n, name, "bias", cout) : NULL};
  const size_t count = (size_t)cout * (size_t)cin * (size_t)(k * k);
  n->params += (int64_t)cout * cin * k * k + cout;
  if (n->dry) return s;
  if (!stored) {
    s.w = arena_array(n->mem, count, sizeof(float));
    s.bias = arena_array(n->mem, (size_t)cout, sizeof(float));
  }
  weights_dense(n->cfg->seed, name, s.w, count, cin * k * k);
  weights_bias(n->cfg->seed, name, s.bias, cout);
  return s;
}

static void conv_node(Net *n, Tensor x, const Conv *s, const char *owner, bool bias, const char *output) {
  const int64_t p = s->k / 2;
  const char *in[] = {x.name, net_name(n, "%s.weight", owner), net_name(n, "%s.bias", owner)};
  OnnxNode *node = onnx_node(n->onnx, "Conv", s->name, bias ? 3 : 2, in, output);
  onnx_attr_ints(n->onnx, node, "dilations", 2, (const int64_t[]){1, 1});
  onnx_attr_int(n->onnx, node, "group", s->depthwise ? x.c : 1);
  onnx_attr_ints(n->onnx, node, "kernel_shape", 2, (const int64_t[]){s->k, s->k});
  onnx_attr_ints(n->onnx, node, "pads", 4, (const int64_t[]){p, p, p, p});
  onnx_attr_ints(n->onnx, node, "strides", 2, (const int64_t[]){s->stride, s->stride});
}

/* Fills the weights and predicts the output's statistics. `bias` is NULL, or holds zeros to be filled with the convolution's own bias. */
static void conv_init(Net *n, const Conv *s, int cin, float *w, float *bias, const Moments *in, Moments *out) {
  const int taps = s->k * s->k, group_in = s->depthwise ? 1 : cin;
  const size_t count = (size_t)s->cout * (size_t)group_in * (size_t)taps;
  if (s->shared && w != s->shared->w) {
    memcpy(w, s->shared->w, count * sizeof *w);
    memcpy(bias, s->shared->bias, (size_t)s->cout * sizeof *bias);
  } else if (!s->shared) {
    if (s->depthwise)
      weights_depthwise(n->cfg->seed, s->name, w, s->cout, taps);
    else
      weights_dense(n->cfg->seed, s->name, w, count, group_in * taps);
    if (s->bias) weights_bias(n->cfg->seed, s->name, bias, s->cout);
  }
  if (s->depthwise)
    moments_depthwise(w, s->cout, taps, in, out);
  else
    moments_dense(w, s->bias || s->shared ? bias : NULL, s->cout, cin, taps, in, out);
}

static Tensor batch_norm(Net *n, Tensor x, const char *name, BatchNorm bn, const char *output) {
  static const char *const parts[] = {"gamma", "beta", "mean", "var"};
  const float *from[] = {bn.gamma, bn.beta, bn.mean, bn.var};
  const char *in[5] = {x.name};
  for (int i = 0; i < 4; i++) {
    in[i + 1] = net_name(n, "%s.%s", name, parts[i]);
    float *to = onnx_weights(n->onnx, in[i + 1], 1, (const int64_t[]){x.c});
    if (!n->dry) memcpy(to, from[i], (size_t)x.c * sizeof *to);
  }
  OnnxNode *node = onnx_node(n->onnx, "BatchNormalization", name, 5, in, output);
  onnx_attr_float(n->onnx, node, "epsilon", BN_EPSILON);
  onnx_attr_float(n->onnx, node, "momentum", 0.9f);
  x.name = output;
  return x;
}

static BatchNorm batch_norm_new(Net *n, int c) {
  float *v = n->dry ? NULL : arena_array(n->mem, 4 * (size_t)c, sizeof *v);
  return v ? (BatchNorm){v, v + c, v + 2 * (size_t)c, v + 3 * (size_t)c} : (BatchNorm){0};
}

Tensor layer_conv(Net *n, Tensor x, const Conv *s) {
  const bool keep = s->bn && n->cfg->keep_bn, fold = s->bn && !keep, has_bias = s->bias || s->shared || fold;
  /* Weights shared by several convolutions stay one initializer, unless each has a BN of its own folded into them. */
  const bool borrowed = s->shared && !fold;
  const char *owner = borrowed ? s->shared->name : s->name, *name_bn = net_name(n, "%s_bn", s->name);
  const int group_in = s->depthwise ? 1 : x.c;
  Tensor y = {.c = s->cout, .h = x.h / s->stride, .w = x.w / s->stride, .m = moments_new(n, s->cout)};
  y.name = keep || s->act || !s->output ? s->name : s->output;

  float *w = borrowed ? s->shared->w : filters(n, owner, s->cout, group_in, s->k);
  float *b = borrowed ? s->shared->bias : has_bias ? vector(n, owner, "bias", s->cout) : NULL;
  n->macs += (double)y.h * y.w * s->cout * group_in * s->k * s->k;
  if (!s->shared) n->params += (int64_t)s->cout * group_in * s->k * s->k + (s->bias ? s->cout : 0);
  if (!n->dry) conv_init(n, s, x.c, w, b, &x.m, &y.m);

  BatchNorm bn = {0};
  if (s->bn) {
    n->params += 2 * (int64_t)s->cout;
    bn = batch_norm_new(n, s->cout);
    if (!n->dry) batch_norm_init(n->cfg->seed, name_bn, s->cout, s->gain > 0 ? s->gain : 1, bn, &y.m);
    if (!n->dry && fold) batch_norm_fold(bn, s->cout, group_in * s->k * s->k, w, b);
  }
  conv_node(n, x, s, owner, has_bias, y.name);
  if (keep) y = batch_norm(n, y, name_bn, bn, s->act || !s->output ? name_bn : s->output);
  return s->act ? layer_act(n, y, net_name(n, "%s_act", s->name), s->output) : y;
}

/* ---- the others ---- */

static Tensor activation(Net *n, Tensor x, Act act, const char *name, const char *output) {
  if (act == ACT_RELU) {
    onnx_node(n->onnx, "Relu", name, 1, &x.name, output);
  } else {
    const char *gate = net_name(n, "%s/sigmoid", name);
    onnx_node(n->onnx, "Sigmoid", gate, 1, &x.name, gate);
    onnx_node(n->onnx, "Mul", name, 2, (const char *[]){x.name, gate}, output);
  }
  Tensor y = x;
  y.name = output;
  y.m = moments_new(n, x.c);
  if (n->dry) return y;
  moments_act(n->quad, act, 0, x.c, x.m.mean, x.m.var, &y.m);
  y.m.pre_mean = x.m.mean, y.m.pre_var = x.m.var;
  return y;
}

Tensor layer_act(Net *n, Tensor x, const char *name, const char *output) {
  return activation(n, x, n->cfg->act, name, output ? output : name);
}

Tensor layer_max_pool(Net *n, Tensor x, const char *name) {
  OnnxNode *node = onnx_node(n->onnx, "MaxPool", name, 1, &x.name, name);
  onnx_attr_ints(n->onnx, node, "kernel_shape", 2, (const int64_t[]){3, 3});
  onnx_attr_ints(n->onnx, node, "pads", 4, (const int64_t[]){1, 1, 1, 1});
  onnx_attr_ints(n->onnx, node, "strides", 2, (const int64_t[]){2, 2});
  Tensor y = {.name = name, .c = x.c, .h = x.h / 2, .w = x.w / 2, .m = x.m};
  if (n->dry || !x.m.pre_mean) return y;
  Moments m = moments_new(n, x.c);
  m.pre_mean = x.m.pre_mean, m.pre_var = x.m.pre_var, m.pools = x.m.pools + 1;
  moments_act(n->quad, n->cfg->act, m.pools, x.c, m.pre_mean, m.pre_var, &m);
  y.m = m;
  return y;
}

Tensor layer_upsample(Net *n, Tensor x, const char *name, int log2) {
  const char *scales = net_name(n, "%s.scales", name);
  float *v = onnx_weights(n->onnx, scales, 1, (const int64_t[]){4});
  if (v) v[0] = v[1] = 1, v[2] = v[3] = (float)(1 << log2);
  OnnxNode *node = onnx_node(n->onnx, "Resize", name, 3, (const char *[]){x.name, "", scales}, name);
  onnx_attr_string(n->onnx, node, "coordinate_transformation_mode", "asymmetric");
  onnx_attr_string(n->onnx, node, "mode", "nearest");
  onnx_attr_string(n->onnx, node, "nearest_mode", "floor");
  x.name = name;
  x.h <<= log2, x.w <<= log2;
  return x;
}

Tensor layer_add(Net *n, Tensor a, Tensor b, const char *name) {
  onnx_node(n->onnx, "Add", name, 2, (const char *[]){a.name, b.name}, name);
  Tensor y = {.name = name, .c = a.c, .h = a.h, .w = a.w, .m = moments_new(n, a.c)};
  for (int i = 0; !n->dry && i < a.c; i++) {
    y.m.mean[i] = a.m.mean[i] + b.m.mean[i];
    y.m.var[i] = a.m.var[i] + b.m.var[i];
  }
  return y;
}

/* The mean over many pixels hardly varies: its variance is taken as 0. */
static Tensor global_average(Net *n, Tensor x, const char *name) {
  onnx_node(n->onnx, "GlobalAveragePool", name, 1, &x.name, name);
  Tensor y = {.name = name, .c = x.c, .h = 1, .w = 1, .m = moments_new(n, x.c)};
  if (!n->dry) memcpy(y.m.mean, x.m.mean, (size_t)x.c * sizeof *y.m.mean);
  return y;
}

Tensor layer_squeeze_excite(Net *n, Tensor x, const char *name, int reduced) {
  const char *gate = net_name(n, "%s/gate", name), *act = net_name(n, "%s/down_act", name);
  Tensor t = global_average(n, x, net_name(n, "%s/pool", name));
  t = layer_conv(n, t, &(Conv){.name = net_name(n, "%s/down", name), .cout = reduced, .k = 1, .stride = 1, .bias = true});
  t = activation(n, t, ACT_RELU, act, act);
  t = layer_conv(n, t, &(Conv){.name = net_name(n, "%s/up", name), .cout = x.c, .k = 1, .stride = 1, .bias = true});
  OnnxNode *node = onnx_node(n->onnx, "HardSigmoid", gate, 1, &t.name, gate);
  onnx_attr_float(n->onnx, node, "alpha", 1.0f / 6);
  onnx_attr_float(n->onnx, node, "beta", 0.5f);
  onnx_node(n->onnx, "Mul", name, 2, (const char *[]){x.name, gate}, name);

  Tensor y = {.name = name, .c = x.c, .h = x.h, .w = x.w, .m = moments_new(n, x.c)};
  for (int i = 0; !n->dry && i < x.c; i++) {
    const double g = hard_sigmoid(t.m.mean[i]);
    y.m.mean[i] = g * x.m.mean[i];
    y.m.var[i] = g * g * x.m.var[i];
  }
  return y;
}

void layer_classifier(Net *n, const Tensor *x, int count, const char *name, int classes, const char *output) {
  const int c = x[0].c;
  Tensor sum = {0};
  for (int i = 0; i < count; i++) {
    Tensor t = global_average(n, x[i], net_name(n, "%s/pool%d", name, i + 1));
    sum = i ? layer_add(n, sum, t, net_name(n, "%s/sum%d", name, i)) : t;
  }
  if (count > 1) {
    const char *mean = net_name(n, "%s/mean", name), *divisor = net_name(n, "%s/mean.count", name);
    float *v = onnx_weights(n->onnx, divisor, 0, NULL);
    if (v) *v = (float)count;
    onnx_node(n->onnx, "Div", mean, 2, (const char *[]){sum.name, divisor}, mean);
    sum.name = mean;
  }
  const char *flat = net_name(n, "%s/flatten", name), *fc = net_name(n, "%s/fc", name), *weight = net_name(n, "%s.weight", fc);
  OnnxNode *node = onnx_node(n->onnx, "Flatten", flat, 1, &sum.name, flat);
  onnx_attr_int(n->onnx, node, "axis", 1);
  float *w = onnx_weights(n->onnx, weight, 2, (const int64_t[]){classes, c}), *b = vector(n, fc, "bias", classes);
  if (!n->dry) weights_dense(n->cfg->seed, fc, w, (size_t)classes * (size_t)c, c);
  if (!n->dry) weights_bias(n->cfg->seed, fc, b, classes);
  node = onnx_node(n->onnx, "Gemm", fc, 3, (const char *[]){flat, weight, net_name(n, "%s.bias", fc)}, output);
  onnx_attr_float(n->onnx, node, "alpha", 1);
  onnx_attr_float(n->onnx, node, "beta", 1);
  onnx_attr_int(n->onnx, node, "transB", 1);
  onnx_output(n->onnx, output, 2, (const int64_t[]){n->cfg->batch, classes}, n->cfg->batch_name);
  n->macs += (double)c * classes;
  n->params += (int64_t)classes * c + classes;
}
