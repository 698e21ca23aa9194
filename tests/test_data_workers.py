"""Worker processes of the data loader: the same batches, errors and deaths that are told, nothing left behind.

How they end with the program that started them is in test_data_worker_exits.py.  A test that hangs here would wait for
ever, so each runs under an alarm.
"""

import gc
import os
import random
import signal
import time
import warnings
from multiprocessing import active_children

import numpy as np
import pytest

import minidl
from minidl.utils import data
from minidl.utils.data import DataLoader, TensorDataset, get_worker_info, worker_pool

DEADLINE = 120  # seconds; a test takes one or two


@pytest.fixture(autouse=True)
def alarm():
    def ring(*_):
        raise TimeoutError(f"the test hangs: {DEADLINE} s are over")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(DEADLINE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    descriptors = len(os.listdir("/proc/self/fd"))
    state = minidl.get_rng_state()
    yield
    minidl.set_rng_state(state)
    gc.collect()
    assert active_children() == []
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1  # multiprocessing may keep one of its own open


class Numbers(data.Dataset):
    """Sample i is i and a vector; ``trouble`` does something first."""

    def __init__(self, count=20, trouble=None):
        self.count, self.trouble = count, trouble

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if self.trouble is not None:
            self.trouble(index)
        return index, minidl.full((3,), index, dtype=minidl.float32)


class Stream(data.IterableDataset):
    """The numbers of each worker: ``counts[worker]`` of them from 100 times its number on."""

    def __init__(self, counts):
        self.counts = counts

    def __iter__(self):
        info = get_worker_info()
        worker = info.id if info else 0
        return iter(range(100 * worker, 100 * worker + self.counts[worker]))


def order(loader):
    return [batch[0].tolist() for batch in loader]


def fail_at_7(index):
    if index == 7:
        raise ValueError(f"no sample {index}")


def pids(loader):
    """The pids of the workers that made the samples."""
    return {pid for batch in loader for pid in batch.tolist()}


class Pids(Numbers):
    def __getitem__(self, index):
        return os.getpid()


# --- the same batches


@pytest.mark.parametrize("options", [
    {}, {"batch_size": 4, "shuffle": True}, {"batch_size": 3, "drop_last": True},
    {"batch_size": None}, {"batch_size": 30}, {"sampler": [3, 1], "batch_size": 2}, {"batch_sampler": [[5, 2], [1]]},
])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_batches_are_those_of_one_process(options, workers):
    minidl.manual_seed(0)
    expected = [list(DataLoader(Numbers(), **options)) for _ in range(2)]
    minidl.manual_seed(0)
    loader = DataLoader(Numbers(), num_workers=workers, prefetch_factor=5 if workers == 2 else None, **options)
    for epoch in expected:
        seen = list(loader)
        assert len(seen) == len(epoch)
        for (index, vector), (other, values) in zip(seen, epoch, strict=True):
            assert np.asarray(index).tolist() == np.asarray(other).tolist()
            assert vector.tolist() == values.tolist() and vector.dtype is minidl.float32
            vector.zero_()  # writable


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_ways_to_start(method):
    dataset = TensorDataset(minidl.arange(10), minidl.randn(10, 2))
    loader = DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context=method)
    assert order(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in loader]), dataset.tensors[1])
    if method == "forkserver":
        from multiprocessing.forkserver import _forkserver

        _forkserver._stop()


@pytest.mark.slow
def test_shuffles_are_torchs_with_workers():
    torch = pytest.importorskip("torch")
    for persistent in (False, True):
        minidl.manual_seed(3)
        torch.manual_seed(3)
        options = {"batch_size": 5, "shuffle": True, "num_workers": 2, "persistent_workers": persistent}
        ours, theirs = DataLoader(range(12), **options), torch.utils.data.DataLoader(range(12), **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(3):
                assert [b.tolist() for b in ours] == [b.tolist() for b in theirs]
        np.testing.assert_array_equal(minidl.get_rng_state().numpy(), torch.get_rng_state().numpy())
        del theirs


def test_big_batches_and_big_index_lists_go_through():
    loader = DataLoader(TensorDataset(minidl.arange(300_000), minidl.arange(300_000)), batch_size=120_000,
                        num_workers=2, shuffle=True)
    values = np.concatenate([batch[0] for batch in loader])
    np.testing.assert_array_equal(np.sort(values), np.arange(300_000))


def texts(samples):
    view = np.zeros((4, 6))[::2, 1:]
    return {"text": [str(index) for index, _ in samples], "empty": minidl.zeros(0, 3), "view": view}


def test_any_object_may_be_a_batch():
    (batch,) = DataLoader(Numbers(3), batch_size=3, num_workers=1, collate_fn=texts)
    assert batch["text"] == ["0", "1", "2"] and batch["empty"].shape == (0, 3) and batch["view"].shape == (2, 5)


# --- streams


@pytest.mark.parametrize("counts", [[6, 6], [7, 2], [0, 5], [9, 0], [0, 0]])
@pytest.mark.parametrize("options", [{"batch_size": 2}, {"batch_size": 2, "drop_last": True}, {"batch_size": None}])
@pytest.mark.parametrize("persistent", [False, True])
def test_streams_are_torchs(counts, options, persistent):
    torch = pytest.importorskip("torch")

    class Theirs(torch.utils.data.IterableDataset):
        def __iter__(self):
            worker = torch.utils.data.get_worker_info().id
            return iter(range(100 * worker, 100 * worker + counts[worker]))

    options = {**options, "num_workers": 2, "persistent_workers": persistent}
    ours = DataLoader(Stream(counts), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = torch.utils.data.DataLoader(Theirs(), **options)
        for _ in range(2):
            assert [np.asarray(b).tolist() for b in ours] == [np.asarray(b).tolist() for b in theirs]
    del theirs


def test_streams():
    batches = [batch.tolist() for batch in DataLoader(Stream([5, 2]), batch_size=2, num_workers=2)]
    assert batches == [[0, 1], [100, 101], [2, 3], [4]]


# --- what a worker knows


class Information(Numbers):
    def __getitem__(self, index):
        info = get_worker_info()
        assert info.dataset is self
        return (info.id, info.num_workers, info.seed, random.getrandbits(30), int(np.random.randint(2**30)),
                int(minidl.randint(0, 2**30, (1,))), minidl.get_num_threads())


def test_workers_know_their_number_and_have_seeds_of_their_own():
    assert get_worker_info() is None
    minidl.manual_seed(7)
    rows = [row.tolist() for row in DataLoader(
        Information(2), num_workers=2, collate_fn=lambda samples: minidl.tensor(samples[0]))]
    assert [row[:2] for row in rows] == [[0, 2], [1, 2]]
    assert rows[1][2] == rows[0][2] + 1
    for column in (3, 4, 5):
        assert rows[0][column] != rows[1][column]
    assert [row[6] for row in rows] == [1, 1]
    minidl.manual_seed(7)
    again = [row.tolist() for row in DataLoader(
        Information(2), num_workers=2, collate_fn=lambda samples: minidl.tensor(samples[0]))]
    assert again == rows


def test_seeds_are_torchs():
    torch = pytest.importorskip("torch")

    class Theirs(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return (torch.utils.data.get_worker_info().seed, random.getrandbits(30), int(np.random.randint(2**30)),
                    int(torch.randint(0, 2**30, (1,))))

    minidl.manual_seed(7)
    torch.manual_seed(7)
    ours = [row.tolist()[2:6] for row in DataLoader(
        Information(4), num_workers=2, collate_fn=lambda samples: minidl.tensor(samples[0]))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = [row.tolist() for row in torch.utils.data.DataLoader(
            Theirs(), num_workers=2, collate_fn=lambda samples: torch.tensor(samples[0]))]
    assert ours == theirs


def test_an_init_function_runs_first_in_each_worker():
    def remember(number):
        get_worker_info().dataset.trouble = number + 10

    class Told(Numbers):
        def __getitem__(self, index):
            return self.trouble

    assert [b.item() for b in DataLoader(Told(4), num_workers=2, worker_init_fn=remember)] == [10, 11, 10, 11]


def test_persistent_workers_stay():
    loader = DataLoader(Pids(6), num_workers=2, persistent_workers=True)
    first = pids(loader)
    assert len(first) == 2 and pids(loader) == first
    iterator = iter(loader)
    next(iterator)  # left early
    assert pids(loader) == first
    with pytest.raises(RuntimeError, match="this iterator ended when another began"):
        next(iterator)
    fresh = DataLoader(Pids(6), num_workers=2)
    assert pids(fresh).isdisjoint(pids(fresh))


# --- errors and deaths


@pytest.mark.parametrize("persistent", [False, True])
def test_an_error_comes_with_the_traceback_of_the_worker(persistent):
    loader = DataLoader(Numbers(trouble=fail_at_7), batch_size=3, num_workers=2, persistent_workers=persistent)
    iterator = iter(loader)
    assert [next(iterator)[0].tolist() for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match=r"(?s)Caught ValueError in DataLoader worker process 0.\nOriginal Traceback"
                                         r".*fail_at_7.*ValueError: no sample 7"):
        next(iterator)
    assert [batch[0].tolist() for batch in iterator] == [[9, 10, 11], [12, 13, 14], [15, 16, 17], [18, 19]]


class PeculiarError(Exception):
    def __init__(self, number, reason):
        super().__init__(number, reason)


@pytest.mark.parametrize("error, kind", [(KeyError("gone"), KeyError), (PeculiarError(3, "why"), RuntimeError)])
def test_errors_of_all_kinds(error, kind):
    def fail(index):
        raise error

    with pytest.raises(kind, match=f"Caught {type(error).__name__} in DataLoader worker process 0") as caught:
        next(iter(DataLoader(Numbers(trouble=fail), num_workers=1)))
    assert "\n" in str(caught.value)


def test_an_error_whose_type_cannot_travel():
    class LocalError(Exception):
        pass

    def fail(index):
        raise LocalError("here")

    with pytest.raises(RuntimeError, match=r"(?s)in DataLoader worker process 0.*LocalError"):
        next(iter(DataLoader(Numbers(trouble=fail), num_workers=1)))


def test_a_batch_that_cannot_travel():
    with pytest.raises(RuntimeError, match=r"(?s)in DataLoader worker process 0.*pickle"):
        next(iter(DataLoader(Numbers(), num_workers=1, collate_fn=lambda samples: lambda: 0)))


def test_an_error_in_the_init_function_and_in_a_stream():
    with pytest.raises(ValueError, match=r"(?s)in DataLoader worker process 0.*no sample 7"):
        next(iter(DataLoader(Numbers(), num_workers=1, worker_init_fn=lambda number: fail_at_7(7))))
    with pytest.raises(IndexError, match=r"(?s)in DataLoader worker process 1.*list index out of range"):
        list(DataLoader(Stream([3]), num_workers=2))


def test_a_killed_worker_is_named():
    def die(index):
        if index == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    iterator = iter(DataLoader(Numbers(trouble=die), num_workers=2))
    with pytest.raises(RuntimeError, match=r"DataLoader worker 1 \(pid \d+\) exited unexpectedly: killed by SIGKILL"):
        list(iterator)
    with pytest.raises(RuntimeError, match="the workers were stopped by an error"):
        next(iterator)


def test_a_worker_that_exits_is_named():
    iterator = iter(DataLoader(Numbers(trouble=lambda index: os._exit(3)), num_workers=1))
    with pytest.raises(RuntimeError, match=r"DataLoader worker 0 \(pid \d+\) exited unexpectedly: exit code 3"):
        next(iterator)


def test_a_worker_killed_between_two_batches_is_named():
    loader = DataLoader(Pids(40), num_workers=1)
    iterator = iter(loader)
    os.kill(next(iterator).item(), signal.SIGKILL)
    with pytest.raises(RuntimeError, match="exited unexpectedly: killed by SIGKILL"):
        list(iterator)


def test_a_timeout(monkeypatch):
    monkeypatch.setattr(worker_pool, "PATIENCE", 0.5)
    loader = DataLoader(Numbers(trouble=lambda index: time.sleep(60 if index else 0)), num_workers=1, timeout=2)
    iterator = iter(loader)
    next(iterator)
    with pytest.raises(RuntimeError, match="DataLoader timed out after 2 seconds"):
        next(iterator)


# --- nothing is left behind; the fixture looks


@pytest.mark.parametrize("taken", [0, 1, 3])
@pytest.mark.parametrize("persistent", [False, True])
def test_an_iteration_left_early(taken, persistent):
    loader = DataLoader(TensorDataset(minidl.zeros(64, 100_000)), batch_size=4, num_workers=2,
                        persistent_workers=persistent, prefetch_factor=4)
    iterator = iter(loader)
    for _ in range(taken):
        next(iterator)
    workers = active_children()
    assert len(workers) == 2
    del iterator, loader
    gc.collect()
    # They saw that nobody listens and ended; none had to be terminated.
    assert [worker.exitcode for worker in workers] == [0, 0]


def test_two_loaders_at_once():
    first, second = (DataLoader(Numbers(8), batch_size=2, num_workers=2) for _ in range(2))
    pairs = list(zip(first, second, strict=True))
    assert [(a[0].tolist(), b[0].tolist()) for a, b in pairs] == [([i, i + 1],) * 2 for i in (0, 2, 4, 6)]
    # The workers of the second know the sockets of the first; closing the first must not wait for them.
    iterator, other = iter(first), iter(second)
    next(iterator), next(other)
    del iterator
    gc.collect()
    assert len(active_children()) == 2 and len(list(other)) == 3


def test_a_loader_inside_a_forked_process_leaves_the_parents_workers_alone():
    loader = DataLoader(Numbers(8), num_workers=1)
    iterator = iter(loader)
    next(iterator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        del iterator
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    assert len(list(iterator)) == 7


# --- threads


class Work(data.Dataset):
    """A sample is the result of operations that use threads where they may."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return busy().sum()


def busy():
    x = minidl.ones(400, 400)
    return (x @ x).tanh() + x.exp()


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_do_not_wait_for_threads_of_the_parent(persistent):
    before = minidl.get_num_threads()
    minidl.set_num_threads(2)
    try:
        images, weight = minidl.ones(64, 6, 28, 28), minidl.ones(16, 6, 5, 5, requires_grad=True)
        for _ in range(3):
            minidl.nn.functional.conv2d(images, weight).sum().backward()
            busy()
        loader = DataLoader(Work(), num_workers=2, persistent_workers=persistent)
        for _ in range(2):
            seen = [batch.item() for batch in loader]
            # One thread may sum in another order than two: float32 has 24 bits.
            assert seen == pytest.approx([float(busy().sum())] * 6, rel=1e-5)
            minidl.nn.functional.conv2d(images, weight).sum().backward()
        assert minidl.get_num_threads() == 2
    finally:
        minidl.set_num_threads(before)


# --- going on in the middle


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("taken", [0, 1, 4, 7])
def test_a_loader_with_workers_goes_on_where_the_state_was_taken(taken, given, persistent, tmp_path):
    def loader(seed):
        return DataLoader(range(20), 3, shuffle=True, num_workers=2, persistent_workers=persistent,
                          generator=minidl.Generator().manual_seed(seed) if given else None)

    minidl.manual_seed(5)
    first = loader(1)
    list(first)
    iterator = iter(first)
    for _ in range(taken):
        next(iterator)
    minidl.save({"loader": first.state_dict(), "random": minidl.get_rng_state()}, tmp_path / "state")
    expected = [[b.tolist() for b in iterator]] + [[b.tolist() for b in first] for _ in range(2)]

    minidl.manual_seed(99)
    second = loader(2)
    saved = minidl.load(tmp_path / "state")
    minidl.set_rng_state(saved["random"])
    second.load_state_dict(saved["loader"])
    assert [[b.tolist() for b in second] for _ in range(3)] == expected


def test_a_stream_with_workers_goes_on_where_the_state_was_taken():
    first = DataLoader(Stream([5, 9]), batch_size=2, num_workers=2)
    iterator = iter(first)
    next(iterator), next(iterator), next(iterator)
    second = DataLoader(Stream([5, 9]), batch_size=2, num_workers=2)
    second.load_state_dict(first.state_dict())
    assert [b.tolist() for b in second] == [b.tolist() for b in iterator]
