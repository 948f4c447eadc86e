/* backend/interp/select.c: which instruction an operator is, by element type. What has none goes through EVAL. */
#include "interp.h"

Code select_width(Code one, int lanes) { return one + (lanes == 1 ? 0 : lanes == 4 ? 1 : lanes == 8 ? 2 : lanes == 16 ? 3 : 4); }

static int scalar_code_f64(XOp op) {
  switch ((int)op) {
  case X_ADD: return I_ADD_D;
  case X_SUB: return I_SUB_D;
  case X_MUL: return I_MUL_D;
  case X_DIV: return I_DIV_D;
  }
  return -1;
}

static int scalar_code_i64(XOp op) {
  switch ((int)op) {
  case X_ADD: return I_ADD_L;
  case X_SUB: return I_SUB_L;
  case X_MUL: return I_MUL_L;
  case X_DIV: return I_DIV_L;
  case X_REM: return I_REM_L;
  case X_MIN: return I_MIN_L;
  case X_MAX: return I_MAX_L;
  case X_EQ: return I_EQ_L;
  case X_NE: return I_NE_L;
  case X_LT: case X_GT: return I_LT_L;
  case X_LE: case X_GE: return I_LE_L;
  }
  return -1;
}

static int wide_code_f32(XOp op) {
  switch ((int)op) {
  case X_ADD: return I_ADD_F_1;
  case X_SUB: return I_SUB_F_1;
  case X_MUL: return I_MUL_F_1;
  case X_DIV: return I_DIV_F_1;
  case X_MIN: return I_MIN_F_1;
  case X_MAX: return I_MAX_F_1;
  case X_NEG: return I_NEG_F_1;
  case X_ABS: return I_ABS_F_1;
  case X_SQRT: return I_SQRT_F_1;
  case X_EQ: return I_EQ_F_1;
  case X_NE: return I_NE_F_1;
  case X_LT: case X_GT: return I_LT_F_1;
  case X_LE: case X_GE: return I_LE_F_1;
  }
  return -1;
}

static int wide_code_i32(XOp op, DType t) {
  switch ((int)op) {
  case X_ADD: return I_ADD_I_1;
  case X_SUB: return I_SUB_I_1;
  case X_MUL: return I_MUL_I_1;
  case X_MIN: return I_MIN_I_1;
  case X_MAX: return I_MAX_I_1;
  case X_AND: return I_AND_I_1;
  case X_OR: return I_OR_I_1;
  case X_XOR: return I_XOR_I_1;
  case X_SHL: return I_SHL_I_1;
  case X_SHR: return I_SHR_I_1;
  case X_NEG: return I_NEG_I_1;
  case X_NOT: return t == DT_BOOL ? I_NOT_BOOL_1 : I_NOT_I_1;
  case X_EQ: return I_EQ_I_1;
  case X_NE: return I_NE_I_1;
  case X_LT: case X_GT: return I_LT_I_1;
  case X_LE: case X_GE: return I_LE_I_1;
  }
  return -1;
}

int select_arithmetic(XOp op, DType t) {
  if (t == DT_IDX || t == DT_I64) return scalar_code_i64(op);
  if (t == DT_F64) return scalar_code_f64(op);
  if (t == DT_F32) return wide_code_f32(op);
  return SLOT_IS_32(t) ? wide_code_i32(op, t) : -1;
}

int select_convert(XOp op, DType to, DType from) {
  bool word = !SLOT_IS_32(from) && from != DT_F64, to_word = to == DT_I64 || to == DT_U64 || to == DT_IDX;
  if (to == from) return 0;
  if (op == X_BITCAST) {
    if ((to == DT_F32 && from == DT_I32) || (to == DT_I32 && from == DT_F32)) return 0;
    return xt_bits(to) == 64 && xt_bits(from) == 64 ? 0 : -1;
  }
  if (from == DT_F32) return to == DT_I32 ? 1 + I_F_TO_I_1 : to == DT_BOOL ? 1 + I_F_TO_BOOL_1 : -1;
  if (from == DT_I32 || from == DT_BOOL) {
    if (to == DT_F32) return 1 + I_I_TO_F_1;
    if (to == DT_BOOL) return 1 + I_I_TO_BOOL_1;
    return to == DT_I32 ? 0 : to_word ? 1 + I_I_TO_L : -1;
  }
  if (!word) return -1;
  if (to_word) return 0;
  return to == DT_I32 ? 1 + I_L_TO_I : to == DT_F32 && from != DT_U64 ? 1 + I_L_TO_F : -1;
}

Code select_load(Type t) {
  switch ((int)t.dt) {
  case DT_F32: case DT_I32: return select_width(I_LOAD_1, t.lanes);
  case DT_I8: return I_LOAD_I8;
  case DT_U8: return I_LOAD_U8;
  case DT_I16: return I_LOAD_I16;
  case DT_U16: return I_LOAD_U16;
  case DT_U32: return I_LOAD_U32;
  case DT_BOOL: return I_LOAD_BOOL;
  }
  return I_LOAD_64;
}

Code select_store(Type t) {
  switch ((int)t.dt) {
  case DT_F32: case DT_I32: return select_width(I_STORE_1, t.lanes);
  case DT_I8: case DT_U8: return I_PUT_8;
  case DT_BOOL: return I_PUT_BOOL;
  case DT_I16: case DT_U16: return I_PUT_16;
  case DT_U32: return I_PUT_32;
  }
  return I_PUT_64;
}
