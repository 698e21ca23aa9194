"""PyTorch's random numbers for the CPU: ``Generator`` and the loops that fill raw contiguous arrays from one.

The sequence is that of MT19937; what becomes of its words is written at each function, and in ``mersenne.h`` for the
loops that are worth compiling for several processors.  All calls hold the GIL, which is the generator's lock.
``minidl._random`` checks arguments and calls the functions here.
"""

import os

cimport numpy as cnp
from libc.math cimport cos, fma, log1p, sin, sqrt
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cnp.import_array()

cdef extern from "mersenne.h" nogil:
    int MT_WORDS
    ctypedef struct mersenne:
        uint64_t seed
        int left
        uint32_t next
        uint32_t words[624]
    void mt_seed(mersenne* mt, uint64_t seed)
    uint32_t mt_next32(mersenne* mt)
    uint64_t mt_next64(mersenne* mt)
    void mt_uniform_f32(mersenne* mt, float* out, Py_ssize_t n, float low, float high)
    void mt_uniform_f64(mersenne* mt, double* out, Py_ssize_t n, double low, double high)
    void mt_bernoulli_u8(mersenne* mt, uint8_t* out, Py_ssize_t n, int64_t threshold)
    void box_muller_f32(float* data, Py_ssize_t blocks, float mean, float std)
    void box_muller_f64(double* data, Py_ssize_t blocks, double mean, double std)

ctypedef fused real:
    float
    double

ctypedef fused number:
    float
    double
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t

DEFAULT_SEED = 67280421310721
cdef double PI = 3.14159265358979323846
# From here on a remainder of 32 bits would be too uneven, and 64 are drawn.
cdef uint64_t WIDE_RANGE = 1 << 28
cdef int64_t WIDE_PERMUTATION = 0xFFFFFFFF // 20


cdef struct SavedState:
    # PyTorch's bytes of a CPU generator's state, its unused fields included.
    uint64_t seed
    int32_t left
    int32_t seeded
    uint64_t next
    uint64_t words[624]
    double unused_x
    double normal
    double unused_rho
    int32_t has_normal
    float unused_float
    uint64_t unused_flag


cdef class Generator:
    """A stream of random numbers, equal to that of ``torch.Generator(device='cpu')`` with the same seed.

    ``get_state`` and ``set_state`` speak PyTorch's format (5056 bytes), so that a state can go to and fro.
    """

    cdef mersenne mt
    cdef double normal
    cdef bint has_normal

    def __cinit__(self, device="cpu"):
        if str(device) != "cpu":
            raise RuntimeError(f"Generator: there is none for device {str(device)!r}; the one for 'cpu' is Generator()")
        mt_seed(&self.mt, DEFAULT_SEED)
        self.has_normal = False

    def manual_seed(self, seed):
        """Start the stream that belongs to ``seed`` (an int of 64 bits, negative ones count from 2**64 down)."""
        if isinstance(seed, bool) or not hasattr(seed, "__index__"):
            raise RuntimeError(f"manual_seed expected an int, but got {type(seed).__name__}")
        seed = seed.__index__()
        if not -(1 << 63) <= seed < 1 << 64:
            raise ValueError(f"manual_seed: {seed} does not fit into 64 bits; it must lie in [-2**63, 2**64)")
        mt_seed(&self.mt, <uint64_t>(seed & 0xFFFFFFFFFFFFFFFF))
        self.has_normal = False
        return self

    def initial_seed(self):
        """The seed that the present stream started from."""
        return self.mt.seed

    def seed(self):
        """Start a stream that nobody can foresee; returns its seed."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little") & 0x1FFFFFFFFFFFFF)
        return self.mt.seed

    @property
    def device(self):
        from minidl._types import device
        return device("cpu")

    def get_state(self):
        """The position in the stream, as an array of 5056 bytes that ``set_state`` (or PyTorch's) takes."""
        cdef cnp.npy_intp size = sizeof(SavedState)
        cdef cnp.ndarray state = cnp.PyArray_ZEROS(1, &size, cnp.NPY_UINT8, 0)
        cdef SavedState saved
        cdef int i
        memset(&saved, 0, sizeof(SavedState))
        saved.seed = self.mt.seed
        saved.left = self.mt.left
        saved.seeded = 1
        saved.next = self.mt.next
        for i in range(MT_WORDS):
            saved.words[i] = self.mt.words[i]
        if self.has_normal:
            saved.has_normal = 1
            saved.normal = self.normal
        memcpy(cnp.PyArray_DATA(state), &saved, sizeof(SavedState))
        return state

    def set_state(self, state):
        """Go on from where ``get_state`` was called, exactly."""
        cdef SavedState saved
        cdef int i
        if not isinstance(state, cnp.ndarray) or state.dtype != "uint8":
            raise TypeError(f"set_state: expected an array of bytes (uint8) from get_state, got "
                            f"{getattr(state, 'dtype', type(state).__name__)}")
        if state.size != sizeof(SavedState):
            raise RuntimeError(f"Expected a CPUGeneratorImplState of size {sizeof(SavedState)} but found the input RNG "
                               f"state size to be {state.size}")
        cdef bytes raw = state.tobytes()
        memcpy(&saved, <const char*>raw, sizeof(SavedState))
        if saved.seeded != 1 or not 0 < saved.left <= MT_WORDS or saved.next > MT_WORDS:
            raise RuntimeError("Invalid mt19937 state")
        self.mt.seed = saved.seed
        self.mt.left = saved.left
        self.mt.next = <uint32_t>saved.next
        for i in range(MT_WORDS):
            self.mt.words[i] = <uint32_t>saved.words[i]
        self.has_normal = saved.has_normal != 0
        self.normal = saved.normal

    def clone_state(self):
        """A generator of its own that goes on from the same position."""
        cdef Generator other = type(self)()
        other.mt = self.mt
        other.normal = self.normal
        other.has_normal = self.has_normal
        return other

    def __reduce__(self):
        return _restored, (self.get_state(), type(self))

    def __repr__(self):
        return f"<minidl.Generator on cpu, initial seed {self.mt.seed}>"


def _restored(state, kind=Generator):
    generator = kind()
    generator.set_state(state)
    return generator


def fill_uniform(Generator generator, cnp.ndarray out, double low, double high):
    """out (contiguous, float32 or float64): uniform in [low, high)."""
    cdef Py_ssize_t n = cnp.PyArray_SIZE(out)
    if cnp.PyArray_TYPE(out) == cnp.NPY_FLOAT32:
        mt_uniform_f32(&generator.mt, <float*>cnp.PyArray_DATA(out), n, <float>low, <float>high)
    else:
        mt_uniform_f64(&generator.mt, <double*>cnp.PyArray_DATA(out), n, low, high)


cdef double next_uniform(Generator generator) noexcept:
    return <double>(mt_next64(&generator.mt) & 0x1FFFFFFFFFFFFF) * (1.0 / 9007199254740992.0)


cdef void normals_one_by_one(Generator generator, real* out, Py_ssize_t n, double mean, double std) noexcept:
    """Two normals from two uniform doubles by Box and Muller; the generator keeps the second for the next call."""
    cdef double first, second, radius, value
    cdef Py_ssize_t i
    for i in range(n):
        if generator.has_normal:
            generator.has_normal = False
            value = generator.normal
        else:
            first = next_uniform(generator)
            second = next_uniform(generator)
            radius = sqrt(-2.0 * log1p(-second))
            generator.normal = radius * sin(2.0 * PI * first)
            generator.has_normal = True
            value = radius * cos(2.0 * PI * first)
        out[i] = <real>fma(value, std, mean)


def fill_normal(Generator generator, cnp.ndarray out, double mean, double std, bint in_blocks):
    """out (contiguous, float32 or float64): normal.

    With ``in_blocks`` (16 values or more), blocks of 16 uniforms are turned into normals in place, the halves of a
    block making the pairs of Box and Muller; if a part of a block is left, the last 16 values are drawn anew.
    """
    cdef Py_ssize_t n = cnp.PyArray_SIZE(out)
    cdef float* single = <float*>cnp.PyArray_DATA(out)
    cdef double* double_ = <double*>cnp.PyArray_DATA(out)
    if cnp.PyArray_TYPE(out) == cnp.NPY_FLOAT32:
        if not in_blocks:
            normals_one_by_one(generator, single, n, mean, std)
            return
        mt_uniform_f32(&generator.mt, single, n, 0, 1)
        box_muller_f32(single, n // 16, <float>mean, <float>std)
        if n % 16:
            mt_uniform_f32(&generator.mt, single + n - 16, 16, 0, 1)
            box_muller_f32(single + n - 16, 1, <float>mean, <float>std)
    else:
        if not in_blocks:
            normals_one_by_one(generator, double_, n, mean, std)
            return
        mt_uniform_f64(&generator.mt, double_, n, 0, 1)
        box_muller_f64(double_, n // 16, mean, std)
        if n % 16:
            mt_uniform_f64(&generator.mt, double_ + n - 16, 16, 0, 1)
            box_muller_f64(double_ + n - 16, 1, mean, std)


cdef void integers(mersenne* mt, number* out, Py_ssize_t n, uint64_t count, int64_t low) noexcept:
    cdef Py_ssize_t i
    cdef uint64_t value
    for i in range(n):
        if count == 0:
            value = mt_next64(mt)
        elif count >= WIDE_RANGE:
            value = mt_next64(mt) % count + <uint64_t>low
        else:
            value = mt_next32(mt) % <uint32_t>count + <uint64_t>low
        out[i] = <number><int64_t>value


def fill_integers(Generator generator, cnp.ndarray out, uint64_t count, int64_t low):
    """out (contiguous): low + a word (64 bits from a count of 2**28 on) modulo count; count 0: 64 bits as they are."""
    cdef Py_ssize_t n = cnp.PyArray_SIZE(out)
    cdef void* data = cnp.PyArray_DATA(out)
    cdef int type = cnp.PyArray_TYPE(out)
    cdef mersenne* mt = &generator.mt
    if type == cnp.NPY_INT64:
        integers(mt, <int64_t*>data, n, count, low)
    elif type == cnp.NPY_INT32:
        integers(mt, <int32_t*>data, n, count, low)
    elif type == cnp.NPY_INT16:
        integers(mt, <int16_t*>data, n, count, low)
    elif type == cnp.NPY_INT8:
        integers(mt, <int8_t*>data, n, count, low)
    elif type == cnp.NPY_UINT8 or type == cnp.NPY_BOOL:
        integers(mt, <uint8_t*>data, n, count, low)
    elif type == cnp.NPY_FLOAT32:
        integers(mt, <float*>data, n, count, low)
    else:
        integers(mt, <double*>data, n, count, low)


def fill_words(Generator generator, cnp.ndarray out, uint64_t count, bint wide):
    """out (contiguous): words (``wide``: 64 bits) modulo count, whatever the range: ``random_()`` without bounds."""
    cdef Py_ssize_t i, n = cnp.PyArray_SIZE(out)
    cdef int64_t* data = <int64_t*>cnp.PyArray_DATA(out)
    for i in range(n):
        data[i] = <int64_t>((mt_next64(&generator.mt) if wide else <uint64_t>mt_next32(&generator.mt)) % count)


def fill_bernoulli(Generator generator, cnp.ndarray out, double p):
    """out (contiguous, bool): True where a uniform double is below p."""
    cdef int64_t threshold = <int64_t>(p * 9007199254740992.0)
    if <double>threshold < p * 9007199254740992.0:
        threshold += 1
    mt_bernoulli_u8(&generator.mt, <uint8_t*>cnp.PyArray_DATA(out), cnp.PyArray_SIZE(out), threshold)


def fill_permutation(Generator generator, cnp.ndarray out):
    """out (contiguous, int64): a permutation of 0 .. n - 1; place i takes one of the n - i values not yet placed.

    For very large n the values are let in one by one instead, i to a place among the first i + 1, from 64 bits each.
    """
    cdef int64_t n = cnp.PyArray_SIZE(out)
    cdef int64_t* data = <int64_t*>cnp.PyArray_DATA(out)
    cdef int64_t i, other, kept
    if n >= WIDE_PERMUTATION:
        for i in range(n):
            other = <int64_t>(mt_next64(&generator.mt) % <uint64_t>(i + 1))
            data[i] = i
            data[i] = data[other]
            data[other] = i
        return
    for i in range(n):
        data[i] = i
    for i in range(n - 1):
        other = i + mt_next32(&generator.mt) % <uint32_t>(n - i)
        kept = data[i]
        data[i] = data[other]
        data[other] = kept
