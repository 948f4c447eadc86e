/* ir/lower.h: how an operator becomes kernels. Implemented in lower.c (parameters, access), lower_parts.c (tensors within others) and lower_point.c (output loops);
 * used by the op families in ir/ops and by the schedules in passes/lower.
 *
 * An op's lowering opens a kernel, asks for values by coordinates and stores results; which buffer, layout or stride that means is
 * settled here. Most ops are a point function, the value of one output element (or one vector of them) from its coordinates;
 * lower_points writes the loops around it, applies the node's fused body, and stores.
 */
#ifndef IR_LOWER_H
#define IR_LOWER_H

#include "graph.h"
#include "loop.h"

/* How weights that several convolutions read are packed: vectors per panel for Winograd's F(m x m, 3 x 3), by m; 0: not packed for this m. */
typedef struct SharedPacking { const Value *w; int vecs[7]; } SharedPacking;

struct Lower {
  Arena *arena;
  Graph *g;
  Program *p;
  const Target *t;
  int opt_level;
  int winograd;            /* -1: where it pays; 0: never; else the output tile to use */
  const int64_t *scratch_limit;   /* by node id, NULL: none */
  int nscratch_limit;
  double weight_price;     /* cycles that a byte of packed weights must save, in all images; 0: memory is no concern */
  VEC(SharedPacking) shared;    /* passes/lower/conv_winograd_plan.c */
  Build b;                 /* the open kernel */
  const Node *node;        /* being lowered */
  struct { const Value *v; Var *var; int buffer; } *param;   /* of the open kernel, in parameter order */
  int nparam, cap_param;
  int *buffer_of;          /* by value id; -1: none yet */
  int nbuffer_of;
  bool *done;              /* by node id: its results are made by another node's kernel; see lower_done */
  int ndone;
  VEC(const Node *) others;     /* that the open kernel makes the results of */
  struct { const Value *v; Shape shape; Layout layout; Var *rows; } *seen;   /* of the open kernel: lower_see_as, lower_keep_rows */
  int nseen, cap_seen;
};

/* A place in a value's index space: one element, or `lanes` consecutive ones along dimension vdim, of which `count` exist (NULL: all). */
typedef struct At {
  int rank;
  Expr *c[MAX_RANK];       /* idx */
  int lanes, vdim;         /* lanes 1: vdim is unused */
  Expr *count;
} At;

/* ---- lower.c ---- */
Build *lower_open(Lower *l, const Node *n, const char *what_fmt, ...) PRINTF_LIKE(3, 4);   /* starts a kernel */
void lower_close(Lower *l, double flops);      /* ends it: appends kernel and call to the program; computes bytes */
Expr *lower_range(Lower *l, const char *name, int64_t extent);   /* the parallel range; once per kernel, before any statement */

int *lower_buffer_slot(Lower *l, const Value *v);   /* where v's buffer is kept; -1: none yet */
int lower_buffer(Lower *l, Value *v);          /* the value's buffer, made on first use (arena, input, output or weight) */
void lower_alias(Lower *l, Value *v, Value *of);   /* v has the bytes of `of`; adds a copy kernel where both are in the signature */
/* A kernel that copies `count` elements between buffers; n (for the origin) may be NULL. */
void lower_copy(Lower *l, const Node *n, DType dt, int64_t count, int from, int to);
Var *lower_in(Lower *l, const Value *v);       /* parameter for reading v; one per value and kernel; const values become dense weights */
Var *lower_out(Lower *l, Value *v);            /* parameter for writing v */
Var *lower_inout(Lower *l, Value *v);          /* writing and reading back (OPF_REVISIT) */
Var *lower_weight(Lower *l, const char *name, int buffer, DType dt);   /* parameter for a packed weight buffer */
int64_t lower_scratch_limit(const Lower *l);   /* bytes per thread the node being lowered should do with; INT64_MAX: any number */
Var *lower_scratch(Lower *l, const char *name, DType dt, int64_t bytes);   /* per thread, contents undefined at each range iteration */
/* This kernel reads v's element before writing out's at the same place, so v's memory may become out's. Same bytes, v dies here. */
void lower_allow_in_place(Lower *l, const Value *v, Value *out);

/* The open kernel makes the results of n as well, which comes later in the list: n gets no kernel of its own, and the call n's origins. */
void lower_done(Lower *l, const Node *n);

/* Until the kernel is closed, places of v are given in this shape and layout: the same elements in the same memory order, such as a flat
 * view, or dims joined where no operand of the kernel tells them apart. Holds for all functions below. */
void lower_see_as(Lower *l, const Value *v, const Shape *shape, Layout layout);
/* Until the kernel is closed, what is stored to image v goes to scratch, which has the last `height` rows of one image: row y in place
 * y % height. */
void lower_keep_rows(Lower *l, const Value *v, Var *scratch, int64_t height);
Shape lower_shape(const Lower *l, const Value *v, Layout *layout);   /* in which places of v are given now; layout may be NULL */
/* Element offset of at->c in v's layout, and the step between lanes along vdim (1: contiguous; 0: v has extent 1 there, broadcast). */
Expr *lower_index(Lower *l, const Value *v, const At *at, int64_t *lane_step);
/* Loads v at a place of its own shape (rank equal). Masks by count; splats where v has extent 1 along vdim. */
Expr *lower_load(Lower *l, const Value *v, const At *at);
/* Loads v at a place of another shape v broadcasts to (ONNX rules: aligned at the back, extent-1 dims repeat). up: spatial dims >> up. */
Expr *lower_load_broadcast(Lower *l, const Value *v, const At *at, int up);
void lower_store(Lower *l, Value *v, const At *at, Expr *e);
/* node->body applied to acc at a place of out[0]; acc unchanged when there is none. */
Expr *lower_body(Lower *l, const Node *n, Expr *acc, const At *at);
void lower_finish(Lower *l, const Node *n, Expr *acc, const At *at);   /* body, then store to out[0] */
/* The expression of an elementwise op; operands are splatted to a common width first. */
Expr *lower_ew(Lower *l, Op op, const void *attr, DType result, Expr *const *x, int n);
/* All of the node's values and body steps are 32-bit (f32, i32; bool between steps): vectors may be used. */
bool lower_vectors_ok(const Lower *l, const Node *n);

/* ---- lower_parts.c ---- */
/* Before any node is lowered: operands of concatenations get buffers within those of the results. */
void lower_plan_parts(Lower *l);
/* The operands of this Concat lie, or are copied, one after the other in its result. False: it is not that simple. */
bool lower_concat_parts(Lower *l, const Node *n);
/* The result of this Slice is part of its operand's buffer. False: it must be copied. */
bool lower_slice_part(Lower *l, const Node *n);

/* ---- lower_point.c ---- */
/* The op's own result (before the body) at a place of out[0]; at->lanes > 1 only if POINT_VECTOR was given. */
typedef Expr *(*PointFn)(Lower *l, const Node *n, const At *at, const void *user);
enum { POINT_VECTOR = 1, POINT_IN_PLACE = 2 /* operand 0 is read at the output's own place only */ };
/* A whole kernel over out[0]: parallel range over the outer dims, vectors along the innermost (PLAIN) or the channel block (BLOCKED). */
void lower_points(Lower *l, const Node *n, const char *what, PointFn fn, const void *user, unsigned flags, double flops_per_element);
/* Loops over the given extents inside an open kernel: coordinates of the flattened outer dims from the range. */
typedef void (*NestFn)(Lower *l, const At *at, void *user);
/* Opens range and loops over `shape` (of out[0]'s layout if blocked), calls fn for each place with at most `lanes` lanes along vdim
 * (a masked or shorter place for the rest), and closes the loops. */
void lower_nest(Lower *l, const Shape *shape, Layout layout, int vdim, int lanes, NestFn fn, void *user);
/* Vector width for the open kernel over out[0]: the target's, 1 if vectors may not be used or would stay mostly empty; within every
 * operand's blocks. */
int lower_lanes(const Lower *l, const Node *n);
/* lower_allow_in_place for every operand that lies as out[0] does and is read only by the body, or also by the op at the output's own
 * place, as it reads its first `own` operands. Call it after the parameters exist. */
void lower_body_in_place(Lower *l, const Node *n, int own);

/* ---- schedules: passes/lower/lower.c tries these before op_info(op)->lower, at -O1 and up; each returns false when it does not apply ---- */
typedef bool (*Schedule)(Lower *l, const Node *n);

#endif
