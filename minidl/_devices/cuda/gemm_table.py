"""Which kernel of cuda/gemm.cu computes a matrix product, and how many blocks share out its inner size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np


class Tile(NamedTuple):
    """A kernel: the numbers of the output that a block computes, and the products of one step."""

    kernel: str
    rows: int
    columns: int
    depth: int
    threads: int


class GemmPlan(NamedTuple):
    """A kernel for a product, and how many blocks share out the inner size of a tile."""

    tile: Tile
    splits: int


_THIN = Tile("thin", 16, 16, 64, 256)
# The largest first.
TILES = {
    np.dtype(np.float32): (Tile("large", 128, 128, 8, 256), Tile("medium", 64, 64, 16, 256), _THIN),
    np.dtype(np.float64): (Tile("large", 64, 64, 8, 256), Tile("medium", 32, 32, 16, 128), _THIN),
}
# Those of cuda/gemm_tf32.cu, on tensor cores.
TENSOR_TILES = (Tile("tf32_large", 128, 128, 16, 256), Tile("tf32_medium", 64, 64, 16, 128))
_LEAST_DEPTH = 512  # products for a block, where several share out the inner size: fewer do not pay for the second pass

_override: tuple[str | None, int | None] = (None, None)


def plan(M: int, N: int, K: int, batch: int, dtype: np.dtype, multiprocessors: int, tensor_cores: bool) -> GemmPlan:
    """The kernel for ``batch`` products of (M, K) with (K, N).

    It is the largest tile that is more than half full and gives nearly every multiprocessor a block, with the inner
    size shared out where that is what it takes; else the thin tile.  Those on tensor cores come first if they may.
    """
    kernel, splits = _override
    tiles = TILES[dtype]
    if kernel is not None:
        tile = next(tile for tile in (*TENSOR_TILES, *tiles) if tile.kernel == kernel)
        return GemmPlan(tile, splits or 1)
    for tile in (*TENSOR_TILES, *tiles[:-1]) if tensor_cores else tiles[:-1]:
        blocks = _blocks(tile, M, N, batch)
        splits = shared_out(blocks, K, multiprocessors)
        half_full = min(M / tile.rows, N / tile.columns) > 0.5
        if half_full and 4 * blocks * splits >= 3 * multiprocessors:
            return GemmPlan(tile, splits)
    return GemmPlan(tiles[-1], shared_out(_blocks(tiles[-1], M, N, batch), K // 2, multiprocessors))


def _blocks(tile: Tile, M: int, N: int, batch: int) -> int:
    return batch * -(-M // tile.rows) * -(-N // tile.columns)


def shared_out(blocks: int, K: int, multiprocessors: int, least: int = _LEAST_DEPTH) -> int:
    """How many blocks share out the inner size of each tile: two blocks for each multiprocessor are aimed at, with at
    least ``least`` products for each."""
    if blocks >= multiprocessors or not blocks:
        return 1
    return max(1, min(2 * multiprocessors // blocks, K // least))


def shared_bytes(rows_along_k: bool, rows: int, columns_along_k: bool, columns: int) -> int:
    """Shared memory of a tile on tensor cores: four steps of both operands, as ``TensorTile`` in tensor_cores.cuh."""
    depth, stages, itemsize = 16, 4, 4
    return stages * itemsize * sum(
        size * (depth + 4) if along_k else depth * (size + 8)
        for along_k, size in ((rows_along_k, rows), (columns_along_k, columns)))


@contextmanager
def use_gemm_kernel(kernel: str, splits: int = 1) -> Iterator[None]:
    """Let every product of the process use this kernel inside the ``with``: for tests and measurements."""
    global _override
    before, _override = _override, (kernel, splits)
    try:
        yield
    finally:
        _override = before
