"""The one door to BLAS.  Everything here is row-major: ``c (m, n) = alpha * op(a) (m, k) @ op(b) (k, n) + beta * c``.

``lda``, ``ldb`` and ``ldc`` are the distances, in numbers, between the rows of the matrices as they lie in
memory (before the transposition that ``trans_a`` or ``trans_b`` asks for).  OpenBLAS runs single-threaded:
kernels split their work themselves and call it from each of their threads.
"""

cdef extern from "cblas.h" nogil:
    void scipy_cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                           const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc)
    void scipy_cblas_dgemm(int order, int trans_a, int trans_b, int m, int n, int k, double alpha,
                           const double* a, int lda, const double* b, int ldb, double beta, double* c, int ldc)
    void scipy_openblas_set_num_threads(int threads)

cdef enum:
    ROW_MAJOR = 101
    NO_TRANS = 111
    TRANS = 112


cdef void gemm_f32(bint trans_a, bint trans_b, int m, int n, int k, float alpha, const float* a, int lda,
                   const float* b, int ldb, float beta, float* c, int ldc) noexcept nogil:
    """c = alpha * op(a) @ op(b) + beta * c, float32"""
    scipy_cblas_sgemm(ROW_MAJOR, TRANS if trans_a else NO_TRANS, TRANS if trans_b else NO_TRANS,
                      m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)


cdef void gemm_f64(bint trans_a, bint trans_b, int m, int n, int k, double alpha, const double* a, int lda,
                   const double* b, int ldb, double beta, double* c, int ldc) noexcept nogil:
    """c = alpha * op(a) @ op(b) + beta * c, float64"""
    scipy_cblas_dgemm(ROW_MAJOR, TRANS if trans_a else NO_TRANS, TRANS if trans_b else NO_TRANS,
                      m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)


scipy_openblas_set_num_threads(1)
