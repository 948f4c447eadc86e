/* vector_neon.h: what vector_gnu.h does less well for 4 lanes with NEON. Masks are as there: lanes of 0 or -1.
 * 32-bit ARM flushes subnormal numbers to zero in NEON, so compilers do not use it for plain arithmetic unless told so.
 *
 * A template, read by prelude.c; see there for what the marks mean. Text above the first mark is not printed.
 */
//@ vNf_$1 ; add ; sub ; mul
INLINE vNf vNf_$1(vNf a, vNf b) { return (vNf)v$1q_f32((float32x4_t)a, (float32x4_t)b); }
//@ vNf_$1 ; lt clt ; le cle ; gt cgt ; ge cge ; eq ceq
INLINE vNm vNf_$1(vNf a, vNf b) { return (vNm)v$2q_f32((float32x4_t)a, (float32x4_t)b); }
//@ vNf_ne
INLINE vNm vNf_ne(vNf a, vNf b) { return (vNm)vmvnq_u32(vceqq_f32((float32x4_t)a, (float32x4_t)b)); }
//@ vNf_select
INLINE vNf vNf_select(vNm m, vNf a, vNf b) { return (vNf)vbslq_f32((uint32x4_t)m, (float32x4_t)a, (float32x4_t)b); }
//@ vNi_select
INLINE vNi vNi_select(vNm m, vNi a, vNi b) { return (vNi)vbslq_s32((uint32x4_t)m, (int32x4_t)a, (int32x4_t)b); }
//@ vNi_$1 ; min ; max
INLINE vNi vNi_$1(vNi a, vNi b) { return (vNi)v$1q_s32((int32x4_t)a, (int32x4_t)b); }
//@ vNf_fma
INLINE vNf vNf_fma(vNf a, vNf b, vNf c) {
#if defined(__ARM_FEATURE_FMA)
  return (vNf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return (vNf)vmlaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#endif
}
//@ vNf_sqrt
INLINE vNf vNf_sqrt(vNf a) {
#if defined(__aarch64__)
  return (vNf)vsqrtq_f32((float32x4_t)a);
#else
  for (int i = 0; i < N; i++) a[i] = sqrtf(a[i]);
  return a;
#endif
}
//@ vNi_abs
INLINE vNi vNi_abs(vNi a) { return (vNi)vabsq_s32((int32x4_t)a); }
//@ vNi_from_f
/* toward zero, saturating, 0 for NaN */
INLINE vNi vNi_from_f(vNf a) { return (vNi)vcvtq_s32_f32((float32x4_t)a); }
//@ vN$1_pin ; f ; i
#define vN$1_pin(x) __asm__("" : "+w"(x))
//@ vNf_round
INLINE vNf vNf_round(vNf a) {
#if defined(__aarch64__)
  return (vNf)vrndnq_f32((float32x4_t)a);
#else
  return vNf_sign_of(vNf_round_abs(vNf_abs(a)), a);
#endif
}
//@ vNf_$1 ; floor vrndmq_f32 - gt ; ceil vrndpq_f32 + lt
INLINE vNf vNf_$1(vNf a) {
#if defined(__aarch64__)
  return (vNf)$2((float32x4_t)a);
#else
  const vNf r = vNf_round(a), one = vNf_splat(1.0f), zero = vNf_splat(0.0f);
  return vNf_sign_of(vNf_abs(r $3 vNf_select(vNf_$4(r, a), one, zero)), a);
#endif
}
//@ vNf_trunc
INLINE vNf vNf_trunc(vNf a) {
#if defined(__aarch64__)
  return (vNf)vrndq_f32((float32x4_t)a);
#else
  const vNf m = vNf_abs(a), r = vNf_round_abs(m);
  return vNf_sign_of(r - vNf_select(vNf_gt(r, m), vNf_splat(1.0f), vNf_splat(0.0f)), a);
#endif
}
