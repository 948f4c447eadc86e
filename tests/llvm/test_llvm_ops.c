/* Every operator in every type and number of lanes it has, loads and stores of every shape, every statement: machine code against the
 * interpreter, bit for bit. */
#include "support.h"

#include <stdlib.h>
#include <string.h>

#define N 1280   /* elements per operand: all pairs of odd values and some more; a multiple of every number of lanes */

static const DType all_types[] = {DT_F32, DT_F64, DT_I8, DT_U8, DT_I16, DT_U16, DT_I32, DT_U32, DT_I64, DT_U64, DT_BOOL};
enum { TYPES = COUNTOF(all_types) };
static const int all_lanes[] = {1, 2, 4, 8, 16, 32, 64};

/* Inputs of every type, three operands each. */
typedef struct Operands { int buffer[TYPES][3]; void *data[TYPES * 3]; } Operands;

static void operands_open(Bench *t, Operands *o) {
  for (int i = 0; i < TYPES; i++) {
    for (int k = 0; k < 3; k++) {
      o->buffer[i][k] = bench_input(t, all_types[i], N);
      bench_fill(o->data[3 * i + k] = malloc(N * 8), all_types[i], N, k);
    }
  }
}

static void operands_close(Operands *o) {
  for (int i = 0; i < 3 * TYPES; i++) free(o->data[i]);
}

static int type_index(DType dt) {
  int i = 0;
  while (all_types[i] != dt) i++;
  return i;
}

static bool has_lanes(DType dt, int lanes) { return lanes == 1 || dt == DT_F32 || dt == DT_I32 || dt == DT_BOOL; }

static Expr *raw(Build *b, XOp op, Type t, Expr *x, Expr *y, Expr *z) {
  Expr *e = NEW(b->arena, Expr);
  *e = (Expr){.op = op, .type = t, .a = {x, y, z}};
  return e;
}

/* A kernel that stores op(operands of type `from`) as type `to`. */
static void add_op(Bench *t, const Operands *o, XOp op, DType from, DType to, int lanes) {
  char f[24], g[24];
  const XInfo *info = &x_table[op];
  Build *b = bench_kernel(t, arena_printf(t->a, "%s %s to %s", info->text, type_name(type_of(from, lanes), f), type_name(type_of(to, lanes), g)));
  Var *in[3] = {0};
  for (int k = 0; k < info->nargs; k++) in[k] = bench_param(t, "x", from, ACCESS_IN, o->buffer[type_index(from)][k]);
  Var *cond = op == X_SELECT ? bench_param(t, "c", DT_BOOL, ACCESS_IN, o->buffer[type_index(DT_BOOL)][0]) : NULL;
  Var *out = bench_param(t, "y", to, ACCESS_OUT, bench_output(t, to, N));
  Expr *at = x_muli(b, x_var(b, build_range(b, "r", N / lanes)), lanes), *x[3] = {NULL};
  for (int k = 0; k < info->nargs; k++) x[k] = s_let(b, "v", x_load(b, in[k], at, lanes));
  if (cond) x[0] = x_load(b, cond, at, lanes);
  s_store(b, out, at, raw(b, op, type_of(to, lanes), x[0], x[1], x[2]));
  bench_call(t);
}

static bool type_has(XOp op, DType dt) {
  bool f = dt_is_float(dt), bit = dt == DT_BOOL;
  if (op == X_AND || op == X_OR || op == X_XOR || op == X_NOT) return !f;
  if (op == X_SHL || op == X_SHR) return !f && !bit;
  if (op == X_SQRT || op == X_POW || op == X_FMA || (op >= X_FLOOR && op <= X_TRUNC) || (op >= X_EXP && op <= X_SIGMOID)) return f;
  return !bit;
}

static void elementwise(void **state) {
  (void)state;
  Bench t;
  Operands o;
  bench_open(&t, target_find("native"));
  operands_open(&t, &o);
  for (int op = X_ADD; op <= X_SIGMOID; op++) {
    for (int i = 0; i < TYPES; i++) {
      for (int l = 0; l < COUNTOF(all_lanes); l++) {
        DType dt = all_types[i];
        if (!has_lanes(dt, all_lanes[l])) continue;
        bool compare = op >= X_EQ && op <= X_GE;
        if (compare ? dt == DT_BOOL && op > X_NE : op != X_SELECT && !type_has((XOp)op, dt)) continue;
        add_op(&t, &o, (XOp)op, dt, compare ? DT_BOOL : dt, all_lanes[l]);
      }
    }
  }
  bench_plan(&t);
  bench_compare(&t, (const void *const *)o.data, 1);
  operands_close(&o);
  bench_close(&t);
}

static void conversions(void **state) {
  (void)state;
  Bench t;
  Operands o;
  bench_open(&t, target_find("native"));
  operands_open(&t, &o);
  for (int i = 0; i < TYPES; i++) {
    for (int k = 0; k < TYPES; k++) {
      for (int l = 0; l < COUNTOF(all_lanes); l++) {
        DType from = all_types[i], to = all_types[k];
        if (i == k || !has_lanes(from, all_lanes[l]) || !has_lanes(to, all_lanes[l])) continue;
        add_op(&t, &o, X_CAST, from, to, all_lanes[l]);
        if (from != DT_BOOL && to != DT_BOOL && dt_bits(from) == dt_bits(to)) add_op(&t, &o, X_BITCAST, from, to, all_lanes[l]);
      }
    }
  }
  bench_plan(&t);
  bench_compare(&t, (const void *const *)o.data, 1);
  operands_close(&o);
  bench_close(&t);
}

/* idx has no memory of its own: through i64. Operands in a range that its arithmetic keeps. */
static void pointer_sized(void **state) {
  (void)state;
  Bench t;
  bench_open(&t, target_find("native"));
  int64_t a[N], c[N];
  for (int i = 0; i < N; i++) {
    a[i] = (int64_t)i * 7919 % 100000;
    c[i] = i % 37;
  }
  int in = bench_input(&t, DT_I64, N), in2 = bench_input(&t, DT_I64, N);
  static const XOp ops[] = {X_ADD, X_SUB, X_MUL, X_DIV, X_REM, X_MIN, X_MAX, X_AND, X_OR, X_XOR, X_SHL, X_SHR, X_NEG, X_NOT, X_ABS, X_EQ, X_LT, X_GE};
  for (int i = 0; i < COUNTOF(ops); i++) {
    bool compare = ops[i] >= X_EQ && ops[i] <= X_GE;
    Build *b = bench_kernel(&t, x_table[ops[i]].text);
    Var *x = bench_param(&t, "x", DT_I64, ACCESS_IN, in), *z = bench_param(&t, "z", DT_I64, ACCESS_IN, in2);
    Var *y = bench_param(&t, "y", DT_I64, ACCESS_OUT, bench_output(&t, DT_I64, N));
    Expr *r = x_var(b, build_range(b, "r", N));
    Expr *v = raw(b, ops[i], compare ? type_of(DT_BOOL, 1) : type_idx(), x_cast(b, DT_IDX, x_load(b, x, r, 1)),
                  x_table[ops[i]].nargs > 1 ? x_cast(b, DT_IDX, x_load(b, z, r, 1)) : NULL, NULL);
    s_store(b, y, r, x_cast(b, DT_I64, v));
    bench_call(&t);
  }
  bench_plan(&t);
  bench_compare(&t, (const void *const[]){a, c}, 1);
  bench_close(&t);
}

static void lane_operators(void **state) {
  (void)state;
  static const XOp reductions[] = {X_REDUCE_ADD, X_REDUCE_MUL, X_REDUCE_MIN, X_REDUCE_MAX};
  static const DType types[] = {DT_F32, DT_I32};
  Bench t;
  Operands o;
  bench_open(&t, target_find("native"));
  operands_open(&t, &o);
  for (int l = 1; l < COUNTOF(all_lanes); l++) {
    int n = all_lanes[l];
    for (int i = 0; i < COUNTOF(types); i++) {
      DType dt = types[i];
      const int *buf = o.buffer[type_index(dt)];
      for (int k = 0; k < COUNTOF(reductions); k++) {
        Build *b = bench_kernel(&t, arena_printf(t.a, "%s %s x%d", x_table[reductions[k]].text, dt_name(dt), n));
        Var *x = bench_param(&t, "x", dt, ACCESS_IN, buf[2]), *y = bench_param(&t, "y", dt, ACCESS_OUT, bench_output(&t, dt, N / n));
        Expr *r = x_var(b, build_range(b, "r", N / n));
        s_store(b, y, r, x_reduce(b, reductions[k], x_load(b, x, x_muli(b, r, n), n)));
        bench_call(&t);
      }
      /* Splat, iota, extract, shuffle: y = shuffle(x + splat(x[0]) + iota, z) + splat(last of x). */
      Build *b = bench_kernel(&t, arena_printf(t.a, "lanes %s x%d", dt_name(dt), n));
      Var *x = bench_param(&t, "x", dt, ACCESS_IN, buf[0]), *z = bench_param(&t, "z", dt, ACCESS_IN, buf[1]);
      Var *y = bench_param(&t, "y", dt, ACCESS_OUT, bench_output(&t, dt, N));
      Expr *at = x_muli(b, x_var(b, build_range(b, "r", N / n)), n), *v = s_let(b, "v", x_load(b, x, at, n));
      Expr *w = x_add(b, x_add(b, v, x_splat(b, x_load(b, x, at, 1), n)), x_cast(b, dt, x_iota(b, n)));
      uint8_t pick[MAX_LANES], half[MAX_LANES];
      for (int k = 0; k < n; k++) pick[k] = (uint8_t)((k * 5 + 3) % (2 * n));
      for (int k = 0; k < n / 2; k++) half[k] = (uint8_t)(2 * k);
      Expr *s = s_let(b, "s", x_shuffle(b, w, x_load(b, z, at, n), pick, n));
      s_store(b, y, at, x_add(b, s, x_splat(b, x_extract(b, v, n - 1), n)));
      if (n > 2) s_store(b, y, at, x_shuffle(b, s, v, half, n / 2));
      bench_call(&t);
    }
  }
  bench_plan(&t);
  bench_compare(&t, (const void *const *)o.data, 1);
  operands_close(&o);
  bench_close(&t);
}

/* ---- memory ---- */

/* How a count or a stride comes: not at all, as a constant, from memory. */
enum { NONE, CONSTANT, VARIABLE };

typedef struct Partial { DType dt; int lanes, count_kind, count, stride_kind, stride; } Partial;

/* For each r: y[r * row ...] = x[...] with that count and stride on both sides. */
static void add_partial(Bench *t, int params, const int *buf, const Partial *c, bool store) {
  int row = 64 * 4;
  char name[24];
  Build *b = bench_kernel(t, arena_printf(t->a, "%s %s count %d:%d stride %d:%d", store ? "store" : "load", type_name(type_of(c->dt, c->lanes), name),
                                          c->count_kind, c->count, c->stride_kind, c->stride));
  Var *x = bench_param(t, "x", c->dt, ACCESS_IN, buf[0]), *z = bench_param(t, "z", DT_I64, ACCESS_IN, params);
  Var *y = bench_param(t, "y", c->dt, ACCESS_OUT, bench_output(t, c->dt, 4 * row));
  Expr *r = x_var(b, build_range(b, "r", 4));
  Expr *base = x_addi(b, x_muli(b, r, row), c->stride < 0 ? -c->stride * c->lanes : 0);
  Expr *count = c->count_kind == NONE ? NULL : c->count_kind == CONSTANT ? x_idx(b, c->count) : x_cast(b, DT_IDX, x_load(b, z, x_idx(b, c->count + 2), 1));
  Expr *stride = c->stride_kind == NONE ? NULL : c->stride_kind == CONSTANT ? x_idx(b, c->stride) : x_cast(b, DT_IDX, x_load(b, z, x_idx(b, c->stride + 2), 1));
  if (store) s_store_part(b, y, base, x_load(b, x, x_muli(b, r, row), c->lanes), count, stride);
  else s_store(b, y, x_muli(b, r, row), x_load_part(b, x, base, c->lanes, count, stride));
  bench_call(t);
}

static void partial_and_strided(void **state) {
  (void)state;
  static const DType types[] = {DT_F32, DT_I32, DT_BOOL};
  static const int strides[] = {0, 2, 3, -1, -2};
  Bench t;
  Operands o;
  bench_open(&t, target_find("native"));
  operands_open(&t, &o);
  int64_t numbers[80];   /* numbers[i + 2] = i */
  for (int i = 0; i < 80; i++) numbers[i] = i - 2;
  int params = bench_input(&t, DT_I64, 80);
  for (int i = 0; i < COUNTOF(types); i++) {
    const int *buf = o.buffer[type_index(types[i])];
    for (int l = 0; l < COUNTOF(all_lanes); l++) {
      int n = all_lanes[l];
      if (!has_lanes(types[i], n) || n == 1) continue;
      const int counts[] = {-1, 0, 1, n / 2 + 1, n - 1, n, n + 1};
      for (int store = 0; store < 2; store++) {
        for (int k = 0; k < COUNTOF(counts); k++) {
          for (int kind = CONSTANT; kind <= VARIABLE; kind++) {
            add_partial(&t, params, buf, &(Partial){types[i], n, kind, counts[k], NONE, 1}, store);
            add_partial(&t, params, buf, &(Partial){types[i], n, kind, counts[k], kind, 3}, store);
          }
        }
        for (int k = 0; k < COUNTOF(strides); k++) {
          add_partial(&t, params, buf, &(Partial){types[i], n, NONE, 0, CONSTANT, strides[k]}, store);
          add_partial(&t, params, buf, &(Partial){types[i], n, NONE, 0, VARIABLE, strides[k]}, store);
          add_partial(&t, params, buf, &(Partial){types[i], n, VARIABLE, n - 1, VARIABLE, strides[k]}, store);
        }
      }
    }
  }
  bench_plan(&t);
  const void *in[3 * TYPES + 1];
  memcpy(in, o.data, sizeof o.data);
  in[3 * TYPES] = numbers;
  bench_compare(&t, in, 1);
  operands_close(&o);
  bench_close(&t);
}

/* ---- statements ---- */

/* Collatz steps of r by while and if; sums over a triangular loop; prefetches; everything that has a body, nested. */
static void statements(void **state) {
  (void)state;
  Bench t;
  bench_open(&t, target_find("native"));
  float x[256], w[64];
  bench_fill(x, DT_F32, 256, 5);
  for (int i = 0; i < 64; i++) w[i] = (float)i / 8;
  int in = bench_input(&t, DT_F32, 256), weight = bench_weight(&t, w, sizeof w), mid = bench_arena(&t, 256 * 4);
  Build *b = bench_kernel(&t, "while, if");
  Var *y = bench_param(&t, "y", DT_I64, ACCESS_OUT, bench_output(&t, DT_I64, 300));
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
  bench_call(&t);

  b = bench_kernel(&t, "loops, registers, prefetch, pin");
  Var *px = bench_param(&t, "x", DT_F32, ACCESS_IN, in), *pw = bench_param(&t, "w", DT_F32, ACCESS_CONST, weight);
  Var *pm = bench_param(&t, "m", DT_F32, ACCESS_OUT, mid);
  r = x_var(b, build_range(b, "r", 8));
  Var *acc = s_reg(b, "acc", x_splat(b, x_float(b, type_of(DT_F32, 1), -0.0), 8)), *ok = s_reg(b, "ok", x_int(b, type_of(DT_BOOL, 1), 1));
  Expr *i = s_for(b, "i", x_idx(b, 0), x_addi(b, r, 1), 1), *k = s_for(b, "k", i, x_idx(b, 8), 3);
  Expr *v = s_let(b, "v", x_load(b, pw, x_muli(b, k, 8), 8));
  s_pin(b, v->var);
  s_prefetch(b, px, x_addi(b, x_muli(b, k, 1000), 1 << 20), 0, false);
  s_prefetch(b, pm, x_muli(b, k, 8), 3, true);
  s_set(b, acc, x_fma(b, v, x_splat(b, x_load(b, px, x_add(b, i, x_muli(b, r, 32)), 1), 8), x_var(b, acc)));
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
  s_store(b, pm, x_muli(b, r, 8), x_var(b, acc));
  bench_call(&t);

  b = bench_kernel(&t, "scratch, alias");
  pm = bench_param(&t, "m", DT_F32, ACCESS_IN, mid);
  Var *s = bench_param(&t, "s", DT_F32, ACCESS_SCRATCH, bench_scratch(&t, 64));
  Var *py = bench_param(&t, "y", DT_F32, ACCESS_OUT, bench_output(&t, DT_F32, 64));
  r = x_var(b, build_range(b, "r", 8));
  for (int at = 0; at < 8; at += 4) s_store(b, s, x_idx(b, at), x_load(b, pm, x_addi(b, x_muli(b, r, 8), 4 - at), 4));
  s_store(b, py, x_muli(b, r, 8), x_load(b, s, x_idx(b, 0), 8));
  bench_call(&t);

  b = bench_kernel(&t, "no range");
  py = bench_param(&t, "y", DT_F32, ACCESS_OUT, bench_output(&t, DT_F32, 1));
  s_store(b, py, x_idx(b, 0), x_float(b, type_of(DT_F32, 1), 1.25));
  bench_call(&t);

  bench_plan(&t);
  for (int threads = 1; threads <= 4; threads++) bench_compare(&t, (const void *const[]){x}, threads);
  bench_close(&t);
}

/* y = x in place: parameters that may overlap. */
static void overlapping(void **state) {
  (void)state;
  Bench t;
  bench_open(&t, target_find("native"));
  float x[256];
  bench_fill(x, DT_F32, 256, 3);
  int in = bench_input(&t, DT_F32, 256), mid = bench_arena(&t, 1024);
  Build *b = bench_kernel(&t, "copy");
  Var *px = bench_param(&t, "x", DT_F32, ACCESS_IN, in), *py = bench_param(&t, "y", DT_F32, ACCESS_OUT, mid);
  Expr *at = x_muli(b, x_var(b, build_range(b, "r", 16)), 16);
  s_store(b, py, at, x_load(b, px, at, 16));
  bench_call(&t);
  b = bench_kernel(&t, "in place");
  px = bench_param(&t, "x", DT_F32, ACCESS_IN, mid);
  py = bench_param(&t, "y", DT_F32, ACCESS_OUT, mid);
  px->may_alias = py->may_alias = true;
  at = x_muli(b, x_var(b, build_range(b, "r", 16)), 16);
  for (int i = 0; i < 16; i += 4) {
    Expr *to = x_addi(b, at, i);
    s_store(b, py, to, x_add(b, x_load(b, px, to, 4), x_load(b, px, to, 4)));
  }
  bench_call(&t);
  b = bench_kernel(&t, "out");
  px = bench_param(&t, "x", DT_F32, ACCESS_IN, mid);
  py = bench_param(&t, "y", DT_F32, ACCESS_OUT, bench_output(&t, DT_F32, 256));
  at = x_muli(b, x_var(b, build_range(b, "r", 16)), 16);
  s_store(b, py, at, x_load(b, px, at, 16));
  bench_call(&t);
  bench_plan(&t);
  bench_compare(&t, (const void *const[]){x}, 2);
  bench_close(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(elementwise),        cmocka_unit_test(conversions), cmocka_unit_test(pointer_sized), cmocka_unit_test(lane_operators),
    cmocka_unit_test(partial_and_strided), cmocka_unit_test(statements),  cmocka_unit_test(overlapping),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
