/* windows.h says what these functions compute.  LANES windows are taken at a time, their pixels read as two vectors per
 * row; the last windows of a row, fewer than LANES, through vectors of which only the first numbers are touched. */
#include "windows.h"
#include "lanes.h"

struct two {
    lanes low, high;
};

/* the 2 * count numbers at `from`, count <= LANES, zeros behind them */
INLINE struct two load_pixels(const float *from, ptrdiff_t count)
{
    if (count == LANES) return (struct two){load(from), load(from + LANES)};
    if (2 * count <= LANES) return (struct two){load_first(from, 2 * count), spread(0)};
    return (struct two){load(from), load_first(from + LANES, 2 * count - LANES)};
}

INLINE void store_pixels(float *to, struct two pixels, ptrdiff_t count)
{
    if (count == LANES) {
        store(to, pixels.low);
        store(to + LANES, pixels.high);
    } else if (2 * count <= LANES) {
        store_first(to, pixels.low, 2 * count);
    } else {
        store(to, pixels.low);
        store_first(to + LANES, pixels.high, 2 * count - LANES);
    }
}

INLINE lanes load_row(const float *from, ptrdiff_t count) { return count == LANES ? load(from) : load_first(from, count); }

INLINE void store_row(float *to, lanes value, ptrdiff_t count)
{
    if (count == LANES)
        store(to, value);
    else
        store_first(to, value, count);
}

/* Places of lanes in the 2 * LANES numbers of two vectors. */
#define LANE_TABLE(name, formula)                                                                                  \
    INLINE int_lanes name(void)                                                                                    \
    {                                                                                                              \
        int_lanes table;                                                                                           \
        for (int lane = 0; lane < LANES; lane++) table[lane] = (formula);                                          \
        return table;                                                                                              \
    }
LANE_TABLE(even, 2 * lane)
LANE_TABLE(odd, 2 * lane + 1)
LANE_TABLE(low_pairs, lane / 2 + lane % 2 * LANES)                  /* a0 b0 a1 b1 ... */
LANE_TABLE(high_pairs, lane / 2 + LANES / 2 + lane % 2 * LANES)

INLINE struct two woven(lanes a, lanes b)
{
    return (struct two){__builtin_shuffle(a, b, low_pairs()), __builtin_shuffle(a, b, high_pairs())};
}

INLINE int_lanes pick(int_lanes mask, int_lanes yes, int_lanes no) { return (mask & yes) | (~mask & no); }

/* Where `value` is larger than `best`, or NaN, it takes over, and its place with it. */
INLINE void challenge(lanes *best, int_lanes *best_place, lanes value, int_lanes place)
{
    int_lanes wins = (value > *best) | (value != value);
    *best = (lanes)pick(wins, (int_lanes)value, (int_lanes)*best);
    *best_place = pick(wins, place, *best_place);
}

INLINE void max_windows(float *output, int32_t *index, const float *window, ptrdiff_t W, int32_t first, ptrdiff_t count)
{
    struct two a = load_pixels(window, count), b = load_pixels(window + W, count);
    int_lanes upper_place = even() + first, lower_place = upper_place + (int32_t)W;
    lanes upper = __builtin_shuffle(a.low, a.high, even()), lower = __builtin_shuffle(b.low, b.high, even());
    challenge(&upper, &upper_place, __builtin_shuffle(a.low, a.high, odd()), upper_place + 1);
    challenge(&lower, &lower_place, __builtin_shuffle(b.low, b.high, odd()), lower_place + 1);
    challenge(&upper, &upper_place, lower, lower_place);
    store_row(output, upper, count);
    store_row((float *)index, (lanes)upper_place, count);
}

/* FOR_WINDOWS runs its statement for each run of windows of a plane: `count` of them, from `ow` of row `oh` on; whole
 * vectors first, so that the compiler sees a constant there. */
#define FOR_WINDOWS(statement)                                                                                     \
    for (ptrdiff_t oh = 0; oh < OH; oh++) {                                                                        \
        ptrdiff_t ow = 0;                                                                                          \
        for (; ow + LANES <= OW; ow += LANES) {                                                                    \
            const ptrdiff_t count = LANES;                                                                         \
            statement;                                                                                             \
        }                                                                                                          \
        const ptrdiff_t count = OW - ow;                                                                           \
        if (count > 0) statement;                                                                                  \
    }

static void max_plane(float *output, int32_t *index, const float *input, ptrdiff_t W, ptrdiff_t OH, ptrdiff_t OW)
{
    FOR_WINDOWS(max_windows(output + oh * OW + ow, index + oh * OW + ow, input + 2 * (oh * W + ow), W,
                            (int32_t)(2 * (oh * W + ow)), count))
}

INLINE void unmax_windows(float *window, const int32_t *index, const float *grad_output, ptrdiff_t W, int32_t first,
                          ptrdiff_t count)
{
    int_lanes grad = (int_lanes)load_row(grad_output, count);
    int_lanes place = (int_lanes)load_row((const float *)index, count) - (even() + first);
    lanes a = (lanes)(grad & (place == 0)), b = (lanes)(grad & (place == 1));
    lanes c = (lanes)(grad & (place == (int32_t)W)), d = (lanes)(grad & (place == (int32_t)W + 1));
    store_pixels(window, woven(a, b), count);
    store_pixels(window + W, woven(c, d), count);
}

static void unmax_plane(float *grad_input, const int32_t *index, const float *grad_output, ptrdiff_t W, ptrdiff_t OH,
                        ptrdiff_t OW)
{
    FOR_WINDOWS(unmax_windows(grad_input + 2 * (oh * W + ow), index + oh * OW + ow, grad_output + oh * OW + ow, W,
                              (int32_t)(2 * (oh * W + ow)), count))
}

INLINE void sum_windows(float *output, const float *window, ptrdiff_t W, float factor, ptrdiff_t count)
{
    struct two a = load_pixels(window, count), b = load_pixels(window + W, count);
    lanes sum = __builtin_shuffle(a.low, a.high, even()) + __builtin_shuffle(a.low, a.high, odd()) +
                __builtin_shuffle(b.low, b.high, even()) + __builtin_shuffle(b.low, b.high, odd());
    store_row(output, sum * factor, count);
}

static void sum_plane(float *output, const float *input, ptrdiff_t W, ptrdiff_t OH, ptrdiff_t OW, float factor)
{
    FOR_WINDOWS(sum_windows(output + oh * OW + ow, input + 2 * (oh * W + ow), W, factor, count))
}

INLINE void spread_windows(float *window, const float *grad_output, ptrdiff_t W, float factor, ptrdiff_t count)
{
    lanes grad = load_row(grad_output, count) * factor;
    struct two pixels = woven(grad, grad);
    store_pixels(window, pixels, count);
    store_pixels(window + W, pixels, count);
}

static void spread_plane(float *grad_input, const float *grad_output, ptrdiff_t W, ptrdiff_t OH, ptrdiff_t OW,
                         float factor)
{
    FOR_WINDOWS(spread_windows(grad_input + 2 * (oh * W + ow), grad_output + oh * OW + ow, W, factor, count))
}

const struct windows KERNELS_OF(windows) = {max_plane, unmax_plane, sum_plane, spread_plane};
