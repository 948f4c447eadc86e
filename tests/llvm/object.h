/* tests/llvm/object.h: C programs around generated objects, run here or under qemu-user. */
#ifndef TESTS_LLVM_OBJECT_H
#define TESTS_LLVM_OBJECT_H

#include "support.h"

/* How to make and run a program for a target. */
typedef struct Machine { const char *target, *cc, *run; Slack slack; } Machine;
extern const Machine machines[];
extern const int nmachines;

bool shell(const char *format, ...) __attribute__((format(printf, 1, 2)));   /* true: it ended with 0 */
bool have(const char *tool);               /* is the first word a program that can be found? */
bool usable(const Machine *m);             /* compiler and emulator are there; if not, says that the test is skipped */

/* A folder that is removed again; obj: the object "m" in it. */
typedef struct Work { char *dir; char obj[300]; } Work;
void work_open(Work *w);
void work_close(Work *w);
const char *work_path(Work *w, const char *name, char buf[300]);

/* Sizes of inputs and outputs in bytes. */
typedef struct Ports { const size_t *in, *out; int nin, nout; } Ports;

/* The program main.c: reads inputs from stdin, calls m_run of m.h, writes outputs to stdout. */
void driver_write(Work *w, const Ports *p, const spinec_emit_options *o);
/* Compiles it with m.o for m and runs it. Fails the test when that fails. */
void driver_run(Work *w, const Machine *m, const Ports *p, void *const *in, void *const *out);

#endif
