/* Graph builder over the protobuf-c messages of onnx.proto.
 *
 * The message tree is built in an arena; weights live in blocks of their own. Packing streams into the file (protobuf-c's buffer
 * interface), so peak memory is the weights once, not twice. Strings given by the caller are borrowed and must outlive the graph.
 * Initializers are raw_data: little-endian by definition, so a big-endian host swaps before writing. */
#define _POSIX_C_SOURCE 200809L
#include "spinenet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "onnx.pb-c.h"

/* Growing list of pointers; protobuf-c wants repeated messages as an array of pointers. */
typedef struct {
  void **v;
  size_t n, cap;
} List;

struct Onnx {
  Arena mem;
  int opset;
  bool dry;
  int64_t weight_bytes;
  List nodes, weights, inputs, outputs;
};

/* IR version of the ONNX release that brought each opset, from 13 (ONNX versioning document). */
static const int ir_versions[] = {7, 7, 8, 8, 8, 8, 9, 9, 10, 10, 11, 12, 13};
_Static_assert(sizeof ir_versions / sizeof *ir_versions == ONNX_MAX_OPSET - ONNX_MIN_OPSET + 1, "one IR version per opset");

static void list_add(List *l, void *p) {
  if (l->n == l->cap) {
    l->cap = l->cap ? 2 * l->cap : 256;
    l->v = realloc(l->v, l->cap * sizeof *l->v);
    if (!l->v) die("out of memory");
  }
  l->v[l->n++] = p;
}

Onnx *onnx_new(int opset, bool dry) {
  Onnx *o = calloc(1, sizeof *o);
  if (!o) die("out of memory");
  o->opset = opset;
  o->dry = dry;
  return o;
}

void onnx_free(Onnx *o) {
  if (!o) return;
  for (size_t i = 0; i < o->weights.n; i++) free(((Onnx__TensorProto *)o->weights.v[i])->raw_data.data);
  free(o->nodes.v);
  free(o->weights.v);
  free(o->inputs.v);
  free(o->outputs.v);
  arena_free(&o->mem);
  free(o);
}

int onnx_node_count(const Onnx *o) { return (int)o->nodes.n; }
int64_t onnx_weight_bytes(const Onnx *o) { return o->weight_bytes; }

/* ---- building ---- */

static int64_t *copy_ints(Onnx *o, int n, const int64_t *v) {
  int64_t *p = arena_array(&o->mem, (size_t)n, sizeof *p);
  if (n) memcpy(p, v, (size_t)n * sizeof *p);
  return p;
}

float *onnx_weights(Onnx *o, const char *name, int rank, const int64_t *dims) {
  int64_t count = 1;
  for (int i = 0; i < rank; i++) count *= dims[i];
  o->weight_bytes += count * (int64_t)sizeof(float);
  if (o->dry) return NULL;
  Onnx__TensorProto *t = arena_get(&o->mem, sizeof *t);
  const size_t n = (size_t)count;
  onnx__tensor_proto__init(t);
  t->name = (char *)name;
  t->n_dims = (size_t)rank;
  t->dims = copy_ints(o, rank, dims);
  t->has_data_type = true;
  t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
  t->has_raw_data = true;
  t->raw_data.len = n * sizeof(float);
  t->raw_data.data = calloc(n ? n : 1, sizeof(float));
  if (!t->raw_data.data) die("out of memory (%zu bytes for %s)", t->raw_data.len, name);
  list_add(&o->weights, t);
  return (float *)(void *)t->raw_data.data;
}

OnnxNode *onnx_node(Onnx *o, const char *op, const char *name, int n_inputs, const char *const *inputs, const char *output) {
  Onnx__NodeProto *n = arena_get(&o->mem, sizeof *n);
  onnx__node_proto__init(n);
  n->op_type = (char *)op;
  n->name = (char *)name;
  n->n_input = (size_t)n_inputs;
  n->input = arena_array(&o->mem, (size_t)n_inputs, sizeof *n->input);
  for (int i = 0; i < n_inputs; i++) n->input[i] = (char *)inputs[i];
  n->n_output = 1;
  n->output = arena_get(&o->mem, sizeof *n->output);
  n->output[0] = (char *)output;
  list_add(&o->nodes, n);
  return n;
}

static Onnx__AttributeProto *add_attr(Onnx *o, OnnxNode *node, const char *name, Onnx__AttributeProto__AttributeType type) {
  Onnx__AttributeProto *a = arena_get(&o->mem, sizeof *a);
  onnx__attribute_proto__init(a);
  a->name = (char *)name;
  a->has_type = true;
  a->type = type;
  Onnx__AttributeProto **all = arena_array(&o->mem, node->n_attribute + 1, sizeof(Onnx__AttributeProto *));
  if (node->n_attribute) memcpy(all, node->attribute, node->n_attribute * sizeof *all);
  all[node->n_attribute++] = a;
  node->attribute = all;
  return a;
}

void onnx_attr_int(Onnx *o, OnnxNode *node, const char *name, int64_t v) {
  Onnx__AttributeProto *a = add_attr(o, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
  a->has_i = true;
  a->i = v;
}

void onnx_attr_float(Onnx *o, OnnxNode *node, const char *name, float v) {
  Onnx__AttributeProto *a = add_attr(o, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
  a->has_f = true;
  a->f = v;
}

void onnx_attr_string(Onnx *o, OnnxNode *node, const char *name, const char *v) {
  Onnx__AttributeProto *a = add_attr(o, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);
  a->has_s = true;
  a->s = (ProtobufCBinaryData){.len = strlen(v), .data = (uint8_t *)(char *)v};
}

void onnx_attr_ints(Onnx *o, OnnxNode *node, const char *name, int n, const int64_t *v) {
  Onnx__AttributeProto *a = add_attr(o, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
  a->n_ints = (size_t)n;
  a->ints = copy_ints(o, n, v);
}

static Onnx__ValueInfoProto *value_info(Onnx *o, const char *name, int rank, const int64_t *dims, const char *symbol) {
  Onnx__ValueInfoProto *v = arena_get(&o->mem, sizeof *v);
  Onnx__TypeProto *type = arena_get(&o->mem, sizeof *type);
  Onnx__TypeProto__Tensor *tensor = arena_get(&o->mem, sizeof *tensor);
  Onnx__TensorShapeProto *shape = arena_get(&o->mem, sizeof *shape);
  onnx__value_info_proto__init(v);
  onnx__type_proto__init(type);
  onnx__type_proto__tensor__init(tensor);
  onnx__tensor_shape_proto__init(shape);
  v->name = (char *)name;
  v->type = type;
  type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
  type->tensor_type = tensor;
  tensor->has_elem_type = true;
  tensor->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
  tensor->shape = shape;
  shape->n_dim = (size_t)rank;
  shape->dim = arena_array(&o->mem, (size_t)rank, sizeof *shape->dim);
  for (int i = 0; i < rank; i++) {
    Onnx__TensorShapeProto__Dimension *d = shape->dim[i] = arena_get(&o->mem, sizeof *d);
    onnx__tensor_shape_proto__dimension__init(d);
    if (i == 0 && symbol) {
      d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
      d->dim_param = (char *)symbol;
    } else {
      d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
      d->dim_value = dims[i];
    }
  }
  return v;
}

void onnx_input(Onnx *o, const char *name, int rank, const int64_t *dims, const char *symbol) {
  list_add(&o->inputs, value_info(o, name, rank, dims, symbol));
}

void onnx_output(Onnx *o, const char *name, int rank, const int64_t *dims, const char *symbol) {
  list_add(&o->outputs, value_info(o, name, rank, dims, symbol));
}

/* ---- writing ---- */

static void weights_to_little_endian(Onnx *o) {
  const uint16_t probe = 1;
  if (*(const uint8_t *)&probe) return;
  for (size_t i = 0; i < o->weights.n; i++) {
    ProtobufCBinaryData *d = &((Onnx__TensorProto *)o->weights.v[i])->raw_data;
    for (size_t k = 0; k + 4 <= d->len; k += 4) {
      uint8_t *b = d->data + k, t = b[0], u = b[1];
      b[0] = b[3], b[1] = b[2], b[2] = u, b[3] = t;
    }
  }
}

typedef struct {
  ProtobufCBuffer base;
  FILE *file;
  int64_t bytes;
  bool failed;
} FileBuffer;

static void file_append(ProtobufCBuffer *base, size_t n, const uint8_t *data) {
  FileBuffer *b = (FileBuffer *)base;
  if (!b->failed && fwrite(data, 1, n, b->file) != n) b->failed = true;
  b->bytes += (int64_t)n;
}

/* A new file beside `path`; its name goes to *temp (malloc). Existing things that are no regular file are refused: a rename would replace
 * a device or a directory entry. */
static FILE *open_beside(const char *path, char **temp) {
  struct stat st;
  if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
    complain("%s: not a regular file", path);
    return NULL;
  }
  size_t n = strlen(path) + sizeof ".XXXXXX";
  *temp = malloc(n);
  if (!*temp) die("out of memory");
  snprintf(*temp, n, "%s.XXXXXX", path);
  int fd = mkstemp(*temp);
  FILE *f = fd < 0 ? NULL : fdopen(fd, "wb");
  if (f) {
    mode_t mask = umask(0);
    umask(mask);
    if (fchmod(fd, 0666 & ~mask) == 0) return f;
    fclose(f);
    unlink(*temp);
  }
  complain("%s: cannot create a file beside it: %s", path, strerror(errno));
  free(*temp);
  return NULL;
}

int64_t onnx_write(Onnx *o, const char *path, const char *graph_name, const char *doc) {
  Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT, *opsets[] = {&opset};
  Onnx__GraphProto g = ONNX__GRAPH_PROTO__INIT;
  Onnx__ModelProto m = ONNX__MODEL_PROTO__INIT;
  char *temp;

  opset.domain = (char *)"";
  opset.has_version = true;
  opset.version = o->opset;
  g.name = (char *)graph_name;
  g.n_node = o->nodes.n, g.node = (Onnx__NodeProto **)o->nodes.v;
  g.n_initializer = o->weights.n, g.initializer = (Onnx__TensorProto **)o->weights.v;
  g.n_input = o->inputs.n, g.input = (Onnx__ValueInfoProto **)o->inputs.v;
  g.n_output = o->outputs.n, g.output = (Onnx__ValueInfoProto **)o->outputs.v;
  m.has_ir_version = true;
  m.ir_version = ir_versions[o->opset - ONNX_MIN_OPSET];
  m.producer_name = (char *)"spinenet-gen";
  m.producer_version = (char *)SPINENET_GEN_VERSION;
  m.doc_string = (char *)doc;
  m.n_opset_import = 1, m.opset_import = opsets;
  m.graph = &g;

  FILE *f = open_beside(path, &temp);
  if (!f) return -1;
  weights_to_little_endian(o);
  FileBuffer b = {.base.append = file_append, .file = f};
  errno = 0;
  protobuf_c_message_pack_to_buffer(&m.base, &b.base);
  b.failed |= fflush(f) != 0;
  b.failed |= fclose(f) != 0;
  if (b.failed || rename(temp, path) != 0) {
    complain("%s: %s", path, errno ? strerror(errno) : "write failed");
    unlink(temp);
    b.bytes = -1;
  }
  free(temp);
  return b.bytes;
}
