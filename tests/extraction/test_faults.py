"""Extraction while machines, processes, files and other runs get in its way, on Ray nodes of this machine."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
import ray
from PIL import Image
from ray.cluster_utils import Cluster

from fracray import schema
from fracray.config import RadiographSettings
from fracray.extraction.pipeline import Steps, extract, run_plan
from fracray.extraction.plan import plan_extraction
from fracray.extraction.rows import result_type, timed
from fracray.extraction.store import FeatureStore
from fracray.location import Location
from fracray.radiographs.manifest import build_manifest
from tests.extraction.test_pipeline import SETTINGS, config
from tests.s3 import s3_server

pytestmark = pytest.mark.ray

ROWS = 48


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with s3_server() as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield variables


@pytest.fixture(scope="module")
def cluster(environment: dict[str, str]) -> Iterator[Cluster]:
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "include_dashboard": False})
    ray.init(address=nodes.address, log_to_driver=False, logging_level="error")
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("radiographs")
    rng = np.random.default_rng(3)
    for number in range(ROWS):
        (folder / ("fractured", "normal")[number % 2]).mkdir(exist_ok=True)
        grey = rng.integers(0, 256, (60, 50), dtype=np.uint8)
        Image.fromarray(grey).save(folder / ("fractured", "normal")[number % 2] / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def manifest(radiographs: Path) -> Path:
    path = radiographs.parent / "manifest.parquet"
    # Random pictures look alike to a perceptual hash's eyes only within this distance.
    table = build_manifest(radiographs, RadiographSettings(duplicate_distance=0), 7)
    schema.write_table(table, schema.MANIFEST, path)
    return path


def ids_of(manifest: Path | str) -> list[str]:
    return sorted(schema.read_table(manifest, schema.MANIFEST)["image_id"].to_pylist())


def stored(folder: Path, feature: str) -> list[dict[str, Any]]:
    """All rows of a feature as they stand in the files, whatever a reader would make of them."""
    (place,) = (folder / feature).iterdir()
    rows: list[dict[str, Any]] = ds.dataset(place, format="parquet").to_table().to_pylist()
    return sorted(rows, key=lambda row: str(row["image_id"]))


@dataclass(frozen=True)
class Embedding:
    """Stands in for the backbone: `kill` is told which radiographs its process is working on."""

    kill: Callable[[list[str]], None]

    def __call__(self, *_: Any) -> Callable[[pa.Table], pa.Table]:
        def step(table: pa.Table) -> pa.Table:
            started = time.perf_counter()
            pixels = table["vision_pixels"].to_pylist()
            self.kill(
                [i for i, p in zip(table["image_id"].to_pylist(), pixels, strict=True) if p is not None]
            )
            results = [
                {"embedding": None, "status": "failed", "reason": reason}
                if shown is None
                else {"embedding": [1.0, 2.0], "status": "ok", "reason": None}
                for shown, reason in zip(pixels, table["reason"].to_pylist(), strict=True)
            ]
            table = table.append_column("embeddings", pa.array(results, result_type("embeddings")))
            return timed(table.drop_columns(["vision_pixels"]), "embedding", started)

        return step


@dataclass(frozen=True)
class Poison:
    """Ends the process that works on `image_id`, as a crash in C code or the kernel's memory killer would."""

    image_id: str

    def __call__(self, working_on: list[str]) -> None:
        if self.image_id in working_on:
            os._exit(139)


@dataclass(frozen=True)
class Slow:
    seconds: float

    def __call__(self, working_on: list[str]) -> None:
        time.sleep(self.seconds)


def test_a_radiograph_that_kills_its_process_is_marked_and_the_rest_goes_on(
    cluster: Cluster, manifest: Path, tmp_path: Path
) -> None:
    poisonous, store = ids_of(manifest)[5], FeatureStore(tmp_path)
    plan = plan_extraction(manifest, store, config())
    summary = run_plan(plan, store, config(), steps=Steps(embeddings=Embedding(Poison(poisonous))))
    assert (summary.captions.done, summary.embeddings.done, summary.embeddings.failed) == (ROWS, ROWS - 1, 1)
    rows = stored(tmp_path, "embeddings")
    assert [row["image_id"] for row in rows] == ids_of(manifest)
    (failed,) = [row for row in rows if row["status"] == "failed"]
    assert failed["image_id"] == poisonous
    assert "embedding killed its process 2 times on this radiograph alone" in failed["reason"]


RUN = """
import sys
import ray
from fracray.config import load_config
from fracray.extraction.pipeline import extract
from fracray.extraction.store import FeatureStore
print(extract(sys.argv[1], FeatureStore(sys.argv[2]), load_config(overrides=sys.argv[3:])).worked)
"""


def test_two_runs_at_once_leave_every_row_once(cluster: Cluster, manifest: Path, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=3)
    command = [sys.executable, "-c", RUN, str(manifest), str(tmp_path), *SETTINGS]
    variables = {**os.environ, "RAY_ADDRESS": cluster.address}
    runs = [
        subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for run in runs:
        _, errors = run.communicate(timeout=400)
        assert run.returncode == 0, errors.decode()[-2000:]
    cluster.remove_node(node)
    for feature in ("captions", "embeddings"):
        assert [row["image_id"] for row in stored(tmp_path, feature)] == ids_of(manifest)


def test_a_machine_that_vanishes_costs_time_and_no_row(
    cluster: Cluster, manifest: Path, tmp_path: Path
) -> None:
    spot = cluster.add_node(num_cpus=3)
    settings = config("extraction.vision_actors=2", "extraction.rows_per_block=2")
    store = FeatureStore(tmp_path)
    killer = threading.Event()

    def vanish(done: int, failed: int, total: int) -> None:
        if done >= total // 4 and not killer.is_set():
            killer.set()
            cluster.remove_node(spot, allow_graceful=False)

    plan = plan_extraction(manifest, store, settings)
    summary = run_plan(plan, store, settings, vanish, Steps(embeddings=Embedding(Slow(0.2))))
    assert killer.is_set()
    assert (summary.captions.done, summary.embeddings.done) == (ROWS, ROWS)
    for feature in ("captions", "embeddings"):
        rows = stored(tmp_path, feature)
        assert [row["image_id"] for row in rows] == ids_of(manifest)
        assert {row["status"] for row in rows} == {"ok"}


def test_radiographs_manifest_and_store_live_in_s3(cluster: Cluster, radiographs: Path) -> None:
    place = Location.of("s3://radiographs/hospital")
    for path in sorted(radiographs.rglob("*.png"))[:: ROWS // 8]:
        data = path.read_bytes()
        copy = place / path.relative_to(radiographs).as_posix()
        copy.write_whole(lambda file, data=data: file.write(data))
    table = build_manifest(place, RadiographSettings(duplicate_distance=0, folds=2), 7)
    manifest, store = Location.of("s3://radiographs/manifest.parquet"), FeatureStore("s3://radiographs/store")
    schema.write_table(table, schema.MANIFEST, manifest)

    summary = extract(manifest, store, config())

    assert (summary.captions.done, summary.embeddings.done) == (8, 8)
    rows = store.read("embeddings", summary.embeddings.fingerprint)
    assert rows["image_id"].to_pylist() == sorted(table["image_id"].to_pylist())
    assert extract(manifest, store, config()).worked == 0
