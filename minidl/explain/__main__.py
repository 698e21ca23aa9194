"""Write the page that shows how a convolution works, on LeNet and ten handwritten digits.

    python -m minidl.explain                         conv.html, with the weights that `make train` left
    python -m minidl.explain --open --digit 7        and open it, a seven first
    python -m minidl.explain --network               begin layer by layer

Without trained weights a LeNet is trained first, for some seconds. Exit code 0: written; 1: it could not be; 2: wrong
options.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import webbrowser
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from minidl import nn
from minidl.datasets import EmbeddedDigits
from minidl.explain.html_page import page
from minidl.explain.lenet import EPOCHS, accuracy, load_lenet, train_lenet

WEIGHTS = Path("runs/lenet/last.safetensors")  # where examples/train_lenet.py leaves them


class _Parser(argparse.ArgumentParser):
    """Answers a wrong option with one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def _parser() -> _Parser:
    parser = _Parser(prog="python -m minidl.explain", description="Write a page that shows how a convolution works.")
    add = parser.add_argument
    add("--out", type=Path, default=Path("conv.html"), metavar="FILE", help="where to write (default: %(default)s)")
    add("--weights", type=Path, metavar="FILE", help=f"a trained LeNet (default: {WEIGHTS}, or one trained now)")
    add("--digit", type=int, choices=range(10), default=7, metavar="N",
        help="the digit to begin with, 0 to 9 (default: %(default)s)")
    add("--image", type=int, metavar="N", help="one of the 2,000 test digits by its number, instead of ten")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--layer", default="conv1", metavar="PATH",
                       help="the layer that is taken apart first, conv1 or conv2 (default: %(default)s)")
    start.add_argument("--network", action="store_true", help="begin with the network, layer by layer")
    add("--open", action="store_true", help="open the page in a browser")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        test = EmbeddedDigits(train=False)
        if options.image is not None and not 0 <= options.image < len(test):
            parser.error(f"--image {options.image}: the test digits are numbered 0 to {len(test) - 1}")
        net, about = _network(options.weights, test)
        indices = _ten_digits(test) if options.image is None else [options.image]
        images, labels = test.fetch(indices)
        path = page(net, images, options.out, labels=labels.tolist(), classes=range(10), about=about,
                    layer=None if options.network else options.layer,
                    first=options.digit if options.image is None else 0)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"minidl.explain: {error}", file=sys.stderr)
        return 1
    print(f"written {path} ({path.stat().st_size / 1e6:.2f} MB)")
    if not (options.open and _opened(path.as_uri())):
        print(f"open it in a browser: {path.as_uri()}")
    return 0


def _network(weights: Path | None, test: EmbeddedDigits) -> tuple[nn.Module, str]:
    """The trained network and a sentence about it."""
    path = WEIGHTS if weights is None else weights
    if weights is not None or path.exists():
        net, variant = load_lenet(path)
        origin = f"LeNet-5{'' if variant == 'relu' else f' ({variant})'} with the weights of {path}"
    else:
        print(f"no trained weights in {WEIGHTS} (make train leaves them there): training for {EPOCHS} epochs ...")
        began = time.perf_counter()
        net = train_lenet(EmbeddedDigits(train=True))
        print(f"trained in {time.perf_counter() - began:.1f} s")
        origin = f"LeNet-5, trained for {EPOCHS} epochs on 10,000 digits"
    about = f"{origin}: {100 * accuracy(net, test):.1f} % of {len(test):,} test digits right."
    print(about)
    return net, about


def _ten_digits(test: EmbeddedDigits) -> list[int]:
    """The first test digit of each class."""
    labels = np.asarray(test.targets)
    return [int(np.flatnonzero(labels == digit)[0]) for digit in range(10)]


def _opened(address: str) -> bool:
    """Whether a browser with a window shows the page; one in the terminal would take the terminal over."""
    has_windows: Any = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    return bool(has_windows) and webbrowser.open(address)


if __name__ == "__main__":
    sys.exit(main())
