/* share.c: which operand's memory a call's result may take over. */
#include "memory.h"

int64_t segment_bytes(const Program *p, const Segment *s) {
  const Buffer *b = &p->buffers.at[s->whole];
  switch (b->kind) {
  case BUF_ARENA: return s->bytes;
  case BUF_SCRATCH: return ROUND_UP(s->bytes) * p->max_threads;
  case BUF_WEIGHT:
  case BUF_INPUT:
  case BUF_OUTPUT: break;
  }
  return 0;
}

static bool same_memory(const Segments *s, int a, int b) { return a == b || (s->lo[a] < s->hi[b] && s->lo[b] < s->hi[a]); }

/* The buffer of parameter i, if the kernel lets it share and no other argument of the call is on its memory; else -1. */
static int may_share(const Program *p, const Segments *s, const Call *c, int i) {
  int buffer = c->args[i].buffer;
  const Buffer *b = &p->buffers.at[buffer];
  if (!c->kernel->params.at[i]->may_alias || b->kind != BUF_ARENA || c->args[i].offset != 0 || b->bytes == 0) return -1;
  for (int j = 0; j < c->kernel->params.n; j++)
    if (j != i && same_memory(s, c->args[j].buffer, buffer)) return -1;
  return buffer;
}

/* Two parts of different buffers never share: that would tie the two together in what may be an awkward shape. */
int call_shares(const Program *p, const Segments *s, int t, Share *share) {
  const Call *c = &p->calls.at[t];
  int n = 0, params = c->kernel->params.n;
  for (int o = 0; o < params; o++) {
    int out = c->kernel->params.at[o]->access == ACCESS_OUT ? may_share(p, s, c, o) : -1;
    for (int i = 0; i < params && out >= 0; i++) {
      int in = c->kernel->params.at[i]->access == ACCESS_IN ? may_share(p, s, c, i) : -1;
      if (in < 0) continue;
      const Buffer *x = &p->buffers.at[in], *y = &p->buffers.at[out];
      if (x->bytes == y->bytes && !(x->part && y->part) && (x->at - y->at) % MEMORY_ALIGN == 0) share[n++] = (Share){in, out};
    }
  }
  return n;
}
