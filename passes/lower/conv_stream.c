/* conv_stream.c: a convolution, the pool or depthwise convolution that alone reads its result, and the 1x1 convolution that alone reads that,
 * if there is one, in one kernel: rows go from one to the other through rings in scratch that stay in cache, and the images between them never
 * exist.
 *
 * A range iteration makes a chunk of the reader's rows of one image, a few at a time: the convolution's rows that these need and that are
 * not there from the step before, panel by panel, each panel followed by the reader's rows of its channels; then, of all channels, the 1x1
 * convolution's. A panel's new rows are in the nearest cache when they are read, those before in the second. Only the first rows of a chunk
 * are computed twice, for this chunk and the last one; a single thread has a single chunk.
 *
 * A reader that makes a mean of whole planes as well (squeeze and excite) gets whole images; threads then share out the panels.
 */
#include "../passes.h"
#include "conv_direct.h"
#include "schedules.h"

#define AGAIN_MOST 0.03  /* of the convolution's rows that are better computed twice than shared out coarsely; twice as many at worst */

typedef struct Stream {
  DirectEmit e, last;            /* last.n is NULL: there is no third */
  DirectStream to;
  RowReader reader;
  int64_t step, chunk, chunks;   /* rows of the reader: in a step, in a chunk; chunks of an image */
} Stream;

/* Rows of the convolution that `rows` rows of the reader need. */
static int64_t needed(const Stream *s, int64_t rows) { return MINI((rows - 1) * s->reader.stride + s->reader.reach, s->e.p.s.oh); }

/* A step is a row: larger ones are no faster and need larger rings. Where padded input is copied two rows are better, since neighbouring steps
 * copy much of the same. False if the image would need less memory than the rings of all threads. */
static bool plan_step(Stream *s, const Node *n) {
  DirectPlan *p = &s->e.p;
  int lanes = s->e.l->t->lanes;
  s->step = p->copy ? MINI(2, s->reader.rows) : 1;
  direct_set_source(p, needed(s, s->step));
  int64_t source = p->copy ? p->blocks * p->src_rows * p->src_cols * p->s.block * 4 : 0;
  int64_t made = s->last.n ? rows_ring_bytes(s->reader.n->out[0], s->step, lanes) : 0;
  int64_t scratch = source + rows_ring_bytes(n->out[0], needed(s, s->step), lanes) + made;
  return scratch * s->e.l->p->max_threads <= (int64_t)value_bytes(n->out[0]);
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
  if (s->last.n) {
    s->last.img = e->img;
    s->last.y0 = y;
    direct_panels(&s->last, x_idx(b, 0));
  }
  s_end(b);
}

static double flops(const ConvShape *s) { return 2.0 * (double)(s->n * s->k * (s->c / s->group) * s->kh * s->kw) * (double)(s->oh * s->ow); }

/* A row of the last result is stored when all rows of the first operand that it depends on are read: then it may take their place. */
static bool rows_behind(const Stream *s) {
  const ConvShape *c = &s->e.p.s;
  return s->chunks == 1 && c->kh * c->kw * c->sh * c->sw == 1 && c->ph == 0 && s->reader.stride == 1 && s->reader.reach > s->reader.pad;
}

/* The 1x1 convolution reads what the reader has made; in the open kernel. */
static void open_last(Stream *s) {
  DirectEmit *e = &s->last;
  if (!e->n) return;
  const ConvShape *c = &e->p.s;
  Rows made = rows_ring(e->l, s->reader.n->out[0], s->step);
  e->b = s->e.b;
  e->x = e->src = made.v;
  e->src_origin = x_idx(e->b, 0);
  e->p.copy = true;   /* its source is this step's rows only */
  e->p.src_rows = s->step;
  e->p.src_cols = made.width;
  e->p.strip = s->step;
  e->p.strips = div_up(c->oh, s->step);
  direct_open_result(e, c, rows_behind(s) ? NULL : s->e.p.s.x);
  lower_done(e->l, e->n);
}

static void emit_kernel(Stream *s, const Node *n) {
  DirectEmit *e = &s->e;
  Lower *l = e->l;
  DirectPlan *p = &e->p;
  const ConvShape *c = &p->s;
  const char *third = s->last.n ? arena_printf(l->arena, "->%lld", (long long)s->last.p.s.k) : "";
  e->b = lower_open(l, n, "conv%lldx%lld%s + %s%s %lld->%lld%s, %lldx%lld, tile 1x%dx%d", (long long)c->kh, (long long)c->kw, c->sh > 1 ? " strided" : "",
                    s->reader.what, s->last.n ? " + conv1x1" : "", (long long)c->c, (long long)c->k, third, (long long)c->oh, (long long)c->ow, p->tile.cols,
                    p->tile.vecs * l->t->lanes);
  Expr *range = lower_range(l, "r", p->groups * c->n * s->chunks);
  e->x = e->src = lower_in(l, c->x);
  e->affine = conv_affine(l, c);
  if (p->copy) e->src = lower_scratch(l, "s", DT_F32, p->blocks * p->src_rows * p->src_cols * c->block * 4);
  Rows rows = rows_ring(l, n->out[0], needed(s, s->step));
  lower_done(l, s->reader.n);
  s->reader.open(&s->reader, &rows);
  open_last(s);
  e->stream = &s->to;
  s->to.reader = &s->reader;
  emit_chunk(s, range);
  lower_close(l, flops(c) + s->reader.flops + (s->last.n ? flops(&s->last.p.s) : 0));
}

/* The 1x1 convolution after the reader, if it can be made of rows as they come. */
static void plan_last(Stream *s) {
  const Node *n = s->reader.n->next;
  DirectEmit *e = &s->last;
  ConvShape *c = &e->p.s;
  if (!n || !n->streamed || n->op != OP_Conv || s->reader.whole || !conv_shape(s->e.l, n, c) || c->gate || c->group > 1) return;
  if (c->kh * c->kw * c->sh * c->sw != 1 || c->ph || c->pw || c->oh != c->h || c->ow != c->iw) return;
  e->l = s->e.l;
  e->n = n;
  direct_plan_rows(e->l, n, &e->p);
}

bool conv_stream(Lower *l, const Node *n) {
  const Node *m = n->next;
  if (!m || !m->streamed || m->in[0] != n->out[0] || n->out[0]->layout.block != l->t->lanes) return false;
  Stream s = {.e = {.l = l, .n = n}};
  DirectPlan *p = &s.e.p;
  if (!conv_shape(l, n, &p->s) || p->s.gate || !conv_groups_dense(n, l->t->lanes)) return false;
  direct_plan_rows(l, n, p);
  bool whole = panels_divide(p->panels + (p->rest != 0), l->p->max_threads);
  if (!pool_reader(l, m, &s.reader) && !depthwise_reader(l, m, whole, &s.reader)) return false;
  plan_last(&s);
  if (!plan_step(&s, n) || !plan_range(&s)) return false;
  emit_kernel(&s, n);
  return true;
}
