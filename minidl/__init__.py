"""minidl: a small deep learning framework with PyTorch's names.

``import minidl`` gives what ``import torch`` gives a user of small convolutional networks: tensors with a tape,
``nn``, ``optim``, ``utils.data``, and ``datasets`` beside them.
"""

from typing import TYPE_CHECKING

from minidl import _tensor, autograd
from minidl._ext.core import Parameter, Tensor
from minidl._ext.storage import empty_cache, memory_stats
from minidl._ext.threads import get_num_threads, set_num_threads
from minidl._on_first_use import on_first_use
from minidl._random import Generator, default_generator, initial_seed, manual_seed, seed
from minidl._tensor import allclose, equal, get_rng_state, is_floating_point, is_tensor, numel, set_rng_state
from minidl._types import (
    NAMES,
    Size,
    can_cast,
    device,
    dtype,
    finfo,
    get_default_dtype,
    iinfo,
    promote_types,
    set_default_dtype,
)
from minidl.autograd import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from minidl.ops.creation import (
    arange,
    as_tensor,
    bernoulli,
    diag,
    empty,
    empty_like,
    eye,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    linspace,
    meshgrid,
    normal,
    ones,
    ones_like,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
    tensor,
    zeros,
    zeros_like,
)
from minidl.ops.indexing import gather, index_select, masked_select, nonzero, scatter, scatter_add
from minidl.ops.matmul import bmm, dot, matmul, mm, mv, outer
from minidl.ops.pointwise import (
    abs,
    acos,
    add,
    asin,
    atan,
    atan2,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    ceil,
    clamp,
    cos,
    cosh,
    div,
    eq,
    erf,
    exp,
    expm1,
    floor,
    floor_divide,
    ge,
    gt,
    isfinite,
    isinf,
    isnan,
    le,
    log,
    log1p,
    log2,
    log10,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    masked_fill,
    maximum,
    minimum,
    mul,
    ne,
    neg,
    pow,
    reciprocal,
    relu,
    remainder,
    round,
    rsqrt,
    sigmoid,
    sign,
    sin,
    sinh,
    sqrt,
    square,
    sub,
    tan,
    tanh,
    trunc,
    where,
)
from minidl.ops.promotion import result_type
from minidl.ops.reduce import (
    all,
    amax,
    amin,
    any,
    argmax,
    argmin,
    argsort,
    cumsum,
    logsumexp,
    max,
    mean,
    min,
    norm,
    prod,
    sort,
    std,
    sum,
    topk,
    var,
)
from minidl.ops.shape import (
    broadcast_to,
    cat,
    chunk,
    clone,
    flatten,
    flip,
    movedim,
    narrow,
    permute,
    repeat,
    reshape,
    roll,
    select,
    split,
    squeeze,
    stack,
    t,
    tile,
    transpose,
    tril,
    triu,
    unbind,
    unflatten,
    unsqueeze,
)
from minidl.ops.softmax import log_softmax, softmax

__version__ = "0.1.0"

float32 = float = NAMES["float32"]
float64 = double = NAMES["float64"]
int8 = NAMES["int8"]
int16 = short = NAMES["int16"]
int32 = int = NAMES["int32"]
int64 = long = NAMES["int64"]
uint8 = NAMES["uint8"]
bool = NAMES["bool"]
clip, concat, subtract, multiply, divide, negative, absolute = clamp, cat, sub, mul, div, neg, abs

if TYPE_CHECKING:
    from minidl import backends, compiler, cuda, datasets, explain, nn, optim, serialization, utils
    from minidl._printing import set_printoptions
    from minidl.backends.cuda import get_float32_matmul_precision, set_float32_matmul_precision
    from minidl.compiler import compile
    from minidl.serialization import load, save
else:
    __getattr__, __dir__ = on_first_use(__name__, {
        "backends": "minidl.backends",
        "compile": "minidl.compiler.compiled",
        "compiler": "minidl.compiler",
        "cuda": "minidl.cuda",
        "datasets": "minidl.datasets",
        "explain": "minidl.explain",
        "get_float32_matmul_precision": "minidl.backends.cuda",
        "load": "minidl.serialization",
        "nn": "minidl.nn",
        "optim": "minidl.optim",
        "save": "minidl.serialization",
        "serialization": "minidl.serialization",
        "set_float32_matmul_precision": "minidl.backends.cuda",
        "set_printoptions": "minidl._printing",
        "utils": "minidl.utils",
    })
    __all__ = [name for name in __dir__() if not name.startswith("_")]

