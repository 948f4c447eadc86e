/* conv_plan.c: reading a convolution node, and the arithmetic of register tiles that all its schedules share. */
#include "conv_plan.h"
#include "../passes.h"

#define GROUP_WASTE 4

/* The node's result and everything beside its constants can be vectors. */
static bool vectors_fit(const Lower *l, const Node *n, const Value *x) {
  const Value *y = n->out[0];
  if (x->shape.rank != 4 || x->dt != DT_F32 || !lower_vectors_ok(l, n) || value_count(y) == 0 || value_count(x) == 0) return false;
  if (y->layout.kind == LAYOUT_BLOCKED && y->layout.block != l->t->lanes) return false;
  for (int i = 0; i < n->nin; i++)   /* the body's operands too */
    if (n->in[i] && n->in[i]->layout.kind == LAYOUT_BLOCKED && n->in[i]->layout.block != l->t->lanes) return false;
  return true;
}

static bool const_or_absent(const Value *v) { return !v || v->data; }

static void set_sizes(ConvShape *s) {
  const Dim *xd = s->x->shape.d, *wd = s->w->shape.d, *yd = s->y->shape.d;
  s->n = xd[0].n, s->c = xd[1].n, s->h = xd[2].n, s->iw = xd[3].n;
  s->k = yd[1].n, s->oh = yd[2].n, s->ow = yd[3].n, s->kh = wd[2].n, s->kw = wd[3].n;
  s->block = s->x->layout.kind == LAYOUT_BLOCKED ? s->x->layout.block : 1;
  s->ysy = s->ysx = 1;
  s->wx = 1;
  s->wy = s->kw;
  s->wc = s->kh * s->kw;
  s->wk = s->wc * (s->c / s->group);
}

bool conv_shape(const Lower *l, const Node *n, ConvShape *s) {
  const ConvAttr *a = n->attr;
  const Value *w = n->in[1], *bias = n->ncore > 2 ? n->in[2] : NULL, *scale = n->ncore > 3 ? n->in[3] : NULL;
  if (!vectors_fit(l, n, n->in[0]) || !value_is_const(w) || !const_or_absent(bias) || !const_or_absent(scale)) return false;
  *s = (ConvShape){
      .x = n->in[0], .w = w, .bias = bias, .scale = scale, .y = n->out[0], .sh = a->strides.v[0], .sw = a->strides.v[1],
      .ph = a->pads.v[0], .pw = a->pads.v[1], .dh = a->dilations.v[0], .dw = a->dilations.v[1], .group = a->group,
      .late_scale = scale && w->uses.n > 1, .gate = n->ncore > 4 ? n->in[4] : NULL,
  };
  set_sizes(s);
  return true;
}

int conv_sources(const Node *n) { return n->op == OP_ConvSum ? n->ncore / 3 : 1; }

bool conv_source(const Lower *l, const Node *n, int i, ConvShape *s) {
  if (n->op != OP_ConvSum) return conv_shape(l, n, s);
  const ConvSumAttr *a = n->attr;
  const Value *x = n->in[3 * i], *w = n->in[3 * i + 1], *scale = n->in[3 * i + 2], *bias = n->in[n->ncore - 1];
  if (!vectors_fit(l, n, x) || !value_is_const(w) || !const_or_absent(bias) || !const_or_absent(scale)) return false;
  *s = (ConvShape){.x = x, .w = w, .bias = bias, .scale = scale, .y = n->out[0], .sh = a->strides.v[2 * i], .sw = a->strides.v[2 * i + 1],
                   .dh = 1, .dw = 1, .group = 1};
  set_sizes(s);
  return true;
}

bool conv_groups_dense(const Node *n, int lanes) {
  int64_t group = ((const ConvAttr *)n->attr)->group, cg = n->in[1]->shape.d[1].n, k = n->out[0]->shape.d[1].n, kg = k / group, read = 0;
  if (group == 1) return true;
  for (int64_t k0 = 0; k0 < k; k0 += lanes) read += (MINI(k0 + lanes - 1, k - 1) / kg + 1 - k0 / kg) * cg;
  return read <= GROUP_WASTE * cg * ((k + lanes - 1) / lanes);
}

int conv_sharers(const Lower *l, const Node *n, ConvShape *s, const Node **nodes) {
  const Value *w = n->in[1];
  if (w->uses.n > CONV_SHARERS_MAX) return 0;
  for (int i = 0; i < w->uses.n; i++) {
    nodes[i] = w->uses.at[i].node;
    if (nodes[i]->op != OP_Conv || w->uses.at[i].slot != 1 || !conv_shape(l, nodes[i], &s[i])) return 0;
  }
  return w->uses.n;
}

int conv_joined(const Lower *l, const Node *n, const Node **node, ConvShape *s) {
  int count = 0;
  for (const Node *m = n; m && count < CONV_JOINED_MAX && (m == n || m->joined); m = m->next, count++) {
    if (m->op != OP_Conv || !conv_shape(l, m, &s[count])) return 1;
    node[count] = m;
  }
  return count;
}

double conv_tile_cycles(int pixels, int vecs) {
  double fma = pixels * vecs / 2.0, load = (pixels + vecs) / 2.0, latency = 4;
  double c = fma > load ? fma : load;
  return (c > latency ? c : latency) + 0.5;
}

int conv_tile_pixels(const Target *t, int vecs) {
  int n = (t->vregs - 1 - vecs) / vecs;
  return n < 1 ? 1 : MINI(n, 16);
}

static Var *channel_vector(Lower *l, const char *name, const Value *v, int64_t k) {
  if (!v) return NULL;
  int64_t padded = (k + l->t->lanes - 1) / l->t->lanes * l->t->lanes;
  Pack p = {.src = v->data, .dt = DT_F32, .ndims = 1, .dim = {{padded, 1, 0, 1}}, .limit = {k}};
  return lower_weight(l, name, program_add_pack(l->p, v->name, &p, arena_printf(l->arena, "vector [%lld]", (long long)padded)), DT_F32);
}

ConvAffine conv_affine(Lower *l, const ConvShape *s) {
  return (ConvAffine){channel_vector(l, "bias", s->bias, s->k), channel_vector(l, "scale", s->late_scale ? s->scale : NULL, s->k)};
}

Expr *conv_start(Lower *l, const ConvAffine *a, Expr *k) {
  if (a->scale || !a->bias) return x_float(&l->b, type_of(DT_F32, l->t->lanes), 0);
  return s_let(&l->b, "b", x_load(&l->b, a->bias, k, l->t->lanes));
}

Expr *conv_result(Lower *l, const ConvAffine *a, Expr *sum, Expr *k) {
  Build *b = &l->b;
  if (!a->scale) return sum;
  Expr *scale = x_load(b, a->scale, k, l->t->lanes);
  return a->bias ? x_fma(b, sum, scale, x_load(b, a->bias, k, l->t->lanes)) : x_mul(b, sum, scale);
}

const float *conv_pack_scale(const ConvShape *s, int64_t first) { return s->scale && !s->late_scale ? (const float *)s->scale->data + first : NULL; }

static bool own_operand(const Node *n, const Value *v) {
  for (int i = 0; i < n->ncore; i++)
    if (n->in[i] == v) return true;
  return false;
}

void conv_allow_in_place(Lower *l, const Node *n, const ConvShape *s, const Value *kept) {
  for (int i = n->ncore; i < n->nin; i++) {
    const Value *v = n->in[i];
    if (!v || v == kept || own_operand(n, v) || value_is_const(v) || v->dt != s->y->dt || !shape_equal(&v->shape, &s->y->shape)) continue;
    if (v->layout.kind != s->y->layout.kind || v->layout.block != s->y->layout.block) continue;
    bool shifted = false;
    for (int k = 0; k < n->nbody; k++)
      for (int j = 0; j < n->body[k].nargs; j++)
        if (n->body[k].arg[j].kind == ARG_IN && n->body[k].arg[j].i == i && n->body[k].arg[j].up) shifted = true;
    if (shifted) continue;
    lower_in(l, v);   /* the body loads it later; both must be parameters by now */
    lower_out(l, s->y);
    lower_allow_in_place(l, v, s->y);
  }
}

/* Cycles of the thread that has most to do. Weights come from memory once per thread, at some ten bytes a cycle, half of it hidden. */
static double split_cycles(int threads, const ConvWork *w, int64_t strip, int64_t strips, int64_t group_panels, int64_t groups) {
  int64_t pieces = div_up(groups * w->images * strips, threads), own_groups = MINI(groups, div_up(pieces, w->images * strips));
  double input = w->input_cycles * ((double)strip + (strips > 1 ? w->halo : 0));
  return (double)pieces * (input + (double)(strip * group_panels) * w->unit_cycles) + (double)(own_groups * group_panels) * w->panel_bytes / 20;
}

ConvSplit conv_split(int threads, const ConvWork *w) {
  int64_t least = div_up(w->units, MAXI(w->most, 1));
  ConvSplit best = {0};
  double best_cycles = 0;
  for (int64_t g = 1; g <= (threads > 1 ? MINI(w->panels, 4 * threads) : 1); g++) {
    int64_t group_panels = div_up(w->panels, g), groups = div_up(w->panels, group_panels);
    for (int64_t s = least; s <= w->units && (s == least || g * s * w->images <= 4 * threads); s++) {
      int64_t strip = div_up(w->units, s), strips = div_up(w->units, strip);
      double cycles = split_cycles(threads, w, strip, strips, group_panels, groups);
      /* More pieces must be worth something. */
      if (best_cycles != 0 && cycles >= 0.99 * best_cycles) continue;
      best_cycles = cycles;
      best = (ConvSplit){strip * w->unit, strips, group_panels, groups};
    }
  }
  return best;
}
