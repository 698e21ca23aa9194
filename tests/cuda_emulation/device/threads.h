// What threads do together: barriers, and the operations of a warp.
#pragma once

// A call's place in the file: a running number, and the line for messages.
#define EMULATED_SITE ((uint64_t)__COUNTER__ << 20 | __LINE__)
#define __syncthreads() ((void)emulated_barrier(EMULATED_SITE, BARRIER_PLAIN, 0))
#define __syncthreads_count(predicate) emulated_barrier(EMULATED_SITE, BARRIER_COUNT, (predicate))
#define __syncthreads_and(predicate) emulated_barrier(EMULATED_SITE, BARRIER_AND, (predicate))
#define __syncthreads_or(predicate) emulated_barrier(EMULATED_SITE, BARRIER_OR, (predicate))

// Memory is the same for all threads at once.
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}

static inline unsigned __activemask() { return emulated_live_lanes(); }

static inline void emulated_nothing(unsigned, void**) {}
static inline void __syncwarp(unsigned mask = 0xffffffffu) { emulated_warp_operation(mask, emulated_nothing, nullptr); }

// ---- shuffles

enum ShuffleKind { SHUFFLE_INDEX, SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_XOR };

template <class T>
struct ShuffleLane {
    T value, result;
    int source;  // -1: keep the own value
};

// A lane that reads from one which has returned gets NaN: on a GPU the value is undefined.
template <class T, ShuffleKind KIND>
static void emulated_shuffle(unsigned mask, void** lanes) {
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        auto lane = static_cast<ShuffleLane<T>*>(lanes[__builtin_ctz(rest)]);
        if (lane->source < 0) lane->result = lane->value;
        else if (auto source = static_cast<ShuffleLane<T>*>(lanes[lane->source])) lane->result = source->value;
        else memset((void*)&lane->result, 0xff, sizeof lane->result);
    }
}

template <ShuffleKind KIND, class T>
static inline T emulated_shuffled(unsigned mask, T value, int source) {
    ShuffleLane<T> lane{value, value, source};
    emulated_warp_operation(mask, emulated_shuffle<T, KIND>, &lane);
    return lane.result;
}

template <class T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    int segment = emulated_lane() & ~(width - 1);
    return emulated_shuffled<SHUFFLE_INDEX>(mask, value, segment + (source & (width - 1)));
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    int lane = emulated_lane(), place = lane & (width - 1);
    return emulated_shuffled<SHUFFLE_UP>(mask, value, place >= int(delta) ? lane - int(delta) : -1);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    int lane = emulated_lane(), place = lane & (width - 1);
    return emulated_shuffled<SHUFFLE_DOWN>(mask, value, place + int(delta) < width ? lane + int(delta) : -1);
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
    int lane = emulated_lane(), source = lane ^ bits;
    bool later_segment = (source & ~(width - 1)) > (lane & ~(width - 1));
    return emulated_shuffled<SHUFFLE_XOR>(mask, value, later_segment ? -1 : source);
}

// ---- votes

struct VoteLane {
    bool predicate;
    unsigned ballot;
};

static void emulated_vote(unsigned mask, void** lanes) {
    unsigned ballot = 0;
    for (int i = 0; i < 32; ++i)
        if (mask >> i & 1 && static_cast<VoteLane*>(lanes[i])->predicate) ballot |= 1u << i;
    for (int i = 0; i < 32; ++i)
        if (mask >> i & 1) static_cast<VoteLane*>(lanes[i])->ballot = ballot;
}

static inline unsigned __ballot_sync(unsigned mask, int predicate) {
    VoteLane lane{predicate != 0, 0};
    emulated_warp_operation(mask, emulated_vote, &lane);
    return lane.ballot;
}
static inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
static inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

// ---- reductions: the result replaces every lane's value

struct AddOperation { template <class T> static T combine(T a, T b) { return a + b; } };
struct MinOperation { template <class T> static T combine(T a, T b) { return b < a ? b : a; } };
struct MaxOperation { template <class T> static T combine(T a, T b) { return a < b ? b : a; } };
struct AndOperation { template <class T> static T combine(T a, T b) { return a & b; } };
struct OrOperation { template <class T> static T combine(T a, T b) { return a | b; } };
struct XorOperation { template <class T> static T combine(T a, T b) { return a ^ b; } };

template <class T, class Operation>
static void emulated_reduction(unsigned mask, void** lanes) {
    T result = *static_cast<T*>(lanes[__builtin_ctz(mask)]);
    for (unsigned rest = mask & (mask - 1); rest; rest &= rest - 1)
        result = Operation::combine(result, *static_cast<T*>(lanes[__builtin_ctz(rest)]));
    for (unsigned rest = mask; rest; rest &= rest - 1) *static_cast<T*>(lanes[__builtin_ctz(rest)]) = result;
}

#define EMULATED_REDUCTION(NAME, OPERATION)                                    \
    template <class T>                                                         \
    static inline T NAME(unsigned mask, T value) {                             \
        emulated_warp_operation(mask, emulated_reduction<T, OPERATION>, &value); \
        return value;                                                          \
    }
EMULATED_REDUCTION(__reduce_add_sync, AddOperation)
EMULATED_REDUCTION(__reduce_min_sync, MinOperation)
EMULATED_REDUCTION(__reduce_max_sync, MaxOperation)
EMULATED_REDUCTION(__reduce_and_sync, AndOperation)
EMULATED_REDUCTION(__reduce_or_sync, OrOperation)
EMULATED_REDUCTION(__reduce_xor_sync, XorOperation)

// ---- asynchronous copies, by <cuda_pipeline.h>'s names

static inline void __pipeline_memcpy_async(void* to, const void* from, size_t bytes, size_t zeros = 0) {
    emulated_copy_async(to, from, unsigned(bytes), unsigned(bytes - zeros));
}
static inline void __pipeline_commit() { emulated_copy_async_commit(); }
static inline void __pipeline_wait_prior(int groups) { emulated_copy_async_wait(groups); }
