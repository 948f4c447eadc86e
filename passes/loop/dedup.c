/* passes/loop/dedup.c: kernels that do the same become one, and get their names: k0, k1, ... in the order of their first calls.
 *
 * "The same" is equal text apart from the name, what it is for and what it costs; the text says everything else: parameters with their
 * access, aliasing and scratch, the range, every statement. Texts are compared only when their hashes agree. Kernels that nothing calls
 * are dropped.
 */
#include "../passes.h"
#include "../../ir/loop_text.h"

static uint64_t hash_text(const char *s, size_t n) {
  uint64_t h = 14695981039346656037u;
  for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)s[i]) * 1099511628211u;
  return h;
}

typedef struct Kind { uint64_t hash; Kernel *kernel, *first; } Kind;

static char *text_of(Arena *a, const Kernel *k) {
  Text t = {.a = a};
  Kernel plain = *k;
  plain.flops = plain.bytes = 0;
  kernel_print_as(&plain, "k", "", &t);
  return t.s;
}

/* The kernel to call instead of k. */
static Kernel *representative(Program *p, Kind *kinds, int *n, Kernel *k) {
  for (int i = *n - 1; i >= 0; i--) {
    if (kinds[i].kernel == k) return kinds[i].first;
  }
  ArenaMark mark = arena_mark(p->arena);
  const char *s = text_of(p->arena, k);
  uint64_t hash = hash_text(s, strlen(s));
  Kernel *first = k;
  for (int i = 0; i < *n && first == k; i++) {
    if (kinds[i].kernel == kinds[i].first && kinds[i].hash == hash && !strcmp(text_of(p->arena, kinds[i].kernel), s))
      first = kinds[i].first;
  }
  arena_release(p->arena, mark);
  kinds[(*n)++] = (Kind){hash, k, first};
  return first;
}

bool pass_dedup(Program *p, Ctx *c) {
  Kind *kinds = NEW_N(p->arena, Kind, p->kernels.n);
  int n = 0, before = p->kernels.n;
  bool changed = false;
  for (int i = 0; i < p->calls.n; i++) {
    Call *call = &p->calls.at[i];
    Kernel *k = representative(p, kinds, &n, call->kernel);
    changed |= k != call->kernel;
    call->kernel = k;
  }
  int kept = 0;
  for (int i = 0; i < n; i++) {
    Kernel *k = kinds[i].kernel;
    if (kinds[i].first != k) continue;
    char *name = arena_printf(p->arena, "k%d", kept);
    changed |= strcmp(name, k->name) != 0;
    k->name = name;
    p->kernels.at[kept++] = k;
  }
  p->kernels.n = kept;
  if (kept != before) pass_count(c, "dedup", "kernels merged", before - kept);
  return changed || kept != before;
}
