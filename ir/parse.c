/* parse.c: the Graph from its text form (the grammar is in graph.h): recursive descent over the characters.
 *
 * The text may come from anyone: every number is range-checked, constants share a memory budget, operators get operands in the number they
 * take before inference sees them, and the whole is verified at the end. The first error ends the parse.
 */
#include "graph.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONST_BUDGET ((int64_t)256 << 20)   /* bytes of constants per text */

typedef struct Parser {
  Arena *a;
  Graph *g;
  const char *file, *s;
  const char *line_start; /* of a line at or before s */
  int line;
  Names named, unnamed;   /* to value ids */
  int64_t budget;
  bool failed;
} Parser;

/* ---- characters ---- */

static int line_of(Parser *p) {
  for (; p->line_start < p->s; p->line_start++) p->line += *p->line_start == '\n';
  return p->line;
}

static bool fail(Parser *p, const char *fmt, ...) PRINTF_LIKE(2, 3);
static bool fail(Parser *p, const char *fmt, ...) {
  if (p->failed) return false;
  p->failed = true;
  va_list args;
  va_start(args, fmt);
  Where w = {.file = arena_printf(p->a, "%s:%d", p->file, line_of(p))};
  diag_error(p->g->diag, SPINEC_ERR_INPUT, &w, NULL, "%s", arena_vprintf(p->a, fmt, args));
  va_end(args);
  return false;
}

static void skip(Parser *p) {
  for (;;) {
    while (isspace((unsigned char)*p->s)) p->s++;
    if (*p->s != '#' && (p->s[0] != '/' || p->s[1] != '/')) return;
    while (*p->s && *p->s != '\n') p->s++;
  }
}

static bool word_char(char c) { return isalnum((unsigned char)c) || c == '_' || c == '.'; }

/* Takes `text` if it comes next; words match whole words only. */
static bool accept(Parser *p, const char *text) {
  skip(p);
  size_t n = strlen(text);
  if (strncmp(p->s, text, n) || (word_char(text[n - 1]) && word_char(p->s[n]))) return false;
  p->s += n;
  return true;
}

static bool expect(Parser *p, const char *text) {
  if (accept(p, text)) return true;
  char got[24] = "the end";
  if (*p->s) snprintf(got, sizeof got, "'%.12s'", p->s);
  return fail(p, "expected '%s' before %s", text, got);
}

static bool word(Parser *p, const char **s, size_t *n) {
  skip(p);
  *s = p->s;
  if (!isalpha((unsigned char)*p->s) && *p->s != '_') return fail(p, "expected a name");
  while (word_char(*p->s)) p->s++;
  *n = (size_t)(p->s - *s);
  return true;
}

static int hex_digit(char c) {
  const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;
  return at ? (int)(at - digits) : -1;
}

static bool quoted(Parser *p, const char **out) {
  if (!expect(p, "\"")) return false;
  Text t = {.a = p->a};
  text_add(&t, "");
  while (*p->s != '"') {
    char c = *p->s++;
    if (c == '\\') {
      c = *p->s++;
      if (c == 'x') {
        int hi = hex_digit(p->s[0]), lo = hi < 0 ? -1 : hex_digit(p->s[1]);
        if (lo < 0 || 16 * hi + lo == 0) return fail(p, "bad \\x escape");
        c = (char)(16 * hi + lo);
        p->s += 2;
      }
    }
    if (!c || c == '\n') {
      p->s--;
      return fail(p, "text without a closing quote");
    }
    text_addn(&t, &c, 1);
  }
  p->s++;
  *out = t.s;
  return true;
}

static bool integer(Parser *p, int64_t *out) {
  skip(p);
  char *end;
  errno = 0;
  long long x = strtoll(p->s, &end, 10);
  if (end == p->s || errno) return fail(p, "expected a 64-bit integer");
  p->s = end;
  *out = x;
  return true;
}

static bool number(Parser *p, double *out) {
  skip(p);
  char *end;
  *out = strtod(p->s, &end);
  if (end == p->s) return fail(p, "expected a number");
  if (*end == 'f' && !word_char(end[1])) {
    *out = (double)strtof(p->s, NULL);
    end++;
  }
  p->s = end;
  return true;
}

/* ---- types and values ---- */

static bool dtype(Parser *p, DType *out) {
  const char *s;
  size_t n;
  if (!word(p, &s, &n)) return false;
  return dt_parse(s, n, out) || fail(p, "unknown element type '%.*s'", (int)MINI(n, 40), s);
}

static bool dim(Parser *p, Dim *out) {
  skip(p);
  out->sym = NULL;
  if (*p->s == '"') {
    if (!quoted(p, &out->sym) || !expect(p, "<=")) return false;
  } else if (!isdigit((unsigned char)*p->s) && *p->s != '-') {
    const char *s;
    size_t n;
    if (!word(p, &s, &n) || !expect(p, "<=")) return false;
    out->sym = arena_strndup(p->a, s, n);
  }
  if (!integer(p, &out->n)) return false;
  return out->n >= 0 || fail(p, "negative dimension");
}

typedef struct ValueType { DType dt; Shape shape; Layout layout; } ValueType;

static bool value_type(Parser *p, ValueType *t) {
  *t = (ValueType){0};
  if (!dtype(p, &t->dt) || !expect(p, "[")) return false;
  while (!accept(p, "]")) {
    if (t->shape.rank && !expect(p, ",")) return false;
    if (t->shape.rank == MAX_RANK) return fail(p, "rank above %d", MAX_RANK);
    if (!dim(p, &t->shape.d[t->shape.rank++])) return false;
  }
  if (p->s[0] == '{' && p->s[1] == 'c') {
    p->s += 2;
    int64_t block;
    if (!integer(p, &block) || !expect(p, "}")) return false;
    if (block < 1 || block > 1024) return fail(p, "bad channel block");
    t->layout = (Layout){LAYOUT_BLOCKED, (int)block};
  }
  return true;
}

typedef struct Label { const char *s; bool unnamed; } Label;   /* what follows the % */

static bool value_label(Parser *p, Label *l) {
  if (!expect(p, "%")) return false;
  l->unnamed = false;
  if (*p->s == '"') return quoted(p, &l->s);
  const char *s;
  size_t n;
  if (!word(p, &s, &n)) return false;
  l->s = arena_strndup(p->a, s, n);
  l->unnamed = s[0] == 'v' && n > 1 && strspn(l->s + 1, "0123456789") == n - 1;
  return true;
}

static bool define(Parser *p, Label l, Value *v) {
  Names *m = l.unnamed ? &p->unnamed : &p->named;
  size_t n = strlen(l.s);
  if (names_find(m, l.s, n, NULL)) return fail(p, "%%%s is defined twice", l.s);
  names_put(m, l.s, n, v->id);
  if (!l.unnamed) v->name = l.s;
  return true;
}

static bool value_ref(Parser *p, Value **out) {
  Label l;
  int id;
  if (!value_label(p, &l)) return false;
  if (!names_find(l.unnamed ? &p->unnamed : &p->named, l.s, strlen(l.s), &id)) return fail(p, "%%%s is not defined", l.s);
  *out = p->g->values.at[id];
  return true;
}

/* ---- constants ---- */

static bool element(Parser *p, void *data, DType dt, int64_t i) {
  if (dt_is_float(dt)) {
    double x;
    if (!number(p, &x)) return false;
    data_set_f(data, dt, i, x);
    return true;
  }
  if (dt == DT_U64) {
    skip(p);
    char *end;
    errno = 0;
    unsigned long long x = strtoull(p->s, &end, 10);
    if (end == p->s || errno || *p->s == '-') return fail(p, "expected a u64");
    p->s = end;
    data_set_i(data, dt, i, (int64_t)x);
    return true;
  }
  int64_t x;
  if (dt == DT_BOOL && accept(p, "true")) x = 1;
  else if (dt == DT_BOOL && accept(p, "false")) x = 0;
  else if (!integer(p, &x)) return false;
  data_set_i(data, dt, i, x);
  return data_get_i(data, dt, i) == x || fail(p, "%lld does not fit %s", (long long)x, dt_name(dt));
}

static bool const_data(Parser *p, const ValueType *t, const void **out) {
  int64_t n = shape_count(&t->shape), size = (int64_t)dt_size(t->dt);
  if (size && n > p->budget / size) return fail(p, "constants above %lld bytes in all", (long long)CONST_BUDGET);
  p->budget -= n * size;
  char *data = arena_alloc(p->a, (size_t)(n * size));
  *out = data;
  if (accept(p, "opaque")) {
    skip(p);
    char *end;
    unsigned long long seed = strtoull(p->s, &end, 0);
    if (end == p->s) return fail(p, "expected a seed");
    p->s = end;
    opaque_fill(data, t->dt, n, seed);
    return true;
  }
  if (!size && n) return fail(p, "expected 'opaque'");
  if (accept(p, "splat")) {
    char one[8];
    if (!element(p, one, t->dt, 0)) return false;
    for (int64_t i = 0; i < n; i++) memcpy(data + i * size, one, (size_t)size);
    return true;
  }
  if (!expect(p, "[")) return false;
  for (int64_t i = 0; i < n; i++)
    if ((i && !expect(p, ",")) || !element(p, data, t->dt, i)) return false;
  return expect(p, "]");
}

/* ---- attributes ---- */

static bool int_list(Parser *p, Ints *out) {
  VEC(int64_t) v = {0};
  if (!expect(p, "[")) return false;
  while (!accept(p, "]")) {
    int64_t x;
    if ((v.n && !expect(p, ",")) || !integer(p, &x)) return false;
    vec_push(p->a, &v, x);
  }
  *out = (Ints){v.at, v.n};
  return true;
}

static bool float_list(Parser *p, Floats *out) {
  VEC(double) v = {0};
  if (!expect(p, "[")) return false;
  while (!accept(p, "]")) {
    double x;
    if ((v.n && !expect(p, ",")) || !number(p, &x)) return false;
    vec_push(p->a, &v, x);
  }
  *out = (Floats){v.at, v.n};
  return true;
}

static bool field_value(Parser *p, const AttrField *f, void *x) {
  switch (f->kind) {
  case ATTR_INT: return integer(p, x);
  case ATTR_FLOAT: return number(p, x);
  case ATTR_BOOL:
    *(bool *)x = accept(p, "true");
    return *(bool *)x || expect(p, "false");
  case ATTR_INTS: return int_list(p, x);
  case ATTR_FLOATS: return float_list(p, x);
  case ATTR_STR: return quoted(p, x);
  case ATTR_DTYPE: return dtype(p, x);
  case ATTR_ENUM: {
    for (int i = 0; f->names[i]; i++)
      if (accept(p, f->names[i])) {
        *(PadMode *)x = (PadMode)i;
        return true;
      }
    return fail(p, "unknown value of %s", f->name);
  }
  }
  return false;
}

/* {name=value, ...} or nothing; what is not mentioned is zero. */
static bool attributes(Parser *p, Op op, void **out) {
  const AttrDesc *d = op_info(op)->attr;
  char *attr = arena_alloc(p->a, d->size);
  *out = attr;
  for (const AttrField *f = d->fields(); f->name; f++)
    if (f->kind == ATTR_STR) *(const char **)(attr + f->offset) = "";
  if (!accept(p, "{")) return true;
  for (bool first = true; !accept(p, "}"); first = false) {
    const char *s;
    size_t n;
    if ((!first && !expect(p, ",")) || !word(p, &s, &n) || !expect(p, "=")) return false;
    const AttrField *f = d->fields();
    while (f->name && (strlen(f->name) != n || memcmp(f->name, s, n))) f++;
    if (!f->name) return fail(p, "%s has no attribute '%.*s'", op_info(op)->name, (int)MINI(n, 40), s);
    if (!field_value(p, f, attr + f->offset)) return false;
  }
  return true;
}

static bool op_name(Parser *p, Op *out) {
  const char *s;
  size_t n;
  if (!word(p, &s, &n)) return false;
  return op_parse(s, n, out) || fail(p, "unknown operator '%.*s'", (int)MINI(n, 40), s);
}

/* ---- nodes ---- */

static bool body_arg(Parser *p, const Node *n, BodyArg *arg, int step) {
  int64_t i, up = 0;
  if (accept(p, "acc")) {
    if (n->op == OP_Map) return fail(p, "Map has no result of its own");
    *arg = (BodyArg){ARG_ACC, 0, 0};
    return true;
  }
  if (accept(p, "%")) {
    if (!integer(p, &i)) return false;
    if (i < 0 || i >= step) return fail(p, "%%%lld is not an earlier step", (long long)i);
    *arg = (BodyArg){ARG_STEP, (int)i, 0};
    return true;
  }
  skip(p);
  if (strncmp(p->s, "in", 2) || !isdigit((unsigned char)p->s[2])) return fail(p, "expected acc, %%STEP or inOPERAND");
  p->s += 2;
  if (!integer(p, &i) || (accept(p, "^") && !integer(p, &up))) return false;
  if (i < n->ncore || i >= n->nin) return fail(p, "in%lld is not an operand of the body", (long long)i);
  if (up < 0 || up > 62) return fail(p, "shift out of range");
  *arg = (BodyArg){ARG_IN, (int)i, (int)up};
  return true;
}

/* { %0: type = Op(arg, ...) {attributes}; ... }. A type that is not given stays DT_NONE. */
static bool body(Parser *p, Node *n) {
  VEC(BodyStep) steps = {0};
  if (!expect(p, "{")) return false;
  while (!accept(p, "}")) {
    BodyStep b = {0};
    int64_t i;
    void *attr;
    if ((steps.n && !expect(p, ";")) || !expect(p, "%") || !integer(p, &i)) return false;
    if (i != steps.n) return fail(p, "expected step %%%d", steps.n);
    if (accept(p, ":") && !dtype(p, &b.dt)) return false;
    if (!expect(p, "=") || !op_name(p, &b.op) || !expect(p, "(")) return false;
    const OpInfo *info = op_info(b.op);
    if (!(info->flags & OPF_EW)) return fail(p, "%s is not elementwise", info->name);
    b.nargs = info->min_in;
    for (int k = 0; k < b.nargs; k++)
      if ((k && !expect(p, ",")) || !body_arg(p, n, &b.arg[k], steps.n)) return false;
    if (!expect(p, ")") || !attributes(p, b.op, &attr)) return false;
    b.attr = attr;
    vec_push(p->a, &steps, b);
  }
  n->body = steps.at;
  n->nbody = steps.n;
  return true;
}

/* The type of the op's own result, which body steps call acc. */
static bool infer_acc(Parser *p, Node *n) {
  if (n->op == OP_Map) return true;
  int nbody = n->nbody;
  n->nbody = 0;
  bool ok = op_info(n->op)->infer(p->g, n);
  n->nbody = nbody;
  return ok;
}

/* Types of steps that give none: the declared type of the result, else what the operands make it. */
static bool body_types(Parser *p, Node *n, DType declared) {
  for (int s = 0; s < n->nbody; s++) {
    BodyStep *b = &n->body[s];
    if (!b->dt) b->dt = declared;
    if (b->dt) continue;
    DType args[3];
    for (int k = 0; k < b->nargs; k++) {
      const BodyArg *arg = &b->arg[k];
      args[k] = arg->kind == ARG_IN ? n->in[arg->i]->dt : arg->kind == ARG_STEP ? n->body[arg->i].dt : n->out[0]->dt;
    }
    b->dt = op_ew_dtype(b->op, b->attr, args, b->nargs);
    if (!b->dt) return fail(p, "operands of step %%%d have different types", s);
  }
  return true;
}

static bool operands(Parser *p, Op op, Value ***in, int *nin, int *ncore) {
  VEC(Value *) v = {0};
  *ncore = -1;
  if (!expect(p, "(")) return false;
  for (bool first = true; !accept(p, ")"); first = false) {
    if (*ncore < 0 && accept(p, ";")) *ncore = v.n;
    else if (!first && !expect(p, ",")) return false;
    Value *x = NULL;
    if (!accept(p, "_") && !value_ref(p, &x)) return false;
    vec_push(p->a, &v, x);
  }
  if (*ncore < 0) *ncore = v.n;
  *in = v.at;
  *nin = v.n;
  const OpInfo *info = op_info(op);
  if (*ncore < info->min_in || (info->max_in >= 0 && *ncore > info->max_in))
    return fail(p, "%s does not take %d operands", info->name, *ncore);
  for (int i = 0; i < v.n; i++)
    if (!v.at[i] && (i >= *ncore || i < info->min_in || info->max_in < 0)) return fail(p, "operand %d of %s is required", i, info->name);
  return true;
}

typedef struct Output { Label label; bool skipped, typed; ValueType type; } Output;
#define MAX_OUTPUTS 4

static bool outputs(Parser *p, Output out[MAX_OUTPUTS], int *nout) {
  *nout = 0;
  do {
    if (*nout == MAX_OUTPUTS) return fail(p, "too many outputs");
    Output *o = &out[(*nout)++];
    *o = (Output){0};
    if (accept(p, "_")) o->skipped = true;
    else if (!value_label(p, &o->label)) return false;
    if (accept(p, ":")) {
      o->typed = true;
      if (!value_type(p, &o->type)) return false;
    }
  } while (accept(p, ","));
  return expect(p, "=");
}

static bool origins(Parser *p, Node *n) {
  if (!accept(p, "@")) return true;
  do {
    const char *name;
    if (!quoted(p, &name)) return false;
    node_add_origin(p->g, n, name);
  } while (accept(p, ","));
  return true;
}

static bool infer(Parser *p, Node *n, const Output *out) {
  const char *file = p->g->file;
  p->g->file = arena_printf(p->a, "%s:%d", p->file, line_of(p));
  int had = diag_errors(p->g->diag);
  bool ok = infer_acc(p, n) && body_types(p, n, out[0].typed ? out[0].type.dt : DT_NONE) && node_infer(p->g, n);
  p->g->file = file;
  if (ok) return true;
  if (diag_errors(p->g->diag) == had) return fail(p, "inference of %s failed", op_info(n->op)->name);
  p->failed = true;
  return false;
}

static bool node(Parser *p) {
  Output out[MAX_OUTPUTS];
  int nout, nin, ncore;
  Op op;
  Value **in;
  void *attr;
  if (!outputs(p, out, &nout) || !op_name(p, &op) || !operands(p, op, &in, &nin, &ncore) || !attributes(p, op, &attr)) return false;
  if (nout > op_info(op)->nout) return fail(p, "%s has %d outputs", op_info(op)->name, op_info(op)->nout);
  Node *n = graph_add_node(p->g, NULL, op, attr, in, nin);
  n->ncore = ncore;
  n->joined = accept(p, "joined");
  n->streamed = accept(p, "streamed");
  if (accept(p, "body") && !body(p, n)) return false;
  if (op == OP_Map && (!n->nbody || !nin)) return fail(p, "Map needs a body and something to read");
  if (!origins(p, n) || !infer(p, n, out)) return false;
  for (int i = 0; i < nout; i++) {
    Value *v = n->out[i];
    ValueType *t = &out[i].type;
    if (out[i].typed && (t->dt != v->dt || !shape_equal(&t->shape, &v->shape)))
      return fail(p, "output %d of %s is declared otherwise than its operands make it", i, op_info(op)->name);
    if (out[i].typed) v->layout = t->layout;
    if (!out[i].skipped && !define(p, out[i].label, v)) return false;
  }
  return true;
}

/* ---- the graph ---- */

static bool declaration(Parser *p, bool constant) {
  Label l;
  ValueType t;
  const void *data = NULL;
  if (!value_label(p, &l) || !expect(p, ":") || !value_type(p, &t)) return false;
  if (t.layout.kind != LAYOUT_PLAIN) return fail(p, "inputs and constants have the plain layout");
  if (!constant) {
    return define(p, l, graph_add_input(p->g, NULL, t.dt, &t.shape));
  }
  if (!expect(p, "=") || !const_data(p, &t, &data)) return false;
  return define(p, l, graph_add_const(p->g, NULL, t.dt, &t.shape, data));
}

static bool output(Parser *p) {
  Value *v;
  if (!value_ref(p, &v)) return false;
  if (v->is_output) return fail(p, "this is an output already");
  if (!v->def) return fail(p, "an output needs a node that makes it: use Identity");
  graph_add_output(p->g, v);
  return true;
}

static bool graph(Parser *p) {
  if (!expect(p, "graph") || !quoted(p, &p->g->name) || !expect(p, "{")) return false;
  while (!accept(p, "}")) {
    bool ok = accept(p, "input")    ? declaration(p, false)
              : accept(p, "const")  ? declaration(p, true)
              : accept(p, "output") ? output(p)
                                    : node(p);
    if (!ok) return false;
  }
  skip(p);
  return !*p->s || fail(p, "text after the graph");
}

Graph *graph_parse(Arena *a, Diag *d, const char *file, const char *text) {
  Parser p = {.a = a, .file = file ? file : "text", .s = text, .line_start = text, .line = 1, .budget = CONST_BUDGET};
  p.named.a = p.unnamed.a = a;
  p.g = graph_new(a, d, p.file);
  if (!graph(&p)) return NULL;
  const char *wrong = graph_verify(p.g, a);
  if (wrong) {
    fail(&p, "%s", wrong);
    return NULL;
  }
  return p.g;
}
