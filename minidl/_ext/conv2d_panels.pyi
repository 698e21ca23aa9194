"""Convolution with packed weights (``conv2d_panels.pyx``): all of it is for ``conv2d``."""
