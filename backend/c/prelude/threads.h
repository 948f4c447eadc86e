/* threads.h: how a threaded model splits a kernel's range; one section per kind of threads.
 *
 * Read by prelude.c (see there); NAME_ stands for the model's prefix. Every kind gives split(..., part, ctx, n), which calls
 * part(ctx, begin, end, thread) for ranges that cover [0, n) once and returns when all are done.
 */
//@ pthread
/* ---- threads ----
 * A range is divided into a share for each thread, and a share into a few pieces. Who is done with his own share helps with the others', so
 * a thread that has lost its core holds up nobody. The division depends on the number of threads only, and every element is computed the
 * same way whoever does it. Workers watch `job` for a moment after each range and then sleep. */

#include <pthread.h>
#include <stdlib.h>

typedef void part_fn(void *ctx, ptrdiff_t begin, ptrdiff_t end, int thread);

typedef struct {
  struct NAME_pool *pool;
  int thread;
  pthread_t id;
} worker;

struct NAME_pool {
  pthread_mutex_t lock;
  pthread_cond_t wake, done;
  part_fn *part;      /* the work at hand; NULL: stop */
  void *ctx;
  ptrdiff_t n;
  unsigned job;       /* counts ranges */
  int pending;        /* pieces that are not done */
  int threads;
  int next[NAME_MAX_THREADS];       /* of each share, the piece to take next */
  worker workers[NAME_MAX_THREADS]; /* [0] is the caller */
};

#if defined(__GNUC__)
#define READ(x) __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define WRITE(x, v) __atomic_store_n(&(x), v, __ATOMIC_RELEASE)
#define WATCH 2000
#else
#define READ(x) (x)
#define WRITE(x, v) ((x) = (v))
#define WATCH 0 /* reads outside the lock need atomics */
#endif
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
#define PAUSE() __builtin_ia32_pause()
#elif defined(__GNUC__) && (defined(__aarch64__) || defined(__ARM_NEON))
#define PAUSE() __asm__ volatile("yield")
#else
#define PAUSE() ((void)0)
#endif

enum { PIECES = 4 }; /* of a share, at most */

static ptrdiff_t cut(ptrdiff_t n, int i, int parts) { return n / parts * i + n % parts * i / parts; }

static int pieces_of(const struct NAME_pool *pool, int share) {
  const ptrdiff_t n = cut(pool->n, share + 1, pool->threads) - cut(pool->n, share, pool->threads);
  return n < PIECES ? (int)n : PIECES;
}

/* Does pieces of the present range while there are some, the thread's own first. The lock is held, but not while working. */
static void help(struct NAME_pool *pool, int thread) {
  const unsigned job = pool->job;
  for (int i = 0; i < pool->threads; i++) {
    const int share = (thread + i) % pool->threads, pieces = pieces_of(pool, share);
    const ptrdiff_t begin = cut(pool->n, share, pool->threads), n = cut(pool->n, share + 1, pool->threads) - begin;
    while (pool->next[share] < pieces) {
      const int k = pool->next[share]++;
      pthread_mutex_unlock(&pool->lock);
      pool->part(pool->ctx, begin + cut(n, k, pieces), begin + cut(n, k + 1, pieces), thread);
      pthread_mutex_lock(&pool->lock);
      WRITE(pool->pending, pool->pending - 1);
      if (pool->pending == 0) pthread_cond_signal(&pool->done);
      if (pool->job != job) return;
    }
  }
}

static void *work(void *arg) {
  const worker *w = (const worker *)arg;
  struct NAME_pool *pool = w->pool;
  unsigned seen = 0;
  for (;;) {
    for (int i = 0; i < WATCH && READ(pool->job) == seen; i++) PAUSE();
    pthread_mutex_lock(&pool->lock);
    while (pool->job == seen) pthread_cond_wait(&pool->wake, &pool->lock);
    seen = pool->job;
    const int stop = !pool->part;
    if (!stop) help(pool, w->thread);
    pthread_mutex_unlock(&pool->lock);
    if (stop) return NULL;
  }
}

/* Leaves the lock held. */
static void publish(struct NAME_pool *pool, part_fn *part, void *ctx, ptrdiff_t n) {
  pthread_mutex_lock(&pool->lock);
  pool->part = part;
  pool->ctx = ctx;
  pool->n = n;
  pool->pending = 0;
  for (int t = 0; t < pool->threads; t++) {
    pool->next[t] = 0;
    pool->pending += pieces_of(pool, t);
  }
  WRITE(pool->job, pool->job + 1);
  pthread_cond_broadcast(&pool->wake);
}

static void split(struct NAME_pool *pool, part_fn *part, void *ctx, ptrdiff_t n) {
  if (!pool || pool->threads == 1) {
    part(ctx, 0, n, 0);
    return;
  }
  publish(pool, part, ctx, n);
  help(pool, 0);
  pthread_mutex_unlock(&pool->lock);
  for (int i = 0; i < WATCH && READ(pool->pending) > 0; i++) PAUSE();
  pthread_mutex_lock(&pool->lock);
  while (pool->pending > 0) pthread_cond_wait(&pool->done, &pool->lock);
  pthread_mutex_unlock(&pool->lock);
}

NAME_pool *NAME_pool_create(int threads) {
  struct NAME_pool *pool = (struct NAME_pool *)calloc(1, sizeof *pool);
  if (!pool) return NULL;
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->wake, NULL);
  pthread_cond_init(&pool->done, NULL);
  if (threads > NAME_MAX_THREADS) threads = NAME_MAX_THREADS;
  for (pool->threads = 1; pool->threads < threads; pool->threads++) {
    worker *w = &pool->workers[pool->threads];
    w->pool = pool;
    w->thread = pool->threads;
    if (pthread_create(&w->id, NULL, work, w)) break;
  }
  return pool;
}

void NAME_pool_destroy(NAME_pool *pool) {
  if (!pool) return;
  publish(pool, NULL, NULL, 0);
  pthread_mutex_unlock(&pool->lock);
  for (int i = 1; i < pool->threads; i++) pthread_join(pool->workers[i].id, NULL);
  pthread_cond_destroy(&pool->done);
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->lock);
  free(pool);
}
//@ openmp
/* ---- threads ----
 * Without -fopenmp the parts run one after another; the results are the same. */

typedef void part_fn(void *ctx, ptrdiff_t begin, ptrdiff_t end, int thread);

static void split(part_fn *part, void *ctx, ptrdiff_t n) {
  const ptrdiff_t t = NAME_MAX_THREADS;
#if defined(_OPENMP)
#pragma omp parallel for num_threads(NAME_MAX_THREADS) schedule(static, 1)
#endif
  for (int i = 0; i < NAME_MAX_THREADS; i++) {
    const ptrdiff_t begin = n / t * i + n % t * i / t, end = n / t * (i + 1) + n % t * (i + 1) / t;
    if (begin < end) part(ctx, begin, end, i);
  }
}
//@ callback
/* ---- threads ---- */

static void split(NAME_parallel *parallel, void *user, NAME_part *part, void *ctx, ptrdiff_t n) {
  if (parallel) parallel(user, part, ctx, n, NAME_MAX_THREADS);
  else part(ctx, 0, n, 0);
}
