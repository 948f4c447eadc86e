/* cases.c: see cases.h. Inputs are made so that convolutions see blocked operands as well as plain ones, and results of either layout. */
#include "cases.h"

#include <math.h>
#include <stdio.h>

#define MACS_MOST 1500000   /* of a case: the reference is an interpreter */

static int64_t pick(Rng *r, int64_t lo, int64_t hi) { return lo + rng_below(r, hi - lo + 1); }
static bool one_in(Rng *r, int n) { return rng_below(r, n) == 0; }

/* ---- shapes ---- */

static int64_t pick_channels(Rng *r) {
  static const int64_t wide[] = {83, 128, 166};
  return one_in(r, 8) ? wide[rng_below(r, 3)] : pick(r, 1, 67);
}

static int64_t extent(int64_t in, int64_t pads, int64_t kernel, int64_t stride, int64_t dilation) {
  int64_t span = in + pads - (kernel - 1) * dilation - 1;
  return span < 0 ? 0 : span / stride + 1;
}

static void result_size(const Case *c, int64_t *oh, int64_t *ow) {
  if (c->kind == TRANSPOSED) {
    *oh = (c->h - 1) * c->sh + (c->kh - 1) * c->dh + 1 + c->pad_out[0] - c->pad[0] - c->pad[2];
    *ow = (c->w - 1) * c->sw + (c->kw - 1) * c->dw + 1 + c->pad_out[1] - c->pad[1] - c->pad[3];
    return;
  }
  *oh = extent(c->h, c->pad[0] + c->pad[2], c->kh, c->sh, c->dh);
  *ow = extent(c->w, c->pad[1] + c->pad[3], c->kw, c->sw, c->dw);
}

static bool fits(const Case *c) {
  int64_t oh, ow, macs = c->n * c->c * c->k;
  if (c->kind == PRODUCT || c->kind == DOT) return macs * c->h <= MACS_MOST;
  result_size(c, &oh, &ow);
  if (oh < 1 || ow < 1 || oh > 70 || ow > 70) return false;
  int64_t out = c->kind == TRANSPOSED ? c->h * c->w : oh * ow;
  return macs / c->group * c->kh * c->kw * out + c->n * c->c * c->c * c->h * c->w <= MACS_MOST;
}

static void specialise(Rng *r, Case *c, int lanes) {
  switch (c->kind) {
  case DIRECT: c->run_time = one_in(r, 4); break;
  case POINTWISE:
    c->kh = c->kw = c->dh = c->dw = 1;
    if (!one_in(r, 3)) c->sh = c->sw = 1;
    for (int i = 0; i < 4 && !one_in(r, 4); i++) c->pad[i] = 0;
    break;
  case WINOGRAD_GROUPS:
    c->group = pick(r, 2, 3);
    c->c = c->group * lanes * pick(r, 1, 2);
    c->k = c->group * lanes * pick(r, 1, 3);
    c->kh = c->kw = 3, c->sh = c->sw = c->dh = c->dw = 1, c->plain_in = false;
    break;
  case WINOGRAD: c->kh = c->kw = 3, c->sh = c->sw = c->dh = c->dw = 1, c->plain_in = false; break;
  case DEPTHWISE:
    c->k = c->c = c->group = MAXI(2, c->c), c->plain_in = false;
    if (one_in(r, 2)) c->kh = c->kw = 3;
    if (one_in(r, 3)) c->k *= pick(r, 2, 4);
    break;
  case GROUPS:
    c->group = pick(r, 2, 5);
    c->c = c->group * pick(r, 1, 20);
    c->k = c->group * pick(r, 1, 24);
    break;
  case TRANSPOSED:
    for (int i = 0; i < 2; i++) c->pad_out[i] = one_in(r, 3);
    for (int i = 0; i < 4; i++) c->pad[i] = pick(r, -1, 2);
    if (!one_in(r, 4)) c->kh = MAXI(c->kh, c->sh), c->kw = MAXI(c->kw, c->sw), c->dh = c->dw = 1;
    if (one_in(r, 5)) c->k = c->c = c->group = MAXI(2, c->c);
    break;
  case PRODUCT:
    c->trans_a = one_in(r, 3), c->trans_b = one_in(r, 3), c->run_time = one_in(r, 2);
    if (one_in(r, 3)) c->h = 1;
    break;
  case DOT:
    c->trans_b = c->run_time = true;
    c->c = MAXI(c->c, lanes);
    break;
  case GATED:
    c->k = c->c = c->group = MAXI(2, c->c), c->plain_in = c->second = false;
    c->move = MOVE_GATE;
    break;
  case NEIGHBOURS: c->kh = pick(r, 1, 5); break;
  case MAXIMUM:
  case AVERAGE:
    if (!one_in(r, 4)) c->dh = c->dw = 1;
    if (one_in(r, 3)) c->kh = pick(r, 1, 19);
    if (one_in(r, 3)) c->kw = pick(r, 1, 19);
    if (one_in(r, 2)) c->pad[0] = c->pad[2] = c->kh / 2, c->pad[1] = c->pad[3] = c->kw / 2;
    for (int i = 0; i < 4; i++) c->pad[i] = MINI(c->pad[i], i % 2 ? (c->kw - 1) * c->dw : (c->kh - 1) * c->dh);
    c->k = c->c;
    c->ceil_mode = one_in(r, 3), c->include_pad = one_in(r, 2), c->second = one_in(r, 3);
    break;
  case SUM:
    c->kh = c->kw = c->dh = c->dw = 1;
    if (!one_in(r, 3)) c->sh = c->sw = 1;
    for (int i = 0; i < 4; i++) c->pad[i] = 0;
    break;
  case JOINED:
    if (one_in(r, 2)) c->kh = c->kw = c->sh = c->sw = c->dh = c->dw = 1, c->pad[0] = c->pad[1] = c->pad[2] = c->pad[3] = 0;
    c->k = MAXI(1, MINI(c->k, c->c / 3));
    c->second = c->residual = c->upsampled = false;
    break;
  case STREAMED:
    if (one_in(r, 2)) c->kh = c->kw = c->sh = c->sw = c->dh = c->dw = 1, c->pad[0] = c->pad[1] = c->pad[2] = c->pad[3] = 0;
    c->h = pick(r, 16, 40), c->w = pick(r, 24, 48), c->sw = 1, c->second = false;   /* high and wide enough, mostly */
    break;
  case KIND_COUNT: break;
  }
}

Case case_make(Rng *r, Kind kind, int lanes) {
  Case c;
  do {
    c = (Case){.seed = rng_next(r), .kind = kind, .n = pick(r, 1, 3), .c = pick_channels(r), .h = pick(r, 1, 33), .w = pick(r, 1, 33), .k = pick_channels(r),
               .kh = pick(r, 1, 5), .kw = pick(r, 1, 5), .sh = pick(r, 1, 3), .sw = pick(r, 1, 3), .dh = pick(r, 1, 2), .dw = pick(r, 1, 2), .group = 1,
               .bias = one_in(r, 2), .scale = one_in(r, 2), .residual = one_in(r, 2), .broadcast = one_in(r, 4), .upsampled = one_in(r, 4),
               .plain_in = one_in(r, 4), .second = one_in(r, 8), .act = (Act)rng_below(r, ACT_COUNT), .move = (int)rng_below(r, MOVE_COUNT)};
    for (int i = 0; i < 4; i++) c.pad[i] = pick(r, 0, 2);
    if (one_in(r, 3)) c.w = c.h;
    specialise(r, &c, lanes);
  } while (!fits(&c));
  return c;
}

const char *case_text(const Case *c) {
  static const char *const kinds[] = {"direct", "pointwise", "winograd", "depthwise", "groups", "winograd groups", "transposed", "product", "dot", "gated",
                                      "neighbours", "maximum", "average", "sum",
                                      "joined", "streamed"};
  static char s[400];
  snprintf(s, sizeof s, "%s n%d c%d %dx%d k%d %dx%d s%dx%d d%dx%d pads %d,%d,%d,%d out %d,%d groups %d%s%s%s%s%s%s%s%s%s%s%s%s act %d move %d", kinds[c->kind],
           (int)c->n, (int)c->c, (int)c->h, (int)c->w, (int)c->k, (int)c->kh, (int)c->kw, (int)c->sh, (int)c->sw, (int)c->dh, (int)c->dw, (int)c->pad[0],
           (int)c->pad[1], (int)c->pad[2], (int)c->pad[3], (int)c->pad_out[0], (int)c->pad_out[1], (int)c->group, c->bias ? " bias" : "",
           c->scale ? " scale" : "", c->residual ? " residual" : "", c->broadcast ? " broadcast" : "", c->upsampled ? " upsampled" : "",
           c->plain_in ? " plain" : "", c->second ? " second" : "", c->trans_a ? " trans_a" : "", c->trans_b ? " trans_b" : "", c->run_time ? " run time" : "",
           c->ceil_mode ? " ceil" : "", c->include_pad ? " include pad" : "",
           (int)c->act, c->move);
  return s;
}

/* ---- graphs ---- */

static Value *make(Graph *g, Op op, const void *attr, Value *const *in, int nin) {
  Node *n = graph_make(g, NULL, op, attr, in, nin);
  return n ? n->out[0] : NULL;
}

static Value *make2(Graph *g, Op op, Value *x, Value *y) { return make(g, op, NULL, (Value *[]){x, y}, 2); }

static Value *random_const(Graph *g, Rng *r, int rank, const int64_t *dims, double gain) {
  Shape s = shape_of(rank, dims);
  int64_t n = shape_count(&s);
  float *d = NEW_N(g->arena, float, n + 1);
  for (int64_t i = 0; i < n; i++) d[i] = (float)(rng_normal(r) * gain);
  return graph_add_const(g, NULL, DT_F32, &s, d);
}

static Value *add_input(Graph *g, const Shape *s) { return graph_add_input(g, arena_printf(g->arena, "x%d", g->inputs.n), DT_F32, s); }

static Value *pointwise(Graph *g, Rng *r, Value *x, int64_t k) {
  int64_t c = x->shape.d[1].n;
  ConvAttr one = {.strides = ints_fill(g->arena, 1, 2), .pads = ints_fill(g->arena, 0, 4), .dilations = ints_fill(g->arena, 1, 2), .group = 1};
  return make(g, OP_Conv, &one, (Value *[]){x, random_const(g, r, 4, (int64_t[]){k, c, 1, 1}, 1 / sqrt((double)c))}, 2);
}

static Value *shuffled(Graph *g, Value *y) {
  Arena *a = g->arena;
  const Shape *s = &y->shape;
  int64_t groups = 1, k = s->d[1].n;
  for (int64_t d = 2; d <= 4; d++)
    if (k % d == 0) groups = d;
  int64_t split[5] = {s->d[0].n, groups, k / groups, s->d[2].n, s->d[3].n}, perm[5] = {0, 2, 1, 3, 4}, join[4] = {s->d[0].n, k, s->d[2].n, s->d[3].n};
  y = make(g, OP_Reshape, &(ShapeAttr){.shape = ints_copy(a, split, 5)}, &y, 1);
  y = make(g, OP_Transpose, &(PermAttr){.perm = ints_copy(a, perm, 5)}, &y, 1);
  return make(g, OP_Reshape, &(ShapeAttr){.shape = ints_copy(a, join, 4)}, &y, 1);
}

/* Squeeze and excite: every channel times a number made from its mean. */
static Value *gated(Graph *g, Rng *r, Value *y) {
  ReduceAttr space = {.axes = ints_copy(g->arena, (int64_t[]){2, 3}, 2), .keepdims = true};
  Value *m = pointwise(g, r, make(g, OP_ReduceMean, &space, &y, 1), y->shape.d[1].n);
  return make2(g, OP_Mul, y, make(g, OP_Sigmoid, NULL, &m, 1));
}

/* A convolution reads the result, so that it stays blocked. `part` is another value of the same image. */
static Value *moved(Graph *g, Rng *r, const Case *c, Value *part, Value *y) {
  Arena *a = g->arena;
  if (c->move == MOVE_CONCAT) {
    y = make(g, OP_Concat, &(AxisAttr){.axis = 1}, (Value *[]){y, part, y}, 3);
  } else if (c->move == MOVE_SLICE) {
    int64_t starts[4] = {0}, sizes[4];
    for (int i = 0; i < 4; i++) sizes[i] = y->shape.d[i].n;
    starts[1] = rng_below(r, sizes[1]);
    sizes[1] -= starts[1];
    SliceAttr at = {.starts = ints_copy(a, starts, 4), .steps = ints_fill(a, 1, 4), .sizes = ints_copy(a, sizes, 4)};
    y = make(g, OP_Slice, &at, &y, 1);
  } else if (c->move == MOVE_SHUFFLE) {
    y = shuffled(g, y);
  } else if (c->move == MOVE_GATE) {
    y = gated(g, r, y);
  } else {
    return y;
  }
  return pointwise(g, r, y, pick(r, 1, 60));
}

static Value *activated(Graph *g, const Case *c, Value *y) {
  switch (c->act) {
  case ACT_NONE: break;
  case ACT_RELU: return make(g, OP_Relu, NULL, &y, 1);
  case ACT_SWISH: return make2(g, OP_Mul, y, make(g, OP_Sigmoid, NULL, &y, 1));
  case ACT_LEAKY: return make(g, OP_LeakyRelu, &(AlphaAttr){.alpha = 0.1}, &y, 1);
  case ACT_CLIP: return make(g, OP_Clip, &(ClipAttr){.lo = -0.5, .hi = 1.5}, &y, 1);
  case ACT_HARD: return make(g, OP_HardSwish, NULL, &y, 1);
  case ACT_COUNT: break;
  }
  return y;
}

/* Operands of the epilogue: of the result's shape, one number per channel, and half its size. */
static Value *epilogue(Graph *g, Rng *r, const Case *c, Value *y) {
  if (c->residual) y = make2(g, OP_Add, y, add_input(g, &y->shape));
  if (c->broadcast && y->shape.rank == 4) y = make2(g, OP_Mul, y, random_const(g, r, 3, (int64_t[]){y->shape.d[1].n, 1, 1}, 1));
  if (c->upsampled && y->shape.rank == 4 && y->shape.d[2].n % 2 == 0 && y->shape.d[3].n % 2 == 0) {
    Shape half = y->shape;
    half.d[2].n /= 2, half.d[3].n /= 2;
    int64_t sizes[4];
    double scales[4] = {1, 1, 2, 2};
    for (int i = 0; i < 4; i++) sizes[i] = y->shape.d[i].n;
    Value *small = pointwise(g, r, add_input(g, &half), y->shape.d[1].n);
    ResizeAttr up = {.sizes = ints_copy(g->arena, sizes, 4), .scales = {NEW_N(g->arena, double, 4), 4}, .mode = RESIZE_NEAREST, .coord = COORD_ASYMMETRIC,
                     .nearest = NEAREST_FLOOR};
    for (int i = 0; i < 4; i++) ((double *)up.scales.v)[i] = scales[i];
    y = make2(g, OP_Add, y, make(g, OP_Resize, &up, &small, 1));
  }
  return activated(g, c, y);
}

static void build_product(Graph *g, Rng *r, const Case *c) {
  Shape a = shape_of(3, (int64_t[]){c->n, c->trans_a ? c->c : c->h, c->trans_a ? c->h : c->c});
  int64_t b[3] = {c->n, c->trans_b ? c->k : c->c, c->trans_b ? c->c : c->k};
  Shape bs = shape_of(c->second ? 3 : 2, c->second ? b : b + 1);   /* a matrix for each batch, or one for all */
  MatMulAttr at = {.trans_a = c->trans_a, .trans_b = c->trans_b};
  Value *x = add_input(g, &a), *w = c->run_time ? add_input(g, &bs) : random_const(g, r, bs.rank, c->second ? b : b + 1, 1 / sqrt((double)c->c));
  Value *y = make(g, OP_MatMul, &at, (Value *[]){x, w}, 2);
  if (c->bias) y = make2(g, OP_Add, y, random_const(g, r, 1, &c->k, 1));
  graph_add_output(g, epilogue(g, r, c, y));
}

static Value *convolution(Graph *g, Rng *r, const Case *c, Value *x) {
  Arena *a = g->arena;
  bool transposed = c->kind == TRANSPOSED;
  Ints strides = ints_copy(a, (int64_t[]){c->sh, c->sw}, 2), pads = ints_copy(a, c->pad, 4), dilations = ints_copy(a, (int64_t[]){c->dh, c->dw}, 2);
  ConvAttr conv = {.strides = strides, .pads = pads, .dilations = dilations, .group = c->group};
  ConvTransposeAttr tr = {.strides = strides, .pads = pads, .dilations = dilations, .group = c->group, .output_padding = ints_copy(a, c->pad_out, 2)};
  int64_t dense[4] = {c->k, c->c / c->group, c->kh, c->kw}, turned[4] = {c->c, c->k / c->group, c->kh, c->kw};
  Value *w = random_const(g, r, 4, transposed ? turned : dense, 1 / sqrt((double)(c->c / c->group * c->kh * c->kw)));
  if (c->run_time) w = add_input(g, &w->shape);
  Value *in[4] = {x, w, c->bias ? random_const(g, r, 1, &c->k, 1) : NULL, c->scale ? random_const(g, r, 1, &c->k, 1) : NULL};
  Op op = transposed ? OP_ConvTranspose : OP_Conv;
  const void *attr = transposed ? (const void *)&tr : &conv;
  Value *y = make(g, op, attr, in, 4);
  if (!c->second) return y;
  in[3] = random_const(g, r, 1, &c->k, 1);   /* shares the weights with another scale */
  return make2(g, OP_Add, y, make(g, op, attr, in, 4));
}

static Value *pool(Graph *g, const Case *c, Value *x) {
  Arena *a = g->arena;
  PoolAttr at = {.kernel = ints_copy(a, (int64_t[]){c->kh, c->kw}, 2), .strides = ints_copy(a, (int64_t[]){c->sh, c->sw}, 2), .pads = ints_copy(a, c->pad, 4),
                 .dilations = ints_copy(a, (int64_t[]){c->dh, c->dw}, 2), .ceil_mode = c->ceil_mode, .count_include_pad = c->include_pad, .p = 2};
  return make(g, c->kind == AVERAGE ? OP_AveragePool : OP_MaxPool, &at, &x, 1);
}

/* Two more images, of sizes and strides of their own, reach the size of the first one's result. */
static Value *sum(Graph *g, Rng *r, const Case *c, Value *x) {
  Value *y = convolution(g, r, c, x);
  for (int i = 0; i < 2; i++) {
    Case other = *c;
    other.c = pick(r, 1, 40), other.sh = pick(r, 1, 2), other.sw = pick(r, 1, 2), other.second = false, other.bias = one_in(r, 2);
    int64_t h = (y->shape.d[2].n - 1) * other.sh + pick(r, 1, other.sh), w = (y->shape.d[3].n - 1) * other.sw + pick(r, 1, other.sw);
    Shape s = shape_of(4, (int64_t[]){c->n, other.c, h, w});
    Value *z = add_input(g, &s);
    y = make2(g, OP_Add, y, convolution(g, r, &other, one_in(r, 2) ? z : pointwise(g, r, z, other.c)));
  }
  return y;
}

/* Three convolutions that differ in nothing but their channels. */
static Value *joined(Graph *g, Rng *r, const Case *c, Value *x) {
  Value *part[3];
  for (int i = 0; i < 3; i++) {
    Case other = *c;
    other.k = pick(r, 1, c->k), other.bias = one_in(r, 2), other.act = (Act)rng_below(r, ACT_COUNT);
    part[i] = activated(g, &other, convolution(g, r, &other, x));
  }
  return make(g, OP_Concat, &(AxisAttr){.axis = 1}, part, 3);
}

/* A maximum, an average and a depthwise convolution, each of which alone reads a convolution's result, and perhaps a 1x1 convolution that of
 * each. */
static Value *streamed(Graph *g, Rng *r, const Case *c, Value *x) {
  static const Kind windows[] = {MAXIMUM, AVERAGE, DEPTHWISE};
  Case w = *c;
  Value *part[COUNTOF(windows)];
  bool last = one_in(r, 2);
  for (int i = 0; i < COUNTOF(windows); i++) {
    Value *y = activated(g, c, convolution(g, r, c, x));
    if (i == 0) {
      w.kh = MINI(pick(r, 2, 3), y->shape.d[2].n), w.kw = MINI(pick(r, 2, 3), y->shape.d[3].n), w.sh = w.sw = pick(r, 1, 2), w.ceil_mode = false;
      for (int p = 0; p < 4; p++) w.pad[p] = pick(r, 0, MINI(1, (p % 2 ? w.kw : w.kh) - 1));
    }
    w.kind = windows[i], w.c = w.k, w.dh = w.dw = 1, w.bias = one_in(r, 2), w.group = w.kind == DEPTHWISE ? w.k : 1;
    y = w.kind == DEPTHWISE ? convolution(g, r, &w, y) : pool(g, &w, y);
    part[i] = last ? pointwise(g, r, activated(g, c, y), pick(r, 1, 40)) : y;
  }
  return make(g, OP_Concat, &(AxisAttr){.axis = 1}, part, COUNTOF(windows));
}

static Value *tested(Graph *g, Rng *r, const Case *c, Value *x) {
  if (c->kind == MAXIMUM || c->kind == AVERAGE) {
    Value *y = pool(g, c, x);
    const Dim *d = y ? y->shape.d : NULL;
    bool again = y && c->kind == MAXIMUM && c->second;   /* a chain, where the result is large enough */
    again = again && extent(d[2].n, c->pad[0] + c->pad[2], c->kh, c->sh, c->dh) > 0 && extent(d[3].n, c->pad[1] + c->pad[3], c->kw, c->sw, c->dw) > 0;
    return again ? pool(g, c, y) : y;
  }
  if (c->kind == SUM) return sum(g, r, c, x);
  if (c->kind == JOINED) return joined(g, r, c, x);
  if (c->kind == STREAMED) return streamed(g, r, c, x);
  return c->kind == NEIGHBOURS ? make(g, OP_Lrn, &(LrnAttr){.size = c->kh, .alpha = 0.5, .beta = 0.75, .bias = 1}, &x, 1) : convolution(g, r, c, x);
}

void case_build(Graph *g, const Case *c) {
  Rng r = rng_new(c->seed);
  if (c->kind == PRODUCT || c->kind == DOT) {
    build_product(g, &r, c);
    return;
  }
  Shape xs = shape_of(4, (int64_t[]){c->n, c->c, c->h, c->w});
  Value *x = add_input(g, &xs);
  if (!c->plain_in) x = pointwise(g, &r, x, c->c);   /* gives what is under test a blocked operand */
  Value *y = tested(g, &r, c, x);
  graph_add_output(g, moved(g, &r, c, y, epilogue(g, &r, c, y)));
}
