/* expr.c: expressions as C.
 *
 * Scalars are infix where C computes in the operands' own type: floats, idx, 32- and 64-bit unsigned integers. Signed arithmetic, which
 * must wrap, and that of narrow types, which C would promote, goes through functions of the prelude, as do vectors. So an
 * expression printed here always has the C type its IR type stands for, or is a constant that converts to it without change.
 */
#include "c_backend.h"
#include "../../ir/loop_eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Precedences of C, tightest last. */
enum { P_ANY, P_SELECT, P_EITHER, P_BOTH, P_OR, P_XOR, P_AND, P_EQUAL, P_LESS, P_SHIFT, P_ADD, P_MUL, P_UNARY, P_PRIMARY };

static void expr(CGen *g, const Expr *e, int min);

NORETURN static void cannot(CGen *g, const Expr *e) {
  char type[24];
  Fail *f = arena_fail(g->a);
  f->status = diag_error(g->d, SPINEC_ERR_INTERNAL, NULL, NULL, "C backend: kernel '%s': no '%s' of type %s", g->k->name, x_table[e->op].text,
                         type_name(e->type, type));
  longjmp(f->env, 1);
}

/* ---- names ---- */

static const char *scalar_name(DType t) { return t == DT_IDX ? "idx" : dt_name(t); }

const char *c_function(CGen *g, Type type, const char *op) {
  char name[64];
  if (type.lanes > 1) snprintf(name, sizeof name, "v%d%s_%s", type.lanes, type.dt == DT_F32 ? "f" : type.dt == DT_I32 ? "i" : "m", op);
  else snprintf(name, sizeof name, "%s_%s", scalar_name(type.dt), op);
  if (!need_op(g->needs, name)) {
    Fail *f = arena_fail(g->a);
    f->status = diag_error(g->d, SPINEC_ERR_INTERNAL, NULL, NULL, "C backend: kernel '%s': there is no '%s'", g->k->name, name);
    longjmp(f->env, 1);
  }
  return arena_strdup(g->a, name);
}

void c_local_type(CGen *g, Type type) {
  Text *t = g->out;
  if (type.lanes == 1 && type.dt == DT_BOOL) need(g->needs, "bool");
  if (type.lanes > 1) text_addf(t, "v%d%s", type.lanes, type.dt == DT_F32 ? "f" : type.dt == DT_I32 ? "i" : "m");
  else text_add(t, type.dt == DT_BOOL ? "bool" : c_type(type.dt));
}

static const char *var_name(const CGen *g, const Var *v) { return v->id < g->k->vars.n ? g->var_names[v->id] : v->name; }

/* ---- constants ---- */

/* The shortest decimal that reads back as the same number; a point whatever the locale's decimal sign is. */
static void float_literal(Text *t, double x, bool single) {
  char s[48];
  int max = single ? 9 : 17;
  for (int digits = single ? 6 : 15; digits <= max; digits++) {
    snprintf(s, sizeof s, "%.*g", digits, x);
    if (single ? strtof(s, NULL) == (float)x : strtod(s, NULL) == x) break;
  }
  bool plain = true;   /* neither point nor exponent: an integer to C */
  for (char *c = s; *c; c++) {
    if ((*c >= '0' && *c <= '9') || *c == '-' || *c == '+') continue;
    plain = false;
    if (*c == 'e') continue;
    *c = '.';
    size_t rest = 1;   /* a decimal sign of several bytes */
    while (c[rest] && !strchr("0123456789e+-", c[rest])) rest++;
    memmove(c + 1, c + rest, strlen(c + rest) + 1);
  }
  text_addf(t, "%s%s%s", s, plain ? ".0" : "", single ? "f" : "");
}

void c_float(Text *t, double x, bool single) {
  if (isnan(x)) text_add(t, single ? "NAN" : "(double)NAN");
  else if (isinf(x)) text_addf(t, "%s%sINFINITY", x < 0 ? "-" : "", single ? "" : "(double)");
  else float_literal(t, x, single);
}

static void int_const(CGen *g, DType t, int64_t i) {
  if (t == DT_BOOL) {
    need(g->needs, i ? "true" : "false");
    text_add(g->out, i ? "true" : "false");
  } else if (t == DT_U64) {
    text_addf(g->out, "UINT64_C(%llu)", (unsigned long long)i);
  } else if (t == DT_U32) {
    text_addf(g->out, "%lldu", (long long)i);
  } else if (t == DT_I64) {
    if (i == INT64_MIN) text_add(g->out, "INT64_MIN");
    else text_addf(g->out, "INT64_C(%lld)", (long long)i);
  } else if (i == INT32_MIN) {
    text_add(g->out, t == DT_IDX ? "(ptrdiff_t)INT32_MIN" : "INT32_MIN");
  } else if (i > INT32_MAX || i < INT32_MIN) {
    if (i == INT64_MIN) text_add(g->out, "PTRDIFF_MIN");
    else text_addf(g->out, "(ptrdiff_t)%lld", (long long)i);
  } else {
    text_addf(g->out, "%lld", (long long)i);
  }
}

static void scalar_const(CGen *g, const Expr *e) {
  if (dt_is_float(e->type.dt)) {
    if (!isfinite(e->f)) need(g->needs, isnan(e->f) ? "NAN" : "INFINITY");
    c_float(g->out, e->f, e->type.dt == DT_F32);
  } else {
    int_const(g, e->type.dt, e->i);
  }
}

static bool negative_const(const Expr *e) { return e->op == X_CONST && (dt_is_float(e->type.dt) ? signbit(e->f) != 0 : e->i < 0); }

/* ---- memory ---- */

void c_address(CGen *g, const Var *buf, const Expr *index) {
  text_addf(g->out, "&%s[", var_name(g, buf));
  c_expr(g, index);
  text_add(g->out, "]");
}

void c_access(CGen *g, Type type, const char *what, const Expr *count, const Expr *stride) {
  char op[32];
  bool mask = type.dt == DT_BOOL && (count || stride);
  snprintf(op, sizeof op, "%s%s%s", what, count || mask ? "_part" : "", stride || mask ? "_stride" : "");
  text_addf(g->out, "%s(", c_function(g, type, op));
}

/* Masks have one partial form; what the IR leaves out is spelled. */
void c_count_and_stride(CGen *g, Type type, const Expr *count, const Expr *stride) {
  bool mask = type.dt == DT_BOOL && (count || stride);
  if (count || mask) {
    text_add(g->out, ", ");
    if (count) c_expr(g, count);
    else text_addf(g->out, "%d", type.lanes);
  }
  if (stride || mask) {
    text_add(g->out, ", ");
    if (stride) c_expr(g, stride);
    else text_add(g->out, "1");
  }
}

static void load(CGen *g, const Expr *e, int min) {
  if (e->type.lanes == 1) {
    bool paren = e->type.dt == DT_BOOL && P_EQUAL < min;
    text_addf(g->out, "%s%s[", paren ? "(" : "", var_name(g, e->var));
    c_expr(g, e->a[0]);
    text_addf(g->out, "]%s%s", e->type.dt == DT_BOOL ? " != 0" : "", paren ? ")" : "");
    return;
  }
  c_access(g, e->type, "load", e->a[1], e->a[2]);
  c_address(g, e->var, e->a[0]);
  c_count_and_stride(g, e->type, e->a[1], e->a[2]);
  text_add(g->out, ")");
}

/* ---- operators ---- */

static void call(CGen *g, const char *name, const Expr *e, int nargs) {
  text_addf(g->out, "%s(", name);
  for (int i = 0; i < nargs; i++) {
    if (i) text_add(g->out, ", ");
    c_expr(g, e->a[i]);
  }
  text_add(g->out, ")");
}

static bool computes_natively(DType t) { return t == DT_F32 || t == DT_F64 || t == DT_IDX || t == DT_U32 || t == DT_U64; }

static int infix_precedence(XOp op) {
  switch ((int)op) {
  case X_ADD:
  case X_SUB: return P_ADD;
  case X_MUL:
  case X_DIV:
  case X_REM: return P_MUL;
  case X_SHL:
  case X_SHR: return P_SHIFT;
  case X_AND: return P_AND;
  case X_XOR: return P_XOR;
  case X_OR: return P_OR;
  case X_EQ:
  case X_NE: return P_EQUAL;
  }
  return P_LESS;
}

/* Is a scalar binary operator spelled infix? */
static bool infix(const Expr *e) {
  DType t = e->a[0]->type.dt;
  const Expr *r = e->a[1];
  if (x_is_compare(e->op)) return true;
  switch ((int)e->op) {
  case X_ADD:
  case X_SUB:
  case X_MUL: return computes_natively(t);
  case X_DIV:
    if (t == DT_F32 || t == DT_F64) return true;
    return r->op == X_CONST && r->i != 0 && (r->i != -1 || !xt_is_signed(t)) && (computes_natively(t) || t == DT_I32 || t == DT_I64);
  case X_REM: return r->op == X_CONST && xt_is_int(t) && r->i > 0 && (computes_natively(t) || t == DT_I32 || t == DT_I64);
  case X_AND:
  case X_OR:
  case X_XOR: return t == DT_BOOL || t == DT_I32 || t == DT_I64 || t == DT_U32 || t == DT_U64 || t == DT_IDX;
  case X_SHL: return r->op == X_CONST && (t == DT_U32 || t == DT_U64) && r->i >= 0 && r->i < xt_bits(t);
  case X_SHR: return r->op == X_CONST && r->i >= 0 && r->i < xt_bits(t) && dt_is_int(t) && xt_bits(t) >= 32;
  }
  return false;
}

/* Would C compute it in int although it is an idx? */
static bool int_literal(const Expr *e) {
  if (e->op == X_CONST) return e->type.dt == DT_IDX && e->i >= INT32_MIN && e->i <= INT32_MAX;
  if (e->op == X_SELECT) return e->type.dt == DT_IDX && int_literal(e->a[1]) && int_literal(e->a[2]);
  return e->type.dt == DT_IDX && e->type.lanes == 1 && x_is_infix(e->op) && infix(e) && int_literal(e->a[0]) && int_literal(e->a[1]);
}

/* Logic on bools: && and ||, which may skip their second operand, as operands have no effects; != for exclusive or. */
static void print_logic(CGen *g, const Expr *e, int min) {
  int prec = e->op == X_AND ? P_BOTH : e->op == X_OR ? P_EITHER : P_EQUAL;
  if (prec < min) text_add(g->out, "(");
  expr(g, e->a[0], e->a[0]->op == e->op && e->op != X_XOR ? prec : e->op == X_XOR ? P_ADD : P_OR);
  text_add(g->out, e->op == X_AND ? " && " : e->op == X_OR ? " || " : " != ");
  expr(g, e->a[1], e->op == X_XOR ? P_ADD : P_OR);
  if (prec < min) text_add(g->out, ")");
}

static void print_infix(CGen *g, const Expr *e, int min) {
  if (e->a[0]->type.dt == DT_BOOL && !x_is_compare(e->op)) {
    print_logic(g, e, min);
    return;
  }
  int prec = infix_precedence(e->op);
  bool arithmetic = prec == P_ADD || prec == P_MUL;
  /* Outside + - * / % compilers ask for parentheses and readers are glad of them. */
  int left = arithmetic ? prec : P_ADD, right = arithmetic ? prec + 1 : P_ADD;
  if (prec == P_AND || prec == P_XOR || prec == P_OR || prec == P_SHIFT) left = right = P_UNARY;
  bool same = (e->op == X_AND || e->op == X_OR) && e->a[0]->op == e->op && e->a[0]->type.lanes == 1;
  if (same) left = prec;
  if (prec < min) text_add(g->out, "(");
  if (arithmetic && int_literal(e)) {
    text_add(g->out, "(ptrdiff_t)");
    left = P_UNARY;
  }
  expr(g, e->a[0], left);
  text_addf(g->out, " %s ", x_table[e->op].text);
  expr(g, e->a[1], right);
  if (prec < min) text_add(g->out, ")");
}

static void libm(CGen *g, const char *name, const Expr *e, int nargs) {
  if (!dt_is_float(e->type.dt)) cannot(g, e);
  const char *s = e->type.dt == DT_F32 ? arena_printf(g->a, "%sf", name) : name;
  need(g->needs, s);
  call(g, s, e, nargs);
}

static void binary(CGen *g, const Expr *e, int min) {
  Type t = e->a[0]->type;
  static const char *const names[] = {"add", "sub", "mul", "div", "rem", "min", "max", "and", "or", "xor", "shl", "shr", "pow"};
  static const char *const compares[] = {"eq", "ne", "lt", "le", "gt", "ge"};
  bool compare = x_is_compare(e->op);
  if (t.lanes == 1 && infix(e)) {
    print_infix(g, e, min);
    return;
  }
  if (t.lanes == 1 && dt_is_float(t.dt) && (e->op == X_REM || e->op == X_POW)) {
    libm(g, e->op == X_REM ? "fmod" : "pow", e, 2);
    return;
  }
  if ((t.dt == DT_BOOL && t.lanes == 1) || (e->op == X_POW && t.dt != DT_F32)) cannot(g, e);
  call(g, c_function(g, t, compare ? compares[e->op - X_EQ] : names[e->op - X_ADD]), e, 2);
}

static void negate(CGen *g, const char *sign, const Expr *a, int min) {
  bool paren = P_UNARY < min;
  if (paren) text_add(g->out, "(");
  text_add(g->out, sign);
  expr(g, a, negative_const(a) || a->op == X_NEG ? P_PRIMARY : P_UNARY);
  if (paren) text_add(g->out, ")");
}

static void unary(CGen *g, const Expr *e, int min) {
  Type t = e->type;
  if (t.lanes == 1) {
    if (e->op == X_NOT && t.dt == DT_BOOL) {
      negate(g, "!", e->a[0], min);
      return;
    }
    if (e->op == X_NEG && (dt_is_float(t.dt) || t.dt == DT_IDX)) {
      negate(g, "-", e->a[0], min);
      return;
    }
    if (e->op == X_NOT && (t.dt == DT_I32 || t.dt == DT_I64 || t.dt == DT_U32 || t.dt == DT_U64)) {
      negate(g, "~", e->a[0], min);
      return;
    }
    if (e->op == X_ABS && xt_is_int(t.dt) && !xt_is_signed(t.dt)) {
      expr(g, e->a[0], min);
      return;
    }
  }
  static const char *const names[] = {"neg", "not", "abs", "sqrt", "floor", "ceil", "round", "trunc"};
  const char *op = names[e->op - X_NEG];
  bool integer_op = e->op == X_NEG || e->op == X_NOT || e->op == X_ABS;
  if (dt_is_float(t.dt) ? e->op == X_NOT : !integer_op || (t.dt == DT_BOOL && e->op != X_NOT)) cannot(g, e);
  if (t.lanes == 1 && dt_is_float(t.dt)) libm(g, e->op == X_ABS ? "fabs" : e->op == X_ROUND ? "nearbyint" : op, e, 1);
  else call(g, c_function(g, t, op), e, 1);
}

static void mathematics(CGen *g, const Expr *e) {
  static const char *const names[] = {"exp",  "log",  "sin",  "cos",   "tan",   "asin",  "acos", "atan",
                                      "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf",  "sigmoid"};
  const char *op = names[e->op - X_EXP];
  if (!dt_is_float(e->type.dt)) cannot(g, e);
  if (e->type.lanes == 1 && e->op != X_SIGMOID) libm(g, op, e, 1);
  else call(g, c_function(g, e->type, op), e, 1);
}

static void select(CGen *g, const Expr *e, int min) {
  if (e->type.lanes > 1) {
    call(g, c_function(g, e->type, "select"), e, 3);
    return;
  }
  if (P_SELECT < min) text_add(g->out, "(");
  expr(g, e->a[0], P_EITHER);
  text_add(g->out, " ? ");
  expr(g, e->a[1], P_EITHER);
  text_add(g->out, " : ");
  expr(g, e->a[2], P_SELECT);
  if (P_SELECT < min) text_add(g->out, ")");
}

static const char *letter(DType t) { return t == DT_F32 ? "f" : t == DT_I32 ? "i" : "m"; }

/* (type)a */
static void plain_cast(CGen *g, const Expr *e, int min) {
  if (P_UNARY < min) text_add(g->out, "(");
  text_addf(g->out, "(%s)", c_type(e->type.dt));
  expr(g, e->a[0], negative_const(e->a[0]) ? P_PRIMARY : P_UNARY);
  if (P_UNARY < min) text_add(g->out, ")");
}

static void cast(CGen *g, const Expr *e, int min) {
  DType to = e->type.dt, from = e->a[0]->type.dt;
  if (e->type.lanes > 1) {
    call(g, c_function(g, e->type, arena_printf(g->a, "from_%s", letter(from))), e, 1);
  } else if (to == DT_BOOL) {
    if (P_EQUAL < min) text_add(g->out, "(");
    expr(g, e->a[0], P_SHIFT);
    text_add(g->out, from == DT_F32 ? " != 0.0f" : from == DT_F64 ? " != 0.0" : " != 0");
    if (P_EQUAL < min) text_add(g->out, ")");
  } else if (dt_is_float(from) && xt_is_int(to)) {
    call(g, c_function(g, e->type, arena_printf(g->a, "from_%s", dt_name(from))), e, 1);
  } else {
    plain_cast(g, e, min);
  }
}

static void bitcast(CGen *g, const Expr *e, int min) {
  DType to = e->type.dt, from = e->a[0]->type.dt;
  if (e->type.lanes > 1) call(g, c_function(g, e->type, arena_printf(g->a, "bits_%s", letter(from))), e, 1);
  else if (dt_is_float(to) || dt_is_float(from)) call(g, c_function(g, e->type, arena_printf(g->a, "bits_%s", dt_name(from))), e, 1);
  else plain_cast(g, e, min);
}

static void shuffle(CGen *g, const Expr *e) {
  int n = e->a[0]->type.lanes;
  bool first = false, second = false;
  for (int i = 0; i < e->type.lanes; i++) {
    if (e->shuffle[i] < n) first = true;
    else second = true;
  }
  uint8_t lanes[MAX_LANES];
  const Expr *one = first ? e->a[0] : e->a[1];
  for (int i = 0; i < e->type.lanes; i++) lanes[i] = (uint8_t)(e->shuffle[i] - (first ? 0 : n));
  uint8_t *copy = NEW_N(g->a, uint8_t, e->type.lanes);
  memcpy(copy, lanes, (size_t)e->type.lanes);
  text_addf(g->out, "%s(", need_shuffle(g->needs, e->type, n, first && second, copy));
  c_expr(g, one);
  if (first && second) {
    text_add(g->out, ", ");
    c_expr(g, e->a[1]);
  }
  text_add(g->out, ")");
}

static void splat(CGen *g, const Expr *e) {
  text_addf(g->out, "%s(", c_function(g, e->type, "splat"));
  if (e->op == X_CONST) scalar_const(g, e);
  else c_expr(g, e->a[0]);
  text_add(g->out, ")");
}

static void expr(CGen *g, const Expr *e, int min) {
  switch (e->op) {
  case X_CONST:
    if (e->type.lanes > 1) splat(g, e);
    else scalar_const(g, e);
    return;
  case X_VAR: text_add(g->out, var_name(g, e->var)); return;
  case X_LOAD: load(g, e, min); return;
  case X_IOTA: text_addf(g->out, "%s()", c_function(g, e->type, "iota")); return;
  case X_ADD: case X_SUB: case X_MUL: case X_DIV: case X_REM: case X_MIN: case X_MAX: case X_AND: case X_OR: case X_XOR: case X_SHL: case X_SHR:
  case X_POW: case X_EQ: case X_NE: case X_LT: case X_LE: case X_GT: case X_GE:
    binary(g, e, min);
    return;
  case X_FMA:
    if (e->type.dt == DT_BOOL) cannot(g, e);
    call(g, c_function(g, e->type, "fma"), e, 3);
    return;
  case X_NEG: case X_NOT: case X_ABS: case X_SQRT: case X_FLOOR: case X_CEIL: case X_ROUND: case X_TRUNC: unary(g, e, min); return;
  case X_SELECT: select(g, e, min); return;
  case X_EXP: case X_LOG: case X_SIN: case X_COS: case X_TAN: case X_ASIN: case X_ACOS: case X_ATAN: case X_SINH: case X_COSH: case X_TANH:
  case X_ASINH: case X_ACOSH: case X_ATANH: case X_ERF: case X_SIGMOID:
    mathematics(g, e);
    return;
  case X_CAST: cast(g, e, min); return;
  case X_BITCAST: bitcast(g, e, min); return;
  case X_SPLAT: splat(g, e); return;
  case X_EXTRACT:
    text_addf(g->out, "%s(", c_function(g, e->a[0]->type, "extract"));
    c_expr(g, e->a[0]);
    text_addf(g->out, ", %lld)", (long long)e->i);
    return;
  case X_SHUFFLE: shuffle(g, e); return;
  case X_REDUCE_ADD: call(g, c_function(g, e->a[0]->type, "reduce_add"), e, 1); return;
  case X_REDUCE_MUL: call(g, c_function(g, e->a[0]->type, "reduce_mul"), e, 1); return;
  case X_REDUCE_MIN: call(g, c_function(g, e->a[0]->type, "reduce_min"), e, 1); return;
  case X_REDUCE_MAX: call(g, c_function(g, e->a[0]->type, "reduce_max"), e, 1); return;
  case X_COUNT: break;
  }
  cannot(g, e);
}

void c_expr(CGen *g, const Expr *e) { expr(g, e, P_ANY); }

/* ---- deep expressions ---- */

/* Compilers limit how deeply parentheses nest (clang: 256). */
#define HEIGHT_MAX 60

/* A copy of e in which what is too high has become a variable, declared on the lines before. */
static const Expr *flatten(CGen *g, const Expr *e, int *height) {
  Expr *copy = NULL;
  int highest = 0;
  for (int i = 0; i < 3; i++) {
    if (!e->a[i]) continue;
    int h;
    const Expr *a = flatten(g, e->a[i], &h);
    highest = MAXI(highest, h);
    if (a == e->a[i]) continue;
    if (!copy) {
      copy = NEW(g->a, Expr);
      *copy = *e;
    }
    copy->a[i] = (Expr *)a;
  }
  *height = highest + 1;
  if (copy) e = copy;
  if (*height < HEIGHT_MAX) return e;
  *height = 1;
  Var *v = NEW(g->a, Var);
  *v = (Var){.kind = VAR_LET, .name = arena_printf(g->a, "part_%d", g->temps++), .type = e->type, .id = g->k->vars.n};
  text_add(g->out, "const ");
  c_local_type(g, v->type);
  text_addf(g->out, " %s = ", v->name);
  c_expr(g, e);
  text_add(g->out, ";\n");
  for (int i = 0; i < g->depth; i++) text_add(g->out, "  ");
  Expr *use = NEW(g->a, Expr);
  *use = (Expr){.op = X_VAR, .type = e->type, .var = v};
  return use;
}

static int height_of(const Expr *e) {
  int h = 0;
  for (int i = 0; i < 3; i++) {
    int below = e->a[i] ? height_of(e->a[i]) : 0;
    if (below > h) h = below;
  }
  return h + 1;
}

const Expr *c_flatten(CGen *g, const Expr *e) {
  if (!e || height_of(e) < HEIGHT_MAX) return e;
  int height;
  return flatten(g, e, &height);
}
