// Matrix products of float32 on tensor cores: numbers are rounded to TF32 (ten bits behind the point), sums are float32.
// Used where minidl.backends.cuda.matmul.allow_tf32 is True.
//
// minidl-min-arch: 80
// minidl-uses: gemm.cuh tensor_cores.cuh
//
// As gemm.cu, but that copies to shared memory are asynchronous, STAGES - 1 steps ahead of the products, and that a warp
// multiplies with mma.sync.  An operand that lies along k is kept as (row, k), another as (k, row): copies of 16 bytes need
// no turning, and no two lanes of a warp read one bank.

enum { STAGES = 4, BK = 16 };

// Begin to copy the next step of an operand, of which `rows` rows and `depth` products are left.
template <class Tile, bool ALONG_K, int ROWS, int THREADS>
__device__ __forceinline__ void copy_step(f32* tile, const f32* x, i64 row_step, i64 k_step, bool vectors, int rows, int depth) {
#pragma unroll
    for (int i = 0; i < ROWS * BK / 4 / THREADS; ++i) {
        const int number = (threadIdx.x + i * THREADS) * 4;
        const int row = ALONG_K ? number / BK : number % ROWS, k = ALONG_K ? number % BK : number / ROWS;
        const bool inside = row < rows && k < depth;
        const f32* from = x + (inside ? row * row_step + k * k_step : 0);
        f32* to = tile + Tile::at(row, k);
        if (vectors) {
            copy_async<16>(to, from, inside);
        } else {
            const int left = !inside ? 0 : ALONG_K ? depth - k : rows - row;
#pragma unroll
            for (int v = 0; v < 4; ++v) copy_async<4>(to + v, v < left ? from + v * (ALONG_K ? 1 : row_step) : x, v < left);
        }
    }
}

// output (splits, batch, M, N), a (batch, M, K), b (batch, K, N), bias (N) or null, as in gemm.cu
template <bool A_ALONG_K, bool B_ALONG_K, int BM, int BN, int WARPS_M, int WARPS_N>
__device__ __forceinline__ void gemm_tf32_tile(f32* output, const f32* a, const f32* b, const f32* bias, const Gemm& g,
                                               const Layout& stacks) {
    enum { THREADS = 32 * WARPS_M * WARPS_N, MM = BM / WARPS_M / 16, MN = BN / WARPS_N / 8 };
    typedef TensorTile<A_ALONG_K, BM, BK> A;
    typedef TensorTile<B_ALONG_K, BN, BK> B;
    extern __shared__ __align__(16) f32 stages[];   // (STAGES, A::SIZE + B::SIZE)
    const Place place_of(g, BM, BN);
    i64 offset[2];
    place(stacks, place_of.z, offset);
    const int rows = g.M - place_of.m0, columns = g.N - place_of.n0, depth = place_of.k1 - place_of.k0;
    a += offset[0] + place_of.m0 * g.a_m + place_of.k0 * g.a_k;
    b += offset[1] + place_of.n0 * g.b_n + place_of.k0 * g.b_k;
    const int warp = threadIdx.x / 32, m = warp / WARPS_N * (16 * MM), n = warp % WARPS_N * (8 * MN);

    auto copy = [&](int step) {
        const int k = step * BK;
        if (k < depth) {
            f32* stage = stages + step % STAGES * (A::SIZE + B::SIZE);
            copy_step<A, A_ALONG_K, BM, THREADS>(stage, a + k * g.a_k, g.a_m, g.a_k, g.a_vectors, rows, depth - k);
            copy_step<B, B_ALONG_K, BN, THREADS>(stage + A::SIZE, b + k * g.b_k, g.b_n, g.b_k, g.b_vectors, columns, depth - k);
        }
        copy_async_commit();
    };
    f32 sum[MM][MN][4] = {};
#pragma unroll
    for (int step = 0; step < STAGES - 1; ++step) copy(step);
    for (int step = 0; step * BK < depth; ++step) {
        copy_async_wait<STAGES - 2>();
        __syncthreads();
        copy(step + STAGES - 1);
        const f32* stage = stages + step % STAGES * (A::SIZE + B::SIZE);
        multiply_tf32<A, B, BK, MM, MN>(sum, stage, stage + A::SIZE, m, n);
    }

    output += place_of.output;
    const int group = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < MM; ++i)
#pragma unroll
        for (int j = 0; j < MN; ++j)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int row = m + 16 * i + group + 8 * half, column = n + 8 * j + 2 * q;
                if (row >= rows || column >= columns) continue;
                f32* to = output + (i64)(place_of.m0 + row) * g.N + place_of.n0 + column;
                Lanes<f32, 2> values;
                values.lane[0] = finished(sum[i][j][2 * half], bias, place_of.n0 + column, g.relu);
                if (g.N % 2 == 0) {
                    values.lane[1] = finished(sum[i][j][2 * half + 1], bias, place_of.n0 + column + 1, g.relu);
                    put_lanes(to, 0, values);
                } else {
                    to[0] = values.lane[0];
                    if (column + 1 < columns)
                        to[1] = finished(sum[i][j][2 * half + 1], bias, place_of.n0 + column + 1, g.relu);
                }
            }
}

#define KERNEL(name, A_ALONG_K, B_ALONG_K, BM, BN, WARPS_M, WARPS_N)                                                   \
    extern "C" __global__ void __launch_bounds__(32 * WARPS_M * WARPS_N, 2)                                            \
    name(f32* output, const f32* a, const f32* b, const f32* bias, Gemm g, Layout stacks) {                            \
        gemm_tf32_tile<A_ALONG_K, B_ALONG_K, BM, BN, WARPS_M, WARPS_N>(output, a, b, bias, g, stacks);                 \
    }
// The two letters: K where a, or b, lies along k, else N.
#define KERNELS(tile, BM, BN, WARPS_M, WARPS_N)                                                                        \
    KERNEL(gemm_##tile##_KK_f32, true, true, BM, BN, WARPS_M, WARPS_N)                                                 \
    KERNEL(gemm_##tile##_KN_f32, true, false, BM, BN, WARPS_M, WARPS_N)                                                \
    KERNEL(gemm_##tile##_NK_f32, false, true, BM, BN, WARPS_M, WARPS_N)                                                \
    KERNEL(gemm_##tile##_NN_f32, false, false, BM, BN, WARPS_M, WARPS_N)
KERNELS(tf32_large, 128, 128, 2, 4)
KERNELS(tf32_medium, 64, 64, 2, 2)
