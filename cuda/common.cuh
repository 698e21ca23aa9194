// What every file of kernels begins with: it is put in front of their text (never included: an include would make the
// compiler's preprocessor run at every start of a process to see whether the cache still holds).
//
// Names: sizes N C H W, OC OH OW, KH KW; the same letters small as loop variables.  Arguments: results first, then saved
// values, inputs, geometry.  A kernel's name ends in its type of number: f32 f64 u8 i8 i16 i32 i64 b8.

typedef unsigned char u8;
typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;
typedef float f32;
typedef double f64;
typedef bool b8;

// Every kernel that an operation calls is named by this macro, once for each type: X(name, type).
#define FOR_FLOATS(X) X(f32) X(f64)
#define FOR_INTEGERS(X) X(u8) X(i8) X(i16) X(i32) X(i64)
#define FOR_NUMBERS(X) FOR_FLOATS(X) FOR_INTEGERS(X)
#define FOR_ALL(X) FOR_NUMBERS(X) X(b8)

// ---- strided arrays: minidl/_ext/device_array.pyx makes the Layout ----------------------------------------------

enum { MOST_DIMS = 8, MOST_OPERANDS = 4 };

// size (ndim), stride (operand, ndim) in numbers; dimension ndim - 1 is the innermost
struct Layout {
    int ndim;
    int size[MOST_DIMS];
    i64 stride[MOST_OPERANDS][MOST_DIMS];
};

// Where number i of the shape lies in each of OPERANDS arrays.
template <int OPERANDS>
__device__ __forceinline__ void place(const Layout& layout, unsigned i, i64 (&offset)[OPERANDS]) {
#pragma unroll
    for (int operand = 0; operand < OPERANDS; ++operand) offset[operand] = 0;
#pragma unroll
    for (int dim = MOST_DIMS - 1; dim >= 0; --dim) {
        if (dim >= layout.ndim) continue;
        const unsigned size = layout.size[dim], outer = i / size, index = i - outer * size;
        i = outer;
#pragma unroll
        for (int operand = 0; operand < OPERANDS; ++operand) offset[operand] += index * layout.stride[operand][dim];
    }
}

// Each thread takes the numbers i, i + threads of the grid, ...
#define FOR_EACH(i, count) \
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (unsigned)(count); i += gridDim.x * blockDim.x)

// ---- sums and maxima over a warp, in a fixed order -----------------------------------------------------------------

template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
    return value;
}

template <class T>
__device__ __forceinline__ T warp_max(T value) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        const T other = __shfl_xor_sync(0xffffffffu, value, lanes);
        value = other > value ? other : value;
    }
    return value;
}

// ---- products of tiles in shared memory: gemm.cu and conv2d.cu ----------------------------------------------------

// Number i of those of a tile's rows (or columns) that thread t of SHARING owns: V neighbours, then V others, ...
template <int SHARING, int V>
__device__ __forceinline__ int owned(int i, int t) {
    return i / V * (SHARING * V) + t * V + i % V;
}

// sum (TM, TN) += a_tile (BK, rows)^T @ b_tile (BK, columns): the numbers that thread (ty, tx) owns
template <class T, int A_LENGTH, int B_LENGTH, int BK, int TM, int TN, int ROWS, int COLUMNS>
__device__ __forceinline__ void multiply(T (&sum)[TM][TN], const T (*a_tile)[A_LENGTH], const T (*b_tile)[B_LENGTH], int ty,
                                         int tx) {
    enum { V = 16 / sizeof(T) };
#pragma unroll 2    // all of it at once takes more registers than two blocks of 256 threads have for 8 x 8 sums
    for (int k = 0; k < BK; ++k) {
        T a[TM], b[TN];
#pragma unroll
        for (int i = 0; i < TM; ++i) a[i] = a_tile[k][owned<ROWS, V>(i, ty)];
#pragma unroll
        for (int j = 0; j < TN; ++j) b[j] = b_tile[k][owned<COLUMNS, V>(j, tx)];
#pragma unroll
        for (int i = 0; i < TM; ++i)
#pragma unroll
            for (int j = 0; j < TN; ++j) sum[i][j] += a[i] * b[j];
    }
}
