"""One heat map beside the fractures' boxes: does it point into them, and would a guess?"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.stats import binomtest

from fracray.evaluation.metrics import Figure
from fracray.explain.regions import Box

CONFIDENCE = 0.95
NON_BLACK = 0.1
"""Grey above which a pixel shows something; the exposed field's border is dark up to the same grey."""
FRACTURE_COLOUR = (90, 230, 90)


@dataclass(frozen=True)
class Pointed:
    """One heat map and three guesses against the boxes, all over the radiograph as it was read.

    `hit`: the hottest pixel lies in a box, the first in reading order if several are hottest, no tolerance.
    `overlap`: intersection over union of the hottest region's box with the fracture's box that it fits best.
    `heat_inside`: share of the heat that lies in the boxes. `box_share`: share of the picture that they
    cover, which is how often a random place hits. `centre`, `centre_of_mass`: whether the middle of the
    picture, or of all its pixels brighter than `NON_BLACK`, lies in a box. `empty`: the map is zero
    everywhere; it hits nothing.
    """

    hit: bool
    overlap: float
    heat_inside: float
    box_share: float
    centre: bool
    centre_of_mass: bool
    empty: bool


def judge(
    radiograph: NDArray[np.float32],
    heat: NDArray[np.float32],
    hottest: Box | None,
    boxes: NDArray[np.floating],
) -> Pointed:
    """Compare `heat` `[h, w]` and its `hottest` region's box with `boxes` [k, 4] (xmin, ymin, xmax, ymax)."""
    height, width = radiograph.shape
    inside = covered(boxes, (height, width))
    empty = hottest is None
    return Pointed(
        hit=not empty and bool(inside[peak(heat)]),
        overlap=0.0 if hottest is None else max(overlap(np.array(hottest), box) for box in boxes),
        heat_inside=0.0 if empty else float(heat[inside].sum(dtype=np.float64) / heat.sum(dtype=np.float64)),
        box_share=float(inside.mean()),
        centre=bool(inside[height // 2, width // 2]),
        centre_of_mass=bool(inside[centre_of_mass(radiograph)]),
        empty=empty,
    )


def peak(heat: NDArray[np.float32]) -> tuple[int, int]:
    """Return row and column of the hottest pixel."""
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    return row, column


def covered(boxes: NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels `[h, w]` have their centre in any of `boxes` [k, 4]."""
    y, x = (np.arange(length) + 0.5 for length in shape)
    xmin, ymin, xmax, ymax = np.asarray(boxes, dtype=np.float64).T[..., None]
    rows, columns = (ymin <= y) & (y < ymax), (xmin <= x) & (x < xmax)
    return (rows[:, :, None] & columns[:, None, :]).any(axis=0)


def centre_of_mass(radiograph: NDArray[np.float32]) -> tuple[int, int]:
    """Return row and column in the middle of all pixels above `NON_BLACK`; without any, of the picture."""
    shown = radiograph > NON_BLACK
    if not shown.any():
        return shown.shape[0] // 2, shown.shape[1] // 2
    rows, columns = (int(places.mean() + 0.5) for places in np.nonzero(shown))
    return rows, columns


def overlap(one: NDArray[np.number], other: NDArray[np.number]) -> float:
    """Return intersection over union of two boxes."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = np.prod(np.clip(high - low, 0, None))
    return float(shared / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared))


def wilson(hits: Sequence[bool]) -> Figure:
    """Return the share of `hits`, at least one long, with its interval (Wilson, JASA 22, 1927)."""
    counted = binomtest(int(sum(hits)), len(hits))
    interval = counted.proportion_ci(CONFIDENCE, method="wilson")
    return Figure(float(counted.statistic), float(interval.low), float(interval.high))


def outlined(png: bytes, boxes: NDArray[np.number], shape: tuple[int, int]) -> Image.Image:
    """Return the picture with `boxes`, in pixels of a radiograph of `shape` (h, w), in green."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    scale = picture.width / shape[1]
    for box in boxes:
        edges = np.rint(scale * box) - [0, 0, 1, 1]
        ImageDraw.Draw(picture).rectangle([*edges], outline=FRACTURE_COLOUR)
    return picture
