"""A convolution that waits for ReLU and pooling: nobody can tell, except by the time it takes.

``look`` has a result computed on its own; a network whose results are looked at one by one is what the same network
without looking is compared with, bit by bit.
"""

import copy
import gc
import pickle
import threading

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl import nn
from minidl.backends.cpu import use_conv_kernel
from minidl.compiler.recording import recording


def look(x):
    assert x._raw is not None
    return x


def leave(x):
    return x


def parameters(C=2, OC=5, K=3, seed=0):
    minidl.manual_seed(seed)
    return (minidl.randn(OC, C, K, K, requires_grad=True), minidl.randn(OC, requires_grad=True))


def image(C=2, seed=1, requires_grad=True):
    minidl.manual_seed(seed)
    return minidl.randn(3, C, 11, 10, requires_grad=requires_grad)


def activated(x, weight, bias, seen):
    return seen(F.relu(seen(F.conv2d(x, weight, bias, padding=1))))


def pooled(x, weight, bias, seen):
    return seen(F.max_pool2d(activated(x, weight, bias, seen), 2))


def used_twice(x, weight, bias, seen):
    h = activated(x, weight, bias, seen)
    return F.max_pool2d(h, 2).sum() + (h * h).sum()


def convolution_used_twice(x, weight, bias, seen):
    h = seen(F.conv2d(x, weight, bias, padding=1))
    return F.max_pool2d(seen(F.relu(h)), 2).sum() + h.mean() + F.relu(h).sum()


def pooled_twice(x, weight, bias, seen):
    h = activated(x, weight, bias, seen)
    return (F.max_pool2d(h, 2) * F.max_pool2d(h, 2)).sum()


def other_pooling(x, weight, bias, seen):
    return F.max_pool2d(activated(x, weight, bias, seen), 3, 1, 1).sum()


def with_indices(x, weight, bias, seen):
    values, indices = F.max_pool2d(activated(x, weight, bias, seen), 2, return_indices=True)
    return (values * indices).sum()


def two_layers(x, weight, bias, seen):
    second = weight.detach().permute(1, 0, 2, 3) * 0.5
    h = pooled(x, weight, bias, seen)
    return pooled(h, minidl.cat([second] * 3), bias[:1].expand(6) * 1, seen).sum()


def viewed(x, weight, bias, seen):
    h = activated(x, weight, bias, seen)
    return F.max_pool2d(h, 2).sum() + h.view(-1)[:7].sum() + h.detach().sum()


def changed_in_place(x, weight, bias, seen):
    h = activated(x, weight, bias, seen)
    h = h * 1
    h.mul_(2)
    return F.max_pool2d(h, 2).sum()


BODIES = [pooled, used_twice, convolution_used_twice, pooled_twice, other_pooling, with_indices, two_layers, viewed,
          changed_in_place]


def result(body, seen, frozen=()):
    """Value and gradients, as arrays."""
    x, (weight, bias) = image(), parameters()
    for tensor, name in ((x, "x"), (weight, "weight"), (bias, "bias")):
        tensor.requires_grad_(name not in frozen)
    output = body(x, weight, bias, seen)
    output = output if output.ndim == 0 else (output * output).sum()
    output.backward()
    return [output.item(), *(None if t.grad is None else t.grad.numpy() for t in (x, weight, bias))]


@pytest.mark.parametrize("frozen", [(), ("x",), ("weight",), ("bias",), ("x", "bias")], ids=str)
@pytest.mark.parametrize("body", BODIES)
def test_values_and_gradients_have_the_same_bits(body, frozen):
    with use_conv_kernel(None, "direct_rows", "direct_rows"):
        for one, two in zip(result(body, look, frozen), result(body, leave, frozen), strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("body", BODIES)
def test_gradients_of_the_chosen_kernels_differ_by_rounding(body):
    """What leaves out the zeros behind a pooling adds up a few hundred products in another order."""
    for one, two in zip(result(body, look), result(body, leave), strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=2e-6 * np.abs(one).max())


def test_it_does_wait_and_is_fused():
    x, (weight, bias) = image(), parameters()
    calls = record_calls(lambda: pooled(x, weight, bias, leave).sum().backward())
    assert calls.count("conv2d_relu_max_pool2d") == calls.count("conv2d_relu_max_pool2d_backward") == 1
    assert not {"conv2d", "relu", "max_pool2d", "conv2d_backward_weight"} & set(calls)
    assert "conv2d_relu" in record_calls(lambda: look(activated(x, weight, bias, leave)))


def record_calls(function):
    with recording(minidl.ones(1)._backend, []) as record:
        function()
    return [call.name for call in record.calls]


def test_the_tape_has_every_node():
    x, (weight, bias) = image(), parameters()
    node = pooled(x, weight, bias, leave).grad_fn
    names = []
    while node is not None and hasattr(node, "next_functions"):
        names.append(node.name())
        node = node.next_functions[0][0]
    assert names == ["MaxPool2DWithIndicesBackward0", "ReluBackward0", "ConvolutionBackward0"]


def test_shape_dtype_and_text_are_those_of_the_result():
    x, (weight, bias) = image(), parameters()
    h = F.conv2d(x, weight, bias)
    assert h.shape == (3, 5, 9, 8) and h.dtype == minidl.float32 and h.ndim == 4 and h.numel() == 1080
    assert h.requires_grad and not h.is_leaf
    assert repr(h).endswith("grad_fn=<ConvolutionBackward0>)")


@pytest.mark.parametrize("where", ["convolution", "relu"])
def test_hooks_and_kept_gradients_see_dense_ones(where):
    def gradients(seen):
        x, (weight, bias) = image(), parameters()
        h = seen(F.conv2d(x, weight, bias, padding=1))
        r = seen(F.relu(h))
        watched = h if where == "convolution" else r
        heard = []
        watched.register_hook(lambda grad: heard.append(grad.clone().numpy()))
        watched.retain_grad()
        (F.max_pool2d(r, 2) + 1).square().sum().backward()  # also where all of a window is zero
        return heard[0], watched.grad.numpy(), weight.grad.numpy(), x.grad.numpy()

    for one, two in zip(gradients(look), gradients(leave), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_hook_may_replace_the_gradient():
    def gradient(seen):
        x, (weight, bias) = image(), parameters()
        r = activated(x, weight, bias, seen)
        r.register_hook(lambda grad: grad * 3)
        F.max_pool2d(r, 2).sum().backward()
        return weight.grad.numpy()

    np.testing.assert_array_equal(gradient(look), gradient(leave))


def test_the_gradient_of_an_intermediate_result():
    def gradient(seen):
        x, (weight, bias) = image(), parameters()
        r = activated(x, weight, bias, seen)
        return minidl.autograd.grad((F.max_pool2d(r, 2) + 1).square().sum(), [r, weight])

    for one, two in zip(gradient(look), gradient(leave), strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


@pytest.mark.parametrize("body", [pooled, used_twice, two_layers])
def test_second_derivatives(body):
    def second(seen):
        x, (weight, bias) = image(), parameters()
        output = body(x, weight, bias, seen)
        first = minidl.autograd.grad((output * output).sum(), [x, weight], create_graph=True)
        sum((each * each).sum() for each in first).backward()
        return x.grad.numpy(), weight.grad.numpy(), bias.grad.numpy()

    for one, two in zip(second(look), second(leave), strict=True):
        # the same operations on equal numbers, but sums of gradients may come in another order
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5 * np.abs(one).max())


def test_backward_twice_with_a_kept_graph():
    x, (weight, bias) = image(), parameters()
    output = pooled(x, weight, bias, leave).sum()
    output.backward(retain_graph=True)
    once = weight.grad.numpy().copy()
    output.backward()
    np.testing.assert_array_equal(weight.grad.numpy(), 2 * once)
    with pytest.raises(RuntimeError, match="second time"):
        output.backward()


# ---- nothing changes an argument while a result waits


def test_an_argument_that_is_changed_in_place():
    for changed in range(3):
        arguments = [image(requires_grad=False), *(p.detach() for p in parameters())]
        expected = look(F.conv2d(*arguments)).numpy().copy()
        waiting = F.conv2d(*arguments)
        arguments[changed].mul_(3)
        np.testing.assert_array_equal(waiting.numpy(), expected)


def test_a_view_of_an_argument_that_is_changed_in_place():
    x, (weight, bias) = image(requires_grad=False), parameters()
    with minidl.no_grad():
        expected = look(F.relu(F.conv2d(x, weight, bias))).numpy().copy()
        waiting = F.relu(F.conv2d(x, weight, bias))
        x[0, 0, :2] = 9.0
        np.testing.assert_array_equal(waiting.numpy(), expected)


def test_a_convolution_that_is_changed_in_place_after_its_relu():
    x, (weight, bias) = image(requires_grad=False), parameters()
    with minidl.no_grad():
        expected = look(F.relu(look(F.conv2d(x, weight, bias)))).numpy().copy()
        h = F.conv2d(x, weight, bias)
        r = F.relu(h)
        h.zero_()
        np.testing.assert_array_equal(r.numpy(), expected)
        assert not h.any()


def test_an_optimizer_step_before_anybody_looked():
    x, (weight, bias) = image(requires_grad=False), parameters()
    expected = look(F.conv2d(x, weight, bias)).detach().numpy().copy()
    waiting = F.conv2d(x, weight, bias)
    weight.grad, bias.grad = minidl.ones_like(weight), minidl.ones_like(bias)
    minidl.optim.SGD([weight, bias], lr=1.0).step()
    np.testing.assert_array_equal(waiting.detach().numpy(), expected)


def test_a_compiled_step_before_anybody_looked():
    x, (weight, bias) = image(requires_grad=False), parameters()
    run = minidl.compile(lambda by: weight.detach().add_(by))
    by = minidl.ones(1)
    for _ in range(4):
        run(by)
    assert run.fallback_reason is None
    expected = look(F.conv2d(x, weight, bias)).detach().numpy().copy()
    waiting = F.conv2d(x, weight, bias)
    run(by)
    np.testing.assert_array_equal(waiting.detach().numpy(), expected)


@pytest.mark.parametrize("expose", [
    lambda x: x.numpy(), np.asarray, lambda x: np.from_dlpack(x), lambda x: x[0].numpy(),
    lambda x: minidl.autograd.enable_grad()(x.detach)().numpy(),
])
def test_memory_that_numpy_has_is_read_at_once(expose):
    x, (weight, bias) = image(requires_grad=False), parameters()
    memory = expose(x)
    with minidl.no_grad():
        expected = look(F.conv2d(x, weight, bias)).numpy().copy()
        waiting = F.conv2d(x, weight, bias)
        if memory.flags.writeable:
            memory[...] = 0
        np.testing.assert_array_equal(waiting.numpy(), expected)


def test_memory_that_numpy_gets_while_a_result_waits():
    x, (weight, bias) = image(requires_grad=False), parameters()
    with minidl.no_grad():
        expected = look(F.conv2d(x, weight, bias)).numpy().copy()
        waiting = F.conv2d(x, weight, bias)
        x.numpy()[...] = 0
        np.testing.assert_array_equal(waiting.numpy(), expected)


def test_foreign_memory_is_read_at_once():
    memory = np.random.default_rng(0).standard_normal((2, 2, 8, 8), np.float32)
    weight, bias = (p.detach() for p in parameters())
    expected = look(F.conv2d(minidl.from_numpy(memory), weight, bias)).numpy().copy()
    waiting = F.conv2d(minidl.from_numpy(memory), weight, bias)
    memory[...] = 0
    np.testing.assert_array_equal(waiting.numpy(), expected)


def test_the_result_itself_may_be_changed_in_place():
    x, (weight, bias) = image(), parameters()

    def gradient(seen):
        x.grad = weight.grad = None
        h = seen(F.conv2d(x, weight, bias))
        h.mul_(2)
        seen(F.relu(h)).sum().backward()
        return weight.grad.numpy()

    np.testing.assert_array_equal(gradient(look), gradient(leave))


def test_a_saved_result_that_is_changed_in_place_is_an_error():
    x, (weight, bias) = image(), parameters()
    r = F.relu(F.conv2d(x, weight, bias))
    output = r.sum()
    r.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.backward()


# ---- what is wrong is said at the call; nothing is left behind


def test_a_wrong_bias_is_refused_at_once():
    x, (weight, _) = image(), parameters()
    with pytest.raises(RuntimeError, match=r"bias \(4,\), expected \(5,\)"):
        F.conv2d(x, weight, minidl.zeros(4))


def test_copies_of_a_result_that_waits():
    x, (weight, bias) = image(requires_grad=False), [p.detach() for p in parameters()]
    expected = look(F.conv2d(x, weight, bias))
    for copied in (copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t)), lambda t: t.clone(), lambda t: t.data,
                   lambda t: t.detach(), lambda t: t.to(minidl.float64).float(), minidl.Tensor.contiguous):
        assert minidl.equal(copied(F.conv2d(x, weight, bias)), expected)


def test_no_memory_and_no_cycle_is_left_behind():
    net = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU())
    x = minidl.rand(4, 1, 16, 16)

    def step(backward):
        output = net(x)
        if backward:
            output.sum().backward()
            net.zero_grad()

    step(True)
    gc.collect()
    gc.disable()
    try:
        before = minidl.memory_stats()["in_use"]
        for backward in (True, False, True, False):
            step(backward)
            assert minidl.memory_stats()["in_use"] == before
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_threads_have_results_that_wait_at_once():
    x, (weight, bias) = image(requires_grad=False), parameters()
    with minidl.no_grad():
        expected = look(F.relu(F.conv2d(x, weight, bias))).numpy()
    failures = []

    def work():
        with minidl.no_grad():
            for _ in range(200):
                waiting = [F.relu(F.conv2d(x, weight, bias)) for _ in range(3)]
                del waiting[1]
                if not all(np.array_equal(each._raw, expected) for each in waiting):
                    failures.append(1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("place", [0, 1])
def test_backward_hooks_of_modules_see_dense_gradients(place):
    def gradients(hooked, seen):
        minidl.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU())
        heard = []
        if hooked:
            net[place].register_full_backward_hook(lambda module, into, out: heard.append(out[0].clone().numpy()))
        output = F.max_pool2d(seen(net(minidl.rand(2, 1, 12, 12))), 2)
        (output + 1).square().sum().backward()
        return net[0].weight.grad.numpy(), heard

    plain, _ = gradients(False, look)
    looked, expected = gradients(True, look)
    waited, heard = gradients(True, leave)
    np.testing.assert_array_equal(plain, waited)
    np.testing.assert_array_equal(looked, waited)
    np.testing.assert_array_equal(heard[0], expected[0])
