"""The one door to BLAS (``blas.pyx``): all of it is for other extensions."""
