/* font.c: text from strokes.
 *
 * A glyph is a row of the table: its width and its strokes. Points are two characters on a grid, x then y, '0'..'9' and on with 'a' = 10:
 * capitals reach from y = 0 to the baseline y = 8, small letters start at y = 3, descenders end at y = 10. A stroke is a broken line; after
 * '~' it is a quadratic B-spline: the points are controls, the curve runs through the middle of every two, and starts and ends at the
 * first and the last (all equal: closed). A point twice in a row is passed through. So "~82 80 00 08 88 86" is a C in its box.
 *
 * A pixel's weight is its distance to the nearest piece of the glyph, so that joints are not blended twice.
 */
#include "quickstart.h"

#include <math.h>
#include <string.h>

typedef struct { uint8_t width; const char *strokes; } Glyph;

static const Glyph glyphs[] = {
    {3, ""},                                                       /* space */
    {0, "00 05,08 08"},                                            /* ! */
    {3, "00 02,30 32"},                                            /* " */
    {7, "30 18,60 48,03 73,05 75"},                                /* # */
    {7, "~72 71 01 04 74 77 07 06,40 48"},                         /* $ */
    {8, "80 08,~00 30 33 03 00,~55 85 88 58 55"},                  /* % */
    {8, "~88 12 10 50 53 04 08 68 75"},                            /* & */
    {0, "00 02"},                                                  /* ' */
    {2, "~20 02 08 2a"},                                           /* ( */
    {2, "~00 22 28 0a"},                                           /* ) */
    {4, "20 24,01 43,41 03"},                                      /* * */
    {6, "05 65,32 38"},                                            /* + */
    {1, "18 0a"},                                                  /* , */
    {4, "05 45"},                                                  /* - */
    {0, "08 08"},                                                  /* . */
    {5, "50 08"},                                                  /* / */
    {7, "~00 70 78 08 00"},                                        /* 0 */
    {7, "12 40 48"},                                               /* 1 */
    {7, "~02 00 70 73 08,08 78"},                                  /* 2 */
    {7, "~02 00 70 74 34,~34 74 78 08 06"},                        /* 3 */
    {7, "58 50 06 76"},                                            /* 4 */
    {7, "70 10 04,~04 13 73 78 08 06"},                            /* 5 */
    {7, "~61 60 00 06,~03 73 78 08 03"},                           /* 6 */
    {7, "00 70 28"},                                               /* 7 */
    {7, "~10 60 64 14 10,~04 74 78 08 04"},                        /* 8 */
    {7, "~05 75 70 00 05,~17 18 78 72"},                           /* 9 */
    {0, "04 04,08 08"},                                            /* : */
    {1, "14 14,18 0a"},                                            /* ; */
    {6, "62 05 68"},                                               /* < */
    {6, "04 64,06 66"},                                            /* = */
    {6, "02 65 08"},                                               /* > */
    {6, "~02 00 60 63 34 36,38 38"},                               /* ? */
    {8, "~78 08 00 80 87 67 63,~23 63 67 27 23"},                  /* @ */
    {8, "08 40 88,25 65"},                                         /* A */
    {8, "00 08,~00 40 40 70 74 44 44 04,~04 44 44 84 88 48 48 08"}, /* B */
    {8, "~82 80 00 08 88 86"},                                     /* C */
    {8, "00 08,~00 30 30 80 88 38 38 08"},                         /* D */
    {7, "70 00 08 78,04 64"},                                      /* E */
    {7, "70 00 08,04 64"},                                         /* F */
    {8, "~82 80 00 08 88 84,84 44"},                               /* G */
    {8, "00 08,80 88,04 84"},                                      /* H */
    {0, "00 08"},                                                  /* I */
    {6, "~60 65 65 68 08 06"},                                     /* J */
    {8, "00 08,80 04,23 88"},                                      /* K */
    {7, "00 08 78"},                                               /* L */
    {10, "08 00 56 a0 a8"},                                        /* M */
    {8, "08 00 88 80"},                                            /* N */
    {9, "~00 90 98 08 00"},                                        /* O */
    {8, "00 08,~00 40 40 80 84 44 44 04"},                         /* P */
    {9, "~00 90 98 08 00,65 99"},                                  /* Q */
    {8, "00 08,~00 40 40 80 84 44 44 04,44 88"},                   /* R */
    {8, "~82 80 00 04 84 88 08 06"},                               /* S */
    {8, "00 80,40 48"},                                            /* T */
    {8, "~00 05 05 08 88 85 85 80"},                               /* U */
    {8, "00 48 80"},                                               /* V */
    {12, "00 38 61 98 c0"},                                        /* W */
    {8, "00 88,80 08"},                                            /* X */
    {8, "00 44 80,44 48"},                                         /* Y */
    {8, "00 80 08 88"},                                            /* Z */
    {2, "20 00 0a 2a"},                                            /* [ */
    {5, "00 58"},                                                  /* \ */
    {2, "00 20 2a 0a"},                                            /* ] */
    {6, "03 30 63"},                                               /* ^ */
    {7, "09 79"},                                                  /* _ */
    {2, "00 22"},                                                  /* ` */
    {6, "~14 13 63 65 65 68,~65 35 35 05 08 38 68 66"},            /* a */
    {6, "00 08,~03 63 68 08 03"},                                  /* b */
    {6, "~64 63 03 08 68 67"},                                     /* c */
    {6, "60 68,~03 63 68 08 03"},                                  /* d */
    {6, "05 65,~65 63 03 08 68 67"},                               /* e */
    {4, "~50 20 23 23 28,03 43"},                                  /* f */
    {6, "~03 63 68 08 03,~63 67 67 6a 0a 09"},                     /* g */
    {6, "00 08,~05 03 63 65 65 68"},                               /* h */
    {0, "03 08,01 01"},                                            /* i */
    {2, "~23 28 28 2a 0a,21 21"},                                  /* j */
    {6, "00 08,63 06,25 68"},                                      /* k */
    {0, "00 08"},                                                  /* l */
    {10, "03 08,~05 03 53 55 55 58,~55 53 a3 a5 a5 a8"},           /* m */
    {6, "03 08,~05 03 63 65 65 68"},                               /* n */
    {6, "~03 63 68 08 03"},                                        /* o */
    {6, "03 0a,~03 63 68 08 03"},                                  /* p */
    {6, "63 6a,~03 63 68 08 03"},                                  /* q */
    {4, "03 08,~05 03 43"},                                        /* r */
    {5, "~54 53 03 06 55 58 08 07"},                               /* s */
    {4, "~21 26 26 28 48,03 43"},                                  /* t */
    {6, "~03 06 06 08 68 66,63 68"},                               /* u */
    {6, "03 38 63"},                                               /* v */
    {10, "03 38 54 78 a3"},                                        /* w */
    {6, "03 68,63 08"},                                            /* x */
    {6, "03 38,63 2a"},                                            /* y */
    {6, "03 63 08 68"},                                            /* z */
    {3, "~30 10 14 05,~05 16 1a 3a"},                              /* { */
    {0, "00 0a"},                                                  /* | */
    {3, "~00 20 24 35,~35 26 2a 0a"},                              /* } */
    {6, "~06 13 57 64"},                                           /* ~ */
};
_Static_assert(sizeof glyphs / sizeof *glyphs == '~' - ' ' + 1, "one glyph per printable character");

enum { MAX_PIECES = 96, CURVE_PIECES = 6 };
static const float narrow = 0.62f, gap = 3.1f;   /* width of a grid step over its height; steps between glyphs */

typedef struct { Point a, b; } Piece;
typedef struct { Piece v[MAX_PIECES]; int n; } Outline;

static const Glyph *find(char c) { return &glyphs[c >= ' ' && c <= '~' ? c - ' ' : '?' - ' ']; }

static void add_piece(Outline *o, Point a, Point b) {
  if (o->n < MAX_PIECES) o->v[o->n++] = (Piece){a, b};
}

static Point middle(Point a, Point b) { return (Point){(a.x + b.x) / 2, (a.y + b.y) / 2}; }

static void add_curve(Outline *o, Point a, Point c, Point b) {
  Point last = a;
  for (int i = 1; i <= CURVE_PIECES; i++) {
    const float t = (float)i / CURVE_PIECES, u = 1 - t;
    const Point p = {u * u * a.x + 2 * u * t * c.x + t * t * b.x, u * u * a.y + 2 * u * t * c.y + t * t * b.y};
    add_piece(o, last, p);
    last = p;
  }
}

static void add_spline(Outline *o, const Point *p, int n) {
  if (p[0].x == p[n - 1].x && p[0].y == p[n - 1].y) {
    for (int i = 0; i + 1 < n; i++) {
      const Point c = p[i + 1], next = p[i + 2 < n ? i + 2 : 1];
      add_curve(o, middle(p[i], c), c, middle(c, next));
    }
    return;
  }
  Point at = p[0];
  for (int i = 1; i + 1 < n; i++) {
    const Point to = i + 2 < n ? middle(p[i], p[i + 1]) : p[i + 1];
    add_curve(o, at, p[i], to);
    at = to;
  }
}

static int grid(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

/* The glyph's pieces in pixels. */
static void outline(const char *s, float x, float top, float unit, Outline *o) {
  enum { MAX_POINTS = 12 };
  o->n = 0;
  while (*s) {
    Point p[MAX_POINTS] = {{0, 0}};
    int n = 0;
    const bool smooth = *s == '~';
    s += smooth;
    for (; *s && *s != ','; s += s[2] == ' ' ? 3 : 2)
      if (n < MAX_POINTS) p[n++] = (Point){x + (float)grid(s[0]) * unit * narrow, top + (float)grid(s[1]) * unit};
    if (smooth) add_spline(o, p, n);
    for (int i = 0; !smooth && i + 1 < n; i++) add_piece(o, p[i], p[i + 1]);
    s += *s == ',';
  }
}

static float distance(const Piece *s, float x, float y) {
  const float dx = s->b.x - s->a.x, dy = s->b.y - s->a.y, n = dx * dx + dy * dy, px = x - s->a.x, py = y - s->a.y;
  const float t = n > 0 ? fminf(fmaxf((px * dx + py * dy) / n, 0), 1) : 0;
  return hypotf(px - t * dx, py - t * dy);
}

static void draw_outline(Image *im, const Outline *o, Box area, float half, Color c) {
  for (int y = (int)floorf(area.y); y < (int)ceilf(area.y + area.h); y++)
    for (int x = (int)floorf(area.x); x < (int)ceilf(area.x + area.w); x++) {
      float d = 1e9f;
      for (int i = 0; i < o->n; i++) d = fminf(d, distance(&o->v[i], (float)x + 0.5f, (float)y + 0.5f));
      draw_pixel(im, x, y, c, half + 0.5f - d);
    }
}

float draw_text(Image *im, float x, float y, float size, bool bold, Color c, const char *text) {
  const float unit = size / 8, half = unit * (bold ? 0.72f : 0.46f), margin = half + 1;
  for (; *text; text++) {
    const Glyph *g = find(*text);
    const float w = (float)g->width * unit * narrow;
    Outline o;
    outline(g->strokes, x, y - size, unit, &o);
    if (o.n) draw_outline(im, &o, (Box){x - margin, y - size - margin, w + 2 * margin, 11 * unit + 2 * margin}, half, c);
    x += w + gap * unit * narrow;
  }
  return x;
}

float text_width(float size, const char *text) {
  float w = 0;
  for (; *text; text++) w += ((float)find(*text)->width + gap) * size / 8 * narrow;
  return w > 0 ? w - gap * size / 8 * narrow : 0;
}
