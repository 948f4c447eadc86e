/* order.c: puts the calls in an order in which as little as possible is alive at a time.
 *
 * This is a pass over the program, not the graph: only here is known what calls really need, kernels' scratch, operands whose memory the
 * result takes over, tensors that are views or parts of others, operators that became several kernels or none. It runs before equal
 * kernels become one, which names them in the order of their first calls.
 *
 *   1. what calls touch and what they depend on: they read what was written, and write what nobody is to read any more
 *   2. the least peak (order_search.c), if it is smaller than that of the order given
 *   3. from the order found, the one given is approached call by call, as far as the peak allows: it is the model's (and has convolutions
 *      of the same weights back to back), and has consumers near producers
 *   4. where what is alive cannot be laid out without gaps in that order, others of the same peak
 *
 * The peak is never larger than in the order given, and that order stays where it is as good.
 */
#include "memory.h"

#include <stdlib.h>
#include <string.h>

#define REPAIR_WORK 40000000

/* ---- 1. tasks ---- */

typedef struct Edges { int *to, n, cap; } Edges;   /* of the call under construction */

typedef struct Builder {
  const Program *p;
  Arena *a;
  Segments s;
  int *writer;             /* by segment: the last call that wrote it; -1 */
  struct Reader { int call; struct Reader *next; } **readers;   /* since then */
} Builder;

static void add_int(Arena *a, Edges *e, int x) {
  for (int i = 0; i < e->n; i++)
    if (e->to[i] == x) return;
  if (e->n == e->cap) {
    int cap = e->cap ? 2 * e->cap : 16;
    e->to = arena_grow(a, e->to, (size_t)e->cap * sizeof(int), (size_t)cap * sizeof(int));
    e->cap = cap;
  }
  e->to[e->n++] = x;
}

static bool writes(const Var *v) { return v->access == ACCESS_OUT || v->access == ACCESS_INOUT; }
static bool reads(const Var *v) { return v->access == ACCESS_IN || v->access == ACCESS_INOUT; }

/* What call t depends on because of segment g. */
static void depend(Builder *b, Edges *e, int g, const Var *v, int t) {
  if (b->writer[g] >= 0 && b->writer[g] != t) add_int(b->a, e, b->writer[g]);
  if (!writes(v)) return;
  for (const struct Reader *r = b->readers[g]; r; r = r->next)
    if (r->call != t) add_int(b->a, e, r->call);
}

static void note_access(Builder *b, int g, const Var *v, int t) {
  if (writes(v)) {
    b->writer[g] = t;
    b->readers[g] = NULL;
  }
  if (!reads(v)) return;
  struct Reader *r = NEW(b->a, struct Reader);
  *r = (struct Reader){t, b->readers[g]};
  b->readers[g] = r;
}

typedef void (*EachFn)(Builder *b, Edges *e, int g, const Var *v, int t);

static void each_segment(Builder *b, Edges *e, int t, EachFn fn) {
  const Call *c = &b->p->calls.at[t];
  for (int j = 0; j < c->kernel->params.n; j++)
    for (int g = b->s.lo[c->args[j].buffer]; g < b->s.hi[c->args[j].buffer]; g++) fn(b, e, g, c->kernel->params.at[j], t);
}

static void collect(Builder *b, Edges *e, int g, const Var *v, int t) {
  (void)v;
  (void)t;
  add_int(b->a, e, g);
}

static void note(Builder *b, Edges *e, int g, const Var *v, int t) {
  (void)e;
  note_access(b, g, v, t);
}

/* Lists of all calls, one behind the other: first[t] .. first[t + 1]. */
typedef struct Lists { int *first; Edges all; } Lists;

static void append(Arena *a, Lists *l, int t, const Edges *e) {
  l->first[t] = l->all.n;
  for (int i = 0; i < e->n; i++) {
    Edges *all = &l->all;
    if (all->n == all->cap) {
      int cap = all->cap ? 2 * all->cap : 64;
      all->to = arena_grow(a, all->to, (size_t)all->cap * sizeof(int), (size_t)cap * sizeof(int));
      all->cap = cap;
    }
    all->to[all->n++] = e->to[i];
  }
  l->first[t + 1] = l->all.n;
}

static void fill_successors(Tasks *k) {
  k->succ_of = NEW_N(k->a, int, k->n + 2);
  k->succ = NEW_N(k->a, int, MAXI(1, k->pred_of[k->n]));
  for (int i = 0; i < k->pred_of[k->n]; i++) k->succ_of[k->pred[i] + 2]++;
  for (int t = 0; t < k->n; t++) k->succ_of[t + 2] += k->succ_of[t + 1];
  for (int t = 0; t < k->n; t++)
    for (int i = k->pred_of[t]; i < k->pred_of[t + 1]; i++) k->succ[k->succ_of[k->pred[i] + 1]++] = t;
}

static void fill_shares(Tasks *k, const Program *p, const Segments *s) {
  VEC(struct TaskShare) all = {0};
  k->share_of = NEW_N(k->a, int, k->n + 1);
  for (int t = 0; t < k->n; t++) {
    int params = p->calls.at[t].kernel->params.n;
    Share *share = NEW_N(k->a, Share, MAXI(1, params * params));
    int n = call_shares(p, s, t, share);
    k->share_of[t] = all.n;
    for (int i = 0; i < n; i++) {
      int in = share[i].in, out = share[i].out;
      vec_push(k->a, &all, ((struct TaskShare){s->lo[in], s->hi[in], s->lo[out], s->hi[out], p->buffers.at[in].bytes}));
    }
  }
  k->share_of[k->n] = all.n;
  k->share = all.at;
}

static Tasks tasks_of(const Program *p, Arena *a) {
  Builder b = {.p = p, .a = a, .s = program_segments(p, a)};
  Tasks k = {.a = a, .n = p->calls.n, .nsegs = b.s.n};
  b.writer = NEW_N(a, int, k.nsegs);
  b.readers = NEW_N(a, struct Reader *, k.nsegs);
  k.bytes = NEW_N(a, int64_t, k.nsegs);
  k.touches = NEW_N(a, int, k.nsegs);
  for (int g = 0; g < k.nsegs; g++) {
    b.writer[g] = -1;
    k.bytes[g] = segment_bytes(p, &b.s.at[g]);
  }
  Lists seg = {.first = NEW_N(a, int, k.n + 1)}, pred = {.first = NEW_N(a, int, k.n + 1)};
  Edges e = {0};
  for (int t = 0; t < k.n; t++) {
    e.n = 0;
    each_segment(&b, &e, t, collect);
    for (int i = 0; i < e.n; i++) k.touches[e.to[i]]++;
    append(a, &seg, t, &e);
    e.n = 0;
    each_segment(&b, &e, t, depend);
    each_segment(&b, &e, t, note);
    append(a, &pred, t, &e);
  }
  k.seg = seg.all.to;
  k.seg_of = seg.first;
  k.pred = pred.all.to;
  k.pred_of = pred.first;
  fill_successors(&k);
  fill_shares(&k, p, &b.s);
  return k;
}

/* ---- 3. and 4. other orders of the same peak ---- */

/* Peak of order from position `from` on (where s stands), with the call at position `pick` done first; up to where that call was, behind
 * which all is as it was. */
static bool fits_with(Sim *s, const int *order, int from, int pick, int64_t peak, int64_t *work) {
  int64_t most = 0;
  for (int i = from - 1; i < pick && most <= peak; i++) {
    int t = order[i < from ? pick : i];
    most = MAXI(most, sim_try(s, t).during);
    sim_do(s, t);
  }
  *work += 10 * (pick - from + 1);
  return most <= peak;
}

typedef struct Snapshot { int *left, *wait; int64_t live, peak; } Snapshot;

static void save(const Sim *s, Snapshot *x) {
  memcpy(x->left, s->left, (size_t)s->k->nsegs * sizeof(int));
  memcpy(x->wait, s->wait, (size_t)s->k->n * sizeof(int));
  x->live = s->live;
  x->peak = s->peak;
}

static void restore(Sim *s, const Snapshot *x) {
  memcpy(s->left, x->left, (size_t)s->k->nsegs * sizeof(int));
  memcpy(s->wait, x->wait, (size_t)s->k->n * sizeof(int));
  s->live = x->live;
  s->peak = x->peak;
}

/* Which of the calls that are ready comes first, where the peak allows. */
typedef enum {
  AS_GIVEN,      /* the first of the order given */
  FREES_MEMORY   /* the first of the order so far that leaves less alive than there was; else none changes its place */
} Prefer;

/* The call at position `from` comes at position i. */
static void move_up(int *order, int *at, int from, int i) {
  int t = order[from];
  memmove(&order[i + 1], &order[i], (size_t)(from - i) * sizeof *order);
  order[i] = t;
  for (int j = i; j <= from; j++) at[order[j]] = j;
}

/* order, whose peak is `peak`, with the preferred calls earlier as far as the peak allows. */
static void prefer(const Tasks *k, Sim *s, int *order, int64_t peak, Prefer what) {
  Snapshot start = {NEW_N(k->a, int, k->nsegs), NEW_N(k->a, int, k->n), 0, 0};
  int *at = NEW_N(k->a, int, k->n);   /* position in order */
  int64_t work = 0;
  for (int i = 0; i < k->n; i++) at[order[i]] = i;
  sim_reset(s);
  for (int i = 0; i < k->n; i++) {
    for (int j = what == AS_GIVEN ? 0 : i; j < k->n && work < REPAIR_WORK; j++) {
      int t = what == AS_GIVEN ? j : order[j];
      work++;
      if (s->wait[t] || (what == FREES_MEMORY && sim_try(s, t).after >= s->live)) continue;
      if (at[t] == i) break;
      save(s, &start);
      work += (k->n + k->nsegs) / 4;
      bool ok = fits_with(s, order, i, at[t], peak, &work);
      restore(s, &start);
      if (!ok) continue;
      move_up(order, at, at[t], i);
      break;
    }
    sim_do(s, order[i]);
  }
}

/* ---- the pass ---- */

/* Calls, which are in order `now`, come into order `order`; both by numbers of tasks. */
static void arrange(Program *p, const int *now, const int *order) {
  int n = p->calls.n;
  ArenaMark mark = arena_mark(p->arena);
  Call *by_task = NEW_N(p->arena, Call, n);
  for (int i = 0; i < n; i++) by_task[now[i]] = p->calls.at[i];
  for (int i = 0; i < n; i++) p->calls.at[i] = by_task[order[i]];
  arena_release(p->arena, mark);
}

typedef struct Outcome { int64_t given, peak; bool proven, reordered; } Outcome;

/* Orders of one peak can differ in how well what is alive lies together. Where the calls as they are, in order `order`, leave gaps, others are
 * tried: the one the search found (NULL: none), and both with calls that free memory as early as they can be. */
static void close_gaps(Program *p, const Tasks *k, Sim *s, int *order, const int *found, int64_t peak) {
  int64_t live, least = memory_needed(p, &live);
  int *now = NEW_N(k->a, int, k->n), *other = NEW_N(k->a, int, k->n);
  memcpy(now, order, (size_t)k->n * sizeof *now);
  for (int i = 0; i < 3 && least > live; i++) {
    const int *from = i == 0 ? order : found;
    if (!from) break;
    memcpy(other, from, (size_t)k->n * sizeof *other);
    if (i != 1) prefer(k, s, other, peak, FREES_MEMORY);
    arrange(p, now, other);
    memcpy(now, other, (size_t)k->n * sizeof *now);
    int64_t bytes = memory_needed(p, &live);
    if (bytes >= least) continue;
    least = bytes;
    memcpy(order, other, (size_t)k->n * sizeof *order);
  }
  arrange(p, now, order);
}

static Outcome choose_order(Program *p, const Tasks *k) {
  Outcome o = {.proven = true};
  int *order = NEW_N(k->a, int, k->n), *given = NEW_N(k->a, int, k->n), *found = NEW_N(k->a, int, k->n);
  Sim s;
  sim_start(&s, k);
  for (int t = 0; t < k->n; t++) order[t] = given[t] = t;
  o.given = o.peak = order_peak(&s, order);
  bool better = o.given > tasks_bound(k) && order_search(k, o.given, found, &o.peak, &o.proven);
  if (better) {
    memcpy(order, found, (size_t)k->n * sizeof *order);
    prefer(k, &s, order, o.peak, AS_GIVEN);
    if (order_peak(&s, order) > o.peak) memory_broken(p, "an order has a larger peak than it was found to have");
    arrange(p, given, order);
  }
  close_gaps(p, k, &s, order, better ? found : NULL, o.peak);
  o.reordered = memcmp(order, given, (size_t)k->n * sizeof *order) != 0;
  return o;
}

bool pass_order(Program *p, Ctx *c) {
  if (p->calls.n == 0) return false;
  ArenaMark mark = arena_mark(p->arena);
  Tasks k = tasks_of(p, p->arena);
  Outcome o = choose_order(p, &k);
  arena_release(p->arena, mark);
  p->given_live_bytes = o.given;
  pass_count(c, "order", "peak bytes as given", o.given);
  pass_count(c, "order", "peak bytes", o.peak);
  if (!o.proven) pass_count(c, "order", "peaks not proven least", 1);
  return o.reordered;
}
