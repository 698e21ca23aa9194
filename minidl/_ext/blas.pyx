"""The one door to BLAS.  Everything here is row-major: ``c (m, n) = alpha * op(a) (m, k) @ op(b) (k, n) + beta * c``.

``lda``, ``ldb`` and ``ldc`` are the distances, in numbers, between the rows of the matrices as they lie in
memory (before the transposition that ``trans_a`` or ``trans_b`` asks for).  BLAS runs single-threaded:
kernels split their work themselves and call it from each of their threads.
"""

cdef extern from "blas_names.h" nogil:
    void minidl_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                      const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc)
    void minidl_dgemm(int order, int trans_a, int trans_b, int m, int n, int k, double alpha,
                      const double* a, int lda, const double* b, int ldb, double beta, double* c, int ldc)
    void minidl_blas_single_thread()
    const char* minidl_blas_core_name()

cdef enum:
    ROW_MAJOR = 101
    NO_TRANS = 111
    TRANS = 112


cdef void gemm_f32(bint trans_a, bint trans_b, int m, int n, int k, float alpha, const float* a, int lda,
                   const float* b, int ldb, float beta, float* c, int ldc) noexcept nogil:
    """c = alpha * op(a) @ op(b) + beta * c, float32"""
    minidl_sgemm(ROW_MAJOR, TRANS if trans_a else NO_TRANS, TRANS if trans_b else NO_TRANS,
                 m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)


cdef void gemm_f64(bint trans_a, bint trans_b, int m, int n, int k, double alpha, const double* a, int lda,
                   const double* b, int ldb, double beta, double* c, int ldc) noexcept nogil:
    """c = alpha * op(a) @ op(b) + beta * c, float64"""
    minidl_dgemm(ROW_MAJOR, TRANS if trans_a else NO_TRANS, TRANS if trans_b else NO_TRANS,
                 m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)


def core_name():
    """The processor whose kernels OpenBLAS has chosen, such as ``SkylakeX``; empty for another BLAS."""
    return minidl_blas_core_name().decode()


minidl_blas_single_thread()
