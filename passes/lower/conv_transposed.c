/* conv_transposed.c: transposed convolution as direct convolutions, one for each place of an output pixel modulo the strides.
 *
 * Along an axis of stride s and pad p, output o = r + s*q takes input i through kernel place k where i*s + k = o + p. With
 * r + p = f + s*u, 0 <= f < s, these are the places k = f + s*j, and i = u + q - j: for fixed r a convolution of stride 1 over q, of the
 * n = ceil((kernel - f)/s) weights f, f+s, ... taken backwards, with n - 1 - u pads in front. No multiplication by zero is done, and every
 * output is written once. Its pixels lie s apart, which whole vectors of channels do not mind.
 */
#include "conv_plan.h"

/* One axis, for one r. */
typedef struct Phase { int64_t count, kernel, pad, first, step; } Phase;   /* outputs; weights first, first+step, ... */

static Phase phase(int64_t r, int64_t out, int64_t kernel, int64_t stride, int64_t pad) {
  int64_t t = r + pad, f = (t % stride + stride) % stride, u = (t - f) / stride, n = (kernel - f + stride - 1) / stride;
  return (Phase){.count = r < out ? (out - r + stride - 1) / stride : 0, .kernel = n, .pad = n - 1 - u, .first = f + stride * (n - 1), .step = -stride};
}

/* False unless this is a 2-D f32 one of one group, with constant weights and no dilation, that vectors can compute. */
static bool shape_of_node(const Lower *l, const Node *n, ConvShape *s) {
  const ConvTransposeAttr *a = n->attr;
  const Value *x = n->in[0], *w = n->in[1], *bias = n->ncore > 2 ? n->in[2] : NULL, *scale = n->ncore > 3 ? n->in[3] : NULL;
  Value *y = n->out[0];
  if (a->group != 1 || x->shape.rank != 4 || x->dt != DT_F32 || !value_is_const(w) || !lower_vectors_ok(l, n)) return false;
  if ((bias && !value_is_const(bias)) || (scale && !value_is_const(scale)) || value_count(y) == 0 || value_count(x) == 0) return false;
  if (y->layout.kind == LAYOUT_BLOCKED && y->layout.block != l->t->lanes) return false;
  for (int i = 0; i < n->nin; i++)
    if (n->in[i] && n->in[i]->layout.kind == LAYOUT_BLOCKED && n->in[i]->layout.block != l->t->lanes) return false;
  const Dim *xd = x->shape.d, *yd = y->shape.d;
  *s = (ConvShape){
      .x = x, .w = w, .bias = bias, .scale = scale, .y = y, .n = xd[0].n, .c = xd[1].n, .h = xd[2].n, .iw = xd[3].n, .k = yd[1].n, .sh = 1, .sw = 1,
      .dh = 1, .dw = 1, .group = 1, .block = x->layout.kind == LAYOUT_BLOCKED ? x->layout.block : 1, .late_scale = scale && w->uses.n > 1,
      .ysy = a->strides.v[0], .ysx = a->strides.v[1],
  };
  s->wk = w->shape.d[2].n * w->shape.d[3].n;
  s->wc = s->wk * s->k;
  /* A kernel shorter than the stride leaves pixels of nothing but bias. */
  return a->dilations.v[0] == 1 && a->dilations.v[1] == 1 && w->shape.d[2].n >= s->ysy && w->shape.d[3].n >= s->ysx;
}

bool conv_transposed(Lower *l, const Node *n) {
  const ConvTransposeAttr *a = n->attr;
  ConvShape s;
  if (!shape_of_node(l, n, &s)) return false;
  const Dim *wd = n->in[1]->shape.d, *yd = n->out[0]->shape.d;
  for (int64_t ry = 0; ry < s.ysy; ry++)
    for (int64_t rx = 0; rx < s.ysx; rx++) {
      Phase py = phase(ry, yd[2].n, wd[2].n, s.ysy, a->pads.v[0]), px = phase(rx, yd[3].n, wd[3].n, s.ysx, a->pads.v[1]);
      if (py.count == 0 || px.count == 0) continue;
      ConvShape part = s;
      part.oh = py.count, part.kh = py.kernel, part.ph = py.pad, part.y0 = ry;
      part.ow = px.count, part.kw = px.kernel, part.pw = px.pad, part.x0 = rx;
      part.w0 = py.first * wd[3].n + px.first;
      part.wy = py.step * wd[3].n;
      part.wx = px.step;
      conv_direct_emit(l, n, &part, 1, "conv_transposed");
    }
  return true;
}
