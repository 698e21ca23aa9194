"""The page of ``minidl.explain`` in the hands of people: keyboard, screen reader, phone, dark mode, mistakes."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.explain.html_page import page
from minidl.explain.lenet import lenet5

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network():
    minidl.manual_seed(3)
    return lenet5(), minidl.rand(3, 1, 28, 28)


@pytest.fixture(scope="module")
def address(network, tmp_path_factory):
    """A page of LeNet on three images, the second one first."""
    net, images = network
    path = page(net, images, tmp_path_factory.mktemp("page") / "conv.html", labels="abc", classes=range(10), first=1,
                layer="conv1")
    assert path.stat().st_size < 2_000_000
    return path.as_uri()


@pytest.fixture
def opened(browser, address):
    """Opens the page in a window with these options.  It must not complain, nor ask for anything but itself."""
    contexts, complaints, asked = [], [], []

    def open_page(**options):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900},
                                          "reduced_motion": "reduce"} | options))
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(address)
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert set(asked) <= {address}


def value_of(tab, selector="#result b"):
    return float(tab.get_attribute(selector, "data-value"))


def test_the_layer_opens_with_its_own_numbers(opened, network):
    net, images = network
    tab = opened()
    with minidl.no_grad():
        outputs = net.conv1(images)
    assert tab.text_content("#code") == "nn.Conv2d(1, 6, kernel_size=5, padding=2)  # (1, 28, 28) → (6, 28, 28)"
    assert tab.text_content("#result").startswith("output[0, 14, 14]")
    # The page adds in double precision what minidl added in float32.
    assert value_of(tab) == pytest.approx(outputs[1, 0, 14, 14].item(), abs=1e-5)
    assert 0 < value_of(tab, "#agreement") < 1e-5
    tab.click("#image-choice [aria-label=c]")
    assert value_of(tab) == pytest.approx(outputs[2, 0, 14, 14].item(), abs=1e-5)
    tab.click("#output-channels [data-value='5']")
    assert value_of(tab) == pytest.approx(outputs[2, 5, 14, 14].item(), abs=1e-5)
    assert value_of(tab, "#agreement") < 1e-5
    tab.select_option("#preset", "own:1")
    with minidl.no_grad():
        wanted = net[:4](images)[2, 5, 5, 5].item()
    tab.click("#output-channels [data-value='5']")
    assert tab.text_content("#result").startswith("output[5, 5, 5]")
    assert value_of(tab) == pytest.approx(wanted, abs=1e-5)


def test_settings_are_typed(opened):
    """Field by field, with real keys; on the way some are wrong, and the page says so until they are right."""
    tab = opened()
    tab.fill("#in-channels", "4")
    tab.fill("#groups", "3")
    assert "groups=3 does not divide in_channels=4" in tab.text_content("#problems")
    assert "4 / 3 = 1, remainder 1" in tab.text_content("#problems")
    tab.fill("#groups", "2")
    assert tab.is_hidden("#problems")
    tab.fill("#kernel-h", "3")
    tab.fill("#stride-h", "2")
    tab.uncheck("#square")
    tab.fill("#dilation-w", "4")
    tab.select_option("#mode", "circular")
    tab.uncheck("#bias")
    assert tab.text_content("#code") == (
        "nn.Conv2d(4, 6, kernel_size=3, stride=2, padding=2, dilation=(1, 4), groups=2, bias=False, "
        "padding_mode='circular')  # (4, 28, 28) → (6, 15, 12)")
    assert "The layer's own weights are (6, 1, 5, 5)" in tab.text_content("#settings-note")
    tab.select_option("#padding-kind", "same")
    assert "padding='same' works only with stride 1" in tab.text_content("#problems")


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"kernel-h": "40"}, ["a kernel of 40 rows", "1 · (40 − 1) + 1 = 40 ≤ 28 + 4 = 32 does not hold",
                              "OH = ⌊(32 − 40) / 1⌋ + 1 = −7", "Use a larger input, more padding or a smaller kernel"]),
        ({"dilation-h": "9"}, ["spread over 9 · (5 − 1) + 1 = 37", "OW = ⌊(32 − 37) / 1⌋ + 1 = −4", "less dilation"]),
        ({"groups": "4"}, ["groups=4 does not divide in_channels=1", "Choose groups among 1,"]),
        ({"out-channels": "5", "in-channels": "4", "groups": "2"},
         ["groups=2 does not divide out_channels=5", "5 / 2 = 2, remainder 1"]),
        ({"stride-h": "0"}, ["stride must be at least 1", "stride = 0, 0"]),
        ({"padding-h": "-1"}, ["padding must be 0 or more", "padding = −1, −1"]),
        ({"kernel-h": ""}, ["kernel_size must be at least 1", "kernel_size = nothing, nothing"]),
        ({"stride-h": "1.5"}, ["stride must be at least 1", "1.5"]),
    ],
)
def test_mistakes_are_explained_with_the_rule_and_its_numbers(opened, fields, words):
    tab = opened()
    for name, text in fields.items():
        tab.fill(f"#{name}", text)
    assert tab.is_visible("#problems")
    assert tab.get_attribute("#problems", "role") == "alert"
    said = tab.text_content("#problems")
    assert [word for word in words if word not in said] == []
    assert tab.is_hidden("#working")
    assert tab.is_disabled("#play")
    tab.select_option("#preset", "own:0")
    assert tab.is_hidden("#problems")
    assert tab.is_visible("#output canvas")


@pytest.mark.parametrize("mode, most", [("reflect", 5), ("circular", 6)])
def test_padding_that_a_mode_cannot_give(opened, mode, most):
    tab = opened()
    tab.select_option("#preset", "numbers")
    tab.select_option("#mode", mode)
    tab.fill("#padding-h", str(most))
    assert tab.is_hidden("#problems")
    tab.fill("#padding-h", str(most + 1))
    assert f"Use a padding of at most {most}" in tab.text_content("#problems")


def test_six_kernels_or_eighteen(opened):
    tab = opened()
    tab.select_option("#preset", "colour")
    assert tab.text_content("#kernels-title") == "6 kernels or 18?"
    assert tab.text_content("#count .answer-line") == "6 filters × 3 kernels each = 18 kernels of 3 × 3"
    assert "weight (6, 3, 3, 3): 162 numbers, bias (6): 6; 168 parameters" in tab.text_content("#count")
    assert tab.locator(".matrix canvas").count() == 18
    tab.click(".matrix [aria-label='filter 4']")
    assert tab.text_content("#result").startswith("output[4, ")
    tab.fill("#groups", "3")
    assert tab.locator(".matrix canvas").count() == 6


def test_the_derivation_has_the_numbers_put_in(opened):
    tab = opened()
    tab.select_option("#preset", "stride")
    tab.fill("#size-h", "9")
    lines = tab.locator("#derivation .side").nth(1).locator("dd").all_text_contents()
    assert lines == ["⌊(W + padding − dilation · (KW − 1) − 1) / stride⌋ + 1",
                     "⌊(8 + (0 + 0) − 1 · (3 − 1) − 1) / 2⌋ + 1",
                     "⌊(8 − 3) / 2⌋ + 1 = ⌊5 / 2⌋ + 1", "3", "5 − 2 · 2 = 1 column at the right that no window reaches"]
    rows = tab.locator("#derivation .side").nth(0).locator("dd").all_text_contents()
    assert rows[-2:] == ["4", "nothing: the last window ends at the edge"]


def test_the_arrow_keys_move_the_window(opened):
    tab = opened()
    canvas = tab.locator("#output canvas")
    canvas.focus()
    for key, place in (("Home", "0, 14, 0"), ("ArrowLeft", "0, 14, 0"), ("ArrowRight", "0, 14, 1"),
                       ("ArrowUp", "0, 13, 1"), ("End", "0, 13, 27"), ("PageDown", "0, 27, 27"),
                       ("ArrowDown", "0, 27, 27"), ("PageUp", "0, 0, 27"),
                       ("Control+End", "0, 27, 27"), ("Control+Home", "0, 0, 0")):
        canvas.press(key)
        assert tab.text_content("#result").startswith(f"output[{place}] = ")
    assert tab.evaluate("document.activeElement === document.querySelector('#output canvas')")


def test_everything_is_reached_by_the_tab_key_and_seen_there(opened):
    tab = opened()
    reached = []
    for _ in range(60):
        tab.keyboard.press("Tab")
        name = tab.evaluate("""() => {
            const element = document.activeElement;
            if (element === document.body) return null;
            const outlined = parseFloat(getComputedStyle(element).outlineWidth) >= 1;
            return [element.id || element.parentElement.id || element.textContent, outlined];
        }""")
        if name is None:
            break
        reached.append(name)
    names = [name for name, _ in reached]
    wanted = ["tab-layer", "image-choice", "preset", "in-channels", "kernel-h", "mode", "source", "direction", "flip",
              "play",
              "step", "speed", "output", "output-channels", "tables"]
    assert [name for name in wanted if name not in names] == []
    assert [name for name, outlined in reached if not outlined] == []


def test_the_arrow_keys_change_a_choice(opened):
    tab = opened()
    for host, key, chosen in (("#direction", "ArrowRight", "backward"), ("#direction", "ArrowLeft", "forward"),
                              ("#flip", "ArrowRight", "convolution"), ("#output-channels", "ArrowLeft", "5"),
                              ("#output-channels", "ArrowRight", "0"), ("#image-choice", "ArrowRight", "2")):
        tab.locator(f"{host} [aria-checked=true]").press(key)
        assert tab.get_attribute(f"{host} [aria-checked=true]", "data-value") == chosen
        assert tab.evaluate("(host) => document.activeElement.matches(`${host} [aria-checked=true]`)", host)
    tab.locator("#tab-layer").press("ArrowRight")
    assert tab.is_visible("#network")
    assert tab.evaluate("document.activeElement.id") == "tab-network"


def test_space_plays_and_stops(opened):
    tab = opened(reduced_motion="no-preference")
    tab.select_option("#preset", "numbers")
    tab.evaluate("document.getElementById('speed').value = 3")
    tab.locator("#output canvas").focus()
    tab.keyboard.press(" ")
    assert tab.get_attribute("#play", "aria-pressed") == "true"
    tab.locator("#result", has_text="output[0, 1, ").wait_for()
    tab.keyboard.press(" ")
    assert tab.get_attribute("#play", "aria-pressed") == "false"
    here = tab.text_content("#result")
    tab.wait_for_timeout(150)
    assert tab.text_content("#result") == here
    tab.click("#play")
    tab.locator("#result", has_text="output[0, 3, 3]").wait_for()
    tab.locator("#play[aria-pressed=false]").wait_for()
    tab.click("#step")
    assert tab.text_content("#result").startswith("output[0, 0, 0]")


def test_motion_is_slow_where_less_of_it_is_wanted(opened):
    tab = opened()
    assert tab.evaluate("player.pause()") >= 500
    tab.evaluate("document.getElementById('speed').value = 3")
    assert tab.evaluate("player.pause()") >= 500
    assert tab.evaluate("getComputedStyle(document.getElementById('play')).transitionDuration") == "0s"


def test_playing_backward_the_gradient_grows_to_the_whole(opened):
    tab = opened(reduced_motion="no-preference")
    tab.select_option("#preset", "numbers")
    tab.click("#direction [data-value=backward]")
    tab.click("#tables summary")
    tab.locator("#table-body table").last.wait_for()
    last = "[...document.querySelectorAll('#table-body table')].at(-2).textContent"
    whole = tab.evaluate(last)
    tab.evaluate("document.getElementById('speed').value = 3")
    tab.click("#play")
    tab.locator("#result", has_text="grad_output[0, 1, ").wait_for()
    assert tab.evaluate(last) != whole
    tab.locator("#play[aria-pressed=false]").wait_for()
    assert tab.evaluate(last) == whole


def test_what_a_screen_reader_finds(opened):
    tab = opened()
    tab.click("#direction [data-value=backward]")
    nameless = tab.evaluate("""() => [...document
        .querySelectorAll("button, input, select, canvas, [role=radiogroup], table")]
        .filter((element) => element.checkVisibility() && !element.closest("[aria-hidden=true]"))
        .filter((element) => !(element.getAttribute("aria-label") || element.textContent.trim()
            || element.labels?.length || element.closest("[aria-labelledby]")?.matches("table")))
        .map((element) => element.outerHTML.slice(0, 80))""")
    assert nameless == []
    assert tab.get_attribute("#result", "aria-live") == "polite"
    assert tab.get_attribute("html", "lang") == "en"
    assert tab.locator("#output canvas").get_attribute("aria-label") == (
        "grad_output, channel 0, 28 rows, 28 columns; the arrow keys move the window")
    tab.select_option("#preset", "same")
    tab.click("#direction [data-value=forward]")
    tab.locator("#output canvas").press("Control+Home")
    assert "5 of the window's 9 pixels are padding" in tab.text_content("#result")
    assert tab.locator("#apart table").first.locator("td.padding .hidden").count() == 5
    tree = tab.locator("#settings").aria_snapshot()
    for name in ("kernel size", "stride", "padding", "dilation", "groups", "filled with"):
        assert f'"{name}"' in tree


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_either_scheme(opened, scheme):
    """Every text has the contrast to what is behind it that WCAG 2 asks for (4.5, level AA)."""
    tab = opened(color_scheme=scheme)
    low = tab.evaluate("""() => {
        const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
        const luminance = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = (element) => {
            for (let e = element; e; e = e.parentElement) {
                const colour = numbers(getComputedStyle(e).backgroundColor);
                if (colour.length === 3 || colour[3] > 0) return colour;
            }
        };
        const found = [];
        for (const element of document.querySelectorAll("body *")) {
            if (!element.checkVisibility()) continue;
            if (element.matches(".hidden, .skip, option, optgroup, script, :disabled")) continue;
            if (![...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
            const [a, b] = [luminance(numbers(getComputedStyle(element).color)), luminance(behind(element))].sort();
            const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (contrast < 4.5) found.push([element.outerHTML.slice(0, 90), contrast]);
        }
        return found;
    }""")
    assert low == []


@pytest.mark.parametrize("preset", ["own:0", "own:1", "colour", "uneven", "error"])
def test_nothing_sticks_out_on_a_phone(opened, preset):
    tab = opened(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    assert not tab.is_visible("#kernel-h")
    tab.select_option("#preset", preset)
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    if preset == "own:0":
        tab.locator("#output canvas").tap(position={"x": 5, "y": 5})
        assert tab.text_content("#result").startswith("output[0, 0, 0]")
        tab.click("#all-settings summary")
        assert tab.is_visible("#kernel-h")
        tab.click("#tab-network")
        tab.click("#forth")
        assert tab.evaluate("document.documentElement.scrollWidth") == 360


def test_the_network_step_by_step(opened, network):
    net, images = network
    tab = opened()
    tab.click("#tab-network")
    x = images
    for number, (name, layer) in enumerate(net.named_children(), start=1):
        with minidl.no_grad():
            x = layer(x)
        tab.click("#forth")
        assert tab.text_content("#step-title") == name
        assert tab.get_attribute("#step-list [aria-checked=true]", "data-value") == str(number)
        if x.ndim == 4:
            C = x.shape[1]
            tab.click(f"#step-channels [data-value='{C - 1}']")
            canvas = tab.locator("#step-maps canvas").last
            canvas.press("Control+Home")
            for row, column in ((0, 0), (0, 1), (1, 1)):
                assert tab.text_content("#step-result").startswith(f"{name}[{C - 1}, {row}, {column}] = ")
                assert np.float32(value_of(tab, "#step-result b")) == x[1, C - 1, row, column].item()
                canvas.press("ArrowRight" if column == 0 else "ArrowDown")
        elif x.shape[1] > 12:
            canvas = tab.locator("#step-bars canvas")
            canvas.press("End")
            assert tab.text_content("#step-bars output").startswith(f"{name}[{x.shape[1] - 1}] = ")
            assert np.float32(value_of(tab, "#step-bars b")) == x[1, -1].item()
    cells = tab.evaluate("[...document.querySelectorAll('.bars td[data-value]')].map((d) => Number(d.dataset.value))")
    np.testing.assert_array_equal(np.float32(cells[::2]), x[1].numpy())
    np.testing.assert_array_equal(np.float32(cells[1::2]), minidl.softmax(x, 1)[1].numpy())
    assert tab.text_content(".answer-line >> visible=true") == f"Says {x[1].argmax().item()}, is b"
    assert tab.is_disabled("#forth")


def test_a_step_shows_where_its_pixel_comes_from(opened, network):
    net, images = network
    tab = opened()
    tab.click("#tab-network")
    tab.click("#step-list [data-value='3']")
    tab.locator("#step-maps canvas").last.press("Control+End")
    with minidl.no_grad():
        window = net[:2](images)[1, 0, 26:, 26:]
    said = tab.text_content("#step-result .muted").strip().removeprefix("the largest of ")
    assert [float(text) for text in said.split(", ")] == pytest.approx(window.flatten().tolist(), abs=5e-4)
    assert tab.locator("#step-maps canvas").count() == 2
    tab.click("#step-list [data-value='4']")
    tab.click("#step-open")
    assert tab.is_visible("#layer")
    assert tab.text_content("#code").startswith("nn.Conv2d(6, 16, kernel_size=5)")


def test_the_network_plays_by_itself(opened):
    tab = opened()
    tab.click("#tab-network")
    tab.locator("#step-maps canvas").focus()
    tab.keyboard.press(" ")
    tab.locator("#step-title", has_text="conv1").wait_for()
    tab.click("#run")
    assert tab.get_attribute("#run", "aria-pressed") == "false"


@pytest.mark.parametrize(
    "model, shape",
    [
        (nn.Conv2d(3, 4, 3, padding_mode="reflect", padding=1), (3, 9, 9)),
        (nn.Conv2d(20, 40, 1, groups=2), (2, 20, 5, 5)),
        (nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)), (3, 5)),
        (nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU()), (2, 2, 9)),
        (nn.ConvTranspose2d(1, 2, 2, stride=2), (1, 4, 4)),
        (nn.Sequential(nn.Conv2d(1, 70, 3), nn.AvgPool2d(3, padding=1), nn.BatchNorm2d(70)), (1, 1, 200, 200)),
        (nn.Sequential(nn.Conv2d(1, 1, 1)).double(), (1, 1, 3, 3)),
    ],
    ids=["colour", "many channels", "vectors", "signals", "transposed", "large", "float64"],
)
def test_models_of_other_kinds_open(browser, tmp_path, model, shape):
    minidl.manual_seed(0)
    x = minidl.rand(*shape).to(next(model.parameters()).dtype)
    path = page(model, x, tmp_path / "conv.html")
    tab = browser.new_page()
    complaints = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(path.as_uri())
    if tab.is_visible("#tab-network"):
        for _ in range(tab.locator("#step-list button").count() - 1):
            tab.click("#forth")
        tab.click("#tab-layer")
    else:
        assert value_of(tab, "#agreement") < 1e-5
    assert tab.is_visible("#output canvas")
    tab.close()
    assert complaints == []
