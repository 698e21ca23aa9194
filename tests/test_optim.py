"""Optimizers: PyTorch's numbers, by stored figures and, where torch is there, by direct comparison."""

import copy
import gc

import numpy as np
import pytest

import minidl
from minidl import optim

SHAPES = [(6, 1, 5, 5), (6,), (), (0, 3), (70, 33), (1,)]
# Both sides round each operation once, in an order that may differ where one of them fuses; 20 steps add up.
RTOL = {"float32": 2e-5, "float64": 1e-13}

SGD_OPTIONS = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
    {"weight_decay": 0.1, "maximize": True},
    {"momentum": 0.5, "nesterov": True, "weight_decay": 0.01, "maximize": True},
]
ADAM_OPTIONS = [
    {},
    {"betas": (0.7, 0.9), "eps": 1e-3},
    {"betas": (0.3, 0.9)},
    {"weight_decay": 0.1},
    {"amsgrad": True, "weight_decay": 0.1},
    {"maximize": True, "amsgrad": True},
]
CASES = ([("SGD", options) for options in SGD_OPTIONS]
         + [(name, options) for name in ("Adam", "AdamW") for options in ADAM_OPTIONS])


def parameter(values, dtype="float64"):
    return minidl.Parameter(minidl.tensor(np.asarray(values, dtype)))


def with_grad(values=(1.0, -2.0, 3.0), grad=(0.5, 0.25, -1.0)):
    p = parameter(values)
    p.grad = minidl.tensor(np.array(grad))
    return p


# --- numbers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name, options", CASES)
def test_twenty_steps_are_torchs(name, options, dtype, torch):
    draw = np.random.RandomState(0)
    starts = [draw.standard_normal(shape).astype(dtype) for shape in SHAPES]
    ours = [parameter(start, dtype) for start in starts]
    theirs = [torch.nn.Parameter(torch.from_numpy(np.array(start))) for start in starts]
    our_optimizer = getattr(optim, name)(ours, lr=0.05, **options)
    their_optimizer = getattr(torch.optim, name)(theirs, lr=0.05, **options)
    for step in range(20):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            grad = draw.standard_normal(p.shape).astype(dtype)
            missing = (i + step) % 5 == 0
            p.grad = None if missing else minidl.tensor(grad)
            q.grad = None if missing else torch.from_numpy(np.array(grad))
        our_optimizer.step()
        their_optimizer.step()
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=RTOL[dtype], atol=RTOL[dtype])


# PyTorch 2.13, float64: three steps from (1, -2, 3) with lr 0.1 down the gradient p**3.
STORED = {
    "SGD": [0.7705185513489, -0.9188160356351999, 0.2946722458682998],
    "SGD momentum": [0.4600019173593164, 0.7868571485187398, -0.781341526394489],
    "Adam": [0.7075128180498821, -1.7025794861609804, 2.7014582416290494],
    "AdamW": [0.6819926794668262, -1.6469441804219302, 2.615971216554321],
    "Adam amsgrad": [0.7067351994933233, -1.7025158847164876, 2.70144335951161],
}


def make(kind, params):
    return {
        "SGD": lambda: optim.SGD(params, lr=0.1),
        "SGD momentum": lambda: optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
        "Adam": lambda: optim.Adam(params, lr=0.1),
        "AdamW": lambda: optim.AdamW(params, lr=0.1, weight_decay=0.1),
        "Adam amsgrad": lambda: optim.Adam(params, lr=0.1, amsgrad=True, weight_decay=0.1),
    }[kind]()


@pytest.mark.parametrize("kind", STORED)
def test_three_steps_have_the_stored_numbers(kind):
    p = parameter([1.0, -2.0, 3.0])
    optimizer = make(kind, [p])
    for _ in range(3):
        p.grad = p.detach() ** 3
        optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), STORED[kind], rtol=1e-13)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_parameters_and_gradients_may_lie_in_memory_in_any_way(name):
    draw = np.random.RandomState(1)
    start, grads = draw.standard_normal((5, 7)), draw.standard_normal((3, 5, 7))
    options = {"momentum": 0.9} if name == "SGD" else {}
    plain = parameter(start)
    turned = minidl.Parameter(minidl.tensor(np.ascontiguousarray(start.T)).t())
    memory = minidl.zeros(10, 14, dtype=minidl.float64)
    memory[::2, ::2] = minidl.tensor(start)
    spread = minidl.Parameter(memory[::2, ::2])
    optimizers = [getattr(optim, name)([p], lr=0.1, **options) for p in (plain, turned, spread)]
    for grad in grads:
        plain.grad = minidl.tensor(grad)
        turned.grad = minidl.tensor(np.repeat(grad, 2, 1))[:, ::2]
        spread.grad = minidl.tensor(np.asfortranarray(grad))
        for optimizer in optimizers:
            optimizer.step()
    for p in (turned, spread):
        assert not p.is_contiguous()
        np.testing.assert_allclose(p.detach().numpy(), plain.detach().numpy(), rtol=1e-14)
    np.testing.assert_array_equal(memory[::2, ::2].numpy(), spread.detach().numpy())
    assert float(memory[1::2].abs().sum()) == 0


def test_an_expanded_gradient():
    p = with_grad()
    p.grad = minidl.tensor(np.array([2.0])).expand(3)
    optim.SGD([p], lr=0.5).step()
    assert p.tolist() == [0.0, -3.0, 2.0]


# --- the tape


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_a_step_between_forward_and_backward_is_an_error(name):
    p = with_grad()
    x = minidl.ones(3, dtype=minidl.float64, requires_grad=True)
    loss = (p * x).sum()
    getattr(optim, name)([p], lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_parameter_that_took_no_part_keeps_its_version():
    p, q = with_grad(), parameter([1.0])
    before = p._version, q._version
    optim.SGD([p, q], lr=0.1, momentum=0.9).step()
    assert (p._version > before[0], q._version) == (True, before[1])


def test_a_step_is_not_recorded():
    p = with_grad()
    memory = p.data_ptr()
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
    optimizer.step()
    assert p.is_leaf and p.requires_grad and p.grad_fn is None and p.data_ptr() == memory
    assert not optimizer.state[p]["momentum_buffer"].requires_grad
    p.grad = (minidl.tensor(np.ones(3), requires_grad=True) * 2).sum() * minidl.ones(3, dtype=minidl.float64)
    assert p.grad.requires_grad
    optimizer.step()
    assert p.is_leaf and not optimizer.state[p]["momentum_buffer"].requires_grad


def test_a_step_makes_no_reference_cycle():
    p = with_grad()
    optimizer = optim.Adam([p])
    gc.collect()
    for _ in range(3):
        optimizer.step()
    assert gc.collect() == 0


def test_training_goes_downhill():
    minidl.manual_seed(0)
    x, w = minidl.randn(50, 4), minidl.randn(4, 1)
    p = minidl.Parameter(minidl.zeros(4, 1))
    optimizer = optim.SGD([p], lr=0.2, momentum=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        loss = ((x @ p - x @ w) ** 2).mean()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), w.numpy(), atol=1e-4)


# --- groups, state


def test_groups_have_hyperparameters_of_their_own():
    p, q, r = with_grad(), with_grad(), with_grad()
    optimizer = optim.SGD([{"params": [p]}, {"params": q, "lr": 0.5}], lr=0.1)
    optimizer.add_param_group({"params": [r], "lr": 0.0})
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.5, 0.0]
    assert optimizer.param_groups[1]["params"] == [q] and optimizer.param_groups[1]["momentum"] == 0
    optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), [0.95, -2.025, 3.1], rtol=1e-15)
    np.testing.assert_allclose(q.detach().numpy(), [0.75, -2.125, 3.5], rtol=1e-15)
    assert r.tolist() == [1.0, -2.0, 3.0]
    optimizer.param_groups[2]["lr"] = 1.0
    optimizer.step()
    assert r.tolist() == [0.5, -2.25, 4.0]


def test_names_are_kept():
    optimizer = optim.SGD([("weight", with_grad()), ("bias", with_grad())])
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    with pytest.raises(ValueError, match="with/without names"):
        optimizer.add_param_group({"params": [with_grad()]})
    with pytest.raises(ValueError, match="Some param names are missing"):
        optim.SGD([("weight", with_grad()), with_grad()])


def test_zero_grad():
    p, q = with_grad(), parameter([1.0])
    optimizer = optim.SGD([p, q])
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0.0, 0.0, 0.0] and q.grad is None
    optimizer.zero_grad()
    assert p.grad is None


def test_a_closure_is_called_with_the_tape_on():
    p = parameter([3.0])
    optimizer = optim.SGD([p], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    with minidl.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == 9.0 and p.tolist() == [0.0]
    assert optimizer.step() is None


def test_state_is_there_for_parameters_that_made_a_step():
    p, q = with_grad(), parameter([1.0])
    optimizer = optim.Adam([p, q])
    optimizer.step()
    optimizer.step()
    assert list(optimizer.state) == [p]
    state = optimizer.state[p]
    assert state["step"] == 2 and state["exp_avg"].shape == state["exp_avg_sq"].shape == p.shape
    assert state["exp_avg"].dtype is minidl.float64
    plain = optim.SGD([with_grad()])
    plain.step()
    assert plain.state_dict()["state"] == {}


def test_momentum_may_be_switched_on_later():
    p, q = with_grad(), with_grad()
    late, fresh = optim.SGD([p], lr=0.1), optim.SGD([q], lr=0.1, momentum=0.9)
    late.param_groups[0]["momentum"] = 0.9
    for _ in range(2):
        late.step()
        fresh.step()
    assert p.tolist() == q.tolist()


@pytest.mark.parametrize("name, options", [("SGD", {"momentum": 0.9}), ("Adam", {"amsgrad": True}), ("AdamW", {})])
def test_a_loaded_state_goes_on_with_the_same_bits(name, options, tmp_path):
    def steps(p, optimizer, first, last):
        for i in range(first, last):
            p.grad = minidl.tensor(np.sin(np.arange(3.0) + i))
            optimizer.step()

    p = parameter([1.0, -2.0, 3.0])
    optimizer = getattr(optim, name)([p], lr=0.1, **options)
    steps(p, optimizer, 0, 3)
    minidl.save({"p": p, "optimizer": optimizer.state_dict()}, tmp_path / "state")
    steps(p, optimizer, 3, 6)

    saved = minidl.load(tmp_path / "state")
    q = minidl.Parameter(saved["p"])
    other = getattr(optim, name)([q], lr=7.0)
    other.load_state_dict(saved["optimizer"])
    assert other.param_groups[0]["lr"] == 0.1
    steps(q, other, 3, 6)
    assert p.tolist() == q.tolist()


def test_a_loaded_state_is_a_copy_of_the_parameters_kind():
    p, q = with_grad(), minidl.Parameter(minidl.ones(3))
    first, second = optim.SGD([p], momentum=0.9), optim.SGD([q], momentum=0.9)
    first.step()
    state = first.state_dict()
    second.load_state_dict(state)
    assert second.state[q]["momentum_buffer"].dtype is minidl.float32
    third = optim.SGD([p], momentum=0.9)
    third.load_state_dict(state)
    third.state[p]["momentum_buffer"].zero_()
    third.param_groups[0]["lr"] = 5
    assert first.state[p]["momentum_buffer"].tolist() == [0.5, 0.25, -1.0] and first.param_groups[0]["lr"] == 1e-3


def test_the_state_has_pytorchs_form(torch):
    p, q, r = with_grad(), with_grad(), parameter([1.0])
    theirs = [torch.nn.Parameter(torch.tensor(v.tolist(), dtype=torch.float64)) for v in (p, q, r)]
    theirs[0].grad = theirs[1].grad = torch.tensor([0.5, 0.25, -1.0], dtype=torch.float64)
    for name in ("SGD", "Adam", "AdamW"):
        options = {"momentum": 0.9} if name == "SGD" else {"amsgrad": True}
        ours = getattr(optim, name)([{"params": [r, p], "lr": 0.3}, {"params": [q]}], lr=0.1, **options)
        other = getattr(torch.optim, name)(
            [{"params": [theirs[2], theirs[0]], "lr": 0.3}, {"params": [theirs[1]]}], lr=0.1, **options)
        ours.step()
        other.step()
        mine, yours = ours.state_dict(), other.state_dict()
        assert list(mine["state"]) == list(yours["state"]) == [1, 2]
        assert mine["state"][1].keys() == yours["state"][1].keys()
        for a, b in zip(mine["param_groups"], yours["param_groups"], strict=True):
            assert a.items() <= b.items()


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_a_state_goes_to_torch_and_comes_back(name, torch):
    options = {"momentum": 0.9, "nesterov": True} if name == "SGD" else {"betas": (0.8, 0.99)}
    p = with_grad()
    ours = getattr(optim, name)([p], lr=0.1, **options)
    ours.step()
    q = torch.nn.Parameter(torch.tensor(p.tolist(), dtype=torch.float64))
    q.grad = torch.tensor(p.grad.tolist(), dtype=torch.float64)
    theirs = getattr(torch.optim, name)([q], lr=5.0)
    state = copy.deepcopy(ours.state_dict())
    for values in state["state"].values():
        values |= {k: torch.from_numpy(v.numpy()) for k, v in values.items() if isinstance(v, minidl.Tensor)}
    theirs.load_state_dict(state)
    ours.step()
    theirs.step()
    np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-14)

    back = getattr(optim, name)([p], lr=3.0)
    state = copy.deepcopy(theirs.state_dict())
    for values in state["state"].values():
        values |= {k: minidl.from_numpy(v.numpy()) for k, v in values.items() if isinstance(v, torch.Tensor)}
    back.load_state_dict(state)
    back.step()
    theirs.step()
    np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-14)


def test_a_state_that_does_not_fit_is_refused():
    p, q = with_grad(), with_grad()
    state = optim.SGD([p, q]).state_dict()
    with pytest.raises(ValueError, match="group 0 has 2 parameters, and the optimizer's has 1"):
        optim.SGD([p]).load_state_dict(state)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optim.SGD([{"params": [p]}, {"params": [q]}]).load_state_dict(state)


def test_repr(torch):
    q = torch.zeros(1, requires_grad=True)
    theirs = repr(torch.optim.SGD([{"params": [q]}], lr=0.1, momentum=0.9)).splitlines()
    ours = repr(optim.SGD([with_grad()], lr=0.1, momentum=0.9)).splitlines()
    # What chooses between implementations in PyTorch has no meaning here.
    assert ours == [line for line in theirs if line.split(":")[0].strip() not in ("differentiable", "foreach", "fused")]


# --- errors


@pytest.mark.parametrize("name, options, message", [
    ("SGD", {"lr": -0.1}, "Invalid learning rate: -0.1"),
    ("SGD", {"lr": float("nan")}, "Invalid learning rate: nan"),
    ("SGD", {"momentum": -1}, "Invalid momentum value: -1"),
    ("SGD", {"weight_decay": -1}, "Invalid weight_decay value: -1"),
    ("SGD", {"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
    ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "Nesterov momentum requires"),
    ("Adam", {"lr": -0.1}, "Invalid learning rate: -0.1"),
    ("Adam", {"eps": -1.0}, "Invalid epsilon value: -1.0"),
    ("Adam", {"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
    ("AdamW", {"betas": (0.9, -0.1)}, "Invalid beta parameter at index 1: -0.1"),
    ("AdamW", {"weight_decay": -1}, "Invalid weight_decay value: -1"),
])
def test_hyperparameters_are_checked(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(optim, name)([with_grad()], **options)


def test_parameters_are_checked():
    p = with_grad()
    with pytest.raises(ValueError, match="optimizer got an empty parameter list"):
        optim.SGD([])
    with pytest.raises(TypeError, match="should be an iterable of Tensors or dicts"):
        optim.SGD(p)
    with pytest.raises(TypeError, match="can only optimize Tensors, but one of the params is float"):
        optim.SGD([1.0])
    with pytest.raises(TypeError, match="ordered collections"):
        optim.SGD([{"params": {p}}])
    with pytest.raises(ValueError, match="can't optimize a non-leaf Tensor"):
        optim.SGD([p * 2])
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        optim.SGD([{"params": [p]}, {"params": [p]}])
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optim.SGD([p, p])
    with pytest.raises(TypeError, match="param_group must be a dict"):
        optim.SGD([p]).add_param_group([with_grad()])
