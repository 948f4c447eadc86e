/* A plugin for QEMU's user emulators (plugin API 1, QEMU 4.2 to 8.x) that counts executed instructions and prints the sum on exit; the
 * interface is declared here as documented (QEMU manual, "TCG Plugins"), because Debian ships no header for it. One thread. */
#include <inttypes.h>
#include <stdio.h>

typedef uint64_t Id;
struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(Id id, void (*cb)(Id id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int add_u64, void *sum, uint64_t n);
void qemu_plugin_register_atexit_cb(Id id, void (*cb)(Id id, void *user), void *user);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static uint64_t count;

static void translated(Id id, struct qemu_plugin_tb *tb) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_inline(tb, 0, &count, qemu_plugin_tb_n_insns(tb));
}

static void finished(Id id, void *user) {
  (void)id, (void)user;
  fprintf(stderr, "instructions: %" PRIu64 "\n", count);
}

__attribute__((visibility("default"))) int qemu_plugin_install(Id id, const void *info, int argc, char **argv) {
  (void)info, (void)argc, (void)argv;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, finished, NULL);
  return 0;
}
