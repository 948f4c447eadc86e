/* frontend/frontend.h: from an ONNX file to the Graph IR. The only place that knows protobuf, opsets and composite operators.
 *
 * Sections, one per file:  onnx_file.c (reading, tensors) · external_data.c · onnx_import.c (the walk) · opset.c and op_*.c (one table of
 * ONNX operators: versions and how each becomes canonical nodes) · function.c (model-local functions)
 *
 * The import is one walk in topological order. Each ONNX node becomes canonical nodes whose types and shapes are inferred at once, and what
 * has only constant operands is evaluated at once, so that shape arithmetic ends here and every canonical attribute is a number.
 */
#ifndef FRONTEND_H
#define FRONTEND_H

#include "../ir/graph.h"

typedef struct ImportOptions {
  const spinec_load_options *load;                     /* may be NULL */
  bool (*fold)(Graph *g, Node *n, void *user);         /* evaluates a node of constant operands; false after reporting */
  void *fold_user;
} ImportOptions;

/* NULL after reporting every unsupported node and every error found. The graph borrows weights from the parsed file, which the arena frees. */
Graph *onnx_import(Arena *a, Diag *d, const char *path, const ImportOptions *o);

/* A TensorProto file (.pb), e.g. of ONNX test data. out->data is malloc'ed. Sequences and maps are refused. */
Status onnx_tensor_load(const char *path, spinec_tensor *out, Diag *d);
/* Writes one, to a temporary name first. */
Status onnx_tensor_save(const char *path, const char *name, const spinec_tensor *t, Diag *d);

/* Operators by ONNX name, for documentation and `inspect`: the i-th supported name, NULL past the end. */
const char *onnx_supported_op(int i);

#endif
