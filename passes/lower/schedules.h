/* passes/lower/schedules.h: the table of schedules, faster ways to compute an operator than its family's plain lowering.
 *
 * Tried in table order, at -O1 and up; the first that returns true has lowered the node. A schedule that returns false has opened no
 * kernel and added nothing to the program. Results equal the plain lowering's within rounding.
 */
#ifndef PASSES_LOWER_SCHEDULES_H
#define PASSES_LOWER_SCHEDULES_H

#include "../../ir/lower.h"

typedef struct LowerSchedule {
  Op op;
  Schedule apply;
  const char *name;        /* for --stats */
} LowerSchedule;

bool pool_blocked(Lower *l, const Node *n);   /* pool.c: maximum and average over images of BLOCKED channels */

extern const LowerSchedule lower_schedules[];   /* ends with a NULL apply */

#endif
