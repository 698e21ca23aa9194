/* Direct convolution with lanes along the rows of the result: one vector is LANES neighbours of a row, one place.
 *
 * A block is some outputs times some places.  Its sums stay in registers over all taps: a tap loads one vector per
 * place and one number per output.  A row's last vector is computed whole and stored in part.  For the gradient of the
 * weight a block is outputs times taps, and its sums run over a whole staged image, lane by lane; the lanes are added
 * at the very end.  The sizes of blocks are such that sums and operands fit the registers. */
#include "conv2d_direct.h"

#if REGISTERS == 32
enum { OUTPUTS = 8, PLACES = 8, WEIGHT_OUTPUTS = 6, WEIGHT_TAPS = 4 };
#define FOR_EACH_BLOCK(DO) DO(1, 8) DO(2, 8) DO(3, 7) DO(4, 6) DO(5, 5) DO(6, 4) DO(7, 3) DO(8, 3)
#define FOR_EACH_WEIGHT_BLOCK(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6)
#else
enum { OUTPUTS = 6, PLACES = 6, WEIGHT_OUTPUTS = 3, WEIGHT_TAPS = 3 };
#define FOR_EACH_BLOCK(DO) DO(1, 6) DO(2, 4) DO(3, 3) DO(4, 2) DO(5, 2) DO(6, 2)
#define FOR_EACH_WEIGHT_BLOCK(DO) DO(1) DO(2) DO(3)
#endif

/* ------------------------------------------------------------------------------------------------------------- sums */

INLINE ptrdiff_t output_blocks(const struct window *w) { return rounded_up(w->outputs, OUTPUTS); }

static ptrdiff_t packed_size(const struct window *w) { return w->outputs * (1 + w->taps); }

static ptrdiff_t sums_scratch(const struct window *w, ptrdiff_t rows) { return 0 * w->taps * rows; }

static void pack(float *packed, const float *weight, const struct weight_steps *steps, const float *start,
                 const struct window *w)
{
    /* block after block: start (outputs of the block,), then weights (taps, outputs of the block) */
    const ptrdiff_t blocks = output_blocks(w), channels = w->taps / steps->area;
    for (ptrdiff_t b = 0; b < blocks; b++) {
        const ptrdiff_t first = part_start(w->outputs, blocks, b), size = part_start(w->outputs, blocks, b + 1) - first;
        for (ptrdiff_t o = 0; o < size; o++) {
            const float *from = weight + (first + o) * steps->output_step;
            float *to = packed + o;
            *to = start ? start[first + o] : 0;
            for (ptrdiff_t c = 0; c < channels; c++)
                for (ptrdiff_t t = 0; t < steps->area; t++)
                    *(to += size) = from[c * steps->channel_step + t];
        }
        packed += size * (1 + w->taps);
    }
}

/* O outputs at P places, from place `first` on; first + P is at most the number of places */
INLINE void block(const int O, const int P, float *out, ptrdiff_t plane, const float *staged, const float *packed,
                  const struct window *w, ptrdiff_t first)
{
    const ptrdiff_t across = rounded_up(w->cols, LANES), taps = w->taps;
    const ptrdiff_t *offset = w->offset;
    const float *from[PLACES];
    float *to[PLACES];
    ptrdiff_t left[PLACES];
    lanes sum[OUTPUTS][PLACES], x[PLACES];
    ptrdiff_t y = first / across, v = first % across;
#pragma GCC unroll 8
    for (int p = 0; p < P; p++) {
        from[p] = staged + y * w->row_step + v * LANES;
        to[p] = out + y * w->cols + v * LANES;
        left[p] = w->cols - v * LANES;
        if (++v == across) {
            v = 0;
            y++;
        }
#pragma GCC unroll 8
        for (int o = 0; o < O; o++)
            sum[o][p] = spread(packed[o]);
    }
    for (ptrdiff_t t = 0; t < taps; t++) {
        packed += O;
#pragma GCC unroll 8
        for (int p = 0; p < P; p++)
            x[p] = load(from[p] + offset[t]);
#pragma GCC unroll 8
        for (int o = 0; o < O; o++) {
            const lanes weight = spread(packed[o]);
#pragma GCC unroll 8
            for (int p = 0; p < P; p++)
                sum[o][p] += weight * x[p];
        }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; p++) {
#pragma GCC unroll 8
        for (int o = 0; o < O; o++) {
            if (left[p] >= LANES)
                store(to[p] + o * plane, sum[o][p]);
            else
                store_first(to[p] + o * plane, sum[o][p], left[p]);
        }
    }
}

/* All places for O outputs: in blocks of P and P - 1 if they come out even, else in blocks of P and of one. */
#define DEFINE_OUTPUTS(O, P)                                                                                           \
    static void outputs_##O(float *out, ptrdiff_t plane, const float *staged, const float *packed,                     \
                            const struct window *w, ptrdiff_t rows)                                                    \
    {                                                                                                                  \
        const ptrdiff_t places = rows * rounded_up(w->cols, LANES), missing = rounded_up(places, P) * P - places;      \
        ptrdiff_t first = 0, small = P > 1 && missing <= rounded_up(places, P) ? missing : 0;                          \
        for (; first + P + small * (P - 1) <= places; first += P)                                                      \
            block(O, P, out, plane, staged, packed, w, first);                                                         \
        for (; small > 0; small--, first += P - 1)                                                                     \
            block(O, P - 1, out, plane, staged, packed, w, first);                                                     \
        for (; first < places; first++)                                                                                \
            block(O, 1, out, plane, staged, packed, w, first);                                                         \
    }

FOR_EACH_BLOCK(DEFINE_OUTPUTS)

static void sums(float *out, ptrdiff_t plane, const float *staged, const float *packed, float *scratch,
                 const struct window *w, ptrdiff_t rows)
{
    typedef void (*outputs)(float *, ptrdiff_t, const float *, const float *, const struct window *, ptrdiff_t);
#define NAME(O, P) outputs_##O,
    static const outputs functions[] = {FOR_EACH_BLOCK(NAME)};
#undef NAME
    const ptrdiff_t blocks = output_blocks(w);
    (void)scratch;
    for (ptrdiff_t b = 0; b < blocks; b++) {
        const ptrdiff_t first = part_start(w->outputs, blocks, b), last = part_start(w->outputs, blocks, b + 1);
        functions[last - first - 1](out + first * plane, plane, staged, packed + first * (1 + w->taps), w, rows);
    }
}

/* ------------------------------------------------------------------------------------------- gradient of the weight */

static ptrdiff_t weight_scratch(const struct window *w, ptrdiff_t rows) { return 0 * w->taps * rows; }

/* total (outputs, taps) of vectors */
static ptrdiff_t total_size(const struct window *w) { return w->outputs * w->taps * LANES; }

INLINE void weight_block(const int O, const int T, float *total, const float *grad, ptrdiff_t plane,
                         const float *staged, const ptrdiff_t *offset, const struct window *w, ptrdiff_t rows)
{
    const ptrdiff_t cols = w->cols;
    const float *from[WEIGHT_TAPS];
    lanes sum[WEIGHT_OUTPUTS][WEIGHT_TAPS], g[WEIGHT_OUTPUTS];
#pragma GCC unroll 8
    for (int t = 0; t < T; t++) {
        from[t] = staged + offset[t];
#pragma GCC unroll 8
        for (int o = 0; o < O; o++)
            sum[o][t] = (lanes){0};
    }
    for (ptrdiff_t y = 0; y < rows; y++) {
        ptrdiff_t i = 0;
        for (; i + LANES <= cols; i += LANES) {
#pragma GCC unroll 8
            for (int o = 0; o < O; o++)
                g[o] = load(grad + o * plane + i);
#pragma GCC unroll 8
            for (int t = 0; t < T; t++) {
                const lanes x = load(from[t] + i);
#pragma GCC unroll 8
                for (int o = 0; o < O; o++)
                    sum[o][t] += g[o] * x;
            }
        }
        if (i < cols) {     /* both in part: what lies behind a row of the image may be infinite */
#pragma GCC unroll 8
            for (int o = 0; o < O; o++)
                g[o] = load_first(grad + o * plane + i, cols - i);
#pragma GCC unroll 8
            for (int t = 0; t < T; t++) {
                const lanes x = load_first(from[t] + i, cols - i);
#pragma GCC unroll 8
                for (int o = 0; o < O; o++)
                    sum[o][t] += g[o] * x;
            }
        }
        grad += cols;
#pragma GCC unroll 8
        for (int t = 0; t < T; t++)
            from[t] += w->row_step;
    }
#pragma GCC unroll 8
    for (int o = 0; o < O; o++)
#pragma GCC unroll 8
        for (int t = 0; t < T; t++) {
            float *to = total + (o * w->taps + t) * LANES;
            store(to, load(to) + sum[o][t]);
        }
}

#define DEFINE_WEIGHT_OUTPUTS(O)                                                                                       \
    static void weight_outputs_##O(float *total, const float *grad, ptrdiff_t plane, const float *staged,              \
                                   const struct window *w, ptrdiff_t rows)                                             \
    {                                                                                                                  \
        const ptrdiff_t parts = rounded_up(w->taps, WEIGHT_TAPS);                                                      \
        for (ptrdiff_t i = 0; i < parts; i++) {                                                                        \
            const ptrdiff_t first = part_start(w->taps, parts, i), size = part_start(w->taps, parts, i + 1) - first;   \
            float *to = total + first * LANES;                                                                         \
            const ptrdiff_t *offset = w->offset + first;                                                               \
            if (size == 1)                                                                                             \
                weight_block(O, 1, to, grad, plane, staged, offset, w, rows);                                          \
            else if (size == 2)                                                                                        \
                weight_block(O, 2, to, grad, plane, staged, offset, w, rows);                                          \
            else if (size == 3)                                                                                        \
                weight_block(O, 3, to, grad, plane, staged, offset, w, rows);                                          \
            else                                                                                                       \
                weight_block(O, WEIGHT_TAPS, to, grad, plane, staged, offset, w, rows);                                \
        }                                                                                                              \
    }

FOR_EACH_WEIGHT_BLOCK(DEFINE_WEIGHT_OUTPUTS)

static void weight_sums(float *total, const float *grad, ptrdiff_t plane, const float *staged, float *scratch,
                        const struct window *w, ptrdiff_t rows)
{
    typedef void (*outputs)(float *, const float *, ptrdiff_t, const float *, const struct window *, ptrdiff_t);
#define NAME(O) weight_outputs_##O,
    static const outputs functions[] = {FOR_EACH_WEIGHT_BLOCK(NAME)};
#undef NAME
    const ptrdiff_t blocks = rounded_up(w->outputs, WEIGHT_OUTPUTS);
    (void)scratch;
    for (ptrdiff_t b = 0; b < blocks; b++) {
        const ptrdiff_t first = part_start(w->outputs, blocks, b), last = part_start(w->outputs, blocks, b + 1);
        functions[last - first - 1](total + first * w->taps * LANES, grad + first * plane, plane, staged, w, rows);
    }
}

static void weight_result(float *grad_weight, const float *total, const struct window *w)
{
    for (ptrdiff_t i = 0; i < w->outputs * w->taps; i++) {
        lanes part = load(total + i * LANES);
        for (int width = LANES / 2; width > 0; width /= 2)
            for (int lane = 0; lane < width; lane++)
                part[lane] += part[lane + width];
        grad_weight[i] = part[0];
    }
}

const struct conv2d_direct_rows KERNELS_OF(conv2d_direct_rows) = {
    {stage, packed_size, sums_scratch, weight_scratch, pack, sums, total_size, weight_sums, weight_result}};
