/* The gradient of a convolution's input with images in the lanes: one vector is a pixel of LANES images.
 *
 * The rows of grad_output that a band of grad_input sees are turned round, pixel by pixel, into scratch memory; from
 * pooled gradients and codes they are made in that form.  A block is some channels times some neighbours of a row (with
 * a stride: neighbours that meet the same taps).  Its sums stay in registers over all taps: a tap loads one vector per
 * pixel and one number per channel.  Only taps that exist are multiplied, so that an image's edge is less work, not a
 * product with zeros.  The sums are turned back at the end.
 *
 * A sum is one chain over (oc, kh, kw), as those of the other direct kernels, and has their bits. */
#include "conv2d_batch.h"

#if REGISTERS == 32
enum { CHANNELS = 8, PIXELS = 8 };
#define FOR_EACH_BLOCK(DO) DO(1, 8) DO(2, 8) DO(3, 7) DO(4, 6) DO(5, 5) DO(6, 4) DO(7, 3) DO(8, 3)
#else
enum { CHANNELS = 6, PIXELS = 6 };
#define FOR_EACH_BLOCK(DO) DO(1, 6) DO(2, 4) DO(3, 3) DO(4, 2) DO(5, 2) DO(6, 2)
#endif

/* A row of taps that a row of grad_input meets, or one of them that a block meets: where its weights begin, counted
 * from those of the output channel, and its pixels, counted from those of the channel. */
struct tap {
    ptrdiff_t weight, from;
    unsigned pixels;            /* one bit for each of the block's that meets it */
};

/* the rows of grad_output that are in scratch memory */
struct staged {
    ptrdiff_t first, rows;
};

INLINE ptrdiff_t channel_blocks(const struct batch_shape *s) { return rounded_up(s->C, CHANNELS); }

static void pack(float *packed, const float *weight, const struct batch_shape *s)
{
    /* block after block: (OC, KH, KW, channels of the block) */
    const ptrdiff_t blocks = channel_blocks(s), area = s->KH * s->KW;
    for (ptrdiff_t b = 0; b < blocks; b++) {
        const ptrdiff_t first = part_start(s->C, blocks, b), last = part_start(s->C, blocks, b + 1);
        for (ptrdiff_t oc = 0; oc < s->OC; oc++)
            for (ptrdiff_t t = 0; t < area; t++)
                for (ptrdiff_t c = first; c < last; c++)
                    *packed++ = weight[(oc * s->C + c) * area + t];
    }
}

/* Which row (column) of grad_output row (column) `at` of grad_input meets by a tap that lies `reach` behind its first
 * one: 1 and `*found`, which may lie outside, or 0 if a stride leaves it out. */
INLINE int meets(ptrdiff_t at, ptrdiff_t reach, ptrdiff_t stride, ptrdiff_t *found)
{
    const ptrdiff_t distance = at - reach, whole = distance / stride;
    *found = whole;
    return whole * stride == distance;
}

/* what rows y ... y + rows - 1 meet; the first one is even, so that it begins a row of pooled windows */
INLINE struct staged staged_rows(const struct batch_shape *s, ptrdiff_t y, ptrdiff_t rows)
{
    const ptrdiff_t lowest = y + s->top - s->dilation_h * (s->KH - 1), highest = y + rows - 1 + s->top;
    const ptrdiff_t first = least(most(lowest, 0) / s->stride_h, s->OH) / 2 * 2;
    return (struct staged){first, most(least(highest / s->stride_h + 1, s->OH) - first, 0)};
}

INLINE ptrdiff_t most_staged_rows(const struct batch_shape *s, ptrdiff_t rows)
{
    return least(s->OH, (rows - 1 + s->dilation_h * (s->KH - 1)) / s->stride_h + 3);
}

/* so many numbers at least: what follows begins at a cache line */
INLINE ptrdiff_t tap_numbers(const struct batch_shape *s)
{
    return rounded_up((s->KH + s->KW) * (ptrdiff_t)(sizeof(struct tap) / sizeof(float)), 16) * 16;
}

static ptrdiff_t scratch_size(const struct batch_shape *s, ptrdiff_t rows)
{
    return tap_numbers(s) + (s->OC * most_staged_rows(s, rows) * s->OW + s->C * rows * s->W + 2 * LANES) * LANES;
}

/* -------------------------------------------------------------------------------------------------- pixels in lanes */

/* to (OC, rows, OW, LANES) from the rows of grad (images, OC, OH, OW) */
static void gather(float *to, const float *grad, ptrdiff_t images, const struct batch_shape *s, struct staged rows)
{
    const ptrdiff_t plane = s->OH * s->OW, count = rows.rows * s->OW;
    if (rows.rows == s->OH)
        planes_to_pixels(to, grad, s->OC * plane, images, s->OC * plane);
    else
        for (ptrdiff_t oc = 0; oc < s->OC; oc++)
            planes_to_pixels(to + oc * count * LANES, grad + oc * plane + rows.first * s->OW, s->OC * plane, images,
                             count);
}

/* the same before 2x2 pooling, from grad and codes (images, OC, OH / 2, OW / 2) */
static void gather_pooled(float *to, const float *grad, const uint8_t *codes, ptrdiff_t images,
                          const struct batch_shape *s, struct staged rows)
{
    const ptrdiff_t PH = s->OH / 2, PW = s->OW / 2, step = s->OC * PH * PW, line = s->OW * LANES;
    const ptrdiff_t first = rows.first / 2, last = least((rows.first + rows.rows + 1) / 2, PH);
    const ptrdiff_t count = (last - first) * PW;
    lanes g[LANES], code[LANES];
    for (ptrdiff_t oc = 0; oc < s->OC; oc++, to += rows.rows * line) {
        const ptrdiff_t start = (oc * PH + first) * PW;
        ptrdiff_t py = 0, px = 0;
        for (ptrdiff_t i = 0; i < count; i += LANES) {
            const ptrdiff_t size = least(count - i, LANES);
            for (ptrdiff_t n = 0; n < LANES; n++) {
                byte_lanes bytes = {0};
                g[n] = code[n] = (lanes){0};
                if (n >= images)
                    continue;
                const ptrdiff_t at = n * step + start + i;
                g[n] = size == LANES ? load(grad + at) : load_first(grad + at, size);
                copy_bytes(&bytes, codes + at, size);
                code[n] = (lanes)__builtin_convertvector(bytes, int_lanes);
            }
            turn(g);
            turn(code);
            for (ptrdiff_t j = 0; j < size; j++) {
                const int_lanes value = (int_lanes)g[j], place = (int_lanes)code[j];
                float *top = to + 2 * py * line + 2 * px * LANES;
                store(top, (lanes)(value & (place == 0)));
                store(top + LANES, (lanes)(value & (place == 1)));
                if (2 * py + 1 < rows.rows) {
                    store(top + line, (lanes)(value & (place == 2)));
                    store(top + line + LANES, (lanes)(value & (place == 3)));
                }
                if (++px == PW) {
                    px = 0;
                    py++;
                }
            }
        }
        if (s->OW % 2)
            for (ptrdiff_t y = 0; y < rows.rows; y++)
                store(to + (y + 1) * line - LANES, (lanes){0});
        if (rows.first + rows.rows > 2 * PH)
            memset(to + (rows.rows - 1) * line, 0, (size_t)line * sizeof(float));
    }
}

/* ------------------------------------------------------------------------------------------------------------- sums */

/* O channels of P pixels; `out` and `step`: the first pixel, and from one pixel to the next; `count` of them exist */
INLINE void block(const int O, const int P, float *out, ptrdiff_t plane, ptrdiff_t step, ptrdiff_t count,
                  const float *staged, ptrdiff_t staged_plane, const float *packed, const struct batch_shape *s,
                  const struct tap *rows, ptrdiff_t row_taps, const struct tap *cols, ptrdiff_t col_taps)
{
    const unsigned all = (1u << P) - 1;
    lanes sum[CHANNELS][PIXELS];
#pragma GCC unroll 8
    for (int o = 0; o < O; o++)
#pragma GCC unroll 8
        for (int p = 0; p < P; p++)
            sum[o][p] = (lanes){0};
    for (ptrdiff_t oc = 0; oc < s->OC; oc++, staged += staged_plane, packed += s->KH * s->KW * O)
        for (ptrdiff_t r = 0; r < row_taps; r++)
            for (ptrdiff_t t = 0; t < col_taps; t++) {
                const float *weight = packed + rows[r].weight + cols[t].weight;
                const ptrdiff_t from = rows[r].from + cols[t].from;
                const unsigned pixels = cols[t].pixels;
                if (pixels == all) {
                    lanes x[PIXELS];
#pragma GCC unroll 8
                    for (int p = 0; p < P; p++)
                        x[p] = load(staged + (from + p * LANES));
#pragma GCC unroll 8
                    for (int o = 0; o < O; o++) {
                        const lanes w = spread(weight[o]);
#pragma GCC unroll 8
                        for (int p = 0; p < P; p++)
                            sum[o][p] += w * x[p];
                    }
                } else {
#pragma GCC unroll 8
                    for (int p = 0; p < P; p++)
                        if (pixels >> p & 1) {
                            const lanes x = load(staged + (from + p * LANES));
#pragma GCC unroll 8
                            for (int o = 0; o < O; o++)
                                sum[o][p] += spread(weight[o]) * x;
                        }
                }
            }
#pragma GCC unroll 8
    for (int p = 0; p < P; p++)
        if (p < count) {
#pragma GCC unroll 8
            for (int o = 0; o < O; o++)
                store(out + o * plane + p * step, sum[o][p]);
        }
}

/* the taps that `count` pixels meet, of which the first is the one at column x */
INLINE ptrdiff_t column_taps(struct tap *taps, ptrdiff_t x, ptrdiff_t count, ptrdiff_t O, const struct batch_shape *s)
{
    ptrdiff_t found = 0, at;
    for (ptrdiff_t kw = 0; kw < s->KW; kw++) {
        if (!meets(x + s->left, kw * s->dilation_w, s->stride_w, &at))
            continue;
        const ptrdiff_t first = most(-at, 0), last = least(s->OW - at, count);
        if (first < last)
            taps[found++] = (struct tap){kw * O, at * LANES, (1u << last) - (1u << first)};
    }
    return found;
}

INLINE ptrdiff_t taps_of_row(struct tap *taps, ptrdiff_t y, ptrdiff_t O, const struct batch_shape *s,
                             struct staged staged)
{
    ptrdiff_t found = 0, at;
    for (ptrdiff_t kh = 0; kh < s->KH; kh++)
        if (meets(y + s->top, kh * s->dilation_h, s->stride_h, &at) && at >= 0 && at < s->OH)
            taps[found++] = (struct tap){kh * s->KW * O, (at - staged.first) * s->OW * LANES, 0};
    return found;
}

/* O channels of a row of W pixels, (O, W, LANES), the channels `plane` numbers apart; the last block may have pixels
 * that meet nothing and are not stored */
#define DEFINE_ROW(O, P)                                                                                               \
    static void row_##O(float *out, ptrdiff_t plane, const float *staged, ptrdiff_t staged_plane, const float *packed, \
                        const struct batch_shape *s, const struct tap *rows, ptrdiff_t row_taps, struct tap *cols)     \
    {                                                                                                                  \
        for (ptrdiff_t phase = 0; phase < least(s->stride_w, s->W); phase++) {                                         \
            const ptrdiff_t pixels = rounded_up(s->W - phase, s->stride_w);                                            \
            for (ptrdiff_t i = 0; i < pixels; i += P) {                                                                \
                const ptrdiff_t x = phase + i * s->stride_w, count = least(pixels - i, P);                             \
                const ptrdiff_t col_taps = column_taps(cols, x, count, O, s);                                          \
                block(O, P, out + x * LANES, plane, s->stride_w * LANES, count, staged, staged_plane, packed, s, rows, \
                      row_taps, cols, col_taps);                                                                       \
            }                                                                                                          \
        }                                                                                                              \
    }

FOR_EACH_BLOCK(DEFINE_ROW)

static void band(float *grad_input, const float *grad, const uint8_t *codes, ptrdiff_t images, const float *packed,
                 float *scratch, const struct batch_shape *s, ptrdiff_t y, ptrdiff_t rows)
{
    typedef void (*row)(float *, ptrdiff_t, const float *, ptrdiff_t, const float *, const struct batch_shape *,
                        const struct tap *, ptrdiff_t, struct tap *);
#define NAME(O, P) row_##O,
    static const row functions[] = {FOR_EACH_BLOCK(NAME)};
#undef NAME
    const struct staged seen = staged_rows(s, y, rows);
    const ptrdiff_t staged_plane = seen.rows * s->OW * LANES, blocks = channel_blocks(s);
    const ptrdiff_t plane = rows * s->W * LANES, taps = s->OC * s->KH * s->KW;
    struct tap *row_taps = (struct tap *)scratch, *col_taps = row_taps + s->KH;
    float *staged = scratch + tap_numbers(s), *out = staged + s->OC * staged_plane + LANES * LANES;
    if (codes)
        gather_pooled(staged, grad, codes, images, s, seen);
    else
        gather(staged, grad, images, s, seen);
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t b = 0; b < blocks; b++) {
            const ptrdiff_t first = part_start(s->C, blocks, b), size = part_start(s->C, blocks, b + 1) - first;
            const ptrdiff_t found = taps_of_row(row_taps, y + i, size, s, seen);
            functions[size - 1](out + first * plane + i * s->W * LANES, plane, staged, staged_plane,
                                packed + first * taps, s, row_taps, found, col_taps);
        }
    for (ptrdiff_t c = 0; c < s->C; c++)
        pixels_to_planes(grad_input + (c * s->H + y) * s->W, s->C * s->H * s->W, images, out + c * plane,
                         rows * s->W);
}

const struct conv2d_direct_batch KERNELS_OF(conv2d_direct_batch) = {pack, scratch_size, band};
