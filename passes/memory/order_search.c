/* order_search.c: an order of calls with the smallest peak of memory.
 *
 * A state is the set of calls done: what is alive after them does not depend on their order. States are visited by their peak so far, the
 * smallest first (Dijkstra's algorithm with the maximum in place of the sum), so the first complete one has the smallest peak there is. Two
 * rules keep the states few:
 *
 *   dominance   of two ways to the same set, the one of the smaller peak is kept
 *   free calls  a call that does not raise the peak and leaves no more alive than before is done at once. Any completion can be changed to
 *               begin with it: until where it stood, no more is alive than was (what it makes is there earlier, but what dies with it dies
 *               earlier too, and the more the later), and afterwards all is the same.
 *
 * Where there are too many states, a beam search over the same moves (the best few sets of each size) gives an order that is good but not
 * proven. Work is counted, not timed, so the same program gets the same order.
 */
#include "memory.h"

#include <stdlib.h>
#include <string.h>

#define SEARCH_WORK 60000000   /* steps, some nanoseconds each */
#define BEAM_WORK 60000000
#define STATES_MAX 100000
#define BEAM 64

/* ---- memory after some calls ---- */

void sim_start(Sim *s, const Tasks *k) {
  *s = (Sim){.k = k, .left = NEW_N(k->a, int, k->nsegs), .wait = NEW_N(k->a, int, k->n)};
  sim_reset(s);
}

void sim_reset(Sim *s) {
  const Tasks *k = s->k;
  memcpy(s->left, k->touches, (size_t)k->nsegs * sizeof *s->left);
  for (int t = 0; t < k->n; t++) s->wait[t] = k->pred_of[t + 1] - k->pred_of[t];
  s->live = s->peak = 0;
}

static bool all_fresh(const Sim *s, int lo, int hi) {
  for (int i = lo; i < hi; i++)
    if (s->left[i] != s->k->touches[i]) return false;
  return true;
}

static bool all_ending(const Sim *s, int lo, int hi) {
  for (int i = lo; i < hi; i++)
    if (s->left[i] != 1) return false;
  return true;
}

#define PARTNERS 8

/* Bytes results take over from operands, each from one that no other has. */
static int64_t shared_bytes(const Sim *s, int t) {
  const Tasks *k = s->k;
  const struct TaskShare *used[PARTNERS];
  int n = 0;
  int64_t saved = 0;
  for (int i = k->share_of[t]; i < k->share_of[t + 1] && n < PARTNERS; i++) {
    const struct TaskShare *x = &k->share[i];
    bool taken = false;
    for (int j = 0; j < n; j++) taken |= used[j]->in_lo == x->in_lo || used[j]->out_lo == x->out_lo;
    if (taken || !all_fresh(s, x->out_lo, x->out_hi) || !all_ending(s, x->in_lo, x->in_hi)) continue;
    saved += x->bytes;
    used[n++] = x;
  }
  return saved;
}

Step sim_try(const Sim *s, int t) {
  const Tasks *k = s->k;
  int64_t born = 0, dead = 0;
  for (int i = k->seg_of[t]; i < k->seg_of[t + 1]; i++) {
    int g = k->seg[i];
    if (s->left[g] == k->touches[g]) born += k->bytes[g];
    if (s->left[g] == 1) dead += k->bytes[g];
  }
  return (Step){s->live + born - shared_bytes(s, t), s->live + born - dead};
}

void sim_do(Sim *s, int t) {
  const Tasks *k = s->k;
  Step x = sim_try(s, t);
  s->peak = MAXI(s->peak, x.during);
  s->live = x.after;
  for (int i = k->seg_of[t]; i < k->seg_of[t + 1]; i++) s->left[k->seg[i]]--;
  for (int i = k->succ_of[t]; i < k->succ_of[t + 1]; i++) s->wait[k->succ[i]]--;
  s->wait[t] = -1;
}

int64_t order_peak(Sim *s, const int *order) {
  sim_reset(s);
  for (int i = 0; i < s->k->n; i++) sim_do(s, order[i]);
  return s->peak;
}

int64_t tasks_bound(const Tasks *k) {
  int64_t bound = 0;
  for (int t = 0; t < k->n; t++) {
    int64_t sum = 0, most = 0;
    for (int i = k->seg_of[t]; i < k->seg_of[t + 1]; i++) sum += k->bytes[k->seg[i]];
    for (int i = k->share_of[t]; i < k->share_of[t + 1]; i++) most += k->share[i].bytes;
    bound = MAXI(bound, sum - most);
  }
  return bound;
}

/* ---- states ---- */

typedef struct Done Done;
struct Done { int call; const Done *before; };   /* calls done, the last first */

typedef struct State {
  uint64_t *set;           /* of calls done */
  int64_t peak, live;
  int count;
  const Done *last;
} State;

typedef struct Search {
  const Tasks *k;
  Arena *a;
  int words;
  Sim sim;
  int64_t limit;           /* peaks must stay below */
  int *ready;              /* scratch of expand */
  struct Saved { int *left, *wait; int64_t live, peak; } parent;   /* the state being expanded */
  State *state;
  int n, cap;
  int *slot;               /* hash table of states by set; -1: free */
  int nslots;
  int *heap, nheap;
  int64_t work;
} Search;

static bool has(const uint64_t *set, int t) { return set[t / 64] >> (t % 64) & 1; }
static void add(uint64_t *set, int t) { set[t / 64] |= (uint64_t)1 << (t % 64); }

static uint64_t hash_set(const uint64_t *set, int words) {
  uint64_t h = 0x9e3779b97f4a7c15u;
  for (int i = 0; i < words; i++) {
    h = (h ^ set[i]) * 0xff51afd7ed558ccdu;
    h ^= h >> 32;
  }
  return h;
}

/* Sets the simulation to a state. */
static void load(Search *s, const State *x) {
  const Tasks *k = s->k;
  sim_reset(&s->sim);
  for (int t = 0; t < k->n; t++) {
    if (!has(x->set, t)) continue;
    for (int i = k->seg_of[t]; i < k->seg_of[t + 1]; i++) s->sim.left[k->seg[i]]--;
    for (int i = k->succ_of[t]; i < k->succ_of[t + 1]; i++) s->sim.wait[k->succ[i]]--;
    s->sim.wait[t] = -1;
  }
  s->sim.live = x->live;
  s->sim.peak = x->peak;
  s->work += k->n / 8 + k->nsegs / 8 + x->count * 8;
  memcpy(s->parent.left, s->sim.left, (size_t)k->nsegs * sizeof(int));
  memcpy(s->parent.wait, s->sim.wait, (size_t)k->n * sizeof(int));
  s->parent.live = x->live;
  s->parent.peak = x->peak;
}

/* Back to the state loaded last. */
static void reload(Search *s) {
  memcpy(s->sim.left, s->parent.left, (size_t)s->k->nsegs * sizeof(int));
  memcpy(s->sim.wait, s->parent.wait, (size_t)s->k->n * sizeof(int));
  s->sim.live = s->parent.live;
  s->sim.peak = s->parent.peak;
  s->work += s->k->n / 8 + s->k->nsegs / 8;
}

static void advance(Search *s, State *x, int t) {
  sim_do(&s->sim, t);
  add(x->set, t);
  Done *d = NEW(s->a, Done);
  *d = (Done){t, x->last};
  x->last = d;
  x->count++;
  x->peak = s->sim.peak;
  x->live = s->sim.live;
}

/* Does all free calls. */
static void close_state(Search *s, State *x) {
  bool any = true;
  while (any) {
    any = false;
    for (int t = 0; t < s->k->n; t++) {
      if (s->sim.wait[t]) continue;
      Step step = sim_try(&s->sim, t);
      s->work += 8;
      if (step.during > x->peak || step.after > x->live) continue;
      advance(s, x, t);
      any = true;
    }
    s->work += s->k->n / 8;
  }
}

/* x with t done; x is loaded. */
static State child_of(Search *s, const State *x, int t) {
  State y = *x;
  y.set = NEW_N(s->a, uint64_t, s->words);
  memcpy(y.set, x->set, (size_t)s->words * sizeof *y.set);
  reload(s);
  advance(s, &y, t);
  close_state(s, &y);
  return y;
}

static State first_state(Search *s) {
  State x = {.set = NEW_N(s->a, uint64_t, s->words)};
  sim_reset(&s->sim);
  close_state(s, &x);
  return x;
}

/* ---- best first ---- */

static bool before(const Search *s, int i, int j) {
  const State *a = &s->state[i], *b = &s->state[j];
  if (a->peak != b->peak) return a->peak < b->peak;
  if (a->count != b->count) return a->count > b->count;
  if (a->live != b->live) return a->live < b->live;
  return i < j;
}

static void heap_push(Search *s, int x) {
  int i = s->nheap++;
  for (; i > 0 && before(s, x, s->heap[(i - 1) / 2]); i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
  s->heap[i] = x;
}

static int heap_pop(Search *s) {
  int top = s->heap[0], x = s->heap[--s->nheap], i = 0;
  for (;;) {
    int c = 2 * i + 1;
    if (c >= s->nheap) break;
    if (c + 1 < s->nheap && before(s, s->heap[c + 1], s->heap[c])) c++;
    if (!before(s, s->heap[c], x)) break;
    s->heap[i] = s->heap[c];
    i = c;
  }
  s->heap[i] = x;
  return top;
}

/* Keeps the state unless its set was reached with no larger peak. */
static void offer(Search *s, const State *x) {
  uint64_t h = hash_set(x->set, s->words);
  int i = (int)(h & (uint64_t)(s->nslots - 1));
  for (; s->slot[i] >= 0; i = (i + 1) & (s->nslots - 1)) {
    const State *y = &s->state[s->slot[i]];
    if (memcmp(y->set, x->set, (size_t)s->words * sizeof *x->set)) continue;
    if (y->peak <= x->peak) return;
    break;   /* the older one stays in the heap: it is visited later, in vain */
  }
  s->slot[i] = s->n;
  s->state[s->n] = *x;
  heap_push(s, s->n++);
}

/* Still the best way to its set. */
static bool current(const Search *s, int n) {
  const State *x = &s->state[n];
  int i = (int)(hash_set(x->set, s->words) & (uint64_t)(s->nslots - 1));
  while (memcmp(s->state[s->slot[i]].set, x->set, (size_t)s->words * sizeof *x->set)) i = (i + 1) & (s->nslots - 1);
  return s->slot[i] == n;
}

static void expand(Search *s, int n) {
  State x = s->state[n];
  load(s, &x);
  int *ready = s->ready, nready = 0;
  for (int t = 0; t < s->k->n; t++)
    if (s->sim.wait[t] == 0 && sim_try(&s->sim, t).during < s->limit) ready[nready++] = t;
  for (int i = 0; i < nready && s->n < s->cap; i++) {
    State y = child_of(s, &x, ready[i]);
    if (y.peak < s->limit) offer(s, &y);
  }
}

/* The complete state of the smallest peak; false: there is none below the limit, or (*gave_up) too many states. */
static bool best_first(Search *s, State *out, bool *gave_up) {
  State x = first_state(s);
  offer(s, &x);
  while (s->nheap) {
    int n = heap_pop(s);
    *out = s->state[n];
    if (out->peak >= s->limit) return false;
    if (out->count == s->k->n) return true;
    if (!current(s, n)) continue;
    if (s->work > SEARCH_WORK || s->n >= s->cap) return *gave_up = true, false;
    expand(s, n);
  }
  return false;
}

/* ---- beam ---- */

static bool better(const State *a, const State *b) {
  if (a->peak != b->peak) return a->peak < b->peak;
  if (a->live != b->live) return a->live < b->live;
  return false;
}

/* The best sets of one size, sorted. */
typedef struct Level { State *at; int n; } Level;

/* Puts x among the at most `width` best; of equal sets the better one stays. */
static void level_add(Search *s, Level *l, const State *x, int width) {
  if (!l->at) l->at = NEW_N(s->a, State, width + 1);
  for (int i = 0; i < l->n; i++) {
    if (memcmp(l->at[i].set, x->set, (size_t)s->words * sizeof *x->set)) continue;
    if (!better(x, &l->at[i])) return;
    memmove(&l->at[i], &l->at[i + 1], (size_t)(l->n - i - 1) * sizeof *l->at);
    l->n--;
    break;
  }
  int at = l->n;
  while (at > 0 && better(x, &l->at[at - 1])) at--;
  if (at >= width) return;
  if (l->n == width) l->n--;
  memmove(&l->at[at + 1], &l->at[at], (size_t)(l->n - at) * sizeof *l->at);
  l->at[at] = *x;
  l->n++;
}

/* Sets are expanded by size; free calls make some skip sizes. */
static bool beam_search(Search *s, int width, State *out) {
  int n = s->k->n;
  Level *level = NEW_N(s->a, Level, n + 1);
  int *ready = NEW_N(s->a, int, n);
  State x = first_state(s);
  level_add(s, &level[x.count], &x, width);
  s->work = 0;
  for (int c = 0; c < n; c++) {
    for (int i = 0; i < level[c].n; i++) {
      int nready = 0;
      if (s->work > BEAM_WORK) return false;
      load(s, &level[c].at[i]);
      for (int t = 0; t < n; t++)
        if (s->sim.wait[t] == 0 && sim_try(&s->sim, t).during < s->limit) ready[nready++] = t;
      for (int j = 0; j < nready; j++) {
        State y = child_of(s, &level[c].at[i], ready[j]);
        if (y.peak < s->limit) level_add(s, &level[y.count], &y, width);
      }
    }
  }
  if (level[n].n) *out = level[n].at[0];
  return level[n].n > 0;
}

/* ---- entry ---- */

bool order_search(const Tasks *k, int64_t limit, int *order, int64_t *peak, bool *proven) {
  Arena *a = k->a;
  Search s = {.k = k, .a = a, .words = (k->n + 63) / 64, .limit = limit, .cap = STATES_MAX, .nslots = 1};
  while (s.nslots < 2 * STATES_MAX) s.nslots *= 2;
  sim_start(&s.sim, k);
  s.parent.left = NEW_N(a, int, k->nsegs);
  s.parent.wait = NEW_N(a, int, k->n);
  s.state = NEW_N(a, State, s.cap);
  s.ready = NEW_N(a, int, k->n);
  s.heap = NEW_N(a, int, s.cap);
  s.slot = NEW_N(a, int, s.nslots);
  for (int i = 0; i < s.nslots; i++) s.slot[i] = -1;
  State best;
  bool gave_up = false, found = best_first(&s, &best, &gave_up);
  *proven = !gave_up;
  for (int width = BEAM; gave_up && !found && width > 0; width /= 4) found = beam_search(&s, width, &best);
  if (!found) return false;
  int i = k->n;
  for (const Done *d = best.last; d; d = d->before) order[--i] = d->call;
  *peak = best.peak;
  return true;
}
