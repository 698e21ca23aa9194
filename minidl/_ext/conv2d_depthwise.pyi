"""Depthwise convolution (``conv2d_depthwise.pyx``): all of it is for ``conv2d``."""
