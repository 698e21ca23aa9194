"""Random programs of views and in-place changes do what they do in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import view_programs

import minidl

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
