/* Convolution as products of packed panels, with the columns of im2col made a panel at a time in the first-level cache.
 *
 *     input  (N, groups, C, H, W)    output (N, groups, OC, OH, OW)
 *     packed (groups, blocks, K, MR), K = C * KH * KW: the weight, MR output channels side by side, 0 where OC ends
 *
 * A strip is some rows of one image or all rows of several images.  multiply() copies what a strip sees of the input
 * into scratch memory, with its padding; columns of equal remainder by stride_w stand side by side, so that what one
 * tap sees of an output row is a run.  The output pixels of the strip are numbered from 0 and taken PANEL at a time:
 * DEPTH taps of them are copied side by side, multiplied with all blocks of the weight, and added up in a tile
 * (OC, PANEL), which goes to output with the bias.  A 1x1 convolution of stride 1 without padding reads its panels from
 * the input itself. */
#include "conv2d_job.h"
#include "conv2d_panels.h"

#define STAGED_NUMBERS 65536   /* of a strip: 256 KB stay in a second-level cache */
#define UNSTAGED_PIXELS 256    /* of an image: so many panels that the last one may be narrow */

struct piece { /* up to LANES pixels of a panel that are neighbours in the staged input, too */
    ptrdiff_t from, to;
};

static int reads_input(const struct conv2d_job *job)
{
    return job->KH == 1 && job->KW == 1 && job->stride_h == 1 && job->stride_w == 1 && job->top == 0 && job->left == 0
           && job->OH == job->H && job->OW == job->W && job->OH * job->OW >= UNSTAGED_PIXELS;
}

static void plan(struct conv2d_job *job, int threads)
{
    ptrdiff_t K = job->C * job->KH * job->KW, rows, best = 1, units;
    ptrdiff_t reach_h = (job->KH - 1) * job->dilation_h + 1;
    double least_waste = 1e30;
    job->blocks = (job->OC + MR - 1) / MR;
    job->packed = job->groups * job->blocks * K * MR;
    job->row = job->OW + (job->KW - 1) * job->dilation_w / job->stride_w;
    for (rows = 1; rows <= job->OH; rows++) {
        ptrdiff_t numbers = job->C * job->stride_w * ((rows - 1) * job->stride_h + reach_h) * job->row;
        ptrdiff_t down = (job->OH + rows - 1) / rows, vectors = (rows * job->OW + LANES - 1) / LANES;
        double waste = (double)(down * vectors * LANES + down * (reach_h - 1) * job->row / 4);
        if (rows > 1 && numbers > STAGED_NUMBERS)
            break;
        if (down * job->N * job->groups >= threads && waste < least_waste) {
            least_waste = waste;
            best = rows;
        }
    }
    job->rows = least_waste < 1e30 ? best : job->OH;
    job->images = 1;
    if (reads_input(job))
        job->rows = job->OH;
    else if (job->rows == job->OH)
        job->images = most(1, least((job->N + threads - 1) / threads, 8 * PANEL / (job->OH * job->OW) + 1));
    job->down = (job->OH + job->rows - 1) / job->rows;
    job->parts = (job->N + job->images - 1) / job->images;
    units = job->parts * job->down * job->groups;
    job->splits = 1;
    if (units < threads || (units % threads && units < 4 * threads))
        job->splits = least(threads, job->blocks);
    if (job->splits > 1 && !reads_input(job) && job->rows == job->OH) {
        job->images = job->N;
        job->parts = 1;
    }
    job->items = job->splits * job->groups * job->parts * job->down;
    job->plane = ((job->rows - 1) * job->stride_h + reach_h) * job->row;
    job->image = job->C * job->stride_w * job->plane;
    if (reads_input(job)) {
        job->plane = job->H * job->W;
        job->image = 0;
    }
    job->scratch = whole_lines(job->image * job->images + LANES) + whole_lines((DEPTH + 1) * PANEL)
                   + whole_lines(job->blocks * MR * PANEL) + whole_lines(job->KH * job->KW * 2);
}

static void pack(const struct conv2d_job *job, float *packed, const float *weight, ptrdiff_t first, ptrdiff_t last)
{
    ptrdiff_t taps = job->KH * job->KW, K = job->C * taps;
    for (ptrdiff_t index = first; index < last; index++) {
        ptrdiff_t oc = index % job->blocks * MR, count = least(MR, job->OC - oc);
        const float *from = weight + index / job->blocks * job->OC * K + oc * job->oc_step;
        float *block = packed + index * K * MR;
        if (count < MR)
            memset(block, 0, K * MR * sizeof(float));
        for (ptrdiff_t c = 0; c < job->C; c++, from += job->c_step)
            for (ptrdiff_t i = 0; i < count; i++) {
                const float *one = from + i * job->oc_step;
                if (job->flipped)
                    for (ptrdiff_t tap = 0; tap < taps; tap++)
                        block[(c * taps + taps - 1 - tap) * MR + i] = one[tap];
                else
                    for (ptrdiff_t tap = 0; tap < taps; tap++)
                        block[(c * taps + tap) * MR + i] = one[tap];
            }
    }
}

/* staged (images, C, stride_w, rows that the strip sees, row) from input */
static void stage(const struct conv2d_job *job, float *staged, const float *input, const struct conv2d_strip *s)
{
    ptrdiff_t step = job->stride_w, seen = (s->rows - 1) * job->stride_h + (job->KH - 1) * job->dilation_h + 1;
    ptrdiff_t top = s->oh * job->stride_h - job->top;
    for (ptrdiff_t n = 0; n < s->images; n++)
        for (ptrdiff_t c = 0; c < job->C; c++) {
            const float *from = input + (((s->n + n) * job->groups + s->group) * job->C + c) * job->H * job->W;
            stage_plane(staged + n * job->image + c * step * job->plane, job->plane, job->row, seen, step, from, job->H,
                        job->W, top, job->left);
        }
}

/* where the pixels first ... first + count - 1 of a strip are staged; returns the number of pieces */
static int cut(const struct conv2d_job *job, const struct conv2d_strip *s, ptrdiff_t first, ptrdiff_t count,
               struct piece *pieces)
{
    ptrdiff_t pixels = s->rows * job->OW, done = 0;
    int number = 0;
    while (done < count) {
        ptrdiff_t n = (first + done) / pixels, oh = (first + done) % pixels / job->OW, ow = (first + done) % job->OW;
        ptrdiff_t run = least(least(job->OW - ow, count - done), LANES);
        pieces[number++] = (struct piece){n * job->image + oh * job->stride_h * job->row + ow, done};
        done += run;
    }
    return number;
}

#define COPY_PIECES(count)                                                                                         \
    for (ptrdiff_t k = first; k < last; k++, panel += width) {                                                     \
        const float *from = staged + channel + offsets[tap];                                                       \
        for (int i = 0; i < (count); i++)                                                                          \
            store(panel + pieces[i].to, load(from + pieces[i].from));                                              \
        if (++tap == taps) {                                                                                       \
            tap = 0;                                                                                               \
            channel += job->stride_w * job->plane;                                                                 \
        }                                                                                                          \
    }

/* panel (last - first, width): what the taps first ... last - 1 see of the pixels in the pieces.  Each piece is copied as
 * a whole vector; what it writes too much is overwritten by the next one or is not looked at. */
static void fill(const struct conv2d_job *job, float *panel, ptrdiff_t width, const float *staged,
                 const struct piece *pieces, int number, const ptrdiff_t *offsets, ptrdiff_t first, ptrdiff_t last)
{
    ptrdiff_t taps = job->KH * job->KW, tap = first % taps, channel = first / taps * job->stride_w * job->plane;
    if (number == 3) {
        COPY_PIECES(3)
    } else if (number == 4) {
        COPY_PIECES(4)
    } else if (number == 5) {
        COPY_PIECES(5)
    } else {
        COPY_PIECES(number)
    }
}

/* the same of 1x1 from the input itself, of which nothing is read beyond the last pixel */
static void fill_from_input(float *panel, ptrdiff_t width, const float *input, ptrdiff_t plane, ptrdiff_t pixels,
                            ptrdiff_t first, ptrdiff_t last)
{
    input += first * plane;
    for (ptrdiff_t c = first; c < last; c++, panel += width, input += plane)
        if (pixels == PANEL)
            for (int v = 0; v < NV; v++)
                store(panel + v * LANES, load(input + v * LANES));
        else
            copy(panel, input, pixels);
}

/* output, at the pixels first ... first + count - 1 of a strip, from tile (OC, PANEL) and bias */
static void finish(const struct conv2d_job *job, float *output, const float *tile, const float *bias,
                   const struct conv2d_strip *s, ptrdiff_t first, ptrdiff_t count)
{
    ptrdiff_t pixels = s->rows * job->OW, plane = job->OH * job->OW;
    for (ptrdiff_t oc = s->first_block * MR; oc < least(s->last_block * MR, job->OC); oc++, tile += PANEL) {
        ptrdiff_t channel = s->group * job->OC + oc;
        float more = bias ? bias[channel] : 0;
        for (ptrdiff_t done = 0; done < count;) {
            ptrdiff_t n = (first + done) / pixels, at = (first + done) % pixels, run = least(pixels - at, count - done);
            copy_plus(output + ((s->n + n) * job->groups * job->OC + channel) * plane + s->oh * job->OW + at,
                      tile + done, more, run);
            done += run;
        }
    }
}

static void multiply(const struct conv2d_job *job, float *output, const float *input, const float *packed,
                     const float *bias, float *scratch, ptrdiff_t first, ptrdiff_t last)
{
    ptrdiff_t taps = job->KH * job->KW, K = job->C * taps;
    float *staged = scratch, *panel = staged + whole_lines(job->image * job->images + LANES);
    float *tile = panel + whole_lines((DEPTH + 1) * PANEL);
    ptrdiff_t *offsets = (ptrdiff_t *)(tile + whole_lines(job->blocks * MR * PANEL));
    struct piece pieces[PANEL];
    for (ptrdiff_t tap = 0; tap < taps; tap++) {
        ptrdiff_t column = tap % job->KW * job->dilation_w;
        offsets[tap] = column % job->stride_w * job->plane + tap / job->KW * job->dilation_h * job->row
                       + column / job->stride_w;
    }
    for (ptrdiff_t item = first; item < last; item++) {
        struct conv2d_strip s = conv2d_strip_at(job, item);
        ptrdiff_t pixels = s.images * s.rows * job->OW;
        const float *weight = packed + s.group * job->blocks * K * MR, *image = NULL;
        if (reads_input(job))
            image = input + (s.n * job->groups + s.group) * job->C * job->plane;
        else
            stage(job, staged, input, &s);
        for (ptrdiff_t p = 0; p < pixels; p += PANEL) {
            ptrdiff_t count = least(PANEL, pixels - p);
            int nv = (int)((count + LANES - 1) / LANES), number = image ? 0 : cut(job, &s, p, count, pieces);
            for (ptrdiff_t k = 0; k < K; k += DEPTH) {
                ptrdiff_t end = least(k + DEPTH, K);
                if (image)
                    fill_from_input(panel, nv * LANES, image + p, job->plane, count, k, end);
                else
                    fill(job, panel, nv * LANES, staged, pieces, number, offsets, k, end);
                for (ptrdiff_t block = s.first_block; block < s.last_block; block++)
                    product(nv, end - k, weight + (block * K + k) * MR, panel,
                            tile + (block - s.first_block) * MR * PANEL, PANEL, k > 0);
            }
            finish(job, output, tile, bias, &s, p, count);
        }
    }
}

const struct conv2d_packed KERNELS_OF(conv2d_packed) = {plan, pack, multiply};
