/* emit.c: c_emit, the files of a compiled model.
 *
 * Everything is generated and written to temporary files first; only when nothing can fail any more but a rename do they get their names,
 * the .c last.
 */
#include "c_backend.h"
#include "../../runtime/runtime.h"

#include <string.h>

#define MAX_FILES 5

/* ---- options and names ---- */

static Status option_error(Diag *d, const char *hint, const char *what, const char *value) {
  return diag_error(d, SPINEC_ERR_OPTION, NULL, hint, "%s '%s' cannot be used for C", what, value);
}

/* Letters, digits and single underscores, of which none at either end: what follows it is "_run". */
static bool good_prefix(const char *s) {
  bool letter = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z');
  for (const char *c = s; letter && *c; c++) {
    bool word = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '_';
    if (!word || (c[0] == '_' && (c[1] == '_' || !c[1]))) return false;
  }
  return letter && strlen(s) <= 64;
}

/* File names go into #include and .incbin lines. */
static bool good_file_name(const char *s) {
  for (; *s; s++) {
    if ((unsigned char)*s < ' ' || *s == '"' || *s == '\\' || *s == '*' || *s == '?' || *s == '>') return false;
  }
  return true;
}

static const char *file_part(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

/* "dir/net.c" gives "net". */
static char *stem_of(Arena *a, const char *path) {
  const char *name = file_part(path), *dot = strrchr(name, '.');
  return dot && dot > name ? arena_strndup(a, name, (size_t)(dot - name)) : arena_strdup(a, name);
}

static const char *default_prefix(Arena *a, const Program *p, const char *stem) {
  const char *from = p->file && *p->file ? stem_of(a, p->file) : p->name && *p->name ? p->name : stem;
  char *s = c_sanitise(a, from, "model");
  for (size_t n = strlen(s); n && s[n - 1] == '_'; n--) s[n - 1] = 0;
  return good_prefix(s) ? s : "model";
}

static bool name_taken(const CGen *g, int n, const char *s) {
  static const char *const ours[] = {"part_", "args_", "weights_"}, *const statics[] = {"worker", "work", "publish", "do_share", "split", "part_fn"};
  size_t len = strlen(g->prefix);
  if (!strncmp(s, g->prefix, len) && s[len] == '_') return true;
  for (int i = 0; i < COUNTOF(ours); i++) {
    if (!strncmp(s, ours[i], strlen(ours[i]))) return true;
  }
  for (int i = 0; i < COUNTOF(statics); i++) {
    if (!strcmp(s, statics[i])) return true;
  }
  for (int i = 0; i < n; i++) {
    if (!strcmp(g->kernel_names[i], s)) return true;
  }
  return false;
}

static void name_kernels(CGen *g) {
  g->kernel_names = NEW_N(g->a, const char *, g->p->kernels.n + 1);
  for (int i = 0; i < g->p->kernels.n; i++) {
    const char *s = g->p->kernels.at[i]->name;
    if (!s || !c_identifier(s) || name_taken(g, i, s)) s = arena_printf(g->a, "k%d", i);
    while (name_taken(g, i, s)) s = arena_printf(g->a, "%s_", s);
    g->kernel_names[i] = s;
  }
}

static const char **port_names(const CGen *g, const Port *ports, int n, const char *fallback) {
  const char **names = NEW_N(g->a, const char *, n + 1);
  for (int i = 0; i < n; i++) names[i] = ports[i].name;
  return c_member_names(g->a, names, n, fallback);
}

/* Arena and scratch buffers lie in the workspace, weights in the blob. */
static bool planned(const Program *p) {
  for (int i = 0; i < p->calls.n; i++) {
    for (int j = 0; j < p->calls.at[i].kernel->params.n; j++) {
      const Buffer *b = &p->buffers.at[p->calls.at[i].args[j].buffer];
      bool local = b->kind == BUF_ARENA || b->kind == BUF_SCRATCH;
      if (local && b->bytes > p->workspace_bytes - b->offset) return false;
      if (b->kind == BUF_WEIGHT && b->bytes > p->weight_bytes - p->weights.at[b->index].offset) return false;
    }
  }
  return true;
}

Status cgen_init(CGen *g, const char *stem) {
  g->stem = stem;
  g->prefix = g->o->prefix && *g->o->prefix ? g->o->prefix : default_prefix(g->a, g->p, stem);
  if (!good_prefix(g->prefix)) return option_error(g->d, "letters, digits and single underscores, starting with a letter", "prefix", g->prefix);
  if (!good_file_name(stem)) return option_error(g->d, "the name appears in #include lines: avoid quotes, backslashes and wildcards", "file name", stem);
  g->upper = c_upper(g->a, g->prefix);
  g->in_names = port_names(g, g->p->inputs.at, g->p->inputs.n, "input");
  g->out_names = port_names(g, g->p->outputs.at, g->p->outputs.n, "output");
  if (!planned(g->p)) return diag_error(g->d, SPINEC_ERR_INTERNAL, NULL, NULL, "C backend: the program has no memory plan");
  name_kernels(g);
  g->needs = needs_new(g->a);
  return SPINEC_OK;
}

/* ---- the .c ---- */

static bool uses_math(const CGen *g) {
  static const char *const others[] = {"memcpy", "bool", "true", "false"};
  if (g->o->weights == SPINEC_WEIGHTS_INLINE && g->p->weights.n) return true;   /* NAN, INFINITY */
  int n = 0;
  for (int i = 0; i < COUNTOF(others); i++) n += prelude_uses(g, others[i]);
  return prelude_libc_words(g) > n;
}

static void includes(const CGen *g, Text *t) {
  text_addf(t, "\n#include \"%s.h\"\n\n", g->stem);
  if (uses_math(g)) text_add(t, "#include <math.h>\n");
  if (prelude_uses(g, "bool") || prelude_uses(g, "true") || prelude_uses(g, "false")) text_add(t, "#include <stdbool.h>\n");
  if (prelude_uses(g, "memcpy")) text_add(t, "#include <string.h>\n");
}

static void weights_declaration(const CGen *g, Text *t) {
  if (g->o->weights != SPINEC_WEIGHTS_OBJECT) return;
  text_addf(t,
            "\n#if defined(__cplusplus)\nextern \"C\" {\n#endif\nextern const unsigned char %s_weights[]; /* %s_weights.S */\n"
            "#if defined(__cplusplus)\n}\n#endif\n",
            g->prefix, g->stem);
}

void cgen_source(CGen *g, Text *head, Text *tail) {
  static const char *const threads[] = {NULL, "pthread", "openmp", "callback"};
  Text kernels = {.a = g->a};
  g->out = &kernels;
  text_add(&kernels, "\n/* ---- kernels ---- */\n");
  for (int i = 0; i < g->p->kernels.n; i++) c_kernel(g, g->p->kernels.at[i]);
  c_calls(g);
  prelude_resolve(g);
  c_head_comment(g, head);
  includes(g, head);
  prelude_print(g, head);
  weights_declaration(g, tail);
  if (threads[g->o->threads]) {
    text_add(tail, "\n");
    prelude_section(g, "threads.h", threads[g->o->threads], tail);
  }
  text_addn(tail, kernels.s, kernels.n);
}

/* ---- files ---- */

typedef struct Job {
  const Program *p;
  const char *path;
  const spinec_emit_options *o;
  Diag *d;
  OutFile files[MAX_FILES];
  int nfiles;
} Job;

static Status io_error(Diag *d, spinec_status s, const char *err) { return diag_error(d, s, NULL, NULL, "%s", err); }

/* A new file of the job, beside its .c; NULL after reporting. */
static FILE *open_file(Job *j, const char *path, Status *status) {
  char err[RT_ERR_MAX];
  OutFile *f = &j->files[j->nfiles];
  spinec_status s = outfile_open(f, path, err);
  if (s != SPINEC_OK) {
    *status = io_error(j->d, s, err);
    return NULL;
  }
  j->nfiles++;
  return f->f;
}

static Status write_text(Job *j, const char *path, const Text *t) {
  Status status = SPINEC_OK;
  FILE *f = open_file(j, path, &status);
  if (f) fwrite(t->s, 1, t->n, f);   /* a failed write shows when the file is committed */
  return status;
}

static void file_sink(void *user, const void *bytes, size_t n) { fwrite(bytes, 1, n, user); }

static Status write_weights(Job *j, CGen *g, const char *dir) {
  if (g->o->weights == SPINEC_WEIGHTS_INLINE) return SPINEC_OK;
  Status status = SPINEC_OK;
  const char *bin = arena_printf(g->a, "%s.weights.bin", g->stem);
  FILE *f = open_file(j, arena_printf(g->a, "%s%s", dir, bin), &status);
  if (!f) return status;
  weights_stream(g, file_sink, f);
  if (g->o->weights == SPINEC_WEIGHTS_FILE) {
    weights_hash(g);
    return SPINEC_OK;
  }
  Text t = {.a = g->a};
  weights_assembly(g, &t, bin);
  return write_text(j, arena_printf(g->a, "%s%s_weights.S", dir, g->stem), &t);
}

static Status write_source(Job *j, CGen *g) {
  Text head = {.a = g->a}, tail = {.a = g->a};
  cgen_source(g, &head, &tail);
  Status status = SPINEC_OK;
  FILE *f = open_file(j, j->path, &status);
  if (!f) return status;
  fwrite(head.s, 1, head.n, f);
  if (g->o->weights == SPINEC_WEIGHTS_INLINE) weights_inline(g, f);
  fwrite(tail.s, 1, tail.n, f);
  return SPINEC_OK;
}

static Status write_all(Job *j, CGen *g) {
  size_t name = (size_t)(file_part(j->path) - j->path);
  const char *dir = arena_strndup(g->a, j->path, name);
  Status s = cgen_init(g, stem_of(g->a, j->path));
  if (s == SPINEC_OK) s = write_weights(j, g, dir);
  if (s == SPINEC_OK) {
    Text t = {.a = g->a};
    c_header(g, &t);
    s = write_text(j, arena_printf(g->a, "%s%s.h", dir, g->stem), &t);
  }
  if (s == SPINEC_OK && j->o->emit_test) {
    Text t = {.a = g->a};
    s = selftest(g, &t);
    if (s == SPINEC_OK) s = write_text(j, arena_printf(g->a, "%s%s_test.c", dir, g->stem), &t);
  }
  if (s == SPINEC_OK) s = write_source(j, g);
  char err[RT_ERR_MAX];
  for (int i = 0; s == SPINEC_OK && i < j->nfiles; i++) {
    spinec_status c = outfile_commit(&j->files[i], err);
    if (c != SPINEC_OK) s = io_error(j->d, c, err);
  }
  return s;
}

static Status guarded(Job *j) {
  Fail fail;
  Arena *volatile a = NULL;
  if (!FAIL_ARM(&fail, j->d)) {
    arena_free(a);
    return fail.status;
  }
  a = arena_new(&fail);
  CGen *g = NEW(a, CGen);
  *g = (CGen){.p = j->p, .o = j->o, .d = j->d, .a = a};
  Status s = write_all(j, g);
  arena_free(a);
  return s;
}

Status c_emit(const Program *p, const char *out_path, const spinec_emit_options *o, Diag *d) {
  Job j = {.p = p, .path = out_path, .o = o, .d = d};
  Status s = guarded(&j);
  for (int i = 0; i < j.nfiles; i++) outfile_discard(&j.files[i]);
  return s;
}
