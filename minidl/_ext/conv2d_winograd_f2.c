/* F(2x2, 3x3): 16 products where 4 output pixels would take 36.  Its factors are 1 and 1/2, it is as exact as a sum. */
#include "conv2d_job.h"
#include "conv2d_panels.h"

#define TILE 2
#define NAME conv2d_winograd_f2

INLINE void see(lanes *t, const lanes *d)
{
    t[0] = d[0] - d[2];
    t[1] = d[1] + d[2];
    t[2] = d[2] - d[1];
    t[3] = d[1] - d[3];
}

INLINE void weigh(channels *t, const channels *w)
{
    channels outer = w[0] + w[2];
    t[0] = w[0];
    t[1] = 0.5f * (outer + w[1]);
    t[2] = 0.5f * (outer - w[1]);
    t[3] = w[2];
}

INLINE void leave(lanes *y, const lanes *t)
{
    y[0] = t[0] + t[1] + t[2];
    y[1] = t[1] - t[2] - t[3];
}

#include "conv2d_winograd.h"
