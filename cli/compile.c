/* compile.c: spinec compile. */
#include "cli.h"
#include <stdlib.h>
#include <string.h>

/* C is for anywhere, native code for here. */
static const char *default_target(const Options *o) { return o->emit == SPINEC_EMIT_C ? "generic" : "native"; }

int command_compile(Options *o) {
  if (!o->compile.target) o->compile.target = default_target(o);
  if (o->threads_kind != SPINEC_THREADS_NONE && !o->threads) o->threads = 8;
  Model m;
  int status = model_load(o, o->paths[0], &m);
  if (!status) status = model_compile(o, &m);
  if (!status) {
    spinec_emit_options e = {.kind = o->emit, .prefix = o->prefix, .weights = o->weights, .threads = o->threads_kind, .emit_test = o->emit_test,
                             .command_line = o->command_line, .c99 = o->c99};
    /* Decimal text is for small models. */
    if (!o->weights_given) e.weights = spinec_program_get_info(m.program).weight_bytes <= 1 << 20 ? SPINEC_WEIGHTS_INLINE : SPINEC_WEIGHTS_OBJECT;
    spinec_diagnostics *d = spinec_diagnostics_new();
    status = print_diagnostics(d, spinec_emit(m.program, o->out, &e, d));
    spinec_diagnostics_free(d);
  }
  model_free(&m);
  return status;
}
