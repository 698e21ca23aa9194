/* Direct convolution of float32 images: what the kernel files and conv2d_direct.pyx share.
 *
 * Every sum is taken over a window that slides over a staged image, a copy of some rows with their padding:
 *
 *     out[o][y][x] = start[o] + sum over t of weight[o][t] * staged[offset[t] + y * row_step + x]
 *
 * Staging puts apart the columns of the stride's phases, so that neighbours in a row of `out` read neighbours whatever
 * the stride, and the table of offsets holds dilation and the order of the taps.  The gradient of the input is the same
 * sum over a staged grad_output, with the tap order turned round.  rows.c has lanes along x, channels.c along o; both
 * add the taps of an output in the order of t, from the start on, so that they give the same bits. */
#ifndef MINIDL_CONV2D_DIRECT_H
#define MINIDL_CONV2D_DIRECT_H

#include "lanes.h"

struct window {
    ptrdiff_t outputs, taps;        /* o and t run over these */
    ptrdiff_t cols, row_step;
    ptrdiff_t run;                  /* so many taps at a time have offsets that follow each other: t = 0, run, ... */
    const ptrdiff_t *offset;        /* (taps,) */
};

/* weight[o][t] of a window is at o * output_step + t / area * channel_step + t % area */
struct weight_steps {
    ptrdiff_t output_step, channel_step, area;
};

/* which part of an image (channels, H, W) is staged as (channels, rows, phases, pitch): element (c, r, p, i) is
 * image[c][top + r][left + i * phases + p], or 0 outside the image */
struct staging {
    ptrdiff_t channels, H, W, top, left, rows, phases, pitch;
};

enum { SLACK = 16 };                /* numbers behind a staged image that may be read and written: one vector */

struct conv2d_direct {
    /* to (numbers of the staged image + SLACK,) */
    void (*stage)(float *to, const float *image, const struct staging *s);
    /* numbers that `pack` writes, and that `sums` and `weight_sums` need as scratch */
    ptrdiff_t (*packed_size)(const struct window *w);
    ptrdiff_t (*sums_scratch)(const struct window *w, ptrdiff_t rows);
    ptrdiff_t (*weight_scratch)(const struct window *w, ptrdiff_t rows);
    /* weights and start (outputs,) or NULL in the order in which `sums` reads them */
    void (*pack)(float *packed, const float *weight, const struct weight_steps *steps, const float *start,
                 const struct window *w);
    /* out (outputs, rows, cols), the planes `plane` numbers apart */
    void (*sums)(float *out, ptrdiff_t plane, const float *staged, const float *packed, float *scratch,
                 const struct window *w, ptrdiff_t rows);
    /* total[o][t] += sum over y and x of grad[o][y][x] * staged[offset[t] + y * row_step + x], as partial sums in an
     * order of the kernel's own; total (total_size,) starts as zeros, `weight_result` makes (outputs, taps) of it */
    ptrdiff_t (*total_size)(const struct window *w);
    void (*weight_sums)(float *total, const float *grad, ptrdiff_t plane, const float *staged, float *scratch,
                        const struct window *w, ptrdiff_t rows);
    void (*weight_result)(float *grad_weight, const float *total, const struct window *w);
};

struct conv2d_direct_rows {
    struct conv2d_direct kernels;
};
struct conv2d_direct_channels {
    struct conv2d_direct kernels;
};

/* conv2d_epilogue.c: what follows.  A code tells which of a window's four pixels has the maximum, 0 to 3 in reading
 * order, or 4: none is positive, so that no gradient passes the relu. */
struct conv2d_epilogue {
    void (*relu)(float *numbers, ptrdiff_t n);
    /* out, codes (channels, rows / 2, cols / 2) from planes (channels, rows, cols), each with its distance of planes */
    void (*pool)(float *out, uint8_t *codes, ptrdiff_t out_plane, const float *planes, ptrdiff_t plane,
                 ptrdiff_t channels, ptrdiff_t rows, ptrdiff_t cols);
    /* planes (channels, H, W), the gradient of what was pooled, from grad and codes (channels, H / 2, W / 2) */
    void (*unpool)(float *planes, const float *grad, const uint8_t *codes, ptrdiff_t channels, ptrdiff_t H,
                   ptrdiff_t W);
};

KERNEL_TABLES(conv2d_epilogue)
KERNEL_TABLES(conv2d_direct_rows)
KERNEL_TABLES(conv2d_direct_channels)

#ifdef ISA

INLINE ptrdiff_t least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

INLINE ptrdiff_t most(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }

INLINE ptrdiff_t rounded_up(ptrdiff_t n, ptrdiff_t unit) { return (n + unit - 1) / unit; }

INLINE void copy_numbers(float *to, const float *from, ptrdiff_t n)
{
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(to + i, load(from + i));
    if (i < n)
        store_first(to + i, load_first(from + i, n - i), n - i);
}

typedef uint8_t byte_lanes __attribute__((vector_size(LANES)));

/* n <= LANES bytes, in pieces that overlap: a loop over them would take longer than all the rest */
INLINE void copy_bytes(void *to, const void *from, ptrdiff_t n)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if (n == LANES) {
        memcpy(t, f, LANES);
    } else if (LANES > 8 && n >= 8) {
        memcpy(t, f, 8);
        memcpy(t + n - 8, f + n - 8, 8);
    } else if (LANES > 4 && n >= 4) {
        memcpy(t, f, 4);
        memcpy(t + n - 4, f + n - 4, 4);
    } else {
        for (ptrdiff_t i = 0; i < n; i++)
            t[i] = f[i];
    }
}

/* row[i][j] becomes row[j][i]: stage by stage, blocks of 1, 2, 4, ... lanes change places */
INLINE void turn_stage(lanes *row, const int distance)
{
    int_lanes low, high;
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++) {
        low[j] = j & distance ? LANES + j - distance : j;
        high[j] = j & distance ? LANES + j : j + distance;
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        if (!(i & distance)) {
            const lanes a = row[i], b = row[i + distance];
            row[i] = __builtin_shuffle(a, b, low);
            row[i + distance] = __builtin_shuffle(a, b, high);
        }
}

INLINE void turn(lanes *row)
{
    turn_stage(row, 1);
    turn_stage(row, 2);
#if LANES >= 8
    turn_stage(row, 4);
#endif
#if LANES >= 16
    turn_stage(row, 8);
#endif
}

/* planes (channels, plane) from pixels (plane, LANES); the pixels may be read LANES - 1 beyond the last one */
static inline void pixels_to_planes(float *out, ptrdiff_t plane, ptrdiff_t channels, const float *pixels,
                                    ptrdiff_t count)
{
    lanes row[LANES];
    for (ptrdiff_t i = 0; i < count; i += LANES) {
        for (int j = 0; j < LANES; j++)
            row[j] = load(pixels + (i + j) * LANES);
        turn(row);
        if (channels == LANES && count - i >= LANES)
            for (int j = 0; j < LANES; j++)
                store(out + j * plane + i, row[j]);
        else
            for (ptrdiff_t j = 0; j < channels; j++) {
                if (count - i >= LANES)
                    store(out + j * plane + i, row[j]);
                else
                    store_first(out + j * plane + i, row[j], count - i);
            }
    }
}

/* pixels (plane rounded up to LANES, LANES) from planes (channels, plane); lanes without a channel are 0 */
static inline void planes_to_pixels(float *pixels, const float *planes, ptrdiff_t plane, ptrdiff_t channels,
                                    ptrdiff_t count)
{
    lanes row[LANES];
    for (ptrdiff_t i = 0; i < count; i += LANES) {
        for (ptrdiff_t j = 0; j < LANES; j++)
            row[j] = j >= channels           ? (lanes){0}
                     : count - i >= LANES ? load(planes + j * plane + i)
                                          : load_first(planes + j * plane + i, count - i);
        turn(row);
        for (int j = 0; j < LANES; j++)
            store(pixels + (i + j) * LANES, row[j]);
    }
}

static inline void stage(float *to, const float *image, const struct staging *s)
{
    const ptrdiff_t row = s->phases * s->pitch;
    for (ptrdiff_t c = 0; c < s->channels; c++)
        for (ptrdiff_t r = 0; r < s->rows; r++, to += row) {
            const ptrdiff_t y = s->top + r;
            for (ptrdiff_t i = 0; i < row; i += LANES)  /* what goes beyond is written again, or slack */
                store(to + i, (lanes){0});
            if (y < 0 || y >= s->H)
                continue;
            const float *line = image + (c * s->H + y) * s->W;
            for (ptrdiff_t p = 0; p < s->phases; p++) {
                /* columns first ... last - 1 of the phase lie inside the image */
                const ptrdiff_t left = s->left + p;
                const ptrdiff_t first = left < 0 ? rounded_up(-left, s->phases) : 0;
                const ptrdiff_t last = left < s->W ? least(rounded_up(s->W - left, s->phases), s->pitch) : 0;
                float *phase = to + p * s->pitch;
                if (s->phases == 1 && first < last)
                    copy_numbers(phase + first, line + left + first, last - first);
                else
                    for (ptrdiff_t i = first; i < last; i++)
                        phase[i] = line[left + i * s->phases];
            }
        }
    store(to, (lanes){0});
}

INLINE lanes choose(int_lanes mask, lanes yes, lanes no)
{
    return (lanes)((mask & (int_lanes)yes) | (~mask & (int_lanes)no));
}

INLINE lanes relu_of(lanes value) { return choose(value < (lanes){0}, (lanes){0}, value); }

/* one more pixel of a window: it wins if it is larger, or NaN */
INLINE void challenge(lanes *best, int_lanes *code, lanes value, const int value_code)
{
    const int_lanes wins = (value > *best) | (value != value);
    *best = choose(wins, value, *best);
    *code = (wins & ((int_lanes){0} + value_code)) | (~wins & *code);
}

/* n things in `parts` of nearly equal size: the first ones are one larger */
INLINE ptrdiff_t part_start(ptrdiff_t n, ptrdiff_t parts, ptrdiff_t i)
{
    return i * (n / parts) + least(i, n % parts);
}

#endif
#endif
