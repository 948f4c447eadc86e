/* lower.c: Graph to Program: every node, in list order, becomes kernels and calls.
 *
 *   1. check    every tensor has an element type kernels exist for, and a size that can be addressed
 *   2. buffers  of the signature; an output's buffer is shared with the values it is a view of, so that their producer writes there
 *   3. nodes    by a schedule that applies, else by the operator's plain lowering
 *
 * Where packed weights are limited all of it is done several times, at different prices for memory.
 *
 * Outputs are made by nodes (graph_verify): one that is the same tensor as an input or a constant is an Identity, which is a copy here.
 */
#include "../passes.h"
#include "schedules.h"

#include <math.h>

#define BYTES_MAX ((int64_t)1 << 46)   /* of one tensor */

/* ---- 1. check ---- */

static bool check_value(const Graph *g, const Node *n, const Value *v, const char *what) {
  if (!v) return true;
  if (!dt_computable(v->dt)) {
    node_error(g, n, SPINEC_ERR_UNSUPPORTED, "convert it to f32 with a Cast before export", "%s has element type %s, which has no kernels",
               what, dt_name(v->dt));
    return false;
  }
  if (value_storage_count(v) > BYTES_MAX / 8) {
    node_error(g, n, SPINEC_ERR_UNSUPPORTED, NULL, "%s has too many elements", what);
    return false;
  }
  return true;
}

static bool check_node(const Graph *g, const Node *n) {
  bool ok = true;
  char what[32];
  for (int i = 0; i < n->nin; i++) {
    snprintf(what, sizeof what, "operand %d", i);
    ok &= check_value(g, n, n->in[i], what);
  }
  for (int i = 0; i < n->nout; i++) {
    snprintf(what, sizeof what, "result %d", i);
    ok &= check_value(g, n, n->out[i], what);
  }
  for (int i = 0; i < n->nbody && ok; i++) ok = dt_computable(n->body[i].dt);
  return ok;
}

static bool check_graph(const Graph *g) {
  bool ok = true;
  for (const Node *n = g->first; n; n = n->next) ok &= check_node(g, n);
  for (int i = 0; i < g->inputs.n; i++) {
    const Value *v = g->inputs.at[i];
    ok &= check_value(g, NULL, v, arena_printf(g->arena, "input '%s'", v->name ? v->name : "?"));
  }
  return ok;
}

/* ---- 2. buffers ---- */

static bool is_view(const Node *n) { return n && (op_info(n->op)->flags & OPF_VIEW) && !n->nbody; }

static void open_ports(Lower *l) {
  Graph *g = l->g;
  for (int i = 0; i < g->inputs.n; i++) {
    Value *v = g->inputs.at[i];
    lower_buffer(l, v);
    vec_push(l->p->arena, &l->p->inputs, ((Port){v->name, v->dt, v->shape}));
  }
  for (int i = 0; i < g->outputs.n; i++) {
    Value *v = g->outputs.at[i];
    vec_push(l->p->arena, &l->p->outputs, ((Port){v->name, v->dt, v->shape}));
    int buffer = lower_buffer(l, v);
    while (is_view(v->def)) {
      v = v->def->in[0];
      if (v->is_input || v->is_output || value_is_const(v) || l->buffer_of[v->id] >= 0) break;
      l->buffer_of[v->id] = buffer;
    }
  }
}

/* ---- 3. nodes ---- */

/* Elements of floating-point constants that nodes read, each once. */
static int64_t count_params(const Graph *g) {
  int64_t sum = 0;
  for (int i = 0; i < g->values.n; i++) {
    const Value *v = g->values.at[i];
    if (value_is_const(v) && dt_is_float(v->dt) && v->uses.n) sum += value_count(v);
  }
  return sum;
}

static int64_t const_bytes(const Graph *g) {
  int64_t sum = 0;
  for (int i = 0; i < g->values.n; i++)
    if (value_is_const(g->values.at[i]) && g->values.at[i]->uses.n) sum += (int64_t)value_bytes(g->values.at[i]);
  return sum;
}

static void lower_node(Lower *l, const Node *n, Ctx *c) {
  l->node = n;
  l->p->macs += MINI(node_macs(n), INT64_MAX - l->p->macs);
  if (l->done[n->id]) {
    pass_count(c, "lower", "results made beside another node's", 1);
    return;
  }
  /* A streamed convolution needs less memory than any two kernels. */
  bool plain = l->opt_level < 1 || (lower_scratch_limit(l) == 0 && !(n->next && n->next->streamed));
  for (const LowerSchedule *s = lower_schedules; !plain && s->apply; s++) {
    if (s->op != n->op || !s->apply(l, n)) continue;
    pass_count(c, "lower", s->name, 1);
    return;
  }
  op_info(n->op)->lower(l, n);
}

static Program *lower_at(Graph *g, Ctx *c, double weight_price) {
  Lower l = {.arena = c->arena, .g = g, .p = program_new(c->arena, c->target), .t = c->target, .opt_level = c->opt ? c->opt->opt_level : 2};
  l.winograd = c->opt && c->opt->opt_level >= 2 ? c->opt->winograd : 0;
  l.weight_price = weight_price;
  l.scratch_limit = c->scratch_limit;
  l.nscratch_limit = c->nscratch_limit;
  l.p->name = g->name;
  l.p->file = g->file;
  l.p->max_threads = c->opt && c->opt->max_threads > 0 ? c->opt->max_threads : 1;
  l.p->params = count_params(g);
  l.nbuffer_of = g->values.n;
  l.buffer_of = NEW_N(c->arena, int, MAXI(l.nbuffer_of, 1));
  for (int i = 0; i < l.nbuffer_of; i++) l.buffer_of[i] = -1;
  l.ndone = g->next_node_id;
  l.done = NEW_N(c->arena, bool, MAXI(l.ndone, 1));
  open_ports(&l);
  lower_plan_parts(&l);
  for (Node *n = g->first; n; n = n->next) lower_node(&l, n, c);
  return l.p;
}

/* ---- a limit on packed weights ---- */

#define DEAR 1e12         /* cycles a byte: no algorithm is worth more memory than another */
#define PRICE_LEAST 1e-3
#define PRICE_STEPS 8     /* of bisection, each a factor of about 1.06 at the end */

/* Bytes that packed weights may take: what the user says; any number where a Winograd tile was asked for, or where there are caches to stream
 * them through; three times the model on other processors with fast vectors; and as few as possible on machines that are likely to have
 * little memory. */
static int64_t weight_limit(const Graph *g, const Ctx *c) {
  if (c->opt && c->opt->max_weight_bytes) return c->opt->max_weight_bytes;
  if (c->opt && c->opt->winograd > 0) return INT64_MAX;
  return c->target->l3 ? INT64_MAX : c->target->fma ? 3 * const_bytes(g) : 0;
}

/* What was counted while lowering counts if the program is taken. */
static Program *try_price(Graph *g, Ctx *c, double price, Ctx *counted, int64_t *bytes) {
  *counted = *c;
  counted->stats.at = arena_grow(c->arena, c->stats.at, (size_t)c->stats.n * sizeof *c->stats.at, (size_t)c->stats.cap * sizeof *c->stats.at);
  Program *p = lower_at(g, counted, price);
  program_layout_weights(p);
  *bytes = p->weight_bytes;
  return p;
}

/* Every algorithm that needs more weights than the smallest must earn them at one price a byte: the lowest at which all fit. So memory goes
 * where it saves most time. */
static Program *lower_within(Graph *g, Ctx *c, int64_t limit) {
  Ctx best, other;
  int64_t bytes;
  Program *p = try_price(g, c, 0, &best, &bytes), *q;
  if (bytes > limit) {
    p = try_price(g, c, DEAR, &best, &bytes);
    if (bytes > limit && c->opt && c->opt->max_weight_bytes) {
      diag_error(c->diag, SPINEC_ERR_OPTION, NULL, arena_printf(c->arena, "--max-weights %lld is the least", (long long)bytes),
                 "max-weights: packed weights take at least %lld bytes, not %lld", (long long)bytes, (long long)limit);
      return NULL;
    }
    double lo = log(PRICE_LEAST), hi = -lo;
    for (int i = 0; i < PRICE_STEPS && bytes <= limit; i++) {
      double price = (lo + hi) / 2;
      int64_t other_bytes;
      q = try_price(g, c, exp(price), &other, &other_bytes);
      if (other_bytes > limit) {
        lo = price;
      } else {
        hi = price;
        p = q;
        best = other;
      }
    }
  }
  *c = best;
  return p;
}

Program *lower_graph(Graph *g, Ctx *c) {
  if (!check_graph(g)) return NULL;
  graph_compact(g);
  int64_t limit = weight_limit(g, c);
  if (limit == INT64_MAX) return lower_at(g, c, 0);
  return limit == 0 ? lower_at(g, c, DEAR) : lower_within(g, c, limit);
}
