/* Convolution, ReLU and 2x2 max pooling with images in the lanes: one vector is a pixel of LANES images; stride and
 * dilation 1.
 *
 * images (count, C, H, W) or kept in lanes, (C, H, W, LANES)   out (count, OC, OH / 2, OW / 2) or (OC, OH / 2, OW / 2,
 * LANES)   codes (count, OC, OH / 2, OW / 2) or none
 *
 * The images are turned round, pixel by pixel, into a padded copy in scratch memory; images that are kept in lanes and
 * have no padding are read where they lie.  A block is some channels times the four pixels of a pooled window, whose
 * sums stay in registers over all taps: a tap loads four vectors and one number per channel.  The maximum of the four
 * follows in registers, and no lane is ever empty at the end of a row.  A sum is one chain over (c, kh, kw) from the
 * bias on, as those of the other direct kernels, and has their bits; so have the pooling's. */
#include "conv2d_batch.h"

#if REGISTERS == 32
enum { CHANNELS = 6 };
#define FOR_EACH_SIZE(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6)
#else
enum { CHANNELS = 2 };
#define FOR_EACH_SIZE(DO) DO(1) DO(2)
#endif

INLINE ptrdiff_t channel_blocks(const struct batch_shape *s) { return rounded_up(s->OC, CHANNELS); }

INLINE ptrdiff_t padded_rows(const struct batch_shape *s) { return s->OH + s->KH - 1; }

INLINE ptrdiff_t padded_cols(const struct batch_shape *s) { return s->OW + s->KW - 1; }

INLINE ptrdiff_t windows_of(const struct batch_shape *s) { return s->OC * (s->OH / 2) * (s->OW / 2); }

static ptrdiff_t packed_size(const struct batch_shape *s) { return s->OC * (1 + s->C * s->KH * s->KW); }

/* scratch: the padded images, and what turning a row round writes behind it; results that are not kept in lanes */
static ptrdiff_t scratch_size(const struct batch_shape *s)
{
    return (s->C * padded_rows(s) * padded_cols(s) + rounded_up(s->W, LANES) * LANES + 2 * windows_of(s) + 2 * LANES)
           * LANES;
}

static void pack(float *packed, const float *weight, const float *bias, const struct batch_shape *s)
{
    /* block after block: bias (channels of the block,), then weights (C, KH, KW, channels of the block) */
    const ptrdiff_t blocks = channel_blocks(s), taps = s->C * s->KH * s->KW;
    for (ptrdiff_t b = 0; b < blocks; b++) {
        const ptrdiff_t first = part_start(s->OC, blocks, b), last = part_start(s->OC, blocks, b + 1);
        for (ptrdiff_t oc = first; oc < last; oc++)
            *packed++ = bias[oc];
        for (ptrdiff_t t = 0; t < taps; t++)
            for (ptrdiff_t oc = first; oc < last; oc++)
                *packed++ = weight[oc * taps + t];
    }
}

/* to (C, rows, cols, LANES), zeros around the images */
static void pad(float *to, const float *images, ptrdiff_t count, int kept, const struct batch_shape *s)
{
    const ptrdiff_t rows = padded_rows(s), cols = padded_cols(s), right = cols - s->left - s->W;
    if (!kept && rows == s->H && cols == s->W) {
        planes_to_pixels(to, images, s->C * s->H * s->W, count, s->C * s->H * s->W);
        return;
    }
    for (ptrdiff_t c = 0; c < s->C; c++)
        for (ptrdiff_t r = 0; r < rows; r++, to += cols * LANES) {
            const ptrdiff_t y = r - s->top, plane = c * s->H + y;
            const int inside = y >= 0 && y < s->H;
            for (ptrdiff_t i = 0; i < (inside ? s->left : cols); i++)
                store(to + i * LANES, (lanes){0});
            if (!inside)
                continue;
            if (kept)
                memcpy(to + s->left * LANES, images + plane * s->W * LANES, (size_t)(s->W * LANES) * sizeof(float));
            else    /* what it writes behind the row is written again */
                planes_to_pixels(to + s->left * LANES, images + plane * s->W, s->C * s->H * s->W, count, s->W);
            for (ptrdiff_t i = 0; i < right; i++)
                store(to + (s->left + s->W + i) * LANES, (lanes){0});
        }
}

/* the four pixels of one window, for O channels whose results are `plane` windows apart */
#define DEFINE_WINDOW(O)                                                                                               \
    static void window_##O(float *out, float *codes, ptrdiff_t plane, const float *from, const float *packed,          \
                           const struct batch_shape *s)                                                                \
    {                                                                                                                  \
        const ptrdiff_t line = padded_cols(s) * LANES, rest = (padded_rows(s) - s->KH) * line, KH = s->KH, KW = s->KW; \
        lanes sum[O][4];                                                                                               \
        _Pragma("GCC unroll 8") for (int o = 0; o < O; o++)                                                            \
            _Pragma("GCC unroll 4") for (int p = 0; p < 4; p++) sum[o][p] = spread(packed[o]);                         \
        for (ptrdiff_t c = 0; c < s->C; c++, from += rest)                                                             \
            for (ptrdiff_t kh = 0; kh < KH; kh++, from += line)                                                        \
                for (ptrdiff_t kw = 0; kw < KW; kw++) {                                                                \
                    const float *x = from + kw * LANES;                                                                \
                    const lanes a = load(x), b = load(x + LANES), d = load(x + line), e = load(x + line + LANES);      \
                    packed += O;                                                                                       \
                    _Pragma("GCC unroll 8") for (int o = 0; o < O; o++) {                                              \
                        const lanes weight = spread(packed[o]);                                                        \
                        sum[o][0] += weight * a;                                                                       \
                        sum[o][1] += weight * b;                                                                       \
                        sum[o][2] += weight * d;                                                                       \
                        sum[o][3] += weight * e;                                                                       \
                    }                                                                                                  \
                }                                                                                                      \
        _Pragma("GCC unroll 8") for (int o = 0; o < O; o++) {                                                          \
            lanes best = relu_of(sum[o][0]);                                                                           \
            int_lanes code = {0};                                                                                      \
            _Pragma("GCC unroll 4") for (int p = 1; p < 4; p++) challenge(&best, &code, relu_of(sum[o][p]), p);        \
            store(out + o * plane * LANES, best);                                                                      \
            if (codes)                                                                                                 \
                store(codes + o * plane * LANES, (lanes)choose(best <= (lanes){0}, (lanes)((int_lanes){0} + 4),        \
                                                               (lanes)code));                                          \
        }                                                                                                              \
    }

FOR_EACH_SIZE(DEFINE_WINDOW)

/* codes (count, pixels) from codes in lanes, (pixels, LANES) */
static void codes_to_planes(uint8_t *codes, ptrdiff_t count, const float *pixels, ptrdiff_t size)
{
    lanes row[LANES];
    for (ptrdiff_t i = 0; i < size; i += LANES) {
        for (int j = 0; j < LANES; j++)
            row[j] = load(pixels + (i + j) * LANES);
        turn(row);
        for (ptrdiff_t n = 0; n < count; n++) {
            const byte_lanes bytes = __builtin_convertvector((int_lanes)row[n], byte_lanes);
            copy_bytes(codes + n * size + i, &bytes, least(size - i, LANES));
        }
    }
}

static void images(float *out, uint8_t *codes, const float *images, ptrdiff_t count, int kept_in, int kept_out,
                   const float *packed, float *scratch, const struct batch_shape *s)
{
    typedef void (*window)(float *, float *, ptrdiff_t, const float *, const float *, const struct batch_shape *);
#define NAME(O) window_##O,
    static const window functions[] = {FOR_EACH_SIZE(NAME)};
#undef NAME
    const ptrdiff_t PH = s->OH / 2, PW = s->OW / 2, plane = PH * PW, blocks = channel_blocks(s);
    const ptrdiff_t cols = padded_cols(s), taps = s->C * s->KH * s->KW, size = windows_of(s);
    float *padded = scratch, *result = scratch + (s->C * padded_rows(s) * cols + rounded_up(s->W, LANES) * LANES) * LANES;
    float *places = codes ? result + (size + LANES) * LANES : NULL;
    if (size == 0)
        return;
    if (kept_out)
        result = out;
    if (!kept_in || padded_rows(s) != s->H || cols != s->W)
        pad(padded, images, count, kept_in, s);
    const float *from = !kept_in || padded_rows(s) != s->H || cols != s->W ? padded : images;
    for (ptrdiff_t py = 0; py < PH; py++)
        for (ptrdiff_t b = 0; b < blocks; b++) {
            const ptrdiff_t first = part_start(s->OC, blocks, b), end = part_start(s->OC, blocks, b + 1);
            for (ptrdiff_t px = 0; px < PW; px++) {
                const ptrdiff_t at = (first * plane + py * PW + px) * LANES;
                functions[end - first - 1](result + at, places ? places + at : NULL, plane,
                                           from + (2 * py * cols + 2 * px) * LANES, packed + first * (1 + taps), s);
            }
        }
    if (!kept_out)
        pixels_to_planes(out, size, count, result, size);
    if (codes)
        codes_to_planes(codes, count, places, size);
}

const struct conv2d_batch_pool KERNELS_OF(conv2d_batch_pool) = {packed_size, scratch_size, pack, images};
