"""``minidl.compile``: a step is recorded while it runs, planned once, and from then on repeated without Python per op.

    recording.py    which device functions a call of the step makes, and on which memory
    fusion.py       which of the calls a device can do in one pass
    layouts.py      which results stay in the layout that a kernel computes in
    planning.py     from a recording to a plan: what each array's place in one block of memory is
    compiled.py     the callable that decides between recording, repeating and running as written
"""

from minidl.compiler.compiled import compile
