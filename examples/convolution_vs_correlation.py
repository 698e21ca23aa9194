"""What Conv2d computes is a cross-correlation: the two examples that people meet first, worked through.

Written as a PyTorch user would write it; the imports are all that had to change.

    python examples/convolution_vs_correlation.py
"""

import minidl as torch
from minidl import nn
from minidl.nn import functional as F

IMAGE = [[1, 1, 1, 0, 0],
         [0, 1, 1, 1, 0],
         [0, 0, 1, 1, 1],
         [0, 0, 1, 1, 0],
         [0, 1, 1, 0, 0]]
CROSS = [[1, 0, 1],
         [0, 1, 0],
         [1, 0, 1]]

NUMBERS = [[1, 2, 3],
           [4, 5, 6],
           [7, 8, 9]]
SOBEL = [[-1, 0, 1],
         [-2, 0, 2],
         [-1, 0, 1]]


def batch(rows):
    """A matrix as a batch of one image of one channel: (H, W) -> (1, 1, H, W)."""
    return torch.tensor(rows, dtype=torch.float32).unsqueeze(0).unsqueeze(0)


def matrix(images):
    """The other way: (1, 1, H, W) -> rows of ints."""
    return images[0, 0].int().tolist()


def padded(rows, padding):
    """The image with a frame of zeros, as the layer sees it."""
    return matrix(F.pad(batch(rows), (padding, padding, padding, padding)))


def flipped(rows):
    """The kernel turned by 180 degrees."""
    return matrix(batch(rows).flip(2, 3))


def arithmetic(image, kernel, y, x):
    """The sum behind one output pixel: the kernel laid on the image with its corner at (y, x), nothing turned."""
    terms = []
    total = 0
    for i in range(len(kernel)):
        for j in range(len(kernel[0])):
            terms.append(f"{image[y + i][x + j]}*{kernel[i][j]}" if kernel[i][j] >= 0
                         else f"{image[y + i][x + j]}*({kernel[i][j]})")
            total += image[y + i][x + j] * kernel[i][j]
    return " + ".join(terms) + f" = {total}"


def convolution(image, kernel):
    """Convolution as mathematics defines it, out of plain loops: out(y, x) = sum of kernel(i, j) image(y - i, x - j).

    Only where the kernel lies wholly on the image, hence counted from its last row and column.
    """
    KH, KW = len(kernel), len(kernel[0])
    return [
        [
            sum(kernel[i][j] * image[y - i][x - j] for i in range(KH) for j in range(KW))
            for x in range(KW - 1, len(image[0]))
        ]
        for y in range(KH - 1, len(image))
    ]


def show(title, rows):
    print(f"{title}:")
    for row in rows:
        print("   ", " ".join(f"{value:4d}" for value in row))


def first_example():
    """A 5x5 image and a symmetric 3x3 kernel: turning the kernel changes nothing, so nobody notices the difference."""
    print("1. A 5x5 image, a 3x3 kernel\n")
    show("image", IMAGE)
    show("kernel", CROSS)
    output = F.conv2d(batch(IMAGE), batch(CROSS))
    print("\noutput pixel (0, 0):", arithmetic(IMAGE, CROSS, 0, 0))
    print("output pixel (0, 1):", arithmetic(IMAGE, CROSS, 0, 1))
    show("\nF.conv2d(image, kernel)", matrix(output))
    same = torch.equal(output, F.conv2d(batch(IMAGE), batch(flipped(CROSS))))
    print(f"the same with the kernel turned by 180 degrees: {same} (the kernel is symmetric)\n")


def second_example():
    """The numbers 1 to 9 and the Sobel kernel, padding 1: here turning the kernel changes every sign."""
    print("2. The numbers 1 to 9, the Sobel kernel, padding 1\n")
    show("image", NUMBERS)
    show("kernel", SOBEL)
    frame = padded(NUMBERS, 1)
    correlated = F.conv2d(batch(NUMBERS), batch(SOBEL), padding=1)
    print("\noutput pixel (1, 1):", arithmetic(frame, SOBEL, 1, 1))
    show("\nF.conv2d(image, kernel, padding=1)", matrix(correlated))
    convolved = F.conv2d(batch(NUMBERS), batch(flipped(SOBEL)), padding=1)
    show("\nF.conv2d(image, kernel turned by 180 degrees, padding=1)", matrix(convolved))
    print("\nconvolution by its definition gives the second of them:", convolution(frame, SOBEL) == matrix(convolved))
    print("and not the first:                                      ", convolution(frame, SOBEL) != matrix(correlated))
    return correlated


def the_layer(expected):
    """nn.Conv2d does what F.conv2d does."""
    layer = nn.Conv2d(1, 1, kernel_size=3, padding=1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(batch(SOBEL))
    print(f"\n{layer}")
    print("with this kernel as its weight gives the first:         ", torch.equal(layer(batch(NUMBERS)), expected))
    print("So Conv2d is a cross-correlation. For a convolution turn the kernel: weight.flip(2, 3). A layer that learns")
    print("its weights does not care: it learns them turned.")


if __name__ == "__main__":
    first_example()
    the_layer(second_example())
