/* vector_gnu.h: vectors of N lanes in the vector extensions of gcc and clang; right for any instruction set.
 *
 * A template, read by prelude.c; see there for what the marks mean. Text above the first mark is not printed.
 * A mask lane is 0 or -1. Signed lanes wrap: arithmetic is done on unsigned ones.
 */
//@ vNf
typedef float vNf __attribute__((vector_size(4 * N)));
//@ vNi
typedef int32_t vNi __attribute__((vector_size(4 * N)));
//@ vNu
typedef uint32_t vNu __attribute__((vector_size(4 * N)));
//@ vNm
typedef int32_t vNm __attribute__((vector_size(4 * N))); /* a lane is 0 or -1 */
//@ vN$1_splat ; f float ; i int32_t
INLINE vN$1 vN$1_splat($2 x) { const vN$1 r = {LANES(x)}; return r; }
//@ vNm_splat
INLINE vNm vNm_splat(bool x) { const vNm r = {LANES(-(int32_t)x)}; return r; }
//@ vNi_iota
INLINE vNi vNi_iota(void) { const vNi r = {LANES($i)}; return r; }
//@ vN$1_load ; f float ; i int32_t
INLINE vN$1 vN$1_load(const $2 *p) { vN$1 r; memcpy(&r, p, sizeof r); return r; }
//@ vN$1_load_part ; f float ; i int32_t
INLINE vN$1 vN$1_load_part(const $2 *p, ptrdiff_t n) {
  $2 t[N] = {0};
  for (ptrdiff_t i = 0; i < n && i < N; i++) t[i] = p[i];
  return vN$1_load(t);
}
//@ vN$1_load_stride ; f float ; i int32_t
INLINE vN$1 vN$1_load_stride(const $2 *p, ptrdiff_t s) { const vN$1 r = {LANES(p[$i * s])}; return r; }
//@ vN$1_load_part_stride ; f float ; i int32_t
INLINE vN$1 vN$1_load_part_stride(const $2 *p, ptrdiff_t n, ptrdiff_t s) {
  $2 t[N] = {0};
  for (ptrdiff_t i = 0; i < n && i < N; i++) t[i] = p[i * s];
  return vN$1_load(t);
}
//@ vN$1_store ; f float ; i int32_t
INLINE void vN$1_store($2 *p, vN$1 a) { memcpy(p, &a, sizeof a); }
//@ vN$1_store_part ; f float ; i int32_t
INLINE void vN$1_store_part($2 *p, vN$1 a, ptrdiff_t n) {
  $2 t[N];
  vN$1_store(t, a);
  for (ptrdiff_t i = 0; i < n && i < N; i++) p[i] = t[i];
}
//@ vN$1_store_stride ; f float ; i int32_t
INLINE void vN$1_store_stride($2 *p, vN$1 a, ptrdiff_t s) {
  for (int i = 0; i < N; i++) p[i * s] = a[i];
}
//@ vN$1_store_part_stride ; f float ; i int32_t
INLINE void vN$1_store_part_stride($2 *p, vN$1 a, ptrdiff_t n, ptrdiff_t s) {
  $2 t[N];
  vN$1_store(t, a);
  for (ptrdiff_t i = 0; i < n && i < N; i++) p[i * s] = t[i];
}
//@ vNb
typedef uint8_t vNb __attribute__((vector_size(N)));
//@ vNm_load
INLINE vNm vNm_load(const uint8_t *p) {
  vNb b;
  memcpy(&b, p, sizeof b);
  return (vNm)(__builtin_convertvector(b, vNi) != vNi_splat(0));
}
//@ vNm_store
INLINE void vNm_store(uint8_t *p, vNm a) {
  const vNb b = __builtin_convertvector((vNi)a & vNi_splat(1), vNb);
  memcpy(p, &b, sizeof b);
}
//@ vNm_load_part_stride
INLINE vNm vNm_load_part_stride(const uint8_t *p, ptrdiff_t n, ptrdiff_t s) {
  vNm r = {0};
  for (ptrdiff_t i = 0; i < n && i < N; i++) r[i] = -(int32_t)(p[i * s] != 0);
  return r;
}
//@ vNm_store_part_stride
INLINE void vNm_store_part_stride(uint8_t *p, vNm a, ptrdiff_t n, ptrdiff_t s) {
  for (ptrdiff_t i = 0; i < n && i < N; i++) p[i * s] = a[i] != 0;
}
//@ vNf_$1 ; add + ; sub - ; mul * ; div /
INLINE vNf vNf_$1(vNf a, vNf b) { return a $2 b; }
//@ vNf_$1 ; rem fmodf ; pow powf
INLINE vNf vNf_$1(vNf a, vNf b) {
  for (int i = 0; i < N; i++) a[i] = $2(a[i], b[i]);
  return a;
}
//@ vN$1_$2 ; f lt < ; f le <= ; f gt > ; f ge >= ; f eq == ; f ne != ; i lt < ; i le <= ; i gt > ; i ge >= ; i eq == ; i ne !=
INLINE vNm vN$1_$2(vN$1 a, vN$1 b) { return (vNm)(a $3 b); }
//@ vN$1_select ; f ; i ; m
INLINE vN$1 vN$1_select(vNm m, vN$1 a, vN$1 b) { return (vN$1)((m & (vNm)a) | (~m & (vNm)b)); }
//@ vN$1_$2 ; f min lt ; f max gt ; i min lt ; i max gt
INLINE vN$1 vN$1_$2(vN$1 a, vN$1 b) { return vN$1_select(vN$1_$3(a, b), a, b); }
//@ vNf_fma
INLINE vNf vNf_fma(vNf a, vNf b, vNf c) { return a * b + c; }
//@ vNf_neg
INLINE vNf vNf_neg(vNf a) { return -a; }
//@ vNf_abs
INLINE vNf vNf_abs(vNf a) { return (vNf)((vNi)a & vNi_splat(0x7fffffff)); }
//@ vNf_sqrt
INLINE vNf vNf_sqrt(vNf a) {
  for (int i = 0; i < N; i++) a[i] = sqrtf(a[i]);
  return a;
}
//@ vNf_sign_of
/* a with the sign bit of b; a has none */
INLINE vNf vNf_sign_of(vNf a, vNf b) { return (vNf)((vNi)a | ((vNi)b & vNi_splat(INT32_MIN))); }
//@ vNf_round_abs
/* of lanes >= 0; from 2^23 on every float is an integer, and adding 2^23 to a smaller one rounds it half to even */
INLINE vNf vNf_round_abs(vNf a) {
  const vNf big = vNf_splat(8388608.0f);
  return vNf_select(vNf_lt(a, big), (a + big) - big, a);
}
//@ vNf_round
INLINE vNf vNf_round(vNf a) { return vNf_sign_of(vNf_round_abs(vNf_abs(a)), a); }
//@ vNf_$1 ; floor gt - ; ceil lt +
INLINE vNf vNf_$1(vNf a) {
  const vNf r = vNf_round(a), one = vNf_splat(1.0f), zero = vNf_splat(0.0f);
  return vNf_sign_of(vNf_abs(r $3 vNf_select(vNf_$2(r, a), one, zero)), a);
}
//@ vNf_trunc
INLINE vNf vNf_trunc(vNf a) {
  const vNf m = vNf_abs(a), r = vNf_round_abs(m);
  return vNf_sign_of(r - vNf_select(vNf_gt(r, m), vNf_splat(1.0f), vNf_splat(0.0f)), a);
}
//@ vNf_$1 ; exp expf ; log logf ; sin sinf ; cos cosf ; tan tanf ; asin asinf ; acos acosf ; atan atanf ; sinh sinhf ; cosh coshf ; tanh tanhf ; asinh asinhf ; acosh acoshf ; atanh atanhf ; erf erff ; sigmoid f32_sigmoid
INLINE vNf vNf_$1(vNf a) {
  for (int i = 0; i < N; i++) a[i] = $2(a[i]);
  return a;
}
//@ vNi_$1 ; add + ; sub - ; mul *
INLINE vNi vNi_$1(vNi a, vNi b) { return (vNi)((vNu)a $2 (vNu)b); }
//@ vNi_$1 ; div i32_div ; rem i32_rem
INLINE vNi vNi_$1(vNi a, vNi b) {
  for (int i = 0; i < N; i++) a[i] = $2(a[i], b[i]);
  return a;
}
//@ vN$1_$2 ; i and & ; i or | ; i xor ^ ; m and & ; m or | ; m xor ^
INLINE vN$1 vN$1_$2(vN$1 a, vN$1 b) { return a $3 b; }
//@ vN$1_not ; i ; m
INLINE vN$1 vN$1_not(vN$1 a) { return ~a; }
//@ vNi_shl
INLINE vNi vNi_shl(vNi a, vNi b) { return (vNi)((vNu)a << ((vNu)b & (vNu)vNi_splat(31))); }
//@ vNi_shr
INLINE vNi vNi_shr(vNi a, vNi b) { return a >> (b & vNi_splat(31)); }
//@ vNi_neg
INLINE vNi vNi_neg(vNi a) { return (vNi)((vNu)vNi_splat(0) - (vNu)a); }
//@ vNi_abs
INLINE vNi vNi_abs(vNi a) { return vNi_select(vNi_lt(a, vNi_splat(0)), vNi_neg(a), a); }
//@ vNm_eq
INLINE vNm vNm_eq(vNm a, vNm b) { return ~(a ^ b); }
//@ vNm_ne
INLINE vNm vNm_ne(vNm a, vNm b) { return a ^ b; }
//@ vNi_from_f
/* toward zero, saturating, 0 for NaN: lanes out of range are converted as 0 and then given their limit */
INLINE vNi vNi_from_f(vNf a) {
  const vNm high = vNf_ge(a, vNf_splat(2147483648.0f)), low = vNf_lt(a, vNf_splat(-2147483648.0f));
  const vNm number = vNf_eq(a, a), fits = number & ~(high | low);
  const vNi r = __builtin_convertvector((vNf)((vNm)a & fits), vNi);
  return r | (high & vNi_splat(INT32_MAX)) | (low & vNi_splat(INT32_MIN));
}
//@ vNf_from_i
INLINE vNf vNf_from_i(vNi a) { return __builtin_convertvector(a, vNf); }
//@ vNi_from_m
INLINE vNi vNi_from_m(vNm a) { return a & vNi_splat(1); }
//@ vNf_from_m
INLINE vNf vNf_from_m(vNm a) { return (vNf)(a & (vNm)vNf_splat(1.0f)); }
//@ vNm_from_$1 ; f 0.0f ; i 0
INLINE vNm vNm_from_$1(vN$1 a) { return vN$1_ne(a, vN$1_splat($2)); }
//@ vN$1_bits_$2 ; f i ; i f
INLINE vN$1 vN$1_bits_$2(vN$2 a) { return (vN$1)a; }
//@ vN$1_extract ; f float ; i int32_t
INLINE $2 vN$1_extract(vN$1 a, int i) { return a[i]; }
//@ vNm_extract
INLINE bool vNm_extract(vNm a, int i) { return a[i] != 0; }
//@ vN$1_low ; f ; i
INLINE vH$1 vN$1_low(vN$1 a) { const vH$1 r = {HALF(a[$i])}; return r; }
//@ vN$1_high ; f ; i
INLINE vH$1 vN$1_high(vN$1 a) { const vH$1 r = {HALF(a[$i + H])}; return r; }
//@ vNf_reduce_$1 N=2 ; add a[0] + a[1] ; mul a[0] * a[1]
INLINE float vNf_reduce_$1(vNf a) { return $2 $3 $4; }
//@ vNf_reduce_$1 N=4 ; add + ; mul *
INLINE float vNf_reduce_$1(vNf a) { return (a[0] $2 a[2]) $2 (a[1] $2 a[3]); }
//@ vNf_reduce_$1 ; add + ; mul *
INLINE float vNf_reduce_$1(vNf a) { return vHf_reduce_$1(vNf_low(a) $2 vNf_high(a)); }
//@ vNi_reduce_$1 N=2 ; add ; mul
INLINE int32_t vNi_reduce_$1(vNi a) { return i32_$1(a[0], a[1]); }
//@ vNi_reduce_$1 N=4 ; add ; mul
INLINE int32_t vNi_reduce_$1(vNi a) { return i32_$1(i32_$1(a[0], a[2]), i32_$1(a[1], a[3])); }
//@ vN$1_reduce_$2 N=2 ; f min float f32_min ; f max float f32_max ; i min int32_t i32_min ; i max int32_t i32_max
INLINE $3 vN$1_reduce_$2(vN$1 a) { return $4(a[0], a[1]); }
//@ vN$1_reduce_$2 N=4 ; f min float f32_min ; f max float f32_max ; i min int32_t i32_min ; i max int32_t i32_max
INLINE $3 vN$1_reduce_$2(vN$1 a) { return $4($4(a[0], a[2]), $4(a[1], a[3])); }
//@ vN$1_reduce_$2 ; f min float ; f max float ; i add int32_t ; i mul int32_t ; i min int32_t ; i max int32_t
INLINE $3 vN$1_reduce_$2(vN$1 a) { return vH$1_reduce_$2(vH$1_$2(vN$1_low(a), vN$1_high(a))); }
//@ vN$1_pin ; f ; i
#define vN$1_pin(x) ((void)(x))
