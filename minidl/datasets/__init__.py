"""Data sets: digits that come with the package, MNIST and Fashion-MNIST. Names and conventions are torchvision's."""

from .embedded import EmbeddedDigits
from .mnist import MNIST, FashionMNIST

__all__ = ["MNIST", "EmbeddedDigits", "FashionMNIST"]
