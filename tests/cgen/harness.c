/* harness.c: runs a generated model m.c on inputs from a file and writes its outputs to another. C and C++.
 *
 *     harness IN OUT [WEIGHTS]
 *
 * IN holds 64-bit numbers and data: number of inputs, then for each its bytes and data; number of outputs, then the bytes of each.
 * Every block is allocated with exactly its size, so that AddressSanitizer sees accesses outside. THREADS: 0 none, 1 pthread, 2 openmp,
 * 3 callback. WEIGHTS_FILE: the model takes its weights as an argument.
 */
#define _POSIX_C_SOURCE 200112L
#include "m.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PORTS 1024

static void fail(const char *what) {
  fprintf(stderr, "harness: %s\n", what);
  exit(3);
}

static void *block(size_t bytes) {
  void *p = NULL;
  if (posix_memalign(&p, 64, bytes ? bytes : 1)) fail("out of memory");
  return p;
}

static void get(FILE *f, void *p, size_t n) {
  if (fread(p, 1, n, f) != n) fail("input is too short");
}

static uint64_t number(FILE *f) {
  uint64_t x;
  get(f, &x, sizeof x);
  return x;
}

#if THREADS == 3
/* Parts in reverse order, as many as allowed, some of them empty. */
static void parallel(void *user, m_part *part, void *ctx, ptrdiff_t n, int max_threads) {
  ++*(int *)user;
  for (int t = max_threads - 1; t >= 0; t--) {
    const ptrdiff_t begin = n * t / max_threads, end = n * (t + 1) / max_threads;
    if (begin < end) part(ctx, begin, end, t);
  }
}
#endif

static void run(const void *in, const void *out, const void *weights, void *workspace) {
  const m_inputs *i = (const m_inputs *)in;
  const m_outputs *o = (const m_outputs *)out;
#if defined(WEIGHTS_FILE)
#define ARGS i, o, weights, workspace
#else
  (void)weights;
#define ARGS i, o, workspace
#endif
#if THREADS == 1
  m_run(ARGS, NULL);
  for (int threads = 1; threads <= M_MAX_THREADS + 1; threads++) {
    m_pool *pool = m_pool_create(threads);
    if (!pool) fail("no pool");
    for (int k = 0; k < 20; k++) m_run(ARGS, pool);
    m_pool_destroy(pool);
  }
  m_pool_destroy(NULL);
#elif THREADS == 3
  int calls = 0;
  m_run(ARGS, NULL, NULL);
  m_run(ARGS, parallel, &calls);
  if (!calls) fail("nothing ran in parallel");
#else
  m_run(ARGS);
#endif
}

int main(int argc, char **argv) {
  static void *in[MAX_PORTS], *out[MAX_PORTS];
  static uint64_t bytes[MAX_PORTS];
  FILE *f = argc >= 3 ? fopen(argv[1], "rb") : NULL;
  if (!f) fail("no input");
  const uint64_t nin = number(f);
  if (nin > MAX_PORTS) fail("too many inputs");
  for (uint64_t i = 0; i < nin; i++) {
    const size_t n = (size_t)number(f);
    in[i] = block(n);
    get(f, in[i], n);
  }
  const uint64_t nout = number(f);
  if (nout > MAX_PORTS) fail("too many outputs");
  for (uint64_t i = 0; i < nout; i++) {
    bytes[i] = number(f);
    out[i] = block((size_t)bytes[i]);
    memset(out[i], 0x5a, (size_t)bytes[i]);
  }
  fclose(f);
  const size_t size = M_WORKSPACE_BYTES;
  void *weights = block(M_WEIGHTS_BYTES), *workspace = block(size);
  memset(workspace, 0xff, size);
  f = argc > 3 ? fopen(argv[3], "rb") : NULL;
  if (f) {
    get(f, weights, M_WEIGHTS_BYTES);
    fclose(f);
  }
  run(in, out, weights, workspace);
  f = fopen(argv[2], "wb");
  if (!f) fail("cannot write");
  for (uint64_t i = 0; i < nout; i++) fwrite(out[i], 1, (size_t)bytes[i], f);
  fclose(f);
  for (uint64_t i = 0; i < nin; i++) free(in[i]);
  for (uint64_t i = 0; i < nout; i++) free(out[i]);
  free(weights);
  free(workspace);
  return 0;
}
