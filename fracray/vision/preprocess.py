"""From a radiograph of any size to the square uint8 picture that every backbone sees, and back."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fracray.config import Preprocessing
from fracray.vision.collimation import Field, exposed_field

CLAHE_CLIP = 2.0
CLAHE_TILES = 8
"""Contrast-limited adaptive histogram equalisation (Zuiderveld 1994): highest bin of a tile's histogram as a
multiple of the mean bin, and tiles per side; 2 and 8 are customary for radiographs."""


@dataclass(frozen=True)
class _Placement:
    """Where the radiograph lies inside the square: rows `top` to `top + height`, columns alike, pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Geometry:
    """The rectangle of the radiograph that fills the square, in pixels of the radiograph.

    The square's row r (0 to s) lies on row `top + r / s * height`, columns alike. Padding lies outside of the
    radiograph: there `top` or `left` is negative.
    """

    top: float
    left: float
    height: float
    width: float

    def into_square(self, boxes: NDArray[np.float32], size: int) -> NDArray[np.float32]:
        """Return `boxes` [k, 4] (xmin, ymin, xmax, ymax) over the radiograph as boxes over the square."""
        corner = np.array([self.left, self.top] * 2, np.float32)
        extent = np.array([self.width, self.height] * 2, np.float32)
        moved: NDArray[np.float32] = (boxes - corner) / extent * np.float32(size)
        return moved

    def restore(
        self, square: NDArray[np.float32], shape: tuple[int, int], scale: float = 1.0
    ) -> NDArray[np.float32]:
        """Return a map `[s, s]` over the square as a map over the radiograph, 0 where that was cut off.

        `shape` is the result's (height, width); `scale` is its size as a multiple of the radiograph's.
        """
        rows, columns = square.shape[0] / self.height, square.shape[1] / self.width
        picture = Image.fromarray(np.ascontiguousarray(square, dtype=np.float32))
        to_square = (columns / scale, 0, -self.left * columns, 0, rows / scale, -self.top * rows)
        drawn = picture.transform(
            (shape[1], shape[0]), Image.Transform.AFFINE, to_square, Image.Resampling.BILINEAR
        )
        return np.asarray(drawn, dtype=np.float32)


def geometry(pixels: NDArray[np.float32], settings: Preprocessing) -> Geometry:
    """Return which part of the radiograph `pixels` `[h, w]` in [0, 1] `preprocess` fills the square with."""
    field = _field(pixels, settings)
    place = _placement((field.height, field.width), settings)
    rows, columns = field.height / place.height, field.width / place.width
    return Geometry(
        top=field.top - place.top * rows,
        left=field.left - place.left * columns,
        height=settings.size * rows,
        width=settings.size * columns,
    )


def preprocess(pixels: NDArray[np.float32], settings: Preprocessing) -> NDArray[np.uint8]:
    """Return the radiograph `pixels` `[h, w]` in [0, 1] as uint8 `[s, s]`, s being `settings.size`.

    Cut to the exposed field if wished for, then resized with an antialiasing triangle filter, so that thin
    fracture lines fade instead of vanishing between samples; then local contrast equalised if wished for.
    The same on every machine.
    """
    field = _field(pixels, settings)
    exposed = pixels[field.top : field.top + field.height, field.left : field.left + field.width]
    place = _placement((field.height, field.width), settings)
    small = resize(exposed, (place.height, place.width))
    inside = np.rint(np.clip(small, 0.0, 1.0) * 255.0).astype(np.uint8)
    if settings.clahe:
        inside = cv2.createCLAHE(CLAHE_CLIP, (CLAHE_TILES, CLAHE_TILES)).apply(inside)
    square = np.zeros((settings.size, settings.size), np.uint8)
    square[place.top : place.top + place.height, place.left : place.left + place.width] = inside
    return square


def resize(pixels: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return `pixels` `[h, w]` resampled to `shape` (height, width), antialiased when it shrinks."""
    picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    height, width = shape
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)


def _field(pixels: NDArray[np.float32], settings: Preprocessing) -> Field:
    return exposed_field(pixels) if settings.crop_borders else Field(0, 0, *pixels.shape)


def _placement(shape: tuple[int, int], settings: Preprocessing) -> _Placement:
    size = settings.size
    if not settings.keep_proportions:
        return _Placement(0, 0, size, size)
    scale = size / max(shape)
    height, width = (max(1, round(side * scale)) for side in shape)
    return _Placement((size - height) // 2, (size - width) // 2, height, width)
