// What the kernels of gemm.cu and gemm_tf32.cu are told, and how they find their part.

// strides in numbers; *_vectors: 16 bytes at once can be read along the direction whose stride is 1
struct Gemm {
    i64 a_m, a_k, b_n, b_k;
    int M, N, K;
    int tiles_m, tiles_n, splits, k_of_split;
    int a_vectors, b_vectors, relu;
};

// The part of the whole that a block computes.
struct Place {
    int m0, n0, z, k0, k1;
    i64 output;     // where matrix z, or its part, begins in the output

    __device__ __forceinline__ Place(const Gemm& g, int BM, int BN) {
        int block = blockIdx.x;
        const int tiles = g.tiles_m * g.tiles_n;
        const int tile = block % tiles;
        block /= tiles;
        const int split = block % g.splits;
        z = block / g.splits;
        // Bands of eight tiles: neighbours in time read the same rows and columns, which then are in the cache.
        const int band = tile / (8 * g.tiles_n), first = 8 * band, height = min(8, g.tiles_m - first);
        const int inside = tile - first * g.tiles_n;
        m0 = (first + inside % height) * BM;
        n0 = inside / height * BN;
        k0 = split * g.k_of_split;
        k1 = min(g.K, k0 + g.k_of_split);
        output = ((i64)split * (gridDim.x / (tiles * g.splits)) + z) * g.M * g.N;
    }
};

template <class T>
__device__ __forceinline__ T finished(T sum, const T* bias, int n, int relu) {
    if (bias) sum += bias[n];
    return relu && sum <= T(0) ? T(0) : sum;
}
