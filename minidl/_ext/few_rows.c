/* few_rows.h says what these functions compute. */
#include "few_rows.h"
#include "lanes.h"

enum { CHAINS = 8 };  /* independent sums in flight: two multiply-adds a cycle that take four cycles each */

/* output[n, o] for NB rows from n and OB outputs from o: lanes along `in`, added up across the lanes at the end. */
INLINE void dot_block(const int NB, const int OB, float *output, const float *input, const float *weight,
                      const float *bias, ptrdiff_t in, ptrdiff_t out)
{
    lanes sum[CHAINS];
#pragma GCC unroll 8
    for (int chain = 0; chain < NB * OB; chain++) sum[chain] = spread(0);
    ptrdiff_t i = 0;
    for (; i + LANES <= in; i += LANES) {
#pragma GCC unroll 8
        for (int o = 0; o < OB; o++) {
            lanes w = load(weight + o * in + i);
#pragma GCC unroll 8
            for (int n = 0; n < NB; n++) sum[n * OB + o] += load(input + n * in + i) * w;
        }
    }
    if (i < in) {
#pragma GCC unroll 8
        for (int o = 0; o < OB; o++) {
            lanes w = load_first(weight + o * in + i, in - i);
#pragma GCC unroll 8
            for (int n = 0; n < NB; n++) sum[n * OB + o] += load_first(input + n * in + i, in - i) * w;
        }
    }
#pragma GCC unroll 8
    for (int n = 0; n < NB; n++)
#pragma GCC unroll 8
        for (int o = 0; o < OB; o++) output[n * out + o] = add_lanes(sum[n * OB + o]) + (bias ? bias[o] : 0.0f);
}

INLINE void dot_rows(const int NB, float *output, const float *input, const float *weight, const float *bias,
                     ptrdiff_t in, ptrdiff_t out, ptrdiff_t first, ptrdiff_t last)
{
    ptrdiff_t o = first;
    for (; o + CHAINS / NB <= last; o += CHAINS / NB)
        dot_block(NB, CHAINS / NB, output + o, input, weight + o * in, bias ? bias + o : NULL, in, out);
    for (; o < last; o++) dot_block(NB, 1, output + o, input, weight + o * in, bias ? bias + o : NULL, in, out);
}

static void forward(float *output, const float *input, const float *weight, const float *bias, ptrdiff_t N,
                    ptrdiff_t in, ptrdiff_t out, ptrdiff_t first, ptrdiff_t last)
{
    ptrdiff_t n = 0;
    for (; n + 4 <= N; n += 4) dot_rows(4, output + n * out, input + n * in, weight, bias, in, out, first, last);
    for (; n + 2 <= N; n += 2) dot_rows(2, output + n * out, input + n * in, weight, bias, in, out, first, last);
    for (; n < N; n++) dot_rows(1, output + n * out, input + n * in, weight, bias, in, out, first, last);
}

/* grad_input[n, i] for NB rows and the IB * LANES inputs from i: a sum over all outputs, in registers. */
INLINE void sum_block(const int NB, const int IB, float *grad_input, const float *grad_output, const float *weight,
                      ptrdiff_t in, ptrdiff_t out)
{
    lanes sum[CHAINS];
#pragma GCC unroll 8
    for (int chain = 0; chain < NB * IB; chain++) sum[chain] = spread(0);
    for (ptrdiff_t o = 0; o < out; o++) {
#pragma GCC unroll 8
        for (int v = 0; v < IB; v++) {
            lanes w = load(weight + o * in + v * LANES);
#pragma GCC unroll 8
            for (int n = 0; n < NB; n++) sum[n * IB + v] += spread(grad_output[n * out + o]) * w;
        }
    }
#pragma GCC unroll 8
    for (int n = 0; n < NB; n++)
#pragma GCC unroll 8
        for (int v = 0; v < IB; v++) store(grad_input + n * in + v * LANES, sum[n * IB + v]);
}

INLINE void sum_rows(const int NB, float *grad_input, const float *grad_output, const float *weight, ptrdiff_t in,
                     ptrdiff_t out, ptrdiff_t first, ptrdiff_t last)
{
    ptrdiff_t i = first;
    for (; i + CHAINS / NB * LANES <= last; i += CHAINS / NB * LANES)
        sum_block(NB, CHAINS / NB, grad_input + i, grad_output, weight + i, in, out);
    for (; i + LANES <= last; i += LANES) sum_block(NB, 1, grad_input + i, grad_output, weight + i, in, out);
    if (i == last) return;
    if (last - first >= LANES) {  /* the last vector overlaps the one before: the same sums are written twice */
        i = last - LANES;
        sum_block(NB, 1, grad_input + i, grad_output, weight + i, in, out);
        return;
    }
    for (; i < last; i++) {
        for (int n = 0; n < NB; n++) {
            float sum = 0;
            for (ptrdiff_t o = 0; o < out; o++) sum += grad_output[n * out + o] * weight[o * in + i];
            grad_input[n * in + i] = sum;
        }
    }
}

static void backward_input(float *grad_input, const float *grad_output, const float *weight, ptrdiff_t N, ptrdiff_t in,
                           ptrdiff_t out, ptrdiff_t first, ptrdiff_t last)
{
    ptrdiff_t n = 0;
    for (; n + 4 <= N; n += 4) sum_rows(4, grad_input + n * in, grad_output + n * out, weight, in, out, first, last);
    for (; n + 2 <= N; n += 2) sum_rows(2, grad_input + n * in, grad_output + n * out, weight, in, out, first, last);
    for (; n < N; n++) sum_rows(1, grad_input + n * in, grad_output + n * out, weight, in, out, first, last);
}

/* grad_weight[o, i] = sum over n of grad_output[n, o] * input[n, i], a row of the weight at a time. */
static void backward_weight(float *grad_weight, const float *grad_output, const float *input, ptrdiff_t N,
                            ptrdiff_t in, ptrdiff_t out, ptrdiff_t first, ptrdiff_t last)
{
    for (ptrdiff_t o = first; o < last; o++) {
        const float *grad = grad_output + o;
        float *row = grad_weight + o * in;
        ptrdiff_t i = 0;
        for (; i + 4 * LANES <= in; i += 4 * LANES) {
            lanes sum[4];
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++) sum[v] = spread(grad[0]) * load(input + i + v * LANES);
            for (ptrdiff_t n = 1; n < N; n++)
#pragma GCC unroll 4
                for (int v = 0; v < 4; v++) sum[v] += spread(grad[n * out]) * load(input + n * in + i + v * LANES);
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++) store(row + i + v * LANES, sum[v]);
        }
        for (; i < in; i += LANES) {
            ptrdiff_t count = in - i < LANES ? in - i : LANES;
            lanes sum = spread(grad[0]) * load_first(input + i, count);
            for (ptrdiff_t n = 1; n < N; n++) sum += spread(grad[n * out]) * load_first(input + n * in + i, count);
            store_first(row + i, sum, count);
        }
    }
}

const struct few_rows KERNELS_OF(few_rows) = {forward, backward_input, backward_weight};
