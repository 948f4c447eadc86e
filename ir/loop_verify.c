/* ir/loop_verify.c: checks kernels: types, scopes, the rules for vectors, access to buffers. Programs are in program_verify.c.
 *
 * One walk in program order. A message says what is wrong and shows the statement; the first one ends the walk. Nothing is assumed of
 * the kernel but that its pointers are NULL or good.
 */
#include "loop_text.h"
#include <stdlib.h>

#define HEIGHT_MAX 20000   /* of an expression: readers recurse over them */

enum { UNDEFINED, IN_SCOPE, GONE };

typedef struct Verify {
  const Kernel *k;
  Arena *arena;
  uint8_t *scope;          /* by id */
  const Stmt *at;
  const char *wrong;
  int nesting, height;
} Verify;

static bool fail(Verify *v, const char *fmt, ...) PRINTF_LIKE(2, 3);
static bool fail(Verify *v, const char *fmt, ...) {
  if (v->wrong) return false;
  char msg[400];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(msg, sizeof msg, fmt, ap);
  va_end(ap);
  Text t = {.a = v->arena};
  text_add(&t, msg);
  if (v->at && v->height < HEIGHT_MAX) {
    text_add(&t, " in: ");
    stmt_print_head(v->at, &t);
  }
  if (t.n > 600) t.s[600] = 0;
  v->wrong = t.s;
  return false;
}

/* ---- types ---- */

static bool type_ok(Type t) {
  if (t.lanes == 1) return t.dt == DT_IDX || dt_computable(t.dt);
  bool power = t.lanes >= 2 && t.lanes <= MAX_LANES && !(t.lanes & (t.lanes - 1));
  return power && (t.dt == DT_F32 || t.dt == DT_I32 || t.dt == DT_BOOL);
}

static bool is_number(DType t) { return xt_is_int(t) || dt_is_float(t); }

static bool same(Verify *v, const Expr *e, Type a, Type b) {
  char x[24], y[24];
  return type_equal(a, b) || fail(v, "%s has operands of %s and %s", x_table[e->op].text, type_name(a, x), type_name(b, y));
}

static bool result(Verify *v, const Expr *e, Type t) {
  char x[24], y[24];
  return type_equal(e->type, t) || fail(v, "%s gives %s, not %s", x_table[e->op].text, type_name(t, x), type_name(e->type, y));
}

static bool operand(Verify *v, const Expr *e, bool ok) {
  char x[24];
  return ok || fail(v, "%s of %s", x_table[e->op].text, type_name(e->a[0]->type, x));
}

/* ---- expressions ---- */

static bool expr(Verify *v, const Expr *e);

static bool is_scalar_idx(Verify *v, const Expr *e, const char *what) {
  char x[24];
  if (!e) return fail(v, "no %s", what);
  return expr(v, e) && (type_equal(e->type, type_idx()) || fail(v, "%s of %s", what, type_name(e->type, x)));
}

static bool access_ok(Verify *v, const Var *buf, Type t, const Expr *index, const Expr *count, const Expr *stride, bool write) {
  char x[24], y[24];
  if (!buf || buf->kind != VAR_BUF) return fail(v, "access to what is not a buffer");
  if (buf->id < 0 || buf->id >= v->k->vars.n || v->k->vars.at[buf->id] != buf) return fail(v, "a buffer of another kernel");
  if (buf->type.dt != t.dt) return fail(v, "access to %s as %s, which has %s", buf->name, type_name(t, x), type_name(buf->type, y));
  if (write && (buf->access == ACCESS_IN || buf->access == ACCESS_CONST)) return fail(v, "store to %s, which is only read", buf->name);
  if (!write && buf->access == ACCESS_OUT) return fail(v, "load from %s, which is only written", buf->name);
  if ((count || stride) && t.lanes == 1) return fail(v, "a scalar has neither count nor stride");
  return is_scalar_idx(v, index, "index") && (!count || is_scalar_idx(v, count, "count")) &&
         (!stride || is_scalar_idx(v, stride, "stride"));
}

static bool constant_ok(Verify *v, const Expr *e) {
  if (dt_is_float(e->type.dt))
    return e->type.dt != DT_F32 || isnan(e->f) || (double)(float)e->f == e->f || fail(v, "%.17g is not an f32", e->f);
  return int_wrap(e->type.dt, e->i) == e->i || fail(v, "%lld does not fit its type", (long long)e->i);
}

static bool var_ok(Verify *v, const Expr *e) {
  const Var *x = e->var;
  if (!x || x->id < 0 || x->id >= v->k->vars.n || v->k->vars.at[x->id] != x) return fail(v, "a variable of another kernel");
  if (x->kind == VAR_BUF) return fail(v, "buffer %s used as a value", x->name);
  if (v->scope[x->id] != IN_SCOPE) return fail(v, "%s is used where it is not defined", x->name);
  return result(v, e, x->type);
}

static bool shuffle_ok(Verify *v, const Expr *e) {
  if (!same(v, e, e->a[0]->type, e->a[1]->type) || !operand(v, e, e->a[0]->type.lanes > 1)) return false;
  if (e->type.lanes < 2 || e->type.dt != e->a[0]->type.dt) return fail(v, "shuffle of another type");
  for (int i = 0; i < e->type.lanes; i++) {
    if (e->shuffle[i] >= 2 * e->a[0]->type.lanes) return fail(v, "shuffle picks lane %d of %d", e->shuffle[i], 2 * e->a[0]->type.lanes);
  }
  return true;
}

static bool bitcast_ok(Verify *v, const Expr *e) {
  DType to = e->type.dt, from = e->a[0]->type.dt;
  bool ok = to != DT_BOOL && from != DT_BOOL && to != DT_IDX && from != DT_IDX && to != from && dt_bits(to) == dt_bits(from);
  return operand(v, e, ok) && result(v, e, type_of(to, e->a[0]->type.lanes));
}

static bool select_ok(Verify *v, const Expr *e) {
  return same(v, e, e->a[0]->type, type_of(DT_BOOL, e->type.lanes)) && same(v, e, e->a[1]->type, e->a[2]->type) &&
         result(v, e, e->a[1]->type);
}

/* Operands are good by now. */
static bool op_ok(Verify *v, const Expr *e) {
  Type t = e->a[0] ? e->a[0]->type : e->type;
  switch (e->op) {
  case X_CONST: return constant_ok(v, e);
  case X_VAR: return var_ok(v, e);
  case X_IOTA: return (e->type.dt == DT_I32 && e->type.lanes > 1) || fail(v, "iota gives vectors of i32");
  case X_LOAD: return true;
  case X_ADD: case X_SUB: case X_MUL: case X_DIV: case X_REM: case X_MIN: case X_MAX:
    return same(v, e, t, e->a[1]->type) && operand(v, e, is_number(t.dt)) && result(v, e, t);
  case X_AND: case X_OR: case X_XOR: return same(v, e, t, e->a[1]->type) && operand(v, e, !dt_is_float(t.dt)) && result(v, e, t);
  case X_SHL: case X_SHR: return same(v, e, t, e->a[1]->type) && operand(v, e, xt_is_int(t.dt)) && result(v, e, t);
  case X_POW: return same(v, e, t, e->a[1]->type) && operand(v, e, dt_is_float(t.dt)) && result(v, e, t);
  case X_FMA:
    return same(v, e, t, e->a[1]->type) && same(v, e, t, e->a[2]->type) && operand(v, e, dt_is_float(t.dt)) && result(v, e, t);
  case X_NEG: case X_ABS: return operand(v, e, is_number(t.dt)) && result(v, e, t);
  case X_NOT: return operand(v, e, !dt_is_float(t.dt)) && result(v, e, t);
  case X_EQ: case X_NE: return same(v, e, t, e->a[1]->type) && result(v, e, type_of(DT_BOOL, t.lanes));
  case X_LT: case X_LE: case X_GT: case X_GE:
    return same(v, e, t, e->a[1]->type) && operand(v, e, is_number(t.dt)) && result(v, e, type_of(DT_BOOL, t.lanes));
  case X_SELECT: return select_ok(v, e);
  case X_SQRT: case X_FLOOR: case X_CEIL: case X_ROUND: case X_TRUNC: case X_EXP: case X_LOG: case X_SIN: case X_COS: case X_TAN:
  case X_ASIN: case X_ACOS: case X_ATAN: case X_SINH: case X_COSH: case X_TANH: case X_ASINH: case X_ACOSH: case X_ATANH:
  case X_ERF: case X_SIGMOID:
    return operand(v, e, dt_is_float(t.dt)) && result(v, e, t);
  case X_CAST: return operand(v, e, e->type.dt != t.dt) && result(v, e, type_of(e->type.dt, t.lanes));
  case X_BITCAST: return bitcast_ok(v, e);
  case X_SPLAT:
    return operand(v, e, t.lanes == 1) && result(v, e, type_of(t.dt, e->type.lanes)) && (e->type.lanes > 1 || fail(v, "splat to a scalar"));
  case X_EXTRACT: return operand(v, e, e->i >= 0 && e->i < t.lanes && t.lanes > 1) && result(v, e, type_of(t.dt, 1));
  case X_SHUFFLE: return shuffle_ok(v, e);
  case X_REDUCE_ADD: case X_REDUCE_MUL: case X_REDUCE_MIN: case X_REDUCE_MAX:
    return operand(v, e, t.lanes > 1 && t.dt != DT_BOOL) && result(v, e, type_of(t.dt, 1));
  case X_COUNT: break;
  }
  return fail(v, "no such operator");
}

static bool expr(Verify *v, const Expr *e) {
  char x[24];
  if (!e) return fail(v, "an operand is missing");
  if ((int)e->op < 0 || e->op >= X_COUNT) return fail(v, "no such operator");
  if (!type_ok(e->type)) return fail(v, "%s is not a type of values", type_name(e->type, x));
  if (e->op == X_SHUFFLE && !e->shuffle) return fail(v, "shuffle without lanes");
  if (++v->height > HEIGHT_MAX) return fail(v, "an expression is nested too deeply");
  if (e->op == X_LOAD) {
    if (!access_ok(v, e->var, e->type, e->a[0], e->a[1], e->a[2], false)) return false;
    v->height--;
    return true;
  }
  for (int i = 0; i < x_table[e->op].nargs; i++) {
    if (!expr(v, e->a[i])) return false;
  }
  v->height--;
  return op_ok(v, e);
}

static bool expr_of(Verify *v, const Expr *e, Type t, const char *what) {
  char x[24], y[24];
  if (!expr(v, e)) return false;
  return type_equal(e->type, t) || fail(v, "%s of %s where %s belongs", what, type_name(e->type, x), type_name(t, y));
}

/* ---- statements ---- */

static bool block(Verify *v, const Block *b);

static bool define(Verify *v, const Var *x, VarKind kind) {
  if (!x || x->kind != kind) return fail(v, "a definition of the wrong kind");
  if (x->id < 0 || x->id >= v->k->vars.n || v->k->vars.at[x->id] != x) return fail(v, "a variable of another kernel");
  if (!type_ok(x->type)) return fail(v, "%s has no type of values", x->name);
  if (v->scope[x->id] != UNDEFINED) return fail(v, "%s is defined twice", x->name);
  v->scope[x->id] = IN_SCOPE;
  return true;
}

static bool defined(const Verify *v, const Var *x) { return x && x->id >= 0 && x->id < v->k->vars.n && v->scope[x->id] == IN_SCOPE; }

static bool stmt(Verify *v, const Stmt *s) {
  v->at = s;
  switch (s->kind) {
  case S_FOR:
    if (!is_scalar_idx(v, s->e, "begin") || !is_scalar_idx(v, s->end, "end")) return false;
    if (s->step <= 0) return fail(v, "a loop's step is %lld", (long long)s->step);
    if (!define(v, s->var, VAR_LOOP) || !block(v, &s->body)) return false;
    if (!type_equal(s->var->type, type_idx())) return fail(v, "the counter is no idx");
    v->scope[s->var->id] = GONE;
    return true;
  case S_WHILE: return expr_of(v, s->e, type_of(DT_BOOL, 1), "condition") && block(v, &s->body);
  case S_IF: return expr_of(v, s->e, type_of(DT_BOOL, 1), "condition") && block(v, &s->body) && block(v, &s->other);
  case S_LET:
  case S_REG:
    if (!s->var) return fail(v, "a definition of nothing");
    return expr_of(v, s->e, s->var->type, "value") && define(v, s->var, s->kind == S_LET ? VAR_LET : VAR_REG);
  case S_SET:
    if (!defined(v, s->var) || s->var->kind != VAR_REG) return fail(v, "assignment to no register");
    return expr_of(v, s->e, s->var->type, "value");
  case S_STORE:
    return expr(v, s->e) && access_ok(v, s->var, s->e->type, s->index, s->count, s->stride, true);
  case S_PREFETCH:
    if (!s->var || s->var->kind != VAR_BUF) return fail(v, "prefetch of no buffer");
    if (s->locality < 0 || s->locality > 3) return fail(v, "a locality of %d", s->locality);
    return is_scalar_idx(v, s->index, "index");
  case S_PIN:
    if (!defined(v, s->var) || (s->var->kind != VAR_LET && s->var->kind != VAR_REG)) return fail(v, "pin of no variable");
    return true;
  case S_COMMENT: return (s->text && !strpbrk(s->text, "\r\n")) || fail(v, "a comment of several lines");
  }
  return fail(v, "no such statement");
}

static bool block(Verify *v, const Block *b) {
  if (++v->nesting > BUILD_DEPTH) return fail(v, "blocks are nested too deeply");
  bool ok = true;
  const Stmt *last = NULL;
  for (const Stmt *s = b->first; s && ok; s = s->next) {
    ok = stmt(v, s);
    last = s;
  }
  if (ok && last != b->last) {
    v->at = last;
    ok = fail(v, "a block's last statement is another");
  }
  for (const Stmt *s = b->first; s && ok; s = s->next) {
    if (s->kind == S_LET || s->kind == S_REG) v->scope[s->var->id] = GONE;
  }
  v->nesting--;
  return ok;
}

/* ---- kernels ---- */

static int by_name(const void *a, const void *b) { return strcmp((*(Var *const *)a)->name, (*(Var *const *)b)->name); }

static bool is_identifier(const char *s) {
  if (!*s || (*s >= '0' && *s <= '9')) return false;
  for (; *s; s++) {
    if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || *s == '_')) return false;
  }
  return true;
}

static bool names(Verify *v) {
  int n = v->k->vars.n;
  Var **sorted = NEW_N(v->arena, Var *, n);
  for (int i = 0; i < n; i++) {
    sorted[i] = v->k->vars.at[i];
    if (sorted[i]->id != i) return fail(v, "variable %d has id %d", i, sorted[i]->id);
    if (!sorted[i]->name || !is_identifier(sorted[i]->name) || loop_reserved(sorted[i]->name))
      return fail(v, "'%s' is not a name", sorted[i]->name ? sorted[i]->name : "");
  }
  qsort(sorted, (size_t)n, sizeof *sorted, by_name);
  for (int i = 1; i < n; i++) {
    if (!strcmp(sorted[i]->name, sorted[i - 1]->name)) return fail(v, "two variables are named %s", sorted[i]->name);
  }
  return true;
}

static bool params(Verify *v) {
  for (int i = 0; i < v->k->params.n; i++) {
    const Var *x = v->k->params.at[i];
    if (x->kind != VAR_BUF || x->id < 0 || x->id >= v->k->vars.n || v->k->vars.at[x->id] != x)
      return fail(v, "parameter %d is no buffer", i);
    if (x->type.lanes != 1 || !dt_computable(x->type.dt)) return fail(v, "parameter %s has no element type", x->name);
    if (x->access == ACCESS_SCRATCH && (x->scratch_bytes < 0 || x->may_alias))
      return fail(v, "scratch %s has no size or an alias", x->name);
  }
  return true;
}

const char *kernel_verify(const Kernel *k, Arena *a) {
  Verify v = {.k = k, .arena = a, .scope = NEW_N(a, uint8_t, k->vars.n)};
  if (!k->name || !k->what || !is_identifier(k->name)) fail(&v, "a kernel without a name");
  else if (k->extent < 0 || (!k->range && k->extent != 1)) fail(&v, "a range of %lld", (long long)k->extent);
  else if (names(&v) && params(&v)) {
    if (k->range && (k->range->kind != VAR_RANGE || !type_equal(k->range->type, type_idx()))) fail(&v, "the range is no idx");
    if (k->range) v.scope[k->range->id] = IN_SCOPE;
    if (!v.wrong) block(&v, &k->body);
  }
  return v.wrong;
}
