"""Whether this machine has a GPU that minidl can use, before anything is installed for it: a sentence if it does not.

``make gpu-test`` and ``make gpu-bench`` run it first.  Standard library only.
"""

import ctypes
import os
import shutil
import sys

NO_DRIVER = (
    "this machine has no NVIDIA driver ({error}): the GPU's tests run everywhere on an emulated one with make test; "
    "for a real one install NVIDIA's driver, or name the folder of its libcuda.so.1 in LD_LIBRARY_PATH."
)
NO_START = "the NVIDIA driver of this machine does not start: cuInit says {code}; nvidia-smi may tell why."
NO_GPU = "the NVIDIA driver of this machine sees no GPU; CUDA_VISIBLE_DEVICES, if it is set, may hide it."
NO_NVCC = (
    "kernels are compiled by nvcc at their first use and '{command}' is not found: install the CUDA toolkit, put its "
    "bin folder on PATH, or name its nvcc in MINIDL_NVCC."
)


def missing():
    """What the machine lacks, as a sentence; None where it lacks nothing."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return NO_DRIVER.format(error=error)
    code = driver.cuInit(0)
    if code == 100:  # CUDA_ERROR_NO_DEVICE
        return NO_GPU
    if code:
        return NO_START.format(code=code)
    count = ctypes.c_int(0)
    if driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return NO_GPU
    command = os.environ.get("MINIDL_NVCC") or "nvcc"
    if shutil.which(command) is None:
        return NO_NVCC.format(command=command)
    return None


if __name__ == "__main__":
    sentence = missing()
    if sentence:
        sys.exit("find_gpu: " + sentence)
