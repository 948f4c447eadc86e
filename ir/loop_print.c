/* ir/loop_print.c: the text form of kernels and programs.
 *
 *   kernel k7 "conv1x1 64->128" (x: f32 in, w: f32 const, y: f32 out alias, s: f32 scratch 4096) range r in 0..160 flops 1e6 bytes 2e5 {
 *     for c in 0..64 step 2 {
 *       let t: f32x16 = splat.16(load x[c + 1])
 *       reg a: f32x16 = load.16 w[c * 16 first n by 4]
 *       a = fma(t, max(a, 0.0), t)
 *       if c < 3 { ... } else { ... }
 *       while b { ... }
 *       store y[c first n by 4] = select(m, a, cast.f32(u))
 *       prefetch x[c] 2 write
 *       pin t
 *       // comment
 *     }
 *   }
 *
 * A number is idx, a number with a point or an exponent is f32, unless the place where it stands has another type: the value of a let, reg
 * or assignment, or an operand beside one that is not a constant. Elsewhere it is spelled const.i64(3), const.f32x16(0.5). So every type
 * can be told from left to right but for a constant before its partner. Lanes are written where operands do not give them:
 * load.16, splat.16, iota.16, shuffle(a, b, [0, 2]), extract.3(a).
 */
#include "loop_text.h"
#include <stdlib.h>

/* C's. */
enum { PREC_OR = 1, PREC_XOR, PREC_AND, PREC_EQUAL, PREC_LESS, PREC_SHIFT, PREC_SUM, PREC_PRODUCT, PREC_PRIMARY };

int x_precedence(XOp op) {
  switch ((int)op) {
  case X_OR: return PREC_OR;
  case X_XOR: return PREC_XOR;
  case X_AND: return PREC_AND;
  case X_EQ: case X_NE: return PREC_EQUAL;
  case X_LT: case X_LE: case X_GT: case X_GE: return PREC_LESS;
  case X_SHL: case X_SHR: return PREC_SHIFT;
  case X_ADD: case X_SUB: return PREC_SUM;
  case X_MUL: case X_DIV: case X_REM: return PREC_PRODUCT;
  }
  return PREC_PRIMARY;
}

static void print_quoted(Text *out, const char *s) {
  text_add(out, "\"");
  for (; s && *s; s++) {
    if (*s == '"' || *s == '\\') text_addf(out, "\\%c", *s);
    else if ((unsigned char)*s < ' ' || *s == 127) text_addf(out, "\\x%02x", (unsigned char)*s);
    else text_addn(out, s, 1);
  }
  text_add(out, "\"");
}

/* ---- expressions ---- */

/* The shortest decimal that reads back as the same number. */
static void print_float(Text *out, double f, bool single) {
  char s[40];
  if (isnan(f) || isinf(f)) {
    text_add(out, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
    return;
  }
  for (int digits = 1; digits <= 17; digits++) {
    snprintf(s, sizeof s, "%.*g", digits, f);
    if (single ? strtof(s, NULL) == (float)f : strtod(s, NULL) == f) break;
  }
  if (strchr(s, 'e') && fabs(f) < 1e7 && f == trunc(f)) snprintf(s, sizeof s, "%.0f", f);
  text_add(out, s);
  if (!strpbrk(s, ".e")) text_add(out, ".0");
}

static void print_literal(Text *out, const Expr *e) {
  if (dt_is_float(e->type.dt)) print_float(out, e->f, e->type.dt == DT_F32);
  else if (e->type.dt == DT_BOOL) text_add(out, e->i ? "true" : "false");
  else if (e->type.dt == DT_U64) text_addf(out, "%llu", (unsigned long long)e->i);
  else text_addf(out, "%lld", (long long)e->i);
}

static void print_const(Text *out, const Expr *e, bool typed) {
  char name[24];
  bool plain = e->type.lanes == 1 && (e->type.dt == DT_IDX || e->type.dt == DT_F32 || e->type.dt == DT_BOOL);
  if (!typed && !plain) text_addf(out, "const.%s(", type_name(e->type, name));
  print_literal(out, e);
  if (!typed && !plain) text_add(out, ")");
}

static void print_expr(Text *out, const Expr *e, int prec, bool typed);

/* buf[index first count by stride] */
static void print_access(Text *out, const Var *buf, const Expr *index, const Expr *count, const Expr *stride) {
  text_addf(out, "%s[", buf ? buf->name : "?");
  print_expr(out, index, 0, true);
  if (count) {
    text_add(out, " first ");
    print_expr(out, count, 0, true);
  }
  if (stride) {
    text_add(out, " by ");
    print_expr(out, stride, 0, true);
  }
  text_add(out, "]");
}

/* Operands [from, n), which have one type: constants among them are plain when another tells the type, else the first spells it. */
static void print_operands(Text *out, const Expr *e, int from, int n) {
  bool known = false;
  for (int i = from; i < n; i++) known |= e->a[i] && e->a[i]->op != X_CONST;
  for (int i = from; i < n; i++) {
    if (i) text_add(out, ", ");
    print_expr(out, e->a[i], 0, known || i > from);
  }
}

static void print_infix(Text *out, const Expr *e, int prec) {
  int own = x_precedence(e->op);
  bool partner = e->a[1] && e->a[1]->op != X_CONST;
  if (own < prec) text_add(out, "(");
  print_expr(out, e->a[0], own, partner);
  text_addf(out, " %s ", x_table[e->op].text);
  /* Comparisons do not chain. */
  print_expr(out, e->a[1], own + 1, true);
  if (own < prec) text_add(out, ")");
}

static void print_call(Text *out, const Expr *e) {
  char name[24];
  Type bare = type_of(e->type.dt, 1);
  text_add(out, x_table[e->op].text);
  if (e->op == X_CAST || e->op == X_BITCAST) text_addf(out, ".%s", type_name(bare, name));
  if (e->op == X_SPLAT) text_addf(out, ".%d", e->type.lanes);
  if (e->op == X_EXTRACT) text_addf(out, ".%d", (int)e->i);
  text_add(out, "(");
  if (e->op == X_SELECT) print_expr(out, e->a[0], 0, false);
  print_operands(out, e, e->op == X_SELECT, x_table[e->op].nargs);
  if (e->op == X_SHUFFLE) {
    for (int i = 0; i < e->type.lanes; i++) text_addf(out, i ? ", %d" : ", [%d", e->shuffle[i]);
    text_add(out, "]");
  }
  text_add(out, ")");
}

/* typed: whoever reads this knows e's type without looking at it. */
static void print_expr(Text *out, const Expr *e, int prec, bool typed) {
  /* The verifier shows what it rejects. */
  if (!e || ((e->op == X_VAR || e->op == X_LOAD) && !e->var)) text_add(out, "?");
  else if (e->op == X_CONST) print_const(out, e, typed);
  else if (e->op == X_VAR) text_add(out, e->var->name);
  else if (e->op == X_IOTA) text_addf(out, "iota.%d", e->type.lanes);
  else if (x_is_infix(e->op)) print_infix(out, e, prec);
  else if (e->op == X_LOAD) {
    text_add(out, "load");
    if (e->type.lanes > 1) text_addf(out, ".%d", e->type.lanes);
    text_add(out, " ");
    print_access(out, e->var, e->a[0], e->a[1], e->a[2]);
  } else {
    print_call(out, e);
  }
}

/* ---- statements ---- */

static const char *var_name(const Stmt *s) { return s->var ? s->var->name : "?"; }

/* A statement without its blocks and the end of the line. */
void stmt_print_head(const Stmt *s, Text *out) {
  char name[24];
  switch (s->kind) {
  case S_FOR:
    text_addf(out, "for %s in ", var_name(s));
    print_expr(out, s->e, 0, true);
    text_add(out, "..");
    print_expr(out, s->end, 0, true);
    if (s->step != 1) text_addf(out, " step %lld", (long long)s->step);
    break;
  case S_WHILE:
  case S_IF:
    text_add(out, s->kind == S_IF ? "if " : "while ");
    print_expr(out, s->e, 0, false);
    break;
  case S_LET:
  case S_REG:
    text_addf(out, "%s %s: %s = ", s->kind == S_LET ? "let" : "reg", var_name(s), s->var ? type_name(s->var->type, name) : "?");
    print_expr(out, s->e, 0, true);
    break;
  case S_SET:
    text_addf(out, "%s = ", var_name(s));
    print_expr(out, s->e, 0, true);
    break;
  case S_STORE:
    text_add(out, "store ");
    print_access(out, s->var, s->index, s->count, s->stride);
    text_add(out, " = ");
    /* The buffer tells the element type, not the lanes. */
    print_expr(out, s->e, 0, s->e && s->e->type.lanes == 1);
    break;
  case S_PREFETCH:
    text_add(out, "prefetch ");
    print_access(out, s->var, s->index, NULL, NULL);
    text_addf(out, " %d %s", s->locality, s->write ? "write" : "read");
    break;
  case S_PIN: text_addf(out, "pin %s", var_name(s)); break;
  case S_COMMENT: text_addf(out, "//%s%s", *s->text ? " " : "", s->text); break;
  }
}

static void print_braces(Text *out, const Block *b, int indent);

static void print_block(Text *out, const Block *b, int indent) {
  for (const Stmt *s = b->first; s; s = s->next) {
    text_addf(out, "%*s", 2 * indent, "");
    stmt_print_head(s, out);
    if (s->kind == S_FOR || s->kind == S_WHILE || s->kind == S_IF) print_braces(out, &s->body, indent);
    if (s->kind == S_IF && s->other.first) {
      text_add(out, " else");
      print_braces(out, &s->other, indent);
    }
    text_add(out, "\n");
  }
}

static void print_braces(Text *out, const Block *b, int indent) {
  text_add(out, " {\n");
  print_block(out, b, indent + 1);
  text_addf(out, "%*s}", 2 * indent, "");
}

/* ---- kernels ---- */

static const char *const access_name[] = {"in", "out", "inout", "const", "scratch"};

/* Kernels of equal text but for name and `what` do the same. */
void kernel_print_as(const Kernel *k, const char *name, const char *what, Text *out) {
  char type[24];
  text_addf(out, "kernel %s ", name);
  print_quoted(out, what);
  text_add(out, " (");
  for (int i = 0; i < k->params.n; i++) {
    const Var *v = k->params.at[i];
    text_addf(out, "%s%s: %s %s", i ? ", " : "", v->name, type_name(v->type, type), access_name[v->access]);
    if (v->access == ACCESS_SCRATCH) text_addf(out, " %lld", (long long)v->scratch_bytes);
    if (v->may_alias) text_add(out, " alias");
  }
  text_add(out, ")");
  if (k->range) text_addf(out, " range %s in 0..%lld", k->range->name, (long long)k->extent);
  if (k->flops != 0) text_addf(out, " flops %.17g", k->flops);
  if (k->bytes != 0) text_addf(out, " bytes %.17g", k->bytes);
  text_add(out, " {\n");
  print_block(out, &k->body, 1);
  text_add(out, "}\n");
}

void kernel_print(const Kernel *k, Text *out) { kernel_print_as(k, k->name, k->what, out); }

/* ---- programs ---- */

static void print_weight(Text *out, const Weight *w) {
  text_add(out, "weight ");
  print_quoted(out, w->name ? w->name : "");
  text_add(out, " ");
  print_quoted(out, w->desc ? w->desc : "");
  text_addf(out, " bytes %lld offset %lld\n", (long long)w->bytes, (long long)w->offset);
}

static void print_buffer(Text *out, const Buffer *b, int i) {
  static const char *const kind[] = {"arena", "scratch", "weight", "input", "output"};
  text_addf(out, "buffer b%d %s", i, kind[b->kind]);
  if (b->kind == BUF_WEIGHT || b->kind == BUF_INPUT || b->kind == BUF_OUTPUT) text_addf(out, " %d", b->index);
  text_addf(out, " bytes %lld", (long long)b->bytes);
  if (b->kind == BUF_ARENA || b->kind == BUF_SCRATCH) text_addf(out, " offset %lld", (long long)b->offset);
  if (b->kind == BUF_SCRATCH) text_addf(out, " stride %lld", (long long)b->stride);
  if (b->kind == BUF_ARENA || b->kind == BUF_SCRATCH) text_addf(out, " live %d..%d", b->first, b->last);
  if (b->part) text_addf(out, " part of b%d at %lld", b->whole, (long long)b->at);
  if (b->name) {
    text_add(out, " ");
    print_quoted(out, b->name);
  }
  text_add(out, "\n");
}

static void print_port(Text *out, const char *kind, const Port *p) {
  text_addf(out, "%s ", kind);
  print_quoted(out, p->name);
  text_addf(out, " %s [", dt_name(p->dt));
  for (int i = 0; i < p->shape.rank; i++) {
    text_add(out, i ? ", " : "");
    if (p->shape.d[i].sym) {
      print_quoted(out, p->shape.d[i].sym);
      text_add(out, " ");
    }
    text_addf(out, "%lld", (long long)p->shape.d[i].n);
  }
  text_add(out, "]\n");
}

/* Until pass_dedup names them, kernels are told apart by position. */
static const char *kernel_label(const Program *p, const Kernel *k, char buf[24]) {
  if (strcmp(k->name, "k")) return k->name;
  int i = 0;
  while (i < p->kernels.n && p->kernels.at[i] != k) i++;
  snprintf(buf, 24, "k%d", i);
  return buf;
}

static void print_program_call(Text *out, const Program *p, const Call *c) {
  char name[24];
  text_addf(out, "call %s(", kernel_label(p, c->kernel, name));
  for (int i = 0; i < c->kernel->params.n; i++) {
    text_addf(out, "%sb%d", i ? ", " : "", c->args[i].buffer);
    if (c->args[i].offset) text_addf(out, " + %lld", (long long)c->args[i].offset);
  }
  text_add(out, ")");
  if (c->onnx_op) {
    text_add(out, " ");
    print_quoted(out, c->onnx_op);
  }
  for (int i = 0; i < c->norigin; i++) {
    text_add(out, i ? ", " : " from ");
    print_quoted(out, c->origin[i]);
  }
  text_add(out, "\n");
}

void program_print(const Program *p, Text *out) {
  text_add(out, "program ");
  print_quoted(out, p->name);
  text_add(out, " from ");
  print_quoted(out, p->file);
  text_addf(out, "\nthreads %d\nworkspace %lld live %lld weights %lld\nmacs %lld params %lld\n", p->max_threads,
            (long long)p->workspace_bytes, (long long)p->live_bytes, (long long)p->weight_bytes, (long long)p->macs, (long long)p->params);
  for (int i = 0; i < p->inputs.n; i++) print_port(out, "input", &p->inputs.at[i]);
  for (int i = 0; i < p->outputs.n; i++) print_port(out, "output", &p->outputs.at[i]);
  for (int i = 0; i < p->weights.n; i++) print_weight(out, &p->weights.at[i]);
  for (int i = 0; i < p->buffers.n; i++) print_buffer(out, &p->buffers.at[i], i);
  for (int i = 0; i < p->kernels.n; i++) {
    const Kernel *k = p->kernels.at[i];
    char name[24];
    text_add(out, "\n");
    kernel_print_as(k, kernel_label(p, k, name), k->what, out);
  }
  if (p->calls.n) text_add(out, "\n");
  for (int i = 0; i < p->calls.n; i++) print_program_call(out, p, &p->calls.at[i]);
}
