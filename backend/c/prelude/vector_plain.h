/* vector_plain.h: vectors of N lanes in standard C, for compilers without vector extensions and for checking the others.
 *
 * A template, read by prelude.c; see there for what the marks mean. Text above the first mark is not printed.
 */
//@ vNf
typedef struct { float v[N]; } vNf;
//@ vNi
typedef struct { int32_t v[N]; } vNi;
//@ vNm
typedef struct { bool v[N]; } vNm;
//@ vN$1_splat ; f float ; i int32_t ; m bool
INLINE vN$1 vN$1_splat($2 x) {
  vN$1 r;
  for (int i = 0; i < N; i++) r.v[i] = x;
  return r;
}
//@ vNi_iota
INLINE vNi vNi_iota(void) {
  vNi r;
  for (int i = 0; i < N; i++) r.v[i] = i;
  return r;
}
//@ vN$1_load ; f float ; i int32_t
INLINE vN$1 vN$1_load(const $2 *p) {
  vN$1 r;
  for (int i = 0; i < N; i++) r.v[i] = p[i];
  return r;
}
//@ vN$1_load_part ; f float ; i int32_t
INLINE vN$1 vN$1_load_part(const $2 *p, ptrdiff_t n) {
  vN$1 r;
  for (int i = 0; i < N; i++) r.v[i] = i < n ? p[i] : 0;
  return r;
}
//@ vN$1_load_stride ; f float ; i int32_t
INLINE vN$1 vN$1_load_stride(const $2 *p, ptrdiff_t s) {
  vN$1 r;
  for (int i = 0; i < N; i++) r.v[i] = p[i * s];
  return r;
}
//@ vN$1_load_part_stride ; f float ; i int32_t
INLINE vN$1 vN$1_load_part_stride(const $2 *p, ptrdiff_t n, ptrdiff_t s) {
  vN$1 r;
  for (int i = 0; i < N; i++) r.v[i] = i < n ? p[i * s] : 0;
  return r;
}
//@ vN$1_store ; f float ; i int32_t
INLINE void vN$1_store($2 *p, vN$1 a) {
  for (int i = 0; i < N; i++) p[i] = a.v[i];
}
//@ vN$1_store_part ; f float ; i int32_t
INLINE void vN$1_store_part($2 *p, vN$1 a, ptrdiff_t n) {
  for (int i = 0; i < N && i < n; i++) p[i] = a.v[i];
}
//@ vN$1_store_stride ; f float ; i int32_t
INLINE void vN$1_store_stride($2 *p, vN$1 a, ptrdiff_t s) {
  for (int i = 0; i < N; i++) p[i * s] = a.v[i];
}
//@ vN$1_store_part_stride ; f float ; i int32_t
INLINE void vN$1_store_part_stride($2 *p, vN$1 a, ptrdiff_t n, ptrdiff_t s) {
  for (int i = 0; i < N && i < n; i++) p[i * s] = a.v[i];
}
//@ vNm_load
INLINE vNm vNm_load(const uint8_t *p) {
  vNm r;
  for (int i = 0; i < N; i++) r.v[i] = p[i] != 0;
  return r;
}
//@ vNm_load_part_stride
INLINE vNm vNm_load_part_stride(const uint8_t *p, ptrdiff_t n, ptrdiff_t s) {
  vNm r;
  for (int i = 0; i < N; i++) r.v[i] = i < n && p[i * s] != 0;
  return r;
}
//@ vNm_store
INLINE void vNm_store(uint8_t *p, vNm a) {
  for (int i = 0; i < N; i++) p[i] = a.v[i];
}
//@ vNm_store_part_stride
INLINE void vNm_store_part_stride(uint8_t *p, vNm a, ptrdiff_t n, ptrdiff_t s) {
  for (int i = 0; i < N && i < n; i++) p[i * s] = a.v[i];
}
//@ vNf_$1 ; add + ; sub - ; mul * ; div /
INLINE vNf vNf_$1(vNf a, vNf b) {
  for (int i = 0; i < N; i++) a.v[i] = a.v[i] $2 b.v[i];
  return a;
}
//@ vN$1_$2 ; f rem fmodf ; f pow powf ; f min f32_min ; f max f32_max ; i add i32_add ; i sub i32_sub ; i mul i32_mul ; i div i32_div ; i rem i32_rem ; i min i32_min ; i max i32_max ; i shl i32_shl ; i shr i32_shr
INLINE vN$1 vN$1_$2(vN$1 a, vN$1 b) {
  for (int i = 0; i < N; i++) a.v[i] = $3(a.v[i], b.v[i]);
  return a;
}
//@ vN$1_$2 ; f lt < ; f le <= ; f gt > ; f ge >= ; f eq == ; f ne != ; i lt < ; i le <= ; i gt > ; i ge >= ; i eq == ; i ne != ; m eq == ; m ne !=
INLINE vNm vN$1_$2(vN$1 a, vN$1 b) {
  vNm r;
  for (int i = 0; i < N; i++) r.v[i] = a.v[i] $3 b.v[i];
  return r;
}
//@ vN$1_select ; f ; i ; m
INLINE vN$1 vN$1_select(vNm m, vN$1 a, vN$1 b) {
  for (int i = 0; i < N; i++) a.v[i] = m.v[i] ? a.v[i] : b.v[i];
  return a;
}
//@ vNf_fma
INLINE vNf vNf_fma(vNf a, vNf b, vNf c) {
  for (int i = 0; i < N; i++) a.v[i] = f32_fma(a.v[i], b.v[i], c.v[i]);
  return a;
}
//@ vNf_neg
INLINE vNf vNf_neg(vNf a) {
  for (int i = 0; i < N; i++) a.v[i] = -a.v[i];
  return a;
}
//@ vN$1_$2 ; f abs fabsf ; f sqrt sqrtf ; f floor floorf ; f ceil ceilf ; f round nearbyintf ; f trunc truncf ; f exp expf ; f log logf ; f sin sinf ; f cos cosf ; f tan tanf ; f asin asinf ; f acos acosf ; f atan atanf ; f sinh sinhf ; f cosh coshf ; f tanh tanhf ; f asinh asinhf ; f acosh acoshf ; f atanh atanhf ; f erf erff ; f sigmoid f32_sigmoid ; i neg i32_neg ; i abs i32_abs
INLINE vN$1 vN$1_$2(vN$1 a) {
  for (int i = 0; i < N; i++) a.v[i] = $3(a.v[i]);
  return a;
}
//@ vN$1_$2 ; i and & ; i or | ; i xor ^ ; m and & ; m or | ; m xor ^
INLINE vN$1 vN$1_$2(vN$1 a, vN$1 b) {
  for (int i = 0; i < N; i++) a.v[i] = a.v[i] $3 b.v[i];
  return a;
}
//@ vN$1_not ; i ~ ; m !
INLINE vN$1 vN$1_not(vN$1 a) {
  for (int i = 0; i < N; i++) a.v[i] = $2a.v[i];
  return a;
}
//@ vN$1_from_$2 ; i f `i32_from_f32(a.v[i])` ; f i `(float)a.v[i]` ; i m `a.v[i]` ; f m `a.v[i]` ; m f `a.v[i] != 0.0f` ; m i `a.v[i] != 0`
INLINE vN$1 vN$1_from_$2(vN$2 a) {
  vN$1 r;
  for (int i = 0; i < N; i++) r.v[i] = $3;
  return r;
}
//@ vN$1_bits_$2 ; f i ; i f
INLINE vN$1 vN$1_bits_$2(vN$2 a) {
  vN$1 r;
  memcpy(&r, &a, sizeof r);
  return r;
}
//@ vN$1_extract ; f float ; i int32_t ; m bool
INLINE $2 vN$1_extract(vN$1 a, int i) { return a.v[i]; }
//@ vN$1_reduce_$2 ; f add float `a.v[i] + a.v[i + n]` ; f mul float `a.v[i] * a.v[i + n]` ; f min float `f32_min(a.v[i], a.v[i + n])` ; f max float `f32_max(a.v[i], a.v[i + n])` ; i add int32_t `i32_add(a.v[i], a.v[i + n])` ; i mul int32_t `i32_mul(a.v[i], a.v[i + n])` ; i min int32_t `i32_min(a.v[i], a.v[i + n])` ; i max int32_t `i32_max(a.v[i], a.v[i + n])`
INLINE $3 vN$1_reduce_$2(vN$1 a) {
  for (int n = H; n > 0; n /= 2) {
    for (int i = 0; i < n; i++) a.v[i] = $4;
  }
  return a.v[0];
}
//@ vN$1_pin ; f ; i
#define vN$1_pin(x) ((void)(x))
