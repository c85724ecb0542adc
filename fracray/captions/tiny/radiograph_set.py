"""Annotated radiographs as the captioner will see them: pixels, fractures, what else annotators say."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fracray.captions.captioner import prepare
from fracray.captions.tiny.architecture import IMAGE_SIZE
from fracray.config import RadiographSettings
from fracray.errors import UsageError
from fracray.radiographs.read import read_bytes, read_radiograph

_READERS = 2
_NEEDED = ("region", "projection", "several_views", "hardware")


@dataclass(frozen=True)
class Annotations:
    """What annotators say of a radiograph.

    `region`: hand, leg, hip, shoulder or mixed; `projection`: frontal, lateral, oblique or several joined by
    "+"; `boxes`: the fractures, each (xmin, ymin, xmax, ymax) as shares of the picture's width and height.
    """

    fractured: bool
    region: str
    projection: str
    several_views: bool
    hardware: bool
    boxes: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class RadiographSet:
    """Prepared radiographs: pixels uint8 [n, s, s], annotations, folds int [n] and image ids."""

    pixels: np.ndarray
    annotations: list[Annotations]
    folds: np.ndarray
    image_ids: list[str]

    def __len__(self) -> int:
        return len(self.annotations)

    @property
    def fractured(self) -> np.ndarray:
        """Bool [n]."""
        return np.array([row.fractured for row in self.annotations])

    def rows(self, chosen: Sequence[int] | np.ndarray) -> "RadiographSet":
        """Return the set of the `chosen` rows."""
        return RadiographSet(
            self.pixels[chosen],
            [self.annotations[i] for i in chosen],
            self.folds[chosen],
            [self.image_ids[i] for i in chosen],
        )


def load_radiographs(manifest: pa.Table, boxes: pa.Table, settings: RadiographSettings) -> RadiographSet:
    """Read every usable row of `manifest` whose label, region, projection, views and hardware are known.

    `boxes` (schema BOXES): the fractures, in pixels of the radiograph as read. A fractured row without a box
    is left out. Raises `UsageError` when no row is left, `RadiographError` for a file that has changed.
    """
    known = pc.equal(manifest["status"], "ok")
    for name in ("label", "fold", *_NEEDED):
        known = pc.and_(known, pc.is_valid(manifest[name]))
    by_id: dict[str, list[tuple[float, ...]]] = {}
    for box in boxes.to_pylist():
        by_id.setdefault(box["image_id"], []).append(
            tuple(box[side] for side in ("xmin", "ymin", "xmax", "ymax"))
        )
    rows = [row for row in manifest.filter(known).to_pylist() if not row["label"] or row["image_id"] in by_id]
    if not rows:
        raise UsageError(
            "no radiograph of the manifest has region, projection, views and hardware, and a box for its "
            "fractures; make it from FracAtlas with `fracray manifest FOLDER --boxes boxes.parquet`"
        )
    with ThreadPoolExecutor(_READERS) as readers:
        read = list(readers.map(lambda row: _read(row["uri"], settings), rows))
    annotations = [
        Annotations(
            fractured=bool(row["label"]),
            boxes=tuple(
                (x0 / width, y0 / height, x1 / width, y1 / height)
                for x0, y0, x1, y1 in by_id.get(row["image_id"], ())
            ),
            **{name: row[name] for name in _NEEDED},
        )
        for row, (_, height, width) in zip(rows, read, strict=True)
    ]
    return RadiographSet(
        np.stack([picture for picture, _, _ in read]),
        annotations,
        np.array([row["fold"] for row in rows]),
        [row["image_id"] for row in rows],
    )


def mirrored(annotations: Annotations) -> Annotations:
    """Return what is true of the picture turned left to right."""
    return replace(annotations, boxes=tuple((1 - x1, y0, 1 - x0, y1) for x0, y0, x1, y1 in annotations.boxes))


def box_masks(annotations: Sequence[Annotations]) -> np.ndarray:
    """Return where the fractures' boxes are, uint8 0/1 [n, IMAGE_SIZE, IMAGE_SIZE]; every box covers a
    pixel."""
    masks = np.zeros((len(annotations), IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    for mask, row in zip(masks, annotations, strict=True):
        for x0, y0, x1, y1 in np.array(row.boxes).reshape(-1, 4) * IMAGE_SIZE:
            top, left = (int(np.clip(edge, 0, IMAGE_SIZE - 1)) for edge in (y0, x0))
            mask[top : max(top + 1, int(np.ceil(y1))), left : max(left + 1, int(np.ceil(x1)))] = 1
    return masks


def _read(uri: str, settings: RadiographSettings) -> tuple[np.ndarray, int, int]:
    pixels = read_radiograph(read_bytes(uri, settings), settings).pixels
    return prepare(pixels, IMAGE_SIZE), *pixels.shape[:2]
