/* Planes of 2x2 windows with stride 2, float32, in vectors as wide as the instruction set has (windows.c).
 *
 * This is the pooling of most small networks, and compilers do not vectorise a search for a maximum and its place.
 *
 *     output, grad_output   (OH, OW), a window each
 *     input, grad_input     their pixels: (2 * OH, W) with 2 * OW <= W
 *     index                 (OH, OW) int32, per window the place of its maximum: row * W + column
 *
 * max_plane     output = the maximum of each window (a NaN wins), index = where it lies (the first of equals)
 * unmax_plane   grad_input = grad_output where the maximum was, else zero
 * sum_plane     output = factor * the sum of each window
 * spread_plane  grad_input = factor * grad_output in all four pixels
 *
 * Columns of grad_input from 2 * OW on are left alone. */
#ifndef MINIDL_WINDOWS_H
#define MINIDL_WINDOWS_H

#include <stddef.h>
#include <stdint.h>

struct windows {
    void (*max_plane)(float *output, int32_t *index, const float *input, ptrdiff_t W, ptrdiff_t OH, ptrdiff_t OW);
    void (*unmax_plane)(float *grad_input, const int32_t *index, const float *grad_output, ptrdiff_t W, ptrdiff_t OH,
                        ptrdiff_t OW);
    void (*sum_plane)(float *output, const float *input, ptrdiff_t W, ptrdiff_t OH, ptrdiff_t OW, float factor);
    void (*spread_plane)(float *grad_input, const float *grad_output, ptrdiff_t W, ptrdiff_t OH, ptrdiff_t OW,
                         float factor);
};

#endif
