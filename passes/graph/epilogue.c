/* epilogue.c: elementwise operators go into the body of the node that makes their operand; what has no such node becomes a Map.
 *
 * From the end of the list to its start, each elementwise node not taken yet is the sink of a group: all elementwise nodes before it whose
 * results have its shape and are read inside the group only (chains, and diamonds as x * sigmoid(x)). One operand of the group may
 * come from a node that can have a body and has no other reader: the producer. It moves to the sink's place, where all operands are
 * defined, and takes the group's steps. Of several, convolutions and matrix products come first, then the later in the list, so that
 * of Add(conv1, conv2) the second adds what the first has stored.
 *
 * A group is all vectors or all scalars, since one 64-bit step makes a kernel scalar; where layouts are blocked, an operand that is only a
 * nearest upsampling by a power of two is read from the small tensor.
 *
 * before: %c = Conv(%x, %w); %a = Add(%c, %r); %y = Relu(%a)
 * after:  %y = Conv(%x, %w; %r) body { %0 = Add(acc, in2); %1 = Relu(%0) }
 * before: %t = Tanh(%x); %a = Add(%t, 1); %y = Mul(%x, %a)
 * after:  %y = Map(; %x, 1) body { %0 = Tanh(in0); %1 = Add(%0, in1); %2 = Mul(in0, %1) }
 */
#include "../passes.h"

#include <string.h>

#define STEPS_MAX 24
#define OPERANDS_MAX 8   /* of a body, beside the producer's result or the first operand of a Map */

typedef struct Group {
  Node *m[STEPS_MAX];    /* in list order; the last is the sink */
  int n, steps;
  Value *in[2 * (OPERANDS_MAX + 1)];   /* distinct operands from outside; more than OPERANDS_MAX + 1 only while a node is tried */
  int nin;
  bool vector;
} Group;

typedef struct Epilogue {
  Graph *g;
  int *pos;              /* by node id: place in the list when the pass began; of a moved node, where it went */
  int npos;
  int64_t producers, maps, fused, upsamplings;
} Epilogue;

static int position(const Epilogue *e, const Node *n) { return n->id < e->npos ? e->pos[n->id] : INT32_MAX; }

static bool elementwise(const Node *n) {
  if (n->op == OP_Map) return n->nin <= OPERANDS_MAX + 1 && n->nbody <= STEPS_MAX;
  return (op_info(n->op)->flags & OPF_EW) && !n->nbody;
}

static int steps_of(const Node *n) { return n->op == OP_Map ? n->nbody : 1; }

/* What was to be stored as a can be stored as b: blocked results are as easily written PLAIN. */
static bool same_place(const Value *a, const Value *b) {
  if (!shape_equal(&a->shape, &b->shape)) return false;
  return b->layout.kind == LAYOUT_PLAIN || (a->layout.kind == b->layout.kind && a->layout.block == b->layout.block);
}

static bool member(const Group *gr, const Node *n) {
  for (int i = 0; i < gr->n; i++)
    if (gr->m[i] == n) return true;
  return false;
}

/* Every reader of v is in the group. */
static bool read_inside(const Group *gr, const Value *v) {
  if (v->is_output || v->uses.n > 3 * STEPS_MAX) return false;
  for (int i = 0; i < v->uses.n; i++)
    if (!member(gr, v->uses.at[i].node)) return false;
  return true;
}

/* ---- vectors ---- */

static bool vector_type(DType t) { return t == DT_F32 || t == DT_I32; }

static bool vector_op(Op op, DType t) {
  return t != DT_I32 || (op != OP_Div && op != OP_Mod && op != OP_Pow && op != OP_BitShift && op != OP_Shrink);
}

/* A bool that vectors can use: a mask made beside them, not bytes in memory. */
static bool mask(const Node *n, const Value *v) {
  return v->dt == DT_BOOL && v->def && elementwise(v->def) && value_single_use(v) && same_place(v, n->out[0]);
}

/* May be a step of a group of vectors. As its sink, it must also store what vectors can. */
static bool vector_node(const Node *n) {
  const Value *y = n->out[0];
  if ((!vector_type(y->dt) && y->dt != DT_BOOL) || !vector_op(n->op, y->dt)) return false;
  for (int i = 0; i < n->nin; i++)
    if (!vector_type(n->in[i]->dt) && !mask(n, n->in[i])) return false;
  for (int i = 0; i < n->nbody; i++)
    if ((!vector_type(n->body[i].dt) && n->body[i].dt != DT_BOOL) || !vector_op(n->body[i].op, n->body[i].dt)) return false;
  return true;
}

/* ---- groups ---- */

static void collect_operands(Group *gr) {
  gr->nin = 0;
  for (int i = 0; i < gr->n; i++)
    for (int j = 0; j < gr->m[i]->nin; j++) {
      Value *v = gr->m[i]->in[j];
      bool known = v->def && member(gr, v->def);
      for (int k = 0; k < gr->nin && !known; k++) known = gr->in[k] == v;
      if (!known) gr->in[gr->nin++] = v;
    }
}

static bool joins(const Epilogue *e, const Group *gr, const Node *d) {
  const Node *sink = gr->m[gr->n - 1];
  if (!elementwise(d) || member(gr, d) || position(e, d) >= position(e, sink)) return false;
  return same_place(d->out[0], sink->out[0]) && read_inside(gr, d->out[0]) && vector_node(d) == gr->vector;
}

/* Adds d at its place in the order; false, with the group as it was, when it becomes too large. */
static bool add_member(const Epilogue *e, Group *gr, Node *d) {
  Group old = *gr;
  if (gr->steps + steps_of(d) > STEPS_MAX || gr->n == STEPS_MAX) return false;
  int i = gr->n++;
  for (; i > 0 && position(e, gr->m[i - 1]) > position(e, d); i--) gr->m[i] = gr->m[i - 1];
  gr->m[i] = d;
  gr->steps += steps_of(d);
  collect_operands(gr);
  if (gr->nin <= OPERANDS_MAX + 1) return true;
  *gr = old;
  return false;
}

static void grow(const Epilogue *e, Group *gr, Node *sink) {
  gr->m[0] = sink;
  gr->n = 1;
  gr->steps = steps_of(sink);
  gr->vector = vector_node(sink) && vector_type(sink->out[0]->dt);
  collect_operands(gr);
  Node *refused[STEPS_MAX];
  int nrefused = 0;
  for (;;) {
    Node *best = NULL;
    for (int i = 0; i < gr->nin; i++) {
      Node *d = gr->in[i]->def;
      if (!d || (best && position(e, d) <= position(e, best)) || !joins(e, gr, d)) continue;
      bool tried = false;
      for (int k = 0; k < nrefused; k++) tried |= refused[k] == d;
      if (!tried) best = d;
    }
    if (!best) return;
    if (add_member(e, gr, best)) continue;
    if (nrefused == COUNTOF(refused)) return;
    refused[nrefused++] = best;
  }
}

/* ---- the producer ---- */

static bool heavy(const Node *n) {
  return n->op == OP_Conv || n->op == OP_ConvSum || n->op == OP_ConvTranspose || n->op == OP_MatMul || n->op == OP_Einsum;
}

static bool can_produce(const Epilogue *e, const Group *gr, const Value *v) {
  Node *p = v->def;
  const Node *sink = gr->m[gr->n - 1];
  if (!p || elementwise(p) || !(op_info(p->op)->flags & OPF_BODY) || v->def_slot != 0) return false;
  if (!read_inside(gr, v) || !same_place(v, sink->out[0]) || (vector_type(v->dt) && !gr->vector)) return false;
  if (p->nbody + gr->steps > STEPS_MAX || p->nin - p->ncore + gr->nin - 1 > OPERANDS_MAX) return false;
  for (int i = 1; i < p->nout; i++)
    for (int j = 0; j < p->out[i]->uses.n; j++)
      if (position(e, p->out[i]->uses.at[j].node) <= position(e, sink)) return false;
  return true;
}

static Node *find_producer(const Epilogue *e, const Group *gr) {
  Node *best = NULL;
  for (int i = 0; i < gr->nin; i++) {
    if (!can_produce(e, gr, gr->in[i])) continue;
    Node *p = gr->in[i]->def;
    if (!best || heavy(p) > heavy(best) || (heavy(p) == heavy(best) && position(e, p) > position(e, best))) best = p;
  }
  return best;
}

/* ---- bodies ---- */

typedef struct Body {
  Value **in;            /* of the new node: the producer's own operands first */
  int nin;
  BodyStep *step;
  int nstep;
  Node *producer;        /* or NULL */
  bool sized;            /* the result's shape is known without operands read enlarged */
} Body;

/* k if v is its operand enlarged 2^k times along both spatial axes, each element repeated; else 0. */
static int upsampling(const Value *v) {
  int64_t factor[MAX_RANK];
  if (v->shape.rank != 4 || !resize_repeats(v->def, factor)) return 0;
  if (factor[0] != 1 || factor[1] != 1 || factor[2] != factor[3]) return 0;
  for (int up = 1; up <= 8; up++)
    if (factor[2] == (int64_t)1 << up) return up;
  return 0;
}

/* v can be read from the tensor it enlarges: both lie in the same blocks. Gives the shift, or 0. A Map of such operands alone takes its
 * shape from them (sized is false), which an extent of 1, that broadcasts, would not give. */
static int readable_upsampling(const Value *v, bool sized) {
  if (v->layout.kind != LAYOUT_BLOCKED) return 0;
  int up = upsampling(v);
  const Value *small = up ? v->def->in[0] : NULL;
  if (!up || small->layout.kind != LAYOUT_BLOCKED || small->layout.block != v->layout.block) return 0;
  return sized || (small->shape.d[2].n > 1 && small->shape.d[3].n > 1) ? up : 0;
}

/* Some operand has the result's shape as it is stored. */
static bool sized_by_operands(const Group *gr) {
  const Shape *y = &gr->m[gr->n - 1]->out[0]->shape;
  for (int i = 0; i < gr->nin; i++)
    if (shape_equal(&gr->in[i]->shape, y) && !readable_upsampling(gr->in[i], true)) return true;
  return false;
}

static BodyArg operand(Epilogue *e, Body *b, Value *v, int up) {
  if (b->producer && v == b->producer->out[0]) {
    int own = b->producer->nbody;
    return own ? (BodyArg){ARG_STEP, own - 1, 0} : (BodyArg){ARG_ACC, 0, 0};
  }
  if (!up && (up = readable_upsampling(v, b->sized)) > 0) {
    v = v->def->in[0];
    e->upsamplings++;
  }
  int i = b->producer ? b->producer->ncore : 0;
  while (i < b->nin && b->in[i] != v) i++;
  if (i == b->nin) b->in[b->nin++] = v;
  return (BodyArg){ARG_IN, i, up};
}

/* What a member's operand v is to a step of the new body. first[i]: the step of member i's result. */
static BodyArg argument(Epilogue *e, Body *b, const Group *gr, const int *result, Value *v, int up) {
  for (int i = 0; i < gr->n; i++)
    if (gr->m[i] == v->def) return (BodyArg){ARG_STEP, result[i], 0};
  return operand(e, b, v, up);
}

static void add_steps(Epilogue *e, Body *b, const Group *gr) {
  int result[STEPS_MAX];
  for (int i = 0; i < gr->n; i++) {
    const Node *n = gr->m[i];
    int base = b->nstep;
    if (n->op != OP_Map) {
      BodyStep *s = &b->step[b->nstep++];
      *s = (BodyStep){.op = n->op, .attr = n->attr, .dt = n->out[0]->dt, .nargs = n->nin};
      for (int k = 0; k < n->nin; k++) s->arg[k] = argument(e, b, gr, result, n->in[k], 0);
    }
    for (int j = 0; n->op == OP_Map && j < n->nbody; j++) {
      BodyStep *s = &b->step[b->nstep++];
      *s = n->body[j];
      for (int k = 0; k < s->nargs; k++) {
        BodyArg *arg = &s->arg[k];
        if (arg->kind == ARG_STEP) arg->i += base;
        else *arg = argument(e, b, gr, result, n->in[arg->i], arg->up);
      }
    }
    result[i] = b->nstep - 1;
  }
}

static Node *new_map(Epilogue *e, Node *sink, const Body *b) {
  Node *m = graph_add_node(e->g, sink, OP_Map, NULL, NULL, 0);
  graph_set_inputs(e->g, m, b->in, b->nin, 0);
  m->body = b->step;
  m->nbody = b->nstep;
  if (!node_infer(e->g, m)) ice(e->g, sink, "epilogue", "Map is refused");
  m->out[0]->layout = sink->out[0]->layout;
  return m;
}

static void move_producer(Epilogue *e, Node *p, Node *sink, const Body *b) {
  graph_move_before(e->g, p, sink);
  e->pos[p->id] = position(e, sink);
  graph_set_inputs(e->g, p, b->in, b->nin, p->ncore);
  p->body = b->step;
  p->nbody = b->nstep;
  p->out[0]->dt = b->step[b->nstep - 1].dt;
  p->out[0]->layout = sink->out[0]->layout;
}

/* A lone operator is worth a Map if an operand need not be stored enlarged for it. */
static bool enlarged_operand(const Group *gr) {
  bool any = false, sized = sized_by_operands(gr);
  for (int i = 0; i < gr->nin && gr->vector; i++) any |= readable_upsampling(gr->in[i], sized) > 0;
  return any;
}

/* Makes one node of the group and its producer; NULL if there is nothing to join. */
static Node *fuse(Epilogue *e, const Group *gr) {
  Graph *g = e->g;
  Node *sink = gr->m[gr->n - 1], *p = find_producer(e, gr);
  if (!p && gr->n == 1 && !enlarged_operand(gr)) return NULL;
  Body b = {.producer = p, .sized = p || sized_by_operands(gr)};
  b.in = NEW_N(g->arena, Value *, (p ? p->nin : 0) + gr->nin);
  b.step = NEW_N(g->arena, BodyStep, (p ? p->nbody : 0) + gr->steps);
  if (p) {
    memcpy(b.in, p->in, (size_t)p->nin * sizeof *b.in);
    b.nin = p->nin;
    if (p->nbody) memcpy(b.step, p->body, (size_t)p->nbody * sizeof *b.step);
    b.nstep = p->nbody;
  }
  add_steps(e, &b, gr);
  if (p) move_producer(e, p, sink, &b);
  Node *f = p ? p : new_map(e, sink, &b);
  const char *name = sink->out[0]->is_output ? NULL : sink->out[0]->name;
  f->out[0]->name = NULL;
  for (int i = 0; i < gr->n; i++) node_copy_origin(g, f, gr->m[i]);
  graph_replace_uses(g, sink->out[0], f->out[0]);
  if (name) {
    f->out[0]->name = name;
    sink->out[0]->name = NULL;
  }
  for (int i = gr->n - 1; i >= 0; i--) graph_erase(g, gr->m[i]);
  *(p ? &e->producers : &e->maps) += 1;
  e->fused += gr->n;
  return f;
}

/* Upsamplings nobody reads any more. */
static void erase_unread(Epilogue *e) {
  for (Node *n = e->g->last, *prev; n; n = prev) {
    prev = n->prev;
    if (n->op == OP_Resize && !n->out[0]->uses.n && !n->out[0]->is_output) graph_erase(e->g, n);
  }
}

bool pass_epilogue(Graph *g, Ctx *c) {
  Epilogue e = {.g = g, .pos = NEW_N(g->arena, int, g->next_node_id), .npos = g->next_node_id};
  int place = 0;
  for (const Node *n = g->first; n; n = n->next) e.pos[n->id] = place++;
  for (Node *n = g->last, *prev; n; n = prev) {
    prev = n->prev;
    if (!elementwise(n) || (!n->out[0]->uses.n && !n->out[0]->is_output)) continue;
    Group gr;
    grow(&e, &gr, n);
    Node *f = fuse(&e, &gr);
    if (f) prev = f->prev;
  }
  if (e.upsamplings) erase_unread(&e);
  pass_applied(c, e.fused);
  if (e.producers) pass_count(c, "epilogue", "into producers", e.producers);
  if (e.maps) pass_count(c, "epilogue", "into maps", e.maps);
  if (e.upsamplings) pass_count(c, "epilogue", "upsamplings read in place", e.upsamplings);
  return e.fused > 0;
}
