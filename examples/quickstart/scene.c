/* scene.c: a street in perspective, from arithmetic and a seeded generator.
 *
 * The world is in metres: x to the right of the middle of the road, y up from the ground, z ahead of the camera. Everything is drawn from
 * far to near, mixed with haze by its distance. Shapes that face the camera are placed by their foot point and scaled by 1 / z.
 */
#include "quickstart.h"

#include <math.h>

typedef struct { Image *im; float side; Rng rng; } Scene;
typedef struct { float x, y, z; } Place;

static const float horizon = 0.56f, vanish = 0.45f, focal = 0.70f, eye = 1.75f;
static const float kerb = 4.2f, facade = 8.2f;

static float uniform(Scene *s, float lo, float hi) { return lo + (hi - lo) * (float)rng_uniform(&s->rng); }

static Point project(const Scene *s, Place p) {
  return (Point){s->side * (vanish + focal * p.x / p.z), s->side * (horizon - focal * (p.y - eye) / p.z)};
}

/* Pixels per metre at a distance. */
static float scale_at(const Scene *s, float z) { return s->side * focal / z; }

static Color haze(Color c, float z) {
  const Color air = rgb(0xf3d9c2);
  const float a = c.a;
  c = color_mix(c, air, 1 - expf(-z / 95));
  c.a = a;
  return c;
}

static void quad(Scene *s, Place a, Place b, Place c, Place d, Paint paint) {
  const Point p[4] = {project(s, a), project(s, b), project(s, c), project(s, d)};
  draw_polygon(s->im, p, 4, paint);
}

/* A rectangle on the ground, on a wall along the road, on a wall across it. */
static void on_ground(Scene *s, float x0, float x1, float z0, float z1, Color c) {
  quad(s, (Place){x0, 0, z0}, (Place){x1, 0, z0}, (Place){x1, 0, z1}, (Place){x0, 0, z1}, paint_solid(haze(c, z0)));
}

static void on_side(Scene *s, float x, float y0, float y1, float z0, float z1, Color c) {
  quad(s, (Place){x, y0, z0}, (Place){x, y1, z0}, (Place){x, y1, z1}, (Place){x, y0, z1}, paint_solid(haze(c, z0)));
}

static void on_front(Scene *s, float x0, float x1, float y0, float y1, float z, Color c) {
  quad(s, (Place){x0, y0, z}, (Place){x1, y0, z}, (Place){x1, y1, z}, (Place){x0, y1, z}, paint_solid(haze(c, z)));
}

/* ---- far away ---- */

static void draw_sky(Scene *s) {
  const float d = s->side;
  const float haze_top = floorf(d * horizon * 0.6f), ground = d * horizon;
  draw_box(s->im, (Box){0, 0, d, haze_top}, paint_gradient(rgb(0x3f7fc4), 0, 0, rgb(0x9cc4e4), 0, haze_top));
  draw_box(s->im, (Box){0, haze_top, d, d}, paint_gradient(rgb(0x9cc4e4), 0, haze_top, rgb(0xfbe3c4), 0, ground));
  draw_glow(s->im, d * 0.53f, ground - d * 0.12f, d * 0.40f, d * 0.34f, rgba(0xffe2a8, 0.75f));
  draw_ellipse(s->im, d * 0.53f, ground - d * 0.15f, d * 0.024f, d * 0.024f, paint_solid(rgb(0xfffbe8)));
  for (int cloud = 0; cloud < 6; cloud++) {
    const float cx = d * uniform(s, 0.12f, 0.85f), cy = d * uniform(s, 0.03f, 0.22f), w = d * uniform(s, 0.05f, 0.11f);
    for (int i = 0; i < 12; i++) {
      const float t = uniform(s, -1, 1), r = w * (0.55f - 0.32f * t * t) * uniform(s, 0.7f, 1.1f);
      draw_glow(s->im, cx + t * w, cy - r * 0.25f, r * 1.25f, r * 0.62f, rgba(0xfff8f0, 0.5f));
    }
  }
}

static void draw_hills(Scene *s) {
  static const uint32_t tint[] = {0xa9b9c6, 0x8aa294, 0x6f8f70};
  for (int layer = 0; layer < 3; layer++) {
    enum { STEPS = 60 };
    Point p[STEPS + 3];
    for (int i = 0; i <= STEPS; i++) {
      const float t = (float)i / STEPS, a = 5.1f * t + 2.3f * (float)layer;
      const float up = 0.5f + 0.3f * sinf(a) + 0.16f * sinf(2.7f * a + 1) + 0.05f * sinf(9 * a);
      p[i] = (Point){t * s->side, s->side * (horizon - (0.085f - 0.024f * (float)layer) * up - 0.004f)};
    }
    p[STEPS + 1] = (Point){s->side, s->side * (horizon + 0.02f)};
    p[STEPS + 2] = (Point){0, s->side * (horizon + 0.02f)};
    draw_polygon(s->im, p, STEPS + 3, paint_solid(rgb(tint[layer])));
  }
}

/* ---- the ground ---- */

static void draw_ground(Scene *s) {
  const float d = s->side, y = d * horizon;
  draw_box(s->im, (Box){0, y, d, d - y}, paint_gradient(rgb(0xc6b8a2), 0, y, rgb(0x8f8678), 0, d));
  const Place far_left = {-kerb, 0, 900}, far_right = {kerb, 0, 900};
  quad(s, (Place){-kerb, 0, 1}, (Place){kerb, 0, 1}, far_right, far_left, paint_gradient(rgb(0x9a9894), 0, y, rgb(0x4b4d55), 0, d));
  for (float z = 80; z > 1.8f; z /= 1.13f) {   /* paving joints */
    on_ground(s, -facade, -kerb - 0.3f, z, z * 1.012f, rgba(0x7d7466, 0.55f));
    on_ground(s, kerb + 0.3f, facade, z, z * 1.012f, rgba(0x7d7466, 0.55f));
  }
  for (int side = -1; side <= 1; side += 2) {
    const float x = kerb * (float)side;
    quad(s, (Place){x, 0, 1}, (Place){x + 0.3f * (float)side, 0, 1}, (Place){x + 0.3f * (float)side, 0, 300}, (Place){x, 0, 300},
         paint_solid(rgb(0xd8d2c6)));
  }
  for (float z = 64; z > 9.5f; z -= 6) on_ground(s, -0.09f, 0.09f, z, z + 3, rgb(0xf2efe6));
  for (float x = -kerb + 0.45f; x < kerb - 0.3f; x += 0.98f) on_ground(s, x, x + 0.52f, 5.4f, 8.2f, rgb(0xf2efe6));
  on_ground(s, -kerb + 0.15f, -0.15f, 8.8f, 9.2f, rgb(0xf2efe6));
  on_ground(s, 0.15f, kerb - 0.15f, 4.7f, 5.0f, rgb(0xf2efe6));
  const Point lid = project(s, (Place){-0.9f, 0, 3.9f});
  draw_ellipse(s->im, lid.x, lid.y, 0.36f * scale_at(s, 3.9f), 0.36f * scale_at(s, 3.9f) * eye / 3.9f, paint_solid(rgb(0x3a3b41)));
  draw_ellipse(s->im, lid.x, lid.y, 0.29f * scale_at(s, 3.9f), 0.29f * scale_at(s, 3.9f) * eye / 3.9f, paint_solid(rgb(0x55565c)));
  for (int i = 0; i < 26; i++) {                /* worn asphalt */
    const float z = uniform(s, 2.2f, 30), x = uniform(s, -kerb, kerb) * 0.9f;
    const Point p = project(s, (Place){x, 0, z});
    draw_glow(s->im, p.x, p.y, scale_at(s, z) * uniform(s, 0.4f, 1.3f), scale_at(s, z) * uniform(s, 0.06f, 0.2f), rgba(0x33353c, 0.28f));
  }
}

/* ---- houses ---- */

static void window_on_side(Scene *s, float x, float y0, float y1, float z0, float z1, bool lit) {
  const float out = x < 0 ? 0.02f : -0.02f, f = 0.09f;
  on_side(s, x + out, y0 - f, y1 + f, z0 - f, z1 + f, rgb(0xefe6d6));
  const Color top = lit ? rgb(0xffd98a) : rgb(0x7fa3bd), bottom = lit ? rgb(0xe9a24c) : rgb(0x2c4257);
  const Point a = project(s, (Place){x, y1, z0}), b = project(s, (Place){x, y0, z0});
  quad(s, (Place){x + out, y0, z0}, (Place){x + out, y1, z0}, (Place){x + out, y1, z1}, (Place){x + out, y0, z1},
       paint_gradient(haze(top, z0), a.x, a.y, haze(bottom, z0), b.x, b.y));
  on_side(s, x + out, y0, y1, (z0 + z1) / 2 - 0.04f, (z0 + z1) / 2 + 0.04f, rgb(0xefe6d6));
  on_side(s, x + out, y0 - 0.22f, y0 - 0.1f, z0 - 0.15f, z1 + 0.15f, rgb(0xcdbfa9));
}

static void draw_shop(Scene *s, float x, float z0, float z1) {
  static const uint32_t awnings[] = {0xb5332d, 0x1f6f5c, 0x2b4f8c, 0xd08a22};
  const Color awning = rgb(awnings[rng_below(&s->rng, 4)]), pale = rgb(0xf4ead8);
  const float out = x < 0 ? 1.1f : -1.1f;
  on_side(s, x * 0.997f, 0.5f, 2.5f, z0 + 0.6f, z1 - 2.0f, rgb(0x22303c));
  on_side(s, x * 0.996f, 0.6f, 2.4f, z0 + 0.8f, z1 - 2.2f, rgb(0x88a7b4));
  on_side(s, x * 0.996f, 0, 2.5f, z1 - 1.6f, z1 - 0.6f, rgb(0x3b2a20));
  const int stripes = 9;
  for (int i = stripes - 1; i >= 0; i--) {
    const float a = z0 + 0.5f + (z1 - z0 - 1) * (float)i / stripes, b = z0 + 0.5f + (z1 - z0 - 1) * (float)(i + 1) / stripes;
    const Color c = haze(i & 1 ? pale : awning, a);
    quad(s, (Place){x, 3.2f, a}, (Place){x, 3.2f, b}, (Place){x + out, 2.6f, b}, (Place){x + out, 2.6f, a}, paint_solid(c));
    quad(s, (Place){x + out, 2.6f, a}, (Place){x + out, 2.6f, b}, (Place){x + out, 2.35f, b}, (Place){x + out, 2.35f, a},
         paint_solid(color_shade(c, 0.85f)));
  }
}

static void draw_house(Scene *s, int side, float z0, float z1, float height, Color wall, Color roof) {
  const float x = facade * (float)side, back = x + 9 * (float)side, ridge = x + 4 * (float)side, light = side < 0 ? 1.0f : 0.80f;
  const Point gable[5] = {project(s, (Place){x, 0, z0}), project(s, (Place){x, height, z0}), project(s, (Place){ridge, height + 2.6f, z0}),
                          project(s, (Place){back, height, z0}), project(s, (Place){back, 0, z0})};
  draw_polygon(s->im, gable, 5, paint_solid(haze(color_shade(wall, 0.62f), z0)));
  quad(s, (Place){x, height, z0}, (Place){ridge, height + 2.6f, z0}, (Place){ridge, height + 2.6f, z1}, (Place){x, height, z1},
       paint_solid(haze(roof, z0)));
  const Point near = gable[0], far = project(s, (Place){x, 0, z1});
  quad(s, (Place){x, 0, z0}, (Place){x, height, z0}, (Place){x, height, z1}, (Place){x, 0, z1},
       paint_gradient(haze(color_shade(wall, light), z0), near.x, 0, haze(color_shade(wall, light), z1), far.x, 0));
  on_side(s, x, height - 0.35f, height, z0, z1, color_shade(rgb(0xe7dcc8), light));
  on_side(s, x, 3.35f, 3.5f, z0, z1, color_shade(rgb(0xe7dcc8), light));
  const int columns = (int)((z1 - z0) / 2.3f);
  const float step = (z1 - z0) / (float)columns;
  for (int column = columns - 1; column >= 0; column--)
    for (float y = 4.3f; y + 1.9f < height; y += 2.9f) {
      const float z = z0 + step * ((float)column + 0.5f);
      window_on_side(s, x, y, y + 1.55f, z - 0.5f, z + 0.5f, rng_below(&s->rng, 6) == 0);
    }
  draw_shop(s, x, z0, z1);
}

static void draw_houses(Scene *s, int side) {
  static const uint32_t walls[] = {0xc9694a, 0xe3c48f, 0x9fb3a5, 0xd99a6c, 0xb9a7c0, 0xe8dcc4, 0xa6523f, 0x8fa6ba};
  static const uint32_t roofs[] = {0x6b4038, 0x4a4550, 0x7a4a3a, 0x55565c};
  enum { HOUSES = 11 };
  float z[HOUSES + 1], height[HOUSES];
  Color wall[HOUSES], roof[HOUSES];
  int last = -1;
  z[0] = side < 0 ? 8.5f : 10;
  for (int i = 0; i < HOUSES; i++) {
    z[i + 1] = z[i] + uniform(s, 6.5f, 10);
    height[i] = uniform(s, 7.5f, 13.5f);
    int w;
    do w = (int)rng_below(&s->rng, 8);
    while (w == last);
    last = w;
    wall[i] = rgb(walls[w]);
    roof[i] = rgb(roofs[rng_below(&s->rng, 4)]);
  }
  for (int i = HOUSES - 1; i >= 0; i--) draw_house(s, side, z[i], z[i + 1], height[i], wall[i], roof[i]);
}

/* ---- what stands on the street ---- */

static void shadow(Scene *s, float x, float z, float rx, float rz) {
  const Point p = project(s, (Place){x, 0, z});
  draw_glow(s->im, p.x, p.y, rx * scale_at(s, z), rz * scale_at(s, z) * eye / z * 1.6f, rgba(0x1b1d26, 0.75f));
}

static void draw_tree(Scene *s, float x, float z, float height) {
  const float u = scale_at(s, z);
  const Point foot = project(s, (Place){x, 0, z});
  shadow(s, x - 0.6f, z, 2.0f, 1.4f);
  const Point trunk[4] = {{foot.x - 0.16f * u, foot.y}, {foot.x + 0.16f * u, foot.y}, {foot.x + 0.1f * u, foot.y - 0.55f * height * u},
                          {foot.x - 0.1f * u, foot.y - 0.55f * height * u}};
  const Color shaded = haze(rgb(0x4a382c), z), lit = haze(rgb(0x7b604a), z);
  draw_polygon(s->im, trunk, 4, paint_gradient(shaded, foot.x - 0.16f * u, 0, lit, foot.x + 0.16f * u, 0));
  for (int i = 0; i < 90; i++) {
    const float t = (float)i / 90, a = uniform(s, 0, 6.2831853f), r = sqrtf(uniform(s, 0, 1)) * height * 0.27f;
    const float dx = r * cosf(a), dy = height * 0.72f + r * 0.95f * sinf(a);
    /* Light comes from the upper right; leaves in front are painted last and lighter. */
    const float light = 0.45f + 0.4f * t + 0.35f * (dx + dy - height * 0.72f) / (height * 0.5f);
    const Color leaf = color_mix(rgb(0x1f4a2a), rgb(0xa9c24f), fminf(fmaxf(light, 0), 1));
    const float size = height * uniform(s, 0.05f, 0.085f) * u;
    draw_ellipse(s->im, foot.x + dx * u, foot.y - dy * u, size, size * 0.85f, paint_solid(haze(leaf, z)));
  }
}

static void draw_lamp(Scene *s, float x, float z) {
  const float u = scale_at(s, z), arm = x < 0 ? 0.9f : -0.9f;
  const Point foot = project(s, (Place){x, 0, z}), top = {foot.x, foot.y - 5 * u}, end = {foot.x + arm * u, foot.y - 5.15f * u};
  const Color iron = haze(rgb(0x2d3138), z);
  draw_line(s->im, foot, top, 0.12f * u, iron);
  draw_line(s->im, top, end, 0.09f * u, iron);
  draw_round_box(s->im, (Box){end.x - 0.28f * u, end.y, 0.56f * u, 0.16f * u}, 0.08f * u, paint_solid(iron));
  draw_ellipse(s->im, end.x, end.y + 0.2f * u, 0.18f * u, 0.08f * u, paint_solid(rgb(0xfff2c4)));
}

static void draw_traffic_light(Scene *s, float x, float z) {
  const float u = scale_at(s, z);
  const Point foot = project(s, (Place){x, 0, z});
  shadow(s, x, z, 0.5f, 0.4f);
  draw_line(s->im, foot, (Point){foot.x, foot.y - 2.6f * u}, 0.11f * u, haze(rgb(0x33373f), z));
  draw_round_box(s->im, (Box){foot.x - 0.2f * u, foot.y - 3.45f * u, 0.4f * u, 1.05f * u}, 0.1f * u, paint_solid(rgb(0x1d2026)));
  static const uint32_t lamps[] = {0xe23b2e, 0x5a4a1c, 0x1f4a2c};
  for (int i = 0; i < 3; i++) {
    const float cy = foot.y - (3.28f - 0.32f * (float)i) * u;
    if (i == 0) draw_glow(s->im, foot.x, cy, 0.5f * u, 0.5f * u, rgba(0xff6a50, 0.7f));
    draw_ellipse(s->im, foot.x, cy, 0.13f * u, 0.13f * u, paint_solid(rgb(lamps[i])));
  }
}

/* A car of 1.8 x 1.45 x 4.2 m whose near end is at z. `away`: seen from behind. */
static void draw_car(Scene *s, float x, float z, Color c, bool away) {
  const float l = x - 0.9f, r = x + 0.9f, far = z + 4.2f, near_side = x > 0 ? l : r, inner = x > 0 ? l + 0.22f : r - 0.22f;
  const Color dark = color_shade(c, 0.62f), glass = rgb(0x2a3a47);
  for (int i = 0; i < 3; i++) shadow(s, x - 0.2f, z + 0.4f + 1.4f * (float)i, 1.5f, 1.3f);
  for (int i = 1; i >= 0; i--) {   /* wheels */
    const float zw = z + 0.8f + 2.6f * (float)i, u = scale_at(s, zw);
    const Point w = project(s, (Place){near_side, 0.32f, zw});
    draw_ellipse(s->im, w.x, w.y, 0.03f * u + 0.33f * u * fabsf(near_side) / zw, 0.33f * u, paint_solid(haze(rgb(0x17181c), zw)));
  }
  on_side(s, near_side, 0.28f, 0.95f, z, far, dark);
  const float cabin_near = away ? z + 0.35f : z + 1.4f, cabin_far = away ? far - 1.4f : far - 0.35f;
  quad(s, (Place){near_side, 0.92f, cabin_near - 0.25f}, (Place){inner, 1.45f, cabin_near + 0.3f},
       (Place){inner, 1.45f, cabin_far - 0.5f}, (Place){near_side, 0.92f, cabin_far + 0.35f},
       paint_solid(haze(color_shade(glass, 0.8f), z)));
  quad(s, (Place){l + 0.2f, 1.45f, cabin_near + 0.3f}, (Place){r - 0.2f, 1.45f, cabin_near + 0.3f},
       (Place){r - 0.2f, 1.46f, cabin_far - 0.5f}, (Place){l + 0.2f, 1.46f, cabin_far - 0.5f}, paint_solid(haze(color_shade(c, 1.1f), z)));
  quad(s, (Place){l, 0.93f, z}, (Place){r, 0.93f, z}, (Place){r - 0.06f, 0.95f, cabin_near}, (Place){l + 0.06f, 0.95f, cabin_near},
       paint_solid(haze(color_shade(c, 1.12f), z)));
  quad(s, (Place){l + 0.08f, 0.92f, cabin_near - 0.1f}, (Place){r - 0.08f, 0.92f, cabin_near - 0.1f},
       (Place){r - 0.22f, 1.45f, cabin_near + 0.3f}, (Place){l + 0.22f, 1.45f, cabin_near + 0.3f},
       paint_solid(haze(color_shade(c, 0.95f), z)));
  const Point a = project(s, (Place){x, 1.4f, z}), b = project(s, (Place){x, 0.95f, z});
  quad(s, (Place){l + 0.18f, 0.97f, cabin_near - 0.1f}, (Place){r - 0.18f, 0.97f, cabin_near - 0.1f},
       (Place){r - 0.3f, 1.4f, cabin_near + 0.28f}, (Place){l + 0.3f, 1.4f, cabin_near + 0.28f},
       paint_gradient(haze(rgb(0xa9c7d8), z), a.x, a.y, haze(glass, z), b.x, b.y));
  on_front(s, l + 0.1f, l + 0.42f, 0, 0.4f, z, rgb(0x17181c));
  on_front(s, r - 0.42f, r - 0.1f, 0, 0.4f, z, rgb(0x17181c));
  const float u = scale_at(s, z);
  const Point corner = project(s, (Place){l, 0.95f, z});
  draw_round_box(s->im, (Box){corner.x, corner.y, 1.8f * u, 0.68f * u}, 0.14f * u,
                 paint_gradient(haze(c, z), 0, corner.y, haze(dark, z), 0, corner.y + 0.68f * u));
  on_front(s, l + 0.05f, r - 0.05f, 0.28f, 0.42f, z, color_shade(dark, 0.6f));
  const Color lamp = away ? rgb(0xd8261f) : rgb(0xfff6d8);
  for (int i = 0; i < 2; i++) {
    const float lx = i ? r - 0.42f : l + 0.08f;
    const Point p = project(s, (Place){lx, 0.84f, z});
    draw_round_box(s->im, (Box){p.x, p.y, 0.34f * u, 0.17f * u}, 0.06f * u, paint_solid(lamp));
    draw_glow(s->im, p.x + 0.17f * u, p.y + 0.08f * u, 0.4f * u, 0.3f * u, (Color){lamp.r, lamp.g, lamp.b, 0.35f});
  }
  on_front(s, x - 0.26f, x + 0.26f, 0.5f, 0.62f, z, rgb(0xf1f1ea));
}

static void draw_person(Scene *s, float x, float z, uint32_t coat, uint32_t trousers, float stride) {
  const float u = scale_at(s, z);
  const Point f = project(s, (Place){x, 0, z});
  const Color cloth = haze(rgb(coat), z), legs = haze(rgb(trousers), z), skin = haze(rgb(0xd9a27e), z);
  shadow(s, x, z, 0.55f, 0.5f);
  const Point hip = {f.x, f.y - 0.88f * u}, neck = {f.x, f.y - 1.42f * u};
  draw_line(s->im, hip, (Point){f.x - stride * u, f.y - 0.03f * u}, 0.17f * u, color_shade(legs, 0.8f));
  draw_line(s->im, hip, (Point){f.x + stride * u, f.y - 0.03f * u}, 0.17f * u, legs);
  draw_line(s->im, neck, (Point){f.x + 1.1f * stride * u, f.y - 0.85f * u}, 0.12f * u, color_shade(cloth, 0.75f));
  draw_round_box(s->im, (Box){f.x - 0.2f * u, f.y - 1.5f * u, 0.4f * u, 0.72f * u}, 0.15f * u,
                 paint_gradient(color_shade(cloth, 0.8f), f.x - 0.2f * u, 0, cloth, f.x + 0.2f * u, 0));
  draw_line(s->im, neck, (Point){f.x - 1.1f * stride * u, f.y - 0.85f * u}, 0.12f * u, cloth);
  draw_ellipse(s->im, f.x, f.y - 1.64f * u, 0.115f * u, 0.14f * u, paint_solid(skin));
  draw_ellipse(s->im, f.x, f.y - 1.71f * u, 0.12f * u, 0.085f * u, paint_solid(haze(rgb(0x35271f), z)));
}

static void draw_bicycle(Scene *s, float x, float z, uint32_t coat) {
  const float u = scale_at(s, z);
  const Point f = project(s, (Place){x, 0, z});
  shadow(s, x, z, 0.9f, 0.4f);
  const Color dark = rgb(0x1c1e24), frame = rgb(0x1f7a8c);
  const Point rear = {f.x - 0.52f * u, f.y - 0.34f * u}, front = {f.x + 0.52f * u, f.y - 0.34f * u};
  const Point seat = {f.x - 0.22f * u, f.y - 0.92f * u};
  const Point bar = {f.x + 0.36f * u, f.y - 1.02f * u}, crank = {f.x - 0.03f * u, f.y - 0.34f * u};
  const Point shoulder = {f.x + 0.02f * u, f.y - 1.5f * u};
  for (int wheel = 0; wheel < 2; wheel++) {
    const Point c = wheel ? front : rear;
    Point last = {c.x + 0.33f * u, c.y};
    for (int i = 1; i <= 20; i++) {
      const Point p = {c.x + 0.33f * u * cosf(0.31415927f * (float)i), c.y + 0.33f * u * sinf(0.31415927f * (float)i)};
      draw_line(s->im, last, p, 0.05f * u, dark);
      last = p;
    }
  }
  draw_line(s->im, rear, seat, 0.05f * u, frame);
  draw_line(s->im, rear, crank, 0.05f * u, frame);
  draw_line(s->im, crank, seat, 0.05f * u, frame);
  draw_line(s->im, crank, bar, 0.05f * u, frame);
  draw_line(s->im, seat, bar, 0.05f * u, frame);
  draw_line(s->im, bar, front, 0.05f * u, frame);
  draw_line(s->im, seat, (Point){f.x + 0.16f * u, f.y - 0.62f * u}, 0.16f * u, rgb(0x2b3550));
  draw_line(s->im, (Point){f.x + 0.16f * u, f.y - 0.62f * u}, (Point){f.x + 0.02f * u, f.y - 0.22f * u}, 0.13f * u, rgb(0x2b3550));
  draw_line(s->im, seat, shoulder, 0.3f * u, rgb(coat));
  draw_line(s->im, shoulder, bar, 0.1f * u, color_shade(rgb(coat), 0.8f));
  draw_ellipse(s->im, f.x + 0.1f * u, f.y - 1.74f * u, 0.12f * u, 0.14f * u, paint_solid(rgb(0xcf9a76)));
  draw_ellipse(s->im, f.x + 0.09f * u, f.y - 1.8f * u, 0.14f * u, 0.1f * u, paint_solid(rgb(0xd23c2a)));
}

/* ---- all of it ---- */

static void draw_street(Scene *s) {
  for (float z = 70; z > 12; z -= 14.5f) {
    draw_tree(s, -6.4f, z, 6.2f);
    draw_tree(s, 6.6f, z - 4, 5.6f);
    draw_lamp(s, -4.8f, z - 7);
    draw_lamp(s, 4.8f, z - 10);
  }
  draw_car(s, -2.1f, 34, rgb(0xd6d9dc), false);
  draw_car(s, 2.1f, 26, rgb(0x3c5f95), true);
  draw_person(s, 6.0f, 19, 0x39465f, 0x22262e, 0.12f);
  draw_person(s, 6.7f, 18.6f, 0xc94f6d, 0x3a3f55, 0.16f);
  draw_person(s, -5.6f, 14, 0xe0a73a, 0x33404e, 0.17f);
  draw_car(s, -2.15f, 15.5f, rgb(0xe2b13a), false);
  draw_car(s, 2.1f, 11, rgb(0xb8322b), true);
  draw_traffic_light(s, 4.75f, 9);
  draw_bicycle(s, -3.3f, 7.3f, 0x3f8f5a);
  draw_person(s, -1.1f, 6.6f, 0x2f6fb0, 0x2a2d38, 0.2f);
}

spinec_status scene_draw(int side, Image *out, char err[RT_ERR_MAX]) {
  const spinec_status status = image_new(side, side, out, err);
  if (status) return status;
  Scene s = {out, (float)side, rng_new(11)};
  draw_sky(&s);
  draw_hills(&s);
  draw_ground(&s);
  draw_houses(&s, -1);
  draw_houses(&s, 1);
  draw_street(&s);
  return SPINEC_OK;
}
