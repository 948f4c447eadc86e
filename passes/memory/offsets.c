/* offsets.c: places for blocks that live and die in an otherwise empty workspace, with as little of it as can be found.
 *
 * Several greedy orders (size, area, lifetime, start; the breadth of calls as in Pisarchyk and Lee, "Efficient Memory Management for Deep
 * Neural Net Inference", 2020), each block at the lowest gap that fits or the tightest. Where none of them meets the lower bound, an exact
 * search (offsets_exact.c) for as little as that, and little more; at last the best greedy order is improved by moving the block that ends
 * highest before others. The smallest workspace wins.
 *
 * A block is pieces at fixed distances with lives of their own, so where it may go is found from intervals of offsets at which one of its
 * pieces would lie on a piece of a block already placed.
 *
 * All decisions follow from sizes and positions, so the same program gets the same plan.
 */
#include "memory.h"

#include <stdlib.h>
#include <string.h>

#define SEARCH_WORK 20000000   /* steps the improvement may spend */
#define EXACT_WORK 6000000     /* steps for each try of the exact search */
#define PAIRS_MAX 4000000      /* of blocks that meet, above which there is none */

/* Offsets strictly between lo and hi are taken. */
typedef struct Taken { int64_t lo, hi; } Taken;

typedef struct Plan {
  Arena *a;
  Body *block;
  int n, calls;
  int64_t *live;            /* by call: bytes alive */
  Taken *taken;             /* scratch of lowest_gap */
  int cap_taken;
  int64_t work;
} Plan;

typedef enum { ORDER_SIZE, ORDER_AREA, ORDER_BREADTH, ORDER_LIFETIME, ORDER_START, ORDER_COUNT } Order;
typedef struct Key { double major, minor; int block; } Key;   /* larger first; then the order of blocks */

static int compare_keys(const void *a, const void *b) {
  const Key *x = a, *y = b;
  if (x->major != y->major) return x->major > y->major ? -1 : 1;
  if (x->minor != y->minor) return x->minor > y->minor ? -1 : 1;
  return x->block - y->block;
}

static Key key_of(const Plan *m, Order o, int i) {
  const Body *b = &m->block[i];
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

bool blocks_meet(const Body *a, const Body *b) {
  if (a->last < b->first || b->last < a->first) return false;
  for (int i = 0; i < a->n; i++)
    for (int j = 0; j < b->n; j++)
      if (a->piece[i].first <= b->piece[j].last && b->piece[j].first <= a->piece[i].last) return true;
  return false;
}

/* Adds where b may not lie because of o, to the list sorted by lo. Gives its new length. */
static int add_taken(Plan *m, int n, const Body *b, const Body *o) {
  for (int i = 0; i < b->n; i++) {
    for (int j = 0; j < o->n; j++) {
      const Piece *x = &b->piece[i], *y = &o->piece[j];
      if (x->last < y->first || y->last < x->first) continue;
      Taken t = {o->offset + y->at - x->at - x->size, o->offset + y->at + y->size - x->at};
      if (t.hi <= 0) continue;
      if (n == m->cap_taken) {
        int cap = m->cap_taken ? 2 * m->cap_taken : 256;
        m->taken = arena_grow(m->a, m->taken, (size_t)m->cap_taken * sizeof *m->taken, (size_t)cap * sizeof *m->taken);
        m->cap_taken = cap;
      }
      int k = n++;
      for (; k > 0 && m->taken[k - 1].lo > t.lo; k--) m->taken[k] = m->taken[k - 1];
      m->taken[k] = t;
    }
  }
  return n;
}

/* Where b goes beside n blocks that live with it: the lowest gap that fits, or the tightest. */
static int64_t lowest_gap(Plan *m, const Body *b, const int *near, int n, bool tightest) {
  int64_t end = 0, at = -1, slack = INT64_MAX;
  int taken = 0;
  for (int i = 0; i < n; i++) taken = add_taken(m, taken, b, &m->block[near[i]]);
  m->work += taken;
  for (int i = 0; i < taken; i++) {
    int64_t gap = m->taken[i].lo - end;
    if (gap >= 0 && gap < slack) {
      at = end;
      slack = gap;
      if (!tightest) break;
    }
    end = MAXI(end, ROUND_UP(m->taken[i].hi));
  }
  return at >= 0 ? at : end;
}

/* Offsets for the blocks in this order; gives the bytes needed, and stops above `limit`. placed, near: scratch for m->n. */
static int64_t place(Plan *m, const int *order, bool tightest, int *placed, int *near, int64_t limit) {
  int64_t top = 0;
  for (int k = 0; k < m->n; k++) {
    Body *b = &m->block[order[k]];
    int n = 0, j = k;
    for (int i = 0; i < k; i++)
      if (blocks_meet(b, &m->block[placed[i]])) near[n++] = placed[i];
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
        if (!blocks_meet(&m->block[a], &m->block[b])) continue;
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
    Body *b = &m->block[x];
    for (int e = s->start[x]; e < s->start[x + 1]; e++) {
      int y = s->meets[e], i = n;
      if (s->rank[y] >= k) continue;
      for (; i > 0 && m->block[s->near[i - 1]].offset > m->block[y].offset; i--) s->near[i] = s->near[i - 1];
      s->near[i] = y;
      n++;
      m->work += n - i;
    }
    m->work += 2 + s->start[x + 1] - s->start[x];
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
  m->work = 0;
  while (top > bound && m->work < SEARCH_WORK) {
    int from, to = choose_move(s, &from);
    m->work += m->n;
    if (from == to) continue;
    keep(m, s->saved);
    move_block(s, from, to);
    int64_t next = place_from(s, MINI(from, to));
    double slack = 0.02 * (double)bound * (1 - (double)m->work / SEARCH_WORK);
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

/* ---- exactly ---- */

/* Some blocks have their places (offset >= 0); the others go into the gaps, large ones first. Gives the bytes needed. */
static int64_t fill_gaps(Plan *m, const int64_t *offset, int *order, int *placed, int *near) {
  int n = 0;
  int64_t top = 0;
  for (int pass = 0; pass < 2; pass++) {
    sort_blocks(m, ORDER_SIZE, order);
    for (int k = 0; k < m->n; k++) {
      Body *b = &m->block[order[k]];
      if ((offset[order[k]] < 0) != (pass == 1)) continue;
      int nnear = 0;
      for (int i = 0; i < n && pass; i++)
        if (blocks_meet(b, &m->block[placed[i]])) near[nnear++] = placed[i];
      b->offset = pass ? lowest_gap(m, b, near, nnear, true) : offset[order[k]];
      top = MAXI(top, b->offset + b->size);
      placed[n++] = order[k];
    }
  }
  return top;
}

/* Tries to do with the lower bound, then with a little more; keeps what is better than `top`. */
static int64_t place_exactly(Plan *m, int64_t top, int64_t bound, int64_t *best, int *order, int *placed, int *near) {
  static const double slack[] = {0, 0.004, 0.01, 0.02, 0.04};
  int64_t *offset = NEW_N(m->a, int64_t, m->n);
  for (int i = 0; i < COUNTOF(slack); i++) {
    int64_t limit = ROUND_UP(bound + (int64_t)(slack[i] * (double)bound));
    if (limit >= top) break;
    if (!exact_offsets(m->a, m->block, m->n, m->calls, m->live, limit, EXACT_WORK, offset)) continue;
    int64_t t = fill_gaps(m, offset, order, placed, near);
    if (t < top) {
      top = t;
      keep(m, best);
    }
    if (t <= limit) break;
  }
  return top;
}

static void fill_live(Plan *m) {
  m->live = NEW_N(m->a, int64_t, m->calls + 1);
  for (int i = 0; i < m->n; i++) {
    for (int j = 0; j < m->block[i].n; j++) {
      const Piece *x = &m->block[i].piece[j];
      m->live[x->first] += x->size;
      m->live[x->last + 1] -= x->size;
    }
  }
  for (int t = 1; t < m->calls; t++) m->live[t] += m->live[t - 1];
}

int64_t choose_offsets(Arena *arena, Body *block, int nblocks, int calls, int64_t bound) {
  Plan plan = {.a = arena, .block = block, .n = nblocks, .calls = calls}, *m = &plan;
  fill_live(m);
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
  if (top > bound) top = place_exactly(m, top, bound, best, order, placed, near);
  s.saved = NEW_N(m->a, int64_t, m->n);
  if (top > bound && find_meetings(&s, order)) top = improve(&s, top, bound, best);
  for (int i = 0; i < m->n; i++) m->block[i].offset = best[i];
  return top;
}
