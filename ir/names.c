/* names.c: a map from texts to ints: open addressing with linear probing, at most half full. Never iterated, so the order of hashes never
 * reaches a result. Hash: FNV-1a.
 */
#include "base.h"

#include <string.h>

typedef struct NameSlot { const char *s; size_t len; int x; } NameSlot;

static NameSlot *slot_of(const Names *m, const char *s, size_t len) {
  uint64_t h = 14695981039346656037u;
  for (size_t i = 0; i < len; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211u;
  for (size_t i = h ^ h >> 32;; i++) {
    NameSlot *t = &m->slot[i & (size_t)(m->cap - 1)];
    if (!t->s || (t->len == len && !memcmp(t->s, s, len))) return t;
  }
}

bool names_find(const Names *m, const char *s, size_t len, int *out) {
  if (!m->cap) return false;
  const NameSlot *t = slot_of(m, s, len);
  if (t->s && out) *out = t->x;
  return t->s != NULL;
}

void names_put(Names *m, const char *s, size_t len, int x) {
  if (2 * m->n >= m->cap) {
    Names old = *m;
    m->cap = old.cap ? 2 * old.cap : 64;
    m->slot = NEW_N(m->a, NameSlot, m->cap);
    for (int i = 0; i < old.cap; i++)
      if (old.slot[i].s) *slot_of(m, old.slot[i].s, old.slot[i].len) = old.slot[i];
  }
  NameSlot *t = slot_of(m, s, len);
  if (!t->s) m->n++;
  *t = (NameSlot){s, len, x};
}
