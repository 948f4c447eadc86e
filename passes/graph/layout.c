/* layout.c: which tensors have blocked channels inside the network.
 *
 * Convolutions (all but those of many narrow groups; transposed ones of one group) read and write blocks of `lanes` channels. Everything
 * that works channel by channel follows its operand: elementwise ops, pools, resizing, spatial reductions, LRN. What moves whole channels
 * (Concat, Slice, Gather) is BLOCKED where most of what it reads is. All other ops, and the network's inputs and outputs, are PLAIN.
 *
 *   1. mark   in topological order: a convolution's result is BLOCKED; a channel-wise op's is if an operand of its own shape is
 *   2. settle results that nobody reads blocked become PLAIN where their producer can write that directly
 *   3. mend   a Reorder in front of every operand that is needed in the other layout (one per value and layout)
 *
 * before: %c = Conv(%x, %w); %r = Relu(%c); %f = Reshape(%r)
 * after:  %c{c16} = Conv(%x, %w); %r = Relu(%c); %f = Reshape(%r)
 */
#include "../passes.h"

static const Layout plain = {LAYOUT_PLAIN, 0};

static bool layout_equal(Layout a, Layout b) { return a.kind == b.kind && a.block == b.block; }

static bool may_block(const Value *v) { return v && v->dt == DT_F32 && v->shape.rank == 4 && shape_is_static(&v->shape) && value_count(v) > 0; }

static int64_t conv_group(const Node *n) { return n->op == OP_Conv ? ((const ConvAttr *)n->attr)->group : ((const ConvTransposeAttr *)n->attr)->group; }

static bool conv_depthwise_node(const Node *n) {
  int64_t group = conv_group(n);
  return group > 1 && group == n->in[0]->shape.d[1].n && group == n->out[0]->shape.d[1].n;
}

/* Few results per channel. */
static bool conv_multiplied(const Node *n) {
  int64_t group = conv_group(n);
  return group > 1 && group == n->in[0]->shape.d[1].n && n->out[0]->shape.d[1].n / group <= 4;
}

/* Transposed convolutions that are computed as convolutions of one group. */
static bool transposed_dense(const Node *n) {
  const ConvTransposeAttr *a = n->attr;
  if (a->group != 1 || n->in[0]->shape.rank != 4) return false;
  for (int i = 0; i < 2; i++)
    if (a->dilations.v[i] != 1 || n->in[1]->shape.d[2 + i].n < a->strides.v[i]) return false;
  return true;
}

static bool is_conv(const Node *n) {
  return n->op == OP_Conv || n->op == OP_ConvSum || (n->op == OP_ConvTranspose && transposed_dense(n));
}

static bool sum_data(const Node *n, int i) { return i % 3 == 0 && i + 1 < n->ncore; }

static bool sum_blocks(const Node *n) {
  for (int i = 0; i < n->ncore; i++)
    if (n->in[i] && (sum_data(n, i) ? !may_block(n->in[i]) : !value_is_const(n->in[i]))) return false;
  return may_block(n->out[0]);
}

/* Convolutions the blocked schedules compute. */
static bool conv_blocks(const Node *n, int lanes) {
  if (n->op == OP_ConvSum) return sum_blocks(n);
  if (!may_block(n->out[0]) || !may_block(n->in[0]) || !value_is_const(n->in[1])) return false;
  if (n->ncore > 2 && n->in[2] && !value_is_const(n->in[2])) return false;
  return n->op == OP_ConvTranspose || conv_multiplied(n) || conv_groups_dense(n, lanes);
}

/* A dense convolution broadcasts single input elements, so it reads PLAIN as easily when there are few channels. */
static bool conv_input_blocked(const Node *n, int i, int lanes) {
  if (n->op == OP_ConvSum) return sum_data(n, i) && n->in[i]->shape.d[1].n > lanes / 2;
  return conv_multiplied(n) || n->in[0]->shape.d[1].n > lanes / 2;
}

static bool reduces_space_only(const Node *n) {
  const ReduceAttr *a = n->attr;
  if (!a->keepdims) return false;
  for (int i = 0; i < a->axes.n; i++)
    if (a->axes.v[i] < 2) return false;
  return a->axes.n > 0;
}

/* Channel-wise: the result's channel c depends on channel c of operand 0 (elementwise: of each operand), or those around it. */
static bool follows(const Node *n) {
  unsigned f = op_info(n->op)->flags;
  if (!(f & (OPF_CHANNEL | OPF_NEIGHBOURS)) || !may_block(n->out[0])) return false;
  if (n->op == OP_Conv || n->op == OP_ConvSum || n->op == OP_Reorder || (n->op == OP_ConvTranspose && !conv_depthwise_node(n))) return false;
  if (f & OPF_EW) {
    for (int i = 0; i < n->nin; i++)
      if (!n->in[i] || n->in[i]->dt != DT_F32) return false;   /* vectors are of one width */
    return true;
  }
  if (n->nout > 1 && (n->out[1]->uses.n || n->out[1]->is_output)) return false;   /* indices count in the PLAIN image */
  if (!may_block(n->in[0]) || n->in[0]->shape.d[0].n != n->out[0]->shape.d[0].n || n->in[0]->shape.d[1].n != n->out[0]->shape.d[1].n) return false;
  return op_info(n->op)->attr != &attr_desc_Reduce || reduces_space_only(n);
}

static bool moves(const Node *n) { return may_block(n->nout ? n->out[0] : NULL) && node_moves_channels(n); }

/* Most channels that n moves come from BLOCKED operands. */
static bool moves_blocked(const Node *n) {
  int64_t all = 0, blocked = 0;
  for (int i = 0; i < (n->op == OP_Concat ? n->ncore : 1); i++) {
    all += n->in[i]->shape.d[1].n;
    if (n->in[i]->layout.kind == LAYOUT_BLOCKED) blocked += n->in[i]->shape.d[1].n;
  }
  return 2 * blocked > all;
}

/* The layout own operand i of n is to have. EW operands that broadcast keep what they have. */
static Layout wanted(const Node *n, int i, int lanes) {
  const Layout blocked = {LAYOUT_BLOCKED, lanes};
  const Value *v = n->in[i], *y = n->out[0];
  if (is_conv(n) && conv_blocks(n, lanes)) return conv_input_blocked(n, i, lanes) ? blocked : v->layout;
  if (moves(n)) return y->layout;
  if (follows(n)) {
    if (op_info(n->op)->flags & OPF_EW) {
      if (!shape_equal(&v->shape, &y->shape)) return v->layout.kind == LAYOUT_BLOCKED && v->shape.rank == 4 ? v->layout : plain;
      return value_is_const(v) ? plain : y->layout.kind == LAYOUT_BLOCKED ? y->layout : v->layout;
    }
    return i == 0 ? v->layout : plain;
  }
  return plain;
}

static void mark(Graph *g, int lanes) {
  for (Node *n = g->first; n; n = n->next) {
    Value *y = n->nout ? n->out[0] : NULL;
    if (is_conv(n) && conv_blocks(n, lanes)) {
      y->layout = (Layout){LAYOUT_BLOCKED, lanes};
    } else if (moves(n)) {
      if (moves_blocked(n)) y->layout = (Layout){LAYOUT_BLOCKED, lanes};
    } else if (follows(n)) {
      int operands = op_info(n->op)->flags & OPF_EW ? n->nin : 1;
      for (int i = 0; i < operands; i++)
        if (n->in[i]->layout.kind == LAYOUT_BLOCKED && (operands == 1 || shape_equal(&n->in[i]->shape, &y->shape))) y->layout = n->in[i]->layout;
    }
  }
}

/* Last first, so that a chain of channel-wise ops in front of a PLAIN reader turns PLAIN from its end only. */
static void settle(Graph *g, int lanes) {
  for (Node *n = g->last; n; n = n->prev) {
    Value *y = n->nout ? n->out[0] : NULL;
    if (!y || y->layout.kind != LAYOUT_BLOCKED) continue;
    bool read_blocked = false;
    for (int u = 0; u < y->uses.n; u++)
      if (y->uses.at[u].slot >= y->uses.at[u].node->ncore || wanted(y->uses.at[u].node, y->uses.at[u].slot, lanes).kind == LAYOUT_BLOCKED)
        read_blocked = true;
    if (!read_blocked) y->layout = plain;
  }
}

static Value *reordered(Graph *g, Value *v, Layout to) {
  for (int u = 0; u < v->uses.n; u++) {
    const Node *r = v->uses.at[u].node;
    if (r->op == OP_Reorder && layout_equal(r->out[0]->layout, to)) return r->out[0];
  }
  Node *before = v->def ? v->def->next : g->first;
  Node *r = graph_make(g, before, OP_Reorder, NULL, &v, 1);
  if (!r) ice(g, v->def, "layout", "cannot reorder");
  r->out[0]->layout = to;
  if (v->def) node_copy_origin(g, r, v->def);
  return r->out[0];
}

static bool mend(Graph *g, int lanes) {
  bool changed = false;
  for (Node *n = g->first; n; n = n->next) {
    if (n->op == OP_Reorder) continue;
    for (int i = 0; i < n->ncore; i++) {   /* body operands are read in any layout */
      Value *v = n->in[i];
      if (!v || value_is_const(v)) continue;
      Layout to = wanted(n, i, lanes);
      if (layout_equal(v->layout, to) || (follows(n) && !(op_info(n->op)->flags & OPF_EW))) continue;
      graph_set_input(g, n, i, reordered(g, v, to));
      changed = true;
    }
  }
  for (int i = 0; i < g->outputs.n; i++) {
    Value *v = g->outputs.at[i];
    if (v->layout.kind != LAYOUT_BLOCKED) continue;
    /* Read blocked elsewhere too: the signature gets a copy under the old name. */
    Node *r = graph_make(g, v->def->next, OP_Reorder, NULL, &v, 1);
    if (!r) ice(g, v->def, "layout", "cannot reorder");
    node_copy_origin(g, r, v->def);
    r->out[0]->name = v->name;
    v->name = NULL;
    r->out[0]->is_output = true;
    v->is_output = false;
    g->outputs.at[i] = r->out[0];
    changed = true;
  }
  return changed;
}

bool pass_layout(Graph *g, Ctx *c) {
  int lanes = c->target->lanes;
  if (lanes < 2) return false;
  mark(g, lanes);
  settle(g, lanes);
  mend(g, lanes);
  int blocked = 0, reorders = 0;
  for (Node *n = g->first; n; n = n->next) {
    if (n->op == OP_Reorder) reorders++;
    else if (n->nout && n->out[0]->layout.kind == LAYOUT_BLOCKED) blocked++;
  }
  pass_applied(c, blocked);
  pass_count(c, "layout", "reorders", reorders);
  return blocked > 0;
}
