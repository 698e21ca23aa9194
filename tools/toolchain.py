"""What a build of minidl needs from the machine, and one sentence for each thing that can be missing.

``setup.py`` asks ``missing`` before it compiles.  ``python tools/toolchain.py``, which the Makefile runs before
it makes an environment, also looks at Python itself.  Standard library only, and words that an old Python
understands, so that the sentence comes out instead of a syntax error.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile

OLDEST_PYTHON = (3, 11)

# Apple's compiler understands OpenMP but does not ship its library.
if sys.platform == "darwin":
    OPENMP_COMPILE, OPENMP_LINK = ["-Xpreprocessor", "-fopenmp"], ["-lomp"]
else:
    OPENMP_COMPILE, OPENMP_LINK = ["-fopenmp"], ["-fopenmp"]

NO_COMPILER = (
    "minidl is compiled when it is installed and needs a C compiler, but '{command}' does not work ({reason}): install "
    "one (Debian/Ubuntu: sudo apt install build-essential; Fedora: sudo dnf install gcc; macOS: xcode-select "
    "--install) or name one in the environment variable CC."
)
NO_PYTHON_H = (
    "minidl is compiled when it is installed and needs the header Python.h of {python}, which is not in {include}: "
    "install it (Debian/Ubuntu: sudo apt install python3-dev; Fedora: sudo dnf install python3-devel; macOS: brew "
    "install python)."
)
NO_OPENMP = (
    "minidl computes with several threads through OpenMP, but '{command}' cannot compile or link it: install OpenMP "
    "(Debian/Ubuntu: sudo apt install build-essential, or libomp-dev for clang; Fedora: sudo dnf install gcc libgomp; "
    "macOS: brew install libomp, then set CPPFLAGS and LDFLAGS as brew says)."
)
OLD_PYTHON = (
    "minidl needs Python {oldest} or newer and {python} is {version}: name a newer one, for example "
    "make PYTHON=python3.12 (Debian/Ubuntu: sudo apt install python3; Fedora: sudo dnf install python3; macOS: brew "
    "install python)."
)
NO_VENV = (
    "{python} cannot make a virtual environment because its module {module} is missing: install it (Debian/Ubuntu: "
    "sudo apt install python3-venv; Fedora: sudo dnf install python3; macOS: brew install python)."
)


def compile_error(command, source, flags=(), link=None):
    """Compile ``source``, and link it where ``link`` is a list of flags; the compiler's first complaint or None."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "probe.c")
        with open(path, "w") as file:
            file.write(source)
        output = [path, "-o", os.path.join(folder, "probe")]
        how = ["-c", *output] if link is None else [*output, *link]
        try:
            run = subprocess.run([*command, *flags, *how], capture_output=True, cwd=folder)
        except OSError as error:
            return error.strerror
    if run.returncode == 0:
        return None
    complaints = run.stderr.decode(errors="replace").strip().splitlines()
    return complaints[0] if complaints else f"exit status {run.returncode}"


def missing(command, include_dirs):
    """The sentence about what the compiler ``command`` lacks to build minidl, or None."""
    name = command[0]
    reason = compile_error(command, "#include <stdlib.h>\nint main(void) { return 0; }\n")
    if reason:
        return NO_COMPILER.format(command=name, reason=reason)
    include = ["-I" + folder for folder in include_dirs]
    if compile_error(command, "#include <Python.h>\nint main(void) { return 0; }\n", include):
        return NO_PYTHON_H.format(python=sys.executable, include=sysconfig.get_path("include"))
    openmp = "#include <omp.h>\nint main(void) { return omp_get_max_threads() == 0; }\n"
    if compile_error(command, openmp, OPENMP_COMPILE, OPENMP_LINK):
        return NO_OPENMP.format(command=name)
    return None


def missing_from_python():
    """The sentence about what this Python lacks to make an environment for minidl, or None."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        oldest, version = (".".join(map(str, numbers)) for numbers in (OLDEST_PYTHON, sys.version_info[:3]))
        return OLD_PYTHON.format(oldest=oldest, version=version, python=sys.executable)
    for module in ("venv", "ensurepip"):
        try:
            __import__(module)
        except ImportError:
            return NO_VENV.format(python=sys.executable, module=module)
    return None


if __name__ == "__main__":
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    flags = [flag for name in ("CFLAGS", "CPPFLAGS", "LDFLAGS") for flag in shlex.split(os.environ.get(name, ""))]
    includes = [sysconfig.get_path("include"), sysconfig.get_path("platinclude")]
    sys.exit(missing_from_python() or missing(compiler + flags, includes))
