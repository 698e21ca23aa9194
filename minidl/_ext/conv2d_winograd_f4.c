/* F(4x4, 3x3): 36 products where 16 output pixels would take 144.  Its factors reach from 1/24 to 8: about ten times
 * the rounding error of a sum. */
#include "conv2d_job.h"
#include "conv2d_panels.h"

#define TILE 4
#define NAME conv2d_winograd_f4

INLINE void see(lanes *t, const lanes *d)
{
    lanes even = d[4] - 4.0f * d[2], odd = d[3] - 4.0f * d[1], far = d[4] - d[2], twice = 2.0f * (d[3] - d[1]);
    t[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
    t[1] = even + odd;
    t[2] = even - odd;
    t[3] = far + twice;
    t[4] = far - twice;
    t[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

INLINE void weigh(channels *t, const channels *w)
{
    channels outer = (w[0] + w[2]) * (-1.0f / 6), middle = w[1] * (1.0f / 6);
    channels far = w[0] * (1.0f / 24) + w[2] * (1.0f / 6), half = w[1] * (1.0f / 12);
    t[0] = 0.25f * w[0];
    t[1] = outer - middle;
    t[2] = outer + middle;
    t[3] = far + half;
    t[4] = far - half;
    t[5] = w[2];
}

INLINE void leave(lanes *y, const lanes *t)
{
    lanes sum = t[1] + t[2], difference = t[1] - t[2], far_sum = t[3] + t[4], far_difference = t[3] - t[4];
    y[0] = t[0] + sum + far_sum;
    y[1] = difference + 2.0f * far_difference;
    y[2] = sum + 4.0f * far_sum;
    y[3] = difference + 8.0f * far_difference + t[5];
}

#include "conv2d_winograd.h"
