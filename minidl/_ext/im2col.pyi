"""im2col and its adjoint (``im2col.pyx``): all of it is for ``conv2d``."""
