/* backend/llvm/module.c: LLVM's contexts, target machines, passes and code generation.
 *
 * Errors: LLVM reports some through return values and some to the context's handler, whose default prints and exits. Both end in
 * Machine.error, and the caller makes a diagnostic of it. Two cases LLVM leaves no way to survive: running out of memory inside it, and
 * mistakes of its own in generating code.
 *
 * Passes: the IR comes scheduled, so most of LLVM's -O2 finds nothing and costs more than the code generator. What pays is in `pipeline`.
 */
#include "llvm.h"

#include <llvm-c/Analysis.h>
#include <llvm-c/Target.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <pthread.h>
#include <string.h>

static const char pipeline[] = "function(mem2reg,early-cse,simplifycfg)";

/* ---- errors ---- */

void machine_error(Machine *m, const char *fmt, ...) {
  if (m->error[0]) return;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(m->error, sizeof m->error, fmt, ap);
  va_end(ap);
  size_t n = strlen(m->error);
  while (n && m->error[n - 1] == '\n') m->error[--n] = 0;
}

static void on_diagnostic(LLVMDiagnosticInfoRef info, void *machine) {
  if (LLVMGetDiagInfoSeverity(info) != LLVMDSError) return;
  char *text = LLVMGetDiagInfoDescription(info);
  machine_error(machine, "LLVM: %s", text);
  LLVMDisposeMessage(text);
}

/* ---- machines ---- */

/* LLVM's registry of targets is global to the process, and filled once. */
static void register_targets(void) {
#define TARGET(NAME)                                                                                                                     \
  LLVMInitialize##NAME##TargetInfo();                                                                                                     \
  LLVMInitialize##NAME##Target();                                                                                                         \
  LLVMInitialize##NAME##TargetMC();                                                                                                       \
  LLVMInitialize##NAME##AsmPrinter();
  TARGET(X86)
  TARGET(AArch64)
  TARGET(ARM)
#undef TARGET
}

static pthread_once_t targets_once = PTHREAD_ONCE_INIT;

bool machine_open(Machine *m, const Target *t, Arena *scratch) {
  memset(m, 0, sizeof *m);
  m->target = t;
  m->arena = scratch;
  pthread_once(&targets_once, register_targets);
  char *host = t->triple[0] ? NULL : LLVMGetDefaultTargetTriple(), *error = NULL;
  const char *triple = host ? host : t->triple;
  LLVMTargetRef target = NULL;
  if (LLVMGetTargetFromTriple(triple, &target, &error)) {
    machine_error(m, "%s", error);
    LLVMDisposeMessage(error);
  } else {
    LLVMTargetMachineOptionsRef o = LLVMCreateTargetMachineOptions();
    LLVMTargetMachineOptionsSetCPU(o, t->cpu);
    LLVMTargetMachineOptionsSetFeatures(o, t->features);
    LLVMTargetMachineOptionsSetCodeGenOptLevel(o, LLVMCodeGenLevelDefault);
    LLVMTargetMachineOptionsSetRelocMode(o, LLVMRelocPIC);
    m->tm = LLVMCreateTargetMachineWithOptions(target, triple, o);
    LLVMDisposeTargetMachineOptions(o);
    if (!m->tm) machine_error(m, "LLVM has no code generator for %s", triple);
  }
  LLVMDisposeMessage(host);
  if (!m->tm) return false;
  m->layout = LLVMCreateTargetDataLayout(m->tm);
  m->ctx = LLVMContextCreate();
  LLVMContextSetDiagnosticHandler(m->ctx, on_diagnostic, m);
  return true;
}

void machine_close(Machine *m) {
  if (m->ctx) LLVMContextDispose(m->ctx);
  if (m->layout) LLVMDisposeTargetData(m->layout);
  if (m->tm) LLVMDisposeTargetMachine(m->tm);
  m->ctx = NULL;
  m->layout = NULL;
  m->tm = NULL;
}

/* ---- units ---- */

void unit_open(Unit *u, Machine *m, const char *name) {
  memset(u, 0, sizeof *u);
  u->m = m;
  u->mod = LLVMModuleCreateWithNameInContext(name, m->ctx);
  u->b = LLVMCreateBuilderInContext(m->ctx);
  u->t_void = LLVMVoidTypeInContext(m->ctx);
  u->t_ptr = LLVMPointerTypeInContext(m->ctx, 0);
  u->t_idx = LLVMIntTypeInContext(m->ctx, 8 * LLVMPointerSize(m->layout));
  u->md_invariant = LLVMGetMDKindIDInContext(m->ctx, "invariant.load", 14);
  u->md_loop = LLVMGetMDKindIDInContext(m->ctx, "llvm.loop", 9);
  char *triple = LLVMGetTargetMachineTriple(m->tm);
  LLVMSetTarget(u->mod, triple);
  LLVMDisposeMessage(triple);
  LLVMSetModuleDataLayout(u->mod, m->layout);
}

void unit_close(Unit *u) {
  if (u->b) LLVMDisposeBuilder(u->b);
  if (u->mod) LLVMDisposeModule(u->mod);
  u->b = NULL;
  u->mod = NULL;
}

void unit_attribute(const Unit *u, LLVMValueRef fn, unsigned at, const char *name, uint64_t value) {
  unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
  LLVMAddAttributeAtIndex(fn, at, LLVMCreateEnumAttribute(u->m->ctx, kind, value));
}

void unit_function(const Unit *u, LLVMValueRef fn) {
  const char *text[][2] = {{"target-cpu", u->m->target->cpu},
                           {"target-features", u->m->target->features},
                           /* LLVM narrows vectors to 256 bits on processors that once lowered their clock for wider ones. */
                           {"prefer-vector-width", u->m->target->lanes >= 16 ? "512" : ""}};
  for (int i = 0; i < COUNTOF(text); i++) {
    const char *name = text[i][0], *value = text[i][1];
    if (!value[0]) continue;
    LLVMAttributeRef a = LLVMCreateStringAttribute(u->m->ctx, name, (unsigned)strlen(name), value, (unsigned)strlen(value));
    LLVMAddAttributeAtIndex(fn, (unsigned)LLVMAttributeFunctionIndex, a);
  }
  unit_attribute(u, fn, (unsigned)LLVMAttributeFunctionIndex, "nounwind", 0);
}

/* Where assertions are on, what was built is checked: LLVM itself trusts it. */
static bool verify(Unit *u) {
#ifndef NDEBUG
  char *text = NULL;
  if (LLVMVerifyModule(u->mod, LLVMReturnStatusAction, &text)) machine_error(u->m, "the module is not valid: %s", text);
  LLVMDisposeMessage(text);
#endif
  return !u->m->error[0];
}

bool unit_optimise(Unit *u) {
  if (!verify(u)) return false;
  LLVMPassBuilderOptionsRef o = LLVMCreatePassBuilderOptions();
  LLVMErrorRef e = LLVMRunPasses(u->mod, pipeline, u->m->tm, o);
  LLVMDisposePassBuilderOptions(o);
  if (e) {
    char *text = LLVMGetErrorMessage(e);
    machine_error(u->m, "LLVM: %s", text);
    LLVMDisposeErrorMessage(text);
  }
  return !u->m->error[0];
}

LLVMMemoryBufferRef unit_emit(Unit *u, LLVMCodeGenFileType kind) {
  LLVMMemoryBufferRef out = NULL;
  char *error = NULL;
  if (LLVMTargetMachineEmitToMemoryBuffer(u->m->tm, u->mod, kind, &error, &out)) {
    machine_error(u->m, "LLVM: %s", error);
    LLVMDisposeMessage(error);
    return NULL;
  }
  if (u->m->error[0]) {
    LLVMDisposeMemoryBuffer(out);
    return NULL;
  }
  return out;
}
