// Rearrangements that copy: parts joined, and every kind of copy in which a dimension's places are a function of the
// result's (flip, roll, repeat, pad); and the gradient of padding.  What only moves numbers is written for their size.

// ---- parts one after the other ----------------------------------------------------------------------------------------

enum { MOST_PARTS = 32 };

// count parts; part p fills the columns start[p] to start[p + 1] of every row
struct Parts {
    int count, start[MOST_PARTS + 1];
    const void* part[MOST_PARTS];
};

// output    (rows, width), whose columns from `first` on are filled
// part[p]   (rows, start[p + 1] - start[p])
#define CAT_KERNEL(T)                                                                                            \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    cat_##T(T* output, Parts parts, int first, int width, int count) {                                           \
        const unsigned columns = parts.start[parts.count];                                                       \
        FOR_EACH(i, count) {                                                                                     \
            const unsigned row = i / columns, column = i - row * columns;                                        \
            int low = 0, high = parts.count - 1;                                                                 \
            while (low < high) { /* the last part that starts at this column or before */                        \
                const int middle = (low + high + 1) / 2;                                                         \
                if (column >= parts.start[middle]) low = middle;                                                 \
                else high = middle - 1;                                                                          \
            }                                                                                                    \
            const unsigned start = parts.start[low], size = parts.start[low + 1] - start;                        \
            output[row * (i64)width + first + column] =                                                          \
                static_cast<const T*>(parts.part[low])[row * (i64)size + column - start];                        \
        }                                                                                                        \
    }
FOR_BITS(CAT_KERNEL)

// ---- places that are a function of the result's places ------------------------------------------------------------------

enum Mode { PLAIN, FLIP, WRAP, REFLECT, REPLICATE, CONSTANT };  // in the order of minidl/_devices/cuda/shape.py

// size of the result and of the input, the input's strides in numbers; place = index + shift, brought back by the mode
struct Rearrangement {
    int ndim, size[MOST_DIMS], input_size[MOST_DIMS], shift[MOST_DIMS], mode[MOST_DIMS];
    i64 stride[MOST_DIMS];
};

// The place in a dimension of `size`; -1 where there is none.
__device__ __forceinline__ int source_place(int place, int size, int mode) {
    switch (mode) {
        case FLIP: return size - 1 - place;
        case WRAP:
            place %= size;
            return place < 0 ? place + size : place;
        case REFLECT: return size - 1 - abs(size - 1 - abs(place));
        case REPLICATE: return min(max(place, 0), size - 1);
        case CONSTANT: return place < size ? place : -1;
        default: return place;
    }
}

// output (count) without gaps, x as the rearrangement says; `number` where a place lies outside
#define REARRANGE_KERNEL(T)                                                                                      \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    rearrange_##T(T* output, const T* x, u64 number, Rearrangement to, int count) {                              \
        FOR_EACH(i, count) {                                                                                     \
            unsigned left = i;                                                                                   \
            i64 offset = 0;                                                                                      \
            bool inside = true;                                                                                  \
            _Pragma("unroll") for (int dim = MOST_DIMS - 1; dim >= 0; --dim) {                                   \
                if (dim >= to.ndim) continue;                                                                    \
                const unsigned size = to.size[dim], outer = left / size;                                         \
                const int index = left - outer * size;                                                           \
                const int place = source_place(index + to.shift[dim], to.input_size[dim], to.mode[dim]);         \
                left = outer;                                                                                    \
                inside = inside && place >= 0;                                                                   \
                offset += place * to.stride[dim];                                                                \
            }                                                                                                    \
            output[i] = inside ? x[offset] : T(number);                                                          \
        }                                                                                                        \
    }
FOR_BITS(REARRANGE_KERNEL)

// ---- the gradient of padding one dimension ------------------------------------------------------------------------------

// grad_input   (outer, size, inner)
// grad_output  (outer, before + size + after, inner)
// Each thread sums what came from its number: its own place, then those before the input, then those behind it.
#define PAD_BACKWARD_KERNEL(T)                                                                                   \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
    pad_backward_##T(T* grad_input, const T* grad_output, int size, int inner, int before, int after, int mode,  \
                     int count) {                                                                                \
        FOR_EACH(i, count) {                                                                                     \
            const unsigned row = i / inner, column = i - row * inner, outer = row / size;                        \
            const int at = row - outer * size;                                                                   \
            const T* grad = grad_output + outer * (i64)(before + size + after) * inner + column;                 \
            T sum = grad[(i64)(before + at) * inner];                                                            \
            int first = before, last = -1, first_behind = after, last_behind = -1;                               \
            if (mode == REFLECT) {                                                                               \
                first = last = before - at;                                                                      \
                first_behind = last_behind = size - 2 - at;                                                      \
            } else if (mode == WRAP) {                                                                           \
                first = last = at - (size - before);                                                             \
                first_behind = last_behind = at;                                                                 \
            } else {                                                                                             \
                if (at == 0) first = 0, last = before - 1;                                                       \
                if (at == size - 1) first_behind = 0, last_behind = after - 1;                                   \
            }                                                                                                    \
            for (int place = max(first, 0); place <= min(last, before - 1); ++place) {                           \
                sum += grad[(i64)place * inner];                                                                 \
            }                                                                                                    \
            for (int place = max(first_behind, 0); place <= min(last_behind, after - 1); ++place) {              \
                sum += grad[(i64)(before + size + place) * inner];                                               \
            }                                                                                                    \
            grad_input[i] = sum;                                                                                 \
        }                                                                                                        \
    }
FOR_FLOATS(PAD_BACKWARD_KERNEL)
