/* vector_avx512.h: what vector_gnu.h does less well for 16 lanes with AVX-512. A mask is one bit per lane.
 * maskz forms with all lanes set are the plain instructions; the plain forms of gcc 12's header warn of uninitialised values in C++.
 *
 * A template, read by prelude.c; see there for what the marks mean. Text above the first mark is not printed.
 */
//@ vNm
typedef __mmask16 vNm;
//@ vN_first
/* the first n lanes */
INLINE vNm vN_first(ptrdiff_t n) { return (vNm)(n >= 16 ? 0xffffu : n > 0 ? (1u << n) - 1u : 0u); }
//@ vNm_splat
INLINE vNm vNm_splat(bool x) { return (vNm)(x ? 0xffff : 0); }
//@ vN$1_load_part ; f float ps vNf ; i int32_t epi32 __m512i
INLINE vN$1 vN$1_load_part(const $2 *p, ptrdiff_t n) { return (vN$1)_mm512_maskz_loadu_$3(vN_first(n), p); }
//@ vN$1_store_part ; f float ps __m512 ; i int32_t epi32 __m512i
INLINE void vN$1_store_part($2 *p, vN$1 a, ptrdiff_t n) { _mm512_mask_storeu_$3(p, vN_first(n), ($4)a); }
//@ vNm_load
INLINE vNm vNm_load(const uint8_t *p) {
  const __m512i x = _mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128((const __m128i *)p));
  return _mm512_test_epi32_mask(x, x);
}
//@ vNm_store
INLINE void vNm_store(uint8_t *p, vNm a) {
  _mm_storeu_si128((__m128i *)p, _mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)vNi_from_m(a)));
}
//@ vNm_load_part_stride
INLINE vNm vNm_load_part_stride(const uint8_t *p, ptrdiff_t n, ptrdiff_t s) {
  unsigned r = 0;
  for (ptrdiff_t i = 0; i < n && i < 16; i++) r |= (p[i * s] != 0 ? 1u : 0u) << i;
  return (vNm)r;
}
//@ vNm_store_part_stride
INLINE void vNm_store_part_stride(uint8_t *p, vNm a, ptrdiff_t n, ptrdiff_t s) {
  for (ptrdiff_t i = 0; i < n && i < 16; i++) p[i * s] = (uint8_t)((unsigned)a >> i & 1u);
}
//@ vNf_$1 ; min ; max
INLINE vNf vNf_$1(vNf a, vNf b) { return _mm512_maskz_$1_ps(0xffff, a, b); }
//@ vNi_$1 ; min ; max
INLINE vNi vNi_$1(vNi a, vNi b) { return (vNi)_mm512_maskz_$1_epi32(0xffff, (__m512i)a, (__m512i)b); }
//@ vNf_$1 ; lt LT_OQ ; le LE_OQ ; gt GT_OQ ; ge GE_OQ ; eq EQ_OQ ; ne NEQ_UQ
INLINE vNm vNf_$1(vNf a, vNf b) { return _mm512_cmp_ps_mask(a, b, _CMP_$2); }
//@ vNi_$1 ; lt LT ; le LE ; gt NLE ; ge NLT ; eq EQ ; ne NE
INLINE vNm vNi_$1(vNi a, vNi b) { return _mm512_cmp_epi32_mask((__m512i)a, (__m512i)b, _MM_CMPINT_$2); }
//@ vNf_select
INLINE vNf vNf_select(vNm m, vNf a, vNf b) { return _mm512_mask_blend_ps(m, b, a); }
//@ vNi_select
INLINE vNi vNi_select(vNm m, vNi a, vNi b) { return (vNi)_mm512_mask_blend_epi32(m, (__m512i)b, (__m512i)a); }
//@ vNm_select
INLINE vNm vNm_select(vNm m, vNm a, vNm b) { return (vNm)((m & a) | (~(unsigned)m & b)); }
//@ vNf_fma
INLINE vNf vNf_fma(vNf a, vNf b, vNf c) { return _mm512_fmadd_ps(a, b, c); }
//@ vNf_sqrt
INLINE vNf vNf_sqrt(vNf a) { return _mm512_maskz_sqrt_ps(0xffff, a); }
//@ vNf_$1 ; round NEAREST_INT ; floor NEG_INF ; ceil POS_INF ; trunc ZERO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion" /* in gcc's header, without optimisation */
INLINE vNf vNf_$1(vNf a) { return _mm512_maskz_roundscale_ps(vN_first(16), a, _MM_FROUND_TO_$2 | _MM_FROUND_NO_EXC); }
#pragma GCC diagnostic pop
//@ vNi_abs
INLINE vNi vNi_abs(vNi a) { return (vNi)_mm512_maskz_abs_epi32(0xffff, (__m512i)a); }
//@ vNm_$1 ; and & ; or | ; xor ^
INLINE vNm vNm_$1(vNm a, vNm b) { return (vNm)(a $2 b); }
//@ vNm_not
INLINE vNm vNm_not(vNm a) { return (vNm)~(unsigned)a; }
//@ vNm_eq
INLINE vNm vNm_eq(vNm a, vNm b) { return (vNm)~((unsigned)a ^ b); }
//@ vNm_ne
INLINE vNm vNm_ne(vNm a, vNm b) { return (vNm)(a ^ b); }
//@ vNi_from_f
/* toward zero, saturating, 0 for NaN; the instruction gives INT32_MIN for all that do not fit */
INLINE vNi vNi_from_f(vNf a) {
  const __m512i r = _mm512_maskz_cvttps_epi32(vNf_eq(a, a), a);
  return (vNi)_mm512_mask_mov_epi32(r, vNf_ge(a, vNf_splat(2147483648.0f)), _mm512_set1_epi32(INT32_MAX));
}
//@ vNi_from_m
INLINE vNi vNi_from_m(vNm a) { return (vNi)_mm512_maskz_set1_epi32(a, 1); }
//@ vNf_from_m
INLINE vNf vNf_from_m(vNm a) { return _mm512_maskz_mov_ps(a, _mm512_set1_ps(1.0f)); }
//@ vNm_from_f
INLINE vNm vNm_from_f(vNf a) { return vNf_ne(a, vNf_splat(0.0f)); }
//@ vNm_from_i
INLINE vNm vNm_from_i(vNi a) { return vNi_ne(a, vNi_splat(0)); }
//@ vNm_extract
INLINE bool vNm_extract(vNm a, int i) { return ((unsigned)a >> i & 1u) != 0; }
//@ vN$1_pin ; f ; i
#define vN$1_pin(x) __asm__("" : "+v"(x))
