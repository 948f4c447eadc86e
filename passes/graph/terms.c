/* terms.c: arithmetic is brought into the form and to the place the passes behind this one look for.
 *
 * Constant factors one after another become one, as in weighted sums whose weights are divided by their own sum:
 *
 * before: %m = Mul(%x, 0.3); %y = Div(%m, 1.2)
 * after:  %y = Mul(%x, 0.25)
 *
 * Sums and means of tensors that are stacked for the purpose (torch.stack(...).sum(-1)) become additions; the operands are then read where
 * they are, by index if they are enlarged images (epilogue.c):
 *
 * before: %u = Reshape(%a) {shape=[1,8,4,4,1]}; %v = Reshape(%b) {shape=[1,8,4,4,1]}; %k = Concat(%u, %v) {axis=4}; %m = Mul(%k, [0.6, 0.4])
 *         %y = ReduceSum(%m) {axes=[4]}
 * after:  %p = Mul(%a, 0.6); %q = Mul(%b, 0.4); %y = Add(%p, %q)
 *
 * Functions of single elements go in front of what only moves elements, if all that is moved comes from nodes that can apply them before they
 * store (a detector's scores: convolution, permutation, concatenation over levels, sigmoid):
 *
 * before: %c = Conv(%x, %w); %t = Transpose(%c); %r = Reshape(%t); %y = Sigmoid(%r)
 * after:  %c = Conv(%x, %w); %s = Sigmoid(%c); %t = Transpose(%s); %y = Reshape(%t)
 *
 * The second and third are exact; a joined factor is rounded once where two were.
 */
#include "../passes.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define PARTS_MAX 8     /* of a stack */
#define DEPTH_MAX 8     /* of arithmetic between a stack and its sum; of movements in front of a function */

static bool arithmetic(const Node *n) { return n && (op_info(n->op)->flags & OPF_EW) && !n->nbody && n->op != OP_Map; }

static Value *make(Graph *g, Node *before, const Node *from, Op op, const void *attr, Value *const *in, int nin) {
  Node *m = graph_make(g, before, op, attr, in, nin);
  if (!m) ice(g, before, "terms", "%s is refused", op_info(op)->name);
  node_copy_origin(g, m, from);
  return m->out[0];
}

/* Erases n, and what only it read. */
static void erase_dead(Graph *g, Node *n) {
  for (int i = 0; i < n->nout; i++)
    if (n->out[i]->uses.n || n->out[i]->is_output) return;
  Node *def[PARTS_MAX + 1];
  int defs = 0;
  for (int i = 0; i < n->nin && defs < COUNTOF(def); i++) {
    Node *d = n->in[i] ? n->in[i]->def : NULL;
    bool known = !d;
    for (int k = 0; k < defs && !known; k++) known = def[k] == d;
    if (!known) def[defs++] = d;
  }
  graph_erase(g, n);
  for (int i = 0; i < defs; i++) erase_dead(g, def[i]);
}

/* ---- factors ---- */

/* The operand of n that is a constant factor, by which n multiplies or divides the other, which has the result's shape; -1: none. */
static int factor(const Node *n) {
  if ((n->op != OP_Mul && n->op != OP_Div) || n->nbody || n->out[0]->dt != DT_F32) return -1;
  for (int i = 1; i >= (n->op == OP_Mul ? 0 : 1); i--)
    if (value_is_const(n->in[i]) && !value_is_const(n->in[1 - i]) && shape_equal(&n->in[1 - i]->shape, &n->out[0]->shape)) return i;
  return -1;
}

static double factor_at(const Node *n, int i, int64_t k) {
  const Value *c = n->in[i];
  double f = ((const float *)c->data)[value_count(c) == 1 ? 0 : k];
  return n->op == OP_Div ? 1 / f : f;
}

static bool join_factors(Graph *g, Node *n) {
  int i = factor(n), j;
  Node *p = i < 0 ? NULL : n->in[1 - i]->def;
  if (!p || (j = factor(p)) < 0 || !value_single_use(n->in[1 - i])) return false;
  const Value *a = n->in[i], *b = p->in[j];
  if (value_count(a) != 1 && value_count(b) != 1 && !shape_equal(&a->shape, &b->shape)) return false;
  const Shape *s = value_count(a) > value_count(b) ? &a->shape : &b->shape;
  int64_t count = shape_count(s);
  float *f = arena_alloc_array(g->arena, (size_t)count, sizeof *f);
  for (int64_t k = 0; k < count; k++) {
    double x = factor_at(n, i, k), y = factor_at(p, j, k), product = x * y;
    f[k] = (float)product;
    if (!isfinite(f[k]) || (fabsf(f[k]) < FLT_MIN && product != 0)) return false;
  }
  Value *in[2] = {p->in[1 - j], graph_add_const(g, NULL, DT_F32, s, f)};
  Value *y = make(g, n, p, OP_Mul, NULL, in, 2);
  node_copy_origin(g, y->def, n);
  graph_replace_uses(g, n->out[0], y);
  erase_dead(g, n);
  return true;
}

/* ---- sums of stacks ---- */

/* A stack of `parts` tensors along a dimension, which is the one `back` from the end of all values concerned, and what was computed of it. */
typedef struct Stack { int back, parts, depth; } Stack;

static int dimension(const Stack *s, const Value *v) { return v->shape.rank - s->back; }

/* v has nothing along the dimension, or one element that goes with all parts. */
static bool same_for_all(const Stack *s, const Value *v) { return dimension(s, v) < 0 || v->shape.d[dimension(s, v)].n == 1; }

static bool stacks(const Stack *s, const Value *v) {
  const Node *n = v->def;
  int axis;
  if (!n || n->op != OP_Concat || n->nin != s->parts || !axis_normalise(((const AxisAttr *)n->attr)->axis, v->shape.rank, &axis)) return false;
  if (axis != dimension(s, v)) return false;
  for (int i = 0; i < n->nin; i++)
    if (n->in[i]->shape.d[axis].n != 1) return false;
  return true;
}

/* Each part of v can be computed by itself. */
static bool divisible(Stack *s, const Value *v) {
  if (v->dt != DT_F32 || !shape_is_static(&v->shape)) return false;
  if (same_for_all(s, v) || value_is_const(v)) return true;
  if (!value_single_use(v)) return false;
  if (stacks(s, v)) return true;
  if (!arithmetic(v->def) || ++s->depth > DEPTH_MAX) return false;
  for (int i = 0; i < v->def->nin; i++)
    if (!divisible(s, v->def->in[i])) return false;
  return true;
}

static Shape without(const Shape *x, int axis) {
  Shape y = *x;
  y.rank--;
  for (int i = axis; i < y.rank; i++) y.d[i] = x->d[i + 1];
  return y;
}

/* x, whose extent along the axis is 1, without this dimension. */
static Value *squeezed(Graph *g, Node *before, const Node *from, Value *x, int axis) {
  Shape s = without(&x->shape, axis);
  if (value_is_const(x)) return graph_add_const(g, NULL, x->dt, &s, x->data);
  if (x->def && x->def->op == OP_Reshape && shape_equal(&x->def->in[0]->shape, &s)) return x->def->in[0];
  int64_t dims[MAX_RANK];
  for (int i = 0; i < s.rank; i++) dims[i] = s.d[i].n;
  return make(g, before, from, OP_Reshape, &(ShapeAttr){.shape = ints_copy(g->arena, dims, s.rank)}, &x, 1);
}

static Value *constant_part(Graph *g, const Value *c, int axis, int64_t i) {
  Shape s = without(&c->shape, axis);
  int64_t n = shape_count(&s), inner = shape_count_from(&c->shape, axis + 1), extent = c->shape.d[axis].n;
  float *data = arena_alloc_array(g->arena, (size_t)n, sizeof *data);
  for (int64_t k = 0; k < n; k++) data[k] = ((const float *)c->data)[(k / inner * extent + i) * inner + k % inner];
  return graph_add_const(g, NULL, DT_F32, &s, data);
}

/* Part i of v, made in front of `before`. */
static Value *part(Graph *g, Node *before, const Stack *s, Value *v, int i) {
  int axis = dimension(s, v);
  if (axis < 0) return v;
  if (same_for_all(s, v)) return squeezed(g, before, before, v, axis);
  if (value_is_const(v)) return constant_part(g, v, axis, i);
  Node *n = v->def;
  if (n->op == OP_Concat) return squeezed(g, before, n, n->in[i], axis);
  Value *in[3];
  for (int k = 0; k < n->nin; k++) in[k] = part(g, before, s, n->in[k], i);
  return make(g, before, n, n->op, n->attr, in, n->nin);
}

static bool sum_stack(Graph *g, Node *n) {
  if ((n->op != OP_ReduceSum && n->op != OP_ReduceMean) || n->nbody) return false;
  const ReduceAttr *a = n->attr;
  const Value *x = n->in[0];
  int axis;
  if (a->axes.n != 1 || x->shape.rank < 2 || !axis_normalise(a->axes.v[0], x->shape.rank, &axis) || !shape_is_static(&x->shape)) return false;
  int64_t parts = x->shape.d[axis].n;
  Stack s = {.back = x->shape.rank - axis, .parts = (int)parts};
  if (parts < 2 || parts > PARTS_MAX || value_is_const(x) || value_count(x) == 0 || !divisible(&s, x)) return false;
  Value *sum = NULL;
  for (int i = 0; i < parts; i++) {
    Value *p = part(g, n, &s, n->in[0], i);
    sum = sum ? make(g, n, n, OP_Add, NULL, (Value *[]){sum, p}, 2) : p;
  }
  if (n->op == OP_ReduceMean) {
    float share = 1 / (float)parts;
    Shape one = {0};
    Value *c = graph_add_const(g, NULL, DT_F32, &one, memcpy(arena_alloc(g->arena, sizeof share), &share, sizeof share));
    sum = make(g, n, n, OP_Mul, NULL, (Value *[]){sum, c}, 2);
  }
  const Shape *y = &n->out[0]->shape;
  if (!shape_equal(&sum->shape, y)) {
    int64_t dims[MAX_RANK];
    for (int i = 0; i < y->rank; i++) dims[i] = y->d[i].n;
    sum = make(g, n, n, OP_Reshape, &(ShapeAttr){.shape = ints_copy(g->arena, dims, y->rank)}, &sum, 1);
  }
  graph_replace_uses(g, n->out[0], sum);
  erase_dead(g, n);
  return true;
}

/* ---- functions in front of movements ---- */

static bool moves(const Node *n) { return n && !n->nbody && (n->op == OP_Reshape || n->op == OP_Transpose || n->op == OP_Concat); }

/* The node that makes v, and nobody else reads, can apply a function of its elements first; or it moves what such nodes make. */
static bool absorbs(const Value *v, int depth) {
  const Node *n = v->def;
  if (!n || depth > DEPTH_MAX || v->def_slot != 0 || v->dt != DT_F32 || !value_single_use(v)) return false;
  if (op_info(n->op)->flags & (OPF_BODY | OPF_EW)) return true;
  if (!moves(n)) return false;
  for (int i = 0; i < n->nin; i++)
    if (!absorbs(n->in[i], depth + 1)) return false;
  return true;
}

/* The operand of n that n is a function of, element by element; -1: there are others that differ between elements. */
static int function_of(const Node *n) {
  if (!arithmetic(n) || n->out[0]->dt != DT_F32) return -1;
  int data = -1;
  for (int i = 0; i < n->nin; i++) {
    const Value *v = n->in[i];
    if (value_is_const(v) && value_count(v) == 1) continue;
    if (data >= 0 || v->dt != DT_F32 || !shape_equal(&v->shape, &n->out[0]->shape)) return -1;
    data = i;
  }
  return data;
}

static bool move_function(Graph *g, Node *n) {
  int data = function_of(n);
  Node *m = data < 0 ? NULL : n->in[data]->def;
  if (!moves(m) || !value_single_use(n->in[data])) return false;
  for (int i = 0; i < m->nin; i++) {
    if (!absorbs(m->in[i], 0)) return false;
    for (int k = 0; k < n->nin; k++)   /* a constant of more dimensions would give the result as many */
      if (k != data && n->in[k]->shape.rank > m->in[i]->shape.rank) return false;
  }
  Value **moved = NEW_N(g->arena, Value *, m->nin), *in[3];
  for (int i = 0; i < m->nin; i++) {
    for (int k = 0; k < n->nin; k++) in[k] = k == data ? m->in[i] : n->in[k];
    moved[i] = make(g, n, n, n->op, n->attr, in, n->nin);
  }
  graph_replace_uses(g, n->out[0], make(g, n, m, m->op, m->attr, moved, m->nin));
  graph_erase(g, n);
  graph_erase(g, m);
  return true;
}

/* ---- the pass ---- */

bool pass_terms(Graph *g, Ctx *c) {
  int64_t factors = 0, sums = 0, functions = 0;
  for (bool changed = true; changed;) {
    changed = false;
    for (Node *n = g->first, *next; n; n = next) {
      next = n->next;
      bool s = sum_stack(g, n), f = !s && join_factors(g, n), m = !s && !f && move_function(g, n);
      sums += s;
      factors += f;
      functions += m;
      changed |= s | f | m;
    }
  }
  if (factors) pass_count(c, "terms", "factors joined", factors);
  if (sums) pass_count(c, "terms", "sums of stacks made additions", sums);
  if (functions) pass_count(c, "terms", "functions moved in front of movements", functions);
  pass_applied(c, factors + sums + functions);
  return factors + sums + functions > 0;
}
