/* conformance.c: spinec conformance: ONNX backend test folders (model.onnx beside test_data_set_K/{input,output}_J.pb).
 *
 * A case passes if every data set's outputs are within tolerance; it is skipped if spinec refuses the model with a message; anything else is
 * a failure. Operands that a test hands in but a compiler must know (a Reshape's shape) are bound to the data set's values.
 * Cases run in child processes, so that a crash or a hang is one failed case: each child takes cases from its share and reports a line per
 * case over a pipe; when one dies, the case it was on is named and another child goes on with the next.
 */
#define _GNU_SOURCE
#include "cli.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_PORTS = 64, CASE_SECONDS = 120, REASON = 400 };
typedef enum { PASSED, FAILED, SKIPPED } Verdict;
static const char *const verdict_names[] = {"passed", "FAILED", "skipped"};

typedef struct Case { char *dir; Verdict verdict; bool done; char reason[REASON]; } Case;
typedef struct Cases { Case *at; int n, cap; } Cases;

/* ---- finding cases ---- */

static char *path_join(const char *dir, const char *name) {
  size_t n = strlen(dir) + strlen(name) + 2;
  char *s = malloc(n);
  if (s) snprintf(s, n, "%s/%s", dir, name);
  return s;
}

static bool exists(const char *dir, const char *name) {
  char *p = path_join(dir, name);
  bool yes = p && access(p, R_OK) == 0;
  free(p);
  return yes;
}

static bool is_folder(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static void add_case(Cases *c, const char *dir) {
  if (c->n == c->cap) {
    int cap = c->cap ? 2 * c->cap : 256;
    Case *at = realloc(c->at, (size_t)cap * sizeof *at);
    if (!at) return;
    c->at = at;
    c->cap = cap;
  }
  c->at[c->n] = (Case){.dir = strdup(dir)};
  c->n += c->at[c->n].dir != NULL;
}

static void find_cases(Cases *c, const char *dir, int depth) {
  if (exists(dir, "model.onnx")) {
    add_case(c, dir);
    return;
  }
  struct dirent **names;
  int n = depth < 8 ? scandir(dir, &names, NULL, alphasort) : -1;
  for (int i = 0; i < n; i++) {
    char *p = names[i]->d_name[0] == '.' ? NULL : path_join(dir, names[i]->d_name);
    if (p && is_folder(p)) find_cases(c, p, depth + 1);
    free(p);
    free(names[i]);
  }
  if (n >= 0) free(names);
}

static const char *case_name(const Case *c) {
  const char *slash = strrchr(c->dir, '/');
  return slash && slash[1] ? slash + 1 : c->dir;
}

/* Keeps the cases a list file names. */
static bool keep_listed(Cases *c, const char *path) {
  FILE *f = fopen(path, "r");
  if (!f) return fprintf(stderr, "spinec: %s: %s\n", path, strerror(errno)), false;
  bool *keep = calloc((size_t)c->n + 1, sizeof *keep);
  char line[4096];
  while (keep && fgets(line, sizeof line, f)) {
    line[strcspn(line, "#\r\n")] = 0;
    for (size_t n = strlen(line); n && (line[n - 1] == ' ' || line[n - 1] == '\t');) line[--n] = 0;
    bool found = !*line;
    for (int i = 0; i < c->n; i++)
      if (!strcmp(case_name(&c->at[i]), line) || !strcmp(c->at[i].dir, line)) keep[i] = found = true;
    if (!found) fprintf(stderr, "spinec: %s: no case '%s'\n", path, line);
  }
  fclose(f);
  int n = 0;
  for (int i = 0; keep && i < c->n; i++) {
    if (keep[i]) c->at[n++] = c->at[i];
    else free(c->at[i].dir);
  }
  c->n = n;
  free(keep);
  return true;
}

/* ---- one case ---- */

typedef struct DataSet { spinec_tensor in[MAX_PORTS], out[MAX_PORTS]; int nin, nout; } DataSet;

static void data_set_free(DataSet *s) {
  for (int i = 0; i < s->nin; i++) free(s->in[i].data);
  for (int i = 0; i < s->nout; i++) free(s->out[i].data);
}

static spinec_status read_tensors(const char *dir, const char *kind, spinec_tensor *t, int *n, spinec_diagnostics *d) {
  for (*n = 0; *n < MAX_PORTS; (*n)++) {
    char name[40];
    snprintf(name, sizeof name, "%s_%d.pb", kind, *n);
    if (!exists(dir, name)) break;
    char *p = path_join(dir, name);
    spinec_status s = p ? spinec_read_tensor_proto(p, &t[*n], d) : SPINEC_ERR_MEMORY;
    free(p);
    if (s) return s;
  }
  return SPINEC_OK;
}

static Verdict say(Case *c, Verdict v, const char *why) {
  snprintf(c->reason, sizeof c->reason, "%s", why);
  for (char *p = c->reason; *p; p++)
    if (*p == '\n') *p = ' ';
  return v;
}

static Verdict from_status(Case *c, spinec_status s, const spinec_diagnostics *d) {
  const char *why = spinec_diagnostics_count(d) ? spinec_diagnostics_text(d, 0) : "no message";
  /* A refusal says where and why; all else is our fault. */
  bool refused = (s == SPINEC_ERR_UNSUPPORTED || s == SPINEC_ERR_INPUT) && spinec_diagnostics_count(d);
  return say(c, refused ? SKIPPED : FAILED, why);
}

/* Loads with the data set's shapes, binding operands as asked until it loads. Inputs bound are marked. */
static spinec_status load_bound(const char *path, const DataSet *set, bool bound[MAX_PORTS], spinec_model **m, spinec_diagnostics **d) {
  spinec_shape_binding shapes[MAX_PORTS] = {0};
  spinec_value_binding bind[MAX_PORTS] = {0};
  char *names[MAX_PORTS];
  int nbind = 0;
  spinec_status s;
  for (int i = 0; i < set->nin; i++) {
    shapes[i].rank = set->in[i].rank;
    memcpy(shapes[i].dims, set->in[i].dims, sizeof shapes[i].dims);
  }
  for (;;) {
    spinec_load_options o = {.shapes = shapes, .nshapes = set->nin, .bind = bind, .nbind = nbind};
    *d = spinec_diagnostics_new();
    s = spinec_load(path, &o, m, *d);
    int before = nbind;
    for (int k = 0; nbind < MAX_PORTS && spinec_diagnostics_unbound_input(*d, k); k++) {
      int i = spinec_diagnostics_unbound_position(*d, k);
      if (i < 0 || i >= set->nin || bound[i]) continue;
      bind[nbind].name = names[nbind] = strdup(spinec_diagnostics_unbound_input(*d, k));
      bind[nbind++].value = set->in[i];
      bound[i] = true;
    }
    if (!s || nbind == before) break;
    spinec_diagnostics_free(*d);
  }
  while (nbind > 0) free(names[--nbind]);
  return s;
}

static Verdict compare_all(const Options *o, Case *c, const spinec_model *m, const Tensors *got, const DataSet *set) {
  double rtol = o->rtol >= 0 ? o->rtol : 1e-3, atol = o->atol >= 0 ? o->atol : 1e-5;
  for (int i = 0; i < got->n && i < set->nout; i++) {
    Difference d = tensor_compare(&got->t[i], &set->out[i], rtol, atol, true);
    if (!d.reason && !d.wrong) continue;
    char why[REASON];
    snprintf(why, sizeof why, "output '%s': %s (%lld of %lld elements, largest error %.3g of %.3g)", spinec_model_output_name(m, i),
             d.reason ? d.reason : "wrong", (long long)d.wrong, (long long)spinec_tensor_count(&set->out[i]), d.max_abs, d.magnitude);
    return say(c, FAILED, why);
  }
  if (got->n != set->nout) return say(c, FAILED, "another number of outputs than the test has");
  return PASSED;
}

static Verdict run_set(const Options *o, Case *c, const char *set_dir) {
  DataSet set = {0};
  Model m = {0};
  Tensors out = {0};
  spinec_session *s = NULL;
  bool bound[MAX_PORTS] = {false};
  char *path = path_join(c->dir, "model.onnx");
  spinec_diagnostics *d = spinec_diagnostics_new();
  spinec_status st = read_tensors(set_dir, "input", set.in, &set.nin, d);
  if (!st) st = read_tensors(set_dir, "output", set.out, &set.nout, d);
  Verdict v = st ? from_status(c, SPINEC_ERR_UNSUPPORTED, d) : PASSED;
  if (!st) {
    spinec_diagnostics_free(d);
    st = load_bound(path, &set, bound, &m.model, &d);
    spinec_compile_options co = o->compile;
    co.max_threads = o->threads ? o->threads : 1;
    if (!st) st = spinec_compile(m.model, &co, &m.program, d);
    if (!st) st = spinec_session_open(m.program, o->backend, co.max_threads, &s, d);
    spinec_tensor in[MAX_PORTS];
    int n = 0;
    for (int i = 0; i < set.nin; i++)
      if (!bound[i]) in[n++] = set.in[i];
    if (!st && n != spinec_model_inputs(m.model)) v = say(c, FAILED, "another number of inputs than the test has");
    else if (!st && !outputs_new(m.model, &out)) v = say(c, FAILED, "out of memory");
    else {
      if (!st) st = spinec_session_run(s, in, out.t, d);
      v = st ? from_status(c, st, d) : compare_all(o, c, m.model, &out, &set);
    }
  }
  spinec_session_close(s);
  tensors_free(&out);
  model_free(&m);
  data_set_free(&set);
  spinec_diagnostics_free(d);
  free(path);
  return v;
}

static Verdict run_case(const Options *o, Case *c) {
  Verdict v = say(c, FAILED, "no test_data_set folder");
  for (int k = 0;; k++) {
    char name[40];
    snprintf(name, sizeof name, "test_data_set_%d", k);
    char *dir = path_join(c->dir, name);
    bool there = dir && is_folder(dir);
    if (there) v = run_set(o, c, dir);
    free(dir);
    if (!there || v != PASSED) return v;
  }
}

/* ---- children ---- */

typedef struct Child { pid_t pid; FILE *from; int next, current; } Child;

/* The child's part: cases next, next + step, ... One line "index verdict reason" each. */
static void child_main(const Options *o, Cases *cases, int next, int step, int fd) {
  FILE *f = fdopen(fd, "w");
  int null = open("/dev/null", O_WRONLY);
  if (null >= 0) dup2(null, 2);
  for (int i = next; f && i < cases->n; i += step) {
    alarm(CASE_SECONDS);
    Verdict v = run_case(o, &cases->at[i]);
    fprintf(f, "%d %d %s\n", i, (int)v, v == PASSED ? "" : cases->at[i].reason);
    fflush(f);
  }
  _exit(f ? 0 : 1);
}

static bool child_start(Child *c, const Options *o, Cases *cases, int step) {
  int fd[2];
  *c = (Child){.next = c->next};
  if (c->next >= cases->n || pipe(fd)) return false;
  fflush(stdout);
  fflush(stderr);
  c->pid = fork();
  if (c->pid < 0) return close(fd[0]), close(fd[1]), false;
  if (c->pid == 0) {
    close(fd[0]);
    child_main(o, cases, c->next, step, fd[1]);
  }
  close(fd[1]);
  c->from = fdopen(fd[0], "r");
  return c->from != NULL;
}

/* Takes one line; false when the child is gone (then its case in progress is settled). */
static bool child_read(Child *c, Cases *cases, int step) {
  char line[REASON + 64];
  int i, v, at;
  if (fgets(line, sizeof line, c->from) && sscanf(line, "%d %d %n", &i, &v, &at) >= 2 && i >= 0 && i < cases->n && v >= 0 && v <= 2) {
    line[strcspn(line, "\n")] = 0;
    cases->at[i].verdict = (Verdict)v;
    cases->at[i].done = true;
    snprintf(cases->at[i].reason, REASON, "%s", line + at);
    c->next = i + step;
    return true;
  }
  int status = 0;
  fclose(c->from);
  waitpid(c->pid, &status, 0);
  c->pid = 0;
  if (c->next < cases->n) {
    Case *k = &cases->at[c->next];
    k->done = true;
    k->verdict = FAILED;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) snprintf(k->reason, REASON, "still running after %d s", CASE_SECONDS);
    else if (WIFSIGNALED(status)) snprintf(k->reason, REASON, "crashed: %s", strsignal(WTERMSIG(status)));
    else snprintf(k->reason, REASON, "exited with status %d", WEXITSTATUS(status));
    c->next += step;
  }
  return false;
}

static void run_all(const Options *o, Cases *cases, int jobs) {
  Child child[64] = {0};
  int alive = 0;
  bool bar = !o->quiet && isatty(2);
  for (int j = 0; j < jobs; j++) {
    child[j].next = j;
    alive += child_start(&child[j], o, cases, jobs);
  }
  while (alive > 0) {
    struct pollfd p[64];
    int who[64], n = 0, done = 0;
    for (int j = 0; j < jobs; j++)
      if (child[j].pid) p[n] = (struct pollfd){fileno(child[j].from), POLLIN, 0}, who[n++] = j;
    if (poll(p, (nfds_t)n, -1) < 0 && errno != EINTR) break;
    for (int k = 0; k < n; k++) {
      if (!p[k].revents || child_read(&child[who[k]], cases, jobs)) continue;
      alive += child_start(&child[who[k]], o, cases, jobs) - 1;
    }
    for (int i = 0; i < cases->n; i++) done += cases->at[i].done;
    if (bar) fprintf(stderr, "\r%d of %d", done, cases->n), fflush(stderr);
  }
  if (bar) fprintf(stderr, "\r\033[K");
}

static bool write_report(const char *path, const Cases *cases) {
  char err[RT_ERR_MAX];
  OutFile f;
  if (outfile_open(&f, path, err)) return fprintf(stderr, "spinec: %s\n", err), false;
  for (int i = 0; i < cases->n; i++) {
    const Case *c = &cases->at[i];
    fprintf(f.f, "%s %s%s%s\n", verdict_names[c->verdict], case_name(c), *c->reason ? ": " : "", c->reason);
  }
  if (outfile_commit(&f, err)) return fprintf(stderr, "spinec: %s\n", err), false;
  return true;
}

int command_conformance(Options *o) {
  Cases cases = {0};
  for (int i = 0; i < o->npaths; i++) {
    if (!is_folder(o->paths[i])) return fprintf(stderr, "spinec: %s: no such folder\n", o->paths[i]), EXIT_FAILED;
    find_cases(&cases, o->paths[i], 0);
  }
  if (o->list && !keep_listed(&cases, o->list)) return EXIT_FAILED;
  int count[3] = {0}, jobs = o->jobs ? o->jobs : cpu_detect().cores;
  run_all(o, &cases, jobs < 64 ? jobs : 64);
  for (int i = 0; i < cases.n; i++) {
    const Case *c = &cases.at[i];
    count[c->verdict]++;
    if (c->verdict != PASSED) printf("%s %s: %s\n", verdict_names[c->verdict], case_name(c), c->reason);
  }
  bool ok = count[FAILED] == 0 && (!o->report || write_report(o->report, &cases));
  if (cases.n == 0) ok = false, fprintf(stderr, "spinec: no test folders (model.onnx beside test_data_set_0) found\n");
  printf("%d passed, %d failed, %d skipped\n", count[PASSED], count[FAILED], count[SKIPPED]);
  for (int i = 0; i < cases.n; i++) free(cases.at[i].dir);
  free(cases.at);
  return ok ? EXIT_OK : EXIT_FAILED;
}
