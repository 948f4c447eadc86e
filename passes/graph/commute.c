/* commute.c: pointwise work is done before an image is enlarged, not after.
 *
 * Nearest upsampling copies pixels, and a 1x1 convolution, an activation or arithmetic with per-channel constants treats every pixel alike: in
 * either order each result is the same sum of the same numbers, bit for bit. Done first, it is done on fewer pixels (4^k times fewer), and the
 * upsampling that is left over moves towards the next sum, whose operand can be read by index instead (epilogue.c).
 *
 * before: %u = Resize(%x); %c = Conv1x1(%u, %w, %b); %r = Relu(%c)
 * after:  %c = Conv1x1(%x, %w, %b); %r = Relu(%c); %u = Resize(%r)
 */
#include "../passes.h"

/* A nearest Resize of the spatial axes only that makes more pixels of fewer. */
static bool enlarges(const Node *r) {
  if (r->op != OP_Resize || r->nbody) return false;
  const ResizeAttr *a = r->attr;
  const Shape *x = &r->in[0]->shape, *y = &r->out[0]->shape;
  if (a->mode != RESIZE_NEAREST || a->coord == COORD_TF_CROP_AND_RESIZE || x->rank < 3) return false;
  return x->d[0].n == y->d[0].n && x->d[1].n == y->d[1].n && shape_count(x) > 0 && shape_count(x) < shape_count(y);
}

static bool all(Ints v, int64_t x) {
  for (int i = 0; i < v.n; i++)
    if (v.v[i] != x) return false;
  return true;
}

static bool pointwise_conv(const Node *n) {
  if (n->op != OP_Conv || n->nbody) return false;
  const ConvAttr *a = n->attr;
  return shape_count_from(&n->in[1]->shape, 2) == 1 && all(a->strides, 1) && all(a->pads, 0);
}

/* Elementwise, and every operand but `data` is the same at all pixels. */
static bool pointwise_ew(const Node *n, int data) {
  if (!(op_info(n->op)->flags & OPF_EW) || n->nbody || n->op == OP_Map) return false;
  int rank = n->out[0]->shape.rank;
  if (!shape_equal(&n->in[data]->shape, &n->out[0]->shape)) return false;
  for (int i = 0; i < n->nin; i++) {
    const Shape *s = &n->in[i]->shape;
    if (i == data) continue;
    if (n->in[i] == n->in[data]) return false;
    for (int d = 0; d < s->rank; d++)
      if (rank - s->rank + d >= 2 && s->d[d].n != 1) return false;
  }
  return true;
}

/* Which operand of n comes from an upsampling that can be done after n; -1: none. */
static int movable(const Node *n) {
  for (int i = 0; i < n->nin; i++) {
    const Value *v = n->in[i];
    if (!v || !v->def || !value_single_use(v) || !enlarges(v->def)) continue;
    if ((i == 0 && pointwise_conv(n)) || pointwise_ew(n, i)) return i;
  }
  return -1;
}

static Node *make(Graph *g, Node *n, Op op, const void *attr, Value *const *in, int nin) {
  Node *m = graph_make(g, n, op, attr, in, nin);
  if (!m) ice(g, n, "commute", "%s is refused", op_info(op)->name);
  node_copy_origin(g, m, n);
  return m;
}

/* n(Resize(x)) becomes Resize(n(x)). */
static void swap(Graph *g, Node *n, int slot) {
  Node *r = n->in[slot]->def;
  Value **in = NEW_N(g->arena, Value *, n->nin);
  for (int i = 0; i < n->nin; i++) in[i] = i == slot ? r->in[0] : n->in[i];
  Node *small = make(g, n, n->op, n->attr, in, n->nin);
  ResizeAttr a = *(const ResizeAttr *)r->attr;
  int64_t sizes[MAX_RANK];
  const Shape *y = &n->out[0]->shape;
  for (int i = 0; i < y->rank; i++) sizes[i] = y->d[i].n;
  a.sizes = ints_copy(g->arena, sizes, y->rank);
  Node *large = make(g, n, OP_Resize, &a, small->out, 1);
  node_copy_origin(g, large, r);
  graph_replace_uses(g, n->out[0], large->out[0]);
  graph_erase(g, n);
  graph_erase(g, r);
}

bool pass_commute(Graph *g, Ctx *c) {
  int moved = 0;
  for (Node *n = g->first, *next; n; n = next) {
    next = n->next;
    int slot = movable(n);
    if (slot < 0) continue;
    swap(g, n, slot);
    moved++;
  }
  pass_applied(c, moved);
  return moved > 0;
}
