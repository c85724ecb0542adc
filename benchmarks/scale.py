"""How does an extraction grow? The same pipeline over 10,000 to 1,000,000 rows, with nothing to compute.

Reader and models are fakes that answer at once, so that what is left is the plan, the search for missing
rows, Ray's bookkeeping, the store and the driver. Each size runs in a process of its own, twice: once into an
empty store, then planned again against the full one. The bars, from the smallest to the largest size: the
driver's peak memory grows by at most 300 MB, the time per row to at most 1.5 times.

    python benchmarks/scale.py [--rows 10000 100000 1000000]
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fracray import schema
from fracray.config import load_config
from fracray.extraction.pipeline import Steps, run_plan
from fracray.extraction.plan import plan_extraction
from fracray.extraction.rows import result_type, timed, with_seconds
from fracray.extraction.store import FeatureStore

SETTINGS = (
    "captions.captioner=fake",
    "captions.batch_size=1024",
    "vision.backbone.architecture=resnet10",
    "vision.backbone.weights=random",
    "vision.batch_size=1024",
)
WIDTH = 512
"""Numbers of an embedding, as of a ResNet-18."""


def write_manifest(place: Path, rows: int) -> None:
    """Write a manifest of files that do not exist, in no order of their ids."""
    nothing = dict.fromkeys(schema.MANIFEST.names)
    with pq.ParquetWriter(place, schema.MANIFEST) as writer:
        for start in range(0, rows, 50_000):
            numbers = range(start, min(start + 50_000, rows))
            ids = [hashlib.sha256(str(number).encode()).hexdigest() for number in numbers]
            lines = [
                nothing
                | {"image_id": image, "uri": f"/archive/{number:09}.jpg", "group": image, "status": "ok"}
                for image, number in zip(ids, numbers, strict=True)
            ]
            writer.write_table(pa.Table.from_pylist(lines, schema=schema.MANIFEST))


def read(table: pa.Table, *_: Any) -> pa.Table:
    """Stand in for reading: four bytes for each picture."""
    pixels = pa.array([b"grey"] * table.num_rows, pa.binary())
    for name in ("caption_pixels", "vision_pixels"):
        table = table.append_column(name, pixels)
    return with_seconds(with_seconds(table.drop_columns(["uri"]), "reading", 0.0), "decoding", 0.0)


def model(feature: str, column: str, step: str, result: dict[str, Any]) -> Callable[..., Any]:
    """Stand in for a model: the same result for each row."""

    def run(table: pa.Table) -> pa.Table:
        started = time.perf_counter()
        kind = result_type(feature)  # type: ignore[arg-type]
        table = table.append_column(feature, pa.array([result] * table.num_rows, kind))
        if feature == "captions":
            table = table.append_column("caption_hash", pa.array([1] * table.num_rows, pa.int64()))
        return timed(table.drop_columns([column]), step, started)

    return lambda *_: run


FAKES = Steps(
    read,
    model("captions", "caption_pixels", "captioning",
          {"caption": "Region: hand", "verdict": "none", "findings": "partial", "status": "ok"}),
    model("embeddings", "vision_pixels", "embedding", {"embedding": [0.5] * WIDTH, "status": "ok"}),
)  # fmt: skip


def measure(rows: int, rows_per_block: int) -> dict[str, Any]:
    """Extract `rows` rows; returns seconds and the peak memory of this process, the driver."""
    config = load_config(overrides=[*SETTINGS, f"extraction.rows_per_block={rows_per_block}"])
    with tempfile.TemporaryDirectory() as folder:
        manifest, store = Path(folder) / "manifest.parquet", FeatureStore(Path(folder) / "features")
        # In a process of its own: its memory is not the driver's.
        subprocess.run([sys.executable, __file__, "--write", str(manifest), str(rows)], check=True)
        started = time.perf_counter()
        plan = plan_extraction(manifest, store, config)
        planned = time.perf_counter()
        written: list[tuple[float, int]] = []
        run_plan(plan, store, config, lambda done, *_: written.append((time.perf_counter(), done)), FAKES)
        ran = time.perf_counter()
        (first, before), (last, after) = next(pair for pair in written if pair[1]), written[-1]
        again = plan_extraction(manifest, store, config)
        assert (after, again.todo) == (rows, 0)
        return {
            "rows": rows,
            "plan_seconds": round(planned - started, 1),
            "run_seconds": round(ran - planned, 1),
            "milliseconds_per_row": round(1000 * (last - first) / (after - before), 3),
            "plan_again_seconds": round(time.perf_counter() - ran, 1),
            "driver_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),
        }


def main() -> None:
    """Measure each size and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rows-per-block", type=int, default=256)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.write:
        write_manifest(Path(asked.write[0]), int(asked.write[1]))
        return
    if asked.one:
        print(json.dumps(measure(asked.one, asked.rows_per_block)))
        return
    table = []
    for rows in asked.rows:
        command = [
            sys.executable,
            __file__,
            "--one",
            str(rows),
            "--rows-per-block",
            str(asked.rows_per_block),
        ]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        table.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(table[-1]), file=sys.stderr, flush=True)
    first, last = table[0], table[-1]
    figures = {
        "rows_per_block": asked.rows_per_block,
        "sizes": table,
        "memory_grows_by_mb": last["driver_peak_mb"] - first["driver_peak_mb"],
        "time_per_row_grows_to": round(last["milliseconds_per_row"] / first["milliseconds_per_row"], 2),
        "cpus": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "versions": {name: version(name) for name in ("ray", "pyarrow")},
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
