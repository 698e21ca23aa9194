"""Datasets, samplers and the loader in one process: PyTorch's order of samples, collation, going on in the middle.

What needs worker processes is in test_data_workers.py.
"""

import itertools
from collections import OrderedDict, namedtuple

import numpy as np
import pytest

import minidl
from minidl.datasets import EmbeddedDigits
from minidl.utils import data
from minidl.utils.data import DataLoader, TensorDataset

SEEDS = [0, 1, 2**40 + 7]
Point = namedtuple("Point", "x y")


@pytest.fixture(autouse=True)
def leave_the_default_generator_as_it_was():
    before = minidl.get_rng_state()
    yield
    minidl.set_rng_state(before)


def numbers(count=23):
    return TensorDataset(minidl.arange(count), minidl.arange(count).float() / 10)


def order(loader):
    """The batches of an epoch as lists of indices, given a dataset whose first column counts its samples."""
    return [batch[0].tolist() for batch in loader]


def generator(seed):
    return minidl.Generator().manual_seed(seed)


# --- the order of samples

# PyTorch 2.13: three epochs of DataLoader(range(7), batch_size=3, shuffle=True), without and with a generator.
STORED = {
    (0, False): [[[0, 4, 1], [5, 2, 6], [3]], [[3, 1, 4], [2, 5, 0], [6]], [[6, 4, 0], [2, 3, 5], [1]]],
    (0, True): [[[0, 1, 5], [6, 2, 3], [4]], [[4, 1, 6], [0, 2, 3], [5]], [[1, 0, 5], [3, 2, 6], [4]]],
    (1, False): [[[0, 5, 1], [4, 2, 3], [6]], [[0, 2, 4], [5, 1, 6], [3]], [[1, 5, 4], [6, 3, 2], [0]]],
    (1, True): [[[4, 3, 5], [0, 6, 1], [2]], [[6, 4, 1], [3, 2, 0], [5]], [[0, 3, 4], [6, 5, 1], [2]]],
    (2**40 + 7, False): [[[2, 0, 5], [6, 3, 4], [1]], [[4, 3, 2], [1, 5, 0], [6]], [[5, 0, 6], [3, 2, 4], [1]]],
    (2**40 + 7, True): [[[6, 3, 5], [0, 1, 4], [2]], [[0, 5, 1], [2, 4, 3], [6]], [[1, 5, 3], [6, 0, 4], [2]]],
}


@pytest.mark.parametrize("seed, given", STORED)
def test_shuffles_have_the_stored_order(seed, given):
    minidl.manual_seed(seed)
    loader = DataLoader(range(7), 3, shuffle=True, generator=generator(seed) if given else None)
    assert [[batch.tolist() for batch in loader] for _ in range(3)] == STORED[seed, given]


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(
    "batch_size, drop_last", [(1, False), (5, False), (5, True), (3, False), (3, True), (30, True)])
def test_shuffles_are_torchs_and_leave_its_state(batch_size, drop_last, given, torch):
    for seed in SEEDS:
        minidl.manual_seed(seed)
        torch.manual_seed(seed)
        options = {"batch_size": batch_size, "shuffle": True, "drop_last": drop_last}
        ours = DataLoader(range(20), **options, generator=generator(seed + 1) if given else None)
        theirs = torch.utils.data.DataLoader(
            range(20), **options, generator=torch.Generator().manual_seed(seed + 1) if given else None)
        for epoch in range(4):
            # An epoch that is left early draws less.
            stop = 2 if epoch == 1 else None
            assert ([batch.tolist() for batch in itertools.islice(ours, stop)]
                    == [batch.tolist() for batch in itertools.islice(theirs, stop)])
            np.testing.assert_array_equal(minidl.get_rng_state().numpy(), torch.get_rng_state().numpy())
        if given:
            np.testing.assert_array_equal(np.asarray(ours.generator.get_state()), theirs.generator.get_state().numpy())


@pytest.mark.parametrize("options", [
    {}, {"num_samples": 5}, {"num_samples": 50}, {"num_samples": 40}, {"replacement": True},
    {"replacement": True, "num_samples": 32}, {"replacement": True, "num_samples": 77},
])
@pytest.mark.parametrize("given", [False, True])
def test_random_samplers_are_torchs(options, given, torch):
    for seed in SEEDS:
        minidl.manual_seed(seed)
        torch.manual_seed(seed)
        ours = data.RandomSampler(range(20), **options, generator=generator(seed) if given else None)
        theirs = torch.utils.data.RandomSampler(
            range(20), **options, generator=torch.Generator().manual_seed(seed) if given else None)
        assert len(ours) == len(theirs)
        for _ in range(3):
            assert list(ours) == list(theirs)
        np.testing.assert_array_equal(minidl.get_rng_state().numpy(), torch.get_rng_state().numpy())


def test_a_shuffled_subset_is_torchs(torch):
    for seed in SEEDS:
        minidl.manual_seed(seed)
        torch.manual_seed(seed)
        assert (list(data.SubsetRandomSampler([5, 3, 8, 13]))
                == list(torch.utils.data.SubsetRandomSampler([5, 3, 8, 13])))


@pytest.mark.parametrize("lengths", [[3, 7, 10], [0.5, 0.25, 0.25], [0.33, 0.33, 0.34], [20]])
def test_random_splits_are_torchs(lengths, torch):
    for seed in SEEDS:
        minidl.manual_seed(seed)
        torch.manual_seed(seed)
        ours = data.random_split(range(20), lengths)
        theirs = torch.utils.data.random_split(range(20), lengths)
        assert [part.indices for part in ours] == [part.indices for part in theirs]
        ours = data.random_split(range(20), lengths, generator(seed))
        theirs = torch.utils.data.random_split(range(20), lengths, torch.Generator().manual_seed(seed))
        assert [part.indices for part in ours] == [part.indices for part in theirs]


def test_a_random_split():
    minidl.manual_seed(0)
    first, second = data.random_split(range(10), [0.75, 0.25])
    assert first.indices + second.indices == [4, 1, 7, 5, 3, 9, 0, 8, 6, 2] and (len(first), len(second)) == (8, 2)
    with pytest.raises(ValueError, match="does not equal the length of the input dataset: 9 and 10"):
        data.random_split(range(10), [4, 5])
    with pytest.raises(ValueError, match="Fraction at index 0 is not between 0 and 1"):
        data.random_split(range(10), [1.5, -0.5])
    with pytest.warns(UserWarning, match="Length of split at index 2 is 0"):
        data.random_split(range(3), [0.5, 0.5, 0.0])


def test_samplers():
    assert list(data.SequentialSampler(range(4))) == [0, 1, 2, 3]
    batches = data.BatchSampler(data.SequentialSampler(range(7)), 3, False)
    assert list(batches) == [[0, 1, 2], [3, 4, 5], [6]] and len(batches) == 3
    batches = data.BatchSampler(range(7), 3, True)
    assert list(batches) == [[0, 1, 2], [3, 4, 5]] and len(batches) == 2
    for wrong in (0, 2.0, True):
        with pytest.raises(ValueError, match="batch_size should be a positive integer value"):
            data.BatchSampler(range(7), wrong, False)
    with pytest.raises(ValueError, match="num_samples should be a positive integer value, but got num_samples=0"):
        data.RandomSampler([])
    with pytest.raises(TypeError, match="replacement should be a boolean"):
        data.RandomSampler([1], replacement=3)


# --- datasets


def test_tensor_dataset():
    dataset = numbers()
    assert len(dataset) == 23 and [float(v) for v in dataset[3]] == [3.0, pytest.approx(0.3)]
    batch = dataset.__getitems__([4, 0, -1])
    assert len(batch) == 3 and batch[0][0].item() == 4 and [row[0].item() for row in batch] == [4, 0, 22]
    assert [row[0].item() for row in batch[1:]] == [0, 22]
    with pytest.raises(ValueError, match="Size mismatch between tensors: their first dimensions are 2, 3"):
        TensorDataset(minidl.zeros(2), minidl.zeros(3))


def test_batches_of_a_tensor_dataset_are_gathered_in_one_call(monkeypatch):
    monkeypatch.setattr(TensorDataset, "__getitem__", None)
    loader = DataLoader(numbers(), batch_size=10)
    first, second = next(iter(loader))
    assert first.tolist() == list(range(10)) and first.dtype is minidl.int64
    np.testing.assert_array_equal(second.numpy(), (np.arange(10) / 10).astype(np.float32))
    subset = data.Subset(data.Subset(numbers(), [9, 5, 3]), [2, 0])
    assert order(DataLoader(subset, batch_size=2)) == [[3, 9]]


def test_a_batch_is_no_view_of_the_dataset():
    dataset = numbers()
    for batch in DataLoader(dataset, batch_size=23):
        batch[0].zero_()
    assert dataset.tensors[0].tolist() == list(range(23))


def test_subset_and_concatenation():
    dataset = data.Subset(numbers(), [2, 4, 6])
    assert len(dataset) == 3 and dataset[-1][0].item() == 6
    both = dataset + numbers(2)
    assert isinstance(both, data.ConcatDataset) and len(both) == 5
    assert [both[i][0].item() for i in (0, 2, 3, 4, -1, -5)] == [2, 6, 0, 1, 1, 2]
    assert order(DataLoader(both, batch_size=4)) == [[2, 4, 6, 0], [1]]
    with pytest.raises(ValueError, match="absolute value of index should not exceed dataset length"):
        both[-6]
    with pytest.raises(ValueError, match="should not be an empty iterable"):
        data.ConcatDataset([])
    with pytest.raises(TypeError, match="does not support IterableDataset"):
        data.ConcatDataset([Stream(3)])


def test_base_classes_ask_for_what_is_missing():
    with pytest.raises(NotImplementedError, match="__getitem__"):
        data.Dataset()[0]
    with pytest.raises(NotImplementedError, match="__iter__"):
        iter(data.IterableDataset())
    with pytest.raises(NotImplementedError):
        iter(data.Sampler())


def test_the_digits_come_as_tensors():
    dataset = EmbeddedDigits(train=False)
    loader = DataLoader(dataset, batch_size=64, shuffle=True, drop_last=True)
    images, labels = next(iter(loader))
    assert len(loader) == 31 and isinstance(dataset, data.Dataset)
    assert images.shape == (64, 1, 28, 28) and images.dtype is minidl.float32 and images.is_contiguous()
    assert labels.shape == (64,) and labels.dtype is minidl.int64
    indices = next(iter(data.BatchSampler(range(2000), 64, False)))
    images, labels = next(iter(DataLoader(dataset, batch_size=64)))
    assert images.tolist() == minidl.stack([dataset[i][0] for i in indices]).tolist()
    assert labels.tolist() == [dataset[i][1] for i in indices]


# --- streams


class Stream(data.IterableDataset):
    def __init__(self, count, length=None):
        self.count, self.length = count, length

    def __iter__(self):
        return iter(range(self.count))

    def __len__(self):
        if self.length is None:
            raise TypeError("no length")
        return self.length


def test_a_stream():
    assert [batch.tolist() for batch in DataLoader(Stream(7), batch_size=3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [batch.tolist() for batch in DataLoader(Stream(7), batch_size=3, drop_last=True)] == [[0, 1, 2], [3, 4, 5]]
    assert list(DataLoader(Stream(3), batch_size=None)) == [0, 1, 2]
    assert [len(DataLoader(Stream(7, 7), size, drop_last=drop)) for size, drop in
            ((3, False), (3, True), (None, False))] == [3, 2, 7]
    with pytest.raises(TypeError):
        len(DataLoader(Stream(7)))
    for options in ({"shuffle": True}, {"sampler": [1]}, {"batch_sampler": [[1]]}):
        with pytest.raises(ValueError, match=f"IterableDataset: expected unspecified {next(iter(options))} option"):
            DataLoader(Stream(7), **options)


# --- collation

SAMPLES = {
    "floats": [1.0, 2.5],
    "ints": [3, 4],
    "bools": [True, False],
    "numpy scalars": [np.float32(1), np.float32(2)],
    "arrays": [np.arange(3, dtype=np.float32), np.ones(3, np.float32)],
    "tuples": [(1, 2.0), (3, 4.0)],
    "lists": [[1, 2.0], [3, 4.0]],
    "dicts": [{"a": 1, "b": np.zeros(2)}, {"a": 2, "b": np.ones(2)}],
    "ordered dicts": [OrderedDict(a=1), OrderedDict(a=2)],
    "named tuples": [Point(1, 2.0), Point(3, 4.0)],
    "nested": [{"a": [(1, "x"), Point(2, b"y")]}, {"a": [(3, "z"), Point(4, b"w")]}],
    "texts": ["a", "b"],
}


def plain(value):
    """A collated batch without its tensors: (dtype, values) in their place."""
    if hasattr(value, "tolist"):
        return str(value.dtype).split(".")[-1], value.tolist()
    if isinstance(value, dict):
        return type(value), {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [plain(item) for item in value]
    return value


@pytest.mark.parametrize("kind", SAMPLES)
def test_collation_is_torchs(kind, torch):
    samples = SAMPLES[kind]
    assert plain(data.default_collate(samples)) == plain(torch.utils.data.default_collate(samples))
    assert plain(data.default_convert(samples[0])) == plain(torch.utils.data.default_convert(samples[0]))


def test_collation():
    first, second = data.default_collate([(minidl.ones(2), 3), (minidl.zeros(2), 4)])
    assert first.tolist() == [[1, 1], [0, 0]] and second.tolist() == [3, 4] and second.dtype is minidl.int64
    point = data.default_collate([Point(1, 2.0), Point(3, 4.0)])
    assert type(point) is Point and point.y.dtype is minidl.float64
    with pytest.raises(TypeError, match="must contain tensors, numpy arrays, numbers, dicts or lists; found"):
        data.default_collate([object()])
    with pytest.raises(TypeError, match="found <U1"):
        data.default_collate([np.array("a")])
    with pytest.raises(RuntimeError, match="each element in list of batch should be of equal size"):
        data.default_collate([[1], [1, 2]])
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        data.default_collate([minidl.ones(2), minidl.ones(3)])


def test_a_collation_of_ones_own_gets_the_samples():
    def collate(samples):
        return [index.item() for index, _ in samples], len(samples)

    assert list(DataLoader(numbers(5), 3, collate_fn=collate)) == [([0, 1, 2], 3), ([3, 4], 2)]


# --- the loader


def test_lengths_and_attributes():
    loader = DataLoader(numbers(), batch_size=5)
    assert len(loader) == len(iter(loader)) == 5
    assert len(DataLoader(numbers(), batch_size=5, drop_last=True)) == 4
    assert isinstance(loader.sampler, data.SequentialSampler) and isinstance(loader.batch_sampler, data.BatchSampler)
    assert (loader.batch_size, loader.num_workers, loader.drop_last, len(loader.dataset)) == (5, 0, False, 23)
    assert isinstance(DataLoader(numbers(), shuffle=True).sampler, data.RandomSampler)


def test_samplers_of_ones_own():
    assert order(DataLoader(numbers(), sampler=[5, 3, 9], batch_size=2)) == [[5, 3], [9]]
    loader = DataLoader(numbers(), batch_sampler=[[1, 2], [3]])
    assert order(loader) == [[1, 2], [3]] and loader.batch_size is None and len(loader) == 2
    assert [sample[0].item() for sample in DataLoader(numbers(), batch_size=None, sampler=[7, 8])] == [7, 8]
    array = next(iter(DataLoader([np.ones(2)], batch_size=None)))
    assert isinstance(array, minidl.Tensor) and array.shape == (2,)


def test_two_iterators_at_once():
    loader = DataLoader(numbers(6), batch_size=2)
    pairs = list(zip(loader, loader, strict=True))
    assert [(a[0].tolist(), b[0].tolist()) for a, b in pairs] == [([0, 1], [0, 1]), ([2, 3], [2, 3]), ([4, 5], [4, 5])]


@pytest.mark.parametrize("options, message", [
    ({"num_workers": -1}, "num_workers option should be non-negative"),
    ({"timeout": -1}, "timeout option should be non-negative"),
    ({"prefetch_factor": 2}, "prefetch_factor option could only be specified in multiprocessing"),
    ({"prefetch_factor": 0, "num_workers": 1}, "prefetch_factor option should be positive"),
    ({"persistent_workers": True}, "persistent_workers option needs num_workers > 0"),
    ({"multiprocessing_context": "fork"}, "can only be used with multi-process loading"),
    ({"sampler": [1], "shuffle": True}, "sampler option is mutually exclusive with shuffle"),
    ({"batch_sampler": [[1]], "batch_size": 2}, "batch_sampler option is mutually exclusive"),
    ({"batch_sampler": [[1]], "drop_last": True}, "batch_sampler option is mutually exclusive"),
    ({"batch_size": None, "drop_last": True}, "batch_size=None option disables auto-batching"),
    ({"batch_size": 0}, "batch_size should be a positive integer value"),
])
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(numbers(), **options)


# --- going on in the middle


def a_loader(kind, seed=3):
    dataset = numbers(20)
    if kind == "own sampler":
        return DataLoader(dataset, 3, sampler=data.RandomSampler(dataset, generator=generator(seed)))
    if kind == "with replacement":
        return DataLoader(dataset, 3, sampler=data.RandomSampler(dataset, True, 70, generator(seed)))
    if kind == "own batches":
        return DataLoader(dataset, batch_sampler=data.BatchSampler(data.RandomSampler(dataset), 3, True))
    if kind == "samples":
        return DataLoader(dataset, None, shuffle=True)
    if kind == "stream":
        return DataLoader(Stream(20), 3)
    options = {
        "plain": {}, "in order": {"shuffle": False}, "generator": {"generator": generator(seed)},
        "drop last": {"drop_last": True, "generator": generator(seed)}, "divides": {"batch_size": 4},
    }[kind]
    return DataLoader(dataset, **{"batch_size": 3, "shuffle": True, **options})


def flat(batch):
    first = batch if isinstance(batch, minidl.Tensor) else batch[0]
    return first.tolist()


KINDS = ["plain", "in order", "generator", "drop last", "divides", "own sampler", "with replacement", "own batches",
         "samples", "stream"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["before", "begun", "first", "middle", "last", "over", "second epoch", "begun anew"])
def test_a_loader_goes_on_where_the_state_was_taken(kind, where, tmp_path):
    minidl.manual_seed(11)
    loader = a_loader(kind)
    if where in ("over", "second epoch"):
        list(loader)
    if where == "begun anew":
        next(iter(loader))
    under_way = where not in ("before", "over")
    if under_way:
        iterator = iter(loader)
        total = 7 if kind == "stream" else len(loader)
        for _ in range({"begun": 0, "begun anew": 0, "first": 1, "last": total}.get(where, total // 2)):
            next(iterator)
    minidl.save({"loader": loader.state_dict(), "random": minidl.get_rng_state()}, tmp_path / "state")
    expected = [[flat(batch) for batch in iterator]] if under_way else []
    expected += [[flat(batch) for batch in loader] for _ in range(3)]

    minidl.manual_seed(99)
    other = a_loader(kind, seed=77)
    saved = minidl.load(tmp_path / "state")
    minidl.set_rng_state(saved["random"])
    other.load_state_dict(saved["loader"])
    assert [[flat(batch) for batch in other] for _ in expected] == expected


def test_an_epoch_left_early_is_over_for_the_next_iteration():
    minidl.manual_seed(0)
    loader = DataLoader(numbers(), batch_size=4, shuffle=True)
    for _ in loader:
        break
    assert loader.state_dict()["handed_out"] == 1
    assert len(list(loader)) == 6


def test_the_state_of_a_loaded_loader_is_the_one_that_was_loaded():
    minidl.manual_seed(0)
    loader = DataLoader(numbers(), batch_size=4, shuffle=True, generator=generator(5))
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    other = DataLoader(numbers(), batch_size=4, shuffle=True, generator=generator(6))
    other.load_state_dict(state)
    again = other.state_dict()
    assert again["handed_out"] == 1 and again["base_seed"] == state["base_seed"]
    assert again["sampler"]["indices"].tolist() == state["sampler"]["indices"].tolist()
    assert again["generator"].tolist() == state["generator"].tolist()
    assert [flat(b) for b in other] == [flat(b) for b in iterator]


def test_a_state_of_another_dataset_is_refused():
    loader = DataLoader(numbers(30), batch_size=4, shuffle=True)
    next(iter(loader))
    with pytest.raises(ValueError, match="it holds index 29, but there are 20 samples"):
        DataLoader(numbers(20), batch_size=4, shuffle=True).load_state_dict(loader.state_dict())


def test_what_is_skipped_is_not_fetched():
    class Counting(data.Dataset):
        fetched = 0

        def __len__(self):
            return 12

        def __getitem__(self, index):
            self.fetched += 1
            return index

    dataset = Counting()
    loader = DataLoader(dataset, batch_size=4)
    loader.load_state_dict({"under_way": True, "handed_out": 2, "base_seed": 1, "generator": None, "sampler": None})
    assert [batch.tolist() for batch in loader] == [[8, 9, 10, 11]] and dataset.fetched == 4
