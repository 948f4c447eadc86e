/* schedules.c: which schedules exist, in the order they are tried. */
#include "schedules.h"

const LowerSchedule lower_schedules[] = {
    {OP_COUNT, NULL, NULL},
};
