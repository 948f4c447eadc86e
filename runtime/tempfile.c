/* tempfile.c: output files that appear whole or not at all, and private temporary folders.
 *
 * The new content goes to a fresh file in the target's own folder, so that the final rename stays within one file system and is atomic.
 * O_EXCL keeps a planted file or link from being written through; O_CREAT with 0666 lets the kernel apply the umask, which cannot
 * be read without setting it.
 */
#define _GNU_SOURCE
#include "runtime/runtime.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEMP_TRIES 100
#define MAX_DEPTH 64  /* of folders removed: each level holds a descriptor */

static void outfile_reset(OutFile *o) {
  free(o->path);
  if (o->temp != o->path) free(o->temp);
  memset(o, 0, sizeof *o);
}

/* Opens a file that did not exist: the target's name and a suffix no other writer of this or another process is using. */
static int open_fresh(const char *path, char **temp) {
  size_t size = strlen(path) + 48;
  char *name = malloc(size);
  if (!name) return errno = ENOMEM, -1;
  for (int i = 0; i < TEMP_TRIES; i++) {
    snprintf(name, size, "%s.%ld-%llx.tmp", path, (long)getpid(), (unsigned long long)time_ns() + (unsigned)i);
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) return *temp = name, fd;
    if (errno != EEXIST) break;
  }
  int saved = errno;
  free(name);
  errno = saved;
  return -1;
}

bool outfile_special(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

spinec_status outfile_open(OutFile *o, const char *path, char err[RT_ERR_MAX]) {
  memset(o, 0, sizeof *o);
  struct stat st;
  bool exists = stat(path, &st) == 0;
  if (exists && S_ISDIR(st.st_mode)) return rt_fail(err, SPINEC_ERR_IO, "%s: is a directory", path);
  o->path = exists ? realpath(path, NULL) : strdup(path);
  if (!o->path) return rt_fail(err, SPINEC_ERR_IO, "%s: %s", path, strerror(errno));
  int fd;
  if (exists && !S_ISREG(st.st_mode)) {
    free(o->path);
    o->path = o->temp = strdup(path);  /* /dev/stdout may resolve to a name that cannot be opened, such as pipe:[1] */
    fd = o->path ? open(path, O_WRONLY | O_CLOEXEC) : -1;
  } else {
    fd = open_fresh(o->path, &o->temp);
  }
  if (fd >= 0) o->f = fdopen(fd, "wb");
  if (o->f) return SPINEC_OK;
  spinec_status status = rt_fail(err, SPINEC_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
  if (fd >= 0) {
    close(fd);
    if (o->temp != o->path) unlink(o->temp);
  }
  outfile_reset(o);
  return status;
}

spinec_status outfile_commit(OutFile *o, char err[RT_ERR_MAX]) {
  if (!o->f) return rt_fail(err, SPINEC_ERR_IO, "output file is not open");
  bool failed = ferror(o->f) != 0;
  errno = 0;
  if (failed) {   /* why is long forgotten, but what could not be written then cannot be now */
    fputc(0, o->f);
    fflush(o->f);
    if (!errno) errno = EIO;
  }
  int why = errno;
  if (fclose(o->f)) failed = true;
  if (why) errno = why;
  o->f = NULL;
  bool direct = o->temp == o->path;
  if (!failed && !direct && rename(o->temp, o->path)) failed = true;
  spinec_status status = SPINEC_OK;
  if (failed) {
    status = rt_fail(err, SPINEC_ERR_IO, "%s: cannot write: %s", o->path, strerror(errno));
    if (!direct) unlink(o->temp);
  }
  outfile_reset(o);
  return status;
}

void outfile_discard(OutFile *o) {
  if (o->f) {
    fclose(o->f);
    if (o->temp != o->path) unlink(o->temp);
  }
  outfile_reset(o);
}

spinec_status tempdir_new(char **path, char err[RT_ERR_MAX]) {
  const char *base = getenv("TMPDIR");
  if (!base || !*base) base = "/tmp";
  static const char suffix[] = "/spinec-XXXXXX";
  char *name = malloc(strlen(base) + sizeof suffix);
  *path = NULL;
  if (!name) return rt_fail(err, SPINEC_ERR_MEMORY, "out of memory");
  strcpy(name, base);
  strcat(name, suffix);
  if (!mkdtemp(name)) {
    spinec_status status = rt_fail(err, SPINEC_ERR_IO, "cannot make a temporary folder in %s: %s", base, strerror(errno));
    free(name);
    return status;
  }
  *path = name;
  return SPINEC_OK;
}

/* Empties the folder behind fd, which is closed. Names are looked up relative to descriptors and never through links. */
static void remove_contents(int fd, int depth) {
  DIR *dir = fdopendir(fd);
  if (!dir) {
    close(fd);
    return;
  }
  struct dirent *e;
  while ((e = readdir(dir))) {
    if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
    if (unlinkat(fd, e->d_name, 0) == 0 || (errno != EISDIR && errno != EPERM)) continue;
    int sub = depth < MAX_DEPTH ? openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (sub >= 0) remove_contents(sub, depth + 1);
    unlinkat(fd, e->d_name, AT_REMOVEDIR);
  }
  closedir(dir);
}

void tempdir_remove(char *path) {
  if (!path) return;
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd >= 0) remove_contents(fd, 0);
  rmdir(path);
  free(path);
}
