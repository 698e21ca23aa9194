"""The networks that are trained, as a user writes them: each is made over ``lib.nn`` of either library."""

from __future__ import annotations

from typing import Any


def LeNet(lib: Any) -> Any:  # noqa: N802  they stand for classes
    """LeNet-5 for 28x28 digits."""
    nn = lib.nn

    class LeNet(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
            self.conv2 = nn.Conv2d(6, 16, 5)
            self.fc1 = nn.Linear(400, 120)
            self.fc2 = nn.Linear(120, 84)
            self.fc3 = nn.Linear(84, 10)
            self.relu = nn.ReLU()
            self.pool = nn.MaxPool2d(2)

        def forward(self, x: Any) -> Any:
            x = self.pool(self.relu(self.conv1(x)))
            x = self.pool(self.relu(self.conv2(x)))
            x = x.flatten(1)
            return self.fc3(self.relu(self.fc2(self.relu(self.fc1(x)))))

    return LeNet()


def VGG(lib: Any, width: int = 64) -> Any:  # noqa: N802
    """Six times convolution, batch norm and ReLU, with a pooling after every second, for 32x32 pictures."""
    nn = lib.nn
    layers: list[Any] = []
    channels = 3
    for stage in range(3):
        for _ in range(2):
            wide = width << stage
            layers += [nn.Conv2d(channels, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
            channels = wide
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 16, 10))


def _basic_block(lib: Any, channels: int, wide: int, stride: int) -> Any:
    nn = lib.nn

    class BasicBlock(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(channels, wide, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(wide)
            self.conv2 = nn.Conv2d(wide, wide, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(wide)
            self.relu = nn.ReLU()
            self.shortcut = nn.Sequential() if stride == 1 and channels == wide else nn.Sequential(
                nn.Conv2d(channels, wide, 1, stride, bias=False), nn.BatchNorm2d(wide))

        def forward(self, x: Any) -> Any:
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.relu(y + self.shortcut(x))

    return BasicBlock()


def _resnet(lib: Any, widths: tuple[int, ...], blocks: int) -> Any:
    """A ResNet for 32x32 pictures (He et al. 2015, section 4.2): a 3x3 convolution, stages of halved size, a mean."""
    nn = lib.nn
    layers: list[Any] = [nn.Conv2d(3, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    channels = widths[0]
    for stage, wide in enumerate(widths):
        for block in range(blocks):
            layers.append(_basic_block(lib, channels, wide, 2 if stage and not block else 1))
            channels = wide
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def ResNet8(lib: Any) -> Any:  # noqa: N802
    """One block in each of three stages of 16, 32 and 64 channels."""
    return _resnet(lib, (16, 32, 64), 1)


def ResNet18(lib: Any) -> Any:  # noqa: N802
    """Two blocks in each of four stages of 64 to 512 channels."""
    return _resnet(lib, (64, 128, 256, 512), 2)
