/* conv_direct.c: direct convolution as an implicit matrix product with register tiles.
 *
 * A tile is `rows x cols` output pixels by `vecs` vectors of output channels, all in registers. One reduction step loads `vecs` weight
 * vectors and, for each pixel, broadcasts one input element into `vecs` FMAs. Weights are packed in the order they are consumed,
 * [panel][C/block][kh][kw][block][vecs*lanes], a folded scale multiplied in; the last panel is as narrow as the channels left.
 *
 * Windows that reach into the padding: a strip of input rows is first copied, with its zero border, into per-thread scratch
 * [C/block][rows][cols][block], small enough for L2. The copy costs one load and one store where the convolution spends K*kh*kw/lanes
 * FMAs, and in return every tile is an interior one. Without padding the input is read where it lies; a 1x1 convolution of stride 1
 * treats the image as a single row.
 *
 * Grouped convolutions: a panel reads the channels of the groups it touches and no others. Where it touches several, weights between a
 * channel and the outputs of another group are zero; narrower panels waste less on that, and the cost model weighs it. (An infinity or a NaN
 * can so reach the other groups of its panel, as NaN.)
 *
 * A sum of 1x1 convolutions (ConvSum) accumulates one source after the other in the same registers: each reads its own image with its own
 * strides and has weights of its own, in panels of the same width.
 *
 * The range runs over groups of panels, images and strips: conv_split.
 */
#include "../passes.h"
#include "conv_direct.h"

#include <string.h>

/* ---- sums ---- */

/* The further sources follow the plan of the first. */
static void open_sources(DirectEmit *e) {
  for (int i = 0; i < e->nmore; i++) {
    ConvShape s = e->more[i].p.s;
    if (e->p.flat) direct_flatten(&s);
    DirectEmit *m = &e->more[i];
    *m = *e;
    m->nmore = 0;
    m->further = true;
    m->p.s = s;
    m->p.blocks = div_up(s.c, s.block);
    m->p.src_rows = s.h;
    m->p.src_cols = s.iw;
    m->x = m->src = lower_in(e->l, s.x);
    m->src_origin = x_muli(e->b, e->img, m->p.blocks * s.h * s.iw * s.block);
  }
}

static int64_t channels_in(const DirectEmit *e) {
  int64_t sum = e->p.s.c / e->p.s.group;
  for (int i = 0; i < e->nmore; i++) sum += e->more[i].p.s.c;
  return sum;
}

static const char *describe(const DirectEmit *e, const ConvShape *s, const char *what) {
  Text t = {.a = e->l->arena};
  text_addf(&t, "%s%lldx%lld", what, (long long)s->kh, (long long)s->kw);
  if (e->nmore) text_add(&t, " sum");
  else if (s->sh > 1) text_add(&t, " strided");
  if (s->group > 1) text_addf(&t, " in %lld groups", (long long)s->group);
  text_addf(&t, " %lld", (long long)s->c);
  for (int i = 0; i < e->nmore; i++) text_addf(&t, "+%lld", (long long)e->more[i].p.s.c);
  text_addf(&t, "->%lld, %lldx%lld, tile %dx%dx%d", (long long)s->k, (long long)s->oh, (long long)s->ow, e->p.tile.rows, e->p.tile.cols,
            e->p.tile.vecs * e->l->t->lanes);
  return t.s;
}

/* ---- kernels ---- */

void direct_open_result(DirectEmit *e, const ConvShape *given, const Value *kept) {
  Lower *l = e->l;
  const Node *n = e->n;
  const DirectPlan *p = &e->p;
  e->affine = conv_affine(l, given);
  if (p->flat) {
    direct_see_flat(l, given->y);
    for (int i = n->ncore; i < n->nin; i++) direct_see_flat(l, n->in[i]);
  }
  if (direct_whole_image(given)) conv_allow_in_place(l, n, given, kept);
  e->turn_cols = p->flat ? p->strip : p->s.ow;
  int64_t slots = p->tile.vecs * p->tile.rows * e->turn_cols;
  if (direct_whole_image(given) && turn_pays(l, n) && slots * l->t->lanes * 4 <= MINI(TURN_MOST, lower_scratch_limit(l))) e->turn = turn_open(l, n, slots);
  int64_t weights = p->blocks * given->block * given->kh * given->kw * p->tile.vecs * l->t->lanes;
  if (given->gate) e->gated = lower_scratch(l, "gw", DT_F32, weights * 4);
}

/* The image, strip and source of range iteration r; gives the group of panels. */
static Expr *open_strip(DirectEmit *e, Expr *r) {
  Build *b = e->b;
  const DirectPlan *p = &e->p;
  const ConvShape *s = &p->s;
  int64_t pieces = s->n * p->strips;
  Expr *group = p->groups == 1 ? x_idx(b, 0) : s_let(b, "kg", x_divi(b, r, pieces));
  Expr *rest = p->groups == 1 ? r : s_let(b, "rs", x_remi(b, r, pieces));
  e->img = s->n == 1 ? x_idx(b, 0) : s_let(b, "img", x_divi(b, rest, p->strips));
  Expr *strip = s->n == 1 ? rest : x_remi(b, rest, p->strips);
  e->y0 = p->strips == 1 ? x_idx(b, 0) : s_let(b, p->flat ? "x0" : "y0", x_muli(b, strip, p->strip));
  int64_t image = p->blocks * p->src_rows * p->src_cols * s->block;
  if (p->copy) {
    e->src = lower_scratch(e->l, "s", DT_F32, image * 4);
    e->src_origin = x_idx(b, 0);
    direct_copy(e, x_idx(b, p->src_rows));
  } else {
    e->src = e->x;
    e->src_origin = x_muli(b, e->img, image);
  }
  return group;
}

static double flops(const ConvShape *s, int64_t channels) {
  return 2.0 * (double)(s->n * s->k * channels * s->kh * s->kw) * (double)(s->oh * s->ow);
}

void conv_direct_emit(Lower *l, const Node *n, const ConvShape *shape, int sources, const char *what) {
  DirectEmit e = {.l = l, .n = n, .p.s = *shape, .nmore = sources - 1};
  if (e.nmore) e.more = NEW_N(l->arena, DirectEmit, e.nmore);
  for (int i = 0; i < e.nmore; i++) e.more[i].p.s = shape[i + 1];
  direct_plan(l, n, shape + 1, e.nmore, &e.p);
  e.b = lower_open(l, n, "%s", describe(&e, shape, what));
  Expr *r = lower_range(l, "r", e.p.groups * shape->n * e.p.strips);
  e.x = lower_in(l, shape->x);
  direct_open_result(&e, shape, NULL);
  Expr *group = open_strip(&e, r);
  open_sources(&e);
  direct_panels(&e, group);
  lower_close(l, flops(shape, channels_in(&e)));
}

/* ---- joined convolutions ---- */

/* One kernel for all: a strip of the input, copied if need be, then the panels of one node after the other in tiles of one size. False, and
 * nothing done, where threads are to share out the panels of a strip, weights are packed with other readers, or pixels lie differently. */
static bool emit_joined(Lower *l, const Node *const *node, const ConvShape *s, int count) {
  DirectEmit e = {.l = l, .n = node[0], .p.s = s[0]};
  Text k = {.a = l->arena};
  double work = 0;
  e.p.s.k = 0;
  for (int i = 0; i < count; i++) {
    if (s[i].late_scale || direct_is_flat(node[i], &s[i]) != direct_is_flat(node[0], &s[0])) return false;
    e.p.s.k += div_up(s[i].k, l->t->lanes) * l->t->lanes;
    text_addf(&k, "%s%lld", i ? "/" : "", (long long)s[i].k);
    work += flops(&s[i], s[i].c);
  }
  direct_plan(l, node[0], NULL, 0, &e.p);
  if (e.p.groups > 1) return false;
  e.b = lower_open(l, node[0], "conv%lldx%lld joined %lld->%s, %lldx%lld, tile %dx%dx%d", (long long)s->kh, (long long)s->kw,
                   (long long)s->c, k.s, (long long)s->oh, (long long)s->ow, e.p.tile.rows, e.p.tile.cols, e.p.tile.vecs * l->t->lanes);
  Expr *r = lower_range(l, "r", s->n * e.p.strips);
  e.x = lower_in(l, s->x);
  Expr *group = open_strip(&e, r);
  for (int i = 0; i < count; i++) {
    DirectEmit m = e;
    m.n = node[i];
    m.p.s = s[i];
    if (m.p.flat) direct_flatten(&m.p.s);
    direct_set_panels(l, &m.p);
    direct_open_result(&m, &s[i], NULL);
    direct_panels(&m, group);
  }
  for (int i = 1; i < count; i++) lower_done(l, node[i]);
  lower_close(l, work);
  return true;
}

bool conv_direct(Lower *l, const Node *n) {
  ConvShape s[MAXI(CONV_SOURCES_MAX, CONV_JOINED_MAX)];
  const Node *node[CONV_JOINED_MAX];
  if (n->op == OP_Conv && n->next && n->next->joined) {
    int count = conv_joined(l, n, node, s);
    if (count > 1 && emit_joined(l, node, s, count)) return true;
  }
  int sources = conv_sources(n);
  for (int i = 0; i < sources; i++)
    if (!conv_source(l, n, i, &s[i])) return false;
  if (n->op == OP_Conv && !conv_groups_dense(n, l->t->lanes)) return false;
  conv_direct_emit(l, n, s, sources, "conv");
  return true;
}
