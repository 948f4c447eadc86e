/* cost.c: what a graph costs as it stands: arithmetic, and the bytes its nodes read and write.
 *
 * A model of the work, not of a machine: each node runs once, reads each of its tensors once and stores its results. Constants are left
 * out (they are the same weights in whatever order they are used), and so are views, which need no kernel. An upsampling that a body reads by
 * index costs what the small tensor does, a joined convolution finds its data where the one before it has read them, and a streamed node those
 * that the convolution before it does not store. The difference between two graphs that compute the same is what a rewrite saved.
 */
#include "passes.h"

static int64_t plus(int64_t a, int64_t b) { return a > INT64_MAX - b ? INT64_MAX : a + b; }
static int64_t times(int64_t a, int64_t b) { return b && a > INT64_MAX / b ? INT64_MAX : a * b; }

/* Of a pool whose windows are folded along one axis after the other. */
static int64_t pool_flops(const Node *n) {
  Ints kernel = ((const PoolAttr *)n->attr)->kernel;
  const Shape *x = &n->in[0]->shape, *y = &n->out[0]->shape;
  int64_t sum = 0;
  for (int i = 0; i < kernel.n; i++)
    sum = plus(sum, times(kernel.v[i], times(shape_count_to(y, i + 3), shape_count_from(x, i + 3))));
  return sum;
}

/* Arithmetic other than multiply-adds: an elementwise step, a comparison of a pool, a sum of a reduction count one per element. */
static int64_t other_flops(const Node *n) {
  int64_t out = n->nout ? value_count(n->out[0]) : 0, own = 0;
  const OpInfo *info = op_info(n->op);
  if (info->flags & OPF_EW) own = out;
  else if (info->attr == &attr_desc_Pool) own = pool_flops(n);
  else if (info->attr == &attr_desc_Reduce || info->attr == &attr_desc_Arg) own = value_count(n->in[0]);
  return plus(own, times(out, n->nbody));
}

static bool seen_before(const Node *n, int slot) {
  for (int i = 0; i < slot; i++)
    if (n->in[i] == n->in[slot]) return true;
  return false;
}

static int64_t bytes_read(const Node *n) {
  int64_t sum = 0;
  for (int i = 0; i < n->nin; i++)
    if (n->in[i] && !value_is_const(n->in[i]) && !seen_before(n, i) && !((n->joined || n->streamed) && i == 0))
      sum = plus(sum, (int64_t)value_bytes(n->in[i]));
  return n->op == OP_Slice ? MINI(sum, (int64_t)value_bytes(n->out[0])) : sum;
}

static int64_t bytes_stored(const Node *n) {
  int64_t sum = 0;
  for (int i = 0; i < n->nout; i++)
    if (i == 0 || n->out[i]->uses.n || n->out[i]->is_output) sum = plus(sum, (int64_t)value_bytes(n->out[i]));
  return sum;
}

GraphCost graph_cost(const Graph *g) {
  GraphCost c = {0};
  for (const Node *n = g->first; n; n = n->next) {
    if ((op_info(n->op)->flags & OPF_VIEW) && !n->nbody) continue;
    int64_t macs = node_macs(n), stored = bytes_stored(n);
    if (n->next && n->next->streamed) stored = 0;
    c.nodes += !n->joined && !n->streamed;
    c.macs = plus(c.macs, macs);
    c.flops = plus(c.flops, plus(times(macs, 2), other_flops(n)));
    c.stored = plus(c.stored, stored);
    c.moved = plus(c.moved, plus(bytes_read(n), stored));
  }
  return c;
}

GraphCost graph_cost_less(GraphCost a, GraphCost b) {
  return (GraphCost){a.nodes - b.nodes, a.macs - b.macs, a.flops - b.flops, a.moved - b.moved, a.stored - b.stored};
}
