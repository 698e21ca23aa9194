"""What the page of ``minidl.explain`` computes and shows, read from a real browser, beside minidl's own arithmetic.

The page computes in double precision, and every number that it shows carries the full value in ``data-value``; both
sides add the same few products in another order.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.explain.html_page import ASSETS, page
from minidl.nn import functional as F

pytestmark = pytest.mark.slow

CLOSE = {"rtol": 1e-12, "atol": 1e-11}  # a few hundred products of at most some hundreds each, in float64


def config(C=1, OC=1, kernel=3, stride=1, padding=0, dilation=1, groups=1, mode="zeros", size=(6, 6), flip=False,
           bias=True, source="random", weights="random"):
    def pair(value):
        return (value, value) if isinstance(value, int) else value

    return {"C": C, "OC": OC, "kernel": pair(kernel), "stride": pair(stride), "dilation": pair(dilation),
            "padding": padding if isinstance(padding, str) else pair(padding), "groups": groups, "mode": mode,
            "size": size, "flip": flip, "bias": bias, "source": source, "weights": weights}


CHOSEN = [
    config(),
    config(kernel=1),
    config(C=3, OC=6, padding=1),
    config(C=3, OC=2, kernel=1, stride=2),
    config(kernel=2),
    config(kernel=4, padding=2),
    config(kernel=(2, 3), stride=(1, 2), padding=(1, 0), size=(6, 9), C=2, OC=2),
    config(kernel=(1, 5), size=(4, 8)),
    config(kernel=(5, 1), padding=(2, 0)),
    config(size=(1, 7), kernel=(1, 3)),
    config(stride=2, size=(8, 8)),
    config(stride=3, size=(8, 7), padding=1),
    config(stride=5, kernel=2),
    config(dilation=2, size=(8, 8)),
    config(dilation=(3, 1), size=(8, 5), padding=1),
    config(dilation=2, stride=2, padding=2, size=(7, 9)),
    config(C=4, OC=4, groups=4, padding=1),
    config(C=4, OC=6, groups=2),
    config(C=6, OC=3, groups=3, stride=2, padding=1),
    config(padding="same"),
    config(padding="same", kernel=4),
    config(padding="same", kernel=(2, 5), dilation=2, size=(7, 8)),
    config(padding="same", kernel=4, mode="reflect"),
    config(padding="valid", kernel=2),
    config(padding=2, mode="reflect"),
    config(padding=2, mode="replicate", stride=2),
    config(padding=3, mode="circular", C=2, OC=2),
    config(padding=(6, 1), mode="circular", kernel=2),
    config(padding=(0, 4), mode="replicate", size=(3, 3), kernel=(1, 4)),
    config(padding=(5, 0), mode="reflect", dilation=2, C=2, OC=2, groups=2),
    config(flip=True, source="dot", weights="count", padding=1, bias=False),
    config(flip=True, kernel=(2, 3), C=2, OC=3, padding=1),
    config(flip=True, padding="same", kernel=4, mode="circular"),
    config(source="count", weights="blur", bias=False),
    config(source="edge", weights="edges", C=2, OC=2),
    config(source="count", weights="identity", C=3, OC=3, padding=1),
]


def random_configs(number):
    """Settings drawn at random among those that fit; always the same ones."""
    draw = np.random.default_rng(5)
    found = []
    while len(found) < number:
        groups = int(draw.choice([1, 1, 1, 2, 3]))
        settings = config(
            C=groups * int(draw.integers(1, 3)), OC=groups * int(draw.integers(1, 3)), groups=groups,
            kernel=tuple(draw.integers(1, 5, 2).tolist()), stride=tuple(draw.integers(1, 4, 2).tolist()),
            padding=tuple(draw.integers(0, 4, 2).tolist()), dilation=tuple(draw.integers(1, 3, 2).tolist()),
            mode=str(draw.choice(["zeros", "reflect", "replicate", "circular"])), bias=bool(draw.integers(2)),
            size=tuple(draw.integers(2, 9, 2).tolist()), flip=bool(draw.integers(2)),
            source=str(draw.choice(["random", "count"])), weights=str(draw.choice(["random", "count"])))
        if python_geometry(settings) is not None:
            found.append(settings)
    return found


def python_geometry(settings):
    """``(OH, OW)`` by minidl's own layer, or None where it refuses the settings."""
    try:
        layer = nn.Conv2d(settings["C"], settings["OC"], settings["kernel"], settings["stride"], settings["padding"],
                          settings["dilation"], settings["groups"], padding_mode=settings["mode"])
        return tuple(layer(minidl.zeros(1, settings["C"], *settings["size"])).shape[2:])
    except (RuntimeError, ValueError):
        return None


CONFIGS = CHOSEN + random_configs(40)


@pytest.fixture(scope="module")
def explorer(browser, tmp_path_factory):
    """The page of a layer, opened from disk with the tables open; it must never complain."""
    minidl.manual_seed(0)
    path = page(nn.Conv2d(2, 3, 3), minidl.rand(2, 5, 5), tmp_path_factory.mktemp("page") / "conv.html")
    tab = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    complaints = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(path.as_uri())
    tab.click("#tables summary")
    yield tab
    assert complaints == []
    tab.close()


SET = """(fields) => {
    for (const [id, value] of Object.entries(fields)) {
        const field = document.getElementById(id);
        if (field.type === "checkbox") field.checked = value; else field.value = value;
    }
    document.getElementById("settings").dispatchEvent(new Event("input", { bubbles: true }));
}"""


def set_up(tab, settings):
    """Bring the settings into the form as a user does, and see them arrive."""
    words = isinstance(settings["padding"], str)
    fields = {
        "in-channels": settings["C"], "out-channels": settings["OC"], "groups": settings["groups"], "square": False,
        "bias": settings["bias"], "mode": settings["mode"], "source": settings["source"],
        "weights": settings["weights"], "padding-kind": settings["padding"] if words else "number",
    }
    for name in ("kernel", "stride", "dilation", "size", *(() if words else ("padding",))):
        fields |= {f"{name}-h": settings[name][0], f"{name}-w": settings[name][1]}
    tab.evaluate(SET, fields)
    press(tab, f"#flip [data-value={'convolution' if settings['flip'] else 'correlation'}]")


TABLES = """(OC) => Array.from({ length: OC }, (_, oc) => {
    document.querySelector(`#output-channels [data-value="${oc}"]`)?.click();
    return Object.fromEntries([...document.querySelectorAll("#table-body table")].map((table) => [
        table.caption.textContent,
        [...table.rows].filter((row) => row.cells[0].tagName === "TH").map((row) => [...row.cells].slice(1).map(
            (cell) => [Number(cell.dataset.value), cell.firstChild.textContent, cell.classList.contains("padding")])),
    ]));
})"""


def press(tab, selector):
    """A click without the wait of a real one, until nothing moves any more: there are hundreds of them."""
    tab.evaluate("(selector) => document.querySelector(selector).click()", selector)


class Shown:
    """All numbers of the page for one configuration, put together from its tables, one output channel after another."""

    def __init__(self, tab):
        code = tab.text_content("#code").partition("  #")[0]
        self.layer = eval(code, {"nn": nn}).double()  # the line that the page offers for copying
        OC, C, groups = self.layer.out_channels, self.layer.in_channels, self.layer.groups
        self.padded, self.is_padding, self.output, self.grad_output, self.grad_input = {}, {}, [], [], {}
        self.weight, self.grad_weight, self.bias = [], [], None
        for oc, tables in enumerate(tab.evaluate(TABLES, OC)):
            values = {name: np.array([[cell[0] for cell in row] for row in rows]) for name, rows in tables.items()}
            for rows in tables.values():
                assert all(agrees(value, text) for row in rows for value, text, _ in row)
            first = oc // (OC // groups) * (C // groups)
            seen = range(first, first + C // groups)
            assert [name for name in tables if name.startswith("input")] == [
                f"input[{c}] with its padding" for c in seen]
            turned = ", turned" if "weight[0, 0], turned" in tables or f"weight[{oc}, 0], turned" in tables else ""
            kernels = [f"weight[{oc}, {cg}]{turned}" for cg in range(C // groups)]
            self.weight.append([values[name] for name in kernels])
            self.output.append(values[f"output[{oc}]"])
            if "bias" in values:
                self.bias = values["bias"][0]
            for c in seen:
                self.padded[c] = values[f"input[{c}] with its padding"]
                self.is_padding[c] = np.array([[cell[2] for cell in row]
                                               for row in tables[f"input[{c}] with its padding"]])
            if f"grad_output[{oc}]" in values:
                self.grad_output.append(values[f"grad_output[{oc}]"])
                self.grad_weight.append([values[f"grad_{name}"] for name in kernels])
                for c in seen:
                    self.grad_input[c] = values[f"grad_input[{c}]"]
        self.turned = bool(turned)

    def tensors(self):
        """The layer of the page with its weights, and the input without its padding."""
        with minidl.no_grad():
            self.layer.weight.copy_(minidl.tensor(np.array(self.weight, float)))
            if self.bias is not None:
                self.layer.bias.copy_(minidl.tensor(np.asarray(self.bias, float)))
        frame = self.is_padding[0]
        rows, columns = ~frame.all(1), ~frame.all(0)
        x = np.array([self.padded[c][rows][:, columns] for c in sorted(self.padded)])
        return self.layer, minidl.tensor(np.asarray(x[None], float))


def number(text):
    return float(text.replace("−", "-"))


def agrees(value, text):
    """Whether the text is the value, rounded to the digits that it has."""
    mantissa, _, exponent = text.replace("−", "-").partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(number(text) - value) <= 0.5 * unit * (1 + 1e-9)


def at(tab, oh, ow, shape):
    """Move the mouse onto an output pixel, as people do."""
    canvas = tab.locator("#output canvas")
    box = canvas.bounding_box()
    canvas.hover(position={"x": (ow + 0.5) * box["width"] / shape[1], "y": (oh + 0.5) * box["height"] / shape[0]})


ROWS = """() => [...document.querySelectorAll("#apart .row")].map((row) => ({
    channel: Number(row.dataset.channel),
    sum: Number(row.querySelector(".sum b")?.dataset.value),
    tables: [...row.querySelectorAll("table")].map((table) => [...table.querySelectorAll("td")].map((cell) => [
        Number(cell.dataset.value), cell.classList.contains("padding")])),
}))"""


def result(tab):
    return float(tab.get_attribute("#result b", "data-value"))


@pytest.mark.parametrize("settings", CONFIGS, ids=range(len(CONFIGS)))
def test_forward_and_backward(explorer, settings):
    tab = explorer
    set_up(tab, settings)
    assert tab.is_hidden("#problems")
    press(tab, "#direction [data-value=backward]")
    press(tab, "#gradient-choice [data-value=output]")
    shown = Shown(tab)
    layer, x = shown.tensors()
    assert tuple(x.shape[1:]) == (settings["C"], *settings["size"])
    assert shown.turned == settings["flip"]
    for name in ("kernel_size", "stride", "dilation"):
        assert getattr(layer, name) == settings[name.removesuffix("_size")]
    assert (layer.padding, layer.groups, layer.padding_mode) == (settings["padding"], settings["groups"],
                                                                 settings["mode"])
    x.requires_grad_()
    y = layer(x)
    np.testing.assert_allclose(np.array(shown.output), y.detach().numpy()[0], **CLOSE)
    np.testing.assert_allclose(np.array(shown.grad_output), y.detach().numpy()[0], **CLOSE)
    padded = F.pad(x.detach(), layer._frame(), "constant" if layer.padding_mode == "zeros" else layer.padding_mode)
    np.testing.assert_array_equal(np.array([shown.padded[c] for c in range(settings["C"])]), padded.numpy()[0])
    (0.5 * y * y).sum().backward()
    # Gradients of squares are larger: up to hundreds of thousands here.
    np.testing.assert_allclose(np.array([shown.grad_input[c] for c in range(settings["C"])]), x.grad.numpy()[0],
                               rtol=1e-11, atol=1e-8)
    np.testing.assert_allclose(np.array(shown.grad_weight), layer.weight.grad.numpy(), rtol=1e-11, atol=1e-8)

    press(tab, "#direction [data-value=forward]")
    OC, OH, OW = y.shape[1:]
    oc = OC - 1
    for oh, ow in {(OH - 1, OW - 1), (OH // 2, OW // 3)}:
        at(tab, oh, ow, (OH, OW))
        assert tab.text_content("#result").startswith(f"output[{oc}, {oh}, {ow}] = ")
        value = y[0, oc, oh, ow].item()
        assert result(tab) == pytest.approx(value, rel=1e-12, abs=1e-11)
        rows = tab.evaluate(ROWS)
        total = 0 if layer.bias is None else layer.bias[oc].item()
        lines = [oh * layer.stride[0] + kh * layer.dilation[0] for kh in range(layer.kernel_size[0])]
        columns = [ow * layer.stride[1] + kw * layer.dilation[1] for kw in range(layer.kernel_size[1])]
        for cg, row in enumerate(rows):
            window, kernel, products = (np.array([cell[0] for cell in table]) for table in row["tables"])
            c = row["channel"]
            here = np.ix_(lines, columns)
            np.testing.assert_array_equal(window, shown.padded[c][here].ravel())
            assert [cell[1] for cell in row["tables"][0]] == shown.is_padding[c][here].ravel().tolist()
            np.testing.assert_array_equal(kernel, np.ravel(shown.weight[oc][cg]))
            np.testing.assert_array_equal(products, window * kernel)
            assert row["sum"] == pytest.approx(products.sum(), rel=1e-12, abs=1e-11)
            total += row["sum"]
        assert total == pytest.approx(value, rel=1e-12, abs=1e-11)
        last = tab.locator("#apart .equation b").get_attribute("data-value")
        assert float(last) == pytest.approx(value, rel=1e-12, abs=1e-11)


@pytest.mark.parametrize("loss", ["ones", "pixel"])
@pytest.mark.parametrize("settings", [
    config(C=2, OC=3, stride=2, padding=1),
    config(C=4, OC=4, groups=2, dilation=2, padding=2, mode="reflect"),
    config(kernel=(2, 3), flip=True, padding=1, mode="circular"),
], ids=["stride", "groups", "turned"])
def test_other_losses_and_single_gradients(explorer, settings, loss):
    tab = explorer
    set_up(tab, settings)
    press(tab, "#direction [data-value=backward]")
    press(tab, f"#gradient-choice [data-value={loss}]")
    shown = Shown(tab)
    layer, x = shown.tensors()
    x.requires_grad_()
    y = layer(x)
    oc = y.shape[1] - 1
    at(tab, 1, 1, y.shape[2:])
    (y.sum() if loss == "ones" else y[0, oc, 1, 1]).backward()

    assert result(tab) == 1
    for cg, row in enumerate(tab.evaluate(ROWS)):
        to_input, to_weight = (np.array([cell[0] for cell in table]) for table in row["tables"])
        np.testing.assert_array_equal(to_input, np.ravel(shown.weight[oc][cg]))
        if loss == "pixel":
            np.testing.assert_allclose(to_weight, layer.weight.grad[oc, cg].numpy().ravel(), **CLOSE)
    bias = float(tab.locator("#apart .note b").get_attribute("data-value"))
    assert bias == pytest.approx(layer.bias.grad[oc].item())

    # Entries of grad_input and grad_weight by the keyboard: the terms in the table add up to them.
    for kind, count in (("#inputs", layer.in_channels), ("#kernels", layer.in_channels // layer.groups)):
        canvas = tab.locator(f"{kind} canvas").nth(count - 1)
        canvas.focus()
        for key in ("Control+Home", "ArrowRight", "ArrowDown"):
            canvas.press(key)
        name, place = re.match(r"(grad_\w+)\[([\d, ]+)\] = ", tab.text_content("#result")).groups()
        place = tuple(map(int, place.split(", ")))
        wanted = (x.grad[0] if kind == "#inputs" else layer.weight.grad)
        assert name == ("grad_input" if kind == "#inputs" else "grad_weight")
        if settings["flip"] and kind == "#kernels":  # the layer of this test has the turned kernels
            wanted = wanted.flip(2, 3)
        assert result(tab) == pytest.approx(wanted[place].item(), rel=1e-12, abs=1e-11)
        terms = tab.evaluate("[...document.querySelectorAll('.terms tr td:last-child')].map((d) => "
                             "Number(d.dataset.value))")
        assert sum(terms) == pytest.approx(wanted[place].item(), rel=1e-12, abs=1e-11)


def test_turning_the_kernel_turns_it(explorer):
    set_up(explorer, config(C=2, OC=2, kernel=(2, 3)))
    as_it_is = np.array(Shown(explorer).weight)
    explorer.click("#flip [data-value=convolution]")
    np.testing.assert_array_equal(np.array(Shown(explorer).weight), as_it_is[:, :, ::-1, ::-1])


def test_geometry_is_minidls(browser):
    """``geometry.js`` alone: it refuses what minidl refuses, and gives the same sizes."""
    draw = np.random.default_rng(1)
    cases = []
    for _ in range(3000):
        padding = draw.choice(["same", "valid", "numbers", "numbers", "numbers"])
        cases.append(config(
            C=int(draw.integers(1, 7)), OC=int(draw.integers(1, 7)), groups=int(draw.choice([1, 1, 1, 2, 3])),
            kernel=tuple(draw.integers(1, 7, 2).tolist()), stride=tuple(draw.choice([1, 1, 2, 3], 2).tolist()),
            dilation=tuple(draw.choice([1, 1, 2, 3], 2).tolist()), size=tuple(draw.integers(1, 12, 2).tolist()),
            padding=tuple(draw.integers(0, 6, 2).tolist()) if padding == "numbers" else str(padding),
            mode=str(draw.choice(["zeros", "reflect", "replicate", "circular"]))))
    tab = browser.new_page()
    tab.add_script_tag(content=(ASSETS / "geometry.js").read_text(encoding="utf-8"))
    found = tab.evaluate("""(cases) => cases.map((settings) => {
        const [H, W] = settings.size, { problems, OH, OW } = convGeometry({ ...settings, H, W });
        return problems.length ? null : [OH, OW];
    })""", cases)
    tab.close()
    wanted = [python_geometry(case) for case in cases]
    assert 500 < sum(size is None for size in wanted) < 2500
    assert [None if size is None else tuple(size) for size in found] == wanted
