"""The step from results to files of the feature store. Needs neither Ray nor torch."""

import time
from collections.abc import Mapping

import pyarrow as pa

from fracray.extraction.rows import STEPS, result_type, timed
from fracray.extraction.store import SCHEMAS, Feature, FeatureStore
from fracray.location import Location


def write_rows(table: pa.Table, place: Location, fingerprints: Mapping[Feature, str]) -> pa.Table:
    """Add the results in `table` to the store at `place`, one file per feature.

    Returns what the driver counts, per row: `<feature>_status`, `<feature>_reason` (status null: not wished
    for), `caption_hash`, `captions_findings` and `self_test` of captions, and the seconds of every step.
    """
    started = time.perf_counter()
    store = FeatureStore(place)
    counted = table.select([])
    for feature, fingerprint in fingerprints.items():
        if feature not in table.column_names:
            continue
        results = table[feature].combine_chunks()
        columns = pa.table(results.flatten(), names=result_type(feature).names)
        for name in ("status", "reason", "findings"):
            if name in columns.column_names:
                counted = counted.append_column(f"{feature}_{name}", columns[name])
        columns = columns.append_column("image_id", table["image_id"])
        columns = columns.append_column("fingerprint", pa.repeat(fingerprint, len(results)))
        rows = columns.filter(results.is_valid()).select(SCHEMAS[feature].names)
        if rows.num_rows:
            store.write(feature, fingerprint, rows)
    for name in ("caption_hash", "self_test", *STEPS):
        if name in table.column_names:
            counted = counted.append_column(name, table[name])
    return timed(counted, "writing", started)
