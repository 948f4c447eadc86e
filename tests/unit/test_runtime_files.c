/* Output files that appear whole or not at all; temporary folders. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/runtime.h"

static char *folder;

static const char *in_folder(const char *name) {
  static char paths[4][512];
  static int turn;
  char *path = paths[turn++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s", folder, name);
  return path;
}

static void put(const char *path, const char *text) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  fputs(text, f);
  fclose(f);
}

static const char *content(const char *path) {
  static char text[256];
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  text[fread(text, 1, sizeof text - 1, f)] = 0;
  fclose(f);
  return text;
}

static int entries(const char *path) {
  DIR *d = opendir(path);
  assert_non_null(d);
  int n = 0;
  for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
  closedir(d);
  return n;
}

static void commit(void **state) {
  (void)state;
  OutFile o;
  put(in_folder("a"), "old");
  assert_int_equal(outfile_open(&o, in_folder("a"), NULL), SPINEC_OK);
  fputs("new", o.f);
  fflush(o.f);
  assert_string_equal(content(in_folder("a")), "old");  /* untouched so far */
  assert_string_equal(content(o.temp), "new");
  assert_int_equal(outfile_commit(&o, NULL), SPINEC_OK);
  assert_string_equal(content(in_folder("a")), "new");
  assert_int_equal(entries(folder), 1);
  outfile_discard(&o);  /* harmless */
  assert_string_equal(content(in_folder("a")), "new");
}

static void mode_follows_the_umask(void **state) {
  (void)state;
  mode_t old = umask(027);
  OutFile o;
  assert_int_equal(outfile_open(&o, in_folder("m"), NULL), SPINEC_OK);
  assert_int_equal(outfile_commit(&o, NULL), SPINEC_OK);
  umask(old);
  struct stat st;
  assert_int_equal(stat(in_folder("m"), &st), 0);
  assert_int_equal(st.st_mode & 0777, 0640);
  unlink(in_folder("m"));
}

static void discard(void **state) {
  (void)state;
  OutFile o;
  assert_int_equal(outfile_open(&o, in_folder("b"), NULL), SPINEC_OK);
  fputs("half", o.f);
  outfile_discard(&o);
  assert_null(content(in_folder("b")));
  put(in_folder("b"), "old");
  assert_int_equal(outfile_open(&o, in_folder("b"), NULL), SPINEC_OK);
  fputs("half", o.f);
  outfile_discard(&o);
  outfile_discard(&o);
  assert_string_equal(content(in_folder("b")), "old");
  unlink(in_folder("b"));
  assert_int_equal(entries(folder), 1);
}

static void links_are_followed(void **state) {
  (void)state;
  put(in_folder("target"), "old");
  assert_int_equal(symlink("target", in_folder("link")), 0);
  OutFile o;
  assert_int_equal(outfile_open(&o, in_folder("link"), NULL), SPINEC_OK);
  fputs("new", o.f);
  assert_int_equal(outfile_commit(&o, NULL), SPINEC_OK);
  struct stat st;
  assert_int_equal(lstat(in_folder("link"), &st), 0);
  assert_true(S_ISLNK(st.st_mode));
  assert_string_equal(content(in_folder("target")), "new");
  unlink(in_folder("link"));
  unlink(in_folder("target"));
}

static void devices_are_written_directly(void **state) {
  (void)state;
  OutFile o;
  assert_int_equal(outfile_open(&o, "/dev/null", NULL), SPINEC_OK);
  fputs("gone", o.f);
  assert_int_equal(outfile_commit(&o, NULL), SPINEC_OK);
  assert_int_equal(outfile_open(&o, "/dev/null", NULL), SPINEC_OK);
  outfile_discard(&o);
  struct stat st;
  assert_int_equal(stat("/dev/null", &st), 0);
  assert_true(S_ISCHR(st.st_mode));
}

static void special_files(void **state) {
  (void)state;
  assert_true(outfile_special("/dev/null"));
  assert_false(outfile_special("/"));
  assert_false(outfile_special(in_folder("nothing_of_that_name")));
}

static void full_disk_is_noticed(void **state) {
  (void)state;
  if (access("/dev/full", W_OK)) skip();
  OutFile o;
  char err[RT_ERR_MAX] = "";
  assert_int_equal(outfile_open(&o, "/dev/full", err), SPINEC_OK);
  for (int i = 0; i < 100000; i++) fputc('x', o.f);
  assert_int_equal(outfile_commit(&o, err), SPINEC_ERR_IO);
  assert_non_null(strstr(err, "/dev/full"));
  assert_non_null(strstr(err, strerror(ENOSPC)));
}

static void cannot_open(void **state) {
  (void)state;
  OutFile o;
  char err[RT_ERR_MAX] = "";
  assert_int_equal(outfile_open(&o, in_folder("no/such"), err), SPINEC_ERR_IO);
  assert_non_null(strstr(err, "no/such"));
  assert_int_equal(outfile_commit(&o, err), SPINEC_ERR_IO);
  outfile_discard(&o);
  assert_int_equal(outfile_open(&o, folder, err), SPINEC_ERR_IO);
  outfile_discard(&o);
  OutFile zero = {0};
  outfile_discard(&zero);
}

static void two_writers_do_not_meet(void **state) {
  (void)state;
  OutFile a, b;
  assert_int_equal(outfile_open(&a, in_folder("c"), NULL), SPINEC_OK);
  assert_int_equal(outfile_open(&b, in_folder("c"), NULL), SPINEC_OK);
  fputs("first", a.f);
  fputs("second", b.f);
  assert_int_equal(outfile_commit(&b, NULL), SPINEC_OK);
  assert_string_equal(content(in_folder("c")), "second");
  assert_int_equal(outfile_commit(&a, NULL), SPINEC_OK);
  assert_string_equal(content(in_folder("c")), "first");
  unlink(in_folder("c"));
}

static void temporary_folders(void **state) {
  (void)state;
  char *path, outside[512], name[600];
  assert_int_equal(tempdir_new(&path, NULL), SPINEC_OK);
  struct stat st;
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_mode & 0777, 0700);
  snprintf(outside, sizeof outside, "%s/outside", folder);
  assert_int_equal(mkdir(outside, 0700), 0);
  snprintf(name, sizeof name, "%s/kept", outside);
  put(name, "kept");
  for (int depth = 0; depth < 3; depth++) {  /* path/d/d/d with a file and a link to the outside in each */
    snprintf(name, sizeof name, "%s%s", path, &"/d/d/d"[2 * (2 - depth)]);
    assert_int_equal(mkdir(name, 0700), 0);
    strcat(name, "/file");
    put(name, "x");
    strcpy(strrchr(name, '/'), "/link");
    assert_int_equal(symlink(outside, name), 0);
  }
  char copy[512];
  snprintf(copy, sizeof copy, "%s", path);
  tempdir_remove(path);
  assert_int_not_equal(stat(copy, &st), 0);
  snprintf(name, sizeof name, "%s/kept", outside);
  assert_string_equal(content(name), "kept");
  tempdir_remove(NULL);
}

static void tmpdir_is_respected(void **state) {
  (void)state;
  char *old = getenv("TMPDIR"), *path, err[RT_ERR_MAX] = "";
  old = old ? strdup(old) : NULL;
  setenv("TMPDIR", folder, 1);
  assert_int_equal(tempdir_new(&path, NULL), SPINEC_OK);
  assert_memory_equal(path, folder, strlen(folder));
  tempdir_remove(path);
  setenv("TMPDIR", in_folder("absent"), 1);
  assert_int_equal(tempdir_new(&path, err), SPINEC_ERR_IO);
  assert_null(path);
  assert_non_null(strstr(err, "absent"));
  if (old) setenv("TMPDIR", old, 1);
  else unsetenv("TMPDIR");
  free(old);
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
    cmocka_unit_test(commit),
    cmocka_unit_test(mode_follows_the_umask),
    cmocka_unit_test(discard),
    cmocka_unit_test(links_are_followed),
    cmocka_unit_test(devices_are_written_directly),
    cmocka_unit_test(special_files), cmocka_unit_test(full_disk_is_noticed),
    cmocka_unit_test(cannot_open),
    cmocka_unit_test(two_writers_do_not_meet),
    cmocka_unit_test(temporary_folders),
    cmocka_unit_test(tmpdir_is_respected),
  };
  return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
