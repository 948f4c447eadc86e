/* options.c: one table of options, with the commands each belongs to; getopt_long does the parsing. */
#define _GNU_SOURCE
#include "cli.h"
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum {
  OPT_OUT = 'o', OPT_LEVEL = 'O', OPT_HELP = 'h', OPT_DUMP = 'd', OPT_QUIET = 'q',
  OPT_EMIT = 256, OPT_TARGET, OPT_SHAPE, OPT_DIM, OPT_BIND, OPT_PREFIX, OPT_WEIGHTS, OPT_THREADS, OPT_EMIT_TEST, OPT_C99, OPT_INPUT, OPT_EXPECT,
  OPT_OUTPUT_DIR, OPT_BACKEND, OPT_ITERS, OPT_PROFILE, OPT_JSON, OPT_RTOL, OPT_ATOL, OPT_LIST, OPT_REPORT, OPT_JOBS, OPT_SEED, OPT_MEAN, OPT_STD,
  OPT_LAYOUT, OPT_RESIZE, OPT_PRINT_AFTER, OPT_STOP_AFTER, OPT_DISABLE, OPT_BISECT, OPT_TIME_PASSES, OPT_STATS, OPT_MAX_THREADS, OPT_WINOGRAD, OPT_MAX_WEIGHTS, OPT_MAX_WORKSPACE, OPT_MEMORY
};

enum { RUNS = CMD_RUN | CMD_BENCH | CMD_VERIFY, FEEDS = RUNS, ONE = CMD_ALL & ~CMD_CONFORMANCE };

static const struct Row { const char *name; int id; const char *arg; int commands; const char *help; } rows[] = {
    {"output", OPT_OUT, "OUT", CMD_COMPILE, "the file to write; what belongs to it goes beside it"},
    {"emit", OPT_EMIT, "KIND", CMD_COMPILE, "c (default), obj, asm, so, llvm; ir or loops: our own IR as text"},
    {"target", OPT_TARGET, "NAME", CMD_ALL, "what to compile for (default: native; compile --emit c: generic)"},
    {NULL, OPT_LEVEL, "LEVEL", CMD_ALL, "0 plain, 1 fusion, 2 fast (default), 3"},
    {"winograd", OPT_WINOGRAD, "off|2|4|5|6|auto", CMD_ALL, "tile of Winograd 3x3 convolutions (default auto: where it pays)"},
    {"max-weights", OPT_MAX_WEIGHTS, "BYTES", CMD_ALL & ~CMD_CONFORMANCE, "bound on the packed weights (k, M, G suffixes)"},
    {"max-workspace", OPT_MAX_WORKSPACE, "BYTES", CMD_ALL & ~CMD_CONFORMANCE, "bound on the workspace (k, M, G suffixes)"},
    {"shape", OPT_SHAPE, "IN=1x3x640x640", ONE, "shape of an input"},
    {"dim", OPT_DIM, "N=1", ONE, "size of a symbolic dimension"},
    {"bind", OPT_BIND, "IN=FILE", ONE, "make an input a constant"},
    {"prefix", OPT_PREFIX, "NAME", CMD_COMPILE, "of every symbol (default: from the model's name)"},
    {"weights", OPT_WEIGHTS, "HOW", CMD_COMPILE, "inline: C arrays; file: a file to load or map; obj: an object to link"},
    {"threads", OPT_THREADS, "N|HOW", CMD_ALL & ~CMD_INSPECT, "compile: none, pthread, openmp, callback; else: how many, to 256 (default 1)"},
    {"max-threads", OPT_MAX_THREADS, "N", CMD_COMPILE, "threads the code may be run with, to 256 (default: 1, with --threads: 8)"},
    {"emit-test", OPT_EMIT_TEST, NULL, CMD_COMPILE, "add a self-check that runs on the target"},
    {"c99", OPT_C99, NULL, CMD_COMPILE, "write C99 rather than C11"},
    {"input", OPT_INPUT, "[NAME=]FILE", FEEDS, ".npy, .pb, .png or .jpg; by name or in order (default: seeded numbers)"},
    {"expect", OPT_EXPECT, "[NAME=]FILE", CMD_VERIFY, "expected output, .npy or .pb (default: what the interpreter gives)"},
    {"output-dir", OPT_OUTPUT_DIR, "DIR", CMD_RUN, "where OUTPUTNAME.npy go (default: here)"},
    {"backend", OPT_BACKEND, "WHICH", RUNS | CMD_CONFORMANCE, "jit, c or interp (default: jit where built in, else c); bench: a comma list takes turns"},
    {"iters", OPT_ITERS, "N", CMD_BENCH, "timed inferences (default: enough for two seconds)"},
    {"profile", OPT_PROFILE, NULL, CMD_BENCH, "time per kernel"},
    {"json", OPT_JSON, NULL, CMD_BENCH | CMD_INSPECT, "machine-readable"},
    {"memory", OPT_MEMORY, NULL, CMD_INSPECT, "every buffer: when it is alive, and where"},
    {"rtol", OPT_RTOL, "R", CMD_VERIFY | CMD_CONFORMANCE, "relative tolerance (verify: of the output's largest magnitude, 1e-4; conformance: of each element, 1e-3)"},
    {"atol", OPT_ATOL, "A", CMD_VERIFY | CMD_CONFORMANCE, "absolute tolerance (verify: 0; conformance: 1e-5)"},
    {"list", OPT_LIST, "FILE", CMD_CONFORMANCE, "run only the cases named in FILE, one a line"},
    {"report", OPT_REPORT, "FILE", CMD_CONFORMANCE, "write each case's result, one a line"},
    {"jobs", OPT_JOBS, "N", CMD_CONFORMANCE, "cases at a time (default: the cores)"},
    {"seed", OPT_SEED, "N", FEEDS, "of made-up inputs (default 1)"},
    {"mean", OPT_MEAN, "R,G,B", FEEDS, "pictures: subtracted, in 0..1 (default: ImageNet's)"},
    {"std", OPT_STD, "R,G,B", FEEDS, "pictures: divided by, in 0..1 (default: ImageNet's)"},
    {"layout", OPT_LAYOUT, "nchw|nhwc", FEEDS, "pictures: axis order (default nchw)"},
    {"resize", OPT_RESIZE, "WxH", FEEDS, "pictures: size (default: the input's)"},
    {NULL, OPT_DUMP, "LETTERS", CMD_COMPILE, "dump the IR after these passes (-dhelp lists the passes)"},
    {"print-after", OPT_PRINT_AFTER, "PASS", CMD_COMPILE, "dump the IR after a pass"},
    {"stop-after", OPT_STOP_AFTER, "PASS", CMD_COMPILE, "run the passes up to this one (with --emit ir)"},
    {"disable", OPT_DISABLE, "PASS,...", CMD_ALL, "leave passes out"},
    {"bisect", OPT_BISECT, "N", CMD_ALL & ~CMD_CONFORMANCE, "run only the first N changing passes"},
    {"time-passes", OPT_TIME_PASSES, NULL, CMD_COMPILE, "how long each pass took"},
    {"stats", OPT_STATS, NULL, CMD_COMPILE | CMD_INSPECT, "what each pass did"},
    {"quiet", OPT_QUIET, NULL, CMD_ALL, "no progress"},
    {"help", OPT_HELP, NULL, CMD_ALL, "this list"},
};
enum { NROWS = sizeof rows / sizeof *rows };

static bool complain(const char *format, const char *what) {
  fprintf(stderr, "spinec: ");
  fprintf(stderr, format, what);
  fprintf(stderr, "\n");
  return false;
}

static void print_help(int command) {
  printf("options:\n");
  for (int i = 0; i < NROWS; i++) {
    if (!(rows[i].commands & command)) continue;
    char s[64];
    const char *arg = rows[i].arg ? rows[i].arg : "", *gap = rows[i].arg ? " " : "";
    if (!rows[i].name) snprintf(s, sizeof s, "-%c%s", rows[i].id, arg);
    else if (rows[i].id < 256) snprintf(s, sizeof s, "-%c, --%s%s%s", rows[i].id, rows[i].name, gap, arg);
    else snprintf(s, sizeof s, "--%s%s%s", rows[i].name, gap, arg);
    printf("  %-28s %s\n", s, rows[i].help);
  }
}

/* Which option it is that has no such value, and what it takes. */
static bool complain_value(int id, const char *given) {
  int i = 0;
  while (i < NROWS - 1 && rows[i].id != id) i++;
  const char *name = rows[i].name ? rows[i].name : (char[]){(char)id, 0}, *dash = rows[i].name ? "--" : "-";
  fprintf(stderr, "spinec: %s%s: cannot make sense of '%s'; hint: %s%s%s%s: %s\n", dash, name, given, dash, name, rows[i].name ? " " : "",
          rows[i].arg ? rows[i].arg : "", rows[i].help);
  return false;
}

/* ---- values ---- */

static bool parse_int(const char *s, int64_t min, int64_t max, int64_t *out) {
  char *end;
  errno = 0;
  long long v = strtoll(s, &end, 10);
  if (errno || end == s || *end || v < min || v > max) return false;
  *out = v;
  return true;
}

static bool parse_int32(const char *s, int min, int max, int *out) {
  int64_t v;
  if (!parse_int(s, min, max, &v)) return false;
  *out = (int)v;
  return true;
}

static bool parse_number(const char *s, double *out) {
  char *end;
  double v = strtod(s, &end);
  if (end == s || *end || !(v >= 0)) return false;
  *out = v;
  return true;
}

static bool parse_word(const char *s, const char *const *words, int *out) {
  for (int i = 0; words[i]; i++)
    if (!strcmp(s, words[i])) return *out = i, true;
  return false;
}

static bool parse_triple(const char *s, float out[3]) {
  char *end;
  for (int i = 0; i < 3; i++) {
    out[i] = strtof(s, &end);
    if (end == s || *end != (i < 2 ? ',' : 0)) return false;
    s = end + 1;
  }
  return true;
}

/* NAME=rest; the name ends at the last '=' so that ONNX names with '=' in them still work for shapes and sizes. */
static bool split_name(char *s, bool last, char **rest) {
  char *eq = last ? strrchr(s, '=') : strchr(s, '=');
  if (!eq || eq == s) return false;
  *eq = 0;
  *rest = eq + 1;
  return true;
}

static bool parse_shape(Options *o, char *arg) {
  char *s;
  if (o->nshapes == MAX_GIVEN || !split_name(arg, true, &s)) return false;
  spinec_shape_binding *b = &o->shapes[o->nshapes];
  *b = (spinec_shape_binding){.name = arg};
  if (!strcmp(s, "scalar") || !*s) return o->nshapes++, true;
  for (;;) {
    char *end;
    errno = 0;
    long long v = strtoll(s, &end, 10);
    if (errno || end == s || v < 0 || b->rank == SPINEC_MAX_RANK) return false;
    b->dims[b->rank++] = v;
    if (!*end) return o->nshapes++, true;
    if (*end != 'x' && *end != ',') return false;
    s = end + 1;
  }
}

static bool add_file(NamedFile *list, int *n, char *arg, bool needs_name) {
  if (*n == MAX_GIVEN) return false;
  char *path = arg;
  bool named = split_name(arg, false, &path);
  if (!named && needs_name) return false;
  list[(*n)++] = (NamedFile){named ? arg : NULL, path};
  return *path != 0;
}

static bool parse_dim(Options *o, char *arg) {
  char *s;
  if (o->ndims == MAX_GIVEN || !split_name(arg, true, &s)) return false;
  spinec_dim_binding *b = &o->dims[o->ndims++];
  b->name = arg;
  return parse_int(s, 0, INT64_MAX, &b->value);
}

static bool parse_threads(Options *o, const char *arg) {
  static const char *const kinds[] = {"none", "pthread", "openmp", "callback", NULL};
  int kind;
  if (o->command != CMD_COMPILE) return parse_int32(arg, 1, 256, &o->threads);
  if (!parse_word(arg, kinds, &kind)) return false;
  o->threads_kind = (spinec_threads)kind;
  return true;
}

static bool parse_winograd(Options *o, const char *arg) {
  if (!strcmp(arg, "off")) return o->compile.winograd = 0, true;
  if (!strcmp(arg, "auto")) return o->compile.winograd = -1, true;
  return parse_int32(arg, 2, 6, &o->compile.winograd) && o->compile.winograd != 3;
}

static bool parse_bytes(const char *arg, int64_t *out) {
  char *end;
  double v = strtod(arg, &end);
  int shift = *end == 'k' || *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
  if (end == arg || end[shift != 0] || !(v > 0) || v > 1e15) return false;
  *out = (int64_t)(v * (double)((int64_t)1 << shift));
  return true;
}

static bool parse_size(Options *o, const char *arg) {
  char end;
  return sscanf(arg, "%dx%d%c", &o->resize_w, &o->resize_h, &end) == 2 && o->resize_w > 0 && o->resize_h > 0 && o->resize_w <= IMAGE_MAX_SIDE &&
         o->resize_h <= IMAGE_MAX_SIDE;
}

/* One, or for bench a comma list without repetitions. */
static bool parse_backends(Options *o, char *arg) {
  static const char *const names[] = {"interp", "c", "jit", NULL};
  o->nbackends = 0;
  for (char *s = arg, *end; s; s = end) {
    int word;
    end = strchr(s, ',');
    if (end) *end++ = 0;
    if (o->nbackends == (o->command == CMD_BENCH ? MAX_BACKENDS : 1) || !parse_word(s, names, &word)) return false;
    for (int i = 0; i < o->nbackends; i++)
      if (o->backends[i] == (spinec_backend)word) return false;
    o->backends[o->nbackends++] = (spinec_backend)word;
  }
  o->backend = o->backends[0];
  return o->backend_given = true;
}

/* ---- parsing ---- */

static bool take(Options *o, int id, char *arg) {
  static const char *const emits[] = {"c", "obj", "asm", "so", "llvm", "ir", "loops", NULL};
  static const char *const weights[] = {"inline", "file", "obj", NULL};
  static const char *const layouts[] = {"nchw", "nhwc", NULL};
  int word;
  switch (id) {
  case OPT_OUT: o->out = arg; return true;
  case OPT_LEVEL: return parse_int32(arg, 0, 3, &o->compile.opt_level);
  case OPT_QUIET: o->quiet = true; return true;
  case OPT_DUMP: o->compile.dump_letters = arg; return true;
  case OPT_EMIT: if (!parse_word(arg, emits, &word)) return false; o->emit = (spinec_emit_kind)word; return true;
  case OPT_TARGET: o->compile.target = arg; return true;
  case OPT_WINOGRAD: return parse_winograd(o, arg);
  case OPT_MAX_WEIGHTS: return parse_bytes(arg, &o->compile.max_weight_bytes);
  case OPT_MAX_WORKSPACE: return parse_bytes(arg, &o->compile.max_workspace_bytes);
  case OPT_MEMORY: o->memory = true; return true;
  case OPT_SHAPE: return parse_shape(o, arg);
  case OPT_DIM: return parse_dim(o, arg);
  case OPT_BIND: return add_file(o->binds, &o->nbinds, arg, true);
  case OPT_PREFIX: o->prefix = arg; return true;
  case OPT_WEIGHTS: if (!parse_word(arg, weights, &word)) return false; o->weights = (spinec_weights)word; o->weights_given = true; return true;
  case OPT_THREADS: return parse_threads(o, arg);
  case OPT_MAX_THREADS: return parse_int32(arg, 1, 256, &o->threads);
  case OPT_EMIT_TEST: o->emit_test = true; return true;
  case OPT_C99: o->c99 = true; return true;
  case OPT_INPUT: return add_file(o->inputs, &o->ninputs, arg, false);
  case OPT_EXPECT: return add_file(o->expects, &o->nexpects, arg, false);
  case OPT_OUTPUT_DIR: o->output_dir = arg; return true;
  case OPT_BACKEND: return parse_backends(o, arg);
  case OPT_ITERS: return parse_int32(arg, 1, 1000000, &o->iters);
  case OPT_PROFILE: o->profile = true; return true;
  case OPT_JSON: o->json = true; return true;
  case OPT_RTOL: return parse_number(arg, &o->rtol);
  case OPT_ATOL: return parse_number(arg, &o->atol);
  case OPT_LIST: o->list = arg; return true;
  case OPT_REPORT: o->report = arg; return true;
  case OPT_JOBS: return parse_int32(arg, 1, 64, &o->jobs);
  case OPT_SEED: { int64_t v; if (!parse_int(arg, 0, INT64_MAX, &v)) return false; o->seed = (uint64_t)v; return true; }
  case OPT_MEAN: return parse_triple(arg, o->image.mean);
  case OPT_STD: return parse_triple(arg, o->image.std);
  case OPT_LAYOUT: if (!parse_word(arg, layouts, &word)) return false; o->image.layout = (ImageLayout)word; return true;
  case OPT_RESIZE: return parse_size(o, arg);
  case OPT_PRINT_AFTER: o->compile.print_after = arg; return true;
  case OPT_STOP_AFTER: o->compile.stop_after = arg; return true;
  case OPT_DISABLE: o->compile.disable = arg; return true;
  case OPT_BISECT: return parse_int32(arg, 1, 1 << 20, &o->compile.bisect);
  case OPT_TIME_PASSES: o->compile.time_passes = true; return true;
  case OPT_STATS: o->compile.stats = true; return true;
  default: return false;
  }
}

static char *join(int argc, char **argv) {
  size_t n = 16;
  for (int i = 1; i < argc; i++) n += strlen(argv[i]) + 1;
  char *s = malloc(n);
  if (!s) return NULL;
  strcpy(s, "spinec");
  for (int i = 1; i < argc; i++) strcat(strcat(s, " "), argv[i]);
  return s;
}

static bool check(const Options *o) {
  if (o->command == CMD_CONFORMANCE) {
    if (o->npaths == 0) return complain("%s", "give the folders to search");
  } else if (o->npaths != 1) {
    return complain("%s", o->npaths ? "one model at a time" : "give a model");
  }
  if (o->command == CMD_COMPILE && !o->out) return complain("%s", "compile needs -o OUT");
  return true;
}

bool options_parse(Options *o, int command, int argc, char **argv, bool *help) {
  *o = (Options){.command = command, .seed = 1, .rtol = -1, .atol = -1, .compile = spinec_compile_options_default(), .image = image_format_imagenet()};
  o->backends[0] = o->backend = spinec_backend_available(SPINEC_BACKEND_JIT) ? SPINEC_BACKEND_JIT : SPINEC_BACKEND_C;
  o->nbackends = 1;
  o->command_line = join(argc, argv);
  struct option longs[NROWS + 1];
  char shorts[2 * NROWS + 2] = "";
  int n = 0;
  for (int i = 0; i < NROWS; i++) {
    if (!(rows[i].commands & command)) continue;
    if (rows[i].name) longs[n++] = (struct option){rows[i].name, rows[i].arg ? required_argument : no_argument, NULL, rows[i].id};
    if (rows[i].id < 256) {
      size_t at = strlen(shorts);
      shorts[at] = (char)rows[i].id;
      shorts[at + 1] = rows[i].arg ? ':' : 0;
      shorts[at + 2] = 0;
    }
  }
  longs[n] = (struct option){0};
  optind = 2;
  for (int id; (id = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
    if (id == '?') return complain("%s", "'spinec COMMAND --help' lists a command's options");
    if (id == OPT_HELP) return print_help(command), *help = true, false;
    char *given = optarg ? strdup(optarg) : NULL;
    if (!take(o, id, optarg)) {
      complain_value(id, given ? given : "");
      free(given);
      return false;
    }
    free(given);
  }
  for (; optind < argc; optind++) {
    if (o->npaths == MAX_GIVEN) return complain("%s", "too many files");
    o->paths[o->npaths++] = argv[optind];
  }
  return check(o);
}

void options_free(Options *o) { free(o->command_line); }
