"""``nn.functional``: the layers' arithmetic as functions without state."""

from minidl.nn.functional.activation import (
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    logsigmoid,
    relu,
    sigmoid,
    softmax,
    softplus,
    tanh,
)
from minidl.nn.functional.convolution import conv1d, conv2d, conv_transpose1d, conv_transpose2d
from minidl.nn.functional.dropout import dropout, dropout2d
from minidl.nn.functional.linear import linear, one_hot
from minidl.nn.functional.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from minidl.nn.functional.normalization import batch_norm, normalize
from minidl.nn.functional.padding import pad
from minidl.nn.functional.pooling import adaptive_avg_pool2d, avg_pool2d, max_pool2d

__all__ = [
    "adaptive_avg_pool2d", "avg_pool2d", "batch_norm", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "cross_entropy", "dropout", "dropout2d", "elu", "gelu",
    "huber_loss", "l1_loss", "leaky_relu", "linear", "log_softmax", "logsigmoid", "max_pool2d", "mse_loss", "nll_loss",
    "normalize", "one_hot", "pad", "relu", "sigmoid", "smooth_l1_loss", "softmax", "softplus", "tanh",
]
