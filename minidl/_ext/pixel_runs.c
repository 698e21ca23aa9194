/* pixel_runs.h says what this function computes.  The bytes are widened by intrinsics: GCC's own conversion of a vector
 * of bytes takes them apart one by one. */
#include "pixel_runs.h"
#include "lanes.h"

/* LANES bytes as numbers */
INLINE lanes load_bytes(const uint8_t *from)
{
#if defined(ISA_avx512)
    return (lanes)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from)));
#elif defined(ISA_avx2)
    return (lanes)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from)));
#else
    return (lanes){from[0], from[1], from[2], from[3]};
#endif
}

static void scale(float *to, const uint8_t *from, float mean, float std, ptrdiff_t n)
{
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(to + i, (load_bytes(from + i) / spread(255) - spread(mean)) / spread(std));
    for (; i < n; i++) to[i] = ((float)from[i] / 255 - mean) / std;
}

const struct pixel_runs KERNELS_OF(pixel_runs) = {scale};
