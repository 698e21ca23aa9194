"""minidl on a real GPU beside PyTorch: ``python -m benchmarks.gpu``, or ``make gpu-bench``; ten minutes at most.

Both libraries compute in this process, on the same stream of the same GPU, and take turns.  Numbers are compared before
anything is timed; where PyTorch is not installed or has no CUDA, minidl's CPU is what they are compared with, and
PyTorch's columns stay empty.
"""

# Family, as --only names it -> the module with its ``cases(family, options)``, in the order in which they are run.
FAMILIES = {
    "step": "lenet",
    "conv": "layers",
    "matmul": "layers",
    "cross-entropy": "memory",
    "optimizer": "memory",
    "elementwise": "memory",
}
