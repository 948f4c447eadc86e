/* run.c: c_open: a program's C, compiled by the system's compiler and loaded into this process.
 *
 * The text goes to a private folder that is gone again as soon as the shared object is loaded. The compiler is started directly, without a
 * shell; what it prints becomes the error message. Weights never touch a file: they are filled into memory and handed to NAME_run.
 * The hook of self-tests, which NAME_run calls after each kernel, serves profiles here.
 */
#define _GNU_SOURCE
#include "c_backend.h"
#include "../../runtime/runtime.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define PREFIX "spinec_compiled"
#define MESSAGE_MAX 2000   /* of the compiler's output */

typedef void RunFn(const void *const *in, void *const *out, const void *weights, void *workspace);
typedef void RunPoolFn(const void *const *in, void *const *out, const void *weights, void *workspace, void *pool);

typedef void TraceFn(void *arg, int call);

/* Behind the model's own text. */
static const char hook_text[] =
  "\nstatic void (*trace_fn)(void *arg, int call);\nstatic void *trace_arg;\n"
  "void " PREFIX "_trace(int call) {\n  if (trace_fn) trace_fn(trace_arg, call);\n}\n"
  "void " PREFIX "_set_trace(void (*fn)(void *arg, int call), void *arg) {\n  trace_fn = fn;\n  trace_arg = arg;\n}\n";

typedef struct CRunner {
  Runner runner;
  void (*set_trace)(TraceFn *fn, void *arg);
  void *library;
  RunFn *run;            /* one of the two */
  RunPoolFn *run_pool;
  void (*pool_destroy)(void *pool);
  void *pool, *weights, *workspace;
} CRunner;

/* ---- the compiler ---- */

/* SPINEC_CC, else CC, else cc; may hold arguments ("ccache gcc"), separated by blanks. */
static void add_compiler(Arena *a, char **argv, int *n, int max) {
  const char *cc = getenv("SPINEC_CC");
  if (!cc || !*cc) cc = getenv("CC");
  if (!cc || !*cc) cc = "cc";
  char *s = arena_strdup(a, cc), *save = NULL;
  for (char *w = strtok_r(s, " \t", &save); w && *n < max; w = strtok_r(NULL, " \t", &save)) argv[(*n)++] = w;
}

static void add_words(Arena *a, char **argv, int *n, int max, const char *words) {
  char *s = arena_strdup(a, words), *save = NULL;
  for (char *w = strtok_r(s, " ", &save); w && *n < max; w = strtok_r(NULL, " ", &save)) argv[(*n)++] = w;
}

static char *read_log(Arena *a, const char *path) {
  FILE *f = fopen(path, "rb");
  if (!f) return arena_strdup(a, "");
  char *text = arena_alloc(a, MESSAGE_MAX + 1);
  size_t n = fread(text, 1, MESSAGE_MAX, f);
  fclose(f);
  while (n && (text[n - 1] == '\n' || text[n - 1] == ' ')) n--;
  text[n] = 0;
  return text;
}

static int wait_for(pid_t pid) {
  int status;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Both outputs of the child go to the log file. */
static int spawn(char **argv, const char *log, pid_t *pid) {
  posix_spawn_file_actions_t actions;
  if (posix_spawn_file_actions_init(&actions)) return ENOMEM;
  int e = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  if (!e) e = posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (!e) e = posix_spawn_file_actions_adddup2(&actions, 1, 2);
  if (!e) e = posix_spawnp(pid, argv[0], &actions, NULL, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  return e;
}

static Status compile(CGen *g, const char *dir, bool threads) {
  enum { MAX_ARGS = 64 };
  char *argv[MAX_ARGS + 1];
  int n = 0;
  add_compiler(g->a, argv, &n, 16);
  if (!n) return diag_error(g->d, SPINEC_ERR_TOOL, NULL, "set SPINEC_CC or CC", "no C compiler is named");
  add_words(g->a, argv, &n, 40, "-std=c11 -O2 -ffp-contract=off -shared -fPIC -w -DSPINEC_COMPILED_TRACE");
  add_words(g->a, argv, &n, 50, g->p->target->cflags);
  if (threads) argv[n++] = "-pthread";
  argv[n++] = arena_printf(g->a, "%s/model.c", dir);
  argv[n++] = "-o";
  argv[n++] = arena_printf(g->a, "%s/model.so", dir);
  argv[n++] = "-lm";
  argv[n] = NULL;
  const char *log = arena_printf(g->a, "%s/cc.log", dir);
  pid_t pid;
  int e = spawn(argv, log, &pid);
  if (e) return diag_error(g->d, SPINEC_ERR_TOOL, NULL, "set SPINEC_CC or CC to a C compiler", "cannot start '%s': %s", argv[0], strerror(e));
  int code = wait_for(pid);
  if (code == 0) return SPINEC_OK;
  const char *said = read_log(g->a, log);
  return diag_error(g->d, SPINEC_ERR_TOOL, NULL, NULL, "'%s' could not compile the model for target %s: %s", argv[0], g->p->target->name,
                    *said ? said : "it says nothing");
}

static Status write_file(CGen *g, const char *path, const Text *a, const Text *b) {
  FILE *f = fopen(path, "wb");
  bool ok = f && fwrite(a->s, 1, a->n, f) == a->n && (!b || fwrite(b->s, 1, b->n, f) == b->n);
  if (f && fclose(f)) ok = false;
  return ok ? SPINEC_OK : diag_error(g->d, SPINEC_ERR_IO, NULL, NULL, "%s: cannot write: %s", path, strerror(errno));
}

static Status write_source(CGen *g, const char *dir) {
  Text header = {.a = g->a}, head = {.a = g->a}, tail = {.a = g->a};
  cgen_source(g, &head, &tail);
  text_add(&tail, hook_text);
  c_header(g, &header);
  Status s = write_file(g, arena_printf(g->a, "%s/model.h", dir), &header, NULL);
  return s == SPINEC_OK ? write_file(g, arena_printf(g->a, "%s/model.c", dir), &head, &tail) : s;
}

/* ---- loading ---- */

/* POSIX lets dlsym's result be a function; ISO C has no cast for it. */
static void symbol(void *library, const char *name, void *fn) {
  void *p = dlsym(library, name);
  memcpy(fn, &p, sizeof p);
}

static Status load(CGen *g, CRunner *r, const char *dir, int threads) {
  r->library = dlopen(arena_printf(g->a, "%s/model.so", dir), RTLD_NOW | RTLD_LOCAL);
  if (!r->library) return diag_error(g->d, SPINEC_ERR_TOOL, NULL, NULL, "cannot load the compiled model: %s", dlerror());
  void *(*pool_create)(int) = NULL;
  if (threads > 1) {
    symbol(r->library, PREFIX "_run", &r->run_pool);
    symbol(r->library, PREFIX "_pool_create", &pool_create);
    symbol(r->library, PREFIX "_pool_destroy", &r->pool_destroy);
    if (pool_create) r->pool = pool_create(threads);
    if (!r->pool) return diag_error(g->d, SPINEC_ERR_MEMORY, NULL, NULL, "cannot start %d threads", threads);
  } else {
    symbol(r->library, PREFIX "_run", &r->run);
  }
  symbol(r->library, PREFIX "_set_trace", &r->set_trace);
  if ((!r->run && !r->run_pool) || !r->set_trace) return diag_error(g->d, SPINEC_ERR_TOOL, NULL, NULL, "the compiled model has no entry");
  return SPINEC_OK;
}

static Status fill_memory(CGen *g, CRunner *r) {
  r->workspace = workspace_alloc((size_t)MAXI(g->p->workspace_bytes, 1));
  r->weights = workspace_alloc((size_t)MAXI(g->p->weight_bytes, 1));
  if (!r->workspace || !r->weights) return diag_error(g->d, SPINEC_ERR_MEMORY, NULL, NULL, "out of memory");
  for (int i = 0; i < g->p->weights.n; i++) {
    const Weight *w = &g->p->weights.at[i];
    w->fill(w->ctx, (char *)r->weights + w->offset);
  }
  return SPINEC_OK;
}

/* ---- the runner ---- */

/* NAME_inputs and NAME_outputs are structs of pointers and nothing else, which is how arrays of pointers lie in memory. */
static Status c_run(Runner *runner, const void *const *inputs, void *const *outputs, Diag *d) {
  CRunner *r = (CRunner *)runner;
  (void)d;
  if (r->run_pool) r->run_pool(inputs, outputs, r->weights, r->workspace, r->pool);
  else r->run(inputs, outputs, r->weights, r->workspace);
  return SPINEC_OK;
}

typedef struct Clock { double *ns; int64_t last; } Clock;

static void tick(void *arg, int call) {
  Clock *c = arg;
  int64_t now = time_ns();
  c->ns[call] = (double)(now - c->last);
  c->last = time_ns();
}

static Status c_profile(Runner *runner, const void *const *inputs, void *const *outputs, double *ns, Diag *d) {
  CRunner *r = (CRunner *)runner;
  Clock c = {ns, time_ns()};
  r->set_trace(tick, &c);
  Status s = c_run(runner, inputs, outputs, d);
  r->set_trace(NULL, NULL);
  return s;
}

static void c_close(Runner *runner) {
  CRunner *r = (CRunner *)runner;
  if (!r) return;
  if (r->pool) r->pool_destroy(r->pool);
  if (r->library) dlclose(r->library);
  workspace_free(r->workspace);
  workspace_free(r->weights);
  free(r);
}

static Status open_in(CGen *g, CRunner *r, const char *dir, int threads) {
  Status s = cgen_init(g, "model");
  if (s == SPINEC_OK) s = write_source(g, dir);
  if (s == SPINEC_OK) s = compile(g, dir, threads > 1);
  if (s == SPINEC_OK) s = load(g, r, dir, threads);
  return s == SPINEC_OK ? fill_memory(g, r) : s;
}

static Status guarded(const Program *p, CRunner *r, const char *dir, int threads, Diag *d) {
  spinec_emit_options o = {.kind = SPINEC_EMIT_C, .prefix = PREFIX, .weights = SPINEC_WEIGHTS_FILE, .emit_test = true,
                           .threads = threads > 1 ? SPINEC_THREADS_PTHREAD : SPINEC_THREADS_NONE};
  Fail fail;
  Arena *volatile a = NULL;
  if (!FAIL_ARM(&fail, d)) {
    arena_free(a);
    return fail.status;
  }
  a = arena_new(&fail);
  CGen *g = NEW(a, CGen);
  *g = (CGen){.p = p, .o = &o, .d = d, .a = a};
  Status s = open_in(g, r, dir, threads);
  arena_free(a);
  return s;
}

Runner *c_open(const Program *p, int threads, Diag *d) {
  char err[RT_ERR_MAX], *dir;
  CRunner *r = calloc(1, sizeof *r);
  if (!r) {
    diag_error(d, SPINEC_ERR_MEMORY, NULL, NULL, "out of memory");
    return NULL;
  }
  r->runner = (Runner){.run = c_run, .profile = c_profile, .close = c_close};
  spinec_status s = tempdir_new(&dir, err);
  if (s != SPINEC_OK) {
    diag_error(d, s, NULL, NULL, "%s", err);
    c_close(&r->runner);
    return NULL;
  }
  s = guarded(p, r, dir, MAXI(1, MINI(threads, p->max_threads)), d);
  tempdir_remove(dir);
  if (s == SPINEC_OK) return &r->runner;
  c_close(&r->runner);
  return NULL;
}
