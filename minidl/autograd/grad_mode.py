"""Switches of the tape: context managers that also serve as decorators, one setting per thread."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from minidl._ext import core

_F = TypeVar("_F", bound=Callable[..., Any])


class _Switch:
    """A context manager that wraps a function when it is called with one."""

    def __call__(self, function: _F) -> _F:
        if inspect.isgeneratorfunction(function):
            return self._wrap_generator(function)

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]

    def _wrap_generator(self, function: _F) -> _F:
        """The setting holds while the generator runs, not while its user does."""

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            generator = function(*args, **kwargs)
            resume: Callable[[], Any] = functools.partial(next, generator)
            try:
                while True:
                    with self._again():
                        value = resume()
                    try:
                        sent = yield value
                    except GeneratorExit:
                        raise
                    except BaseException as error:
                        resume = functools.partial(generator.throw, error)
                    else:
                        resume = functools.partial(generator.send, sent)
            except StopIteration as stop:
                return stop.value
            finally:
                generator.close()

        return wrapped  # type: ignore[return-value]

    def _again(self) -> _Switch:
        return type(self)()

    def __enter__(self) -> Any:
        raise NotImplementedError

    def __exit__(self, *exception: object) -> None:
        raise NotImplementedError


class _GradSwitch(_Switch):
    _enabled = True

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        # @no_grad without parentheses, as PyTorch allows
        switch = super().__new__(cls)
        return switch if function is None else switch(function)

    def __enter__(self) -> None:
        self._before = core.set_grad_enabled(self._enabled)

    def __exit__(self, *exception: object) -> None:
        core.set_grad_enabled(self._before)


class no_grad(_GradSwitch):
    """Record nothing inside: ``with no_grad():`` or ``@no_grad()`` over a function."""

    _enabled = False


class enable_grad(_GradSwitch):
    """Record inside, also within ``no_grad``."""

    _enabled = True


class set_grad_enabled(_Switch):
    """Switch recording on or off: at once when called, and back at the end when used as a context manager."""

    def __init__(self, mode: bool) -> None:
        self._mode = bool(mode)
        self._before = core.set_grad_enabled(self._mode)

    def __call__(self, function: _F) -> _F:
        core.set_grad_enabled(self._before)
        return super().__call__(function)

    def _again(self) -> set_grad_enabled:
        return set_grad_enabled(self._mode)

    def __enter__(self) -> None:
        core.set_grad_enabled(self._mode)

    def __exit__(self, *exception: object) -> None:
        core.set_grad_enabled(self._before)


class inference_mode(_Switch):
    """Like ``no_grad``, and tensors made inside can never be put on a tape.

    ``inference_mode(False)`` records again.
    """

    def __new__(cls, mode: bool | Callable[..., Any] = True) -> Any:
        if callable(mode):
            switch = super().__new__(cls)
            switch._mode = True
            return switch(mode)
        return super().__new__(cls)

    def __init__(self, mode: bool = True) -> None:
        self._mode = bool(mode)

    def _again(self) -> inference_mode:
        return inference_mode(self._mode)

    def __enter__(self) -> None:
        self._before = core.set_inference_enabled(self._mode)
        self._grad_before = core.set_grad_enabled(not self._mode)

    def __exit__(self, *exception: object) -> None:
        core.set_inference_enabled(self._before)
        core.set_grad_enabled(self._grad_before)


def is_grad_enabled() -> bool:
    """Whether ops are being recorded in this thread."""
    return core.grad_enabled()


def is_inference_mode_enabled() -> bool:
    """Whether this thread is in inference mode."""
    return core.inference_enabled()
