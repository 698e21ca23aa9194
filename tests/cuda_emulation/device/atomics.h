// Atomics.  One OS thread runs everything, so that ordinary reads and writes are atomic; what depends on the order in
// which threads come shows when the orders of threads are changed.
#pragma once

#define EMULATED_ATOMIC(NAME, NEW)           \
    template <class T, class V>              \
    static inline T NAME(T* address, V given) { \
        T old = *address, value = T(given);  \
        *address = NEW;                      \
        return old;                          \
    }                                        \
    template <class T, class V>              \
    static inline T NAME##_block(T* address, V given) { return NAME(address, given); } \
    template <class T, class V>              \
    static inline T NAME##_system(T* address, V given) { return NAME(address, given); }
EMULATED_ATOMIC(atomicAdd, old + value)
EMULATED_ATOMIC(atomicSub, old - value)
EMULATED_ATOMIC(atomicMax, old < value ? value : old)
EMULATED_ATOMIC(atomicMin, value < old ? value : old)
EMULATED_ATOMIC(atomicExch, value)
EMULATED_ATOMIC(atomicAnd, old & value)
EMULATED_ATOMIC(atomicOr, old | value)
EMULATED_ATOMIC(atomicXor, old ^ value)
EMULATED_ATOMIC(atomicInc, old >= value ? T(0) : T(old + 1))
EMULATED_ATOMIC(atomicDec, old == 0 || old > value ? value : T(old - 1))

template <class T, class U, class V>
static inline T atomicCAS(T* address, U expected, V value) {
    T old = *address;
    if (old == T(expected)) *address = T(value);
    return old;
}
