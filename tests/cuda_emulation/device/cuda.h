// CUDA C as C++: included before every kernel file, so that g++ compiles it as it stands.  Threads of a block are fibers
// of the driver; whatever needs other threads goes through runtime.h.
#pragma once
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <limits>
#include <type_traits>
#include <utility>

#include "runtime.h"

#define MINIDL_EMULATED 1

// Words of CUDA C.  compiler/source_route.py also registers each __shared__ array, and rewrites `extern __shared__`.
#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static
#define __managed__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __builtin_assume(condition) ((void)0)

#define threadIdx emulated_thread_index
#define blockIdx emulated_block_index
#define blockDim emulated_block_size
#define gridDim emulated_grid_size
static constexpr int warpSize = 32;

struct SharedArray {
    template <class T>
    explicit SharedArray(T& array) {
        emulated_register_shared(&array, sizeof array);
    }
};

#undef assert
#define assert(condition) ((condition) ? (void)0 : emulated_trap("assert(" #condition ") failed"))
static inline void __trap() { emulated_trap("__trap()"); }
static inline void __nanosleep(unsigned) {}
static inline long long clock64() { return 0; }

#include "vector_types.h"

#include "bits.h"
#include "half.h"
#include "mathematics.h"
#include "threads.h"

#include "atomics.h"
#include "tensor_cores.h"

#include "kernel_record.h"
