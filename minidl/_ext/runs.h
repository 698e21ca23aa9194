/* Short runs of numbers: copy, add, scale-and-add, dot product, for the inner loops of convolution.
 *
 * im2col moves runs of a few dozen bytes, for which a call of memcpy costs more than the copy; and the compiler may
 * not reorder a floating point sum unless told to, which "omp simd reduction" does (a fixed order: the same bits
 * every time).  Everything else in these kernels is Cython. */
#ifndef MINIDL_RUNS_H
#define MINIDL_RUNS_H

#include <stddef.h>
#include <string.h>

/* Copies n bytes, a multiple of 4.  In whole pieces of 64, 32 or 16 bytes, the last one overlapping the one before,
 * so that there is no loop over what is left; memcpy wins from a few hundred bytes on. */
static inline void copy_run(void *restrict to, const void *restrict from, ptrdiff_t n)
{
    char *t = (char *)to;
    const char *f = (const char *)from;
    if (n >= 64) {
        if (n > 320) {
            memcpy(t, f, (size_t)n);
            return;
        }
        for (ptrdiff_t i = 0; i < n - 64; i += 64)
            memcpy(t + i, f + i, 64);
        memcpy(t + n - 64, f + n - 64, 64);
    } else if (n >= 32) {
        memcpy(t, f, 32);
        memcpy(t + n - 32, f + n - 32, 32);
    } else if (n >= 16) {
        memcpy(t, f, 16);
        memcpy(t + n - 16, f + n - 16, 16);
    } else {
        for (ptrdiff_t i = 0; i < n; i += 4)
            memcpy(t + i, f + i, 4);
    }
}

#define MINIDL_RUNS(real, suffix)                                                                                  \
    typedef real vector_##suffix __attribute__((vector_size(16)));                                                 \
                                                                                                                   \
    static inline vector_##suffix load_##suffix(const real *from)                                                  \
    {                                                                                                              \
        vector_##suffix v;                                                                                         \
        memcpy(&v, from, sizeof v);                                                                                \
        return v;                                                                                                  \
    }                                                                                                              \
    /* to[i] += from[i] */                                                                                         \
    static inline void add_run_##suffix(real *restrict to, const real *restrict from, ptrdiff_t n)                 \
    {                                                                                                              \
        _Pragma("omp simd") for (ptrdiff_t i = 0; i < n; i++) to[i] += from[i];                                    \
    }                                                                                                              \
    /* to[i * to_step] += factor * from[i * from_step] */                                                          \
    static inline void scaled_add_run_##suffix(real *restrict to, ptrdiff_t to_step, const real *restrict from,    \
                                               ptrdiff_t from_step, real factor, ptrdiff_t n)                      \
    {                                                                                                              \
        if (to_step == 1 && from_step == 1) {                                                                      \
            _Pragma("omp simd") for (ptrdiff_t i = 0; i < n; i++) to[i] += factor * from[i];                       \
        } else {                                                                                                   \
            for (ptrdiff_t i = 0; i < n; i++) to[i * to_step] += factor * from[i * from_step];                     \
        }                                                                                                          \
    }                                                                                                              \
    /* sum of a[i] * b[i * b_step] */                                                                              \
    static inline real dot_run_##suffix(const real *a, const real *b, ptrdiff_t b_step, ptrdiff_t n)               \
    {                                                                                                              \
        real sum = 0;                                                                                              \
        if (b_step == 1) {                                                                                         \
            _Pragma("omp simd reduction(+ : sum)") for (ptrdiff_t i = 0; i < n; i++) sum += a[i] * b[i];           \
        } else {                                                                                                   \
            _Pragma("omp simd reduction(+ : sum)") for (ptrdiff_t i = 0; i < n; i++) sum += a[i] * b[i * b_step];  \
        }                                                                                                          \
        return sum;                                                                                                \
    }                                                                                                              \
    /* sum of a[i], in four vectors, because each addition waits for the one before it */                          \
    static inline real sum_run_##suffix(const real *a, ptrdiff_t n)                                                \
    {                                                                                                              \
        const ptrdiff_t lanes = 16 / sizeof(real);                                                                 \
        vector_##suffix p = {0}, q = {0}, r = {0}, s = {0};                                                        \
        ptrdiff_t i = 0;                                                                                           \
        for (; i + 4 * lanes <= n; i += 4 * lanes) {                                                               \
            p += load_##suffix(a + i);                                                                             \
            q += load_##suffix(a + i + lanes);                                                                     \
            r += load_##suffix(a + i + 2 * lanes);                                                                 \
            s += load_##suffix(a + i + 3 * lanes);                                                                 \
        }                                                                                                          \
        p = (p + q) + (r + s);                                                                                     \
        real sum = 0;                                                                                              \
        for (; i < n; i++)                                                                                         \
            sum += a[i];                                                                                           \
        for (ptrdiff_t lane = 0; lane < lanes; lane++)                                                             \
            sum += p[lane];                                                                                        \
        return sum;                                                                                                \
    }

MINIDL_RUNS(float, f32)
MINIDL_RUNS(double, f64)

#endif
