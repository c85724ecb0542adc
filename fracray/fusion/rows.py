"""Labelled radiographs in memory, with their captions: what is fitted on and scored."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fracray.config import Config, Preprocessing, VisionSettings
from fracray.errors import ManifestError, RadiographError, StoreError, TableError, UsageError
from fracray.fingerprint import image_id
from fracray.radiographs.read import read_bytes, read_radiograph
from fracray.schema import BOXES, CAPTIONS, MANIFEST, check
from fracray.vision.preprocess import Geometry, geometry, preprocess


@dataclass(frozen=True)
class Rows:
    """`n` labelled radiographs, all fields in the same order.

    `labels` holds 1 for fractured and 0 for not, `folds` the outer folds of the manifest, `pixels` the
    backbone's input as uint8 [n, s, s], `captions` the captioner's words, empty where it gave none.
    `learned_from` are pictures [n, r, r] of a smaller size to learn from; None: `pixels`. `boxes` are the
    fractures' per row, float32 [k, 4] in pixels of what is learned from; None: nobody asked for them.
    """

    image_ids: list[str]
    uris: list[str]
    labels: NDArray[np.int8]
    groups: list[str]
    folds: NDArray[np.int16]
    pixels: NDArray[np.uint8]
    captions: list[str]
    learned_from: NDArray[np.uint8] | None = None
    boxes: list[NDArray[np.float32]] | None = None

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def boxed(self) -> int:
        """On how many rows it is known where the fractures are."""
        return sum(len(of_one) > 0 for of_one in self.boxes or ())

    def take(self, index: NDArray[np.intp]) -> "Rows":
        """Return the rows at the positions `index`, in that order."""
        return Rows(
            image_ids=_pick(self.image_ids, index),
            uris=_pick(self.uris, index),
            labels=self.labels[index],
            groups=_pick(self.groups, index),
            folds=self.folds[index],
            pixels=self.pixels[index],
            captions=_pick(self.captions, index),
            learned_from=None if self.learned_from is None else self.learned_from[index],
            boxes=None if self.boxes is None else [self.boxes[position] for position in index],
        )

    def development(self, test_fold: int) -> "Rows":
        """Return the rows outside `test_fold`: all that fitting and searching may see.

        Raises `UsageError` when there are none.
        """
        chosen = np.flatnonzero(self.folds != test_fold)
        if not len(chosen):
            raise UsageError(f"no rows outside fold {test_fold}; change search.test_fold")
        return self.take(chosen)

    def unseen(self, training_ids: Collection[str]) -> "Rows":
        """Return the rows of groups that have no row in `training_ids`: what a bundle may be scored on.

        Of the manifest that a bundle was fitted on this is the test fold, of another one it is all of it.
        Raises `UsageError` when there are none.
        """
        known = set(training_ids)
        seen = [identity in known for identity in self.image_ids]
        groups = {group for group, fitted in zip(self.groups, seen, strict=True) if fitted}
        chosen = np.array([group not in groups for group in self.groups])
        if not chosen.any():
            raise UsageError(
                "the bundle was fitted on these radiographs or on others of their groups; evaluate it on a "
                "test fold (search.test_fold) or on other radiographs"
            )
        return self.take(np.flatnonzero(chosen))


def load_rows(
    manifest: pa.Table, captions: pa.Table | None, config: Config, boxes: pa.Table | None = None
) -> Rows:
    """Read the usable rows of `manifest` and join their `captions` by image_id; None: all captions are empty.

    `boxes` (schema BOXES) say where the fractures are. Usable is a row of status ok whose label and fold are
    known. Pixels are read and preprocessed as in extraction, once more for `vision.finetune.size` where that
    is smaller; they stay in memory, about 50 kB a row at 224 pixels. A failed caption is the empty string.

    Raises `TableError` when a table does not fit its schema or captions repeat an image, `StoreError` when
    captions are missing, `ManifestError` when no row is usable, a group crosses a fold, a file has changed or
    no box is on any of the fractured, and `RadiographError` when a file can no longer be read.
    """
    usable = _usable(check(manifest, MANIFEST, "manifest"))
    ids: list[str] = [row["image_id"] for row in usable]
    texts = dict.fromkeys(ids, "") if captions is None else _texts(check(captions, CAPTIONS, "captions"))
    missing = sum(identity not in texts for identity in ids)
    if missing:
        raise StoreError(
            f"{missing} of {len(ids)} usable rows have no caption for these settings; "
            "run `fracray extract` first"
        )
    uris: list[str] = [row["uri"] for row in usable]
    fractures = None if boxes is None else _fractures(check(boxes, BOXES, "boxes"), usable)
    sizes = _sizes(config.vision)
    pixels, geometries = _read_pixels(uris, ids, config, sizes)
    return Rows(
        image_ids=ids,
        uris=uris,
        labels=np.array([row["label"] for row in usable], dtype=np.int8),
        groups=[row["group"] for row in usable],
        folds=np.array([row["fold"] for row in usable], dtype=np.int16),
        pixels=pixels[0],
        captions=[texts[identity] for identity in ids],
        learned_from=pixels[1] if len(pixels) > 1 else None,
        boxes=fractures
        and [
            place.into_square(found, sizes[-1].size)
            for place, found in zip(geometries, fractures, strict=True)
        ],
    )


def _usable(manifest: pa.Table) -> list[dict[str, Any]]:
    rows = [
        row
        for row in manifest.select(["image_id", "uri", "label", "group", "fold", "status"]).to_pylist()
        if row["status"] == "ok" and row["label"] is not None and row["fold"] is not None
    ]
    if not rows:
        raise ManifestError(
            f"none of the manifest's {manifest.num_rows} rows is readable with a known label and fold; "
            "check the labels and run `fracray manifest` again"
        )
    folds_of_group: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        folds_of_group[row["group"]].add(row["fold"])
    crossing = [group for group, folds in folds_of_group.items() if len(folds) > 1]
    if crossing:
        raise ManifestError(
            f"group '{crossing[0]}' and {len(crossing) - 1} more stand in several folds: one bone would be "
            "trained on and tested; run `fracray manifest` again"
        )
    return rows


def _texts(captions: pa.Table) -> dict[str, str]:
    ids: list[str] = captions.column("image_id").to_pylist()
    texts: list[str | None] = captions.column("caption").to_pylist()
    by_id = {identity: text or "" for identity, text in zip(ids, texts, strict=True)}
    if len(by_id) != len(ids):
        raise TableError(
            f"captions: {len(ids) - len(by_id)} rows repeat an image_id; "
            "read the captions of one fingerprint only"
        )
    return by_id


def _fractures(boxes: pa.Table, usable: Sequence[dict[str, Any]]) -> list[NDArray[np.float32]]:
    found: dict[str, list[list[float]]] = defaultdict(list)
    for box in boxes.to_pylist():
        found[box["image_id"]].append([box[side] for side in ("xmin", "ymin", "xmax", "ymax")])
    # A box on a row that is not fractured is of something else, or a mistake: the label decides.
    fractures = [found.get(row["image_id"], []) if row["label"] else [] for row in usable]
    if not any(fractures):
        raise ManifestError(
            f"none of the {boxes.num_rows} boxes is on a fractured row of the manifest; "
            "make both from the same radiographs with `fracray manifest --boxes`"
        )
    return [np.array(of_one, np.float32).reshape(-1, 4) for of_one in fractures]


def _sizes(vision: VisionSettings) -> list[Preprocessing]:
    """The preprocessing of what is answered on, and where it is smaller of what is learned from."""
    answered, smaller = vision.preprocessing, vision.finetune.size
    if smaller is None or smaller >= answered.size:
        return [answered]
    return [answered, answered.model_copy(update={"size": smaller})]


def _read_pixels(
    uris: Sequence[str], ids: Sequence[str], config: Config, sizes: Sequence[Preprocessing]
) -> tuple[list[NDArray[np.uint8]], list[Geometry]]:
    """Return the radiographs in each of `sizes`, and where they lie in the last of them."""

    def read(uri: str, identity: str) -> tuple[list[NDArray[np.uint8]], Geometry]:
        try:
            data = read_bytes(uri, config.radiographs)
            radiograph = read_radiograph(data, config.radiographs)
        except RadiographError as error:
            raise RadiographError(
                f"{uri}: {error}; the manifest calls it readable: run `fracray manifest` again"
            ) from None
        if image_id(data) != identity:
            raise ManifestError(f"{uri}: changed since the manifest; run `fracray manifest` again")
        squares = [preprocess(radiograph.pixels, settings) for settings in sizes]
        return squares, geometry(radiograph.pixels, sizes[-1])

    with ThreadPoolExecutor() as pool:
        squares, geometries = zip(*pool.map(read, uris, ids), strict=True)
    return [np.stack(of_size) for of_size in zip(*squares, strict=True)], list(geometries)


def _pick(values: Sequence[str], index: NDArray[np.intp]) -> list[str]:
    return [values[position] for position in index]
