/* The program that measures a machine: whole for every target, three calls in order, work as stated. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "backend/backend.h"
#include "passes/passes.h"

static void whole_for_every_target(void **state) {
  (void)state;
  for (int i = 0; i < target_count(); i++)
    for (int threads = 1; threads <= 3; threads += 2) {
      Arena *a = arena_new(NULL);
      spinec_compile_options opt = spinec_compile_options_default();
      Ctx c = {.arena = a, .target = target_at(i), .opt = &opt};
      Program *p = probe_program(&c, threads);
      assert_non_null(p);
      assert_null(program_verify(p, a));
      for (int k = 0; k < p->kernels.n; k++) assert_null(kernel_verify(p->kernels.at[k], a));
      assert_int_equal(p->calls.n, 3);
      assert_string_equal(p->calls.at[0].kernel->what, "fill");
      assert_string_equal(p->calls.at[1].kernel->what, "read");
      assert_string_equal(p->calls.at[2].kernel->what, "multiply and add");
      assert_true(p->calls.at[1].kernel->bytes >= 64 << 20);
      assert_true(p->calls.at[1].kernel->bytes <= (double)p->workspace_bytes);
      assert_true(p->calls.at[2].kernel->flops > 0);
      arena_free(a);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(whole_for_every_target)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
