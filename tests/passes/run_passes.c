/* run_passes.c: golden tests of graph and program passes: text in, text out.
 *
 *   run_passes FILE...          UPDATE=1 in the environment rewrites the expected part
 *
 * A file is
 *   # what it shows
 *   # passes: clean, fold       default: the pass its folder is named after
 *   # run: no                   do not compare results (see below)
 *   # winograd: 4               its tile; default: none
 *   graph "..." { ... }
 *   ----
 *   the graph expected
 * or the same with programs. Besides the expected text it is checked that both texts survive printing and parsing, that the invariants
 * hold afterwards, that the passes find nothing to do a second time, and that the graph still computes the same: both are lowered plainly
 * and interpreted on the same pseudo-random inputs.
 */
#include "backend/backend.h"
#include "passes/passes.h"

#include "../golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Case {
  const Golden *file;
  Arena *a;
  Ctx c;
  char *passes;
  bool run;
} Case;

static int fail(const Case *t, const char *what, const char *detail) { return golden_fail(t->file, what, detail); }

/* ---- results ---- */

typedef struct Results { int n; void *data[32]; } Results;

static bool interpret(Case *t, const Graph *g, Results *r) {
  Graph *copy = graph_clone(g, t->a, t->c.diag);
  graph_compact(copy);
  Program *p = lower_graph(copy, &t->c);
  if (!p) return false;
  pass_legalise(p, &t->c);
  pass_dedup(p, &t->c);
  pass_memory(p, &t->c);
  const void *in[32];
  if (g->inputs.n > COUNTOF(in) || g->outputs.n > COUNTOF(r->data)) return false;
  for (int i = 0; i < g->inputs.n; i++) {
    const Value *v = g->inputs.at[i];
    void *data = arena_alloc(t->a, value_bytes(v));
    opaque_fill(data, v->dt, value_count(v), 0x9e3779b97f4a7c15u * (uint64_t)(i + 1));
    in[i] = data;
  }
  r->n = g->outputs.n;
  for (int i = 0; i < r->n; i++) r->data[i] = arena_alloc(t->a, value_bytes(g->outputs.at[i]));
  return interp_eval(p, in, r->data, t->c.diag) == SPINEC_OK;
}

static const char *compare(Case *t, const Graph *g, const Results *x, const Results *y) {
  for (int i = 0; i < x->n; i++) {
    const Value *v = g->outputs.at[i];
    int64_t n = value_count(v);
    double most = 1e-6;
    for (int64_t k = 0; k < n; k++) {
      double e = data_get_f(x->data[i], v->dt, k);
      if (isfinite(e)) most = fmax(most, fabs(e));
    }
    for (int64_t k = 0; k < n; k++) {
      double a = data_get_f(x->data[i], v->dt, k), b = data_get_f(y->data[i], v->dt, k);
      if (a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= 2e-6 * most) continue;
      return arena_printf(t->a, "output %d (%s), element %lld: %.9g before, %.9g after", i, v->name, (long long)k, a, b);
    }
  }
  return NULL;
}

/* ---- one test ---- */

static char *printed(Case *t, const Graph *g) {
  Text text = {.a = t->a};
  graph_print(g, &text);
  return text.s;
}

static int check_graph(Case *t, char **actual) {
  Graph *g = graph_parse(t->a, t->c.diag, t->file->file, t->file->input);
  if (!g) return fail(t, "the input does not parse", NULL);
  char *before = printed(t, g);
  Graph *again = graph_parse(t->a, t->c.diag, "printed input", before);
  if (!again || strcmp(printed(t, again), before)) return fail(t, "the input does not survive printing and parsing", before);
  if (!passes_run_list(g, &t->c, t->passes)) return fail(t, "the passes do not run", NULL);
  graph_compact(g);
  const char *wrong = graph_verify(g, t->a);
  *actual = printed(t, g);
  if (wrong) return fail(t, wrong, *actual);
  Graph *after = graph_parse(t->a, t->c.diag, "printed output", *actual);
  if (!after) return fail(t, "the output does not parse", *actual);
  if (strcmp(printed(t, after), *actual)) return fail(t, "the output does not survive printing and parsing", *actual);
  passes_run_list(after, &t->c, t->passes);
  graph_compact(after);
  if (strcmp(printed(t, after), *actual)) return fail(t, "the passes do more when run again", printed(t, after));
  if (!t->run) return 0;
  Results x, y;
  if (!interpret(t, again, &x) || !interpret(t, g, &y)) return fail(t, "the graph does not run", NULL);
  wrong = compare(t, again, &x, &y);
  return wrong ? fail(t, "results differ", wrong) : 0;
}

static int check_program(Case *t, char **actual) {
  Program *p = program_parse(t->a, t->c.diag, t->file->file, t->file->input, t->c.target);
  if (!p) return fail(t, "the input does not parse", NULL);
  if (!passes_run_list_program(p, &t->c, t->passes)) return fail(t, "the passes do not run", NULL);
  Text text = {.a = t->a};
  program_print(p, &text);
  *actual = text.s;
  for (int i = 0; i < p->kernels.n; i++) {
    const char *wrong = kernel_verify(p->kernels.at[i], t->a);
    if (wrong) return fail(t, wrong, *actual);
  }
  return 0;
}

static int check(Golden *g, void *user) {
  (void)user;
  const char *run = golden_option(g, "run"), *tile = golden_option(g, "winograd");
  spinec_compile_options opt = {.opt_level = 0, .max_threads = 1, .winograd = tile ? atoi(tile) : 0};
  Case t = {.file = g, .a = g->a, .passes = golden_passes(g), .run = !run || strcmp(run, "no")};
  t.c = (Ctx){.arena = g->a, .diag = g->d, .target = target_find("generic"), .opt = &opt, .eval = interp_eval};
  if (!t.passes) return fail(&t, "no passes", NULL);
  char *actual = NULL;
  int status = strncmp(g->input, "program", 7) ? check_graph(&t, &actual) : check_program(&t, &actual);
  return status ? status : golden_compare(g, actual);
}

static int run(const char *file) { return golden_run(file, "#", check, NULL); }

int main(int argc, char **argv) { return golden_main(argc, argv, run); }
