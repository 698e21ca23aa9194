"""The same networks and layers in JAX, as one jitted function each, with weights that minidl drew.

A network is rebuilt over the ``state_dict`` of minidl's: the names of the layers are the names of the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks import networks
from benchmarks.case import numpy_of, seeded

Weights = dict[str, jax.Array]


def _weights(make: Callable[[Any], Any]) -> Weights:
    """Parameters and running statistics of the network, by name."""
    import minidl

    minidl.manual_seed(0)
    return {name: jnp.array(np.asarray(value)) for name, value in make(minidl).state_dict().items()
            if value.dtype.is_floating_point}


def _conv(p: Weights, name: str, x: Any, stride: int = 1, padding: int = 0) -> Any:
    y = lax.conv_general_dilated(x, p[f"{name}.weight"], (stride, stride), [(padding, padding)] * 2,
                                 dimension_numbers=("NCHW", "OIHW", "NCHW"))
    return y + p[f"{name}.bias"][:, None, None] if f"{name}.bias" in p else y


def _linear(p: Weights, name: str, x: Any) -> Any:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def _batch_norm(p: Weights, name: str, x: Any, new: Weights, momentum: float = 0.1, eps: float = 1e-5) -> Any:
    """In training mode; the running statistics that come out are put into ``new``."""
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    count = x.size / x.shape[1]
    for what, now in (("mean", mean), ("var", var * count / (count - 1))):
        key = f"{name}.running_{what}"
        new[key] = (1 - momentum) * p[key] + momentum * now
    scale = p[f"{name}.weight"] * lax.rsqrt(var + eps)
    return x * scale[:, None, None] + (p[f"{name}.bias"] - mean * scale)[:, None, None]


def _pool(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def _flat(x: Any) -> Any:
    return x.reshape(x.shape[0], -1)


def _lenet(p: Weights, x: Any, new: Weights) -> Any:
    x = _pool(jax.nn.relu(_conv(p, "conv1", x, padding=2)))
    x = _flat(_pool(jax.nn.relu(_conv(p, "conv2", x))))
    return _linear(p, "fc3", jax.nn.relu(_linear(p, "fc2", jax.nn.relu(_linear(p, "fc1", x)))))


def _vgg(p: Weights, x: Any, new: Weights) -> Any:
    at = 0
    for _ in range(3):
        for _ in range(2):
            x = jax.nn.relu(_batch_norm(p, str(at + 1), _conv(p, str(at), x, padding=1), new))
            at += 3
        x = _pool(x)
        at += 1
    return _linear(p, str(at + 1), _flat(x))


def _resnet(p: Weights, x: Any, new: Weights, stages: int, blocks: int) -> Any:
    x = jax.nn.relu(_batch_norm(p, "1", _conv(p, "0", x, padding=1), new))
    at = 3
    for stage in range(stages):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = jax.nn.relu(_batch_norm(p, f"{at}.bn1", _conv(p, f"{at}.conv1", x, stride, 1), new))
            y = _batch_norm(p, f"{at}.bn2", _conv(p, f"{at}.conv2", y, 1, 1), new)
            if f"{at}.shortcut.0.weight" in p:
                x = _batch_norm(p, f"{at}.shortcut.1", _conv(p, f"{at}.shortcut.0", x, stride), new)
            x = jax.nn.relu(x + y)
            at += 1
    return _linear(p, str(at + 2), x.mean((2, 3)))


FORWARD: dict[Any, Callable[[Weights, Any, Weights], Any]] = {
    networks.LeNet: _lenet,
    networks.VGG: _vgg,
    networks.ResNet8: partial(_resnet, stages=3, blocks=1),
    networks.ResNet18: partial(_resnet, stages=4, blocks=2),
}


def inference(make: Any, images: np.ndarray) -> Callable[[], Any]:
    """A function that computes the class scores and waits for them."""
    p, x = _weights(make), jnp.array(images)
    forward = jax.jit(lambda p, x: FORWARD[make](p, x, {}))
    return lambda: jax.block_until_ready(forward(p, x))


def training(make: Any, images: np.ndarray, labels: np.ndarray, rate: float,
             momentum: float) -> tuple[Callable[[], Any], Callable[[], list[np.ndarray]]]:
    """A step that returns the loss when all is done, and a function that gives the first and the last weights."""
    everything = _weights(make)
    x, wanted = jnp.array(images), jnp.array(labels)
    p = {name: value for name, value in everything.items() if "running_" not in name}
    statistics = {name: value for name, value in everything.items() if "running_" in name}
    velocity = {name: jnp.zeros_like(value) for name, value in p.items()}

    def loss_of(p: Weights, statistics: Weights) -> Any:
        new: Weights = {}
        scores = jax.nn.log_softmax(FORWARD[make]({**p, **statistics}, x, new))
        return -scores[jnp.arange(len(wanted)), wanted].mean(), new

    @partial(jax.jit, donate_argnums=(0,))
    def update(state: Any) -> Any:
        p, statistics, velocity = state
        (loss, statistics), grads = jax.value_and_grad(loss_of, has_aux=True)(p, statistics)
        velocity = {name: momentum * velocity[name] + grads[name] for name in p}
        return (({name: p[name] - rate * velocity[name] for name in p}, statistics, velocity), loss)

    state = [(p, statistics, velocity)]

    def step() -> Any:
        state[0], loss = jax.block_until_ready(update(state[0]))
        return loss

    matrices = [name for name, value in p.items() if value.ndim > 1]
    return step, lambda: [numpy_of(state[0][0][name]).copy() for name in (matrices[0], matrices[-1])]


def layer(layer: Any, arrays: list[np.ndarray], gradients: bool) -> Callable[[], Any]:
    """A convolution layer forward, or forward with its gradients; the order is that of ``convolution.job``."""
    x, weight, bias = map(jnp.array, arrays)
    sides = len(layer.shape) - 2
    names = ("NCHW", "OIHW", "NCHW") if sides == 2 else ("NCH", "OIH", "NCH")
    transposed = "transpose" in layer.kind

    def forward(weight: Any, bias: Any, x: Any) -> Any:
        stride, pad = layer.stride, layer.padding
        if transposed:  # a convolution with the flipped kernel, over an input with zeros in between
            weight = jnp.flip(weight.swapaxes(0, 1), range(2, weight.ndim))
            stride, pad = 1, layer.dilation * (layer.kernel - 1) - pad
        y = lax.conv_general_dilated(
            x, weight, (stride,) * sides, [(pad, pad)] * sides, rhs_dilation=(layer.dilation,) * sides,
            lhs_dilation=(layer.stride if transposed else 1,) * sides, dimension_numbers=names,
            feature_group_count=layer.groups)
        return y + bias.reshape(-1, *(1,) * sides)

    if not gradients:
        compiled = jax.jit(forward)
        return lambda: (jax.block_until_ready(compiled(weight, bias, x)),)
    direction = jnp.array(seeded(*jax.eval_shape(forward, weight, bias, x).shape, seed=3))

    @jax.jit
    def forward_and_backward(weight: Any, bias: Any, x: Any, direction: Any) -> Any:
        if layer.first:
            output, back = jax.vjp(lambda w, b: forward(w, b, x), weight, bias)
        else:
            output, back = jax.vjp(forward, weight, bias, x)
        return (output, *back(direction))

    return lambda: jax.block_until_ready(forward_and_backward(weight, bias, x, direction))
