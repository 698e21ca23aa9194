/* Depthwise convolution, and any with very few channels in a group: lanes along the rows of pixels.
 *
 *     input  (N, groups, C, H, W)    output (N, groups, OC, OH, OW)    weight: one number for each oc, c, tap
 *
 * The planes of one image and group are staged with their padding, columns of equal remainder by stride_w side by side,
 * so that what one tap sees of an output row is a run of numbers.  The last vector of a row overlaps the one before it
 * and so does the last block of rows: they compute some pixels twice, with the same result. */
#include "conv2d_job.h"
#include "conv2d_panels.h"

#define ROWS 4 /* of output that are worked on at once, with each number of the weight */
#define TAPS 9 /* of weight gradients that are summed at once */

static ptrdiff_t slack(void) { return LANES; } /* vectors may reach so far behind what they need */

static void plan(struct conv2d_job *job, int threads)
{
    ptrdiff_t seen = (job->OH - 1) * job->stride_h + (job->KH - 1) * job->dilation_h + 1;
    (void)threads;
    job->row = job->OW + (job->KW - 1) * job->dilation_w / job->stride_w;
    job->plane = seen * job->row;
    job->scratch = whole_lines(job->C * job->stride_w * job->plane + slack())
                   + whole_lines(2 * (job->KH * job->KW + TAPS));
    job->items = job->N * job->groups;
}

static ptrdiff_t *offsets_in(const struct conv2d_job *job, float *scratch)
{
    return (ptrdiff_t *)(scratch + whole_lines(job->C * job->stride_w * job->plane + slack()));
}

/* offsets (KH * KW + TAPS): where a tap sees the first pixel of a staged plane; those behind the last see it, too */
static void find_offsets(const struct conv2d_job *job, ptrdiff_t *offsets)
{
    ptrdiff_t taps = job->KH * job->KW;
    for (ptrdiff_t tap = 0; tap < taps; tap++) {
        ptrdiff_t column = tap % job->KW * job->dilation_w;
        offsets[tap] = column % job->stride_w * job->plane + tap / job->KW * job->dilation_h * job->row
                       + column / job->stride_w;
    }
    for (ptrdiff_t tap = taps; tap < taps + TAPS; tap++)
        offsets[tap] = 0;
}

static void stage(const struct conv2d_job *job, float *staged, const float *planes)
{
    ptrdiff_t seen = (job->OH - 1) * job->stride_h + (job->KH - 1) * job->dilation_h + 1, size = job->stride_w * job->plane;
    for (ptrdiff_t c = 0; c < job->C; c++)
        stage_plane(staged + c * size, job->plane, job->row, seen, job->stride_w, planes + c * job->H * job->W, job->H,
                    job->W, -job->top, job->left);
    clear(staged + job->C * size, slack());
}

/* rows (ROWS or 1, LANES or less) of output pixels, OW apart, from where the first tap sees the first of them */
INLINE void pixels(const struct conv2d_job *job, float *to, const float *seen, const float *weight, float bias,
                   const ptrdiff_t *offsets, int rows, ptrdiff_t count)
{
    const ptrdiff_t down = job->stride_h * job->row, taps = job->KH * job->KW;
    lanes sum[ROWS];
    for (int r = 0; r < rows; r++)
        sum[r] = spread(bias);
    for (ptrdiff_t c = 0; c < job->C; c++, seen += job->stride_w * job->plane, weight += job->c_step)
        for (ptrdiff_t tap = 0; tap < taps; tap++) {
            lanes factor = spread(weight[job->flipped ? taps - 1 - tap : tap]);
            for (int r = 0; r < rows; r++)
                sum[r] += factor * load(seen + offsets[tap] + r * down);
        }
    for (int r = 0; r < rows; r++, to += job->OW)
        if (count == LANES)
            store(to, sum[r]);
        else
            memcpy(to, &sum[r], count * sizeof(float));
}

static void multiply(const struct conv2d_job *job, float *output, const float *input, const float *weight,
                     const float *bias, float *staged, ptrdiff_t first, ptrdiff_t last)
{
    ptrdiff_t plane = job->OH * job->OW, down = job->stride_h * job->row, count = least(LANES, job->OW);
    ptrdiff_t *offsets = offsets_in(job, staged);
    find_offsets(job, offsets);
    for (ptrdiff_t item = first; item < last; item++) {
        const float *of_group = weight + item % job->groups * job->OC * job->C * job->KH * job->KW;
        stage(job, staged, input + item * job->C * job->H * job->W);
        for (ptrdiff_t oc = 0; oc < job->OC; oc++) {
            float *out = output + (item * job->OC + oc) * plane;
            float more = bias ? bias[item % job->groups * job->OC + oc] : 0;
            const float *mine = of_group + oc * job->oc_step;
            for (ptrdiff_t row = 0; row < job->OH; row += job->OH < ROWS ? 1 : ROWS) {
                ptrdiff_t oh = job->OH < ROWS ? row : least(row, job->OH - ROWS);
                for (ptrdiff_t column = 0; column < job->OW; column += LANES) {
                    ptrdiff_t ow = least(column, job->OW - count);
                    const float *seen = staged + oh * down + ow;
                    if (job->OH < ROWS)
                        pixels(job, out + oh * job->OW + ow, seen, mine, more, offsets, 1, count);
                    else
                        pixels(job, out + oh * job->OW + ow, seen, mine, more, offsets, ROWS, count);
                }
            }
        }
    }
}

/* sums (TAPS,) += over the pixels of grad (OH, OW) times what each tap sees of a staged plane */
INLINE void add_taps(const struct conv2d_job *job, lanes *sums, const float *grad, const float *staged,
                     const ptrdiff_t *offsets)
{
    ptrdiff_t down = job->stride_h * job->row, whole = job->OW / LANES * LANES, rest = job->OW - whole;
    lanes sum[TAPS];
    memcpy(sum, sums, sizeof sum);
    for (ptrdiff_t oh = 0; oh < job->OH; oh++, grad += job->OW, staged += down) {
        for (ptrdiff_t ow = 0; ow < whole; ow += LANES) {
            lanes factor = load(grad + ow);
            for (int tap = 0; tap < TAPS; tap++)
                sum[tap] += factor * load(staged + ow + offsets[tap]);
        }
        if (rest) {
            lanes factor = {0};
            memcpy(&factor, grad + whole, rest * sizeof(float));
            for (int tap = 0; tap < TAPS; tap++)
                sum[tap] += factor * load(staged + whole + offsets[tap]);
        }
    }
    memcpy(sums, sum, sizeof sum);
}

/* grad_weight (groups, OC, KH * KW) with C = 1: the groups first ... last - 1, each summed over all images in order */
static void multiply_weight(const struct conv2d_job *job, float *grad_weight, const float *grad_output,
                            const float *input, float *staged, ptrdiff_t first, ptrdiff_t last)
{
    ptrdiff_t plane = job->OH * job->OW, taps = job->KH * job->KW;
    ptrdiff_t *offsets = offsets_in(job, staged);
    find_offsets(job, offsets);
    for (ptrdiff_t group = first; group < last; group++) {
        float *to = grad_weight + group * job->OC * taps;
        memset(to, 0, job->OC * taps * sizeof(float));
        for (ptrdiff_t n = 0; n < job->N; n++) {
            ptrdiff_t item = n * job->groups + group;
            stage(job, staged, input + item * job->H * job->W);
            for (ptrdiff_t oc = 0; oc < job->OC; oc++)
                for (ptrdiff_t tap = 0; tap < taps; tap += TAPS) {
                    lanes sums[TAPS] = {{0}};
                    add_taps(job, sums, grad_output + (item * job->OC + oc) * plane, staged, offsets + tap);
                    for (ptrdiff_t t = 0; t < least(TAPS, taps - tap); t++) {
                        float total = 0;
                        for (int i = 0; i < LANES; i++)
                            total += sums[t][i];
                        to[oc * taps + tap + t] += total;
                    }
                }
        }
    }
}

const struct conv2d_planes KERNELS_OF(conv2d_planes) = {plan, multiply, multiply_weight};
