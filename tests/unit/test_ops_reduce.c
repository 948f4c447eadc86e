/* Reductions, arg-extremes, running sums and top-k against their definitions: every subset of axes of random shapes, layouts, element
 * types, NaN, ties, empty extents, long rows. */
#include "op_test.h"

static uint32_t seed;
static int pick(int lo, int hi) { return lo + (int)(op_random(&seed) % (uint32_t)(hi - lo + 1)); }

static char text[3000];
static int text_n;
static void add(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void add(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  text_n += vsnprintf(text + text_n, sizeof text - (size_t)text_n, fmt, ap);
  va_end(ap);
  assert_true((size_t)text_n < sizeof text);
}

static void add_dims(const int *d, int n) {
  add("[");
  for (int i = 0; i < n; i++) add("%s%d", i ? "," : "", d[i]);
  add("]");
}

/* ---- reduce ---- */

typedef enum { SUM, MEAN, MAX, MIN, PROD } Kind;
static const char *const names[] = {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"};

typedef struct Case { Kind kind; int rank, d[6]; unsigned axes; bool keep, relu; int block, block_out; } Case;

static int64_t reduced_index(const Case *c, int64_t i, int64_t *count) {
  int at[6];
  for (int k = c->rank - 1; k >= 0; k--) at[k] = (int)(i % c->d[k]), i /= c->d[k];
  int64_t o = 0;
  *count = 1;
  for (int k = 0; k < c->rank; k++) {
    if (c->axes >> k & 1) *count *= c->d[k];
    else o = o * c->d[k] + at[k];
  }
  return o;
}

static void run_reduce(const Case *c, int config) {
  int64_t n = 1, m = 1, count = 1;
  int od[6], orank = 0;
  for (int k = 0; k < c->rank; k++) {
    n *= c->d[k];
    if (!(c->axes >> k & 1)) m *= c->d[k], od[orank++] = c->d[k];
    else if (c->keep) od[orank++] = 1;
  }
  float *x = malloc((size_t)(n + 1) * 4), *want = malloc((size_t)(m + 1) * 4);
  double *acc = malloc((size_t)(m + 1) * 8);
  op_fill_f32(x, n, 5);
  if (c->kind == PROD)
    for (int64_t i = 0; i < n; i++) x[i] = x[i] / 8 + 1;
  if ((c->kind == MAX || c->kind == MIN) && pick(0, 1))
    for (int64_t i = pick(0, 20); i < n; i += 37) x[i] = i % 2 ? NAN : (float)-INFINITY;
  for (int64_t o = 0; o < m; o++) acc[o] = c->kind == MAX ? -INFINITY : c->kind == MIN ? INFINITY : c->kind == PROD;
  for (int64_t i = 0; i < n; i++) {
    double *a = &acc[reduced_index(c, i, &count)];
    if (c->kind == SUM || c->kind == MEAN) *a += x[i];
    if (c->kind == PROD) *a *= x[i];
    if ((c->kind == MAX && x[i] > *a) || (c->kind == MIN && x[i] < *a) || isnan(x[i])) *a = isnan(*a) ? *a : x[i];
  }
  for (int64_t o = 0; o < m; o++) {
    want[o] = (float)(c->kind == MEAN ? acc[o] / (double)count : acc[o]);
    if (c->relu) want[o] = want[o] < 0 ? 0 : want[o];
  }
  text_n = 0;
  add("graph \"t\" { input %%x: f32");
  add_dims(c->d, c->rank);
  if (c->block) {
    add(" %%xb: f32");
    add_dims(c->d, c->rank);
    add("{c%d} = Reorder(%%x)", c->block);
  }
  add(" %%y: f32");
  add_dims(od, orank);
  if (c->block_out) add("{c%d}", c->block_out);
  add(" = %s(%s) {axes=[", names[c->kind], c->block ? "%xb" : "%x");
  for (int k = 0, first = 1; k < c->rank; k++)
    if (c->axes >> k & 1) add("%s%d", first ? "" : ",", k % 2 ? k : k - c->rank), first = 0;
  add("], keepdims=%s}", c->keep ? "true" : "false");
  if (c->relu) add(" body { %%0 = Relu(acc) }");
  add(c->block_out ? " %%z = Reorder(%%y) output %%z }" : " output %%y }");
  op_run(text, &op_configs[config], (const void *[]){x}, (const void *[]){want}, 1e-5 * (c->kind == SUM ? sqrt((double)count) : 1));
  free(x), free(want), free(acc);
}

static void reduce_sweep(void **state) {
  (void)state;
  static const int blocks[] = {0, 0, 4, 8, 16};
  seed = 3;
  for (int i = 0; i < 4000; i++) {
    Case c = {.kind = (Kind)pick(0, 4), .rank = pick(1, 5), .keep = pick(0, 1), .relu = !pick(0, 3)};
    for (int k = 0; k < c.rank; k++) c.d[k] = pick(0, 3) ? pick(1, 9) : pick(1, 40);
    for (int k = 0; k < c.rank; k++)
      if (c.rank > 3 && c.d[k] > 12) c.d[k] = 12;
    c.axes = (unsigned)pick(0, (1 << c.rank) - 1);
    if (c.rank >= 3) c.block = blocks[pick(0, 4)];
    if (c.block && c.keep && !(c.axes & 3) && pick(0, 1)) c.block_out = c.block;
    run_reduce(&c, i % COUNTOF(op_configs));
  }
}

static void long_sum(void **state) {
  (void)state;
  enum { N = 300001 };
  float *x = malloc(N * 4), want[1], mean[1];
  double sum = 0;
  for (int i = 0; i < N; i++) x[i] = 1 + (float)(i % 7) * 1e-3f, sum += x[i];
  want[0] = (float)sum;
  mean[0] = (float)(sum / N);
  const char *f = "graph \"t\" { input %%x: f32[%s] %%y = %s(%%x) {axes=[0,1], keepdims=false} output %%y }";
  op_check(op_text(f, "1,300001", "ReduceSum"), (const void *[]){x}, (const void *[]){want}, 1e-6);
  op_check(op_text(f, "300001,1", "ReduceMean"), (const void *[]){x}, (const void *[]){mean}, 1e-6);
  free(x);
}

static void integer_reduce(void **state) {
  (void)state;
  const char *f = "graph \"t\" { input %%x: %s[2,3] %%y = %s(%%x) {axes=[1], keepdims=false} output %%y }";
  const int32_t a[6] = {7, -9, 4, INT32_MAX, INT32_MAX, INT32_MAX - 2}, sum[2] = {2, INT32_MAX - 4}, mean[2] = {0, INT32_MAX - 1};
  const int32_t max[2] = {7, INT32_MAX}, min[2] = {-9, INT32_MAX - 2}, prod[2] = {-252, (int32_t)((uint32_t)INT32_MAX - 2)};
  op_check(op_text(f, "i32", "ReduceSum"), (const void *[]){a}, (const void *[]){sum}, 0);
  op_check(op_text(f, "i32", "ReduceMean"), (const void *[]){a}, (const void *[]){mean}, 0);
  op_check(op_text(f, "i32", "ReduceMax"), (const void *[]){a}, (const void *[]){max}, 0);
  op_check(op_text(f, "i32", "ReduceMin"), (const void *[]){a}, (const void *[]){min}, 0);
  op_check(op_text(f, "i32", "ReduceProd"), (const void *[]){a}, (const void *[]){prod}, 0);
  const uint8_t u[6] = {200, 100, 7, 1, 2, 3}, umax[2] = {200, 3};
  const int8_t s[6] = {-100, -100, -7, -1, 2, 3}, smean[2] = {-69, 1};
  const int64_t l[6] = {INT64_MAX, -1, 5, INT64_MIN, 3, 9}, lmin[2] = {-1, INT64_MIN};
  const uint64_t ul[6] = {UINT64_MAX, 1, 5, 0, 3, 9}, ulmax[2] = {UINT64_MAX, 9};
  const uint8_t bools[6] = {0, 1, 0, 0, 0, 0}, any[2] = {1, 0}, all[2] = {0, 0};
  op_check(op_text(f, "u8", "ReduceMax"), (const void *[]){u}, (const void *[]){umax}, 0);
  op_check(op_text(f, "i8", "ReduceMean"), (const void *[]){s}, (const void *[]){smean}, 0);
  op_check(op_text(f, "i64", "ReduceMin"), (const void *[]){l}, (const void *[]){lmin}, 0);
  op_check(op_text(f, "u64", "ReduceMax"), (const void *[]){ul}, (const void *[]){ulmax}, 0);
  op_check(op_text(f, "bool", "ReduceMax"), (const void *[]){bools}, (const void *[]){any}, 0);
  op_check(op_text(f, "bool", "ReduceMin"), (const void *[]){bools}, (const void *[]){all}, 0);
  op_refuse(op_text(f, "bool", "ReduceSum"), "the input is bool");
  op_refuse("graph \"t\" { input %x: f32[2,3] %y = ReduceSum(%x) {axes=[2]} output %y }", "axis 2 is out of range for rank 2");
  op_refuse("graph \"t\" { input %x: f32[2,3] %y = ReduceSum(%x) {axes=[1,-1]} output %y }", "axis 1 is given twice");
}

static void empty_reduce(void **state) {
  (void)state;
  const float none[1] = {0}, zero[3] = {0}, one[3] = {1, 1, 1}, low[3] = {-INFINITY, -INFINITY, -INFINITY}, nan[3] = {NAN, NAN, NAN};
  const int32_t least[3] = {INT32_MIN, INT32_MIN, INT32_MIN}, zeros[3] = {0};
  const char *f = "graph \"t\" { input %%x: %s[3,0] %%y = %s(%%x) {axes=[1], keepdims=true} output %%y }";
  op_check(op_text(f, "f32", "ReduceSum"), (const void *[]){none}, (const void *[]){zero}, 0);
  op_check(op_text(f, "f32", "ReduceProd"), (const void *[]){none}, (const void *[]){one}, 0);
  op_check(op_text(f, "f32", "ReduceMax"), (const void *[]){none}, (const void *[]){low}, 0);
  op_check(op_text(f, "f32", "ReduceMean"), (const void *[]){none}, (const void *[]){nan}, 0);
  op_check(op_text(f, "i32", "ReduceMax"), (const void *[]){none}, (const void *[]){least}, 0);
  op_check(op_text(f, "i32", "ReduceMean"), (const void *[]){none}, (const void *[]){zeros}, 0);
  op_check("graph \"t\" { input %x: f32[0,4] %y = ReduceSum(%x) {axes=[1], keepdims=true} output %y }", (const void *[]){none},
           (const void *[]){none}, 0);
}

/* ---- arg ---- */

static void arg_case(int outer, int n, int inner, bool max, bool last, bool special, bool keep) {
  int count = outer * n * inner;
  float *x = malloc((size_t)count * 4);
  int64_t *want = malloc((size_t)(outer * inner) * 8);
  op_fill_f32(x, count, 21);
  for (int i = 0; i < count; i++) x[i] = (float)(int)(x[i] * 3);   /* ties */
  for (int i = 0; special && i < count; i += 11) x[i] = NAN;
  for (int o = 0; o < outer; o++)
    for (int k = 0; k < inner; k++) {
      int best = 0;
      for (int j = 1; j < n; j++) {
        float v = x[(o * n + j) * inner + k], b = x[(o * n + best) * inner + k];
        bool wins = isnan(v) ? !isnan(b) || last : !isnan(b) && (max ? (last ? v >= b : v > b) : last ? v <= b : v < b);
        if (wins) best = j;
      }
      want[o * inner + k] = best;
    }
  op_check(op_text("graph \"t\" { input %%x: f32[%d,%d,%d] %%y: i64[%d%s,%d] = %s(%%x) {axis=-2, keepdims=%s, select_last=%s} output %%y "
                   "}", outer, n,
                   inner, outer, keep ? ",1" : "", inner, max ? "ArgMax" : "ArgMin", keep ? "true" : "false", last ? "true" : "false"),
           (const void *[]){x}, (const void *[]){want}, 0);
  free(x), free(want);
}

static void arg(void **state) {
  (void)state;
  seed = 8;
  for (int i = 0; i < 60; i++) arg_case(pick(1, 4), pick(1, 20), i % 3 ? pick(1, 40) : 1, i & 1, i & 2, i & 4, i & 8);
  const int64_t l[4] = {INT64_MIN, 5, 5, 1}, first[1] = {1}, least[1] = {0};
  const uint8_t u[4] = {0, 1, 1, 0};
  const int32_t as_int[1] = {1};
  op_check("graph \"t\" { input %x: i64[4] %y = ArgMax(%x) {axis=0, keepdims=true} output %y }", (const void *[]){l},
           (const void *[]){first}, 0);
  op_check("graph \"t\" { input %x: i64[4] %y = ArgMin(%x) {axis=0} output %y }", (const void *[]){l}, (const void *[]){least}, 0);
  op_check("graph \"t\" { input %x: bool[4] %y = ArgMax(%x) {axis=0} output %y }", (const void *[]){u}, (const void *[]){first}, 0);
  op_check("graph \"t\" { input %x: i64[4] %y = ArgMax(%x) {axis=0} body { %0: i32 = Cast(acc) {to=i32} } output %y }", (const void *[]){l},
           (const void *[]){as_int}, 0);
  op_refuse("graph \"t\" { input %x: f32[2,0] %y = ArgMax(%x) {axis=1} output %y }", "axis 1 has 0 elements");
}

/* ---- cumsum ---- */

static void cumsum(void **state) {
  (void)state;
  seed = 4;
  for (int i = 0; i < 48; i++) {
    int outer = pick(1, 4), n = pick(1, 20), inner = i % 3 ? pick(1, 20) : 1, count = outer * n * inner;
    bool exclusive = i & 1, reverse = i & 2;
    float x[1600], want[1600];
    op_fill_f32(x, count, 6);
    for (int o = 0; o < outer; o++)
      for (int k = 0; k < inner; k++) {
        double sum = 0;
        for (int j = 0; j < n; j++) {
          int at = (o * n + (reverse ? n - 1 - j : j)) * inner + k;
          if (exclusive) want[at] = (float)sum;
          sum += x[at];
          if (!exclusive) want[at] = (float)sum;
        }
      }
    op_check(op_text("graph \"t\" { input %%x: f32[%d,%d,%d] %%y = CumSum(%%x) {axis=1, exclusive=%s, reverse=%s} output %%y }", outer, n,
                     inner,
                     exclusive ? "true" : "false", reverse ? "true" : "false"), (const void *[]){x}, (const void *[]){want}, 1e-5);
  }
  const int64_t l[3] = {1, 2, 3}, sums[3] = {1, 3, 6};
  op_check("graph \"t\" { input %x: i64[3] %y = CumSum(%x) {axis=-1} output %y }", (const void *[]){l}, (const void *[]){sums}, 0);
  op_refuse("graph \"t\" { input %x: i64[3] %y = CumSum(%x) {axis=1} output %y }", "axis 1 is out of range");
}

/* ---- top-k ---- */

typedef struct Item { double v; int64_t i; } Item;
static bool largest_first;
static int by_rank(const void *a, const void *b) {
  const Item *x = a, *y = b;
  int nx = isnan(x->v) != 0, ny = isnan(y->v) != 0, c = nx || ny ? nx - ny : (x->v > y->v) - (x->v < y->v);
  if (c) return largest_first ? -c : c;
  return (x->i > y->i) - (x->i < y->i);
}

static void topk_case(int outer, int n, int inner, int k, bool special) {
  float *x = malloc((size_t)(outer * n * inner) * 4), *want = malloc((size_t)(outer * k * inner) * 4 + 4);
  int64_t *index = malloc((size_t)(outer * k * inner) * 8 + 8);
  Item *row = malloc((size_t)n * sizeof *row);
  op_fill_f32(x, outer * n * inner, 31);
  for (int i = 0; i < outer * n * inner; i++) x[i] = special && i % 17 == 0 ? NAN : i % 2 ? (float)(int)(x[i] * 4) : x[i];
  for (int o = 0; o < outer; o++)
    for (int q = 0; q < inner; q++) {
      for (int j = 0; j < n; j++) row[j] = (Item){x[(o * n + j) * inner + q], j};
      qsort(row, (size_t)n, sizeof *row, by_rank);
      for (int j = 0; j < k; j++) {
        want[(o * k + j) * inner + q] = (float)row[j].v;
        index[(o * k + j) * inner + q] = row[j].i;
      }
    }
  op_check(op_text("graph \"t\" { input %%x: f32[%d,%d,%d] %%y, %%i = TopK(%%x) {axis=1, k=%d, largest=%s, sorted=true} output %%y output "
                   "%%i }", outer,
                   n, inner, k, largest_first ? "true" : "false"), (const void *[]){x}, (const void *[]){want, index}, 0);
  free(x), free(want), free(index), free(row);
}

static void topk(void **state) {
  (void)state;
  seed = 12;
  for (int i = 0; i < 60; i++) {
    largest_first = i & 1;
    int n = i % 10 == 9 ? 500 : pick(1, 40);
    topk_case(pick(1, 3), n, i % 3 ? pick(1, 5) : 1, i % 4 ? pick(0, n) : n, i & 4);
  }
  largest_first = true;
  topk_case(1, 5000, 1, 5000, false);
  const int64_t l[4] = {3, INT64_MAX, -1, 3}, want[2] = {INT64_MAX, 3}, at[2] = {1, 0};
  op_check("graph \"t\" { input %x: i64[4] %y, %i = TopK(%x) {axis=0, k=2, largest=true} output %y output %i }", (const void *[]){l},
           (const void *[]){want, at}, 0);
  op_check("graph \"t\" { input %x: i64[4] _, %i = TopK(%x) {axis=0, k=2, largest=true} output %i }", (const void *[]){l},
           (const void *[]){at}, 0);
  op_refuse("graph \"t\" { input %x: i64[4] %y = TopK(%x) {axis=0, k=5} output %y }", "k is 5, axis 0 has 4 elements");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reduce_sweep), cmocka_unit_test(long_sum), cmocka_unit_test(integer_reduce), cmocka_unit_test(empty_reduce),
      cmocka_unit_test(arg), cmocka_unit_test(cumsum), cmocka_unit_test(topk),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
