/* The Mersenne Twister MT19937 and the transformations that turn its words into PyTorch's numbers.
 *
 * M. Matsumoto and T. Nishimura, "Mersenne Twister", ACM TOMACS 8 (1998).  A word is 32 random bits; 64 bits are two
 * words, the first one the upper.  Every multiply-add that PyTorch's build for AVX2 fuses is written as fma here, and
 * nothing else is left that a compiler could fuse: hence the same bits on every processor, with FMA or without.
 */
#ifndef MINIDL_MERSENNE_H
#define MINIDL_MERSENNE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef M_PI
#define M_PI 3.14159265358979323846
#endif

#define INLINE static inline __attribute__((always_inline))

/* fma is a call into libm unless the compiler knows that the processor has it: each loop is compiled for such ones as
 * well, and chosen between at each call.  NAME_loop is what is written below, NAME what is called. */
#if defined(__x86_64__)
#define FOR_FMA_TOO(name, parameters, arguments)                                                           \
    __attribute__((target("avx2,fma"))) static void name##_fma parameters { name##_loop arguments; }       \
    static void name parameters                                                                            \
    {                                                                                                      \
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))                               \
            name##_fma arguments;                                                                          \
        else                                                                                               \
            name##_loop arguments;                                                                         \
    }
#else
#define FOR_FMA_TOO(name, parameters, arguments) \
    static void name parameters { name##_loop arguments; }
#endif

enum { MT_WORDS = 624, MT_SHIFT = 397, CHUNK = 1024 };

typedef struct {
    uint64_t seed;
    int left;      /* words before the next twist, and one: 1 when all are used */
    uint32_t next; /* index of the next word */
    uint32_t words[MT_WORDS];
} mersenne;

static void mt_seed(mersenne *mt, uint64_t seed)
{
    mt->seed = seed;
    mt->left = 1;
    mt->next = 0;
    mt->words[0] = (uint32_t)seed;
    for (uint32_t j = 1; j < MT_WORDS; j++)
        mt->words[j] = 1812433253u * (mt->words[j - 1] ^ (mt->words[j - 1] >> 30)) + j;
}

INLINE uint32_t mt_twisted(uint32_t far, uint32_t upper, uint32_t lower)
{
    return far ^ (((upper & 0x80000000u) | (lower & 0x7fffffffu)) >> 1) ^ (-(lower & 1u) & 0x9908b0dfu);
}

static void mt_twist(mersenne *mt)
{
    uint32_t *w = mt->words;
    int j;
    for (j = 0; j < MT_WORDS - MT_SHIFT; j++)
        w[j] = mt_twisted(w[j + MT_SHIFT], w[j], w[j + 1]);
    for (; j < MT_WORDS - 1; j++)
        w[j] = mt_twisted(w[j + MT_SHIFT - MT_WORDS], w[j], w[j + 1]);
    w[j] = mt_twisted(w[MT_SHIFT - 1], w[j], w[0]);
    mt->left = MT_WORDS + 1;
    mt->next = 0;
}

INLINE uint32_t mt_tempered(uint32_t y)
{
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

static inline uint32_t mt_next32(mersenne *mt)
{
    if (mt->left == 1)
        mt_twist(mt);
    mt->left--;
    return mt_tempered(mt->words[mt->next++]);
}

static inline uint64_t mt_next64(mersenne *mt)
{
    uint64_t upper = mt_next32(mt);
    return upper << 32 | mt_next32(mt);
}

/* The next n words. */
INLINE void mt_words(mersenne *mt, uint32_t *out, ptrdiff_t n)
{
    while (n > 0) {
        if (mt->left == 1)
            mt_twist(mt);
        ptrdiff_t run = mt->left - 1 < n ? mt->left - 1 : n;
        const uint32_t *w = mt->words + mt->next;
        for (ptrdiff_t i = 0; i < run; i++)
            out[i] = mt_tempered(w[i]);
        mt->left -= (int)run;
        mt->next += (uint32_t)run;
        out += run;
        n -= run;
    }
}

INLINE uint64_t pair64(const uint32_t *words) { return (uint64_t)words[0] << 32 | words[1]; }

/* out[n] in [low, high): the lower 24 bits of a word, scaled. */
INLINE void mt_uniform_f32_loop(mersenne *mt, float *out, ptrdiff_t n, float low, float high)
{
    uint32_t words[CHUNK];
    const float scale = high - low;
    for (ptrdiff_t begin = 0; begin < n; begin += CHUNK) {
        int count = n - begin < CHUNK ? (int)(n - begin) : CHUNK;
        mt_words(mt, words, count);
        for (int i = 0; i < count; i++)
            out[begin + i] = fmaf((float)(int32_t)(words[i] & 0xffffffu) * 0x1p-24f, scale, low);
    }
}
FOR_FMA_TOO(mt_uniform_f32, (mersenne *mt, float *out, ptrdiff_t n, float low, float high), (mt, out, n, low, high))

/* out[n] in [low, high): the lower 53 of 64 bits, scaled. */
INLINE void mt_uniform_f64_loop(mersenne *mt, double *out, ptrdiff_t n, double low, double high)
{
    uint32_t words[2 * CHUNK];
    const double scale = high - low;
    for (ptrdiff_t begin = 0; begin < n; begin += CHUNK) {
        int count = n - begin < CHUNK ? (int)(n - begin) : CHUNK;
        mt_words(mt, words, 2 * count);
        for (int i = 0; i < count; i++)
            out[begin + i] = fma((double)(int64_t)(pair64(words + 2 * i) & 0x1fffffffffffffull) * 0x1p-53, scale, low);
    }
}
FOR_FMA_TOO(mt_uniform_f64, (mersenne *mt, double *out, ptrdiff_t n, double low, double high), (mt, out, n, low, high))

/* out[n] = 1 where a uniform double falls below threshold * 2**-53, else 0. */
INLINE void mt_bernoulli_u8_loop(mersenne *mt, uint8_t *out, ptrdiff_t n, int64_t threshold)
{
    uint32_t words[2 * CHUNK];
    for (ptrdiff_t begin = 0; begin < n; begin += CHUNK) {
        int count = n - begin < CHUNK ? (int)(n - begin) : CHUNK;
        mt_words(mt, words, 2 * count);
        for (int i = 0; i < count; i++)
            out[begin + i] = (int64_t)(pair64(words + 2 * i) & 0x1fffffffffffffull) < threshold;
    }
}
FOR_FMA_TOO(mt_bernoulli_u8, (mersenne *mt, uint8_t *out, ptrdiff_t n, int64_t threshold), (mt, out, n, threshold))

/* log of a normal, positive float: Cephes' logf (S. Moshier), the polynomial of PyTorch's vector code. */
INLINE float log_cephes(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    float exponent = (float)((int32_t)(bits >> 23) - 126);
    bits = (bits & 0x807fffffu) | 0x3f000000u;
    memcpy(&x, &bits, 4); /* [0.5, 1) */
    const int small = x < 0.707106781186547524f;
    exponent -= small ? 1.0f : 0.0f;
    x = (x - 1.0f) + (small ? x : 0.0f);
    const float square = x * x;
    float y = 7.0376836292e-2f;
    y = fmaf(y, x, -1.1514610310e-1f);
    y = fmaf(y, x, 1.1676998740e-1f);
    y = fmaf(y, x, -1.2420140846e-1f);
    y = fmaf(y, x, 1.4249322787e-1f);
    y = fmaf(y, x, -1.6668057665e-1f);
    y = fmaf(y, x, 2.0000714765e-1f);
    y = fmaf(y, x, -2.4999993993e-1f);
    y = fmaf(y, x, 3.3333331174e-1f);
    y = y * x;
    y = fmaf(y, square, exponent * -2.12194440e-4f);
    y = fmaf(square, -0.5f, y);
    return fmaf(exponent, 0.693359375f, x + y);
}

/* Sine and cosine of an angle in [0, 2 pi]: Cephes' sinf and cosf with one reduction to [-pi/4, pi/4] for both. */
INLINE void sincos_cephes(float x, float *sine, float *cosine)
{
    const int32_t octant = ((int32_t)(x * 1.27323954473516f) + 1) & ~1;
    const float y = (float)octant;
    x = fmaf(y, -0.78515625f, x);
    x = fmaf(y, -2.4187564849853515625e-4f, x);
    x = fmaf(y, -3.77489497744594108e-8f, x);
    const float square = x * x;
    float c = 2.443315711809948e-5f;
    c = fmaf(c, square, -1.388731625493765e-3f);
    c = fmaf(c, square, 4.166664568298827e-2f);
    c = c * square;
    c = fmaf(c, square, square * -0.5f) + 1.0f;
    float s = -1.9515295891e-4f;
    s = fmaf(s, square, 8.3321608736e-3f);
    s = fmaf(s, square, -1.6666654611e-1f);
    s = s * square;
    s = fmaf(s, x, x);
    const int swapped = octant & 2;
    const float for_sine = swapped ? c : s, for_cosine = swapped ? s : c;
    *sine = octant & 4 ? -for_sine : for_sine;
    *cosine = (octant + 2) & 4 ? -for_cosine : for_cosine;
}

/* In place: each block of 16 uniforms becomes 16 normals, pair by pair of its two halves (Box and Muller 1958). */
INLINE void box_muller_f32_loop(float *data, ptrdiff_t blocks, float mean, float std)
{
    for (; blocks > 0; blocks--, data += 16) {
        float radius[8], sine[8], cosine[8];
        for (int j = 0; j < 8; j++)
            radius[j] = sqrtf(-2.0f * log_cephes(1.0f - data[j]));
        for (int j = 0; j < 8; j++)
            sincos_cephes((float)(2.0 * M_PI) * data[j + 8], &sine[j], &cosine[j]);
        for (int j = 0; j < 8; j++) {
            data[j] = fmaf(radius[j] * cosine[j], std, mean);
            data[j + 8] = fmaf(radius[j] * sine[j], std, mean);
        }
    }
}
FOR_FMA_TOO(box_muller_f32, (float *data, ptrdiff_t blocks, float mean, float std), (data, blocks, mean, std))

INLINE void box_muller_f64_loop(double *data, ptrdiff_t blocks, double mean, double std)
{
    for (; blocks > 0; blocks--, data += 16)
        for (int j = 0; j < 8; j++) {
            const double radius = sqrt(-2.0 * log(1.0 - data[j])), theta = 2.0 * M_PI * data[j + 8];
            data[j] = fma(radius * cos(theta), std, mean);
            data[j + 8] = fma(radius * sin(theta), std, mean);
        }
}
FOR_FMA_TOO(box_muller_f64, (double *data, ptrdiff_t blocks, double mean, double std), (data, blocks, mean, std))

#endif
