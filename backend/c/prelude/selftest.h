/* selftest.h: the fixed part of OUT_test.c. Read by prelude.c (see there); NAME_ stands for the model's prefix.
 *
 * types: numbers of ONNX TensorProto.DataType. A summary of numbers x[i] is their sum of magnitudes and a sum with position-dependent
 * weights, so that a permutation shows.
 */
//@ support
#ifndef NAME_TOLERANCE
#define NAME_TOLERANCE 1e-4 /* of the largest magnitude; other machines round differently in libm */
#endif

enum { F32 = 1, U8 = 2, I8 = 3, U16 = 4, I16 = 5, I32 = 6, I64 = 7, BOOL = 9, F64 = 11, U32 = 12, U64 = 13 };

typedef struct {
  int call;            /* position in NAME_run */
  const char *kernel;
  const char *nodes;   /* of the model */
  int output;          /* written: this output, or -1 for the workspace */
  size_t offset;       /* bytes */
  int type;
  size_t count;
  double sum, mix;     /* the summary */
} call_row;

typedef struct {
  const char *name;
  const void *data;
  int type;
  size_t count;
  double magnitude;    /* the largest */
  const double *expected;
  size_t samples;      /* element i * count / samples is expected[i] */
  double sum, mix;
} output_row;

static double element(const void *data, int type, size_t i) {
  const unsigned char *p = (const unsigned char *)data;
  switch (type) {
  case F32: { float x; memcpy(&x, p + 4 * i, sizeof x); return (double)x; }
  case F64: { double x; memcpy(&x, p + 8 * i, sizeof x); return x; }
  case I8: return p[i] < 128 ? p[i] : p[i] - 256;
  case U16: { uint16_t x; memcpy(&x, p + 2 * i, sizeof x); return x; }
  case I16: { int16_t x; memcpy(&x, p + 2 * i, sizeof x); return x; }
  case I32: { int32_t x; memcpy(&x, p + 4 * i, sizeof x); return x; }
  case U32: { uint32_t x; memcpy(&x, p + 4 * i, sizeof x); return x; }
  case I64: { int64_t x; memcpy(&x, p + 8 * i, sizeof x); return (double)x; }
  case U64: { uint64_t x; memcpy(&x, p + 8 * i, sizeof x); return (double)x; }
  default: return p[i];
  }
}

static void summarise(const void *data, int type, size_t count, double *sum, double *mix) {
  *sum = *mix = 0;
  for (size_t i = 0; i < count; i++) {
    const double x = element(data, type, i), w = (double)((i * 40503u >> 4 & 255u) + 1u) / 256.0;
    *sum += x < 0 ? -x : x;
    *mix += x * w;
  }
}

/* Equal, both not a number, or close by the given scale. */
static int close_to(double x, double expected, double scale) {
  const double d = x > expected ? x - expected : expected - x;
  if (x == expected || (x != x && expected != expected)) return 1;
  return d <= NAME_TOLERANCE * scale + 1e-30;
}

/* splitmix64 */
static uint64_t mix64(uint64_t z) {
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

/* Floats near normal, 8-bit integers over their range, wider ones small. zero: all integers 0. */
static void fill(void *data, int type, size_t count, uint64_t seed, int zero) {
  unsigned char *p = (unsigned char *)data;
  uint64_t state = mix64(seed + UINT64_C(0x9e3779b97f4a7c15));
  for (size_t i = 0; i < count; i++) {
    const uint64_t r = mix64(state += UINT64_C(0x9e3779b97f4a7c15));
    const int32_t four = (int32_t)((r & 0xffff) + (r >> 16 & 0xffff) + (r >> 32 & 0xffff) + (r >> 48));
    const double normal = (four - 131070) * (1.7320508075688772 / 65536);
    const int nibble = (int)(r >> 60);
    switch (type) {
    case F32: { const float x = (float)normal; memcpy(p + 4 * i, &x, sizeof x); break; }
    case F64: memcpy(p + 8 * i, &normal, sizeof normal); break;
    case BOOL: p[i] = (unsigned char)(zero ? 0 : r >> 63); break;
    case U8: p[i] = (unsigned char)(zero ? 0 : r >> 56); break;
    case I8: p[i] = (unsigned char)(zero ? 0 : (r >> 56) ^ 128); break;
    case U16: { const uint16_t x = (uint16_t)(zero ? 0 : nibble); memcpy(p + 2 * i, &x, sizeof x); break; }
    case I16: { const int16_t x = (int16_t)(zero ? 0 : nibble - 8); memcpy(p + 2 * i, &x, sizeof x); break; }
    case U32: { const uint32_t x = (uint32_t)(zero ? 0 : nibble); memcpy(p + 4 * i, &x, sizeof x); break; }
    case I32: { const int32_t x = zero ? 0 : nibble - 8; memcpy(p + 4 * i, &x, sizeof x); break; }
    case U64: { const uint64_t x = (uint64_t)(zero ? 0 : nibble); memcpy(p + 8 * i, &x, sizeof x); break; }
    case I64: { const int64_t x = zero ? 0 : nibble - 8; memcpy(p + 8 * i, &x, sizeof x); break; }
    default: p[i] = 0; break;
    }
  }
}
//@ checks
/* ---- checks ---- */

static int traced, diverged;

#if defined(__cplusplus)
extern "C"
#endif
void NAME_trace(int call);

/* After each call, if NAME_TRACE is defined for both files. */
void NAME_trace(int call) {
  traced = 1;
  for (size_t i = 0; i < sizeof calls / sizeof calls[0] && !diverged; i++) {
    const call_row *c = &calls[i];
    if (c->call != call || c->count == 0) continue;
    const unsigned char *base = c->output < 0 ? workspace : (const unsigned char *)outputs[c->output].data;
    double sum, mix;
    summarise(base + c->offset, c->type, c->count, &sum, &mix);
    if (close_to(sum, c->sum, c->sum) && close_to(mix, c->mix, c->sum)) continue;
    diverged = 1;
    printf("first divergence: call %d, kernel %s (%s): sums %.9g %.9g, expected %.9g %.9g\n", call, c->kernel, c->nodes, sum, mix, c->sum, c->mix);
  }
}

/* Number of elements out of tolerance, of those that are compared one by one. */
static size_t check_output(const output_row *o) {
  size_t wrong = 0;
  double worst = 0, sum, mix;
  for (size_t i = 0; i < o->samples; i++) {
    const size_t at = (size_t)((uint64_t)i * o->count / o->samples);
    const double x = element(o->data, o->type, at), d = x > o->expected[i] ? x - o->expected[i] : o->expected[i] - x;
    if (!close_to(x, o->expected[i], o->magnitude)) {
      if (wrong++ == 0) printf("%s[%lu] is %.9g, expected %.9g\n", o->name, (unsigned long)at, x, o->expected[i]);
    }
    if (d > worst) worst = d;
  }
  summarise(o->data, o->type, o->count, &sum, &mix);
  if (!close_to(sum, o->sum, o->sum) || !close_to(mix, o->mix, o->sum)) {
    printf("%s: sums %.9g %.9g, expected %.9g %.9g\n", o->name, sum, mix, o->sum, o->mix);
    wrong++;
  }
  printf("%s: %lu elements, largest error %.3g of %.3g: %s\n", o->name, (unsigned long)o->count, worst, o->magnitude, wrong ? "WRONG" : "ok");
  return wrong;
}

static int report(void) {
  size_t wrong = 0;
  for (size_t i = 0; i < sizeof outputs / sizeof outputs[0]; i++) wrong += check_output(&outputs[i]);
  if (wrong && !traced) printf("compile both files with -DNAME_TRACE to learn which kernel is the first to differ\n");
  printf(wrong ? "FAILED\n" : "passed\n");
  return wrong ? 1 : 0;
}
//@ weights_file
static int load_weights(const char *path) {
  FILE *f = fopen(path, "rb");
  if (!f) {
    printf("cannot open %s\n", path);
    return 0;
  }
  const size_t n = fread(weights, 1, NAME_WEIGHTS_BYTES, f);
  const int more = fgetc(f) != EOF;
  fclose(f);
  uint64_t h = UINT64_C(14695981039346656037);
  for (size_t i = 0; i < n; i++) h = (h ^ weights[i]) * UINT64_C(1099511628211);
  if (n == NAME_WEIGHTS_BYTES && !more && h == NAME_WEIGHTS_HASH) return 1;
  printf("%s does not belong to this model\n", path);
  return 0;
}
