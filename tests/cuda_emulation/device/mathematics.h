// CUDA's mathematics that <math.h> lacks.  Fast intrinsics are as exact as the functions they stand for: a test that
// needs their larger error needs a GPU.
#pragma once

static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float rsqrt(float x) { return rsqrtf(x); }
static inline float rcbrtf(float x) { return 1.0f / cbrtf(x); }
static inline double rcbrt(double x) { return 1.0 / cbrt(x); }
static inline float normcdff(float x) { return 0.5f * erfcf(-x * 0.70710678f); }
static inline double normcdf(double x) { return 0.5 * erfc(-x * 0.70710678118654752); }
static inline float sinpif(float x) { return float(sin(M_PI * fmod(double(x), 2.0))); }
static inline float cospif(float x) { return float(cos(M_PI * fmod(double(x), 2.0))); }
static inline double sinpi(double x) { return sin(M_PI * fmod(x, 2.0)); }
static inline double cospi(double x) { return cos(M_PI * fmod(x, 2.0)); }
static inline void sincospif(float x, float* s, float* c) { *s = sinpif(x), *c = cospif(x); }

// glibc has functions of some of these names: macros keep them apart.
static inline float emulated_expf(float x) { return expf(x); }
static inline float emulated_exp10f(float x) { return exp10f(x); }
static inline float emulated_logf(float x) { return logf(x); }
static inline float emulated_log2f(float x) { return log2f(x); }
static inline float emulated_log10f(float x) { return log10f(x); }
static inline float emulated_powf(float x, float y) { return powf(x, y); }
static inline float emulated_sinf(float x) { return sinf(x); }
static inline float emulated_cosf(float x) { return cosf(x); }
static inline float emulated_tanf(float x) { return tanf(x); }
static inline void emulated_sincosf(float x, float* s, float* c) { *s = sinf(x), *c = cosf(x); }
#define __expf emulated_expf
#define __exp10f emulated_exp10f
#define __logf emulated_logf
#define __log2f emulated_log2f
#define __log10f emulated_log10f
#define __powf emulated_powf
#define __sinf emulated_sinf
#define __cosf emulated_cosf
#define __tanf emulated_tanf
#define __sincosf emulated_sincosf

static inline float __fdividef(float a, float b) { return a / b; }
static inline float __saturatef(float x) { return x > 0 ? x < 1 ? x : 1.0f : 0.0f; }

// Rounded operations are never contracted: their results pass through a register that the compiler cannot look into.
template <class T>
static inline T emulated_rounded(T x) {
    asm("" : "+x"(x));
    return x;
}
static inline float __fadd_rn(float a, float b) { return emulated_rounded(a + b); }
static inline float __fsub_rn(float a, float b) { return emulated_rounded(a - b); }
static inline float __fmul_rn(float a, float b) { return emulated_rounded(a * b); }
static inline float __fdiv_rn(float a, float b) { return emulated_rounded(a / b); }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __frsqrt_rn(float a) { return float(1.0 / sqrt(double(a))); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __dadd_rn(double a, double b) { return emulated_rounded(a + b); }
static inline double __dsub_rn(double a, double b) { return emulated_rounded(a - b); }
static inline double __dmul_rn(double a, double b) { return emulated_rounded(a * b); }
static inline double __ddiv_rn(double a, double b) { return emulated_rounded(a / b); }
static inline double __drcp_rn(double a) { return 1.0 / a; }
static inline double __dsqrt_rn(double a) { return sqrt(a); }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

// A GPU converts what is too large to the nearest integer there is, and NaN to 0 (64 bits: to the smallest).
template <class To, class From>
static inline To emulated_to_integer(From x) {
    typedef std::numeric_limits<To> limits;
    if (x != x) return sizeof(To) == 8 ? To(1) << 63 : To(0);
    if (x >= From(limits::max())) return limits::max();
    if (x <= From(limits::min())) return limits::min();
    return To(x);
}
#define EMULATED_CONVERSIONS(FROM, F, TO, T)                                                      \
    static inline T __##FROM##2##TO##_rn(F x) { return emulated_to_integer<T>(rint(x)); }         \
    static inline T __##FROM##2##TO##_rd(F x) { return emulated_to_integer<T>(floor(x)); }        \
    static inline T __##FROM##2##TO##_ru(F x) { return emulated_to_integer<T>(ceil(x)); }         \
    static inline T __##FROM##2##TO##_rz(F x) { return emulated_to_integer<T>(trunc(x)); }        \
    static inline F __##TO##2##FROM##_rn(T x) { return F(x); }
EMULATED_CONVERSIONS(float, float, int, int)
EMULATED_CONVERSIONS(float, float, uint, unsigned)
EMULATED_CONVERSIONS(float, float, ll, long long)
EMULATED_CONVERSIONS(float, float, ull, unsigned long long)
EMULATED_CONVERSIONS(double, double, int, int)
EMULATED_CONVERSIONS(double, double, uint, unsigned)
EMULATED_CONVERSIONS(double, double, ll, long long)
EMULATED_CONVERSIONS(double, double, ull, unsigned long long)
static inline float __double2float_rn(double x) { return float(x); }

// CUDA's overloads of min and max, no more: what nvcc finds ambiguous is so here.  Of a number and NaN the number.
#define EMULATED_EXTREMES(A, B, T)                                             \
    static inline T min(A a, B b) { return (T)b < (T)a ? (T)b : (T)a; }        \
    static inline T max(A a, B b) { return (T)a < (T)b ? (T)b : (T)a; }
#define EMULATED_EXTREMES_OF_INTEGERS(T)                                       \
    EMULATED_EXTREMES(T, T, T)                                                 \
    EMULATED_EXTREMES(unsigned T, unsigned T, unsigned T)                      \
    EMULATED_EXTREMES(T, unsigned T, unsigned T)                               \
    EMULATED_EXTREMES(unsigned T, T, unsigned T)
EMULATED_EXTREMES_OF_INTEGERS(int)
EMULATED_EXTREMES_OF_INTEGERS(long)
EMULATED_EXTREMES_OF_INTEGERS(long long)
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }
static inline double min(float a, double b) { return fmin(a, b); }
static inline double max(float a, double b) { return fmax(a, b); }
static inline double min(double a, float b) { return fmin(a, b); }
static inline double max(double a, float b) { return fmax(a, b); }

#define CUDART_INF_F __builtin_inff()
#define CUDART_INF __builtin_inf()
#define CUDART_NAN_F __builtin_nanf("")
#define CUDART_NAN __builtin_nan("")
#define CUDART_PI_F 3.141592654f
#define CUDART_PI 3.1415926535897931
