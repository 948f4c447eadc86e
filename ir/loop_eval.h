/* ir/loop_eval.h: what the operators of the loop IR mean, once: the constant folder and the interpreter both compute with these.
 *
 * Sections, one per file:  inline functions for the interpreter's loops · loop_eval.c (one operator on constants of any type)
 *
 * Integers of every width live in an int64_t that holds their value (u64: its bit pattern); int_wrap brings a result back into range.
 * f32 arithmetic is done in float. The mathematical functions of f32 are computed in double and rounded once.
 */
#ifndef IR_LOOP_EVAL_H
#define IR_LOOP_EVAL_H

#include "loop.h"
#include <math.h>
#include <string.h>

typedef union XValue { int64_t i; double f; } XValue;   /* i: integers, idx, bool; f: floats */

static inline bool xt_is_int(DType t) { return t == DT_IDX || dt_is_int(t); }
static inline bool xt_is_signed(DType t) { return t == DT_IDX || dt_is_signed(t); }
static inline int xt_bits(DType t) { return t == DT_IDX ? 64 : t == DT_BOOL ? 8 : dt_bits(t); }

static inline int64_t int_wrap(DType t, int64_t x) {
  int bits = xt_bits(t);
  if (t == DT_BOOL) return x != 0;
  if (bits == 64) return x;
  uint64_t mask = ((uint64_t)1 << bits) - 1, u = (uint64_t)x & mask;
  if (xt_is_signed(t) && u >> (bits - 1)) u |= ~mask;
  return (int64_t)u;
}

static inline int64_t ev_add(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }
static inline int64_t ev_sub(int64_t a, int64_t b) { return (int64_t)((uint64_t)a - (uint64_t)b); }
static inline int64_t ev_mul(int64_t a, int64_t b) { return (int64_t)((uint64_t)a * (uint64_t)b); }
/* The IR leaves x/0 open; 0 is what both readers of this file make of it. INT64_MIN / -1 wraps. */
static inline int64_t ev_div(int64_t a, int64_t b) { return b == 0 ? 0 : b == -1 ? ev_sub(0, a) : a / b; }
static inline int64_t ev_rem(int64_t a, int64_t b) { return b == 0 || b == -1 ? 0 : a % b; }
static inline int64_t ev_divu(int64_t a, int64_t b) { return b == 0 ? 0 : (int64_t)((uint64_t)a / (uint64_t)b); }
static inline int64_t ev_remu(int64_t a, int64_t b) { return b == 0 ? 0 : (int64_t)((uint64_t)a % (uint64_t)b); }
/* Shift counts are masked by the width, like everything that is out of range. Right shifts of negative values are arithmetic on every
 * compiler we support. */
static inline int64_t ev_shl(int64_t a, int64_t b, int bits) { return (int64_t)((uint64_t)a << ((uint64_t)b & (uint64_t)(bits - 1))); }
static inline int64_t ev_shr(int64_t a, int64_t b, int bits) { return a >> ((uint64_t)b & (uint64_t)(bits - 1)); }
static inline int64_t ev_shru(int64_t a, int64_t b, int bits) { return (int64_t)((uint64_t)a >> ((uint64_t)b & (uint64_t)(bits - 1))); }

static inline double ev_sigmoid(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }

static inline float bits_f32(int32_t i) { float f; memcpy(&f, &i, 4); return f; }
static inline int32_t f32_bits(float f) { int32_t i; memcpy(&i, &f, 4); return i; }
static inline double bits_f64(int64_t i) { double f; memcpy(&f, &i, 8); return f; }
static inline int64_t f64_bits(double f) { int64_t i; memcpy(&i, &f, 8); return i; }

/* Toward zero, saturating; NaN gives 0. `to` is an integer type. */
int64_t float_to_int(double x, DType to);
/* Unary mathematics and rounding in double: SQRT FLOOR CEIL ROUND TRUNC and EXP .. SIGMOID. */
double float_math(XOp op, double x);

static inline bool x_is_compare(XOp op) { return op >= X_EQ && op <= X_GE; }
static inline bool x_is_infix(XOp op) { return (op >= X_ADD && op <= X_REM) || (op >= X_AND && op <= X_SHR) || x_is_compare(op); }
static inline bool x_is_math(XOp op) { return op >= X_EXP && op <= X_SIGMOID; }

/* One lane of op: operands of type `from`, result of type `to` (differ in comparisons, casts, SELECT's condition). False when op has no
 * constant value (VAR, LOAD, lane operators) or the type does not have the operator. */
bool x_eval(XOp op, DType to, DType from, const XValue *a, XValue *out);

#endif
