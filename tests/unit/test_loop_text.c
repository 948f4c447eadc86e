/* The text form of kernels and programs: it round-trips, reads what people write, and refuses the rest with the line; and the verifier. */
#include "loop_test.h"

#define HEAD "kernel k \"\" (x: f32 in, n: i32 in, w: f32 const, y: f32 out, m: bool out, s: f32 scratch 64) range r in 0..4 {\n"

/* ---- kernels ---- */

static void same_again(const char *text) {
  LoopTest t;
  loop_open(&t);
  assert_string_equal(loop_text(&t, loop_kernel(&t, text)), text);
  loop_close(&t);
}

static void round_trip(void **state) {
  (void)state;
  same_again("kernel conv_1 \"conv3x3 \\\"direct\\\" \\\\ \\x0a\" () {\n}\n");
  same_again("kernel k \"\" (x: f32 in alias, y: f64 out alias, z: u8 inout, w: bool const, s: i64 scratch 4096) range r in 0..160 flops "
             "1234567 bytes 0.10000000000000001 {\n}\n");
  same_again(HEAD
             "  // a comment // within\n"
             "  //\n"
             "  for i in r..r + 4 step 2 {\n"
             "    let t: f32x16 = splat.16(load x[i])\n"
             "    reg a: f32x16 = load.16 w[i * 16 first 4 - i by 2]\n"
             "    a = fma(t, a, 1.0)\n"
             "    a = max(0.0, a)\n"
             "    pin t\n"
             "    if i < 2 & i != r {\n"
             "      a = 0.0\n"
             "    } else {\n"
             "      a = neg(a)\n"
             "    }\n"
             "    while extract.0(a) > 3.0 {\n"
             "      a = a * 0.5\n"
             "    }\n"
             "    store y[i by 3] = a\n"
             "    store s[0] = const.f32x4(0.0)\n"
             "    store m[i] = true\n"
             "    prefetch x[i + 64] 0 write\n"
             "    prefetch x[i] 3 read\n"
             "  }\n"
             "}\n");
}

static void constants(void **state) {
  (void)state;
  same_again(HEAD
             "  let a: f32 = 0.1\n"
             "  let b: f32 = -1e-45\n"
             "  let c: f32 = 3.4028235e+38\n"
             "  let d: f32 = -inf\n"
             "  let e: f32 = nan\n"
             "  let f: f64 = 0.1\n"
             "  let g: f64 = 0.10000000149011612\n"
             "  let h: f32 = -0.0\n"
             "  let i: u64 = 18446744073709551615\n"
             "  let j: i64 = -9223372036854775808\n"
             "  let k: u8 = 255\n"
             "  let l: i32x8 = -1\n"
             "  let o: boolx4 = true\n"
             "  let p: f64 = cast.f64(const.i64(3))\n"
             "  let q: f32 = cast.f32(const.f64(0.5))\n"
             "  let u: f32x4 = splat.4(0.5)\n"
             "  let v: bool = const.i32(1) < 2\n"
             "  let z: f32 = exp(0.5) + 2.0\n"
             "  let aa: idx = 3 + 4 * 5\n"
             "  let ab: f32 = select(true, 1.0, a)\n"
             "  let ac: i64 = select(a < 1.0, const.i64(1), 2)\n"
             "  let ad: f32x4 = fma(u, 2.0, 3.0)\n"
             "  let ae: f32x4 = fma(const.f32x4(1.0), 2.0, 3.0)\n"
             "}\n");
}

static void precedence(void **state) {
  (void)state;
  same_again(HEAD
             "  let a: idx = r + r * r\n"
             "  let b: idx = (r + r) * r\n"
             "  let c: idx = r - (r - r)\n"
             "  let d: idx = r - r - r\n"
             "  let e: idx = r / (r / r) % r\n"
             "  let f: idx = r << 2 + r\n"
             "  let g: idx = (r << 2) + r\n"
             "  let h: idx = r & r | r ^ r\n"
             "  let i: idx = r & (r | r) ^ r\n"
             "  let j: bool = r < a == b < c\n"
             "  let k: bool = r == (a & b) | j\n"
             "}\n");
}

/* What people write: any spacing, several statements on a line, comments behind them, literals of the other kind. */
static void lenient(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  Kernel *k = loop_kernel(&t, "// a kernel\nkernel  k\"w\"(x:f32 in,y:f32 out)range r in 0..1{for i in 0..4{reg a:f32=load x[i]a=a*2 store "
                              "y[i]=a // done\n}}\n// end");
  assert_string_equal(loop_text(&t, k), "kernel k \"w\" (x: f32 in, y: f32 out) range r in 0..1 {\n"
                                        "  for i in 0..4 {\n"
                                        "    reg a: f32 = load x[i]\n"
                                        "    a = a * 2.0\n"
                                        "    store y[i] = a\n"
                                        "    // done\n"
                                        "  }\n"
                                        "}\n");
  loop_close(&t);
}

/* ---- refusals ---- */

static void refuse_text(const char *text, const char *message) {
  LoopTest t;
  loop_open(&t);
  Kernel *k = kernel_parse(t.arena, t.diag, "f.loops", text);
  if (k) fail_msg("accepted:\n%s", text);
  if (!strstr(loop_message(&t), message)) fail_msg("'%s' instead of '%s' for:\n%s", loop_message(&t), message, text);
  assert_int_equal(diag_status(t.diag), SPINEC_ERR_INPUT);
  loop_close(&t);
}

static void refuse(const char *body, const char *message) {
  char text[2000];
  snprintf(text, sizeof text, "%s%s\n}\n", HEAD, body);
  refuse_text(text, message);
}

static void syntax(void **state) {
  (void)state;
  refuse_text("", "f.loops:1: expected 'kernel', found ''");
  refuse_text("kernel k", "expected text in quotes");
  refuse_text("kernel k \"x", "does not end");
  refuse_text("kernel k \"\" (x: f32 in) range r in 0..1 {", "ends inside a block");
  refuse_text("kernel k \"\" (x: f33 in) {}", "expected a type");
  refuse_text("kernel k \"\" (x: f16 in) {}", "expected a type");
  refuse_text("kernel k \"\" (x: f32x4 in) {}", "scalar type");
  refuse_text("kernel k \"\" (x: f32 sideways) {}", "expected in, out");
  refuse_text("kernel k \"\" (x: f32 in, x: f32 in) {}", "declared twice");
  refuse_text("kernel k \"\" (x: f32 in) range r in 1..4 {}", "starts at 0");
  refuse_text("kernel k \"\" () {} kernel", "expected the end");
  refuse("let a: f32 = 1.0\nlet b: f32 = c", "f.loops:3: 'c' is not a variable");
  refuse("let a: f32 = 1.0 +", "expected a value");
  refuse("let a: f32 = (1.0", "expected ')'");
  refuse("let load: f32 = 1.0", "word of the language");
  refuse("let a: f32x65 = 1.0", "expected a type");
  refuse("let a: u8 = 256", "does not fit");
  refuse("let a: u8 = -1", "does not fit");
  refuse("let a: i32 = 0.5", "wrong type");
  refuse("let a: f32 = true", "bool where a float");
  refuse("let a: i64 = 9223372036854775808", "does not fit");
  refuse("let a: u64 = 18446744073709551616", "too large");
  refuse("let a: f32x4 = splat.99(1.0)", "1 to 64 lanes");
  refuse("let a: f32x4 = shuffle(load.4 x[0], load.4 x[0], [1000])", "list of lanes");
  refuse("for i in 0..4 step {}", "expected a whole number");
  refuse("prefetch x[0 first 2] 1 read", "one index");
  refuse("r = 1 2", "'2' is not a variable");
  refuse("? = 1", "is not a variable");
}

static void rules(void **state) {
  (void)state;
  refuse("let a: f32 = load.4 x[0]", "value of f32x4 where f32 belongs in: let a: f32 = load.4 x[0]");
  refuse("let a: f32 = load n[0]", "value of i32 where f32");
  refuse("let a: f32 = load x[0] + cast.f64(load x[0])", "+ has operands of f32 and f64");
  refuse("let a: f32x4 = load.4 x[0] + load x[0]", "f32x4 and f32");
  refuse("let a: bool = true + false", "+ of bool");
  refuse("let a: f32 = load x[0] & 1.0", "& of f32");
  refuse("let a: i32 = exp(load n[0])", "exp of i32");
  refuse("let a: f32 = cast.f32(load x[0])", "cast of f32");
  refuse("let a: f64x4 = 1.0", "not a type of values");
  refuse("let a: f32x3 = 1.0", "not a type of values");
  refuse("let a: f64 = bitcast.f64(load x[0])", "bitcast of f32");
  refuse("let a: f32x4 = load.4 x[0 first load n[0]]", "count of i32");
  refuse("let a: f32 = load x[0 first 1]", "neither count nor stride");
  refuse("let a: f32 = load x[load n[0]]", "index of i32");
  refuse("let a: f32 = load y[0]", "only written");
  refuse("store x[0] = 1.0", "only read");
  refuse("store w[0] = 1.0", "only read");
  refuse("store r[0] = r", "not a buffer");
  refuse("let a: f32 = x", "buffer x used as a value");
  refuse("r = 3", "assignment to no register");
  refuse("let a: f32 = 1.0 a = 2.0", "assignment to no register");
  refuse("let a: f32 = a", "used where it is not defined");
  refuse("if r < 2 { let a: idx = r } let b: idx = a", "a is used where it is not defined");
  refuse("for i in 0..4 { } let b: idx = i", "i is used where it is not defined");
  refuse("for i in 0..i { }", "i is used where it is not defined");
  refuse("for i in 0..4 step 0 { }", "step is 0");
  refuse("for i in 0..4 step -1 { }", "step is -1");
  refuse("if r { }", "condition of idx");
  refuse("while load.4 x[0] < 1.0 { }", "condition of boolx4");
  refuse("let a: f32 = extract.4(load.4 x[0])", "extract of f32x4");
  refuse("let a: f32 = reduce_add(load x[0])", "reduce_add of f32");
  refuse("let a: f32x4 = shuffle(load.4 x[0], load.4 x[0], [0, 1, 2, 8])", "picks lane 8 of 8");
  refuse("let a: f32x4 = select(load.8 x[0] < 1.0, load.4 x[0], load.4 x[0])", "select has operands of");
  refuse("pin r", "pin of no variable");
  refuse("prefetch x[0] 4 read", "locality of 4");
  refuse("store m[0] = load.4 x[0] < 1.0 store m[0] = load x[0]", "access to m as f32");
}

/* Deep nesting, long chains: refused, never a crash. */
static void hostile(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  static const struct { const char *open, *middle, *close; int n; const char *message; } deep[] = {
      {"(", "1", ")", 200000, "too deeply"},           {"neg(", "1.0", ")", 200000, "too deeply"},
      {"load x[", "0", "]", 200000, ""},               {"1 + ", "1", "", 200000, "too deeply"},
      {"1 - (", "1", ")", 900, ""},
  };
  for (int i = 0; i < COUNTOF(deep); i++) {
    Text text = {.a = t.arena};
    text_add(&text, HEAD "let a: idx = ");
    for (int k = 0; k < deep[i].n; k++) text_add(&text, deep[i].open);
    text_add(&text, deep[i].middle);
    for (int k = 0; k < deep[i].n; k++) text_add(&text, deep[i].close);
    text_add(&text, "\n}\n");
    Diag *d = spinec_diagnostics_new();
    Kernel *k = kernel_parse(t.arena, d, "deep", text.s);
    if (deep[i].n > 1000) {
      assert_null(k);
      assert_non_null(strstr(spinec_diagnostics_text(d, 0), deep[i].message));
    }
    spinec_diagnostics_free(d);
  }
  Text text = {.a = t.arena};
  text_add(&text, HEAD);
  for (int k = 0; k < 1000; k++) text_add(&text, "if true {\n");
  assert_null(kernel_parse(t.arena, t.diag, "deep", text.s));
  assert_non_null(strstr(loop_message(&t), "too deeply"));
  loop_close(&t);
}

/* Text with bytes changed, dropped and doubled: accepted or refused, never a crash; what is accepted prints. */
static void garbled(void **state) {
  (void)state;
  static const char text[] = HEAD
      "  for i in r..r + 4 step 2 {\n    let t: f32x16 = splat.16(load x[i])\n    reg a: f32x16 = load.16 w[i * 16 first 4 - i by 2]\n"
      "    a = fma(t, a, 1.0)\n    if i < 2 & i != r {\n      a = shuffle(a, t, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 31])\n"
      "    } else {\n      a = select(a < 0.5, neg(a), const.f32x16(-1e10))\n    }\n    store y[i] = cast.f32(bitcast.i32(a))\n"
      "    while reduce_add(a) > 3.0 {\n      a = a * 0.5 // half\n    }\n    prefetch x[i + 64] 0 write\n    pin t\n  }\n}\n";
  uint64_t seed = 5;
  int accepted = 0;
  for (int round = 0; round < 20000; round++) {
    char copy[2 * sizeof text];
    size_t n = sizeof text - 1;
    memcpy(copy, text, n);
    for (int edits = 1 + test_pick(&seed, 3); edits > 0; edits--) {
      size_t at = (size_t)test_pick(&seed, (int)n), len = (size_t)test_pick(&seed, 12);
      if (at + len > n) len = n - at;
      switch (test_pick(&seed, 4)) {
      case 0: copy[at] = (char)(1 + test_pick(&seed, 255)); break;
      case 1: memmove(copy + at, copy + at + len, n - at - len); n -= len; break;
      case 2: memmove(copy + at + len, copy + at, n - at); n += len; break;
      case 3: copy[at] = text[test_pick(&seed, (int)sizeof text - 1)]; break;
      }
      if (n > sizeof copy / 2) n = sizeof copy / 2;
    }
    copy[n] = 0;
    LoopTest t;
    loop_open(&t);
    Kernel *k = kernel_parse(t.arena, t.diag, "garbled", copy);
    assert_int_equal(k != NULL, spinec_diagnostics_count(t.diag) == 0);
    if (k) {
      const char *once = loop_text(&t, k);
      assert_string_equal(loop_text(&t, loop_kernel(&t, once)), once);
      accepted++;
    }
    loop_close(&t);
  }
  assert_true(accepted > 100);
}

/* ---- programs ---- */

static const char program_text[] =
    "program \"net\" from \"net.onnx\"\n"
    "threads 2\n"
    "workspace 512 live 384 weights 64\n"
    "macs 100 params 16\n"
    "input \"x\" f32 [1, \"n\" 16]\n"
    "output \"y\" f32 [16]\n"
    "weight \"w\" \"dense\" bytes 64 offset 0\n"
    "buffer b0 input 0 bytes 64 \"x\"\n"
    "buffer b1 output 0 bytes 64 \"y\"\n"
    "buffer b2 weight 0 bytes 64 \"w\"\n"
    "buffer b3 arena bytes 64 offset 0 live 0..1 \"mid\"\n"
    "buffer b4 scratch bytes 64 offset 64 stride 128 live 0..0\n"
    "buffer b5 arena bytes 64 offset 0 live 1..2\n"
    "\n"
    "kernel k0 \"scale\" (x: f32 in, w: f32 const, y: f32 out, s: f32 scratch 64) range r in 0..4 {\n"
    "  store s[0] = load.4 x[r * 4]\n"
    "  store y[r * 4] = load.4 s[0] * load.4 w[r * 4]\n"
    "}\n"
    "\n"
    "kernel k1 \"relu\" (x: f32 in alias, y: f32 out alias) range r in 0..4 {\n"
    "  store y[r * 4] = max(load.4 x[r * 4], 0.0)\n"
    "}\n"
    "\n"
    "call k0(b0, b2, b3, b4) \"Mul\" from \"mul_1\", \"mul_2\"\n"
    "call k1(b3, b5) \"Relu\" from \"relu\"\n"
    "call k1(b5, b1)\n";

static void program_round_trip(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  Program *p = program_parse(t.arena, t.diag, "p", program_text, &t.target);
  if (!p) fail_msg("%s", loop_message(&t));
  Text out = {.a = t.arena};
  program_print(p, &out);
  assert_string_equal(out.s, program_text);
  /* The weights are noise, the same each time. */
  float w[16], again[16];
  p->weights.at[0].fill(p->weights.at[0].ctx, w);
  p->weights.at[0].fill(p->weights.at[0].ctx, again);
  assert_memory_equal(w, again, sizeof w);
  for (int i = 0; i < 16; i++) assert_true(w[i] >= -1 && w[i] < 1);
  assert_true(w[0] != w[1]);
  loop_close(&t);
}

/* Kernels without names of their own yet are told apart. */
static void program_before_names(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  Program *p = program_parse(t.arena, t.diag, "p", program_text, &t.target);
  p->kernels.at[0]->name = p->kernels.at[1]->name = "k";
  Text out = {.a = t.arena};
  program_print(p, &out);
  assert_string_equal(out.s, program_text);
  loop_close(&t);
}

/* program_text with the first `from` replaced. */
static void refuse_program(const char *from, const char *to, const char *message) {
  LoopTest t;
  loop_open(&t);
  const char *at = strstr(program_text, from);
  assert_non_null(at);
  char *text = arena_printf(t.arena, "%.*s%s%s", (int)(at - program_text), program_text, to, at + strlen(from));
  if (program_parse(t.arena, t.diag, "f", text, &t.target)) fail_msg("accepted %s for %s", to, from);
  if (!strstr(loop_message(&t), message)) fail_msg("'%s' instead of '%s'", loop_message(&t), message);
  loop_close(&t);
}

static void program_rules(void **state) {
  (void)state;
  refuse_program("threads 2", "threads 0", "number of threads");
  refuse_program("call k1(b5", "call k2(b5", "no kernel 'k2'");
  refuse_program("call k1(b5", "call k1(b9", "no buffer b9");
  refuse_program("kernel k1", "kernel k0", "two kernels are named");
  refuse_program("buffer b3 arena", "buffer b4 arena", "in order");
  refuse_program("k1(b3, b5)", "k1(b3, b0)", "y writes to b0, which is only read");
  refuse_program("k1(b3, b5)", "k1(b3, b2)", "only read");
  refuse_program("k0(b0, b2", "k0(b0, b0", "w cannot be b0");
  refuse_program("b3, b4)", "b3, b3)", "s cannot be b3");
  refuse_program("k1(b3, b5)", "k1(b3 + 2, b5)", "starts at byte 2");
  refuse_program("k1(b3, b5)", "k1(b3 + 128, b5)", "starts at byte 128");
  refuse_program("scratch 64", "scratch 65", "65 bytes of scratch");
  refuse_program("call k0(b0, b2, b3, b4) \"Mul\" from \"mul_1\", \"mul_2\"\n", "", "reads b3, which nothing wrote");
  refuse_program("call k1(b5, b1)\n", "", "nothing writes output 0");
  refuse_program("call k1(b5, b1)", "call k1(b0, b1)\ncall k1(b5, b1)", "b5 is used from call 1 to 3, but lives from 1 to 2");
  refuse_program("live 0..1", "live 0..2", "b3 and b5 share memory");
  refuse_program("in alias", "in", "b3 and b5 share memory");
  refuse_program("k0(b0, b2, b3, b4)", "k0(b3, b2, b3, b4)", "y and x are both in b3");
  refuse_program("offset 64 stride", "offset 32 stride", "not aligned");
  refuse_program("offset 64 stride 128", "offset 448 stride 128", "outside the workspace");
  refuse_program("stride 128", "stride 0", "overlap");
  refuse_program("offset 64 stride 128", "offset 0 stride 128", "share memory");
  refuse_program("input 0 bytes 64", "input 0 bytes 60", "b0 has 60 bytes");
  refuse_program("input 0", "input 1", "not in the signature");
  refuse_program("buffer b2 weight 0 bytes 64", "buffer b2 weight 0 bytes 32", "not a weight");
  refuse_program("weights 64", "weights 32", "outside the 32 bytes of weights");
  refuse_program("f32 [16]", "f32 [17]", "which 'y' does not");
  refuse_program("load.4 s[0]", "load.4 s[13]", "accessed up to element 17 but has 16");
  refuse_program("\nbuffer b0", "\nbufer b0", "expected kernel, call");
  refuse_program("x[r * 4]", "x[r * q]", "'q' is not a variable");
  refuse_program("[16]", "[1, 2, 3, 4, 5, 6, 7, 8, 9]", "more than 8 dimensions");
  refuse_program("bytes 64", "bytes 99999999999999999", "not a size");
}

/* A tensor made in two parts and read in two others, one of them of the caller's. */
static const char parts_text[] =
    "program \"net\" from \"net.onnx\"\n"
    "threads 1\n"
    "workspace 192 live 192 weights 0\n"
    "macs 0 params 0\n"
    "input \"x\" f32 [32]\n"
    "output \"y\" f32 [32]\n"
    "buffer b0 input 0 bytes 128 \"x\"\n"
    "buffer b1 output 0 bytes 128 \"y\"\n"
    "buffer b2 input 0 bytes 64 part of b0 at 64\n"
    "buffer b3 arena bytes 128 offset 0 live 0..3 \"whole\"\n"
    "buffer b4 arena bytes 48 offset 0 live 0..2 part of b3 at 0 \"left\"\n"
    "buffer b5 arena bytes 80 offset 48 live 1..3 part of b3 at 48\n"
    "buffer b6 arena bytes 64 offset 64 live 1..3 part of b3 at 64\n"
    "buffer b7 output 0 bytes 64 part of b1 at 0\n"
    "buffer b8 output 0 bytes 64 part of b1 at 64\n"
    "buffer b9 arena bytes 64 offset 128 live 3..4\n"
    "\n"
    "kernel k0 \"\" (x: f32 in, y: f32 out) range r in 0..4 {\n"
    "  store y[r] = load x[r]\n"
    "}\n"
    "\n"
    "kernel k1 \"\" (x: f32 in alias, y: f32 out alias) range r in 0..4 {\n"
    "  store y[r] = load x[r]\n"
    "}\n"
    "\n"
    "call k0(b0, b4)\n"
    "call k0(b2, b5)\n"
    "call k0(b3, b7)\n"
    "call k0(b6, b9)\n"
    "call k0(b9, b8)\n";

static const char *parts_with(LoopTest *t, const char *from, const char *to) {
  const char *at = strstr(parts_text, from);
  assert_non_null(at);
  return arena_printf(t->arena, "%.*s%s%s", (int)(at - parts_text), parts_text, to, at + strlen(from));
}

static void refuse_parts(const char *from, const char *to, const char *message) {
  LoopTest t;
  loop_open(&t);
  if (program_parse(t.arena, t.diag, "f", parts_with(&t, from, to), &t.target)) fail_msg("accepted %s for %s", to, from);
  if (!strstr(loop_message(&t), message)) fail_msg("'%s' instead of '%s'", loop_message(&t), message);
  loop_close(&t);
}

static void program_parts(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  Program *p = program_parse(t.arena, t.diag, "p", parts_text, &t.target);
  if (!p) fail_msg("%s", loop_message(&t));
  Text out = {.a = t.arena};
  program_print(p, &out);
  assert_string_equal(out.s, parts_text);
  Segments s = program_segments(p, t.arena);
  assert_int_equal(s.hi[3] - s.lo[3], 3);   /* 0..48, 48..64, 64..128 */
  assert_int_equal(s.hi[5] - s.lo[5], 2);
  assert_int_equal(s.at[s.lo[3]].last, 2);
  assert_int_equal(s.at[s.lo[6]].first, 1);
  assert_int_equal(s.at[s.lo[6]].last, 3);
  loop_close(&t);
  refuse_parts("part of b3 at 0", "part of b4 at 0", "b4 cannot be part of b4");
  refuse_parts("part of b0 at 64", "part of b3 at 64", "b2 cannot be part of b3");
  refuse_parts("part of b0 at 64", "part of b17 at 64", "b2 is part of no buffer");
  refuse_parts("part of b3 at 48", "part of b3 at 64", "b5 is not within b3");
  refuse_parts("offset 48 live", "offset 0 live", "b5 is not in its place in b3");
  refuse_parts("call k0(b2, b5)\n", "", "reads b3, which nothing wrote");
  refuse_parts("call k0(b9, b8)\n", "", "nothing writes output 0");
  refuse_parts("call k0(b2, b5)", "call k0(b4, b3)", "y and x are both in b3");
  refuse_parts("offset 128 live 3..4", "offset 64 live 3..4", "b3 and b9 share memory");
  /* Where the one becomes the other, the same bytes may do; so may those of a part nobody reads any more. */
  loop_open(&t);
  char *text = (char *)parts_with(&t, "offset 128 live 3..4", "offset 64 live 3..4");
  memcpy(strstr(text, "call k0(b6, b9)"), "call k1", 7);
  if (!program_parse(t.arena, t.diag, "p", text, &t.target)) fail_msg("%s", loop_message(&t));
  text = (char *)parts_with(&t, "bytes 64 offset 128 live 3..4", "bytes 48 offset 0 live 3..4");
  if (!program_parse(t.arena, t.diag, "p", text, &t.target)) fail_msg("%s", loop_message(&t));
  loop_close(&t);
}

static void garble(const char *from, size_t size, int rounds) {
  uint64_t seed = 9;
  for (int round = 0; round < rounds; round++) {
    char copy[sizeof program_text + sizeof parts_text];
    memcpy(copy, from, size);
    for (int edits = 1 + test_pick(&seed, 3); edits > 0; edits--) {
      char *at = copy + test_pick(&seed, (int)size - 1);
      *at = test_pick(&seed, 3) ? from[test_pick(&seed, (int)size - 1)] : (char)('0' + test_pick(&seed, 10));
    }
    LoopTest t;
    loop_open(&t);
    Program *p = program_parse(t.arena, t.diag, "garbled", copy, &t.target);
    assert_int_equal(p != NULL, spinec_diagnostics_count(t.diag) == 0);
    if (p) assert_null(program_verify(p, t.arena));
    loop_close(&t);
  }
}

static void program_garbled(void **state) {
  (void)state;
  garble(program_text, sizeof program_text, 4000);
  garble(parts_text, sizeof parts_text, 4000);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(round_trip),
      cmocka_unit_test(constants),
      cmocka_unit_test(precedence),
      cmocka_unit_test(lenient),
      cmocka_unit_test(syntax),
      cmocka_unit_test(rules),
      cmocka_unit_test(hostile),
      cmocka_unit_test(garbled),
      cmocka_unit_test(program_round_trip),
      cmocka_unit_test(program_before_names),
      cmocka_unit_test(program_rules),
      cmocka_unit_test(program_parts),
      cmocka_unit_test(program_garbled),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
