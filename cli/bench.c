/* bench.c: spinec bench: warm-up, timed inferences, statistics; with --profile, time per kernel. Several backends take turns, run by run, so
 * that whatever else the machine does meets them alike. */
#include "profile.h"

#include <stdlib.h>

/* One backend. */
typedef struct Lane {
  spinec_backend backend;
  spinec_session *s;
  double compile_ms, *ms;   /* until ready, loading included; per run */
  Profile profile;          /* call_ns NULL without --profile */
} Lane;

typedef struct Bench {
  Model m;
  Tensors in, out;
  spinec_diagnostics *d;
  Lane lane[MAX_BACKENDS];
  int lanes, n;             /* runs */
  int threads;
} Bench;

static int open_sessions(Options *o, Bench *b) {
  int64_t t = time_ns();
  int status = model_load(o, o->paths[0], &b->m);
  if (!status) status = model_compile(o, &b->m);
  if (status) return status;
  double compiled_ms = (double)(time_ns() - t) / 1e6;
  spinec_status s = SPINEC_OK;
  for (int i = 0; i < o->nbackends && !s; i++) {
    Lane *l = &b->lane[b->lanes++];
    l->backend = o->backends[i];
    t = time_ns();
    s = spinec_session_open(b->m.program, l->backend, b->threads, &l->s, b->d);
    l->compile_ms = compiled_ms + (double)(time_ns() - t) / 1e6;
  }
  if (!s && !(inputs_read(o, b->m.model, &b->in) && outputs_new(b->m.model, &b->out))) return EXIT_FAILED;
  return print_diagnostics(b->d, s);
}

static spinec_status run(Bench *b, const Lane *l, double *ms) {
  int64_t t = time_ns();
  spinec_status s = spinec_session_run(l->s, b->in.t, b->out.t, b->d);
  *ms = (double)(time_ns() - t) / 1e6;
  return s;
}

/* Two warm-up runs of each, then what was asked for, or enough for about two seconds (at least 5, at most 1000). */
static spinec_status measure(const Options *o, Bench *b) {
  double ms = 0, round = 0;
  spinec_status s = SPINEC_OK;
  for (int i = 0; i < b->lanes && !s; i++) {
    s = run(b, &b->lane[i], &ms);
    if (!s) s = run(b, &b->lane[i], &ms);
    round += ms;
  }
  b->n = o->iters ? o->iters : (int)(2000 / (round > 0.01 ? round : 0.01));
  if (!o->iters) b->n = b->n < 5 ? 5 : b->n > 1000 ? 1000 : b->n;
  for (int i = 0; i < b->lanes; i++)
    if (!(b->lane[i].ms = calloc((size_t)b->n, sizeof(double)))) return SPINEC_ERR_MEMORY;
  for (int r = 0; r < b->n; r++)
    for (int i = 0; i < b->lanes && !s; i++) s = run(b, &b->lane[i], &b->lane[i].ms[r]);
  return s;
}

static spinec_status profile(Bench *b, Lane *l) {
  int calls = spinec_program_get_info(b->m.program).calls, runs = b->n < 11 ? b->n : 11;
  double *all = calloc((size_t)calls * (size_t)runs + 1, sizeof *all), *column = calloc((size_t)runs, sizeof *column);
  double *ns = calloc((size_t)calls + 1, sizeof *ns);
  spinec_status s = all && column && ns ? SPINEC_OK : SPINEC_ERR_MEMORY;
  for (int r = 0; r < runs && !s; r++) s = spinec_session_profile(l->s, b->in.t, b->out.t, all + (size_t)r * (size_t)calls, b->d);
  for (int c = 0; c < calls && !s; c++) {
    for (int r = 0; r < runs; r++) column[r] = all[(size_t)r * (size_t)calls + (size_t)c];
    ns[c] = time_stats(column, runs).median;
  }
  free(all);
  free(column);
  l->profile = (Profile){.program = b->m.program, .call_ns = ns};
  return s ? s : spinec_measure_machine(b->m.program, l->backend, b->threads, &l->profile.peak, b->d);
}

static double gflops(const Bench *b, const TimeStats *t) { return 2e-6 * (double)spinec_program_get_info(b->m.program).macs / t->median; }

static void report_text(const Bench *b, const Lane *l) {
  TimeStats t = time_stats(l->ms, b->n);
  printf("%s, %d thread%s: median %.3f ms, min %.3f, p95 %.3f over %d runs; %.1f GFLOP/s; ready after %.0f ms\n", backend_name(l->backend), b->threads,
         b->threads > 1 ? "s" : "", t.median, t.min, t.p95, b->n, gflops(b, &t), l->compile_ms);
  if (l->profile.call_ns) profile_print(&l->profile);
}

static json_t *report_json(const Options *o, const Bench *b, const Lane *l) {
  TimeStats t = time_stats(l->ms, b->n);
  json_t *j = json_pack("{s:s, s:s, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f}", "model", o->paths[0], "backend", backend_name(l->backend), "threads",
                        b->threads, "iters", b->n, "min_ms", t.min, "median_ms", t.median, "p95_ms", t.p95, "mean_ms", t.mean, "compile_ms",
                        l->compile_ms, "gflops", gflops(b, &t));
  if (j && l->profile.call_ns) profile_add_json(&l->profile, j);
  return j;
}

/* JSON: an object, or a list of them when several backends were asked for. */
static void report(const Options *o, const Bench *b) {
  if (!o->json) {
    for (int i = 0; i < b->lanes; i++) report_text(b, &b->lane[i]);
    return;
  }
  json_t *j = b->lanes == 1 ? report_json(o, b, &b->lane[0]) : json_array();
  for (int i = 0; i < b->lanes && b->lanes > 1; i++) json_array_append_new(j, report_json(o, b, &b->lane[i]));
  json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
  printf("\n");
  json_decref(j);
}

int command_bench(Options *o) {
  Bench b = {.d = spinec_diagnostics_new(), .threads = o->threads ? o->threads : 1};
  int status = open_sessions(o, &b);
  if (!status) {
    spinec_status s = measure(o, &b);
    for (int i = 0; i < b.lanes && !s && o->profile; i++) s = profile(&b, &b.lane[i]);
    status = print_diagnostics(b.d, s);
  }
  if (!status) report(o, &b);
  for (int i = 0; i < b.lanes; i++) {
    spinec_session_close(b.lane[i].s);
    free(b.lane[i].ms);
    free(b.lane[i].profile.call_ns);
  }
  tensors_free(&b.in);
  tensors_free(&b.out);
  model_free(&b.m);
  spinec_diagnostics_free(b.d);
  return status;
}
