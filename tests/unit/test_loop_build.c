/* The builder of the loop IR: what it folds and what it leaves, names, statements; packing of weights. */
#include "loop_test.h"

typedef struct Fixture {
  LoopTest t;
  Build b;
  Kernel *k;
  Expr *i, *j;             /* idx */
  Expr *n, *u, *f, *v, *m; /* i32, u8, f32, f32x4, bool */
  Var *x;                  /* f32 in */
} Fixture;

static int open_fixture(void **state) {
  Fixture *f = calloc(1, sizeof *f);
  loop_open(&f->t);
  f->k = kernel_new(f->t.arena, "test");
  build_start(&f->b, f->t.arena, f->k);
  f->x = build_param(&f->b, "x", DT_F32, ACCESS_IN);
  Var *ints = build_param(&f->b, "xi", DT_I32, ACCESS_IN), *bytes = build_param(&f->b, "xu", DT_U8, ACCESS_IN);
  f->i = x_var(&f->b, build_range(&f->b, "i", 10));
  f->j = s_for(&f->b, "j", x_idx(&f->b, 0), x_idx(&f->b, 5), 1);
  f->n = s_let(&f->b, "n", x_load(&f->b, ints, f->i, 1));
  f->u = s_let(&f->b, "u", x_load(&f->b, bytes, f->i, 1));
  f->f = s_let(&f->b, "f", x_load(&f->b, f->x, f->i, 1));
  f->v = s_let(&f->b, "v", x_load(&f->b, f->x, f->i, 4));
  f->m = s_let(&f->b, "m", x_bin(&f->b, X_LT, f->f, x_float(&f->b, type_of(DT_F32, 1), 0)));
  *state = f;
  return 0;
}

static int close_fixture(void **state) {
  Fixture *f = *state;
  loop_close(&f->t);
  free(f);
  return 0;
}

static const char *show(Fixture *f, Expr *e) {
  Var v = {.kind = VAR_LET, .name = "t", .type = e->type};
  Stmt s = {.kind = S_LET, .var = &v, .e = e};
  Text out = {.a = f->t.arena};
  stmt_print_head(&s, &out);
  return strchr(out.s, '=') + 2;
}

#define GIVES(e, text) assert_string_equal(show(f, e), text)
#define I(c) x_idx(b, c)

static void idx_sums(void **state) {
  Fixture *f = *state;
  Build *b = &f->b;
  Expr *i = f->i, *j = f->j;
  GIVES(x_addi(b, i, 0), "i");
  GIVES(x_add(b, I(0), i), "i");
  GIVES(x_addi(b, x_addi(b, i, 3), 5), "i + 8");
  GIVES(x_addi(b, x_addi(b, i, 3), -5), "i - 2");
  GIVES(x_addi(b, x_addi(b, i, 3), -3), "i");
  GIVES(x_sub(b, x_addi(b, i, 3), I(1)), "i + 2");
  GIVES(x_add(b, x_addi(b, i, 3), x_addi(b, j, 4)), "i + j + 7");
  GIVES(x_sub(b, x_addi(b, i, 3), x_addi(b, j, 4)), "i - j - 1");
  GIVES(x_sub(b, I(9), x_addi(b, j, 4)), "5 - j");
  GIVES(x_add(b, I(7), i), "i + 7");
  GIVES(x_add(b, I(7), I(8)), "15");
}

static void idx_products(void **state) {
  Fixture *f = *state;
  Build *b = &f->b;
  Expr *i = f->i, *j = f->j;
  GIVES(x_muli(b, x_muli(b, i, 16), 4), "i * 64");
  GIVES(x_muli(b, i, 0), "0");
  GIVES(x_muli(b, i, 1), "i");
  GIVES(x_mul(b, I(4), i), "i * 4");
  GIVES(x_muli(b, x_addi(b, i, 3), 4), "i * 4 + 12");
  GIVES(x_addi(b, x_muli(b, x_addi(b, x_muli(b, i, 2), 1), 8), 3), "i * 16 + 11");
  GIVES(x_muli(b, x_add(b, i, j), 4), "(i + j) * 4");
  GIVES(x_mul(b, i, j), "i * j");
}

static void idx_quotients(void **state) {
  Fixture *f = *state;
  Build *b = &f->b;
  Expr *i = f->i, *j = f->j;
  GIVES(x_divi(b, i, 1), "i");
  GIVES(x_remi(b, i, 1), "0");
  GIVES(x_divi(b, x_muli(b, i, 32), 16), "i * 2");
  GIVES(x_remi(b, x_muli(b, i, 32), 16), "0");
  GIVES(x_divi(b, x_addi(b, x_muli(b, i, 16), 5), 16), "i");
  GIVES(x_remi(b, x_addi(b, x_muli(b, i, 16), 5), 16), "5");
  GIVES(x_divi(b, x_addi(b, x_muli(b, i, 16), 21), 16), "i + 1");
  GIVES(x_divi(b, x_addi(b, x_muli(b, i, 16), -3), 16), "i - 1");   /* i * 16 - 3 >= 0, so i >= 1 */
  GIVES(x_remi(b, x_addi(b, x_muli(b, i, 16), -3), 16), "13");
  GIVES(x_divi(b, x_add(b, x_muli(b, i, 32), x_muli(b, j, 16)), 16), "i * 2 + j");
  GIVES(x_divi(b, x_divi(b, i, 3), 5), "i / 15");
  /* Not provable. */
  GIVES(x_divi(b, x_add(b, x_muli(b, i, 16), j), 16), "(i * 16 + j) / 16");
  GIVES(x_divi(b, x_addi(b, i, 5), 16), "(i + 5) / 16");
  GIVES(x_bin(b, X_DIV, i, j), "i / j");
}

static void integers(void **state) {
  Fixture *f = *state;
  Build *b = &f->b;
  Type i32 = type_of(DT_I32, 1), u8 = type_of(DT_U8, 1);
  GIVES(x_addi(b, x_addi(b, f->n, INT32_MAX), 1), "n + -2147483648");   /* wraps; has no positive counterpart */
  GIVES(x_addi(b, x_addi(b, f->u, 200), 100), "u + 44");
  GIVES(x_muli(b, x_addi(b, f->n, 1), 2), "(n + 1) * 2");
  GIVES(x_divi(b, x_muli(b, f->n, 4), 2), "n * 4 / 2");                 /* n * 4 may have wrapped */
  GIVES(x_divi(b, f->n, 1), "n");
  GIVES(x_bin(b, X_AND, f->n, x_int(b, i32, 0)), "0");
  GIVES(x_bin(b, X_AND, f->u, x_int(b, u8, 255)), "u");
  GIVES(x_bin(b, X_OR, f->n, x_int(b, i32, -1)), "-1");
  GIVES(x_bin(b, X_XOR, f->n, x_int(b, i32, 0)), "n");
  GIVES(x_bin(b, X_SHL, f->n, x_int(b, i32, 0)), "n");
  GIVES(x_bin(b, X_SHL, x_int(b, i32, 0), f->n), "0 << n");
  GIVES(x_fma(b, f->n, x_int(b, i32, 2), f->n), "n * 2 + n");
  GIVES(x_bin(b, X_DIV, x_int(b, i32, 7), x_int(b, i32, 0)), "0");
}

static void floats(void **state) {
  Fixture *f = *state;
  Build *b = &f->b;
  Type t = type_of(DT_F32, 1);
  Expr *zero = x_float(b, t, 0), *one = x_float(b, t, 1);
  GIVES(x_mul(b, f->f, one), "f");
  GIVES(x_mul(b, one, f->f), "f");
  GIVES(x_bin(b, X_DIV, f->f, one), "f");
  GIVES(x_sub(b, f->f, zero), "f");
  /* Wrong for NaN, infinity or -0. */
  GIVES(x_mul(b, f->f, zero), "f * 0.0");
  GIVES(x_add(b, f->f, zero), "f + 0.0");
  GIVES(x_sub(b, f->f, x_float(b, t, -0.0)), "f - -0.0");
  GIVES(x_sub(b, f->f, f->f), "f - f");
  GIVES(x_add(b, x_add(b, f->f, one), one), "f + 1.0 + 1.0");
  GIVES(x_add(b, x_float(b, t, 0.1), x_float(b, t, 0.2)), "0.3");
  GIVES(x_un(b, X_SQRT, x_float(b, t, 2)), "1.4142135");
  GIVES(x_un(b, X_EXP, one), "2.7182817");
  GIVES(x_bin(b, X_MAX, zero, x_float(b, t, NAN)), "nan");
  GIVES(x_bin(b, X_MAX, x_float(b, t, NAN), zero), "0.0");
  GIVES(x_fma(b, x_float(b, t, 2), x_float(b, t, 3), one), "7.0");
}

static void vectors(void **state) {
  Fixture *f = *state;
  Build *b = &f->b;
  Expr *two = x_float(b, type_of(DT_F32, 1), 2);
  GIVES(x_mul(b, f->v, two), "v * 2.0");
  GIVES(x_mul(b, two, f->v), "2.0 * v");
  GIVES(x_mul(b, f->v, f->f), "v * splat.4(f)");
  GIVES(x_splat(b, two, 4), "2.0");
  GIVES(x_splat(b, f->v, 4), "v");
  GIVES(x_extract(b, x_splat(b, f->f, 4), 2), "f");
  GIVES(x_extract(b, f->v, 2), "extract.2(v)");
  GIVES(x_reduce(b, X_REDUCE_ADD, x_splat(b, two, 8)), "16.0");
  GIVES(x_reduce(b, X_REDUCE_MUL, x_splat(b, two, 8)), "256.0");
  GIVES(x_reduce(b, X_REDUCE_MAX, f->f), "f");
  GIVES(x_shuffle(b, f->v, f->v, (uint8_t[]){0, 1, 2, 3}, 4), "v");
  GIVES(x_shuffle(b, f->v, f->v, (uint8_t[]){3, 4}, 2), "shuffle(v, v, [3, 4])");
  GIVES(x_iota(b, 1), "0");
  GIVES(x_select(b, f->m, f->v, two), "select(splat.4(m), v, 2.0)");
  GIVES(x_select(b, x_int(b, type_of(DT_BOOL, 1), 1), f->f, two), "f");
  GIVES(x_select(b, f->m, f->f, f->f), "f");
  GIVES(x_bin(b, X_LT, f->v, two), "v < 2.0");
  GIVES(x_fma(b, f->v, f->f, two), "fma(v, splat.4(f), 2.0)");
}

static void conversions(void **state) {
  Fixture *f = *state;
  Build *b = &f->b;
  GIVES(x_cast(b, DT_F32, f->f), "f");
  GIVES(x_cast(b, DT_I8, x_float(b, type_of(DT_F32, 1), 300)), "127");
  GIVES(x_cast(b, DT_F32, f->n), "cast.f32(n)");
  GIVES(x_bitcast(b, DT_I32, x_float(b, type_of(DT_F32, 1), 1)), "1065353216");
  /* The bits of a NaN are not folded: which NaN it was is not kept. */
  GIVES(x_bitcast(b, DT_I32, x_float(b, type_of(DT_F32, 1), NAN)), "bitcast.i32(nan)");
  GIVES(x_bitcast(b, DT_F32, x_int(b, type_of(DT_I32, 1), -1)), "bitcast.f32(const.i32(-1))");
  GIVES(x_num(b, type_of(DT_U8, 1), 300), "255");
  GIVES(x_num(b, type_of(DT_BOOL, 1), 0.5), "true");
  GIVES(x_num(b, type_of(DT_F32, 1), 0.1), "0.1");
}

static void memory(void **state) {
  Fixture *f = *state;
  Build *b = &f->b;
  GIVES(x_load_part(b, f->x, f->i, 4, I(4), I(1)), "load.4 x[i]");
  GIVES(x_load_part(b, f->x, f->i, 4, I(3), NULL), "load.4 x[i first 3]");
  GIVES(x_load_part(b, f->x, f->i, 4, NULL, I(0)), "splat.4(load x[i])");
  GIVES(x_load_part(b, f->x, f->i, 4, f->j, I(0)), "load.4 x[i first j by 0]");
  GIVES(x_load_part(b, f->x, f->i, 1, NULL, f->j), "load x[i]");
}

static void names(void **state) {
  Fixture *f = *state;
  Build *b = &f->b;
  assert_string_equal(s_reg(b, "x", f->f)->name, "x1");
  assert_string_equal(s_reg(b, "x", f->f)->name, "x2");
  assert_string_equal(s_reg(b, "x1", f->f)->name, "x11");
  assert_string_equal(s_reg(b, "load", f->f)->name, "load1");
  assert_string_equal(s_reg(b, "max", f->f)->name, "max1");
  assert_string_equal(s_reg(b, "max", f->f)->name, "max2");
  assert_string_equal(s_reg(b, "conv/w:0", f->f)->name, "conv_w_0");
  assert_string_equal(s_reg(b, "0", f->f)->name, "_0");
  assert_string_equal(s_reg(b, "", f->f)->name, "t");
  assert_string_equal(s_reg(b, NULL, f->f)->name, "t1");
  for (int i = 0; i < 2000; i++) s_reg(b, "acc", f->f);
  /* A builder that goes on with the kernel knows its names. */
  Build again;
  build_start(&again, f->t.arena, f->k);
  assert_string_equal(s_reg(&again, "x1", x_idx(b, 1))->name, "x12");
  assert_null(kernel_verify(f->k, f->t.arena));
}

static void statements(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  Kernel *k = kernel_new(t.arena, "statements \"quoted\"");
  Build b;
  build_start(&b, t.arena, k);
  Var *x = build_param(&b, "x", DT_F32, ACCESS_IN), *y = build_param(&b, "y", DT_F32, ACCESS_OUT);
  y->may_alias = true;
  Expr *r = x_var(&b, build_range(&b, "r", 7));
  Expr *c = s_for_n(&b, "c", 1);
  Expr *i = s_for_n(&b, "i", 4);
  Expr *v = s_let(&b, "v", x_load(&b, x, x_add(&b, x_muli(&b, i, 4), c), 4));
  assert_true(s_let(&b, "again", v) == v);
  s_pin(&b, v->var);
  Var *a = s_reg(&b, "a", v);
  assert_true(s_let(&b, "copy", x_var(&b, a))->var != a);   /* a register may change: its value now */
  s_set(&b, a, x_float(&b, type_of(DT_F32, 1), 0));
  s_if(&b, x_bin(&b, X_LT, i, r));
  s_set(&b, a, x_mul(&b, x_var(&b, a), v));
  s_else(&b);
  s_comment(&b, "two\nlines %d", 3);
  s_end(&b);
  s_store_part(&b, y, x_muli(&b, i, 4), x_var(&b, a), x_idx(&b, 4), x_idx(&b, 1));
  s_prefetch(&b, x, x_addi(&b, i, 64), 2, false);
  s_end(&b);
  s_end(&b);
  assert_null(kernel_verify(k, t.arena));
  assert_string_equal(loop_text(&t, k), "kernel k \"statements \\\"quoted\\\"\" (x: f32 in, y: f32 out alias) range r in 0..7 {\n"
                                        "  for i in 0..4 {\n"
                                        "    let v: f32x4 = load.4 x[i * 4]\n"
                                        "    pin v\n"
                                        "    reg a: f32x4 = v\n"
                                        "    let copy: f32x4 = a\n"
                                        "    a = 0.0\n"
                                        "    if i < r {\n"
                                        "      a = a * v\n"
                                        "    } else {\n"
                                        "      // two lines 3\n"
                                        "    }\n"
                                        "    store y[i * 4] = a\n"
                                        "    prefetch x[i + 64] 2 read\n"
                                        "  }\n"
                                        "}\n");
  loop_close(&t);
}

/* ---- weights ---- */

static void packing(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  Program *p = program_new(t.arena, &t.target);
  float src[5 * 3];
  for (int i = 0; i < 15; i++) src[i] = (float)i;
  /* [5][3] to [2][3][4]: five channels in blocks of four, the missing three are 0. */
  Pack pack = {.src = src, .dt = DT_F32, .ndims = 3, .dim = {{2, 12, 0, 4}, {3, 1, -1, 0}, {4, 3, 0, 1}}, .limit = {5}};
  assert_int_equal(pack_count(&pack), 24);
  float got[24];
  weight_fill_pack(&pack, got);
  for (int cb = 0; cb < 2; cb++)
    for (int j = 0; j < 3; j++)
      for (int c = 0; c < 4; c++) assert_true(got[(cb * 3 + j) * 4 + c] == (cb * 4 + c < 5 ? src[(cb * 4 + c) * 3 + j] : 0));
  /* Scaled by channel. */
  const float scale[5] = {1, 2, 4, 8, 0.5f};
  pack.scale = scale;
  weight_fill_pack(&pack, got);
  for (int c = 0; c < 5; c++) assert_true(got[c / 4 * 12 + c % 4] == src[c * 3] * scale[c]);
  pack.scale = NULL;

  int a = program_add_pack(p, "w", &pack, "blocked"), again = program_add_pack(p, "w", &pack, "blocked");
  assert_int_equal(a, again);
  pack.scale = scale;
  assert_int_not_equal(a, program_add_pack(p, "w", &pack, "blocked"));
  assert_int_not_equal(a, program_add_weight(p, (Weight){.name = "w", .source = src, .bytes = 60, .fill = weight_fill_dense}));
  assert_int_equal(p->weights.n, 3);
  program_layout_weights(p);
  assert_int_equal(p->weights.at[1].offset, 128);
  assert_int_equal(p->weights.at[2].offset, 256);
  assert_int_equal(p->weight_bytes, 320);
  loop_close(&t);
}

/* Against one element at a time, for random strides, groups and limits. */
static void packing_random(void **state) {
  (void)state;
  uint64_t seed = 3;
  for (int round = 0; round < 300; round++) {
    uint16_t src[4096], got[4096];
    for (int i = 0; i < 4096; i++) src[i] = (uint16_t)(i + 1);
    Pack p = {.src = src + 2048, .dt = DT_U16, .ndims = 1 + test_pick(&seed, 5)};
    for (int g = 0; g < PACK_GROUPS; g++) p.limit[g] = test_pick(&seed, 12);
    for (int d = 0; d < p.ndims; d++) {
      p.dim[d] = (PackDim){1 + test_pick(&seed, 5), test_pick(&seed, 3) ? test_pick(&seed, 100) - 50 : 1,
                           test_pick(&seed, PACK_GROUPS + 1) - 1, test_pick(&seed, 5) - (test_pick(&seed, 8) == 0)};
    }
    int64_t n = pack_count(&p);
    weight_fill_pack(&p, got);
    for (int64_t i = 0; i < n; i++) {
      int64_t rest = i, at = 0, sum[PACK_GROUPS] = {0};
      for (int d = p.ndims - 1; d >= 0; d--) {
        int64_t k = rest % p.dim[d].n;
        rest /= p.dim[d].n;
        at += k * p.dim[d].stride;
        if (p.dim[d].group >= 0) sum[p.dim[d].group] += k * p.dim[d].mul;
      }
      bool in = true;
      for (int d = 0; d < p.ndims; d++) in &= p.dim[d].group < 0 || sum[p.dim[d].group] < p.limit[p.dim[d].group];
      assert_int_equal(got[i], in ? src[2048 + at] : 0);
    }
  }
}

#define FIXTURE(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void) {
  const struct CMUnitTest tests[] = {
      FIXTURE(idx_sums), FIXTURE(idx_products), FIXTURE(idx_quotients), FIXTURE(integers), FIXTURE(floats), FIXTURE(vectors),
      FIXTURE(conversions), FIXTURE(memory), FIXTURE(names), cmocka_unit_test(statements), cmocka_unit_test(packing),
      cmocka_unit_test(packing_random),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
