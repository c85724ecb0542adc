"""Many small files of a feature store become few, without a moment in which a row is missing."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow.parquet as pq

from fracray.extraction.store import Feature, FeatureStore, each_image_once
from fracray.location import Location

ROWS_PER_FILE = 20_000
"""About 40 MB of ResNet-50 embeddings at rest: large enough to read in one go, small enough to hold."""


@dataclass(frozen=True)
class Compaction:
    """Files before and after."""

    before: int
    after: int


def compact(store: FeatureStore, feature: Feature, fingerprint: str) -> Compaction:
    """Merge neighbouring files of one fingerprint into files of up to `ROWS_PER_FILE` rows.

    The merged file is complete before the first old one goes, so a run that is killed leaves rows twice,
    which readers see once, and never a gap. Files that an extraction adds meanwhile are left alone.
    """
    parts = store.parts(feature, fingerprint)
    for group in _groups(parts):
        rows = each_image_once(store.read_parts(feature, fingerprint, group))
        merged = store.write(feature, fingerprint, rows)
        # One of the old files may have held all of it.
        for part in group:
            if part != merged:
                part.delete()
    return Compaction(before=len(parts), after=len(store.parts(feature, fingerprint)))


def _groups(parts: list[Location]) -> Iterator[list[Location]]:
    """Yield runs of two files or more that fit into one."""
    group: list[Location] = []
    rows = 0
    for part in parts:
        filesystem, path = part.opened()
        count = pq.read_metadata(path, filesystem=filesystem).num_rows
        if group and rows + count > ROWS_PER_FILE:
            if len(group) > 1:
                yield group
            group, rows = [], 0
        group.append(part)
        rows += count
    if len(group) > 1:
        yield group
