/* ops/einsum.c: Einstein summation: any number of operands, ellipsis, repeated labels (diagonals), implicit output.
 *
 * Every label, and every dimension an ellipsis stands for, is one loop. An operand's stride along a label is the sum of the strides of the
 * dimensions that carry it (so a diagonal is a larger stride), 0 for those of extent 1, which broadcast. The result is, per output place,
 * the sum over the labels that the output lacks of the product of the operands' elements.
 * Vectors run along the last output label, or along the last summed one if that suits the operands' strides better.
 */
#include "ops.h"
#include <string.h>

#define LABELS (52 + MAX_RANK)   /* letters, then the ellipsis' dimensions, aligned at their end */

typedef struct Contraction {
  int operands;
  int64_t extent[LABELS];        /* -1: unused */
  int64_t (*stride)[LABELS];     /* per operand */
  int nout, nsum;
  int out[MAX_RANK], sum[FOLD_LOOPS];
} Contraction;

static int label_of(char c) { return c >= 'a' && c <= 'z' ? c - 'a' : c >= 'A' && c <= 'Z' ? 26 + c - 'A' : -1; }

/* One term of the equation ("ij...k") as labels; an ellipsis becomes `dots` dimensions. Gives the number of labels, -1 if malformed; the
 * labels written out are counted in *named. */
static int read_term(const char *s, size_t n, int dots, int label[2 * MAX_RANK], int *named) {
  int k = 0;
  bool seen = false;
  *named = 0;
  for (size_t i = 0; i < n; i++) {
    if (s[i] == ' ') continue;
    if (s[i] == '.') {
      if (seen || i + 2 >= n || s[i + 1] != '.' || s[i + 2] != '.') return -1;
      seen = true;
      i += 2;
      for (int d = 0; d < dots && k < 2 * MAX_RANK; d++) label[k++] = LABELS - dots + d;
      continue;
    }
    int c = label_of(s[i]);
    if (c < 0 || k >= 2 * MAX_RANK) return -1;
    label[k++] = c;
    (*named)++;
  }
  return k;
}

static bool has_dots(const char *s, size_t n) { return memchr(s, '.', n) != NULL; }

static bool bind_operand(Graph *g, const Node *n, Contraction *c, int i, const char *s, size_t len, int *dots) {
  const Value *v = n->in[i];
  int label[2 * MAX_RANK], named, rank = v->shape.rank;
  if (read_term(s, len, 0, label, &named) < 0)
    REFUSE(g, n, "terms are letters and at most one '...'", "term %d, '%.*s', is malformed", i, (int)len, s);
  int own = has_dots(s, len) ? rank - named : 0;
  if (own < 0 || named + own != rank)
    REFUSE(g, n, NULL, "the term '%.*s' does not fit operand %d of shape %s", (int)len, s, i, shape_text(g->arena, &v->shape));
  *dots = MAXI(*dots, own);
  read_term(s, len, own, label, &named);
  for (int d = 0; d < rank; d++) {
    int64_t e = v->shape.d[d].n, *have = &c->extent[label[d]];
    if (e < 0 || e > EXTENT_MAX) REFUSE(g, n, NULL, "operand %d has shape %s", i, shape_text(g->arena, &v->shape));
    if (*have >= 0 && *have != e && *have != 1 && e != 1)
      REFUSE(g, n, NULL, "a label of '%.*s' stands for both %lld and %lld", (int)len, s, (long long)*have, (long long)e);
    if (*have < 0 || *have == 1) *have = e;
    if (e != 1) c->stride[i][label[d]] += shape_count_from(&v->shape, d + 1);
  }
  return true;
}

/* Without "->": labels that occur once, in alphabetical order (capitals first), after the ellipsis. */
static void implicit_output(const char *lhs, size_t n, Contraction *c) {
  int times[128] = {0};
  for (size_t i = 0; i < n; i++)
    if (label_of(lhs[i]) >= 0) times[(unsigned char)lhs[i]]++;
  for (int ch = 'A'; ch <= 'z'; ch++)
    if (times[ch] == 1 && c->nout < MAX_RANK) c->out[c->nout++] = label_of((char)ch);
}

static bool read_output(Graph *g, const Node *n, const char *rhs, int dots, Contraction *c) {
  int label[2 * MAX_RANK], named, k = read_term(rhs, strlen(rhs), dots, label, &named);
  if (k < 0 || k > MAX_RANK) REFUSE(g, n, NULL, "the output term '%s' is malformed or too long", rhs);
  for (int i = 0; i < k; i++) {
    if (c->extent[label[i]] < 0) REFUSE(g, n, NULL, "the output has a label that no operand has");
    for (int j = 0; j < i; j++)
      if (label[j] == label[i]) REFUSE(g, n, NULL, "the output has a label twice");
    c->out[c->nout++] = label[i];
  }
  return true;
}

static bool parse(Graph *g, const Node *n, Contraction *c) {
  const EinsumAttr *a = n->attr;
  const char *eq = a->equation ? a->equation : "", *arrow = strstr(eq, "->"), *s = eq;
  size_t lhs = arrow ? (size_t)(arrow - eq) : strlen(eq);
  int dots = 0;
  *c = (Contraction){.operands = n->ncore};
  c->stride = arena_alloc_array(g->arena, (size_t)n->ncore, sizeof *c->stride);
  for (int i = 0; i < LABELS; i++) c->extent[i] = -1;
  for (int i = 0; i < n->ncore; i++) {
    size_t len = 0, left = lhs - (size_t)(s - eq);
    while (len < left && s[len] != ',') len++;
    bool last = len == left;
    if (last != (i == n->ncore - 1)) REFUSE(g, n, NULL, "'%s' does not have %d terms", eq, n->ncore);
    if (!bind_operand(g, n, c, i, s, len, &dots)) return false;
    s += len + 1;
  }
  if (arrow) {
    if (!read_output(g, n, arrow + 2, dots, c)) return false;
  } else {
    for (int d = 0; d < dots; d++) c->out[c->nout++] = LABELS - dots + d;
    implicit_output(eq, lhs, c);
  }
  for (int i = 0; i < LABELS; i++) {
    bool kept = c->extent[i] < 0;
    for (int j = 0; j < c->nout; j++) kept |= c->out[j] == i;
    if (kept || (c->extent[i] == 1)) continue;
    if (c->nsum == FOLD_LOOPS) REFUSE(g, n, NULL, "'%s' sums over more than %d labels", eq, FOLD_LOOPS);
    c->sum[c->nsum++] = i;
  }
  return true;
}

bool infer_einsum(Graph *g, Node *n) {
  Contraction c;
  DType dt;
  if (!op_check_product(g, n, n->ncore, &dt) || !parse(g, n, &c)) return false;
  Shape s = {.rank = c.nout};
  for (int i = 0; i < c.nout; i++) s.d[i] = dim_of(c.extent[c.out[i]]);
  return op_set_out(g, n, 0, dt, &s);
}

/* ---- lowering ---- */

typedef struct Sum {
  const Node *n;
  Contraction c;
  DType acc, out;
  bool along;
  int lanes;
  /* while emitting */
  Expr **base;      /* per operand */
  const At *at;
} Sum;

/* Elements of operand i `stride` apart: lanes of a vector, or one for all of them. */
static Expr *operand(Lower *l, const Sum *s, int i, Expr *index, int lanes, Expr *count, int64_t stride) {
  Build *b = &l->b;
  Var *v = lower_in(l, s->n->in[i]);
  if (stride == 0) lanes = 1;
  return x_load_as(b, s->acc, v, index, lanes, count, stride);
}

static Expr *product_term(Lower *l, Expr *const *i, int lanes, Expr *count, void *user) {
  const Sum *s = user;
  const Contraction *c = &s->c;
  Build *b = &l->b;
  int along = -1;
  if (s->along) along = c->sum[c->nsum - 1];
  else if (lanes > 1) along = c->out[s->at->vdim];
  if (!s->along) count = s->at->count;
  Expr *e = NULL;
  for (int k = 0; k < c->operands; k++) {
    Expr *index = s->base[k];
    for (int d = 0; d < c->nsum; d++) index = x_add(b, index, x_muli(b, i[d], c->stride[k][c->sum[d]]));
    Expr *x = operand(l, s, k, index, lanes, count, along < 0 ? 1 : c->stride[k][along]);
    e = e ? x_bin(b, X_MUL, e, x) : x;
  }
  return x_splat(b, e, lanes);
}

static void einsum_place(Lower *l, const At *at, void *user) {
  Sum *s = user;
  const Contraction *c = &s->c;
  Build *b = &l->b;
  s->at = at;
  for (int k = 0; k < c->operands; k++) {
    Expr *e = x_idx(b, 0);
    for (int d = 0; d < c->nout; d++) e = x_add(b, e, x_muli(b, at->c[d], c->stride[k][c->out[d]]));
    s->base[k] = s_let(b, "base", e);
  }
  int64_t extent[FOLD_LOOPS];
  for (int d = 0; d < c->nsum; d++) extent[d] = c->extent[c->sum[d]];
  Type t = type_of(s->acc, s->along ? s->lanes : at->lanes);
  lower_finish(l, s->n, x_cast(b, s->out, fold_nest(l, FOLD_SUM, t, extent, c->nsum, s->along, product_term, s)), at);
}

/* Operands that would be read with gaps along this label. */
static int gaps(const Contraction *c, int label) {
  int k = 0;
  for (int i = 0; i < c->operands; i++) k += c->stride[i][label] > 1;
  return k;
}

void lower_einsum(Lower *l, const Node *n) {
  const Value *y = n->out[0];
  Sum s = {.n = n, .acc = acc_type(n->in[0]->dt), .out = product_type(n->in[0]->dt)};
  if (value_count(y) == 0 || !parse(l->g, n, &s.c)) return;
  Contraction *c = &s.c;
  s.base = NEW_N(l->arena, Expr *, c->operands);
  int v = op_lanes(l, n, s.acc), last = MAXI(c->nout - 1, 0), lanes = 1;
  for (int i = 0; i < n->ncore; i++)
    if (n->in[i]->dt != s.acc) v = 1;
  /* The innermost summed label: the one that is read with the fewest gaps, then the longest. */
  for (int d = 0; d < c->nsum - 1; d++) {
    int a = c->sum[d], z = c->sum[c->nsum - 1];
    if (gaps(c, a) > gaps(c, z) || (gaps(c, a) == gaps(c, z) && c->extent[a] <= c->extent[z])) continue;
    c->sum[d] = z;
    c->sum[c->nsum - 1] = a;
  }
  int inner = c->nsum ? c->sum[c->nsum - 1] : -1;
  bool kept = c->nout && 2 * c->extent[c->out[last]] >= v && c->extent[c->out[last]] > 1;
  s.along = v > 1 && inner >= 0 && 2 * c->extent[inner] >= v && (!kept || gaps(c, inner) < gaps(c, c->out[last]));
  if (s.along) s.lanes = v;
  else if (kept) lanes = v;
  double terms = 1;
  for (int d = 0; d < c->nsum; d++) terms *= (double)c->extent[c->sum[d]];
  lower_open(l, n, "einsum %s", ((const EinsumAttr *)n->attr)->equation);
  lower_nest(l, &y->shape, y->layout, last, lanes, einsum_place, &s);
  lower_body_in_place(l, n, 0);
  lower_close(l, 2 * terms * (double)value_count(y));
}
