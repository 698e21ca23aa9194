"""``explain.network``: a whole model as a table, and its tape as a graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from minidl import geometry, nn
from minidl._ext.core import Node
from minidl._tensor import Tensor
from minidl.autograd import enable_grad
from minidl.explain.kinds import CLASSES
from minidl.explain.shapes import shape, transposed_field
from minidl.explain.style import BLUE, GREEN, GREY, ORANGE, need
from minidl.explain.text import Text, by, html_table, table
from minidl.ops.creation import zeros

# Ops after which a number depends on all of the input that went in, whatever its place was.
_MIXING = {"linear", "matmul", "bmm", "sum", "mean", "amax", "amin", "max_with_indices", "min_with_indices", "var",
           "logsumexp", "prod", "cumsum", "sort"}


@dataclass(frozen=True)
class Row:
    """One layer in the order of the calls.

    ``multiply_adds`` counts those of convolutions and Linear, for the whole batch; ``receptive_field`` is the pixels of
    the model's input, along each side, that one output number depends on (padding included), or None for all of them;
    ``bytes`` is the memory of the output, 0 where it is the input's (Flatten).
    """

    path: str
    layer: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: tuple[int, ...] | None
    bytes: int


@dataclass(frozen=True)
class Step:
    """One node of the tape: its op, the shapes of its tensor arguments, and where they come from.

    A source is a number of an earlier step, or the name of the input or of a parameter.
    """

    number: int
    op: str
    shapes: tuple[tuple[int, ...], ...]
    sources: tuple[int | str, ...]


@dataclass(frozen=True, repr=False)
class Network(Text):
    """A model's layers (``rows``) and the steps of its tape (``steps``).  Prints as a table; ``tape()`` has the rest.

    In a notebook the graph is drawn under the table, where Graphviz is installed.
    """

    title: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    rows: tuple[Row, ...]
    steps: tuple[Step, ...]
    parameters: int

    def lines(self) -> list[str]:
        return [f"{self.title}, input {self.input_shape}", "", *table(*self._table(), left=2), "", self._totals()]

    def tape(self) -> str:
        """The tape as text: every step with the shapes that went in and where they came from."""
        lines = []
        for step in self.steps:
            sources = ", ".join(f"{_source(source)} {shape}"
                                for source, shape in zip(step.sources, step.shapes, strict=True))
            lines.append(f"{_source(step.number):>4}  {step.op}({sources})")
        return "\n".join([*lines, f"      output {self.output_shape}"])

    def dot(self) -> str:
        """The tape as a graph in Graphviz's language: data in boxes, steps in ellipses."""
        lines = ["digraph tape {", '  rankdir=TB; node [fontname="Helvetica", fontsize=11];',
                 f'  edge [fontname="Helvetica", fontsize=9, color="{GREY}"];']
        leaves = dict.fromkeys(source for step in self.steps for source in step.sources if isinstance(source, str))
        for leaf in leaves:
            colour = GREEN if leaf == "input" else BLUE
            lines.append(f'  "{leaf}" [shape=box, style=rounded, color="{colour}", penwidth=1.5];')
        for step in self.steps:
            lines.append(f'  s{step.number} [label="{step.op}", color="{ORANGE}", penwidth=1.5];')
            for source, size in zip(step.sources, step.shapes, strict=True):
                start = f'"{source}"' if isinstance(source, str) else f"s{source}"
                lines.append(f'  {start} -> s{step.number} [label=" {by(size)}"];')
        last = self.steps[-1].number if self.steps else 0
        return "\n".join([*lines, f'  "output" [shape=box, style=rounded, color="{GREEN}", penwidth=1.5];',
                          f'  s{last} -> "output" [label=" {by(self.output_shape)}"];', "}"])

    def svg(self) -> str:
        """The graph of the tape as SVG.

        Raises ``ImportError`` without the package graphviz, ``RuntimeError`` without Graphviz itself, the program dot.
        """
        graphviz = need("graphviz", "the graph of a network")
        try:
            return graphviz.Source(self.dot()).pipe(format="svg", encoding="utf-8")
        except graphviz.ExecutableNotFound:
            raise RuntimeError("the graph of a network needs Graphviz's program dot: install the system's package "
                               "graphviz; .tape() is the same as text, .dot() Graphviz's source") from None

    def graph(self) -> str:
        """The tape as SVG where Graphviz is installed, as text elsewhere."""
        try:
            return self.svg()
        except (ImportError, RuntimeError):
            return self.tape()

    def _repr_html_(self) -> str:
        graph = self.graph()
        if "<svg" in graph:
            graph = graph[graph.index("<svg"):]
        else:
            graph = f"<pre>{graph}</pre>"
        return (f"<p><b>{self.title}</b>, input {self.input_shape}</p>{html_table(*self._table(), left=2)}"
                f"<p>{self._totals()}</p>{graph}")

    def _table(self) -> tuple[list[str], list[list[str]]]:
        head = ["layer", "kind", "output", "parameters", "multiply-adds", "sees", "memory"]
        rows = [[row.path, row.layer, str(row.output_shape), f"{row.parameters:,}" if row.parameters else "",
                 f"{row.multiply_adds:,}" if row.multiply_adds else "",
                 "all" if row.receptive_field is None else by(row.receptive_field),
                 _bytes(row.bytes) if row.bytes else "the input's"] for row in self.rows]
        return head, rows

    def _totals(self) -> str:
        multiply_adds = sum(row.multiply_adds for row in self.rows)
        return (f"{self.parameters:,} parameters, {multiply_adds:,} multiply-adds, "
                f"{_bytes(sum(row.bytes for row in self.rows))} of activations")


def network(model: nn.Module, input_shape: Sequence[int]) -> Network:
    """The layers of a model in the order in which they are called, and its tape, for an input of this shape.

    The model is run once over zeros, as in ``eval()``, and left as it was.  Layers without layers of their own have a
    row; ops that a ``forward`` calls itself are steps of the tape.  Receptive fields follow the tape
    (https://distill.pub/2019/computing-receptive-fields), through branches too.

    Raises ``TypeError`` for what is no Module, and what the model raises for an input that does not fit.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"explain.network: needs a Module, got {type(model).__name__}")
    parameters = list(model.parameters())
    dtype = parameters[0].dtype if parameters else None
    input = zeros(tuple(input_shape), dtype=dtype, requires_grad=True)
    calls: list[tuple[str, nn.Module, tuple[int, ...], Tensor, bool]] = []

    def noting(path: str, module: nn.Module) -> Any:
        def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            if isinstance(first, Tensor) and inputs and isinstance(inputs[0], Tensor):
                shared = first.data_ptr() == inputs[0].data_ptr()
                calls.append((path, module, tuple(inputs[0].shape), first, shared))

        return module.register_forward_hook(note)

    with leaves(model) as found, enable_grad():
        handles = [noting(path, module) for path, module in found]
        try:
            output = model(input)
        finally:
            for handle in handles:
                handle.remove()
    output = output[0] if isinstance(output, tuple) else output
    nodes = _nodes(output)
    fields = _fields(nodes, len(input.shape) - 2)
    rows = tuple(
        Row(path or type(module).__name__, type(module).__name__, tuple(made.shape),
            sum(parameter.numel() for parameter in module.parameters()), _multiply_adds(module, given, made),
            _field(fields, made), 0 if shared else made.numel() * made.element_size())
        for path, module, given, made, shared in calls)
    names = {id(parameter): name for name, parameter in model.named_parameters()} | {id(input): "input"}
    return Network(type(model).__name__, tuple(input_shape), tuple(output.shape), rows, _steps(nodes, names),
                   sum(parameter.numel() for parameter in parameters))


@contextmanager
def leaves(model: nn.Module) -> Iterator[list[tuple[str, nn.Module]]]:
    """The layers without layers of their own, by their paths, while the model is in ``eval()``; then it is as
    before."""
    training = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield [(path, module) for path, module in model.named_modules() if not list(module.children())]
    finally:
        for module, was in training:
            module.training = was


def _multiply_adds(module: nn.Module, given: tuple[int, ...], made: Tensor) -> int:
    if isinstance(module, nn.Linear):
        return made.numel() * module.in_features
    if any(kind.__name__ in CLASSES for kind in type(module).__mro__):
        return shape(module, given).multiply_adds
    return 0


def _nodes(output: Tensor) -> list[Node]:
    """All nodes of the tape, in the order in which they were recorded."""
    found: dict[int, Node] = {}
    waiting: list[Any] = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Node) and node.sequence not in found:
            found[node.sequence] = node
            waiting += node.edges
    return [found[sequence] for sequence in sorted(found)]


# What one number of a tensor sees of the model's input: along each side so many pixels, and the step, in pixels of the
# input, from one number to the next.  None: all of the input.
_Field = tuple[tuple[int, ...], tuple[float, ...]] | None


def _fields(nodes: list[Node], sides: int) -> dict[int, _Field]:
    """The field of each node's output, by the node's number in the sequence."""
    fields: dict[int, _Field] = {}
    for node in nodes:
        earlier: list[_Field] = []
        for edge in node.edges:
            if isinstance(edge, Node):
                earlier.append(fields[edge.sequence])
            elif edge is not None and not isinstance(edge, nn.Parameter):
                earlier.append(((1,) * sides, (1.0,) * sides))
        fields[node.sequence] = _after(node, earlier)
    return fields


def _after(node: Node, earlier: list[_Field]) -> _Field:
    """The field behind one step."""
    known = [field for field in earlier if field is not None]
    name = "" if node.op is None else node.op.name
    if len(known) < len(earlier) or not known or name in _MIXING:
        return None
    field = tuple(map(max, zip(*(sees for sees, _ in known), strict=True)))
    step = tuple(map(max, zip(*(steps for _, steps in known), strict=True)))
    slid = _slid(node, name)
    if slid is None:
        return field, step
    slid = slid[-len(field):]
    return (tuple(int(sees + (window - 1) * each) for sees, each, (window, _) in zip(field, step, slid, strict=True)),
            tuple(each * stride for each, (_, stride) in zip(step, slid, strict=True)))


def _slid(node: Node, name: str) -> list[tuple[int, float]] | None:
    """Along each side what one number of this step sees, and its stride; None where the step slides no window."""
    shapes = [argument for argument in node.args if isinstance(argument, tuple)]
    for fit in node.args:
        if isinstance(fit, geometry.Conv2dGeometry | geometry.Pool2dGeometry):
            sides = [(fit.KH, fit.stride_h, fit.dilation_h), (fit.KW, fit.stride_w, fit.dilation_w)]
            if name.startswith("conv_transpose"):
                return [(transposed_field(*side), 1 / side[1]) for side in sides]
            return [(geometry.kernel_span(kernel, dilation), stride) for kernel, stride, dilation in sides]
    if name == "adaptive_avg_pool2d":
        sizes = zip(shapes[0][-2:], node.args[1], strict=True)
        return [(max(window.stop - window.start for window in
                     (geometry.adaptive_window(size, outputs, i) for i in range(outputs))), size / outputs)
                for size, outputs in sizes]
    return None


def _field(fields: dict[int, _Field], made: Tensor) -> tuple[int, ...] | None:
    node = made.grad_fn
    found = fields.get(node.sequence) if isinstance(node, Node) else None
    return None if found is None else found[0]


def _steps(nodes: list[Node], names: dict[int, str]) -> tuple[Step, ...]:
    numbers = {node.sequence: i + 1 for i, node in enumerate(nodes)}
    steps = []
    for node in nodes:
        # An argument without an edge is a constant or an option: nothing comes from it.
        given = [(edge, argument) for edge, argument in zip(node.edges, node.args, strict=True) if edge is not None]
        sources = tuple(numbers[edge.sequence] if isinstance(edge, Node) else names.get(id(edge), "a tensor")
                        for edge, _ in given)
        op = node.name() if node.op is None else node.op.name
        steps.append(Step(numbers[node.sequence], op, tuple(argument for _, argument in given), sources))
    return tuple(steps)


def _source(source: int | str) -> str:
    return f"#{source}" if isinstance(source, int) else source


def _bytes(count: int) -> str:
    if count < 10_000:
        return f"{count:,} B"
    return f"{count / 2**10:,.0f} KB" if count < 10 * 2**20 else f"{count / 2**20:,.0f} MB"
