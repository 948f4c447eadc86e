/* ir/base.h: what every part of the compiler stands on. Depends on libc and the public header's enums only.
 *
 * Sections, one per file:  arena.c · diag.c · types.c (element types, dims, shapes) · target (struct only; the table is backend/target.c)
 *
 * Memory: one arena per object with a life of its own (a model, a program); passes use mark/release for scratch. arena_alloc never
 * returns NULL: when memory runs out it leaves through the arena's Fail, which the API function on the stack below has armed.
 */
#ifndef IR_BASE_H
#define IR_BASE_H

#include "../include/spinec.h"
#include <setjmp.h>
#include <stdarg.h>

#if defined(__GNUC__)
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define NORETURN __attribute__((noreturn))
#else
#define PRINTF_LIKE(fmt, args)
#define NORETURN
#endif

#define MAX_RANK SPINEC_MAX_RANK
#define COUNTOF(a) ((int)(sizeof(a) / sizeof((a)[0])))
#define MINI(a, b) ((a) < (b) ? (a) : (b))
#define MAXI(a, b) ((a) > (b) ? (a) : (b))

/* ---- diag.c: messages as values --------------------------------------------------------------------------------------------- */

typedef spinec_status Status;
typedef struct spinec_diagnostics Diag;

/* Where in the user's model; any field may be NULL / 0. */
typedef struct Where {
  const char *file, *node, *op;
  int opset;
} Where;

/* Adds "file: node 'n' (Op, opset k): message; hint: ...". hint may be NULL. Returns `status`, so that callers can `return diag_error(...)`.
 * Never fails: when memory runs out the message is dropped and only the status remains. d may be NULL. */
Status diag_error(Diag *d, Status status, const Where *w, const char *hint, const char *fmt, ...) PRINTF_LIKE(5, 6);
/* Remembers that graph input `name` must be bound at compile time (spinec_load_options.bind). position: among the inputs a caller feeds, those
 * with an initializer not counted. Duplicates are dropped. */
void diag_unbound_input(Diag *d, const char *name, int position);
int diag_errors(const Diag *d);          /* number of messages */
Status diag_status(const Diag *d);       /* the first error's status, SPINEC_OK if none */

/* Non-local exit to the API boundary: out of memory and our own mistakes only; user errors are returned.
 *   Fail f; if (FAIL_ARM(&f, diag)) { ... body ... } else status = f.status; */
typedef struct Fail {
  jmp_buf env;
  Diag *diag;
  Status status;
} Fail;
#define FAIL_ARM(f, d) ((f)->diag = (d), (f)->status = SPINEC_OK, setjmp((f)->env) == 0)
NORETURN void fail_out_of_memory(Fail *f);

/* ---- arena.c ---------------------------------------------------------------------------------------------------------------- */

typedef struct Arena Arena;
typedef struct ArenaMark { void *chunk; size_t used; void *cleanups; } ArenaMark;

Arena *arena_new(Fail *fail);            /* NULL when out of memory and fail is NULL; else leaves through fail */
void arena_free(Arena *a);               /* runs the cleanups, newest first; NULL is fine */
void arena_set_fail(Arena *a, Fail *fail);  /* each API call arms its own */
Fail *arena_fail(const Arena *a);
void *arena_alloc(Arena *a, size_t bytes);                       /* zeroed, 16-byte aligned */
void *arena_alloc_array(Arena *a, size_t count, size_t size);    /* checked product */
void *arena_grow(Arena *a, const void *old, size_t old_bytes, size_t new_bytes);  /* a larger copy; the old stays until release */
char *arena_strdup(Arena *a, const char *s);
char *arena_strndup(Arena *a, const char *s, size_t n);
char *arena_printf(Arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
char *arena_vprintf(Arena *a, const char *fmt, va_list args);
void arena_on_free(Arena *a, void (*fn)(void *), void *arg);     /* cleanup for what is not arena memory; run at free or release,
                                                                    or at once when the record of it finds no memory */
ArenaMark arena_mark(Arena *a);
void arena_release(Arena *a, ArenaMark m);
size_t arena_bytes(const Arena *a);      /* taken from the system */

#define NEW(a, T) ((T *)arena_alloc((a), sizeof(T)))
#define NEW_N(a, T, n) ((T *)arena_alloc_array((a), (size_t)(n), sizeof(T)))

/* A growing array in an arena: VEC(Node *) v = {0}; vec_push(a, &v, n); v.at[i], v.n. */
#define VEC(T) struct { T *at; int n, cap; }
#define vec_push(a, v, x)                                                                                                              \
  do {                                                                                                                                  \
    if ((v)->n == (v)->cap) {                                                                                                          \
      int vec_cap_ = (v)->cap ? 2 * (v)->cap : 8;                                                                                      \
      (v)->at = arena_grow((a), (v)->at, (size_t)(v)->cap * sizeof *(v)->at, (size_t)vec_cap_ * sizeof *(v)->at);                        \
      (v)->cap = vec_cap_;                                                                                                             \
    }                                                                                                                                  \
    (v)->at[(v)->n++] = (x);                                                                                                           \
  } while (0)

/* A growing text in an arena, NUL-terminated at all times after the first append. */
typedef struct Text { Arena *a; char *s; size_t n, cap; } Text;
void text_addf(Text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
void text_add(Text *t, const char *s);
void text_addn(Text *t, const char *s, size_t n);
/* The shortest decimal that reads back as the same number; inf, -inf, nan. digits: 9 for f32, 17 for f64. */
void text_add_number(Text *t, double x, int digits);

/* A map from texts to ints (names.c); texts are borrowed. Names n = {.a = arena}. */
typedef struct Names { Arena *a; struct NameSlot *slot; int n, cap; } Names;
bool names_find(const Names *m, const char *s, size_t len, int *out);   /* out may be NULL */
void names_put(Names *m, const char *s, size_t len, int x);             /* replaces */

/* ---- types.c: element types, dimensions, shapes ------------------------------------------------------------------------------ */

typedef spinec_dtype DType;
/* Macros, not a second enum: comparing two enums warns, and -Wswitch-enum wants the type's own. */
#define DT_NONE SPINEC_UNDEFINED
#define DT_F32 SPINEC_F32
#define DT_U8 SPINEC_U8
#define DT_I8 SPINEC_I8
#define DT_U16 SPINEC_U16
#define DT_I16 SPINEC_I16
#define DT_I32 SPINEC_I32
#define DT_I64 SPINEC_I64
#define DT_STRING SPINEC_STRING
#define DT_BOOL SPINEC_BOOL
#define DT_F16 SPINEC_F16
#define DT_F64 SPINEC_F64
#define DT_U32 SPINEC_U32
#define DT_U64 SPINEC_U64
#define DT_BF16 SPINEC_BF16
#define dt_size(t) spinec_dtype_size(t)
#define dt_name(t) spinec_dtype_name(t)   /* bool is one byte, 0 or 1 */
bool dt_parse(const char *name, size_t n, DType *out);
bool dt_is_float(DType t);
bool dt_is_int(DType t);      /* signed or unsigned; not bool */
bool dt_is_signed(DType t);   /* floats too */
int dt_bits(DType t);
bool dt_computable(DType t);  /* kernels exist for it: f32 f64, all integers, bool */

/* A dimension: a constant (sym == NULL), or a named symbol of which n is the upper bound. Binding replaces symbols by constants at import. */
typedef struct Dim { int64_t n; const char *sym; } Dim;
typedef struct Shape { int rank; Dim d[MAX_RANK]; } Shape;

static inline Dim dim_of(int64_t n) { return (Dim){n, NULL}; }
Shape shape_of(int rank, const int64_t *dims);
bool shape_is_static(const Shape *s);
bool shape_equal(const Shape *a, const Shape *b);
/* Product of the dims (upper bounds), 1 for rank 0; INT64_MAX when it would overflow. */
int64_t shape_count(const Shape *s);
int64_t shape_count_from(const Shape *s, int axis);        /* product of dims axis.. */
int64_t shape_count_to(const Shape *s, int axis);          /* product of dims 0..axis-1 */
/* Row-major element strides. */
void shape_strides(const Shape *s, int64_t strides[MAX_RANK]);
/* ONNX multidirectional broadcasting; false if they do not fit. */
bool shape_broadcast(const Shape *a, const Shape *b, Shape *out);
/* Negative axes count from the back; false if out of range. */
bool axis_normalise(int64_t axis, int rank, int *out);

typedef struct Ints { const int64_t *v; int n; } Ints;
typedef struct Floats { const double *v; int n; } Floats;
Ints ints_copy(Arena *a, const int64_t *v, int n);
Ints ints_fill(Arena *a, int64_t x, int n);
bool ints_equal(Ints a, Ints b);
Floats floats_copy(Arena *a, const double *v, int n);

/* Reads element i of dense data as a double / int64 (floats truncate and saturate; out of line for all dtypes but strings). */
double data_get_f(const void *data, DType t, int64_t i);
int64_t data_get_i(const void *data, DType t, int64_t i);
void data_set_f(void *data, DType t, int64_t i, double x);
void data_set_i(void *data, DType t, int64_t i, int64_t x);

/* ---- target: one row of backend/target.c -------------------------------------------------------------------------------------- */

typedef enum { ARCH_GENERIC, ARCH_X86_64, ARCH_AARCH64, ARCH_ARM } Arch;

typedef struct Target {
  const char *name, *summary;
  const char *triple, *cpu, *features;  /* LLVM's; "" for generic */
  const char *cflags;                   /* for gcc and clang, e.g. "-march=haswell" */
  Arch arch;
  int lanes;          /* f32 per vector: 4, 8, 16 */
  int vregs;          /* architectural vector registers */
  bool fma;           /* fused multiply-add in hardware */
  bool masks;         /* cheap masked loads and stores */
  bool dot8;          /* int8 dot product */
  bool fp16, bf16;    /* arithmetic */
  int pointer_bits;
  int64_t l1, l2, l3; /* data caches in bytes, l3 per core's share */
} Target;

#endif
