/* ir/program.c: programs: buffers, weights and how weights are packed.
 *
 * Weight bytes are described, not stored: two weights are one when they come from the same source in the same way.
 */
#include "loop.h"
#include <string.h>

#define WEIGHT_ALIGN 64

Program *program_new(Arena *a, const Target *t) {
  Program *p = NEW(a, Program);
  p->arena = a;
  p->name = "model";
  p->file = "";
  p->target = t;
  p->max_threads = 1;
  return p;
}

int program_add_buffer(Program *p, Buffer b) {
  vec_push(p->arena, &p->buffers, b);
  return p->buffers.n - 1;
}

int program_add_part(Program *p, int of, int64_t at, int64_t bytes, const char *name) {
  const Buffer *b = &p->buffers.at[of];
  Buffer part = {.kind = b->kind, .name = name, .bytes = bytes, .index = b->index, .part = true, .whole = b->part ? b->whole : of};
  part.at = at + (b->part ? b->at : 0);
  if (part.kind == BUF_INPUT || part.kind == BUF_OUTPUT) part.offset = part.at;
  return program_add_buffer(p, part);
}

static bool pack_equal(const Pack *a, const Pack *b) {
  if (a->src != b->src || a->dt != b->dt || a->ndims != b->ndims || a->scale != b->scale) return false;
  if (memcmp(a->limit, b->limit, sizeof a->limit)) return false;
  for (int i = 0; i < a->ndims; i++) {
    const PackDim *x = &a->dim[i], *y = &b->dim[i];
    if (x->n != y->n || x->stride != y->stride || x->group != y->group || x->mul != y->mul) return false;
  }
  return true;
}

static bool weight_equal(const Weight *a, const Weight *b) {
  if (!a->source || a->source != b->source || a->bytes != b->bytes || a->fill != b->fill || strcmp(a->desc, b->desc)) return false;
  return a->fill != weight_fill_pack || pack_equal(a->ctx, b->ctx);
}

int program_add_weight(Program *p, Weight w) {
  if (!w.desc) w.desc = "dense";
  for (int i = 0; i < p->weights.n; i++) {
    if (!weight_equal(&p->weights.at[i], &w)) continue;
    for (int j = 0; j < p->buffers.n; j++) {
      if (p->buffers.at[j].kind == BUF_WEIGHT && p->buffers.at[j].index == i) return j;
    }
  }
  Buffer b = {.kind = BUF_WEIGHT, .name = w.name, .bytes = w.bytes, .index = p->weights.n};
  vec_push(p->arena, &p->weights, w);
  return program_add_buffer(p, b);
}

void program_layout_weights(Program *p) {
  int64_t at = 0;
  for (int i = 0; i < p->weights.n; i++) {
    Weight *w = &p->weights.at[i];
    w->offset = at;
    at += (w->bytes + WEIGHT_ALIGN - 1) / WEIGHT_ALIGN * WEIGHT_ALIGN;
  }
  p->weight_bytes = at;
}

void weight_fill_dense(const void *ctx, void *dst) {
  const DenseWeight *d = ctx;
  if (d->bytes) memcpy(dst, d->data, d->bytes);
}

/* ---- packing ---- */

int64_t pack_count(const Pack *p) {
  int64_t n = 1;
  for (int i = 0; i < p->ndims; i++) n *= p->dim[i].n;
  return n;
}

typedef struct PackRun {
  const Pack *p;
  size_t size;
  char *dst;
  int64_t group[PACK_GROUPS];   /* sum of i * mul so far */
} PackRun;

static bool within(const PackRun *r) {
  for (int d = 0; d < r->p->ndims; d++) {
    int g = r->p->dim[d].group;
    if (g >= 0 && r->group[g] >= r->p->limit[g]) return false;
  }
  return true;
}

static void put(const PackRun *r, int64_t at) {
  const char *src = (const char *)r->p->src + at * (int64_t)r->size;
  if (!r->p->scale) {
    memcpy(r->dst, src, r->size);
    return;
  }
  float s = r->p->scale[r->group[0]];
  if (r->p->dt == DT_F32) {
    float x;
    memcpy(&x, src, sizeof x);
    x *= s;
    memcpy(r->dst, &x, sizeof x);
  } else {
    double x;
    memcpy(&x, src, sizeof x);
    x *= (double)s;
    memcpy(r->dst, &x, sizeof x);
  }
}

/* Dense runs of the last dimension, by far the most common, go through memcpy. */
static bool pack_run(PackRun *r, int64_t at) {
  const PackDim *d = &r->p->dim[r->p->ndims - 1];
  if (d->stride != 1 || r->p->scale || d->mul < 0) return false;
  int64_t n = d->n;
  if (n > 0 && !within(r)) n = 0;
  if (n > 0 && d->group >= 0 && d->mul > 0) n = MINI(n, (r->p->limit[d->group] - r->group[d->group] + d->mul - 1) / d->mul);
  memcpy(r->dst, (const char *)r->p->src + at * (int64_t)r->size, (size_t)n * r->size);
  memset(r->dst + (size_t)n * r->size, 0, (size_t)(d->n - n) * r->size);
  r->dst += (size_t)d->n * r->size;
  return true;
}

static void pack_level(PackRun *r, int level, int64_t at) {
  if (level == r->p->ndims) {
    if (within(r)) put(r, at);
    else memset(r->dst, 0, r->size);
    r->dst += r->size;
    return;
  }
  if (level == r->p->ndims - 1 && pack_run(r, at)) return;
  const PackDim *d = &r->p->dim[level];
  int64_t saved = d->group >= 0 ? r->group[d->group] : 0;
  for (int64_t i = 0; i < d->n; i++, at += d->stride) {
    pack_level(r, level + 1, at);
    if (d->group >= 0) r->group[d->group] += d->mul;
  }
  if (d->group >= 0) r->group[d->group] = saved;
}

void weight_fill_pack(const void *ctx, void *dst) {
  const Pack *p = ctx;
  PackRun r = {.p = p, .size = dt_size(p->dt), .dst = dst};
  pack_level(&r, 0, 0);
}

int program_add_pack(Program *p, const char *name, const Pack *pack, const char *desc) {
  Pack *copy = NEW(p->arena, Pack);
  *copy = *pack;
  Weight w = {.name = name,
              .desc = desc,
              .source = pack->src,
              .bytes = pack_count(pack) * (int64_t)dt_size(pack->dt),
              .fill = weight_fill_pack,
              .ctx = copy};
  return program_add_weight(p, w);
}
