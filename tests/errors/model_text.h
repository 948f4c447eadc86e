/* model_text.h: ONNX models from a terse text, for the tests of the front end. Everything is made in an arena.
 *
 *   ir 8                                           default 8
 *   opset 17                                       of the standard domain; default 17
 *   opset com.example 1
 *   input x f32[1,3,N,?]                           N: a symbol, ?: no size; without brackets: no shape; type20[...]: a type by number;
 *   input x sequence                               or optional, map, sparse
 *   output y f32[1]                                or without type
 *   init w f32[2,2] = 1 2 3 4                      in the typed field; fewer numbers repeat the last
 *   init w f32[2,2] raw 1 2 3 4                    in raw_data
 *   init w f32[2] external location=w.bin offset=0 length=8
 *   init w f32[2] bare                             no data at all
 *   sparse w
 *   node Conv(x, w, _) -> y, z name=c1 domain=d overload=o strides=[1,1] alpha=0.5 mode="SAME" value=i64[2]{1 2} type=@f32 a=$b body=%g
 *     _: left out; $b: the calling function's attribute; %g: the graph named below; 1 is an integer, 1.0 a number
 *   graph g ... end                                a subgraph: input, output, init, node
 *   function d name(a, b) -> c attr attr=0.5 ... end          with opset, node; overload=o after the attributes
 *
 * Lines that start with # are comments. Mistakes end the program: the texts are the test's own.
 */
#ifndef MODEL_TEXT_H
#define MODEL_TEXT_H

#include "ir/base.h"
#include "onnx.pb-c.h"

#include <stdlib.h>
#include <string.h>

typedef struct ModelText {
  Arena *a;
  const char *s;
  int line;
  VEC(Onnx__GraphProto *) graphs; /* subgraphs, by name, made when first mentioned */
} ModelText;

static NORETURN void mt_fail(const ModelText *m, const char *what) {
  fprintf(stderr, "model text, line %d: %s at '%.30s'\n", m->line, what, m->s);
  exit(2);
}

static void mt_blank(ModelText *m) {
  while (*m->s == ' ' || *m->s == '\t') m->s++;
}

static bool mt_eat(ModelText *m, const char *token) {
  mt_blank(m);
  size_t n = strlen(token);
  if (strncmp(m->s, token, n)) return false;
  m->s += n;
  return true;
}

static void mt_expect(ModelText *m, const char *token) {
  if (!mt_eat(m, token)) mt_fail(m, token);
}

static bool mt_at_end(ModelText *m) {
  mt_blank(m);
  return !*m->s || *m->s == '\n' || *m->s == '#';
}

static void mt_next_line(ModelText *m) {
  m->s += strcspn(m->s, "\n");
  if (*m->s) m->s++;
  m->line++;
}

/* A word, or a text in quotes in which \xHH is a byte. */
static char *mt_word(ModelText *m) {
  mt_blank(m);
  if (*m->s != '"') {
    size_t n = strcspn(m->s, " \t\n,()[]{}=#");
    if (!n) mt_fail(m, "a name expected");
    m->s += n;
    return arena_strndup(m->a, m->s - n, n);
  }
  Text t = {.a = m->a};
  text_add(&t, "");
  for (m->s++; *m->s && *m->s != '"'; m->s++) {
    if (m->s[0] == '\\' && m->s[1] == 'x') {
      char hex[3] = {m->s[2], m->s[3], 0}, byte = (char)strtol(hex, NULL, 16);
      text_addn(&t, &byte, 1);
      m->s += 3;
    } else {
      text_addn(&t, m->s, 1);
    }
  }
  mt_expect(m, "\"");
  return t.s;
}

/* Names are left out as _ . */
static char *mt_name(ModelText *m) {
  char *s = mt_word(m);
  return strcmp(s, "_") ? s : (char *)"";
}

static bool mt_is_number(const ModelText *m) {
  return strchr("-+0123456789.", *m->s) || !strncmp(m->s, "inf", 3) || !strncmp(m->s, "nan", 3);
}

static double mt_number(ModelText *m, bool *integer, int64_t *whole) {
  char *end;
  mt_blank(m);
  double x = strtod(m->s, &end);
  size_t n = (size_t)(end - m->s);
  if (!n) mt_fail(m, "a number expected");
  *integer = strcspn(m->s, ".enaif") >= n;
  *whole = strtoll(m->s, NULL, 10);
  m->s = end;
  return x;
}

static int64_t mt_int(ModelText *m) {
  bool integer;
  int64_t x;
  mt_number(m, &integer, &x);
  return x;
}

static int mt_type(ModelText *m) {
  DType t;
  char *s = mt_word(m);
  if (dt_parse(s, strlen(s), &t)) return (int)t;
  if (!strncmp(s, "type", 4)) return atoi(s + 4);
  mt_fail(m, "an element type expected");
}

/* ---- tensors ---- */

static void mt_dims(ModelText *m, Onnx__TensorProto *t) {
  VEC(int64_t) d = {0};
  mt_expect(m, "[");
  while (!mt_eat(m, "]")) {
    vec_push(m->a, &d, mt_int(m));
    mt_eat(m, ",");
  }
  t->n_dims = (size_t)d.n;
  t->dims = d.at;
}

static int64_t mt_count(const Onnx__TensorProto *t) {
  int64_t n = 1;
  for (size_t i = 0; i < t->n_dims; i++) n *= t->dims[i];
  return n < 0 || n > 1 << 24 ? 0 : n;
}

/* Numbers up to the end of the line or `stop`; the last repeats. Fills the typed field or raw_data. */
static void mt_data(ModelText *m, Onnx__TensorProto *t, bool raw, const char *stop) {
  int64_t n = mt_count(t);
  DType dt = (DType)t->data_type;
  VEC(double) f = {0};
  VEC(int64_t) v = {0};
  while (!(stop ? mt_eat(m, stop) : mt_at_end(m))) {
    bool integer;
    int64_t whole;
    vec_push(m->a, &f, mt_number(m, &integer, &whole));
    vec_push(m->a, &v, whole);
  }
  n = MAXI(n, f.n);
  if (raw) {
    t->has_raw_data = 1;
    t->raw_data.len = (size_t)n * dt_size(dt);
    t->raw_data.data = arena_alloc(m->a, t->raw_data.len);
  }
  t->float_data = NEW_N(m->a, float, n);
  t->double_data = NEW_N(m->a, double, n);
  t->int32_data = NEW_N(m->a, int32_t, n);
  t->int64_data = NEW_N(m->a, int64_t, n);
  t->uint64_data = NEW_N(m->a, uint64_t, n);
  for (int64_t i = 0; i < n && f.n; i++) {
    int k = (int)MINI(i, f.n - 1);
    if (raw && dt_is_float(dt))
      data_set_f(t->raw_data.data, dt, i, f.at[k]);
    else if (raw)
      data_set_i(t->raw_data.data, dt, i, v.at[k]);
    if (raw && dt == DT_BOOL) t->raw_data.data[i] = (uint8_t)v.at[k];
    uint16_t half;
    t->float_data[i] = (float)f.at[k];
    t->double_data[i] = f.at[k];
    t->int64_data[i] = v.at[k];
    t->uint64_data[i] = (uint64_t)v.at[k];
    t->int32_data[i] = (int32_t)v.at[k];
    if (dt == DT_F16 || dt == DT_BF16) {
      data_set_f(&half, dt, 0, f.at[k]);
      t->int32_data[i] = half;
    }
  }
  if (raw) return;
  size_t count = (size_t)n;
  if (dt == DT_F32)
    t->n_float_data = count;
  else if (dt == DT_F64)
    t->n_double_data = count;
  else if (dt == DT_I64)
    t->n_int64_data = count;
  else if (dt == DT_U64 || dt == DT_U32)
    t->n_uint64_data = count;
  else
    t->n_int32_data = count;
}

static Onnx__TensorProto *mt_tensor_head(ModelText *m) {
  Onnx__TensorProto *t = NEW(m->a, Onnx__TensorProto);
  onnx__tensor_proto__init(t);
  t->has_data_type = 1;
  t->data_type = mt_type(m);
  mt_dims(m, t);
  return t;
}

static void mt_external(ModelText *m, Onnx__TensorProto *t) {
  VEC(Onnx__StringStringEntryProto *) entries = {0};
  t->has_data_location = 1;
  t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
  while (!mt_at_end(m)) {
    Onnx__StringStringEntryProto *e = NEW(m->a, Onnx__StringStringEntryProto);
    onnx__string_string_entry_proto__init(e);
    e->key = mt_word(m);
    mt_expect(m, "=");
    e->value = mt_word(m);
    vec_push(m->a, &entries, e);
  }
  t->n_external_data = (size_t)entries.n;
  t->external_data = entries.at;
}

static Onnx__TensorProto *mt_initializer(ModelText *m) {
  char *name = mt_name(m);
  Onnx__TensorProto *t = mt_tensor_head(m);
  t->name = name;
  if (mt_eat(m, "external"))
    mt_external(m, t);
  else if (mt_eat(m, "raw"))
    mt_data(m, t, true, NULL);
  else if (!mt_eat(m, "bare"))
    mt_expect(m, "="), mt_data(m, t, false, NULL);
  return t;
}

/* ---- values ---- */

static Onnx__TensorShapeProto *mt_shape(ModelText *m) {
  VEC(Onnx__TensorShapeProto__Dimension *) dims = {0};
  Onnx__TensorShapeProto *s = NEW(m->a, Onnx__TensorShapeProto);
  onnx__tensor_shape_proto__init(s);
  while (!mt_eat(m, "]")) {
    Onnx__TensorShapeProto__Dimension *d = NEW(m->a, Onnx__TensorShapeProto__Dimension);
    onnx__tensor_shape_proto__dimension__init(d);
    mt_blank(m);
    if (mt_is_number(m)) {
      d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
      d->dim_value = mt_int(m);
    } else if (!mt_eat(m, "?")) {
      d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
      d->dim_param = mt_word(m);
    }
    vec_push(m->a, &dims, d);
    mt_eat(m, ",");
  }
  s->n_dim = (size_t)dims.n;
  s->dim = dims.at;
  return s;
}

static Onnx__ValueInfoProto *mt_value(ModelText *m) {
  Onnx__ValueInfoProto *v = NEW(m->a, Onnx__ValueInfoProto);
  onnx__value_info_proto__init(v);
  v->name = mt_name(m);
  if (mt_at_end(m)) return v;
  v->type = NEW(m->a, Onnx__TypeProto);
  onnx__type_proto__init(v->type);
  if (mt_eat(m, "sequence"))
    v->type->value_case = ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE;
  else if (mt_eat(m, "optional"))
    v->type->value_case = ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE;
  else if (mt_eat(m, "map"))
    v->type->value_case = ONNX__TYPE_PROTO__VALUE_MAP_TYPE;
  else if (mt_eat(m, "sparse"))
    v->type->value_case = ONNX__TYPE_PROTO__VALUE_SPARSE_TENSOR_TYPE;
  else
    v->type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
  Onnx__TypeProto__Tensor *t = NEW(m->a, Onnx__TypeProto__Tensor);
  onnx__type_proto__tensor__init(t);
  if (v->type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE) {
    /* All five are messages that may be empty: any empty one is packed. */
    v->type->sequence_type = NEW(m->a, Onnx__TypeProto__Sequence);
    onnx__type_proto__sequence__init(v->type->sequence_type);
    return v;
  }
  v->type->tensor_type = t;
  t->has_elem_type = 1;
  t->elem_type = mt_type(m);
  if (mt_eat(m, "[")) t->shape = mt_shape(m);
  return v;
}

/* ---- nodes ---- */

static Onnx__GraphProto *mt_graph(ModelText *m, char *name) {
  for (int i = 0; i < m->graphs.n; i++)
    if (!strcmp(m->graphs.at[i]->name, name)) return m->graphs.at[i];
  Onnx__GraphProto *g = NEW(m->a, Onnx__GraphProto);
  onnx__graph_proto__init(g);
  g->name = name;
  vec_push(m->a, &m->graphs, g);
  return g;
}

static void mt_list(ModelText *m, Onnx__AttributeProto *a) {
  VEC(int64_t) ints = {0};
  VEC(float) floats = {0};
  bool all = true;
  while (!mt_eat(m, "]")) {
    bool integer;
    int64_t whole;
    vec_push(m->a, &floats, (float)mt_number(m, &integer, &whole));
    vec_push(m->a, &ints, whole);
    all &= integer;
    mt_eat(m, ",");
  }
  a->type = all ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS : ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS;
  a->ints = ints.at;
  a->floats = floats.at;
  *(all ? &a->n_ints : &a->n_floats) = (size_t)ints.n;
}

static void mt_attribute_value(ModelText *m, Onnx__AttributeProto *a) {
  bool integer;
  mt_blank(m);
  a->has_type = 1;
  if (*m->s == '"') {
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING;
    char *s = mt_word(m);
    a->has_s = 1;
    a->s = (ProtobufCBinaryData){strlen(s), (uint8_t *)s};
  } else if (mt_eat(m, "$")) {
    a->ref_attr_name = mt_word(m);
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
  } else if (mt_eat(m, "%")) {
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH;
    a->g = mt_graph(m, mt_word(m));
  } else if (mt_eat(m, "@")) {
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
    a->has_i = 1;
    a->i = mt_type(m);
  } else if (mt_eat(m, "[")) {
    mt_list(m, a);
  } else if (mt_is_number(m)) {
    double x = mt_number(m, &integer, &a->i);
    a->f = (float)x;
    a->has_i = integer;
    a->has_f = !integer;
    a->type = integer ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT : ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
  } else {
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR;
    a->t = mt_tensor_head(m);
    mt_expect(m, "{");
    mt_data(m, a->t, false, "}");
  }
}

static Onnx__AttributeProto *mt_attribute(ModelText *m, char *name) {
  Onnx__AttributeProto *a = NEW(m->a, Onnx__AttributeProto);
  onnx__attribute_proto__init(a);
  a->name = name;
  mt_attribute_value(m, a);
  return a;
}

/* A length-delimited field the generated code may not know. */
static void mt_unknown(ModelText *m, ProtobufCMessage *to, unsigned tag, const uint8_t *data, size_t n) {
  ProtobufCMessageUnknownField *u = NEW_N(m->a, ProtobufCMessageUnknownField, to->n_unknown_fields + 1);
  if (to->n_unknown_fields) memcpy(u, to->unknown_fields, to->n_unknown_fields * sizeof *u);
  uint8_t *bytes = arena_alloc(m->a, n + 10);
  size_t at = 0, left = n;
  for (; left >= 128; left >>= 7) bytes[at++] = (uint8_t)(left | 128);
  bytes[at++] = (uint8_t)left;
  memcpy(bytes + at, data, n);
  u[to->n_unknown_fields++] = (ProtobufCMessageUnknownField){tag, PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED, at + n, bytes};
  to->unknown_fields = u;
}

static void mt_names(ModelText *m, char ***out, size_t *n, const char *stop) {
  VEC(char *) names = {0};
  while (stop ? !mt_eat(m, stop) : true) {
    vec_push(m->a, &names, mt_name(m));
    if (!mt_eat(m, ",") && !stop) break;
  }
  *out = names.at;
  *n = (size_t)names.n;
}

static Onnx__NodeProto *mt_node(ModelText *m) {
  Onnx__NodeProto *p = NEW(m->a, Onnx__NodeProto);
  onnx__node_proto__init(p);
  VEC(Onnx__AttributeProto *) attrs = {0};
  p->op_type = mt_word(m);
  mt_expect(m, "(");
  mt_names(m, &p->input, &p->n_input, ")");
  mt_expect(m, "->");
  mt_names(m, &p->output, &p->n_output, NULL);
  while (!mt_at_end(m)) {
    char *key = mt_word(m);
    mt_expect(m, "=");
    if (!strcmp(key, "name")) {
      p->name = mt_word(m);
    } else if (!strcmp(key, "domain")) {
      p->domain = mt_word(m);
    } else if (!strcmp(key, "overload")) {
      char *s = mt_word(m);
      mt_unknown(m, &p->base, 8, (const uint8_t *)s, strlen(s));
    } else {
      vec_push(m->a, &attrs, mt_attribute(m, key));
    }
  }
  p->n_attribute = (size_t)attrs.n;
  p->attribute = attrs.at;
  return p;
}

/* ---- graphs, functions, the model ---- */

typedef struct GraphParts {
  VEC(Onnx__NodeProto *) nodes;
  VEC(Onnx__ValueInfoProto *) in, out;
  VEC(Onnx__TensorProto *) init;
  VEC(Onnx__SparseTensorProto *) sparse;
  VEC(Onnx__OperatorSetIdProto *) opsets;
  VEC(Onnx__FunctionProto *) functions;
  int64_t ir;
} GraphParts;

static void mt_function(ModelText *m, GraphParts *outer);
static void mt_subgraph(ModelText *m);

static void mt_opset(ModelText *m, GraphParts *g) {
  Onnx__OperatorSetIdProto *o = NEW(m->a, Onnx__OperatorSetIdProto);
  onnx__operator_set_id_proto__init(o);
  mt_blank(m);
  if (!mt_is_number(m)) o->domain = mt_word(m);
  o->has_version = 1;
  o->version = mt_int(m);
  vec_push(m->a, &g->opsets, o);
}

static void mt_sparse(ModelText *m, GraphParts *g) {
  Onnx__SparseTensorProto *s = NEW(m->a, Onnx__SparseTensorProto);
  onnx__sparse_tensor_proto__init(s);
  s->values = NEW(m->a, Onnx__TensorProto);
  onnx__tensor_proto__init(s->values);
  s->values->name = mt_name(m);
  vec_push(m->a, &g->sparse, s);
}

/* Lines up to the end of the text or "end". */
static void mt_parts(ModelText *m, GraphParts *g) {
  for (; *m->s; mt_next_line(m)) {
    if (mt_at_end(m)) continue;
    if (mt_eat(m, "end")) return;
    if (mt_eat(m, "ir "))
      g->ir = mt_int(m);
    else if (mt_eat(m, "opset "))
      mt_opset(m, g);
    else if (mt_eat(m, "input "))
      vec_push(m->a, &g->in, mt_value(m));
    else if (mt_eat(m, "output "))
      vec_push(m->a, &g->out, mt_value(m));
    else if (mt_eat(m, "init "))
      vec_push(m->a, &g->init, mt_initializer(m));
    else if (mt_eat(m, "sparse "))
      mt_sparse(m, g);
    else if (mt_eat(m, "node "))
      vec_push(m->a, &g->nodes, mt_node(m));
    else if (mt_eat(m, "graph "))
      mt_subgraph(m);
    else if (mt_eat(m, "function "))
      mt_function(m, g);
    else
      mt_fail(m, "what is this?");
    if (!mt_at_end(m)) mt_fail(m, "more than expected");
  }
}

static void mt_fill_graph(Onnx__GraphProto *p, const GraphParts *g) {
  p->n_node = (size_t)g->nodes.n, p->node = g->nodes.at;
  p->n_input = (size_t)g->in.n, p->input = g->in.at;
  p->n_output = (size_t)g->out.n, p->output = g->out.at;
  p->n_initializer = (size_t)g->init.n, p->initializer = g->init.at;
  p->n_sparse_initializer = (size_t)g->sparse.n, p->sparse_initializer = g->sparse.at;
}

static void mt_subgraph(ModelText *m) {
  GraphParts g = {0};
  Onnx__GraphProto *p = mt_graph(m, mt_word(m));
  mt_next_line(m);
  mt_parts(m, &g);
  mt_fill_graph(p, &g);
}

static void mt_function(ModelText *m, GraphParts *outer) {
  Onnx__FunctionProto *f = NEW(m->a, Onnx__FunctionProto);
  onnx__function_proto__init(f);
  VEC(char *) attrs = {0};
  GraphParts g = {0};
  f->domain = mt_name(m);
  f->name = mt_word(m);
  mt_expect(m, "(");
  mt_names(m, &f->input, &f->n_input, ")");
  mt_expect(m, "->");
  mt_names(m, &f->output, &f->n_output, NULL);
  while (!mt_at_end(m)) {
    char *key = mt_word(m);
    if (!mt_eat(m, "=")) {
      vec_push(m->a, &attrs, key);
    } else if (!strcmp(key, "overload")) {
      char *s = mt_word(m);
      mt_unknown(m, &f->base, 13, (const uint8_t *)s, strlen(s));
    } else {
      Onnx__AttributeProto *a = mt_attribute(m, key);
      size_t n = onnx__attribute_proto__get_packed_size(a);
      uint8_t *bytes = arena_alloc(m->a, n);
      onnx__attribute_proto__pack(a, bytes);
      mt_unknown(m, &f->base, 11, bytes, n);
    }
  }
  f->n_attribute = (size_t)attrs.n, f->attribute = attrs.at;
  mt_next_line(m);
  mt_parts(m, &g);
  f->n_node = (size_t)g.nodes.n, f->node = g.nodes.at;
  f->n_opset_import = (size_t)g.opsets.n, f->opset_import = g.opsets.at;
  vec_push(m->a, &outer->functions, f);
}

static Onnx__ModelProto *model_text_parse(Arena *a, const char *text) {
  ModelText m = {.a = a, .s = text, .line = 1};
  GraphParts g = {.ir = 8};
  mt_parts(&m, &g);
  bool standard = false;
  for (int i = 0; i < g.opsets.n; i++) standard |= !g.opsets.at[i]->domain;
  if (!standard) {
    ModelText seventeen = {.a = a, .s = "17", .line = 1};
    mt_opset(&seventeen, &g);
  }
  Onnx__ModelProto *p = NEW(a, Onnx__ModelProto);
  onnx__model_proto__init(p);
  p->has_ir_version = 1;
  p->ir_version = g.ir;
  p->n_opset_import = (size_t)g.opsets.n, p->opset_import = g.opsets.at;
  p->n_functions = (size_t)g.functions.n, p->functions = g.functions.at;
  p->graph = NEW(a, Onnx__GraphProto);
  onnx__graph_proto__init(p->graph);
  p->graph->name = arena_strdup(a, "test");
  mt_fill_graph(p->graph, &g);
  return p;
}

/* The model's file. */
static inline uint8_t *model_text_pack(Arena *a, const char *text, size_t *n) {
  Onnx__ModelProto *p = model_text_parse(a, text);
  *n = onnx__model_proto__get_packed_size(p);
  uint8_t *bytes = arena_alloc(a, *n);
  onnx__model_proto__pack(p, bytes);
  return bytes;
}

#endif
