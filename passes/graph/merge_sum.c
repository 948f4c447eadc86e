/* merge_sum.c: 1x1 convolutions that are only added up become one sum over all their input channels.
 *
 * before: %a = Conv(%x, %v, %b); %c = Conv(%y, %w, %d) {strides=[2,2]}; %s = Add(%a, %c); %t = Add(%s, %r)
 * after:  %s = ConvSum(%x, %v, _, %y, %w, _, %b + %d) {strides=[1,1,2,2]}; %t = Add(%s, %r)
 *
 * The parents of a scale-permuted block end in such convolutions, a residual block in one beside the projection of its shortcut. Apart, all
 * but one store their results, and one reads them back; merged, the sums stay in the registers they are accumulated in (conv_direct.c)
 * and nothing is concatenated either. Whole trees of additions of one shape are gathered; what is no such convolution is added behind the
 * sum, where the epilogue pass finds it. A convolution read through an upsampling is none of them: it is better done on the small image
 * (commute.c, which has run before). Nor is one of a larger kernel, which would lose its algorithm.
 *
 * When it pays: a result that is neither stored nor read back saves the time of moving twice its bytes, if it would have left the
 * second-level cache in between; below that there is next to nothing to save, while the weights of all sources compete for the same cache
 * (measured: 4 to 10% off large results, 8% on top of one of 7x7 pixels with 12 MB of weights). A source of more than twice the result's
 * size is left alone: it would be read again when it is long out of the cache, and kept alive until then.
 */
#include "../passes.h"

#define LEAVES_MAX 16
#define SOURCES_MAX 5   /* of ConvSum */

typedef struct Sum {
  Node *root;                    /* the last addition */
  Node *add[LEAVES_MAX];         /* all additions, the root first */
  int adds;
  Value *leaf[LEAVES_MAX];
  int leaves;
  Node *conv[SOURCES_MAX];       /* leaves that merge */
  int convs;
} Sum;

static bool is_add(const Value *v, const Shape *s) {
  return v->def && v->def->op == OP_Add && !v->def->nbody && v->dt == DT_F32 && shape_equal(&v->shape, s);
}

/* The operands of a tree of additions; false if there are too many. */
static bool gather(Sum *s, Node *add) {
  if (s->adds == LEAVES_MAX) return false;
  s->add[s->adds++] = add;
  for (int i = 0; i < 2; i++) {
    Value *v = add->in[i];
    if (is_add(v, &s->root->out[0]->shape) && value_single_use(v)) {
      if (!gather(s, v->def)) return false;
    } else {
      if (s->leaves == LEAVES_MAX) return false;
      s->leaf[s->leaves++] = v;
    }
  }
  return true;
}

static bool all(Ints v, int64_t x) {
  for (int i = 0; i < v.n; i++)
    if (v.v[i] != x) return false;
  return true;
}

static const Value *operand(const Node *n, int i) { return i < n->ncore ? n->in[i] : NULL; }

static bool const_or_absent(const Value *v) { return !v || v->data; }

static bool mergeable(const Value *v, const Shape *y) {
  const Node *n = v->def;
  if (!n || n->op != OP_Conv || n->nbody || n->ncore > 4 || !value_single_use(v)) return false;
  if (v->dt != DT_F32 || v->shape.rank != 4 || !shape_equal(&v->shape, y)) return false;
  const ConvAttr *a = n->attr;
  const Value *w = n->in[1];
  /* Weights with other readers come in one packing, without a scale; here it would have to be packed in. */
  return a->group == 1 && shape_count_from(&w->shape, 2) == 1 && all(a->pads, 0) && value_is_const(w) && w->uses.n == 1 &&
         const_or_absent(operand(n, 2)) && const_or_absent(operand(n, 3));
}

static int64_t bytes(const Value *v) { return (int64_t)value_bytes(v); }

static bool source_pays(const Node *conv, const Value *y) { return bytes(conv->in[0]) <= 2 * bytes(y); }

static bool result_pays(const Value *y, const Target *t) { return bytes(y) >= (t->l2 ? t->l2 : 256 << 10); }

static Sum read_sum(Node *root, const Target *t) {
  Sum s = {.root = root};
  const Value *y = root->out[0];
  if (!is_add(y, &y->shape) || !shape_is_static(&y->shape) || value_count(y) == 0 || !result_pays(y, t) || !gather(&s, root)) return s;
  for (int i = 0; i < s.leaves && s.convs < SOURCES_MAX; i++)
    if (mergeable(s.leaf[i], &y->shape) && source_pays(s.leaf[i]->def, y)) s.conv[s.convs++] = s.leaf[i]->def;
  return s;
}

/* ---- rewriting ---- */

static Value *sum_of_biases(Graph *g, const Sum *s) {
  int64_t k = s->root->out[0]->shape.d[1].n;
  float *sum = NULL;
  for (int64_t j = 0; j < k; j++) {
    double x = 0;
    for (int i = 0; i < s->convs; i++) {
      const Value *b = operand(s->conv[i], 2);
      if (b) x += (double)((const float *)b->data)[j];
    }
    if (!sum && x == 0) continue;
    if (!sum) sum = NEW_N(g->arena, float, k);
    sum[j] = (float)x;
  }
  Shape shape = shape_of(1, &k);
  return sum ? graph_add_const(g, NULL, DT_F32, &shape, sum) : NULL;
}

static Value *make(Graph *g, Node *before, Op op, const void *attr, Value *const *in, int nin) {
  Node *n = graph_make(g, before, op, attr, in, nin);
  if (!n) ice(g, before, "merge_sum", "%s is refused", op_info(op)->name);
  return n->out[0];
}

static Value *merged(Graph *g, const Sum *s) {
  Value *in[3 * SOURCES_MAX + 1];
  int64_t strides[2 * SOURCES_MAX];
  for (int i = 0; i < s->convs; i++) {
    Node *n = s->conv[i];
    const ConvAttr *a = n->attr;
    in[3 * i] = n->in[0];
    in[3 * i + 1] = n->in[1];
    in[3 * i + 2] = n->ncore > 3 ? n->in[3] : NULL;
    strides[2 * i] = a->strides.v[0];
    strides[2 * i + 1] = a->strides.v[1];
  }
  in[3 * s->convs] = sum_of_biases(g, s);
  ConvSumAttr attr = {.strides = ints_copy(g->arena, strides, 2 * s->convs)};
  Value *y = make(g, s->root, OP_ConvSum, &attr, in, 1 + 3 * s->convs);
  for (int i = 0; i < s->convs; i++) node_copy_origin(g, y->def, s->conv[i]);
  return y;
}

static bool is_merged(const Sum *s, const Value *v) {
  for (int i = 0; i < s->convs; i++)
    if (s->conv[i] == v->def) return true;
  return false;
}

/* The additions of the tree, last first: they go once nobody reads them. */
static void erase_unread(Graph *g, Node *n) {
  if (n->out[0]->uses.n || n->out[0]->is_output) return;
  Node *a = n->op == OP_Add ? n->in[0]->def : NULL, *b = n->op == OP_Add ? n->in[1]->def : NULL;
  graph_erase(g, n);
  if (a && (a->op == OP_Add || a->op == OP_Conv)) erase_unread(g, a);
  if (b && b != a && (b->op == OP_Add || b->op == OP_Conv)) erase_unread(g, b);
}

/* Gives the sum's node. */
static Node *rewrite(Graph *g, const Sum *s) {
  Value *y = merged(g, s), *old = s->root->out[0];
  Node *sum = y->def, *last = sum;
  for (int i = 0; i < s->leaves; i++) {
    if (is_merged(s, s->leaf[i])) continue;
    y = make(g, s->root, OP_Add, NULL, (Value *[]){y, s->leaf[i]}, 2);
    last = y->def;
  }
  for (int i = s->adds - 1; i >= 0; i--) node_copy_origin(g, last, s->add[i]);
  const char *name = old->is_output ? NULL : old->name;
  graph_replace_uses(g, old, y);
  if (name) {
    y->name = name;
    old->name = NULL;
  }
  erase_unread(g, s->root);
  return sum;
}

bool pass_merge_sum(Graph *g, Ctx *c) {
  int64_t sums = 0, convs = 0;
  for (Node *n = g->last, *prev; n; n = prev) {   /* last first: the root of a tree before its branches */
    prev = n->prev;
    if (n->op != OP_Add) continue;
    Sum s = read_sum(n, c->target);
    if (s.convs < 2) continue;
    prev = rewrite(g, &s)->prev;
    sums++;
    convs += s.convs;
  }
  pass_applied(c, sums);
  if (convs) pass_count(c, "merge_sum", "convolutions merged", convs);
  return sums > 0;
}
