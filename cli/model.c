/* model.c: from options to a loaded and compiled model, with messages and progress on the way. */
#include "cli.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *backend_name(spinec_backend b) {
  switch (b) {
  case SPINEC_BACKEND_INTERP: return "interp";
  case SPINEC_BACKEND_C: return "c";
  case SPINEC_BACKEND_JIT: return "jit";
  }
  return "?";
}

int print_diagnostics(const spinec_diagnostics *d, spinec_status s) {
  for (int i = 0; i < spinec_diagnostics_count(d); i++) fprintf(stderr, "spinec: %s\n", spinec_diagnostics_text(d, i));
  if (s == SPINEC_ERR_MEMORY && spinec_diagnostics_count(d) == 0) fprintf(stderr, "spinec: out of memory\n");
  return s == SPINEC_OK ? EXIT_OK : s == SPINEC_ERR_OPTION ? EXIT_USAGE : EXIT_FAILED;
}

/* A bar on a terminal, silence in a pipe. */
static void progress(void *user, const char *what, double fraction) {
  (void)user;
  const int width = 24;
  char bar[32];
  int full = (int)(fraction * width + 0.5);
  for (int i = 0; i < width; i++) bar[i] = i < full ? '#' : '.';
  bar[width] = 0;
  if (fraction >= 1) fprintf(stderr, "\r\033[K");
  else fprintf(stderr, "\r\033[K[%s] %s", bar, what);
  fflush(stderr);
}

static bool read_bindings(const Options *o, spinec_value_binding *b) {
  for (int i = 0; i < o->nbinds; i++) {
    b[i].name = o->binds[i].name;
    if (!tensor_read(o, o->binds[i].path, &b[i].value)) return false;
  }
  return true;
}

int model_load(const Options *o, const char *path, Model *m) {
  *m = (Model){0};
  spinec_value_binding *bind = calloc((size_t)o->nbinds + 1, sizeof *bind);
  spinec_diagnostics *d = spinec_diagnostics_new();
  int status = EXIT_FAILED;
  if (bind && d && read_bindings(o, bind)) {
    spinec_load_options lo = {.shapes = o->shapes, .nshapes = o->nshapes, .dims = o->dims, .ndims = o->ndims, .bind = bind, .nbind = o->nbinds};
    bool bar = !o->quiet && isatty(2);
    if (bar) progress(NULL, "reading the model", 0);
    int64_t t = time_ns();
    spinec_status s = spinec_load(path, &lo, &m->model, d);
    m->load_ns = time_ns() - t;
    if (bar) progress(NULL, "", 1);
    status = print_diagnostics(d, s);
  }
  for (int i = 0; bind && i < o->nbinds; i++) free(bind[i].value.data);
  free(bind);
  spinec_diagnostics_free(d);
  return status;
}

int model_compile(const Options *o, Model *m) {
  spinec_compile_options c = o->compile;
  c.max_threads = o->threads ? o->threads : 1;
  if (!o->quiet && isatty(2) && !c.time_passes && !c.stats) c.progress = progress;
  spinec_diagnostics *d = spinec_diagnostics_new();
  int64_t t = time_ns();
  spinec_status s = spinec_compile(m->model, &c, &m->program, d);
  m->compile_ns = time_ns() - t;
  if (c.progress) progress(NULL, "", 1);
  int status = print_diagnostics(d, s);
  spinec_diagnostics_free(d);
  return status;
}

void model_free(Model *m) {
  spinec_program_free(m->program);
  spinec_model_free(m->model);
  *m = (Model){0};
}
