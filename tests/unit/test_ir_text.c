/* The text form of graphs: ir/print.c, ir/parse.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ir/graph.h"

/* Everything the grammar has. */
static const char everything[] =
    "graph \"a \\\"name\\\"\" {\n"
    "  input %x: f32[1,3,8,8]\n"
    "  input %\"odd name/1:0\": f32[1,4,8,8]\n"
    "  input %i: i64[3]\n"
    "  input %n: f32[N<=8,\"batch size\"<=2]\n"
    "  const %w: f32[4,3,3,3] = opaque 0x123456789abcdef0\n"
    "  const %b: f32[4] = [0, -1.5, nan, -inf]\n"
    "  const %v0: f64[1] = [0.1]\n"
    "  const %u: u64[1] = [18446744073709551615]\n"
    "  const %t: bool[3] = [0, 1, 1]\n"
    "  const %e: i8[0,4] = []\n"
    "  const %s: f16[5,5] = splat 0.33325195\n"
    "  const %idx: u8[40] = opaque 0xfedcba9876543210\n"
    "  %v1: f32[1,4,8,8] = Conv(%x, %w, _, %b) {strides=[1,1], pads=[1,1,1,1], dilations=[1,1], group=1} @ \"Conv_0\", \"say \\\"hi\\\"\"\n"
    "  %v2: f32[1,4,8,8]{c8} = Reorder(%v1)\n"
    "  %v3: f32[1,4,8,8]{c8} = Conv(%x, %w; %\"odd name/1:0\", %v2) {strides=[1,1], pads=[1,1,1,1], dilations=[1,1], group=1} body { %0 = Add(acc, "
    "in2); %1: bool = Less(%0, in3); %2 = Where(%1, %0, acc); %3 = LeakyRelu(%2) {alpha=0.1f, beta=0} }\n"
    "  %v4: f32[1,4,4,4], _ = MaxPool(%v3) {kernel=[2,2], strides=[2,2], pads=[0,0,0,0], dilations=[1,1], p=0}\n"
    "  %v5: f64[1] = Exp(%v0)\n"
    "  %v6: u64[1] = Identity(%u)\n"
    "  %v7: bool[3] = Not(%t)\n"
    "  %v8: i8[4,0] = Transpose(%e) {perm=[1,0]}\n"
    "  %v9: f16[25] = Reshape(%s) {shape=[25]}\n"
    "  %v10: u8[3] = Gather(%idx, %i) {axis=0, batch_dims=0}\n"
    "  %v11: f32[1,4,8,8] = Resize(%v4) {sizes=[1,4,8,8], scales=[1,1,2,2], mode=nearest, coord=asymmetric, nearest=floor, cubic_a=-0.75, "
    "extrapolation=0}\n"
    "  %v12: f32[N<=8,\"batch size\"<=2] = Clip(%n) {lo=-inf, hi=3.5}\n"
    "  %v13: f32[1,4,8,8] = Map(; %v11, %v1) body { %0 = Mul(in0, in1); %1 = Neg(%0) }\n"
    "  %y: f32[1,4,8,8] = Abs(%v13)\n"
    "  output %y\n"
    "}\n";

static char *print(const Graph *g, Arena *a) {
  Text t = {.a = a};
  graph_print(g, &t);
  return t.s;
}

static void round_trip(void **state) {
  (void)state;
  Arena *a = arena_new(NULL);
  Diag *d = spinec_diagnostics_new();
  Graph *g = graph_parse(a, d, "text", everything);
  if (!g) fail_msg("%s", spinec_diagnostics_text(d, 0));
  assert_string_equal(print(g, a), everything);
  assert_string_equal(print(graph_parse(a, d, NULL, print(g, a)), a), everything);
  graph_compact(g);
  assert_string_equal(print(g, a), everything);
  assert_string_equal(print(graph_clone(g, a, d), a), everything);
  spinec_diagnostics_free(d);
  arena_free(a);
}

/* What people may write shorter, and what they get. */
static void short_forms(void **state) {
  (void)state;
  Arena *a = arena_new(NULL);
  Graph *g = graph_parse(a, NULL, "t",
                         "graph\"\"{input%x:f32[2]# comment\n// another\nconst %k:bool[2]=[true,false] const %z:f32[20]=splat 0x1p-1\n"
                         "%l=Less(%x,%x) %m=And(%l,%k)%w=Where(%m,%x,%x) body{%0=Clip(acc){hi=1};%1=Greater(%0,acc)}\noutput %w}// end");
  assert_non_null(g);
  assert_string_equal(print(g, a), "graph \"\" {\n  input %x: f32[2]\n  const %k: bool[2] = [1, 0]\n  %l: bool[2] = Less(%x, %x)\n"
                                   "  %m: bool[2] = And(%l, %k)\n"
                                   "  %w: bool[2] = Where(%m, %x, %x) body { %0: f32 = Clip(acc) {lo=0, hi=1}; %1 = Greater(%0, acc) }\n"
                                   "  output %w\n}\n");
  arena_free(a);
}

/* Equal names, and names that look like ours, stay apart. */
static void names_stay_apart(void **state) {
  (void)state;
  Arena *a = arena_new(NULL);
  Graph *g = graph_new(a, NULL, "t");
  Shape s = shape_of(1, (int64_t[]){2});
  Value *v = graph_add_input(g, "v0", DT_F32, &s);
  for (int i = 0; i < 3; i++) {
    v = graph_make(g, NULL, OP_Neg, NULL, &v, 1)->out[0];
    v->name = i == 1 ? NULL : "same";
  }
  graph_add_output(g, v);
  char *text = print(g, a);
  assert_string_equal(text, "graph \"\" {\n  input %\"v0\": f32[2]\n  %same: f32[2] = Neg(%\"v0\")\n  %v0: f32[2] = Neg(%same)\n"
                            "  %\"same'2\": f32[2] = Neg(%v0)\n  output %\"same'2\"\n}\n");
  Graph *h = graph_parse(a, NULL, "t", text);
  assert_non_null(h);
  assert_string_equal(print(h, a), text);
  const char *unnamed = "graph \"\" {\n  input %v0: f32[2]\n  %v1: f32[2] = Neg(%v0)\n  output %v1\n}\n";
  h = graph_parse(a, NULL, "t", unnamed);
  assert_null(h->inputs.at[0]->name);
  assert_string_equal(print(h, a), unnamed);
  arena_free(a);
}

static void opaque_constants(void **state) {
  (void)state;
  static const DType types[] = {DT_F32, DT_F64, DT_F16, DT_BF16, DT_I8, DT_U8, DT_I64, DT_U64, DT_BOOL, DT_I16, DT_U32};
  unsigned char data[8 * 100];
  for (int i = 0; i < COUNTOF(types); i++)
    for (int n = 17; n <= 100; n += 83) {
      DType t = types[i];
      uint64_t seed = 0xfedcba9876543210u + (unsigned)i, want = t == DT_BOOL ? seed & 0xffff : seed;
      opaque_fill(data, t, n, seed);
      assert_true(opaque_seed(data, t, n) == want);
      data[3 * dt_size(t)] ^= 1;                            /* other data: a hash, which is the seed of data that print the same */
      uint64_t h = opaque_seed(data, t, n);
      assert_true(t == DT_BOOL || h != want);
      opaque_fill(data, t, n, h);
      assert_true(opaque_seed(data, t, n) == h);
    }
}

static void refuses(const char *text, const char *message) {
  Arena *a = arena_new(NULL);
  Diag *d = spinec_diagnostics_new();
  Fail f;
  if (FAIL_ARM(&f, d)) {
    arena_set_fail(a, &f);
    if (graph_parse(a, d, "t", text)) fail_msg("accepted: %s", text);
  }
  assert_true(spinec_diagnostics_count(d) >= 1);
  if (!strstr(spinec_diagnostics_text(d, 0), message)) fail_msg("'%s' does not say '%s'", spinec_diagnostics_text(d, 0), message);
  spinec_diagnostics_free(d);
  arena_free(a);
}

static void errors(void **state) {
  (void)state;
#define G(s) "graph \"\" {\ninput %x: f32[2]\n" s "\noutput %y}"
  refuses("", "t:1: expected 'graph'");
  refuses("graph \"", "closing quote");
  refuses("graph \"\" {", "t:1: expected '%' before the end");
  refuses("graph \"\" { %", "expected a name");
  refuses(G("%y: f32[2] = Neg(%z)"), "t:3: %z is not defined");
  refuses(G("%x: f32[2] = Neg(%x)"), "defined twice");
  refuses(G("%y: f32[3] = Neg(%x)"), "declared otherwise");
  refuses(G("%y: f64[2] = Neg(%x)"), "declared otherwise");
  refuses(G("%y: f32[2] = Negate(%x)"), "unknown operator 'Negate'");
  refuses(G("%y: f32[2] = Neg(%x, %x)"), "does not take 2 operands");
  refuses(G("%y: f32[2] = Neg()"), "does not take 0 operands");
  refuses(G("%y: f32[2] = Neg(_)"), "is required");
  refuses(G("%y: f32[2], %z: f32[2] = Neg(%x)"), "has 1 outputs");
  refuses(G("%y: f32[2] = LeakyRelu(%x) {beta=1, gamma=2}"), "no attribute 'gamma'");
  refuses(G("%y: f32[2] = LeakyRelu(%x) {alpha=abc}"), "expected a number");
  refuses(G("%y: q32[2] = Neg(%x)"), "unknown element type");
  refuses(G("%y: f32[-2] = Neg(%x)"), "negative dimension");
  refuses(G("%y: f32[1,1,1,1,1,1,1,1,1] = Neg(%x)"), "rank above");
  refuses(G("%y: f32[99999999999999999999] = Neg(%x)"), "64-bit integer");
  refuses(G("const %k: i8[1] = [200] %y = Neg(%x)"), "does not fit i8");
  refuses(G("const %k: f32[2] = [1] %y = Neg(%x)"), "expected ','");
  refuses(G("const %k: f32[100000,100000] = splat 1 %y = Neg(%x)"), "bytes in all");
  refuses(G("const %k: f32[4611686018427387904,4] = splat 1 %y = Neg(%x)"), "bytes in all");
  refuses(G("%y = Neg(%x) body { %0 = Add(acc, %0) }"), "not an earlier step");
  refuses(G("%y = Neg(%x) body { %1 = Neg(acc) }"), "expected step %0");
  refuses(G("%y = Neg(%x) body { %0 = Conv(acc) }"), "not elementwise");
  refuses(G("%y = Neg(%x) body { %0 = Neg(in0) }"), "not an operand of the body");
  refuses(G("%y = Neg(%x; %x) body { %0 = Neg(in99999999999) }"), "not an operand of the body");
  refuses(G("%y = Neg(%x; %x) body { %0 = Neg(in1^99) }"), "out of range");
  refuses(G("%y = Neg(%x; %x)"), "operands for a body");
  refuses(G("%y = Concat(%x) {axis=0} body { %0 = Neg(acc) }"), "cannot have a body");
  refuses(G("%y = Map(; %x) body { %0 = Neg(acc) }"), "no result of its own");
  refuses(G("%y = Map()"), "needs a body");
  refuses(G("%y = Map(;) body {}"), "");
  refuses(G("%y: f32[2] = Neg(%x) body { %0: i32 = Neg(acc) }"), "");
  refuses(G("input %y: f32[2]"), "needs a node that makes it");
  refuses(G("%y = Neg(%x) output %y"), "an output already");
  refuses(G("%y: f32[2]{c8} = Neg(%x)"), "cannot be blocked");
  refuses(G("%y = Neg(%x)") "}", "text after the graph");
  refuses(G("%y = MatMul(%x, %x)"), "");
  refuses("graph \"\\x0\" {}", "escape");
#undef G
}

/* Parses anything; true if it is a graph, which then must print and parse again to the same. */
static bool survives(const char *text) {
  Diag *d = spinec_diagnostics_new();
  Fail f;
  Arena *volatile a = NULL;
  volatile bool accepted = false;
  if (FAIL_ARM(&f, d)) {
    a = arena_new(&f);
    Graph *g = graph_parse(a, d, "t", text);
    if (g) {
      char *once = print(g, a);
      Graph *h = graph_parse(a, d, "t", once);
      if (!h) fail_msg("printed text does not parse: %s\n%s", spinec_diagnostics_text(d, 0), once);
      assert_string_equal(print(h, a), once);
      accepted = true;
    } else {
      assert_true(spinec_diagnostics_count(d) >= 1);
    }
  } else {
    assert_int_equal(f.status, SPINEC_ERR_MEMORY);
  }
  if (a) arena_set_fail(a, NULL);
  arena_free(a);
  spinec_diagnostics_free(d);
  return accepted;
}

/* Mutations of good text: whatever comes, it is a graph that prints, or an error. Bounded by time as well as by number. */
static void garbage(void **state) {
  (void)state;
  static const char pieces[][12] = {"%",      "{",   "}",   "(",    ")",    "[",  "]",   ",",  "=",      ":",     ";",     "_",
                                    "\"",     "^1",  "acc", "in2",  "%0",   "9",  "-1",  "0",  "opaque", "splat", "body",  "@",
                                    "output", "f32", "i64", "bool", "{c8}", "<=", "nan", "\\", "#",      "\n",    "1e400", "99999999"};
  uint32_t random = 1;
  clock_t end = clock() + 5 * CLOCKS_PER_SEC;
  int accepted = 0;
  for (int round = 0; round < 20000 && clock() < end; round++) {
    char text[sizeof everything + 64];
    strcpy(text, everything);
    size_t n = strlen(text);
    random = random * 1664525u + 1013904223u;
    for (uint32_t edits = 1 + (random >> 30); edits > 0; edits--) {
      random = random * 1664525u + 1013904223u;
      size_t at = (random >> 8) % n;
      random = random * 1664525u + 1013904223u;
      const char *piece = pieces[(random >> 8) % COUNTOF(pieces)];
      size_t cut = (random >> 4) % 16 < 8 ? MINI((random >> 20) % 6, n - at) : 0, add = strlen(piece);
      if (random % 61 == 0) cut = n - at - 1;
      if (n - cut + add >= sizeof text - 1) continue;
      memmove(text + at + add, text + at + cut, n - at - cut + 1);
      memcpy(text + at, piece, add);
      n = n - cut + add;
    }
    accepted += survives(text);
  }
  assert_true(accepted > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(round_trip), cmocka_unit_test(short_forms), cmocka_unit_test(names_stay_apart),
      cmocka_unit_test(opaque_constants), cmocka_unit_test(errors), cmocka_unit_test(garbage),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
