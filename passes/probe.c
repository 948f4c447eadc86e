/* probe.c: a program that measures the machine, for comparing kernels with what is possible there.
 *
 * Three calls: memory is filled, so that its pages exist; it is read, far more than the caches hold; and as many accumulators as the target
 * has registers to spare are multiplied and added to, with no memory access. The first call's time means nothing.
 */
#include "passes.h"

#define CHUNKS 16   /* of the range, per thread */
#define STEPS 20000

typedef struct Probe { Program *p; Build b; int lanes; int64_t chunks; } Probe;

static Type vector(const Probe *q) { return type_of(DT_F32, q->lanes); }

static void close_kernel(Probe *q, double flops, double bytes, const int *buffers, int n) {
  Kernel *k = q->b.k;
  k->flops = flops;
  k->bytes = bytes;
  Call c = {.kernel = k, .args = NEW_N(q->p->arena, Arg, n)};
  for (int i = 0; i < n; i++) c.args[i].buffer = buffers[i];
  vec_push(q->p->arena, &q->p->kernels, k);
  vec_push(q->p->arena, &q->p->calls, c);
}

static Expr *open_kernel(Probe *q, const char *what) {
  build_start(&q->b, q->p->arena, kernel_new(q->p->arena, what));
  return x_var(&q->b, build_range(&q->b, "r", q->chunks));
}

static void fill(Probe *q, int memory, int64_t chunk) {
  Build *b = &q->b;
  Expr *r = open_kernel(q, "fill");
  Var *y = build_param(b, "y", DT_F32, ACCESS_OUT);
  Expr *first = s_let(b, "first", x_muli(b, r, chunk));
  Expr *i = s_for(b, "i", x_idx(b, 0), x_idx(b, chunk), q->lanes);
  s_store(b, y, x_add(b, first, i), x_float(b, vector(q), 1));
  s_end(b);
  close_kernel(q, 0, (double)(q->chunks * chunk * 4), (int[]){memory}, 1);
}

static void read_all(Probe *q, int memory, int sums, int64_t chunk) {
  enum { WAYS = 8 };
  Build *b = &q->b;
  Var *sum[WAYS];
  Expr *r = open_kernel(q, "read");
  Var *x = build_param(b, "x", DT_F32, ACCESS_IN), *y = build_param(b, "y", DT_F32, ACCESS_OUT);
  Expr *first = s_let(b, "first", x_muli(b, r, chunk));
  for (int w = 0; w < WAYS; w++) sum[w] = s_reg(b, "s", x_float(b, vector(q), 0));
  Expr *i = s_for(b, "i", x_idx(b, 0), x_idx(b, chunk), WAYS * q->lanes);
  for (int w = 0; w < WAYS; w++)
    s_set(b, sum[w], x_add(b, x_var(b, sum[w]), x_load(b, x, x_add(b, first, x_addi(b, i, (int64_t)w * q->lanes)), q->lanes)));
  s_end(b);
  Expr *e = x_var(b, sum[0]);
  for (int w = 1; w < WAYS; w++) e = x_add(b, e, x_var(b, sum[w]));
  s_store(b, y, x_muli(b, r, q->lanes), e);
  close_kernel(q, (double)(q->chunks * chunk), (double)(q->chunks * chunk * 4), (int[]){memory, sums}, 2);
}

static void multiply_add(Probe *q, int sums) {
  enum { MOST = 24 };
  Build *b = &q->b;
  Var *acc[MOST];
  int n = MAXI(1, MINI(MOST, q->p->target->vregs - 4));
  Expr *r = open_kernel(q, "multiply and add");
  Var *y = build_param(b, "y", DT_F32, ACCESS_OUT);
  for (int i = 0; i < n; i++) acc[i] = s_reg(b, "a", x_float(b, vector(q), i));
  Expr *scale = s_let(b, "m", x_splat(b, x_cast(b, DT_F32, r), q->lanes));   /* not a constant */
  s_for(b, "i", x_idx(b, 0), x_idx(b, STEPS), 1);
  for (int i = 0; i < n; i++) s_set(b, acc[i], x_fma(b, x_var(b, acc[i]), scale, scale));
  s_end(b);
  Expr *e = x_var(b, acc[0]);
  for (int i = 1; i < n; i++) e = x_add(b, e, x_var(b, acc[i]));
  s_store(b, y, x_muli(b, r, q->lanes), e);
  close_kernel(q, 2.0 * (double)(q->chunks * STEPS) * n * q->lanes, 0, (int[]){sums}, 1);
}

Program *probe_program(Ctx *c, int threads) {
  Probe q = {.p = program_new(c->arena, c->target), .lanes = MAXI(1, c->target->lanes), .chunks = (int64_t)CHUNKS * threads};
  int64_t bytes = MINI(MAXI(4 * c->target->l3, INT64_C(64) << 20), INT64_C(256) << 20), unit = q.chunks * q.lanes * 4 * 64;
  int64_t chunk = (bytes + unit - 1) / unit * q.lanes * 64;
  q.p->name = "probe";
  q.p->max_threads = threads;
  int memory = program_add_buffer(q.p, (Buffer){.kind = BUF_ARENA, .name = "memory", .bytes = q.chunks * chunk * 4});
  int sums = program_add_buffer(q.p, (Buffer){.kind = BUF_ARENA, .name = "sums", .bytes = q.chunks * q.lanes * 4});
  fill(&q, memory, chunk);
  read_all(&q, memory, sums, chunk);
  multiply_add(&q, sums);   /* the same buffer: the calls keep their order */
  return passes_run_list_program(q.p, c, "simplify,legalise,dedup,memory") ? q.p : NULL;
}
