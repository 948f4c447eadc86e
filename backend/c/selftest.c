/* selftest.c: OUT_test.c, which checks a compiled model on the machine it runs on.
 *
 * The inputs are made from a seed here and there. The program is interpreted call by call, and after each call what it wrote is summarised
 * in two numbers; outputs are recorded element by element, large ones by samples. Only that goes into the file.
 *
 * One call is interpreted as a program of its own whose inputs and outputs are the memory the call touches; so the workspace is ours,
 * starts as zeros here and there, and holds after each call what it will hold there.
 */
#include "c_backend.h"
#include "../../runtime/runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SAMPLES 2048   /* per output, in elements */
#define SEED 20240601u

typedef struct Row { int call, param; double sum, mix; } Row;

typedef struct Trial {
  CGen *g;
  unsigned char *workspace;
  void **inputs, **outputs;
  bool zero_integers;
  VEC(Row) rows;
  Diag *quiet;
} Trial;

/* ---- running on the host ---- */

static void *zeroed(CGen *g, int64_t bytes) {
  int64_t size = (MAXI(bytes, 1) + 63) / 64 * 64;
  void *p = size > 0 && (uint64_t)size <= SIZE_MAX / 2 ? aligned_alloc(64, (size_t)size) : NULL;
  if (!p) fail_out_of_memory(arena_fail(g->a));
  memset(p, 0, (size_t)size);
  arena_on_free(g->a, free, p);
  return p;
}

static int64_t port_bytes(const Port *p) { return port_count(p) * (int64_t)dt_size(p->dt); }

static void make_inputs(Trial *t) {
  const Program *p = t->g->p;
  for (int i = 0; i < p->inputs.n; i++) {
    spinec_tensor x = {.dtype = p->inputs.at[i].dt, .rank = 1, .dims = {port_count(&p->inputs.at[i])}, .data = t->inputs[i]};
    if (t->zero_integers && !dt_is_float(x.dtype)) memset(x.data, 0, (size_t)port_bytes(&p->inputs.at[i]));
    else random_fill(&x, SEED + (uint64_t)i);
  }
}

static unsigned char *arg_memory(const Trial *t, const Buffer *b) {
  switch (b->kind) {
  case BUF_ARENA: return t->workspace + b->offset;
  case BUF_INPUT: return (unsigned char *)t->inputs[b->index] + b->offset;
  case BUF_OUTPUT: return (unsigned char *)t->outputs[b->index] + b->offset;
  case BUF_SCRATCH:
  case BUF_WEIGHT: break;
  }
  return NULL;
}

static bool writes(const Var *v) { return v->access == ACCESS_OUT || v->access == ACCESS_INOUT; }

static void add_port(Program *one, Buffer *b, bool out) {
  Port port = {.name = "", .dt = DT_U8, .shape = shape_of(1, &b->bytes)};
  b->kind = out ? BUF_OUTPUT : BUF_INPUT;
  b->index = out ? one->outputs.n : one->inputs.n;
  b->offset = 0;
  b->part = false;
  if (out) vec_push(one->arena, &one->outputs, port);
  else vec_push(one->arena, &one->inputs, port);
}

static Status run_call(Trial *t, int index) {
  CGen *g = t->g;
  const Call *c = &g->p->calls.at[index];
  int n = c->kernel->params.n;
  Program *one = program_new(g->a, g->p->target);
  Call call = *c;
  call.args = NEW_N(g->a, Arg, n + 1);
  const void **in = NEW_N(g->a, const void *, n + 1);
  void **out = NEW_N(g->a, void *, n + 1);
  one->file = g->p->file;
  for (int i = 0; i < n; i++) {
    const Buffer *from = &g->p->buffers.at[c->args[i].buffer];
    Buffer b = *from;
    bool write = writes(c->kernel->params.at[i]);
    if (b.kind == BUF_WEIGHT) {
      Weight w = g->p->weights.at[from->index];
      w.offset = 0;
      b.index = one->weights.n;
      vec_push(g->a, &one->weights, w);
    } else if (b.kind == BUF_SCRATCH) {
      b.offset = b.stride = 0;
    } else {
      add_port(one, &b, write);
      if (write) out[b.index] = arg_memory(t, from);
      else in[b.index] = arg_memory(t, from);
    }
    call.args[i] = (Arg){.buffer = program_add_buffer(one, b), .offset = c->args[i].offset};
  }
  vec_push(g->a, &one->kernels, c->kernel);
  vec_push(g->a, &one->calls, call);
  return interp_eval(one, in, out, t->quiet);
}

/* The same sums as in prelude/selftest.h. */
static void summarise(const void *data, DType dt, int64_t count, double *sum, double *mix) {
  *sum = *mix = 0;
  for (int64_t i = 0; i < count; i++) {
    double x = data_get_f(data, dt, i), w = (double)((((uint64_t)i * 40503u) >> 4 & 255u) + 1u) / 256.0;
    *sum += x < 0 ? -x : x;
    *mix += x * w;
  }
}

static int64_t written_count(const Trial *t, const Call *c, int param) {
  const Arg *a = &c->args[param];
  return (t->g->p->buffers.at[a->buffer].bytes - a->offset) / (int64_t)dt_size(c->kernel->params.at[param]->type.dt);
}

static Status run_all(Trial *t) {
  const Program *p = t->g->p;
  memset(t->workspace, 0, (size_t)p->workspace_bytes);
  make_inputs(t);
  t->rows.n = 0;
  for (int i = 0; i < p->calls.n; i++) {
    const Call *c = &p->calls.at[i];
    ArenaMark m = arena_mark(t->g->a);
    Status s = run_call(t, i);
    arena_release(t->g->a, m);
    if (s != SPINEC_OK) return s;
    for (int j = 0; j < c->kernel->params.n; j++) {
      const Var *v = c->kernel->params.at[j];
      if (!writes(v)) continue;
      Row row = {.call = i, .param = j};
      const unsigned char *base = arg_memory(t, &p->buffers.at[c->args[j].buffer]) + c->args[j].offset;
      summarise(base, v->type.dt, written_count(t, c, j), &row.sum, &row.mix);
      vec_push(t->g->a, &t->rows, row);
    }
  }
  return SPINEC_OK;
}

/* Integer inputs may be indices, so numbers made up for them may not be good; zeros are the second try. */
static Status run_trial(Trial *t) {
  CGen *g = t->g;
  const Program *p = g->p;
  t->workspace = zeroed(g, p->workspace_bytes);
  t->inputs = NEW_N(g->a, void *, p->inputs.n + 1);
  t->outputs = NEW_N(g->a, void *, p->outputs.n + 1);
  for (int i = 0; i < p->inputs.n; i++) t->inputs[i] = zeroed(g, port_bytes(&p->inputs.at[i]));
  for (int i = 0; i < p->outputs.n; i++) t->outputs[i] = zeroed(g, port_bytes(&p->outputs.at[i]));
  t->quiet = NULL;
  if (run_all(t) == SPINEC_OK) return SPINEC_OK;
  t->zero_integers = true;
  t->quiet = g->d;
  return run_all(t);
}

/* ---- writing ---- */

/* A C string literal. */
static void quoted(Text *t, const char *s) {
  text_add(t, "\"");
  for (; *s; s++) {
    if (*s == '"' || *s == '\\') text_add(t, "\\");
    if (*s == '?') text_add(t, "\\");
    text_addn(t, s, 1);
  }
  text_add(t, "\"");
}

static void numbers(Text *t, double sum, double mix) {
  c_float(t, sum, false);
  text_add(t, ", ");
  c_float(t, mix, false);
}

static void call_rows(const Trial *t, Text *out) {
  CGen *g = t->g;
  text_add(out, "\nstatic const call_row calls[] = {\n");
  for (int i = 0; i < t->rows.n; i++) {
    const Row *r = &t->rows.at[i];
    const Call *c = &g->p->calls.at[r->call];
    const Arg *a = &c->args[r->param];
    const Buffer *b = &g->p->buffers.at[a->buffer];
    bool port = b->kind == BUF_OUTPUT;
    text_addf(out, "  {%d, ", r->call);
    quoted(out, c_kernel_name(g, c->kernel));
    text_add(out, ", ");
    quoted(out, c_comment(g->a, c->norigin ? c->origin[0] : c->kernel->what, 60));
    text_addf(out, ", %d, %lld, %d, %lld, ", port ? b->index : -1, (long long)(b->offset + a->offset),
              (int)c->kernel->params.at[r->param]->type.dt, (long long)written_count(t, c, r->param));
    numbers(out, r->sum, r->mix);
    text_add(out, "},\n");
  }
  if (!t->rows.n) text_add(out, "  {-1, \"\", \"\", -1, 0, F32, 0, 0, 0},\n");
  text_add(out, "};\n");
}

static int64_t samples_of(int64_t count) { return MINI(count, MAX_SAMPLES); }

static void expected_values(const Trial *t, Text *out) {
  const Program *p = t->g->p;
  for (int i = 0; i < p->outputs.n; i++) {
    int64_t count = port_count(&p->outputs.at[i]), n = samples_of(count);
    text_addf(out, "static const double expected_%d[] = {", i);
    for (int64_t j = 0; j < n; j++) {
      text_add(out, j % 8 ? ", " : j ? ",\n  " : "\n  ");
      double x = data_get_f(t->outputs[i], p->outputs.at[i].dt, (int64_t)((uint64_t)j * (uint64_t)count / (uint64_t)n));
      c_float(out, x, false);
    }
    text_add(out, n ? "\n};\n" : "0};\n");
  }
}

static double magnitude_of(const void *data, DType dt, int64_t count) {
  double m = 0;
  for (int64_t i = 0; i < count; i++) {
    double x = fabs(data_get_f(data, dt, i));
    if (x > m && !isinf(x)) m = x;
  }
  return m;
}

static void output_rows(const Trial *t, Text *out) {
  CGen *g = t->g;
  text_add(out, "\nstatic const output_row outputs[] = {\n");
  for (int i = 0; i < g->p->outputs.n; i++) {
    const Port *port = &g->p->outputs.at[i];
    int64_t count = port_count(port);
    double sum, mix;
    summarise(t->outputs[i], port->dt, count, &sum, &mix);
    text_addf(out, "  {\"%s\", out_%s, %d, %lld, ", g->out_names[i], g->out_names[i], (int)port->dt, (long long)count);
    c_float(out, magnitude_of(t->outputs[i], port->dt, count), false);
    text_addf(out, ", expected_%d, %lld, ", i, (long long)samples_of(count));
    numbers(out, sum, mix);
    text_add(out, "},\n");
  }
  if (!g->p->outputs.n) text_add(out, "  {\"\", \"\", F32, 0, 0, 0, 0, 0, 0},\n");
  text_add(out, "};\n\n");
}

static void memory(const CGen *g, Text *out) {
  const Program *p = g->p;
  text_addf(out,
            "\n/* ---- memory ---- */\n\n#if defined(__cplusplus)\n#define ALIGN64 alignas(64)\n"
            "#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L\n#define ALIGN64 _Alignas(64)\n"
            "#elif defined(__GNUC__)\n#define ALIGN64 __attribute__((aligned(64)))\n#else\n#define ALIGN64\n#endif\n\n"
            "ALIGN64 static unsigned char workspace[%s_WORKSPACE_BYTES + 64];\n",
            g->upper);
  if (g->o->weights == SPINEC_WEIGHTS_FILE) text_addf(out, "ALIGN64 static unsigned char weights[%s_WEIGHTS_BYTES + 64];\n", g->upper);
  for (int i = 0; i < p->inputs.n; i++)
    text_addf(out, "ALIGN64 static %s in_%s[%lld];\n", c_type(p->inputs.at[i].dt), g->in_names[i], (long long)MAXI(port_count(&p->inputs.at[i]), 1));
  for (int i = 0; i < p->outputs.n; i++)
    text_addf(out, "ALIGN64 static %s out_%s[%lld];\n", c_type(p->outputs.at[i].dt), g->out_names[i],
              (long long)MAXI(port_count(&p->outputs.at[i]), 1));
}

static void main_function(const Trial *t, Text *out) {
  const CGen *g = t->g;
  const Program *p = g->p;
  const char *P = g->prefix;
  bool file = g->o->weights == SPINEC_WEIGHTS_FILE;
  text_add(out, "\nint main(int argc, char **argv) {\n");
  if (file) text_addf(out, "  if (!load_weights(argc > 1 ? argv[1] : \"%s.weights.bin\")) return 2;\n", g->stem);
  else text_add(out, "  (void)argc;\n  (void)argv;\n");
  for (int i = 0; i < p->inputs.n; i++)
    text_addf(out, "  fill(in_%s, %d, %lld, %u, %d);\n", g->in_names[i], (int)p->inputs.at[i].dt, (long long)port_count(&p->inputs.at[i]),
              SEED + (unsigned)i, t->zero_integers);
  if (!p->inputs.n) text_add(out, "  (void)fill;\n");
  text_addf(out, "  const %s_inputs in = {", P);
  for (int i = 0; i < p->inputs.n; i++) text_addf(out, "%sin_%s", i ? ", " : "", g->in_names[i]);
  text_addf(out, "%s};\n  const %s_outputs out = {", p->inputs.n ? "" : "NULL", P);
  for (int i = 0; i < p->outputs.n; i++) text_addf(out, "%sout_%s", i ? ", " : "", g->out_names[i]);
  text_addf(out, "%s};\n", p->outputs.n ? "" : "NULL");
  bool pool = g->o->threads == SPINEC_THREADS_PTHREAD;
  if (pool) text_addf(out, "  %s_pool *pool = %s_pool_create(%s_MAX_THREADS);\n", P, P, g->upper);
  text_addf(out, "  %s_run(&in, &out%s, workspace%s);\n", P, file ? ", weights" : "",
            pool ? ", pool" : g->o->threads == SPINEC_THREADS_CALLBACK ? ", NULL, NULL" : "");
  if (pool) text_addf(out, "  %s_pool_destroy(pool);\n", P);
  text_add(out, "  return report();\n}\n");
}

static void head(const CGen *g, Text *out) {
  bool object = g->o->weights == SPINEC_WEIGHTS_OBJECT, pthread = g->o->threads == SPINEC_THREADS_PTHREAD;
  const char *flags = g->p->target->cflags;
  text_addf(out,
            "/* %s_test.c: checks %s.c on the machine it is to run on. Generated by spinec %s: do not edit.\n *\n"
            " *     cc -O2 %s%s-D%s_TRACE %s.c%s%s%s %s_test.c -lm%s -o %s_test && ./%s_test\n *\n"
            " * The inputs are made up from a seed; what is expected was computed by the compiler's reference interpreter.\n"
            " * Exit status: 0 all outputs agree, 1 they do not, 2 no weights.\n */\n"
            "#include \"%s.h\"\n\n#include <math.h>\n#include <stdio.h>\n#include <string.h>\n\n",
            g->stem, g->stem, SPINEC_VERSION, flags, *flags ? " " : "", g->upper, g->stem, object ? " " : "", object ? g->stem : "",
            object ? "_weights.S" : "", g->stem, pthread ? " -pthread" : "", g->stem, g->stem, g->stem);
}

Status selftest(CGen *g, Text *out) {
  Trial t = {.g = g};
  Status s = run_trial(&t);
  if (s != SPINEC_OK) return s;
  head(g, out);
  prelude_section(g, "selftest.h", "support", out);
  memory(g, out);
  text_add(out, "\n/* ---- what is expected ---- */\n");
  call_rows(&t, out);
  text_add(out, "\n");
  expected_values(&t, out);
  output_rows(&t, out);
  if (g->o->weights == SPINEC_WEIGHTS_FILE) {
    prelude_section(g, "selftest.h", "weights_file", out);
    text_add(out, "\n");
  }
  prelude_section(g, "selftest.h", "checks", out);
  main_function(&t, out);
  return SPINEC_OK;
}
