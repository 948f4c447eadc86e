/* Command line of spinenet-gen. A first, dry pass counts nodes, parameters, multiply-adds and bytes, so that a network too large for the
 * format is refused before any work; a second pass makes the weights and writes. */
#include "spinenet.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 2, MAX_SIDE = 32768, MAX_BATCH = 65536 };

/* Readers of protobuf messages stop at 2 GiB; nodes and names need a little of it. */
#define MAX_WEIGHT_BYTES (INT64_C(0x7FFFFFFF) - (16 << 20))

static const char help_head[] =
    "usage: spinenet-gen [options] -o FILE.onnx\n"
    "Writes a SpineNet (arXiv 1912.05027, 2010.11426) with seeded, well-conditioned weights as an ONNX file.\n"
    "\n"
    "network\n"
    "  --variant NAME         one of the table below (49)\n"
    "  --blocks LIST          blocks of your own instead: a file, '-' for standard input, or the rows themselves:\n"
    "                         'LEVEL KIND PARENT... [out]; ...', level 1 to 7 (stride 2^level), kind bottleneck,\n"
    "                         residual or mbconv, parents counted from 0 (stem1), 1 (stem2), 2 (block1), ...\n"
    "                         --variant still gives the stem, the resampling and the numbers below. Without any\n"
    "                         'out' the last block of every level is its output. candidate.blocks is an example\n"
    "  --filter-scale X       factor on all filters, truncated\n"
    "  --alpha X              factor on the filters of resampling connections (not mobile)\n"
    "  --repeats N            how often each block is repeated\n"
    "  --endpoint-filters N   channels of the endpoints\n"
    "  --levels A-B           levels with an endpoint (3-7)\n"
    "  --act relu|swish       activation (relu; mobile: swish)\n"
    "\n"
    "head\n"
    "  --head KIND            none (default; outputs P3..), retinanet (cls3.., box3..) or classify (logits)\n"
    "  --classes N            90 for retinanet, 1000 for classify\n"
    "  --anchors N            per position, retinanet (9)\n"
    "  --head-convs N         convolutions before the predictor, retinanet (4; SpineNet-190 in the paper: 7)\n"
    "  --head-filters N       their channels\n"
    "\n"
    "file\n"
    "  -o, --output FILE      written under a temporary name, then renamed\n"
    "  --size N | HxW         image size (640); a multiple of 2^level of the highest level: 128 for all published ones\n"
    "  --batch N | NAME       batch size (1), or the name of a symbolic one\n"
    "  --keep-bn              keep BatchNormalization nodes instead of folding them into the convolutions\n"
    "  --opset N              13 to 25 (13)\n"
    "  --seed N               of the weights (0); they depend on network, head and seed only\n"
    "\n"
    "  -n, --dry-run          print the summary without making weights or writing\n"
    "  --print-blocks         print the list of blocks, in the notation of --blocks\n"
    "  -h, --help             this text\n"
    "  --version              version\n"
    "\n"
    "variant       filter scale  alpha  repeats  endpoints  head filters\n";

/* Codes of the long options, past all characters. */
enum { OPT_VARIANT = 256, OPT_BLOCKS, OPT_SCALE, OPT_ALPHA, OPT_REPEATS, OPT_ENDPOINT, OPT_LEVELS, OPT_ACT };
enum { OPT_HEAD = 512, OPT_CLASSES, OPT_ANCHORS, OPT_HEAD_CONVS, OPT_HEAD_FILTERS };
enum { OPT_SIZE = 768, OPT_BATCH, OPT_KEEP_BN, OPT_OPSET, OPT_SEED, OPT_PRINT, OPT_VERSION };

static const struct option long_options[] = {
    {"variant", required_argument, NULL, OPT_VARIANT},
    {"blocks", required_argument, NULL, OPT_BLOCKS},
    {"filter-scale", required_argument, NULL, OPT_SCALE},
    {"alpha", required_argument, NULL, OPT_ALPHA},
    {"repeats", required_argument, NULL, OPT_REPEATS},
    {"endpoint-filters", required_argument, NULL, OPT_ENDPOINT},
    {"levels", required_argument, NULL, OPT_LEVELS},
    {"act", required_argument, NULL, OPT_ACT},
    {"head", required_argument, NULL, OPT_HEAD},
    {"classes", required_argument, NULL, OPT_CLASSES},
    {"anchors", required_argument, NULL, OPT_ANCHORS},
    {"head-convs", required_argument, NULL, OPT_HEAD_CONVS},
    {"head-filters", required_argument, NULL, OPT_HEAD_FILTERS},
    {"output", required_argument, NULL, 'o'},
    {"size", required_argument, NULL, OPT_SIZE},
    {"batch", required_argument, NULL, OPT_BATCH},
    {"keep-bn", no_argument, NULL, OPT_KEEP_BN},
    {"opset", required_argument, NULL, OPT_OPSET},
    {"seed", required_argument, NULL, OPT_SEED},
    {"dry-run", no_argument, NULL, 'n'},
    {"print-blocks", no_argument, NULL, OPT_PRINT},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

/* What was asked for. Numbers not given are -1: they come from the variant or the head, known only at the end. */
typedef struct {
  Config cfg;
  const char *output, *blocks;
  bool act_given, dry_run, print_blocks;
} Options;

/* ---- option values ---- */

static _Noreturn void usage_error(const char *option, const char *value, const char *expected) {
  complain("--%s: '%s' is not %s (--help lists the options)", option, value, expected);
  exit(EXIT_USAGE);
}

static int int_option(const char *option, const char *value, int lo, int hi) {
  int v;
  if (parse_int(value, lo, hi, &v)) return v;
  char range[64];
  snprintf(range, sizeof range, "a number from %d to %d", lo, hi);
  usage_error(option, value, range);
}

static double real_option(const char *option, const char *value) {
  double v;
  if (!parse_real(value, 1e-3, 64, &v)) usage_error(option, value, "a number from 0.001 to 64");
  return v;
}

/* Index of `value` in `words`, a list ended by NULL. */
static int word_option(const char *option, const char *value, const char *const *words, const char *expected) {
  for (int i = 0; words[i]; i++)
    if (strcmp(words[i], value) == 0) return i;
  usage_error(option, value, expected);
}

/* "A<sep>B", or "A" for A<sep>A. */
static void pair_option(Arena *a, const char *option, const char *value, char sep, int lo, int hi, const char *expected, int *x, int *y) {
  char *first = (char *)arena_printf(a, "%s", value), *second = strchr(first, sep);
  if (second) *second++ = 0;
  if (!parse_int(first, lo, hi, x) || !parse_int(second ? second : first, lo, hi, y)) usage_error(option, value, expected);
}

static void batch_option(Config *cfg, const char *value) {
  static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
  if (parse_int(value, 1, MAX_BATCH, &cfg->batch))
    cfg->batch_name = NULL;
  else if (*value && strchr(letters, *value) && value[strspn(value, letters)] == 0)
    cfg->batch_name = value;
  else
    usage_error("batch", value, "a number from 1 to 65536 or a name of letters");
}

static void seed_option(Config *cfg, const char *value) {
  char *end;
  errno = 0;
  cfg->seed = strtoull(value, &end, 10);
  if (*value < '0' || *value > '9' || *end || errno) usage_error("seed", value, "a number from 0 to 2^64 - 1");
}

static void print_help(void) {
  fputs(help_head, stdout);
  for (int i = 0; variant_at(i); i++) {
    const Variant *v = variant_at(i);
    printf("  %-12s %11g ", v->name, v->scale);
    printf(v->mobile ? "     -" : "%6g", v->alpha);
    printf(" %8d %10d %13d\n", v->repeats, v->endpoint_filters, v->head_filters);
  }
}

/* ---- the command line ---- */

static void set_option(Options *o, Arena *a, int code, const char *v) {
  static const char *const acts[] = {[ACT_RELU] = "relu", [ACT_SWISH] = "swish", NULL};
  static const char *const heads[] = {[HEAD_NONE] = "none", [HEAD_RETINANET] = "retinanet", [HEAD_CLASSIFY] = "classify", NULL};
  Config *c = &o->cfg;
  switch (code) {
  case OPT_VARIANT:
    if (!(c->variant = variant_find(v))) usage_error("variant", v, "a published network");
    break;
  case OPT_BLOCKS: o->blocks = v; break;
  case OPT_SCALE: c->scale = real_option("filter-scale", v); break;
  case OPT_ALPHA: c->alpha = real_option("alpha", v); break;
  case OPT_REPEATS: c->repeats = int_option("repeats", v, 1, 64); break;
  case OPT_ENDPOINT: c->endpoint_filters = int_option("endpoint-filters", v, 1, MAX_CHANNELS); break;
  case OPT_LEVELS:
    pair_option(a, "levels", v, '-', MIN_LEVEL, MAX_LEVEL, "a range within 1-7", &c->first_level, &c->last_level);
    if (c->first_level > c->last_level) usage_error("levels", v, "an ascending range");
    break;
  case OPT_ACT:
    c->act = (Act)word_option("act", v, acts, "relu or swish");
    o->act_given = true;
    break;
  case OPT_HEAD: c->head = (Head)word_option("head", v, heads, "none, retinanet or classify"); break;
  case OPT_CLASSES: c->classes = int_option("classes", v, 1, 1000000); break;
  case OPT_ANCHORS: c->anchors = int_option("anchors", v, 1, 1000); break;
  case OPT_HEAD_CONVS: c->head_convs = int_option("head-convs", v, 0, 64); break;
  case OPT_HEAD_FILTERS: c->head_filters = int_option("head-filters", v, 1, MAX_CHANNELS); break;
  case OPT_SIZE: pair_option(a, "size", v, 'x', 1, MAX_SIDE, "N or HxW with sides from 1 to 32768", &c->height, &c->width); break;
  case OPT_BATCH: batch_option(c, v); break;
  case OPT_KEEP_BN: c->keep_bn = true; break;
  case OPT_OPSET: c->opset = int_option("opset", v, ONNX_MIN_OPSET, ONNX_MAX_OPSET); break;
  case OPT_SEED: seed_option(c, v); break;
  case OPT_PRINT: o->print_blocks = true; break;
  case 'o': o->output = v; break;
  case 'n': o->dry_run = true; break;
  case 'h': print_help(); exit(EXIT_SUCCESS);
  case OPT_VERSION: puts("spinenet-gen " SPINENET_GEN_VERSION); exit(EXIT_SUCCESS);
  default: exit(EXIT_USAGE); /* getopt has said why */
  }
}

/* Options that the chosen head or family has no use for are mistakes. */
static void check_combination(const Options *o) {
  const Config *c = &o->cfg;
  const char *stray = NULL;
  if (c->head != HEAD_RETINANET && (c->anchors >= 0 || c->head_convs >= 0 || c->head_filters >= 0))
    stray = "--anchors, --head-convs and --head-filters need --head retinanet";
  else if (c->head == HEAD_NONE && c->classes >= 0)
    stray = "--classes needs --head retinanet or classify";
  else if (c->variant->mobile && c->alpha >= 0)
    stray = "--alpha: the mobile family's resampling has no such factor";
  else if (!o->output && !o->dry_run && !o->print_blocks)
    stray = "no output file: give -o FILE (--help lists the options)";
  else if (o->output && !*o->output)
    stray = "the name of the output file is empty";
  if (!stray) return;
  complain("%s", stray);
  exit(EXIT_USAGE);
}

static Options parse_options(Arena *a, int argc, char **argv) {
  Options o = {0};
  Config *c = &o.cfg;
  *c = (Config){.variant = variant_find("49"), .first_level = 3, .last_level = 7, .height = 640, .width = 640, .batch = 1};
  c->endpoint_filters = c->repeats = c->head_filters = c->head_convs = c->anchors = c->classes = -1;
  c->scale = c->alpha = -1;
  c->opset = ONNX_MIN_OPSET;
  for (int code; (code = getopt_long(argc, argv, "o:nh", long_options, NULL)) != -1;) set_option(&o, a, code, optarg);
  if (optind < argc) {
    complain("unexpected argument '%s' (--help lists the options)", argv[optind]);
    exit(EXIT_USAGE);
  }
  check_combination(&o);
  const Variant *v = c->variant;
  if (c->endpoint_filters < 0) c->endpoint_filters = v->endpoint_filters;
  if (c->repeats < 0) c->repeats = v->repeats;
  if (c->head_filters < 0) c->head_filters = v->head_filters;
  if (c->scale < 0) c->scale = v->scale;
  if (c->alpha < 0) c->alpha = v->alpha;
  if (c->head_convs < 0) c->head_convs = 4;
  if (c->anchors < 0) c->anchors = 9;
  if (c->classes < 0) c->classes = c->head == HEAD_RETINANET ? 90 : 1000;
  if (!o.act_given) c->act = v->mobile ? ACT_SWISH : ACT_RELU;
  return o;
}

/* A list has blanks, a file name usually none: what exists as a file is one. */
static bool load_blocks(Arena *a, Options *o) {
  if (!o->blocks) {
    o->cfg.blocks = variant_blocks(a, o->cfg.variant);
    return true;
  }
  o->cfg.custom = true;
  FILE *f = fopen(o->blocks, "rb");
  if (f) fclose(f);
  if (f || strcmp(o->blocks, "-") == 0 || !strpbrk(o->blocks, " ,;\n")) {
    char *text = read_text(a, o->blocks);
    return text && blocks_parse(a, text, o->blocks, &o->cfg.blocks);
  }
  return blocks_parse(a, (char *)arena_printf(a, "%s", o->blocks), "--blocks", &o->cfg.blocks);
}

/* ---- passes ---- */

typedef struct {
  int nodes;
  int64_t params, bytes;
  double macs;
} Summary;

static const char *describe(Arena *a, const Config *c) {
  static const char *const heads[] = {[HEAD_NONE] = "", [HEAD_RETINANET] = " RetinaNet", [HEAD_CLASSIFY] = " classifier"};
  const char *name = c->custom ? arena_printf(a, "%d-block network on", c->blocks.n) : "";
  const char *batch = c->batch_name ? c->batch_name : arena_printf(a, "%d", c->batch);
  return arena_printf(a, "%s%sSpineNet-%s%s %dx%d batch %s", name, *name ? " " : "", c->variant->name, heads[c->head], c->height, c->width,
                      batch);
}

/* How to make the file again, for its doc_string. */
static const char *recipe(Arena *a, const Config *c) {
  return arena_printf(a, "%s; seed %" PRIu64 ", %s, filter scale %g, alpha %g, repeats %d, endpoint filters %d%s%s", describe(a, c),
                      c->seed, c->act == ACT_RELU ? "relu" : "swish", c->scale, c->alpha, c->repeats, c->endpoint_filters,
                      c->custom ? "; blocks " : "", c->custom ? blocks_print(a, &c->blocks, "; ") : "");
}

/* Builds the network; writes it unless `path` is NULL (a dry pass). False after a message. */
static bool run_pass(const Config *cfg, const Plan *plan, const char *path, Summary *out) {
  Arena mem = {0};
  Quadrature *quad = arena_get(&mem, sizeof *quad);
  quadrature_init(quad);
  Net n = {.cfg = cfg, .mem = &mem, .onnx = onnx_new(cfg->opset, !path), .dry = !path, .quad = quad};
  Tensor endpoints[N_LEVELS];
  network_backbone(&n, plan, endpoints);
  heads_build(&n, endpoints, cfg->last_level - cfg->first_level + 1);
  *out = (Summary){.nodes = onnx_node_count(n.onnx), .params = n.params, .bytes = onnx_weight_bytes(n.onnx), .macs = n.macs};
  if (path)
    out->bytes = onnx_write(n.onnx, path, cfg->custom ? "spinenet-custom" : arena_printf(&mem, "spinenet-%s", cfg->variant->name),
                            recipe(&mem, cfg));
  onnx_free(n.onnx);
  arena_free(&mem);
  return out->bytes >= 0;
}

int main(int argc, char **argv) {
  Arena a = {0};
  Plan plan;
  Summary s;
  Options o = parse_options(&a, argc, argv);
  bool ok = load_blocks(&a, &o);
  if (ok && o.print_blocks) {
    ok = printf("# level kind parents... [out]\n%s\n", blocks_print(&a, &o.cfg.blocks, "\n")) > 0 && fflush(stdout) == 0;
  } else if (ok) {
    ok = plan_make(&a, &o.cfg, &plan) && run_pass(&o.cfg, &plan, NULL, &s);
    if (ok && s.bytes > MAX_WEIGHT_BYTES) {
      complain("%.1f GB of weights: an ONNX file holds less than 2 GiB", (double)s.bytes * 1e-9);
      ok = false;
    }
    if (ok && !o.dry_run) ok = run_pass(&o.cfg, &plan, o.output, &s);
    if (ok)
      printf("%s: %s: %.2f M parameters, %.2f G multiply-adds per image, %d nodes, %.1f MB%s\n", o.dry_run ? "dry run" : o.output,
             describe(&a, &o.cfg), (double)s.params * 1e-6, s.macs * 1e-9, s.nodes, (double)s.bytes * 1e-6, o.dry_run ? " of weights" : "");
    if (ok && plan.n_dead && o.cfg.custom) printf("  %d of %d blocks reach no endpoint and are not built\n", plan.n_dead, o.cfg.blocks.n);
  }
  arena_free(&a);
  return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
