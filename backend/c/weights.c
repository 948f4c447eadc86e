/* weights.c: the weights of a program as C arrays, as a blob, or as an object file made from the blob.
 *
 * The blob is what program_layout_weights laid out: every weight at its offset, zeros between them. One weight is in memory at a time.
 */
#include "c_backend.h"

#include <string.h>

#define FNV_START 14695981039346656037u
#define FNV_PRIME 1099511628211u

void weights_stream(const CGen *g, void (*sink)(void *user, const void *bytes, size_t n), void *user) {
  static const char zeros[64] = {0};
  int64_t at = 0;
  for (int i = 0; i < g->p->weights.n; i++) {
    const Weight *w = &g->p->weights.at[i];
    for (; at < w->offset; at += MINI(w->offset - at, 64)) sink(user, zeros, (size_t)MINI(w->offset - at, 64));
    ArenaMark m = arena_mark(g->a);
    void *bytes = arena_alloc(g->a, (size_t)w->bytes + 1);
    w->fill(w->ctx, bytes);
    sink(user, bytes, (size_t)w->bytes);
    arena_release(g->a, m);
    at = w->offset + w->bytes;
  }
  for (; at < g->p->weight_bytes; at += MINI(g->p->weight_bytes - at, 64)) sink(user, zeros, (size_t)MINI(g->p->weight_bytes - at, 64));
}

static void hash_sink(void *user, const void *bytes, size_t n) {
  uint64_t h = *(uint64_t *)user;
  for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)bytes)[i]) * FNV_PRIME;
  *(uint64_t *)user = h;
}

void weights_hash(CGen *g) {
  g->weight_hash = FNV_START;
  weights_stream(g, hash_sink, &g->weight_hash);
}

/* ---- arrays ---- */

static bool read_as(const CGen *g, int buffer, DType dt) {
  for (int i = 0; i < g->p->calls.n; i++) {
    const Call *c = &g->p->calls.at[i];
    for (int j = 0; j < c->kernel->params.n; j++) {
      if (c->args[j].buffer == buffer && c->kernel->params.at[j]->type.dt == dt) return true;
    }
  }
  return false;
}

char *weights_array(const CGen *g, int buffer, DType dt) {
  return arena_printf(g->a, "weights_%d_%s", g->p->buffers.at[buffer].index, dt_name(dt));
}

static void element(Text *t, DType dt, const void *data, int64_t i) {
  if (dt == DT_F32 || dt == DT_F64) {
    c_float(t, data_get_f(data, dt, i), dt == DT_F32);
  } else if (dt == DT_I64 || dt == DT_U64) {
    int64_t v;
    memcpy(&v, (const char *)data + 8 * i, sizeof v);
    if (dt == DT_U64) text_addf(t, "UINT64_C(%llu)", (unsigned long long)v);
    else if (v == INT64_MIN) text_add(t, "INT64_MIN");
    else text_addf(t, "INT64_C(%lld)", (long long)v);
  } else {
    int64_t v = data_get_i(data, dt, i);
    if (v == INT32_MIN) text_add(t, "INT32_MIN");
    else text_addf(t, "%lld%s", (long long)v, dt == DT_U32 ? "u" : "");
  }
}

static void array(const CGen *g, int buffer, DType dt, FILE *f) {
  const Weight *w = &g->p->weights.at[g->p->buffers.at[buffer].index];
  int64_t n = w->bytes / (int64_t)dt_size(dt);
  bool small = dt_size(dt) == 1;
  int per_line = small ? 24 : dt == DT_F64 || dt_size(dt) == 8 ? 6 : 10;
  ArenaMark m = arena_mark(g->a);
  fprintf(f, "\n/* %s: %s */\n", c_comment(g->a, w->name && *w->name ? w->name : "unnamed", 80), c_comment(g->a, w->desc, 80));
  fprintf(f, "ALIGN64 static const %s %s[%lld] = {", c_type(dt), weights_array(g, buffer, dt), (long long)MAXI(n, 1));
  void *data = arena_alloc(g->a, (size_t)w->bytes + 1);
  w->fill(w->ctx, data);
  for (int64_t i = 0; i < n; i += per_line) {
    ArenaMark line = arena_mark(g->a);
    Text t = {.a = g->a};
    for (int64_t j = i; j < n && j < i + per_line; j++) {
      text_add(&t, j > i ? ", " : "");
      element(&t, dt, data, j);
    }
    fprintf(f, "%s\n  %s", i ? "," : "", t.s);
    arena_release(g->a, line);
  }
  fprintf(f, n ? "\n};\n" : "0};\n");
  arena_release(g->a, m);
}

static const DType array_types[] = {SPINEC_F32, SPINEC_F64, SPINEC_I8, SPINEC_I16, SPINEC_I32, SPINEC_I64, SPINEC_U8, SPINEC_U16, SPINEC_U32,
                                    SPINEC_U64, SPINEC_BOOL, SPINEC_F16, SPINEC_BF16};

/* A weight read under two types becomes two arrays: reading one as the other would break C's aliasing rules. */
void weights_inline(const CGen *g, FILE *f) {
  if (!g->p->weights.n) return;
  fprintf(f, "\n/* ---- weights ---- */\n\n"
             "#if defined(__cplusplus)\n#define ALIGN64 alignas(64)\n"
             "#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L\n#define ALIGN64 _Alignas(64)\n"
             "#elif defined(__GNUC__)\n#define ALIGN64 __attribute__((aligned(64)))\n#else\n#define ALIGN64\n#endif\n");
  for (int b = 0; b < g->p->buffers.n; b++) {
    if (g->p->buffers.at[b].kind != BUF_WEIGHT) continue;
    for (int t = 0; t < COUNTOF(array_types); t++) {
      if (read_as(g, b, array_types[t])) array(g, b, array_types[t], f);
    }
  }
}

/* ---- object ---- */

void weights_assembly(const CGen *g, Text *t, const char *bin) {
  text_addf(t,
            "/* %s_weights.S: the weights of %s as an object file, for gcc, clang and GNU as; ELF, Mach-O and COFF.\n"
            " * Assemble where %s is, or give its folder with -I:\n"
            " *\n"
            " *     cc -c %s_weights.S -o %s_weights.o\n"
            " */\n"
            "#if defined(__APPLE__)\n"
            "  .section __TEXT,__const\n"
            "#define SYMBOL _%s_weights\n"
            "#elif defined(_WIN32)\n"
            "  .section .rdata,\"dr\"\n"
            "#if defined(__i386__)\n"
            "#define SYMBOL _%s_weights\n"
            "#else\n"
            "#define SYMBOL %s_weights\n"
            "#endif\n"
            "#else\n"
            "  .section .rodata.%s_weights,\"a\",%%progbits\n"
            "  .type %s_weights, %%object\n"
            "  .size %s_weights, %lld\n"
            "#define SYMBOL %s_weights\n"
            "#endif\n"
            "  .globl SYMBOL\n"
            "  .p2align 6\n"
            "SYMBOL:\n"
            "  .incbin \"%s\"\n"
            "#if defined(__ELF__)\n"
            "  .section .note.GNU-stack,\"\",%%progbits\n"
            "#endif\n",
            g->stem, g->stem, bin, g->stem, g->stem, g->prefix, g->prefix, g->prefix, g->prefix, g->prefix, g->prefix, (long long)g->p->weight_bytes,
            g->prefix, bin);
}
