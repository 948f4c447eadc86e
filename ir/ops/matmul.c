/* ops/matmul.c: matrix products with batch broadcasting; either operand may be transposed.
 *
 * Two register tiles over k:
 *  - tile: a few rows by one or two vectors along n; elements of A are splat. A constant B is packed into panels
 *    [n / tile][k][tile], zero past n; one given at run time is read as it lies.
 *  - dot: where both operands lie along k (B transposed at run time, or a single column): vectors along k, summed across lanes at the end
 * Parallel over batches, panels and blocks of rows; a panel stays in cache while the rows of its batch pass.
 */
#include "ops.h"

#define MAX_ROWS 6
#define MAX_COLUMNS 4

bool infer_matmul(Graph *g, Node *n) {
  const MatMulAttr *t = n->attr;
  const Shape *a = &n->in[0]->shape, *b = &n->in[1]->shape;
  DType dt;
  if (!op_check_rank(g, n, n->in[0], "operand 0", 2, MAX_RANK) || !op_check_rank(g, n, n->in[1], "operand 1", 2, MAX_RANK) ||
      !op_check_product(g, n, 2, &dt))
    return false;
  Dim m = a->d[a->rank - (t->trans_a ? 1 : 2)], ka = a->d[a->rank - (t->trans_a ? 2 : 1)];
  Dim kb = b->d[b->rank - (t->trans_b ? 1 : 2)], nn = b->d[b->rank - (t->trans_b ? 2 : 1)];
  if (ka.n != kb.n)
    REFUSE(g, n, NULL, "the inner dimensions %lld and %lld of %s%s and %s%s differ", (long long)ka.n, (long long)kb.n,
           shape_text(g->arena, a),
           t->trans_a ? " (transposed)" : "", shape_text(g->arena, b), t->trans_b ? " (transposed)" : "");
  Shape ba = *a, bb = *b, s;
  ba.rank -= 2;
  bb.rank -= 2;
  if (!shape_broadcast(&ba, &bb, &s))
    REFUSE(g, n, NULL, "the batch dimensions of %s and %s do not broadcast", shape_text(g->arena, a), shape_text(g->arena, b));
  s.d[s.rank++] = m;
  s.d[s.rank++] = nn;
  return op_set_out(g, n, 0, dt, &s);
}

/* ---- lowering ---- */

typedef struct Product {
  const Node *node;
  const Value *a, *b;
  DType acc, out;
  int64_t m, n, k;
  int64_t am, ak, bk, bn;   /* strides in elements */
  int rank, lanes, rows, columns;   /* columns: vectors, or single ones of a dot tile */
  bool dot;
  int weight;               /* buffer of packed B, -1: as it is */
} Product;

/* The place of an operand's matrix for the batch at `at`; broadcast dimensions stay 0. */
static At matrix_of(Build *b, const Product *p, const Value *v, const At *at) {
  At m = at_zero(b, v->shape.rank);
  for (int d = 0; d < v->shape.rank - 2; d++)
    if (v->shape.d[d].n != 1) m.c[d] = at->c[d + p->rank - v->shape.rank];
  return m;
}

typedef struct Tile { At at; Expr *m, *n, *panel; int rows, columns; int64_t last; /* lanes of the last column */ } Tile;

static Expr *packed_base(Lower *l, const Product *p, const Tile *t) {
  Build *b = &l->b;
  int64_t wide = (int64_t)p->columns * p->lanes, panels = (p->n + wide - 1) / wide;
  At m = matrix_of(b, p, p->b, &t->at);
  Expr *batch = x_idx(b, 0);
  for (int d = 0; d < m.rank - 2; d++) batch = x_add(b, x_muli(b, batch, p->b->shape.d[d].n), m.c[d]);
  return x_muli(b, x_add(b, x_muli(b, batch, panels), t->panel), p->k * wide);
}

static void emit_tile(Lower *l, const Product *p, const Tile *t) {
  Build *b = &l->b;
  Var *pa = lower_in(l, p->a), *pb = p->weight < 0 ? lower_in(l, p->b) : lower_weight(l, "w", p->weight, p->b->dt);
  At ma = matrix_of(b, p, p->a, &t->at), mb = matrix_of(b, p, p->b, &t->at);
  Expr *ia = s_let(b, "ia", x_add(b, lower_index(l, p->a, &ma, NULL), x_muli(b, t->m, p->am)));
  Expr *ib = p->weight >= 0 ? packed_base(l, p, t) : x_add(b, lower_index(l, p->b, &mb, NULL), x_muli(b, t->n, p->bn));
  ib = s_let(b, "ib", ib);
  Var *acc[MAX_ROWS][MAX_COLUMNS];
  Expr *bv[MAX_COLUMNS];
  for (int i = 0; i < t->rows; i++)
    for (int j = 0; j < t->columns; j++) acc[i][j] = s_reg(b, "acc", x_num(b, type_of(p->acc, p->lanes), 0));
  Expr *k = s_for(b, "k", x_idx(b, 0), x_idx(b, p->k), 1);
  Expr *kb = x_add(b, ib, x_muli(b, k, p->weight < 0 ? p->bk : (int64_t)p->columns * p->lanes));
  for (int j = 0; j < t->columns; j++) {
    bool part = p->weight < 0 && j == t->columns - 1 && t->last < p->lanes;
    Expr *i = x_addi(b, kb, (int64_t)j * p->lanes * (p->weight < 0 ? p->bn : 1));
    bv[j] = s_let(b, "bv", x_load_as(b, p->acc, pb, i, p->lanes, part ? x_idx(b, t->last) : NULL, p->weight < 0 ? p->bn : 1));
  }
  for (int i = 0; i < t->rows; i++) {
    Expr *av = s_let(b, "av", x_load_as(b, p->acc, pa, x_add(b, x_addi(b, ia, i * p->am), x_muli(b, k, p->ak)), 1, NULL, 1));
    for (int j = 0; j < t->columns; j++) s_set(b, acc[i][j], x_fma(b, av, bv[j], x_var(b, acc[i][j])));
  }
  s_end(b);
  for (int i = 0; i < t->rows; i++)
    for (int j = 0; j < t->columns; j++) {
      At at = t->at;
      at.c[p->rank - 2] = x_addi(b, t->m, i);
      at.c[p->rank - 1] = x_addi(b, t->n, (int64_t)j * p->lanes);
      at.lanes = p->lanes;
      at.vdim = p->rank - 1;
      at.count = j == t->columns - 1 && t->last < p->lanes ? x_idx(b, t->last) : NULL;
      lower_finish(l, p->node, x_cast(b, p->out, x_var(b, acc[i][j])), &at);
    }
}

/* One step of a dot tile: lanes k.. of every row and column. */
static void dot_step(Build *b, const Product *p, const Tile *t, Var *pa, Var *pb, Expr *ia, Expr *ib, Expr *k, Expr *count,
                     Var *acc[MAX_ROWS][MAX_COLUMNS]) {
  Expr *bv[MAX_COLUMNS];
  for (int j = 0; j < t->columns; j++)
    bv[j] = s_let(b, "bv", x_load_as(b, p->acc, pb, x_add(b, x_addi(b, ib, j * p->bn), k), p->lanes, count, 1));
  for (int i = 0; i < t->rows; i++) {
    Expr *av = s_let(b, "av", x_load_as(b, p->acc, pa, x_add(b, x_addi(b, ia, i * p->am), k), p->lanes, count, 1));
    for (int j = 0; j < t->columns; j++) s_set(b, acc[i][j], x_fma(b, av, bv[j], x_var(b, acc[i][j])));
  }
}

static void emit_dot(Lower *l, const Product *p, const Tile *t) {
  Build *b = &l->b;
  Var *pa = lower_in(l, p->a), *pb = lower_in(l, p->b);
  At ma = matrix_of(b, p, p->a, &t->at), mb = matrix_of(b, p, p->b, &t->at);
  Expr *ia = s_let(b, "ia", x_add(b, lower_index(l, p->a, &ma, NULL), x_muli(b, t->m, p->am)));
  Expr *ib = s_let(b, "ib", x_add(b, lower_index(l, p->b, &mb, NULL), x_muli(b, t->n, p->bn)));
  Var *acc[MAX_ROWS][MAX_COLUMNS];
  for (int i = 0; i < t->rows; i++)
    for (int j = 0; j < t->columns; j++) acc[i][j] = s_reg(b, "acc", x_num(b, type_of(p->acc, p->lanes), 0));
  int64_t whole = p->k / p->lanes * p->lanes;
  if (whole > 0) {
    Expr *k = s_for(b, "k", x_idx(b, 0), x_idx(b, whole), p->lanes);
    dot_step(b, p, t, pa, pb, ia, ib, k, NULL, acc);
    s_end(b);
  }
  if (whole < p->k) dot_step(b, p, t, pa, pb, ia, ib, x_idx(b, whole), x_idx(b, p->k - whole), acc);
  for (int i = 0; i < t->rows; i++)
    for (int j = 0; j < t->columns; j++) {
      At at = t->at;
      at.c[p->rank - 2] = x_addi(b, t->m, i);
      at.c[p->rank - 1] = x_addi(b, t->n, j);
      lower_finish(l, p->node, x_cast(b, p->out, x_reduce(b, X_REDUCE_ADD, x_var(b, acc[i][j]))), &at);
    }
}

static void emit_any(Lower *l, const Product *p, const Tile *t) {
  if (p->dot) emit_dot(l, p, t);
  else emit_tile(l, p, t);
}

/* Full rows, or what is left of them in the last block. */
static void emit_rows(Lower *l, const Product *p, Tile *t, Expr *block) {
  int64_t full = p->m / p->rows, rest = p->m % p->rows;
  t->rows = p->rows;
  if (rest) s_if(&l->b, x_bin(&l->b, X_LT, block, x_idx(&l->b, full)));
  emit_any(l, p, t);
  if (!rest) return;
  s_else(&l->b);
  t->rows = (int)rest;
  emit_any(l, p, t);
  s_end(&l->b);
}

static void pack_b(Lower *l, Product *p) {
  int64_t wide = (int64_t)p->columns * p->lanes, panels = (p->n + wide - 1) / wide;
  Pack k = {.src = p->b->data, .dt = p->b->dt, .ndims = 4, .limit = {p->n},
            .dim = {{shape_count_to(&p->b->shape, p->b->shape.rank - 2), p->k * p->n, -1, 0}, {panels, wide * p->bn, 0, wide},
                    {p->k, p->bk, -1, 0}, {wide, p->bn, 0, 1}}};
  p->weight = program_add_pack(l->p, p->b->name, &k, arena_printf(l->arena, "matmul [%lld][%lld][%lld]", (long long)panels, (long long)p->k,
                                                                  (long long)wide));
}

/* Tile shape and form, from extents and strides. */
static void plan(const Lower *l, Product *p, bool trans_a, bool trans_b) {
  int v = op_lanes(l, p->node, p->a->dt);
  if (p->b->dt != p->a->dt) v = 1;
  bool is_const = value_is_const(p->b);
  p->dot = v > 1 && p->k >= v && !trans_a && (p->n == 1 || (trans_b && (!is_const || 2 * p->n < v)));
  p->lanes = p->dot || (2 * p->n >= v && p->n > 1) ? v : 1;
  if (p->dot) {
    if (p->n == 1) p->bn = p->k, p->bk = 1;
    p->rows = (int)MINI(p->m, 4);
    p->columns = (int)MINI(p->n, l->t->vregs >= 32 ? 4 : 2);
  } else {
    p->rows = (int)MINI(p->m, p->lanes > 1 && l->t->vregs >= 16 ? MAX_ROWS : 4);
    p->columns = p->lanes > 1 ? (p->n > p->lanes ? 2 : 1) : (int)MINI(p->n, 4);
  }
}

void lower_matmul(Lower *l, const Node *n) {
  const MatMulAttr *t = n->attr;
  const Value *y = n->out[0];
  if (value_count(y) == 0) return;
  Product p = {.node = n, .a = n->in[0], .b = n->in[1], .rank = y->shape.rank, .weight = -1};
  p.acc = acc_type(p.a->dt);
  p.out = product_type(p.a->dt);
  p.m = y->shape.d[p.rank - 2].n;
  p.n = y->shape.d[p.rank - 1].n;
  p.k = p.a->shape.d[p.a->shape.rank - (t->trans_a ? 2 : 1)].n;
  p.am = t->trans_a ? 1 : p.k;
  p.ak = t->trans_a ? p.m : 1;
  p.bk = t->trans_b ? 1 : p.n;
  p.bn = t->trans_b ? p.k : 1;
  plan(l, &p, t->trans_a, t->trans_b);
  Build *b = lower_open(l, n, "matmul %s %lldx%lldx%lld", p.dot ? "dot" : "tile", (long long)p.m, (long long)p.n, (long long)p.k);
  if (!p.dot && value_is_const(p.b) && p.k > 0) pack_b(l, &p);
  int per = p.dot ? 1 : p.lanes;
  int64_t wide = (int64_t)p.columns * per, panels = (p.n + wide - 1) / wide, blocks = (p.m + p.rows - 1) / p.rows;
  int64_t extent[MAX_RANK + 2], total = panels * blocks;
  for (int d = 0; d < p.rank - 2; d++) total *= extent[d] = y->shape.d[d].n;
  extent[p.rank - 2] = panels;
  extent[p.rank - 1] = blocks;
  Expr *range = lower_range(l, "r", total), *c[MAX_RANK];
  unflatten(b, range, extent, p.rank, c);
  Tile tile = {.at = at_zero(b, p.rank), .panel = c[p.rank - 2], .columns = p.columns, .last = per};
  for (int d = 0; d < p.rank - 2; d++) tile.at.c[d] = c[d];
  tile.m = x_muli(b, c[p.rank - 1], p.rows);
  tile.n = x_muli(b, tile.panel, wide);
  int64_t full = p.n / wide, rest = p.n % wide;
  if (rest && full) s_if(b, x_bin(b, X_LT, tile.panel, x_idx(b, full)));
  if (full) emit_rows(l, &p, &tile, c[p.rank - 1]);
  if (rest && full) s_else(b);
  if (rest) {
    tile.columns = (int)((rest + per - 1) / per);
    tile.last = rest - (int64_t)(tile.columns - 1) * per;
    emit_rows(l, &p, &tile, c[p.rank - 1]);
  }
  if (rest && full) s_end(b);
  lower_body_in_place(l, n, 0);
  lower_close(l, 2.0 * (double)value_count(y) * (double)p.k);
}
