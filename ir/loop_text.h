/* ir/loop_text.h: what loop_print.c, loop_parse.c (kernels) and loop_parse_program.c share; and what passes need that compare kernels by
 * their text. */
#ifndef IR_LOOP_TEXT_H
#define IR_LOOP_TEXT_H

#include "loop_eval.h"

bool loop_reserved(const char *name);   /* loop.c: a word of the text form, not a variable's name */
int x_precedence(XOp op);               /* of infix operators, 1 binds least; 9 for the rest */
void kernel_print_as(const Kernel *k, const char *name, const char *what, Text *out);   /* under another name */
void stmt_print_head(const Stmt *s, Text *out);         /* without its blocks; on one line */

typedef enum { TOK_END, TOK_NAME, TOK_INT, TOK_FLOAT, TOK_STRING, TOK_COMMENT, TOK_SIGN } Token;

typedef struct Parser {
  Arena *arena;
  Diag *diag;
  const char *file;
  const char *s;           /* the current token, n bytes */
  size_t n;
  Token tok;
  int line;
  bool failed;             /* reported; from here on the text is at its end */
  Kernel *k;               /* being read */
  int nesting;             /* of blocks */
  int depth;               /* of expressions being read */
  int height;              /* of the expression read last */
} Parser;

/* false after reporting that the text is too long. */
bool parse_start(Parser *p, Arena *a, Diag *d, const char *file, const char *text);
void parse_fail(Parser *p, const char *fmt, ...) PRINTF_LIKE(2, 3);   /* reports the first only */
void parse_next(Parser *p);
bool parse_is(const Parser *p, const char *text);       /* a name or sign */
bool parse_accept(Parser *p, const char *text);
void parse_expect(Parser *p, const char *text);
void parse_skip_comments(Parser *p);
char *parse_name(Parser *p);                            /* "" after failing, as for the others */
char *parse_string(Parser *p);
int64_t parse_int(Parser *p);
double parse_double(Parser *p);
Kernel *parse_kernel(Parser *p);                        /* from the word kernel to its closing brace; verified; NULL after failing */

#endif
