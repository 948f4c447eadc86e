/* Graphs compiled for the interpreter at two levels, for tests that sweep over one kind of kernel. */
#ifndef TESTS_UNIT_COMPILED_H
#define TESTS_UNIT_COMPILED_H

#include "passes/passes.h"
#include "runtime/runtime.h"

/* What a case asks of the compiler; zeros: that of the x86-64-v4 row, and nothing disabled. */
typedef struct TestCompile {
  int level, lanes, vregs, threads;
  int64_t l2;
  const char *disable;
  int winograd;            /* its tile; 0: where it pays */
} TestCompile;

/* Builds the graph of a case; NULL if it is refused. */
typedef Graph *(*TestBuild)(Arena *a, Diag *d, const void *of, uint64_t seed);

/* Builds, compiles and runs; the inputs are stretches of x. Outputs go to `out` one after the other, at most `most` elements; gives their
 * number. *kernels, if not NULL, is raised by the calls of kernels whose names contain `what`. `about` describes the case if something fails. */
int64_t test_run(TestBuild build, const void *of, uint64_t seed, TestCompile o, const float *x, float *out, int64_t most, const char *what, int64_t *kernels,
                 const char *about);
/* The largest difference, as a fraction of the largest element (1 for all zeros); infinite where one is not finite. */
double test_error(const float *want, const float *got, int64_t n);

Value *test_const(Graph *g, Rng *r, int rank, const int64_t *dims, double gain);   /* normal, times gain */
Value *test_one_by_one(Graph *g, Rng *r, Value *x, int64_t k);                     /* a 1x1 convolution to k channels */
int64_t test_pick(Rng *r, int64_t lo, int64_t hi);                                 /* lo .. hi */

#endif
