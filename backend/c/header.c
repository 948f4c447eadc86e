/* header.c: the .h of a compiled model, and the head comment of its .c. */
#include "c_backend.h"

#include <string.h>

static const char *threads_name(spinec_threads t) {
  switch (t) {
  case SPINEC_THREADS_NONE: break;
  case SPINEC_THREADS_PTHREAD: return "pthread";
  case SPINEC_THREADS_OPENMP: return "openmp";
  case SPINEC_THREADS_CALLBACK: return "callback";
  }
  return "none";
}

/* The model's file without its folder: where it was must not show. */
static const char *model_name(const CGen *g) {
  const char *s = g->p->file && *g->p->file ? g->p->file : g->p->name, *slash = strrchr(s, '/');
  return c_comment(g->a, slash ? slash + 1 : s, 80);
}

static void port_list(const CGen *g, Text *t, const Port *ports, int n, const char *const *names, const char *label) {
  for (int i = 0; i < n; i++) {
    text_addf(t, " * %-11s %s: %s ", i ? "" : label, names[i], dt_name(ports[i].dt));
    c_shape_text(t, &ports[i].shape);
    if (strcmp(names[i], ports[i].name ? ports[i].name : "")) text_addf(t, " (\"%s\")", c_comment(g->a, ports[i].name, 60));
    text_add(t, "\n");
  }
}

static void weights_line(const CGen *g, Text *t) {
  text_addf(t, "weights %lld bytes", (long long)g->p->weight_bytes);
  switch (g->o->weights) {
  case SPINEC_WEIGHTS_INLINE: text_add(t, " in this file\n"); return;
  case SPINEC_WEIGHTS_FILE: text_addf(t, " in %s.weights.bin, handed to %s_run\n", g->stem, g->prefix); return;
  case SPINEC_WEIGHTS_OBJECT: text_addf(t, " in %s.weights.bin, linked by %s_weights.S\n", g->stem, g->stem); return;
  }
}

void c_head_comment(CGen *g, Text *t) {
  const Program *p = g->p;
  bool native = !strcmp(p->target->name, "native");
  text_addf(t, "/* %s.c: %s compiled to C by spinec %s. Generated: do not edit.\n *\n", g->stem, model_name(g),
            SPINEC_VERSION);
  if (g->o->command_line) text_addf(t, " * command     %s\n", c_comment(g->a, g->o->command_line, 2000));
  text_addf(t, " * target      %s: %s\n", native ? p->target->summary : p->target->name, native ? "detected" : p->target->summary);
  text_addf(t, " * compile     cc -O2 %s%s-c %s.c\n", p->target->cflags, *p->target->cflags ? " " : "", g->stem);
  port_list(g, t, p->inputs.at, p->inputs.n, g->in_names, "inputs");
  port_list(g, t, p->outputs.at, p->outputs.n, g->out_names, "outputs");
  text_add(t, " * work        ");
  c_amount(t, (double)p->macs, " multiply-adds, ");
  text_addf(t, "%d kernel%s in %d call%s; threads: %s\n * parameters  ", p->kernels.n, p->kernels.n == 1 ? "" : "s", p->calls.n,
            p->calls.n == 1 ? "" : "s", threads_name(g->o->threads));
  c_amount(t, (double)p->params, "");
  while (t->n && t->s[t->n - 1] == ' ') t->s[--t->n] = 0;
  text_addf(t, "\n * memory      workspace %lld bytes; ", (long long)p->workspace_bytes);
  weights_line(g, t);
  text_addf(t,
            " *\n"
            " * %s or C++; needs libm%s and nothing else: no allocation, no files, no state between calls. Do not compile with -ffast-math.\n"
            " * Floating-point results equal the compiler's own reference bit by bit with -ffp-contract=off, but for functions of libm.\n"
            " */\n",
            g->o->c99 ? "C99" : "C11", g->o->threads == SPINEC_THREADS_PTHREAD ? ", POSIX threads" : "");
}

/* ---- the .h ---- */

static void usage(const CGen *g, Text *t) {
  const char *P = g->prefix, *U = g->upper;
  text_addf(t, " *     static unsigned char workspace[%s_WORKSPACE_BYTES];   aligned to %s_WORKSPACE_ALIGN; NULL will do if the size is 0\n", U, U);
  text_addf(t, " *     %s_inputs in = {", P);
  for (int i = 0; i < g->p->inputs.n; i++) text_addf(t, "%s%s", i ? ", " : "", g->in_names[i]);
  text_addf(t, "};\n *     %s_outputs out = {", P);
  for (int i = 0; i < g->p->outputs.n; i++) text_addf(t, "%s%s", i ? ", " : "", g->out_names[i]);
  text_addf(t, "};\n");
  if (g->o->threads == SPINEC_THREADS_PTHREAD) text_addf(t, " *     %s_pool *pool = %s_pool_create(4);\n", P, P);
  text_addf(t, " *     %s_run(&in, &out%s, workspace%s);\n *\n", P, g->o->weights == SPINEC_WEIGHTS_FILE ? ", weights" : "",
            g->o->threads == SPINEC_THREADS_PTHREAD      ? ", pool"
            : g->o->threads == SPINEC_THREADS_CALLBACK ? ", parallel, user"
                                                         : "");
  text_add(t, " * Inputs, outputs and the workspace must not overlap. Calls with workspaces of their own may run at the same time.\n");
  if (g->o->weights == SPINEC_WEIGHTS_FILE)
    text_addf(t,
              " * weights: the %s_WEIGHTS_BYTES bytes of %s.weights.bin, read or mapped at an address aligned to %s_WEIGHTS_ALIGN; they are only read.\n"
              " * Its 64-bit FNV-1a hash is %s_WEIGHTS_HASH: a file of another compilation gives wrong results, not an error.\n",
              U, g->stem, U, U);
  if (g->o->weights == SPINEC_WEIGHTS_OBJECT)
    text_addf(t, " * Link with the object made from %s_weights.S, which holds the bytes of %s.weights.bin.\n", g->stem, g->stem);
  if (g->o->threads == SPINEC_THREADS_PTHREAD)
    text_add(t, " * pool: threads to share the work, used by one call at a time; NULL: the caller's thread only. Results do not depend on it.\n");
  if (g->o->threads == SPINEC_THREADS_OPENMP)
    text_addf(t, " * With -fopenmp the work is shared by up to %s_MAX_THREADS threads. Results do not depend on it.\n", U);
  if (g->o->threads == SPINEC_THREADS_CALLBACK)
    text_addf(t,
              " * parallel: must call part(ctx, begin, end, thread) for ranges that cover [0, n) once, with thread in [0, max_threads) and no thread\n"
              " * number in use twice at a time, and return when all are done; NULL: all on the caller's thread. Results do not depend on it.\n");
  if (g->o->emit_test)
    text_addf(t, " * %s_test.c checks this build on the machine it is to run on; -D%s_TRACE for all files makes it name the first kernel that is off.\n",
              g->stem, U);
}

static void sizes(const CGen *g, Text *t) {
  const Program *p = g->p;
  text_addf(t, "#define %s_WORKSPACE_BYTES %lld\n#define %s_WORKSPACE_ALIGN 64\n", g->upper, (long long)p->workspace_bytes, g->upper);
  text_addf(t, "#define %s_WEIGHTS_BYTES %lld\n", g->upper, (long long)p->weight_bytes);
  if (g->o->weights == SPINEC_WEIGHTS_FILE)
    text_addf(t, "#define %s_WEIGHTS_ALIGN 64\n#define %s_WEIGHTS_HASH 0x%016llxu\n", g->upper, g->upper, (unsigned long long)g->weight_hash);
  if (g->o->threads != SPINEC_THREADS_NONE) text_addf(t, "#define %s_MAX_THREADS %d\n", g->upper, MAXI(p->max_threads, 1));
  text_add(t, "\n/* numbers of elements */\n");
  for (int i = 0; i < p->inputs.n; i++)
    text_addf(t, "#define %s_INPUT_%s_COUNT %lld\n", g->upper, c_upper(g->a, g->in_names[i]), (long long)port_count(&p->inputs.at[i]));
  for (int i = 0; i < p->outputs.n; i++)
    text_addf(t, "#define %s_OUTPUT_%s_COUNT %lld\n", g->upper, c_upper(g->a, g->out_names[i]), (long long)port_count(&p->outputs.at[i]));
}

static void port_struct(const CGen *g, Text *t, const Port *ports, int n, const char *const *names, bool is_const, const char *what) {
  text_add(t, "\ntypedef struct {\n");
  for (int i = 0; i < n; i++) {
    text_addf(t, "  %s%s *%s; /* %s ", is_const ? "const " : "", c_type(ports[i].dt), names[i], dt_name(ports[i].dt));
    c_shape_text(t, &ports[i].shape);
    if (strcmp(names[i], ports[i].name ? ports[i].name : "")) text_addf(t, ", \"%s\"", c_comment(g->a, ports[i].name, 80));
    text_add(t, " */\n");
  }
  if (!n) text_add(t, "  const void *none;\n");
  text_addf(t, "} %s_%s;\n", g->prefix, what);
}

void c_header(CGen *g, Text *t) {
  const char *P = g->prefix, *U = g->upper;
  text_addf(t, "/* %s.h: interface of %s, compiled by spinec %s. Generated: do not edit.\n *\n", g->stem,
            model_name(g), SPINEC_VERSION);
  usage(g, t);
  text_addf(t, " */\n#ifndef %s_H\n#define %s_H\n\n#include <stddef.h>\n#include <stdint.h>\n\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n", U, U);
  sizes(g, t);
  port_struct(g, t, g->p->inputs.at, g->p->inputs.n, g->in_names, true, "inputs");
  port_struct(g, t, g->p->outputs.at, g->p->outputs.n, g->out_names, false, "outputs");
  text_add(t, "\n");
  if (g->o->threads == SPINEC_THREADS_PTHREAD)
    text_addf(t,
              "/* threads counts the caller; more than %s_MAX_THREADS are not used, and fewer if they cannot be had. NULL: out of memory. */\n"
              "typedef struct %s_pool %s_pool;\n%s_pool *%s_pool_create(int threads);\nvoid %s_pool_destroy(%s_pool *pool); /* NULL is allowed */\n\n",
              U, P, P, P, P, P, P);
  if (g->o->threads == SPINEC_THREADS_CALLBACK)
    text_addf(t,
              "typedef void %s_part(void *ctx, ptrdiff_t begin, ptrdiff_t end, int thread);\n"
              "typedef void %s_parallel(void *user, %s_part *part, void *ctx, ptrdiff_t n, int max_threads);\n\n",
              P, P, P);
  run_signature(g, t);
  text_add(t, ";\n\n#ifdef __cplusplus\n}\n#endif\n#endif\n");
}
