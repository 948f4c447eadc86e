/* arena.c: memory that is given back all at once.
 *
 * Small requests are cut from chunks that grow from 32 KB to 1 MB; a request larger than a quarter of a chunk is a block of its own. Such
 * blocks and the user's cleanups share one list, newest first, so that freeing and releasing to a mark undo everything in reverse order.
 * Every byte handed out is zero. Under AddressSanitizer, what was released is poisoned until it is handed out again.
 */
#include "base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_POISON 1
#endif
#endif
#ifdef ARENA_POISON
#include <sanitizer/asan_interface.h>
#define POISON(p, n) __asan_poison_memory_region((p), (n))
#define UNPOISON(p, n) __asan_unpoison_memory_region((p), (n))
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

#define ALIGNMENT ((size_t)16)
#define CHUNK_MIN ((size_t)32 << 10)
#define CHUNK_MAX ((size_t)1 << 20)
#define ROUND_UP(n) (((n) + ALIGNMENT - 1) & ~(ALIGNMENT - 1))

typedef struct Chunk Chunk;
struct Chunk {
  Chunk *below;
  size_t size, used;   /* of the bytes after this header */
};

typedef struct Cleanup Cleanup;
struct Cleanup {
  Cleanup *next;
  void (*fn)(void *);  /* NULL: this record heads a large block, which is freed */
  void *arg;
  size_t size;         /* of the large block, header included */
};

struct Arena {
  Fail *fail;
  Chunk *top;
  Cleanup *cleanups;
  size_t taken, next_chunk;
};

static unsigned char *chunk_data(Chunk *c) { return (unsigned char *)c + ROUND_UP(sizeof(Chunk)); }

Arena *arena_new(Fail *fail) {
  Arena *a = malloc(sizeof *a);
  if (!a) {
    if (fail) fail_out_of_memory(fail);
    return NULL;
  }
  *a = (Arena){.fail = fail, .taken = sizeof *a, .next_chunk = CHUNK_MIN};
  return a;
}

void arena_set_fail(Arena *a, Fail *fail) { a->fail = fail; }
Fail *arena_fail(const Arena *a) { return a->fail; }
size_t arena_bytes(const Arena *a) { return a->taken; }

/* Without an armed Fail there is nowhere to go: a caller's mistake, and going on would be worse. */
NORETURN static void out_of_memory(Arena *a) {
  if (a->fail) fail_out_of_memory(a->fail);
  fputs("spinec: out of memory with no handler armed\n", stderr);
  abort();
}

static void run_cleanups(Arena *a, Cleanup *until) {
  while (a->cleanups != until) {
    Cleanup *c = a->cleanups;
    a->cleanups = c->next;
    if (c->fn) {
      c->fn(c->arg);
    } else {
      a->taken -= c->size;
      free(c);
    }
  }
}

static void pop_chunk(Arena *a) {
  Chunk *c = a->top;
  a->top = c->below;
  a->taken -= ROUND_UP(sizeof *c) + c->size;
  UNPOISON(chunk_data(c), c->size);
  free(c);
}

void arena_free(Arena *a) {
  if (!a) return;
  run_cleanups(a, NULL);
  while (a->top) pop_chunk(a);
  free(a);
}

static void *alloc_large(Arena *a, size_t bytes) {
  size_t head = ROUND_UP(sizeof(Cleanup)), size = head + bytes;
  Cleanup *c = calloc(1, size);
  if (!c) out_of_memory(a);
  *c = (Cleanup){.next = a->cleanups, .size = size};
  a->cleanups = c;
  a->taken += size;
  return (unsigned char *)c + head;
}

static bool push_chunk(Arena *a) {
  size_t size = a->next_chunk;
  Chunk *c = malloc(ROUND_UP(sizeof *c) + size);
  if (!c) return false;
  *c = (Chunk){.below = a->top, .size = size};
  POISON(chunk_data(c), size);
  a->top = c;
  a->taken += ROUND_UP(sizeof *c) + size;
  if (a->next_chunk < CHUNK_MAX) a->next_chunk *= 2;
  return true;
}

static bool fits(const Arena *a, size_t bytes) { return a->top && a->top->size - a->top->used >= bytes; }

void *arena_alloc(Arena *a, size_t bytes) {
  if (bytes > PTRDIFF_MAX - CHUNK_MAX) out_of_memory(a);
  bytes = bytes ? ROUND_UP(bytes) : ALIGNMENT;
  if (!fits(a, bytes)) {
    if (bytes > a->next_chunk / 4) return alloc_large(a, bytes);
    if (!push_chunk(a)) out_of_memory(a);
  }
  unsigned char *p = chunk_data(a->top) + a->top->used;
  a->top->used += bytes;
  UNPOISON(p, bytes);
  return memset(p, 0, bytes);
}

void *arena_alloc_array(Arena *a, size_t count, size_t size) {
  if (size && count > PTRDIFF_MAX / size) out_of_memory(a);
  return arena_alloc(a, count * size);
}

void *arena_grow(Arena *a, const void *old, size_t old_bytes, size_t new_bytes) {
  /* The newest piece of the top chunk grows where it is: texts and vectors mostly are that. */
  if (old && a->top && new_bytes >= old_bytes && new_bytes <= CHUNK_MAX) {
    size_t had = ROUND_UP(old_bytes), want = ROUND_UP(new_bytes);
    unsigned char *end = chunk_data(a->top) + a->top->used;
    if (had && (const unsigned char *)old == end - had && want - had <= a->top->size - a->top->used) {
      UNPOISON(end, want - had);
      memset(end, 0, want - had);
      a->top->used += want - had;
      return end - had;
    }
  }
  void *p = arena_alloc(a, new_bytes);
  if (old && old_bytes) memcpy(p, old, MINI(old_bytes, new_bytes));
  return p;
}

char *arena_strndup(Arena *a, const char *s, size_t n) {
  if (n == SIZE_MAX) out_of_memory(a);
  char *p = arena_alloc(a, n + 1);
  if (n) memcpy(p, s, n);
  return p;
}

char *arena_strdup(Arena *a, const char *s) { return arena_strndup(a, s, strlen(s)); }

char *arena_vprintf(Arena *a, const char *fmt, va_list args) {
  va_list again;
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, fmt, again);
  va_end(again);
  if (n < 0) out_of_memory(a);
  char *s = arena_alloc(a, (size_t)n + 1);
  vsnprintf(s, (size_t)n + 1, fmt, args);
  return s;
}

char *arena_printf(Arena *a, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  char *s = arena_vprintf(a, fmt, args);
  va_end(args);
  return s;
}

void arena_on_free(Arena *a, void (*fn)(void *), void *arg) {
  if (!fits(a, ROUND_UP(sizeof(Cleanup))) && !push_chunk(a)) {
    fn(arg);  /* nobody else knows of the resource yet */
    out_of_memory(a);
  }
  Cleanup *c = arena_alloc(a, sizeof *c);
  *c = (Cleanup){.next = a->cleanups, .fn = fn, .arg = arg};
  a->cleanups = c;
}

ArenaMark arena_mark(Arena *a) { return (ArenaMark){a->top, a->top ? a->top->used : 0, a->cleanups}; }

void arena_release(Arena *a, ArenaMark m) {
  run_cleanups(a, m.cleanups);
  while (a->top && a->top != m.chunk) pop_chunk(a);
  if (a->top) {
    POISON(chunk_data(a->top) + m.used, a->top->used - m.used);
    a->top->used = m.used;
  }
}

/* ---- text ---- */

static void text_reserve(Text *t, size_t more) {
  if (more > PTRDIFF_MAX - t->n - 1) out_of_memory(t->a);
  size_t need = t->n + more + 1;
  if (need <= t->cap) return;
  size_t cap = t->cap ? t->cap : 128;
  while (cap < need) cap *= 2;
  t->s = arena_grow(t->a, t->s, t->cap, cap);
  t->cap = cap;
}

void text_addn(Text *t, const char *s, size_t n) {
  text_reserve(t, n);
  if (n) memcpy(t->s + t->n, s, n);
  t->n += n;
  t->s[t->n] = 0;
}

void text_add(Text *t, const char *s) { text_addn(t, s, strlen(s)); }

void text_addf(Text *t, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  va_list again;
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, fmt, again);
  va_end(again);
  if (n > 0) {
    text_reserve(t, (size_t)n);
    vsnprintf(t->s + t->n, (size_t)n + 1, fmt, args);
    t->n += (size_t)n;
  }
  va_end(args);
}

void text_add_number(Text *t, double x, int digits) {
  char buf[40];
  if (isnan(x)) {
    text_add(t, "nan");
    return;
  }
  for (int p = MINI(digits, 6); p <= digits; p++) {
    snprintf(buf, sizeof buf, "%.*g", p, x);
    if (digits > 9 ? strtod(buf, NULL) == x : strtof(buf, NULL) == (float)x) break;
  }
  text_add(t, buf);
}
