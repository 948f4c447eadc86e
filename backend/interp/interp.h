/* backend/interp/interp.h: the interpreter's parts: compile.c and select.c (kernel to code) · exec.c (runs code) · interp.c
 * (programs).
 *
 * A kernel becomes a list of instructions on a frame of slots. A slot holds one value: vectors 4 bytes per lane (f32, i32, bool as int32
 * 0 or 1); scalars 8 bytes, of which f32, i32 and bool use the first 4; every other integer is an int64_t of its value. Slots of
 * constants are filled once, when the code is made.
 *
 * Every load and store is checked against the elements its parameter has.
 */
#ifndef INTERP_H
#define INTERP_H

#include "../../ir/loop_eval.h"

typedef enum Code {
#define ONE(NAME) I_##NAME,
#define WIDE(NAME) I_##NAME##_1, I_##NAME##_4, I_##NAME##_8, I_##NAME##_16, I_##NAME##_N,
#include "interp_ops.def"
#undef ONE
#undef WIDE
  I_COUNT
} Code;

typedef struct Ins {
  union { const void *label; intptr_t code; } go;   /* code until exec_link */
  int32_t d, a, b, c;
  int64_t imm;
} Ins;

typedef struct Routine {
  const Kernel *kernel;
  Ins *ins;
  int n;
  const uint8_t **shuffle;
  int32_t begin, end;       /* slots of the range's bounds */
  int32_t frame_bytes;
  char *frame;              /* 64-byte aligned, constants in place */
} Routine;

typedef struct Memory { char *base; int64_t n; } Memory;   /* a parameter: n elements */
typedef struct Fault { int param; bool store; int64_t index, last; } Fault;   /* the first and the last element of the access */

/* Frame and code live in the arena. The kernel must be verified. */
Routine *interp_compile(Arena *a, const Kernel *k);
void exec_link(Routine *m);
/* Runs range values [begin, end). False after an access out of bounds. */
bool exec_run(const Routine *m, const Memory *mem, int64_t begin, int64_t end, Fault *fault);

/* select.c: the instruction of an operator on operands of type t, the first of five if it is WIDE; -1: none. */
int select_arithmetic(XOp op, DType t);
int select_convert(XOp op, DType to, DType from);   /* 1 + the instruction; 0: the slots hold the same bits already; -1: none */
Code select_load(Type t);
Code select_store(Type t);
Code select_width(Code one, int lanes);             /* the width of a WIDE instruction given its first */

/* EVAL's imm: operator, lanes, types. */
typedef struct EvalSpec { XOp op; int lanes, nargs; DType to, from; } EvalSpec;
static inline int64_t eval_pack(EvalSpec s) {
  return (int64_t)s.op | (int64_t)s.lanes << 8 | (int64_t)s.nargs << 16 | (int64_t)s.to << 24 | (int64_t)s.from << 32;
}
static inline EvalSpec eval_unpack(int64_t i) {
  return (EvalSpec){(XOp)(i & 255), (int)(i >> 8 & 255), (int)(i >> 16 & 255), (DType)(i >> 24 & 255), (DType)(i >> 32 & 255)};
}
#define SLOT_IS_32(dt) ((dt) == DT_F32 || (dt) == DT_I32 || (dt) == DT_BOOL)

#endif
