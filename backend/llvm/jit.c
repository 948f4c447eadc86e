/* backend/llvm/jit.c: a Program as machine code in this process.
 *
 * Opening: the kernels are dealt into batches of about equal size, more batches than cores; every core takes batches, compiles each to an
 * object file in memory with a context of its own, and then fills weights, which are jobs of the same queue. The objects are linked by
 * ORC's LLJIT, whose memory manager maps code writable first and executable afterwards, never both.
 *
 * Every kernel gets an entry with one signature: void kN(void *const *params, idx begin, idx end).
 *
 * With SPINEC_PERF set in the environment the entries' addresses go to /tmp/perf-PID.map, where perf looks, and the objects are
 * registered with gdb.
 */
#define _GNU_SOURCE
#include "llvm.h"
#include "../../runtime/runtime.h"

#include <fcntl.h>
#include <llvm-c/ExecutionEngine.h>
#include <llvm-c/LLJIT.h>
#include <llvm-c/Object.h>
#include <llvm-c/OrcEE.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void Entry(void *const *params, intptr_t begin, intptr_t end);

/* Kernels compiled as one module. */
typedef struct Batch {
  VEC(int) kernel;
  int64_t size;
  LLVMMemoryBufferRef object;
} Batch;

typedef struct Job { int batch, weight; } Job;   /* one of them, the other is -1 */
typedef struct Slot { void **at; int buffer; int64_t offset; } Slot;   /* a pointer that changes with the caller's */

typedef struct Jit {
  Runner runner;
  Arena *arena;
  const Program *p;
  int threads;
  Pool *pool;
  char *workspace, *weights;
  LLVMOrcLLJITRef jit;
  Entry **entry;             /* by kernel */
  int *kernel_of;            /* by call */
  void ***params;            /* [call * threads + thread][parameter] */
  VEC(Slot) slot;
  /* while compiling */
  const KernelFact *fact;
  VEC(Batch) batch;
  VEC(Job) job;
  atomic_int next_job;
  atomic_bool failed;
  char error[LLVM_ERR_MAX];
  bool perf;
} Jit;

/* ---- compiling ---- */

/* void kN(ptr params, idx begin, idx end) calls the kernel with the pointers it finds there. */
static void build_entry(Unit *u, const Kernel *k, LLVMValueRef kernel, const char *name) {
  LLVMTypeRef params[3] = {u->t_ptr, u->t_idx, u->t_idx};
  LLVMValueRef fn = LLVMAddFunction(u->mod, name, LLVMFunctionType(u->t_void, params, 3, false));
  unit_function(u, fn);
  LLVMPositionBuilderAtEnd(u->b, LLVMAppendBasicBlockInContext(u->m->ctx, fn, ""));
  int n = k->params.n;
  LLVMValueRef *arg = NEW_N(u->m->arena, LLVMValueRef, n + 2);
  for (int i = 0; i < n; i++) {
    LLVMValueRef at = gen_idx(u, i), p = LLVMBuildInBoundsGEP2(u->b, u->t_ptr, LLVMGetParam(fn, 0), &at, 1, "");
    arg[i] = LLVMBuildLoad2(u->b, u->t_ptr, p, "");
  }
  arg[n] = LLVMGetParam(fn, 1);
  arg[n + 1] = LLVMGetParam(fn, 2);
  LLVMBuildCall2(u->b, kernel_type(u, k), kernel, arg, (unsigned)n + 2, "");
  LLVMBuildRetVoid(u->b);
}

static bool compile_batch(Jit *j, Machine *m, Batch *batch) {
  Unit u;
  unit_open(&u, m, "spinec");
  char name[40];
  for (int i = 0; i < batch->kernel.n; i++) {
    int k = batch->kernel.at[i];
    snprintf(name, sizeof name, "k%d", k);
    LLVMValueRef fn = kernel_build(&u, j->p->kernels.at[k], &j->fact[k], name);
    LLVMSetLinkage(fn, LLVMExternalLinkage);
    snprintf(name, sizeof name, "k%d_entry", k);
    build_entry(&u, j->p->kernels.at[k], fn, name);
  }
  if (unit_optimise(&u)) batch->object = unit_emit(&u, LLVMObjectFile);
  unit_close(&u);
  return batch->object != NULL;
}

static void job_failed(Jit *j, const char *why) {
  if (!atomic_exchange(&j->failed, true)) snprintf(j->error, sizeof j->error, "%s", why);
}

/* One thread of the compilation: jobs until there are none. */
static void compile_jobs(void *ctx, int64_t begin, int64_t end, int thread) {
  (void)begin, (void)end, (void)thread;
  Jit *j = ctx;
  Fail fail;
  Machine m = {0};
  Arena *volatile arena = NULL;
  if (FAIL_ARM(&fail, NULL)) {
    arena = arena_new(&fail);
    int i;
    while ((i = atomic_fetch_add(&j->next_job, 1)) < j->job.n && !atomic_load(&j->failed)) {
      const Job *job = &j->job.at[i];
      if (job->weight >= 0) {
        const Weight *w = &j->p->weights.at[job->weight];
        w->fill(w->ctx, j->weights + w->offset);
        continue;
      }
      ArenaMark mark = arena_mark(arena);
      if ((!m.tm && !machine_open(&m, j->p->target, arena)) || !compile_batch(j, &m, &j->batch.at[job->batch])) job_failed(j, m.error);
      arena_release(arena, mark);
    }
  } else {
    job_failed(j, "out of memory");
  }
  machine_close(&m);
  arena_free(arena);
}

static int64_t block_size(const Block *b) {
  int64_t n = 0;
  for (const Stmt *s = b->first; s; s = s->next) n += 1 + block_size(&s->body) + block_size(&s->other);
  return n;
}

static int batch_before(const void *l, const void *r) {
  const Batch *x = l, *y = r;
  return x->size != y->size ? (x->size < y->size) - (x->size > y->size) : (x->kernel.at[0] > y->kernel.at[0]) - (x->kernel.at[0] < y->kernel.at[0]);
}

#define BATCH_MIN 300   /* statements: below this a module's own cost shows */

/* Neighbours go together until a batch is full; then large batches first. */
static void plan_jobs(Jit *j, int cores) {
  int64_t total = 0;
  for (int i = 0; i < j->p->kernels.n; i++) total += 1 + block_size(&j->p->kernels.at[i]->body);
  int64_t full = MAXI(BATCH_MIN, total / (8 * cores));
  for (int i = 0; i < j->p->kernels.n; i++) {
    int64_t size = 1 + block_size(&j->p->kernels.at[i]->body);
    Batch *last = j->batch.n ? &j->batch.at[j->batch.n - 1] : NULL;
    if (!last || last->size + size > full) {
      vec_push(j->arena, &j->batch, (Batch){0});
      last = &j->batch.at[j->batch.n - 1];
    }
    vec_push(j->arena, &last->kernel, i);
    last->size += size;
  }
  if (j->batch.n) qsort(j->batch.at, (size_t)j->batch.n, sizeof *j->batch.at, batch_before);
  for (int i = 0; i < j->batch.n; i++) vec_push(j->arena, &j->job, ((Job){i, -1}));
  for (int i = 0; i < j->p->weights.n; i++) vec_push(j->arena, &j->job, ((Job){-1, i}));
}

static Status compile_all(Jit *j, Diag *d) {
  int cores = MAXI(1, cpu_cores());
  plan_jobs(j, cores);
  cores = MAXI(1, MINI(cores, j->job.n));
  Pool *pool = cores > 1 ? pool_new(cores) : NULL;
  if (pool) pool_run(pool, compile_jobs, j, cores);
  else compile_jobs(j, 0, 1, 0);
  pool_free(pool);
  return atomic_load(&j->failed) ? diag_error(d, SPINEC_ERR_INTERNAL, NULL, NULL, "JIT: %s", j->error) : SPINEC_OK;
}

/* ---- linking ---- */

static Status orc_error(Diag *d, const char *what, LLVMErrorRef e) {
  char *text = LLVMGetErrorMessage(e);
  Status s = diag_error(d, SPINEC_ERR_INTERNAL, NULL, NULL, "JIT: %s: %s", what, text);
  LLVMDisposeErrorMessage(text);
  return s;
}

/* Errors come back from the calls as well; the default prints them to stderr. */
static void drop_report(void *ctx, LLVMErrorRef e) {
  (void)ctx;
  LLVMConsumeError(e);
}

static LLVMOrcObjectLayerRef gdb_layer(void *ctx, LLVMOrcExecutionSessionRef session, const char *triple) {
  (void)ctx, (void)triple;
  LLVMOrcObjectLayerRef layer = LLVMOrcCreateRTDyldObjectLinkingLayerWithSectionMemoryManager(session);
  LLVMOrcRTDyldObjectLinkingLayerRegisterJITEventListener(layer, LLVMCreateGDBRegistrationListener());
  return layer;
}

/* What generated code may call: libm for the mathematics that is left, and what LLVM makes of rounding, fma and remainders on targets
 * without an instruction. Named here, because a process that loaded us privately does not export its libm. */
typedef void AnyFn(void);
#define FN(name) {#name, (AnyFn *)name}
static const struct { const char *name; AnyFn *fn; } callees[] = {
  FN(pow),    FN(exp),   FN(log),   FN(sin),    FN(cos),  FN(tan),  FN(asin),   FN(acos),   FN(atan),       FN(sinh),      FN(cosh),   FN(tanh),
  FN(asinh),  FN(acosh), FN(atanh), FN(erf),    FN(fmod), FN(fma),  FN(floor),  FN(ceil),   FN(nearbyint),  FN(trunc),     FN(sqrt),   FN(fmodf),
  FN(fmaf),   FN(floorf), FN(ceilf), FN(nearbyintf), FN(truncf), FN(sqrtf), FN(memcpy), FN(memset), FN(memmove),
};
#undef FN

static LLVMErrorRef define_callees(LLVMOrcLLJITRef jit) {
  LLVMOrcCSymbolMapPair pair[COUNTOF(callees)];
  for (int i = 0; i < COUNTOF(callees); i++) {
    pair[i].Name = LLVMOrcLLJITMangleAndIntern(jit, callees[i].name);   /* given away */
    pair[i].Sym.Address = (LLVMOrcExecutorAddress)(uintptr_t)callees[i].fn;
    pair[i].Sym.Flags = (LLVMJITSymbolFlags){LLVMJITSymbolGenericFlagsExported | LLVMJITSymbolGenericFlagsCallable, 0};
  }
  return LLVMOrcJITDylibDefine(LLVMOrcLLJITGetMainJITDylib(jit), LLVMOrcAbsoluteSymbols(pair, COUNTOF(callees)));
}

static Status linker_open(Jit *j, Diag *d) {
  Machine m;
  if (!machine_open(&m, j->p->target, NULL)) {
    Status s = diag_error(d, SPINEC_ERR_OPTION, NULL, NULL, "JIT: %s", m.error);
    machine_close(&m);
    return s;
  }
  LLVMOrcLLJITBuilderRef builder = LLVMOrcCreateLLJITBuilder();
  LLVMOrcLLJITBuilderSetJITTargetMachineBuilder(builder, LLVMOrcJITTargetMachineBuilderCreateFromTargetMachine(m.tm));
  m.tm = NULL;   /* consumed */
  machine_close(&m);
  if (j->perf) LLVMOrcLLJITBuilderSetObjectLinkingLayerCreator(builder, gdb_layer, NULL);
  LLVMErrorRef e = LLVMOrcCreateLLJIT(&j->jit, builder);
  if (e) return orc_error(d, "cannot start", e);
  LLVMOrcExecutionSessionSetErrorReporter(LLVMOrcLLJITGetExecutionSession(j->jit), drop_report, NULL);
  e = define_callees(j->jit);
  if (e) return orc_error(d, "cannot name libm's functions", e);
  return SPINEC_OK;
}

/* Sizes of functions, which the linker does not tell. Called before the objects are given away. */
static void perf_sizes(const Batch *b, uint64_t *size, int nkernels) {
  LLVMMemoryBufferRef copy = LLVMCreateMemoryBufferWithMemoryRangeCopy(LLVMGetBufferStart(b->object), LLVMGetBufferSize(b->object), "");
  char *error = NULL;
  LLVMBinaryRef file = LLVMCreateBinary(copy, NULL, &error);
  LLVMDisposeMessage(error);
  if (file) {
    LLVMSymbolIteratorRef it = LLVMObjectFileCopySymbolIterator(file);
    for (; !LLVMObjectFileIsSymbolIteratorAtEnd(file, it); LLVMMoveToNextSymbol(it)) {
      const char *name = LLVMGetSymbolName(it);
      char *rest;
      long k = name && name[0] == 'k' ? strtol(name + 1, &rest, 10) : -1;
      if (k >= 0 && k < nkernels && !*rest) size[k] = LLVMGetSymbolSize(it);
    }
    LLVMDisposeSymbolIterator(it);
    LLVMDisposeBinary(file);
  }
  LLVMDisposeMemoryBuffer(copy);
}

static void perf_write(Jit *j, const uint64_t *size) {
  char path[64], name[40];
  snprintf(path, sizeof path, "/tmp/perf-%ld.map", (long)getpid());
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
  FILE *f = fd >= 0 ? fdopen(fd, "a") : NULL;
  if (!f && fd >= 0) close(fd);
  for (int i = 0; f && i < j->p->kernels.n; i++) {
    LLVMOrcExecutorAddress at;
    snprintf(name, sizeof name, "k%d", i);
    LLVMErrorRef e = LLVMOrcLLJITLookup(j->jit, &at, name);
    if (e) LLVMConsumeError(e);
    else fprintf(f, "%llx %llx k%d %s\n", (unsigned long long)at, (unsigned long long)size[i], i, j->p->kernels.at[i]->what);
  }
  if (f) fclose(f);
}

static Status link_all(Jit *j, Diag *d) {
  LLVMOrcJITDylibRef lib = LLVMOrcLLJITGetMainJITDylib(j->jit);
  uint64_t *size = j->perf ? NEW_N(j->arena, uint64_t, MAXI(j->p->kernels.n, 1)) : NULL;
  for (int i = 0; i < j->batch.n; i++) {
    if (size) perf_sizes(&j->batch.at[i], size, j->p->kernels.n);
    LLVMErrorRef e = LLVMOrcLLJITAddObjectFile(j->jit, lib, j->batch.at[i].object);
    j->batch.at[i].object = NULL;
    if (e) return orc_error(d, "cannot add an object", e);
  }
  char name[40];
  for (int i = 0; i < j->p->kernels.n; i++) {
    LLVMOrcExecutorAddress at;
    snprintf(name, sizeof name, "k%d_entry", i);
    LLVMErrorRef e = LLVMOrcLLJITLookup(j->jit, &at, name);
    if (e) return orc_error(d, "cannot link", e);
    j->entry[i] = (Entry *)(uintptr_t)at;
  }
  if (size) perf_write(j, size);
  return SPINEC_OK;
}

/* ---- memory and arguments ---- */

static char *buffer_at(const Jit *j, const Buffer *b, int thread) {
  switch (b->kind) {
  case BUF_ARENA: return j->workspace + b->offset;
  case BUF_SCRATCH: return j->workspace + b->offset + thread * b->stride;
  case BUF_WEIGHT: return j->weights + j->p->weights.at[b->index].offset;
  case BUF_INPUT:
  case BUF_OUTPUT: break;
  }
  return NULL;
}

static void bind_arguments(Jit *j) {
  const Program *p = j->p;
  j->params = NEW_N(j->arena, void **, MAXI(p->calls.n, 1) * j->threads);
  j->kernel_of = NEW_N(j->arena, int, MAXI(p->calls.n, 1));
  for (int c = 0, k = 0; c < p->calls.n; c++) {
    const Call *call = &p->calls.at[c];
    /* Calls come in about the order of the kernels. */
    while (p->kernels.at[k] != call->kernel) k = (k + 1) % p->kernels.n;
    j->kernel_of[c] = k;
    for (int t = 0; t < j->threads; t++) {
      void **params = j->params[c * j->threads + t] = NEW_N(j->arena, void *, MAXI(call->kernel->params.n, 1));
      for (int i = 0; i < call->kernel->params.n; i++) {
        const Buffer *b = &p->buffers.at[call->args[i].buffer];
        char *base = buffer_at(j, b, t);
        if (b->kind == BUF_INPUT || b->kind == BUF_OUTPUT) vec_push(j->arena, &j->slot, ((Slot){&params[i], call->args[i].buffer, b->offset + call->args[i].offset}));
        else params[i] = base + call->args[i].offset;
      }
    }
  }
}

/* ---- running ---- */

#define INLINE_NS 4000   /* a range that takes less is not worth handing to other threads */

typedef struct Launch { Entry *entry; void ***params; } Launch;

static void run_share(void *ctx, int64_t begin, int64_t end, int thread) {
  const Launch *l = ctx;
  l->entry(l->params[thread], (intptr_t)begin, (intptr_t)end);
}

/* At 50 GFLOP/s and 10 GB/s. */
static bool worth_sharing(const Kernel *k) { return k->extent > 1 && k->flops / 50 + k->bytes / 10 > INLINE_NS; }

static Status jit_profile(Runner *r, const void *const *inputs, void *const *outputs, double *ns, Diag *d) {
  (void)d;
  Jit *j = (Jit *)r;
  const Program *p = j->p;
  for (int i = 0; i < j->slot.n; i++) {
    const Slot *s = &j->slot.at[i];
    const Buffer *b = &p->buffers.at[s->buffer];
    /* Kernels do not write to inputs. */
    char *base = b->kind == BUF_INPUT ? (char *)(uintptr_t)inputs[b->index] : outputs[b->index];
    *s->at = base + s->offset;
  }
  for (int i = 0; i < p->calls.n; i++) {
    const Kernel *k = p->calls.at[i].kernel;
    Launch l = {j->entry[j->kernel_of[i]], &j->params[i * j->threads]};
    int64_t start = ns ? time_ns() : 0;
    if (j->pool && worth_sharing(k)) pool_run(j->pool, run_share, &l, k->extent);
    else l.entry(l.params[0], 0, (intptr_t)k->extent);
    if (ns) ns[i] = (double)(time_ns() - start);
  }
  return SPINEC_OK;
}

static Status jit_run(Runner *r, const void *const *inputs, void *const *outputs, Diag *d) { return jit_profile(r, inputs, outputs, NULL, d); }

/* ---- opening and closing ---- */

static void jit_close(Runner *r) {
  Jit *j = (Jit *)r;
  pool_free(j->pool);
  if (j->jit) {
    LLVMErrorRef e = LLVMOrcDisposeLLJIT(j->jit);
    if (e) LLVMConsumeError(e);
  }
  for (int i = 0; i < j->batch.n; i++) {
    if (j->batch.at[i].object) LLVMDisposeMemoryBuffer(j->batch.at[i].object);
  }
  workspace_free(j->workspace);
  workspace_free(j->weights);
  arena_free(j->arena);
}

/* Does this machine have what the program was compiled for? */
static bool runs_here(const Target *t) {
  const Target *here = target_find("native");
  if (t->arch == ARCH_GENERIC) return true;
  return t->arch == here->arch && t->lanes <= here->lanes && t->fma <= here->fma && t->masks <= here->masks && t->dot8 <= here->dot8 &&
         t->fp16 <= here->fp16 && t->bf16 <= here->bf16;
}

/* The memory plan has run. */
static bool planned(const Program *p) {
  for (int i = 0; i < p->weights.n; i++) {
    if (p->weights.at[i].offset + p->weights.at[i].bytes > p->weight_bytes) return false;
  }
  return true;
}

static Status open_in(Jit *j, Diag *d) {
  const Program *p = j->p;
  if (!planned(p)) return diag_error(d, SPINEC_ERR_INTERNAL, NULL, NULL, "JIT: the program's weights have no places");
  if (!runs_here(p->target))
    return diag_error(d, SPINEC_ERR_OPTION, NULL, "compile for native", "JIT: this machine cannot run code for %s", p->target->name);
  j->perf = getenv("SPINEC_PERF") != NULL;
  j->workspace = workspace_alloc((size_t)MAXI(p->workspace_bytes, 1));
  j->weights = workspace_alloc((size_t)MAXI(p->weight_bytes, 1));
  if (!j->workspace || !j->weights) return diag_error(d, SPINEC_ERR_MEMORY, NULL, NULL, "JIT: out of memory");
  if (j->threads > 1 && !(j->pool = pool_new(j->threads))) return diag_error(d, SPINEC_ERR_MEMORY, NULL, NULL, "JIT: no threads to be had");
  j->fact = program_facts(p, j->arena);
  j->entry = NEW_N(j->arena, Entry *, MAXI(p->kernels.n, 1));
  bind_arguments(j);
  Status s = linker_open(j, d);
  if (!s) s = compile_all(j, d);
  return s ? s : link_all(j, d);
}

Runner *llvm_open(const Program *p, int threads, Diag *d) {
  Fail fail;
  Arena *volatile arena = NULL;
  Jit *volatile j = NULL;
  Status s;
  if (FAIL_ARM(&fail, d)) {
    arena = arena_new(&fail);
    Jit *made = j = NEW(arena, Jit);
    made->runner = (Runner){jit_run, jit_profile, jit_close};
    made->arena = arena;
    made->p = p;
    made->threads = MAXI(1, MINI(threads, p->max_threads));
    s = open_in(made, d);
  } else {
    s = fail.status;
  }
  if (s == SPINEC_OK) {
    arena_set_fail(arena, NULL);
    return &j->runner;
  }
  if (j) jit_close(&j->runner);
  else arena_free(arena);
  return NULL;
}
