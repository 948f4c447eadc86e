/* prelude.c: the operations that kernels use, printed from the templates in prelude/.
 *
 * A template is a list of sections. A section starts with a mark and runs to the next one:
 *
 *     //@ vN$1_load ; f float ; i int32_t          key, then alternatives separated by ';'; in key and text $1 $2 ... stand for the
 *     INLINE vN$1 vN$1_load(const $2 *p) ...       words of one alternative (`back quotes` hold words with spaces)
 *     //@ vNf_reduce_$1 N=4 ; add + ; mul *        for N lanes only; comes before the section for all others
 *
 * In vector templates N and H are the lanes and half of them, vN... and vH... types and functions of that many lanes, LANES(x) is x for
 * $i = 0 .. N-1 with commas between, HALF(x) the same for H. In scalar.h keys are "class operation"; T, U, S are types (see there).
 *
 * Identifiers in a section's text that are names of sections are what it depends on. Only what is used is printed, after what it
 * depends on, and for every width once for plain C, once for gcc and clang, and there once per instruction set that has a template.
 */
#include "c_backend.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct spinec_prelude { const char *name, *text; };
extern const struct spinec_prelude spinec_preludes[];

typedef struct Section {
  const char *key;       /* alternatives filled in */
  int only_lanes;        /* 0: any */
  const char *text;
  size_t size;
  const char **words;    /* of its alternative */
  int nwords;
} Section;

typedef struct Template { VEC(Section) at; } Template;

typedef struct Isa { const char *file, *cond, *include, *what; int lanes; } Isa;
static const Isa isas[] = {
  {"vector_avx512.h", "defined(__AVX512F__)", "immintrin.h", "AVX-512", 16},
  {"vector_avx2.h", "defined(__AVX2__) && defined(__FMA__)", "immintrin.h", "AVX2 and FMA", 8},
  {"vector_sse.h", "defined(__SSE4_1__)", "immintrin.h", "SSE4.1", 4},
  {"vector_neon.h", "defined(__ARM_NEON) && !defined(__ARM_BIG_ENDIAN)", "arm_neon.h", "NEON", 4},
};
enum { ISAS = COUNTOF(isas), BRANCHES = ISAS + 1 };   /* the last branch: GNU C without any of them */

typedef struct Shuffle { Type result; int from; bool two; const uint8_t *lanes; const char *name; } Shuffle;

/* One printed piece: a section for a width, or a scalar section for a type. */
typedef struct Piece {
  const char *name;      /* "v16f_add", "i8_add", "INLINE" */
  const Section *s;
  const char *text;      /* expanded */
  bool common;           /* vectors, GNU C: the same in every branch */
} Piece;
typedef VEC(Piece) Pieces;

typedef struct Words { VEC(const char *) at; Names set; } Words;   /* a set, in order of arrival */

struct Needs {
  Arena *a;
  Words names;
  Words libc;            /* words that decide on #include lines */
  VEC(Shuffle) shuffles;
  Template scalar, gnu, plain, isa[ISAS];
  Pieces scalars, plain_scalars;   /* the second: only plain C needs them */
  Pieces plain_pieces[MAX_LANES + 1], gnu_pieces[MAX_LANES + 1][BRANCHES];
};

/* ---- reading templates ---- */

static bool word_char(char c) { return isalnum((unsigned char)c) || c == '_'; }

static const char *line_end(const char *s) {
  const char *e = strchr(s, '\n');
  return e ? e : s + strlen(s);
}

/* The next word before end, or NULL. */
static const char *take_word(Arena *a, const char **s, const char *end) {
  while (*s < end && **s == ' ') ++*s;
  if (*s >= end || **s == ';') return NULL;
  char stop = ' ';
  if (**s == '`') stop = *(*s)++;
  const char *from = *s;
  while (*s < end && **s != stop) ++*s;
  const char *word = arena_strndup(a, from, (size_t)(*s - from));
  if (stop == '`' && *s < end) ++*s;
  return word;
}

/* Copies s, replacing $1 .. $9 by words. */
static void fill_words(Text *t, const char *s, size_t n, const char *const *words, int nwords) {
  for (size_t i = 0; i < n; i++) {
    int w = s[i] == '$' && i + 1 < n && s[i + 1] >= '1' && s[i + 1] <= '9' ? s[i + 1] - '1' : -1;
    if (w >= 0 && w < nwords) {
      text_add(t, words[w]);
      i++;
    } else {
      text_addn(t, s + i, 1);
    }
  }
}

/* The key runs to " N=" or ';'; keys of scalar sections have two words. */
static const char *take_key(Arena *a, const char **s, const char *end, int *only_lanes) {
  Text key = {.a = a};
  const char *w;
  *only_lanes = 0;
  while ((w = take_word(a, s, end))) {
    if (!strncmp(w, "N=", 2)) {
      *only_lanes = atoi(w + 2);
      continue;
    }
    if (key.n) text_add(&key, " ");
    text_add(&key, w);
  }
  return key.n ? key.s : "";
}

static void add_section(Arena *a, Template *t, const char *pattern, int only_lanes, const char *text, size_t size, const char **words, int nwords) {
  Text key = {.a = a};
  fill_words(&key, pattern, strlen(pattern), words, nwords);
  Section s = {.key = key.s, .only_lanes = only_lanes, .text = text, .size = size, .words = words, .nwords = nwords};
  vec_push(a, &t->at, s);
}

static void read_section(Arena *a, Template *t, const char *mark, const char *text, size_t size) {
  const char *end = line_end(mark);
  int only;
  const char *pattern = take_key(a, &mark, end, &only);
  if (mark >= end) {
    add_section(a, t, pattern, only, text, size, NULL, 0);
    return;
  }
  while (mark < end) {
    mark++;   /* ; */
    VEC(const char *) words = {0};
    const char *w;
    while ((w = take_word(a, &mark, end))) vec_push(a, &words, w);
    add_section(a, t, pattern, only, text, size, words.at, words.n);
  }
}

static void read_template(Arena *a, Template *t, const char *name) {
  const char *s = NULL;
  for (const struct spinec_prelude *p = spinec_preludes; p->name; p++) {
    if (!strcmp(p->name, name)) s = p->text;
  }
  if (!s) return;
  s = strstr(s, "\n//@ ");
  while (s) {
    const char *mark = s + 5, *text = line_end(mark), *next = strstr(text, "\n//@ ");
    if (*text) text++;
    size_t size = next ? (size_t)(next + 1 - text) : strlen(text);
    read_section(a, t, mark, text, size);
    s = next;
  }
}

/* ---- needs ---- */

static bool words_has(const Words *w, const char *s) { return names_find(&w->set, s, strlen(s), NULL); }

static void words_add(Arena *a, Words *w, const char *s) {
  if (words_has(w, s)) return;
  char *copy = arena_strdup(a, s);
  w->set.a = a;
  names_put(&w->set, copy, strlen(copy), w->at.n);
  vec_push(a, &w->at, copy);
}

Needs *needs_new(Arena *a) {
  Needs *n = NEW(a, Needs);
  n->a = a;
  read_template(a, &n->scalar, "scalar.h");
  read_template(a, &n->gnu, "vector_gnu.h");
  read_template(a, &n->plain, "vector_plain.h");
  for (int i = 0; i < ISAS; i++) read_template(a, &n->isa[i], isas[i].file);
  return n;
}

void need(Needs *n, const char *name) { words_add(n->a, &n->names, name); }

static const char *vector_letter(DType t) { return t == DT_F32 ? "f" : t == DT_I32 ? "i" : "m"; }

static const char *vector_name(Arena *a, int lanes, DType t, const char *op) {
  return arena_printf(a, "v%d%s%s%s", lanes, vector_letter(t), *op ? "_" : "", op);
}

const char *need_shuffle(Needs *n, Type result, int from, bool two, const uint8_t *lanes) {
  int same = 0;
  for (int i = 0; i < n->shuffles.n; i++) {
    const Shuffle *s = &n->shuffles.at[i];
    if (!type_equal(s->result, result) || s->from != from || s->two != two) continue;
    if (!memcmp(s->lanes, lanes, (size_t)result.lanes)) return s->name;
    same++;
  }
  /* Names differ in all that may be equal otherwise: v8f_pick0 makes 8 lanes; from 16 it is v8f_pick_16_0, with two operands v8f_mix0. */
  const char *what = two ? "mix" : "pick";
  const char *op = from == result.lanes ? arena_printf(n->a, "%s%d", what, same) : arena_printf(n->a, "%s_%d_%d", what, from, same);
  Shuffle s = {result, from, two, lanes, vector_name(n->a, result.lanes, result.dt, op)};
  vec_push(n->a, &n->shuffles, s);
  need(n, vector_name(n->a, result.lanes, result.dt, ""));
  need(n, vector_name(n->a, from, result.dt, ""));
  need(n, "INLINE");
  if (result.dt == DT_BOOL) {
    need(n, vector_name(n->a, from, DT_I32, "from_m"));
    need(n, vector_name(n->a, result.lanes, DT_BOOL, "from_i"));
  }
  return s.name;
}

/* ---- expanding a section ---- */

typedef struct ScalarType { const char *name, *ctype, *unsigned_type, *min, *max, *bits; bool is_signed, is_float; } ScalarType;
static const ScalarType scalar_types[] = {
  {"f32", "float", "", "", "", "32", true, true},
  {"f64", "double", "", "", "", "64", true, true},
  {"i8", "int8_t", "uint32_t", "INT8_MIN", "INT8_MAX", "8", true, false},
  {"i16", "int16_t", "uint32_t", "INT16_MIN", "INT16_MAX", "16", true, false},
  {"i32", "int32_t", "uint32_t", "INT32_MIN", "INT32_MAX", "32", true, false},
  {"i64", "int64_t", "uint64_t", "INT64_MIN", "INT64_MAX", "64", true, false},
  {"u8", "uint8_t", "uint32_t", "0", "UINT8_MAX", "8", false, false},
  {"u16", "uint16_t", "uint32_t", "0", "UINT16_MAX", "16", false, false},
  {"u32", "uint32_t", "uint32_t", "0", "UINT32_MAX", "32", false, false},
  {"u64", "uint64_t", "uint64_t", "0", "UINT64_MAX", "64", false, false},
  {"idx", "ptrdiff_t", "size_t", "PTRDIFF_MIN", "PTRDIFF_MAX", "(8 * sizeof(size_t))", true, false},
};

static const ScalarType *scalar_type(const char *name, size_t n) {
  for (int i = 0; i < COUNTOF(scalar_types); i++) {
    if (strlen(scalar_types[i].name) == n && !strncmp(scalar_types[i].name, name, n)) return &scalar_types[i];
  }
  return NULL;
}

/* What one word of a template becomes. lanes: of the vectors, or 0; t, s: scalar types or NULL. */
static void expand_word(Text *out, const char *w, size_t n, int lanes, const ScalarType *t, const ScalarType *s) {
  if (lanes) {
    if (n == 1 && *w == 'N') text_addf(out, "%d", lanes);
    else if (n == 1 && *w == 'H') text_addf(out, "%d", lanes / 2);
    else if (n > 2 && w[0] == 'v' && w[1] == 'N') text_addf(out, "v%d%.*s", lanes, (int)n - 2, w + 2);
    else if (n > 2 && w[0] == 'v' && w[1] == 'H') text_addf(out, "v%d%.*s", lanes / 2, (int)n - 2, w + 2);
    else text_addn(out, w, n);
    return;
  }
  if (!t) text_addn(out, w, n);
  else if (n == 1 && *w == 'T') text_add(out, t->ctype);
  else if (n == 1 && *w == 'U') text_add(out, t->unsigned_type);
  else if (n == 1 && *w == 'S' && s) text_add(out, s->ctype);
  else if (n == 4 && !strncmp(w, "TMIN", 4)) text_add(out, t->min);
  else if (n == 4 && !strncmp(w, "TMAX", 4)) text_add(out, t->max);
  else if (n == 4 && !strncmp(w, "BITS", 4)) text_add(out, t->bits);
  else if (n > 2 && w[0] == 'T' && w[1] == '_') {
    bool second = s && w[n - 2] == '_' && w[n - 1] == 'S';
    text_addf(out, "%s%.*s%s", t->name, (int)n - 1 - (second ? 1 : 0), w + 1, second ? s->name : "");
  } else {
    text_addn(out, w, n);
  }
}

static void expand(Text *out, const char *s, size_t n, int lanes, const ScalarType *t, const ScalarType *from, int lane);

/* LANES(x), HALF(x): s is behind the parenthesis; gives the length up to and with the closing one. */
static size_t expand_lanes(Text *out, const char *s, size_t n, int lanes, int count) {
  size_t end = 0;
  for (int open = 1; end < n; end++) {
    if (s[end] == '(') open++;
    if (s[end] == ')' && --open == 0) break;
  }
  for (int i = 0; i < count; i++) {
    if (i) text_add(out, ", ");
    expand(out, s, end, lanes, NULL, NULL, i);
  }
  return end + 1;
}

static void expand(Text *out, const char *s, size_t n, int lanes, const ScalarType *t, const ScalarType *from, int lane) {
  for (size_t i = 0; i < n;) {
    if (s[i] == '$' && i + 1 < n && s[i + 1] == 'i') {
      text_addf(out, "%d", lane);
      i += 2;
    } else if (word_char(s[i])) {
      size_t e = i;
      while (e < n && word_char(s[e])) e++;
      bool all = e - i == 5 && !strncmp(s + i, "LANES", 5), half = e - i == 4 && !strncmp(s + i, "HALF", 4);
      if (lanes && (all || half) && e < n && s[e] == '(') {
        i = e + 1 + expand_lanes(out, s + e + 1, n - e - 1, lanes, all ? lanes : lanes / 2);
      } else {
        expand_word(out, s + i, e - i, lanes, t, from);
        i = e;
      }
    } else {
      text_addn(out, s + i++, 1);
    }
  }
}

static const char *section_text(Arena *a, const Section *s, int lanes, const ScalarType *t, const ScalarType *from) {
  Text filled = {.a = a}, out = {.a = a};
  fill_words(&filled, s->text, s->size, s->words, s->nwords);
  expand(&out, filled.s ? filled.s : "", filled.n, lanes, t, from, 0);
  return out.s ? out.s : "";
}

/* ---- finding sections ---- */

/* "v16f_add": 16 and "f_add". 0 if it is not a vector name. */
static int vector_split(const char *name, const char **rest) {
  if (name[0] != 'v' || !isdigit((unsigned char)name[1])) return 0;
  char *end;
  long n = strtol(name + 1, &end, 10);
  *rest = end;
  return n >= 2 && n <= MAX_LANES && *end ? (int)n : 0;
}

static const Section *find_vector(const Template *t, const char *name) {
  const char *rest;
  int lanes = vector_split(name, &rest);
  for (int i = 0; lanes && i < t->at.n; i++) {
    const Section *s = &t->at.at[i];
    if (!strncmp(s->key, "vN", 2) && !strcmp(s->key + 2, rest) && (!s->only_lanes || s->only_lanes == lanes)) return s;
  }
  return NULL;
}

/* The section of a name in GNU C with instruction set `branch`: its own, else the general one. */
static const Section *find_branch(const Needs *n, int branch, const char *name) {
  const Section *s = branch < ISAS ? find_vector(&n->isa[branch], name) : NULL;
  return s ? s : find_vector(&n->gnu, name);
}

static bool class_has(const char *cls, size_t n, const ScalarType *t) {
  if (n == 3 && !strncmp(cls, "any", 3)) return true;
  if (n == 3 && !strncmp(cls, "int", 3)) return !t->is_float;
  if (n == 6 && !strncmp(cls, "signed", 6)) return !t->is_float && t->is_signed;
  if (n == 8 && !strncmp(cls, "unsigned", 8)) return !t->is_float && !t->is_signed;
  return strlen(t->name) == n && !strncmp(cls, t->name, n);
}

/* "i8_from_f32" and the like; macros by their whole name. */
static const Section *find_scalar(const Needs *n, const char *name, const ScalarType **t, const ScalarType **from) {
  const char *bar = strchr(name, '_'), *op = bar ? bar + 1 : name;
  *t = bar ? scalar_type(name, (size_t)(bar - name)) : NULL;
  *from = NULL;
  size_t op_len = strlen(op);
  const char *second = strchr(op, '_');
  if (*t && second) {
    *from = scalar_type(second + 1, strlen(second + 1));
    op_len = (size_t)(second - op);
  }
  for (int i = 0; i < n->scalar.at.n; i++) {
    const Section *s = &n->scalar.at.at[i];
    const char *space = strchr(s->key, ' ');
    if (!space && !strcmp(s->key, name)) return s;
    if (space && *t && class_has(s->key, (size_t)(space - s->key), *t) && strlen(space + 1) == op_len && !strncmp(space + 1, op, op_len)) return s;
  }
  return NULL;
}

bool need_op(Needs *n, const char *name) {
  if (words_has(&n->names, name)) return true;
  const ScalarType *t, *from;
  const char *rest;
  if (vector_split(name, &rest) ? !find_vector(&n->gnu, name) : !find_scalar(n, name, &t, &from)) return false;
  need(n, name);
  return true;
}

/* ---- resolving ---- */

static const char *const libc_words[] = {
  "memcpy", "bool", "true", "false", "INFINITY", "NAN", "fmaf", "fma", "fmodf", "fmod", "powf", "pow", "fabsf", "fabs", "sqrtf", "sqrt", "floorf",
  "floor", "ceilf", "ceil", "nearbyintf", "nearbyint", "truncf", "trunc", "expf", "exp", "logf", "log", "sinf", "sin", "cosf", "cos", "tanf", "tan",
  "asinf", "asin", "acosf", "acos", "atanf", "atan", "sinhf", "sinh", "coshf", "cosh", "tanhf", "tanh", "asinhf", "asinh", "acoshf", "acosh",
  "atanhf", "atanh", "erff", "erf"};

static bool is_libc_word(const char *s) {
  for (int i = 0; i < COUNTOF(libc_words); i++) {
    if (!strcmp(libc_words[i], s)) return true;
  }
  return false;
}

/* The next identifier of the text, comments left out; NULL at the end. */
static const char *next_identifier(Arena *a, const char **s) {
  for (;;) {
    while (**s && !word_char(**s)) {
      const char *close = (*s)[0] == '/' && (*s)[1] == '*' ? strstr(*s, "*/") : NULL;
      *s = close ? close + 2 : *s + 1;
    }
    if (!**s) return NULL;
    const char *from = *s;
    while (word_char(**s)) ++*s;
    if (!isdigit((unsigned char)*from)) return arena_strndup(a, from, (size_t)(*s - from));
  }
}

static bool pieces_have(const Pieces *p, const char *name) {
  for (int i = 0; i < p->n; i++) {
    if (!strcmp(p->at[i].name, name)) return true;
  }
  return false;
}

static void add_scalar(Needs *n, Pieces *list, const char *name) {
  const ScalarType *t, *from;
  if (is_libc_word(name)) words_add(n->a, &n->libc, name);
  if (pieces_have(&n->scalars, name) || pieces_have(list, name)) return;
  const Section *s = find_scalar(n, name, &t, &from);
  if (!s) return;
  Piece p = {.name = name, .s = s, .text = section_text(n->a, s, 0, t, from)};
  const char *at = p.text, *w;
  while ((w = next_identifier(n->a, &at))) {
    if (strcmp(w, name)) add_scalar(n, list, w);
  }
  vec_push(n->a, list, p);
}

/* Adds a vector piece after what it depends on. branch -1: plain C. Pieces of other widths and scalars are left to their own lists. */
static void add_vector(Needs *n, Pieces *list, int branch, int lanes, const char *name) {
  const Section *s = branch < 0 ? find_vector(&n->plain, name) : find_branch(n, branch, name);
  if (!s || pieces_have(list, name)) return;
  Piece p = {.name = name, .s = s, .text = section_text(n->a, s, lanes, NULL, NULL)};
  const char *at = p.text, *w, *rest;
  while ((w = next_identifier(n->a, &at))) {
    if (!strcmp(w, name)) continue;
    int other = vector_split(w, &rest);
    if (other == lanes) add_vector(n, list, branch, lanes, w);
    else need(n, w);
  }
  if (!pieces_have(list, name)) vec_push(n->a, list, p);
}

/* A piece is common if no branch has its own version of it or of anything it depends on. */
static bool is_common(Needs *n, Pieces *lists, int lanes, Piece *p) {
  for (int b = 0; b < ISAS; b++) {
    if (isas[b].lanes == lanes && find_vector(&n->isa[b], p->name)) return false;
  }
  const char *at = p->text, *w, *rest;
  while ((w = next_identifier(n->a, &at))) {
    if (vector_split(w, &rest) != lanes || !strcmp(w, p->name)) continue;
    for (int i = 0; i < lists[ISAS].n; i++) {
      if (!strcmp(lists[ISAS].at[i].name, w) && !lists[ISAS].at[i].common) return false;
    }
  }
  return true;
}

static void mark_common(Needs *n, int lanes) {
  Pieces *lists = n->gnu_pieces[lanes];
  for (int i = 0; i < lists[ISAS].n; i++) {   /* in order: what a piece depends on is marked before it */
    Piece *p = &lists[ISAS].at[i];
    p->common = is_common(n, lists, lanes, p);
    for (int b = 0; b < ISAS; b++) {
      for (int j = 0; p->common && j < lists[b].n; j++) {
        if (!strcmp(lists[b].at[j].name, p->name)) lists[b].at[j].common = true;
      }
    }
  }
}

/* Order of printing within a width follows the general template, not the order of use. */
static int template_order(const Needs *n, const char *name) {
  const Section *s = find_vector(&n->gnu, name);
  return s ? (int)(s - n->gnu.at.at) : -1;
}

typedef VEC(const char *) NameList;

static NameList names_of_width(Needs *n, int lanes) {
  NameList names = {0};
  const char *rest;
  for (int i = 0; i < n->names.at.n; i++) {
    if (vector_split(n->names.at.at[i], &rest) == lanes) vec_push(n->a, &names, n->names.at.at[i]);
  }
  for (int i = 1; i < names.n; i++) {
    const char *w = names.at[i];
    int j = i;
    for (; j > 0 && template_order(n, names.at[j - 1]) > template_order(n, w); j--) names.at[j] = names.at[j - 1];
    names.at[j] = w;
  }
  return names;
}

static void resolve_gnu(Needs *n, int lanes) {
  NameList names = names_of_width(n, lanes);
  for (int i = 0; i < names.n; i++) {
    for (int b = 0; b < BRANCHES; b++) {
      if (b == ISAS || isas[b].lanes == lanes) add_vector(n, &n->gnu_pieces[lanes][b], b, lanes, names.at[i]);
    }
  }
  mark_common(n, lanes);
}

/* asked: how many of the names the kernels need themselves; the rest came with the vectors of GNU C. */
static void resolve_plain(Needs *n, int lanes, int asked) {
  NameList names = names_of_width(n, lanes);
  for (int i = 0; i < names.n; i++) {
    int at;
    if (names_find(&n->names.set, names.at[i], strlen(names.at[i]), &at) && at < asked) add_vector(n, &n->plain_pieces[lanes], -1, lanes, names.at[i]);
  }
}

static int by_scalar_order(const void *l, const void *r) {
  const Piece *a = l, *b = r;
  if (a->s != b->s) return a->s < b->s ? -1 : 1;
  return strcmp(a->name, b->name);
}

static void resolve_scalars(Needs *n, Pieces *list) {
  const char *rest;
  for (int i = 0; i < n->names.at.n; i++) {
    if (!vector_split(n->names.at.at[i], &rest)) add_scalar(n, list, n->names.at.at[i]);
  }
  /* scalar.h is in an order in which nothing is used before it is there. */
  if (list->n) qsort(list->at, (size_t)list->n, sizeof list->at[0], by_scalar_order);
}

void prelude_resolve(CGen *g) {
  Needs *n = g->needs;
  int asked = n->names.at.n;
  for (int lanes = MAX_LANES; lanes > 1; lanes--) resolve_gnu(n, lanes);   /* wide ones may need narrower ones */
  resolve_scalars(n, &n->scalars);
  for (int lanes = MAX_LANES; lanes > 1; lanes--) resolve_plain(n, lanes, asked);
  resolve_scalars(n, &n->plain_scalars);
}

bool prelude_uses(const CGen *g, const char *name) { return words_has(&g->needs->libc, name) || pieces_have(&g->needs->scalars, name); }

int prelude_libc_words(const CGen *g) { return g->needs->libc.at.n; }

/* ---- printing ---- */

static void print_shuffle(const Needs *n, const Shuffle *s, bool plain, Text *t) {
  const char *result = vector_name(n->a, s->result.lanes, s->result.dt, ""), *from = vector_name(n->a, s->from, s->result.dt, "");
  text_addf(t, "INLINE %s %s(%s a%s%s) {", result, s->name, from, s->two ? ", " : "", s->two ? arena_printf(n->a, "%s b", from) : "");
  bool mask = s->result.dt == DT_BOOL;
  const char *r = mask ? vector_name(n->a, s->result.lanes, DT_I32, "") : result;
  if (mask) {
    const char *conv = vector_name(n->a, s->from, DT_I32, "from_m"), *vi = vector_name(n->a, s->from, DT_I32, "");
    text_addf(t, "\n  const %s x = %s(a)%s%s;\n ", vi, conv, s->two ? ", y = " : "", s->two ? arena_printf(n->a, "%s(b)", conv) : "");
  }
  text_addf(t, " const %s r = %s", r, plain ? "{{" : "{");
  for (int i = 0; i < s->result.lanes; i++) {
    int lane = s->lanes[i];
    bool second = lane >= s->from;
    text_addf(t, "%s%s%s[%d]", i ? ", " : "", second ? (mask ? "y" : "b") : mask ? "x" : "a", plain ? ".v" : "", second ? lane - s->from : lane);
  }
  text_add(t, plain ? "}}; " : "}; ");
  if (mask) text_addf(t, "\n  return %s(r);\n}\n", vector_name(n->a, s->result.lanes, DT_BOOL, "from_i"));
  else text_add(t, "return r; }\n");
}

static void print_pieces(const Pieces *p, bool common, Text *t) {
  for (int i = 0; i < p->n; i++) {
    if (p->at[i].common == common) text_add(t, p->at[i].text);
  }
}

static bool has_own(const Pieces *p) {
  for (int i = 0; i < p->n; i++) {
    if (!p->at[i].common) return true;
  }
  return false;
}

static void print_gnu_width(const Needs *n, int lanes, Text *t) {
  const Pieces *lists = n->gnu_pieces[lanes];
  if (!lists[ISAS].n) return;
  text_addf(t, "\n/* %d lanes */\n", lanes);
  print_pieces(&lists[ISAS], true, t);
  bool any = false;
  for (int b = 0; b < ISAS; b++) {
    if (!has_own(&lists[b])) continue;
    text_addf(t, "#%s %s /* %s */\n", any ? "elif" : "if", isas[b].cond, isas[b].what);
    print_pieces(&lists[b], false, t);
    any = true;
  }
  if (any) text_add(t, "#else\n");
  print_pieces(&lists[ISAS], false, t);
  if (any) text_add(t, "#endif\n");
}

static bool isa_used(const Needs *n, int isa) {
  for (int l = 0; l <= MAX_LANES; l++)
    if (has_own(&n->gnu_pieces[l][isa])) return true;
  return false;
}

static void print_isa_includes(const Needs *n, Text *t) {
  for (int b = 0; b < ISAS; b++) {
    bool done = false;
    for (int c = 0; c < b; c++) done = done || (isa_used(n, c) && !strcmp(isas[c].include, isas[b].include));
    if (done || !isa_used(n, b)) continue;
    bool arm = !strcmp(isas[b].include, "arm_neon.h");
    text_addf(t, "#if %s\n#include <%s>\n#endif\n", arm ? "defined(__ARM_NEON)" : "defined(__x86_64__) || defined(__i386__)", isas[b].include);
  }
}

static bool is_macro(const Piece *p) { return !strchr(p->s->key, ' '); }

static void print_scalars(const Needs *n, Text *t) {
  bool functions = false;
  if (n->scalars.n) text_add(t, "\n");
  for (int i = 0; i < n->scalars.n; i++) {
    const Piece *p = &n->scalars.at[i];
    if (!is_macro(p) && !functions) {
      text_add(t, "\n/* ---- scalars ---- */\n\n");
      functions = true;
    }
    text_add(t, p->text);
  }
}

void prelude_print(CGen *g, Text *t) {
  const Needs *n = g->needs;
  print_scalars(n, t);
  bool vectors = false;
  for (int l = 2; l <= MAX_LANES; l++) vectors = vectors || n->plain_pieces[l].n;
  if (!vectors) return;
  text_addf(t,
            "\n/* ---- vectors: v16f is 16 floats, v16i 16 int32_t, v16m a mask for either ----\n"
            " * -D%s_PLAIN_C takes the standard C version on any compiler. */\n\n"
            "#if defined(%s_PLAIN_C) || !defined(__GNUC__) || __FLT_EVAL_METHOD__ == 1 || __FLT_EVAL_METHOD__ == 2\n",
            g->upper, g->upper);
  if (n->plain_scalars.n) text_add(t, "\n");
  print_pieces(&n->plain_scalars, false, t);
  for (int l = 2; l <= MAX_LANES; l++) {
    if (n->plain_pieces[l].n) text_addf(t, "\n/* %d lanes */\n", l);
    print_pieces(&n->plain_pieces[l], false, t);
  }
  for (int i = 0; i < n->shuffles.n; i++) print_shuffle(n, &n->shuffles.at[i], true, t);
  text_add(t, "\n#else\n"
              "#pragma GCC diagnostic ignored \"-Wpsabi\" /* vectors wider than the machine's: none crosses a call, all is inlined */\n");
  print_isa_includes(n, t);
  for (int l = 2; l <= MAX_LANES; l++) print_gnu_width(n, l, t);
  for (int i = 0; i < n->shuffles.n; i++) print_shuffle(n, &n->shuffles.at[i], false, t);
  text_add(t, "\n#endif\n");
}

/* ---- text with the model's prefix ---- */

static void add_prefixed(const CGen *g, Text *t, const char *w, size_t n) {
  if (n < 6 || strncmp(w, "NAME_", 5)) {
    text_addn(t, w, n);
    return;
  }
  bool capitals = true;
  for (size_t i = 5; i < n; i++) capitals = capitals && !(w[i] >= 'a' && w[i] <= 'z');
  text_addf(t, "%s_%.*s", capitals ? g->upper : g->prefix, (int)n - 5, w + 5);
}

void prelude_section(CGen *g, const char *file, const char *key, Text *t) {
  Template all = {0};
  read_template(g->a, &all, file);
  for (int i = 0; i < all.at.n; i++) {
    const Section *s = &all.at.at[i];
    if (strcmp(s->key, key)) continue;
    for (size_t j = 0; j < s->size;) {
      size_t e = j;
      while (e < s->size && word_char(s->text[e])) e++;
      if (e > j) add_prefixed(g, t, s->text + j, e - j);
      else text_addn(t, s->text + e++, 1);
      j = e;
    }
  }
}
