/* cgen.h: parts of the test of the C backend: coverage.c makes a program of every operator, cgen_test.c emits, compiles, runs, compares. */
#ifndef CGEN_H
#define CGEN_H

#include "backend/backend.h"

/* Every legal use of every operator on every type and width, 256 values each, on numbers chosen for their edges. Outputs whose names start
 * with "approx" may differ in the last bits. Left out are only what cannot be stored: idx appears through casts.
 * subnormals: are there any among the operands? 32-bit ARM flushes them to zero. */
Program *coverage_program(Arena *a, bool subnormals);
/* What element i of that output is about: "add f32x16 (slot 3)". */
const char *coverage_describe(Arena *a, const Program *p, int output, int64_t i);

#endif
