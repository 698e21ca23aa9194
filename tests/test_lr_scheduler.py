"""Learning rate schedules: PyTorch's numbers over whole schedules, by stored figures and by direct comparison."""

import warnings

import pytest

import minidl
from minidl import optim
from minidl.optim import lr_scheduler

# The same formulas in the same order give the same bits; sums and products of a schedule leave a little for cos().
RTOL = 1e-12

# name -> (steps, function of the module of schedules and an optimizer)
SCHEDULES = {
    "step": (25, lambda m, o: m.StepLR(o, 4, gamma=0.3)),
    "multi step": (25, lambda m, o: m.MultiStepLR(o, [2, 7, 7, 20], gamma=0.5)),
    "exponential": (25, lambda m, o: m.ExponentialLR(o, 0.9)),
    "lambda": (25, lambda m, o: m.LambdaLR(o, lambda step: 0.95**step)),
    "lambda per group": (25, lambda m, o: m.LambdaLR(o, [lambda step: 1 / (step + 1), lambda step: step])),
    "linear": (12, lambda m, o: m.LinearLR(o, start_factor=0.25, end_factor=0.75, total_iters=8)),
    "cosine": (35, lambda m, o: m.CosineAnnealingLR(o, T_max=10, eta_min=1e-3)),
    "cosine to zero": (10, lambda m, o: m.CosineAnnealingLR(o, T_max=10)),
    "one cycle": (50, lambda m, o: m.OneCycleLR(o, 0.5, total_steps=50)),
    "one cycle per group": (60, lambda m, o: m.OneCycleLR(o, [0.5, 0.1], epochs=6, steps_per_epoch=10, pct_start=0.1,
                                                          base_momentum=[0.7, 0.8], max_momentum=0.99)),
    "one cycle linear": (37, lambda m, o: m.OneCycleLR(o, 0.5, total_steps=37, anneal_strategy="linear",
                                                       div_factor=3.0, final_div_factor=7.0)),
    "one cycle three phases": (41, lambda m, o: m.OneCycleLR(o, 0.5, total_steps=41, three_phase=True)),
    "one cycle linear three phases": (41, lambda m, o: m.OneCycleLR(
        o, 0.5, total_steps=41, three_phase=True, anneal_strategy="linear", pct_start=0.4)),
    "one cycle of the rate alone": (20, lambda m, o: m.OneCycleLR(o, 0.5, total_steps=20, cycle_momentum=False)),
    "one after another": (30, lambda m, o: m.SequentialLR(
        o, [m.LinearLR(o, total_iters=5), m.CosineAnnealingLR(o, 10), m.ExponentialLR(o, 0.8)], [5, 15])),
    "two at once": (20, lambda m, o: _Both(m.ExponentialLR(o, 0.9), m.StepLR(o, 3))),
}
OPTIMIZERS = {
    "SGD": lambda module, groups: module.SGD(groups, lr=0.2, momentum=0.9),
    "Adam": lambda module, groups: module.Adam(groups, lr=0.2),
}


class _Both:
    def __init__(self, *schedulers):
        self.schedulers = schedulers

    def step(self):
        for scheduler in self.schedulers:
            scheduler.step()

    def get_last_lr(self):
        return self.schedulers[-1].get_last_lr()


def optimizer(kind="SGD"):
    return OPTIMIZERS[kind](optim, [{"params": [minidl.zeros(1)]}, {"params": [minidl.zeros(1)], "lr": 0.05}])


def hyperparameters(optimizer):
    """The learning rate and the momentum, or the first beta, of each group."""
    return [value for group in optimizer.param_groups
            for value in (group["lr"], group["betas"][0] if "betas" in group else group["momentum"])]


def run(optimizer, scheduler, steps):
    """The hyperparameters before the first and after each step."""
    seen = [hyperparameters(optimizer)]
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        seen.append(hyperparameters(optimizer))
        assert scheduler.get_last_lr() == seen[-1][::2]
    return seen


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_whole_schedules_are_torchs(name, kind, torch):
    steps, make = SCHEDULES[name]
    ours = optimizer(kind)
    theirs = OPTIMIZERS[kind](torch.optim, [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "lr": 0.05}])
    seen = run(ours, make(lr_scheduler, ours), steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected = run(theirs, make(torch.optim.lr_scheduler, theirs), steps)
    for step, (a, b) in enumerate(zip(seen, expected, strict=True)):
        assert a == pytest.approx(b, rel=RTOL, abs=1e-15), step


# PyTorch 2.13: learning rate and momentum of both groups after these steps.
STORED = {
    "step": {
        4: [0.06, 0.9, 0.015, 0.9],
        25: [0.00014579999999999997, 0.9, 3.644999999999999e-05, 0.9],
    },
    "multi step": {
        7: [0.025, 0.9, 0.00625, 0.9],
        25: [0.0125, 0.9, 0.003125, 0.9],
    },
    "exponential": {
        1: [0.18000000000000002, 0.9, 0.045000000000000005, 0.9],
        25: [0.014357959753837067, 0.9, 0.003589489938459267, 0.9],
    },
    "lambda per group": {
        1: [0.1, 0.9, 0.05, 0.9],
        25: [0.007692307692307693, 0.9, 1.25, 0.9],
    },
    "linear": {
        3: [0.08750000000000001, 0.9, 0.021875000000000002, 0.9],
        12: [0.15, 0.9, 0.0375, 0.9],
    },
    "cosine": {
        3: [0.15898463260310106, 0.9, 0.039900738681165594, 0.9],
        10: [0.001, 0.9, 0.001, 0.9],
        11: [0.005869876628632224, 0.9, 0.0021991153507687385, 0.9],
        35: [0.10050000000000017, 0.9, 0.025500000000000043, 0.9],
    },
    "one cycle": {
        0: [0.020000000000000018, 0.95, 0.020000000000000018, 0.95],
        1: [0.026017301076362354, 0.9487463956090911, 0.026017301076362354, 0.9487463956090911],
        14: [0.5, 0.85, 0.5, 0.85],
        30: [0.28355918222114807, 0.8932883367091172, 0.28355918222114807, 0.8932883367091172],
        50: [0.0010084224754842283, 0.949798714699762, 0.0010084224754842283, 0.949798714699762],
    },
    "one cycle three phases": {
        0: [0.020000000000000018, 0.95, 0.020000000000000018, 0.95],
        11: [0.4991657142257274, 0.8501738095363067, 0.4991657142257274, 0.8501738095363067],
        12: [0.4954694695579057, 0.8509438605087696, 0.4954694695579057, 0.8509438605087696],
        23: [0.019973934921947982, 0.95, 0.019973934921947982, 0.95],
        41: [0.00016453530552390413, 0.95, 0.00016453530552390413, 0.95],
    },
    "one cycle linear": {
        0: [0.16666666666666666, 0.95, 0.16666666666666666, 0.95],
        10: [0.49669966996699677, 0.850990099009901, 0.49669966996699677, 0.850990099009901],
        11: [0.4834528405956977, 0.8534749034749034, 0.4834528405956977, 0.8534749034749034],
        37: [0.005423791138076894, 0.9538610038610038, 0.005423791138076894, 0.9538610038610038],
    },
    "one after another": {
        0: [0.06666666666666667, 0.9, 0.016666666666666666, 0.9],
        5: [0.2, 0.9, 0.05, 0.9],
        15: [0.2, 0.9, 0.05, 0.9],
        30: [0.007036874417766407, 0.9, 0.0017592186044416017, 0.9],
    },
}


@pytest.mark.parametrize("name", STORED)
def test_schedules_have_the_stored_numbers(name):
    steps, make = SCHEDULES[name]
    ours = optimizer()
    seen = run(ours, make(lr_scheduler, ours), steps)
    for step, expected in STORED[name].items():
        assert seen[step] == pytest.approx(expected, rel=RTOL, abs=1e-15), step


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "two at once"])
def test_a_loaded_schedule_goes_on_with_the_same_bits(name, kind, tmp_path):
    steps, make = SCHEDULES[name]
    first = optimizer(kind)
    scheduler = make(lr_scheduler, first)
    run(first, scheduler, steps // 2)
    minidl.save({"optimizer": first.state_dict(), "scheduler": scheduler.state_dict()}, tmp_path / "state")
    expected = run(first, scheduler, steps - steps // 2)

    second = optimizer(kind)
    other = make(lr_scheduler, second)
    saved = minidl.load(tmp_path / "state")
    second.load_state_dict(saved["optimizer"])
    other.load_state_dict(saved["scheduler"])
    assert run(second, other, steps - steps // 2) == expected


@pytest.mark.parametrize("name", ["step", "multi step", "exponential", "lambda", "cosine", "one cycle"])
def test_a_schedule_may_be_made_in_the_middle(name, torch):
    _, make = SCHEDULES[name]
    first = optimizer()
    run(first, make(lr_scheduler, first), 6)
    theirs = OPTIMIZERS["SGD"](torch.optim, [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)]}])
    second = optimizer()
    for other in (second, theirs):
        for group, old in zip(other.param_groups, first.param_groups, strict=True):
            group |= {key: value for key, value in old.items() if key != "params"}
    classes = {"step": ("StepLR", {"step_size": 4}), "multi step": ("MultiStepLR", {"milestones": [2, 7]}),
               "exponential": ("ExponentialLR", {"gamma": 0.9}), "lambda": ("LambdaLR", {"lr_lambda": float}),
               "cosine": ("CosineAnnealingLR", {"T_max": 10}),
               "one cycle": ("OneCycleLR", {"max_lr": 0.5, "total_steps": 50})}
    kind, options = classes[name]
    ours = getattr(lr_scheduler, kind)(second, **options, last_epoch=6)
    other = getattr(torch.optim.lr_scheduler, kind)(theirs, **options, last_epoch=6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected = run(theirs, other, 5)
    seen = run(second, ours, 5)
    for a, b in zip(seen, expected, strict=True):
        assert a == pytest.approx(b, rel=RTOL)


def test_a_rate_set_by_hand_is_built_upon():
    o = optimizer()
    scheduler = lr_scheduler.StepLR(o, 2, gamma=0.5)
    run(o, scheduler, 2)
    o.param_groups[0]["lr"] = 8.0
    run(o, scheduler, 2)
    assert o.param_groups[0]["lr"] == 4.0


def test_a_callable_object_keeps_its_attributes():
    class Warm:
        def __init__(self):
            self.calls = 0

        def __call__(self, step):
            self.calls += 1
            return 1.0

    o = optimizer()
    scheduler = lr_scheduler.LambdaLR(o, [Warm(), lambda step: 2.0])
    run(o, scheduler, 3)
    assert scheduler.state_dict()["lr_lambdas"] == [{"calls": 4}, None]
    other = lr_scheduler.LambdaLR(optimizer(), [Warm(), lambda step: 2.0])
    other.load_state_dict(scheduler.state_dict())
    assert other.lr_lambdas[0].calls == 4 and other.last_epoch == 3


def test_the_order_of_steps_is_watched():
    scheduler = lr_scheduler.StepLR(optimizer(), 2)
    with pytest.warns(UserWarning, match=r"`lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
        scheduler.step()
    scheduler.step()  # warned once

    class Own(optim.Optimizer):
        def step(self, closure=None):
            pass

    own = Own([minidl.zeros(1)], {"lr": 0.1})
    scheduler = lr_scheduler.ExponentialLR(own, 0.5)
    own.step()
    scheduler.step()
    assert own.param_groups[0]["lr"] == 0.05


@pytest.mark.parametrize("options, message", [
    ({}, r"either total_steps OR \(epochs AND steps_per_epoch\)"),
    ({"epochs": 3}, "either total_steps OR"),
    ({"total_steps": 0}, "positive integer total_steps, but got 0"),
    ({"total_steps": 1.5}, "positive integer total_steps, but got 1.5"),
    ({"epochs": -1, "steps_per_epoch": 2}, "positive integer epochs, but got -1"),
    ({"epochs": 1, "steps_per_epoch": 0}, "positive integer steps_per_epoch, but got 0"),
    ({"total_steps": 9, "pct_start": 1.1}, "Expected float between 0 and 1 pct_start, but got 1.1"),
    ({"total_steps": 9, "anneal_strategy": "poly"}, "must be one of 'cos' or 'linear', instead got poly"),
    ({"total_steps": 9, "base_momentum": [0.8]}, "base_momentum must have the same length as optimizer.param_groups"),
])
def test_one_cycle_checks_its_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        lr_scheduler.OneCycleLR(optimizer(), 0.1, **options)


def test_errors():
    o = optimizer()
    scheduler = lr_scheduler.OneCycleLR(o, 0.1, total_steps=3)
    run(o, scheduler, 3)
    with pytest.raises(ValueError, match=r"Tried to step 4 times. The specified number of total steps is 3"):
        scheduler.step()
    with pytest.raises(TypeError, match="int is not an Optimizer"):
        lr_scheduler.StepLR(3, 1)
    with pytest.raises(KeyError, match="initial_lr"):
        lr_scheduler.StepLR(optimizer(), 1, last_epoch=3)
    with pytest.raises(ValueError, match="Expected 2 lr_lambdas, but got 1"):
        lr_scheduler.LambdaLR(optimizer(), [float])
    with pytest.raises(ValueError, match="expects all schedulers to belong to the same optimizer"):
        lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(optimizer(), 1)], [])
    with pytest.raises(ValueError, match="2 schedulers and 0 milestones"):
        lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 1), lr_scheduler.StepLR(o, 1)], [])
    for options in ({"start_factor": 0}, {"end_factor": 1.5}):
        with pytest.raises(ValueError, match="multiplicative factor expected to be"):
            lr_scheduler.LinearLR(o, **options)
