// What translated PTX needs besides CUDA C's functions (compiler/ptx_instructions.py writes the calls).
#pragma once

static inline void check_aligned(const void* pointer, unsigned bytes) {
    if ((uintptr_t)pointer & (bytes - 1)) emulated_trap("a misaligned access");
}

// The shared space has addresses of its own, of 32 bits: static arrays from 0, the dynamic one from here.
constexpr uint32_t DYNAMIC_SHARED = 0x40000000;

static inline char* shared_at(char* shared_memory, char* dynamic_memory, uint64_t address) {
    uint32_t narrow = uint32_t(address);
    return narrow >= DYNAMIC_SHARED / 2 ? dynamic_memory + int32_t(narrow - DYNAMIC_SHARED) : shared_memory + narrow;
}
static inline uint64_t shared_address(char* shared_memory, char* dynamic_memory, uint64_t pointer) {
    uint64_t into_dynamic = pointer - (uint64_t)dynamic_memory;
    return into_dynamic < (1 << 20) ? DYNAMIC_SHARED + into_dynamic : pointer - (uint64_t)shared_memory;
}

template <class T>
static inline T insert_bits(T source, T into, unsigned position, unsigned length) {
    constexpr unsigned WIDTH = sizeof(T) * 8;
    position &= 255, length &= 255;
    if (position >= WIDTH || !length) return into;
    T ones = length >= WIDTH ? ~T(0) : T((T(1) << length) - 1), mask = T(ones << position);
    return T((into & ~mask) | ((source << position) & mask));
}

// Places above the highest bit read as the sign of a signed number, as 0 of an unsigned one.
template <class T>
static inline T extract_bits(T source, unsigned position, unsigned length) {
    constexpr unsigned WIDTH = sizeof(T) * 8;
    position &= 255, length &= 255;
    if (!length) return 0;
    bool negative = std::is_signed_v<T> && source >> (position + length > WIDTH ? WIDTH - 1 : position + length - 1) & 1;
    T fill = negative ? T(~T(0)) : T(0), moved = position < WIDTH ? T(source >> position) : fill;
    if (length >= WIDTH) return moved;
    T mask = T((T(1) << length) - 1);
    return T((moved & mask) | (fill & T(~mask)));
}

template <class T>
static inline T add_with_carry(T a, T b, unsigned taken, unsigned& left) {
    unsigned __int128 sum = (unsigned __int128)a + b + taken;
    left = unsigned(sum >> 8 * sizeof(T) & 1);
    return T(sum);
}
template <class T>
static inline T subtract_with_carry(T a, T b, unsigned taken, unsigned& left) {
    unsigned __int128 difference = (unsigned __int128)a - b - taken;
    left = unsigned(difference >> 8 * sizeof(T) & 1);
    return T(difference);
}

static inline uint32_t permute_bytes(uint32_t x, uint32_t y, uint32_t selector) {
    uint64_t bytes = uint64_t(y) << 32 | x;
    uint32_t result = 0;
    for (int i = 0; i < 4; ++i) {
        uint32_t choice = selector >> 4 * i & 15, byte = uint32_t(bytes >> 8 * (choice & 7) & 255);
        result |= (choice & 8 ? (byte & 128 ? 255 : 0) : byte) << 8 * i;
    }
    return result;
}

static inline uint32_t logic_of_three(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
    uint32_t result = 0;
    for (int row = 0; row < 8; ++row)
        if (table >> row & 1) result |= (row & 4 ? a : ~a) & (row & 2 ? b : ~b) & (row & 1 ? c : ~c);
    return result;
}

// shfl.sync: `clamp` holds the last lane of a segment and, eight bits higher, which bits of a lane name its segment.
struct ShuffleBounds {
    int lane, first, last;
    ShuffleBounds(uint32_t clamp) : lane(emulated_lane()) {
        int segment = clamp >> 8 & 31;
        first = lane & segment;
        last = first | (int(clamp & 31) & ~segment);
    }
};

template <ShuffleKind KIND>
static inline uint32_t shuffle_from(uint32_t mask, uint32_t value, int source, bool valid) {
    return emulated_shuffled<KIND>(mask, value, valid ? source : -1);
}
static inline uint32_t shuffle_bfly(uint32_t value, uint32_t bits, uint32_t clamp, uint32_t mask, bool& valid) {
    ShuffleBounds bounds(clamp);
    int source = bounds.lane ^ int(bits & 31);
    return shuffle_from<SHUFFLE_XOR>(mask, value, source, valid = source <= bounds.last);
}
static inline uint32_t shuffle_down(uint32_t value, uint32_t delta, uint32_t clamp, uint32_t mask, bool& valid) {
    ShuffleBounds bounds(clamp);
    int source = bounds.lane + int(delta & 31);
    return shuffle_from<SHUFFLE_DOWN>(mask, value, source, valid = source <= bounds.last);
}
static inline uint32_t shuffle_up(uint32_t value, uint32_t delta, uint32_t clamp, uint32_t mask, bool& valid) {
    ShuffleBounds bounds(clamp);
    int source = bounds.lane - int(delta & 31);
    return shuffle_from<SHUFFLE_UP>(mask, value, source, valid = source >= bounds.last);
}
static inline uint32_t shuffle_idx(uint32_t value, uint32_t index, uint32_t clamp, uint32_t mask, bool& valid) {
    ShuffleBounds bounds(clamp);
    int source = bounds.first | (int(index & 31) & ~int(clamp >> 8 & 31));
    return shuffle_from<SHUFFLE_INDEX>(mask, value, source, valid = source <= bounds.last);
}
