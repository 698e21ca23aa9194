/* Winograd's minimal convolutions F(TILE x TILE, 3x3), for 3x3 kernels of stride 1; a C file that includes this defines
 *
 *     TILE                2 or 4, and NAME, that of its table of kernels
 *     see(t, d)           B^T: SEEN = TILE + 2 numbers from as many pixels, each a vector of tiles
 *     weigh(t, w)         G: SEEN numbers from 3 taps, each a vector of output channels
 *     leave(y, t)         A^T: TILE pixels from SEEN products, each a vector of tiles
 *
 *     input  (N, groups, C, H, W)    output (N, groups, OC, OH, OW)
 *     packed (groups, blocks, PLACES, C, MR): G weight G^T, MR output channels side by side, 0 where OC ends
 *
 * A tile is TILE x TILE output pixels and sees SEEN x SEEN input pixels d, which overlap those of its neighbours.  Of each
 * tile B^T d B is made, which is multiplied with packed, one matrix product (OC, C) @ (C, tiles) for each of the SEEN x
 * SEEN places, and A^T m A of what comes out is the tile.
 *
 * A strip is some rows of tiles of one image, or all of several images, which then stand side by side as one wide
 * image.  What it sees of the input is staged with its padding as TILE x TILE planes: plane (i, j) holds rows i, i + TILE,
 * ... and columns j, j + TILE, ...  There the pixels that neighbouring tiles see at the same place are neighbours, so that
 * lanes are tiles; tiles are numbered through the rows of the wide image.  The last tile of an image's row is no tile: it
 * only keeps the images apart.  PANEL tiles are worked on at once.  (Lavin and Gray, Fast Algorithms for Convolutional
 * Neural Networks, 2015.) */
#include "conv2d_job.h"
#include "conv2d_panels.h"

#define SEEN (TILE + 2)
#define PLACES (SEEN * SEEN)
#define PLANES (TILE * TILE)
#define STAGED_NUMBERS 65536 /* of a strip: 256 KB */
#define CHUNK (16 / TILE)    /* blocks of output channels whose products are kept at once */
#define APART 16             /* numbers between the matrices: else they fall on the same lines of the cache */

struct run { /* tiles of a panel that are neighbours in an output row */
    ptrdiff_t tile, tiles, n, oh, ow;
};

/* tiles that n pixels take */
static ptrdiff_t tiles_of(ptrdiff_t n) { return (n + TILE - 1) / TILE; }

static void plan(struct conv2d_job *job, int threads)
{
    ptrdiff_t across = tiles_of(job->OW) + 1, all = tiles_of(job->OH), rows, best = all, units;
    double least_waste = 1e30;
    job->blocks = (job->OC + MR - 1) / MR;
    job->packed = job->groups * job->blocks * PLACES * job->C * MR;
    for (rows = 1; rows <= all; rows++) {
        ptrdiff_t down = (all + rows - 1) / rows, vectors = (rows * across + LANES - 1) / LANES;
        double waste = (double)(down * vectors * LANES) + (double)(down * across) / 4;
        if (rows > 1 && job->C * PLANES * (rows + 1) * across > STAGED_NUMBERS)
            break;
        if (down * job->N * job->groups >= threads && waste < least_waste) {
            least_waste = waste;
            best = rows;
        }
    }
    job->images = 1;
    if (best == all)
        job->images = most(1, least((job->N + threads - 1) / threads, 4 * PANEL / (all * across) + 1));
    job->rows = best * TILE;
    job->down = (all + best - 1) / best;
    job->parts = (job->N + job->images - 1) / job->images;
    units = job->parts * job->down * job->groups;
    job->splits = units < threads || (units % threads && units < 4 * threads) ? least(threads, job->blocks) : 1;
    job->items = units * job->splits;
    job->row = across * job->images;
    job->plane = (best + 1) * job->row + LANES + 2;
    job->scratch = whole_lines(job->C * PLANES * job->plane) + whole_lines(PLACES * (job->C * PANEL + APART))
                   + whole_lines(PLACES * (CHUNK * MR * PANEL + APART)) + whole_lines(PLANES * PANEL);
}

static void pack(const struct conv2d_job *job, float *packed, const float *weight, ptrdiff_t first, ptrdiff_t last)
{
    for (ptrdiff_t index = first; index < last; index++) {
        ptrdiff_t oc = index % job->blocks * MR, count = least(MR, job->OC - oc), step = job->C * MR;
        const float *from = weight + index / job->blocks * job->OC * job->C * 9 + oc * job->oc_step;
        float *to = packed + index * PLACES * step;
        float tap[9][MR] = {{0}};
        for (ptrdiff_t c = 0; c < job->C; c++, from += job->c_step, to += MR) {
            channels half[3][SEEN], whole[SEEN];
            for (ptrdiff_t i = 0; i < count; i++)
                for (int k = 0; k < 9; k++)
                    tap[job->flipped ? 8 - k : k][i] = from[i * job->oc_step + k];
            for (int j = 0; j < 3; j++) {
                channels column[3] = {*(channels *)tap[j], *(channels *)tap[3 + j], *(channels *)tap[6 + j]};
                weigh(half[j], column);
            }
            for (int i = 0; i < SEEN; i++) {
                channels row[3] = {half[0][i], half[1][i], half[2][i]};
                weigh(whole, row);
                for (int j = 0; j < SEEN; j++)
                    *(channels *)(to + (i * SEEN + j) * step) = whole[j];
            }
        }
    }
}

/* staged (C, PLANES, plane): what a strip sees of input */
static void stage(const struct conv2d_job *job, float *staged, const float *input, const struct conv2d_strip *s)
{
    ptrdiff_t across = tiles_of(job->OW) + 1, rows = (tiles_of(s->rows) + 1) * TILE, top = s->oh - job->top;
    ptrdiff_t begin[TILE], end[TILE]; /* the columns of each remainder that lie in the input */
    for (int j = 0; j < TILE; j++) {
        ptrdiff_t offset = j - job->left; /* staged column i is input column TILE * i + offset */
        begin[j] = least(offset < 0 ? (TILE - 1 - offset) / TILE : 0, across);
        end[j] = most(begin[j], least(job->W > offset ? (job->W - 1 - offset) / TILE + 1 : 0, across));
    }
    for (ptrdiff_t c = 0; c < job->C; c++)
        for (ptrdiff_t n = 0; n < s->images; n++) {
            const float *from = input + (((s->n + n) * job->groups + s->group) * job->C + c) * job->H * job->W;
            for (ptrdiff_t h = 0; h < rows; h++) {
                const float *line = from + (top + h) * job->W - job->left;
                for (int j = 0; j < TILE; j++) {
                    float *to = staged + (c * PLANES + h % TILE * TILE + j) * job->plane + h / TILE * job->row + n * across;
                    if (top + h < 0 || top + h >= job->H) {
                        clear(to, across);
                        continue;
                    }
                    clear(to, begin[j]);
                    for (ptrdiff_t i = begin[j]; i < end[j]; i++)
                        to[i] = line[TILE * i + j];
                    clear(to + end[j], across - end[j]);
                }
            }
        }
}

/* places (PLACES, C, nv * LANES): B^T d B of tiles from the one whose pixels start at staged (C, PLANES, plane) */
static void transform(const struct conv2d_job *job, float *places, ptrdiff_t step, int nv, const float *staged)
{
    for (ptrdiff_t c = 0; c < job->C; c++, staged += PLANES * job->plane)
        for (int v = 0; v < nv; v++, places += LANES) {
            lanes t[SEEN][SEEN];
            for (int j = 0; j < SEEN; j++) {
                lanes d[SEEN];
                for (int i = 0; i < SEEN; i++)
                    d[i] = load(staged + (i % TILE * TILE + j % TILE) * job->plane + i / TILE * job->row + j / TILE
                                + v * LANES);
                see(t[j], d);
            }
            for (int i = 0; i < SEEN; i++) {
                lanes d[SEEN], row[SEEN];
                for (int j = 0; j < SEEN; j++)
                    d[j] = t[j][i];
                see(row, d);
                for (int j = 0; j < SEEN; j++)
                    store(places + (i * SEEN + j) * step, row[j]);
            }
        }
}

/* numbers from the two vectors by turns */
INLINE void interleave(lanes *low, lanes *high, lanes even, lanes odd)
{
#if LANES == 16
    const int_lanes turns = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
#elif LANES == 8
    const int_lanes turns = {0, 8, 1, 9, 2, 10, 3, 11};
#else
    const int_lanes turns = {0, 4, 1, 5};
#endif
    *low = __builtin_shuffle(even, odd, turns);
    *high = __builtin_shuffle(even, odd, turns + LANES / 2);
}

/* lines (TILE, TILE * PANEL): the rows of output pixels of nv * LANES tiles, A^T m A + bias of products (PLACES, ., PANEL) */
INLINE void untransform(float *lines, const float *products, ptrdiff_t step, int nv, float bias)
{
    for (int v = 0; v < nv; v++) {
        lanes t[SEEN][TILE];
        for (int j = 0; j < SEEN; j++) {
            lanes m[SEEN];
            for (int i = 0; i < SEEN; i++)
                m[i] = load(products + (i * SEEN + j) * step + v * LANES);
            leave(t[j], m);
        }
        for (int i = 0; i < TILE; i++) {
            lanes m[SEEN], y[TILE], pixels[TILE];
            for (int j = 0; j < SEEN; j++)
                m[j] = t[j][i];
            leave(y, m);
            for (int j = 0; j < TILE; j++)
                y[j] += spread(bias);
#if TILE == 2
            interleave(&pixels[0], &pixels[1], y[0], y[1]);
#else
            lanes even[2], odd[2];
            interleave(&even[0], &even[1], y[0], y[2]);
            interleave(&odd[0], &odd[1], y[1], y[3]);
            interleave(&pixels[0], &pixels[1], even[0], odd[0]);
            interleave(&pixels[2], &pixels[3], even[1], odd[1]);
#endif
            for (int j = 0; j < TILE; j++)
                store(lines + (i * PANEL + v * LANES) * TILE + j * LANES, pixels[j]);
        }
    }
}

/* the runs of output tiles among tiles first ... first + count - 1 of a strip; returns their number */
static int cut(const struct conv2d_job *job, const struct conv2d_strip *s, ptrdiff_t first, ptrdiff_t count,
               struct run *runs)
{
    ptrdiff_t across = tiles_of(job->OW) + 1, row = across * job->images;
    int number = 0;
    for (ptrdiff_t done = 0; done < count;) {
        ptrdiff_t at = (first + done) % row, n = at / across, t = at % across, run = least(across - t, count - done);
        if (n < s->images && t < across - 1)
            runs[number++] = (struct run){done, least(run, across - 1 - t), s->n + n,
                                          s->oh + (first + done) / row * TILE, t * TILE};
        done += run;
    }
    return number;
}

static void finish(const struct conv2d_job *job, float *output, float *lines, const float *products, ptrdiff_t step,
                   int nv, const float *bias, ptrdiff_t channel, ptrdiff_t channels, const struct run *runs,
                   int number)
{
    for (ptrdiff_t oc = 0; oc < channels; oc++, channel++, products += PANEL) {
        untransform(lines, products, step, nv, bias ? bias[channel] : 0);
        for (int r = 0; r < number; r++) {
            struct run run = runs[r];
            float *to = output + ((run.n * job->groups * job->OC + channel) * job->OH + run.oh) * job->OW + run.ow;
            ptrdiff_t count = least(run.tiles * TILE, job->OW - run.ow);
            for (ptrdiff_t i = 0; i < least(TILE, job->OH - run.oh); i++)
                copy(to + i * job->OW, lines + (i * PANEL + run.tile) * TILE, count);
        }
    }
}

static void multiply(const struct conv2d_job *job, float *output, const float *input, const float *packed,
                     const float *bias, float *scratch, ptrdiff_t first, ptrdiff_t last)
{
    float *staged = scratch, *places = staged + whole_lines(job->C * PLANES * job->plane);
    ptrdiff_t places_step = job->C * PANEL + APART, products_step = CHUNK * MR * PANEL + APART;
    float *products = places + whole_lines(PLACES * places_step);
    float *lines = products + whole_lines(PLACES * products_step);
    struct run runs[PANEL];
    for (ptrdiff_t item = first; item < last; item++) {
        struct conv2d_strip s = conv2d_strip_at(job, item);
        ptrdiff_t tiles = tiles_of(s.rows) * job->row;
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

const struct NAME KERNELS_OF(NAME) = {plan, pack, multiply};
