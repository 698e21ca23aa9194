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

// ---- products of tiles in shared memory: gemm.cu and conv2d.cu ----------------------------------------------------

// Number i of the COUNT of a tile's rows (or columns) that thread t of SHARING owns: 16 bytes of neighbours, then others.
template <int COUNT, int SHARING, class T>
__device__ __forceinline__ int owned(int i, int t) {
    enum { V = COUNT < WIDTH<T> ? COUNT : WIDTH<T> };
    return i / V * (SHARING * V) + t * V + i % V;
}

// sum (TM, TN) += a_tile (BK, rows)^T @ b_tile (BK, columns): the numbers that thread (ty, tx) owns
template <class T, int A_LENGTH, int B_LENGTH, int BK, int TM, int TN, int ROWS, int COLUMNS>
__device__ __forceinline__ void multiply(T (&sum)[TM][TN], const T (*a_tile)[A_LENGTH], const T (*b_tile)[B_LENGTH], int ty,
                                         int tx) {
#pragma unroll 2    // all of it at once takes more registers than two blocks of 256 threads have for 8 x 8 sums
    for (int k = 0; k < BK; ++k) {
        T a[TM], b[TN];
#pragma unroll
        for (int i = 0; i < TM; ++i) a[i] = a_tile[k][owned<TM, ROWS, T>(i, ty)];
#pragma unroll
        for (int j = 0; j < TN; ++j) b[j] = b_tile[k][owned<TN, COLUMNS, T>(j, tx)];
#pragma unroll
        for (int i = 0; i < TM; ++i)
#pragma unroll
            for (int j = 0; j < TN; ++j) sum[i][j] += a[i] * b[j];
    }
}

// The sum of parts[i * step] for i = first, first + 1, ... below `last`, shared out over up to 8 threads in y, each of
// which adds up every blockDim.y-th part; whole where threadIdx.y is 0.  All threads of the block come here.
template <class T>
__device__ __forceinline__ T sum_of_parts(const T* parts, i64 step, int first, int last) {
    __shared__ T sums[8][33];
    T sum[4] = {};
    int i = first + threadIdx.y;
    const int lanes = blockDim.y;
    for (; i + 3 * lanes < last; i += 4 * lanes)
#pragma unroll
        for (int j = 0; j < 4; ++j) sum[j] += parts[(i + j * lanes) * step];
    for (; i < last; i += lanes) sum[0] += parts[i * step];
    T whole = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    if (lanes == 1) return whole;
    sums[threadIdx.y][threadIdx.x] = whole;
    __syncthreads();
    whole = T(0);
    for (int lane = 0; lane < lanes; ++lane) whole += sums[lane][threadIdx.x];
    return whole;
}

// ---- teams: threads of a block that share a result ---------------------------------------------------------------

// A block's threads in teams of `lanes` (a power of two).  A team's threads lie side by side, or, in columns, one from
// each of the block's teams lie side by side: whichever lets neighbours read neighbouring numbers.
struct Team {
    int lane, lanes;
    int team, teams;  // of the block
    int step;         // from a lane's thread to the next one's
};

__device__ __forceinline__ Team team_of(int lanes, int columns) {
    const int log = __ffs(lanes) - 1, teams = blockDim.x >> log, thread = threadIdx.x;
    if (!columns) return {thread & (lanes - 1), lanes, thread >> log, teams, 1};
    const int lane = thread / teams;
    return {lane, lanes, thread - lane * teams, teams, teams};
}

template <class V>
__device__ __forceinline__ V of_lane_xor(V value, int lanes) {
    return __shfl_xor_sync(0xffffffffu, value, lanes);
}

// The values of each team combined, always in the same order; all threads of the block call it, all get the result.
// shared holds a value per thread, and is free again afterwards.
template <class V, class Combine>
__device__ __forceinline__ V combined(V value, const Team& team, V* shared, Combine combine) {
    if (team.step == 1 && team.lanes <= 32) {
        for (int half = team.lanes / 2; half > 0; half /= 2) value = combine(value, of_lane_xor(value, half));
        return value;
    }
    shared[threadIdx.x] = value;
    for (int half = team.lanes / 2; half > 0; half /= 2) {
        __syncthreads();
        if (team.lane < half)
            shared[threadIdx.x] = combine(shared[threadIdx.x], shared[threadIdx.x + half * team.step]);
    }
    __syncthreads();
    value = shared[threadIdx.x - team.lane * team.step];
    __syncthreads();
    return value;
}

struct Plus {
    template <class V>
    __device__ __forceinline__ V operator()(V a, V b) const {
        return a + b;
    }
};

// Walks through the numbers r, r + step, ... of a shape, as operand 0 sees them: the innermost dimension is counted, the
// others are only looked up when it overflows.
struct Walk {
    const Layout& layout;
    int inner, size, inner_step, outer, outer_step;
    i64 stride, offset;

    __device__ __forceinline__ Walk(const Layout& given, int r, int step) : layout(given) {
        const int last = given.ndim - 1;
        size = last >= 0 ? given.size[last] : 0x7fffffff;
        stride = last >= 0 ? given.stride[0][last] : 0;
        outer = r / size;
        inner = r - outer * size;
        outer_step = step / size;
        inner_step = step - outer_step * size;
        look_up();
    }

    __device__ __forceinline__ void look_up() {
        offset = 0;
        unsigned rest = outer;
        for (int dim = layout.ndim - 2; dim >= 0; --dim) {
            const unsigned next = rest / layout.size[dim];
            offset += (rest - next * layout.size[dim]) * layout.stride[0][dim];
            rest = next;
        }
    }

    __device__ __forceinline__ i64 at() const { return offset + inner * stride; }

    __device__ __forceinline__ void go_on() {
        const int before = outer;
        inner += inner_step;
        outer += outer_step;
        if (inner >= size) {
            inner -= size;
            ++outer;
        }
        if (outer != before && layout.ndim > 1) look_up();
    }
};

// The numbers that block row blockIdx.y takes of `count`: first <= r < last.
struct Share {
    int first, last;
    __device__ __forceinline__ explicit Share(int count) {
        const int size = (int)(((i64)count + gridDim.y - 1) / gridDim.y);
        first = min((i64)count, (i64)size * blockIdx.y);
        last = min((i64)count, (i64)first + size);
    }
};

// ---- softmax: of a team's numbers, the largest and the sum of exp(number - largest), in one pass ------------------------

template <class T>
struct Peak {
    T max;
    f64 sum;
};

template <class T>
__device__ __forceinline__ Peak<T> no_peak() {
    return {T(-INFINITY), 0};
}

// Equal infinities count as equal, so that only +inf, NaN and a row of nothing but -inf end as NaN (see `log_sum`).
template <class T>
__device__ __forceinline__ Peak<T> with_number(Peak<T> peak, T x) {
    if (x > peak.max) return {x, peak.sum * f64(exp(peak.max - x)) + 1};
    return {peak.max, peak.sum + (x == peak.max ? 1 : f64(exp(x - peak.max)))};
}

struct Higher {
    template <class T>
    __device__ __forceinline__ Peak<T> operator()(const Peak<T>& a, const Peak<T>& b) const {
        if (a.max == b.max) return {a.max, a.sum + b.sum};
        return a.max > b.max ? Peak<T>{a.max, a.sum + b.sum * f64(exp(b.max - a.max))}
                             : Peak<T>{b.max, b.sum + a.sum * f64(exp(a.max - b.max))};
    }
};

template <class T>
__device__ __forceinline__ Peak<T> of_lane_xor(Peak<T> peak, int lanes) {
    return {__shfl_xor_sync(0xffffffffu, peak.max, lanes), __shfl_xor_sync(0xffffffffu, peak.sum, lanes)};
}

// log of the sum of exp(number - max); NaN where max is infinite
template <class T>
__device__ __forceinline__ T log_sum(const Peak<T>& peak) {
    return log(T(peak.sum)) + (peak.max - peak.max);
}
