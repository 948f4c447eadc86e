/* spinec.c: the public interface, joining frontend, passes and backends. The only place that knows all three.
 *
 * Every object owns one arena. A call arms a Fail first: out of memory, or a mistake of ours, anywhere below comes back here, the arena is
 * freed with everything in it, and the caller gets a status.
 */
#include "../backend/backend.h"
#include "../frontend/frontend.h"
#include "../passes/passes.h"
#include "../runtime/runtime.h"
#include <string.h>

struct spinec_model {
  Arena *arena;
  Graph *graph;
};

struct spinec_program {
  Arena *arena;
  Program *program;   /* NULL after --stop-after */
  Graph *graph;       /* as it was lowered */
  int *buffer, nbuffers;   /* those in the workspace, by first use */
  int *place;         /* by buffer: where it is in that list; -1 */
};

struct spinec_session {
  Arena *arena;
  const Program *program;
  Runner *runner;
  const void **in;    /* scratch of spinec_session_run */
  void **out;
};

/* ---- loading ---- */

static Ctx fold_ctx(Arena *a, Diag *d, spinec_compile_options *opt) {
  *opt = spinec_compile_options_default();
  opt->opt_level = 0;
  return (Ctx){.arena = a, .diag = d, .target = target_find("generic"), .opt = opt, .eval = interp_eval};
}

static bool fold_at_import(Graph *g, Node *n, void *user) { return fold_node(g, n, user); }

static Status load(const char *path, const spinec_load_options *options, spinec_model **out, Diag *d) {
  Fail fail;
  Arena *volatile a = NULL;
  spinec_model *volatile m = NULL;
  volatile Status status = SPINEC_OK;
  if (FAIL_ARM(&fail, d)) {
    a = arena_new(&fail);
    m = NEW(a, spinec_model);
    m->arena = a;
    spinec_compile_options opt;
    Ctx c = fold_ctx(a, d, &opt);
    ImportOptions io = {.load = options, .fold = fold_at_import, .fold_user = &c};
    m->graph = onnx_import(a, d, path, &io);
    if (!m->graph) status = diag_status(d) ? diag_status(d) : SPINEC_ERR_INTERNAL;
    arena_set_fail(a, NULL);
  } else {
    status = fail.status;
  }
  if (status) arena_free(a);
  else *out = m;
  return status;
}

spinec_status spinec_load(const char *path, const spinec_load_options *options, spinec_model **out, spinec_diagnostics *diag) {
  *out = NULL;
  Diag *own = diag ? NULL : spinec_diagnostics_new();   /* the status is taken from it */
  Status s = load(path, options, out, diag ? diag : own);
  spinec_diagnostics_free(own);
  return s;
}

void spinec_model_free(spinec_model *m) {
  if (m) arena_free(m->arena);
}

int spinec_model_inputs(const spinec_model *m) { return m->graph->inputs.n; }
int spinec_model_outputs(const spinec_model *m) { return m->graph->outputs.n; }
const char *spinec_model_input_name(const spinec_model *m, int i) { return m->graph->inputs.at[i]->name; }
const char *spinec_model_output_name(const spinec_model *m, int i) { return m->graph->outputs.at[i]->name; }

static spinec_tensor signature(const Value *v) {
  spinec_tensor t = {.dtype = v->dt, .rank = v->shape.rank};
  for (int i = 0; i < t.rank; i++) t.dims[i] = v->shape.d[i].n;
  return t;
}
spinec_tensor spinec_model_input(const spinec_model *m, int i) { return signature(m->graph->inputs.at[i]); }
spinec_tensor spinec_model_output(const spinec_model *m, int i) { return signature(m->graph->outputs.at[i]); }

int spinec_model_nodes(const spinec_model *m) {
  int n = 0;
  for (const Node *k = m->graph->first; k; k = k->next) n++;
  return n;
}

spinec_node_info spinec_model_node(const spinec_model *m, int i) {
  const Node *k = m->graph->first;
  while (i-- > 0) k = k->next;
  return (spinec_node_info){op_info(k->op)->name, k->norigin ? k->origin[0] : "", signature(k->out[0]), node_macs(k)};
}

spinec_status spinec_read_tensor_proto(const char *path, spinec_tensor *out, spinec_diagnostics *diag) { return onnx_tensor_load(path, out, diag); }

/* ---- compiling ---- */

spinec_compile_options spinec_compile_options_default(void) { return (spinec_compile_options){.opt_level = 2, .max_threads = 1, .winograd = -1}; }

int spinec_target_count(void) { return target_count(); }
const char *spinec_target_name(int i) { return target_at(i)->name; }
const char *spinec_target_summary(int i) { return target_at(i)->summary; }

static Status bad_option(Diag *d, const char *hint, const char *what) { return diag_error(d, SPINEC_ERR_OPTION, NULL, hint, "%s", what); }

static Status check_compile_options(const spinec_compile_options *o, const Target **target, Diag *d) {
  const char *name = o->target ? o->target : "native";
  *target = target_find(name);
  if (!*target) {
    char known[512] = "one of";
    for (int i = 0; i < target_count(); i++) {
      size_t n = strlen(known);
      snprintf(known + n, sizeof known - n, "%s %s", i ? "," : "", target_at(i)->name);
    }
    return diag_error(d, SPINEC_ERR_OPTION, NULL, known, "unknown target '%s'", name);
  }
  if (o->opt_level < 0 || o->opt_level > 3) return bad_option(d, "-O0 to -O3", "no such optimisation level");
  if (o->winograd != -1 && o->winograd != 0 && o->winograd != 2 && o->winograd != 4 && o->winograd != 5 && o->winograd != 6)
    return bad_option(d, "2, 4, 5, 6, off or auto", "no such Winograd tile");
  if (o->max_weight_bytes < 0) return bad_option(d, NULL, "negative weight limit");
  if (o->max_workspace_bytes < 0) return bad_option(d, NULL, "negative workspace limit");
  if (o->max_threads < 0 || o->max_threads > 256) return bad_option(d, "1 to 256", "thread count out of range");
  return SPINEC_OK;
}

static void list_buffers(spinec_program *p) {
  const Program *q = p->program;
  p->buffer = NEW_N(p->arena, int, q->buffers.n);
  p->place = NEW_N(p->arena, int, q->buffers.n);
  for (int i = 0; i < q->buffers.n; i++) p->place[i] = -1;
  for (int i = 0; i < q->buffers.n; i++) {
    const Buffer *b = &q->buffers.at[i];
    if ((b->kind == BUF_ARENA || b->kind == BUF_SCRATCH) && b->bytes && b->first >= 0) p->place[i] = 0;
  }
  for (int t = 0; t < q->calls.n; t++)
    for (int i = 0; i < q->buffers.n; i++)
      if (p->place[i] >= 0 && q->buffers.at[i].first == t) p->buffer[p->nbuffers++] = i;
  for (int k = 0; k < p->nbuffers; k++) p->place[p->buffer[k]] = k;
}

static Status compile(const spinec_model *m, const spinec_compile_options *opt, const Target *target, spinec_program **out, Diag *d) {
  volatile Status status = SPINEC_OK;
  Fail fail;
  Arena *volatile a = NULL;
  spinec_program *volatile p = NULL;
  if (FAIL_ARM(&fail, d)) {
    a = arena_new(&fail);
    p = NEW(a, spinec_program);
    p->arena = a;
    p->graph = graph_clone(m->graph, a, d);
    Ctx c = {.arena = a, .diag = d, .target = target, .opt = opt, .eval = interp_eval};
    bool stopped = false;
    p->program = passes_run(p->graph, &c, &stopped);
    if (p->program) list_buffers(p);
    if (!p->program && !stopped) status = diag_status(d) ? diag_status(d) : SPINEC_ERR_INTERNAL;
    p->graph->diag = NULL;
    arena_set_fail(a, NULL);
  } else {
    status = fail.status;
  }
  if (status) arena_free(a);
  else *out = p;
  return status;
}

spinec_status spinec_compile(const spinec_model *m, const spinec_compile_options *options, spinec_program **out, spinec_diagnostics *diag) {
  *out = NULL;
  spinec_compile_options opt = options ? *options : spinec_compile_options_default();
  if (opt.max_threads == 0) opt.max_threads = 1;
  Diag *own = diag ? NULL : spinec_diagnostics_new();
  const Target *target;
  Status s = check_compile_options(&opt, &target, diag ? diag : own);
  if (!s) s = compile(m, &opt, target, out, diag ? diag : own);
  spinec_diagnostics_free(own);
  return s;
}

void spinec_program_free(spinec_program *p) {
  if (p) arena_free(p->arena);
}

spinec_program_info spinec_program_get_info(const spinec_program *p) {
  const Program *q = p->program;
  if (!q) return (spinec_program_info){0};
  int64_t given = q->given_live_bytes ? q->given_live_bytes : q->live_bytes;
  return (spinec_program_info){q->macs,      q->params,    q->workspace_bytes, q->live_bytes, q->weight_bytes,
                               q->kernels.n, q->calls.n, p->nbuffers,        given};
}

spinec_buffer_info spinec_program_get_buffer(const spinec_program *p, int i) {
  const Buffer *b = &p->program->buffers.at[p->buffer[i]];
  bool scratch = b->kind == BUF_SCRATCH;
  int64_t bytes = scratch ? b->stride * p->program->max_threads : b->bytes;
  return (spinec_buffer_info){b->name ? b->name : "", bytes, b->offset, b->first, b->last, scratch, b->part ? p->place[b->whole] : -1};
}

int64_t spinec_program_get_live(const spinec_program *p, int i) { return p->program->live[i]; }

spinec_call_info spinec_program_get_call(const spinec_program *p, int i, char *origin, size_t origin_size) {
  const Call *c = &p->program->calls.at[i];
  size_t n = 0;
  if (origin_size) origin[0] = 0;
  for (int k = 0; k < c->norigin && n + 1 < origin_size; k++) {
    int wrote = snprintf(origin + n, origin_size - n, "%s%s", k ? " + " : "", c->origin[k]);
    n += wrote > 0 ? (size_t)wrote : 0;
  }
  return (spinec_call_info){c->kernel->name, c->kernel->what, origin, c->onnx_op ? c->onnx_op : "", c->kernel->flops, c->kernel->bytes};
}

/* ---- emitting ---- */

static Status emit_text(const char *path, const Text *t, Diag *d) {
  char err[RT_ERR_MAX];
  OutFile f;
  Status s = outfile_open(&f, path, err);
  if (!s) {
    if (t->n) fwrite(t->s, 1, t->n, f.f);   /* a short write is found by outfile_commit */
    s = outfile_commit(&f, err);
  }
  return s ? diag_error(d, s, NULL, NULL, "%s", err) : SPINEC_OK;
}

static Status emit_any(const spinec_program *p, Arena *scratch, const char *path, const spinec_emit_options *o, Diag *d) {
  Text t = {.a = scratch};
  if (o->kind == SPINEC_EMIT_IR) {
    graph_print(p->graph, &t);
    return emit_text(path, &t, d);
  }
  if (!p->program) return bad_option(d, "drop --stop-after", "compilation was stopped before there was a program");
  if (o->kind != SPINEC_EMIT_LOOPS && outfile_special(path))
    return diag_error(d, SPINEC_ERR_IO, NULL, "give a name that files beside it can take", "%s: not a file, and a header and weights are to go beside it", path);
  switch (o->kind) {
  case SPINEC_EMIT_LOOPS: program_print(p->program, &t); return emit_text(path, &t, d);
  case SPINEC_EMIT_C: return c_emit(p->program, path, o, d);
  case SPINEC_EMIT_OBJ:
  case SPINEC_EMIT_ASM:
  case SPINEC_EMIT_SO:
  case SPINEC_EMIT_LLVM:
#if SPINEC_HAVE_LLVM
    return llvm_emit(p->program, path, o, d);
#else
    return bad_option(d, "--emit c needs no LLVM", "this spinec was built without LLVM");
#endif
  case SPINEC_EMIT_IR: break;
  }
  return bad_option(d, NULL, "no such kind of output");
}

spinec_status spinec_emit(const spinec_program *p, const char *out_path, const spinec_emit_options *options, spinec_diagnostics *diag) {
  spinec_emit_options o = options ? *options : (spinec_emit_options){0};
  Fail fail;
  Arena *volatile a = NULL;
  volatile Status status;
  if (FAIL_ARM(&fail, diag)) {
    a = arena_new(&fail);
    status = emit_any(p, a, out_path, &o, diag);
  } else {
    status = fail.status;
  }
  arena_free(a);
  return status;
}

/* ---- running ---- */

bool spinec_backend_available(spinec_backend b) {
  switch (b) {
  case SPINEC_BACKEND_INTERP:
  case SPINEC_BACKEND_C: return true;
  case SPINEC_BACKEND_JIT: return SPINEC_HAVE_LLVM;
  }
  return false;
}

static Runner *open_runner(const Program *p, spinec_backend backend, int threads, Diag *d) {
  switch (backend) {
  case SPINEC_BACKEND_INTERP: return interp_open(p, threads, d);
  case SPINEC_BACKEND_C: return c_open(p, threads, d);
  case SPINEC_BACKEND_JIT:
#if SPINEC_HAVE_LLVM
    return llvm_open(p, threads, d);
#else
    bad_option(d, "use --backend c or interp", "this spinec was built without LLVM: no JIT");
    return NULL;
#endif
  }
  bad_option(d, NULL, "no such backend");
  return NULL;
}

static Status session_open(const Program *p, spinec_backend backend, int threads, spinec_session **out, Diag *d) {
  Fail fail;
  Arena *volatile a = NULL;
  volatile Status status = SPINEC_OK;
  if (FAIL_ARM(&fail, d)) {
    a = arena_new(&fail);
    spinec_session *s = NEW(a, spinec_session);
    *s = (spinec_session){.arena = a, .program = p, .in = NEW_N(a, const void *, p->inputs.n + 1), .out = NEW_N(a, void *, p->outputs.n + 1)};
    s->runner = open_runner(p, backend, threads, d);
    if (s->runner) *out = s;
    else status = diag_status(d) ? diag_status(d) : SPINEC_ERR_MEMORY;
    arena_set_fail(a, NULL);
  } else {
    status = fail.status;
  }
  if (status) arena_free(a);
  return status;
}

spinec_status spinec_session_open(const spinec_program *p, spinec_backend backend, int threads, spinec_session **out, spinec_diagnostics *diag) {
  *out = NULL;
  if (!p->program) return bad_option(diag, "drop --stop-after", "compilation was stopped before there was a program");
  if (threads < 1 || threads > p->program->max_threads)
    return bad_option(diag, "compile with max_threads at least that large", "thread count out of range");
  Diag *own = diag ? NULL : spinec_diagnostics_new();
  Status s = session_open(p->program, backend, threads, out, diag ? diag : own);
  spinec_diagnostics_free(own);
  return s;
}

static Status check_tensor(const Port *port, const spinec_tensor *t, const char *what, Diag *d) {
  Shape given = {.rank = -1};
  if (t->rank >= 0 && t->rank <= MAX_RANK) given = shape_of(t->rank, t->dims);
  if (t->dtype != port->dt || !shape_equal(&given, &port->shape))
    return diag_error(d, SPINEC_ERR_OPTION, NULL, "see spinec_model_input and spinec_model_output", "%s '%s' has another type or shape than the model's",
                      what, port->name);
  if (!t->data && shape_count(&port->shape)) return diag_error(d, SPINEC_ERR_OPTION, NULL, NULL, "%s '%s' has no data", what, port->name);
  return SPINEC_OK;
}

static Status bind_tensors(spinec_session *s, const spinec_tensor *inputs, const spinec_tensor *outputs, Diag *d) {
  const Program *p = s->program;
  for (int i = 0; i < p->inputs.n; i++) {
    Status st = check_tensor(&p->inputs.at[i], &inputs[i], "input", d);
    if (st) return st;
    s->in[i] = inputs[i].data;
  }
  for (int i = 0; i < p->outputs.n; i++) {
    Status st = check_tensor(&p->outputs.at[i], &outputs[i], "output", d);
    if (st) return st;
    s->out[i] = outputs[i].data;
  }
  return SPINEC_OK;
}

spinec_status spinec_session_run(spinec_session *s, const spinec_tensor *inputs, const spinec_tensor *outputs, spinec_diagnostics *diag) {
  Status st = bind_tensors(s, inputs, outputs, diag);
  return st ? st : s->runner->run(s->runner, s->in, s->out, diag);
}

spinec_status spinec_session_profile(spinec_session *s, const spinec_tensor *inputs, const spinec_tensor *outputs, double *ns, spinec_diagnostics *diag) {
  if (!s->runner->profile) return diag_error(diag, SPINEC_ERR_UNSUPPORTED, NULL, NULL, "this backend does not time single kernels");
  Status st = bind_tensors(s, inputs, outputs, diag);
  return st ? st : s->runner->profile(s->runner, s->in, s->out, ns, diag);
}

void spinec_session_close(spinec_session *s) {
  if (!s) return;
  s->runner->close(s->runner);
  arena_free(s->arena);
}

/* ---- measuring the machine ---- */

enum { PROBE_RUNS = 7, PROBE_CALLS = 3 };

static Status probe(const spinec_program *p, spinec_backend backend, int threads, spinec_machine *out, Diag *d) {
  Fail fail;
  Arena *volatile a = NULL;
  Runner *volatile r = NULL;
  volatile Status status = SPINEC_OK;
  if (FAIL_ARM(&fail, d)) {
    a = arena_new(&fail);
    spinec_compile_options opt = spinec_compile_options_default();
    Ctx c = {.arena = a, .diag = d, .target = p->program->target, .opt = &opt, .eval = interp_eval};
    const Program *q = probe_program(&c, threads);
    r = q ? open_runner(q, backend, threads, d) : NULL;
    if (!r) status = diag_status(d) ? diag_status(d) : SPINEC_ERR_INTERNAL;
    else if (!r->profile) status = diag_error(d, SPINEC_ERR_UNSUPPORTED, NULL, NULL, "this backend does not time single kernels");
    *out = (spinec_machine){0, 0};
    for (int i = 0; i < PROBE_RUNS && !status; i++) {
      double ns[PROBE_CALLS];
      status = r->profile(r, NULL, NULL, ns, d);
      if (status) break;
      const Kernel *read = q->calls.at[1].kernel, *fma = q->calls.at[2].kernel;
      out->bytes = MAXI(out->bytes, read->bytes / ns[1] * 1e9);
      out->flops = MAXI(out->flops, fma->flops / ns[2] * 1e9);
    }
  } else {
    status = fail.status;
  }
  if (r) r->close(r);
  arena_free(a);
  return status;
}

spinec_status spinec_measure_machine(const spinec_program *p, spinec_backend backend, int threads, spinec_machine *out, spinec_diagnostics *diag) {
  if (!p->program) return bad_option(diag, "drop --stop-after", "compilation was stopped before there was a program");
  if (threads < 1 || threads > p->program->max_threads)
    return bad_option(diag, "compile with max_threads at least that large", "thread count out of range");
  Diag *own = diag ? NULL : spinec_diagnostics_new();
  Status s = probe(p, backend, threads, out, diag ? diag : own);
  spinec_diagnostics_free(own);
  return s;
}
