/* pool.c: a thread pool for the parallel ranges of kernels.
 *
 * An inference is some hundred short parallel ranges in a row, so the hand-over is what counts: workers watch a counter for some
 * tens of microseconds after each job and sleep on a condition variable only when nothing comes. The partition is static, so the
 * same thread touches the same rows from one range to the next, and results do not depend on timing.
 *
 * Protocol. The caller fills in the job, sets `pending` and increments `job`; a worker that sees a new `job` runs its share and
 * decrements `pending`; the caller returns at zero. A sleeper announces itself before it looks one last time, and the other side looks
 * for sleepers after it has changed the value: with sequentially consistent operations one of the two sees the other, and the
 * signal, sent under the mutex, cannot fall between a sleeper's last look and its wait.
 * Workers watch only when every thread can have a core of its own; otherwise watching would take the core from the one being watched.
 */
#define _GNU_SOURCE
#include "runtime/runtime.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#define SPIN_NS 40000
#define SPIN_LOOPS 64  /* between looks at the clock */

typedef struct {
  Pool *pool;
  int index;
  pthread_t id;
} Worker;

struct Pool {
  int threads;
  bool spin;
  PoolFn *fn;  /* NULL: stop */
  void *ctx;
  int64_t n;
  _Alignas(64) atomic_uint job;
  _Alignas(64) atomic_int pending;
  _Alignas(64) atomic_int sleepers;   /* workers waiting for a job */
  atomic_int caller_sleeps;
  pthread_mutex_t lock;
  pthread_cond_t wake, done;
  Worker *workers;  /* 1 .. threads-1; entry 0 is the caller and unused */
};

static inline void cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__ARM_ARCH) && __ARM_ARCH >= 7)
  __asm__ volatile("yield");
#endif
}

/* floor(t * n / threads) without overflow. */
static int64_t chunk_begin(int64_t n, int t, int threads) {
  return n / threads * t + n % threads * t / threads;
}

static void run_share(const Pool *p, int t) {
  int64_t begin = chunk_begin(p->n, t, p->threads), end = chunk_begin(p->n, t + 1, p->threads);
  if (begin < end) p->fn(p->ctx, begin, end, t);
}

static unsigned wait_for_job(Pool *p, unsigned seen) {
  unsigned job = atomic_load(&p->job);
  if (job != seen) return job;
  for (int64_t stop = p->spin ? time_ns() + SPIN_NS : 0; p->spin && time_ns() < stop;)
    for (int i = 0; i < SPIN_LOOPS; i++) {
      job = atomic_load_explicit(&p->job, memory_order_acquire);
      if (job != seen) return job;
      cpu_relax();
    }
  pthread_mutex_lock(&p->lock);
  atomic_fetch_add(&p->sleepers, 1);
  while ((job = atomic_load(&p->job)) == seen) pthread_cond_wait(&p->wake, &p->lock);
  atomic_fetch_sub(&p->sleepers, 1);
  pthread_mutex_unlock(&p->lock);
  return job;
}

static void *worker_main(void *arg) {
  Worker *w = arg;
  Pool *p = w->pool;
  for (unsigned seen = 0;;) {
    seen = wait_for_job(p, seen);
    if (!p->fn) return NULL;
    run_share(p, w->index);
    if (atomic_fetch_sub(&p->pending, 1) == 1 && atomic_load(&p->caller_sleeps)) {
      pthread_mutex_lock(&p->lock);
      pthread_cond_signal(&p->done);
      pthread_mutex_unlock(&p->lock);
    }
  }
}

static void post_job(Pool *p) {
  atomic_store(&p->pending, p->threads - 1);
  atomic_fetch_add(&p->job, 1);
  if (atomic_load(&p->sleepers)) {
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
  }
}

static void wait_until_done(Pool *p) {
  if (!atomic_load(&p->pending)) return;
  for (int64_t stop = p->spin ? time_ns() + SPIN_NS : 0; p->spin && time_ns() < stop;)
    for (int i = 0; i < SPIN_LOOPS; i++) {
      if (!atomic_load_explicit(&p->pending, memory_order_acquire)) return;
      cpu_relax();
    }
  pthread_mutex_lock(&p->lock);
  atomic_store(&p->caller_sleeps, 1);
  while (atomic_load(&p->pending)) pthread_cond_wait(&p->done, &p->lock);
  atomic_store(&p->caller_sleeps, 0);
  pthread_mutex_unlock(&p->lock);
}

static void pool_destroy(Pool *p) {
  pthread_cond_destroy(&p->done);
  pthread_cond_destroy(&p->wake);
  pthread_mutex_destroy(&p->lock);
  free(p->workers);
  free(p);
}

/* Stops the workers 1 .. count-1. */
static void stop_workers(Pool *p, int count) {
  p->fn = NULL;
  post_job(p);
  for (int t = 1; t < count; t++) pthread_join(p->workers[t].id, NULL);
}

/* Signals are the caller's business: the workers block them all. */
static bool start_workers(Pool *p) {
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int t = 1;
  for (; t < p->threads; t++) {
    p->workers[t] = (Worker){.pool = p, .index = t};
    if (pthread_create(&p->workers[t].id, NULL, worker_main, &p->workers[t])) break;
  }
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  if (t == p->threads) return true;
  stop_workers(p, t);
  return false;
}

Pool *pool_new(int threads) {
  if (threads < 1) return NULL;
  Pool *p;
  void *memory;
  if (posix_memalign(&memory, 64, sizeof *p)) return NULL;
  p = memory;
  *p = (Pool){.threads = threads, .workers = calloc((size_t)threads, sizeof(Worker))};
  p->spin = threads <= cpu_cores();
  atomic_init(&p->job, 0);
  atomic_init(&p->pending, 0);
  atomic_init(&p->sleepers, 0);
  atomic_init(&p->caller_sleeps, 0);
  pthread_mutex_init(&p->lock, NULL);
  pthread_cond_init(&p->wake, NULL);
  pthread_cond_init(&p->done, NULL);
  if (p->workers && start_workers(p)) return p;
  pool_destroy(p);
  return NULL;
}

int pool_threads(const Pool *p) { return p->threads; }

void pool_run(Pool *p, PoolFn *fn, void *ctx, int64_t n) {
  if (n <= 0) return;
  if (n == 1 || p->threads == 1) {
    fn(ctx, 0, n, 0);
    return;
  }
  p->fn = fn;
  p->ctx = ctx;
  p->n = n;
  post_job(p);
  run_share(p, 0);
  wait_until_done(p);
}

void pool_free(Pool *p) {
  if (!p) return;
  stop_workers(p, p->threads);
  pool_destroy(p);
}
