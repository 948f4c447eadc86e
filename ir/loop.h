/* ir/loop.h: the loop IR and the Program: everything decided, for printers to spell and the interpreter to run.
 *
 * Sections, one per file:  loop.c, loop_fold.c (builder) · program.c · loop_print.c · loop_parse.c, loop_parse_program.c, loop_lex.c ·
 * loop_verify.c, program_verify.c, program_live.c · loop_eval.c (what operators mean: loop_eval.h)
 *
 * A Program is a list of calls of kernels on buffers. A kernel is a structured loop nest over scalars and vectors.
 *
 * Types: every element type of the graph, plus `idx`, the signed pointer-sized integer of addresses and loop counters (arithmetic on it
 * never overflows for a verified program). Vectors (lanes > 1) are of f32, i32, and bool as a mask beside them; all else is scalar.
 * A bool in memory is a byte 0 or 1.
 *
 * A kernel's outermost loop is its range: the body runs for every value of `range` in [begin, end), which the caller chooses; iterations
 * are independent (they write disjoint elements), so any split over threads gives the same bits. extent 1: nothing to split.
 *
 * Memory: a parameter points to elements of one type; alignment is the element's unless the buffer is arena, weight or scratch (64 bytes
 * at offset 0). Parameters do not overlap, except those marked may_alias, of which each iteration reads an element before writing it.
 */
#ifndef IR_LOOP_H
#define IR_LOOP_H

#include "base.h"

#define DT_IDX ((DType)100)
#define MAX_LANES 64

typedef struct Type { DType dt; int lanes; } Type;
static inline Type type_of(DType dt, int lanes) { return (Type){dt, lanes}; }
static inline Type type_idx(void) { return (Type){DT_IDX, 1}; }
static inline bool type_equal(Type a, Type b) { return a.dt == b.dt && a.lanes == b.lanes; }
const char *type_name(Type t, char buf[24]);  /* "f32", "f32x16", "idx" */

typedef enum XOp {
#define X(NAME, text, n) X_##NAME,
#include "loop_ops.def"
#undef X
  X_COUNT
} XOp;
typedef struct XInfo { const char *name, *text; int nargs; } XInfo;
extern const XInfo x_table[X_COUNT];

typedef enum { VAR_BUF, VAR_RANGE, VAR_LOOP, VAR_LET, VAR_REG } VarKind;
typedef enum { ACCESS_IN, ACCESS_OUT, ACCESS_INOUT, ACCESS_CONST, ACCESS_SCRATCH } Access;

typedef struct Var {
  VarKind kind;
  const char *name;        /* unique within the kernel */
  Type type;               /* of a buffer: the element, lanes 1 */
  int id;                  /* position in kernel->vars */
  Access access;           /* buffers */
  bool may_alias;          /* buffers */
  int64_t scratch_bytes;   /* ACCESS_SCRATCH: per thread */
} Var;

typedef struct Expr Expr;
struct Expr {
  XOp op;
  Type type;
  Expr *a[3];
  int64_t i;               /* CONST of integers, bool and idx; EXTRACT lane */
  double f;                /* CONST of floats */
  Var *var;                /* VAR; LOAD: the buffer */
  const uint8_t *shuffle;  /* SHUFFLE: type.lanes entries */
};

typedef enum { S_FOR, S_WHILE, S_IF, S_LET, S_REG, S_SET, S_STORE, S_PREFETCH, S_PIN, S_COMMENT } StmtKind;
typedef struct Stmt Stmt;
typedef struct Block { Stmt *first, *last; } Block;
struct Stmt {
  StmtKind kind;
  Stmt *next;
  Var *var;                /* FOR counter; LET, REG, SET, PIN target; STORE, PREFETCH buffer */
  Expr *e;                 /* FOR begin; WHILE, IF condition; LET, REG, SET, STORE value */
  Expr *end;               /* FOR end (exclusive) */
  int64_t step;            /* FOR: > 0 */
  Expr *index;             /* STORE, PREFETCH: element offset */
  Expr *count, *stride;    /* STORE: as LOAD's a1, a2; may be NULL */
  int locality;            /* PREFETCH: 0 (streamed, non-temporal) .. 3 (keep in L1) */
  bool write;              /* PREFETCH: for writing */
  Block body, other;       /* FOR, WHILE, IF; other: else */
  const char *text;        /* COMMENT */
};

typedef struct Kernel {
  const char *name;        /* k0, k1, ... after de-duplication */
  const char *what;        /* "conv3x3 direct 64->128 56x56", for comments and profiles */
  VEC(Var *) params;       /* buffers, in argument order */
  VEC(Var *) vars;         /* all variables, by id */
  Var *range;              /* idx; NULL until set */
  int64_t extent;          /* range runs over [0, extent) */
  Block body;
  double flops, bytes;     /* of one call: multiply and add count as two; bytes touched at least once */
} Kernel;

/* ---- loop.c: the builder --------------------------------------------------------------------------------------------------------
 * Expressions fold constants and idx arithmetic as they are built ((a+1)+2 is a+3, x*1 is x, 0*x is 0 for integers only), so what is
 * printed reads well. Expressions may be shared but print once per use: bind what is used twice with s_let. */

#define BUILD_DEPTH 64
typedef struct Build {
  Arena *arena;
  Kernel *k;
  struct NameTable *names;    /* of k's variables */
  Block *open[BUILD_DEPTH];   /* innermost last */
  Stmt *owner[BUILD_DEPTH];
  int depth;
} Build;

Kernel *kernel_new(Arena *a, const char *what);
void build_start(Build *b, Arena *a, Kernel *k);
Var *build_param(Build *b, const char *name, DType dt, Access access);   /* names are made unique: x, x1, x2 */
Var *build_range(Build *b, const char *name, int64_t extent);

Expr *x_idx(Build *b, int64_t i);
Expr *x_int(Build *b, Type t, int64_t i);       /* integer, bool or idx constant */
Expr *x_float(Build *b, Type t, double f);      /* float constant, rounded to the type */
Expr *x_num(Build *b, Type t, double v);        /* either, by type */
Expr *x_var(Build *b, Var *v);
Expr *x_un(Build *b, XOp op, Expr *a);
Expr *x_bin(Build *b, XOp op, Expr *l, Expr *r);   /* a scalar operand beside a vector is splatted */
Expr *x_fma(Build *b, Expr *l, Expr *r, Expr *add);
Expr *x_select(Build *b, Expr *cond, Expr *yes, Expr *no);
Expr *x_cast(Build *b, DType to, Expr *a);      /* keeps lanes; no-op if already that type */
Expr *x_bitcast(Build *b, DType to, Expr *a);
Expr *x_splat(Build *b, Expr *a, int lanes);    /* no-op if lanes == 1 */
Expr *x_extract(Build *b, Expr *a, int lane);
Expr *x_shuffle(Build *b, Expr *l, Expr *r, const uint8_t *lanes, int n);
Expr *x_reduce(Build *b, XOp op, Expr *a);      /* no-op if lanes == 1 */
Expr *x_iota(Build *b, int lanes);
Expr *x_load(Build *b, Var *buf, Expr *index, int lanes);
Expr *x_load_part(Build *b, Var *buf, Expr *index, int lanes, Expr *count, Expr *stride);  /* count, stride may be NULL */
/* idx arithmetic shorthands */
static inline Expr *x_add(Build *b, Expr *l, Expr *r) { return x_bin(b, X_ADD, l, r); }
static inline Expr *x_sub(Build *b, Expr *l, Expr *r) { return x_bin(b, X_SUB, l, r); }
static inline Expr *x_mul(Build *b, Expr *l, Expr *r) { return x_bin(b, X_MUL, l, r); }
static inline Expr *x_addi(Build *b, Expr *l, int64_t i) { return x_bin(b, X_ADD, l, x_int(b, l->type, i)); }
static inline Expr *x_muli(Build *b, Expr *l, int64_t i) { return x_bin(b, X_MUL, l, x_int(b, l->type, i)); }
static inline Expr *x_divi(Build *b, Expr *l, int64_t i) { return x_bin(b, X_DIV, l, x_int(b, l->type, i)); }
static inline Expr *x_remi(Build *b, Expr *l, int64_t i) { return x_bin(b, X_REM, l, x_int(b, l->type, i)); }
bool x_is_int(const Expr *e, int64_t *out);     /* an integer or idx constant */

Expr *s_let(Build *b, const char *name, Expr *e);            /* a variable naming e; constants and variables pass through */
Var *s_reg(Build *b, const char *name, Expr *init);          /* a mutable register */
void s_set(Build *b, Var *reg, Expr *e);
void s_store(Build *b, Var *buf, Expr *index, Expr *e);
void s_store_part(Build *b, Var *buf, Expr *index, Expr *e, Expr *count, Expr *stride);
Expr *s_for(Build *b, const char *name, Expr *begin, Expr *end, int64_t step);   /* opens a scope; gives the counter */
Expr *s_for_n(Build *b, const char *name, int64_t n);        /* 0..n; n == 1 opens no loop but still needs s_end, and gives 0 */
void s_while(Build *b, Expr *cond);
void s_if(Build *b, Expr *cond);
void s_else(Build *b);
void s_end(Build *b);
void s_prefetch(Build *b, Var *buf, Expr *index, int locality, bool write);
void s_pin(Build *b, Var *let);                              /* keep this loaded value in a register */
void s_comment(Build *b, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---- program.c ------------------------------------------------------------------------------------------------------------------ */

typedef enum { BUF_ARENA, BUF_SCRATCH, BUF_WEIGHT, BUF_INPUT, BUF_OUTPUT } BufferKind;

/* Weight bytes are made when written or materialised, so a model's weights exist once. */
typedef struct Weight {
  const char *name;                        /* of the ONNX initialiser, for comments */
  const char *desc;                        /* how it is packed: "dense", "conv [2][4][3][3][16][32]"; with the source, its identity */
  const void *source;
  int64_t bytes;
  void (*fill)(const void *ctx, void *dst);   /* writes exactly `bytes` bytes */
  const void *ctx;
  int64_t offset;                          /* in the weight blob; 64-byte aligned; set by program_layout_weights */
} Weight;

typedef struct Buffer {
  BufferKind kind;
  const char *name;        /* ONNX value name or NULL */
  int64_t bytes;           /* scratch: per thread */
  int index;               /* INPUT, OUTPUT: position in the signature; WEIGHT: in weights */
  int64_t offset;          /* ARENA, SCRATCH: in the workspace; set by the memory plan. INPUT, OUTPUT: in the caller's tensor */
  int64_t stride;          /* SCRATCH: bytes between threads' parts; set by the memory plan */
  int first, last;         /* calls between which some of it is live (ARENA, SCRATCH); set by the memory plan */
  bool part;               /* it is the bytes from `at` on of buffer `whole`, which has the same kind and is no part itself */
  int whole;
  int64_t at;
} Buffer;

typedef struct Arg { int buffer; int64_t offset; /* bytes */ } Arg;

typedef struct Call {
  Kernel *kernel;
  Arg *args;               /* one per kernel parameter */
  const char **origin;     /* ONNX node names */
  int norigin;
  const char *onnx_op;
  int node;                /* id of the graph's node while compiling; -1: none. Not printed */
} Call;

typedef struct Port { const char *name; DType dt; Shape shape; } Port;

typedef struct Program {
  Arena *arena;
  const char *name, *file;
  const Target *target;
  int max_threads;
  VEC(Kernel *) kernels;
  VEC(Call) calls;
  VEC(Buffer) buffers;
  VEC(Weight) weights;
  VEC(Port) inputs;
  VEC(Port) outputs;
  int64_t workspace_bytes, live_bytes, weight_bytes;
  int64_t *live;              /* by call: bytes of the workspace alive; set by the memory plan, NULL before. Not printed */
  int64_t given_live_bytes;   /* live_bytes if the calls were in the order of the graph; 0: they are. Not printed */
  int64_t macs, params;
} Program;

/* Running it (what every backend does): for each call in order, for each thread's part [begin, end) of [0, extent):
 *   kernel(pointer per param, begin, end)   with pointer = base of the buffer's kind + buffer.offset + arg.offset (+ thread * stride). */

Program *program_new(Arena *a, const Target *t);
int program_add_buffer(Program *p, Buffer b);
/* The bytes [at, at + bytes) of `of`, which may itself be a part: of what that is a part of. The range must lie within `of`. */
int program_add_part(Program *p, int of, int64_t at, int64_t bytes, const char *name);

/* ---- program_live.c: which bytes are alive when ---- */

/* Bytes of a buffer that is no part, cut so that every buffer on the same memory is a run of segments: calls touch whole segments.
 * Of scratch it is one thread's. */
typedef struct Segment {
  int whole;               /* the buffer */
  int64_t at, bytes;
  int first, last;         /* calls that touch it; -1: none */
} Segment;
typedef struct Segments {
  Segment *at;             /* by buffer, then by place */
  int n;
  int *lo, *hi;            /* by buffer: it is the segments [lo, hi); of weights and empty buffers there are none */
} Segments;
Segments program_segments(const Program *p, Arena *a);

/* Finds an equal weight (same source, desc, bytes) or adds one; returns the buffer's index. */
int program_add_weight(Program *p, Weight w);
void program_layout_weights(Program *p);           /* offsets and weight_bytes */
void weight_fill_dense(const void *ctx, void *dst);   /* ctx: DenseWeight */
typedef struct DenseWeight { const void *data; size_t bytes; } DenseWeight;

/* A general packing: dst[i0][i1]...[in-1] = src[sum of i_d * stride_d], or 0 where for some group the sum of i_d * mul_d (over the dims of
 * that group) reaches its limit; optionally multiplied by scale[value of group 0]. Elements of any type of 1, 2, 4, 8 bytes; scale f32,
 * f64. */
#define PACK_DIMS 10
#define PACK_GROUPS 4
typedef struct PackDim { int64_t n, stride; int group; int64_t mul; } PackDim;   /* group -1: unlimited */
typedef struct Pack {
  const void *src;
  DType dt;
  int ndims;
  PackDim dim[PACK_DIMS];
  int64_t limit[PACK_GROUPS];
  const float *scale;      /* NULL: none */
} Pack;
int64_t pack_count(const Pack *p);
void weight_fill_pack(const void *ctx, void *dst);    /* ctx: Pack */
int program_add_pack(Program *p, const char *name, const Pack *pack, const char *desc);   /* copies pack; buffer index */

/* ---- loop_print.c, loop_parse.c, loop_verify.c ------------------------------------------------------------------------------------ */

void kernel_print(const Kernel *k, Text *out);
void program_print(const Program *p, Text *out);      /* buffers, weights (as opaque), kernels, calls */
/* print(parse(print(x))) == print(x). NULL after reporting file:line. */
Kernel *kernel_parse(Arena *a, Diag *d, const char *file, const char *text);
Program *program_parse(Arena *a, Diag *d, const char *file, const char *text, const Target *t);
const char *kernel_verify(const Kernel *k, Arena *a); /* NULL, or what is wrong: types, scopes, vector rules */
const char *program_verify(const Program *p, Arena *a);   /* arguments against parameters, buffers against the workspace */

#endif
