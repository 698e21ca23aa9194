"""Reductions: PyTorch's values, dtypes and errors."""

from __future__ import annotations

import numpy as np
import pytest
from outcomes import same_outcome

REDUCTIONS = {
    "sum": lambda x, **k: x.sum(**k),
    "mean": lambda x, **k: x.mean(**k),
    "prod": lambda x, **k: x.prod(**k),
    "amax": lambda x, **k: x.amax(**k),
    "amin": lambda x, **k: x.amin(**k),
    "any": lambda x, **k: x.any(**k),
    "all": lambda x, **k: x.all(**k),
    "argmax": lambda x, **k: x.argmax(**k),
    "argmin": lambda x, **k: x.argmin(**k),
    "max": lambda x, **k: x.max(**k) if not k else x.max(**k).values,
    "min": lambda x, **k: x.min(**k) if not k else x.min(**k).indices,
    "cumsum": lambda x, **k: x.cumsum(**{"dim": 0, **{n: v for n, v in k.items() if n != "keepdim"}}),
    "logsumexp": lambda x, **k: x.logsumexp(**{"dim": 0, **k}),
    "var": lambda x, **k: x.var(**k),
    "norm": lambda x, **k: x.norm(**k),
    "sort": lambda x, **k: x.sort(**{n: v for n, v in k.items() if n == "dim"}).values,
}


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:.*degrees of freedom.*")
@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "bool"])
def test_reductions_are_pytorchs(name, dtype, torch):
    rng = np.random.default_rng(3)
    different = []
    for shape in ((3, 4), (2, 3, 2), (5,), (), (0,), (3, 0), (0, 3)):
        values = rng.permutation(int(np.prod(shape))).reshape(shape)
        values = values % 2 if dtype == "bool" else values - 2
        options = [{}]
        for dim in range(-1, len(shape)):
            options += [{"dim": dim}, {"dim": dim, "keepdim": True}]
        for option in options:
            try:
                same_outcome(
                    torch,
                    lambda lib, values=values, option=option: REDUCTIONS[name](
                        lib.tensor(values, dtype=getattr(lib, dtype)), **option
                    ),
                )
            except AssertionError as error:
                different.append(f"{shape} {option}: {str(error).strip().splitlines()[0]}")
    assert not different, "\n".join(different)
