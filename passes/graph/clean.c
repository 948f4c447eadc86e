/* clean.c: removes work that changes nothing: what nobody reads, what is computed twice, what gives back its operand, pairs that cancel.
 *
 * Only what is exact to the bit, for every value including -0, infinities and NaN: x + 0 stays (it turns -0 into +0), x - 0 and x + -0
 * go. Sweeps in list order until nothing changes; every rule makes the graph smaller or its chains shorter, so that ends.
 */
#include "../passes.h"

#include <math.h>
#include <string.h>

/* ---- helpers ---- */

static bool same_type(const Value *a, const Value *b) {
  return a->dt == b->dt && shape_equal(&a->shape, &b->shape) && a->layout.kind == b->layout.kind && a->layout.block == b->layout.block;
}

static Node *def_by(const Value *v, Op op) { return v->def && v->def->op == op && !v->def->nbody && v->def_slot == 0 ? v->def : NULL; }

static bool extent_one(Dim d) { return d.n == 1 && !d.sym; }

static bool all_ints(Ints v, int64_t x) {
  for (int i = 0; i < v.n; i++)
    if (v.v[i] != x) return false;
  return true;
}

static bool used(const Value *v) { return v->uses.n || v->is_output; }

/* A node in front of n that takes n's place. */
static Value *make(Graph *g, Node *n, Op op, const void *attr, Value *x) {
  Node *m = graph_make(g, n, op, attr, &x, 1);
  if (!m) ice(g, n, "clean", "%s is refused", op_info(op)->name);
  node_copy_origin(g, m, n);
  m->out[0]->layout = n->out[0]->layout;
  return m->out[0];
}

/* x in the shape of n's result. */
static Value *reshaped(Graph *g, Node *n, Value *x) {
  const Shape *s = &n->out[0]->shape;
  if (!shape_is_static(s) || x->layout.kind != LAYOUT_PLAIN || n->out[0]->layout.kind != LAYOUT_PLAIN) return NULL;
  int64_t d[MAX_RANK];
  for (int i = 0; i < s->rank; i++) d[i] = s->d[i].n;
  ShapeAttr a = {.shape = {d, s->rank}};
  return make(g, n, OP_Reshape, &a, x);
}

/* ---- rules: what out[0] of n is as well, or NULL. Of one type, checked by the caller where a rule gives an existing value. ---- */

/* before: %y = Identity(%x)      after: %x */
static Value *operand(Graph *g, Node *n) { (void)g; return n->in[0]; }

/* before: %a = Reshape(%x); %y = Reshape(%a)      after: %y = Reshape(%x) */
static Value *reshape(Graph *g, Node *n) {
  if (same_type(n->in[0], n->out[0])) return n->in[0];
  Node *d = def_by(n->in[0], OP_Reshape);
  return d ? reshaped(g, n, d->in[0]) : NULL;
}

/* Every value of `a` is one of b. */
static bool type_contains(DType b, DType a) {
  if (a == b) return true;
  if (a == DT_BOOL) return dt_is_float(b) || dt_is_int(b);
  int mantissa = b == DT_F64 ? 53 : b == DT_F32 ? 24 : b == DT_F16 ? 11 : b == DT_BF16 ? 8 : 0;
  if (dt_is_int(a) && mantissa) return dt_bits(a) - dt_is_signed(a) <= mantissa;
  if (dt_is_int(a) && dt_is_int(b))
    return dt_is_signed(a) == dt_is_signed(b) ? dt_bits(b) >= dt_bits(a) : dt_is_signed(b) && dt_bits(b) > dt_bits(a);
  if (dt_is_float(a) && dt_is_float(b)) return (b == DT_F64 && a != DT_F64) || (b == DT_F32 && dt_bits(a) == 16);
  return false;
}

/* before: %a: f64 = Cast(%x) {to=f64}; %y: i32 = Cast(%a) {to=i32}      after: %y: i32 = Cast(%x) {to=i32}      (%x: f32)
 * Integers wrap and floats saturate, so an integer may skip a float only on its way to where it fits. */
static Value *cast(Graph *g, Node *n) {
  Node *d = def_by(n->in[0], OP_Cast);
  if (!d) return n->in[0];
  DType x = d->in[0]->dt, a = n->in[0]->dt, y = n->out[0]->dt;
  if (!type_contains(a, x)) return n->in[0];
  if (!dt_is_float(x) && dt_is_float(a) && y != DT_BOOL && !type_contains(y, x)) return n->in[0];
  return x == y ? d->in[0] : make(g, n, OP_Cast, n->attr, d->in[0]);
}

/* before: %a = Transpose(%x) {perm=[0,2,1]}; %y = Transpose(%a) {perm=[0,2,1]}      after: %x
 * before: %y: f32[4,1,3] = Transpose(%x) {perm=[1,0,2]}                             after: %y = Reshape(%x)      (%x: f32[1,4,3]) */
static Value *transpose(Graph *g, Node *n) {
  Ints p = ((const PermAttr *)n->attr)->perm;
  const Shape *s = &n->in[0]->shape;
  bool identity = true, ordered = true;
  int64_t last = -1;
  for (int i = 0; i < p.n; i++) {
    if (p.v[i] != i) identity = false;
    if (extent_one(s->d[p.v[i]])) continue;
    if (p.v[i] < last) ordered = false;
    last = p.v[i];
  }
  if (identity) return n->in[0];
  Value *same = ordered ? reshaped(g, n, n->in[0]) : NULL;
  if (same) return same;
  Node *d = def_by(n->in[0], OP_Transpose);
  if (!d) return NULL;
  int64_t both[MAX_RANK];
  Ints q = ((const PermAttr *)d->attr)->perm;
  for (int i = 0; i < p.n; i++) both[i] = q.v[p.v[i]];
  PermAttr a = {.perm = {both, p.n}};
  return make(g, n, OP_Transpose, &a, d->in[0]);
}

static Value *slice(Graph *g, Node *n) {
  (void)g;
  const SliceAttr *a = n->attr;
  for (int i = 0; i < a->sizes.n; i++)
    if (a->starts.v[i] != 0 || (a->steps.v[i] != 1 && a->sizes.v[i] > 1)) return NULL;
  return n->in[0];
}

static Value *pad(Graph *g, Node *n) { (void)g; return all_ints(((const PadAttr *)n->attr)->pads, 0) ? n->in[0] : NULL; }

/* before: %y = Concat(%x)      after: %x
 * before: %y = Concat(%a, %b, %c)      after: %y = Concat(%a, %c)      (%b has no elements) */
static Value *concat(Graph *g, Node *n) {
  if (n->ncore == 1) return n->in[0];
  int axis;
  if (!axis_normalise(((const AxisAttr *)n->attr)->axis, n->out[0]->shape.rank, &axis)) return NULL;
  Value **kept = NEW_N(g->arena, Value *, n->ncore);
  int k = 0;
  for (int i = 0; i < n->ncore; i++)
    if (n->in[i]->shape.d[axis].n != 0) kept[k++] = n->in[i];
  if (k == 0 || k == n->ncore) return NULL;
  Node *m = graph_make(g, n, OP_Concat, n->attr, kept, k);
  if (!m) ice(g, n, "clean", "Concat is refused");
  node_copy_origin(g, m, n);
  return m->out[0];
}

/* At scale 1 every mode reads the pixel itself. */
static Value *resize(Graph *g, Node *n) {
  (void)g;
  const ResizeAttr *a = n->attr;
  if (a->coord == COORD_TF_CROP_AND_RESIZE) return NULL;
  for (int i = 0; i < a->scales.n; i++)
    if (a->scales.v[i] != 1) return NULL;
  return n->in[0];
}

static Value *pool(Graph *g, Node *n) {
  (void)g;
  const PoolAttr *a = n->attr;
  if (!all_ints(a->kernel, 1) || !all_ints(a->strides, 1) || !all_ints(a->pads, 0)) return NULL;
  for (int i = 1; i < n->nout; i++)
    if (used(n->out[i])) return NULL;
  return n->in[0];
}

/* before: %y: f32[2,1] = ReduceMax(%x) {axes=[2], keepdims=false}      after: %y: f32[2,1] = Reshape(%x)      (%x: f32[2,1,1]) */
static Value *reduce(Graph *g, Node *n) {
  const ReduceAttr *a = n->attr;
  const Shape *s = &n->in[0]->shape;
  for (int i = 0; i < a->axes.n; i++) {
    int axis;
    if (!axis_normalise(a->axes.v[i], s->rank, &axis) || !extent_one(s->d[axis])) return NULL;
  }
  if (n->in[0]->dt != n->out[0]->dt) return NULL;
  return same_type(n->in[0], n->out[0]) ? n->in[0] : reshaped(g, n, n->in[0]);
}

/* before: %a = Neg(%x); %y = Neg(%a)      after: %x */
static Value *inverse_of_itself(Graph *g, Node *n) {
  (void)g;
  Node *d = def_by(n->in[0], n->op);
  return d ? d->in[0] : NULL;
}

/* before: %a = Relu(%x); %y = Relu(%a)      after: %a */
static Value *idempotent(Graph *g, Node *n) { (void)g; return def_by(n->in[0], n->op) ? n->in[0] : NULL; }

/* before: %y = Mul(%x, 1)      after: %x      and x / 1, x - 0, x + -0, x ^ 1; of integers x + 0 */
static Value *neutral(Graph *g, Node *n) {
  (void)g;
  double c;
  bool commutes = n->op == OP_Add || n->op == OP_Mul, add = n->op == OP_Add || n->op == OP_Sub;
  for (int i = 1; i >= (commutes ? 0 : 1); i--) {
    if (!value_scalar_f(n->in[i], &c) || c != (add ? 0 : 1)) continue;
    if (add && dt_is_float(n->out[0]->dt) && !signbit(c) != (n->op == OP_Sub)) continue;
    if (same_type(n->in[1 - i], n->out[0])) return n->in[1 - i];
  }
  return NULL;
}

static Value *where(Graph *g, Node *n) {
  (void)g;
  double c;
  return value_scalar_f(n->in[0], &c) ? n->in[c != 0 ? 1 : 2] : NULL;
}

static const struct { Op op; Value *(*rule)(Graph *g, Node *n); } rules[] = {
    {OP_Identity, operand}, {OP_Reorder, operand}, {OP_Expand, operand}, {OP_Tile, operand},
    {OP_Reshape, reshape}, {OP_Cast, cast}, {OP_Transpose, transpose}, {OP_Slice, slice}, {OP_Pad, pad}, {OP_Concat, concat},
    {OP_Resize, resize}, {OP_MaxPool, pool}, {OP_AveragePool, pool},
    {OP_ReduceSum, reduce}, {OP_ReduceMean, reduce}, {OP_ReduceMax, reduce}, {OP_ReduceMin, reduce}, {OP_ReduceProd, reduce},
    {OP_Neg, inverse_of_itself}, {OP_Not, inverse_of_itself}, {OP_BitwiseNot, inverse_of_itself},
    {OP_Relu, idempotent}, {OP_Abs, idempotent}, {OP_Sign, idempotent},
    {OP_Floor, idempotent}, {OP_Ceil, idempotent}, {OP_Round, idempotent},
    {OP_Add, neutral}, {OP_Sub, neutral}, {OP_Mul, neutral}, {OP_Div, neutral}, {OP_Pow, neutral}, {OP_Where, where},
};

/* Tries the rules of n's op; true if n was replaced (it is dead then). */
static bool simplify(Graph *g, Node *n) {
  Value *y = n->out[0];
  if (n->nbody || !used(y)) return false;
  for (int i = 0; i < COUNTOF(rules); i++) {
    if (rules[i].op != n->op) continue;
    Value *x = rules[i].rule(g, n);
    if (!x || !same_type(x, y)) return false;
    /* An Identity in the signature is there because its operand has a name of its own, or no producer. */
    if (n->op == OP_Identity && y->is_output && (x->is_input || x->is_output || x->data)) return false;
    const char *name = y->is_output ? NULL : y->name;
    graph_replace_uses(g, y, x);
    if (name && !x->name) {
      x->name = name;
      y->name = NULL;
    }
    return true;
  }
  return false;
}

/* before: %e = Expand(%x) {shape=[2,3]}; %y: f32[2,3] = Add(%e, %z)      after: %y: f32[2,3] = Add(%x, %z)      (%z: f32[2,3]) */
static bool skip_expand(Graph *g, Node *n) {
  if (!(op_info(n->op)->flags & OPF_EW) || n->nbody || n->op == OP_PRelu || n->nin < 2) return false;
  bool changed = false;
  for (int i = 0; i < n->nin; i++) {
    Node *e = def_by(n->in[i], OP_Expand);
    if (!e || e->in[0]->layout.kind != n->in[i]->layout.kind) continue;
    Shape s = e->in[0]->shape;
    bool fits = true;
    for (int j = 0; j < n->nin && fits; j++) fits = j == i || shape_broadcast(&s, &n->in[j]->shape, &s);
    if (!fits || !shape_equal(&s, &n->out[0]->shape)) continue;
    graph_set_input(g, n, i, e->in[0]);
    changed = true;
  }
  return changed;
}

/* ---- duplicates ---- */

static bool same_body(const Node *a, const Node *b) {
  if (a->nbody != b->nbody) return false;
  for (int i = 0; i < a->nbody; i++) {
    const BodyStep *s = &a->body[i], *t = &b->body[i];
    if (s->op != t->op || s->dt != t->dt || s->nargs != t->nargs || !attr_equal(op_info(s->op)->attr, s->attr, t->attr)) return false;
    for (int k = 0; k < s->nargs; k++)
      if (s->arg[k].kind != t->arg[k].kind || s->arg[k].i != t->arg[k].i || s->arg[k].up != t->arg[k].up) return false;
  }
  return true;
}

static bool same_node(const Node *a, const Node *b) {
  if (a->op != b->op || a->nin != b->nin || a->ncore != b->ncore || (a->nin && memcmp(a->in, b->in, (size_t)a->nin * sizeof *a->in)))
    return false;
  for (int i = 0; i < a->nout; i++)
    if (!same_type(a->out[i], b->out[i])) return false;
  return attr_equal(op_info(a->op)->attr, a->attr, b->attr) && same_body(a, b);
}

#define SMALL 256   /* bytes of a constant that is compared by its contents; larger ones by their address */

static bool same_const(const Value *a, const Value *b) {
  if (!same_type(a, b)) return false;
  return a->data == b->data || (value_bytes(a) <= SMALL && !memcmp(a->data, b->data, value_bytes(a)));
}

/* Open addressing from hashes to nodes or constants; looked up only, never iterated. */
typedef struct Table { void **slot; size_t mask; } Table;

static Table table_new(Arena *a, int n) {
  size_t cap = 16;
  while (cap < 2 * (size_t)n) cap *= 2;
  return (Table){NEW_N(a, void *, cap), cap - 1};
}

static uint64_t hash_add(uint64_t h, uint64_t x) {
  h = (h ^ x) * 0x9e3779b97f4a7c15u;
  return h ^ h >> 29;
}

static bool merge_consts(Graph *g) {
  ArenaMark m = arena_mark(g->arena);
  Table t = table_new(g->arena, g->values.n);
  Value **with = NEW_N(g->arena, Value *, g->values.n);
  int n = g->values.n, merged = 0;
  for (int i = 0; i < n; i++) {
    Value *v = g->values.at[i];
    if (!v->data || !v->uses.n) continue;
    uint64_t h = hash_add(hash_add(0, v->dt), (uint64_t)value_count(v));
    if (value_bytes(v) > SMALL) h = hash_add(h, (uintptr_t)v->data);
    else
      for (size_t k = 0; k < value_bytes(v); k++) h = hash_add(h, ((const unsigned char *)v->data)[k]);
    size_t s = h & t.mask;
    while (t.slot[s] && !same_const(t.slot[s], v)) s = (s + 1) & t.mask;
    with[i] = t.slot[s];
    merged += with[i] != NULL;
    t.slot[s] = with[i] ? with[i] : v;
  }
  /* Use lists grow in the same arena: the table is given back only when it was not needed. */
  if (!merged) {
    arena_release(g->arena, m);
    return false;
  }
  for (int i = 0; i < n; i++)
    if (with[i]) graph_replace_uses(g, g->values.at[i], with[i]);
  return true;
}

static bool merge_nodes(Graph *g, int nodes) {
  Table t = table_new(g->arena, nodes);
  int merged = 0;
  for (Node *n = g->first, *next; n; n = next) {
    next = n->next;
    uint64_t h = hash_add(0, n->op);
    for (int i = 0; i < n->nin; i++) h = hash_add(h, n->in[i] ? (uint64_t)n->in[i]->id + 1 : 0);
    size_t s = h & t.mask;
    while (t.slot[s] && !same_node(t.slot[s], n)) s = (s + 1) & t.mask;
    Node *first = t.slot[s];
    if (!first) {
      t.slot[s] = n;
      continue;
    }
    /* Two names for one view stay two copies. */
    if ((op_info(n->op)->flags & OPF_VIEW) && n->out[0]->is_output && first->out[0]->is_output) continue;
    for (int i = 0; i < n->nout; i++) graph_replace_uses(g, n->out[i], first->out[i]);
    node_copy_origin(g, first, n);
    graph_erase(g, n);
    merged++;
  }
  return merged > 0;
}

/* ---- the pass ---- */

static int erase_dead(Graph *g) {
  int erased = 0;
  for (Node *n = g->last, *prev; n; n = prev) {
    prev = n->prev;
    bool dead = true;
    for (int i = 0; i < n->nout && dead; i++) dead = !used(n->out[i]);
    if (!dead) continue;
    graph_erase(g, n);
    erased++;
  }
  return erased;
}

static int count_nodes(const Graph *g) {
  int n = 0;
  for (const Node *k = g->first; k; k = k->next) n++;
  return n;
}

bool pass_clean(Graph *g, Ctx *c) {
  int before = count_nodes(g);
  bool any = erase_dead(g) > 0;
  for (bool changed = true; changed; any |= changed) {
    changed = merge_consts(g);
    changed |= merge_nodes(g, count_nodes(g));
    for (Node *n = g->first, *next; n; n = next) {
      next = n->next;
      bool hit = skip_expand(g, n);
      hit |= simplify(g, n);
      changed |= hit;
    }
    erase_dead(g);
  }
  pass_applied(c, before - count_nodes(g));
  return any;
}
