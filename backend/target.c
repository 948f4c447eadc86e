/* backend/target.c: the table of targets, the only place besides the generated code's preludes that names instruction sets.
 *
 * A row states what lowering asks: how wide a vector is, how many there are, what is cheap. Compiler flags and LLVM's names follow from it.
 * Cache sizes are those of a common core of that class; l3 is one core's share.
 *
 * "native" is the best row this machine satisfies, with this machine's first two cache sizes rounded down to a class. Rows are
 * constants: a native row exists for every combination, so that nothing has to be allocated or kept.
 */
#include "backend.h"
#include "../runtime/runtime.h"

#include <string.h>

#define KB 1024
#define MB 1048576

#define X86 ARCH_X86_64, "x86_64-unknown-linux-gnu"
#define A64 ARCH_AARCH64, "aarch64-unknown-linux-gnu"
#define A32 ARCH_ARM, "armv7-unknown-linux-gnueabihf"

/* R(id, name, what it is, arch and triple, LLVM's cpu, features, compiler flags, lanes, registers, fma, masks, dot8, fp16, bf16, bits,
 *   L1, L2, L3 share) */
#define ROWS(R)                                                                                                                           \
  R(GENERIC, "generic", "any machine with a C compiler", ARCH_GENERIC, "", "", "", "", 4, 16, 0, 0, 0, 0, 0, 64, 32, 256, 0)               \
  R(X86_V2, "x86-64-v2", "x86-64 with SSE4.2 (2009 on)", X86, "x86-64-v2", "", "-march=x86-64-v2", 4, 16, 0, 0, 0, 0, 0, 64, 32, 256,      \
    1024)                                                                                                                                 \
  R(X86_V3, "x86-64-v3", "x86-64 with AVX2 and FMA (Haswell, Zen on)", X86, "x86-64-v3", "", "-march=x86-64-v3", 8, 16, 1, 0, 0, 0, 0, 64, \
    32, 512, 2048)                                                                                                                        \
  R(X86_V4, "x86-64-v4", "x86-64 with AVX-512 (Skylake-X, Zen 4 on)", X86, "x86-64-v4", "",                                                \
    "-march=x86-64-v4 -mprefer-vector-width=512", 16, 32, 1, 1, 0, 0, 0, 64, 32, 1024, 4096)                                               \
  R(ARMV8, "armv8-a", "AArch64 (Cortex-A53, A72 on)", A64, "generic", "+neon,+fp-armv8", "-march=armv8-a", 4, 32, 1, 0, 0, 0, 0, 64, 32,   \
    512, 0)                                                                                                                               \
  R(ARMV82, "armv8.2-a+dotprod+fp16", "AArch64 with int8 dot products and half floats (Cortex-A55, A76, Neoverse N1 on)", A64, "generic",  \
    "+v8.2a,+neon,+fp-armv8,+dotprod,+fullfp16", "-march=armv8.2-a+dotprod+fp16", 4, 32, 1, 0, 1, 1, 0, 64, 32, 256, 1024)                 \
  R(ARMV7, "armv7-a+neon", "32-bit ARM with NEON and VFPv4 (Cortex-A5, A7, A15 on)", A32, "generic", "+v7,+neon,+vfp4",                    \
    "-march=armv7-a -mfpu=neon-vfpv4 -mfloat-abi=hard", 4, 16, 1, 0, 0, 0, 0, 32, 32, 256, 0)

enum {
#define R(id, ...) ROW_##id,
  ROWS(R)
#undef R
  ROW_COUNT
};

#define MAKE(name, what, arch_triple, ...) MAKE_(name, what, arch_triple, __VA_ARGS__)
#define MAKE_(name, what, arch, triple, cpu, features, cflags, lanes, regs, fma, masks, dot8, fp16, bf16, bits, l1, l2, l3)               \
  {name, what, triple, cpu, features, cflags, arch, lanes, regs, fma, masks, dot8, fp16, bf16, bits, (l1) * KB, (l2) * KB, (l3) * KB}

static const Target rows[ROW_COUNT] = {
#define R(id, name, what, ...) MAKE(name, what, __VA_ARGS__),
  ROWS(R)
#undef R
};

/* ---- native ---- */

static const int64_t l1_classes[] = {32 * KB, 48 * KB, 64 * KB};
static const int64_t l2_classes[] = {256 * KB, 512 * KB, 1 * MB, 2 * MB};
enum { L1_CLASSES = COUNTOF(l1_classes), L2_CLASSES = COUNTOF(l2_classes) };

#define NATIVE(name, what, arch_triple, ...) NATIVE_(name, what, arch_triple, __VA_ARGS__)
#define NATIVE_(name, what, arch, triple, cpu, features, cflags, lanes, regs, fma, masks, dot8, fp16, bf16, bits, l1, l2, l3)             \
  {NATIVE_L2(name, 32, arch, triple, cpu, features, cflags, lanes, regs, fma, masks, dot8, fp16, bf16, bits, l3),                           \
   NATIVE_L2(name, 48, arch, triple, cpu, features, cflags, lanes, regs, fma, masks, dot8, fp16, bf16, bits, l3),                           \
   NATIVE_L2(name, 64, arch, triple, cpu, features, cflags, lanes, regs, fma, masks, dot8, fp16, bf16, bits, l3)},
#define NATIVE_L2(name, l1, ...)                                                                                                          \
  {NATIVE_ROW(name, l1, 256, __VA_ARGS__), NATIVE_ROW(name, l1, 512, __VA_ARGS__), NATIVE_ROW(name, l1, 1024, __VA_ARGS__),                \
   NATIVE_ROW(name, l1, 2048, __VA_ARGS__)}
#define NATIVE_ROW(name, l1, l2, arch, triple, cpu, features, cflags, lanes, regs, fma, masks, dot8, fp16, bf16, bits, l3)                \
  MAKE_("native", "this machine, as " name, arch, triple, cpu, features, cflags, lanes, regs, fma, masks, dot8, fp16, bf16, bits, l1, l2, l3)

static const Target native_rows[ROW_COUNT][L1_CLASSES][L2_CLASSES] = {
#define R(id, name, what, ...) NATIVE(name, what, __VA_ARGS__)
  ROWS(R)
#undef R
};

/* The classes follow the psABI's levels: each is a set of extensions, all of which must be there. */
static int native_row(const CpuInfo *c) {
#if defined(__x86_64__)
  if (!c->sse42 || !c->popcnt) return ROW_GENERIC;
  if (!c->avx || !c->avx2 || !c->fma || !c->f16c || !c->bmi1 || !c->bmi2 || !c->lzcnt || !c->movbe) return ROW_X86_V2;
  if (!c->avx512f || !c->avx512bw || !c->avx512cd || !c->avx512dq || !c->avx512vl) return ROW_X86_V3;
  return ROW_X86_V4;
#elif defined(__aarch64__)
  return c->dotprod && c->fp16 ? ROW_ARMV82 : ROW_ARMV8;
#elif defined(__arm__)
  return c->neon && c->fma ? ROW_ARMV7 : ROW_GENERIC;
#else
  (void)c;
  return ROW_GENERIC;
#endif
}

/* The largest class that is not larger than `bytes`; the row's own size when the machine does not tell. */
static int cache_class(const int64_t *classes, int n, int64_t bytes, int64_t row) {
  if (bytes <= 0) bytes = row;
  int i = 0;
  while (i + 1 < n && classes[i + 1] <= bytes) i++;
  return i;
}

static const Target *detect(void) {
  CpuInfo c = cpu_detect();
  int row = native_row(&c);
  int l1 = cache_class(l1_classes, L1_CLASSES, c.l1d_bytes, rows[row].l1);
  int l2 = cache_class(l2_classes, L2_CLASSES, c.l2_bytes, rows[row].l2);
  return &native_rows[row][l1][l2];
}

/* ---- the table ---- */

int target_count(void) { return ROW_COUNT + 1; }

const Target *target_at(int i) {
  if (i < 0 || i > ROW_COUNT) return NULL;
  return i < ROW_COUNT ? &rows[i] : detect();
}

const Target *target_find(const char *name) {
  if (!name) return NULL;
  if (!strcmp(name, "native")) return detect();
  for (int i = 0; i < ROW_COUNT; i++) {
    if (!strcmp(rows[i].name, name)) return &rows[i];
  }
  return NULL;
}
