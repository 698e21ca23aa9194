/* The weight gradient with lanes along the output channels.
 *
 *     grad_weight (groups, OC, K)     grad_output (N, groups, OC, OH, OW)     input (N, groups, C, H, W)
 *     sums        (shares, groups, blocks, K rounded up to 8, WIDE): partial sums
 *
 * What a strip sees of the input is staged with its padding, and grad_output is turned: WIDE output channels of a pixel
 * stand side by side.  A unit is a few of the K taps whose sums stay in registers while the pixels go by: each pixel
 * gives one row of grad_output, which is multiplied with the number that each tap sees there.  A unit's taps are a grid
 * of R * S numbers at two constant distances: the 3x3 taps of a channel, or one row of 5 or 7 of them, or for 1x1 the
 * taps of 8 channels.  So many pixels are worked on at once that turned grad_output stays in the first-level cache.
 *
 * Threads share the strips, each with partial sums of its own, which finish() adds in the order of the threads; or,
 * where those would be large, the blocks of output channels. */
#include "conv2d_job.h"
#include "conv2d_panels.h"

#define STAGED_NUMBERS 65536 /* of a strip: 256 KB */
#define PIXELS 200           /* 25 KB of turned grad_output with AVX-512 */
#define SMALL_SUMS 80000     /* numbers: up to here threads share the strips, of which each is then staged once */
#if REGISTERS == 32
#define VECTORS 2
#else
#define VECTORS 1
#endif
#define WIDE (VECTORS * LANES)
#define CHANNELS 8 /* of a unit of 1x1 */

struct pixels { /* those of a chunk: rows of pixels of images, and where the staged input of the first of each is */
    ptrdiff_t images, image, rows, row, count, step;
};

#define DEFINE_UNIT(R, S)                                                                                          \
    static void unit_##R##_##S(float *sums, const float *turned, const float *seen, ptrdiff_t down, ptrdiff_t across, \
                               const struct pixels *at, int add)                                                   \
    {                                                                                                              \
        const ptrdiff_t step = at->step;                                                                           \
        lanes sum[R * S][VECTORS];                                                                                 \
        for (int i = 0; i < R * S; i++)                                                                            \
            for (int v = 0; v < VECTORS; v++)                                                                      \
                sum[i][v] = (lanes){0};                                                                            \
        for (ptrdiff_t image = 0; image < at->images; image++)                                                     \
            for (ptrdiff_t row = 0; row < at->rows; row++) {                                                       \
                const float *from = seen + image * at->image + row * at->row;                                      \
                for (ptrdiff_t pixel = 0; pixel < at->count; pixel++, from += step, turned += WIDE) {              \
                    lanes grad[VECTORS];                                                                           \
                    for (int v = 0; v < VECTORS; v++)                                                              \
                        grad[v] = load(turned + v * LANES);                                                        \
                    for (int r = 0; r < R; r++)                                                                    \
                        for (int s = 0; s < S; s++) {                                                              \
                            lanes x = spread(from[r * down + s * across]);                                         \
                            for (int v = 0; v < VECTORS; v++)                                                      \
                                sum[r * S + s][v] += x * grad[v];                                                  \
                        }                                                                                          \
                }                                                                                                  \
            }                                                                                                      \
        for (int i = 0; i < R * S; i++)                                                                            \
            for (int v = 0; v < VECTORS; v++) {                                                                    \
                float *to = sums + i * WIDE + v * LANES;                                                           \
                store(to, add ? load(to) + sum[i][v] : sum[i][v]);                                                 \
            }                                                                                                      \
    }

DEFINE_UNIT(3, 3)
DEFINE_UNIT(1, 5)
DEFINE_UNIT(1, 7)
DEFINE_UNIT(2, 4)

static ptrdiff_t rounded(ptrdiff_t K) { return (K + CHANNELS - 1) / CHANNELS * CHANNELS; }

static int is_1x1(const struct conv2d_job *job) { return job->KH == 1 && job->KW == 1; }

static void plan(struct conv2d_job *job, int threads)
{
    ptrdiff_t K = job->C * job->KH * job->KW, C = is_1x1(job) ? rounded(job->C) : job->C, rows, blocks;
    ptrdiff_t reach_h = (job->KH - 1) * job->dilation_h + 1;
    job->blocks = (job->OC + WIDE - 1) / WIDE;
    blocks = job->blocks * job->groups;
    job->row = (job->OW - 1) * job->stride_w + (job->KW - 1) * job->dilation_w + 1;
    job->splits = 1;
    if (blocks * rounded(K) * WIDE > SMALL_SUMS && (blocks % threads == 0 || blocks >= 4 * threads))
        job->splits = threads;
    job->shares = job->splits == 1 ? threads : 1;
    for (rows = job->OH; rows > 1; rows--)
        if (C * ((rows - 1) * job->stride_h + reach_h) * job->row <= STAGED_NUMBERS
            && (job->OH + rows - 1) / rows * job->N >= job->shares)
            break;
    job->down = (job->OH + rows - 1) / rows;
    job->rows = (job->OH + job->down - 1) / job->down;
    job->plane = ((job->rows - 1) * job->stride_h + reach_h) * job->row;
    job->image = C * job->plane;
    job->images = 1;
    if (job->down == 1)
        job->images = most(1, least((job->N + job->shares - 1) / job->shares, 4 * PIXELS / (job->OH * job->OW)));
    job->parts = (job->N + job->images - 1) / job->images;
    job->items = job->parts * job->down;
    job->sums = whole_lines(blocks * rounded(K) * WIDE);
    job->scratch = whole_lines(job->images * job->image) + whole_lines(job->images * job->rows * job->OW * WIDE);
}

/* turned (images, pixels of the strip, WIDE) from the channels oc ... of a group of grad_output, 0 beyond the last */
static void turn(const struct conv2d_job *job, float *turned, const float *grad_output, const struct conv2d_strip *s,
                 ptrdiff_t oc)
{
    ptrdiff_t plane = job->OH * job->OW, pixels = s->rows * job->OW;
    for (ptrdiff_t n = 0; n < s->images; n++, turned += pixels * WIDE)
        for (ptrdiff_t first = oc; first < oc + WIDE; first += LANES) {
            const float *from = grad_output + (((s->n + n) * job->groups + s->group) * job->OC + first) * plane
                                + s->oh * job->OW;
            ptrdiff_t channels = most(0, least(LANES, job->OC - first));
            for (ptrdiff_t p = 0; p < pixels; p += LANES) {
                ptrdiff_t count = least(LANES, pixels - p);
                lanes block[LANES];
                if (channels == LANES && count == LANES) {
                    for (int i = 0; i < LANES; i++)
                        block[i] = load(from + i * plane + p);
                } else {
                    memset(block, 0, sizeof block);
                    for (ptrdiff_t i = 0; i < channels; i++)
                        memcpy(&block[i], from + i * plane + p, count * sizeof(float));
                }
                transpose(block);
                for (ptrdiff_t i = 0; i < count; i++)
                    store(turned + (p + i) * WIDE + first - oc, block[i]);
            }
        }
}

static void add_units(const struct conv2d_job *job, float *sums, const float *turned, const float *staged,
                      const struct pixels *at, int add)
{
    ptrdiff_t down = job->dilation_h * job->row, across = job->dilation_w;
    if (is_1x1(job))
        for (ptrdiff_t c = 0; c < job->C; c += CHANNELS)
            unit_2_4(sums + c * WIDE, turned, staged + c * job->plane, 4 * job->plane, job->plane, at, add);
    else if (job->KH == 3 && job->KW == 3)
        for (ptrdiff_t c = 0; c < job->C; c++)
            unit_3_3(sums + c * 9 * WIDE, turned, staged + c * job->plane, down, across, at, add);
    else
        for (ptrdiff_t c = 0; c < job->C; c++)
            for (ptrdiff_t kh = 0; kh < job->KH; kh++, sums += job->KW * WIDE) {
                const float *seen = staged + c * job->plane + kh * down;
                if (job->KW == 5)
                    unit_1_5(sums, turned, seen, 0, across, at, add);
                else
                    unit_1_7(sums, turned, seen, 0, across, at, add);
            }
}

static void stage(const struct conv2d_job *job, float *staged, const float *input, const struct conv2d_strip *s)
{
    ptrdiff_t rows = (s->rows - 1) * job->stride_h + (job->KH - 1) * job->dilation_h + 1;
    for (ptrdiff_t n = 0; n < s->images; n++)
        for (ptrdiff_t c = 0; c < job->C; c++)
            stage_plane(staged + n * job->image + c * job->plane, 0, job->row, rows, 1,
                        input + (((s->n + n) * job->groups + s->group) * job->C + c) * job->H * job->W, job->H, job->W,
                        s->oh * job->stride_h - job->top, job->left);
}

static void accumulate(const struct conv2d_job *job, float *sums, const float *grad_output, const float *input,
                       float *staged, int thread)
{
    ptrdiff_t size = rounded(job->C * job->KH * job->KW) * WIDE, all = job->groups * job->blocks;
    ptrdiff_t share = thread % job->shares, split = thread / job->shares, staged_group = -1;
    ptrdiff_t first = job->items * share / job->shares, last = job->items * (share + 1) / job->shares;
    float *turned = staged + whole_lines(job->images * job->image);
    sums += share * job->sums;
    if (first == last)
        memset(sums, 0, job->sums * sizeof(float));
    for (ptrdiff_t item = first; item < last; item++, staged_group = -1)
        for (ptrdiff_t block = all * split / job->splits; block < all * (split + 1) / job->splits; block++) {
            struct conv2d_strip s = conv2d_strip_at(job, item);
            struct pixels at = {.row = job->stride_h * job->row, .count = job->OW, .step = job->stride_w};
            s.group = block / job->blocks;
            if (s.group != staged_group)
                stage(job, staged, input, &s);
            staged_group = s.group;
            turn(job, turned, grad_output, &s, block % job->blocks * WIDE);
            ptrdiff_t chunks = least(s.rows, (s.rows * job->OW + PIXELS - 1) / PIXELS);
            ptrdiff_t rows = (s.rows + chunks - 1) / chunks;
            ptrdiff_t images = rows == s.rows ? most(1, PIXELS / (rows * job->OW)) : 1;
            for (ptrdiff_t n = 0; n < s.images; n += images)
                for (ptrdiff_t oh = 0; oh < s.rows; oh += rows) {
                    at.images = least(images, s.images - n);
                    at.image = job->image;
                    at.rows = least(rows, s.rows - oh);
                    add_units(job, sums + block * size, turned + (n * s.rows + oh) * job->OW * WIDE,
                              staged + n * job->image + oh * at.row, &at, item > first || n > 0 || oh > 0);
                }
        }
}

/* grad_weight (OC, K) of a block from the partial sums (K, WIDE) of all shares */
static void finish(const struct conv2d_job *job, float *grad_weight, const float *sums, ptrdiff_t first, ptrdiff_t last)
{
    ptrdiff_t K = job->C * job->KH * job->KW;
    for (ptrdiff_t index = first; index < last; index++) {
        const float *from = sums + index * rounded(K) * WIDE;
        ptrdiff_t oc = index % job->blocks * WIDE, end = least(oc + WIDE, job->OC);
        for (; oc < end; oc += LANES, from += LANES) {
            float *to = grad_weight + (index / job->blocks * job->OC + oc) * K;
            for (ptrdiff_t k = 0; k < K; k += LANES) {
                lanes block[LANES];
                for (int i = 0; i < LANES; i++) {
                    block[i] = (lanes){0};
                    if (k + i < K)
                        for (ptrdiff_t share = 0; share < job->shares; share++)
                            block[i] += load(from + share * job->sums + (k + i) * WIDE);
                }
                transpose(block);
                for (ptrdiff_t i = 0; i < least(LANES, end - oc); i++)
                    memcpy(to + i * K + k, &block[i], least(LANES, K - k) * sizeof(float));
            }
        }
    }
}

const struct conv2d_weight KERNELS_OF(conv2d_weight) = {plan, accumulate, finish};
