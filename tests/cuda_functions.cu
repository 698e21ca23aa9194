// Kernels that use much of CUDA C's functions, for the tests of the emulated GPU (test_cuda_emulation.py).

__constant__ float factors[4];
__device__ int calls;

template <class T>
__device__ T sum_over_block(T value) {
    __shared__ T partial[8], total;
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_down_sync(0xffffffffu, value, lanes);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
    __syncthreads();
    value = threadIdx.x < 8 ? partial[threadIdx.x] : T(0);
    if (threadIdx.x < 32)
        for (int lanes = 4; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
    if (threadIdx.x == 0) total = value;
    __syncthreads();
    return total;
}

extern "C" {

__global__ void scale_by_constant(float* x) {
    x[threadIdx.x] *= factors[threadIdx.x & 3];
    atomicAdd(&calls, 1);
}

// out (1), x (256)
__global__ void __launch_bounds__(256) sum_f32(float* out, const float* x) {
    const float sum = sum_over_block(__ldg(x + threadIdx.x));
    if (threadIdx.x == 0) *out = sum;
}
__global__ void __launch_bounds__(256) sum_f64(double* out, const double* x) {
    const double sum = sum_over_block(__ldg(x + threadIdx.x));
    if (threadIdx.x == 0) *out = sum;
}

// out (FUNCTIONS, n), x (n): each function of every number
__global__ void functions_f32(float* out, const float* x, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const float v = x[i];
    const float found[] = {expf(v), logf(fabsf(v)), tanhf(v), erff(v), expm1f(v), log1pf(fabsf(v)), rintf(v),
                           rsqrtf(fabsf(v)), sinf(v), fmaf(v, v, 1.0f), fmaxf(v, 0.5f), floorf(v), powf(fabsf(v), 1.5f)};
    for (int f = 0; f < 13; ++f) out[f * n + i] = found[f];
}
__global__ void functions_f64(double* out, const double* x, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const double v = x[i];
    const double found[] = {exp(v), log(fabs(v)), tanh(v), erf(v), expm1(v), log1p(fabs(v)), rint(v),
                            rsqrt(fabs(v)), sin(v), fma(v, v, 1.0), fmax(v, 0.5), floor(v), pow(fabs(v), 1.5)};
    for (int f = 0; f < 13; ++f) out[f * n + i] = found[f];
}

// out (9): one thread
__global__ void integers(long long* out, unsigned a, unsigned long long b, int c) {
    out[0] = __popc(a);
    out[1] = __clz(c);
    out[2] = __ffs(c);
    out[3] = __umulhi(a, 0xD2511F53u);
    out[4] = (long long)__umul64hi(b, b);
    out[5] = __brev(a);
    out[6] = __float2int_rn(2.5f) + __float_as_int(1.0f);
    out[7] = isnan(NAN) && !isfinite(INFINITY) && min(c, 3) == 3 && max((long long)c, 3LL) == c;
    out[8] = (c << 3) % 7 + (c >> 1) * (a & 5) - c / 3;
}

// out (4, 64)
__global__ void votes(unsigned* out) {
    const int i = threadIdx.x;
    out[i] = __ballot_sync(0xffffffffu, i % 3 == 0);
    out[64 + i] = __any_sync(0xffffffffu, i == 40) * 2 + __all_sync(0xffffffffu, i < 32);
    unsigned up = __shfl_up_sync(0xffffffffu, i, 1, 8);
    out[128 + i] = up + __shfl_sync(0xffffffffu, i, 5, 16) * 100;
    __syncwarp();
    out[192 + i] = __syncthreads_count(i < 10) * 1000 + __syncthreads_or(i == 63) * 10 + __syncthreads_and(i < 63);
}

// out (2): sums over all threads of the grid
__global__ void atomics(double* sum, unsigned long long* most) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(sum, 1.0);
    atomicMax(most, (unsigned long long)i);
}

struct Pair {
    int first;
    double second;
};
__global__ void by_value(double* out, Pair pair, float factor, unsigned char small, long long large) {
    out[0] = pair.first + pair.second * factor + small + large;
}

// out (n) = x reversed within each block, over dynamic shared memory
__global__ void reverse(float* out, const float* x) {
    extern __shared__ __align__(16) float values[];
    const int i = blockIdx.x * blockDim.x;
    values[threadIdx.x] = x[i + threadIdx.x];
    __syncthreads();
    out[i + threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}

}  // extern "C"

#if __CUDA_ARCH__ >= 800
#ifdef MINIDL_EMULATED
#define MMA_TF32(d, a, b, c) emulated_mma_m16n8k8_tf32(d, a, b, c)
#define COPY_ASYNC(to, from) emulated_copy_async(to, from, 16, 16)
#define COPY_ASYNC_COMMIT() emulated_copy_async_commit()
#define COPY_ASYNC_WAIT() emulated_copy_async_wait(0)
#else
__device__ __forceinline__ void MMA_TF32(float* d, const unsigned* a, const unsigned* b, const float* c) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%10,%11,%12,%13};"
                 : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]),
                   "f"(c[3]));
}
__device__ __forceinline__ void COPY_ASYNC(void* to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from));
}
#define COPY_ASYNC_COMMIT() asm volatile("cp.async.commit_group;")
#define COPY_ASYNC_WAIT() asm volatile("cp.async.wait_group 0;" ::: "memory")
#endif

// c (16, 8) = a (16, 8) b (8, 8), one warp, through shared memory; a copy that is not waited for leaves NaN there
extern "C" __global__ void multiply_tiles(float* c, const float* a, const float* b, int wait) {
    __shared__ __align__(16) float as[16 * 8], bs[8 * 8];
    const int lane = threadIdx.x, group = lane >> 2, place = lane & 3;
    COPY_ASYNC(as + 4 * lane, a + 4 * lane);
    if (lane < 16) COPY_ASYNC(bs + 4 * lane, b + 4 * lane);
    COPY_ASYNC_COMMIT();
    if (wait) COPY_ASYNC_WAIT();
    __syncthreads();
    unsigned x[4], y[2];
    for (int i = 0; i < 4; ++i) x[i] = __float_as_uint(as[(group + i % 2 * 8) * 8 + place + i / 2 * 4]);
    for (int i = 0; i < 2; ++i) y[i] = __float_as_uint(bs[(place + i * 4) * 8 + group]);
    float d[4] = {};
    MMA_TF32(d, x, y, d);
    for (int i = 0; i < 4; ++i) c[(group + i / 2 * 8) * 8 + place * 2 + i % 2] = d[i];
}
#endif
