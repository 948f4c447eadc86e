/* Data movement against C: transpositions that take tiles and those that do not, slices, concatenations, pads, with and without a body. */
#include "op_test.h"

enum { MAX = 40000 };
static float x[MAX], y[MAX], want[MAX];
static double x64[MAX], want64[MAX];
static uint8_t x8[MAX], want8[MAX];

static void fill(void) {
  op_fill_f32(x, MAX, 1);
  op_fill_f32(y, MAX, 2);
  for (int i = 0; i < MAX; i++) x64[i] = x[i], x8[i] = (uint8_t)(i * 7 % 251);
}

typedef struct Dims { int n; int64_t d[6]; } Dims;

static int64_t count(const Dims *s) {
  int64_t n = 1;
  for (int i = 0; i < s->n; i++) n *= s->d[i];
  return n;
}

static const char *dims_text(const Dims *s) {
  static char t[8][64];
  static int k;
  k = (k + 1) % 8;
  t[k][0] = 0;
  for (int i = 0; i < s->n; i++) sprintf(t[k] + strlen(t[k]), "%s%lld", i ? "," : "", (long long)s->d[i]);
  return t[k];
}

static void unravel(int64_t i, const Dims *s, int64_t *c) {
  for (int d = s->n - 1; d >= 0; d--) c[d] = i % s->d[d], i /= s->d[d];
}

static int64_t ravel(const int64_t *c, const Dims *s) {
  int64_t i = 0;
  for (int d = 0; d < s->n; d++) i = i * s->d[d] + c[d];
  return i;
}

/* Checks `call` on f32, f64 and u8, where result element i is operand element from[i] (-1: fill), and with a body on f32. */
static void check_moves(const Dims *in, const Dims *out, const char *call, const char *attrs, const int64_t *from, double fill_value) {
  int64_t n = count(out);
  assert_true(n <= MAX && count(in) <= MAX);
  for (int64_t i = 0; i < n; i++) {
    want[i] = from[i] < 0 ? (float)fill_value : x[from[i]];
    want64[i] = from[i] < 0 ? fill_value : x64[from[i]];
    want8[i] = from[i] < 0 ? (uint8_t)fill_value : x8[from[i]];
  }
  const char *di = dims_text(in), *to = dims_text(out);
  op_check(op_text("graph \"t\" { input %%x: f32[%s] %%y = %s(%%x) {%s} output %%y }", di, call, attrs), (const void *[]){x},
           (const void *[]){want}, 0);
  op_check(op_text("graph \"t\" { input %%x: f64[%s] %%y = %s(%%x) {%s} output %%y }", di, call, attrs), (const void *[]){x64},
           (const void *[]){want64}, 0);
  op_check(op_text("graph \"t\" { input %%x: u8[%s] %%y = %s(%%x) {%s} output %%y }", di, call, attrs), (const void *[]){x8},
           (const void *[]){want8}, 0);
  for (int64_t i = 0; i < n; i++) want[i] = want[i] * 2 + y[i];
  op_check(op_text("graph \"t\" { input %%x: f32[%s] input %%r: f32[%s] const %%two: f32[] = [2] %%y = %s(%%x; %%two, %%r) {%s} body "
                   "{ %%0 = Mul(acc, in1); %%1 = Add(%%0, in2) } output %%y }", di, to, call, attrs),
           (const void *[]){x, y}, (const void *[]){want}, 1e-6);
}

static int64_t from[MAX];

/* ---- Transpose ---- */

static void transpose_case(const Dims *in, const int64_t *perm) {
  Dims out = {.n = in->n};
  char attrs[64] = "perm=[";
  for (int i = 0; i < in->n; i++) {
    out.d[i] = in->d[perm[i]];
    sprintf(attrs + strlen(attrs), "%s%d", i ? "," : "", (int)perm[i]);
  }
  strcat(attrs, "]");
  for (int64_t i = 0; i < count(&out); i++) {
    int64_t c[6], s[6];
    unravel(i, &out, c);
    for (int d = 0; d < in->n; d++) s[perm[d]] = c[d];
    from[i] = ravel(s, in);
  }
  check_moves(in, &out, "Transpose", attrs, from, 0);
}

static void transposes(void **state) {
  (void)state;
  fill();
  static const struct { Dims in; int64_t perm[6]; } cases[] = {
      {{0, {0}}, {0}},
      {{1, {5}}, {0}},
      {{2, {3, 5}}, {1, 0}},
      {{2, {16, 32}}, {1, 0}},          /* whole tiles */
      {{2, {33, 70}}, {1, 0}},          /* ragged both ways */
      {{2, {5, 100}}, {1, 0}},
      {{2, {100, 3}}, {1, 0}},          /* too narrow for tiles */
      {{3, {2, 17, 20}}, {0, 2, 1}},
      {{3, {7, 3, 19}}, {1, 0, 2}},     /* innermost kept */
      {{3, {5, 6, 7}}, {2, 1, 0}},
      {{4, {2, 3, 20, 24}}, {0, 2, 3, 1}},
      {{4, {2, 20, 24, 3}}, {0, 3, 1, 2}},
      {{4, {1, 20, 1, 24}}, {3, 2, 1, 0}},
      {{4, {3, 4, 5, 6}}, {2, 3, 0, 1}},
      {{5, {2, 3, 4, 5, 6}}, {4, 0, 3, 1, 2}},
      {{6, {2, 2, 2, 3, 4, 5}}, {0, 3, 4, 1, 5, 2}},   /* depth to space */
      {{3, {2, 0, 3}}, {2, 0, 1}},
  };
  for (int k = 0; k < COUNTOF(cases); k++) transpose_case(&cases[k].in, cases[k].perm);
}

/* ---- Slice ---- */

static void slice_case(const Dims *in, const int64_t *start, const int64_t *step, const int64_t *size) {
  Dims out = {.n = in->n};
  char text[3][64] = {"", "", ""};
  for (int i = 0; i < in->n; i++) {
    out.d[i] = size[i];
    const int64_t *all[3] = {start, step, size};
    for (int k = 0; k < 3; k++) sprintf(text[k] + strlen(text[k]), "%s%lld", i ? "," : "", (long long)all[k][i]);
  }
  for (int64_t i = 0; i < count(&out); i++) {
    int64_t c[6];
    unravel(i, &out, c);
    for (int d = 0; d < in->n; d++) c[d] = start[d] + c[d] * step[d];
    from[i] = ravel(c, in);
  }
  check_moves(in, &out, "Slice", op_text("starts=[%s], steps=[%s], sizes=[%s]", text[0], text[1], text[2]), from, 0);
}

static void slices(void **state) {
  (void)state;
  fill();
  slice_case(&(Dims){1, {50}}, (int64_t[]){3}, (int64_t[]){1}, (int64_t[]){40});
  slice_case(&(Dims){1, {50}}, (int64_t[]){49}, (int64_t[]){-1}, (int64_t[]){50});
  slice_case(&(Dims){1, {50}}, (int64_t[]){1}, (int64_t[]){3}, (int64_t[]){17});
  slice_case(&(Dims){1, {50}}, (int64_t[]){49}, (int64_t[]){-7}, (int64_t[]){8});
  slice_case(&(Dims){1, {50}}, (int64_t[]){7}, (int64_t[]){1}, (int64_t[]){0});
  slice_case(&(Dims){4, {2, 8, 5, 19}}, (int64_t[]){0, 2, 0, 0}, (int64_t[]){1, 1, 1, 1}, (int64_t[]){2, 3, 5, 19});   /* channels */
  slice_case(&(Dims){4, {2, 8, 5, 19}}, (int64_t[]){1, 7, 4, 18}, (int64_t[]){-1, -2, -1, -1}, (int64_t[]){2, 4, 5, 19});
  slice_case(&(Dims){4, {2, 8, 6, 20}}, (int64_t[]){0, 0, 1, 1}, (int64_t[]){1, 1, 2, 2}, (int64_t[]){2, 8, 3, 10});
  slice_case(&(Dims){3, {4, 5, 40}}, (int64_t[]){1, 1, 3}, (int64_t[]){1, 3, 1}, (int64_t[]){1, 2, 33});
  slice_case(&(Dims){0, {0}}, (int64_t[]){0}, (int64_t[]){1}, (int64_t[]){0});
}

/* ---- Expand, Tile ---- */

static void expands(void **state) {
  (void)state;
  fill();
  static const struct { Dims in, shape, out;
  } cases[] = {
      {{0, {0}}, {2, {3, 20}}, {2, {3, 20}}},
      {{1, {1}}, {1, {40}}, {1, {40}}},
      {{2, {3, 1}}, {2, {3, 20}}, {2, {3, 20}}},
      {{2, {1, 20}}, {2, {5, 20}}, {2, {5, 20}}},
      {{3, {2, 1, 5}}, {1, {1}}, {3, {2, 1, 5}}},
      {{2, {3, 1}}, {4, {2, 1, 3, 4}}, {4, {2, 1, 3, 4}}},
      {{3, {2, 1, 17}}, {3, {1, 3, 17}}, {3, {2, 3, 17}}},
      {{2, {1, 3}}, {2, {0, 3}}, {2, {0, 3}}},
  };
  for (int k = 0; k < COUNTOF(cases); k++) {
    const Dims *in = &cases[k].in, *out = &cases[k].out;
    for (int64_t i = 0; i < count(out); i++) {
      int64_t c[6];
      unravel(i, out, c);
      for (int d = 0; d < in->n; d++) c[d] = in->d[d] == 1 ? 0 : c[d + out->n - in->n];
      from[i] = ravel(c, in);
    }
    check_moves(in, out, "Expand", op_text("shape=[%s]", dims_text(&cases[k].shape)), from, 0);
  }
}

static void tiles(void **state) {
  (void)state;
  fill();
  static const struct { Dims in; int64_t repeats[6];
  } cases[] = {
      {{0, {0}}, {0}},
      {{1, {5}}, {7}},
      {{1, {20}}, {1}},
      {{2, {3, 20}}, {2, 3}},
      {{2, {3, 20}}, {4, 1}},
      {{2, {1, 1}}, {3, 30}},
      {{3, {2, 3, 4}}, {2, 1, 2}},
      {{4, {1, 2, 1, 5}}, {2, 2, 2, 2}},
      {{2, {3, 4}}, {0, 2}},
      {{6, {2, 2, 2, 2, 2, 2}}, {2, 2, 2, 2, 2, 2}}, /* more dims than a loop nest has */
  };
  for (int k = 0; k < COUNTOF(cases); k++) {
    const Dims *in = &cases[k].in;
    Dims out = {.n = in->n}, reps = {.n = in->n};
    for (int d = 0; d < in->n; d++) out.d[d] = in->d[d] * (reps.d[d] = cases[k].repeats[d]);
    for (int64_t i = 0; i < count(&out); i++) {
      int64_t c[6];
      unravel(i, &out, c);
      for (int d = 0; d < in->n; d++) c[d] %= in->d[d];
      from[i] = ravel(c, in);
    }
    check_moves(in, &out, "Tile", op_text("repeats=[%s]", dims_text(&reps)), from, 0);
  }
}

/* ---- Concat ---- */

static void concat_case(const Dims *first, int axis, const int64_t *sizes, int n) {
  Dims out = *first, in[20];
  const void *inputs[20];
  char decl[1200] = "", list[200] = "";
  out.d[axis] = 0;
  int64_t base = 0;
  for (int k = 0; k < n; k++) {
    in[k] = *first;
    in[k].d[axis] = sizes[k];
    inputs[k] = x + base;
    int64_t outer = 1, inner = 1;
    for (int d = 0; d < first->n; d++) *(d < axis ? &outer : &inner) *= in[k].d[d];
    base += count(&in[k]);
    out.d[axis] += sizes[k];
    sprintf(decl + strlen(decl), "input %%x%d: f32[%s] ", k, dims_text(&in[k]));
    sprintf(list + strlen(list), "%s%%x%d", k ? ", " : "", k);
  }
  for (int64_t i = 0; i < count(&out); i++) {
    int64_t c[6];
    int k = 0;
    unravel(i, &out, c);
    while (c[axis] >= sizes[k]) c[axis] -= sizes[k++];
    want[i] = ((const float *)inputs[k])[ravel(c, &in[k])];
  }
  op_check(op_text("graph \"t\" { %s %%y = Concat(%s) {axis=%d} output %%y }", decl, list, axis), inputs, (const void *[]){want}, 0);
}

static void concats(void **state) {
  (void)state;
  fill();
  static const int64_t two[] = {3, 5}, odd[] = {1, 0, 33, 2}, many[] = {1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3},
                       none[] = {0, 0};
  concat_case(&(Dims){1, {0}}, 0, two, 2);
  concat_case(&(Dims){1, {0}}, 0, odd, 4);
  concat_case(&(Dims){4, {2, 0, 5, 7}}, 1, two, 2);
  concat_case(&(Dims){4, {2, 0, 5, 7}}, 1, odd, 4);
  concat_case(&(Dims){2, {40, 0}}, 1, odd, 4);      /* one kernel for all operands */
  concat_case(&(Dims){2, {40, 0}}, 1, many, 19);
  concat_case(&(Dims){3, {20, 3, 0}}, 2, two, 2);
  concat_case(&(Dims){2, {4, 0}}, 1, none, 2);
  concat_case(&(Dims){2, {0, 3}}, 0, odd, 1);
  /* the same operand twice */
  for (int i = 0; i < 12; i++) want[i] = x[i / 6 * 3 + i % 3];
  op_check("graph \"t\" { input %x: f32[2,3] %y = Concat(%x, %x) {axis=1} output %y }", (const void *[]){x}, (const void *[]){want}, 0);
}

/* ---- Pad ---- */

static int64_t pad_source(int64_t i, int64_t lo, int64_t hi, int64_t in, const char *mode) {
  int64_t first = lo < 0 ? -lo : 0, m = in - first - (hi < 0 ? -hi : 0), j = i - (lo > 0 ? lo : 0);
  if (j >= 0 && j < m) return j + first;
  if (!strcmp(mode, "constant")) return -1;
  if (!strcmp(mode, "edge")) return first + (j < 0 ? 0 : m - 1);
  if (!strcmp(mode, "wrap")) return first + (j % m + m) % m;
  if (m == 1) return first;
  int64_t k = (j % (2 * m - 2) + 2 * m - 2) % (2 * m - 2);
  return first + (k < m ? k : 2 * m - 2 - k);
}

static void pads(void **state) {
  (void)state;
  fill();
  static const char *const modes[] = {"constant", "edge", "reflect", "wrap"};
  static const struct { Dims in; int64_t pads[12]; } cases[] = {
      {{1, {5}}, {2, 3}},
      {{1, {5}}, {12, 11}},                              /* more than once around */
      {{1, {5}}, {-1, -2}},
      {{1, {1}}, {2, 2}},
      {{2, {3, 20}}, {1, 0, 0, 2}},
      {{2, {3, 20}}, {0, 0, 0, 0}},
      {{4, {2, 3, 5, 18}}, {0, 0, 1, 2, 0, 0, 3, 1}},
      {{4, {2, 3, 5, 18}}, {0, 0, -1, 2, 0, 0, 3, -4}},  /* cropped and padded */
      {{4, {2, 3, 5, 18}}, {1, 2, 0, 0, 0, 1, 0, 0}},    /* rows stay whole */
      {{3, {4, 4, 4}}, {-1, -1, -1, 2, 2, 2}},
  };
  for (int k = 0; k < COUNTOF(cases); k++)
    for (int m = 0; m < 4; m++) {
      const Dims *in = &cases[k].in;
      Dims out = {.n = in->n}, list = {.n = 0};
      char text[100] = "";
      for (int d = 0; d < in->n; d++) out.d[d] = in->d[d] + cases[k].pads[d] + cases[k].pads[in->n + d];
      for (int d = 0; d < 2 * in->n; d++) sprintf(text + strlen(text), "%s%d", d ? "," : "", (int)cases[k].pads[d]);
      (void)list;
      for (int64_t i = 0; i < count(&out); i++) {
        int64_t c[6];
        bool inside = true;
        unravel(i, &out, c);
        for (int d = 0; d < in->n; d++) {
          c[d] = pad_source(c[d], cases[k].pads[d], cases[k].pads[in->n + d], in->d[d], modes[m]);
          if (c[d] < 0) inside = false;
        }
        from[i] = inside ? ravel(c, in) : -1;
      }
      check_moves(in, &out, "Pad", op_text("pads=[%s], mode=%s, value=3", text, modes[m]), from, 3);
    }
  /* all cropped away; from nothing */
  for (int i = 0; i < 4; i++) want[i] = 7;
  op_check("graph \"t\" { input %x: f32[3] %y = Pad(%x) {pads=[-5,6], mode=constant, value=7} output %y }", (const void *[]){x},
           (const void *[]){want}, 0);
  op_check("graph \"t\" { input %x: f32[0] %y = Pad(%x) {pads=[1,3], mode=constant, value=7} output %y }", (const void *[]){x},
           (const void *[]){want}, 0);
  for (int i = 0; i < 4; i++) want[i] = -7;
  op_check("graph \"t\" { input %x: f32[0] %y = Pad(%x) {pads=[1,3], mode=constant, value=7} body { %0 = Neg(acc) } output %y }",
           (const void *[]){x}, (const void *[]){want}, 0);
}

/* ---- Trilu, ReverseSequence ---- */

static void trilus(void **state) {
  (void)state;
  fill();
  static const int64_t ks[] = {-50, -3, -1, 0, 1, 4, 60};
  static const Dims shapes[] = {{2, {5, 5}}, {3, {2, 7, 20}}, {2, {33, 3}}, {2, {1, 40}}, {2, {0, 3}}};
  for (int s = 0; s < COUNTOF(shapes); s++)
    for (int k = 0; k < COUNTOF(ks); k++)
      for (int upper = 0; upper < 2; upper++) {
        const Dims *d = &shapes[s];
        for (int64_t i = 0; i < count(d); i++) {
          int64_t c[6];
          unravel(i, d, c);
          int64_t off = c[d->n - 1] - c[d->n - 2] - ks[k];
          from[i] = upper ? (off >= 0 ? i : -1) : (off <= 0 ? i : -1);
        }
        check_moves(d, d, "Trilu", op_text("upper=%s, k=%d", upper ? "true" : "false", (int)ks[k]), from, 0);
      }
  /* a diagonal far outside 64-bit coordinates */
  op_check("graph \"t\" { input %x: f32[2,2] %y = Trilu(%x) {upper=false, k=9223372036854775807} output %y }", (const void *[]){x},
           (const void *[]){x}, 0);
  static const uint8_t b[] = {1, 1, 1, 1}, wb[] = {1, 0, 1, 1};
  op_check("graph \"t\" { input %x: bool[2,2] %y = Trilu(%x) {upper=false, k=0} output %y }", (const void *[]){b}, (const void *[]){wb}, 0);
}

static void reverse_sequences(void **state) {
  (void)state;
  fill();
  static const int64_t lens[] = {4, 1, 0, 3, 9, -2};   /* the last two are out of range */
  for (int time = 0; time < 2; time++) {
    int inner = 21, nb = 6, nt = 4;
    for (int i = 0; i < nb * nt * inner; i++) {
      int p = i / inner, t = time ? p % nt : p / nb, b = time ? p / nt : p % nb;
      int64_t len = lens[b] < 0 ? 0 : lens[b] > nt ? nt : lens[b];
      int64_t s = t < len ? len - 1 - t : t;
      want[i] = x[(time ? b * nt + s : s * nb + b) * inner + i % inner];
    }
    op_check(op_text("graph \"t\" { input %%x: f32[%d,%d,%d] input %%n: i64[6] %%y = ReverseSequence(%%x, %%n) {batch_axis=%d, "
                     "time_axis=%d} output %%y }",
                     time ? nb : nt, time ? nt : nb, inner, !time, time),
             (const void *[]){x, lens}, (const void *[]){want}, 0);
  }
  static const int32_t short_lens[] = {3, 1};
  static const float w[] = {3, 2, 1, 4, 5, 6}, v[] = {1, 2, 3, 4, 5, 6};
  op_check("graph \"t\" { input %x: f32[2,3] input %n: i32[2] %y = ReverseSequence(%x, %n) {batch_axis=0, time_axis=1} output %y }",
           (const void *[]){v, short_lens}, (const void *[]){w}, 0);
}

static void refusals(void **state) {
  (void)state;
  op_refuse("graph \"t\" { input %x: f32[2,3] %y = Transpose(%x) {perm=[0,0]} output %y }", "twice");
  op_refuse("graph \"t\" { input %x: f32[2,3] %y = Transpose(%x) {perm=[0]} output %y }", "1 entries, expected 2");
  op_refuse("graph \"t\" { input %x: f32[2,3] %y = Transpose(%x) {perm=[0,9]} output %y }", "perm[1] is 9");
  op_refuse("graph \"t\" { input %x: f32[2,3] %y = Reshape(%x) {shape=[4,2]} output %y }", "[2, 3] cannot be reshaped to [4, 2]");
  op_refuse("graph \"t\" { input %x: f32[2,3] %y = Reshape(%x) {shape=[-1,-1]} output %y }", "two open dimensions");
  op_refuse("graph \"t\" { input %x: f32[2,3] %y = Reshape(%x) {shape=[4,-1]} output %y }", "cannot be reshaped");
  op_refuse("graph \"t\" { input %x: f32[2,3] %y = Reshape(%x) {shape=[1,1,1,1,1,1,1,2,3]} output %y }", "rank 9");
  op_refuse("graph \"t\" { input %x: f32[2,3] %y = Reshape(%x) {shape=[1099511627776,1099511627776]} output %y }", "reshaped");
  op_refuse("graph \"t\" { input %x: f32[9] %y = Slice(%x) {starts=[3], steps=[2], sizes=[4]} output %y }", "not inside 0..9");
  op_refuse("graph \"t\" { input %x: f32[9] %y = Slice(%x) {starts=[3], steps=[-2], sizes=[3]} output %y }", "not inside 0..9");
  op_refuse("graph \"t\" { input %x: f32[9] %y = Slice(%x) {starts=[0], steps=[0], sizes=[1]} output %y }", "is 0");
  op_refuse("graph \"t\" { input %x: f32[2,3] input %z: f32[3,3] %y = Concat(%x, %z) {axis=1} output %y }", "does not join");
  op_refuse("graph \"t\" { input %x: f32[2,3] input %z: i32[2,3] %y = Concat(%x, %z) {axis=1} output %y }", "operand 1 is i32");
  op_refuse("graph \"t\" { input %x: f32[2,3] %y = Concat(%x) {axis=2} output %y }", "axis 2");
  op_refuse("graph \"t\" { input %x: f32[2,3] %y = Expand(%x) {shape=[4,3]} output %y }", "does not expand");
  op_refuse("graph \"t\" { input %x: f32[2,3] %y = Tile(%x) {repeats=[1099511627776,1]} output %y }", "too large");
  op_refuse("graph \"t\" { input %x: f32[2,3] %y = Tile(%x) {repeats=[1,-1]} output %y }", "repeats[1]");
  op_refuse("graph \"t\" { input %x: f32[3] %y = Pad(%x) {pads=[-2,-2], mode=constant, value=0} output %y }", "cropped");
  op_refuse("graph \"t\" { input %x: f32[0] %y = Pad(%x) {pads=[1,1], mode=edge, value=0} output %y }", "no elements to pad with");
  op_refuse("graph \"t\" { input %x: f32[3] %y = Trilu(%x) {upper=true, k=0} output %y }", "rank 1");
  op_refuse("graph \"t\" { input %x: f32[2,3] input %n: i64[3] %y = ReverseSequence(%x, %n) {batch_axis=0, time_axis=1} output %y }",
            "i64[3]");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(transposes), cmocka_unit_test(slices), cmocka_unit_test(expands), cmocka_unit_test(tiles),
      cmocka_unit_test(concats),    cmocka_unit_test(pads),   cmocka_unit_test(trilus),  cmocka_unit_test(reverse_sequences),
      cmocka_unit_test(refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
