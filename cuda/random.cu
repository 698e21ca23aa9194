// Random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//
// The generator has no state but a counter: four words of 32 bits are a function of a key (the seed) and a counter
// (offset + i, sequence).  Thread i makes the four words of counter offset + i into four neighbouring numbers, or into
// two of 64 bits, so that what a seed gives does not depend on the shape of the launch.  The Philox is the last argument:
// a recorded launch is repeated with another offset.

struct Philox {
    unsigned long long seed, offset, sequence;
};

struct Words {
    unsigned of[4];
    __device__ __forceinline__ unsigned long long wide(int k) const {
        return of[2 * k] | (unsigned long long)of[2 * k + 1] << 32;
    }
};

__device__ __forceinline__ Words philox(const Philox& p, unsigned i) {
    const unsigned long long position = p.offset + i;
    unsigned key0 = (unsigned)p.seed, key1 = (unsigned)(p.seed >> 32);
    Words w = {{(unsigned)position, (unsigned)(position >> 32), (unsigned)p.sequence, (unsigned)(p.sequence >> 32)}};
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned high0 = __umulhi(0xD2511F53u, w.of[0]), low0 = 0xD2511F53u * w.of[0];
        const unsigned high1 = __umulhi(0xCD9E8D57u, w.of[2]), low1 = 0xCD9E8D57u * w.of[2];
        w = {{high1 ^ w.of[1] ^ key0, low1, high0 ^ w.of[3] ^ key1, low0}};
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return w;
}

// How many numbers of a type the four words make.
template <class T> struct PerCounter { enum { count = 4 }; };
template <> struct PerCounter<f64> { enum { count = 2 }; };

// Number k of a counter's words, uniform in [0, 1): 24 bits of one word, 53 bits of two.
__device__ __forceinline__ f32 uniform(const Words& w, int k, f32) { return (w.of[k] >> 8) * 0x1p-24f; }
__device__ __forceinline__ f64 uniform(const Words& w, int k, f64) { return (w.wide(k) >> 11) * 0x1p-53; }

// The same in (0, 1], small numbers down to the last bit of 32 or 53, for logarithms.
__device__ __forceinline__ f32 positive(const Words& w, int k, f32) { return (f32(w.of[k]) + 1) * 0x1p-32f; }
__device__ __forceinline__ f64 positive(const Words& w, int k, f64) { return 1 - uniform(w, k, 0.0); }

// Of pi * x: nothing has to be reduced by an inexact pi.
__device__ __forceinline__ f32 cosine_pi(f32 x) { return cospif(x); }
__device__ __forceinline__ f64 cosine_pi(f64 x) { return cospi(x); }
__device__ __forceinline__ f32 sine_pi(f32 x) { return sinpif(x); }
__device__ __forceinline__ f64 sine_pi(f64 x) { return sinpi(x); }

// output  (count,)  low + (high - low) * u, never high
template <class T>
__device__ __forceinline__ void uniform_kernel(T* output, T low, T high, int count, const Philox& p) {
    const int each = PerCounter<T>::count;
    FOR_EACH(i, ((unsigned)count + each - 1) / each) {
        const Words w = philox(p, i);
#pragma unroll
        for (int k = 0; k < each; ++k) {
            const T number = low + (high - low) * uniform(w, k, T(0));
            if (each * i + k < (unsigned)count) output[each * i + k] = number < high ? number : low;
        }
    }
}

// output  (count,)  normally distributed
//
// By Box and Muller (1958): from uniform u in (0, 1] and v in [0, 1), sqrt(-2 log u) times the cosine and the sine of 2 pi v.
template <class T>
__device__ __forceinline__ void normal_kernel(T* output, T mean, T std, int count, const Philox& p) {
    const int each = PerCounter<T>::count;
    FOR_EACH(i, ((unsigned)count + each - 1) / each) {
        const Words w = philox(p, i);
#pragma unroll
        for (int k = 0; k < each; k += 2) {
            const T radius = std * sqrt(T(-2) * log(positive(w, k, T(0))));
            const T half_turns = 2 * uniform(w, k + 1, T(0));
            const unsigned at = each * i + k;
            if (at < (unsigned)count) output[at] = mean + radius * cosine_pi(half_turns);
            if (at + 1 < (unsigned)count) output[at + 1] = mean + radius * sine_pi(half_turns);
        }
    }
}

#define KERNELS(T)                                                                          \
    extern "C" __global__ void __launch_bounds__(256)                                       \
    uniform_##T(T* output, T low, T high, int count, Philox p) {                            \
        uniform_kernel<T>(output, low, high, count, p);                                     \
    }                                                                                       \
    extern "C" __global__ void __launch_bounds__(256)                                       \
    normal_##T(T* output, T mean, T std, int count, Philox p) {                             \
        normal_kernel<T>(output, mean, std, count, p);                                      \
    }
FOR_FLOATS(KERNELS)
#undef KERNELS

// output  (count,)  whole numbers from `first` on, `range` of them; range 0: all of 64 bits.  Two from each counter.
template <class T>
__device__ __forceinline__ void integers_kernel(T* output, i64 first, unsigned long long range, int count,
                                                const Philox& p) {
    FOR_EACH(i, ((unsigned)count + 1) / 2) {
        const Words w = philox(p, i);
#pragma unroll
        for (int k = 0; k < 2; ++k) {
            const unsigned long long number = (unsigned long long)first + (range ? w.wide(k) % range : w.wide(k));
            if (2 * i + k < (unsigned)count) output[2 * i + k] = T((i64)number);
        }
    }
}

// output  (count,)  ones of probability chance, and zeros.  Four from each counter.
template <class T>
__device__ __forceinline__ void bernoulli_kernel(T* output, f64 chance, int count, const Philox& p) {
    const unsigned long long threshold = (unsigned long long)(chance * 0x1p32);
    FOR_EACH(i, ((unsigned)count + 3) / 4) {
        const Words w = philox(p, i);
#pragma unroll
        for (int k = 0; k < 4; ++k)
            if (4 * i + k < (unsigned)count) output[4 * i + k] = T(w.of[k] < threshold);
    }
}

#define KERNELS(T)                                                                          \
    extern "C" __global__ void __launch_bounds__(256)                                       \
    integers_##T(T* output, i64 first, unsigned long long range, int count, Philox p) {     \
        integers_kernel<T>(output, first, range, count, p);                                 \
    }                                                                                       \
    extern "C" __global__ void __launch_bounds__(256)                                       \
    bernoulli_##T(T* output, f64 chance, int count, Philox p) {                             \
        bernoulli_kernel<T>(output, chance, count, p);                                      \
    }
FOR_ALL(KERNELS)
