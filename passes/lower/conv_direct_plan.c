/* conv_direct_plan.c: what conv_direct.c decides before it emits: register tile, strips, panels; and its packed weights. */
#include "conv_direct.h"

#include <string.h>

/* ---- planning ---- */

static void spatial(const Value *v, int64_t *h, int64_t *w) {
  const Shape *s = &v->shape;
  *h = s->rank >= 2 ? s->d[s->rank - 2].n : 1;
  *w = s->rank >= 1 ? s->d[s->rank - 1].n : 1;
}

bool direct_whole_image(const ConvShape *s) { return s->ysy == 1 && s->ysx == 1; }

bool direct_is_flat(const Node *n, const ConvShape *s) {
  if (!direct_whole_image(s)) return false;
  if (s->kh != 1 || s->kw != 1 || s->sh != 1 || s->sw != 1 || s->oh != s->h || s->ow != s->iw || s->ph || s->pw) return false;
  for (int k = 0; k < n->nbody; k++)
    for (int j = 0; j < n->body[k].nargs; j++)
      if (n->body[k].arg[j].kind == ARG_IN && n->body[k].arg[j].up) return false;
  for (int i = n->ncore; i < n->nin; i++) {   /* a body operand must be the whole image, or the same at every pixel */
    int64_t h, w;
    spatial(n->in[i], &h, &w);
    if (!(h == s->oh && w == s->ow) && !(h == 1 && w == 1)) return false;
  }
  return true;
}

void direct_see_flat(Lower *l, const Value *v) {
  int64_t h, w;
  spatial(v, &h, &w);
  if (v->shape.rank < 2 || h * w == 1) return;
  Shape flat = v->shape;
  flat.d[flat.rank - 2] = dim_of(1);
  flat.d[flat.rank - 1] = dim_of(h * w);
  lower_see_as(l, v, &flat, v->layout);
}

int64_t direct_panel_channels(const ConvShape *s, int64_t k0, int64_t width, int64_t *first) {
  int64_t kg = s->k / s->group, cg = s->c / s->group;
  *first = k0 / kg * cg;
  return (MINI(k0 + width - 1, s->k - 1) / kg + 1) * cg - *first;
}

/* The most channel blocks that any of `panels` panels from output channel `first` on reads. */
static int64_t most_blocks(const ConvShape *s, int64_t first, int64_t panels, int64_t width) {
  int64_t most = 0, c0;
  for (int64_t i = 0; i < panels; i++) {
    int64_t count = direct_panel_channels(s, first + i * width, width, &c0);
    most = MAXI(most, div_up(c0 + count, s->block) - c0 / s->block);
  }
  return most;
}

/* Channels read by all panels of `width` outputs, summed. */
static double channels_read(const ConvShape *s, int64_t panels, int64_t width) {
  if (s->group == 1) return (double)(panels * s->c);
  double sum = 0;
  int64_t c0;
  for (int64_t i = 0; i < panels; i++) sum += (double)direct_panel_channels(s, i * width, width, &c0);
  return sum;
}

/* Cycles of all tiles of one image per kernel position, if cut into tiles of rows x cols pixels by vecs vectors. */
static double plan_cost(const ConvShape *s, int lanes, ConvTile t) {
  int64_t vectors = div_up(s->k, lanes), width = (int64_t)t.vecs * lanes, panels = vectors / t.vecs, c0;
  double sum = 0;
  for (int panel = 0; panel < 2; panel++) {
    int64_t nv = panel ? vectors % t.vecs : t.vecs;
    double np = !panel ? channels_read(s, panels, width) : nv ? (double)direct_panel_channels(s, panels * width, width, &c0) : 0;
    for (int ry = 0; np > 0 && ry < 2; ry++) {
      int64_t nr = ry ? (s->oh % t.rows != 0) : s->oh / t.rows, hr = ry ? s->oh % t.rows : t.rows;
      for (int rx = 0; nr && rx < 2; rx++) {
        int64_t nc = rx ? (s->ow % t.cols != 0) : s->ow / t.cols, wc = rx ? s->ow % t.cols : t.cols;
        sum += np * (double)(nr * nc) * conv_tile_cycles((int)(hr * wc), (int)nv);
      }
    }
  }
  return sum;
}

/* The cheapest tile, of `only` vectors if that is not 0. */
static ConvTile choose_tile(const Target *t, const ConvShape *s, int only) {
  int64_t vectors = div_up(s->k, t->lanes);
  ConvTile best = {1, 1, 1};
  double best_cost = 0;
  for (int vecs = (int)MINI(vectors, DIRECT_VECS); vecs >= 1; vecs--) {
    if (only && vecs != only) continue;
    int most = MINI(conv_tile_pixels(t, vecs), DIRECT_PIXELS);
    for (int cols = (int)MINI(s->ow, most); cols >= 1; cols--) {
      int rows = cols == s->ow ? (int)MINI(s->oh, most / cols) : 1;
      for (; rows >= 1; rows--) {
        ConvTile c = {rows, cols, vecs};
        /* A ragged edge costs code too: one more copy of the tile. */
        double cost = plan_cost(s, t->lanes, c) * (s->ow % cols || s->oh % rows ? 1.01 : 1);
        if (best_cost == 0 || cost < best_cost) best = c, best_cost = cost;
      }
    }
  }
  return best;
}

double conv_direct_cycles(const Lower *l, const ConvShape *s) {
  return plan_cost(s, l->t->lanes, choose_tile(l->t, s, 0)) * (double)(s->kh * s->kw);
}

void direct_flatten(ConvShape *s) { s->ow *= s->oh, s->oh = 1, s->iw *= s->h, s->h = 1; }

/* Weights that several convolutions read are packed once: for as many vectors as suit them all best. 0: any. */
static int shared_vecs(Lower *l, const Node *n) {
  if (n->op != OP_Conv || n->in[1]->uses.n < 2) return 0;
  ConvShape *s = NEW_N(l->arena, ConvShape, CONV_SHARERS_MAX);
  const Node *nodes[CONV_SHARERS_MAX];
  int sharers = conv_sharers(l, n, s, nodes), best = 0;
  double best_cost = 0;
  for (int i = 0; i < sharers; i++)
    if (direct_is_flat(nodes[i], &s[i])) direct_flatten(&s[i]);
  for (int vecs = 1; sharers && vecs <= MINI(div_up(s->k, l->t->lanes), DIRECT_VECS); vecs++) {
    double cost = 0;
    for (int i = 0; i < sharers; i++) cost += (double)s[i].n * plan_cost(&s[i], l->t->lanes, choose_tile(l->t, &s[i], vecs));
    if (!best || cost < best_cost) best = vecs, best_cost = cost;
  }
  return best;
}

/* Rows and columns of input that `strip` output rows (flat: pixels) read. */
static void strip_input(const DirectPlan *p, int64_t strip, int64_t *rows, int64_t *cols) {
  const ConvShape *s = &p->s;
  *rows = p->flat ? 1 : (strip - 1) * s->sh + (s->kh - 1) * s->dh + 1;
  *cols = p->flat ? strip : (s->ow - 1) * s->sw + (s->kw - 1) * s->dw + 1;
}

/* blocks: channel blocks of an image like the first source's that hold as much as all sources. */
static void plan_strips(Lower *l, DirectPlan *p, int64_t blocks) {
  const ConvShape *s = &p->s;
  int64_t budget = (l->t->l2 ? l->t->l2 : 256 << 10) / 2 / 4;   /* floats of input a strip may occupy */
  if (p->copy) budget = MINI(budget, lower_scratch_limit(l) / 4);
  int64_t along = p->flat ? s->ow : s->oh, unit = p->flat ? p->tile.cols : p->tile.rows, rows, cols;
  ConvWork w = {.images = s->n, .units = div_up(along, unit), .unit = unit, .panels = p->panels + (p->rest != 0)};
  for (w.most = w.units; w.most > 1; w.most = div_up(w.most, 2)) {
    strip_input(p, w.most * unit, &rows, &cols);
    if (blocks * rows * cols * s->block <= budget) break;
  }
  double steps = (double)((p->panel_blocks + blocks - p->blocks) * s->block * s->kh * s->kw), tiles = (double)div_up(s->ow, p->tile.cols);
  w.unit_cycles = steps * conv_tile_cycles(p->tile.rows * p->tile.cols, p->tile.vecs) * (p->flat ? 1 : tiles);
  w.panel_bytes = steps * p->tile.vecs * l->t->lanes * 4;
  if (p->copy) {
    strip_input(p, unit, &rows, &cols);
    double row = (double)(p->blocks * cols * s->block) / l->t->lanes;   /* vectors: a load and a store each, often from L3 */
    w.input_cycles = 2 * row * (double)(unit * s->sh);
    w.halo = (double)(rows - unit * s->sh) / (double)(unit * s->sh);
  }
  ConvSplit cut = conv_split(l->p->max_threads, &w);
  p->strip = cut.strip;
  p->strips = cut.strips;
  p->panels_per_group = cut.group_panels;
  p->groups = cut.groups;
  direct_set_source(p, p->strip);
}

void direct_set_source(DirectPlan *p, int64_t strip) {
  const ConvShape *s = &p->s;
  int64_t rows, cols;
  strip_input(p, strip, &rows, &cols);
  p->src_rows = p->copy ? rows : s->h;
  p->src_cols = p->copy ? cols : s->iw;
  /* Channel blocks a multiple of 4 KB apart would fall into the same cache sets. */
  if (p->copy && p->src_rows * p->src_cols * s->block * 4 % 4096 == 0) p->src_cols++;
}

void direct_set_panels(const Lower *l, DirectPlan *p) {
  const ConvShape *s = &p->s;
  int64_t width = (int64_t)p->tile.vecs * l->t->lanes;
  p->panels = s->k / width;
  p->rest = div_up(s->k % width, l->t->lanes);
  p->panel_blocks = s->group == 1 ? p->blocks : most_blocks(s, 0, p->panels, width);
  p->rest_blocks = s->group == 1 || !p->rest ? p->blocks : most_blocks(s, p->panels * width, 1, width);
}

/* What does not depend on strips; p->flat is settled. Tiles are at most `rows` high. */
static void plan_tiles(Lower *l, const Node *n, int64_t rows, DirectPlan *p) {
  const ConvShape *s = &p->s;
  ConvShape low = *s;
  low.oh = MINI(s->oh, rows);
  /* Pads may also be negative, or the window may run past the end: anything but windows inside the image is copied. */
  bool inside = s->ph == 0 && s->pw == 0 && (s->oh - 1) * s->sh + (s->kh - 1) * s->dh < s->h && (s->ow - 1) * s->sw + (s->kw - 1) * s->dw < s->iw;
  p->copy = !inside;
  p->tile = choose_tile(l->t, &low, shared_vecs(l, n));
  p->blocks = div_up(s->c, s->block);
  direct_set_panels(l, p);
}

void direct_plan(Lower *l, const Node *n, const ConvShape *more, int nmore, DirectPlan *p) {
  ConvShape *s = &p->s;
  p->flat = direct_is_flat(n, s);
  for (int i = 0; i < nmore; i++) p->flat &= direct_is_flat(n, &more[i]);
  if (p->flat) direct_flatten(s);
  plan_tiles(l, n, s->oh, p);
  int64_t blocks = p->blocks;
  for (int i = 0; i < nmore; i++) {
    const ConvShape *m = &more[i];
    blocks += div_up(m->c * m->sh * m->sw, s->block * s->sh * s->sw);
  }
  plan_strips(l, p, blocks);
}

void direct_plan_rows(Lower *l, const Node *n, DirectPlan *p) {
  plan_tiles(l, n, 1, p);
  p->strips = p->groups = 1;
  p->panels_per_group = p->panels + (p->rest != 0);
}

/* ---- weights ---- */

/* Weights of a grouped convolution: [panel][block][kh][kw][channel of the block][width], zero between groups. */
typedef struct GroupPack { ConvShape s; int64_t first, panels, blocks, width; const float *scale; } GroupPack;

static void group_pack_fill(const void *ctx, void *dst) {
  const GroupPack *g = ctx;
  const ConvShape *s = &g->s;
  const float *w = s->w->data;
  int64_t kk = s->kh * s->kw, kg = s->k / s->group, cg = s->c / s->group;
  float *to = dst;
  memset(to, 0, (size_t)(g->panels * g->blocks * kk * s->block * g->width) * sizeof *to);
  for (int64_t i = 0; i < g->panels * g->width && g->first + i < s->k; i++) {
    int64_t panel = i / g->width, k = g->first + i, c0;
    direct_panel_channels(s, g->first + panel * g->width, g->width, &c0);
    for (int64_t j = 0; j < cg; j++) {
      int64_t c = k / kg * cg + j - c0 / s->block * s->block;   /* from the panel's first block on */
      float *at = to + ((panel * g->blocks + c / s->block) * kk * s->block + c % s->block) * g->width + i % g->width;
      for (int64_t t = 0; t < kk; t++) at[t * s->block * g->width] = w[(k * cg + j) * kk + t] * (g->scale ? g->scale[i] : 1);
    }
  }
}

static Var *pack_groups(Lower *l, const ConvShape *s, int64_t first, int64_t panels, int64_t blocks, int vecs) {
  GroupPack *g = NEW(l->p->arena, GroupPack);
  *g = (GroupPack){.s = *s, .first = first, .panels = panels, .blocks = blocks, .width = (int64_t)vecs * l->t->lanes, .scale = conv_pack_scale(s, first)};
  const char *desc = arena_printf(l->p->arena, "conv in %lld groups from %lld [%lld][%lld][%lld][%lld][%d][%lld]%s", (long long)s->group, (long long)first,
                                  (long long)panels, (long long)blocks, (long long)s->kh, (long long)s->kw, s->block, (long long)g->width,
                                  g->scale ? " scaled" : "");
  /* A folded scale is part of what the weights are: such weights are never shared. */
  Weight w = {.name = s->w->name, .desc = desc, .source = g->scale ? NULL : s->w->data, .fill = group_pack_fill, .ctx = g,
              .bytes = panels * blocks * s->kh * s->kw * s->block * g->width * 4};
  return lower_weight(l, "w", program_add_weight(l->p, w), DT_F32);
}

Var *direct_pack(Lower *l, const DirectPlan *plan, int64_t first, int64_t panels, int64_t blocks, int vecs) {
  const ConvShape *s = &plan->s;
  if (s->group > 1) return pack_groups(l, s, first, panels, blocks, vecs);
  int64_t width = (int64_t)vecs * l->t->lanes;
  Pack p = {
      .src = (const float *)s->w->data + s->w0 + first * s->wk, .dt = DT_F32, .ndims = 6,
      .dim = {{panels, width * s->wk, 0, width}, {plan->blocks, s->block * s->wc, 1, s->block}, {s->kh, s->wy, -1, 0}, {s->kw, s->wx, -1, 0},
              {s->block, s->wc, 1, 1}, {width, s->wk, 0, 1}},
      .limit = {s->k - first, s->c},
      .scale = conv_pack_scale(s, first),
  };
  const char *desc = arena_printf(l->arena, "conv [%lld][%lld][%lld][%lld][%d][%lld]%s", (long long)panels, (long long)plan->blocks, (long long)s->kh,
                                  (long long)s->kw, s->block, (long long)width, p.scale ? " scaled" : "");
  return lower_weight(l, "w", program_add_pack(l->p, s->w->name, &p, desc), DT_F32);
}
