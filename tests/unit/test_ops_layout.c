/* Elementwise groups, bodies and Reorder in PLAIN and BLOCKED layouts: blocks wider and narrower than vectors, channels that fill no block,
 * operands read upsampled, results in the memory of operands. */
#include "op_test.h"

enum { MAX = 4 * 40 * 33 * 17 };
static float x[MAX], y[MAX], z[MAX], want[MAX], want2[MAX];

static void fill(void) {
  op_fill_f32(x, MAX, 1);
  op_fill_f32(y, MAX, 2);
  op_fill_f32(z, MAX, 3);
}

/* ---- bodies in PLAIN ---- */

static void map_steps(void **state) {
  (void)state;
  fill();
  for (int i = 0; i < 3 * 5 * 21; i++) {
    float s = x[i] + y[i / 21 % 5];
    want[i] = (s > 0.5f ? s : 0) * s - x[i];
  }
  op_check("graph \"t\" { input %x: f32[3,5,21] input %y: f32[5,1] const %half: f32[] = [0.5] const %zero: f32[] = [0] "
           "%z = Map(; %x, %y, %half, %zero) body { %0 = Add(in0, in1); %1: bool = Greater(%0, in2); %2 = Where(%1, %0, in3); "
           "%3 = Mul(%2, %0); %4 = Sub(%3, in0) } output %z }",
           (const void *[]){x, y}, (const void *[]){want}, 1e-6);
  /* an elementwise node with a body: acc is its own result, used twice */
  for (int i = 0; i < 105; i++) want[i] = (x[i] - y[i]) * (x[i] - y[i]) + y[i];
  op_check(
      "graph \"t\" { input %x: f32[105] input %y: f32[105] %z = Sub(%x, %y; %y) body { %0 = Mul(acc, acc); %1 = Add(%0, in2) } output %z }",
      (const void *[]){x, y}, (const void *[]){want}, 1e-6);
}

static void map_types(void **state) {
  (void)state;
  static int32_t i32[37];
  static uint8_t b[37], wantb[37];
  static double f64[37];
  fill();
  for (int i = 0; i < 37; i++) {
    i32[i] = i - 18, b[i] = (uint8_t)(i % 3 == 0);
    want[i] = (float)(i32[i] < 0 ? 0 : i32[i]) * x[i];
    wantb[i] = x[i] > 0 && b[i];
    f64[i] = x[i] * (double)i32[i];
  }
  op_check("graph \"t\" { input %x: f32[37] input %i: i32[37] %z = Map(; %x, %i) body { %0: i32 = Relu(in1); %1: f32 = Cast(%0) {to=f32}; "
           "%2 = Mul(in0, %1) } output %z }",
           (const void *[]){x, i32}, (const void *[]){want}, 1e-6);
  op_check("graph \"t\" { input %x: f32[37] input %b: bool[37] const %o: f32[1] = [0] %z: bool[37] = Map(; %x, %b, %o) body "
           "{ %0: bool = Greater(in0, in2); %1: bool = And(%0, in1) } output %z }",
           (const void *[]){x, b}, (const void *[]){wantb}, 0);
  op_check("graph \"t\" { input %x: f32[37] input %i: i32[37] %z: f64[37] = Map(; %x, %i) body { %0: f64 = Cast(in0) {to=f64}; "
           "%1: f64 = Cast(in1) {to=f64}; %2: f64 = Mul(%0, %1) } output %z }",
           (const void *[]){x, i32}, (const void *[]){f64}, 1e-12);
}

/* ---- Reorder ---- */

static void reorders(void **state) {
  (void)state;
  static const int channels[] = {1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33}, blocks[] = {4, 8, 16, 32},
                   spaces[][2] = {{1, 1}, {3, 5}, {4, 4}, {7, 19}, {33, 1}};
  fill();
  for (int c = 0; c < COUNTOF(channels); c++)
    for (int b = 0; b < COUNTOF(blocks); b++)
      for (int s = 0; s < COUNTOF(spaces); s++) {
        int h = spaces[s][0], w = spaces[s][1], n = 1 + (c + b + s) % 2;
        op_check(
            op_text(
                "graph \"t\" { input %%x: f32[%d,%d,%d,%d] %%b: f32[%d,%d,%d,%d]{c%d} = Reorder(%%x) %%y: f32[%d,%d,%d,%d] = Reorder(%%b) "
                "output %%y }",
                n, channels[c], h, w, n, channels[c], h, w, blocks[b], n, channels[c], h, w),
            (const void *[]){x}, (const void *[]){x}, 0);
      }
  /* from one block to another, rank 3 and 5, other types */
  op_check("graph \"t\" { input %x: f32[2,19,3,7] %a: f32[2,19,3,7]{c8} = Reorder(%x) %b: f32[2,19,3,7]{c16} = Reorder(%a) "
           "%c: f32[2,19,3,7]{c4} = Reorder(%b) %y: f32[2,19,3,7] = Reorder(%c) output %y }", (const void *[]){x}, (const void *[]){x}, 0);
  op_check("graph \"t\" { input %x: f32[2,19,37] %a: f32[2,19,37]{c8} = Reorder(%x) %y: f32[2,19,37] = Reorder(%a) output %y }",
           (const void *[]){x}, (const void *[]){x}, 0);
  op_check("graph \"t\" { input %x: f32[2,6,2,3,17] %a: f32[2,6,2,3,17]{c4} = Reorder(%x) %y: f32[2,6,2,3,17] = Reorder(%a) output %y }",
           (const void *[]){x}, (const void *[]){x}, 0);
  op_check("graph \"t\" { input %x: i64[2,5,3] %a: i64[2,5,3]{c4} = Reorder(%x) %y: i64[2,5,3] = Reorder(%a) output %y }",
           (const void *[]){x}, (const void *[]){x}, 0);
  op_check("graph \"t\" { input %x: u8[2,21,3] %a: u8[2,21,3]{c16} = Reorder(%x) %y: u8[2,21,3] = Reorder(%a) output %y }",
           (const void *[]){x}, (const void *[]){x}, 0);
  op_check("graph \"t\" { input %x: f32[2,5,0,3] %a: f32[2,5,0,3]{c4} = Reorder(%x) %y: f32[2,5,0,3] = Reorder(%a) output %y }",
           (const void *[]){x}, (const void *[]){x}, 0);
}

/* A long row: several chunks, the last one ragged. */
static void reorder_long(void **state) {
  (void)state;
  fill();
  op_check("graph \"t\" { input %x: f32[1,9,1,2307] %a: f32[1,9,1,2307]{c8} = Reorder(%x) %y: f32[1,9,1,2307] = Reorder(%a) output %y }",
           (const void *[]){x}, (const void *[]){x}, 0);
}

static void reorder_bodies(void **state) {
  (void)state;
  fill();
  enum { N = 2, C = 21, H = 3, W = 18 };
  for (int i = 0; i < N * C * H * W; i++) {
    int c = i / (H * W) % C;
    float v = x[i] * y[c];
    want[i] = (v > 0 ? v : 0) + z[i];
  }
  /* on the way in, on the way out; operands by channel, of full size, and per column (which keeps rows apart) */
  op_check("graph \"t\" { input %x: f32[2,21,3,18] input %y: f32[21,1,1] input %z: f32[2,21,3,18] "
           "%a: f32[2,21,3,18]{c8} = Reorder(%x; %y) body { %0 = Mul(acc, in1); %1 = Relu(%0) } "
           "%b: f32[2,21,3,18] = Reorder(%a; %z) body { %0 = Add(acc, in1) } output %b }",
           (const void *[]){x, y, z}, (const void *[]){want}, 1e-6);
  for (int i = 0; i < N * C * H * W; i++) want[i] = x[i] + y[i % W] - z[i / (H * W) % C];
  op_check("graph \"t\" { input %x: f32[2,21,3,18] input %y: f32[18] input %z: f32[1,21,1,1] "
           "%a: f32[2,21,3,18]{c16} = Reorder(%x; %y) body { %0 = Add(acc, in1) } "
           "%b: f32[2,21,3,18] = Reorder(%a; %z) body { %0 = Sub(acc, in1) } output %b }",
           (const void *[]){x, y, z}, (const void *[]){want}, 1e-6);
}

/* ---- elementwise on blocks ---- */

static void blocked_maps(void **state) {
  (void)state;
  static const int channels[] = {1, 5, 8, 21, 32}, blocks[] = {2, 4, 8, 16};
  fill();
  for (int k = 0; k < COUNTOF(channels); k++)
    for (int b = 0; b < COUNTOF(blocks); b++) {
      int c = channels[k], s = 3 * 7;
      for (int i = 0; i < 2 * c * s; i++) {
        float v = (x[i] + y[i]) * z[i / s % c];
        want[i] = v > 0 ? v : 0;
        want2[i] = x[i] * y[i];
      }
      const char *t = op_text("f32[2,%d,3,7]{c%d}", c, blocks[b]);
      /* a PLAIN operand per channel; all operands alike */
      op_check(
          op_text(
              "graph \"t\" { input %%x: f32[2,%d,3,7] input %%y: f32[2,%d,3,7] input %%z: f32[%d,1,1] %%a: %s = Reorder(%%x) "
              "%%b: %s = Reorder(%%y) %%c: %s = Map(; %%a, %%b, %%z) body { %%0 = Add(in0, in1); %%1 = Mul(%%0, in2); %%2 = Relu(%%1) } "
              "%%d: %s = Mul(%%a, %%b) %%e: f32[2,%d,3,7] = Reorder(%%c) %%f: f32[2,%d,3,7] = Reorder(%%d) output %%e output %%f }",
              c, c, c, t, t, t, t, c, c),
          (const void *[]){x, y, z}, (const void *[]){want, want2}, 1e-6);
    }
}

/* PLAIN operands of full size, of one row, of one image; BLOCKED ones that broadcast. */
static void blocked_broadcasts(void **state) {
  (void)state;
  fill();
  enum { C = 11, H = 4, W = 5, S = H * W };
  for (int i = 0; i < 2 * C * S; i++) {
    int c = i / S % C, n = i / (S * C), p = i % S;
    want[i] = x[i] + y[p % W] - z[i];
    want2[i] = x[i] * y[n * C + c] + z[p];   /* a: [2,C,1,1] blocked */
  }
  op_check("graph \"t\" { input %x: f32[2,11,4,5] input %y: f32[5] input %z: f32[2,11,4,5] %a: f32[2,11,4,5]{c8} = Reorder(%x) "
           "%b: f32[2,11,4,5]{c8} = Map(; %a, %y, %z) body { %0 = Add(in0, in1); %1 = Sub(%0, in2) } %c: f32[2,11,4,5] = Reorder(%b) "
           "output %c }",
           (const void *[]){x, y, z}, (const void *[]){want}, 1e-6);
  op_check("graph \"t\" { input %x: f32[2,11,4,5] input %y: f32[2,11,1,1] input %z: f32[1,1,4,5] %a: f32[2,11,4,5]{c4} = Reorder(%x) "
           "%p: f32[2,11,1,1]{c4} = Reorder(%y) %q: f32[1,1,4,5]{c4} = Reorder(%z) "
           "%b: f32[2,11,4,5]{c4} = Map(; %a, %p, %q) body { %0 = Mul(in0, in1); %1 = Add(%0, in2) } %c: f32[2,11,4,5] = Reorder(%b) "
           "output %c }",
           (const void *[]){x, y, z}, (const void *[]){want2}, 1e-6);
}

/* Operands at half and a quarter of the size, in both layouts, with odd sizes. */
static void upsampled(void **state) {
  (void)state;
  fill();
  enum { C = 5, H = 7, W = 9 };
  for (int i = 0; i < 2 * C * H * W; i++) {
    int w = i % W, h = i / W % H, nc = i / (W * H);
    want[i] = x[i] + y[(nc * 4 + h / 2) * 5 + w / 2] + z[(nc * 2 + h / 4) * 3 + w / 4];
  }
  op_check("graph \"t\" { input %x: f32[2,5,7,9] input %y: f32[2,5,4,5] input %z: f32[2,5,2,3] "
           "%a: f32[2,5,7,9] = Map(; %x, %y, %z) body { %0 = Add(in0, in1^1); %1 = Add(%0, in2^2) } output %a }",
           (const void *[]){x, y, z}, (const void *[]){want}, 1e-6);
  op_check("graph \"t\" { input %x: f32[2,5,7,9] input %y: f32[2,5,4,5] input %z: f32[2,5,2,3] %p: f32[2,5,7,9]{c4} = Reorder(%x) "
           "%q: f32[2,5,4,5]{c4} = Reorder(%y) %r: f32[2,5,2,3]{c4} = Reorder(%z) "
           "%a: f32[2,5,7,9]{c4} = Map(; %p, %q, %r) body { %0 = Add(in0, in1^1); %1 = Add(%0, in2^2) } %b: f32[2,5,7,9] = Reorder(%a) "
           "output %b }",
           (const void *[]){x, y, z}, (const void *[]){want}, 1e-6);
  /* nothing but upsampled operands: the size is theirs, enlarged */
  for (int i = 0; i < 2 * 5 * 8 * 10; i++) want[i] = -y[(i / 80 * 4 + i / 10 % 8 / 2) * 5 + i % 10 / 2];
  op_check("graph \"t\" { input %y: f32[2,5,4,5] %a = Map(; %y) body { %0 = Neg(in0^1) } output %a }", (const void *[]){y},
           (const void *[]){want}, 0);
}

/* ---- memory ---- */

/* Chains whose values die at once; one operand that is also read at other places must keep its memory. */
static void in_place(void **state) {
  (void)state;
  fill();
  for (int i = 0; i < 6 * 35; i++) {
    int t = i % 35 * 6 + i / 35;   /* transposed place of a [35,6] view */
    float a = x[i] * 2, b = a + y[i], at = x[t] * 2;
    want[i] = -b;
    want2[i] = -(at + a);
  }
  op_check("graph \"t\" { input %x: f32[6,35] input %y: f32[6,35] const %two: f32[] = [2] %a = Mul(%x, %two) %b = Add(%a, %y) %c = Neg(%b) "
           "output %c }",
           (const void *[]){x, y}, (const void *[]){want}, 1e-6);
  /* a and its view share memory; the transposition reads it elsewhere than the body does */
  op_check("graph \"t\" { input %x: f32[6,35] const %two: f32[] = [2] %a = Mul(%x, %two) %v = Reshape(%a) {shape=[35,6]} "
           "%t = Transpose(%v; %a) {perm=[1,0]} body { %0 = Add(acc, in1) } %n = Neg(%t) output %n }",
           (const void *[]){x}, (const void *[]){want2}, 1e-6);
  for (int i = 0; i < 49; i++) want2[i] = -(x[i % 7 * 7 + i / 7] * 2 + x[i] * 2);
  op_check("graph \"t\" { input %x: f32[7,7] const %two: f32[] = [2] %a = Mul(%x, %two) %t = Transpose(%a; %a) {perm=[1,0]} body { %0 = "
           "Add(acc, in1) } "
           "%n = Neg(%t) output %n }",
           (const void *[]){x}, (const void *[]){want2}, 1e-6);
}

/* Outputs that are views of each other, of inputs, of constants. */
static void views(void **state) {
  (void)state;
  fill();
  static const float c[] = {1, 2, 3, 4};
  for (int i = 0; i < 12; i++) want[i] = -x[i], want2[i] = x[i] * x[i];
  op_check("graph \"t\" { input %x: f32[3,4] %y = Identity(%x) output %y }", (const void *[]){x}, (const void *[]){x}, 0);
  op_check("graph \"t\" { input %x: f32[3,4] %a = Reshape(%x) {shape=[12]} %b = Reshape(%a) {shape=[2,-1]} output %b }",
           (const void *[]){x}, (const void *[]){x}, 0);
  op_check(
      "graph \"t\" { input %x: f32[3,4] %a = Neg(%x) %b = Reshape(%a) {shape=[4,3]} %c = Reshape(%a) {shape=[12]} output %b output %c }",
      (const void *[]){x}, (const void *[]){want, want}, 0);
  op_check("graph \"t\" { input %x: f32[3,4] %a = Neg(%x) %b = Reshape(%a) {shape=[4,3]} output %a output %b }", (const void *[]){x},
           (const void *[]){want, want}, 0);
  op_check("graph \"t\" { input %x: f32[3,4] %a = Neg(%x) %b = Reshape(%a) {shape=[4,3]} %c = Mul(%b, %b) output %b output %c }",
           (const void *[]){x}, (const void *[]){want, want2}, 0);
  op_check("graph \"t\" { const %c: f32[4] = [1, 2, 3, 4] %a = Reshape(%c) {shape=[2,2]} output %a }", NULL, (const void *[]){c}, 0);
  op_check("graph \"t\" { const %c: f32[4] = [1, 2, 3, 4] %a = Reshape(%c) {shape=[2,2]} %b = Identity(%a) %d = Identity(%b) output %b "
           "output %d }",
           NULL, (const void *[]){c, c}, 0);
  op_check("graph \"t\" { input %x: f32[0,4] %a = Reshape(%x) {shape=[4,-1]} output %a }", (const void *[]){x}, (const void *[]){x}, 0);
  op_check("graph \"t\" { input %x: u8[9001] %a = Identity(%x) output %a }", (const void *[]){x}, (const void *[]){x}, 0);
}

/* ---- Concat, Slice, Gather of channels ---- */

/* Images of 5 x 7 of x's channel from[i] become channel i of the result, batch 2; x has cx channels. */
static void move(float *to, const float *from_x, int cx, const int *from, int channels) {
  for (int n = 0; n < 2; n++)
    for (int c = 0; c < channels; c++) memcpy(to + (n * channels + c) * 35, from_x + (n * cx + from[c]) * 35, 35 * sizeof *to);
}

static void moved_channels(void **state) {
  (void)state;
  static const int blocks[] = {4, 8, 16, 32}, sizes[] = {1, 3, 16, 20, 41, 64};
  fill();
  for (int b = 0; b < COUNTOF(blocks); b++)
    for (int i = 0; i < COUNTOF(sizes); i++)
      for (int j = 0; j < COUNTOF(sizes); j++) {
        int c = sizes[i], d = sizes[j], block = blocks[b], from[64], relu = (i + j + b) % 2;
        /* Concat; the body's operand tells rows and channels apart */
        for (int n = 0; n < 2; n++) {
          memcpy(want + n * (c + d) * 35, x + n * c * 35, (size_t)c * 35 * sizeof *x);
          memcpy(want + (n * (c + d) + c) * 35, y + n * d * 35, (size_t)d * 35 * sizeof *x);
        }
        op_check(op_text("graph \"t\" { input %%x: f32[2,%d,5,7] input %%y: f32[2,%d,5,7] %%a: f32[2,%d,5,7]{c%d} = Reorder(%%x) "
                         "%%b: f32[2,%d,5,7]{c%d} = Reorder(%%y) %%c: f32[2,%d,5,7]{c%d} = Concat(%%a, %%b) {axis=1} %%z = Reorder(%%c) output %%z }",
                         c, d, c, block, d, block, c + d, block), (const void *[]){x, y}, (const void *[]){want}, 0);
        /* Slice, backwards every second time, into either layout, with and without a body */
        int count = (c + 2) / 3, first = j % 2 ? c - 1 : c - count, step = j % 2 ? -1 : 1;
        for (int k = 0; k < count; k++) from[k] = first + k * step;
        move(want, x, c, from, count);
        for (int k = 0; relu && k < 2 * count * 35; k++) want[k] = (want[k] < 0 ? 0 : want[k]) + z[k % (count * 35)];
        op_check(op_text("graph \"t\" { input %%x: f32[2,%d,5,7] input %%y: f32[%d,5,7] %%a: f32[2,%d,5,7]{c%d} = Reorder(%%x) "
                         "%%c: f32[2,%d,5,7]{c%d} = Slice(%%a%s) {starts=[0,%d,0,0], steps=[1,%d,1,1], sizes=[2,%d,5,7]} %s%%z = Reorder(%%c) output %%z }",
                         c, count, c, block, count, block, relu ? "; %y" : "", first, step, count,
                         relu ? "body { %0 = Relu(acc); %1 = Add(%0, in1) } " : ""), (const void *[]){x, z}, (const void *[]){want}, 0);
        op_check(op_text("graph \"t\" { input %%x: f32[2,%d,5,7] input %%y: f32[%d,5,7] %%a: f32[2,%d,5,7]{c%d} = Reorder(%%x) "
                         "%%z: f32[2,%d,5,7] = Slice(%%a%s) {starts=[0,%d,0,0], steps=[1,%d,1,1], sizes=[2,%d,5,7]} %soutput %%z }",
                         c, count, c, block, count, relu ? "; %y" : "", first, step, count,
                         relu ? "body { %0 = Relu(acc); %1 = Add(%0, in1) } " : ""), (const void *[]){x, z}, (const void *[]){want}, 0);
        /* Gather of d channels, some of them twice */
        if (d > 16) continue;   /* longer constants are not written out */
        char list[100] = "";
        for (int k = 0; k < d; k++) sprintf(list + strlen(list), "%s%d", k ? "," : "", from[k] = (k * 7 + i) % c);
        move(want, x, c, from, d);
        op_check(op_text("graph \"t\" { input %%x: f32[2,%d,5,7] const %%i: i64[%d] = [%s] %%a: f32[2,%d,5,7]{c%d} = Reorder(%%x) "
                         "%%c: f32[2,%d,5,7]{c%d} = Gather(%%a, %%i) {axis=1} %%z = Reorder(%%c) output %%z }",
                         c, d, list, c, block, d, block), (const void *[]){x}, (const void *[]){want}, 0);
      }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(map_steps),          cmocka_unit_test(map_types),
      cmocka_unit_test(reorders),           cmocka_unit_test(reorder_long),
      cmocka_unit_test(reorder_bodies),     cmocka_unit_test(blocked_maps),
      cmocka_unit_test(blocked_broadcasts), cmocka_unit_test(upsampled),
      cmocka_unit_test(in_place),           cmocka_unit_test(views),
      cmocka_unit_test(moved_channels),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
