/* rows.c: images and rings of rows; see rows.h. */
#include "rows.h"

#include "conv_plan.h"

Rows rows_of(Lower *l, const Value *x) {
  int lanes = l->t->lanes;
  return (Rows){.v = lower_in(l, x), .blocks = div_up(x->shape.d[1].n, lanes), .height = x->shape.d[2].n, .width = x->shape.d[3].n, .lanes = lanes};
}

int64_t rows_ring_bytes(const Value *x, int64_t height, int lanes) {
  return div_up(x->shape.d[1].n, lanes) * height * x->shape.d[3].n * lanes * 4;
}

Rows rows_ring(Lower *l, const Value *x, int64_t height) {
  int lanes = l->t->lanes;
  Var *v = lower_scratch(l, "rows", DT_F32, rows_ring_bytes(x, height, lanes));
  lower_keep_rows(l, x, v, height);
  return (Rows){.v = v, .blocks = div_up(x->shape.d[1].n, lanes), .height = height, .width = x->shape.d[3].n, .lanes = lanes, .ring = true};
}

Expr *rows_at(Build *b, const Rows *r, Expr *img, Expr *cb, Expr *y, Expr *x) {
  Expr *plane = r->ring ? cb : x_add(b, x_muli(b, img, r->blocks), cb), *place = r->ring ? x_remi(b, y, r->height) : y;
  return x_muli(b, x_add(b, x_muli(b, x_add(b, x_muli(b, plane, r->height), place), r->width), x), r->lanes);
}
