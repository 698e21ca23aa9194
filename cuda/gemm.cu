// Matrix products of float32 and float64, stacks of them included.
//
//     output[z] (M, N) = a[z] (M, K) @ b[z] (K, N)  [+ bias (N)]  [then relu]
//
// a and b are read where they lie: each has a stride for its rows or columns and one for k, so a transposed operand costs
// nothing.  A block computes a tile of BM x BN numbers in steps of BK products.  While the threads multiply one step out of
// shared memory, the numbers of the next are on their way into registers.  Three sizes of tiles, largest first: one with
// the most products for each number read, one for matrices of a few hundred rows, and one whose warps share out k, so that
// even a product of 64 x 120 numbers has work for 32 blocks.  Where that is not enough, `splits` blocks share out the k of
// one tile; each writes its part, and gemm_sum adds the parts in their order: the same bits every time.
// minidl/_devices/cuda/gemm_table.py chooses.
//
// minidl-uses: gemm.cuh

// ROWS x BK numbers of an operand: from device memory into registers, and from there to tile[k][row].
template <class T, int ROWS, int BK, int THREADS>
struct Loader {
    enum { V = WIDTH<T>, VECTORS = ROWS * BK / THREADS / V };
    const T* x;     // the first number of the step
    Lanes<T, V> held[VECTORS];

    // Row and k of the first number of vector i of this thread; the vector runs along k or along the rows.
    __device__ __forceinline__ static void where(int i, bool along_k, int& row, int& k) {
        const int number = (threadIdx.x + i * THREADS) * V;
        row = along_k ? number / BK : number % ROWS;
        k = along_k ? number % BK : number / ROWS;
    }

    // The next step, of which `depth` products are left; there are `rows` rows.
    __device__ __forceinline__ void load(i64 row_step, i64 k_step, bool vectors, int rows, int depth) {
        const bool along_k = k_step == 1;
#pragma unroll
        for (int i = 0; i < VECTORS; ++i) {
            int row, k;
            where(i, along_k, row, k);
            const T* from = x + row * row_step + k * k_step;
            if (vectors) {
                held[i] = Lanes<T, V>();
                if (row < rows && k < depth) held[i] = lanes<V>(from, 0);
            } else {
                const i64 step = along_k ? 1 : row_step;
                const int left = row < rows && k < depth ? (along_k ? depth - k : rows - row) : 0;
#pragma unroll
                for (int v = 0; v < V; ++v, from += step) held[i].lane[v] = v < left ? *from : T(0);
            }
        }
        x += BK * k_step;
    }

    template <int LENGTH>
    __device__ __forceinline__ void store(T (*tile)[LENGTH], bool along_k) const {
#pragma unroll
        for (int i = 0; i < VECTORS; ++i) {
            int row, k;
            where(i, along_k, row, k);
#pragma unroll
            for (int v = 0; v < V; ++v) tile[along_k ? k + v : k][along_k ? row : row + v] = held[i].lane[v];
        }
    }
};

// output (splits, batch, M, N); a, b (batch, M, K), (batch, K, N) with strides; bias (N) or null; operands 0, 1 of `stacks`
// are a and b, its numbers the matrices of the stack.
//
// 1. Every thread owns TM x TN numbers of the tile: TM / V groups of V neighbouring rows, and columns alike, so that it
//    reads vectors from shared memory and writes vectors to the output.
// 2. Step by step: the next BK columns of a and rows of b go to registers, the last ones are multiplied.
// 3. Bias, relu, output.
template <class T, int BM, int BN, int BK, int TM, int TN>
__device__ __forceinline__ void gemm_tile(T* output, const T* a, const T* b, const T* bias, const Gemm& g,
                                          const Layout& stacks) {
    enum { COLUMNS = BN / TN, THREADS = BM / TM * COLUMNS, V = WIDTH<T>, PAD = V };
    __shared__ __align__(16) T a_tile[2][BK][BM + PAD];
    __shared__ __align__(16) T b_tile[2][BK][BN + PAD];
    const Place place_of(g, BM, BN);
    i64 offset[2];
    place(stacks, place_of.z, offset);
    const int rows = g.M - place_of.m0, columns = g.N - place_of.n0;
    const int depth = place_of.k1 - place_of.k0;
    const bool a_along_k = g.a_k == 1, b_along_k = g.b_k == 1;
    const int ty = threadIdx.x / COLUMNS, tx = threadIdx.x % COLUMNS;

    T sum[TM][TN];
#pragma unroll
    for (int i = 0; i < TM; ++i)
#pragma unroll
        for (int j = 0; j < TN; ++j) sum[i][j] = T(0);

    Loader<T, BM, BK, THREADS> a_next;
    Loader<T, BN, BK, THREADS> b_next;
    a_next.x = a + offset[0] + place_of.m0 * g.a_m + place_of.k0 * g.a_k;
    b_next.x = b + offset[1] + place_of.n0 * g.b_n + place_of.k0 * g.b_k;
    a_next.load(g.a_m, g.a_k, g.a_vectors, rows, depth);
    b_next.load(g.b_n, g.b_k, g.b_vectors, columns, depth);
    a_next.store(a_tile[0], a_along_k);
    b_next.store(b_tile[0], b_along_k);
    __syncthreads();
    int now = 0;
    for (int k = 0; k < depth; k += BK) {
        const bool more = k + BK < depth;
        if (more) {
            a_next.load(g.a_m, g.a_k, g.a_vectors, rows, depth - k - BK);
            b_next.load(g.b_n, g.b_k, g.b_vectors, columns, depth - k - BK);
        }
        multiply<T, BM + PAD, BN + PAD, BK, TM, TN, BM / TM, COLUMNS>(sum, a_tile[now], b_tile[now], ty, tx);
        if (more) {
            now ^= 1;
            a_next.store(a_tile[now], a_along_k);
            b_next.store(b_tile[now], b_along_k);
            __syncthreads();
        }
    }

    output += place_of.output;
#pragma unroll
    for (int i = 0; i < TM; ++i) {
        const int row = owned<TM, BM / TM, T>(i, ty);
        if (row >= rows) continue;
        T* output_row = output + (i64)(place_of.m0 + row) * g.N + place_of.n0;
#pragma unroll
        for (int j = 0; j < TN; j += V) {
            const int n = owned<TN, COLUMNS, T>(j, tx);
            Lanes<T, V> values;
#pragma unroll
            for (int v = 0; v < V; ++v)
                values.lane[v] = n + v < columns ? finished(sum[i][j + v], bias, place_of.n0 + n + v, g.relu) : T(0);
            if (g.N % V == 0) {
                if (n < columns) put_lanes(output_row + n, 0, values);
            } else {
#pragma unroll
                for (int v = 0; v < V; ++v)
                    if (n + v < columns) output_row[n + v] = values.lane[v];
            }
        }
    }
}

// As gemm_tile, for a tile of 16 x 16.  Each of eight warps takes every eighth k of a step and has 2 x 4 numbers of the
// tile in each thread; at the end the warps' sums are added in their order.
template <class T>
__device__ __forceinline__ void gemm_thin_tile(T* output, const T* a, const T* b, const T* bias, const Gemm& g,
                                               const Layout& stacks) {
    enum { TILE = 16, BK = 64, THREADS = 256, WARPS = 8, LENGTH = TILE + 2 };
    __shared__ __align__(16) T tiles[2 * BK * LENGTH];
    T(*a_tile)[LENGTH] = reinterpret_cast<T(*)[LENGTH]>(tiles);
    T(*b_tile)[LENGTH] = a_tile + BK;
    const Place place_of(g, TILE, TILE);
    i64 offset[2];
    place(stacks, place_of.z, offset);
    const int rows = g.M - place_of.m0, columns = g.N - place_of.n0;
    const int depth = place_of.k1 - place_of.k0;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = lane / 4 * 2, column = lane % 4 * 4;

    T sum[2][4] = {};
    Loader<T, TILE, BK, THREADS> a_next, b_next;
    a_next.x = a + offset[0] + place_of.m0 * g.a_m + place_of.k0 * g.a_k;
    b_next.x = b + offset[1] + place_of.n0 * g.b_n + place_of.k0 * g.b_k;
    a_next.load(g.a_m, g.a_k, g.a_vectors, rows, depth);
    b_next.load(g.b_n, g.b_k, g.b_vectors, columns, depth);
    for (int k = 0; k < depth; k += BK) {
        a_next.store(a_tile, g.a_k == 1);
        b_next.store(b_tile, g.b_k == 1);
        __syncthreads();
        if (k + BK < depth) {
            a_next.load(g.a_m, g.a_k, g.a_vectors, rows, depth - k - BK);
            b_next.load(g.b_n, g.b_k, g.b_vectors, columns, depth - k - BK);
        }
#pragma unroll
        for (int kk = 0; kk < BK / WARPS; ++kk)
#pragma unroll
            for (int i = 0; i < 2; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j)
                    sum[i][j] += a_tile[kk * WARPS + warp][row + i] * b_tile[kk * WARPS + warp][column + j];
        __syncthreads();
    }

    T(*parts)[TILE * TILE] = reinterpret_cast<T(*)[TILE * TILE]>(tiles);    // (WARPS, TILE * TILE)
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) parts[warp][(row + i) * TILE + column + j] = sum[i][j];
    __syncthreads();
    const int m = threadIdx.x / TILE, n = threadIdx.x % TILE;
    if (m < rows && n < columns) {
        T whole = T(0);
#pragma unroll
        for (int i = 0; i < WARPS; ++i) whole += parts[i][threadIdx.x];
        output[place_of.output + (i64)(place_of.m0 + m) * g.N + place_of.n0 + n] =
            finished(whole, bias, place_of.n0 + n, g.relu);
    }
}

// output (count) = the sum over parts (splits, count), then bias (N) or null for the last dimension, then relu.
// A block has blockDim.x of the numbers, and several threads for each where there are many parts.
template <class T>
__device__ __forceinline__ void gemm_sum_of_parts(T* output, const T* parts, const T* bias, int splits, int N, int relu,
                                                  int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const T sum = sum_of_parts(parts + i, count, 0, i < count ? splits : 0);
    if (threadIdx.y == 0 && i < count) output[i] = finished(sum, bias, i % N, relu);
}

// output (count = batch * M) = a (batch, M, K) @ x (batch, K): a's rows lie along k, and a warp computes one number.
// A row vector times a matrix whose columns lie along k is the same.  `bias` (M) or null.
template <class T>
__device__ __forceinline__ void gemv_rows(T* output, const T* a, const T* x, const T* bias, i64 a_m, i64 x_k, int M, int K,
                                          int relu, const Layout& stacks, int count) {
    const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
    for (int i = blockIdx.x * warps + threadIdx.x / 32; i < count; i += gridDim.x * warps) {
        const int z = i / M, m = i - z * M;
        i64 offset[2];
        place(stacks, z, offset);
        const T* row = a + offset[0] + m * a_m;
        const T* vector = x + offset[1];
        T sum[4] = {};
        int k = lane;
        for (; k + 96 < K; k += 128)
#pragma unroll
            for (int j = 0; j < 4; ++j) sum[j] += row[k + 32 * j] * vector[(k + 32 * j) * x_k];
        for (; k < K; k += 32) sum[0] += row[k] * vector[k * x_k];
        const T whole = warp_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
        if (lane == 0) output[i] = finished(whole, bias, m, relu);
    }
}

// parts (splits, N) = sums over the rows of grad_output (M, N): a block adds up 32 columns of the rows of one split.
template <class T>
__device__ __forceinline__ void column_sums(T* parts, const T* grad_output, i64 m_step, i64 n_step, int M, int N,
                                            int rows_of_split, int blocks_of_split) {
    const int split = blockIdx.x / blocks_of_split, n = blockIdx.x % blocks_of_split * 32 + threadIdx.x;
    const int first = split * rows_of_split;
    const T sum = sum_of_parts(grad_output + n * n_step, m_step, first, n < N ? min(M, first + rows_of_split) : first);
    if (threadIdx.y == 0 && n < N) parts[(i64)split * N + n] = sum;
}

// output (batch, M, N) = a @ b of integers, each number by itself: sums wrap around, and of bools they are "any".
template <class T>
__device__ __forceinline__ void gemm_each(T* output, const T* a, const T* b, i64 a_m, i64 a_k, i64 b_n, i64 b_k, int M, int N,
                                          int K, const Layout& stacks, int count) {
    FOR_EACH(i, count) {
        const unsigned row = i / N, n = i - row * N, z = row / M, m = row - z * M;
        i64 offset[2];
        place(stacks, z, offset);
        const T* left = a + offset[0] + m * a_m;
        const T* right = b + offset[1] + n * b_n;
        T sum = T(0);
        for (int k = 0; k < K; ++k) sum = sum + left[k * a_k] * right[k * b_k];
        output[i] = sum;
    }
}

// Two blocks to a multiprocessor: one multiplies while the other waits for its numbers.  For sm_80 the compiler then keeps
// two numbers of the largest tile in memory, which costs more than it gains.
#if __CUDA_ARCH__ == 800
#define BLOCKS 1
#else
#define BLOCKS 2
#endif
#define TILES(T, name, BM, BN, BK, TM, TN)                                                                        \
    extern "C" __global__ void __launch_bounds__(BM / TM * BN / TN, BLOCKS)                                       \
    gemm_##name##_##T(T* output, const T* a, const T* b, const T* bias, Gemm g, Layout stacks) {                  \
        gemm_tile<T, BM, BN, BK, TM, TN>(output, a, b, bias, g, stacks);                                          \
    }
TILES(f32, large, 128, 128, 8, 8, 8)
TILES(f32, medium, 64, 64, 16, 4, 4)
TILES(f64, large, 64, 64, 8, 4, 4)
TILES(f64, medium, 32, 32, 16, 4, 2)

#define KERNELS(T)                                                                                                \
    extern "C" __global__ void __launch_bounds__(256, 2)                                                          \
    gemm_thin_##T(T* output, const T* a, const T* b, const T* bias, Gemm g, Layout stacks) {                      \
        gemm_thin_tile<T>(output, a, b, bias, g, stacks);                                                         \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
    gemm_sum_##T(T* output, const T* parts, const T* bias, int splits, int N, int relu, int count) {              \
        gemm_sum_of_parts<T>(output, parts, bias, splits, N, relu, count);                                        \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256, 4)                                                          \
    gemv_##T(T* output, const T* a, const T* x, const T* bias, i64 a_m, i64 x_k, int M, int K, int relu,          \
             Layout stacks, int count) {                                                                          \
        gemv_rows<T>(output, a, x, bias, a_m, x_k, M, K, relu, stacks, count);                                    \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
    column_sums_##T(T* parts, const T* grad_output, i64 m_step, i64 n_step, int M, int N, int rows_of_split,      \
                    int blocks_of_split) {                                                                        \
        column_sums<T>(parts, grad_output, m_step, n_step, M, N, rows_of_split, blocks_of_split);                 \
    }
FOR_FLOATS(KERNELS)

#define KERNELS_OF_INTEGERS(T)                                                                                    \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
    gemm_each_##T(T* output, const T* a, const T* b, i64 a_m, i64 a_k, i64 b_n, i64 b_k, int M, int N, int K,     \
                  Layout stacks, int count) {                                                                     \
        gemm_each<T>(output, a, b, a_m, a_k, b_n, b_k, M, N, K, stacks, count);                                   \
    }
FOR_INTEGERS(KERNELS_OF_INTEGERS)
KERNELS_OF_INTEGERS(b8)
