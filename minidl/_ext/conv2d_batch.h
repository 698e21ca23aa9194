/* The gradient of a convolution's input, float32, with LANES images in the lanes: conv2d_direct_batch.c for
 * conv2d_batch.pyx. */
#ifndef MINIDL_CONV2D_BATCH_H
#define MINIDL_CONV2D_BATCH_H

#include "conv2d_direct.h"

struct batch_shape {
    ptrdiff_t C, H, W, OC, OH, OW, KH, KW;
    ptrdiff_t stride_h, stride_w, top, left, dilation_h, dilation_w;
};

struct conv2d_direct_batch {
    /* the weight (OC, C, KH, KW) in the order in which `band` reads it: as many numbers as there are */
    void (*pack)(float *packed, const float *weight, const struct batch_shape *s);
    /* numbers of scratch that a band of so many rows needs */
    ptrdiff_t (*scratch_size)(const struct batch_shape *s, ptrdiff_t rows);
    /* rows y ... y + rows - 1 of grad_input (images, C, H, W) for at most LANES images, from grad (images, OC, OH, OW),
     * or with codes from grad and codes (images, OC, OH / 2, OW / 2) */
    void (*band)(float *grad_input, const float *grad, const uint8_t *codes, ptrdiff_t images, const float *packed,
                 float *scratch, const struct batch_shape *s, ptrdiff_t y, ptrdiff_t rows);
};

KERNEL_TABLES(conv2d_direct_batch)

#endif
