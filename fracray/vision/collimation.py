"""Where the exposed field of a radiograph lies: without the borders that collimator or film holder left."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_CROPPED = 0.25
"""Largest share of height or width that may be cut off at one edge, so that at least half of each remains."""
DARK, WHITE = 0.1, 0.9
"""Grey up to which, and from which on, a border can be collimation or film."""
EVEN = 0.04
"""Largest distance of the 2nd and 98th percentile along a border line; a line across skin has more."""
_SIDE = 256


@dataclass(frozen=True)
class Field:
    """A rectangle of whole pixels: rows `top` to `top + height`, columns alike."""

    top: int
    left: int
    height: int
    width: int


def exposed_field(pixels: NDArray[np.float32]) -> Field:
    """Return the part of the radiograph `pixels` `[h, w]` in [0, 1] inside its borders.

    A border is a run of rows or columns from an edge inwards that are nearly constant and dark or white. It
    is found at a resolution of 1/256 of a side; a letter on the border ends it. A picture that is border
    everywhere is returned whole.
    """
    height, width = pixels.shape
    reduced = min(width, _SIDE), min(height, _SIDE)
    small = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(reduced, Image.Resampling.BOX))
    above, below = _borders(small)
    if above == len(small):
        return Field(0, 0, height, width)
    left, right = _borders(small[above : len(small) - below].T)
    rows, columns = height / small.shape[0], width / small.shape[1]
    top, start = int(above * rows), int(left * columns)
    return Field(top, start, height - int(below * rows) - top, width - int(right * columns) - start)


def _borders(lines: NDArray[np.float32]) -> tuple[int, int]:
    """Return how many of `lines` `[n, m]` are border at the beginning and at the end; `(n, 0)` if all are."""
    low, high = np.quantile(lines, (0.02, 0.98), axis=1)
    inside = np.flatnonzero((high - low > EVEN) | ((high > DARK) & (low < WHITE)))
    if not len(inside):
        return len(lines), 0
    most = int(MAX_CROPPED * len(lines))
    return min(int(inside[0]), most), min(len(lines) - 1 - int(inside[-1]), most)
