/* conv_stream.c: a convolution and the pool or depthwise convolution that alone reads its result, in one kernel: rows go from one to the
 * other through a ring in scratch that stays in cache, and the image between them never exists.
 *
 * A range iteration makes a chunk of the reader's rows of one image, a few at a time: the convolution's rows that these need and that are
 * not there from the step before, panel by panel, each panel followed by the reader's rows of its channels. A panel's new rows are in the
 * nearest cache then, those before in the second. Only the first rows of a chunk are computed twice, for this chunk and the last one; a
 * single thread has a single chunk.
 *
 * A reader that makes a mean of whole planes as well (squeeze and excite) gets whole images; threads then share out the panels.
 */
#include "../passes.h"
#include "conv_direct.h"
#include "schedules.h"

#define STEP_MOST 8      /* reader's rows in one step: more save little */
#define AGAIN_MOST 0.03  /* of the convolution's rows that are better computed twice than shared out coarsely; twice as many at worst */

typedef struct Stream {
  DirectEmit e;
  DirectStream to;
  RowReader reader;
  int64_t step, chunk, chunks;   /* rows of the reader: in a step, in a chunk; chunks of an image */
} Stream;

/* Rows of the convolution that `rows` rows of the reader need. */
static int64_t needed(const Stream *s, int64_t rows) { return MINI((rows - 1) * s->reader.stride + s->reader.reach, s->e.p.s.oh); }

/* Bytes that a step of `rows` rows works on: copied input, and the ring. */
static int64_t step_bytes(Stream *s, const Node *n, int64_t rows) {
  DirectPlan *p = &s->e.p;
  int64_t source = 0;
  direct_set_source(p, needed(s, rows));
  if (p->copy) source = p->blocks * p->src_rows * p->src_cols * p->s.block * 4;
  return source + rows_ring_bytes(n->out[0], needed(s, rows), s->e.l->t->lanes);
}

/* As many rows a step as fit into half of the second-level cache; one if they fit at all. */
static bool plan_step(Stream *s, const Node *n) {
  const Target *t = s->e.l->t;
  int64_t l2 = t->l2 ? t->l2 : 256 << 10, most = MINI(l2 / 2, lower_scratch_limit(s->e.l));
  for (s->step = MINI(STEP_MOST, s->reader.rows); s->step > 1 && step_bytes(s, n, s->step) > most; s->step--) {}
  return step_bytes(s, n, s->step) <= l2;
}

/* Threads can share out panels evenly enough. */
static bool panels_divide(int64_t panels, int threads) { return panels % threads == 0 || panels >= 4 * threads; }

/* Threads share out panels where a chunk is a whole image; else chunks, of which every one but the first computes some rows of the one before
 * again. False where these would be too many. */
static bool plan_range(Stream *s) {
  DirectPlan *p = &s->e.p;
  const RowReader *r = &s->reader;
  int threads = s->e.l->p->max_threads;
  int64_t pieces = threads > 1 ? div_up(4 * threads, p->s.n) : 1, panels = p->panels + (p->rest != 0), again = MAXI(0, r->reach - r->stride);
  s->chunks = 1;
  s->chunk = r->rows;
  if (r->whole) {
    p->panels_per_group = div_up(panels, MINI(panels, pieces));
    p->groups = div_up(panels, p->panels_per_group);
    return true;
  }
  while (pieces > threads && (double)(again * pieces) > AGAIN_MOST * (double)p->s.oh) pieces--;
  s->chunk = div_up(div_up(r->rows, pieces), s->step) * s->step;
  s->chunks = div_up(r->rows, s->chunk);
  return s->chunks == 1 || (double)(again * s->chunks) <= 2 * AGAIN_MOST * (double)p->s.oh;
}

/* Row i of the convolution, or the first or last one. */
static Expr *existing(Stream *s, Expr *i) {
  Build *b = s->e.b;
  return x_bin(b, X_MAX, x_idx(b, 0), x_bin(b, X_MIN, i, x_idx(b, s->e.p.s.oh)));
}

/* Rows needed up to, but not including, row y of the reader. */
static Expr *needed_before(Stream *s, Expr *y) {
  const RowReader *r = &s->reader;
  return existing(s, x_addi(s->e.b, x_muli(s->e.b, x_addi(s->e.b, y, -1), r->stride), r->reach - r->pad));
}

static void emit_chunk(Stream *s, Expr *range) {
  DirectEmit *e = &s->e;
  Build *b = e->b;
  DirectPlan *p = &e->p;
  int64_t pieces = p->s.n * s->chunks, image = p->blocks * p->src_rows * p->src_cols * p->s.block;
  Expr *group = p->groups == 1 ? x_idx(b, 0) : s_let(b, "kg", x_divi(b, range, pieces));
  Expr *rest = p->groups == 1 ? range : s_let(b, "rs", x_remi(b, range, pieces));
  e->img = p->s.n == 1 ? x_idx(b, 0) : s_let(b, "img", x_divi(b, rest, s->chunks));
  Expr *first = s->chunks == 1 ? x_idx(b, 0) : s_let(b, "first", x_muli(b, p->s.n == 1 ? rest : x_remi(b, rest, s->chunks), s->chunk));
  Expr *end = s->chunks == 1 ? x_idx(b, s->reader.rows) : x_bin(b, X_MIN, x_addi(b, first, s->chunk), x_idx(b, s->reader.rows));
  Expr *y = s->to.first = s_for(b, "step", first, end, s->step);
  s->to.end = s->reader.rows % s->step ? s_let(b, "end", x_bin(b, X_MIN, x_addi(b, y, s->step), end)) : x_addi(b, y, s->step);
  Expr *from = existing(s, x_addi(b, x_muli(b, y, s->reader.stride), -s->reader.pad));
  s->to.from = s_let(b, "from", x_select(b, x_bin(b, X_EQ, y, first), from, x_bin(b, X_MAX, from, needed_before(s, y))));
  s->to.to = s_let(b, "to", needed_before(s, s->to.end));
  e->y0 = s->to.from;
  e->src_origin = p->copy ? x_idx(b, 0) : x_muli(b, e->img, image);
  if (p->copy) {
    Expr *rows = x_addi(b, x_muli(b, x_addi(b, x_sub(b, s->to.to, s->to.from), -1), p->s.sh), (p->s.kh - 1) * p->s.dh + 1);
    direct_copy(e, s_let(b, "rows", rows));
  }
  direct_panels(e, group);
  s_end(b);
}

static double flops(const ConvShape *s) { return 2.0 * (double)(s->n * s->k * (s->c / s->group) * s->kh * s->kw) * (double)(s->oh * s->ow); }

static void emit_kernel(Stream *s, const Node *n) {
  DirectEmit *e = &s->e;
  Lower *l = e->l;
  DirectPlan *p = &e->p;
  const ConvShape *c = &p->s;
  e->b = lower_open(l, n, "conv%lldx%lld%s + %s %lld->%lld, %lldx%lld, tile 1x%dx%d", (long long)c->kh, (long long)c->kw, c->sh > 1 ? " strided" : "",
                    s->reader.what, (long long)c->c, (long long)c->k, (long long)c->oh, (long long)c->ow, p->tile.cols, p->tile.vecs * l->t->lanes);
  Expr *range = lower_range(l, "r", p->groups * c->n * s->chunks);
  e->x = e->src = lower_in(l, c->x);
  e->affine = conv_affine(l, c);
  if (p->copy) e->src = lower_scratch(l, "s", DT_F32, p->blocks * p->src_rows * p->src_cols * c->block * 4);
  s->to.ring = rows_ring(l, n->out[0], needed(s, s->step));
  s->reader.open(&s->reader, &s->to.ring);
  e->stream = &s->to;
  s->to.reader = &s->reader;
  emit_chunk(s, range);
  lower_done(l, s->reader.n);
  lower_close(l, flops(c) + s->reader.flops);
}

bool conv_stream(Lower *l, const Node *n) {
  const Node *m = n->next;
  if (!m || !m->streamed || (n->out[0]->layout.kind == LAYOUT_BLOCKED && n->out[0]->layout.block != l->t->lanes)) return false;
  Stream s = {.e = {.l = l, .n = n}};
  DirectPlan *p = &s.e.p;
  if (!conv_shape(l, n, &p->s) || p->s.gate || !conv_groups_dense(n, l->t->lanes)) return false;
  direct_plan_rows(l, n, p);
  bool whole = panels_divide(p->panels + (p->rest != 0), l->p->max_threads);
  if (!pool_reader(l, m, &s.reader) && !depthwise_reader(l, m, whole, &s.reader)) return false;
  if (!plan_step(&s, n) || !plan_range(&s)) return false;
  emit_kernel(&s, n);
  return true;
}
