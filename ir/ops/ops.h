/* ir/ops/ops.h: the operator families. Each file holds inference and plain lowering of a group of rows of ops.def; the plain lowering is
 * always correct, in any layout the row allows, and is what -O0 runs and every schedule of passes/lower is compared with.
 *
 * Sections, one per file:  support.c (checks, small expressions) · fold.c (sums, maxima along axes) · window.c (windows sliding over an
 * image) · arg.c, resize_axis.c, conv.c (what other files use of them)
 *
 * Inference trusts no attribute: what lowering relies on (positive steps, extents that multiply without overflow, axes in range) is
 * checked there and reported with node_error. Indices that come from tensors are clamped where they are read, whatever their value.
 */
#ifndef IR_OPS_H
#define IR_OPS_H

#include "../lower.h"

#define OP(Name, attr, min_in, max_in, nout, infer, lower, flags)                                                                      \
  bool infer(Graph *g, Node *n);                                                                                                      \
  void lower(Lower *l, const Node *n);
#define EW(Name, attr, nin, infer) bool infer(Graph *g, Node *n);
#include "../ops.def"
#undef OP
#undef EW

/* ---- support.c ------------------------------------------------------------------------------------------------------------------ */

#define EXTENT_MAX ((int64_t)1 << 40)   /* of a dimension, stride, pad: sums and products of two fit in 63 bits */

/* Reports and gives false; hint may be NULL. */
#define REFUSE(g, n, hint, ...) return (node_error((g), (n), SPINEC_ERR_INPUT, (hint), __VA_ARGS__), false)

const char *shape_text(Arena *a, const Shape *s);   /* "[1, 3, 224, 224]" */
/* Sets type and shape of out[i]; with a body, out[0] keeps the type of the body's last step. False after reporting a shape that is too
 * large. */
bool op_set_out(Graph *g, Node *n, int i, DType dt, const Shape *s);
bool op_check_float(Graph *g, const Node *n, const Value *v, const char *what);        /* f16 bf16 f32 f64 */
bool op_check_computable(Graph *g, const Node *n, const Value *v, const char *what);   /* not a string */
bool op_check_rank(Graph *g, const Node *n, const Value *v, const char *what, int lo, int hi);
bool op_axis(Graph *g, const Node *n, int64_t axis, int rank, int *out);
/* `count` entries in lo..hi. */
bool op_check_ints(Graph *g, const Node *n, const char *what, Ints v, int count, int64_t lo, int64_t hi);
Value *op_in(const Node *n, int i);   /* the op's own operand i; NULL when absent */
/* Operands that are multiplied and summed: one numeric type, or integers of at most 16 bits. Gives the type of the result. */
bool op_check_product(Graph *g, const Node *n, int operands, DType *out);
bool value_used(const Value *v);

/* The type sums of t are kept in: f32 for f16 and bf16, i32 for integers of 8 and 16 bits, else t. */
DType acc_type(DType t);
DType product_type(DType t);   /* of the result of a convolution or contraction: floats as they are, else acc_type */
/* Lanes of vectors of dt for this node on this target: 1 when any of its values or steps cannot be in vectors, or when a BLOCKED result has
 * but one channel. They divide the blocks of all BLOCKED values. */
int op_lanes(const Lower *l, const Node *n, DType dt);
/* Row-major coordinates of flat index i. */
void unflatten(Build *b, Expr *i, const int64_t *extent, int n, Expr **c);
/* Elements between neighbours along dim in v's layout (not dim 1 of a BLOCKED value). */
int64_t value_stride(const Value *v, int dim);
At at_zero(Build *b, int rank);                          /* the origin, lanes 1 */
Expr *x_lowest(Build *b, Type t);                        /* -inf, or the smallest integer; false */
Expr *x_highest(Build *b, Type t);
Expr *x_is_nan(Build *b, Expr *e);
Expr *x_clamp_idx(Build *b, Expr *e, int64_t lo, int64_t hi);   /* of an idx */
/* Loads one element or vector and converts it to dt. count, stride may be NULL. */
Expr *x_load_as(Build *b, DType dt, Var *buf, Expr *index, int lanes, Expr *count, int64_t stride);
/* Elements i, i+1, ... of a value of rank 1: a bias, a scale. */
Expr *lower_load_vector(Lower *l, const Value *v, Expr *i, int lanes, Expr *count);

/* ---- fold.c --------------------------------------------------------------------------------------------------------------------- */

typedef enum { FOLD_SUM, FOLD_PROD, FOLD_MAX, FOLD_MIN } Fold;   /* MAX and MIN give NaN if any term is NaN */
#define FOLD_LOOPS 32

/* Term at loop counters i[0..nloops): `lanes` of them along the last loop, of which count (NULL: all) exist, or one for each lane of the
 * result. Missing lanes may hold anything. */
typedef Expr *(*FoldTerm)(Lower *l, Expr *const *i, int lanes, Expr *count, void *user);
Expr *fold_identity(Build *b, Fold f, Type t);
Expr *fold_combine(Build *b, Fold f, Expr *acc, Expr *x);
Expr *fold_lanes(Build *b, Fold f, Expr *v);             /* of a vector's lanes, to a scalar */
/* Folds the terms of a loop nest. along: acc.lanes terms at a time run along the last loop and the result is a scalar; else the result has
 * acc.lanes lanes. Sums are kept in several partial sums of bounded length. No loops: the one term. */
Expr *fold_nest(Lower *l, Fold f, Type acc, const int64_t *extent, int nloops, bool along, FoldTerm term, void *user);

/* ---- window.c ------------------------------------------------------------------------------------------------------------------- */

#define WINDOW_DIMS (MAX_RANK - 2)
#define WINDOW_VOLUME_MAX ((int64_t)1 << 24)

typedef struct WindowDim { int64_t in, out, kernel, stride, dilation, pad, pad_end; } WindowDim;
typedef struct Window { int rank; WindowDim d[WINDOW_DIMS]; } Window;

/* Checks the attributes of a window sliding over x [N, C, spatial...] and fills w, without .out. All lists have full spatial rank. */
bool window_check(Graph *g, const Node *n, const Value *x, Ints kernel, Ints strides, Ints pads, Ints dilations, Window *w);
int64_t window_volume(const Window *w);

/* A place of the output, and which kernel positions meet the input there. Along the last axis nx neighbours are to be computed, of which
 * place i lies i further; with nx > 1 or lanes along the last axis, lo and hi hold for all of them. */
typedef struct WindowAt {
  At at;
  int nx;
  Expr *base[WINDOW_DIMS];                         /* input coordinate of kernel position 0; may be negative */
  Expr *lo[WINDOW_DIMS], *hi[WINDOW_DIMS];         /* positions inside: lo <= k < hi */
} WindowAt;
typedef void (*WindowFn)(Lower *l, const Node *n, const WindowAt *w, void *user);
/* Loops over out[0]: a parallel range over images, channels (steps of ctile, or of lanes if vdim is 1) and rows, then along a row. */
typedef struct WindowNest { const Window *w; int lanes, vdim, ctile, xtile; WindowFn fn; void *user; } WindowNest;
void window_nest(Lower *l, const Node *n, const WindowNest *nest);
/* Opens the loops over kernel positions k[]; in[] are the input coordinates. Ends with window_close. */
void window_open(Build *b, const Window *w, const WindowAt *at, Expr **k, Expr **in);
void window_close(Build *b, const Window *w);
Expr *window_kernel_at(Build *b, const Window *w, Expr *const *k);   /* row-major index of a kernel position */

/* ---- arg.c ------------------------------------------------------------------------------------------------------------------------ */

/* Index (i32, at->lanes lanes) of the first or last extreme of x along axis, at least one element long, through the place `at`. */
Expr *arg_scan(Lower *l, const Value *x, const At *at, int axis, bool largest, bool last);

/* ---- resize_axis.c ----------------------------------------------------------------------------------------------------------------- */

typedef struct ResizeAxis {
  int64_t in, out;
  double scale, start, end;   /* start, end: the region of interest */
  int64_t taps;
  int32_t *first;             /* [out]: first + taps <= in */
  double *weight;             /* [out][taps]; unused if taps is 1 */
  int32_t *outside;           /* [out]: 1 where the extrapolation value goes */
  bool extrapolates, same;    /* same: every position is its own source */
  int64_t div, mul, add;      /* taps 1: first[o] is o / div * mul + add; div 0: no such formula */
} ResizeAxis;
/* Whether the tables of an axis are of a sensible size. */
bool resize_axis_fits(const ResizeAttr *a, int dim, int64_t in, int64_t out);
void resize_axis(Arena *arena, const ResizeAttr *a, int dim, int rank, int64_t in, int64_t out, ResizeAxis *r);

/* ---- conv.c: shared with conv_transpose.c ---------------------------------------------------------------------------------------- */

/* Types of data and weight, and type and shape of bias and scale, for k output channels. Gives the type of the result. */
bool conv_check_operands(Graph *g, const Node *n, int64_t k, DType *out);
bool conv_scale_packs(const Value *wt, const Value *scale);   /* the scale can be multiplied into packed weights */
/* scale * acc + bias for output channels k.. (`lanes` of them, or one for the whole vector acc), rounded to `out`. NULL: absent. */
Expr *conv_scale_bias(Lower *l, DType out, const Value *scale, const Value *bias, Expr *acc, Expr *k, int lanes, Expr *count);

/* ---- elementwise.c ---------------------------------------------------------------------------------------------------------------- */

bool ew_accepts(Op op, DType t);   /* as operand 0; of Where, operands 1 and 2 */
/* lower_see_as for all values of an op that reads every operand as a body does: neighbouring dims that no operand tells apart become one.
 * Beside BLOCKED or upsampled operands, dims 0 and 1 stay by themselves. */
void lower_see_joined(Lower *l, const Node *n);

/* ---- copy.c ------------------------------------------------------------------------------------------------------------------------ */

/* dst[to + sum of i_d * d.to] = src[from + sum of i_d * d.from] for 0 <= i_d < d.n: elements of PLAIN values. */
#define COPY_DIMS (2 * MAX_RANK)
typedef struct CopyDim { int64_t n, from, to; } CopyDim;
typedef struct Copy { int ndims; CopyDim d[COPY_DIMS]; int64_t from, to; } Copy;
/* A kernel that does it: rows by vectors, transpositions by tiles. dims are outermost first. False, and nothing done, if more than
 * MAX_RANK dims remain after joining those that step alike. */
bool copy_strided(Lower *l, const Node *n, const char *what, const Value *src, Value *dst, const Copy *c);
/* Inside an open kernel: `count` neighbours from src[from] to dst[to], or all set to e (a scalar). */
void copy_run(Lower *l, Var *src, Expr *from, Var *dst, Expr *to, int64_t count);
void fill_run(Lower *l, Expr *e, Var *dst, Expr *to, int64_t count);
/* Vectors v[0..n) of n lanes, n a power of two: afterwards lane j of v[i] is what lane i of v[j] was. */
void transpose_tile(Build *b, Expr **v, int n);
int run_lanes(const Lower *l, DType t);   /* the target's lanes for types there are vectors of, else 1 */

/* ---- channels.c -------------------------------------------------------------------------------------------------------------------- */

/* Lowers a node for which node_moves_channels holds and whose operands are BLOCKED alike; the result may be PLAIN. */
void lower_channels(Lower *l, const Node *n);

/* ---- gather.c ---------------------------------------------------------------------------------------------------------------------- */

/* An integer loaded as an index, made safe: negative ones count from the back, what is still outside [0, extent) becomes the nearest valid.
 * index_at loads it at a place of `indices`. */
Expr *safe_index(Lower *l, Expr *index, int64_t extent);
Expr *index_at(Lower *l, const Value *indices, const At *at, int64_t extent);

#endif
