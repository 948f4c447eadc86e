/* shuffle.c: channel shuffles become one Gather of channels.
 *
 * ONNX has no operator for them: channels are split into several dimensions, these are transposed, and joined again. As a Gather by constant
 * indices along dimension 1 the whole images move at once, and they may stay in blocked layout.
 *
 * before: %s = Reshape(%x) {shape=[1,4,34,28,28]}; %t = Transpose(%s) {perm=[0,2,1,3,4]}; %y = Reshape(%t) {shape=[1,136,28,28]}
 * after:  %y = Gather(%x, [0, 34, 68, 102, 1, 35, ...]) {axis=1}
 */
#include "../passes.h"

/* s is x's shape [N, C, images...] with C split into several dimensions, first .. end-1. */
static bool splits_channels(const Shape *x, const Shape *s, int *end) {
  int images = x->rank - 2;
  if (!shape_is_static(x) || !shape_is_static(s) || images < 1 || s->rank < x->rank + 1 || x->d[0].n != s->d[0].n) return false;
  *end = s->rank - images;
  int64_t channels = 1;
  for (int i = 1; i < *end; i++) channels *= s->d[i].n;
  for (int i = 0; i < images; i++)
    if (s->d[*end + i].n != x->d[2 + i].n) return false;
  return channels == x->d[1].n;
}

/* indices[i]: where channel i of the result comes from, when dimensions 1 .. end-1 of s are permuted. */
static void shuffled(const Shape *s, Ints perm, int end, int64_t count, int64_t *indices) {
  int64_t stride[MAX_RANK], n = 1;
  for (int i = end - 1; i >= 1; i--) {
    stride[i] = n;
    n *= s->d[i].n;
  }
  for (int64_t c = 0; c < count; c++) {
    int64_t rest = c;
    indices[c] = 0;
    for (int i = end - 1; i >= 1; i--) {
      int from = (int)perm.v[i];
      indices[c] += rest % s->d[from].n * stride[from];
      rest /= s->d[from].n;
    }
  }
}

static bool rewrite(Graph *g, Node *last) {
  Node *t = last->in[0]->def, *first = t && t->op == OP_Transpose ? t->in[0]->def : NULL;
  if (!first || first->op != OP_Reshape || t->nbody || first->nbody || last->nbody) return false;
  Value *x = first->in[0], *y = last->out[0];
  if (!value_single_use(t->in[0]) || !value_single_use(last->in[0]) || !shape_equal(&x->shape, &y->shape)) return false;
  const Shape *s = &t->in[0]->shape;
  Ints perm = ((const PermAttr *)t->attr)->perm;
  int end;
  if (perm.n != s->rank || value_count(x) == 0 || !splits_channels(&x->shape, s, &end)) return false;
  for (int i = 0; i < s->rank; i++)
    if ((i == 0 || i >= end) && perm.v[i] != i) return false;
  int64_t count = x->shape.d[1].n, *indices = NEW_N(g->arena, int64_t, count);
  shuffled(s, perm, end, count, indices);
  Shape is = shape_of(1, &count);
  Value *in[2] = {x, graph_add_const(g, NULL, DT_I64, &is, indices)};
  Node *n = graph_make(g, last, OP_Gather, &(GatherAttr){.axis = 1}, in, 2);
  if (!n) ice(g, last, "shuffle", "cannot gather");
  node_copy_origin(g, n, first);
  node_copy_origin(g, n, t);
  node_copy_origin(g, n, last);
  graph_replace_uses(g, y, n->out[0]);
  graph_erase(g, last);
  graph_erase(g, t);
  graph_erase(g, first);
  return true;
}

bool pass_shuffle(Graph *g, Ctx *c) {
  int done = 0;
  for (Node *n = g->first, *next; n; n = next) {
    next = n->next;
    if (n->op == OP_Reshape) done += rewrite(g, n);
  }
  pass_count(c, "shuffle", "channel shuffles", done);
  return done > 0;
}
