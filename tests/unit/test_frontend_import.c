/* The import as a whole: its table, memory, and files that were cut or changed. What it makes of models is in tests/import, what it says of
 * wrong ones in tests/errors; those models are the seeds here. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../errors/model_text.h"
#include "../golden.h"

#include "backend/backend.h"
#include "frontend/frontend.h"
#include "frontend/import.h"
#include "passes/passes.h"
#include "runtime/runtime.h"

#include <dirent.h>
#include <unistd.h>

static char *folder;

static char *in_folder(const char *name) {
  static char path[512];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

/* Small nodes only: what is under test here is the import. */
static bool fold_small(Graph *g, Node *n, void *ctx) {
  for (int i = 0; i < n->nout; i++)
    if (value_count(n->out[i]) > 256) return false;
  for (int i = 0; i < n->nin; i++)
    if (n->in[i] && value_count(n->in[i]) > 256) return false;
  return fold_node(g, n, ctx);
}

/* Imports a file; looks at the result if there is one. Either a graph or a message must come out. */
static bool import_file(const char *path, void (*look)(Arena *, const Graph *)) {
  Fail f;
  Diag *d = spinec_diagnostics_new();
  Arena *volatile a = NULL;
  volatile bool ok = false;
  if (FAIL_ARM(&f, d)) {
    a = arena_new(&f);
    spinec_compile_options opt = {.max_threads = 1};
    Ctx c = {.arena = a, .diag = d, .target = target_find("generic"), .opt = &opt, .eval = interp_eval};
    ImportOptions o = {.fold = fold_small, .fold_user = &c};
    Graph *g = onnx_import(a, d, path, &o);
    ok = g != NULL;
    assert_true(ok || spinec_diagnostics_count(d) > 0);
    if (g) assert_null(graph_verify(g, a));
    if (g && look) look(a, g);
  } else if (f.status == SPINEC_ERR_INTERNAL) {
    fail_msg("%s", spinec_diagnostics_text(d, spinec_diagnostics_count(d) - 1));
  }
  arena_free(a);
  spinec_diagnostics_free(d);
  return ok;
}

static bool import_bytes(const void *data, size_t n) {
  assert_true(golden_write(in_folder("model.onnx"), data, n));
  return import_file(in_folder("model.onnx"), NULL);
}

static bool import_text(const char *text, void (*look)(Arena *, const Graph *)) {
  Arena *a = arena_new(NULL);
  size_t n;
  uint8_t *bytes = model_text_pack(a, text, &n);
  assert_true(golden_write(in_folder("model.onnx"), bytes, n));
  arena_free(a);
  return import_file(in_folder("model.onnx"), look);
}

/* ---- the table ---- */

static void table_is_sorted(void **state) {
  (void)state;
  const char *last = "";
  int n = 0;
  for (const char *s; (s = onnx_supported_op(n)); n++) {
    assert_true(strcmp(last, s) < 0);
    const OpRow *r = op_row(s);
    assert_non_null(r);
    assert_string_equal(r->name, s);
    assert_true(r->since >= 1 && (!r->until || r->until >= r->since));
    assert_true(r->max_in < 0 || r->min_in <= r->max_in);
    assert_true((int)strlen(r->types) <= (r->max_in < 0 ? 8 : r->max_in));
    last = s;
  }
  assert_true(n > 150);
  assert_null(onnx_supported_op(-1));
  assert_non_null(op_row("NonZero")->why);
  assert_non_null(op_row("Add"));
  assert_non_null(op_row("Xor"));
  assert_null(op_row("Addd"));
  assert_null(op_row(""));
}

/* ---- memory ---- */

static void weights_stay(Arena *a, const Graph *g) {
  assert_int_equal(g->first->in[1]->shape.d[0].n, 1 << 20);
  assert_true(arena_bytes(a) < 1 << 20);
}

static void weights_are_borrowed(void **state) {
  (void)state;
  assert_true(import_text("input x f32[1048576]\ninit w f32[1048576] raw 1\nnode Add(x, w) -> y\noutput y", weights_stay));
  assert_true(import_text("input x f32[1048576]\ninit w f32[1048576] = 1\nnode Add(x, w) -> y\noutput y", weights_stay));
  uint8_t *big = calloc(4, 1 << 20);
  assert_non_null(big);
  assert_true(golden_write(in_folder("big.bin"), big, 4 << 20));
  free(big);
  assert_true(
      import_text("input x f32[1048576]\ninit w f32[1048576] external location=big.bin\nnode Add(x, w) -> y\noutput y", weights_stay));
}

static size_t put_varint(uint8_t *out, uint64_t x) {
  size_t n = 0;
  for (; x >= 128; x >>= 7) out[n++] = (uint8_t)(x | 128);
  out[n++] = (uint8_t)x;
  return n;
}

/* `depth` messages inside each other under field `tag` (GraphProto.node, NodeProto.attribute, AttributeProto.g take turns). */
static size_t nested(uint8_t *out, int depth) {
  static const uint8_t tags[] = {7 << 3 | 2, 1 << 3 | 2, 5 << 3 | 2, 6 << 3 | 2}; /* graph, then node, attribute, g, node, ... */
  size_t n = 0;
  for (int i = depth; i > 0; i--) {
    uint8_t head[12];
    head[0] = tags[i == 1 ? 0 : (i - 2) % 3 + 1];
    size_t h = 1 + put_varint(head + 1, n);
    memmove(out + h, out, n);
    memcpy(out, head, h);
    n += h;
  }
  return n;
}

static void nesting_is_bounded(void **state) {
  (void)state;
  static uint8_t bytes[1 << 20];
  assert_false(import_bytes(bytes, nested(bytes, 20)));
  assert_false(import_bytes(bytes, nested(bytes, 5000)));
}

/* Two bytes of a file for an empty node, hundreds of memory. */
static void memory_is_bounded(void **state) {
  (void)state;
  size_t nodes = 4 << 20, n = 0;
  uint8_t *bytes = malloc(2 * nodes + 16);
  assert_non_null(bytes);
  bytes[n++] = 7 << 3 | 2;
  n += put_varint(bytes + n, 2 * nodes);
  for (size_t i = 0; i < nodes; i++) bytes[n++] = 1 << 3 | 2, bytes[n++] = 0;
  assert_false(import_bytes(bytes, n));
  free(bytes);
}

/* Functions that double at every level, and constants of any size, ask for more than there is. */
static void expansion_is_bounded(void **state) {
  (void)state;
  Arena *a = arena_new(NULL);
  Text t = {.a = a};
  text_add(&t, "opset f 1\nopset 17\ninput x f32[2]\n");
  for (int i = 0; i < 40; i++)
    text_addf(&t, "function f f%d(a) -> c\n  opset 17\n  opset f 1\n  node f%d(a) -> b domain=f\n  node f%d(b) -> c domain=f\nend\n", i,
              i + 1, i + 1);
  text_add(&t, "function f f40(a) -> b\n  opset 17\n  node NonZero(a) -> b\nend\nnode f0(x) -> y domain=f\noutput y\n");
  assert_false(import_text(t.s, NULL));
  arena_free(a);
  assert_false(import_text("node ConstantOfShape(s) -> y value=u8[1]{1}\ninit s i64[4] = 1000000000\noutput y", NULL));
  assert_false(import_text("node ConstantOfShape(s) -> y value=u8[1]{1}\ninit s i64[1] = 2000000000\noutput y", NULL));
  assert_false(
      import_text("node Range(z, s, o) -> y\ninit z i64[] = 0\ninit o i64[] = 1\ninit s i64[] = 9000000000000000000\noutput y", NULL));
}

/* ---- tensors ---- */

static void tensors_survive(void **state) {
  (void)state;
  float data[6] = {1, -2, 0.5f, 0, 1e30f, -0.0f};
  spinec_tensor t = {.dtype = SPINEC_F32, .rank = 2, .dims = {2, 3}, .data = data}, back;
  char *path = in_folder("tensor.pb");
  assert_int_equal(onnx_tensor_save(path, "t", &t, NULL), SPINEC_OK);
  assert_int_equal(onnx_tensor_load(path, &back, NULL), SPINEC_OK);
  assert_int_equal(back.dtype, SPINEC_F32);
  assert_int_equal(back.rank, 2);
  assert_int_equal(back.dims[1], 3);
  assert_memory_equal(back.data, data, sizeof data);
  free(back.data);
  assert_true(golden_write(path, "\x12\x05", 2));
  Diag *d = spinec_diagnostics_new();
  assert_int_equal(onnx_tensor_load(path, &back, d), SPINEC_ERR_INPUT);
  assert_null(back.data);
  assert_int_equal(spinec_diagnostics_count(d), 1);
  spinec_diagnostics_free(d);
  assert_int_not_equal(onnx_tensor_load(in_folder("nowhere.pb"), &back, NULL), SPINEC_OK);
  assert_int_not_equal(onnx_tensor_load(folder, &back, NULL), SPINEC_OK);
  t.dtype = SPINEC_STRING;
  assert_int_equal(onnx_tensor_save(path, "t", &t, NULL), SPINEC_ERR_OPTION);
}

/* ---- files nobody vouches for ---- */

static uint64_t next_random(uint64_t *s) {
  *s ^= *s << 13;
  *s ^= *s >> 7;
  return *s ^= *s << 17;
}

/* Cuts and changes one model in `rounds` ways. */
static int mutate(const uint8_t *model, size_t n, int rounds, uint64_t seed) {
  int imported = 0;
  uint8_t *bytes = malloc(n + 8);
  assert_non_null(bytes);
  for (int r = 0; r < rounds; r++) {
    size_t len = n;
    memcpy(bytes, model, n);
    if (r % 4 == 0) len = next_random(&seed) % (n + 1);
    for (uint64_t k = 1 + next_random(&seed) % 3; r % 4 && k > 0; k--) {
      size_t at = next_random(&seed) % n;
      uint64_t x = next_random(&seed);
      if (r % 4 == 1) bytes[at] ^= (uint8_t)(1u << x % 8);
      if (r % 4 == 2) bytes[at] = (uint8_t)x;
      if (r % 4 == 3) bytes[at] = (uint8_t)(x % 3 ? 0xff : 0);
    }
    imported += len ? import_bytes(bytes, len) : 0;
  }
  free(bytes);
  return imported;
}

static char *read_text(Arena *a, const char *path) {
  char *text = golden_read(a, path, NULL);
  assert_non_null(text);
  golden_split(text);
  return text;
}

static int mutate_folder(const char *name, int rounds) {
  char path[1024];
  int models = 0, imported = 0;
  snprintf(path, sizeof path, "%s/../%s", TEST_DATA_DIR, name);
  struct dirent **list;
  int n = scandir(path, &list, NULL, alphasort);
  assert_true(n > 0);
  for (int i = 0; i < n; i++) {
    size_t len = strlen(list[i]->d_name), size;
    if (len > 6 && !strcmp(list[i]->d_name + len - 6, ".model")) {
      Arena *a = arena_new(NULL);
      snprintf(path, sizeof path, "%s/../%s/%s", TEST_DATA_DIR, name, list[i]->d_name);
      uint8_t *bytes = model_text_pack(a, read_text(a, path), &size);
      imported += mutate(bytes, size, rounds, 0x9e3779b97f4a7c15u + (uint64_t)i);
      models++;
      arena_free(a);
    }
    free(list[i]);
  }
  free(list);
  assert_true(models > 10);
  return imported;
}

static void changed_files_never_crash(void **state) {
  (void)state;
  assert_true(mutate_folder("import", 120) > 0); /* some changes do not matter */
  mutate_folder("errors", 60);
}

static int set_up(void **state) {
  (void)state;
  char err[RT_ERR_MAX];
  return tempdir_new(&folder, err);
}

static int tear_down(void **state) {
  (void)state;
  tempdir_remove(folder);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(table_is_sorted),           cmocka_unit_test(weights_are_borrowed), cmocka_unit_test(nesting_is_bounded),
      cmocka_unit_test(memory_is_bounded),         cmocka_unit_test(expansion_is_bounded), cmocka_unit_test(tensors_survive),
      cmocka_unit_test(changed_files_never_crash),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
