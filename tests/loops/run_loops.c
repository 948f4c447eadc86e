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

#include <stdlib.h>

#define RULE "\n----\n"
enum { ELEMENTS = 256 };

typedef struct Case {
  const char *file;
  Arena *a;
  Ctx c;
  Target target;
  char *header, *input, *expected;   /* expected: NULL when missing */
  char *passes;
  double tolerance;
} Case;

static int fail(const Case *t, const char *what, const char *detail) {
  fprintf(stderr, "%s: %s%s%s\n", t->file, what, detail ? "\n" : "", detail ? detail : "");
  for (int i = 0; i < spinec_diagnostics_count(t->c.diag); i++) fprintf(stderr, "  %s\n", spinec_diagnostics_text(t->c.diag, i));
  return 1;
}

/* ---- the file ---- */

static char *read_file(Arena *a, const char *path) {
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  Text t = {.a = a};
  char buf[4096];
  size_t n;
  text_add(&t, "");
  while ((n = fread(buf, 1, sizeof buf, f)) > 0) text_addn(&t, buf, n);
  fclose(f);
  return t.s;
}

static char *option(Arena *a, const char *header, const char *name) {
  const char *s = strstr(header, name);
  if (!s) return NULL;
  s += strlen(name);
  char *value = arena_strndup(a, s, strcspn(s, "\n")), *to = value;
  for (const char *from = value; *from; from++) {
    if (*from != ' ') *to++ = *from;
  }
  *to = 0;
  return value;
}

static char *folder_name(Arena *a, const char *path) {
  const char *end = strrchr(path, '/');
  if (!end) return NULL;
  const char *start = end;
  while (start > path && start[-1] != '/') start--;
  return arena_strndup(a, start, (size_t)(end - start));
}

static bool read_case(Case *t) {
  char *text = read_file(t->a, t->file);
  if (!text) return false;
  char *rule = strstr(text, RULE);
  if (rule) {
    t->expected = rule + strlen(RULE);
    rule[1] = 0;
  }
  char *s = text;
  while (*s == '/' || *s == '\n') s += strcspn(s, "\n") + (s[strcspn(s, "\n")] != 0);
  t->header = arena_strndup(t->a, text, (size_t)(s - text));
  t->input = s;
  t->passes = option(t->a, t->header, "// passes:");
  if (!t->passes) t->passes = folder_name(t->a, t->file);
  const char *fma = option(t->a, t->header, "// fma:"), *tolerance = option(t->a, t->header, "// tolerance:");
  t->target.fma = !fma || strcmp(fma, "no");
  t->tolerance = tolerance ? strtod(tolerance, NULL) : 0;
  return t->passes != NULL;
}

static bool update(const Case *t, const char *actual) {
  FILE *f = fopen(t->file, "wb");
  if (!f) return false;
  fprintf(f, "%s%s", t->header, t->input);
  if (*t->input && t->input[strlen(t->input) - 1] != '\n') fputc('\n', f);
  fprintf(f, "%s%s", RULE + 1, actual);
  return fclose(f) == 0;
}

/* ---- kernels alone ---- */

static Program *parse_kernels(Case *t, const char *text) {
  Program *p = program_new(t->a, &t->target);
  Parser parser;
  if (!parse_start(&parser, t->a, t->c.diag, t->file, text)) return NULL;
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
  return whole ? program_parse(t->a, t->c.diag, t->file, text, &t->target) : parse_kernels(t, text);
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
  Program *p = parse(t, t->input, whole), *before = p ? parse(t, t->input, whole) : NULL;
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

static int check(Case *t) {
  if (!read_case(t)) return fail(t, "cannot be read", NULL);
  char *actual = NULL;
  int status = check_passes(t, !strncmp(t->input, "program", 7), &actual);
  if (status) return status;
  if (t->expected && !strcmp(t->expected, actual)) return 0;
  if (getenv("UPDATE")) return update(t, actual) ? 0 : fail(t, "cannot be written", NULL);
  return fail(t, "the output is not the expected one; it is", actual);
}

static int run_file(const char *file) {
  spinec_diagnostics *d = spinec_diagnostics_new();
  Arena *a = arena_new(NULL);
  spinec_compile_options opt = {.opt_level = 2, .max_threads = 1};
  Case t = {.file = file, .a = a, .target = {.name = "test", .lanes = 16, .vregs = 32, .pointer_bits = 64}};
  t.c = (Ctx){.arena = a, .diag = d, .target = &t.target, .opt = &opt, .eval = interp_eval};
  int status = check(&t);
  arena_free(a);
  spinec_diagnostics_free(d);
  return status;
}

int main(int argc, char **argv) {
  int failed = 0;
  for (int i = 1; i < argc; i++) failed += run_file(argv[i]) != 0;
  if (argc < 2) fprintf(stderr, "usage: run_loops FILE...\n");
  return failed > 0 || argc < 2;
}
