"""MNIST, Fashion-MNIST and the digits in the package: where files are found, what is refused, what a sample is."""

import hashlib
import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import minidl
from minidl.datasets import MNIST, EmbeddedDigits, FashionMNIST, embedded
from minidl.datasets.idx import format_idx, write_idx
from minidl.datasets.labelled_images import Batch
from minidl.datasets.mnist import IdxFile
from minidl.utils.data import DataLoader

CHECKOUT = Path(__file__).resolve().parent.parent
REAL = next((p / "shared/data/mnist" for p in CHECKOUT.parents if (p / "shared/data/mnist").is_dir()), None)
needs_real_mnist = pytest.mark.skipif(REAL is None, reason="the real MNIST is not beside the checkout")

random = np.random.RandomState(0)
ARRAYS = {
    "train-images-idx3-ubyte": random.randint(0, 256, (7, 28, 28)).astype(np.uint8),
    "train-labels-idx1-ubyte": np.array([5, 0, 4, 1, 9, 2, 1], np.uint8),
    "t10k-images-idx3-ubyte": random.randint(0, 256, (4, 28, 28)).astype(np.uint8),
    "t10k-labels-idx1-ubyte": np.array([7, 2, 1, 0], np.uint8),
}
IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = ARRAYS


class Tiny(MNIST):
    """MNIST with seven training and four test digits."""

    files: ClassVar = {
        train: tuple(
            IdxFile(name, array.shape, hashlib.md5(format_idx(array)).hexdigest())
            for name, array in ARRAYS.items()
            if name.startswith("train" if train else "t10k")
        )
        for train in (True, False)
    }


def write_all(folder, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ARRAYS.items():
        write_idx(folder / (name + suffix), array)
    return folder


@pytest.fixture
def root(tmp_path):
    return write_all(tmp_path)


@pytest.fixture
def tiny(root):
    return Tiny(root)


# --- files


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("folder", ["Tiny/raw", "raw", "."])
def test_files_are_found_where_torchvision_and_people_put_them(tmp_path, folder, suffix):
    write_all(tmp_path / folder, suffix)
    train, test = Tiny(tmp_path), Tiny(str(tmp_path), train=False)
    for dataset, images, labels in ((train, IMAGES, LABELS), (test, TEST_IMAGES, TEST_LABELS)):
        np.testing.assert_array_equal(dataset.data, ARRAYS[images])
        np.testing.assert_array_equal(dataset.targets, ARRAYS[labels])
        assert dataset.data.dtype is minidl.uint8
        assert dataset.targets.dtype is minidl.int64
        assert dataset.data.numpy().flags.writeable
        assert len(dataset) == len(ARRAYS[labels])


def test_the_home_folder_may_be_a_tilde(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root.parent))
    assert len(Tiny(f"~/{root.name}")) == 7


def test_system_folders_come_last(tmp_path, monkeypatch):
    assert FashionMNIST.system_folders == (Path("/usr/share/datasets/fashion-mnist"),)
    monkeypatch.setattr(Tiny, "system_folders", (write_all(tmp_path / "system", ".gz"),))
    assert len(Tiny(tmp_path / "home")) == 7
    assert Tiny(tmp_path / "home").folders[-1] == tmp_path / "system"


def test_a_missing_file_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(RuntimeError) as error:
        Tiny(tmp_path / "data")
    message = str(error.value)
    assert message.startswith("Tiny: train-images-idx3-ubyte not found")
    assert "download=True" in message
    for folder in ("data/Tiny/raw", "data/raw", "data"):
        assert f"{tmp_path / folder}," in message or f"{tmp_path / folder};" in message


def refused(root, message):
    with pytest.raises(ValueError, match=message) as error:
        Tiny(root)
    assert str(root / IMAGES) in str(error.value)
    assert "download=True" in str(error.value)


def test_swapped_files_are_named(root):
    os.replace(root / LABELS, root / IMAGES)
    refused(root, f"holds {LABELS} of Tiny, expected {IMAGES} of Tiny")
    os.replace(root / TEST_IMAGES, root / IMAGES)
    refused(root, f"holds {TEST_IMAGES} of Tiny, expected {IMAGES} of Tiny")


def test_the_file_of_another_data_set_is_named(root, monkeypatch):
    other = np.zeros((60000, 1, 1), np.uint8)
    fashion = IdxFile(IMAGES, other.shape, hashlib.md5(format_idx(other)).hexdigest())
    monkeypatch.setattr(FashionMNIST, "files", {True: (fashion, FashionMNIST.files[True][1])})
    write_idx(root / IMAGES, other)
    refused(root, f"holds {IMAGES} of FashionMNIST, expected {IMAGES} of Tiny")


def test_a_truncated_file_is_named(root):
    whole = (root / IMAGES).read_bytes()
    (root / IMAGES).write_bytes(whole[:-1])
    refused(root, "is truncated")


def test_a_truncated_gzip_is_named(root):
    (root / IMAGES).unlink()
    path = root / f"{IMAGES}.gz"
    write_idx(path, ARRAYS[IMAGES])
    path.write_bytes(path.read_bytes()[:-9])
    refused(root, "truncated")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((7, 28, 27), np.uint8), r"holds uint8 \(7, 28, 27\), expected .*, uint8 \(7, 28, 28\)"),
        (np.zeros((7, 28, 28), np.float32), r"holds float32 \(7, 28, 28\), expected"),
        (np.zeros((7, 28, 28), np.uint8), "has the right shape but other content"),
    ],
)
def test_a_file_of_other_content_is_named(root, array, message):
    write_idx(root / IMAGES, array)
    refused(root, message)


def test_a_web_page_is_named(root):
    (root / IMAGES).write_bytes(b"<!DOCTYPE html>")
    refused(root, "is not an IDX file")


def test_a_good_copy_elsewhere_serves(root):
    write_all(root / "raw", ".gz")
    (root / "raw" / f"{IMAGES}.gz").write_bytes(b"rubbish")
    assert len(Tiny(root)) == 7


# --- samples


def test_a_sample_is_a_scaled_image_and_an_int(tiny):
    image, label = tiny[2]
    assert image.shape == (1, 28, 28)
    assert image.dtype is minidl.float32
    # One rounding: the float32 nearest to the quotient.
    np.testing.assert_array_equal(image[0], (ARRAYS[IMAGES][2] / 255.0).astype(np.float32))
    assert label == 4
    assert type(label) is int
    assert tiny[-1][1] == tiny[np.int64(6)][1] == 1
    assert [label for _, label in tiny] == [5, 0, 4, 1, 9, 2, 1]
    with pytest.raises(IndexError, match="7 is out of bounds"):
        tiny[7]


def test_a_sample_is_not_a_view_of_the_data(tiny):
    image, _ = tiny[0]
    image[:] = 0
    np.testing.assert_array_equal(tiny.data, ARRAYS[IMAGES])


@pytest.mark.parametrize("numbers", [{}, {"mean": 0.1307, "std": 0.3081}])
@pytest.mark.parametrize("indices", [[3, 0, 0, -1], range(7), np.array([6, 2], np.uint8), []])
def test_fetching_gives_the_samples_stacked(root, numbers, indices):
    dataset = Tiny(root, **numbers)
    images, labels = dataset.fetch(indices)
    assert images.shape == (len(indices), 1, 28, 28)
    assert images.dtype is minidl.float32
    assert images.is_contiguous()
    assert labels.shape == (len(indices),)
    assert labels.dtype is minidl.int64
    for row, index in enumerate(indices):
        image, label = dataset[index]
        np.testing.assert_array_equal(images[row], image)
        assert labels[row] == label


@pytest.mark.parametrize("indices", [[True, False], [0.0], [[0], [1]], 3, np.ones(7, bool)])
def test_fetching_refuses_what_is_no_list_of_integers(tiny, indices):
    with pytest.raises(TypeError, match="expected a flat list or array of integers"):
        tiny.fetch(indices)


def test_fetching_refuses_an_index_out_of_range(tiny):
    with pytest.raises(IndexError):
        tiny.fetch([0, 7])


@pytest.mark.torch
def test_normalized_pixels_have_the_bits_of_torchvision(root):
    torch = pytest.importorskip("torch")
    images, _ = Tiny(root, mean=0.1307, std=0.3081).fetch(range(7))
    raw = torch.from_numpy(ARRAYS[IMAGES])[:, None]
    # The body of torchvision's ToTensor, then that of Normalize.
    expected = raw.to(torch.float32).div(255).sub_(torch.tensor(0.1307)).div_(torch.tensor(0.3081))
    np.testing.assert_array_equal(images, expected.numpy())


def test_transforms(root):
    seen = []

    def transform(image):
        seen.append((image.shape, image.dtype))
        return image.sum(dtype=int)

    dataset = Tiny(root, transform=transform, target_transform=str)
    assert dataset[3] == (ARRAYS[IMAGES][3].sum(dtype=int), "1")
    assert seen == [((28, 28), np.uint8)]
    assert dataset.__getitems__([3, 0]) == [dataset[3], dataset[0]]


def test_a_transform_that_writes_does_not_change_the_data(root):
    dataset = Tiny(root, transform=lambda image: image.fill(0))
    assert dataset[0] == (None, 5)
    np.testing.assert_array_equal(dataset.data, ARRAYS[IMAGES])


def test_a_target_transform_alone_applies_to_batches(root):
    batch = Tiny(root, target_transform=str).__getitems__([0, 4])
    assert [label for _, label in batch] == ["5", "9"]


def test_mean_and_std_are_checked(root):
    with pytest.raises(ValueError, match="Tiny: a transform gets the raw image"):
        Tiny(root, transform=np.negative, mean=0.5)
    with pytest.raises(ValueError, match="Tiny: std is 0"):
        Tiny(root, std=0)


def test_data_may_be_cut_by_the_user(tiny):
    tiny.data, tiny.targets = tiny.data[2:4], tiny.targets[2:4]
    assert len(tiny) == 2
    assert tiny[0][1] == 4
    assert len(list(tiny)) == 2
    np.testing.assert_array_equal(tiny.fetch([1, 0])[1], [1, 4])


@pytest.mark.parametrize("cut", [np.s_[::2], np.s_[:, ::2, 1:], np.s_[::-1]], ids=str)
def test_data_that_lies_in_strides(root, cut):
    dataset = Tiny(root, mean=0.1307, std=0.3081)
    whole, rows = ARRAYS[IMAGES][cut], [2, 0, -1]
    dataset.data = whole
    images, _ = dataset.fetch(rows)
    assert images.is_contiguous()
    expected = (whole[rows] / np.float32(255) - np.float32(0.1307)) / np.float32(0.3081)
    np.testing.assert_array_equal(images[:, 0], expected)


def test_a_batch_costs_one_gather_and_no_copy(tiny, monkeypatch):
    calls = []
    monkeypatch.setattr(Tiny, "fetch", lambda self, rows: calls.append(rows) or MNIST.fetch(self, rows))
    monkeypatch.setattr(Tiny, "__getitem__", None)
    batch = tiny.__getitems__([4, 5, 0])
    images, labels = batch.collated()
    assert calls == [[4, 5, 0]]
    assert images is batch.images
    assert labels is batch.labels
    np.testing.assert_array_equal(labels, [9, 2, 5])


def test_a_batch_is_a_list_of_samples_to_a_collate_function(tiny):
    batch = tiny.__getitems__([4, 5, 0])
    assert isinstance(batch, Batch)
    assert len(batch) == 3
    assert [label for _, label in batch] == [9, 2, 5]
    assert type(batch[0][1]) is int
    np.testing.assert_array_equal(batch[-1][0], tiny[0][0])
    assert [label for _, label in batch[1:]] == [2, 5]


def test_the_loader_takes_a_data_set(tiny):
    batches = list(DataLoader(tiny, batch_size=4))
    images, labels = tiny.fetch(range(7))
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in batches]), images)
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in batches]), labels)


def test_repr(root):
    assert repr(Tiny(root)) == f"Dataset Tiny\n    Number of datapoints: 7\n    Root location: {root}\n    Split: Train"
    assert "Split: Test\n    Normalized: mean=0.5, std=0.25" in repr(Tiny(root, False, mean=0.5, std=0.25))
    shown = repr(Tiny(root, transform=np.negative, target_transform=str))
    assert shown.endswith("Transform: <ufunc 'negative'>\n    Target transform: <class 'str'>")


def test_classes():
    assert MNIST.classes[3] == "3 - three"
    assert FashionMNIST.classes[9] == "Ankle boot"
    assert len(MNIST.classes) == len(FashionMNIST.classes) == 10


def test_class_to_idx(tiny):
    assert tiny.class_to_idx["0 - zero"] == 0
    assert tiny.class_to_idx["9 - nine"] == 9


def test_a_data_set_travels_to_a_worker_process(tiny):
    back = pickle.loads(pickle.dumps(tiny))
    np.testing.assert_array_equal(back.fetch([1])[0], tiny.fetch([1])[0])


def test_importing_the_data_sets_is_cheap():
    heavy = "lzma", "tqdm", "urllib.request"
    program = (
        "import sys, numpy; before = set(sys.modules); import minidl.datasets; "
        f"print(sorted((set(sys.modules) - before) & set({heavy})))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


# --- the digits in the package


def test_embedded_digits():
    for train, count in ((True, 10_000), (False, 2_000)):
        dataset = EmbeddedDigits(train)
        assert dataset.data.shape == (count, 28, 28)
        assert dataset.data.dtype is minidl.uint8
        assert dataset.targets.shape == (count,)
        assert dataset.targets.dtype is minidl.int64
        assert len(set(dataset.targets[:100].tolist())) == 10  # in random order, not class by class
    assert repr(dataset) == "Dataset EmbeddedDigits\n    Number of datapoints: 2000\n    Split: Test"
    assert dataset[0][0].shape == (1, 28, 28)


def test_embedded_digits_have_the_classes_in_the_proportions_of_mnist():
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # of the 60,000
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # of the 10,000
    for full, is_train in ((train, True), (test, False)):
        targets = EmbeddedDigits(is_train).targets
        share = len(targets) / sum(full)
        assert np.abs(np.bincount(targets) - np.array(full) * share).max() < 1


def test_embedded_training_and_test_digits_do_not_overlap():
    digits = [image.tobytes() for train in (True, False) for image in EmbeddedDigits(train).data.numpy()]
    assert len(set(digits)) == 12_000


def test_the_embedded_file_is_small_and_attributed():
    assert embedded.FILE.stat().st_size <= 2_500_000
    attribution = (embedded.FILE.parent / "ATTRIBUTION.txt").read_text()
    for words in ("Yann LeCun", "Corinna Cortes", "Christopher J.C. Burges", "CC BY-SA 3.0", embedded.FILE.name):
        assert words in attribution


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_embedded_file_is_refused(tmp_path, monkeypatch, damage):
    path = tmp_path / "digits.xz"
    content = bytearray(embedded.FILE.read_bytes())
    content[-1000] ^= damage == "flipped"
    if damage != "missing":
        path.write_bytes(content[:-1] if damage == "truncated" else content)
    monkeypatch.setattr(embedded, "FILE", path)
    with pytest.raises(RuntimeError, match=f"{path} is (damaged|missing).*reinstall minidl"):
        EmbeddedDigits()


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("tool", CHECKOUT / "tools" / "make_embedded_digits.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.source_tree
def test_the_tool_draws_by_class(tool):
    labels = np.repeat(np.arange(10), [500, 50, 55, 45, 51, 49, 50, 50, 75, 75])
    # Shares of 10: 5, .50, .55, .45, .51, .49, .50, .50, .75, .75; the five largest remainders are rounded up.
    assert tool.class_counts(labels, 10).tolist() == [5, 1, 1, 0, 1, 0, 0, 0, 1, 1]
    chosen = tool.stratified_subset(labels, 100, seed=3)
    assert len(set(chosen)) == 100
    assert np.bincount(labels[chosen]).tolist() == tool.class_counts(labels, 100).tolist()
    np.testing.assert_array_equal(chosen, tool.stratified_subset(labels, 100, seed=3))
    assert not np.array_equal(chosen, tool.stratified_subset(labels, 100, seed=4))


@pytest.mark.source_tree
def test_the_tool_writes_the_same_bytes_twice(tool, root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "MNIST", Tiny)
    monkeypatch.setattr(tool, "TRAIN", 5)
    monkeypatch.setattr(tool, "TEST", 3)
    contents = []
    for name in ("a.xz", "b.xz"):
        monkeypatch.setattr(sys, "argv", ["tool", str(root), "--out", str(tmp_path / name)])
        tool.main()
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    digest = hashlib.sha256(contents[0]).hexdigest()
    assert digest in capsys.readouterr().out
    for train, count in ((True, 5), (False, 3)):
        data, labels = embedded.read_embedded(tmp_path / "a.xz", digest, train)
        assert data.shape == (count, 28, 28)
        assert labels.shape == (count,)
        full = Tiny(root, train)
        source = {image.tobytes(): label for image, label in zip(full.data.numpy(), full.targets.tolist(), strict=True)}
        assert all(source[image.tobytes()] == label for image, label in zip(data, labels, strict=True))


@pytest.mark.source_tree
def test_the_tool_refuses_digits_that_are_there_twice(tool):
    images = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((28, 28), np.uint8)
    tool.check_disjoint(images[:2], images[2:])
    with pytest.raises(SystemExit, match="twice"):
        tool.check_disjoint(images[[0, 0]], images[2:])
    with pytest.raises(SystemExit, match="twice"):
        tool.check_disjoint(images[:2], images[1:])


# --- the real files


@needs_real_mnist
def test_the_real_mnist():
    train, test = MNIST(REAL), MNIST(REAL, train=False)
    assert len(train) == 60_000
    assert len(test) == 10_000
    assert train.targets[:5].tolist() == [5, 0, 4, 1, 9]
    assert test.targets[:5].tolist() == [7, 2, 1, 0, 4]
    # The mean and standard deviation that everyone normalizes MNIST with.
    pixels = train.data.numpy() / 255.0
    assert round(pixels.mean(), 4) == 0.1307
    assert round(pixels.std(), 4) == 0.3081


@needs_real_mnist
def test_the_real_mnist_is_not_taken_for_another_data_set(monkeypatch):
    monkeypatch.setattr(FashionMNIST, "system_folders", ())
    with pytest.raises(ValueError, match=f"holds {IMAGES} of MNIST, expected {IMAGES} of FashionMNIST"):
        FashionMNIST(REAL)


@needs_real_mnist
@pytest.mark.source_tree
def test_the_embedded_digits_are_those_that_the_tool_draws(tool):
    for train, total in ((True, tool.TRAIN), (False, tool.TEST)):
        full, part = MNIST(REAL, train), EmbeddedDigits(train)
        chosen = tool.stratified_subset(full.targets, total, tool.SEED)
        np.testing.assert_array_equal(part.data, full.data[chosen])
        np.testing.assert_array_equal(part.targets, full.targets[chosen])
