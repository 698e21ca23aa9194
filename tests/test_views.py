"""Views: who shares memory with whom, and how long."""

from __future__ import annotations

import numpy as np
import pytest
from tape_parts import matrix

import minidl

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
