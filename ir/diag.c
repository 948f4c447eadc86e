/* diag.c: messages as values, and the way out when memory ends.
 *
 * The only memory of the compiler that is not an arena's: messages must survive the arena that ran out. Nothing here fails: a message that
 * finds no memory is counted as lost, and one fixed line stands for all that were.
 */
#include "base.h"

#include <stdlib.h>
#include <string.h>

struct spinec_diagnostics {
  char **text, **unbound;
  int *position;          /* of each unbound input */
  int ntext, nunbound;
  bool lost;
  Status status;
};

spinec_diagnostics *spinec_diagnostics_new(void) { return calloc(1, sizeof(spinec_diagnostics)); }

void spinec_diagnostics_free(spinec_diagnostics *d) {
  if (!d) return;
  for (int i = 0; i < d->ntext; i++) free(d->text[i]);
  for (int i = 0; i < d->nunbound; i++) free(d->unbound[i]);
  free(d->text);
  free(d->unbound);
  free(d->position);
  free(d);
}

int spinec_diagnostics_count(const spinec_diagnostics *d) { return d ? d->ntext + d->lost : 0; }

const char *spinec_diagnostics_text(const spinec_diagnostics *d, int i) {
  if (!d || i < 0 || i >= d->ntext + d->lost) return NULL;
  return i < d->ntext ? d->text[i] : "out of memory";
}

const char *spinec_diagnostics_unbound_input(const spinec_diagnostics *d, int i) {
  return d && i >= 0 && i < d->nunbound ? d->unbound[i] : NULL;
}

int spinec_diagnostics_unbound_position(const spinec_diagnostics *d, int i) {
  return d && i >= 0 && i < d->nunbound ? d->position[i] : -1;
}

int diag_errors(const Diag *d) { return spinec_diagnostics_count(d); }
Status diag_status(const Diag *d) { return d ? d->status : SPINEC_OK; }

/* Appends s (owned) to a list whose capacity is n rounded up to a power of two; frees s and gives false when there is no memory. */
static bool append(char ***list, int *n, char *s) {
  if (!s) return false;
  if ((*n & (*n - 1)) == 0) {
    size_t cap = *n ? 2 * (size_t)*n : 1;
    char **grown = realloc(*list, cap * sizeof *grown);
    if (!grown) {
      free(s);
      return false;
    }
    *list = grown;
  }
  (*list)[(*n)++] = s;
  return true;
}

/* A piece of the line at s[at], if s is there yet; gives the length with the piece. */
static size_t piece(char *s, size_t at, size_t cap, const char *fmt, ...) PRINTF_LIKE(4, 5);
static size_t piece(char *s, size_t at, size_t cap, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  int n = s ? vsnprintf(s + at, cap - at, fmt, args) : vsnprintf(NULL, 0, fmt, args);
  va_end(args);
  return n > 0 ? at + (size_t)n : at;
}

static size_t compose(char *s, size_t cap, const Where *w, const char *hint, const char *fmt, va_list args) {
  size_t n = 0;
  if (w && w->file) n = piece(s, n, cap, "%s: ", w->file);
  if (w && w->node) n = piece(s, n, cap, "node '%s'", w->node);
  if (w && w->op) {
    n = piece(s, n, cap, w->node ? " (%s" : "node (%s", w->op);
    if (w->opset) n = piece(s, n, cap, ", opset %d", w->opset);
    n = piece(s, n, cap, ")");
  }
  if (w && (w->node || w->op)) n = piece(s, n, cap, ": ");
  int m = s ? vsnprintf(s + n, cap - n, fmt, args) : vsnprintf(NULL, 0, fmt, args);
  if (m > 0) n += (size_t)m;
  if (hint) n = piece(s, n, cap, "; hint: %s", hint);
  return n;
}

Status diag_error(Diag *d, Status status, const Where *w, const char *hint, const char *fmt, ...) {
  if (!d) return status;
  if (d->status == SPINEC_OK) d->status = status;
  va_list args;
  va_start(args, fmt);
  va_list again;
  va_copy(again, args);
  size_t n = compose(NULL, 0, w, hint, fmt, again);
  va_end(again);
  char *s = malloc(n + 1);
  if (s) {
    s[0] = 0;
    compose(s, n + 1, w, hint, fmt, args);
    /* Names come from files: whatever they hold, a message stays one line. */
    for (char *c = s; *c; c++)
      if ((unsigned char)*c < 32 || *c == 127) *c = ' ';
  }
  va_end(args);
  if (!append(&d->text, &d->ntext, s)) d->lost = true;
  return status;
}

void diag_unbound_input(Diag *d, const char *name, int position) {
  if (!d) return;
  for (int i = 0; i < d->nunbound; i++)
    if (!strcmp(d->unbound[i], name)) return;
  int *grown = realloc(d->position, (size_t)(d->nunbound + 1) * sizeof *grown);
  if (!grown) return;
  d->position = grown;
  size_t n = strlen(name) + 1;
  char *s = malloc(n);
  if (s) memcpy(s, name, n);
  if (append(&d->unbound, &d->nunbound, s)) d->position[d->nunbound - 1] = position;
}

void fail_out_of_memory(Fail *f) {
  if (f->diag) {
    if (f->diag->status == SPINEC_OK) f->diag->status = SPINEC_ERR_MEMORY;
    f->diag->lost = true;
  }
  f->status = SPINEC_ERR_MEMORY;
  longjmp(f->env, 1);
}
