// Elementwise operations that cost no more than reading and writing their numbers; pointwise_math.cu has the others.
//
// One kernel per type and number of arguments, and the operation is an argument of it: the branch is the same for all
// threads, and 50 operations of 8 types would otherwise take minutes to compile.  minidl/_devices/cuda/pointwise.py has
// the same names in the same order.  An argument that is a number, not an array, comes as a null pointer and a value.
//
// Each kernel comes twice.  The plain one is for arrays of one shape without gaps whose addresses are multiples of 16: a
// thread reads and writes 16 bytes at once.  The one called strided is for all others: a Layout says where they lie.
// Arithmetic on two arguments has a third one, in groups, for what broadcasts: rows of numbers with rows or single numbers.

enum Unary {
    NEG, ABS, SQUARE, RELU, SIGN, CLAMP, RECIPROCAL, FLOOR, CEIL, TRUNC, ROUND, SQRT, RSQRT, LEAKY_RELU, BITWISE_NOT
};
enum Test { ISNAN, ISINF, ISFINITE, LOGICAL_NOT };
enum Binary {
    ADD, SUB, MUL, MAXIMUM, MINIMUM, DIV, RELU_BACKWARD, TANH_BACKWARD, SIGMOID_BACKWARD, LEAKY_RELU_BACKWARD,
    BITWISE_AND, BITWISE_OR, BITWISE_XOR
};
enum Compare { EQ, NE, LT, LE, GT, GE, LOGICAL_AND, LOGICAL_OR, LOGICAL_XOR };

// ---- one number -----------------------------------------------------------------------------------------------------

// The larger and the smaller one; NaN where either is NaN.
template <class T>
__device__ __forceinline__ T larger(T a, T b) {
    return a > b || a != a ? a : b;
}
template <class T>
__device__ __forceinline__ T smaller(T a, T b) {
    return a < b || a != a ? a : b;
}

// Integers wrap around, which C++ promises for unsigned ones only.
template <class T>
__device__ __forceinline__ T sum(T a, T b) {
    if constexpr (IS_FLOAT<T>) return a + b;
    else return T((u64)a + (u64)b);
}
template <class T>
__device__ __forceinline__ T difference(T a, T b) {
    if constexpr (IS_FLOAT<T>) return a - b;
    else return T((u64)a - (u64)b);
}
template <class T>
__device__ __forceinline__ T product(T a, T b) {
    if constexpr (IS_FLOAT<T>) return a * b;
    else return T((u64)a * (u64)b);
}
template <class T>
__device__ __forceinline__ T opposite(T x) {
    if constexpr (IS_FLOAT<T>) return -x;
    else return T(0 - (u64)x);
}

template <class T>
__device__ __forceinline__ bool less(T a, T b) {
    return a < b;
}
template <class T>
__device__ __forceinline__ T magnitude(T x) {
    if constexpr (IS_FLOAT<T>) return fabs(x);
    else return less(x, T(0)) ? opposite(x) : x;
}

// ---- one argument, and two numbers p and q ----------------------------------------------------------------------------

#define LANES(expression)                               \
    _Pragma("unroll") for (int l = 0; l < N; ++l) {     \
        const T x = in.lane[l];                         \
        out.lane[l] = (expression);                     \
    }                                                   \
    return;

template <class T, int N>
__device__ __forceinline__ void unary(int op, T p, T q, Lanes<T, N>& out, const Lanes<T, N>& in) {
    switch (op) {
        case NEG: LANES(opposite(x))
        case ABS: LANES(magnitude(x))
        case SQUARE: LANES(product(x, x))
        case RELU: LANES(larger(x, T(0)))
        case SIGN: LANES(T(less(T(0), x) - less(x, T(0))))
        case CLAMP: LANES(smaller(larger(x, p), q))
    }
    if constexpr (IS_FLOAT<T>) {
        switch (op) {
            case RECIPROCAL: LANES(T(1) / x)
            case FLOOR: LANES(floor(x))
            case CEIL: LANES(ceil(x))
            case TRUNC: LANES(trunc(x))
            case ROUND: LANES(rint(x))
            case SQRT: LANES(sqrt(x))
            case RSQRT: LANES(T(1) / sqrt(x))
            default: LANES(x > T(0) ? x : x * p)
        }
    } else {
        LANES(T(~x))
    }
}

template <class T, int N>
__device__ __forceinline__ void test(int op, Lanes<b8, N>& out, const Lanes<T, N>& in) {
    switch (op) {
        case ISNAN: LANES(x != x)
        case ISINF: LANES(x == x && x - x != x - x)
        case ISFINITE: LANES(x - x == x - x)
        default: LANES(!x)
    }
}
#undef LANES

// ---- two arguments, and a number p ------------------------------------------------------------------------------------

#define LANES(expression)                               \
    _Pragma("unroll") for (int l = 0; l < N; ++l) {     \
        const T x = a.lane[l], y = b.lane[l];           \
        out.lane[l] = (expression);                     \
    }                                                   \
    return;

template <class T, int N>
__device__ __forceinline__ void binary(int op, T p, Lanes<T, N>& out, const Lanes<T, N>& a, const Lanes<T, N>& b) {
    switch (op) {
        case ADD: LANES(sum(x, y))
        case SUB: LANES(difference(x, y))
        case MUL: LANES(product(x, y))
        case MAXIMUM: LANES(larger(x, y))
        case MINIMUM: LANES(smaller(x, y))
    }
    if constexpr (IS_FLOAT<T>) {
        switch (op) {
            case DIV: LANES(x / y)
            case RELU_BACKWARD: LANES(y <= T(0) ? T(0) : x)
            case TANH_BACKWARD: LANES(x * (T(1) - y * y))
            case SIGMOID_BACKWARD: LANES(x * ((T(1) - y) * y))
            default: LANES(y > T(0) ? x : x * p)
        }
    } else {
        switch (op) {
            case BITWISE_AND: LANES(T(x & y))
            case BITWISE_OR: LANES(T(x | y))
            default: LANES(T(x ^ y))
        }
    }
}

template <class T, int N>
__device__ __forceinline__ void compare(int op, Lanes<b8, N>& out, const Lanes<T, N>& a, const Lanes<T, N>& b) {
    switch (op) {
        case EQ: LANES(x == y)
        case NE: LANES(x != y)
        case LT: LANES(x < y)
        case LE: LANES(x <= y)
        case GT: LANES(x > y)
        case GE: LANES(x >= y)
        case LOGICAL_AND: LANES(x && y)
        case LOGICAL_OR: LANES(x || y)
        default: LANES(!x != !y)
    }
}
#undef LANES

// ---- kernels ----------------------------------------------------------------------------------------------------------

// Which numbers of `count` are left over by lanes of N, one for each of the first threads.
template <int N>
__device__ __forceinline__ unsigned left_over(int count) {
    return count / N * N + blockIdx.x * blockDim.x + threadIdx.x;
}

// output, x  (count), without gaps; or (strided) shown in the shape of the layout, operand 0 is output, 1 is x
#define UNARY_KERNELS(T)                                                                                         \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    unary_##T(T* output, const T* x, int op, Number<T> p, Number<T> q, int count) {                              \
        constexpr int N = WIDTH<T>;                                                                              \
        FOR_EACH(i, count / N) {                                                                                 \
            Lanes<T, N> out;                                                                                     \
            unary<T, N>(op, T(p), T(q), out, lanes<N>(x, i));                                                    \
            put_lanes(output, i, out);                                                                           \
        }                                                                                                        \
        const unsigned rest = left_over<N>(count);                                                               \
        if (rest < count) {                                                                                      \
            Lanes<T, 1> out;                                                                                     \
            unary<T, 1>(op, T(p), T(q), out, lanes<1>(x, rest));                                                 \
            put_lanes(output, rest, out);                                                                        \
        }                                                                                                        \
    }                                                                                                            \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    unary_strided_##T(T* output, const T* x, int op, Number<T> p, Number<T> q, Layout layout, int count) {       \
        FOR_EACH(i, count) {                                                                                     \
            i64 offset[2];                                                                                       \
            place(layout, i, offset);                                                                            \
            Lanes<T, 1> out;                                                                                     \
            unary<T, 1>(op, T(p), T(q), out, lanes<1>(x + offset[1], 0));                                        \
            put_lanes(output + offset[0], 0, out);                                                               \
        }                                                                                                        \
    }
FOR_NUMBERS(UNARY_KERNELS)

// the same with answers instead of numbers
#define TEST_KERNELS(T)                                                                                          \
    extern "C" __global__ void __launch_bounds__(256) test_##T(b8* output, const T* x, int op, int count) {      \
        constexpr int N = WIDTH<T>;                                                                              \
        FOR_EACH(i, count / N) {                                                                                 \
            Lanes<b8, N> out;                                                                                    \
            test<T, N>(op, out, lanes<N>(x, i));                                                                 \
            put_lanes(output, i, out);                                                                           \
        }                                                                                                        \
        const unsigned rest = left_over<N>(count);                                                               \
        if (rest < count) {                                                                                      \
            Lanes<b8, 1> out;                                                                                    \
            test<T, 1>(op, out, lanes<1>(x, rest));                                                              \
            put_lanes(output, rest, out);                                                                        \
        }                                                                                                        \
    }                                                                                                            \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    test_strided_##T(b8* output, const T* x, int op, Layout layout, int count) {                                 \
        FOR_EACH(i, count) {                                                                                     \
            i64 offset[2];                                                                                       \
            place(layout, i, offset);                                                                            \
            Lanes<b8, 1> out;                                                                                    \
            test<T, 1>(op, out, lanes<1>(x + offset[1], 0));                                                     \
            put_lanes(output + offset[0], 0, out);                                                               \
        }                                                                                                        \
    }
FOR_ALL(TEST_KERNELS)

// Lanes number i of an argument: of its array, or its number in all of them.
template <int N, class T>
__device__ __forceinline__ Lanes<T, N> argument(const T* x, T number, unsigned i) {
    if (x) return lanes<N>(x, i);
    Lanes<T, N> all;
#pragma unroll
    for (int l = 0; l < N; ++l) all.lane[l] = number;
    return all;
}

// output, a, b  (count), without gaps; or (strided) shown in the shape of the layout: operand 0 is output, 1 is a, 2 is b
#define BINARY_KERNELS(T)                                                                                        \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    binary_##T(T* output, const T* a, const T* b, Number<T> a_number, Number<T> b_number, int op, Number<T> p,   \
               int count) {                                                                                      \
        constexpr int N = WIDTH<T>;                                                                              \
        FOR_EACH(i, count / N) {                                                                                 \
            Lanes<T, N> out;                                                                                     \
            binary<T, N>(op, T(p), out, argument<N>(a, T(a_number), i), argument<N>(b, T(b_number), i));         \
            put_lanes(output, i, out);                                                                           \
        }                                                                                                        \
        const unsigned rest = left_over<N>(count);                                                               \
        if (rest < count) {                                                                                      \
            Lanes<T, 1> out;                                                                                     \
            binary<T, 1>(op, T(p), out, argument<1>(a, T(a_number), rest), argument<1>(b, T(b_number), rest));   \
            put_lanes(output, rest, out);                                                                        \
        }                                                                                                        \
    }                                                                                                            \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    binary_strided_##T(T* output, const T* a, const T* b, Number<T> a_number, Number<T> b_number, int op,        \
                       Number<T> p, Layout layout, int count) {                                                  \
        FOR_EACH(i, count) {                                                                                     \
            i64 offset[3];                                                                                       \
            place(layout, i, offset);                                                                            \
            Lanes<T, 1> out;                                                                                     \
            binary<T, 1>(op, T(p), out, argument<1>(a ? a + offset[1] : a, T(a_number), 0),                      \
                         argument<1>(b ? b + offset[2] : b, T(b_number), 0));                                    \
            put_lanes(output + offset[0], 0, out);                                                               \
        }                                                                                                        \
    }
FOR_ALL(BINARY_KERNELS)

// output, a, b  shown in a layout of groups of 16 bytes; an argument whose bit (2: a, 4: b) is in `single` has one number for
// each group
#define BINARY_GROUPS_KERNEL(T)                                                                                  \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    binary_groups_##T(T* output, const T* a, const T* b, int op, Number<T> p, int single, Layout layout,         \
                      int count) {                                                                               \
        constexpr int N = WIDTH<T>;                                                                              \
        FOR_EACH(i, count) {                                                                                     \
            i64 offset[3];                                                                                       \
            place(layout, i, offset);                                                                            \
            Lanes<T, N> out;                                                                                     \
            binary<T, N>(op, T(p), out,                                                                          \
                         single & 2 ? argument<N, T>(nullptr, a[offset[1]], 0) : lanes<N>(a + offset[1], 0),     \
                         single & 4 ? argument<N, T>(nullptr, b[offset[2]], 0) : lanes<N>(b + offset[2], 0));    \
            put_lanes(output + offset[0], 0, out);                                                               \
        }                                                                                                        \
    }
FOR_ALL(BINARY_GROUPS_KERNEL)

// the same with answers instead of numbers
#define COMPARE_KERNELS(T)                                                                                       \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    compare_##T(b8* output, const T* a, const T* b, Number<T> a_number, Number<T> b_number, int op, int count) { \
        constexpr int N = WIDTH<T>;                                                                              \
        FOR_EACH(i, count / N) {                                                                                 \
            Lanes<b8, N> out;                                                                                    \
            compare<T, N>(op, out, argument<N>(a, T(a_number), i), argument<N>(b, T(b_number), i));              \
            put_lanes(output, i, out);                                                                           \
        }                                                                                                        \
        const unsigned rest = left_over<N>(count);                                                               \
        if (rest < count) {                                                                                      \
            Lanes<b8, 1> out;                                                                                    \
            compare<T, 1>(op, out, argument<1>(a, T(a_number), rest), argument<1>(b, T(b_number), rest));        \
            put_lanes(output, rest, out);                                                                        \
        }                                                                                                        \
    }                                                                                                            \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    compare_strided_##T(b8* output, const T* a, const T* b, Number<T> a_number, Number<T> b_number, int op,      \
                        Layout layout, int count) {                                                              \
        FOR_EACH(i, count) {                                                                                     \
            i64 offset[3];                                                                                       \
            place(layout, i, offset);                                                                            \
            Lanes<b8, 1> out;                                                                                    \
            compare<T, 1>(op, out, argument<1>(a ? a + offset[1] : a, T(a_number), 0),                           \
                          argument<1>(b ? b + offset[2] : b, T(b_number), 0));                                   \
            put_lanes(output + offset[0], 0, out);                                                               \
        }                                                                                                        \
    }
FOR_ALL(COMPARE_KERNELS)
