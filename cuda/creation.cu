// New arrays from nothing but numbers: ranges, identity; and the triangles and one-hot rows of others.

// output (count): start + i * step, in whole numbers, or in doubles where `whole` is 0
// output (count): the same from the nearer end, so that both ends are met exactly
#define RANGE_KERNELS(T)                                                                                         \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    arange_##T(T* output, i64 start, i64 step, f64 real_start, f64 real_step, int whole, int count) {            \
        FOR_EACH(i, count) {                                                                                     \
            output[i] = whole ? converted<T>(start + i * step) : converted<T>(real_start + i * real_step);       \
        }                                                                                                        \
    }                                                                                                            \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    linspace_##T(T* output, f64 start, f64 end, f64 step, int count) {                                           \
        FOR_EACH(i, count) {                                                                                     \
            const int back = count - 1 - i;                                                                      \
            output[i] = converted<T>(i < count / 2 ? start + step * i : end - step * back);                      \
        }                                                                                                        \
    }

// output (n, m): ones where the column is the row
#define EYE_KERNEL(T)                                                                                            \
    extern "C" __global__ void __launch_bounds__(256) eye_##T(T* output, int m, int count) {                     \
        FOR_EACH(i, count) { output[i] = T(i / m == i % m); }                                                    \
    }
FOR_ALL(RANGE_KERNELS)
FOR_ALL(EYE_KERNEL)

// output, x (..., rows, columns): x up to the diagonal (upper: from the diagonal on), zeros elsewhere
#define TRIANGLE_KERNEL(T)                                                                                       \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    triangle_##T(T* output, const T* x, int rows, int columns, int diagonal, int upper, int count) {             \
        FOR_EACH(i, count) {                                                                                     \
            const unsigned line = i / columns, column = i - line * columns, row = line % rows;                   \
            const int beyond = (int)column - (int)row - diagonal;                                                \
            output[i] = (upper ? beyond >= 0 : beyond <= 0) ? x[i] : T(0);                                       \
        }                                                                                                        \
    }
FOR_BITS(TRIANGLE_KERNEL)

// output (..., classes), index (...): one where the column is the index
extern "C" __global__ void __launch_bounds__(256) one_hot_i64(i64* output, const i64* index, int classes, int count) {
    FOR_EACH(i, count) { output[i] = index[i / classes] == i % classes; }
}
