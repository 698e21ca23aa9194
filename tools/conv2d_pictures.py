"""Draw the pictures of ``docs/conv2d.md`` into ``docs/images``, the same on every run.

    python tools/conv2d_pictures.py             or into another folder: python tools/conv2d_pictures.py FOLDER

Needs the extra ``explain``.
"""

import sys
from pathlib import Path

import minidl
from minidl import explain, nn

ROOT = Path(__file__).resolve().parents[1]


def main(folder: Path) -> None:
    sys.path.insert(0, str(ROOT / "examples"))
    from channels import colour_image
    from pictures import save

    folder.mkdir(parents=True, exist_ok=True)
    minidl.manual_seed(0)
    image = colour_image(48, 64).permute(2, 0, 1)
    save(explain.channels(nn.Conv2d(3, 4, 5, padding=2), image).figure, folder / "conv2d_channels.png")
    save(explain.matrix(nn.Conv2d(1, 1, 3), (1, 6, 6)).figure(), folder / "conv2d_matrix.png")
    ways = explain.algorithms(nn.Conv2d(2, 4, 3, padding=1), minidl.randn(1, 2, 8, 8))
    save(ways.figure(), folder / "conv2d_im2col.png")
    explain.animate(nn.Conv2d(1, 1, 3, padding=1, dilation=2), (1, 6, 6), folder / "conv2d_dilation.gif", fps=2)
    explain.animate(nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1), (1, 3, 3), folder / "conv2d_transposed.gif",
                    fps=2)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
