// Tensor cores and asynchronous copies: the only inline PTX.  From sm_80 on.

#ifdef MINIDL_EMULATED

__device__ __forceinline__ unsigned to_tf32(f32 x) { return __float_as_uint(emulated_round_to_tf32(x)); }
__device__ __forceinline__ void mma_tf32(f32 (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    emulated_mma_m16n8k8_tf32(d, a, b, d);
}
template <int BYTES>
__device__ __forceinline__ void copy_async(f32* to, const f32* from, bool inside) {
    emulated_copy_async(to, from, BYTES, inside ? BYTES : 0);
}
__device__ __forceinline__ void copy_async_commit() { emulated_copy_async_commit(); }
template <int GROUPS>
__device__ __forceinline__ void copy_async_wait() {
    emulated_copy_async_wait(GROUPS);
}

#else

// x rounded to the nearest number of ten bits behind the point, ties away from zero
__device__ __forceinline__ unsigned to_tf32(f32 x) {
    unsigned rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
    return rounded;
}

// d (16, 8) += a (16, 8) @ b (8, 8) by a warp.  With group = lane / 4 and q = lane % 4, a thread holds
//   a: (group, q), (group + 8, q), (group, q + 4), (group + 8, q + 4)      b: (q, group), (q + 4, group)
//   d: (group, 2 * q), (group, 2 * q + 1), (group + 8, 2 * q), (group + 8, 2 * q + 1)
__device__ __forceinline__ void mma_tf32(f32 (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Begin to copy BYTES (4 or 16) from device memory to shared memory, or to fill them with zeros where it is not `inside`;
// then `from` is not read.
template <int BYTES>
__device__ __forceinline__ void copy_async(f32* to, const f32* from, bool inside) {
    const unsigned shared = (unsigned)__cvta_generic_to_shared(to);
    const int bytes = inside ? BYTES : 0;
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(from), "r"(bytes) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared), "l"(from), "r"(bytes) : "memory");
}
// The copies begun since the last commit are one group.
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Wait until at most GROUPS groups of this thread are still under way.
template <int GROUPS>
__device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
}

#endif

// ---- a warp's part of a product of tiles in shared memory -----------------------------------------------------------

// A tile of ROWS rows and BK products, as (row, k) or as (k, row).  The lengths make the 32 numbers that a warp reads for an
// mma lie in 32 banks: 4 * row + k and 8 * k + row, modulo 32.
template <bool ALONG_K, int ROWS, int BK>
struct TensorTile {
    enum { LENGTH = ALONG_K ? BK + 4 : ROWS + 8, SIZE = ALONG_K ? ROWS * LENGTH : BK * LENGTH };

    __device__ __forceinline__ static int at(int row, int k) { return ALONG_K ? row * LENGTH + k : k * LENGTH + row; }
};

// sum (MM, MN) of 16 x 8 numbers each += the warp's rows of a_tile @ its columns of b_tile
template <class A, class B, int BK, int MM, int MN>
__device__ __forceinline__ void multiply_tf32(f32 (&sum)[MM][MN][4], const f32* a_tile, const f32* b_tile, int m, int n) {
    const int lane = threadIdx.x % 32, group = lane / 4, q = lane % 4;
#pragma unroll
    for (int k = 0; k < BK; k += 8) {
        unsigned a[MM][4], b[MN][2];
#pragma unroll
        for (int i = 0; i < MM; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j)
                a[i][j] = to_tf32(a_tile[A::at(m + 16 * i + group + j % 2 * 8, k + q + j / 2 * 4)]);
#pragma unroll
        for (int i = 0; i < MN; ++i)
#pragma unroll
            for (int j = 0; j < 2; ++j) b[i][j] = to_tf32(b_tile[B::at(n + 8 * i + group, k + q + 4 * j)]);
#pragma unroll
        for (int i = 0; i < MM; ++i)
#pragma unroll
            for (int j = 0; j < MN; ++j) mma_tf32(sum[i][j], a[i], b[j]);
    }
}
