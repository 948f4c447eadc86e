/* passes/memory/memory.h: what ordering the calls and planning the workspace share.
 *
 * Sections, one per file:  share.c (which operand's memory a result may take over) · order.c, order_search.c (calls in an order of small
 * peak) · plan.c (the pass: blocks, in-place reuse, check) · budget.c · offsets.c, offsets_exact.c (where blocks go)
 *
 * Both count memory by the segments of program_live.c: parts of one buffer live and die apart.
 */
#ifndef PASSES_MEMORY_MEMORY_H
#define PASSES_MEMORY_MEMORY_H

#include "../passes.h"

#define MEMORY_ALIGN 64
#define ROUND_UP(n) (((n) + MEMORY_ALIGN - 1) / MEMORY_ALIGN * MEMORY_ALIGN)

/* The workspace that the calls need in the order they have, and the largest sum of bytes alive at one of them. Changes nothing. */
int64_t memory_needed(Program *p, int64_t *live);
NORETURN void memory_broken(Program *p, const char *what);   /* our own mistake */
/* Bytes a segment takes in the workspace: of scratch, all threads' shares; of what is not in the workspace, 0. */
int64_t segment_bytes(const Program *p, const Segment *s);

/* ---- share.c ---- */

/* At a call whose kernel reads an element of `in` before it writes that of `out`, in's memory may become out's: if nothing of `in` is
 * needed afterwards, and nothing of `out` exists before. */
typedef struct Share { int in, out; } Share;   /* buffers */
/* The pairs of call t, those to try first in front. share: room for the square of its parameters. */
int call_shares(const Program *p, const Segments *s, int t, Share *share);

/* ---- order_search.c ---- */

/* What the search knows of a program: calls that touch segments, and calls that must come before others. */
typedef struct Tasks {
  Arena *a;
  int n, nsegs;            /* calls; segments */
  int64_t *bytes;          /* by segment */
  int *touches;            /* by segment: calls that touch it */
  int *seg, *seg_of;       /* call t touches seg[seg_of[t]] .. seg[seg_of[t + 1] - 1] */
  int *pred, *pred_of;     /* and comes after these calls */
  int *succ, *succ_of;
  struct TaskShare { int in_lo, in_hi, out_lo, out_hi; int64_t bytes; } *share;   /* pairs that may share memory, as runs of segments */
  int *share_of;
} Tasks;

/* Memory after some calls. */
typedef struct Sim {
  const Tasks *k;
  int *left;               /* by segment: touches to come */
  int *wait;               /* by call: predecessors to come; -1: done */
  int64_t live, peak;
} Sim;

typedef struct Step { int64_t during, after; } Step;   /* bytes alive */

void sim_start(Sim *s, const Tasks *k);                /* allocates; nothing done yet */
void sim_reset(Sim *s);
Step sim_try(const Sim *s, int t);                     /* t is ready */
void sim_do(Sim *s, int t);
int64_t order_peak(Sim *s, const int *order);          /* of a whole order; s is reset */
int64_t tasks_bound(const Tasks *k);                   /* no order's peak is below */
/* Fills order with one whose peak is below `limit` and the least found. proven: there is none smaller. False: none found. */
bool order_search(const Tasks *k, int64_t limit, int *order, int64_t *peak, bool *proven);

/* ---- offsets.c ---- */

/* Bytes [at, at + size) of a block, in use from call `first` to call `last`. */
typedef struct Piece { int64_t at, size, exact; int first, last; } Piece;

/* A block: pieces that keep their distances, a buffer and all that shares memory with it. */
typedef struct Body {
  Piece *piece;
  int n;
  int64_t size;            /* a multiple of MEMORY_ALIGN */
  int first, last;         /* of all pieces */
  int64_t offset;          /* a multiple of MEMORY_ALIGN */
} Body;

/* Sets offsets; gives the bytes that takes. bound: what it takes at least. */
int64_t choose_offsets(Arena *a, Body *block, int n, int calls, int64_t bound);
bool blocks_meet(const Body *a, const Body *b);      /* some of their pieces live at the same time */

/* ---- offsets_exact.c ---- */

/* Places within `limit` bytes for the blocks that live where memory is short, spending at most `work` steps; offset -1 for the others.
 * live: bytes by call. False: none were found. */
bool exact_offsets(Arena *a, const Body *block, int n, int calls, const int64_t *live, int64_t limit, int64_t work, int64_t *offset);

#endif
