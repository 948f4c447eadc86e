/* share_weights.c: convolutions whose weights differ in a factor per output channel only read one copy of them, one after the other.
 *
 * The levels of a detection head share their weights but not their BatchNormalization. Exporters that fold the latter write a copy of the
 * weights per level, w_i[k] = s_i[k] * w[k], each element rounded once. Recognised, one copy remains, and the ratio becomes the scale of
 * the other convolutions: sums of one packing are scaled in their epilogues (conv_plan.c, late_scale). Packed weights are the larger part
 * of what small images read from memory.
 *
 * Per channel the ratio is the least squares fit in double, rounded to f32; every element must then agree to four rounding errors, the two
 * of the copies and what they and its own rounding do to the ratio. So a result differs from that of the copies as if its weights had been
 * rounded differently. A channel that is zero in the copy that stays must be zero in all: the one with the fewest such channels stays.
 *
 * Convolutions of the same weights then move next to each other, so that all but the first find them in a cache: heads come as one level
 * after the other and are computed layer by layer. Nodes are listed anew in the old order, but a convolution waits for those it shares
 * weights with while anything else can be done.
 *
 * before: %y0 = Conv(%x0, %w0); %y1 = Conv(%x1, %w1, %b)                 %w1[k] = s[k] * %w0[k]
 * after:  %y0 = Conv(%x0, %w0); %y1 = Conv(%x1, %w0, %b, %s)
 */
#include "../passes.h"

#include <float.h>
#include <math.h>

enum { WEIGHT = 1, BIAS = 2, SCALE = 3 };   /* operands of Conv */

#define ELEMENTS_MIN 1024            /* of weights worth sharing */
#define PROBE 16                     /* elements that tell unrelated weights apart */
#define GATHER_BYTES (256 << 10)     /* of weights worth waiting for */
#define TOLERANCE (4 * 0x1p-24)      /* relative, of an element */

typedef struct Candidate { Value *w; int64_t channels, volume, zeros; bool taken; } Candidate;

static const float *channel(const Candidate *c, int64_t k) { return (const float *)c->w->data + k * c->volume; }

/* ---- candidates ---- */

static bool can_scale(const Node *n) {
  const Value *scale = n->ncore > SCALE ? n->in[SCALE] : NULL;
  return n->op == OP_Conv && !n->nbody && n->ncore <= 4 && n->out[0]->dt == DT_F32 && (!scale || scale->data);
}

/* Read by convolutions only, as their weights. */
static bool is_weight(const Value *v) {
  if (!value_is_const(v) || v->dt != DT_F32 || v->is_output || v->uses.n == 0) return false;
  if (v->shape.rank < 3 || value_count(v) < ELEMENTS_MIN) return false;
  for (int i = 0; i < v->uses.n; i++)
    if (v->uses.at[i].slot != WEIGHT || !can_scale(v->uses.at[i].node)) return false;
  return true;
}

static int64_t zero_channels(const Candidate *c) {
  int64_t zeros = 0;
  for (int64_t k = 0; k < c->channels; k++) {
    int64_t i = 0;
    while (i < c->volume && channel(c, k)[i] == 0) i++;
    zeros += i == c->volume;
  }
  return zeros;
}

static int collect(const Graph *g, Candidate *c) {
  int n = 0;
  for (int i = 0; i < g->values.n; i++) {
    Value *v = g->values.at[i];
    if (!is_weight(v)) continue;
    Candidate x = {.w = v, .channels = v->shape.d[0].n, .volume = shape_count_from(&v->shape, 1)};
    x.zeros = zero_channels(&x);
    int at = n++;
    for (; at > 0 && c[at - 1].zeros > x.zeros; at--) c[at] = c[at - 1];
    c[at] = x;
  }
  return n;
}

/* ---- ratios ---- */

/* b = ratio * a for n elements, each to within `slack` times the tolerance. */
static bool fit(const float *a, const float *b, int64_t n, double slack, float *ratio) {
  double aa = 0, ab = 0;
  for (int64_t i = 0; i < n; i++) {
    aa += (double)a[i] * a[i];
    ab += (double)a[i] * b[i];
  }
  *ratio = aa > 0 ? (float)(ab / aa) : 1;
  if (!isfinite(*ratio)) return false;
  double r = *ratio, tiny = (double)FLT_TRUE_MIN * (1 + fabs(r));   /* below the normal numbers rounding is absolute */
  for (int64_t i = 0; i < n; i++)
    if (!(fabs(b[i] - r * a[i]) <= slack * (TOLERANCE * fabs((double)b[i]) + tiny))) return false;
  return true;
}

static bool ratios(const Candidate *a, const Candidate *b, float *ratio) {
  if (!fit(channel(a, 0), channel(b, 0), MINI(a->volume, PROBE), 16, ratio)) return false;
  for (int64_t k = 0; k < a->channels; k++)
    if (!fit(channel(a, k), channel(b, k), a->volume, 1, &ratio[k])) return false;
  return true;
}

/* ---- rewriting ---- */

static Value *scale_value(Graph *g, const Value *old, const float *ratio, int64_t channels) {
  bool needed = false;
  float *s = NEW_N(g->arena, float, channels);
  for (int64_t k = 0; k < channels; k++) {
    s[k] = old ? ((const float *)old->data)[k] * ratio[k] : ratio[k];
    needed |= s[k] != 1;
  }
  Shape shape = shape_of(1, &channels);
  return needed ? graph_add_const(g, NULL, DT_F32, &shape, s) : NULL;
}

/* The convolutions of b read a, scaled. */
static void share(Graph *g, const Candidate *a, const Candidate *b, const float *ratio) {
  while (b->w->uses.n) {
    Node *n = b->w->uses.at[0].node;
    Value *in[] = {n->in[0], a->w, n->ncore > BIAS ? n->in[BIAS] : NULL, n->ncore > SCALE ? n->in[SCALE] : NULL};
    in[SCALE] = scale_value(g, in[SCALE], ratio, a->channels);
    int nin = in[SCALE] ? 4 : in[BIAS] ? 3 : 2;
    graph_set_inputs(g, n, in, nin, nin);
  }
}

/* ---- order ---- */

typedef struct Order {
  Node **node;           /* in the old order */
  int n;
  int *at;               /* place in node[] by node id */
  int *waits;            /* operands not listed yet, by place */
  bool *done, *grouped;
  int *list, listed;     /* the new order, as places */
} Order;

/* The weights of n, if they are large, and several convolutions, and nobody else, read them. */
static const Value *weights_of(const Node *n) {
  const Value *w = n->op == OP_Conv ? n->in[WEIGHT] : NULL;
  if (!value_is_const(w) || value_bytes(w) < GATHER_BYTES || w->uses.n < 2) return NULL;
  for (int i = 0; i < w->uses.n; i++)
    if (w->uses.at[i].node->op != OP_Conv || w->uses.at[i].slot != WEIGHT) return NULL;
  return w;
}

/* Whether a reader of these weights needs another one's result: then there is nothing to wait for. */
static bool dependent(const Order *o, const Value *w, bool *mark) {
  int first = o->n, last = 0;
  for (int i = 0; i < o->n; i++) mark[i] = false;
  for (int i = 0; i < w->uses.n; i++) {
    int p = o->at[w->uses.at[i].node->id];
    mark[p] = true;
    first = MINI(first, p);
    last = MAXI(last, p);
  }
  for (int p = first; p <= last; p++) {
    const Node *n = o->node[p];
    bool after = false;
    for (int i = 0; i < n->nin && !after; i++) after = n->in[i] && n->in[i]->def && mark[o->at[n->in[i]->def->id]];
    if (!after) continue;
    if (weights_of(n) == w) return true;
    mark[p] = true;
  }
  return false;
}

static Order order_new(Graph *g) {
  Order o = {0};
  for (const Node *n = g->first; n; n = n->next) o.n++;
  o.node = NEW_N(g->arena, Node *, o.n + 1);
  o.at = NEW_N(g->arena, int, g->next_node_id + 1);
  o.waits = NEW_N(g->arena, int, o.n + 1);
  o.done = NEW_N(g->arena, bool, o.n + 1);
  o.grouped = NEW_N(g->arena, bool, o.n + 1);
  o.list = NEW_N(g->arena, int, o.n + 1);
  int p = 0;
  for (Node *n = g->first; n; n = n->next, p++) {
    o.node[p] = n;
    o.at[n->id] = p;
    for (int i = 0; i < n->nin; i++) o.waits[p] += n->in[i] && n->in[i]->def;
  }
  bool *mark = NEW_N(g->arena, bool, o.n + 1);
  for (p = 0; p < o.n; p++) {
    const Value *w = weights_of(o.node[p]);
    if (w && o.at[w->uses.at[0].node->id] == p && !dependent(&o, w, mark))
      for (int i = 0; i < w->uses.n; i++) o.grouped[o.at[w->uses.at[i].node->id]] = true;
  }
  return o;
}

static void list(Order *o, int p) {
  const Node *n = o->node[p];
  o->done[p] = true;
  o->list[o->listed++] = p;
  for (int i = 0; i < n->nout; i++)
    for (int u = 0; u < n->out[i]->uses.n; u++) o->waits[o->at[n->out[i]->uses.at[u].node->id]]--;
}

static bool ready(const Order *o, int p) { return !o->done[p] && o->waits[p] == 0; }

/* All that share p's weights could be listed, or are. */
static bool all_ready(const Order *o, int p) {
  const Value *w = o->node[p]->in[WEIGHT];
  for (int i = 0; i < w->uses.n; i++) {
    int q = o->at[w->uses.at[i].node->id];
    if (!o->done[q] && o->waits[q]) return false;
  }
  return true;
}

static int next_node(const Order *o, int from) {
  int first = -1;
  for (int p = from; p < o->n; p++) {
    if (!ready(o, p)) continue;
    if (!o->grouped[p] || all_ready(o, p)) return p;
    if (first < 0) first = p;
  }
  return first;
}

static bool gather(Graph *g) {
  Order o = order_new(g);
  bool changed = false;
  for (int from = 0; o.listed < o.n;) {
    while (o.done[from]) from++;
    int p = next_node(&o, from);
    list(&o, p);
    const Value *w = o.grouped[p] ? o.node[p]->in[WEIGHT] : NULL;
    for (int q = from; w && q < o.n; q++)
      if (o.grouped[q] && ready(&o, q) && o.node[q]->in[WEIGHT] == w) list(&o, q);
  }
  for (int i = 0; i < o.n; i++) changed |= o.list[i] != i;
  for (int i = 0; i < o.n && changed; i++) graph_move_before(g, o.node[o.list[i]], NULL);
  return changed;
}

bool pass_share_weights(Graph *g, Ctx *c) {
  Candidate *all = NEW_N(g->arena, Candidate, MAXI(g->values.n, 1));
  int n = collect(g, all), copies = 0;
  int64_t bytes = 0;
  for (int i = 0; i < n; i++) {
    if (all[i].taken) continue;
    float *ratio = NEW_N(g->arena, float, all[i].channels);
    for (int j = i + 1; j < n; j++) {
      if (all[j].taken || !shape_equal(&all[i].w->shape, &all[j].w->shape) || !ratios(&all[i], &all[j], ratio)) continue;
      bytes += (int64_t)value_bytes(all[j].w);
      share(g, &all[i], &all[j], ratio);
      all[j].taken = true;
      copies++;
    }
  }
  pass_applied(c, copies);
  if (bytes) pass_count(c, "share_weights", "bytes of weights shared", bytes);
  bool moved = gather(g);
  return copies > 0 || moved;
}
