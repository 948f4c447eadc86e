/* ir/graph.h: the Graph IR: one canonical operator set, typed and shaped.
 *
 * Sections, one per file:  graph.c · op.c (+ ops.def, attrs.def) · print.c · parse.c · verify.c · the families in ops
 *
 * Invariants (graph_verify checks them):
 *  - nodes are listed in a topological order; every value has one producer (def), or is a graph input, or holds constant data
 *  - use lists match the nodes' inputs exactly; graph_replace_uses, graph_set_input and graph_erase are the only rewiring
 *  - every value has a type and a shape; node->out types and shapes are what op infer gives
 *  - shape-like operands (axes, pads, target shapes, ...) are attributes here: whatever was a constant operand in ONNX is typed data
 *  - iteration is by list order, never by address or hash: the same model gives the same bytes
 */
#ifndef IR_GRAPH_H
#define IR_GRAPH_H

#include "base.h"

typedef struct Value Value;
typedef struct Node Node;
typedef struct Graph Graph;
typedef struct OpInfo OpInfo;
typedef struct Lower Lower;       /* ir/lower.h */
typedef struct Build Build;       /* ir/loop.h */
typedef struct Expr Expr;         /* ir/loop.h */

/* ---- operators ---------------------------------------------------------------------------------------------------------------- */

typedef enum Op {
#define OP(Name, attr, min_in, max_in, nout, infer, lower, flags) OP_##Name,
#define EW(Name, attr, nin, infer) OP_##Name,
#include "ops.def"
#undef OP
#undef EW
  OP_COUNT
} Op;

/* ---- attributes: one struct per family, described by attrs.def so that they print, parse, compare ------------------------------- */

typedef enum { ATTR_INT, ATTR_FLOAT, ATTR_BOOL, ATTR_INTS, ATTR_FLOATS, ATTR_STR, ATTR_ENUM, ATTR_DTYPE } AttrKind;
typedef struct AttrField { const char *name; AttrKind kind; size_t offset; const char *const *names; /* ENUM: NULL-terminated */ } AttrField;
typedef struct AttrDesc { const char *name; size_t size; const AttrField *(*fields)(void); /* ends with a NULL name */ } AttrDesc;

typedef enum { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE, PAD_WRAP } PadMode;
typedef enum { RESIZE_NEAREST, RESIZE_LINEAR, RESIZE_CUBIC } ResizeMode;
typedef enum {
  COORD_HALF_PIXEL, COORD_HALF_PIXEL_SYMMETRIC, COORD_PYTORCH_HALF_PIXEL, COORD_ALIGN_CORNERS, COORD_ASYMMETRIC, COORD_TF_CROP_AND_RESIZE
} CoordMode;
typedef enum { NEAREST_ROUND_PREFER_FLOOR, NEAREST_ROUND_PREFER_CEIL, NEAREST_FLOOR, NEAREST_CEIL } NearestMode;
typedef enum { SCATTER_NONE, SCATTER_ADD, SCATTER_MUL, SCATTER_MAX, SCATTER_MIN } ScatterReduction;
typedef enum { POOL_AVG, POOL_MAX } RoiMode;
typedef enum { GRID_NEAREST, GRID_LINEAR, GRID_CUBIC } GridMode;
typedef enum { GRID_PAD_ZEROS, GRID_PAD_BORDER, GRID_PAD_REFLECTION } GridPad;

#define ATTR_BEGIN(Name) typedef struct Name##Attr { char unused_;
#define ATTR_END(Name) } Name##Attr; extern const AttrDesc attr_desc_##Name;
#define INT(f) int64_t f;
#define FLOAT(f) double f;
#define BOOL(f) bool f;
#define INTS(f) Ints f;
#define FLOATS(f) Floats f;
#define STR(f) const char *f;
#define DTYPE(f) DType f;
#define ENUM(T, f) T f;
#include "attrs.def"
#undef ATTR_BEGIN
#undef ATTR_END
#undef INT
#undef FLOAT
#undef BOOL
#undef INTS
#undef FLOATS
#undef STR
#undef DTYPE
#undef ENUM

/* ---- graph.c ------------------------------------------------------------------------------------------------------------------ */

/* How a value's elements lie in memory. BLOCKED: dimension 1 is split, [N][ceil(C/block)][spatial...][block]; the padding lanes of the
 * last block hold unspecified bits and are never read into a valid lane. */
typedef enum { LAYOUT_PLAIN, LAYOUT_BLOCKED } LayoutKind;
typedef struct Layout { LayoutKind kind; int block; } Layout;

typedef struct Use { Node *node; int slot; } Use;

struct Value {
  int id;                 /* position in graph->values */
  const char *name;       /* ONNX name, or NULL for ours (printed as %v0, %v1, ... by order of appearance) */
  DType dt;
  Shape shape;
  Layout layout;
  const void *data;       /* constants: dense row-major bytes, borrowed or arena-owned; NULL otherwise */
  Node *def;              /* producer; NULL for graph inputs and constants */
  int def_slot;
  VEC(Use) uses;
  bool is_input, is_output;
};

/* An elementwise step fused into a node ("epilogue"). Steps are in order; the node's result is the last step's. */
typedef enum { ARG_ACC, ARG_STEP, ARG_IN } ArgKind;  /* the op's own result · an earlier step · node->in[i] at the same coordinates */
typedef struct BodyArg {
  ArgKind kind;
  int i;
  int up;                 /* ARG_IN: read at spatial coordinates >> up (nearest upsampling by 2^up that was never stored) */
} BodyArg;
typedef struct BodyStep {
  Op op;
  const void *attr;
  DType dt;               /* of the step's result */
  int nargs;
  BodyArg arg[3];
} BodyStep;

struct Node {
  int id;                 /* unique, never reused */
  Op op;
  const void *attr;       /* the op's XxxAttr; never NULL for ops that have one */
  Value **in;             /* in[0..ncore) are the op's own operands (NULL: optional and absent), in[ncore..nin) are read by the body */
  int nin, ncore;
  Value **out;
  int nout;
  BodyStep *body;         /* applied to out[0] */
  int nbody;
  bool joined;            /* computed in one kernel with the Conv before it in the list, which reads the same tensor alike (horizontal.c) */
  bool streamed;          /* computed in one kernel with the node before it in the list, whose result it alone reads (stream.c) */
  const char **origin;    /* names of the ONNX nodes this came from */
  int norigin;
  const char *onnx_op;    /* the ONNX operator of the first origin, for messages; may be NULL */
  int opset;
  Node *prev, *next;
};

struct Graph {
  Arena *arena;
  Diag *diag;
  const char *file;       /* for messages */
  const char *name;
  Node *first, *last;
  VEC(Value *) values;
  VEC(Value *) inputs;
  VEC(Value *) outputs;
  int next_node_id;
};

Graph *graph_new(Arena *a, Diag *d, const char *file);
Value *graph_add_value(Graph *g, const char *name, DType dt, const Shape *shape);   /* name is copied; may be NULL */
Value *graph_add_input(Graph *g, const char *name, DType dt, const Shape *shape);
Value *graph_add_const(Graph *g, const char *name, DType dt, const Shape *shape, const void *data);  /* data is borrowed */
void graph_add_output(Graph *g, Value *v);      /* order is the signature's; the same value may be added once only */
/* Appends a node (before == NULL) or inserts it before another; makes its output values (untyped until inferred). in[] may hold NULLs.
 * attr is copied; NULL: all zero. */
Node *graph_add_node(Graph *g, Node *before, Op op, const void *attr, Value *const *in, int nin);
/* As above, then infers. NULL when inference reported an error. */
Node *graph_make(Graph *g, Node *before, Op op, const void *attr, Value *const *in, int nin);
void node_add_origin(Graph *g, Node *n, const char *name);
void node_copy_origin(Graph *g, Node *to, const Node *from);
void graph_set_input(Graph *g, Node *n, int slot, Value *v);
void graph_set_inputs(Graph *g, Node *n, Value *const *in, int nin, int ncore);
void graph_replace_uses(Graph *g, Value *old, Value *with);   /* in nodes and in the graph's outputs */
void graph_erase(Graph *g, Node *n);                          /* its outputs must be unused */
void graph_move_before(Graph *g, Node *n, Node *before);      /* before == NULL: to the end */
/* Values no longer reachable are dropped from graph->values and ids are renumbered in list order. */
void graph_compact(Graph *g);
/* A deep copy sharing constant data. */
Graph *graph_clone(const Graph *g, Arena *a, Diag *d);

static inline bool value_is_const(const Value *v) { return v && v->data; }
static inline int64_t value_count(const Value *v) { return shape_count(&v->shape); }
static inline size_t value_bytes(const Value *v) { return (size_t)value_count(v) * dt_size(v->dt); }   /* dense */
int64_t node_macs(const Node *n);                /* multiply-adds of Conv, ConvTranspose, MatMul, Einsum; else 0 (in ops/macs.c) */
/* Concat, Slice or Gather (by constant indices) of whole images along dimension 1: operands and result may be BLOCKED (ops/channels.c). */
bool node_moves_channels(const Node *n);
int64_t value_storage_count(const Value *v);     /* elements in its layout, padding included */
bool value_single_use(const Value *v);           /* one use by a node and not a graph output */
bool value_scalar_f(const Value *v, double *out);  /* constant whose elements are all the same number (count >= 1) */

Where node_where(const Graph *g, const Node *n);
Status node_error(const Graph *g, const Node *n, Status s, const char *hint, const char *fmt, ...) PRINTF_LIKE(5, 6);
/* Our own mistake at this node: reports and leaves through the arena's Fail. */
NORETURN void ice(const Graph *g, const Node *n, const char *where, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* ---- op.c: the operator table --------------------------------------------------------------------------------------------------- */

enum {
  OPF_EW = 1,          /* elementwise with broadcasting: may become a BodyStep */
  OPF_BODY = 2,        /* lowering applies node->body to out[0] before storing */
  OPF_CHANNEL = 4,     /* acts on each channel alone: data operand and result may both be BLOCKED */
  OPF_VIEW = 8,        /* out[0] has the bytes of in[0] (PLAIN layout): needs no kernel */
  OPF_REVISIT = 16,    /* out[0] is read or written more than once while lowering: never in place */
  OPF_NEIGHBOURS = 32  /* channels depend on their neighbours; data operand and result may both be BLOCKED all the same */
};

struct OpInfo {
  const char *name;
  const AttrDesc *attr;
  int min_in, max_in;      /* max_in -1: any number */
  int nout;                /* number of outputs made; some may be unused */
  unsigned flags;
  bool (*infer)(Graph *g, Node *n);                                        /* sets out types and shapes; reports and returns false */
  void (*lower)(Lower *l, const Node *n);
  Expr *(*ew)(Build *b, const void *attr, Expr *const *x, int n);          /* OPF_EW: the value, for operands of one type and width */
};
extern const OpInfo op_table[OP_COUNT];
static inline const OpInfo *op_info(Op op) { return &op_table[op]; }
bool op_parse(const char *name, size_t n, Op *out);
/* Type of an elementwise op's result for operands of these types; DT_NONE when they do not fit together. */
DType op_ew_dtype(Op op, const void *attr, const DType *args, int n);
/* The op's infer, then the type the body's last step gives to out[0]. */
bool node_infer(Graph *g, Node *n);
bool attr_equal(const AttrDesc *d, const void *a, const void *b);
void *attr_copy(Arena *a, const AttrDesc *d, const void *attr);

/* Shape arithmetic shared by families (ops/window.c): the output extent of a convolution or pool along one axis; -1 if negative. */
int64_t window_extent(int64_t in, int64_t kernel, int64_t stride, int64_t pad_begin, int64_t pad_end, int64_t dilation, bool ceil_mode);

/* ---- print.c, parse.c, verify.c ------------------------------------------------------------------------------------------------- */

/* Text form; print(parse(print(g))) == print(g):
 *   graph "name" {
 *     input %x: f32[1,3,64,N<=64]                        # N: a symbol and its bound
 *     const %w: f32[16,3,3,3] = opaque 0x123456789abcdef0
 *     const %b: f32[4] = [0, 1.5, nan, -inf]
 *     %c: f32[1,16,64,N<=64]{c16} = Conv(%x, %w, _; %r) {strides=[1,1], ...} body { %0: bool = Less(acc, in3^1); ... } @ "Conv_0", "Relu_1"
 *     output %c
 *   }
 * After its attributes a node may be "joined" or "streamed". {c16}: BLOCKED layout. _: an absent operand, or an unused output. After ; the operands the body reads: in3 is the node's operand 3, in3^1
 * that at half the spatial coordinates; a step has its type only where it is not out[0]'s. Names other than identifiers are in quotes;
 * %v0, %v1, ... are values without a name. A number with f after it is rounded to f32.
 * Constants of up to 16 elements print in full, larger ones as `splat X` if all elements are the same, else as `opaque HASH`, which
 * parses into pseudo-random data of that seed (floats in (-1, 1), integers in [-8, 8) or [0, 16)) and prints as the same HASH again.
 * Types of node outputs, and attributes that are zero, may be left out when writing. Comments run from # or // to the end of the line. */
void graph_print(const Graph *g, Text *out);
Graph *graph_parse(Arena *a, Diag *d, const char *file, const char *text);   /* NULL after reporting file:line */
void opaque_fill(void *data, DType dt, int64_t count, uint64_t seed);
uint64_t opaque_seed(const void *data, DType dt, int64_t count);   /* count > 16 */
/* NULL if the invariants hold, else what is wrong (arena text). */
const char *graph_verify(const Graph *g, Arena *a);

#endif
