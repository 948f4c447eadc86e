/* frontend/import.h: what the importer's files share; private to frontend/.
 *
 * Sections, one per file:  proto.c (protobuf under limits) · onnx_file.c · tensor_proto.c · external_data.c · scope.c · signature.c ·
 * onnx_import.c (the walk) · function.c · opset.c (the table, from onnx_ops.def) · attribute.c · emit.c · op_*.c (the handlers)
 *
 * A handler turns one ONNX node into canonical nodes. It is written straight through: what goes wrong is reported by the helper that found
 * it, which marks the node failed and returns a harmless value (NULL, 0, false), and every emit_* passes a NULL operand on. A handler must
 * only never look into a Value it has not checked. Operands were counted and their types checked against the table before it was called.
 */
#ifndef IMPORT_H
#define IMPORT_H

#include "frontend.h"
#include "onnx.pb-c.h"

/* ---- proto.c: protobuf-c with bounded depth and memory ------------------------------------------------------------------------ */

/* Unpacks one message; everything it allocates goes when the arena does. NULL if the bytes are no such message: *why says what is wrong,
 * *at is the offset where (both are set only then). */
void *proto_unpack(Arena *a, const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t n, const char **why, size_t *at);
/* Repeated messages under a field number that the generated code may be too old to know: then they are unpacked from the unknown fields. */
int proto_messages(Arena *a, const ProtobufCMessage *m, uint32_t field, const ProtobufCMessageDescriptor *d, ProtobufCMessage ***out);
/* Likewise a string; "" if absent. */
const char *proto_string(Arena *a, const ProtobufCMessage *m, uint32_t field);

/* ---- onnx_file.c -------------------------------------------------------------------------------------------------------------- */

/* A message of type d from a file, mapped only while it is unpacked. NULL after reporting. */
void *onnx_file_unpack(Arena *a, Diag *diag, const char *path, const ProtobufCMessageDescriptor *d, const char *what);

/* ---- external_data.c ---------------------------------------------------------------------------------------------------------- */

typedef struct External External;   /* the folder of a model and its data files, mapped until the arena goes */
External *external_open(Arena *a, const char *model_path);
/* The `bytes` bytes t keeps outside the model; NULL after reporting. */
const void *external_data(External *e, Diag *diag, const Where *w, const Onnx__TensorProto *t, const char *name, size_t bytes);

/* ---- tensor_proto.c ----------------------------------------------------------------------------------------------------------- */

typedef struct Tensor { DType dt; Shape shape; const void *data; } Tensor;
/* Decodes every encoding of a dense tensor. The data is borrowed from t or from a mapped file where its bytes can be used as they are, else
 * made in the arena. ext NULL: external data is refused. */
Status tensor_decode(Arena *a, Diag *diag, const Where *w, const Onnx__TensorProto *t, const char *name, External *ext, Tensor *out);
/* ONNX's element type number as ours; DT_NONE after writing why not into *why ("float8e4m3fn", ...). */
DType onnx_dtype(int64_t type, const char **why);

/* ---- scope.c: names of one graph or function body ----------------------------------------------------------------------------- */

/* ABSENT: an optional operand the function's caller left out. POISONED: what would make it failed. MISSING: nothing makes it; the answer to
 * the first question for it, POISONED from then on. */
typedef enum { NAME_VALUE, NAME_INIT, NAME_ABSENT, NAME_POISONED, NAME_MISSING } NameKind;
typedef struct Name {
  const char *text;
  NameKind kind;
  Value *v;                        /* NAME_VALUE; NAME_INIT once it was asked for */
  const Onnx__TensorProto *init;   /* NAME_INIT */
  bool missing, inner;             /* inner: an initializer of a branch, whose name may repeat */
} Name;

typedef struct Scope Scope;
Scope *scope_new(Arena *a, Scope *outer);              /* outer: of a subgraph, whose names it sees; NULL otherwise */
/* NULL if unknown. Valid until the next scope_add. */
Name *scope_find(Scope *s, const char *text);          /* here, then outwards */
Name *scope_find_here(Scope *s, const char *text);
Name *scope_add(Scope *s, const char *text, NameKind kind, Value *v);   /* NULL if this scope has the name already */

/* ---- the import --------------------------------------------------------------------------------------------------------------- */

typedef struct Function {
  const Onnx__FunctionProto *proto;
  const char *overload;
  Onnx__AttributeProto **defaults;
  int ndefaults;
} Function;

typedef struct Import {
  Arena *arena;
  Diag *diag;
  Graph *g;
  const char *file;
  const ImportOptions *options;
  const spinec_load_options *load;    /* never NULL */
  const Onnx__ModelProto *model;
  External *ext;
  Function *functions;
  int nfunctions;
  int errors;                          /* reported so far */
  int nodes;                           /* ONNX nodes walked, functions expanded */
  VEC(int) position;                   /* of each graph input among the inputs a caller feeds, bound ones counted too */
  int64_t made_bytes;                  /* of constants made while importing, not borrowed */
} Import;

enum { MAX_ERRORS = 100, MAX_NODES = 1 << 19, MAX_CALL_DEPTH = 64, MAX_LIST = 1 << 16 };
#define MAX_DIM ((int64_t)INT32_MAX)
#define MAX_TENSOR_BYTES ((int64_t)1 << 40)   /* of a value computed at run time */
#define MAX_MADE_BYTES ((int64_t)1 << 30)     /* of all constants made while importing */

/* The graph or function body being walked: whose operator sets hold, and what the attributes it refers to are. */
typedef struct Frame Frame;
struct Frame {
  const Frame *up;                     /* the caller's; NULL for the model's own graph */
  const Function *fn;                  /* NULL for the model's graph */
  const Onnx__NodeProto *call;
  const char *label;                   /* put before node names in messages: "call/"; "" for the model */
  Onnx__OperatorSetIdProto **opsets;
  size_t nopsets;
  int depth;
};

typedef struct OpRow OpRow;

/* One ONNX node while it is imported. */
typedef struct Onode {
  Import *im;
  const Onnx__NodeProto *proto;
  size_t index;                        /* in its graph */
  Onnx__NodeProto *const *later;       /* the nodes behind it */
  size_t nlater;
  const OpRow *row;
  const Frame *frame;
  Scope *scope;
  const char *label;                   /* for messages: its name, or its number and first output */
  int opset;
  Value **in;                          /* NULL: left out */
  int nin;
  Value **out;                         /* set by the handler */
  int nout;                            /* named by the node, trailing empty names included */
  uint64_t seen;                       /* attributes the handler asked for, as bits */
  bool failed;
} Onode;

struct OpRow {
  const char *name;
  bool (*import)(Onode *o);            /* NULL: refused, because of `why` */
  Op op;                               /* for handlers that serve several operators */
  int since, until;                    /* oldest and newest (0: none) operator set whose semantics the handler has */
  const char *types;                   /* per operand, the last letter repeated; see opset.c */
  int min_in, max_in, max_out;         /* -1: any number */
  const char *why;
};

/* ---- onnx_import.c ---- */
Status import_error(Import *im, Status s, const char *hint, const char *fmt, ...) PRINTF_LIKE(4, 5);   /* about the model as a whole */
const char *shown(Import *im, const char *name);       /* a name for a message: cut to a sane length; NULL becomes "" */
/* Walks nodes in order. Failed nodes are reported and their outputs poisoned; the walk goes on. */
void import_nodes(Import *im, const Frame *f, Scope *s, Onnx__NodeProto **nodes, size_t n);
/* Adds a graph's initializers to the scope; they become constants when first used. */
void import_initializers(Import *im, Scope *s, const Onnx__GraphProto *g, bool inner);
/* The value of a name. NULL with *kind telling why: ABSENT, POISONED (was reported), MISSING (to be reported by the caller). */
Value *import_value(Import *im, const Where *w, Scope *s, const char *text, NameKind *kind);
bool names_equal(const char *a, const char *b);        /* NULL is "" */
bool name_empty(const char *a);

/* ---- signature.c ---- */
void import_inputs(Import *im, Scope *s, const Onnx__GraphProto *g);    /* binds dimensions; adds inputs and bound constants */
void import_outputs(Import *im, Scope *s, const Onnx__GraphProto *g);

/* ---- function.c ---- */
void import_functions(Import *im);
const Function *function_find(const Import *im, const Onnx__NodeProto *call);
bool function_inline(Onode *o, const Function *fn);

/* ---- opset.c ---- */
const OpRow *op_row(const char *name);
bool op_types_check(Onode *o);         /* operand counts and element types against the table */

/* ---- attribute.c: attributes and constant operands, checked ------------------------------------------------------------------- */

/* The node is malformed / well-formed but not supported: reports, marks it failed, returns false. */
bool onnx_bad(Onode *o, const char *hint, const char *fmt, ...) PRINTF_LIKE(3, 4);
bool onnx_refuse(Onode *o, const char *hint, const char *fmt, ...) PRINTF_LIKE(3, 4);
Where onode_where(const Onode *o);

bool attr_given(Onode *o, const char *name);
void attr_ignore(Onode *o, const char *name);          /* has no effect on what is computed */
int64_t attr_int(Onode *o, const char *name, int64_t otherwise);
int64_t attr_int_in(Onode *o, const char *name, int64_t otherwise, int64_t lo, int64_t hi);
bool attr_flag(Onode *o, const char *name, bool otherwise);
double attr_float(Onode *o, const char *name, double otherwise);
const char *attr_string(Onode *o, const char *name, const char *otherwise);
/* Index of the attribute's text among NULL-terminated names; unknown texts are an error. */
int attr_choice(Onode *o, const char *name, const char *const *names, int otherwise);
bool attr_ints(Onode *o, const char *name, Ints *out);        /* false if absent */
bool attr_floats(Onode *o, const char *name, Floats *out);
/* n numbers within lo..hi; `otherwise` n times if absent. */
Ints attr_ints_n(Onode *o, const char *name, int n, int64_t otherwise, int64_t lo, int64_t hi);
const Onnx__TensorProto *attr_tensor(Onode *o, const char *name);
const Onnx__GraphProto *attr_graph(Onode *o, const char *name);
int attr_axis(Onode *o, const char *name, int64_t otherwise, int rank);   /* normalised; 0 after an error */
DType attr_dtype(Onode *o, const char *name, DType otherwise);            /* computable, or DT_NONE after an error */
bool attrs_all_seen(Onode *o);                                            /* refuses attributes nobody asked for */

static inline bool has_in(const Onode *o, int i) { return i < o->nin && o->in[i]; }
bool wants_out(const Onode *o, int i);
/* Operands the canonical form has as attributes; they must be constant. `what` names them in messages. */
bool const_in(Onode *o, int i, const char *what);
bool const_ints(Onode *o, int i, const char *what, Ints *out);
bool const_floats(Onode *o, int i, const char *what, Floats *out);
bool const_int(Onode *o, int i, const char *what, int64_t *out);
bool const_float(Onode *o, int i, const char *what, double *out);
/* Axes from an attribute before operator set `since`, from operand i from then on; normalised, distinct. *given false: neither is there. */
bool axes_of(Onode *o, int i, int since, int rank, Ints *out, bool *given);

/* ---- emit.c: canonical nodes -------------------------------------------------------------------------------------------------- */

/* Makes a node, infers, folds if its operands are constant. Operands may be NULL only where the canonical operator allows it. */
bool emit_outs(Onode *o, Op op, const void *attr, Value *const *in, int nin, Value **outs);
Value *emit(Onode *o, Op op, const void *attr, Value *const *in, int nin);
Value *emit1(Onode *o, Op op, const void *attr, Value *x);                    /* these give NULL for a NULL operand */
Value *emit2(Onode *o, Op op, const void *attr, Value *x, Value *y);
Value *emit3(Onode *o, Op op, const void *attr, Value *x, Value *y, Value *z);
Value *emit_reshape(Onode *o, Value *x, int rank, const int64_t *dims);
Value *emit_reshape_to(Onode *o, Value *x, const Shape *s);
Value *emit_transpose(Onode *o, Value *x, const int64_t *perm);               /* perm: as many as x has dimensions */
Value *emit_cast(Onode *o, Value *x, DType to);
Value *emit_reduce(Onode *o, Op op, Value *x, Ints axes, bool keepdims);      /* axes normalised; over no elements: the neutral element */
Value *emit_slice(Onode *o, Value *x, int axis, int64_t start, int64_t size); /* of one dimension */
Value *emit_concat(Onode *o, Value *const *in, int n, int axis);              /* one operand: itself */
Value *emit_expand(Onode *o, Value *x, const Shape *to);                      /* x broadcast to exactly `to` */
Value *emit_channel(Onode *o, Value *x, int rank, int axis);                  /* [C] as [1.., C, ..1] */
Value *emit_scalar(Onode *o, DType dt, double x);                             /* constants */
Value *emit_full(Onode *o, DType dt, const Shape *s, double x);
Value *emit_filled(Onode *o, const Value *one, const Shape *s);               /* repeats a constant of one element */
Value *emit_i64s(Onode *o, const int64_t *v, int n);
Value *emit_const(Onode *o, DType dt, const Shape *s, const void *data);      /* data is borrowed */
void *made_data(Onode *o, DType dt, const Shape *s);                          /* zeroed, counted; NULL after refusing */
bool check_shape(Onode *o, const Shape *s, DType dt);                         /* within the limits above */
bool onnx_out(Onode *o, int i, Value *v);                                     /* v != NULL */
Shape shape_with(const Shape *s, int axis, int64_t n);
Ints spatial_axes(Arena *a, int rank);                                        /* 2 .. rank-1 */

/* ---- shared by the op_*.c ---- */
/* op_conv.c: the attributes of a convolution or pool over `spatial` dimensions; kernel: [spatial], x: [N, C, spatial...]. */
typedef struct Window { Ints kernel, strides, dilations, pads; bool ceil_mode; } Window;
bool window_of(Onode *o, const Shape *x, Ints kernel, bool with_dilations, bool with_ceil, Window *w);
/* op_quant.c uses these on integers carried by floats. */
Value *emit_conv(Onode *o, Value *x, Value *w, Value *bias);
Value *emit_matmul(Onode *o, Value *a, Value *b);

#define ONNX_OP(name, handler, op, since, until, types, min_in, max_in, max_out) bool handler(Onode *o);
#define ONNX_NO(name, why)
#include "onnx_ops.def"
#undef ONNX_OP
#undef ONNX_NO

#endif
