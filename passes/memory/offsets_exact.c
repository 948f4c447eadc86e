/* offsets_exact.c: places for blocks within a given workspace, by exhaustive search.
 *
 * Blocks are placed from the bottom up: each on the highest of those below it, none lower than the one before it (the canonical form of
 * M. Moffitt, "MiniMalloc: A Lightweight Memory Allocator for Hardware-Accelerated Machine Learning", 2023). A branch ends
 *
 *   where at some call what lies there and what is still to be placed there do not fit, or
 *   where a block would be placed although another one fits below it.
 *
 * Only the blocks that live at calls where memory is short are searched for; the others go into the gaps, large ones first. For blocks of
 * several pieces the form loses solutions (nothing is placed into an overhang): then not finding one proves nothing.
 *
 * Work is counted, not timed: the same blocks get the same places.
 */
#include "memory.h"

#include <stdlib.h>
#include <string.h>

#define SHORT 0.7            /* of the workspace is in use: memory is short */
#define ORDERS 3

typedef struct Exact {
  Arena *a;
  const Body *block;
  int calls;
  int64_t limit;
  int *todo, n;              /* blocks searched for, in the order of trying */
  bool *done;                /* by position in todo */
  int64_t *offset;           /* by block */
  int64_t *height, *rest;    /* by call: top of what lies there; bytes still to be placed there */
  int64_t work;              /* left */
} Exact;

/* Lowest place for b on what lies there. */
static int64_t landing(Exact *e, const Body *b, int64_t least) {
  int64_t at = least;
  for (int i = 0; i < b->n; i++) {
    const Piece *x = &b->piece[i];
    for (int t = x->first; t <= x->last; t++) at = MAXI(at, e->height[t] - x->at);
    e->work -= 1 + (x->last - x->first) / 4;
  }
  return ROUND_UP(at);
}

static void count_rest(Exact *e, const Body *b, int sign) {
  for (int i = 0; i < b->n; i++)
    for (int t = b->piece[i].first; t <= b->piece[i].last; t++) e->rest[t] += sign * b->piece[i].size;
}

/* Some call has too little room above what lies there, or above `least`, which is where the next block may begin. */
static bool hopeless(Exact *e, int64_t least) {
  e->work -= e->calls / 4;
  for (int t = 0; t < e->calls; t++)
    if (e->rest[t] && MAXI(e->height[t], least) + e->rest[t] > e->limit) return true;
  return false;
}

static bool search(Exact *e, int64_t least, int placed);

static bool try_block(Exact *e, int i, int64_t at, int placed) {
  const Body *b = &e->block[e->todo[i]];
  int span = b->last - b->first + 1;
  int64_t *saved = malloc((size_t)span * sizeof *saved);
  if (!saved) fail_out_of_memory(arena_fail(e->a));
  memcpy(saved, &e->height[b->first], (size_t)span * sizeof *saved);
  for (int k = 0; k < b->n; k++)
    for (int t = b->piece[k].first; t <= b->piece[k].last; t++) e->height[t] = MAXI(e->height[t], at + b->piece[k].at + b->piece[k].size);
  count_rest(e, b, -1);
  e->done[i] = true;
  e->offset[e->todo[i]] = at;
  bool ok = search(e, at, placed + 1);
  if (!ok) {
    e->done[i] = false;
    count_rest(e, b, 1);
    memcpy(&e->height[b->first], saved, (size_t)span * sizeof *saved);
  }
  free(saved);
  return ok;
}

/* Places all that is left at `least` or above. */
static bool search(Exact *e, int64_t least, int placed) {
  if (placed == e->n) return true;
  if (e->work <= 0 || hopeless(e, least)) return false;
  int64_t below = INT64_MAX;   /* where the block that ends lowest would end */
  int64_t *at = malloc((size_t)e->n * sizeof *at);
  if (!at) fail_out_of_memory(arena_fail(e->a));
  bool ok = true;
  for (int i = 0; i < e->n && ok; i++) {
    if (e->done[i]) continue;
    const Body *b = &e->block[e->todo[i]];
    at[i] = landing(e, b, least);
    below = MINI(below, at[i] + b->size);
    ok = at[i] + b->size <= e->limit;
  }
  bool found = false;
  for (int i = 0; i < e->n && ok && !found && e->work > 0; i++) {
    if (e->done[i] || at[i] >= below) continue;
    found = try_block(e, i, at[i], placed);
  }
  free(at);
  return found;
}

/* ---- the order of trying ---- */

typedef struct Key { double major, minor; int block; } Key;

static int compare_keys(const void *a, const void *b) {
  const Key *x = a, *y = b;
  if (x->major != y->major) return x->major > y->major ? -1 : 1;
  if (x->minor != y->minor) return x->minor > y->minor ? -1 : 1;
  return x->block - y->block;
}

static void sort_todo(Exact *e, int order) {
  Key *key = NEW_N(e->a, Key, e->n);
  for (int i = 0; i < e->n; i++) {
    const Body *b = &e->block[e->todo[i]];
    double size = (double)b->size, length = b->last - b->first + 1;
    int x = e->todo[i];
    key[i] = order == 0 ? (Key){size, length, x} : order == 1 ? (Key){length, size, x} : (Key){size * length, size, x};
  }
  if (e->n) qsort(key, (size_t)e->n, sizeof *key, compare_keys);
  for (int i = 0; i < e->n; i++) e->todo[i] = key[i].block;
}

static void start(Exact *e) {
  memset(e->height, 0, (size_t)e->calls * sizeof *e->height);
  memset(e->rest, 0, (size_t)e->calls * sizeof *e->rest);
  for (int i = 0; i < e->n; i++) {
    count_rest(e, &e->block[e->todo[i]], 1);
    e->done[i] = false;
  }
}

static bool short_of_memory(const Body *b, const int64_t *live, int64_t limit) {
  for (int i = 0; i < b->n; i++)
    for (int t = b->piece[i].first; t <= b->piece[i].last; t++)
      if ((double)live[t] > SHORT * (double)limit) return true;
  return false;
}

bool exact_offsets(Arena *a, const Body *block, int n, int calls, const int64_t *live, int64_t limit, int64_t work, int64_t *offset) {
  Exact e = {.a = a, .block = block, .calls = calls, .limit = limit, .offset = offset, .todo = NEW_N(a, int, n), .done = NEW_N(a, bool, n),
             .height = NEW_N(a, int64_t, calls), .rest = NEW_N(a, int64_t, calls)};
  for (int i = 0; i < n; i++) {
    offset[i] = -1;
    if (short_of_memory(&block[i], live, limit)) e.todo[e.n++] = i;
  }
  for (int order = 0; order < ORDERS; order++) {
    sort_todo(&e, order);
    start(&e);
    e.work = work / ORDERS;
    if (search(&e, 0, 0)) return true;
  }
  return false;
}
