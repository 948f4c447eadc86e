/* Seeded weights, and activation statistics by calculation instead of by running the network.
 *
 * Random numbers. Every parameter has its own stream: splitmix64 (Steele et al., OOPSLA 2014) counting from a hash of seed and name, so no
 * parameter depends on the order of construction. A normal deviate is the sum of the four 16-bit quarters of one draw (Irwin-Hall): exact
 * integer arithmetic, no logarithm or cosine whose last bit differs between C libraries.
 *
 * Statistics. A convolution with independent zero-mean weights turns inputs of per-channel mean m and variance v into outputs of mean
 * sum(w m), exactly, and variance sum(w^2 v): cross terms between positions and channels have weights of mean zero, however correlated the
 * inputs are. After BatchNormalization a channel is taken as the Gaussian N(beta, gamma^2); what the activation makes of it is an integral,
 * done numerically. An error r in a predicted variance shrinks on the way: through BN with fixed statistics and ReLU at beta = 0.5, gamma =
 * 1 it comes out as about 0.8 r, so predictions stay good at any depth (beta = 0 would give 1.0).
 *
 * Two things keep a deep random network from amplifying rounding errors: beta around 0.5, and a small gamma in the last BN of a residual
 * branch (`gain`). */
#include "spinenet.h"

#include <math.h>

/* ---- random numbers ---- */

#define GOLDEN 0x9E3779B97F4A7C15u

static inline uint64_t mix(uint64_t z) {
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

static inline uint64_t draw(uint64_t key, uint64_t i) { return mix(key + (i + 1) * GOLDEN); }

static inline double normal(uint64_t key, uint64_t i) {
  uint64_t u = draw(key, i);
  int sum = (int)(u & 0xFFFF) + (int)(u >> 16 & 0xFFFF) + (int)(u >> 32 & 0xFFFF) + (int)(u >> 48);
  return (sum - 131070) * (1.0 / 37837.227); /* mean 2 * 65535, deviation sqrt((65536^2 - 1) / 3) */
}

static inline double uniform(uint64_t key, uint64_t i) { return (double)(draw(key, i) >> 11) * 0x1p-53; }

/* FNV-1a of the name, and of `part` where one layer has several parameters. */
static uint64_t stream(uint64_t seed, const char *name, const char *part) {
  uint64_t h = 0xCBF29CE484222325u;
  for (const char *s = name; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001B3u;
  for (const char *s = part; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001B3u;
  return mix(h ^ mix(seed + GOLDEN));
}

/* ---- initialisation ---- */

void weights_dense(uint64_t seed, const char *name, float *w, size_t n, int fan_in) {
  const uint64_t key = stream(seed, name, ".weight");
  const double sd = sqrt(2.0 / fan_in);
  for (size_t i = 0; i < n; i++) w[i] = (float)(sd * normal(key, i));
}

/* Few taps and neighbours that resemble each other: with plain random taps a channel would vanish or double by chance, several times in
 * a row. So the sum is fixed to +-sqrt(2) and the sum of squares to 2: the same gain for white and for flat inputs. */
void weights_depthwise(uint64_t seed, const char *name, float *w, int c, int taps) {
  const uint64_t key = stream(seed, name, ".weight"), sign = stream(seed, name, ".sign");
  for (int o = 0; o < c; o++) {
    double mean = 0, square = 0;
    float *row = w + (size_t)o * (size_t)taps;
    for (int t = 0; t < taps; t++) mean += normal(key, (uint64_t)o * (uint64_t)taps + (uint64_t)t) / taps;
    for (int t = 0; t < taps; t++) {
      double d = normal(key, (uint64_t)o * (uint64_t)taps + (uint64_t)t) - mean;
      square += d * d;
    }
    double s = draw(sign, (uint64_t)o) >> 63 ? 1.0 : -1.0, spread = square > 0 ? sqrt((1.0 - 1.0 / taps) / square) : 0.0;
    for (int t = 0; t < taps; t++) {
      double d = normal(key, (uint64_t)o * (uint64_t)taps + (uint64_t)t) - mean;
      row[t] = (float)(sqrt(2.0) * (s / taps + spread * d));
    }
  }
}

void weights_bias(uint64_t seed, const char *name, float *b, int n) {
  const uint64_t key = stream(seed, name, ".bias");
  for (int i = 0; i < n; i++) b[i] = (float)(0.1 * normal(key, (uint64_t)i));
}

/* ---- statistics through linear layers ---- */

void moments_dense(const float *w, const float *bias, int cout, int cin, int taps, const Moments *in, Moments *out) {
  for (int o = 0; o < cout; o++) {
    double mean = bias ? bias[o] : 0, var = 0;
    for (int i = 0; i < cin; i++, w += taps) {
      double sum = 0, square = 0;
      for (int t = 0; t < taps; t++) {
        sum += w[t];
        square += (double)w[t] * w[t];
      }
      mean += sum * in->mean[i];
      var += square * in->var[i];
    }
    out->mean[o] = mean;
    out->var[o] = var;
  }
}

void moments_depthwise(const float *w, int c, int taps, const Moments *in, Moments *out) {
  for (int o = 0; o < c; o++, w += taps) {
    double sum = 0, square = 0;
    for (int t = 0; t < taps; t++) {
      sum += w[t];
      square += (double)w[t] * w[t];
    }
    out->mean[o] = sum * in->mean[o];
    out->var[o] = square * in->var[o];
  }
}

/* ---- BatchNormalization ---- */

static double bn_scale(BatchNorm bn, int o) { return bn.gamma[o] / sqrt((double)bn.var[o] + (double)BN_EPSILON); }

void batch_norm_init(uint64_t seed, const char *name, int c, double gain, BatchNorm bn, Moments *m) {
  const uint64_t kg = stream(seed, name, ".gamma"), kb = stream(seed, name, ".beta"), km = stream(seed, name, ".mean"),
                 kv = stream(seed, name, ".var");
  for (int o = 0; o < c; o++) {
    const uint64_t i = (uint64_t)o;
    const double jitter = 1.0 + 0.05 * normal(kv, i);
    bn.gamma[o] = (float)(gain * (0.75 + 0.5 * uniform(kg, i)));
    bn.beta[o] = (float)(0.5 + 0.2 * normal(kb, i));
    /* Running statistics are off by about 10%, as those of a trained network would be; what that does is followed exactly. */
    bn.mean[o] = (float)(m->mean[o] + 0.1 * sqrt(m->var[o]) * normal(km, i));
    bn.var[o] = (float)(m->var[o] * jitter * jitter);
    const double s = bn_scale(bn, o);
    m->mean[o] = bn.beta[o] + (m->mean[o] - bn.mean[o]) * s;
    m->var[o] *= s * s;
  }
}

void batch_norm_fold(BatchNorm bn, int cout, int per_filter, float *w, float *bias) {
  for (int o = 0; o < cout; o++) {
    const double s = bn_scale(bn, o);
    float *row = w + (size_t)o * (size_t)per_filter;
    for (int i = 0; i < per_filter; i++) row[i] = (float)(row[i] * s);
    bias[o] = (float)(bn.beta[o] + ((double)bias[o] - bn.mean[o]) * s);
  }
}

/* ---- statistics through activations ---- */

/* e^x, always the same bits: argument reduction, then a Taylor series that is below 1e-17 at |r| <= ln(2)/2. */
static double portable_exp(double x) {
  if (x < -700) return 0;
  if (x > 700) x = 700;
  const double n = floor(x / 0.69314718055994531 + 0.5), r = x - n * 0.69314718055994531;
  double y = 1;
  for (int k = 14; k > 0; k--) y = 1 + y * r / k;
  return ldexp(y, (int)n);
}

double hard_sigmoid(double x) { return x <= -3 ? 0 : x >= 3 ? 1 : x / 6 + 0.5; }

/* A 3x3 window after a stride-2 convolution holds about this many independent values. */
enum { POOL_DRAWS = 4 };

/* The largest of n draws has density n phi(x) Phi(x)^(n-1). Nodes are equidistant: for a Gaussian the trapezoidal rule is all one needs. */
void quadrature_init(Quadrature *q) {
  double phi[QUAD_NODES], cdf[QUAD_NODES], total = 0;
  for (int j = 0; j < QUAD_NODES; j++) {
    q->x[j] = (j - QUAD_NODES / 2) * 0.125;
    phi[j] = portable_exp(-0.5 * q->x[j] * q->x[j]);
    cdf[j] = total + 0.5 * phi[j];
    total += phi[j];
  }
  for (int p = 0, draws = 1; p <= MAX_POOLS; p++, draws *= POOL_DRAWS) {
    double sum = 0;
    for (int j = 0; j < QUAD_NODES; j++) {
      double d = phi[j];
      for (int k = 1; k < draws; k++) d *= cdf[j] / total;
      sum += q->weight[p][j] = d;
    }
    for (int j = 0; j < QUAD_NODES; j++) q->weight[p][j] /= sum;
  }
}

void moments_act(const Quadrature *q, Act act, int pools, int n, const double *mean, const double *var, Moments *out) {
  const double *weight = q->weight[pools < MAX_POOLS ? pools : MAX_POOLS];
  for (int i = 0; i < n; i++) {
    const double sd = sqrt(var[i]);
    double first = 0, second = 0;
    for (int j = 0; j < QUAD_NODES; j++) {
      const double z = mean[i] + sd * q->x[j];
      const double y = act == ACT_RELU ? (z > 0 ? z : 0) : z / (1 + portable_exp(-z));
      first += weight[j] * y;
      second += weight[j] * y * y;
    }
    const double v = second - first * first;
    out->mean[i] = first;
    out->var[i] = v > 0 ? v : 0;
  }
}
