/* ONNX models from anywhere: the import gives a graph whose invariants hold, or a message. */
#define _GNU_SOURCE
#include "backend/backend.h"
#include "frontend/frontend.h"
#include "passes/passes.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Small nodes only: the evaluator has tests of its own. */
static bool fold_small(Graph *g, Node *n, void *ctx) {
  int64_t count = 0;
  for (int i = 0; i < n->nout; i++) count = MAXI(count, value_count(n->out[i]));
  for (int i = 0; i < n->nin; i++) count = n->in[i] ? MAXI(count, value_count(n->in[i])) : count;
  return count <= 64 && fold_node(g, n, ctx);
}

static void import(const char *path) {
  Fail fail;
  Diag *d = spinec_diagnostics_new();
  Arena *volatile a = NULL;
  if (FAIL_ARM(&fail, d)) {
    a = arena_new(&fail);
    spinec_compile_options opt = {.max_threads = 1};
    Ctx c = {.arena = a, .diag = d, .target = target_find("generic"), .opt = &opt, .eval = interp_eval};
    ImportOptions o = {.fold = fold_small, .fold_user = &c};
    Graph *g = onnx_import(a, d, path, &o);
    if (g ? graph_verify(g, a) != NULL : !spinec_diagnostics_count(d)) abort();
  } else if (fail.status == SPINEC_ERR_INTERNAL) {
    abort();
  }
  arena_free(a);
  spinec_diagnostics_free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char path[40];
  int fd = memfd_create("fuzz", MFD_CLOEXEC);
  if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  import(path);
  close(fd);
  return 0;
}
