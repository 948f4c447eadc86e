/* spinenet-gen: writes SpineNet networks with seeded weights as ONNX files.
 *
 * The networks: Du et al., "SpineNet: Learning Scale-Permuted Backbone for Recognition and Localization" (CVPR 2020, arXiv 1912.05027);
 * the mobile family: arXiv 2010.11426. Any other list of (level, kind, parents) can be given instead, e.g. a search candidate.
 *
 *   main.c         options -> Config; two passes: one that only counts, one that writes
 *   topology.c     tables of the published networks, list parser, Plan: channels, outputs, which blocks are alive
 *   network.c      Plan -> blocks, resampling, endpoints; RetinaNet subnets, classifier
 *   layers.c       one function per layer: emits the ONNX node, creates its weights, follows the activation statistics
 *   weights.c      generator, initialisation, analytic statistics, BatchNormalization folding
 *   onnx_writer.c  graph builder over protobuf-c; the only file that knows the messages
 *   support.c      arena, messages, files
 *
 * Invariants: weights depend on the seed, the network and the head only, never on image size, batch, opset or --keep-bn, and are the same
 * bytes on every platform with IEEE doubles (no libm beyond sqrt). Memory from the arena is zeroed and lives until the program ends a pass.
 * Running out of memory ends the program with a message: nothing is left behind, the output file is only touched when complete. */
#ifndef SPINENET_H
#define SPINENET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPINENET_GEN_VERSION "1.0"

#if defined(__GNUC__)
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define PRINTF_LIKE(fmt, args)
#endif

/* ---- support.c ---- */

/* Chunks of zeroed memory, freed together. Start from {0}. */
typedef struct {
  struct Chunk *chunks;
} Arena;

void *arena_get(Arena *a, size_t bytes);
/* n elements of `size` bytes; ends the program when the product overflows or memory runs out. */
void *arena_array(Arena *a, size_t n, size_t size);
const char *arena_printf(Arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
void arena_free(Arena *a);

/* Prints "spinenet-gen: <message>" to stderr; the second form ends the program with status 1. */
void complain(const char *fmt, ...) PRINTF_LIKE(1, 2);
_Noreturn void die(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Whole text file ("-": standard input) in arena memory, or NULL after a message (unreadable, over 1 MiB, not text). */
char *read_text(Arena *a, const char *path);

/* Decimal numbers that must fill the whole string and lie in [lo, hi]; false otherwise. */
bool parse_int(const char *s, int lo, int hi, int *out);
bool parse_real(const char *s, double lo, double hi, double *out);

/* ---- topology.c ---- */

enum { MIN_LEVEL = 1, MAX_LEVEL = 7, N_LEVELS = MAX_LEVEL + 1, MAX_PARENTS = 16, MAX_BLOCKS = 4096, MAX_CHANNELS = 16384 };

typedef enum { KIND_BOTTLENECK, KIND_RESIDUAL, KIND_MBCONV } BlockKind;
typedef enum { ACT_RELU, ACT_SWISH } Act;
typedef enum { HEAD_NONE, HEAD_RETINANET, HEAD_CLASSIFY } Head;

/* A published network: what its name stands for. `alpha` is 0 where the resampling has no such factor (mobile). */
typedef struct {
  const char *name;
  bool mobile;
  int endpoint_filters, repeats, head_filters;
  double scale, alpha;
} Variant;

/* One row: a block of stride 2^level fed by earlier nodes; node 0 is stem1, node 1 stem2, node i + 1 block i. */
typedef struct {
  int level, n_parents;
  BlockKind kind;
  bool out;
  int parents[MAX_PARENTS];
} BlockSpec;

typedef struct {
  BlockSpec *rows;
  int n;
} BlockList;

/* Everything the command line decides. Widths, sizes and counts are positive. */
typedef struct {
  const Variant *variant;
  bool custom; /* blocks given by the user */
  BlockList blocks;
  int endpoint_filters, repeats, head_filters, head_convs, anchors, classes;
  double scale, alpha;
  int first_level, last_level; /* endpoints */
  int height, width, batch;
  const char *batch_name; /* symbolic batch, or NULL */
  Act act;
  Head head;
  bool keep_bn;
  int opset;
  uint64_t seed;
} Config;

typedef struct {
  const char *name;
  int level, filters, channels; /* channels: what the block puts out, 4 * filters for a bottleneck */
  BlockKind kind;
  int n_parents, n_extra;
  const int *parents;
  int *extra; /* further parents of an output block: unused ancestors of the same shape, added as they are */
  bool live;  /* reaches an endpoint; others are not built */
} PlanNode;

typedef struct {
  int n; /* stems included */
  PlanNode *nodes;
  int width[N_LEVELS];  /* filters per level after scaling */
  int output[N_LEVELS]; /* node, or -1 */
  int n_dead, top_level;
} Plan;

const Variant *variant_find(const char *name);
const Variant *variant_at(int i); /* NULL past the last */
BlockList variant_blocks(Arena *a, const Variant *v);
const char *kind_name(BlockKind kind);

/* Reads rows "LEVEL KIND PARENT... [out]", separated by newlines or ';', '#' starts a comment, commas and parentheses are blanks.
 * `where` names the text in messages. Reports every bad row; false if there was one. */
bool blocks_parse(Arena *a, char *text, const char *where, BlockList *out);

/* Rows in the same notation, joined by `separator`. */
const char *blocks_print(Arena *a, const BlockList *l, const char *separator);

/* Resolves channels, outputs and liveness. False after messages: no or two outputs for a level, no filters left, wrong image size. */
bool plan_make(Arena *a, const Config *cfg, Plan *out);

/* Filters of the 1x1 convolution that starts a resampling. */
int plan_link_filters(const Config *cfg, const PlanNode *parent);

/* ---- onnx_writer.c ---- */

typedef struct Onnx Onnx;
typedef struct Onnx__NodeProto OnnxNode;

/* A dry graph has no weights and cannot be written. Range of opsets: ONNX_MIN_OPSET to ONNX_MAX_OPSET. */
enum { ONNX_MIN_OPSET = 13, ONNX_MAX_OPSET = 25 };
Onnx *onnx_new(int opset, bool dry);
void onnx_free(Onnx *o);

/* Adds a float initializer and returns its zeroed elements (owned by the graph), NULL in a dry graph. */
float *onnx_weights(Onnx *o, const char *name, int rank, const int64_t *dims);

/* Adds a node with one output, called `output`. An empty input name leaves an optional input out. Names are borrowed. */
OnnxNode *onnx_node(Onnx *o, const char *op, const char *name, int n_inputs, const char *const *inputs, const char *output);
void onnx_attr_int(Onnx *o, OnnxNode *node, const char *name, int64_t v);
void onnx_attr_float(Onnx *o, OnnxNode *node, const char *name, float v);
void onnx_attr_string(Onnx *o, OnnxNode *node, const char *name, const char *v);
void onnx_attr_ints(Onnx *o, OnnxNode *node, const char *name, int n, const int64_t *v);

/* Declares a float graph input or output; a non-NULL `symbol` replaces the first dimension. */
void onnx_input(Onnx *o, const char *name, int rank, const int64_t *dims, const char *symbol);
void onnx_output(Onnx *o, const char *name, int rank, const int64_t *dims, const char *symbol);

int onnx_node_count(const Onnx *o);
int64_t onnx_weight_bytes(const Onnx *o);

/* Writes to a temporary file beside `path`, then renames. Returns the size in bytes, or -1 after a message. Call once. */
int64_t onnx_write(Onnx *o, const char *path, const char *graph_name, const char *doc);

/* ---- weights.c ---- */

/* Per-channel statistics of a tensor, as predicted. After an activation `pre_*` keep the Gaussian it was applied to, and `pools` counts the
 * max pools since: that is what the statistics of a further pool follow from. All NULL in a dry pass. */
typedef struct {
  double *mean, *var;
  const double *pre_mean, *pre_var;
  int pools;
} Moments;

enum { MAX_POOLS = 6, QUAD_NODES = 97 };

/* Integration nodes for the standard normal distribution, with weights for the largest of several draws (index: max pools). */
typedef struct {
  double x[QUAD_NODES], weight[MAX_POOLS + 1][QUAD_NODES];
} Quadrature;

#define BN_EPSILON 1e-3f
typedef struct {
  float *gamma, *beta, *mean, *var;
} BatchNorm;

void quadrature_init(Quadrature *q);

/* Shapes as ONNX has them: weights [cout][cin][k*k], depthwise [c][1][k*k]. The stream of random numbers is named by `name`. */
void weights_dense(uint64_t seed, const char *name, float *w, size_t n, int fan_in);
void weights_depthwise(uint64_t seed, const char *name, float *w, int c, int taps);
void weights_bias(uint64_t seed, const char *name, float *b, int n);

/* Statistics of a convolution's output (bias may be NULL) from those of its input. */
void moments_dense(const float *w, const float *bias, int cout, int cin, int taps, const Moments *in, Moments *out);
void moments_depthwise(const float *w, int c, int taps, const Moments *in, Moments *out);

/* Draws gamma (times `gain`) and beta, sets the running statistics from the predicted ones, and leaves in `m` what comes out. */
void batch_norm_init(uint64_t seed, const char *name, int c, double gain, BatchNorm bn, Moments *m);

/* Multiplies the weights and sets bias (holding the convolution's own bias, or zeros) so that conv alone computes conv + BN. */
void batch_norm_fold(BatchNorm bn, int cout, int per_filter, float *w, float *bias);

/* Statistics after the activation and `in->pools` max pools of `in`'s Gaussian (n channels). */
void moments_act(const Quadrature *q, Act act, int pools, int n, const double *mean, const double *var, Moments *out);

double hard_sigmoid(double x); /* clamp(x / 6 + 0.5, 0, 1) */

/* ---- layers.c ---- */

typedef struct {
  const char *name;
  int c, h, w;
  Moments m;
} Tensor;

/* The network under construction. */
typedef struct {
  const Config *cfg;
  Arena *mem;
  Onnx *onnx;
  bool dry;
  const Quadrature *quad;
  double macs; /* per image */
  int64_t params;
} Net;

/* Weights that several convolutions use, bias included. `w`, `bias`: NULL in a dry pass. */
typedef struct {
  const char *name;
  float *w, *bias;
} Kernel;

/* A convolution with what follows it. k is odd, padding k / 2 on every side. Zero-initialised fields mean "no". */
typedef struct {
  const char *name;
  int cout, k, stride;
  bool depthwise, bias, bn, act;
  double gain;          /* of gamma; 0 stands for 1 */
  const Kernel *shared; /* instead of own weights */
  const char *output;   /* name of the last tensor, when it is a graph output */
} Conv;

const char *net_name(Net *n, const char *fmt, ...) PRINTF_LIKE(2, 3);
Tensor layer_input(Net *n, const char *name);
void layer_output(Net *n, Tensor t);
/* `bn`: whether BatchNormalization will follow; if it is folded the weights do not become an initializer themselves. */
Kernel layer_kernel(Net *n, const char *name, int cin, int cout, int k, bool bn);
Tensor layer_conv(Net *n, Tensor x, const Conv *s);
Tensor layer_act(Net *n, Tensor x, const char *name, const char *output);
Tensor layer_max_pool(Net *n, Tensor x, const char *name);           /* 3x3, stride 2 */
Tensor layer_upsample(Net *n, Tensor x, const char *name, int log2); /* nearest */
Tensor layer_add(Net *n, Tensor a, Tensor b, const char *name);
Tensor layer_squeeze_excite(Net *n, Tensor x, const char *name, int reduced);
/* Mean of the global averages of n tensors of equal channels, times a matrix, plus bias: [batch, classes]. */
void layer_classifier(Net *n, const Tensor *x, int count, const char *name, int classes, const char *output);

/* ---- network.c ---- */

/* Endpoints in level order, `count` = last_level - first_level + 1 of them; graph outputs when there is no head. */
void network_backbone(Net *n, const Plan *plan, Tensor *endpoints);
void heads_build(Net *n, const Tensor *endpoints, int count);

#endif
