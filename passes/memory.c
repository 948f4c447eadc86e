/* memory.c: gives every arena and scratch buffer its offset in the workspace.
 *
 *   1. live ranges   from the first to the last call that has the buffer as an argument
 *   2. in place      where a kernel allows an input's memory to become its output's (both may_alias), the input dies there and the sizes
 *                    are equal, the two are one block
 *   3. offsets       several greedy orders (size, area, lifetime, start; the breadth of calls as in Pisarchyk and Lee, "Efficient Memory
 *                    Management for Deep Neural Net Inference", 2020), each block at the lowest gap that fits or the tightest; then the
 *                    best order is improved by moving the block that ends highest to the front. The smallest workspace wins; the search
 *                    ends early when it meets the lower bound.
 *   4. check         no two blocks that live at the same time overlap
 *
 * All decisions follow from sizes and positions, so the same program gets the same plan.
 */
#include "passes.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64
#define ROUND_UP(n) (((n) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT)
#define SEARCH_WORK 20000000   /* block comparisons the improvement may spend */

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
  int64_t work;
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

/* root[b]: the first buffer of the memory b has; b itself unless it takes over another's. Calls go forward, so a dying input's root is known. */
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

/* Offsets for the blocks in this order, each in the lowest gap (or the tightest) between those placed that live at the same time.
 * placed: scratch for m->n. Gives the bytes needed; stops above `limit`. */
static int64_t place(Plan *m, const int *order, bool tightest, int *placed, int64_t limit) {
  int64_t top = 0;
  for (int k = 0; k < m->n; k++) {
    Piece *b = &m->block[order[k]];
    int64_t end = 0, at = -1, slack = INT64_MAX;
    for (int j = 0; j < k; j++) {
      const Piece *o = &m->block[placed[j]];   /* by offset */
      if (!meet(b, o)) continue;
      int64_t gap = o->offset - end - b->size;
      if (gap >= 0 && gap < slack) {
        at = end;
        slack = gap;
        if (!tightest) break;
      }
      end = MAXI(end, o->offset + o->size);
    }
    m->work += k;
    b->offset = at >= 0 ? at : end;
    top = MAXI(top, b->offset + b->size);
    if (top > limit) return top;
    int j = k;
    for (; j > 0 && m->block[placed[j - 1]].offset > b->offset; j--) placed[j] = placed[j - 1];
    placed[j] = order[k];
  }
  return top;
}

static void keep(const Plan *m, int64_t *best) {
  for (int i = 0; i < m->n; i++) best[i] = m->block[i].offset;
}

/* Moves the block that ends highest to a random earlier place in the order, and keeps the order if it needs no more than before. */
static int64_t improve(Plan *m, int *order, bool tightest, int64_t top, int64_t bound, int64_t *best, int *placed) {
  uint32_t random = 2463534242u;   /* xorshift32 */
  int64_t now = place(m, order, tightest, placed, INT64_MAX);
  m->work = 0;
  while (top > bound && m->work < SEARCH_WORK) {
    int peak = 0;
    for (int k = 0; k < m->n; k++) {
      const Piece *b = &m->block[order[k]], *p = &m->block[order[peak]];
      if (b->offset + b->size > p->offset + p->size) peak = k;
    }
    if (peak == 0) break;
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    int to = (int)(random % (uint32_t)peak), moved = order[peak];
    memmove(&order[to + 1], &order[to], (size_t)(peak - to) * sizeof *order);
    order[to] = moved;
    int64_t next = place(m, order, tightest, placed, INT64_MAX);
    m->work += m->n;
    if (next > now) {
      memmove(&order[to], &order[to + 1], (size_t)(peak - to) * sizeof *order);
      order[peak] = moved;
      place(m, order, tightest, placed, INT64_MAX);
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
  int *order = NEW_N(m->a, int, m->n), *best_order = NEW_N(m->a, int, m->n), *placed = NEW_N(m->a, int, m->n);
  int64_t *best = NEW_N(m->a, int64_t, m->n), top = INT64_MAX;
  bool best_tightest = false;
  for (int o = 0; o < 2 * ORDER_COUNT && top > bound; o++) {
    bool tightest = o % 2;
    sort_blocks(m, (Order)(o / 2), order);
    int64_t t = place(m, order, tightest, placed, top);
    if (t >= top) continue;
    top = t;
    best_tightest = tightest;
    memcpy(best_order, order, (size_t)m->n * sizeof *order);
    keep(m, best);
  }
  if (top > bound) top = improve(m, best_order, best_tightest, top, bound, best, placed);
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
