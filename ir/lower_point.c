/* lower_point.c: loops over an index space: a parallel range outside, vectors inside.
 *
 *   PLAIN    outer dims (all but vdim, in order), then vdim in steps of `lanes`, the rest masked or one by one
 *   BLOCKED  images, channel blocks, spatial dims; innermost the block's lanes, the last block's count where channels are missing
 *
 * The range is the product of the leading loops until there are RANGE_WANT iterations, as long as each keeps WORK_MIN elements; a long
 * innermost loop is cut into chunks when the outer ones are too few. Coordinates of joined loops are recovered by division once per
 * iteration. For a single thread the range is just the first loop.
 */
#include "lower.h"

#define RANGE_WANT 64
#define WORK_MIN 1024
#define CHUNK 4096

typedef struct Nest {
  Lower *l;
  Build *b;
  const Shape *shape;
  NestFn fn;
  void *user;
  At at;
  int lanes, block;        /* block 0: PLAIN */
  int outer[MAX_RANK];     /* dims of the loops around the inner one, outermost first */
  int64_t extent[MAX_RANK];
  int nouter;
  int inner;               /* dim of the inner loop; -1: none */
  int64_t n;               /* its extent */
  int64_t work;            /* elements per unit of it */
  Expr *cb;                /* BLOCKED: channel block */
} Nest;

static void place(Nest *s) {
  At at = s->at;           /* fn may not change ours */
  s->fn(s->l, &at, s->user);
}

/* ---- inside: vectors ---- */

static void blocked_place(Nest *s) {
  Build *b = s->b;
  int64_t c = s->shape->d[1].n;
  bool ragged = c % s->block != 0;
  Expr *first = x_muli(b, s->cb, s->block), *left = x_sub(b, x_idx(b, c), first);
  s->at.vdim = 1;
  if (s->lanes > 1) {
    /* Vectors without any channel are left out: an operand with smaller blocks does not have them. */
    int64_t vectors = s->block / s->lanes;
    Expr *some = x_divi(b, x_addi(b, left, s->lanes - 1), s->lanes);
    Expr *j = ragged && vectors > 1 ? s_for(b, "j", x_idx(b, 0), x_bin(b, X_MIN, x_idx(b, vectors), some), 1) : s_for_n(b, "j", vectors);
    Expr *off = x_muli(b, j, s->lanes);
    s->at.c[1] = x_add(b, first, off);
    s->at.lanes = s->lanes;
    if (ragged) s->at.count = s_let(b, "count", x_bin(b, X_MIN, x_idx(b, s->lanes), x_sub(b, left, off)));
  } else {
    Expr *end = ragged ? x_bin(b, X_MIN, x_idx(b, s->block), left) : x_idx(b, s->block);
    s->at.c[1] = x_add(b, first, s_for(b, "j", x_idx(b, 0), end, 1));
  }
  place(s);
  s->at.lanes = 1;
  s->at.count = NULL;
  s_end(b);
}

static void plain_loop(Nest *s, Expr *from, Expr *to, int lanes) {
  Build *b = s->b;
  s->at.c[s->inner] = s_for(b, "i", from, to, lanes);
  s->at.lanes = lanes;
  place(s);
  s->at.lanes = 1;
  s_end(b);
}

static void plain_rest(Nest *s, int64_t from) {
  int64_t rest = s->n - from;
  if (rest == 0) return;
  if (!s->l->t->masks || rest * 4 < s->lanes) {
    plain_loop(s, x_idx(s->b, from), x_idx(s->b, s->n), 1);
    return;
  }
  s->at.c[s->inner] = x_idx(s->b, from);
  s->at.lanes = s->lanes;
  s->at.count = x_idx(s->b, rest);
  place(s);
  s->at.lanes = 1;
  s->at.count = NULL;
}

/* chunk: of the inner loop, or NULL for all of it; size: elements of inner per chunk. */
static void inner_loop(Nest *s, Expr *chunk, int64_t size) {
  Build *b = s->b;
  int64_t whole = s->lanes > 1 && !s->block ? s->n / s->lanes * s->lanes : s->n;
  Expr *from = x_idx(b, 0), *to = x_idx(b, whole);
  if (chunk) {
    from = s_let(b, "from", x_muli(b, chunk, size));
    to = x_addi(b, from, size);
    if (s->n % size) to = x_bin(b, X_MIN, to, x_idx(b, whole));
  }
  if (s->block) {
    s->at.c[s->inner] = s->n == 1 ? x_idx(b, 0) : s_for(b, "i", from, to, 1);
    blocked_place(s);
    if (s->n != 1) s_end(b);
    return;
  }
  if (s->n == 1) {
    s->at.c[s->inner] = x_idx(b, 0);
    place(s);
    return;
  }
  if (whole) plain_loop(s, from, to, s->lanes);
  if (whole == s->n) return;
  if (chunk) s_if(b, x_bin(b, X_EQ, chunk, x_idx(b, (s->n - 1) / size)));
  plain_rest(s, whole);
  if (chunk) s_end(b);
}

/* ---- outside: the range and the loops between ---- */

static void set_outer(Nest *s, int i, Expr *e) {
  int dim = s->outer[i];
  if (s->block && dim == 1) s->cb = e;
  else s->at.c[dim] = e;
}

static int64_t range_want(const Nest *s) { return s->l->p->max_threads > 1 ? RANGE_WANT : 1; }

/* Loops that join the range, given the elements of the whole space. */
static int joined(const Nest *s, int64_t total, int64_t *product) {
  int k = 0;
  int64_t p = 1, want = range_want(s);
  while (k < s->nouter && (p == 1 || (p < want && total / p >= WORK_MIN))) p *= s->extent[k++];
  *product = p;
  return k;
}

static void emit_nest(Nest *s, int64_t total) {
  Build *b = s->b;
  int64_t p, size = 0, chunks = 1;
  int k = joined(s, total, &p);
  if (k == s->nouter && p < range_want(s) && s->inner >= 0 && s->n * s->work >= 2 * CHUNK) {
    size = MAXI(CHUNK / s->work, 1);
    chunks = (s->n + size - 1) / size;
  }
  Expr *rest = lower_range(s->l, "r", p * chunks), *chunk = NULL;
  if (chunks > 1) {
    chunk = p == 1 ? rest : s_let(b, "chunk", x_remi(b, rest, chunks));
    rest = x_divi(b, rest, chunks);   /* not used if p is 1 */
  }
  for (int i = k - 1; i >= 0; i--) {
    set_outer(s, i, i ? s_let(b, "c", x_remi(b, rest, s->extent[i])) : s_let(b, "c", rest));
    if (i) rest = x_divi(b, rest, s->extent[i]);
  }
  for (int i = k; i < s->nouter; i++) set_outer(s, i, s_for_n(b, "c", s->extent[i]));
  if (s->inner >= 0) inner_loop(s, chunk, size);
  else if (s->block) blocked_place(s);
  else place(s);
  for (int i = k; i < s->nouter; i++) s_end(b);
}

void lower_nest(Lower *l, const Shape *shape, Layout layout, int vdim, int lanes, NestFn fn, void *user) {
  int64_t total = shape_count(shape);
  int rank = shape->rank;
  Nest s = {.l = l, .b = &l->b, .shape = shape, .fn = fn, .user = user, .at = {.rank = rank, .lanes = 1}, .lanes = lanes, .inner = -1,
            .n = 1, .work = 1};
  if (total == 0) return;
  if (layout.kind == LAYOUT_BLOCKED && rank >= 2) {
    s.block = layout.block;
    if (lanes > 1 && (vdim != 1 || s.block % lanes))
      ice(l->g, l->node, "lower_nest", "%d lanes along %d in blocks of %d", lanes, vdim, s.block);
    s.inner = rank > 2 ? rank - 1 : -1;
    s.work = s.block;
  } else if (rank > 0) {
    s.inner = s.at.vdim = vdim;
  }
  if (s.inner >= 0) s.n = shape->d[s.inner].n;
  for (int i = 0; i < rank; i++) {
    s.at.c[i] = x_idx(&l->b, 0);
    int64_t extent = s.block && i == 1 ? (shape->d[1].n + s.block - 1) / s.block : shape->d[i].n;
    if (s.block && i == 1) s.cb = x_idx(&l->b, 0);
    if (i == s.inner || extent == 1) continue;
    s.outer[s.nouter] = i;
    s.extent[s.nouter++] = extent;
  }
  emit_nest(&s, total);
}

/* ---- point functions ---- */

typedef struct Points { const Node *n; PointFn fn; const void *user; } Points;

static void one_point(Lower *l, const At *at, void *user) {
  const Points *p = user;
  lower_finish(l, p->n, p->fn(l, p->n, at, p->user), at);
}

int lower_lanes(const Lower *l, const Node *n) {
  if (!lower_vectors_ok(l, n)) return 1;
  Layout at, of;
  Shape y = lower_shape(l, n->out[0], &at);
  int lanes = l->t->lanes;
  bool blocked = at.kind == LAYOUT_BLOCKED;
  if (!blocked && (y.rank ? y.d[y.rank - 1].n : 1) * 2 < lanes) return 1;
  while (blocked && lanes > 1 && at.block % lanes) lanes /= 2;
  for (int i = 0; i < n->nin; i++) {
    if (!n->in[i]) continue;
    lower_shape(l, n->in[i], &of);
    if (of.kind != LAYOUT_BLOCKED) continue;
    if (!blocked && y.rank == 2) return 1;   /* lanes would run along the blocked dimension */
    while (blocked && lanes > 1 && of.block % lanes) lanes /= 2;
  }
  return lanes;
}

void lower_body_in_place(Lower *l, const Node *n, int own) {
  Value *y = n->out[0];
  for (int i = 0; i < n->nin; i++) {
    const Value *v = n->in[i];
    bool ok = v && !value_is_const(v) && dt_size(v->dt) == dt_size(y->dt) && v->layout.kind == y->layout.kind &&
              v->layout.block == y->layout.block &&
              (y->layout.kind == LAYOUT_PLAIN ? value_count(v) == value_count(y) : shape_equal(&v->shape, &y->shape));
    for (int c = 0; ok && c < n->ncore; c++) ok = c < own || n->in[c] != v;
    for (int s = 0; ok && s < n->nbody; s++)
      for (int j = 0; j < n->body[s].nargs; j++) {
        const BodyArg *a = &n->body[s].arg[j];
        if (a->kind == ARG_IN && a->up && n->in[a->i] == v) ok = false;
      }
    if (ok) lower_allow_in_place(l, v, y);
  }
}

void lower_points(Lower *l, const Node *n, const char *what, PointFn fn, const void *user, unsigned flags, double flops_per_element) {
  Value *y = n->out[0];
  if (value_count(y) == 0) return;
  Text dims = {.a = l->arena};
  for (int i = 0; i < y->shape.rank; i++) text_addf(&dims, "%s%lld", i ? "x" : " ", (long long)y->shape.d[i].n);
  lower_open(l, n, "%s%s", what, dims.s ? dims.s : "");
  Points p = {n, fn, user};
  int vdim = y->layout.kind == LAYOUT_BLOCKED ? 1 : MAXI(y->shape.rank - 1, 0);
  lower_nest(l, &y->shape, y->layout, vdim, flags & POINT_VECTOR ? lower_lanes(l, n) : 1, one_point, &p);
  lower_body_in_place(l, n, flags & POINT_IN_PLACE ? 1 : 0);
  lower_close(l, (flops_per_element + n->nbody) * (double)value_count(y));
}
