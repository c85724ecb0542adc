"""The hottest region of a heat map."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

HOT_QUANTILE = 0.9
"""A place is hot where at most a tenth of the map is hotter."""

Box = tuple[int, int, int, int]
"""xmin, ymin, xmax, ymax in pixels, the last two exclusive."""


def hottest_box(heat: NDArray[np.float32]) -> Box | None:
    """Return the box around the hottest region of `heat` `[h, w]`, in its pixels.

    The region is the map's maximum with all that is connected to it (by edges) and lies at or above the map's
    `HOT_QUANTILE`. None where the map has no maximum: it is zero or of one value.
    """
    highest = float(heat.max())
    if highest <= max(0.0, float(heat.min())):
        return None
    hot = heat >= np.quantile(heat, HOT_QUANTILE)
    # Where less than a tenth of the map has any heat, the quantile is zero and everything would be hot.
    regions, _ = label(hot & (heat > 0))
    rows, columns = find_objects(regions)[regions.flat[int(np.argmax(heat))] - 1]
    return int(columns.start), int(rows.start), int(columns.stop), int(rows.stop)
