// Elementwise operations in which arithmetic takes more time than memory: exponentials, powers, angles, divisions of
// integers.  As in pointwise.cu the operation is an argument, in the order of minidl/_devices/cuda/pointwise.py, and an
// argument that is a number comes as a null pointer and a value.
//
// minidl-stack: 40 (sin, cos and tan of doubles reduce large arguments with an array)

enum Math {
    EXP, EXPM1, LOG, LOG1P, LOG2, LOG10, SIN, COS, TAN, ASIN, ACOS, ATAN, SINH, COSH, TANH, ERF, SIGMOID, GELU, LOG_SIGMOID,
    SOFTPLUS, ELU
};
enum MathBinary { POW, FLOOR_DIVIDE, REMAINDER, FMOD, ATAN2 };

// ---- one argument, and two numbers p and q ----------------------------------------------------------------------------

template <class T>
__device__ __forceinline__ T math(int op, T x, T p, T q) {
    switch (op) {
        case EXP: return exp(x);
        case EXPM1: return expm1(x);
        case LOG: return log(x);
        case LOG1P: return log1p(x);
        case LOG2: return log2(x);
        case LOG10: return log10(x);
        case SIN: return sin(x);
        case COS: return cos(x);
        case TAN: return tan(x);
        case ASIN: return asin(x);
        case ACOS: return acos(x);
        case ATAN: return atan(x);
        case SINH: return sinh(x);
        case COSH: return cosh(x);
        case TANH: return tanh(x);
        case ERF: return erf(x);
        case SIGMOID: return T(1) / (T(1) + exp(-x));
        // x Phi(x), Phi the distribution of a standard normal number
        case GELU: return T(0.5) * x * (T(1) + erf(x * T(0.70710678118654752440)));
        // min(x, 0) - log(1 + exp(-|x|)), which cannot overflow
        case LOG_SIGMOID: return (x > T(0) ? T(0) : x) - log1p(exp(-fabs(x)));
        // p is beta, q the threshold
        case SOFTPLUS: return x * p > q ? x : log1p(exp(x * p)) / p;
        // p is alpha
        default: return x > T(0) ? x : p * expm1(x);
    }
}

// output, x  shown in the shape of the layout; operand 0 is output, 1 is x
#define MATH_KERNEL(T)                                                                                           \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    math_##T(T* output, const T* x, int op, T p, T q, Layout layout, int count) {                                \
        FOR_EACH(i, count) {                                                                                     \
            i64 offset[2];                                                                                       \
            place(layout, i, offset);                                                                            \
            output[offset[0]] = math(op, x[offset[1]], p, q);                                                    \
        }                                                                                                        \
    }
FOR_FLOATS(MATH_KERNEL)

// ---- two arguments ----------------------------------------------------------------------------------------------------

// What is left of a / b rounded down, and the quotient, as Python and NumPy have them: a = quotient * b + rest, and rest
// has the sign of b.
template <class T>
__device__ __forceinline__ T rest_of(T a, T b) {
    T rest = fmod(a, b);
    if (b == T(0)) return rest;
    if (rest == T(0)) return copysign(T(0), b);
    return (b < T(0)) != (rest < T(0)) ? rest + b : rest;
}

template <class T>
__device__ __forceinline__ T quotient_of(T a, T b) {
    if (b == T(0)) return a / b;
    const T rest = fmod(a, b);
    T quotient = (a - rest) / b;
    if (rest != T(0) && (b < T(0)) != (rest < T(0))) quotient -= T(1);
    if (quotient == T(0)) return copysign(T(0), a / b);
    const T down = floor(quotient);
    return quotient - down > T(0.5) ? down + T(1) : down;
}

template <class T>
__device__ __forceinline__ T math_binary(int op, T a, T b) {
    switch (op) {
        case POW: return pow(a, b);
        case FLOOR_DIVIDE: return quotient_of(a, b);
        case REMAINDER: return rest_of(a, b);
        case FMOD: return fmod(a, b);
        default: return atan2(a, b);
    }
}

// The same for integers, which wrap around.  A division by zero, which raises on the CPU and would need a look at all
// numbers here, has the quotient -1 (all bits set) and a for its rest.  A negative power is what is left of the fraction
// when it is cut off.
__device__ __forceinline__ i64 math_binary_whole(int op, i64 a, i64 b) {
    if (op == POW) {
        if (b < 0 && a != 1 && a != -1) return 0;
        u64 result = 1, power = a, exponent = b < 0 ? 0 - (u64)b : b;
        for (; exponent; exponent >>= 1, power *= power) {
            if (exponent & 1) result *= power;
        }
        return result;
    }
    if (b == 0) return op == FLOOR_DIVIDE ? -1 : a;
    if (b == -1) return op == FLOOR_DIVIDE ? i64(0 - (u64)a) : 0;  // the smallest number has no opposite
    const i64 quotient = a / b, rest = a % b;
    if (op == FMOD) return rest;
    const bool below = rest != 0 && (rest < 0) != (b < 0);
    if (op == REMAINDER) return below ? rest + b : rest;
    return below ? quotient - 1 : quotient;
}

// output, a, b  shown in the shape of the layout: operand 0 is output, 1 is a, 2 is b
#define MATH_BINARY_KERNEL(T, ONE)                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    math_binary_##T(T* output, const T* a, const T* b, Number<T> a_number, Number<T> b_number, int op,           \
                    Layout layout, int count) {                                                                  \
        FOR_EACH(i, count) {                                                                                     \
            i64 offset[3];                                                                                       \
            place(layout, i, offset);                                                                            \
            output[offset[0]] = T(ONE(op, a ? a[offset[1]] : T(a_number), b ? b[offset[2]] : T(b_number)));      \
        }                                                                                                        \
    }
#define OF_FLOATS(T) MATH_BINARY_KERNEL(T, math_binary<T>)
#define OF_INTEGERS(T) MATH_BINARY_KERNEL(T, math_binary_whole)
FOR_FLOATS(OF_FLOATS)
FOR_INTEGERS(OF_INTEGERS)
