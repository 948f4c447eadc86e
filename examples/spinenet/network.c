/* The backbone: stem, scale-permuted blocks, the resampling between them, endpoints; and the heads.
 *
 * Blocks (paper, section 3; mobile: section 3 of arXiv 2010.11426), BN after every convolution:
 *   bottleneck   1x1, 3x3, 1x1 to four times the filters; shortcut added, activation
 *   residual     3x3, 3x3; shortcut added, activation
 *   mbconv       1x1 to six times the channels, depthwise 3x3, squeeze-excite, 1x1; input added where shapes agree, no activation
 * A block's input is the sum of its resampled parents, activated. Padding is symmetric, k / 2, also at stride 2.
 *
 * Heads:
 *   retinanet    class and box subnets: n x (3x3 with bias, BN, activation), then a 3x3 predictor. Convolutions are shared over the levels,
 *                each level has its own BN. Raw logits cls3.. [batch, anchors * classes, h, w], then deltas box3.. [.., anchors * 4, ..]
 *   classify     endpoints averaged globally, then over the levels, and one matrix: logits [batch, classes] */
#include "spinenet.h"

/* gamma of the last BN of a residual branch, relative to the others: keeps deep sums from amplifying rounding. */
#define BRANCH_GAIN 0.4

static Tensor conv(Net *n, Tensor x, const char *prefix, const char *name, int k, int stride, int cout, bool act) {
  const Conv s = {.name = net_name(n, "%s/%s", prefix, name), .cout = cout, .k = k, .stride = stride, .bn = true, .act = act};
  return layer_conv(n, x, &s);
}

static Tensor depthwise(Net *n, Tensor x, const char *prefix, const char *name, int stride) {
  Conv s = {.name = net_name(n, "%s/%s", prefix, name), .cout = x.c, .k = 3, .stride = stride, .bn = true, .act = true};
  s.depthwise = true;
  return layer_conv(n, x, &s);
}

/* ---- blocks ---- */

static Tensor branch_end(Net *n, Tensor x, const char *prefix, const char *name, int k, int cout, bool added) {
  Conv s = {.name = net_name(n, "%s/%s", prefix, name), .cout = cout, .k = k, .stride = 1, .bn = true};
  s.gain = added ? BRANCH_GAIN : 1;
  return layer_conv(n, x, &s);
}

static Tensor add_shortcut(Net *n, Tensor branch, Tensor x, const char *prefix) {
  if (x.c != branch.c) x = conv(n, x, prefix, "shortcut", 1, 1, branch.c, false);
  Tensor y = layer_add(n, branch, x, net_name(n, "%s/add", prefix));
  return layer_act(n, y, net_name(n, "%s/act", prefix), NULL);
}

static Tensor bottleneck(Net *n, Tensor x, const char *prefix, int filters) {
  Tensor t = conv(n, x, prefix, "conv1", 1, 1, filters, true);
  t = conv(n, t, prefix, "conv2", 3, 1, filters, true);
  return add_shortcut(n, branch_end(n, t, prefix, "conv3", 1, 4 * filters, true), x, prefix);
}

static Tensor residual(Net *n, Tensor x, const char *prefix, int filters) {
  Tensor t = conv(n, x, prefix, "conv1", 3, 1, filters, true);
  return add_shortcut(n, branch_end(n, t, prefix, "conv2", 3, filters, true), x, prefix);
}

static Tensor mbconv(Net *n, Tensor x, const char *prefix, int filters, int stride) {
  const bool skip = stride == 1 && x.c == filters;
  const int reduced = (int)(x.c * 0.2);
  Tensor t = conv(n, x, prefix, "expand", 1, 1, 6 * x.c, true);
  t = depthwise(n, t, prefix, "depthwise", stride);
  t = layer_squeeze_excite(n, t, net_name(n, "%s/se", prefix), reduced > 1 ? reduced : 1);
  t = branch_end(n, t, prefix, "project", 1, filters, skip);
  return skip ? layer_add(n, t, x, net_name(n, "%s/add", prefix)) : t;
}

static Tensor block(Net *n, Tensor x, const char *prefix, BlockKind kind, int filters) {
  switch (kind) {
  case KIND_BOTTLENECK: return bottleneck(n, x, prefix, filters);
  case KIND_RESIDUAL: return residual(n, x, prefix, filters);
  case KIND_MBCONV: return mbconv(n, x, prefix, filters, 1);
  }
  return x;
}

/* A block as often as the variant repeats it. */
static Tensor repeated(Net *n, Tensor x, const char *prefix, BlockKind kind, int filters) {
  for (int i = 0; i < n->cfg->repeats; i++) x = block(n, x, i ? net_name(n, "%s/repeat%d", prefix, i + 1) : prefix, kind, filters);
  return x;
}

/* ---- resampling ---- */

/* Brings a parent to the level and channels of a block: narrow, change the scale, widen. */
static Tensor resample(Net *n, Tensor x, const PlanNode *from, const PlanNode *to, const char *prefix) {
  const int down = to->level - from->level;
  x = conv(n, x, prefix, "reduce", 1, 1, plan_link_filters(n->cfg, from), true);
  if (down > 0) x = conv(n, x, prefix, "down", 3, 2, x.c, true);
  for (int i = 1; i < down; i++) x = layer_max_pool(n, x, net_name(n, "%s/pool%d", prefix, i));
  if (down < 0) x = layer_upsample(n, x, net_name(n, "%s/up", prefix), -down);
  return conv(n, x, prefix, "expand", 1, 1, to->channels, false);
}

/* The mobile family narrows nothing: depthwise convolutions all the way down. */
static Tensor resample_mobile(Net *n, Tensor x, const PlanNode *from, const PlanNode *to, const char *prefix) {
  const int down = to->level - from->level;
  for (int i = 1; i <= down; i++) x = depthwise(n, x, prefix, net_name(n, "down%d", i), 2);
  if (down < 0) x = layer_upsample(n, x, net_name(n, "%s/up", prefix), -down);
  return conv(n, x, prefix, "expand", 1, 1, to->channels, false);
}

/* Sum of all parents, activated. `built` holds the tensors of the nodes before this one. */
static Tensor merge_parents(Net *n, const Plan *plan, const PlanNode *b, const Tensor *built) {
  Tensor sum = {0};
  for (int k = 0; k < b->n_parents + b->n_extra; k++) {
    const int p = k < b->n_parents ? b->parents[k] : b->extra[k - b->n_parents];
    Tensor t = built[p];
    if (k < b->n_parents) {
      const PlanNode *from = &plan->nodes[p];
      int earlier = 0; /* the same parent twice is allowed: two connections with their own weights */
      for (int j = 0; j < k; j++) earlier += b->parents[j] == p;
      const char *prefix = net_name(n, "%s/from_%s", b->name, from->name);
      if (earlier) prefix = net_name(n, "%s_%d", prefix, earlier + 1);
      t = (n->cfg->variant->mobile ? resample_mobile : resample)(n, t, from, b, prefix);
    }
    sum = k ? layer_add(n, sum, t, net_name(n, "%s/merge%d", b->name, k)) : t;
  }
  return layer_act(n, sum, net_name(n, "%s/merge_act", b->name), NULL);
}

/* ---- the whole backbone ---- */

static void build_stem(Net *n, const Plan *plan, Tensor *built) {
  Tensor x = layer_input(n, "input");
  if (n->cfg->variant->mobile) {
    x = conv(n, x, "stem", "conv", 3, 2, plan->width[0], true);
    built[0] = mbconv(n, x, "stem1", plan->nodes[0].filters, 1);
    if (plan->nodes[1].live) built[1] = mbconv(n, built[0], "stem2", plan->nodes[1].filters, 2);
  } else {
    x = layer_max_pool(n, conv(n, x, "stem", "conv", 7, 2, 64, true), "stem/pool");
    built[0] = repeated(n, x, "stem1", KIND_BOTTLENECK, plan->nodes[0].filters);
    if (plan->nodes[1].live) built[1] = repeated(n, built[0], "stem2", KIND_BOTTLENECK, plan->nodes[1].filters);
  }
}

void network_backbone(Net *n, const Plan *plan, Tensor *endpoints) {
  const Config *cfg = n->cfg;
  Tensor *built = arena_array(n->mem, (size_t)plan->n, sizeof *built);
  build_stem(n, plan, built);
  for (int i = 2; i < plan->n; i++) {
    const PlanNode *b = &plan->nodes[i];
    if (b->live) built[i] = repeated(n, merge_parents(n, plan, b, built), b->name, b->kind, b->filters);
  }
  for (int lv = cfg->first_level; lv <= cfg->last_level; lv++) {
    const char *name = net_name(n, "P%d", lv);
    Conv s = {.name = net_name(n, "%s/conv", name), .cout = cfg->endpoint_filters, .k = 1, .stride = 1, .bn = true, .act = true};
    if (cfg->head == HEAD_NONE) s.output = name;
    Tensor t = endpoints[lv - cfg->first_level] = layer_conv(n, built[plan->output[lv]], &s);
    if (cfg->head == HEAD_NONE) layer_output(n, t);
  }
}

/* ---- heads ---- */

/* One subnet over all levels; outputs are named <name><level>. */
static void subnet(Net *n, const Tensor *endpoints, int count, const char *name, int cout) {
  const Config *cfg = n->cfg;
  const int f = cfg->head_filters, depth = cfg->head_convs;
  Kernel *towers = arena_array(n->mem, (size_t)depth + 1, sizeof *towers);
  for (int i = 0; i < depth; i++)
    towers[i] = layer_kernel(n, net_name(n, "%s/conv%d", name, i + 1), i ? f : cfg->endpoint_filters, f, 3, true);
  const Kernel predict = layer_kernel(n, net_name(n, "%s/predict", name), depth ? f : cfg->endpoint_filters, cout, 3, false);

  for (int e = 0; e < count; e++) {
    const int level = cfg->first_level + e;
    Tensor x = endpoints[e];
    for (int i = 0; i < depth; i++) {
      Conv s = {.name = net_name(n, "%s/P%d/conv%d", name, level, i + 1), .cout = f, .k = 3, .stride = 1, .bn = true, .act = true};
      s.shared = &towers[i];
      x = layer_conv(n, x, &s);
    }
    Conv s = {.name = net_name(n, "%s/P%d/predict", name, level), .cout = cout, .k = 3, .stride = 1, .shared = &predict};
    s.output = net_name(n, "%s%d", name, level);
    layer_output(n, layer_conv(n, x, &s));
  }
}

void heads_build(Net *n, const Tensor *endpoints, int count) {
  const Config *cfg = n->cfg;
  switch (cfg->head) {
  case HEAD_NONE: break;
  case HEAD_RETINANET:
    subnet(n, endpoints, count, "cls", cfg->anchors * cfg->classes);
    subnet(n, endpoints, count, "box", cfg->anchors * 4);
    break;
  case HEAD_CLASSIFY: layer_classifier(n, endpoints, count, "classifier", cfg->classes, "logits"); break;
  }
}
