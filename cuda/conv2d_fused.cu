// The way back through 2x2 max pooling, ReLU and a convolution of float32 between few channels, in one launch.
//
// minidl-uses: conv2d_direct.cuh
//
// The gradient is that of the pooled output with a code for each window: which of its pixels it belongs to, 4 for none.
// Each window is a single term of each sum, a quarter of those that the dense gradient would have.

struct Pooled {
    int C, H, W, OC, KH, KW, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int WH, WW, windows;  // rows and columns of windows, and those of all images
    int unused;           // structs begin at multiples of 8 bytes: minidl/_ext/device_array.pyx
};

enum { MOST_KW = 8 };  // columns of the kernel that a thread sums up

// The sum of `value` over the block, in a fixed order, for thread 0; `shared` holds one number per warp.
__device__ __forceinline__ f32 block_sum(f32 value, f32* shared) {
    value = warp_sum(value);
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
    __syncthreads();
    f32 sum = 0.0f;
    if (threadIdx.x == 0)
        for (int warp = 0; warp < (int)blockDim.x / 32; ++warp) sum += shared[warp];
    return sum;
}

// grad_weight (OC, C, KH, KW), grad_bias (OC); grad_output, codes (N, OC, WH, WW); input (N, C, H, W)
//
// A block makes row kh of the taps of one (oc, c).  Its threads share the windows of all images: a window's gradient times
// the pixels of the input that lie under the row when it stands on the window's pixel.
__device__ __forceinline__ void pooled_backward_weight(f32* grad_weight, f32* grad_bias, const f32* grad_output,
                                                       const u8* codes, const f32* input, const Pooled& g, int block) {
    __shared__ f32 shared[32];
    const int kh = block % g.KH, c = block / g.KH % g.C, oc = block / g.KH / g.C, plane = g.WH * g.WW;
    f32 sum[MOST_KW] = {}, bias = 0.0f;
#pragma unroll 2
    for (int window = threadIdx.x; window < g.windows; window += blockDim.x) {
        const int n = window / plane, place = window - n * plane, wh = place / g.WW, ww = place - wh * g.WW;
        const int at = (n * g.OC + oc) * plane + place, code = codes[at];
        if (code > 3) continue;
        const f32 grad = grad_output[at];
        bias += grad;
        const int h = (2 * wh + (code >> 1)) * g.stride_h - g.pad_top + kh * g.dilation_h;
        const int w = (2 * ww + (code & 1)) * g.stride_w - g.pad_left;
        if ((unsigned)h >= (unsigned)g.H) continue;
        const f32* row = input + ((n * g.C + c) * g.H + h) * g.W;
#pragma unroll
        for (int kw = 0; kw < MOST_KW; ++kw) {
            const int column = w + kw * g.dilation_w;
            if (kw < g.KW && (unsigned)column < (unsigned)g.W) sum[kw] += grad * row[column];
        }
    }
#pragma unroll
    for (int kw = 0; kw < MOST_KW; ++kw) {
        if (kw >= g.KW) break;
        const f32 whole = block_sum(sum[kw], shared);
        if (threadIdx.x == 0) grad_weight[((oc * g.C + c) * g.KH + kh) * g.KW + kw] = whole;
    }
    if (c != 0 || kh != 0) return;
    const f32 whole = block_sum(bias, shared);
    if (threadIdx.x == 0) grad_bias[oc] = whole;
}

extern "C" __global__ void __launch_bounds__(512)
conv2d_relu_max_pool2d_backward_weight_f32(f32* grad_weight, f32* grad_bias, const f32* grad_output, const u8* codes,
                                           const f32* input, Pooled g) {
    pooled_backward_weight(grad_weight, grad_bias, grad_output, codes, input, g, blockIdx.x);
}

// The same, and in the first `direct_blocks` blocks grad_input (N, C, H, W), by the kernel of cuda/conv2d_direct.cuh.
#define KERNEL(name, CHANNELS)                                                                                         \
    extern "C" __global__ void __launch_bounds__(128, 7)                                                               \
    name(f32* grad_input, f32* grad_weight, f32* grad_bias, const f32* grad_output, const u8* codes,                   \
         const f32* input, const f32* weight, Pooled g, Direct direct, int direct_blocks) {                            \
        if ((int)blockIdx.x < direct_blocks)                                                                           \
            conv2d_direct<CHANNELS, true>(grad_input, nullptr, grad_output, codes, weight, nullptr, direct,            \
                                          blockIdx.x);                                                                 \
        else                                                                                                           \
            pooled_backward_weight(grad_weight, grad_bias, grad_output, codes, input, g, blockIdx.x - direct_blocks);  \
    }
KERNEL(conv2d_relu_max_pool2d_backward_4_f32, 4)
KERNEL(conv2d_relu_max_pool2d_backward_8_f32, 8)
