/* names.c: names of the model as C identifiers and as text that is safe in a comment. */
#include "c_backend.h"

#include <string.h>

/* ASCII, whatever the locale. */
static bool digit(char c) { return c >= '0' && c <= '9'; }
static bool lower(char c) { return c >= 'a' && c <= 'z'; }
static bool upper(char c) { return c >= 'A' && c <= 'Z'; }
static bool word_char(char c) { return digit(c) || lower(c) || upper(c) || c == '_'; }
static char to_upper(char c) { return lower(c) ? (char)(c - 'a' + 'A') : c; }

/* Words of C and C++, names that the generated files take from headers or define, and macros some systems predefine. */
static const char *const taken[] = {
  "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break", "case", "catch", "char", "char16_t", "char32_t", "char8_t",
  "class", "co_await", "co_return", "co_yield", "compl", "concept", "const", "const_cast", "consteval", "constexpr", "constinit", "continue",
  "decltype", "default", "delete", "do", "double", "dynamic_cast", "else", "enum", "explicit", "export", "extern", "false", "final", "float", "for",
  "friend", "goto", "if", "import", "inline", "int", "long", "module", "mutable", "namespace", "new", "noexcept", "not", "not_eq", "nullptr",
  "operator", "or", "or_eq", "override", "private", "protected", "public", "register", "reinterpret_cast", "requires", "restrict", "return",
  "short", "signed", "sizeof", "static", "static_assert", "static_cast", "struct", "switch", "template", "this", "thread_local", "throw", "true",
  "try", "typedef", "typeid", "typename", "typeof", "union", "unsigned", "using", "virtual", "void", "volatile", "wchar_t", "while", "xor", "xor_eq",
  "begin", "end", "in", "out", "weights", "workspace", "pool", "parallel", "user", "thread", "ctx", "split", "main", "args",
  "ptrdiff_t", "size_t", "uintptr_t", "int8_t", "int16_t", "int32_t", "int64_t", "uint8_t", "uint16_t", "uint32_t", "uint64_t", "memcpy", "memset",
  "errno", "stdin", "stdout", "stderr", "signbit", "isnan", "isinf", "isfinite", "isnormal", "complex", "linux", "unix", "i386", "arm", "near", "far",
  "small", "sun", "vax", "mips", "sparc", "hpux", "interface", "fmaf", "fma", "fmodf", "fmod", "powf", "pow", "fabsf", "fabs", "sqrtf", "sqrt",
  "floorf", "floor", "ceilf", "ceil", "nearbyintf", "nearbyint", "truncf", "trunc", "expf", "exp", "logf", "log", "sinf", "sin", "cosf", "cos",
  "tanf", "tan", "asinf", "asin", "acosf", "acos", "atanf", "atan", "sinhf", "sinh", "coshf", "cosh", "tanhf", "tanh", "asinhf", "asinh", "acoshf",
  "acosh", "atanhf", "atanh", "erff", "erf"};

/* Vector types and functions, scalar functions and macros of the prelude. */
static bool prelude_name(const char *s) {
  if (s[0] == 'v' && digit(s[1])) {   /* v16f, v16f_add, v16_first */
    const char *c = s + 1;
    while (digit(*c)) c++;
    if (*c && strchr("fimu_", *c) && (!c[1] || c[1] == '_' || *c == '_')) return true;
  }
  static const char *const types[] = {"f32_", "f64_", "i8_", "i16_", "i32_", "i64_", "u8_", "u16_", "u32_", "u64_", "idx_", "may_", "part_", "end_of_", "weights_"};
  for (int i = 0; i < COUNTOF(types); i++) {
    if (!strncmp(s, types[i], strlen(types[i]))) return true;
  }
  for (const char *c = s; *c; c++) {
    if (lower(*c)) return false;
  }
  return strlen(s) > 1 || *s == 'I';   /* macros are in capitals */
}

bool c_identifier(const char *s) {
  if (!*s || digit(*s)) return false;
  if (s[0] == '_' && (s[1] == '_' || upper(s[1]))) return false;
  for (const char *c = s; *c; c++) {
    if (!word_char(*c)) return false;
    if (c[0] == '_' && c[1] == '_') return false;   /* reserved in C++ */
  }
  for (int i = 0; i < COUNTOF(taken); i++) {
    if (!strcmp(taken[i], s)) return false;
  }
  return !prelude_name(s);
}

char *c_sanitise(Arena *a, const char *s, const char *fallback) {
  Text t = {.a = a};
  for (const char *c = s ? s : ""; *c && t.n < 48; c++) {
    if (word_char(*c) && *c != '_') text_addn(&t, c, 1);
    else if (t.n && t.s[t.n - 1] != '_') text_add(&t, "_");
  }
  while (t.n && t.s[t.n - 1] == '_') t.s[--t.n] = 0;
  if (!t.n) return arena_strdup(a, fallback);
  if (digit(t.s[0])) return arena_printf(a, "%s_%s", fallback, t.s);
  return c_identifier(t.s) ? t.s : arena_printf(a, "%s_", t.s);
}

static bool equal_any_case(const char *a, const char *b) {
  for (; *a && *b; a++, b++) {
    if (to_upper(*a) != to_upper(*b)) return false;
  }
  return *a == *b;
}

static bool name_used(const char *const *names, int n, const char *s) {
  for (int i = 0; i < n; i++) {
    if (equal_any_case(names[i], s)) return true;
  }
  return false;
}

const char **c_member_names(Arena *a, const char *const *names, int n, const char *fallback) {
  const char **out = NEW_N(a, const char *, n + 1);
  for (int i = 0; i < n; i++) {
    const char *base = c_sanitise(a, names[i], fallback), *name = base;
    for (int k = 2; name_used(out, i, name); k++) name = arena_printf(a, "%s_%d", base, k);
    out[i] = name;
  }
  return out;
}

char *c_upper(Arena *a, const char *s) {
  char *out = arena_strdup(a, s);
  for (char *c = out; *c; c++) *c = to_upper(*c);
  return out;
}

char *c_comment(Arena *a, const char *s, int max) {
  Text t = {.a = a};
  text_add(&t, "");
  for (const char *c = s ? s : ""; *c; c++) {
    if ((int)t.n >= max) {
      text_add(&t, "...");
      break;
    }
    char last = t.n ? t.s[t.n - 1] : 0, x = *c;
    if (x < ' ' || x > '~') x = x > 0 && x < ' ' ? ' ' : '_';
    if (x == '\\') x = '/';
    if ((last == '*' && x == '/') || (last == '/' && x == '*') || (last == '?' && x == '?')) text_add(&t, " ");
    text_addn(&t, &x, 1);
  }
  /* What follows a comment's text is often its end. */
  if (t.n && t.s[t.n - 1] == '/') text_add(&t, " ");
  return t.s;
}

const char **c_var_names(Arena *a, const Kernel *k) {
  const char **out = NEW_N(a, const char *, k->vars.n + 1);
  VEC(const char *) renamed = {0};
  for (int i = 0; i < k->vars.n; i++) {
    out[i] = k->vars.at[i]->name;
    if (c_identifier(out[i])) continue;
    /* Unlike any other variable's own name and any new name so far. */
    const char *name = c_sanitise(a, out[i], "x");
    for (bool clash = true; clash;) {
      clash = false;
      for (int j = 0; j < k->vars.n && !clash; j++) clash = !strcmp(k->vars.at[j]->name, name);
      for (int j = 0; j < renamed.n && !clash; j++) clash = !strcmp(renamed.at[j], name);
      if (clash) name = arena_printf(a, "%s_", name);
    }
    out[i] = name;
    vec_push(a, &renamed, name);
  }
  return out;
}

const char *c_kernel_name(const CGen *g, const Kernel *k) {
  for (int i = 0; i < g->p->kernels.n; i++) {
    if (g->p->kernels.at[i] == k) return g->kernel_names[i];
  }
  return k->name;
}

void c_shape_text(Text *t, const Shape *s) {
  if (!s->rank) text_add(t, "scalar");
  for (int i = 0; i < s->rank; i++) text_addf(t, "%s%lld", i ? "x" : "", (long long)s->d[i].n);
}

void c_amount(Text *t, double x, const char *unit) {
  static const char *const prefix[] = {"", "k", "M", "G", "T"};
  int p = 0;
  for (; x >= 999.5 && p < 4; p++) x /= 1000;
  int tenths = (int)(x * 10 + 0.5);   /* integers: the locale must not show */
  if (*unit == ' ' && !p) unit++;
  if (tenths >= 1000 || tenths % 10 == 0) text_addf(t, "%d %s%s", (tenths + 5) / 10, prefix[p], unit);
  else text_addf(t, "%d.%d %s%s", tenths / 10, tenths % 10, prefix[p], unit);
}

const char *c_type(DType t) {
  if (t == DT_IDX) return "ptrdiff_t";
  switch (t) {
  case SPINEC_F32: return "float";
  case SPINEC_F64: return "double";
  case SPINEC_I8: return "int8_t";
  case SPINEC_I16: return "int16_t";
  case SPINEC_I32: return "int32_t";
  case SPINEC_I64: return "int64_t";
  case SPINEC_U8:
  case SPINEC_BOOL: return "uint8_t";
  case SPINEC_U16:
  case SPINEC_F16:
  case SPINEC_BF16: return "uint16_t";
  case SPINEC_U32: return "uint32_t";
  case SPINEC_U64: return "uint64_t";
  case SPINEC_UNDEFINED:
  case SPINEC_STRING: break;
  }
  return "unsigned char";
}

int64_t port_count(const Port *p) { return shape_count(&p->shape); }
