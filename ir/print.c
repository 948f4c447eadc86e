/* print.c: the Graph as text; the grammar is in graph.h.
 *
 * Values without a name are numbered as they appear, and names are made unique, so that the text depends on the graph alone and parses back
 * into a graph that prints the same.
 */
#include "graph.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- constants too large to print ---- */

/* splitmix64 (Steele, Lea, Flood 2014), as a function of seed and position. */
static uint64_t mix(uint64_t seed, uint64_t i) {
  uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

/* Element i of an opaque constant. The first 16 carry four bits of the seed each, the others are pseudo-random. Of a bool they carry one,
 * and the seed has 16 bits. */
static void opaque_element(void *data, DType dt, int64_t i, int64_t at, uint64_t seed) {
  if (dt == DT_BOOL) data_set_i(data, dt, at, (int64_t)((i < 16 ? seed >> i : mix(seed & 0xffff, (uint64_t)i)) & 1));
  else if (!dt_is_float(dt))
    data_set_i(data, dt, at, (int64_t)((i < 16 ? seed >> 4 * i : mix(seed, (uint64_t)i)) & 15) - (dt_is_signed(dt) ? 8 : 0));
  else if (i < 16) data_set_f(data, dt, at, ((double)(seed >> 4 * i & 15) * 2 - 15) / 16);
  else data_set_f(data, dt, at, (double)(mix(seed, (uint64_t)i) >> 41) / (1 << 22) - 1);
}

void opaque_fill(void *data, DType dt, int64_t count, uint64_t seed) {
  if (!dt_size(dt)) return;
  for (int64_t i = 0; i < count; i++) opaque_element(data, dt, i, i, seed);
}

uint64_t opaque_seed(const void *data, DType dt, int64_t count) {
  size_t size = dt_size(dt);
  if (!size) return 0;
  /* Data that some seed fills prints as that seed; other data as its hash. */
  uint64_t seed = 0;
  for (int i = 0; i < 16; i++) {
    double x = data_get_f(data, dt, i);
    if (!(fabs(x) <= 16)) { seed = 0; break; }
    int nibble = dt_is_float(dt) ? (int)((x * 16 + 15) / 2) : (int)x + (dt_is_signed(dt) ? 8 : 0);
    seed |= dt == DT_BOOL ? (uint64_t)(nibble & 1) << i : (uint64_t)(nibble & 15) << 4 * i;
  }
  const unsigned char *bytes = data;
  bool same = true;
  for (int64_t i = 0; i < count && same; i++) {
    unsigned char x[8];
    opaque_element(x, dt, i, 0, seed);
    same = !memcmp(x, bytes + (size_t)i * size, size);
  }
  if (same) return seed;
  uint64_t h = 14695981039346656037u;
  for (size_t i = 0; i < (size_t)count * size; i++) h = (h ^ bytes[i]) * 1099511628211u;
  return dt == DT_BOOL ? h & 0xffff : h;
}

/* ---- pieces ---- */

static bool is_identifier(const char *s) {
  if (!isalpha((unsigned char)*s) && *s != '_') return false;
  for (const char *c = s; *c; c++)
    if (!isalnum((unsigned char)*c) && *c != '_' && *c != '.') return false;
  if (!strcmp(s, "_")) return false;
  return !(s[0] == 'v' && s[1] && strspn(s + 1, "0123456789") == strlen(s + 1));   /* reserved for values without a name */
}

static void print_quoted(Text *t, const char *s) {
  text_add(t, "\"");
  for (; *s; s++) {
    if (*s == '"' || *s == '\\') text_addf(t, "\\%c", *s);
    else if ((unsigned char)*s < 32 || *s == 127) text_addf(t, "\\x%02x", (unsigned char)*s);
    else text_addn(t, s, 1);
  }
  text_add(t, "\"");
}

static void print_name(Text *t, const char *s) {
  if (is_identifier(s)) text_add(t, s);
  else print_quoted(t, s);
}

static void print_type(Text *t, const Value *v) {
  text_addf(t, "%s[", dt_name(v->dt));
  for (int i = 0; i < v->shape.rank; i++) {
    if (i) text_add(t, ",");
    if (v->shape.d[i].sym) {
      print_name(t, v->shape.d[i].sym);
      text_add(t, "<=");
    }
    text_addf(t, "%lld", (long long)v->shape.d[i].n);
  }
  text_add(t, "]");
  if (v->layout.kind == LAYOUT_BLOCKED) text_addf(t, "{c%d}", v->layout.block);
}

static void print_element(Text *t, const void *data, DType dt, int64_t i) {
  if (dt_is_float(dt)) text_add_number(t, data_get_f(data, dt, i), dt == DT_F64 ? 17 : 9);
  else if (dt == DT_U64) text_addf(t, "%llu", (unsigned long long)data_get_i(data, dt, i));
  else text_addf(t, "%lld", (long long)data_get_i(data, dt, i));
}

static bool all_same(const Value *v) {
  size_t size = dt_size(v->dt);
  const char *p = v->data;
  return size && !memcmp(p, p + size, value_bytes(v) - size);
}

static void print_data(Text *t, const Value *v) {
  int64_t n = value_count(v);
  if (n > 16 || (n && !dt_size(v->dt))) {
    if (all_same(v)) {
      text_add(t, "splat ");
      print_element(t, v->data, v->dt, 0);
    } else {
      text_addf(t, "opaque 0x%llx", (unsigned long long)opaque_seed(v->data, v->dt, n));
    }
    return;
  }
  text_add(t, "[");
  for (int64_t i = 0; i < n; i++) {
    if (i) text_add(t, ", ");
    print_element(t, v->data, v->dt, i);
  }
  text_add(t, "]");
}

/* A double that is a rounded float prints as that float and an f, if that is shorter. */
static void print_double(Text *t, double x) {
  char buf[32];
  snprintf(buf, sizeof buf, "%.7g", x);
  bool odd = isfinite(x) && strtod(buf, NULL) != x && (double)(float)x == x;
  text_add_number(t, x, odd ? 9 : 17);
  if (odd) text_add(t, "f");
}

static void print_field(Text *t, const AttrField *f, const void *x) {
  switch (f->kind) {
  case ATTR_INT: text_addf(t, "%lld", (long long)*(const int64_t *)x); break;
  case ATTR_FLOAT: print_double(t, *(const double *)x); break;
  case ATTR_BOOL: text_add(t, *(const bool *)x ? "true" : "false"); break;
  case ATTR_INTS: {
    const Ints *v = x;
    text_add(t, "[");
    for (int i = 0; i < v->n; i++) text_addf(t, "%s%lld", i ? "," : "", (long long)v->v[i]);
    text_add(t, "]");
    break;
  }
  case ATTR_FLOATS: {
    const Floats *v = x;
    text_add(t, "[");
    for (int i = 0; i < v->n; i++) {
      if (i) text_add(t, ",");
      print_double(t, v->v[i]);
    }
    text_add(t, "]");
    break;
  }
  case ATTR_STR: print_quoted(t, *(const char *const *)x ? *(const char *const *)x : ""); break;
  case ATTR_ENUM: text_add(t, f->names[*(const PadMode *)x]); break;
  case ATTR_DTYPE: text_add(t, dt_name(*(const DType *)x)); break;
  }
}

/* What parses to the same when left out, and says nothing: false and empty lists. */
static bool is_silent(const AttrField *f, const void *x) {
  if (f->kind == ATTR_BOOL) return !*(const bool *)x;
  return (f->kind == ATTR_INTS && ((const Ints *)x)->n == 0) || (f->kind == ATTR_FLOATS && ((const Floats *)x)->n == 0);
}

static void print_attr(Text *t, Op op, const void *attr) {
  const char *sep = " {";
  for (const AttrField *f = op_info(op)->attr->fields(); attr && f->name; f++) {
    const void *x = (const char *)attr + f->offset;
    if (is_silent(f, x)) continue;
    text_addf(t, "%s%s=", sep, f->name);
    print_field(t, f, x);
    sep = ", ";
  }
  if (sep[0] == ',') text_add(t, "}");
}

/* ---- the graph ---- */

typedef struct Printer {
  const Graph *g;
  Text *t;
  const char **label;   /* by value id: what follows the %, NULL until it appears */
  Names used;
  int next_unnamed;
} Printer;

static const char *label(Printer *p, const Value *v) {
  const char **l = &p->label[v->id];
  if (*l) return *l;
  Arena *a = p->t->a;
  if (!v->name) return *l = arena_printf(a, "v%d", p->next_unnamed++);
  const char *name = v->name;
  for (int i = 2; names_find(&p->used, name, strlen(name), NULL); i++) name = arena_printf(a, "%s'%d", v->name, i);
  names_put(&p->used, name, strlen(name), v->id);
  Text text = {.a = a};
  print_name(&text, name);
  return *l = text.s;
}

static void print_value(Printer *p, const Value *v) {
  if (v) text_addf(p->t, "%%%s", label(p, v));
  else text_add(p->t, "_");
}

static void print_decl(Printer *p, const char *what, const Value *v) {
  text_addf(p->t, "%s%%%s: ", what, label(p, v));
  print_type(p->t, v);
}

static void print_body(Text *t, const Node *n) {
  text_add(t, " body {");
  for (int s = 0; s < n->nbody; s++) {
    const BodyStep *b = &n->body[s];
    text_addf(t, "%s %%%d", s ? ";" : "", s);
    if (b->dt != n->out[0]->dt) text_addf(t, ": %s", dt_name(b->dt));
    text_addf(t, " = %s(", op_info(b->op)->name);
    for (int i = 0; i < b->nargs; i++) {
      if (i) text_add(t, ", ");
      switch (b->arg[i].kind) {
      case ARG_ACC: text_add(t, "acc"); break;
      case ARG_STEP: text_addf(t, "%%%d", b->arg[i].i); break;
      case ARG_IN: text_addf(t, "in%d", b->arg[i].i); break;
      }
      if (b->arg[i].kind == ARG_IN && b->arg[i].up) text_addf(t, "^%d", b->arg[i].up);
    }
    text_add(t, ")");
    print_attr(t, b->op, b->attr);
  }
  text_add(t, " }");
}

static void print_node(Printer *p, const Node *n) {
  Text *t = p->t;
  for (int i = 0; i < n->nout; i++) {
    const Value *v = n->out[i];
    bool unused = i && !v->uses.n && !v->is_output && !v->name;
    if (unused) text_add(t, ", _");
    else print_decl(p, i ? ", " : "  ", v);
  }
  text_addf(t, " = %s(", op_info(n->op)->name);
  for (int i = 0; i < n->nin; i++) {
    if (i == n->ncore) text_add(t, "; ");
    else if (i) text_add(t, ", ");
    print_value(p, n->in[i]);
  }
  text_add(t, ")");
  print_attr(t, n->op, n->attr);
  if (n->joined) text_add(t, " joined");
  if (n->streamed) text_add(t, " streamed");
  if (n->nbody) print_body(t, n);
  for (int i = 0; i < n->norigin; i++) {
    text_add(t, i ? ", " : " @ ");
    print_quoted(t, n->origin[i]);
  }
  text_add(t, "\n");
}

void graph_print(const Graph *g, Text *t) {
  Printer p = {.g = g, .t = t, .label = NEW_N(t->a, const char *, g->values.n), .used = {.a = t->a}};
  text_add(t, "graph ");
  print_quoted(t, g->name);
  text_add(t, " {\n");
  for (int i = 0; i < g->inputs.n; i++) {
    print_decl(&p, "  input ", g->inputs.at[i]);
    text_add(t, "\n");
  }
  for (int i = 0; i < g->values.n; i++) {
    const Value *v = g->values.at[i];
    if (!v->data || !v->uses.n) continue;
    print_decl(&p, "  const ", v);
    text_add(t, " = ");
    print_data(t, v);
    text_add(t, "\n");
  }
  for (const Node *n = g->first; n; n = n->next) print_node(&p, n);
  for (int i = 0; i < g->outputs.n; i++) text_addf(t, "  output %%%s\n", label(&p, g->outputs.at[i]));
  text_add(t, "}\n");
}
