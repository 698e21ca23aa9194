"""Build the compiled rooms of minidl: every ``minidl/_ext/*.pyx``, linked with a vendored OpenBLAS."""

import pathlib
import shutil

import numpy
import scipy_openblas32
from Cython.Build import cythonize
from setuptools import Extension, setup

here = pathlib.Path(__file__).parent
libs = here / "minidl" / "_libs"
libs.mkdir(exist_ok=True)
blas = pathlib.Path(scipy_openblas32.get_lib_dir())
if not (libs / "libscipy_openblas.so").exists():
    shutil.copy2(blas / "libscipy_openblas.so", libs)

extensions = [
    Extension(
        f"minidl._ext.{source.stem}",
        [str(source.relative_to(here))],
        include_dirs=[numpy.get_include(), scipy_openblas32.get_include_dir()],
        library_dirs=["minidl/_libs"],
        libraries=["scipy_openblas"] if source.stem == "blas" else [],
        runtime_library_dirs=["$ORIGIN/../_libs"],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
        extra_compile_args=["-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"],
        extra_link_args=["-fopenmp"],
    )
    for source in sorted((here / "minidl" / "_ext").glob("*.pyx"))
]
setup(
    ext_modules=cythonize(
        extensions,
        compiler_directives={"language_level": "3", "boundscheck": False, "wraparound": False,
                             "cdivision": True, "initializedcheck": False, "freethreading_compatible": False},
    )
)
