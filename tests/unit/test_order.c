/* The order of calls (passes/memory/order.c): never worse than the one given, the best there is on programs small enough to try all, the
 * same calls reading what they read before. Programs are made by hand: kernels without statements. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <time.h>

#include "passes/memory/memory.h"

typedef struct Net {
  Arena *a;
  Program *p;
  Ctx c;
} Net;

static Net net_new(void) {
  Net t = {.a = arena_new(NULL)};
  t.p = program_new(t.a, NULL);
  t.c = (Ctx){.arena = t.a};
  return t;
}

static int buffer(Net *t, BufferKind kind, int64_t bytes) { return program_add_buffer(t->p, (Buffer){.kind = kind, .bytes = bytes}); }

typedef struct BufferUse { int buffer; Access access; bool alias; } BufferUse;

static void call(Net *t, const BufferUse *use, int n) {
  Kernel *k = kernel_new(t->a, "test");
  Build b;
  build_start(&b, t->a, k);
  Call c = {.kernel = k, .args = NEW_N(t->a, Arg, n), .onnx_op = arena_printf(t->a, "%d", t->p->calls.n)};
  for (int i = 0; i < n; i++) {
    build_param(&b, "p", DT_F32, use[i].access)->may_alias = use[i].alias;
    c.args[i] = (Arg){use[i].buffer, 0};
  }
  vec_push(t->a, &t->p->kernels, k);
  vec_push(t->a, &t->p->calls, c);
}
#define CALL(t, ...) call((t), (BufferUse[]){__VA_ARGS__}, COUNTOF(((BufferUse[]){__VA_ARGS__})))
#define IN(b) {b, ACCESS_IN, false}
#define OUT(b) {b, ACCESS_OUT, false}

static int number(const Call *c) {
  int n = 0;
  for (const char *s = c->onnx_op; *s; s++) n = 10 * n + (*s - '0');
  return n;
}

static bool writes(const Call *c, int j) { return c->kernel->params.at[j]->access == ACCESS_OUT || c->kernel->params.at[j]->access == ACCESS_INOUT; }

/* ---- memory, counted another way: byte by granule, from who touches it ---- */

enum { GRANULE = 64, CALLS = 8, GRANULES = 4096 };

static int64_t live_of(const Program *p, const int *order) {
  static int first[GRANULES], last[GRANULES], start[64];
  int n = 0, calls = p->calls.n;
  int64_t most = 0;
  for (int b = 0; b < p->buffers.n; b++) {
    const Buffer *x = &p->buffers.at[b];
    if (x->part) continue;
    start[b] = n;
    n += (int)(x->bytes / GRANULE);
  }
  for (int b = 0; b < p->buffers.n; b++)
    if (p->buffers.at[b].part) start[b] = start[p->buffers.at[b].whole] + (int)(p->buffers.at[b].at / GRANULE);
  assert_true(n <= GRANULES);
  for (int g = 0; g < n; g++) first[g] = -1;
  for (int t = 0; t < calls; t++) {
    const Call *c = &p->calls.at[order[t]];
    for (int j = 0; j < c->kernel->params.n; j++) {
      const Buffer *x = &p->buffers.at[c->args[j].buffer];
      for (int g = start[c->args[j].buffer]; g < start[c->args[j].buffer] + x->bytes / GRANULE && x->kind != BUF_OUTPUT; g++) {
        if (first[g] < 0) first[g] = t;
        last[g] = t;
      }
    }
  }
  for (int t = 0; t < calls; t++) {
    int64_t live = 0;
    for (int g = 0; g < n; g++) live += first[g] >= 0 && first[g] <= t && t <= last[g] ? GRANULE : 0;
    /* One pair of the call's may share: they have one operand that may, at most. */
    const Call *c = &p->calls.at[order[t]];
    for (int i = 0; i < c->kernel->params.n; i++) {
      for (int o = 0; o < c->kernel->params.n; o++) {
        int x = c->args[i].buffer, y = c->args[o].buffer, bytes = (int)p->buffers.at[x].bytes;
        if (!c->kernel->params.at[i]->may_alias || !c->kernel->params.at[o]->may_alias || writes(c, i) || !writes(c, o)) continue;
        bool turn = p->buffers.at[y].bytes == bytes && p->buffers.at[y].kind == BUF_ARENA && !(p->buffers.at[x].part && p->buffers.at[y].part);
        for (int g = 0; g < bytes / GRANULE && turn; g++) turn = last[start[x] + g] == t && first[start[y] + g] == t;
        if (turn) live -= bytes;
      }
    }
    most = MAXI(most, live);
  }
  return most;
}

/* ---- all orders ---- */

typedef struct All { const Program *p; int n, order[CALLS]; bool must[CALLS][CALLS], done[CALLS]; int64_t best; } All;

static bool conflict(const Program *p, int s, int t) {   /* touch the same bytes, and one writes */
  const Call *c = &p->calls.at[s], *d = &p->calls.at[t];
  for (int i = 0; i < c->kernel->params.n; i++) {
    for (int j = 0; j < d->kernel->params.n; j++) {
      const Buffer *x = &p->buffers.at[c->args[i].buffer], *y = &p->buffers.at[d->args[j].buffer];
      int xw = x->part ? x->whole : c->args[i].buffer, yw = y->part ? y->whole : d->args[j].buffer;
      if (xw == yw && x->at < y->at + y->bytes && y->at < x->at + x->bytes && (writes(c, i) || writes(d, j))) return true;
    }
  }
  return false;
}

static void try_all(All *a, int k) {
  if (k == a->n) {
    int64_t live = live_of(a->p, a->order);
    if (a->best < 0 || live < a->best) a->best = live;
    return;
  }
  for (int t = 0; t < a->n; t++) {
    bool ready = !a->done[t];
    for (int s = 0; s < a->n && ready; s++) ready = a->done[s] || !a->must[s][t];
    if (!ready) continue;
    a->done[t] = true;
    a->order[k] = t;
    try_all(a, k + 1);
    a->done[t] = false;
  }
}

static All all_of(const Program *p) {
  All a = {.p = p, .n = p->calls.n, .best = -1};
  for (int s = 0; s < a.n; s++)
    for (int t = s + 1; t < a.n; t++) a.must[s][t] = conflict(p, s, t);
  return a;
}

/* ---- random programs ---- */

static uint32_t random_state;
static int random_below(int n) {
  random_state = random_state * 1664525u + 1013904223u;
  return (int)((random_state >> 8) % (uint32_t)n);
}

/* Calls that read a few tensors made before and make one or two, some of them parts of one, some where an operand was. */
static void random_net(Net *t, int calls, int reach, bool parts) {
  int *made = NEW_N(t->a, int, 2 * (size_t)calls), n = 0, whole = -1;
  int64_t free_from = 0;
  for (int i = 0; i < calls; i++) {
    BufferUse use[8];
    int k = 0;
    for (int r = 1 + random_below(3); r > 0 && n; r--) {
      int back = random_below(reach), from = made[MAXI(0, n - 1 - back)];
      bool twice = false, alias = k == 0 && random_below(2);
      for (int j = 0; j < k; j++) twice |= use[j].buffer == from;
      if (!twice) use[k++] = (BufferUse){from, ACCESS_IN, alias};
    }
    int64_t bytes = GRANULE * (1 + random_below(random_below(3) ? 4 : 40));
    if (k && use[0].alias && random_below(2)) bytes = t->p->buffers.at[use[0].buffer].bytes;
    if (parts && whole < 0 && random_below(3) == 0) {
      whole = buffer(t, BUF_ARENA, 60 * GRANULE);
      free_from = 0;
    }
    if (whole >= 0 && random_below(2) && free_from + bytes <= 60 * GRANULE) {
      made[n++] = program_add_part(t->p, whole, free_from, bytes, NULL);
      free_from += bytes;
    } else {
      made[n++] = buffer(t, BUF_ARENA, bytes);
    }
    bool alias = k && use[0].alias;
    use[k++] = (BufferUse){made[n - 1], ACCESS_OUT, alias};
    if (random_below(6) == 0) use[k++] = (BufferUse){buffer(t, BUF_SCRATCH, GRANULE * (1 + random_below(30))), ACCESS_SCRATCH, false};
    call(t, use, k);
  }
}

/* Every call still reads what the same calls wrote before. */
static void check_order(const Program *p, const All *given) {
  int at[CALLS];
  for (int i = 0; i < p->calls.n; i++) at[number(&p->calls.at[i])] = i;
  for (int s = 0; s < given->n; s++)
    for (int t = 0; t < given->n; t++)
      if (given->must[s][t]) assert_true(at[s] < at[t]);
}

static void best_of_all(void **state) {
  (void)state;
  int better = 0;
  for (int seed = 1; seed <= 400; seed++) {
    random_state = (uint32_t)seed * 7919u;
    Net t = net_new();
    random_net(&t, CALLS - seed % 2, 2 + seed % 5, seed % 3 == 0);
    All a = all_of(t.p);
    int order[CALLS];
    for (int i = 0; i < a.n; i++) order[i] = i;
    int64_t given = live_of(t.p, order);
    try_all(&a, 0);
    pass_order(t.p, &t.c);
    check_order(t.p, &a);
    int64_t found = live_of(t.p, order);   /* of the calls as they stand now */
    assert_int_equal(found, a.best);
    assert_int_equal(t.p->given_live_bytes, given);
    better += found < given;
    pass_memory(t.p, &t.c);
    assert_int_equal(t.p->live_bytes, found);
    arena_free(t.a);
  }
  print_message("%d of 400 orders were improved\n", better);
  assert_true(better > 40);
}

/* ---- by hand ---- */

static void expect_order(const Net *t, const char *what) {
  Text s = {.a = t->a};
  for (int i = 0; i < t->p->calls.n; i++) text_addf(&s, "%d", number(&t->p->calls.at[i]));
  assert_string_equal(s.s, what);
}

/* Two branches from one tensor into one: finish the one before the other begins. */
static void branches(void **state) {
  (void)state;
  Net t = net_new();
  int x = buffer(&t, BUF_ARENA, 640), a = buffer(&t, BUF_ARENA, 6400), b = buffer(&t, BUF_ARENA, 6400), c = buffer(&t, BUF_ARENA, 64),
      d = buffer(&t, BUF_ARENA, 64), y = buffer(&t, BUF_OUTPUT, 64);
  CALL(&t, OUT(x));
  CALL(&t, IN(x), OUT(a));
  CALL(&t, IN(x), OUT(b));
  CALL(&t, IN(a), OUT(c));
  CALL(&t, IN(b), OUT(d));
  CALL(&t, IN(c), IN(d), OUT(y));
  assert_true(pass_order(t.p, &t.c));
  expect_order(&t, "013245");
  assert_int_equal(t.p->given_live_bytes, 640 + 2 * 6400);
  pass_memory(t.p, &t.c);
  assert_int_equal(t.p->live_bytes, 640 + 6400 + 64);
  assert_false(pass_order(t.p, &t.c));   /* it is as good as it gets */
  arena_free(t.a);
}

/* As given where that is as good, even if calls could change places. */
static void given(void **state) {
  (void)state;
  Net t = net_new();
  int x = buffer(&t, BUF_ARENA, 640), a = buffer(&t, BUF_ARENA, 640), b = buffer(&t, BUF_ARENA, 64), y = buffer(&t, BUF_OUTPUT, 64);
  CALL(&t, OUT(b));
  CALL(&t, OUT(x));
  CALL(&t, OUT(a));
  CALL(&t, IN(x), IN(a), IN(b), OUT(y));
  assert_false(pass_order(t.p, &t.c));
  expect_order(&t, "0123");
  arena_free(t.a);
}

/* What a call writes again waits for those who read what was there. */
static void rewritten(void **state) {
  (void)state;
  Net t = net_new();
  int x = buffer(&t, BUF_ARENA, 640), a = buffer(&t, BUF_ARENA, 6400), b = buffer(&t, BUF_ARENA, 640), y = buffer(&t, BUF_OUTPUT, 64);
  CALL(&t, OUT(x));
  CALL(&t, OUT(a));
  CALL(&t, IN(x), OUT(b));
  CALL(&t, IN(b), OUT(x));
  CALL(&t, {x, ACCESS_INOUT, false}, IN(b));
  CALL(&t, IN(x), IN(a), OUT(y));
  pass_order(t.p, &t.c);
  expect_order(&t, "023415");
  arena_free(t.a);
}

/* Many calls are ordered in little time, and no worse than given. */
static void large(void **state) {
  (void)state;
  for (int seed = 1; seed <= 6; seed++) {
    random_state = (uint32_t)seed * 31u;
    Net t = net_new();
    random_net(&t, 200 * seed, seed < 4 ? 12 : 60, true);
    clock_t start = clock();
    pass_order(t.p, &t.c);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    pass_memory(t.p, &t.c);
    print_message("%d calls: %.3f s, %.3f of the peak given\n", t.p->calls.n, seconds, (double)t.p->live_bytes / (double)t.p->given_live_bytes);
    assert_true(t.p->live_bytes <= t.p->given_live_bytes);
    assert_true(seconds < 30);   /* with every sanitizer on */
    arena_free(t.a);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(branches), cmocka_unit_test(given), cmocka_unit_test(rewritten), cmocka_unit_test(best_of_all), cmocka_unit_test(large),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
