/* ir/program_live.c: which bytes of a program's buffers are alive between which calls.
 *
 * Buffers may be parts of others: the operands of a concatenation are made in their places within its result, the pieces of a split are
 * read where they lie. A byte belongs to all buffers that cover it, and lives from the first to the last call that has one of them as an
 * argument. So every buffer that is no part is cut where parts begin and end, and each piece has a life of its own: a place in a
 * concatenation's result is free until its operand is made, and what nobody reads any more of a tensor that was split is free again.
 */
#include "loop.h"

#include <stdlib.h>

static int compare_cuts(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

/* Parts by what they are part of: head[whole], next[part]; -1 ends. */
static void list_parts(const Program *p, int *head, int *next) {
  for (int i = 0; i < p->buffers.n; i++) head[i] = -1;
  for (int i = p->buffers.n - 1; i >= 0; i--) {
    const Buffer *b = &p->buffers.at[i];
    if (!b->part) continue;
    next[i] = head[b->whole];
    head[b->whole] = i;
  }
}

/* The segment of whole buffer w that begins at `at`. */
static int segment_at(const Segments *s, int w, int64_t at) {
  int lo = s->lo[w], hi = s->hi[w];
  while (lo < hi) {
    int mid = lo + (hi - lo) / 2;
    if (s->at[mid].at < at) lo = mid + 1;
    else hi = mid;
  }
  return lo;
}

static void cut(Segments *s, const Program *p, int w, const int *head, const int *next, int64_t *cuts) {
  int n = 0;
  const Buffer *b = &p->buffers.at[w];
  cuts[n++] = 0;
  cuts[n++] = b->bytes;
  for (int i = head[w]; i >= 0; i = next[i]) {
    if (p->buffers.at[i].bytes == 0) continue;
    cuts[n++] = p->buffers.at[i].at;
    cuts[n++] = p->buffers.at[i].at + p->buffers.at[i].bytes;
  }
  if (n > 2) qsort(cuts, (size_t)n, sizeof *cuts, compare_cuts);
  s->lo[w] = s->n;
  for (int i = 0; i + 1 < n; i++)
    if (cuts[i] < cuts[i + 1]) s->at[s->n++] = (Segment){w, cuts[i], cuts[i + 1] - cuts[i], -1, -1};
  s->hi[w] = s->n;
  for (int i = head[w]; i >= 0; i = next[i]) {
    const Buffer *part = &p->buffers.at[i];
    if (part->bytes == 0) continue;
    s->lo[i] = segment_at(s, w, part->at);
    s->hi[i] = segment_at(s, w, part->at + part->bytes);
  }
}

Segments program_segments(const Program *p, Arena *a) {
  int n = p->buffers.n;
  Segments s = {.at = NEW_N(a, Segment, 3 * (size_t)n), .lo = NEW_N(a, int, n), .hi = NEW_N(a, int, n)};
  int *head = NEW_N(a, int, n), *next = NEW_N(a, int, n);
  int64_t *cuts = NEW_N(a, int64_t, 2 * (size_t)n + 2);
  list_parts(p, head, next);
  for (int i = 0; i < n; i++) {
    const Buffer *b = &p->buffers.at[i];
    if (!b->part && b->kind != BUF_WEIGHT && b->bytes > 0) cut(&s, p, i, head, next, cuts);
  }
  for (int t = 0; t < p->calls.n; t++) {
    const Call *c = &p->calls.at[t];
    for (int j = 0; j < c->kernel->params.n; j++) {
      int b = c->args[j].buffer;
      for (int k = s.lo[b]; k < s.hi[b]; k++) {
        if (s.at[k].first < 0) s.at[k].first = t;
        s.at[k].last = t;
      }
    }
  }
  return s;
}
