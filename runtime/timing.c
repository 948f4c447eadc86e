/* timing.c: a monotonic clock and the statistics printed for repeated runs. */
#define _GNU_SOURCE
#include "runtime/runtime.h"

#include <stdlib.h>
#include <time.h>

int64_t time_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

TimeStats time_stats(double *samples, int n) {
  TimeStats s = {0};
  if (n <= 0) return s;
  qsort(samples, (size_t)n, sizeof *samples, compare_doubles);
  double sum = 0;
  for (int i = 0; i < n; i++) sum += samples[i];
  int rank95 = (int)(((int64_t)n * 95 + 99) / 100);  /* ceil(0.95 n), 1-based */
  s.min = samples[0];
  s.median = (samples[(n - 1) / 2] + samples[n / 2]) / 2;
  s.p95 = samples[rank95 - 1];
  s.mean = sum / n;
  return s;
}
