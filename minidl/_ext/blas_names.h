/* The BLAS that minidl is linked with, under one set of names.
 *
 * The vendored OpenBLAS prefixes everything with scipy_, so that it never mixes with another copy in the process.
 * MINIDL_SYSTEM_BLAS stands for a BLAS of the system, with CBLAS' own names; MINIDL_OPENBLAS_THREADS says whether it is
 * an OpenBLAS whose threads can be switched off (setup.py sets both).
 */
#include <cblas.h>

#ifdef MINIDL_SYSTEM_BLAS
#define minidl_sgemm cblas_sgemm
#define minidl_dgemm cblas_dgemm
#if MINIDL_OPENBLAS_THREADS
#define minidl_blas_single_thread() openblas_set_num_threads(1)
#define minidl_blas_core_name() openblas_get_corename()
#else
#define minidl_blas_single_thread() ((void)0)
#define minidl_blas_core_name() ""
#endif
#else
#define minidl_sgemm scipy_cblas_sgemm
#define minidl_dgemm scipy_cblas_dgemm
#define minidl_blas_single_thread() scipy_openblas_set_num_threads(1)
#define minidl_blas_core_name() scipy_openblas_get_corename()
#endif
