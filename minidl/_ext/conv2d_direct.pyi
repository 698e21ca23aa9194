"""Direct convolution of float32 images (``conv2d_direct.pyx``): all of it is for ``conv2d``."""
