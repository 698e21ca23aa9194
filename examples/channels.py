"""What Conv2d does with channels: a layer over a colour image, computed again in loops that can be read.

Each output channel has one kernel per input channel; it is the sum of the convolutions of the three colours with
these kernels, plus its bias. Written as a PyTorch user would write it; the imports are all that had to change.

    python examples/channels.py
"""

import minidl as torch
from minidl import nn


def colour_image(H, W):
    """A sun going down behind hills, (H, W, 3) with values from 0 to 1: made of formulas, the same on every run."""
    y = torch.linspace(0, 1, H).unsqueeze(1)
    x = torch.linspace(0, 1, W).unsqueeze(0)
    sun = torch.exp(-40 * ((x - 0.6) ** 2 + (y - 0.45) ** 2))
    hills = torch.sigmoid(40 * (y - 0.75 - 0.1 * torch.sin(9 * x)))
    red = (0.5 + 0.4 * y + 0.5 * sun) * (1 - 0.9 * hills)
    green = (0.3 + 0.3 * y + 0.4 * sun) * (1 - 0.6 * hills)
    blue = (0.8 - 0.5 * y + 0.0 * x) * (1 - 0.8 * hills)
    return torch.stack([red, green, blue], dim=2).clamp(0, 1)


@torch.no_grad()
def convolve(plane, kernel):
    """One channel with one kernel, pixel by pixel: (H, W) and (KH, KW) -> (H - KH + 1, W - KW + 1)."""
    (H, W), (KH, KW) = plane.shape, kernel.shape
    output = torch.zeros(H - KH + 1, W - KW + 1)
    for y in range(H - KH + 1):
        for x in range(W - KW + 1):
            output[y, x] = (plane[y:y + KH, x:x + KW] * kernel).sum()
    return output


@torch.no_grad()
def convolve_channels(image, weight, bias):
    """The layer by hand: image (C, H, W), weight (OC, C, KH, KW), bias (OC,) -> (OC, OH, OW)."""
    channels = []
    for oc in range(weight.shape[0]):
        pairs = [convolve(image[c], weight[oc, c]) for c in range(weight.shape[1])]
        channels.append(torch.stack(pairs).sum(dim=0) + bias[oc])
    return torch.stack(channels)


def main():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 5)
    picture = colour_image(24, 32)
    image = picture.permute(2, 0, 1)
    print("the picture, as image files have it (H, W, C):  ", tuple(picture.shape))
    print("permuted to channels first (C, H, W):           ", tuple(image.shape))
    print("conv =", conv)
    print("conv.weight (OC, C, KH, KW):                    ", tuple(conv.weight.shape))
    print("conv.bias (OC,):                                ", tuple(conv.bias.shape))

    batch = image.unsqueeze(0)
    expected = conv(batch)
    print("\nunsqueezed to a batch of one (N, C, H, W):      ", tuple(batch.shape))
    print("conv(batch) (N, OC, OH, OW):                    ", tuple(expected.shape))

    one = convolve(image[0], conv.weight[0, 0])
    print("\nred with the first kernel, in loops (OH, OW):   ", tuple(one.shape))
    by_hand = convolve_channels(image, conv.weight, conv.bias)
    print("4 sums of 3 such planes, stacked (OC, OH, OW):  ", tuple(by_hand.shape))

    difference = (by_hand - expected[0]).abs().mean().item()
    print(f"\nmean absolute difference to the layer: {difference:.1e}")
    print("below 1e-6:", difference < 1e-6)
    return difference


if __name__ == "__main__":
    main()
