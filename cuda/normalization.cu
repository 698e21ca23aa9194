// Batch normalization over (N, C, ...), and dropout.
//
// A channel has a team of threads (common.cuh), which takes the `count` = N * inner numbers of it, split over gridDim.y
// blocks.  Statistics are made in float64: each split leaves its own mean and its own sum of squared deviations, and
// whoever needs those of the channel puts them together (Chan, Golub, LeVeque 1983), in one order.

// Where number r of channel c lies, for arrays (N, C, inner) without gaps: a Walk over the layout (N, inner) of channel 0.
__device__ __forceinline__ int numbers_of_split(int split, int splits, int count) {
    const int size = (int)(((i64)count + splits - 1) / splits);
    return max((i64)0, min((i64)count - (i64)size * split, (i64)size));
}

// means, deviations  (gridDim.y, C): of each split, the mean and the sum of (x - mean)**2
// input              (N, C, inner)
template <class T>
__device__ __forceinline__ void statistics_kernel(f64* means, f64* deviations, const T* input, int lanes, int columns,
                                                  const Layout& numbers, int C, int inner, int count) {
    __shared__ f64 shared[256];
    const Team team = team_of(lanes, columns);
    const int c = blockIdx.x * team.teams + team.team;
    const Share share(count);
    const int last = c < C ? share.last : share.first;
    const T* x = input + (i64)c * inner;
    f64 total = 0;
    Walk walk(numbers, share.first + team.lane, lanes);
    for (int r = share.first + team.lane; r < last; r += lanes, walk.go_on()) total += x[walk.at()];
    const f64 mean = combined(total, team, shared, Plus()) / max(share.last - share.first, 1);
    f64 squares = 0;
    Walk again(numbers, share.first + team.lane, lanes);
    for (int r = share.first + team.lane; r < last; r += lanes, again.go_on()) {
        const f64 deviation = x[again.at()] - mean;
        squares += deviation * deviation;
    }
    squares = combined(squares, team, shared, Plus());
    if (c >= C || team.lane != 0) return;
    means[(i64)blockIdx.y * C + c] = mean;
    deviations[(i64)blockIdx.y * C + c] = squares;
}

// output                     (N, C, inner)
// mean, rstd                 (C,)
// running_mean, running_var  (C,) or null; moved towards the batch's in training, read in evaluation
// means, deviations          (splits, C): what statistics_kernel left; null in evaluation
// input                      (N, C, inner)
// weight, bias               (C,) or null
//
// 1. the team puts the statistics of its channel together, 2. the first block of the channel keeps them, 3. each block
// normalizes its share: (x - mean) * rstd * weight + bias.
template <class T>
__device__ __forceinline__ void forward_kernel(T* output, T* means_kept, T* rstds_kept, T* running_mean, T* running_var,
                                               const f64* means, const f64* deviations, const T* input, const T* weight,
                                               const T* bias, f64 momentum, f64 eps, int training, int splits, int lanes,
                                               int columns, const Layout& numbers, int C, int inner, int count) {
    __shared__ f64 shared[256];
    const Team team = team_of(lanes, columns);
    const int c = blockIdx.x * team.teams + team.team;
    f64 mean = 0, var = 0;
    if (training) {
        const f64 share_of_one = 1.0 / max(count, 1);
        if (c < C)
            for (int s = team.lane; s < splits; s += lanes)
                mean += means[(i64)s * C + c] * (numbers_of_split(s, splits, count) * share_of_one);
        mean = combined(mean, team, shared, Plus());
        if (c < C)
            for (int s = team.lane; s < splits; s += lanes) {
                const f64 apart = means[(i64)s * C + c] - mean;
                var += deviations[(i64)s * C + c] + apart * apart * numbers_of_split(s, splits, count);
            }
        var = combined(var, team, shared, Plus()) * share_of_one;
    } else if (c < C) {
        mean = running_mean[c];
        var = running_var[c];
    }
    if (c >= C) return;
    const f64 rstd = 1 / sqrt(var + eps);
    if (blockIdx.y == 0 && team.lane == 0) {
        means_kept[c] = T(mean);
        rstds_kept[c] = T(rstd);
        if (training && count) {
            if (running_mean) running_mean[c] = T(momentum * mean + (1 - momentum) * running_mean[c]);
            if (running_var)
                running_var[c] = T(momentum * (var * ((f64)count / (count - 1))) + (1 - momentum) * running_var[c]);
        }
    }
    const f64 scale = weight ? rstd * weight[c] : rstd, shift = bias ? f64(bias[c]) : 0.0;
    const T* x = input + (i64)c * inner;
    T* y = output + (i64)c * inner;
    const Share share(count);
    Walk walk(numbers, share.first + team.lane, lanes);
    for (int r = share.first + team.lane; r < share.last; r += lanes, walk.go_on())
        y[walk.at()] = T((x[walk.at()] - mean) * scale + shift);
}

// sums         (2, gridDim.y, C): of each split, the sums of grad_output and of grad_output * normalized
// grad_output  (N, C, inner)
// input        (N, C, inner)
// mean, rstd   (C,)
template <class T>
__device__ __forceinline__ void backward_sums_kernel(f64* sums, const T* grad_output, const T* input, const T* mean,
                                                     const T* rstd, int lanes, int columns, const Layout& numbers, int C,
                                                     int inner, int count) {
    __shared__ f64 shared[256];
    const Team team = team_of(lanes, columns);
    const int c = blockIdx.x * team.teams + team.team;
    const Share share(count);
    f64 plain = 0, along = 0;
    if (c < C) {
        const T *g = grad_output + (i64)c * inner, *x = input + (i64)c * inner;
        const f64 centre = mean[c];
        Walk walk(numbers, share.first + team.lane, lanes);
        for (int r = share.first + team.lane; r < share.last; r += lanes, walk.go_on()) {
            const f64 grad = g[walk.at()];
            plain += grad;
            along += grad * (x[walk.at()] - centre);
        }
    }
    plain = combined(plain, team, shared, Plus());
    along = combined(along, team, shared, Plus());
    if (c >= C || team.lane != 0) return;
    sums[(i64)blockIdx.y * C + c] = plain;
    sums[((i64)gridDim.y + blockIdx.y) * C + c] = along * rstd[c];
}

// grad_input                        (N, C, inner)
// grad_weight, grad_bias            (C,)
// sums                              (2, splits, C): what backward_sums_kernel left
// grad_output, input, mean, rstd    as above
// weight                            (C,) or null
//
// grad_input = (grad_output - grad_bias / count - normalized * grad_weight / count) * rstd * weight in training,
// grad_output * rstd * weight in evaluation.
template <class T>
__device__ __forceinline__ void backward_kernel(T* grad_input, T* grad_weight, T* grad_bias, const f64* sums,
                                                const T* grad_output, const T* input, const T* weight, const T* mean,
                                                const T* rstd, int training, int splits, int lanes, int columns,
                                                const Layout& numbers, int C, int inner, int count) {
    __shared__ f64 shared[256];
    const Team team = team_of(lanes, columns);
    const int c = blockIdx.x * team.teams + team.team;
    f64 plain = 0, along = 0;
    if (c < C)
        for (int s = team.lane; s < splits; s += lanes) {
            plain += sums[(i64)s * C + c];
            along += sums[((i64)splits + s) * C + c];
        }
    plain = combined(plain, team, shared, Plus());
    along = combined(along, team, shared, Plus());
    if (c >= C) return;
    if (blockIdx.y == 0 && team.lane == 0) {
        grad_weight[c] = T(along);
        grad_bias[c] = T(plain);
    }
    const f64 centre = mean[c], deviation = rstd[c], scale = weight ? deviation * weight[c] : deviation;
    const f64 share_of_one = 1.0 / max(count, 1);
    const f64 level = training ? plain * share_of_one : 0, slope = training ? along * share_of_one * deviation : 0;
    const T *g = grad_output + (i64)c * inner, *x = input + (i64)c * inner;
    T* grad = grad_input + (i64)c * inner;
    const Share share(count);
    Walk walk(numbers, share.first + team.lane, lanes);
    for (int r = share.first + team.lane; r < share.last; r += lanes, walk.go_on())
        grad[walk.at()] = T((g[walk.at()] - level - (x[walk.at()] - centre) * slope) * scale);
}

// output  (count,)  input * mask * scale
// input   (count,)
// mask    (count,), 0 or 1
template <class T>
__device__ __forceinline__ void dropout_kernel(T* output, const T* input, const u8* mask, T scale, int count) {
    FOR_EACH(i, count) output[i] = input[i] * (T(mask[i]) * scale);
}

#define KERNELS(T)                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256)                                                               \
    batch_norm_statistics_##T(f64* means, f64* deviations, const T* input, int lanes, int columns, Layout numbers,  \
                              int C, int inner, int count) {                                                        \
        statistics_kernel<T>(means, deviations, input, lanes, columns, numbers, C, inner, count);                   \
    }                                                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                               \
    batch_norm_##T(T* output, T* mean, T* rstd, T* running_mean, T* running_var, const f64* means,                  \
                   const f64* deviations, const T* input, const T* weight, const T* bias, f64 momentum, f64 eps,    \
                   int training, int splits, int lanes, int columns, Layout numbers, int C, int inner, int count) { \
        forward_kernel<T>(output, mean, rstd, running_mean, running_var, means, deviations, input, weight, bias,    \
                          momentum, eps, training, splits, lanes, columns, numbers, C, inner, count);               \
    }                                                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                               \
    batch_norm_backward_sums_##T(f64* sums, const T* grad_output, const T* input, const T* mean, const T* rstd,     \
                                 int lanes, int columns, Layout numbers, int C, int inner, int count) {             \
        backward_sums_kernel<T>(sums, grad_output, input, mean, rstd, lanes, columns, numbers, C, inner, count);    \
    }                                                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                               \
    batch_norm_backward_##T(T* grad_input, T* grad_weight, T* grad_bias, const f64* sums, const T* grad_output,     \
                            const T* input, const T* weight, const T* mean, const T* rstd, int training,            \
                            int splits, int lanes, int columns, Layout numbers, int C, int inner, int count) {      \
        backward_kernel<T>(grad_input, grad_weight, grad_bias, sums, grad_output, input, weight, mean, rstd,        \
                           training, splits, lanes, columns, numbers, C, inner, count);                             \
    }                                                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                               \
    dropout_apply_##T(T* output, const T* input, const u8* mask, T scale, int count) {                              \
        dropout_kernel<T>(output, input, mask, scale, count);                                                       \
    }
FOR_FLOATS(KERNELS)
