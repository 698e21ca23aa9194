// Softmax and its logarithm over one dimension, and their gradients.
//
// Arrays are seen as (N, C, inner) around the dimension C.  Each of the N * inner rows has a team of threads
// (common.cuh), whose lanes take the numbers lane, lane + lanes, ... of the row.

// output  (N, C, inner)
// input   (N, C, inner)
//
// 1. the team finds the largest number and the sum of exponentials in one pass, 2. writes exp(x - max) / sum, or its
// logarithm x - max - log(sum).
template <class T>
__device__ __forceinline__ void forward_kernel(T* output, const T* input, int logarithm, int lanes, int columns, int C,
                                               int inner, int rows) {
    __shared__ Peak<T> shared[256];
    const Team team = team_of(lanes, columns);
    for (int first = blockIdx.x * team.teams; first < rows; first += gridDim.x * team.teams) {
        const int row = first + team.team, last = row < rows ? C : 0;
        const unsigned n = row / inner;
        const i64 at = (i64)n * C * inner + (row - n * inner);
        Peak<T> peak = no_peak<T>();
        for (int c = team.lane; c < last; c += lanes) peak = with_number(peak, input[at + (i64)c * inner]);
        peak = combined(peak, team, shared, Higher());
        const T log_of_sum = log_sum(peak), share = T(1 / peak.sum);
        if (logarithm)
            for (int c = team.lane; c < last; c += lanes)
                output[at + (i64)c * inner] = input[at + (i64)c * inner] - peak.max - log_of_sum;
        else
            for (int c = team.lane; c < last; c += lanes)
                output[at + (i64)c * inner] = exp(input[at + (i64)c * inner] - peak.max) * share +
                                              (peak.max - peak.max);
    }
}

// grad_input           (N, C, inner)
// grad_output, output  (N, C, inner)
//
// 1. the team sums up grad_output * output (softmax) or grad_output (its logarithm), 2. writes
// (grad_output - sum) * output or grad_output - exp(output) * sum.
template <class T>
__device__ __forceinline__ void backward_kernel(T* grad_input, const T* grad_output, const T* output, int logarithm,
                                                int lanes, int columns, int C, int inner, int rows) {
    __shared__ f64 shared[256];
    const Team team = team_of(lanes, columns);
    for (int first = blockIdx.x * team.teams; first < rows; first += gridDim.x * team.teams) {
        const int row = first + team.team, last = row < rows ? C : 0;
        const unsigned n = row / inner;
        const i64 at = (i64)n * C * inner + (row - n * inner);
        f64 total = 0;
        for (int c = team.lane; c < last; c += lanes) {
            const i64 i = at + (i64)c * inner;
            total += logarithm ? f64(grad_output[i]) : f64(grad_output[i]) * f64(output[i]);
        }
        const T sum = T(combined(total, team, shared, Plus()));
        for (int c = team.lane; c < last; c += lanes) {
            const i64 i = at + (i64)c * inner;
            grad_input[i] = logarithm ? grad_output[i] - exp(output[i]) * sum : (grad_output[i] - sum) * output[i];
        }
    }
}

#define KERNELS(T)                                                                                              \
    extern "C" __global__ void __launch_bounds__(256)                                                           \
    softmax_forward_##T(T* output, const T* input, int logarithm, int lanes, int columns, int C, int inner,     \
                        int rows) {                                                                             \
        forward_kernel<T>(output, input, logarithm, lanes, columns, C, inner, rows);                            \
    }                                                                                                           \
    extern "C" __global__ void __launch_bounds__(256)                                                           \
    softmax_backward_##T(T* grad_input, const T* grad_output, const T* output, int logarithm, int lanes,        \
                         int columns, int C, int inner, int rows) {                                             \
        backward_kernel<T>(grad_input, grad_output, output, logarithm, lanes, columns, C, inner, rows);         \
    }
FOR_FLOATS(KERNELS)
