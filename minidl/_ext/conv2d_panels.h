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

#endif
