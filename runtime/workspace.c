/* workspace.c: the one large block a compiled model computes in.
 *
 * An inference walks through hundreds of megabytes; with 4 KB pages the TLB misses show. Large blocks are aligned to a huge page
 * and the kernel is asked for them; it may refuse, which costs speed only.
 */
#define _GNU_SOURCE
#include "runtime/runtime.h"

#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)

void *workspace_alloc(size_t bytes) {
  bool large = bytes >= 2 * HUGE_PAGE;
  size_t align = large ? HUGE_PAGE : WORKSPACE_ALIGN;
  if (bytes > PTRDIFF_MAX - align) return NULL;
  size_t size = bytes ? (bytes + align - 1) / align * align : align;
  void *p = NULL;
  if (posix_memalign(&p, align, size)) return NULL;
#ifdef MADV_HUGEPAGE
  if (large) (void)madvise(p, size, MADV_HUGEPAGE);
#endif
  return p;
}

void workspace_free(void *p) { free(p); }
