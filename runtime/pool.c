/* pool.c: a thread pool for the parallel ranges of kernels.
 *
 * An inference is some hundred short parallel ranges in a row, so the hand-over is what counts: workers watch a counter for some
 * tens of microseconds after each job and sleep on a condition variable only when nothing comes. Every thread has a share of the range,
 * the same from one range to the next, so it touches the same rows. A share is cut into pieces, and who is done with his own takes of the
 * others': a thread that has lost its core to another program holds up nobody but for the piece it is in, and if it has not begun, the
 * others do all the work. What a piece is does not depend on who takes it, and so results do not either.
 *
 * Protocol. A cursor per share says which piece is next, together with the number of the job, so that a thread that comes late cannot
 * take a piece of a job it has not read. The caller closes all cursors under the new number, writes the job, opens the cursors, and
 * increments `job`; it returns when no piece is `pending`. A piece that was taken belongs to the job as it was read: until it is done the
 * caller cannot begin another, and if it had begun one before the job was read, taking would have failed.
 * A sleeper announces itself before it looks one last time, and the other side looks for sleepers after it has changed the value: with
 * sequentially consistent operations one of the two sees the other, and the signal, sent under the mutex, cannot fall between a sleeper's
 * last look and its wait.
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
#define PIECES 4       /* at most, of a share */
#define CLOSED 0xffffffffu

typedef struct {
  Pool *pool;
  int index;
  pthread_t id;
} Worker;

typedef struct { _Alignas(64) atomic_uint_least64_t at; } Cursor;   /* job << 32 | next piece */

struct Pool {
  int threads;
  bool spin;
  PoolFn *_Atomic fn;  /* NULL: stop */
  void *_Atomic ctx;
  atomic_int_least64_t n;
  Cursor *cursor;      /* of each share */
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

typedef struct { PoolFn *fn; void *ctx; int64_t n; unsigned number; } Job;

static Job read_job(Pool *p, unsigned number) { return (Job){atomic_load(&p->fn), atomic_load(&p->ctx), atomic_load(&p->n), number}; }

/* The pieces of a share of a range of n. */
static int64_t pieces_of(int64_t n, int share, int threads) {
  int64_t size = chunk_begin(n, share + 1, threads) - chunk_begin(n, share, threads);
  return size < PIECES ? size : PIECES;
}

static bool take(Pool *p, const Job *j, int share, int64_t pieces, int64_t *piece) {
  uint_least64_t at = atomic_load(&p->cursor[share].at);
  do {
    if (at >> 32 != j->number || (at & CLOSED) >= (uint64_t)pieces) return false;
  } while (!atomic_compare_exchange_weak(&p->cursor[share].at, &at, at + 1));
  *piece = (int64_t)(at & CLOSED);
  return true;
}

static void finish_piece(Pool *p) {
  if (atomic_fetch_sub(&p->pending, 1) != 1 || !atomic_load(&p->caller_sleeps)) return;
  pthread_mutex_lock(&p->lock);
  pthread_cond_signal(&p->done);
  pthread_mutex_unlock(&p->lock);
}

/* The own share first, then what is left of the others'. */
static void work_on(Pool *p, const Job *j, int thread) {
  for (int i = 0; i < p->threads; i++) {
    int share = (thread + i) % p->threads;
    int64_t begin = chunk_begin(j->n, share, p->threads), size = chunk_begin(j->n, share + 1, p->threads) - begin;
    int64_t pieces = pieces_of(j->n, share, p->threads), k;
    while (take(p, j, share, pieces, &k)) {
      j->fn(j->ctx, begin + chunk_begin(size, (int)k, (int)pieces), begin + chunk_begin(size, (int)k + 1, (int)pieces), thread);
      finish_piece(p);
    }
  }
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
    Job j = read_job(p, seen);
    if (!j.fn) return NULL;
    work_on(p, &j, w->index);
  }
}

static void set_cursors(Pool *p, unsigned number, unsigned next) {
  for (int t = 0; t < p->threads; t++) atomic_store(&p->cursor[t].at, (uint_least64_t)number << 32 | next);
}

static Job post_job(Pool *p, PoolFn *fn, void *ctx, int64_t n) {
  Job j = {fn, ctx, n, atomic_load(&p->job) + 1};
  int64_t pieces = 0;
  for (int t = 0; t < p->threads; t++) pieces += pieces_of(n, t, p->threads);
  set_cursors(p, j.number, CLOSED);
  atomic_store(&p->fn, fn);
  atomic_store(&p->ctx, ctx);
  atomic_store(&p->n, n);
  atomic_store(&p->pending, (int)pieces);
  set_cursors(p, j.number, 0);
  atomic_store(&p->job, j.number);
  if (atomic_load(&p->sleepers)) {
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
  }
  return j;
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
  free(p->cursor);
  free(p);
}

/* Stops the workers 1 .. count-1. */
static void stop_workers(Pool *p, int count) {
  post_job(p, NULL, NULL, 0);
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
  void *memory, *cursors;
  if (posix_memalign(&memory, 64, sizeof(Pool))) return NULL;
  if (posix_memalign(&cursors, 64, (size_t)threads * sizeof(Cursor))) {
    free(memory);
    return NULL;
  }
  Pool *p = memory;
  *p = (Pool){.threads = threads, .cursor = cursors, .workers = calloc((size_t)threads, sizeof(Worker))};
  p->spin = threads <= cpu_cores();
  set_cursors(p, 0, CLOSED);
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
  Job j = post_job(p, fn, ctx, n);
  work_on(p, &j, 0);
  wait_until_done(p);
}

void pool_free(Pool *p) {
  if (!p) return;
  stop_workers(p, p->threads);
  pool_destroy(p);
}
