/* The thread pool: the partition, visibility of results, sleeping and waking, many pools. Run under ThreadSanitizer by the preset `thread`. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "runtime/runtime.h"

#define MAX_N 1000

typedef struct {
  int64_t n;
  int touched[MAX_N], by[MAX_N];  /* plain: a lost hand-over is a data race a sanitizer sees */
} Record;

static void mark(void *ctx, int64_t begin, int64_t end, int thread) {
  Record *r = ctx;
  for (int64_t i = begin; i < end; i++) {
    r->touched[i]++;
    r->by[i] = thread;
  }
}

static void partition(void **state) {
  (void)state;
  static const int threads[] = {1, 2, 3, 4, 7, 16};
  static const int64_t sizes[] = {0, 1, 2, 3, 5, 7, 8, 16, 17, 100, 1000};
  for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
    int t = threads[i];
    Pool *p = pool_new(t);
    assert_non_null(p);
    assert_int_equal(pool_threads(p), t);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
      Record r = {.n = sizes[k]};
      pool_run(p, mark, &r, r.n);
      for (int64_t j = 0; j < r.n; j++) {
        assert_int_equal(r.touched[j], 1);
        assert_in_range(r.by[j], 0, (r.n == 1 ? 1 : t) - 1);
      }
    }
    pool_free(p);
  }
}

typedef struct { int64_t covered[8], largest[8]; } Big;

static void cover(void *ctx, int64_t begin, int64_t end, int thread) {
  Big *b = ctx;
  b->covered[thread] += end - begin;
  if (b->largest[thread] < end - begin) b->largest[thread] = end - begin;
}

static void huge_range_does_not_overflow(void **state) {
  (void)state;
  Pool *p = pool_new(3);
  Big b = {{0}, {0}};
  pool_run(p, cover, &b, INT64_MAX);
  assert_true(b.covered[0] + b.covered[1] + b.covered[2] == INT64_MAX);
  for (int t = 0; t < 3; t++) assert_true(b.largest[t] <= INT64_MAX / 3 + 1);
  pool_free(p);
}

static void add(void *ctx, int64_t begin, int64_t end, int thread) {
  (void)thread;
  int64_t *sums = ctx;
  for (int64_t i = begin; i < end; i++) sums[i] += i + 1;
}

/* Back to back, every job reads what the one before wrote, by whichever thread. */
static void rotate(void *ctx, int64_t begin, int64_t end, int thread) {
  (void)thread;
  int64_t *v = ctx;
  int64_t from = v[200] ? 0 : 100, to = 100 - from;
  for (int64_t i = begin; i < end; i++) v[to + i] = v[from + (i + 37) % 100] + 1;
}

static void back_to_back(void **state) {
  (void)state;
  for (int threads = 2; threads <= 5; threads++) {
    Pool *p = pool_new(threads);
    int64_t sums[64] = {0}, v[201] = {0};
    for (int run = 0; run < 3000; run++) pool_run(p, add, sums, 64);
    for (int i = 0; i < 64; i++) assert_int_equal(sums[i], 3000 * (i + 1));
    for (int run = 0; run < 1000; run++) {
      v[200] = !v[200];
      pool_run(p, rotate, v, 100);
    }
    for (int i = 0; i < 100; i++) assert_int_equal(v[i], 1000);
    pool_free(p);
  }
}

static void nap(long us) { nanosleep(&(struct timespec){0, us * 1000}, NULL); }

/* Pauses around the time workers give up watching: the moment a wake-up could be lost. */
static void sleeping_workers_wake(void **state) {
  (void)state;
  Pool *p = pool_new(2);
  int64_t sums[64] = {0};
  for (int run = 0; run < 400; run++) {
    pool_run(p, add, sums, 64);
    nap(run % 8 * 10);
  }
  for (int i = 0; i < 64; i++) assert_int_equal(sums[i], 400 * (i + 1));
  pool_free(p);
}

/* The first piece any worker takes lasts until the caller has done all others: it must not wait with them for that worker. */
typedef struct { atomic_int held, done; } Held;

static void hold_worker(void *ctx, int64_t begin, int64_t end, int thread) {
  Held *h = ctx;
  if (thread && !atomic_exchange(&h->held, 1))
    while (atomic_load(&h->done) < 100 - (int)(end - begin)) nap(10);
  atomic_fetch_add(&h->done, (int)(end - begin));
}

static void others_work_is_taken(void **state) {
  (void)state;
  Pool *p = pool_new(2);
  for (int run = 0; run < 50; run++) {
    Held h = {0, 0};
    pool_run(p, hold_worker, &h, 100);
    assert_int_equal(atomic_load(&h.done), 100);
  }
  pool_free(p);
}

static void slow_second(void *ctx, int64_t begin, int64_t end, int thread) {
  (void)end;
  if (thread) nap(2000);
  ((int *)ctx)[begin] = 1;
}

static void sleeping_caller_wakes(void **state) {
  (void)state;
  Pool *p = pool_new(2);
  for (int run = 0; run < 20; run++) {
    int done[2] = {0};
    pool_run(p, slow_second, done, 2);
    assert_true(done[0] && done[1]);
  }
  pool_free(p);
}

static double cpu_seconds(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static void idle_pool_costs_nothing(void **state) {
  (void)state;
  Pool *p = pool_new(4);
  int64_t sums[64] = {0};
  pool_run(p, add, sums, 64);
  double before = cpu_seconds();
  nap(200000);
  assert_true(cpu_seconds() - before < 0.05);
  pool_free(p);
}

static void *own_pool(void *arg) {
  (void)arg;
  Pool *p = pool_new(3);
  int64_t *sums = calloc(64, sizeof *sums);
  for (int run = 0; run < 300; run++) pool_run(p, add, sums, 64);
  pool_free(p);
  return sums;
}

static void pools_are_independent(void **state) {
  (void)state;
  pthread_t ids[3];
  for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&ids[i], NULL, own_pool, NULL), 0);
  for (int i = 0; i < 3; i++) {
    void *result;
    pthread_join(ids[i], &result);
    for (int k = 0; k < 64; k++) assert_int_equal(((int64_t *)result)[k], 300 * (k + 1));
    free(result);
  }
}

static void edges(void **state) {
  (void)state;
  assert_null(pool_new(0));
  assert_null(pool_new(-3));
  pool_free(NULL);
  for (int i = 0; i < 50; i++) pool_free(pool_new(3));  /* stopped before the workers have looked once */
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(partition),           cmocka_unit_test(huge_range_does_not_overflow),
    cmocka_unit_test(back_to_back),        cmocka_unit_test(sleeping_workers_wake),
    cmocka_unit_test(others_work_is_taken), cmocka_unit_test(sleeping_caller_wakes), cmocka_unit_test(idle_pool_costs_nothing),
    cmocka_unit_test(pools_are_independent), cmocka_unit_test(edges),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
