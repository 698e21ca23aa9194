"""Convolution, ReLU and pooling with images in the lanes (``conv2d_batch_pool.pyx``); other kernels call it from C."""
