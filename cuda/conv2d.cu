// 2-d convolution and its gradients as matrix products whose second operand is never written down (implicit GEMM).
//
//     forward          output      (OC, pixels) = weight      (OC, taps)   @ input seen at (taps, pixels)
//     backward_input   grad_input  (C, pixels)  = weight      (C, taps)    @ grad_output seen at (taps, pixels)
//     backward_weight  grad_weight (OC, taps)   = grad_output (OC, pixels) @ input seen at (pixels, taps)
//
// for each group; pixels are those of all images; a tap is a channel with a place (kh, kw) of the kernel.  The number seen
// by a tap at a pixel lies at the sum of two offsets, one of the tap, one of the pixel, and it is zero where the sum of
// their rows or columns leaves the image.  So the inner loop divides nothing: a block keeps a small table of Places for the
// columns of its tile, and one for the next steps along k, and adds.
//
// The gradient of the input with a stride: input pixels whose rows (and columns) leave the same rest when divided by the
// stride are made by the same taps, every stride-th one, and each such phase is a product of its own; no zeros are
// multiplied.  The gradient of a pooled output may come as it is (grad_output and codes of the 2x2 windows, see
// conv2d_relu_max_pool2d): it is spread over the windows as it is read.
//
// Many blocks may share out the k of one tile (`splits`); conv2d_sum adds their parts in order: the same bits every time.
// minidl/_devices/cuda/conv_table.py chooses the tile, conv.py fills the structs.

enum Direction { FORWARD, BACKWARD_INPUT, BACKWARD_WEIGHT };
enum { OUTSIDE = -(1 << 30) };  // a row that is in no image

// fields of minidl/geometry.py's Conv2dGeometry, in its order
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
    int k_rows, k_columns;                          // those of taps or pixels, whichever k counts
    int m0, n0, split, group;                       // the tile
    int matrix_begin, matrix_step, matrix_rows, image_begin;    // the tile's and the group's part of the operands
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

// The number seen at the sum of two sides.
template <class T>
__device__ __forceinline__ T seen(const T* image, const u8* codes, int begin, const Scan& scan, const Side& a, const Side& b) {
    const int h = a.h + b.h, w = a.w + b.w;
    if ((unsigned)h >= (unsigned)scan.H || (unsigned)w >= (unsigned)scan.W) return T(0);
    if (!codes) return image[begin + a.offset + b.offset];
    const int window = begin + a.offset + b.offset + (h >> 1) * (scan.W >> 1) + (w >> 1);
    return codes[window] == (h & 1) * 2 + (w & 1) ? image[window] : T(0);
}

// output, grad_bias (or null), matrix, image, codes (or null), bias (or null), by direction:
//   FORWARD          output (N, OC, OH, OW), weight (OC, C / groups, KH, KW), input (N, C, H, W), bias (OC)
//   BACKWARD_INPUT   grad_input (N, C, H, W), weight, grad_output (N, OC, OH, OW) or pooled with codes
//   BACKWARD_WEIGHT  grad_weight, grad_bias (OC), grad_output or pooled with codes, input
// With several splits the results are parts, tiling.split_step numbers apart.
//
// 1. The block finds its tile, group, phase and part of k; the columns' Sides go to a table, those of two steps to another.
// 2. Step by step: BK columns of the matrix and BK rows of what is seen go to registers, then to shared memory, while the
//    step before is multiplied; every thread has TM x TN sums, as in gemm.cu.
// 3. Bias, relu, output; neighbours that lie side by side are written together.
template <class T, int BM, int BN, int BK, int TM, int TN>
__device__ __forceinline__ void conv2d_tile(T* output, T* grad_bias, const T* matrix, const T* image, const u8* codes,
                                            const T* bias, const Conv2d& g, const Tiling& tiling) {
    enum { COLUMNS = BN / TN, ROWS = BM / TM, THREADS = ROWS * COLUMNS, V = WIDTH<T>, PAD = V };
    __shared__ Scan scan;
    __shared__ Side sides_k[2][BK], sides_n[BN];
    __shared__ Index next_k[BK], step_of_k;
    __shared__ int window_codes[2][BK];         // of a pooled grad_output as the matrix: the code that a pixel has
    __shared__ __align__(16) T a_tile[2][BK][BM + PAD];
    __shared__ __align__(16) T b_tile[2][BK][BN + PAD];
    const int t = threadIdx.x;
    const bool weights = tiling.direction == BACKWARD_WEIGHT, inputs = tiling.direction == BACKWARD_INPUT;
    const bool pooled_matrix = weights && codes, pooled_image = inputs && codes;

    if (t == 0) {
        int block = blockIdx.x;
        scan.m0 = block % tiling.tiles_m * BM;
        block /= tiling.tiles_m;
        scan.n0 = block % tiling.tiles_n * BN;
        block /= tiling.tiles_n;
        scan.split = block % tiling.splits;
        block /= tiling.splits;
        scan.group = block % g.groups;
        const int phase = block / g.groups;
        if (inputs)
            scan_inputs(scan, g, phase, pooled_image);
        else
            scan_outputs(scan, g, pooled_matrix);
    }
    __syncthreads();

    // The group's part of each array; M rows of the matrix, `columns` columns, products k0 to k1.
    const int C = g.C / g.groups, OC = g.OC / g.groups, kernel = g.KH * g.KW;
    const int plane = pooled_matrix ? (g.OH / 2) * (g.OW / 2) : g.OH * g.OW;
    const int M = inputs ? C : OC, columns = weights ? scan.taps : scan.pixels, K = weights ? scan.pixels : scan.taps;
    const int n0 = scan.n0, k0 = scan.split * tiling.k_of_split, k1 = min(K, k0 + tiling.k_of_split);
    const int output_step = weights ? C * kernel : inputs ? g.H * g.W : g.OH * g.OW;
    if (n0 >= columns + (tiling.biased && weights)) return;

    for (int n = t; n < BN; n += THREADS) {
        Side side = nowhere();
        if (n0 + n < columns) {
            side = weights ? tap_at(scan, index_at(n0 + n, scan.tap_rows, scan.tap_columns))
                           : pixel_at(scan, index_at(n0 + n, scan.rows, scan.columns));
        } else if (n0 + n == columns && tiling.biased) {
            side.other = columns;   // the column of the bias: it sees a one at every pixel
        }
        sides_n[n] = side;
    }
    if (t == 0) {
        scan.matrix_step = weights ? plane : inputs ? kernel : C * kernel, scan.matrix_rows = M - scan.m0;
        scan.matrix_begin = scan.group * (weights ? OC * plane : OC * C * kernel) + scan.m0 * scan.matrix_step;
        scan.image_begin = scan.group * (inputs ? OC : C) * scan.plane;
        scan.k_rows = weights ? scan.rows : scan.tap_rows, scan.k_columns = weights ? scan.columns : scan.tap_columns;
        step_of_k = index_at(BK, scan.k_rows, scan.k_columns);
    }
    if (t < BK)
        next_k[t] = index_at(k0 + t, weights ? scan.rows : scan.tap_rows, weights ? scan.columns : scan.tap_columns);
    __syncthreads();
    auto enter_sides = [&](int slot, int k) {
        if (t >= BK) return;
        const Index index = next_k[t];
        Side side = nowhere();
        int code = -1;
        if (k + t < k1) {
            side = weights ? pixel_at(scan, index) : tap_at(scan, index);
            if (pooled_matrix) {
                const int PH = g.OH / 2, PW = g.OW / 2, ph = index.row / 2, pw = index.column / 2;
                side.other = ph < PH && pw < PW ? index.outer * scan.other_image + ph * PW + pw : -1;
                code = index.row % 2 * 2 + index.column % 2;
            }
            next_k[t] = advanced(index, step_of_k, scan.k_rows, scan.k_columns);
        }
        sides_k[slot][t] = side;
        window_codes[slot][t] = code;
    };
    enter_sides(0, k0);
    enter_sides(1, k0 + BK);
    __syncthreads();

    enum { A_EACH = BM * BK / THREADS, B_EACH = BN * BK / THREADS };
    T a_next[A_EACH], b_next[B_EACH];
    const int k_of_thread = t % BK, row_of_thread = t / BK;     // neighbours along k
    auto load = [&](int slot) {
        const int other = sides_k[slot][k_of_thread].other;
#pragma unroll
        for (int i = 0; i < A_EACH; ++i) {
            const int m = row_of_thread + i * (THREADS / BK), at = scan.matrix_begin + other + m * scan.matrix_step;
            a_next[i] = T(0);
            if (other >= 0 && m < scan.matrix_rows && (!pooled_matrix || codes[at] == window_codes[slot][k_of_thread]))
                a_next[i] = matrix[at];
        }
        if (weights) {
            const Side pixel = sides_k[slot][k_of_thread];
#pragma unroll
            for (int i = 0; i < B_EACH; ++i) {
                const Side tap = sides_n[row_of_thread + i * (THREADS / BK)];
                b_next[i] = tap.h == OUTSIDE && tap.other >= 0 && pixel.h != OUTSIDE
                                ? T(1) : seen<T>(image, nullptr, scan.image_begin, scan, pixel, tap);
            }
        } else {
            const Side pixel = sides_n[t % BN];
#pragma unroll
            for (int i = 0; i < B_EACH; ++i)
                b_next[i] = seen(image, codes, scan.image_begin, scan, pixel, sides_k[slot][t / BN + i * (THREADS / BN)]);
        }
    };
    auto store = [&](int slot) {
#pragma unroll
        for (int i = 0; i < A_EACH; ++i) a_tile[slot][k_of_thread][row_of_thread + i * (THREADS / BK)] = a_next[i];
#pragma unroll
        for (int i = 0; i < B_EACH; ++i) {
            if (weights)
                b_tile[slot][k_of_thread][row_of_thread + i * (THREADS / BK)] = b_next[i];
            else
                b_tile[slot][t / BN + i * (THREADS / BN)][t % BN] = b_next[i];
        }
    };

    T sum[TM][TN];
#pragma unroll
    for (int i = 0; i < TM; ++i)
#pragma unroll
        for (int j = 0; j < TN; ++j) sum[i][j] = T(0);
    const int ty = t / COLUMNS, tx = t % COLUMNS;
    load(0);
    store(0);
    __syncthreads();
    int now = 0;
    for (int k = k0; k < k1; k += BK) {
        const bool more = k + BK < k1;
        if (more) load(now ^ 1);
        multiply<T, BM + PAD, BN + PAD, BK, TM, TN, ROWS, COLUMNS>(sum, a_tile[now], b_tile[now], ty, tx);
        if (more) {
            enter_sides(now, k + 2 * BK);
            now ^= 1;
            store(now);
            __syncthreads();
        }
    }

    const int channel = scan.group * M + scan.m0;
    output += (i64)scan.split * tiling.split_step + (i64)channel * output_step;
    if (grad_bias) grad_bias += (i64)scan.split * tiling.split_step + channel;
    const bool aligned = reinterpret_cast<size_t>(output) % 16 == 0 && output_step % V == 0;
#pragma unroll
    for (int i = 0; i < TM; ++i) {
        const int m = owned<TM, ROWS, T>(i, ty);
        if (m >= scan.matrix_rows) continue;
        const T of_bias = bias ? bias[channel + m] : T(0);
        T* output_row = output + (i64)m * output_step;
#pragma unroll
        for (int j = 0; j < TN; j += V) {
            const int n = owned<TN, COLUMNS, T>(j, tx);
            const int first = sides_n[n].other, last = sides_n[n + V - 1].other;
            Lanes<T, V> values;
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const T value = sum[i][j + v] + of_bias;
                values.lane[v] = tiling.relu && value <= T(0) ? T(0) : value;
            }
            if (aligned && first % V == 0 && last - first == V - 1 && n0 + n + V <= columns) {
                put_lanes(output_row + first, 0, values);
                continue;
            }
#pragma unroll
            for (int v = 0; v < V; ++v) {
                if (n0 + n + v < columns) output_row[sides_n[n + v].other] = values.lane[v];
                else if (n0 + n + v == columns && tiling.biased) grad_bias[m] = values.lane[v];
            }
        }
    }
}

// output (count) and more (further) = the sums over parts (splits, count + further), then the bias of the channel or null:
// output is (..., channels, plane); then relu.
template <class T>
__device__ __forceinline__ void conv2d_sum_of_parts(T* output, T* more, const T* parts, const T* bias, int splits, int channels,
                                                    int plane, int relu, int count, int further) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x, all = count + further;
    T sum = sum_of_parts(parts + i, all, 0, i < all ? splits : 0);
    if (threadIdx.y != 0 || i >= all) return;
    if (bias) sum += bias[i / plane % channels];
    if (relu && sum <= T(0)) sum = T(0);
    if (i < count)
        output[i] = sum;
    else
        more[i - count] = sum;
}

// parts (splits, OC) = sums of grad_output (N, OC, plane) over images and pixels; with codes, over those that are not 4.
// Each block has one channel and every splits-th run of 1024 of its N * plane numbers.
template <class T>
__device__ __forceinline__ void conv2d_bias_sums(T* parts, const T* grad_output, const u8* codes, int N, int OC, int plane) {
    __shared__ T sums[8];
    const int oc = blockIdx.x % OC, split = blockIdx.x / OC, splits = gridDim.x / OC;
    T sum[4] = {};
    for (int n = split; n < N; n += splits) {
        const i64 first = ((i64)n * OC + oc) * plane;
        int i = threadIdx.x;
        for (; i + 768 < plane; i += 1024)
#pragma unroll
            for (int j = 0; j < 4; ++j)
                if (!codes || codes[first + i + 256 * j] != 4) sum[j] += grad_output[first + i + 256 * j];
        for (; i < plane; i += 256)
            if (!codes || codes[first + i] != 4) sum[0] += grad_output[first + i];
    }
    const T of_warp = warp_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = of_warp;
    __syncthreads();
    if (threadIdx.x == 0) {
        T whole = T(0);
#pragma unroll
        for (int warp = 0; warp < 8; ++warp) whole += sums[warp];
        parts[split * OC + oc] = whole;
    }
}

#define TILES(T, name, BM, BN, BK, TM, TN)                                                                             \
    extern "C" __global__ void __launch_bounds__(BM / TM * BN / TN, 2)                                                 \
    conv2d_##name##_##T(T* output, T* grad_bias, const T* matrix, const T* image, const u8* codes, const T* bias,      \
                        Conv2d g, Tiling tiling) {                                                                       \
        conv2d_tile<T, BM, BN, BK, TM, TN>(output, grad_bias, matrix, image, codes, bias, g, tiling);                   \
    }
TILES(f32, large, 128, 128, 8, 8, 8)
TILES(f32, medium, 64, 64, 16, 4, 4)
TILES(f32, wide, 32, 128, 16, 4, 4)
TILES(f32, small, 16, 64, 16, 2, 4)
TILES(f64, medium, 64, 64, 8, 4, 4)
TILES(f64, small, 16, 64, 16, 2, 4)

#define KERNELS(T)                                                                                                     \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
    conv2d_sum_##T(T* output, T* more, const T* parts, const T* bias, int splits, int channels, int plane, int relu,   \
                   int count, int further) {                                                                           \
        conv2d_sum_of_parts<T>(output, more, parts, bias, splits, channels, plane, relu, count, further);              \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
    conv2d_bias_##T(T* parts, const T* grad_output, const u8* codes, int N, int OC, int plane) {                       \
        conv2d_bias_sums<T>(parts, grad_output, codes, N, OC, plane);                                                  \
    }
FOR_FLOATS(KERNELS)
