// Reductions over any dimensions: sums, products, extremes, and what is made of them.
//
// A result has a team of threads (common.cuh).  Its lanes take the numbers lane, lane + lanes, ... of the reduced ones,
// and are combined by a tree.  Large reductions are split over blocks as well (gridDim.y), which leave partial results
// for a second launch.  Nothing depends on the order in which threads run, nor on the size of the GPU.
//
// A reduction is named by four words: what is taken of each number (Load), how two are combined (Combine), what is made
// of the end (Finish) and the type that it is kept in (Store); minidl/_devices/cuda/reduce.py has the same words.
// Floats are combined in float64, integers and bools in int64.

enum Load { NUMBER, TRUTH, SQUARE, EXP, PARTIAL };
enum Combine { SUM, PROD, MAX, MIN };
enum Finish { AS_IT_IS, SCALE, LOG, FINITE };
enum Store { AS_PARTIAL, AS_NUMBER, AS_BOOL };

template <class T> struct Wide { typedef i64 type; };
template <> struct Wide<f32> { typedef f64 type; };
template <> struct Wide<f64> { typedef f64 type; };

__device__ __forceinline__ f64 add(f64 a, f64 b) { return a + b; }
__device__ __forceinline__ f64 multiply(f64 a, f64 b) { return a * b; }
__device__ __forceinline__ i64 add(i64 a, i64 b) { return (i64)((unsigned long long)a + (unsigned long long)b); }
__device__ __forceinline__ i64 multiply(i64 a, i64 b) { return (i64)((unsigned long long)a * (unsigned long long)b); }

__device__ __forceinline__ f64 largest(f64) { return INFINITY; }
__device__ __forceinline__ i64 largest(i64) { return 0x7fffffffffffffffll; }

template <class A>
__device__ __forceinline__ A neutral(int combine) {
    switch (combine) {
        case SUM: return A(0);
        case PROD: return A(1);
        case MAX: return A(-largest(A(0)) - (A(0.5) == A(0)));  // of integers the smallest is one less
        default: return largest(A(0));
    }
}

// NaN is the largest and the smallest of all.
template <class A>
__device__ __forceinline__ A combine_two(int combine, A a, A b) {
    switch (combine) {
        case SUM: return add(a, b);
        case PROD: return multiply(a, b);
        case MAX: return b > a || b != b ? b : a;
        default: return b < a || b != b ? b : a;
    }
}

// What is taken of number `at`; centre is what SQUARE and EXP, which are of floats, subtract first.
template <class T>
__device__ __forceinline__ typename Wide<T>::type taken(int load, const void* input, i64 at, f64 centre) {
    typedef typename Wide<T>::type A;
    if (load == PARTIAL) return ((const A*)input)[at];
    const T number = ((const T*)input)[at];
    if (load == TRUTH) return A(number != T(0));
    if constexpr (A(0.5) != A(0)) {
        const f64 difference = f64(number) - centre;
        if (load == SQUARE) return difference * difference;
        if (load == EXP) return f64(exp(T(difference)));
    }
    return A(number);
}

// output  (outputs,) in the places of operand 0 of kept; partial results (gridDim.y, outputs) where gridDim.y > 1
// input   operand 1 of kept and operand 0 of reduced
// centres (outputs,) in the places of operand 2 of kept, or null
//
// 1. each lane of result o combines its share of the `count` numbers, 2. the team combines its lanes, 3. its first lane
// finishes and stores.
template <class T>
__device__ __forceinline__ void reduce_kernel(void* output, const void* input, const f64* centres, int load, int combine,
                                              int finish, int store, int lanes, int columns, f64 factor,
                                              const Layout& kept, const Layout& reduced, int outputs, int count) {
    typedef typename Wide<T>::type A;
    __shared__ A shared[256];
    const Team team = team_of(lanes, columns);
    const int o = blockIdx.x * team.teams + team.team;
    const Share share(count);
    A total = neutral<A>(combine);
    f64 centre = 0;
    i64 offset[3] = {0, 0, 0};
    if (o < outputs) {
        place(kept, o, offset);
        if (centres) centre = centres[offset[2]];
    }
    if (o < outputs && count) {
        int r = share.first + team.lane;
        if (reduced.ndim <= 1) {
            const i64 stride = reduced.ndim ? reduced.stride[0][0] : 0;
            for (; (i64)r + 3 * lanes < share.last; r += 4 * lanes) {
                A four[4];
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    four[i] = taken<T>(load, input, offset[1] + (r + i * lanes) * stride, centre);
#pragma unroll
                for (int i = 0; i < 4; ++i) total = combine_two(combine, total, four[i]);
            }
            for (; r < share.last; r += lanes)
                total = combine_two(combine, total, taken<T>(load, input, offset[1] + r * stride, centre));
        } else {
            Walk walk(reduced, r, lanes);
            for (; r < share.last; r += lanes, walk.go_on())
                total = combine_two(combine, total, taken<T>(load, input, offset[1] + walk.at(), centre));
        }
    }
    total = combined(total, team, shared, [=](A a, A b) { return combine_two(combine, a, b); });
    if (o >= outputs || team.lane != 0) return;
    if constexpr (A(0.5) != A(0)) {
        if (finish == SCALE) total *= factor;
        if (finish == LOG) total = log(total) + centre;
        if (finish == FINITE && total - total != 0) total = 0;
    }
    if (store == AS_PARTIAL)
        ((A*)output)[(i64)blockIdx.y * outputs + offset[0]] = total;
    else if (store == AS_NUMBER)
        ((T*)output)[offset[0]] = T(total);
    else
        ((b8*)output)[offset[0]] = total != A(0);
}

#define KERNELS(T)                                                                                                \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
    reduce_##T(void* output, const void* input, const f64* centres, int load, int combine, int finish, int store, \
               int lanes, int columns, f64 factor, Layout kept, Layout reduced, int outputs, int count) {        \
        reduce_kernel<T>(output, input, centres, load, combine, finish, store, lanes, columns, factor, kept,     \
                         reduced, outputs, count);                                                                \
    }
FOR_ALL(KERNELS)
#undef KERNELS

// ---- extremes and where they are -------------------------------------------------------------------------------------

template <class T>
struct Candidate {
    T value;
    int index;  // -1: none
};

// Whether b comes before a: NaN first, then the more extreme value, then the smaller index.
template <class T>
__device__ __forceinline__ bool wins(const Candidate<T>& b, const Candidate<T>& a, int smallest) {
    if (b.index < 0 || a.index < 0) return b.index >= 0;
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    if (a_nan != b_nan) return b_nan;
    if (!a_nan && a.value != b.value) return smallest ? b.value < a.value : b.value > a.value;
    return b.index < a.index;
}

template <class T>
__device__ __forceinline__ Candidate<T> of_lane_xor(Candidate<T> mine, int lanes) {
    return {T(__shfl_xor_sync(0xffffffffu, mine.value, lanes)), __shfl_xor_sync(0xffffffffu, mine.index, lanes)};
}

// values, indices    (outputs,), values may be null; (gridDim.y, outputs) where gridDim.y > 1
// input              operand 1 of kept and operand 0 of reduced
// candidate_indices  null, or the indices that belong to the numbers of the input, which are partial results then
template <class T>
__device__ __forceinline__ void extreme_kernel(T* values, i64* indices, const T* input, const i64* candidate_indices,
                                               int smallest, int lanes, int columns, const Layout& kept,
                                               const Layout& reduced, int outputs, int count) {
    __shared__ Candidate<T> shared[256];
    const Team team = team_of(lanes, columns);
    const int o = blockIdx.x * team.teams + team.team;
    const Share share(count);
    Candidate<T> best = {T(0), -1};
    if (o < outputs) {
        i64 offset[2];
        place(kept, o, offset);
        int r = share.first + team.lane;
        Walk walk(reduced, r, lanes);
        for (; r < share.last; r += lanes, walk.go_on()) {
            const i64 at = offset[1] + walk.at();
            const Candidate<T> next = {input[at], candidate_indices ? (int)candidate_indices[at] : r};
            if (wins(next, best, smallest)) best = next;
        }
    }
    best = combined(best, team, shared, [=](const Candidate<T>& a, const Candidate<T>& b) {
        return wins(b, a, smallest) ? b : a;
    });
    if (o >= outputs || team.lane != 0) return;
    const i64 at = (i64)blockIdx.y * outputs + o;
    if (values) values[at] = best.value;
    indices[at] = best.index;
}

#define KERNELS(T)                                                                                              \
    extern "C" __global__ void __launch_bounds__(256)                                                           \
    extreme_##T(T* values, i64* indices, const T* input, const i64* candidate_indices, int smallest, int lanes, \
                int columns, Layout kept, Layout reduced, int outputs, int count) {                             \
        extreme_kernel<T>(values, indices, input, candidate_indices, smallest, lanes, columns, kept, reduced,   \
                          outputs, count);                                                                      \
    }
FOR_ALL(KERNELS)
