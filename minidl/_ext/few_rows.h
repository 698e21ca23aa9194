/* Products of a weight matrix with few rows, float32: what Linear does with one image or a handful.
 *
 * BLAS is made for matrices that are read many times.  Here each number of the weight meets only N others, and what
 * counts is to read (or write) the weight once, in whole vectors.
 *
 *     input (N, in)   weight (out, in)   bias (out,) or NULL   output, grad_output (N, out)
 *
 * Each function does the outputs (or inputs) from `first` to before `last`, so that threads can share the work; every
 * sum is made by one thread in a fixed order.  All arrays are dense. */
#ifndef MINIDL_FEW_ROWS_H
#define MINIDL_FEW_ROWS_H

#include <stddef.h>

#define MOST_FEW_ROWS 16

struct few_rows {
    void (*forward)(float *output, const float *input, const float *weight, const float *bias, ptrdiff_t N,
                    ptrdiff_t in, ptrdiff_t out, ptrdiff_t first, ptrdiff_t last);
    void (*backward_input)(float *grad_input, const float *grad_output, const float *weight, ptrdiff_t N, ptrdiff_t in,
                           ptrdiff_t out, ptrdiff_t first, ptrdiff_t last);
    void (*backward_weight)(float *grad_weight, const float *grad_output, const float *input, ptrdiff_t N,
                            ptrdiff_t in, ptrdiff_t out, ptrdiff_t first, ptrdiff_t last);
};

#endif
