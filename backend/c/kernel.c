/* kernel.c: kernels as C functions, one line per statement. */
#include "c_backend.h"

#include <string.h>

static void indent(CGen *g) {
  for (int i = 0; i < g->depth; i++) text_add(g->out, "  ");
}

static const char *name_of(const CGen *g, const Var *v) { return g->var_names[v->id]; }

/* ---- which variables are read, which are pinned ---- */

typedef struct Uses { bool *read, *pinned; } Uses;

static void uses_expr(Uses *u, const Expr *e) {
  if (!e) return;
  if (e->var) u->read[e->var->id] = true;
  for (int i = 0; i < 3; i++) uses_expr(u, e->a[i]);
}

static void uses_block(Uses *u, const Block *b) {
  for (const Stmt *s = b->first; s; s = s->next) {
    uses_expr(u, s->e);
    uses_expr(u, s->end);
    uses_expr(u, s->index);
    uses_expr(u, s->count);
    uses_expr(u, s->stride);
    if (s->kind == S_STORE || s->kind == S_PREFETCH) u->read[s->var->id] = true;
    if (s->kind == S_PIN) u->read[s->var->id] = u->pinned[s->var->id] = true;
    uses_block(u, &s->body);
    uses_block(u, &s->other);
  }
}

/* ---- statements ---- */

static void block(CGen *g, const Uses *u, const Block *b);

/* A loop's end counts as computed once, before the loop: may it be written into the condition all the same? */
static bool constant_in_loop(const Expr *e) {
  if (!e) return true;
  if (e->op == X_LOAD || (e->op == X_VAR && e->var->kind == VAR_REG)) return false;
  return constant_in_loop(e->a[0]) && constant_in_loop(e->a[1]) && constant_in_loop(e->a[2]);
}

static void body(CGen *g, const Uses *u, const Block *b) {
  text_add(g->out, "{\n");
  g->depth++;
  block(g, u, b);
  g->depth--;
  indent(g);
  text_add(g->out, "}");
}

static void for_loop(CGen *g, const Uses *u, const Stmt *s) {
  const char *v = name_of(g, s->var);
  bool hoist = !constant_in_loop(s->end);
  if (hoist) {
    text_addf(g->out, "const ptrdiff_t end_of_%s = ", v);
    c_expr(g, s->end);
    text_add(g->out, ";\n");
    indent(g);
  }
  text_addf(g->out, "for (ptrdiff_t %s = ", v);
  c_expr(g, s->e);
  text_addf(g->out, "; %s < ", v);
  if (hoist) text_addf(g->out, "end_of_%s", v);
  else c_expr(g, s->end);
  if (s->step == 1) text_addf(g->out, "; %s++) ", v);
  else text_addf(g->out, "; %s += %lld) ", v, (long long)s->step);
  body(g, u, &s->body);
  text_add(g->out, "\n");
}

static void declare(CGen *g, const Uses *u, const Stmt *s) {
  const Expr *value = c_flatten(g, s->e);
  if (s->kind == S_LET && !u->pinned[s->var->id]) text_add(g->out, "const ");
  c_local_type(g, s->var->type);
  text_addf(g->out, " %s = ", name_of(g, s->var));
  c_expr(g, value);
  text_add(g->out, ";\n");
  if (u->read[s->var->id]) return;
  indent(g);
  text_addf(g->out, "(void)%s;\n", name_of(g, s->var));
}

static void store(CGen *g, const Stmt *s) {
  Type t = s->e->type;
  const Expr *value = c_flatten(g, s->e), *index = c_flatten(g, s->index);
  if (t.lanes == 1) {
    text_addf(g->out, "%s[", name_of(g, s->var));
    c_expr(g, index);
    bool flag = t.dt == DT_BOOL && s->e->op != X_VAR && s->e->op != X_CONST;   /* C's logic gives an int */
    text_add(g->out, flag ? "] = (uint8_t)(" : "] = ");
    c_expr(g, value);
    text_add(g->out, flag ? ");\n" : ";\n");
    return;
  }
  c_access(g, t, "store", s->count, s->stride);
  c_address(g, s->var, index);
  text_add(g->out, ", ");
  c_expr(g, value);
  c_count_and_stride(g, t, s->count, s->stride);
  text_add(g->out, ");\n");
}

static void pin(CGen *g, const Stmt *s) {
  Type t = s->var->type;
  bool simple = t.lanes > 1 ? t.dt != DT_BOOL : t.dt == DT_F32;
  if (simple) text_addf(g->out, "%s(%s);\n", c_function(g, t, "pin"), name_of(g, s->var));
  else text_addf(g->out, "(void)%s;\n", name_of(g, s->var));
}

static void statement(CGen *g, const Uses *u, const Stmt *s) {
  indent(g);
  switch (s->kind) {
  case S_FOR: for_loop(g, u, s); return;
  case S_WHILE:
  case S_IF: {
    const Expr *cond = s->kind == S_IF ? c_flatten(g, s->e) : s->e;
    text_add(g->out, s->kind == S_IF ? "if (" : "while (");
    c_expr(g, cond);
    text_add(g->out, ") ");
    body(g, u, &s->body);
    if (s->other.first) {
      text_add(g->out, " else ");
      body(g, u, &s->other);
    }
    text_add(g->out, "\n");
    return;
  }
  case S_LET:
  case S_REG: declare(g, u, s); return;
  case S_SET: {
    const Expr *value = c_flatten(g, s->e);
    text_addf(g->out, "%s = ", name_of(g, s->var));
    c_expr(g, value);
    text_add(g->out, ";\n");
    return;
  }
  case S_STORE: store(g, s); return;
  case S_PREFETCH:
    need(g->needs, "PREFETCH");
    text_addf(g->out, "PREFETCH(%s, ", name_of(g, s->var));
    c_expr(g, s->index);
    text_addf(g->out, ", %d, %d);\n", s->write, s->locality);
    return;
  case S_PIN: pin(g, s); return;
  case S_COMMENT: text_addf(g->out, "/* %s */\n", c_comment(g->a, s->text, 200)); return;
  }
}

static void block(CGen *g, const Uses *u, const Block *b) {
  for (const Stmt *s = b->first; s; s = s->next) statement(g, u, s);
}

/* ---- kernels ---- */

/* Parameters that share memory under two element types would break C's aliasing rules; such types are declared to alias anything. */
static bool shares_memory_across_types(const Kernel *k) {
  const Var *first = NULL;
  for (int i = 0; i < k->params.n; i++) {
    const Var *v = k->params.at[i];
    if (!v->may_alias) continue;
    if (first && first->type.dt != v->type.dt) return true;
    if (!first) first = v;
  }
  return false;
}

const char *c_param_type(CGen *g, const Kernel *k, const Var *v) {
  if (!v->may_alias || !shares_memory_across_types(k)) return c_type(v->type.dt);
  const char *name = arena_printf(g->a, "may_%s", v->type.dt == DT_BOOL ? "u8" : dt_name(v->type.dt));
  need(g->needs, name);
  return name;
}

static bool written(const Var *v) { return v->access != ACCESS_IN && v->access != ACCESS_CONST; }

/* A declaration behind what is on the line already, or on a line of its own. */
static void put_param(CGen *g, const char *p, size_t *column, bool first) {
  bool wrap = !first && *column + strlen(p) > 137;
  text_addf(g->out, "%s%s", first ? "" : wrap ? ",\n    " : ", ", p);
  *column = wrap ? 4 + strlen(p) : *column + 2 + strlen(p);
}

static void params(CGen *g, const Kernel *k, size_t column) {
  for (int i = 0; i < k->params.n; i++) {
    const Var *v = k->params.at[i];
    if (!v->may_alias) need(g->needs, "RESTRICT");
    const char *p = arena_printf(g->a, "%s%s *%s%s", written(v) ? "" : "const ", c_param_type(g, k, v), v->may_alias ? "" : "RESTRICT ", name_of(g, v));
    put_param(g, p, &column, i == 0);
  }
  put_param(g, "ptrdiff_t begin, ptrdiff_t end) {\n", &column, !k->params.n);
}

/* The nodes of all calls of k, each once, in order. */
static void kernel_nodes(CGen *g, const Kernel *k, Text *t) {
  int calls = 0, shown = 0, more = 0;
  for (int i = 0; i < g->p->calls.n; i++) {
    const Call *c = &g->p->calls.at[i];
    if (c->kernel != k) continue;
    calls++;
    for (int j = 0; j < c->norigin; j++) {
      if (!*c->origin[j]) continue;
      if (shown == 12) more++;
      else text_addf(t, "%s%s", shown++ ? ", " : "", c_comment(g->a, c->origin[j], 60));
    }
  }
  if (more) text_addf(t, " and %d more", more);
  if (!shown) text_addf(t, "%d call%s", calls, calls == 1 ? "" : "s");
}

static void kernel_comment(CGen *g, const Kernel *k) {
  Text nodes = {.a = g->a};
  kernel_nodes(g, k, &nodes);
  text_addf(g->out, "\n/* %s", c_comment(g->a, k->what && *k->what ? k->what : k->name, 100));
  if (k->flops > 0) {
    text_add(g->out, "; ");
    c_amount(g->out, k->flops, "flop a call");
  }
  text_addf(g->out, "\n * %s */\n", nodes.s ? nodes.s : "");
}

void c_kernel(CGen *g, const Kernel *k) {
  Uses u = {NEW_N(g->a, bool, k->vars.n + 1), NEW_N(g->a, bool, k->vars.n + 1)};
  uses_block(&u, &k->body);
  g->k = k;
  g->temps = 0;
  g->var_names = c_var_names(g->a, k);
  need(g->needs, "KERNEL");
  kernel_comment(g, k);
  const char *start = arena_printf(g->a, "KERNEL void %s(", c_kernel_name(g, k));
  text_add(g->out, start);
  params(g, k, strlen(start));
  g->depth = 1;
  for (int i = 0; i < k->params.n; i++) {
    if (u.read[k->params.at[i]->id]) continue;
    indent(g);
    text_addf(g->out, "(void)%s;\n", name_of(g, k->params.at[i]));
  }
  const char *r = k->range ? name_of(g, k->range) : "once";
  text_addf(g->out, "  for (ptrdiff_t %s = begin; %s < end; %s++) ", r, r, r);
  body(g, &u, &k->body);
  text_add(g->out, "\n}\n");
}
