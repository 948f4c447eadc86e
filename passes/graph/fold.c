/* fold.c: evaluates nodes whose operands are all constant.
 *
 * The node alone becomes a graph, is lowered plainly (-O0) and run by the injected evaluator, so that folding and running agree to the bit
 * on what an operator means. Views share their operand's bytes. Casts from and to types no kernel computes in (half precision) are
 * done here element by element.
 *
 * Results that are large, or much larger than what they are made of, stay nodes: Expand of a scalar is cheaper to run than to store.
 *
 * before: const %a: f32[2] = [1, 2]; %b: f32[2] = Neg(%a); %c: f32[2] = Add(%x, %b)
 * after:  const %b: f32[2] = [-1, -2]; %c: f32[2] = Add(%x, %b)
 */
#include "../passes.h"

#define RESULT_MAX ((int64_t)256 << 20)
#define GROWTH_MAX 16
#define GROWTH_FREE ((int64_t)1 << 20)

static bool used(const Value *v) { return v->uses.n || v->is_output; }

static bool all_const(const Node *n) {
  for (int i = 0; i < n->nin; i++)
    if (n->in[i] && !n->in[i]->data) return false;
  return n->nin > 0;
}

static bool worthwhile(const Node *n) {
  int64_t in = 0, out = 0;
  for (int i = 0; i < n->nin; i++)
    if (n->in[i]) in += (int64_t)value_bytes(n->in[i]);
  for (int i = 0; i < n->nout; i++) {
    if (!used(n->out[i])) continue;
    int64_t count = value_count(n->out[i]), size = (int64_t)dt_size(n->out[i]->dt);
    if (!shape_is_static(&n->out[i]->shape) || count > RESULT_MAX / MAXI(size, 1)) return false;
    out += count * size;
  }
  return out <= RESULT_MAX && out <= in * GROWTH_MAX + GROWTH_FREE;
}

/* data[i]: the bytes of output i; unused ones are not asked for. */
static void become_const(Graph *g, Node *n, void *const *data) {
  for (int i = 0; i < n->nout; i++) {
    Value *v = n->out[i];
    if (!used(v)) continue;
    const char *name = v->is_output ? NULL : v->name;
    Value *c = graph_add_const(g, NULL, v->dt, &v->shape, data[i]);
    graph_replace_uses(g, v, c);
    if (name) {
      c->name = name;
      v->name = NULL;
    }
  }
  graph_erase(g, n);
}

static void cast_elements(const Value *from, const Value *to, void *data) {
  int64_t count = value_count(to);
  for (int64_t i = 0; i < count; i++) {
    if (dt_is_float(from->dt) || (dt_is_float(to->dt) && from->dt == DT_U64))
      data_set_f(data, to->dt, i, data_get_f(from->data, from->dt, i));
    else data_set_i(data, to->dt, i, data_get_i(from->data, from->dt, i));
  }
}

/* A graph of this node alone, its operands constants and its used outputs the outputs. */
static Graph *isolate(const Graph *g, const Node *n, Arena *a) {
  Graph *one = graph_new(a, g->diag, g->file);
  Value **in = NEW_N(a, Value *, n->nin);
  for (int i = 0; i < n->nin; i++)
    if (n->in[i]) in[i] = graph_add_const(one, NULL, n->in[i]->dt, &n->in[i]->shape, n->in[i]->data);
  Node *m = graph_add_node(one, NULL, n->op, n->attr, in, n->nin);
  m->ncore = n->ncore;
  m->body = n->body;
  m->nbody = n->nbody;
  node_copy_origin(one, m, n);
  if (!node_infer(one, m)) return NULL;
  for (int i = 0; i < n->nout; i++) {
    if (!used(n->out[i])) continue;
    m->out[i]->name = arena_printf(a, "out%d", i);
    graph_add_output(one, m->out[i]);
  }
  return one;
}

static bool evaluate(Graph *g, const Node *n, Ctx *c, void *const *out) {
  spinec_compile_options opt = *c->opt;
  opt.opt_level = 0;
  opt.max_threads = 1;
  Ctx plain = {.arena = c->arena, .diag = c->diag, .target = c->target, .opt = &opt, .eval = c->eval};
  Graph *one = isolate(g, n, c->arena);
  Program *p = one ? lower_graph(one, &plain) : NULL;
  if (!p) return false;
  pass_legalise(p, &plain);
  pass_dedup(p, &plain);
  pass_memory(p, &plain);
  return c->eval(p, NULL, out, c->diag) == SPINEC_OK;
}

static bool computable(const Node *n) {
  for (int i = 0; i < n->nin; i++)
    if (n->in[i] && !dt_computable(n->in[i]->dt)) return false;
  for (int i = 0; i < n->nout; i++)
    if (used(n->out[i]) && !dt_computable(n->out[i]->dt)) return false;
  for (int i = 0; i < n->nbody; i++)
    if (!dt_computable(n->body[i].dt)) return false;
  return true;
}

static bool castable(const Node *n) {
  return n->op == OP_Cast && !n->nbody && dt_size(n->in[0]->dt) && dt_size(n->out[0]->dt);
}

bool fold_node(Graph *g, Node *n, Ctx *c) {
  /* The copy that a constant in the signature needs. */
  if (n->op == OP_Identity && n->out[0]->is_output) return false;
  int outputs = 0;
  bool empty = true;
  for (int i = 0; i < n->nout; i++) {
    outputs += used(n->out[i]);
    if (used(n->out[i]) && value_count(n->out[i]) > 0) empty = false;
  }
  if (!outputs || !all_const(n)) return false;
  if ((op_info(n->op)->flags & OPF_VIEW) && !n->nbody) {
    void *same = (void *)n->in[0]->data;
    become_const(g, n, &same);
    return true;
  }
  bool cast = castable(n) && !computable(n);
  if (!worthwhile(n) || (!empty && !cast && (!computable(n) || !c->eval))) return false;
  void **data = NEW_N(g->arena, void *, n->nout), **out = NEW_N(g->arena, void *, n->nout);
  int k = 0;
  for (int i = 0; i < n->nout; i++)
    if (used(n->out[i])) data[i] = out[k++] = arena_alloc(g->arena, value_bytes(n->out[i]));
  if (cast) {
    cast_elements(n->in[0], n->out[0], data[0]);
  } else if (!empty) {
    ArenaMark m = arena_mark(c->arena);
    bool ok = evaluate(g, n, c, out);
    arena_release(c->arena, m);
    if (!ok) return false;
  }
  become_const(g, n, data);
  return true;
}

bool pass_fold(Graph *g, Ctx *c) {
  int64_t folded = 0;
  for (Node *n = g->first, *next; n; n = next) {
    next = n->next;
    folded += fold_node(g, n, c);
  }
  pass_applied(c, folded);
  return folded > 0;
}
