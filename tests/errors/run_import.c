/* run_import.c: golden tests of the import: a model as text in, the graph or the messages out.
 *
 *   run_import FILE...               UPDATE=1 in the environment rewrites the expected part
 *   run_import --write DIR FILE...   writes the models as ONNX files instead, e.g. as seeds of fuzz_import
 *
 * A file is
 *   # what it shows
 *   # --shape x=1x3             options: --shape IN=AxB, --shape =AxB (by position), --dim N=2, --bind x=i64[2]{1 2}
 *   # file w.bin 64             a file of that many bytes beside the model: byte i is i; or # link NAME TARGET, # folder NAME, # truncate
 * 20 the model, see model_text.h
 *   ----
 *   graph "test" { ... }        if it imports; else the messages, and a line "bind NAME POSITION" for each input to be bound
 *
 * Graphs must satisfy their invariants and survive printing and parsing.
 */
#define _GNU_SOURCE
#include "model_text.h"

#include "backend/backend.h"
#include "frontend/frontend.h"
#include "passes/passes.h"
#include "runtime/runtime.h"

#include <sys/stat.h>
#include <unistd.h>

#define RULE "\n----\n"
enum { MAX_OPTIONS = 8 };

typedef struct Case {
  const char *file;
  Arena *a;
  Ctx c;
  char *input, *expected; /* input: up to the rule, options included */
  char *dir, *model;
  size_t truncate;
  spinec_shape_binding shapes[MAX_OPTIONS];
  spinec_dim_binding dims[MAX_OPTIONS];
  spinec_value_binding bind[MAX_OPTIONS];
  spinec_load_options load;
} Case;

static int fail(const Case *t, const char *what, const char *detail) {
  fprintf(stderr, "%s: %s%s%s\n", t->file, what, detail ? "\n" : "", detail ? detail : "");
  return 1;
}

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

/* ---- options ---- */

static bool write_file(const char *path, const void *data, size_t n) {
  FILE *f = fopen(path, "wb");
  if (!f) return false;
  bool ok = fwrite(data, 1, n, f) == n;
  return fclose(f) == 0 && ok;
}

static void read_dims(ModelText *m, int *rank, int64_t *dims) {
  *rank = 0;
  while (!mt_at_end(m)) {
    int64_t n = mt_int(m);
    if (*rank < MAX_RANK) dims[*rank] = n;
    ++*rank;
    mt_eat(m, "x");
  }
}

static void read_bind(Case *t, ModelText *m) {
  spinec_value_binding *b = &t->bind[t->load.nbind++];
  b->name = mt_word(m);
  mt_expect(m, "=");
  Onnx__TensorProto *p = mt_tensor_head(m);
  mt_expect(m, "{");
  mt_data(m, p, true, "}");
  b->value = (spinec_tensor){.dtype = (DType)p->data_type, .rank = (int)p->n_dims, .data = p->raw_data.data};
  memcpy(b->value.dims, p->dims, p->n_dims * sizeof *p->dims);
}

static bool read_option(Case *t, ModelText *m) {
  if (t->load.nshapes == MAX_OPTIONS || t->load.ndims == MAX_OPTIONS || t->load.nbind == MAX_OPTIONS) return false;
  if (mt_eat(m, "--shape ")) {
    spinec_shape_binding *b = &t->shapes[t->load.nshapes++];
    b->name = mt_eat(m, "=") ? NULL : mt_word(m);
    if (b->name) mt_expect(m, "=");
    read_dims(m, &b->rank, b->dims);
  } else if (mt_eat(m, "--dim ")) {
    spinec_dim_binding *b = &t->dims[t->load.ndims++];
    b->name = mt_word(m);
    mt_expect(m, "=");
    b->value = mt_int(m);
  } else if (mt_eat(m, "--bind ")) {
    read_bind(t, m);
  } else if (mt_eat(m, "file ")) {
    char *path = arena_printf(t->a, "%s/%s", t->dir, mt_word(m));
    size_t n = (size_t)mt_int(m);
    uint8_t *data = arena_alloc(t->a, n);
    for (size_t i = 0; i < n; i++) data[i] = (uint8_t)i;
    return write_file(path, data, n);
  } else if (mt_eat(m, "link ")) {
    char *path = arena_printf(t->a, "%s/%s", t->dir, mt_word(m));
    return symlink(mt_word(m), path) == 0;
  } else if (mt_eat(m, "folder ")) {
    return mkdir(arena_printf(t->a, "%s/%s", t->dir, mt_word(m)), 0700) == 0;
  } else if (mt_eat(m, "truncate ")) {
    t->truncate = (size_t)mt_int(m);
  }
  return true;
}

static bool read_case(Case *t) {
  char *text = read_file(t->a, t->file);
  if (!text) return false;
  char *rule = strstr(text, RULE);
  if (rule) {
    t->expected = rule + strlen(RULE);
    rule[1] = 0;
  }
  t->input = text;
  t->load = (spinec_load_options){.shapes = t->shapes, .dims = t->dims, .bind = t->bind};
  for (const char *s = text; *s; s += strcspn(s, "\n"), s += *s != 0) {
    ModelText m = {.a = t->a, .s = s + 1};
    if (*s == '#' && !read_option(t, &m)) return false;
  }
  size_t n;
  uint8_t *bytes = model_text_pack(t->a, text, &n);
  return write_file(t->model, bytes, t->truncate ? MINI(t->truncate, n) : n);
}

/* ---- one test ---- */

static bool fold(Graph *g, Node *n, void *ctx) { return fold_node(g, n, ctx); }

static void add_messages(Case *t, Text *out) {
  size_t dir = strlen(t->dir) + 1;
  for (int i = 0; i < spinec_diagnostics_count(t->c.diag); i++) {
    const char *s = spinec_diagnostics_text(t->c.diag, i), *at;
    while ((at = strstr(s, t->dir)) != NULL) {
      text_addn(out, s, (size_t)(at - s));
      s = at + dir;
    }
    text_addf(out, "%s\n", s);
  }
  for (int i = 0; spinec_diagnostics_unbound_input(t->c.diag, i); i++)
    text_addf(out, "bind %s %d\n", spinec_diagnostics_unbound_input(t->c.diag, i), spinec_diagnostics_unbound_position(t->c.diag, i));
}

static int check_graph(Case *t, const Graph *g, Text *out) {
  Text again = {.a = t->a};
  graph_print(g, out);
  const char *wrong = graph_verify(g, t->a);
  if (wrong) return fail(t, wrong, out->s);
  Graph *parsed = graph_parse(t->a, t->c.diag, "printed graph", out->s);
  if (!parsed) return fail(t, "the graph does not parse", out->s);
  graph_print(parsed, &again);
  return strcmp(out->s, again.s) ? fail(t, "the graph does not survive printing and parsing", out->s) : 0;
}

static bool update(const Case *t, const char *actual) {
  FILE *f = fopen(t->file, "wb");
  if (!f) return false;
  fputs(t->input, f);
  if (*t->input && t->input[strlen(t->input) - 1] != '\n') fputc('\n', f);
  fprintf(f, "%s%s", RULE + 1, actual);
  return fclose(f) == 0;
}

static int check(Case *t) {
  if (!read_case(t)) return fail(t, "cannot be read", NULL);
  ImportOptions o = {.load = &t->load, .fold = fold, .fold_user = &t->c};
  Graph *g = onnx_import(t->a, t->c.diag, t->model, &o);
  Text out = {.a = t->a};
  text_add(&out, "");
  if (g && check_graph(t, g, &out)) return 1;
  add_messages(t, &out);
  if (!g && !out.n) return fail(t, "refused without a message", NULL);
  if (t->expected && !strcmp(t->expected, out.s)) return 0;
  if (getenv("UPDATE")) return update(t, out.s) ? 0 : fail(t, "cannot be written", NULL);
  return fail(t, "the result is not the expected one; it is", out.s);
}

static int run_file(const char *file) {
  Fail f;
  char err[RT_ERR_MAX], *dir = NULL;
  if (tempdir_new(&dir, err)) return fprintf(stderr, "%s\n", err), 1;
  spinec_diagnostics *d = spinec_diagnostics_new();
  Arena *volatile a = NULL;
  volatile int status = 1;
  if (FAIL_ARM(&f, d)) {
    a = arena_new(&f);
    spinec_compile_options opt = {.opt_level = 0, .max_threads = 1};
    Case *t = NEW(a, Case);
    *t = (Case){.file = file,
                .a = a,
                .c = {.arena = a, .diag = d, .target = target_find("generic"), .opt = &opt, .eval = interp_eval},
                .dir = dir,
                .model = arena_printf(a, "%s/model.onnx", dir)};
    status = check(t);
  } else {
    fprintf(stderr, "%s: status %d\n", file, (int)f.status);
    for (int i = 0; i < spinec_diagnostics_count(d); i++) fprintf(stderr, "  %s\n", spinec_diagnostics_text(d, i));
  }
  if (a) arena_set_fail(a, NULL);
  arena_free(a);
  spinec_diagnostics_free(d);
  tempdir_remove(dir);
  return status;
}

/* DIR/NAME.onnx of NAME.model. */
static int write_model(const char *dir, const char *file) {
  Arena *a = arena_new(NULL);
  if (!a) return 1;
  const char *slash = strrchr(file, '/'), *name = slash ? slash + 1 : file;
  char *text = read_file(a, file), *rule = text ? strstr(text, RULE) : NULL;
  size_t n = 0;
  if (rule) rule[1] = 0;
  uint8_t *bytes = text ? model_text_pack(a, text, &n) : NULL;
  char *path = arena_printf(a, "%s/%.*s.onnx", dir, (int)strcspn(name, "."), name);
  bool ok = bytes && write_file(path, bytes, n);
  if (!ok) fprintf(stderr, "%s: cannot be written as %s\n", file, path);
  arena_free(a);
  return !ok;
}

int main(int argc, char **argv) {
  int failed = 0;
  if (argc > 2 && !strcmp(argv[1], "--write")) {
    for (int i = 3; i < argc; i++) failed += write_model(argv[2], argv[i]);
    return failed > 0;
  }
  for (int i = 1; i < argc; i++) failed += run_file(argv[i]) != 0;
  if (argc < 2) fprintf(stderr, "usage: run_import FILE...\n");
  return failed > 0 || argc < 2;
}
