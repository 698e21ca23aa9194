"""Random numbers on the GPU: the generator's published values, distributions, and that a seed gives the same again.

Statistics are of fixed seeds, so that they either hold or do not; the bounds are five standard deviations.
"""

from __future__ import annotations

import pickle
import struct

import cuda_device
import numpy as np
import pytest

import minidl
from minidl._devices.cuda import random as cuda_random
from minidl._generator import PhiloxGenerator, default_of_gpu

pytestmark = pytest.mark.cuda

FLOATS = [np.float32, np.float64]
DTYPES = [*FLOATS, np.uint8, np.int8, np.int16, np.int32, np.int64, np.bool_]
COUNT = 20_000


def seeded(seed=1):
    return minidl.Generator("cuda").manual_seed(seed)


def drawn(gpu, fill, dtype, *arguments, count=COUNT, generator=None):
    x = gpu.empty((count,), dtype)
    getattr(gpu, fill)(x, *arguments, generator or seeded())
    return gpu.to_host(x)


# philox4x32-10 in Random123's kat_vectors: counter, key, output
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN)
def test_published_values(gpu, counter, key, output):
    words = gpu.empty((2,), np.int64)
    philox = struct.pack("<2I", *key) + struct.pack("<4I", *counter)
    gpu.launch("random", "integers_i64", (1, 1), (32, 1, 1), words, np.int64(0), np.uint64(0), 2, philox)
    assert struct.unpack("<4I", gpu.to_host(words).tobytes()) == output


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform(gpu, dtype):
    x = drawn(gpu, "uniform_", dtype, -1.0, 3.0)
    assert x.min() >= -1 and x.max() < 3
    assert abs(x.mean() - 1) < 5 * 4 / np.sqrt(12 * COUNT)
    counts = np.histogram(x, 20, (-1, 3))[0]
    assert np.abs(counts - COUNT / 20).max() < 5 * np.sqrt(COUNT / 20)
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 5 / np.sqrt(COUNT)


@pytest.mark.parametrize("dtype", FLOATS)
def test_normal(gpu, dtype):
    x = (drawn(gpu, "normal_", dtype, 3.0, 2.0) - 3) / 2
    assert np.isfinite(x).all()
    assert abs(x.mean()) < 5 / np.sqrt(COUNT)
    assert abs(x.var() - 1) < 5 * np.sqrt(2 / COUNT)
    assert abs((x**3).mean()) < 5 * np.sqrt(15 / COUNT)
    assert abs((x**4).mean() - 3) < 5 * np.sqrt(96 / COUNT)
    assert abs((np.abs(x) < 1).mean() - 0.682689) < 5 * np.sqrt(0.25 / COUNT)
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 5 / np.sqrt(COUNT)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bernoulli(gpu, dtype):
    x = drawn(gpu, "bernoulli_", dtype, 0.3)
    assert x.dtype == dtype
    assert set(np.unique(x)) == {0, 1}
    assert abs(x.mean(dtype=np.float64) - 0.3) < 5 * np.sqrt(0.21 / COUNT)
    assert not drawn(gpu, "bernoulli_", dtype, 0.0).any()
    assert drawn(gpu, "bernoulli_", dtype, 1.0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_whole_numbers(gpu, dtype):
    low, high = (0, 2) if dtype == np.bool_ else (3, 13)
    x = drawn(gpu, "random_", dtype, low, high)
    assert x.dtype == dtype
    counts = np.unique(x, return_counts=True)
    np.testing.assert_array_equal(counts[0], np.arange(low, high).astype(dtype))
    assert np.abs(counts[1] - COUNT / (high - low)).max() < 5 * np.sqrt(COUNT / (high - low))
    everything = drawn(gpu, "random_", dtype, None, None)
    assert everything.min() >= 0 and len(np.unique(everything)) > (1 if dtype == np.bool_ else 100)


def test_all_of_64_bits(gpu):
    x = drawn(gpu, "random_", np.int64, -2**63, None)
    bits = np.unpackbits(x.view(np.uint8)).reshape(COUNT, 64).mean(0)
    assert np.abs(bits - 0.5).max() < 5 * 0.5 / np.sqrt(COUNT)


@pytest.mark.parametrize("n", [0, 1, 2, 5, 3000])
def test_permutations(gpu, n):
    generator = seeded()
    first, second = (gpu.to_host(gpu.randperm(n, generator)) for _ in range(2))
    for each in (first, second):
        assert each.dtype == np.int64
        np.testing.assert_array_equal(np.sort(each), np.arange(n))
    assert n < 3000 or ((first != second).any() and (first != np.arange(n)).any())


def test_dropout_masks(gpu):
    kept = gpu.to_host(gpu.dropout_mask((200, 100), 0.3, seeded()))
    assert kept.dtype == np.bool_
    assert abs(kept.mean() - 0.7) < 5 * np.sqrt(0.21 / kept.size)


@pytest.mark.parametrize(("fill", "arguments"), [("uniform_", (0.0, 1.0)), ("normal_", (0.0, 1.0)), ("random_", (0, 9)),
                                                 ("bernoulli_", (0.5,))])
@pytest.mark.parametrize("dtype", FLOATS)
def test_what_a_seed_gives_does_not_depend_on_the_launch(gpu, monkeypatch, fill, arguments, dtype):
    whole = drawn(gpu, fill, dtype, *arguments)
    np.testing.assert_array_equal(drawn(gpu, fill, dtype, *arguments, count=1001), whole[:1001])
    monkeypatch.setattr(gpu, "launch_each", lambda file, name, count, *rest: gpu.launch(
        file, name, (3, 1), (64, 1, 1), *rest))
    np.testing.assert_array_equal(drawn(gpu, fill, dtype, *arguments), whole)
    assert (drawn(gpu, fill, dtype, *arguments, generator=seeded(2)) != whole).any()


def test_draws_go_on_where_the_last_one_ended(gpu):
    whole = drawn(gpu, "uniform_", np.float32, 0.0, 1.0, count=1000)
    generator = seeded()
    parts = [drawn(gpu, "uniform_", np.float32, 0.0, 1.0, count=count, generator=generator) for count in (400, 600)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert generator.get_offset() == 250


def test_states(gpu):
    generator = seeded(5)
    drawn(gpu, "normal_", np.float32, 0.0, 1.0, generator=generator)
    copies = [generator.clone_state(), pickle.loads(pickle.dumps(generator)), seeded(9)]
    copies[2].set_state(generator.get_state())
    wanted = drawn(gpu, "normal_", np.float32, 0.0, 1.0, generator=generator)
    for copy in copies:
        assert isinstance(copy, minidl.Generator)
        np.testing.assert_array_equal(drawn(gpu, "normal_", np.float32, 0.0, 1.0, generator=copy), wanted)
    with pytest.raises(RuntimeError, match="RNG state is wrong size"):
        generator.set_state(np.zeros(3, np.uint8))
    with pytest.raises(TypeError, match="bytes"):
        generator.set_state(np.zeros(16))


def test_manual_seed_seeds_the_gpu_too(gpu):
    before = cuda_random.get_rng_state(0)
    try:
        minidl.manual_seed(11)
        assert default_of_gpu(0).initial_seed() == 11 and default_of_gpu(0).get_offset() == 0
        x = gpu.empty((10,), np.float32)
        gpu.uniform_(x, 0.0, 1.0, None)
        np.testing.assert_array_equal(gpu.to_host(x), drawn(gpu, "uniform_", np.float32, 0.0, 1.0, count=10,
                                                            generator=seeded(11)))
        state = cuda_random.get_rng_state(0)
        cuda_random.manual_seed(12, 0)
        assert (cuda_random.initial_seed(0), minidl.initial_seed()) == (12, 11)
        cuda_random.set_rng_state(state, 0)
        assert (cuda_random.initial_seed(0), default_of_gpu(0).get_offset()) == (11, 3)
        cuda_random.manual_seed_all(13)
        assert (cuda_random.initial_seed(0), default_of_gpu(7).initial_seed()) == (13, 13)
    finally:
        cuda_random.set_rng_state(before, 0)


def test_a_generator_belongs_to_its_device(gpu):
    x = gpu.empty((3,), np.float32)
    with pytest.raises(RuntimeError, match="Expected a 'cuda:0' device type for generator but found 'cpu'"):
        gpu.uniform_(x, 0.0, 1.0, minidl.Generator())
    with pytest.raises(RuntimeError, match="found 'cuda:1'"):
        gpu.uniform_(x, 0.0, 1.0, minidl.Generator("cuda:1"))
    with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator but found 'cuda'"):
        minidl.rand(3, generator=minidl.Generator("cuda"))
    assert type(minidl.Generator("cuda:1")) is PhiloxGenerator
    assert str(minidl.Generator("cuda:1").device) == "cuda:1"
    assert type(minidl.Generator("cpu")) is minidl.Generator


def test_errors_are_those_of_the_cpu(gpu):
    x, whole = gpu.empty((3,), np.float32), gpu.empty((3,), np.uint8)
    for call, error in ((lambda: gpu.uniform_(x, 3, 1, None), RuntimeError),
                        (lambda: gpu.normal_(x, 0, -1, None), RuntimeError),
                        (lambda: gpu.uniform_(whole, 0, 1, None), NotImplementedError),
                        (lambda: gpu.random_(whole, 0, 300, None), RuntimeError),
                        (lambda: gpu.bernoulli_(x, 2, None), RuntimeError),
                        (lambda: gpu.dropout_mask((3,), -1, None), ValueError),
                        (lambda: gpu.randperm(-1, None), RuntimeError)):
        with pytest.raises(error):
            call()


def test_tensors(gpu):
    """The public functions draw on the device of the tensor."""
    minidl.manual_seed(3)
    first = minidl.rand(100, device="cuda")
    minidl.manual_seed(3)
    again = minidl.empty(100, device="cuda")
    gpu.uniform_(again._raw, 0.0, 1.0, None)
    np.testing.assert_array_equal(gpu.to_host(first._raw), gpu.to_host(again._raw))
    for made in (minidl.randn(5, device="cuda"), minidl.randint(0, 9, (5,), device="cuda"),
                 minidl.randperm(5, device="cuda"), minidl.normal(0.0, 1.0, (5,), device="cuda")):
        assert str(made.device) == "cuda:0"


def test_tensors_are_filled_in_place(gpu):
    base = minidl.zeros(4, 6, device="cuda")
    view = base[:, ::2]
    view.uniform_(2.0, 3.0, generator=seeded())
    numbers = gpu.to_host(base._raw)
    assert not numbers[:, 1::2].any()
    np.testing.assert_array_equal(numbers[:, ::2].reshape(-1),
                                  drawn(gpu, "uniform_", np.float32, 2.0, 3.0, count=12))
    assert set(gpu.to_host(base.bernoulli_(0.5)._raw).reshape(-1)) == {0, 1}
    base.normal_(generator=seeded())
    base.random_(0, 5)
    assert gpu.to_host(base._raw).max() < 5


def test_dropout(gpu):
    """The gradient goes where the numbers went, scaled alike, and nothing is drawn on the host."""
    x = minidl.ones(40, 50, device="cuda", requires_grad=True)
    state = minidl.get_rng_state().numpy()
    output = minidl.nn.functional.dropout(x, 0.25)
    output.backward(minidl.ones(40, 50, device="cuda"))
    numbers = gpu.to_host(output.detach()._raw)
    np.testing.assert_array_equal(gpu.to_host(x.grad._raw), numbers)
    np.testing.assert_array_equal(np.unique(numbers), np.float32([0, 4 / 3]))
    assert abs((numbers > 0).mean() - 0.75) < 5 * np.sqrt(0.1875 / numbers.size)
    np.testing.assert_array_equal(minidl.get_rng_state().numpy(), state)
    images = minidl.ones(5, 40, 3, 3, device="cuda")
    channels = gpu.to_host(minidl.nn.functional.dropout2d(images, 0.5)._raw).reshape(200, 9)
    assert (channels == channels[:, :1]).all() and set(channels[:, 0]) == {0, 2}


@pytest.mark.skipif(cuda_device.REAL, reason="launches are counted by the emulation")
def test_launches(gpu):
    x = minidl.ones(1000, device="cuda")
    cuda_device.emulation().reset_counters()
    minidl.nn.functional.dropout(x, 0.5)
    minidl.randn(1000, device="cuda")
    counters = cuda_device.emulation().counters()
    assert (counters.launches, counters.copies_to_device, counters.copies_to_host) == (3, 0, 0)
