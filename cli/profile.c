/* profile.c: what a profile says: time per kernel, beside the machine's best, and totals per operator. */
#include "profile.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Calls of one kind of ONNX operator. */
typedef struct Kind { const char *op; int calls; double ns, flops, bytes; } Kind;

/* Totals per operator of the first ONNX node of each call, the longest first; *n of them, malloc'ed; NULL: out of memory. */
static Kind *kinds(const Profile *p, int *n) {
  int calls = spinec_program_get_info(p->program).calls;
  Kind *k = calloc((size_t)calls + 1, sizeof *k);
  *n = 0;
  for (int i = 0; i < calls && k; i++) {
    char origin[8];
    spinec_call_info c = spinec_program_get_call(p->program, i, origin, sizeof origin);
    int at = 0;
    while (at < *n && strcmp(k[at].op, c.onnx_op)) at++;
    if (at == *n) k[(*n)++].op = c.onnx_op;
    k[at].calls++;
    k[at].ns += p->call_ns[i];
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

void profile_print(const Profile *p) {
  spinec_program_info info = spinec_program_get_info(p->program);
  double total = 0;
  for (int i = 0; i < info.calls; i++) total += p->call_ns[i];
  printf("measured here: at most %.1f GFLOP/s in registers, %.1f GB/s from memory\n", p->peak.flops / 1e9, p->peak.bytes / 1e9);
  printf("\n%9s %6s %8s %5s %7s %5s  %-44s %s\n", "us", "%", "GFLOP/s", "peak%", "GB/s", "mem%", "kernel", "from");
  for (int i = 0; i < info.calls; i++) {
    char origin[400];
    spinec_call_info c = spinec_program_get_call(p->program, i, origin, sizeof origin);
    double ns = p->call_ns[i] > 0 ? p->call_ns[i] : 1;
    printf("%9.1f %6.1f %8.1f %5.0f %7.1f %5.0f  %-44.44s %s\n", ns / 1e3, percent(ns, total), c.flops / ns, percent(c.flops / ns * 1e9, p->peak.flops),
           c.bytes / ns, percent(c.bytes / ns * 1e9, p->peak.bytes), c.what, origin);
  }
  int n;
  Kind *k = kinds(p, &n);
  printf("\n%9s %6s %8s %5s %7s %5s  %5s  %s\n", "us", "%", "GFLOP/s", "peak%", "GB/s", "mem%", "calls", "operator");
  for (int i = 0; i < n && k; i++) {
    double ns = k[i].ns > 0 ? k[i].ns : 1;
    printf("%9.1f %6.1f %8.1f %5.0f %7.1f %5.0f  %5d  %s\n", ns / 1e3, percent(ns, total), k[i].flops / ns, percent(k[i].flops / ns * 1e9, p->peak.flops),
           k[i].bytes / ns, percent(k[i].bytes / ns * 1e9, p->peak.bytes), k[i].calls, *k[i].op ? k[i].op : "(none)");
  }
  free(k);
}

static json_t *kinds_json(const Profile *p) {
  int n;
  Kind *k = kinds(p, &n);
  json_t *list = json_array();
  for (int i = 0; i < n && k; i++)
    json_array_append_new(list, json_pack("{s:s, s:i, s:f, s:f, s:f}", "op", k[i].op, "calls", k[i].calls, "us", k[i].ns / 1e3, "flops", k[i].flops, "bytes",
                                          k[i].bytes));
  free(k);
  return list;
}

static json_t *calls_json(const Profile *p) {
  json_t *list = json_array();
  int calls = spinec_program_get_info(p->program).calls;
  for (int i = 0; i < calls; i++) {
    char origin[400];
    spinec_call_info c = spinec_program_get_call(p->program, i, origin, sizeof origin);
    json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:f, s:f, s:f}", "kernel", c.kernel, "what", c.what, "origin", origin, "us",
                                          p->call_ns[i] / 1e3, "flops", c.flops, "bytes", c.bytes));
  }
  return list;
}

void profile_add_json(const Profile *p, json_t *to) {
  json_object_set_new(to, "profile", calls_json(p));
  json_object_set_new(to, "operators", kinds_json(p));
  json_object_set_new(to, "machine", json_pack("{s:f, s:f}", "flops_per_s", p->peak.flops, "bytes_per_s", p->peak.bytes));
}
