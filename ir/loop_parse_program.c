/* ir/loop_parse_program.c: reads the text form of programs, one item a line:
 *
 *   program "name" from "file"
 *   threads 4
 *   workspace 4096 live 4000 weights 1024
 *   macs 10 params 20
 *   input "x" f32 [1, 3, "height" 640]
 *   output "y" f32 [1, 10]
 *   weight "conv1.w" "dense" bytes 1024 offset 0
 *   buffer b0 input 0 bytes 128 "x"
 *   buffer b1 arena bytes 64 offset 0 live 0..1
 *   buffer b2 scratch bytes 64 offset 64 stride 64 live 0..0
 *   buffer b3 arena bytes 32 offset 32 live 0..1 part of b1 at 32 "half"
 *   kernel k0 ...
 *   call k0(b0, b1 + 64) "Conv" from "conv1", "relu1"
 *
 * Weights have no bytes in a text: they are filled with reproducible numbers of the type the first kernel to use them reads.
 */
#include "loop_text.h"

/* ---- contents of weights ---- */

typedef struct Noise { uint64_t seed; DType dt; int64_t count, rest; } Noise;

static uint64_t noise_next(uint64_t *state) {
  /* xorshift64*: G. Marsaglia 2003, S. Vigna 2014. */
  uint64_t x = *state;
  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  *state = x;
  return x * 0x2545f4914f6cdd1du;
}

/* Floats in [-1, 1), integers and bools 0 or 1: small enough to be indices. */
static void noise_fill(const void *ctx, void *dst) {
  const Noise *z = ctx;
  uint64_t state = z->seed | 1;
  for (int64_t i = 0; i < z->count; i++) {
    uint64_t r = noise_next(&state);
    if (dt_is_float(z->dt)) data_set_f(dst, z->dt, i, (double)(r >> 40) * 0x1p-23 - 1);
    else data_set_i(dst, z->dt, i, (int64_t)(r >> 63));
  }
  memset((char *)dst + (size_t)z->count * dt_size(z->dt), 0, (size_t)z->rest);
}

static DType weight_type(const Program *prog, int weight) {
  for (int i = 0; i < prog->calls.n; i++) {
    const Call *c = &prog->calls.at[i];
    for (int j = 0; j < c->kernel->params.n; j++) {
      const Buffer *b = &prog->buffers.at[c->args[j].buffer];
      if (b->kind == BUF_WEIGHT && b->index == weight) return c->kernel->params.at[j]->type.dt;
    }
  }
  return DT_U8;
}

static void fill_weights(Program *prog) {
  for (int i = 0; i < prog->weights.n; i++) {
    Weight *w = &prog->weights.at[i];
    Noise *z = NEW(prog->arena, Noise);
    z->dt = weight_type(prog, i);
    z->seed = ((uint64_t)i + 1) * 0x9e3779b97f4a7c15u;
    z->count = w->bytes / (int64_t)dt_size(z->dt);
    z->rest = w->bytes % (int64_t)dt_size(z->dt);
    w->source = w->ctx = z;
    w->fill = noise_fill;
  }
}

/* ---- items ---- */

static int64_t parse_size(Parser *p) {
  int64_t n = parse_int(p);
  if (n < 0 || n > (int64_t)1 << 46) parse_fail(p, "not a size");
  return n;
}

static int parse_small(Parser *p) {
  int64_t n = parse_size(p);
  return (int)MINI(n, INT32_MAX);
}

static int64_t parse_field(Parser *p, const char *word) {
  parse_expect(p, word);
  return parse_size(p);
}

static Port parse_port(Parser *p) {
  Port port = {.name = parse_string(p)};
  if (p->tok != TOK_NAME || !dt_parse(p->s, p->n, &port.dt)) parse_fail(p, "expected an element type");
  parse_next(p);
  parse_expect(p, "[");
  while (!p->failed && !parse_is(p, "]")) {
    if (port.shape.rank == MAX_RANK) {
      parse_fail(p, "more than %d dimensions", MAX_RANK);
      break;
    }
    Dim *d = &port.shape.d[port.shape.rank++];
    if (p->tok == TOK_STRING) d->sym = parse_string(p);
    d->n = parse_size(p);
    if (!parse_accept(p, ",")) break;
  }
  parse_expect(p, "]");
  return port;
}

static void parse_weight(Parser *p, Program *prog) {
  Weight w = {.name = parse_string(p)};
  w.desc = parse_string(p);
  w.bytes = parse_field(p, "bytes");
  w.offset = parse_field(p, "offset");
  vec_push(p->arena, &prog->weights, w);
}

/* b12; -1 after failing. */
static int parse_buffer_number(Parser *p) {
  char *name = parse_name(p), *end;
  if (name[0] == 'b' && name[1] >= '0' && name[1] <= '9') {
    long n = 0;
    for (end = name + 1; *end >= '0' && *end <= '9' && n < 100000000; end++) n = n * 10 + (*end - '0');
    if (!*end) return (int)n;
  }
  parse_fail(p, "'%s' is not a buffer", name);
  return -1;
}

static void parse_buffer(Parser *p, Program *prog) {
  static const char *const kinds[] = {"arena", "scratch", "weight", "input", "output"};
  Buffer b = {0};
  if (parse_buffer_number(p) != prog->buffers.n) parse_fail(p, "buffers are numbered b0, b1, ... in order");
  int kind = 0;
  while (kind < COUNTOF(kinds) && !parse_accept(p, kinds[kind])) kind++;
  if (kind == COUNTOF(kinds)) parse_fail(p, "expected arena, scratch, weight, input or output");
  b.kind = (BufferKind)(kind % COUNTOF(kinds));
  bool local = b.kind == BUF_ARENA || b.kind == BUF_SCRATCH;
  if (!local) b.index = parse_small(p);
  b.bytes = parse_field(p, "bytes");
  if (local) b.offset = parse_field(p, "offset");
  if (b.kind == BUF_SCRATCH) b.stride = parse_field(p, "stride");
  if (local) {
    parse_expect(p, "live");
    b.first = parse_small(p);
    parse_expect(p, "..");
    b.last = parse_small(p);
  }
  if (parse_accept(p, "part")) {
    parse_expect(p, "of");
    b.part = true;
    b.whole = parse_buffer_number(p);
    b.at = parse_field(p, "at");
    if (b.kind == BUF_INPUT || b.kind == BUF_OUTPUT) b.offset = b.at;
  }
  if (p->tok == TOK_STRING) b.name = parse_string(p);
  program_add_buffer(prog, b);
}

static Kernel *find_kernel(const Program *prog, const char *name) {
  for (int i = 0; i < prog->kernels.n; i++) {
    if (!strcmp(prog->kernels.at[i]->name, name)) return prog->kernels.at[i];
  }
  return NULL;
}

static void parse_call_args(Parser *p, const Program *prog, Call *c) {
  int n = c->kernel->params.n;
  c->args = NEW_N(p->arena, Arg, n);
  parse_expect(p, "(");
  for (int i = 0; i < n && !p->failed; i++) {
    if (i) parse_expect(p, ",");
    int b = parse_buffer_number(p);
    if (b >= prog->buffers.n) parse_fail(p, "there is no buffer b%d", b);
    c->args[i].buffer = b;
    if (parse_accept(p, "+")) c->args[i].offset = parse_size(p);
  }
  parse_expect(p, ")");
}

static void parse_program_call(Parser *p, Program *prog) {
  Call c = {.node = -1};
  char *name = parse_name(p);
  c.kernel = find_kernel(prog, name);
  if (!c.kernel) {
    parse_fail(p, "there is no kernel '%s'", name);
    return;
  }
  parse_call_args(p, prog, &c);
  if (p->tok == TOK_STRING) c.onnx_op = parse_string(p);
  VEC(const char *) origin = {0};
  if (parse_accept(p, "from")) {
    do vec_push(p->arena, &origin, parse_string(p));
    while (parse_accept(p, ","));
  }
  c.origin = origin.at;
  c.norigin = origin.n;
  vec_push(p->arena, &prog->calls, c);
}

static void parse_item(Parser *p, Program *prog) {
  if (parse_is(p, "kernel")) {
    Kernel *k = parse_kernel(p);
    if (!k) return;
    if (find_kernel(prog, k->name)) parse_fail(p, "two kernels are named '%s'", k->name);
    vec_push(p->arena, &prog->kernels, k);
  } else if (parse_accept(p, "call")) {
    parse_program_call(p, prog);
  } else if (parse_accept(p, "buffer")) {
    parse_buffer(p, prog);
  } else if (parse_accept(p, "weight")) {
    parse_weight(p, prog);
  } else if (parse_accept(p, "input")) {
    vec_push(p->arena, &prog->inputs, parse_port(p));
  } else if (parse_accept(p, "output")) {
    vec_push(p->arena, &prog->outputs, parse_port(p));
  } else if (parse_accept(p, "threads")) {
    prog->max_threads = parse_small(p);
    if (prog->max_threads < 1 || prog->max_threads > 4096) parse_fail(p, "not a number of threads");
  } else if (parse_accept(p, "workspace")) {
    prog->workspace_bytes = parse_size(p);
    prog->live_bytes = parse_field(p, "live");
    prog->weight_bytes = parse_field(p, "weights");
  } else if (parse_accept(p, "macs")) {
    prog->macs = parse_int(p);
    prog->params = parse_field(p, "params");
  } else {
    parse_fail(p, "expected kernel, call, buffer, weight, input, output, threads, workspace or macs, found '%.*s'", (int)MINI(p->n, 40),
               p->s);
  }
}

Program *program_parse(Arena *a, Diag *d, const char *file, const char *text, const Target *t) {
  Parser p;
  if (!parse_start(&p, a, d, file, text)) return NULL;
  Program *prog = program_new(a, t);
  parse_skip_comments(&p);
  parse_expect(&p, "program");
  prog->name = parse_string(&p);
  parse_expect(&p, "from");
  prog->file = parse_string(&p);
  for (parse_skip_comments(&p); p.tok != TOK_END; parse_skip_comments(&p)) parse_item(&p, prog);
  if (p.failed) return NULL;
  const char *wrong = program_verify(prog, a);
  if (wrong) {
    diag_error(d, SPINEC_ERR_INPUT, NULL, NULL, "%s: %s", p.file, wrong);
    return NULL;
  }
  fill_weights(prog);
  return prog;
}
