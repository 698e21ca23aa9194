from minidl._ext.geometry cimport Conv2d
from minidl._ext.runs cimport real

cdef struct Tile:                   # a rectangle of output pixels, contiguous in an output plane
    Py_ssize_t oh, ow               # its first row and column
    Py_ssize_t rows, cols           # whole rows of the plane, or a part of one row

cdef struct Tiling:                 # how every output plane is cut into tiles
    Py_ssize_t rows, cols           # of a tile; those at the bottom and right edge may be smaller
    Py_ssize_t down, across         # tiles along each side

cdef Tiling cut_output(const Conv2d* g, Py_ssize_t pixels, Py_ssize_t least) noexcept nogil
cdef Tile tile_at(const Conv2d* g, const Tiling* tiling, Py_ssize_t index) noexcept nogil
cdef Py_ssize_t seen_rows(const Conv2d* g, Py_ssize_t rows) noexcept nogil
cdef Py_ssize_t seen_cols(const Conv2d* g, Py_ssize_t cols) noexcept nogil
cdef Py_ssize_t size_of_lines(const Conv2d* g, const Tiling* tiling) noexcept nogil
cdef bint has_padding(const Conv2d* g) noexcept nogil

cdef void stage(real* staged, const real* image, Py_ssize_t C, Py_ssize_t top, Py_ssize_t left, Py_ssize_t rows,
                Py_ssize_t cols, const Conv2d* g) noexcept nogil
cdef void unstage(real* image, const real* staged, Py_ssize_t C, Py_ssize_t rows, Py_ssize_t cols,
                  const Conv2d* g) noexcept nogil
cdef void im2col(real* col, real* lines, const real* seen, Py_ssize_t plane, Py_ssize_t row, Py_ssize_t C, Tile tile,
                 const Conv2d* g) noexcept nogil
cdef void col2im(real* seen, real* lines, const real* col, Py_ssize_t plane, Py_ssize_t row, Py_ssize_t C, Tile tile,
                 const Conv2d* g) noexcept nogil
