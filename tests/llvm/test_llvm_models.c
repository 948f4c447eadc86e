/* Whole networks through the public interface: the JIT against the interpreter, bit for bit and on several threads, and objects for other
 * architectures under qemu-user. The networks are small SpineNets written by examples/spinenet. */
#include "object.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Net { spinec_diagnostics *d; spinec_model *m; spinec_tensor in, out[16]; size_t in_bytes, out_bytes[16]; int nout; } Net;

static const char *message(const Net *n) { return spinec_diagnostics_count(n->d) ? spinec_diagnostics_text(n->d, 0) : "(no message)"; }

static void net_open(Net *n, Work *w, const char *options) {
  char path[300];
  memset(n, 0, sizeof *n);
  if (!shell("%s %s -o %s >/dev/null", SPINENET_GEN, options, work_path(w, "net.onnx", path))) fail_msg("cannot make %s", options);
  n->d = spinec_diagnostics_new();
  if (spinec_load(path, NULL, &n->m, n->d)) fail_msg("%s: %s", options, message(n));
  n->in = spinec_model_input(n->m, 0);
  n->in_bytes = (size_t)spinec_tensor_count(&n->in) * 4;
  n->in.data = malloc(n->in_bytes);
  random_fill(&n->in, 7);
  n->nout = spinec_model_outputs(n->m);
  assert_in_range(n->nout, 1, 16);
  for (int i = 0; i < n->nout; i++) {
    n->out[i] = spinec_model_output(n->m, i);
    n->out_bytes[i] = (size_t)spinec_tensor_count(&n->out[i]) * 4;
    n->out[i].data = calloc(1, n->out_bytes[i]);
  }
}

static void net_close(Net *n) {
  for (int i = 0; i < n->nout; i++) free(n->out[i].data);
  free(n->in.data);
  spinec_model_free(n->m);
  spinec_diagnostics_free(n->d);
}

static spinec_program *compile(Net *n, const char *target, int threads) {
  spinec_program *p;
  spinec_compile_options o = spinec_compile_options_default();
  o.target = target;
  o.max_threads = threads;
  if (spinec_compile(n->m, &o, &p, n->d)) fail_msg("%s: %s", target, message(n));
  return p;
}

static void run(Net *n, const spinec_program *p, spinec_backend backend, int threads, spinec_tensor *out) {
  spinec_session *s;
  if (spinec_session_open(p, backend, threads, &s, n->d)) fail_msg("%s", message(n));
  for (int i = 0; i < 2; i++) {
    if (spinec_session_run(s, &n->in, out, n->d)) fail_msg("%s", message(n));
  }
  spinec_session_close(s);
}

static const char *const networks[] = {"--variant mobile-49XS --size 128", "--variant 49S --size 128",
                                       "--variant mobile-49S --size 128 --head classify --keep-bn"};

static void jit_equals_interpreter(void **state) {
  (void)state;
  for (int i = 0; i < COUNTOF(networks); i++) {
    Work w;
    Net n;
    work_open(&w);
    net_open(&n, &w, networks[i]);
    spinec_program *p = compile(&n, "native", 3);
    spinec_tensor got[16];
    memcpy(got, n.out, sizeof got);
    for (int k = 0; k < n.nout; k++) got[k].data = malloc(n.out_bytes[k]);
    run(&n, p, SPINEC_BACKEND_INTERP, 1, n.out);
    for (int threads = 1; threads <= 3; threads++) {
      run(&n, p, SPINEC_BACKEND_JIT, threads, got);
      for (int k = 0; k < n.nout; k++) {
        if (memcmp(got[k].data, n.out[k].data, n.out_bytes[k])) fail_msg("%s on %d threads: output %d differs", networks[i], threads, k);
      }
    }
    for (int k = 0; k < n.nout; k++) free(got[k].data);
    spinec_program_free(p);
    net_close(&n);
    work_close(&w);
  }
}

/* Largest error over largest magnitude. */
static double error_of(const float *want, const float *got, size_t bytes) {
  double top = 0, worst = 0;
  for (size_t i = 0; i < bytes / 4; i++) {
    top = fmax(top, fabs((double)want[i]));
    worst = fmax(worst, isfinite(got[i]) ? fabs((double)want[i] - got[i]) : INFINITY);
  }
  return worst / top;
}

static void objects(void **state) {
  (void)state;
  for (int i = 0; i < 2 * nmachines; i++) {
    const Machine *m = &machines[i / 2];
    if (!usable(m)) continue;
    Work w;
    Net n;
    work_open(&w);
    net_open(&n, &w, networks[i % 2]);
    spinec_program *p = compile(&n, m->target, 1);
    run(&n, p, SPINEC_BACKEND_INTERP, 1, n.out);
    spinec_emit_options o = {.kind = SPINEC_EMIT_OBJ, .prefix = "m", .weights = i % 2 ? SPINEC_WEIGHTS_FILE : SPINEC_WEIGHTS_INLINE};
    if (spinec_emit(p, w.obj, &o, n.d)) fail_msg("%s", message(&n));
    void *got[16];
    for (int k = 0; k < n.nout; k++) got[k] = malloc(n.out_bytes[k]);
    Ports ports = {&n.in_bytes, n.out_bytes, 1, n.nout};
    driver_write(&w, &ports, &o);
    driver_run(&w, m, &ports, &n.in.data, got);
    for (int k = 0; k < n.nout; k++) {
      double error = error_of(n.out[k].data, got[k], n.out_bytes[k]);
      bool exact = !m->slack.libm && !m->slack.flush;
      if (!(error <= (exact ? 0 : 1e-5))) fail_msg("%s, %s: output %d is off by %g of its magnitude", m->target, networks[i % 2], k, error);
      free(got[k]);
    }
    spinec_program_free(p);
    net_close(&n);
    work_close(&w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(jit_equals_interpreter), cmocka_unit_test(objects)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
