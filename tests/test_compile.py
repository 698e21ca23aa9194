"""``minidl.compile``: a repeated step gives the same bits as one that runs as written, and says when it cannot be."""

import threading
import warnings

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.backends.cpu import use_conv_kernel

CALLS = 8


@pytest.fixture
def one_kernel():
    """Left to itself, a convolution behind which ReLU and pooling are fused adds up its gradients in another order."""
    with use_conv_kernel(None, "direct_rows", "direct_rows"):
        yield


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.Tanh(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.25), nn.Linear(72, 10),
    )


def training(optimizer_class=minidl.optim.SGD, net=None, **options):
    """A step function, and the network and optimizer that it trains."""
    minidl.manual_seed(0)
    net = net or lenet()
    optimizer = optimizer_class(net.parameters(), **{"lr": 0.05} | options)
    criterion = nn.CrossEntropyLoss()

    def step(images, labels):
        optimizer.zero_grad()
        loss = criterion(net(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step, net, optimizer


def batches(count=CALLS, size=4, seed=1):
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield (minidl.from_numpy(generator.random((size, 1, 16, 16), np.float32)),
               minidl.from_numpy(generator.integers(0, 10, size)))


def state(net, optimizer):
    arrays = [value.numpy().copy() for value in net.state_dict().values()]
    arrays += [p.grad.numpy().copy() for p in net.parameters()]
    for values in optimizer.state.values():
        arrays += [np.array(each) for each in values.values()]
    return arrays


def repeated(run, *arguments):
    for _ in range(4):
        run(*arguments)


def assert_same_bits(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("one_kernel")
@pytest.mark.parametrize("optimizer, options", [
    (minidl.optim.SGD, {"momentum": 0.9, "weight_decay": 1e-3}), (minidl.optim.Adam, {}), (minidl.optim.AdamW, {}),
])
@pytest.mark.parametrize("threads", [1, 2])
def test_training_gives_the_bits_of_the_step_as_written(optimizer, options, threads):
    before = minidl.get_num_threads()
    minidl.set_num_threads(threads)
    try:
        results = []
        for compiled in (False, True):
            step, net, optim = training(optimizer, **options)
            run = minidl.compile(step) if compiled else step
            schedule = minidl.optim.lr_scheduler.StepLR(optim, 2, 0.5)
            minidl.manual_seed(3)  # for the dropout
            losses = []
            for images, labels in batches():
                losses.append(run(images, labels).detach().numpy())
                schedule.step()
            results.append((losses, state(net, optim)))
            assert not compiled or run.fallback_reason is None
        assert_same_bits(results[0][0], results[1][0])
        assert_same_bits(results[0][1], results[1][1])
    finally:
        minidl.set_num_threads(before)


def test_nothing_is_allocated_in_a_repetition():
    step, _, _ = training()
    run = minidl.compile(step)
    given = list(batches(6))
    for images, labels in given[:5]:
        run(images, labels)
    assert run.fallback_reason is None
    before = minidl.memory_stats()["in_use"]
    losses = [run(*given[5]) for _ in range(3)]
    assert minidl.memory_stats()["in_use"] - before == 64 * len(losses)


def test_memory_of_arrays_that_never_live_together_is_shared():
    x = minidl.ones(256, 256)
    run = minidl.compile(lambda x: ((((x + 1) * 2).tanh() - 1) * 3).sum())
    for _ in range(3):
        run(x)
    before = minidl.memory_stats()["in_use"]
    assert run.fallback_reason is None
    del run
    size = 256 * 256 * 4
    assert before - minidl.memory_stats()["in_use"] < 3.5 * size  # two at a time, and what stands for the input


def test_results_are_not_overwritten_by_the_next_call():
    run = minidl.compile(lambda x: {"twice": x * 2, "both": (x + 1, [x - 1]), "name": "x"})
    results = [run(minidl.full((3,), float(i))) for i in range(5)]
    assert [result["twice"].tolist() for result in results] == [[2.0 * i] * 3 for i in range(5)]
    assert run.fallback_reason is None
    now = results[-1]
    assert now["both"][0].tolist() == [5.0] * 3 and now["both"][1][0].tolist() == [3.0] * 3 and now["name"] == "x"


def test_inputs_are_left_alone_and_read_where_they_lie():
    run = minidl.compile(lambda x: x.reshape(2, 3).t() + 1)
    for i in range(5):
        x = minidl.arange(6.0) + i
        assert (run(x) == x.reshape(2, 3).t() + 1).all()
    assert run.fallback_reason is None
    x.fill_(7.0)
    assert (run(x) == 8).all()


def test_evaluation_and_training_are_recorded_apart():
    step, net, _ = training()
    run, forward = minidl.compile(step), minidl.compile(net)
    for round_ in range(3):
        net.train()
        for images, labels in batches(5, seed=round_):
            run(images, labels)
        assert run.fallback_reason is None
        net.eval()
        with minidl.no_grad():
            for images, _ in batches(5, seed=round_):
                assert_same_bits([forward(images).numpy()], [net(images).numpy()])
        assert forward.fallback_reason is None


def test_a_module_keeps_its_attributes():
    net = nn.Linear(2, 3)
    run = minidl.compile(net)
    assert list(run.parameters()) == list(net.parameters()) and run.in_features == 2
    assert repr(run) == f"compile({net!r})"


@pytest.mark.usefixtures("one_kernel")
def test_another_shape_is_recorded_apart_with_one_warning():
    results = []
    for compiled in (False, True):
        step, net, optimizer = training()
        run = minidl.compile(step) if compiled else step
        losses = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                for size in (4, 4, 4, 3):
                    for images, labels in batches(1, size):
                        losses.append(run(images, labels).detach().numpy())
        results.append((losses, state(net, optimizer)))
        messages = [str(each.message) for each in caught]
        assert len(messages) == compiled
        if compiled:
            assert "minidl.compile: step is not repeated from a recording: its arguments changed to" in messages[0]
            assert "(3, 1, 16, 16)" in messages[0]
    assert_same_bits(results[0][0], results[1][0])
    assert_same_bits(results[0][1], results[1][1])


def test_loaded_and_converted_weights_are_used():
    step, net, _ = training()
    run = minidl.compile(step)
    given = list(batches())
    for images, labels in given[:5]:
        run(images, labels)
    net.load_state_dict(training()[1].state_dict())
    loss = run(*given[5])
    assert run.fallback_reason is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        net.double()
        assert run(given[5][0].double(), given[5][1]).dtype == minidl.float64
    assert loss.dtype == minidl.float32


REFUSED = {
    "item": (lambda x: x * x.sum().item(), "reads numbers out of a tensor"),
    "control flow": (lambda x: x + 1 if x.sum() > 0 else x - 1, "reads numbers out of a tensor"),
    "from NumPy": (lambda x: x + minidl.from_numpy(np.ones(3, np.float32)), "outside of minidl's ops"),
    "an object": (lambda x: object(), "it returns a object"),
    "no backward": (lambda x: x * minidl.ones(3, requires_grad=True), "would carry gradients on"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_repeated_runs_as_written_and_says_why(name):
    function, reason = REFUSED[name]
    run = minidl.compile(function)
    x = minidl.tensor([1.0, 2.0, 3.0])
    with pytest.warns(RuntimeWarning, match=reason):
        repeated(run, x)
    assert reason in run.fallback_reason
    result, expected = run(-x), function(-x)
    if isinstance(expected, minidl.Tensor):
        assert (result == expected).all()


def test_a_counter_in_the_step_is_found_out():
    counter = iter(range(100))
    run = minidl.compile(lambda x: x * next(counter))
    with pytest.warns(RuntimeWarning, match="argument of mul changed from one call to the next: 1, then 2"):
        results = [run(minidl.ones(1)).item() for _ in range(5)]
    assert results == [0, 1, 2, 3, 4]


def test_another_path_in_the_step_is_found_out():
    calls = []

    def function(x):
        calls.append(x)
        return x + 1 if len(calls) % 2 else x - 1

    run = minidl.compile(function)
    with pytest.warns(RuntimeWarning, match="its ops changed from one call to the next: sub, then add"):
        assert [run(minidl.zeros(1)).item() for _ in range(5)] == [1, -1, 1, -1, 1]


def test_gradients_that_add_up_over_calls_are_found_out():
    net = nn.Linear(3, 1)

    def function(x):
        loss = net(x).sum()
        loss.backward()
        return loss

    run = minidl.compile(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for _ in range(6):
            run(minidl.ones(2, 3))
    np.testing.assert_array_equal(net.bias.grad.numpy(), [12.0])


def test_a_schedule_inside_is_refused():
    step, _, optimizer = training()
    schedule = minidl.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    def both(images, labels):
        loss = step(images, labels)
        schedule.step()
        return loss

    run = minidl.compile(both)
    images, labels = next(batches(1))
    with pytest.warns(RuntimeWarning, match="it steps a learning rate schedule"):
        repeated(run, images, labels)


def test_an_error_in_a_repetition_leaves_the_step_usable():
    step, _, _ = training()
    run = minidl.compile(step)
    given = list(batches())
    for images, labels in given[:5]:
        run(images, labels)
    with pytest.raises(IndexError, match="Target 12 is out of bounds"):
        run(given[5][0], given[5][1] + 12 - given[5][1])
    assert np.isfinite(run(*given[5]).item())
    assert run.fallback_reason is None
    assert minidl.rand(3).shape == (3,)


def test_a_saved_tensor_that_the_step_changes_is_noticed():
    step, net, _ = training()
    run = minidl.compile(step)
    for images, labels in batches(5):
        run(images, labels)
    weight = net[0].weight
    loss = (weight * weight).sum()
    for images, labels in batches(1):
        run(images, labels)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_other_threads_are_not_recorded():
    stop, failures = threading.Event(), []

    def work():
        x = minidl.ones(5)
        while not stop.is_set():
            if (x + 1).sum().item() != 10:
                failures.append("wrong sum")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        step, _, _ = training()
        run = minidl.compile(step)
        for images, labels in batches(12):
            run(images, labels)
        assert run.fallback_reason is None
    finally:
        stop.set()
        thread.join()
    assert not failures


def test_the_backend_is_as_before_after_a_recording():
    backend = minidl.ones(1)._backend
    before = set(vars(backend))
    run = minidl.compile(lambda x: x.nothing)
    for _ in range(4):
        with pytest.raises(AttributeError, match="nothing"):
            run(minidl.ones(1))
    assert set(vars(backend)) == before


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="expected a function or a module, got int"):
        minidl.compile(3)


def test_arguments_by_name_are_told_apart_by_their_names():
    run = minidl.compile(lambda a, b: a - b)
    x, y = minidl.full((3,), 5.0), minidl.ones(3)
    for _ in range(5):
        assert run(a=x, b=y).tolist() == [4.0] * 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for _ in range(5):
            assert run(b=x, a=y).tolist() == [-4.0] * 3
            assert run(x, b=y).tolist() == [4.0] * 3
    assert run.fallback_reason is None


def test_the_reason_is_that_of_the_latest_call():
    run = minidl.compile(lambda x: x * 2)
    for _ in range(4):
        run(minidl.ones(2))
    with pytest.warns(RuntimeWarning, match="its arguments changed"):
        run(minidl.ones(3))
    assert run.fallback_reason is not None and run.device_calls == []
    run(minidl.ones(2))
    assert run.fallback_reason is None and run.device_calls == ["mul"]


def test_a_compiled_step_inside_another_is_a_part_of_it():
    inner = minidl.compile(lambda x: x * 2)
    outer = minidl.compile(lambda x: inner(x) + 1)
    for i in range(6):
        assert outer(minidl.full((3,), float(i))).tolist() == [2.0 * i + 1] * 3
    assert outer.fallback_reason is None and outer.device_calls == ["mul", "add"]
    assert inner.fallback_reason == "it is a part of another compiled step, which is being recorded"
    for i in range(4):
        assert inner(minidl.full((3,), float(i))).tolist() == [2.0 * i] * 3
    assert inner.fallback_reason is None


WHOLE = minidl.arange(40.0).reshape(20, 2)
LAYER = nn.Linear(3, 3)
SHARED = {
    "two arguments": (lambda a, b: a.sum() + 0 * b.sum(), [(WHOLE[i : i + 2], WHOLE[:8]) for i in (4, 4, 4, 4, 9)],
                      "two arguments lie in the same memory"),
    "around": (lambda a: a.sum() + WHOLE.sum(), [(WHOLE[4:6],)] * 5, "memory around an argument"),
    "a weight": (lambda a: LAYER(a).detach(), [(LAYER.weight.detach(),)] * 4 + [(minidl.zeros(3, 3),)],
                 "an argument lies in the memory of a parameter"),
    "in place": (lambda a: a.mul_(2).sum(), [(minidl.full((2,), i),) for i in (1.0, 2.0, 3.0, 4.0, 5.0)],
                 "it changes an argument in place"),
}


@pytest.mark.parametrize("name", SHARED)
def test_memory_that_an_argument_shares(name):
    function, calls, reason = SHARED[name]
    run = minidl.compile(function)
    expected = [function(*(each.clone() for each in arguments)) for arguments in calls]
    with pytest.warns(RuntimeWarning, match=reason):
        results = [run(*arguments) for arguments in calls]
    assert all(minidl.equal(one, two) for one, two in zip(results, expected, strict=True))
