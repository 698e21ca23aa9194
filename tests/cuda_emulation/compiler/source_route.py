"""Rewrites preprocessed CUDA C where C++ has no words for it.

- ``extern __shared__ T name[];`` becomes a pointer to the block's dynamic shared memory,
- every other ``__shared__`` array is made known to the driver, which fills it with NaN before each block,
- every ``extern "C" __global__`` function gets a record that the driver finds by name.
"""

from __future__ import annotations

import re

EXTERN_SHARED = re.compile(r"extern\s+__shared__\s+([^;]+?)(\w+)\s*\[\s*\]\s*;")
SHARED = re.compile(r"__shared__\s+([^;]+);")
EXTERN_C = re.compile(r'extern\s*"C"\s*\{')
KERNEL = re.compile(
    r'(?P<extern>extern\s*"C"\s*)?(?:\bstatic\s+)?__global__\s+(?:(?:[^(;{}]|\((?:[^()]|\([^()]*\))*\))*?)'
    r"\b(?!__launch_bounds__\b)(?P<name>\w+)\s*\((?=[^;{]*\)\s*\{)"
)
LAUNCH_BOUNDS = re.compile(r"__launch_bounds__\s*\(((?:[^()]|\([^()]*\))*)\)")
ALIGNMENT = re.compile(r"(?:__align__|alignas)\s*\([^()]*\)")


def split_at_commas(text: str) -> list[str]:
    """``text`` cut at the commas that stand in no bracket."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{<") - (character in ")]}>")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def as_pointer(match: re.Match[str]) -> str:
    element = ALIGNMENT.sub("", match[1]).strip()
    return f"{element}* {match[2]} = ({element}*)emulated_dynamic_shared();"


def with_registration(match: re.Match[str]) -> str:
    declarators = split_at_commas(match[1])
    if "(" in ALIGNMENT.sub("", declarators[0]):  # a function, not a variable
        return match[0]
    names = [re.search(r"(\w+)\s*(?:\[.*)?$", part.strip(), re.DOTALL)[1] for part in declarators]
    registrations = (f"static const SharedArray registered_{name}({name});" for name in names)
    return f"__shared__ {match[1]}; " + " ".join(registrations)


def extern_c_blocks(text: str) -> list[tuple[int, int]]:
    """Where each ``extern "C" { ... }`` begins and ends."""
    blocks = []
    for match in EXTERN_C.finditer(text):
        depth, end = 1, match.end()
        while depth and end < len(text):
            depth += (text[end] == "{") - (text[end] == "}")
            end += 1
        blocks.append((match.end(), end))
    return blocks


def exported_kernels(text: str) -> dict[str, str]:
    """The names of all ``extern "C"`` kernels, each with the most threads that its launch bounds allow."""
    blocks, kernels = extern_c_blocks(text), {}
    for match in KERNEL.finditer(text):
        if match["extern"] or any(begin <= match.start() < end for begin, end in blocks):
            bounds = LAUNCH_BOUNDS.search(match[0])
            kernels[match["name"]] = split_at_commas(bounds[1])[0] if bounds else "1024"
    return kernels


def rewrite(text: str) -> str:
    """Preprocessed CUDA C as C++ for the device header."""
    text = SHARED.sub(with_registration, EXTERN_SHARED.sub(as_pointer, text))
    exports = [f"EMULATED_KERNEL({name}, ({threads}))" for name, threads in exported_kernels(text).items()]
    return text + "\n" + "\n".join(exports) + "\n"
