/* memory.c: gives every arena and scratch buffer its offset in the workspace.
 *
 *   1. live ranges   from the first to the last call that has the buffer as an argument
 *   2. in place      where a kernel allows an input's memory to become its output's (both may_alias), the input dies there and the sizes
 *                    are equal, the two are one block
 *   3. offsets       several greedy orders (size, area, lifetime, start; the breadth of calls as in Pisarchyk and Lee, "Efficient Memory
 *                    Management for Deep Neural Net Inference", 2020), each block at the lowest gap that fits or the tightest; then the
 *                    best order is improved by moving the block that ends highest before others. The smallest workspace wins; the
 *                    search ends early when it meets the lower bound.
 *   4. check         no two blocks that live at the same time overlap
 *
 * All decisions follow from sizes and positions, so the same program gets the same plan.
 */
#include "passes.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64
#define ROUND_UP(n) (((n) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT)
#define SEARCH_WORK 40000000   /* steps the improvement may spend */
#define PAIRS_MAX 4000000      /* of blocks that meet, above which there is none */

typedef struct Piece {
  int64_t size, exact;      /* rounded up; as asked for */
  int first, last;
  int64_t offset;
} Piece;

typedef struct Plan {
  Program *p;
  Arena *a;                 /* scratch */
  int *block_of;            /* by buffer; -1: not in the workspace */
  Piece *block;
  int n;
  int64_t *live;            /* by call: bytes alive, rounded */
} Plan;

NORETURN static void broken(Program *p, const char *what) {
  Fail *f = arena_fail(p->arena);
  Status s = diag_error(f ? f->diag : NULL, SPINEC_ERR_INTERNAL, NULL, "this is a mistake in spinec, please report it", "memory: %s", what);
  if (!f) abort();
  f->status = s;
  longjmp(f->env, 1);
}

static bool in_workspace(const Buffer *b) { return b->kind == BUF_ARENA || b->kind == BUF_SCRATCH; }

/* ---- 1. live ranges ---- */

static void live_ranges(Program *p) {
  for (int i = 0; i < p->buffers.n; i++) p->buffers.at[i].first = p->buffers.at[i].last = -1;
  for (int t = 0; t < p->calls.n; t++) {
    const Call *c = &p->calls.at[t];
    for (int i = 0; i < c->kernel->params.n; i++) {
      Buffer *b = &p->buffers.at[c->args[i].buffer];
      if (b->first < 0) b->first = t;
      b->last = t;
    }
  }
}

/* ---- 2. in place ---- */

/* The buffer of parameter i, if the kernel lets it share and it is an argument of the call once, from its start. */
static int may_share(const Program *p, const Call *c, int i) {
  int buffer = c->args[i].buffer;
  const Buffer *b = &p->buffers.at[buffer];
  if (!c->kernel->params.at[i]->may_alias || b->kind != BUF_ARENA || c->args[i].offset != 0 || b->bytes == 0) return -1;
  for (int j = 0; j < c->kernel->params.n; j++)
    if (j != i && c->args[j].buffer == buffer) return -1;
  return buffer;
}

/* root[b]: the first buffer of the memory b has; b itself unless it takes over another's. Calls go forward, so a dying input's root is
 * known by then. */
static int *share_in_place(const Program *p, Arena *a) {
  int *root = NEW_N(a, int, p->buffers.n);
  for (int i = 0; i < p->buffers.n; i++) root[i] = i;
  for (int t = 0; t < p->calls.n; t++) {
    const Call *c = &p->calls.at[t];
    int n = c->kernel->params.n;
    bool *taken = NEW_N(a, bool, n);
    for (int o = 0; o < n; o++) {
      int out = c->kernel->params.at[o]->access == ACCESS_OUT ? may_share(p, c, o) : -1;
      if (out < 0 || p->buffers.at[out].first != t) continue;
      for (int i = 0; i < n && root[out] == out; i++) {
        int in = c->kernel->params.at[i]->access == ACCESS_IN && !taken[i] ? may_share(p, c, i) : -1;
        if (in < 0 || p->buffers.at[in].last != t || p->buffers.at[in].bytes != p->buffers.at[out].bytes) continue;
        root[out] = root[in];
        taken[i] = true;
      }
    }
  }
  return root;
}

static void make_blocks(Plan *m) {
  Program *p = m->p;
  int *root = share_in_place(p, m->a);
  m->block_of = NEW_N(m->a, int, p->buffers.n);
  m->block = NEW_N(m->a, Piece, p->buffers.n);
  for (int i = 0; i < p->buffers.n; i++) {
    Buffer *b = &p->buffers.at[i];
    m->block_of[i] = -1;
    if (!in_workspace(b)) continue;
    b->offset = 0;
    b->stride = b->kind == BUF_SCRATCH ? ROUND_UP(b->bytes) : 0;
    if (b->first < 0 || b->bytes == 0 || root[i] != i) continue;
    int64_t bytes = b->kind == BUF_SCRATCH ? b->stride * p->max_threads : b->bytes;
    m->block[m->n] = (Piece){.size = ROUND_UP(bytes), .exact = bytes, .first = b->first, .last = b->last};
    m->block_of[i] = m->n++;
  }
  for (int i = 0; i < p->buffers.n; i++) {
    if (root[i] == i) continue;
    m->block_of[i] = m->block_of[root[i]];
    Piece *b = &m->block[m->block_of[i]];
    b->last = MAXI(b->last, p->buffers.at[i].last);
  }
}

/* Fills live[] with the bytes of blocks alive at each call; gives the largest. */
static int64_t live_set(const Plan *m, int64_t *live, bool exact) {
  int calls = m->p->calls.n;
  memset(live, 0, (size_t)(calls + 1) * sizeof *live);
  for (int i = 0; i < m->n; i++) {
    int64_t size = exact ? m->block[i].exact : m->block[i].size;
    live[m->block[i].first] += size;
    live[m->block[i].last + 1] -= size;
  }
  int64_t most = 0;
  for (int t = 0; t < calls; t++) {
    if (t) live[t] += live[t - 1];
    most = MAXI(most, live[t]);
  }
  return most;
}

/* ---- 3. offsets ---- */

typedef enum { ORDER_SIZE, ORDER_AREA, ORDER_BREADTH, ORDER_LIFETIME, ORDER_START, ORDER_COUNT } Order;
typedef struct Key { double major, minor; int block; } Key;   /* larger first; then the order of blocks */

static int compare_keys(const void *a, const void *b) {
  const Key *x = a, *y = b;
  if (x->major != y->major) return x->major > y->major ? -1 : 1;
  if (x->minor != y->minor) return x->minor > y->minor ? -1 : 1;
  return x->block - y->block;
}

static Key key_of(const Plan *m, Order o, int i) {
  const Piece *b = &m->block[i];
  double size = (double)b->size, length = b->last - b->first + 1;
  switch (o) {
  case ORDER_SIZE: return (Key){size, length, i};
  case ORDER_AREA: return (Key){size * length, size, i};
  case ORDER_LIFETIME: return (Key){length, size, i};
  case ORDER_START: return (Key){-b->first, size, i};
  case ORDER_BREADTH: {
    int64_t most = 0;
    for (int t = b->first; t <= b->last; t++) most = MAXI(most, m->live[t]);
    return (Key){(double)most, size, i};
  }
  case ORDER_COUNT: break;
  }
  return (Key){0, 0, i};
}

static void sort_blocks(const Plan *m, Order o, int *order) {
  ArenaMark mark = arena_mark(m->a);
  Key *key = NEW_N(m->a, Key, m->n);
  for (int i = 0; i < m->n; i++) key[i] = key_of(m, o, i);
  if (m->n) qsort(key, (size_t)m->n, sizeof *key, compare_keys);
  for (int i = 0; i < m->n; i++) order[i] = key[i].block;
  arena_release(m->a, mark);
}

static bool meet(const Piece *a, const Piece *b) { return a->first <= b->last && b->first <= a->last; }

/* Where b goes beside n blocks that live with it, given by offset: the lowest gap that fits, or the tightest. */
static int64_t lowest_gap(const Plan *m, const Piece *b, const int *near, int n, bool tightest) {
  int64_t end = 0, at = -1, slack = INT64_MAX;
  for (int i = 0; i < n; i++) {
    const Piece *o = &m->block[near[i]];
    int64_t gap = o->offset - end - b->size;
    if (gap >= 0 && gap < slack) {
      at = end;
      slack = gap;
      if (!tightest) break;
    }
    end = MAXI(end, o->offset + o->size);
  }
  return at >= 0 ? at : end;
}

/* Offsets for the blocks in this order; gives the bytes needed, and stops above `limit`. placed, near: scratch for m->n. */
static int64_t place(Plan *m, const int *order, bool tightest, int *placed, int *near, int64_t limit) {
  int64_t top = 0;
  for (int k = 0; k < m->n; k++) {
    Piece *b = &m->block[order[k]];
    int n = 0, j = k;
    for (int i = 0; i < k; i++)
      if (meet(b, &m->block[placed[i]])) near[n++] = placed[i];
    b->offset = lowest_gap(m, b, near, n, tightest);
    top = MAXI(top, b->offset + b->size);
    if (top > limit) return top;
    for (; j > 0 && m->block[placed[j - 1]].offset > b->offset; j--) placed[j] = placed[j - 1];
    placed[j] = order[k];
  }
  return top;
}

static void keep(const Plan *m, int64_t *best) {
  for (int i = 0; i < m->n; i++) best[i] = m->block[i].offset;
}

/* ---- improving an order ---- */

typedef struct Search {
  Plan *m;
  bool tightest;
  int *start, *meets;       /* blocks that live with block i: meets[start[i]] .. meets[start[i + 1] - 1] */
  int *order, *rank;        /* rank[order[k]] == k */
  int *near;                /* scratch: placed neighbours of a block, by offset */
  int64_t *saved;           /* offsets to go back to */
  uint32_t random;
  int64_t work;
} Search;

/* The lists of blocks that meet; false when they are too long to be worth it. */
static bool find_meetings(Search *s, int *by_start) {
  const Plan *m = s->m;
  sort_blocks(m, ORDER_START, by_start);
  int64_t pairs = 0;
  s->start = NEW_N(m->a, int, m->n + 1);
  for (int pass = 0; pass < 2; pass++) {
    for (int i = 0; i < m->n; i++)
      for (int j = i + 1; j < m->n && m->block[by_start[j]].first <= m->block[by_start[i]].last; j++) {
        int a = by_start[i], b = by_start[j];
        if (pass == 0) {
          s->start[a]++;
          s->start[b]++;
          if (++pairs > PAIRS_MAX) return false;
        } else {
          s->meets[--s->start[a]] = b;
          s->meets[--s->start[b]] = a;
        }
      }
    if (pass) break;
    for (int i = 0; i < m->n; i++) s->start[i + 1] += s->start[i];
    s->meets = NEW_N(m->a, int, 2 * pairs);
  }
  return true;
}

/* As place(), for the blocks from position `from` on; those before stay. */
static int64_t place_from(Search *s, int from) {
  Plan *m = s->m;
  int64_t top = 0;
  for (int k = 0; k < from; k++) top = MAXI(top, m->block[s->order[k]].offset + m->block[s->order[k]].size);
  for (int k = from; k < m->n; k++) {
    int x = s->order[k], n = 0;
    Piece *b = &m->block[x];
    for (int e = s->start[x]; e < s->start[x + 1]; e++) {
      int y = s->meets[e], i = n;
      if (s->rank[y] >= k) continue;
      for (; i > 0 && m->block[s->near[i - 1]].offset > m->block[y].offset; i--) s->near[i] = s->near[i - 1];
      s->near[i] = y;
      n++;
      s->work += n - i;
    }
    s->work += 2 + s->start[x + 1] - s->start[x];
    b->offset = lowest_gap(m, b, s->near, n, s->tightest);
    top = MAXI(top, b->offset + b->size);
  }
  return top;
}

static uint32_t next_random(Search *s) {   /* xorshift32 */
  s->random ^= s->random << 13;
  s->random ^= s->random >> 17;
  s->random ^= s->random << 5;
  return s->random;
}

static void move_block(Search *s, int from, int to) {
  int x = s->order[from];
  if (from > to) memmove(&s->order[to + 1], &s->order[to], (size_t)(from - to) * sizeof *s->order);
  else memmove(&s->order[from], &s->order[from + 1], (size_t)(to - from) * sizeof *s->order);
  s->order[to] = x;
  for (int k = MINI(from, to); k <= MAXI(from, to); k++) s->rank[s->order[k]] = k;
}

/* Where in the order to put the block that ends highest (*from): in front of one it lives with, or of one that lives with such a one. */
static int choose_move(Search *s, int *from) {
  const Plan *m = s->m;
  int peak = 0, ties = 0;
  int64_t top = -1;
  for (int i = 0; i < m->n; i++) {
    int64_t end = m->block[i].offset + m->block[i].size;
    if (end < top || (end == top && next_random(s) % (uint32_t)++ties)) continue;
    if (end > top) ties = 1;
    top = end;
    peak = i;
  }
  int x = peak;
  *from = s->rank[peak];
  for (int hop = 1 + (next_random(s) % 4 == 0); hop > 0; hop--) {
    int n = s->start[x + 1] - s->start[x];
    if (n == 0) return *from;
    x = s->meets[s->start[x] + (int)(next_random(s) % (uint32_t)n)];
  }
  return s->rank[x];
}

/* Threshold accepting (Dueck and Scheuer 1990): a new order is kept if it needs hardly more than the last; how much more shrinks to
 * nothing. Fills best with the offsets of the smallest workspace seen. */
static int64_t improve(Search *s, int64_t top, int64_t bound, int64_t *best) {
  Plan *m = s->m;
  for (int k = 0; k < m->n; k++) s->rank[s->order[k]] = k;
  int64_t now = place_from(s, 0);
  s->work = 0;
  while (top > bound && s->work < SEARCH_WORK) {
    int from, to = choose_move(s, &from);
    s->work += m->n;
    if (from == to) continue;
    keep(m, s->saved);
    move_block(s, from, to);
    int64_t next = place_from(s, MINI(from, to));
    double slack = 0.02 * (double)bound * (1 - (double)s->work / SEARCH_WORK);
    if ((double)next > (double)now + MAXI(slack, 0)) {
      move_block(s, to, from);
      for (int i = 0; i < m->n; i++) m->block[i].offset = s->saved[i];
      continue;
    }
    now = next;
    if (now < top) {
      top = now;
      keep(m, best);
    }
  }
  return top;
}

static int64_t choose_offsets(Plan *m, int64_t bound) {
  int *order = NEW_N(m->a, int, m->n), *best_order = NEW_N(m->a, int, m->n), *placed = NEW_N(m->a, int, m->n),
      *near = NEW_N(m->a, int, m->n);
  int64_t *best = NEW_N(m->a, int64_t, m->n), top = INT64_MAX;
  Search s = {.m = m, .order = best_order, .rank = placed, .near = near, .random = 2463534242u};
  for (int o = 0; o < 2 * ORDER_COUNT && top > bound; o++) {
    bool tightest = o % 2;
    sort_blocks(m, (Order)(o / 2), order);
    int64_t t = place(m, order, tightest, placed, near, top);
    if (t >= top) continue;
    top = t;
    s.tightest = tightest;
    memcpy(best_order, order, (size_t)m->n * sizeof *order);
    keep(m, best);
  }
  s.saved = NEW_N(m->a, int64_t, m->n);
  if (top > bound && find_meetings(&s, order)) top = improve(&s, top, bound, best);
  for (int i = 0; i < m->n; i++) m->block[i].offset = best[i];
  return top;
}

/* ---- 4. check ---- */

static void check(const Plan *m, int64_t top) {
  int *order = NEW_N(m->a, int, m->n);
  sort_blocks(m, ORDER_START, order);
  for (int i = 0; i < m->n; i++) {
    const Piece *a = &m->block[order[i]];
    if (a->offset < 0 || a->offset % ALIGNMENT || a->offset + a->size > top) broken(m->p, "a block is outside the workspace");
    for (int j = i + 1; j < m->n && m->block[order[j]].first <= a->last; j++) {
      const Piece *b = &m->block[order[j]];
      if (a->offset < b->offset + b->size && b->offset < a->offset + a->size) broken(m->p, "two blocks overlap");
    }
  }
}

bool pass_memory(Program *p, Ctx *c) {
  ArenaMark mark = arena_mark(p->arena);
  Plan m = {.p = p, .a = p->arena};
  live_ranges(p);
  make_blocks(&m);
  m.live = NEW_N(m.a, int64_t, p->calls.n + 1);
  p->live_bytes = live_set(&m, m.live, true);
  int64_t bound = live_set(&m, m.live, false);
  p->workspace_bytes = m.n ? choose_offsets(&m, bound) : 0;
  check(&m, p->workspace_bytes);
  program_layout_weights(p);
  for (int i = 0; i < p->buffers.n; i++)
    if (m.block_of[i] >= 0) p->buffers.at[i].offset = m.block[m.block_of[i]].offset;
  int shared = 0;
  for (int i = 0; i < p->buffers.n; i++) shared += m.block_of[i] >= 0;
  shared -= m.n;
  arena_release(p->arena, mark);
  pass_count(c, "memory", "buffers in place", shared);
  pass_count(c, "memory", "workspace bytes", p->workspace_bytes);
  pass_count(c, "memory", "live bytes", p->live_bytes);
  return true;
}
