/* lower.c: kernels under construction: their parameters, and access to values by coordinates.
 *
 * Every value has at most one buffer, which may be part of another's (lower_parts.c). Views share the buffer of what they view; an output of the network gives its buffer to the values it
 * is a view of, so that their producer writes there (lower_graph arranges that before lowering). A kernel has one parameter per value it
 * touches; two views of the same memory may be two read-only parameters.
 *
 * Offsets are sums of coordinate times stride, which compilers hoist out of loops better than nested products.
 */
#include "lower.h"

#include <string.h>

/* ---- kernels ---- */

Build *lower_open(Lower *l, const Node *n, const char *what_fmt, ...) {
  va_list ap;
  va_start(ap, what_fmt);
  char what[160];
  vsnprintf(what, sizeof what, what_fmt, ap);
  va_end(ap);
  build_start(&l->b, l->arena, kernel_new(l->arena, what));
  l->node = n;
  l->nparam = 0;
  l->nseen = 0;
  l->others.n = 0;
  return &l->b;
}

static bool same_memory(const Program *p, int a, int b) {
  const Buffer *x = &p->buffers.at[a], *y = &p->buffers.at[b];
  if (a == b) return true;
  if ((x->part ? x->whole : a) != (y->part ? y->whole : b)) return false;
  return x->at < y->at + y->bytes && y->at < x->at + x->bytes;
}

/* Memory may be taken over only if every parameter on it is read at the written place. */
static void settle_aliases(Lower *l) {
  bool any = false;
  for (int i = 0; i < l->nparam; i++) {
    Var *v = l->param[i].var;
    if (!v->may_alias || v->access != ACCESS_IN) continue;
    for (int j = 0; j < l->nparam; j++)
      if (same_memory(l->p, l->param[j].buffer, l->param[i].buffer) && !l->param[j].var->may_alias) v->may_alias = false;
    any |= v->may_alias;
  }
  for (int i = 0; i < l->nparam && !any; i++) l->param[i].var->may_alias = false;
}

/* The call computes the node being lowered, and others with it. */
static void set_origin(Lower *l, Call *c) {
  int n = l->node->norigin;
  for (int i = 0; i < l->others.n; i++) n += l->others.at[i]->norigin;
  const char **origin = l->others.n ? NEW_N(l->p->arena, const char *, MAXI(n, 1)) : l->node->origin;
  c->origin = origin;
  c->norigin = n;
  c->onnx_op = l->node->onnx_op;
  if (!l->others.n) return;
  for (int k = 0; k < l->node->norigin; k++) *origin++ = l->node->origin[k];
  for (int i = 0; i < l->others.n; i++)
    for (int k = 0; k < l->others.at[i]->norigin; k++) *origin++ = l->others.at[i]->origin[k];
}

void lower_close(Lower *l, double flops) {
  Kernel *k = l->b.k;
  if (!k->range) build_range(&l->b, "r", 1);
  settle_aliases(l);
  k->flops = flops;
  Call c = {.kernel = k, .args = NEW_N(l->arena, Arg, l->nparam), .node = l->node ? l->node->id : -1};
  for (int i = 0; i < l->nparam; i++) {
    const Buffer *buf = &l->p->buffers.at[l->param[i].buffer];
    c.args[i] = (Arg){l->param[i].buffer, 0};
    if (buf->kind != BUF_SCRATCH) k->bytes += (double)buf->bytes * (l->param[i].var->access == ACCESS_INOUT ? 2 : 1);
  }
  if (l->node) set_origin(l, &c);
  vec_push(l->p->arena, &l->p->kernels, k);
  vec_push(l->p->arena, &l->p->calls, c);
  l->nparam = 0;
  l->nseen = 0;
}

Expr *lower_range(Lower *l, const char *name, int64_t extent) {
  Var *r = build_range(&l->b, name, extent);
  return extent == 1 ? x_idx(&l->b, 0) : x_var(&l->b, r);
}

/* ---- buffers ---- */

int *lower_buffer_slot(Lower *l, const Value *v) {
  if (v->id >= l->nbuffer_of) {   /* a value made while lowering */
    int n = MAXI(v->id + 1, 2 * l->nbuffer_of);
    l->buffer_of = arena_grow(l->arena, l->buffer_of, (size_t)l->nbuffer_of * sizeof(int), (size_t)n * sizeof(int));
    while (l->nbuffer_of < n) l->buffer_of[l->nbuffer_of++] = -1;
  }
  return &l->buffer_of[v->id];
}

static int port_of(const Lower *l, const Value *v) {
  int n = v->is_input ? l->g->inputs.n : l->g->outputs.n;
  for (int i = 0; i < n; i++)
    if ((v->is_input ? l->g->inputs.at[i] : l->g->outputs.at[i]) == v) return i;
  ice(l->g, l->node, "lower_buffer", "%%v%d is not in the signature", v->id);
}

static int64_t pack_dims(const Value *v, Pack *p) {
  int64_t block = v->layout.block, space = shape_count_from(&v->shape, 2), c = v->shape.d[1].n;
  *p = (Pack){.src = v->data, .dt = v->dt, .ndims = 4, .limit = {c},
              .dim = {{v->shape.d[0].n, c * space, -1, 0}, {(c + block - 1) / block, block * space, 0, block}, {space, 1, -1, 0},
                      {block, space, 0, 1}}};
  return block;
}

static int weight_buffer(Lower *l, const Value *v) {
  if (v->layout.kind == LAYOUT_BLOCKED) {
    Pack p;
    int64_t block = pack_dims(v, &p);
    return program_add_pack(l->p, v->name, &p, arena_printf(l->arena, "blocked by %d", (int)block));
  }
  DenseWeight *d = NEW(l->arena, DenseWeight);
  *d = (DenseWeight){v->data, value_bytes(v)};
  return program_add_weight(l->p, (Weight){.name = v->name, .desc = "dense", .source = v->data, .bytes = (int64_t)d->bytes,
                                           .fill = weight_fill_dense, .ctx = d});
}

int lower_buffer(Lower *l, Value *v) {
  int *slot = lower_buffer_slot(l, v);
  if (*slot >= 0) return *slot;
  if (value_is_const(v)) return *slot = weight_buffer(l, v);
  Buffer buf = {.kind = BUF_ARENA, .name = v->name, .bytes = value_storage_count(v) * (int64_t)dt_size(v->dt)};
  if (v->is_input || v->is_output) {
    buf.kind = v->is_input ? BUF_INPUT : BUF_OUTPUT;
    buf.index = port_of(l, v);
  }
  return *slot = program_add_buffer(l->p, buf);
}

void lower_alias(Lower *l, Value *v, Value *of) {
  int from = lower_buffer(l, of), *slot = lower_buffer_slot(l, v);
  if (*slot < 0 && !v->is_output) *slot = from;
  else if (lower_buffer(l, v) != from) lower_copy(l, l->node, v->dt, value_storage_count(v), from, lower_buffer(l, v));
}

/* ---- parameters ---- */

static Var *add_param(Lower *l, const Value *v, int buffer, const char *name, DType dt, Access access) {
  Var *var = build_param(&l->b, name, dt, access);
  if (l->nparam == l->cap_param) {
    int cap = l->cap_param ? 2 * l->cap_param : 16;
    l->param = arena_grow(l->arena, l->param, (size_t)l->cap_param * sizeof *l->param, (size_t)cap * sizeof *l->param);
    l->cap_param = cap;
  }
  l->param[l->nparam].v = v;
  l->param[l->nparam].var = var;
  l->param[l->nparam++].buffer = buffer;
  return var;
}

static Var *find_param(const Lower *l, const Value *v) {
  for (int i = 0; i < l->nparam; i++)
    if (l->param[i].v == v) return l->param[i].var;
  return NULL;
}

Var *lower_in(Lower *l, const Value *v) {
  Var *var = find_param(l, v);
  if (var) {
    if (var->access == ACCESS_OUT) var->access = ACCESS_INOUT;
    return var;
  }
  int buffer = lower_buffer(l, (Value *)v);
  bool weight = l->p->buffers.at[buffer].kind == BUF_WEIGHT;
  return add_param(l, v, buffer, weight ? "w" : "x", v->dt, weight ? ACCESS_CONST : ACCESS_IN);
}

static Var *writable(Lower *l, Value *v, Access access) {
  Var *var = find_param(l, v);
  if (!var) return add_param(l, v, lower_buffer(l, v), "y", v->dt, access);
  if (var->access == ACCESS_CONST) ice(l->g, l->node, "lower_out", "%%v%d is constant", v->id);
  if (var->access != access) var->access = ACCESS_INOUT;
  return var;
}

Var *lower_out(Lower *l, Value *v) { return writable(l, v, find_param(l, v) ? find_param(l, v)->access : ACCESS_OUT); }
Var *lower_inout(Lower *l, Value *v) { return writable(l, v, ACCESS_INOUT); }

Var *lower_weight(Lower *l, const char *name, int buffer, DType dt) {
  for (int i = 0; i < l->nparam; i++)
    if (l->param[i].buffer == buffer && l->param[i].var->type.dt == dt) return l->param[i].var;
  return add_param(l, NULL, buffer, name, dt, ACCESS_CONST);
}

int64_t lower_scratch_limit(const Lower *l) {
  return l->scratch_limit && l->node && l->node->id < l->nscratch_limit ? l->scratch_limit[l->node->id] : INT64_MAX;
}

Var *lower_scratch(Lower *l, const char *name, DType dt, int64_t bytes) {
  int buffer = program_add_buffer(l->p, (Buffer){.kind = BUF_SCRATCH, .bytes = bytes});
  Var *var = add_param(l, NULL, buffer, name, dt, ACCESS_SCRATCH);
  var->scratch_bytes = bytes;
  return var;
}

void lower_done(Lower *l, const Node *n) {
  if (n->id >= l->ndone) ice(l->g, n, "lowering", "the node was made while lowering");
  l->done[n->id] = true;
  vec_push(l->arena, &l->others, n);
}

void lower_allow_in_place(Lower *l, const Value *v, Value *out) {
  Var *in = find_param(l, v), *to = find_param(l, out);
  if (!in || !to || in == to || in->access != ACCESS_IN) return;
  in->may_alias = to->may_alias = true;
}

void lower_copy(Lower *l, const Node *n, DType dt, int64_t count, int from, int to) {
  if (count == 0) return;
  Build *b = lower_open(l, n, "copy %lld", (long long)count);
  /* Chunks, if several threads are to have something to do. */
  int64_t chunk = l->p->max_threads > 1 && count >= 8192 ? 4096 : count;
  int lanes = dt == DT_F32 || dt == DT_I32 ? l->t->lanes : 1;
  Expr *r = lower_range(l, "r", (count + chunk - 1) / chunk);
  Var *x = add_param(l, NULL, from, l->p->buffers.at[from].kind == BUF_WEIGHT ? "w" : "x", dt,
                     l->p->buffers.at[from].kind == BUF_WEIGHT ? ACCESS_CONST : ACCESS_IN);
  Var *y = add_param(l, NULL, to, "y", dt, ACCESS_OUT);
  Expr *first = s_let(b, "first", x_muli(b, r, chunk)), *end = x_bin(b, X_MIN, x_addi(b, first, chunk), x_idx(b, count / lanes * lanes));
  Expr *i = s_for(b, "i", first, end, lanes);
  s_store(b, y, i, x_load(b, x, i, lanes));
  s_end(b);
  if (count % lanes) {
    if (count > chunk) s_if(b, x_bin(b, X_EQ, r, x_idx(b, (count - 1) / chunk)));
    Expr *j = s_for(b, "j", x_idx(b, count / lanes * lanes), x_idx(b, count), 1);
    s_store(b, y, j, x_load(b, x, j, 1));
    s_end(b);
    if (count > chunk) s_end(b);
  }
  lower_close(l, 0);
}

/* ---- access ---- */

typedef struct Seen { Shape shape; Layout layout; Var *rows; } Seen;

void lower_see_as(Lower *l, const Value *v, const Shape *shape, Layout layout) {
  if (l->nseen == l->cap_seen) {
    int cap = l->cap_seen ? 2 * l->cap_seen : 8;
    l->seen = arena_grow(l->arena, l->seen, (size_t)l->cap_seen * sizeof *l->seen, (size_t)cap * sizeof *l->seen);
    l->cap_seen = cap;
  }
  l->seen[l->nseen].v = v;
  l->seen[l->nseen].shape = *shape;
  l->seen[l->nseen].rows = NULL;
  l->seen[l->nseen++].layout = layout;
}

void lower_keep_rows(Lower *l, const Value *v, Var *scratch, int64_t height) {
  Shape s = v->shape;
  s.d[0] = dim_of(1);
  s.d[2] = dim_of(height);
  lower_see_as(l, v, &s, v->layout);
  l->seen[l->nseen - 1].rows = scratch;
}

static Seen seen_as(const Lower *l, const Value *v) {
  for (int i = 0; i < l->nseen; i++)
    if (l->seen[i].v == v) return (Seen){l->seen[i].shape, l->seen[i].layout, l->seen[i].rows};
  return (Seen){v->shape, v->layout, NULL};
}

Shape lower_shape(const Lower *l, const Value *v, Layout *layout) {
  Seen s = seen_as(l, v);
  if (layout) *layout = s.layout;
  return s.shape;
}

static Expr *index_in(Lower *l, const Seen *s, const At *at, int64_t *lane_step) {
  Build *b = &l->b;
  bool blocked = s->layout.kind == LAYOUT_BLOCKED && s->shape.rank >= 2;
  int64_t stride[MAX_RANK], block = blocked ? s->layout.block : 1, n = block;
  if (at->rank != s->shape.rank) ice(l->g, l->node, "lower_index", "place of rank %d in a value of rank %d", at->rank, s->shape.rank);
  for (int i = s->shape.rank - 1; i >= 0; i--) {
    stride[i] = n;
    n *= blocked && i == 1 ? (s->shape.d[1].n + block - 1) / block : s->shape.d[i].n;
  }
  Expr *e = x_idx(b, 0), *lane = NULL;
  for (int i = 0; i < s->shape.rank; i++) {
    if (s->shape.d[i].n == 1) continue;
    Expr *c = at->c[i];
    if (blocked && i == 1) {
      lane = x_remi(b, c, block);
      c = x_divi(b, c, block);
    }
    e = x_add(b, e, x_muli(b, c, stride[i]));
  }
  if (lane) e = x_add(b, e, lane);
  if (lane_step) {
    bool one = at->lanes > 1 && s->shape.d[at->vdim].n == 1;
    *lane_step = at->lanes == 1 ? 1 : one ? 0 : blocked && at->vdim == 1 ? 1 : stride[at->vdim];
  }
  return e;
}

Expr *lower_index(Lower *l, const Value *v, const At *at, int64_t *lane_step) {
  Seen s = seen_as(l, v);
  return index_in(l, &s, at, lane_step);
}

/* Whole blocks exist in memory, padding included: lanes within one need no count. */
static bool whole_blocks(const Seen *s, const At *at) { return s->layout.kind == LAYOUT_BLOCKED && at->vdim == 1 && at->lanes > 1; }

static void check_lanes(const Lower *l, const Seen *s, const At *at) {
  if (whole_blocks(s, at) && s->shape.d[1].n > 1 && s->layout.block % at->lanes)
    ice(l->g, l->node, "lower_index", "%d lanes across blocks of %d", at->lanes, s->layout.block);
}

Expr *lower_load(Lower *l, const Value *v, const At *at) {
  Build *b = &l->b;
  Seen s = seen_as(l, v);
  check_lanes(l, &s, at);
  int64_t step;
  Expr *i = index_in(l, &s, at, &step);
  Var *x = lower_in(l, v);
  if (at->lanes == 1) return x_load(b, x, i, 1);
  if (step == 0) return x_splat(b, x_load(b, x, i, 1), at->lanes);
  return x_load_part(b, x, i, at->lanes, whole_blocks(&s, at) ? NULL : at->count, step == 1 ? NULL : x_idx(b, step));
}

/* A constant of one element is written into the code. */
static Expr *immediate(Lower *l, const Value *v, int lanes) {
  if (!value_is_const(v) || value_count(v) != 1) return NULL;
  Type t = type_of(v->dt, lanes);
  return dt_is_float(v->dt) ? x_float(&l->b, t, data_get_f(v->data, v->dt, 0)) : x_int(&l->b, t, data_get_i(v->data, v->dt, 0));
}

Expr *lower_load_broadcast(Lower *l, const Value *v, const At *at, int up) {
  Expr *e = immediate(l, v, at->lanes);
  if (e) return e;
  Build *b = &l->b;
  int rank = seen_as(l, v).shape.rank, skip = at->rank - rank;
  if (skip < 0) ice(l->g, l->node, "lower_load_broadcast", "rank %d into %d", rank, at->rank);
  At a = {.rank = rank, .lanes = at->lanes, .vdim = at->vdim - skip, .count = at->count};
  for (int i = 0; i < rank; i++) {
    a.c[i] = at->c[i + skip];
    if (up && i + skip >= 2) a.c[i] = x_bin(b, X_SHR, a.c[i], x_idx(b, up));
  }
  if (at->lanes > 1 && a.vdim < 0) {
    a.lanes = 1;
    return x_splat(b, lower_load(l, v, &a), at->lanes);
  }
  if (up && at->lanes > 1 && at->vdim >= 2) ice(l->g, l->node, "lower_load_broadcast", "lanes along an upsampled dimension");
  return lower_load(l, v, &a);
}

void lower_store(Lower *l, Value *v, const At *at, Expr *e) {
  Build *b = &l->b;
  Seen s = seen_as(l, v);
  check_lanes(l, &s, at);
  At place = *at;
  if (s.rows) place.c[2] = x_remi(b, at->c[2], s.shape.d[2].n);
  int64_t step;
  Expr *i = index_in(l, &s, &place, &step);
  Var *y = s.rows ? s.rows : lower_out(l, v);
  if (at->lanes == 1) {
    s_store(b, y, i, e);
    return;
  }
  if (whole_blocks(&s, at)) step = 1;   /* even of a single channel */
  Expr *count = whole_blocks(&s, at) ? NULL : at->count;
  if (step == 0) {
    if (!count) ice(l->g, l->node, "lower_store", "%d lanes along an extent of 1", at->lanes);
    count = x_idx(b, 1);   /* all there can be */
    step = 1;
  }
  s_store_part(b, y, i, x_splat(b, e, at->lanes), count, step == 1 ? NULL : x_idx(b, step));
}

/* ---- bodies ---- */

Expr *lower_ew(Lower *l, Op op, const void *attr, DType result, Expr *const *x, int n) {
  int lanes = 1;
  Expr *y[3] = {0};
  for (int i = 0; i < n; i++) lanes = MAXI(lanes, x[i]->type.lanes);
  for (int i = 0; i < n; i++) y[i] = x_splat(&l->b, x[i], lanes);
  Expr *e = op_info(op)->ew(&l->b, attr, y, n);
  if (e->type.dt != result) ice(l->g, l->node, "lower_ew", "%s gives %s, not %s", op_info(op)->name, dt_name(e->type.dt), dt_name(result));
  return e;
}

/* How often the body reads this (the own result, a step, or an operand). */
static int arg_uses(const Node *n, ArgKind kind, int i, int up) {
  int uses = 0;
  for (int s = 0; s < n->nbody; s++)
    for (int j = 0; j < n->body[s].nargs; j++) {
      const BodyArg *a = &n->body[s].arg[j];
      uses += a->kind == kind && (kind == ARG_ACC || (a->i == i && a->up == up));
    }
  return uses;
}

typedef struct Loaded { int i, up; Expr *e; } Loaded;

Expr *lower_body(Lower *l, const Node *n, Expr *acc, const At *at) {
  if (n->nbody == 0) return acc;
  Build *b = &l->b;
  Expr **step = NEW_N(l->arena, Expr *, n->nbody);
  Loaded *loaded = NEW_N(l->arena, Loaded, 3 * (size_t)n->nbody);
  int nloaded = 0;
  if (acc && arg_uses(n, ARG_ACC, 0, 0) > 1) acc = s_let(b, "acc", acc);
  for (int s = 0; s < n->nbody; s++) {
    const BodyStep *body = &n->body[s];
    Expr *x[3] = {0};
    for (int j = 0; j < body->nargs; j++) {
      const BodyArg *a = &body->arg[j];
      if (a->kind == ARG_ACC) x[j] = acc;
      if (a->kind == ARG_STEP) x[j] = step[a->i];
      if (a->kind != ARG_IN) continue;
      for (int k = 0; k < nloaded && !x[j]; k++)
        if (loaded[k].i == a->i && loaded[k].up == a->up) x[j] = loaded[k].e;
      if (x[j]) continue;
      x[j] = lower_load_broadcast(l, n->in[a->i], at, a->up);
      if (arg_uses(n, ARG_IN, a->i, a->up) > 1) x[j] = s_let(b, "in", x[j]);
      loaded[nloaded++] = (Loaded){a->i, a->up, x[j]};
    }
    step[s] = lower_ew(l, body->op, body->attr, body->dt, x, body->nargs);
    if (arg_uses(n, ARG_STEP, s, 0) > 1) step[s] = s_let(b, "t", step[s]);
  }
  return step[n->nbody - 1];
}

void lower_finish(Lower *l, const Node *n, Expr *acc, const At *at) { lower_store(l, n->out[0], at, lower_body(l, n, acc, at)); }

/* ---- vectors ---- */

static bool vector_type(DType t) { return t == DT_F32 || t == DT_I32; }

/* Vector units have no integer division, and shifts by a vector are not everywhere; Shrink computes integers in f64. */
static bool vector_op(Op op, DType t) {
  return t == DT_F32 || (op != OP_Div && op != OP_Mod && op != OP_Pow && op != OP_BitShift && op != OP_Shrink);
}

bool lower_vectors_ok(const Lower *l, const Node *n) {
  if (l->t->lanes < 2) return false;
  for (int i = 0; i < n->nin; i++) {
    const Value *v = n->in[i];
    if (v && !vector_type(v->dt) && !(i >= n->ncore && value_is_const(v) && value_count(v) == 1 && v->dt == DT_BOOL)) return false;
  }
  const Value *out = n->nout ? n->out[0] : NULL;
  if (!out || !vector_type(out->dt) || !vector_op(n->op, n->nin && n->in[0] ? n->in[0]->dt : out->dt)) return false;
  for (int s = 0; s < n->nbody; s++) {
    const BodyStep *b = &n->body[s];
    if ((!vector_type(b->dt) && b->dt != DT_BOOL) || !vector_op(b->op, b->dt)) return false;
    for (int j = 0; j < b->nargs; j++)
      if (b->arg[j].kind == ARG_IN && b->arg[j].up && out->layout.kind == LAYOUT_PLAIN) return false;
  }
  return true;
}
