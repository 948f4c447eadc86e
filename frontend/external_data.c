/* external_data.c: weights kept in files beside the model.
 *
 * The location comes from the model, which nobody vouches for: it must stay in the model's folder. It is opened one component at a time,
 * each relative to the descriptor of the one before and never through a symbolic link, so that neither ".." nor a link nor a folder
 * swapped meanwhile leads out. A file is mapped whole, once, however many tensors it holds; the mappings go with the arena.
 * Format: ONNX docs/ExternalData.md.
 */
#define _GNU_SOURCE
#include "import.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct DataFile {
  const char *location;
  void *data;
  size_t n;
} DataFile;

struct External {
  Arena *arena;
  const char *folder;
  VEC(DataFile *) files;
};

External *external_open(Arena *a, const char *model_path) {
  External *e = NEW(a, External);
  e->arena = a;
  const char *slash = strrchr(model_path, '/');
  e->folder = !slash ? "." : slash == model_path ? "/" : arena_strndup(a, model_path, (size_t)(slash - model_path));
  return e;
}

static void unmap(void *file) {
  DataFile *f = file;
  if (f->n) munmap(f->data, f->n);
}

/* A descriptor of the file, or -1 after reporting. The location is known to be relative and without ".." */
static int open_beneath(const External *e, Diag *diag, const Where *w, const char *location) {
  int dir = open(e->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) {
    diag_error(diag, SPINEC_ERR_IO, w, NULL, "cannot open the model's folder: %s", strerror(errno));
    return -1;
  }
  for (const char *at = location; *at;) {
    size_t n = strcspn(at, "/");
    char part[NAME_MAX + 1];
    bool last = at[n] == 0;
    int fd = -1;
    errno = ENAMETOOLONG;
    if (n <= NAME_MAX) {
      memcpy(part, at, n);
      part[n] = 0;
      fd = openat(dir, part, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (last ? 0 : O_DIRECTORY));
    }
    int err = errno;
    close(dir);
    dir = fd;
    if (fd < 0) {
      bool link = err == ELOOP || (err == ENOTDIR && !last);
      diag_error(diag, link ? SPINEC_ERR_INPUT : SPINEC_ERR_IO, w,
                 link ? "links are not followed: put the file itself beside the model" : NULL, "cannot open external data '%s': %s",
                 location, strerror(err));
      return -1;
    }
    at += n;
    while (*at == '/') at++;
  }
  return dir;
}

static bool stays_inside(const char *location) {
  if (!*location || *location == '/') return false;
  for (const char *at = location; *at;) {
    size_t n = strcspn(at, "/");
    if (n == 2 && at[0] == '.' && at[1] == '.') return false;
    at += n;
    while (*at == '/') at++;
  }
  return location[strlen(location) - 1] != '/';
}

/* Maps f->location. NULL, or what is wrong: "" if it was reported. */
static const char *map_beneath(const External *e, Diag *diag, const Where *w, DataFile *f) {
  struct stat st;
  int fd = open_beneath(e, diag, w, f->location);
  if (fd < 0) return "";
  const char *why = NULL;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
    why = "is no regular file";
  else if ((uintmax_t)st.st_size > SIZE_MAX / 2)
    why = "is too large";
  else if (st.st_size > 0) {
    f->data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (f->data == MAP_FAILED)
      why = "cannot be mapped";
    else
      f->n = (size_t)st.st_size;
  }
  close(fd);
  return why;
}

static DataFile *open_file(External *e, Diag *diag, const Where *w, const char *location) {
  for (int i = 0; i < e->files.n; i++)
    if (!strcmp(e->files.at[i]->location, location)) return e->files.at[i];
  if (!stays_inside(location)) {
    diag_error(diag, SPINEC_ERR_INPUT, w, "the location must be relative and stay in the model's folder",
               "external data at '%.200s' is refused", location);
    return NULL;
  }
  /* Nothing that may run out of memory stands between opening the file and closing it. */
  DataFile *f = NEW(e->arena, DataFile);
  f->location = arena_strdup(e->arena, location);
  vec_push(e->arena, &e->files, f);
  arena_on_free(e->arena, unmap, f);
  const char *why = map_beneath(e, diag, w, f);
  if (!why) return f;
  if (*why) diag_error(diag, SPINEC_ERR_IO, w, NULL, "external data '%s' %s", location, why);
  e->files.n--;
  return NULL;
}

static bool parse_size(const char *s, uint64_t *out) {
  uint64_t x = 0;
  if (!*s) return false;
  for (; *s; s++) {
    if (*s < '0' || *s > '9' || x > (UINT64_MAX - 9) / 10) return false;
    x = 10 * x + (uint64_t)(*s - '0');
  }
  *out = x;
  return true;
}

const void *external_data(External *e, Diag *diag, const Where *w, const Onnx__TensorProto *t, const char *name, size_t bytes) {
  const char *location = NULL;
  uint64_t offset = 0, length = bytes;
  for (size_t i = 0; i < t->n_external_data; i++) {
    const char *key = t->external_data[i]->key, *value = t->external_data[i]->value;
    if (!key || !value) continue;
    uint64_t *number = !strcmp(key, "offset") ? &offset : !strcmp(key, "length") ? &length : NULL;
    if (!strcmp(key, "location")) {
      location = value;
    } else if (number && !parse_size(value, number)) {
      diag_error(diag, SPINEC_ERR_INPUT, w, NULL, "external data of '%s': %s '%.40s' is no size", name, key, value);
      return NULL;
    }
  }
  if (!location) {
    diag_error(diag, SPINEC_ERR_INPUT, w, NULL, "external data of '%s' has no location", name);
    return NULL;
  }
  DataFile *f = open_file(e, diag, w, location);
  if (!f) return NULL;
  if (length != bytes) {
    diag_error(diag, SPINEC_ERR_INPUT, w, NULL, "external data of '%s' is %llu bytes, its shape needs %zu", name,
               (unsigned long long)length, bytes);
    return NULL;
  }
  if (offset > f->n || bytes > f->n - offset) {
    diag_error(diag, SPINEC_ERR_INPUT, w, "is the file complete?", "external data of '%s' reaches to byte %llu of '%.200s', which has %zu",
               name, (unsigned long long)(offset > UINT64_MAX - bytes ? UINT64_MAX : offset + bytes), location, f->n);
    return NULL;
  }
  return bytes ? (const char *)f->data + offset : "";
}
