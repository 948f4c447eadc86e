/* sweep.c: every schedule against the plain lowering, over generated graphs (cases.h), on one machine and backend.
 *
 *     run_sweep interp              the interpreter, for made-up machines: vectors of 4, 8, 16 lanes, 16 or 32 registers, a tiny cache
 *     run_sweep jit|c TARGET        machine code in this process
 *     run_sweep cross TARGET CC QEMU SYSROOT     C for another machine, under an emulator
 *
 * Graphs are compiled by the batch, one output each, at -O2 and, for the reference, at -O0 for the interpreter. A batch has one number of
 * threads and one Winograd tile. The kernels of all batches together must show every schedule in the list `schedules`.
 *
 * SPINEC_SWEEP=N in the environment: N batches rather than the few that ctest has time for. SPINEC_SWEEP_FIRST=I: from batch I on, of which
 * the message of a failure tells.
 */
#include "cases.h"

#include "backend/backend.h"
#include "passes/passes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define SKIPPED 77   /* to ctest */
#define BATCH KIND_COUNT

typedef struct Sweep {
  const char *how, *cc, *qemu, *sysroot;
  const Target *target;    /* NULL: made up for each batch */
  char *dir;
  int failures;
} Sweep;

typedef struct Batch {
  uint64_t index;
  Case c[BATCH];
  Target target;
  int threads, winograd;
  Fail fail;
  Diag *d;
  Arena *a;
  Program *plain, *fast;
  void **in, **want, **got;
} Batch;

/* ---- which schedules there are, by the words of their kernels' names ---- */

static const struct { const char *starts, *has, *lacks; } schedules[] = {
  {"conv", "winograd F(2,3)", NULL}, {"conv", "winograd F(4,3)", NULL}, {"conv", "winograd F(5,3)", NULL}, {"conv", "winograd F(6,3)", NULL},
  {"conv", "winograd", " groups"}, {"conv3x3 winograd", " groups", NULL}, {"conv1x1", "tile", " groups"}, {"conv1x1 strided", "tile", NULL},
  {"conv", " strided", "conv1x1"}, {"conv", " in ", "winograd"}, {"conv3x3 ", "tile", "winograd"}, {"conv_transposed", "tile", NULL},
  {"depthwise", "tile", " strided"}, {"depthwise", " strided", NULL}, {"depthwise", " multiplied", NULL}, {"matmul tile", "", NULL}, {"matmul dot", "", NULL}, {"lrn", "", NULL}, {"maximum", "", NULL}, {"average", "", NULL},
  {"Concat", " channels of ", NULL}, {"Slice", " channels of ", NULL}, {"Gather", " channels of ", NULL}, {"Reorder", "blocked", NULL},
  {"conv1x1 sum", "tile", NULL}, {"conv", " joined ", NULL}, {"conv", " + maximum", NULL}, {"conv", " + average", NULL}, {"conv", " + depthwise", NULL},
  {"conv", " + conv1x1", NULL}, {"conv rows", "", NULL}, {"conv_transpose,", "", NULL},
};
static int reached[COUNTOF(schedules)];
static int gates, means;   /* convolutions with a gate in their weights; depthwise ones with means as a second result */

static void count_schedules(const Program *p) {
  for (int i = 0; i < p->calls.n; i++) {
    const Kernel *k = p->calls.at[i].kernel;
    const char *w = k->what;
    int outs = 0;
    for (int v = 0; v < k->params.n; v++) {
      gates += !strncmp(k->params.at[v]->name, "gw", 2);
      outs += k->params.at[v]->access == ACCESS_OUT;
    }
    means += outs == 2 && !strncmp(w, "depthwise", 9);
    for (int s = 0; s < COUNTOF(schedules); s++) {
      bool lacks = !schedules[s].lacks || !strstr(w, schedules[s].lacks);
      reached[s] += lacks && !strncmp(w, schedules[s].starts, strlen(schedules[s].starts)) && strstr(w, schedules[s].has);
    }
  }
}

/* ---- one batch ---- */

static void stop(const Batch *b, const char *what) {
  fprintf(stderr, "batch %d: %s\n", (int)b->index, what);
  for (int i = 0; i < spinec_diagnostics_count(b->d); i++) fprintf(stderr, "  %s\n", spinec_diagnostics_text(b->d, i));
  for (int i = 0; i < BATCH; i++) fprintf(stderr, "  %s\n", case_text(&b->c[i]));
  exit(1);
}

static void choose(const Sweep *s, Batch *b, uint64_t index) {
  static const int tiles[] = {2, 4, 5, 6, -1, 0}, lanes[] = {16, 4, 8};
  Rng r = rng_new(index + 1);
  b->index = index;
  b->winograd = tiles[index % COUNTOF(tiles)];
  b->threads = 1 + (int)(index % 3);
  if (s->target) {
    b->target = *s->target;
  } else {
    b->target = *target_find("x86-64-v4");
    b->target.lanes = lanes[index % 3];
    b->target.vregs = rng_below(&r, 2) ? 16 : 32;
    b->target.l2 = 64 << 10;   /* small, so that strips are many */
  }
  if (index % 4 >= 2) b->target.l2 = 2 << 10;   /* next to nothing stays in it: sums are merged, and convolutions of one tensor joined */
  for (int i = 0; i < BATCH; i++) b->c[i] = case_make(&r, (Kind)i, b->target.lanes);
}

static Program *compile(Batch *b, int level) {
  Graph *g = graph_new(b->a, b->d, "sweep");
  for (int i = 0; i < BATCH; i++) case_build(g, &b->c[i]);
  spinec_compile_options o = spinec_compile_options_default();
  o.opt_level = level;
  o.winograd = b->winograd;
  o.max_threads = level ? b->threads : 1;
  o.max_weight_bytes = INT64_MAX / 2;   /* Winograd also where memory is likely to be short */
  Ctx ctx = {.arena = b->a, .diag = b->d, .target = level ? &b->target : target_find("generic"), .opt = &o, .eval = interp_eval};
  bool stopped = false;
  Program *p = passes_run(g, &ctx, &stopped);
  const char *wrong = p ? program_verify(p, b->a) : "not compiled";
  if (wrong) stop(b, wrong);
  return p;
}

static int64_t port_bytes(const Port *p) { return shape_count(&p->shape) * 4; }

static void **blocks(const Batch *b, const Port *ports, int n, bool fill) {
  void **at = NEW_N(b->a, void *, n + 1);
  for (int i = 0; i < n; i++) {
    at[i] = arena_alloc(b->a, (size_t)port_bytes(&ports[i]) + 1);
    spinec_tensor t = {.dtype = SPINEC_F32, .rank = 1, .dims = {shape_count(&ports[i].shape)}, .data = at[i]};
    if (fill) random_fill(&t, b->index * 1000 + (uint64_t)i);
    else memset(at[i], 0x7f, (size_t)port_bytes(&ports[i]));
  }
  return at;
}

static void compare(Sweep *s, const Batch *b) {
  for (int i = 0; i < b->plain->outputs.n; i++) {
    const float *want = b->want[i], *got = b->got[i];
    int64_t n = shape_count(&b->plain->outputs.at[i].shape), at = 0;
    double top = 0, worst = 0;
    for (int64_t k = 0; k < n; k++) {
      if (isfinite(want[k])) top = fmax(top, fabs(want[k]));
      if ((isnan(got[k]) && isnan(want[k])) || got[k] == want[k]) continue;   /* windows of padding alone have the maximum -inf */
      double e = isfinite(got[k]) && isfinite(want[k]) ? fabs((double)got[k] - want[k]) : INFINITY;
      if (e > worst) worst = e, at = k;
    }
    if (worst <= 1e-4 * top + 1e-6) continue;
    fprintf(stderr, "batch %d, %d threads, winograd %d, %d lanes: element %lld of %lld is %g, expected %g: %s\n", (int)b->index, b->threads, b->winograd,
            b->target.lanes, (long long)at, (long long)n, got[at], want[at], case_text(&b->c[i]));
    s->failures++;
  }
}

/* ---- running it ---- */

static void run_here(const Sweep *s, Batch *b) {
  Runner *r = NULL;
  if (!strcmp(s->how, "interp")) r = interp_open(b->fast, b->threads, b->d);
  if (!strcmp(s->how, "c")) r = c_open(b->fast, b->threads, b->d);
#if SPINEC_HAVE_LLVM
  if (!strcmp(s->how, "jit")) r = llvm_open(b->fast, b->threads, b->d);
#endif
  if (!r || r->run(r, (const void *const *)b->in, b->got, b->d)) stop(b, "cannot run");
  r->close(r);
}

static void command(const Batch *b, const char *line) {
  int st = system(line);
  if (!WIFEXITED(st) || WEXITSTATUS(st)) stop(b, line);
}

static void write_number(FILE *f, int64_t n) { fwrite(&(uint64_t){(uint64_t)n}, 8, 1, f); }

static void run_cross(const Sweep *s, Batch *b) {
  const char *in = arena_printf(b->a, "%s/in", s->dir), *out = arena_printf(b->a, "%s/out", s->dir), *c = arena_printf(b->a, "%s/m.c", s->dir);
  const Program *p = b->fast;
  spinec_emit_options o = {.kind = SPINEC_EMIT_C, .prefix = "m", .weights = SPINEC_WEIGHTS_INLINE};
  if (c_emit(p, c, &o, b->d)) stop(b, "cannot emit");
  FILE *f = fopen(in, "wb");
  if (!f) stop(b, in);
  write_number(f, p->inputs.n);
  for (int i = 0; i < p->inputs.n; i++) {
    write_number(f, port_bytes(&p->inputs.at[i]));
    fwrite(b->in[i], 1, (size_t)port_bytes(&p->inputs.at[i]), f);
  }
  write_number(f, p->outputs.n);
  for (int i = 0; i < p->outputs.n; i++) write_number(f, port_bytes(&p->outputs.at[i]));
  fclose(f);
  command(b, arena_printf(b->a, "%s -std=c11 -O1 %s -w -DTHREADS=0 -I'%s' '%s' '%s' -o '%s/m' -lm", s->cc, s->target->cflags, s->dir, c,
                          HARNESS, s->dir));
  command(b, arena_printf(b->a, "%s -L %s '%s/m' '%s' '%s'", s->qemu, s->sysroot, s->dir, in, out));
  f = fopen(out, "rb");
  for (int i = 0; f && i < p->outputs.n; i++)
    if (fread(b->got[i], 1, (size_t)port_bytes(&p->outputs.at[i]), f) != (size_t)port_bytes(&p->outputs.at[i])) stop(b, "outputs are missing");
  if (!f) stop(b, out);
  fclose(f);
}

static void run_batch(Sweep *s, uint64_t index) {
  Batch b = {.d = spinec_diagnostics_new()};
  if (!FAIL_ARM(&b.fail, b.d)) stop(&b, "left through Fail");
  b.a = arena_new(&b.fail);
  choose(s, &b, index);
  b.plain = compile(&b, 0);
  b.fast = compile(&b, 2);
  count_schedules(b.fast);
  b.in = blocks(&b, b.plain->inputs.at, b.plain->inputs.n, true);
  b.want = blocks(&b, b.plain->outputs.at, b.plain->outputs.n, false);
  b.got = blocks(&b, b.plain->outputs.at, b.plain->outputs.n, false);
  if (interp_eval(b.plain, (const void *const *)b.in, b.want, b.d)) stop(&b, "no reference");
  if (s->cc) run_cross(s, &b);
  else run_here(s, &b);
  compare(s, &b);
  arena_free(b.a);
  spinec_diagnostics_free(b.d);
}

static int64_t number_from(const char *name, int64_t otherwise) {
  const char *e = getenv(name);
  return e && *e ? strtoll(e, NULL, 10) : otherwise;
}

int main(int argc, char **argv) {
  Sweep s = {.how = argc > 1 ? argv[1] : ""};
  bool interp = !strcmp(s.how, "interp"), cross = !strcmp(s.how, "cross") && argc == 6;
  if (!interp && !cross && !(argc == 3 && (!strcmp(s.how, "jit") || !strcmp(s.how, "c")))) {
    fprintf(stderr, "usage: run_sweep interp | jit TARGET | c TARGET | cross TARGET CC QEMU SYSROOT\n");
    return 2;
  }
  if (!interp && !(s.target = target_find(argv[2]))) return 2;
  if (!interp && !cross && s.target->arch == target_find("native")->arch && s.target->lanes > target_find("native")->lanes) return SKIPPED;
  char err[RT_ERR_MAX];
  if (cross) {
    s.cc = argv[3], s.qemu = argv[4], s.sysroot = argv[5];
    if (tempdir_new(&s.dir, err) != SPINEC_OK) return 2;
  }
  int64_t first = number_from("SPINEC_SWEEP_FIRST", 0), count = number_from("SPINEC_SWEEP", interp ? 60 : !strcmp(s.how, "jit") ? 20 : 8);
  for (int64_t i = first; i < first + count; i++) run_batch(&s, (uint64_t)i);
  if (cross) tempdir_remove(s.dir);
  for (int i = 0; i < COUNTOF(schedules) && count >= 8; i++) {
    if (reached[i]) continue;
    fprintf(stderr, "no kernel '%s...%s'%s%s\n", schedules[i].starts, schedules[i].has, schedules[i].lacks ? " without " : "",
            schedules[i].lacks ? schedules[i].lacks : "");
    s.failures++;
  }
  if (count >= 8 && (!gates || !means)) {
    fprintf(stderr, "%d gates in weights, %d means beside a depthwise convolution\n", gates, means);
    s.failures++;
  }
  printf("%s %s: %d cases, %d failures\n", s.how, s.target ? s.target->name : "", (int)count * BATCH, s.failures);
  return s.failures != 0;
}
