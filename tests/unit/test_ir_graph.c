/* Building, rewiring, copying and verifying graphs: ir/graph.c, ir/op.c, ir/verify.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "ir/graph.h"

typedef struct Fixture {
  Arena *a;
  Graph *g;
  Value *x, *k, *sum, *act, *y;   /* y = Neg(Relu(x + k)) */
} Fixture;

static Value *add_op(Graph *g, Op op, Value *l, Value *r) {
  Value *in[] = {l, r};
  Node *n = graph_make(g, NULL, op, NULL, in, r ? 2 : 1);
  assert_non_null(n);
  return n->out[0];
}

static Fixture fixture(void) {
  Fixture f = {.a = arena_new(NULL)};
  static const float data[3] = {1, 2, 3};
  Shape s = shape_of(2, (int64_t[]){2, 3}), t = shape_of(1, (int64_t[]){3});
  f.g = graph_new(f.a, NULL, "test");
  f.x = graph_add_input(f.g, "x", DT_F32, &s);
  f.k = graph_add_const(f.g, "k", DT_F32, &t, data);
  f.sum = add_op(f.g, OP_Add, f.x, f.k);
  f.act = add_op(f.g, OP_Relu, f.sum, NULL);
  f.y = add_op(f.g, OP_Neg, f.act, NULL);
  f.y->name = "y";
  graph_add_output(f.g, f.y);
  return f;
}

static void check(Fixture *f) {
  const char *wrong = graph_verify(f->g, f->a);
  if (wrong) fail_msg("%s", wrong);
}

static char *text(const Graph *g, Arena *a) {
  Text t = {.a = a};
  graph_print(g, &t);
  return t.s;
}

static void building(void **state) {
  (void)state;
  Fixture f = fixture();
  check(&f);
  assert_int_equal(f.sum->shape.d[0].n, 2);
  assert_int_equal(f.x->uses.n, 1);
  assert_true(value_single_use(f.sum));
  assert_false(value_single_use(f.y));
  assert_int_equal(f.g->first->op, OP_Add);
  assert_int_equal(f.g->last->op, OP_Neg);
  double c;
  assert_false(value_scalar_f(f.k, &c));
  assert_false(value_scalar_f(f.x, &c));
  arena_free(f.a);
}

static void replacing(void **state) {
  (void)state;
  Fixture f = fixture();
  graph_replace_uses(f.g, f.act, f.sum);   /* the activation is dead now */
  assert_int_equal(f.act->uses.n, 0);
  assert_ptr_equal(f.y->def->in[0], f.sum);
  check(&f);
  graph_erase(f.g, f.act->def);
  assert_null(f.act->def);
  check(&f);
  int before = f.g->values.n;
  graph_compact(f.g);
  assert_int_equal(f.g->values.n, before - 1);
  check(&f);
  arena_free(f.a);
}

/* The signature's names stay where they are. */
static void replacing_outputs(void **state) {
  (void)state;
  Fixture f = fixture();
  graph_replace_uses(f.g, f.y, f.act);
  assert_ptr_equal(f.g->outputs.at[0], f.act);
  assert_string_equal(f.act->name, "y");
  assert_null(f.y->name);
  graph_erase(f.g, f.y->def);
  check(&f);
  graph_replace_uses(f.g, f.act, f.x);     /* an input has its own name: a copy */
  Value *out = f.g->outputs.at[0];
  assert_string_equal(out->name, "y");
  assert_int_equal(out->def->op, OP_Identity);
  assert_ptr_equal(out->def->in[0], f.x);
  check(&f);
  arena_free(f.a);
}

static void inputs(void **state) {
  (void)state;
  Fixture f = fixture();
  Node *n = f.y->def;
  graph_set_input(f.g, n, 0, f.sum);
  assert_int_equal(f.sum->uses.n, 2);
  assert_int_equal(f.act->uses.n, 0);
  graph_set_input(f.g, n, 0, f.sum);
  assert_int_equal(f.sum->uses.n, 2);
  check(&f);
  Value *twice[] = {f.act, f.act};
  Node *add = f.sum->def;
  Value *in[] = {f.x, f.x};
  graph_set_inputs(f.g, add, in, 2, 2);    /* the same value in two slots */
  assert_int_equal(f.x->uses.n, 2);
  assert_int_equal(f.k->uses.n, 0);
  check(&f);
  graph_set_inputs(f.g, add, add->in, 2, 2);
  assert_int_equal(f.x->uses.n, 2);
  (void)twice;
  arena_free(f.a);
}

static void moving(void **state) {
  (void)state;
  Fixture f = fixture();
  Value *extra = add_op(f.g, OP_Exp, f.x, NULL);
  graph_move_before(f.g, extra->def, f.g->first);
  assert_ptr_equal(f.g->first, extra->def);
  check(&f);
  graph_move_before(f.g, extra->def, NULL);
  assert_ptr_equal(f.g->last, extra->def);
  graph_move_before(f.g, extra->def, extra->def);
  check(&f);
  graph_move_before(f.g, f.y->def, f.act->def);   /* before its operand */
  assert_non_null(graph_verify(f.g, f.a));
  arena_free(f.a);
}

static void origins(void **state) {
  (void)state;
  Fixture f = fixture();
  Node *n = f.sum->def, *m = f.act->def;
  node_add_origin(f.g, n, "a");
  node_add_origin(f.g, n, "b");
  node_add_origin(f.g, n, "a");
  assert_int_equal(n->norigin, 2);
  m->onnx_op = "Relu";
  m->opset = 13;
  node_copy_origin(f.g, n, m);
  assert_string_equal(n->onnx_op, "Relu");
  Where w = node_where(f.g, n);
  assert_string_equal(w.node, "a");
  assert_int_equal(w.opset, 13);
  arena_free(f.a);
}

static void cloning(void **state) {
  (void)state;
  Fixture f = fixture();
  Arena *b = arena_new(NULL);
  char *before = text(f.g, f.a);
  Graph *c = graph_clone(f.g, b, NULL);
  arena_free(f.a);                         /* nothing of the original is needed but constant data */
  assert_null(graph_verify(c, b));
  assert_int_equal(c->values.n, 5);
  char *after = text(c, b);
  assert_non_null(strstr(after, "%y: f32[2,3] = Neg("));
  (void)before;
  arena_free(b);
}

static void clones_print_alike(void **state) {
  (void)state;
  Fixture f = fixture();
  node_add_origin(f.g, f.act->def, "relu");
  Graph *c = graph_clone(f.g, f.a, NULL);
  assert_string_equal(text(f.g, f.a), text(c, f.a));
  graph_replace_uses(c, c->first->out[0], c->inputs.at[0]);
  check(&f);                               /* the original does not notice */
  arena_free(f.a);
}

static void blocked_storage(void **state) {
  (void)state;
  Value v = {.dt = DT_F32, .shape = shape_of(4, (int64_t[]){2, 20, 3, 3})};
  assert_int_equal(value_storage_count(&v), 360);
  v.layout = (Layout){LAYOUT_BLOCKED, 16};
  assert_int_equal(value_storage_count(&v), 2 * 32 * 9);
  v.shape.d[2].n = 0;
  assert_int_equal(value_storage_count(&v), 0);
}

static void attributes(void **state) {
  (void)state;
  Arena *a = arena_new(NULL);
  int64_t pads[] = {1, 2};
  ConvAttr x = {.strides = {pads, 2}, .group = 3}, *y = attr_copy(a, &attr_desc_Conv, &x);
  assert_true(attr_equal(&attr_desc_Conv, &x, y));
  pads[0] = 9;                             /* lists are copied */
  assert_int_equal(y->strides.v[0], 1);
  assert_false(attr_equal(&attr_desc_Conv, &x, y));
  AlphaAttr p = {.alpha = 0.0}, q = {.alpha = -0.0};
  assert_false(attr_equal(&attr_desc_Alpha, &p, &q));
  EinsumAttr e = {.equation = "ij->ji"}, *f = attr_copy(a, &attr_desc_Einsum, &e);
  assert_ptr_not_equal(e.equation, f->equation);
  assert_true(attr_equal(&attr_desc_Einsum, &e, f));
  assert_true(attr_equal(&attr_desc_None, NULL, &p));
  const ShapeAttr *zero = attr_copy(a, &attr_desc_Shape, NULL);
  assert_int_equal(zero->shape.n, 0);
  arena_free(a);
}

static void operators(void **state) {
  (void)state;
  for (int i = 0; i < OP_COUNT; i++) {
    const OpInfo *info = op_info((Op)i);
    Op op;
    assert_true(op_parse(info->name, strlen(info->name), &op));
    assert_int_equal(op, i);
    assert_non_null(info->infer);
    assert_non_null(info->lower);
    assert_true(!!info->ew == !!(info->flags & OPF_EW));
    assert_true(info->nout >= 1 && info->nout <= 4);
  }
  Op op;
  assert_false(op_parse("Con", 3, &op));
  assert_false(op_parse("Convolution", 11, &op));
  DType f2[] = {DT_F32, DT_F32}, mixed[] = {DT_F32, DT_I32}, where[] = {DT_BOOL, DT_I64, DT_I64};
  assert_int_equal(op_ew_dtype(OP_Add, NULL, f2, 2), DT_F32);
  assert_int_equal(op_ew_dtype(OP_Less, NULL, f2, 2), DT_BOOL);
  assert_int_equal(op_ew_dtype(OP_Add, NULL, mixed, 2), DT_NONE);
  assert_int_equal(op_ew_dtype(OP_Add, NULL, f2, 1), DT_NONE);
  assert_int_equal(op_ew_dtype(OP_Where, NULL, where, 3), DT_I64);
  assert_int_equal(op_ew_dtype(OP_Where, NULL, f2, 2), DT_NONE);
  assert_int_equal(op_ew_dtype(OP_Sqrt, NULL, &where[1], 1), DT_NONE);
  assert_int_equal(op_ew_dtype(OP_Conv, NULL, f2, 2), DT_NONE);
  CastAttr to = {.to = DT_I8};
  assert_int_equal(op_ew_dtype(OP_Cast, &to, f2, 1), DT_I8);
}

/* Whatever is damaged is noticed. */
static void damage(void **state) {
  (void)state;
  for (int kind = 0;; kind++) {
    Fixture f = fixture();
    Node *add = f.sum->def;
    BodyStep step = {.op = OP_Relu, .attr = add->attr, .dt = DT_F32, .nargs = 1, .arg = {{ARG_ACC, 0, 0}}};
    bool done = false;
    switch (kind) {
    case 0: f.sum->dt = DT_F64; break;
    case 1: f.sum->shape.d[0].n = 5; break;
    case 2: f.x->uses.n = 0; break;
    case 3: vec_push(f.a, &f.x->uses, ((Use){f.act->def, 0})); break;
    case 4: add->in[0] = f.k; break;
    case 5: f.act->def = NULL; break;
    case 6: f.act->def_slot = 1; break;
    case 7: f.y->is_output = false; break;
    case 8: f.x->is_input = false; break;
    case 9: f.k->data = NULL; break;
    case 10: f.act->id = 0; break;
    case 11: add->ncore = 1; break;
    case 12: f.y->def = NULL; break;
    case 13: add->next = NULL; break;
    case 14: f.g->last = add; break;
    case 15: add->id = f.act->def->id; break;
    case 16: f.y->layout = (Layout){LAYOUT_BLOCKED, 8}; break;
    case 17: f.x->dt = DT_NONE; break;
    case 18: f.act->shape.rank = MAX_RANK + 1; break;
    case 19: step.arg[0] = (BodyArg){ARG_STEP, 0, 0}; add->body = &step; add->nbody = 1; break;
    case 20: step.arg[0] = (BodyArg){ARG_IN, 0, 0}; add->body = &step; add->nbody = 1; break;
    case 21: step.dt = DT_BOOL; add->body = &step; add->nbody = 1; break;
    case 22: step.op = OP_Conv; add->body = &step; add->nbody = 1; break;
    case 23: step.arg[0].up = 1; add->body = &step; add->nbody = 1; break;
    case 24: step.nargs = 2; add->body = &step; add->nbody = 1; break;
    default: done = true;
    }
    if (!done && !graph_verify(f.g, f.a)) fail_msg("damage %d passes", kind);
    if (done) check(&f);
    arena_free(f.a);
    if (done) return;
  }
}

static void mistakes_leave(void **state) {
  (void)state;
  Diag *d = spinec_diagnostics_new();
  Fail f;
  Arena *volatile a = arena_new(NULL);
  volatile bool came_back = false;
  if (FAIL_ARM(&f, d)) {
    arena_set_fail(a, &f);
    Graph *g = graph_new(a, d, "file");
    Shape s = shape_of(1, (int64_t[]){3}), t = shape_of(1, (int64_t[]){4});
    Value *x = graph_add_input(g, "x", DT_F32, &s), *y = graph_add_input(g, "y", DT_F32, &t);
    graph_replace_uses(g, x, y);
    came_back = true;
  }
  assert_false(came_back);
  assert_int_equal(f.status, SPINEC_ERR_INTERNAL);
  assert_int_equal(spinec_diagnostics_count(d), 1);
  arena_free(a);
  spinec_diagnostics_free(d);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(building),
      cmocka_unit_test(replacing),
      cmocka_unit_test(replacing_outputs),
      cmocka_unit_test(inputs),
      cmocka_unit_test(moving),
      cmocka_unit_test(origins),
      cmocka_unit_test(cloning),
      cmocka_unit_test(clones_print_alike),
      cmocka_unit_test(blocked_storage),
      cmocka_unit_test(attributes),
      cmocka_unit_test(operators),
      cmocka_unit_test(damage),
      cmocka_unit_test(mistakes_leave),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
