// Running sums and products along one dimension.
//
// Rows are long or many.  A long row is cut into chunks: a first launch makes the total of each chunk, a second one what
// lies before each chunk, and a third one the running results.  Floats are combined in float64, integers in int64.

enum Combine { SUM, PROD };

template <class T> struct Wide { typedef i64 accumulator, result; };
template <> struct Wide<f32> { typedef f64 accumulator; typedef f32 result; };
template <> struct Wide<f64> { typedef f64 accumulator; typedef f64 result; };

__device__ __forceinline__ f64 combine_two(int combine, f64 a, f64 b) { return combine == SUM ? a + b : a * b; }

__device__ __forceinline__ i64 combine_two(int combine, i64 a, i64 b) {
    const unsigned long long x = a, y = b;
    return (i64)(combine == SUM ? x + y : x * y);
}

// The running results over a block's threads: of thread 0, of threads 0 and 1, ...; shared holds two per thread.
template <class A>
__device__ __forceinline__ A running(int combine, A value, A* shared) {
    A *now = shared, *next = shared + blockDim.x;
    now[threadIdx.x] = value;
    for (int reach = 1; reach < (int)blockDim.x; reach *= 2) {
        __syncthreads();
        next[threadIdx.x] = (int)threadIdx.x < reach
                                ? now[threadIdx.x]
                                : combine_two(combine, now[threadIdx.x - reach], now[threadIdx.x]);
        A* swap = now;
        now = next;
        next = swap;
    }
    __syncthreads();
    value = now[threadIdx.x];
    return value;
}

// output  operand 0 of rows, its numbers output_stride apart, or null: only the totals are wanted
// totals  (rows, gridDim.y): of each chunk, where output is null
// before  (rows, gridDim.y): what lies before each chunk, or null
// input   operand 1 of rows, its numbers input_stride apart
//
// A block goes through a chunk of a row, as many numbers at a time as it has threads.
template <class T>
__device__ __forceinline__ void along_rows_kernel(void* output, void* totals, const void* before, const T* input,
                                                  int combine, i64 output_stride, i64 input_stride, const Layout& rows,
                                                  int chunk, int count) {
    typedef typename Wide<T>::accumulator A;
    __shared__ A shared[512];
    const int row = blockIdx.x;
    const i64 at = (i64)row * gridDim.y + blockIdx.y;
    const i64 begin = (i64)blockIdx.y * chunk, end = min(begin + chunk, (i64)count);
    i64 offset[2];
    place(rows, row, offset);
    A carried = before ? ((const A*)before)[at] : A(combine == PROD);
    for (i64 first = begin; first < end; first += blockDim.x) {
        const i64 r = first + threadIdx.x;
        const A value = r < end ? A(input[offset[1] + r * input_stride]) : A(combine == PROD);
        const A result = combine_two(combine, carried, running(combine, value, shared));
        if (output && r < end)
            ((typename Wide<T>::result*)output)[offset[0] + r * output_stride] = (typename Wide<T>::result)result;
        __syncthreads();
        if (threadIdx.x == blockDim.x - 1) shared[0] = result;
        __syncthreads();
        carried = shared[0];
        __syncthreads();
    }
    if (!output && threadIdx.x == 0) ((A*)totals)[at] = carried;
}

// output, input  as above; each thread goes through a row of its own, beside its neighbours'
template <class T>
__device__ __forceinline__ void along_columns_kernel(void* output, const T* input, int combine, i64 output_stride,
                                                     i64 input_stride, const Layout& layout, int rows, int count) {
    typedef typename Wide<T>::accumulator A;
    FOR_EACH(row, rows) {
        i64 offset[2];
        place(layout, row, offset);
        A total = A(combine == PROD);
        for (i64 r = 0; r < count; ++r) {
            total = combine_two(combine, total, A(input[offset[1] + r * input_stride]));
            ((typename Wide<T>::result*)output)[offset[0] + r * output_stride] = (typename Wide<T>::result)total;
        }
    }
}

#define KERNELS(T)                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256)                                                              \
    cumulate_rows_##T(void* output, void* totals, const void* before, const T* input, int combine,                 \
                      i64 output_stride, i64 input_stride, Layout rows, int chunk, int count) {                    \
        along_rows_kernel<T>(output, totals, before, input, combine, output_stride, input_stride, rows, chunk,     \
                             count);                                                                               \
    }                                                                                                              \
    extern "C" __global__ void __launch_bounds__(256)                                                              \
    cumulate_columns_##T(void* output, const T* input, int combine, i64 output_stride, i64 input_stride,           \
                         Layout layout, int rows, int count) {                                                     \
        along_columns_kernel<T>(output, input, combine, output_stride, input_stride, layout, rows, count);         \
    }
FOR_ALL(KERNELS)
#undef KERNELS

// before, totals  (rows, chunks): what lies before each chunk; a thread for each row
#define KERNELS(A)                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256)                                                              \
    cumulate_before_##A(A* before, const A* totals, int combine, int rows, int chunks) {                           \
        FOR_EACH(row, rows) {                                                                                      \
            A total = A(combine == PROD);                                                                          \
            for (i64 chunk = (i64)row * chunks; chunk < (i64)(row + 1) * chunks; ++chunk) {                        \
                before[chunk] = total;                                                                             \
                total = combine_two(combine, total, totals[chunk]);                                                \
            }                                                                                                      \
        }                                                                                                          \
    }
KERNELS(f64)
KERNELS(i64)
