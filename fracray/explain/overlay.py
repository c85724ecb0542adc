"""The heat of a decision laid over the radiograph it belongs to."""

import io

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fracray.explain.regions import Box
from fracray.vision.preprocess import resize

LONG_SIDE = 1024
"""Longest side of an overlay, pixels; smaller radiographs keep their size."""
OPACITY = 0.55
"""Share of colour where the heat is 1, so that bone stays readable under it."""
BOX_COLOUR = (80, 220, 255)
"""Light blue: in neither the radiograph nor the colours of heat."""


def overlay(radiograph: NDArray[np.float32], heat: NDArray[np.float32], box: Box | None) -> bytes:
    """Return a PNG of `radiograph` `[h, w]` in [0, 1] under `heat` `[h, w]` in [0, 1], `box` drawn thin.

    In the radiograph's own proportions, at most `LONG_SIDE` pixels long; `box` is in pixels of the
    radiograph. The colours (matplotlib's inferno) grow lighter with the heat; none lies where it is 0.
    """
    height, width = radiograph.shape
    scale = min(1.0, LONG_SIDE / max(height, width))
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    grey = np.clip(resize(radiograph, shape), 0, 1)[..., None]
    warmth = np.clip(resize(heat, shape), 0, 1)
    colour = colormaps["inferno"](warmth)[..., :3]
    share = OPACITY * warmth[..., None]
    blended = grey * (1 - share) + colour * share
    picture = Image.fromarray(np.rint(blended * 255).astype(np.uint8))
    if box is not None:
        xmin, ymin, xmax, ymax = (round(edge * scale) for edge in box)
        edges = (xmin, ymin, max(xmin, xmax - 1), max(ymin, ymax - 1))
        ImageDraw.Draw(picture).rectangle(edges, outline=BOX_COLOUR, width=1)
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()
