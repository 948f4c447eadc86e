/* libFuzzer target: any bytes are a graph in text form that verifies, prints and parses again to the same text, or an error. */
#include <stdlib.h>
#include <string.h>

#include "ir/graph.h"

static char *print(const Graph *g, Arena *a) {
  Text t = {.a = a};
  graph_print(g, &t);
  return t.s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Diag *d = spinec_diagnostics_new();
  Fail f;
  Arena *volatile a = NULL;
  if (FAIL_ARM(&f, d)) {
    a = arena_new(&f);
    Graph *g = graph_parse(a, d, "fuzz", arena_strndup(a, (const char *)data, size));
    if (g) {
      char *text = print(g, a);
      Graph *h = graph_parse(a, d, "fuzz", text);
      if (!h || strcmp(print(h, a), text)) abort();
    }
  } else if (f.status != SPINEC_ERR_MEMORY) {
    abort();
  }
  if (a) arena_set_fail(a, NULL);
  arena_free(a);
  spinec_diagnostics_free(d);
  return 0;
}
