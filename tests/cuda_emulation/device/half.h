// Half precision and bfloat16: stored in 16 bits, computed in float.
#pragma once

static inline float emulated_half_to_float(uint16_t half) {
    uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 31, mantissa = half & 1023;
    if (exponent == 31) return emulated_bits<float>(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) return (sign ? -1 : 1) * float(mantissa) * 0x1p-24f;
    return emulated_bits<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

// To the nearest, of two equally near to the even one.
static inline uint16_t emulated_float_to_half(float x) {
    uint32_t bits = emulated_bits<uint32_t>(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return 0x7fff;
    if (magnitude >= 0x477ff000) return sign | 0x7c00;
    if (magnitude < 0x38800000) {  // subnormal: adding 0.5 rounds at the right bit
        float rounded = emulated_bits<float>(magnitude) + 0.5f;
        return sign | uint16_t(emulated_bits<uint32_t>(rounded) - 0x3f000000u);
    }
    magnitude += 0xc8000fff + (magnitude >> 13 & 1);
    return sign | uint16_t(magnitude >> 13);
}

static inline uint16_t emulated_float_to_bfloat16(float x) {
    uint32_t bits = emulated_bits<uint32_t>(x);
    if (x != x) return 0x7fff;
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

struct __half {
    uint16_t bits;
    __half() = default;
    __half(float x) : bits(emulated_float_to_half(x)) {}
    operator float() const { return emulated_half_to_float(bits); }
};
typedef __half half;
struct alignas(4) __half2 { __half x, y; };
typedef __half2 half2;
static inline __half __float2half(float x) { return __half(x); }
static inline __half __float2half_rn(float x) { return __half(x); }
static inline float __half2float(__half x) { return float(x); }

struct __nv_bfloat16 {
    uint16_t bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(float x) : bits(emulated_float_to_bfloat16(x)) {}
    operator float() const { return emulated_bits<float>(uint32_t(bits) << 16); }
};
static inline __nv_bfloat16 __float2bfloat16(float x) { return __nv_bfloat16(x); }
static inline float __bfloat162float(__nv_bfloat16 x) { return float(x); }
