"""The heat of a decision laid over the radiograph it belongs to."""

import io
import math

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import find_objects, label

from fracray.config import Preprocessing
from fracray.vision.preprocess import placement, resize, restore

LONG_SIDE = 1024
"""Longest side of an overlay, pixels; smaller radiographs keep their size."""
OPACITY = 0.55
"""Share of colour where the heat is 1, so that bone stays readable under it."""
HOT = 0.5
"""Share of the peak above which a place belongs to the hottest box."""


def overlay(radiograph: NDArray[np.float32], heat: NDArray[np.float32], settings: Preprocessing) -> bytes:
    """Return a PNG of `radiograph` `[h, w]` in [0, 1] with `heat` `[s, s]` in [0, 1] in colour over it.

    In the radiograph's own proportions, at most `LONG_SIDE` pixels long; `heat` lies over the picture that
    `settings` made. The colours (matplotlib's inferno) grow lighter with the heat; none lies where it is 0.
    """
    height, width = radiograph.shape
    scale = min(1.0, LONG_SIDE / max(height, width))
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    grey = np.clip(resize(radiograph, shape), 0, 1)[..., None]
    warmth = np.clip(restore(heat, shape, settings), 0, 1)
    colour = colormaps["inferno"](warmth)[..., :3]
    share = OPACITY * warmth[..., None]
    blended = grey * (1 - share) + colour * share
    file = io.BytesIO()
    Image.fromarray(np.rint(blended * 255).astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()


def hottest_box(
    heat: NDArray[np.float32], shape: tuple[int, int], settings: Preprocessing
) -> tuple[int, int, int, int] | None:
    """Return (xmin, ymin, xmax, ymax) of the hottest place of `heat` `[s, s]`; None where all of it is 0.

    In pixels of the radiograph of `shape` (height, width), upper ends exclusive: the box around the peak and
    what is connected to it and at least half as hot.
    """
    place = placement(shape, settings)
    inside = heat[place.top : place.top + place.height, place.left : place.left + place.width]
    peak = int(np.argmax(inside))
    highest = float(inside.flat[peak])
    if highest <= 0:
        return None
    regions, _ = label(inside >= HOT * highest)
    rows, columns = find_objects(regions)[regions.flat[peak] - 1]
    across, down = shape[1] / place.width, shape[0] / place.height
    return (
        math.floor(columns.start * across),
        math.floor(rows.start * down),
        math.ceil(columns.stop * across),
        math.ceil(rows.stop * down),
    )
