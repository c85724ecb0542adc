"""One radiograph on its way into the manifest: what its source says of it, then what its file holds."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REGIONS = ("hand", "leg", "hip", "shoulder", "mixed")
PROJECTIONS = ("frontal", "lateral", "oblique")


def joined_projections(shown: Collection[str]) -> str | None:
    """Return the projections of one picture as column `projection` holds them; None: none is known."""
    return "+".join(name for name in PROJECTIONS if name in shown) or None


@dataclass
class Row:
    """A row of the manifest before its group and fold are known; named and null as in schema MANIFEST.

    `given_group`: rows with the same name belong together, whatever they look like; None: nothing said.
    `small`: the picture as `thumbnail` makes it; None: unreadable.
    """

    uri: str
    label: int | None
    region: str | None = None
    projection: str | None = None
    several_views: bool | None = None
    hardware: bool | None = None
    given_group: str | None = None
    image_id: str | None = None
    small: NDArray[np.float32] | None = None
    width: int | None = None
    height: int | None = None
    bits: int | None = None
    format: str | None = None
    warnings: str | None = None
    status: str = "ok"
    reason: str | None = None
