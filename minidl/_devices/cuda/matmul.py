"""Matrix products and Linear on the GPU: cuda/gemm.cu and gemm_tf32.cu, and which of their kernels in gemm_table.py."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from minidl._devices.reference.matmul import check_linear, check_matmul
from minidl._ext.device_array import DeviceArray, Layout

from . import precision
from .arrays import SUFFIX, THREADS, ArraysCUDA, shown
from .gemm_table import TENSOR_TILES, Tile, plan, shared_bytes

_ROWS_OF_A_SPLIT = 1024  # in linear_backward_bias, at least


class MatmulCUDA(ArraysCUDA):
    """Matrix products and Linear.  Operands are read where they lie, transposed or with gaps."""

    def matmul(self, a: DeviceArray, b: DeviceArray) -> DeviceArray:
        """1-D arguments are a row on the left and a column on the right; dimensions before the last two broadcast."""
        check_matmul(a, b)
        row, column = a.ndim == 1, b.ndim == 1
        if row:
            a = a.view((1, *a.shape), (0, *a.strides))
        if column:
            b = b.view((*b.shape, 1), (*b.strides, 0))
        stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        shape = (*stack, *(() if row else a.shape[-2:-1]), *(() if column else b.shape[-1:]))
        return self._product(a, b, shape)

    def linear(self, input: DeviceArray, weight: DeviceArray, bias: DeviceArray | None) -> DeviceArray:
        """(..., in) @ (out, in)^T + (out,) -> (..., out)"""
        check_linear(input, weight, bias)
        shape = (*input.shape[:-1], weight.shape[0])
        if input.dtype.kind != "f":
            output = self._product(_matrix(input), transposed(weight), shape)
            return output if bias is None else self.add(output, bias)
        return self._product(_matrix(input), transposed(weight), shape, None if bias is None else self.dense(bias))

    def linear_backward_input(self, grad_output: DeviceArray, weight: DeviceArray) -> DeviceArray:
        """(..., out) @ (out, in) -> (..., in)"""
        return self._product(_matrix(grad_output), weight, (*grad_output.shape[:-1], weight.shape[1]))

    def linear_backward_weight(self, grad_output: DeviceArray, input: DeviceArray) -> DeviceArray:
        """(..., out)^T @ (..., in) -> (out, in)"""
        return self._product(transposed(self._as_rows(grad_output)), self._as_rows(input),
                             (grad_output.shape[-1], input.shape[-1]))

    def linear_backward_bias(self, grad_output: DeviceArray) -> DeviceArray:
        """(..., out) -> (out,)"""
        x = self._as_rows(grad_output)
        M, N = x.shape
        m_step, n_step = numbers(x)
        blocks = -(-N // 32)
        splits = max(1, min(self.runtime.multiprocessors // max(blocks, 1), M // _ROWS_OF_A_SPLIT))
        output = self.empty((N,), x.dtype)
        parts = output if splits == 1 else self.empty((splits, N), x.dtype)
        if N:
            self.launch("gemm", f"column_sums_{SUFFIX[x.dtype]}", (blocks * splits, 1), (32, 8, 1), parts, x,
                        np.int64(m_step), np.int64(n_step), M, N, -(-M // splits), blocks)
        if splits > 1:
            self._gemm_sum(output, parts, None, splits, N)
        return output

    def _as_rows(self, x: DeviceArray) -> DeviceArray:
        """x (..., n) as a matrix (rows, n)."""
        x = _matrix(x)
        return x if x.ndim == 2 else _joined(self.dense(x))

    def _product(self, a: DeviceArray, b: DeviceArray, shape: tuple[int, ...],
                 bias: DeviceArray | None = None) -> DeviceArray:
        """output, with the numbers of ``a @ b + bias`` in the shape that they are to have; at least 2-D operands."""
        output = self.empty(shape, a.dtype)
        if not output.size:
            return output
        if b.ndim == 2 and a.ndim > 2 and a.contiguous:
            a = _joined(a)
        M, N, K = a.shape[-2], b.shape[-1], a.shape[-1]
        a_m, a_k = numbers(a)[-2:]
        b_k, b_n = numbers(b)[-2:]
        stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        operands = [shown(x.view(x.shape[:-2], x.strides[:-2]), stack) for x in (a, b)]
        stacks = Layout(stack, *operands)
        if a.dtype.kind != "f":
            self.launch_each("gemm", f"gemm_each_{SUFFIX[a.dtype]}", output.size, output, a, b,
                             *map(np.int64, (a_m, a_k, b_n, b_k)), M, N, K, stacks, output.size)
        elif M == 1 and b_k == 1:
            self._gemv(output, b, a, bias, b_n, a_k, N, K, Layout(stack, *operands[::-1]))
        elif N == 1 and a_k == 1 and bias is None:
            self._gemv(output, a, b, bias, a_m, b_k, M, K, stacks)
        else:
            tensor_cores = a.dtype == np.float32 and precision.tensor_cores_in_matmul(self.runtime.capability)
            tile, splits = plan(M, N, K, stacks.size, a.dtype, self.runtime.multiprocessors, tensor_cores)
            self._gemm_tiles(tile, splits, output, a, b, bias, M, N, K, stacks, operands)
        return output

    def _gemv(self, output: DeviceArray, matrix: DeviceArray, vector: DeviceArray, bias: DeviceArray | None,
              matrix_step: int, vector_step: int, M: int, K: int, stacks: Layout) -> None:
        warps = THREADS // 32
        blocks = min(-(-output.size // warps), 32 * self.runtime.multiprocessors)
        self.launch("gemm", f"gemv_{SUFFIX[output.dtype]}", (blocks, 1), (THREADS, 1, 1), output, matrix, vector, bias,
                    np.int64(matrix_step), np.int64(vector_step), M, K, 0, stacks, output.size)

    def _gemm_tiles(self, tile: Tile, splits: int, output: DeviceArray, a: DeviceArray, b: DeviceArray,
               bias: DeviceArray | None, M: int, N: int, K: int, stacks: Layout, operands: list[Any]) -> None:
        depth = -(-K // (splits * tile.depth)) * tile.depth  # of a split: whole steps
        splits = max(1, -(-K // depth)) if depth else 1
        tiles_m, tiles_n = -(-M // tile.rows), -(-N // tile.columns)
        a_m, a_k = numbers(a)[-2:]
        b_k, b_n = numbers(b)[-2:]
        vectors = (in_vectors(a, a_m, a_k, M, K, operands[0][0]), in_vectors(b, b_n, b_k, N, K, operands[1][0]))
        parts = output if splits == 1 else self.empty((splits, output.size), output.dtype)
        gemm = struct.pack("4q10i", a_m, a_k, b_n, b_k, M, N, K, tiles_m, tiles_n, splits, depth, *vectors, 0)
        file, kernel, shared = "gemm", tile.kernel, 0
        if tile in TENSOR_TILES:
            file, kernel = "gemm_tf32", kernel + "_" + "NK"[a_k == 1] + "NK"[b_k == 1]
            shared = shared_bytes(a_k == 1, tile.rows, b_k == 1, tile.columns)
        self.launch(file, f"gemm_{kernel}_{SUFFIX[output.dtype]}", (tiles_m * tiles_n * splits * stacks.size, 1),
                    (tile.threads, 1, 1), parts, a, b, bias if splits == 1 else None, gemm, stacks, shared=shared)
        if splits > 1:
            self._gemm_sum(output, parts, bias, splits, N)

    def _gemm_sum(self, output: DeviceArray, parts: DeviceArray, bias: DeviceArray | None, splits: int,
                      N: int) -> None:
        """The second pass of a sum that several blocks share: their parts (splits, output.size), in their order."""
        block = sum_block(splits)
        self.launch("gemm", f"gemm_sum_{SUFFIX[output.dtype]}", (-(-output.size // block[0]), 1), block, output, parts,
                    bias, splits, N, 0, output.size)


def sum_block(splits: int) -> tuple[int, int, int]:
    """A block that adds up parts: more threads for a number where there are more parts of it."""
    return (32, 8, 1) if splits > 8 else (THREADS, 1, 1)


def numbers(x: DeviceArray) -> tuple[int, ...]:
    """Strides in numbers."""
    return tuple(stride // x.itemsize for stride in x.strides)


def transposed(x: DeviceArray) -> DeviceArray:
    """A view of a matrix with its dimensions exchanged."""
    return x.view(x.shape[::-1], x.strides[::-1])


def _matrix(x: DeviceArray) -> DeviceArray:
    """x itself, a vector as a matrix of one row."""
    return x.view((1, *x.shape), (0, *x.strides)) if x.ndim == 1 else x


def _joined(x: DeviceArray) -> DeviceArray:
    """x (..., n) without gaps as a matrix (rows, n)."""
    rows = 1
    for size in x.shape[:-1]:
        rows *= size
    return x.view((rows, x.shape[-1]), None)


def in_vectors(x: DeviceArray, row_step: int, k_step: int, rows: int, K: int, stack_strides: tuple[int, ...]) -> bool:
    """Whether a kernel can read an operand in vectors of 16 bytes, along k or along its rows."""
    width = 16 // x.itemsize
    across, along = (row_step, K) if k_step == 1 else (k_step, rows)
    return ((k_step == 1 or row_step == 1) and x.ptr % 16 == 0 and across % width == 0 and along % width == 0
            and all(stride % 16 == 0 for stride in stack_strides))
