"""LeNet-5, the network of the examples: the same text for minidl and for PyTorch, and an import of neither.

LeCun, Bottou, Bengio and Haffner's network (Gradient-based learning applied to document recognition, 1998) as it is
taught today; ``variant="classic"`` takes tanh and average pooling as they did.
"""

from collections import OrderedDict
from typing import Any

VARIANTS = ("relu", "classic")


def lenet5(nn: Any, variant: str = "relu") -> Any:
    """LeNet-5 for (N, 1, 28, 28) images, 10 classes. ``nn`` is ``minidl.nn`` or ``torch.nn``."""
    activation, pool = {"relu": (nn.ReLU, nn.MaxPool2d), "classic": (nn.Tanh, nn.AvgPool2d)}[variant]
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 6, kernel_size=5, padding=2),  # (N, 6, 28, 28)
            act1=activation(),
            pool1=pool(2),  # (N, 6, 14, 14)
            conv2=nn.Conv2d(6, 16, kernel_size=5),  # (N, 16, 10, 10)
            act2=activation(),
            pool2=pool(2),  # (N, 16, 5, 5)
            flatten=nn.Flatten(),
            fc1=nn.Linear(400, 120),
            act3=activation(),
            fc2=nn.Linear(120, 84),
            act4=activation(),
            fc3=nn.Linear(84, 10),
        )
    )
