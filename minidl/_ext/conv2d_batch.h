/* Convolutions, float32, with LANES images in the lanes: the gradient of the input, conv2d_direct_batch.c for
 * conv2d_batch.pyx, and forward with ReLU and pooling, conv2d_direct_batch_pool.c for conv2d_batch_pool.pyx. */
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

struct conv2d_batch_pool {
    ptrdiff_t (*packed_size)(const struct batch_shape *s);
    ptrdiff_t (*scratch_size)(const struct batch_shape *s);
    /* weight (OC, C, KH, KW) and bias (OC,) in the order in which `images` reads them */
    void (*pack)(float *packed, const float *weight, const float *bias, const struct batch_shape *s);
    /* out, codes (count, OC, OH / 2, OW / 2) of images (count, C, H, W) for at most LANES images; codes may be NULL;
     * kept_in: images (C, H, W, LANES), kept_out: out (OC, OH / 2, OW / 2, LANES) */
    void (*images)(float *out, uint8_t *codes, const float *images, ptrdiff_t count, int kept_in, int kept_out,
                   const float *packed, float *scratch, const struct batch_shape *s);
};

KERNEL_TABLES(conv2d_batch_pool)
KERNEL_TABLES(conv2d_direct_batch)

#endif
