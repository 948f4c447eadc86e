/* run_random.c: random kernels on a backend against the interpreter, bit for bit (NaNs being equal).
 *
 *   run_random c|jit PROGRAMS [SEED]
 *
 * Every program is KERNELS kernels of tests/unit/loop_random.h on the same operands, each with outputs of its own, legalised for a target
 * with or without FMA. The kernels are kept small: what matters is how operators combine.
 */
#include "../unit/loop_random.h"
#include "passes/passes.h"

enum { KERNELS = 20 };

typedef struct Outputs { float y[KERNELS][RANDOM_EXTENT * RANDOM_OUT]; int32_t z[KERNELS][RANDOM_EXTENT * RANDOM_OUT]; } Outputs;

static Port port(LoopTest *t, const char *name, int i, DType dt, int64_t n) {
  return (Port){arena_printf(t->arena, "%s%d", name, i), dt, {.rank = 1, .d = {{n, NULL}}}};
}

static int add_input(LoopTest *t, Program *p, const char *name, DType dt) {
  vec_push(t->arena, &p->inputs, port(t, name, 0, dt, RANDOM_IN));
  return program_add_buffer(p, (Buffer){.kind = BUF_INPUT, .bytes = RANDOM_IN * (int64_t)dt_size(dt), .index = p->inputs.n - 1});
}

static int add_output(LoopTest *t, Program *p, const char *name, int i, DType dt) {
  vec_push(t->arena, &p->outputs, port(t, name, i, dt, RANDOM_EXTENT * RANDOM_OUT));
  return program_add_buffer(p, (Buffer){.kind = BUF_OUTPUT, .bytes = RANDOM_EXTENT * RANDOM_OUT * 4, .index = p->outputs.n - 1});
}

static Program *random_program(LoopTest *t, uint64_t seed) {
  Program *p = program_new(t->arena, &t->target);
  p->max_threads = 2;
  const int in[] = {add_input(t, p, "x", DT_F32), add_input(t, p, "n", DT_I32), add_input(t, p, "u", DT_U8), add_input(t, p, "d", DT_F64),
                    add_input(t, p, "m", DT_BOOL)};
  int y[KERNELS], z[KERNELS];
  for (int i = 0; i < KERNELS; i++) y[i] = add_output(t, p, "y", i, DT_F32);
  for (int i = 0; i < KERNELS; i++) z[i] = add_output(t, p, "z", i, DT_I32);
  for (int i = 0; i < KERNELS; i++) {
    Kernel *k = random_kernel(t->arena, seed * 1000 + (uint64_t)i, RANDOM_WIDTHS);
    Call c = {.kernel = k, .args = NEW_N(t->arena, Arg, RANDOM_PARAMS)};
    int scratch = program_add_buffer(p, (Buffer){.kind = BUF_SCRATCH, .bytes = RANDOM_OUT * 4});
    const int buffer[RANDOM_PARAMS] = {in[0], in[1], in[2], in[3], in[4], y[i], z[i], scratch};
    for (int j = 0; j < RANDOM_PARAMS; j++) c.args[j].buffer = buffer[j];
    vec_push(t->arena, &p->kernels, k);
    vec_push(t->arena, &p->calls, c);
  }
  spinec_compile_options opt = {.opt_level = 2, .max_threads = 2};
  Ctx c = {.arena = t->arena, .diag = t->diag, .target = &t->target, .opt = &opt, .eval = interp_eval};
  if (!passes_run_list_program(p, &c, "simplify,legalise,dedup,memory")) return NULL;
  return p;
}

static bool run(Runner *r, const RandomData *data, Outputs *o, Diag *d) {
  memset(o, 0, sizeof *o);
  void *out[2 * KERNELS];
  for (int i = 0; i < KERNELS; i++) {
    out[i] = o->y[i];
    out[KERNELS + i] = o->z[i];
  }
  bool ok = r && r->run(r, (const void *const *)data->data, out, d) == SPINEC_OK;
  if (r) r->close(r);
  return ok;
}

static const Kernel *first_difference(const Program *p, const Outputs *a, const Outputs *b) {
  for (int i = 0; i < KERNELS; i++) {
    for (int j = 0; j < RANDOM_EXTENT * RANDOM_OUT; j++) {
      bool same = !memcmp(&a->y[i][j], &b->y[i][j], 4) || (isnan(a->y[i][j]) && isnan(b->y[i][j]));
      if (same && a->z[i][j] == b->z[i][j]) continue;
      fprintf(stderr, "%s element %d: %.9g and %d, not %.9g and %d\n", p->calls.at[i].kernel->what, j, b->y[i][j], b->z[i][j], a->y[i][j], a->z[i][j]);
      return p->calls.at[i].kernel;
    }
  }
  return NULL;
}

static int check(const char *backend, uint64_t seed) {
  static Outputs want, got;
  LoopTest t;
  loop_open(&t);
  const Target *native = target_find(seed % 3 ? "native" : "generic");
  t.target = *native;
  Program *p = random_program(&t, seed);
  RandomData data;
  random_data(&data, seed);
  int status = 1;
  if (!p || !run(interp_open(p, 1, t.diag), &data, &want, t.diag)) fprintf(stderr, "seed %d: the interpreter: %s\n", (int)seed, loop_message(&t));
  else {
    Runner *r = NULL;
    if (!strcmp(backend, "c")) r = c_open(p, 2, t.diag);
#if SPINEC_HAVE_LLVM
    else r = llvm_open(p, 2, t.diag);
#endif
    const Kernel *k;
    if (!run(r, &data, &got, t.diag)) fprintf(stderr, "seed %d: %s: %s\n", (int)seed, backend, loop_message(&t));
    else if ((k = first_difference(p, &want, &got))) fprintf(stderr, "seed %d on %s, target %s:\n%s\n", (int)seed, backend, t.target.name, loop_text(&t, k));
    else status = 0;
  }
  loop_close(&t);
  return status;
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: run_random c|jit PROGRAMS [SEED]\n");
    return 2;
  }
  int failures = 0;
  uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
  for (int i = 0; i < atoi(argv[2]); i++) failures += check(argv[1], seed + (uint64_t)i);
  return failures != 0;
}
