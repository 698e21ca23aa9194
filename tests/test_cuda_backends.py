"""The public switches of the kernels for GPUs: PyTorch's names and defaults, and what they change."""

import cuda_device
import numpy as np
import pytest

import minidl
from minidl import backends
from minidl.backends import cudnn
from minidl.backends.cuda import conv_plan, use_conv_kernel

LARGE = (64, 128, 28, 28), (128, 128, 3, 3), 1, 1


@pytest.fixture(autouse=True)
def switches():
    yield
    backends.cuda.matmul.allow_tf32, cudnn.allow_tf32 = False, True


def test_the_defaults_are_those_of_pytorch(torch):
    assert backends.cuda.is_built()
    assert backends.cuda.matmul.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is False
    assert minidl.get_float32_matmul_precision() == torch.get_float32_matmul_precision() == "highest"
    for name in ("allow_tf32", "enabled", "benchmark", "deterministic"):
        assert getattr(cudnn, name) is getattr(torch.backends.cudnn, name), name
    assert not cudnn.is_available() and cudnn.version() is None


def test_precision_in_words_and_as_a_switch():
    for word, allowed in (("high", True), ("medium", True), ("highest", False)):
        minidl.set_float32_matmul_precision(word)
        assert minidl.get_float32_matmul_precision() == word
        assert backends.cuda.matmul.allow_tf32 is allowed
    backends.cuda.matmul.allow_tf32 = True
    assert minidl.get_float32_matmul_precision() == "high"
    with pytest.raises(RuntimeError, match="expected one of highest, high, medium, got 'low'"):
        minidl.set_float32_matmul_precision("low")
    with pytest.raises(RuntimeError, match="expects a bool, but got str"):
        backends.cuda.matmul.allow_tf32 = "yes"
    with pytest.raises(RuntimeError, match="expects a bool, but got int"):
        cudnn.allow_tf32 = 1
    with pytest.raises(AttributeError):
        backends.cuda.matmul.allow_fp16 = True


def test_flags_end_with_their_block():
    with cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        assert cudnn.deterministic and not cudnn.allow_tf32
    assert not cudnn.deterministic and cudnn.allow_tf32


@pytest.mark.cuda
def test_a_plan_names_kernels_and_reasons(gpu):
    plan = conv_plan(*LARGE)
    assert plan.forward.kernel == plan.backward_input.kernel == plan.backward_weight.kernel == "tf32_large"
    assert [line.split()[0] for line in str(plan).splitlines()] == ["forward", "backward_input", "backward_weight"]
    with cudnn.flags(allow_tf32=False):
        assert conv_plan(*LARGE).forward.kernel == "large"
    assert conv_plan(*LARGE, dtype=minidl.float64).forward.kernel == "medium"
    first = conv_plan((64, 1, 28, 28), (6, 1, 5, 5), padding=2)
    assert first.forward.kernel == "direct"
    assert "blocks share each tile" in first.backward_weight.reason
    with use_conv_kernel(forward="small"):
        assert str(conv_plan(*LARGE).forward) == "small: set by use_conv_kernel"
    assert conv_plan((2, 8, 6, 6), (16, 1, 3, 3), groups=8).backward_input.kernel == "depthwise"
    with pytest.raises(TypeError, match=r"got minidl\.int64"):
        conv_plan(*LARGE, dtype=minidl.int64)
    with pytest.raises(RuntimeError, match="channels"):
        conv_plan((2, 8, 6, 6), (8, 3, 3, 3))
    with pytest.raises(ValueError, match=r"no kernel is called 'winograd'; there are direct, "), \
            use_conv_kernel(backward_input="winograd"):
        pass


@pytest.mark.cuda
@pytest.mark.skipif(cuda_device.REAL, reason="the emulation counts launches")
def test_the_switch_of_products_changes_the_kernel(gpu):
    a = gpu.from_host(np.ones((66, 8), np.float32))
    b = gpu.from_host(np.ones((8, 65 * 64), np.float32))

    def kernels():
        cuda_device.emulation().reset_counters()
        gpu.matmul(a, b)
        return set(cuda_device.emulation().counters().kernels)

    assert kernels() <= {"gemm_medium_f32", "gemm_thin_f32", "gemm_large_f32"}
    backends.cuda.matmul.allow_tf32 = True
    assert kernels() <= {"gemm_tf32_medium_KN_f32", "gemm_tf32_large_KN_f32"}
