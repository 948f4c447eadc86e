/* macs.c: multiply-adds of a node as its definition says, whatever the schedule does. */
#include "../graph.h"
#include <string.h>

/* Every label of an einsum equation is one loop; its extent is that of any operand dimension it names. */
static int64_t einsum_macs(const Node *n) {
  const EinsumAttr *a = n->attr;
  int64_t extent[256] = {0}, total = 1;
  const char *p = a->equation;
  for (int i = 0; i < n->ncore; i++) {
    int d = 0, rank = n->in[i]->shape.rank;
    for (; *p && *p != ',' && *p != '-'; p++) {
      if (*p == '.') {   /* an ellipsis covers what the named labels leave */
        int named = 0;
        for (const char *q = p; *q && *q != ',' && *q != '-'; q++) named += *q != '.' && *q != ' ';
        for (; d < rank - named; d++) extent[128 + (rank - named - d) % 64] = n->in[i]->shape.d[d].n;
        while (p[1] == '.') p++;
      } else if (*p != ' ' && d < rank) {
        unsigned char c = (unsigned char)*p;
        extent[c] = MAXI(extent[c], n->in[i]->shape.d[d].n);
        d++;
      }
    }
    if (*p == ',') p++;
  }
  for (int c = 0; c < 256; c++)
    if (extent[c] > 1) total = total > INT64_MAX / extent[c] ? INT64_MAX : total * extent[c];
  return total;
}

static int64_t times(int64_t a, int64_t b) { return b && a > INT64_MAX / b ? INT64_MAX : a * b; }

int64_t node_macs(const Node *n) {
  if (n->op == OP_Conv) return times(value_count(n->out[0]), shape_count_from(&n->in[1]->shape, 1));
  if (n->op == OP_ConvSum) {
    int64_t channels = 0;
    for (int i = 1; i < n->ncore; i += 3) channels += n->in[i]->shape.d[1].n;
    return times(value_count(n->out[0]), channels);
  }
  if (n->op == OP_ConvTranspose) return times(value_count(n->in[0]), shape_count_from(&n->in[1]->shape, 1));
  if (n->op == OP_MatMul) {
    const MatMulAttr *a = n->attr;
    const Shape *s = &n->in[0]->shape;
    return times(value_count(n->out[0]), s->d[s->rank - (a->trans_a ? 2 : 1)].n);
  }
  return n->op == OP_Einsum ? einsum_macs(n) : 0;
}
