/* inspect.c: spinec inspect: what a model is made of and what it costs, as compiled for a target. */
#include "cli.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef struct OpCount { const char *op; int n; int64_t macs; } OpCount;

static int by_cost(const void *pa, const void *pb) {
  const OpCount *a = pa, *b = pb;
  if (a->macs != b->macs) return a->macs < b->macs ? 1 : -1;
  if (a->n != b->n) return b->n - a->n;
  return strcmp(a->op, b->op);
}

static OpCount *count_ops(const spinec_model *m, int *kinds) {
  int nodes = spinec_model_nodes(m);
  OpCount *c = calloc((size_t)nodes + 1, sizeof *c);
  *kinds = 0;
  for (int i = 0; c && i < nodes; i++) {
    spinec_node_info n = spinec_model_node(m, i);
    int k = 0;
    while (k < *kinds && strcmp(c[k].op, n.op)) k++;
    if (k == *kinds) c[(*kinds)++].op = n.op;
    c[k].n++;
    c[k].macs += n.macs;
  }
  if (c) qsort(c, (size_t)*kinds, sizeof *c, by_cost);
  return c;
}

static json_t *shape_json(const spinec_tensor *t) {
  json_t *a = json_array();
  for (int i = 0; i < t->rank; i++) json_array_append_new(a, json_integer(t->dims[i]));
  return a;
}

static json_t *port_json(const char *name, spinec_tensor t) {
  return json_pack("{s:s, s:s, s:o}", "name", name, "type", spinec_dtype_name(t.dtype), "shape", shape_json(&t));
}

static json_t *buffer_json(spinec_buffer_info b) {
  return json_pack("{s:s, s:I, s:I, s:i, s:i, s:b, s:i}", "name", b.name, "bytes", (json_int_t)b.bytes, "offset", (json_int_t)b.offset, "first", b.first,
                   "last", b.last, "scratch", b.scratch, "part_of", b.whole);
}

/* The call at which most is alive. */
static int peak_call(const spinec_program *p, int calls) {
  int peak = 0;
  for (int t = 1; t < calls; t++)
    if (spinec_program_get_live(p, t) > spinec_program_get_live(p, peak)) peak = t;
  return peak;
}

static void print_json(const Options *o, const Model *m, const OpCount *ops, int kinds) {
  spinec_program_info i = spinec_program_get_info(m->program);
  json_t *in = json_array(), *out = json_array(), *list = json_object(), *nodes = json_array(), *buffers = json_array(),
         *live = json_array();
  for (int k = 0; k < spinec_model_inputs(m->model); k++) json_array_append_new(in, port_json(spinec_model_input_name(m->model, k), spinec_model_input(m->model, k)));
  for (int k = 0; k < spinec_model_outputs(m->model); k++)
    json_array_append_new(out, port_json(spinec_model_output_name(m->model, k), spinec_model_output(m->model, k)));
  for (int k = 0; k < kinds; k++) json_object_set_new(list, ops[k].op, json_integer(ops[k].n));
  for (int k = 0; k < spinec_model_nodes(m->model); k++) {
    spinec_node_info n = spinec_model_node(m->model, k);
    json_array_append_new(nodes, json_pack("{s:s, s:s, s:s, s:o, s:I}", "op", n.op, "name", n.name, "type", spinec_dtype_name(n.result.dtype), "shape",
                                           shape_json(&n.result), "macs", (json_int_t)n.macs));
  }
  for (int k = 0; k < i.buffers; k++) json_array_append_new(buffers, buffer_json(spinec_program_get_buffer(m->program, k)));
  for (int k = 0; k < i.calls; k++) json_array_append_new(live, json_integer(spinec_program_get_live(m->program, k)));
  json_t *j = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "model", o->paths[0], "macs", (json_int_t)i.macs, "params",
                        (json_int_t)i.params, "workspace_bytes", (json_int_t)i.workspace_bytes, "live_bytes", (json_int_t)i.live_bytes,
                        "given_live_bytes", (json_int_t)i.given_live_bytes, "weight_bytes", (json_int_t)i.weight_bytes, "kernels", i.kernels, "calls", i.calls,
                        "peak_call", peak_call(m->program, i.calls), "operators", list, "inputs", in, "outputs", out, "nodes", nodes, "buffers", buffers, "live",
                        live);
  json_dumpf(j, stdout, JSON_INDENT(2));
  printf("\n");
  json_decref(j);
}

static void print_port(const char *what, const char *name, spinec_tensor t) {
  printf("%-8s %-24s %s [", what, name, spinec_dtype_name(t.dtype));
  for (int i = 0; i < t.rank; i++) printf("%s%lld", i ? "x" : "", (long long)t.dims[i]);
  printf("]\n");
}

static double percent(int64_t a, int64_t b) { return b ? 100.0 * (double)a / (double)b : 0; }

static void print_memory(const Model *m, const spinec_program_info *i) {
  int peak = peak_call(m->program, i->calls);
  char origin[96];
  if (!i->buffers) return;
  spinec_call_info c = spinec_program_get_call(m->program, peak, origin, sizeof origin);
  printf("\nmost is alive at call %d: %s (%s)\n\n%14s %14s %11s    %s\n", peak, origin, c.what, "bytes", "at", "calls", "tensor (*: alive then)");
  for (int k = 0; k < i->buffers; k++) {
    spinec_buffer_info b = spinec_program_get_buffer(m->program, k);
    printf("%14lld %14lld %5d-%-5d %c  ", (long long)b.bytes, (long long)b.offset, b.first, b.last, b.first <= peak && peak <= b.last ? '*' : ' ');
    if (b.scratch) printf("(scratch)");
    else printf("%s", *b.name ? b.name : "(unnamed)");
    if (b.whole >= 0) printf(" in %s", *spinec_program_get_buffer(m->program, b.whole).name ? spinec_program_get_buffer(m->program, b.whole).name : "(unnamed)");
    printf("\n");
  }
}

static void print_text(const Options *o, const Model *m, const OpCount *ops, int kinds) {
  spinec_program_info i = spinec_program_get_info(m->program);
  printf("%s\n\n", o->paths[0]);
  for (int k = 0; k < spinec_model_inputs(m->model); k++) print_port("input", spinec_model_input_name(m->model, k), spinec_model_input(m->model, k));
  for (int k = 0; k < spinec_model_outputs(m->model); k++) print_port("output", spinec_model_output_name(m->model, k), spinec_model_output(m->model, k));
  printf("\n%-24s %6s %12s\n", "operator", "nodes", "M mult-adds");
  for (int k = 0; k < kinds; k++) printf("%-24s %6d %12.2f\n", ops[k].op, ops[k].n, (double)ops[k].macs / 1e6);
  printf("\nmultiply-adds   %.3f G\nparameters      %.3f M\nweights packed  %.2f MB\nworkspace       %.3f MB (largest live set %.3f MB)\n", (double)i.macs / 1e9,
         (double)i.params / 1e6, (double)i.weight_bytes / 1e6, (double)i.workspace_bytes / 1e6, (double)i.live_bytes / 1e6);
  if (i.given_live_bytes != i.live_bytes)
    printf("                in the model's order %.3f MB: reordering saves %.1f%%\n", (double)i.given_live_bytes / 1e6,
           percent(i.given_live_bytes - i.live_bytes, i.given_live_bytes));
  printf("kernels         %d distinct, %d calls\n", i.kernels, i.calls);
  if (o->memory) print_memory(m, &i);
}

int command_inspect(Options *o) {
  Model m;
  int kinds = 0, status = model_load(o, o->paths[0], &m);
  if (!status) status = model_compile(o, &m);
  OpCount *ops = status ? NULL : count_ops(m.model, &kinds);
  if (ops) (o->json ? print_json : print_text)(o, &m, ops, kinds);
  free(ops);
  model_free(&m);
  return status;
}
