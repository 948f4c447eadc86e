/* graph.c: building and rewiring the Graph.
 *
 * The graph owns its nodes and values through its arena; an erased node's memory stays until the arena goes, its values leave
 * graph->values at graph_compact. Use lists are kept exact by the few functions here that touch Node.in; all is ordered by insertion.
 */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

static const char no_bytes[16];   /* what constants without elements point to */

Graph *graph_new(Arena *a, Diag *d, const char *file) {
  Graph *g = NEW(a, Graph);
  g->arena = a;
  g->diag = d;
  g->file = file ? arena_strdup(a, file) : NULL;
  g->name = "";
  return g;
}

/* ---- values ---- */

Value *graph_add_value(Graph *g, const char *name, DType dt, const Shape *shape) {
  Value *v = NEW(g->arena, Value);
  v->id = g->values.n;
  v->name = name ? arena_strdup(g->arena, name) : NULL;
  v->dt = dt;
  if (shape) v->shape = *shape;
  vec_push(g->arena, &g->values, v);
  return v;
}

Value *graph_add_input(Graph *g, const char *name, DType dt, const Shape *shape) {
  Value *v = graph_add_value(g, name, dt, shape);
  v->is_input = true;
  vec_push(g->arena, &g->inputs, v);
  return v;
}

Value *graph_add_const(Graph *g, const char *name, DType dt, const Shape *shape, const void *data) {
  Value *v = graph_add_value(g, name, dt, shape);
  v->data = data ? data : no_bytes;
  return v;
}

void graph_add_output(Graph *g, Value *v) {
  if (v->is_output) ice(g, v->def, "graph_add_output", "'%s' is an output already", v->name ? v->name : "?");
  v->is_output = true;
  vec_push(g->arena, &g->outputs, v);
}

int64_t value_storage_count(const Value *v) {
  int64_t n = value_count(v);
  if (v->layout.kind == LAYOUT_PLAIN || v->shape.rank < 2 || n == 0) return n;
  int64_t c = v->shape.d[1].n, block = v->layout.block, padded = (c + block - 1) / block * block;
  return n > INT64_MAX / padded ? INT64_MAX : n / c * padded;
}

bool value_single_use(const Value *v) { return v->uses.n == 1 && !v->is_output; }

bool value_scalar_f(const Value *v, double *out) {
  if (!value_is_const(v) || v->dt == DT_STRING) return false;
  int64_t n = value_count(v);
  size_t size = dt_size(v->dt);
  if (n < 1 || !size) return false;
  for (int64_t i = 1; i < n; i++)
    if (memcmp((const char *)v->data, (const char *)v->data + (size_t)i * size, size)) return false;
  *out = data_get_f(v->data, v->dt, 0);
  return true;
}

static void add_use(Graph *g, Value *v, Node *n, int slot) {
  if (v) vec_push(g->arena, &v->uses, ((Use){n, slot}));
}

static void remove_use(Value *v, const Node *n, int slot) {
  if (!v) return;
  for (int i = 0; i < v->uses.n; i++) {
    if (v->uses.at[i].node != n || v->uses.at[i].slot != slot) continue;
    memmove(&v->uses.at[i], &v->uses.at[i + 1], (size_t)(v->uses.n - i - 1) * sizeof *v->uses.at);
    v->uses.n--;
    return;
  }
}

/* ---- nodes ---- */

static void link_before(Graph *g, Node *n, Node *before) {
  n->next = before;
  n->prev = before ? before->prev : g->last;
  *(n->prev ? &n->prev->next : &g->first) = n;
  *(before ? &before->prev : &g->last) = n;
}

static void unlink_node(Graph *g, Node *n) {
  *(n->prev ? &n->prev->next : &g->first) = n->next;
  *(n->next ? &n->next->prev : &g->last) = n->prev;
  n->prev = n->next = NULL;
}

static Node *new_node(Graph *g, Op op, int nin, int nout) {
  Node *n = NEW(g->arena, Node);
  n->id = g->next_node_id++;
  n->op = op;
  n->nin = n->ncore = nin;
  n->in = NEW_N(g->arena, Value *, nin);
  n->nout = nout;
  n->out = NEW_N(g->arena, Value *, nout);
  for (int i = 0; i < nout; i++) {
    n->out[i] = graph_add_value(g, NULL, DT_NONE, NULL);
    n->out[i]->def = n;
    n->out[i]->def_slot = i;
  }
  return n;
}

Node *graph_add_node(Graph *g, Node *before, Op op, const void *attr, Value *const *in, int nin) {
  Node *n = new_node(g, op, nin, op_info(op)->nout);
  n->attr = attr_copy(g->arena, op_info(op)->attr, attr);
  for (int i = 0; i < nin; i++) add_use(g, n->in[i] = in[i], n, i);
  link_before(g, n, before);
  return n;
}

Node *graph_make(Graph *g, Node *before, Op op, const void *attr, Value *const *in, int nin) {
  Node *n = graph_add_node(g, before, op, attr, in, nin);
  return op_info(op)->infer(g, n) ? n : NULL;
}

void node_add_origin(Graph *g, Node *n, const char *name) {
  for (int i = 0; i < n->norigin; i++)
    if (!strcmp(n->origin[i], name)) return;
  size_t had = (size_t)n->norigin * sizeof *n->origin;
  n->origin = arena_grow(g->arena, n->origin, had, had + sizeof *n->origin);
  n->origin[n->norigin++] = arena_strdup(g->arena, name);
}

void node_copy_origin(Graph *g, Node *to, const Node *from) {
  for (int i = 0; i < from->norigin; i++) node_add_origin(g, to, from->origin[i]);
  if (!to->onnx_op) {
    to->onnx_op = from->onnx_op;
    to->opset = from->opset;
  }
}

void graph_set_input(Graph *g, Node *n, int slot, Value *v) {
  if (n->in[slot] == v) return;
  remove_use(n->in[slot], n, slot);
  add_use(g, n->in[slot] = v, n, slot);
}

void graph_set_inputs(Graph *g, Node *n, Value *const *in, int nin, int ncore) {
  for (int i = 0; i < n->nin; i++) remove_use(n->in[i], n, i);
  Value **copy = NEW_N(g->arena, Value *, nin);   /* in may be n->in itself */
  for (int i = 0; i < nin; i++) add_use(g, copy[i] = in[i], n, i);
  n->in = copy;
  n->nin = nin;
  n->ncore = ncore;
}

/* Puts `with` in old's place in the signature, under old's name. What has a name of its own there already, or no producer that could
 * write to the caller's memory, is copied by an Identity. */
static void replace_output(Graph *g, Value *old, Value *with) {
  if (with->is_input || with->is_output || with->data) {
    Node *copy = graph_add_node(g, NULL, OP_Identity, NULL, &with, 1);
    if (old->def) node_copy_origin(g, copy, old->def);
    copy->out[0]->dt = with->dt;
    copy->out[0]->shape = with->shape;
    with = copy->out[0];
  }
  with->name = old->name;
  with->is_output = true;
  old->name = NULL;
  old->is_output = false;
  for (int i = 0; i < g->outputs.n; i++)
    if (g->outputs.at[i] == old) g->outputs.at[i] = with;
}

void graph_replace_uses(Graph *g, Value *old, Value *with) {
  if (old == with) return;
  if (old->dt && with->dt && (old->dt != with->dt || !shape_equal(&old->shape, &with->shape)))
    ice(g, old->def ? old->def : with->def, "graph_replace_uses", "types or shapes differ");
  for (int i = 0; i < old->uses.n; i++) {
    Use u = old->uses.at[i];
    add_use(g, u.node->in[u.slot] = with, u.node, u.slot);
  }
  old->uses.n = 0;
  if (old->is_output) replace_output(g, old, with);
}

void graph_erase(Graph *g, Node *n) {
  for (int i = 0; i < n->nout; i++) {
    if (n->out[i]->uses.n || n->out[i]->is_output) ice(g, n, "graph_erase", "output %d is in use", i);
    n->out[i]->def = NULL;
  }
  for (int i = 0; i < n->nin; i++) remove_use(n->in[i], n, i);
  unlink_node(g, n);
}

void graph_move_before(Graph *g, Node *n, Node *before) {
  if (n == before || n->next == before) return;
  unlink_node(g, n);
  link_before(g, n, before);
}

/* ---- whole graphs ---- */

void graph_compact(Graph *g) {
  for (int i = 0; i < g->values.n; i++) g->values.at[i]->id = -1;
  for (int i = 0; i < g->inputs.n; i++) g->inputs.at[i]->id = 0;
  for (int i = 0; i < g->outputs.n; i++) g->outputs.at[i]->id = 0;
  for (Node *n = g->first; n; n = n->next) {
    for (int i = 0; i < n->nin; i++)
      if (n->in[i]) n->in[i]->id = 0;
    for (int i = 0; i < n->nout; i++) n->out[i]->id = 0;
  }
  int kept = 0;
  for (int i = 0; i < g->values.n; i++) {
    Value *v = g->values.at[i];
    if (v->id < 0) continue;
    v->id = kept;
    g->values.at[kept++] = v;
  }
  g->values.n = kept;
}

static BodyStep *clone_body(Arena *a, const Node *n) {
  if (!n->nbody) return NULL;
  BodyStep *body = NEW_N(a, BodyStep, n->nbody);
  for (int i = 0; i < n->nbody; i++) {
    body[i] = n->body[i];
    body[i].attr = attr_copy(a, op_info(body[i].op)->attr, body[i].attr);
  }
  return body;
}

static void clone_node(Graph *g, const Node *n, Value *const *map) {
  Arena *a = g->arena;
  Node *c = NEW(a, Node);
  *c = *n;
  c->attr = attr_copy(a, op_info(n->op)->attr, n->attr);
  c->in = NEW_N(a, Value *, n->nin);
  for (int i = 0; i < n->nin; i++) c->in[i] = n->in[i] ? map[n->in[i]->id] : NULL;
  c->out = NEW_N(a, Value *, n->nout);
  for (int i = 0; i < n->nout; i++) (c->out[i] = map[n->out[i]->id])->def = c;
  c->body = clone_body(a, n);
  c->origin = NULL;
  c->norigin = 0;
  for (int i = 0; i < n->norigin; i++) node_add_origin(g, c, n->origin[i]);
  if (n->onnx_op) c->onnx_op = arena_strdup(a, n->onnx_op);
  link_before(g, c, NULL);
}

Graph *graph_clone(const Graph *g, Arena *a, Diag *d) {
  Graph *c = graph_new(a, d, g->file);
  c->name = arena_strdup(a, g->name);
  c->next_node_id = g->next_node_id;
  Value **map = NEW_N(a, Value *, g->values.n);
  for (int i = 0; i < g->values.n; i++) {
    const Value *v = g->values.at[i];
    Value *w = graph_add_value(c, v->name, v->dt, &v->shape);
    for (int j = 0; j < w->shape.rank; j++)
      if (w->shape.d[j].sym) w->shape.d[j].sym = arena_strdup(a, w->shape.d[j].sym);
    w->layout = v->layout;
    w->data = v->data;
    w->def_slot = v->def_slot;
    w->is_input = v->is_input;
    w->is_output = v->is_output;
    map[i] = w;
  }
  for (int i = 0; i < g->inputs.n; i++) vec_push(a, &c->inputs, map[g->inputs.at[i]->id]);
  for (int i = 0; i < g->outputs.n; i++) vec_push(a, &c->outputs, map[g->outputs.at[i]->id]);
  for (const Node *n = g->first; n; n = n->next) clone_node(c, n, map);
  /* Uses in the original's order: passes look at them in order, and a clone must compile to the same bytes. */
  for (int i = 0; i < g->values.n; i++) map[i]->uses.n = 0;
  Node **by_id = NEW_N(a, Node *, g->next_node_id);
  for (Node *n = c->first; n; n = n->next) by_id[n->id] = n;
  for (int i = 0; i < g->values.n; i++)
    for (int j = 0; j < g->values.at[i]->uses.n; j++) {
      Use u = g->values.at[i]->uses.at[j];
      add_use(c, map[i], by_id[u.node->id], u.slot);
    }
  return c;
}

/* ---- reporting ---- */

Where node_where(const Graph *g, const Node *n) {
  if (!n) return (Where){.file = g->file};
  return (Where){.file = g->file, .node = n->norigin ? n->origin[0] : NULL, .op = n->onnx_op ? n->onnx_op : op_info(n->op)->name,
                 .opset = n->onnx_op ? n->opset : 0};
}

Status node_error(const Graph *g, const Node *n, Status s, const char *hint, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  const char *text = arena_vprintf(g->arena, fmt, args);
  va_end(args);
  Where w = node_where(g, n);
  return diag_error(g->diag, s, &w, hint, "%s", text);
}

void ice(const Graph *g, const Node *n, const char *where, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  const char *text = arena_vprintf(g->arena, fmt, args);
  va_end(args);
  Where w = node_where(g, n);
  Fail *f = arena_fail(g->arena);
  diag_error(g->diag, SPINEC_ERR_INTERNAL, &w, "this is a mistake in spinec, please report it", "internal error in %s: %s", where, text);
  if (!f) {
    fprintf(stderr, "spinec: internal error in %s: %s\n", where, text);
    abort();
  }
  f->status = SPINEC_ERR_INTERNAL;
  longjmp(f->env, 1);
}
