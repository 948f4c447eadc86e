/* horizontal.c: convolutions of one tensor and one geometry are computed together: the tensor is read once.
 *
 * A later one moves behind the first and is marked: the direct schedule (passes/lower/conv_direct.c) makes one kernel of a convolution and
 * the joined ones after it, which for each strip of the input computes all of them while the strip is in the second-level cache. Every
 * result keeps a buffer, a body and a life of its own, so that consumers read what they read before.
 *
 * In scale-permuted networks these are the resamplers of one block, all 1x1; in others the branches of a block, or the strided 3x3 and 1x1
 * convolutions at its end. Not taken: what Winograd's method may compute (3x3, stride 1: the products are nearly all of the time, and the
 * transformed weights of two layers would share the caches that one has to itself), weights that several convolutions share (their
 * packing is settled together with the other readers), bodies that read tensors (they would have to exist earlier).
 *
 * When it pays: if the tensor is larger than the second-level cache; below that, the next convolution finds it there anyway. And only where
 * it costs no memory: nobody else reads the tensor later, so that it dies here, and the results together are not larger than it is. (One
 * that lives on, as a residual, would have the moved results beside it.)
 *
 * before: %a = Conv(%x, %v); ...; %b = Conv(%x, %w)
 * after:  %a = Conv(%x, %v); %b = Conv(%x, %w) joined; ...
 */
#include "../passes.h"

#define TOGETHER_MAX 6

/* ---- what can be joined ---- */

static bool unit(Ints v) { return v.v[0] == 1 && v.v[1] == 1; }

static bool for_winograd(const Node *n) {
  const ConvAttr *a = n->attr;
  const Shape *w = &n->in[1]->shape;
  return w->d[2].n == 3 && w->d[3].n == 3 && unit(a->strides) && unit(a->dilations);
}

static bool joinable(const Node *n, const Target *t) {
  if (n->op != OP_Conv || n->out[0]->shape.rank != 4 || n->out[0]->dt != DT_F32 || n->in[0]->dt != DT_F32) return false;
  if (((const ConvAttr *)n->attr)->group != 1 || for_winograd(n) || value_count(n->out[0]) == 0) return false;
  for (int i = 1; i < n->nin; i++)
    if (n->in[i] && !value_is_const(n->in[i])) return false;
  return n->in[1]->uses.n == 1 && (int64_t)value_bytes(n->in[0]) >= (t->l2 ? t->l2 : 256 << 10);
}

static bool alike(const Node *a, const Node *b) {
  if (a->in[0] != b->in[0] || !attr_equal(op_info(OP_Conv)->attr, a->attr, b->attr)) return false;
  for (int i = 2; i < 4; i++)
    if (a->in[1]->shape.d[i].n != b->in[1]->shape.d[i].n) return false;
  return true;
}

/* ---- joining ---- */

typedef struct Group { Node *m[TOGETHER_MAX]; int n; } Group;

/* n and the convolutions after it that can be joined to it. */
static Group collect(Node *n, const Target *t) {
  Group g = {.m = {n}, .n = 1};
  if (n->joined || !joinable(n, t)) return g;
  int64_t bytes = (int64_t)value_bytes(n->out[0]), most = (int64_t)value_bytes(n->in[0]);
  for (Node *m = n->next; m && g.n < TOGETHER_MAX; m = m->next) {
    if (m->joined || !joinable(m, t) || !alike(n, m) || bytes + (int64_t)value_bytes(m->out[0]) > most) continue;
    bytes += (int64_t)value_bytes(m->out[0]);
    g.m[g.n++] = m;
  }
  return g;
}

static bool member(const Group *g, const Node *n) {
  for (int i = 0; i < g->n; i++)
    if (g->m[i] == n) return true;
  return false;
}

/* Nobody after the first of them, other than they themselves, reads the tensor. */
static bool last_readers(const Group *g) {
  const Value *x = g->m[0]->in[0];
  if (x->is_output) return false;
  for (const Node *n = g->m[0]->next; n; n = n->next)
    for (int i = 0; i < n->nin; i++)
      if (n->in[i] == x && !member(g, n)) return false;
  return true;
}

bool pass_horizontal(Graph *g, Ctx *c) {
  int64_t joined = 0, saved = 0;
  for (Node *n = g->first; n; n = n->next) {
    Group gr = collect(n, c->target);
    if (gr.n < 2 || !last_readers(&gr)) continue;
    for (int i = 1; i < gr.n; i++) {
      if (gr.m[i - 1]->next != gr.m[i]) graph_move_before(g, gr.m[i], gr.m[i - 1]->next);
      gr.m[i]->joined = true;
      joined++;
      saved += (int64_t)value_bytes(n->in[0]);
    }
  }
  pass_applied(c, joined);
  if (saved) pass_count(c, "horizontal", "bytes not read again", saved);
  return joined > 0;
}
