// 2-d convolution of float32 and its gradients on tensor cores: numbers are rounded to TF32 (ten bits behind the point), sums
// are float32.  Used for large layers where minidl.backends.cudnn.allow_tf32 is True, PyTorch's default.
//
// minidl-min-arch: 80
// minidl-uses: conv2d.cuh tensor_cores.cuh
//
// The products and their index arithmetic are those of conv2d.cuh.  Copies to shared memory are asynchronous, number by
// number (16 bytes of the weight at once in the forward direction), STAGES - 1 steps ahead of the products; what is outside
// of the image is filled with zeros by the copy itself.  The second operand is kept as (k, pixel), or, in the gradient of
// the weight, where neighbours in a warp are pixels, as (tap, k).

enum { STAGES = 4, BK = 16 };

// output, matrix, image, bias (or null) by direction, and parts of them, as conv2d_tile in conv2d.cu
template <bool WEIGHTS, int BM, int BN, int WARPS_M, int WARPS_N>
__device__ __forceinline__ void conv2d_tf32_tile(f32* output, const f32* matrix, const f32* image, const f32* bias,
                                                 const Conv2d& g, const Tiling& tiling) {
    enum { THREADS = 32 * WARPS_M * WARPS_N, MM = BM / WARPS_M / 16, MN = BN / WARPS_N / 8 };
    typedef TensorTile<true, BM, BK> A;
    typedef TensorTile<WEIGHTS, BN, BK> B;
    extern __shared__ __align__(16) f32 stages[];   // (STAGES, A::SIZE + B::SIZE)
    __shared__ Table<BN, BK, STAGES> table;
    const Scan& scan = table.scan;
    const int t = threadIdx.x;
    if (!table.enter_tile(g, tiling, BM, false)) return;
#pragma unroll
    for (int step = 0; step < STAGES - 1; ++step) table.enter_step(step, scan.k0 + step * BK, g, WEIGHTS, false);
    __syncthreads();
    const bool vectors = tiling.direction == FORWARD && scan.matrix_step % 4 == 0 && (size_t)matrix % 16 == 0;

    auto copy = [&](int step) {
        f32* stage = stages + step % STAGES * (A::SIZE + B::SIZE);
        const Side* steps = table.k[step % STAGES];
        if (scan.k0 + step * BK < scan.k1) {
            if (vectors) {
#pragma unroll
                for (int i = 0; i < BM * BK / 4 / THREADS; ++i) {
                    const int number = (t + i * THREADS) * 4, m = number / BK, k = number % BK, other = steps[k].other;
                    const bool inside = other >= 0 && m < scan.rows_left;
                    copy_async<16>(stage + A::at(m, k),
                                   matrix + (inside ? scan.matrix_begin + other + m * scan.matrix_step : 0), inside);
                }
            } else {
                const int k = t % BK, other = steps[k].other;
#pragma unroll 4
                for (int m = t / BK; m < BM; m += THREADS / BK) {
                    const bool inside = other >= 0 && m < scan.rows_left;
                    copy_async<4>(stage + A::at(m, k),
                                  matrix + (inside ? scan.matrix_begin + other + m * scan.matrix_step : 0), inside);
                }
            }
            const int fixed = WEIGHTS ? t % BK : t % BN;
            const Side of_thread = WEIGHTS ? steps[fixed] : table.n[fixed];
#pragma unroll 4
            for (int i = WEIGHTS ? t / BK : t / BN; i < (WEIGHTS ? BN : BK); i += THREADS / (WEIGHTS ? BK : BN)) {
                const Side side = WEIGHTS ? table.n[i] : steps[i];
                const int h = of_thread.h + side.h, w = of_thread.w + side.w;
                const bool inside = (unsigned)h < (unsigned)scan.H && (unsigned)w < (unsigned)scan.W;
                copy_async<4>(stage + A::SIZE + (WEIGHTS ? B::at(i, fixed) : B::at(fixed, i)),
                              image + (inside ? scan.image_begin + of_thread.offset + side.offset : 0), inside);
            }
        }
        copy_async_commit();
    };
    f32 sum[MM][MN][4] = {};
    const int warp = t / 32, m = warp / WARPS_N * (16 * MM), n = warp % WARPS_N * (8 * MN);
    for (int step = 0; step < STAGES - 1; ++step) copy(step);
    for (int step = 0; scan.k0 + step * BK < scan.k1; ++step) {
        // the slot of the step before is free: all have multiplied it when they meet here
        if (step == 0) table.enter_step(STAGES - 1, scan.k0 + (STAGES - 1) * BK, g, WEIGHTS, false);
        copy_async_wait<STAGES - 2>();
        __syncthreads();
        copy(step + STAGES - 1);
        const f32* stage = stages + step % STAGES * (A::SIZE + B::SIZE);
        multiply_tf32<A, B, BK, MM, MN>(sum, stage, stage + A::SIZE, m, n);
        table.enter_step(step % STAGES, scan.k0 + (step + STAGES) * BK, g, WEIGHTS, false);
    }

    output += (i64)scan.split * tiling.split_step + scan.result_begin;
    const int group = t % 32 / 4, q = t % 4;
#pragma unroll
    for (int i = 0; i < MM; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = m + 16 * i + group + 8 * half;
            if (row >= scan.rows_left) continue;
            const f32 of_bias = bias ? bias[scan.channel + row] : 0.0f;
            f32* output_row = output + row * scan.result_step;
#pragma unroll
            for (int j = 0; j < MN; ++j) {
                const int column = n + 8 * j + 2 * q;
                if (column >= scan.columns_left) continue;
                Lanes<f32, 2> values;
#pragma unroll
                for (int v = 0; v < 2; ++v) {
                    const f32 value = sum[i][j][2 * half + v] + of_bias;
                    values.lane[v] = tiling.relu && value <= 0.0f ? 0.0f : value;
                }
                f32* to = output_row + table.n[column].other;
                const bool two = column + 1 < scan.columns_left;
                if (two && table.n[column + 1].other == table.n[column].other + 1 && (size_t)to % 8 == 0) {
                    put_lanes(to, 0, values);
                } else {
                    to[0] = values.lane[0];
                    if (two) output_row[table.n[column + 1].other] = values.lane[1];
                }
            }
        }
}

#define KERNEL(name, WEIGHTS, BM, BN, WARPS_M, WARPS_N)                                                                \
    extern "C" __global__ void __launch_bounds__(32 * WARPS_M * WARPS_N, 2)                                            \
    name(f32* output, const f32* matrix, const f32* image, const f32* bias, Conv2d g, Tiling tiling) {                 \
        conv2d_tf32_tile<WEIGHTS, BM, BN, WARPS_M, WARPS_N>(output, matrix, image, bias, g, tiling);                   \
    }
KERNEL(conv2d_tf32_large_f32, false, 128, 128, 2, 4)
KERNEL(conv2d_tf32_large_weight_f32, true, 128, 128, 2, 4)
KERNEL(conv2d_tf32_medium_f32, false, 64, 64, 2, 2)
KERNEL(conv2d_tf32_medium_weight_f32, true, 64, 64, 2, 2)
