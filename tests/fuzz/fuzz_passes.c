/* libFuzzer target: a small graph in text form goes through every graph pass, twice; what comes out verifies, and no pass finds that it
 * made a mistake. Folding runs the interpreter, so lowering and legalising are met as well.
 */
#include <stdlib.h>

#include "backend/backend.h"
#include "passes/passes.h"

#define ELEMENTS_MAX 4096   /* in all values: the fuzzer is after structure */

static bool small(const Graph *g) {
  int64_t sum = 0;
  for (int i = 0; i < g->values.n; i++) {
    int64_t n = value_count(g->values.at[i]);
    if (n > ELEMENTS_MAX) return false;
    sum += n + 1;
  }
  return sum <= ELEMENTS_MAX;
}

static void check(Graph *g, Ctx *c) {
  static const char passes[] = "clean,fold,conv_fold,activation,clean,epilogue";
  for (int round = 0; round < 2; round++) {
    if (!passes_run_list(g, c, passes)) abort();
    graph_compact(g);
    if (graph_verify(g, c->arena)) abort();
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Diag *d = spinec_diagnostics_new();
  Fail f;
  Arena *volatile a = NULL;
  if (FAIL_ARM(&f, d)) {
    a = arena_new(&f);
    Graph *g = graph_parse(a, d, "fuzz", arena_strndup(a, (const char *)data, size));
    spinec_compile_options opt = {.opt_level = 2, .max_threads = 1};
    Ctx c = {.arena = a, .diag = d, .target = target_find("generic"), .opt = &opt, .eval = interp_eval};
    if (g && small(g)) check(g, &c);
  } else if (f.status != SPINEC_ERR_MEMORY) {
    abort();
  }
  if (a) arena_set_fail(a, NULL);
  arena_free(a);
  spinec_diagnostics_free(d);
  return 0;
}
