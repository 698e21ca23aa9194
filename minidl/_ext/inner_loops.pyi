"""Inner loops over strided arrays (``inner_loops.pyx``): all of it is for other extensions."""
