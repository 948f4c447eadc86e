/* Tensors that are stretches of others (ir/lower_parts.c): concatenations, slices and splits of outermost axes need no kernel, wherever else
 * what they join or cut is used. The reference is -O0, where every one of them is a copy. */
#include "op_test.h"

enum { MAX = 1 << 14 };
static float x[MAX], want[4][MAX];

static void reference(OpRun *r, const char *text) {
  spinec_compile_options o = spinec_compile_options_default();
  o.opt_level = 0;
  r->arena = arena_new(&r->fail);
  r->g = graph_parse(r->arena, r->diag, "test", text);
  if (!r->g) fail_msg("%s\n%s", op_message(r->diag), text);
  Ctx ctx = {.arena = r->arena, .diag = r->diag, .target = target_find("generic"), .opt = &o, .eval = interp_eval};
  Program *p = lower_graph(r->g, &ctx);
  for (int i = 0; i < p->buffers.n; i++) assert_false(p->buffers.at[i].part);
  Status s = interp_eval(p, (const void *[]){x, x + 1000}, (void *[]){want[0], want[1], want[2], want[3]}, r->diag);
  if (s) fail_msg("%s\n%s", op_message(r->diag), text);
}

/* Calls at -O2, lowered as it stands; planned, so that the plan is verified. */
static int calls_of(OpRun *r, const char *text) {
  spinec_compile_options o = spinec_compile_options_default();
  r->g = graph_parse(r->arena, r->diag, "test", text);
  Ctx ctx = {.arena = r->arena, .diag = r->diag, .target = target_find("generic"), .opt = &o, .eval = interp_eval};
  Program *p = lower_graph(r->g, &ctx);
  pass_memory(p, &ctx);
  const char *wrong = program_verify(p, r->arena);
  if (wrong) fail_msg("%s\n%s", wrong, text);
  return p->calls.n;
}

/* `kernels` are called, and the results are those of copies. */
static void check(const char *text, int kernels) {
  OpRun r = {.diag = spinec_diagnostics_new()};
  op_fill_f32(x, MAX, 7);
  if (FAIL_ARM(&r.fail, r.diag)) {
    reference(&r, text);
    int n = calls_of(&r, text);
    if (n != kernels) fail_msg("%d calls, not %d\n%s", n, kernels, text);
  } else {
    fail_msg("left through Fail: %s\n%s", op_message(r.diag), text);
  }
  op_close(&r);
  op_check(text, (const void *[]){x, x + 1000}, (const void *[]){want[0], want[1], want[2], want[3]}, 0);
}

#define X "input %x: f32[1,24,3,5] "
#define NEG(to, from) to " = Neg(" from ") "
#define SLICE(to, from, start, n) \
  to " = Slice(" from ") {starts=[0," #start ",0,0], steps=[1,1,1,1], sizes=[1," #n ",3,5]} "
#define SPLIT3 SLICE("%p", "%v", 0, 8) SLICE("%q", "%v", 8, 6) SLICE("%r", "%v", 14, 10)
#define JOIN(to, what) to " = Concat(" what ") {axis=1} "
#define G(s) "graph \"t\" { " s " }"

static void concat(void **state) {
  (void)state;
  check(G(X NEG("%a", "%x") NEG("%b", "%a") JOIN("%c", "%a, %b") NEG("%d", "%c") "output %d"), 3);
  /* twice the same operand; an operand of two results; read elsewhere afterwards */
  check(G(X NEG("%a", "%x") NEG("%b", "%a") JOIN("%c", "%a, %b, %a") NEG("%d", "%c") "output %d"), 4);
  check(G(X NEG("%a", "%x") NEG("%b", "%a") JOIN("%c", "%a, %b") JOIN("%d", "%b, %a") "%e = Add(%c, %d) output %e"), 5);
  check(G(X NEG("%a", "%x") JOIN("%c", "%a, %a") NEG("%d", "%c") NEG("%e", "%a") "output %d output %e"), 4);
  /* of concatenations, and of what they were made from */
  check(G(X NEG("%a", "%x") NEG("%b", "%a") JOIN("%c", "%a, %b") NEG("%d", "%c") JOIN("%e", "%c, %d, %b") NEG("%f", "%e") "output %f"), 5);
  /* of inputs and constants, to an output, whose operand is an output too */
  check(G(X "const %k: f32[1,2,3,5] = splat 3 " NEG("%a", "%x") JOIN("%c", "%x, %a, %k") "output %c"), 3);
  check(G(X NEG("%a", "%x") NEG("%b", "%x") JOIN("%c", "%a, %b") "output %c output %a"), 3);
  /* not the outermost axis; more images than one; an empty operand */
  check(G(X NEG("%a", "%x") NEG("%b", "%a") "%c = Concat(%a, %b) {axis=2} " NEG("%d", "%c") "output %d"), 4);
  check(G("input %x: f32[2,8,5] " NEG("%a", "%x") NEG("%b", "%a") JOIN("%c", "%a, %b") NEG("%d", "%c") "output %d"), 5);
  check(G("input %x: f32[2,8,5] input %y: f32[0,8,5] " NEG("%a", "%x") NEG("%b", "%a") "%c = Concat(%a, %y, %b) {axis=0} " NEG("%d", "%c")
          "output %d"), 3);
}

static void views(void **state) {
  (void)state;
  check(G(X NEG("%a", "%x") "%v = Reshape(%a) {shape=[1,8,45]} " NEG("%b", "%v") "%c = Concat(%b, %v) {axis=1} " NEG("%d", "%c") "output %d"), 3);
  check(G(X NEG("%a", "%x") NEG("%b", "%a") JOIN("%c", "%a, %b") "%v = Reshape(%c) {shape=[2,360]} output %v"), 2);
  check(G(X NEG("%a", "%x") "%v = Reshape(%a) {shape=[1,8,45]} %w = Reshape(%a) {shape=[1,4,90]} %p = Concat(%v, %v) {axis=1} "
          "%q = Concat(%w, %w) {axis=1} output %p output %q"), 4);
}

static void slice(void **state) {
  (void)state;
  check(G(X NEG("%v", "%x") SPLIT3 NEG("%a", "%p") NEG("%b", "%q") "%c = Mul(%r, %r) output %a output %b output %c"), 4);
  check(G(X SLICE("%p", "%x", 3, 4) NEG("%a", "%p") "output %a"), 1);                       /* of an input */
  check(G(X NEG("%a", "%x") SLICE("%p", "%a", 3, 4) "output %p output %a"), 2);             /* an output, of an output */
  check(G(X NEG("%a", "%x") SLICE("%p", "%a", 3, 8) "%q = Slice(%p) {starts=[0,2,1,0], steps=[1,1,1,1], sizes=[1,1,2,5]} " NEG("%b", "%q")
          "output %b"), 2);
  /* steps, inner axes, more images */
  check(G(X NEG("%a", "%x") "%p = Slice(%a) {starts=[0,1,0,0], steps=[1,2,1,1], sizes=[1,4,3,5]} " NEG("%b", "%p") "output %b"), 3);
  check(G(X NEG("%a", "%x") "%p = Slice(%a) {starts=[0,0,0,1], steps=[1,1,1,1], sizes=[1,24,3,2]} " NEG("%b", "%p") "output %b"), 3);
  check(G("input %x: f32[2,8,5] " NEG("%a", "%x") "%p = Slice(%a) {starts=[0,1,0], steps=[1,1,1], sizes=[2,4,5]} " NEG("%b", "%p") "output %b"), 3);
  check(G("input %x: f32[3,8,5] " NEG("%a", "%x") "%p = Slice(%a) {starts=[1,1,0], steps=[1,-1,1], sizes=[1,1,5]} " NEG("%b", "%p") "output %b"), 2);
}

/* The memory of a piece, or of the tensor it was cut from, may go to a result, but not while somebody reads it. */
static void in_place(void **state) {
  (void)state;
  check(G(X NEG("%v", "%x") SPLIT3 NEG("%a", "%p") "%b = Add(%v, %v) " NEG("%c", "%q") "%d = Mul(%r, %r) output %a output %b output %c output %d"),
        5);
  check(G(X NEG("%v", "%x") SLICE("%p", "%v", 0, 12) SLICE("%q", "%v", 12, 12) "%s = Add(%p, %q) %t = Sub(%q, %s) " JOIN("%c", "%s, %t")
          NEG("%e", "%c") "%f = Add(%e, %v) output %f"), 5);
  check(G(X NEG("%v", "%x") SLICE("%p", "%v", 0, 24) "%s = Add(%p, %v) " NEG("%t", "%s") "output %t"), 3);
}

/* Cross-stage partial blocks: split, some work on a piece, everything joined again. */
static void csp(void **state) {
  (void)state;
  check(G(X NEG("%v", "%x") SLICE("%p", "%v", 0, 12) SLICE("%q", "%v", 12, 12) NEG("%a", "%q") NEG("%b", "%a") JOIN("%c", "%p, %q, %a, %b")
          NEG("%d", "%c") "output %d"), 4);
  check(G(X NEG("%v", "%x") SLICE("%p", "%v", 0, 12) SLICE("%q", "%v", 12, 12) NEG("%a", "%q") JOIN("%c", "%q, %p, %a") NEG("%d", "%c")
          "output %d"), 5);
  check(G(X NEG("%v", "%x") SLICE("%p", "%v", 0, 12) SLICE("%q", "%v", 12, 12) NEG("%a", "%q") JOIN("%c", "%a, %q") NEG("%d", "%c") "output %d"),
        4);
}

#define B(c, body) "input %x: f32[1,24,3,5] %v: f32[1,24,3,5]{c8} = Reorder(%x) %a: f32[1,24,3,5]{c8} = Neg(%v) " body \
  "%o: f32[1," #c ",3,5] = Reorder(%d) output %o"

static void blocked(void **state) {
  (void)state;
  check(G(B(48, "%c: f32[1,48,3,5]{c8} = Concat(%v, %a) {axis=1} %d: f32[1,48,3,5]{c8} = Neg(%c) ")), 4);
  check(G(B(8, "%c: f32[1,8,3,5]{c8} = Slice(%a) {starts=[0,8,0,0], steps=[1,1,1,1], sizes=[1,8,3,5]} %d: f32[1,8,3,5]{c8} = Neg(%c) ")), 4);
  /* within blocks */
  check(G(B(8, "%c: f32[1,8,3,5]{c8} = Slice(%a) {starts=[0,4,0,0], steps=[1,1,1,1], sizes=[1,8,3,5]} %d: f32[1,8,3,5]{c8} = Neg(%c) ")), 5);
  /* part of a block at the end, and not at the end */
  const char *ragged = "graph \"t\" { input %%x: f32[1,24,3,5] input %%y: f32[1,5,3,5] %%v: f32[1,24,3,5]{c8} = Reorder(%%x) "
                       "%%w: f32[1,5,3,5]{c8} = Reorder(%%y) %%c: f32[1,29,3,5]{c8} = Concat(%s) {axis=1} %%d: f32[1,29,3,5]{c8} = Neg(%%c) "
                       "%%o: f32[1,29,3,5] = Reorder(%%d) output %%o }";
  check(op_text(ragged, "%v, %w"), 4);
  check(op_text(ragged, "%w, %v"), 5);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(concat), cmocka_unit_test(views), cmocka_unit_test(slice), cmocka_unit_test(in_place), cmocka_unit_test(csp), cmocka_unit_test(blocked),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
