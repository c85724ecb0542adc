"""The feature store: captions and embeddings as Parquet files, found by image and fingerprint.

Layout below the store's folder:

    captions/<fingerprint>/part-<uuid>.parquet      rows of schema.CAPTIONS
    captions/<fingerprint>/_settings.json           what the fingerprint stands for
    embeddings/<fingerprint>/part-<uuid>.parquet    rows of schema.EMBEDDINGS
    embeddings/<fingerprint>/_settings.json

Each `<fingerprint>` folder is a plain Parquet dataset: pyarrow, pandas and DuckDB read it as it stands (names
that begin with a dot or an underscore are skipped by dataset readers). Files are only ever added.
"""

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fracray import schema
from fracray.errors import StoreError

Feature = Literal["captions", "embeddings"]

SCHEMAS: Mapping[Feature, pa.Schema] = {"captions": schema.CAPTIONS, "embeddings": schema.EMBEDDINGS}
FEATURES: tuple[Feature, ...] = tuple(SCHEMAS)
_SETTINGS = "_settings.json"


class FeatureStore:
    """Features of one project in `folder`, a path that every machine of the cluster can write to."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def write(self, feature: Feature, fingerprint: str, table: pa.Table) -> Path:
        """Add the rows of `table` as one new file, which appears whole or not at all, and return its path.

        Raises `TableError` if the table does not fit the feature's schema, `StoreError` if a row carries
        another fingerprint or the file cannot be written.
        """
        path = self._part_folder(feature, fingerprint) / f"part-{uuid.uuid4().hex}.parquet"
        checked = _checked(table, feature, fingerprint, path)
        _write_whole(path, lambda file: pq.write_table(checked, file, compression="zstd"))
        return path

    def write_settings(self, feature: Feature, fingerprint: str, settings: Mapping[str, Any]) -> None:
        """Write down beside the rows what `fingerprint` stands for, unless that was done before."""
        path = self._part_folder(feature, fingerprint) / _SETTINGS
        if not path.exists():
            text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
            _write_whole(path, lambda file: file.write(text.encode()))

    def read(self, feature: Feature, fingerprint: str) -> pa.Table:
        """Return all rows of a feature, each image once, ordered by image_id.

        If runs wrote the same image more than once, a row with status ok wins over any other, a failed one
        loses to any other, and then the first in the order of the file names stands. Raises `StoreError` if
        there are no rows or a file is no Parquet, `TableError` if a file does not fit the schema.
        """
        parts = self.parts(feature, fingerprint)
        if not parts:
            raise StoreError(
                f"{self._part_folder(feature, fingerprint)}: no {feature} with these settings; "
                "run `fracray extract` with the same settings first"
            )
        tables = [_checked(_read_part(path), feature, fingerprint, path) for path in parts]
        return each_image_once(pa.concat_tables(tables))

    def present(self, feature: Feature, fingerprint: str, *, failed: bool = True) -> set[str]:
        """Return the image_ids that have a row; with `failed=False` only those with a row that did not fail.

        Reads two columns only. An unknown fingerprint is an empty set.
        """
        found: set[str] = set()
        for path in self.parts(feature, fingerprint):
            rows = _read_part(path, ["image_id", "status"])
            if not failed:
                rows = rows.filter(pc.not_equal(rows["status"], "failed"))
            found.update(rows["image_id"].to_pylist())
        return found

    def fingerprints(self, feature: Feature) -> list[str]:
        """Return the fingerprints under which the store holds rows of `feature`, sorted."""
        folder = self.folder / feature
        if not folder.is_dir():
            return []
        return sorted(child.name for child in folder.iterdir() if any(child.glob("part-*.parquet")))

    def settings(self, feature: Feature, fingerprint: str) -> dict[str, Any]:
        """Return what was written down for `fingerprint`; empty if nothing was."""
        path = self._part_folder(feature, fingerprint) / _SETTINGS
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found

    def parts(self, feature: Feature, fingerprint: str) -> list[Path]:
        """Return the files of a fingerprint, in the order of their names."""
        return sorted(self._part_folder(feature, fingerprint).glob("part-*.parquet"))

    def _part_folder(self, feature: Feature, fingerprint: str) -> Path:
        return self.folder / feature / fingerprint


def _write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        # A rename lasts through a power cut only once its folder is on disk too.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise StoreError(
            f"{path}: cannot be written ({error.strerror or error}); check space and rights there"
        ) from None


def _read_part(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in columns or () if name not in file.schema_arrow.names]
            if missing:
                raise StoreError(f"{path}: column '{missing[0]}' is missing; remove it and extract again")
            return file.read(columns)
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise StoreError(
            f"{path}: not a readable Parquet file ({reason}); remove it and extract again"
        ) from None


def _checked(table: pa.Table, feature: Feature, fingerprint: str, path: Path) -> pa.Table:
    checked = schema.check(table, SCHEMAS[feature], str(path))
    strangers = pc.filter(checked["fingerprint"], pc.not_equal(checked["fingerprint"], fingerprint))
    if len(strangers):
        raise StoreError(
            f"{path}: holds rows of fingerprint {strangers[0]}, not {fingerprint}; move it there"
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
