/* optimizer_runs.h says what these functions compute.  Cases are told apart outside of the loops, so that the compiler
 * can put each loop into vector registers. */
#include "optimizer_runs.h"
#include "lanes.h"

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

const struct optimizer_runs KERNELS_OF(optimizer_runs) = {sgd};
