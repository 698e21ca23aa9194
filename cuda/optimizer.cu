// Optimizer steps over many parameters in one launch.
//
// The parameters come as a table in the kernel's own arguments.  Each block takes CHUNK numbers of one parameter: the
// last row of the table whose first block is not past it.  Operations come in PyTorch's order, as in
// minidl/_devices/reference/optimizer.py.  What changes from step to step, learning rates and what follows from the
// number of the step, is the last argument: a recorded launch is repeated with another one.

enum { CHUNK = 1024, MOST_ROWS = 80 };

template <class T>
struct alignas(16) Four {
    T of[4];
};

template <class T>
struct SGDRow {
    T* parameter;
    const T* grad;
    T* buffer;  // null without momentum
    int size, first_block, first;  // first: the buffer is uninitialised
    int unused;
};

template <class T>
struct SGDTable {
    i64 rows;
    SGDRow<T> row[MOST_ROWS];
};

struct SGDRule {
    f64 lr, momentum, keep, weight_decay;  // keep = 1 - dampening
    int nesterov, maximize;
};

template <class T>
struct AdamRow {
    T* parameter;
    const T* grad;
    T* exp_avg;
    T* exp_avg_sq;
    T* largest;  // null without amsgrad
    int size, first_block;
};

template <class T>
struct AdamTable {
    i64 rows;
    AdamRow<T> row[MOST_ROWS];
};

struct AdamRule {
    f64 weight, beta2, keep, eps, weight_decay, shrink;  // weight = 1 - beta1, keep = 1 - beta2, shrink = 1 - lr * decay
    f64 step_size, root;                                 // lr / (1 - beta1**step), sqrt(1 - beta2**step)
    int decoupled, maximize;
};

template <class T>
__device__ __forceinline__ void sgd(const SGDRule& o, bool buffered, int first, T& parameter, T grad, T& buffer) {
    if (o.maximize) grad = -grad;
    if (o.weight_decay != 0) grad += T(o.weight_decay) * parameter;
    if (buffered) {
        buffer = first ? grad : T(o.momentum) * buffer + T(o.keep) * grad;
        grad = o.nesterov ? grad + T(o.momentum) * buffer : buffer;
    }
    parameter -= T(o.lr) * grad;
}

template <class T>
__device__ __forceinline__ void adam(const AdamRule& o, bool amsgrad, T& parameter, T grad, T& exp_avg, T& exp_avg_sq,
                                     T& largest) {
    if (o.maximize) grad = -grad;
    if (o.weight_decay != 0) {
        if (o.decoupled)
            parameter *= T(o.shrink);
        else
            grad += T(o.weight_decay) * parameter;
    }
    exp_avg = o.weight < 0.5 ? exp_avg + T(o.weight) * (grad - exp_avg) : grad - (grad - exp_avg) * T(1 - o.weight);
    exp_avg_sq = T(o.beta2) * exp_avg_sq + T(o.keep) * grad * grad;
    T second = exp_avg_sq;
    if (amsgrad) {
        if (second < largest) second = largest;
        largest = second;
    }
    parameter -= T(o.step_size) * exp_avg / (sqrt(second) / T(o.root) + T(o.eps));
}

// The row of the table that this block works for.
template <class Table>
__device__ __forceinline__ int row_of_block(const Table& table) {
    int low = 0, high = (int)table.rows - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (table.row[middle].first_block <= (int)blockIdx.x)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

// Whether all of these addresses (null counts) take four numbers at a time.
__device__ __forceinline__ bool aligned(const void* a, const void* b, const void* c, const void* d, const void* e) {
    return (((size_t)a | (size_t)b | (size_t)c | (size_t)d | (size_t)e) & 15) == 0;
}

// parameter, buffer (size,) of each row, changed in place; grad (size,)
//
// Each thread takes four neighbouring numbers, or in a last chunk and where addresses are odd, every 256th number.
template <class T>
__device__ __forceinline__ void sgd_kernel(const SGDTable<T>& table, const SGDRule& o) {
    const SGDRow<T> row = table.row[row_of_block(table)];
    const int begin = (blockIdx.x - row.first_block) * CHUNK, end = min(begin + CHUNK, row.size);
    if (end - begin == CHUNK && aligned(row.parameter, row.grad, row.buffer, nullptr, nullptr)) {
        const int i = begin + 4 * threadIdx.x;
        Four<T> parameter = *(const Four<T>*)(row.parameter + i), grad = *(const Four<T>*)(row.grad + i), buffer = {};
        if (row.buffer && !row.first) buffer = *(const Four<T>*)(row.buffer + i);
#pragma unroll
        for (int k = 0; k < 4; ++k) sgd(o, row.buffer, row.first, parameter.of[k], grad.of[k], buffer.of[k]);
        *(Four<T>*)(row.parameter + i) = parameter;
        if (row.buffer) *(Four<T>*)(row.buffer + i) = buffer;
        return;
    }
    for (int i = begin + threadIdx.x; i < end; i += blockDim.x) {
        T buffer = row.buffer && !row.first ? row.buffer[i] : T(0);
        sgd(o, row.buffer, row.first, row.parameter[i], row.grad[i], buffer);
        if (row.buffer) row.buffer[i] = buffer;
    }
}

// parameter, exp_avg, exp_avg_sq, largest (size,) of each row, changed in place; grad (size,)
template <class T>
__device__ __forceinline__ void adam_kernel(const AdamTable<T>& table, const AdamRule& o) {
    const AdamRow<T> row = table.row[row_of_block(table)];
    const int begin = (blockIdx.x - row.first_block) * CHUNK, end = min(begin + CHUNK, row.size);
    // Not in float64: four of its square roots and divisions at a time would spill registers.
    if (sizeof(T) == 4 && end - begin == CHUNK &&
        aligned(row.parameter, row.grad, row.exp_avg, row.exp_avg_sq, row.largest)) {
        const int i = begin + 4 * threadIdx.x;
        Four<T> parameter = *(const Four<T>*)(row.parameter + i), grad = *(const Four<T>*)(row.grad + i);
        Four<T> exp_avg = *(const Four<T>*)(row.exp_avg + i), exp_avg_sq = *(const Four<T>*)(row.exp_avg_sq + i);
        Four<T> largest = {};
        if (row.largest) largest = *(const Four<T>*)(row.largest + i);
#pragma unroll
        for (int k = 0; k < 4; ++k)
            adam(o, row.largest, parameter.of[k], grad.of[k], exp_avg.of[k], exp_avg_sq.of[k], largest.of[k]);
        *(Four<T>*)(row.parameter + i) = parameter;
        *(Four<T>*)(row.exp_avg + i) = exp_avg;
        *(Four<T>*)(row.exp_avg_sq + i) = exp_avg_sq;
        if (row.largest) *(Four<T>*)(row.largest + i) = largest;
        return;
    }
    for (int i = begin + threadIdx.x; i < end; i += blockDim.x) {
        T largest = row.largest ? row.largest[i] : T(0);
        adam(o, row.largest, row.parameter[i], row.grad[i], row.exp_avg[i], row.exp_avg_sq[i], largest);
        if (row.largest) row.largest[i] = largest;
    }
}

#define KERNELS(T)                                                                                       \
    extern "C" __global__ void __launch_bounds__(256)                                                    \
    sgd_step_##T(const __grid_constant__ SGDTable<T> table, const __grid_constant__ SGDRule rule) {      \
        sgd_kernel<T>(table, rule);                                                                      \
    }                                                                                                    \
    extern "C" __global__ void __launch_bounds__(256)                                                    \
    adam_step_##T(const __grid_constant__ AdamTable<T> table, const __grid_constant__ AdamRule rule) {   \
        adam_kernel<T>(table, rule);                                                                     \
    }
FOR_FLOATS(KERNELS)
