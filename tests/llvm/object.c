/* tests/llvm/object.c: see object.h. */
#define _GNU_SOURCE
#include "object.h"

#include <stdlib.h>
#include <string.h>

const Machine machines[] = {
  {"x86-64-v2", "cc", "", {false, false}},
  {"x86-64-v3", "cc", "", {false, false}},
  {"armv8-a", "aarch64-linux-gnu-gcc -static", "qemu-aarch64", {true, false}},
  {"armv8.2-a+dotprod+fp16", "aarch64-linux-gnu-gcc -static", "qemu-aarch64", {true, false}},
  {"armv7-a+neon", "arm-linux-gnueabihf-gcc -static -mfpu=neon-vfpv4", "qemu-arm", {true, true}},
};
const int nmachines = COUNTOF(machines);

bool shell(const char *format, ...) {
  char command[2000];
  va_list ap;
  va_start(ap, format);
  int n = vsnprintf(command, sizeof command, format, ap);
  va_end(ap);
  assert_true(n > 0 && n < (int)sizeof command);
  return system(command) == 0;
}

bool have(const char *tool) { return !*tool || shell("command -v %.*s >/dev/null 2>&1", (int)strcspn(tool, " "), tool); }

bool usable(const Machine *m) {
  const Target *t = target_find(m->target), *here = target_find("native");
  bool runs = *m->run || (here->arch == t->arch && here->lanes >= t->lanes);
  if (runs && have(m->cc) && have(m->run)) return true;
  print_message("skipped: %s needs %s and %s\n", m->target, m->cc, *m->run ? m->run : "a processor that has it");
  return false;
}

/* ---- folders ---- */

void work_open(Work *w) {
  char err[RT_ERR_MAX];
  if (tempdir_new(&w->dir, err)) fail_msg("%s", err);
  work_path(w, "m.o", w->obj);
}

void work_close(Work *w) { tempdir_remove(w->dir); }

const char *work_path(Work *w, const char *name, char buf[300]) {
  snprintf(buf, 300, "%s/%s", w->dir, name);
  return buf;
}

/* ---- drivers ---- */

/* Splits every range in as many parts as there may be, last part first. */
static const char callback[] =
  "static void parallel(void *user, m_part *part, void *ctx, ptrdiff_t n, int max_threads) {\n"
  "  ++*(int *)user;\n"
  "  for (int t = max_threads - 1; t >= 0; t--) {\n"
  "    if (n * t / max_threads < n * (t + 1) / max_threads) part(ctx, n * t / max_threads, n * (t + 1) / max_threads, t);\n"
  "  }\n"
  "}\n";

static void arrays(FILE *f, const char *name, const size_t *bytes, int n) {
  for (int i = 0; i < n; i++) fprintf(f, "static unsigned char %s%d[%zu] ALIGNED;\n", name, i, bytes[i]);
}

static void members(FILE *f, const char *name, int n) {
  for (int i = 0; i < n; i++) fprintf(f, "%s(void *)%s%d", i ? ", " : "", name, i);
}

void driver_write(Work *w, const Ports *p, const spinec_emit_options *o) {
  char path[300];
  FILE *f = fopen(work_path(w, "main.c", path), "w");
  assert_non_null(f);
  bool file = o->weights == SPINEC_WEIGHTS_FILE, shared = o->threads == SPINEC_THREADS_CALLBACK;
  fprintf(f, "#include \"m.h\"\n#include <stdio.h>\n#include <string.h>\n#define ALIGNED __attribute__((aligned(64)))\n");
  fprintf(f, "static unsigned char workspace[M_WORKSPACE_BYTES + 1] ALIGNED;\n");
  if (file) fprintf(f, "static unsigned char weights[M_WEIGHTS_BYTES + 1] ALIGNED;\n");
  arrays(f, "in", p->in, p->nin);
  arrays(f, "out", p->out, p->nout);
  if (shared) fputs(callback, f);
  fprintf(f, "int main(int argc, char **argv) {\n  m_inputs in = {");
  members(f, "in", p->nin);
  fprintf(f, "};\n  m_outputs out = {");
  members(f, "out", p->nout);
  fprintf(f, "};\n  int calls = 0;\n  if (argc < 2) return 2;\n");
  for (int i = 0; i < p->nin; i++) fprintf(f, "  if (fread(in%d, 1, sizeof in%d, stdin) != sizeof in%d) return 3;\n", i, i, i);
  for (int i = 0; i < p->nout; i++) fprintf(f, "  memset(out%d, 0x55, sizeof out%d);\n", i, i);
  fprintf(f, "  memset(workspace, 0xff, sizeof workspace);\n");
  if (file) fprintf(f, "  FILE *f = fopen(argv[1], \"rb\");\n  if (!f || fread(weights, 1, M_WEIGHTS_BYTES, f) != M_WEIGHTS_BYTES) return 4;\n");
  fprintf(f, "  m_run(&in, &out%s, workspace%s);\n", file ? ", weights" : "", shared ? ", parallel, &calls" : "");
  for (int i = 0; i < p->nout; i++) fprintf(f, "  fwrite(out%d, 1, sizeof out%d, stdout);\n", i, i);
  fprintf(f, "  return %s;\n}\n", shared ? "calls > 0 ? 0 : 5" : "calls");
  fclose(f);
}

void driver_run(Work *w, const Machine *m, const Ports *p, void *const *in, void *const *out) {
  char path[300];
  FILE *f = fopen(work_path(w, "in", path), "wb");
  assert_non_null(f);
  for (int i = 0; i < p->nin; i++) fwrite(in[i], 1, p->in[i], f);
  fclose(f);
  if (!shell("cd %s && %s -w -O1 main.c m.o -lm -o prog", w->dir, m->cc)) fail_msg("%s: does not link", m->target);
  if (!shell("cd %s && %s ./prog m.weights.bin <in >out", w->dir, m->run)) fail_msg("%s: does not run", m->target);
  f = fopen(work_path(w, "out", path), "rb");
  assert_non_null(f);
  for (int i = 0; i < p->nout; i++) assert_int_equal(fread(out[i], 1, p->out[i], f), p->out[i]);
  fclose(f);
}
