/* lower_parts.c: tensors that are stretches of others: what a concatenation joins is made in its place within the result, what a slice
 * takes is read where it lies, and no kernel copies anything.
 *
 * A value's place is decided before nodes are lowered, consumers first (lower_plan_parts), so that a concatenation of concatenations puts
 * everything into the last one's buffer. Slices follow when they are lowered: their operand has its buffer by then.
 *
 * A stretch of one buffer is possible where all dims outside the axis have extent 1 in memory: the outermost axis, the channels (whole
 * blocks, where they are blocked) of a single image. An operand is made in place unless it has a place already: as part of the signature,
 * as a constant, as operand of another concatenation or of the same one before. Then its bytes are copied into the place.
 *
 * The pieces of a split that a concatenation joins again as they were, between others, are not placed one by one: the tensor that was split
 * is made there.
 */
#include "lower.h"

/* Dims as they lie in memory. */
typedef struct Dims { int rank; int64_t d[MAX_RANK + 1]; } Dims;

static Dims memory_dims(const Value *v) {
  Dims m = {.rank = v->shape.rank};
  for (int i = 0; i < m.rank; i++) m.d[i] = v->shape.d[i].n;
  if (v->layout.kind == LAYOUT_BLOCKED) {
    m.d[1] = (m.d[1] + v->layout.block - 1) / v->layout.block;
    m.d[m.rank++] = v->layout.block;
  }
  return m;
}

static bool same_layout(const Value *a, const Value *b) { return a->layout.kind == b->layout.kind && a->layout.block == b->layout.block; }

static int64_t bytes_of(const Value *v) { return value_storage_count(v) * (int64_t)dt_size(v->dt); }

/* Where the operands of a concatenation lie in its result, in bytes; false unless each is one stretch. */
static bool concat_places(const Lower *l, const Node *n, int64_t *at) {
  const Value *y = n->out[0];
  int axis;
  if (l->opt_level < 1 || n->op != OP_Concat || n->nbody || value_count(y) == 0) return false;
  if (!axis_normalise(((const AxisAttr *)n->attr)->axis, y->shape.rank, &axis)) return false;
  bool blocks = y->layout.kind == LAYOUT_BLOCKED && axis == 1;
  Dims m = memory_dims(y);
  for (int i = 0; i < axis; i++)
    if (m.d[i] != 1) return false;
  int64_t sum = 0, from = 0;
  for (int i = 0; i < n->ncore; i++) {
    const Value *x = n->in[i];
    if (!same_layout(x, y) || x->dt != y->dt || (blocks && from % y->layout.block && x->shape.d[1].n)) return false;
    at[i] = sum;
    sum += bytes_of(x);
    from += x->shape.d[axis].n;
  }
  return sum == bytes_of(y);
}

/* Where a slice lies in its operand, in bytes; -1 unless it is one stretch. */
static int64_t slice_place(const Lower *l, const Node *n) {
  if (l->opt_level < 1 || n->op != OP_Slice || n->nbody) return -1;
  const SliceAttr *s = n->attr;
  const Value *x = n->in[0], *y = n->out[0];
  if (!same_layout(x, y) || x->dt != y->dt || value_count(y) == 0) return -1;
  Dims from = memory_dims(x), to = memory_dims(y);
  int64_t stride = 1, at = 0;
  bool whole = true;   /* all dims so far */
  for (int i = from.rank - 1; i >= 0; i--) {
    int64_t start = i < x->shape.rank ? s->starts.v[i] : 0;
    if (x->layout.kind == LAYOUT_BLOCKED && i == 1) {
      bool last = start + y->shape.d[1].n == x->shape.d[1].n;
      if (start % x->layout.block || (y->shape.d[1].n % x->layout.block && !last)) return -1;
      start /= x->layout.block;
    }
    if (to.d[i] != 1 && (!whole || (i < x->shape.rank && s->steps.v[i] != 1))) return -1;
    whole = whole && to.d[i] == from.d[i];
    at += start * stride;
    stride *= from.d[i];
  }
  return at * (int64_t)dt_size(x->dt);
}

/* ---- places ---- */

static bool has_place(Lower *l, const Value *v) {
  return v->is_input || v->is_output || value_is_const(v) || !v->def || bytes_of(v) == 0 || *lower_buffer_slot(l, v) >= 0;
}

/* The tensor whose slices are operands i, i+1, ... of a concatenation, together all of it and in its order; NULL if there is none. Gives
 * the number of operands. */
static Value *split_again(const Lower *l, const Node *n, const int64_t *at, int i, int *count) {
  Value *x = n->in[i]->def && n->in[i]->def->op == OP_Slice ? n->in[i]->def->in[0] : NULL;
  if (!x || slice_place(l, n->in[i]->def) != 0) return NULL;
  int k = i;
  for (; k < n->ncore; k++) {
    const Node *s = n->in[k]->def;
    if (!s || s->op != OP_Slice || s->in[0] != x || slice_place(l, s) != at[k] - at[i]) break;
  }
  *count = k - i;
  int64_t end = k < n->ncore ? at[k] : bytes_of(n->out[0]);
  return end - at[i] == bytes_of(x) ? x : NULL;
}

static void place_operands(Lower *l, const Node *n) {
  int64_t *at = NEW_N(l->arena, int64_t, MAXI(1, n->ncore));
  if (!concat_places(l, n, at)) return;
  int whole = lower_buffer(l, n->out[0]);
  for (int i = 0; i < n->ncore; i++) {
    int count = 1;
    Value *x = split_again(l, n, at, i, &count);
    if (!x || has_place(l, x)) {
      count = 1;
      x = n->in[i];
    }
    if (!has_place(l, x)) *lower_buffer_slot(l, x) = program_add_part(l->p, whole, at[i], bytes_of(x), x->name);
    i += count - 1;
  }
}

void lower_plan_parts(Lower *l) {
  for (const Node *n = l->g->last; n; n = n->prev) {
    if (n->op == OP_Concat) place_operands(l, n);
    if (!(op_info(n->op)->flags & OPF_VIEW) || n->nbody || has_place(l, n->in[0])) continue;
    int slot = *lower_buffer_slot(l, n->out[0]);
    if (slot >= 0) *lower_buffer_slot(l, n->in[0]) = slot;
  }
}

/* ---- lowering ---- */

/* Buffer b is the `bytes` at `at` of buffer `of`. */
static bool lies_at(const Program *p, int b, int of, int64_t at, int64_t bytes) {
  const Buffer *x = &p->buffers.at[b], *y = &p->buffers.at[of];
  if (b == of) return at == 0 && bytes == y->bytes;
  return x->part && x->whole == (y->part ? y->whole : of) && x->at == at + (y->part ? y->at : 0) && x->bytes == bytes;
}

bool lower_concat_parts(Lower *l, const Node *n) {
  int64_t *at = NEW_N(l->arena, int64_t, MAXI(1, n->ncore));
  if (!concat_places(l, n, at)) return false;
  int whole = lower_buffer(l, n->out[0]);
  for (int i = 0; i < n->ncore; i++) {
    Value *x = n->in[i];
    int64_t bytes = bytes_of(x);
    if (bytes == 0) continue;
    int from = lower_buffer(l, x);
    if (lies_at(l->p, from, whole, at[i], bytes)) continue;
    lower_copy(l, n, x->dt, value_storage_count(x), from, program_add_part(l->p, whole, at[i], bytes, x->name));
  }
  return true;
}

bool lower_slice_part(Lower *l, const Node *n) {
  int64_t at = slice_place(l, n);
  Value *y = n->out[0];
  if (at < 0 || y->is_output || value_is_const(n->in[0])) return false;
  int of = lower_buffer(l, n->in[0]), *slot = lower_buffer_slot(l, y);
  if (*slot < 0) *slot = program_add_part(l->p, of, at, bytes_of(y), y->name);
  return lies_at(l->p, *slot, of, at, bytes_of(y));
}
