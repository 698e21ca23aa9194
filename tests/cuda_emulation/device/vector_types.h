// float4 and its relatives, with CUDA's alignments.
#pragma once

#define EMULATED_VECTOR_TYPES(T, NAME, ALIGN2, ALIGN4)                                              \
    struct NAME##1 { T x; };                                                                        \
    struct alignas(ALIGN2) NAME##2 { T x, y; };                                                     \
    struct NAME##3 { T x, y, z; };                                                                  \
    struct alignas(ALIGN4) NAME##4 { T x, y, z, w; };                                               \
    static inline NAME##1 make_##NAME##1(T x) { return {x}; }                                       \
    static inline NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }                               \
    static inline NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; }                       \
    static inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }

EMULATED_VECTOR_TYPES(signed char, char, 2, 4)
EMULATED_VECTOR_TYPES(unsigned char, uchar, 2, 4)
EMULATED_VECTOR_TYPES(short, short, 4, 8)
EMULATED_VECTOR_TYPES(unsigned short, ushort, 4, 8)
EMULATED_VECTOR_TYPES(int, int, 8, 16)
EMULATED_VECTOR_TYPES(long long, longlong, 16, 16)
EMULATED_VECTOR_TYPES(unsigned long long, ulonglong, 16, 16)
EMULATED_VECTOR_TYPES(float, float, 8, 16)
EMULATED_VECTOR_TYPES(double, double, 16, 16)
struct uint1 { unsigned x; };
struct alignas(8) uint2 { unsigned x, y; };  // uint3 is in runtime.h
struct alignas(16) uint4 { unsigned x, y, z, w; };
static inline uint1 make_uint1(unsigned x) { return {x}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
