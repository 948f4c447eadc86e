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
#include "../golden.h"
#include "model_text.h"

#include "backend/backend.h"
#include "frontend/frontend.h"
#include "passes/passes.h"
#include "runtime/runtime.h"

#include <sys/stat.h>
#include <unistd.h>

enum { MAX_OPTIONS = 8 };

typedef struct Case {
  const Golden *file; /* its input: up to the rule, options included */
  Arena *a;
  Ctx c;
  const char *dir, *model;
  size_t truncate;
  spinec_shape_binding shapes[MAX_OPTIONS];
  spinec_dim_binding dims[MAX_OPTIONS];
  spinec_value_binding bind[MAX_OPTIONS];
  spinec_load_options load;
} Case;

static int fail(const Case *t, const char *what, const char *detail) { return golden_fail(t->file, what, detail); }

/* ---- options ---- */

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
    return golden_write(path, data, n);
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

/* Options anywhere in the text, then the model. */
static bool read_case(Case *t, const char *text) {
  t->load = (spinec_load_options){.shapes = t->shapes, .dims = t->dims, .bind = t->bind};
  for (const char *s = text; *s; s += strcspn(s, "\n"), s += *s != 0) {
    ModelText m = {.a = t->a, .s = s + 1};
    if (*s == '#' && !read_option(t, &m)) return false;
  }
  size_t n;
  uint8_t *bytes = model_text_pack(t->a, text, &n);
  return golden_write(t->model, bytes, t->truncate ? MINI(t->truncate, n) : n);
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

static int check(Golden *f, void *dir) {
  spinec_compile_options opt = {.opt_level = 0, .max_threads = 1};
  Case *t = NEW(f->a, Case);
  *t = (Case){.file = f,
              .a = f->a,
              .c = {.arena = f->a, .diag = f->d, .target = target_find("generic"), .opt = &opt, .eval = interp_eval},
              .dir = dir,
              .model = arena_printf(f->a, "%s/model.onnx", (char *)dir)};
  if (!read_case(t, f->input)) return fail(t, "cannot be read", NULL);
  ImportOptions o = {.load = &t->load, .fold = fold, .fold_user = &t->c};
  Graph *g = onnx_import(t->a, t->c.diag, t->model, &o);
  Text out = {.a = t->a};
  text_add(&out, "");
  if (g && check_graph(t, g, &out)) return 1;
  add_messages(t, &out);
  if (!g && !out.n) return fail(t, "refused without a message", NULL);
  return golden_compare(f, out.s);
}

static int run(const char *file) {
  char err[RT_ERR_MAX], *dir = NULL;
  if (tempdir_new(&dir, err)) return fprintf(stderr, "%s\n", err), 1;
  int status = golden_run(file, "", check, dir);
  tempdir_remove(dir);
  return status;
}

/* DIR/NAME.onnx of NAME.model. */
static int write_model(const char *dir, const char *file) {
  Arena *a = arena_new(NULL);
  if (!a) return 1;
  const char *slash = strrchr(file, '/'), *name = slash ? slash + 1 : file;
  char *text = golden_read(a, file, NULL);
  size_t n = 0;
  if (text) golden_split(text);
  uint8_t *bytes = text ? model_text_pack(a, text, &n) : NULL;
  char *path = arena_printf(a, "%s/%.*s.onnx", dir, (int)strcspn(name, "."), name);
  bool ok = bytes && golden_write(path, bytes, n);
  if (!ok) fprintf(stderr, "%s: cannot be written as %s\n", file, path);
  arena_free(a);
  return !ok;
}

int main(int argc, char **argv) {
  int failed = 0;
  if (argc < 3 || strcmp(argv[1], "--write")) return golden_main(argc, argv, run);
  for (int i = 3; i < argc; i++) failed += write_model(argv[2], argv[i]);
  return failed > 0;
}
