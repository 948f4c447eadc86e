/* test_target.c: the table of targets and detection. */
#include "backend/backend.h"
#include "runtime/runtime.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

static void rows_are_sane(void **state) {
  (void)state;
  assert_true(target_count() >= 8);
  for (int i = 0; i < target_count(); i++) {
    const Target *t = target_at(i);
    assert_non_null(t);
    assert_true(t->name[0] && t->summary[0]);
    assert_true(t->lanes == 4 || t->lanes == 8 || t->lanes == 16);
    assert_true(t->vregs >= 8);
    assert_true(t->l1 >= 16 * 1024 && t->l2 >= t->l1 && t->l3 >= 0);
    assert_true(t->pointer_bits == 32 || t->pointer_bits == 64);
    assert_true((t->arch == ARCH_GENERIC) == !t->triple[0]);
    /* Flags are words for a command line that no shell sees. */
    for (const char *c = t->cflags; *c; c++) assert_true(*c > ' ' || (*c == ' ' && c[1] == '-'));
    for (int j = 0; j < i; j++) assert_string_not_equal(t->name, target_at(j)->name);
  }
  assert_null(target_at(-1));
  assert_null(target_at(target_count()));
}

static void names_are_found(void **state) {
  (void)state;
  static const char *const names[] = {"generic", "x86-64-v2", "x86-64-v3", "x86-64-v4", "armv8-a", "armv8.2-a+dotprod+fp16", "armv7-a+neon", "native"};
  for (int i = 0; i < COUNTOF(names); i++) {
    assert_non_null(target_find(names[i]));
    assert_string_equal(target_find(names[i])->name, names[i]);
  }
  assert_null(target_find("x86-64-v5"));
  assert_null(target_find(""));
  assert_null(target_find(NULL));
}

static void rows_say_what_they_should(void **state) {
  (void)state;
  const Target *t = target_find("generic");
  assert_true(t->lanes == 4 && !t->fma && !t->masks && !t->cflags[0]);
  t = target_find("x86-64-v4");
  assert_true(t->lanes == 16 && t->vregs == 32 && t->fma && t->masks && t->arch == ARCH_X86_64 && strstr(t->cflags, "-march=x86-64-v4"));
  t = target_find("x86-64-v3");
  assert_true(t->lanes == 8 && t->vregs == 16 && t->fma && !t->masks);
  t = target_find("x86-64-v2");
  assert_true(t->lanes == 4 && !t->fma);
  t = target_find("armv8.2-a+dotprod+fp16");
  assert_true(t->lanes == 4 && t->vregs == 32 && t->fma && t->dot8 && t->fp16 && t->arch == ARCH_AARCH64 && t->pointer_bits == 64);
  t = target_find("armv7-a+neon");
  assert_true(t->lanes == 4 && t->fma && t->arch == ARCH_ARM && t->pointer_bits == 32);
}

/* But for its caches, the native target is one of the rows, and one this machine can run. */
static void native_is_a_row(void **state) {
  (void)state;
  const Target *n = target_find("native"), *row = NULL;
  for (int i = 0; i + 1 < target_count(); i++) {
    const Target *t = target_at(i);
    if (!strcmp(t->cflags, n->cflags) && !strcmp(t->cpu, n->cpu) && !strcmp(t->features, n->features)) row = t;
  }
  assert_non_null(row);
  assert_non_null(strstr(n->summary, row->name));
  assert_true(row->lanes == n->lanes && row->vregs == n->vregs && row->fma == n->fma && row->masks == n->masks && row->arch == n->arch);
  assert_ptr_equal(n, target_find("native"));
  CpuInfo c = cpu_detect();
  if (n->lanes == 16) assert_true(c.avx512f && c.avx512vl && c.fma);
  if (n->lanes == 8) assert_true(c.avx2 && c.fma);
  if (c.l1d_bytes >= 32 * 1024) assert_true(n->l1 <= c.l1d_bytes);
  if (c.l2_bytes >= 256 * 1024) assert_true(n->l2 <= c.l2_bytes);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(rows_are_sane), cmocka_unit_test(names_are_found), cmocka_unit_test(rows_say_what_they_should),
                                     cmocka_unit_test(native_is_a_row)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
