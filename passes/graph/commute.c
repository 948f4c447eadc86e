/* commute.c: pointwise work is done where there are fewer pixels: before an image is enlarged, after it is reduced.
 *
 * Nearest upsampling copies pixels, and a 1x1 convolution, an activation or arithmetic with per-channel constants treats every pixel alike: in
 * either order each result is the same sum of the same numbers, bit for bit. Done first, it is done on fewer pixels (4^k times fewer), and the
 * upsampling that is left over moves towards the next sum, whose operand can be read by index instead (epilogue.c). Likewise what picks
 * pixels (a nearest downsampling, a slice, a pool of one pixel) goes in front of pointwise work.
 *
 * before: %u = Resize(%x); %c = Conv1x1(%u, %w, %b); %r = Relu(%c)
 * after:  %c = Conv1x1(%x, %w, %b); %r = Relu(%c); %u = Resize(%r)
 * before: %u = Resize(%x); %v = Resize(%y); %a = Add(%u, %v)          the same resizing; also Concat(%u, %v)
 * after:  %a = Add(%x, %y); %u = Resize(%a)
 * before: %u = Resize(%x); %v = Resize(%u)
 * after:  %v = Resize(%x)
 * before: %m = Mul(%x, %s); %u = Resize(%m); %a = Add(%u, %y)         where %x has other readers: at the end, so that chains are not broken
 * after:  %u = Resize(%x); %m = Mul(%u, %s); %a = Add(%m, %y)
 * before: %c = Conv1x1(%x, %w); %y = Slice(%c)
 * after:  %s = Slice(%x); %y = Conv1x1(%s, %w)
 *
 * The concatenation of an enlarged and another tensor, as in the neck of a detector, is taken apart if only 1x1 convolutions read it. The sum
 * over channels is then made in another order, so this one is exact in real arithmetic only:
 *
 * before: %u = Resize(%x); %k = Concat(%u, %y); %c = Conv1x1(%k, %w, %b)
 * after:  %d = Conv1x1(%x, %w'); %u = Resize(%d); %e = Conv1x1(%y, %w'', %b); %c = Add(%e, %u)
 */
#include "../passes.h"

#include <string.h>

/* ---- what resizes ---- */

bool resize_repeats(const Node *r, int64_t factor[MAX_RANK]) {
  if (!r || r->op != OP_Resize || r->nbody) return false;
  const ResizeAttr *a = r->attr;
  const Shape *x = &r->in[0]->shape, *y = &r->out[0]->shape;
  bool floors = a->coord == COORD_ASYMMETRIC && a->nearest == NEAREST_FLOOR;
  bool rounds = a->coord == COORD_HALF_PIXEL && (a->nearest == NEAREST_ROUND_PREFER_FLOOR || a->nearest == NEAREST_ROUND_PREFER_CEIL);
  if (a->mode != RESIZE_NEAREST || (!floors && !rounds) || a->scales.n != x->rank || !shape_is_static(x)) return false;
  for (int i = 0; i < x->rank; i++) {
    if (x->d[i].n < 1 || y->d[i].n % x->d[i].n) return false;
    factor[i] = y->d[i].n / x->d[i].n;
    if (a->scales.v[i] != (double)factor[i]) return false;
  }
  return true;
}

/* A nearest Resize of the spatial axes only. */
static bool resizes_space(const Node *r) {
  if (!r || r->op != OP_Resize || r->nbody) return false;
  const ResizeAttr *a = r->attr;
  const Shape *x = &r->in[0]->shape, *y = &r->out[0]->shape;
  if (a->mode != RESIZE_NEAREST || a->coord == COORD_TF_CROP_AND_RESIZE || x->rank < 3) return false;
  return x->d[0].n == y->d[0].n && x->d[1].n == y->d[1].n && shape_count(x) > 0;
}

/* Makes more pixels of fewer. */
static bool enlarges(const Node *r) { return resizes_space(r) && value_count(r->in[0]) < value_count(r->out[0]); }

/* The two treat every channel alike and take the same pixels. */
static bool same_resize(const Node *a, const Node *b) {
  const Shape *x = &a->in[0]->shape, *y = &b->in[0]->shape;
  const ResizeAttr *ra = a->attr, *rb = b->attr;
  if (ra->coord != rb->coord || ra->nearest != rb->nearest || x->rank != y->rank) return false;
  for (int i = 2; i < x->rank; i++)
    if (x->d[i].n != y->d[i].n || a->out[0]->shape.d[i].n != b->out[0]->shape.d[i].n || ra->scales.v[i] != rb->scales.v[i]) return false;
  return true;
}

static bool all(Ints v, int64_t x) {
  for (int i = 0; i < v.n; i++)
    if (v.v[i] != x) return false;
  return true;
}

/* Picks pixels, fewer than there are; channels and images stay. */
static bool picks(const Node *n) {
  const Shape *x = &n->in[0]->shape, *y = &n->out[0]->shape;
  if (n->nbody || x->rank < 3 || shape_count(y) == 0 || shape_count(y) >= shape_count(x)) return false;
  if (n->op == OP_Slice) {
    const SliceAttr *a = n->attr;
    return x->d[0].n == y->d[0].n && x->d[1].n == y->d[1].n && a->steps.v[0] > 0 && a->steps.v[1] > 0;
  }
  if (n->op == OP_MaxPool) {
    const PoolAttr *a = n->attr;
    return all(a->kernel, 1) && all(a->pads, 0) && !a->ceil_mode && !n->out[1]->uses.n && !n->out[1]->is_output;
  }
  return resizes_space(n);
}

/* ---- what is pointwise ---- */

bool conv_pointwise(const Node *n) {
  if (n->op != OP_Conv || n->nbody || n->ncore > 4) return false;
  const ConvAttr *a = n->attr;
  return shape_count_from(&n->in[1]->shape, 2) == 1 && all(a->strides, 1) && all(a->pads, 0);
}

/* The same at all pixels of a result of this rank. */
static bool same_everywhere(const Value *v, int rank) {
  for (int d = 0; d < v->shape.rank; d++)
    if (rank - v->shape.rank + d >= 2 && v->shape.d[d].n != 1) return false;
  return true;
}

bool ew_pointwise(const Node *n, int data) {
  if (!(op_info(n->op)->flags & OPF_EW) || n->nbody || n->op == OP_Map) return false;
  if (!shape_equal(&n->in[data]->shape, &n->out[0]->shape)) return false;
  for (int i = 0; i < n->nin; i++)
    if (i != data && (n->in[i] == n->in[data] || !same_everywhere(n->in[i], n->out[0]->shape.rank))) return false;
  return true;
}

/* ---- rewriting ---- */

/* A node in front of n that does (part of) what `from` did. */
static Node *make(Graph *g, Node *n, const Node *from, Op op, const void *attr, Value *const *in, int nin) {
  Node *m = graph_make(g, n, op, attr, in, nin);
  if (!m) ice(g, n, "commute", "%s is refused", op_info(op)->name);
  node_copy_origin(g, m, from);
  return m;
}

/* r's resizing of x, whose pixels are as many as those of r's operand. */
static Node *make_resize(Graph *g, Node *n, const Node *r, Value *x) {
  ResizeAttr a = *(const ResizeAttr *)r->attr;
  int64_t sizes[MAX_RANK];
  for (int i = 0; i < x->shape.rank; i++) sizes[i] = i < 2 ? x->shape.d[i].n : r->out[0]->shape.d[i].n;
  a.sizes = ints_copy(g->arena, sizes, x->shape.rank);
  return make(g, n, r, OP_Resize, &a, &x, 1);
}

static void erase_unused(Graph *g, Node *n) {
  for (int i = 0; i < n->nout; i++)
    if (n->out[i]->uses.n || n->out[i]->is_output) return;
  graph_erase(g, n);
}

static void replace(Graph *g, Node *n, Value *with) {
  graph_replace_uses(g, n->out[0], with);
  graph_erase(g, n);
}

/* ---- upsampling past one node ---- */

/* The operands of n that are one upsampling of something, in mask: n may be done before it. Gives one of the Resizes; NULL if there is none.
 * An upsampling others read too is left to them; that pays for a convolution only. */
static Node *upsampled(const Node *n, unsigned *mask) {
  bool conv = conv_pointwise(n), concat = n->op == OP_Concat;
  Node *first = NULL;
  *mask = 0;
  if (!conv && !concat && !(op_info(n->op)->flags & OPF_EW)) return NULL;
  if (n->nbody || n->op == OP_Map || n->nin > 32 || n->out[0]->shape.rank < 3) return NULL;
  int axis;
  if (concat && (!axis_normalise(((const AxisAttr *)n->attr)->axis, n->out[0]->shape.rank, &axis) || axis != 1)) return NULL;
  for (int i = 0; i < (conv ? 1 : n->nin); i++) {
    const Value *v = n->in[i];
    if (!concat && !conv && same_everywhere(v, n->out[0]->shape.rank)) continue;
    if (!v->def || !enlarges(v->def) || (first && !same_resize(first, v->def)) || v->dt != n->out[0]->dt) return NULL;
    if (!conv && (v->is_output || !shape_equal(&v->shape, concat ? &v->shape : &n->out[0]->shape))) return NULL;
    for (int u = 0; u < v->uses.n && !conv; u++)
      if (v->uses.at[u].node != n) return NULL;
    if (!first) first = v->def;
    *mask |= 1u << i;
  }
  return first;
}

/* n(Resize(x)) becomes Resize(n(x)). */
static bool move_up(Graph *g, Node *n) {
  unsigned mask;
  Node *r = upsampled(n, &mask);
  if (!r) return false;
  Value **in = NEW_N(g->arena, Value *, n->nin), **old = NEW_N(g->arena, Value *, n->nin);
  for (int i = 0; i < n->nin; i++) {
    old[i] = n->in[i];
    in[i] = mask >> i & 1 ? n->in[i]->def->in[0] : n->in[i];
  }
  int nin = n->nin;
  Node *small = make(g, n, n, n->op, n->attr, in, nin);
  replace(g, n, make_resize(g, n, r, small->out[0])->out[0]);
  for (int i = 0; i < nin; i++) {
    bool done = !(mask >> i & 1);
    for (int j = 0; j < i && !done; j++) done = old[j] == old[i];
    if (!done) erase_unused(g, old[i]->def);
  }
  return true;
}

/* Costs next to nothing where its operand is read anyway. */
static bool cheap(Op op) {
  return op == OP_Add || op == OP_Sub || op == OP_Mul || op == OP_Max || op == OP_Min || op == OP_Relu || op == OP_LeakyRelu || op == OP_Clip ||
         op == OP_PRelu || op == OP_Neg || op == OP_Abs;
}

/* Resize(n(x)) becomes n(Resize(x)): where x has other readers or no node that could take n into its body, n would be a kernel of its own;
 * behind, it joins the arithmetic that reads the upsampling by index. */
static bool move_down(Graph *g, Node *r) {
  Node *n = r->nin ? r->in[0]->def : NULL;
  if (!n || !enlarges(r) || !cheap(n->op) || !value_single_use(r->in[0]) || r->out[0]->is_output) return false;
  for (int u = 0; u < r->out[0]->uses.n; u++) {
    const Node *reader = r->out[0]->uses.at[u].node;
    if (!(op_info(reader->op)->flags & OPF_EW) || reader->out[0]->dt != n->out[0]->dt) return false;
  }
  int data = -1;
  for (int i = 0; i < n->nin && data < 0; i++)
    if (ew_pointwise(n, i) && !value_is_const(n->in[i]) && n->in[i]->dt == n->out[0]->dt) data = i;
  if (data < 0) return false;
  const Value *x = n->in[data];
  if (x->def && value_single_use(x) && (op_info(x->def->op)->flags & (OPF_BODY | OPF_EW))) return false;
  Value **in = NEW_N(g->arena, Value *, n->nin);
  memcpy(in, n->in, (size_t)n->nin * sizeof *in);
  in[data] = make_resize(g, r, r, n->in[data])->out[0];
  replace(g, r, make(g, r, n, n->op, n->attr, in, n->nin)->out[0]);
  graph_erase(g, n);
  return true;
}

/* Resize(Resize(x)), each repeating pixels, becomes one. */
static bool join(Graph *g, Node *n) {
  int64_t inner[MAX_RANK], outer[MAX_RANK];
  if (n->op != OP_Resize || !resize_repeats(n, outer) || !resize_repeats(n->in[0]->def, inner)) return false;
  Node *r = n->in[0]->def;
  ResizeAttr a = *(const ResizeAttr *)n->attr;
  double scales[MAX_RANK];
  int rank = n->out[0]->shape.rank;
  for (int i = 0; i < rank; i++) scales[i] = (double)(inner[i] * outer[i]);
  a.scales = floats_copy(g->arena, scales, rank);
  Node *m = make(g, n, n, OP_Resize, &a, r->in, 1);
  node_copy_origin(g, m, r);
  replace(g, n, m->out[0]);
  erase_unused(g, r);
  return true;
}

/* ---- picking pixels before one node ---- */

/* n(p(x)) becomes p(n(x)), where n picks pixels. */
static bool pick_first(Graph *g, Node *n) {
  Node *p = n->nin ? n->in[0]->def : NULL;
  if (!p || !picks(n) || !value_single_use(n->in[0])) return false;
  int data = -1;
  for (int i = 0; i < p->nin && data < 0; i++)
    if (p->in[i] && ((i == 0 && conv_pointwise(p)) || ew_pointwise(p, i))) data = i;
  if (data < 0 || value_is_const(p->in[data]) || p->in[data]->dt != n->in[0]->dt) return false;
  const void *attr = n->attr;
  const Shape *x = &p->in[data]->shape;
  SliceAttr slice;
  ResizeAttr resize;
  int64_t sizes[MAX_RANK];
  for (int i = 0; i < x->rank; i++) sizes[i] = i < 2 ? x->d[i].n : n->out[0]->shape.d[i].n;
  if (n->op == OP_Slice) {
    slice = *(const SliceAttr *)attr;
    slice.sizes = ints_copy(g->arena, sizes, x->rank);
    attr = &slice;
  } else if (n->op == OP_Resize) {
    resize = *(const ResizeAttr *)attr;
    resize.sizes = ints_copy(g->arena, sizes, x->rank);
    attr = &resize;
  }
  Value **in = NEW_N(g->arena, Value *, p->nin);
  memcpy(in, p->in, (size_t)p->nin * sizeof *in);
  in[data] = make(g, n, n, n->op, attr, &p->in[data], 1)->out[0];
  replace(g, n, make(g, n, p, p->op, p->attr, in, p->nin)->out[0]);
  graph_erase(g, p);
  return true;
}

/* ---- concatenations taken apart ---- */

/* A part of a concatenation that is enlarged, and saves enough multiply-adds on the small side to be worth an addition on the large one. */
static bool worth_splitting(const Value *v) {
  if (!v->def || !enlarges(v->def)) return false;
  double large = (double)value_count(v), small = (double)value_count(v->def->in[0]);
  return (double)v->shape.d[1].n * (1 - small / large) >= 16;
}

/* All readers of a concatenation along channels are convolutions that can sum over its parts one by one, and one of those is enlarged. */
static bool splits(const Node *k) {
  int axis;
  if (k->op != OP_Concat || k->out[0]->is_output || k->out[0]->shape.rank != 4 || k->out[0]->dt != DT_F32) return false;
  if (!axis_normalise(((const AxisAttr *)k->attr)->axis, 4, &axis) || axis != 1 || !shape_is_static(&k->out[0]->shape)) return false;
  bool large = false;
  for (int i = 0; i < k->nin; i++) large |= worth_splitting(k->in[i]);
  for (int u = 0; u < k->out[0]->uses.n; u++) {
    const Node *n = k->out[0]->uses.at[u].node;
    if (k->out[0]->uses.at[u].slot != 0 || !conv_pointwise(n) || ((const ConvAttr *)n->attr)->group != 1) return false;
    if (!value_is_const(n->in[1]) || n->in[1]->dt != DT_F32) return false;
  }
  return large && k->out[0]->uses.n > 0;
}

/* The weights of `count` channels from each of the listed operands of k, in order. */
static Value *weights_of(Graph *g, const Value *w, const Node *k, const bool *take) {
  int64_t out = w->shape.d[0].n, in = w->shape.d[1].n, taken = 0, done = 0;
  for (int i = 0; i < k->nin; i++) taken += take[i] ? k->in[i]->shape.d[1].n : 0;
  float *data = arena_alloc_array(g->arena, (size_t)(out * taken), sizeof *data);
  for (int64_t o = 0; o < out; o++) {
    const float *row = (const float *)w->data + o * in;
    for (int i = 0; i < k->nin; i++) {
      int64_t n = k->in[i]->shape.d[1].n;
      if (take[i]) memcpy(data + done, row, (size_t)n * sizeof *data), done += n;
      row += n;
    }
  }
  Shape s = w->shape;
  s.d[1] = dim_of(taken);
  return graph_add_const(g, NULL, w->dt, &s, data);
}

/* n over the operands of k in take; the bias is added by one of the parts. */
static Value *part(Graph *g, Node *n, const Node *k, const bool *take, bool bias) {
  Value **x = NEW_N(g->arena, Value *, k->nin);
  int nx = 0;
  for (int i = 0; i < k->nin; i++)
    if (take[i]) x[nx++] = k->in[i];
  Value *data = nx == 1 ? x[0] : make(g, n, k, OP_Concat, k->attr, x, nx)->out[0];
  Value *in[4] = {data, weights_of(g, n->in[1], k, take), n->ncore > 2 && bias ? n->in[2] : NULL, n->ncore > 3 ? n->in[3] : NULL};
  return make(g, n, n, OP_Conv, n->attr, in, in[3] ? 4 : in[2] ? 3 : 2)->out[0];
}

static bool split(Graph *g, Node *n) {
  Node *k = n->op == OP_Conv && n->nin ? n->in[0]->def : NULL;
  if (!k || !splits(k)) return false;
  bool *take = NEW_N(g->arena, bool, k->nin);
  Value *sum = NULL;
  bool rest = false;
  for (int i = 0; i < k->nin; i++) {
    take[i] = !worth_splitting(k->in[i]);
    rest |= take[i];
  }
  if (rest) sum = part(g, n, k, take, true);
  for (int i = 0; i < k->nin; i++) {
    if (!worth_splitting(k->in[i])) continue;
    for (int j = 0; j < k->nin; j++) take[j] = j == i;
    Value *p = part(g, n, k, take, !sum);
    sum = sum ? make(g, n, n, OP_Add, NULL, (Value *[]){sum, p}, 2)->out[0] : p;
  }
  replace(g, n, sum);
  erase_unused(g, k);
  return true;
}

/* ---- the pass ---- */

bool pass_commute(Graph *g, Ctx *c) {
  int64_t ups = 0, downs = 0, splits_made = 0, joins = 0;
  for (bool changed = true; changed;) {
    changed = false;
    for (Node *n = g->first, *next; n; n = next) {
      next = n->next;
      bool s = split(g, n), u = !s && move_up(g, n), j = !s && !u && join(g, n), d = !s && !u && !j && pick_first(g, n);
      splits_made += s;
      ups += u;
      joins += j;
      downs += d;
      changed |= s | u | j | d;
    }
  }
  int64_t back = 0;
  for (Node *n = g->first, *next; n; n = next) {
    next = n->next;
    back += move_down(g, n);
  }
  if (ups) pass_count(c, "commute", "upsamplings moved past pointwise work", ups);
  if (back) pass_count(c, "commute", "upsamplings moved back in front of cheap arithmetic", back);
  if (joins) pass_count(c, "commute", "upsamplings joined", joins);
  if (downs) pass_count(c, "commute", "pixels picked before pointwise work", downs);
  if (splits_made) pass_count(c, "commute", "concatenations taken apart", splits_made);
  pass_applied(c, ups + downs + splits_made + joins);
  return ups + downs + splits_made + joins > 0;
}
