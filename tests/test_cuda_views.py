"""Views and in-place changes on the GPU do what they do on the CPU: values, errors, flags and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import view_programs
from tape_parts import matrix
from test_inplace_views import PROGRAMS
from test_random_view_programs import LENGTHS
from test_views import VIEWS

import minidl

pytestmark = pytest.mark.cuda


class OnDevice:
    """minidl with new tensors on a device."""

    def __init__(self, device):
        self.device = device

    def __getattr__(self, name):
        return getattr(minidl, name)

    def from_numpy(self, array):
        return minidl.from_numpy(array).to(self.device)

    def zeros(self, *sizes, **options):
        return minidl.zeros(*sizes, **options, device=self.device)

    def ones(self, *sizes, **options):
        return minidl.ones(*sizes, **options, device=self.device)


def both(call):
    """The result of ``call(lib, device)`` on the CPU and on the GPU."""
    return [call(OnDevice(device)) for device in ("cpu", "cuda")]


def outcome(lib, program):
    a, b = view_programs.leaves(lib)
    tensors, errors = program.run(lib, a, b)
    described = [(t.requires_grad, tuple(t.shape), t.is_contiguous(), t._base is None, t._version) for t in tensors]
    values = [t.detach().cpu().numpy().copy() for t in tensors]
    try:
        total = view_programs.loss(lib, tensors)
        if total.requires_grad:
            total.backward()
        message = ""
    except RuntimeError as error:
        message = str(error)
    grads = [None if x.grad is None else x.grad.cpu().numpy() for x in (a, b)]
    return errors, described, values, message, grads


@pytest.mark.parametrize("seed", range(len(LENGTHS)))
def test_random_programs_do_what_they_do_on_the_cpu(gpu, seed):
    """Sums of at most some hundred terms in float64, hence 1e-8."""
    program = view_programs.draw(seed, LENGTHS[seed], differentiable=False)
    expected, got = both(lambda lib: outcome(lib, program))
    assert got[0] == expected[0], str(program)
    assert got[1] == expected[1], str(program)
    for i, (one, other) in enumerate(zip(got[2], expected[2], strict=True)):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8, err_msg=f"t{i} of\n{program}")
    assert got[3] == expected[3], str(program)
    if not got[3]:
        for one, other in zip(got[4], expected[4], strict=True):
            assert (one is None) == (other is None), str(program)
            if one is not None:
                np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8, err_msg=str(program))


@pytest.mark.parametrize("name", VIEWS)
def test_shape_strides_and_offset_are_the_cpus(gpu, name):
    def described(lib):
        x = matrix(lib)
        v = VIEWS[name](x)
        strides = [s for s, n in zip(v.stride(), v.shape, strict=True) if n > 1]
        start = (v.data_ptr() - x.data_ptr()) // 8 if v.numel() else None
        return (tuple(v.shape), strides, v.is_contiguous(), v.storage_offset() if v.numel() else None, start,
                v._base is x, v.tolist(), v.device.type == lib.device)

    assert len(set(map(str, both(described)))) == 1


@pytest.mark.parametrize("program", PROGRAMS)
def test_in_place_programs_have_the_cpus_gradients(gpu, program):
    def gradients(lib):
        a, b = matrix(lib, True), lib.from_numpy(np.array([0.5, -1.0, 2.0, 1.5])).requires_grad_()
        result = program(lib, a, b)
        result.backward()
        return [result.item(), *(None if x.grad is None else x.grad.tolist() for x in (a, b))]

    expected, got = both(gradients)
    for one, other in zip(got, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("program", PROGRAMS[::4])
def test_in_place_programs_can_be_differentiated_twice(gpu, program):
    lib = OnDevice("cuda")
    a, b = matrix(lib, True), lib.from_numpy(np.array([0.5, -1.0, 2.0, 1.5])).requires_grad_()
    minidl.autograd.gradgradcheck(lambda a, b: program(lib, a, b), (a, b), eps=1e-6, atol=1e-3, rtol=1e-4)


def test_a_base_that_is_not_row_major_is_followed_through_its_flat_view(gpu):
    def gradient(lib):
        w = lib.from_numpy(np.array([1.0, 2.0, 3.0, 4.0])).requires_grad_()
        base = lib.from_numpy(np.arange(12.0).reshape(4, 3)).t().detach()
        flat = base.t().view(-1)
        flat[2:6].mul_(w)
        (base * base).sum().backward()
        return w.grad.tolist()

    expected, got = both(gradient)
    assert got == expected


def test_views_keep_the_memory_alive(gpu):
    x = minidl.arange(6.0, device="cuda")
    v = x[2:4]
    del x
    others = [minidl.zeros(6, device="cuda") for _ in range(10)]
    assert v.tolist() == [2.0, 3.0] and len(others) == 10


@pytest.mark.parametrize("make", [
    lambda x: x.add_(1.0), lambda x: x.__setitem__(0, 1.0), lambda x: x.masked_fill_(x > 0, 0.0),
    lambda x: x.__setitem__([0], 1.0), lambda x: x[0].add_(1.0), lambda x: x.view(-1)[2:].relu_(),
])
def test_a_leaf_that_requires_grad_cannot_be_changed_in_place(gpu, make):
    x = matrix(OnDevice("cuda"), True)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad is being used in an in-place operation"):
        make(x)
    assert x.tolist() == matrix(minidl).tolist()


def test_expanded_tensors_are_not_written_to(gpu):
    x = minidl.zeros(3, 1, device="cuda").expand(3, 4)
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        x.add_(1.0)
