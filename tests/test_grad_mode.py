"""Grad modes: as contexts, decorators and functions."""

from __future__ import annotations

import pytest
from tape_parts import leaf

import minidl


def recording():
    return (leaf(1.0) * 2.0).requires_grad


def test_modes_as_contexts():
    with minidl.no_grad():
        assert not recording() and not minidl.is_grad_enabled()
        with minidl.enable_grad():
            assert recording()
            with minidl.set_grad_enabled(False):
                assert not recording()
            assert recording()
        assert not recording()
    assert recording()


def test_modes_come_back_after_an_exception():
    for mode in (minidl.no_grad, minidl.inference_mode, lambda: minidl.set_grad_enabled(False)):
        with pytest.raises(KeyError), mode():
            raise KeyError
        assert recording() and not minidl.is_inference_mode_enabled()


def test_modes_as_decorators_with_and_without_parentheses():
    @minidl.no_grad()
    def a(x, *, y=1):
        """Text."""
        return recording(), x, y

    @minidl.no_grad
    def b():
        return recording()

    @minidl.inference_mode
    def c():
        return recording(), minidl.is_inference_mode_enabled()

    @minidl.inference_mode()
    def d():
        return recording(), minidl.is_inference_mode_enabled()

    @minidl.enable_grad()
    def e():
        return recording()

    @minidl.set_grad_enabled(False)
    def f():
        return recording()

    assert a(5, y=2) == (False, 5, 2) and a.__name__ == "a" and a.__doc__ == "Text."
    assert b() is False and c() == (False, True) == d() and f() is False
    with minidl.no_grad():
        assert e() is True
    assert recording()


def test_a_decorated_function_may_call_itself():
    @minidl.no_grad()
    def down(n):
        return recording() if not n else down(n - 1)

    assert down(5) is False and recording()


def test_a_decorated_generator_switches_only_while_it_runs():
    @minidl.no_grad()
    def numbers():
        received = yield recording()
        try:
            yield received, recording()
        except KeyError:
            yield "caught", recording()
        return "end"

    generator = numbers()
    assert next(generator) is False and recording()
    assert generator.send("hello") == ("hello", False) and recording()
    assert generator.throw(KeyError()) == ("caught", False) and recording()
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "end" and recording()


def test_set_grad_enabled_as_a_function():
    minidl.set_grad_enabled(False)
    try:
        assert not recording()
    finally:
        minidl.set_grad_enabled(True)
    assert recording()


def test_inference_mode():
    a = leaf(1.0, 2.0)
    with minidl.inference_mode():
        x = a * 2.0
        view = a[0:1]
        assert x.is_inference() and not x.requires_grad and not view.is_inference()
        x.add_(1.0)
        assert x[0].is_inference()
    assert not a.is_inference()
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        x * a
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside InferenceMode"):
        x.add_(1.0)
    with pytest.raises(RuntimeError, match="Setting requires_grad=True on inference tensor"):
        x.requires_grad_()
    assert (x.clone() * a).requires_grad and (x + a).requires_grad


@pytest.mark.torch
def test_nested_inference_modes_are_pytorchs(torch):
    def states(lib):
        seen = []

        def note():
            seen.append((lib.is_grad_enabled(), lib.is_inference_mode_enabled()))

        with lib.inference_mode():
            note()
            with lib.inference_mode(False):
                note()
            with lib.enable_grad():
                note()
        with lib.no_grad(), lib.inference_mode(False):
            note()
        note()
        return seen

    assert states(minidl) == states(torch)
