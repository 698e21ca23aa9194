"""Reverse-mode differentiation over the recorded tape."""

from minidl._ext.core import Hooks, RemovableHandle
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
from minidl.autograd.gradcheck import gradcheck, gradgradcheck

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
