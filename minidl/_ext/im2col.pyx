"""im2col and its adjoint for one tile of output pixels, small enough to stay in the second-level cache.

A tile is worked on in two moves.  First the part of the image that it sees is *staged*: copied into scratch memory
with its padding, so that nothing after it has a border to test (an image without padding is read where it lies).
Then im2col spreads the staged pixels out so that the convolution becomes a matrix product.  Both come in two orders:

    by taps     staged (C, rows, cols)     col (C*KH*KW, pixels of the tile)     runs as long as an output row
    by pixels   staged (rows, cols, C)     col (pixels of the tile, KH*KW*C)     runs of KW*C numbers

C is here the number of channels of one group (or of a block of its channels).
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


cdef bint has_padding(const Conv2d* g) noexcept nogil:
    return (g.pad_top | g.pad_left | g.pad_bottom | g.pad_right) != 0


cdef void stage_planes(real* staged, const real* image, Py_ssize_t C, Py_ssize_t top, Py_ssize_t left,
                       Py_ssize_t rows, Py_ssize_t cols, const Conv2d* g) noexcept nogil:
    # staged (C, rows, cols)   the padded image from row top and column left on (counted from its first real pixel)
    # image  (C, H, W)
    cdef Py_ssize_t first = min(max(-left, 0), cols)                 # columns [first, last) are inside the image
    cdef Py_ssize_t last = max(min(g.W - left, cols), first)
    cdef Py_ssize_t c, r, ih
    for c in range(C):
        for r in range(rows):
            ih = top + r
            if 0 <= ih < g.H:
                memset(staged, 0, first * sizeof(real))
                copy_run(staged + first, image + (c * g.H + ih) * g.W + left + first, (last - first) * sizeof(real))
                memset(staged + last, 0, (cols - last) * sizeof(real))
            else:
                memset(staged, 0, cols * sizeof(real))
            staged += cols


cdef void stage_pixels(real* staged, const real* image, Py_ssize_t C, Py_ssize_t top, Py_ssize_t left,
                       Py_ssize_t rows, Py_ssize_t cols, const Conv2d* g) noexcept nogil:
    # staged (rows, cols, C)   the padded image from row top and column left on (counted from its first real pixel)
    # image  (C, H, W)
    cdef Py_ssize_t first = min(max(-left, 0), cols)
    cdef Py_ssize_t last = max(min(g.W - left, cols), first)
    cdef Py_ssize_t c, r, w
    cdef const real* line
    if top < 0 or top + rows > g.H or first > 0 or last < cols:
        memset(staged, 0, rows * cols * C * sizeof(real))
    for r in range(max(-top, 0), min(g.H - top, rows)):
        for c in range(C):
            line = image + (c * g.H + top + r) * g.W + left
            for w in range(first, last):
                staged[(r * cols + w) * C + c] = line[w]


cdef void unstage_pixels(real* image, const real* staged, Py_ssize_t C, Py_ssize_t rows, Py_ssize_t cols,
                         const Conv2d* g) noexcept nogil:
    # image  (C, H, W)         what is staged, without the padding; zero where no output pixel has looked
    # staged (rows, cols, C)   the padded image from its top left corner on
    cdef Py_ssize_t last = min(max(cols - g.pad_left, 0), g.W)
    cdef Py_ssize_t c, ih, iw
    cdef real* line
    cdef const real* pixel
    for c in range(C):
        for ih in range(g.H):
            line = image + (c * g.H + ih) * g.W
            if ih + g.pad_top < rows:
                pixel = staged + ((ih + g.pad_top) * cols + g.pad_left) * C + c
                for iw in range(last):
                    line[iw] = pixel[iw * C]
                memset(line + last, 0, (g.W - last) * sizeof(real))
            else:
                memset(line, 0, g.W * sizeof(real))


cdef void im2col_by_taps(real* col, const real* seen, Py_ssize_t plane, Py_ssize_t row, Py_ssize_t C, Tile tile,
                         const Conv2d* g) noexcept nogil:
    # col  (C*KH*KW, tile.rows*tile.cols)   row: one tap of one channel; column: one output pixel
    # seen (C, ?, ?)                        what the tile sees: planes `plane` and rows `row` numbers apart
    cdef Py_ssize_t c, kh, kw, oh, ow
    cdef const real* line
    for c in range(C):
        for kh in range(g.KH):
            for kw in range(g.KW):
                line = seen + c * plane + kh * g.dilation_h * row + kw * g.dilation_w
                for oh in range(tile.rows):
                    if g.stride_w == 1:
                        copy_run(col, line, tile.cols * sizeof(real))
                    else:
                        for ow in range(tile.cols):
                            col[ow] = line[ow * g.stride_w]
                    col += tile.cols
                    line += g.stride_h * row


cdef void im2col_by_pixels(real* col, const real* seen, Py_ssize_t row, Py_ssize_t C, Tile tile,
                           const Conv2d* g) noexcept nogil:
    # col  (tile.rows*tile.cols, KH*KW*C)   row: one output pixel; column: one channel of one tap
    # seen (?, row / C, C)                  what the tile sees: rows `row` numbers apart
    cdef Py_ssize_t runs = 1 if g.dilation_w == 1 else g.KW         # taps side by side are one run
    cdef Py_ssize_t run = g.KW // runs * C
    cdef Py_ssize_t kh, i, oh, ow
    cdef const real* line
    for oh in range(tile.rows):
        for ow in range(tile.cols):
            for kh in range(g.KH):
                line = seen + (oh * g.stride_h + kh * g.dilation_h) * row + ow * g.stride_w * C
                for i in range(runs):
                    copy_run(col, line + i * g.dilation_w * C, run * sizeof(real))
                    col += run


cdef void col2im_by_pixels(real* seen, const real* col, Py_ssize_t row, Py_ssize_t C, Tile tile,
                           const Conv2d* g) noexcept nogil:
    # seen (?, row / C, C)                  += what the tile hands back: rows `row` numbers apart
    # col  (tile.rows*tile.cols, KH*KW*C)   row: one output pixel; column: one channel of one tap
    cdef Py_ssize_t runs = 1 if g.dilation_w == 1 else g.KW
    cdef Py_ssize_t run = g.KW // runs * C
    cdef Py_ssize_t kh, i, oh, ow
    cdef real* line
    for oh in range(tile.rows):
        for ow in range(tile.cols):
            for kh in range(g.KH):
                line = seen + (oh * g.stride_h + kh * g.dilation_h) * row + ow * g.stride_w * C
                for i in range(runs):
                    add_run(line + i * g.dilation_w * C, col, run)
                    col += run
