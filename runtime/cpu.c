/* cpu.c: what the machine can do, found out without LLVM or the compiler's builtins.
 *
 * x86: CPUID leaves 1, 7 and 0x80000001 (Intel SDM volume 2, CPUID), AND what the operating system saves (XCR0): an instruction set whose
 * registers are not saved across a task switch must not be used.
 * ARM: the kernel's AT_HWCAP and AT_HWCAP2 words (Linux, uapi/asm/hwcap.h of arm and arm64); bits are spelled out because
 * older C libraries lack the newer names.
 */
#define _GNU_SOURCE
#include "runtime/runtime.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

static bool bit(unsigned word, int i) { return word >> i & 1; }

static uint64_t enabled_state(void) {
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
}

static void detect_extended(CpuInfo *c, bool ymm, bool zmm) {
  unsigned a, b, cx, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &cx, &d)) return;
  unsigned max_sub = a;
  c->bmi1 = bit(b, 3);
  c->bmi2 = bit(b, 8);
  c->avx2 = ymm && bit(b, 5);
  c->avx512f = zmm && bit(b, 16);
  if (c->avx512f) {
    c->avx512dq = bit(b, 17);
    c->avx512cd = bit(b, 28);
    c->avx512bw = bit(b, 30);
    c->avx512vl = bit(b, 31);
    c->avx512vnni = bit(cx, 11);
    c->avx512fp16 = bit(d, 23);
  }
  if (max_sub >= 1 && __get_cpuid_count(7, 1, &a, &b, &cx, &d)) {
    c->avxvnni = ymm && bit(a, 4);
    c->avx512bf16 = c->avx512f && bit(a, 5);
  }
}

static void detect_name(CpuInfo *c) {
  unsigned words[12];
  for (unsigned i = 0; i < 3; i++) {
    unsigned *w = words + 4 * i;
    if (!__get_cpuid(0x80000002u + i, w, w + 1, w + 2, w + 3)) return;
  }
  char text[sizeof words + 1] = {0};
  memcpy(text, words, sizeof words);
  const char *s = text;
  while (*s == ' ') s++;
  snprintf(c->name, sizeof c->name, "%s", s);
}

static void detect_isa(CpuInfo *c) {
  unsigned a, b, cx, d;
  if (!__get_cpuid(1, &a, &b, &cx, &d)) return;
  uint64_t state = bit(cx, 27) ? enabled_state() : 0;
  bool ymm = (state & 0x06) == 0x06;          /* SSE and AVX registers */
  bool zmm = ymm && (state & 0xe0) == 0xe0;   /* mask registers, upper halves, registers 16 to 31 */
  c->sse42 = bit(cx, 20);
  c->popcnt = bit(cx, 23);
  c->movbe = bit(cx, 22);
  c->avx = ymm && bit(cx, 28);
  c->fma = ymm && bit(cx, 12);
  c->f16c = ymm && bit(cx, 29);
  detect_extended(c, c->avx, c->avx && zmm);
  if (__get_cpuid(0x80000001u, &a, &b, &cx, &d)) c->lzcnt = bit(cx, 5);
  detect_name(c);
}

#elif defined(__aarch64__)
#include <sys/auxv.h>

static void detect_isa(CpuInfo *c) {
  unsigned long cap = getauxval(AT_HWCAP), cap2 = getauxval(AT_HWCAP2);
  c->neon = c->fma = cap >> 1 & 1;                /* ASIMD */
  c->fp16 = (cap >> 9 & 1) && (cap >> 10 & 1);    /* FPHP and ASIMDHP */
  c->dotprod = cap >> 20 & 1;                     /* ASIMDDP */
  c->i8mm = cap2 >> 13 & 1;
  c->bf16 = cap2 >> 14 & 1;
}

#elif defined(__arm__)
#include <sys/auxv.h>

static void detect_isa(CpuInfo *c) {
  unsigned long cap = getauxval(AT_HWCAP);
  c->neon = cap >> 12 & 1;
  c->fma = c->neon && (cap >> 16 & 1);            /* VFPv4 */
  c->fp16 = (cap >> 22 & 1) && (cap >> 23 & 1);   /* FPHP and ASIMDHP */
  c->dotprod = cap >> 24 & 1;                     /* ASIMDDP */
  c->bf16 = cap >> 26 & 1;
  c->i8mm = cap >> 27 & 1;
}

#else
static void detect_isa(CpuInfo *c) { (void)c; }
#endif

static bool read_line(const char *path, char *line, int size) {
  FILE *f = fopen(path, "r");
  if (!f) return false;
  bool ok = fgets(line, size, f) != NULL;
  fclose(f);
  return ok;
}

/* The kernel first: on some AMD processors the C library reports the last level of all dies together. */
static void detect_caches(CpuInfo *c) {
  for (int i = 0; i < 8; i++) {
    char path[96], line[32];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
    if (!read_line(path, line, sizeof line)) break;
    int level = atoi(line);
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", i);
    if (!read_line(path, line, sizeof line) || line[0] == 'I') continue;  /* Instruction */
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
    if (!read_line(path, line, sizeof line)) continue;
    char *end;
    int64_t bytes = strtol(line, &end, 10);
    bytes *= *end == 'K' ? 1024 : *end == 'M' ? 1048576 : 1;
    int64_t *slot = level == 1 ? &c->l1d_bytes : level == 2 ? &c->l2_bytes : level == 3 ? &c->l3_bytes : NULL;
    if (slot && bytes > 0) *slot = bytes;
  }
#ifdef _SC_LEVEL1_DCACHE_SIZE
  const struct { int64_t *slot; int name; } known[] = {
    {&c->l1d_bytes, _SC_LEVEL1_DCACHE_SIZE}, {&c->l2_bytes, _SC_LEVEL2_CACHE_SIZE}, {&c->l3_bytes, _SC_LEVEL3_CACHE_SIZE}};
  for (int i = 0; i < 3; i++) {
    long bytes = *known[i].slot ? 0 : sysconf(known[i].name);
    if (bytes > 0) *known[i].slot = bytes;
  }
#endif
}

/* The set grows until the kernel's own fits: machines may have more processors than a cpu_set_t has bits. */
int cpu_cores(void) {
  for (int bits = 1024; bits <= 1 << 20; bits *= 4) {
    cpu_set_t *set = CPU_ALLOC((size_t)bits);
    if (!set) break;
    size_t size = CPU_ALLOC_SIZE((size_t)bits);
    int count = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online > 0 ? (int)online : 1;
}

CpuInfo cpu_detect(void) {
  CpuInfo c = {0};
  detect_isa(&c);
  detect_caches(&c);
  c.cores = cpu_cores();
  return c;
}
