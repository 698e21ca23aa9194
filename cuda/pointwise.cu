// Elementwise operations: each number of the result depends on one number of every argument.
//
// One kernel per type and number of arguments, and the operation is an argument of it: the branch is the same for all
// threads, and 50 operations of 8 types would otherwise take minutes to compile.  minidl/_devices/cuda/pointwise.py has
// the same names in the same order.  An argument that is a number, not an array, comes as a null pointer and a value.

enum Unary { NEG, ABS, EXP, SQRT, RELU };
enum Binary { ADD, SUB, MUL, DIV };

template <class T>
__device__ __forceinline__ T unary(int op, T x) {
    switch (op) {
        case NEG: return -x;
        case ABS: return x < T(0) ? -x : x;
        case EXP: return exp(x);
        case SQRT: return sqrt(x);
        default: return x > T(0) || x != x ? x : T(0);
    }
}

template <class T>
__device__ __forceinline__ T binary(int op, T a, T b) {
    switch (op) {
        case ADD: return a + b;
        case SUB: return a - b;
        case MUL: return a * b;
        default: return a / b;
    }
}

// output, x  shown in the shape of the layout; operand 0 is output, 1 is x
template <class T>
__device__ __forceinline__ void unary_kernel(T* output, const T* x, int op, const Layout& layout, int count) {
    FOR_EACH(i, count) {
        i64 offset[2];
        place(layout, i, offset);
        output[offset[0]] = unary(op, x[offset[1]]);
    }
}

// output, a, b  shown in the shape of the layout; operand 0 is output, 1 is a, 2 is b
template <class T>
__device__ __forceinline__ void binary_kernel(T* output, const T* a, const T* b, T a_value, T b_value, int op,
                                              const Layout& layout, int count) {
    FOR_EACH(i, count) {
        i64 offset[3];
        place(layout, i, offset);
        output[offset[0]] = binary(op, a ? a[offset[1]] : a_value, b ? b[offset[2]] : b_value);
    }
}

#define KERNELS(T)                                                                                            \
    extern "C" __global__ void __launch_bounds__(256)                                                         \
    unary_##T(T* output, const T* x, int op, Layout layout, int count) {                                      \
        unary_kernel<T>(output, x, op, layout, count);                                                        \
    }                                                                                                         \
    extern "C" __global__ void __launch_bounds__(256)                                                         \
    binary_##T(T* output, const T* a, const T* b, T a_value, T b_value, int op, Layout layout, int count) {   \
        binary_kernel<T>(output, a, b, a_value, b_value, op, layout, count);                                  \
    }
FOR_FLOATS(KERNELS)
