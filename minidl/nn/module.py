"""``Module``: the base class of layers and networks.

Parameters, buffers and submodules are found through three tables (``_parameters``, ``_buffers``, ``_modules``) and are
real attributes of the instance besides: reading one costs what any attribute costs, with no ``__getattr__`` on the
way.  Assignment keeps the two in step; write to the tables through ``register_*`` and plain assignment only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from minidl._ext.forwarding import Forwarding
from minidl._tensor import Parameter, Tensor
from minidl._types import as_dtype, dtype
from minidl.autograd import Hooks, RemovableHandle, no_grad
from minidl.nn.errors import LayerError
from minidl.nn.hooks import add_hook, call_with_hooks
from minidl.nn.state import IncompatibleKeys, load_state_dict, persistent_tensors

_Self = TypeVar("_Self", bound="Module")
_TABLES = ("_parameters", "_buffers", "_modules")


class Module(Forwarding):
    """Subclass it, make layers and parameters in ``__init__`` (after ``super().__init__()``), use them in ``forward``.

    ``training`` tells layers such as Dropout and BatchNorm2d whether the network is being trained.
    """

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _non_persistent: set[str]
    _forward_pre_hooks: dict[RemovableHandle, tuple[Callable[..., Any], bool]]
    _forward_hooks: dict[RemovableHandle, tuple[Callable[..., Any], bool]]
    _backward_hooks: dict[RemovableHandle, Callable[..., Any]]
    _hooked = False  # true from the first hook on: only then does a call look for hooks

    def __init__(self) -> None:
        self.__dict__.update(
            training=True, _parameters={}, _buffers={}, _modules={}, _non_persistent=set(), _forward_pre_hooks=Hooks(),
            _forward_hooks=Hooks(), _backward_hooks=Hooks())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass writes its own."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    # ``__call__``, in compiled code, is ``forward``, or this from the first hook on.
    _call_hooked = call_with_hooks

    def _failed(self, error: Exception) -> None:
        if isinstance(error, LayerError):
            error.seen_from(self)

    # -- attributes and the three tables

    def __setattr__(self, name: str, value: Any) -> None:
        fields = self.__dict__
        if isinstance(value, Parameter):
            self._require_init("parameters")
            if hasattr(type(self), name):
                raise KeyError(f"attribute '{name}' already exists")
            self._enter("_parameters", name, value)
        elif isinstance(value, Module):
            self._require_init("module")
            self._enter("_modules", name, value)
        elif name in fields.get("_parameters", ()):
            if value is not None:
                raise TypeError(f"cannot assign '{type(value).__name__}' as parameter '{name}' "
                                "(minidl.nn.Parameter or None expected)")
            self._enter("_parameters", name, None)
        elif name in fields.get("_modules", ()):
            if value is not None:
                raise TypeError(f"cannot assign '{type(value).__name__}' as child module '{name}' "
                                "(minidl.nn.Module or None expected)")
            self._enter("_modules", name, None)
        elif name in fields.get("_buffers", ()):
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(f"cannot assign '{type(value).__name__}' as buffer '{name}' "
                                "(minidl.Tensor or None expected)")
            fields["_buffers"][name] = fields[name] = value
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        for table in _TABLES:
            self.__dict__[table].pop(name, None)
        self._non_persistent.discard(name)

    def _enter(self, table: str, name: str, value: Any) -> None:
        """Put a value into one table and among the attributes, and out of the other tables."""
        fields = self.__dict__
        for other in _TABLES:
            if other != table:
                fields[other].pop(name, None)
        fields["_non_persistent"].discard(name)
        fields[table][name] = fields[name] = value

    def _require_init(self, what: str) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError(f"cannot assign {what} before Module.__init__() call")

    def _require_name(self, what: str, table: str, name: Any) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{what} name should be a string. Got {type(name).__name__}")
        if "." in name:
            raise KeyError(f'{what} name can\'t contain ".", got: {name}')
        if not name:
            raise KeyError(f'{what} name can\'t be empty string ""')
        if hasattr(self, name) and name not in self.__dict__[table]:
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter, or with None a place for one.

        Raises ``KeyError`` for a name that is taken, ``TypeError`` for what is not a Parameter.
        """
        self._require_init("parameters")
        self._require_name("parameter", "_parameters", name)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"cannot assign '{type(param).__name__}' object to parameter '{name}' "
                            "(minidl.nn.Parameter or None required)")
        self._enter("_parameters", name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that belongs to the state but is not trained; left out of ``state_dict`` if not persistent."""
        self._require_init("buffer")
        self._require_name("buffer", "_buffers", name)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' "
                            "(minidl.Tensor or None required)")
        self._enter("_buffers", name, tensor)
        if not persistent:
            self._non_persistent.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child module under a name."""
        self._require_init("module")
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self._require_name("module", "_modules", name)
        self._enter("_modules", name, module)

    register_module = add_module

    # -- what there is inside

    def named_modules(self, memo: set[Module] | None = None, prefix: str = "",
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """``(path, module)`` of this module (path "") and all below it, each before its children."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """``(name, module)`` of the modules directly inside."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The modules directly inside."""
        return (module for _, module in self.named_children())

    def _named_tensors(self, table: str, prefix: str, recurse: bool,
                       remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
        seen = set()
        inside = self.named_modules(None, prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in inside:
            for name, tensor in module.__dict__[table].items():
                if tensor is None or id(tensor) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(tensor))
                yield (f"{path}.{name}" if path else name), tensor

    def named_parameters(self, prefix: str = "", recurse: bool = True,
                         remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """``(path, parameter)`` of all parameters; one that is shared appears once."""
        return self._named_tensors("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, or with ``recurse=False`` the module's own."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True,
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """``(path, buffer)`` of all buffers."""
        return self._named_tensors("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, or with ``recurse=False`` the module's own."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module at a path such as ``"features.3"``; ``AttributeError`` where there is none."""
        module: Any = self
        for name in target.split(".") if target else ():
            if not hasattr(module, name):
                raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a path such as ``"features.3.weight"``; ``AttributeError`` where there is none."""
        return self._get_tensor(target, "_parameters", "an nn.Parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a path; ``AttributeError`` where there is none."""
        return self._get_tensor(target, "_buffers", "a buffer")

    def _get_tensor(self, target: str, table: str, what: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
        if module.__dict__[table].get(name) is None:
            raise AttributeError(f"`{name}` is not {what}")
        return module.__dict__[table][name]

    # -- state

    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """All parameters and persistent buffers by path, sharing the memory of the module.

        Each module's parameters come first, then its buffers, then its children.  ``keep_vars`` gives the parameters
        themselves instead of tensors off the tape.
        """
        state = OrderedDict() if destination is None else destination
        for key, tensor in persistent_tensors(self, prefix):
            state[key] = tensor if keep_vars else tensor.detach()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True,
                        assign: bool = False) -> IncompatibleKeys:
        """Copy values (tensors, NumPy arrays or PyTorch tensors) into the parameters and buffers of the same paths.

        With ``assign`` the given tensors themselves take their places, with their dtypes and devices (make the
        optimizer afterwards); ``requires_grad`` stays as it is in the module.

        Returns the missing and the unexpected keys.  Raises ``RuntimeError`` that lists them if ``strict``, and every
        shape that differs in any case; nothing has been changed then.
        """
        return load_state_dict(self, state_dict, strict, assign)

    # -- changes to the whole tree

    def apply(self: _Self, fn: Callable[[Module], Any]) -> _Self:
        """Call ``fn`` on every module below and at last on this one, for instance to initialise weights."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def _convert(self: _Self, convert: Callable[[Tensor], Tensor]) -> _Self:
        """Replace the memory of every parameter and every buffer; parameters stay the same objects."""
        with no_grad():
            for parameter in self.parameters():
                grad = parameter.grad
                parameter.data = convert(parameter.data)
                if grad is not None:
                    parameter.grad = convert(grad)
            for module in self.modules():
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        setattr(module, name, convert(buffer))
        return self

    def to(self: _Self, *args: Any, **kwargs: Any) -> _Self:
        """Move to a device and convert floating parameters and buffers: ``to(device)``, ``to(dtype)``, ``to(tensor)``.

        Changes the module itself and returns it.  Raises ``TypeError`` for a dtype that holds no fractions.
        """
        device, kind = kwargs.pop("device", None), kwargs.pop("dtype", None)
        kwargs.pop("non_blocking", None)
        if kwargs:
            raise TypeError(f"to() got an unexpected keyword argument '{next(iter(kwargs))}'")
        for arg in args:
            if isinstance(arg, Tensor):
                device, kind = arg.device, arg.dtype
            elif isinstance(arg, dtype):
                kind = arg
            elif not isinstance(arg, bool):  # non_blocking given by position
                device = arg
        if kind is not None:
            kind = as_dtype(kind)
            if not kind.is_floating_point:
                raise TypeError(f"nn.Module.to only accepts floating point dtypes, but got desired dtype={kind}")
        return self._convert(lambda t: t.to(device=device, dtype=kind if t.dtype.is_floating_point else None))

    def float(self: _Self) -> _Self:
        """Floating parameters and buffers as float32."""
        return self.to(as_dtype("float32"))

    def double(self: _Self) -> _Self:
        """Floating parameters and buffers as float64."""
        return self.to(as_dtype("float64"))

    def cpu(self: _Self) -> _Self:
        """Parameters and buffers in the memory of the machine."""
        return self.to("cpu")

    def cuda(self: _Self, device: Any = None) -> _Self:
        """Parameters and buffers on a GPU."""
        return self.to("cuda" if device is None else device)

    def train(self: _Self, mode: bool = True) -> _Self:
        """Set ``training`` in this module and all below it."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: _Self) -> _Self:
        """``train(False)``."""
        return self.train(False)

    def requires_grad_(self: _Self, requires_grad: bool = True) -> _Self:
        """Ask for (or give up) gradients for all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or fill them with zeros."""
        for parameter in self.parameters():
            if set_to_none or parameter.grad is None:
                parameter.grad = None
            else:
                parameter.grad = parameter.grad.detach().zero_()

    # -- hooks

    def register_forward_pre_hook(self, hook: Callable[..., Any], *, prepend: bool = False,
                                  with_kwargs: bool = False) -> RemovableHandle:
        """Call ``hook(module, args)`` before ``forward``; what it returns takes the place of the arguments."""
        return add_hook(self, self._forward_pre_hooks, (hook, with_kwargs), prepend)

    def register_forward_hook(self, hook: Callable[..., Any], *, prepend: bool = False,
                              with_kwargs: bool = False) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after ``forward``; what it returns takes the place of the output."""
        return add_hook(self, self._forward_hooks, (hook, with_kwargs), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` once the gradients of the inputs are there.

        Both are tuples; what it returns takes the place of ``grad_input``.
        """
        return add_hook(self, self._backward_hooks, hook, prepend)

    # -- how it looks

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What stands between the parentheses of the module's ``repr``."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        if not self._modules and "\n" not in extra:
            return f"{self._get_name()}({extra})"
        lines = extra.split("\n") if extra else []
        lines += [f"({name}): {indented(repr(module))}" for name, module in self._modules.items()]
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"

    def __dir__(self) -> list[str]:
        return sorted(name for name in super().__dir__() if not name[0].isdigit())


def indented(text: str) -> str:
    """``text`` with all lines but the first two places to the right."""
    return text.replace("\n", "\n  ")
