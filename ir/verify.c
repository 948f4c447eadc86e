/* verify.c: the invariants of graph.h, checked. For debug builds and for text that people wrote: it takes nothing for granted but that
 * pointers point to what they are declared as.
 *
 * Types are checked by running inference again on a scratch copy of each node's outputs.
 */
#include "graph.h"

#include <string.h>

typedef struct Verify {
  Graph *g;
  Arena *a;
  const char *wrong;
  const Node **node_by_id;
  bool *defined;           /* by value id */
} Verify;

static const char *name_of(const Value *v) { return v->name ? v->name : "(unnamed)"; }

static bool bad(Verify *v, const Node *n, const char *fmt, ...) PRINTF_LIKE(3, 4);
static bool bad(Verify *v, const Node *n, const char *fmt, ...) {
  if (v->wrong) return false;
  va_list args;
  va_start(args, fmt);
  const char *text = arena_vprintf(v->a, fmt, args);
  va_end(args);
  if (n) text = arena_printf(v->a, "%s node %d%s%s%s: %s", op_info(n->op)->name, n->id, n->norigin ? " '" : "",
                             n->norigin ? n->origin[0] : "", n->norigin ? "'" : "", text);
  v->wrong = text;
  return false;
}

/* ---- values ---- */

static bool known(const Verify *v, const Value *x) { return x->id >= 0 && x->id < v->g->values.n && v->g->values.at[x->id] == x; }

static bool check_shape(Verify *v, const Value *x) {
  if (x->shape.rank < 0 || x->shape.rank > MAX_RANK) return bad(v, x->def, "'%s' has rank %d", name_of(x), x->shape.rank);
  for (int i = 0; i < x->shape.rank; i++)
    if (x->shape.d[i].n < 0) return bad(v, x->def, "'%s' has a negative dimension", name_of(x));
  if (x->dt == DT_NONE) return bad(v, x->def, "'%s' has no type", name_of(x));
  if (x->layout.kind == LAYOUT_PLAIN) return true;
  if (x->layout.block < 1 || x->shape.rank < 3) return bad(v, x->def, "'%s' cannot be blocked", name_of(x));
  if (x->is_input || x->is_output || x->data) return bad(v, x->def, "'%s' is of the signature or constant, but blocked", name_of(x));
  return true;
}

static bool check_value(Verify *v, int id) {
  const Value *x = v->g->values.at[id];
  if (x->id != id) return bad(v, x->def, "'%s' has id %d at position %d", name_of(x), x->id, id);
  bool live = x->uses.n || x->is_output || x->is_input || x->data || x->def;
  if (!live) return true;   /* of an erased node; goes at graph_compact */
  if (x->is_input + (x->data != NULL) + (x->def != NULL) != 1)
    return bad(v, x->def, "'%s' must be one of input, constant, result of a node", name_of(x));
  if (x->is_output && !x->def) return bad(v, NULL, "output '%s' is not made by a node", name_of(x));
  for (int i = 0; i < x->uses.n; i++) {
    Use u = x->uses.at[i];
    if (u.node->id < 0 || u.node->id >= v->g->next_node_id || v->node_by_id[u.node->id] != u.node)
      return bad(v, u.node, "it is not in the graph, yet uses '%s'", name_of(x));
    if (u.slot < 0 || u.slot >= u.node->nin || u.node->in[u.slot] != x) return bad(v, u.node, "stale use of '%s'", name_of(x));
  }
  v->defined[id] = x->is_input || x->data;
  return check_shape(v, x);
}

static bool check_signature(Verify *v) {
  const Graph *g = v->g;
  int in = 0, out = 0;
  for (int i = 0; i < g->values.n; i++) {
    in += g->values.at[i]->is_input;
    out += g->values.at[i]->is_output;
  }
  if (in != g->inputs.n || out != g->outputs.n) return bad(v, NULL, "inputs or outputs are not what values are marked as");
  for (int i = 0; i < in; i++)
    if (!known(v, g->inputs.at[i]) || !g->inputs.at[i]->is_input) return bad(v, NULL, "input %d is not one", i);
  for (int i = 0; i < out; i++)
    if (!known(v, g->outputs.at[i]) || !g->outputs.at[i]->is_output) return bad(v, NULL, "output %d is not one", i);
  return true;
}

/* ---- nodes ---- */

/* in[i] read at a place of out[0]: every dimension equal or 1, spatial ones equal after the shift. */
static bool check_body_operand(Verify *v, const Node *n, const BodyArg *arg) {
  const Shape *x = &n->in[arg->i]->shape, *y = &n->out[0]->shape;
  if (x->rank > y->rank) return bad(v, n, "body operand in%d has a higher rank than the result", arg->i);
  for (int i = 0; i < x->rank; i++) {
    int at = i + y->rank - x->rank;
    Dim d = x->d[i], o = y->d[at];
    if (d.n == 1 && !d.sym) continue;
    if (arg->up && at >= 2) {
      if (o.sym || d.sym || d.n != (o.n >> arg->up) + ((o.n & (((int64_t)1 << arg->up) - 1)) != 0))
        return bad(v, n, "body operand in%d does not fit at 1/%d of the size", arg->i, 1 << MINI(arg->up, 30));
    } else if (d.n != o.n || !d.sym != !o.sym) {
      return bad(v, n, "body operand in%d does not broadcast to the result", arg->i);
    }
  }
  return true;
}

static bool check_step(Verify *v, const Node *n, int s, DType acc) {
  const BodyStep *b = &n->body[s];
  if ((unsigned)b->op >= OP_COUNT || !(op_info(b->op)->flags & OPF_EW)) return bad(v, n, "step %d is not elementwise", s);
  if (b->nargs != op_info(b->op)->min_in) return bad(v, n, "step %d has %d operands", s, b->nargs);
  if (op_info(b->op)->attr->fields()->name && !b->attr) return bad(v, n, "step %d has no attributes", s);
  DType args[3];
  for (int k = 0; k < b->nargs; k++) {
    const BodyArg *arg = &b->arg[k];
    if (arg->up && arg->kind != ARG_IN) return bad(v, n, "step %d: only operands can be upsampled", s);
    switch (arg->kind) {
    case ARG_ACC:
      if (n->op == OP_Map) return bad(v, n, "step %d reads a result that Map does not have", s);
      args[k] = acc;
      break;
    case ARG_STEP:
      if (arg->i < 0 || arg->i >= s) return bad(v, n, "step %d reads step %d", s, arg->i);
      args[k] = n->body[arg->i].dt;
      break;
    case ARG_IN:
      if (arg->i < n->ncore || arg->i >= n->nin) return bad(v, n, "step %d reads operand %d of %d..%d", s, arg->i, n->ncore, n->nin);
      if (arg->up < 0 || arg->up > 30) return bad(v, n, "step %d: shift out of range", s);
      if (!check_body_operand(v, n, arg)) return false;
      args[k] = n->in[arg->i]->dt;
      break;
    }
  }
  DType dt = op_ew_dtype(b->op, b->attr, args, b->nargs);
  if (dt == DT_NONE) return bad(v, n, "operands of step %d (%s) have types that do not fit", s, op_info(b->op)->name);
  if (dt != b->dt) return bad(v, n, "step %d is %s, but its operands make it %s", s, dt_name(b->dt), dt_name(dt));
  return true;
}

/* Infers into the node's outputs, compares, puts them back. */
static bool check_types(Verify *v, Node *n) {
  Value kept[8];
  DType acc = DT_NONE;
  if (n->nout > COUNTOF(kept)) return bad(v, n, "too many outputs");
  for (int i = 0; i < n->nout; i++) kept[i] = *n->out[i];
  Diag *d = v->g->diag;
  int nbody = n->nbody;
  v->g->diag = NULL;
  if (n->op != OP_Map) n->nbody = 0;   /* for the type of the op's own result */
  bool ok = op_info(n->op)->infer(v->g, n);
  if (ok) acc = n->out[0]->dt;
  n->nbody = nbody;
  v->g->diag = d;
  const char *wrong = ok ? NULL : "inference refuses it";
  for (int i = 0; i < n->nout; i++) {
    DType dt = i == 0 && n->nbody ? n->body[n->nbody - 1].dt : n->out[i]->dt;
    if (ok && (dt != kept[i].dt || !shape_equal(&n->out[i]->shape, &kept[i].shape)))
      wrong = "an output's type or shape is not what inference gives";
    n->out[i]->dt = kept[i].dt;
    n->out[i]->shape = kept[i].shape;
  }
  if (wrong) return bad(v, n, "%s", wrong);
  for (int s = 0; s < n->nbody; s++)
    if (!check_step(v, n, s, acc)) return false;
  return true;
}

static bool check_operands(Verify *v, const Node *n) {
  const OpInfo *info = op_info(n->op);
  if (n->ncore < info->min_in || (info->max_in >= 0 && n->ncore > info->max_in) || n->ncore > n->nin)
    return bad(v, n, "%d operands, %d of its own", n->nin, n->ncore);
  for (int i = 0; i < n->nin; i++) {
    const Value *x = n->in[i];
    if (!x && (i >= n->ncore || i < info->min_in || info->max_in < 0)) return bad(v, n, "operand %d is missing", i);
    if (!x) continue;
    if (!known(v, x)) return bad(v, n, "operand %d is not a value of the graph", i);
    if (!v->defined[x->id]) return bad(v, n, "operand %d ('%s') is not defined before its use", i, name_of(x));
    bool listed = false;
    for (int u = 0; u < x->uses.n && !listed; u++) listed = x->uses.at[u].node == n && x->uses.at[u].slot == i;
    if (!listed) return bad(v, n, "operand %d ('%s') does not list the use", i, name_of(x));
  }
  return true;
}

/* Operands of a node that moves channels lie alike, and BLOCKED if the result does. */
static bool check_moved(Verify *v, const Node *n) {
  if (n->op != OP_Concat && n->op != OP_Slice && n->op != OP_Gather) return true;
  bool moves = node_moves_channels(n);
  for (int i = 0; i < (n->op == OP_Concat ? n->ncore : 1); i++) {
    Layout x = n->in[i]->layout, y = n->out[0]->layout, first = n->in[0]->layout;
    if (x.kind == LAYOUT_BLOCKED && !moves) return bad(v, n, "operand %d cannot be blocked", i);
    if (x.kind != first.kind || x.block != first.block || (y.kind == LAYOUT_BLOCKED && (x.kind != y.kind || x.block != y.block)))
      return bad(v, n, "operand %d lies otherwise than the others or the result", i);
    if (n->op == OP_Concat && x.kind != y.kind) return bad(v, n, "operand %d is blocked, the result is not", i);
  }
  return true;
}

static bool check_joined(Verify *v, const Node *n) {
  if (!n->joined) return true;
  const Node *p = n->prev;
  if (n->op != OP_Conv || !p || p->op != OP_Conv || p->in[0] != n->in[0] || !attr_equal(op_info(OP_Conv)->attr, p->attr, n->attr))
    return bad(v, n, "it is joined to no convolution of the same tensor");
  for (int i = 1; i < n->nin; i++)
    if (n->in[i] && !value_is_const(n->in[i])) return bad(v, n, "it is joined, but operand %d is not constant", i);
  return true;
}

static bool check_streamed(Verify *v, const Node *n) {
  if (!n->streamed) return true;
  const Node *p = n->prev;
  if (!p || (p->op != OP_Conv && !p->streamed) || n->in[0] != p->out[0] || !value_single_use(p->out[0]))
    return bad(v, n, "it is streamed, but not the only reader of the node before it");
  return true;
}

static bool check_node(Verify *v, Node *n) {
  const OpInfo *info = op_info(n->op);
  if (!check_operands(v, n)) return false;
  if (n->nout != info->nout) return bad(v, n, "%d outputs", n->nout);
  if (info->attr->fields()->name && !n->attr) return bad(v, n, "no attributes");
  if (n->nbody && !(info->flags & OPF_BODY)) return bad(v, n, "it cannot have a body");
  if (n->nin > n->ncore && !n->nbody) return bad(v, n, "operands for a body it does not have");
  if (n->op == OP_Map && (!n->nbody || !n->nin)) return bad(v, n, "an empty Map");
  for (int i = 0; i < n->nout; i++) {
    const Value *x = n->out[i];
    if (!known(v, x) || x->def != n || x->def_slot != i) return bad(v, n, "output %d does not name it as its producer", i);
    if (x->layout.kind != LAYOUT_PLAIN && n->op != OP_Map && !(info->flags & (OPF_CHANNEL | OPF_NEIGHBOURS)) && !node_moves_channels(n))
      return bad(v, n, "output %d cannot be blocked", i);
  }
  if (!check_moved(v, n) || !check_joined(v, n) || !check_streamed(v, n)) return false;
  /* Bodies first where inference reads them. */
  if (n->op == OP_Map)
    for (int s = 0; s < n->nbody; s++)
      if (!check_step(v, n, s, DT_NONE)) return false;
  if (!check_types(v, n)) return false;
  for (int i = 0; i < n->nout; i++) v->defined[n->out[i]->id] = true;
  return true;
}

const char *graph_verify(const Graph *g, Arena *a) {
  Verify v = {.g = (Graph *)g, .a = a, .node_by_id = NEW_N(a, const Node *, g->next_node_id), .defined = NEW_N(a, bool, g->values.n)};
  const Node *prev = NULL;
  for (const Node *n = g->first; n; prev = n, n = n->next) {
    if (n->prev != prev || n->id < 0 || n->id >= g->next_node_id || v.node_by_id[n->id]) return "the node list is damaged";
    v.node_by_id[n->id] = n;
  }
  if (g->last != prev) return "the node list is damaged";
  for (int i = 0; i < g->values.n; i++)
    if (!check_value(&v, i)) return v.wrong;
  if (!check_signature(&v)) return v.wrong;
  for (Node *n = g->first; n; n = n->next)
    if (!check_node(&v, n)) return v.wrong;
  return NULL;
}
