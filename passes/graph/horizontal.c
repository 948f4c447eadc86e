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
 * When it pays: if the tensor is larger than the second-level cache; below that, the next convolution finds it there anyway. And only as long
 * as the largest set of live tensors does not grow: the moved result comes to life earlier, though often its operand can die earlier for it.
 *
 * before: %a = Conv(%x, %v); ...; %b = Conv(%x, %w)
 * after:  %a = Conv(%x, %v); %b = Conv(%x, %w) joined; ...
 */
#include "../passes.h"

#define TOGETHER_MAX 4

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

/* ---- memory ---- */

typedef struct Live { Graph *g; int *last; /* place of its last reader, by value id */ } Live;

static bool in_arena(const Value *v) { return !v->is_input && !v->is_output && !value_is_const(v); }

/* Bytes of the largest set of tensors that are alive at once. */
static int64_t peak(Live *l) {
  int64_t now = 0, most = 0;
  int place = 0;
  for (const Node *n = l->g->first; n; n = n->next, place++) {
    for (int i = 0; i < n->nout; i++) l->last[n->out[i]->id] = place;
    for (int i = 0; i < n->nin; i++)
      if (n->in[i]) l->last[n->in[i]->id] = place;
  }
  place = 0;
  for (const Node *n = l->g->first; n; n = n->next, place++) {
    for (int i = 0; i < n->nout; i++)
      if (in_arena(n->out[i])) now += value_storage_count(n->out[i]) * (int64_t)dt_size(n->out[i]->dt);
    most = MAXI(most, now);
    for (int k = 0; k < n->nin + n->nout; k++) {
      Value *v = k < n->nin ? n->in[k] : n->out[k - n->nin];
      if (!v || !in_arena(v) || l->last[v->id] != place) continue;
      now -= value_storage_count(v) * (int64_t)dt_size(v->dt);
      l->last[v->id] = -1;   /* an operand may be read twice */
    }
  }
  return most;
}

/* ---- joining ---- */

/* m moves behind `after`, if that costs no memory. */
static bool join(Graph *g, Live *l, Node *after, Node *m, int64_t *most) {
  Node *next = m->next;
  if (after->next != m) graph_move_before(g, m, after->next);
  int64_t now = peak(l);
  if (now > *most) {
    graph_move_before(g, m, next);
    return false;
  }
  *most = now;
  m->joined = true;
  return true;
}

bool pass_horizontal(Graph *g, Ctx *c) {
  Live l = {g, NEW_N(g->arena, int, MAXI(g->values.n, 1))};
  int64_t most = peak(&l), joined = 0, saved = 0;
  for (Node *n = g->first; n; n = n->next) {
    if (n->joined || !joinable(n, c->target)) continue;
    Node *last = n;
    int together = 1;
    for (Node *m = n->next, *next; m && together < TOGETHER_MAX; m = next) {
      next = m->next;
      if (m->joined || !joinable(m, c->target) || !alike(n, m) || !join(g, &l, last, m, &most)) continue;
      last = m;
      together++;
      joined++;
      saved += (int64_t)value_bytes(n->in[0]);
    }
  }
  pass_applied(c, joined);
  if (saved) pass_count(c, "horizontal", "bytes not read again", saved);
  return joined > 0;
}
