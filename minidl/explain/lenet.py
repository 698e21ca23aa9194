"""The network that ``python -m minidl.explain`` shows: LeNet-5 as ``examples/lenet.py`` has it, and its weights.

The text of the examples is for PyTorch too and no part of the package; a test holds the two equal.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

from minidl import _random, nn
from minidl.autograd import no_grad
from minidl.serialization import load

VARIANTS = ("relu", "classic")
EPOCHS = 3


def lenet5(variant: str = "relu") -> nn.Sequential:
    """LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998) for (N, 1, 28, 28) images; ``classic``: tanh and averages."""
    activation: Any = {"relu": nn.ReLU, "classic": nn.Tanh}[variant]
    pool: Any = {"relu": nn.MaxPool2d, "classic": nn.AvgPool2d}[variant]
    return nn.Sequential(OrderedDict(
        conv1=nn.Conv2d(1, 6, kernel_size=5, padding=2), act1=activation(), pool1=pool(2),
        conv2=nn.Conv2d(6, 16, kernel_size=5), act2=activation(), pool2=pool(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(400, 120), act3=activation(), fc2=nn.Linear(120, 84), act4=activation(), fc3=nn.Linear(84, 10),
    ))


def load_lenet(path: Path) -> tuple[nn.Sequential, str]:
    """LeNet-5 with the weights in ``path``, and its variant: a ``state_dict``, or a checkpoint of the training example.

    A ``state_dict`` does not say its variant; the checkpoint beside it does, else it is ``relu``.

    Raises ``ValueError`` for a file that holds other weights, and what ``minidl.load`` raises.
    """
    state = load(path)
    beside = path.with_name("checkpoint.safetensors")
    checkpoint = load(beside) if beside.is_file() and not _is_checkpoint(state) else state
    variant = checkpoint["options"].get("variant", "relu") if _is_checkpoint(checkpoint) else "relu"
    if variant not in VARIANTS:
        raise ValueError(f"{path} is a LeNet of an unknown variant {variant!r}; known are {', '.join(VARIANTS)}")
    net = lenet5(variant)
    try:
        net.load_state_dict(state["net"] if _is_checkpoint(state) else state)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{path} does not hold the weights of a LeNet-5: {error}") from None
    return net, variant


def _is_checkpoint(state: Any) -> bool:
    return isinstance(state, dict) and isinstance(state.get("options"), dict) and "net" in state


def train_lenet(digits: Any, epochs: int = EPOCHS) -> nn.Sequential:
    """LeNet-5 after a few epochs on these digits, always the same one; the random numbers go on as before."""
    from minidl.optim import SGD
    from minidl.utils.data import DataLoader

    before = _random.get_rng_state()
    try:
        _random.manual_seed(0)
        net, loss_function = lenet5(), nn.CrossEntropyLoss()
        optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9)
        loader: DataLoader[Any] = DataLoader(digits, batch_size=64, shuffle=True)
        for _ in range(epochs):
            for images, labels in loader:
                optimizer.zero_grad()
                loss_function(net(images), labels).backward()
                optimizer.step()
    finally:
        _random.set_rng_state(before)
    return net


def accuracy(net: nn.Module, digits: Any) -> float:
    """The share of the digits that the network recognizes."""
    images, labels = digits.fetch(range(len(digits)))
    with no_grad():
        return (net(images).argmax(1) == labels).float().mean().item()
