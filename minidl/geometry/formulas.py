"""The formulas of sizes, in numbers and in words (https://arxiv.org/abs/1603.07285, PyTorch's documentation)."""


def kernel_span(kernel: int, dilation: int) -> int:
    """Pixels from the first to the last that a kernel sees."""
    return dilation * (kernel - 1) + 1


def conv_size(size: int, before: int, after: int, kernel: int, stride: int, dilation: int) -> int:
    """What a convolution makes of one side; less than 1 where the kernel does not fit."""
    return (size + before + after - kernel_span(kernel, dilation)) // stride + 1


def conv_formula(size: object, before: object, after: object, kernel: object, stride: object, dilation: object) -> str:
    """``conv_size`` in numbers or in words, as PyTorch's documentation writes it."""
    return f"({size} + {before} + {after} - {dilation} * ({kernel} - 1) - 1) // {stride} + 1"


def conv_transpose_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """The smallest size that a convolution brings to ``size``; the next ``stride - 1`` sizes come to it as well."""
    return (size - 1) * stride - 2 * padding + kernel_span(kernel, dilation)


def conv_transpose_formula(size: object, kernel: object, stride: object, padding: object, dilation: object,
                           extra: object) -> str:
    """``conv_transpose_size`` and ``extra`` beyond it (output_padding) in numbers or in words."""
    return f"({size} - 1) * {stride} - 2 * {padding} + {dilation} * ({kernel} - 1) + {extra} + 1"


def pool_size(size: int, kernel: int, stride: int, pad: int, dilation: int, ceil_mode: bool) -> int:
    """Windows along one side; ``ceil_mode`` rounds up, but leaves out a last one that begins behind the input."""
    room = size + 2 * pad - kernel_span(kernel, dilation)
    windows = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    return windows - 1 if ceil_mode and (windows - 1) * stride >= size + pad else windows


def pool_formula(size: object, kernel: object, stride: object, pad: object, dilation: object, ceil_mode: bool) -> str:
    """``pool_size`` in numbers or in words, before a last window behind the input is left out."""
    if not ceil_mode:
        return conv_formula(size, pad, pad, kernel, stride, dilation)
    return f"ceil(({size} + {pad} + {pad} - {dilation} * ({kernel} - 1) - 1) / {stride}) + 1"


def adaptive_window(size: int, outputs: int, i: int) -> slice:
    """The pixels of window ``i`` of an adaptive pooling: from floor(i * size / outputs) to ceil((i + 1) * size /
    outputs)."""
    return slice(i * size // outputs, -(-(i + 1) * size // outputs))
