"""What is wrong with a picture that can be read and may still be no usable radiograph.

The thresholds stand between pictures that should raise a warning (blank film, documents, colour photographs)
and 1,250 radiographs of limbs, shoulders and hips from three collections, FracAtlas (Abedeen et al.,
Scientific Data 10, 2023) among them, none of which raises one; the figure beside each threshold is the
extreme of these. A grey photograph cannot be told from a radiograph in this way and raises none.
"""

import numpy as np

from fracray.radiographs.duplicates import thumbnail
from fracray.radiographs.read import Radiograph

MIN_SIDE = 128
"""Shorter side in pixels; radiographs: at least 247. Below, an input of 224 pixels is mostly interpolated."""

MIN_RANGE = 0.1
"""Distance of the 1st and the 99th percentile of grey; radiographs: at least 0.27."""

MIN_BRIGHT = 0.2
"""99th percentile of grey, which is bone or soft tissue; radiographs: at least 0.30."""

MAX_MEDIAN = 0.75
"""Median of grey; radiographs: at most 0.58, as they are dark around the limb."""

MAX_COLOURED = 0.05
"""Share of pixels in colour; radiographs saved as colour pictures: at most 0.011."""


def quality_warnings(radiograph: Radiograph) -> list[str]:
    """Return what is wrong with `radiograph`, each as `name: reason`; an empty list if nothing is.

    Grey is judged on the thumbnail, so that noise, thin letters and the number of pixels do not count.
    """
    low, median, high = np.quantile(thumbnail(radiograph.pixels), (0.01, 0.5, 0.99))
    found = {
        f"tiny: the shorter side has fewer than {MIN_SIDE} pixels": min(radiograph.pixels.shape) < MIN_SIDE,
        "blank: hardly any contrast": high - low < MIN_RANGE,
        "too dark: hardly anything is brighter than black": high < MIN_BRIGHT,
        "in colour: a radiograph is grey, so this is probably none": radiograph.coloured > MAX_COLOURED,
        "mostly white: probably a document, or a radiograph with inverted grey": median > MAX_MEDIAN,
    }
    return [warning for warning, applies in found.items() if applies]
