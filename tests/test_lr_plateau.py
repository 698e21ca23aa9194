"""``ReduceLROnPlateau``: PyTorch's rates for the same measurements, and what they should be in plain cases."""

import numpy as np
import pytest

import minidl
from minidl import optim
from minidl.optim.lr_scheduler import ReduceLROnPlateau

OPTIONS = {
    "default": {},
    "impatient": {"patience": 0, "factor": 0.5},
    "max": {"mode": "max", "patience": 2},
    "absolute": {"threshold_mode": "abs", "threshold": 0.3, "patience": 1},
    "absolute max": {"mode": "max", "threshold_mode": "abs", "threshold": 0.3, "patience": 1, "factor": 0.7},
    "cooldown": {"patience": 1, "cooldown": 3, "factor": 0.9},
    "least": {"patience": 0, "min_lr": [0.01, 0.04]},
    "eps": {"patience": 0, "factor": 0.99, "eps": 1e-3},
}


def optimizer(library=minidl):
    return library.optim.SGD([{"params": [library.zeros(1)]}, {"params": [library.zeros(1)], "lr": 0.05}], lr=0.2)


def rates(scheduler, measured):
    seen = []
    for metrics in measured:
        scheduler.step(metrics)
        seen.append([*scheduler.get_last_lr(), scheduler.best, scheduler.num_bad_epochs, scheduler.cooldown_counter])
        assert [group["lr"] for group in scheduler.optimizer.param_groups] == scheduler.get_last_lr()
    return seen


def measurements():
    rng = np.random.default_rng(0)
    return [float(value) for value in np.exp(-np.arange(60) / 10) + rng.normal(0, 0.2, 60)] + [float("nan")] * 3


@pytest.mark.torch
@pytest.mark.parametrize("name", OPTIONS)
def test_rates_are_pytorchs(name, torch):
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer(torch), **OPTIONS[name])
    # the same arithmetic in the same order: the same bits
    assert rates(ReduceLROnPlateau(optimizer(), **OPTIONS[name]), measurements()) == rates(theirs, measurements())


def test_the_rate_falls_after_patience_and_waits_for_the_cooldown():
    scheduler = ReduceLROnPlateau(optimizer(), factor=0.5, patience=1, cooldown=2)
    measured = [1.0, 0.5, 0.5, minidl.tensor(0.5), 0.5, 0.5, 0.5, 0.5, 0.4]
    assert [row[0] for row in rates(scheduler, measured)] == [0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05]


@pytest.mark.parametrize("name", OPTIONS)
def test_a_loaded_schedule_goes_on(name, tmp_path):
    first = optimizer()
    scheduler = ReduceLROnPlateau(first, **OPTIONS[name])
    rates(scheduler, measurements()[:17])
    minidl.save({"optimizer": first.state_dict(), "scheduler": scheduler.state_dict()}, tmp_path / "state")
    expected = rates(scheduler, measurements()[17:])
    second = optimizer()
    other = ReduceLROnPlateau(second)
    saved = minidl.load(tmp_path / "state")
    second.load_state_dict(saved["optimizer"])
    other.load_state_dict(saved["scheduler"])
    assert rates(other, measurements()[17:]) == expected


@pytest.mark.parametrize(("options", "message"), [
    ({"factor": 1.0}, "Factor should be < 1.0"),
    ({"mode": "least"}, "mode least is unknown"),
    ({"threshold_mode": "both"}, "threshold mode both is unknown"),
    ({"min_lr": [0.1]}, "min_lr must have the same length"),
])
def test_what_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        ReduceLROnPlateau(optimizer(), **options)


def test_only_optimizers():
    with pytest.raises(TypeError, match="int is not an Optimizer"):
        ReduceLROnPlateau(3)
    assert isinstance(ReduceLROnPlateau(optimizer()), optim.lr_scheduler.LRScheduler)
