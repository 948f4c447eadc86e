/* backend/interp/exec.c: runs the interpreter's code.
 *
 * Dispatch costs a few nanoseconds, so instructions work on whole vectors: each WIDE instruction has variants for the usual numbers of
 * lanes, written with the compiler's vector extension in chunks of 4 lanes (plain C loops where there is none). An instruction may write
 * the slot it reads: chunks are read before they are written.
 *
 * FMA in hardware cannot be assumed and libm's fmaf is slow, so f32 FMA is done in double, where the product is exact: the sum rounded
 * to double and then to float is the correctly rounded result unless the first rounding landed on the midpoint of two floats, or the
 * result is denormal; then the chunk is redone with fmaf. (S. Boldo, G. Melquiond, "Emulation of FMA and correctly rounded sums: proved
 * algorithms using rounding to odd", IEEE Trans. Computers 2008, treats the general case.)
 */
#include "interp.h"
#include <float.h>

/* ---- chunks of four lanes ---- */

#if defined(__GNUC__)
#define PER_CHUNK 1
typedef float VF __attribute__((vector_size(16), may_alias));
typedef int32_t VI __attribute__((vector_size(16), may_alias));
typedef uint32_t VU __attribute__((vector_size(16), may_alias));
#define V_CMP(x, op, y) (((x) op (y)) & 1)

/* c is 0 or 1, but the padding of short vectors holds anything. */
static inline VI vi_select(VI c, VI x, VI y) {
  VU mask = 0 - (VU)c;
  return (VI)(((VU)x & mask) | ((VU)y & ~mask));
}
static inline VF vf_select(VI c, VF x, VF y) { return (VF)vi_select(c, (VI)x, (VI)y); }
static inline VF vf_splat(float x) { return (VF){x, x, x, x}; }
static inline VI vi_splat(int32_t x) { return (VI){x, x, x, x}; }
static inline VF vf_abs(VF x) { return (VF)((VI)x & 0x7fffffff); }
static inline VF vf_neg(VF x) { return (VF)((VI)x ^ INT32_MIN); }
static inline VF vf_sqrt(VF x) { return (VF){sqrtf(x[0]), sqrtf(x[1]), sqrtf(x[2]), sqrtf(x[3])}; }
static inline VF vi_to_f(VI x) { return __builtin_convertvector(x, VF); }
static inline VI vf_fix(VF x, int32_t (*one)(float)) { return (VI){one(x[0]), one(x[1]), one(x[2]), one(x[3])}; }

#if defined(FP_FAST_FMAF)
static inline VF vf_fma(VF a, VF b, VF c, VI *redo) {
  (void)redo;
  return (VF){fmaf(a[0], b[0], c[0]), fmaf(a[1], b[1], c[1]), fmaf(a[2], b[2], c[2]), fmaf(a[3], b[3], c[3])};
}
#else
typedef double VD __attribute__((vector_size(16)));
/* gcc turns lane by lane conversions into vector ones, __builtin_convertvector on half a vector into worse. */
static inline VD vf_low(VF x) { return (VD){x[0], x[1]}; }
static inline VD vf_high(VF x) { return (VD){x[2], x[3]}; }
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define LOW_WORD(low, high) {high, low, high, low}
#else
#define LOW_WORD(low, high) {low, high, low, high}
#endif
/* Is the part of the fraction that a float does not have just one half? Comparing words, for SSE2 has no comparison of more; the high words
 * compare 0 with 1. */
static inline VI midpoint(VD x) {
  const VI mask = LOW_WORD(0x1fffffff, 0), half = LOW_WORD(0x10000000, 1);
  return ((VI)x & mask) == half;
}
/* A lane of *redo becomes nonzero when the chunk must be redone. */
static inline VF vf_fma(VF a, VF b, VF c, VI *redo) {
  VD low = vf_low(a) * vf_low(b) + vf_low(c), high = vf_high(a) * vf_high(b) + vf_high(c);
  VF r = {(float)low[0], (float)low[1], (float)high[0], (float)high[1]};
  VU magnitude = (VU)r & 0x7fffffffu;
  /* 0 < |r| <= FLT_MIN: 0 itself wraps to the largest value. Compared as signed, which every vector unit has. */
  VI denormal = (VI)((magnitude - 1) ^ 0x80000000u) < (int32_t)(0x00800000u ^ 0x80000000u);
  *redo |= midpoint(low) | midpoint(high) | denormal;
  return r;
}
#endif
static inline bool vi_any(VI x) { return (x[0] | x[1] | x[2] | x[3]) != 0; }
#else
#define PER_CHUNK 4
typedef float VF;
typedef int32_t VI;
typedef uint32_t VU;
#define V_CMP(x, op, y) ((x) op (y))
static inline VI vi_select(VI c, VI x, VI y) { return c ? x : y; }
static inline VF vf_select(VI c, VF x, VF y) { return c ? x : y; }
static inline VF vf_splat(float x) { return x; }
static inline VI vi_splat(int32_t x) { return x; }
static inline VF vf_abs(VF x) { return fabsf(x); }
static inline VF vf_neg(VF x) { return -x; }
static inline VF vf_sqrt(VF x) { return sqrtf(x); }
static inline VF vi_to_f(VI x) { return (float)x; }
static inline VI vf_fix(VF x, int32_t (*one)(float)) { return one(x); }
static inline VF vf_fma(VF a, VF b, VF c, VI *redo) {
  (void)redo;
  return fmaf(a, b, c);
}
static inline bool vi_any(VI x) { return x != 0; }
#endif

/* What a scalar's type is called in the macros below. Slots are written as one type and read as another. */
#if defined(__GNUC__)
#define ANY_SLOT __attribute__((may_alias))
#else
#define ANY_SLOT
#endif
typedef float ANY_SLOT SF;
typedef int32_t ANY_SLOT SI;
typedef uint32_t ANY_SLOT SU;
typedef int64_t ANY_SLOT SL;
typedef double ANY_SLOT SD;

static inline int32_t fix(float x) { return x >= -2147483648.0f && x < 2147483648.0f ? (int32_t)x : (int32_t)float_to_int(x, DT_I32); }

/* ---- instructions too rare for a line of their own ---- */

static XValue slot_read(const char *slot, DType t) {
  XValue v;
  float x;
  int32_t i;
  if (t == DT_F32) {
    memcpy(&x, slot, 4);
    v.f = x;
  } else if (t == DT_I32 || t == DT_BOOL) {
    memcpy(&i, slot, 4);
    v.i = i;
  } else {
    memcpy(&v, slot, 8);
  }
  return v;
}

static void slot_write(char *slot, DType t, XValue v) {
  float x;
  int32_t i;
  if (t == DT_F32) {
    x = (float)v.f;
    memcpy(slot, &x, 4);
  } else if (t == DT_I32 || t == DT_BOOL) {
    i = (int32_t)v.i;
    memcpy(slot, &i, 4);
  } else {
    memcpy(slot, &v, 8);
  }
}

static void eval_lanes(char *f, const Ins *ip) {
  EvalSpec s = eval_unpack(ip->imm);
  const int32_t arg[3] = {ip->a, ip->b, ip->c};
  for (int l = 0; l < s.lanes; l++) {
    XValue v[3] = {{0}}, r = {0};
    for (int i = 0; i < s.nargs; i++) v[i] = slot_read(f + arg[i] + 4 * l, s.from);
    x_eval(s.op, s.to, s.from, v, &r);
    slot_write(f + ip->d + 4 * l, s.to, r);
  }
}

/* imm: operator, lanes, type, as EVAL's. */
static void reduce(char *f, const Ins *ip) {
  EvalSpec s = eval_unpack(ip->imm);
  XValue v[MAX_LANES], pair[2];
  for (int l = 0; l < s.lanes; l++) v[l] = slot_read(f + ip->a + 4 * l, s.from);
  for (int n = s.lanes / 2; n >= 1; n /= 2) {
    for (int l = 0; l < n; l++) {
      pair[0] = v[l];
      pair[1] = v[l + n];
      x_eval(s.op, s.to, s.from, pair, &v[l]);
    }
  }
  slot_write(f + ip->d, s.to, v[0]);
}

/* imm: index in the table of shuffles * 256 + result lanes. */
static void shuffle(char *f, const Ins *ip, const uint8_t *const *table) {
  int32_t in[2 * MAX_LANES];
  int n = (int)(ip->imm & 255);
  const uint8_t *pick = table[ip->imm >> 8];
  memcpy(in, f + ip->a, (size_t)ip->c * 4);
  memcpy(in + ip->c, f + ip->b, (size_t)ip->c * 4);
  for (int l = 0; l < n; l++) memcpy(f + ip->d + 4 * l, &in[pick[l]], 4);
}

typedef struct Part { int64_t first, stride; int count, lanes; bool bytes; } Part;

/* The lanes an instruction with OPERANDS touches; false when one of them is outside the parameter. */
static bool part_of(const char *f, const Ins *ip, int64_t n, Part *p) {
  int64_t first, count, stride = 1;
  memcpy(&first, f + ip->a, 8);
  first = ev_add(first, ip->imm);
  p->lanes = ip[1].c;
  p->bytes = ip[1].imm != 0;
  count = p->lanes;
  if (ip[1].a >= 0) memcpy(&count, f + ip[1].a, 8);
  if (ip[1].b >= 0) memcpy(&stride, f + ip[1].b, 8);
  p->count = (int)MAXI(0, MINI(count, p->lanes));
  p->first = first;
  p->stride = stride;
  if (!p->count) return true;
  if (p->count > 1 && (stride > n || stride < -n)) return false;
  int64_t last = p->count > 1 ? ev_add(first, (p->count - 1) * stride) : first;
  return first >= 0 && first < n && last >= 0 && last < n;
}

static void load_part(char *f, const Ins *ip, const char *base, const Part *p) {
  int32_t v[MAX_LANES] = {0};
  for (int l = 0; l < p->count; l++) {
    int64_t at = p->first + l * p->stride;
    if (p->bytes) v[l] = base[at] != 0;
    else memcpy(&v[l], base + 4 * at, 4);
  }
  memcpy(f + ip->d, v, (size_t)p->lanes * 4);
}

static void store_part(const char *f, const Ins *ip, char *base, const Part *p) {
  for (int l = 0; l < p->count; l++) {
    int64_t at = p->first + l * p->stride;
    int32_t v;
    memcpy(&v, f + ip->d + 4 * l, 4);
    if (p->bytes) base[at] = (char)v;
    else memcpy(base + 4 * at, &v, 4);
  }
}

static void fma_lanes(SF *d, const SF *a, int a_step, const SF *b, const SF *c, int lanes) {
  for (int l = 0; l < lanes; l++) d[l] = fmaf(a[l * a_step], b[l], c[l]);
}

/* ---- dispatch ---- */

#if defined(__GNUC__)
#define OP(NAME) L_##NAME:
#define NEXT                                                                                                                            \
  do {                                                                                                                                  \
    ip++;                                                                                                                               \
    goto *ip->go.label;                                                                                                                 \
  } while (0)
#define RARELY(x) __builtin_expect(!!(x), 0)
#else
#define OP(NAME) case I_##NAME:
#define NEXT break
#define RARELY(x) (x)
#endif

#define SLOT(T, field) (*(T *)(f + ip->field))
#define LANES(T, field) ((T *)(f + ip->field))
#define F_(field) SLOT(SF, field)
#define I_(field) SLOT(SI, field)
#define L_(field) SLOT(SL, field)
#define D_(field) SLOT(SD, field)

/* Chunks 0..n-1 of a statement in k; unrolled by hand because -O2 does not. */
#define EACH_CHUNK(n, ...)                                                                                                              \
  for (int k = (n) * PER_CHUNK; k < (n) * PER_CHUNK + PER_CHUNK; k++) { __VA_ARGS__; }
#define EACH_4(...) EACH_CHUNK(0, __VA_ARGS__)
#define EACH_8(...) EACH_4(__VA_ARGS__) EACH_CHUNK(1, __VA_ARGS__)
#define EACH_16(...) EACH_8(__VA_ARGS__) EACH_CHUNK(2, __VA_ARGS__) EACH_CHUNK(3, __VA_ARGS__)
#define EACH_N(count, ...) for (int k = 0; k < (int)(count) * PER_CHUNK; k++) { __VA_ARGS__; }

/* Types by letter: D of the result, A of the operands. `scalar` and `vector` are the value in terms of x, y. */
#define WIDE_BODY(each, NAME, SUFFIX, D, A, vector)                                                                                     \
  OP(NAME##SUFFIX) {                                                                                                                    \
    V##D *d = LANES(V##D, d);                                                                                                           \
    const V##A *a = LANES(V##A, a), *b = LANES(V##A, b);                                                                                \
    each(const V##A x = a[k], y = b[k]; d[k] = (vector))                                                                                \
  }                                                                                                                                     \
  NEXT;
#define WIDE_UNARY_BODY(each, NAME, SUFFIX, D, A, vector)                                                                               \
  OP(NAME##SUFFIX) {                                                                                                                    \
    V##D *d = LANES(V##D, d);                                                                                                           \
    const V##A *a = LANES(V##A, a);                                                                                                     \
    each(const V##A x = a[k]; d[k] = (vector))                                                                                          \
  }                                                                                                                                     \
  NEXT;
#define EACH_IMM(...) EACH_N(ip->imm, __VA_ARGS__)

#define BINARY(NAME, D, A, scalar, vector)                                                                                              \
  OP(NAME##_1) {                                                                                                                        \
    const S##A x = SLOT(S##A, a), y = SLOT(S##A, b);                                                                                    \
    SLOT(S##D, d) = (S##D)(scalar);                                                                                                     \
  }                                                                                                                                     \
  NEXT;                                                                                                                                 \
  WIDE_BODY(EACH_4, NAME, _4, D, A, vector)                                                                                             \
  WIDE_BODY(EACH_8, NAME, _8, D, A, vector)                                                                                             \
  WIDE_BODY(EACH_16, NAME, _16, D, A, vector)                                                                                           \
  WIDE_BODY(EACH_IMM, NAME, _N, D, A, vector)

#define UNARY(NAME, D, A, scalar, vector)                                                                                               \
  OP(NAME##_1) {                                                                                                                        \
    const S##A x = SLOT(S##A, a);                                                                                                       \
    SLOT(S##D, d) = (S##D)(scalar);                                                                                                     \
  }                                                                                                                                     \
  NEXT;                                                                                                                                 \
  WIDE_UNARY_BODY(EACH_4, NAME, _4, D, A, vector)                                                                                       \
  WIDE_UNARY_BODY(EACH_8, NAME, _8, D, A, vector)                                                                                       \
  WIDE_UNARY_BODY(EACH_16, NAME, _16, D, A, vector)                                                                                     \
  WIDE_UNARY_BODY(EACH_IMM, NAME, _N, D, A, vector)

/* An instruction in its five widths, given what one width does. */
#define WIDTHS(NAME, BODY)                                                                                                              \
  OP(NAME##_4) { BODY(EACH_4, 4) } NEXT;                                                                                                \
  OP(NAME##_8) { BODY(EACH_8, 8) } NEXT;                                                                                                \
  OP(NAME##_16) { BODY(EACH_16, 16) } NEXT;

#define COMPARE(NAME, A, op) BINARY(NAME, I, A, x op y, V_CMP(x, op, y))

/* i: the element touched first; the access is of `count` elements from there. */
#define ACCESS(field, count, where)                                                                                                     \
  int64_t i = ev_add(L_(a), ip->imm);                                                                                                   \
  if (RARELY(i < 0 || i > mem[ip->b].n - (count))) {                                                                                    \
    fault->index = i;                                                                                                                   \
    fault->last = ev_add(i, (count) - 1);                                                                                               \
    goto where;                                                                                                                         \
  }

#define LOAD_LANES(n)                                                                                                                   \
  {                                                                                                                                     \
    ACCESS(a, n, bad_load)                                                                                                              \
    memcpy(f + ip->d, mem[ip->b].base + 4 * i, 4 * (size_t)(n));                                                                        \
  }                                                                                                                                     \
  NEXT;
#define STORE_LANES(n)                                                                                                                  \
  {                                                                                                                                     \
    ACCESS(a, n, bad_store)                                                                                                             \
    memcpy(mem[ip->b].base + 4 * i, f + ip->d, 4 * (size_t)(n));                                                                        \
  }                                                                                                                                     \
  NEXT;
#define LOAD_SPLAT(each)                                                                                                                \
  {                                                                                                                                     \
    ACCESS(a, 1, bad_load)                                                                                                              \
    int32_t one;                                                                                                                        \
    memcpy(&one, mem[ip->b].base + 4 * i, 4);                                                                                           \
    const VI v = vi_splat(one);                                                                                                         \
    VI *d = LANES(VI, d);                                                                                                               \
    each(d[k] = v)                                                                                                                      \
  }                                                                                                                                     \
  NEXT;
#define LOAD_ONE(T, field_type)                                                                                                         \
  {                                                                                                                                     \
    ACCESS(a, 1, bad_load)                                                                                                              \
    T one;                                                                                                                              \
    memcpy(&one, mem[ip->b].base + (int64_t)sizeof(T) * i, sizeof(T));                                                                  \
    SLOT(field_type, d) = one;                                                                                                          \
  }                                                                                                                                     \
  NEXT;
#define PUT_ONE(T, value)                                                                                                               \
  {                                                                                                                                     \
    ACCESS(a, 1, bad_store)                                                                                                             \
    const T one = (T)(value);                                                                                                           \
    memcpy(mem[ip->b].base + (int64_t)sizeof(T) * i, &one, sizeof(T));                                                                  \
  }                                                                                                                                     \
  NEXT;

#define FMA_LANES(each, lanes, x, a_step)                                                                                               \
  {                                                                                                                                     \
    const VF *b = LANES(VF, b), *c = LANES(VF, c);                                                                                      \
    VF r[(lanes) / 4 * PER_CHUNK];                                                                                                      \
    VI redo = vi_splat(0);                                                                                                              \
    each(r[k] = vf_fma(x, b[k], c[k], &redo))                                                                                           \
    if (RARELY(vi_any(redo))) fma_lanes(LANES(SF, d), LANES(SF, a), a_step, LANES(SF, b), LANES(SF, c), lanes);             \
    else memcpy(f + ip->d, r, sizeof r);                                                                                                \
  }                                                                                                                                     \
  NEXT;

/* One function for the loop and, called without an image, for the labels it jumps to. */
static bool run(const Routine *m, const Memory *mem, int64_t begin, int64_t end, Fault *fault, const void *const **labels) {
#if defined(__GNUC__)
  static const void *const table[] = {
#define ONE(NAME) &&L_##NAME,
#define WIDE(NAME) &&L_##NAME##_1, &&L_##NAME##_4, &&L_##NAME##_8, &&L_##NAME##_16, &&L_##NAME##_N,
#include "interp_ops.def"
#undef ONE
#undef WIDE
  };
  if (!m) {
    *labels = table;
    return true;
  }
#else
  (void)labels;
#endif
  char *f = m->frame;
  const Ins *ip = m->ins;
  memcpy(f + m->begin, &begin, 8);
  memcpy(f + m->end, &end, 8);
#if defined(__GNUC__)
  goto *ip->go.label;
#else
  for (;; ip++) switch ((Code)ip->go.code) {
#endif

  OP(HALT) return true;
  OP(OPERANDS) NEXT;
  OP(JUMP) ip += ip->imm; NEXT;
  OP(JUMP_ZERO) if (!I_(a)) ip += ip->imm; NEXT;
  OP(FOR) L_(d) = L_(a); if (L_(d) >= L_(b)) ip += ip->imm; NEXT;
  OP(LOOP) L_(d) += ip->imm; if (L_(d) < L_(b)) ip -= ip->c; NEXT;
  OP(EVAL) eval_lanes(f, ip); NEXT;
  OP(REDUCE) reduce(f, ip); NEXT;
  OP(SHUFFLE) shuffle(f, ip, m->shuffle); NEXT;

  OP(MOVE_L) L_(d) = L_(a); NEXT;
  OP(ADD_L) L_(d) = ev_add(L_(a), L_(b)); NEXT;
  OP(SUB_L) L_(d) = ev_sub(L_(a), L_(b)); NEXT;
  OP(MUL_L) L_(d) = ev_mul(L_(a), L_(b)); NEXT;
  OP(DIV_L) L_(d) = ev_div(L_(a), L_(b)); NEXT;
  OP(REM_L) L_(d) = ev_rem(L_(a), L_(b)); NEXT;
  OP(MIN_L) L_(d) = MINI(L_(a), L_(b)); NEXT;
  OP(MAX_L) L_(d) = MAXI(L_(a), L_(b)); NEXT;
  OP(EQ_L) I_(d) = L_(a) == L_(b); NEXT;
  OP(NE_L) I_(d) = L_(a) != L_(b); NEXT;
  OP(LT_L) I_(d) = L_(a) < L_(b); NEXT;
  OP(LE_L) I_(d) = L_(a) <= L_(b); NEXT;
  OP(ADD_LK) L_(d) = ev_add(L_(a), ip->imm); NEXT;
  OP(MUL_LK) L_(d) = ev_mul(L_(a), ip->imm); NEXT;
  OP(DIV_LK) L_(d) = L_(a) / ip->imm; NEXT;
  OP(REM_LK) L_(d) = L_(a) % ip->imm; NEXT;
  OP(MUL_ADD_L) L_(d) = ev_add(ev_mul(L_(a), ip->imm), L_(b)); NEXT;
  OP(SELECT_L) L_(d) = I_(a) ? L_(b) : L_(c); NEXT;
  OP(ADD_D) D_(d) = D_(a) + D_(b); NEXT;
  OP(SUB_D) D_(d) = D_(a) - D_(b); NEXT;
  OP(MUL_D) D_(d) = D_(a) * D_(b); NEXT;
  OP(DIV_D) D_(d) = D_(a) / D_(b); NEXT;
  OP(I_TO_L) L_(d) = I_(a); NEXT;
  OP(L_TO_I) I_(d) = (int32_t)int_wrap(DT_I32, L_(a)); NEXT;
  OP(L_TO_F) F_(d) = (float)L_(a); NEXT;

  OP(LOAD_I8) LOAD_ONE(int8_t, SL)
  OP(LOAD_U8) LOAD_ONE(uint8_t, SL)
  OP(LOAD_I16) LOAD_ONE(int16_t, SL)
  OP(LOAD_U16) LOAD_ONE(uint16_t, SL)
  OP(LOAD_U32) LOAD_ONE(uint32_t, SL)
  OP(LOAD_64) LOAD_ONE(int64_t, SL)
  OP(LOAD_BOOL) {
    ACCESS(a, 1, bad_load)
    I_(d) = mem[ip->b].base[i] != 0;
  }
  NEXT;
  OP(PUT_8) PUT_ONE(int8_t, L_(d))
  OP(PUT_16) PUT_ONE(int16_t, L_(d))
  OP(PUT_32) PUT_ONE(int32_t, L_(d))
  OP(PUT_64) PUT_ONE(int64_t, L_(d))
  OP(PUT_BOOL) PUT_ONE(int8_t, I_(d))
  OP(LOAD_PART) {
    Part p;
    bool ok = part_of(f, ip, mem[ip->b].n, &p);
    fault->index = p.first;
    fault->last = ev_add(p.first, ev_mul(p.count - 1, p.stride));
    if (!ok) goto bad_load;
    load_part(f, ip, mem[ip->b].base, &p);
    ip++;
  }
  NEXT;
  OP(STORE_PART) {
    Part p;
    bool ok = part_of(f, ip, mem[ip->b].n, &p);
    fault->index = p.first;
    fault->last = ev_add(p.first, ev_mul(p.count - 1, p.stride));
    if (!ok) goto bad_store;
    store_part(f, ip, mem[ip->b].base, &p);
    ip++;
  }
  NEXT;
  OP(LOAD_1) LOAD_LANES(1)
  OP(LOAD_4) LOAD_LANES(4)
  OP(LOAD_8) LOAD_LANES(8)
  OP(LOAD_16) LOAD_LANES(16)
  OP(LOAD_N) LOAD_LANES(4 * ip->c)
  OP(STORE_1) STORE_LANES(1)
  OP(STORE_4) STORE_LANES(4)
  OP(STORE_8) STORE_LANES(8)
  OP(STORE_16) STORE_LANES(16)
  OP(STORE_N) STORE_LANES(4 * ip->c)
  OP(LOAD_SPLAT_1) LOAD_LANES(1)
  OP(LOAD_SPLAT_4) LOAD_SPLAT(EACH_4)
  OP(LOAD_SPLAT_8) LOAD_SPLAT(EACH_8)
  OP(LOAD_SPLAT_16) LOAD_SPLAT(EACH_16)
#define EACH_C(...) EACH_N(ip->c, __VA_ARGS__)
  OP(LOAD_SPLAT_N) LOAD_SPLAT(EACH_C)

#define SPLAT_LANES(each, lanes) const VI v = vi_splat(I_(a)); VI *d = LANES(VI, d); each(d[k] = v)
  OP(SPLAT_1) I_(d) = I_(a); NEXT;
  WIDTHS(SPLAT, SPLAT_LANES)
  OP(SPLAT_N) { SPLAT_LANES(EACH_IMM, 0) } NEXT;

#define SELECT_LANES(each, lanes) VI *d = LANES(VI, d); const VI *a = LANES(VI, a), *b = LANES(VI, b), *c = LANES(VI, c);               \
  each(d[k] = vi_select(a[k], b[k], c[k]))
  OP(SELECT_1) I_(d) = I_(a) ? I_(b) : I_(c); NEXT;
  WIDTHS(SELECT, SELECT_LANES)
  OP(SELECT_N) { SELECT_LANES(EACH_IMM, 0) } NEXT;

  OP(FMA_F_1) F_(d) = fmaf(F_(a), F_(b), F_(c)); NEXT;
  OP(FMA_F_4) FMA_LANES(EACH_4, 4, LANES(VF, a)[k], 1)
  OP(FMA_F_8) FMA_LANES(EACH_8, 8, LANES(VF, a)[k], 1)
  OP(FMA_F_16) FMA_LANES(EACH_16, 16, LANES(VF, a)[k], 1)
  OP(FMA_F_N) fma_lanes(LANES(SF, d), LANES(SF, a), 1, LANES(SF, b), LANES(SF, c), 4 * (int)ip->imm); NEXT;
  OP(FMA_SPLAT_F_1) F_(d) = fmaf(F_(a), F_(b), F_(c)); NEXT;
  OP(FMA_SPLAT_F_4) FMA_LANES(EACH_4, 4, vf_splat(F_(a)), 0)
  OP(FMA_SPLAT_F_8) FMA_LANES(EACH_8, 8, vf_splat(F_(a)), 0)
  OP(FMA_SPLAT_F_16) FMA_LANES(EACH_16, 16, vf_splat(F_(a)), 0)
  OP(FMA_SPLAT_F_N) fma_lanes(LANES(SF, d), LANES(SF, a), 0, LANES(SF, b), LANES(SF, c), 4 * (int)ip->imm); NEXT;

  UNARY(MOVE, I, I, x, x)
  BINARY(ADD_F, F, F, x + y, x + y)
  BINARY(SUB_F, F, F, x - y, x - y)
  BINARY(MUL_F, F, F, x * y, x * y)
  BINARY(DIV_F, F, F, x / y, x / y)
  BINARY(MIN_F, F, F, x < y ? x : y, vf_select(V_CMP(x, <, y), x, y))
  BINARY(MAX_F, F, F, x > y ? x : y, vf_select(V_CMP(x, >, y), x, y))
  UNARY(NEG_F, F, F, -x, vf_neg(x))
  UNARY(ABS_F, F, F, fabsf(x), vf_abs(x))
  UNARY(SQRT_F, F, F, sqrtf(x), vf_sqrt(x))
  COMPARE(EQ_F, F, ==)
  COMPARE(NE_F, F, !=)
  COMPARE(LT_F, F, <)
  COMPARE(LE_F, F, <=)
  BINARY(ADD_I, U, U, x + y, x + y)
  BINARY(SUB_I, U, U, x - y, x - y)
  BINARY(MUL_I, U, U, x * y, x * y)
  BINARY(MIN_I, I, I, x < y ? x : y, vi_select(V_CMP(x, <, y), x, y))
  BINARY(MAX_I, I, I, x > y ? x : y, vi_select(V_CMP(x, >, y), x, y))
  BINARY(AND_I, U, U, x & y, x & y)
  BINARY(OR_I, U, U, x | y, x | y)
  BINARY(XOR_I, U, U, x ^ y, x ^ y)
  BINARY(SHL_I, U, U, x << (y & 31), x << (y & 31))
  BINARY(SHR_I, I, I, x >> (y & 31), x >> (y & 31))
  UNARY(NEG_I, U, U, 0 - x, 0 - x)
  UNARY(NOT_I, U, U, ~x, ~x)
  UNARY(NOT_BOOL, I, I, x ^ 1, x ^ 1)
  COMPARE(EQ_I, I, ==)
  COMPARE(NE_I, I, !=)
  COMPARE(LT_I, I, <)
  COMPARE(LE_I, I, <=)
  UNARY(I_TO_F, F, I, (float)x, vi_to_f(x))
  UNARY(F_TO_I, I, F, fix(x), vf_fix(x, fix))
  UNARY(I_TO_BOOL, I, I, x != 0, V_CMP(x, !=, 0))
  UNARY(F_TO_BOOL, I, F, x != 0, V_CMP(x, !=, 0))

#if !defined(__GNUC__)
  case I_COUNT: return true;
  }
#endif
bad_load:
  fault->store = false;
  fault->param = ip->b;
  return false;
bad_store:
  fault->store = true;
  fault->param = ip->b;
  return false;
}

bool exec_run(const Routine *m, const Memory *mem, int64_t begin, int64_t end, Fault *fault) {
  return run(m, mem, begin, end, fault, NULL);
}

void exec_link(Routine *m) {
#if defined(__GNUC__)
  const void *const *labels;
  run(NULL, NULL, 0, 0, NULL, &labels);
  for (int i = 0; i < m->n; i++) m->ins[i].go.label = labels[m->ins[i].go.code];
#else
  (void)m;
#endif
}
