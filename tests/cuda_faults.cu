// Kernels with a planted fault each, which the emulated GPU must catch (test_cuda_emulation_faults.py).

extern "C" {

// x (any): a thread writes its place, whether x reaches so far or not
__global__ void write_own_place(float* x) { x[blockIdx.x * blockDim.x + threadIdx.x] = 1.0f; }

__global__ void write_at(float* x, int i) { x[i] = 1.0f; }

__global__ void __launch_bounds__(128) at_most_128_threads(float* x) { x[0] = 1.0f; }

// x (32): the last thread is 8 places behind the end of the shared array
__global__ void shared_array_overrun(float* x, int shift) {
    __shared__ float s[32];
    s[threadIdx.x + shift] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = s[31 - threadIdx.x];
}

__global__ void dynamic_shared_overrun(float* x, int i) {
    extern __shared__ float s[];
    s[i] = 1.0f;
    __syncthreads();
    x[0] = s[i];
}

// x (blockDim): read before another thread has written
__global__ void missing_barrier(float* x) {
    __shared__ float s[256];
    s[threadIdx.x] = threadIdx.x;
    x[threadIdx.x] = s[255 - threadIdx.x];
}

__global__ void block_race(float* x) { x[0] = blockIdx.x; }

__global__ void divergent_barrier(float* x) {
    if (threadIdx.x < 16) {
        __syncthreads();
        x[1] = 1.0f;
    } else {
        x[0] = 1.0f;
        __syncthreads();
    }
}

__global__ void shuffle_without_all_lanes(float* x) {
    float v = threadIdx.x;
    if (threadIdx.x < 16) v = __shfl_down_sync(0xffffffffu, v, 1);
    else __syncthreads();
    x[threadIdx.x] = v;
}

// x (64): the last place of the shared array is never written
__global__ void uninitialized_shared(float* x) {
    __shared__ float s[64];
    if (threadIdx.x < 63) s[threadIdx.x] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x];
}

__global__ void misaligned_vector(const float* x, float* y) {
    const float4 v = *reinterpret_cast<const float4*>(x + 1);
    y[0] = v.x + v.y + v.z + v.w;
}

__global__ void failing_assertion(float* x, int n) {
    if (n != 3) __trap();
    x[0] = 1.0f;
}

__global__ void divide(int* x, int n) { x[0] = 100 / n; }

__global__ void copy_without_barrier(const float* x, float* y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = 2.0f * x[i];
}

}  // extern "C"
