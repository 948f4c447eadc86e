/* scalar.h: scalar operations of an element type T (S: a second one; U: the unsigned type T is computed in), and a few macros.
 *
 * A template, read by prelude.c; see there for what the marks mean. Text above the first mark is not printed.
 * Integers wrap, so they are added and multiplied as unsigned ones; casts back are modulo 2^n on every compiler of interest.
 */
//@ RESTRICT
#if defined(__cplusplus)
#define RESTRICT __restrict
#else
#define RESTRICT restrict
#endif
//@ INLINE
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline, unused))
#else
#define INLINE static inline
#endif
//@ KERNEL
/* Apart from each other: merged into one function they take long to compile. With its usual settings gcc runs out of registers in them. */
#if defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__) && !defined(__INTEL_COMPILER)
#define KERNEL static __attribute__((noinline, optimize("ira-region=one", "no-predictive-commoning")))
#elif defined(__GNUC__)
#define KERNEL static __attribute__((noinline))
#else
#define KERNEL static
#endif
//@ PREFETCH
#if defined(__GNUC__)
#define PREFETCH(p, i, write, locality) \
  __builtin_prefetch((const void *)((uintptr_t)(p) + (uintptr_t)(i) * sizeof *(p)), write, locality)
#else
#define PREFETCH(p, i, write, locality) ((void)(p), (void)(i))
#endif
//@ may_$1 ; f32 float ; f64 double ; i8 int8_t ; i16 int16_t ; i32 int32_t ; i64 int64_t ; u8 uint8_t ; u16 uint16_t ; u32 uint32_t ; u64 uint64_t
#if defined(__GNUC__)
typedef $2 may_$1 __attribute__((may_alias)); /* shares memory with another type */
#else
typedef $2 may_$1;
#endif
//@ FUSED
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__FP_FAST_FMAF)
#define FUSED 1 /* a fused multiply-add is one instruction here, not a slow function */
#else
#define FUSED 0
#endif
//@ int $1 ; add + ; sub - ; mul * ; and & ; or | ; xor ^
INLINE T T_$1(T a, T b) { return (T)((U)a $2 (U)b); }
//@ int neg
INLINE T T_neg(T a) { return (T)((U)0 - (U)a); }
//@ int not
INLINE T T_not(T a) { return (T)~(U)a; }
//@ int shl
INLINE T T_shl(T a, T b) { return (T)((U)a << ((U)b & (BITS - 1))); }
//@ int shr
INLINE T T_shr(T a, T b) { return (T)(a >> ((U)b & (BITS - 1))); }
//@ signed div
/* x / 0 is 0, the lowest number / -1 wraps: neither traps */
INLINE T T_div(T a, T b) { return (T)(b == 0 ? 0 : b == -1 ? T_neg(a) : a / b); }
//@ signed rem
INLINE T T_rem(T a, T b) { return (T)(b == 0 || b == -1 ? 0 : a % b); }
//@ unsigned $1 ; div / ; rem %
INLINE T T_$1(T a, T b) { return (T)(b == 0 ? 0 : a $2 b); }
//@ signed abs
INLINE T T_abs(T a) { return a < 0 ? T_neg(a) : a; }
//@ any $1 ; min < ; max >
INLINE T T_$1(T a, T b) { return a $2 b ? a : b; }
//@ f32 fma
INLINE float f32_fma(float a, float b, float c) {
#if FUSED
  return fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
//@ f64 fma
INLINE double f64_fma(double a, double b, double c) {
#if FUSED
  return fma(a, b, c);
#else
  return a * b + c;
#endif
}
//@ f32 sigmoid
INLINE float f32_sigmoid(float x) {
  const float e = expf(-fabsf(x));
  return x >= 0.0f ? 1.0f / (1.0f + e) : e / (1.0f + e);
}
//@ f64 sigmoid
INLINE double f64_sigmoid(double x) {
  const double e = exp(-fabs(x));
  return x >= 0.0 ? 1.0 / (1.0 + e) : e / (1.0 + e);
}
//@ signed from
/* toward zero, saturating, 0 for NaN */
INLINE T T_from_S(S x) { return x >= (S)TMAX ? TMAX : x > (S)TMIN ? (T)x : x < 0 ? TMIN : 0; }
//@ unsigned from
/* toward zero, saturating, 0 for NaN */
INLINE T T_from_S(S x) { return x >= (S)TMAX ? TMAX : x > 0 ? (T)x : 0; }
//@ any bits
INLINE T T_bits_S(S x) {
  T r;
  memcpy(&r, &x, sizeof r);
  return r;
}
//@ f32 pin
#if defined(__GNUC__) && defined(__SSE2__)
#define f32_pin(x) __asm__("" : "+x"(x))
#elif defined(__GNUC__) && (defined(__aarch64__) || defined(__ARM_NEON))
#define f32_pin(x) __asm__("" : "+w"(x))
#else
#define f32_pin(x) ((void)(x))
#endif
