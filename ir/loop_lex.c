/* ir/loop_lex.c: tokens of the text form of kernels and programs (loop_print.c describes it), one of lookahead.
 *
 * After the first error, which is reported with its line, the rest of the text reads as its end, so every loop over tokens stops.
 */
#include "loop_text.h"
#include <errno.h>
#include <stdlib.h>

#define TEXT_MAX ((size_t)64 << 20)

void parse_fail(Parser *p, const char *fmt, ...) {
  if (p->failed) return;
  va_list ap;
  va_start(ap, fmt);
  char msg[300];
  vsnprintf(msg, sizeof msg, fmt, ap);
  va_end(ap);
  p->failed = true;
  diag_error(p->diag, SPINEC_ERR_INPUT, NULL, NULL, "%s:%d: %s", p->file, p->line, msg);
  p->tok = TOK_END;
  p->n = 0;
}

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* A point that another follows is a range's. */
static void lex_number(Parser *p) {
  const char *c = p->s;
  while (is_digit(*c)) c++;
  p->tok = TOK_INT;
  if (*c == '.' && c[1] != '.') {
    p->tok = TOK_FLOAT;
    for (c++; is_digit(*c);) c++;
  }
  if ((*c == 'e' || *c == 'E') && (is_digit(c[1]) || ((c[1] == '-' || c[1] == '+') && is_digit(c[2])))) {
    p->tok = TOK_FLOAT;
    for (c += 2; is_digit(*c);) c++;
  }
  p->n = (size_t)(c - p->s);
}

static void lex_string(Parser *p) {
  const char *c = p->s + 1;
  while (*c && *c != '"' && *c != '\n') c += *c == '\\' && c[1] ? 2 : 1;
  p->tok = TOK_STRING;
  p->n = (size_t)(c - p->s) + 1;
  if (*c != '"') parse_fail(p, "text in quotes does not end");
}

void parse_next(Parser *p) {
  if (p->failed) return;
  p->s += p->n;
  for (;; p->s++) {
    if (*p->s == '\n') p->line++;
    else if (*p->s != ' ' && *p->s != '\t' && *p->s != '\r') break;
  }
  const char *c = p->s;
  if (!*c) {
    p->tok = TOK_END;
    p->n = 0;
  } else if (is_letter(*c)) {
    while (is_letter(*c) || is_digit(*c)) c++;
    p->tok = TOK_NAME;
    p->n = (size_t)(c - p->s);
  } else if (is_digit(*c)) {
    lex_number(p);
  } else if (*c == '"') {
    lex_string(p);
  } else if (c[0] == '/' && c[1] == '/') {
    p->tok = TOK_COMMENT;
    p->n = strcspn(c, "\n");
  } else {
    static const char *const two[] = {"..", "<<", ">>", "==", "!=", "<=", ">="};
    p->tok = TOK_SIGN;
    p->n = 1;
    for (int i = 0; i < COUNTOF(two); i++) {
      if (c[0] == two[i][0] && c[1] == two[i][1]) p->n = 2;
    }
  }
}

bool parse_is(const Parser *p, const char *text) {
  return (p->tok == TOK_NAME || p->tok == TOK_SIGN) && strlen(text) == p->n && !memcmp(p->s, text, p->n);
}

bool parse_accept(Parser *p, const char *text) {
  if (!parse_is(p, text)) return false;
  parse_next(p);
  return true;
}

void parse_expect(Parser *p, const char *text) {
  if (!parse_accept(p, text)) parse_fail(p, "expected '%s', found '%.*s'", text, (int)MINI(p->n, 40), p->s);
}

char *parse_name(Parser *p) {
  if (p->tok != TOK_NAME) {
    parse_fail(p, "expected a name, found '%.*s'", (int)MINI(p->n, 40), p->s);
    return arena_strdup(p->arena, "");
  }
  char *s = arena_strndup(p->arena, p->s, p->n);
  parse_next(p);
  return s;
}

int64_t parse_int(Parser *p) {
  bool minus = parse_accept(p, "-");
  if (p->tok != TOK_INT) {
    parse_fail(p, "expected a whole number, found '%.*s'", (int)MINI(p->n, 40), p->s);
    return 0;
  }
  errno = 0;
  int64_t v = strtoll(p->s, NULL, 10);
  if (errno) parse_fail(p, "the number is too large");
  parse_next(p);
  return minus ? -v : v;
}

double parse_double(Parser *p) {
  bool minus = parse_accept(p, "-");
  if (p->tok != TOK_INT && p->tok != TOK_FLOAT) {
    parse_fail(p, "expected a number, found '%.*s'", (int)MINI(p->n, 40), p->s);
    return 0;
  }
  double v = strtod(p->s, NULL);
  parse_next(p);
  return minus ? -v : v;
}

static int hex_digit(char c) { return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

char *parse_string(Parser *p) {
  if (p->tok != TOK_STRING) {
    parse_fail(p, "expected text in quotes, found '%.*s'", (int)MINI(p->n, 40), p->s);
    return arena_strdup(p->arena, "");
  }
  char *out = arena_alloc(p->arena, p->n), *o = out;
  for (const char *c = p->s + 1; c < p->s + p->n - 1; c++) {
    if (*c == '\\' && c[1] == 'x' && hex_digit(c[2]) >= 0 && hex_digit(c[3]) >= 0) {
      *o++ = (char)(hex_digit(c[2]) * 16 + hex_digit(c[3]));
      c += 3;
    } else {
      c += *c == '\\';
      *o++ = *c;
    }
  }
  parse_next(p);
  return out;
}

/* ---- start ---- */

bool parse_start(Parser *p, Arena *a, Diag *d, const char *file, const char *text) {
  *p = (Parser){.arena = a, .diag = d, .file = file ? file : "?", .s = text, .line = 1};
  if (strlen(text) > TEXT_MAX) parse_fail(p, "the text is too long");
  parse_next(p);
  return !p->failed;
}

void parse_skip_comments(Parser *p) {
  while (p->tok == TOK_COMMENT) parse_next(p);
}
