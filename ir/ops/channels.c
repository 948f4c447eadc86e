/* ops/channels.c: moving whole channels where BLOCKED values are concerned: Concat, Slice and Gather along dimension 1.
 *
 * Each vector of the result takes its lanes from a few vectors of the operands, known when compiling: it is put together with one shuffle
 * of two vectors per further source. Neighbouring vectors whose sources and lanes move along alike (all of a Concat that starts between
 * blocks, copies of whole blocks) share one loop.
 */
#include "ops.h"

#include <string.h>

#define SOURCES_MAX MAX_LANES

/* Where a vector of the result comes from: lane i from lane lane[i] of the vector of channels first[source[i]].. of operand[source[i]]. */
typedef struct Pick {
  int n;                        /* sources */
  int operand[SOURCES_MAX];
  int64_t first[SOURCES_MAX];
  uint8_t source[MAX_LANES], lane[MAX_LANES];
} Pick;

static bool is_image(const Value *v) { return v->shape.rank >= 3 && shape_is_static(&v->shape) && value_count(v) > 0; }

static bool slices_channels(const Node *n) {
  const SliceAttr *s = n->attr;
  const Shape *x = &n->in[0]->shape, *y = &n->out[0]->shape;
  for (int i = 0; i < x->rank; i++)
    if (i != 1 && (s->starts.v[i] != 0 || s->steps.v[i] != 1 || x->d[i].n != y->d[i].n)) return false;
  return true;
}

bool node_moves_channels(const Node *n) {
  int axis;
  if (!n->nout || !is_image(n->out[0])) return false;
  if (n->op == OP_Slice) return slices_channels(n);
  if (n->op != OP_Concat && n->op != OP_Gather) return false;
  int64_t given = n->op == OP_Concat ? ((const AxisAttr *)n->attr)->axis : ((const GatherAttr *)n->attr)->axis;
  if (!axis_normalise(given, n->in[0]->shape.rank, &axis) || axis != 1) return false;
  return n->op == OP_Concat || (n->in[1]->shape.rank == 1 && value_is_const(n->in[1]));
}

/* The operand and channel that channel c of the result is. */
static int64_t channel_source(const Node *n, int64_t c, int *operand) {
  *operand = 0;
  if (n->op == OP_Slice) return ((const SliceAttr *)n->attr)->starts.v[1] + c * ((const SliceAttr *)n->attr)->steps.v[1];
  if (n->op == OP_Gather) {
    int64_t i = data_get_i(n->in[1]->data, n->in[1]->dt, c), extent = n->in[0]->shape.d[1].n;
    return MAXI(0, MINI(i < 0 ? i + extent : i, extent - 1));
  }
  while (c >= n->in[*operand]->shape.d[1].n) c -= n->in[(*operand)++]->shape.d[1].n;
  return c;
}

/* The vector of channels c .. c+lanes-1 of the result. Lanes past the last channel are whatever the shuffles leave there. */
static void make_pick(const Node *n, int64_t c, int lanes, Pick *p) {
  p->n = 0;
  for (int i = 0; i < lanes; i++) {
    int operand, s = 0;
    if (c + i >= n->out[0]->shape.d[1].n) {
      p->source[i] = 0;
      p->lane[i] = (uint8_t)i;
      continue;
    }
    int64_t from = channel_source(n, c + i, &operand);
    while (s < p->n && !(p->operand[s] == operand && p->first[s] == from / lanes * lanes)) s++;
    if (s == p->n) {
      p->operand[s] = operand;
      p->first[p->n++] = from / lanes * lanes;
    }
    p->source[i] = (uint8_t)s;
    p->lane[i] = (uint8_t)(from % lanes);
  }
}

/* q is p, `ahead` vectors further in all operands. */
static bool follows_pick(const Pick *p, const Pick *q, int64_t ahead, int lanes) {
  if (p->n != q->n || memcmp(p->source, q->source, (size_t)lanes) || memcmp(p->lane, q->lane, (size_t)lanes)) return false;
  for (int s = 0; s < p->n; s++)
    if (p->operand[s] != q->operand[s] || p->first[s] + ahead * lanes != q->first[s]) return false;
  return true;
}

/* Each further source is merged in by one shuffle: `set` lanes are in place, the others' turn comes. */
static Expr *assemble(Build *b, const Pick *p, Expr *const *v, int lanes) {
  uint8_t table[MAX_LANES];
  bool plain = p->n == 1;
  for (int i = 0; i < lanes && plain; i++) plain = p->lane[i] == i;
  if (plain) return v[0];
  Expr *e = v[0];
  for (int s = p->n > 1; s < p->n; s++) {
    for (int i = 0; i < lanes; i++) {
      int first = s == 1 && p->source[i] == 0 ? p->lane[i] : i;   /* source 0 is as loaded still */
      table[i] = (uint8_t)(p->source[i] == s && s > 0 ? lanes + p->lane[i] : s == 0 ? p->lane[i] : first);
    }
    e = s_let(b, "v", x_shuffle(b, e, s ? v[s] : e, table, lanes));
  }
  return e;
}

/* `count` vectors of the result from channel c on, for pixels from .. to-1. */
static void emit_run(Lower *l, const Node *n, const Pick *p, int64_t c, int64_t count, const At *base, Expr *from, Expr *to) {
  Build *b = &l->b;
  Expr *v[SOURCES_MAX] = {NULL}, *i = s_for_n(b, "cv", count);
  At at = *base;
  int last = at.rank - 1;
  at.c[1] = x_addi(b, x_muli(b, i, at.lanes), c);
  at.c[last] = s_for(b, "p", from, to, 1);
  for (int s = 0; s < p->n; s++) {
    At a = at;
    a.count = NULL;
    a.c[1] = x_addi(b, x_muli(b, i, at.lanes), p->first[s]);
    v[s] = s_let(b, "s", lower_load(l, n->in[p->operand[s]], &a));
  }
  lower_finish(l, n, assemble(b, p, v, at.lanes), &at);
  s_end(b);
  s_end(b);
}

/* Images as one row of pixels, where no operand of the body needs to tell rows. */
static void join_pixels(Lower *l, const Node *n, int64_t pixels) {
  for (int i = 0; i <= n->ncore; i++) {
    const Value *v = i == n->ncore ? n->out[0] : n->in[i];
    if (value_is_const(v)) continue;
    Shape s = shape_of(3, (int64_t[]){v->shape.d[0].n, v->shape.d[1].n, pixels});
    lower_see_as(l, v, &s, v->layout);
  }
}

/* Indices are not read while running: what type they have does not matter. */
static int move_lanes(Lower *l, const Node *n) {
  Node moved = *n;
  if (n->op == OP_Gather) {
    moved.in = NEW_N(l->arena, Value *, n->nin);
    for (int i = 0; i < n->nin; i++) moved.in[i] = n->in[i == 1 ? 0 : i];
  }
  return op_lanes(l, &moved, n->out[0]->dt);
}

void lower_channels(Lower *l, const Node *n) {
  const Value *y = n->out[0];
  int lanes = move_lanes(l, n), rank = n->nbody ? y->shape.rank : 3;
  int64_t channels = y->shape.d[1].n, space = shape_count_from(&y->shape, 2), outer = y->shape.d[0].n;
  Build *b = lower_open(l, n, "%s, %lld channels of %lld", op_info(n->op)->name, (long long)channels, (long long)space);
  if (!n->nbody) join_pixels(l, n, space);
  int64_t row = lower_shape(l, y, NULL).d[rank - 1].n;   /* pixels in a row */
  int64_t parts = l->p->max_threads > 1 ? MAXI(1, MINI(row / 64, 4 * l->p->max_threads / outer)) : 1, chunk = (row + parts - 1) / parts;
  int64_t extent[MAX_RANK] = {outer, 1}, total = outer;
  for (int d = 2; d < rank - 1; d++) total *= extent[d] = y->shape.d[d].n;
  total *= extent[rank - 1] = (row + chunk - 1) / chunk;
  At at = {.rank = rank, .lanes = lanes, .vdim = 1};
  unflatten(b, lower_range(l, "r", total), extent, rank, at.c);
  Expr *from = s_let(b, "from", x_muli(b, at.c[rank - 1], chunk));
  Expr *to = chunk == row ? x_idx(b, row) : s_let(b, "to", x_bin(b, X_MIN, x_addi(b, from, chunk), x_idx(b, row)));
  Pick p, q;
  for (int64_t c = 0, count; c < channels; c += count * lanes) {
    make_pick(n, c, lanes, &p);
    if (c + lanes > channels) at.count = x_idx(b, channels - c);
    for (count = 1; c + (count + 1) * lanes <= channels; count++) {
      make_pick(n, c + count * lanes, lanes, &q);
      if (!follows_pick(&p, &q, count, lanes)) break;
    }
    emit_run(l, n, &p, c, count, &at, from, to);
  }
  lower_close(l, (double)n->nbody * (double)value_count(y));
}
