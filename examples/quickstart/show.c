/* show.c: the result sheet.
 *
 *   input            strongest boxes      measurements: time per inference, bars, sizes, the check
 *   P3    P4    P5    P6    P7            largest class logit per cell, each level scaled to its own range
 *
 * The facts file holds one "name value" per line:
 *   network side params macs weight_bytes workspace_bytes kernels calls source_bytes program_bytes   the model and what became of it
 *   target compiler cpu runs ms_min ms_median compile_ms cc_ms                                       the measured run
 *   error outputs check                                                                              the comparison, in words: check
 *   bar MS LABEL                                                                                     a row of the chart; may be repeated
 * Values that are absent show as nothing or 0: the sheet is drawn from whatever was measured, nothing is made up.
 */
#include "quickstart.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 1280, HEIGHT = 808, MARGIN = 28, GAP = 20, PICTURE = 384, TOP = 100, HEAT = 228, HEAT_TOP = 540, MAX_FACTS = 64, BOXES = 3 };

typedef struct { char name[24], value[160]; } Fact;
typedef struct { Fact v[MAX_FACTS]; int n; } Facts;

#define PAPER rgb(0x10141c)
#define INK rgb(0xeef1f7)
#define DIM rgb(0x96a1b5)
#define ACCENT rgb(0x58d3b1)
static const uint32_t level_tint[LEVELS] = {0x58d3b1, 0x63a7ff, 0xc58bff, 0xffb650, 0xff6d7c};

/* ---- facts ---- */

static spinec_status facts_load(const char *path, Facts *out, char err[RT_ERR_MAX]) {
  char line[256];
  FILE *f = fopen(path, "r");
  out->n = 0;
  if (!f) return rt_fail(err, SPINEC_ERR_IO, "%s: cannot be read", path);
  while (out->n < MAX_FACTS && fgets(line, sizeof line, f)) {
    line[strcspn(line, "\r\n")] = 0;
    char *value = strchr(line, ' ');
    if (!value) continue;
    *value++ = 0;
    Fact *fact = &out->v[out->n++];
    snprintf(fact->name, sizeof fact->name, "%.*s", (int)sizeof fact->name - 1, line);
    snprintf(fact->value, sizeof fact->value, "%.*s", (int)sizeof fact->value - 1, value);
  }
  fclose(f);
  return SPINEC_OK;
}

static const char *text_of(const Facts *f, const char *name) {
  for (int i = 0; i < f->n; i++)
    if (!strcmp(f->v[i].name, name)) return f->v[i].value;
  return "";
}

static double number_of(const Facts *f, const char *name) { return strtod(text_of(f, name), NULL); }

/* 1234567 -> "1.23 M" */
static void amount(char *s, size_t size, double x, const char *unit) {
  static const struct { double from; const char *prefix; } scale[] = {{1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
  for (int i = 0; i < 3; i++)
    if (x >= scale[i].from) {
      const double v = x / scale[i].from;
      snprintf(s, size, "%.*f %s%s", v < 10 ? 2 : v < 100 ? 1 : 0, v, scale[i].prefix, unit);
      return;
    }
  snprintf(s, size, "%.0f %s", x, unit);
}

static void duration(char *s, size_t size, double ms) {
  if (ms >= 1e4) snprintf(s, size, "%.1f s", ms / 1e3);
  else snprintf(s, size, "%.*f ms", ms < 10 ? 2 : ms < 100 ? 1 : 0, ms);
}

/* ---- pictures ---- */

static void label(Image *im, float x, float y, const char *head, const char *rest) {
  const float end = draw_text(im, x, y, 10, true, INK, head);
  draw_text(im, end + 5, y, 9, false, DIM, rest);
}

static void draw_detection(Image *im, const Detection *d, float x, float y, float scale) {
  const Color c = rgb(level_tint[d->level - FIRST_LEVEL]);
  const Box b = {x + d->box.x * scale, y + d->box.y * scale, d->box.w * scale, d->box.h * scale};
  char name[48];
  draw_frame(im, b, 2, c);
  snprintf(name, sizeof name, "%d", d->class_index);
  const float w = text_width(7, name) + 8, tx = fminf(b.x, x + PICTURE - w), ty = b.y - 13 < y ? b.y + 1 : b.y - 13;
  draw_box(im, (Box){tx, ty, w, 13}, paint_solid(c));
  draw_text(im, tx + 4, ty + 10, 7, false, rgb(0x10141c), name);
}

static void draw_detections(Image *im, const Image *picture, const HeadOutputs *h, float x, float y) {
  Detection d[BOXES * LEVELS];
  const int n = head_detections(h, 0.2f, BOXES, d);
  draw_image(im, picture, (int)x, (int)y);
  draw_box(im, (Box){x, y, PICTURE, PICTURE}, paint_solid(rgba(0x10141c, 0.35f)));
  for (int i = n - 1; i >= 0; i--) draw_detection(im, &d[i], x, y, (float)PICTURE / (float)h->side);
}

static Color heat_color(float v) {
  static const uint32_t stops[] = {0x120b36, 0x4b1d91, 0xa32b8e, 0xe2546a, 0xfb9e4f, 0xfdf2a9};
  const float t = fminf(fmaxf(v, 0), 1) * 5;
  const int i = t >= 5 ? 4 : (int)t;
  return color_mix(rgb(stops[i]), rgb(stops[i + 1]), t - (float)i);
}

static int ascending(const void *a, const void *b) {
  const float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

/* Bilinear between the middles of cells. */
static float sample(const float *v, int w, int h, float x, float y) {
  x = fminf(fmaxf(x * (float)w - 0.5f, 0), (float)(w - 1)), y = fminf(fmaxf(y * (float)h - 0.5f, 0), (float)(h - 1));
  const int x0 = (int)x, y0 = (int)y, x1 = x0 + 1 < w ? x0 + 1 : x0, y1 = y0 + 1 < h ? y0 + 1 : y0;
  const float fx = x - (float)x0, fy = y - (float)y0;
  const float top = v[y0 * w + x0] * (1 - fx) + v[y0 * w + x1] * fx, bottom = v[y1 * w + x0] * (1 - fx) + v[y1 * w + x1] * fx;
  return top * (1 - fy) + bottom * fy;
}

/* From the 2nd to the 98th percentile: cells at the border answer to the zeros around the picture. */
static bool range_of(const float *v, int n, float *low, float *high) {
  float *sorted = malloc((size_t)n * sizeof *sorted);
  if (!sorted) return false;
  memcpy(sorted, v, (size_t)n * sizeof *sorted);
  qsort(sorted, (size_t)n, sizeof *sorted, ascending);
  *low = sorted[n / 50], *high = sorted[n - 1 - n / 50];
  free(sorted);
  return true;
}

/* In steps, which hardly show and make the PNG a quarter smaller. */
static float stepped(float v) { return roundf(v * 24) / 24; }

static void draw_response(Image *im, const Image *small, const HeadOutputs *h, int level, int left, int top) {
  int w, rows;
  float *v = head_response(h, level, &w, &rows), low = 0, high = 0;
  if (!v || !range_of(v, w * rows, &low, &high)) return free(v);
  for (int y = 0; y < HEAT; y++)
    for (int x = 0; x < HEAT; x++) {
      const uint8_t *p = small->rgb + 3 * ((size_t)y * HEAT + (size_t)x);
      const float grey = (0.30f * (float)p[0] + 0.59f * (float)p[1] + 0.11f * (float)p[2]) / 255;
      const float s = sample(v, w, rows, ((float)x + 0.5f) / HEAT, ((float)y + 0.5f) / HEAT), t = high > low ? (s - low) / (high - low) : 0;
      const Color c = color_mix((Color){grey, grey, grey, 1}, heat_color(t), 0.72f);
      draw_pixel(im, left + x, top + y, (Color){stepped(c.r), stepped(c.g), stepped(c.b), 1}, 1);
    }
  free(v);
  char head[32], rest[64];
  snprintf(head, sizeof head, "P%d", level);
  snprintf(rest, sizeof rest, "%d x %d, logits %.1f to %.1f", w, rows, low, high);
  draw_box(im, (Box){(float)left, (float)top - 17, 5, 11}, paint_solid(rgb(level_tint[level - FIRST_LEVEL])));
  label(im, (float)left + 11, (float)top - 6, head, rest);
}

/* ---- measurements ---- */

static float draw_bars(Image *im, const Facts *f, float x, float y, float w) {
  double longest = 0;
  bool first = true;
  for (int i = 0; i < f->n; i++)
    if (!strcmp(f->v[i].name, "bar")) longest = fmax(longest, strtod(f->v[i].value, NULL));
  for (int i = 0; i < f->n; i++) {
    char *name, ms[32];
    if (strcmp(f->v[i].name, "bar") || longest <= 0) continue;
    const double v = strtod(f->v[i].value, &name);
    duration(ms, sizeof ms, v);
    draw_text(im, x, y + 9, 9, false, INK, name + (*name == ' '));
    draw_text(im, x + w - text_width(9, ms), y + 9, 9, true, first ? ACCENT : INK, ms);
    draw_round_box(im, (Box){x, y + 16, w, 9}, 4.5f, paint_solid(rgb(0x1e2531)));
    const float length = fmaxf((float)(v / longest) * w, 4);
    draw_round_box(im, (Box){x, y + 16, length, 9}, 4.5f, paint_solid(first ? ACCENT : rgb(0x6c7a93)));
    first = false;
    y += 42;
  }
  return y;
}

static float draw_row(Image *im, float x, float y, float w, const char *name, const char *value) {
  if (!*value) return y;
  draw_text(im, x, y + 9, 9, false, DIM, name);
  draw_text(im, x + w - text_width(9, value), y + 9, 9, false, INK, value);
  draw_box(im, (Box){x, y + 15.5f, w, 1}, paint_solid(rgb(0x232b38)));
  return y + 24;
}

static void draw_table(Image *im, const Facts *f, float x, float y, float w) {
  static const struct { const char *name, *fact, *unit; } rows[] = {
      {"parameters", "params", ""}, {"multiply-adds", "macs", ""}, {"weights, transformed", "weight_bytes", "B"},
      {"workspace", "workspace_bytes", "B"}, {"C source", "source_bytes", "B"}, {"program with weights", "program_bytes", "B"},
  };
  char s[64];
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const double v = number_of(f, rows[i].fact);
    if (v <= 0) continue;
    amount(s, sizeof s, v, rows[i].unit);
    y = draw_row(im, x, y, w, rows[i].name, s);
  }
  if (number_of(f, "kernels") > 0) {
    snprintf(s, sizeof s, "%.0f functions, %.0f calls", number_of(f, "kernels"), number_of(f, "calls"));
    y = draw_row(im, x, y, w, "kernels", s);
  }
  if (number_of(f, "compile_ms") > 0) {
    snprintf(s, sizeof s, "%.1f s + %.1f s", number_of(f, "compile_ms") / 1e3, number_of(f, "cc_ms") / 1e3);
    y = draw_row(im, x, y, w, "spinec + cc", s);
  }
  if (*text_of(f, "error")) {
    snprintf(s, sizeof s, "%.1e of magnitude", number_of(f, "error"));
    draw_row(im, x, y, w, "largest error", s);
  }
}

static void draw_measurements(Image *im, const Facts *f, float x, float y, float w) {
  char s[96], g[32];
  const double ms = number_of(f, "ms_median");
  duration(s, sizeof s, ms);
  const float end = draw_text(im, x, y + 34, 34, true, ACCENT, s);
  draw_text(im, end + 10, y + 14, 9, false, INK, "per inference, 1 thread");
  if (ms > 0) {
    snprintf(g, sizeof g, "%.0f GFLOP/s", 2 * number_of(f, "macs") / ms / 1e6);
    snprintf(s, sizeof s, "%s, median of %.0f runs", g, number_of(f, "runs"));
    draw_text(im, end + 10, y + 34, 9, false, DIM, s);
  }
  draw_table(im, f, x, draw_bars(im, f, x, y + 60, w) + 6, w);
}

/* ---- the sheet ---- */

static void draw_heading(Image *im, const Facts *f) {
  char s[256];
  snprintf(s, sizeof s, "%s + RetinaNet, compiled to C", text_of(f, "network"));
  draw_text(im, MARGIN, 44, 18, true, INK, s);
  snprintf(s, sizeof s, "%s, %s, %s", text_of(f, "cpu"), text_of(f, "compiler"), text_of(f, "target"));
  draw_text(im, WIDTH - MARGIN - text_width(9, s), 42, 9, false, DIM, s);
}

static void draw_footer(Image *im, const Facts *f) {
  const float y = HEIGHT - 18;
  draw_text(im, MARGIN, y, 9, false, DIM, text_of(f, "check"));
  const float w = 120, x = WIDTH - MARGIN - w;
  for (int i = 0; i < (int)w; i++) draw_box(im, (Box){x + (float)i, y - 9, 1, 9}, paint_solid(heat_color((float)i / w)));
  const char *text = "largest class logit of a cell, each level to its own scale";
  draw_text(im, x - 10 - text_width(9, text), y, 9, false, DIM, text);
}

static spinec_status compose(const Facts *f, const Image *picture, const HeadOutputs *h, Image *sheet, char err[RT_ERR_MAX]) {
  Image big = {0}, small = {0};
  char text[96];
  spinec_status status = image_new(WIDTH, HEIGHT, sheet, err);
  if (!status) status = image_resize(picture, PICTURE, PICTURE, &big, err);
  if (!status) status = image_resize(picture, HEAT, HEAT, &small, err);
  if (!status) {
    draw_box(sheet, (Box){0, 0, WIDTH, HEIGHT}, paint_solid(PAPER));
    draw_heading(sheet, f);
    const float second = MARGIN + PICTURE + GAP, third = second + PICTURE + GAP + 8;
    snprintf(text, sizeof text, "%d x %d pixels", h->side, h->side);
    label(sheet, MARGIN, TOP - 12, "Input", text);
    draw_image(sheet, &big, MARGIN, TOP);
    snprintf(text, sizeof text, "of each level, with class number; weights untrained");
    label(sheet, second, TOP - 12, "Strongest boxes", text);
    draw_detections(sheet, &big, h, second, TOP);
    draw_measurements(sheet, f, third, TOP - 22, WIDTH - MARGIN - third);
    for (int i = 0; i < LEVELS; i++) draw_response(sheet, &small, h, FIRST_LEVEL + i, MARGIN + i * (HEAT + 21), HEAT_TOP - 10);
    draw_footer(sheet, f);
  }
  image_free(&big);
  image_free(&small);
  return status;
}

spinec_status show_result(const char *facts, const char *picture, const char *dir, const char *out, char err[RT_ERR_MAX]) {
  Facts f;
  Image im = {0}, sheet = {0};
  HeadOutputs h = {.side = 0};
  spinec_status status = facts_load(facts, &f, err);
  if (!status) status = image_load(picture, &im, err);
  if (!status && im.w != im.h) status = rt_fail(err, SPINEC_ERR_INPUT, "%s: not square", picture);
  if (!status) status = head_load(dir, im.w, &h, err);
  if (!status) status = compose(&f, &im, &h, &sheet, err);
  if (!status) status = image_save_png(out, &sheet, err);
  image_free(&im);
  image_free(&sheet);
  head_free(&h);
  return status;
}
