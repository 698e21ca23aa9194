/* Direct convolution with the output channels in the lanes: one vector is LANES channels of one pixel.
 *
 * A block is one vector of channels times some pixels of one row, or of two neighbouring rows where there are registers
 * for it.  A tap loads one vector of weights and one number per pixel.  Results come out pixel by pixel, in scratch,
 * and are turned round at the end.  For the gradient of the weight, grad_output is turned round first and a block is
 * one vector of channels times some taps, whose sums stay in registers over a whole staged image: no lanes are added
 * up. */
#if defined(__GNUC__) && !defined(__clang__)
/* It would keep the numbers of a run for the next pixel, each spread over a register of its own. */
#pragma GCC optimize("no-predictive-commoning")
#endif

#include "conv2d_direct.h"

#if REGISTERS == 32
enum { PIXELS = 14, LINES = 2, RUNS = 12 };
#define FOR_EACH_SIZE(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14)
#define FOR_EACH_RUN(DO) DO(1, 12) DO(2, 12) DO(3, 9) DO(4, 7) DO(5, 5) DO(6, 4) DO(7, 4) DO(8, 3)
#else
enum { PIXELS = 10, LINES = 1, RUNS = 8 };
#define FOR_EACH_SIZE(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10)
#define FOR_EACH_RUN(DO) DO(1, 8) DO(2, 6) DO(3, 4) DO(4, 3) DO(5, 2) DO(6, 2) DO(7, 1) DO(8, 1)
#endif
enum { LONGEST_RUN = 8 };

INLINE ptrdiff_t output_vectors(const struct window *w) { return rounded_up(w->outputs, LANES); }

/* ------------------------------------------------------------------------------------------------------------- sums */

static ptrdiff_t packed_size(const struct window *w) { return output_vectors(w) * (1 + w->taps) * LANES; }

static ptrdiff_t sums_scratch(const struct window *w, ptrdiff_t rows)
{
    return (rows * w->cols + LANES) * LANES;
}

static void pack(float *packed, const float *weight, const struct weight_steps *steps, const float *start,
                 const struct window *w)
{
    /* vector after vector of channels: start, then weights (taps,) */
    for (ptrdiff_t first = 0; first < w->outputs; first += LANES) {
        const ptrdiff_t channels = least(w->outputs - first, LANES);
        for (ptrdiff_t o = 0; o < LANES; o++) {
            const float *from = weight + (first + o) * steps->output_step;
            float *to = packed + o;
            *to = start && o < channels ? start[first + o] : 0;
            for (ptrdiff_t c = 0; c < w->taps / steps->area; c++)
                for (ptrdiff_t t = 0; t < steps->area; t++)
                    *(to += LANES) = o < channels ? from[c * steps->channel_step + t] : 0;
        }
        packed += (1 + w->taps) * LANES;
    }
}

/* pixels 0 ... P - 1 of `lines` rows, which start at `from`; they go to `to`, `cols` pixels from row to row */
INLINE void block(const int lines, const int P, float *to, const float *from, const float *packed,
                  const struct window *w)
{
    const ptrdiff_t *offset = w->offset;
    const ptrdiff_t taps = w->taps, row_step = w->row_step;
    lanes sum[LINES][PIXELS];
#pragma GCC unroll 2
    for (int y = 0; y < lines; y++)
#pragma GCC unroll 16
        for (int p = 0; p < P; p++)
            sum[y][p] = load(packed);
    for (ptrdiff_t t = 0; t < taps; t++) {
        packed += LANES;
        const lanes weight = load(packed);
#pragma GCC unroll 2
        for (int y = 0; y < lines; y++) {
            const float *x = from + offset[t] + y * row_step;
#pragma GCC unroll 16
            for (int p = 0; p < P; p++)
                sum[y][p] += weight * spread(x[p]);
        }
    }
#pragma GCC unroll 2
    for (int y = 0; y < lines; y++)
#pragma GCC unroll 16
        for (int p = 0; p < P; p++)
            store(to + (y * w->cols + p) * LANES, sum[y][p]);
}

typedef void (*part_of_rows)(float *, const float *, const float *, const struct window *, ptrdiff_t);

/* P columns of all rows */
#define DEFINE_COLUMNS(P)                                                                                              \
    static void columns_##P(float *to, const float *from, const float *packed, const struct window *w, ptrdiff_t rows) \
    {                                                                                                                  \
        for (; rows >= LINES; rows -= LINES) {                                                                         \
            block(LINES, P, to, from, packed, w);                                                                      \
            to += LINES * w->cols * LANES;                                                                             \
            from += LINES * w->row_step;                                                                               \
        }                                                                                                              \
        if (LINES > 1 && rows)                                                                                         \
            block(1, P, to, from, packed, w);                                                                          \
    }

FOR_EACH_SIZE(DEFINE_COLUMNS)

static void sums(float *out, ptrdiff_t plane, const float *staged, const float *packed, float *scratch,
                 const struct window *w, ptrdiff_t rows)
{
#define NAME(P) columns_##P,
    static const part_of_rows functions[] = {FOR_EACH_SIZE(NAME)};
#undef NAME
    const ptrdiff_t parts = rounded_up(w->cols, PIXELS), count = rows * w->cols;
    for (ptrdiff_t first = 0; first < w->outputs; first += LANES) {
        for (ptrdiff_t i = 0; i < parts; i++) {
            const ptrdiff_t start = part_start(w->cols, parts, i), end = part_start(w->cols, parts, i + 1);
            functions[end - start - 1](scratch + start * LANES, staged + start, packed, w, rows);
        }
        pixels_to_planes(out + first * plane, plane, least(w->outputs - first, LANES), scratch, count);
        packed += (1 + w->taps) * LANES;
    }
}

/* ------------------------------------------------------------------------------------------- gradient of the weight */

static ptrdiff_t weight_scratch(const struct window *w, ptrdiff_t rows)
{
    return (rows * w->cols + LANES) * LANES;
}

/* total (vectors of outputs, taps) of vectors */
static ptrdiff_t total_size(const struct window *w) { return output_vectors(w) * w->taps * LANES; }

/* R runs of L taps each */
INLINE void weight_block(const int R, const int L, float *total, const float *grad, const float *staged,
                         const ptrdiff_t *offset, const struct window *w, ptrdiff_t rows)
{
    const ptrdiff_t cols = w->cols;
    const float *from[RUNS];
    lanes sum[RUNS][LONGEST_RUN];
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
        from[r] = staged + offset[r * L];
#pragma GCC unroll 8
        for (int l = 0; l < L; l++)
            sum[r][l] = (lanes){0};
    }
    for (ptrdiff_t y = 0; y < rows; y++) {
        for (ptrdiff_t i = 0; i < cols; i++) {
            const lanes g = load(grad);
            grad += LANES;
#pragma GCC unroll 16
            for (int r = 0; r < R; r++)
#pragma GCC unroll 8
                for (int l = 0; l < L; l++)
                    sum[r][l] += g * spread(from[r][i + l]);
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
            from[r] += w->row_step;
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int l = 0; l < L; l++) {
            float *to = total + (r * L + l) * LANES;
            store(to, load(to) + sum[r][l]);
        }
}

typedef void (*all_taps)(float *, const float *, const float *, const struct window *, ptrdiff_t);

/* all taps in blocks of R and R - 1 runs if they come out even, else in blocks of R and of one */
#define DEFINE_RUNS(L, R)                                                                                              \
    static void runs_##L(float *total, const float *grad, const float *staged, const struct window *w, ptrdiff_t rows) \
    {                                                                                                                  \
        const ptrdiff_t runs = w->taps / L, missing = rounded_up(runs, R) * R - runs;                                  \
        ptrdiff_t first = 0, small = R > 1 && missing <= rounded_up(runs, R) ? missing : 0;                            \
        for (; first + R + small * (R - 1) <= runs; first += R)                                                        \
            weight_block(R, L, total + first * L * LANES, grad, staged, w->offset + first * L, w, rows);               \
        for (; small > 0; small--, first += R - 1)                                                                     \
            weight_block(R - 1, L, total + first * L * LANES, grad, staged, w->offset + first * L, w, rows);           \
        for (; first < runs; first++)                                                                                  \
            weight_block(1, L, total + first * L * LANES, grad, staged, w->offset + first * L, w, rows);               \
    }

FOR_EACH_RUN(DEFINE_RUNS)

static void weight_sums(float *total, const float *grad, ptrdiff_t plane, const float *staged, float *scratch,
                        const struct window *w, ptrdiff_t rows)
{
#define NAME(L, R) runs_##L,
    static const all_taps functions[] = {FOR_EACH_RUN(NAME)};
#undef NAME
    for (ptrdiff_t first = 0; first < w->outputs; first += LANES) {
        planes_to_pixels(scratch, grad + first * plane, plane, least(w->outputs - first, LANES), rows * w->cols);
        functions[w->run <= LONGEST_RUN ? w->run - 1 : 0](total, scratch, staged, w, rows);
        total += w->taps * LANES;
    }
}

static void weight_result(float *grad_weight, const float *total, const struct window *w)
{
    for (ptrdiff_t o = 0; o < w->outputs; o++)
        for (ptrdiff_t t = 0; t < w->taps; t++)
            *grad_weight++ = total[(o / LANES * w->taps + t) * LANES + o % LANES];
}

const struct conv2d_direct_channels KERNELS_OF(conv2d_direct_channels) = {
    {stage, packed_size, sums_scratch, weight_scratch, pack, sums, total_size, weight_sums, weight_result}};
