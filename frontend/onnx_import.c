/* onnx_import.c: the walk over an ONNX graph.
 *
 *   file -> ModelProto -> signature -> nodes in order, each through its row of the table -> outputs -> Graph
 *
 * Names are static single assignment. A node that fails has its outputs poisoned: what depends on them is passed over in silence, so that
 * one run reports every cause once, and consequences never.
 */
#include "import.h"

#include <string.h>

enum { SHOWN = 200, OLDEST_IR = 3 }; /* 3: the first with operator sets */

bool name_empty(const char *a) { return !a || !*a; }
bool names_equal(const char *a, const char *b) { return !strcmp(a ? a : "", b ? b : ""); }

const char *shown(Import *im, const char *name) {
  if (!name) return "";
  if (strlen(name) <= SHOWN) return name;
  return arena_printf(im->arena, "%.*s...", SHOWN - 3, name);
}

Status import_error(Import *im, Status s, const char *hint, const char *fmt, ...) {
  char text[512];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  im->errors++;
  Where w = {.file = im->file};
  return diag_error(im->diag, s, &w, hint, "%s", text);
}

/* ---- names ---- */

void import_initializers(Import *im, Scope *s, const Onnx__GraphProto *g, bool inner) {
  for (size_t i = 0; i < g->n_initializer; i++) {
    const Onnx__TensorProto *t = g->initializer[i];
    if (name_empty(t->name)) continue; /* nothing can refer to it */
    Name *n = scope_add(s, t->name, NAME_INIT, NULL);
    if (n)
      n->init = t, n->inner = inner;
    else
      import_error(im, SPINEC_ERR_INPUT, NULL, "'%s' is defined twice", shown(im, t->name));
  }
  for (size_t i = 0; i < g->n_sparse_initializer; i++) {
    const Onnx__SparseTensorProto *t = g->sparse_initializer[i];
    if (!t->values || name_empty(t->values->name)) continue;
    scope_add(s, t->values->name, NAME_POISONED, NULL);
    import_error(im, SPINEC_ERR_UNSUPPORTED, "store it as a dense tensor", "initializer '%s' is sparse", shown(im, t->values->name));
  }
}

static void make_initializer(Import *im, const Where *w, Name *n) {
  Tensor t;
  if (tensor_decode(im->arena, im->diag, w, n->init, shown(im, n->text), im->ext, &t)) {
    im->errors++;
    n->kind = NAME_POISONED;
  } else {
    n->v = graph_add_const(im->g, n->inner ? NULL : n->text, t.dt, &t.shape, t.data);
  }
}

Value *import_value(Import *im, const Where *w, Scope *s, const char *text, NameKind *kind) {
  Name *n = scope_find(s, text);
  if (!n) {
    *kind = NAME_MISSING;
    scope_add(s, text, NAME_POISONED, NULL)->missing = true;
    return NULL;
  }
  if (n->kind == NAME_INIT && !n->v) make_initializer(im, w, n);
  *kind = n->kind;
  return n->v;
}

/* ---- nodes ---- */

static const char *node_label(Import *im, const Frame *f, const Onnx__NodeProto *p, size_t index) {
  if (!name_empty(p->name)) return *f->label ? shown(im, arena_printf(im->arena, "%s%s", f->label, p->name)) : shown(im, p->name);
  const char *out = "";
  for (size_t i = 0; i < p->n_output && !*out; i++) out = shown(im, p->output[i]);
  return shown(im, arena_printf(im->arena, "%s#%zu -> %s", f->label, index, out));
}

static bool default_domain(const char *domain) { return name_empty(domain) || !strcmp(domain, "ai.onnx"); }

/* The version of the node's operator set; 0 if it is not imported. */
static int node_opset(const Frame *f, const char *domain) {
  for (size_t i = 0; i < f->nopsets; i++) {
    const Onnx__OperatorSetIdProto *id = f->opsets[i];
    bool same = default_domain(domain) ? default_domain(id->domain) : names_equal(domain, id->domain);
    if (same && id->version > 0 && id->version <= INT32_MAX) return (int)id->version;
  }
  return 0;
}

/* The operator's row, if it can be imported at all. */
static bool choose_row(Onode *o) {
  const char *op = shown(o->im, o->proto->op_type), *domain = shown(o->im, o->proto->domain);
  if (!default_domain(domain))
    return onnx_refuse(o, "export with standard ONNX operators only", "operators of domain '%s' are not supported", domain);
  if (!o->opset) return onnx_bad(o, NULL, "the model imports no operator set of the standard domain");
  o->row = op_row(op);
  if (!o->row) return onnx_refuse(o, NULL, "this operator is not known");
  if (!o->row->import) return onnx_refuse(o, NULL, "this operator is not supported: %s", o->row->why);
  if (o->opset < o->row->since)
    return onnx_refuse(o, "convert the model to a newer operator set", "this operator is supported from operator set %d on", o->row->since);
  if (o->row->until && o->opset > o->row->until)
    return onnx_bad(o, NULL, "this operator was removed from operator set %d", o->row->until + 1);
  return true;
}

static void report_missing(Onode *o, const char *text) {
  for (size_t k = 0; k < o->proto->n_output; k++)
    if (names_equal(o->proto->output[k], text)) {
      onnx_bad(o, NULL, "the node uses its own output '%s'", shown(o->im, text));
      return;
    }
  for (size_t i = 0; i < o->nlater; i++)
    for (size_t k = 0; k < o->later[i]->n_output; k++)
      if (names_equal(o->later[i]->output[k], text)) {
        onnx_bad(o, "sort the nodes topologically", "'%s' is used before node '%s' makes it", shown(o->im, text),
                 node_label(o->im, o->frame, o->later[i], o->index + 1 + i));
        return;
      }
  onnx_bad(o, NULL, "'%s' is no input, initializer or output of an earlier node", shown(o->im, text));
}

/* Looks operands up. False if one is poisoned. */
static bool find_operands(Onode *o) {
  bool ok = true;
  Where w = onode_where(o);
  o->nin = (int)o->proto->n_input;
  o->in = NEW_N(o->im->arena, Value *, o->nin);
  for (int i = 0; i < o->nin; i++) {
    NameKind kind;
    if (name_empty(o->proto->input[i])) continue;
    o->in[i] = import_value(o->im, &w, o->scope, o->proto->input[i], &kind);
    if (kind == NAME_MISSING) report_missing(o, o->proto->input[i]);
    if (kind == NAME_MISSING || kind == NAME_POISONED) ok = false;
  }
  while (o->nin && !o->in[o->nin - 1]) o->nin--;
  return ok;
}

static void define_outputs(Onode *o, bool ok) {
  for (int i = 0; i < o->nout; i++) {
    const char *text = o->proto->output[i];
    if (name_empty(text)) continue;
    Value *v = ok ? o->out[i] : NULL;
    if (ok && !v) onnx_bad(o, NULL, "this operator has no output %d", i + 1);
    Name *had = scope_find_here(o->scope, text), now = {.text = text, .kind = v ? NAME_VALUE : NAME_POISONED, .v = v};
    if (!had)
      scope_add(o->scope, text, now.kind, v);
    else if (had->missing)
      *had = now; /* the order of the nodes was reported */
    else
      onnx_bad(o, NULL, "'%s' is defined twice", shown(o->im, text));
    /* Names inside functions and branches repeat from call to call. */
    if (v && !v->name && !o->frame->up && !*o->frame->label) v->name = arena_strdup(o->im->arena, text);
  }
}

static bool import_node(Onode *o) {
  const Function *fn = function_find(o->im, o->proto);
  if (!fn && !choose_row(o)) return false;
  if (o->proto->n_input > MAX_LIST || o->proto->n_output > MAX_LIST) return onnx_refuse(o, NULL, "too many operands");
  bool ready = find_operands(o);
  o->nout = (int)o->proto->n_output;
  o->out = NEW_N(o->im->arena, Value *, o->nout);
  bool ok = ready && (fn ? function_inline(o, fn) : op_types_check(o) && o->row->import(o) && !o->failed && attrs_all_seen(o));
  if (ready && !ok && !o->failed) onnx_refuse(o, NULL, "the operator could not be imported");
  return ok;
}

void import_nodes(Import *im, const Frame *f, Scope *s, Onnx__NodeProto **nodes, size_t n) {
  for (size_t i = 0; i < n && im->errors < MAX_ERRORS; i++) {
    if (++im->nodes > MAX_NODES) {
      if (im->nodes == MAX_NODES + 1) import_error(im, SPINEC_ERR_UNSUPPORTED, NULL, "more than %d nodes, functions expanded", MAX_NODES);
      return;
    }
    Onode o = {.im = im, .proto = nodes[i], .index = i, .later = nodes + i + 1, .nlater = n - i - 1, .frame = f, .scope = s};
    o.label = node_label(im, f, nodes[i], i);
    o.opset = node_opset(f, nodes[i]->domain);
    bool ok = import_node(&o);
    o.nout = (int)MINI(nodes[i]->n_output, (size_t)MAX_LIST);
    define_outputs(&o, ok);
  }
}

/* ---- the whole ---- */

static bool check_model(Import *im) {
  const Onnx__ModelProto *m = im->model;
  Status s = SPINEC_OK;
  if (!m->graph)
    s = import_error(im, SPINEC_ERR_INPUT, NULL, "no ONNX model: it has no graph");
  else if (m->ir_version < OLDEST_IR)
    s = import_error(im, SPINEC_ERR_UNSUPPORTED, NULL, "ONNX IR version %lld; supported are %d and later", (long long)m->ir_version,
                     OLDEST_IR);
  return s == SPINEC_OK;
}

Graph *onnx_import(Arena *a, Diag *d, const char *path, const ImportOptions *options) {
  static const spinec_load_options nothing;
  Import im = {.arena = a, .diag = d, .file = path, .options = options, .load = options->load ? options->load : &nothing};
  im.model = onnx_file_unpack(a, d, path, &onnx__model_proto__descriptor, "an ONNX model");
  if (!im.model || !check_model(&im)) return NULL;
  im.ext = external_open(a, path);
  im.g = graph_new(a, d, path);
  const Onnx__GraphProto *g = im.model->graph;
  if (!name_empty(g->name)) im.g->name = arena_strdup(a, g->name);
  import_functions(&im);
  Scope *s = scope_new(a, NULL);
  Frame top = {.label = "", .opsets = im.model->opset_import, .nopsets = im.model->n_opset_import};
  import_initializers(&im, s, g, false);
  import_inputs(&im, s, g);
  import_nodes(&im, &top, s, g->node, g->n_node);
  if (im.errors >= MAX_ERRORS)
    import_error(&im, SPINEC_ERR_INPUT, NULL, "too many errors, the rest of the model was not looked at");
  else if (im.nodes <= MAX_NODES)
    import_outputs(&im, s, g);
  if (im.errors) return NULL;
  graph_compact(im.g);
  return im.g;
}
