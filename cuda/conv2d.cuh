// The index arithmetic of convolutions as matrix products: what conv2d.cu and conv2d_tf32.cu share.
//
//     forward          output      (OC, pixels) = weight      (OC, taps)   @ input seen at (taps, pixels)
//     backward_input   grad_input  (C, pixels)  = weight      (C, taps)    @ grad_output seen at (taps, pixels)
//     backward_weight  grad_weight (OC, taps)   = grad_output (OC, pixels) @ input seen at (pixels, taps)
//
// for each group; pixels are those of all images; a tap is a channel with a place (kh, kw) of the kernel.  The number seen
// by a tap at a pixel lies at the sum of two offsets, one of the tap, one of the pixel, and it is zero where the sum of
// their rows or columns leaves the image.  So the inner loop divides nothing: a block keeps a small table of Sides for the
// columns of its tile, and one for the next steps along k, and adds.
//
// The gradient of the input with a stride: input pixels whose rows (and columns) leave the same rest when divided by the
// stride are made by the same taps, every stride-th one, and each such phase is a product of its own; no zeros are
// multiplied.  The gradient of a pooled output may come as it is (grad_output and codes of the 2x2 windows, see
// conv2d_relu_max_pool2d): it is spread over the windows as it is read.

enum Direction { FORWARD, BACKWARD_INPUT, BACKWARD_WEIGHT };
enum { OUTSIDE = -(1 << 30) };  // a row that is in no image

// fields of Conv2dGeometry in minidl/geometry/layouts.py, in its order
struct Conv2d {
    int N, C, H, W, OC, KH, KW, OH, OW, stride_h, stride_w, pad_top, pad_left, pad_bottom, pad_right, dilation_h, dilation_w,
        groups;
};

// How blocks share out the work; `biased`: backward_weight has a column more, for the bias's gradient.
// split_step: numbers from the part of one split to that of the next.
struct Tiling {
    int direction, tiles_m, tiles_n, splits, k_of_split, relu, biased;
    int split_step;
};

// One side of the second operand's index: what it adds to the offset in the image, to the row and to the column there, and
// where it lies in the other array: the first operand's column, or the output's.
struct __align__(16) Side {
    int offset, h, w, other;
};

// How taps and pixels are counted in this block's direction, group and phase.
struct Scan {
    int tap_rows, tap_columns;                      // taps of a channel
    int tap_h, tap_w, plane;                        // from tap to tap and from channel to channel in the image
    int weight_first, weight_h, weight_w, weight_plane;     // the same in the weight
    int rows, columns;                              // pixels of an image
    int first_h, first_w, pixel_h, pixel_w, image;  // from pixel to pixel and from image to image in the image that is seen
    int other_first, other_h, other_w, other_image; // the same in the array on the other side
    int H, W;                                       // of the image that is seen
    int row_step;                                   // from row to row of it; 0 where it is pooled
    int taps, pixels;                               // all of them
    // the block's tile: where it begins and ends, how many rows of the matrix and columns are left, its part of k
    int m0, n0, split, group, rows_left, columns_left, k0, k1;
    int matrix_begin, matrix_step, image_begin;     // where the tile's rows and the group's image begin in the operands
    int result_begin, result_step, channel;         // the same in the result, and the first channel of the rows
};

__device__ __forceinline__ int gcd(int a, int b) {
    while (b) {
        const int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

// Which taps along one side make the input pixels of a phase: `first`, first + step, ..., and how many they are.
__device__ __forceinline__ void taps_of_phase(int phase, int kernel, int stride, int dilation, int& first, int& step, int& count) {
    step = stride / gcd(stride, dilation);
    first = 0;
    while (first < step && first * dilation % stride != phase) ++first;
    count = first < step && first < kernel ? (kernel - 1 - first) / step + 1 : 0;
}

// (OC, C, KH, KW) and (N, C, H, W) as seen from the output's pixels: forward and backward_weight.
__device__ __forceinline__ void scan_outputs(Scan& scan, const Conv2d& g, bool pooled) {
    scan.tap_rows = g.KH, scan.tap_columns = g.KW;
    scan.tap_h = g.dilation_h, scan.tap_w = g.dilation_w, scan.plane = g.H * g.W;
    scan.weight_first = 0, scan.weight_h = g.KW, scan.weight_w = 1, scan.weight_plane = g.KH * g.KW;
    scan.rows = g.OH, scan.columns = g.OW;
    scan.first_h = -g.pad_top, scan.first_w = -g.pad_left, scan.pixel_h = g.stride_h, scan.pixel_w = g.stride_w;
    scan.image = g.C * g.H * g.W;
    scan.other_first = 0, scan.other_h = g.OW, scan.other_w = 1;
    scan.other_image = g.OC * (pooled ? (g.OH / 2) * (g.OW / 2) : g.OH * g.OW);
    scan.H = g.H, scan.W = g.W, scan.row_step = g.W;
    scan.taps = g.C / g.groups * g.KH * g.KW;
    scan.pixels = g.N * g.OH * g.OW;
}

// (C, OC, some of KH and KW) and (N, OC, OH, OW) as seen from the input's pixels of one phase: backward_input.
__device__ __forceinline__ void scan_inputs(Scan& scan, const Conv2d& g, int phase, bool pooled) {
    const int phase_h = phase / g.stride_w, phase_w = phase % g.stride_w;
    int kh, kw, step_h, step_w;
    taps_of_phase(phase_h, g.KH, g.stride_h, g.dilation_h, kh, step_h, scan.tap_rows);
    taps_of_phase(phase_w, g.KW, g.stride_w, g.dilation_w, kw, step_w, scan.tap_columns);
    // the first input pixel of the phase, and the output pixel that its first tap belongs to
    const int ih = (phase_h + g.stride_h - g.pad_top % g.stride_h) % g.stride_h;
    const int iw = (phase_w + g.stride_w - g.pad_left % g.stride_w) % g.stride_w;
    scan.first_h = (ih + g.pad_top - kh * g.dilation_h) / g.stride_h;
    scan.first_w = (iw + g.pad_left - kw * g.dilation_w) / g.stride_w;
    scan.tap_h = -g.dilation_h * step_h / g.stride_h, scan.tap_w = -g.dilation_w * step_w / g.stride_w;
    scan.pixel_h = scan.pixel_w = 1;
    scan.H = pooled ? g.OH / 2 * 2 : g.OH, scan.W = pooled ? g.OW / 2 * 2 : g.OW;
    scan.plane = pooled ? (g.OH / 2) * (g.OW / 2) : g.OH * g.OW;
    scan.row_step = pooled ? 0 : g.OW;
    scan.image = g.OC * scan.plane;
    scan.weight_first = kh * g.KW + kw, scan.weight_h = step_h * g.KW, scan.weight_w = step_w;
    scan.weight_plane = g.C / g.groups * g.KH * g.KW;
    scan.rows = ih < g.H ? (g.H - 1 - ih) / g.stride_h + 1 : 0;
    scan.columns = iw < g.W ? (g.W - 1 - iw) / g.stride_w + 1 : 0;
    scan.other_first = ih * g.W + iw, scan.other_h = g.stride_h * g.W, scan.other_w = g.stride_w;
    scan.other_image = g.C * g.H * g.W;
    scan.taps = g.OC / g.groups * scan.tap_rows * scan.tap_columns;
    scan.pixels = g.N * scan.rows * scan.columns;
}

// An index along taps or pixels in three parts: which channel or image, which row and column.
struct Index {
    int outer, row, column;
};

__device__ __forceinline__ Index index_at(int i, int rows, int columns) {
    const int plane = max(rows * columns, 1);
    Index index;
    index.outer = i / plane;
    const int rest = i - index.outer * plane;
    index.row = rest / max(columns, 1);
    index.column = rest - index.row * columns;
    return index;
}

// The sum of two indices, without a division.
__device__ __forceinline__ Index advanced(Index index, const Index& step, int rows, int columns) {
    index.column += step.column;
    if (index.column >= columns) index.column -= columns, ++index.row;
    index.row += step.row;
    if (index.row >= rows) index.row -= rows, ++index.outer;
    index.outer += step.outer;
    return index;
}

__device__ __forceinline__ Side tap_at(const Scan& scan, const Index& i) {
    Side side;
    side.h = i.row * scan.tap_h, side.w = i.column * scan.tap_w;
    side.offset = i.outer * scan.plane + side.h * scan.row_step + (scan.row_step ? side.w : 0);
    side.other = scan.weight_first + i.outer * scan.weight_plane + i.row * scan.weight_h + i.column * scan.weight_w;
    return side;
}

__device__ __forceinline__ Side pixel_at(const Scan& scan, const Index& i) {
    Side side;
    side.h = scan.first_h + i.row * scan.pixel_h, side.w = scan.first_w + i.column * scan.pixel_w;
    side.offset = i.outer * scan.image + side.h * scan.row_step + (scan.row_step ? side.w : 0);
    side.other = scan.other_first + i.outer * scan.other_image + i.row * scan.other_h + i.column * scan.other_w;
    return side;
}

__device__ __forceinline__ Side nowhere() {
    Side side;
    side.offset = 0, side.h = OUTSIDE, side.w = OUTSIDE, side.other = -1;
    return side;
}

// What a block knows in shared memory: its Scan, the Sides of its columns, and those of SLOTS steps along k.
template <int BN, int BK, int SLOTS>
struct Table {
    Scan scan;
    Side n[BN], k[SLOTS][BK];
    int code[SLOTS][BK];        // of a pooled grad_output as the matrix: the code that a pixel has
    Index step, next_k[BK];

    // Find the block's tile and fill the table of its columns; false where it has none.  All threads come here.
    __device__ __forceinline__ bool enter_tile(const Conv2d& g, const Tiling& tiling, int BM, bool pooled) {
        const bool weights = tiling.direction == BACKWARD_WEIGHT, inputs = tiling.direction == BACKWARD_INPUT;
        if (threadIdx.x == 0) {
            int block = blockIdx.x;
            scan.m0 = block % tiling.tiles_m * BM;
            block /= tiling.tiles_m;
            scan.n0 = block % tiling.tiles_n * BN;
            block /= tiling.tiles_n;
            scan.split = block % tiling.splits;
            block /= tiling.splits;
            scan.group = block % g.groups;
            if (inputs)
                scan_inputs(scan, g, block / g.groups, pooled);
            else
                scan_outputs(scan, g, pooled && weights);
            const int C = g.C / g.groups, OC = g.OC / g.groups, kernel = g.KH * g.KW;
            const int plane = pooled && weights ? (g.OH / 2) * (g.OW / 2) : g.OH * g.OW, M = inputs ? C : OC;
            scan.rows_left = M - scan.m0;
            scan.columns_left = (weights ? scan.taps : scan.pixels) - scan.n0;
            scan.k0 = scan.split * tiling.k_of_split;
            scan.k1 = min(weights ? scan.pixels : scan.taps, scan.k0 + tiling.k_of_split);
            scan.matrix_step = weights ? plane : inputs ? kernel : C * kernel;
            scan.matrix_begin = scan.group * (weights ? OC * plane : OC * C * kernel) + scan.m0 * scan.matrix_step;
            scan.image_begin = scan.group * (inputs ? OC : C) * scan.plane;
            scan.channel = scan.group * M + scan.m0;
            scan.result_step = weights ? C * kernel : inputs ? g.H * g.W : g.OH * g.OW;
            scan.result_begin = scan.channel * scan.result_step;
            step = weights ? index_at(BK, scan.rows, scan.columns) : index_at(BK, scan.tap_rows, scan.tap_columns);
        }
        __syncthreads();
        for (int i = threadIdx.x; i < BN; i += blockDim.x) {
            n[i] = nowhere();
            if (i < scan.columns_left)
                n[i] = weights ? tap_at(scan, index_at(scan.n0 + i, scan.tap_rows, scan.tap_columns))
                               : pixel_at(scan, index_at(scan.n0 + i, scan.rows, scan.columns));
            else if (i == scan.columns_left && tiling.biased)
                n[i].other = scan.n0 + i;   // the column of the bias: it sees a one at every pixel
        }
        if (threadIdx.x < BK)
            next_k[threadIdx.x] = weights ? index_at(scan.k0 + threadIdx.x, scan.rows, scan.columns)
                                          : index_at(scan.k0 + threadIdx.x, scan.tap_rows, scan.tap_columns);
        return scan.columns_left + tiling.biased > 0;
    }

    // Fill a slot with the step that begins at k; steps come in order.
    __device__ __forceinline__ void enter_step(int slot, int at, const Conv2d& g, bool weights, bool pooled) {
        if (threadIdx.x >= BK) return;
        const Index index = next_k[threadIdx.x];
        Side side = nowhere();
        int code_of_pixel = -1;
        if (at + (int)threadIdx.x < scan.k1) {
            side = weights ? pixel_at(scan, index) : tap_at(scan, index);
            if (weights && pooled) {
                const int PH = g.OH / 2, PW = g.OW / 2, ph = index.row / 2, pw = index.column / 2;
                side.other = ph < PH && pw < PW ? index.outer * scan.other_image + ph * PW + pw : -1;
                code_of_pixel = index.row % 2 * 2 + index.column % 2;
            }
            next_k[threadIdx.x] = weights ? advanced(index, step, scan.rows, scan.columns)
                                          : advanced(index, step, scan.tap_rows, scan.tap_columns);
        }
        k[slot][threadIdx.x] = side;
        code[slot][threadIdx.x] = code_of_pixel;
    }
};
