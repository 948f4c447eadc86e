/* spinec.h: the public interface of libspinec, an ONNX model compiler.
 *
 *   spinec_model    an imported network: canonical operators, every shape known   (spinec_load)
 *   spinec_program  that network lowered to kernels for one target                (spinec_compile)
 *   spinec_session  a program ready to run in this process                        (spinec_session_open)
 *
 * Ownership: every object is freed by its own *_free or *_close and needs its parent while it lives: free them in the
 * reverse order of creation. Strings returned belong to the object they were asked of.
 * Errors: a call that can fail returns a spinec_status. The messages, all of one run and not just the first, are
 * collected in the spinec_diagnostics handed in (NULL: dropped).
 * No global state: distinct objects may be used from distinct threads at the same time.
 */
#ifndef SPINEC_H
#define SPINEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SPINEC_VERSION "0.1.0"
#define SPINEC_MAX_RANK 8

typedef enum {
  SPINEC_OK = 0,
  SPINEC_ERR_INPUT,       /* the model or a file is malformed */
  SPINEC_ERR_UNSUPPORTED, /* well-formed, but uses something spinec does not compile */
  SPINEC_ERR_OPTION,      /* an option or argument makes no sense */
  SPINEC_ERR_IO,          /* a file could not be read or written */
  SPINEC_ERR_MEMORY,      /* out of memory */
  SPINEC_ERR_TOOL,        /* an external tool (the system's cc) failed */
  SPINEC_ERR_MISMATCH,    /* verification: results differ */
  SPINEC_ERR_INTERNAL     /* a mistake of ours; the message names the pass and the node */
} spinec_status;

/* Element types; the values are those of ONNX TensorProto.DataType. */
typedef enum {
  SPINEC_UNDEFINED = 0,
  SPINEC_F32 = 1, SPINEC_U8 = 2, SPINEC_I8 = 3, SPINEC_U16 = 4, SPINEC_I16 = 5, SPINEC_I32 = 6, SPINEC_I64 = 7,
  SPINEC_STRING = 8, SPINEC_BOOL = 9, SPINEC_F16 = 10, SPINEC_F64 = 11, SPINEC_U32 = 12, SPINEC_U64 = 13,
  SPINEC_BF16 = 16
} spinec_dtype;

/* A dense row-major tensor. `data` is owned by whoever made it; rank 0 is a scalar. */
typedef struct {
  spinec_dtype dtype;
  int rank;
  int64_t dims[SPINEC_MAX_RANK];
  void *data;
} spinec_tensor;

size_t spinec_dtype_size(spinec_dtype t);       /* bytes per element; 0 for STRING and unknown types */
const char *spinec_dtype_name(spinec_dtype t);  /* "f32", "i64", "bool", ... */
int64_t spinec_tensor_count(const spinec_tensor *t);  /* number of elements */

/* ---- diagnostics ---- */

typedef struct spinec_diagnostics spinec_diagnostics;
spinec_diagnostics *spinec_diagnostics_new(void);
void spinec_diagnostics_free(spinec_diagnostics *d);
int spinec_diagnostics_count(const spinec_diagnostics *d);
/* Message i as one line: "model.onnx: node 'conv1' (Conv, opset 17): weight has rank 3, expected 4; hint: ..." */
const char *spinec_diagnostics_text(const spinec_diagnostics *d, int i);
/* Names of graph inputs whose values spinec needs at compile time (see spinec_load_options.bind); NULL past the end. */
const char *spinec_diagnostics_unbound_input(const spinec_diagnostics *d, int i);
int spinec_diagnostics_unbound_position(const spinec_diagnostics *d, int i);  /* of that input in the signature; -1 past the end */

/* ---- loading ---- */

/* An input's shape; name NULL: the input at this position of the list. */
typedef struct { const char *name; int rank; int64_t dims[SPINEC_MAX_RANK]; } spinec_shape_binding;
typedef struct { const char *name; int64_t value; } spinec_dim_binding;                              /* a symbolic dimension's size */
typedef struct { const char *name; spinec_tensor value; } spinec_value_binding;                      /* an input made constant */

typedef struct {
  const spinec_shape_binding *shapes; int nshapes;
  const spinec_dim_binding *dims; int ndims;
  const spinec_value_binding *bind; int nbind;  /* these inputs become constants and leave the signature */
} spinec_load_options;

typedef struct spinec_model spinec_model;
spinec_status spinec_load(const char *path, const spinec_load_options *options, spinec_model **out, spinec_diagnostics *diag);
void spinec_model_free(spinec_model *m);
int spinec_model_inputs(const spinec_model *m);
int spinec_model_outputs(const spinec_model *m);
const char *spinec_model_input_name(const spinec_model *m, int i);
const char *spinec_model_output_name(const spinec_model *m, int i);
/* Shape and type only: .data is NULL. */
spinec_tensor spinec_model_input(const spinec_model *m, int i);
spinec_tensor spinec_model_output(const spinec_model *m, int i);

/* One operator of the imported network, in execution order. */
typedef struct {
  const char *op;        /* canonical operator */
  const char *name;      /* of the ONNX node it came from; "" if unnamed */
  spinec_tensor result;  /* first output: shape and type only */
  int64_t macs;          /* multiply-adds, of convolutions and matrix products */
} spinec_node_info;
int spinec_model_nodes(const spinec_model *m);
spinec_node_info spinec_model_node(const spinec_model *m, int i);

/* ---- compiling ---- */

typedef enum { SPINEC_THREADS_NONE, SPINEC_THREADS_PTHREAD, SPINEC_THREADS_OPENMP, SPINEC_THREADS_CALLBACK } spinec_threads;
typedef enum { SPINEC_WEIGHTS_INLINE, SPINEC_WEIGHTS_FILE, SPINEC_WEIGHTS_OBJECT } spinec_weights;
typedef enum {
  SPINEC_EMIT_C, SPINEC_EMIT_OBJ, SPINEC_EMIT_ASM, SPINEC_EMIT_SO, SPINEC_EMIT_LLVM,
  SPINEC_EMIT_IR,    /* the graph after the graph passes, as text */
  SPINEC_EMIT_LOOPS  /* the program, as text */
} spinec_emit_kind;

typedef struct {
  const char *target;        /* a name from spinec_target_name(); NULL: "native" for sessions */
  int opt_level;             /* 0..3 */
  int winograd;              /* output tile of Winograd convolutions: 2, 4, 5, 6; 0: none; -1: chosen per layer (the default at -O2) */
  int64_t max_weight_bytes;  /* of packed weights; 0: no limit, but 3 times the model on ARM without L3 and the least on "generic" */
  int64_t max_workspace_bytes;   /* what a caller is to hand in at most; 0: no limit. Slower kernels with less scratch are used to keep it */
  int max_threads;           /* threads the program may be run with (sizes per-thread scratch); 0: 1 */
  /* Developer aids, as on the command line; NULL or 0: off. */
  const char *dump_letters, *print_after, *stop_after, *disable;
  int bisect;                /* run only the first N changing pass applications; 0: all */
  bool time_passes, stats;
  FILE *dump;                /* where those go; NULL: stderr */
  void (*progress)(void *user, const char *what, double fraction);
  void *progress_user;
} spinec_compile_options;

spinec_compile_options spinec_compile_options_default(void);  /* -O2, one thread, native */

int spinec_target_count(void);
const char *spinec_target_name(int i);
const char *spinec_target_summary(int i);  /* one line for a list */

typedef struct spinec_program spinec_program;
spinec_status spinec_compile(const spinec_model *m, const spinec_compile_options *options, spinec_program **out, spinec_diagnostics *diag);
void spinec_program_free(spinec_program *p);

typedef struct {
  int64_t macs;             /* multiply-adds of convolutions and matrix products, as executed */
  int64_t params;           /* elements of floating-point weights in the model */
  int64_t workspace_bytes;  /* what a caller hands in */
  int64_t live_bytes;       /* the largest set of tensors alive at once: the workspace's lower bound for this order */
  int64_t weight_bytes;     /* packed */
  int kernels;              /* distinct functions */
  int calls;                /* kernel launches of one inference */
  int buffers;              /* in the workspace */
  int64_t given_live_bytes; /* what live_bytes would be in the model's own order of operators */
} spinec_program_info;
spinec_program_info spinec_program_get_info(const spinec_program *p);

/* A tensor in the workspace, or what a kernel needs beside its operands. Two may have the same place where one takes over the other's memory. */
typedef struct {
  const char *name;         /* of the ONNX value; "" if unnamed */
  int64_t bytes;            /* scratch: of all threads */
  int64_t offset;           /* in the workspace */
  int first, last;          /* calls between which it is alive; parts of it may be shorter so */
  bool scratch;
  int whole;                /* the buffer it is part of; -1: of none */
} spinec_buffer_info;
/* i in 0 .. info.buffers-1, in the order of first use. */
spinec_buffer_info spinec_program_get_buffer(const spinec_program *p, int i);
/* Bytes of the workspace alive at call i, in 0 .. info.calls-1. */
int64_t spinec_program_get_live(const spinec_program *p, int i);

/* One kernel launch, in execution order. */
typedef struct {
  const char *kernel;    /* function, shared by equal layers */
  const char *what;      /* algorithm and shape */
  const char *origin;    /* ONNX nodes, separated by " + " */
  const char *onnx_op;   /* ONNX operator of the first; "" if unknown */
  double flops, bytes;   /* multiply and add count as two; bytes touched at least once */
} spinec_call_info;
/* i in 0 .. info.calls-1. The text of `origin` goes into the caller's buffer and is cut to fit. */
spinec_call_info spinec_program_get_call(const spinec_program *p, int i, char *origin, size_t origin_size);

typedef struct {
  spinec_emit_kind kind;
  const char *prefix;        /* of every symbol; NULL: derived from the model's file name */
  spinec_weights weights;
  spinec_threads threads;
  bool emit_test;            /* add a self-check */
  const char *command_line;  /* quoted in the header comment; NULL: left out */
  bool c99;
} spinec_emit_options;

/* Writes OUT (and beside it what belongs to it: header, weights). Files appear whole or not at all. */
spinec_status spinec_emit(const spinec_program *p, const char *out_path, const spinec_emit_options *options, spinec_diagnostics *diag);

/* Reads a TensorProto file (.pb), as ONNX test data are. out->data is malloc'ed. */
spinec_status spinec_read_tensor_proto(const char *path, spinec_tensor *out, spinec_diagnostics *diag);

/* ---- running ---- */

typedef enum { SPINEC_BACKEND_INTERP, SPINEC_BACKEND_C, SPINEC_BACKEND_JIT } spinec_backend;
bool spinec_backend_available(spinec_backend b);

typedef struct spinec_session spinec_session;
/* threads: at most the program's max_threads. */
spinec_status spinec_session_open(const spinec_program *p, spinec_backend backend, int threads, spinec_session **out, spinec_diagnostics *diag);
/* inputs[i].data / outputs[i].data: dense row-major, shapes as spinec_model_input / _output say; distinct memory. */
spinec_status spinec_session_run(spinec_session *s, const spinec_tensor *inputs, const spinec_tensor *outputs, spinec_diagnostics *diag);
/* As spinec_session_run, and writes the nanoseconds of every call to ns[0 .. info.calls-1]. UNSUPPORTED where a backend cannot tell. */
spinec_status spinec_session_profile(spinec_session *s, const spinec_tensor *inputs, const spinec_tensor *outputs, double *ns, spinec_diagnostics *diag);
void spinec_session_close(spinec_session *s);

/* What `threads` threads of this machine reach at best with code for p's target: floating-point operations in registers (a multiplication
 * and an addition count as two), and bytes read from memory, a second. Measured on the spot by programs made for it, in some 0.2 s.
 * threads: at most the program's max_threads. UNSUPPORTED where the backend cannot time. */
typedef struct { double flops, bytes; } spinec_machine;
spinec_status spinec_measure_machine(const spinec_program *p, spinec_backend backend, int threads, spinec_machine *out, spinec_diagnostics *diag);

#ifdef __cplusplus
}
#endif
#endif
