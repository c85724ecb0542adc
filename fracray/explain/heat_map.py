"""The heat map of a decision in the radiograph's own geometry: array, picture and hottest box."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fracray.bundle.bundle import Bundle
from fracray.config import Preprocessing
from fracray.errors import UsageError
from fracray.explain.grad_cam import decision_map
from fracray.explain.overlay import overlay
from fracray.explain.regions import Box, hottest_box
from fracray.fusion.classifier import System
from fracray.radiographs.read import Radiograph
from fracray.vision.preprocess import geometry, preprocess


@dataclass(frozen=True)
class HeatMap:
    """Where one radiograph speaks for a fracture.

    `heat` is float32 `[h, w]` in [0, 1] over the radiograph as it was read, whatever size the network saw; 1
    is the hottest place that it saw, which may be the padding beside the radiograph. `box` is that of the
    hottest region, None where there is no region (then `heat` is all zero). `overlay_png` shows both over the
    radiograph.
    """

    heat: NDArray[np.float32]
    box: Box | None
    overlay_png: bytes


def heat_maps(
    bundle: Bundle,
    radiographs: Sequence[Radiograph],
    captions: Sequence[str],
    system: System = "fused",
    *,
    squares: NDArray[np.uint8] | None = None,
) -> list[HeatMap]:
    """Return the heat map of each radiograph for the logit of one of the bundle's classifiers.

    `captions` [n] are the words that "fused" decides on beside the embedding. All radiographs pass the
    network at once; the method is the bundle's `explain.method`. `squares` uint8 [n, s, s] are the
    radiographs as preprocessed for the bundle, for those who have them already. Raises `UsageError` for
    "words", which look at no pixel.
    """
    if system == "words":
        raise UsageError("the words look at no pixel, so they have no heat map; their terms explain them")
    settings = bundle.config.vision.preprocessing
    if squares is None:
        squares = np.stack([preprocess(radiograph.pixels, settings) for radiograph in radiographs])
    logit = bundle.pipeline.classifiers[system].logit_function(captions)
    heat = decision_map(bundle.pipeline.backbone, logit, squares, bundle.config.explain.method)
    return [
        _over(radiograph.pixels, cells, settings) for radiograph, cells in zip(radiographs, heat, strict=True)
    ]


def _over(radiograph: NDArray[np.float32], heat: NDArray[np.float32], settings: Preprocessing) -> HeatMap:
    shape = (radiograph.shape[0], radiograph.shape[1])
    shown = geometry(radiograph, settings)
    rows, columns = (
        slice(max(0, round(first)), round(first + length))
        for first, length in ((shown.top, shown.height), (shown.left, shown.width))
    )
    seen = radiograph[rows, columns]
    if seen.min() == seen.max():
        # What the network makes of a picture of one value comes from the border alone.
        whole = np.zeros(shape, np.float32)
    else:
        whole = np.clip(shown.restore(heat, shape), 0, 1)
    box = hottest_box(whole)
    if box is None:
        whole = np.zeros(shape, np.float32)
    return HeatMap(whole, box, overlay(radiograph, whole, box))
