"""Switches and answers of the CPU kernels."""

from __future__ import annotations

from minidl._ext import instruction_set

_CAPABILITY = {"base": "DEFAULT", "avx2": "AVX2", "avx512": "AVX512"}


def get_cpu_capability() -> str:
    """The vector instructions that the kernels use: "DEFAULT", "AVX2" or "AVX512".

    It is the most that the processor has, or what the environment variable ``MINIDL_ISA`` (``base``, ``avx2``,
    ``avx512``) said when minidl was imported.
    """
    return _CAPABILITY[instruction_set.used()]
