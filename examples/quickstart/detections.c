/* detections.c: what a RetinaNet head says about a picture.
 *
 * Anchors as in Lin et al., "Focal Loss for Dense Object Detection" (arXiv 1708.02002), section 4: at every cell of level l three sizes,
 * 4 * 2^l * 2^(k/3), times three aspect ratios. Deltas (x, y, w, h) as in Ren et al., "Faster R-CNN" (arXiv 1506.01497), section 3.1.2:
 * the centre moves by a share of the anchor's size, the size changes by a factor exp(delta).
 */
#include "quickstart.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

static spinec_status load(const char *dir, const char *kind, int level, spinec_tensor *t, char err[RT_ERR_MAX]) {
  char path[4096];
  const int n = snprintf(path, sizeof path, "%s/%s%d.npy", dir, kind, level);
  if (n >= (int)sizeof path) return rt_fail(err, SPINEC_ERR_IO, "%s: name too long", dir);
  const spinec_status status = npy_load(path, t, err);
  if (status) return status;
  if (t->dtype == SPINEC_F32 && t->rank == 4 && t->dims[0] == 1 && t->dims[1] > 0) return SPINEC_OK;
  return rt_fail(err, SPINEC_ERR_INPUT, "%s: not a float tensor [1, channels, height, width]", path);
}

static bool fits(const HeadOutputs *h, int i) {
  const int64_t cells = h->side >> (FIRST_LEVEL + i), *c = h->cls[i].dims, *b = h->box[i].dims;
  return cells > 0 && c[2] == cells && c[3] == cells && b[2] == cells && b[3] == cells && c[1] == (int64_t)h->classes * ANCHORS &&
         b[1] == 4 * ANCHORS;
}

spinec_status head_load(const char *dir, int side, HeadOutputs *out, char err[RT_ERR_MAX]) {
  spinec_status status = SPINEC_OK;
  *out = (HeadOutputs){.side = side};
  for (int i = 0; !status && i < LEVELS; i++) {
    status = load(dir, "cls", FIRST_LEVEL + i, &out->cls[i], err);
    if (!status) status = load(dir, "box", FIRST_LEVEL + i, &out->box[i], err);
    if (!status && i == 0) out->classes = out->cls[0].dims[1] < 1 << 20 ? (int)out->cls[0].dims[1] / ANCHORS : 0;
    if (!status && (out->classes < 1 || !fits(out, i)))
      status = rt_fail(err, SPINEC_ERR_INPUT, "%s: outputs of level %d do not belong to a picture of %d pixels", dir, FIRST_LEVEL + i,
                       side);
  }
  if (status) head_free(out);
  return status;
}

void head_free(HeadOutputs *h) {
  for (int i = 0; i < LEVELS; i++) {
    free(h->cls[i].data);
    free(h->box[i].data);
  }
  memset(h, 0, sizeof *h);
}

/* ---- classes ---- */

/* The best class of an anchor at a cell: its logit; *which: the class. */
static float best_class(const HeadOutputs *h, int level, int anchor, int64_t cell, int64_t cells, int *which) {
  const float *p = (const float *)h->cls[level - FIRST_LEVEL].data + (int64_t)anchor * h->classes * cells + cell;
  float best = p[0];
  *which = 0;
  for (int k = 1; k < h->classes; k++)
    if (p[k * cells] > best) best = p[k * cells], *which = k;
  return best;
}

float *head_response(const HeadOutputs *h, int level, int *w, int *height) {
  const spinec_tensor *t = &h->cls[level - FIRST_LEVEL];
  const int64_t cells = t->dims[2] * t->dims[3];
  float *out = malloc((size_t)cells * sizeof *out);
  *height = (int)t->dims[2], *w = (int)t->dims[3];
  for (int64_t i = 0; out && i < cells; i++) {
    float best = -INFINITY;
    for (int a = 0; a < ANCHORS; a++) {
      int which;
      best = fmaxf(best, best_class(h, level, a, i, cells, &which));
    }
    out[i] = best;
  }
  return out;
}

/* ---- boxes ---- */

static Box decode(const HeadOutputs *h, int level, int anchor, int64_t cell, int64_t cells) {
  static const float ratios[] = {0.5f, 1, 2};   /* height over width */
  const float limit = logf(1000.0f / 16);       /* larger factors are cut, as in Detectron */
  const float *d = (const float *)h->box[level - FIRST_LEVEL].data + (int64_t)anchor * 4 * cells + cell;
  const int across = h->side >> level;
  const float stride = (float)(1 << level), size = 4 * stride * exp2f((float)(anchor / 3) / 3), r = sqrtf(ratios[anchor % 3]);
  const float aw = size / r, ah = size * r, cx = ((float)(cell % across) + 0.5f) * stride, cy = ((float)(cell / across) + 0.5f) * stride;
  const float w = aw * expf(fminf(d[2 * cells], limit)), t = ah * expf(fminf(d[3 * cells], limit));
  const float x = cx + d[0] * aw - w / 2, y = cy + d[cells] * ah - t / 2, side = (float)h->side;
  const float x0 = fminf(fmaxf(x, 0), side), x1 = fminf(fmaxf(x + w, 0), side);
  const float y0 = fminf(fmaxf(y, 0), side), y1 = fminf(fmaxf(y + t, 0), side);
  return (Box){x0, y0, x1 - x0, y1 - y0};
}

static float overlap_of(Box a, Box b) {
  const float w = fminf(a.x + a.w, b.x + b.w) - fmaxf(a.x, b.x), h = fminf(a.y + a.h, b.y + b.h) - fmaxf(a.y, b.y);
  const float both = w > 0 && h > 0 ? w * h : 0, either = a.w * a.h + b.w * b.h - both;
  return either > 0 ? both / either : 0;
}

/* Best first; equal ones in an order of their own so that the result does not depend on qsort. */
static int by_logit(const void *pa, const void *pb) {
  const Detection *a = pa, *b = pb;
  if (a->logit != b->logit) return a->logit < b->logit ? 1 : -1;
  if (a->level != b->level) return a->level - b->level;
  if (a->box.y != b->box.y) return a->box.y < b->box.y ? -1 : 1;
  return (a->box.x > b->box.x) - (a->box.x < b->box.x);
}

static int collect(const HeadOutputs *h, Detection *all) {
  const float area = (float)h->side * (float)h->side;
  int n = 0;
  for (int level = FIRST_LEVEL; level <= LAST_LEVEL; level++) {
    const int64_t across = h->side >> level, cells = across * across;
    for (int anchor = 0; anchor < ANCHORS; anchor++)
      for (int64_t i = 0; i < cells; i++) {
        Detection d = {.box = decode(h, level, anchor, i, cells), .level = level};
        const float share = d.box.w * d.box.h / area;
        if (!(share >= 0.002f && share <= 0.5f && d.box.w <= 3 * d.box.h && d.box.h <= 3 * d.box.w)) continue;
        d.logit = best_class(h, level, anchor, i, cells, &d.class_index);
        all[n++] = d;
      }
  }
  return n;
}

int head_detections(const HeadOutputs *h, float overlap, int per_level, Detection *out) {
  size_t total = 0;
  for (int level = FIRST_LEVEL; level <= LAST_LEVEL; level++)
    total += (size_t)ANCHORS * (size_t)(h->side >> level) * (size_t)(h->side >> level);
  Detection *all = malloc((total + 1) * sizeof *all);
  if (!all) return 0;
  const int candidates = collect(h, all);
  qsort(all, (size_t)candidates, sizeof *all, by_logit);
  int n = 0, taken[LAST_LEVEL + 1] = {0};
  for (int i = 0; i < candidates; i++) {
    bool apart = taken[all[i].level] < per_level;
    for (int k = 0; k < n; k++) apart &= overlap_of(all[i].box, out[k].box) < overlap;
    if (!apart) continue;
    taken[all[i].level]++;
    out[n++] = all[i];
  }
  free(all);
  return n;
}
