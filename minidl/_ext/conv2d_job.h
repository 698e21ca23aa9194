/* What a float32 convolution kernel is asked for: a convolution with stride, or the gradient of its input with
 * stride 1, which is a convolution of grad_output with the kernel turned by 180 degrees and C and OC exchanged. */
#ifndef MINIDL_CONV2D_JOB_H
#define MINIDL_CONV2D_JOB_H

#include <stddef.h>

#include "lanes.h"

struct conv2d_job {
    ptrdiff_t N, groups, C, H, W, OC, OH, OW; /* C and OC are those of one group */
    ptrdiff_t KH, KW, stride_h, stride_w, top, left, dilation_h, dilation_w;
    ptrdiff_t oc_step, c_step; /* from one output or input channel to the next in weight */
    int flipped;               /* the last tap of weight is the first one */

    /* plan() fills in the rest: how the output is cut into items that threads share */
    ptrdiff_t images, rows;     /* a strip: so many rows of so many images */
    ptrdiff_t parts, down;      /* strips over all images, and down one image */
    ptrdiff_t blocks, splits;   /* blocks of output channels, cut into so many items */
    ptrdiff_t items;            /* splits * groups * parts * down, the last one counted fastest */
    ptrdiff_t shares, sums;     /* of a weight gradient: partial sums that are added up, and their numbers */
    ptrdiff_t panels;           /* that are worked on at once */
    ptrdiff_t packed, scratch;  /* numbers: the packed weight, and the scratch of one thread */
    ptrdiff_t row, plane, image; /* of the staged input, in numbers */
};

struct conv2d_strip {
    ptrdiff_t group, n, images, oh, rows, first_block, last_block;
};

/* Kernels that pack the weight first: pack() in shares of `groups * blocks` blocks, then multiply() in shares of items. */
#define CONV2D_KERNEL                                                                                              \
    void (*plan)(struct conv2d_job *job, int threads);                                                             \
    void (*pack)(const struct conv2d_job *job, float *packed, const float *weight, ptrdiff_t first, ptrdiff_t last); \
    void (*multiply)(const struct conv2d_job *job, float *output, const float *input, const float *packed,         \
                     const float *bias, float *scratch, ptrdiff_t first, ptrdiff_t last)

struct conv2d_packed {
    CONV2D_KERNEL;
};
struct conv2d_winograd_f2 {
    CONV2D_KERNEL;
};
struct conv2d_winograd_f4 {
    CONV2D_KERNEL;
};

/* The weight gradient: accumulate() once per thread, then finish() in shares of `groups * blocks` blocks. */
struct conv2d_weight {
    void (*plan)(struct conv2d_job *job, int threads);
    void (*accumulate)(const struct conv2d_job *job, float *sums, const float *grad_output, const float *input,
                       float *scratch, int thread);
    void (*finish)(const struct conv2d_job *job, float *grad_weight, const float *sums, ptrdiff_t first,
                   ptrdiff_t last);
};

/* The kernel of groups of few channels: multiply() in shares of items, multiply_weight() in shares of groups. */
struct conv2d_planes {
    void (*plan)(struct conv2d_job *job, int threads);
    void (*multiply)(const struct conv2d_job *job, float *output, const float *input, const float *weight,
                     const float *bias, float *scratch, ptrdiff_t first, ptrdiff_t last);
    void (*multiply_weight)(const struct conv2d_job *job, float *grad_weight, const float *grad_output,
                            const float *input, float *scratch, ptrdiff_t first, ptrdiff_t last);
};

KERNEL_TABLES(conv2d_planes)
KERNEL_TABLES(conv2d_packed)
KERNEL_TABLES(conv2d_weight)
KERNEL_TABLES(conv2d_winograd_f2)
KERNEL_TABLES(conv2d_winograd_f4)

static inline struct conv2d_strip conv2d_strip_at(const struct conv2d_job *job, ptrdiff_t item)
{
    struct conv2d_strip s;
    ptrdiff_t split, part;
    s.oh = item % job->down * job->rows;
    item /= job->down;
    part = item % job->parts;
    item /= job->parts;
    s.group = item % job->groups;
    split = item / job->groups;
    s.n = part * job->images;
    s.images = job->N - s.n < job->images ? job->N - s.n : job->images;
    s.rows = job->OH - s.oh < job->rows ? job->OH - s.oh : job->rows;
    s.first_block = job->blocks * split / job->splits;
    s.last_block = job->blocks * (split + 1) / job->splits;
    return s;
}

#endif
