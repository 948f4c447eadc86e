/* vector_avx2.h: what vector_gnu.h does less well for 8 lanes with AVX2 and FMA. Masks are as there: lanes of 0 or -1.
 *
 * A template, read by prelude.c; see there for what the marks mean. Text above the first mark is not printed.
 *
 * Not blendv_epi8: with AVX-512, gcc 12 turns blendv_epi8(b, ~a, c != d) into the selection by c == d.
 */
//@ vN_first
/* the first n lanes */
INLINE __m256i vN_first(ptrdiff_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < 8 ? (int)n : 8), _mm256_setr_epi32(LANES($i)));
}
//@ vN$1_load_part ; f float ps float ; i int32_t epi32 int
INLINE vN$1 vN$1_load_part(const $2 *p, ptrdiff_t n) { return (vN$1)_mm256_maskload_$3((const $4 *)p, vN_first(n)); }
//@ vN$1_store_part ; f float ps float __m256 ; i int32_t epi32 int __m256i
INLINE void vN$1_store_part($2 *p, vN$1 a, ptrdiff_t n) { _mm256_maskstore_$3(($4 *)p, vN_first(n), ($5)a); }
//@ vNf_$1 ; min ; max
INLINE vNf vNf_$1(vNf a, vNf b) { return _mm256_$1_ps(a, b); }
//@ vNi_$1 ; min ; max
INLINE vNi vNi_$1(vNi a, vNi b) { return (vNi)_mm256_$1_epi32((__m256i)a, (__m256i)b); }
//@ vNf_select
INLINE vNf vNf_select(vNm m, vNf a, vNf b) { return _mm256_blendv_ps(b, a, (__m256)m); }
//@ vNi_select
INLINE vNi vNi_select(vNm m, vNi a, vNi b) { return (vNi)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)m); }
//@ vNf_fma
INLINE vNf vNf_fma(vNf a, vNf b, vNf c) { return _mm256_fmadd_ps(a, b, c); }
//@ vNf_sqrt
INLINE vNf vNf_sqrt(vNf a) { return _mm256_sqrt_ps(a); }
//@ vNf_$1 ; round NEAREST_INT ; floor NEG_INF ; ceil POS_INF ; trunc ZERO
INLINE vNf vNf_$1(vNf a) { return _mm256_round_ps(a, _MM_FROUND_TO_$2 | _MM_FROUND_NO_EXC); }
//@ vNi_abs
INLINE vNi vNi_abs(vNi a) { return (vNi)_mm256_abs_epi32((__m256i)a); }
//@ vNi_from_f
/* toward zero, saturating, 0 for NaN; the instruction gives INT32_MIN for all that do not fit, and ~INT32_MIN is INT32_MAX */
INLINE vNi vNi_from_f(vNf a) {
  const vNi r = (vNi)_mm256_cvttps_epi32(a);
  return (r ^ vNf_ge(a, vNf_splat(2147483648.0f))) & vNf_eq(a, a);
}
//@ vN$1_pin ; f ; i
#define vN$1_pin(x) __asm__("" : "+x"(x))
