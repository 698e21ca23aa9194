// Numbers brought to their places: fills, copies, casts, choices by a condition.  What only moves numbers is written for
// their size, not for their type: u8, u16, u32, u64.

// 16 bytes of one number again and again
struct Pattern {
    u64 half[2];
};

// output (nbytes) without gaps, at a multiple of 16
extern "C" __global__ void __launch_bounds__(256) fill_bytes(u8* output, Pattern pattern, i64 nbytes) {
    const i64 first = blockIdx.x * (i64)blockDim.x + threadIdx.x, step = gridDim.x * (i64)blockDim.x;
    Lanes<u64, 2> value;
    value.lane[0] = pattern.half[0], value.lane[1] = pattern.half[1];
    for (i64 i = first; i < nbytes / 16; i += step) reinterpret_cast<Lanes<u64, 2>*>(output)[i] = value;
    const i64 rest = nbytes / 16 * 16 + first;
    if (rest < nbytes) output[rest] = u8((first < 8 ? pattern.half[0] : pattern.half[1]) >> first % 8 * 8);
}

// output, x (nbytes) without gaps, both at multiples of 16
extern "C" __global__ void __launch_bounds__(256) copy_bytes(u8* output, const u8* x, i64 nbytes) {
    const i64 first = blockIdx.x * (i64)blockDim.x + threadIdx.x, step = gridDim.x * (i64)blockDim.x;
    for (i64 i = first; i < nbytes / 16; i += step) {
        reinterpret_cast<Lanes<u64, 2>*>(output)[i] = reinterpret_cast<const Lanes<u64, 2>*>(x)[i];
    }
    const i64 rest = nbytes / 16 * 16 + first;
    if (rest < nbytes) output[rest] = x[rest];
}

// output         shown in the shape of the layout, operand 0
// x              operand 1
// condition      operand 1, and a, b operands 2 and 3; a null pointer stands for the number beside it
#define ASSIGN_KERNELS(T)                                                                                        \
    extern "C" __global__ void __launch_bounds__(256) fill_##T(T* output, u64 number, Layout layout, int count) { \
        FOR_EACH(i, count) {                                                                                     \
            i64 offset[1];                                                                                       \
            place(layout, i, offset);                                                                            \
            output[offset[0]] = T(number);                                                                       \
        }                                                                                                        \
    }                                                                                                            \
    extern "C" __global__ void __launch_bounds__(256) copy_##T(T* output, const T* x, Layout layout, int count) { \
        FOR_EACH(i, count) {                                                                                     \
            i64 offset[2];                                                                                       \
            place(layout, i, offset);                                                                            \
            output[offset[0]] = x[offset[1]];                                                                    \
        }                                                                                                        \
    }                                                                                                            \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    where_##T(T* output, const b8* condition, const T* a, const T* b, u64 a_number, u64 b_number, Layout layout,  \
              int count) {                                                                                       \
        FOR_EACH(i, count) {                                                                                     \
            i64 offset[4];                                                                                       \
            place(layout, i, offset);                                                                            \
            output[offset[0]] = condition[offset[1]] ? (a ? a[offset[2]] : T(a_number))                          \
                                                     : (b ? b[offset[3]] : T(b_number));                         \
        }                                                                                                        \
    }
FOR_BITS(ASSIGN_KERNELS)

// output (..., rows, columns) with `output_step` from row to row, x the same with `x_step` from column to column: in both
// the numbers of the other dimension are neighbours.  The rest is shown in the layout, operand 0 is output, 1 is x.
// A block takes a tile of 32 x 32 by way of shared memory, so that it reads and writes neighbours.
#define TRANSPOSE_KERNEL(T)                                                                                      \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    transpose_##T(T* output, const T* x, int rows, int columns, i64 output_step, i64 x_step, Layout layout,      \
                  int count) {                                                                                   \
        __shared__ T tile[32][33];                                                                               \
        const int across = (columns + 31) / 32, down = (rows + 31) / 32, low = threadIdx.x % 32;                 \
        for (int t = blockIdx.x; t < count; t += gridDim.x) {                                                    \
            const int outer = t / (across * down), inner = t - outer * across * down;                            \
            const int first_row = inner / across * 32, first_column = inner % across * 32;                       \
            i64 offset[2];                                                                                       \
            place(layout, outer, offset);                                                                        \
            for (int high = threadIdx.x / 32; high < 32; high += 8) {                                            \
                const int row = first_row + low, column = first_column + high;                                   \
                if (row < rows && column < columns) tile[high][low] = x[offset[1] + column * x_step + row];      \
            }                                                                                                    \
            __syncthreads();                                                                                     \
            for (int high = threadIdx.x / 32; high < 32; high += 8) {                                            \
                const int row = first_row + high, column = first_column + low;                                   \
                if (row < rows && column < columns) output[offset[0] + row * output_step + column] = tile[low][high]; \
            }                                                                                                    \
            __syncthreads();                                                                                     \
        }                                                                                                        \
    }
FOR_BITS(TRANSPOSE_KERNEL)

// ---- casts ------------------------------------------------------------------------------------------------------------

enum Type { F32, F64, U8, I8, I16, I32, I64, B8 };  // SUFFIX in minidl/_devices/cuda/arrays.py has the same order

template <class T>
__device__ __forceinline__ T cast_from(int type, const void* x, i64 i) {
    switch (type) {
        case F32: return converted<T>(static_cast<const f32*>(x)[i]);
        case F64: return converted<T>(static_cast<const f64*>(x)[i]);
        case U8: return converted<T>(static_cast<const u8*>(x)[i]);
        case I8: return converted<T>(static_cast<const i8*>(x)[i]);
        case I16: return converted<T>(static_cast<const i16*>(x)[i]);
        case I32: return converted<T>(static_cast<const i32*>(x)[i]);
        case I64: return converted<T>(static_cast<const i64*>(x)[i]);
        default: return converted<T>(static_cast<const b8*>(x)[i]);
    }
}

// output, x  shown in the shape of the layout: operand 0 is output, 1 is x, whose numbers are of `type`
#define CAST_KERNEL(T)                                                                                           \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    cast_##T(T* output, const void* x, int type, Layout layout, int count) {                                     \
        FOR_EACH(i, count) {                                                                                     \
            i64 offset[2];                                                                                       \
            place(layout, i, offset);                                                                            \
            output[offset[0]] = cast_from<T>(type, x, offset[1]);                                                \
        }                                                                                                        \
    }
FOR_ALL(CAST_KERNEL)
