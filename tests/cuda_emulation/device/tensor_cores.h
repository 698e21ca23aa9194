// Tensor cores: mma.sync in the register layout of the PTX manual, and wmma.
#pragma once

// As cvt.rna.tf32.f32 rounds, and as the unit reads a float that was not rounded before.
static inline float emulated_round_to_tf32(float x) {
    uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7f800000) != 0x7f800000) bits += 0x1000;
    return __uint_as_float(bits & 0xffffe000u);
}
static inline float emulated_read_as_tf32(float x) { return __uint_as_float(__float_as_uint(x) & 0xffffe000u); }

struct MmaLane {
    uint32_t a[4], b[2];
    float c[4], d[4];
};

// D (16, 8) = A (16, K) B (K, 8) + C.  Lane 4 * group + place holds rows group and group + 8 of A, C and D, and column
// group of B.
template <int K, class ReadA, class ReadB>
static inline void emulated_mma(void** lanes, ReadA read_a, ReadB read_b) {
    float a[16][K], b[K][8];
    for (int k = 0; k < K; ++k) {
        for (int row = 0; row < 16; ++row) a[row][k] = read_a(row, k);
        for (int column = 0; column < 8; ++column) b[k][column] = read_b(k, column);
    }
    for (int i = 0; i < 32; ++i) {
        auto lane = static_cast<MmaLane*>(lanes[i]);
        for (int j = 0; j < 4; ++j) {
            int row = (i >> 2) + (j >> 1) * 8, column = (i & 3) * 2 + (j & 1);
            float sum = lane->c[j];
            for (int k = 0; k < K; ++k) sum += a[row][k] * b[k][column];
            lane->d[j] = sum;
        }
    }
}

static void emulated_mma_tf32(unsigned, void** lanes) {
    auto lane = [&](int group, int place) { return static_cast<MmaLane*>(lanes[group * 4 + place]); };
    auto read = [](uint32_t bits) { return emulated_read_as_tf32(__uint_as_float(bits)); };
    emulated_mma<8>(
        lanes, [&](int row, int k) { return read(lane(row & 7, k & 3)->a[(row >> 3) + 2 * (k >> 2)]); },
        [&](int k, int column) { return read(lane(column, k & 3)->b[k >> 2]); });
}

static void emulated_mma_f16(unsigned, void** lanes) {
    auto lane = [&](int group, int k) { return static_cast<MmaLane*>(lanes[group * 4 + ((k & 7) >> 1)]); };
    auto read = [](uint32_t pair, int k) { return emulated_half_to_float(uint16_t(k & 1 ? pair >> 16 : pair)); };
    emulated_mma<16>(
        lanes, [&](int row, int k) { return read(lane(row & 7, k)->a[(row >> 3) + 2 * (k >> 3)], k); },
        [&](int k, int column) { return read(lane(column, k)->b[k >> 3], k); });
}

static inline void emulated_mma_sync(WarpOperation operation, float* d, const uint32_t* a, const uint32_t* b,
                                     const float* c) {
    if (emulated_live_lanes() != 0xffffffffu) emulated_trap("mma.sync in a warp that lanes have left");
    MmaLane lane;
    memcpy(lane.a, a, sizeof lane.a);
    memcpy(lane.b, b, sizeof lane.b);
    memcpy(lane.c, c, sizeof lane.c);
    emulated_warp_operation(0xffffffffu, operation, &lane);
    memcpy(d, lane.d, sizeof lane.d);
}

// mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32
static inline void emulated_mma_m16n8k8_tf32(float* d, const uint32_t* a, const uint32_t* b, const float* c) {
    emulated_mma_sync(emulated_mma_tf32, d, a, b, c);
}
// mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32
static inline void emulated_mma_m16n8k16_f16(float* d, const uint32_t* a, const uint32_t* b, const float* c) {
    emulated_mma_sync(emulated_mma_f16, d, a, b, c);
}

// In a fragment lane l holds the elements l, l + 32, ... of the tile, row by row.
namespace nvcuda::wmma {

enum layout_t { mem_row_major, mem_col_major };
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
namespace precision {
struct tf32 {};
}

template <class Use, int M, int N, int K, class Number, class Layout = void>
struct fragment {
    typedef std::conditional_t<std::is_same_v<Number, precision::tf32>, float, Number> element_type;
    typedef element_type storage_element_type;
    static constexpr int rows = std::is_same_v<Use, matrix_b> ? K : M;
    static constexpr int columns = std::is_same_v<Use, matrix_a> ? K : N;
    static constexpr int num_elements = rows * columns / 32;
    element_type x[num_elements];

    static size_t offset(int i, unsigned stride, bool by_row) {
        int element = emulated_lane() + 32 * i, row = element / columns, column = element % columns;
        return by_row ? size_t(row) * stride + column : size_t(column) * stride + row;
    }
    float read(int i) const {
        float value = float(x[i]);
        return std::is_same_v<Number, precision::tf32> ? emulated_read_as_tf32(value) : value;
    }
};

template <class Fragment, class T>
static inline void fill_fragment(Fragment& fragment, T value) {
    for (auto& element : fragment.x) element = value;
}

template <class Use, int M, int N, int K, class Number, class Layout, class T>
static inline void load_matrix_sync(fragment<Use, M, N, K, Number, Layout>& to, const T* from, unsigned stride) {
    for (int i = 0; i < to.num_elements; ++i) to.x[i] = from[to.offset(i, stride, std::is_same_v<Layout, row_major>)];
    __syncwarp();
}
template <int M, int N, int K, class Number, class T>
static inline void load_matrix_sync(fragment<accumulator, M, N, K, Number>& to, const T* from, unsigned stride,
                                    layout_t layout) {
    for (int i = 0; i < to.num_elements; ++i) to.x[i] = from[to.offset(i, stride, layout == mem_row_major)];
    __syncwarp();
}
template <int M, int N, int K, class Number, class T>
static inline void store_matrix_sync(T* to, const fragment<accumulator, M, N, K, Number>& from, unsigned stride,
                                     layout_t layout) {
    for (int i = 0; i < from.num_elements; ++i) to[from.offset(i, stride, layout == mem_row_major)] = from.x[i];
    __syncwarp();
}

static inline float __float_to_tf32(float x) { return emulated_round_to_tf32(x); }

template <class D, class A, class B, class C>
struct ProductLane {
    D* d;
    const A* a;
    const B* b;
    const C* c;

    static void compute(unsigned, void** lanes) {
        auto of = [&](int element) { return static_cast<ProductLane*>(lanes[element % 32]); };
        for (int element = 0; element < D::rows * D::columns; ++element) {
            int row = element / D::columns, column = element % D::columns;
            float sum = of(element)->c->x[element / 32];
            for (int k = 0; k < A::columns; ++k) {
                int in_a = row * A::columns + k, in_b = k * B::columns + column;
                sum += of(in_a)->a->read(in_a / 32) * of(in_b)->b->read(in_b / 32);
            }
            of(element)->d->x[element / 32] = sum;
        }
    }
};

template <class D, class A, class B, class C>
static inline void mma_sync(D& d, const A& a, const B& b, const C& c) {
    ProductLane<D, A, B, C> lane{&d, &a, &b, &c};
    emulated_warp_operation(0xffffffffu, lane.compute, &lane);
}

}  // namespace nvcuda::wmma
using nvcuda::wmma::__float_to_tf32;
