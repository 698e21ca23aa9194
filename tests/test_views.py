"""Views: who shares memory with whom, and what an in-place change through any of them does to values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import view_programs

import minidl


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def matrix(lib, requires_grad=False):
    x = lib.from_numpy(np.arange(1.0, 13.0).reshape(3, 4))
    return x.requires_grad_() if requires_grad else x


# ---- sharing ------------------------------------------------------------------------------------------------------

VIEWS = {
    "view": lambda x: x.view(4, 3),
    "view -1": lambda x: x.view(-1),
    "view_as": lambda x: x.view_as(x.reshape(2, 6)),
    "reshape": lambda x: x.reshape(2, 6),
    "ravel": lambda x: x.ravel(),
    "flatten": lambda x: x.flatten(),
    "unflatten": lambda x: x.unflatten(1, (2, 2)),
    "permute": lambda x: x.permute(1, 0),
    "transpose": lambda x: x.transpose(0, 1),
    "t": lambda x: x.t(),
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "movedim": lambda x: x.movedim(0, 1),
    "squeeze": lambda x: x.squeeze(),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "expand": lambda x: x.expand(2, 3, 4),
    "expand_as": lambda x: x.expand_as(x.unsqueeze(0).repeat(2, 1, 1)),
    "narrow": lambda x: x.narrow(1, 1, 2),
    "select": lambda x: x.select(0, 1),
    "index": lambda x: x[1],
    "indices": lambda x: x[1, 2],
    "slice": lambda x: x[1:, ::2],
    "slices from the back": lambda x: x[-2:, -3:-1],
    "empty slice": lambda x: x[3:],
    "ellipsis": lambda x: x[...],
    "none": lambda x: x[:, None, 1:],
    "split": lambda x: x.split(2, 1)[1],
    "chunk": lambda x: x.chunk(2)[1],
    "unbind": lambda x: x.unbind(1)[2],
    "iteration": lambda x: list(x)[2],
    "diagonal of views": lambda x: x[1:].t()[::2, 1],
    "detach": lambda x: x.detach(),
    "data": lambda x: x.data,
}


@pytest.mark.torch
@pytest.mark.parametrize("name", VIEWS)
def test_shape_strides_and_offset_are_pytorchs(name, torch):
    described = []
    for lib in (minidl, torch):
        x = matrix(lib)
        v = VIEWS[name](x)
        # An expanded dimension of size one or none at all may have any stride.
        strides = [s for s, n in zip(v.stride(), v.shape, strict=True) if n > 1]
        start = (v.data_ptr() - x.data_ptr()) // 8 if v.numel() else None
        described.append((tuple(v.shape), strides, v.is_contiguous(), v.storage_offset() if v.numel() else None, start,
                          None if v._base is None else v._base is x))
    assert described[0] == described[1]


@pytest.mark.parametrize("name", [name for name in VIEWS if name != "expand" and name != "expand_as"])
def test_a_change_through_a_view_is_seen_by_base_and_siblings(name):
    x = matrix(minidl)
    sibling, v = x.view(2, 6), VIEWS[name](x)
    before = x.numpy().copy()
    version = x._version
    v.add_(100.0)
    assert x._version == v._version == sibling._version == version + 1
    changed = x.numpy() - before
    assert changed.sum() == pytest.approx(100.0 * v.numel())
    np.testing.assert_array_equal(sibling.numpy().reshape(3, 4), x.numpy())
    x.mul_(2.0)
    np.testing.assert_array_equal(VIEWS[name](x).numpy(), v.numpy())
    assert v._version == version + 2


def test_a_change_of_the_base_is_seen_by_an_expanded_tensor():
    x = minidl.tensor([[1.0], [2.0]])
    v = x.expand(2, 3)
    x.mul_(10.0)
    assert v.tolist() == [[10.0] * 3, [20.0] * 3]
    assert v._version == x._version and v._base is x


def test_an_expanded_tensor_cannot_be_written_to():
    x = minidl.zeros(1, 3)
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor refers to a single memory"):
        x.expand(2, 3).add_(1.0)
    with pytest.raises(RuntimeError, match="single memory location"):
        x.expand(2, 3)[0, 0] = 1.0 if x.expand(2, 3)[0, 0].ndim else x.expand(2, 3)[:, 0].add_(1.0)
    assert x.tolist() == [[0.0, 0.0, 0.0]]


COPIES = {
    "clone": lambda x: x.clone(),
    "advanced index": lambda x: x[[0, 1, 2]],
    "mask": lambda x: x[x > 0],
    "index_select": lambda x: x.index_select(0, minidl.tensor([0, 1])),
    "flip": lambda x: x.flip(0),
    "roll": lambda x: x.roll(1, 0),
    "repeat": lambda x: x.repeat(1, 1),
    "cat": lambda x: minidl.cat([x]),
    "stack": lambda x: minidl.stack([x]),
    "contiguous of a transpose": lambda x: x.t().contiguous(),
    "reshape that cannot be a view": lambda x: x.t().reshape(-1),
    "add": lambda x: x + 0,
    "relu": lambda x: x.relu(),
    "to": lambda x: x.to(minidl.float32),
    "to copy": lambda x: x.to(minidl.float64, copy=True),
    "tensor": lambda x: minidl.tensor(x),
    "maximum": lambda x: minidl.maximum(x, x),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_shares_nothing(name):
    x = matrix(minidl)
    y = COPIES[name](x)
    before = x.numpy().copy()
    y.zero_()
    np.testing.assert_array_equal(x.numpy(), before)
    assert y._base is None and x._version == 0


def test_what_changes_nothing_is_the_tensor_itself():
    x = matrix(minidl)
    assert x.contiguous() is x and x.to(minidl.float64) is x and x.double() is x and x.cpu() is x


@pytest.mark.parametrize(
    "make",
    [lambda x: x.t().view(-1), lambda x: x[:, :3].view(-1), lambda x: x.expand(2, 3, 4).view(-1),
     lambda x: x.permute(1, 0).view(2, 6)],
)
def test_view_says_when_only_a_copy_could_have_the_shape(make):
    with pytest.raises(RuntimeError, match=r"view size is not compatible with input tensor's size and stride.*reshape"):
        make(matrix(minidl))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: x.view(5, 2), r"shape '\[5, 2\]' is invalid for input of size 12"),
        (lambda x: x.view(5, -1), r"shape '\[5, -1\]' is invalid for input of size 12"),
        (lambda x: x.view(-1, -1), "only one dimension can be inferred"),
        (lambda x: x.reshape(-2, -6), "invalid"),
        (lambda x: x.expand(2, 4), "expand"),
        (lambda x: x.expand(4), "expand"),
        (lambda x: x.permute(0, 0), "permute"),
        (lambda x: x.narrow(0, 2, 2), "exceeds dimension size"),
        (lambda x: x.unsqueeze(0).t(), r"t\(\) expects a tensor with <= 2 dimensions"),
    ],
)
def test_views_that_do_not_fit_say_why(make, message):
    with pytest.raises(RuntimeError, match=message):
        make(matrix(minidl))


@pytest.mark.parametrize("make", [
    lambda x: x.select(0, 3), lambda x: x.transpose(0, 2), lambda x: x.unsqueeze(4), lambda x: x.squeeze(2),
    lambda x: x[3], lambda x: x[0, 0, 0], lambda x: x.flatten(0, 2),
])
def test_dimensions_and_indices_out_of_range_are_index_errors(make):
    with pytest.raises(IndexError):
        make(matrix(minidl))


# ---- in-place changes of views on the tape --------------------------------------------------------------------------


def _base_changed_then_view_used(lib, a, b):
    x = a * 1.0
    v = x[1]
    x.mul_(b)
    return (v * v).sum() + x.sum()


def _views_of_views_changed_twice(lib, a, b):
    x = a * 1.0
    v = x[1:]
    w = v.t()[1:3]
    w.mul_(b[:2])
    v.add_(b)
    w.sin_()
    return (x * x).sum() + (w * 3).sum() + v.sum()


def _siblings(lib, a, b):
    x = a * 1.0
    first, second = x.view(-1)[:6], x.view(2, 6)[0]
    first.mul_(2.0)
    second.add_(b[0])
    return (first * second).sum() + (x * x).sum()


def _views_made_before_the_base_requires_grad(lib, a, b):
    x = lib.zeros(3, 4, dtype=lib.float64)
    v, w = x[0], x.view(-1)
    x[1:] = a[1:] * 2
    assert v.requires_grad and w.requires_grad and x.requires_grad
    return (w * w).sum() + (v * b).sum()


def _slice_assigned_into_what_needed_no_gradient(lib, a, b):
    x = lib.ones(3, 4, dtype=lib.float64)
    x[0] = b
    x[:, 1] = a[:, 2]
    x[2, 3] = (a * a).sum()
    return (x * x).sum()


def _assigned_twice_to_one_place(lib, a, b):
    x = a * 1.0
    x[0] = b
    x[0] = b * b
    return (x * x).sum()


def _broadcast_assignment(lib, a, b):
    x = a * 1.0
    x[:] = b
    x[1:, 2] = b[0]
    return (x * x * a).sum()


def _view_of_the_result_of_a_view(lib, a, b):
    x = (a * 1.0).t()
    x[0].mul_(b[0])
    y = x.reshape(2, 2, 3)[1]
    y.mul_(b[1])
    return (x * x).sum() + (y * y).sum()


def _zero_and_fill(lib, a, b):
    x = a * 2.0
    v = x[:, 1:]
    v.zero_()
    v[0].fill_(3.0)
    v[1].add_(b[1:])
    return (x * x).sum()


def _through_a_clone(lib, a, b):
    x = a.clone()
    v = x[0]
    m = v + b
    x += m * b
    return (m + v).sum() + (x * x).sum()


def _swap(lib, a, b):
    x = a * 1.0
    keep = x[0].clone()
    x[0] = x[1].clone()
    x[1] = keep * b
    return (x * x * lib.from_numpy(np.arange(12.0).reshape(3, 4))).sum()


def _in_place_on_itself(lib, a, b):
    x = a * 1.0
    x.add_(x)
    x[0].sub_(x[0])
    x.mul_(x.clone())
    return (x * x).sum() + (x[1] * b).sum()


def _mask_and_list(lib, a, b):
    x = a * 1.0
    x[x > 5.5] = 0.5
    x[[0, 2]] = b * 2.0
    v = x.view(-1)
    v[lib.tensor([1, 7])] = b[:2] * a[0, :2]
    return (x * x).sum()


def _loop_of_rows(lib, a, b):
    state = lib.zeros(4, 4, dtype=lib.float64)
    for i in range(3):
        state[i + 1] = state[i].clone() * b + a[i]
    return (state * state).sum()


def _view_kept_while_the_base_name_moves_on(lib, a, b):
    x = a * 1.0
    v = x[0]
    x = x.mul_(2.0)
    x = x + 0.0
    v.mul_(b)
    return (v * v).sum() + (x * x).sum()


def _detached_change(lib, a, b):
    x = a * 1.0
    y = x * 2.0
    x.detach()[0] = 7.0
    return (y * b).sum() + (x * b).sum()


def _expanded_reading(lib, a, b):
    x = b * 1.0
    e = x.expand(3, 4)
    x[1:].mul_(a[0, 1:])
    return (e * a).sum()


PROGRAMS = [
    _base_changed_then_view_used, _views_of_views_changed_twice, _siblings, _views_made_before_the_base_requires_grad,
    _slice_assigned_into_what_needed_no_gradient, _assigned_twice_to_one_place, _broadcast_assignment,
    _view_of_the_result_of_a_view, _zero_and_fill, _through_a_clone, _swap, _in_place_on_itself, _mask_and_list,
    _loop_of_rows, _view_kept_while_the_base_name_moves_on, _detached_change, _expanded_reading,
]


def gradients(lib, program):
    a, b = matrix(lib, True), lib.from_numpy(np.array([0.5, -1.0, 2.0, 1.5])).requires_grad_()
    result = program(lib, a, b)
    result.backward()
    return [result.item(), *(None if x.grad is None else x.grad.numpy() for x in (a, b))]


@pytest.mark.torch
@pytest.mark.parametrize("program", PROGRAMS)
def test_in_place_programs_have_pytorchs_gradients(program, torch):
    for got, expected in zip(gradients(minidl, program), gradients(torch, program), strict=True):
        assert (got is None) == (expected is None)
        if expected is not None:
            np.testing.assert_allclose(got, expected, rtol=1e-12)


DIFFERENTIABLE = [program for program in PROGRAMS if program is not _detached_change]


@pytest.mark.parametrize("program", DIFFERENTIABLE)
def test_in_place_programs_agree_with_finite_differences(program):
    a, b = matrix(minidl, True), minidl.tensor([0.5, -1.0, 2.0, 1.5], dtype=minidl.float64, requires_grad=True)
    minidl.autograd.gradcheck(lambda a, b: program(minidl, a, b), (a, b), eps=1e-6, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("program", DIFFERENTIABLE)
def test_in_place_programs_can_be_differentiated_twice(program):
    a, b = matrix(minidl, True), minidl.tensor([0.5, -1.0, 2.0, 1.5], dtype=minidl.float64, requires_grad=True)
    minidl.autograd.gradgradcheck(lambda a, b: program(minidl, a, b), (a, b), eps=1e-6, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("make", [
    lambda x: x.add_(1.0), lambda x: x.__setitem__(0, 1.0), lambda x: x.zero_(), lambda x: x.copy_(x.detach()),
    lambda x: x.__imul__(2.0), lambda x: x.masked_fill_(x > 0, 0.0), lambda x: x.__setitem__([0], 1.0),
    lambda x: x.uniform_(), lambda x: x[0].add_(1.0), lambda x: x.view(-1)[2:].relu_(), lambda x: x.t().zero_(),
])
def test_a_leaf_that_requires_grad_cannot_be_changed_in_place(make):
    x = matrix(minidl, True)
    before = x.detach().numpy().copy()
    with pytest.raises(RuntimeError, match=r"a (view of a )?leaf Variable that requires grad is being used in an "
                                           "in-place operation"):
        make(x)
    np.testing.assert_array_equal(x.detach().numpy(), before)
    assert x._version == 0
    with minidl.no_grad():
        make(x)
    assert x._version == 1 and x.is_leaf and x.requires_grad


def test_a_view_made_without_recording_cannot_be_changed_on_the_tape():
    a = matrix(minidl, True)
    x = minidl.zeros(3, 4, dtype=minidl.float64)
    with minidl.no_grad():
        v = x[0]
    assert v._base is x
    v.add_(1.0)
    with pytest.raises(RuntimeError, match="view was created in no_grad mode and is being modified inplace"):
        v.mul_(a[0])
    with pytest.raises(RuntimeError, match="view was created in no_grad mode"):
        v.view(2, 2).mul_(a[0, :2])
    assert v.tolist() == [1.0] * 4 and not x.requires_grad


def test_a_view_made_without_recording_stays_off_the_tape():
    """PyTorch calls such a view a leaf that requires grad; here it is what no_grad promises, like ``detach()``."""
    x = matrix(minidl, True) * 1.0
    with minidl.no_grad():
        v = x[0]
    assert not v.requires_grad
    x.mul_(2.0)
    assert not v.requires_grad and v.tolist() == [2.0, 4.0, 6.0, 8.0]


def test_a_view_of_a_leaf_follows_a_change_made_without_recording():
    """An optimizer step changes the leaf; a view of it that was made before gives the new numbers and gradients."""
    p = matrix(minidl, True)
    v = p[0]
    with minidl.no_grad():
        p.mul_(10.0)
    (v * v).sum().backward()
    assert p.grad.tolist() == [[20.0, 40.0, 60.0, 80.0], [0.0] * 4, [0.0] * 4]


def test_a_detached_tensor_keeps_its_own_history():
    x = matrix(minidl, True) * 1.0
    d = x.detach()
    assert d._base is None and not d.requires_grad
    d.requires_grad_()
    d2 = d * 2.0
    d2.sum().backward()
    assert d.grad.tolist() == [[2.0] * 4] * 3


def test_grad_fn_of_a_changed_view():
    x = matrix(minidl, True) * 1.0
    v = x[0]
    x.mul_(2.0)
    assert x.grad_fn.name() == "MulBackward0" and v.grad_fn.name().startswith(("Select", "Slice"))
    v.add_(1.0)
    assert x.grad_fn.name() == "CopySlices"


def test_a_base_that_is_not_row_major_is_followed_through_its_flat_view():
    """The memory of the base lies column by column: the flat view is one only for exactly these strides."""
    w = minidl.tensor([1.0, 2.0, 3.0, 4.0], dtype=minidl.float64, requires_grad=True)
    base = minidl.from_numpy(np.arange(12.0).reshape(4, 3).T)
    flat = base.t().view(-1)
    flat[2:6].mul_(w)
    assert base.requires_grad
    (base * base).sum().backward()
    assert w.grad.tolist() == [2.0 * w * n * n for w, n in zip([1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0], strict=True)]


# ---- random programs ------------------------------------------------------------------------------------------------

LENGTHS = [3] * 60 + [6] * 60 + [10] * 60 + [16] * 40


def outcome(lib, program):
    a, b = view_programs.leaves(lib)
    tensors, errors = program.run(lib, a, b)
    flags = [tensor.requires_grad for tensor in tensors]
    values = [np.array(tensor.detach().numpy()) for tensor in tensors]
    try:
        total = view_programs.loss(lib, tensors)
        if total.requires_grad:
            total.backward()
        message = ""
    except RuntimeError as error:
        message = str(error)
    grads = [None if x.grad is None else x.grad.numpy() for x in (a, b)]
    return errors, flags, values, message, grads


@pytest.mark.torch
@pytest.mark.parametrize("seed", range(len(LENGTHS)))
def test_random_programs_do_what_they_do_in_pytorch(seed, torch):
    """Values, errors, ``requires_grad`` and gradients; sums of at most some hundred terms, hence 1e-8."""
    program = view_programs.draw(seed, LENGTHS[seed], differentiable=False)
    errors, flags, values, message, grads = outcome(minidl, program)
    their_errors, their_flags, their_values, their_message, their_grads = outcome(torch, program)
    assert errors == their_errors, str(program)
    assert flags == their_flags, str(program)
    for i, (got, expected) in enumerate(zip(values, their_values, strict=True)):
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-8, err_msg=f"t{i} of\n{program}")
    assert bool(message) == bool(their_message), f"{message!r} {their_message!r}\n{program}"
    if message:
        assert "modified by an inplace operation" in message
        return
    for got, expected in zip(grads, their_grads, strict=True):
        assert (got is None) == (expected is None), str(program)
        if got is not None:
            np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-8, err_msg=str(program))


def test_random_programs_reach_every_kind_of_end():
    """The generator is worth something only if most programs end in gradients, some in the error of a saved tensor."""
    ends = {"gradients": 0, "error": 0, "nothing": 0}
    for seed in range(80):
        _, _, _, message, grads = outcome(minidl, view_programs.draw(seed, 8, differentiable=False))
        ends["error" if message else "gradients" if any(g is not None for g in grads) else "nothing"] += 1
    assert ends["gradients"] > 40 and ends["error"] > 5


@pytest.mark.parametrize("seed", range(80))
def test_random_programs_agree_with_finite_differences(seed):
    """Needs no other library: central differences in float64, step 1e-6, leave an error of 1e-9 times the curvature."""
    program = view_programs.draw(1000 + seed, 8, differentiable=True)

    def run(a, b):
        tensors, _ = program.run(minidl, a, b)
        return view_programs.loss(minidl, tensors)

    leaves = view_programs.leaves(minidl)
    total = run(*leaves)
    refusal = ""
    try:
        if total.requires_grad:
            total.backward()
    except RuntimeError as error:
        refusal = str(error)
    if refusal:
        assert "modified by an inplace operation" in refusal
        return
    values = [leaf.detach().numpy() for leaf in leaves]
    for which, leaf in enumerate(leaves):
        numeric = np.zeros(leaf.shape)
        for place in np.ndindex(*leaf.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [value.copy() for value in values]
                moved[which][place] += step
                ends.append(run(*view_programs.leaves(minidl, *moved)).item())
            numeric[place] = (ends[0] - ends[1]) / 2e-6
        got = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy()
        scale = max(1.0, np.abs(numeric).max())
        np.testing.assert_allclose(got, numeric, rtol=1e-5, atol=1e-5 * scale, err_msg=str(program))
