/* Random nodes of every operator the import knows: any operands, any attributes. Most make no sense and must be refused with a message;
 * what imports must satisfy the graph's invariants. SEED and ROUNDS in the environment reproduce and extend a run. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "backend/backend.h"
#include "frontend/frontend.h"
#include "frontend/import.h"
#include "passes/passes.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct Rng {
  uint64_t s;
} Rng;

static uint64_t next(Rng *r) {
  r->s ^= r->s << 13;
  r->s ^= r->s >> 7;
  return r->s ^= r->s << 17;
}

static int64_t in_range(Rng *r, int64_t lo, int64_t hi) { return lo + (int64_t)(next(r) % (uint64_t)(hi - lo + 1)); }
static bool chance(Rng *r, int percent) { return in_range(r, 0, 99) < percent; }

/* Mostly small, now and then absurd. */
static int64_t number(Rng *r) {
  static const int64_t odd[] = {INT64_MIN, INT64_MAX, INT32_MIN, INT32_MAX, (int64_t)INT32_MAX + 1, -1000000, 1000000, 46341, 1 << 30};
  return chance(r, 8) ? odd[in_range(r, 0, COUNTOF(odd) - 1)] : in_range(r, chance(r, 30) ? -3 : 0, 4);
}

/* ---- attributes: the names and texts the handlers ask for ---- */

static const char *const int_names[] = {"axis",
                                        "keepdims",
                                        "group",
                                        "ceil_mode",
                                        "count_include_pad",
                                        "storage_order",
                                        "p",
                                        "to",
                                        "k",
                                        "largest",
                                        "sorted",
                                        "fmod",
                                        "allowzero",
                                        "blocksize",
                                        "batch_axis",
                                        "time_axis",
                                        "batch_dims",
                                        "start",
                                        "end",
                                        "num_groups",
                                        "num_outputs",
                                        "upper",
                                        "size",
                                        "transA",
                                        "transB",
                                        "exclusive",
                                        "reverse",
                                        "output_height",
                                        "output_width",
                                        "sampling_ratio",
                                        "align_corners",
                                        "exclude_outside",
                                        "antialias",
                                        "noop_with_empty_axes",
                                        "block_size",
                                        "output_dtype",
                                        "is_causal",
                                        "q_num_heads",
                                        "kv_num_heads",
                                        "num_heads",
                                        "rotary_embedding_dim",
                                        "interleaved",
                                        "left_window_size",
                                        "right_window_size",
                                        "qk_matmul_output_mode",
                                        "periodic",
                                        "broadcast",
                                        "spatial",
                                        "is_test",
                                        "dtype",
                                        "select_last_index",
                                        "detect_negative",
                                        "precision",
                                        "value_int"};
static const char *const ints_names[] = {"axes",         "perm",  "kernel_shape", "strides", "pads",  "dilations",    "output_padding",
                                         "output_shape", "shape", "starts",       "ends",    "split", "pooled_shape", "value_ints"};
static const char *const float_names[] = {
    "alpha", "beta", "gamma", "epsilon",    "scale", "softcap", "spatial_scale", "lambd", "bias", "cubic_coeff_a", "extrapolation_value",
    "value", "min",  "max",   "value_float"};
static const struct {
  const char *name, *text;
} texts[] = {{"auto_pad", "SAME_UPPER"},
             {"auto_pad", "SAME_LOWER"},
             {"auto_pad", "VALID"},
             {"mode", "linear"},
             {"mode", "cubic"},
             {"mode", "reflect"},
             {"mode", "edge"},
             {"mode", "wrap"},
             {"mode", "CRD"},
             {"mode", "max"},
             {"mode", "bilinear"},
             {"reduction", "add"},
             {"direction", "LEFT"},
             {"direction", "RIGHT"},
             {"padding_mode", "border"},
             {"padding_mode", "reflection"},
             {"coordinate_transformation_mode", "align_corners"},
             {"coordinate_transformation_mode", "asymmetric"},
             {"coordinate_transformation_mode", "tf_crop_and_resize"},
             {"coordinate_transformation_mode", "output_half_pixel"},
             {"keep_aspect_ratio_policy", "not_larger"},
             {"nearest_mode", "ceil"},
             {"approximate", "tanh"},
             {"activation", "silu"},
             {"equation", "ij,jk->ik"},
             {"equation", "...ij->...ji"},
             {"equation", "ii"},
             {"equation", "i,j"},
             {"equation", ",->"}};

/* What some operators cannot do without: i one integer, s the spatial sizes, t a text. */
static const struct {
  const char *op, *name;
  char kind;
} needed[] = {{"AveragePool", "kernel_shape", 's'},
              {"LpPool", "kernel_shape", 's'},
              {"MaxPool", "kernel_shape", 's'},
              {"MaxUnpool", "kernel_shape", 's'},
              {"MaxRoiPool", "pooled_shape", 's'},
              {"BitCast", "to", 'i'},
              {"Cast", "to", 'i'},
              {"Concat", "axis", 'i'},
              {"DepthToSpace", "blocksize", 'i'},
              {"SpaceToDepth", "blocksize", 'i'},
              {"GroupNormalization", "num_groups", 'i'},
              {"LRN", "size", 'i'},
              {"BitShift", "direction", 't'},
              {"Einsum", "equation", 't'},
              {"RotaryEmbedding", "num_heads", 'i'},
              {"Attention", "q_num_heads", 'i'}};

/* name NULL: one of the operator's own; else the name and kind wanted. */
static Onnx__AttributeProto *attribute(Arena *a, Rng *r, const char *name, char kind) {
  Onnx__AttributeProto *p = NEW(a, Onnx__AttributeProto);
  onnx__attribute_proto__init(p);
  p->has_type = 1;
  switch (kind == 'i' ? 0 : kind == 's' ? 1 : kind == 't' ? 3 : in_range(r, 0, 3)) {
  case 0:
    p->name = (char *)int_names[in_range(r, 0, COUNTOF(int_names) - 1)];
    p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
    p->has_i = 1;
    p->i = number(r);
    break;
  case 1:
    p->name = (char *)ints_names[in_range(r, 0, COUNTOF(ints_names) - 1)];
    p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
    p->n_ints = (size_t)(name ? 2 : in_range(r, 0, 6));
    p->ints = NEW_N(a, int64_t, p->n_ints);
    for (size_t i = 0; i < p->n_ints; i++) p->ints[i] = name && chance(r, 90) ? in_range(r, 1, 3) : number(r);
    break;
  case 2:
    p->name = (char *)float_names[in_range(r, 0, COUNTOF(float_names) - 1)];
    p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
    p->has_f = 1;
    p->f = chance(r, 10) ? (float)number(r) * 1e30f : (float)number(r) / 2;
    break;
  default: {
    int i;
    do i = (int)in_range(r, 0, COUNTOF(texts) - 1);
    while (name && strcmp(texts[i].name, name));
    p->name = (char *)texts[i].name;
    p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING;
    p->has_s = 1;
    p->s = (ProtobufCBinaryData){strlen(texts[i].text), (uint8_t *)texts[i].text};
  }
  }
  if (name) p->name = (char *)name;
  return p;
}

static void attributes(Arena *a, Rng *r, Onnx__NodeProto *p) {
  p->attribute = NEW_N(a, Onnx__AttributeProto *, 5);
  for (int i = 0; i < COUNTOF(needed); i++)
    if (!strcmp(needed[i].op, p->op_type) && chance(r, 90))
      p->attribute[p->n_attribute++] = attribute(a, r, needed[i].name, needed[i].kind);
  for (int64_t more = chance(r, 50) ? 0 : in_range(r, 0, 3); more > 0; more--) p->attribute[p->n_attribute++] = attribute(a, r, NULL, 0);
}

/* ---- operands ---- */

static const DType types[] = {DT_F32, DT_F32, DT_F32, DT_I64, DT_I64, DT_F64, DT_I32, DT_U8, DT_I8, DT_BOOL, DT_F16};

static DType type_for(Rng *r, char letter, DType first) {
  if (letter == '=' && chance(r, 95)) return first;
  if (letter == 'f' && chance(r, 95)) return chance(r, 80) ? DT_F32 : DT_F64;
  if (letter == 'x' && chance(r, 95)) return DT_I64;
  if (letter == 'b' && chance(r, 95)) return DT_BOOL;
  if (letter == 'q' && chance(r, 95)) return chance(r, 50) ? DT_U8 : DT_I8;
  return types[in_range(r, 0, COUNTOF(types) - 1)];
}

typedef struct Operand {
  DType dt;
  int rank;
  int64_t dims[6];
} Operand;

/* Shapes have to do with the first operand's more often than chance would have it; in some models all others are lists of its channels. */
static Operand operand(Rng *r, const OpRow *row, int i, const Operand *first, bool channels) {
  int last = (int)strlen(row->types) - 1;
  Operand o = {.dt = type_for(r, row->types[MINI(i, last)], first->dt)};
  if (i && channels && first->rank > 1) {
    o.rank = 1;
    o.dims[0] = first->dims[1];
  } else if (i && chance(r, 40)) {
    o.rank = first->rank;
    memcpy(o.dims, first->dims, sizeof o.dims);
  } else if (i && chance(r, 50)) {
    o.rank = 1;
    o.dims[0] = chance(r, 50) && first->rank ? first->dims[in_range(r, 0, first->rank - 1)] : in_range(r, 0, 5);
  } else {
    o.rank = chance(r, 40) ? 4 : (int)in_range(r, 0, 5);
    for (int d = 0; d < o.rank; d++) o.dims[d] = chance(r, 5) ? 0 : in_range(r, 1, 6);
  }
  if (chance(r, 2) && o.rank) o.dims[0] = number(r);
  return o;
}

static Onnx__ValueInfoProto *as_input(Arena *a, char *name, const Operand *o) {
  Onnx__ValueInfoProto *v = NEW(a, Onnx__ValueInfoProto);
  Onnx__TypeProto__Tensor *t = NEW(a, Onnx__TypeProto__Tensor);
  onnx__value_info_proto__init(v);
  onnx__type_proto__tensor__init(t);
  v->name = name;
  v->type = NEW(a, Onnx__TypeProto);
  onnx__type_proto__init(v->type);
  v->type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
  v->type->tensor_type = t;
  t->has_elem_type = 1;
  t->elem_type = (int32_t)o->dt;
  t->shape = NEW(a, Onnx__TensorShapeProto);
  onnx__tensor_shape_proto__init(t->shape);
  t->shape->n_dim = (size_t)o->rank;
  t->shape->dim = NEW_N(a, Onnx__TensorShapeProto__Dimension *, o->rank);
  for (int i = 0; i < o->rank; i++) {
    t->shape->dim[i] = NEW(a, Onnx__TensorShapeProto__Dimension);
    onnx__tensor_shape_proto__dimension__init(t->shape->dim[i]);
    t->shape->dim[i]->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
    t->shape->dim[i]->dim_value = o->dims[i];
  }
  return v;
}

static Onnx__TensorProto *as_initializer(Arena *a, Rng *r, char *name, const Operand *o) {
  Onnx__TensorProto *t = NEW(a, Onnx__TensorProto);
  onnx__tensor_proto__init(t);
  t->name = name;
  t->has_data_type = 1;
  t->data_type = (int32_t)o->dt;
  t->n_dims = (size_t)o->rank;
  t->dims = NEW_N(a, int64_t, o->rank);
  memcpy(t->dims, o->dims, (size_t)o->rank * sizeof *t->dims);
  int64_t n = 1;
  for (int i = 0; i < o->rank; i++) n = o->dims[i] < 0 || o->dims[i] > 64 ? 0 : n * o->dims[i];
  t->has_raw_data = 1;
  t->raw_data.len = (size_t)n * dt_size(o->dt);
  t->raw_data.data = arena_alloc(a, t->raw_data.len);
  for (int64_t i = 0; i < n; i++) {
    int64_t x = number(r);
    if (dt_is_float(o->dt))
      data_set_f(t->raw_data.data, o->dt, i, (double)x / (chance(r, 50) ? 1 : 2));
    else
      data_set_i(t->raw_data.data, o->dt, i, x);
  }
  return t;
}

/* ---- one model ---- */

static Onnx__ModelProto *model(Arena *a, Rng *r, const OpRow *row) {
  static char *names[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}, *outs[] = {"u", "v", "w", "x"};
  Onnx__ModelProto *m = NEW(a, Onnx__ModelProto);
  Onnx__GraphProto *g = NEW(a, Onnx__GraphProto);
  Onnx__NodeProto *p = NEW(a, Onnx__NodeProto);
  Onnx__OperatorSetIdProto *id = NEW(a, Onnx__OperatorSetIdProto);
  onnx__model_proto__init(m);
  onnx__graph_proto__init(g);
  onnx__node_proto__init(p);
  onnx__operator_set_id_proto__init(id);
  id->has_version = 1;
  id->version = in_range(r, row->since, row->until ? row->until : 28);
  m->has_ir_version = 1;
  m->ir_version = 8;
  m->n_opset_import = 1;
  m->opset_import = NEW(a, Onnx__OperatorSetIdProto *);
  m->opset_import[0] = id;
  m->graph = g;
  int max = row->max_in < 0 ? 4 : row->max_in, nin = (int)in_range(r, row->min_in, max);
  g->input = NEW_N(a, Onnx__ValueInfoProto *, nin + 1);
  g->initializer = NEW_N(a, Onnx__TensorProto *, nin + 1);
  p->op_type = (char *)row->name;
  p->input = NEW_N(a, char *, nin + 1);
  p->n_input = (size_t)nin;
  Operand first = {.dt = DT_F32};
  bool channels = chance(r, 20);
  for (int i = 0; i < nin; i++) {
    Operand o = operand(r, row, i, &first, channels);
    if (i == 0) first = o;
    p->input[i] = chance(r, 3) ? (char *)"" : names[i];
    if (chance(r, i ? 55 : 15))
      g->initializer[g->n_initializer++] = as_initializer(a, r, names[i], &o);
    else
      g->input[g->n_input++] = as_input(a, names[i], &o);
  }
  p->n_output = (size_t)in_range(r, 1, row->max_out < 0 ? 4 : MINI(row->max_out, 4));
  p->output = outs;
  attributes(a, r, p);
  g->n_node = 1;
  g->node = NEW(a, Onnx__NodeProto *);
  g->node[0] = p;
  Operand any = {0};
  g->n_output = p->n_output;
  g->output = NEW_N(a, Onnx__ValueInfoProto *, g->n_output);
  for (size_t i = 0; i < g->n_output; i++) {
    g->output[i] = as_input(a, outs[i], &any);
    g->output[i]->type = NULL;
  }
  return m;
}

static bool fold(Graph *g, Node *n, void *ctx) { return fold_node(g, n, ctx); }

/* On zeros. Gives what went wrong. */
static const char *run(Arena *a, Graph *g, Ctx *c) {
  int64_t bytes = 0;
  for (int i = 0; i < g->values.n; i++) bytes += (int64_t)value_bytes(g->values.at[i]);
  if (bytes > 1 << 22) return NULL;
  Program *p = lower_graph(g, c);
  if (!p) return "does not lower";
  pass_legalise(p, c);
  pass_dedup(p, c);
  pass_memory(p, c);
  const void **in = NEW_N(a, const void *, p->inputs.n);
  void **out = NEW_N(a, void *, p->outputs.n);
  for (int i = 0; i < p->inputs.n; i++) in[i] = arena_alloc(a, (size_t)shape_count(&p->inputs.at[i].shape) * dt_size(p->inputs.at[i].dt));
  for (int i = 0; i < p->outputs.n; i++)
    out[i] = arena_alloc(a, (size_t)shape_count(&p->outputs.at[i].shape) * dt_size(p->outputs.at[i].dt));
  return interp_eval(p, in, out, c->diag) ? "does not run" : NULL;
}

/* True if it imported. */
static bool import(const char *path, const char *op, uint64_t seed) {
  Fail f;
  Diag *d = spinec_diagnostics_new();
  Arena *volatile a = NULL;
  volatile bool ok = false;
  if (FAIL_ARM(&f, d)) {
    a = arena_new(&f);
    spinec_compile_options opt = {.max_threads = 1};
    Ctx c = {.arena = a, .diag = d, .target = target_find("generic"), .opt = &opt, .eval = interp_eval};
    ImportOptions o = {.fold = fold, .fold_user = &c};
    Graph *g = onnx_import(a, d, path, &o);
    ok = g != NULL;
    if (!g && !spinec_diagnostics_count(d)) fail_msg("%s, SEED=%llu: refused without a message", op, (unsigned long long)seed);
    const char *wrong = g ? graph_verify(g, a) : NULL;
    if (g && !wrong) wrong = run(a, g, &c);
    if (wrong) fail_msg("%s, SEED=%llu: %s", op, (unsigned long long)seed, wrong);
  } else if (f.status == SPINEC_ERR_INTERNAL) {
    fail_msg("%s, SEED=%llu: %s", op, (unsigned long long)seed, spinec_diagnostics_text(d, spinec_diagnostics_count(d) - 1));
  }
  arena_free(a);
  spinec_diagnostics_free(d);
  return ok;
}

static void try_one(const OpRow *row, uint64_t seed, int *imported) {
  Rng r = {seed * 0x9e3779b97f4a7c15u + 1};
  for (int i = 0; i < 4; i++) next(&r);
  Arena *a = arena_new(NULL);
  Onnx__ModelProto *m = model(a, &r, row);
  size_t n = onnx__model_proto__get_packed_size(m);
  uint8_t *bytes = arena_alloc(a, n);
  onnx__model_proto__pack(m, bytes);
  int fd = memfd_create("model", MFD_CLOEXEC);
  char path[40];
  assert_true(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
  arena_free(a);
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  *imported += import(path, row->name, seed);
  close(fd);
}

static void any_node(void **state) {
  (void)state;
  const char *s = getenv("SEED"), *rounds = getenv("ROUNDS"), *only = getenv("OP");
  uint64_t seed = s ? strtoull(s, NULL, 10) : 1;
  int n = rounds ? atoi(rounds) : s ? 1 : 60, never = 0;
  for (int i = 0; onnx_supported_op(i); i++) {
    const OpRow *row = op_row(onnx_supported_op(i));
    int imported = 0;
    if (only && strcmp(only, row->name)) continue;
    for (int k = 0; k < n; k++) try_one(row, seed + (uint64_t)k, &imported);
    never += !imported;
    if (rounds && !imported) print_message("%s never imported\n", row->name);
  }
  if (!s && !rounds) assert_true(never < 60); /* the test would be worth little otherwise */
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(any_node)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
