"""im2col and its adjoint for one tile of output pixels, small enough to stay in the second-level cache.

A tile is worked on in two moves.  First the part of the image that it sees is *staged*: copied into scratch memory
with its padding, so that nothing after it has a border to test (an image without padding is read where it lies).
Then im2col spreads the staged pixels out, one row for each tap, so that the convolution becomes a matrix product.
Both are runs of copies.  C is here the number of channels of one group, or of a block of its channels.
"""

from libc.string cimport memset

from minidl._ext.runs cimport add_run, copy_run


cdef Tiling cut_output(const Conv2d* g, Py_ssize_t pixels, Py_ssize_t least) noexcept nogil:
    """Tiles of about ``pixels`` output pixels, equally large, at least ``least`` of them if there are so many rows."""
    cdef Tiling tiling
    cdef Py_ssize_t down, across
    if pixels >= g.OW:
        down = (g.OH * g.OW + pixels - 1) // pixels
        down = min(max(down, least), g.OH)
        tiling.rows = (g.OH + down - 1) // down
        tiling.cols = g.OW
        tiling.across = 1
    else:
        across = (g.OW + pixels - 1) // pixels
        tiling.rows = 1
        tiling.cols = (g.OW + across - 1) // across
        tiling.across = (g.OW + tiling.cols - 1) // tiling.cols
    tiling.down = (g.OH + tiling.rows - 1) // tiling.rows
    return tiling


cdef Tile tile_at(const Conv2d* g, const Tiling* tiling, Py_ssize_t index) noexcept nogil:
    """Tile ``index``, counted along the rows."""
    cdef Tile tile
    tile.oh = index // tiling.across * tiling.rows
    tile.ow = index % tiling.across * tiling.cols
    tile.rows = min(tiling.rows, g.OH - tile.oh)
    tile.cols = min(tiling.cols, g.OW - tile.ow)
    return tile


cdef Py_ssize_t seen_rows(const Conv2d* g, Py_ssize_t rows) noexcept nogil:
    """Rows of the padded image that ``rows`` output rows look at."""
    return (rows - 1) * g.stride_h + (g.KH - 1) * g.dilation_h + 1


cdef Py_ssize_t seen_cols(const Conv2d* g, Py_ssize_t cols) noexcept nogil:
    """Columns of the padded image that ``cols`` output columns look at."""
    return (cols - 1) * g.stride_w + (g.KW - 1) * g.dilation_w + 1


cdef Py_ssize_t size_of_lines(const Conv2d* g, const Tiling* tiling) noexcept nogil:
    """How many numbers im2col and col2im need in their scratch ``lines``."""
    return (seen_rows(g, tiling.rows) + g.stride_h - 1) // g.stride_h * g.stride_h * tiling.cols


cdef bint has_padding(const Conv2d* g) noexcept nogil:
    return (g.pad_top | g.pad_left | g.pad_bottom | g.pad_right) != 0


cdef void stage(real* staged, const real* image, Py_ssize_t C, Py_ssize_t top, Py_ssize_t left, Py_ssize_t rows,
                Py_ssize_t cols, const Conv2d* g) noexcept nogil:
    # staged (C, rows, cols)   the padded image from row top and column left on (counted from its first real pixel)
    # image  (C, H, W)
    cdef Py_ssize_t first = min(max(-left, 0), cols)                 # columns [first, last) are inside the image
    cdef Py_ssize_t last = max(min(g.W - left, cols), first)
    cdef Py_ssize_t c, r, ih
    memset(staged, 0, C * rows * cols * sizeof(real))
    for c in range(C):
        for r in range(rows):
            ih = top + r
            if 0 <= ih < g.H:
                copy_run(staged + first, image + (c * g.H + ih) * g.W + left + first, (last - first) * sizeof(real))
            staged += cols


cdef void unstage(real* image, const real* staged, Py_ssize_t C, Py_ssize_t rows, Py_ssize_t cols,
                  const Conv2d* g) noexcept nogil:
    # image  (C, H, W)         what is staged, without the padding; zero where no output pixel has looked
    # staged (C, rows, cols)   the padded image from its top left corner on
    cdef Py_ssize_t last = min(max(cols - g.pad_left, 0), g.W)
    cdef Py_ssize_t c, ih, r
    cdef real* line = image
    for c in range(C):
        for ih in range(g.H):
            r = ih + g.pad_top
            if r < rows:
                copy_run(line, staged + (c * rows + r) * cols + g.pad_left, last * sizeof(real))
                memset(line + last, 0, (g.W - last) * sizeof(real))
            else:
                memset(line, 0, g.W * sizeof(real))
            line += g.W


# The taps of one kernel column kw see the same lines of the image, each tap a few lines further down.  So the short
# runs are cut out of the image once for every kw, into `lines`, and a tap is one long run of those.  With
# stride_h > 1 a tap sees every stride_h-th line; therefore such lines lie side by side, in stride_h bundles.

cdef inline Py_ssize_t place_of(Py_ssize_t r, Py_ssize_t bundle, Py_ssize_t cols, const Conv2d* g) noexcept nogil:
    """Where line r starts in ``lines``, whose bundles are ``bundle`` numbers long."""
    if g.stride_h == 1:
        return r * cols
    return r % g.stride_h * bundle + r // g.stride_h * cols


cdef void im2col(real* col, real* lines, const real* seen, Py_ssize_t plane, Py_ssize_t row, Py_ssize_t C, Tile tile,
                 const Conv2d* g) noexcept nogil:
    # col   (C*KH*KW, tile.rows*tile.cols)   row: one tap of one channel; column: one output pixel
    # seen  (C, ?, ?)                        what the tile sees: planes `plane` and rows `row` numbers apart
    # lines (stride_h, ?, tile.cols)         scratch: what one kernel column sees of one channel
    cdef Py_ssize_t taps = g.KH * g.KW, pixels = tile.rows * tile.cols, rows = seen_rows(g, tile.rows)
    cdef Py_ssize_t bundle = (rows + g.stride_h - 1) // g.stride_h * tile.cols
    cdef Py_ssize_t c, kh, kw, r, ow
    cdef const real* start
    cdef real* line
    for c in range(C):
        for kw in range(g.KW):
            for r in range(rows):
                start = seen + c * plane + r * row + kw * g.dilation_w
                line = lines + place_of(r, bundle, tile.cols, g)
                if g.stride_w == 1:
                    copy_run(line, start, tile.cols * sizeof(real))
                else:
                    for ow in range(tile.cols):
                        line[ow] = start[ow * g.stride_w]
            for kh in range(g.KH):
                copy_run(col + (c * taps + kh * g.KW + kw) * pixels,
                         lines + place_of(kh * g.dilation_h, bundle, tile.cols, g), pixels * sizeof(real))


cdef void col2im(real* seen, real* lines, const real* col, Py_ssize_t plane, Py_ssize_t row, Py_ssize_t C, Tile tile,
                 const Conv2d* g) noexcept nogil:
    # seen  (C, ?, ?)                        += what the tile hands back: planes `plane` and rows `row` numbers apart
    # lines (stride_h, ?, tile.cols)         scratch: what one kernel column hands back to one channel
    # col   (C*KH*KW, tile.rows*tile.cols)   row: one tap of one channel; column: one output pixel
    cdef Py_ssize_t taps = g.KH * g.KW, pixels = tile.rows * tile.cols, rows = seen_rows(g, tile.rows)
    cdef Py_ssize_t bundle = (rows + g.stride_h - 1) // g.stride_h * tile.cols
    cdef Py_ssize_t c, kh, kw, r, ow
    cdef const real* line
    cdef real* start
    for c in range(C):
        for kw in range(g.KW):
            memset(lines, 0, g.stride_h * bundle * sizeof(real))
            for kh in range(g.KH):
                add_run(lines + place_of(kh * g.dilation_h, bundle, tile.cols, g),
                        col + (c * taps + kh * g.KW + kw) * pixels, pixels)
            for r in range(rows):
                start = seen + c * plane + r * row + kw * g.dilation_w
                line = lines + place_of(r, bundle, tile.cols, g)
                if g.stride_w == 1:
                    add_run(start, line, tile.cols)
                else:
                    for ow in range(tile.cols):
                        start[ow * g.stride_w] += line[ow]
