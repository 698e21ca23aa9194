"""Direct convolution with images in the lanes (``conv2d_batch.pyx``): all of it is for ``conv2d``."""
