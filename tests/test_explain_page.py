"""``minidl.explain.page`` as a function and a program: what it writes, what it leaves alone, what it says."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.datasets import EmbeddedDigits
from minidl.explain import __main__ as program
from minidl.explain.html_page import ASSETS, SCRIPTS, page
from minidl.explain.lenet import VARIANTS, lenet5, load_lenet, train_lenet
from minidl.explain.page_data import MOST_BYTES, Arrays, _thinned

ROOT = Path(__file__).resolve().parents[1]


def content(path):
    """The data in a page."""
    text = Path(path).read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def array(data, index):
    import base64

    stored = data["arrays"][index]
    values = np.frombuffer(base64.b64decode(stored["data"]), f"<{stored['type']}")
    return values.reshape(stored["shape"])


class Net(nn.Module):
    """Computes between its layers, and uses one of them twice."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 3)
        self.conv2 = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        x = minidl.relu(self.conv1(x)) * 2
        x = self.norm(self.relu(self.conv2(x)))
        return self.fc(self.relu(x.mean((2, 3)))) + 1


def test_a_layer_is_stored_with_what_minidl_makes_of_its_input(tmp_path):
    layer = nn.Conv2d(4, 6, (2, 3), stride=(1, 2), padding="valid", groups=2, padding_mode="reflect", bias=False)
    x = minidl.randn(2, 4, 7, 8)
    path = page(layer, x, tmp_path / "layer.html")
    assert path == tmp_path / "layer.html"
    data = content(path)
    assert data["network"] is None
    assert data["samples"] == 2
    stored, = data["layers"]
    assert stored["settings"] == {"C": 4, "OC": 6, "groups": 2, "bias": False, "kernel": [2, 3], "stride": [1, 2],
                                  "dilation": [1, 1], "padding": "valid", "mode": "reflect", "size": [7, 8]}
    np.testing.assert_array_equal(array(data, stored["input"]), x.numpy())
    np.testing.assert_array_equal(array(data, stored["weight"]), layer.weight.detach().numpy())
    np.testing.assert_array_equal(array(data, stored["output"]), layer(x).detach().numpy())
    assert stored["bias"] is None


def test_a_network_is_stored_step_by_step_and_left_as_it_was(tmp_path):
    minidl.manual_seed(0)
    net, x = Net(), minidl.randn(3, 1, 8, 8)
    net.norm.eval()
    running = net.norm.running_mean.clone()
    modes = [module.training for module in net.modules()]
    data = content(page(net, x, tmp_path / "net.html"))
    assert [module.training for module in net.modules()] == modes
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in net.modules())
    assert minidl.equal(net.norm.running_mean, running)

    steps = data["network"]["steps"]
    assert [step["path"] for step in steps] == [
        "input", "conv1", "before conv2", "conv2", "relu", "norm", "before relu (2)", "relu (2)", "fc", "output"]
    assert [step["layer"] for step in steps] == [None, 0, None, 1, *[None] * 6]
    net.eval()
    with minidl.no_grad():
        first = net.conv1(x)
        between = minidl.relu(first) * 2
        second = net.conv2(between)
    for path, wanted in (("input", x), ("conv1", first), ("before conv2", between), ("conv2", second),
                         ("relu", minidl.relu(second)), ("output", net(x).detach())):
        step = next(step for step in steps if step["path"] == path)
        assert step["shape"] == list(wanted.shape[1:])
        np.testing.assert_array_equal(array(data, step["values"]), wanted.numpy())


def test_every_digit_of_the_class_names_gets_a_probability(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x = minidl.randn(2, 1, 2, 2)
    data = content(page(net, x, tmp_path / "net.html", classes=["</script>", "b", "ü"], labels=["a", "b"]))
    assert data["network"]["classes"] == ["</script>", "b", "ü"]
    wanted = minidl.softmax(net(x), 1).detach().numpy()
    np.testing.assert_array_equal(array(data, data["network"]["probabilities"]), wanted)


def test_the_page_asks_for_nothing_from_outside(tmp_path):
    path = page(nn.Conv2d(1, 1, 3), minidl.zeros(1, 5, 5), tmp_path / "conv.html")
    text = path.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)|@import|url\(|https?://""", text)
    assert "{{" not in text.replace("${{", "")
    assert path.stat().st_size < 2_000_000


def test_every_asset_is_in_the_page_and_small_enough_to_read():
    names = {path.name for path in ASSETS.iterdir()}
    assert names == {"page.html", "page.css", *(f"{name}.js" for name in SCRIPTS)}
    assert [name for name in names if (ASSETS / name).read_text(encoding="utf-8").count("\n") > 500] == []


def test_a_large_network_stays_below_two_megabytes(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
                        nn.MaxPool2d(2), nn.Conv2d(64, 128, 3), nn.Flatten(), nn.Linear(128 * 46 * 46, 7))
    path = page(net, minidl.rand(2, 3, 96, 96), tmp_path / "large.html")
    assert path.stat().st_size < 2_000_000
    data = content(path)
    assert "images are on this page" in data["subtitle"] or data["samples"] == 2
    step = data["network"]["steps"][1]
    assert step["note"].startswith("The first ")
    assert step["shape"] == [64, 96, 96]


@pytest.mark.parametrize("shape", [(1, 64, 96, 96), (2, 3, 400, 300), (1, 9000), (1, 2, 2, 2)])
def test_thinned_maps_keep_their_first_channels(shape):
    full = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    kept, every = _thinned(full, 2000)
    assert kept[0].size <= 2000
    if len(shape) == 4:
        np.testing.assert_array_equal(kept, full[:, :kept.shape[1], ::every, ::every])
    else:
        np.testing.assert_array_equal(kept, full[:, :2000])


def test_equal_arrays_are_stored_once():
    arrays = Arrays()
    x = np.ones((2, 3), np.float32)
    given = [x, x.copy(), x.reshape(3, 2), x.astype(float)]
    assert [arrays.add(each) for each in given] == [0, 0, 1, 2]


# -- what is refused

CONV = nn.Conv2d(1, 2, 3)


@pytest.mark.parametrize(
    "arguments, options, error, words",
    [
        ((minidl.zeros(2, 1, 3, 3), minidl.zeros(1, 5, 5)), {}, TypeError,
         "layer_or_model must be an nn.Module, got Tensor"),
        ((CONV, np.zeros((1, 5, 5))), {}, TypeError, "input must be a Tensor, got ndarray; minidl.as_tensor"),
        ((CONV, minidl.zeros(1, 5, 5).long()), {}, TypeError, r"convert it with .float\(\)"),
        ((CONV, minidl.zeros(5, 5)), {}, ValueError, r"input \(5, 5\) must be \(N, C, H, W\) or \(C, H, W\)"),
        ((CONV, minidl.zeros(0, 1, 5, 5)), {}, ValueError, "is empty: there is nothing to show"),
        ((CONV, minidl.zeros(2, 1, 5, 5)), {"labels": [1]}, ValueError, "labels has 1 entries for 2 images"),
        ((CONV, minidl.zeros(2, 1, 5, 5)), {"first": 2}, ValueError, "first is 2; the input has the images 0 to 1"),
        ((CONV, minidl.zeros(3, 5, 5)), {}, RuntimeError, "set in_channels=3"),
        ((CONV, minidl.zeros(1, 2, 2)), {}, RuntimeError, "too small for a kernel of 3"),
        ((nn.Conv2d(512, 512, 3), minidl.zeros(512, 8, 8)), {}, ValueError,
         r"take 9\.6 MB, the page has room for 1\.3"),
        ((lenet5(), minidl.zeros(1, 28, 28)), {"layer": "conv3"}, ValueError,
         "layer is 'conv3'; the convolutions of this Sequential are conv1, conv2"),
        ((lenet5(), minidl.zeros(2, 1, 20, 20)), {}, RuntimeError, r"Sequential.fc1 \(Linear\)"),
    ],
)
def test_arguments_that_cannot_be_shown(tmp_path, arguments, options, error, words):
    with pytest.raises(error, match=words):
        page(*arguments, tmp_path / "conv.html", **options)
    assert list(tmp_path.iterdir()) == []


def test_only_a_page_of_its_own_is_overwritten(tmp_path):
    x, target = minidl.zeros(1, 5, 5), tmp_path / "conv.html"
    target.write_text("a thesis")
    with pytest.raises(FileExistsError, match=r"conv\.html exists and is no page of minidl\.explain"):
        page(CONV, x, target)
    assert target.read_text() == "a thesis"
    target.unlink()
    page(CONV, x, target)
    before = target.read_bytes()
    page(CONV, x + 1, target)
    assert target.read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["conv.html"]


def test_folders_are_named(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder; give the name of a file"):
        page(CONV, minidl.zeros(1, 5, 5), tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        page(CONV, minidl.zeros(1, 5, 5), tmp_path / "nowhere" / "conv.html")


def test_a_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    target = page(CONV, minidl.zeros(1, 5, 5), tmp_path / "conv.html")
    before = target.read_bytes()

    def full(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        page(CONV, minidl.ones(1, 5, 5), target)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["conv.html"]


# -- LeNet and the program

@pytest.mark.source_tree
@pytest.mark.parametrize("variant", VARIANTS)
def test_lenet_is_that_of_the_examples(variant):
    spec = importlib.util.spec_from_file_location("examples_lenet", ROOT / "examples" / "lenet.py")
    examples = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(examples)
    assert variant in examples.VARIANTS
    assert repr(lenet5(variant)) == repr(examples.lenet5(nn, variant))


def test_training_is_always_the_same_and_leaves_the_random_numbers_alone():
    digits = EmbeddedDigits(train=True)
    digits.data, digits.targets = digits.data[:256], digits.targets[:256]
    minidl.manual_seed(5)
    wanted = minidl.rand(3)
    minidl.manual_seed(5)
    first, second = train_lenet(digits, 1), train_lenet(digits, 1)
    assert minidl.equal(minidl.rand(3), wanted)
    assert all(map(minidl.equal, first.parameters(), second.parameters()))


def run(*arguments, folder):
    """The program in a process of its own: (exit code, what it printed, what it complained of)."""
    where = {"PYTHONPATH": str(Path(minidl.__file__).parents[1]), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-P", "-m", "minidl.explain", *arguments], cwd=folder, env=where,
                          capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_the_program_trains_where_nothing_is_trained(tmp_path):
    code, out, err = run(folder=tmp_path)
    assert (code, err) == (0, "")
    assert "no trained weights in runs/lenet/last.safetensors (make train leaves them there): training" in out
    right = float(re.search(r"([\d.]+) % of 2,000 test digits right", out)[1])
    assert right > 95
    assert f"open it in a browser: {(tmp_path / 'conv.html').as_uri()}" in out
    data = content(tmp_path / "conv.html")
    assert (data["samples"], data["labels"], data["first"]) == (10, list("0123456789"), 7)
    assert (data["start"], data["layers"][data["begin"]]["path"]) == ("layer", "conv1")


def test_the_program_takes_the_weights_that_training_left(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    net = lenet5("classic")
    Path("runs/lenet").mkdir(parents=True)
    minidl.save(net.state_dict(), "runs/lenet/last.safetensors")
    minidl.save({"options": {"variant": "classic"}, "net": net.state_dict()}, "runs/lenet/checkpoint.safetensors")
    assert program.main(["--out", "a.html", "--image", "12", "--network"]) == 0
    assert "LeNet-5 (classic) with the weights of runs/lenet/last.safetensors" in capsys.readouterr().out
    data = content("a.html")
    image, label = EmbeddedDigits(train=False)[12]
    assert (data["start"], data["samples"], data["labels"]) == ("network", 1, [str(label)])
    np.testing.assert_array_equal(array(data, data["network"]["steps"][0]["values"])[0], image.numpy())
    with minidl.no_grad():
        wanted = net(image.unsqueeze(0)).numpy()
    np.testing.assert_array_equal(array(data, data["network"]["steps"][-1]["values"]), wanted)
    loaded, variant = load_lenet(Path("runs/lenet/checkpoint.safetensors"))
    assert variant == "classic"
    assert minidl.equal(loaded.conv1.weight, net.conv1.weight)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--weights", "nowhere.safetensors"], "there is no file nowhere.safetensors"),
        (["--weights", "text.safetensors"], "is not a safetensors file"),
        (["--weights", "other.safetensors"], "does not hold the weights of a LeNet-5"),
        (["--weights", "right.safetensors", "--out", "text.safetensors"], "is no page of minidl.explain"),
        (["--weights", "right.safetensors", "--layer", "fc1"], "the convolutions of this Sequential are conv1, conv2"),
    ],
)
def test_the_program_says_what_is_wrong_in_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path("text.safetensors").write_text("no weights")
    minidl.save({"a": minidl.zeros(2)}, "other.safetensors")
    minidl.save(lenet5().state_dict(), "right.safetensors")
    assert program.main(arguments) == 1
    assert words in capsys.readouterr().err
    assert not Path("conv.html").exists()


@pytest.mark.parametrize("arguments, words", [(["--digit", "11"], "invalid choice: 11"),
                                              (["--image", "2000"], "numbered 0 to 1999"), (["--what"], "--what")])
def test_wrong_options_are_answered_with_one_sentence(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit:
        program.main(arguments)
    assert exit.value.code == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("environment, opened", [({}, False), ({"DISPLAY": ":0"}, True), ({"BROWSER": "lynx"}, True)])
@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="there a browser always has windows")
def test_a_browser_opens_only_where_there_are_windows(monkeypatch, environment, opened):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asked = []
    monkeypatch.setattr("webbrowser.open", lambda address: asked.append(address) or True)
    assert program._opened("file:///conv.html") is opened
    assert asked == (["file:///conv.html"] if opened else [])


def test_room_is_left_for_the_rest_of_the_page():
    rest = sum(path.stat().st_size for path in ASSETS.iterdir())
    assert MOST_BYTES * 4 / 3 + rest + 100_000 < 2_000_000  # 100 kB for names, shapes and texts
