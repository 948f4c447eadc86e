/* coverage.c: a program that uses every operator of the loop IR on every type it is defined for, at every width.
 *
 * For each type and width and each type of result there is one kernel; every legal operator gets a slot of 256 results in its output.
 * Which operators are legal is asked of the verifier, so that a new operator or a wider rule is covered without a change here.
 * Operands come from constant arrays: all pairs of 16 numbers that are likely to break something, 256 for operators of one operand,
 * shift counts, and harmless numbers for what would otherwise cancel.
 */
#include "cgen.h"

#include <math.h>
#include <string.h>

enum { N = 256, PAIRS = 16, MAX_SLOTS = 400 };
enum { EXACT, APPROX };

typedef struct Arrays { int first, second, one, calm; } Arrays;   /* buffers of constants */

typedef struct Cover {
  Arena *a;
  Program *p;
  Build b;
  Arrays arrays[20];      /* by DType */
  DType dt, out;          /* of the kernel being built */
  int lanes, klass, slots;
  Expr *x, *y, *v, *z, *at;
  Var *first, *second, *one, *calm, *y_out;
  VEC(const char *) names;
  bool subnormals;
} Cover;

static const DType types[] = {SPINEC_F32, SPINEC_F64, SPINEC_I8, SPINEC_I16, SPINEC_I32, SPINEC_I64,
                              SPINEC_U8,  SPINEC_U16, SPINEC_U32, SPINEC_U64, SPINEC_BOOL};

/* ---- constants ---- */

static const double edge_floats[PAIRS] = {0.0, -0.0, 1.0, -1.0, 2.5, -3.5, 1e-40, 8388607.5, 2147483648.0, -2147483648.0, 4294967296.0, 1e30, -1e30, INFINITY, -INFINITY, NAN};
static const double more_floats[] = {0.5, -0.5, 1.5, -1.5, 127.5, -128.9, 255.5, -129.0, 32767.9, 65535.9, 2147483520.0, 4294967040.0, 9.3e18, -9.3e18, 1.9e19, 0.1,
                                     -0.7, 88.8, -87.5, 104.0, 3.14159, -1.5707964, 16777217.0, 8388608.5, 0.49999997, 2.5e-39, -1e-45, 3.4028235e38, 1e308, 1e-300};

static uint64_t noise(int i) {
  uint64_t z = ((uint64_t)i + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static int64_t edge_int(DType t, int k) {
  int bits = dt_bits(t);
  int64_t top = bits == 64 ? INT64_MAX : ((int64_t)1 << (dt_is_signed(t) ? bits - 1 : bits)) - 1;
  int64_t low = !dt_is_signed(t) ? 0 : bits == 64 ? INT64_MIN : -((int64_t)1 << (bits - 1));
  if (t == DT_U64) top = -1;
  const int64_t edges[PAIRS] = {0, 1, -1, 2, 3, -7, 100, -100, top, low, top - 1, low + 1, (int64_t)noise(7), (int64_t)noise(8), 1ll << (bits / 2), 16};
  return edges[k];
}

/* data_set_i keeps the low bits, as a cast does. */
static void set(void *data, DType t, int i, int64_t v) {
  if (t == DT_BOOL) ((uint8_t *)data)[i] = (uint8_t)(v & 1);
  else memcpy((char *)data + (size_t)i * dt_size(t), &v, dt_size(t));   /* little-endian, as every machine this test runs on */
}

static void fill_one(void *data, DType t, int which, int i, bool subnormals) {
  int pair = which == 0 ? i / PAIRS : i % PAIRS;
  if (dt_is_float(t)) {
    double x = edge_floats[pair];
    if (which == 2) x = i < PAIRS ? edge_floats[i] : i < PAIRS + COUNTOF(more_floats) ? more_floats[i - PAIRS] : ((double)(noise(i) >> 40) * 0x1p-23 - 1) * exp2((double)(noise(i) & 7));
    if (which == 3) x = 0.5 + (double)(noise(i) >> 40) * 0x1p-23;
    if (!subnormals && fabs(x) < 1e-30) x = 0;
    data_set_f(data, t, i, x);
  } else {
    int64_t v = edge_int(t, pair);
    if (which == 2) v = i < PAIRS ? edge_int(t, i) : (int64_t)noise(i);
    if (which == 3) v = (int64_t)(noise(i) % (uint64_t)dt_bits(t));
    set(data, t, i, v);
  }
}

static int add_array(Cover *c, DType t, int which) {
  size_t bytes = N * dt_size(t);
  DenseWeight *d = NEW(c->a, DenseWeight);
  char *data = arena_alloc(c->a, bytes);
  for (int i = 0; i < N; i++) fill_one(data, t, which, i, c->subnormals);
  *d = (DenseWeight){data, bytes};
  static const char *const names[] = {"pairs, first", "pairs, second", "one", "calm"};
  return program_add_weight(c->p, (Weight){.name = names[which], .source = data, .bytes = (int64_t)bytes, .fill = weight_fill_dense, .ctx = d});
}

/* ---- slots ---- */

static Kernel *begin_kernel(Cover *c, const char *what) {
  Kernel *k = kernel_new(c->a, what);
  build_start(&c->b, c->a, k);
  c->first = build_param(&c->b, "first", c->dt, ACCESS_CONST);
  c->second = build_param(&c->b, "second", c->dt, ACCESS_CONST);
  c->one = build_param(&c->b, "one", c->dt, ACCESS_CONST);
  c->calm = build_param(&c->b, "calm", c->dt, ACCESS_CONST);
  c->y_out = build_param(&c->b, "y", c->out, ACCESS_OUT);
  Expr *r = x_var(&c->b, build_range(&c->b, "r", N / c->lanes));
  c->at = s_let(&c->b, "at", x_muli(&c->b, r, c->lanes));
  c->x = s_let(&c->b, "l", x_load(&c->b, c->first, c->at, c->lanes));
  c->y = s_let(&c->b, "r2", x_load(&c->b, c->second, c->at, c->lanes));
  c->v = s_let(&c->b, "v", x_load(&c->b, c->one, c->at, c->lanes));
  c->z = s_let(&c->b, "z", x_load(&c->b, c->calm, c->at, c->lanes));
  return k;
}

/* Is a store of e legal? A kernel of nothing else is shown to the verifier. */
static bool legal(Cover *c, Expr *e) {
  Kernel *k = c->b.k;
  Stmt *before = k->body.last, *saved = before ? before->next : NULL;
  s_store(&c->b, c->y_out, c->at, e);
  bool ok = kernel_verify(k, c->a) == NULL;
  if (before) before->next = saved;
  else k->body.first = NULL;
  k->body.last = before;
  return ok;
}

static bool is_approx(XOp op) { return op == X_POW || op == X_FMA || (op >= X_EXP && op <= X_SIGMOID); }

static void slot(Cover *c, XOp op, const char *name, Expr *e) {
  if (!e || e->type.dt != c->out || (is_approx(op) && dt_is_float(c->dt)) != (c->klass == APPROX)) return;
  if (c->slots == MAX_SLOTS || !legal(c, e)) return;
  s_store(&c->b, c->y_out, x_addi(&c->b, c->at, (int64_t)c->slots * N), e);
  char type[24];
  vec_push(c->a, &c->names, arena_printf(c->a, "%s %s", name, type_name(type_of(c->dt, c->lanes), type)));
  c->slots++;
}

static Expr *as_vector(Cover *c, Expr *e) { return x_splat(&c->b, e, c->lanes); }

/* Widths no target has, which appear as halves and doubles: the operators that are made of parts, not every one. */
static bool odd_width(const Cover *c) { return c->lanes == 2 || c->lanes == 32; }

static void binary_slots(Cover *c, XOp op) {
  Build *b = &c->b;
  const char *name = x_table[op].text;
  bool shift = op == X_SHL || op == X_SHR, is_float = dt_is_float(c->dt);
  Type t = type_of(c->dt, c->lanes);
  if (odd_width(c) && op != X_ADD && op != X_MAX && op != X_AND) return;
  slot(c, op, name, x_bin(b, op, c->x, shift ? c->z : c->y));
  if (c->lanes > 1 && c->lanes < 16) return;
  slot(c, op, name, x_bin(b, op, c->v, x_num(b, t, 3)));
  slot(c, op, name, x_bin(b, op, x_num(b, t, 3), shift ? c->z : c->y));
  if (c->lanes > 1) return;
  /* How constants are spelled. */
  static const double constants[] = {1, 0, -1, 0.1, 1e30, -0.0, INFINITY, -INFINITY, NAN, 2147483648.0, 1e-40};
  for (int i = 0; is_float && op == X_SUB && i < COUNTOF(constants) - !c->subnormals; i++) slot(c, op, name, x_bin(b, op, x_num(b, t, constants[i]), c->v));
  if (is_float) return;
  slot(c, op, name, x_bin(b, op, c->v, x_int(b, t, shift ? 7 : edge_int(c->dt, 9))));
  slot(c, op, name, x_bin(b, op, x_bin(b, op, c->x, shift ? c->z : c->y), shift ? c->z : c->v));
}

static void select_slots(Cover *c) {
  Build *b = &c->b;
  Type t = type_of(c->dt, c->lanes);
  Expr *cond = c->dt == DT_BOOL ? c->v : x_bin(b, X_LT, c->x, c->y);
  slot(c, X_SELECT, "select", x_select(b, cond, c->x, c->v));
  if (odd_width(c)) return;
  slot(c, X_SELECT, "select", x_select(b, cond, x_num(b, t, 1), x_num(b, t, 0)));
  slot(c, X_SELECT, "select", x_select(b, x_un(b, X_NOT, cond), c->y, x_select(b, cond, c->v, c->z)));
}

static void cast_slots(Cover *c) {
  Build *b = &c->b;
  slot(c, X_CAST, "cast", x_cast(b, c->out, c->v));
  if (c->lanes > 1) return;
  /* Numbers that an idx of 32 bits holds too. */
  Type t = c->v->type;
  Expr *small = c->dt == DT_BOOL ? c->v : dt_is_float(c->dt) ? x_bin(b, X_MIN, x_bin(b, X_MAX, c->v, x_num(b, t, -1e9)), x_num(b, t, 1e9)) : x_bin(b, X_AND, c->v, x_int(b, t, 0x7f));
  slot(c, X_CAST, "cast through idx", x_cast(b, c->out, x_cast(b, DT_IDX, small)));
  if (dt_size(c->dt) == 1) slot(c, X_CAST, "cast of a sum", x_cast(b, c->out, x_bin(b, X_ADD, c->x, c->y)));
}

static void idx_slots(Cover *c) {
  static const XOp ops[] = {X_ADD, X_SUB, X_MUL, X_DIV, X_REM, X_MIN, X_MAX, X_AND, X_OR, X_XOR, X_SHL, X_SHR};
  Build *b = &c->b;
  if (c->lanes > 1 || c->dt != DT_I64) return;
  Expr *p = x_cast(b, DT_IDX, x_bin(b, X_AND, c->v, x_int(b, c->v->type, 0xffff))), *q = x_cast(b, DT_IDX, x_bin(b, X_AND, c->z, x_int(b, c->v->type, 7)));
  for (int i = 0; i < COUNTOF(ops); i++) {
    bool divides = ops[i] == X_DIV || ops[i] == X_REM;
    slot(c, ops[i], "idx", x_cast(b, DT_I64, x_bin(b, ops[i], p, divides ? x_addi(b, q, 1) : q)));
    slot(c, ops[i], "idx", x_cast(b, DT_I64, x_bin(b, ops[i], p, x_idx(b, 5))));
    slot(c, ops[i], "idx", x_cast(b, DT_I64, x_bin(b, ops[i], x_idx(b, 5000000), divides ? x_addi(b, q, 1) : q)));
  }
  slot(c, X_NEG, "idx", x_cast(b, DT_I64, x_un(b, X_NEG, p)));
  slot(c, X_ABS, "idx", x_cast(b, DT_I64, x_un(b, X_ABS, x_un(b, X_NEG, p))));
  slot(c, X_NOT, "idx", x_cast(b, DT_I64, x_un(b, X_NOT, p)));
  slot(c, X_SELECT, "idx", x_cast(b, DT_I64, x_select(b, x_bin(b, X_LT, p, q), p, x_idx(b, 3))));
}

static void shuffle_slots(Cover *c) {
  Build *b = &c->b;
  int n = c->lanes;
  uint8_t reverse[MAX_LANES], mix[MAX_LANES], second[MAX_LANES], twice[MAX_LANES], half[MAX_LANES];
  for (int i = 0; i < n; i++) {
    reverse[i] = (uint8_t)(n - 1 - i);
    mix[i] = (uint8_t)(i / 2 + (i & 1) * n);
    second[i] = (uint8_t)(n + (i ^ 1));
  }
  slot(c, X_SHUFFLE, "shuffle reverse", x_shuffle(b, c->v, c->v, reverse, n));
  slot(c, X_SHUFFLE, "shuffle interleave", x_shuffle(b, c->v, c->x, mix, n));
  slot(c, X_SHUFFLE, "shuffle second", x_shuffle(b, c->v, c->y, second, n));
  if (2 * n > MAX_LANES) return;
  for (int i = 0; i < 2 * n; i++) twice[i] = (uint8_t)(2 * n - 1 - i);
  for (int i = 0; i < n; i++) half[i] = (uint8_t)(2 * i);
  Expr *wide = x_shuffle(b, c->v, c->x, twice, 2 * n);
  slot(c, X_SHUFFLE, "shuffle wider and back", x_shuffle(b, wide, wide, half, n));
  for (int i = 0; i < n; i++) half[i] = (uint8_t)(3 * i % (4 * n));
  slot(c, X_SHUFFLE, "shuffle two wider", x_shuffle(b, wide, x_shuffle(b, c->y, c->x, twice, 2 * n), half, n));
}

static void lane_slots(Cover *c) {
  Build *b = &c->b;
  if (c->lanes == 1) return;
  slot(c, X_SPLAT, "splat", as_vector(c, x_load(b, c->one, c->at, 1)));
  slot(c, X_EXTRACT, "extract", as_vector(c, x_extract(b, c->v, 0)));
  slot(c, X_EXTRACT, "extract", as_vector(c, x_extract(b, c->v, c->lanes - 1)));
  shuffle_slots(c);
  for (XOp op = X_REDUCE_ADD; op <= X_REDUCE_MAX; op++) {
    slot(c, op, x_table[op].text, as_vector(c, x_reduce(b, op, c->v)));
    if (dt_is_float(c->dt)) slot(c, op, x_table[op].text, as_vector(c, x_reduce(b, op, c->z)));
  }
  if (c->dt == DT_I32) slot(c, X_IOTA, "iota", x_bin(b, X_ADD, c->v, x_iota(b, c->lanes)));
}

/* Loads and stores of some lanes, and with steps. */
static void access_slots(Cover *c) {
  Build *b = &c->b;
  if (c->lanes == 1 || c->out != c->dt || c->klass != EXACT) return;
  int rows = N / c->lanes;
  Expr *r = x_divi(b, c->at, c->lanes);
  Expr *count = s_let(b, "count", x_remi(b, r, c->lanes + 3)), *step = s_let(b, "step", x_addi(b, x_remi(b, r, 3), 1));
  Expr *base = x_divi(b, r, 4);   /* base + (lanes - 1) * 3 < N for all but 64 lanes */
  slot(c, X_LOAD, "load first", x_load_part(b, c->one, c->at, c->lanes, count, NULL));
  slot(c, X_LOAD, "load by 3", x_load_part(b, c->one, base, c->lanes, NULL, x_idx(b, 3)));
  slot(c, X_LOAD, "load by step", x_load_part(b, c->one, base, c->lanes, NULL, step));
  slot(c, X_LOAD, "load first by step", x_load_part(b, c->one, base, c->lanes, count, step));
  slot(c, X_LOAD, "load first by 0", x_load_part(b, c->one, base, c->lanes, count, x_idx(b, 0)));
  static const char *const names[] = {"store first", "store by", "store first by"};
  for (int i = 0; i < 3; i++) {
    Expr *from = x_idx(b, (int64_t)c->slots * N), *to = i == 0 ? c->at : r;
    s_store_part(b, c->y_out, x_add(b, to, from), c->v, i == 1 ? NULL : count, i == 0 ? NULL : x_idx(b, rows));
    vec_push(c->a, &c->names, names[i]);
    c->slots++;
  }
}

static void all_slots(Cover *c) {
  Build *b = &c->b;
  for (int i = 0; i < X_COUNT; i++) {
    XOp op = (XOp)i;
    const char *name = x_table[op].text;
    if (op >= X_ADD && op <= X_POW) binary_slots(c, op);
    else if (op == X_FMA) slot(c, op, name, dt_is_float(c->dt) ? x_fma(b, c->z, x_load(b, c->calm, x_sub(b, x_idx(b, N - c->lanes), c->at), c->lanes), c->z) : NULL);
    else if (op >= X_EQ && op <= X_GE && !odd_width(c)) {
      slot(c, op, name, x_bin(b, op, c->x, c->y));
      if (c->lanes == 1) slot(c, op, name, x_bin(b, op, c->v, x_num(b, c->v->type, 1)));
    } else if (op == X_SELECT) select_slots(c);
    else if (op == X_CAST) cast_slots(c);
    else if (op == X_BITCAST) {
      if (dt_bits(c->dt) == dt_bits(c->out)) slot(c, op, name, x_bitcast(b, c->out, c->v));
    } else if (op >= X_NEG && op <= X_SIGMOID && !odd_width(c)) {
      slot(c, op, name, x_un(b, op, c->v));
      if (c->lanes == 1 && op <= X_ABS) slot(c, op, name, x_un(b, op, x_un(b, op, c->z)));
    }
  }
  lane_slots(c);
  idx_slots(c);
  access_slots(c);
}

/* ---- the program ---- */

static Kernel *build(Cover *c) {
  char from[24], to[24];
  Kernel *k = begin_kernel(c, arena_printf(c->a, "%s of %s to %s", c->klass == APPROX ? "approximate" : "exact", type_name(type_of(c->dt, c->lanes), from),
                                           type_name(type_of(c->out, c->lanes), to)));
  c->slots = 0;
  c->names.n = 0;
  all_slots(c);
  k->name = arena_printf(c->a, "k%d", c->p->kernels.n);
  return c->slots ? k : NULL;
}

static void add_kernel(Cover *c) {
  Kernel *k = build(c);
  if (!k) return;
  char from[24];
  const char *name = arena_printf(c->a, "%s_%s_%s", c->klass == APPROX ? "approx" : "exact", type_name(type_of(c->dt, c->lanes), from), dt_name(c->out));
  int64_t count = (int64_t)c->slots * N;
  Text doc = {.a = c->a};   /* the slots' names, for messages */
  for (int i = 0; i < c->names.n; i++) text_addf(&doc, "%s\n", c->names.at[i]);
  Port port = {.name = name, .dt = c->out, .shape = shape_of(1, &count)};
  vec_push(c->a, &c->p->outputs, port);
  int y = program_add_buffer(c->p, (Buffer){.kind = BUF_OUTPUT, .name = doc.s, .bytes = count * (int64_t)dt_size(c->out), .index = c->p->outputs.n - 1});
  const Arrays *in = &c->arrays[c->dt];
  Call call = {.kernel = k, .args = NEW_N(c->a, Arg, 5)};
  const int buffers[] = {in->first, in->second, in->one, in->calm, y};
  for (int i = 0; i < 5; i++) call.args[i].buffer = buffers[i];
  vec_push(c->a, &c->p->kernels, k);
  vec_push(c->a, &c->p->calls, call);
}

static bool vector_type(DType t) { return t == DT_F32 || t == DT_I32 || t == DT_BOOL; }

Program *coverage_program(Arena *a, bool subnormals) {
  Cover c = {.a = a, .subnormals = subnormals, .p = program_new(a, target_find("x86-64-v4"))};
  c.p->name = "coverage";
  for (int i = 0; i < COUNTOF(types); i++) {
    Arrays *in = &c.arrays[types[i]];
    *in = (Arrays){add_array(&c, types[i], 0), add_array(&c, types[i], 1), add_array(&c, types[i], 2), add_array(&c, types[i], 3)};
  }
  program_layout_weights(c.p);
  for (c.lanes = 1; c.lanes <= 32; c.lanes *= 2) {
    for (int i = 0; i < COUNTOF(types); i++) {
      for (int j = 0; j < COUNTOF(types); j++) {
        if (c.lanes > 1 && (!vector_type(types[i]) || !vector_type(types[j]))) continue;
        c.dt = types[i];
        c.out = types[j];
        for (c.klass = EXACT; c.klass <= APPROX; c.klass++) add_kernel(&c);
      }
    }
  }
  return c.p;
}

const char *coverage_describe(Arena *a, const Program *p, int output, int64_t i) {
  for (int b = 0; b < p->buffers.n; b++) {
    if (p->buffers.at[b].kind != BUF_OUTPUT || p->buffers.at[b].index != output || !p->buffers.at[b].name) continue;
    const char *s = p->buffers.at[b].name;
    for (int64_t k = 0; k < i / N && s; k++) {
      s = strchr(s, '\n');
      if (s) s++;
    }
    if (s && *s) return arena_printf(a, "%.*s (slot %lld)", (int)strcspn(s, "\n"), s, (long long)(i / N));
  }
  return "";
}
