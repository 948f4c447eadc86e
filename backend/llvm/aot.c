/* backend/llvm/aot.c: a Program as an object, assembly, a shared library or LLVM IR, for any target of the table.
 *
 * The header beside the output is the C backend's own, and so is the contract: an object and a compiled C file are interchangeable. Weights
 * are a read-only section of the object, aligned to 64 bytes, or a file of their own. Functions of libm are the only symbols wanted.
 *
 * Like the C backend's, files are generated whole before the first of them gets its name.
 */
#define _GNU_SOURCE
#include "llvm.h"
#include "../c/c_backend.h"
#include "../../runtime/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define MAX_FILES 4

typedef struct Emit {
  const Program *p;
  const char *path;
  spinec_emit_options o;
  Diag *d;
  OutFile files[MAX_FILES];
  int nfiles;
  char *temp_dir;
  Machine m;
  Unit u;
} Emit;

/* ---- files ---- */

static FILE *open_file(Emit *e, const char *path, Status *status) {
  char err[RT_ERR_MAX];
  spinec_status s = outfile_open(&e->files[e->nfiles], path, err);
  if (s != SPINEC_OK) {
    *status = diag_error(e->d, s, NULL, NULL, "%s", err);
    return NULL;
  }
  return e->files[e->nfiles++].f;
}

static Status write_bytes(Emit *e, const char *path, const void *bytes, size_t n) {
  Status status = SPINEC_OK;
  FILE *f = open_file(e, path, &status);
  if (f && n) fwrite(bytes, 1, n, f);   /* a failed write shows when the file is committed */
  return status;
}

static void file_sink(void *user, const void *bytes, size_t n) { fwrite(bytes, 1, n, user); }

/* The weights' own file, and the hash of it for the header. */
static Status write_weights(Emit *e, CGen *g, const char *dir) {
  if (e->o.weights != SPINEC_WEIGHTS_FILE) return SPINEC_OK;
  Status status = SPINEC_OK;
  FILE *f = open_file(e, arena_printf(g->a, "%s%s.weights.bin", dir, g->stem), &status);
  if (!f) return status;
  weights_stream(g, file_sink, f);
  weights_hash(g);
  return SPINEC_OK;
}

/* ---- the module ---- */

static Status llvm_failed(Emit *e) {
  return diag_error(e->d, SPINEC_ERR_TOOL, NULL, NULL, "%s: %s", e->p->target->name, e->m.error[0] ? e->m.error : "LLVM failed");
}

typedef struct Fill { char *at; } Fill;

static void fill_sink(void *user, const void *bytes, size_t n) {
  Fill *f = user;
  memcpy(f->at, bytes, n);
  f->at += n;
}

/* The blob as a constant; NULL after running out of memory. */
static LLVMValueRef build_weights(Emit *e, const CGen *g) {
  size_t n = (size_t)MAXI(e->p->weight_bytes, 1);
  char *bytes = calloc(n, 1);
  if (!bytes) return NULL;
  weights_stream(g, fill_sink, &(Fill){bytes});
  LLVMValueRef text = LLVMConstStringInContext2(e->m.ctx, bytes, n, true);
  free(bytes);
  LLVMValueRef v = LLVMAddGlobal(e->u.mod, LLVMTypeOf(text), arena_printf(g->a, "%s_weights", g->prefix));
  LLVMSetInitializer(v, text);
  LLVMSetGlobalConstant(v, true);
  LLVMSetLinkage(v, LLVMInternalLinkage);
  LLVMSetAlignment(v, 64);
  LLVMSetSection(v, arena_printf(g->a, ".rodata.%s_weights", g->prefix));
  return v;
}

static Status build(Emit *e, CGen *g) {
  if (!machine_open(&e->m, e->p->target, g->a)) return llvm_failed(e);
  unit_open(&e->u, &e->m, g->prefix);
  e->u.names = e->o.kind == SPINEC_EMIT_LLVM;
  const KernelFact *facts = program_facts(e->p, g->a);
  LLVMValueRef *kernels = NEW_N(g->a, LLVMValueRef, MAXI(e->p->kernels.n, 1)), weights = NULL;
  for (int i = 0; i < e->p->kernels.n; i++)
    kernels[i] = kernel_build(&e->u, e->p->kernels.at[i], &facts[i], arena_printf(g->a, "%s_%s", g->prefix, g->kernel_names[i]));
  if (e->o.weights != SPINEC_WEIGHTS_FILE && !(weights = build_weights(e, g)))
    return diag_error(e->d, SPINEC_ERR_MEMORY, NULL, "--weights file keeps them out of the object", "out of memory for the weights");
  run_build(&e->u, g, kernels, weights);
  return unit_optimise(&e->u) ? SPINEC_OK : llvm_failed(e);
}

static Status write_module(Emit *e, const char *path) {
  if (e->o.kind == SPINEC_EMIT_LLVM) {
    char *text = LLVMPrintModuleToString(e->u.mod);
    Status s = write_bytes(e, path, text, strlen(text));
    LLVMDisposeMessage(text);
    return s;
  }
  LLVMMemoryBufferRef out = unit_emit(&e->u, e->o.kind == SPINEC_EMIT_ASM ? LLVMAssemblyFile : LLVMObjectFile);
  if (!out) return llvm_failed(e);
  Status s = write_bytes(e, path, LLVMGetBufferStart(out), LLVMGetBufferSize(out));
  LLVMDisposeMemoryBuffer(out);
  return s;
}

/* ---- shared libraries ---- */

/* Runs argv with its messages in a file and reports their first line when it fails. */
static Status run_tool(Emit *e, char *const *argv) {
  char *log = NULL, line[400] = "";
  if (asprintf(&log, "%s/log", e->temp_dir) < 0) return diag_error(e->d, SPINEC_ERR_MEMORY, NULL, NULL, "out of memory");
  posix_spawn_file_actions_t io;
  posix_spawn_file_actions_init(&io);
  posix_spawn_file_actions_addopen(&io, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&io, 2, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&io, 2, 1);
  pid_t pid;
  int status = -1, error = posix_spawnp(&pid, argv[0], &io, NULL, argv, environ);
  posix_spawn_file_actions_destroy(&io);
  while (!error && waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) error = errno;
  }
  FILE *f = fopen(log, "r");
  if (f && !fgets(line, sizeof line, f)) line[0] = 0;
  if (f) fclose(f);
  free(log);
  line[strcspn(line, "\n")] = 0;
  if (error) return diag_error(e->d, SPINEC_ERR_TOOL, NULL, "set SPINEC_CC to a C compiler for the target", "%s: %s", argv[0], strerror(error));
  if (status) return diag_error(e->d, SPINEC_ERR_TOOL, NULL, "set SPINEC_CC to a C compiler for the target", "%s failed to link: %s", argv[0], line);
  return SPINEC_OK;
}

static const char *compiler(void) {
  const char *names[] = {getenv("SPINEC_CC"), getenv("CC"), "cc"};
  int i = 0;
  while (!names[i] || !*names[i]) i++;
  return names[i];
}

/* The object goes to a private folder, the library to where the output file is being written. */
static Status write_library(Emit *e, const CGen *g, const char *path) {
  char err[RT_ERR_MAX];
  Status s = tempdir_new(&e->temp_dir, err);
  if (s) return diag_error(e->d, s, NULL, NULL, "%s", err);
  const char *object = arena_printf(g->a, "%s/model.o", e->temp_dir);
  int here = e->nfiles;
  s = write_module(e, object);
  if (!s && outfile_commit(&e->files[here], err)) s = diag_error(e->d, SPINEC_ERR_IO, NULL, NULL, "%s", err);
  e->nfiles = here;
  if (s || !open_file(e, path, &s)) return s;
  /* SPINEC_CC may hold options: the shell's words, without the shell. */
  char *words = arena_strdup(g->a, compiler()), *argv[32], *rest = NULL;
  int n = 0;
  for (char *w = strtok_r(words, " ", &rest); w && n < 20; w = strtok_r(NULL, " ", &rest)) argv[n++] = w;
  if (!n) argv[n++] = arena_strdup(g->a, "cc");
  const char *const tail[] = {"-shared", "-o", e->files[here].temp, object, "-lm"};
  for (int i = 0; i < COUNTOF(tail); i++) argv[n++] = arena_strdup(g->a, tail[i]);
  argv[n] = NULL;
  return run_tool(e, argv);
}

/* ---- llvm_emit ---- */

static Status check_options(const Emit *e) {
  if (e->o.threads == SPINEC_THREADS_PTHREAD || e->o.threads == SPINEC_THREADS_OPENMP)
    return diag_error(e->d, SPINEC_ERR_OPTION, NULL, "use --threads callback or none, or --emit c", "objects bring no thread pool of their own");
  if (e->o.emit_test) return diag_error(e->d, SPINEC_ERR_OPTION, NULL, "use --emit c", "the self-check is part of the C output");
  return SPINEC_OK;
}

static Status emit_all(Emit *e, Arena *a) {
  const char *slash = strrchr(e->path, '/'), *name = slash ? slash + 1 : e->path, *dot = strrchr(name, '.');
  const char *dir = arena_strndup(a, e->path, (size_t)(name - e->path)), *stem = arena_strndup(a, name, dot && dot > name ? (size_t)(dot - name) : strlen(name));
  /* One object holds everything: for the header that is as in one C file. */
  if (e->o.weights == SPINEC_WEIGHTS_OBJECT) e->o.weights = SPINEC_WEIGHTS_INLINE;
  CGen g = {.p = e->p, .o = &e->o, .d = e->d, .a = a};
  Status s = check_options(e);
  if (!s) s = cgen_init(&g, stem);
  if (!s) s = write_weights(e, &g, dir);
  if (s) return s;
  Text header = {.a = a};
  c_header(&g, &header);
  s = write_bytes(e, arena_printf(a, "%s%s.h", dir, stem), header.s, header.n);
  if (!s) s = build(e, &g);
  if (!s) s = e->o.kind == SPINEC_EMIT_SO ? write_library(e, &g, e->path) : write_module(e, e->path);
  char err[RT_ERR_MAX];
  for (int i = 0; !s && i < e->nfiles; i++) {
    spinec_status c = outfile_commit(&e->files[i], err);
    if (c) s = diag_error(e->d, c, NULL, NULL, "%s", err);
  }
  return s;
}

static Status guarded(Emit *e) {
  Fail fail;
  Arena *volatile a = NULL;
  if (!FAIL_ARM(&fail, e->d)) {
    arena_free(a);
    return fail.status;
  }
  a = arena_new(&fail);
  Status s = emit_all(e, a);
  arena_free(a);
  return s;
}

Status llvm_emit(const Program *p, const char *out_path, const spinec_emit_options *o, Diag *d) {
  Emit e = {.p = p, .path = out_path, .o = *o, .d = d};
  Status s = guarded(&e);
  unit_close(&e.u);
  machine_close(&e.m);
  for (int i = 0; i < e.nfiles; i++) outfile_discard(&e.files[i]);
  tempdir_remove(e.temp_dir);
  return s;
}
