"""Draw the pictures of ``minidl.explain``'s page in the docs, in Chromium and after a training of some seconds
(needs Playwright and Pillow).

    python tools/explain_pictures.py                 docs/images/explain_layer.png, docs/images/explain_network.png
    python tools/explain_pictures.py --all FOLDER    and the other states of the page, to look at after a change
"""

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

# The minidl of this checkout, whatever is installed.
sys.path.insert(0, str(Path(__file__).parent.parent))

from minidl.explain.__main__ import main as write_page

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
LARGE, PHONE = {"width": 1240, "height": 900}, {"width": 360, "height": 740}


def layer(tab):
    """The second output channel, at the foot of the seven."""
    tab.click("#output-channels [data-value='2']")
    box = tab.locator("#output canvas").bounding_box()
    tab.locator("#output canvas").hover(position={"x": 0.55 * box["width"], "y": 0.5 * box["height"]})


def network(tab):
    """What the first pooling kept of the strokes."""
    tab.click("#tab-network")
    tab.click("#step-list [data-value='3']")
    tab.click("#step-channels [data-value='2']")
    tab.locator("#step-maps canvas").last.hover(position={"x": 190, "y": 190})


def backward(tab):
    tab.click("#direction [data-value=backward]")
    tab.locator("#inputs canvas").hover(position={"x": 150, "y": 130})


def weight(tab):
    tab.select_option("#preset", "colour")
    tab.click("#direction [data-value=backward]")
    tab.locator("#kernels canvas").first.hover(position={"x": 5, "y": 5})


def lesson(name):
    return lambda tab: tab.select_option("#preset", name)


def playing(tab):
    tab.select_option("#preset", "colour")
    tab.locator("#output canvas").focus()
    tab.keyboard.press(" ")
    tab.locator("#result", has_text="output[0, 3, ").wait_for()


# name: (what to do, size of the window, colour scheme, whether the whole page is drawn)
DOCS = {
    "explain_layer": (layer, {"width": 1240, "height": 1140}, "light", False),
    "explain_network": (network, {"width": 1240, "height": 860}, "light", False),
}
OTHERS = {
    "layer": (layer, LARGE, "light", True),
    "dark": (layer, LARGE, "dark", True),
    "phone": (layer, PHONE, "light", True),
    "phone_network": (network, PHONE, "dark", True),
    "backward": (backward, LARGE, "light", True),
    "weight": (weight, LARGE, "dark", True),
    "playing": (playing, LARGE, "light", False),
    **{name: (lesson(name), LARGE, "light", True) for name in ("colour", "groups", "dilation", "flip", "modes",
                                                               "error")},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--all", type=Path, metavar="FOLDER",
                        help="draw the other states of the page too, into a folder")
    options = parser.parse_args()
    program = shutil.which("chromium")
    if program is None:
        print("explain_pictures: needs Chromium (Debian/Ubuntu: sudo apt install chromium)", file=sys.stderr)
        return 1
    pictures = [(IMAGES, DOCS)]
    if options.all is not None:
        options.all.mkdir(parents=True, exist_ok=True)
        pictures.append((options.all, OTHERS))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder, "conv.html")
        if write_page(["--out", str(page)]):
            return 1
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for target, states in pictures:
            for name, (prepare, size, scheme, whole) in states.items():
                tab = browser.new_page(viewport=size, color_scheme=scheme)
                tab.goto(page.as_uri())
                prepare(tab)
                picture = Image.open(io.BytesIO(tab.screenshot(full_page=whole))).convert("RGB")
                picture.quantize(256).save(target / f"{name}.png", optimize=True)
                tab.close()
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
