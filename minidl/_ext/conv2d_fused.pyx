"""relu(conv2d(x)), and max_pool2d(relu(conv2d(x)), 2), in one pass, and the way back: float32, the direct kernels.

The bits are those of the operations one after the other, with the same kernels.  But where it is faster, and no kernel
is set, the way back leaves out what has no gradient (conv2d_pooled.pyx): sums in another order, to the same accuracy.
"""

cimport numpy as cnp

from minidl._ext import conv2d_table
from minidl._ext.arrays cimport both_float32, contiguous, new_planes
from minidl._ext.conv2d_batch cimport batch_backward_input
from minidl._ext.conv2d_batch_pool cimport (batch_pool_fits, batch_pool_forward, batch_pool_images,
                                            batch_pool_keeps)
from minidl._ext.conv2d_direct cimport direct_backward_input, direct_backward_weight, direct_forward
from minidl._ext.conv2d_pooled cimport (pooled_backward_input, pooled_backward_weight, pooled_input_wins,
                                        pooled_weight_wins)
from minidl._ext.conv2d_table cimport (AUTO, BACKWARD_INPUT, BACKWARD_WEIGHT, DIRECT_BATCH, DIRECT_CHANNELS,
                                       DIRECT_ROWS, FORWARD, Direction, Kernel, chosen_by_table, kernel_for)
from minidl._ext.geometry cimport Conv2d, conv2d_fields
from minidl._ext.instruction_set cimport isa_level
from minidl._ext.storage cimport new_array

cnp.import_array()


def can_fuse(geometry, bint needs_input=True):
    """Whether a convolution of this geometry gets direct kernels: forward, for the weight's gradient and, if
    ``needs_input``, for the input's."""
    cdef const Conv2d* g = conv2d_fields(geometry.packed)
    return (is_direct(kernel_for(AUTO, FORWARD, g, True)) and is_direct(kernel_for(AUTO, BACKWARD_WEIGHT, g, True))
            and (not needs_input or is_direct(kernel_for(AUTO, BACKWARD_INPUT, g, True))))


cdef bint is_direct(Kernel kernel) noexcept:
    return kernel == DIRECT_ROWS or kernel == DIRECT_CHANNELS or kernel == DIRECT_BATCH


cdef Kernel direct_kernel(Direction direction, const Conv2d* g, cnp.ndarray a, cnp.ndarray b) except *:
    """Which direct kernel: ValueError if it is none, TypeError if the arrays are not float32."""
    if not both_float32(a, b):
        raise TypeError("convolution and relu are fused for float32 only, got float64: call one after the other")
    cdef Kernel kernel = kernel_for(AUTO, direction, g, True)
    if not is_direct(kernel):
        raise ValueError(f"conv2d: only direct kernels are fused with relu, and this geometry gets "
                         f"{conv2d_table.Kernel(kernel).name} in direction {conv2d_table.Direction(direction).name}: "
                         "ask can_fuse first")
    return kernel


cdef const float* numbers(cnp.ndarray array) noexcept:
    return <const float*>cnp.PyArray_DATA(array)


def conv2d_relu_forward(cnp.ndarray input, cnp.ndarray weight, cnp.ndarray bias, geometry):
    """output (N, OC, OH, OW) = relu(conv2d(input (N, C, H, W), weight (OC, C, KH, KW)) + bias (OC,))."""
    cdef const Conv2d* g = conv2d_fields(geometry.packed)
    cdef bint channels = direct_kernel(FORWARD, g, input, weight) == DIRECT_CHANNELS
    input, weight, bias = contiguous(input), contiguous(weight), contiguous_bias(bias, input, g)
    cdef cnp.ndarray output = new_planes(g.N, g.OC, g.OH, g.OW, cnp.NPY_FLOAT)
    direct_forward(channels, <float*>cnp.PyArray_DATA(output), NULL, True, numbers(input), numbers(weight),
                   numbers(bias), g)
    return output


def conv2d_relu_pool_forward(cnp.ndarray input, cnp.ndarray weight, cnp.ndarray bias, geometry):
    """output, codes (N, OC, OH // 2, OW // 2) of max_pool2d(relu(conv2d(input, weight) + bias), 2).

    A code is a byte: which of the window's four pixels has the maximum, 0 to 3 in reading order, or 4 if none of them
    is positive and no gradient passes.
    """
    cdef const Conv2d* g = conv2d_fields(geometry.packed)
    cdef bint channels = direct_kernel(FORWARD, g, input, weight) == DIRECT_CHANNELS
    input, weight, bias = contiguous(input), contiguous(weight), contiguous_bias(bias, input, g)
    cdef cnp.ndarray output = new_planes(g.N, g.OC, g.OH // 2, g.OW // 2, cnp.NPY_FLOAT)
    cdef cnp.ndarray codes = new_planes(g.N, g.OC, g.OH // 2, g.OW // 2, cnp.NPY_UINT8)
    pooled_forward(channels, <float*>cnp.PyArray_DATA(output), <unsigned char*>cnp.PyArray_DATA(codes), numbers(input),
                   numbers(weight), numbers(bias), g)
    return output, codes


cdef int pooled_forward(bint channels, float* output, unsigned char* codes, const float* input, const float* weight,
                        const float* bias, const Conv2d* g) except -1:
    """Whole vectors of images in their lanes, what is left by the kernel that the table names."""
    cdef Py_ssize_t images = batch_pool_images(g) if chosen_by_table(FORWARD) else 0
    cdef Py_ssize_t pooled = images * g.OC * (g.OH // 2) * (g.OW // 2)
    cdef Conv2d part = g[0]
    if images:
        part.N = images
        batch_pool_forward(output, codes, input, weight, bias, False, False, &part)
    if images < g.N:
        part.N = g.N - images
        direct_forward(channels, output + pooled, codes + pooled, True, input + images * g.C * g.H * g.W, weight, bias,
                       &part)
    return 0


def keeps_lanes(geometry):
    """Whether images stay in the lanes of vectors from one convolution, ReLU and pooling to the next: this geometry gets
    the kernel for them, and its last vectors are not nearly empty."""
    cdef const Conv2d* g = conv2d_fields(geometry.packed)
    return chosen_by_table(FORWARD) and can_fuse(geometry, False) and batch_pool_keeps(g)


def conv2d_relu_pool_lanes(cnp.ndarray input, cnp.ndarray weight, cnp.ndarray bias, geometry, bint kept_in,
                           bint kept_out):
    """max_pool2d(relu(conv2d(input, weight) + bias), 2) with images in the lanes, without codes: what needs no way back.

    input (N, C, H, W), or if ``kept_in`` (vectors, C, H, W, lanes) as ``kept_out`` gives it: the images of a vector side
    by side, zeros or anything in lanes that have none.
    """
    cdef const Conv2d* g = conv2d_fields(geometry.packed)
    cdef Py_ssize_t lanes = 4 << isa_level(), vectors = (g.N + lanes - 1) // lanes
    cdef cnp.npy_intp[5] shape = [vectors, g.OC, g.OH // 2, g.OW // 2, lanes]
    if not batch_pool_fits(g):
        raise ValueError("conv2d: images in lanes are for stride and dilation 1, one group and small images")
    if cnp.PyArray_SIZE(input) != (vectors * lanes if kept_in else g.N) * g.C * g.H * g.W:
        raise ValueError(f"conv2d: expected {g.N} images of {[g.C, g.H, g.W]}{' in lanes' if kept_in else ''}, got "
                         f"{list((<object>input).shape)}")
    if not both_float32(input, weight):
        raise TypeError("convolution and relu are fused for float32 only, got float64: call one after the other")
    input, weight, bias = contiguous(input), contiguous(weight), contiguous_bias(bias, input, g)
    cdef cnp.ndarray output
    if kept_out:
        output = new_array(5, shape, cnp.NPY_FLOAT)
    else:
        output = new_planes(g.N, g.OC, g.OH // 2, g.OW // 2, cnp.NPY_FLOAT)
    batch_pool_forward(<float*>cnp.PyArray_DATA(output), NULL, numbers(input), numbers(weight), numbers(bias), kept_in,
                       kept_out, g)
    return output


def conv2d_relu_pool_backward(cnp.ndarray grad_output, cnp.ndarray codes, cnp.ndarray input, cnp.ndarray weight,
                              geometry, bint needs_input=True):
    """(grad_input (N, C, H, W) or None, grad_weight (OC, C, KH, KW), grad_bias (OC,)) from grad_output and codes
    (N, OC, OH // 2, OW // 2).  ``weight`` may be None where grad_input is not wanted."""
    cdef const Conv2d* g = conv2d_fields(geometry.packed)
    cdef bint channels = direct_kernel(BACKWARD_WEIGHT, g, grad_output, input) == DIRECT_CHANNELS
    cdef Kernel kernel_input = AUTO
    if needs_input:
        kernel_input = direct_kernel(BACKWARD_INPUT, g, grad_output, weight)
    if cnp.PyArray_TYPE(codes) != cnp.NPY_UINT8:
        raise TypeError(f"the codes of a pooled convolution are uint8, got {codes.dtype}")
    if not (cnp.PyArray_SIZE(codes) == cnp.PyArray_SIZE(grad_output) == g.N * g.OC * (g.OH // 2) * (g.OW // 2)):
        raise ValueError(f"conv2d: expected grad_output and codes of {[g.N, g.OC, g.OH // 2, g.OW // 2]}, got "
                         f"{list((<object>grad_output).shape)} and {list((<object>codes).shape)}")
    grad_output, codes, input = contiguous(grad_output), contiguous(codes), contiguous(input)
    if needs_input:
        both_float32(input, weight)
        weight = contiguous(weight)
    cdef const unsigned char* code = <const unsigned char*>cnp.PyArray_DATA(codes)
    cdef cnp.npy_intp size = g.OC
    cdef cnp.ndarray grad_weight = new_planes(g.OC, g.C, g.KH, g.KW, cnp.NPY_FLOAT), grad_input = None
    cdef cnp.ndarray grad_bias = new_array(1, &size, cnp.NPY_FLOAT)
    if chosen_by_table(BACKWARD_WEIGHT) and pooled_weight_wins(g):
        pooled_backward_weight(<float*>cnp.PyArray_DATA(grad_weight), <float*>cnp.PyArray_DATA(grad_bias),
                               numbers(grad_output), code, numbers(input), g)
    else:
        direct_backward_weight(channels, <float*>cnp.PyArray_DATA(grad_weight), <float*>cnp.PyArray_DATA(grad_bias),
                               numbers(grad_output), code, numbers(input), g)
    if needs_input:
        grad_input = new_planes(g.N, g.C, g.H, g.W, cnp.NPY_FLOAT)
        if chosen_by_table(BACKWARD_INPUT) and pooled_input_wins(g):
            pooled_backward_input(<float*>cnp.PyArray_DATA(grad_input), numbers(grad_output), code,
                                  numbers(weight), g)
        elif kernel_input == DIRECT_BATCH:
            batch_backward_input(<float*>cnp.PyArray_DATA(grad_input), numbers(grad_output), code, numbers(weight), g)
        else:
            direct_backward_input(kernel_input == DIRECT_CHANNELS, <float*>cnp.PyArray_DATA(grad_input),
                                  numbers(grad_output), code, numbers(weight), g)
    return grad_input, grad_weight, grad_bias


cdef cnp.ndarray contiguous_bias(cnp.ndarray bias, cnp.ndarray input, const Conv2d* g):
    both_float32(input, bias)
    if cnp.PyArray_SIZE(bias) != g.OC:
        raise RuntimeError(f"conv2d: expected bias to be 1-dimensional with {g.OC} elements, one per output channel, "
                           f"but got bias of size {list((<object>bias).shape)}")
    return contiguous(bias)
