/* Winograd's F(2x2, 3x3): 3x3 convolution of stride 1 with 16 products where 4 output pixels would take 36.
 *
 *     input  (N, groups, C, H, W)    output (N, groups, OC, OH, OW)
 *     packed (groups, blocks, 16, C, MR): G weight G^T, MR output channels side by side, 0 where OC ends
 *
 * A tile is 2x2 output pixels and sees 4x4 input pixels d, which overlap those of its neighbours.  Of each tile
 * B^T d B is made, which is multiplied with packed, one matrix product (OC, C) @ (C, tiles) for each of the 16 places,
 * and A^T m A of what comes out is the tile.
 *
 * A strip is some rows of tiles of one image, or all of several images, which then stand side by side as one wide
 * image.  What it sees of the input is staged with its padding as four planes, of the even and odd rows and columns.
 * There the pixels that neighbouring tiles see at the same place are neighbours, so that lanes are tiles; tiles are
 * numbered through the rows of the wide image.  The last tile of an image's row is no tile: it only keeps the images
 * apart.  PANEL tiles are worked on at once.  (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks,
 * 2015.) */
#include "conv2d_job.h"
#include "conv2d_panels.h"

#define PLACES 16
#define STAGED_NUMBERS 65536 /* of a strip: 256 KB */
#define CHUNK 8              /* blocks of output channels whose products are kept at once */
#define APART 16             /* numbers between the 16 matrices: else they fall on the same lines of the cache */

struct run { /* tiles of a panel that are neighbours in an output row */
    ptrdiff_t tile, tiles, n, oh, ow;
};

static ptrdiff_t halves(ptrdiff_t n) { return (n + 1) / 2; }

static void plan(struct conv2d_job *job, int threads)
{
    ptrdiff_t across = halves(job->OW) + 1, all = halves(job->OH), rows, best = all, units;
    double least_waste = 1e30;
    job->blocks = (job->OC + MR - 1) / MR;
    job->packed = job->groups * job->blocks * PLACES * job->C * MR;
    for (rows = 1; rows <= all; rows++) {
        ptrdiff_t down = (all + rows - 1) / rows, vectors = (rows * across + LANES - 1) / LANES;
        double waste = (double)(down * vectors * LANES) + (double)(down * across) / 4;
        if (rows > 1 && job->C * 4 * (rows + 1) * across > STAGED_NUMBERS)
            break;
        if (down * job->N * job->groups >= threads && waste < least_waste) {
            least_waste = waste;
            best = rows;
        }
    }
    job->images = 1;
    if (best == all)
        job->images = most(1, least((job->N + threads - 1) / threads, 4 * PANEL / (all * across) + 1));
    job->rows = best * 2;
    job->down = (all + best - 1) / best;
    job->parts = (job->N + job->images - 1) / job->images;
    units = job->parts * job->down * job->groups;
    job->splits = units < threads || (units % threads && units < 4 * threads) ? least(threads, job->blocks) : 1;
    job->items = units * job->splits;
    job->row = across * job->images;
    job->plane = (best + 1) * job->row + LANES + 2;
    job->scratch = whole_lines(job->C * 4 * job->plane) + whole_lines(PLACES * (job->C * PANEL + APART))
                   + whole_lines(PLACES * (CHUNK * MR * PANEL + APART)) + whole_lines(4 * PANEL);
}

static void pack(const struct conv2d_job *job, float *packed, const float *weight, ptrdiff_t first, ptrdiff_t last)
{
    for (ptrdiff_t index = first; index < last; index++) {
        ptrdiff_t oc = index % job->blocks * MR, count = least(MR, job->OC - oc), step = job->C * MR;
        const float *from = weight + index / job->blocks * job->OC * job->C * 9 + oc * job->oc_step;
        float *to = packed + index * PLACES * step;
        float tap[9][MR] = {{0}};
        for (ptrdiff_t c = 0; c < job->C; c++, from += job->c_step, to += MR) {
            channels half[4][3];
            for (ptrdiff_t i = 0; i < count; i++)
                for (int k = 0; k < 9; k++)
                    tap[job->flipped ? 8 - k : k][i] = from[i * job->oc_step + k];
            for (int j = 0; j < 3; j++) {
                channels top = *(channels *)tap[j], middle = *(channels *)tap[3 + j], low = *(channels *)tap[6 + j];
                half[0][j] = top;
                half[1][j] = 0.5f * (top + low + middle);
                half[2][j] = 0.5f * (top + low - middle);
                half[3][j] = low;
            }
            for (int i = 0; i < 4; i++) {
                channels outer = half[i][0] + half[i][2];
                *(channels *)(to + (i * 4 + 0) * step) = half[i][0];
                *(channels *)(to + (i * 4 + 1) * step) = 0.5f * (outer + half[i][1]);
                *(channels *)(to + (i * 4 + 2) * step) = 0.5f * (outer - half[i][1]);
                *(channels *)(to + (i * 4 + 3) * step) = half[i][2];
            }
        }
    }
}

/* staged (C, 4, plane): what a strip sees of input, where plane 2 * i + j of a channel holds its rows i, i + 2, ... and
 * columns j, j + 2, ... */
static void stage(const struct conv2d_job *job, float *staged, const float *input, const struct conv2d_strip *s)
{
    ptrdiff_t across = halves(job->OW) + 1, pairs = halves(s->rows) + 1, top = s->oh - job->top;
    ptrdiff_t begin[2], end[2]; /* the columns of each parity that lie in the input */
    for (int j = 0; j < 2; j++) {
        ptrdiff_t offset = j - job->left; /* staged column i is input column 2 * i + offset */
        begin[j] = least(offset < 0 ? (1 - offset) / 2 : 0, across);
        end[j] = most(begin[j], least(job->W > offset ? (job->W - 1 - offset) / 2 + 1 : 0, across));
    }
    for (ptrdiff_t c = 0; c < job->C; c++)
        for (ptrdiff_t n = 0; n < s->images; n++) {
            const float *from = input + (((s->n + n) * job->groups + s->group) * job->C + c) * job->H * job->W;
            for (ptrdiff_t h = 0; h < 2 * pairs; h++) {
                const float *line = from + (top + h) * job->W - job->left;
                for (int j = 0; j < 2; j++) {
                    float *to = staged + (c * 4 + h % 2 * 2 + j) * job->plane + h / 2 * job->row + n * across;
                    if (top + h < 0 || top + h >= job->H) {
                        clear(to, across);
                        continue;
                    }
                    clear(to, begin[j]);
                    for (ptrdiff_t i = begin[j]; i < end[j]; i++)
                        to[i] = line[2 * i + j];
                    clear(to + end[j], across - end[j]);
                }
            }
        }
}

/* places (16, C, width): B^T d B of `width` tiles from the one whose pixels start at staged (C, 4, plane) */
static void transform(const struct conv2d_job *job, float *places, ptrdiff_t step, int nv, const float *staged)
{
    for (ptrdiff_t c = 0; c < job->C; c++, staged += 4 * job->plane)
        for (int v = 0; v < nv; v++, places += LANES) {
            lanes t[4][4];
            for (int j = 0; j < 4; j++) {
                lanes d[4];
                for (int i = 0; i < 4; i++)
                    d[i] = load(staged + (i % 2 * 2 + j % 2) * job->plane + i / 2 * job->row + j / 2 + v * LANES);
                t[0][j] = d[0] - d[2];
                t[1][j] = d[1] + d[2];
                t[2][j] = d[2] - d[1];
                t[3][j] = d[1] - d[3];
            }
            for (int i = 0; i < 4; i++) {
                store(places + (i * 4 + 0) * step, t[i][0] - t[i][2]);
                store(places + (i * 4 + 1) * step, t[i][1] + t[i][2]);
                store(places + (i * 4 + 2) * step, t[i][2] - t[i][1]);
                store(places + (i * 4 + 3) * step, t[i][1] - t[i][3]);
            }
        }
}

/* to[2 * i] = even[i], to[2 * i + 1] = odd[i] */
INLINE void interleave(float *to, lanes even, lanes odd)
{
#if LANES == 16
    const int_lanes low = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
#elif LANES == 8
    const int_lanes low = {0, 8, 1, 9, 2, 10, 3, 11};
#else
    const int_lanes low = {0, 4, 1, 5};
#endif
    store(to, __builtin_shuffle(even, odd, low));
    store(to + LANES, __builtin_shuffle(even, odd, low + LANES / 2));
}

/* lines (2, 2 * PANEL): the two rows of output pixels of nv * LANES tiles, A^T m A of products (16, ., PANEL) + bias */
INLINE void untransform(float *lines, const float *products, ptrdiff_t step, int nv, float bias)
{
    for (int v = 0; v < nv; v++) {
        lanes t[2][4], more = spread(bias);
        for (int j = 0; j < 4; j++) {
            const float *m = products + j * step + v * LANES;
            lanes m1 = load(m + 4 * step), m2 = load(m + 8 * step);
            t[0][j] = load(m) + m1 + m2;
            t[1][j] = m1 - m2 - load(m + 12 * step);
        }
        for (int i = 0; i < 2; i++)
            interleave(lines + (i * PANEL + v * LANES) * 2, t[i][0] + t[i][1] + t[i][2] + more,
                       t[i][1] - t[i][2] - t[i][3] + more);
    }
}

/* the runs of output tiles among tiles first ... first + count - 1 of a strip; returns their number */
static int cut(const struct conv2d_job *job, const struct conv2d_strip *s, ptrdiff_t first, ptrdiff_t count,
               struct run *runs)
{
    ptrdiff_t across = halves(job->OW) + 1, row = across * job->images;
    int number = 0;
    for (ptrdiff_t done = 0; done < count;) {
        ptrdiff_t at = (first + done) % row, n = at / across, t = at % across, run = least(across - t, count - done);
        if (n < s->images && t < across - 1)
            runs[number++] = (struct run){done, least(run, across - 1 - t), s->n + n,
                                          s->oh + (first + done) / row * 2, t * 2};
        done += run;
    }
    return number;
}

static void finish(const struct conv2d_job *job, float *output, float *lines, const float *products, ptrdiff_t step,
                   int nv, const float *bias, ptrdiff_t channel, ptrdiff_t count, const struct run *runs, int number)
{
    for (ptrdiff_t i = 0; i < count; i++, channel++, products += PANEL) {
        untransform(lines, products, step, nv, bias ? bias[channel] : 0);
        for (int r = 0; r < number; r++) {
            struct run run = runs[r];
            float *to = output + ((run.n * job->groups * job->OC + channel) * job->OH + run.oh) * job->OW + run.ow;
            ptrdiff_t pixels = least(run.tiles * 2, job->OW - run.ow);
            copy(to, lines + run.tile * 2, pixels);
            if (run.oh + 1 < job->OH)
                copy(to + job->OW, lines + (PANEL + run.tile) * 2, pixels);
        }
    }
}

static void multiply(const struct conv2d_job *job, float *output, const float *input, const float *packed,
                     const float *bias, float *scratch, ptrdiff_t first, ptrdiff_t last)
{
    float *staged = scratch, *places = staged + whole_lines(job->C * 4 * job->plane);
    ptrdiff_t places_step = job->C * PANEL + APART, products_step = CHUNK * MR * PANEL + APART;
    float *products = places + whole_lines(PLACES * places_step);
    float *lines = products + whole_lines(PLACES * products_step);
    struct run runs[PANEL];
    for (ptrdiff_t item = first; item < last; item++) {
        struct conv2d_strip s = conv2d_strip_at(job, item);
        ptrdiff_t tiles = halves(s.rows) * job->row;
        stage(job, staged, input, &s);
        for (ptrdiff_t tile = 0; tile < tiles; tile += PANEL) {
            ptrdiff_t count = least(PANEL, tiles - tile);
            int nv = (int)((count + LANES - 1) / LANES), number = cut(job, &s, tile, count, runs);
            transform(job, places, places_step, nv, staged + tile);
            for (ptrdiff_t block = s.first_block; block < s.last_block; block += CHUNK) {
                ptrdiff_t end = least(block + CHUNK, s.last_block), channel = s.group * job->OC + block * MR;
                for (int place = 0; place < PLACES; place++)
                    for (ptrdiff_t c = 0; c < job->C; c += DEPTH)
                        for (ptrdiff_t b = block; b < end; b++)
                            product(nv, least(DEPTH, job->C - c),
                                    packed + (((s.group * job->blocks + b) * PLACES + place) * job->C + c) * MR,
                                    places + place * places_step + c * nv * LANES,
                                    products + place * products_step + (b - block) * MR * PANEL, PANEL, c > 0);
                finish(job, output, lines, products, products_step, nv, bias, channel,
                       least(end * MR, job->OC) - block * MR, runs, number);
            }
        }
    }
}

const struct conv2d_winograd KERNELS_OF(conv2d_winograd) = {plan, pack, multiply};
