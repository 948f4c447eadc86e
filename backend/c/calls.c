/* calls.c: NAME_run, one line per call, and what threaded kernels need to be run in parts. */
#include "c_backend.h"

#include <string.h>

/* Handing a range over to other threads takes some microseconds; a kernel must be worth a multiple of that. */
#define PARALLEL_MIN_US 10.0
#define FLOPS_PER_US 10e3
#define BYTES_PER_US 10e3

static const Buffer *buffer_of(const CGen *g, const Arg *a) { return &g->p->buffers.at[a->buffer]; }

bool call_is_parallel(const CGen *g, const Call *c) {
  const Kernel *k = c->kernel;
  if (g->o->threads == SPINEC_THREADS_NONE || k->extent < 2) return false;
  return k->flops / FLOPS_PER_US + k->bytes / BYTES_PER_US >= PARALLEL_MIN_US;
}

void run_signature(const CGen *g, Text *t) {
  text_addf(t, "void %s_run(const %s_inputs *in, const %s_outputs *out", g->prefix, g->prefix, g->prefix);
  if (g->o->weights == SPINEC_WEIGHTS_FILE) text_add(t, ", const void *weights");
  text_add(t, ", void *workspace");
  if (g->o->threads == SPINEC_THREADS_PTHREAD) text_addf(t, ", %s_pool *pool", g->prefix);
  if (g->o->threads == SPINEC_THREADS_CALLBACK) text_addf(t, ", %s_parallel *parallel, void *user", g->prefix);
  text_add(t, ")");
}

/* ---- arguments ---- */

/* base + offset elements, as a pointer to `type`; native: base points to elements of dt already. */
static void pointer(Text *t, const char *base, bool native, const char *type, bool is_const, int64_t offset, int64_t size) {
  const char *c = is_const ? "const " : "";
  if (native && offset % size == 0) {
    text_add(t, base);
    if (offset) text_addf(t, " + %lld", (long long)(offset / size));
    return;
  }
  if (native) text_addf(t, "(%s%s *)((%sunsigned char *)%s + %lld)", c, type, c, base, (long long)offset);
  else if (offset) text_addf(t, "(%s%s *)(%s + %lld)", c, type, base, (long long)offset);
  else text_addf(t, "(%s%s *)%s", c, type, base);
}

/* thread: added to scratch pointers as "+ thread * stride" by the parts; here only the first thread's. */
static void argument(CGen *g, const Call *c, int i, Text *t) {
  const Var *v = c->kernel->params.at[i];
  const Arg *a = &c->args[i];
  const Buffer *b = buffer_of(g, a);
  bool is_const = v->access == ACCESS_IN || v->access == ACCESS_CONST;
  int64_t size = (int64_t)dt_size(v->type.dt), offset = b->offset + a->offset;
  const char *type = c_param_type(g, c->kernel, v);
  bool same_type = !strcmp(type, c_type(v->type.dt));
  switch (b->kind) {
  case BUF_ARENA:
  case BUF_SCRATCH: pointer(t, "ws", false, type, is_const, offset, size); return;
  case BUF_WEIGHT:
    if (g->o->weights == SPINEC_WEIGHTS_INLINE) {
      pointer(t, weights_array(g, a->buffer, v->type.dt), same_type, type, true, a->offset, size);
    } else {
      pointer(t, "w", false, type, true, g->p->weights.at[b->index].offset + a->offset, size);
    }
    return;
  case BUF_INPUT:
  case BUF_OUTPUT: {
    bool in = b->kind == BUF_INPUT;
    const Port *port = in ? &g->p->inputs.at[b->index] : &g->p->outputs.at[b->index];
    const char *base = arena_printf(g->a, "%s->%s", in ? "in" : "out", in ? g->in_names[b->index] : g->out_names[b->index]);
    bool native = same_type && !strcmp(c_type(port->dt), type);
    if (!native) base = arena_printf(g->a, "(%sunsigned char *)%s", is_const ? "const " : "", base);
    if (!native && offset) base = arena_printf(g->a, "(%s)", base);
    pointer(t, base, native, type, is_const, offset, size);
    return;
  }
  }
}

/* What the call writes goes into the trace. */
static void call_end(CGen *g, int index, const Call *c) {
  if (g->o->emit_test) text_addf(g->out, " TRACE(%d);", index);
  Text names = {.a = g->a};
  for (int i = 0; i < c->norigin && names.n < 80; i++) {
    if (*c->origin[i]) text_addf(&names, "%s%s", names.n ? " + " : "", c_comment(g->a, c->origin[i], 60));
  }
  if (names.n) text_addf(g->out, " /* %s */", names.s);
  text_add(g->out, "\n");
}

static void direct_call(CGen *g, const Call *c) {
  text_addf(g->out, "  %s(", c_kernel_name(g, c->kernel));
  for (int i = 0; i < c->kernel->params.n; i++) {
    argument(g, c, i, g->out);
    text_add(g->out, ", ");
  }
  text_addf(g->out, "0, %lld);", (long long)c->kernel->extent);
}

/* ---- parts ---- */

static bool kernel_is_parallel(const CGen *g, const Kernel *k) {
  for (int i = 0; i < g->p->calls.n; i++) {
    if (g->p->calls.at[i].kernel == k && call_is_parallel(g, &g->p->calls.at[i])) return true;
  }
  return false;
}

/* A struct of the kernel's arguments and a function that runs a part of its range with them. Scratch is per thread: the struct has a
 * second member with the distance between two threads' parts. */
static void part_function(CGen *g, const Kernel *k) {
  const char *name = c_kernel_name(g, k), **vars = c_var_names(g->a, k);
  text_addf(g->out, "\ntypedef struct {\n");
  for (int i = 0; i < k->params.n; i++) {
    const Var *v = k->params.at[i];
    bool is_const = v->access == ACCESS_IN || v->access == ACCESS_CONST;
    if (v->access == ACCESS_SCRATCH) text_addf(g->out, "  unsigned char *%s;\n  ptrdiff_t step%d;\n", vars[v->id], i);
    else text_addf(g->out, "  %s%s *%s;\n", is_const ? "const " : "", c_param_type(g, k, v), vars[v->id]);
  }
  if (!k->params.n) text_add(g->out, "  char nothing;\n");
  text_addf(g->out, "} args_%s;\n\nstatic void part_%s(void *ctx, ptrdiff_t begin, ptrdiff_t end, int thread) {\n", name, name);
  text_addf(g->out, "  const args_%s *a = (const args_%s *)ctx;\n  (void)thread;\n  %s(", name, name, name);
  for (int i = 0; i < k->params.n; i++) {
    const Var *v = k->params.at[i];
    if (v->access == ACCESS_SCRATCH) text_addf(g->out, "(%s *)(a->%s + thread * a->step%d), ", c_param_type(g, k, v), vars[v->id], i);
    else text_addf(g->out, "a->%s, ", vars[v->id]);
  }
  text_add(g->out, "begin, end);\n}\n");
}

static void parallel_call(CGen *g, const Call *c) {
  const Kernel *k = c->kernel;
  const char *name = c_kernel_name(g, k);
  static const char *const how[] = {"", "pool, ", "", "parallel, user, "};
  text_addf(g->out, "  { args_%s a = {", name);
  for (int i = 0; i < k->params.n; i++) {
    if (i) text_add(g->out, ", ");
    if (k->params.at[i]->access != ACCESS_SCRATCH) {
      argument(g, c, i, g->out);
      continue;
    }
    const Buffer *b = buffer_of(g, &c->args[i]);
    text_addf(g->out, "ws + %lld, %lld", (long long)(b->offset + c->args[i].offset), (long long)b->stride);
  }
  if (!k->params.n) text_add(g->out, "0");
  text_addf(g->out, "}; split(%spart_%s, &a, %lld); }", how[g->o->threads], name, (long long)k->extent);
}

/* ---- NAME_run ---- */

static bool uses_kind(const CGen *g, BufferKind kind) {
  for (int i = 0; i < g->p->calls.n; i++) {
    const Call *c = &g->p->calls.at[i];
    for (int j = 0; j < c->kernel->params.n; j++) {
      if (buffer_of(g, &c->args[j])->kind == kind) return true;
    }
  }
  return false;
}

static bool any_parallel(const CGen *g) {
  for (int i = 0; i < g->p->calls.n; i++) {
    if (call_is_parallel(g, &g->p->calls.at[i])) return true;
  }
  return false;
}

static void run_locals(CGen *g) {
  bool workspace = uses_kind(g, BUF_ARENA) || uses_kind(g, BUF_SCRATCH), weights = uses_kind(g, BUF_WEIGHT);
  text_add(g->out, workspace ? "  unsigned char *ws = (unsigned char *)workspace;\n" : "  (void)workspace;\n");
  if (g->o->weights == SPINEC_WEIGHTS_FILE)
    text_add(g->out, weights ? "  const unsigned char *w = (const unsigned char *)weights;\n" : "  (void)weights;\n");
  if (g->o->weights == SPINEC_WEIGHTS_OBJECT && weights) text_addf(g->out, "  const unsigned char *w = %s_weights;\n", g->prefix);
  if (!uses_kind(g, BUF_INPUT)) text_add(g->out, "  (void)in;\n");
  if (!uses_kind(g, BUF_OUTPUT)) text_add(g->out, "  (void)out;\n");
  if (any_parallel(g)) return;
  if (g->o->threads == SPINEC_THREADS_PTHREAD) text_add(g->out, "  (void)pool;\n");
  if (g->o->threads == SPINEC_THREADS_CALLBACK) text_add(g->out, "  (void)parallel;\n  (void)user;\n");
}

void c_calls(CGen *g) {
  for (int i = 0; i < g->p->kernels.n; i++) {
    if (kernel_is_parallel(g, g->p->kernels.at[i])) part_function(g, g->p->kernels.at[i]);
  }
  text_add(g->out, "\n/* ---- the model ---- */\n\n");
  if (g->o->emit_test) {
    text_addf(g->out,
              "#if defined(%s_TRACE) /* %s_test.c compares what each call wrote */\n"
              "#if defined(__cplusplus)\nextern \"C\"\n#endif\nvoid %s_trace(int call);\n"
              "#define TRACE(i) %s_trace(i)\n#else\n#define TRACE(i) ((void)0)\n#endif\n\n",
              g->upper, g->stem, g->prefix, g->prefix);
  }
  run_signature(g, g->out);
  text_add(g->out, " {\n");
  run_locals(g);
  for (int i = 0; i < g->p->calls.n; i++) {
    const Call *c = &g->p->calls.at[i];
    if (call_is_parallel(g, c)) parallel_call(g, c);
    else direct_call(g, c);
    call_end(g, i, c);
  }
  text_add(g->out, "}\n");
}
