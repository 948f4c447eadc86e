/* random.c: reproducible numbers for made-up inputs and weights.
 *
 * splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): a counter through a mixing function,
 * so number i of a seed can be had without the ones before it. Normal deviates are sums of four 16-bit uniforms (Irwin-Hall):
 * integers until one last multiplication, hence the same bits on every machine, which log and cos would not promise.
 */
#include "runtime/runtime.h"

#include <string.h>

#define GAMMA UINT64_C(0x9e3779b97f4a7c15)

static uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static double normal_of(uint64_t bits) {
  /* Sum of four uniforms on 0..65535: mean 2 * 65535, variance (65536^2 - 1) / 3. */
  int32_t sum = (int32_t)((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48));
  return (sum - 131070) * (1.7320508075688772 / 65536);
}

Rng rng_new(uint64_t seed) { return (Rng){mix(seed + GAMMA)}; }

uint64_t rng_next(Rng *r) { return mix(r->state += GAMMA); }

int64_t rng_below(Rng *r, int64_t n) {
  if (n <= 1) return 0;
  uint64_t range = (uint64_t)n, limit = UINT64_MAX - UINT64_MAX % range;  /* a multiple of n: no bias */
  uint64_t x;
  do x = rng_next(r);
  while (x >= limit);
  return (int64_t)(x % range);
}

double rng_uniform(Rng *r) { return (double)(rng_next(r) >> 11) * 0x1p-53; }

double rng_normal(Rng *r) { return normal_of(rng_next(r)); }

/* Round to nearest even. Deviates lie within +-3.47 and are 0 or at least 2^-16: no overflow, some subnormals below 2^-14. */
static uint16_t f16_of(double value) {
  float f = (float)value;
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
  uint32_t magnitude = u & 0x7fffffff;
  uint32_t shift = 13, base;
  if (magnitude < (uint32_t)(127 - 14) << 23) {  /* subnormal: the implicit bit becomes explicit and moves right */
    uint32_t exponent = magnitude >> 23;
    if (exponent < 127 - 25) return sign;
    shift += 127 - 14 - exponent;
    base = (magnitude & 0x7fffff) | 0x800000;
  } else {
    base = magnitude - ((uint32_t)(127 - 15) << 23);
  }
  uint32_t half = UINT32_C(1) << (shift - 1);
  uint32_t rounded = (base + half - 1 + (base >> shift & 1)) >> shift;
  return (uint16_t)(sign | rounded);
}

static uint16_t bf16_of(double value) {
  float f = (float)value;
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

void random_fill(spinec_tensor *t, uint64_t seed) {
  int64_t n;
  size_t bytes;
  if (!t->data || !rt_shape_bytes(t->dtype, t->rank, t->dims, &n, &bytes)) return;
  Rng r = rng_new(seed);
  for (int64_t i = 0; i < n; i++) {
    uint64_t x = rng_next(&r);
    switch (t->dtype) {
    case SPINEC_F32: ((float *)t->data)[i] = (float)normal_of(x); break;
    case SPINEC_F64: ((double *)t->data)[i] = normal_of(x); break;
    case SPINEC_F16: ((uint16_t *)t->data)[i] = f16_of(normal_of(x)); break;
    case SPINEC_BF16: ((uint16_t *)t->data)[i] = bf16_of(normal_of(x)); break;
    case SPINEC_BOOL: ((uint8_t *)t->data)[i] = (uint8_t)(x >> 63); break;
    case SPINEC_U8: ((uint8_t *)t->data)[i] = (uint8_t)(x >> 56); break;
    case SPINEC_I8: ((int8_t *)t->data)[i] = (int8_t)((int)(x >> 56) - 128); break;
    case SPINEC_U16: ((uint16_t *)t->data)[i] = (uint16_t)(x >> 60); break;
    case SPINEC_U32: ((uint32_t *)t->data)[i] = (uint32_t)(x >> 60); break;
    case SPINEC_U64: ((uint64_t *)t->data)[i] = x >> 60; break;
    case SPINEC_I16: ((int16_t *)t->data)[i] = (int16_t)((int)(x >> 60) - 8); break;
    case SPINEC_I32: ((int32_t *)t->data)[i] = (int32_t)(x >> 60) - 8; break;
    case SPINEC_I64: ((int64_t *)t->data)[i] = (int64_t)(x >> 60) - 8; break;
    case SPINEC_UNDEFINED: case SPINEC_STRING: break;
    }
  }
}
