/* emit_test.c: what c_emit and c_open promise besides right results: names, files, errors, symbols, running in this process. */
#define _GNU_SOURCE
#include "backend/c/c_backend.h"
#include "runtime/runtime.h"

#include "../golden.h"

#include <dirent.h>
#include <math.h>
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct World {
  Fail fail;
  Arena *a;
  Diag *d;
  Program *p;
  char *dir;
} World;

static int setup(void **state) {
  World *w = calloc(1, sizeof *w);
  char err[RT_ERR_MAX];
  if (!w || tempdir_new(&w->dir, err) != SPINEC_OK) return -1;
  w->d = spinec_diagnostics_new();
  w->a = arena_new(NULL);
  *state = w;
  char *text = golden_read(w->a, CGEN_DIR "/memory.loops", NULL);
  w->p = text ? program_parse(w->a, w->d, "memory.loops", text, target_find("native")) : NULL;
  return w->p ? 0 : -1;
}

static int teardown(void **state) {
  World *w = *state;
  arena_free(w->a);
  spinec_diagnostics_free(w->d);
  tempdir_remove(w->dir);
  free(w);
  return 0;
}

static char *in_dir(World *w, const char *name) { return arena_printf(w->a, "%s/%s", w->dir, name); }

static int files_in(const char *dir) {
  DIR *d = opendir(dir);
  int n = 0;
  while (d && readdir(d)) n++;
  if (d) closedir(d);
  return n - 2;   /* . and .. */
}

static int shell(World *w, const char *line) { return system(arena_printf(w->a, "cd '%s' && { %s; } > log 2>&1", w->dir, line)); }

/* ---- names and numbers ---- */

static void identifiers(void **state) {
  World *w = *state;
  static const struct { const char *from, *to; } cases[] = {
    {"x", "x"}, {"images:0", "images_0"}, {"int", "int_"}, {"class", "class_"}, {"", "t"}, {"///", "t"}, {"1x", "t_1x"}, {"_a__b_", "a_b"},
    {"\xc3\xa9t\xc3\xa9", "t"}, {"v16f", "v16f_"}, {"v1", "v1"}, {"sinf", "sinf_"}, {"INLINE", "INLINE_"}, {"f32_add", "f32_add_"}, {"a*/b", "a_b"}};
  for (int i = 0; i < COUNTOF(cases); i++) assert_string_equal(c_sanitise(w->a, cases[i].from, "t"), cases[i].to);
  const char *names[] = {"a", "A", "a", "a_2", "b/", "b:", NULL};
  const char **out = c_member_names(w->a, names, 7, "input");
  for (int i = 0; i < 7; i++) {
    for (int j = 0; j < i; j++) assert_true(strcasecmp(out[i], out[j]) != 0);
  }
  assert_string_equal(out[0], "a");
  assert_string_equal(out[6], "input");
}

static void comments(void **state) {
  World *w = *state;
  static const struct { const char *from, *to; } cases[] = {
    {"plain", "plain"}, {"a*/b", "a* /b"}, {"/*", "/ *"}, {"x\\", "x/ "}, {"?" "?/", "? ?/ "}, {"a\nb\tc", "a b c"}, {"**/", "** / "}, {"*\\", "* / "}, {"\xe2\x80\xae!", "___!"}};
  for (int i = 0; i < COUNTOF(cases); i++) assert_string_equal(c_comment(w->a, cases[i].from, 100), cases[i].to);
  assert_string_equal(c_comment(w->a, "abcdefgh", 4), "abcd...");
  assert_string_equal(c_comment(w->a, NULL, 4), "");
}

static const char *literal(World *w, double x, bool single) {
  Text t = {.a = w->a};
  c_float(&t, x, single);
  return t.s;
}

static void floats(void **state) {
  World *w = *state;
  assert_string_equal(literal(w, 1, true), "1.0f");
  assert_string_equal(literal(w, -0.0, true), "-0.0f");
  assert_string_equal(literal(w, (double)0.1f, true), "0.1f");
  assert_string_equal(literal(w, 0.1, false), "0.1");
  assert_string_equal(literal(w, 1e30, false), "1e+30");
  assert_string_equal(literal(w, 123456789, false), "123456789.0");
  assert_string_equal(literal(w, INFINITY, true), "INFINITY");
  assert_string_equal(literal(w, -INFINITY, false), "-(double)INFINITY");
  assert_string_equal(literal(w, NAN, true), "NAN");
  for (uint32_t i = 1; i < 0x7f800000u; i += 0x00012345u) {   /* every literal reads back as the same number */
    float f;
    memcpy(&f, &i, sizeof f);
    ArenaMark m = arena_mark(w->a);
    assert_true(strtof(literal(w, (double)f, true), NULL) == f);
    arena_release(w->a, m);
  }
}

/* ---- files ---- */

static Status emit(World *w, const char *name, const char *prefix, spinec_weights weights, bool test) {
  spinec_emit_options o = {.kind = SPINEC_EMIT_C, .prefix = prefix, .weights = weights, .emit_test = test};
  return c_emit(w->p, in_dir(w, name), &o, w->d);
}

static void writes_its_files(void **state) {
  World *w = *state;
  assert_int_equal(emit(w, "net.c", "n", SPINEC_WEIGHTS_INLINE, false), SPINEC_OK);
  assert_int_equal(files_in(w->dir), 2);
  assert_int_equal(emit(w, "net.c", "n", SPINEC_WEIGHTS_OBJECT, true), SPINEC_OK);
  assert_int_equal(files_in(w->dir), 5);
  assert_int_equal(access(in_dir(w, "net.weights.bin"), R_OK), 0);
  assert_int_equal(access(in_dir(w, "net_weights.S"), R_OK), 0);
  assert_int_equal(access(in_dir(w, "net_test.c"), R_OK), 0);
}

static void all_files_or_none(void **state) {
  World *w = *state;
  assert_int_equal(mkdir(in_dir(w, "net.h"), 0777), 0);   /* in the way of the header, which is not the first file */
  assert_int_equal(emit(w, "net.c", "n", SPINEC_WEIGHTS_FILE, false), SPINEC_ERR_IO);
  assert_int_equal(files_in(w->dir), 1);
  assert_int_equal(emit(w, "missing/net.c", "n", SPINEC_WEIGHTS_FILE, false), SPINEC_ERR_IO);
  assert_int_equal(files_in(w->dir), 1);
  assert_true(spinec_diagnostics_count(w->d) >= 2);
}

static void refuses_bad_names(void **state) {
  World *w = *state;
  static const char *const prefixes[] = {"1a", "a b", "_a", "a_", "a__b", "a-b", "\xc3\xa9", "/*"};
  for (int i = 0; i < COUNTOF(prefixes); i++) assert_int_equal(emit(w, "net.c", prefixes[i], SPINEC_WEIGHTS_INLINE, false), SPINEC_ERR_OPTION);
  assert_int_equal(emit(w, "a\"b.c", "n", SPINEC_WEIGHTS_INLINE, false), SPINEC_ERR_OPTION);
  assert_int_equal(emit(w, "a\nb.c", "n", SPINEC_WEIGHTS_INLINE, false), SPINEC_ERR_OPTION);
  assert_int_equal(files_in(w->dir), 0);
}

static void refuses_programs_without_a_plan(void **state) {
  World *w = *state;
  w->p->workspace_bytes = 0;
  assert_int_equal(emit(w, "net.c", "n", SPINEC_WEIGHTS_INLINE, false), SPINEC_ERR_INTERNAL);
}

/* ---- objects ---- */

/* Two models link together; each defines nothing but its own names, needs little, and has no data that changes. */
static void symbols(void **state) {
  World *w = *state;
  if (shell(w, "command -v cc && command -v nm")) skip();
  assert_int_equal(emit(w, "one.c", "one", SPINEC_WEIGHTS_INLINE, false), SPINEC_OK);
  assert_int_equal(emit(w, "two.c", "two", SPINEC_WEIGHTS_FILE, false), SPINEC_OK);
  FILE *f = fopen(in_dir(w, "main.c"), "w");
  assert_non_null(f);
  fputs("#include \"one.h\"\n#include \"two.h\"\nint main(void) { return one_run == 0 || (void *)two_run == 0; }\n", f);
  fclose(f);
  assert_int_equal(shell(w, "cc -O1 -c one.c && cc -O1 -c two.c && cc main.c one.o two.o -o main -lm && ./main"), 0);
  assert_int_equal(shell(w, "nm -g --defined-only one.o | grep -v ' T one_run$'"), 1 << 8);
  assert_int_equal(shell(w, "nm one.o two.o | grep ' [BbDdCcGgSs] '"), 1 << 8);
  assert_int_equal(shell(w, "nm -u one.o | grep -Ev ' (mem[a-z]*|_GLOBAL_OFFSET_TABLE_|__stack_chk_fail|[a-z0-9]+f?)$'"), 1 << 8);
  assert_int_equal(shell(w, "nm -u one.o two.o | grep -E 'alloc|free|print|open|exit|abort'"), 1 << 8);
}

/* ---- c_open ---- */

static void run_equal(World *w, int threads) {
  const Program *p = w->p;
  const void *in[8];
  void *want[8], *got[8];
  for (int i = 0; i < p->inputs.n; i++) {
    const Port *x = &p->inputs.at[i];
    void *data = arena_alloc(w->a, (size_t)shape_count(&x->shape) * dt_size(x->dt));
    spinec_tensor t = {.dtype = x->dt, .rank = 1, .dims = {shape_count(&x->shape)}, .data = data};
    random_fill(&t, 5);
    in[i] = data;
  }
  for (int i = 0; i < p->outputs.n; i++) {
    size_t bytes = (size_t)shape_count(&p->outputs.at[i].shape) * dt_size(p->outputs.at[i].dt);
    want[i] = arena_alloc(w->a, bytes);
    got[i] = arena_alloc(w->a, bytes);
  }
  assert_int_equal(interp_eval(p, in, want, w->d), SPINEC_OK);
  Runner *r = c_open(p, threads, w->d);
  assert_non_null(r);
  for (int k = 0; k < 50; k++) {
    for (int i = 0; i < p->outputs.n; i++) memset(got[i], 0, (size_t)shape_count(&p->outputs.at[i].shape) * dt_size(p->outputs.at[i].dt));
    assert_int_equal(r->run(r, in, got, w->d), SPINEC_OK);
    for (int i = 0; i < p->outputs.n; i++)
      assert_memory_equal(got[i], want[i], (size_t)shape_count(&p->outputs.at[i].shape) * dt_size(p->outputs.at[i].dt));
  }
  double ns[16];
  for (int i = 0; i < COUNTOF(ns); i++) ns[i] = -1;
  assert_int_equal(r->profile(r, in, got, ns, w->d), SPINEC_OK);
  for (int i = 0; i < COUNTOF(ns); i++) assert_true(i < p->calls.n ? ns[i] > 0 && ns[i] < 1e9 : ns[i] < 0);
  r->close(r);
}

static void runs_in_this_process(void **state) {
  World *w = *state;
  if (shell(w, "command -v cc")) skip();
  setenv("TMPDIR", w->dir, 1);
  unlink(in_dir(w, "log"));
  run_equal(w, 1);
  run_equal(w, 3);
  run_equal(w, 100);
  assert_int_equal(files_in(w->dir), 0);   /* nothing is left behind */
  unsetenv("TMPDIR");
}

static void reports_the_compilers_words(void **state) {
  World *w = *state;
  setenv("SPINEC_CC", "/nonexistent/cc -x", 1);
  assert_null(c_open(w->p, 1, w->d));
  assert_int_equal(diag_status(w->d), SPINEC_ERR_TOOL);
  setenv("SPINEC_CC", "ls --no-such-option", 1);
  assert_null(c_open(w->p, 1, w->d));
  assert_non_null(strstr(spinec_diagnostics_text(w->d, 1), "no-such-option"));
  setenv("SPINEC_CC", "true", 1);   /* succeeds and makes nothing */
  assert_null(c_open(w->p, 1, w->d));
  assert_non_null(strstr(spinec_diagnostics_text(w->d, 2), "cannot load"));
  setenv("SPINEC_CC", "   ", 1);
  assert_null(c_open(w->p, 1, w->d));
  unsetenv("SPINEC_CC");
  assert_int_equal(spinec_diagnostics_count(w->d), 4);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
  const struct CMUnitTest tests[] = {T(identifiers), T(comments), T(floats), T(writes_its_files), T(all_files_or_none), T(refuses_bad_names),
                                     T(refuses_programs_without_a_plan), T(symbols), T(runs_in_this_process), T(reports_the_compilers_words)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
