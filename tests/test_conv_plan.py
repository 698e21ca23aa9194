"""Which kernel a convolution gets: what ``conv_plan`` says is what runs, and ``use_conv_kernel`` changes it."""

import numpy as np
import pytest

import minidl
from minidl._ext import conv2d as kernels
from minidl._ext.conv2d_table import Kernel
from minidl.backends.cpu import conv_plan, use_conv_kernel
from minidl.geometry import conv2d_geometry


def test_a_plan_names_kernels_and_reasons():
    plan = conv_plan((2, 8, 6, 6), (8, 1, 3, 3), groups=8)
    assert plan.forward.kernel == plan.backward_input.kernel == plan.backward_weight.kernel == "depthwise"
    assert "one input channel per group" in plan.forward.reason
    assert [line.split()[0] for line in str(plan).splitlines()] == ["forward", "backward_input", "backward_weight"]
    assert conv_plan((2, 8, 6, 6), (8, 8, 1, 1), dtype=minidl.float64).forward.kernel == "pointwise"
    assert conv_plan((2, 8, 6, 6), (8, 8, 3, 3), dtype=minidl.float64).backward_weight.kernel == "im2col"


def test_what_a_plan_refuses():
    with pytest.raises(RuntimeError, match="channels"):
        conv_plan((2, 8, 6, 6), (8, 3, 3, 3))
    with pytest.raises(TypeError, match=r"got minidl\.int64"):
        conv_plan((2, 8, 6, 6), (8, 8, 3, 3), dtype=minidl.int64)


def test_an_override_runs_and_ends():
    shapes = (2, 4, 6, 6), (8, 4, 1, 1)
    g = conv2d_geometry(*shapes)
    generator = np.random.default_rng(0)
    x, weight = (generator.standard_normal(shape).astype(np.float32) for shape in shapes)
    with use_conv_kernel(forward="im2col"):
        plan = conv_plan(*shapes)
        assert (plan.forward.kernel, plan.forward.reason) == ("im2col", "set by use_conv_kernel")
        assert plan.backward_input.kernel == "pointwise"
        with use_conv_kernel(forward="pointwise", backward_weight="im2col"):
            assert conv_plan(*shapes).forward.kernel == "pointwise"
            assert conv_plan(*shapes).backward_weight.kernel == "im2col"
        assert conv_plan(*shapes).forward.kernel == "im2col"
    with use_conv_kernel(forward="depthwise"), pytest.raises(ValueError, match="DEPTHWISE does not fit this geometry"):
        kernels.conv2d_forward(x, weight, None, g)
    with use_conv_kernel(forward="depthwise"):      # the argument goes before the override
        kernels.conv2d_forward(x, weight, None, g, Kernel.IM2COL)
    assert conv_plan(*shapes).forward.kernel == "pointwise"


def test_an_unknown_kernel_is_an_error():
    with pytest.raises(ValueError, match=r"no kernel is called 'winograd9'; there are auto, im2col"), \
            use_conv_kernel(backward_input="winograd9"):
        pass
