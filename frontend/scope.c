/* scope.c: the names of one graph or function body. */
#include "import.h"

#include <string.h>

struct Scope {
  Scope *outer;
  Names index; /* into list */
  VEC(Name) list;
};

Scope *scope_new(Arena *a, Scope *outer) {
  Scope *s = NEW(a, Scope);
  s->outer = outer;
  s->index.a = a;
  return s;
}

Name *scope_find_here(Scope *s, const char *text) {
  int i;
  return names_find(&s->index, text, strlen(text), &i) ? &s->list.at[i] : NULL;
}

Name *scope_find(Scope *s, const char *text) {
  Name *n = NULL;
  for (; s && !n; s = s->outer) n = scope_find_here(s, text);
  return n;
}

Name *scope_add(Scope *s, const char *text, NameKind kind, Value *v) {
  if (scope_find_here(s, text)) return NULL;
  names_put(&s->index, text, strlen(text), s->list.n);
  vec_push(s->index.a, &s->list, ((Name){.text = text, .kind = kind, .v = v}));
  return &s->list.at[s->list.n - 1];
}
