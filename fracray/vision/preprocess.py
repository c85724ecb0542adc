"""From a radiograph of any size to the square uint8 picture that every backbone sees, and back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fracray.config import Preprocessing


@dataclass(frozen=True)
class Placement:
    """Where the radiograph lies inside the square: rows `top` to `top + height`, columns alike, pixels."""

    top: int
    left: int
    height: int
    width: int


def placement(shape: tuple[int, int], settings: Preprocessing) -> Placement:
    """Return where a radiograph of `shape` (height, width) lies in the square; the rest is black padding."""
    size = settings.size
    if not settings.keep_proportions:
        return Placement(0, 0, size, size)
    scale = size / max(shape)
    height, width = (max(1, round(side * scale)) for side in shape)
    return Placement((size - height) // 2, (size - width) // 2, height, width)


def preprocess(pixels: NDArray[np.float32], settings: Preprocessing) -> NDArray[np.uint8]:
    """Return the radiograph `pixels` `[h, w]` in [0, 1] as uint8 `[s, s]`, s being `settings.size`.

    Resized with an antialiasing triangle filter, so that thin fracture lines fade instead of vanishing
    between samples; the same on every machine.
    """
    place = placement((pixels.shape[0], pixels.shape[1]), settings)
    small = resize(pixels, (place.height, place.width))
    square = np.zeros((settings.size, settings.size), np.uint8)
    inside = np.rint(np.clip(small, 0.0, 1.0) * 255.0).astype(np.uint8)
    square[place.top : place.top + place.height, place.left : place.left + place.width] = inside
    return square


def restore(
    square: NDArray[np.float32], shape: tuple[int, int], settings: Preprocessing
) -> NDArray[np.float32]:
    """Return a map `[s, s]` over the preprocessed square as a map over the radiograph, `[h, w]` = `shape`."""
    place = placement(shape, settings)
    inside = square[place.top : place.top + place.height, place.left : place.left + place.width]
    return resize(inside, shape)


def resize(pixels: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return `pixels` `[h, w]` resampled to `shape` (height, width), antialiased when it shrinks."""
    picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    height, width = shape
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
