/* draw.c: antialiased shapes.
 *
 * Polygons are filled by scan lines: each row of pixels is cut into SUB lines; on each the even-odd spans between the crossings add their
 * exact horizontal coverage to a row of weights, which then blends the paint. Lines and glows work from the distance to the shape instead.
 */
#include "quickstart.h"

#include <math.h>
#include <stdlib.h>

enum { SUB = 5, ARC = 8, ELLIPSE_CORNERS = 64 };

/* ---- colours ---- */

Color rgba(uint32_t hex, float a) {
  return (Color){(float)(hex >> 16 & 255) / 255, (float)(hex >> 8 & 255) / 255, (float)(hex & 255) / 255, a};
}
Color rgb(uint32_t hex) { return rgba(hex, 1); }

Color color_mix(Color a, Color b, float t) {
  return (Color){a.r + (b.r - a.r) * t, a.g + (b.g - a.g) * t, a.b + (b.b - a.b) * t, a.a + (b.a - a.a) * t};
}

Color color_shade(Color c, float f) { return (Color){c.r * f, c.g * f, c.b * f, c.a}; }

Paint paint_solid(Color c) { return (Paint){c, c, {0, 0}, {0, 0}}; }

Paint paint_gradient(Color from, float x0, float y0, Color to, float x1, float y1) { return (Paint){from, to, {x0, y0}, {x1, y1}}; }

static Color paint_at(const Paint *p, float x, float y) {
  const float dx = p->q.x - p->p.x, dy = p->q.y - p->p.y, n = dx * dx + dy * dy;
  if (n == 0) return p->from;
  const float t = ((x - p->p.x) * dx + (y - p->p.y) * dy) / n;
  return color_mix(p->from, p->to, fminf(fmaxf(t, 0), 1));
}

/* ---- pixels ---- */

static uint8_t blend(uint8_t under, float over, float a) {
  const float v = (float)under + (over * 255 - (float)under) * a;
  return (uint8_t)(fminf(fmaxf(v, 0), 255) + 0.5f);
}

void draw_pixel(Image *im, int x, int y, Color c, float coverage) {
  if (x < 0 || y < 0 || x >= im->w || y >= im->h || coverage <= 0) return;
  uint8_t *p = im->rgb + 3 * ((size_t)y * (size_t)im->w + (size_t)x);
  const float a = c.a * fminf(coverage, 1);
  p[0] = blend(p[0], c.r, a);
  p[1] = blend(p[1], c.g, a);
  p[2] = blend(p[2], c.b, a);
}

void draw_image(Image *im, const Image *src, int x, int y) {
  for (int j = 0; j < src->h; j++)
    for (int i = 0; i < src->w; i++) {
      const uint8_t *p = src->rgb + 3 * ((size_t)j * (size_t)src->w + (size_t)i);
      draw_pixel(im, x + i, y + j, (Color){(float)p[0] / 255, (float)p[1] / 255, (float)p[2] / 255, 1}, 1);
    }
}

/* ---- polygons ---- */

static int compare_floats(const void *a, const void *b) {
  const float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

/* Adds the part of each pixel of the row that lies in [a, b). */
static void add_span(float *row, int w, float a, float b) {
  a = fmaxf(a, 0);
  b = fminf(b, (float)w);
  if (!(a < b)) return;
  const int first = (int)a, last = (int)ceilf(b) - 1;
  if (first == last) {
    row[first] += (b - a) / SUB;
    return;
  }
  row[first] += ((float)(first + 1) - a) / SUB;
  for (int x = first + 1; x < last; x++) row[x] += 1.0f / SUB;
  row[last] += (b - (float)last) / SUB;
}

static void scan_line(const Point *p, int n, float y, float *row, int w) {
  float at[MAX_CORNERS];
  int crossings = 0;
  for (int i = 0; i < n; i++) {
    const Point a = p[i], b = p[(i + 1) % n];
    if ((a.y <= y) != (b.y <= y)) at[crossings++] = a.x + (b.x - a.x) * (y - a.y) / (b.y - a.y);
  }
  qsort(at, (size_t)crossings, sizeof *at, compare_floats);
  for (int i = 0; i + 1 < crossings; i += 2) add_span(row, w, at[i], at[i + 1]);
}

void draw_polygon(Image *im, const Point *p, int n, Paint paint) {
  if (n < 3 || n > MAX_CORNERS) return;
  float top = p[0].y, bottom = p[0].y, left = p[0].x, right = p[0].x;
  for (int i = 1; i < n; i++) {
    top = fminf(top, p[i].y), bottom = fmaxf(bottom, p[i].y);
    left = fminf(left, p[i].x), right = fmaxf(right, p[i].x);
  }
  if (!(top < (float)im->h && bottom > 0 && left < (float)im->w && right > 0)) return;
  float *row = malloc((size_t)im->w * sizeof *row);
  if (!row) return;
  const int y0 = (int)fmaxf(floorf(top), 0), y1 = (int)fminf(ceilf(bottom), (float)im->h);
  const int x0 = (int)fmaxf(floorf(left), 0), x1 = (int)fminf(ceilf(right), (float)im->w);
  for (int y = y0; y < y1; y++) {
    for (int x = x0; x < x1; x++) row[x] = 0;
    for (int s = 0; s < SUB; s++) scan_line(p, n, (float)y + ((float)s + 0.5f) / SUB, row, im->w);
    for (int x = x0; x < x1; x++)
      if (row[x] > 0) draw_pixel(im, x, y, paint_at(&paint, (float)x + 0.5f, (float)y + 0.5f), row[x]);
  }
  free(row);
}

void draw_box(Image *im, Box b, Paint paint) {
  const Point p[4] = {{b.x, b.y}, {b.x + b.w, b.y}, {b.x + b.w, b.y + b.h}, {b.x, b.y + b.h}};
  draw_polygon(im, p, 4, paint);
}

static const float quarter_turn = 1.57079633f;

void draw_round_box(Image *im, Box b, float radius, Paint paint) {
  Point p[4 * ARC];
  radius = fminf(radius, fminf(b.w, b.h) / 2);
  for (int corner = 0; corner < 4; corner++) {
    const float cx = corner == 0 || corner == 3 ? b.x + b.w - radius : b.x + radius;
    const float cy = corner < 2 ? b.y + b.h - radius : b.y + radius;
    for (int i = 0; i < ARC; i++) {
      const float t = ((float)corner + (float)i / (ARC - 1)) * quarter_turn;
      p[corner * ARC + i] = (Point){cx + radius * cosf(t), cy + radius * sinf(t)};
    }
  }
  draw_polygon(im, p, 4 * ARC, paint);
}

void draw_ellipse(Image *im, float cx, float cy, float rx, float ry, Paint paint) {
  Point p[ELLIPSE_CORNERS];
  for (int i = 0; i < ELLIPSE_CORNERS; i++) {
    const float t = 4 * quarter_turn * (float)i / ELLIPSE_CORNERS;
    p[i] = (Point){cx + rx * cosf(t), cy + ry * sinf(t)};
  }
  draw_polygon(im, p, ELLIPSE_CORNERS, paint);
}

void draw_frame(Image *im, Box b, float width, Color c) {
  const Paint p = paint_solid(c);
  width = fminf(width, fminf(b.w, b.h) / 2);
  draw_box(im, (Box){b.x, b.y, b.w, width}, p);
  draw_box(im, (Box){b.x, b.y + b.h - width, b.w, width}, p);
  draw_box(im, (Box){b.x, b.y + width, width, b.h - 2 * width}, p);
  draw_box(im, (Box){b.x + b.w - width, b.y + width, width, b.h - 2 * width}, p);
}

/* ---- by distance ---- */

/* The pixels whose middle may lie within the box, cut to the picture: [x0, x1) x [y0, y1). */
static void cut(const Image *im, float left, float top, float right, float bottom, int r[4]) {
  r[0] = (int)floorf(fminf(fmaxf(left, 0), (float)im->w));
  r[1] = (int)floorf(fminf(fmaxf(top, 0), (float)im->h));
  r[2] = (int)ceilf(fminf(fmaxf(right, 0), (float)im->w));
  r[3] = (int)ceilf(fminf(fmaxf(bottom, 0), (float)im->h));
}

void draw_line(Image *im, Point a, Point b, float width, Color c) {
  const float dx = b.x - a.x, dy = b.y - a.y, n = dx * dx + dy * dy, m = width / 2 + 1;
  int r[4];
  cut(im, fminf(a.x, b.x) - m, fminf(a.y, b.y) - m, fmaxf(a.x, b.x) + m, fmaxf(a.y, b.y) + m, r);
  for (int y = r[1]; y < r[3]; y++)
    for (int x = r[0]; x < r[2]; x++) {
      const float px = (float)x + 0.5f - a.x, py = (float)y + 0.5f - a.y;
      const float t = n > 0 ? fminf(fmaxf((px * dx + py * dy) / n, 0), 1) : 0;
      draw_pixel(im, x, y, c, width / 2 + 0.5f - hypotf(px - t * dx, py - t * dy));
    }
}

void draw_glow(Image *im, float cx, float cy, float rx, float ry, Color c) {
  int r[4];
  cut(im, cx - rx, cy - ry, cx + rx, cy + ry, r);
  for (int y = r[1]; y < r[3]; y++)
    for (int x = r[0]; x < r[2]; x++) {
      const float d = hypotf(((float)x + 0.5f - cx) / rx, ((float)y + 0.5f - cy) / ry), t = 1 - fminf(d, 1);
      draw_pixel(im, x, y, c, t * t * (3 - 2 * t));
    }
}
