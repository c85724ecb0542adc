"""The feature store: captions and embeddings as Parquet files, found by image and fingerprint.

Layout below the store's folder:

    captions/<fingerprint>/part-<first>-<last>-<content>.parquet      rows of schema.CAPTIONS
    captions/<fingerprint>/_settings.json                             what the fingerprint stands for
    embeddings/<fingerprint>/part-<first>-<last>-<content>.parquet    rows of schema.EMBEDDINGS
    embeddings/<fingerprint>/_settings.json

Each `<fingerprint>` folder is a plain Parquet dataset: pyarrow, pandas and DuckDB read it as it stands (names
that begin with a dot or an underscore are skipped by dataset readers). Files are only ever added. A file's
name says which images it holds: `<first>` and `<last>` are the first eight digits of its lowest and highest
image_id, so that a search for some ids opens few files; `<content>` is a hash of its ids and their statuses,
so that the same rows written again are the same file.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fracray import schema
from fracray.errors import LocationError, StoreError
from fracray.extraction.span import EVERYTHING, Span
from fracray.location import Location

Feature = Literal["captions", "embeddings"]

SCHEMAS: Mapping[Feature, pa.Schema] = {"captions": schema.CAPTIONS, "embeddings": schema.EMBEDDINGS}
FEATURES: tuple[Feature, ...] = tuple(SCHEMAS)
_SETTINGS = "_settings.json"
_NAME = re.compile(r"part-(?:([0-9a-f]{8})-([0-9a-f]{8})-)?[^.]*\.parquet")


class FeatureStore:
    """Features of one project in `place`, which every machine of the cluster can write to."""

    def __init__(self, place: str | Path | Location) -> None:
        self.place = Location.of(place)

    def write(self, feature: Feature, fingerprint: str, table: pa.Table) -> Location:
        """Add the rows of `table` as one new file, which appears whole or not at all, and return its place.

        The same ids with the same statuses again change nothing: a block whose task was repeated, because
        its machine vanished after writing, stands once. Raises `TableError` if the table does not fit the
        feature's schema, `StoreError` if a row carries another fingerprint, `LocationError` if the file
        cannot be written.
        """
        folder = self._folder(feature, fingerprint)
        checked = _checked(table, feature, fingerprint, folder).sort_by("image_id")
        place = folder / _name(checked)
        place.write_whole(lambda file: pq.write_table(checked, file, compression="zstd"), replace=False)
        return place

    def write_settings(self, feature: Feature, fingerprint: str, settings: Mapping[str, Any]) -> None:
        """Write down beside the rows what `fingerprint` stands for, unless that was done before."""
        text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
        place = self._folder(feature, fingerprint) / _SETTINGS
        place.write_whole(lambda file: file.write(text.encode()), replace=False)

    def read(self, feature: Feature, fingerprint: str) -> pa.Table:
        """Return all rows of a feature, each image once, ordered by image_id.

        If runs wrote the same image more than once, a row with status ok wins over any other, a failed one
        loses to any other, and then the first in the order of the file names stands. Raises `StoreError` if
        there are no rows or a file is no Parquet, `TableError` if a file does not fit the schema.
        """
        parts = self.parts(feature, fingerprint)
        if not parts:
            raise StoreError(
                f"{self._folder(feature, fingerprint)}: no {feature} with these settings; "
                "run `fracray extract` with the same settings first"
            )
        return each_image_once(self.read_parts(feature, fingerprint, parts))

    def read_parts(self, feature: Feature, fingerprint: str, parts: Iterable[Location]) -> pa.Table:
        """Return the rows of these files as they stand, checked; raises as `read` does."""
        tables = [_checked(_read_part(part), feature, fingerprint, part) for part in parts]
        return pa.concat_tables(tables)

    def statuses(self, feature: Feature, fingerprint: str, span: Span = EVERYTHING) -> pa.Table:
        """Return image_id and status of the rows whose ids lie in `span`, as they stand in the files.

        Opens only the files that can hold such rows. An unknown fingerprint has no rows.
        """
        names = ["image_id", "status"]
        tables = [_read_part(part, names) for part in self.parts(feature, fingerprint, span)]
        nothing = pa.schema([(name, pa.string()) for name in names]).empty_table()
        rows = pa.concat_tables([nothing, *(table.cast(nothing.schema) for table in tables)])
        return rows.filter(span.condition("image_id"))

    def fingerprints(self, feature: Feature) -> list[str]:
        """Return the fingerprints under which the store holds rows of `feature`, sorted."""
        names = (self.place / feature).names()
        return [name for name in names if not name.startswith(".") and self.parts(feature, name)]

    def settings(self, feature: Feature, fingerprint: str) -> dict[str, Any]:
        """Return what was written down for `fingerprint`; empty if nothing was."""
        try:
            found: dict[str, Any] = json.loads((self._folder(feature, fingerprint) / _SETTINGS).read_bytes())
        except (LocationError, ValueError):
            return {}
        return found

    def parts(self, feature: Feature, fingerprint: str, span: Span = EVERYTHING) -> list[Location]:
        """Return the files that can hold ids in `span`, in the order of their names."""
        folder = self._folder(feature, fingerprint)
        named = [match for name in folder.names() if (match := _NAME.fullmatch(name))]
        return [folder / match[0] for match in named if span.meets(match[1], match[2])]

    def _folder(self, feature: Feature, fingerprint: str) -> Location:
        return self.place / feature / fingerprint


def _name(table: pa.Table) -> str:
    ids = table["image_id"].to_pylist()
    content = hashlib.sha256(json.dumps([ids, table["status"].to_pylist()]).encode()).hexdigest()[:16]
    return f"part-{ids[0][:8]}-{ids[-1][:8]}-{content}.parquet"


def _read_part(part: Location, columns: list[str] | None = None) -> pa.Table:
    filesystem, path = part.opened()
    try:
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            missing = [name for name in columns or () if name not in file.schema_arrow.names]
            if missing:
                raise StoreError(f"{part}: column '{missing[0]}' is missing; remove it and extract again")
            return file.read(columns)
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise StoreError(
            f"{part}: not a readable Parquet file ({reason}); remove it and extract again"
        ) from None


def _checked(table: pa.Table, feature: Feature, fingerprint: str, place: Location) -> pa.Table:
    checked = schema.check(table, SCHEMAS[feature], str(place))
    strangers = pc.filter(checked["fingerprint"], pc.not_equal(checked["fingerprint"], fingerprint))
    if len(strangers):
        raise StoreError(
            f"{place}: holds rows of fingerprint {strangers[0]}, not {fingerprint}; move it there"
        )
    return checked


def each_image_once(table: pa.Table) -> pa.Table:
    """Return each image's best row, by image_id: ok before others, failed last, then the first."""
    status = table["status"].to_numpy()
    rank = np.where(status == "ok", 0, np.where(status == "failed", 2, 1))
    # lexsort is stable, so rows equal in both keys keep the order of the files.
    order = np.lexsort((rank, table["image_id"].to_numpy()))
    ordered = table["image_id"].to_numpy()[order]
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return table.take(pa.array(order[first]))
