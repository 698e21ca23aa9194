// Losses of differences: squared (mse_loss) and absolute (l1_loss), and their gradients.
//
// Sums are made in float64 and in a fixed order: by one block if there are few numbers, else by many, whose sums
// `error_loss_finish` adds up.

// loss           (count,), or one number if `reduced`
// partial        (gridDim.x,): the sum of each block, where there is more than one
// input, target  (count,)
template <class T>
__device__ __forceinline__ void error_loss_kernel(T* loss, f64* partial, const T* input, const T* target, int squared,
                                                  int reduced, f64 factor, int count) {
    __shared__ f64 shared[256];
    f64 total = 0;
    FOR_EACH(i, count) {
        const T difference = input[i] - target[i];
        const T term = squared ? difference * difference : fabs(difference);
        if (!reduced) loss[i] = term;
        total += term;
    }
    if (!reduced) return;
    total = combined(total, team_of(blockDim.x, 0), shared, Plus());
    if (threadIdx.x != 0) return;
    if (gridDim.x > 1)
        partial[blockIdx.x] = total;
    else
        *loss = T(total * factor);
}

// loss     one number: factor times the sum of partial (blocks,)
template <class T>
__device__ __forceinline__ void finish_kernel(T* loss, const f64* partial, f64 factor, int blocks) {
    __shared__ f64 shared[256];
    f64 total = 0;
    FOR_EACH(i, blocks) total += partial[i];
    total = combined(total, team_of(blockDim.x, 0), shared, Plus());
    if (threadIdx.x == 0) *loss = T(total * factor);
}

// grad_input     (count,)
// grad_output    (count,), or one number if `reduced`
// input, target  (count,)
//
// factor * difference * grad_output, or factor * sign * grad_output, where NaN has the sign 0.
template <class T>
__device__ __forceinline__ void backward_kernel(T* grad_input, const T* grad_output, const T* input, const T* target,
                                                int squared, int reduced, T factor, int count) {
    FOR_EACH(i, count) {
        const T difference = input[i] - target[i], grad = grad_output[reduced ? 0 : i];
        grad_input[i] = squared ? factor * difference * grad
                                : T((difference > T(0)) - (difference < T(0))) * (factor * grad);
    }
}

#define KERNELS(T)                                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    error_loss_##T(T* loss, f64* partial, const T* input, const T* target, int squared, int reduced, f64 factor, \
                   int count) {                                                                                  \
        error_loss_kernel<T>(loss, partial, input, target, squared, reduced, factor, count);                     \
    }                                                                                                            \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    error_loss_finish_##T(T* loss, const f64* partial, f64 factor, int blocks) {                                 \
        finish_kernel<T>(loss, partial, factor, blocks);                                                         \
    }                                                                                                            \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    error_loss_backward_##T(T* grad_input, const T* grad_output, const T* input, const T* target, int squared,   \
                            int reduced, T factor, int count) {                                                  \
        backward_kernel<T>(grad_input, grad_output, input, target, squared, reduced, factor, count);             \
    }
FOR_FLOATS(KERNELS)
