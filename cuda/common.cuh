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
typedef unsigned short u16;  // u16 u32 u64: numbers that are only moved, of as many bits
typedef unsigned u32;
typedef unsigned long long u64;

// Every kernel that an operation calls is named by this macro, once for each type: X(name, type).
#define FOR_FLOATS(X) X(f32) X(f64)
#define FOR_INTEGERS(X) X(u8) X(i8) X(i16) X(i32) X(i64)
#define FOR_NUMBERS(X) FOR_FLOATS(X) FOR_INTEGERS(X)
#define FOR_ALL(X) FOR_NUMBERS(X) X(b8)
#define FOR_BITS(X) X(u8) X(u16) X(u32) X(u64)

template <class T>
constexpr bool IS_FLOAT = false;
template <>
constexpr bool IS_FLOAT<f32> = true;
template <>
constexpr bool IS_FLOAT<f64> = true;

// As what an operation is given a number for an array of this type.
template <class T>
struct NumberFor { typedef i64 type; };
template <>
struct NumberFor<f32> { typedef f32 type; };
template <>
struct NumberFor<f64> { typedef f64 type; };
template <class T>
using Number = typename NumberFor<T>::type;

// A number of another type.  Fractions go to integers by way of 64 bits, cut off; beyond those C++ promises nothing.
template <class T, class S>
__device__ __forceinline__ T converted(S x) {
    if constexpr (IS_FLOAT<T>) return T(x);
    else if constexpr (T(2) == T(1)) return x != S(0);
    else return T(i64(x));
}

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

// ---- arrays without gaps: 16 bytes at once ---------------------------------------------------------------------------

// N numbers that one thread reads or writes together
template <class T, int N>
struct alignas(sizeof(T) * N) Lanes {
    T lane[N];
};

// How many numbers of this type are 16 bytes.
template <class T>
constexpr int WIDTH = 16 / sizeof(T);

// Lanes number i of an array that begins at a multiple of their size.
template <int N, class T>
__device__ __forceinline__ Lanes<T, N> lanes(const T* x, unsigned i) {
    return reinterpret_cast<const Lanes<T, N>*>(x)[i];
}
template <class T, int N>
__device__ __forceinline__ void put_lanes(T* output, unsigned i, const Lanes<T, N>& value) {
    reinterpret_cast<Lanes<T, N>*>(output)[i] = value;
}

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
