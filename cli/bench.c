/* bench.c: spinec bench: warm-up, timed inferences, statistics; with --profile, time per kernel. */
#include "cli.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef struct Bench {
  Model m;
  Tensors in, out;
  spinec_session *s;
  spinec_diagnostics *d;
  double compile_ms, *ms;
  int n;
  double *call_ns;      /* per call, median over the profiled runs; NULL without --profile */
} Bench;

static int open_session(Options *o, Bench *b) {
  int64_t t = time_ns();
  int status = model_load(o, o->paths[0], &b->m);
  if (!status) status = model_compile(o, &b->m);
  if (status) return status;
  spinec_status s = spinec_session_open(b->m.program, o->backend, o->threads ? o->threads : 1, &b->s, b->d);
  b->compile_ms = (double)(time_ns() - t) / 1e6;
  if (!s && !(inputs_read(o, b->m.model, &b->in) && outputs_new(b->m.model, &b->out))) return EXIT_FAILED;
  return print_diagnostics(b->d, s);
}

static spinec_status run(Bench *b, double *ms) {
  int64_t t = time_ns();
  spinec_status s = spinec_session_run(b->s, b->in.t, b->out.t, b->d);
  *ms = (double)(time_ns() - t) / 1e6;
  return s;
}

/* Two warm-up runs, then what was asked for, or enough for about two seconds (at least 5, at most 1000). */
static spinec_status measure(const Options *o, Bench *b) {
  double ms = 0;
  spinec_status s = run(b, &ms);
  if (!s) s = run(b, &ms);
  b->n = o->iters ? o->iters : (int)(2000 / (ms > 0.01 ? ms : 0.01));
  if (!o->iters) b->n = b->n < 5 ? 5 : b->n > 1000 ? 1000 : b->n;
  b->ms = calloc((size_t)b->n, sizeof *b->ms);
  if (!b->ms) return SPINEC_ERR_MEMORY;
  for (int i = 0; i < b->n && !s; i++) s = run(b, &b->ms[i]);
  return s;
}

static spinec_status profile(Bench *b) {
  int calls = spinec_program_get_info(b->m.program).calls, runs = b->n < 11 ? b->n : 11;
  double *all = calloc((size_t)calls * (size_t)runs + 1, sizeof *all), *column = calloc((size_t)runs, sizeof *column);
  b->call_ns = calloc((size_t)calls + 1, sizeof *b->call_ns);
  spinec_status s = all && column && b->call_ns ? SPINEC_OK : SPINEC_ERR_MEMORY;
  for (int r = 0; r < runs && !s; r++) s = spinec_session_profile(b->s, b->in.t, b->out.t, all + (size_t)r * (size_t)calls, b->d);
  for (int c = 0; c < calls && !s; c++) {
    for (int r = 0; r < runs; r++) column[r] = all[(size_t)r * (size_t)calls + (size_t)c];
    b->call_ns[c] = time_stats(column, runs).median;
  }
  free(all);
  free(column);
  return s;
}

static void print_profile(const Bench *b) {
  spinec_program_info info = spinec_program_get_info(b->m.program);
  double total = 0;
  for (int i = 0; i < info.calls; i++) total += b->call_ns[i];
  printf("\n%9s %6s %8s %7s  %-44s %s\n", "us", "%", "GFLOP/s", "GB/s", "kernel", "from");
  for (int i = 0; i < info.calls; i++) {
    char origin[400];
    spinec_call_info c = spinec_program_get_call(b->m.program, i, origin, sizeof origin);
    double ns = b->call_ns[i] > 0 ? b->call_ns[i] : 1;
    printf("%9.1f %6.1f %8.1f %7.1f  %-44.44s %s\n", ns / 1e3, 100 * ns / total, c.flops / ns, c.bytes / ns, c.what, origin);
  }
}

static json_t *profile_json(const Bench *b) {
  json_t *list = json_array();
  int calls = spinec_program_get_info(b->m.program).calls;
  for (int i = 0; i < calls; i++) {
    char origin[400];
    spinec_call_info c = spinec_program_get_call(b->m.program, i, origin, sizeof origin);
    json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:f, s:f, s:f}", "kernel", c.kernel, "what", c.what, "origin", origin, "us",
                                          b->call_ns[i] / 1e3, "flops", c.flops, "bytes", c.bytes));
  }
  return list;
}

static void report(const Options *o, const Bench *b) {
  TimeStats t = time_stats(b->ms, b->n);
  spinec_program_info info = spinec_program_get_info(b->m.program);
  double gflops = 2e-6 * (double)info.macs / t.median;
  int threads = o->threads ? o->threads : 1;
  if (!o->json) {
    printf("%s, %d thread%s: median %.3f ms, min %.3f, p95 %.3f over %d runs; %.1f GFLOP/s; ready after %.0f ms\n", backend_name(o->backend), threads,
           threads > 1 ? "s" : "", t.median, t.min, t.p95, b->n, gflops, b->compile_ms);
    if (b->call_ns) print_profile(b);
    return;
  }
  json_t *j = json_pack("{s:s, s:s, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f}", "model", o->paths[0], "backend", backend_name(o->backend), "threads", threads,
                        "iters", b->n, "min_ms", t.min, "median_ms", t.median, "p95_ms", t.p95, "mean_ms", t.mean, "compile_ms", b->compile_ms,
                        "gflops", gflops);
  if (j && b->call_ns) json_object_set_new(j, "profile", profile_json(b));
  json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
  printf("\n");
  json_decref(j);
}

int command_bench(Options *o) {
  Bench b = {.d = spinec_diagnostics_new()};
  int status = open_session(o, &b);
  if (!status) {
    spinec_status s = measure(o, &b);
    if (!s && o->profile) s = profile(&b);
    status = print_diagnostics(b.d, s);
  }
  if (!status) report(o, &b);
  spinec_session_close(b.s);
  tensors_free(&b.in);
  tensors_free(&b.out);
  model_free(&b.m);
  spinec_diagnostics_free(b.d);
  free(b.ms);
  free(b.call_ns);
  return status;
}
