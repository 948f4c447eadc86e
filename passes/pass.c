/* pass.c: the table of passes, and the driver that runs them in order.
 *
 * The driver decides what runs (level, --disable, --bisect), verifies after every changing pass in debug builds, and dumps, times and
 * counts. A pass's needs are checked before it runs; what it does not keep is lost when it changed something.
 */
#include "passes.h"

#include <string.h>
#include <time.h>

/* Properties of what is being compiled. */
enum {
  COMPACT = 1,   /* value ids are dense; restored by the driver where needed */
  PLAIN = 2,     /* no value is blocked: true until the layout pass */
  LEGAL = 4,     /* kernels use only what the target has */
  PLANNED = 8,   /* buffers have offsets */
  KERNELS = 16   /* kernels and calls are as lowering made them, not shared or renamed yet */
};

typedef struct PassInfo {
  char letter;
  const char *name;
  bool (*graph)(Graph *g, Ctx *c);
  bool (*program)(Program *p, Ctx *c);   /* neither: lowering itself */
  int level;                             /* runs at -O<level> and up */
  bool required;                         /* --disable and --bisect leave it alone */
  unsigned needs, keeps, gives;
  const char *what;
} PassInfo;

static const PassInfo passes[] = {
    {'c', "clean", pass_clean, NULL, 1, false, 0, PLAIN, 0, "remove dead, duplicate and empty work"},
    {'f', "fold", pass_fold, NULL, 1, false, 0, PLAIN, 0, "evaluate what is constant"},
    {'v', "conv_fold", pass_conv_fold, NULL, 1, false, PLAIN, PLAIN, 0, "per-channel arithmetic and padding into convolutions"},
    {'a', "activation", pass_activation, NULL, 2, false, 0, PLAIN, 0, "recognise activations by their parts"},
    {'t', "terms", pass_terms, NULL, 2, false, PLAIN, PLAIN, 0, "factors joined, stacks summed, functions before movements"},
    {'w', "share_weights", pass_share_weights, NULL, 2, false, PLAIN, PLAIN, 0, "one copy of convolution weights that differ in scale"},
    {'u', "commute", pass_commute, NULL, 1, false, PLAIN, PLAIN, 0, "pointwise work to where there are fewer pixels"},
    {'p', "pool_order", pass_pool_order, NULL, 1, false, PLAIN, PLAIN, 0, "pools before activations and 1x1 convolutions"},
    {'j', "merge_sum", pass_merge_sum, NULL, 2, false, PLAIN, PLAIN, 0, "added 1x1 convolutions become one sum"},
    {'h', "shuffle", pass_shuffle, NULL, 2, false, PLAIN, PLAIN, 0, "channel shuffles as one Gather of channels"},
    {'b', "layout", pass_layout, NULL, 2, false, PLAIN | COMPACT, 0, 0, "blocked channels where convolutions want them"},
    {'q', "gate", pass_gate, NULL, 2, false, 0, 0, 0, "factors per channel into 1x1 convolutions"},
    {'e', "epilogue", pass_epilogue, NULL, 1, false, COMPACT, 0, 0, "elementwise operators into the node that makes their operand"},
    {'i', "horizontal", pass_horizontal, NULL, 2, false, COMPACT, 0, 0, "convolutions of one tensor in one kernel"},
    {'r', "stream", pass_stream, NULL, 2, false, COMPACT, 0, 0, "windows over a convolution's rows while these are in cache"},
    {'k', "pool_chain", pass_pool_chain, NULL, 2, false, 0, 0, 0, "maximum pools in a row become one"},
    {'l', "lower", NULL, NULL, 0, true, COMPACT, 0, KERNELS, "operators to kernels"},
    {'s', "simplify", NULL, pass_simplify, 1, false, 0, KERNELS | PLANNED, 0, "dead statements, constant conditions, loops of one turn"},
    {'g', "legalise", NULL, pass_legalise, 0, true, 0, KERNELS | PLANNED, LEGAL, "what the target lacks: fma, mathematics"},
    {'o', "order", NULL, pass_order, 1, false, 0, LEGAL | KERNELS, 0, "calls in an order that needs little memory"},
    {'d', "dedup", NULL, pass_dedup, 0, true, LEGAL | KERNELS, LEGAL | PLANNED, 0, "equal kernels become one"},
    {'m', "memory", NULL, pass_memory, 0, true, 0, LEGAL | KERNELS | PLANNED, PLANNED, "offsets for buffers; in-place reuse"},
};

/* The pipeline.
 *
 *   Graph     c clean ─ f fold ─ v conv_fold ─ a activation ─ c clean ─ t terms ─ c clean ─ w share_weights ─ u commute ─┐
 *             ┌────────────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
 *             └ p pool_order ─ c clean ─ j merge_sum ─ h shuffle ─ b layout ─ q gate ─ e epilogue ─ i horizontal ─┐
 *             ┌────────────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
 *             └ r stream ─ k pool_chain ─ l lower
 *   Program   s simplify ─ g legalise ─ o order ─ d dedup ─ m memory
 *
 * fold comes after clean, so that it does not evaluate dead work; the second clean sees what the three passes before it uncovered (an
 * activation leaves its parts dead), and leaves terms single readers, the third does so for commute. share_weights composes scales, which
 * conv_fold has settled by then; the fourth clean joins what commute made twice. merge_sum takes the sums that commute left at their own
 * resolution. layout must see single operators, epilogue the layouts their results have, horizontal and stream the bodies, pool_chain what is
 * streamed. -O0 is l, g, d, m alone (dedup also names the kernels).
 */
static const char pipeline[] = "cfvactcwupcjhbqeirklsgodm";

static const PassInfo *by_letter(char letter) {
  for (int i = 0; i < COUNTOF(passes); i++)
    if (passes[i].letter == letter) return &passes[i];
  return NULL;
}

static const PassInfo *by_name(const char *name, size_t n) {
  for (int i = 0; i < COUNTOF(passes); i++)
    if (strlen(passes[i].name) == n && !memcmp(passes[i].name, name, n)) return &passes[i];
  return NULL;
}

/* What a graph pass did, in all its runs. */
typedef struct Effect {
  bool changed;
  int64_t applied;
  GraphCost saved;
} Effect;

typedef struct Driver {
  Ctx *c;
  const spinec_compile_options *o;
  FILE *out;
  Arena *scratch;          /* verifying and dumping */
  Graph *g;
  Program *p;              /* after lowering */
  unsigned have;
  int changed;             /* applications of optional passes that changed something */
  const char *last;        /* the last of them */
  double seconds[COUNTOF(passes)];
  Effect effect[COUNTOF(passes)];
  GraphCost imported, lowered;
} Driver;

/* ---- options ---- */

static Status unknown(Ctx *c, const char *option, const char *what, int n) {
  Text known = {.a = c->arena};
  for (int i = 0; i < COUNTOF(passes); i++) text_addf(&known, "%s%c %s", i ? ", " : "one of ", passes[i].letter, passes[i].name);
  return diag_error(c->diag, SPINEC_ERR_OPTION, NULL, known.s, "%s: there is no pass '%.*s'", option, n, what);
}

/* The next name of a comma list; false at its end. */
static bool next_name(const char **list, const char **s, size_t *n) {
  if (!*list || !**list) return false;
  *s = *list;
  *n = strcspn(*list, ",");
  *list += *n + ((*list)[*n] == ',');
  return true;
}

static bool listed(const char *list, const char *name) {
  const char *s;
  size_t n;
  while (next_name(&list, &s, &n))
    if (strlen(name) == n && !memcmp(name, s, n)) return true;
  return false;
}

static Status check_options(Ctx *c, const spinec_compile_options *o) {
  const char *s, *list = o->disable;
  size_t n;
  for (s = o->dump_letters; s && *s; s++)
    if (!by_letter(*s)) return unknown(c, "dump", s, 1);
  if (o->print_after && !by_name(o->print_after, strlen(o->print_after)))
    return unknown(c, "print-after", o->print_after, (int)MINI(strlen(o->print_after), 40));
  if (o->stop_after && !by_name(o->stop_after, strlen(o->stop_after)))
    return unknown(c, "stop-after", o->stop_after, (int)MINI(strlen(o->stop_after), 40));
  while (next_name(&list, &s, &n)) {
    const PassInfo *p = by_name(s, n);
    if (!p) return unknown(c, "disable", s, (int)MINI(n, 40));
    if (p->required) return diag_error(c->diag, SPINEC_ERR_OPTION, NULL, NULL, "disable: nothing can be compiled without '%s'", p->name);
  }
  return SPINEC_OK;
}

/* ---- what the driver does around a pass ---- */

static double now(void) {
  struct timespec t;
  timespec_get(&t, TIME_UTC);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void dump(Driver *d, const PassInfo *p, bool changed) {
  bool wanted = (d->o->dump_letters && strchr(d->o->dump_letters, p->letter)) || (d->o->print_after && !strcmp(d->o->print_after, p->name));
  if (!wanted) return;
  fprintf(d->out, "# after %s%s\n", p->name, changed ? "" : " (unchanged)");
  if (!changed) return;
  ArenaMark m = arena_mark(d->scratch);
  Text t = {.a = d->scratch};
  if (d->p) program_print(d->p, &t);
  else graph_print(d->g, &t);
  fputs(t.s, d->out);
  arena_release(d->scratch, m);
}

#ifndef NDEBUG
static void verify(Driver *d, const PassInfo *p) {
  ArenaMark m = arena_mark(d->scratch);
  const char *wrong = NULL;
  if (!d->p) wrong = graph_verify(d->g, d->scratch);
  else if (d->have & PLANNED) wrong = program_verify(d->p, d->scratch);
  for (int i = 0; d->p && !wrong && i < d->p->kernels.n; i++) wrong = kernel_verify(d->p->kernels.at[i], d->scratch);
  if (wrong) ice(d->g, NULL, p->name, "%s", wrong);
  arena_release(d->scratch, m);
}
#else
static void verify(Driver *d, const PassInfo *p) { (void)d, (void)p; }
#endif

static bool runs(const Driver *d, const PassInfo *p) {
  if (p->required) return true;
  if (d->o->opt_level < p->level || listed(d->o->disable, p->name)) return false;
  return !d->o->bisect || d->changed < d->o->bisect;
}

static void add_effect(Effect *e, int64_t applied, GraphCost saved) {
  e->changed = true;
  e->applied += MAXI(applied, 1);
  e->saved = graph_cost_less(e->saved, graph_cost_less((GraphCost){0}, saved));
}

/* Runs one pass; false when lowering failed (reported). */
static bool run_pass(Driver *d, const PassInfo *p) {
  if ((p->needs & COMPACT) && !(d->have & COMPACT)) {
    graph_compact(d->g);
    d->have |= COMPACT;
  }
  if (p->needs & ~d->have) ice(d->g, NULL, p->name, "it runs too late or too early (needs %#x, has %#x)", p->needs, d->have);
  bool measured = d->o->stats && p->graph;
  GraphCost before = measured ? graph_cost(d->g) : (GraphCost){0};
  d->c->applied = 0;
  double start = now();
  bool changed = true;
  if (p->graph) changed = p->graph(d->g, d->c);
  else if (p->program) changed = p->program(d->p, d->c);
  else if (!(d->p = lower_graph(d->g, d->c))) return false;
  d->seconds[p - passes] += now() - start;
  if (measured && changed) add_effect(&d->effect[p - passes], d->c->applied, graph_cost_less(before, graph_cost(d->g)));
  if (changed) d->have &= p->keeps;
  d->have |= p->gives;
  if (changed && !p->required) {
    d->changed++;
    d->last = p->name;
  }
  if (changed) verify(d, p);
  dump(d, p, changed);
  return true;
}

static void report_cost(const Driver *d, const char *what, const GraphCost *c) {
  fprintf(d->out, "stats: %s: %lld kernels, %lld macs, %lld flops, %lld bytes moved, %lld bytes stored\n", what, (long long)c->nodes,
          (long long)c->macs, (long long)c->flops, (long long)c->moved, (long long)c->stored);
}

static void report_stats(const Driver *d) {
  report_cost(d, "as imported", &d->imported);
  for (int i = 0; i < COUNTOF(passes); i++) {
    const Effect *e = &d->effect[i];
    if (e->changed) report_cost(d, arena_printf(d->scratch, "%s applied %lld times, saved", passes[i].name, (long long)e->applied), &e->saved);
  }
  report_cost(d, "as lowered", &d->lowered);
  for (int i = 0; i < d->c->stats.n; i++) {
    const Stat *s = &d->c->stats.at[i];
    fprintf(d->out, "stats: %8lld  %s: %s\n", (long long)s->n, s->pass, s->what);
  }
}

static void report(const Driver *d) {
  if (d->o->bisect)
    fprintf(d->out, "bisect: %d of at most %d changing passes ran%s%s\n", d->changed, d->o->bisect, d->last ? ", the last was " : "",
            d->last ? d->last : "");
  if (d->o->time_passes)
    for (int i = 0; i < COUNTOF(passes); i++)
      if (d->seconds[i] > 0) fprintf(d->out, "time: %10.3f ms  %s\n", 1e3 * d->seconds[i], passes[i].name);
  if (d->o->stats) report_stats(d);
}

static void free_arena(void *a) { arena_free(a); }

static Driver driver_new(Graph *g, Program *p, Ctx *c) {
  Driver d = {.c = c, .o = c->opt, .out = c->opt->dump ? c->opt->dump : stderr, .g = g, .p = p};
  d.scratch = arena_new(arena_fail(c->arena));
  arena_on_free(c->arena, free_arena, d.scratch);
  return d;
}

/* ---- a limit on the workspace ---- */

static bool run_pipeline(Driver *d, int from, bool *stopped) {
  bool ok = true;
  int n = COUNTOF(pipeline) - 1;
  for (int i = from; i < n && ok && !*stopped; i++) {
    const PassInfo *p = by_letter(pipeline[i]);
    if (d->o->progress) d->o->progress(d->o->progress_user, p->name, (double)i / n);
    if (runs(d, p)) ok = run_pass(d, p);
    if (d->o->stats && !d->p) d->lowered = graph_cost(d->g);
    if (d->o->stop_after && !strcmp(d->o->stop_after, p->name)) *stopped = ok;
  }
  return ok;
}

static Status too_large(const Driver *d, int64_t least) {
  const char *hint = d->p->max_threads > 1 ? "with fewer threads there is less scratch" : NULL;
  return diag_error(d->c->diag, SPINEC_ERR_OPTION, NULL, hint, "max-workspace: %lld bytes are too few, the least found is %lld",
                    (long long)d->o->max_workspace_bytes, (long long)least);
}

#define PATIENCE 5   /* programs in a row on the straight way that need no less than the ones before */

/* Lowers again, with less scratch, until the workspace is within the limit or nothing helps any more: straight towards the limit, or, where
 * step is not 0, by one part in `step` at a time. False after an error. */
static bool shrink(Driver *d, int step, int64_t *least) {
  int64_t limit = d->o->max_workspace_bytes, bytes = d->p->workspace_bytes, best = bytes;
  int lowering = (int)(strchr(pipeline, 'l') - pipeline), idle = 0;
  bool stopped = false;
  d->c->scratch_limit = NULL;
  while (bytes > limit && (step || idle < PATIENCE) && budget_tighten(d->c, d->g, d->p, step ? bytes - bytes / step - 1 : limit)) {
    d->p = NULL;
    d->have = COMPACT;
    if (!run_pipeline(d, lowering, &stopped)) return false;
    bytes = d->p->workspace_bytes;
    idle = bytes < best ? 0 : idle + 1;
    best = MINI(best, bytes);
  }
  *least = MINI(*least, best);
  return true;
}

/* Makes the workspace small enough; false after reporting that it cannot be. What is reported as the least was found in steps that are
 * the same for every limit, so that it is found again where it is asked for. A schedule passed over in small steps may be met in large ones,
 * and the other way round. */
static bool fit_workspace(Driver *d) {
  static const int steps[] = {0, 32, 8, 128, 2};
  int64_t limit = d->o->max_workspace_bytes, least = d->p->workspace_bytes, unused = least;
  Program *first = d->p;
  unsigned have = d->have;
  for (int i = 0; i < COUNTOF(steps) && d->p->workspace_bytes > limit; i++) {
    d->p = first;
    d->have = have;
    if (!shrink(d, steps[i], i ? &least : &unused)) return false;
  }
  if (d->p->workspace_bytes <= limit) return true;
  too_large(d, least);
  return false;
}

/* ---- entry points ---- */

Program *passes_run(Graph *g, Ctx *c, bool *stopped) {
  *stopped = false;
  if (check_options(c, c->opt)) return NULL;
  Driver d = driver_new(g, NULL, c);
  d.have = PLAIN;
  if (c->opt->stats) d.imported = d.lowered = graph_cost(g);
  bool ok = run_pipeline(&d, 0, stopped);
  if (ok && !*stopped && c->opt->max_workspace_bytes) ok = fit_workspace(&d);
  if (c->opt->progress && ok) c->opt->progress(c->opt->progress_user, "done", 1);
  report(&d);
  return ok && !*stopped ? d.p : NULL;
}

static bool run_list(Graph *g, Program *p, Ctx *c, const char *names) {
  Driver d = driver_new(g, p, c);
  const char *s, *list = names;
  size_t n;
  while (next_name(&list, &s, &n)) {
    const PassInfo *info = by_name(s, n);
    if (!info || (p ? !info->program : !info->graph)) return unknown(c, p ? "program passes" : "graph passes", s, (int)MINI(n, 40)), false;
    d.have |= info->needs & ~(unsigned)COMPACT;   /* whoever names passes vouches for the order */
    run_pass(&d, info);
  }
  return true;
}

bool passes_run_list(Graph *g, Ctx *c, const char *names) { return run_list(g, NULL, c, names); }
bool passes_run_list_program(Program *p, Ctx *c, const char *names) { return run_list(NULL, p, c, names); }

const char *passes_graph_name(int i) {
  for (int k = 0; k < COUNTOF(passes); k++)
    if (passes[k].graph && !i--) return passes[k].name;
  return NULL;
}

void passes_list(FILE *out) {
  for (int i = 0; i < COUNTOF(passes); i++)
    fprintf(out, "%c  %-10s -O%d%s  %s\n", passes[i].letter, passes[i].name, passes[i].level, passes[i].required ? "*" : " ",
            passes[i].what);
  fprintf(out, "order: %s   (* cannot be disabled)\n", pipeline);
}

void pass_applied(Ctx *c, int64_t n) { c->applied += n; }

void pass_count(Ctx *c, const char *pass, const char *what, int64_t n) {
  for (int i = 0; i < c->stats.n; i++)
    if (!strcmp(c->stats.at[i].pass, pass) && !strcmp(c->stats.at[i].what, what)) {
      c->stats.at[i].n += n;
      return;
    }
  vec_push(c->arena, &c->stats, ((Stat){pass, what, n}));
}
