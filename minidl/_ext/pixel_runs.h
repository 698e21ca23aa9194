/* From bytes to numbers, float32, in vectors as wide as the instruction set has (pixel_runs.c).
 *
 * scale   to (n,) = (from (n,) / 255 - mean) / std
 *
 * Two divisions and a subtraction, each rounded by itself as NumPy rounds them: there is no product that a fused
 * multiply-add could take in, so that every instruction set gives the same bits. */
#ifndef MINIDL_PIXEL_RUNS_H
#define MINIDL_PIXEL_RUNS_H

#include <stddef.h>
#include <stdint.h>

struct pixel_runs {
    void (*scale)(float *to, const uint8_t *from, float mean, float std, ptrdiff_t n);
};

#endif
