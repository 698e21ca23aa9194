"""``save`` and ``load``: what goes through, what other programs read, what a damaged file says."""

import json
import os
import pickle
import struct
import subprocess
import sys
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
from dtypes import DTYPES

import minidl
from minidl import serialization


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.safetensors"


def round_trip(obj, path):
    minidl.save(obj, path)
    return minidl.load(path)


def header(path):
    """The JSON header of a safetensors file, by the format's own words."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size])


def rewrite_metadata(path, change):
    """Change what minidl wrote into the metadata, and leave the rest of the file as it is."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    head = json.loads(content[8 : 8 + size])
    head["__metadata__"]["minidl"] = change(head["__metadata__"]["minidl"])
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


# --- what goes through


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3, 4)])
def test_tensors_go_through(dtype, shape, path):
    values = np.random.RandomState(0).randint(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
    tensor = minidl.tensor(values)
    back = round_trip({"a": tensor}, path)["a"]
    assert isinstance(back, minidl.Tensor) and back.dtype is tensor.dtype and back.shape == tensor.shape
    np.testing.assert_array_equal(back.numpy(), values)
    back.zero_()  # writable


@pytest.mark.parametrize("dtype", [*DTYPES, "float16", "uint16", "uint32", "uint64", ">f4", ">i8"])
def test_arrays_go_through_and_stay_arrays(dtype, path):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    back = round_trip([array, array.T, array[:, ::2], array[0, 0:1].reshape(())], path)
    for ours, expected in zip(back, [array, array.T, array[:, ::2], array[0, 0]], strict=True):
        assert type(ours) is np.ndarray and ours.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(ours, expected)


def test_views_and_shared_tensors_are_saved_by_value(path):
    base = minidl.arange(12).reshape(3, 4)
    views = {"t": base.t(), "row": base[1], "columns": base[:, ::2], "same": base, "wide": base[:1].expand(2, 4)}
    back = round_trip(views, path)
    for name, view in views.items():
        np.testing.assert_array_equal(back[name].numpy(), view.numpy())
        assert back[name].is_contiguous()
    assert path.stat().st_size < 5000
    back["same"].zero_()
    assert back["row"].tolist() == [4, 5, 6, 7]


def test_parameters_come_back_as_plain_tensors(path):
    p = minidl.Parameter(minidl.ones(2))
    back = round_trip([p, p * 2], path)
    assert [tensor.tolist() for tensor in back] == [[1, 1], [2, 2]]
    for tensor in back:
        assert type(tensor) is minidl.Tensor and not tensor.requires_grad


OBJECTS = [
    None, True, 3, -(2**70), 0.1, 1e-310, float("inf"), "text \u00e9\u2603 \x00 \"quoted\"", "",
    [], {}, (), [[]], [1, [2.5, (None, "x")], {"a": ()}],
    {0: "int", "0": "text", True: "bool"}, {None: 1, 2.5: 2, "": 3}, {(-1): [1]},
    {"$tensor": 1}, {"$tuple": [1]}, {"$dict": []}, {"a": {"$array": {}}}, {"__metadata__": 1},
    {"a.b": 1, "a": {"b": 2}}, (1, (2, (3,))),
]


@pytest.mark.parametrize("obj", OBJECTS, ids=repr)
def test_everything_else_goes_through(obj, path):
    back = round_trip(obj, path)
    assert back == obj and repr(back) == repr(obj)


def test_nan_goes_through(path):
    assert np.isnan(round_trip(float("nan"), path))


def test_kinds_that_become_plain(path):
    counts = defaultdict(int, a=1)
    back = round_trip([OrderedDict(b=1, a=2), counts, minidl.zeros(2, 3).shape, np.float32(0.5), np.int64(3)], path)
    assert repr(back) == "[{'b': 1, 'a': 2}, {'a': 1}, (2, 3), 0.5, 3]"


def test_a_tensor_alone(path):
    assert round_trip(minidl.arange(3), path).tolist() == [0, 1, 2]
    assert round_trip(np.arange(3), path).tolist() == [0, 1, 2]


def test_a_checkpoint(path):
    weights = OrderedDict([("z.weight", minidl.randn(3, 2)), ("a.bias", minidl.randn(3))])
    state = {"state": {0: {"step": 3, "exp_avg": minidl.randn(2)}, 1: {}},
             "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0, 1]}]}
    checkpoint = {"model": weights, "optimizer": state, "epoch": 4, "best": None, "random": minidl.get_rng_state()}
    back = round_trip(checkpoint, path)
    assert list(back) == list(checkpoint) and list(back["model"]) == ["z.weight", "a.bias"]
    assert list(back["optimizer"]["state"]) == [0, 1]
    assert back["optimizer"]["param_groups"] == state["param_groups"]
    assert back["optimizer"]["state"][0]["exp_avg"].tolist() == state["state"][0]["exp_avg"].tolist()
    assert sorted(set(header(path)) - {"__metadata__"}) == [
        "model.a.bias", "model.z.weight", "optimizer.state.0.exp_avg", "random"]


def test_paths_that_read_alike_are_kept_apart(path):
    one, two, three, four = (minidl.tensor([i]) for i in range(4))
    obj = {"a.b": one, "a": {"b": two}, "c": [three], "c.0": four, "__metadata__": one, 1: two, "1": three, "": four}
    back = round_trip(obj, path)
    assert [back["a.b"].item(), back["a"]["b"].item(), back["c"][0].item(), back["c.0"].item()] == [0, 1, 2, 3]
    assert [back["__metadata__"].item(), back[1].item(), back["1"].item(), back[""].item()] == [0, 1, 2, 3]


def test_map_location(path):
    minidl.save({"a": minidl.ones(1)}, path)
    assert minidl.load(path, weights_only=True)["a"].device == minidl.device("cpu")
    for device in ("cpu", minidl.device("cpu")):
        assert minidl.load(path, map_location=device)["a"].device.type == "cpu"
    with pytest.raises(RuntimeError, match="cuda"):
        minidl.load(path, map_location="cuda:7")


def test_the_same_object_twice_is_no_cycle(path):
    part = [1, 2]
    assert round_trip({"a": part, "b": part}, path) == {"a": [1, 2], "b": [1, 2]}


# --- other programs


def test_a_state_dict_is_a_plain_safetensors_file(path):
    from safetensors.numpy import load_file

    weights = {"conv.weight": minidl.randn(2, 1, 3, 3), "conv.bias": minidl.randn(2).double()}
    minidl.save(weights, path)
    read = load_file(path)
    assert read.keys() == weights.keys()
    for name, tensor in weights.items():
        np.testing.assert_array_equal(read[name], tensor.numpy(), strict=True)


def test_torch_reads_a_file(path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    tensors = {name: minidl.ones(2, 3, dtype=getattr(minidl, name)) for name in DTYPES}
    minidl.save(tensors, path)
    read = load_file(path)
    assert read.keys() == tensors.keys()
    for name, tensor in read.items():
        assert tensor.dtype == getattr(torch, name) and tensor.tolist() == tensors[name].tolist()


def test_files_of_torch_are_read(path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file({"b": torch.randn(3, 4), "a": torch.tensor(3), "m": torch.tensor([True])}, path, metadata={"x": "y"})
    torch.manual_seed(0)
    back = minidl.load(path)
    assert sorted(back) == ["a", "b", "m"] and back["a"].item() == 3 and back["m"].dtype is minidl.bool
    np.testing.assert_array_equal(back["b"].numpy(), torch.randn(3, 4).numpy())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_dtype_that_tensors_do_not_have_is_named(dtype, path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2, dtype=getattr(torch, dtype))}, path)
    with pytest.raises(RuntimeError, match=f"{path}.*{dtype}"):
        minidl.load(path)


# --- what is refused


class Thing:
    pass


@pytest.mark.parametrize("obj, message", [
    (Thing(), r"save: the object: cannot save a Thing"),
    ({"state": {0: {"foo": len}}}, r"save: state\.0\.foo: cannot save a builtin_function_or_method"),
    ({"state": [1, {"foo": lambda: 0}]}, r"save: state\.1\.foo: cannot save a function"),
    ({"a": {1, 2}}, "save: a: cannot save a set"),
    ({"a": b"bytes"}, "save: a: cannot save a bytes"),
    ({"a": (1, 2 + 3j)}, r"save: a\.1: cannot save a complex"),
    ({"a": {(1, 2): 3}}, r"save: a\.\(1, 2\): cannot save a tuple as a key"),
    ({"a": np.array(["x"])}, "save: a: cannot save an array of <U1"),
    ({"a": np.array([1j])}, "save: a: cannot save an array of complex128"),
    ([np.array([None])], "save: 0: cannot save an array of object"),
])
def test_what_cannot_be_saved_is_named_with_its_place(obj, message, path):
    path.write_bytes(b"before")
    with pytest.raises(TypeError, match=message):
        minidl.save(obj, path)
    assert path.read_bytes() == b"before"


def test_an_object_that_contains_itself(path):
    obj = {"a": []}
    obj["a"].append(obj)
    with pytest.raises(ValueError, match=r"save: a\.0: this dict contains itself"):
        minidl.save(obj, path)


# --- damage


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"load: there is no file .*nothing"):
        minidl.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        minidl.load(tmp_path)


def test_a_truncated_file_names_itself(path):
    minidl.save({"a": minidl.randn(50), "b": [1, 2]}, path)
    whole = path.read_bytes()
    for size in [*range(0, 60, 7), *range(60, len(whole), 41), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(RuntimeError, match=f"load: {path} "):
            minidl.load(path)


def test_a_flipped_bit_names_the_file(path):
    minidl.save({"a": minidl.randn(50), "b": [1, 2]}, path)
    whole = path.read_bytes()
    numbers = 8 + struct.unpack("<Q", whole[:8])[0]
    for position in (numbers, numbers + 100, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(RuntimeError, match=f"load: {path} is damaged, or another program has changed its tensors"):
            minidl.load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"<!DOCTYPE html>" * 9, pickle.dumps({"a": [1] * 99}), bytes(100),
                                     b"\xff" * 100, b"PK\x03\x04" + bytes(99)])
def test_a_foreign_file_names_itself(content, path):
    path.write_bytes(content)
    with pytest.raises(RuntimeError, match=f"load: {path} is not a safetensors file, or is truncated or damaged"):
        minidl.load(path)


@pytest.mark.parametrize("change, message", [
    (lambda text: text[:-5], "cannot be read"),
    (lambda text: "[1]", "cannot be read"),
    (lambda text: "{}", "cannot be read"),
    (lambda text: text.replace('"version":1', '"version":7'), "has version 7 of minidl's format, expected 1"),
    (lambda text: text.replace('"$tensor":"a"', '"$tensor":"gone"'), "makes no sense"),
    (lambda text: text.replace('"$tensor":"a"', '"$dict":5'), "makes no sense"),
])
def test_damaged_metadata_names_the_file(change, message, path):
    minidl.save({"a": minidl.ones(2)}, path)
    rewrite_metadata(path, change)
    with pytest.raises(RuntimeError, match=f"load: {path} .*{message}"):
        minidl.load(path)


# --- whole or not at all


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_save_leaves_the_old_file(where, error, path, monkeypatch):
    minidl.save({"a": 1}, path)

    def fail(*args, **kwargs):
        raise error

    if where == "write":
        class File:
            def __init__(self, name, mode):
                self._file = open(name, mode)  # noqa: SIM115

            def __enter__(self):
                return self

            def __exit__(self, *exception):
                self._file.close()

            def write(self, content):
                self._file.write(content[:10])
                raise error

        monkeypatch.setattr(serialization, "open", File, raising=False)
    else:
        monkeypatch.setattr(os, where, fail)
    with pytest.raises(type(error)):
        minidl.save({"a": 2}, path)
    monkeypatch.undo()
    assert minidl.load(path) == {"a": 1}
    assert os.listdir(path.parent) == [path.name]


def test_a_killed_save_leaves_the_old_file(path):
    minidl.save({"a": 1}, path)
    program = (
        "import os, sys, minidl\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), 9)\n"
        "minidl.save({'a': minidl.ones(1000)}, sys.argv[1])"
    )
    process = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert process.returncode == -9
    assert minidl.load(path) == {"a": 1}


def test_the_file_gets_ordinary_rights_and_links_stay(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    minidl.save(1, target)
    other = tmp_path / "other"
    other.write_bytes(b"")
    assert target.stat().st_mode == other.stat().st_mode
    link.symlink_to(target)
    minidl.save(2, link)
    assert link.is_symlink() and minidl.load(target) == 2


def test_a_path_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    minidl.save([1], "file")
    assert minidl.load("file") == [1] and os.listdir() == ["file"]
    with pytest.raises(FileNotFoundError):
        minidl.save([1], "no/such/folder/file")
