"""runs.h and BLAS for both float types: one name each, the compiler picks the type."""

from minidl._ext.blas cimport gemm_f32, gemm_f64

ctypedef fused real:
    float
    double

cdef extern from "runs.h" nogil:
    void copy_run(void* to, const void* start, Py_ssize_t nbytes)
    void add_run_f32(float* to, const float* start, Py_ssize_t n)
    void add_run_f64(double* to, const double* start, Py_ssize_t n)
    void scaled_add_run_f32(float* to, Py_ssize_t to_step, const float* start, Py_ssize_t step, float factor,
                            Py_ssize_t n)
    void scaled_add_run_f64(double* to, Py_ssize_t to_step, const double* start, Py_ssize_t step, double factor,
                            Py_ssize_t n)
    float dot_run_f32(const float* a, const float* b, Py_ssize_t b_step, Py_ssize_t n)
    double dot_run_f64(const double* a, const double* b, Py_ssize_t b_step, Py_ssize_t n)
    float sum_run_f32(const float* a, Py_ssize_t n)
    double sum_run_f64(const double* a, Py_ssize_t n)


cdef inline void add_run(real* to, const real* start, Py_ssize_t n) noexcept nogil:
    """to[i] += start[i]"""
    if real is float:
        add_run_f32(to, start, n)
    else:
        add_run_f64(to, start, n)


cdef inline void scaled_add_run(real* to, Py_ssize_t to_step, const real* start, Py_ssize_t step, real factor,
                                Py_ssize_t n) noexcept nogil:
    """to[i * to_step] += factor * start[i * step]"""
    if real is float:
        scaled_add_run_f32(to, to_step, start, step, factor, n)
    else:
        scaled_add_run_f64(to, to_step, start, step, factor, n)


cdef inline real dot_run(const real* a, const real* b, Py_ssize_t b_step, Py_ssize_t n) noexcept nogil:
    """sum of a[i] * b[i * b_step]"""
    if real is float:
        return dot_run_f32(a, b, b_step, n)
    else:
        return dot_run_f64(a, b, b_step, n)


cdef inline real sum_run(const real* a, Py_ssize_t n) noexcept nogil:
    """sum of a[i]"""
    if real is float:
        return sum_run_f32(a, n)
    else:
        return sum_run_f64(a, n)


cdef inline void gemm(bint trans_a, bint trans_b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                      const real* a, Py_ssize_t lda, const real* b, Py_ssize_t ldb, real beta, real* c,
                      Py_ssize_t ldc) noexcept nogil:
    """c (m, n) = op(a) (m, k) @ op(b) (k, n) + beta * c, row-major"""
    if real is float:
        gemm_f32(trans_a, trans_b, <int>m, <int>n, <int>k, 1, a, <int>lda, b, <int>ldb, beta, c, <int>ldc)
    else:
        gemm_f64(trans_a, trans_b, <int>m, <int>n, <int>k, 1, a, <int>lda, b, <int>ldb, beta, c, <int>ldc)
