/* The inner loops of the optimizers, float32: n numbers of one parameter, all arrays (n,) and apart from each other.
 *
 * sgd   gradient = sign * grad + weight_decay * parameter
 *       buffer = gradient the first time, then momentum * buffer + keep * gradient; NULL without momentum
 *       parameter -= lr * (nesterov ? gradient + momentum * buffer : buffer)
 *
 * adam  gradient = sign * grad; with weight_decay then either parameter *= shrink (decoupled)
 *       or gradient += weight_decay * parameter
 *       exp_avg += weight * (gradient - exp_avg), computed from the gradient with rest = 1 - weight unless from_average
 *       exp_avg_sq = beta2 * exp_avg_sq + keep * gradient^2
 *       second = exp_avg_sq or, where largest is not NULL, largest = max(largest, exp_avg_sq)
 *       parameter -= step_size * exp_avg / (sqrt(second) / root + eps)
 *
 * The compiler may use fused multiply-adds where the instruction set has them: the last bit depends on it. */
#ifndef MINIDL_OPTIMIZER_RUNS_H
#define MINIDL_OPTIMIZER_RUNS_H

#include <stddef.h>

struct sgd_rule {
    float lr, momentum, keep, weight_decay, sign;
    int nesterov;
};

struct adam_rule {
    float weight, rest, beta2, keep, eps, weight_decay, shrink, sign;
    int decoupled, from_average;
};

struct optimizer_runs {
    void (*sgd)(const struct sgd_rule *rule, int first, float *parameter, const float *grad, float *buffer,
                ptrdiff_t n);
    void (*adam)(const struct adam_rule *rule, float step_size, float root, float *parameter, const float *grad,
                 float *exp_avg, float *exp_avg_sq, float *largest, ptrdiff_t n);
};

#endif
