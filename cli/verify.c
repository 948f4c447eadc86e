/* verify.c: spinec verify: a backend's outputs against expected files, or against the interpreter on the plain path. */
#include "cli.h"
#include <stdlib.h>
#include <string.h>

static int run_once(const Options *o, const Model *m, spinec_backend backend, const Tensors *in, Tensors *out) {
  spinec_session *s = NULL;
  spinec_diagnostics *d = spinec_diagnostics_new();
  spinec_status st = SPINEC_ERR_MEMORY;
  if (outputs_new(m->model, out)) {
    st = spinec_session_open(m->program, backend, o->threads ? o->threads : 1, &s, d);
    if (!st) st = spinec_session_run(s, in->t, out->t, d);
  }
  spinec_session_close(s);
  int status = print_diagnostics(d, st);
  spinec_diagnostics_free(d);
  return status;
}

/* The oracle: no optimisation, interpreted. */
static int reference(const Options *o, Model *m, const Tensors *in, Tensors *out) {
  Options plain = *o;
  plain.compile.opt_level = 0;
  plain.compile.disable = NULL;
  plain.compile.max_workspace_bytes = plain.compile.max_weight_bytes = 0;   /* bounds on what is checked, not on the oracle */
  Model r = {.model = m->model};
  int status = model_compile(&plain, &r);
  if (!status) status = run_once(&plain, &r, SPINEC_BACKEND_INTERP, in, out);
  spinec_program_free(r.program);
  return status;
}

static int read_expected(const Options *o, const spinec_model *m, Tensors *out) {
  int n = spinec_model_outputs(m), position = 0;
  *out = (Tensors){calloc((size_t)n + 1, sizeof(spinec_tensor)), n};
  if (!out->t) return EXIT_FAILED;
  for (int f = 0; f < o->nexpects; f++) {
    int at = -1;
    for (int i = 0; o->expects[f].name && i < n; i++)
      if (!strcmp(o->expects[f].name, spinec_model_output_name(m, i))) at = i;
    if (!o->expects[f].name) at = position++;
    if (at < 0 || at >= n || out->t[at].data) {
      fprintf(stderr, "spinec: no output for --expect %s%s%s; hint: the outputs are", o->expects[f].name ? o->expects[f].name : "",
              o->expects[f].name ? "=" : "", o->expects[f].path);
      for (int i = 0; i < n; i++) fprintf(stderr, "%s '%s'", i ? "," : "", spinec_model_output_name(m, i));
      fprintf(stderr, "\n");
      return EXIT_USAGE;
    }
    if (!tensor_read(o, o->expects[f].path, &out->t[at])) return EXIT_FAILED;
  }
  return EXIT_OK;
}

static int compare(const Options *o, const spinec_model *m, const Tensors *got, const Tensors *want) {
  double rtol = o->rtol >= 0 ? o->rtol : 1e-4, atol = o->atol >= 0 ? o->atol : 0;
  int bad = 0, compared = 0;
  for (int i = 0; i < got->n; i++) {
    if (!want->t[i].data) continue;
    compared++;
    const char *name = spinec_model_output_name(m, i);
    Difference d = tensor_compare(&got->t[i], &want->t[i], rtol, atol, false);
    if (d.reason) {
      char have[160], need[160];
      tensor_describe(&got->t[i], have, sizeof have);
      tensor_describe(&want->t[i], need, sizeof need);
      printf("%-24s FAIL  %s: it is %s, expected %s\n", name, d.reason, have, need);
    } else {
      printf("%-24s %s  largest error %.3g, %.3g of magnitude %.3g", name, d.wrong ? "FAIL" : "ok  ", d.max_abs,
             d.magnitude > 0 ? d.max_abs / d.magnitude : d.max_abs, d.magnitude);
      if (d.wrong) printf("; %lld of %lld elements wrong, first at %lld", (long long)d.wrong, (long long)spinec_tensor_count(&got->t[i]), (long long)d.first);
      printf("\n");
    }
    bad += d.reason || d.wrong;
  }
  printf("%d of %d outputs within %.3g of magnitude\n", compared - bad, compared, rtol);
  return bad ? EXIT_FAILED : EXIT_OK;
}

int command_verify(Options *o) {
  Model m;
  Tensors in = {0}, got = {0}, want = {0};
  int status = model_load(o, o->paths[0], &m);
  if (!status && !inputs_read(o, m.model, &in)) status = EXIT_FAILED;
  if (!status && o->nexpects) status = read_expected(o, m.model, &want);
  if (!status) status = model_compile(o, &m);
  if (!status) status = run_once(o, &m, o->backend, &in, &got);
  if (!status && !o->nexpects) status = reference(o, &m, &in, &want);
  if (!status) status = compare(o, m.model, &got, &want);
  tensors_free(&in);
  tensors_free(&got);
  tensors_free(&want);
  model_free(&m);
  return status;
}
