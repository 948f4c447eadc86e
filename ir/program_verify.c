/* ir/program_verify.c: checks programs: arguments against parameters, the signature, buffers against the workspace.
 *
 * Before the memory plan (workspace_bytes is 0) arena buffers have no offsets, so only what does not depend on them is checked. Afterwards
 * two segments (program_live.c) of different buffers that share bytes must not be live at the same call, unless that call is where the one
 * dies and the other is born, and it reads the one before writing the other (both parameters are marked may_alias and start at the same
 * byte).
 */
#include "loop_eval.h"

#define SIZE_MAX_BYTES ((int64_t)1 << 60)

typedef struct Check {
  const Program *p;
  Arena *arena;
  const char *wrong;
  Segments s;
} Check;

static bool fail(Check *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
static bool fail(Check *c, const char *fmt, ...) {
  if (c->wrong) return false;
  char msg[400];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(msg, sizeof msg, fmt, ap);
  va_end(ap);
  c->wrong = arena_strdup(c->arena, msg);
  return false;
}

static bool writes(const Var *v) { return v->access == ACCESS_OUT || v->access == ACCESS_INOUT || v->access == ACCESS_SCRATCH; }

/* ---- kernels ---- */

static bool kernels(Check *c) {
  for (int i = 0; i < c->p->kernels.n; i++) {
    const Kernel *k = c->p->kernels.at[i];
    const char *wrong = kernel_verify(k, c->arena);
    if (wrong) return fail(c, "kernel %s (%s): %s", k->name, k->what, wrong);
  }
  return true;
}

/* The elements of each parameter that straight-line code at constant indices touches. */
static void reach(int64_t *need, const Kernel *k, const Var *buf, const Expr *index, const Expr *count, const Expr *stride, int lanes) {
  int64_t i;
  if (count || stride || index->op != X_CONST) return;
  i = index->i;
  for (int j = 0; j < k->params.n; j++) {
    if (k->params.at[j] == buf) need[j] = i < 0 || i > SIZE_MAX_BYTES ? INT64_MAX : MAXI(need[j], i + lanes);
  }
}

static void reach_expr(int64_t *need, const Kernel *k, const Expr *e) {
  if (e->op == X_LOAD) reach(need, k, e->var, e->a[0], e->a[1], e->a[2], e->type.lanes);
  for (int i = 0; i < x_table[e->op].nargs; i++) {
    if (e->a[i]) reach_expr(need, k, e->a[i]);
  }
}

static int64_t *reached(Check *c, const Kernel *k) {
  int64_t *need = NEW_N(c->arena, int64_t, k->params.n);
  if (k->extent == 0) return need;
  for (const Stmt *s = k->body.first; s; s = s->next) {
    if (s->e) reach_expr(need, k, s->e);
    if (s->kind == S_STORE) reach(need, k, s->var, s->index, s->count, s->stride, s->e->type.lanes);
  }
  return need;
}

/* ---- calls ---- */

static bool arg_ok(Check *c, int call, const Var *v, const Arg *a, int64_t need) {
  const Program *p = c->p;
  const char *kernel = p->calls.at[call].kernel->name;
  const Buffer *b = &p->buffers.at[a->buffer];
  int64_t size = (int64_t)dt_size(v->type.dt);
  if (a->offset < 0 || a->offset > b->bytes || a->offset % size)
    return fail(c, "call %d of %s: %s starts at byte %lld of the %lld of b%d", call, kernel, v->name, (long long)a->offset,
                (long long)b->bytes, a->buffer);
  if (writes(v) && (b->kind == BUF_WEIGHT || b->kind == BUF_INPUT))
    return fail(c, "call %d of %s: %s writes to b%d, which is only read", call, kernel, v->name, a->buffer);
  if ((v->access == ACCESS_CONST) != (b->kind == BUF_WEIGHT) || (v->access == ACCESS_SCRATCH) != (b->kind == BUF_SCRATCH))
    return fail(c, "call %d of %s: %s cannot be b%d", call, kernel, v->name, a->buffer);
  if (v->access == ACCESS_SCRATCH && b->bytes - a->offset < v->scratch_bytes)
    return fail(c, "call %d of %s: %s needs %lld bytes of scratch", call, kernel, v->name, (long long)v->scratch_bytes);
  if (need > (b->bytes - a->offset) / size)
    return fail(c, "call %d of %s: %s is accessed up to element %lld but has %lld", call, kernel, v->name, (long long)need,
                (long long)((b->bytes - a->offset) / size));
  return true;
}

/* Both cover some byte. */
static bool same_memory(const Check *c, int a, int b) {
  return a == b || (c->s.lo[a] < c->s.hi[b] && c->s.lo[b] < c->s.hi[a]);
}

static int64_t place_in_whole(const Program *p, const Arg *a) { return p->buffers.at[a->buffer].at + a->offset; }

/* Parameters of one call that share memory, one of which writes. */
static bool call_aliases(Check *c, int call) {
  const Call *x = &c->p->calls.at[call];
  for (int i = 0; i < x->kernel->params.n; i++) {
    for (int j = 0; j < i; j++) {
      const Var *v = x->kernel->params.at[i], *w = x->kernel->params.at[j];
      if (!same_memory(c, x->args[i].buffer, x->args[j].buffer) || (!writes(v) && !writes(w))) continue;
      if (v->may_alias && w->may_alias && place_in_whole(c->p, &x->args[i]) == place_in_whole(c->p, &x->args[j])) continue;
      return fail(c, "call %d of %s: %s and %s are both in b%d", call, x->kernel->name, v->name, w->name, x->args[i].buffer);
    }
  }
  return true;
}

static bool calls(Check *c) {
  const Program *p = c->p;
  int64_t **need = NEW_N(c->arena, int64_t *, p->kernels.n);
  for (int i = 0, k = 0; i < p->calls.n; i++) {
    const Call *x = &p->calls.at[i];
    int tries = 0;
    while (tries < p->kernels.n && p->kernels.at[k] != x->kernel) tries++, k = (k + 1) % p->kernels.n;
    if (tries == p->kernels.n) return fail(c, "call %d is of a kernel the program does not have", i);
    if (!need[k]) need[k] = reached(c, x->kernel);
    for (int j = 0; j < x->kernel->params.n; j++) {
      if (!arg_ok(c, i, x->kernel->params.at[j], &x->args[j], need[k][j])) return false;
    }
    if (!call_aliases(c, i)) return false;
  }
  return true;
}

/* What an arena buffer or an output holds must have been written before it is read, and outputs must be written at all. */
static bool dataflow(Check *c) {
  const Program *p = c->p;
  bool *written = NEW_N(c->arena, bool, c->s.n);
  for (int i = 0; i < p->calls.n; i++) {
    const Call *x = &p->calls.at[i];
    for (int j = 0; j < x->kernel->params.n; j++)
      for (int k = c->s.lo[x->args[j].buffer]; k < c->s.hi[x->args[j].buffer]; k++) written[k] |= writes(x->kernel->params.at[j]);
    for (int j = 0; j < x->kernel->params.n; j++) {
      int b = x->args[j].buffer;
      if (p->buffers.at[b].kind != BUF_ARENA && p->buffers.at[b].kind != BUF_OUTPUT) continue;
      for (int k = c->s.lo[b]; k < c->s.hi[b]; k++)
        if (!written[k]) return fail(c, "call %d of %s reads b%d, which nothing wrote", i, x->kernel->name, b);
    }
  }
  for (int k = 0; k < c->s.n; k++) {
    const Buffer *b = &p->buffers.at[c->s.at[k].whole];
    if (b->kind == BUF_OUTPUT && !written[k]) return fail(c, "nothing writes output %d (b%d)", b->index, c->s.at[k].whole);
  }
  return true;
}

/* ---- buffers ---- */

static bool port_ok(Check *c, const Buffer *b, int i, const Port *ports, int n) {
  if (b->index < 0 || b->index >= n) return fail(c, "b%d is not in the signature", i);
  const Port *x = &ports[b->index];
  int64_t count = shape_count(&x->shape), size = (int64_t)dt_size(x->dt);
  if (!dt_computable(x->dt) || count > SIZE_MAX_BYTES / 8 || b->bytes != count * size)
    return fail(c, "b%d has %lld bytes, which '%s' does not", i, (long long)b->bytes, x->name);
  return true;
}

static bool part_ok(Check *c, int i) {
  const Program *p = c->p;
  const Buffer *b = &p->buffers.at[i];
  if (b->whole < 0 || b->whole >= p->buffers.n) return fail(c, "b%d is part of no buffer", i);
  const Buffer *w = &p->buffers.at[b->whole];
  bool port = b->kind == BUF_INPUT || b->kind == BUF_OUTPUT;
  if (w->part || b->kind != w->kind || (b->kind != BUF_ARENA && !port) || b->index != w->index)
    return fail(c, "b%d cannot be part of b%d", i, b->whole);
  if (b->at < 0 || b->at > w->bytes || b->bytes > w->bytes - b->at || (port && b->offset != b->at))
    return fail(c, "b%d is not within b%d", i, b->whole);
  return true;
}

static bool buffers(Check *c) {
  const Program *p = c->p;
  for (int i = 0; i < p->buffers.n; i++) {
    const Buffer *b = &p->buffers.at[i];
    if (b->bytes < 0 || b->bytes > SIZE_MAX_BYTES) return fail(c, "b%d has %lld bytes", i, (long long)b->bytes);
    if (b->part) {
      if (!part_ok(c, i)) return false;
      continue;
    }
    if ((b->kind == BUF_INPUT || b->kind == BUF_OUTPUT) && b->offset) return fail(c, "b%d does not begin where its tensor does", i);
    switch (b->kind) {
    case BUF_ARENA:
    case BUF_SCRATCH: break;
    case BUF_INPUT:
      if (!port_ok(c, b, i, p->inputs.at, p->inputs.n)) return false;
      break;
    case BUF_OUTPUT:
      if (!port_ok(c, b, i, p->outputs.at, p->outputs.n)) return false;
      break;
    case BUF_WEIGHT:
      if (b->index < 0 || b->index >= p->weights.n || p->weights.at[b->index].bytes != b->bytes) return fail(c, "b%d is not a weight", i);
    }
  }
  for (int i = 0; i < p->weights.n; i++) {
    const Weight *w = &p->weights.at[i];
    if (w->bytes < 0 || w->bytes > SIZE_MAX_BYTES) return fail(c, "weight %d has %lld bytes", i, (long long)w->bytes);
    if (p->weight_bytes && (w->offset < 0 || w->offset % 64 || w->offset + w->bytes > p->weight_bytes))
      return fail(c, "weight %d lies outside the %lld bytes of weights", i, (long long)p->weight_bytes);
  }
  return true;
}

/* ---- the memory plan ---- */

static int64_t extent_of(const Program *p, const Buffer *b) {
  return b->kind == BUF_SCRATCH ? b->stride * (p->max_threads - 1) + b->bytes : b->bytes;
}

static bool fits(Check *c, int i) {
  const Program *p = c->p;
  const Buffer *b = &p->buffers.at[i];
  bool scratch = b->kind == BUF_SCRATCH;
  if (b->first < 0 || b->last < b->first || b->last >= MAXI(1, p->calls.n))
    return fail(c, "b%d lives from call %d to %d", i, b->first, b->last);
  for (int k = c->s.lo[i]; k < c->s.hi[i]; k++) {
    Segment *s = &c->s.at[k];
    if (s->first >= 0 && (s->first < b->first || s->last > b->last))
      return fail(c, "b%d is used from call %d to %d, but lives from %d to %d", i, s->first, s->last, b->first, b->last);
    /* What is said to live longer does. */
    if (c->s.hi[i] - c->s.lo[i] > 1 || b->part || s->first < 0) continue;
    s->first = b->first;
    s->last = b->last;
  }
  if (scratch && (b->stride < b->bytes || b->stride > SIZE_MAX_BYTES / MAXI(1, p->max_threads)))
    return fail(c, "the threads' parts of b%d overlap", i);
  if (b->part && b->offset != p->buffers.at[b->whole].offset + b->at) return fail(c, "b%d is not in its place in b%d", i, b->whole);
  if (b->offset < 0 || (b->offset % 64 && !b->part) || (scratch && b->stride % 64)) return fail(c, "b%d is not aligned", i);
  if (b->offset > p->workspace_bytes || extent_of(p, b) > p->workspace_bytes - b->offset)
    return fail(c, "b%d lies outside the workspace of %lld bytes", i, (long long)p->workspace_bytes);
  return true;
}

/* At `call`, memory of dying buffer `from` may become that of `to`: each is one argument, both over all the bytes in question. */
static bool in_place(const Check *c, int call, const Segment *from, const Segment *to) {
  const Program *p = c->p;
  const Call *x = &p->calls.at[call];
  int64_t read = -1, write = -1;
  for (int j = 0; j < x->kernel->params.n; j++) {
    const Buffer *b = &p->buffers.at[x->args[j].buffer];
    const Var *v = x->kernel->params.at[j];
    int64_t first = c->s.lo[x->args[j].buffer], end = c->s.hi[x->args[j].buffer];
    if ((from - c->s.at < first || from - c->s.at >= end) && (to - c->s.at < first || to - c->s.at >= end)) continue;
    int64_t *at = writes(v) ? &write : &read;
    if (!v->may_alias || x->args[j].offset || (*at >= 0 && *at != b->offset)) return false;
    *at = b->offset;
  }
  return read >= 0 && read == write;
}

static int64_t place_of(const Check *c, const Segment *s) { return c->p->buffers.at[s->whole].offset + s->at; }

static int64_t size_of(const Check *c, const Segment *s) {
  const Buffer *b = &c->p->buffers.at[s->whole];
  return b->kind == BUF_SCRATCH ? extent_of(c->p, b) : s->bytes;
}

static bool apart(Check *c, const Segment *a, const Segment *b) {
  const Program *p = c->p;
  if (a->whole == b->whole || a->last < b->first || b->last < a->first) return true;
  if (place_of(c, a) >= place_of(c, b) + size_of(c, b) || place_of(c, b) >= place_of(c, a) + size_of(c, a)) return true;
  bool arenas = p->buffers.at[a->whole].kind == BUF_ARENA && p->buffers.at[b->whole].kind == BUF_ARENA;
  if (arenas && a->last == b->first && in_place(c, a->last, a, b)) return true;
  if (arenas && b->last == a->first && in_place(c, b->last, b, a)) return true;
  return fail(c, "b%d and b%d share memory while both are live", b->whole, a->whole);
}

static bool in_workspace(const Check *c, const Segment *s) {
  BufferKind k = c->p->buffers.at[s->whole].kind;
  return s->first >= 0 && (k == BUF_ARENA || k == BUF_SCRATCH);
}

static bool overlaps(Check *c) {
  const Program *p = c->p;
  for (int i = 0; i < p->buffers.n; i++) {
    bool used = false;
    for (int k = c->s.lo[i]; k < c->s.hi[i]; k++) used |= in_workspace(c, &c->s.at[k]);
    if (used && !fits(c, i)) return false;
  }
  for (int i = 0; i < c->s.n; i++) {
    if (!in_workspace(c, &c->s.at[i])) continue;
    for (int j = 0; j < i; j++)
      if (in_workspace(c, &c->s.at[j]) && !apart(c, &c->s.at[i], &c->s.at[j])) return false;
  }
  return true;
}

/* Arguments name buffers: what program_segments relies on beside what buffers() checks. */
static bool arguments(Check *c) {
  for (int i = 0; i < c->p->calls.n; i++) {
    const Call *x = &c->p->calls.at[i];
    for (int j = 0; j < x->kernel->params.n; j++)
      if (x->args[j].buffer < 0 || x->args[j].buffer >= c->p->buffers.n)
        return fail(c, "call %d of %s: %s has no buffer", i, x->kernel->name, x->kernel->params.at[j]->name);
  }
  return true;
}

const char *program_verify(const Program *p, Arena *a) {
  Check c = {.p = p, .arena = a};
  if (p->max_threads < 1 || p->workspace_bytes < 0 || p->workspace_bytes > SIZE_MAX_BYTES) fail(&c, "no threads or no workspace");
  else if (kernels(&c) && buffers(&c) && arguments(&c)) {
    c.s = program_segments(p, a);
    if (calls(&c) && dataflow(&c) && p->workspace_bytes > 0) overlaps(&c);
  }
  return c.wrong;
}
