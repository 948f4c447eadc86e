/* plan.c: gives every arena and scratch buffer its offset in the workspace.
 *
 *   1. live ranges   of every segment, from the first to the last call that touches it (ir/program_live.c); a block per buffer
 *   2. in place      where a kernel lets an operand's memory become its result's (share.c), the operand dies there and the result is born,
 *                    the two blocks become one
 *   3. offsets       of blocks, by several heuristics and a local search (offsets.c)
 *   4. check         no two pieces that live at the same time overlap
 *
 * The largest sum of bytes alive at one call is the workspace's lower bound for this order of calls.
 */
#include "memory.h"

#include <stdlib.h>
#include <string.h>

typedef struct Plan {
  Program *p;
  Arena *a;                 /* scratch */
  Segments s;
  int *block_of;            /* by buffer; -1: not in the workspace */
  int64_t *at;              /* by buffer: where in its block */
  Body *block;
  int n;
  int shared;               /* results that took over an operand's memory */
} Plan;

void memory_broken(Program *p, const char *what) {
  Fail *f = arena_fail(p->arena);
  Status s = diag_error(f ? f->diag : NULL, SPINEC_ERR_INTERNAL, NULL, "this is a mistake in spinec, please report it", "memory: %s", what);
  if (!f) abort();
  f->status = s;
  longjmp(f->env, 1);
}

static bool in_workspace(const Buffer *b) { return b->kind == BUF_ARENA || b->kind == BUF_SCRATCH; }

/* ---- 1. blocks ---- */

static void block_of_buffer(Plan *m, int i) {
  const Program *p = m->p;
  Body b = {.piece = NEW_N(m->a, Piece, m->s.hi[i] - m->s.lo[i]), .first = INT32_MAX, .last = -1};
  for (int k = m->s.lo[i]; k < m->s.hi[i]; k++) {
    const Segment *s = &m->s.at[k];
    int64_t bytes = segment_bytes(p, s);
    b.size = ROUND_UP(s->at + bytes);
    if (s->first < 0) continue;
    /* What rounding adds to the end belongs to the last piece. */
    b.piece[b.n++] = (Piece){s->at, k + 1 == m->s.hi[i] ? b.size - s->at : bytes, bytes, s->first, s->last};
    b.first = MINI(b.first, s->first);
    b.last = MAXI(b.last, s->last);
  }
  if (b.n == 0) return;
  m->block_of[i] = m->n;
  m->block[m->n++] = b;
}

static void make_blocks(Plan *m) {
  Program *p = m->p;
  m->block_of = NEW_N(m->a, int, p->buffers.n);
  m->at = NEW_N(m->a, int64_t, p->buffers.n);
  m->block = NEW_N(m->a, Body, p->buffers.n);
  for (int i = 0; i < p->buffers.n; i++) {
    Buffer *b = &p->buffers.at[i];
    m->block_of[i] = -1;
    if (!in_workspace(b)) continue;
    b->offset = 0;
    b->stride = b->kind == BUF_SCRATCH ? ROUND_UP(b->bytes) : 0;
    if (!b->part) block_of_buffer(m, i);
  }
  for (int i = 0; i < p->buffers.n; i++) {
    const Buffer *b = &p->buffers.at[i];
    if (!b->part || b->kind != BUF_ARENA) continue;
    m->block_of[i] = m->block_of[b->whole];
    m->at[i] = b->at;
  }
}

static void set_lives(const Plan *m) {
  for (int i = 0; i < m->p->buffers.n; i++) {
    Buffer *b = &m->p->buffers.at[i];
    b->first = b->last = -1;
    for (int k = m->s.lo[i]; k < m->s.hi[i]; k++) {
      const Segment *s = &m->s.at[k];
      if (s->first < 0) continue;
      b->first = b->first < 0 ? s->first : MINI(b->first, s->first);
      b->last = MAXI(b->last, s->last);
    }
  }
}

/* ---- 2. in place ---- */

static bool clash(const Piece *a, int64_t da, const Piece *b, int64_t db) {
  return a->first <= b->last && b->first <= a->last && a->at + da < b->at + db + b->exact && b->at + db < a->at + da + a->exact;
}

/* Pieces of block b within [at, at + bytes) that begin (or else end) at call t. */
static bool all_turn(const Body *b, int64_t at, int64_t bytes, int t, bool begin) {
  for (int i = 0; i < b->n; i++) {
    const Piece *x = &b->piece[i];
    if (x->at >= at + bytes || x->at + x->exact <= at) continue;
    if (x->last < t || x->first > t) continue;   /* of another buffer, which had the place before */
    if (begin ? x->first != t : x->last != t || x->first == t) return false;
  }
  return true;
}

/* The dying pieces end one call earlier (or, undone, later): at call t the result has the place. */
static void shift_end(Body *b, int64_t at, int64_t bytes, int t, int by) {
  for (int i = 0; i < b->n; i++) {
    Piece *x = &b->piece[i];
    if (x->at < at + bytes && x->at + x->exact > at && x->last == t) x->last += by;
  }
}

static bool fit_together(const Body *a, int64_t da, const Body *b, int64_t db) {
  for (int i = 0; i < a->n; i++)
    for (int j = 0; j < b->n; j++)
      if (clash(&a->piece[i], da, &b->piece[j], db)) return false;
  return true;
}

/* Body y goes into block x, `at` bytes from its begin, and is empty then. */
static void join(Plan *m, int x, int y, int64_t at) {
  Body *b = &m->block[x], *c = &m->block[y];
  Piece *piece = NEW_N(m->a, Piece, b->n + c->n);
  memcpy(piece, b->piece, (size_t)b->n * sizeof *piece);
  for (int i = 0; i < c->n; i++) {
    piece[b->n + i] = c->piece[i];
    piece[b->n + i].at += at;
  }
  b->piece = piece;
  b->n += c->n;
  b->size = MAXI(b->size, at + c->size);
  b->first = MINI(b->first, c->first);
  b->last = MAXI(b->last, c->last);
  *c = (Body){0};
  for (int i = 0; i < m->p->buffers.n; i++) {
    if (m->block_of[i] != y) continue;
    m->block_of[i] = x;
    m->at[i] += at;
  }
}

static bool share_at(Plan *m, int t, const Share *s) {
  int x = m->block_of[s->in], y = m->block_of[s->out];
  int64_t bytes = m->p->buffers.at[s->in].bytes, delta = m->at[s->in] - m->at[s->out];   /* of y's begin in x */
  if (x < 0 || y < 0 || x == y) return false;
  Body *in = &m->block[x], *out = &m->block[y];
  if (!all_turn(in, m->at[s->in], bytes, t, false) || !all_turn(out, m->at[s->out], bytes, t, true)) return false;
  shift_end(in, m->at[s->in], bytes, t, -1);
  if (!fit_together(in, MAXI(0, -delta), out, MAXI(0, delta))) {
    shift_end(in, m->at[s->in], bytes, t - 1, 1);
    return false;
  }
  if (delta >= 0) join(m, x, y, delta);
  else join(m, y, x, -delta);
  m->shared++;
  return true;
}

static void share_in_place(Plan *m) {
  const Program *p = m->p;
  bool *taken = NEW_N(m->a, bool, p->buffers.n);   /* an operand has one heir, a result one memory */
  for (int t = 0; t < p->calls.n; t++) {
    ArenaMark mark = arena_mark(m->a);
    int params = p->calls.at[t].kernel->params.n;
    Share *share = NEW_N(m->a, Share, params * params);
    int n = call_shares(p, &m->s, t, share);
    bool any = false;
    for (int i = 0; i < n; i++) {
      if (taken[share[i].in] || taken[share[i].out] || !share_at(m, t, &share[i])) continue;
      taken[share[i].in] = taken[share[i].out] = any = true;
    }
    for (int i = 0; i < n; i++) taken[share[i].in] = taken[share[i].out] = false;
    if (!any) arena_release(m->a, mark);   /* else what join made is kept */
  }
}

/* Empty blocks, which others took up, go. */
static void compact_blocks(Plan *m) {
  int *now = NEW_N(m->a, int, m->n), n = 0;
  for (int i = 0; i < m->n; i++) {
    now[i] = n;
    if (m->block[i].n) m->block[n++] = m->block[i];
  }
  m->n = n;
  for (int i = 0; i < m->p->buffers.n; i++)
    if (m->block_of[i] >= 0) m->block_of[i] = now[m->block_of[i]];
}

/* ---- live sets ---- */

/* The largest sum of bytes alive at one call; fills live[calls + 1]. */
static int64_t live_set(const Plan *m, bool exact, int64_t *live) {
  int64_t most = 0;
  memset(live, 0, ((size_t)m->p->calls.n + 1) * sizeof *live);
  for (int i = 0; i < m->n; i++) {
    for (int j = 0; j < m->block[i].n; j++) {
      const Piece *x = &m->block[i].piece[j];
      live[x->first] += exact ? x->exact : x->size;
      live[x->last + 1] -= exact ? x->exact : x->size;
    }
  }
  for (int t = 0; t < m->p->calls.n; t++) {
    if (t) live[t] += live[t - 1];
    most = MAXI(most, live[t]);
  }
  return most;
}

/* ---- 4. check ---- */

static int by_first(const void *a, const void *b) {
  const Piece *x = a, *y = b;
  return x->first != y->first ? (x->first < y->first ? -1 : 1) : (x->at > y->at) - (x->at < y->at);
}

static void check(const Plan *m, int64_t top) {
  int n = 0;
  for (int i = 0; i < m->n; i++) n += m->block[i].n;
  Piece *all = NEW_N(m->a, Piece, n);
  n = 0;
  for (int i = 0; i < m->n; i++) {
    const Body *b = &m->block[i];
    if (b->offset < 0 || b->offset % MEMORY_ALIGN || b->offset + b->size > top) memory_broken(m->p, "a block is outside the workspace");
    for (int j = 0; j < b->n; j++) {
      all[n] = b->piece[j];
      all[n++].at += b->offset;
    }
  }
  if (n) qsort(all, (size_t)n, sizeof *all, by_first);
  for (int i = 0; i < n; i++)
    for (int j = i + 1; j < n && all[j].first <= all[i].last; j++)
      if (clash(&all[i], 0, &all[j], 0)) memory_broken(m->p, "two blocks overlap");
}

/* Steps 1 to 4; fills live[calls + 1]. */
static Plan make_plan(Program *p, int64_t *live, int64_t *live_bytes, int64_t *workspace) {
  Plan m = {.p = p, .a = p->arena, .s = program_segments(p, p->arena)};
  set_lives(&m);
  make_blocks(&m);
  share_in_place(&m);
  compact_blocks(&m);
  int64_t bound = live_set(&m, false, live);
  *live_bytes = live_set(&m, true, live);
  *workspace = m.n ? choose_offsets(m.a, m.block, m.n, p->calls.n, bound) : 0;
  check(&m, *workspace);
  return m;
}

int64_t memory_needed(Program *p, int64_t *live) {
  ArenaMark mark = arena_mark(p->arena);
  int64_t workspace;
  Buffer *kept = NEW_N(p->arena, Buffer, MAXI(1, p->buffers.n));
  for (int i = 0; i < p->buffers.n; i++) kept[i] = p->buffers.at[i];
  make_plan(p, NEW_N(p->arena, int64_t, p->calls.n + 1), live, &workspace);
  for (int i = 0; i < p->buffers.n; i++) p->buffers.at[i] = kept[i];
  arena_release(p->arena, mark);
  return workspace;
}

bool pass_memory(Program *p, Ctx *c) {
  p->live = NEW_N(p->arena, int64_t, p->calls.n + 1);
  ArenaMark mark = arena_mark(p->arena);
  Plan m = make_plan(p, p->live, &p->live_bytes, &p->workspace_bytes);
  program_layout_weights(p);
  int parts = 0;
  for (int i = 0; i < p->buffers.n; i++) {
    Buffer *b = &p->buffers.at[i];
    if (m.block_of[i] >= 0) b->offset = m.block[m.block_of[i]].offset + m.at[i];
    parts += b->part;
  }
  arena_release(p->arena, mark);
  pass_count(c, "memory", "buffers in place", m.shared);
  if (parts) pass_count(c, "memory", "buffers within others", parts);
  pass_count(c, "memory", "workspace bytes", p->workspace_bytes);
  pass_count(c, "memory", "live bytes", p->live_bytes);
  return true;
}
