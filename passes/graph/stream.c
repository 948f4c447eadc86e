/* stream.c: a pool or depthwise convolution reads the rows of the convolution before it while they are in cache, and so does the 1x1
 * convolution that reads its result: the images between them are neither stored nor read back, and need no memory.
 *
 * The first ones move in front of the last, and all but the first are marked: conv_stream.c (passes/lower/) makes one kernel of them. In the
 * networks at hand these are the stem's strided convolution and its pool, and the expansion, depthwise convolution and projection of a
 * mobile block; where the depthwise result is averaged first (squeeze and excite), the projection stays for itself.
 *
 * Not taken: what Winograd's method may compute (3x3, stride 1: its strips are tiles, not rows), weights that several convolutions share
 * (which are to follow one another) or that are large, joined convolutions, narrow images. Images that fit a cache are taken like large ones:
 * they cost no less time this way, but less memory.
 *
 * before: %y = Conv(%x, %w); ...; %p = MaxPool(%y)
 * after:  ...; %y = Conv(%x, %w); %p = MaxPool(%y) streamed
 * before: %e = Conv1x1(%x, %u); %d = Conv(%e, %v) {group=C}; ...; %y = Conv1x1(%d, %w)
 * after:  ...; %e = Conv1x1(%x, %u); %d = Conv(%e, %v) {group=C} streamed; %y = Conv1x1(%d, %w) streamed
 */
#include "../passes.h"

#define WIDTH_MIN 16   /* of an image: narrower ones are computed in tiles of several rows */

static bool unit(Ints v) { return v.v[0] == 1 && v.v[1] == 1; }

static bool image(const Value *v) { return v->shape.rank == 4 && v->dt == DT_F32 && value_count(v) > 0; }

static bool depthwise(const Node *n) {
  int64_t channels = n->in[0]->shape.d[1].n;
  return ((const ConvAttr *)n->attr)->group == channels && n->out[0]->shape.d[1].n == channels && channels > 1;
}

/* Weights that are read again for every row, and should come from the second-level cache. */
static bool near(const Node *n, const Target *t) { return (int64_t)value_bytes(n->in[1]) <= (t->l2 ? t->l2 : 256 << 10) / 2; }

/* A convolution whose result one node reads. */
static bool source(const Node *n, const Ctx *c) {
  if (n->op != OP_Conv || depthwise(n) || n->streamed || n->joined || (n->next && n->next->joined)) return false;
  if (!image(n->out[0]) || !image(n->in[0])) return false;
  if (n->out[0]->layout.kind != LAYOUT_BLOCKED || !value_is_const(n->in[1]) || n->in[1]->uses.n != 1) return false;
  if (n->out[0]->shape.d[3].n < WIDTH_MIN) return false;
  if (!value_single_use(n->out[0]) || n->out[0]->is_output) return false;
  return near(n, c->target) && !conv_for_winograd(n, c->target, c->opt ? c->opt->winograd : -1);
}

static bool window(const Node *n) {
  return image(n->out[0]) && (n->op == OP_MaxPool || n->op == OP_AveragePool || (n->op == OP_Conv && depthwise(n)));
}

/* The only reader of v, as its first operand; NULL if there is none. */
static Node *reader(const Value *v) {
  return value_single_use(v) && v->uses.at[0].slot == 0 && !v->is_output ? v->uses.at[0].node : NULL;
}

/* A 1x1 convolution that reads the result of a window. */
static bool project(const Node *n, const Node *window) {
  if (n->op != OP_Conv || n->joined || (n->next && n->next->joined)) return false;
  if (window->out[0]->layout.kind != LAYOUT_BLOCKED || !image(n->out[0])) return false;
  const ConvAttr *a = n->attr;
  const Value *w = n->in[1];
  if (a->group != 1 || !unit(a->strides) || !value_is_const(w) || w->uses.n != 1) return false;
  for (int i = 0; i < 4; i++)
    if (a->pads.v[i]) return false;
  return w->shape.d[2].n == 1 && w->shape.d[3].n == 1;
}

static void attach(Graph *g, Node *n, Node *to) {
  if (n->next != to) graph_move_before(g, n, to);
  to->streamed = true;
}

bool pass_stream(Graph *g, Ctx *c) {
  int64_t streamed = 0, saved = 0;
  for (Node *n = g->first, *next; n; n = next) {
    next = n->next;
    Node *w = source(n, c) ? reader(n->out[0]) : NULL, *before = n->prev;
    if (!w || w->streamed || !window(w)) continue;
    Node *last = reader(w->out[0]);
    if (last && project(last, w) && near(last, c->target)) {
      attach(g, w, last);
      saved += (int64_t)value_bytes(w->out[0]);
      streamed++;
    }
    attach(g, n, w);
    streamed++;
    saved += (int64_t)value_bytes(n->out[0]);
    next = before ? before->next : g->first;   /* what came after n may be in front of it now */
  }
  pass_applied(c, streamed);
  if (saved) pass_count(c, "stream", "bytes of images that never exist", saved);
  return streamed > 0;
}
