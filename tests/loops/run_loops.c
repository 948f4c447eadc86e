/* run_loops.c: golden tests of passes over kernels: text in, text out.
 *
 *   run_loops FILE...           UPDATE=1 in the environment rewrites the expected part
 *
 * A file is
 *   // what it shows
 *   // passes: simplify, legalise   default: the pass its folder is named after
 *   // fma: no                      the target has none
 *   // tolerance: 1e-6              of results, relative to the largest; default 0: the same bits
 *   kernel k "..." (...) { ... }    any number of them, or one program
 *   ----
 *   the text expected
 * Besides the text it is checked that it survives printing and parsing, that the kernels are valid, that the passes find nothing to do
 * a second time, and that kernels compute the same on pseudo-random data (ELEMENTS per buffer) as before.
 */
#include "backend/backend.h"
#include "ir/loop_text.h"
#include "passes/passes.h"

#include "../golden.h"

#include <stdlib.h>

enum { ELEMENTS = 256 };

typedef struct Case {
  const Golden *file;
  Arena *a;
  Ctx c;
  Target target;
  char *passes;
  double tolerance;
} Case;

static int fail(const Case *t, const char *what, const char *detail) { return golden_fail(t->file, what, detail); }

/* ---- kernels alone ---- */

static Program *parse_kernels(Case *t, const char *text) {
  Program *p = program_new(t->a, &t->target);
  Parser parser;
  if (!parse_start(&parser, t->a, t->c.diag, t->file->file, text)) return NULL;
  for (parse_skip_comments(&parser); parser.tok != TOK_END; parse_skip_comments(&parser)) {
    Kernel *k = parse_kernel(&parser);
    if (!k) return NULL;
    vec_push(t->a, &p->kernels, k);
  }
  return parser.failed ? NULL : p;
}

static char *printed(Case *t, const Program *p, bool whole) {
  Text text = {.a = t->a};
  text_add(&text, "");
  if (whole) program_print(p, &text);
  for (int i = 0; !whole && i < p->kernels.n; i++) kernel_print(p->kernels.at[i], &text);
  return text.s;
}

static void fill(void *data, DType t, uint64_t seed) {
  for (int i = 0; i < ELEMENTS; i++) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    uint64_t r = seed >> 33;
    if (dt_is_float(t)) data_set_f(data, t, i, (double)(int64_t)(r % 16000) * 5e-4 - 4);
    else data_set_i(data, t, i, (int64_t)(t == DT_BOOL ? r & 1 : r % 8));
  }
}

/* Runs one kernel with ELEMENTS of noise in every buffer; `out` gets its parameters' memory. */
static bool run_kernel(Case *t, Kernel *k, void **out) {
  Program *p = program_new(t->a, &t->target);
  Call call = {.kernel = k, .args = NEW_N(t->a, Arg, k->params.n)};
  const void *in[32];
  void *result[32];
  for (int i = 0; i < k->params.n; i++) {
    const Var *v = k->params.at[i];
    int64_t bytes = ELEMENTS * (int64_t)dt_size(v->type.dt);
    Port port = {v->name, v->type.dt, {.rank = 1, .d = {{ELEMENTS, NULL}}}};
    Buffer b = {.bytes = v->access == ACCESS_SCRATCH ? v->scratch_bytes : bytes};
    out[i] = arena_alloc(t->a, (size_t)bytes);
    fill(out[i], v->type.dt, 17 + (uint64_t)i);
    if (v->access == ACCESS_CONST) {
      DenseWeight *d = NEW(t->a, DenseWeight);
      *d = (DenseWeight){out[i], (size_t)bytes};
      call.args[i].buffer = program_add_weight(p, (Weight){.name = v->name, .bytes = bytes, .fill = weight_fill_dense, .ctx = d});
      continue;
    }
    if (v->access == ACCESS_IN) {
      b.kind = BUF_INPUT;
      b.index = p->inputs.n;
      in[p->inputs.n] = out[i];
      vec_push(t->a, &p->inputs, port);
    } else if (v->access != ACCESS_SCRATCH) {
      b.kind = BUF_OUTPUT;
      b.index = p->outputs.n;
      result[p->outputs.n] = out[i];
      vec_push(t->a, &p->outputs, port);
    } else {
      b.kind = BUF_SCRATCH;
    }
    call.args[i].buffer = program_add_buffer(p, b);
  }
  vec_push(t->a, &p->kernels, k);
  vec_push(t->a, &p->calls, call);
  return interp_eval(p, in, result, t->c.diag) == SPINEC_OK;
}

static const char *compare(Case *t, const Kernel *k, void *const *x, void *const *y) {
  for (int i = 0; i < k->params.n; i++) {
    const Var *v = k->params.at[i];
    if (v->access == ACCESS_SCRATCH) continue;
    double most = 0;
    for (int e = 0; e < ELEMENTS; e++)
      most = fmax(most, isfinite(data_get_f(x[i], v->type.dt, e)) ? fabs(data_get_f(x[i], v->type.dt, e)) : 0);
    for (int e = 0; e < ELEMENTS; e++) {
      double a = data_get_f(x[i], v->type.dt, e), b = data_get_f(y[i], v->type.dt, e);
      if (a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= t->tolerance * most) continue;
      return arena_printf(t->a, "%s[%d] of %s: %.9g before, %.9g after", v->name, e, k->name, a, b);
    }
  }
  return NULL;
}

/* ---- one test ---- */

static Program *parse(Case *t, const char *text, bool whole) {
  return whole ? program_parse(t->a, t->c.diag, t->file->file, text, &t->target) : parse_kernels(t, text);
}

static int check_results(Case *t, const Program *before, const Program *after) {
  for (int i = 0; i < before->kernels.n; i++) {
    void *x[32], *y[32];
    if (before->kernels.at[i]->params.n > COUNTOF(x)) return fail(t, "too many parameters", NULL);
    if (!run_kernel(t, before->kernels.at[i], x) || !run_kernel(t, after->kernels.at[i], y)) return fail(t, "the kernels do not run", NULL);
    const char *wrong = compare(t, before->kernels.at[i], x, y);
    if (wrong) return fail(t, "results differ", wrong);
  }
  return 0;
}

static int check_passes(Case *t, bool whole, char **actual) {
  Program *p = parse(t, t->file->input, whole), *before = p ? parse(t, t->file->input, whole) : NULL;
  if (!before) return fail(t, "the input does not parse", NULL);
  if (!passes_run_list_program(p, &t->c, t->passes)) return fail(t, "the passes do not run", NULL);
  *actual = printed(t, p, whole);
  for (int i = 0; i < p->kernels.n; i++) {
    const char *wrong = kernel_verify(p->kernels.at[i], t->a);
    if (wrong) return fail(t, wrong, *actual);
  }
  Program *again = parse(t, *actual, whole);
  if (!again || strcmp(printed(t, again, whole), *actual)) return fail(t, "the output does not survive printing and parsing", *actual);
  passes_run_list_program(again, &t->c, t->passes);
  if (strcmp(printed(t, again, whole), *actual)) return fail(t, "the passes do more when run again", printed(t, again, whole));
  return whole ? 0 : check_results(t, before, p);
}

static int check(Golden *g, void *user) {
  (void)user;
  spinec_compile_options opt = {.opt_level = 2, .max_threads = 1};
  const char *fma = golden_option(g, "fma"), *tolerance = golden_option(g, "tolerance");
  Case t = {.file = g, .a = g->a, .passes = golden_passes(g), .tolerance = tolerance ? strtod(tolerance, NULL) : 0,
            .target = {.name = "test", .lanes = 16, .vregs = 32, .pointer_bits = 64, .fma = !fma || strcmp(fma, "no")}};
  t.c = (Ctx){.arena = g->a, .diag = g->d, .target = &t.target, .opt = &opt, .eval = interp_eval};
  if (!t.passes) return fail(&t, "no passes", NULL);
  char *actual = NULL;
  int status = check_passes(&t, !strncmp(g->input, "program", 7), &actual);
  return status ? status : golden_compare(g, actual);
}

static int run(const char *file) { return golden_run(file, "//", check, NULL); }

int main(int argc, char **argv) { return golden_main(argc, argv, run); }
