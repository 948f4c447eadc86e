/* conv_winograd_plan.c: what conv_winograd.c decides before it emits: the output tile F(m x m, 3 x 3) or another method, register tile, strips;
 * and, for weights that several convolutions read, the transforms that all of them are to use. */
#include "../passes.h"
#include "conv_winograd.h"

#include <string.h>

#define MOST_TILES 56   /* in a strip */
#define CHUNK_VECTORS 8  /* of results that wait together: each chunk reads the transformed input again */

/* ---- planning ---- */

/* Operations of one transform of a t-vector, roughly, for the cost model. */
static double bt_ops(int m) { return m == 2 ? 4 : m == 4 ? 13 : m == 5 ? 21 : 26; }
static double at_ops(int m) { return m == 2 ? 4 : m == 4 ? 10 : m == 5 ? 15 : 18; }

/* Of a register tile; the weights it reads have come from far. */
static double step_cycles(int cols, int vecs) { return conv_tile_cycles(cols, vecs) + 0.15 * vecs; }

/* False if this tile size, with panels of `only` vectors (0: any), cannot be used; else the plan with its estimated cycles for one image. */
static bool make_plan(const Lower *l, const ConvShape *s, int m, int only, WinogradPlan *p) {
  *p = (WinogradPlan){0};
  if (!winograd_make(m, &p->f) || only > div_up(s->k, l->t->lanes)) return false;
  int t = p->f.t;
  p->nty = div_up(s->oh, m);
  p->ntx = div_up(s->ow, m);
  p->tiles = p->nty * p->ntx;
  p->blocks = div_up(s->c, s->block);
  p->vectors = div_up(s->k, l->t->lanes);
  double best = 0;
  int64_t cg = s->c / s->group, group_vectors = s->group == 1 ? p->vectors : s->k / s->group / l->t->lanes;
  for (int vecs = (int)MINI(group_vectors, WINOGRAD_VECS); vecs >= 1; vecs--) {
    if (only && vecs != only) continue;
    if (s->group > 1 && group_vectors % vecs) continue;   /* a panel is of one group */
    int most = (int)MINI(p->tiles, MINI(conv_tile_pixels(l->t, vecs), WINOGRAD_TILES));
    for (int cols = most; cols >= 1 && cols * 2 >= most; cols--) {
      double cost = (double)div_up(p->tiles, cols) *
                    ((double)(p->vectors / vecs) * step_cycles(cols, vecs) + (p->vectors % vecs ? step_cycles(cols, (int)(p->vectors % vecs)) : 0));
      if (best == 0 || cost < best) best = cost, p->tile = (ConvTile){1, cols, vecs};
    }
  }
  if (best == 0) return false;
  p->panels = p->vectors / p->tile.vecs;
  p->rest = p->vectors % p->tile.vecs;
  p->tile_input = (double)p->blocks * (2 * t * bt_ops(m) + 4.0 * t * t) / 2;
  p->tile_output = ((t + m) * at_ops(m) + 3.0 * t * t + 2.0 * m * m) / 2;
  double transforms = (double)p->tiles * (p->tile_input + (double)p->vectors * p->tile_output);
  /* Transformed weights come from memory, at some nine bytes a cycle, beside the first strip's products. */
  double products = t * t * (double)cg * best, first = products * MINI(1.0, 16.0 / (double)p->tiles);
  double stream = MAXI(0.0, (double)(t * t * cg * p->vectors * l->t->lanes) * 4 / 9 - first);
  p->cycles = products + transforms + stream;
  return true;
}

int64_t winograd_scratch(const WinogradPlan *p) {
  int64_t positions = p->f.t * p->f.t;
  return p->m ? positions * (p->slot + p->result_slot) : (positions + 1) * p->slot;
}

/* Floats of `vectors` channel vectors of a strip: an odd number of cache lines. */
static int64_t slot_of(const Lower *l, int64_t held, int64_t vectors) { return (div_up(held * vectors * l->t->lanes, WINOGRAD_LINE) | 1) * WINOGRAD_LINE; }

/* Parts panels into chunks, as nearly equal as there can be; gives the vectors of the largest. */
static int64_t set_chunks(WinogradPlan *p, int count) {
  int64_t most = 0;
  for (int i = 0; i < count; i++) {
    int64_t panels = p[i].panels + (p[i].rest != 0);
    p[i].chunk = div_up(panels, div_up(panels, MAXI(1, CHUNK_VECTORS / p[i].tile.vecs)));
    most = MAXI(most, p[i].chunk * p[i].tile.vecs);
  }
  return most;
}

/* Tiles in a register tile beside `vecs` vectors that cover a strip best. */
static int fitting_cols(const Lower *l, int64_t strip, int vecs) {
  int best = 1;
  for (int cols = 2; cols <= MINI(strip, MINI(conv_tile_pixels(l->t, vecs), WINOGRAD_TILES)); cols++)
    if ((double)div_up(strip, cols) * step_cycles(cols, vecs) <= (double)div_up(strip, best) * step_cycles(best, vecs)) best = cols;
  return best;
}

/* The work of all `count` convolutions; gives each its place among the panels. */
static ConvWork whole_work(const Lower *l, const ConvShape *s, WinogradPlan *p, int count) {
  int64_t positions = p->f.t * p->f.t, cg = s->c / s->group, unit = p->tile.cols;
  ConvWork w = {.images = s->n, .units = div_up(p->tiles, unit), .unit = unit, .input_cycles = p->tile_input * (double)unit};
  for (int i = 0; i < count; i++) {
    int64_t panels = p[i].panels + (p[i].rest != 0);
    int vecs = p[i].tile.vecs;
    p[i].before = w.panels;
    w.panels += panels;
    w.unit_cycles += (double)panels * ((double)(positions * cg) * conv_tile_cycles(p->tile.cols, vecs) + p->tile_output * (double)(unit * vecs));
    w.panel_bytes += (double)(panels * positions * cg * vecs * l->t->lanes * 4);
  }
  w.unit_cycles /= (double)w.panels;
  w.panel_bytes /= (double)w.panels;
  return w;
}

/* Results of one convolution take the place of its input, all of them, unless it takes less scratch to have them wait apart, chunk by chunk. */
static void plan_strips(const Lower *l, const ConvShape *s, WinogradPlan *p, int count) {
  int64_t inputs = p->blocks * s->block / l->t->lanes, positions = p->f.t * p->f.t, cg = s->c / s->group;
  int64_t budget = MINI(MAXI(l->t->l2, 256 << 10), lower_scratch_limit(l)) / 4;   /* floats */
  ConvWork w = whole_work(l, s, p, count);
  /* Where not even L3 keeps the weights, every strip reads them from memory: fewer strips are worth more than scratch in L2. */
  if (l->t->l3 && w.panel_bytes * (double)w.panels > (double)l->t->l3) budget = MINI(2 * budget, lower_scratch_limit(l) / 4);
  int64_t room = budget / ((positions + 1) * l->t->lanes * w.unit);   /* vectors of a register tile's tiles */
  int64_t split = inputs + set_chunks(p, count), whole = MAXI(inputs, p->vectors);
  w.most = MAXI(1, MINI(MOST_TILES / w.unit, room / (count > 1 ? split : MINI(split, whole))));
  ConvSplit cut = conv_split(l->p->max_threads, &w);
  whole = MAXI(inputs, MINI(p->vectors, cut.group_panels * p->tile.vecs));
  bool apart = count > 1 || split < whole;
  int64_t held = cut.strip;
  for (int i = 1; i < count; i++) {
    p[i].tile.cols = fitting_cols(l, cut.strip, p[i].tile.vecs);
    held = MAXI(held, div_up(cut.strip, p[i].tile.cols) * p[i].tile.cols);
  }
  for (int i = 0; i < count; i++) {
    p[i].strip = cut.strip;
    p[i].strips = cut.strips;
    p[i].groups = cut.groups;
    p[i].group_panels = cut.group_panels;
    p[i].chunk = apart ? MINI(p[i].chunk, cut.group_panels) : cut.group_panels;
    p[i].held = held;
    p[i].slot = slot_of(l, held, apart ? inputs : whole);
    p[i].v = apart ? 0 : p[i].slot;
    p[i].m = apart ? positions * p[i].slot : 0;
    p[i].result_slot = apart ? slot_of(l, held, split - inputs) : p[i].slot;
    p[i].far_weights = positions * cg * p[i].vectors * l->t->lanes * 4 > l->t->l2;
  }
}

/* ---- choice ---- */

static bool unit(Ints v) { return v.v[0] == 1 && v.v[1] == 1; }

bool conv_for_winograd(const Node *n, const Target *t, int winograd) {
  const ConvAttr *a = n->attr;
  const Shape *w = &n->in[1]->shape;
  if (w->rank != 4 || w->d[2].n != 3 || w->d[3].n != 3 || !unit(a->strides) || !unit(a->dilations)) return false;
  return n->in[0]->layout.kind == LAYOUT_BLOCKED && (winograd > 0 || (winograd && t->fma));
}

static bool body_reads_plain(const Node *n) {
  for (int i = n->ncore; i < n->nin; i++)
    if (n->in[i]->layout.kind == LAYOUT_PLAIN && value_count(n->in[i]) > 1) return true;
  return false;
}

static bool applies(const Lower *l, const Node *n, const ConvShape *s) {
  if (s->block == 1 || s->kh != 3 || s->kw != 3 || s->sh != 1 || s->sw != 1 || s->dh != 1 || s->dw != 1) return false;
  if (s->group > 1 && (s->c / s->group % l->t->lanes || s->k / s->group % l->t->lanes)) return false;
  /* Masked lanes in every store of the inverse transform are not worth having: such bodies are rare. */
  return !(s->k % l->t->lanes && body_reads_plain(n));
}

static const int sizes[] = {2, 4, 5, 6};

static double direct_cycles(const Lower *l, const ConvShape *s) { return 0.95 * conv_direct_cycles(l, s); }

static int64_t packed_bytes(const Lower *l, const ConvShape *s, int m) {
  return (int64_t)(m + 2) * (m + 2) * (s->c / s->group) * div_up(s->k, l->t->lanes) * l->t->lanes * 4;
}

static int64_t direct_bytes(const Lower *l, const ConvShape *s) { return 9 * (s->c / s->group) * div_up(s->k, l->t->lanes) * l->t->lanes * 4; }

/* One size was asked for, and memory is no concern. */
static bool forced(const Lower *l) { return l->winograd > 0 && l->weight_price == 0; }

static bool choose(const Lower *l, const ConvShape *s, WinogradPlan *best) {
  double least = direct_cycles(l, s) * (double)s->n + l->weight_price * (double)direct_bytes(l, s);
  bool found = false;
  for (int i = 0; i < COUNTOF(sizes); i++) {
    WinogradPlan p;
    if (l->winograd > 0 && l->winograd != sizes[i]) continue;
    if (!make_plan(l, s, sizes[i], 0, &p)) continue;
    double cost = p.cycles * (double)s->n + l->weight_price * (double)packed_bytes(l, s, sizes[i]);
    if (cost > least && !forced(l)) continue;
    *best = p;
    least = cost;
    found = true;
  }
  return found;
}

/* ---- weights of several convolutions ---- */

typedef struct Sharers {
  ConvShape s[CONV_SHARERS_MAX];
  int n;
  int vecs[COUNTOF(sizes)];     /* per panel, the same for all; 0: this size cannot be used */
  double cycles[COUNTOF(sizes)][CONV_SHARERS_MAX], direct[CONV_SHARERS_MAX];
} Sharers;

/* The panels of F(sizes[i]) that suit all sharers best. */
static void plan_size(const Lower *l, Sharers *sh, int i) {
  double best = 0;
  for (int vecs = 1; vecs <= WINOGRAD_VECS; vecs++) {
    double sum = 0, cycles[CONV_SHARERS_MAX];
    bool ok = l->winograd < 0 || l->winograd == sizes[i];
    for (int u = 0; u < sh->n && ok; u++) {
      WinogradPlan p;
      ok = make_plan(l, &sh->s[u], sizes[i], vecs, &p);
      sum += cycles[u] = p.cycles * (double)sh->s[u].n;
    }
    if (!ok || (sh->vecs[i] && sum >= best)) continue;
    best = sum;
    sh->vecs[i] = vecs;
    memcpy(sh->cycles[i], cycles, sizeof cycles);
  }
}

/* Cycles of all sharers when the weights are packed for the sizes of the mask, or a negative number if that is not possible. Each packing has
 * to come from memory once, at about 8 bytes a cycle; the sharers that follow find it in a cache. */
static double cost_of(const Lower *l, const Sharers *sh, unsigned mask) {
  double sum = 0;
  int64_t bytes = 0;
  bool any_direct = false;
  for (int i = 0; i < COUNTOF(sizes); i++) {
    if (!(mask >> i & 1)) continue;
    if (!sh->vecs[i]) return -1;
    bytes += packed_bytes(l, sh->s, sizes[i]);
  }
  for (int u = 0; u < sh->n; u++) {
    double best = forced(l) ? -1 : sh->direct[u];
    for (int i = 0; i < COUNTOF(sizes); i++)
      if (mask >> i & 1 && (best < 0 || sh->cycles[i][u] <= best)) best = sh->cycles[i][u];
    if (best < 0) return -1;
    any_direct |= best == sh->direct[u];
    sum += best;
  }
  if (any_direct) bytes += direct_bytes(l, sh->s);
  return sum + (double)bytes / 8 + l->weight_price * (double)bytes;
}

/* Which transforms of its weights the sharers of n are to use, decided when the first of them is lowered. */
static const SharedPacking *agree(Lower *l, const Node *n) {
  for (int i = 0; i < l->shared.n; i++)
    if (l->shared.at[i].w == n->in[1]) return &l->shared.at[i];
  Sharers *sh = NEW(l->arena, Sharers);
  const Node *nodes[CONV_SHARERS_MAX];
  sh->n = conv_sharers(l, n, sh->s, nodes);
  for (int u = 0; u < sh->n; u++)
    if (!applies(l, nodes[u], &sh->s[u])) return NULL;
  if (sh->n < 2) return NULL;
  for (int u = 0; u < sh->n; u++) sh->direct[u] = direct_cycles(l, &sh->s[u]) * (double)sh->s[u].n;
  for (int i = 0; i < COUNTOF(sizes); i++) plan_size(l, sh, i);
  unsigned best = 0;
  double least = cost_of(l, sh, 0);
  for (unsigned mask = 1; mask < 1u << COUNTOF(sizes); mask++) {
    double cost = cost_of(l, sh, mask);
    if (cost >= 0 && (least < 0 || cost < least)) best = mask, least = cost;
  }
  SharedPacking packing = {.w = n->in[1]};
  for (int i = 0; i < COUNTOF(sizes); i++)
    if (best >> i & 1) packing.vecs[sizes[i]] = sh->vecs[i];
  vec_push(l->arena, &l->shared, packing);
  return &l->shared.at[l->shared.n - 1];
}

static bool choose_shared(Lower *l, const SharedPacking *packing, const ConvShape *s, WinogradPlan *best) {
  double direct = direct_cycles(l, s);
  bool found = false;
  for (int i = 0; i < COUNTOF(sizes); i++) {
    WinogradPlan p;
    int vecs = packing->vecs[sizes[i]];
    if (!vecs || !make_plan(l, s, sizes[i], vecs, &p) || (!forced(l) && p.cycles > direct)) continue;
    if (!found || p.cycles < best->cycles) *best = p;
    found = true;
  }
  return found;
}

bool winograd_plan(Lower *l, const Node *n, const ConvShape *s, WinogradPlan *p) {
  if (l->winograd == 0 || s->gate || !applies(l, n, s)) return false;
  const SharedPacking *packing = s->w->uses.n > 1 ? agree(l, n) : NULL;
  if (!(packing ? choose_shared(l, packing, s, p) : choose(l, s, p))) return false;
  plan_strips(l, s, p, 1);
  return winograd_scratch(p) * 4 <= lower_scratch_limit(l);
}

/* ---- convolutions of one tensor ---- */

/* Of all images of n, and its weights' price, when computed with F(m,3), or directly for m = 0; negative if it cannot be. */
static double member_cost(Lower *l, const Node *n, const ConvShape *s, int m, WinogradPlan *p) {
  const SharedPacking *packing = s->w->uses.n > 1 ? agree(l, n) : NULL;
  double price = packing ? 0 : l->weight_price;
  if (m == 0) return direct_cycles(l, s) * (double)s->n + price * (double)direct_bytes(l, s);
  if ((l->winograd > 0 && l->winograd != m) || (packing && !packing->vecs[m])) return -1;
  if (!make_plan(l, s, m, packing ? packing->vecs[m] : 0, p)) return -1;
  return p->cycles * (double)s->n + price * (double)packed_bytes(l, s, m);
}

/* The least it costs to compute n by itself. */
static double alone_cost(Lower *l, const Node *n, const ConvShape *s) {
  double best = -1;
  WinogradPlan p;
  for (int i = 0; i < COUNTOF(sizes); i++) {
    double cost = member_cost(l, n, s, sizes[i], &p);
    if (cost >= 0 && (best < 0 || cost < best)) best = cost;
  }
  double direct = member_cost(l, n, s, 0, NULL);
  return best >= 0 && (forced(l) || best < direct) ? best : direct;
}

bool winograd_plan_joined(Lower *l, const Node *const *node, const ConvShape *s, int count, WinogradPlan *p) {
  /* Where memory is scarce no two results need to live beside the tensor. */
  if (l->winograd == 0 || lower_scratch_limit(l) != INT64_MAX) return false;
  double least = 0;
  int best = 0;
  for (int i = 0; i < count; i++) {
    if (s[i].gate || s[i].group != 1 || !applies(l, node[i], &s[i])) return false;
    least += alone_cost(l, node[i], &s[i]);
  }
  for (int k = 0; k < COUNTOF(sizes); k++) {
    double sum = 0;
    int i = 0;
    for (double cost; i < count && (cost = member_cost(l, node[i], &s[i], sizes[k], &p[i])) >= 0; i++) sum += cost;
    if (i < count) continue;
    sum -= (double)((count - 1) * p->tiles * s->n) * p->tile_input;
    if (sum <= least) least = sum, best = sizes[k];
  }
  for (int i = 0; i < count && best; i++) member_cost(l, node[i], &s[i], best, &p[i]);
  if (best) plan_strips(l, s, p, count);
  return best != 0;
}
