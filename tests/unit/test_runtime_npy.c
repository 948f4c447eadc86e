/* .npy files: every element type back and forth, both byte orders and storage orders, and files that lie about themselves. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/runtime.h"

static char *folder;

static char *in_folder(const char *name) {
  static char path[512];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

/* A version 1 to 3 file in memory. */
static size_t make_npy(uint8_t *out, int version, const char *header, const void *data, size_t bytes) {
  size_t n = strlen(header), at = version == 1 ? 10 : 12;
  memcpy(out, "\x93NUMPY", 6);
  out[6] = (uint8_t)version;
  out[7] = 0;
  memset(out + 8, 0, at - 8);
  out[8] = (uint8_t)n;
  out[9] = (uint8_t)(n >> 8);
  memcpy(out + at, header, n);
  if (bytes) memcpy(out + at + n, data, bytes);
  return at + n + bytes;
}

static spinec_status parse(int version, const char *header, const void *data, size_t bytes, spinec_tensor *t) {
  uint8_t file[4096];
  char err[RT_ERR_MAX] = "";
  size_t n = make_npy(file, version, header, data, bytes);
  uint8_t *exact = malloc(n);  /* so that a sanitizer sees reads past the end */
  memcpy(exact, file, n);
  spinec_status status = npy_parse(exact, n, "mem.npy", t, err);
  free(exact);
  if (status) {
    assert_non_null(strstr(err, "mem.npy"));
    assert_null(t->data);
  }
  return status;
}

static void round_trip(void **state) {
  (void)state;
  static const spinec_dtype types[] = {SPINEC_F32, SPINEC_U8,  SPINEC_I8,  SPINEC_U16, SPINEC_I16, SPINEC_I32, SPINEC_I64,
                                       SPINEC_BOOL, SPINEC_F16, SPINEC_F64, SPINEC_U32, SPINEC_U64, SPINEC_BF16};
  static const struct { int rank; int64_t dims[SPINEC_MAX_RANK]; } shapes[] = {
    {0, {0}}, {1, {7}}, {2, {3, 5}}, {4, {2, 1, 3, 4}}, {8, {1, 2, 1, 2, 1, 2, 1, 2}}, {1, {0}}, {3, {4, 0, 2}},
  };
  for (size_t i = 0; i < sizeof types / sizeof *types; i++)
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
      char err[RT_ERR_MAX] = "";
      uint64_t data[64];
      spinec_tensor t = {.dtype = types[i], .rank = shapes[k].rank, .data = data}, back;
      memcpy(t.dims, shapes[k].dims, sizeof t.dims);
      random_fill(&t, i * 10 + k);
      assert_int_equal(npy_save(in_folder("t.npy"), &t, err), SPINEC_OK);
      assert_int_equal(npy_load(in_folder("t.npy"), &back, err), SPINEC_OK);
      int64_t count;
      size_t bytes;
      assert_true(rt_shape_bytes(t.dtype, t.rank, t.dims, &count, &bytes));
      assert_int_equal(back.dtype, t.dtype);
      assert_int_equal(back.rank, t.rank);
      assert_memory_equal(back.dims, t.dims, (size_t)t.rank * sizeof *t.dims);
      assert_memory_equal(back.data, t.data, bytes);
      free(back.data);
    }
}

/* What numpy.save writes for np.array([[1, 2, 3], [4, 5, 6]], '<f4'): data on a 64-byte boundary, the dictionary spelled its way. */
static void layout_is_numpys(void **state) {
  (void)state;
  float data[6] = {1, 2, 3, 4, 5, 6};
  spinec_tensor t = {SPINEC_F32, 2, {2, 3}, data};
  assert_int_equal(npy_save(in_folder("n.npy"), &t, NULL), SPINEC_OK);
  FILE *f = fopen(in_folder("n.npy"), "rb");
  char bytes[256];
  size_t n = fread(bytes, 1, sizeof bytes, f);
  fclose(f);
  static const char start[] = "\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  assert_int_equal(n, 128 + sizeof data);
  assert_memory_equal(bytes, start, sizeof start - 1);
  for (size_t i = sizeof start - 1; i < 127; i++) assert_int_equal(bytes[i], ' ');
  assert_int_equal(bytes[127], '\n');
  assert_memory_equal(bytes + 128, data, sizeof data);
}

static void byte_order(void **state) {
  (void)state;
  static const uint8_t big[] = {0x01, 0x02, 0x03, 0x04, 0xff, 0xff, 0xff, 0xfe};
  spinec_tensor t;
  assert_int_equal(parse(1, "{'descr': '>i4', 'fortran_order': False, 'shape': (2,), }", big, 8, &t), SPINEC_OK);
  assert_int_equal(((int32_t *)t.data)[0], 0x01020304);
  assert_int_equal(((int32_t *)t.data)[1], -2);
  free(t.data);
  assert_int_equal(parse(1, "{'descr': '>u2', 'fortran_order': False, 'shape': (4,), }", big, 8, &t), SPINEC_OK);
  assert_int_equal(((uint16_t *)t.data)[1], 0x0304);
  free(t.data);
  assert_int_equal(parse(1, "{'descr': '<u8', 'fortran_order': False, 'shape': (), }", big, 8, &t), SPINEC_OK);
  assert_true(*(uint64_t *)t.data == UINT64_C(0xfeffffff04030201));
  free(t.data);
  assert_int_equal(parse(1, "{'descr': '|u1', 'fortran_order': False, 'shape': (8,), }", big, 8, &t), SPINEC_OK);
  assert_int_equal(((uint8_t *)t.data)[7], 0xfe);
  free(t.data);
}

static void fortran_order(void **state) {
  (void)state;
  /* Element [i][j][k] of shape 2x3x4 holds 100 i + 10 j + k, first index fastest. */
  int16_t data[24];
  for (int i = 0; i < 24; i++) data[i] = (int16_t)(100 * (i % 2) + 10 * (i / 2 % 3) + i / 6);
  spinec_tensor t;
  assert_int_equal(parse(1, "{'descr': '<i2', 'fortran_order': True, 'shape': (2, 3, 4), }", data, sizeof data, &t), SPINEC_OK);
  for (int i = 0; i < 24; i++) assert_int_equal(((int16_t *)t.data)[i], 100 * (i / 12) + 10 * (i / 4 % 3) + i % 4);
  free(t.data);
}

static void header_spellings(void **state) {
  (void)state;
  static const uint8_t data[16] = {1, 0, 2, 255};
  static const char *const good[] = {
    "{'descr': '|b1', 'fortran_order': False, 'shape': (4,), }",
    "{'shape':(4,),'fortran_order':False,'descr':'|b1'}",
    "{\"descr\": \"?\", \"fortran_order\": True, \"shape\": (2, 2)}\n",
    "  { 'descr' : '|b1' ,\n 'fortran_order' : False , 'shape' : ( 2L , 2L ) , }   \n",
  };
  for (int version = 1; version <= 3; version++)
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
      spinec_tensor t;
      assert_int_equal(parse(version, good[i], data, 4, &t), SPINEC_OK);
      assert_int_equal(t.dtype, SPINEC_BOOL);
      for (int k = 0; k < 4; k++) assert_true(((uint8_t *)t.data)[k] <= 1);
      free(t.data);
    }
}

static void refused(void **state) {
  (void)state;
  static const uint8_t data[64];
  static const struct { const char *header; spinec_status status; } bad[] = {
    {"", SPINEC_ERR_INPUT},
    {"{", SPINEC_ERR_INPUT},
    {"{}", SPINEC_ERR_INPUT},
    {"{'descr': '<f4', 'fortran_order': False}", SPINEC_ERR_INPUT},
    {"{'descr': '<f4', 'shape': (1,)}", SPINEC_ERR_INPUT},
    {"{'fortran_order': False, 'shape': (1,)}", SPINEC_ERR_INPUT},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)", SPINEC_ERR_INPUT},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", SPINEC_ERR_INPUT},
    {"{'descr': '<f4' 'fortran_order': False, 'shape': (1,)}", SPINEC_ERR_INPUT},
    {"{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1,)}", SPINEC_ERR_INPUT},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1)}", SPINEC_ERR_INPUT},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", SPINEC_ERR_INPUT},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2}", SPINEC_ERR_INPUT},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}", SPINEC_ERR_INPUT},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", SPINEC_ERR_INPUT},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}", SPINEC_ERR_INPUT},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4611686018427387904, 4)}", SPINEC_ERR_INPUT},
    {"{'descr': '<f4', 'fortran_order': True, 'shape': (1099511627776,)}", SPINEC_ERR_INPUT},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (17,)}", SPINEC_ERR_INPUT},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1, 1, 1, 1)}", SPINEC_ERR_UNSUPPORTED},
    {"{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", SPINEC_ERR_UNSUPPORTED},
    {"{'descr': '<U4', 'fortran_order': False, 'shape': (1,)}", SPINEC_ERR_UNSUPPORTED},
    {"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", SPINEC_ERR_UNSUPPORTED},
    {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", SPINEC_ERR_UNSUPPORTED},
    {"{'descr': 'f44', 'fortran_order': False, 'shape': (1,)}", SPINEC_ERR_UNSUPPORTED},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    spinec_tensor t;
    assert_int_equal(parse(1, bad[i].header, data, sizeof data, &t), bad[i].status);
  }
  spinec_tensor t;
  assert_int_equal(parse(4, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", data, 4, &t), SPINEC_ERR_UNSUPPORTED);
  assert_int_equal(npy_parse("", 0, "empty", &t, NULL), SPINEC_ERR_INPUT);
  assert_int_equal(npy_load(in_folder("absent.npy"), &t, NULL), SPINEC_ERR_IO);
  assert_int_equal(npy_load(folder, &t, NULL), SPINEC_ERR_IO);
}

/* Every truncation fails; every single-byte change either loads something consistent or fails. */
static void mutilated(void **state) {
  (void)state;
  uint8_t file[256], data[24] = {0};
  size_t n = make_npy(file, 1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", data, sizeof data);
  for (size_t i = 0; i < n; i++) {
    uint8_t *cut = malloc(i + 1);
    memcpy(cut, file, i);
    spinec_tensor t;
    assert_int_not_equal(npy_parse(cut, i, "cut", &t, NULL), SPINEC_OK);
    assert_null(t.data);
    free(cut);
  }
  for (size_t i = 0; i < n; i++)
    for (int v = 0; v < 256; v++) {
      uint8_t copy[256];
      memcpy(copy, file, n);
      copy[i] = (uint8_t)v;
      spinec_tensor t;
      if (npy_parse(copy, n, "changed", &t, NULL)) continue;
      int64_t count;
      size_t bytes;
      assert_true(rt_shape_bytes(t.dtype, t.rank, t.dims, &count, &bytes));
      assert_true(bytes <= n);
      free(t.data);
    }
}

static void failed_save_leaves_the_target(void **state) {
  (void)state;
  float one = 1, two = 2;
  spinec_tensor t = {SPINEC_F32, 0, {0}, &one}, back;
  assert_int_equal(npy_save(in_folder("keep.npy"), &t, NULL), SPINEC_OK);
  spinec_tensor bad = {SPINEC_STRING, 0, {0}, &two};
  assert_int_equal(npy_save(in_folder("keep.npy"), &bad, NULL), SPINEC_ERR_UNSUPPORTED);
  assert_int_equal(npy_load(in_folder("keep.npy"), &back, NULL), SPINEC_OK);
  assert_true(*(float *)back.data == 1);
  free(back.data);
  char err[RT_ERR_MAX] = "";
  assert_int_equal(npy_save(in_folder("no/such/folder.npy"), &t, err), SPINEC_ERR_IO);
  assert_non_null(strstr(err, "folder.npy"));
}

static int make_folder(void **state) {
  (void)state;
  return tempdir_new(&folder, NULL);
}

static int drop_folder(void **state) {
  (void)state;
  tempdir_remove(folder);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(round_trip),       cmocka_unit_test(layout_is_numpys), cmocka_unit_test(byte_order),
    cmocka_unit_test(fortran_order),    cmocka_unit_test(header_spellings), cmocka_unit_test(refused),
    cmocka_unit_test(mutilated),        cmocka_unit_test(failed_save_leaves_the_target),
  };
  return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
