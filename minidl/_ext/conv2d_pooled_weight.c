/* The gradient of a convolution's weight from pooled gradients: only pixels that got one are multiplied.
 *
 * image (C, H, W)   grad, codes (OC, OH / 2, OW / 2)   total (OC, vectors, LANES)
 *
 * What a pixel of grad_output saw of the image is a patch (KH, C, KW); the patches of a column of pixels lie in scratch
 * memory one row after the other, (rows, pitch), so that each is one run of numbers and they share rows.  The pitch is
 * C * KW, or the next multiple of LANES where aligned vectors are worth more than shorter patches.  First, per window
 * and channel, the start of the patch that has a gradient, and the gradient, 0 if there is none.  Then the patches times
 * their gradients are added up in registers and on to the total: long patches channel by channel, without those whose
 * gradient is 0; of short ones several channels at a time, so that no sum waits for itself.  Lanes between two rows of a
 * patch hold numbers of nobody and are left out in the end. */
#include "conv2d_pooled.h"

#if REGISTERS == 32
enum { MOST = 20, SHORT_PATCH = 4, CHANNELS = 8 };
#define FOR_EACH_SIZE(DO)                                                                                              \
    DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14) DO(15) DO(16) DO(17)      \
    DO(18) DO(19) DO(20)
/* vectors of a short patch, channels at a time */
static const ptrdiff_t channels_of[SHORT_PATCH] = {8, 8, 6, 5};
#else
enum { MOST = 12, SHORT_PATCH = 4, CHANNELS = 8 };
#define FOR_EACH_SIZE(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12)
static const ptrdiff_t channels_of[SHORT_PATCH] = {8, 6, 4, 3};
#endif
#define FOR_EACH_SHORT(DO)                                                                                             \
    DO(1, 1) DO(1, 2) DO(1, 3) DO(1, 4) DO(1, 5) DO(1, 6) DO(1, 7) DO(1, 8)                                            \
    DO(2, 1) DO(2, 2) DO(2, 3) DO(2, 4) DO(2, 5) DO(2, 6) DO(2, 7) DO(2, 8)                                            \
    DO(3, 1) DO(3, 2) DO(3, 3) DO(3, 4) DO(3, 5) DO(3, 6) DO(3, 7) DO(3, 8)                                            \
    DO(4, 1) DO(4, 2) DO(4, 3) DO(4, 4) DO(4, 5) DO(4, 6) DO(4, 7) DO(4, 8)

/* how the columns of patches lie */
struct columns {
    ptrdiff_t pitch, vectors;   /* numbers of a row of a patch, vectors of a whole patch */
    ptrdiff_t rows, cols;       /* of the padded image that windows see */
    ptrdiff_t column;           /* numbers of a column */
};

static struct columns columns_of(const struct pooled_shape *s)
{
    const ptrdiff_t run = s->C * s->KW, exact = rounded_up(s->KH * run, LANES);
    const ptrdiff_t aligned = s->KH * rounded_up(run, LANES), rows = s->OH / 2 * 2 + s->KH - 1;
    const ptrdiff_t pitch = aligned <= 2 * exact ? rounded_up(run, LANES) * LANES : run;
    return (struct columns){pitch, aligned <= 2 * exact ? aligned : exact, rows, s->OW / 2 * 2 + s->KW - 1,
                            rounded_up(rows * pitch, LANES) * LANES};
}

/* scratch: the padded image; the columns, with what a patch may reach behind them; starts of the windows; then starts
 * and gradients of all channels */
INLINE ptrdiff_t planes_size(const struct pooled_shape *s, const struct columns *c)
{
    return rounded_up(s->C * c->rows * c->cols + 2 * SLACK, LANES) * LANES;
}

INLINE ptrdiff_t columns_size(const struct pooled_shape *s, const struct columns *c)
{
    return s->OW / 2 * 2 * c->column + (c->vectors + 1) * LANES;
}

INLINE ptrdiff_t windows_size(const struct pooled_shape *s)
{
    return rounded_up(s->OH / 2 * (s->OW / 2), LANES) * LANES;
}

static ptrdiff_t scratch_size(const struct pooled_shape *s)
{
    const struct columns c = columns_of(s);
    return planes_size(s, &c) + columns_size(s, &c) + (1 + 2 * s->OC) * windows_size(s) + LANES;
}

static ptrdiff_t total_size(const struct pooled_shape *s) { return s->OC * columns_of(s).vectors * LANES; }

typedef float eight __attribute__((vector_size(32), aligned(4), may_alias));
enum { SHORT = 8 };

/* columns (OW, rows, C, KW) from the padded planes (C, rows, cols): what is copied too much is written again */
static void lay_columns(float *columns, const float *planes, const struct pooled_shape *s, const struct columns *l)
{
    const ptrdiff_t plane = l->rows * l->cols;
    for (ptrdiff_t ow = 0; ow < s->OW / 2 * 2; ow++)
        for (ptrdiff_t r = 0; r < l->rows; r++) {
            float *to = columns + ow * l->column + r * l->pitch;
            const float *from = planes + r * l->cols + ow;
            if (s->KW <= SHORT)
                for (ptrdiff_t c = 0; c < s->C; c++)
                    *(eight *)(to + c * s->KW) = *(const eight *)(from + c * plane);
            else
                for (ptrdiff_t c = 0; c < s->C; c++)
                    copy_numbers(to + c * s->KW, from + c * plane, s->KW);
        }
}

/* starts, grads (OC, windows_size) */
static void find_patches(int32_t *starts, float *grads, float *sums, const float *grad, const uint8_t *codes,
                         int32_t *first, const struct pooled_shape *s, const struct columns *l)
{
    const ptrdiff_t PH = s->OH / 2, PW = s->OW / 2, windows = PH * PW, size = windows_size(s);
    const int_lanes right = (int_lanes){0} + (int32_t)l->column, below = (int_lanes){0} + (int32_t)l->pitch;
    for (ptrdiff_t py = 0; py < PH; py++)
        for (ptrdiff_t px = 0; px < PW; px++)
            first[py * PW + px] = (int32_t)(2 * px * l->column + 2 * py * l->pitch);
    for (ptrdiff_t oc = 0; oc < s->OC; oc++, grad += windows, codes += windows, starts += size, grads += size) {
        lanes sum = {0};
        for (ptrdiff_t i = 0; i < windows; i += LANES) {
            const ptrdiff_t left = least(windows - i, LANES);
            byte_lanes bytes = (byte_lanes){0} + 4;
            lanes g = left == LANES ? load(grad + i) : load_first(grad + i, left);
            copy_bytes(&bytes, codes + i, left);
            const int_lanes code = __builtin_convertvector(bytes, int_lanes);
            g = (lanes)((int_lanes)g & (code < 4));
            sum += g;
            store(grads + i, g);
            const int_lanes start = (int_lanes)load((const float *)(first + i));
            store((float *)(starts + i), (lanes)(start + (right & -(code & 1)) + (below & -(code >> 1 & 1))));
        }
        sums[oc] = add_lanes(sum);
    }
}

/* V vectors of n patches, times their gradients */
#define DEFINE_ADD(V)                                                                                                  \
    static void add_##V(float *total, const float *columns, const float *grads, const int32_t *starts, ptrdiff_t n)    \
    {                                                                                                                  \
        lanes sum[V];                                                                                                  \
        _Pragma("GCC unroll 20") for (int v = 0; v < V; v++) sum[v] = (lanes){0};                                      \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                            \
            const float *patch = columns + starts[i];                                                                  \
            const lanes g = spread(grads[i]);                                                                          \
            _Pragma("GCC unroll 20") for (int v = 0; v < V; v++) sum[v] += g * load(patch + v * LANES);                \
        }                                                                                                              \
        _Pragma("GCC unroll 20") for (int v = 0; v < V; v++)                                                           \
            store(total + v * LANES, load(total + v * LANES) + sum[v]);                                                \
    }

FOR_EACH_SIZE(DEFINE_ADD)

/* the same for O channels, whose windows are `size` apart and all taken */
#define DEFINE_SHORT(V, O)                                                                                             \
    static void short_##V##_##O(float *total, const float *columns, const float *grads, const int32_t *starts,         \
                                ptrdiff_t windows, ptrdiff_t size)                                                     \
    {                                                                                                                  \
        lanes sum[O][V];                                                                                               \
        _Pragma("GCC unroll 8") for (int o = 0; o < O; o++)                                                            \
            _Pragma("GCC unroll 4") for (int v = 0; v < V; v++) sum[o][v] = (lanes){0};                                \
        for (ptrdiff_t i = 0; i < windows; i++) {                                                                      \
            _Pragma("GCC unroll 8") for (int o = 0; o < O; o++) {                                                      \
                const float *patch = columns + starts[o * size + i];                                                   \
                const lanes g = spread(grads[o * size + i]);                                                           \
                _Pragma("GCC unroll 4") for (int v = 0; v < V; v++) sum[o][v] += g * load(patch + v * LANES);          \
            }                                                                                                          \
        }                                                                                                              \
        _Pragma("GCC unroll 8") for (int o = 0; o < O; o++)                                                            \
            _Pragma("GCC unroll 4") for (int v = 0; v < V; v++)                                                        \
                store(total + (o * V + v) * LANES, load(total + (o * V + v) * LANES) + sum[o][v]);                     \
    }

FOR_EACH_SHORT(DEFINE_SHORT)

typedef void (*add)(float *, const float *, const float *, const int32_t *, ptrdiff_t);
typedef void (*short_add)(float *, const float *, const float *, const int32_t *, ptrdiff_t, ptrdiff_t);

static void add_short(float *total, const float *columns, const float *grads, const int32_t *starts,
                      ptrdiff_t vectors, const struct pooled_shape *s)
{
#define NAME(V, O) short_##V##_##O,
    static const short_add functions[] = {FOR_EACH_SHORT(NAME)};
#undef NAME
    const ptrdiff_t size = windows_size(s), parts = rounded_up(s->OC, channels_of[vectors - 1]);
    for (ptrdiff_t part = 0; part < parts; part++) {
        const ptrdiff_t first = part_start(s->OC, parts, part), end = part_start(s->OC, parts, part + 1);
        functions[(vectors - 1) * CHANNELS + end - first - 1](total + first * vectors * LANES, columns,
                                                              grads + first * size, starts + first * size,
                                                              s->OH / 2 * (s->OW / 2), size);
    }
}

static void add_long(float *total, const float *columns, float *grads, int32_t *starts, ptrdiff_t vectors,
                     const struct pooled_shape *s)
{
#define NAME(V) add_##V,
    static const add functions[] = {FOR_EACH_SIZE(NAME)};
#undef NAME
    const ptrdiff_t parts = rounded_up(vectors, MOST), windows = s->OH / 2 * (s->OW / 2), size = windows_size(s);
    for (ptrdiff_t oc = 0; oc < s->OC; oc++, total += vectors * LANES, grads += size, starts += size) {
        ptrdiff_t n = 0;
        for (ptrdiff_t i = 0; i < windows; i++) {
            const float g = grads[i];
            starts[n] = starts[i];
            grads[n] = g;
            n += g != 0;
        }
        for (ptrdiff_t part = 0; part < parts; part++) {
            const ptrdiff_t first = part_start(vectors, parts, part), end = part_start(vectors, parts, part + 1);
            functions[end - first - 1](total + first * LANES, columns + first * LANES, grads, starts, n);
        }
    }
}

static void image(float *total, float *sums, const float *grad, const uint8_t *codes, const float *image, float *scratch,
                  const struct pooled_shape *s)
{
    const struct columns l = columns_of(s);
    const struct staging staging = {s->C, s->H, s->W, -s->top, -s->left, l.rows, 1, l.cols};
    float *columns = scratch + planes_size(s, &l), *grads = columns + rounded_up(columns_size(s, &l), LANES) * LANES;
    int32_t *starts = (int32_t *)(grads + s->OC * windows_size(s)), *first = starts + s->OC * windows_size(s);
    if (s->OH < 2 || s->OW < 2)
        return;
    stage(scratch, image, &staging);
    lay_columns(columns, scratch, s, &l);
    find_patches(starts, grads, sums, grad, codes, first, s, &l);
    if (l.vectors <= SHORT_PATCH)
        add_short(total, columns, grads, starts, l.vectors, s);
    else
        add_long(total, columns, grads, starts, l.vectors, s);
}

static void result(float *grad_weight, const float *total, const struct pooled_shape *s)
{
    const struct columns l = columns_of(s);
    for (ptrdiff_t oc = 0; oc < s->OC; oc++, total += l.vectors * LANES)
        for (ptrdiff_t c = 0; c < s->C; c++)
            for (ptrdiff_t kh = 0; kh < s->KH; kh++)
                for (ptrdiff_t kw = 0; kw < s->KW; kw++)
                    *grad_weight++ = total[kh * l.pitch + c * s->KW + kw];
}

const struct conv2d_pooled_weight KERNELS_OF(conv2d_pooled_weight) = {scratch_size, total_size, image, result};
