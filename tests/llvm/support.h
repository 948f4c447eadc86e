/* tests/llvm/support.h: small programs made with the builder, run by the interpreter and by machine code.
 *
 * Sections, one per file: support.c · suite.c
 */
#ifndef TESTS_LLVM_SUPPORT_H
#define TESTS_LLVM_SUPPORT_H

#include "backend/backend.h"
#include "runtime/runtime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* ---- support.c ---- */

#define BENCH_INPUTS 40

/* A program under construction, with memory of its own. */
typedef struct Bench {
  Fail fail;
  Diag *d;
  Arena *a;
  Program *p;
  Build b;
  int input[BENCH_INPUTS];      /* buffers of the inputs */
  void *data[BENCH_INPUTS];     /* and their elements, 64-byte aligned */
} Bench;

void bench_open(Bench *t, const Target *target);
void bench_close(Bench *t);
const char *bench_messages(const Bench *t);

int bench_input(Bench *t, DType dt, int64_t n);          /* a buffer; its elements are zero */
void *bench_data(Bench *t, int input);
int bench_output(Bench *t, DType dt, int64_t n);
int bench_arena(Bench *t, int64_t bytes);
int bench_scratch(Bench *t, int64_t bytes);
int bench_weight(Bench *t, const void *data, int64_t bytes);

/* Starts a kernel, called once; parameters are added with bench_param. */
Build *bench_kernel(Bench *t, const char *what);
Var *bench_param(Bench *t, const char *name, DType dt, Access access, int buffer);
void bench_plan(Bench *t);                               /* offsets; after the last kernel */

/* Elements with all the values arithmetic goes wrong on, then random ones; `phase` shifts operands against each other. */
void bench_fill(void *data, DType dt, int64_t n, int phase);

/* One block of memory per output. */
void **bench_outputs(Bench *t);
void bench_run(Bench *t, Runner *r, void **out, const char *who);   /* runs once and closes; a NULL runner fails the test */
const char *bench_what(const Bench *t, int output);      /* the kernel that writes it */

/* How far results may be off: not at all but for NaNs, of which any is as good; or results of libm by some units in the last place,
 * and denormals as zeros. */
typedef struct Slack { bool libm, flush; } Slack;
void bench_same(const Bench *t, void *const *want, void *const *got, Slack slack, const char *who);

/* ---- suite.c ---- */

#define SUITE_N 1280   /* elements per operand: all pairs of odd values and some more; a multiple of every number of lanes */
void suite_operators(Bench *t, const int *lanes, int nlanes);
void suite_conversions(Bench *t, const int *lanes, int nlanes);
void suite_pointer_sized(Bench *t);
void suite_lanes(Bench *t, const int *lanes, int nlanes);
void suite_memory(Bench *t, const int *lanes, int nlanes);
void suite_statements(Bench *t);

#endif
