/* fail_alloc.c: a compilation in which the N-th allocation fails, for every N: it ends with SPINEC_ERR_MEMORY, says so, and leaks nothing
 * (the sanitized build checks that). The linker's --wrap sends the library's malloc, calloc and realloc here.
 */
#include "backend/backend.h"
#include "passes/passes.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

static long count, fail_at;   /* 0: never */

static bool fails(void) { return ++count == fail_at; }
void *__wrap_malloc(size_t n) { return fails() ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return fails() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t n) { return fails() ? NULL : __real_realloc(p, n); }

static const char net[] =
    "graph \"net\" {\n"
    "  input %x: f32[1,4,12,12]\n"
    "  const %w: f32[16,4,3,3] = opaque 0x1\n"
    "  const %s: f32[1,16,1,1] = splat 0.5\n"
    "  const %k: f32[16] = opaque 0x3\n"
    "  const %big: f32[64,64,9] = splat 2\n"
    "  %c = Conv(%x, %w) {strides=[1,1], pads=[1,1,1,1], dilations=[1,1], group=1} @ \"conv\"\n"
    "  %m = Mul(%c, %s)\n"
    "  %g = Sigmoid(%m)\n"
    "  %h = Mul(%m, %g)\n"
    "  %p = ReduceMean(%h) {axes=[2,3], keepdims=false}\n"
    "  %n = Exp(%k)\n"
    "  %b = ReduceSum(%big) {axes=[0,1,2], keepdims=false}\n"
    "  %a = Add(%p, %n)\n"
    "  %y = Mul(%a, %b)\n"
    "  output %y\n"
    "}\n";

static Status compile(Diag *d, int level) {
  Fail f;
  Arena *volatile a = NULL;
  volatile Status status = SPINEC_ERR_INTERNAL;
  if (FAIL_ARM(&f, d)) {
    a = arena_new(&f);
    spinec_compile_options opt = {.opt_level = level, .max_threads = 1};
    Ctx c = {.arena = a, .diag = d, .target = target_find("x86-64-v3"), .opt = &opt, .eval = interp_eval};
    Graph *g = graph_parse(a, d, "net", net);
    bool stopped;
    Program *p = g ? passes_run(g, &c, &stopped) : NULL;
    if (p) {
      Text t = {.a = a};
      graph_print(g, &t);
      program_print(p, &t);
    }
    status = p ? diag_status(d) : diag_status(d) ? diag_status(d) : SPINEC_ERR_INTERNAL;
  } else {
    status = f.status;
  }
  if (a) arena_set_fail(a, NULL);
  arena_free(a);
  return status;
}

int main(void) {
  clock_t end = clock() + 40 * CLOCKS_PER_SEC;
  for (int level = 0; level <= 2; level += 2) {
    long n = 1;
    for (;; n++) {
      Diag *d = spinec_diagnostics_new();
      count = 0;
      fail_at = n;
      Status s = compile(d, level);
      bool reached = count >= n;
      fail_at = 0;
      bool reported =
          spinec_diagnostics_count(d) > 0 && strstr(spinec_diagnostics_text(d, spinec_diagnostics_count(d) - 1), "out of memory");
      spinec_diagnostics_free(d);
      if (!reached && s == SPINEC_OK) break;
      /* Losing a message is survivable, so success is too; anything else is not. */
      if ((s != SPINEC_ERR_MEMORY || !reported) && s != SPINEC_OK) {
        fprintf(stderr, "-O%d, allocation %ld fails: status %d%s\n", level, n, (int)s, reported ? "" : ", not reported");
        return 1;
      }
      if (clock() > end) {
        fprintf(stderr, "-O%d: stopped after %ld allocations\n", level, n);
        return 1;
      }
    }
    printf("-O%d: %ld allocations, each failed in turn\n", level, n - 1);
    if (n < 4) return 1;   /* the wrapping does not reach the library */
  }
  return 0;
}
