/* run.c: spinec run. */
#define _GNU_SOURCE
#include "cli.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* An ONNX name as a file name: no separators, nothing hidden. */
static void file_name(const char *name, char *out, size_t size) {
  size_t n = 0;
  for (; *name && n + 1 < size; name++) {
    unsigned char c = (unsigned char)*name;
    out[n] = c < 32 || c == 127 || strchr("/\\:*?\"<>|", c) || (n == 0 && c == '.') ? '_' : (char)c;
    n++;
  }
  out[n] = 0;
}

static int save_outputs(const Options *o, const spinec_model *m, const Tensors *out) {
  const char *dir = o->output_dir ? o->output_dir : ".";
  if (o->output_dir && mkdir(dir, 0777) && errno != EEXIST) return fprintf(stderr, "spinec: %s: %s\n", dir, strerror(errno)), EXIT_FAILED;
  for (int i = 0; i < out->n; i++) {
    char name[200], err[RT_ERR_MAX];
    file_name(spinec_model_output_name(m, i), name, sizeof name);
    size_t size = strlen(dir) + sizeof name + 8;
    char *path = malloc(size);
    if (!path) return EXIT_FAILED;
    snprintf(path, size, "%s/%s.npy", dir, name);
    spinec_status s = npy_save(path, &out->t[i], err);
    if (s) fprintf(stderr, "spinec: %s\n", err);
    else if (!o->quiet) printf("%s\n", path);
    free(path);
    if (s) return EXIT_FAILED;
  }
  return EXIT_OK;
}

int command_run(Options *o) {
  Model m;
  Tensors in = {0}, out = {0};
  spinec_session *s = NULL;
  spinec_diagnostics *d = spinec_diagnostics_new();
  int status = model_load(o, o->paths[0], &m);
  if (!status && !inputs_read(o, m.model, &in)) status = EXIT_FAILED;
  if (!status) status = model_compile(o, &m);
  if (!status && !outputs_new(m.model, &out)) status = EXIT_FAILED;
  if (!status) {
    spinec_status st = spinec_session_open(m.program, o->backend, o->threads ? o->threads : 1, &s, d);
    if (!st) st = spinec_session_run(s, in.t, out.t, d);
    status = print_diagnostics(d, st);
  }
  if (!status) status = save_outputs(o, m.model, &out);
  spinec_session_close(s);
  tensors_free(&in);
  tensors_free(&out);
  model_free(&m);
  spinec_diagnostics_free(d);
  return status;
}
