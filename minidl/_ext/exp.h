/* y[i] = exp(x[i] - shift) for runs of numbers, y and x the same or apart.
 *
 * libm's expf is a function call for each number.  Here float32 is written out without a branch, so that the compiler
 * puts the loop into vector registers: exp(x) = 2**n * exp(r) with n the integer nearest to x / ln 2 and
 * |r| <= ln 2 / 2, where eight terms of the Taylor series are exact to 5e-9.  The error is below 2 units in the last
 * place over the whole range, denormal results included; -inf gives 0, NaN gives NaN.  float64 calls libm.
 *
 * With GCC 12 and glibc on x86-64 the loop is compiled three times and the widest that the processor has is taken when
 * the module is loaded. */
#ifndef MINIDL_EXP_H
#define MINIDL_EXP_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && __GNUC__ >= 12
#define MINIDL_WIDEST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MINIDL_WIDEST
#endif

/* 2**n for -126 <= n <= 127, put together from its bits */
static inline __attribute__((always_inline)) float power_of_two(int32_t n)
{
    uint32_t bits = (uint32_t)(n + 127) << 23;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

static inline __attribute__((always_inline)) float exp_f32(float x)
{
    const float magic = 12582912.0f;  /* 1.5 * 2**23: adding it rounds to an integer, left in the low bits */
    const int32_t magic_bits = 0x4b400000;
    x = -105.0f > x ? -105.0f : x;    /* exp gives 0; a comparison with NaN is false, so NaN passes */
    x = 89.0f < x ? 89.0f : x;        /* exp gives inf */

    float shifted = x * 1.44269504f + magic;
    float n = shifted - magic;
    float r = x - n * 0.693359375f;   /* ln 2 in two pieces, 0.693359375 - 2.1219444e-4: nothing of r is lost */
    r = r + n * 2.12194440e-4f;
    float series = r * (1.0f / 5040) + 1.0f / 720;
    series = series * r + 1.0f / 120;
    series = series * r + 1.0f / 24;
    series = series * r + 1.0f / 6;
    series = series * r + 0.5f;
    series = series * r * r + r + 1.0f;

    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    int32_t whole = (int32_t)((uint32_t)bits - (uint32_t)magic_bits);
    int32_t half = whole >> 1;        /* two factors, since 2**n alone may be no normal float32 */
    return series * power_of_two(half) * power_of_two(whole - half);
}

MINIDL_WIDEST static void exp_run_f32(float *y, const float *x, float shift, ptrdiff_t n)
{
    _Pragma("omp simd") for (ptrdiff_t i = 0; i < n; i++) y[i] = exp_f32(x[i] - shift);
}

static inline void exp_run_f64(double *y, const double *x, double shift, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) y[i] = exp(x[i] - shift);
}

#endif
