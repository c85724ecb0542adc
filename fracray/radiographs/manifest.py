"""From class folders, a CSV or FracAtlas to the manifest: one row per file, folds included."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from fracray.config import RadiographSettings
from fracray.errors import ManifestError, RadiographError
from fracray.fingerprint import image_id
from fracray.location import Location
from fracray.radiographs.class_folders import rows_of_folders
from fracray.radiographs.csv_list import rows_of_csv
from fracray.radiographs.duplicates import thumbnail
from fracray.radiographs.folds import assign_folds
from fracray.radiographs.fracatlas import is_fracatlas, rows_of_fracatlas
from fracray.radiographs.grouping import assign_groups, mark_copies_of, mark_duplicates
from fracray.radiographs.labels import plain_name
from fracray.radiographs.quality import quality_warnings
from fracray.radiographs.read import read_bytes, read_radiograph
from fracray.radiographs.rows import Row
from fracray.schema import MANIFEST, check

# Decoding releases the interpreter's lock; more threads would each hold a full-size picture.
_READERS = 2


def build_manifest(
    source: str | Path | Location,
    settings: RadiographSettings,
    seed: int,
    *,
    label_folders: Mapping[str, int] | None = None,
    beside: pa.Table | None = None,
    on_file: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Return a table of schema MANIFEST for a folder of class folders, a CSV, or FracAtlas.

    A folder: every file below a folder whose name stands for a label (`label_folders` first, then
    `label_of_folder`; the nearest one counts) becomes a row, readable or not; other files are logged and left
    out, hidden ones only left out. A CSV: columns `path` (relative to the CSV, or a URI) and `label` (a name
    as for folders, or empty for not known), `group` if rows belong together, such as all of one patient, and
    what is known of `region`, `projection`, `several_views` and `hardware`. A folder that holds FracAtlas'
    dataset.csv: the radiographs named there, with what it says of them.

    Near-duplicates and rows of one given group share a group. Rows that are ok and labelled get a fold. The
    same bytes again are a `duplicate`; with contradicting labels all of them are. What `quality_warnings`
    finds is noted and changes neither status nor fold. The radiographs of `beside`, another manifest, are
    read again: a copy of one of them, also a near-duplicate, is a `duplicate` here, as a bundle fitted on
    `beside` may not be scored on it. `on_file(done, total)` is called after each file.
    Raises `ManifestError` when the source is not usable as a whole.
    """
    place = Location.of(source)
    given = {plain_name(name): label for name, label in (label_folders or {}).items()}
    if place.is_folder and is_fracatlas(place):
        if given:
            raise ManifestError(f"{source}: FracAtlas' dataset.csv has the labels; leave out --label")
        rows = list(rows_of_fracatlas(place))
    elif place.is_folder:
        rows = list(rows_of_folders(place, given))
    elif place.is_file:
        rows = list(rows_of_csv(place, given))
    else:
        raise ManifestError(f"{source}: no such folder or CSV; check the path")
    known = [] if beside is None else _readable(beside)
    with ThreadPoolExecutor(_READERS) as readers:
        everything = [*rows, *known]
        for done, _ in enumerate(readers.map(lambda row: _read(row, settings), everything), start=1):
            if on_file is not None:
                on_file(done, len(everything))
    mark_duplicates(rows)
    groups = assign_groups(everything, settings.duplicate_distance)
    mark_copies_of(known, groups[len(rows) :], rows, groups)
    return _table(rows, groups[: len(rows)], _folds(rows, groups, settings.folds, seed))


def _readable(manifest: pa.Table) -> list[Row]:
    """The radiographs of another manifest, without what it says of them."""
    columns = check(manifest, MANIFEST, "the manifest beside").select(["uri", "status"]).to_pylist()
    return [Row(row["uri"], label=None) for row in columns if row["status"] == "ok"]


def _read(row: Row, settings: RadiographSettings) -> None:
    try:
        data = read_bytes(row.uri, settings)
        radiograph = read_radiograph(data, settings)
    except RadiographError as error:
        row.status, row.reason = "unreadable", str(error)
        return
    row.image_id = image_id(data)
    row.height, row.width = radiograph.pixels.shape
    row.bits, row.format = radiograph.bits, radiograph.format
    row.warnings = "; ".join(quality_warnings(radiograph)) or None
    row.small = thumbnail(radiograph.pixels)


def _folds(rows: Sequence[Row], groups: Sequence[str], folds: int, seed: int) -> list[int | None]:
    usable = [number for number, row in enumerate(rows) if row.status == "ok" and row.label is not None]
    assigned: list[int | None] = [None] * len(rows)
    if usable:
        labels = np.array([rows[number].label for number in usable])
        numbers = assign_folds(labels, [groups[number] for number in usable], folds, seed)
        for number, fold in zip(usable, numbers, strict=True):
            assigned[number] = int(fold)
    return assigned


def _table(rows: Sequence[Row], groups: Sequence[str], folds: Sequence[int | None]) -> pa.Table:
    own = {
        name: [getattr(row, name) for row in rows] for name in MANIFEST.names if name not in ("group", "fold")
    }
    columns = {**own, "group": list(groups), "fold": list(folds)}
    return pa.table({name: columns[name] for name in MANIFEST.names}, schema=MANIFEST)
