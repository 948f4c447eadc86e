/* tests/unit/loop_random.h: random kernels that are valid and stay within their buffers, for differential tests.
 *
 * Parameters: x (f32 in), n (i32 in), u (u8 in), d (f64 in), m (bool in), each of RANDOM_IN elements; y (f32 out), z (i32 out), each of
 * RANDOM_EXTENT * RANDOM_OUT elements, iteration r of the range writing to [r * RANDOM_OUT, (r + 1) * RANDOM_OUT); s (f32 scratch) of
 * RANDOM_OUT. Outputs and scratch are cleared first. Expressions are not folded: simplifying the kernel tests the laws of folding.
 * Whatever differs between machines by right stays out: division of integers by variables, shift counts out of range, NaN's bits,
 * mathematics (unless RANDOM_MATH).
 */
#ifndef LOOP_RANDOM_H
#define LOOP_RANDOM_H

#include "loop_test.h"

enum { RANDOM_IN = 128, RANDOM_OUT = 64, RANDOM_EXTENT = 3, RANDOM_PARAMS = 8 };
enum { RANDOM_MATH = 1, RANDOM_WIDTHS = 2 /* of real targets: 4, 8 and 16 lanes; else 2 and 32 as well */ };

typedef struct Random {
  Build b;
  Arena *arena;
  uint64_t seed;
  unsigned flags;
  Var *x, *n, *u, *d, *m, *y, *z, *s, *range;
  VEC(Var *) idx;          /* in scope: counters and idx lets */
  VEC(Var *) value;        /* in scope: lets and registers of all types */
  int depth, budget;
} Random;

static inline Expr *rnd_node(Random *g, XOp op, Type t, Expr *a, Expr *b, Expr *c) {
  Expr *e = NEW(g->arena, Expr);
  *e = (Expr){.op = op, .type = t, .a = {a, b, c}};
  return e;
}
/* The order of evaluation of arguments is the compiler's choice: two random operands come from here, so that a seed is one kernel. */
static inline Expr *rnd_expr(Random *g, Type t, int depth);
static inline Expr *rnd_node2(Random *g, XOp op, Type t, Type of, int depth) {
  Expr *a = rnd_expr(g, of, depth), *b = rnd_expr(g, of, depth);
  return rnd_node(g, op, t, a, b, NULL);
}
static inline Expr *rnd_var(Random *g, Var *v) {
  Expr *e = rnd_node(g, X_VAR, v->type, NULL, NULL, NULL);
  e->var = v;
  return e;
}
static inline int rnd(Random *g, int n) { return test_pick(&g->seed, n); }
/* Of a vector. */
static inline int rnd_width(Random *g) { return g->flags & RANDOM_WIDTHS ? 4 << rnd(g, 3) : 2 << rnd(g, 5); }
static inline Expr *rnd_int(Random *g, Type t, int64_t i) { return x_int(&g->b, t, i); }

/* A small non-negative idx. */
static inline Expr *rnd_index_term(Random *g, int depth) {
  Type t = type_idx();
  if (depth > 0) {
    int pick = rnd(g, 8), small = rnd(g, 9);
    Expr *a = rnd_index_term(g, depth - 1), *c = NULL;
    if (pick == 0 || pick >= 6) c = rnd_index_term(g, depth - 1);
    switch (pick) {
    case 0: return rnd_node(g, X_ADD, t, a, c, NULL);
    case 1: return rnd_node(g, X_ADD, t, a, rnd_int(g, t, 4 * small), NULL);
    case 2: return rnd_node(g, X_MUL, t, a, rnd_int(g, t, small % 5), NULL);
    case 3: return rnd_node(g, X_DIV, t, a, rnd_int(g, t, 1 + small), NULL);
    case 4: return rnd_node(g, X_REM, t, a, rnd_int(g, t, 1 + small), NULL);
    case 5: return rnd_node(g, X_MUL, t, rnd_int(g, t, 1 + 2 * small), a, NULL);
    case 6: return rnd_node(g, X_MIN, t, a, c, NULL);
    case 7: return rnd_node(g, X_SELECT, t, rnd_expr(g, type_of(DT_BOOL, 1), 1), a, c);
    }
  }
  if (g->idx.n && rnd(g, 3)) return rnd_var(g, g->idx.at[rnd(g, g->idx.n)]);
  return rnd_int(g, t, rnd(g, 20));
}

/* base + term % room, written in one of two ways. */
static inline Expr *rnd_index(Random *g, Expr *base, int room) {
  Expr *e = rnd_node(g, X_REM, type_idx(), rnd_index_term(g, rnd(g, 4)), rnd_int(g, type_idx(), room), NULL);
  if (!base) return e;
  return rnd(g, 2) ? rnd_node(g, X_ADD, type_idx(), base, e, NULL) : rnd_node(g, X_ADD, type_idx(), e, base, NULL);
}

static inline Expr *rnd_load(Random *g, Var *buf, int size, int lanes) {
  Expr *count = NULL, *stride = NULL;
  int room = size - lanes + 1;
  if (lanes > 1 && rnd(g, 4) == 0) count = rnd_node(g, X_REM, type_idx(), rnd_index_term(g, 1), rnd_int(g, type_idx(), lanes + 1), NULL);
  if (lanes > 1 && lanes <= 8 && rnd(g, 4) == 0) {
    int step = rnd(g, 4);
    stride = rnd_int(g, type_idx(), step);
    room = size - (lanes - 1) * step;
  }
  Expr *e = rnd_node(g, X_LOAD, type_of(buf->type.dt, lanes), rnd_index(g, NULL, room), count, stride);
  e->var = buf;
  return e;
}

static inline Expr *rnd_leaf(Random *g, Type t) {
  static const double f[] = {0, 1, -1, 0.5, 2, -2.5, 1e10, 1e-10, 3, -0.0};
  if (t.dt == DT_IDX) return rnd_index_term(g, 1);
  for (int tries = 0; tries < 3 && g->value.n; tries++) {
    Var *v = g->value.at[rnd(g, g->value.n)];
    if (type_equal(v->type, t)) return rnd_var(g, v);
  }
  if (t.dt == DT_F32 && rnd(g, 2)) return rnd_load(g, g->x, RANDOM_IN, t.lanes);
  if (t.dt == DT_I32 && rnd(g, 2)) return rnd_load(g, g->n, RANDOM_IN, t.lanes);
  if (t.dt == DT_BOOL && rnd(g, 2)) return rnd_load(g, g->m, RANDOM_IN, t.lanes);
  if (t.dt == DT_U8 && rnd(g, 2)) return rnd_load(g, g->u, RANDOM_IN, 1);
  if (t.dt == DT_F64 && rnd(g, 2)) return rnd_load(g, g->d, RANDOM_IN, 1);
  if (t.dt == DT_I32 && t.lanes > 1 && rnd(g, 6) == 0) return rnd_node(g, X_IOTA, t, NULL, NULL, NULL);
  if (dt_is_float(t.dt)) return x_float(&g->b, t, f[rnd(g, COUNTOF(f))]);
  return rnd_int(g, t, t.dt == DT_BOOL ? rnd(g, 2) : rnd(g, 3) ? rnd(g, 9) - (dt_is_signed(t.dt) ? 4 : 0) : (int64_t)test_random(&g->seed));
}

static inline Expr *rnd_compare(Random *g, Type t, int depth) {
  static const DType scalar[] = {DT_F32, DT_I32, DT_U8, DT_F64, DT_I64, DT_IDX};
  Type of = type_of(t.lanes > 1 ? (rnd(g, 2) ? DT_F32 : DT_I32) : scalar[rnd(g, COUNTOF(scalar))], t.lanes);
  XOp op = (XOp)(X_EQ + rnd(g, 6));
  return rnd_node2(g, op, t, of, depth - 1);
}

static inline Expr *rnd_bool(Random *g, Type t, int depth) {
  int pick = rnd(g, 6), kind = rnd(g, 3);
  switch (pick) {
  case 0: return rnd_node2(g, (XOp)(X_AND + kind), t, t, depth - 1);
  case 1: return rnd_node(g, X_NOT, t, rnd_expr(g, t, depth - 1), NULL, NULL);
  case 2: return rnd_node(g, X_CAST, t, rnd_expr(g, type_of(kind ? DT_F32 : DT_I32, t.lanes), depth - 1), NULL, NULL);
  default: return rnd_compare(g, t, depth);
  }
}

static inline Expr *rnd_int_op(Random *g, Type t, int depth) {
  static const XOp ops[] = {X_ADD, X_SUB, X_MUL, X_MIN, X_MAX, X_AND, X_OR, X_XOR};
  int pick = rnd(g, 5), kind = rnd(g, COUNTOF(ops)), small = rnd(g, 9), shift = rnd(g, xt_bits(t.dt));
  if (pick > 2) return rnd_node2(g, ops[kind], t, t, depth - 1);
  Expr *a = rnd_expr(g, t, depth - 1);
  if (pick == 0) return rnd_node(g, kind & 1 ? X_DIV : X_REM, t, a, rnd_int(g, t, 1 + small), NULL);
  if (pick == 1) return rnd_node(g, kind & 1 ? X_SHL : X_SHR, t, a, rnd_int(g, t, shift), NULL);
  return rnd_node(g, kind & 1 ? X_NEG : X_NOT, t, a, NULL, NULL);
}

static inline Expr *rnd_float_op(Random *g, Type t, int depth) {
  static const XOp binary[] = {X_ADD, X_SUB, X_MUL, X_DIV, X_MIN, X_MAX},
                   unary[] = {X_NEG, X_ABS, X_SQRT, X_FLOOR, X_CEIL, X_ROUND, X_TRUNC};
  static const XOp math[] = {X_EXP, X_LOG, X_TANH, X_ERF, X_SIGMOID, X_SIN};
  int pick = rnd(g, 5), kind = rnd(g, 42);
  Expr *a = rnd_expr(g, t, depth - 1), *b;
  if (pick == 0) return rnd_node(g, unary[kind % COUNTOF(unary)], t, a, NULL, NULL);
  if (pick == 2 && (g->flags & RANDOM_MATH)) return rnd_node(g, math[kind % COUNTOF(math)], t, a, NULL, NULL);
  b = rnd_expr(g, t, depth - 1);
  if (pick == 1) return rnd_node(g, X_FMA, t, a, b, rnd_expr(g, t, depth - 1));
  return rnd_node(g, binary[kind % COUNTOF(binary)], t, a, b, NULL);
}

static inline Expr *rnd_lanes(Random *g, Type t, int depth) {
  if (t.lanes == 1) {
    int n = rnd_width(g);
    XOp op = rnd(g, 2) && t.dt != DT_BOOL ? X_REDUCE_MIN : X_EXTRACT;
    Expr *e = rnd_node(g, op, t, rnd_expr(g, type_of(t.dt, n), depth - 1), NULL, NULL);
    if (e->op == X_EXTRACT) e->i = rnd(g, n);
    return e;
  }
  if (rnd(g, 2)) return rnd_node(g, X_SPLAT, t, rnd_expr(g, type_of(t.dt, 1), depth - 1), NULL, NULL);
  int n = rnd_width(g);
  Type from = type_of(t.dt, n);
  Expr *e = rnd_node2(g, X_SHUFFLE, t, from, depth - 1);
  uint8_t *pick = NEW_N(g->arena, uint8_t, t.lanes);
  for (int i = 0; i < t.lanes; i++) pick[i] = (uint8_t)rnd(g, 2 * n);
  e->shuffle = pick;
  return e;
}

static inline Expr *rnd_convert(Random *g, Type t, int depth) {
  static const DType scalar[] = {DT_F32, DT_I32, DT_U8, DT_F64, DT_I64, DT_I16, DT_U32, DT_BOOL, DT_IDX},
                     vector[] = {DT_F32, DT_I32, DT_BOOL};
  DType from = t.lanes > 1 ? vector[rnd(g, COUNTOF(vector))] : scalar[rnd(g, COUNTOF(scalar))];
  /* Bits of floats only of those that are no NaN for sure. */
  if (t.dt == DT_F32 && rnd(g, 4) == 0) {
    Type i = type_of(DT_I32, t.lanes);
    Expr *e = rnd_node(g, X_AND, i, rnd_expr(g, i, depth - 1), rnd_int(g, i, 0x3fffffff), NULL);
    return rnd_node(g, X_BITCAST, t, e, NULL, NULL);
  }
  Expr *e = rnd_expr(g, type_of(from, t.lanes), depth - 1);
  return from == t.dt ? e : rnd_node(g, X_CAST, t, e, NULL, NULL);
}

static inline Expr *rnd_expr(Random *g, Type t, int depth) {
  if (depth <= 0 || g->budget-- < 0) return rnd_leaf(g, t);
  if (t.dt == DT_IDX) return rnd_index_term(g, depth);
  bool plain = t.dt == DT_F32 || t.dt == DT_I32 || t.dt == DT_BOOL;
  Expr *e;
  switch (rnd(g, 8)) {
  case 0: return rnd_leaf(g, t);
  case 1:
    e = rnd_node2(g, X_SELECT, t, t, depth - 1);
    e->a[2] = e->a[1];
    e->a[1] = e->a[0];
    e->a[0] = rnd_expr(g, type_of(DT_BOOL, t.lanes), depth - 1);
    return e;
  case 2: if (plain) return rnd_lanes(g, t, depth); break;
  case 3: return rnd_convert(g, t, depth);
  }
  return t.dt == DT_BOOL ? rnd_bool(g, t, depth) : dt_is_float(t.dt) ? rnd_float_op(g, t, depth) : rnd_int_op(g, t, depth);
}

static inline Type rnd_type(Random *g) {
  static const DType scalar[] = {DT_F32, DT_I32, DT_U8, DT_F64, DT_I64, DT_I16, DT_U32, DT_BOOL};
  if (rnd(g, 4) == 0) return type_of(scalar[rnd(g, COUNTOF(scalar))], 1);
  int lanes = rnd(g, 4) ? rnd_width(g) : 1;
  return type_of(rnd(g, 5) ? (rnd(g, 3) ? DT_F32 : DT_I32) : DT_BOOL, lanes);
}

static inline Stmt *rnd_stmt(Random *g, StmtKind kind) {
  Stmt *s = NEW(g->arena, Stmt);
  Block *in = g->b.open[g->b.depth - 1];
  s->kind = kind;
  if (in->last) in->last->next = s;
  else in->first = s;
  in->last = s;
  return s;
}

static inline void rnd_define(Random *g, bool reg, Type t, Expr *e) {
  /* s_let would not name constants; the text form allows it. */
  Var *v = s_reg(&g->b, reg ? "a" : "t", e);
  Stmt *s = g->b.open[g->b.depth - 1]->last;
  if (!reg) {
    s->kind = S_LET;
    v->kind = VAR_LET;
  }
  if (t.dt == DT_IDX) vec_push(g->arena, &g->idx, v);
  else vec_push(g->arena, &g->value, v);
}

static inline void rnd_store(Random *g) {
  bool f = rnd(g, 3) != 0;
  Var *buf = f ? (rnd(g, 4) ? g->y : g->s) : g->z;
  int lanes = rnd(g, 4) ? rnd_width(g) : 1;
  Expr *base = buf == g->s ? NULL : rnd_node(g, X_MUL, type_idx(), rnd_var(g, g->range), rnd_int(g, type_idx(), RANDOM_OUT), NULL);
  Expr *e = rnd_expr(g, type_of(f ? DT_F32 : DT_I32, lanes), 4);
  Stmt *s = rnd_stmt(g, S_STORE);
  s->var = buf;
  s->e = e;
  s->index = rnd_index(g, base, RANDOM_OUT - lanes + 1);
  if (lanes > 1 && rnd(g, 4) == 0) s->count = rnd_node(g, X_REM, type_idx(), rnd_index_term(g, 1), rnd_int(g, type_idx(), lanes + 1), NULL);
  if (lanes == 4 && rnd(g, 3) == 0) {
    s->index = rnd_index(g, base, RANDOM_OUT - 12);
    s->stride = rnd_int(g, type_idx(), 1 + rnd(g, 4));
  }
}

static inline void rnd_block(Random *g, int n);

static inline void rnd_loop(Random *g) {
  int64_t begin = rnd(g, 3), turns = rnd(g, 4), step = 1 + rnd(g, 3);
  Expr *from = rnd_int(g, type_idx(), begin), *to = rnd_int(g, type_idx(), begin + turns * step);
  if (rnd(g, 3) == 0) to = rnd_node(g, X_ADD, type_idx(), from = rnd_index_term(g, 1), rnd_int(g, type_idx(), turns), NULL);
  Expr *v = s_for(&g->b, "i", from, to, step);
  vec_push(g->arena, &g->idx, v->var);
  rnd_block(g, 2 + rnd(g, 3));
  g->idx.n--;
  s_end(&g->b);
}

/* A loop that a register counts down. */
static inline void rnd_while(Random *g) {
  Type t = type_of(DT_I32, 1);
  Var *c = s_reg(&g->b, "c", rnd_int(g, t, rnd(g, 4)));
  s_while(&g->b, rnd_node(g, X_GT, type_of(DT_BOOL, 1), rnd_var(g, c), rnd_int(g, t, 0), NULL));
  rnd_block(g, 1 + rnd(g, 2));
  s_set(&g->b, c, rnd_node(g, X_SUB, t, rnd_var(g, c), rnd_int(g, t, 1), NULL));
  s_end(&g->b);
}

static inline void rnd_set(Random *g) {
  for (int tries = 0; tries < 8 && g->value.n; tries++) {
    Var *v = g->value.at[rnd(g, g->value.n)];
    if (v->kind != VAR_REG) continue;
    s_set(&g->b, v, rnd_expr(g, v->type, 3));
    return;
  }
}

static inline void rnd_block(Random *g, int n) {
  int idx = g->idx.n, value = g->value.n;
  Type t;
  g->depth++;
  for (int i = 0; i < n; i++) {
    switch (rnd(g, 12)) {
    case 0: case 1: t = rnd_type(g); rnd_define(g, false, t, rnd_expr(g, t, 3)); break;
    case 2: case 3: t = rnd_type(g); rnd_define(g, true, t, rnd_expr(g, t, 2)); break;
    case 4: rnd_define(g, false, type_idx(), rnd_index_term(g, 3)); break;
    case 5: case 6: rnd_set(g); break;
    case 7: if (g->depth < 4) rnd_loop(g); break;
    case 8:
      if (g->depth >= 4) break;
      s_if(&g->b, rnd_expr(g, type_of(DT_BOOL, 1), 2));
      rnd_block(g, 1 + rnd(g, 3));
      if (rnd(g, 2)) {
        s_else(&g->b);
        rnd_block(g, 1 + rnd(g, 2));
      }
      s_end(&g->b);
      break;
    case 9: if (g->depth < 4) rnd_while(g); break;
    default: rnd_store(g);
    }
  }
  g->idx.n = idx;
  g->value.n = value;
  g->depth--;
}

static inline Kernel *random_kernel(Arena *a, uint64_t seed, unsigned flags) {
  Random *g = NEW(a, Random);
  g->arena = a;
  g->seed = seed;
  g->flags = flags;
  g->budget = 400;
  Kernel *k = kernel_new(a, arena_printf(a, "random %llu", (unsigned long long)seed));
  build_start(&g->b, a, k);
  g->x = build_param(&g->b, "x", DT_F32, ACCESS_IN);
  g->n = build_param(&g->b, "n", DT_I32, ACCESS_IN);
  g->u = build_param(&g->b, "u", DT_U8, ACCESS_IN);
  g->d = build_param(&g->b, "d", DT_F64, ACCESS_IN);
  g->m = build_param(&g->b, "m", DT_BOOL, ACCESS_IN);
  g->y = build_param(&g->b, "y", DT_F32, ACCESS_OUT);
  g->z = build_param(&g->b, "z", DT_I32, ACCESS_OUT);
  g->s = build_param(&g->b, "s", DT_F32, ACCESS_SCRATCH);
  g->s->scratch_bytes = RANDOM_OUT * 4;
  g->range = build_range(&g->b, "r", RANDOM_EXTENT);
  vec_push(a, &g->idx, g->range);
  /* Iterations clear what they write, so that results do not depend on what was there. */
  Expr *i = s_for(&g->b, "i", x_idx(&g->b, 0), x_idx(&g->b, RANDOM_OUT), 16);
  s_store(&g->b, g->s, i, x_float(&g->b, type_of(DT_F32, 16), 0));
  s_end(&g->b);
  rnd_block(g, 8);
  rnd_store(g);
  Type f = type_of(DT_F32, 16);
  /* What scratch holds is visible, too. */
  Expr *last = x_bin(&g->b, X_ADD, x_muli(&g->b, x_var(&g->b, g->range), RANDOM_OUT), x_idx(&g->b, RANDOM_OUT - 16));
  s_store(&g->b, g->y, last, x_bin(&g->b, X_ADD, x_load(&g->b, g->s, x_idx(&g->b, 16), 16), rnd_expr(g, f, 2)));
  return k;
}

static inline int32_t rnd_small(uint64_t *seed) {
  uint64_t r = test_random(seed);
  return r & 1 ? (int32_t)(r >> 33) : (int32_t)(r >> 40) % 100 - 50;
}

/* Operands of any random kernel. */
typedef struct RandomData {
  float x[RANDOM_IN];
  int32_t n[RANDOM_IN];
  uint8_t u[RANDOM_IN];
  double d[RANDOM_IN];
  uint8_t m[RANDOM_IN];
  float y[RANDOM_EXTENT * RANDOM_OUT];
  int32_t z[RANDOM_EXTENT * RANDOM_OUT];
  void *data[RANDOM_PARAMS];
  int64_t bytes[RANDOM_PARAMS];
} RandomData;

static inline void random_data(RandomData *r, uint64_t seed) {
  memset(r, 0, sizeof *r);
  for (int i = 0; i < RANDOM_IN; i++) {
    r->x[i] = (float)(int64_t)test_random(&seed) * 0x1p-61f;
    r->n[i] = rnd_small(&seed);
    r->u[i] = (uint8_t)test_random(&seed);
    r->d[i] = (double)(int64_t)test_random(&seed) * 0x1p-60;
    r->m[i] = test_random(&seed) & 1;
  }
  r->x[3] = -0.0f;
  r->x[5] = INFINITY;
  r->x[7] = NAN;
  r->n[4] = INT32_MIN;
  r->n[6] = INT32_MAX;
  void *const data[] = {r->x, r->n, r->u, r->d, r->m, r->y, r->z, NULL};
  const int64_t bytes[] = {sizeof r->x, sizeof r->n, sizeof r->u, sizeof r->d, sizeof r->m, sizeof r->y, sizeof r->z, 0};
  memcpy(r->data, data, sizeof data);
  memcpy(r->bytes, bytes, sizeof bytes);
}

/* The outputs' bits, all NaNs being equal. */
static inline bool random_same(const RandomData *a, const RandomData *b) {
  for (int i = 0; i < RANDOM_EXTENT * RANDOM_OUT; i++) {
    if (a->z[i] != b->z[i]) return false;
    if (memcmp(&a->y[i], &b->y[i], 4) && !(isnan(a->y[i]) && isnan(b->y[i]))) return false;
  }
  return true;
}

#endif
