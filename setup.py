"""Build minidl: every ``minidl/_ext/*.pyx`` becomes an extension module, linked with a BLAS of minidl's own.

What cannot be said in ``pyproject.toml`` is said here.  Environment variables, each explained in CONTRIBUTING.md:

MINIDL_BLAS      ``vendored`` (default: OpenBLAS from scipy-openblas32, copied into the package), ``system``, or the
                 name of a pkg-config module
MINIDL_CHECKS    1 compiles the kernels with Cython's bounds checks
MINIDL_SANITIZE  for example ``address,undefined``: compiles with these sanitizers
"""

import compileall
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import sysconfig

from setuptools import Extension, find_packages, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

HERE = pathlib.Path(__file__).parent.resolve()
sys.path.insert(0, str(HERE / "tools"))
import toolchain  # noqa: E402

BLAS = os.environ.get("MINIDL_BLAS") or "vendored"
CHECKS = os.environ.get("MINIDL_CHECKS", "0") not in ("", "0")
SANITIZE = os.environ.get("MINIDL_SANITIZE", "")

SYSTEM_BLAS = ("openblas", "flexiblas", "cblas", "blas")  # pkg-config modules that MINIDL_BLAS=system tries, in order

# Helpers in plain C: extension -> {C file: the instruction sets it is compiled for}.  A file is compiled once for each,
# with ISA defined as the name (so that functions can be called conv_##ISA) and ISA_<name> defined for ``#if``.
ALL_SETS = ("base", "avx2", "avx512")
C_SOURCES: dict[str, dict[str, tuple[str, ...]]] = {
    "conv2d_batch": {"minidl/_ext/conv2d_direct_batch.c": ALL_SETS},
    "conv2d_batch_pool": {"minidl/_ext/conv2d_direct_batch_pool.c": ALL_SETS},
    "conv2d_direct": {
        "minidl/_ext/conv2d_direct_rows.c": ALL_SETS,
        "minidl/_ext/conv2d_direct_channels.c": ALL_SETS,
        "minidl/_ext/conv2d_epilogue.c": ALL_SETS,
    },
    "conv2d_pooled": {
        "minidl/_ext/conv2d_pooled_input.c": ALL_SETS,
        "minidl/_ext/conv2d_pooled_weight.c": ALL_SETS,
    },
    "conv2d_panels": {
        "minidl/_ext/conv2d_packed.c": ALL_SETS,
        "minidl/_ext/conv2d_planes.c": ALL_SETS,
        "minidl/_ext/conv2d_weight.c": ALL_SETS,
        "minidl/_ext/conv2d_winograd_f2.c": ALL_SETS,
        "minidl/_ext/conv2d_winograd_f4.c": ALL_SETS,
    },
    "gemm": {"minidl/_ext/few_rows.c": ALL_SETS},
    "optimizer": {"minidl/_ext/optimizer_runs.c": ALL_SETS},
    "pixels": {"minidl/_ext/pixel_runs.c": ALL_SETS},
    "pooling": {"minidl/_ext/windows.c": ALL_SETS},
}
INSTRUCTION_SETS = {
    "base": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl"],
}
X86 = sysconfig.get_platform().endswith(("x86_64", "amd64"))

# No -ffast-math: linking it changes denormals for the whole process.
COMPILE = ["-O3", "-g0", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", *toolchain.OPENMP_COMPILE]
LINK = [*toolchain.OPENMP_LINK]
if SANITIZE:
    COMPILE += ["-O1", "-g", "-fno-omit-frame-pointer", f"-fsanitize={SANITIZE}"]
    LINK += [f"-fsanitize={SANITIZE}"]

DIRECTIVES = {
    "language_level": "3",
    "boundscheck": CHECKS,
    "initializedcheck": CHECKS,
    "nonecheck": CHECKS,
    "wraparound": False,
    "cdivision": True,
    "freethreading_compatible": False,
}


def extension(source: pathlib.Path) -> Extension:
    """The extension of one ``.pyx``; ``build_ext`` below adds what only the build environment knows."""
    c_sources = C_SOURCES.get(source.stem, {})
    return Extension(
        f"minidl._ext.{source.stem}",
        [str(source.relative_to(HERE))],
        include_dirs=["minidl/_ext"],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
        extra_compile_args=COMPILE,
        extra_link_args=LINK,
        depends=["setup.py", *sorted(str(h.relative_to(HERE)) for h in source.parent.glob("*.h")), *c_sources],
    )


class Build(build):
    def run(self):
        # Otherwise a wheel would also hold what an earlier build left here and the source tree no longer has.
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class BuildExt(build_ext):
    def finalize_options(self):
        if self.editable_mode:
            # setuptools builds an editable install in a temporary folder; here, only what has changed is compiled.
            tag = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
            self.build_lib, self.build_temp = f"build/editable.{tag}", f"build/editable-temp.{tag}"
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count()

    def build_extensions(self):
        command = self.compiler.compiler_so
        sentence = toolchain.missing(command, self.compiler.include_dirs)
        if sentence:
            raise SystemExit(sentence)
        self.force = self.force or self._options_changed()
        if BLAS == "vendored":
            self._link_vendored_blas()
        else:
            self._link_system_blas(command)
        self._translate()
        super().build_extensions()
        self._options_file().write_text(self._options())

    def _options_file(self) -> pathlib.Path:
        return pathlib.Path(self.build_temp, "minidl-options")

    def _options(self) -> str:
        return f"{BLAS=} {CHECKS=} {SANITIZE=} {self.compiler.compiler_so} {self.compiler.linker_so}"

    def _options_changed(self) -> bool:
        path = self._options_file()
        return path.exists() and path.read_text() != self._options()

    def _blas_extension(self) -> Extension:
        return self.ext_map["minidl._ext.blas"]

    def _vendored_blas(self) -> dict[str, pathlib.Path]:
        """What ``minidl/_libs`` holds: name there -> file of the package scipy-openblas32."""
        import importlib.metadata

        import scipy_openblas32

        folder = pathlib.Path(scipy_openblas32.get_lib_dir())
        libraries = [path for suffix in ("so", "dylib") for path in folder.glob(f"libscipy_openblas.{suffix}")]
        if not libraries:
            raise SystemExit(
                f"scipy-openblas32 has no shared library in {folder} on this platform: set MINIDL_BLAS=system to "
                "link the system's BLAS instead."
            )
        files = {path.name: path for path in libraries}
        for path in importlib.metadata.files("scipy-openblas32") or ():
            if path.name.startswith("LICENSE"):
                files["LICENSE.openblas.txt"] = pathlib.Path(str(path.locate()))
        return files

    def _link_vendored_blas(self):
        import scipy_openblas32

        target = pathlib.Path(self.build_lib, "minidl", "_libs")
        self.mkpath(str(target))
        for name, source in self._vendored_blas().items():
            self.copy_file(str(source), str(target / name))
        blas = self._blas_extension()
        blas.include_dirs.append(scipy_openblas32.get_include_dir())
        blas.library_dirs.append(str(target))
        blas.libraries.append("scipy_openblas")
        origin = "@loader_path" if sys.platform == "darwin" else "$ORIGIN"
        blas.extra_link_args = [*blas.extra_link_args, f"-Wl,-rpath,{origin}/../_libs"]

    def _link_system_blas(self, command: list[str]):
        blas = self._blas_extension()
        tried = SYSTEM_BLAS if BLAS == "system" else (BLAS,)
        for module in tried:
            flags, link = pkg_config("--cflags", module), pkg_config("--libs", module)
            call = "#include <cblas.h>\nint main(void) {{ {}; return 0; }}\n"
            sgemm = call.format("float x = 1; cblas_sgemm(101, 111, 111, 1, 1, 1, 1, &x, 1, &x, 1, 0, &x, 1)")
            if flags is None or link is None or toolchain.compile_error(command, sgemm, flags, link):
                continue
            own_threads = call.format("openblas_set_num_threads(1)")
            has_own_threads = not toolchain.compile_error(
                command, own_threads, [*flags, "-Werror=implicit-function-declaration"], link
            )
            blas.define_macros += [("MINIDL_SYSTEM_BLAS", "1"), ("MINIDL_OPENBLAS_THREADS", str(int(has_own_threads)))]
            blas.extra_compile_args = [*blas.extra_compile_args, *flags]
            blas.extra_link_args = [*blas.extra_link_args, *link]
            return
        raise SystemExit(
            f"MINIDL_BLAS={BLAS} asks for a BLAS of the system, but pkg-config finds none with cblas_sgemm and cblas.h "
            f"(tried: {', '.join(tried)}): install one (Debian/Ubuntu: sudo apt install pkg-config libopenblas-dev; "
            "Fedora: sudo dnf install pkgconf openblas-devel; macOS: brew install pkg-config openblas) or unset "
            "MINIDL_BLAS."
        )

    def _translate(self):
        """Cython to C, below ``build/`` so that the source tree holds no generated file.

        What NumPy declares to Cython differs from version to version: each has a folder of its own.
        """
        import numpy
        from Cython.Build import cythonize
        from Cython.Compiler.Errors import CompileError

        try:
            translated = cythonize(
                self.extensions,
                build_dir=f"build/cython-{'checks-' if CHECKS else ''}numpy-{numpy.__version__}",
                compiler_directives=DIRECTIVES,
                nthreads=self.parallel if isinstance(self.parallel, int) and sys.platform == "linux" else 0,
            )
        except CompileError as error:
            raise SystemExit(f"Cython cannot translate {error}; what it says about it stands above.") from None
        sources = {extension.name: extension.sources for extension in translated}
        for ext in self.extensions:
            ext.sources = sources[ext.name]
            ext.include_dirs.append(numpy.get_include())

    def build_extension(self, ext):
        built = self.get_ext_fullpath(ext.name)
        if self.force or newer_group([*ext.sources, *ext.depends], built, "newer"):
            for source, names in C_SOURCES.get(ext.name.rpartition(".")[2], {}).items():
                for name in names if X86 else ("base",):
                    ext.extra_objects += self.compiler.compile(
                        [source],
                        output_dir=os.path.join(self.build_temp, name),
                        macros=[*ext.define_macros, ("ISA", name), (f"ISA_{name}", "1")],
                        include_dirs=ext.include_dirs,
                        extra_postargs=[*ext.extra_compile_args, *INSTRUCTION_SETS[name]],
                    )
        super().build_extension(ext)

    def copy_extensions_to_source(self):
        super().copy_extensions_to_source()
        # As an installation does: where PYTHONDONTWRITEBYTECODE is set, each import would compile the package anew.
        compileall.compile_dir("minidl", quiet=1)
        if BLAS != "vendored":
            shutil.rmtree("minidl/_libs", ignore_errors=True)
        else:
            self.mkpath("minidl/_libs")
            for name, source in self._vendored_blas().items():
                self.copy_file(str(source), f"minidl/_libs/{name}")


def pkg_config(what: str, module: str) -> list[str] | None:
    try:
        run = subprocess.run(
            [os.environ.get("PKG_CONFIG", "pkg-config"), what, module], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return shlex.split(run.stdout)


setup(
    # cuda/ cannot be a package of its own (it would shadow NVIDIA's); its sources travel as data of minidl.
    packages=[*find_packages(include=["minidl", "minidl.*"]), "minidl._cuda"],
    package_dir={"minidl._cuda": "cuda"},
    ext_modules=[extension(source) for source in sorted((HERE / "minidl" / "_ext").glob("*.pyx"))],
    cmdclass={"build": Build, "build_ext": BuildExt},
)
