/* runtime.h: what a compiled model needs while it runs, and what the tools around it need to feed it.
 *
 *   dtype.c      sizes of element types
 *   npy.c        tensors from and to .npy files
 *   image.c      PNG and JPEG to tensors, pictures to PNG
 *   pool.c       threads that run the parallel ranges of kernels
 *   workspace.c  large aligned memory
 *   cpu.c        what the machine can do
 *   timing.c     clock and statistics
 *   tempfile.c   files that appear whole or not at all; private temporary folders
 *   random.c     reproducible tensors
 *
 * This folder knows nothing of the compiler: it includes spinec.h for the tensor type, libc, libpng and libjpeg only.
 * There is no global state. Functions that can fail fill `err` with one line that names the file (NULL: dropped).
 * Everything read from a file is checked: a malformed one is an error, never a crash and never a huge allocation.
 */
#ifndef RUNTIME_H
#define RUNTIME_H

#include "spinec.h"

#define RT_ERR_MAX 256  /* bytes of an error message, with its terminator */

/* ---- dtype.c ---- */

size_t rt_dtype_size(spinec_dtype t);  /* bytes per element; 0 for STRING, UNDEFINED and values outside the enum */

/* Elements and bytes of a shape; false for a rank outside 0..SPINEC_MAX_RANK, a negative dimension, an unsized type or when the
 * bytes do not fit in PTRDIFF_MAX. Dimensions of 0 do not excuse the others: with each 0 read as 1 they must fit as well. */
bool rt_shape_bytes(spinec_dtype t, int rank, const int64_t *dims, int64_t *count, size_t *bytes);

/* Formats a message (cut at RT_ERR_MAX) and returns `status`. */
spinec_status rt_fail(char err[RT_ERR_MAX], spinec_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---- npy.c ---- */

/* Reads a .npy file (format 1.0, 2.0, 3.0) into a row-major tensor in the machine's byte order, whatever order the file has.
 * Element types: ?, i1..i8, u1..u8, f2, f4, f8, and V2, which is how bfloat16 arrays are saved.
 * On success out->data is malloc'ed and the caller frees it (never NULL, even for no elements). On failure *out is all zero.
 * Errors: IO (cannot open or read), INPUT (malformed), UNSUPPORTED (type or rank), MEMORY. */
spinec_status npy_load(const char *path, spinec_tensor *out, char err[RT_ERR_MAX]);
/* The same from memory; `name` stands for the file in messages. */
spinec_status npy_parse(const void *bytes, size_t size, const char *name, spinec_tensor *out, char err[RT_ERR_MAX]);
/* Writes format 1.0, row-major, in the machine's byte order. The file appears whole or not at all. */
spinec_status npy_save(const char *path, const spinec_tensor *t, char err[RT_ERR_MAX]);

/* ---- image.c ---- */

#define IMAGE_MAX_SIDE 32768             /* pixels; larger pictures are refused */
#define IMAGE_MAX_PIXELS (64 << 20)

typedef struct {
  int w, h;
  uint8_t *rgb;  /* h rows of w pixels of 3 bytes, top row first; malloc'ed */
} Image;

/* PNG (every colour type and depth; alpha is dropped) or JPEG (grey, YCbCr, RGB, CMYK, YCCK), told apart by their
 * first bytes. On failure *out is all zero. Errors: IO, INPUT (malformed), UNSUPPORTED (other formats, too large), MEMORY. */
spinec_status image_load(const char *path, Image *out, char err[RT_ERR_MAX]);
spinec_status image_decode(const void *bytes, size_t size, const char *name, Image *out, char err[RT_ERR_MAX]);
spinec_status image_save_png(const char *path, const Image *im, char err[RT_ERR_MAX]);
spinec_status image_new(int w, int h, Image *out, char err[RT_ERR_MAX]);  /* black */
void image_free(Image *im);                                               /* leaves it all zero */

/* Bilinear to w x h, corners not aligned; when shrinking the filter widens with the scale (antialiased), as torchvision's
 * transforms do. `out` is a new image. */
spinec_status image_resize(const Image *im, int w, int h, Image *out, char err[RT_ERR_MAX]);

typedef enum { IMAGE_NCHW, IMAGE_NHWC } ImageLayout;
typedef struct {
  ImageLayout layout;
  spinec_dtype dtype;      /* F32: (pixel / 255 - mean) / std; U8: the pixels, mean and std play no part */
  float mean[3], std[3];   /* in units of 0..1, order R G B; std > 0 */
} ImageFormat;

ImageFormat image_format_imagenet(void);  /* NCHW, F32, the usual ImageNet mean and deviation */
/* A tensor of rank 4 with batch 1; out->data is malloc'ed. Errors: OPTION (other dtype, std not positive), MEMORY. */
spinec_status image_to_tensor(const Image *im, const ImageFormat *format, spinec_tensor *out, char err[RT_ERR_MAX]);

/* ---- pool.c ---- */

typedef struct Pool Pool;
typedef void PoolFn(void *ctx, int64_t begin, int64_t end, int thread);

/* A pool of `threads` >= 1 threads counting the one that calls pool_run; NULL when they cannot be had. */
Pool *pool_new(int threads);
int pool_threads(const Pool *p);
/* Splits [0, n) into one contiguous share per thread, [t*n/T, (t+1)*n/T), and each into a few pieces; runs fn on every piece once, by the
 * thread whose share it is or by one that has no work left, and returns when all are done; what they wrote is then visible to the caller.
 * `thread` is in [0, T), different in calls at the same time. The caller itself is thread 0; n == 1 runs there as well.
 * One pool_run at a time per pool, not from inside its own fn. Distinct pools are independent. */
void pool_run(Pool *p, PoolFn *fn, void *ctx, int64_t n);
void pool_free(Pool *p);  /* NULL is allowed */

/* ---- workspace.c ---- */

#define WORKSPACE_ALIGN 64

/* At least `bytes` of uninitialised memory aligned to WORKSPACE_ALIGN; large blocks to 2 MB, asking for huge pages. NULL: out of memory. */
void *workspace_alloc(size_t bytes);
void workspace_free(void *p);  /* NULL is allowed */

/* ---- cpu.c ---- */

typedef struct {
  /* x86: set only when the operating system saves the registers too. */
  bool sse42, popcnt, avx, f16c, avx2, bmi1, bmi2, lzcnt, movbe;
  bool avx512f, avx512bw, avx512cd, avx512dq, avx512vl, avx512vnni, avx512bf16, avx512fp16, avxvnni;
  bool fma;  /* x86, ARM and AArch64 */
  /* ARM and AArch64 */
  bool neon, fp16, dotprod, i8mm, bf16;
  int64_t l1d_bytes, l2_bytes, l3_bytes;  /* of one core, of one core, shared; 0: unknown */
  int cores;                              /* this process may run on, at least 1 */
  char name[64];                          /* marketing name; "" when unknown */
} CpuInfo;

CpuInfo cpu_detect(void);
int cpu_cores(void);  /* the .cores of it alone */

/* ---- timing.c ---- */

int64_t time_ns(void);  /* monotonic clock in nanoseconds; only differences mean something */

typedef struct { double min, median, p95, mean; } TimeStats;
/* Statistics of n >= 1 samples, in their unit; sorts them. Median: mean of the middle two for even n; p95: nearest rank. n <= 0: zeros. */
TimeStats time_stats(double *samples, int n);

/* ---- tempfile.c ---- */

/* A file being written beside its target. The target is untouched until outfile_commit renames the new one over it; a symbolic
 * link is followed, and a target that is a device or a pipe is written directly. Several may be open, to be committed together at
 * the end. */
typedef struct {
  FILE *f;           /* open for binary writing */
  char *path;        /* the target; after links */
  char *temp;        /* the file behind f, for programs that write it themselves; equals path when written directly */
} OutFile;

/* A device, a pipe: nothing can go beside it. */
bool outfile_special(const char *path);
spinec_status outfile_open(OutFile *o, const char *path, char err[RT_ERR_MAX]);
/* Flushes, checks every earlier write, renames. On failure the temporary file is gone and the target as before. *o is closed either way. */
spinec_status outfile_commit(OutFile *o, char err[RT_ERR_MAX]);
void outfile_discard(OutFile *o);  /* harmless after a commit, a discard, a failed open, or on an all-zero OutFile */

/* A new folder, mode 0700, under $TMPDIR or /tmp. *path is malloc'ed. */
spinec_status tempdir_new(char **path, char err[RT_ERR_MAX]);
/* Removes it with all its contents, following no links, and frees the path. NULL is allowed. */
void tempdir_remove(char *path);

/* ---- random.c ---- */

/* splitmix64: same seed, same numbers on every machine. */
typedef struct { uint64_t state; } Rng;
Rng rng_new(uint64_t seed);
uint64_t rng_next(Rng *r);                  /* 64 random bits */
int64_t rng_below(Rng *r, int64_t n);       /* 0 .. n-1, n >= 1 */
double rng_uniform(Rng *r);                 /* [0, 1) */
double rng_normal(Rng *r);                  /* mean 0, variance 1, near-normal within +-3.47; exact arithmetic, no libm */

/* Fills t->data: floats as rng_normal, BOOL 0 or 1, I8 and U8 over their range, wider signed integers in -8..7 and unsigned ones
 * in 0..15. Other types are left alone. Element i depends on the seed and i only. */
void random_fill(spinec_tensor *t, uint64_t seed);

#endif
