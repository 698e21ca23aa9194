"""Random numbers: PyTorch 2.13's, by stored figures and, where torch is there, by direct comparison.

Where bits are compared no tolerance is needed: what is computed is exact or fused alike. Only what goes through the
system's double precision log, sin and cos (float64 normals, and fewer than 16 of any) may differ by their last bit
between systems, and gets 4 units in the last place.
"""

import pickle
import zlib

import numpy as np
import pytest

from minidl import _random as random
from minidl._random import Generator

SEEDS = [0, 1, 42, 2**63 - 1, -7]
ULPS = {np.dtype("float32"): 4 * 2.0**-23, np.dtype("float64"): 4 * 2.0**-52}


@pytest.fixture(autouse=True)
def leave_the_default_generator_as_it_was():
    before = random.get_rng_state()
    yield
    random.set_rng_state(before)


def checksum(array):
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


DRAWS = {
    "rand 5": lambda: random.uniform_(np.empty(5, np.float32)),
    "rand 1000": lambda: random.uniform_(np.empty(1000, np.float32)),
    "rand 1000 float64": lambda: random.uniform_(np.empty(1000)),
    "uniform 700 in [-0.37, 2.1)": lambda: random.uniform_(np.empty(700, np.float32), -0.37, 2.1),
    "uniform 700 in [-0.37, 2.1) float64": lambda: random.uniform_(np.empty(700), -0.37, 2.1),
    "randn 16": lambda: random.normal_(np.empty(16, np.float32)),
    "randn 17": lambda: random.normal_(np.empty(17, np.float32)),
    "randn 100": lambda: random.normal_(np.empty(100, np.float32)),
    "normal 10000, mean 0.3, std 1.7": lambda: random.normal_(np.empty(10000, np.float32), 0.3, 1.7),
    "randperm 10": lambda: random.randperm(10),
    "randperm 10000": lambda: random.randperm(10000),
    "randint 0 10": lambda: random.random_(np.empty(100, np.int64), 0, 10),
    "randint -5 200 int16": lambda: random.random_(np.empty(100, np.int16), -5, 200),
    "randint 0 2**28": lambda: random.random_(np.empty(100, np.int64), 0, 2**28),
    "randint 0 2**40": lambda: random.random_(np.empty(100, np.int64), 0, 2**40),
    "random_ int64": lambda: random.random_(np.empty(100, np.int64)),
    "random_ uint8": lambda: random.random_(np.empty(100, np.uint8)),
    "random_ all of int64": lambda: random.random_(np.empty(100, np.int64), -2**63),
    "bernoulli 0.3": lambda: random.bernoulli_(np.empty(1000, np.float32), 0.3),
    "dropout 0.3 of 15": lambda: random.dropout_mask((15,), 0.3),
    "dropout 0.5 of 64 x 400": lambda: random.dropout_mask((64, 400), 0.5),
}


def in_torch(torch):
    i64, f64 = torch.int64, torch.float64
    return {
        "rand 5": lambda: torch.rand(5),
        "rand 1000": lambda: torch.rand(1000),
        "rand 1000 float64": lambda: torch.rand(1000, dtype=f64),
        "uniform 700 in [-0.37, 2.1)": lambda: torch.empty(700).uniform_(-0.37, 2.1),
        "uniform 700 in [-0.37, 2.1) float64": lambda: torch.empty(700, dtype=f64).uniform_(-0.37, 2.1),
        "randn 16": lambda: torch.randn(16),
        "randn 17": lambda: torch.randn(17),
        "randn 100": lambda: torch.randn(100),
        "normal 10000, mean 0.3, std 1.7": lambda: torch.empty(10000).normal_(0.3, 1.7),
        "randperm 10": lambda: torch.randperm(10),
        "randperm 10000": lambda: torch.randperm(10000),
        "randint 0 10": lambda: torch.randint(0, 10, (100,)),
        "randint -5 200 int16": lambda: torch.randint(-5, 200, (100,), dtype=torch.int16),
        "randint 0 2**28": lambda: torch.randint(0, 2**28, (100,)),
        "randint 0 2**40": lambda: torch.randint(0, 2**40, (100,)),
        "random_ int64": lambda: torch.empty(100, dtype=i64).random_(),
        "random_ uint8": lambda: torch.empty(100, dtype=torch.uint8).random_(),
        "random_ all of int64": lambda: torch.empty(100, dtype=i64).random_(-2**63, None),
        "bernoulli 0.3": lambda: torch.empty(1000).bernoulli_(0.3),
        "dropout 0.3 of 15": lambda: torch.nn.functional.dropout(torch.ones(15), 0.3) != 0,
        "dropout 0.5 of 64 x 400": lambda: torch.nn.functional.dropout(torch.ones(64, 400), 0.5) != 0,
    }


# CRC-32 of the bytes that PyTorch 2.13 (CPU, AVX2 or AVX-512) draws, per seed in SEEDS.
STORED = {
    "rand 5": [1328454259, 937009918, 736622233, 3382596830, 879471040],
    "rand 1000": [2206920785, 3215910367, 3579030519, 42213671, 3967144803],
    "rand 1000 float64": [795037580, 938643273, 756739536, 3063312750, 1078238264],
    "uniform 700 in [-0.37, 2.1)": [1213171644, 3656472518, 3093305554, 3327319895, 1226821504],
    "uniform 700 in [-0.37, 2.1) float64": [2953288350, 2647056516, 788474155, 3552925635, 768654118],
    "randn 16": [2298586490, 2643345921, 2280516957, 1178866047, 2776758280],
    "randn 17": [2694473487, 341482391, 3363100665, 304114448, 2520617473],
    "randn 100": [4096296932, 1772569701, 2699042601, 3895461701, 2767576040],
    "normal 10000, mean 0.3, std 1.7": [1169903042, 262030703, 764821807, 2937767650, 1874730082],
    "randperm 10": [1883426623, 1296883904, 2114975873, 384948660, 1466922509],
    "randperm 10000": [1436982546, 492376632, 390638024, 2971816078, 1675388311],
    "randint 0 10": [2786954132, 677034841, 1289853052, 893420951, 2513123961],
    "randint -5 200 int16": [3346290463, 2641415994, 4246619906, 4282002905, 476043023],
    "randint 0 2**28": [2295457186, 643651772, 759596112, 3325843667, 41896495],
    "randint 0 2**40": [2901907958, 3046678532, 3106538577, 1041675295, 206063460],
    "random_ int64": [764554741, 1113187346, 2771240724, 679476520, 1606353796],
    "random_ uint8": [4217647833, 2296433289, 3176944426, 577268803, 14731007],
    "random_ all of int64": [3437243160, 2061105916, 757214765, 3452335571, 4236109377],
    "bernoulli 0.3": [383463504, 3067716383, 1913396646, 1406858077, 328457416],
    "dropout 0.3 of 15": [2536762459, 180919101, 78167615, 66937563, 830057451],
    "dropout 0.5 of 64 x 400": [504377068, 3792455685, 3418120054, 1675533244, 4109679776],
}


@pytest.mark.parametrize("draw", DRAWS)
def test_draws_have_the_stored_bits(draw):
    for seed, expected in zip(SEEDS, STORED[draw], strict=True):
        random.manual_seed(seed)
        assert checksum(DRAWS[draw]()) == expected, seed


@pytest.mark.parametrize("draw", DRAWS)
def test_draws_have_torchs_bits_and_leave_its_state(draw, torch):
    theirs = in_torch(torch)[draw]
    for seed in SEEDS:
        random.manual_seed(seed)
        torch.manual_seed(seed)
        for _ in range(3):
            np.testing.assert_array_equal(DRAWS[draw](), theirs().numpy(), strict=True)
            np.testing.assert_array_equal(random.get_rng_state(), torch.get_rng_state().numpy())


def test_first_numbers_of_seed_0():
    """A few figures that a person can compare with a PyTorch prompt."""
    random.manual_seed(0)
    uniform = random.uniform_(np.empty(3, np.float32))
    np.testing.assert_allclose(uniform, [0.49625659, 0.76822180, 0.08847743], rtol=2e-8 / 0.08)  # the 8 digits printed
    random.manual_seed(0)
    np.testing.assert_allclose(random.normal_(np.empty(2)), [1.5409961082440433, -0.2934289057609464], rtol=1e-15)
    random.manual_seed(0)
    assert random.randperm(10).tolist() == [4, 1, 7, 5, 3, 9, 0, 8, 6, 2]
    random.manual_seed(0)
    assert random.random_(np.empty(8, np.int64), 0, 10).tolist() == [4, 9, 3, 0, 3, 9, 7, 3]


@pytest.mark.parametrize("n", [1, 2, 5, 15, 16, 17, 100, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normals_are_torchs(n, dtype, torch):
    for seed in SEEDS:
        random.manual_seed(seed)
        torch.manual_seed(seed)
        for mean, std in [(0.0, 1.0), (-0.4, 2.3), (1.0, 0.0)]:
            ours = random.normal_(np.empty(n, dtype), mean, std)
            theirs = torch.empty(n, dtype=getattr(torch, dtype)).normal_(mean, std).numpy()
            np.testing.assert_allclose(ours, theirs, rtol=ULPS[ours.dtype], atol=ULPS[ours.dtype])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64"])
def test_integers_of_every_dtype_are_torchs(dtype, torch):
    in_torch = getattr(torch, dtype)
    for seed in SEEDS:
        random.manual_seed(seed)
        torch.manual_seed(seed)
        for low, high in [(None, None), (0, 2), (0, None)] + ([] if dtype == "bool" else [(3, 100), (5, None)]):
            ours = random.random_(np.empty(700, dtype), low, high)
            empty = torch.empty(700, dtype=in_torch)
            theirs = empty.random_() if low is None else empty.random_(low, high)
            np.testing.assert_array_equal(ours, theirs.numpy(), strict=True)


def test_permutations_of_every_small_size_are_torchs(torch):
    for n in [*range(51), 623, 624, 625, 60_000]:
        random.manual_seed(n)
        torch.manual_seed(n)
        np.testing.assert_array_equal(random.randperm(n), torch.randperm(n).numpy(), strict=True)
        np.testing.assert_array_equal(random.get_rng_state(), torch.get_rng_state().numpy())


LAYOUTS = {
    "transposed": lambda empty, transpose: transpose(empty((4, 6)), (1, 0)),
    "sliced": lambda empty, transpose: empty((4, 12))[:, ::2],
    "permuted": lambda empty, transpose: transpose(empty((2, 3, 4)), (2, 0, 1)),
    "permuted and sliced": lambda empty, transpose: transpose(empty((2, 3, 8)), (2, 0, 1))[::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_layouts_are_filled_in_the_order_of_memory(layout, torch):
    for ours, theirs in [(random.uniform_, torch.Tensor.uniform_), (random.normal_, torch.Tensor.normal_),
                         (random.bernoulli_, torch.Tensor.bernoulli_), (random.random_, torch.Tensor.random_)]:
        random.manual_seed(5)
        torch.manual_seed(5)
        a = ours(LAYOUTS[layout](np.zeros, np.transpose))
        b = theirs(LAYOUTS[layout](lambda shape: torch.zeros(shape, dtype=torch.float64), torch.Tensor.permute))
        np.testing.assert_allclose(a, b.numpy(), rtol=ULPS[a.dtype], atol=ULPS[a.dtype])


def test_a_state_goes_on_mid_stream_with_its_kept_normal():
    generator = Generator().manual_seed(3)
    random.uniform_(np.empty(700, np.float32), generator=generator)
    random.normal_(np.empty(3), generator=generator)  # leaves the second of a pair behind
    copies = [generator.clone_state(), pickle.loads(pickle.dumps(generator)), Generator()]
    copies[2].set_state(generator.get_state())

    def go_on(each):
        normals, uniforms = random.normal_(np.empty(5), generator=each), random.uniform_(np.empty(999), generator=each)
        return np.concatenate([normals, uniforms])

    expected = go_on(generator)
    for copy in copies:
        assert copy.initial_seed() == 3
        np.testing.assert_array_equal(go_on(copy), expected)
    restarted = Generator().manual_seed(3)
    random.uniform_(np.empty(700, np.float32), generator=restarted)
    random.normal_(np.empty(4), generator=restarted)
    assert not np.array_equal(go_on(restarted), expected)


def test_states_go_to_torch_and_back(torch):
    ours, theirs = Generator().manual_seed(9), torch.Generator()
    random.normal_(np.empty(3), generator=ours)
    theirs.set_state(torch.from_numpy(ours.get_state()))
    np.testing.assert_array_equal(random.randperm(100, ours), torch.randperm(100, generator=theirs).numpy())
    torch.randn(15, generator=theirs)
    ours.set_state(theirs.get_state().numpy())
    np.testing.assert_allclose(random.normal_(np.empty(7), generator=ours),
                               torch.randn(7, generator=theirs, dtype=torch.float64).numpy(), rtol=4 * 2.0**-52)


def test_a_wrong_state_is_refused_and_changes_nothing():
    generator = Generator().manual_seed(1)
    before = generator.get_state()
    with pytest.raises(RuntimeError, match="size 5056 but found the input RNG state size to be 3"):
        generator.set_state(np.zeros(3, np.uint8))
    with pytest.raises(RuntimeError, match="Invalid mt19937 state"):
        generator.set_state(np.zeros(5056, np.uint8))
    for wrong in (np.zeros(5056), before.tobytes()):
        with pytest.raises(TypeError, match="bytes"):
            generator.set_state(wrong)
    np.testing.assert_array_equal(generator.get_state(), before)


def test_seeds(torch):
    for seed in [0, -1, -2**63, 2**63, 2**64 - 1, np.int64(5)]:
        assert Generator().manual_seed(seed).initial_seed() == torch.Generator().manual_seed(int(seed)).initial_seed()
    assert Generator().initial_seed() == torch.Generator().initial_seed()
    for seed in (2**64, -2**63 - 1):
        with pytest.raises(ValueError, match="64 bits"):
            Generator().manual_seed(seed)
    for seed in (1.5, "3", None, True):
        with pytest.raises(RuntimeError, match="expected an int"):
            Generator().manual_seed(seed)
    assert random.manual_seed(7) is random.default_generator
    assert random.initial_seed() == 7
    assert random.seed() == random.initial_seed() != random.seed()
    assert str(Generator().device) == "cpu"
    with pytest.raises(RuntimeError, match="'tpu'"):
        Generator("tpu")


def test_a_generator_of_ones_own_leaves_the_default_alone():
    random.manual_seed(1)
    before = random.get_rng_state()
    given = Generator().manual_seed(1)
    for fill in (random.uniform_, random.normal_, random.bernoulli_, random.random_):
        fill(np.empty(20), generator=given)
    random.randperm(20, given)
    random.dropout_mask((20,), 0.5, given)
    random.draw_seed(given)
    np.testing.assert_array_equal(random.get_rng_state(), before)
    assert not np.array_equal(given.get_state(), before)


def test_probabilities_at_the_ends():
    assert random.dropout_mask((1000,), 0.0).all()
    assert not random.dropout_mask((1000,), 1.0).any()
    assert random.bernoulli_(np.empty(1000), 1.0).all()
    assert not random.bernoulli_(np.empty(1000), 0.0).any()


def test_empty_arrays_draw_nothing():
    before = random.get_rng_state()
    for fill in (random.uniform_, random.normal_, random.bernoulli_, random.random_):
        assert fill(np.empty((0, 3))).shape == (0, 3)
    assert random.randperm(0).shape == random.randperm(1)[:0].shape
    np.testing.assert_array_equal(random.get_rng_state(), before)


@pytest.mark.parametrize("call, error, message", [
    (lambda: random.uniform_(np.empty(3), 1, 0), RuntimeError, r"\[from, to\) range, but found from=1 > to=0"),
    (lambda: random.uniform_(np.empty(3), 0, float("nan")), RuntimeError, "range"),
    (lambda: random.uniform_(np.empty(3, np.float32), -3e38, 3e38), RuntimeError, "to-from <= the largest float32"),
    (lambda: random.uniform_(np.empty(3, np.int64)), NotImplementedError, "not implemented for int64"),
    (lambda: random.normal_(np.empty(3, np.bool_)), NotImplementedError, "not implemented for bool"),
    (lambda: random.normal_(np.empty(3), 0, -1), RuntimeError, "std >= 0.0, but found std -1"),
    (lambda: random.bernoulli_(np.empty(3), 2), RuntimeError, r"p to be in \[0, 1\], but got p=2"),
    (lambda: random.dropout_mask((3,), -0.1), ValueError, "between 0 and 1, but got -0.1"),
    (lambda: random.randperm(-1), RuntimeError, "non-negative, got -1"),
    (lambda: random.random_(np.empty(3), 5, 5), RuntimeError, "got from=5 >= to=5"),
    (lambda: random.random_(np.empty(3, np.uint8), 0, 300), RuntimeError, "to - 1 = 299 is out of bounds for uint8"),
    (lambda: random.random_(np.empty(3, np.int8), -200, 30), RuntimeError, "from = -200 is out of bounds for int8"),
    (lambda: random.random_(np.empty(3, np.bool_), 0, 3), RuntimeError, "to - 1 = 2 is out of bounds for bool"),
])
def test_errors(call, error, message):
    before = random.get_rng_state()
    with pytest.raises(error, match=message):
        call()
    np.testing.assert_array_equal(random.get_rng_state(), before)


@pytest.mark.parametrize("generator_given", [False, True])
@pytest.mark.parametrize("batch_size, drop_last", [(4, False), (5, False), (4, True)])
def test_a_shuffled_data_loader_draws_as_the_module_describes(generator_given, batch_size, drop_last, torch):
    n, epochs = 10, 3
    theirs = torch.Generator().manual_seed(77) if generator_given else None
    loader = torch.utils.data.DataLoader(
        torch.arange(n), batch_size, shuffle=True, drop_last=drop_last, generator=theirs)
    torch.manual_seed(5)
    random.manual_seed(5)
    ours = Generator().manual_seed(77) if generator_given else None
    for _ in range(epochs):
        seen = torch.cat(list(loader)).tolist()
        random.draw_seed(ours)
        sampler = ours or Generator().manual_seed(random.draw_seed())
        assert random.randperm(n, sampler).tolist()[:len(seen)] == seen
        random.randperm(n, sampler)
    np.testing.assert_array_equal(random.get_rng_state(), torch.get_rng_state().numpy())
    if generator_given:
        np.testing.assert_array_equal(ours.get_state(), theirs.get_state().numpy())
