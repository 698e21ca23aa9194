// Which places: those of the true numbers of a mask, in order; and those of keys, in the order of the keys (radix sort).
// Both count per block, turn the counts into starts, and move.  Integers only: the order of threads changes nothing.

enum { TILE = 2048, DIGITS = 256 };  // numbers that a block has; values of the 8 bits that a pass sorts by

// How many of the lanes before this one are in `lanes`.
__device__ __forceinline__ int rank_in(unsigned lanes) { return __popc(lanes & ((1u << threadIdx.x % 32) - 1)); }

// counts (count + 1): each becomes the sum of those before it, the last one the sum of all.  One block.
extern "C" __global__ void __launch_bounds__(1024) scan(int* counts, int count) {
    __shared__ int warp_sum[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int before = 0;
    for (int first = 0; first <= count; first += blockDim.x) {
        const int i = first + threadIdx.x, own = i < count ? counts[i] : 0;
        int sum = own;
        for (int lanes = 1; lanes < 32; lanes *= 2) {
            const int other = __shfl_up_sync(0xffffffffu, sum, lanes);
            if (lane >= lanes) sum += other;
        }
        if (lane == 31) warp_sum[warp] = sum;
        __syncthreads();
        int all = 0;
        for (int w = 0; w < blockDim.x / 32; ++w) {
            if (w == warp) sum += all;
            all += warp_sum[w];
        }
        if (i <= count) counts[i] = before + sum - own;
        before += all;
        __syncthreads();
    }
}

// ---- the true numbers of a mask -----------------------------------------------------------------------------------------

// counts (blocks), mask (count)
extern "C" __global__ void __launch_bounds__(256) mask_count(int* counts, const b8* mask, int count) {
    int sum = 0;
    for (int i = 0; i < TILE; i += 256) {
        const int at = blockIdx.x * TILE + i + threadIdx.x;
        sum += __syncthreads_count(at < count && mask[at]);
    }
    if (threadIdx.x == 0) counts[blockIdx.x] = sum;
}

// places (all that are true), starts (blocks), mask (count)
extern "C" __global__ void __launch_bounds__(256) mask_places(int* places, const int* starts, const b8* mask, int count) {
    __shared__ int warp_count[8];
    const int warp = threadIdx.x / 32;
    int start = starts[blockIdx.x];
    for (int i = 0; i < TILE; i += 256) {
        const int at = blockIdx.x * TILE + i + threadIdx.x;
        const bool holds = at < count && mask[at];
        const unsigned lanes = __ballot_sync(0xffffffffu, holds);
        if (threadIdx.x % 32 == 0) warp_count[warp] = __popc(lanes);
        __syncthreads();
        int all = 0, mine = 0;
        for (int w = 0; w < 8; ++w) {
            if (w == warp) mine = all;
            all += warp_count[w];
        }
        if (holds) places[start + mine + rank_in(lanes)] = at;
        start += all;
        __syncthreads();
    }
}

struct Sizes {
    int ndim, size[MOST_DIMS];
};

// output (count, ndim) with these strides: the coordinates of the places in a shape
extern "C" __global__ void __launch_bounds__(256)
coordinates(i64* output, const int* places, Sizes shape, i64 row, i64 column, int count) {
    FOR_EACH(i, count) {
        unsigned left = places[i];
        for (int dim = shape.ndim - 1; dim >= 0; --dim) {
            const unsigned outer = left / shape.size[dim];
            output[i * row + dim * column] = left - outer * shape.size[dim];
            left = outer;
        }
    }
}

// output (count), x shown in the shape in which the places are counted
#define TAKE_KERNEL(T)                                                                                           \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    take_##T(T* output, const T* x, const int* places, Layout layout, int count) {                               \
        FOR_EACH(i, count) {                                                                                     \
            i64 offset[1];                                                                                       \
            place(layout, places[i], offset);                                                                    \
            output[i] = x[offset[0]];                                                                            \
        }                                                                                                        \
    }
FOR_BITS(TAKE_KERNEL)

// ---- radix sort: a pass for every 8 bits of the keys, the lowest first; equal keys keep their order ---------------------

// counts (DIGITS, blocks), keys (count)
extern "C" __global__ void __launch_bounds__(256) digit_count(int* counts, const int* keys, int shift, int count) {
    __shared__ int of_digit[DIGITS];
    of_digit[threadIdx.x] = 0;
    __syncthreads();
    for (int i = 0; i < TILE; i += 256) {
        const int at = blockIdx.x * TILE + i + threadIdx.x;
        if (at < count) atomicAdd(&of_digit[keys[at] >> shift & (DIGITS - 1)], 1);
    }
    __syncthreads();
    counts[threadIdx.x * gridDim.x + blockIdx.x] = of_digit[threadIdx.x];
}

// sorted_keys, sorted_order, keys, order (count); starts (DIGITS, blocks); a null pointer for the order of the first pass
// A block takes 256 keys at a time: a key's place is the start of its digit, plus how many of it are in warps before its
// own, plus how many are in lanes before.
extern "C" __global__ void __launch_bounds__(256)
digit_move(int* sorted_keys, int* sorted_order, const int* keys, const int* order, const int* starts, int shift, int count) {
    __shared__ int start[DIGITS], warp_count[8][DIGITS];
    const int warp = threadIdx.x / 32;
    start[threadIdx.x] = starts[threadIdx.x * gridDim.x + blockIdx.x];
    for (int i = 0; i < TILE; i += 256) {
        for (int w = 0; w < 8; ++w) warp_count[w][threadIdx.x] = 0;
        __syncthreads();
        const int at = blockIdx.x * TILE + i + threadIdx.x;
        const bool there = at < count;
        const int key = there ? keys[at] : 0, digit = key >> shift & (DIGITS - 1);
        unsigned lanes = __ballot_sync(0xffffffffu, there);  // those with the same digit
        for (int bit = 1; bit < DIGITS; bit *= 2) {
            const unsigned set = __ballot_sync(0xffffffffu, digit & bit);
            lanes &= digit & bit ? set : ~set;
        }
        const int rank = rank_in(lanes);
        if (there && rank == 0) warp_count[warp][digit] = __popc(lanes);
        __syncthreads();
        int all = start[threadIdx.x];
        for (int w = 0; w < 8; ++w) {
            const int own = warp_count[w][threadIdx.x];
            warp_count[w][threadIdx.x] = all;
            all += own;
        }
        start[threadIdx.x] = all;
        __syncthreads();
        if (there) {
            const int to = warp_count[warp][digit] + rank;
            sorted_keys[to] = key;
            sorted_order[to] = order ? order[at] : at;
        }
        __syncthreads();
    }
}
