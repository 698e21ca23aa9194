// Sorting along one dimension, with the places that the values came from.
//
// Numbers are compared with their places, so that no two are equal and every way of sorting gives the same, stable order.
// NaN is the largest.  A block sorts runs of up to RUN numbers in shared memory by Batcher's bitonic network (1968); runs
// are merged pairwise until each row is one.

enum { RUN = 1024 };

template <class T>
struct Item {
    T value;
    int place;  // negative: comes after everything
};

template <class T>
__device__ __forceinline__ bool before(const Item<T>& a, const Item<T>& b, int descending) {
    if (a.place < 0 || b.place < 0) return b.place < 0 && a.place >= 0;
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    if (a_nan != b_nan) return descending ? a_nan : b_nan;
    if (!a_nan && a.value != b.value) return descending ? a.value > b.value : a.value < b.value;
    return a.place < b.place;
}

// values, indices  operand 0 of rows, whose numbers are value_stride apart: rows of `count` numbers
// input            operand 1 of rows, whose numbers are input_stride apart
//
// Each block sorts RUN numbers: one run of a row, or several rows of up to `length` (a power of two, RUN at most).
template <class T>
__device__ __forceinline__ void sort_runs_kernel(T* values, i64* indices, const T* input, i64 value_stride,
                                                 i64 input_stride, int descending, const Layout& rows_layout, int length,
                                                 int runs, int rows, int count) {
    __shared__ Item<T> item[RUN];
    const int log = __ffs(length) - 1, first = blockIdx.x * (RUN >> log);
    for (int i = threadIdx.x; i < RUN; i += blockDim.x) {
        const int run = first + (i >> log), row = run / runs, r = (run - row * runs) * length + (i & (length - 1));
        item[i] = {T(0), -1};
        if (row < rows && r < count) {
            i64 offset[2];
            place(rows_layout, row, offset);
            item[i] = {input[offset[1] + r * input_stride], r};
        }
    }
    for (int size = 2; size <= length; size *= 2)
        for (int half = size / 2; half > 0; half /= 2) {
            __syncthreads();
            for (int pair = threadIdx.x; pair < RUN / 2; pair += blockDim.x) {
                const int low = 2 * pair - (pair & (half - 1)), high = low + half;
                const bool falling = low & (length - 1) & size;
                const Item<T> a = item[low], b = item[high];
                if (falling ? before(a, b, descending) : before(b, a, descending)) {
                    item[low] = b;
                    item[high] = a;
                }
            }
        }
    __syncthreads();
    for (int i = threadIdx.x; i < RUN; i += blockDim.x) {
        const int run = first + (i >> log), row = run / runs, r = (run - row * runs) * length + (i & (length - 1));
        if (row >= rows || r >= count) continue;
        i64 offset[2];
        place(rows_layout, row, offset);
        values[offset[0] + r * value_stride] = item[i].value;
        indices[offset[0] + r * value_stride] = item[i].place;
    }
}

// values, indices         operand 0 of rows, whose numbers are value_stride apart
// run_values, run_places  (rows, count), runs of `length` numbers in order
//
// Each thread takes a number and looks in the run beside its own for how many come before it.
template <class T>
__device__ __forceinline__ void merge_runs_kernel(T* values, i64* indices, const T* run_values, const i64* run_places,
                                                  i64 value_stride, int descending, const Layout& rows_layout, int length,
                                                  int count, int total) {
    FOR_EACH(i, total) {
        const int row = i / count, r = i - row * count, run = r / length;
        const i64 base = (i64)row * count;
        const Item<T> mine = {run_values[base + r], (int)run_places[base + r]};
        const int beside = (run ^ 1) * length, end = min((i64)count, (i64)beside + length);
        int low = min(beside, count), high = max(end, low);
        const int start = low;
        while (low < high) {
            const int middle = low + (high - low) / 2;
            if (before(Item<T>{run_values[base + middle], (int)run_places[base + middle]}, mine, descending))
                low = middle + 1;
            else
                high = middle;
        }
        const int target = (run & ~1) * length + (r - run * length) + (low - start);
        i64 offset[1];
        place(rows_layout, row, offset);
        values[offset[0] + target * value_stride] = mine.value;
        indices[offset[0] + target * value_stride] = mine.place;
    }
}

#define KERNELS(T)                                                                                              \
    extern "C" __global__ void __launch_bounds__(256)                                                           \
    sort_runs_##T(T* values, i64* indices, const T* input, i64 value_stride, i64 input_stride, int descending,  \
                  Layout rows_layout, int length, int runs, int rows, int count) {                              \
        sort_runs_kernel<T>(values, indices, input, value_stride, input_stride, descending, rows_layout,        \
                            length, runs, rows, count);                                                         \
    }                                                                                                           \
    extern "C" __global__ void __launch_bounds__(256)                                                           \
    merge_runs_##T(T* values, i64* indices, const T* run_values, const i64* run_places, i64 value_stride,       \
                   int descending, Layout rows_layout, int length, int count, int total) {                      \
        merge_runs_kernel<T>(values, indices, run_values, run_places, value_stride, descending, rows_layout,    \
                             length, count, total);                                                             \
    }
FOR_ALL(KERNELS)
