/* activation.c: recognises activation functions by their parts.
 *
 * A rule is a pattern over elementwise operators in text, and the operator it means. In a pattern
 *   x          is any tensor, the same wherever it stands
 *   a, b       are constants with one value; 1.5 is a constant of (nearly) this value
 *   Op(p, q)   is a node read by nobody outside the pattern; Add, Mul, Min, Max match in either order
 *   Op[a,1](p) has these float attributes
 *   {p|q}      is either
 * and a pattern fits only where the result has x's type and shape. Nodes are visited in order, so that what a rule finds can be part of
 * what a later one looks for: clip(x + 3, 0, 6) / 6 becomes HardSigmoid, and x times that HardSwish.
 *
 * before: %s = Sigmoid(%x); %y = Mul(%x, %s)                              after: %y = Swish(%x) {alpha=1}
 * before: %a = Add(%x, 3); %c = Clip(%a) {lo=0, hi=6}; %y = Div(%c, 6)    after: %y = HardSigmoid(%x) {alpha=0.1666667, beta=0.5}
 * before: %e = Exp(%x); %a = Add(%e, 1); %y = Log(%a)                     after: %y = Softplus(%x)
 */
#include "../passes.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- rules ---- */

static bool ordered(const double *k) { return k[0] <= k[1]; }
static bool not_negative(const double *k) { return k[0] >= 0; }
static bool in_unit(const double *k) { return k[0] >= 0 && k[0] <= 1; }
static bool not_zero(const double *k) { return k[0] != 0; }
static bool around_zero(const double *k) { return k[0] <= 0 && k[1] >= 0; }

#define SQRT_HALF "0.70710678118654752"
#define SQRT_2 "1.41421356237309505"
#define SQRT_2_PI "0.79788456080286536"
#define SIXTH "0.16666666666666667"
/* 1 + erf(x / sqrt 2) */
#define ERF "Add(Erf({Div(x," SQRT_2 ")|Mul(x," SQRT_HALF ")}),1)"
/* 1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)), and the same with x put outside */
#define CUBE "{Pow(x,3)|Mul(x,Mul(x,x))|Mul(x,Pow(x,2))}"
#define SQUARE "{Pow(x,2)|Mul(x,x)}"
#define TERM "{Mul(" CUBE ",0.044715)|Mul(Mul(Mul(x,0.044715),x),x)|Mul(Mul(x,0.044715)," SQUARE ")}"
#define FACTOR "Add({Mul(" SQUARE ",0.044715)|Mul(Mul(x,0.044715),x)},1)"
#define POLY "{Add(x," TERM ")|Mul(x," FACTOR ")}"
#define TANH "Add(Tanh({Mul(" POLY "," SQRT_2_PI ")|Mul(Mul(x," SQRT_2_PI ")," FACTOR ")}),1)"
/* x * gate / 2 in its orders */
#define HALF(gate) "{Mul(Mul(x," gate "),0.5)|Mul(x,Mul(" gate ",0.5))|Mul(Mul(x,0.5)," gate ")|Div(Mul(x," gate "),2)}"
#define CLIP6 "Clip[0,6](Add(x,3))"

typedef struct Rule {
  const char *pattern;
  Op op;                         /* of x; two operands: of x and x */
  const char *attr;              /* its float attributes: numbers, captured a or b, or /a for 1/a */
  bool (*guard)(const double *k);
} Rule;

static const Rule rules[] = {
    /* before: %n = Neg(%x); %e = Exp(%n); %a = Add(%e, 1); %y = Reciprocal(%a)      after: %y = Sigmoid(%x) */
    {"Reciprocal(Add(Exp(Neg(x)),1))", OP_Sigmoid, "", NULL},
    {"Div(1,Add(Exp(Neg(x)),1))", OP_Sigmoid, "", NULL},
    /* before: %s = Sigmoid(%x); %y = Mul(%x, %s)      after: %y = Swish(%x) {alpha=1} */
    {"Mul(x,Sigmoid(x))", OP_Swish, "1,0", NULL},
    {"Mul(x,Sigmoid(Mul(x,a)))", OP_Swish, "a,0", NULL},
    {"Div(x,Add(Exp(Neg(x)),1))", OP_Swish, "1,0", NULL},
    /* before: %a = Add(%x, 3); %c = Clip(%a) {lo=0, hi=6}; %y = Div(%c, 6)      after: %y = HardSigmoid(%x) {alpha=1/6, beta=0.5} */
    {"{Div(" CLIP6 ",6)|Mul(" CLIP6 "," SIXTH ")}", OP_HardSigmoid, SIXTH ",0.5", NULL},
    {"Clip[0,1](Add(Mul(x,a),b))", OP_HardSigmoid, "a,b", NULL},
    {"Clip[0,1](Add(Div(x,a),b))", OP_HardSigmoid, "/a,b", not_zero},
    /* before: %h = HardSigmoid(%x) {alpha=1/6, beta=0.5}; %y = Mul(%x, %h)      after: %y = HardSwish(%x) */
    {"Mul(x,HardSigmoid[" SIXTH ",0.5](x))", OP_HardSwish, "", NULL},
    {"{Div(Mul(x," CLIP6 "),6)|Mul(Mul(x," CLIP6 ")," SIXTH ")|Mul(Div(x,6)," CLIP6 ")|Mul(Mul(x," SIXTH ")," CLIP6 ")}",
     OP_HardSwish, "", NULL},
    /* before: %d = Div(%x, 1.414214); %e = Erf(%d); %a = Add(%e, 1); %m = Mul(%x, %a); %y = Mul(%m, 0.5)
       after:  %y = Gelu(%x) {alpha=0} */
    {HALF(ERF), OP_Gelu, "0,0", NULL},
    /* before: %p = Pow(%x, 3); %q = Mul(%p, 0.044715); %s = Add(%x, %q); %m = Mul(%s, 0.7978846); %t = Tanh(%m); %a = Add(%t, 1);
               %h = Mul(%x, 0.5); %y = Mul(%h, %a)
       after:  %y = Gelu(%x) {alpha=1} */
    {HALF(TANH), OP_Gelu, "1,0", NULL},
    /* before: %e = Exp(%x); %a = Add(%e, 1); %y = Log(%a)      after: %y = Softplus(%x)      (which does not overflow) */
    {"Log(Add(Exp(x),1))", OP_Softplus, "", NULL},
    /* before: %s = Softplus(%x); %t = Tanh(%s); %y = Mul(%x, %t)      after: %y = Mish(%x) */
    {"Mul(x,Tanh(Softplus(x)))", OP_Mish, "", NULL},
    /* before: %b = Abs(%x); %a = Add(%b, 1); %y = Div(%x, %a)      after: %y = Softsign(%x) */
    {"Div(x,Add(Abs(x),1))", OP_Softsign, "", NULL},
    /* before: %y = Max(%x, 0)      after: %y = Relu(%x) */
    {"{Max(x,0)|Clip[0,inf](x)}", OP_Relu, "", NULL},
    /* before: %m = Mul(%x, 0.1); %y = Max(%x, %m)      after: %y = LeakyRelu(%x) {alpha=0.1} */
    {"Max(x,Mul(x,a))", OP_LeakyRelu, "a,0", in_unit},
    {"PRelu(x,a)", OP_LeakyRelu, "a,0", NULL},
    /* before: %m = Max(%x, -1); %y = Min(%m, 1)      after: %y = Clip(%x) {lo=-1, hi=1} */
    {"{Min(Max(x,a),b)|Max(Min(x,b),a)}", OP_Clip, "a,b", ordered},
    {"Min(Relu(x),a)", OP_Clip, "0,a", not_negative},
    {"Clip[a,b](Relu(x))", OP_Clip, "0,b", around_zero},
    /* before: %y = Pow(%x, 2)      after: %y = Mul(%x, %x) */
    {"Pow(x,2)", OP_Mul, "", NULL},
    {"Mul(x,-1)", OP_Neg, "", NULL},
};

/* ---- matching ---- */

#define CAPTURES 2
#define PARTS 16

typedef struct Match {
  Value *x;
  double k[CAPTURES];
  bool bound[CAPTURES];
  Node *part[PARTS];             /* nodes the result replaces, root first */
  int nparts;
} Match;

/* Past one pattern. */
static const char *skip(const char *p) {
  int depth = 0;
  for (; *p; p++) {
    if (strchr("([{", *p)) depth++;
    else if (strchr(")]}", *p) && depth-- == 0) return p;
    else if ((*p == ',' || *p == '|') && depth == 0) return p;
  }
  return p;
}

/* A captured constant or a literal at *p against c; moves *p past it. */
static bool match_number(Match *m, const char **p, double c) {
  if (**p == 'a' || **p == 'b') {
    int i = *(*p)++ - 'a';
    if (m->bound[i] && m->k[i] != c) return false;
    m->bound[i] = true;
    m->k[i] = c;
    return isfinite(c);
  }
  char *end;
  double want = strtod(*p, &end);
  *p = end;
  return c == want || (isfinite(want) && fabs(c - want) <= 1e-6 * fabs(want));
}

static bool match_attr(Match *m, const char **p, const Node *n) {
  if (**p != '[') return true;
  (*p)++;
  for (const AttrField *f = op_info(n->op)->attr->fields(); f->name; f++) {
    if (f->kind != ATTR_FLOAT) continue;
    if (!match_number(m, p, *(const double *)((const char *)n->attr + f->offset))) return false;
    if (*(*p)++ == ']') return true;
  }
  return false;
}

static bool commutes(Op op) { return op == OP_Add || op == OP_Mul || op == OP_Min || op == OP_Max; }

static bool match(Match *m, const char *p, Value *v);

static bool match_operands(Match *m, const char *p, const Node *n) {
  Match start = *m;
  const char *q = n->nin > 1 ? skip(p) + 1 : NULL;
  if (match(m, p, n->in[0]) && (!q || match(m, q, n->in[1]))) return true;
  if (!q || !commutes(n->op)) return false;
  *m = start;
  return match(m, p, n->in[1]) && match(m, q, n->in[0]);
}

static bool match_node(Match *m, const char *p, Value *v) {
  const char *name = p;
  while (isalnum((unsigned char)*p)) p++;
  Node *n = v->def;
  const char *op = n ? op_info(n->op)->name : "";
  if (!n || strlen(op) != (size_t)(p - name) || memcmp(op, name, (size_t)(p - name))) return false;
  if (n->nbody || n->nin > 2 || (m->nparts && !value_single_use(v)) || m->nparts == PARTS) return false;
  m->part[m->nparts++] = n;
  return match_attr(m, &p, n) && match_operands(m, p + 1, n);
}

static bool match(Match *m, const char *p, Value *v) {
  if (*p == '{') {
    Match start = *m;
    for (p++;; p = skip(p) + 1) {
      if (match(m, p, v)) return true;
      *m = start;
      if (*skip(p) != '|') return false;
    }
  }
  if (*p == 'x') {
    if (m->x && m->x != v) return false;
    m->x = v;
    return !v->data;
  }
  if (isupper((unsigned char)*p)) return match_node(m, p, v);
  double c;
  return value_scalar_f(v, &c) && match_number(m, &p, c);
}

/* ---- rewriting ---- */

static double attr_number(const Match *m, const char **p) {
  bool inverse = **p == '/';
  *p += inverse;
  double x;
  if (**p == 'a' || **p == 'b') {
    x = m->k[*(*p)++ - 'a'];
  } else {
    char *end;
    x = strtod(*p, &end);
    *p = end;
  }
  if (**p == ',') (*p)++;
  return inverse ? 1 / x : x;
}

static void erase_dead(Graph *g, Node *n) {
  for (int i = 0; i < n->nout; i++)
    if (n->out[i]->uses.n || n->out[i]->is_output) return;
  Node *from[3] = {0};
  int nin = n->nin;   /* at most 2: patterns have no other nodes */
  for (int i = 0; i < nin; i++) from[i] = n->in[i] ? n->in[i]->def : NULL;
  graph_erase(g, n);
  for (int i = 0; i < nin; i++)
    if (from[i] && from[i]->out[0]->def && (i == 0 || from[i] != from[0]) && (op_info(from[i]->op)->flags & OPF_EW) && from[i]->nin <= 2)
      erase_dead(g, from[i]);
}

static void rewrite(Graph *g, Node *n, const Rule *r, const Match *m) {
  const OpInfo *info = op_info(r->op);
  char *attr = arena_alloc(g->arena, info->attr->size);
  const char *p = r->attr;
  for (const AttrField *f = info->attr->fields(); f->name; f++) *(double *)(attr + f->offset) = attr_number(m, &p);
  Value *in[2] = {m->x, m->x};
  Node *y = graph_make(g, n, r->op, attr, in, info->min_in);
  if (!y) ice(g, n, "activation", "%s is refused", info->name);
  for (int i = 0; i < m->nparts; i++) node_copy_origin(g, y, m->part[i]);
  const char *name = n->out[0]->is_output ? NULL : n->out[0]->name;
  graph_replace_uses(g, n->out[0], y->out[0]);
  if (name) {
    y->out[0]->name = name;
    n->out[0]->name = NULL;
  }
  erase_dead(g, n);
}

static const Rule *find(Node *n, Match *m) {
  for (int i = 0; i < COUNTOF(rules); i++) {
    *m = (Match){0};
    if (!match(m, rules[i].pattern, n->out[0]) || !m->x) continue;
    if (m->x->dt != n->out[0]->dt || !shape_equal(&m->x->shape, &n->out[0]->shape)) continue;
    if (m->x->layout.kind != n->out[0]->layout.kind) continue;
    if (!rules[i].guard || rules[i].guard(m->k)) return &rules[i];
  }
  return NULL;
}

bool pass_activation(Graph *g, Ctx *c) {
  bool changed = false;
  for (Node *n = g->first, *next; n; n = next) {
    next = n->next;
    if (!(op_info(n->op)->flags & OPF_EW) || !dt_is_float(n->out[0]->dt)) continue;
    Match m;
    const Rule *r = find(n, &m);
    if (!r) continue;
    rewrite(g, n, r, &m);
    pass_applied(c, 1);
    pass_count(c, "activation", op_info(r->op)->name, 1);
    changed = true;
  }
  return changed;
}
