/* Products of packed panels, which the convolution kernels are made of.
 *
 * A panel of b is (K, nv * LANES) numbers: K rows, each of nv vectors, one number per output pixel.  A block of a is
 * (K, MR): one number per output channel.  Their product (MR, nv * LANES) is held in registers: 24 vectors of 32 with
 * AVX-512, 12 of 16 elsewhere, beside one row of b and one number of a. */
#ifndef MINIDL_CONV2D_PANELS_H
#define MINIDL_CONV2D_PANELS_H

#include "lanes.h"

#if REGISTERS == 32
#define MR 8
#else
#define MR 4
#endif
#define NV 3
#define PANEL (NV * LANES)
#define DEPTH 128 /* rows of a panel that are worked on at once: with AVX-512 24 KB, half of a first-level cache */

typedef float channels __attribute__((vector_size(4 * MR), aligned(4), may_alias)); /* one number per channel */

#define DEFINE_PRODUCT(nv)                                                                                         \
    static void product_##nv(ptrdiff_t K, const float *a, const float *b, float *c, ptrdiff_t ldc, int add)        \
    {                                                                                                              \
        lanes sum[MR][nv];                                                                                         \
        for (int i = 0; i < MR; i++)                                                                               \
            for (int v = 0; v < nv; v++)                                                                           \
                sum[i][v] = (lanes){0};                                                                            \
        for (ptrdiff_t k = 0; k < K; k++, a += MR, b += nv * LANES) {                                              \
            lanes row[nv];                                                                                         \
            for (int v = 0; v < nv; v++)                                                                           \
                row[v] = load(b + v * LANES);                                                                      \
            for (int i = 0; i < MR; i++) {                                                                         \
                lanes factor = spread(a[i]);                                                                       \
                for (int v = 0; v < nv; v++)                                                                       \
                    sum[i][v] += factor * row[v];                                                                  \
            }                                                                                                      \
        }                                                                                                          \
        for (int i = 0; i < MR; i++)                                                                               \
            for (int v = 0; v < nv; v++) {                                                                         \
                float *to = c + i * ldc + v * LANES;                                                               \
                store(to, add ? load(to) + sum[i][v] : sum[i][v]);                                                 \
            }                                                                                                      \
    }

DEFINE_PRODUCT(1)
DEFINE_PRODUCT(2)
DEFINE_PRODUCT(3)

/* c (MR, nv * LANES), rows ldc apart, = or += the product of a (K, MR) and b (K, nv * LANES) */
INLINE void product(int nv, ptrdiff_t K, const float *a, const float *b, float *c, ptrdiff_t ldc, int add)
{
    if (nv == 3)
        product_3(K, a, b, c, ldc, add);
    else if (nv == 2)
        product_2(K, a, b, c, ldc, add);
    else
        product_1(K, a, b, c, ldc, add);
}

INLINE ptrdiff_t least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

INLINE ptrdiff_t most(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }

/* so many numbers, rounded up to whole cache lines */
INLINE ptrdiff_t whole_lines(ptrdiff_t numbers) { return (numbers + 31) / 32 * 32; }

/* a copy of few numbers: no call */
INLINE void copy(float *to, const float *from, ptrdiff_t n)
{
    for (; n >= LANES; n -= LANES, to += LANES, from += LANES)
        store(to, load(from));
    for (; n >= 4; n -= 4, to += 4, from += 4)
        memcpy(to, from, 16);
    for (; n > 0; n--)
        *to++ = *from++;
}

INLINE void copy_plus(float *to, const float *from, float more, ptrdiff_t n)
{
    for (; n >= LANES; n -= LANES, to += LANES, from += LANES)
        store(to, load(from) + spread(more));
    for (; n > 0; n--)
        *to++ = *from++ + more;
}

INLINE void clear(float *to, ptrdiff_t n)
{
    for (; n >= LANES; n -= LANES, to += LANES)
        store(to, (lanes){0});
    for (; n > 0; n--)
        *to++ = 0;
}

/* to (step, plane) = the rows top ... top + rows - 1 of the input plane `from` (H, W), 0 outside of it.  Part p of `to`
 * holds `row` columns of it, p - left, p - left + step, ... */
INLINE void stage_plane(float *to, ptrdiff_t plane, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t step, const float *from,
                        ptrdiff_t H, ptrdiff_t W, ptrdiff_t top, ptrdiff_t left)
{
    for (ptrdiff_t part = 0; part < step; part++) {
        float *line = to + part * plane;
        ptrdiff_t offset = part - left; /* column i is input column i * step + offset */
        ptrdiff_t begin = least(offset < 0 ? (-offset + step - 1) / step : 0, row);
        ptrdiff_t end = most(begin, least(W > offset ? (W - 1 - offset) / step + 1 : 0, row));
        for (ptrdiff_t h = top; h < top + rows; h++, line += row) {
            const float *start = from + h * W + offset;
            if (h < 0 || h >= H) {
                clear(line, row);
                continue;
            }
            clear(line, begin);
            if (step == 1)
                copy(line + begin, start + begin, end - begin);
            else if (step == 2)
                for (ptrdiff_t i = begin; i < end; i++)
                    line[i] = start[i * 2];
            else
                for (ptrdiff_t i = begin; i < end; i++)
                    line[i] = start[i * step];
            clear(line + end, row - end);
        }
    }
}

/* LANES rows of LANES numbers become columns: blocks of half the size change places, then their quarters, ... */
INLINE void transpose(lanes *rows)
{
#if LANES == 16
    const int_lanes lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif LANES == 8
    const int_lanes lane = {0, 1, 2, 3, 4, 5, 6, 7};
#else
    const int_lanes lane = {0, 1, 2, 3};
#endif
#pragma GCC unroll 4
    for (int size = LANES / 2; size > 0; size /= 2) {
        const int_lanes set = (lane & size) != 0; /* -1 in lanes of the upper half */
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            if (!(i & size)) {
                lanes a = rows[i], b = rows[i + size];
                rows[i] = __builtin_shuffle(a, b, (lane ^ (set & size)) + (set & LANES));
                rows[i + size] = __builtin_shuffle(a, b, (lane ^ (~set & size)) + (set & LANES));
            }
    }
}

#endif
