/* Matrix products and Einstein sums against their definitions: extents around the tile and vector sizes, transposes, batch broadcasting,
 * constant and run-time operands, integers, bodies; every kind of einsum term. */
#include "op_test.h"

static uint32_t seed;
static int pick(int lo, int hi) { return lo + (int)(op_random(&seed) % (uint32_t)(hi - lo + 1)); }

/* ---- matmul ---- */

typedef struct Case { int batch[2], abatch[2], bbatch[2], m, n, k; bool ta, tb, constant, body; } Case;

static void matmul_case(const Case *c, int config) {
  int na = c->abatch[0] * c->abatch[1] * c->m * c->k, nb = c->bbatch[0] * c->bbatch[1] * c->k * c->n;
  int ny = c->batch[0] * c->batch[1] * c->m * c->n;
  float *a = malloc((size_t)na * 4 + 4), *b = malloc((size_t)nb * 4 + 4), *want = malloc((size_t)ny * 4 + 4),
      *bias = malloc((size_t)c->n * 4);
  op_fill_f32(a, na, 3);
  op_fill_f32(bias, c->n, 5);
  if (c->constant) opaque_fill(b, DT_F32, nb, 99);
  else op_fill_f32(b, nb, 4);
  for (int i = 0; i < ny; i++) {
    int col = i % c->n, row = i / c->n % c->m, b1 = i / c->n / c->m % c->batch[1], b0 = i / c->n / c->m / c->batch[1];
    int ia = (c->abatch[0] == 1 ? 0 : b0) * c->abatch[1] + (c->abatch[1] == 1 ? 0 : b1);
    int ib = (c->bbatch[0] == 1 ? 0 : b0) * c->bbatch[1] + (c->bbatch[1] == 1 ? 0 : b1);
    double sum = c->body ? bias[col] : 0;
    for (int k = 0; k < c->k; k++) {
      int at = ia * c->m * c->k + (c->ta ? k * c->m + row : row * c->k + k);
      int bt = ib * c->k * c->n + (c->tb ? col * c->k + k : k * c->n + col);
      sum += (double)a[at] * b[bt];
    }
    want[i] = (float)sum;
  }
  bool flat = c->batch[0] * c->batch[1] == 1 && pick(0, 1);   /* rank 2 */
  char da[64] = "", db[64] = "";
  if (!flat) sprintf(da, "%d,%d,", c->abatch[0], c->abatch[1]), sprintf(db, "%d,%d,", c->bbatch[0], c->bbatch[1]);
  const char *text = op_text("graph \"t\" { input %%a: f32[%s%d,%d] %s %%b: f32[%s%d,%d] %s %s %%y = MatMul(%%a, %%b%s) {trans_a=%s, "
                             "trans_b=%s}%s output %%y }",
                             da, c->ta ? c->k : c->m, c->ta ? c->m : c->k, c->constant ? "const" : "input", db, c->tb ? c->n : c->k,
                                 c->tb ? c->k : c->n,
                             c->constant ? "= opaque 99" : "", c->body ? op_text("input %%c: f32[%d]", c->n) : "", c->body ? "; %c" : "",
                             c->ta ? "true" : "false", c->tb ? "true" : "false", c->body ? " body { %0 = Add(acc, in2) }" : "");
  const void *in[3] = {a, b, bias};
  if (c->constant) in[1] = bias;
  op_run(text, &op_configs[config], in, (const void *[]){want}, 2e-5);
  free(a), free(b), free(want), free(bias);
}

static void matmul_sweep(void **state) {
  (void)state;
  seed = 14;
  for (int i = 0; i < 2500; i++) {
    Case c = {.m = pick(1, 20), .n = pick(1, i % 3 ? 20 : 70), .k = pick(0, 9) ? pick(1, 40) : pick(0, 2), .ta = pick(0, 1),
              .tb = pick(0, 1),
              .constant = pick(0, 1), .body = pick(0, 1)};
    if (!pick(0, 5)) c.n = 1;
    if (!pick(0, 5)) c.m = 1;
    for (int d = 0; d < 2; d++) {
      c.batch[d] = pick(0, 1) ? 1 : pick(1, 3);
      int who = pick(0, 3);
      c.abatch[d] = who == 0 ? 1 : c.batch[d];
      c.bbatch[d] = who == 1 ? 1 : c.batch[d];
    }
    if (c.k == 0) c.constant = false;
    matmul_case(&c, i % COUNTOF(op_configs));
  }
}

static void matmul_types(void **state) {
  (void)state;
  const char *f = "graph \"t\" { input %%a: %s[2,3] input %%b: %s[3,2] %%y: %s[2,2] = MatMul(%%a, %%b) output %%y }";
  const int64_t a[6] = {1, 2, 3, 4, 5, 6}, b[6] = {1, -2, 3, -4, 5, -6}, y[4] = {22, -28, 49, -64};
  const int32_t a4[6] = {1, 2, 3, 4, 5, 6}, b4[6] = {1, -2, 3, -4, 5, -6}, y4[4] = {22, -28, 49, -64};
  const uint8_t a1[6] = {1, 2, 3, 4, 5, 6};
  const int8_t b1[6] = {1, -2, 3, -4, 5, -6};
  const double ad[6] = {1, 2, 3, 4, 5, 6}, bd[6] = {1, -2, 3, -4, 5, -6}, yd[4] = {22, -28, 49, -64};
  op_check(op_text(f, "i64", "i64", "i64"), (const void *[]){a, b}, (const void *[]){y}, 0);
  op_check(op_text(f, "i32", "i32", "i32"), (const void *[]){a4, b4}, (const void *[]){y4}, 0);
  op_check(op_text(f, "u8", "i8", "i32"), (const void *[]){a1, b1}, (const void *[]){y4}, 0);
  op_check(op_text(f, "f64", "f64", "f64"), (const void *[]){ad, bd}, (const void *[]){yd}, 0);
  op_refuse(op_text(f, "f64", "f32", "f64"), "expected one type");
  op_refuse("graph \"t\" { input %a: f32[2,3] input %b: f32[4,2] %y = MatMul(%a, %b) output %y }", "the inner dimensions 3 and 4");
  op_refuse("graph \"t\" { input %a: f32[2,2,3] input %b: f32[3,3,2] %y = MatMul(%a, %b) output %y }", "do not broadcast");
  op_refuse("graph \"t\" { input %a: f32[3] input %b: f32[3,2] %y = MatMul(%a, %b) output %y }", "operand 0 has rank 1");
}

/* ---- einsum ---- */

typedef struct Sum { const char *equation, *shape[3], *out; } Sum;

static const Sum sums[] = {
    {"ij,jk->ik", {"5,7", "7,19"}, "5,19"},     {"ij,kj->ik", {"5,33", "9,33"}, "5,9"},      {"ij,jk", {"3,4", "4,6"}, "3,6"},
    {"ii->i", {"9,9"}, "9"},                     {"ii", {"9,9"}, ""},                         {"ij->ji", {"5,21"}, "21,5"},
    {"ij->", {"5,21"}, ""},                      {"i,i->", {"37", "37"}, ""},                 {"i,j->ij", {"5", "18"}, "5,18"},
    {"bhqd,bhkd->bhqk", {"2,3,5,17", "2,3,6,17"}, "2,3,5,6"},                                  {"...ij,...jk->...ik", {"2,3,4,5", "3,5,6"},
                                                                                                "2,3,4,6"},
    {"...ii->...i", {"3,2,4,4"}, "3,2,4"},       {"i...->...", {"4,3,2"}, "3,2"},
                    {"ij,jk,kl->il", {"3,4", "4,5", "5,6"}, "3,6"},
    {"ij,ij->ij", {"1,20", "4,20"}, "4,20"},     {"bij, bjk -> bik", {"3,2,5", "3,5,4"}, "3,2,4"}, {"ba", {"3,17"}, "17,3"},
    {"...,...", {"3,17", "17"}, "3,17"},         {"iij->j", {"4,4,20"}, "20"},                {"Ab,bC->CA", {"3,5", "5,7"}, "7,3"},
    {"i->i", {"1"}, "1"},                        {"ij->i", {"3,0"}, "3"},
};

/* The definition: a loop over all labels. dims: extent by letter; '.' dimensions are letters '0' and up. */
static int64_t dims_of(const char *s, int64_t *d) {
  int64_t n = 0;
  for (char *end; *s; s = *end ? end + 1 : end) d[n++] = strtoll(s, &end, 10);
  return n;
}

/* Expands "..." into digits for a term of `rank` dimensions; spaces vanish. */
static void expand(const char *s, size_t n, int rank, char *out) {
  int named = 0, k = 0;
  for (size_t i = 0; i < n; i++) named += s[i] != '.' && s[i] != ' ';
  for (size_t i = 0; i < n; i++) {
    if (s[i] == ' ') continue;
    if (s[i] != '.') {
      out[k++] = s[i];
      continue;
    }
    for (int d = named; d < rank; d++) out[k++] = (char)('9' - (rank - 1 - d));
    i += 2;
  }
  out[k] = 0;
}

typedef struct Loop { int nin; char term[4][16]; int64_t extent[128], at[128]; int64_t rank[4], dim[4][8]; float *x[4]; double *y; } Loop;

static int64_t offset(const Loop *l, int k) {
  int64_t o = 0;
  for (int d = 0; l->term[k][d]; d++) o = o * l->dim[k][d] + (l->dim[k][d] == 1 ? 0 : l->at[(int)l->term[k][d]]);
  return o;
}

static void loop(Loop *l, int letter) {
  while (letter < 128 && l->extent[letter] < 0) letter++;
  if (letter == 128) {
    double p = 1;
    for (int k = 0; k < l->nin; k++) p *= l->x[k][offset(l, k)];
    l->y[offset(l, 3)] += p;
    return;
  }
  for (l->at[letter] = 0; l->at[letter] < l->extent[letter]; l->at[letter]++) loop(l, letter + 1);
}

static void einsum_case(const Sum *s, bool body, int config) {
  static Loop l;
  memset(&l, 0, sizeof l);
  for (int i = 0; i < 128; i++) l.extent[i] = -1;
  const char *arrow = strstr(s->equation, "->"), *p = s->equation, *end = arrow ? arrow : p + strlen(p);
  char decl[256] = "", args[32] = "";
  int widest = 0;
  for (; l.nin < 3 && s->shape[l.nin]; l.nin++) {
    int k = l.nin;
    size_t len = 0;
    while (p + len < end && p[len] != ',') len++;
    l.rank[k] = dims_of(s->shape[k], l.dim[k]);
    expand(p, len, (int)l.rank[k], l.term[k]);
    p += len + 1;
    int64_t n = 1, dots = 0;
    for (int d = 0; d < l.rank[k]; d++) {
      int64_t *e = &l.extent[(int)l.term[k][d]];
      n *= l.dim[k][d];
      dots += l.term[k][d] <= '9';
      if (*e < 0 || *e == 1) *e = l.dim[k][d];
    }
    if (dots > widest) widest = (int)dots;
    l.x[k] = malloc((size_t)n * 4 + 4);
    op_fill_f32(l.x[k], n, 40 + (uint32_t)k);
    sprintf(decl + strlen(decl), " input %%x%d: f32[%s]", k, s->shape[k]);
    sprintf(args + strlen(args), "%s%%x%d", k ? ", " : "", k);
  }
  l.rank[3] = dims_of(s->out, l.dim[3]);
  if (arrow) {
    expand(arrow + 2, strlen(arrow + 2), (int)l.rank[3], l.term[3]);
  } else {
    int k = 0;
    for (int d = 0; d < widest; d++) l.term[3][k++] = (char)('9' - (widest - 1 - d));
    for (int c = 'A'; c <= 'z'; c++) {
      int times = 0;
      for (int i = 0; i < l.nin; i++)
        for (const char *q = l.term[i]; *q; q++) times += *q == c;
      if (times == 1) l.term[3][k++] = (char)c;
    }
  }
  int64_t ny = 1;
  for (int d = 0; d < l.rank[3]; d++) ny *= l.dim[3][d];
  l.y = calloc((size_t)ny, 8);
  loop(&l, 0);
  float *want = malloc((size_t)ny * 4);
  for (int64_t i = 0; i < ny; i++) want[i] = (float)(body ? -l.y[i] : l.y[i]);
  const char *text = op_text("graph \"t\" {%s %%y: f32[%s] = Einsum(%s) {equation=\"%s\"}%s output %%y }", decl, s->out, args, s->equation,
                             body ? " body { %0 = Neg(acc) }" : "");
  op_run(text, &op_configs[config], (const void *[]){l.x[0], l.x[1], l.x[2]}, (const void *[]){want}, 2e-5);
  for (int k = 0; k < l.nin; k++) free(l.x[k]);
  free(l.y), free(want);
}

static void einsum(void **state) {
  (void)state;
  for (int i = 0; i < COUNTOF(sums); i++)
    for (int c = 0; c < COUNTOF(op_configs); c++) einsum_case(&sums[i], c & 1, c);
  const char *f = "graph \"t\" { input %%a: f32[2,3] input %%b: f32[3,2] %%y = Einsum(%%a, %%b) {equation=\"%s\"} output %%y }";
  op_refuse(op_text(f, "ij,ij->i"), "stands for both 2 and 3");
  op_refuse(op_text(f, "ij->i"), "does not have 2 terms");
  op_refuse(op_text(f, "ij,jk,kl->i"), "does not have 2 terms");
  op_refuse(op_text(f, "ij,j->i"), "does not fit operand 1");
  op_refuse(op_text(f, "ij,jk->iz"), "a label that no operand has");
  op_refuse(op_text(f, "ij,jk->ii"), "a label twice");
  op_refuse(op_text(f, "i1,jk->i"), "malformed");
  op_refuse(op_text(f, "i..,jk->i"), "malformed");
  op_refuse(op_text(f, ""), "does not have 2 terms");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(matmul_sweep), cmocka_unit_test(matmul_types), cmocka_unit_test(einsum)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
