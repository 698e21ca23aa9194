// Cross entropy and negative log-likelihood over classes, and their gradients.
//
// Predictions are seen as (N, C, inner) around the classes, targets as the rows (N, inner): int64, or uint8 if `narrow`.
// A row has a team of threads (common.cuh).  Losses are summed in float64 and in a fixed order: by one block if there are
// few rows, else by many, whose sums `loss_finish` adds up.
//
// A target that is neither a class nor ignore_index cannot raise here: it makes the loss NaN, and its row's gradient.

enum Reduction { NONE, MEAN, SUM };

__device__ __forceinline__ i64 target_of(const void* target, int narrow, i64 row) {
    return narrow ? (i64)((const u8*)target)[row] : ((const i64*)target)[row];
}

// The weight of a class; NaN for what is none.
template <class T>
__device__ __forceinline__ f64 weight_of(const T* weight, i64 c, int C) {
    if (c < 0 || c >= C) return NAN;
    return weight ? f64(weight[c]) : 1.0;
}

// A block's sums of terms and of weights, to where `loss_finish` or the caller finds them.
template <class T>
__device__ __forceinline__ void keep_sums(T* loss, T* total_weight, f64* partial, f64 terms, f64 weights, int reduction,
                                          f64* shared) {
    const Team block = team_of(blockDim.x, 0);
    terms = combined(terms, block, shared, Plus());
    weights = combined(weights, block, shared, Plus());
    if (threadIdx.x != 0) return;
    if (gridDim.x > 1) {
        partial[2 * blockIdx.x] = terms;
        partial[2 * blockIdx.x + 1] = weights;
        return;
    }
    *total_weight = T(weights);
    if (reduction != NONE) *loss = T(reduction == MEAN ? terms / weights : terms);
}

// loss          (N, inner), or one number
// log_probs     (N, C, inner)
// total_weight  one number
// partial       (gridDim.x, 2): sums of each block, where there is more than one
// input         (N, C, inner)
// target        (N, inner)
// weight        (C,) or null
//
// 1. a team makes the log-softmax of its row and, with label smoothing, the sum of -weight * log_probs over the classes,
// 2. its first lane makes the term (1 - s) * -weight[target] * log_probs[target] + each * that sum (each = s / C),
// 3. the block sums up terms and weights.
template <class T>
__device__ __forceinline__ void cross_entropy_kernel(T* loss, T* log_probs, T* total_weight, f64* partial, const T* input,
                                                     const void* target, int narrow, const T* weight, i64 ignore_index,
                                                     int reduction, f64 smoothing, f64 each, int lanes, int columns, int C,
                                                     int inner, int rows) {
    __shared__ Peak<T> shared_peaks[256];
    f64* shared = (f64*)shared_peaks;
    const Team team = team_of(lanes, columns);
    f64 terms = 0, weights = 0;
    for (int first = blockIdx.x * team.teams; first < rows; first += gridDim.x * team.teams) {
        const int row = first + team.team, last = row < rows ? C : 0;
        const unsigned n = row / inner;
        const i64 at = (i64)n * C * inner + (row - n * inner);
        const T* x = input + at;
        Peak<T> peak = no_peak<T>();
        for (int c = team.lane; c < last; c += lanes) peak = with_number(peak, x[(i64)c * inner]);
        peak = combined(peak, team, shared_peaks, Higher());
        const T log_of_sum = log_sum(peak);
        f64 smooth = 0;
        for (int c = team.lane; c < last; c += lanes) {
            const T log_prob = x[(i64)c * inner] - peak.max - log_of_sum;
            log_probs[at + (i64)c * inner] = log_prob;
            if (smoothing > 0) smooth -= f64(log_prob) * (weight ? f64(weight[c]) : 1.0);
        }
        if (smoothing > 0) smooth = combined(smooth, team, shared, Plus());
        if (row >= rows || team.lane != 0) continue;
        const i64 t = target_of(target, narrow, row);
        f64 term = 0;
        if (t != ignore_index) {
            const f64 w = weight_of(weight, t, C);
            weights += w;
            term = w == w && t >= 0 && t < C ? -f64(x[t * inner] - peak.max - log_of_sum) * w : w;
            term = (1 - smoothing) * term + each * smooth;
        }
        terms += term;
        if (reduction == NONE) loss[row] = T(term);
    }
    __syncthreads();
    keep_sums(loss, total_weight, partial, terms, weights, reduction, shared);
}

// loss, total_weight, partial, target, weight  as above
// input                                        (N, C, inner), log-probabilities
template <class T>
__device__ __forceinline__ void nll_loss_kernel(T* loss, T* total_weight, f64* partial, const T* input, const void* target,
                                                int narrow, const T* weight, i64 ignore_index, int reduction, int C,
                                                int inner, int rows) {
    __shared__ f64 shared[256];
    f64 terms = 0, weights = 0;
    FOR_EACH(row, rows) {
        const i64 t = target_of(target, narrow, row);
        f64 term = 0;
        if (t != ignore_index) {
            const unsigned n = row / inner;
            const f64 w = weight_of(weight, t, C);
            weights += w;
            term = t >= 0 && t < C ? -f64(input[((i64)n * C + t) * inner + (row - n * inner)]) * w : w;
        }
        terms += term;
        if (reduction == NONE) loss[row] = T(term);
    }
    keep_sums(loss, total_weight, partial, terms, weights, reduction, shared);
}

// loss, total_weight  one number each; loss is left alone where nothing is reduced
// partial             (blocks, 2)
template <class T>
__device__ __forceinline__ void finish_kernel(T* loss, T* total_weight, const f64* partial, int reduction, int blocks) {
    __shared__ f64 shared[256];
    f64 terms = 0, weights = 0;
    FOR_EACH(i, blocks) {
        terms += partial[2 * i];
        weights += partial[2 * i + 1];
    }
    keep_sums(loss, total_weight, (f64*)nullptr, terms, weights, reduction, shared);
}

// grad_input    (N, C, inner)
// grad_output   (N, inner), or one number
// log_probs     (N, C, inner)
// total_weight  one number
// target        (N, inner)
// weight        (C,) or null
//
// With respect to log_probs[c] the gradient is -(hit at c = target) - even * weight[c]; the log-softmax adds
// exp(log_probs[c]) * sum of (hit + even * weight) over the classes.
template <class T>
__device__ __forceinline__ void cross_entropy_backward_kernel(T* grad_input, const T* grad_output, const T* log_probs,
                                                              const T* total_weight, const void* target, int narrow,
                                                              const T* weight, i64 ignore_index, int reduction,
                                                              f64 smoothing, f64 each, int lanes, int columns, int C, int inner,
                                                              int rows) {
    __shared__ f64 shared[256], factor;
    if (threadIdx.x == 0) factor = reduction == MEAN ? 1 / f64(*total_weight) : 1;
    __syncthreads();
    const Team team = team_of(lanes, columns);
    f64 weight_sum = C;
    if (weight && smoothing > 0) {
        weight_sum = 0;
        for (int c = threadIdx.x; c < C; c += blockDim.x) weight_sum += weight[c];
        weight_sum = combined(weight_sum, team_of(blockDim.x, 0), shared, Plus());
    }
    for (int row = blockIdx.x * team.teams + team.team; row < rows; row += gridDim.x * team.teams) {
        const unsigned n = row / inner;
        const i64 at = (i64)n * C * inner + (row - n * inner), t = target_of(target, narrow, row);
        f64 hit = 0, even = 0;
        if (t != ignore_index) {
            const f64 scale = f64(grad_output[reduction == NONE ? row : 0]) * factor;
            hit = (1 - smoothing) * scale * weight_of(weight, t, C);
            even = each * scale;
        }
        const T pull = T(hit + even * weight_sum), share = T(even), at_target = T(hit);
        for (int c = team.lane; c < C; c += lanes) {
            const i64 i = at + (i64)c * inner;
            T grad = exp(log_probs[i]) * pull;
            if (smoothing > 0) grad -= weight ? share * weight[c] : share;
            grad_input[i] = c == t ? grad - at_target : grad;
        }
    }
}

// grad_input                         (N, C, inner)
// grad_output, total_weight, target, weight  as above
template <class T>
__device__ __forceinline__ void nll_loss_backward_kernel(T* grad_input, const T* grad_output, const T* total_weight,
                                                         const void* target, int narrow, const T* weight,
                                                         i64 ignore_index, int reduction, int lanes, int columns, int C,
                                                         int inner, int rows) {
    const Team team = team_of(lanes, columns);
    const f64 factor = reduction == MEAN ? 1 / f64(*total_weight) : 1;
    for (int row = blockIdx.x * team.teams + team.team; row < rows; row += gridDim.x * team.teams) {
        const unsigned n = row / inner;
        const i64 at = (i64)n * C * inner + (row - n * inner), t = target_of(target, narrow, row);
        f64 hit = 0;
        if (t != ignore_index) hit = -weight_of(weight, t, C) * (f64(grad_output[reduction == NONE ? row : 0]) * factor);
        const T elsewhere = t != ignore_index && (t < 0 || t >= C) ? T(NAN) : T(0);
        for (int c = team.lane; c < C; c += lanes) grad_input[at + (i64)c * inner] = c == t ? T(hit) : elsewhere;
    }
}

#define KERNELS(T)                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256, 4) /* without the 4 nvcc spills registers, on sm_80 */          \
    cross_entropy_##T(T* loss, T* log_probs, T* total_weight, f64* partial, const T* input, const void* target,     \
                      int narrow, const T* weight, i64 ignore_index, int reduction, f64 smoothing, f64 each, int lanes,       \
                      int columns, int C, int inner, int rows) {                                                    \
        cross_entropy_kernel<T>(loss, log_probs, total_weight, partial, input, target, narrow, weight,              \
                                ignore_index, reduction, smoothing, each, lanes, columns, C, inner, rows);                \
    }                                                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                               \
    nll_loss_##T(T* loss, T* total_weight, f64* partial, const T* input, const void* target, int narrow,            \
                 const T* weight, i64 ignore_index, int reduction, int C, int inner, int rows) {                    \
        nll_loss_kernel<T>(loss, total_weight, partial, input, target, narrow, weight, ignore_index, reduction, C,  \
                           inner, rows);                                                                            \
    }                                                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                               \
    loss_finish_##T(T* loss, T* total_weight, const f64* partial, int reduction, int blocks) {                      \
        finish_kernel<T>(loss, total_weight, partial, reduction, blocks);                                           \
    }                                                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                               \
    cross_entropy_backward_##T(T* grad_input, const T* grad_output, const T* log_probs, const T* total_weight,      \
                               const void* target, int narrow, const T* weight, i64 ignore_index, int reduction,    \
                               f64 smoothing, f64 each, int lanes, int columns, int C, int inner, int rows) {                 \
        cross_entropy_backward_kernel<T>(grad_input, grad_output, log_probs, total_weight, target, narrow, weight,  \
                                         ignore_index, reduction, smoothing, each, lanes, columns, C, inner, rows);       \
    }                                                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                               \
    nll_loss_backward_##T(T* grad_input, const T* grad_output, const T* total_weight, const void* target,           \
                          int narrow, const T* weight, i64 ignore_index, int reduction, int lanes, int columns,     \
                          int C, int inner, int rows) {                                                             \
        nll_loss_backward_kernel<T>(grad_input, grad_output, total_weight, target, narrow, weight, ignore_index,    \
                                    reduction, lanes, columns, C, inner, rows);                                     \
    }
FOR_FLOATS(KERNELS)
