// Reading and writing at computed places: arrays of indices, gather and scatter, sums over indices that repeat.
//
// A key of arrays has B positions: at position b, array k names the place index[k][b] along one dimension of x.  Its other
// dimensions, the rest, are taken whole.  An index outside its dimension touches no memory: it reads `missing` and writes
// nothing.  Where an index repeats, results do not depend on the order of threads: what is written is the last value, and
// sums are made by one thread (or warp) per place, in the order of the positions.

enum { MOST_PLACES = 8 };

// size of the dimension and stride in x, in numbers, of each array of indices; wraps: negative ones count from the end
struct Places {
    int count, wraps, size[MOST_PLACES];
    i64 stride[MOST_PLACES];
    const i64* index[MOST_PLACES];
};

// The index of array k at position b, or -1 where it lies outside.
__device__ __forceinline__ i64 index_at(const Places& places, int k, i64 b) {
    const i64 size = places.size[k];
    i64 index = places.index[k][b];
    if (index < 0 && places.wraps) index += size;
    return index < size && index >= 0 ? index : -1;
}

// How far into x position b leads; -1 where it leads outside.
__device__ __forceinline__ i64 place_of(const Places& places, i64 b) {
    i64 offset = 0;
    for (int k = 0; k < places.count; ++k) {
        const i64 index = index_at(places, k, b);
        if (index < 0) return -1;
        offset += index * places.stride[k];
    }
    return offset;
}

// keys (B): one number for each combination of places, `outside` where there is none
extern "C" __global__ void __launch_bounds__(256) index_keys(int* keys, Places places, int outside, int count) {
    FOR_EACH(b, count) {
        i64 key = 0;
        for (int k = 0; k < places.count && key >= 0; ++k) {
            const i64 index = index_at(places, k, b);
            key = index < 0 ? -1 : key * places.size[k] + index;
        }
        keys[b] = key < 0 ? outside : key;
    }
}

// winner (keys): the last position that has this key; -1 to begin with
extern "C" __global__ void __launch_bounds__(256) mark_winners(int* winner, const int* keys, int count) {
    FOR_EACH(b, count) { atomicMax(&winner[keys[b]], (int)b); }
}

// Whether position b is the last one with its key: by a table, or by a look at those that follow; without keys it is.
__device__ __forceinline__ bool is_last(const int* keys, const int* winner, int b, int positions) {
    if (!keys) return true;
    if (winner) return winner[keys[b]] == b;
    for (int other = b + 1; other < positions; ++other) {
        if (keys[other] == keys[b]) return false;
    }
    return true;
}

// output, x, position   shown in the shape of the result; operands 0, 1 (without the dimensions of the key), 2
// values, x, position   the same for what is written
#define INDEX_KERNELS(T)                                                                                         \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    index_##T(T* output, const T* x, u64 missing, Layout layout, Places places, int count) {                     \
        FOR_EACH(i, count) {                                                                                     \
            i64 offset[3];                                                                                       \
            place(layout, i, offset);                                                                            \
            const i64 at = place_of(places, offset[2]);                                                          \
            output[offset[0]] = at < 0 ? T(missing) : x[offset[1] + at];                                         \
        }                                                                                                        \
    }                                                                                                            \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    index_put_##T(T* x, const T* values, u64 number, const int* keys, const int* winner, int positions,          \
                  Layout layout, Places places, int count) {                                                     \
        FOR_EACH(i, count) {                                                                                     \
            i64 offset[3];                                                                                       \
            place(layout, i, offset);                                                                            \
            const i64 at = place_of(places, offset[2]);                                                          \
            if (at < 0 || !is_last(keys, winner, offset[2], positions)) continue;                                \
            x[offset[1] + at] = values ? values[offset[0]] : T(number);                                          \
        }                                                                                                        \
    }
FOR_BITS(INDEX_KERNELS)

// ---- gather and scatter -------------------------------------------------------------------------------------------------

// output, index, x      (gather) shown in the shape of the index; operands 0, 1, 2 (without dimension `dim`)
// output, index, source, coordinate along `dim`   (scatter) shown in the shape of x but for `index` and `source`, which have
//                       n entries along `dim` and stand at the first; x lies as output does
#define GATHER_KERNELS(T)                                                                                        \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    gather_##T(T* output, const T* x, const i64* index, i64 stride, int size, u64 missing, Layout layout,        \
               int count) {                                                                                      \
        FOR_EACH(i, count) {                                                                                     \
            i64 offset[3];                                                                                       \
            place(layout, i, offset);                                                                            \
            const i64 at = index[offset[1]];                                                                     \
            output[offset[0]] = at >= 0 && at < size ? x[offset[2] + at * stride] : T(missing);                  \
        }                                                                                                        \
    }                                                                                                            \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    scatter_##T(T* output, const T* x, const i64* index, const T* source, u64 number, int n, i64 index_step,     \
                i64 source_step, Layout layout, int count) {                                                     \
        FOR_EACH(i, count) {                                                                                     \
            i64 offset[4];                                                                                       \
            place(layout, i, offset);                                                                            \
            int last = n - 1;                                                                                    \
            while (last >= 0 && index[offset[1] + last * index_step] != offset[3]) --last;                       \
            output[offset[0]] = last < 0 ? x[offset[0]]                                                          \
                                : source ? source[offset[2] + last * source_step] : T(number);                   \
        }                                                                                                        \
    }                                                                                                            \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    scatter_winners_##T(T* output, const int* keys, const int* winner, const T* source, u64 number, int outside, \
                        int count) {                                                                             \
        FOR_EACH(b, count) {                                                                                     \
            const int key = keys[b];                                                                             \
            if (key != outside && winner[key] == b) output[key] = source ? source[b] : T(number);                \
        }                                                                                                        \
    }
FOR_BITS(GATHER_KERNELS)

#define SCATTER_ADD_KERNEL(T)                                                                                    \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    scatter_add_##T(T* output, const T* x, const i64* index, const T* source, Number<T> number, int n,           \
                    i64 index_step, i64 source_step, Layout layout, int count) {                                 \
        FOR_EACH(i, count) {                                                                                     \
            i64 offset[4];                                                                                       \
            place(layout, i, offset);                                                                            \
            T sum = x[offset[0]];                                                                                \
            for (int each = 0; each < n; ++each) {                                                               \
                if (index[offset[1] + each * index_step] != offset[3]) continue;                                 \
                sum = T(sum + (source ? source[offset[2] + each * source_step] : T(number)));                    \
            }                                                                                                    \
            output[offset[0]] = sum;                                                                             \
        }                                                                                                        \
    }
FOR_ALL(SCATTER_ADD_KERNEL)

// keys, index, output   shown in the shape of the index; operands 0, 1, 2 (without dimension `dim`, which has this stride)
extern "C" __global__ void __launch_bounds__(256)
scatter_keys(int* keys, const i64* index, i64 stride, int size, int outside, Layout layout, int count) {
    FOR_EACH(i, count) {
        i64 offset[3];
        place(layout, i, offset);
        const i64 at = index[offset[1]];
        keys[offset[0]] = at >= 0 && at < size ? offset[2] + at * stride : outside;
    }
}

// ---- sums over positions whose keys are equal -----------------------------------------------------------------------------

// x        the rest shown in the layout, at the place of the position (without places: at its key)
// values   (positions, rest)
// keys     (positions), or null where no two are equal
// Each thread has a position and a number of the rest; the first of equal positions sums them all.
#define INDEX_ADD_KERNEL(T)                                                                                      \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    index_add_##T(T* x, const T* values, const int* keys, int outside, int positions, int rest, Layout layout,   \
                  Places places, int count) {                                                                    \
        FOR_EACH(i, count) {                                                                                     \
            const int b = i / rest, r = i - b * rest, key = keys ? keys[b] : 0;                                  \
            const i64 at = places.count ? place_of(places, b) : key == outside ? -1 : key;                       \
            bool first = at >= 0;                                                                                \
            if (keys) {                                                                                          \
                for (int other = 0; other < b && first; ++other) first = keys[other] != key;                     \
            }                                                                                                    \
            if (!first) continue;                                                                                \
            T sum = values[i];                                                                                   \
            if (keys) {                                                                                          \
                for (int other = b + 1; other < positions; ++other) {                                            \
                    if (keys[other] == key) sum = T(sum + values[other * (i64)rest + r]);                        \
                }                                                                                                \
            }                                                                                                    \
            i64 offset[1];                                                                                       \
            place(layout, r, offset);                                                                            \
            x[at + offset[0]] = T(x[at + offset[0]] + sum);                                                      \
        }                                                                                                        \
    }
FOR_ALL(INDEX_ADD_KERNEL)

// The same for keys that were sorted, `order` telling where they stood.  A warp has a position of the sorted keys and sums
// the run that begins there, if one does: `across` of its lanes (a power of two) share the rest, the others the run.
#define SEGMENT_ADD_KERNEL(T)                                                                                    \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    segment_add_##T(T* x, const T* values, const int* keys, const int* order, int outside, int positions,        \
                    int rest, int across, Layout layout, Places places) {                                        \
        const int lane = threadIdx.x % 32, warps = gridDim.x * (blockDim.x / 32);                                \
        const int column = lane % across, row = lane / across, rows = 32 / across;                               \
        for (int begin = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; begin < positions; begin += warps) { \
            const int key = keys[begin];                                                                         \
            if (key == outside || (begin && keys[begin - 1] == key)) continue;                                   \
            const i64 at = places.count ? place_of(places, order[begin]) : key;                                  \
            int end = begin + 1;                                                                                 \
            while (true) {                                                                                       \
                const bool same = end + lane < positions && keys[end + lane] == key;                             \
                const unsigned all = __ballot_sync(0xffffffffu, same);                                           \
                end += __popc(all);                                                                              \
                if (all != 0xffffffffu) break;                                                                   \
            }                                                                                                    \
            for (int first = 0; first < rest; first += across) {                                                 \
                const int r = first + column;                                                                    \
                T sum = 0, part = 0; /* in parts of 32: the rounding errors of a long sum stay small */          \
                if (r < rest) {                                                                                  \
                    for (int each = begin + row, n = 1; each < end; each += rows, ++n) {                         \
                        part = T(part + values[order[each] * (i64)rest + r]);                                    \
                        if (n % 32 == 0) sum = T(sum + part), part = 0;                                          \
                    }                                                                                            \
                }                                                                                                \
                sum = T(sum + part);                                                                             \
                for (int lanes = 16; lanes >= across; lanes /= 2) {                                              \
                    sum = T(sum + __shfl_down_sync(0xffffffffu, sum, lanes));                                    \
                }                                                                                                \
                if (row || r >= rest) continue;                                                                  \
                i64 offset[1];                                                                                   \
                place(layout, r, offset);                                                                        \
                x[at + offset[0]] = T(x[at + offset[0]] + sum);                                                  \
            }                                                                                                    \
        }                                                                                                        \
    }
FOR_ALL(SEGMENT_ADD_KERNEL)
