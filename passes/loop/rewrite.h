/* passes/loop/rewrite.h: what the loop passes share. */
#ifndef REWRITE_H
#define REWRITE_H

#include "../passes.h"
#include "../../ir/loop_eval.h"

/* ---- math.c ---- */

/* Is there an expansion of op on this type into arithmetic? */
bool math_expands(XOp op, Type t);
/* The expansion for x; intermediate results become lets in the open block. fma: whether to use FMA. */
Expr *math_expand(Build *b, XOp op, Expr *x, bool fma);

/* ---- rewrite.c ---- */

/* e with the operands `a` (as many as it has, NULL where it has none); e itself when they are its own. Nothing is folded. */
Expr *expr_with(Build *b, Expr *e, Expr *const a[3]);
/* The same, built by the folding builder. */
Expr *expr_fold(Build *b, Expr *e, Expr *const a[3]);
bool expr_equal(const Expr *x, const Expr *y);
/* Moves a statement to the end of the open block. */
void stmt_append(Build *b, Stmt *s);
/* Visits every expression of a statement itself (not of its blocks): replaces each by fn's result. */
void stmt_map(Build *b, Stmt *s, Expr *(*fn)(Build *b, Expr *e, void *user), void *user);

#endif
