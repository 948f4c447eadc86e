/* passes/loop/rewrite.c: changing expressions and statements in place. Expressions may be shared, so they are copied, never written to. */
#include "rewrite.h"

Expr *expr_with(Build *b, Expr *e, Expr *const a[3]) {
  if (a[0] == e->a[0] && a[1] == e->a[1] && a[2] == e->a[2]) return e;
  Expr *copy = NEW(b->arena, Expr);
  *copy = *e;
  for (int i = 0; i < 3; i++) copy->a[i] = a[i];
  return copy;
}

Expr *expr_fold(Build *b, Expr *e, Expr *const a[3]) {
  switch (e->op) {
  case X_CONST: case X_VAR: case X_IOTA: case X_COUNT: return e;
  case X_LOAD: return x_load_part(b, e->var, a[0], e->type.lanes, a[1], a[2]);
  case X_FMA: return x_fma(b, a[0], a[1], a[2]);
  case X_SELECT: return x_select(b, a[0], a[1], a[2]);
  case X_CAST: return x_cast(b, e->type.dt, a[0]);
  case X_BITCAST: return x_bitcast(b, e->type.dt, a[0]);
  case X_SPLAT: return x_splat(b, a[0], e->type.lanes);
  case X_EXTRACT: return x_extract(b, a[0], (int)e->i);
  case X_SHUFFLE: return x_shuffle(b, a[0], a[1], e->shuffle, e->type.lanes);
  case X_REDUCE_ADD: case X_REDUCE_MUL: case X_REDUCE_MIN: case X_REDUCE_MAX: return x_reduce(b, e->op, a[0]);
  case X_ADD: case X_SUB: case X_MUL: case X_DIV: case X_REM: case X_MIN: case X_MAX: case X_AND: case X_OR: case X_XOR: case X_SHL:
  case X_SHR: case X_POW: case X_EQ: case X_NE: case X_LT: case X_LE: case X_GT: case X_GE: return x_bin(b, e->op, a[0], a[1]);
  case X_NEG: case X_NOT: case X_ABS: case X_SQRT: case X_FLOOR: case X_CEIL: case X_ROUND: case X_TRUNC: case X_EXP: case X_LOG:
  case X_SIN: case X_COS: case X_TAN: case X_ASIN: case X_ACOS: case X_ATAN: case X_SINH: case X_COSH: case X_TANH: case X_ASINH:
  case X_ACOSH: case X_ATANH: case X_ERF: case X_SIGMOID: return x_un(b, e->op, a[0]);
  }
  return e;
}

bool expr_equal(const Expr *x, const Expr *y) {
  if (x == y) return true;
  if (!x || !y || x->op != y->op || !type_equal(x->type, y->type) || x->var != y->var || x->i != y->i) return false;
  if (x->op == X_CONST && memcmp(&x->f, &y->f, sizeof x->f)) return false;
  if (x->op == X_SHUFFLE && memcmp(x->shuffle, y->shuffle, (size_t)x->type.lanes)) return false;
  return expr_equal(x->a[0], y->a[0]) && expr_equal(x->a[1], y->a[1]) && expr_equal(x->a[2], y->a[2]);
}

void stmt_append(Build *b, Stmt *s) {
  Block *in = b->open[b->depth - 1];
  s->next = NULL;
  if (in->last) in->last->next = s;
  else in->first = s;
  in->last = s;
}

void stmt_map(Build *b, Stmt *s, Expr *(*fn)(Build *b, Expr *e, void *user), void *user) {
  Expr **place[] = {&s->e, &s->end, &s->index, &s->count, &s->stride};
  for (int i = 0; i < COUNTOF(place); i++) {
    if (*place[i]) *place[i] = fn(b, *place[i], user);
  }
}
