// 2-d convolution and its gradients as matrix products whose second operand is never written down (implicit GEMM).
// conv2d.cuh says which products and how their index arithmetic goes.
//
// minidl-uses: conv2d.cuh
//
// Many blocks may share out the k of one tile (`splits`); conv2d_sum adds their parts in order: the same bits every time.
// minidl/_devices/cuda/conv_table.py chooses the tile, conv.py fills the structs.

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
    __shared__ Table<BN, BK, 2> table;
    __shared__ __align__(16) T a_tile[2][BK][BM + PAD];
    __shared__ __align__(16) T b_tile[2][BK][BN + PAD];
    const Scan& scan = table.scan;
    const int t = threadIdx.x;
    const bool weights = tiling.direction == BACKWARD_WEIGHT, pooled = codes != nullptr;
    if (!table.enter_tile(g, tiling, BM, pooled)) return;
    table.enter_step(0, scan.k0, g, weights, pooled);
    table.enter_step(1, scan.k0 + BK, g, weights, pooled);
    __syncthreads();

    enum { A_EACH = BM * BK / THREADS, B_EACH = BN * BK / THREADS };
    T a_next[A_EACH], b_next[B_EACH];
    const int k_of_thread = t % BK, row_of_thread = t / BK;     // neighbours along k
    auto load = [&](int slot) {
        const int other = table.k[slot][k_of_thread].other;
#pragma unroll
        for (int i = 0; i < A_EACH; ++i) {
            const int m = row_of_thread + i * (THREADS / BK), at = scan.matrix_begin + other + m * scan.matrix_step;
            a_next[i] = T(0);
            if (other >= 0 && m < scan.rows_left && (!(weights && pooled) || codes[at] == table.code[slot][k_of_thread]))
                a_next[i] = matrix[at];
        }
        if (weights) {
            const Side pixel = table.k[slot][k_of_thread];
#pragma unroll
            for (int i = 0; i < B_EACH; ++i) {
                const Side tap = table.n[row_of_thread + i * (THREADS / BK)];
                b_next[i] = tap.h == OUTSIDE && tap.other >= 0 && pixel.h != OUTSIDE
                                ? T(1) : seen<T>(image, nullptr, scan.image_begin, scan, pixel, tap);
            }
        } else {
            const Side pixel = table.n[t % BN];
#pragma unroll
            for (int i = 0; i < B_EACH; ++i)
                b_next[i] = seen(image, codes, scan.image_begin, scan, pixel, table.k[slot][t / BN + i * (THREADS / BN)]);
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
    for (int k = scan.k0; k < scan.k1; k += BK) {
        const bool more = k + BK < scan.k1;
        if (more) load(now ^ 1);
        multiply<T, BM + PAD, BN + PAD, BK, TM, TN, ROWS, COLUMNS>(sum, a_tile[now], b_tile[now], ty, tx);
        if (more) {
            table.enter_step(now, k + 2 * BK, g, weights, pooled);
            now ^= 1;
            store(now);
            __syncthreads();
        }
    }

    output += (i64)scan.split * tiling.split_step + scan.result_begin;
    if (grad_bias) grad_bias += (i64)scan.split * tiling.split_step + scan.channel;
    const int columns = scan.columns_left;
    const bool aligned = reinterpret_cast<size_t>(output) % 16 == 0 && scan.result_step % V == 0;
#pragma unroll
    for (int i = 0; i < TM; ++i) {
        const int m = owned<TM, ROWS, T>(i, ty);
        if (m >= scan.rows_left) continue;
        const T of_bias = bias ? bias[scan.channel + m] : T(0);
        T* output_row = output + m * scan.result_step;
#pragma unroll
        for (int j = 0; j < TN; j += V) {
            const int n = owned<TN, COLUMNS, T>(j, tx);
            const int first = table.n[n].other, last = table.n[n + V - 1].other;
            Lanes<T, V> values;
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const T value = sum[i][j + v] + of_bias;
                values.lane[v] = tiling.relu && value <= T(0) ? T(0) : value;
            }
            if (aligned && first % V == 0 && last - first == V - 1 && n + V <= columns) {
                put_lanes(output_row + first, 0, values);
                continue;
            }
#pragma unroll
            for (int v = 0; v < V; ++v) {
                if (n + v < columns) output_row[table.n[n + v].other] = values.lane[v];
                else if (n + v == columns && tiling.biased) grad_bias[m] = values.lane[v];
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
