"""Which rows of the manifest are copies of each other, and which belong together."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fracray.errors import ManifestError
from fracray.fingerprint import LENGTH, image_id
from fracray.radiographs.duplicates import near_duplicate_groups
from fracray.radiographs.rows import Row

_log = logging.getLogger(__name__)


def mark_duplicates(rows: Sequence[Row]) -> None:
    """Set status and reason of rows with the same bytes; the first labelled one stays ok if labels agree."""
    same: dict[str, list[Row]] = defaultdict(list)
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


def assign_groups(rows: Sequence[Row], distance: int) -> list[str]:
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


def mark_copies_of(
    known: Sequence[Row], known_groups: Sequence[str], rows: Sequence[Row], groups: Sequence[str]
) -> None:
    """Set status and reason of the `rows` whose group holds one of `known`, rows of another manifest.

    Raises `ManifestError` when one of `known` could not be read: its copies would go unnoticed.
    """
    for row in known:
        if row.small is None:
            raise ManifestError(f"{row.uri}: cannot be compared ({row.reason}); check the manifest beside")
    known_of = {group: row.uri for group, row in zip(known_groups, known, strict=True)}
    for row, group in zip(rows, groups, strict=False):
        if group in known_of and row.status == "ok":
            row.status = "duplicate"
            row.reason = f"a copy of {known_of[group]} of the other manifest, or of one group with a copy"


def _joined(count: int, keys: Iterable[tuple[int, str]]) -> list[int]:
    """Return a number for each of `count` rows, the same for rows that share a key, also through others."""
    first: dict[str, int] = {}
    edges = np.array([(row, first.setdefault(key, row)) for row, key in keys], dtype=np.intp).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return [int(number) for number in connected_components(graph, directed=False)[1]]


def _warn_of_mixed_labels(rows: Sequence[Row], keys: Iterable[tuple[int, str]]) -> None:
    labels: dict[str, set[int | None]] = defaultdict(set)
    for row, key in keys:
        labels[key].add(rows[row].label)
    mixed = sum({0, 1} <= found for found in labels.values())
    if mixed:
        _log.warning("%d groups of near-duplicates hold both labels; look at their rows", mixed)
