/* schedules.c: which schedules exist, in the order they are tried. */
#include "schedules.h"
#include "conv_plan.h"

const LowerSchedule lower_schedules[] = {
    {OP_Conv, conv_depthwise, "depthwise"},
    {OP_Conv, conv_stream, "convolution streamed into a window"},
    {OP_Conv, conv_winograd, "winograd convolution"},
    {OP_Conv, conv_winograd_apart, "direct convolution"},
    {OP_Conv, conv_direct, "direct convolution"},
    {OP_ConvSum, conv_direct, "sum of convolutions"},
    {OP_ConvTranspose, conv_transposed, "transposed convolution"},
    {OP_MaxPool, pool_blocked, "pool"},
    {OP_AveragePool, pool_blocked, "pool"},
    {OP_COUNT, NULL, NULL},
};
