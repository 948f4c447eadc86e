/* backend/backend.h: the readers of a Program.
 *
 * Sections, one per file:  target.c · interp/interp.c · c/ (emit.c, header.c, weights.c, selftest.c, run.c; prelude/ is text for the
 * generated code) · llvm/ (only where built in)
 *
 * Printers spell; they decide nothing. What they are given is verified and legal for the target.
 */
#ifndef BACKEND_H
#define BACKEND_H

#include "../ir/loop.h"

/* ---- target.c ---- */
int target_count(void);
const Target *target_at(int i);
const Target *target_find(const char *name);   /* "native" detects; NULL if unknown */

/* A program made runnable in this process. */
typedef struct Runner Runner;
struct Runner {
  /* inputs[i], outputs[i]: dense, in signature order; distinct memory. */
  Status (*run)(Runner *r, const void *const *inputs, void *const *outputs, Diag *d);
  /* The same, with the nanoseconds of every call of the program written to ns; NULL where the backend cannot tell. */
  Status (*profile)(Runner *r, const void *const *inputs, void *const *outputs, double *ns, Diag *d);
  void (*close)(Runner *r);
};

/* ---- interp/interp.c ---- */
Status interp_eval(const Program *p, const void *const *inputs, void *const *outputs, Diag *d);   /* once, nothing kept */
Runner *interp_open(const Program *p, int threads, Diag *d);

/* ---- c/ ---- */
/* Writes out_path (.c), its header and its weights. */
Status c_emit(const Program *p, const char *out_path, const spinec_emit_options *o, Diag *d);
/* Compiles the program's C with the system's cc (SPINEC_CC, else CC, else cc) into a temporary shared object and loads it. */
Runner *c_open(const Program *p, int threads, Diag *d);

/* ---- llvm/ ---- */
#if SPINEC_HAVE_LLVM
Status llvm_emit(const Program *p, const char *out_path, const spinec_emit_options *o, Diag *d);
Runner *llvm_open(const Program *p, int threads, Diag *d);
#endif

#endif
