"""Random numbers: on the CPU PyTorch's, by ``minidl._random``; another device has its own for a seed.

``generator`` is one of the device's, or None for its default one.  Arrays that are filled are new and without gaps.
"""

from minidl import _random


class RandomReference:
    """What is filled or made at random; ranges and errors are those of ``minidl._random``."""

    def uniform_(self, x, low, high, generator):
        """Numbers uniform in [low, high)."""
        _random.uniform_(x, low, high, generator)

    def normal_(self, x, mean, std, generator):
        """Normally distributed numbers."""
        _random.normal_(x, mean, std, generator)

    def random_(self, x, low, high, generator):
        """Whole numbers in [low, high); None for the end of what the dtype holds."""
        _random.random_(x, low, high, generator)

    def bernoulli_(self, x, p, generator):
        """Ones of probability p, and zeros."""
        _random.bernoulli_(x, p, generator)

    def dropout_mask(self, shape, p, generator):
        """A new bool array, True where dropout with probability p of zeroing keeps a number."""
        return _random.dropout_mask(shape, p, generator)

    def randperm(self, n, generator):
        """A new int64 array with a permutation of 0 .. n - 1."""
        return _random.randperm(n, generator)
