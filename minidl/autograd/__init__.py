"""Reverse-mode differentiation over the recorded tape."""

from typing import TYPE_CHECKING

from minidl._ext.core import Hooks, RemovableHandle
from minidl._on_first_use import on_first_use
from minidl.autograd.backward import backward, grad
from minidl.autograd.function import Function
from minidl.autograd.grad_mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)

if TYPE_CHECKING:
    from minidl.autograd.finite_differences import gradcheck, gradgradcheck
else:
    __getattr__, __dir__ = on_first_use(__name__, dict.fromkeys(
        ("gradcheck", "gradgradcheck"), "minidl.autograd.finite_differences"))

__all__ = [
    "Function",
    "Hooks",
    "RemovableHandle",
    "backward",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "no_grad",
    "set_grad_enabled",
]
