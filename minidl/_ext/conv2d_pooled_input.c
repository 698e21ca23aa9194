/* The gradient of a convolution's input from pooled gradients: what each live pixel of grad_output gives is added up.
 *
 * grad, codes (OC, OH / 2, OW / 2)   packed (OC, KH, KW, C): each row (KW, C) filled up with zeros to whole vectors
 *
 * A pixel of grad_output gives to a patch (KH, KW, C) of the image: its gradient times the weights of its channel.  The
 * channels of a window whose code is the same give to the same patch; the patch is added up over them in registers and
 * then added once to a padded image of pixels (rows, cols, C) in scratch memory, from which the result is cut out.  In
 * an image of pixels a row of a patch is one run of numbers. */
#include "conv2d_pooled.h"

#if REGISTERS == 32
enum { MOST = 20 };
#define FOR_EACH_SIZE(DO)                                                                                              \
    DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14) DO(15) DO(16) DO(17)      \
    DO(18) DO(19) DO(20)
#else
enum { MOST = 12 };
#define FOR_EACH_SIZE(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12)
#endif
enum { CODES = 5 };             /* the last one: no gradient */

INLINE ptrdiff_t row_vectors(const struct pooled_shape *s) { return rounded_up(s->KW * s->C, LANES); }

INLINE ptrdiff_t patch_vectors(const struct pooled_shape *s) { return s->KH * row_vectors(s); }

INLINE ptrdiff_t image_rows(const struct pooled_shape *s) { return s->OH / 2 * 2 + s->KH - 1; }

INLINE ptrdiff_t image_cols(const struct pooled_shape *s) { return s->OW / 2 * 2 + s->KW - 1; }

INLINE ptrdiff_t image_size(const struct pooled_shape *s)
{
    return rounded_up(image_rows(s) * image_cols(s) * s->C, LANES) * LANES + LANES;
}

static ptrdiff_t packed_size(const struct pooled_shape *s) { return s->OC * patch_vectors(s) * LANES; }

/* scratch: the padded image; where each vector of a patch goes; per code, gradients and places in `packed` */
static ptrdiff_t scratch_size(const struct pooled_shape *s)
{
    return image_size(s) + 2 * rounded_up(patch_vectors(s), LANES) * LANES
           + 2 * CODES * rounded_up(s->OC + 1, LANES) * LANES;
}

static void pack(float *packed, const float *weight, const struct pooled_shape *s)
{
    const ptrdiff_t area = s->KH * s->KW, row = row_vectors(s) * LANES;
    memset(packed, 0, (size_t)packed_size(s) * sizeof(float));
    for (ptrdiff_t oc = 0; oc < s->OC; oc++, packed += s->KH * row)
        for (ptrdiff_t c = 0; c < s->C; c++, weight += area)
            for (ptrdiff_t kh = 0; kh < s->KH; kh++)
                for (ptrdiff_t kw = 0; kw < s->KW; kw++)
                    packed[kh * row + kw * s->C + c] = weight[kh * s->KW + kw];
}

/* V vectors of the patch of n channels; vector v goes to image + where[v], of its lanes those that `keep` has there */
#define DEFINE_ADD(V)                                                                                                  \
    static void add_##V(float *image, const ptrdiff_t *where, const float *packed, const float *grads,                 \
                        const int32_t *places, ptrdiff_t n, ptrdiff_t first, ptrdiff_t row, int_lanes keep)            \
    {                                                                                                                  \
        lanes sum[V];                                                                                                  \
        _Pragma("GCC unroll 20") for (int v = 0; v < V; v++) sum[v] = (lanes){0};                                      \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                            \
            const float *weight = packed + places[i];                                                                  \
            const lanes g = spread(grads[i]);                                                                          \
            _Pragma("GCC unroll 20") for (int v = 0; v < V; v++) sum[v] += g * load(weight + v * LANES);               \
        }                                                                                                              \
        ptrdiff_t left = row - first % row;                                                                            \
        _Pragma("GCC unroll 20") for (int v = 0; v < V; v++) {                                                         \
            float *to = image + where[v];                                                                              \
            if (--left == 0) {                                                                                         \
                left = row;                                                                                            \
                sum[v] = (lanes)((int_lanes)sum[v] & keep);                                                            \
            }                                                                                                          \
            store(to, load(to) + sum[v]);                                                                              \
        }                                                                                                              \
    }

FOR_EACH_SIZE(DEFINE_ADD)

typedef void (*add)(float *, const ptrdiff_t *, const float *, const float *, const int32_t *, ptrdiff_t, ptrdiff_t,
                    ptrdiff_t, int_lanes);

/* the result is the part of the padded image that begins at (top, left); what no window reaches is 0 */
static void cut_out(float *grad_image, const float *padded, const struct pooled_shape *s)
{
    const ptrdiff_t rows = image_rows(s), cols = image_cols(s), C = s->C;
    const ptrdiff_t width = most(least(cols - s->left, s->W), 0), height = most(least(rows - s->top, s->H), 0);
    padded += (s->top * cols + s->left) * C;
    for (ptrdiff_t c = 0; c < C; c++)
        for (ptrdiff_t y = 0; y < s->H; y++, grad_image += s->W) {
            const float *from = padded + y * cols * C + c;
            const ptrdiff_t size = y < height ? width : 0;
            for (ptrdiff_t x = 0; x < size; x++)
                grad_image[x] = from[x * C];
            for (ptrdiff_t x = size; x < s->W; x++)
                grad_image[x] = 0;
        }
}

static void image(float *grad_image, const float *grad, const uint8_t *codes, const float *packed, float *scratch, const struct pooled_shape *s)
{
#define NAME(V) add_##V,
    static const add functions[] = {FOR_EACH_SIZE(NAME)};
#undef NAME
    const ptrdiff_t row = row_vectors(s), vectors = patch_vectors(s), parts = rounded_up(vectors, MOST);
    const ptrdiff_t line = image_cols(s) * s->C, PH = s->OH / 2, PW = s->OW / 2, windows = PH * PW;
    const ptrdiff_t list = rounded_up(s->OC + 1, LANES) * LANES, size = image_size(s);
    ptrdiff_t *where = (ptrdiff_t *)(scratch + size);
    float *grads = scratch + size + 2 * rounded_up(vectors, LANES) * LANES;
    int32_t *places = (int32_t *)(grads + CODES * list);
    const ptrdiff_t shift[CODES - 1] = {0, s->C, line, line + s->C};
    const int32_t used = (int32_t)(s->KW * s->C - (row - 1) * LANES);
    int_lanes keep;
    for (int lane = 0; lane < LANES; lane++)
        keep[lane] = lane < used ? -1 : 0;
    for (ptrdiff_t v = 0; v < vectors; v++)
        where[v] = v / row * line + v % row * LANES;
    memset(scratch, 0, (size_t)size * sizeof(float));
    for (ptrdiff_t py = 0, i = 0; py < PH; py++)
        for (ptrdiff_t px = 0; px < PW; px++, i++) {
            ptrdiff_t count[CODES] = {0};
            for (ptrdiff_t oc = 0; oc < s->OC; oc++) {
                const uint8_t code = codes[oc * windows + i];
                const ptrdiff_t at = code * list + count[code]++;
                grads[at] = grad[oc * windows + i];
                places[at] = (int32_t)(oc * vectors * LANES);
            }
            for (int code = 0; code < CODES - 1; code++)
                for (ptrdiff_t part = 0; part < parts && count[code]; part++) {
                    const ptrdiff_t first = part_start(vectors, parts, part), end = part_start(vectors, parts, part + 1);
                    functions[end - first - 1](scratch + 2 * py * line + 2 * px * s->C + shift[code], where + first,
                                               packed + first * LANES, grads + code * list, places + code * list,
                                               count[code], first, row, keep);
                }
        }
    cut_out(grad_image, scratch, s);
}

const struct conv2d_pooled_input KERNELS_OF(conv2d_pooled_input) = {packed_size, scratch_size, pack, image};
