from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fracray.config import BackboneSettings
from fracray.vision.backbone import Backbone, load_backbone

Toy = tuple[NDArray[np.uint8], NDArray[np.int8]]


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """A random resnet10; tests must not change it."""
    return load_backbone(BackboneSettings(weights="random"))


@pytest.fixture(scope="session")
def toy() -> Callable[[int, int], Toy]:
    """Noise of 32 pixels with a bright square where the label is 1."""

    def make(n: int, seed: int) -> Toy:
        rng = np.random.default_rng(seed)
        labels = np.arange(n, dtype=np.int8) % 3 == 0
        pixels = rng.integers(0, 60, (n, 32, 32), dtype=np.uint8)
        pixels[labels, 8:24, 8:24] += 150
        return pixels, labels.astype(np.int8)

    return make
