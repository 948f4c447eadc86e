/* Chains of maximum pools, merged by pool_chain, against the same chain lowered plainly: bit for bit, infinities and NaN included. Seeded: sizes
 * 1 to 20, kernels of 1 to 5, strides of 1 to 3, any pads, ceil mode, two and three pools, channels that fill vectors or do not, two images;
 * and along one axis, every pair of pools of those sizes, by what each result sees. */
#include "op_test.h"

typedef struct Pool { int k[2], s[2], pad[4], out[2]; bool ceil; } Pool;
typedef struct Chain { int n, c, in[2], pools; Pool pool[3]; } Chain;

static uint32_t seed;
static int pick(int lo, int hi) { return lo + (int)(op_random(&seed) % (uint32_t)(hi - lo + 1)); }

/* ---- making chains ---- */

static bool random_pool(Pool *p, const int *in) {
  static const int kernels[] = {1, 2, 3, 3, 3, 5};
  p->ceil = !pick(0, 3);
  for (int d = 0; d < 2; d++) {
    p->k[d] = kernels[pick(0, COUNTOF(kernels) - 1)];
    p->s[d] = pick(1, 3);
    p->pad[d] = pick(0, p->k[d] - 1);
    p->pad[d + 2] = pick(0, p->k[d] - 1);
    if (pick(0, 1)) p->k[d] = 3, p->s[d] = 2, p->pad[d] = p->pad[d + 2] = 1;
    p->out[d] = (int)window_extent(in[d], p->k[d], p->s[d], p->pad[d], p->pad[d + 2], 1, p->ceil);
    if (p->out[d] < 1) return false;
  }
  return true;
}

static bool random_chain(Chain *c) {
  static const int channels[] = {2, 3, 5, 16, 20, 41, 83};
  *c = (Chain){.n = pick(1, 2), .c = channels[pick(0, COUNTOF(channels) - 1)], .in = {pick(1, 20), pick(1, 20)}, .pools = pick(2, 3)};
  for (int i = 0; i < c->pools; i++)
    if (!random_pool(&c->pool[i], i ? c->pool[i - 1].out : c->in)) return false;
  return true;
}

static const char *chain_text(const Chain *c, int lanes) {
  static char s[3000];
  int n = snprintf(s, sizeof s, "graph \"t\" { input %%x: f32[%d,%d,%d,%d] %%p0: f32[%d,%d,%d,%d]{c%d} = Reorder(%%x)\n", c->n, c->c, c->in[0], c->in[1],
                   c->n, c->c, c->in[0], c->in[1], lanes);
  for (int i = 0; i < c->pools; i++) {
    const Pool *p = &c->pool[i];
    n += snprintf(s + n, sizeof s - (size_t)n, "  %%p%d: f32[%d,%d,%d,%d]{c%d} = MaxPool(%%p%d) {kernel=[%d,%d], strides=[%d,%d], pads=[%d,%d,%d,%d], "
                  "dilations=[1,1], ceil_mode=%s}\n", i + 1, c->n, c->c, p->out[0], p->out[1], lanes, i, p->k[0], p->k[1], p->s[0], p->s[1], p->pad[0],
                  p->pad[1], p->pad[2], p->pad[3], p->ceil ? "true" : "false");
  }
  snprintf(s + n, sizeof s - (size_t)n, "  %%y = Reorder(%%p%d) output %%y }", c->pools);
  return s;
}

/* ---- running them ---- */

typedef int (*CheckFn)(OpRun *r, const Chain *c, int lanes, int threads);

static int in_run(CheckFn check, const Chain *c, int lanes, int threads) {
  OpRun r = {.diag = spinec_diagnostics_new()};
  volatile int merged = 0;
  if (FAIL_ARM(&r.fail, r.diag)) merged = check(&r, c, lanes, threads);
  else fail_msg("left through Fail: %s", op_message(r.diag));
  op_close(&r);
  return merged;
}

static Ctx context(OpRun *r, const Target *t, const spinec_compile_options *o) {
  return (Ctx){.arena = r->arena, .diag = r->diag, .target = t, .opt = o, .eval = interp_eval};
}

static float *run(OpRun *r, Graph *g, Ctx *c, const float *x, int threads) {
  Program *p = lower_graph(g, c);
  assert_non_null(p);
  pass_memory(p, c);
  float *y = arena_alloc(r->arena, (size_t)shape_count(&p->outputs.at[0].shape) * 4);
  Runner *runner = interp_open(p, threads, r->diag);
  if (!runner || runner->run(runner, (const void *[]){x}, (void *[]){y}, r->diag) != SPINEC_OK) fail_msg("%s", op_message(r->diag));
  else runner->close(runner);
  return y;
}

static int count_pools(const Graph *g) {
  int n = 0;
  for (const Node *p = g->first; p; p = p->next) n += p->op == OP_MaxPool;
  return n;
}

/* How many pools were merged. */
static int check_chain(OpRun *r, const Chain *c, int lanes, int threads) {
  Target t = *target_find(lanes == 4 ? "generic" : lanes == 8 ? "x86-64-v3" : "x86-64-v4");
  const char *text = chain_text(c, lanes);
  r->arena = arena_new(&r->fail);
  Graph *g = graph_parse(r->arena, r->diag, "test", text);
  if (!g) fail_msg("%s\n%s", op_message(r->diag), text);
  int64_t n = value_count(g->inputs.at[0]);
  float *x = arena_alloc(r->arena, (size_t)n * 4);
  op_fill_f32(x, n, seed);
  for (int64_t i = 0; i < n; i++)
    if (pick(0, 9) == 0) x[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY;
  spinec_compile_options plain = {.opt_level = 0, .max_threads = 1}, fast = {.opt_level = 2, .max_threads = threads};
  Ctx c0 = context(r, &t, &plain), c2 = context(r, &t, &fast);
  Graph *copy = graph_clone(g, r->arena, r->diag);
  graph_compact(copy);
  float *want = run(r, copy, &c0, x, 1);
  assert_true(passes_run_list(g, &c2, "pool_chain"));
  graph_compact(g);
  const char *wrong = graph_verify(g, r->arena);
  if (wrong) fail_msg("%s\n%s", wrong, text);
  int64_t out = value_count(g->outputs.at[0]);
  if (memcmp(run(r, g, &c2, x, threads), want, (size_t)out * 4)) fail_msg("%d lanes, %d threads: other results\n%s", lanes, threads, text);
  return c->pools - count_pools(g);
}

static void random_chains(void **state) {
  (void)state;
  const char *more = getenv("SPINEC_RANDOM_GRAPHS");
  int wanted = more ? atoi(more) : 1500, merged = 0;
  seed = 17;
  for (int i = 0; i < wanted;) {
    Chain c;
    if (!random_chain(&c)) continue;
    merged += in_run(check_chain, &c, 4 << i % 3, 1 + i % 4);
    i++;
  }
  assert_true(merged > wanted / 3);
}

/* ---- what is seen, along one axis ---- */

/* The elements of `in` that result o of one pool sees, as bits. */
static uint32_t seen(int in, int o, int k, int s, int pad) {
  uint32_t bits = 0;
  for (int i = o * s - pad; i < o * s - pad + k; i++)
    if (i >= 0 && i < in) bits |= 1u << i;
  return bits;
}

static bool same_sets(const Chain *c, const PoolAttr *m) {
  const Pool *a = &c->pool[0], *b = &c->pool[1];
  for (int o = 0; o < b->out[1]; o++) {
    uint32_t through = 0, mid = seen(a->out[1], o, b->k[1], b->s[1], b->pad[1]);
    for (int i = 0; i < a->out[1]; i++)
      if (mid >> i & 1) through |= seen(c->in[1], i, a->k[1], a->s[1], a->pad[1]);
    if (through != seen(c->in[1], o, (int)m->kernel.v[1], (int)m->strides.v[1], (int)m->pads.v[1])) return false;
  }
  return true;
}

/* Whether the pair was merged; if so, into the same sets. */
static int check_pair(OpRun *r, const Chain *c, int lanes, int threads) {
  const char *text = chain_text(c, lanes);
  r->arena = arena_new(&r->fail);
  Graph *g = graph_parse(r->arena, r->diag, "test", text);
  if (!g) fail_msg("%s\n%s", op_message(r->diag), text);
  spinec_compile_options o = {.opt_level = 2, .max_threads = threads};
  Ctx ctx = context(r, target_find("generic"), &o);
  assert_true(passes_run_list(g, &ctx, "pool_chain"));
  const Node *p = g->outputs.at[0]->def->in[0]->def;
  bool merged = count_pools(g) == 1;
  if (merged && !same_sets(c, p->attr)) fail_msg("other elements are seen:\n%s", text);
  if (graph_verify(g, r->arena)) fail_msg("%s\n%s", graph_verify(g, r->arena), text);
  return merged;
}

static bool axis_pool(Pool *p, int in, int k, int s, int pad, int pad_end, bool ceil) {
  *p = (Pool){.k = {1, k}, .s = {1, s}, .pad = {0, pad, 0, pad_end}, .ceil = ceil};
  p->out[0] = 1;
  p->out[1] = (int)window_extent(in, k, s, pad, pad_end, 1, ceil);
  return p->out[1] > 0;
}

/* All pads in front of the two; of those behind, other ones for each size. */
static void try_pads(int in, const int *k, const int *s, int ceil, int64_t *tried, int64_t *merged) {
  for (int pads = 0; pads < k[0] * k[1]; pads++) {
    Chain c = {.n = 1, .c = 4, .in = {1, in}, .pools = 2};
    int n = in + pads + ceil;
    if (!axis_pool(&c.pool[0], in, k[0], s[0], pads % k[0], n % k[0], ceil & 1)) continue;
    if (!axis_pool(&c.pool[1], c.pool[0].out[1], k[1], s[1], pads / k[0], n / 2 % k[1], ceil >> 1)) continue;
    *merged += in_run(check_pair, &c, 4, 1);
    ++*tried;
  }
}

static void pairs(void **state) {
  (void)state;
  static const int kernels[] = {2, 3, 5};
  int64_t tried = 0, merged = 0;
  for (int in = 1; in <= 20; in++)
    for (int i = 0; i < 81; i++)
      for (int ceil = 0; ceil < 4; ceil++)
        try_pads(in, (int[]){kernels[i % 3], kernels[i / 3 % 3]}, (int[]){1 + i / 9 % 3, 1 + i / 27}, ceil, &tried, &merged);
  printf("%lld of %lld pairs merged\n", (long long)merged, (long long)tried);
  assert_true(merged > tried / 10 && merged < tried);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(random_chains), cmocka_unit_test(pairs)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
