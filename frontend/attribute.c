/* attribute.c: what a handler asks of its node: attributes and constant operands, their types and ranges checked.
 *
 * In a function body an attribute may refer to one of the call's; the reference is followed through as many calls as it takes, then to the
 * function's default. Which attributes were asked for is remembered: one that no handler knows changes the meaning in a way we do not
 * know either, so the node is refused.
 */
#include "import.h"

#include <string.h>

Where onode_where(const Onode *o) {
  return (Where){.file = o->im->file, .node = o->label, .op = shown(o->im, o->proto->op_type), .opset = o->opset};
}

static void report(Onode *o, Status s, const char *hint, const char *fmt, va_list args) {
  char text[512];
  vsnprintf(text, sizeof text, fmt, args);
  Where w = onode_where(o);
  o->failed = true;
  o->im->errors++;
  diag_error(o->im->diag, s, &w, hint, "%s", text);
}

bool onnx_bad(Onode *o, const char *hint, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  report(o, SPINEC_ERR_INPUT, hint, fmt, args);
  va_end(args);
  return false;
}

bool onnx_refuse(Onode *o, const char *hint, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  report(o, SPINEC_ERR_UNSUPPORTED, hint, fmt, args);
  va_end(args);
  return false;
}

/* ---- attributes ---- */

static const Onnx__AttributeProto *find_in(const Frame *f, const Onnx__NodeProto *p, const char *name, size_t *index) {
  for (size_t i = 0; i < p->n_attribute; i++) {
    const Onnx__AttributeProto *a = p->attribute[i];
    if (!a->name || strcmp(a->name, name)) continue;
    if (index) *index = i;
    if (name_empty(a->ref_attr_name)) return a;
    if (!f->fn) return NULL;
    const Onnx__AttributeProto *given = find_in(f->up, f->call, a->ref_attr_name, NULL);
    for (int k = 0; !given && k < f->fn->ndefaults; k++)
      if (names_equal(f->fn->defaults[k]->name, a->ref_attr_name)) given = f->fn->defaults[k];
    return given;
  }
  return NULL;
}

static const Onnx__AttributeProto *find(Onode *o, const char *name) {
  size_t i = SIZE_MAX;
  const Onnx__AttributeProto *a = find_in(o->frame, o->proto, name, &i);
  if (i < 64) o->seen |= UINT64_C(1) << i;
  return a;
}

bool attr_given(Onode *o, const char *name) { return find(o, name) != NULL; }
void attr_ignore(Onode *o, const char *name) { find(o, name); }

bool attrs_all_seen(Onode *o) {
  for (size_t i = 0; i < o->proto->n_attribute; i++) {
    if (i < 64 && o->seen >> i & 1) continue;
    const char *name = o->proto->attribute[i]->name;
    return onnx_refuse(o, NULL, "attribute '%s' is not known for this operator", name ? shown(o->im, name) : "");
  }
  return true;
}

/* The attribute if it is there and of that type. */
static const Onnx__AttributeProto *typed(Onode *o, const char *name, Onnx__AttributeProto__AttributeType type, const char *type_name) {
  const Onnx__AttributeProto *a = find(o, name);
  if (!a || a->type == type) return a;
  onnx_bad(o, NULL, "attribute '%s' must be %s", name, type_name);
  return NULL;
}

int64_t attr_int(Onode *o, const char *name, int64_t otherwise) {
  const Onnx__AttributeProto *a = typed(o, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT, "an integer");
  return a ? a->i : otherwise;
}

int64_t attr_int_in(Onode *o, const char *name, int64_t otherwise, int64_t lo, int64_t hi) {
  int64_t x = attr_int(o, name, otherwise);
  if (x >= lo && x <= hi) return x;
  onnx_bad(o, NULL, "attribute '%s' is %lld, expected %lld to %lld", name, (long long)x, (long long)lo, (long long)hi);
  return lo;
}

bool attr_flag(Onode *o, const char *name, bool otherwise) { return attr_int(o, name, otherwise) != 0; }

double attr_float(Onode *o, const char *name, double otherwise) {
  const Onnx__AttributeProto *a = typed(o, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT, "a number");
  return a ? (double)a->f : otherwise;
}

const char *attr_string(Onode *o, const char *name, const char *otherwise) {
  const Onnx__AttributeProto *a = typed(o, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING, "a text");
  if (!a) return otherwise;
  if (a->s.len > MAX_LIST) {
    onnx_bad(o, NULL, "attribute '%s' is too long", name);
    return otherwise;
  }
  return arena_strndup(o->im->arena, (const char *)a->s.data, a->s.len);
}

int attr_choice(Onode *o, const char *name, const char *const *names, int otherwise) {
  const char *s = attr_string(o, name, NULL);
  if (!s) return otherwise;
  for (int i = 0; names[i]; i++)
    if (!strcmp(names[i], s)) return i;
  onnx_bad(o, NULL, "attribute '%s' is '%s', which is none of its values", name, shown(o->im, s));
  return otherwise;
}

static bool list_fits(Onode *o, const char *name, size_t n) {
  return n <= MAX_LIST || onnx_bad(o, NULL, "attribute '%s' has %zu elements", name, n);
}

bool attr_ints(Onode *o, const char *name, Ints *out) {
  *out = (Ints){0};
  const Onnx__AttributeProto *a = typed(o, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS, "a list of integers");
  if (!a || !list_fits(o, name, a->n_ints)) return false;
  *out = ints_copy(o->im->arena, a->ints, (int)a->n_ints);
  return true;
}

bool attr_floats(Onode *o, const char *name, Floats *out) {
  *out = (Floats){0};
  const Onnx__AttributeProto *a = typed(o, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS, "a list of numbers");
  if (!a || !list_fits(o, name, a->n_floats)) return false;
  double *v = NEW_N(o->im->arena, double, a->n_floats);
  for (size_t i = 0; i < a->n_floats; i++) v[i] = (double)a->floats[i];
  *out = (Floats){v, (int)a->n_floats};
  return true;
}

Ints attr_ints_n(Onode *o, const char *name, int n, int64_t otherwise, int64_t lo, int64_t hi) {
  Ints v, fill = ints_fill(o->im->arena, otherwise, n);
  if (!attr_ints(o, name, &v)) return fill;
  bool ok = v.n == n || onnx_bad(o, NULL, "attribute '%s' has %d elements, expected %d", name, v.n, n);
  for (int i = 0; ok && i < n; i++)
    if (v.v[i] < lo || v.v[i] > hi)
      ok = onnx_bad(o, NULL, "attribute '%s' holds %lld, expected %lld to %lld", name, (long long)v.v[i], (long long)lo, (long long)hi);
  return ok ? v : fill;
}

const Onnx__TensorProto *attr_tensor(Onode *o, const char *name) {
  const Onnx__AttributeProto *a = typed(o, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR, "a tensor");
  if (a && !a->t) onnx_bad(o, NULL, "attribute '%s' holds no tensor", name);
  return a ? a->t : NULL;
}

const Onnx__GraphProto *attr_graph(Onode *o, const char *name) {
  const Onnx__AttributeProto *a = typed(o, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH, "a graph");
  if (!a) return NULL;
  if (!a->g) onnx_bad(o, NULL, "attribute '%s' holds no graph", name);
  /* One handed through a function call would see the caller's names, not ours. */
  for (size_t i = 0; i < o->proto->n_attribute; i++)
    if (o->proto->attribute[i] == a) return a->g;
  onnx_refuse(o, NULL, "attribute '%s' is a graph handed to a function", name);
  return NULL;
}

static bool axis_ok(Onode *o, const char *what, int64_t axis, int rank, int *out) {
  *out = 0;
  return axis_normalise(axis, rank, out) || onnx_bad(o, NULL, "%s %lld is out of range for rank %d", what, (long long)axis, rank);
}

int attr_axis(Onode *o, const char *name, int64_t otherwise, int rank) {
  int axis;
  axis_ok(o, name, attr_int(o, name, otherwise), rank, &axis);
  return axis;
}

DType attr_dtype(Onode *o, const char *name, DType otherwise) {
  const char *why;
  if (!attr_given(o, name)) return otherwise;
  DType t = onnx_dtype(attr_int(o, name, 0), &why);
  if (t && dt_computable(t)) return t;
  if (!o->failed) onnx_refuse(o, NULL, "element type %s is not supported", t ? dt_name(t) : why);
  return DT_NONE;
}

/* ---- operands ---- */

bool wants_out(const Onode *o, int i) { return i < o->nout && !name_empty(o->proto->output[i]); }

typedef VEC(const Value *) Values;

/* The graph inputs v is computed from, through at most `budget` nodes: true if all of them are small lists of integers, such as a caller
 * could give at compile time. */
static bool small_inputs(const Value *v, Values *inputs, Arena *a, int *budget) {
  if (value_is_const(v)) return true;
  if (v->is_input) {
    for (int i = 0; i < inputs->n; i++)
      if (inputs->at[i] == v) return true;
    vec_push(a, inputs, v);
    return !dt_is_float(v->dt) && value_count(v) <= 64;
  }
  if (!v->def || --*budget < 0) return false;
  for (int i = 0; i < v->def->nin; i++)
    if (v->def->in[i] && !small_inputs(v->def->in[i], inputs, a, budget)) return false;
  return true;
}

static void report_unbound(Import *im, const Value *v) {
  for (int i = 0; i < im->g->inputs.n; i++)
    if (im->g->inputs.at[i] == v) diag_unbound_input(im->diag, v->name, im->position.at[i]);
}

bool const_in(Onode *o, int i, const char *what) {
  if (!has_in(o, i)) return !o->failed && onnx_bad(o, NULL, "%s is missing", what);
  const Value *v = o->in[i];
  if (value_is_const(v) || value_count(v) == 0) return true;
  Values inputs = {0};
  int budget = 64;
  if (v->is_input)
    vec_push(o->im->arena, &inputs, v);
  else if (!small_inputs(v, &inputs, o->im->arena, &budget))
    return onnx_refuse(o, "tensors whose size is known only at run time are not supported", "%s depends on the network's inputs", what);
  Text names = {.a = o->im->arena};
  for (int k = 0; k < inputs.n; k++) {
    report_unbound(o->im, inputs.at[k]);
    text_addf(&names, "%s'%s'", k ? ", " : "", shown(o->im, inputs.at[k]->name));
  }
  const char *hint = arena_printf(o->im->arena, "--bind %s=FILE", shown(o->im, inputs.at[0]->name));
  return onnx_refuse(o, hint, "%s must be known at compile time, but is computed from the input%s %s", what, inputs.n > 1 ? "s" : "",
                     names.s ? names.s : "");
}

static bool const_list(Onode *o, int i, const char *what, bool integers, int64_t *n) {
  if (!const_in(o, i, what)) return false;
  const Value *v = o->in[i];
  *n = value_count(v);
  if (v->shape.rank > 1) return onnx_bad(o, NULL, "%s has rank %d, expected a list", what, v->shape.rank);
  if (*n > MAX_LIST) return onnx_bad(o, NULL, "%s has %lld elements", what, (long long)*n);
  if (integers && !dt_is_int(v->dt)) return onnx_bad(o, NULL, "%s is of type %s, expected integers", what, dt_name(v->dt));
  if (!integers && !dt_is_float(v->dt)) return onnx_bad(o, NULL, "%s is of type %s, expected floating point", what, dt_name(v->dt));
  return true;
}

bool const_ints(Onode *o, int i, const char *what, Ints *out) {
  int64_t n;
  *out = (Ints){0};
  if (!const_list(o, i, what, true, &n)) return false;
  int64_t *v = NEW_N(o->im->arena, int64_t, n);
  for (int64_t k = 0; k < n; k++) v[k] = data_get_i(o->in[i]->data, o->in[i]->dt, k);
  *out = (Ints){v, (int)n};
  return true;
}

bool const_floats(Onode *o, int i, const char *what, Floats *out) {
  int64_t n;
  *out = (Floats){0};
  if (!const_list(o, i, what, false, &n)) return false;
  double *v = NEW_N(o->im->arena, double, n);
  for (int64_t k = 0; k < n; k++) v[k] = data_get_f(o->in[i]->data, o->in[i]->dt, k);
  *out = (Floats){v, (int)n};
  return true;
}

static bool const_one(Onode *o, int i, const char *what) {
  if (!const_in(o, i, what)) return false;
  return value_count(o->in[i]) == 1 || onnx_bad(o, NULL, "%s has %lld elements, expected one", what, (long long)value_count(o->in[i]));
}

bool const_int(Onode *o, int i, const char *what, int64_t *out) {
  *out = 0;
  if (!const_one(o, i, what)) return false;
  *out = data_get_i(o->in[i]->data, o->in[i]->dt, 0);
  return true;
}

bool const_float(Onode *o, int i, const char *what, double *out) {
  *out = 0;
  if (!const_one(o, i, what)) return false;
  *out = data_get_f(o->in[i]->data, o->in[i]->dt, 0);
  return true;
}

bool axes_of(Onode *o, int i, int since, int rank, Ints *out, bool *given) {
  Ints v = {0};
  *out = v;
  *given = o->opset < since ? attr_ints(o, "axes", &v) : has_in(o, i);
  if (o->failed) return false;
  if (!*given) return true;
  if (o->opset >= since && !const_ints(o, i, "the list of axes", &v)) return false;
  if (v.n > MAX_RANK) return onnx_bad(o, NULL, "%d axes given", v.n);
  int64_t *axes = NEW_N(o->im->arena, int64_t, v.n);
  unsigned had = 0;
  for (int k = 0; k < v.n; k++) {
    int axis;
    if (!axis_ok(o, "axis", v.v[k], rank, &axis)) return false;
    if (had >> axis & 1) return onnx_bad(o, NULL, "axis %d is given twice", axis);
    had |= 1u << axis;
    axes[k] = axis;
  }
  *out = (Ints){axes, v.n};
  return true;
}
