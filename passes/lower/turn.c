/* turn.c: from vectors of channels to rows of pixels.
 *
 * Storing a vector of channels to NCHW takes an access per lane, a plane apart. Instead lanes x lanes elements are transposed in registers:
 * 32-bit, then 64-bit neighbours are interleaved within quarters of four lanes, then whole quarters are dealt out, log2(lanes) steps of
 * two-operand shuffles that every vector unit has. Rows shorter than a vector end in one masked store a channel.
 */
#include "turn.h"

static bool blocked_operand(const Node *n) {
  for (int i = n->ncore; i < n->nin; i++)
    if (n->in[i] && n->in[i]->layout.kind == LAYOUT_BLOCKED && value_count(n->in[i]) > 1) return true;
  return false;
}

static bool pixel_operand(const Node *n) {
  for (int i = n->ncore; i < n->nin; i++) {
    const Shape *s = &n->in[i]->shape;
    if (s->rank && s->d[s->rank - 1].n > 1) return true;
  }
  return false;
}

bool turn_pays(const Lower *l, const Node *n) {
  const Value *y = n->out[0];
  int lanes = l->t->lanes;
  if (lanes != 4 && lanes != 8 && lanes != 16) return false;
  return y->dt == DT_F32 && y->layout.kind == LAYOUT_PLAIN && y->shape.rank == 4 && y->shape.d[1].n > 1 && y->shape.d[3].n > 1;
}

Turn turn_open(Lower *l, const Node *n, int64_t slots) {
  return (Turn){l, n, lower_scratch(l, "turn", DT_F32, (slots + l->t->lanes) * l->t->lanes * 4), blocked_operand(n) || !pixel_operand(n)};
}

void turn_put(const Turn *t, Expr *slot, Expr *sum, const At *at) {
  Build *b = &t->l->b;
  s_store(b, t->t, x_muli(b, slot, t->l->t->lanes), t->body_first ? lower_body(t->l, t->n, sum, at) : sum);
}

/* Lanes of a and c by turns: `unit` lanes from each, of the lower (half 0) or upper half of every quarter. */
static Expr *interleave(Build *b, Expr *a, Expr *c, int unit, int half) {
  uint8_t pick[MAX_LANES];
  int n = a->type.lanes;
  for (int i = 0; i < n; i++) {
    int in = i % 4;
    pick[i] = (uint8_t)(i / 4 * 4 + 2 * half + (unit == 1 ? in / 2 + (in % 2) * n : in % 2 + (in / 2) * n));
  }
  return s_let(b, "u", x_shuffle(b, a, c, pick, n));
}

/* Every other quarter of a, then of c, from the first or the second on. */
static Expr *deal(Build *b, Expr *a, Expr *c, int odd) {
  uint8_t pick[MAX_LANES];
  int n = a->type.lanes;
  for (int i = 0; i < n; i++) {
    int quarter = i / 4 * 2 + odd;
    pick[i] = (uint8_t)((quarter >= n / 4 ? n + (quarter - n / 4) * 4 : quarter * 4) + i % 4);
  }
  return s_let(b, "u", x_shuffle(b, a, c, pick, n));
}

/* v[0..lanes) as rows become columns. */
static void transpose(Build *b, Expr **v, int n) {
  Expr *u[MAX_LANES];
  for (int i = 0; i < n; i += 2) {
    u[i] = interleave(b, v[i], v[i + 1], 1, 0);
    u[i + 1] = interleave(b, v[i], v[i + 1], 1, 1);
  }
  for (int i = 0; i < n; i += 4)
    for (int k = 0; k < 4; k++) v[i + k] = interleave(b, u[i + k / 2], u[i + k / 2 + 2], 2, k % 2);
  for (int k = 0; k < 4 && n == 8; k++) {
    u[k] = deal(b, v[k], v[4 + k], 0);
    u[4 + k] = deal(b, v[k], v[4 + k], 1);
  }
  for (int k = 0; k < 4 && n == 16; k++)
    for (int odd = 0; odd < 2; odd++) {
      Expr *front = deal(b, v[k], v[4 + k], odd), *back = deal(b, v[8 + k], v[12 + k], odd);
      u[odd * 4 + k] = deal(b, front, back, 0);
      u[8 + odd * 4 + k] = deal(b, front, back, 1);
    }
  for (int i = 0; i < n && n > 4; i++) v[i] = u[i];
}

static void store_rows(const Turn *t, Expr **v, int from, int to, const At *at) {
  Build *b = &t->l->b;
  for (int r = from; r < to; r++) {
    At row = *at;
    row.c[1] = x_addi(b, at->c[1], r);
    lower_store(t->l, t->n->out[0], &row, t->body_first ? v[r] : lower_body(t->l, t->n, v[r], &row));
  }
}

/* Up to `lanes` pixels; count NULL: all of them. */
static void turn_block(const Turn *t, Expr *slot, Expr *count, At at) {
  Build *b = &t->l->b;
  int lanes = t->l->t->lanes;
  int64_t channels = t->n->out[0]->shape.d[1].n, k;
  Expr *v[MAX_LANES];
  Expr *from = s_let(b, "ts", x_muli(b, slot, lanes));
  for (int i = 0; i < lanes; i++) v[i] = s_let(b, "r", x_load(b, t->t, x_addi(b, from, (int64_t)i * lanes), lanes));
  transpose(b, v, lanes);
  at.lanes = lanes;
  at.vdim = 3;
  at.count = count;
  bool known = x_is_int(at.c[1], &k);
  int rest = (int)(channels % lanes), sure = rest == 0 || (known && k + lanes <= channels) ? lanes : rest;
  store_rows(t, v, 0, sure, &at);
  if (sure == lanes || known) return;
  s_if(b, x_bin(b, X_LE, x_addi(b, at.c[1], lanes), x_idx(b, channels)));
  store_rows(t, v, sure, lanes, &at);
  s_end(b);
}

void turn_row(const Turn *t, Expr *slot, Expr *count, const At *at) {
  Build *b = &t->l->b;
  int lanes = t->l->t->lanes;
  int64_t n;
  bool known = x_is_int(count, &n);
  Expr *full = known ? x_idx(b, n / lanes * lanes) : s_let(b, "full", x_muli(b, x_divi(b, count, lanes), lanes));
  At place = *at;
  if (!known || n >= lanes) {
    Expr *x = s_for(b, "tx", x_idx(b, 0), full, lanes);
    place.c[3] = x_add(b, at->c[3], x);
    turn_block(t, x_add(b, slot, x), NULL, place);
    s_end(b);
  }
  if (known && n % lanes == 0) return;
  if (!known) s_if(b, x_bin(b, X_LT, full, count));
  place.c[3] = x_add(b, at->c[3], full);
  turn_block(t, x_add(b, slot, full), known ? x_idx(b, n % lanes) : s_let(b, "left", x_sub(b, count, full)), place);
  if (!known) s_end(b);
}
