"""The float32 convolution kernels for many channels and the depthwise one, on every instruction set of this machine.

They are judged by im2col in float64, which tests/test_conv_kernels.py compares with direct loops.  Tolerances are parts
of the largest result.  A sum of K products of random numbers in float32 loses about sqrt(K) / 4 units of 6e-8 against
results of size sqrt(K), whatever the order of its parts; Winograd's F(2,3) first adds four numbers twice over and
loses some times as much.  2e-6 is four times what was seen over these cases.  F(4,3) multiplies by up to 8 and loses
ten to twenty times as much as that: 1.2e-5 was seen."""

import numpy as np
import pytest
from guarded import guarded
from hypothesis import given, settings
from hypothesis import strategies as st

import minidl
from minidl._ext import conv2d as kernels
from minidl._ext import conv2d_table, instruction_set, storage, threads
from minidl._ext.conv2d_table import Direction, Kernel
from minidl.geometry import conv2d_geometry

TOLERANCE = {Kernel.PACKED: 2e-6, Kernel.WINOGRAD: 2e-6, Kernel.WINOGRAD_F4: 5e-5, Kernel.DEPTHWISE: 2e-6}
KERNELS = list(TOLERANCE)

# N, C, OC, H, W, KH, KW, stride, padding, dilation, groups
CASES = {
    "channels that fill no vector": (3, 5, 11, 7, 9, 3, 3, 1, 1, 1, 1),
    "one channel more than a block": (4, 33, 65, 14, 14, 3, 3, 1, 1, 1, 1),
    "small images side by side": (9, 20, 50, 7, 7, 3, 3, 1, 1, 1, 1),
    "one pixel": (3, 18, 17, 1, 1, 3, 3, 1, 1, 1, 1),
    "two pixels": (1, 18, 17, 1, 2, 3, 3, 1, 1, 1, 1),
    "odd output": (2, 16, 16, 9, 7, 3, 3, 1, 0, 1, 1),
    "wide and low": (2, 4, 8, 1, 70, 3, 3, 1, 1, 1, 1),
    "narrow and high": (2, 4, 8, 70, 1, 3, 3, 1, 1, 1, 1),
    "more padding than kernel": (2, 4, 4, 3, 3, 3, 3, 1, 4, 1, 1),
    "padding on one side": (2, 6, 5, 8, 9, 2, 4, 1, "same", 1, 1),
    "several strips of rows": (1, 40, 24, 60, 57, 3, 3, 1, 1, 1, 1),
    "deeper than a panel": (2, 140, 10, 9, 9, 3, 3, 1, 0, 1, 2),
    "a weight that few pixels use": (2, 130, 100, 8, 6, 3, 3, 1, 1, 1, 1),
    "a weight read for several panels": (8, 80, 250, 14, 14, 3, 3, 1, 1, 1, 1),
    "more taps than a panel is deep": (2, 7, 20, 20, 20, 13, 13, 1, 6, 1, 1),
    "stem": (2, 3, 20, 30, 29, 7, 7, 2, 3, 1, 1),
    "stride of three": (2, 6, 9, 17, 22, 5, 5, 3, 2, 1, 1),
    "strides that differ": (2, 4, 9, 17, 12, 3, 3, (1, 2), (0, 2), (2, 1), 1),
    "dilated": (2, 8, 9, 20, 20, 3, 3, 1, 2, 2, 1),
    "dilated, sides that differ": (2, 5, 7, 11, 13, 3, 3, 1, (3, 1), (3, 2), 1),
    "dilated in groups": (1, 8, 6, 9, 12, 3, 3, 1, 2, 2, 2),
    "dilated, more padding than it reaches": (2, 3, 4, 6, 9, 3, 3, 1, (7, 5), (3, 2), 1),
    "dilated as far as the image": (1, 2, 3, 9, 11, 3, 3, 1, 0, (4, 5), 1),
    "dilated with stride": (2, 4, 9, 21, 20, 3, 3, 2, 2, 3, 1),
    "1x1": (3, 37, 40, 21, 17, 1, 1, 1, 0, 1, 1),
    "1x1 of few pixels": (3, 140, 7, 5, 6, 1, 1, 1, 0, 1, 1),
    "1x1 with padding and stride": (2, 12, 9, 9, 8, 1, 1, 2, 1, 1, 1),
    "groups": (2, 36, 27, 12, 13, 3, 3, 1, 1, 1, 3),
    "depthwise": (2, 4, 4, 6, 7, 3, 3, 1, 1, 1, 4),
    "depthwise on long rows": (2, 3, 3, 9, 38, 3, 3, 1, 1, 1, 3),
    "depthwise with stride": (2, 4, 4, 17, 38, 3, 3, 2, 1, 1, 4),
    "depthwise with more taps than sums": (3, 4, 4, 20, 16, 5, 5, 1, 2, 1, 4),
    "depthwise, two outputs per channel": (2, 3, 6, 8, 17, 3, 2, (1, 3), (0, 1), (2, 1), 3),
    "depthwise, three rows": (1, 5, 10, 3, 10, 3, 3, 1, 2, 2, 5),
    "no images": (0, 16, 16, 6, 6, 3, 3, 1, 1, 1, 1),
    "no images, depthwise": (0, 3, 3, 6, 6, 3, 3, 1, 1, 1, 3),
}
ALL_SETS = pytest.mark.parametrize("isa", instruction_set.supported())


@pytest.fixture(autouse=True)
def restored():
    count, isa = threads.get_num_threads(), instruction_set.used()
    yield
    threads.set_num_threads(count)
    instruction_set.use(isa)


def geometry(N, C, OC, H, W, KH, KW, stride, padding, dilation, groups):
    return conv2d_geometry((N, C, H, W), (OC, C // groups, KH, KW), stride, padding, dilation, groups)


def operands(g, seed=0):
    """input, weight, bias and grad_output."""
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape).astype(np.float32)
            for shape in (g.input_shape, g.weight_shape, (g.OC,), g.output_shape)]


def fill_free_memory_with_nan():
    """What the allocator hands out next, as results or as scratch, shows whatever a kernel forgets to write."""
    sizes = [quarters << log2 for log2 in range(4, 20) for quarters in (4, 5, 6, 7)]
    blocks = [storage.empty((size,), np.dtype(np.uint8)) for size in sizes]
    for block in blocks:
        block.fill(0xFF)


def compute(direction, g, x, weight, bias, grad, kernel):
    if direction == Direction.FORWARD:
        return kernels.conv2d_forward(x, weight, bias, g, kernel)
    if direction == Direction.BACKWARD_INPUT:
        return kernels.conv2d_backward_input(grad, weight, g, kernel)
    return kernels.conv2d_backward_weight(grad, x, g, kernel)


def kernels_for(g):
    return [(kernel, direction) for kernel in KERNELS for direction in Direction
            if conv2d_table.can_compute(kernel, g, direction)]


def expected_results(g, arrays):
    exact = [array.astype(np.float64) for array in arrays]
    return {direction: compute(direction, g, *exact, Kernel.IM2COL) for direction in Direction}


def assert_close(mine, exact, kernel, label=""):
    assert mine.dtype == np.float32 and mine.flags.c_contiguous
    assert mine.shape == exact.shape
    largest = max(1, np.abs(exact).max(initial=0))
    np.testing.assert_allclose(mine, exact, rtol=0, atol=TOLERANCE[kernel] * largest, err_msg=f"{kernel} {label}")


@pytest.mark.parametrize("case", CASES)
def test_every_kernel_on_every_instruction_set(case):
    g = geometry(*CASES[case])
    arrays = operands(g)
    expected = expected_results(g, arrays)
    assert kernels_for(g)
    for isa in instruction_set.supported():
        instruction_set.use(isa)
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            for kernel, direction in kernels_for(g):
                fill_free_memory_with_nan()
                mine = compute(direction, g, *arrays, kernel)
                assert_close(mine, expected[direction], kernel, (isa, count, direction))


def test_no_bias():
    g = geometry(*CASES["small images side by side"])
    x, weight, _, _ = operands(g)
    exact = kernels.conv2d_forward(x.astype(np.float64), weight.astype(np.float64), None, g, Kernel.IM2COL)
    for kernel in (Kernel.PACKED, Kernel.WINOGRAD, Kernel.WINOGRAD_F4):
        assert_close(kernels.conv2d_forward(x, weight, None, g, kernel), exact, kernel)


@ALL_SETS
@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("no images")])
def test_nothing_is_read_behind_an_array(case, isa):
    """Each array ends at a page that may not be read; they also start at odd multiples of 4 bytes."""
    g = geometry(*CASES[case])
    arrays = operands(g)
    instruction_set.use(isa)
    threads.set_num_threads(2)
    with guarded(*arrays) as copies:
        for kernel, direction in kernels_for(g):
            np.testing.assert_array_equal(compute(direction, g, *copies, kernel),
                                          compute(direction, g, *arrays, kernel))


@pytest.mark.parametrize("case", ["channels that fill no vector", "depthwise", "1x1", "stem"])
def test_any_memory_layout(case):
    g = geometry(*CASES[case])
    arrays = operands(g)
    layouts = (lambda a: np.asfortranarray(a), lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
               lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1])
    for lay in layouts:
        laid = [lay(array) for array in arrays]
        for kernel, direction in kernels_for(g):
            np.testing.assert_array_equal(compute(direction, g, *laid, kernel),
                                          compute(direction, g, *arrays, kernel))


@pytest.mark.parametrize("case", ["several strips of rows", "a weight that few pixels use", "depthwise", "stem"])
def test_same_bits_twice(case):
    g = geometry(*CASES[case])
    arrays = operands(g)
    threads.set_num_threads(2)
    for kernel, direction in kernels_for(g):
        first = compute(direction, g, *arrays, kernel)
        fill_free_memory_with_nan()
        assert compute(direction, g, *arrays, kernel).tobytes() == first.tobytes()


def test_what_is_not_a_number_stays_where_it_is_seen():
    """Winograd mixes the pixels that a tile sees: what is not a number spreads, but not to other images or far
    away, and never gets lost."""
    g = geometry(2, 16, 16, 12, 12, 3, 3, 1, 1, 1, 1)
    x, weight, bias, _ = operands(g)
    x[0, 3, 4, 4] = np.nan
    for kernel, reach in ((Kernel.PACKED, 1), (Kernel.WINOGRAD, 3), (Kernel.WINOGRAD_F4, 4)):
        output = kernels.conv2d_forward(x, weight, bias, g, kernel)
        assert np.isnan(output[0, :, 3:6, 3:6]).all()
        assert np.isfinite(output[1]).all()
        far = np.ones((12, 12), bool)
        far[4 - reach:5 + reach, 4 - reach:5 + reach] = False
        assert np.isfinite(output[0][:, far]).all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_they_are_im2col(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    groups = data.draw(st.sampled_from([1, 1, 1, 2, 5]))
    C, OC = groups * draw(1, 40), groups * draw(1, 40)
    if data.draw(st.booleans()):
        groups, OC = C, C * draw(1, 2)
    kernel = data.draw(st.sampled_from([(3, 3), (3, 3), (1, 1), (5, 5), (7, 7), (2, 3), (1, 7)]))
    stride, dilation = data.draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (3, 2)])), (draw(1, 2), draw(1, 2))
    if data.draw(st.booleans()):
        stride = dilation = (1, 1)
    try:
        g = conv2d_geometry((draw(1, 6), C, draw(1, 30), draw(1, 30)), (OC, C // groups, *kernel), stride,
                            (draw(0, 3), draw(0, 3)), dilation, groups)
    except RuntimeError:
        return
    arrays = operands(g, seed=draw(0, 99))
    expected = expected_results(g, arrays)
    instruction_set.use(data.draw(st.sampled_from(instruction_set.supported())))
    threads.set_num_threads(draw(1, 2))
    fill_free_memory_with_nan()
    for kernel, direction in kernels_for(g):
        assert_close(compute(direction, g, *arrays, kernel), expected[direction], kernel, direction)


@pytest.mark.parametrize("case", [
    (4, 32, 64, 16, 16, 3, 3, 1, 1, 1, 1), (2, 64, 64, 28, 28, 3, 3, 1, 2, 2, 1),
    (1, 3, 64, 112, 112, 7, 7, 2, 3, 1, 1),
    (2, 128, 64, 28, 28, 1, 1, 1, 0, 1, 1), (2, 16, 16, 56, 56, 3, 3, 1, 1, 1, 16)])
def test_layers_against_torch(case):
    torch = pytest.importorskip("torch")
    g = geometry(*case)
    x, weight, bias, grad = operands(g)
    exact = [torch.tensor(array.astype(np.float64), requires_grad=True) for array in (x, weight, bias)]
    output = torch.nn.functional.conv2d(*exact, *case[7:])
    output.backward(torch.tensor(grad.astype(np.float64)))
    expected = [output.detach().numpy(), exact[0].grad.numpy(), exact[1].grad.numpy()]
    chosen = {direction: conv2d_table.explain(g, direction)[0] for direction in Direction}
    assert chosen[Direction.BACKWARD_WEIGHT] in KERNELS
    for direction, kernel in chosen.items():
        if kernel in KERNELS:
            mine = compute(direction, g, x, weight, bias, grad, Kernel.AUTO)
            assert_close(mine, expected[direction], kernel, direction)


def test_the_switch_of_winograd_f4():
    cpu = minidl.backends.cpu
    shapes = (1, 32, 64, 64), (32, 32, 3, 3)
    assert cpu.allow_winograd_f4 is False
    assert cpu.conv_plan(*shapes, padding=1).forward.kernel == "winograd"
    try:
        cpu.allow_winograd_f4 = True
        assert cpu.allow_winograd_f4 is True
        plan = cpu.conv_plan(*shapes, padding=1)
        assert (plan.forward.kernel, plan.backward_input.kernel) == ("winograd_f4", "winograd_f4")
        assert plan.backward_weight.kernel == "packed"
        assert cpu.conv_plan(*shapes, padding=1, dtype=minidl.float64).forward.kernel == "im2col"
    finally:
        cpu.allow_winograd_f4 = False
    assert cpu.conv_plan(*shapes, padding=1).forward.kernel == "winograd"


def test_what_the_table_chooses():
    def chosen(*args, **options):
        plan = minidl.backends.cpu.conv_plan(*args, **options)
        return plan.forward.kernel, plan.backward_input.kernel, plan.backward_weight.kernel

    assert chosen((8, 64, 28, 28), (64, 64, 3, 3), padding=1) == ("winograd", "winograd", "packed")
    assert chosen((8, 64, 28, 28), (64, 64, 3, 3), padding=2, dilation=2) == ("winograd", "winograd", "packed")
    assert chosen((8, 64, 28, 28), (64, 64, 3, 3), padding=4, dilation=4) == ("packed", "packed", "packed")
    assert chosen((8, 64, 20, 20), (64, 64, 3, 3), padding=2, dilation=2)[0] == "packed"
    assert chosen((8, 512, 7, 7), (512, 512, 3, 3), padding=1) == ("packed", "packed", "packed")
    assert chosen((8, 256, 56, 56), (64, 256, 1, 1)) == ("packed", "packed", "packed")
    assert chosen((8, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3)[2] == "packed"
    assert chosen((8, 32, 28, 28), (64, 8, 3, 3), padding=1, groups=4)[0] == "winograd"
    assert chosen((8, 64, 56, 56), (64, 1, 3, 3), padding=1, groups=64) == ("depthwise", "depthwise", "depthwise")
