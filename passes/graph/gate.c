/* gate.c: a factor per channel goes into the 1x1 convolution that reads the product.
 *
 * Squeeze-and-excite blocks multiply each channel of an image by a number computed from the whole image. Where only 1x1 convolutions read the
 * product, it need not be stored: they take the factors as an operand, and lowering multiplies the weights, of which there are fewer, once
 * per image. The same in real arithmetic; rounded once more or less.
 *
 * before: %m = Mul(%x, %g); %y = Conv1x1(%m, %w, %b)          %x: f32[N,C,H,W], %g: f32[N,C,1,1]
 * after:  %y = Conv1x1(%x, %w, %b, _, %g)
 */
#include "../passes.h"

#include <string.h>

enum { GATE = 4 };   /* operand of Conv */

/* v has one number per image and channel of x. */
static bool per_channel(const Value *v, const Value *x) {
  if (v->shape.rank != x->shape.rank || v->dt != x->dt || shape_equal(&v->shape, &x->shape)) return false;
  if (v->shape.d[0].n != x->shape.d[0].n || v->shape.d[1].n != x->shape.d[1].n) return false;
  return shape_count_from(&v->shape, 2) == 1;
}

static bool takes_gate(const Use *u, const Value *m) {
  const Node *n = u->node;
  if (u->slot != 0 || !conv_pointwise(n) || ((const ConvAttr *)n->attr)->group != 1 || !value_is_const(n->in[1])) return false;
  return n->out[0]->dt == m->dt;
}

/* Which operand of n is the gate of all its readers; -1: none. */
static int gate_operand(const Node *n) {
  const Value *m = n->out[0];
  if (n->op != OP_Mul || n->nbody || m->dt != DT_F32 || m->shape.rank != 4 || m->is_output || !m->uses.n) return -1;
  for (int i = 0; i < 2; i++) {
    const Value *x = n->in[1 - i];
    if (!shape_equal(&x->shape, &m->shape) || !per_channel(n->in[i], x)) continue;
    if (x->layout.kind != m->layout.kind || x->layout.block != m->layout.block) continue;
    for (int u = 0; u < m->uses.n; u++)
      if (!takes_gate(&m->uses.at[u], m)) return -1;
    return i;
  }
  return -1;
}

/* All readers of n, which multiplies by its operand i, take that themselves. */
static void gate_readers(Graph *g, Node *n, int i) {
  Value *m = n->out[0];
  while (m->uses.n) {
    Node *c = m->uses.at[0].node;
    Value *in[GATE + 1] = {NULL};
    memcpy(in, c->in, (size_t)c->ncore * sizeof *in);
    in[0] = n->in[1 - i];
    in[GATE] = n->in[i];
    graph_set_inputs(g, c, in, GATE + 1, GATE + 1);
    node_copy_origin(g, c, n);
  }
  graph_erase(g, n);
}

bool pass_gate(Graph *g, Ctx *c) {
  int64_t gates = 0;
  for (Node *n = g->first, *next; n; n = next) {
    next = n->next;
    int i = gate_operand(n);
    if (i < 0) continue;
    gate_readers(g, n, i);
    gates++;
  }
  pass_applied(c, gates);
  return gates > 0;
}
