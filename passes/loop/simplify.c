/* passes/loop/simplify.c: removes what does nothing.
 *
 *   1. fold     expressions are built anew by the folding builder; lets of constants and of other variables are replaced by them;
 *               constant conditions choose their branch; loops of no turn go, loops of one turn leave their body
 *   2. hoist    divisions of idx by constants leave the loops they do not depend on (they may run more often than before, but cannot trap)
 *   3. sweep    lets and registers nobody reads, empty loops and branches
 */
#include "rewrite.h"

typedef struct Simplify {
  Build b;
  Expr **subst;            /* by variable id: what it is replaced by */
  int nsubst;
  int *uses;               /* by variable id */
  int64_t folded, loops, branches, hoisted, dead;
} Simplify;

/* ---- 1. fold ---- */

static Expr *subst_get(const Simplify *s, const Var *v) { return v->id < s->nsubst ? s->subst[v->id] : NULL; }

static Expr *fold(Build *b, Expr *e, void *user) {
  Simplify *s = user;
  if (e->op == X_VAR) {
    Expr *with = subst_get(s, e->var);
    return with ? with : e;
  }
  Expr *a[3];
  for (int i = 0; i < 3; i++) a[i] = e->a[i] ? fold(b, e->a[i], user) : NULL;
  Expr *n = expr_fold(b, e, a);
  return expr_equal(n, e) ? e : n;
}

/* Do the loop's bounds, already folded, let it turn exactly once? */
static bool one_turn(const Stmt *l) {
  int64_t begin, end;
  if (x_is_int(l->e, &begin) && x_is_int(l->end, &end)) return begin < end && ev_sub(end, begin) > 0 && end - begin <= l->step;
  const Expr *e = l->end;
  return e->op == X_ADD && e->a[1]->op == X_CONST && e->a[1]->i > 0 && e->a[1]->i <= l->step && expr_equal(e->a[0], l->e);
}

static bool no_turn(const Stmt *l) {
  int64_t begin, end;
  return (x_is_int(l->e, &begin) && x_is_int(l->end, &end) && begin >= end) || expr_equal(l->e, l->end);
}

static void fold_into(Simplify *s, const Block *block);

static void fold_block(Simplify *s, Block *block) {
  Build *b = &s->b;
  Block done = {NULL, NULL}, *outer = b->open[b->depth - 1];
  b->open[b->depth - 1] = &done;
  fold_into(s, block);
  b->open[b->depth - 1] = outer;
  *block = done;
}

static void fold_for(Simplify *s, Stmt *l) {
  if (no_turn(l)) {
    s->loops++;
  } else if (one_turn(l)) {
    s->loops++;
    s->subst[l->var->id] = s_let(&s->b, l->var->name, l->e);
    fold_into(s, &l->body);
  } else {
    fold_block(s, &l->body);
    stmt_append(&s->b, l);
  }
}

static void fold_if(Simplify *s, Stmt *i) {
  if (i->e->op == X_CONST) {
    s->branches++;
    fold_into(s, i->e->i ? &i->body : &i->other);
    return;
  }
  fold_block(s, &i->body);
  fold_block(s, &i->other);
  stmt_append(&s->b, i);
}

static void fold_stmt(Simplify *s, Stmt *t) {
  Expr *before[] = {t->e, t->end, t->index, t->count, t->stride};
  stmt_map(&s->b, t, fold, s);
  Expr *const after[] = {t->e, t->end, t->index, t->count, t->stride};
  s->folded += memcmp(before, after, sizeof before) != 0;
  switch (t->kind) {
  case S_FOR: fold_for(s, t); return;
  case S_IF: fold_if(s, t); return;
  case S_WHILE:
    if (t->e->op == X_CONST && !t->e->i) {
      s->loops++;
      return;
    }
    fold_block(s, &t->body);
    break;
  case S_LET:
    if (t->e->op == X_CONST || (t->e->op == X_VAR && t->e->var->kind != VAR_REG)) {
      s->subst[t->var->id] = t->e;
      s->folded++;
      return;
    }
    break;
  case S_PIN: {
    Expr *with = subst_get(s, t->var);
    if (with && (with->op != X_VAR || with->var->kind != VAR_LET)) return;
    if (with) t->var = with->var;
    break;
  }
  case S_REG: case S_SET: case S_STORE: case S_PREFETCH: case S_COMMENT: break;
  }
  stmt_append(&s->b, t);
}

static void fold_into(Simplify *s, const Block *block) {
  for (Stmt *t = block->first, *next; t; t = next) {
    next = t->next;
    fold_stmt(s, t);
  }
}

/* ---- 2. hoist ---- */

typedef struct Hoist {
  Simplify *s;
  const bool *inside;      /* by variable id: defined in the loop */
  int known;               /* ids that `inside` covers; later ones are lets made here, outside the loop */
  struct { Expr *e, *let; } found[16];
  int n;
} Hoist;

static bool movable(const Hoist *h, const Expr *e) {
  if (e->op == X_LOAD || (e->op == X_VAR && (e->var->kind == VAR_REG || (e->var->id < h->known && h->inside[e->var->id])))) return false;
  for (int i = 0; i < 3; i++) {
    if (e->a[i] && !movable(h, e->a[i])) return false;
  }
  return true;
}

static Expr *hoist_expr(Build *b, Expr *e, void *user) {
  Hoist *h = user;
  bool divides = (e->op == X_DIV || e->op == X_REM) && e->type.dt == DT_IDX && e->a[1]->op == X_CONST && e->a[1]->i > 0;
  if (divides && movable(h, e)) {
    for (int i = 0; i < h->n; i++) {
      if (expr_equal(h->found[i].e, e)) return h->found[i].let;
    }
    if (h->n == COUNTOF(h->found)) return e;
    h->found[h->n].e = e;
    h->s->hoisted++;
    return h->found[h->n++].let = s_let(b, "q", e);
  }
  Expr *a[3];
  for (int i = 0; i < 3; i++) a[i] = e->a[i] ? hoist_expr(b, e->a[i], user) : NULL;
  return expr_with(b, e, a);
}

static void mark_inside(bool *inside, const Block *block) {
  for (const Stmt *t = block->first; t; t = t->next) {
    if (t->kind == S_FOR || t->kind == S_LET || t->kind == S_REG) inside[t->var->id] = true;
    mark_inside(inside, &t->body);
    mark_inside(inside, &t->other);
  }
}

static void hoist_from(Hoist *h, Block *block) {
  for (Stmt *t = block->first; t; t = t->next) {
    stmt_map(&h->s->b, t, hoist_expr, h);
    hoist_from(h, &t->body);
    hoist_from(h, &t->other);
  }
}

/* Outermost loops first: what leaves one goes as far out as it can. */
static void hoist_block(Simplify *s, Block *block) {
  Build *b = &s->b;
  Block done = {NULL, NULL}, *outer = b->open[b->depth - 1];
  b->open[b->depth - 1] = &done;
  for (Stmt *t = block->first, *next; t; t = next) {
    next = t->next;
    if (t->kind == S_FOR) {
      ArenaMark mark = arena_mark(b->arena);
      int known = b->k->vars.n;
      bool *inside = NEW_N(b->arena, bool, known);
      mark_inside(inside, &t->body);
      inside[t->var->id] = true;
      Hoist h = {.s = s, .inside = inside, .known = known};
      hoist_from(&h, &t->body);
      if (!h.n) arena_release(b->arena, mark);
    }
    hoist_block(s, &t->body);
    hoist_block(s, &t->other);
    stmt_append(b, t);
  }
  b->open[b->depth - 1] = outer;
  *block = done;
}

/* ---- 3. sweep ---- */

/* What a register's own assignments read of it does not keep it alive. */
static void count_expr(Simplify *s, const Expr *e, const Var *self, int by) {
  if (!e) return;
  if (e->op == X_VAR && e->var != self) s->uses[e->var->id] += by;
  for (int i = 0; i < 3; i++) count_expr(s, e->a[i], self, by);
}

static void count_stmt(Simplify *s, const Stmt *t, int by) {
  const Expr *const parts[] = {t->e, t->end, t->index, t->count, t->stride};
  for (int i = 0; i < COUNTOF(parts); i++) count_expr(s, parts[i], t->kind == S_SET ? t->var : NULL, by);
}

static void count_block(Simplify *s, const Block *block) {
  for (const Stmt *t = block->first; t; t = t->next) {
    count_stmt(s, t, 1);
    count_block(s, &t->body);
    count_block(s, &t->other);
  }
}

static bool is_dead(const Simplify *s, const Stmt *t) {
  switch (t->kind) {
  case S_LET: case S_REG: case S_SET: case S_PIN: return s->uses[t->var->id] == 0;
  case S_FOR: return !t->body.first;
  case S_IF: return !t->body.first && !t->other.first;
  case S_WHILE: case S_STORE: case S_PREFETCH: case S_COMMENT: break;
  }
  return false;
}

/* An empty branch is never the first. */
static void swap_branches(Simplify *s, Stmt *t) {
  static const XOp opposite[] = {X_NE, X_EQ, X_GE, X_GT, X_LE, X_LT};
  const Expr *e = t->e;
  bool ordered = x_is_compare(e->op) && !dt_is_float(e->a[0]->type.dt);   /* a NaN is neither less nor not less */
  t->e = ordered ? x_bin(&s->b, opposite[e->op - X_EQ], e->a[0], e->a[1]) : x_un(&s->b, X_NOT, t->e);
  t->body = t->other;
  t->other = (Block){NULL, NULL};
  s->branches++;
}

/* Last statement first, so that what only the dead use dies with them. */
static void sweep_block(Simplify *s, Block *block) {
  int n = 0;
  for (const Stmt *t = block->first; t; t = t->next) n++;
  Stmt **all = NEW_N(s->b.arena, Stmt *, n);
  n = 0;
  for (Stmt *t = block->first; t; t = t->next) all[n++] = t;
  block->first = block->last = NULL;
  for (int i = n - 1; i >= 0; i--) {
    Stmt *t = all[i];
    sweep_block(s, &t->body);
    sweep_block(s, &t->other);
    if (is_dead(s, t)) {
      count_stmt(s, t, -1);
      s->dead++;
      continue;
    }
    if (t->kind == S_IF && !t->body.first) swap_branches(s, t);
    t->next = block->first;
    block->first = t;
    if (!block->last) block->last = t;
  }
}

/* Registers that only dead ones read take another round. */
static void sweep(Simplify *s, Block *body) {
  int64_t before;
  do {
    before = s->dead;
    s->uses = NEW_N(s->b.arena, int, s->b.k->vars.n);
    count_block(s, body);
    sweep_block(s, body);
  } while (s->dead != before);
}

/* Variables that are no longer defined leave the kernel, so that the rest keeps their order. */

static void drop_variables(Simplify *s) {
  Kernel *k = s->b.k;
  bool *defined = NEW_N(s->b.arena, bool, k->vars.n);
  mark_inside(defined, &k->body);
  int n = 0;
  for (int i = 0; i < k->vars.n; i++) {
    Var *v = k->vars.at[i];
    if (v->kind != VAR_BUF && v->kind != VAR_RANGE && !defined[i]) continue;
    v->id = n;
    k->vars.at[n++] = v;
  }
  k->vars.n = n;
}

/* ---- the pass ---- */

static void simplify_kernel(Simplify *s, Arena *a, Kernel *k) {
  build_start(&s->b, a, k);
  /* Folding makes a let for the begin of a loop of one turn: at most one more variable for each there is. */
  s->nsubst = 2 * k->vars.n;
  s->subst = NEW_N(a, Expr *, s->nsubst);
  if (k->range && k->extent == 1) s->subst[k->range->id] = x_idx(&s->b, 0);
  fold_block(s, &k->body);
  hoist_block(s, &k->body);
  sweep(s, &k->body);
  drop_variables(s);
}

bool pass_simplify(Program *p, Ctx *c) {
  Simplify s = {0};
  for (int i = 0; i < p->kernels.n; i++) simplify_kernel(&s, p->arena, p->kernels.at[i]);
  const struct { const char *what; int64_t n; } counts[] = {
      {"statements folded", s.folded}, {"loops removed", s.loops}, {"branches removed", s.branches}, {"divisions hoisted", s.hoisted},
      {"dead statements", s.dead}};
  bool changed = false;
  for (int i = 0; i < COUNTOF(counts); i++) {
    if (!counts[i].n) continue;
    pass_count(c, "simplify", counts[i].what, counts[i].n);
    changed = true;
  }
  return changed;
}
