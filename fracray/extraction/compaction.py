"""Many small files of a feature store become few, without a moment in which a row is missing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fracray.extraction.store import SCHEMAS, Feature, FeatureStore, each_image_once

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
        tables = [pq.read_table(path, schema=SCHEMAS[feature]) for path in group]
        store.write(feature, fingerprint, each_image_once(pa.concat_tables(tables)))
        for path in group:
            path.unlink()
    return Compaction(before=len(parts), after=len(store.parts(feature, fingerprint)))


def _groups(parts: list[Path]) -> Iterator[list[Path]]:
    """Yield runs of two files or more that fit into one."""
    group: list[Path] = []
    rows = 0
    for path in parts:
        count = pq.read_metadata(path).num_rows
        if group and rows + count > ROWS_PER_FILE:
            if len(group) > 1:
                yield group
            group, rows = [], 0
        group.append(path)
        rows += count
    if len(group) > 1:
        yield group
