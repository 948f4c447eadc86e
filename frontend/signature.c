/* signature.c: the graph's inputs and outputs.
 *
 * Every dimension gets its size here. What gives one, in this order: --dim for a symbol; a shape or a value given for an input, which also
 * settles the symbols the input declares; the model's own numbers. All that remains open is reported in one message. An input for which a
 * value is given becomes a constant and leaves the signature; so does one the model has an initializer for (IR version 3 lists all weights
 * as inputs).
 */
#include "import.h"

#include <string.h>

typedef struct Symbol {
  const char *name;
  int64_t n;
} Symbol;

typedef struct Input {
  const Onnx__ValueInfoProto *info;
  const spinec_shape_binding *shape; /* given, or NULL */
  const spinec_value_binding *value;
  DType dt;
  int position; /* among the inputs without an initializer */
  bool ok;
} Input;

typedef struct Signature {
  Import *im;
  VEC(Symbol) symbols;
  VEC(Input) inputs;
} Signature;

/* The caller's mistake; gives false. */
static bool option_bad(Signature *s, const char *hint, const char *fmt, ...) PRINTF_LIKE(3, 4);
static bool option_bad(Signature *s, const char *hint, const char *fmt, ...) {
  char text[512];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  import_error(s->im, SPINEC_ERR_OPTION, hint, "%s", text);
  return false;
}

/* ---- symbols ---- */

static Symbol *symbol_find(Signature *s, const char *name) {
  for (int i = 0; i < s->symbols.n; i++)
    if (!strcmp(s->symbols.at[i].name, name)) return &s->symbols.at[i];
  return NULL;
}

/* input: whose shape gives the size; NULL: the caller does. */
static bool symbol_set(Signature *s, const char *name, int64_t n, const char *input) {
  Symbol *had = symbol_find(s, name);
  if (!had) {
    vec_push(s->im->arena, &s->symbols, ((Symbol){name, n}));
    return true;
  }
  if (had->n == n) return true;
  if (!input) return option_bad(s, NULL, "dimension '%s' is given twice", shown(s->im, name));
  return option_bad(s, NULL, "dimension '%s' is %lld, but input '%s' makes it %lld", shown(s->im, name), (long long)had->n,
                    shown(s->im, input), (long long)n);
}

static const char *dim_symbol(const Onnx__TensorShapeProto__Dimension *d) {
  bool named = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM && !name_empty(d->dim_param);
  return named ? d->dim_param : NULL;
}

/* Exporters write -1 where they mean nothing. */
static bool dim_number(const Onnx__TensorShapeProto__Dimension *d, int64_t *out) {
  *out = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE ? d->dim_value : -1;
  return *out >= 0;
}

static const Onnx__TensorShapeProto *declared(const Onnx__ValueInfoProto *info) {
  bool tensor = info->type && info->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE && info->type->tensor_type;
  return tensor ? info->type->tensor_type->shape : NULL;
}

static void text_shape(Text *t, int rank, const int64_t *dims) {
  for (int i = 0; i < rank; i++) text_addf(t, "%s%lld", i ? "x" : "", (long long)dims[i]);
  if (!rank) text_add(t, "a scalar");
}

static void text_declared(Text *t, Import *im, const Onnx__TensorShapeProto *shape) {
  text_add(t, "[");
  for (size_t i = 0; i < shape->n_dim && i < 2 * MAX_RANK; i++) {
    int64_t n;
    if (i) text_add(t, ",");
    if (dim_symbol(shape->dim[i]))
      text_add(t, shown(im, dim_symbol(shape->dim[i])));
    else if (dim_number(shape->dim[i], &n))
      text_addf(t, "%lld", (long long)n);
    else
      text_add(t, "?");
  }
  text_add(t, "]");
}

/* ---- what the caller gave ---- */

/* Not a switch: which kinds there are depends on the version of onnx.proto. */
static const char *type_name(const Onnx__TypeProto *t) {
  if (t->value_case == ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE) return "a sequence";
  if (t->value_case == ONNX__TYPE_PROTO__VALUE_MAP_TYPE) return "a map";
  if (t->value_case == ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE) return "an optional";
  if (t->value_case == ONNX__TYPE_PROTO__VALUE_SPARSE_TENSOR_TYPE) return "a sparse tensor";
  return "of no type known here";
}

/* The element type of an input or output; DT_NONE after reporting. */
static DType info_dtype(Import *im, const char *what, const Onnx__ValueInfoProto *info) {
  const char *why;
  if (!info->type || info->type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || !info->type->tensor_type) {
    import_error(im, SPINEC_ERR_UNSUPPORTED, NULL, "%s '%s' is %s; only tensors are supported", what, shown(im, info->name),
                 info->type ? type_name(info->type) : "of no type known here");
    return DT_NONE;
  }
  DType t = onnx_dtype(info->type->tensor_type->elem_type, &why);
  if (t && dt_computable(t)) return t;
  import_error(im, SPINEC_ERR_UNSUPPORTED, NULL, "%s '%s' has element type %s, which is not supported", what, shown(im, info->name),
               t ? dt_name(t) : why);
  return DT_NONE;
}

static bool check_given_dims(Signature *s, const Input *in, int rank, const int64_t *dims) {
  const Onnx__TensorShapeProto *shape = declared(in->info);
  const char *name = in->info->name;
  if (rank < 0 || rank > MAX_RANK) return option_bad(s, NULL, "rank %d given for input '%s'", rank, shown(s->im, name));
  for (int i = 0; i < rank; i++)
    if (dims[i] < 0 || dims[i] > MAX_DIM)
      return option_bad(s, NULL, "dimension %lld given for input '%s'", (long long)dims[i], shown(s->im, name));
  if (!shape) return true;
  Text given = {.a = s->im->arena}, want = {.a = s->im->arena};
  text_shape(&given, rank, dims);
  text_declared(&want, s->im, shape);
  bool fits = shape->n_dim == (size_t)rank;
  for (int i = 0; fits && i < rank; i++) {
    int64_t n;
    fits = !dim_number(shape->dim[i], &n) || n == dims[i];
  }
  if (!fits) return option_bad(s, NULL, "input '%s' is declared %s, given is %s", shown(s->im, name), want.s, given.s);
  for (int i = 0; i < rank; i++)
    if (dim_symbol(shape->dim[i]) && !symbol_set(s, dim_symbol(shape->dim[i]), dims[i], name)) return false;
  return true;
}

static bool check_given_value(Signature *s, const Input *in) {
  const spinec_tensor *t = &in->value->value;
  const char *name = shown(s->im, in->info->name);
  if (t->dtype != in->dt)
    return option_bad(s, NULL, "input '%s' is of type %s, the value given is %s", name, dt_name(in->dt), dt_name(t->dtype));
  if (!check_given_dims(s, in, t->rank, t->dims)) return false;
  if (spinec_tensor_count(t) > MAX_TENSOR_BYTES / 8) return option_bad(s, NULL, "the value given for input '%s' is too large", name);
  return t->data || spinec_tensor_count(t) == 0 || option_bad(s, NULL, "the value given for input '%s' has no data", name);
}

static void match_options(Signature *s) {
  const spinec_load_options *l = s->im->load;
  for (int i = 0; i < l->ndims; i++) {
    if (l->dims[i].value < 0 || l->dims[i].value > MAX_DIM)
      option_bad(s, NULL, "dimension '%s' cannot be %lld", shown(s->im, l->dims[i].name), (long long)l->dims[i].value);
    else
      symbol_set(s, l->dims[i].name, l->dims[i].value, NULL);
  }
  for (int k = 0; k < s->inputs.n; k++) {
    Input *in = &s->inputs.at[k];
    for (int i = 0; i < l->nshapes; i++)
      if (l->shapes[i].name ? !strcmp(l->shapes[i].name, in->info->name) : i == in->position) in->shape = &l->shapes[i];
    for (int i = 0; i < l->nbind; i++)
      if (!strcmp(l->bind[i].name, in->info->name)) in->value = &l->bind[i];
    if (in->ok && in->shape) in->ok = check_given_dims(s, in, in->shape->rank, in->shape->dims);
    if (in->ok && in->value) in->ok = check_given_value(s, in);
  }
}

static bool has_input(const Signature *s, const char *name) {
  for (int i = 0; i < s->inputs.n; i++)
    if (!strcmp(s->inputs.at[i].info->name, name)) return true;
  return false;
}

/* Options that match nothing are mistakes: the caller meant something by them. */
static void check_all_used(Signature *s) {
  const spinec_load_options *l = s->im->load;
  Arena *a = s->im->arena;
  Text names = {.a = a}, symbols = {.a = a};
  if (!l->nshapes && !l->nbind && !l->ndims) return;
  for (int i = 0; i < s->inputs.n; i++) {
    const Onnx__TensorShapeProto *shape = declared(s->inputs.at[i].info);
    text_addf(&names, "%s %s", i ? "," : "the inputs are", shown(s->im, s->inputs.at[i].info->name));
    for (size_t k = 0; shape && k < shape->n_dim; k++)
      if (dim_symbol(shape->dim[k]))
        text_addf(&symbols, "%s %s", symbols.n ? "," : "its symbols are", shown(s->im, dim_symbol(shape->dim[k])));
  }
  for (int i = 0; i < l->nshapes; i++)
    if (!l->shapes[i].name && i >= s->inputs.n)
      option_bad(s, names.s, "a shape is given for input %d, which the model does not have", i);
    else if (l->shapes[i].name && !has_input(s, l->shapes[i].name))
      option_bad(s, names.s, "a shape is given for '%s', which is no input of the model", shown(s->im, l->shapes[i].name));
  for (int i = 0; i < l->nbind; i++)
    if (!has_input(s, l->bind[i].name))
      option_bad(s, names.s, "a value is given for '%s', which is no input of the model", shown(s->im, l->bind[i].name));
  for (int i = 0; i < l->ndims; i++) {
    bool used = false;
    for (int k = 0; k < s->inputs.n && !used; k++) {
      const Onnx__TensorShapeProto *shape = declared(s->inputs.at[k].info);
      for (size_t j = 0; shape && j < shape->n_dim; j++)
        if (dim_symbol(shape->dim[j]) && !strcmp(dim_symbol(shape->dim[j]), l->dims[i].name)) used = true;
    }
    if (!used) option_bad(s, symbols.s, "no input of the model has a dimension '%s'", shown(s->im, l->dims[i].name));
  }
}

/* ---- shapes ---- */

typedef struct Open {
  Text inputs, example;
  int n;
} Open; /* dimensions nothing gave a size to */

static void note_open(Signature *s, const Input *in, Open *open) {
  const Onnx__TensorShapeProto *shape = declared(in->info);
  Text *t = &open->inputs;
  text_addf(t, "%s'%s' ", open->n++ ? ", " : "", shown(s->im, in->info->name));
  if (shape)
    text_declared(t, s->im, shape);
  else
    text_add(t, "(no shape)");
  if (open->example.n) return;
  Text *e = &open->example;
  for (size_t i = 0; shape && i < shape->n_dim && !e->n; i++)
    if (dim_symbol(shape->dim[i]) && !symbol_find(s, dim_symbol(shape->dim[i])))
      text_addf(e, "--dim %s=1 or ", shown(s->im, dim_symbol(shape->dim[i])));
  text_addf(e, "--shape %s=", shown(s->im, in->info->name));
  for (size_t i = 0; shape && i < shape->n_dim && i < MAX_RANK; i++) {
    int64_t n;
    text_addf(e, "%s%lld", i ? "x" : "", dim_number(shape->dim[i], &n) ? (long long)n : 1);
  }
  if (!shape) text_add(e, "1x3x224x224");
}

/* False if a dimension is open. */
static bool resolve(Signature *s, const Input *in, Shape *out, Open *open) {
  const Onnx__TensorShapeProto *shape = declared(in->info);
  if (in->value || in->shape) {
    *out = in->value ? shape_of(in->value->value.rank, in->value->value.dims) : shape_of(in->shape->rank, in->shape->dims);
    return true;
  }
  bool all = shape != NULL;
  *out = (Shape){.rank = shape ? (int)shape->n_dim : 0};
  for (int i = 0; i < out->rank; i++) {
    const char *symbol = dim_symbol(shape->dim[i]);
    Symbol *known = symbol ? symbol_find(s, symbol) : NULL;
    if (known)
      out->d[i] = dim_of(known->n);
    else if (dim_number(shape->dim[i], &out->d[i].n))
      continue;
    else
      all = false;
  }
  if (!all) note_open(s, in, open);
  return all;
}

static void add_input(Signature *s, Scope *scope, const Input *in, const Shape *shape) {
  Import *im = s->im;
  const char *name = in->info->name;
  for (int i = 0; i < shape->rank; i++)
    if (shape->d[i].n > MAX_DIM || shape_count(shape) > MAX_TENSOR_BYTES / 8) {
      import_error(im, SPINEC_ERR_UNSUPPORTED, NULL, "input '%s' is too large", shown(im, name));
      scope_add(scope, name, NAME_POISONED, NULL);
      return;
    }
  Value *v;
  if (in->value) {
    size_t bytes = (size_t)shape_count(shape) * dt_size(in->dt);
    void *data = arena_alloc(im->arena, bytes);
    if (bytes) memcpy(data, in->value->value.data, bytes);
    v = graph_add_const(im->g, name, in->dt, shape, data);
  } else {
    v = graph_add_input(im->g, name, in->dt, shape);
    vec_push(im->arena, &im->position, in->position);
  }
  Name *n = scope_find(scope, name);
  if (n)
    *n = (Name){.text = name, .kind = NAME_VALUE, .v = v}; /* a value was given in place of the initializer */
  else
    scope_add(scope, name, NAME_VALUE, v);
}

static bool is_bound(const Import *im, const char *name) {
  for (int i = 0; i < im->load->nbind; i++)
    if (!strcmp(im->load->bind[i].name, name)) return true;
  return false;
}

static void collect(Signature *s, Scope *scope, const Onnx__GraphProto *g) {
  Import *im = s->im;
  Scope *seen = scope_new(im->arena, NULL);
  int position = 0;
  for (size_t i = 0; i < g->n_input; i++) {
    Input in = {.info = g->input[i], .position = position};
    const char *name = in.info->name;
    if (name_empty(name)) {
      import_error(im, SPINEC_ERR_INPUT, NULL, "input %zu has no name", i);
      continue;
    }
    if (!scope_add(seen, name, NAME_VALUE, NULL)) {
      import_error(im, SPINEC_ERR_INPUT, NULL, "'%s' is defined twice", shown(im, name));
      continue;
    }
    bool initialized = scope_find(scope, name) != NULL;
    if (initialized && !is_bound(im, name)) continue;
    if (!initialized) position++;
    in.dt = info_dtype(im, "input", in.info);
    in.ok = in.dt != DT_NONE;
    const Onnx__TensorShapeProto *shape = declared(in.info);
    if (in.ok && shape && shape->n_dim > MAX_RANK) {
      import_error(im, SPINEC_ERR_UNSUPPORTED, NULL, "input '%s' has %zu dimensions, at most %d are supported", shown(im, name),
                   shape->n_dim, MAX_RANK);
      in.ok = false;
    }
    vec_push(im->arena, &s->inputs, in);
  }
}

void import_inputs(Import *im, Scope *scope, const Onnx__GraphProto *g) {
  Signature s = {.im = im};
  collect(&s, scope, g);
  match_options(&s);
  check_all_used(&s);
  Open open = {.inputs = {.a = im->arena}, .example = {.a = im->arena}};
  for (int i = 0; i < s.inputs.n; i++) {
    const Input *in = &s.inputs.at[i];
    Shape shape;
    if (in->ok && resolve(&s, in, &shape, &open))
      add_input(&s, scope, in, &shape);
    else
      scope_add(scope, in->info->name, NAME_POISONED, NULL);
  }
  if (open.n)
    import_error(im, SPINEC_ERR_OPTION, open.example.s, "no size is known for dimensions of the input%s %s", open.n > 1 ? "s" : "",
                 open.inputs.s);
}

/* ---- outputs ---- */

/* Outputs must be written by a node of their own under their own name. */
static void add_output(Import *im, const char *name, Value *v) {
  if (v->is_input || v->is_output || value_is_const(v)) {
    if (value_is_const(v) && names_equal(v->name, name)) v->name = NULL;
    Node *n = graph_make(im->g, NULL, OP_Identity, NULL, &v, 1);
    if (!n) {
      im->errors++;
      return;
    }
    v = n->out[0];
  }
  v->name = arena_strdup(im->arena, name);
  graph_add_output(im->g, v);
}

static void check_output(Import *im, const Onnx__ValueInfoProto *info, Value *v) {
  const Onnx__TensorShapeProto *shape = declared(info);
  const char *why, *name = shown(im, info->name);
  if (!dt_computable(v->dt)) {
    import_error(im, SPINEC_ERR_UNSUPPORTED, NULL, "output '%s' has element type %s, which is not supported", name, dt_name(v->dt));
  } else if (shape && shape->n_dim != (size_t)v->shape.rank) {
    import_error(im, SPINEC_ERR_INPUT, NULL, "output '%s' is declared with %zu dimensions but computed with %d", name, shape->n_dim,
                 v->shape.rank);
  } else if (info->type && info->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE && info->type->tensor_type &&
             info->type->tensor_type->elem_type && onnx_dtype(info->type->tensor_type->elem_type, &why) != v->dt) {
    import_error(im, SPINEC_ERR_INPUT, NULL, "output '%s' is declared with element type %s but computed with %s", name,
                 why ? why : dt_name((DType)info->type->tensor_type->elem_type), dt_name(v->dt));
  } else {
    add_output(im, info->name, v);
  }
}

void import_outputs(Import *im, Scope *s, const Onnx__GraphProto *g) {
  Scope *seen = scope_new(im->arena, NULL);
  if (!g->n_output) import_error(im, SPINEC_ERR_INPUT, NULL, "the graph has no outputs");
  for (size_t i = 0; i < g->n_output; i++) {
    const Onnx__ValueInfoProto *info = g->output[i];
    if (name_empty(info->name)) {
      import_error(im, SPINEC_ERR_INPUT, NULL, "output %zu has no name", i);
      continue;
    }
    if (!scope_add(seen, info->name, NAME_VALUE, NULL)) {
      import_error(im, SPINEC_ERR_INPUT, NULL, "output '%s' is listed twice", shown(im, info->name));
      continue;
    }
    NameKind kind;
    Where w = {.file = im->file};
    Value *v = import_value(im, &w, s, info->name, &kind);
    if (kind == NAME_MISSING) import_error(im, SPINEC_ERR_INPUT, NULL, "nothing computes output '%s'", shown(im, info->name));
    if (v) check_output(im, info, v);
  }
}
