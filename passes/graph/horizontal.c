/* horizontal.c: convolutions of one tensor and one geometry are computed together: what they read is prepared once.
 *
 * A later one moves behind the first and is marked: the schedules make one kernel of a convolution and the joined ones after it, which for
 * each strip of the input computes all of them. The direct one (passes/lower/conv_direct.c) does so while the strip is in the second-level
 * cache; Winograd's method (conv_winograd.c) transforms the strip once. Every result keeps a buffer, a body and a life of its own, so that
 * consumers read what they read before.
 *
 * In scale-permuted networks these are the resamplers of one block, all 1x1; in others the branches of a block, or the strided 3x3 and 1x1
 * convolutions at its end; and the first layers of the class and box subnets of a detection head, level by level, whose weights the levels
 * may share. Not taken: bodies that read tensors (they would have to exist earlier); for the direct schedule, weights that several
 * convolutions share (their packing is settled together with the other readers).
 *
 * When it pays: by the direct schedule if the tensor is larger than the second-level cache; below that, the next convolution finds it there
 * anyway. By Winograd's method at any size: an input transform of 256 channels is 3% of the layer, and with two threads, which get panels
 * rather than pixels of small images, each of them does all of it (measured: 2 to 3% of both layers, 3 to 15% with two threads). What it
 * costs in strips and packings only lowering knows: where it is slower so, the marks mean nothing.
 *
 * Only where it costs no memory: nobody else reads the tensor later, so that it dies here, and the results have room. (One that lives on, as
 * a residual, would have the moved results beside it.) Of 1x1 convolutions, whose results may wait for long, all results together must not
 * be larger than the tensor. Of those for Winograd's method those that move must not be, which then take the tensor's place while what
 * follows the first is computed; and tensor and results, which are alive together in the joined kernel, must not be more than is alive at
 * another time: for the largest node of the graph, or for the first reader of the first result, beside which the tensor would be alive.
 *
 * before: %a = Conv(%x, %v); ...; %b = Conv(%x, %w)
 * after:  %a = Conv(%x, %v); %b = Conv(%x, %w) joined; ...
 */
#include "../passes.h"

#define TOGETHER_MAX 6

static int64_t bytes(const Value *v) { return (int64_t)value_bytes(v); }

/* ---- what can be joined ---- */

static bool for_winograd(const Node *n, const Ctx *c) { return conv_for_winograd(n, c->target, c->opt ? c->opt->winograd : -1); }

static bool joinable(const Node *n, const Ctx *c) {
  if (n->op != OP_Conv || n->out[0]->shape.rank != 4 || n->out[0]->dt != DT_F32 || n->in[0]->dt != DT_F32) return false;
  if (((const ConvAttr *)n->attr)->group != 1 || value_count(n->out[0]) == 0) return false;
  for (int i = 1; i < n->nin; i++)
    if (n->in[i] && !value_is_const(n->in[i])) return false;
  if (for_winograd(n, c)) return true;
  return n->in[1]->uses.n == 1 && bytes(n->in[0]) >= (c->target->l2 ? c->target->l2 : 256 << 10);
}

static bool alike(const Node *a, const Node *b) {
  if (a->in[0] != b->in[0] || !attr_equal(op_info(OP_Conv)->attr, a->attr, b->attr)) return false;
  for (int i = 2; i < 4; i++)
    if (a->in[1]->shape.d[i].n != b->in[1]->shape.d[i].n) return false;
  return true;
}

/* ---- memory ---- */

/* v dies in n, at its use as operand i, and the result may have its memory. */
static bool taken_over(const Node *n, int i) {
  const Value *v = n->in[i];
  bool elementwise = i >= n->ncore || (op_info(n->op)->flags & OPF_EW);
  return elementwise && value_single_use(v) && v->def && bytes(v) == bytes(n->out[0]);
}

/* Of the tensors that n reads and writes. */
static int64_t node_bytes(const Node *n) {
  int64_t sum = 0;
  bool in_place = false;
  if ((op_info(n->op)->flags & OPF_VIEW) && !n->nbody) return 0;
  for (int i = 0; i < n->nin; i++) {
    bool again = !n->in[i] || value_is_const(n->in[i]);
    for (int j = 0; j < i && !again; j++) again = n->in[j] == n->in[i];
    if (again) continue;
    sum += bytes(n->in[i]);
    in_place |= taken_over(n, i);
  }
  for (int i = in_place; i < n->nout; i++) sum += bytes(n->out[i]);
  return sum;
}

static int64_t largest_node(const Graph *g) {
  int64_t most = 0;
  for (const Node *n = g->first; n; n = n->next) most = MAXI(most, node_bytes(n));
  return most;
}

/* What is alive at some time when n is computed alone. */
static int64_t alive_alone(const Node *n, int64_t largest) {
  const Value *y = n->out[0];
  int64_t next = 0;
  for (const Node *m = n->next; m && !next; m = m->next)
    for (int i = 0; i < m->nin; i++)
      if (m->in[i] == y) next = bytes(m->out[0]);
  return MAXI(largest, bytes(n->in[0]) + bytes(y) + next);
}

/* ---- joining ---- */

typedef struct Group { Node *m[TOGETHER_MAX]; int n; } Group;

/* n and the convolutions after it that can be joined to it. largest: of node_bytes. */
static Group collect(Node *n, const Ctx *c, int64_t largest) {
  Group g = {.m = {n}, .n = 1};
  if (n->joined || !joinable(n, c)) return g;
  bool winograd = for_winograd(n, c);
  int64_t x = bytes(n->in[0]), first = bytes(n->out[0]), room = winograd ? MINI(x, alive_alone(n, largest) - x - first) : x - first;
  for (Node *m = n->next; m && g.n < TOGETHER_MAX; m = m->next) {
    if (m->joined || !joinable(m, c) || !alike(n, m) || bytes(m->out[0]) > room) continue;
    room -= bytes(m->out[0]);
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
  int64_t joined = 0, saved = 0, largest = largest_node(g);
  for (Node *n = g->first; n; n = n->next) {
    Group gr = collect(n, c, largest);
    if (gr.n < 2 || !last_readers(&gr)) continue;
    for (int i = 1; i < gr.n; i++) {
      if (gr.m[i - 1]->next != gr.m[i]) graph_move_before(g, gr.m[i], gr.m[i - 1]->next);
      gr.m[i]->joined = true;
      joined++;
      saved += bytes(n->in[0]);
    }
  }
  pass_applied(c, joined);
  if (saved) pass_count(c, "horizontal", "bytes not read again", saved);
  return joined > 0;
}
