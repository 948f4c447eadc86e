/* op.c: the operator table and the attribute descriptors, expanded from ops.def and attrs.def.
 *
 * Every row names functions that the families in ops define: a missing one is a link error. Attributes are compared, copied, printed and
 * parsed through their descriptors alone; floats compare by their bits, so that NaN equals itself and -0 differs from 0.
 */
#include "graph.h"

#include <string.h>

/* ---- attributes ---- */

/* Texts of enum attributes, in the order of their constants. */
static const char *const enum_PadMode[] = {"constant", "reflect", "edge", "wrap", NULL};
static const char *const enum_ResizeMode[] = {"nearest", "linear", "cubic", NULL};
static const char *const enum_CoordMode[] = {"half_pixel",    "half_pixel_symmetric", "pytorch_half_pixel",
                                             "align_corners", "asymmetric",           "tf_crop_and_resize", NULL};
static const char *const enum_NearestMode[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil", NULL};
static const char *const enum_ScatterReduction[] = {"none", "add", "mul", "max", "min", NULL};
static const char *const enum_RoiMode[] = {"avg", "max", NULL};
static const char *const enum_GridMode[] = {"nearest", "linear", "cubic", NULL};
static const char *const enum_GridPad[] = {"zeros", "border", "reflection", NULL};

/* A function per family, so that each row's fields can say offsetof(Self, ...) without repeating the family's name. */
#define ATTR_BEGIN(Name)                                                                                                               \
  static const AttrField *fields_##Name(void) {                                                                                        \
    typedef Name##Attr Self;                                                                                                           \
    static const AttrField fields[] = {
#define FIELD(f, kind, names) {#f, kind, offsetof(Self, f), names},
#define INT(f) FIELD(f, ATTR_INT, NULL)
#define FLOAT(f) FIELD(f, ATTR_FLOAT, NULL)
#define BOOL(f) FIELD(f, ATTR_BOOL, NULL)
#define INTS(f) FIELD(f, ATTR_INTS, NULL)
#define FLOATS(f) FIELD(f, ATTR_FLOATS, NULL)
#define STR(f) FIELD(f, ATTR_STR, NULL)
#define DTYPE(f) FIELD(f, ATTR_DTYPE, NULL)
#define ENUM(T, f) FIELD(f, ATTR_ENUM, enum_##T)
#define ATTR_END(Name)                                                                                                                 \
  {NULL, ATTR_INT, offsetof(Self, unused_), NULL}                                                                                      \
  }                                                                                                                                    \
  ;                                                                                                                                    \
  return fields;                                                                                                                       \
  }                                                                                                                                    \
  const AttrDesc attr_desc_##Name = {#Name, sizeof(Name##Attr), fields_##Name};
#include "attrs.def"

static const void *field_of(const void *attr, const AttrField *f) { return (const char *)attr + f->offset; }

static bool field_equal(const AttrField *f, const void *x, const void *y) {
  switch (f->kind) {
  case ATTR_INT: return *(const int64_t *)x == *(const int64_t *)y;
  case ATTR_FLOAT: return !memcmp(x, y, sizeof(double));
  case ATTR_BOOL: return *(const bool *)x == *(const bool *)y;
  case ATTR_INTS: return ints_equal(*(const Ints *)x, *(const Ints *)y);
  case ATTR_FLOATS: {
    const Floats *p = x, *q = y;
    return p->n == q->n && (!p->n || !memcmp(p->v, q->v, (size_t)p->n * sizeof *p->v));
  }
  case ATTR_STR: {
    const char *p = *(const char *const *)x, *q = *(const char *const *)y;
    return p && q ? !strcmp(p, q) : p == q;
  }
  case ATTR_ENUM: return !memcmp(x, y, sizeof(PadMode));
  case ATTR_DTYPE: return *(const DType *)x == *(const DType *)y;
  }
  return false;
}

bool attr_equal(const AttrDesc *d, const void *a, const void *b) {
  if (a == b) return true;
  if (!a || !b) return d->fields()->name == NULL;
  for (const AttrField *f = d->fields(); f->name; f++)
    if (!field_equal(f, field_of(a, f), field_of(b, f))) return false;
  return true;
}

void *attr_copy(Arena *a, const AttrDesc *d, const void *attr) {
  char *copy = arena_alloc(a, d->size);
  if (!attr) return copy;
  memcpy(copy, attr, d->size);
  for (const AttrField *f = d->fields(); f->name; f++) {
    void *x = copy + f->offset;
    if (f->kind == ATTR_INTS) *(Ints *)x = ints_copy(a, ((Ints *)x)->v, ((Ints *)x)->n);
    else if (f->kind == ATTR_FLOATS) *(Floats *)x = floats_copy(a, ((Floats *)x)->v, ((Floats *)x)->n);
    else if (f->kind == ATTR_STR && *(const char **)x) *(const char **)x = arena_strdup(a, *(const char **)x);
  }
  return copy;
}

/* ---- operators ---- */

void lower_map(Lower *l, const Node *n);
#define OP(Name, attr, min_in, max_in, nout, infer, lower, flags)                                                                      \
  bool infer(Graph *g, Node *n);                                                                                                       \
  void lower(Lower *l, const Node *n);
#define EW(Name, attr, nin, infer)                                                                                                     \
  bool infer(Graph *g, Node *n);                                                                                                       \
  Expr *ew_##Name(Build *b, const void *attr_, Expr *const *x, int n);
#include "ops.def"
#undef OP
#undef EW

const OpInfo op_table[OP_COUNT] = {
#define OP(Name, attr, min_in, max_in, nout, infer, lower, flags)                                                                      \
  [OP_##Name] = {#Name, &attr_desc_##attr, min_in, max_in, nout, flags, infer, lower, NULL},
/* A single elementwise node lowers as a Map of one step does. */
#define EW(Name, attr, nin, infer)                                                                                                     \
  [OP_##Name] = {#Name, &attr_desc_##attr, nin, nin, 1, OPF_EW | OPF_BODY | OPF_CHANNEL, infer, lower_map, ew_##Name},
#include "ops.def"
#undef OP
#undef EW
};

bool op_parse(const char *name, size_t n, Op *out) {
  for (int i = 0; i < OP_COUNT; i++) {
    if (strlen(op_table[i].name) != n || memcmp(op_table[i].name, name, n)) continue;
    *out = (Op)i;
    return true;
  }
  return false;
}

bool ew_accepts(Op op, DType t);   /* ops/elementwise.c */

/* Which rule types the result is the rule that infers it. */
DType op_ew_dtype(Op op, const void *attr, const DType *args, int n) {
  const OpInfo *info = op_info(op);
  if (!(info->flags & OPF_EW) || n != info->min_in || !ew_accepts(op, args[op == OP_Where])) return DT_NONE;
  if (info->infer == infer_cast) return ((const CastAttr *)attr)->to;
  if (info->infer == infer_where) return args[0] == DT_BOOL && args[1] == args[2] ? args[1] : DT_NONE;
  if (info->infer != infer_pow)
    for (int i = 1; i < n; i++)
      if (args[i] != args[0]) return DT_NONE;
  return info->infer == infer_bool || info->infer == infer_compare ? DT_BOOL : args[0];
}

bool node_infer(Graph *g, Node *n) {
  if (!op_info(n->op)->infer(g, n)) return false;
  if (n->nbody) n->out[0]->dt = n->body[n->nbody - 1].dt;
  return true;
}
