/* Vectors as wide as the instruction set that a file is compiled for, in GCC's vector extensions.
 *
 * setup.py (C_SOURCES) compiles a kernel file once per instruction set, with ISA defined as its name.  The file
 * defines static functions and ends with one table of them:
 *
 *     const struct conv2d_direct KERNELS_OF(conv2d_direct) = {forward, backward_input, backward_weight};
 *
 * The Cython side declares the tables with KERNEL_TABLES(conv2d_direct) and takes conv2d_direct_for(isa_level()).
 * The width has to be that of the instruction set: 16 lanes compiled for 8 spill every register. */
#ifndef MINIDL_LANES_H
#define MINIDL_LANES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MINIDL_PASTE_(name, isa) name##_##isa
#define MINIDL_PASTE(name, isa) MINIDL_PASTE_(name, isa)
#define KERNELS_OF(name) MINIDL_PASTE(name, ISA)

#if defined(__x86_64__)
#define KERNEL_TABLES(name)                                                                                        \
    extern const struct name name##_base, name##_avx2, name##_avx512;                                              \
    static inline const struct name *name##_for(int level)                                                         \
    {                                                                                                              \
        return level == 2 ? &name##_avx512 : level == 1 ? &name##_avx2 : &name##_base;                             \
    }
#else
#define KERNEL_TABLES(name)                                                                                        \
    extern const struct name name##_base;                                                                          \
    static inline const struct name *name##_for(int level)                                                         \
    {                                                                                                              \
        (void)level;                                                                                               \
        return &name##_base;                                                                                       \
    }
#endif

#ifdef ISA

#if defined(ISA_avx512)
#define LANES 16
#define REGISTERS 32
#elif defined(ISA_avx2)
#define LANES 8
#define REGISTERS 16
#else
#define LANES 4
#define REGISTERS 16
#endif

#if defined(ISA_avx2) || defined(ISA_avx512)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t int_lanes __attribute__((vector_size(4 * LANES)));
typedef float loose_lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#if defined(ISA_avx2)
INLINE int_lanes first_lanes(ptrdiff_t count)
{
    return (int_lanes){0, 1, 2, 3, 4, 5, 6, 7} < (int32_t)count - (int_lanes){0};
}
#endif

/* LANES numbers from memory of any alignment */
INLINE lanes load(const float *from) { return *(const loose_lanes *)from; }

INLINE void store(float *to, lanes value) { *(loose_lanes *)to = value; }

/* one number in every lane */
INLINE lanes spread(float value) { return value - (lanes){0}; }

/* the first `count` <= LANES numbers, then zeros; nothing behind them is read */
INLINE lanes load_first(const float *from, ptrdiff_t count)
{
#if defined(ISA_avx512)
    return (lanes)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
#elif defined(ISA_avx2)
    return (lanes)_mm256_maskload_ps(from, (__m256i)first_lanes(count));
#else
    float value[LANES] = {0};
    memcpy(value, from, (size_t)count * sizeof(float));
    return load(value);
#endif
}

/* the first `count` <= LANES lanes */
INLINE void store_first(float *to, lanes value, ptrdiff_t count)
{
#if defined(ISA_avx512)
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), (__m512)value);
#elif defined(ISA_avx2)
    _mm256_maskstore_ps(to, (__m256i)first_lanes(count), (__m256)value);
#else
    float all[LANES];
    store(all, value);
    memcpy(to, all, (size_t)count * sizeof(float));
#endif
}

/* the sum over the lanes, by halves */
INLINE float add_lanes(lanes value)
{
    int_lanes half;
#pragma GCC unroll 4
    for (int width = LANES / 2; width > 0; width /= 2) {
        for (int lane = 0; lane < LANES; lane++) half[lane] = lane ^ width;
        value += __builtin_shuffle(value, half);
    }
    return value[0];
}

#endif
#endif
