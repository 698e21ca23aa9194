// The end of a classifier, Linear - ReLU - ... - Linear - cross entropy, forward and backward in two launches.
//
// Forward, loss and the gradients of all layers' inputs are independent from row to row of the batch: one kernel, in which
// a block takes its rows through all layers and back, in shared memory.  The gradients of weights and biases sum over the
// rows: one kernel over the tiles of all layers.  Names: rows n, the numbers of a layer's input i and of its output o.

enum { MOST_LAYERS = 6, TILE = 16, DEPTH = 64 };

// Linear: input (rows, in) -> output (rows, out), weight (out, in), bias (out) or null.  The ReLU that follows all but the
// last is in `output`, and its gradient in `grad_output`: that of what the Linear itself gives.
template <class T>
struct Layer {
    const T* weight;
    const T* bias;
    T* output;  // null for the last
    T* grad_output;
    T* grad_weight;
    T* grad_bias;
    int in, out;
    int tiles, first_block;  // tiles of TILE x TILE in a row of grad_weight, and blocks of the layers before
};

template <class T>
struct Layers {
    Layer<T> layer[MOST_LAYERS];
};

// A target's weight: 0 if it is ignored, NaN if it is no class.
__device__ __forceinline__ f64 counted(i64 target, i64 ignore_index, int C) {
    if (target == ignore_index) return 0;
    return target < 0 || target >= C ? NAN : 1;
}

__device__ __forceinline__ i64 target_of(const void* target, int narrow, int n) {
    return narrow ? (i64)((const u8*)target)[n] : ((const i64*)target)[n];
}

// grad_input    (rows, in of the first layer), or null
// terms         (rows): each row's part of the loss, before a mean is made of it
// total         one number: how many targets count
// input         (rows, in of the first layer)
// target        (rows): int64, or uint8 if `narrow`
//
// 1. every block counts the targets, if the loss is a mean: gradients need the number,
// 2. layer by layer a warp makes one number o of all ROWS rows of the block: lanes along i,
// 3. a warp makes the log-softmax of a row, its term, and the gradient of its predictions in their place,
// 4. layer by layer back, a thread makes one number i of all rows: the sum over o, 0 where the ReLU gave 0.
//
// Shared memory holds, for each row, the input of the first layer and the outputs of all.
template <class T, int ROWS>
__device__ __forceinline__ void perceptron_rows(T* grad_input, f64* terms, f64* total, const T* input, const void* target,
                                                int narrow, i64 ignore_index, int mean, int layers, int rows,
                                                const Layers<T>& all) {
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ f64 sums[512];
    T* const first = (T*)memory;
    const int n0 = blockIdx.x * ROWS, here = min(ROWS, rows - n0);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const int C = all.layer[layers - 1].out, features = all.layer[0].in;

    f64 count = 0;
    if (mean || blockIdx.x == 0)
        for (int n = threadIdx.x; n < rows; n += blockDim.x) count += counted(target_of(target, narrow, n), ignore_index, C);
    count = combined(count, team_of(blockDim.x, 0), sums, Plus());
    if (blockIdx.x == 0 && threadIdx.x == 0) *total = count;

    for (int r = 0; r < ROWS; ++r)
        for (int i = threadIdx.x; i < features; i += blockDim.x)
            first[r * features + i] = r < here ? input[(i64)(n0 + r) * features + i] : T(0);
    T* x = first;
    for (int l = 0; l < layers; ++l) {
        const Layer<T>& layer = all.layer[l];
        T* y = x + ROWS * layer.in;
        __syncthreads();
        for (int o = warp; o < layer.out; o += warps) {
            const T* row = layer.weight + (i64)o * layer.in;
            T sum[ROWS] = {};
#pragma unroll 4
            for (int i = lane; i < layer.in; i += 32) {
                const T w = row[i];
#pragma unroll
                for (int r = 0; r < ROWS; ++r) sum[r] += w * x[r * layer.in + i];
            }
            const T bias = layer.bias ? layer.bias[o] : T(0);
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                T whole = warp_sum(sum[r]) + bias;
                if (l + 1 < layers && whole <= T(0)) whole = T(0);
                if (lane != 0) continue;
                y[r * layer.out + o] = whole;
                if (layer.output && r < here) layer.output[(i64)(n0 + r) * layer.out + o] = whole;
            }
        }
        x = y;
    }
    __syncthreads();

    if (warp < here) {
        T* row = x + warp * C;
        const i64 t = target_of(target, narrow, n0 + warp);
        Peak<T> peak = no_peak<T>();
        for (int c = lane; c < C; c += 32) peak = with_number(peak, row[c]);
        for (int half = 16; half > 0; half /= 2) peak = Higher()(peak, of_lane_xor(peak, half));
        const T log_of_sum = log_sum(peak);
        const f64 w = counted(t, ignore_index, C);
        const T hit = T(w == 0 ? 0 : mean ? w / count : w);
        if (lane == 0) terms[n0 + warp] = w == 1 ? -f64(row[t] - peak.max - log_of_sum) : w;
        __syncwarp();
        T* grads = all.layer[layers - 1].grad_output + (i64)(n0 + warp) * C;
        for (int c = lane; c < C; c += 32) {
            const T grad = w == 0 ? T(0) : exp(row[c] - peak.max - log_of_sum) * hit;
            grads[c] = row[c] = c == t ? grad - hit : grad;
        }
    }

    for (int l = layers - 1; l >= 0; --l) {
        const Layer<T>& layer = all.layer[l];
        T* const grad = x;
        x -= ROWS * layer.in;
        T* results = l ? all.layer[l - 1].grad_output : grad_input;
        if (!results) break;
        __syncthreads();
        for (int i = threadIdx.x; i < layer.in; i += blockDim.x) {
            T sum[ROWS] = {};
#pragma unroll 8
            for (int o = 0; o < layer.out; ++o) {
                const T w = layer.weight[(i64)o * layer.in + i];
#pragma unroll
                for (int r = 0; r < ROWS; ++r) sum[r] += w * grad[r * layer.out + o];
            }
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                if (r >= here) continue;
                const T value = l && x[r * layer.in + i] <= T(0) ? T(0) : sum[r];
                x[r * layer.in + i] = value;
                results[(i64)(n0 + r) * layer.in + i] = value;
            }
        }
    }
}

// grad_weight, grad_bias of all layers; loss  one number; terms, total  as above; input (rows, in of the first layer)
//
// A block makes a tile of one layer's grad_weight: products of the columns of grad_output and of the layer's input, which
// it brings to shared memory DEPTH rows at a time.  The leftmost tiles make grad_bias, too.  The last block makes the loss.
template <class T>
__device__ __forceinline__ void perceptron_weights(T* loss, const f64* terms, const f64* total, const T* input, int mean,
                                                   int layers, int rows, const Layers<T>& all) {
    __shared__ __align__(16) T grads[DEPTH][TILE];
    __shared__ T inputs[DEPTH][TILE];
    if (blockIdx.x == gridDim.x - 1) {
        f64* sums = (f64*)grads;
        f64 sum = 0;
        for (int n = threadIdx.x; n < rows; n += blockDim.x) sum += terms[n];
        sum = combined(sum, team_of(blockDim.x, 0), sums, Plus());
        if (threadIdx.x == 0) *loss = T(mean ? sum / *total : sum);
        return;
    }
    int l = 0;
    while (l + 1 < layers && all.layer[l + 1].first_block <= (int)blockIdx.x) ++l;
    const Layer<T>& layer = all.layer[l];
    const T* x = l ? all.layer[l - 1].output : input;
    const int tile = blockIdx.x - layer.first_block, o0 = tile / layer.tiles * TILE, i0 = tile % layer.tiles * TILE;
    const int row = threadIdx.x / TILE, column = threadIdx.x % TILE;
    T sum[4] = {}, bias[4] = {};
    for (int n0 = 0; n0 < rows; n0 += DEPTH) {
#pragma unroll
        for (int k = row; k < DEPTH; k += TILE) {
            const i64 n = n0 + k;
            grads[k][column] = n < rows && o0 + column < layer.out ? layer.grad_output[n * layer.out + o0 + column] : T(0);
            inputs[k][column] = n < rows && i0 + column < layer.in ? x[n * layer.in + i0 + column] : T(0);
        }
        __syncthreads();
#pragma unroll 4
        for (int k = 0; k < DEPTH; k += 4)
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                sum[j] += grads[k + j][row] * inputs[k + j][column];
                bias[j] += grads[k + j][row];
            }
        __syncthreads();
    }
    const int o = o0 + row, i = i0 + column;
    if (o >= layer.out) return;
    if (i < layer.in) layer.grad_weight[(i64)o * layer.in + i] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    if (i == 0 && layer.grad_bias) layer.grad_bias[o] = (bias[0] + bias[1]) + (bias[2] + bias[3]);
}

#define ROWS_KERNEL(T, ROWS)                                                                                         \
    extern "C" __global__ void __launch_bounds__(512, 1) /* without the 1 nvcc spills registers, on sm_80 */         \
    perceptron_rows_##ROWS##_##T(T* grad_input, f64* terms, f64* total, const T* input, const void* target,          \
                                 int narrow, i64 ignore_index, int mean, int layers, int rows,                       \
                                 const __grid_constant__ Layers<T> all) {                                            \
        perceptron_rows<T, ROWS>(grad_input, terms, total, input, target, narrow, ignore_index, mean, layers, rows,  \
                                 all);                                                                               \
    }
#define KERNELS(T)                                                                                                   \
    ROWS_KERNEL(T, 1)                                                                                                \
    ROWS_KERNEL(T, 4)                                                                                                \
    extern "C" __global__ void __launch_bounds__(256)                                                                \
    perceptron_weights_##T(T* loss, const f64* terms, const f64* total, const T* input, int mean, int layers,        \
                           int rows, const __grid_constant__ Layers<T> all) {                                        \
        perceptron_weights<T>(loss, terms, total, input, mean, layers, rows, all);                                   \
    }
FOR_FLOATS(KERNELS)
ROWS_KERNEL(f32, 8)
