/* Graphs of one operator with random shapes, attributes and contents, most of them wrong: each is refused with a message, or lowers and
 * runs without leaving its buffers (the interpreter checks), whatever the indices among its inputs hold. Seeded: every run is the same. */
#include "op_test.h"

#define CASES 6000
#define ELEMENTS_MAX 20000   /* of all inputs and outputs of a graph that is run */

static uint32_t seed;
static uint32_t draw(uint32_t n) { return op_random(&seed) % n; }

static int64_t draw_number(void) {
  static const int64_t wild[] = {INT64_MAX, INT64_MIN, (int64_t)1 << 40, -((int64_t)1 << 40), ((int64_t)1 << 40) + 1, (int64_t)1 << 31, -9,
                                 9,         100};
  return draw(8) ? (int64_t)draw(8) - 2 : wild[draw(COUNTOF(wild))];
}

static void put(char *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void put(char *s, const char *fmt, ...) {
  size_t n = strlen(s);
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(s + n, 2000 - n, fmt, ap);
  va_end(ap);
}

static const char *const types[] = {"f32", "f32", "f32", "i32", "i64", "f64", "u8", "bool", "i8", "u64"};

static void put_shape(char *s) {
  int rank = (int)draw(5);
  put(s, "[");
  for (int i = 0; i < rank; i++) put(s, "%s%d", i ? "," : "", draw(12) ? 1 + (int)draw(draw(4) ? 4 : 37) : 0);
  put(s, "]");
}

/* Attribute values: n numbers, one number, or a word. */
static void put_list(char *s, const char *name) {
  int n = (int)draw(6);
  put(s, "%s=[", name);
  for (int i = 0; i < n; i++) put(s, "%s%lld", i ? "," : "", (long long)draw_number());
  put(s, "]");
}

static const char *word(const char *const *words, int n) { return words[draw((uint32_t)n)]; }

static void put_attributes(char *s, const char *op) {
  static const char *const modes[] = {"constant", "reflect", "edge", "wrap"}, *const reductions[] = {"none", "add", "mul", "max", "min"};
  put(s, " {");
  if (!strcmp(op, "Reshape") || !strcmp(op, "Expand")) put_list(s, "shape");
  if (!strcmp(op, "Transpose")) put_list(s, "perm");
  if (!strcmp(op, "Tile")) put_list(s, "repeats");
  if (!strcmp(op, "Slice")) put_list(s, "starts"), put(s, ", "), put_list(s, "steps"), put(s, ", "), put_list(s, "sizes");
  if (!strcmp(op, "Pad")) put_list(s, "pads"), put(s, ", mode=%s, value=%d", word(modes, 4), (int)draw(9));
  if (!strcmp(op, "Concat")) put(s, "axis=%lld", (long long)draw_number());
  if (!strncmp(op, "Gather", 6)) put(s, "axis=%lld, batch_dims=%d", (long long)draw_number(), draw(3) ? 0 : (int)draw(3));
  if (!strncmp(op, "Scatter", 7)) put(s, "axis=%lld, reduction=%s", (long long)draw_number(), word(reductions, 5));
  if (!strcmp(op, "OneHot")) put(s, "axis=%lld, depth=%lld", (long long)draw_number(), (long long)draw_number());
  if (!strcmp(op, "Trilu")) put(s, "upper=%s, k=%lld", draw(2) ? "true" : "false", (long long)draw_number());
  if (!strcmp(op, "ReverseSequence")) put(s, "batch_axis=%lld, time_axis=%lld", (long long)draw_number(), (long long)draw_number());
  if (!strcmp(op, "Cast")) put(s, "to=%s", word(types, COUNTOF(types)));
  if (!strcmp(op, "Clip")) put(s, "lo=%lld, hi=%lld", (long long)draw_number(), (long long)draw_number());
  if (!strcmp(op, "Mod") || !strcmp(op, "BitShift") || !strcmp(op, "Shrink") || !strcmp(op, "IsInf"))
    put(s, "alpha=%d, beta=%d", (int)draw(3), (int)draw(2));
  put(s, "}");
}

typedef struct RandomOp { const char *name; int nin; bool indices; } RandomOp;
static const RandomOp ops[] = {
    {"Reshape", 1, false},  {"Transpose", 1, false}, {"Slice", 1, false},
    {"Slice", 1, false},    {"Concat", 2, false},    {"Concat", 3, false},
    {"Expand", 1, false},   {"Tile", 1, false},      {"Pad", 1, false},
    {"Pad", 1, false},      {"Trilu", 1, false},     {"ReverseSequence", 2, true},
    {"Gather", 2, true},    {"Gather", 2, true},     {"GatherElements", 2, true},
    {"GatherND", 2, true},  {"OneHot", 2, true},     {"ScatterElements", 3, true},
    {"ScatterND", 3, true}, {"Identity", 1, false},  {"Cast", 1, false},
    {"Clip", 1, false},     {"Mod", 2, false},       {"BitShift", 2, false},
    {"Div", 2, false},      {"Pow", 2, false},       {"Where", 3, false},
    {"Add", 2, false},      {"Equal", 2, false},     {"Shrink", 1, false},
    {"IsInf", 1, false},    {"Max", 2, false},       {"Relu", 1, false},
    {"PRelu", 2, false},
};

static bool has_attributes(const char *op) {
  char s[2000] = "";
  put_attributes(s, op);
  return strcmp(s, " {}") != 0;
}

/* Shapes mostly repeat or shorten one another, so that many cases are accepted. */
static void draw_case(char *s) {
  const RandomOp *op = &ops[draw(COUNTOF(ops))];
  const char *type = word(types, COUNTOF(types));
  char shape[2000] = "";
  bool body = draw(4) == 0 && !strncmp(type, "f", 1) && strcmp(op->name, "Concat") && strncmp(op->name, "Scatter", 7) &&
              strcmp(op->name, "Reshape") && strcmp(op->name, "Identity") && strcmp(op->name, "IsInf") && strcmp(op->name, "Equal") &&
              strcmp(op->name, "Cast");
  *s = 0;
  put(s, "graph \"t\" { ");
  put_shape(shape);
  for (int i = 0; i < op->nin; i++) {
    bool index = op->indices && i == (strcmp(op->name, "OneHot") ? 1 : 0), condition = i == 0 && !strcmp(op->name, "Where");
    if (i && draw(3) == 0) *shape = 0, put_shape(shape);
    put(s, "input %%x%d: %s%s ", i, index ? (draw(2) ? "i64" : "i32") : condition ? "bool" : draw(20) ? type : "f32", shape);
  }
  put(s, "%%y = %s(", op->name);
  for (int i = 0; i < op->nin; i++) put(s, "%s%%x%d", i ? ", " : "", draw(40) ? i : 0);
  put(s, ")");
  if (has_attributes(op->name)) put_attributes(s, op->name);
  if (body) put(s, " body { %%0 = Neg(acc) }");
  put(s, " output %%y }");
}

static void *draw_data(Arena *a, const Value *v) {
  int64_t n = value_count(v);
  char *p = arena_alloc(a, value_bytes(v) + 1);
  for (int64_t i = 0; i < n; i++) {
    if (v->dt == DT_BOOL) data_set_i(p, v->dt, i, draw(2));
    else if (dt_is_float(v->dt)) data_set_f(p, v->dt, i, draw(30) ? (double)draw(16) / 4 - 2 : draw(2) ? NAN : 1e30);
    else data_set_i(p, v->dt, i, draw_number());
  }
  return p;
}

static int refused, ran, large;

static void run_graph(OpRun *r, const char *text) {
  int64_t total = 0;
  for (int i = 0; i < r->g->values.n; i++) {
    int64_t n = value_count(r->g->values.at[i]);
    total = n > ELEMENTS_MAX ? ELEMENTS_MAX + 1 : total + n;
    if (total > ELEMENTS_MAX) break;
  }
  const OpConfig *c = &op_configs[draw(COUNTOF(op_configs))];
  Target t = *target_find(c->target);
  t.lanes = c->lanes;
  t.masks = c->masks;
  if (total > ELEMENTS_MAX) {
    /* Nothing is run, but lowering has to cope. */
    spinec_compile_options o = spinec_compile_options_default();
    Ctx ctx = {.arena = r->arena, .diag = r->diag, .target = &t, .opt = &o};
    if (!lower_graph(r->g, &ctx)) assert_true(spinec_diagnostics_count(r->diag) > 0);
    large++;
    return;
  }
  const void *in[4];
  void *out[1];
  for (int i = 0; i < r->g->inputs.n; i++) in[i] = draw_data(r->arena, r->g->inputs.at[i]);
  out[0] = arena_alloc(r->arena, value_bytes(r->g->outputs.at[0]) + 1);
  Program *p = op_lower(r, c, &t, text);
  Runner *runner = interp_open(p, c->threads, r->diag);
  if (!runner || runner->run(runner, in, out, r->diag) != SPINEC_OK) fail_msg("%s\n%s", op_message(r->diag), text);
  runner->close(runner);
  ran++;
}

static void one_case(OpRun *r, const char *text) {
  r->arena = arena_new(&r->fail);
  r->g = graph_parse(r->arena, r->diag, "test", text);
  if (r->g) {
    run_graph(r, text);
    return;
  }
  refused++;
  assert_true(spinec_diagnostics_count(r->diag) > 0);
}

static void guarded_case(int i) {
  char text[2000];
  seed = 12345u + (uint32_t)i * 7919u;
  draw_case(text);
  OpRun r = {.diag = spinec_diagnostics_new()};
  if (FAIL_ARM(&r.fail, r.diag)) one_case(&r, text);
  else if (r.fail.status != SPINEC_ERR_MEMORY) fail_msg("left through Fail: %s\n%s", op_message(r.diag), text);
  op_close(&r);
}

static void random_graphs(void **state) {
  (void)state;
  for (int i = 0; i < CASES; i++) guarded_case(i);
  /* The generator must reach all three ends. */
  if (refused < CASES / 10 || ran < CASES / 10 || !large) fail_msg("%d refused, %d ran, %d large", refused, ran, large);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(random_graphs)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
