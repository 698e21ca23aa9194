/* One row of 2x2 windows with stride 2, float32, four windows at a time in GCC's vector extensions.
 *
 * This is the pooling of most small networks, and compilers do not vectorise a search for a maximum and its place.
 * `top` is the first of the two input rows, W numbers long; OW >= 4 windows, and the last four may overlap the four
 * before them (the same results are then written twice). */
#ifndef MINIDL_WINDOWS_H
#define MINIDL_WINDOWS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef float floats __attribute__((vector_size(16)));
typedef int32_t ints __attribute__((vector_size(16)));

#define FOR_FOUR_WINDOWS(ow, OW)                                                                                   \
    for (ptrdiff_t next = 0, ow = 0; next < (OW) && (ow = next + 4 <= (OW) ? next : (OW) - 4, 1); next += 4)

static inline floats load_floats(const float *from)
{
    floats v;
    memcpy(&v, from, sizeof v);
    return v;
}

static inline void store_floats(float *to, floats v) { memcpy(to, &v, sizeof v); }

static inline ints pick(ints mask, ints yes, ints no) { return (mask & yes) | (~mask & no); }

/* Where `value` is larger than `best`, or NaN, it takes over, and its place with it. */
static inline void challenge(floats *best, ints *best_place, floats value, ints place)
{
    ints wins = (value > *best) | (value != value);
    *best = (floats)pick(wins, (ints)value, (ints)*best);
    *best_place = pick(wins, place, *best_place);
}

/* out[ow] = the maximum of window ow; index[ow] = where it lies, the window row's first pixel being `first`. */
static inline void max_row_2x2(float *out, int32_t *index, const float *top, ptrdiff_t W, ptrdiff_t OW, int32_t first)
{
    const ints even = {0, 2, 4, 6}, odd = {1, 3, 5, 7};
    FOR_FOUR_WINDOWS(ow, OW)
    {
        const float *window = top + 2 * ow;
        floats a = load_floats(window), b = load_floats(window + 4);
        floats c = load_floats(window + W), d = load_floats(window + W + 4);
        ints upper_place = even + (first + 2 * (int32_t)ow), lower_place = upper_place + (int32_t)W;
        floats upper = __builtin_shuffle(a, b, even), lower = __builtin_shuffle(c, d, even);
        challenge(&upper, &upper_place, __builtin_shuffle(a, b, odd), upper_place + 1);
        challenge(&lower, &lower_place, __builtin_shuffle(c, d, odd), lower_place + 1);
        challenge(&upper, &upper_place, lower, lower_place);
        store_floats(out + ow, upper);
        memcpy(index + ow, &upper_place, sizeof upper_place);
    }
}

/* top, bottom: both rows of the input's gradient under one row of windows: grad where the maximum was, else zero. */
static inline void unmax_row_2x2(float *top, const int32_t *index, const float *grad, ptrdiff_t W, ptrdiff_t OW,
                                 int32_t first)
{
    const ints even = {0, 2, 4, 6}, low = {0, 4, 1, 5}, high = {2, 6, 3, 7};
    FOR_FOUR_WINDOWS(ow, OW)
    {
        float *window = top + 2 * ow;
        ints place, g = (ints)load_floats(grad + ow);
        memcpy(&place, index + ow, sizeof place);
        place -= even + (first + 2 * (int32_t)ow);
        floats a = (floats)(g & (place == 0)), b = (floats)(g & (place == 1));
        floats c = (floats)(g & (place == (int32_t)W)), d = (floats)(g & (place == (int32_t)W + 1));
        store_floats(window, __builtin_shuffle(a, b, low));
        store_floats(window + 4, __builtin_shuffle(a, b, high));
        store_floats(window + W, __builtin_shuffle(c, d, low));
        store_floats(window + W + 4, __builtin_shuffle(c, d, high));
    }
}

/* out[ow] = factor * the sum of window ow */
static inline void sum_row_2x2(float *out, const float *top, ptrdiff_t W, ptrdiff_t OW, float factor)
{
    const ints even = {0, 2, 4, 6}, odd = {1, 3, 5, 7};
    FOR_FOUR_WINDOWS(ow, OW)
    {
        const float *window = top + 2 * ow;
        floats a = load_floats(window), b = load_floats(window + 4);
        floats c = load_floats(window + W), d = load_floats(window + W + 4);
        floats sum = __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, odd) + __builtin_shuffle(c, d, even) +
                     __builtin_shuffle(c, d, odd);
        store_floats(out + ow, sum * factor);
    }
}

/* top, bottom: both rows of the input's gradient under one row of windows: factor * grad in all four pixels. */
static inline void spread_row_2x2(float *top, const float *grad, ptrdiff_t W, ptrdiff_t OW, float factor)
{
    const ints low = {0, 0, 1, 1}, high = {2, 2, 3, 3};
    FOR_FOUR_WINDOWS(ow, OW)
    {
        float *window = top + 2 * ow;
        floats g = load_floats(grad + ow) * factor;
        floats a = __builtin_shuffle(g, low), b = __builtin_shuffle(g, high);
        store_floats(window, a);
        store_floats(window + 4, b);
        store_floats(window + W, a);
        store_floats(window + W + 4, b);
    }
}

#endif
