// Convolution with one input channel per group, and its gradients: every channel is filtered by itself.
//
// There is nothing that a matrix product could share, and few products for each number that is read: these kernels live from
// the memory's bandwidth.  Neighbouring threads have neighbouring pixels, so that reads and writes of a warp lie side by side,
// and what several taps read again comes from the first-level cache.
//
// input (N, C, H, W), weight (OC, 1, KH, KW) with OC a multiple of C, output (N, OC, OH, OW)
//
// minidl-uses: conv2d.cuh

// output, input, weight, bias (OC) or null.  A thread computes ROWS pixels below each other: it reads every tap once for them.
template <class T>
__device__ __forceinline__ void depthwise_forward(T* output, const T* input, const T* weight, const T* bias, const Conv2d& g,
                                                  int relu, int count) {
    enum { ROWS = 4 };
    const int strips = (g.OH + ROWS - 1) / ROWS, multiplier = g.OC / g.C, kernel = g.KH * g.KW;
    FOR_EACH(i, count) {
        const int above = i / g.OW, ow = i - above * g.OW, plane = above / strips, oh = (above - plane * strips) * ROWS;
        const int n = plane / g.OC, oc = plane - n * g.OC;
        const T* image = input + (n * g.C + oc / multiplier) * (g.H * g.W);
        const T* taps = weight + oc * kernel;
        const int h0 = oh * g.stride_h - g.pad_top, w0 = ow * g.stride_w - g.pad_left;
        T sum[ROWS];
#pragma unroll
        for (int row = 0; row < ROWS; ++row) sum[row] = bias ? bias[oc] : T(0);
        for (int kh = 0; kh < g.KH; ++kh)
            for (int kw = 0; kw < g.KW; ++kw) {
                const T tap = taps[kh * g.KW + kw];
                const int w = w0 + kw * g.dilation_w;
                if ((unsigned)w >= (unsigned)g.W) continue;
#pragma unroll
                for (int row = 0; row < ROWS; ++row) {
                    const int h = h0 + row * g.stride_h + kh * g.dilation_h;
                    if ((unsigned)h < (unsigned)g.H) sum[row] += tap * image[h * g.W + w];
                }
            }
#pragma unroll
        for (int row = 0; row < ROWS; ++row)
            if (oh + row < g.OH)
                output[(plane * g.OH + oh + row) * g.OW + ow] = relu && sum[row] <= T(0) ? T(0) : sum[row];
    }
}

// grad_input, grad_output, weight.  A thread computes one pixel, from the output pixels that it was a part of.
template <class T>
__device__ __forceinline__ void depthwise_backward_input(T* grad_input, const T* grad_output, const T* weight, const Conv2d& g,
                                                         int count) {
    const int multiplier = g.OC / g.C, kernel = g.KH * g.KW, pixels = g.OH * g.OW;
    FOR_EACH(i, count) {
        const int above = i / g.W, w = i - above * g.W, plane = above / g.H, h = above - plane * g.H;
        const int n = plane / g.C, first_oc = (plane - n * g.C) * multiplier;
        const T* grads = grad_output + (n * g.OC + first_oc) * pixels;
        const T* taps = weight + first_oc * kernel;
        T sum = T(0);
        for (int kh = 0; kh < g.KH; ++kh) {
            const int from_h = h + g.pad_top - kh * g.dilation_h, oh = from_h / g.stride_h;
            if (from_h < 0 || oh >= g.OH || oh * g.stride_h != from_h) continue;
            for (int kw = 0; kw < g.KW; ++kw) {
                const int from_w = w + g.pad_left - kw * g.dilation_w, ow = from_w / g.stride_w;
                if (from_w < 0 || ow >= g.OW || ow * g.stride_w != from_w) continue;
                for (int m = 0; m < multiplier; ++m)
                    sum += taps[m * kernel + kh * g.KW + kw] * grads[m * pixels + oh * g.OW + ow];
            }
        }
        grad_input[i] = sum;
    }
}

// grad_weight (splits, OC, KH, KW), grad_output, input.  A block has one channel and every splits-th image; its threads share
// the pixels, and each adds up TAPS taps at a time; then the threads' sums are added in their order.
template <class T>
__device__ __forceinline__ void depthwise_backward_weight(T* grad_weight, const T* grad_output, const T* input,
                                                          const Conv2d& g) {
    enum { TAPS = 9, WARPS = 8 };
    __shared__ T sums[WARPS][TAPS];
    const int oc = blockIdx.x % g.OC, split = blockIdx.x / g.OC, splits = gridDim.x / g.OC;
    const int c = oc / (g.OC / g.C), kernel = g.KH * g.KW, pixels = g.OH * g.OW;
    for (int first = 0; first < kernel; first += TAPS) {
        T sum[TAPS] = {};
        for (int n = split; n < g.N; n += splits) {
            const T* grads = grad_output + (n * g.OC + oc) * pixels;
            const T* image = input + (n * g.C + c) * (g.H * g.W);
            for (int i = threadIdx.x; i < pixels; i += 32 * WARPS) {
                const int oh = i / g.OW, ow = i - oh * g.OW;
                const int h0 = oh * g.stride_h - g.pad_top, w0 = ow * g.stride_w - g.pad_left;
                const T grad = grads[i];
                int kh = first / g.KW, kw = first - kh * g.KW;
#pragma unroll
                for (int tap = 0; tap < TAPS; ++tap) {
                    const int h = h0 + kh * g.dilation_h, w = w0 + kw * g.dilation_w;
                    if (kh < g.KH && (unsigned)h < (unsigned)g.H && (unsigned)w < (unsigned)g.W)
                        sum[tap] += grad * image[h * g.W + w];
                    if (++kw == g.KW) kw = 0, ++kh;
                }
            }
        }
#pragma unroll
        for (int tap = 0; tap < TAPS; ++tap) {
            const T of_warp = warp_sum(sum[tap]);
            if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32][tap] = of_warp;
        }
        __syncthreads();
        if (threadIdx.x < TAPS && first + threadIdx.x < kernel) {
            T whole = T(0);
            for (int warp = 0; warp < WARPS; ++warp) whole += sums[warp][threadIdx.x];
            grad_weight[(split * g.OC + oc) * kernel + first + threadIdx.x] = whole;
        }
        __syncthreads();
    }
}

#define KERNELS(T)                                                                                                     \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
    conv2d_depthwise_forward_##T(T* output, const T* input, const T* weight, const T* bias, Conv2d g, int relu,        \
                                 int count) {                                                                          \
        depthwise_forward<T>(output, input, weight, bias, g, relu, count);                                             \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
    conv2d_depthwise_backward_input_##T(T* grad_input, const T* grad_output, const T* weight, Conv2d g, int count) {   \
        depthwise_backward_input<T>(grad_input, grad_output, weight, g, count);                                        \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
    conv2d_depthwise_backward_weight_##T(T* grad_weight, const T* grad_output, const T* input, Conv2d g) {             \
        depthwise_backward_weight<T>(grad_weight, grad_output, input, g);                                              \
    }
FOR_FLOATS(KERNELS)
