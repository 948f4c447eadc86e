/* pool_order.c: pools change places with activations and 1x1 convolutions where that is less work.
 *
 * A maximum commutes with what never decreases: Relu of the largest is the largest of the Relus, bit for bit, NaN included (all operators
 * listed below hand NaN on). Pooled first, the activation is computed for the elements that are left. An average is linear, and so are 1x1
 * convolutions and per-channel arithmetic; their order is chosen by the arithmetic it takes: a 1x1 convolution goes behind a pool that makes
 * fewer pixels, and in front of one that keeps them if it makes fewer channels. Equal in real arithmetic, not to the last bit.
 *
 * before: %r = Relu(%x); %p = MaxPool(%r) {strides=[2,2]}
 * after:  %p = MaxPool(%x) {strides=[2,2]}; %r = Relu(%p)
 * before: %c = Conv1x1(%x, %w, %b); %p = AveragePool(%c) {strides=[2,2]}          or ReduceMean over the image
 * after:  %p = AveragePool(%x) {strides=[2,2]}; %c = Conv1x1(%p, %w, %b)
 * before: %p = AveragePool(%x) {strides=[1,1]}; %c = Conv1x1(%p, %w, %b)          %w: f32[K,C,1,1], K < C
 * after:  %c = Conv1x1(%x, %w, %b); %p = AveragePool(%c) {strides=[1,1]}
 */
#include "../passes.h"

/* ---- pools ---- */

/* Along each axis, every window holds an element of the input. */
static bool windows_filled(const Node *p) {
  const PoolAttr *a = p->attr;
  const Shape *x = &p->in[0]->shape, *y = &p->out[0]->shape;
  for (int i = 0; i < a->kernel.n; i++)
    for (int64_t o = 0; o < y->d[i + 2].n; o++) {
      int64_t first = o * a->strides.v[i] - a->pads.v[i], d = a->dilations.v[i], k = 0;
      if (first < 0) k = (-first + d - 1) / d;
      if (k >= a->kernel.v[i] || first + k * d >= x->d[i + 2].n) return false;
    }
  return true;
}

static bool max_pool(const Node *n) {
  if (n->op != OP_MaxPool || n->nbody || n->out[1]->uses.n || n->out[1]->is_output) return false;
  return value_count(n->out[0]) > 0 && value_count(n->out[0]) < value_count(n->in[0]) && windows_filled(n);
}

/* Each result is a weighted mean of pixels of its own channel, the weights adding up to 1. */
static bool mean(const Node *n) {
  if (n->nbody || n->in[0]->shape.rank < 3 || value_count(n->out[0]) == 0 || value_count(n->in[0]) == 0) return false;
  if (n->op == OP_ReduceMean) {
    const ReduceAttr *a = n->attr;
    for (int i = 0; i < a->axes.n; i++)
      if (a->axes.v[i] < 2) return false;
    return a->keepdims && a->axes.n > 0 && dt_is_float(n->out[0]->dt);
  }
  if (n->op != OP_AveragePool) return false;
  const PoolAttr *a = n->attr;
  for (int i = 0; i < a->pads.n && a->count_include_pad; i++)
    if (a->pads.v[i]) return false;
  return windows_filled(n);
}

/* Elements added up for one result. */
static double window_of(const Node *p) {
  if (p->op == OP_ReduceMean) return (double)value_count(p->in[0]) / (double)value_count(p->out[0]);
  const PoolAttr *a = p->attr;
  double n = 1;
  for (int i = 0; i < a->kernel.n; i++) n *= (double)a->kernel.v[i];
  return n;
}

/* ---- what may change places with them ---- */

/* A constant of finite numbers; `positive`: all above zero. */
static bool finite_const(const Value *v, bool positive) {
  if (!value_is_const(v) || !dt_is_float(v->dt) || !dt_size(v->dt)) return false;
  int64_t n = value_count(v);
  for (int64_t i = 0; i < n; i++) {
    double x = data_get_f(v->data, v->dt, i);
    if (x - x != 0 || (positive && x <= 0)) return false;
  }
  return true;
}

/* e(x) <= e(y) for x <= y, of operand `data`, the others being constants; NaN gives NaN, and nothing else does. A factor of zero would make
 * one of infinity. */
static bool never_decreases(const Node *e, int data) {
  const AlphaAttr *a = op_info(e->op)->attr == &attr_desc_Alpha ? e->attr : NULL;
  switch ((int)e->op) {
  case OP_Relu: case OP_Clip: case OP_Sigmoid: case OP_Tanh: case OP_Softplus: case OP_Exp: case OP_Erf: case OP_Atan:
  case OP_Floor: case OP_Ceil: case OP_Round:
    return true;
  case OP_LeakyRelu: case OP_Elu: case OP_Celu: case OP_HardSigmoid: return a->alpha > 0;
  case OP_ThresholdedRelu: return a->alpha >= 0;
  case OP_Selu: return a->alpha > 0 && a->beta > 0;
  case OP_PRelu: return data == 0 && finite_const(e->in[1], true);
  case OP_Sub: return data == 0 && finite_const(e->in[1], false);
  case OP_Add: case OP_Max: case OP_Min: return finite_const(e->in[1 - data], false);
  case OP_Mul: return finite_const(e->in[1 - data], true);
  }
  return false;
}

/* e(x) = s * x + b with constants s and b, of operand `data`. */
static bool affine(const Node *e, int data) {
  if (e->op == OP_Add || e->op == OP_Mul || e->op == OP_Sub) return finite_const(e->in[1 - data], false);
  return e->op == OP_Div && data == 0 && value_is_const(e->in[1]);
}

static bool float_conv(const Node *n) { return conv_pointwise(n) && n->out[0]->dt == n->in[0]->dt && dt_is_float(n->out[0]->dt); }

/* ---- rewriting ---- */

static Value *make(Graph *g, Node *before, const Node *like, int slot, Value *x) {
  Value **in = NEW_N(g->arena, Value *, like->nin);
  for (int i = 0; i < like->nin; i++) in[i] = i == slot ? x : like->in[i];
  Node *m = graph_make(g, before, like->op, like->attr, in, like->nin);
  if (!m) ice(g, like, "pool_order", "%s is refused", op_info(like->op)->name);
  node_copy_origin(g, m, like);
  return m->out[0];
}

/* outer(inner(x)) becomes inner(outer(x)); each takes the other's result as its operand `slot`. */
static void swap(Graph *g, Node *outer, int outer_slot, int inner_slot) {
  Node *inner = outer->in[outer_slot]->def;
  Value *first = make(g, outer, outer, outer_slot, inner->in[inner_slot]);
  graph_replace_uses(g, outer->out[0], make(g, outer, inner, inner_slot, first));
  graph_erase(g, outer);
  graph_erase(g, inner);
}

/* The operand through which e can be done after pool p, which reads it; -1: it cannot, or that would be no less work. */
static int goes_behind(const Node *e, const Node *p) {
  bool max = max_pool(p);
  if (!max && !mean(p)) return -1;
  if (!max && float_conv(e)) {
    double in = (double)e->in[1]->shape.d[1].n * (double)((const ConvAttr *)e->attr)->group, out = (double)e->out[0]->shape.d[1].n;
    double large = (double)node_macs(e) * 2 + (double)value_count(p->out[0]) * window_of(p);
    double fewer = (double)value_count(p->out[0]) / (double)value_count(p->in[0]);
    double small = (double)node_macs(e) * 2 * fewer + (double)value_count(p->out[0]) * window_of(p) * in / out;
    return small < large ? 0 : -1;
  }
  for (int i = 0; i < e->nin; i++) {
    if (!ew_pointwise(e, i) || value_is_const(e->in[i]) || e->in[i]->dt != e->out[0]->dt || !dt_is_float(e->out[0]->dt)) continue;
    if (max ? never_decreases(e, i) : affine(e, i) && value_count(p->out[0]) < value_count(p->in[0])) return i;
  }
  return -1;
}

static bool pool_first(Graph *g, Node *p) {
  Node *e = p->nin ? p->in[0]->def : NULL;
  if (!e || p->nbody || !value_single_use(p->in[0])) return false;
  int slot = goes_behind(e, p);
  if (slot < 0) return false;
  swap(g, p, 0, slot);
  return true;
}

static bool convolve_first(Graph *g, Node *n) {
  Node *p = n->nin ? n->in[0]->def : NULL;
  if (!p || !float_conv(n) || p->op != OP_AveragePool || !mean(p) || !value_single_use(n->in[0])) return false;
  double in = (double)value_count(n->in[0]), out = (double)value_count(n->out[0]);
  double more = (double)value_count(p->in[0]) / (double)value_count(p->out[0]);
  if ((double)node_macs(n) * 2 * more + out * window_of(p) >= (double)node_macs(n) * 2 + in * window_of(p)) return false;
  swap(g, n, 0, 0);
  return true;
}

bool pass_pool_order(Graph *g, Ctx *c) {
  int64_t pools = 0, convs = 0;
  for (bool changed = true; changed;) {
    changed = false;
    for (Node *n = g->first, *next; n; n = next) {
      next = n->next;
      bool p = pool_first(g, n), v = !p && convolve_first(g, n);
      pools += p;
      convs += v;
      changed |= p | v;
    }
  }
  if (pools) pass_count(c, "pool_order", "pools moved in front", pools);
  if (convs) pass_count(c, "pool_order", "1x1 convolutions moved in front of averages", convs);
  pass_applied(c, pools + convs);
  return pools + convs > 0;
}
