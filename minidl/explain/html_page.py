"""``page``: one HTML file on which a convolution can be taken apart, and a network walked through layer by layer.

The page is put together from the files in ``page_assets``: ``page.html`` with the style and the scripts written into
it, and the arrays of ``page_data`` as base64.  It works from disk and asks for nothing from outside.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minidl._tensor import Tensor
from minidl._version import __version__
from minidl.explain.page_data import MOST_BYTES, Arrays, computed, copied, layer_bytes, layer_data, network_data
from minidl.nn import Conv1d, Conv2d, ConvTranspose1d, Module
from minidl.serialization import write_whole

ASSETS = Path(__file__).parent / "page_assets"
# In this order: a script uses what those before it define.
SCRIPTS = ("geometry", "convolution", "data", "drawing", "widgets", "lessons", "explorer", "stage", "apart", "network",
           "main")
MARK = '<meta name="generator" content="minidl.explain.page">'  # stands in page.html; a file with it is overwritten


def page(layer_or_model: Module, input: Tensor, out: str | os.PathLike[str] = "conv.html", *,
         labels: Sequence[Any] | None = None, classes: Sequence[Any] | None = None, layer: str | None = None,
         first: int = 0, about: str = "") -> Path:
    """Write a page that shows what a layer or a model does with ``input``; returns its path.

    One HTML file below 2 MB that works from disk: a browser is all it needs.  A ``Conv2d`` opens with its own weights
    and options on ``input`` (N, C, H, W) or (C, H, W); every setting can be changed there, every output pixel and every
    gradient taken apart into its products.  Any other ``Module`` opens layer by layer: what each of its innermost
    layers made of the input, computed in evaluation mode and left as it was; its convolutions can be taken apart too,
    where their weights and inputs fit on the page.

    ``labels`` has what each image is and ``classes`` the names of a model's outputs, which then get their softmax.
    ``layer`` is the path of the convolution that a model's page begins with, ``first`` the number of the image, and
    ``about`` a sentence under the title.

    The file appears whole or not at all.  Raises ``FileExistsError`` for a file that is no such page,
    ``FileNotFoundError`` for a folder that is not there, ``TypeError`` and ``ValueError`` for arguments that cannot be
    shown, and what the model raises for an input that does not fit.
    """
    images = _checked(layer_or_model, input, labels, first)
    target = _target(out)
    output, calls = computed(layer_or_model, images)
    arrays = Arrays()
    data: dict[str, Any] = {"name": type(layer_or_model).__name__, "first": first, "begin": 0, "network": None}
    if isinstance(layer_or_model, Conv2d):
        given = copied(images)
        assert output is not None  # a Conv2d gives a tensor
        count = _images_that_fit(layer_or_model, given, output)
        data["layers"] = [layer_data("your layer", layer_or_model, given[:count], output[:count], arrays)]
        data["start"] = "layer"
        subtitle = about or f"{layer_or_model!r} on an input of {tuple(images.shape[1:])}, with its own weights."
    else:
        found = network_data(layer_or_model, copied(images), output, calls, classes, arrays)
        data["network"], data["layers"], count = found
        data["start"] = "network" if layer is None else "layer"
        if layer is not None:
            data["begin"] = _index_of(layer, data["layers"], layer_or_model)
        subtitle = about or f"{data['name']}, from its input of {tuple(images.shape[1:])} to its output."
    if count < len(images):
        subtitle += f" The first {count} of {len(images)} images are on this page."
    if first >= count:
        raise ValueError(f"page: first is {first}, but only {count} of the {len(images)} images fit on the page; pass "
                         f"input[{first}:] instead")
    pictures = data["network"]["steps"][0]["values"] if data["network"] else data["layers"][0]["input"]
    data |= {
        "title": "How Conv2d works", "subtitle": subtitle, "samples": count if images.ndim == 4 else 1,
        "labels": None if labels is None else [str(label) for label in labels], "pictures": pictures,
        "origin": f"Written by minidl {__version__}. The maps of a network are minidl's own numbers; what the page "
                  "works out for your settings follows the same formulas (arXiv:1603.07285, relationship 15).",
        "arrays": arrays.as_json(),
    }
    write_whole(str(target), _html(data).encode("utf-8"))
    return target


def _checked(model: Any, input: Any, labels: Any, first: int) -> Tensor:
    """The input with its batch."""
    if not isinstance(model, Module):
        raise TypeError(f"page: layer_or_model must be an nn.Module, got {type(model).__name__}; for loose weights "
                        "make an nn.Conv2d and copy them into its weight")
    if not isinstance(input, Tensor):
        raise TypeError(f"page: input must be a Tensor, got {type(input).__name__}; minidl.as_tensor makes one of an "
                        "array")
    if not input.dtype.is_floating_point:
        raise TypeError(f"page: input has dtype {input.dtype}; convert it with .float()")
    lines = any(isinstance(module, (Conv1d, ConvTranspose1d)) for module in model.modules())
    if input.ndim < 2 or (isinstance(model, Conv2d) and input.ndim not in (3, 4)):
        wanted = "(N, C, H, W) or (C, H, W)" if isinstance(model, Conv2d) else "(N, ...) or one image (C, H, W)"
        raise ValueError(f"page: input {tuple(input.shape)} must be {wanted}")
    batch = input.unsqueeze(0) if input.ndim == 3 and not lines else input
    if 0 in batch.shape:
        raise ValueError(f"page: input {tuple(input.shape)} is empty: there is nothing to show")
    if labels is not None and len(labels) != len(batch):
        raise ValueError(f"page: labels has {len(labels)} entries for {len(batch)} images; give one for each")
    if not 0 <= first < len(batch):
        raise ValueError(f"page: first is {first}; the input has the images 0 to {len(batch) - 1}")
    return batch


def _target(out: str | os.PathLike[str]) -> Path:
    """The file to write, links followed."""
    path = Path(os.path.realpath(out))
    if path.is_dir():
        raise IsADirectoryError(f"page: {out} is a folder; give the name of a file, such as {Path(out) / 'conv.html'}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"page: the folder {path.parent} does not exist; make it first")
    if path.exists():
        with open(path, "rb") as file:
            head = file.read(2048)
        if MARK.encode() not in head:
            raise FileExistsError(f"page: {out} exists and is no page of minidl.explain; choose another name, or "
                                  "delete it")
    return path


def _images_that_fit(layer: Conv2d, images: Any, output: Any) -> int:
    """How many images of a single layer the page has room for."""
    weight = layer_bytes(layer, images[:0], output[:0])
    image = images[0].nbytes + output[0].nbytes
    if weight + image > MOST_BYTES:
        raise ValueError(
            f"page: the weight {tuple(layer.weight.shape)} and one image {images.shape[1:]} with its output "
            f"{output.shape[1:]} take {(weight + image) / 1e6:.1f} MB, the page has room for {MOST_BYTES / 1e6:.1f} "
            "MB; show a part of the image, input[..., :64, :64], or a layer with fewer channels")
    return min(len(images), (MOST_BYTES - weight) // image)


def _index_of(path: str, layers: list[dict[str, Any]], model: Module) -> int:
    paths = [layer["path"] for layer in layers]
    if path in paths:
        return paths.index(path)
    modules = dict(model.named_modules())
    if isinstance(modules.get(path), Conv2d):
        raise ValueError(f"page: {path} has more weights and inputs than the page has room for; leave layer out")
    raise ValueError(f"page: layer is {path!r}; the convolutions of this {type(model).__name__} are "
                     f"{', '.join(paths) or 'none'}")


def _html(data: dict[str, Any]) -> str:
    """The page with everything written into it."""
    text = (ASSETS / "page.html").read_text(encoding="utf-8")
    # "</script>" in a text, say in the name of a class, must not end the element that holds it.
    content = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    scripts = "\n".join(f"<script>\n{(ASSETS / f'{name}.js').read_text(encoding='utf-8')}</script>" for name in SCRIPTS)
    for place, part in (("style", (ASSETS / "page.css").read_text(encoding="utf-8")), ("scripts", scripts),
                        ("data", content)):
        text = text.replace(f"{{{{{place}}}}}", part, 1)
    return text
