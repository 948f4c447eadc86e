/* opset.c: the table of ONNX operators, from onnx_ops.def, and the checks it makes possible before a handler runs. */
#include "import.h"

#include <stdlib.h>
#include <string.h>

#define ONNX_OP(name, handler, op, since, until, types, min_in, max_in, max_out) \
  {#name, handler, op, since, until, types, min_in, max_in, max_out, NULL},
#define ONNX_NO(name, why) {#name, NULL, OP_COUNT, 0, 0, "", 0, 0, 0, why},
static const OpRow rows[] = {
#include "onnx_ops.def"
};
#undef ONNX_OP
#undef ONNX_NO

static int compare(const void *name, const void *row) { return strcmp(name, ((const OpRow *)row)->name); }

const OpRow *op_row(const char *name) { return bsearch(name, rows, COUNTOF(rows), sizeof *rows, compare); }

const char *onnx_supported_op(int i) {
  for (int r = 0; r < COUNTOF(rows) && i >= 0; r++)
    if (rows[r].import && i-- == 0) return rows[r].name;
  return NULL;
}

/* What a letter of OpRow.types admits. */
static bool admits(char letter, const Value *v, const Value *first) {
  switch (letter) {
  case '*': return true; /* anything, half precision included */
  case 'a': return dt_computable(v->dt);
  case 'f': return dt_computable(v->dt) && dt_is_float(v->dt);
  case 'n': return dt_computable(v->dt) && v->dt != DT_BOOL;
  case 'i': return dt_is_int(v->dt);
  case 'b': return v->dt == DT_BOOL;
  case 'x': return v->dt == DT_I64 || v->dt == DT_I32;
  case 'q': return v->dt == DT_I8 || v->dt == DT_U8;
  case '=': return v->dt == first->dt;
  }
  return false;
}

static const char *expected(char letter) {
  switch (letter) {
  case 'f': return "floating point (f32 or f64)";
  case 'n': return "a number";
  case 'i': return "an integer";
  case 'b': return "bool";
  case 'x': return "i64 or i32";
  case 'q': return "i8 or u8";
  }
  return "a type that can be computed with";
}

bool op_types_check(Onode *o) {
  const OpRow *r = o->row;
  if (r->max_in >= 0 && o->nin > r->max_in) return onnx_bad(o, NULL, "%d operands given, at most %d expected", o->nin, r->max_in);
  if (r->max_out >= 0 && o->nout > r->max_out) return onnx_bad(o, NULL, "%d outputs named, at most %d exist", o->nout, r->max_out);
  for (int i = 0; i < r->min_in; i++)
    if (!has_in(o, i)) return onnx_bad(o, NULL, "operand %d is missing", i + 1);
  int last = (int)strlen(r->types) - 1;
  for (int i = 0; i < o->nin && last >= 0; i++) {
    char letter = r->types[MINI(i, last)];
    if (!o->in[i] || admits(letter, o->in[i], o->in[0])) continue;
    if (letter == '=')
      return onnx_bad(o, NULL, "operand %d is of type %s, the first of type %s", i + 1, dt_name(o->in[i]->dt), dt_name(o->in[0]->dt));
    return onnx_refuse(o, NULL, "operand %d is of type %s, expected %s", i + 1, dt_name(o->in[i]->dt), expected(letter));
  }
  return true;
}
