/* golden.h: what the golden-file runners (loops/run_loops.c, passes/run_passes.c, errors/run_import.c) share. A file is
 *
 *   # what it shows               lines of comment and blank lines: the header, in which a line "# NAME: VALUE" is an option
 *   the input
 *   ----
 *   the output expected
 *
 * A runner computes the output from the input, makes its own checks on the way, and ends with golden_compare. UPDATE=1 in the environment
 * writes an output that differs into the file instead of failing. Also the two functions on whole files that other tests use.
 */
#ifndef TESTS_GOLDEN_H
#define TESTS_GOLDEN_H

#include "ir/base.h"

typedef struct Golden {
  const char *file;
  Arena *a;
  Diag *d;
  const char *comment;                   /* what header lines start with; "": the header, if any, is part of the input */
  char *header, *input, *expected;       /* of golden_load; each ends with its last line. expected: NULL when there is no rule */
} Golden;

/* The bytes of a file and a 0, in the arena; *n, if not NULL, gets their number. NULL if it cannot be opened. */
char *golden_read(Arena *a, const char *path, size_t *n);
/* Makes the file of these bytes; false if that fails. */
bool golden_write(const char *path, const void *data, size_t n);

/* Cuts a file's text at the rule and gives what follows it; NULL: there is no rule. */
char *golden_split(char *text);

/* Runs one test: reads the file into a Golden and calls check(it, user), which gives 0 for success, anything else after golden_fail.
 * Leaving through Fail is a failure as well. Gives the status; the arena is gone afterwards. */
int golden_run(const char *file, const char *comment, int (*check)(Golden *, void *user), void *user);
/* main of a runner: `run` for every argument; 1 if one failed or there was none. */
int golden_main(int argc, char **argv, int (*run)(const char *file));

/* VALUE without its blanks, in the arena; NULL if the header has no such line. */
char *golden_option(const Golden *t, const char *name);
/* Option "passes"; without it the name of the folder the file is in; NULL if the path has none. */
char *golden_passes(const Golden *t);

/* Prints the file, what is wrong, `detail` (may be NULL) and the messages so far; gives 1. */
int golden_fail(const Golden *t, const char *what, const char *detail);
/* 0 if that is the output expected, or is now. */
int golden_compare(const Golden *t, const char *actual);

#endif
