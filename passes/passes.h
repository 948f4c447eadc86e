/* passes/passes.h: what turns an imported Graph into a Program.
 *
 * Sections, one per file:  pass.c (the table and its driver) · cost.c · graph/<pass>.c (Graph to Graph) · lower/ (Graph to Program; schedules) ·
 * memory/ (the order of calls, offsets for every buffer) · loop/<pass>.c (Program to Program)
 *
 * A pass is `bool pass(…, Ctx *)`, true if it changed something. The driver verifies, dumps, times, bisects and measures what was saved;
 * passes do none of it, but say how often they applied. Pass order, levels and requirements are data in pass.c's table, where the pipeline is drawn.
 */
#ifndef PASSES_H
#define PASSES_H

#include "../ir/graph.h"
#include "../ir/loop.h"
#include "../ir/lower.h"

/* Runs a program: inputs[i], outputs[i] as in its signature. Injected, so that passes do not depend on a backend. */
typedef Status (*EvalFn)(const Program *p, const void *const *inputs, void *const *outputs, Diag *d);

typedef struct Stat { const char *pass, *what; int64_t n; } Stat;

typedef struct Ctx {
  Arena *arena;            /* of the object being made */
  Diag *diag;
  const Target *target;
  const spinec_compile_options *opt;
  EvalFn eval;
  VEC(Stat) stats;
  int64_t *scratch_limit;  /* by node id: bytes per thread lowering should do with; NULL: no limits */
  int nscratch_limit;
  int64_t applied;         /* by the running pass so far */
} Ctx;

/* ---- pass.c ---- */
/* Runs the whole pipeline on g (which it changes). NULL after reporting, or when --stop-after ended it (then *stopped is set). */
Program *passes_run(Graph *g, Ctx *c, bool *stopped);
/* Runs graph passes named in a comma list on g, as the pass tests do; false after reporting an unknown name. */
bool passes_run_list(Graph *g, Ctx *c, const char *names);
bool passes_run_list_program(Program *p, Ctx *c, const char *names);
const char *passes_graph_name(int i);                            /* of the table's i-th graph pass; NULL past the last */
void passes_list(FILE *out);                                     /* letter, name, level and purpose of each */
void pass_applied(Ctx *c, int64_t n);                            /* the running pass rewrote n more places; for --stats */
void pass_count(Ctx *c, const char *pass, const char *what, int64_t n);   /* anything else worth a line of --stats */

/* ---- cost.c ---- */
/* Of all nodes, each run once: kernels' worth of nodes, multiply-adds, all arithmetic (2 per multiply-add), bytes of activations read or
 * written, and the written ones alone. Saturates. */
typedef struct GraphCost { int64_t nodes, macs, flops, moved, stored; } GraphCost;
GraphCost graph_cost(const Graph *g);
GraphCost graph_cost_less(GraphCost a, GraphCost b);             /* a - b */

/* ---- probe.c ---- */
/* A program of three calls: filling memory; reading it; multiplying and adding in registers. Its kernels' flops and bytes are right. */
Program *probe_program(Ctx *c, int threads);

/* ---- graph/ ---- */
/* Evaluates n if all its operands are constant: its outputs become constants and n is erased. For import and pass_fold. */
bool fold_node(Graph *g, Node *n, Ctx *c);
bool pass_clean(Graph *g, Ctx *c);       /* dead nodes, identities, duplicates, no-op reshapes and casts, pairs that cancel */
bool pass_fold(Graph *g, Ctx *c);        /* constant operands: evaluate */
bool pass_conv_fold(Graph *g, Ctx *c);   /* per-channel Mul and Add, Pad, into convolutions */
bool pass_activation(Graph *g, Ctx *c);  /* swish, hard-swish, hard-sigmoid, GELU, mish, softplus, ... from their parts */
bool pass_terms(Graph *g, Ctx *c);       /* constant factors joined, stacks summed, functions in front of what only moves elements */
bool pass_share_weights(Graph *g, Ctx *c);   /* one copy of convolution weights that differ in a scale only */
bool pass_commute(Graph *g, Ctx *c);     /* pointwise work moves to where there are fewer pixels */
/* r is a Resize that repeats every element factor[i] times along each dimension i, and nothing else. */
bool resize_repeats(const Node *r, int64_t factor[MAX_RANK]);
bool conv_pointwise(const Node *n);      /* a 1x1 convolution of stride 1, without a body */
/* Elementwise, of operand `data`'s shape; all other operands are the same at all pixels (dimensions 2 and up). */
bool ew_pointwise(const Node *n, int data);
bool pass_pool_order(Graph *g, Ctx *c);  /* pools in front of activations and 1x1 convolutions or behind, where that is less work */
bool pass_merge_sum(Graph *g, Ctx *c);   /* added 1x1 convolutions become one sum */
bool pass_shuffle(Graph *g, Ctx *c);     /* Reshape, Transpose, Reshape that permute channels become one Gather */
bool pass_layout(Graph *g, Ctx *c);      /* blocked channels where convolutions want them */
bool pass_pool_chain(Graph *g, Ctx *c);  /* maximum pools in a row become one of a larger window */
bool pass_gate(Graph *g, Ctx *c);        /* factors per channel into the 1x1 convolutions that read the product */
bool pass_epilogue(Graph *g, Ctx *c);    /* elementwise consumers into node bodies; chains of elementwise into Map */
bool pass_horizontal(Graph *g, Ctx *c);  /* convolutions of one tensor in one kernel */
bool pass_stream(Graph *g, Ctx *c);      /* pools and depthwise convolutions in the kernel of the convolution they read */

/* ---- lower/ ---- */
Program *lower_graph(Graph *g, Ctx *c);  /* every node to kernels; buffers have no offsets yet. NULL after reporting */

/* conv_plan.c: a vector of output channels of this convolution depends on few enough input channels for the direct schedule, which reads all
 * those of the groups a vector touches. Always so for one group. */
bool conv_groups_dense(const Node *n, int lanes);
/* conv_winograd_plan.c: Winograd's method may compute n; `winograd` is the tile asked for (-1: any, 0: none). Where there is no fma, weights are
 * kept small (lower.c), and unless it is asked for it is not used. */
bool conv_for_winograd(const Node *n, const Target *t, int winograd);

/* pool_plan.c: estimated cycles of this pool; 0: vectors of channels cannot compute it, or not so (it is lowered plainly). */
double pool_cycles(const Target *t, Op op, const PoolAttr *a, const Value *x, const Value *y);

/* ---- memory/ ---- */
bool pass_order(Program *p, Ctx *c);     /* calls in an order in which little is alive at a time */
/* After a plan of more than `limit` bytes: less scratch for some nodes, when lowered again. False: there is none left to save. */
bool budget_tighten(Ctx *c, const Graph *g, const Program *p, int64_t limit);
bool pass_memory(Program *p, Ctx *c);    /* live ranges, in-place reuse, offsets; workspace_bytes and live_bytes */

/* ---- loop/ ---- */
bool pass_simplify(Program *p, Ctx *c);  /* dead lets, constant conditions, single-trip loops */
bool pass_legalise(Program *p, Ctx *c);  /* what the target lacks: fma, mathematics as polynomials */
bool pass_dedup(Program *p, Ctx *c);     /* equal kernels become one; k0, k1, ... in order of first call */

#endif
