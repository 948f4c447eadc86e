/* quickstart.h: the `picture` tool of examples/quickstart.sh. It draws what goes into the network and shows what came out.
 *
 *   draw.c         antialiased polygons, rounded boxes, ellipses, lines and gradients on a picture
 *   font.c         text from a built-in stroke font
 *   scene.c        a street drawn from arithmetic: the input when no photograph is given
 *   detections.c   RetinaNet: response per pyramid cell, anchors, decoded boxes, suppression of overlaps
 *   show.c         the result sheet: input, boxes, responses, measurements
 *   picture.c      command line
 *
 * detect.c is not part of it: that one is the small program around the generated code and shares nothing with the compiler.
 *
 * Coordinates are pixels with the origin at the top left corner; pixel (0, 0) covers [0, 1) x [0, 1). Drawing outside a picture is
 * allowed and has no effect. Everything is deterministic: the same command gives the same bytes.
 */
#ifndef QUICKSTART_H
#define QUICKSTART_H

#include "runtime/runtime.h"

/* ---- draw.c ---- */

typedef struct { float r, g, b, a; } Color;   /* 0..1; a: opacity */
typedef struct { float x, y; } Point;
typedef struct { float x, y, w, h; } Box;
/* A colour, or a gradient from `from` at p to `to` at q (p == q: `from` alone). */
typedef struct { Color from, to; Point p, q; } Paint;

Color rgb(uint32_t hex);                       /* 0xRRGGBB, opaque */
Color rgba(uint32_t hex, float a);
Color color_mix(Color a, Color b, float t);    /* t 0: a, 1: b */
Color color_shade(Color c, float f);           /* brightness times f */
Paint paint_solid(Color c);
Paint paint_gradient(Color from, float x0, float y0, Color to, float x1, float y1);

enum { MAX_CORNERS = 96 };
/* Even-odd; n <= MAX_CORNERS, more is not drawn. */
void draw_polygon(Image *im, const Point *p, int n, Paint paint);
void draw_box(Image *im, Box b, Paint paint);
void draw_round_box(Image *im, Box b, float radius, Paint paint);
void draw_ellipse(Image *im, float cx, float cy, float rx, float ry, Paint paint);
void draw_line(Image *im, Point a, Point b, float width, Color c);          /* round ends */
void draw_frame(Image *im, Box b, float width, Color c);                    /* the outline of b, drawn inwards */
void draw_glow(Image *im, float cx, float cy, float rx, float ry, Color c); /* c.a in the middle, nothing at the rim */
void draw_pixel(Image *im, int x, int y, Color c, float coverage);
void draw_image(Image *im, const Image *src, int x, int y);

/* ---- font.c ---- */

/* `size` is the height of a capital; (x, y) the left end of the baseline. Printable ASCII; other bytes show as '?'. Returns the end's x. */
float draw_text(Image *im, float x, float y, float size, bool bold, Color c, const char *text);
float text_width(float size, const char *text);

/* ---- scene.c ---- */

spinec_status scene_draw(int side, Image *out, char err[RT_ERR_MAX]);   /* side x side pixels */

/* ---- detections.c ---- */

enum { FIRST_LEVEL = 3, LAST_LEVEL = 7, LEVELS = LAST_LEVEL - FIRST_LEVEL + 1, ANCHORS = 9 };

typedef struct {
  Box box;        /* in pixels of the network's input */
  float logit;    /* of its class */
  int level, class_index;
} Detection;

/* What the head put out: per level the class logits [1, ANCHORS * classes, h, w] and the box deltas [1, ANCHORS * 4, h, w]. */
typedef struct {
  spinec_tensor cls[LEVELS], box[LEVELS];
  int classes, side;   /* side of the input in pixels */
} HeadOutputs;

/* Reads DIR/cls3.npy .. cls7.npy and box3.npy .. box7.npy and checks that they belong together. */
spinec_status head_load(const char *dir, int side, HeadOutputs *out, char err[RT_ERR_MAX]);
void head_free(HeadOutputs *h);
/* The largest class logit at every cell of a level, row-major, h * w of them (malloc'ed; NULL: out of memory). */
float *head_response(const HeadOutputs *h, int level, int *w, int *height);
/* The best boxes, best first, that overlap each other by less than `overlap` (intersection over union), at most per_level of each level;
 * `out` has room for per_level * LEVELS; returns how many. Boxes that cover more than half of the picture or less than 0.2% of it, or are
 * more than three times as long as wide, are left out: untrained weights make many of them and they are no use to look at. */
int head_detections(const HeadOutputs *h, float overlap, int per_level, Detection *out);

/* ---- show.c ---- */

/* `facts`: a text file of lines "name value", as quickstart.sh collects them; see show.c for the names. `dir`: where the outputs are. */
spinec_status show_result(const char *facts, const char *picture, const char *dir, const char *out, char err[RT_ERR_MAX]);

#endif
