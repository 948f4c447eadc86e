/* function.c: model-local functions and If, both expanded in place.
 *
 * A call makes a scope of its own for the function's names and a frame that says which call its attribute references mean and which
 * operator sets hold; a branch of If sees the names around it. Functions may call functions but not themselves; how much a file can
 * expand to is bounded by the walk's count of nodes.
 */
#include "import.h"

#include <stdlib.h>
#include <string.h>

enum { FIELD_NODE_OVERLOAD = 8, FIELD_FUNCTION_ATTRIBUTE_PROTO = 11, FIELD_FUNCTION_OVERLOAD = 13 }; /* newer than Debian's onnx.proto */

static const char *domain_of(const char *domain) { return !domain || !strcmp(domain, "ai.onnx") ? "" : domain; }

static int compare(const void *x, const void *y) {
  const Function *f = x, *g = y;
  int c = strcmp(domain_of(f->proto->domain), domain_of(g->proto->domain));
  if (!c) c = strcmp(f->proto->name, g->proto->name);
  return c ? c : strcmp(f->overload, g->overload);
}

void import_functions(Import *im) {
  const Onnx__ModelProto *m = im->model;
  im->functions = NEW_N(im->arena, Function, m->n_functions);
  for (size_t i = 0; i < m->n_functions; i++) {
    Onnx__FunctionProto *p = m->functions[i];
    if (name_empty(p->name)) continue; /* nothing can call it */
    Function *f = &im->functions[im->nfunctions++];
    ProtobufCMessage **defaults;
    f->proto = p;
    f->overload = proto_string(im->arena, &p->base, FIELD_FUNCTION_OVERLOAD);
    f->ndefaults = proto_messages(im->arena, &p->base, FIELD_FUNCTION_ATTRIBUTE_PROTO, &onnx__attribute_proto__descriptor, &defaults);
    f->defaults = NEW_N(im->arena, Onnx__AttributeProto *, f->ndefaults);
    for (int k = 0; k < f->ndefaults; k++) f->defaults[k] = (Onnx__AttributeProto *)defaults[k];
  }
  if (im->nfunctions) qsort(im->functions, (size_t)im->nfunctions, sizeof *im->functions, compare);
  for (int i = 1; i < im->nfunctions; i++)
    if (!compare(&im->functions[i - 1], &im->functions[i]))
      import_error(im, SPINEC_ERR_INPUT, NULL, "function '%s' is defined twice", shown(im, im->functions[i].proto->name));
}

const Function *function_find(const Import *im, const Onnx__NodeProto *call) {
  if (!im->nfunctions) return NULL;
  Onnx__FunctionProto p = ONNX__FUNCTION_PROTO__INIT;
  p.domain = call->domain;
  p.name = call->op_type ? call->op_type : (char *)"";
  Function key = {.proto = &p, .overload = proto_string(im->arena, &call->base, FIELD_NODE_OVERLOAD)};
  return bsearch(&key, im->functions, (size_t)im->nfunctions, sizeof key, compare);
}

/* The values of a body's outputs become the node's. */
static bool take_outputs(Onode *o, Scope *s, size_t n, const char *(*name)(const void *, size_t), const void *list) {
  Where w = onode_where(o);
  if ((size_t)o->nout > n) return onnx_bad(o, NULL, "%d outputs are used, the body has %zu", o->nout, n);
  for (int i = 0; i < o->nout; i++) {
    NameKind kind;
    const char *text = name(list, (size_t)i);
    if (!wants_out(o, i)) continue;
    o->out[i] = name_empty(text) ? NULL : import_value(o->im, &w, s, text, &kind);
    if (name_empty(text) || kind == NAME_MISSING || kind == NAME_ABSENT)
      return onnx_bad(o, NULL, "the body does not compute its output %d", i + 1);
    if (kind == NAME_POISONED) o->failed = true; /* reported inside */
  }
  return !o->failed;
}

static const char *function_output(const void *f, size_t i) { return ((const Onnx__FunctionProto *)f)->output[i]; }
static const char *graph_output(const void *g, size_t i) { return ((const Onnx__GraphProto *)g)->output[i]->name; }

bool function_inline(Onode *o, const Function *fn) {
  const Onnx__FunctionProto *p = fn->proto;
  Import *im = o->im;
  Frame f = {
      .up = o->frame, .fn = fn, .call = o->proto, .opsets = p->opset_import, .nopsets = p->n_opset_import, .depth = o->frame->depth + 1};
  if (!p->n_opset_import) f.opsets = o->frame->opsets, f.nopsets = o->frame->nopsets;
  for (const Frame *up = o->frame; up; up = up->up)
    if (up->fn == fn) return onnx_bad(o, NULL, "the function calls itself");
  if (f.depth > MAX_CALL_DEPTH) return onnx_refuse(o, NULL, "functions call each other more than %d deep", MAX_CALL_DEPTH);
  if ((size_t)o->nin > p->n_input) return onnx_bad(o, NULL, "%d operands given, the function has %zu", o->nin, p->n_input);
  f.label = arena_printf(im->arena, "%s/", o->label);
  Scope *s = scope_new(im->arena, NULL);
  for (size_t i = 0; i < p->n_input; i++) {
    Value *v = i < (size_t)o->nin ? o->in[i] : NULL;
    if (name_empty(p->input[i]) || !scope_add(s, p->input[i], v ? NAME_VALUE : NAME_ABSENT, v))
      return onnx_bad(o, NULL, "the function has an input without a name of its own");
  }
  import_nodes(im, &f, s, p->node, p->n_node);
  return take_outputs(o, s, p->n_output, function_output, p);
}

bool onnx_if(Onode *o) {
  Import *im = o->im;
  const Onnx__GraphProto *yes = attr_graph(o, "then_branch"), *no = attr_graph(o, "else_branch");
  int64_t cond;
  if (!const_int(o, 0, "the condition", &cond)) return false;
  const Onnx__GraphProto *g = cond ? yes : no;
  if (!yes || !no) return !o->failed && onnx_bad(o, NULL, "a branch is missing");
  if (g->n_input) return onnx_bad(o, NULL, "a branch has inputs");
  Frame f = *o->frame;
  f.depth++;
  if (f.depth > MAX_CALL_DEPTH) return onnx_refuse(o, NULL, "branches are nested more than %d deep", MAX_CALL_DEPTH);
  f.label = arena_printf(im->arena, "%s/", o->label);
  Scope *s = scope_new(im->arena, o->scope);
  import_initializers(im, s, g, true);
  import_nodes(im, &f, s, g->node, g->n_node);
  return take_outputs(o, s, g->n_output, graph_output, g);
}
