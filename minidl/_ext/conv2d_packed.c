/* Convolution as products of packed panels, with the columns of im2col made a panel at a time in the first-level cache.
 *
 *     input  (N, groups, C, H, W)    output (N, groups, OC, OH, OW)
 *     packed (groups, blocks, K, MR), K = C * KH * KW: the weight, MR output channels side by side, 0 where OC ends
 *
 * A strip is some rows of one image or all rows of several images.  multiply() copies what a strip sees of the input
 * into scratch memory, with its padding; columns of equal remainder by stride_w stand side by side, so that what one
 * tap sees of an output row is a run.  The output pixels of the strip are numbered from 0 and taken PANEL at a time:
 * some DEPTH taps of them are copied side by side, multiplied with all blocks of the weight, and added up in a tile
 * (OC, PANEL), which goes to output with the bias.  A 1x1 convolution of stride 1 without padding reads its panels from
 * the input itself.
 *
 * A weight that does not fit in the second-level cache is read for several panels at once.  If those are all the panels
 * there are, nothing is gained by packing it beforehand: multiply() then takes the weight itself, packed is 0. */
#include "conv2d_job.h"
#include "conv2d_panels.h"

#define STAGED_NUMBERS 65536   /* of a strip: 256 KB stay in a second-level cache */
#define LARGE_WEIGHT 150000    /* numbers: 600 KB do not stay in a second-level cache */
#define FEW 3                  /* panels that share such a weight */
#define MANY 12                /* panels at most if they are all there are */
#define UNSTAGED_PIXELS 256    /* of an image: so many panels that the last one may be narrow */

struct piece { /* up to LANES pixels of a panel that are neighbours in the staged input, too */
    ptrdiff_t from, to;
};

struct panel { /* count pixels from the first one on, in nv vectors */
    ptrdiff_t first, count;
    int nv, number;
    struct piece pieces[PANEL];
};

static int reads_input(const struct conv2d_job *job)
{
    return job->KH == 1 && job->KW == 1 && job->stride_h == 1 && job->stride_w == 1 && job->top == 0 && job->left == 0
           && job->OH == job->H && job->OW == job->W && job->OH * job->OW >= UNSTAGED_PIXELS;
}

/* taps that are worked on at once: those of whole channels */
static ptrdiff_t depth(const struct conv2d_job *job)
{
    ptrdiff_t taps = job->KH * job->KW;
    return most(taps, DEPTH / taps * taps);
}

/* numbers of a tile, and of a weight's part that is packed by multiply() */
static ptrdiff_t tile_size(const struct conv2d_job *job)
{
    return (job->blocks + job->splits - 1) / job->splits * MR * PANEL;
}

static ptrdiff_t chunk_size(const struct conv2d_job *job)
{
    return job->packed ? 0 : (job->blocks + job->splits - 1) / job->splits * MR * depth(job);
}

/* panels that are worked on at once */
static ptrdiff_t group_of_panels(const struct conv2d_job *job)
{
    ptrdiff_t all = (job->images * job->rows * job->OW + PANEL - 1) / PANEL;
    if (job->parts == 1 && job->down == 1 && all <= MANY)
        return all;
    return job->OC * job->C * job->KH * job->KW > LARGE_WEIGHT ? FEW : 1;
}

static void plan(struct conv2d_job *job, int threads)
{
    ptrdiff_t K = job->C * job->KH * job->KW, rows, best = 1, units;
    ptrdiff_t reach_h = (job->KH - 1) * job->dilation_h + 1;
    double least_waste = 1e30;
    job->blocks = (job->OC + MR - 1) / MR;
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
    job->panels = group_of_panels(job);
    job->packed = job->parts == 1 && job->down == 1 && job->panels <= MANY ? 0 : job->groups * job->blocks * K * MR;
    job->scratch = whole_lines(job->image * job->images + LANES) + whole_lines((depth(job) + 1) * PANEL)
                   + whole_lines(job->panels * tile_size(job)) + whole_lines(chunk_size(job))
                   + whole_lines(job->KH * job->KW * 2) + whole_lines(job->panels * sizeof(struct panel) / 4);
}

/* to (taps of the channels c ... end - 1, MR) from the weight of a block's first output channel; of a block that ends
 * early the rest is 0.  What vectors write too much is overwritten by the next one or lies behind the block. */
static void pack_channels(const struct conv2d_job *job, float *to, const float *weight, ptrdiff_t count, ptrdiff_t c,
                          ptrdiff_t end)
{
    ptrdiff_t taps = job->KH * job->KW, all = (end - c) * taps, k = 0;
    weight += c * job->c_step;
    if (count < MR)
        memset(to, 0, all * MR * sizeof(float));
    else if (!job->flipped)
        for (; k + LANES < all; k += LANES) {
            lanes rows[LANES];
            for (int i = 0; i < LANES; i++)
                rows[i] = i < MR ? load(weight + i * job->oc_step + k) : (lanes){0};
            transpose(rows);
            for (int i = 0; i < LANES; i++)
                store(to + (k + i) * MR, rows[i]);
        }
    if (!job->flipped) {
        for (; k < all; k++)
            for (ptrdiff_t i = 0; i < count; i++)
                to[k * MR + i] = weight[i * job->oc_step + k];
        return;
    }
    for (; c < end; c++, weight += job->c_step, to += taps * MR)
        if (taps == 9 && count == MR)
            for (int tap = 0; tap < 9; tap++)
                for (int i = 0; i < MR; i++)
                    to[(8 - tap) * MR + i] = weight[i * 9 + tap];
        else
            for (ptrdiff_t i = 0; i < count; i++)
                for (ptrdiff_t tap = 0; tap < taps; tap++)
                    to[(taps - 1 - tap) * MR + i] = weight[i * job->oc_step + tap];
}

/* what pack_channels() will read of a block, on its way to the second-level cache: its short runs are no stream */
static void prefetch_channels(const struct conv2d_job *job, const float *weight, ptrdiff_t c)
{
    ptrdiff_t taps = job->KH * job->KW, runs = MR, step = job->oc_step, length = least(depth(job) / taps, job->C - c) * taps;
    if (job->flipped) {
        runs = length / taps;
        step = job->c_step;
        length = MR * taps;
    }
    weight += c * job->c_step;
    for (ptrdiff_t i = 0; i < runs; i++)
        for (ptrdiff_t k = 0; k < length; k += 16)
            __builtin_prefetch(weight + i * step + k, 0, 2);
}

static void pack(const struct conv2d_job *job, float *packed, const float *weight, ptrdiff_t first, ptrdiff_t last)
{
    ptrdiff_t K = job->C * job->KH * job->KW;
    for (ptrdiff_t index = first; index < last; index++) {
        ptrdiff_t oc = index % job->blocks * MR;
        const float *from = weight + index / job->blocks * job->OC * K + oc * job->oc_step;
        pack_channels(job, packed + index * K * MR, from, least(MR, job->OC - oc), 0, job->C);
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

/* A panel of the pixels first ... first + count - 1 of a strip: where they are staged, unless they are not */
static void cut(const struct conv2d_job *job, const struct conv2d_strip *s, struct panel *panel, ptrdiff_t first,
                ptrdiff_t count, int unstaged)
{
    ptrdiff_t pixels = s->rows * job->OW, done = 0;
    panel->first = first;
    panel->count = count;
    panel->nv = (int)((count + LANES - 1) / LANES);
    panel->number = 0;
    while (!unstaged && done < count) {
        ptrdiff_t n = (first + done) / pixels, oh = (first + done) % pixels / job->OW, ow = (first + done) % job->OW;
        ptrdiff_t run = least(least(job->OW - ow, count - done), LANES);
        panel->pieces[panel->number++] = (struct piece){n * job->image + oh * job->stride_h * job->row + ow, done};
        done += run;
    }
}

#define COPY_PIECES(count)                                                                                         \
    for (ptrdiff_t k = first; k < last; k++, columns += width) {                                                   \
        const float *from = staged + channel + offsets[tap];                                                       \
        for (int i = 0; i < (count); i++)                                                                          \
            store(columns + panel->pieces[i].to, load(from + panel->pieces[i].from));                              \
        if (++tap == taps) {                                                                                       \
            tap = 0;                                                                                               \
            channel += job->stride_w * job->plane;                                                                 \
        }                                                                                                          \
    }

/* columns (last - first, nv * LANES): what the taps first ... last - 1 see of a panel's pixels.  Each piece is copied as
 * a whole vector; what it writes too much is overwritten by the next one or is not looked at. */
static void fill(const struct conv2d_job *job, float *columns, const struct panel *panel, const float *staged,
                 const ptrdiff_t *offsets, ptrdiff_t first, ptrdiff_t last)
{
    ptrdiff_t taps = job->KH * job->KW, tap = first % taps, channel = first / taps * job->stride_w * job->plane;
    ptrdiff_t width = panel->nv * LANES;
    if (panel->number == 3) {
        COPY_PIECES(3)
    } else if (panel->number == 4) {
        COPY_PIECES(4)
    } else if (panel->number == 5) {
        COPY_PIECES(5)
    } else {
        COPY_PIECES(panel->number)
    }
}

/* the same of 1x1 from the input itself, of which nothing is read beyond the last pixel */
static void fill_from_input(float *columns, const struct panel *panel, const float *input, ptrdiff_t plane,
                            ptrdiff_t first, ptrdiff_t last)
{
    input += first * plane + panel->first;
    for (ptrdiff_t c = first; c < last; c++, columns += panel->nv * LANES, input += plane)
        if (panel->count == PANEL)
            for (int v = 0; v < NV; v++)
                store(columns + v * LANES, load(input + v * LANES));
        else
            copy(columns, input, panel->count);
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

static void multiply(const struct conv2d_job *job, float *output, const float *input, const float *weight,
                     const float *bias, float *scratch, ptrdiff_t first, ptrdiff_t last)
{
    ptrdiff_t taps = job->KH * job->KW, K = job->C * taps;
    float *staged = scratch, *columns = staged + whole_lines(job->image * job->images + LANES);
    float *tiles = columns + whole_lines((depth(job) + 1) * PANEL);
    float *chunk = tiles + whole_lines(job->panels * tile_size(job));
    ptrdiff_t *offsets = (ptrdiff_t *)(chunk + whole_lines(chunk_size(job)));
    struct panel *panels = (struct panel *)((float *)offsets + whole_lines(taps * 2));
    for (ptrdiff_t tap = 0; tap < taps; tap++) {
        ptrdiff_t column = tap % job->KW * job->dilation_w;
        offsets[tap] = column % job->stride_w * job->plane + tap / job->KW * job->dilation_h * job->row
                       + column / job->stride_w;
    }
    for (ptrdiff_t item = first; item < last; item++) {
        struct conv2d_strip s = conv2d_strip_at(job, item);
        ptrdiff_t pixels = s.images * s.rows * job->OW;
        const float *image = NULL, *of_group = weight + s.group * job->OC * K;
        if (reads_input(job))
            image = input + (s.n * job->groups + s.group) * job->C * job->plane;
        else
            stage(job, staged, input, &s);
        for (ptrdiff_t p = 0; p < pixels; p += job->panels * PANEL) {
            ptrdiff_t number = least(job->panels, (pixels - p + PANEL - 1) / PANEL);
            for (ptrdiff_t i = 0; i < number; i++)
                cut(job, &s, &panels[i], p + i * PANEL, least(PANEL, pixels - p - i * PANEL), image != NULL);
            for (ptrdiff_t k = 0; k < K; k += depth(job)) {
                ptrdiff_t end = least(k + depth(job), K);
                const float *factors = weight + (s.group * job->blocks + s.first_block) * K * MR + k * MR;
                ptrdiff_t step = K * MR; /* from one block to the next */
                if (!job->packed) {
                    factors = chunk;
                    step = (end - k) * MR;
                    for (ptrdiff_t block = s.first_block; block < s.last_block; block++)
                        pack_channels(job, chunk + (block - s.first_block) * step,
                                      of_group + block * MR * job->oc_step, least(MR, job->OC - block * MR),
                                      k / taps, end / taps);
                }
                for (ptrdiff_t i = 0; i < number; i++) {
                    float *tile = tiles + i * tile_size(job);
                    if (image)
                        fill_from_input(columns, &panels[i], image, job->plane, k, end);
                    else
                        fill(job, columns, &panels[i], staged, offsets, k, end);
                    for (ptrdiff_t b = 0; b < s.last_block - s.first_block; b++) {
                        if (i == 0 && !job->packed)
                            prefetch_channels(job, of_group + (s.first_block + b) * MR * job->oc_step, end / taps);
                        product(panels[i].nv, end - k, factors + b * step, columns, tile + b * MR * PANEL, PANEL, k > 0);
                    }
                }
            }
            for (ptrdiff_t i = 0; i < number; i++)
                finish(job, output, tiles + i * tile_size(job), bias, &s, panels[i].first, panels[i].count);
        }
    }
}

const struct conv2d_packed KERNELS_OF(conv2d_packed) = {plan, pack, multiply};
