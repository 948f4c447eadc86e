/* backend/interp/compile.c: a kernel to the interpreter's code.
 *
 * Every block compiles into a code buffer of its own, appended to its parent's when the block closes. A pure expression (no loads, no
 * registers) is computed in the outermost block where all it uses is known: it is appended to that block's buffer, which at that moment
 * ends where the loops inside it will be put. Equal pure expressions are computed once. So addresses cost little more than their
 * innermost term, however lowering spelled them.
 *
 * Slots: a temporary is free again once it was used; what a block owns (lets, registers, pure values) when it closes. A pure value that
 * moves out of open blocks gets memory no one used before: code of those blocks, which runs after it, writes the other slots.
 */
#include "interp.h"

/* depth: the block the value belongs to, 0 the outermost; IMPURE: it may change or fault, so it is neither moved nor shared. */
#define IMPURE (-1)
typedef struct Val { int32_t slot; int depth; bool temp; int size; } Val;

typedef struct Pure { Ins key; int32_t slot; int depth, next; bool dead; } Pure;
typedef struct Held { int32_t slot; int size; } Held;

typedef struct Scope {
  VEC(Ins) code;
  VEC(Held) held;
  VEC(int) pure;           /* entries of Compile.pure to kill */
} Scope;

#define SIZE_CLASSES 7     /* 8, 16, 32, ... 512 bytes */
#define BUCKETS 1024

typedef struct Compile {
  Arena *arena;
  Scope *scope[BUILD_DEPTH + 2];
  int depth;
  Val *var;                /* by id */
  int *param;              /* by id: position of a buffer in the argument list */
  VEC(int32_t) unused[SIZE_CLASSES];
  int32_t frame;
  VEC(Pure) pure;
  int bucket[BUCKETS];     /* 1 + entry; 0: none */
  struct { int32_t slot; const Expr *e; } *fixed;   /* constants */
  int nfixed, cap_fixed;
  VEC(const uint8_t *) shuffle;
} Compile;

/* ---- slots ---- */

static int slot_size(Type t) { return t.lanes == 1 ? 8 : MAXI(16, 4 * t.lanes); }

static int size_class(int size) {
  int c = 0;
  while (8 << c < size) c++;
  return c;
}

static int32_t slot_fresh(Compile *c, int size) {
  int align = MINI(size, 64);
  int32_t at = (c->frame + align - 1) / align * align;
  c->frame = at + size;
  return at;
}

static int32_t slot_take(Compile *c, int size) {
  int cls = size_class(size);
  if (c->unused[cls].n) return c->unused[cls].at[--c->unused[cls].n];
  return slot_fresh(c, 8 << cls);
}

static void slot_drop(Compile *c, int32_t slot, int size) { vec_push(c->arena, &c->unused[size_class(size)], slot); }

static void hold(Compile *c, int depth, int32_t slot, int size) {
  Held h = {slot, size};
  vec_push(c->arena, &c->scope[depth]->held, h);
}

static void release(Compile *c, Val v) {
  if (v.temp) slot_drop(c, v.slot, v.size);
}

/* ---- blocks ---- */

static void scope_open(Compile *c) { c->scope[++c->depth] = NEW(c->arena, Scope); }

static Scope *scope_close(Compile *c) {
  Scope *s = c->scope[c->depth--];
  for (int i = 0; i < s->held.n; i++) slot_drop(c, s->held.at[i].slot, s->held.at[i].size);
  for (int i = 0; i < s->pure.n; i++) c->pure.at[s->pure.at[i]].dead = true;
  return s;
}

static void emit_at(Compile *c, int depth, Ins i) { vec_push(c->arena, &c->scope[depth]->code, i); }

static void emit(Compile *c, Code code, int32_t d, int32_t a, int32_t b, int32_t x, int64_t imm) {
  Ins i = {.go.code = code, .d = d, .a = a, .b = b, .c = x, .imm = imm};
  emit_at(c, c->depth, i);
}

static void append(Compile *c, const Scope *s) {
  for (int i = 0; i < s->code.n; i++) emit_at(c, c->depth, s->code.at[i]);
}

/* ---- values ---- */

static uint32_t key_hash(const Ins *k) {
  uint64_t h = (uint64_t)k->go.code * 0x9e3779b97f4a7c15u;
  h = (h ^ (uint32_t)k->a) * 0x9e3779b97f4a7c15u;
  h = (h ^ (uint32_t)k->b) * 0x9e3779b97f4a7c15u;
  h = (h ^ (uint32_t)k->c) * 0x9e3779b97f4a7c15u;
  h = (h ^ (uint64_t)k->imm) * 0x9e3779b97f4a7c15u;
  return (uint32_t)(h >> 40) % BUCKETS;
}

static bool key_equal(const Ins *x, const Ins *y) {
  return x->go.code == y->go.code && x->a == y->a && x->b == y->b && x->c == y->c && x->imm == y->imm;
}

static const Pure *pure_find(const Compile *c, const Ins *key) {
  for (int i = c->bucket[key_hash(key)]; i; i = c->pure.at[i - 1].next) {
    const Pure *p = &c->pure.at[i - 1];
    if (!p->dead && key_equal(&p->key, key)) return p;
  }
  return NULL;
}

static void pure_add(Compile *c, const Ins *key, int32_t slot, int depth) {
  int *bucket = &c->bucket[key_hash(key)];
  Pure p = {*key, slot, depth, *bucket, false};
  vec_push(c->arena, &c->pure, p);
  *bucket = c->pure.n;
  vec_push(c->arena, &c->scope[depth]->pure, c->pure.n - 1);
}

/* The value of an instruction without side effects; `ops` are its operands' values, all read by now. want: where an impure value should
 * go, or -1. */
static Val value(Compile *c, Ins i, Type t, const Val *ops, int n, int32_t want) {
  int size = slot_size(t), depth = 0;
  for (int j = 0; j < n; j++) depth = depth == IMPURE || ops[j].depth == IMPURE ? IMPURE : MAXI(depth, ops[j].depth);
  if (depth == IMPURE) {
    Val v = {want >= 0 ? want : slot_take(c, size), IMPURE, want < 0, size};
    i.d = v.slot;
    emit_at(c, c->depth, i);
    for (int j = 0; j < n; j++) release(c, ops[j]);
    return v;
  }
  const Pure *p = pure_find(c, &i);
  if (p) return (Val){p->slot, p->depth, false, size};
  int32_t slot = depth < c->depth ? slot_fresh(c, size) : slot_take(c, size);
  hold(c, depth, slot, size);
  pure_add(c, &i, slot, depth);
  i.d = slot;
  emit_at(c, depth, i);
  return (Val){slot, depth, false, size};
}

/* A constant's slot is filled before the kernel runs. */
static Val constant(Compile *c, const Expr *e) {
  Ins key = {.go.code = -1 - (intptr_t)e->op, .a = (int32_t)e->type.dt, .b = e->type.lanes};
  key.imm = dt_is_float(e->type.dt) ? f64_bits(e->f) : e->i;
  const Pure *p = pure_find(c, &key);
  int size = slot_size(e->type);
  if (p) return (Val){p->slot, 0, false, size};
  int32_t slot = slot_fresh(c, size);
  pure_add(c, &key, slot, 0);
  if (c->nfixed == c->cap_fixed) {
    int cap = c->cap_fixed ? 2 * c->cap_fixed : 32;
    c->fixed = arena_grow(c->arena, c->fixed, (size_t)c->cap_fixed * sizeof *c->fixed, (size_t)cap * sizeof *c->fixed);
    c->cap_fixed = cap;
  }
  c->fixed[c->nfixed].slot = slot;
  c->fixed[c->nfixed++].e = e;
  return (Val){slot, 0, false, size};
}

static int chunks(int lanes) { return (lanes + 3) / 4; }

static Ins ins(Code code, int32_t a, int32_t b, int32_t x, int64_t imm) {
  return (Ins){.go.code = code, .a = a, .b = b, .c = x, .imm = imm};
}

static void move(Compile *c, Type t, int32_t to, int32_t from) {
  if (to == from) return;
  if (SLOT_IS_32(t.dt)) emit(c, select_width(I_MOVE_1, t.lanes), to, from, 0, 0, chunks(t.lanes));
  else emit(c, I_MOVE_L, to, from, 0, 0, 0);
}

/* ---- expressions ---- */

static Val expr(Compile *c, const Expr *e, int32_t want);

static Val eval(Compile *c, const Expr *e, const Val *v, int n, int32_t want) {
  EvalSpec s = {e->op, e->type.lanes, n, e->type.dt, e->a[0]->type.dt};
  return value(c, ins(I_EVAL, v[0].slot, n > 1 ? v[1].slot : 0, n > 2 ? v[2].slot : 0, eval_pack(s)), e->type, v, n, want);
}

/* Sums, products and quotients of 64-bit integers with a constant. */
static bool address(Compile *c, const Expr *e, int32_t want, Val *out) {
  const Expr *l = e->a[0], *r = e->a[1];
  Val v[2];
  if (e->op == X_ADD && l->op == X_MUL && l->a[1]->op == X_CONST && r->op != X_CONST) {
    v[0] = expr(c, l->a[0], -1);
    v[1] = expr(c, r, -1);
    *out = value(c, ins(I_MUL_ADD_L, v[0].slot, v[1].slot, 0, l->a[1]->i), e->type, v, 2, want);
    return true;
  }
  if (r->op != X_CONST) return false;
  Code code = I_COUNT;
  int64_t k = r->i;
  if (e->op == X_ADD || e->op == X_SUB) {
    code = I_ADD_LK;
    if (e->op == X_SUB) k = ev_sub(0, k);
  } else if (e->op == X_MUL) {
    code = I_MUL_LK;
  } else if (k > 0 && e->op == X_DIV) {
    code = I_DIV_LK;
  } else if (k > 0 && e->op == X_REM) {
    code = I_REM_LK;
  }
  if (code == I_COUNT) return false;
  v[0] = expr(c, l, -1);
  *out = value(c, ins(code, v[0].slot, 0, 0, k), e->type, v, 1, want);
  return true;
}

/* Arithmetic and comparisons of one or two operands. */
static Val arithmetic(Compile *c, const Expr *e, int32_t want) {
  DType t = e->a[0]->type.dt;
  int lanes = e->type.lanes, n = x_table[e->op].nargs;
  Val v[2] = {{0}};
  bool i64 = t == DT_IDX || t == DT_I64;
  if (i64 && n == 2 && address(c, e, want, &v[0])) return v[0];
  int code = select_arithmetic(e->op, t);
  for (int i = 0; i < n; i++) v[i] = expr(c, e->a[i], -1);
  if (code < 0) return eval(c, e, v, n, want);
  if (e->op == X_GT || e->op == X_GE) {
    Val s = v[0];
    v[0] = v[1];
    v[1] = s;
  }
  bool is_wide = SLOT_IS_32(t);
  Ins i = ins((Code)code, v[0].slot, v[1].slot, 0, 0);
  if (is_wide) i = ins(select_width((Code)code, lanes), v[0].slot, v[1].slot, 0, chunks(lanes));
  return value(c, i, e->type, v, n, want);
}

static Val fused(Compile *c, const Expr *e, int32_t want) {
  const Expr *l = e->a[0], *r = e->a[1];
  int lanes = e->type.lanes;
  Val v[3];
  if (r->op == X_SPLAT) {
    const Expr *t = l;
    l = r;
    r = t;
  }
  bool splat = l->op == X_SPLAT;
  v[0] = expr(c, splat ? l->a[0] : l, -1);
  v[1] = expr(c, r, -1);
  v[2] = expr(c, e->a[2], -1);
  if (e->type.dt == DT_F64) return eval(c, e, v, 3, want);
  Code code = select_width(splat ? I_FMA_SPLAT_F_1 : I_FMA_F_1, lanes);
  return value(c, ins(code, v[0].slot, v[1].slot, v[2].slot, chunks(lanes)), e->type, v, 3, want);
}

static Val select(Compile *c, const Expr *e, int32_t want) {
  Val v[3];
  for (int i = 0; i < 3; i++) v[i] = expr(c, e->a[i], -1);
  Code code = SLOT_IS_32(e->type.dt) ? select_width(I_SELECT_1, e->type.lanes) : I_SELECT_L;
  return value(c, ins(code, v[0].slot, v[1].slot, v[2].slot, chunks(e->type.lanes)), e->type, v, 3, want);
}

static Val convert(Compile *c, const Expr *e, int32_t want) {
  int code = select_convert(e->op, e->type.dt, e->a[0]->type.dt);
  Val v = expr(c, e->a[0], -1);
  if (code == 0) return v;
  if (code < 0) return eval(c, e, &v, 1, want);
  Code one = (Code)(code - 1);
  bool is_wide = one != I_I_TO_L && one != I_L_TO_I && one != I_L_TO_F;
  Ins i = is_wide ? ins(select_width(one, e->type.lanes), v.slot, 0, 0, chunks(e->type.lanes)) : ins(one, v.slot, 0, 0, 0);
  return value(c, i, e->type, &v, 1, want);
}

static Val reduce(Compile *c, const Expr *e, int32_t want) {
  static const XOp step[] = {X_ADD, X_MUL, X_MIN, X_MAX};
  EvalSpec s = {step[e->op - X_REDUCE_ADD], e->a[0]->type.lanes, 2, e->type.dt, e->type.dt};
  Val v = expr(c, e->a[0], -1);
  return value(c, ins(I_REDUCE, v.slot, 0, 0, eval_pack(s)), e->type, &v, 1, want);
}

static Val shuffle(Compile *c, const Expr *e, int32_t want) {
  Val v[2] = {expr(c, e->a[0], -1), expr(c, e->a[1], -1)};
  vec_push(c->arena, &c->shuffle, e->shuffle);
  return value(c, ins(I_SHUFFLE, v[0].slot, v[1].slot, e->a[0]->type.lanes, (int64_t)(c->shuffle.n - 1) << 8 | e->type.lanes), e->type, v,
               2, want);
}

/* ---- memory ---- */

/* An index is a slot plus a constant. */
static Val index_value(Compile *c, const Expr *e, int64_t *offset) {
  *offset = 0;
  if ((e->op == X_ADD || e->op == X_SUB) && e->a[1]->op == X_CONST) {
    *offset = e->op == X_ADD ? e->a[1]->i : ev_sub(0, e->a[1]->i);
    e = e->a[0];
  }
  return expr(c, e, -1);
}

/* Lanes that are not simply consecutive go one by one. */
static bool in_parts(Type t, const Expr *count, const Expr *stride) {
  return t.lanes > 1 && (count || stride || t.lanes < 4 || t.dt == DT_BOOL);
}

static void operands(Compile *c, const Expr *count, const Expr *stride, Val v[2]) {
  v[0] = v[1] = (Val){-1, 0, false, 8};
  if (count) v[0] = expr(c, count, -1);
  if (stride) v[1] = expr(c, stride, -1);
}

static Val load(Compile *c, const Expr *e, int splat, int32_t want) {
  int64_t offset;
  Type t = splat ? type_of(e->type.dt, splat) : e->type;
  Val i = index_value(c, e->a[0], &offset), part[2];
  bool parts = !splat && in_parts(t, e->a[1], e->a[2]);
  if (parts) operands(c, e->a[1], e->a[2], part);
  Val v = {want >= 0 ? want : slot_take(c, slot_size(t)), IMPURE, want < 0, slot_size(t)};
  int param = c->param[e->var->id];
  if (parts) {
    emit(c, I_LOAD_PART, v.slot, i.slot, param, 0, offset);
    emit(c, I_OPERANDS, 0, part[0].slot, part[1].slot, t.lanes, t.dt == DT_BOOL);
    release(c, part[0]);
    release(c, part[1]);
  } else {
    emit(c, splat ? select_width(I_LOAD_SPLAT_1, splat) : select_load(t), v.slot, i.slot, param, chunks(t.lanes), offset);
  }
  release(c, i);
  return v;
}

static Val splat(Compile *c, const Expr *e, int32_t want) {
  const Expr *a = e->a[0];
  if (a->op == X_LOAD && a->type.dt != DT_BOOL) return load(c, a, e->type.lanes, want);
  Val v = expr(c, a, -1);
  return value(c, ins(select_width(I_SPLAT_1, e->type.lanes), v.slot, 0, 0, chunks(e->type.lanes)), e->type, &v, 1, want);
}

static void store(Compile *c, const Stmt *s) {
  int64_t offset;
  Type t = s->e->type;
  Val v = expr(c, s->e, -1), i = index_value(c, s->index, &offset), part[2];
  int param = c->param[s->var->id];
  if (in_parts(t, s->count, s->stride)) {
    operands(c, s->count, s->stride, part);
    emit(c, I_STORE_PART, v.slot, i.slot, param, 0, offset);
    emit(c, I_OPERANDS, 0, part[0].slot, part[1].slot, t.lanes, t.dt == DT_BOOL);
    release(c, part[0]);
    release(c, part[1]);
  } else {
    emit(c, select_store(t), v.slot, i.slot, param, chunks(t.lanes), offset);
  }
  release(c, v);
  release(c, i);
}

static Val expr(Compile *c, const Expr *e, int32_t want) {
  switch (e->op) {
  case X_CONST: case X_IOTA: return constant(c, e);
  case X_VAR: return c->var[e->var->id];
  case X_LOAD: return load(c, e, 0, want);
  case X_FMA: return fused(c, e, want);
  case X_SELECT: return select(c, e, want);
  case X_CAST: case X_BITCAST: return convert(c, e, want);
  case X_SPLAT: return splat(c, e, want);
  case X_SHUFFLE: return shuffle(c, e, want);
  case X_EXTRACT: {
    Val v = expr(c, e->a[0], -1);
    return value(c, ins(I_MOVE_1, v.slot + 4 * (int32_t)e->i, 0, 0, 1), e->type, &v, 1, want);
  }
  case X_REDUCE_ADD: case X_REDUCE_MUL: case X_REDUCE_MIN: case X_REDUCE_MAX: return reduce(c, e, want);
  case X_ADD: case X_SUB: case X_MUL: case X_DIV: case X_REM: case X_MIN: case X_MAX: case X_AND: case X_OR: case X_XOR: case X_SHL:
  case X_SHR: case X_POW: case X_NEG: case X_NOT: case X_ABS: case X_SQRT: case X_FLOOR: case X_CEIL: case X_ROUND: case X_TRUNC: case X_EQ:
  case X_NE: case X_LT: case X_LE: case X_GT: case X_GE: case X_EXP: case X_LOG: case X_SIN: case X_COS: case X_TAN: case X_ASIN:
  case X_ACOS: case X_ATAN: case X_SINH: case X_COSH: case X_TANH: case X_ASINH: case X_ACOSH: case X_ATANH: case X_ERF: case X_SIGMOID:
  case X_COUNT: break;
  }
  return arithmetic(c, e, want);
}

/* ---- statements ---- */

static void block(Compile *c, const Block *b);

static int32_t own(Compile *c, Type t) {
  int32_t slot = slot_take(c, slot_size(t));
  hold(c, c->depth, slot, slot_size(t));
  return slot;
}

static void let(Compile *c, const Stmt *s) {
  Val v = expr(c, s->e, -1);
  if (v.depth == IMPURE) {
    int32_t slot = v.slot;
    if (v.temp) {
      hold(c, c->depth, slot, v.size);
    } else {
      slot = own(c, s->e->type);
      move(c, s->e->type, slot, v.slot);
    }
    v = (Val){slot, c->depth, false, v.size};
  }
  c->var[s->var->id] = v;
}

static void assign(Compile *c, const Stmt *s) {
  int32_t slot = c->var[s->var->id].slot;
  Val v = expr(c, s->e, slot);
  move(c, s->e->type, slot, v.slot);
  release(c, v);
}

/* A loop over `body` with the counter of `v` from begin to end. */
static void loop(Compile *c, const Var *v, Val begin, Val end, int64_t step, const Block *body) {
  scope_open(c);
  int32_t slot = own(c, type_idx());
  c->var[v->id] = (Val){slot, c->depth, false, 8};
  block(c, body);
  Scope *s = scope_close(c);
  emit(c, I_FOR, slot, begin.slot, end.slot, 0, s->code.n + 1);
  append(c, s);
  emit(c, I_LOOP, slot, 0, end.slot, s->code.n + 1, step);
  release(c, begin);
  release(c, end);
}

/* Bounds must outlive the loop even where they are registers that its body sets. */
static Val bound(Compile *c, const Expr *e) {
  Val v = expr(c, e, -1);
  if (v.depth != IMPURE || v.temp) return v;
  Val copy = {slot_take(c, 8), IMPURE, true, 8};
  move(c, e->type, copy.slot, v.slot);
  return copy;
}

static void while_loop(Compile *c, const Stmt *st) {
  scope_open(c);
  Val cond = expr(c, st->e, -1);
  int exit = c->scope[c->depth]->code.n;
  emit(c, I_JUMP_ZERO, 0, cond.slot, 0, 0, 0);
  release(c, cond);
  block(c, &st->body);
  Scope *s = c->scope[c->depth];
  emit(c, I_JUMP, 0, 0, 0, 0, -(int64_t)s->code.n - 1);
  s->code.at[exit].imm = s->code.n - exit - 1;
  append(c, (scope_close(c), s));
}

static Scope *branch(Compile *c, const Block *b) {
  scope_open(c);
  block(c, b);
  return scope_close(c);
}

static void if_else(Compile *c, const Stmt *st) {
  Val cond = expr(c, st->e, -1);
  Scope *yes = branch(c, &st->body), *no = st->other.first ? branch(c, &st->other) : NULL;
  emit(c, I_JUMP_ZERO, 0, cond.slot, 0, 0, yes->code.n + (no != NULL));
  append(c, yes);
  if (no) {
    emit(c, I_JUMP, 0, 0, 0, 0, no->code.n);
    append(c, no);
  }
  release(c, cond);
}

static void block(Compile *c, const Block *b) {
  for (const Stmt *s = b->first; s; s = s->next) {
    switch (s->kind) {
    case S_FOR: {
      Val begin = bound(c, s->e), end = bound(c, s->end);
      loop(c, s->var, begin, end, s->step, &s->body);
      break;
    }
    case S_WHILE: while_loop(c, s); break;
    case S_IF: if_else(c, s); break;
    case S_LET: let(c, s); break;
    case S_REG:
      c->var[s->var->id] = (Val){own(c, s->var->type), IMPURE, false, slot_size(s->var->type)};
      assign(c, s);
      break;
    case S_SET: assign(c, s); break;
    case S_STORE: store(c, s); break;
    case S_PREFETCH: case S_PIN: case S_COMMENT: break;
    }
  }
}

/* ---- the kernel ---- */

static void fill_constant(char *slot, const Expr *e) {
  for (int l = 0; l < e->type.lanes; l++) {
    float f = (float)e->f;
    int32_t i = e->op == X_IOTA ? l : (int32_t)e->i;
    if (e->type.dt == DT_F32) memcpy(slot + 4 * l, &f, 4);
    else if (e->type.dt == DT_F64) memcpy(slot, &e->f, 8);
    else if (SLOT_IS_32(e->type.dt)) memcpy(slot + 4 * l, &i, 4);
    else memcpy(slot, &e->i, 8);
  }
}

Routine *interp_compile(Arena *a, const Kernel *k) {
  Compile *c = NEW(a, Compile);
  c->arena = a;
  c->depth = -1;
  c->var = NEW_N(a, Val, k->vars.n);
  c->param = NEW_N(a, int, k->vars.n);
  for (int i = 0; i < k->params.n; i++) c->param[k->params.at[i]->id] = i;
  scope_open(c);
  Val begin = {slot_fresh(c, 8), 0, false, 8}, end = {slot_fresh(c, 8), 0, false, 8};
  if (k->range) loop(c, k->range, begin, end, 1, &k->body);
  else block(c, &k->body);
  emit(c, I_HALT, 0, 0, 0, 0, 0);

  Routine *m = NEW(a, Routine);
  m->kernel = k;
  m->ins = c->scope[0]->code.at;
  m->n = c->scope[0]->code.n;
  m->shuffle = c->shuffle.at;
  m->begin = begin.slot;
  m->end = end.slot;
  m->frame_bytes = c->frame;
  char *frame = arena_alloc(a, (size_t)c->frame + 64);
  m->frame = frame + (64 - (uintptr_t)frame % 64) % 64;
  for (int i = 0; i < c->nfixed; i++) fill_constant(m->frame + c->fixed[i].slot, c->fixed[i].e);
  exec_link(m);
  return m;
}
