"""From a folder of class folders, or a CSV, to the manifest: one row per file, folds included."""

import csv
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fracray.config import RadiographSettings
from fracray.errors import LocationError, ManifestError, RadiographError
from fracray.fingerprint import LENGTH, image_id
from fracray.location import Location
from fracray.radiographs.duplicates import near_duplicate_groups, thumbnail
from fracray.radiographs.folds import assign_folds
from fracray.radiographs.labels import label_of_folder, plain_name
from fracray.radiographs.quality import quality_warnings
from fracray.radiographs.read import read_bytes, read_radiograph
from fracray.schema import MANIFEST

_log = logging.getLogger(__name__)

# Decoding releases the interpreter's lock; more threads would each hold a full-size picture.
_READERS = 2

_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


@dataclass
class _Row:
    uri: str
    label: int | None
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


def build_manifest(
    source: str | Path | Location,
    settings: RadiographSettings,
    seed: int,
    *,
    label_folders: Mapping[str, int] | None = None,
    on_file: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Return a table of schema MANIFEST for a folder of class folders or a CSV.

    A folder: every file below a folder whose name stands for a label (`label_folders` first, then
    `label_of_folder`; the nearest one counts) becomes a row, readable or not; other files are logged and left
    out, hidden ones only left out. A CSV: columns `path` (relative to the CSV, or a URI) and `label` (a name
    as for folders, or empty for not known), and `group` if rows belong together, such as all of one patient.

    Near-duplicates and rows of one given group share a group. Rows that are ok and labelled get a fold. The
    same bytes again are a `duplicate`; with contradicting labels all of them are. What `quality_warnings`
    finds is noted and changes neither status nor fold. `on_file(done, total)` is called after each file.
    Raises `ManifestError` when the source is not usable as a whole.
    """
    place = Location.of(source)
    if place.is_folder:
        rows = list(_rows_of_folder(place, label_folders or {}))
    elif place.is_file:
        rows = list(_rows_of_csv(place, label_folders or {}))
    else:
        raise ManifestError(f"{source}: no such folder or CSV; check the path")
    with ThreadPoolExecutor(_READERS) as readers:
        for done, _ in enumerate(readers.map(lambda row: _read(row, settings), rows), start=1):
            if on_file is not None:
                on_file(done, len(rows))
    _mark_duplicates(rows)
    groups = _groups(rows, settings.duplicate_distance)
    return _table(rows, groups, _folds(rows, groups, settings.folds, seed))


def _rows_of_folder(source: Location, label_folders: Mapping[str, int]) -> Iterator[_Row]:
    given = {plain_name(name): label for name, label in label_folders.items()}
    outside: dict[str, int] = defaultdict(int)
    labels_seen = set()
    used = set()
    for path in source.files():
        parts = PurePosixPath(path).parts
        if any(part.startswith(".") or part.lower() in _SYSTEM_FILES for part in parts):
            continue
        named = [(plain_name(part), _label(part, given)) for part in reversed(parts[:-1])]
        folder, label = next((pair for pair in named if pair[1] is not None), ("", None))
        if label is None:
            outside[str(PurePosixPath(*parts[:-1]))] += 1
            continue
        used.add(folder)
        labels_seen.add(label)
        yield _Row(str(source / path), label)
    names = ", ".join(f"'{name}' ({count})" for name, count in sorted(outside.items())[:10])
    for folder in set(given) - used:
        raise ManifestError(
            f"{source}: no file in a folder '{folder}', which was given a label; check its name"
        )
    if not labels_seen:
        raise ManifestError(
            f"{source}: no files in folders such as Fractured and Non-Fractured; name the folders so or say "
            f"which folder has which label (files found in: {names or 'none'})"
        )
    if outside:
        _log.warning("%s: left out files in folders that stand for no label: %s", source, names)


def _rows_of_csv(source: Location, label_folders: Mapping[str, int]) -> Iterator[_Row]:
    given = {plain_name(name): label for name, label in label_folders.items()}
    try:
        text = source.read_bytes().decode("utf-8-sig")
        lines = csv.DictReader(StringIO(text, newline=""))
        missing = {"path", "label"} - set(lines.fieldnames or ())
        if missing:
            raise ManifestError(
                f"{source}: column '{min(missing)}' is missing; the first line reads path,label or "
                f"path,label,group"
            )
        for line in lines:
            yield _row_of_line(source, lines.line_num, line, given)
    except (LocationError, UnicodeDecodeError, csv.Error):
        raise ManifestError(f"{source}: not a readable CSV in UTF-8; save it again as such") from None


def _row_of_line(
    source: Location, number: int, line: Mapping[str, str | None], given: Mapping[str, int]
) -> _Row:
    path, label_name, group = ((line.get(name) or "").strip() for name in ("path", "label", "group"))
    if not path:
        raise ManifestError(f"{source}, line {number}: the path is empty; fill it or remove the line")
    label = _label(label_name, given)
    if label_name and label is None:
        raise ManifestError(f"{source}, line {number}: label '{label_name}' is not known; write 1 or 0")
    uri = path if "://" in path or path.startswith("/") else str(source.parent / path)
    return _Row(uri, label, given_group=group or None)


def _label(name: str, given: Mapping[str, int]) -> int | None:
    return given.get(plain_name(name), label_of_folder(name))


def _read(row: _Row, settings: RadiographSettings) -> None:
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


def _mark_duplicates(rows: Sequence[_Row]) -> None:
    """Set status and reason of rows with the same bytes; the first labelled one stays ok if labels agree."""
    same: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        if row.image_id is not None:
            same[row.image_id].append(row)
    for copies in same.values():
        labels = {row.label for row in copies} - {None}
        kept = next((row for row in copies if row.label is not None), copies[0])
        for row in copies:
            if len(labels) > 1:
                other = next(copy for copy in copies if copy.label not in (None, row.label))
                row.status, row.reason = "duplicate", f"same bytes as {other.uri}, which has the other label"
            elif row is not kept:
                row.status, row.reason = "duplicate", f"same bytes as {kept.uri}"


def _groups(rows: Sequence[_Row], distance: int) -> list[str]:
    """Return the group of each row: joined are near-duplicates, same bytes, and rows of one given group."""
    pictured = [(number, row.small) for number, row in enumerate(rows) if row.small is not None]
    near = near_duplicate_groups([small for _, small in pictured], distance)
    keys = [(number, f"near {group}") for (number, _), group in zip(pictured, near, strict=True)]
    _warn_of_mixed_labels(rows, keys)
    keys += [(number, f"bytes {row.image_id}") for number, row in enumerate(rows) if row.image_id]
    keys += [(number, f"given {row.given_group}") for number, row in enumerate(rows) if row.given_group]
    names = [row.image_id or image_id(row.uri.encode()) for row in rows]
    smallest: dict[int, str] = {}
    components = _joined(len(rows), keys)
    for component, name in zip(components, names, strict=True):
        smallest[component] = min(name, smallest.get(component, name))
    return [smallest[component][:LENGTH] for component in components]


def _joined(count: int, keys: Iterable[tuple[int, str]]) -> list[int]:
    """Return a number for each of `count` rows, the same for rows that share a key, also through others."""
    first: dict[str, int] = {}
    edges = np.array([(row, first.setdefault(key, row)) for row, key in keys], dtype=np.intp).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return [int(number) for number in connected_components(graph, directed=False)[1]]


def _warn_of_mixed_labels(rows: Sequence[_Row], keys: Iterable[tuple[int, str]]) -> None:
    labels: dict[str, set[int | None]] = defaultdict(set)
    for row, key in keys:
        labels[key].add(rows[row].label)
    mixed = sum({0, 1} <= found for found in labels.values())
    if mixed:
        _log.warning("%d groups of near-duplicates hold both labels; look at their rows", mixed)


def _folds(rows: Sequence[_Row], groups: Sequence[str], folds: int, seed: int) -> list[int | None]:
    usable = [number for number, row in enumerate(rows) if row.status == "ok" and row.label is not None]
    assigned: list[int | None] = [None] * len(rows)
    if usable:
        labels = np.array([rows[number].label for number in usable])
        numbers = assign_folds(labels, [groups[number] for number in usable], folds, seed)
        for number, fold in zip(usable, numbers, strict=True):
            assigned[number] = int(fold)
    return assigned


def _table(rows: Sequence[_Row], groups: Sequence[str], folds: Sequence[int | None]) -> pa.Table:
    own = {
        name: [getattr(row, name) for row in rows] for name in MANIFEST.names if name not in ("group", "fold")
    }
    columns = {**own, "group": list(groups), "fold": list(folds)}
    return pa.table({name: columns[name] for name in MANIFEST.names}, schema=MANIFEST)
