/* c_backend.h: how a Program becomes C; private to backend/c.
 *
 * Sections, one per file:
 *   emit.c      c_emit: options, files, the order of the .c
 *   names.c     C identifiers and comment-safe text from names of the model
 *   expr.c      expressions
 *   kernel.c    statements and kernels
 *   calls.c     NAME_run
 *   prelude.c   the vector and scalar operations the kernels use, from the templates in prelude/
 *   header.c    the .h and the head comment of the .c
 *   weights.c   weights as arrays, as a file, as an object
 *   selftest.c  OUT_test.c
 *   run.c       c_open: compile with the system's cc, load, run
 *
 * Invariants: the text depends on the program and the options only. Everything is spelled as the program says; no schedule is changed.
 * The generated file defines NAME_ symbols only; all else in it is static.
 */
#ifndef C_BACKEND_H
#define C_BACKEND_H

#include "../backend.h"

typedef struct CGen CGen;
typedef struct Needs Needs;   /* prelude.c */

struct CGen {
  const Program *p;
  const spinec_emit_options *o;
  Diag *d;
  Arena *a;
  const char *prefix, *upper;        /* of symbols, of macros */
  const char *stem;                  /* the .c file's name without folder and suffix */
  const char **kernel_names;         /* by position in the program */
  const char **in_names, **out_names;   /* members of NAME_inputs, NAME_outputs */
  Needs *needs;
  const Kernel *k;                   /* being printed */
  const char **var_names;            /* of k, by var id */
  int depth, temps;                  /* indentation; variables made by c_flatten */
  Text *out;                         /* where kernels and calls go */
  uint64_t weight_hash;              /* FNV-1a of the weight bytes; set by weights_hash */
};

/* ---- emit.c ---- */
Status cgen_init(CGen *g, const char *stem);       /* p, o, d, a are set: checks options, chooses names */
void cgen_source(CGen *g, Text *head, Text *tail); /* the .c; inline weights go between the two */

/* ---- names.c ---- */
bool c_identifier(const char *s);                  /* a C and C++ identifier that is not a word of either language or of ours */
char *c_sanitise(Arena *a, const char *s, const char *fallback);   /* an identifier; not yet unique */
const char *c_kernel_name(const CGen *g, const Kernel *k);
/* n identifiers, unique also when upper-cased. */
const char **c_member_names(Arena *a, const char *const *names, int n, const char *fallback);
char *c_upper(Arena *a, const char *s);
/* s without what would end a comment, continue a line or form a trigraph; at most max bytes. */
char *c_comment(Arena *a, const char *s, int max);
/* k's variables as identifiers that clash with nothing the generated file uses. */
const char **c_var_names(Arena *a, const Kernel *k);
void c_shape_text(Text *t, const Shape *s);          /* "1x3x640x640"; "scalar" */
void c_amount(Text *t, double x, const char *unit);   /* "12.3 Mflop" */
const char *c_type(DType t);                       /* the C type of an element in memory */
int64_t port_count(const Port *p);

/* ---- prelude.c ---- */
Needs *needs_new(Arena *a);
/* The kernels use this operation: "v16f_fma", "i8_add", "RESTRICT"; or a word of libc: "memcpy", "expf". */
void need(Needs *n, const char *name);
bool need_op(Needs *n, const char *name);          /* the same for an operation; false if there is none of that name */
/* Name of the function that picks these lanes of a (and of b; NULL: one operand). lanes has result.lanes entries. */
const char *need_shuffle(Needs *n, Type result, int from_lanes, bool two, const uint8_t *lanes);
/* Finds all that the needs depend on; then they may be printed. */
void prelude_resolve(CGen *g);
bool prelude_uses(const CGen *g, const char *name);   /* after resolving: is it or a word of it in the text? */
int prelude_libc_words(const CGen *g);              /* how many words of libc are in it */
void prelude_print(CGen *g, Text *t);
/* A section of another template with NAME_x replaced by the model's prefix_x (PREFIX_X if x is in capitals). */
void prelude_section(CGen *g, const char *file, const char *key, Text *t);

/* ---- expr.c ---- */
void c_float(Text *t, double x, bool single);      /* a literal; INFINITY and NAN need math.h */
void c_local_type(CGen *g, Type type);            /* of a variable in a kernel */
void c_expr(CGen *g, const Expr *e);
/* At the start of a statement's line: e, or a less deep equivalent, with variables for its parts on lines of their own. */
const Expr *c_flatten(CGen *g, const Expr *e);
/* f(&buf[index], ...): the name of the load or store of `type` with these options. */
void c_access(CGen *g, Type type, const char *what, const Expr *count, const Expr *stride);
/* ", count, stride" as far as that function has them. */
void c_count_and_stride(CGen *g, Type type, const Expr *count, const Expr *stride);
void c_address(CGen *g, const Var *buf, const Expr *index);
const char *c_function(CGen *g, Type type, const char *op);   /* "v16f_add"; registers the need */

/* ---- kernel.c ---- */
void c_kernel(CGen *g, const Kernel *k);
const char *c_param_type(CGen *g, const Kernel *k, const Var *v);   /* of the elements */

/* ---- calls.c ---- */
void c_calls(CGen *g);                             /* the parts of threaded kernels, NAME_run */
bool call_is_parallel(const CGen *g, const Call *c);
void run_signature(const CGen *g, Text *t);        /* "void NAME_run(...)" */

/* ---- header.c ---- */
void c_header(CGen *g, Text *t);
void c_head_comment(CGen *g, Text *t);

/* ---- weights.c ---- */
void weights_hash(CGen *g);
/* Calls sink with the blob's bytes in order, padding included. */
void weights_stream(const CGen *g, void (*sink)(void *user, const void *bytes, size_t n), void *user);
void weights_inline(const CGen *g, FILE *f);       /* arrays, one per weight and type it is read as */
char *weights_array(const CGen *g, int buffer, DType dt);   /* the array of that weight read as dt */
void weights_assembly(const CGen *g, Text *t, const char *bin_name);

/* ---- selftest.c ---- */
Status selftest(CGen *g, Text *t);

#endif
