/* The inner loops of the optimizers, float32: n numbers of one parameter, all arrays (n,) and apart from each other.
 *
 * sgd   gradient = sign * grad + weight_decay * parameter
 *       buffer = gradient the first time, then momentum * buffer + keep * gradient; NULL without momentum
 *       parameter -= lr * (nesterov ? gradient + momentum * buffer : buffer)
 *
 * The compiler may use fused multiply-adds where the instruction set has them: the last bit depends on it. */
#ifndef MINIDL_OPTIMIZER_RUNS_H
#define MINIDL_OPTIMIZER_RUNS_H

#include <stddef.h>

struct sgd_rule {
    float lr, momentum, keep, weight_decay, sign;
    int nesterov;
};

struct optimizer_runs {
    void (*sgd)(const struct sgd_rule *rule, int first, float *parameter, const float *grad, float *buffer,
                ptrdiff_t n);
};

#endif
