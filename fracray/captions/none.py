"""No captioner, for bundles that decide by the image alone."""

from collections.abc import Sequence

import numpy as np

from fracray.captions.captioner import Caption

IMAGE_SIZE = 1
"""Nothing looks at the pixels."""

NO_CAPTION = Caption(None, "empty", "there is no captioner")


class NoCaptioner:
    """Stands where a captioner would and says nothing."""

    image_size = IMAGE_SIZE
    self_test = None

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint

    def caption(self, pixels: Sequence[np.ndarray], image_ids: Sequence[str] | None = None) -> list[Caption]:
        """Return `NO_CAPTION` for each picture."""
        return [NO_CAPTION] * len(pixels)
