/* Gather, GatherElements, GatherND, OneHot, ScatterElements, ScatterND against C: negative indices, indices out of range (which must stay
 * inside the data), duplicates, every reduction. */
#include "op_test.h"

enum { MAX = 20000 };
static float x[MAX], u[MAX], want[MAX];
static int64_t i64[MAX];
static int32_t i32[MAX];

static void fill(void) {
  op_fill_f32(x, MAX, 1);
  op_fill_f32(u, MAX, 2);
}

/* Indices in [-n-2, n+1]: some of them invalid; valid_index is what they are taken as. */
static void fill_indices(int64_t n, int count, uint32_t seed) {
  op_fill_i64(i64, count, -n - 2, n + 1, seed);
  for (int i = 0; i < count; i++) i32[i] = (int32_t)i64[i];
}

static int64_t valid_index(int64_t i, int64_t n) {
  if (i < 0) i += n;
  return i < 0 ? 0 : i >= n ? n - 1 : i;
}

/* ---- Gather ---- */

static void gather_case(int outer, int n, int inner, int count, const char *data, const char *indices, int axis) {
  fill_indices(n, count, (uint32_t)(outer + n + inner + count));
  for (int o = 0; o < outer; o++)
    for (int k = 0; k < count; k++)
      for (int e = 0; e < inner; e++) want[(o * count + k) * inner + e] = x[(o * n + valid_index(i64[k], n)) * inner + e];
  op_check(op_text("graph \"t\" { input %%x: f32[%s] input %%i: i64[%s] %%y = Gather(%%x, %%i) {axis=%d, batch_dims=0} output %%y }", data,
                   indices, axis),
           (const void *[]){x, i64}, (const void *[]){want}, 0);
  for (int k = 0; k < outer * count * inner; k++) want[k] = fmaxf(0, want[k]) - u[k];
  op_check(op_text("graph \"t\" { input %%x: f32[%s] input %%i: i32[%s] input %%u: f32[%d] %%g = Gather(%%x, %%i) {axis=%d, batch_dims=0} "
                   "body { %%0 = Relu(acc) } %%f = Reshape(%%g) {shape=[-1]} %%y = Sub(%%f, %%u) output %%y }",
                   data, indices, outer * count * inner, axis),
           (const void *[]){x, i32, u}, (const void *[]){want}, 1e-6);
}

static void gathers(void **state) {
  (void)state;
  fill();
  gather_case(1, 10, 1, 7, "10", "7", 0);
  gather_case(1, 10, 1, 1, "10", "", 0);
  gather_case(1, 10, 33, 12, "10,33", "3,4", 0);
  gather_case(4, 6, 1, 5, "4,6", "5", 1);
  gather_case(6, 5, 18, 4, "2,3,5,18", "2,1,2", 2);
  gather_case(6, 5, 18, 4, "2,3,5,18", "4", -2);
  gather_case(1, 1, 20, 3, "1,20", "3", 0);
  gather_case(3, 4, 0, 2, "3,4,0", "2", 1);
  /* a constant index; the indices as their own data */
  op_check("graph \"t\" { input %x: f32[3,4] const %i: i64[] = [-1] %y = Gather(%x, %i) {axis=0, batch_dims=0} output %y }",
           (const void *[]){x}, (const void *[]){x + 8}, 0);
  static const int64_t p[] = {2, 0, 1, 2}, wp[] = {1, 2, 0, 1};
  op_check("graph \"t\" { input %x: i64[4] %y = Gather(%x, %x) {axis=0, batch_dims=0} output %y }", (const void *[]){p},
           (const void *[]){wp}, 0);
  /* extreme indices */
  static const int64_t far[] = {INT64_MIN, INT64_MAX, -1};
  static const uint64_t ufar[] = {UINT64_MAX, 0, 1};
  const float wf[] = {x[0], x[4], x[4]}, wu[] = {x[0], x[0], x[1]};
  op_check("graph \"t\" { input %x: f32[5] input %i: i64[3] %y = Gather(%x, %i) {axis=0, batch_dims=0} output %y }",
           (const void *[]){x, far}, (const void *[]){wf}, 0);
  op_check("graph \"t\" { input %x: f32[5] input %i: u64[3] %y = Gather(%x, %i) {axis=0, batch_dims=0} output %y }",
           (const void *[]){x, ufar}, (const void *[]){wu}, 0);
}

static void gather_elements(void **state) {
  (void)state;
  fill();
  for (int axis = 0; axis < 3; axis++) {
    static const int d[3] = {4, 5, 19};
    int e[3] = {3, 4, 17};   /* the indices' shape: smaller, and longer along the axis */
    e[axis] = d[axis] + 2;
    fill_indices(d[axis], e[0] * e[1] * e[2], 5);
    for (int k = 0; k < e[0] * e[1] * e[2]; k++) {
      int c[3] = {k / (e[1] * e[2]), k / e[2] % e[1], k % e[2]};
      c[axis] = (int)valid_index(i64[k], d[axis]);
      want[k] = x[(c[0] * d[1] + c[1]) * d[2] + c[2]];
    }
    op_check(op_text("graph \"t\" { input %%x: f32[4,5,19] input %%i: i64[%d,%d,%d] %%y = GatherElements(%%x, %%i) {axis=%d, batch_dims=0} "
                     "output %%y }",
                     e[0], e[1], e[2], axis),
             (const void *[]){x, i64}, (const void *[]){want}, 0);
  }
}

static void gather_nd(void **state) {
  (void)state;
  fill();
  /* data [3,4,20]: k = 1, 2, 3 entries, then one batch dimension */
  static const int d[3] = {3, 4, 20};
  for (int k = 1; k <= 3; k++) {
    int inner = k == 1 ? 80 : k == 2 ? 20 : 1;
    for (int p = 0; p < 6 * k; p++) {
      op_fill_i64(&i64[p], 1, -d[p % k] - 1, d[p % k], (uint32_t)(p + 1));
      i32[p] = (int32_t)i64[p];
    }
    for (int p = 0; p < 6; p++) {
      int64_t at = 0;
      for (int j = 0; j < k; j++) at = at * d[j] + valid_index(i64[p * k + j], d[j]);
      for (int e = 0; e < inner; e++) want[p * inner + e] = x[at * inner + e];
    }
    op_check(
        op_text("graph \"t\" { input %%x: f32[3,4,20] input %%i: i64[2,3,%d] %%y = GatherND(%%x, %%i) {axis=0, batch_dims=0} output %%y }",
                k),
        (const void *[]){x, i64}, (const void *[]){want}, 0);
    op_check(
        op_text("graph \"t\" { input %%x: f32[3,4,20] input %%i: i32[2,3,%d] %%y = GatherND(%%x, %%i) {axis=0, batch_dims=0} output %%y }",
                k),
        (const void *[]){x, i32}, (const void *[]){want}, 0);
  }
  static const int64_t b[] = {1, 0, 3, -1, 2, 2};
  for (int p = 0; p < 6; p++)
    for (int e = 0; e < 20; e++) want[p * 20 + e] = x[(p / 2 * 4 + valid_index(b[p], 4)) * 20 + e];
  op_check("graph \"t\" { input %x: f32[3,4,20] input %i: i64[3,2,1] %y = GatherND(%x, %i) {axis=0, batch_dims=1} output %y }",
           (const void *[]){x, b}, (const void *[]){want}, 0);
}

static void one_hots(void **state) {
  (void)state;
  static const int64_t i[] = {0, 2, -1, 5, -4, 3};   /* 5 and -4 (of depth 3), 3: nowhere */
  static const float values[] = {-1, 4}, fi[] = {0, 2, -1, 5, -4, 3};
  for (int axis = 0; axis < 3; axis++) {
    for (int k = 0; k < 6; k++)
      for (int d = 0; d < 3; d++) {
        int64_t h = i[k] < 0 ? i[k] + 3 : i[k];
        int a = k / 3, b = k % 3;
        int at = axis == 0 ? (d * 2 + a) * 3 + b : axis == 1 ? (a * 3 + d) * 3 + b : (a * 3 + b) * 3 + d;
        want[at] = values[h == d];
      }
    op_check(op_text("graph \"t\" { input %%i: i64[2,3] input %%v: f32[2] %%y = OneHot(%%i, %%v) {axis=%d, depth=3} output %%y }", axis),
             (const void *[]){i, values}, (const void *[]){want}, 0);
    op_check(op_text("graph \"t\" { input %%i: f32[2,3] const %%v: f32[2] = [-1, 4] %%y = OneHot(%%i, %%v) {axis=%d, depth=3} output %%y }",
                     axis - 3),
             (const void *[]){fi}, (const void *[]){want}, 0);
  }
}

/* ---- Scatter ---- */

static const char *const reductions[] = {"none", "add", "mul", "max", "min"};

static float reduce(int r, float a, float b) {
  if (r && r > 2 && (isnan(a) || isnan(b))) return NAN;
  return r == 0 ? b : r == 1 ? a + b : r == 2 ? a * b : r == 3 ? (a > b ? a : b) : (a < b ? a : b);
}

static void scatter_elements(void **state) {
  (void)state;
  fill();
  static const int d[3] = {4, 5, 19};
  for (int axis = 0; axis < 3; axis++)
    for (int r = 0; r < 5; r++) {
      int e[3] = {3, 4, 17}, n;
      e[axis] = d[axis] + 3;   /* duplicates for sure */
      n = e[0] * e[1] * e[2];
      fill_indices(d[axis], n, (uint32_t)(7 + r));
      memcpy(want, x, sizeof(float) * 380);
      for (int k = 0; k < n; k++) {
        int c[3] = {k / (e[1] * e[2]), k / e[2] % e[1], k % e[2]};
        c[axis] = (int)valid_index(i64[k], d[axis]);
        float *to = &want[(c[0] * d[1] + c[1]) * d[2] + c[2]];
        *to = reduce(r, *to, u[k]);
      }
      op_check(op_text("graph \"t\" { input %%x: f32[4,5,19] input %%i: i64[%d,%d,%d] input %%u: f32[%d,%d,%d] "
                       "%%y = ScatterElements(%%x, %%i, %%u) {axis=%d, reduction=%s} output %%y }",
                       e[0], e[1], e[2], e[0], e[1], e[2], axis, reductions[r]),
               (const void *[]){x, i64, u}, (const void *[]){want}, 1e-5);
    }
}

static void scatter_nd(void **state) {
  (void)state;
  fill();
  static const int d[3] = {3, 4, 20};
  for (int k = 0; k <= 3; k++)
    for (int r = 0; r < 5; r++) {
      int inner = k == 0 ? 240 : k == 1 ? 80 : k == 2 ? 20 : 1, updates = 6;
      for (int p = 0; p < updates * k; p++) op_fill_i64(&i64[p], 1, -d[p % k] - 1, d[p % k], (uint32_t)(p / 2 + 1));
      memcpy(want, x, sizeof(float) * 240);
      for (int p = 0; p < updates; p++) {
        int64_t at = 0;
        for (int j = 0; j < k; j++) at = at * d[j] + valid_index(i64[p * k + j], d[j]);
        for (int e = 0; e < inner; e++) want[at * inner + e] = reduce(r, want[at * inner + e], u[p * inner + e]);
      }
      static const char *const rest[] = {",3,4,20", ",4,20", ",20", ""};
      op_check(op_text("graph \"t\" { input %%x: f32[3,4,20] input %%i: i64[2,3,%d] input %%u: f32[2,3%s] %%y = ScatterND(%%x, %%i, %%u) "
                       "{axis=0, reduction=%s} output %%y }", k, rest[k], reductions[r]),
               (const void *[]){x, i64, u}, (const void *[]){want}, 1e-5);
    }
  /* slices long enough to be split over the range */
  static const int64_t rows[] = {2, 0, 2};
  memcpy(want, x, sizeof(float) * 3 * 4100);
  for (int p = 0; p < 3; p++)
    for (int e = 0; e < 4100; e++) want[rows[p] * 4100 + e] += u[p * 4100 + e];
  op_check("graph \"t\" { input %x: f32[3,4100] input %i: i64[3,1] input %u: f32[3,4100] %y = ScatterND(%x, %i, %u) {axis=0, "
           "reduction=add} output %y }",
           (const void *[]){x, rows, u}, (const void *[]){want}, 1e-5);
  /* integers; the indices are the updates too; no updates */
  static const int64_t di[] = {10, 20, 30}, ii[] = {2, 0}, wi[] = {0, 20, 2};
  op_check("graph \"t\" { input %x: i64[3] input %i: i64[2] %j = Reshape(%i) {shape=[2,1]} %y = ScatterND(%x, %j, %i) {axis=0, "
           "reduction=none} output %y }",
           (const void *[]){di, ii}, (const void *[]){wi}, 0);
  op_check(
      "graph \"t\" { input %x: i64[3] input %i: i64[0,1] input %u: i64[0] %y = ScatterND(%x, %i, %u) {axis=0, reduction=none} output %y }",
      (const void *[]){di, ii, ii}, (const void *[]){di}, 0);
  static const uint8_t db[] = {0, 0, 1}, ub[] = {1, 0}, wb[] = {0, 0, 1};
  static const int64_t ib[] = {2, 0};
  op_check("graph \"t\" { input %x: bool[3] input %i: i64[2] input %u: bool[2] %y = ScatterElements(%x, %i, %u) {axis=0, reduction=none} "
           "output %y }",
           (const void *[]){db, ib, ub}, (const void *[]){wb}, 0);
}

static void nan_reductions(void **state) {
  (void)state;
  static const float d[] = {1, NAN, 3}, up[] = {NAN, 2, 2}, w[] = {NAN, NAN, 3};
  static const int64_t i[] = {0, 1, 2};
  op_check("graph \"t\" { input %x: f32[3] input %i: i64[3] input %u: f32[3] %y = ScatterElements(%x, %i, %u) {axis=0, reduction=max} "
           "output %y }",
           (const void *[]){d, i, up}, (const void *[]){w}, 0);
}

static void refusals(void **state) {
  (void)state;
  op_refuse("graph \"t\" { input %x: f32[3] input %i: f32[2] %y = Gather(%x, %i) {axis=0, batch_dims=0} output %y }", "indices are f32");
  op_refuse("graph \"t\" { input %x: f32[3] input %i: i64[2] %y = Gather(%x, %i) {axis=1, batch_dims=0} output %y }", "axis 1");
  op_refuse("graph \"t\" { input %x: f32[0] input %i: i64[2] %y = Gather(%x, %i) {axis=0, batch_dims=0} output %y }",
            "nothing can be gathered");
  op_refuse("graph \"t\" { input %x: f32[1,1,1,1,1] input %i: i64[1,1,1,1,1] %y = Gather(%x, %i) {axis=0, batch_dims=0} output %y }",
            "rank");
  op_refuse("graph \"t\" { input %x: f32[3,4] input %i: i64[3,5] %y = GatherElements(%x, %i) {axis=0, batch_dims=0} output %y }",
            "do not fit");
  op_refuse("graph \"t\" { input %x: f32[3,4] input %i: i64[3,3] %y = GatherND(%x, %i) {axis=0, batch_dims=0} output %y }", "3 entries");
  op_refuse("graph \"t\" { input %x: f32[3,4] input %i: i64[2,1] %y = GatherND(%x, %i) {axis=0, batch_dims=1} output %y }",
            "differ in dimension 0");
  op_refuse("graph \"t\" { input %i: i64[3] input %v: f32[3] %y = OneHot(%i, %v) {axis=0, depth=3} output %y }", "expected [2]");
  op_refuse("graph \"t\" { input %x: f32[3] input %i: i64[2] input %u: f32[3] %y = ScatterElements(%x, %i, %u) {axis=0, reduction=none} "
            "output %y }",
            "do not fit");
  op_refuse(
      "graph \"t\" { input %x: f32[3] input %i: i64[2,1] input %u: i32[2] %y = ScatterND(%x, %i, %u) {axis=0, reduction=none} output %y }",
      "updates are i32");
  op_refuse(
      "graph \"t\" { input %x: bool[3] input %i: i64[2,1] input %u: bool[2] %y = ScatterND(%x, %i, %u) {axis=0, reduction=add} output %y }",
      "cannot be reduced");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gathers),    cmocka_unit_test(gather_elements), cmocka_unit_test(gather_nd), cmocka_unit_test(one_hots),
      cmocka_unit_test(scatter_elements), cmocka_unit_test(scatter_nd), cmocka_unit_test(nan_reductions), cmocka_unit_test(refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
