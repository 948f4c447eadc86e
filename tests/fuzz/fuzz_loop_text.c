/* libFuzzer target: any bytes are a kernel or a program in text form, which verifies, prints and parses again to the same text, and which
 * the loop passes leave valid; or an error. */
#include <stdlib.h>
#include <string.h>

#include "passes/passes.h"

static char *print(const Program *p, bool whole, Arena *a) {
  Text t = {.a = a};
  if (whole) program_print(p, &t);
  else kernel_print(p->kernels.at[0], &t);
  return t.s;
}

static Program *parse(Arena *a, Diag *d, const char *text, bool whole, const Target *t) {
  if (whole) return program_parse(a, d, "fuzz", text, t);
  Kernel *k = kernel_parse(a, d, "fuzz", text);
  if (!k) return NULL;
  Program *p = program_new(a, t);
  vec_push(a, &p->kernels, k);
  return p;
}

static void check(Arena *a, Diag *d, const char *text, const Target *t) {
  bool whole = !strncmp(text, "program", 7);
  Program *p = parse(a, d, text, whole, t);
  if (!p) return;
  char *once = print(p, whole, a);
  Program *again = parse(a, d, once, whole, t);
  if (!again || strcmp(print(again, whole, a), once)) abort();
  spinec_compile_options opt = {0};
  Ctx c = {.arena = a, .diag = d, .target = t, .opt = &opt};
  pass_simplify(p, &c);
  pass_legalise(p, &c);
  pass_simplify(p, &c);
  if (whole) pass_dedup(p, &c);
  for (int i = 0; i < p->kernels.n; i++) {
    if (kernel_verify(p->kernels.at[i], a)) abort();
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Diag *d = spinec_diagnostics_new();
  Target target = {.name = "fuzz", .lanes = 8, .fma = size & 1, .pointer_bits = 64};
  Fail f;
  Arena *volatile a = NULL;
  if (FAIL_ARM(&f, d)) {
    a = arena_new(&f);
    check(a, d, arena_strndup(a, (const char *)data, size), &target);
  } else if (f.status != SPINEC_ERR_MEMORY) {
    abort();
  }
  if (a) arena_set_fail(a, NULL);
  arena_free(a);
  spinec_diagnostics_free(d);
  return 0;
}
