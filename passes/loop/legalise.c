/* passes/loop/legalise.c: what the target lacks: FMA becomes a product and a sum where there is none; mathematics becomes arithmetic where
 * math.c knows how; pow with the usual constant exponents becomes products and roots.
 *
 * Parts of an expansion that are used twice are bound by lets before the statement. A while loop's condition is evaluated again and
 * again, so one that needs lets moves into a register that is set before the loop and at the end of its body.
 */
#include "rewrite.h"

typedef struct Legalise {
  Build b;
  bool fma;
  int64_t math, fused, powers;
} Legalise;

static bool is_const(const Expr *e, double v) { return e->op == X_CONST && dt_is_float(e->type.dt) && e->f == v; }

/* pow(x, c); NULL when it has to stay. */
static Expr *power(Legalise *l, Expr *x, const Expr *c) {
  Build *b = &l->b;
  if (is_const(c, 0)) return x_float(b, x->type, 1);
  if (is_const(c, 1)) return x;
  if (is_const(c, -1)) return x_bin(b, X_DIV, x_float(b, x->type, 1), x);
  if (!is_const(c, 2) && !is_const(c, 3) && !is_const(c, 0.5)) return NULL;
  x = s_let(b, "x", x);
  if (is_const(c, 2)) return x_mul(b, x, x);
  if (is_const(c, 3)) return x_mul(b, x_mul(b, x, x), x);
  /* pow(-0, 0.5) is 0 and pow(-inf, 0.5) is inf. */
  Expr *inf = x_float(b, x->type, INFINITY), *root = x_add(b, x_un(b, X_SQRT, x), x_float(b, x->type, 0));
  return x_select(b, x_bin(b, X_EQ, x, x_un(b, X_NEG, inf)), inf, root);
}

static bool illegal(const Legalise *l, const Expr *e) {
  if (e->op == X_POW) {
    const Expr *c = e->a[1];
    return is_const(c, 0) || is_const(c, 1) || is_const(c, -1) || is_const(c, 2) || is_const(c, 3) || is_const(c, 0.5);
  }
  return (e->op == X_FMA && !l->fma) || math_expands(e->op, e->type);
}

static bool any_illegal(const Legalise *l, const Expr *e) {
  if (!e) return false;
  if (illegal(l, e)) return true;
  return any_illegal(l, e->a[0]) || any_illegal(l, e->a[1]) || any_illegal(l, e->a[2]);
}

static Expr *rewrite(Build *b, Expr *e, void *user) {
  Legalise *l = user;
  if (!any_illegal(l, e)) return e;
  Expr *a[3];
  for (int i = 0; i < 3; i++) a[i] = e->a[i] ? rewrite(b, e->a[i], user) : NULL;
  if (!illegal(l, e)) return expr_with(b, e, a);
  if (e->op == X_FMA) {
    l->fused++;
    return x_add(b, x_mul(b, a[0], a[1]), a[2]);
  }
  if (e->op == X_POW) {
    l->powers++;
    return power(l, a[0], a[1]);
  }
  l->math++;
  return math_expand(b, e->op, a[0], l->fma);
}

static void legalise_block(Legalise *l, Block *block);

static void legalise_while(Legalise *l, Stmt *s) {
  Build *b = &l->b;
  if (any_illegal(l, s->e)) {
    Expr *again = s->e;
    Var *flag = s_reg(b, "again", rewrite(b, s->e, l));
    s->e = x_var(b, flag);
    Stmt *set = NEW(b->arena, Stmt);
    set->kind = S_SET;
    set->var = flag;
    set->e = again;
    if (s->body.last) s->body.last->next = set;
    else s->body.first = set;
    s->body.last = set;
  }
  legalise_block(l, &s->body);
}

static void legalise_block(Legalise *l, Block *block) {
  Build *b = &l->b;
  Block done = {NULL, NULL}, *outer = b->open[b->depth - 1];
  b->open[b->depth - 1] = &done;
  for (Stmt *s = block->first, *next; s; s = next) {
    next = s->next;
    if (s->kind == S_WHILE) {
      legalise_while(l, s);
    } else {
      stmt_map(b, s, rewrite, l);
      if (s->body.first) legalise_block(l, &s->body);
      if (s->other.first) legalise_block(l, &s->other);
    }
    stmt_append(b, s);
  }
  b->open[b->depth - 1] = outer;
  *block = done;
}

bool pass_legalise(Program *p, Ctx *c) {
  Legalise l = {.fma = p->target->fma};
  for (int i = 0; i < p->kernels.n; i++) {
    build_start(&l.b, p->arena, p->kernels.at[i]);
    legalise_block(&l, &p->kernels.at[i]->body);
  }
  if (l.math) pass_count(c, "legalise", "functions expanded", l.math);
  if (l.fused) pass_count(c, "legalise", "fma split", l.fused);
  if (l.powers) pass_count(c, "legalise", "powers reduced", l.powers);
  return l.math || l.fused || l.powers;
}
