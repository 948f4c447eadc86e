/* stream.c: a pool or depthwise convolution reads the rows of the convolution before it while they are in cache: the image between them is
 * neither stored nor read back, and needs no memory.
 *
 * The convolution moves in front of its reader, which is marked: conv_stream.c (passes/lower/) makes one kernel of both. In the networks at
 * hand these are the stem's strided convolution and its pool, and the expansion and depthwise convolution of a mobile block.
 *
 * Not taken: what Winograd's method may compute (3x3, stride 1: its strips are tiles, not rows), weights that several convolutions share
 * (which are to follow one another), joined convolutions, narrow images. Images that fit a cache are taken like large ones: they cost no
 * less time this way, but less memory.
 *
 * before: %y = Conv(%x, %w); ...; %p = MaxPool(%y)
 * after:  ...; %y = Conv(%x, %w); %p = MaxPool(%y) streamed
 */
#include "../passes.h"

#define WIDTH_MIN 16   /* of an image: narrower ones are computed in tiles of several rows */

static bool image(const Value *v) { return v->shape.rank == 4 && v->dt == DT_F32 && value_count(v) > 0; }

static bool depthwise(const Node *n) {
  int64_t channels = n->in[0]->shape.d[1].n;
  return ((const ConvAttr *)n->attr)->group == channels && n->out[0]->shape.d[1].n == channels && channels > 1;
}

/* A convolution whose result one node reads. */
static bool source(const Node *n, const Ctx *c) {
  if (n->op != OP_Conv || depthwise(n) || n->joined || (n->next && n->next->joined) || !image(n->out[0]) || !image(n->in[0])) return false;
  if (n->out[0]->layout.kind != LAYOUT_BLOCKED || !value_is_const(n->in[1]) || n->in[1]->uses.n != 1) return false;
  if (n->out[0]->shape.d[3].n < WIDTH_MIN) return false;
  return !conv_for_winograd(n, c->target, c->opt ? c->opt->winograd : -1) && value_single_use(n->out[0]) && !n->out[0]->is_output;
}

static bool window(const Node *n) { return (n->op == OP_MaxPool || n->op == OP_AveragePool || (n->op == OP_Conv && depthwise(n))) && image(n->out[0]); }

bool pass_stream(Graph *g, Ctx *c) {
  int64_t streamed = 0, saved = 0;
  for (Node *n = g->first, *next; n; n = next) {
    next = n->next;
    if (!source(n, c)) continue;
    Use u = n->out[0]->uses.at[0];
    if (u.slot != 0 || !window(u.node)) continue;
    if (n->next != u.node) graph_move_before(g, n, u.node);
    u.node->streamed = true;
    streamed++;
    saved += (int64_t)value_bytes(n->out[0]);
  }
  pass_applied(c, streamed);
  if (saved) pass_count(c, "stream", "bytes of images that never exist", saved);
  return streamed > 0;
}
