/* ir/loop_parse.c: reads the text form of kernels; the form is described in loop_print.c. Programs are in loop_parse_program.c.
 *
 * Recursive descent over the tokens of loop_lex.c. Expressions are built as they are written: nothing is folded. A literal's type is open
 * until its partner or its place is known. After the first error, which is reported, the rest of the text reads as its end, so every loop
 * stops; what was built is dropped. Kernels that parse are verified before anyone sees them.
 */
#include "loop_text.h"
#include <errno.h>
#include <stdlib.h>

#define HEIGHT_MAX 1000          /* of an expression */

/* ---- types ---- */

static bool type_of_name(const char *s, size_t n, Type *out) {
  if (n == 3 && !memcmp(s, "idx", 3)) {
    *out = type_idx();
    return true;
  }
  size_t k = 0;
  while (k < n && s[k] != 'x') k++;
  if (!dt_parse(s, k, &out->dt) || !dt_computable(out->dt)) return false;
  out->lanes = 1;
  if (k == n) return true;
  char *end;
  long lanes = strtol(s + k + 1, &end, 10);
  out->lanes = (int)lanes;
  return end == s + n && lanes >= 2 && lanes <= MAX_LANES;
}

static Type parse_type(Parser *p) {
  Type t = type_idx();
  if (p->tok != TOK_NAME || !type_of_name(p->s, p->n, &t)) {
    parse_fail(p, "expected a type, found '%.*s'", (int)MINI(p->n, 40), p->s);
    return type_idx();
  }
  parse_next(p);
  return t;
}

/* .16 */
static int parse_lanes(Parser *p) {
  int64_t n = parse_int(p);
  if (n >= 1 && n <= MAX_LANES) return (int)n;
  parse_fail(p, "a vector has 1 to %d lanes", MAX_LANES);
  return 1;
}

/* ---- expressions ---- */

static Expr *parse_expr(Parser *p, int prec);

static Expr *node(Parser *p, XOp op, Type t) {
  Expr *e = NEW(p->arena, Expr);
  e->op = op;
  e->type = t;
  p->height = 1;
  return e;
}

static void grow(Parser *p, int height) {
  p->height = height + 1;
  if (p->height > HEIGHT_MAX) parse_fail(p, "the expression is nested too deeply");
}

/* A literal of open type: dt is DT_NONE, lanes says what kind. */
enum { LIT_INT, LIT_UINT, LIT_FLOAT, LIT_BOOL };

static bool is_open(const Expr *e) { return e->type.dt == DT_NONE; }

static void settle(Parser *p, Expr *e, Type t) {
  if (!is_open(e)) return;
  int kind = e->type.lanes;
  e->type = t;
  if (dt_is_float(t.dt)) {
    if (kind == LIT_BOOL) parse_fail(p, "a bool where a float belongs");
    if (kind == LIT_INT) e->f = (double)e->i;
    if (kind == LIT_UINT) e->f = (double)(uint64_t)e->i;
    if (t.dt == DT_F32) e->f = (float)e->f;
    e->i = 0;
  } else if ((t.dt == DT_BOOL) != (kind == LIT_BOOL) || kind == LIT_FLOAT) {
    parse_fail(p, "a constant of the wrong type");
  } else if ((kind == LIT_UINT) != (t.dt == DT_U64 && e->i < 0) || int_wrap(t.dt, e->i) != e->i) {
    parse_fail(p, "the constant does not fit its type");
  }
}

static void settle_default(Parser *p, Expr *e) {
  if (!is_open(e)) return;
  int kind = e->type.lanes;
  settle(p, e, kind == LIT_FLOAT ? type_of(DT_F32, 1) : kind == LIT_BOOL ? type_of(DT_BOOL, 1) : type_idx());
}

/* Operands of one type: the first that is not open tells it. */
static void unify(Parser *p, Expr *const *a, int n) {
  int known = 0;
  while (known < n && is_open(a[known])) known++;
  if (known == n) settle_default(p, a[known = 0]);
  for (int i = 0; i < n; i++) settle(p, a[i], a[known]->type);
}

static Expr *parse_settled(Parser *p, int prec, Type t) {
  Expr *e = parse_expr(p, prec);
  settle(p, e, t);
  return e;
}

static Expr *parse_literal(Parser *p) {
  bool minus = parse_accept(p, "-");
  Expr *e = node(p, X_CONST, type_of(DT_NONE, LIT_FLOAT));
  if (parse_accept(p, "nan")) {
    e->f = NAN;
  } else if (parse_accept(p, "inf")) {
    e->f = minus ? -INFINITY : INFINITY;
  } else if (p->tok == TOK_FLOAT) {
    e->f = strtod(p->s, NULL) * (minus ? -1 : 1);
    parse_next(p);
  } else if (p->tok == TOK_INT) {
    errno = 0;
    uint64_t u = strtoull(p->s, NULL, 10);
    if (errno || (minus && u > (uint64_t)INT64_MAX + 1)) parse_fail(p, "the number is too large");
    e->type.lanes = !minus && u > INT64_MAX ? LIT_UINT : LIT_INT;
    e->i = (int64_t)(minus ? 0 - u : u);
    parse_next(p);
  } else {
    parse_fail(p, "expected a value, found '%.*s'", (int)MINI(p->n, 40), p->s);
  }
  return e;
}

static Var *find_var(Parser *p, const char *s, size_t n) {
  for (int i = p->k->vars.n - 1; i >= 0; i--) {
    Var *v = p->k->vars.at[i];
    if (strlen(v->name) == n && !memcmp(v->name, s, n)) return v;
  }
  return NULL;
}

static Var *parse_var(Parser *p) {
  Var *v = p->tok == TOK_NAME ? find_var(p, p->s, p->n) : NULL;
  if (!v) {
    parse_fail(p, "'%.*s' is not a variable", (int)MINI(p->n, 40), p->s);
    return NULL;
  }
  parse_next(p);
  return v;
}

/* buf[index first count by stride]; buf is NULL after failing. */
static Var *parse_access(Parser *p, Expr **index, Expr **count, Expr **stride) {
  Var *v = parse_var(p);
  parse_expect(p, "[");
  *index = parse_settled(p, 0, type_idx());
  int height = p->height;
  *count = *stride = NULL;
  if (parse_accept(p, "first")) *count = parse_settled(p, 0, type_idx());
  height = MAXI(height, p->height);
  if (parse_accept(p, "by")) *stride = parse_settled(p, 0, type_idx());
  p->height = MAXI(height, p->height);
  parse_expect(p, "]");
  return v;
}

static Expr *parse_load(Parser *p) {
  int lanes = parse_accept(p, ".") ? parse_lanes(p) : 1;
  Expr *index, *count, *stride;
  Var *v = parse_access(p, &index, &count, &stride);
  int height = p->height;
  Expr *e = node(p, X_LOAD, type_of(v ? v->type.dt : DT_F32, lanes));
  e->var = v;
  e->a[0] = index;
  e->a[1] = count;
  e->a[2] = stride;
  grow(p, height);
  return e;
}

static Expr *parse_typed_const(Parser *p) {
  parse_expect(p, ".");
  Type t = parse_type(p);
  parse_expect(p, "(");
  Expr *e = parse_accept(p, "true") ? node(p, X_CONST, type_of(DT_NONE, LIT_BOOL)) : NULL;
  if (e) e->i = 1;
  else if (parse_accept(p, "false")) e = node(p, X_CONST, type_of(DT_NONE, LIT_BOOL));
  else e = parse_literal(p);
  settle(p, e, t);
  parse_expect(p, ")");
  return e;
}

static void parse_lane_list(Parser *p, Expr *e) {
  uint8_t lanes[MAX_LANES];
  int n = 0;
  parse_expect(p, ",");
  parse_expect(p, "[");
  do {
    int64_t lane = parse_int(p);
    if (lane < 0 || lane >= 2 * MAX_LANES || n == MAX_LANES) {
      parse_fail(p, "not a list of lanes");
      return;
    }
    lanes[n++] = (uint8_t)lane;
  } while (parse_accept(p, ","));
  parse_expect(p, "]");
  e->type.lanes = n;
  uint8_t *copy = NEW_N(p->arena, uint8_t, n);
  memcpy(copy, lanes, (size_t)n);
  e->shuffle = copy;
}

/* name.parameter(operands); the name is read. */
static Expr *parse_call(Parser *p, XOp op) {
  Expr *e = NEW(p->arena, Expr);
  Type to = type_idx();
  int64_t lane = 0;
  int n = x_table[op].nargs, height = 0, lanes = 1;
  e->op = op;
  bool dotted = op == X_CAST || op == X_BITCAST || op == X_SPLAT || op == X_EXTRACT;
  if (dotted) parse_expect(p, ".");
  if (op == X_CAST || op == X_BITCAST) to = parse_type(p);
  if (op == X_SPLAT) lanes = parse_lanes(p);
  if (op == X_EXTRACT) lane = parse_int(p);
  parse_expect(p, "(");
  for (int i = 0; i < n; i++) {
    if (i) parse_expect(p, ",");
    e->a[i] = parse_expr(p, 0);
    height = MAXI(height, p->height);
  }
  if (op == X_SELECT) {
    settle_default(p, e->a[0]);
    unify(p, e->a + 1, 2);
  } else {
    unify(p, e->a, n);
  }
  e->type = e->a[op == X_SELECT ? 1 : 0]->type;
  if (op == X_CAST || op == X_BITCAST) e->type.dt = to.dt;
  if (op == X_SPLAT) e->type.lanes = lanes;
  if (op == X_EXTRACT || (op >= X_REDUCE_ADD && op <= X_REDUCE_MAX)) e->type.lanes = 1;
  e->i = lane;
  if (op == X_SHUFFLE) parse_lane_list(p, e);
  parse_expect(p, ")");
  grow(p, height);
  return e;
}

static Expr *parse_word(Parser *p) {
  Var *v = find_var(p, p->s, p->n);
  if (v) {
    Expr *e = node(p, X_VAR, v->type);
    e->var = v;
    parse_next(p);
    return e;
  }
  if (parse_is(p, "true") || parse_is(p, "false")) {
    Expr *e = node(p, X_CONST, type_of(DT_NONE, LIT_BOOL));
    e->i = parse_is(p, "true");
    parse_next(p);
    return e;
  }
  if (parse_is(p, "inf") || parse_is(p, "nan")) return parse_literal(p);
  if (parse_accept(p, "load")) return parse_load(p);
  if (parse_accept(p, "const")) return parse_typed_const(p);
  if (parse_accept(p, "iota")) {
    parse_expect(p, ".");
    return node(p, X_IOTA, type_of(DT_I32, parse_lanes(p)));
  }
  for (int op = 0; op < X_COUNT; op++) {
    if (!x_is_infix((XOp)op) && x_table[op].nargs > 0 && op != X_LOAD && parse_accept(p, x_table[op].text)) return parse_call(p, (XOp)op);
  }
  parse_fail(p, "'%.*s' is not a variable or an operator", (int)MINI(p->n, 40), p->s);
  return node(p, X_CONST, type_idx());
}

static Expr *parse_primary(Parser *p) {
  if (p->tok == TOK_NAME) return parse_word(p);
  if (!parse_accept(p, "(")) return parse_literal(p);
  Expr *e = parse_expr(p, 0);
  parse_expect(p, ")");
  return e;
}

static int infix_here(const Parser *p) {
  if (p->tok != TOK_SIGN) return -1;
  for (int op = 0; op < X_COUNT; op++) {
    if (x_is_infix((XOp)op) && parse_is(p, x_table[op].text)) return op;
  }
  return -1;
}

/* Operators that bind at least as tightly as prec. */
static Expr *parse_expr(Parser *p, int prec) {
  if (++p->depth > HEIGHT_MAX) parse_fail(p, "the expression is nested too deeply");
  Expr *l = parse_primary(p);
  for (;;) {
    int op = infix_here(p), own = op < 0 ? 0 : x_precedence((XOp)op), height = p->height;
    if (op < 0 || own < prec) break;
    parse_next(p);
    Expr *e = NEW(p->arena, Expr);
    e->op = (XOp)op;
    e->a[0] = l;
    e->a[1] = parse_expr(p, own + 1);
    unify(p, e->a, 2);
    e->type = x_is_compare(e->op) ? type_of(DT_BOOL, e->a[0]->type.lanes) : e->a[0]->type;
    grow(p, MAXI(height, p->height));
    l = e;
  }
  p->depth--;
  return l;
}

static Expr *parse_value(Parser *p) {
  Expr *e = parse_expr(p, 0);
  settle_default(p, e);
  return e;
}

/* ---- statements ---- */

static void parse_block(Parser *p, Block *b);

static Var *declare(Parser *p, VarKind kind, Type t) {
  Var *v = NEW(p->arena, Var);
  if (p->tok == TOK_NAME && find_var(p, p->s, p->n)) parse_fail(p, "'%.*s' is declared twice", (int)MINI(p->n, 40), p->s);
  v->kind = kind;
  v->name = parse_name(p);
  if (loop_reserved(v->name)) parse_fail(p, "'%s' is a word of the language", v->name);
  v->type = t;
  v->id = p->k->vars.n;
  vec_push(p->arena, &p->k->vars, v);
  return v;
}

static void parse_declaration(Parser *p, Stmt *s, VarKind kind) {
  Var *v = declare(p, kind, type_idx());
  parse_expect(p, ":");
  v->type = parse_type(p);
  parse_expect(p, "=");
  s->kind = kind == VAR_LET ? S_LET : S_REG;
  s->var = v;
  s->e = parse_settled(p, 0, v->type);
}

static void parse_for(Parser *p, Stmt *s) {
  s->kind = S_FOR;
  s->var = declare(p, VAR_LOOP, type_idx());
  parse_expect(p, "in");
  s->e = parse_settled(p, 0, type_idx());
  parse_expect(p, "..");
  s->end = parse_settled(p, 0, type_idx());
  s->step = parse_accept(p, "step") ? parse_int(p) : 1;
  parse_block(p, &s->body);
}

static void parse_store(Parser *p, Stmt *s) {
  s->kind = S_STORE;
  s->var = parse_access(p, &s->index, &s->count, &s->stride);
  parse_expect(p, "=");
  s->e = parse_settled(p, 0, type_of(s->var ? s->var->type.dt : DT_F32, 1));
}

static void parse_prefetch(Parser *p, Stmt *s) {
  Expr *count, *stride;
  s->kind = S_PREFETCH;
  s->var = parse_access(p, &s->index, &count, &stride);
  if (count || stride) parse_fail(p, "a prefetch has one index");
  s->locality = (int)parse_int(p);
  s->write = parse_accept(p, "write");
  if (!s->write) parse_expect(p, "read");
}

static void parse_branch(Parser *p, Stmt *s, StmtKind kind) {
  s->kind = kind;
  s->e = parse_value(p);
  parse_block(p, &s->body);
  if (kind == S_IF && parse_accept(p, "else")) parse_block(p, &s->other);
}

static void parse_comment(Parser *p, Stmt *s) {
  const char *c = p->s + 2;
  size_t n = p->n - 2;
  if (n && *c == ' ') c++, n--;
  if (n && c[n - 1] == '\r') n--;
  s->kind = S_COMMENT;
  s->text = arena_strndup(p->arena, c, n);
  parse_next(p);
}

static void parse_stmt(Parser *p, Stmt *s) {
  if (p->tok == TOK_COMMENT) parse_comment(p, s);
  else if (parse_accept(p, "for")) parse_for(p, s);
  else if (parse_accept(p, "while")) parse_branch(p, s, S_WHILE);
  else if (parse_accept(p, "if")) parse_branch(p, s, S_IF);
  else if (parse_accept(p, "let")) parse_declaration(p, s, VAR_LET);
  else if (parse_accept(p, "reg")) parse_declaration(p, s, VAR_REG);
  else if (parse_accept(p, "store")) parse_store(p, s);
  else if (parse_accept(p, "prefetch")) parse_prefetch(p, s);
  else if (parse_accept(p, "pin")) {
    s->kind = S_PIN;
    s->var = parse_var(p);
  } else {
    s->kind = S_SET;
    s->var = parse_var(p);
    parse_expect(p, "=");
    s->e = parse_settled(p, 0, s->var ? s->var->type : type_idx());
  }
}

static void parse_block(Parser *p, Block *b) {
  parse_expect(p, "{");
  if (++p->nesting > BUILD_DEPTH) parse_fail(p, "blocks are nested too deeply");
  while (!p->failed && !parse_is(p, "}")) {
    if (p->tok == TOK_END) {
      parse_fail(p, "the text ends inside a block");
      break;
    }
    Stmt *s = NEW(p->arena, Stmt);
    if (b->last) b->last->next = s;
    else b->first = s;
    b->last = s;
    parse_stmt(p, s);
  }
  p->nesting--;
  parse_expect(p, "}");
}

/* ---- kernels ---- */

static void parse_param(Parser *p) {
  static const char *const name[] = {"in", "out", "inout", "const", "scratch"};
  Var *v = declare(p, VAR_BUF, type_idx());
  parse_expect(p, ":");
  v->type = parse_type(p);
  if (v->type.lanes != 1 || v->type.dt == DT_IDX) parse_fail(p, "a buffer has elements of a scalar type");
  int a = 0;
  while (a < COUNTOF(name) && !parse_accept(p, name[a])) a++;
  if (a == COUNTOF(name)) parse_fail(p, "expected in, out, inout, const or scratch");
  v->access = (Access)(a % COUNTOF(name));
  if (v->access == ACCESS_SCRATCH) v->scratch_bytes = parse_int(p);
  v->may_alias = parse_accept(p, "alias");
  vec_push(p->arena, &p->k->params, v);
}

Kernel *parse_kernel(Parser *p) {
  int line = p->line;
  parse_expect(p, "kernel");
  char *name = parse_name(p);
  Kernel *k = p->k = kernel_new(p->arena, NULL);
  k->name = name;
  k->what = parse_string(p);
  parse_expect(p, "(");
  while (!p->failed && !parse_is(p, ")")) {
    parse_param(p);
    if (!parse_accept(p, ",")) break;
  }
  parse_expect(p, ")");
  if (parse_accept(p, "range")) {
    k->range = declare(p, VAR_RANGE, type_idx());
    parse_expect(p, "in");
    if (parse_int(p) != 0) parse_fail(p, "a range starts at 0");
    parse_expect(p, "..");
    k->extent = parse_int(p);
  }
  if (parse_accept(p, "flops")) k->flops = parse_double(p);
  if (parse_accept(p, "bytes")) k->bytes = parse_double(p);
  parse_block(p, &k->body);
  if (p->failed) return NULL;
  const char *wrong = kernel_verify(k, p->arena);
  if (!wrong) return k;
  p->line = line;
  parse_fail(p, "kernel %s: %s", k->name, wrong);
  return NULL;
}

Kernel *kernel_parse(Arena *a, Diag *d, const char *file, const char *text) {
  Parser p;
  if (!parse_start(&p, a, d, file, text)) return NULL;
  parse_skip_comments(&p);
  Kernel *k = parse_kernel(&p);
  parse_skip_comments(&p);
  if (k && p.tok != TOK_END) parse_fail(&p, "expected the end of the text, found '%.*s'", (int)MINI(p.n, 40), p.s);
  return p.failed ? NULL : k;
}
