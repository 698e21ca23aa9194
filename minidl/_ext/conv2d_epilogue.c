/* What follows a convolution while its result is still in the cache: relu, and relu with 2x2 max pooling; and the way
 * back from a pooled gradient.  Results have the bits of relu and max_pool2d one after the other: the first of equal
 * numbers wins, a NaN wins over numbers, and -0 stays what it is. */
#include "conv2d_direct.h"

/* the first n numbers if there are fewer than LANES, none if n is not positive */
INLINE lanes load_some(const float *from, ptrdiff_t n)
{
    return n >= LANES ? load(from) : n > 0 ? load_first(from, n) : (lanes){0};
}

INLINE void store_some(float *to, lanes value, ptrdiff_t n)
{
    if (n >= LANES)
        store(to, value);
    else if (n > 0)
        store_first(to, value, n);
}

/* numbers 0, 2, 4, ... and 1, 3, 5, ... of two vectors, and back */
INLINE lanes every_second(lanes a, lanes b, const int first)
{
    int_lanes place;
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        place[i] = 2 * i + first;
    return __builtin_shuffle(a, b, place);
}

INLINE lanes alternating(lanes even, lanes odd, const int first)
{
    int_lanes place;
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        place[i] = (first + i) / 2 + i % 2 * LANES;
    return __builtin_shuffle(even, odd, place);
}

static void relu(float *numbers, ptrdiff_t n)
{
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(numbers + i, relu_of(load(numbers + i)));
    if (i < n)
        store_first(numbers + i, relu_of(load_first(numbers + i, n - i)), n - i);
}

static void pool(float *out, uint8_t *codes, ptrdiff_t out_plane, const float *planes, ptrdiff_t plane,
                 ptrdiff_t channels, ptrdiff_t rows, ptrdiff_t cols)
{
    const ptrdiff_t windows = cols / 2;
    for (ptrdiff_t c = 0; c < channels; c++)
        for (ptrdiff_t y = 0; y < rows / 2; y++)
            for (ptrdiff_t i = 0; i < windows; i += LANES) {
                const float *top = planes + c * plane + 2 * y * cols + 2 * i, *bottom = top + cols;
                const ptrdiff_t left = windows - i, at = c * out_plane + y * windows + i;
                const lanes a = relu_of(load_some(top, 2 * left));
                const lanes b = relu_of(load_some(top + LANES, 2 * left - LANES));
                const lanes d = relu_of(load_some(bottom, 2 * left));
                const lanes e = relu_of(load_some(bottom + LANES, 2 * left - LANES));
                lanes best = every_second(a, b, 0);
                int_lanes code = {0};
                challenge(&best, &code, every_second(a, b, 1), 1);
                challenge(&best, &code, every_second(d, e, 0), 2);
                challenge(&best, &code, every_second(d, e, 1), 3);
                const int_lanes dead = best <= (lanes){0};
                code = (dead & ((int_lanes){0} + 4)) | (~dead & code);
                const byte_lanes bytes = __builtin_convertvector(code, byte_lanes);
                store_some(out + at, best, left);
                copy_bytes(codes + at, &bytes, least(left, LANES));
            }
}

static void unpool(float *planes, const float *grad, const uint8_t *codes, ptrdiff_t channels, ptrdiff_t H, ptrdiff_t W)
{
    const ptrdiff_t windows = W / 2;
    const uint8_t *end = codes + channels * (H / 2) * windows;
    for (ptrdiff_t c = 0; c < channels; c++, planes += H * W) {
        for (ptrdiff_t y = 0; y < H / 2; y++, grad += windows, codes += windows) {
            float *top = planes + 2 * y * W, *bottom = top + W;
            for (ptrdiff_t i = 0; i < windows; i += LANES) {
                const ptrdiff_t left = windows - i;
                const int_lanes g = (int_lanes)load_some(grad + i, left);
                byte_lanes bytes = {0};
                if (end - (codes + i) >= LANES) /* those behind the row meet lanes that are not stored */
                    memcpy(&bytes, codes + i, LANES);
                else
                    copy_bytes(&bytes, codes + i, left);
                const int_lanes code = __builtin_convertvector(bytes, int_lanes);
                const lanes a = (lanes)(g & (code == 0)), b = (lanes)(g & (code == 1));
                const lanes d = (lanes)(g & (code == 2)), e = (lanes)(g & (code == 3));
                store_some(top + 2 * i, alternating(a, b, 0), 2 * left);
                store_some(top + 2 * i + LANES, alternating(a, b, LANES), 2 * left - LANES);
                store_some(bottom + 2 * i, alternating(d, e, 0), 2 * left);
                store_some(bottom + 2 * i + LANES, alternating(d, e, LANES), 2 * left - LANES);
            }
            if (W % 2)
                top[W - 1] = bottom[W - 1] = 0;
        }
        if (H % 2)
            memset(planes + (H - 1) * W, 0, (size_t)W * sizeof(float));
    }
}

const struct conv2d_epilogue KERNELS_OF(conv2d_epilogue) = {relu, pool, unpool};
