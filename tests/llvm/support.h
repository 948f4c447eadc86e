/* tests/llvm/support.h: small programs made with the builder, run by the interpreter and by machine code. */
#ifndef TESTS_LLVM_SUPPORT_H
#define TESTS_LLVM_SUPPORT_H

#include "backend/backend.h"
#include "runtime/runtime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* A program under construction, with memory of its own. */
typedef struct Bench {
  Fail fail;
  Diag *d;
  Arena *a;
  Program *p;
  Build b;
} Bench;

void bench_open(Bench *t, const Target *target);
void bench_close(Bench *t);
const char *bench_messages(const Bench *t);

int bench_input(Bench *t, DType dt, int64_t n);          /* a buffer */
int bench_output(Bench *t, DType dt, int64_t n);
int bench_arena(Bench *t, int64_t bytes);
int bench_scratch(Bench *t, int64_t bytes);
int bench_weight(Bench *t, const void *data, int64_t bytes);

/* Starts a kernel; parameters are added with bench_param; bench_call ends it and calls it once. */
Build *bench_kernel(Bench *t, const char *what);
Var *bench_param(Bench *t, const char *name, DType dt, Access access, int buffer);
void bench_call(Bench *t);
void bench_plan(Bench *t);                               /* offsets; after the last call */

/* Elements with all the values arithmetic goes wrong on, then random ones; `phase` shifts the values against each other. */
void bench_fill(void *data, DType dt, int64_t n, int phase);

/* Runs p on both and fails the test where a bit differs (any NaN equals any NaN). inputs: one array per port. */
void bench_compare(Bench *t, const void *const *inputs, int threads);
/* Compares output `port` only; the message names `what`. */
void bench_same(const Bench *t, int port, const void *want, const void *got, const char *what);

#endif
