/* budget.c: less scratch where the workspace is larger than wanted.
 *
 * After a plan it is known at which calls too much is alive. Kernels' scratch there is all that can be smaller (operands and results are in
 * place already, and their order is the best found): each such node gets a limit, by which lowering chooses smaller strips, another
 * algorithm, or at last the plain one, and the program is lowered, ordered and planned again. Where a node could not keep to its limit
 * it is halved the next time.
 */
#include "memory.h"

#define LEAST 1024           /* bytes of scratch below which no schedule is asked for */

static int64_t scratch_of(const Program *p, const Call *c) {
  int64_t sum = 0;
  for (int j = 0; j < c->kernel->params.n; j++) {
    const Buffer *b = &p->buffers.at[c->args[j].buffer];
    if (b->kind == BUF_SCRATCH) sum += ROUND_UP(b->bytes);
  }
  return sum;
}

bool budget_tighten(Ctx *c, const Graph *g, const Program *p, int64_t limit) {
  int64_t lost = p->workspace_bytes - p->live_bytes;   /* to gaps */
  bool changed = false;
  if (!c->scratch_limit) {
    c->nscratch_limit = g->next_node_id;
    c->scratch_limit = NEW_N(c->arena, int64_t, MAXI(1, c->nscratch_limit));
    for (int i = 0; i < c->nscratch_limit; i++) c->scratch_limit[i] = INT64_MAX;
  }
  for (int t = 0; t < p->calls.n; t++) {
    const Call *call = &p->calls.at[t];
    int64_t scratch = scratch_of(p, call), over = p->live[t] + lost - limit;
    if (scratch == 0 || over <= 0 || call->node < 0 || call->node >= c->nscratch_limit) continue;
    int64_t *most = &c->scratch_limit[call->node];
    if (*most == 0) continue;   /* nothing helped: it has no schedule that needs less */
    int64_t wanted = (scratch * p->max_threads - over) / p->max_threads / MEMORY_ALIGN * MEMORY_ALIGN;
    if (scratch > *most) wanted = MINI(wanted, *most / 2);
    *most = wanted < LEAST ? 0 : wanted;
    changed = true;
  }
  return changed;
}
