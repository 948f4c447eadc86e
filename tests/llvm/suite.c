/* tests/llvm/suite.c: programs that hold, between them, every operator in every type and number of lanes it has, loads and stores of
 * every shape, and every statement. See support.h. */
#include "support.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define N SUITE_N

static const DType all_types[] = {DT_F32, DT_F64, DT_I8, DT_U8, DT_I16, DT_U16, DT_I32, DT_U32, DT_I64, DT_U64, DT_BOOL};
enum { TYPES = COUNTOF(all_types) };

static int type_index(DType dt) {
  int i = 0;
  while (all_types[i] != dt) i++;
  return i;
}

/* Inputs of every type, three operands each: operand k of a type is input 3 * type_index + k. */
static void operands(Bench *t) {
  for (int i = 0; i < TYPES; i++) {
    for (int k = 0; k < 3; k++) {
      bench_input(t, all_types[i], N);
      float *x = bench_data(t, t->p->inputs.n - 1);
      bench_fill(x, all_types[i], N, k);
      /* NEON takes denormals for zeros, and with infinities that makes a difference. */
      for (int e = 0; all_types[i] == DT_F32 && t->p->target->arch == ARCH_ARM && e < N; e++) x[e] = x[e] != 0 && fabsf(x[e]) < FLT_MIN ? 1e-20f : x[e];
    }
  }
}

static int operand(const Bench *t, DType dt, int k) { return t->input[3 * type_index(dt) + k]; }

static bool has_lanes(DType dt, int lanes) { return lanes == 1 || dt == DT_F32 || dt == DT_I32 || dt == DT_BOOL; }

static Expr *raw(Build *b, XOp op, Type t, Expr *x, Expr *y, Expr *z) {
  Expr *e = NEW(b->arena, Expr);
  *e = (Expr){.op = op, .type = t, .a = {x, y, z}};
  return e;
}

/* ---- operators ---- */

/* A kernel that stores op(operands of type `from`) as type `to`. */
static void add_op(Bench *t, XOp op, DType from, DType to, int lanes) {
  char f[24], g[24];
  const XInfo *info = &x_table[op];
  Build *b = bench_kernel(t, arena_printf(t->a, "%s %s to %s", info->text, type_name(type_of(from, lanes), f), type_name(type_of(to, lanes), g)));
  Var *in[3] = {0};
  for (int k = 0; k < info->nargs; k++) in[k] = bench_param(t, "x", from, ACCESS_IN, operand(t, from, k));
  Var *cond = op == X_SELECT ? bench_param(t, "c", DT_BOOL, ACCESS_IN, operand(t, DT_BOOL, 0)) : NULL;
  Var *out = bench_param(t, "y", to, ACCESS_OUT, bench_output(t, to, N));
  Expr *at = x_muli(b, x_var(b, build_range(b, "r", N / lanes)), lanes), *x[3] = {NULL};
  for (int k = 0; k < info->nargs; k++) x[k] = s_let(b, "v", x_load(b, in[k], at, lanes));
  if (cond) x[0] = x_load(b, cond, at, lanes);
  s_store(b, out, at, raw(b, op, type_of(to, lanes), x[0], x[1], x[2]));
}

static bool type_has(XOp op, DType dt) {
  bool f = dt_is_float(dt), bit = dt == DT_BOOL;
  if (op == X_SELECT || op == X_EQ || op == X_NE) return true;
  if (op == X_AND || op == X_OR || op == X_XOR || op == X_NOT) return !f;
  if (op == X_SHL || op == X_SHR) return !f && !bit;
  if (op == X_SQRT || op == X_POW || op == X_FMA || (op >= X_FLOOR && op <= X_TRUNC) || (op >= X_EXP && op <= X_SIGMOID)) return f;
  return !bit;
}

void suite_operators(Bench *t, const int *lanes, int nlanes) {
  operands(t);
  for (int op = X_ADD; op <= X_SIGMOID; op++) {
    for (int i = 0; i < TYPES; i++) {
      for (int l = 0; l < nlanes; l++) {
        DType dt = all_types[i];
        if (has_lanes(dt, lanes[l]) && type_has((XOp)op, dt)) add_op(t, (XOp)op, dt, op >= X_EQ && op <= X_GE ? DT_BOOL : dt, lanes[l]);
      }
    }
  }
}

void suite_conversions(Bench *t, const int *lanes, int nlanes) {
  operands(t);
  for (int i = 0; i < TYPES; i++) {
    for (int k = 0; k < TYPES; k++) {
      for (int l = 0; l < nlanes; l++) {
        DType from = all_types[i], to = all_types[k];
        if (i == k || !has_lanes(from, lanes[l]) || !has_lanes(to, lanes[l])) continue;
        add_op(t, X_CAST, from, to, lanes[l]);
        if (from != DT_BOOL && to != DT_BOOL && dt_bits(from) == dt_bits(to)) add_op(t, X_BITCAST, from, to, lanes[l]);
      }
    }
  }
}

/* idx has no memory of its own: through i64. Operands in a range that its arithmetic keeps, also in 32 bits. */
void suite_pointer_sized(Bench *t) {
  int in = bench_input(t, DT_I64, N), in2 = bench_input(t, DT_I64, N);
  for (int i = 0; i < N; i++) {
    ((int64_t *)bench_data(t, 0))[i] = (int64_t)i * 7919 % 100000;
    ((int64_t *)bench_data(t, 1))[i] = i % 37;
  }
  static const XOp ops[] = {X_ADD, X_SUB, X_MUL, X_DIV, X_REM, X_MIN, X_MAX, X_AND, X_OR, X_XOR, X_SHR, X_NEG, X_NOT, X_ABS, X_EQ, X_LT, X_GE};
  for (int i = 0; i < COUNTOF(ops); i++) {
    bool compare = ops[i] >= X_EQ && ops[i] <= X_GE;
    Build *b = bench_kernel(t, arena_printf(t->a, "%s idx", x_table[ops[i]].text));
    Var *x = bench_param(t, "x", DT_I64, ACCESS_IN, in), *z = bench_param(t, "z", DT_I64, ACCESS_IN, in2);
    Var *y = bench_param(t, "y", DT_I64, ACCESS_OUT, bench_output(t, DT_I64, N));
    Expr *r = x_var(b, build_range(b, "r", N)), *other = ops[i] == X_SHR ? x_remi(b, r, 32) : x_cast(b, DT_IDX, x_load(b, z, r, 1));
    Expr *v = raw(b, ops[i], compare ? type_of(DT_BOOL, 1) : type_idx(), x_cast(b, DT_IDX, x_load(b, x, r, 1)), x_table[ops[i]].nargs > 1 ? other : NULL, NULL);
    s_store(b, y, r, x_cast(b, DT_I64, v));
  }
}

static void add_reductions(Bench *t, DType dt, int n) {
  static const XOp ops[] = {X_REDUCE_ADD, X_REDUCE_MUL, X_REDUCE_MIN, X_REDUCE_MAX};
  for (int k = 0; k < COUNTOF(ops); k++) {
    Build *b = bench_kernel(t, arena_printf(t->a, "%s %s x%d", x_table[ops[k]].text, dt_name(dt), n));
    Var *x = bench_param(t, "x", dt, ACCESS_IN, operand(t, dt, 2)), *y = bench_param(t, "y", dt, ACCESS_OUT, bench_output(t, dt, N / n));
    Expr *r = x_var(b, build_range(b, "r", N / n));
    s_store(b, y, r, x_reduce(b, ops[k], x_load(b, x, x_muli(b, r, n), n)));
  }
}

/* Splat, iota, extract, shuffle: y = shuffle(x + splat(x[0]) + iota, z) + splat(last of x), then another over the first half. */
static void add_lane_operators(Bench *t, DType dt, int n) {
  Build *b = bench_kernel(t, arena_printf(t->a, "lanes %s x%d", dt_name(dt), n));
  Var *x = bench_param(t, "x", dt, ACCESS_IN, operand(t, dt, 0)), *z = bench_param(t, "z", dt, ACCESS_IN, operand(t, dt, 1));
  Var *y = bench_param(t, "y", dt, ACCESS_OUT, bench_output(t, dt, N));
  Expr *at = x_muli(b, x_var(b, build_range(b, "r", N / n)), n), *v = s_let(b, "v", x_load(b, x, at, n));
  Expr *w = x_add(b, x_add(b, v, x_splat(b, x_load(b, x, at, 1), n)), x_cast(b, dt, x_iota(b, n)));
  uint8_t pick[MAX_LANES], half[MAX_LANES];
  for (int k = 0; k < n; k++) pick[k] = (uint8_t)((k * 5 + 3) % (2 * n));
  for (int k = 0; k < n / 2; k++) half[k] = (uint8_t)(2 * k);
  Expr *s = s_let(b, "s", x_shuffle(b, w, x_load(b, z, at, n), pick, n));
  s_store(b, y, at, x_add(b, s, x_splat(b, x_extract(b, v, n - 1), n)));
  if (n > 2) s_store(b, y, at, x_shuffle(b, s, v, half, n / 2));
}

void suite_lanes(Bench *t, const int *lanes, int nlanes) {
  static const DType types[] = {DT_F32, DT_I32};
  operands(t);
  for (int l = 0; l < nlanes; l++) {
    for (int i = 0; i < COUNTOF(types) && lanes[l] > 1; i++) {
      add_reductions(t, types[i], lanes[l]);
      add_lane_operators(t, types[i], lanes[l]);
    }
  }
}

/* ---- memory ---- */

/* How a count or a stride comes: not at all, as a constant, from memory. */
enum { NONE, CONSTANT, VARIABLE };

typedef struct Partial { DType dt; int lanes, count_kind, count, stride_kind, stride; } Partial;

/* A count or stride of that kind; numbers[i + 2] is i. */
static Expr *number(Build *b, Var *numbers, int kind, int value) {
  if (kind == NONE) return NULL;
  return kind == CONSTANT ? x_idx(b, value) : x_cast(b, DT_IDX, x_load(b, numbers, x_idx(b, value + 2), 1));
}

/* For four rows: lanes copied from x to y, the load or the store with that count and stride. */
static void add_partial(Bench *t, int numbers, const Partial *c, bool store) {
  enum { ROW = 256 };
  char name[24];
  Build *b = bench_kernel(t, arena_printf(t->a, "%s %s count %d:%d stride %d:%d", store ? "store" : "load", type_name(type_of(c->dt, c->lanes), name),
                                          c->count_kind, c->count, c->stride_kind, c->stride));
  Var *x = bench_param(t, "x", c->dt, ACCESS_IN, operand(t, c->dt, 0)), *z = bench_param(t, "z", DT_I64, ACCESS_IN, numbers);
  Var *y = bench_param(t, "y", c->dt, ACCESS_OUT, bench_output(t, c->dt, 4 * ROW));
  Expr *row = x_muli(b, x_var(b, build_range(b, "r", 4)), ROW), *base = x_addi(b, row, c->stride < 0 ? -c->stride * c->lanes : 0);
  Expr *count = number(b, z, c->count_kind, c->count), *stride = number(b, z, c->stride_kind, c->stride);
  if (store) s_store_part(b, y, base, x_load(b, x, row, c->lanes), count, stride);
  else s_store(b, y, row, x_load_part(b, x, base, c->lanes, count, stride));
}

static void add_partials(Bench *t, int numbers, DType dt, int n, bool store) {
  static const int strides[] = {0, 2, 3, -1, -2};
  const int counts[] = {-1, 0, 1, n / 2 + 1, n - 1, n, n + 1};
  for (int k = 0; k < COUNTOF(counts); k++) {
    for (int kind = CONSTANT; kind <= VARIABLE; kind++) {
      add_partial(t, numbers, &(Partial){dt, n, kind, counts[k], NONE, 1}, store);
      add_partial(t, numbers, &(Partial){dt, n, kind, counts[k], kind, 3}, store);
    }
  }
  for (int k = 0; k < COUNTOF(strides); k++) {
    add_partial(t, numbers, &(Partial){dt, n, NONE, 0, CONSTANT, strides[k]}, store);
    add_partial(t, numbers, &(Partial){dt, n, NONE, 0, VARIABLE, strides[k]}, store);
    add_partial(t, numbers, &(Partial){dt, n, VARIABLE, n - 1, VARIABLE, strides[k]}, store);
  }
}

void suite_memory(Bench *t, const int *lanes, int nlanes) {
  static const DType types[] = {DT_F32, DT_I32, DT_BOOL};
  operands(t);
  int numbers = bench_input(t, DT_I64, 80);
  for (int i = 0; i < 80; i++) ((int64_t *)bench_data(t, t->p->inputs.n - 1))[i] = i - 2;
  for (int i = 0; i < COUNTOF(types); i++) {
    for (int l = 0; l < nlanes; l++) {
      for (int store = 0; store < 2 && lanes[l] > 1; store++) add_partials(t, numbers, types[i], lanes[l], store);
    }
  }
}

/* ---- statements ---- */

/* Collatz steps from r + 1. */
static void add_while(Bench *t) {
  Build *b = bench_kernel(t, "while, if, else");
  Var *y = bench_param(t, "y", DT_I64, ACCESS_OUT, bench_output(t, DT_I64, 300));
  Expr *r = x_var(b, build_range(b, "r", 300));
  Var *n = s_reg(b, "n", x_addi(b, x_cast(b, DT_I64, r), 1)), *steps = s_reg(b, "steps", x_int(b, type_of(DT_I64, 1), 0));
  s_while(b, x_bin(b, X_NE, x_var(b, n), x_int(b, n->type, 1)));
  s_if(b, x_bin(b, X_EQ, x_remi(b, x_var(b, n), 2), x_int(b, n->type, 0)));
  s_set(b, n, x_divi(b, x_var(b, n), 2));
  s_else(b);
  s_set(b, n, x_addi(b, x_muli(b, x_var(b, n), 3), 1));
  s_end(b);
  s_set(b, steps, x_addi(b, x_var(b, steps), 1));
  s_end(b);
  s_comment(b, "done */");
  s_store(b, y, r, x_var(b, steps));
}

/* Triangular loops, registers of vectors and of bool, prefetches far outside, a loop that is never entered. */
static void add_loops(Bench *t, int in, int weight, int mid) {
  Build *b = bench_kernel(t, "loops, registers, prefetch, pin");
  Var *x = bench_param(t, "x", DT_F32, ACCESS_IN, in), *w = bench_param(t, "w", DT_F32, ACCESS_CONST, weight);
  Var *y = bench_param(t, "y", DT_F32, ACCESS_OUT, mid);
  Expr *r = x_var(b, build_range(b, "r", 8));
  Var *acc = s_reg(b, "acc", x_splat(b, x_float(b, type_of(DT_F32, 1), -0.0), 8)), *ok = s_reg(b, "ok", x_int(b, type_of(DT_BOOL, 1), 1));
  Expr *i = s_for(b, "i", x_idx(b, 0), x_addi(b, r, 1), 1), *k = s_for(b, "k", i, x_idx(b, 8), 3);
  Expr *v = s_let(b, "v", x_load(b, w, x_muli(b, k, 8), 8));
  s_pin(b, v->var);
  s_prefetch(b, x, x_addi(b, x_muli(b, k, 1000), 1 << 20), 0, false);
  s_prefetch(b, y, x_muli(b, k, 8), 3, true);
  s_set(b, acc, x_fma(b, v, x_splat(b, x_load(b, x, x_add(b, i, x_muli(b, r, 32)), 1), 8), x_var(b, acc)));
  s_set(b, ok, x_un(b, X_NOT, x_var(b, ok)));
  s_end(b);
  s_end(b);
  s_if(b, x_var(b, ok));
  s_for(b, "never", x_idx(b, 3), x_idx(b, 3), 1);
  s_set(b, acc, x_float(b, type_of(DT_F32, 8), 99));
  s_end(b);
  s_if(b, x_bin(b, X_GT, r, x_idx(b, 3)));
  s_set(b, acc, x_un(b, X_NEG, x_var(b, acc)));
  s_end(b);
  s_end(b);
  s_store(b, y, x_muli(b, r, 8), x_var(b, acc));
}

/* Four lanes at a time into scratch in the other order, and out again. */
static void add_scratch(Bench *t, int from) {
  Build *b = bench_kernel(t, "scratch");
  Var *x = bench_param(t, "x", DT_F32, ACCESS_IN, from), *s = bench_param(t, "s", DT_F32, ACCESS_SCRATCH, bench_scratch(t, 64));
  Var *y = bench_param(t, "y", DT_F32, ACCESS_OUT, bench_output(t, DT_F32, 64));
  Expr *at = x_muli(b, x_var(b, build_range(b, "r", 8)), 8);
  for (int i = 0; i < 8; i += 4) s_store(b, s, x_idx(b, i), x_load(b, x, x_addi(b, at, 4 - i), 4));
  s_store(b, y, at, x_load(b, s, x_idx(b, 0), 8));
}

/* y[r] = x[r] + x[r] for y = x: each iteration reads before it writes. */
static void add_in_place(Bench *t, int from) {
  int mid = bench_arena(t, 256);
  for (int step = 0; step < 3; step++) {
    Build *b = bench_kernel(t, step == 1 ? "in place" : "copy");
    Var *x = bench_param(t, "x", DT_F32, ACCESS_IN, step ? mid : from);
    Var *y = bench_param(t, "y", DT_F32, ACCESS_OUT, step < 2 ? mid : bench_output(t, DT_F32, 64));
    x->may_alias = y->may_alias = step == 1;
    Expr *at = x_muli(b, x_var(b, build_range(b, "r", 4)), 16);
    for (int i = 0; i < 16; i += 4) {
      Expr *to = x_addi(b, at, i), *v = x_load(b, x, to, 4);
      s_store(b, y, to, step == 1 ? x_add(b, v, x_load(b, x, to, 4)) : v);
    }
  }
}

void suite_statements(Bench *t) {
  static float w[64];
  int in = bench_input(t, DT_F32, 320), weight, mid = bench_arena(t, 64 * 4);
  bench_fill(bench_data(t, 0), DT_F32, 320, 5);
  for (int i = 0; i < 64; i++) w[i] = (float)i / 8;
  weight = bench_weight(t, w, sizeof w);
  add_while(t);
  add_loops(t, in, weight, mid);
  add_scratch(t, mid);
  add_in_place(t, in);
  Build *b = bench_kernel(t, "no range");
  Var *y = bench_param(t, "y", DT_F32, ACCESS_OUT, bench_output(t, DT_F32, 1));
  s_store(b, y, x_idx(b, 0), x_float(b, type_of(DT_F32, 1), 1.25));
}
