/* pool_chain.c: maximum pools that follow one another become one, of a larger window.
 *
 * before: %p = MaxPool(%x) {kernel=[3,3], strides=[2,2], pads=[1,1,1,1]}; %q = MaxPool(%p) {kernel=[3,3], strides=[2,2], pads=[1,1,1,1]}
 * after:  %q = MaxPool(%x) {kernel=[7,7], strides=[4,4], pads=[3,3,3,3]}
 *
 * A maximum of maxima is the maximum of all they hold: the same number, NaN included, if each result sees the same elements as before. That
 * is not left to a formula, since windows are cut off at the edges of two images, not one, and may leave out elements between or behind them:
 * along each axis the elements that each result sees through the chain are compared with those in its merged window. Longer chains merge
 * from their start, one pool at a time.
 *
 * When it pays: where the fast schedule (passes/lower/pool.c) computes the merged pool in no more cycles than the two, by its own estimate, and
 * those for storing and loading the image between them, unless that fits the first-level cache. The plain lowering would look at every element
 * of a window, 225 of 15x15, where a chain of three looks at 27. A pool that reads a convolution's rows from cache (stream.c) stays: the
 * image is so much smaller behind it that there is nothing left to save. So does one with another reader, as in spatial pyramids that
 * concatenate all stages.
 */
#include "../passes.h"

#define PLACES_MOST (1 << 20)   /* pools with more results times places along an axis are left alone, and larger windows than */
#define WINDOW_MOST 4096
#define STORE_AND_LOAD 3.0      /* cycles a vector, beyond the nearest cache */

/* Elements [from, to) of an axis. */
typedef struct Reach { int64_t from, to; } Reach;

/* What the window of result o sees of `in` elements. */
static Reach reach(int64_t o, int64_t kernel, int64_t stride, int64_t pad, int64_t in) {
  int64_t at = o * stride - pad;
  Reach r = {MAXI(at, 0), MINI(at + kernel, in)};
  return r.from < r.to ? r : (Reach){0, 0};
}

/* What result o of pool q sees, along spatial axis i, of the operand of p, whose result q reads. False if that is not one stretch. */
static bool reach_through(const Node *p, const Node *q, int i, int64_t o, Reach *sum) {
  const PoolAttr *a = p->attr, *b = q->attr;
  Reach mid = reach(o, b->kernel.v[i], b->strides.v[i], b->pads.v[i], q->in[0]->shape.d[i + 2].n);
  *sum = (Reach){0, 0};
  for (int64_t m = mid.from; m < mid.to; m++) {
    Reach r = reach(m, a->kernel.v[i], a->strides.v[i], a->pads.v[i], p->in[0]->shape.d[i + 2].n);
    if (r.from == r.to) continue;
    if (sum->from == sum->to) sum->from = r.from;
    else if (r.from > sum->to) return false;
    sum->to = r.to;
  }
  return true;
}

/* One window's numbers along an axis. */
typedef struct Axis { int64_t kernel, stride, pad, pad_end; } Axis;

/* The window through which q sees along axis i what it sees through p; false if there is none. */
static bool merge_axis(const Node *p, const Node *q, int i, Axis *m) {
  const PoolAttr *a = p->attr, *b = q->attr;
  int64_t in = p->in[0]->shape.d[i + 2].n, out = q->out[0]->shape.d[i + 2].n;
  int64_t k1 = a->kernel.v[i], k2 = b->kernel.v[i], s1 = a->strides.v[i], s2 = b->strides.v[i];
  if (a->dilations.v[i] != 1 || b->dilations.v[i] != 1 || MAXI(k1, k2) > WINDOW_MOST || MAXI(s1, s2) > WINDOW_MOST || out > PLACES_MOST / k2) return false;
  m->kernel = k1 + (k2 - 1) * s1;
  m->stride = s1 * s2;
  m->pad = a->pads.v[i] + b->pads.v[i] * s1;
  m->pad_end = MAXI(0, (out - 1) * m->stride + m->kernel - in - m->pad);
  if (m->kernel > WINDOW_MOST || MAXI(m->pad, m->pad_end) >= m->kernel) return false;
  if (window_extent(in, m->kernel, m->stride, m->pad, m->pad_end, 1, false) != out) return false;
  for (int64_t o = 0; o < out; o++) {
    Reach r = reach(o, m->kernel, m->stride, m->pad, in), s;
    if (!reach_through(p, q, i, o, &s) || r.from != s.from || r.to != s.to) return false;
  }
  return true;
}

static bool max_pool(const Node *n) {
  return n && n->op == OP_MaxPool && n->in[0]->shape.rank == 4 && !n->out[1]->uses.n && !n->out[1]->is_output;
}

/* p and then q take no less time than one pool with attributes m. */
static bool pays(const Ctx *c, const Node *p, const Node *q, const PoolAttr *m) {
  double first = pool_cycles(c->target, OP_MaxPool, p->attr, p->in[0], p->out[0]), then = pool_cycles(c->target, OP_MaxPool, q->attr, q->in[0], q->out[0]);
  double both = pool_cycles(c->target, OP_MaxPool, m, p->in[0], q->out[0]);
  double between = (int64_t)value_bytes(p->out[0]) > c->target->l1 ? STORE_AND_LOAD * (double)value_count(p->out[0]) / c->target->lanes : 0;
  return first > 0 && then > 0 && both > 0 && both <= first + then + between;
}

static bool merge(Graph *g, const Ctx *c, Node *q) {
  Node *p = max_pool(q) ? q->in[0]->def : NULL;
  Axis m[2];
  if (!max_pool(p) || p->nbody || p->streamed || !value_single_use(p->out[0]) || !merge_axis(p, q, 0, &m[0]) || !merge_axis(p, q, 1, &m[1])) return false;
  PoolAttr *a = attr_copy(g->arena, &attr_desc_Pool, q->attr);
  a->kernel = ints_copy(g->arena, (int64_t[]){m[0].kernel, m[1].kernel}, 2);
  a->strides = ints_copy(g->arena, (int64_t[]){m[0].stride, m[1].stride}, 2);
  a->pads = ints_copy(g->arena, (int64_t[]){m[0].pad, m[1].pad, m[0].pad_end, m[1].pad_end}, 4);
  a->ceil_mode = false;
  if (!pays(c, p, q, a)) return false;
  q->attr = a;
  graph_set_input(g, q, 0, p->in[0]);
  node_copy_origin(g, q, p);
  graph_erase(g, p);
  return true;
}

bool pass_pool_chain(Graph *g, Ctx *c) {
  int64_t merged = 0;
  for (Node *n = g->first; n; n = n->next)
    while (merge(g, c, n)) merged++;
  if (merged) pass_count(c, "pool_chain", "maximum pools merged into the next", merged);
  pass_applied(c, merged);
  return merged > 0;
}
