/* proto.c: protobuf-c on files nobody vouches for.
 *
 * protobuf-c unpacks recursively and allocates whatever the bytes ask for. So the bytes are walked first, with a stack of our own: every
 * length must lie within its message and messages must not nest deeper than MAX_DEPTH; what cannot be right is reported with its offset,
 * which protobuf-c would not tell. Then a counting allocator bounds the memory: a few bytes of input can ask for a message struct of
 * hundreds, so the bound is a multiple of the input. Blocks are chained, and freeing is one pass over the chain.
 * Wire format: https://protobuf.dev/programming-guides/encoding
 */
#include "import.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 100, MEMORY_FACTOR = 8 };
#define MEMORY_BASE ((size_t)64 << 20)

/* ---- the walk over the wire format ---- */

typedef struct Cursor {
  const uint8_t *at, *end;
} Cursor;

static bool read_varint(Cursor *c, uint64_t *out) {
  uint64_t x = 0;
  for (int shift = 0; shift < 70 && c->at < c->end; shift += 7) {
    uint8_t b = *c->at++;
    if (shift < 64) x |= (uint64_t)(b & 127) << shift;
    if (b & 128) continue;
    *out = x;
    return true;
  }
  return false;
}

static bool skip(Cursor *c, uint64_t n) {
  if (n > (uint64_t)(c->end - c->at)) return false;
  c->at += n;
  return true;
}

typedef struct Level {
  const ProtobufCMessageDescriptor *d;
  const uint8_t *end;
} Level;
typedef struct Walk {
  Level at[MAX_DEPTH];
  int n;
} Walk;

/* One field. On a nested message, opens a level instead of skipping it. NULL, or what is wrong. */
static const char *walk_field(Walk *w, Cursor *c) {
  uint64_t tag, n;
  if (!read_varint(c, &tag) || tag >> 3 == 0 || tag >> 32) return "no valid field number";
  switch (tag & 7) {
  case 0: return read_varint(c, &n) ? NULL : "an integer is cut off";
  case 1: return skip(c, 8) ? NULL : "a number is cut off";
  case 5: return skip(c, 4) ? NULL : "a number is cut off";
  case 2: break;
  default: return "no valid field type";
  }
  if (!read_varint(c, &n) || n > (uint64_t)(c->end - c->at)) return "a length reaches past the end";
  if (n > INT32_MAX) return "a field of 2 GiB or more";
  const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(w->at[w->n - 1].d, (unsigned)(tag >> 3));
  if (!f || f->type != PROTOBUF_C_TYPE_MESSAGE) {
    c->at += n;
    return NULL;
  }
  if (w->n == MAX_DEPTH) return "messages are nested too deeply";
  w->at[w->n++] = (Level){f->descriptor, c->at + n};
  c->end = c->at + n;
  return NULL;
}

static const char *walk(const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t n, size_t *at) {
  Walk w = {.n = 1};
  w.at[0] = (Level){d, data + n};
  Cursor c = {data, data + n};
  while (true) {
    while (c.at == c.end) {
      if (--w.n == 0) return NULL;
      c.end = w.at[w.n - 1].end;
    }
    *at = (size_t)(c.at - data);
    const char *why = walk_field(&w, &c);
    if (why) return why;
  }
}

/* ---- bounded memory ---- */

/* A block's bytes follow its header, which keeps malloc's alignment. */
typedef struct Block Block;
struct Block {
  Block *prev, *next;
  size_t size;
  size_t pad;
};

typedef struct Pool {
  Block head; /* of the ring of blocks */
  size_t used, limit;
  bool exhausted;
} Pool;

static void *pool_alloc(void *pool, size_t size) {
  Pool *p = pool;
  size_t total = size + sizeof(Block);
  Block *b = total >= size && total <= p->limit - p->used ? malloc(total) : NULL;
  if (!b) {
    p->exhausted = true;
    return NULL;
  }
  p->used += total;
  *b = (Block){.prev = &p->head, .next = p->head.next, .size = total};
  b->next->prev = b;
  p->head.next = b;
  return b + 1;
}

static void pool_free(void *pool, void *x) {
  if (!x) return;
  Pool *p = pool;
  Block *b = (Block *)x - 1;
  b->prev->next = b->next;
  b->next->prev = b->prev;
  p->used -= b->size;
  free(b);
}

static void pool_clear(void *pool) {
  Pool *p = pool;
  for (Block *b = p->head.next, *next; b != &p->head; b = next) {
    next = b->next;
    free(b);
  }
  p->head.next = p->head.prev = &p->head;
}

void *proto_unpack(Arena *a, const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t n, const char **why, size_t *at) {
  *at = 0;
  if ((*why = walk(d, data, n, at))) return NULL;
  Pool *p = NEW(a, Pool);
  p->head.next = p->head.prev = &p->head;
  p->limit = n > (SIZE_MAX - MEMORY_BASE) / MEMORY_FACTOR ? SIZE_MAX : MEMORY_BASE + MEMORY_FACTOR * n;
  arena_on_free(a, pool_clear, p);
  ProtobufCAllocator allocator = {pool_alloc, pool_free, p};
  void *m = protobuf_c_message_unpack(d, &allocator, n, data);
  if (m) return m;
  *at = 0;
  *why = p->exhausted ? "unpacking it takes far more memory than its size warrants" : "a field has another type than ONNX gives it";
  pool_clear(p);
  return NULL;
}

/* ---- fields newer than the generated code ---- */

/* The contents of a length-delimited unknown field: protobuf-c keeps the length in front. */
static bool unknown_contents(const ProtobufCMessageUnknownField *u, Cursor *c) {
  *c = (Cursor){u->data, u->data + u->len};
  uint64_t n;
  return u->wire_type == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED && read_varint(c, &n) && n == (uint64_t)(c->end - c->at);
}

int proto_messages(Arena *a, const ProtobufCMessage *m, uint32_t field, const ProtobufCMessageDescriptor *d, ProtobufCMessage ***out) {
  const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(m->descriptor, field);
  if (f && f->label == PROTOBUF_C_LABEL_REPEATED && f->descriptor == d) {
    memcpy(out, (const char *)m + f->offset, sizeof *out);
    size_t n;
    memcpy(&n, (const char *)m + f->quantifier_offset, sizeof n);
    return n > INT32_MAX ? 0 : (int)n;
  }
  int n = 0;
  *out = NEW_N(a, ProtobufCMessage *, m->n_unknown_fields + 1);
  for (unsigned i = 0; i < m->n_unknown_fields; i++) {
    Cursor c;
    const char *why;
    size_t at;
    if (m->unknown_fields[i].tag != field || !unknown_contents(&m->unknown_fields[i], &c)) continue;
    void *x = proto_unpack(a, d, c.at, (size_t)(c.end - c.at), &why, &at);
    if (x) (*out)[n++] = x;
  }
  return n;
}

const char *proto_string(Arena *a, const ProtobufCMessage *m, uint32_t field) {
  const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(m->descriptor, field);
  if (f && f->type == PROTOBUF_C_TYPE_STRING && f->label != PROTOBUF_C_LABEL_REPEATED) {
    const char *s;
    memcpy(&s, (const char *)m + f->offset, sizeof s);
    return s ? s : "";
  }
  for (unsigned i = 0; i < m->n_unknown_fields; i++) {
    Cursor c;
    if (m->unknown_fields[i].tag == field && unknown_contents(&m->unknown_fields[i], &c))
      return arena_strndup(a, (const char *)c.at, (size_t)(c.end - c.at));
  }
  return "";
}
