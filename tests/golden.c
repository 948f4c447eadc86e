/* golden.c: see golden.h. */
#include "golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RULE "\n----\n"

char *golden_read(Arena *a, const char *path, size_t *n) {
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  Text t = {.a = a};
  char buf[65536];
  size_t k;
  text_add(&t, "");
  while ((k = fread(buf, 1, sizeof buf, f)) > 0) text_addn(&t, buf, k);
  fclose(f);
  if (n) *n = t.n;
  return t.s;
}

bool golden_write(const char *path, const void *data, size_t n) {
  FILE *f = fopen(path, "wb");
  if (!f) return false;
  bool ok = fwrite(data, 1, n, f) == n;
  return fclose(f) == 0 && ok;
}

char *golden_split(char *text) {
  char *rule = strstr(text, RULE);
  if (!rule) return NULL;
  rule[1] = 0;
  return rule + strlen(RULE);
}

static bool load(Golden *t) {
  char *text = golden_read(t->a, t->file, NULL), *s = text;
  if (!text) return false;
  t->expected = golden_split(text);
  size_t n = strlen(t->comment);
  while (n && *s && (*s == '\n' || !strncmp(s, t->comment, n))) s += strcspn(s, "\n") + (s[strcspn(s, "\n")] != 0);
  t->header = arena_strndup(t->a, text, (size_t)(s - text));
  t->input = s;
  return true;
}

static void print_messages(const Diag *d) {
  for (int i = 0; i < spinec_diagnostics_count(d); i++) fprintf(stderr, "  %s\n", spinec_diagnostics_text(d, i));
}

int golden_run(const char *file, const char *comment, int (*check)(Golden *, void *user), void *user) {
  Fail f;
  Diag *d = spinec_diagnostics_new();
  Arena *volatile a = NULL;
  volatile int status = 1;
  if (FAIL_ARM(&f, d)) {
    a = arena_new(&f);
    Golden t = {.file = file, .a = a, .d = d, .comment = comment};
    status = load(&t) ? check(&t, user) : golden_fail(&t, "cannot be read", NULL);
  } else {
    fprintf(stderr, "%s: status %d\n", file, (int)f.status);
    print_messages(d);
  }
  if (a) arena_set_fail(a, NULL);
  arena_free(a);
  spinec_diagnostics_free(d);
  return status;
}

int golden_main(int argc, char **argv, int (*run)(const char *file)) {
  int failed = 0;
  for (int i = 1; i < argc; i++) failed += run(argv[i]) != 0;
  if (argc < 2) fprintf(stderr, "usage: %s FILE...\n", argv[0]);
  return failed > 0 || argc < 2;
}

char *golden_option(const Golden *t, const char *name) {
  const char *line = arena_printf(t->a, "%s %s:", t->comment, name), *s = strstr(t->header, line);
  if (!s) return NULL;
  s += strlen(line);
  char *value = arena_strndup(t->a, s, strcspn(s, "\n")), *to = value;
  for (const char *from = value; *from; from++) {
    if (*from != ' ') *to++ = *from;
  }
  *to = 0;
  return value;
}

char *golden_passes(const Golden *t) {
  char *passes = golden_option(t, "passes");
  const char *end = strrchr(t->file, '/'), *start = end;
  if (passes || !end) return passes;
  while (start > t->file && start[-1] != '/') start--;
  return arena_strndup(t->a, start, (size_t)(end - start));
}

int golden_fail(const Golden *t, const char *what, const char *detail) {
  fprintf(stderr, "%s: %s%s%s\n", t->file, what, detail ? "\n" : "", detail ? detail : "");
  print_messages(t->d);
  return 1;
}

static bool update(const Golden *t, const char *actual) {
  Text text = {.a = t->a};
  size_t n = strlen(t->input);
  bool open = n && t->input[n - 1] != '\n';
  text_addf(&text, "%s%s%s%s%s", t->header, t->input, open ? "\n" : "", RULE + 1, actual);
  return golden_write(t->file, text.s, text.n);
}

static int first_difference(const char *a, const char *b) {
  int line = 1;
  for (; *a && *a == *b; a++, b++) line += *a == '\n';
  return line;
}

int golden_compare(const Golden *t, const char *actual) {
  if (t->expected && !strcmp(t->expected, actual)) return 0;
  if (getenv("UPDATE")) return update(t, actual) ? 0 : golden_fail(t, "cannot be written", NULL);
  if (!t->expected) return golden_fail(t, "no output is expected; it is", actual);
  int line = first_difference(t->expected, actual);
  return golden_fail(t, arena_printf(t->a, "the output is not the expected one from its line %d on; it is", line), actual);
}
