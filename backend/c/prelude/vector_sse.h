/* vector_sse.h: what vector_gnu.h does less well for 4 lanes with SSE4.1. Masks are as there: lanes of 0 or -1.
 *
 * A template, read by prelude.c; see there for what the marks mean. Text above the first mark is not printed.
 *
 * Not blendv_epi8: with AVX-512, gcc 12 turns blendv_epi8(b, ~a, c != d) into the selection by c == d.
 */
//@ vNf_$1 ; min ; max
INLINE vNf vNf_$1(vNf a, vNf b) { return _mm_$1_ps(a, b); }
//@ vNi_$1 ; min ; max
INLINE vNi vNi_$1(vNi a, vNi b) { return (vNi)_mm_$1_epi32((__m128i)a, (__m128i)b); }
//@ vNf_select
INLINE vNf vNf_select(vNm m, vNf a, vNf b) { return _mm_blendv_ps(b, a, (__m128)m); }
//@ vNi_select
INLINE vNi vNi_select(vNm m, vNi a, vNi b) { return (vNi)_mm_blendv_ps((__m128)b, (__m128)a, (__m128)m); }
//@ vNf_fma
INLINE vNf vNf_fma(vNf a, vNf b, vNf c) {
#if defined(__FMA__)
  return _mm_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}
//@ vNf_sqrt
INLINE vNf vNf_sqrt(vNf a) { return _mm_sqrt_ps(a); }
//@ vNf_$1 ; round NEAREST_INT ; floor NEG_INF ; ceil POS_INF ; trunc ZERO
INLINE vNf vNf_$1(vNf a) { return _mm_round_ps(a, _MM_FROUND_TO_$2 | _MM_FROUND_NO_EXC); }
//@ vNi_abs
INLINE vNi vNi_abs(vNi a) { return (vNi)_mm_abs_epi32((__m128i)a); }
//@ vNi_from_f
/* toward zero, saturating, 0 for NaN; the instruction gives INT32_MIN for all that do not fit, and ~INT32_MIN is INT32_MAX */
INLINE vNi vNi_from_f(vNf a) {
  const vNi r = (vNi)_mm_cvttps_epi32(a);
  return (r ^ vNf_ge(a, vNf_splat(2147483648.0f))) & vNf_eq(a, a);
}
//@ vN$1_pin ; f ; i
#define vN$1_pin(x) __asm__("" : "+x"(x))
