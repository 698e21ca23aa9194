"""Which kernel computes a convolution on a GPU: a table of rules, asked once per geometry and direction.

The first rule whose kernel fits and whose condition holds is taken; the tiles of cuda/conv2d.cu, which take everything,
are the last.  ``minidl.backends.cuda.conv_plan`` prints what ``choose`` answers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from minidl._ext.conv2d_table import Direction
from minidl.geometry import Conv2dGeometry

from . import gemm_table
from .gemm_table import Tile, shared_out

FORWARD, BACKWARD_INPUT, BACKWARD_WEIGHT = Direction
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

# The tiles of cuda/conv2d.cu: rows are channels, columns pixels or, in the gradient of the weight, taps.
TILES = {
    _FLOAT32: {"large": Tile("large", 128, 128, 8, 256), "medium": Tile("medium", 64, 64, 16, 256),
               "wide": Tile("wide", 32, 128, 16, 256), "small": Tile("small", 16, 64, 16, 128)},
    _FLOAT64: {"medium": Tile("medium", 64, 64, 8, 256), "small": Tile("small", 16, 64, 16, 128)},
}
# Those of cuda/conv2d_tf32.cu, on tensor cores.
TENSOR_TILES = {tile.kernel: tile for tile in gemm_table.TENSOR_TILES}
KERNELS = ("direct", "depthwise", "tf32_large", "tf32_medium", "large", "medium", "wide", "small")
MOST_TAPS = 1536  # of an output channel, in the direct kernel: eight channels of them are 48 KB of shared memory
_LEAST_DEPTH = {FORWARD: 512, BACKWARD_INPUT: 512, BACKWARD_WEIGHT: 128}  # products for a block, where several share


class Sizes(NamedTuple):
    """A direction of a convolution as matrix products: (rows, depth) @ (depth, columns), ``products`` of them."""

    rows: int
    columns: int
    depth: int
    products: int


class Choice(NamedTuple):
    """A kernel, how many blocks share out the depth of one of its tiles, and the reason in words."""

    kernel: str
    splits: int
    reason: str


class Rule(NamedTuple):
    """A kernel for directions in which its condition holds."""

    kernel: str
    directions: tuple[Direction, ...]
    holds: Callable[[Sizes, int], bool]
    reason: str


_ALL = (FORWARD, BACKWARD_INPUT, BACKWARD_WEIGHT)


def _fills(tile: str) -> Callable[[Sizes, int], bool]:
    """Whether this tile of float32 is more than half full and has work for nearly every multiprocessor."""
    def holds(sizes: Sizes, multiprocessors: int) -> bool:
        _, rows, columns, *_ = (TENSOR_TILES | TILES[_FLOAT32])[tile]
        blocks = _blocks(sizes, rows, columns)
        full = sizes.rows * 2 > rows and sizes.columns * 2 > columns
        return full and 4 * blocks * shared_out(blocks, sizes.depth, multiprocessors) >= 3 * multiprocessors

    return holds


def _few_channels(sizes: Sizes, multiprocessors: int) -> bool:
    return sizes.rows <= 16


RULES = (
    Rule("depthwise", _ALL, lambda sizes, multiprocessors: True,
         "one input channel per group: nothing that a matrix product could share"),
    Rule("direct", (FORWARD, BACKWARD_INPUT), _few_channels,
         "at most 16 channels: pixels in threads, channels in registers, and what follows in the same pass"),
    Rule("tf32_large", _ALL, _fills("tf32_large"), "tensor cores may be used, and tiles of 128 x 128 occupy the GPU"),
    Rule("tf32_medium", _ALL, _fills("tf32_medium"), "tensor cores may be used, and tiles of 64 x 64 occupy the GPU"),
    Rule("large", _ALL, _fills("large"), "tiles of 128 x 128 are more than half full and occupy the GPU"),
    Rule("medium", _ALL, _fills("medium"), "tiles of 64 x 64 are more than half full and occupy the GPU"),
    Rule("wide", _ALL, _fills("wide"), "at most 32 channels: tiles of 32 x 128 are more than half full"),
    Rule("small", _ALL, lambda sizes, multiprocessors: True, "few channels or few pixels: tiles of 16 x 64"),
)
_override: dict[Direction, tuple[str, int]] = {}


def sizes_of(g: Conv2dGeometry, direction: Direction) -> Sizes:
    """The matrix products of a direction."""
    C, OC, kernel = g.C // g.groups, g.OC // g.groups, g.KH * g.KW
    if direction is FORWARD:
        return Sizes(OC, g.N * g.OH * g.OW, C * kernel, g.groups)
    if direction is BACKWARD_WEIGHT:
        return Sizes(OC, C * kernel, g.N * g.OH * g.OW, g.groups)
    phases = g.stride_h * g.stride_w
    pixels = g.N * -(-g.H // g.stride_h) * -(-g.W // g.stride_w)
    # Every stride-th tap makes a pixel, or more of them where dilation and stride have a common divisor.
    rows = -(-g.KH // (g.stride_h // math.gcd(g.stride_h, g.dilation_h)))
    columns = -(-g.KW // (g.stride_w // math.gcd(g.stride_w, g.dilation_w)))
    return Sizes(C, pixels, OC * rows * columns, g.groups * phases)


def fits(kernel: str, g: Conv2dGeometry, direction: Direction, dtype: np.dtype) -> bool:
    """Whether this kernel can compute this direction of this geometry."""
    if kernel == "direct":
        channels, strides = (g.C, 1) if direction is FORWARD else (g.OC, g.stride_h * g.stride_w)
        return (dtype == _FLOAT32 and g.groups == 1 and direction is not BACKWARD_WEIGHT and strides == 1
                and channels * g.KH * g.KW <= MOST_TAPS)
    if kernel == "depthwise":
        return g.groups == g.C > 1
    if kernel in TENSOR_TILES:
        return dtype == _FLOAT32
    return kernel in TILES[dtype]


def choose(g: Conv2dGeometry, direction: Direction, dtype: np.dtype, multiprocessors: int,
           tensor_cores: bool = False) -> Choice:
    """The kernel of a call: the one that ``use`` has set, or what the table says, with kernels on ``tensor_cores`` only
    if they may be used.

    Raises ``ValueError`` if a kernel that is set cannot compute this.
    """
    if direction in _override:
        kernel, splits = _override[direction]
        if not fits(kernel, g, direction, dtype):
            raise ValueError(f"conv2d: kernel {kernel} does not fit this geometry in direction {direction.name}, "
                             f"{dtype}")
        return Choice(kernel, splits, "set by use_conv_kernel")
    return _first_rule(g, direction, dtype, multiprocessors, tensor_cores)


@functools.lru_cache(maxsize=4096)
def _first_rule(g: Conv2dGeometry, direction: Direction, dtype: np.dtype, multiprocessors: int,
                tensor_cores: bool) -> Choice:
    sizes = sizes_of(g, direction)
    rule = next(rule for rule in RULES if direction in rule.directions and fits(rule.kernel, g, direction, dtype)
                and (tensor_cores or rule.kernel not in TENSOR_TILES) and rule.holds(sizes, multiprocessors))
    tile = (TENSOR_TILES | TILES[dtype]).get(rule.kernel)
    if tile is None:
        return Choice(rule.kernel, 1, rule.reason)
    _, rows, columns, *_ = tile
    splits = shared_out(_blocks(sizes, rows, columns), sizes.depth, multiprocessors, _LEAST_DEPTH[direction])
    return Choice(rule.kernel, splits, rule.reason)


def _blocks(sizes: Sizes, rows: int, columns: int) -> int:
    return sizes.products * -(-sizes.rows // rows) * -(-sizes.columns // columns)


@contextmanager
def use(kernels: dict[Direction, str], splits: int = 1) -> Iterator[None]:
    """Let every convolution of the process use these kernels inside the ``with``."""
    before = dict(_override)
    _override.update({direction: (kernel, splits) for direction, kernel in kernels.items()})
    try:
        yield
    finally:
        _override.clear()
        _override.update(before)
