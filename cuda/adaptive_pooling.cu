// Adaptive average pooling and its gradient: OH x OW windows that cover the plane, and overlap where OH does not divide H.
//
// Window o reaches from floor(o * size / windows) to ceil((o + 1) * size / windows).

__device__ __forceinline__ int window_start(int window, int size, int windows) { return (i64)window * size / windows; }

__device__ __forceinline__ int window_end(int window, int size, int windows) {
    return ((i64)(window + 1) * size + windows - 1) / windows;
}

// output  (N, C, OH, OW)
// input   (N, C, H, W)
//
// A window has a team of threads (common.cuh), as many as its size is worth: one for windows of a few pixels.
template <class T>
__device__ __forceinline__ void adaptive_forward_kernel(T* output, const T* input, int lanes, int H, int W, int OH, int OW,
                                                        int count) {
    __shared__ f64 shared[256];
    const Team team = team_of(lanes, 0);
    const unsigned i = blockIdx.x * team.teams + team.team;
    f64 total = 0;
    int pixels = 1;
    if (i < (unsigned)count) {
        const unsigned row = i / OW, plane = row / OH;
        const int oh = row - plane * OH, ow = i - row * OW;
        const int top = window_start(oh, H, OH), left = window_start(ow, W, OW);
        const int rows = window_end(oh, H, OH) - top, cols = window_end(ow, W, OW) - left;
        const T* image = input + ((i64)plane * H + top) * W + left;
        pixels = rows * cols;
        for (int pixel = team.lane; pixel < pixels; pixel += lanes) {
            const int h = pixel / cols;
            total += image[(i64)h * W + pixel - h * cols];
        }
    }
    total = combined(total, team, shared, Plus());
    if (i < (unsigned)count && team.lane == 0) output[i] = T(total / pixels);
}

// grad_input   (N, C, H, W)
// grad_output  (N, C, OH, OW)
//
// Each thread sums up, for a pixel, its windows' gradients over their sizes.
template <class T>
__device__ __forceinline__ void adaptive_backward_kernel(T* grad_input, const T* grad_output, int H, int W, int OH, int OW,
                                                         int count) {
    FOR_EACH(i, count) {
        const unsigned row = i / W, plane = row / H;
        const int h = row - plane * H, w = i - row * W;
        const int oh_end = window_end(h, OH, H), ow_end = window_end(w, OW, W);
        const T* grads = grad_output + (i64)plane * OH * OW;
        T total = T(0);
        for (int oh = window_start(h, OH, H); oh < oh_end; ++oh) {
            const int rows = window_end(oh, H, OH) - window_start(oh, H, OH);
            for (int ow = window_start(w, OW, W); ow < ow_end; ++ow)
                total += grads[oh * OW + ow] / T(rows * (window_end(ow, W, OW) - window_start(ow, W, OW)));
        }
        grad_input[i] = total;
    }
}

#define KERNELS(T)                                                                                                   \
    extern "C" __global__ void __launch_bounds__(256)                                                                \
    adaptive_avg_pool2d_forward_##T(T* output, const T* input, int lanes, int H, int W, int OH, int OW, int count) { \
        adaptive_forward_kernel<T>(output, input, lanes, H, W, OH, OW, count);                                       \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(256)                                                                \
    adaptive_avg_pool2d_backward_##T(T* grad_input, const T* grad_output, int H, int W, int OH, int OW, int count) { \
        adaptive_backward_kernel<T>(grad_input, grad_output, H, W, OH, OW, count);                                   \
    }
FOR_FLOATS(KERNELS)
