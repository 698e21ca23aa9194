"""The compiled rooms of minidl.

GNU OpenMP and OpenBLAS read their settings when they are loaded, which the first of these modules does.  Between two
parallel regions the threads of OpenMP spin, by default for milliseconds: on a machine that others use too, a thread
that has lost its processor is then waited for by one that burns its own, and training was seen to take ten times as
long.  A short spin costs a few microseconds per region on a quiet machine.  Whoever has set a policy keeps it.
OpenBLAS starts threads that minidl does not use, and each spins for a tenth of a second: it is told to start none.
The environment is left as it was.
"""

import os

_settings = {"OPENBLAS_NUM_THREADS": "1"}
if not any(name in os.environ for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")):
    _settings["GOMP_SPINCOUNT"] = "1000"

_before = {name: os.environ.get(name) for name in _settings}
os.environ.update(_settings)
from minidl._ext import blas as blas  # noqa: E402
from minidl._ext import threads as threads  # noqa: E402

for _name, _value in _before.items():
    if _value is None:
        del os.environ[_name]
    else:
        os.environ[_name] = _value
