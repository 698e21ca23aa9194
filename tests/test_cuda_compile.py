"""``minidl.compile`` on a GPU: a step as one CUDA graph has the bits of the step as written, or says why it cannot be.

The networks here are such that nothing is fused; what is fused has tolerances of its own in test_cuda_fusion.py.
"""

from __future__ import annotations

import subprocess
import sys
import warnings

import cuda_device
import numpy as np
import pytest

import minidl
from minidl import nn
from minidl._devices.cuda import graphs

pytestmark = pytest.mark.cuda

emulated = pytest.mark.skipif(cuda_device.REAL, reason="counts, or disturbs, what the emulated GPU does")


def network():
    return nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
                         nn.Dropout(0.25), nn.Linear(36, 5))


def training(optimizer_class=minidl.optim.SGD, **options):
    """A step, and the network and optimizer that it trains, on the GPU."""
    minidl.manual_seed(0)
    net = network().to("cuda")
    optimizer = optimizer_class(net.parameters(), **{"lr": 0.05} | options)

    def step(images, labels):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(net(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step, net, optimizer


def batches(count, size=3, seed=1):
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield (cuda_device.tensor(generator.random((size, 2, 8, 8), np.float32)),
               cuda_device.tensor(generator.random((size, 5), np.float32)))


def state(net, optimizer):
    tensors = [*net.state_dict().values(), *(p.grad for p in net.parameters())]
    for values in optimizer.state.values():
        tensors += [each for each in values.values() if isinstance(each, minidl.Tensor)]
    return [cuda_device.numbers(each) for each in tensors]


def repeated(run, *arguments):
    for _ in range(4):
        run(*arguments)


def assert_same_bits(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def outcome(compiled, optimizer_class, options, steps=12):
    """Losses and the state after so many steps; the learning rate changes on the way, and evaluations come between the
    later ones."""
    step, net, optimizer = training(optimizer_class, **options)
    schedule = minidl.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)
    run, forward = (minidl.compile(step), minidl.compile(net)) if compiled else (step, net)
    minidl.manual_seed(3)  # for the dropout
    results = []
    for number, (images, labels) in enumerate(batches(steps)):
        results.append(cuda_device.numbers(run(images, labels)))
        if number > 5:
            net.eval()
            with minidl.no_grad():
                results.append(cuda_device.numbers(forward(images)))
            net.train()
        schedule.step()
    if compiled:
        assert run.fallback_reason is None
        assert steps < 10 or forward.fallback_reason is None
    return results, state(net, optimizer), minidl.cuda.get_rng_state().numpy()


@pytest.mark.parametrize("optimizer, options", [
    (minidl.optim.SGD, {}),
    (minidl.optim.SGD, {"momentum": 0.9, "weight_decay": 1e-3, "nesterov": True}),
    (minidl.optim.AdamW, {"amsgrad": True}),
])
def test_training_gives_the_bits_of_the_step_as_written(gpu, optimizer, options):
    """With batch norm, dropout whose masks go on as in the step as written, schedules and evaluations between."""
    expected, got = outcome(False, optimizer, options), outcome(True, optimizer, options)
    for one, two in zip(expected[:2], got[:2], strict=True):
        assert_same_bits(one, two)
    np.testing.assert_array_equal(expected[2], got[2])


@pytest.mark.parametrize("order", [1, 2])
def test_the_order_of_threads_does_not_matter(gpu, order):
    expected = outcome(True, minidl.optim.SGD, {"momentum": 0.9}, 5)
    with cuda_device.order(order):
        got = outcome(True, minidl.optim.SGD, {"momentum": 0.9}, 5)
    assert_same_bits([*expected[0], *expected[1]], [*got[0], *got[1]])


@emulated
@pytest.mark.parametrize("lazy", [1, 2])
def test_work_may_be_done_as_late_as_a_stream_allows(gpu, lazy):
    """On a stream of its own, with arguments that are dropped at once and results read at the end."""
    def losses(compiled):
        step, _, _ = training()
        run = minidl.compile(step) if compiled else step
        with minidl.cuda.stream(minidl.cuda.Stream()):
            minidl.manual_seed(3)
            results = [run(*batch) for batch in batches(6)]
            return [cuda_device.numbers(each) for each in results]

    expected = losses(False)
    with cuda_device.emulation().configured(lazy=lazy):
        assert_same_bits(expected, losses(True))


@emulated
def test_a_repetition_is_one_graph_without_allocations_or_copies_but_of_arguments_and_results(pooled):
    step, _, _ = training(momentum=0.9)
    run = minidl.compile(step)
    given = list(batches(6))
    for batch in given[:5]:
        run(*batch)
    gpu = cuda_device.emulation()
    gpu.reset_counters()
    step(*given[5])
    written = gpu.counters()
    gpu.reset_counters()
    loss = run(*given[5])
    counted = gpu.counters()
    assert run.fallback_reason is None and np.isfinite(loss.item())
    assert (counted.graph_launches, counted.graph_nodes, counted.launches) == (1, written.launches, written.launches)
    assert counted.kernels == written.kernels
    assert (counted.copies_to_device, counted.copies_to_host, counted.allocations) == (0, 0, 0)
    assert counted.copies_on_device == 3  # two arguments and a result


def test_nothing_is_taken_from_the_pool_but_results(pooled, gpu):
    step, _, _ = training()
    run = minidl.compile(step)
    given = list(batches(6))
    for batch in given[:5]:
        run(*batch)
    before = gpu.runtime.pool.in_use
    gpu.runtime.pool.reset_peak()
    losses = [run(*given[5]) for _ in range(3)]
    assert gpu.runtime.pool.in_use == gpu.runtime.pool.peak == before + 512 * len(losses)


def test_results_are_not_overwritten_by_the_next_call(gpu):
    run = minidl.compile(lambda x: {"twice": x * 2, "turned": (x + 1).t(), "both": (x, [x - 1]), "name": "x"})
    results = [run(minidl.full((2, 2), float(i), device="cuda")) for i in range(5)]
    assert run.fallback_reason is None
    assert [result["twice"].tolist() for result in results] == [[[2.0 * i] * 2] * 2 for i in range(5)]
    now = results[-1]
    assert now["both"][0].tolist() == [[4.0] * 2] * 2 and now["both"][1][0].tolist() == [[3.0] * 2] * 2
    assert now["turned"].tolist() == [[5.0] * 2] * 2 and now["name"] == "x"


def test_other_shapes_are_recorded_apart(gpu):
    results = []
    for compiled in (False, True):
        step, net, optimizer = training()
        run = minidl.compile(step) if compiled else step
        minidl.manual_seed(3)
        losses = []
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "minidl.compile: step is not repeated from a recording: its arguments")
            for _ in range(5):
                for size in (3, 2):
                    losses += [cuda_device.numbers(run(*batch)) for batch in batches(1, size)]
        assert not compiled or run.fallback_reason is None
        results.append((losses, state(net, optimizer)))
    assert_same_bits(results[0][0], results[1][0])
    assert_same_bits(results[0][1], results[1][1])


def test_random_numbers_go_on_as_in_the_step_as_written(gpu):
    def drawn(compiled):
        def step(x):
            return nn.functional.dropout(x, 0.5), minidl.rand(5, device="cuda"), minidl.randperm(7, device="cuda"), \
                minidl.empty(3, device="cuda").normal_()

        run = minidl.compile(step) if compiled else step
        x, results = minidl.ones(6, device="cuda"), []
        for i in range(8):
            if i == 6:
                minidl.manual_seed(5)
            results += [cuda_device.numbers(each) for each in run(x)]
        assert not compiled or run.fallback_reason is None
        return results

    minidl.manual_seed(1)
    expected = drawn(False)
    minidl.manual_seed(1)
    assert_same_bits(expected, drawn(True))


def test_the_state_of_an_optimizer_may_be_replaced(gpu):
    """Momentum that is loaded, or forgotten, lies in other memory: the next repetition reads it there."""
    results = []
    for compiled in (False, True):
        step, net, optimizer = training(momentum=0.9)
        run = minidl.compile(step) if compiled else step
        minidl.manual_seed(3)
        losses = []
        for i, batch in enumerate(batches(9)):
            if i == 5:
                optimizer.load_state_dict(optimizer.state_dict())
                run = minidl.compile(step) if compiled and run.fallback_reason is not None else run
            if i == 7:
                optimizer.state.clear()
            losses.append(cuda_device.numbers(run(*batch)))
        results.append((losses, state(net, optimizer)))
    assert_same_bits(results[0][0], results[1][0])
    assert_same_bits(results[0][1], results[1][1])


def test_a_parameter_that_others_are_trained_without_takes_a_launch_of_its_own(gpu):
    """Adam's parameters with other numbers of steps: other launches than those that were captured."""
    results = []
    for compiled in (False, True):
        step, net, optimizer = training(minidl.optim.Adam)
        run = minidl.compile(step) if compiled else step
        minidl.manual_seed(3)
        losses = []
        for i, batch in enumerate(batches(8)):
            if i == 5:
                del optimizer.state[net[6].bias]
            losses.append(cuda_device.numbers(run(*batch)))
        assert not compiled or run.fallback_reason is None
        results.append((losses, state(net, optimizer)))
    assert_same_bits(results[0][0], results[1][0])
    assert_same_bits(results[0][1], results[1][1])


def test_a_setting_of_precision_makes_a_plan_of_its_own(gpu):
    before = minidl.backends.cudnn.allow_tf32
    weight = minidl.randn(24, 24, 3, 3, device="cuda")
    run = minidl.compile(lambda x: nn.functional.conv2d(x, weight))
    x = minidl.randn(2, 24, 8, 8, device="cuda")
    try:
        for allowed in (False, True, False):
            minidl.backends.cudnn.allow_tf32 = allowed
            for _ in range(4):
                np.testing.assert_array_equal(cuda_device.numbers(run(x)),
                                              cuda_device.numbers(nn.functional.conv2d(x, weight)))
            assert run.fallback_reason is None
    finally:
        minidl.backends.cudnn.allow_tf32 = before


def test_repetitions_on_two_streams_wait_for_each_other(gpu):
    run = minidl.compile(lambda x: (x * 2 + 1).sum())
    streams = [minidl.cuda.Stream(), minidl.cuda.Stream(), None]
    results = []
    for i in range(9):
        stream = streams[i % 3]
        x = minidl.full((4,), float(i), device="cuda")
        minidl.cuda.synchronize()
        with minidl.cuda.stream(stream):
            results.append(run(x))
    minidl.cuda.synchronize()
    assert run.fallback_reason is None
    assert [each.item() for each in results] == [4 * (2.0 * i + 1) for i in range(9)]


WHOLE = np.arange(40, dtype=np.float32).reshape(20, 2)
REFUSED = {
    "item": (lambda x: x * x.sum().item(), "reads numbers out of a tensor"),
    "control flow": (lambda x: x + 1 if x.sum() > 0 else x - 1, "reads numbers out of a tensor"),
    "from NumPy": (lambda x: x + minidl.from_numpy(np.ones(3, np.float32)).to("cuda"), "copies numbers from the host"),
    "a tensor": (lambda x: x + minidl.tensor([1.0, 2.0, 3.0], device="cuda"), "copies numbers from the host"),
    "to the CPU": (lambda x: (x + 1).cpu(), "copies a tensor from one device to another"),
    "on the CPU": (lambda x: (x + 1, minidl.ones(3) * 2)[0], "computes on the CPU too"),
    "a mask": (lambda x: x[x > 1], "waits for numbers of the GPU"),
    "an object": (lambda x: object(), "it returns a object"),
    "no backward": (lambda x: x * minidl.ones(3, device="cuda", requires_grad=True), "would carry gradients on"),
    "in place": (lambda x: x.mul_(1), "it changes an argument in place"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_repeated_runs_as_written_and_says_why(gpu, name):
    function, reason = REFUSED[name]
    run = minidl.compile(function)
    x = minidl.tensor([1.0, 2.0, 3.0]).to("cuda")
    with pytest.warns(RuntimeWarning, match=reason):
        repeated(run, x)
    assert reason in run.fallback_reason
    result, expected = run(-x), function(-x)
    if isinstance(expected, minidl.Tensor):
        assert result.tolist() == expected.tolist()


def test_arguments_on_two_devices_are_refused(gpu):
    run = minidl.compile(lambda x, y: x + 1)
    with pytest.warns(RuntimeWarning, match="arguments are on several devices; copy them to one"):
        repeated(run, minidl.ones(2, device="cuda"), minidl.ones(2))
    assert run(minidl.ones(2, device="cuda"), minidl.ones(2)).tolist() == [2, 2]


def test_a_step_that_takes_its_arguments_to_the_gpu_is_told_to_be_given_them_there(gpu):
    run = minidl.compile(lambda x: (x.to("cuda") * 2).sum())
    with pytest.warns(RuntimeWarning, match="copies a tensor from one device to another; do that before the call"):
        repeated(run, minidl.ones(3))
    assert run(minidl.ones(3)).item() == 6


def test_an_argument_with_gaps_is_refused(gpu):
    run = minidl.compile(lambda x: x + 1)
    x = cuda_device.tensor(WHOLE).t()
    with pytest.warns(RuntimeWarning, match=r"not contiguous in memory; pass x.contiguous\(\)"):
        repeated(run, x)
    np.testing.assert_array_equal(cuda_device.numbers(run(x)), WHOLE.T + 1)


def test_an_error_while_a_graph_is_captured_leaves_pool_and_stream_usable(pooled, gpu, monkeypatch):
    step, _, _ = training()
    run = minidl.compile(step)
    given = list(batches(6))
    for batch in given[:3]:
        run(*batch)
    launch, calls = gpu.runtime.launch_packed, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return launch(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(gpu.runtime, "launch_packed", failing)
        with pytest.raises(KeyboardInterrupt):
            run(*given[3])
    assert (minidl.ones(3, device="cuda") * 2).tolist() == [2, 2, 2]
    for batch in given[4:]:
        assert np.isfinite(run(*batch).item())
    assert run.fallback_reason is None
    in_use = gpu.runtime.pool.in_use
    del run
    assert gpu.runtime.pool.in_use < in_use


@emulated
def test_a_driver_without_graphs_is_given_the_launches_one_by_one(gpu, monkeypatch):
    expected = outcome(False, minidl.optim.SGD, {}, 6)

    def refused(*arguments):
        raise graphs.GraphError("the driver has no cuGraphLaunch: graphs need one of CUDA 12 or newer")

    monkeypatch.setattr(graphs, "Graph", refused)
    with pytest.warns(RuntimeWarning, match="launched one by one, since the driver has no cuGraphLaunch"):
        got = outcome(True, minidl.optim.SGD, {}, 6)
    assert_same_bits([*expected[0], *expected[1]], [*got[0], *got[1]])


@emulated
def test_a_kernel_that_cannot_be_captured_is_named(gpu):
    run = minidl.compile(lambda x: x * 2 + 1)
    x = minidl.ones(3, device="cuda")
    for _ in range(3):
        run(x)
    emulation = cuda_device.emulation()
    with emulation.configured(fail_launch=1), pytest.raises(RuntimeError, match="CUDA error in the kernel binary_f32"):
        run(x)
    emulation.clear_error()
    assert run(x).tolist() == [3, 3, 3] and run.fallback_reason is None


@emulated
def test_a_graph_is_given_back_with_its_step(gpu):
    destroyed = []
    run = minidl.compile(lambda x: x * 2 + 1)
    for _ in range(4):
        run(minidl.ones(3, device="cuda"))
    original = graphs._call

    def call(name, *arguments):
        destroyed.append(name)
        original(name, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "_call", call)
        del run
    assert destroyed == ["cuGraphExecDestroy", "cuGraphDestroy"]


@emulated
@pytest.mark.slow
def test_the_same_without_pycuda():
    """The stand-in for PyCUDA of the emulation, in a process of its own."""
    program = """
import sys
sys.path.insert(0, "tests")
import cuda_emulation
gpu = cuda_emulation.load(stand_in=True)
import minidl
run = minidl.compile(lambda x: minidl.nn.functional.dropout(x * 2, 0.5).sum())
for i in range(5):
    minidl.manual_seed(i)
    x = minidl.full((64,), float(i), device="cuda")
    loss = run(x)
    minidl.manual_seed(i)
    assert loss.item() == minidl.nn.functional.dropout(x * 2, 0.5).sum().item()
assert run.fallback_reason is None and gpu.counters().graph_launches == 2
print("stood in", sys.modules["pycuda"].__file__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "stood in" in done.stdout and "without_pycuda" in done.stdout
