"""2-d convolution and its gradients on the GPU: cuda/conv2d.cu, and which kernel in conv_table.py."""

from __future__ import annotations

import functools
import struct
from typing import Any

import numpy as np

from minidl._ext.device_array import DeviceArray
from minidl.geometry import Conv2dGeometry

from . import precision
from .arrays import SUFFIX, THREADS, ArraysCUDA
from .conv_table import (
    BACKWARD_INPUT,
    BACKWARD_WEIGHT,
    FORWARD,
    TENSOR_TILES,
    TILES,
    Choice,
    Direction,
    choose,
    sizes_of,
)
from .gemm_table import shared_bytes
from .matmul import sum_block

_MOST = 1 << 31  # numbers of an array
_DIRECT_THREADS = 128
_WEIGHT_THREADS = 512  # of a block that only makes a weight's gradient, in cuda/conv2d_fused.cu
_MOST_KW = 8  # as there
_MOST_WINDOWS = 32  # of a thread there: more are shared out better over the tiles of cuda/conv2d.cu
_FLOAT32 = np.dtype(np.float32)
_DEPTHWISE_ROWS = 4  # pixels of a thread, `ROWS` in cuda/conv2d_depthwise.cu


class ConvCUDA(ArraysCUDA):
    """2-d convolution and its gradients, float32 and float64; arrays with gaps are copied first."""

    def conv2d(self, input: DeviceArray, weight: DeviceArray, bias: DeviceArray | None,
               geometry: Conv2dGeometry) -> DeviceArray:
        return self._conv2d_forward(input, weight, bias, geometry, False)

    def conv2d_backward_input(self, grad_output: DeviceArray, weight: DeviceArray,
                              geometry: Conv2dGeometry) -> DeviceArray:
        return self._conv2d_input(grad_output, None, weight, geometry)

    def conv2d_backward_weight(self, grad_output: DeviceArray, input: DeviceArray,
                               geometry: Conv2dGeometry) -> DeviceArray:
        return self._conv2d_weight(grad_output, None, input, geometry, False)[0]

    def conv2d_backward_bias(self, grad_output: DeviceArray) -> DeviceArray:
        """The sum of ``grad_output`` (N, OC, OH, OW) over everything but the output channel."""
        grad_output = self.dense(grad_output)
        N, OC, OH, OW = grad_output.shape
        output = self.empty((OC,), grad_output.dtype)
        if not OC:
            return output
        splits = max(1, min(N, 2 * self.runtime.multiprocessors // OC, N * OH * OW // 4096))
        parts = output if splits == 1 else self.empty((splits, OC), grad_output.dtype)
        self.launch("conv2d", f"conv2d_bias_{SUFFIX[grad_output.dtype]}", (OC * splits, 1), (THREADS, 1, 1), parts,
                    grad_output, None, N, OC, OH * OW)
        if splits > 1:
            self._conv2d_sum(output, None, parts, None, splits, OC, 1, False)
        return output

    def can_fuse_conv2d(self, geometry: Conv2dGeometry, needs_input: bool) -> bool:
        """Whether one pass computes the convolution, the ReLU and the pooling: that of the direct kernel."""
        return self._conv2d_choice(geometry, FORWARD, np.dtype(np.float32)).kernel == "direct"

    def conv2d_relu(self, input: DeviceArray, weight: DeviceArray, bias: DeviceArray,
                    geometry: Conv2dGeometry) -> DeviceArray:
        return self._conv2d_forward(input, weight, bias, geometry, True)

    def conv2d_relu_max_pool2d(self, input: DeviceArray, weight: DeviceArray, bias: DeviceArray,
                               geometry: Conv2dGeometry) -> tuple[DeviceArray, DeviceArray]:
        g = geometry
        _check_floats(input, weight)
        _check_bias(bias, input, g)
        if input.dtype != np.float32:
            raise TypeError("convolution, relu and pooling are fused for float32 only, got float64: call one after the "
                            "other")
        kernel = self._conv2d_choice(g, FORWARD, input.dtype).kernel
        if kernel != "direct":
            raise ValueError(f"conv2d: only direct kernels are fused with relu and pooling, and this geometry gets "
                             f"{kernel} in direction FORWARD: ask can_fuse_conv2d first")
        shape = (g.N, g.OC, g.OH // 2, g.OW // 2)
        output, codes = self.empty(shape, input.dtype), self.empty(shape, np.uint8)
        self._conv2d_direct(g, FORWARD, output, codes, self.dense(input), None, self.dense(weight), self.dense(bias),
                            True)
        return output, codes

    def conv2d_relu_max_pool2d_backward(
            self, grad_output: DeviceArray, codes: DeviceArray, input: DeviceArray, weight: DeviceArray,
            geometry: Conv2dGeometry, needs_input: bool) -> tuple[DeviceArray | None, DeviceArray, DeviceArray]:
        g = geometry
        shape = (g.N, g.OC, g.OH // 2, g.OW // 2)
        if codes.dtype != np.uint8:
            raise TypeError(f"the codes of a pooled convolution are uint8, got {codes.dtype}")
        if grad_output.shape != shape or codes.shape != shape:
            raise ValueError(f"conv2d: expected grad_output and codes of {list(shape)}, got {list(grad_output.shape)} "
                             f"and {list(codes.shape)}")
        grad_output, codes = self.dense(grad_output), self.dense(codes)
        if self._fuses_backward(g, needs_input):
            return self._conv2d_fused_backward(grad_output, codes, self.dense(input),
                                               self.dense(weight) if needs_input else None, g)
        grad_input = self._conv2d_input(grad_output, codes, weight, g) if needs_input else None
        grad_weight, grad_bias = self._conv2d_weight(grad_output, codes, input, g, True)
        return grad_input, grad_weight, grad_bias

    def _fuses_backward(self, g: Conv2dGeometry, needs_input: bool) -> bool:
        """Whether cuda/conv2d_fused.cu computes all gradients in one launch: where the tiles would have to share out
        their sums for lack of work, and the input's gradient is one for the direct kernel."""
        weight = self._conv2d_choice(g, BACKWARD_WEIGHT, _FLOAT32, True)
        if weight.kernel != "small" or weight.splits == 1 or g.KW > _MOST_KW or g.groups != 1:
            return False
        if not needs_input:
            return g.N * (g.OH // 2) * (g.OW // 2) <= _MOST_WINDOWS * _WEIGHT_THREADS
        direct = self._conv2d_choice(g, BACKWARD_INPUT, _FLOAT32, True).kernel == "direct"
        return direct and g.N * (g.OH // 2) * (g.OW // 2) <= _MOST_WINDOWS * _DIRECT_THREADS

    def _conv2d_fused_backward(self, grad_output: DeviceArray, codes: DeviceArray, input: DeviceArray,
                               weight: DeviceArray | None, g: Conv2dGeometry,
                               ) -> tuple[DeviceArray | None, DeviceArray, DeviceArray]:
        """``weight`` None: no gradient of the input is wanted."""
        _check_floats(grad_output, input)
        grad_weight, grad_bias = self.empty(g.weight_shape, _FLOAT32), self.empty((g.OC,), _FLOAT32)
        grad_input = None if weight is None else self.empty(g.input_shape, _FLOAT32)
        WH, WW = g.OH // 2, g.OW // 2
        _fields(g)
        pooled = struct.pack("16i", g.C, g.H, g.W, g.OC, g.KH, g.KW, g.stride_h, g.stride_w, g.pad_top, g.pad_left,
                             g.dilation_h, g.dilation_w, WH, WW, g.N * WH * WW, 0)
        blocks = g.OC * g.C * g.KH
        if grad_input is None or not grad_input.size:
            self.launch("conv2d_fused", "conv2d_relu_max_pool2d_backward_weight_f32", (blocks, 1),
                        (_WEIGHT_THREADS, 1, 1), grad_weight, grad_bias, grad_output, codes, input, pooled)
            return grad_input, grad_weight, grad_bias
        channels, direct_blocks, shared, direct = _direct(g, BACKWARD_INPUT, False, False, self.runtime.multiprocessors)
        self.launch("conv2d_fused", f"conv2d_relu_max_pool2d_backward_{channels}_f32", (direct_blocks + blocks, 1),
                    (_DIRECT_THREADS, 1, 1), grad_input, grad_weight, grad_bias, grad_output, codes, input, weight,
                    pooled, direct, direct_blocks, shared=shared)
        return grad_input, grad_weight, grad_bias

    def _conv2d_forward(self, input: DeviceArray, weight: DeviceArray, bias: DeviceArray | None, g: Conv2dGeometry,
                 relu: bool) -> DeviceArray:
        _check_floats(input, weight)
        _check_bias(bias, input, g)
        input, weight = self.dense(input), self.dense(weight)
        bias = None if bias is None else self.dense(bias)
        output = self.empty(g.output_shape, input.dtype)
        choice = self._conv2d_choice(g, FORWARD, input.dtype)
        if choice.kernel == "direct":
            self._conv2d_direct(g, FORWARD, output, None, input, None, weight, bias, relu)
            return output
        if choice.kernel == "depthwise":
            threads = g.N * g.OC * -(-g.OH // _DEPTHWISE_ROWS) * g.OW
            name = f"conv2d_depthwise_forward_{SUFFIX[input.dtype]}"
            self.launch_each("conv2d_depthwise", name, threads, output, input, weight, bias, _fields(g), relu, threads)
            return output
        self._conv2d_tiles(choice, FORWARD, g, output, None, weight, input, None, bias, relu)
        return output

    def _conv2d_input(self, grad_output: DeviceArray, codes: DeviceArray | None, weight: DeviceArray,
                        g: Conv2dGeometry) -> DeviceArray:
        _check_floats(grad_output, weight)
        grad_output, weight = self.dense(grad_output), self.dense(weight)
        grad_input = self.empty(g.input_shape, weight.dtype)
        choice = self._conv2d_choice(g, BACKWARD_INPUT, weight.dtype, codes is not None)
        if choice.kernel == "direct":
            self._conv2d_direct(g, BACKWARD_INPUT, grad_input, None, grad_output, codes, weight, None, False)
            return grad_input
        if choice.kernel == "depthwise":
            self.launch_each("conv2d_depthwise", f"conv2d_depthwise_backward_input_{SUFFIX[weight.dtype]}",
                             grad_input.size, grad_input, grad_output, weight, _fields(g), grad_input.size)
            return grad_input
        self._conv2d_tiles(choice, BACKWARD_INPUT, g, grad_input, None, weight, grad_output, codes, None, False)
        return grad_input

    def _conv2d_weight(self, grad_output: DeviceArray, codes: DeviceArray | None, input: DeviceArray,
                       g: Conv2dGeometry, biased: bool) -> tuple[DeviceArray, Any]:
        """(grad_weight, grad_bias or None)"""
        _check_floats(grad_output, input)
        grad_output, input = self.dense(grad_output), self.dense(input)
        grad_weight = self.empty(g.weight_shape, input.dtype)
        grad_bias = self.empty((g.OC,), input.dtype) if biased else None
        choice = self._conv2d_choice(g, BACKWARD_WEIGHT, input.dtype, codes is not None)
        if choice.kernel == "depthwise":
            splits = max(1, min(g.N, 4 * self.runtime.multiprocessors // g.OC))
            parts = grad_weight if splits == 1 else self.empty((splits, grad_weight.size), input.dtype)
            self.launch("conv2d_depthwise", f"conv2d_depthwise_backward_weight_{SUFFIX[input.dtype]}",
                        (g.OC * splits, 1), (THREADS, 1, 1), parts, grad_output, input, _fields(g))
            if splits > 1:
                self._conv2d_sum(grad_weight, None, parts, None, splits, g.OC, 1, False)
            return grad_weight, None
        self._conv2d_tiles(choice, BACKWARD_WEIGHT, g, grad_weight, grad_bias, grad_output, input, codes, None, False)
        return grad_weight, grad_bias

    def _conv2d_choice(self, g: Conv2dGeometry, direction: Direction, dtype: np.dtype, pooled: bool = False) -> Choice:
        """The kernel that the table names; no kernel on tensor cores reads a gradient that is ``pooled``."""
        tensor_cores = not pooled and precision.tensor_cores_in_convolution(self.runtime.capability)
        return choose(g, direction, dtype, self.runtime.multiprocessors, tensor_cores)

    def _conv2d_direct(self, g: Conv2dGeometry, direction: Direction, output: DeviceArray, codes: DeviceArray | None,
                       image: DeviceArray, image_codes: DeviceArray | None, weight: DeviceArray,
                       bias: DeviceArray | None, relu: bool) -> None:
        """The kernel of cuda/conv2d_direct.cu; with ``codes``, ``output`` is pooled, with ``image_codes`` the image."""
        if not output.size:
            return
        channels, blocks, shared, fields = _direct(g, direction, codes is not None, relu, self.runtime.multiprocessors)
        pooled = "" if image_codes is None else "pooled_"
        self.launch("conv2d_direct", f"conv2d_direct_{pooled}{channels}_f32", (blocks, 1), (_DIRECT_THREADS, 1, 1),
                    output, codes, image, image_codes, weight, bias, fields, shared=shared)

    def _conv2d_tiles(self, choice: Choice, direction: Direction, g: Conv2dGeometry, output: DeviceArray,
               grad_bias: DeviceArray | None, matrix: DeviceArray, image: DeviceArray, codes: DeviceArray | None,
               bias: DeviceArray | None, relu: bool) -> None:
        """One of the kernels conv2d_<tile> over all tiles, and the second pass where blocks share out the depth."""
        if not output.size:
            return
        further = 0 if grad_bias is None else grad_bias.size
        blocks, splits, threads, tiling = _tiling(g, direction, choice.kernel, choice.splits, output.dtype, relu,
                                                  further)
        result, result_bias = output, grad_bias
        if splits > 1:
            parts = self.empty((splits, output.size + further), output.dtype)
            result = parts
            result_bias = parts.view((further,), None, output.nbytes) if further else None
        bias_now = None if splits > 1 else bias
        if choice.kernel in TENSOR_TILES:
            tile, along_k = TENSOR_TILES[choice.kernel], direction is BACKWARD_WEIGHT
            self.launch("conv2d_tf32", f"conv2d_{choice.kernel}{'_weight' * along_k}_f32", (blocks, 1), (threads, 1, 1),
                        result, matrix, image, bias_now, _fields(g), tiling,
                        shared=shared_bytes(True, tile.rows, along_k, tile.columns))
        else:
            self.launch("conv2d", f"conv2d_{choice.kernel}_{SUFFIX[output.dtype]}", (blocks, 1), (threads, 1, 1),
                        result, result_bias, matrix, image, codes, bias_now, _fields(g), tiling)
        if splits > 1:
            plane = output.size // (g.N * g.OC) if bias is not None else 1
            self._conv2d_sum(output, grad_bias, parts, bias, splits, g.OC, plane, relu)

    def _conv2d_sum(self, output: DeviceArray, more: DeviceArray | None, parts: DeviceArray, bias: DeviceArray | None,
                    splits: int, channels: int, plane: int, relu: bool) -> None:
        """The second pass: parts (splits, output.size + more.size), in their order."""
        block = sum_block(splits)
        further = 0 if more is None else more.size
        self.launch("conv2d", f"conv2d_sum_{SUFFIX[output.dtype]}", (-(-(output.size + further) // block[0]), 1), block,
                    output, more, parts, bias, splits, channels, plane, relu, output.size, further)


@functools.lru_cache(maxsize=1024)
def _fields(g: Conv2dGeometry) -> bytes:
    """``struct Conv2d`` of cuda/conv2d.cu."""
    for shape in (g.input_shape, g.weight_shape, g.output_shape):
        if shape[0] * shape[1] * shape[2] * shape[3] >= _MOST:
            raise NotImplementedError(f"conv2d: an array of shape {shape} has too many numbers, a CUDA kernel takes "
                                      "less than 2**31; use smaller batches")
    return struct.pack(f"{len(g.fields)}i", *(getattr(g, name) for name in g.fields))


@functools.lru_cache(maxsize=1024)
def _tiling(g: Conv2dGeometry, direction: Direction, kernel: str, splits: int, dtype: np.dtype, relu: bool,
            further: int) -> tuple[int, int, int, bytes]:
    """(blocks, splits, threads of a block, ``struct Tiling`` of cuda/conv2d.cu)."""
    tile = (TENSOR_TILES | TILES[dtype])[kernel]
    sizes = sizes_of(g, direction)
    depth = max(1, -(-sizes.depth // (splits * tile.depth))) * tile.depth  # of a split: whole steps
    splits = max(1, -(-sizes.depth // depth))
    tiles_m = -(-sizes.rows // tile.rows)
    tiles_n = -(-(sizes.columns + (further > 0)) // tile.columns)
    results = {FORWARD: g.output_shape, BACKWARD_INPUT: g.input_shape, BACKWARD_WEIGHT: g.weight_shape}[direction]
    size = results[0] * results[1] * results[2] * results[3] + further
    return tiles_m * tiles_n * splits * sizes.products, splits, tile.threads, struct.pack(
        "8i", direction, tiles_m, tiles_n, splits, depth, relu, further > 0, size if splits > 1 else 0)


@functools.lru_cache(maxsize=1024)
def _direct(g: Conv2dGeometry, direction: Direction, pooled: bool, relu: bool,
            multiprocessors: int) -> tuple[int, int, int, bytes]:
    """(channels of a thread, blocks, bytes of shared memory, ``struct Direct`` of cuda/conv2d_direct.cuh)."""
    _fields(g)
    weight_oc, weight_c = g.C * g.KH * g.KW, g.KH * g.KW
    if direction is FORWARD:
        C, H, W, OC, OH, OW, pad_top, pad_left = g.C, g.H, g.W, g.OC, g.OH, g.OW, g.pad_top, g.pad_left
    else:
        C, H, W, OC, OH, OW = g.OC, g.OH, g.OW, g.C, g.H, g.W
        pad_top, pad_left = g.dilation_h * (g.KH - 1) - g.pad_top, g.dilation_w * (g.KW - 1) - g.pad_left
        weight_oc, weight_c = weight_c, weight_oc
    WH, WW = (OH // 2, OW // 2) if pooled else (-(-OH // 2), -(-OW // 2))
    blocks = -(-g.N * WH * WW // _DIRECT_THREADS)
    channels = 8 if OC > 4 and blocks * -(-OC // 8) >= multiprocessors else 4
    groups = -(-OC // channels)
    return channels, blocks * groups, 4 * C * g.KH * g.KW * channels, struct.pack(
        "22i", g.N, C, H, W, OC, g.KH, g.KW, OH, OW, g.stride_h, g.stride_w, pad_top, pad_left, g.dilation_h,
        g.dilation_w, weight_oc, weight_c, direction is BACKWARD_INPUT, relu, groups, WH, WW)


def _check_floats(a: DeviceArray, b: DeviceArray) -> None:
    if a.dtype != b.dtype or a.dtype.kind != "f":
        raise TypeError(f"expected arrays that are both float32 or both float64, got {a.dtype} and {b.dtype}")


def _check_bias(bias: DeviceArray | None, input: DeviceArray, g: Conv2dGeometry) -> None:
    if bias is None:
        return
    _check_floats(input, bias)
    if bias.size != g.OC:
        raise RuntimeError(f"conv2d: expected bias to be 1-dimensional with {g.OC} elements, one per output channel, "
                           f"but got bias of size {list(bias.shape)}")
