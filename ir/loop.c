/* ir/loop.c: builds kernels of the loop IR: variables with unique names, and statements into the innermost open block.
 * Expressions are in loop_fold.c.
 *
 * A Build is a cursor over one kernel: open[] are the blocks that statements are appended to, innermost last; owner[] the statements
 * they belong to (NULL: the kernel's body, or the loop that s_for_n(1) left out). Misuse is a mistake of ours and leaves through the
 * arena's Fail.
 */
#include "loop_text.h"
#include <stdlib.h>

const XInfo x_table[X_COUNT] = {
#define X(NAME, text, n) {#NAME, text, n},
#include "loop_ops.def"
#undef X
};

NORETURN static void misuse(Build *b, const char *what) {
  Fail *f = arena_fail(b->arena);
  Status s = diag_error(f ? f->diag : NULL, SPINEC_ERR_INTERNAL, NULL, NULL, "kernel '%s' (%s): %s", b->k->name ? b->k->name : "?",
                        b->k->what ? b->k->what : "", what);
  if (!f) {
    fprintf(stderr, "spinec: %s\n", what);
    abort();
  }
  f->status = s;
  longjmp(f->env, 1);
}

const char *type_name(Type t, char buf[24]) {
  const char *dt = t.dt == DT_IDX ? "idx" : dt_name(t.dt);
  if (t.lanes == 1) snprintf(buf, 24, "%s", dt);
  else snprintf(buf, 24, "%sx%d", dt, t.lanes);
  return buf;
}

/* ---- names ---- */

/* Words of the text form; operators' names are taken from x_table. */
static const char *const reserved[] = {
    "alias", "by",  "const", "else",     "false", "first", "for", "if",      "in",   "inf",   "inout", "kernel", "let",   "nan",
    "out",   "pin", "prefetch", "range", "read",  "reg",   "scratch", "step", "store", "true", "while", "write", NULL};

bool loop_reserved(const char *s) {
  for (int i = 0; reserved[i]; i++) {
    if (!strcmp(s, reserved[i])) return true;
  }
  for (int i = 0; i < X_COUNT; i++) {
    if (!strcmp(s, x_table[i].text)) return true;
  }
  return false;
}

/* Open addressing; next is the number to try first after this name, so that many variables of one name cost little. */
typedef struct NameSlot { const char *name; int next; } NameSlot;
typedef struct NameTable { NameSlot *at; uint32_t size, used; } NameTable;

static NameSlot *name_find(const NameTable *t, const char *name) {
  uint32_t h = 2166136261u;
  for (const char *c = name; *c; c++) h = (h ^ (uint8_t)*c) * 16777619u;
  for (uint32_t i = h & (t->size - 1);; i = (i + 1) & (t->size - 1)) {
    if (!t->at[i].name || !strcmp(t->at[i].name, name)) return &t->at[i];
  }
}

static void name_add(Build *b, const char *name) {
  NameTable *t = b->names;
  if (2 * (t->used + 1) > t->size) {
    NameTable old = *t;
    t->size = old.size ? 2 * old.size : 64;
    t->at = NEW_N(b->arena, NameSlot, t->size);
    for (uint32_t i = 0; i < old.size; i++) {
      if (old.at[i].name) *name_find(t, old.at[i].name) = old.at[i];
    }
  }
  NameSlot *s = name_find(t, name);
  if (!s->name) {
    t->used++;
    s->name = name;
    s->next = 1;
  }
}

static const char *unique_name(Build *b, const char *want) {
  char base[40];
  int n = 0;
  for (const char *c = want ? want : "t"; *c && n < 32; c++) {
    bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || *c == '_', digit = *c >= '0' && *c <= '9';
    if (digit && !n) base[n++] = '_';
    base[n++] = letter || digit ? *c : '_';
  }
  if (!n) base[n++] = 't';
  base[n] = 0;
  const char *name = base;
  char trial[56];
  NameSlot *s = b->names->size ? name_find(b->names, base) : NULL;
  if ((s && s->name) || loop_reserved(base)) {
    if (!s || !s->name) {
      name_add(b, arena_strdup(b->arena, base));
      s = name_find(b->names, base);
    }
    const char *stem = s->name;
    do {
      snprintf(trial, sizeof trial, "%s%d", stem, name_find(b->names, stem)->next++);
    } while (name_find(b->names, trial)->name || loop_reserved(trial));
    name = trial;
  }
  name = arena_strdup(b->arena, name);
  name_add(b, name);
  return name;
}

/* ---- kernel, variables ---- */

Kernel *kernel_new(Arena *a, const char *what) {
  Kernel *k = NEW(a, Kernel);
  k->name = "k";
  k->what = arena_strdup(a, what ? what : "");
  k->extent = 1;
  return k;
}

void build_start(Build *b, Arena *a, Kernel *k) {
  memset(b, 0, sizeof *b);
  b->arena = a;
  b->k = k;
  b->names = NEW(a, NameTable);
  for (int i = 0; i < k->vars.n; i++) name_add(b, k->vars.at[i]->name);
  b->open[0] = &k->body;
  b->depth = 1;
}

static Var *var_new(Build *b, VarKind kind, const char *name, Type type) {
  Var *v = NEW(b->arena, Var);
  v->kind = kind;
  v->name = unique_name(b, name);
  v->type = type;
  v->id = b->k->vars.n;
  vec_push(b->arena, &b->k->vars, v);
  return v;
}

Var *build_param(Build *b, const char *name, DType dt, Access access) {
  Var *v = var_new(b, VAR_BUF, name, type_of(dt, 1));
  v->access = access;
  vec_push(b->arena, &b->k->params, v);
  return v;
}

Var *build_range(Build *b, const char *name, int64_t extent) {
  if (b->k->range) misuse(b, "two ranges");
  b->k->range = var_new(b, VAR_RANGE, name, type_idx());
  b->k->extent = extent;
  return b->k->range;
}

/* ---- statements ---- */

static Stmt *stmt_add(Build *b, StmtKind kind) {
  Block *in = b->open[b->depth - 1];
  Stmt *s = NEW(b->arena, Stmt);
  s->kind = kind;
  if (in->last) in->last->next = s;
  else in->first = s;
  in->last = s;
  return s;
}

static void open_block(Build *b, Block *block, Stmt *owner) {
  if (b->depth == BUILD_DEPTH) misuse(b, "blocks nested too deeply");
  b->open[b->depth] = block;
  b->owner[b->depth] = owner;
  b->depth++;
}

Expr *s_let(Build *b, const char *name, Expr *e) {
  if (e->op == X_CONST || (e->op == X_VAR && e->var->kind != VAR_REG)) return e;
  Var *v = var_new(b, VAR_LET, name, e->type);
  Stmt *s = stmt_add(b, S_LET);
  s->var = v;
  s->e = e;
  return x_var(b, v);
}

Var *s_reg(Build *b, const char *name, Expr *init) {
  Var *v = var_new(b, VAR_REG, name, init->type);
  Stmt *s = stmt_add(b, S_REG);
  s->var = v;
  s->e = init;
  return v;
}

void s_set(Build *b, Var *reg, Expr *e) {
  Stmt *s = stmt_add(b, S_SET);
  s->var = reg;
  s->e = reg->type.lanes > 1 && e->type.lanes == 1 ? x_splat(b, e, reg->type.lanes) : e;
}

void s_store(Build *b, Var *buf, Expr *index, Expr *e) { s_store_part(b, buf, index, e, NULL, NULL); }

void s_store_part(Build *b, Var *buf, Expr *index, Expr *e, Expr *count, Expr *stride) {
  int64_t i;
  if (count && x_is_int(count, &i) && i >= e->type.lanes) count = NULL;
  if (stride && x_is_int(stride, &i) && i == 1) stride = NULL;
  Stmt *s = stmt_add(b, S_STORE);
  s->var = buf;
  s->index = index;
  s->e = e;
  s->count = count;
  s->stride = stride;
}

Expr *s_for(Build *b, const char *name, Expr *begin, Expr *end, int64_t step) {
  Var *v = var_new(b, VAR_LOOP, name, type_idx());
  Stmt *s = stmt_add(b, S_FOR);
  s->var = v;
  s->e = begin;
  s->end = end;
  s->step = step;
  open_block(b, &s->body, s);
  return x_var(b, v);
}

Expr *s_for_n(Build *b, const char *name, int64_t n) {
  if (n != 1) return s_for(b, name, x_idx(b, 0), x_idx(b, n), 1);
  open_block(b, b->open[b->depth - 1], NULL);
  return x_idx(b, 0);
}

void s_while(Build *b, Expr *cond) {
  Stmt *s = stmt_add(b, S_WHILE);
  s->e = cond;
  open_block(b, &s->body, s);
}

void s_if(Build *b, Expr *cond) {
  Stmt *s = stmt_add(b, S_IF);
  s->e = cond;
  open_block(b, &s->body, s);
}

void s_else(Build *b) {
  Stmt *s = b->owner[b->depth - 1];
  if (!s || s->kind != S_IF || b->open[b->depth - 1] != &s->body) misuse(b, "else without if");
  b->open[b->depth - 1] = &s->other;
}

void s_end(Build *b) {
  if (b->depth <= 1) misuse(b, "end without a block");
  b->depth--;
}

void s_prefetch(Build *b, Var *buf, Expr *index, int locality, bool write) {
  Stmt *s = stmt_add(b, S_PREFETCH);
  s->var = buf;
  s->index = index;
  s->locality = locality;
  s->write = write;
}

void s_pin(Build *b, Var *let) { stmt_add(b, S_PIN)->var = let; }

void s_comment(Build *b, const char *fmt, ...) {
  char line[512];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(line, sizeof line, fmt, ap);
  va_end(ap);
  for (char *c = line; *c; c++) {
    if ((unsigned char)*c < ' ') *c = ' ';
  }
  stmt_add(b, S_COMMENT)->text = arena_strdup(b->arena, line);
}
