/* optimizer_runs.h says what these functions compute.  Cases are told apart outside of the loops, so that the compiler
 * can put each loop into vector registers. */
#include "optimizer_runs.h"
#include "lanes.h"

#include <math.h>

enum { PLAIN, MOMENTUM, FIRST };

INLINE void sgd_loop(const int kind, const int nesterov, const int decays, const struct sgd_rule *rule,
                     float *restrict parameter, const float *restrict grad, float *restrict buffer, ptrdiff_t n)
{
    const float lr = rule->lr, momentum = rule->momentum, keep = rule->keep, sign = rule->sign;
    const float weight_decay = rule->weight_decay;
    for (ptrdiff_t i = 0; i < n; i++) {
        float gradient = sign * grad[i];
        if (decays) gradient += weight_decay * parameter[i];
        float change = gradient;
        if (kind != PLAIN) {
            change = kind == FIRST ? gradient : momentum * buffer[i] + keep * gradient;
            buffer[i] = change;
            if (nesterov) change = gradient + momentum * change;
        }
        parameter[i] -= lr * change;
    }
}

INLINE void sgd_kind(const int kind, const struct sgd_rule *rule, float *parameter, const float *grad, float *buffer,
                     ptrdiff_t n)
{
    if (rule->weight_decay != 0 && rule->nesterov)
        sgd_loop(kind, 1, 1, rule, parameter, grad, buffer, n);
    else if (rule->weight_decay != 0)
        sgd_loop(kind, 0, 1, rule, parameter, grad, buffer, n);
    else
        sgd_loop(kind, rule->nesterov, 0, rule, parameter, grad, buffer, n);
}

static void sgd(const struct sgd_rule *rule, int first, float *parameter, const float *grad, float *buffer,
                ptrdiff_t n)
{
    if (!buffer)
        sgd_kind(PLAIN, rule, parameter, grad, buffer, n);
    else if (first)
        sgd_kind(FIRST, rule, parameter, grad, buffer, n);
    else
        sgd_kind(MOMENTUM, rule, parameter, grad, buffer, n);
}

enum { NO_DECAY, DECAY, DECOUPLED };

INLINE void adam_loop(const int decay, const int from_average, const int amsgrad, const struct adam_rule *rule,
                      float step_size, float root, float *restrict parameter, const float *restrict grad,
                      float *restrict exp_avg, float *restrict exp_avg_sq, float *restrict largest, ptrdiff_t n)
{
    const float weight = rule->weight, rest = rule->rest, beta2 = rule->beta2, keep = rule->keep, eps = rule->eps;
    const float weight_decay = rule->weight_decay, shrink = rule->shrink, sign = rule->sign;
    for (ptrdiff_t i = 0; i < n; i++) {
        float value = parameter[i], gradient = sign * grad[i], average = exp_avg[i];
        if (decay == DECAY) gradient += weight_decay * value;
        if (decay == DECOUPLED) value *= shrink;
        average = from_average ? average + weight * (gradient - average) : gradient - (gradient - average) * rest;
        exp_avg[i] = average;
        float second = beta2 * exp_avg_sq[i] + keep * gradient * gradient;
        exp_avg_sq[i] = second;
        if (amsgrad) largest[i] = second = largest[i] > second ? largest[i] : second;
        parameter[i] = value - step_size * average / (sqrtf(second) / root + eps);
    }
}

INLINE void adam_kind(const int decay, const int from_average, const struct adam_rule *rule, float step_size,
                      float root, float *parameter, const float *grad, float *exp_avg, float *exp_avg_sq,
                      float *largest, ptrdiff_t n)
{
    if (largest)
        adam_loop(decay, from_average, 1, rule, step_size, root, parameter, grad, exp_avg, exp_avg_sq, largest, n);
    else
        adam_loop(decay, from_average, 0, rule, step_size, root, parameter, grad, exp_avg, exp_avg_sq, largest, n);
}

INLINE void adam_decay(const int decay, const struct adam_rule *rule, float step_size, float root, float *parameter,
                       const float *grad, float *exp_avg, float *exp_avg_sq, float *largest, ptrdiff_t n)
{
    if (rule->from_average)
        adam_kind(decay, 1, rule, step_size, root, parameter, grad, exp_avg, exp_avg_sq, largest, n);
    else
        adam_kind(decay, 0, rule, step_size, root, parameter, grad, exp_avg, exp_avg_sq, largest, n);
}

static void adam(const struct adam_rule *rule, float step_size, float root, float *parameter, const float *grad,
                 float *exp_avg, float *exp_avg_sq, float *largest, ptrdiff_t n)
{
    if (rule->weight_decay == 0)
        adam_decay(NO_DECAY, rule, step_size, root, parameter, grad, exp_avg, exp_avg_sq, largest, n);
    else if (rule->decoupled)
        adam_decay(DECOUPLED, rule, step_size, root, parameter, grad, exp_avg, exp_avg_sq, largest, n);
    else
        adam_decay(DECAY, rule, step_size, root, parameter, grad, exp_avg, exp_avg_sq, largest, n);
}

const struct optimizer_runs KERNELS_OF(optimizer_runs) = {sgd, adam};
