/* backend/llvm/llvm.h: the LLVM backend's parts. Nothing outside this folder sees LLVM.
 *
 * Sections, one per file:  build_expr.c (operators) · build_memory.c (loads, stores) · build_kernel.c (statements, kernels) ·
 * build_run.c (the NAME_run function of objects) · module.c (contexts, passes, code generation) · jit.c · aot.c
 *
 * The builder spells a Program in LLVM IR and decides nothing: a vector of the loop IR is an LLVM vector, a mask a vector of i1, a
 * register an alloca that mem2reg removes. There are no fast-math flags: for arithmetic the bits are the interpreter's.
 *
 * Threads: LLVM contexts are not shared. A Machine with all its Units belongs to one thread at a time.
 */
#ifndef BACKEND_LLVM_H
#define BACKEND_LLVM_H

#include "../backend.h"

#include <llvm-c/Core.h>
#include <llvm-c/TargetMachine.h>

#define LLVM_ERR_MAX 512

/* ---- module.c ---- */

/* A target machine with a context for the modules it compiles. */
typedef struct Machine {
  const Target *target;
  LLVMContextRef ctx;
  LLVMTargetMachineRef tm;
  LLVMTargetDataRef layout;
  Arena *arena;               /* scratch of units being built; the caller's */
  char error[LLVM_ERR_MAX];   /* the first thing LLVM complained about; "" if nothing */
} Machine;

/* False with m->error set: LLVM does not know the target. The Machine may not move in memory. machine_close takes a failed one as well. */
bool machine_open(Machine *m, const Target *t, Arena *scratch);
void machine_close(Machine *m);
void machine_error(Machine *m, const char *fmt, ...) PRINTF_LIKE(2, 3);   /* keeps the first */

/* A module being built. */
typedef struct Unit {
  Machine *m;
  LLVMModuleRef mod;
  LLVMBuilderRef b;
  LLVMTypeRef t_void, t_ptr, t_idx;
  unsigned md_invariant, md_loop;
  bool names;                 /* name values, for text meant to be read */
} Unit;

void unit_open(Unit *u, Machine *m, const char *name);
void unit_close(Unit *u);     /* frees the module; harmless when repeated */
bool unit_optimise(Unit *u);  /* the pass pipeline for scheduled code; false with m->error set */
/* Machine code or assembly in memory; NULL with m->error set. */
LLVMMemoryBufferRef unit_emit(Unit *u, LLVMCodeGenFileType kind);
void unit_attribute(const Unit *u, LLVMValueRef fn, unsigned at, const char *name, uint64_t value);       /* at: as LLVMAddAttributeAtIndex */
void unit_function(const Unit *u, LLVMValueRef fn);   /* what all functions have in common */

/* ---- build_kernel.c ---- */

/* What all calls of a kernel agree on about one parameter. */
typedef struct ParamFact { int64_t align, bytes; } ParamFact;   /* bytes: that may be touched from the pointer on */
typedef struct KernelFact { ParamFact *param; } KernelFact;

/* One entry per kernel of the program, in its arena `a`. */
KernelFact *program_facts(const Program *p, Arena *a);

/* A kernel being built. */
typedef struct Gen {
  Unit *u;
  const Kernel *k;
  const KernelFact *fact;
  LLVMValueRef fn;
  LLVMBasicBlockRef entry;    /* allocas only */
  LLVMValueRef *val;          /* by variable: parameter, let, counter; a register's alloca */
} Gen;

/* void name(pointers..., idx begin, idx end), with internal linkage. */
LLVMValueRef kernel_build(Unit *u, const Kernel *k, const KernelFact *fact, const char *name);
LLVMTypeRef kernel_type(const Unit *u, const Kernel *k);

/* ---- build_run.c ---- */

/* PREFIX_run as the C backend's header declares it. kernel: by position in the program; weights: the blob, NULL if it is an argument. */
struct CGen;
void run_build(Unit *u, struct CGen *g, LLVMValueRef *kernel, LLVMValueRef weights);

/* ---- build_expr.c ---- */

LLVMTypeRef gen_scalar(const Unit *u, DType dt);        /* bool: i1 */
LLVMTypeRef gen_type(const Unit *u, Type t);
LLVMTypeRef gen_memory_type(const Unit *u, Type t);     /* bool: i8 */
LLVMValueRef gen_idx(const Unit *u, int64_t i);
LLVMValueRef gen_splat(const Unit *u, LLVMValueRef x, int lanes);
LLVMValueRef gen_intrinsic(const Unit *u, const char *name, LLVMTypeRef *types, int ntypes, LLVMValueRef *args, int nargs);
LLVMValueRef gen_expr(Gen *g, const Expr *e);

/* ---- build_memory.c ---- */

LLVMValueRef gen_load(Gen *g, const Expr *e);
void gen_store(Gen *g, const Stmt *s);
void gen_prefetch(Gen *g, const Stmt *s);

#endif
