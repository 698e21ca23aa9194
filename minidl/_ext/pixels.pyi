"""Images kept as bytes, gathered into a batch of float32 numbers (``pixels.pyx``)."""

import numpy as np

def gather_scaled(images: np.ndarray, rows: np.ndarray, mean: float, std: float) -> np.ndarray | None: ...
