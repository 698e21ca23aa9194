"""The compiled rooms of minidl.

GNU OpenMP reads its settings when it is loaded, which the first of these modules does.  Between two parallel regions
its threads spin, by default for milliseconds: on a machine that others use too, a thread that has lost its processor is
then waited for by one that burns its own, and training was seen to take ten times as long.  A short spin costs a few
microseconds per region on a quiet machine.  Whoever has set a policy keeps it, and the environment is left as it was.
"""

import os

_SPINS = "1000"
_CHOSEN = any(name in os.environ for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"))

if not _CHOSEN:
    os.environ["GOMP_SPINCOUNT"] = _SPINS
from minidl._ext import threads as threads  # noqa: E402

if not _CHOSEN:
    del os.environ["GOMP_SPINCOUNT"]
