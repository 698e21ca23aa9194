// Maximum and average pooling over windows and their gradients.
//
// Planes are images of one channel of one example, contiguous.  A gradient is gathered: each pixel looks for the windows
// that it lies in, in the order of the windows, so that no two threads write to the same place.

// The fields of Pool2dGeometry in minidl/geometry/layouts.py, in its order.
struct Pool2d {
    i64 N, C, H, W, KH, KW, OH, OW;
    i64 stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
};

// The taps of a window that lie inside the input: pixels first, first + dilation ... < end.
struct Span {
    int first, end;
};

__device__ __forceinline__ Span inside(int window, int stride, int pad, int kernel, int dilation, int size) {
    const int start = window * stride - pad;
    return {start < 0 ? start + (dilation - 1 - start) / dilation * dilation : start,
            min(start + (kernel - 1) * dilation + 1, size)};
}

// The windows first <= window < end whose span from first to last tap holds a pixel.
__device__ __forceinline__ Span windows_over(int pixel, int stride, int pad, int kernel, int dilation, int windows) {
    const int reach = (kernel - 1) * dilation, past = pixel + pad - reach;
    return {past <= 0 ? 0 : (past + stride - 1) / stride, min((pixel + pad) / stride + 1, windows)};
}

template <class T> __device__ __forceinline__ T smallest();
template <> __device__ __forceinline__ f32 smallest<f32>() { return -INFINITY; }
template <> __device__ __forceinline__ f64 smallest<f64>() { return -INFINITY; }
template <> __device__ __forceinline__ u8 smallest<u8>() { return 0; }
template <> __device__ __forceinline__ i8 smallest<i8>() { return -128; }
template <> __device__ __forceinline__ i16 smallest<i16>() { return -32768; }
template <> __device__ __forceinline__ i32 smallest<i32>() { return -2147483647 - 1; }
template <> __device__ __forceinline__ i64 smallest<i64>() { return -9223372036854775807ll - 1; }

// output, indices  (N, C, OH, OW)
// input            (N, C, H, W)
//
// Each thread finds the largest pixel of a window and its place h * W + w: the first of equal ones, the last NaN.
template <class T>
__device__ __forceinline__ void max_forward_kernel(T* output, int* indices, const T* input, const Pool2d& g, int count) {
    const int OH = g.OH, OW = g.OW, H = g.H, W = g.W, dilation_h = g.dilation_h, dilation_w = g.dilation_w;
    FOR_EACH(i, count) {
        const unsigned row = i / OW, plane = row / OH;
        const Span rows = inside(row - plane * OH, g.stride_h, g.pad_h, g.KH, dilation_h, H);
        const Span cols = inside(i - row * OW, g.stride_w, g.pad_w, g.KW, dilation_w, W);
        const T* image = input + (i64)plane * H * W;
        T best = smallest<T>();
        int place = rows.first < rows.end && cols.first < cols.end ? rows.first * W + cols.first : -1;
        for (int h = rows.first; h < rows.end; h += dilation_h)
            for (int w = cols.first; w < cols.end; w += dilation_w) {
                const T value = image[h * W + w];
                if (value > best || value != value) {
                    best = value;
                    place = h * W + w;
                }
            }
        output[i] = best;
        indices[i] = place;
    }
}

// The same for windows of 2x2 side by side.
template <class T>
__device__ __forceinline__ void max_forward_2x2_kernel(T* output, int* indices, const T* input, int H, int W, int OH,
                                                       int OW, int count) {
    FOR_EACH(i, count) {
        const unsigned row = i / OW, plane = row / OH;
        const int first = 2 * ((int)(row - plane * OH) * W + (int)(i - row * OW));
        const T* window = input + (i64)plane * H * W + first;
        T best = window[0];
        int place = 0;
#pragma unroll
        for (int k = 1; k < 4; ++k) {
            const int at = (k >> 1) * W + (k & 1);
            const T value = window[at];
            if (value > best || value != value) {
                best = value;
                place = at;
            }
        }
        output[i] = best;
        indices[i] = first + place;
    }
}

// grad_input            (N, C, H, W)
// grad_output, indices  (N, C, OH, OW)
//
// Each thread sums up, for a pixel, the gradients of the windows that it was the maximum of.
template <class T>
__device__ __forceinline__ void max_backward_kernel(T* grad_input, const T* grad_output, const int* indices,
                                                    const Pool2d& g, int count) {
    const int OH = g.OH, OW = g.OW, H = g.H, W = g.W;
    FOR_EACH(i, count) {
        const unsigned row = i / W, plane = row / H;
        const int h = row - plane * H, w = i - row * W, place = h * W + w;
        const Span rows = windows_over(h, g.stride_h, g.pad_h, g.KH, g.dilation_h, OH);
        const Span cols = windows_over(w, g.stride_w, g.pad_w, g.KW, g.dilation_w, OW);
        const i64 windows = (i64)plane * OH * OW;
        T total = T(0);
        for (int oh = rows.first; oh < rows.end; ++oh)
            for (int ow = cols.first; ow < cols.end; ++ow)
                if (indices[windows + oh * OW + ow] == place) total += grad_output[windows + oh * OW + ow];
        grad_input[i] = total;
    }
}

// The same for windows of 2x2 side by side: each pixel lies in one window at most.
template <class T>
__device__ __forceinline__ void max_backward_2x2_kernel(T* grad_input, const T* grad_output, const int* indices,
                                                        int H, int W, int OH, int OW, int count) {
    FOR_EACH(i, count) {
        const unsigned row = i / W, plane = row / H;
        const int h = row - plane * H, w = i - row * W, oh = h >> 1, ow = w >> 1;
        T grad = T(0);
        if (oh < OH && ow < OW) {
            const i64 window = ((i64)plane * OH + oh) * OW + ow;
            if (indices[window] == h * W + w) grad = grad_output[window];
        }
        grad_input[i] = grad;
    }
}

// output   (N, C, OH, OW)
// input    (N, C, H, W)
// indices  (N, C, OH, OW), places in a plane, -1 for none
//
// The adjoint of max_pool2d_backward: each thread takes the number at a window's place.
template <class T>
__device__ __forceinline__ void max_gather_kernel(T* output, const T* input, const int* indices, int pixels,
                                                  int windows, int count) {
    FOR_EACH(i, count) {
        const int place = indices[i];
        output[i] = (unsigned)place < (unsigned)pixels ? input[(i64)(i / windows) * pixels + place] : T(0);
    }
}

#define KERNELS(T)                                                                                                \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
    max_pool2d_forward_##T(T* output, int* indices, const T* input, Pool2d g, int count) {                        \
        max_forward_kernel<T>(output, indices, input, g, count);                                                  \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
    max_pool2d_forward_2x2_##T(T* output, int* indices, const T* input, int H, int W, int OH, int OW, int count) { \
        max_forward_2x2_kernel<T>(output, indices, input, H, W, OH, OW, count);                                   \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
    max_pool2d_backward_##T(T* grad_input, const T* grad_output, const int* indices, Pool2d g, int count) {       \
        max_backward_kernel<T>(grad_input, grad_output, indices, g, count);                                       \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
    max_pool2d_backward_2x2_##T(T* grad_input, const T* grad_output, const int* indices, int H, int W, int OH,    \
                                int OW, int count) {                                                              \
        max_backward_2x2_kernel<T>(grad_input, grad_output, indices, H, W, OH, OW, count);                        \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
    max_pool2d_gather_##T(T* output, const T* input, const int* indices, int pixels, int windows, int count) {    \
        max_gather_kernel<T>(output, input, indices, pixels, windows, count);                                     \
    }
FOR_NUMBERS(KERNELS)
#undef KERNELS

// ---- windows of 2x2 whose winner is a code: 0 1 in its upper row, 2 3 in its lower one ------------------------------

// grad_input          (N, C, H, W)
// grad_output, codes  (N, C, H / 2, W / 2); code 4 names no pixel if the gradient is `rectified`, else the first
template <class T>
__device__ __forceinline__ void max_expand_kernel(T* grad_input, const T* grad_output, const u8* codes, int rectified,
                                                  int H, int W, int count) {
    const int OH = H >> 1, OW = W >> 1;
    FOR_EACH(i, count) {
        const unsigned row = i / W, plane = row / H;
        const int h = row - plane * H, w = i - row * W, oh = h >> 1, ow = w >> 1;
        T grad = T(0);
        if (oh < OH && ow < OW) {
            const i64 window = ((i64)plane * OH + oh) * OW + ow;
            const int code = codes[window], named = code == 4 && !rectified ? 0 : code;
            if (named == 2 * (h & 1) + (w & 1)) grad = grad_output[window];
        }
        grad_input[i] = grad;
    }
}

// indices  (N, C, H / 2, W / 2)  the places h * W + w that the codes name; for 4 the window's first pixel
extern "C" __global__ void __launch_bounds__(256)
max_pool2d_indices(int* indices, const u8* codes, int H, int W, int count) {
    const int OH = H >> 1, OW = W >> 1;
    FOR_EACH(i, count) {
        const unsigned row = i / OW;
        const int oh = row % OH, ow = i - row * OW, code = codes[i] == 4 ? 0 : codes[i];
        indices[i] = (2 * oh + code / 2) * W + 2 * ow + code % 2;
    }
}

// ---- averages --------------------------------------------------------------------------------------------------------

// 1 / n from an estimate by Newton's rule: a division that rounds exactly would be a call, and spill registers.
template <class T>
__device__ __forceinline__ T reciprocal(int n) {
    T estimate = __fdividef(1.0f, f32(n));
    estimate *= 2 - T(n) * estimate;
    return estimate * (2 - T(n) * estimate);
}

// The pixels of a window along one side, counting `counted` of padding on each end of the input, but nothing beyond.
__device__ __forceinline__ int extent(int window, int stride, int pad, int kernel, int size, int counted) {
    const int start = window * stride - pad;
    return min(start + kernel, size + counted) - max(start, -counted);
}

// output  (N, C, OH, OW)
// input   (N, C, H, W)
//
// Each thread divides the sum of a window by `override` unless that is 0, else by the pixels that count.
template <class T>
__device__ __forceinline__ void avg_forward_kernel(T* output, const T* input, const Pool2d& g, int count_include_pad,
                                                   int override, int count) {
    const int OH = g.OH, OW = g.OW, H = g.H, W = g.W;
    FOR_EACH(i, count) {
        const unsigned row = i / OW, plane = row / OH;
        const int oh = row - plane * OH, ow = i - row * OW;
        const Span rows = inside(oh, g.stride_h, g.pad_h, g.KH, 1, H), cols = inside(ow, g.stride_w, g.pad_w, g.KW, 1, W);
        const T* image = input + (i64)plane * H * W;
        T total = T(0);
        for (int h = rows.first; h < rows.end; ++h)
            for (int w = cols.first; w < cols.end; ++w) total += image[h * W + w];
        const int rows_counted = extent(oh, g.stride_h, g.pad_h, g.KH, H, count_include_pad ? g.pad_h : 0);
        const int cols_counted = extent(ow, g.stride_w, g.pad_w, g.KW, W, count_include_pad ? g.pad_w : 0);
        output[i] = total / T(override ? override : rows_counted * cols_counted);
    }
}

// grad_input   (N, C, H, W)
// grad_output  (N, C, OH, OW)
//
// Each thread sums up, for a pixel, its windows' gradients over their divisors.
template <class T>
__device__ __forceinline__ void avg_backward_kernel(T* grad_input, const T* grad_output, const Pool2d& g,
                                                    int count_include_pad, int override, int count) {
    const int OH = g.OH, OW = g.OW, H = g.H, W = g.W;
    FOR_EACH(i, count) {
        const unsigned row = i / W, plane = row / H;
        const int h = row - plane * H, w = i - row * W;
        const Span rows = windows_over(h, g.stride_h, g.pad_h, g.KH, 1, OH);
        const Span cols = windows_over(w, g.stride_w, g.pad_w, g.KW, 1, OW);
        const T* grads = grad_output + (i64)plane * OH * OW;
        T total = T(0);
        for (int oh = rows.first; oh < rows.end; ++oh) {
            const int rows_counted = extent(oh, g.stride_h, g.pad_h, g.KH, H, count_include_pad ? g.pad_h : 0);
            for (int ow = cols.first; ow < cols.end; ++ow) {
                const int cols_counted = extent(ow, g.stride_w, g.pad_w, g.KW, W, count_include_pad ? g.pad_w : 0);
                total += grads[oh * OW + ow] * reciprocal<T>(override ? override : rows_counted * cols_counted);
            }
        }
        grad_input[i] = total;
    }
}

#define KERNELS(T)                                                                                                \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
    max_pool2d_expand_##T(T* grad_input, const T* grad_output, const u8* codes, int rectified, int H, int W,      \
                          int count) {                                                                            \
        max_expand_kernel<T>(grad_input, grad_output, codes, rectified, H, W, count);                             \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
    avg_pool2d_forward_##T(T* output, const T* input, Pool2d g, int count_include_pad, int override, int count) { \
        avg_forward_kernel<T>(output, input, g, count_include_pad, override, count);                              \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
    avg_pool2d_backward_##T(T* grad_input, const T* grad_output, Pool2d g, int count_include_pad, int override,   \
                            int count) {                                                                          \
        avg_backward_kernel<T>(grad_input, grad_output, g, count_include_pad, override, count);                   \
    }
FOR_FLOATS(KERNELS)
