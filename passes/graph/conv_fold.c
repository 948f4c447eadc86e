/* conv_fold.c: per-channel arithmetic around a convolution becomes its scale and bias, explicit zero padding its pads.
 *
 * A (transposed) convolution computes scale[k] * conv + bias[k]. Any chain of constant per-channel multiplications and additions behind it
 * composes into the two, which is how BatchNormalization disappears. Weights are not touched: they are borrowed and may be shared; the
 * scale is applied when they are packed. Arithmetic is in double, rounded to the tensor's type once per fold.
 *
 * before: %c = Conv(%x, %w); %m = Mul(%c, %s); %y = Add(%m, %b)          %s, %b: f32[1,K,1,1]
 * after:  %y = Conv(%x, %w, %b', %s')                                    %b', %s': f32[K]
 * before: %p = Pad(%x) {pads=[0,0,1,1,0,0,1,1]}; %y = Conv(%p, %w) {pads=[0,0,0,0]}
 * after:  %y = Conv(%x, %w) {pads=[1,1,1,1]}
 */
#include "../passes.h"

#include <math.h>
#include <string.h>

enum { BIAS = 2, SCALE = 3 };   /* operands of Conv and ConvTranspose */

static bool is_conv(const Node *n) { return (n->op == OP_Conv || n->op == OP_ConvTranspose) && !n->nbody && n->ncore <= 4; }

static Value *operand(const Node *n, int i) { return i < n->ncore ? n->in[i] : NULL; }

/* The result can take a scale and a bias: of a known number of channels, in a type the packing can scale, both constant so far. */
static bool can_scale(const Node *n) {
  const Value *y = n->out[0], *b = operand(n, BIAS), *s = operand(n, SCALE);
  if (y->dt != DT_F32 && y->dt != DT_F64) return false;
  return y->shape.rank >= 3 && !y->shape.d[1].sym && (!b || b->data) && (!s || s->data);
}

/* v[k] of a constant that, broadcast to a tensor of this rank, has one value per channel; false if it has not. */
static bool channel_values(const Value *c, int rank, int64_t channels, double *v) {
  if (c->shape.rank > rank || !dt_size(c->dt)) return false;
  int axis = 1 - (rank - c->shape.rank);   /* of the channels in c; negative: c has none */
  int64_t n = value_count(c), dim = axis >= 0 ? c->shape.d[axis].n : 1;
  if (n == 0 || (dim != 1 && dim != channels)) return false;
  int64_t inner = axis >= 0 ? shape_count_from(&c->shape, axis + 1) : n;
  for (int64_t i = 0; i < n; i++) {
    int64_t k = i / inner % dim;
    double x = data_get_f(c->data, c->dt, i);
    if (i != k * inner && memcmp(&x, &v[k], sizeof x)) return false;
    v[k] = x;
  }
  for (int64_t k = 1; k < channels && dim == 1; k++) v[k] = v[0];
  return true;
}

static double *vector_of(Arena *a, const Value *v, int64_t channels, double missing) {
  double *x = NEW_N(a, double, channels);
  for (int64_t k = 0; k < channels; k++) x[k] = v ? data_get_f(v->data, v->dt, k) : missing;
  return x;
}

/* A constant of these values, or NULL where all are `missing` anyway. */
static Value *vector_value(Graph *g, DType dt, const double *x, int64_t channels, double missing) {
  bool needed = false;
  for (int64_t k = 0; k < channels; k++) needed |= x[k] != missing;
  if (!needed) return NULL;
  Shape s = shape_of(1, &channels);
  void *data = arena_alloc_array(g->arena, (size_t)channels, dt_size(dt));
  for (int64_t k = 0; k < channels; k++) data_set_f(data, dt, k, x[k]);
  return graph_add_const(g, NULL, dt, &s, data);
}

static void set_affine(Graph *g, Node *n, const double *scale, const double *bias, int64_t channels) {
  DType dt = n->out[0]->dt;
  Value *in[4] = {n->in[0], n->in[1], vector_value(g, dt, bias, channels, 0), vector_value(g, dt, scale, channels, 1)};
  int nin = in[SCALE] ? 4 : in[BIAS] ? 3 : 2;
  graph_set_inputs(g, n, in, nin, nin);
}

/* n takes e's place in the graph. */
static void absorb(Graph *g, Node *n, Node *e) {
  Value *y = e->out[0];
  const char *name = y->is_output ? NULL : y->name;
  node_copy_origin(g, n, e);
  graph_replace_uses(g, y, n->out[0]);
  if (name) {
    n->out[0]->name = name;
    y->name = NULL;
  }
  graph_erase(g, e);
}

/* y = conv op c, or c op conv, with c constant per channel. */
static bool fold_after(Graph *g, Node *e) {
  if (e->op != OP_Mul && e->op != OP_Div && e->op != OP_Add && e->op != OP_Sub) return false;
  int side = e->in[0]->def && is_conv(e->in[0]->def) && value_is_const(e->in[1]) ? 0 : 1;
  Value *r = e->in[side], *c = e->in[1 - side];
  Node *n = r->def;
  if (e->nbody || !n || !is_conv(n) || !value_is_const(c) || !value_single_use(r) || !can_scale(n)) return false;
  if (!shape_equal(&r->shape, &e->out[0]->shape) || r->dt != e->out[0]->dt) return false;
  if (e->op == OP_Div && side == 1) return false;
  int64_t channels = r->shape.d[1].n;
  double *v = NEW_N(g->arena, double, channels);
  if (!channel_values(c, r->shape.rank, channels, v)) return false;
  double *scale = vector_of(g->arena, operand(n, SCALE), channels, 1), *bias = vector_of(g->arena, operand(n, BIAS), channels, 0);
  for (int64_t k = 0; k < channels; k++) {
    if (!isfinite(v[k]) || (e->op == OP_Div && v[k] == 0)) return false;
    bool negate = e->op == OP_Sub && side == 1;
    double factor = e->op == OP_Mul ? v[k] : e->op == OP_Div ? 1 / v[k] : negate ? -1 : 1;
    double term = e->op == OP_Add || negate ? v[k] : e->op == OP_Sub ? -v[k] : 0;
    scale[k] = e->op == OP_Div ? scale[k] / v[k] : scale[k] * factor;
    bias[k] = (e->op == OP_Div ? bias[k] / v[k] : bias[k] * factor) + term;
  }
  set_affine(g, n, scale, bias, channels);
  absorb(g, n, e);
  return true;
}

/* before: %m = Mul(%x, 0.5); %y = Conv(%m, %w)      after: %y = Conv(%x, %w, _, [0.5, ...])
 * One factor for all channels; zero padding stays zero. */
static bool fold_before(Graph *g, Node *n) {
  Value *m = n->in[0];
  Node *e = m->def;
  if (!e || e->nbody || (e->op != OP_Mul && e->op != OP_Div) || !value_single_use(m) || !can_scale(n) || n->out[0]->dt != m->dt)
    return false;
  double f;
  int side = value_scalar_f(e->in[1], &f) ? 0 : 1;
  if (side == 1 && (e->op == OP_Div || !value_scalar_f(e->in[0], &f))) return false;
  Value *x = e->in[side];
  if (!isfinite(f) || f == 0 || x->dt != m->dt || !shape_equal(&x->shape, &m->shape)) return false;
  int64_t channels = n->out[0]->shape.d[1].n;
  double *scale = vector_of(g->arena, operand(n, SCALE), channels, 1), *bias = vector_of(g->arena, operand(n, BIAS), channels, 0);
  for (int64_t k = 0; k < channels; k++) scale[k] = e->op == OP_Mul ? scale[k] * f : scale[k] / f;
  graph_set_input(g, n, 0, x);
  set_affine(g, n, scale, bias, channels);
  node_copy_origin(g, n, e);
  graph_erase(g, e);
  return true;
}

/* ---- padding ---- */

/* Spatial zero padding, nothing cropped. */
static const PadAttr *zero_pad(const Node *p) {
  if (!p || p->op != OP_Pad || p->nbody || !dt_is_float(p->out[0]->dt)) return NULL;
  const PadAttr *a = p->attr;
  int rank = p->out[0]->shape.rank;
  if (a->mode != PAD_CONSTANT || a->value != 0 || rank < 3) return NULL;
  for (int i = 0; i < 2 * rank; i++)
    if (a->pads.v[i] < 0 || (i % rank < 2 && a->pads.v[i])) return NULL;
  return a;
}

static Ints add_pads(Arena *a, Ints pads, const PadAttr *p, int rank) {
  int64_t *v = NEW_N(a, int64_t, pads.n);
  int spatial = rank - 2;
  for (int i = 0; i < pads.n; i++) v[i] = pads.v[i] + p->pads.v[i < spatial ? 2 + i : rank + 2 + i - spatial];
  return (Ints){v, pads.n};
}

/* An average over explicit padding counts the zeros; so does count_include_pad, unless ceil_mode lets windows leave both. */
static bool pool_counts_zeros(const PoolAttr *a) {
  if (a->ceil_mode) return false;
  for (int i = 0; i < a->pads.n && !a->count_include_pad; i++)
    if (a->pads.v[i]) return false;
  return true;
}

static bool fold_pad(Graph *g, Node *n) {
  Node *p = n->in[0]->def;
  const PadAttr *pad = zero_pad(p);
  if (!pad) return false;
  const void *old = n->attr;
  int rank = p->out[0]->shape.rank;
  void *attr = attr_copy(g->arena, op_info(n->op)->attr, old);
  if (n->op == OP_Conv) {
    ConvAttr *a = attr;
    a->pads = add_pads(g->arena, a->pads, pad, rank);
  } else {
    PoolAttr *a = attr;
    if (!pool_counts_zeros(a)) return false;
    a->pads = add_pads(g->arena, a->pads, pad, rank);
    a->count_include_pad = true;
  }
  /* Inference has the last word on what pads a window may have. */
  Shape shape = n->out[0]->shape;
  Diag *d = g->diag;
  g->diag = NULL;
  n->attr = attr;
  graph_set_input(g, n, 0, p->in[0]);
  bool ok = node_infer(g, n) && shape_equal(&shape, &n->out[0]->shape);
  g->diag = d;
  if (ok) {
    node_copy_origin(g, n, p);
    if (!p->out[0]->uses.n && !p->out[0]->is_output) graph_erase(g, p);
    return true;
  }
  n->attr = old;
  graph_set_input(g, n, 0, p->out[0]);
  n->out[0]->shape = shape;
  return false;
}

bool pass_conv_fold(Graph *g, Ctx *c) {
  int64_t arithmetic = 0, pads = 0;
  for (Node *n = g->first, *next; n; n = next) {
    next = n->next;
    if (n->op == OP_Conv || n->op == OP_AveragePool)
      while (!n->nbody && fold_pad(g, n)) pads++;
    if (is_conv(n))
      while (fold_before(g, n)) arithmetic++;
    else arithmetic += fold_after(g, n);
  }
  pass_applied(c, arithmetic + pads);
  if (arithmetic) pass_count(c, "conv_fold", "multiplications and additions", arithmetic);
  if (pads) pass_count(c, "conv_fold", "paddings", pads);
  return arithmetic + pads > 0;
}
