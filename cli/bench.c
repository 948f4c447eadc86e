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
  spinec_machine peak;  /* with --profile */
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

static spinec_status profile(const Options *o, Bench *b) {
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
  return s ? s : spinec_measure_machine(b->m.program, o->backend, o->threads ? o->threads : 1, &b->peak, b->d);
}

/* Calls of one kind of ONNX operator. */
typedef struct Kind { const char *op; int calls; double ns, flops, bytes; } Kind;

/* Totals per operator of the first ONNX node of each call, the longest first; *n of them, malloc'ed; NULL: out of memory. */
static Kind *kinds(const Bench *b, int *n) {
  int calls = spinec_program_get_info(b->m.program).calls;
  Kind *k = calloc((size_t)calls + 1, sizeof *k);
  *n = 0;
  for (int i = 0; i < calls && k; i++) {
    char origin[8];
    spinec_call_info c = spinec_program_get_call(b->m.program, i, origin, sizeof origin);
    int at = 0;
    while (at < *n && strcmp(k[at].op, c.onnx_op)) at++;
    if (at == *n) k[(*n)++].op = c.onnx_op;
    k[at].calls++;
    k[at].ns += b->call_ns[i];
    k[at].flops += c.flops;
    k[at].bytes += c.bytes;
  }
  for (int i = 1; i < *n; i++)   /* a handful: by insertion, ties in order of appearance */
    for (int j = i; j > 0 && k[j].ns > k[j - 1].ns; j--) {
      Kind t = k[j];
      k[j] = k[j - 1];
      k[j - 1] = t;
    }
  return k;
}

static double percent(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

static void print_profile(const Bench *b) {
  spinec_program_info info = spinec_program_get_info(b->m.program);
  double total = 0;
  for (int i = 0; i < info.calls; i++) total += b->call_ns[i];
  printf("measured here: at most %.1f GFLOP/s in registers, %.1f GB/s from memory\n", b->peak.flops / 1e9, b->peak.bytes / 1e9);
  printf("\n%9s %6s %8s %5s %7s %5s  %-44s %s\n", "us", "%", "GFLOP/s", "peak%", "GB/s", "mem%", "kernel", "from");
  for (int i = 0; i < info.calls; i++) {
    char origin[400];
    spinec_call_info c = spinec_program_get_call(b->m.program, i, origin, sizeof origin);
    double ns = b->call_ns[i] > 0 ? b->call_ns[i] : 1;
    printf("%9.1f %6.1f %8.1f %5.0f %7.1f %5.0f  %-44.44s %s\n", ns / 1e3, percent(ns, total), c.flops / ns, percent(c.flops / ns * 1e9, b->peak.flops),
           c.bytes / ns, percent(c.bytes / ns * 1e9, b->peak.bytes), c.what, origin);
  }
  int n;
  Kind *k = kinds(b, &n);
  printf("\n%9s %6s %8s %5s %7s %5s  %5s  %s\n", "us", "%", "GFLOP/s", "peak%", "GB/s", "mem%", "calls", "operator");
  for (int i = 0; i < n && k; i++) {
    double ns = k[i].ns > 0 ? k[i].ns : 1;
    printf("%9.1f %6.1f %8.1f %5.0f %7.1f %5.0f  %5d  %s\n", ns / 1e3, percent(ns, total), k[i].flops / ns, percent(k[i].flops / ns * 1e9, b->peak.flops),
           k[i].bytes / ns, percent(k[i].bytes / ns * 1e9, b->peak.bytes), k[i].calls, *k[i].op ? k[i].op : "(none)");
  }
  free(k);
}

static json_t *kinds_json(const Bench *b) {
  int n;
  Kind *k = kinds(b, &n);
  json_t *list = json_array();
  for (int i = 0; i < n && k; i++)
    json_array_append_new(list, json_pack("{s:s, s:i, s:f, s:f, s:f}", "op", k[i].op, "calls", k[i].calls, "us", k[i].ns / 1e3, "flops", k[i].flops, "bytes",
                                          k[i].bytes));
  free(k);
  return list;
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
  if (j && b->call_ns) {
    json_object_set_new(j, "profile", profile_json(b));
    json_object_set_new(j, "operators", kinds_json(b));
    json_object_set_new(j, "machine", json_pack("{s:f, s:f}", "flops_per_s", b->peak.flops, "bytes_per_s", b->peak.bytes));
  }
  json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
  printf("\n");
  json_decref(j);
}

int command_bench(Options *o) {
  Bench b = {.d = spinec_diagnostics_new()};
  int status = open_session(o, &b);
  if (!status) {
    spinec_status s = measure(o, &b);
    if (!s && o->profile) s = profile(o, &b);
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
