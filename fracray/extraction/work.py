"""What is missing: the rows of a manifest that a feature store lacks, found span by span of the image ids.

No process ever holds all ids or rows: whoever asks for one span reads the manifest's and the store's rows of
that span only.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from fracray import schema
from fracray.errors import TableError
from fracray.extraction.rows import WORK
from fracray.extraction.span import Span
from fracray.extraction.store import FEATURES, Feature, FeatureStore
from fracray.location import Location

ROWS_PER_SPAN = 100_000
"""About 15 MB of ids and paths: little for a worker, and few enough spans that each is worth its scan."""

_ONE_BATCH_AT_A_TIME = {
    "batch_size": 16_384,
    "batch_readahead": 1,
    "fragment_readahead": 1,
    "use_threads": False,
    "fragment_scan_options": ds.ParquetFragmentScanOptions(pre_buffer=False),
}
"""Of a manifest most rows are read to be left out; Arrow would hold many row groups of them at once."""

_Flags = dict[Feature, pa.Array]
"""For each usable row of a span, a yes or no by feature."""


@dataclass(frozen=True)
class SpanCounts:
    """What one span holds: usable `rows` of the manifest, rows `todo` that lack a feature; by feature the
    rows `wanted`, the rows `present` in the store, and those of them that `failed` and stay so."""

    rows: int
    todo: int
    wanted: Mapping[Feature, int]
    present: Mapping[Feature, int]
    failed: Mapping[Feature, int]


@dataclass(frozen=True)
class Work:
    """The manifest minus the store, cut into `spans` parts that hold about equally many rows.

    A feature without a fingerprint is wanted of no row.
    """

    manifest: Location
    store: Location
    fingerprints: Mapping[Feature, str]
    retry_failed: bool
    spans: int

    def rows(self, number: int) -> pa.Table:
        """Return the rows (schema WORK) of span `number` that lack a feature, ordered by image_id."""
        return self._compared(number)[0]

    def counts(self, number: int) -> SpanCounts:
        """Count what `rows` returns, and what the store holds already; returns all memory it took."""
        work, held, failed, rows = self._compared(number)
        counts = SpanCounts(
            rows=rows,
            todo=work.num_rows,
            wanted={feature: _count(work[f"want_{feature}"]) for feature in FEATURES},
            present={feature: _count(held[feature]) for feature in FEATURES},
            failed={feature: _count(failed[feature]) for feature in FEATURES},
        )
        del work, held, failed
        pa.default_memory_pool().release_unused()
        return counts

    def _compared(self, number: int) -> tuple[pa.Table, _Flags, _Flags, int]:
        """Return the work, which usable rows the store holds, which of those stand as failed, and how many
        usable rows there are."""
        span = Span.of(number, self.spans)
        usable = _usable(self.manifest, span)
        ids = usable["image_id"]
        store = FeatureStore(self.store)
        held, failed, work = {}, {}, usable.append_column("reason", pa.nulls(usable.num_rows, pa.string()))
        for feature in FEATURES:
            if feature not in self.fingerprints:
                none = pa.repeat(False, usable.num_rows)
                held[feature] = failed[feature] = none
                work = work.append_column(f"want_{feature}", none)
                continue
            rows = store.statuses(feature, self.fingerprints[feature], span)
            sound = rows.filter(pc.not_equal(rows["status"], "failed"))
            held[feature] = pc.is_in(ids, rows["image_id"].combine_chunks())
            is_sound = pc.is_in(ids, sound["image_id"].combine_chunks())
            settled = is_sound if self.retry_failed else held[feature]
            failed[feature] = pc.and_(settled, pc.invert(is_sound))
            work = work.append_column(f"want_{feature}", pc.invert(settled))
        missing = pc.or_(work["want_captions"], work["want_embeddings"])
        return work.filter(missing).select(WORK.names).cast(WORK), held, failed, usable.num_rows


def missing_work(
    manifest: Location, store: Location, fingerprints: Mapping[Feature, str], *, retry_failed: bool = False
) -> Work:
    """Return the work for a manifest: one Parquet file of schema MANIFEST, or a folder of such files.

    Reads nothing but the files' metadata. Raises `TableError`.
    """
    dataset = _dataset(manifest)
    schema.check(dataset.schema.empty_table(), schema.MANIFEST, str(manifest))
    spans = max(1, math.ceil(dataset.count_rows() / ROWS_PER_SPAN))
    return Work(manifest, store, dict(fingerprints), retry_failed, spans)


def _dataset(manifest: Location) -> ds.Dataset:
    filesystem, path = manifest.opened()
    try:
        return ds.dataset(path, filesystem=filesystem, format="parquet")
    except FileNotFoundError:
        raise TableError(f"{manifest}: no such file; check the path") from None
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise TableError(f"{manifest}: not a readable Parquet file ({reason})") from None


def _usable(manifest: Location, span: Span) -> pa.Table:
    """Return image_id and uri of the span's rows with status ok, each image once, ordered by image_id."""
    wanted = (pc.field("status") == "ok") & span.condition("image_id")
    rows = _dataset(manifest).to_table(["image_id", "uri"], wanted, **_ONE_BATCH_AT_A_TIME)
    once = rows.group_by("image_id", use_threads=False).aggregate([("uri", "first")])
    return once.rename_columns(["image_id", "uri"]).sort_by("image_id")


def _count(flags: pa.Array) -> int:
    return int(pc.sum(flags).as_py() or 0)
