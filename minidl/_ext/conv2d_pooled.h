/* The gradients of a convolution from pooled gradients, float32: conv2d_pooled_weight.c and conv2d_pooled_input.c for
 * conv2d_pooled.pyx.
 *
 * Behind relu and 2x2 max pooling at most one pixel of a window has a gradient.  A code (conv2d_direct.h) tells which,
 * or 4: none.  An image's gradients and codes are (OC, OH / 2, OW / 2). */
#ifndef MINIDL_CONV2D_POOLED_H
#define MINIDL_CONV2D_POOLED_H

#include "conv2d_direct.h"

struct pooled_shape {
    ptrdiff_t C, H, W, OC, OH, OW, KH, KW, top, left;   /* stride and dilation are 1 */
};

struct conv2d_pooled_weight {
    /* scratch numbers of a thread, and numbers of total */
    ptrdiff_t (*scratch_size)(const struct pooled_shape *s);
    ptrdiff_t (*total_size)(const struct pooled_shape *s);
    /* total += what one image (C, H, W) with its grad and codes gives; sums (OC,): of its live gradients */
    void (*image)(float *total, float *sums, const float *grad, const uint8_t *codes, const float *image,
                  float *scratch, const struct pooled_shape *s);
    void (*result)(float *grad_weight, const float *total, const struct pooled_shape *s);
};

struct conv2d_pooled_input {
    ptrdiff_t (*packed_size)(const struct pooled_shape *s);
    ptrdiff_t (*scratch_size)(const struct pooled_shape *s);
    void (*pack)(float *packed, const float *weight, const struct pooled_shape *s);
    /* grad_image (C, H, W) */
    void (*image)(float *grad_image, const float *grad, const uint8_t *codes, const float *packed, float *scratch,
                  const struct pooled_shape *s);
};

KERNEL_TABLES(conv2d_pooled_weight)
KERNEL_TABLES(conv2d_pooled_input)

#endif
