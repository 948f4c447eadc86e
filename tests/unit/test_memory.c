/* The memory plan: passes/memory. Programs are made by hand: kernels without statements, calls that read and write buffers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "passes/passes.h"

typedef struct Plan {
  Arena *a;
  Program *p;
  Ctx c;
} Plan;

static Plan plan_new(int threads) {
  Plan t = {.a = arena_new(NULL)};
  t.p = program_new(t.a, NULL);
  t.p->max_threads = threads;
  t.c = (Ctx){.arena = t.a};
  return t;
}

static int buffer(Plan *t, BufferKind kind, int64_t bytes) { return program_add_buffer(t->p, (Buffer){.kind = kind, .bytes = bytes}); }

typedef struct BufferUse { int buffer; Access access; bool alias; int64_t offset; } BufferUse;

static void call(Plan *t, const BufferUse *use, int n) {
  Kernel *k = kernel_new(t->a, "test");
  Build b;
  build_start(&b, t->a, k);
  Call c = {.kernel = k, .args = NEW_N(t->a, Arg, n)};
  for (int i = 0; i < n; i++) {
    build_param(&b, "p", DT_F32, use[i].access)->may_alias = use[i].alias;
    c.args[i] = (Arg){use[i].buffer, use[i].offset};
  }
  vec_push(t->a, &t->p->kernels, k);
  vec_push(t->a, &t->p->calls, c);
}
#define CALL(t, ...) call((t), (BufferUse[]){__VA_ARGS__}, COUNTOF(((BufferUse[]){__VA_ARGS__})))

static const Buffer *at(const Plan *t, int i) { return &t->p->buffers.at[i]; }

static bool overlap(const Plan *t, int i, int j) {
  const Buffer *a = at(t, i), *b = at(t, j);
  int64_t na = a->kind == BUF_SCRATCH ? a->stride * t->p->max_threads : a->bytes,
          nb = b->kind == BUF_SCRATCH ? b->stride * t->p->max_threads : b->bytes;
  return a->offset < b->offset + nb && b->offset < a->offset + na;
}

/* A chain x -> a -> b -> c -> y needs two of the tensors at a time. */
static void chain(void **state) {
  (void)state;
  Plan t = plan_new(1);
  int x = buffer(&t, BUF_INPUT, 400), a = buffer(&t, BUF_ARENA, 1000), b = buffer(&t, BUF_ARENA, 2000), c = buffer(&t, BUF_ARENA, 1000),
      y = buffer(&t, BUF_OUTPUT, 400);
  CALL(&t, {x, ACCESS_IN, false, 0}, {a, ACCESS_OUT, false, 0});
  CALL(&t, {a, ACCESS_IN, false, 0}, {b, ACCESS_OUT, false, 0});
  CALL(&t, {b, ACCESS_IN, false, 0}, {c, ACCESS_OUT, false, 0});
  CALL(&t, {c, ACCESS_IN, false, 0}, {y, ACCESS_OUT, false, 0});
  assert_true(pass_memory(t.p, &t.c));
  assert_int_equal(t.p->live_bytes, 3000);
  assert_int_equal(t.p->workspace_bytes, 1024 + 2048);   /* 64-byte granules */
  assert_false(overlap(&t, a, b));
  assert_false(overlap(&t, b, c));
  assert_int_equal(at(&t, a)->first, 0);
  assert_int_equal(at(&t, a)->last, 1);
  arena_free(t.a);
}

static void in_place(void **state) {
  (void)state;
  Plan t = plan_new(1);
  int x = buffer(&t, BUF_INPUT, 640), y = buffer(&t, BUF_OUTPUT, 640), v[4];
  for (int i = 0; i < 4; i++) v[i] = buffer(&t, BUF_ARENA, 640);
  CALL(&t, {x, ACCESS_IN, true, 0}, {v[0], ACCESS_OUT, true, 0});      /* not in the input's own memory */
  CALL(&t, {v[0], ACCESS_IN, true, 0}, {v[1], ACCESS_OUT, true, 0});
  CALL(&t, {v[1], ACCESS_IN, true, 0}, {v[2], ACCESS_OUT, true, 0});
  CALL(&t, {v[2], ACCESS_IN, false, 0}, {v[3], ACCESS_OUT, true, 0});  /* not allowed by the kernel */
  CALL(&t, {v[3], ACCESS_IN, true, 0}, {y, ACCESS_OUT, true, 0});
  pass_memory(t.p, &t.c);
  assert_int_equal(at(&t, v[0])->offset, at(&t, v[1])->offset);
  assert_int_equal(at(&t, v[1])->offset, at(&t, v[2])->offset);
  assert_false(overlap(&t, v[2], v[3]));
  assert_int_equal(t.p->workspace_bytes, 1280);
  assert_int_equal(t.p->live_bytes, 1280);
  arena_free(t.a);
}

/* What must keep its memory: an operand read again later, of another size, or twice an argument; one operand for two results. */
static void not_in_place(void **state) {
  (void)state;
  Plan t = plan_new(1);
  int a = buffer(&t, BUF_ARENA, 640), b = buffer(&t, BUF_ARENA, 640), c = buffer(&t, BUF_ARENA, 1280), d = buffer(&t, BUF_ARENA, 1280),
      e = buffer(&t, BUF_ARENA, 1280), f = buffer(&t, BUF_ARENA, 1280), y = buffer(&t, BUF_OUTPUT, 64);
  CALL(&t, {a, ACCESS_OUT, false, 0});
  CALL(&t, {a, ACCESS_IN, true, 0}, {b, ACCESS_OUT, true, 0});
  CALL(&t, {a, ACCESS_IN, true, 0}, {b, ACCESS_IN, true, 0}, {c, ACCESS_OUT, true, 0});
  CALL(&t, {c, ACCESS_IN, true, 0}, {c, ACCESS_IN, false, 0}, {d, ACCESS_OUT, true, 0});
  CALL(&t, {d, ACCESS_IN, true, 0}, {e, ACCESS_OUT, true, 0}, {f, ACCESS_OUT, true, 0});
  CALL(&t, {e, ACCESS_IN, true, 0}, {f, ACCESS_IN, true, 0}, {y, ACCESS_OUT, true, 0});
  pass_memory(t.p, &t.c);
  assert_false(overlap(&t, a, b));
  assert_false(overlap(&t, b, c));
  assert_false(overlap(&t, c, d));
  assert_false(overlap(&t, e, f));
  assert_true(overlap(&t, d, e));   /* the first result may */
  assert_int_equal(t.p->live_bytes, 2560);
  arena_free(t.a);
}

/* Parts written by several calls keep the whole from the first on. */
static void parts(void **state) {
  (void)state;
  Plan t = plan_new(1);
  int a = buffer(&t, BUF_ARENA, 640), b = buffer(&t, BUF_ARENA, 640), c = buffer(&t, BUF_ARENA, 1280), y = buffer(&t, BUF_OUTPUT, 64);
  CALL(&t, {a, ACCESS_OUT, true, 0});
  CALL(&t, {a, ACCESS_IN, true, 0}, {c, ACCESS_OUT, true, 0});
  CALL(&t, {b, ACCESS_OUT, true, 0});
  CALL(&t, {b, ACCESS_IN, true, 0}, {c, ACCESS_OUT, true, 640});
  CALL(&t, {c, ACCESS_IN, true, 0}, {y, ACCESS_OUT, true, 0});
  pass_memory(t.p, &t.c);
  assert_false(overlap(&t, a, c));
  assert_false(overlap(&t, b, c));
  assert_int_equal(t.p->workspace_bytes, 1920);
  arena_free(t.a);
}

static int part(Plan *t, int of, int64_t at, int64_t bytes) { return program_add_part(t->p, of, at, bytes, NULL); }

/* The operands of a concatenation are made in their places; each place is free until then, and what is read last is needed longest. */
static void within(void **state) {
  (void)state;
  Plan t = plan_new(1);
  int w = buffer(&t, BUF_ARENA, 4096), a = part(&t, w, 0, 1024), b = part(&t, w, 1024, 3072), x = buffer(&t, BUF_ARENA, 3072),
      c = part(&t, b, 2048, 1024), y = buffer(&t, BUF_OUTPUT, 64), z = buffer(&t, BUF_ARENA, 3072);
  assert_int_equal(at(&t, c)->whole, w);
  assert_int_equal(at(&t, c)->at, 3072);
  CALL(&t, {a, ACCESS_OUT, false, 0});
  CALL(&t, {x, ACCESS_OUT, false, 0});                                  /* may lie where b will */
  CALL(&t, {x, ACCESS_IN, false, 0}, {y, ACCESS_OUT, false, 0});
  CALL(&t, {b, ACCESS_OUT, false, 0});
  CALL(&t, {w, ACCESS_IN, false, 0}, {y, ACCESS_OUT, false, 0});
  CALL(&t, {z, ACCESS_OUT, false, 0});                                  /* may lie beside c */
  CALL(&t, {z, ACCESS_IN, false, 0}, {c, ACCESS_IN, false, 0}, {y, ACCESS_OUT, false, 0});
  pass_memory(t.p, &t.c);
  assert_int_equal(t.p->live_bytes, 4096);
  assert_int_equal(t.p->workspace_bytes, 4096);
  assert_int_equal(at(&t, b)->offset, at(&t, w)->offset + 1024);
  assert_int_equal(at(&t, c)->offset, at(&t, w)->offset + 3072);
  assert_false(overlap(&t, a, x));
  assert_true(overlap(&t, b, x));
  assert_false(overlap(&t, c, z));
  assert_int_equal(at(&t, a)->first, 0);
  assert_int_equal(at(&t, a)->last, 4);
  assert_int_equal(at(&t, c)->first, 3);
  assert_int_equal(at(&t, c)->last, 6);
  arena_free(t.a);
}

/* A result takes an operand's memory although one of them is part of another buffer; not if both are, or at an odd distance. */
static void within_in_place(void **state) {
  (void)state;
  Plan t = plan_new(1);
  int w = buffer(&t, BUF_ARENA, 2048), a = part(&t, w, 0, 1024), b = part(&t, w, 1024, 1024), x = buffer(&t, BUF_ARENA, 1024),
      v = buffer(&t, BUF_ARENA, 2080), d = part(&t, v, 0, 1024), e = part(&t, v, 1024, 1024), f = part(&t, v, 2048, 32),
      g = buffer(&t, BUF_ARENA, 1024), u = buffer(&t, BUF_ARENA, 64), o = part(&t, u, 16, 32), q = buffer(&t, BUF_ARENA, 32),
      y = buffer(&t, BUF_OUTPUT, 64);
  CALL(&t, {x, ACCESS_OUT, false, 0});
  CALL(&t, {a, ACCESS_OUT, false, 0});
  CALL(&t, {x, ACCESS_IN, true, 0}, {b, ACCESS_OUT, true, 0});          /* x lies where b does */
  CALL(&t, {a, ACCESS_IN, true, 0}, {d, ACCESS_OUT, true, 0});          /* two parts */
  CALL(&t, {b, ACCESS_IN, false, 0}, {e, ACCESS_OUT, false, 0});
  CALL(&t, {e, ACCESS_IN, true, 0}, {g, ACCESS_OUT, true, 0});
  CALL(&t, {f, ACCESS_OUT, false, 0}, {u, ACCESS_OUT, false, 0});
  CALL(&t, {o, ACCESS_IN, true, 0}, {q, ACCESS_OUT, true, 0});          /* would not be aligned */
  CALL(&t, {v, ACCESS_IN, false, 0}, {g, ACCESS_IN, false, 0}, {q, ACCESS_IN, false, 0}, {y, ACCESS_OUT, false, 0});
  pass_memory(t.p, &t.c);
  assert_int_equal(at(&t, x)->offset, at(&t, b)->offset);
  assert_false(overlap(&t, a, d));
  assert_false(overlap(&t, o, q));
  assert_false(overlap(&t, e, g));   /* v is read as a whole later */
  assert_int_equal(t.p->live_bytes, 2080 + 1024 + 64);
  arena_free(t.a);
}

static void scratch(void **state) {
  (void)state;
  Plan t = plan_new(3);
  int a = buffer(&t, BUF_ARENA, 64), s = buffer(&t, BUF_SCRATCH, 100), r = buffer(&t, BUF_SCRATCH, 0), y = buffer(&t, BUF_OUTPUT, 64);
  CALL(&t, {a, ACCESS_OUT, false, 0}, {s, ACCESS_SCRATCH, false, 0}, {r, ACCESS_SCRATCH, false, 0});
  CALL(&t, {a, ACCESS_IN, false, 0}, {y, ACCESS_OUT, false, 0});
  pass_memory(t.p, &t.c);
  assert_int_equal(at(&t, s)->stride, 128);
  assert_int_equal(at(&t, s)->offset % 64, 0);
  assert_false(overlap(&t, a, s));
  assert_int_equal(t.p->workspace_bytes, 64 + 3 * 128);
  arena_free(t.a);
}

static void nothing(void **state) {
  (void)state;
  Plan t = plan_new(1);
  pass_memory(t.p, &t.c);
  assert_int_equal(t.p->workspace_bytes, 0);
  int never = buffer(&t, BUF_ARENA, 64), empty = buffer(&t, BUF_ARENA, 0);
  CALL(&t, {empty, ACCESS_OUT, true, 0});
  pass_memory(t.p, &t.c);
  assert_int_equal(t.p->workspace_bytes, 0);
  assert_int_equal(at(&t, never)->offset, 0);
  arena_free(t.a);
}

static uint32_t random_state;
static int random_below(int n) {
  random_state = random_state * 1664525u + 1013904223u;
  return (int)((random_state >> 8) % (uint32_t)n);
}

/* Tensors made at one call and read at a few later ones. */
static void random_program(Plan *t, int calls, int64_t largest, int reach) {
  int *made = NEW_N(t->a, int, calls);
  for (int i = 0; i < calls; i++) {
    BufferUse use[5];
    int n = 0;
    for (int k = random_below(4); k > 0 && i > 0; k--) {
      int back = 1 + random_below(random_below(8) ? 3 : reach), from = made[MAXI(i - back, 0)];
      bool twice = false;
      for (int j = 0; j < n; j++) twice |= use[j].buffer == from;
      if (!twice) use[n++] = (BufferUse){from, ACCESS_IN, random_below(2), 0};
    }
    made[i] = buffer(t, BUF_ARENA, random_below(12) ? 64 * (1 + random_below((int)(largest / 64))) : random_below(100));
    if (random_below(3) == 0 && n) t->p->buffers.at[made[i]].bytes = at(t, use[0].buffer)->bytes;
    use[n++] = (BufferUse){made[i], ACCESS_OUT, true, 0};
    if (random_below(10) == 0) use[n++] = (BufferUse){buffer(t, BUF_SCRATCH, random_below(5000)), ACCESS_SCRATCH, false, 0};
    call(t, use, n);
  }
}

/* May i and j have the same bytes: not at one time, unless one is the other's in-place result. */
static void check_plan(const Plan *t) {
  for (int i = 0; i < t->p->buffers.n; i++) {
    const Buffer *a = at(t, i);
    assert_int_equal(a->offset % 64, 0);
    for (int j = 0; j < i; j++) {
      const Buffer *b = at(t, j);
      if (a->first < 0 || b->first < 0 || a->first > b->last || b->first > a->last || !a->bytes || !b->bytes || !overlap(t, i, j)) continue;
      assert_int_equal(a->offset, b->offset);
      assert_int_equal(a->bytes, b->bytes);
      assert_true(a->first == b->last || b->first == a->last);
    }
  }
}

static void random_lifetimes(void **state) {
  (void)state;
  double worst = 1, sum = 0;
  for (int seed = 1; seed <= 24; seed++) {
    random_state = (uint32_t)seed * 7919u;
    Plan t = plan_new(1 + seed % 3);
    random_program(&t, 20 + 12 * seed, 1 << 16, 40);
    pass_memory(t.p, &t.c);
    check_plan(&t);
    assert_true(t.p->workspace_bytes >= t.p->live_bytes);
    double ratio = (double)t.p->workspace_bytes / (double)t.p->live_bytes;
    worst = MAXI(worst, ratio);
    sum += ratio;
    int64_t *offsets = NEW_N(t.a, int64_t, t.p->buffers.n), bytes = t.p->workspace_bytes;
    for (int i = 0; i < t.p->buffers.n; i++) offsets[i] = at(&t, i)->offset;
    if (seed % 6 == 0) pass_memory(t.p, &t.c);   /* the same again */
    assert_int_equal(t.p->workspace_bytes, bytes);
    for (int i = 0; i < t.p->buffers.n; i++) assert_int_equal(at(&t, i)->offset, offsets[i]);
    arena_free(t.a);
  }
  print_message("workspace / live: mean %.4f, worst %.4f\n", sum / 24, worst);
  assert_true(sum / 24 < 1.03);
  assert_true(worst < 1.15);
}

static void thousands(void **state) {
  (void)state;
  random_state = 5;
  Plan t = plan_new(4);
  random_program(&t, 5000, 1 << 20, 300);
  clock_t start = clock();
  pass_memory(t.p, &t.c);
  double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
  print_message("5000 calls: %.2f s, workspace / live %.4f\n", seconds, (double)t.p->workspace_bytes / (double)t.p->live_bytes);
  assert_true(seconds < 20);   /* with every sanitizer on; some tenths of a second without */
  arena_free(t.a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(chain),   cmocka_unit_test(in_place), cmocka_unit_test(not_in_place),     cmocka_unit_test(parts),
      cmocka_unit_test(within),  cmocka_unit_test(within_in_place), cmocka_unit_test(scratch), cmocka_unit_test(nothing),
      cmocka_unit_test(random_lifetimes), cmocka_unit_test(thousands),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
