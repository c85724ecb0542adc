"""How a row travels through the extraction: as a line of an Arrow table that each step takes and returns.

Rows start as image_id, uri, two wishes (want_captions, want_embeddings) and no `reason`. Reading adds the
pixels that are wished for, the two models turn pixels into results, writing adds the results to the feature
store. A row that goes wrong carries its `reason` along and ends as a row with status failed.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa

from fracray.errors import FracrayError
from fracray.extraction.store import SCHEMAS, Feature

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

WORK = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("want_captions", pa.bool_(), nullable=False),
        pa.field("want_embeddings", pa.bool_(), nullable=False),
        pa.field("reason", pa.string()),
    ]
)
STEPS = ("reading", "decoding", "captioning", "embedding", "writing")
"""Columns of seconds per row, one added by each step."""


@dataclass(frozen=True)
class Row:
    """What a model sees of a row; `pixels` uint8 `[s, s]`."""

    image_id: str
    pixels: np.ndarray


def result_type(feature: Feature) -> pa.StructType:
    """Return the struct that holds a feature of one row: its columns in the store without the two keys."""
    return pa.struct([field for field in SCHEMAS[feature] if field.name not in ("image_id", "fingerprint")])


def infer(
    table: pa.Table,
    feature: Feature,
    column: str,
    size: int,
    run: Callable[[Sequence[Row]], Sequence[R]],
    failed: Callable[[str], R],
) -> list[R | None]:
    """Run a model on the rows that wish for `feature`; a row without pixels fails with the reason it has."""
    results: list[R | None] = [None] * table.num_rows
    places: list[int] = []
    rows: list[Row] = []
    for place, row in enumerate(table.select(["image_id", f"want_{feature}", column, "reason"]).to_pylist()):
        if not row[f"want_{feature}"]:
            continue
        if row[column] is None:
            results[place] = failed(row["reason"])
        else:
            places.append(place)
            rows.append(Row(row["image_id"], np.frombuffer(row[column], np.uint8).reshape(size, size)))
    for place, result in zip(places, _halving(rows, run, failed), strict=True):
        results[place] = result
    return results


def _halving(
    items: Sequence[T], run: Callable[[Sequence[T]], Sequence[R]], failed: Callable[[str], R]
) -> list[R]:
    """Run a model on `items` together; if that raises, on each half, down to the item that is at fault."""
    if not items:
        return []
    try:
        return list(run(items))
    except Exception as error:
        if len(items) == 1:
            log.warning("a model failed on one radiograph", exc_info=True)
            return [failed(reason_of(error))]
        log.warning("a model failed on %d radiographs, trying halves (%s)", len(items), reason_of(error))
    half = len(items) // 2
    return _halving(items[:half], run, failed) + _halving(items[half:], run, failed)


def reason_of(error: Exception) -> str:
    """Return one line for a row's `reason`: our own message, or a foreign error's type and first line."""
    if isinstance(error, FracrayError):
        return str(error)
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def timed(table: pa.Table, step: str, started: float) -> pa.Table:
    """Add the column `step`: the seconds since `started` (a `perf_counter` value), shared among the rows."""
    return with_seconds(table, step, time.perf_counter() - started)


def with_seconds(table: pa.Table, step: str, seconds: float) -> pa.Table:
    """Add the column `step`: these seconds, shared among the rows."""
    share = seconds / max(table.num_rows, 1)
    return table.append_column(step, pa.array([share] * table.num_rows, pa.float64()))
