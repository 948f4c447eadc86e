/* cli/cli.h: the command line, a thin client of spinec.h.
 *
 * Sections, one per file:  main.c (dispatch, usage) · options.c (one table for all commands) · model.c (load, compile, messages, progress) ·
 * tensors.c (inputs from files, comparing) · profile.c · one file per command
 *
 * Exit status: 0 success, 1 the work failed, 2 the command line makes no sense. Results go to stdout, everything else to stderr.
 */
#ifndef CLI_H
#define CLI_H

#include "../include/spinec.h"
#include "../runtime/runtime.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };
enum { CMD_COMPILE = 1, CMD_RUN = 2, CMD_BENCH = 4, CMD_VERIFY = 8, CMD_CONFORMANCE = 16, CMD_INSPECT = 32, CMD_ALL = 63 };

typedef struct NamedFile { const char *name, *path; } NamedFile;   /* name NULL: by position */

#define MAX_GIVEN 256
#define MAX_BACKENDS 3
typedef struct Options {
  int command;
  const char *paths[MAX_GIVEN]; int npaths;          /* MODEL or DIR... */
  const char *out, *prefix, *output_dir, *list, *report;
  spinec_emit_kind emit;
  spinec_weights weights; bool weights_given;
  spinec_threads threads_kind;
  int threads;                                       /* run, bench, verify, conformance; compile: at most */
  int iters, jobs;
  bool emit_test, c99, json, profile, quiet, memory;
  spinec_backend backend; bool backend_given;
  spinec_backend backends[MAX_BACKENDS]; int nbackends;   /* bench: all that were given; [0] is `backend` */
  spinec_compile_options compile;
  spinec_shape_binding shapes[MAX_GIVEN]; int nshapes;
  spinec_dim_binding dims[MAX_GIVEN]; int ndims;
  NamedFile inputs[MAX_GIVEN], expects[MAX_GIVEN], binds[MAX_GIVEN]; int ninputs, nexpects, nbinds;
  uint64_t seed;
  double rtol, atol;
  ImageFormat image; int resize_w, resize_h;
  char *command_line;
} Options;

/* ---- options.c ---- */
/* False after an explanation on stderr (or with *help set, after printing help on stdout). */
bool options_parse(Options *o, int command, int argc, char **argv, bool *help);
void options_free(Options *o);

/* ---- model.c ---- */
typedef struct Model { spinec_model *model; spinec_program *program; int64_t load_ns, compile_ns; } Model;
int print_diagnostics(const spinec_diagnostics *d, spinec_status s);   /* prints; gives the exit status for s */
int model_load(const Options *o, const char *path, Model *m);          /* exit status */
int model_compile(const Options *o, Model *m);
void model_free(Model *m);
const char *backend_name(spinec_backend b);

/* ---- tensors.c ---- */
typedef struct Tensors { spinec_tensor *t; int n; } Tensors;
void tensors_free(Tensors *t);
/* A tensor from .npy, .pb, .png or .jpg by the file's name. False after a message. */
bool tensor_read(const Options *o, const char *path, spinec_tensor *out);
void tensor_describe(const spinec_tensor *t, char *s, size_t size);   /* f32 [1x3x64x64] */
/* One tensor per model input: the named or positional files, the rest seeded. False after a message. */
bool inputs_read(const Options *o, const spinec_model *m, Tensors *out);
bool outputs_new(const spinec_model *m, Tensors *out);
typedef struct Difference {
  double max_abs, magnitude;    /* largest |a-b| over finite elements; largest finite |b| */
  int64_t wrong, first;         /* elements outside the tolerance, and where the first is (-1: none) */
  const char *reason;           /* NULL, or why the tensors cannot be compared at all */
} Difference;
/* An element is right if both are NaN, both the same infinity, or |a-b| <= atol + rtol * scale, scale being the largest finite |b| of the
 * tensor (by_element: |b| itself). Integers and bool must be equal unless a tolerance of 1 or more is given. */
Difference tensor_compare(const spinec_tensor *a, const spinec_tensor *b, double rtol, double atol, bool by_element);

/* ---- commands ---- */
int command_compile(Options *o);
int command_run(Options *o);
int command_bench(Options *o);
int command_verify(Options *o);
int command_conformance(Options *o);
int command_inspect(Options *o);

#endif
