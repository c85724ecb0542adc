import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import ray
import ray.data
from PIL import Image

from fracray import schema
from fracray.config import Config, load_config
from fracray.errors import BackboneError, ClusterError
from fracray.extraction import pipeline
from fracray.extraction.pipeline import extract
from fracray.extraction.store import FEATURES, FeatureStore
from fracray.fingerprint import image_id

pytestmark = pytest.mark.ray

SETTINGS = (
    "captions.captioner=fake",
    "vision.backbone.architecture=resnet10",
    "vision.backbone.weights=random",
    "vision.preprocessing.size=64",
    "extraction.rows_per_block=4",
)
GONE, CHANGED = 3, 7


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    context = ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error"
    )
    yield context.address_info["gcs_address"]
    ray.shutdown()


def config(*overrides: str) -> Config:
    return load_config(overrides=[*SETTINGS, *overrides])


def write_radiograph(path: Path, seed: int) -> None:
    grey = np.random.default_rng(seed).integers(0, 256, (60, 50), dtype=np.uint8)
    Image.fromarray(grey).save(path)


def write_manifest(folder: Path, count: int) -> Path:
    """Write `count` small radiographs and their manifest, which also lists one file that was unreadable."""
    folder.mkdir()
    rows = []
    for number in range(count):
        path = folder / f"{number}.png"
        write_radiograph(path, number)
        rows.append(
            {
                "image_id": image_id(path.read_bytes()),
                "uri": str(path),
                "label": number % 2,
                "group": str(number),
                "fold": number % 5,
                "width": 50,
                "height": 60,
                "bits": 8,
                "format": "PNG",
                "status": "ok",
                "reason": None,
            }
        )
    unreadable = dict.fromkeys(rows[0]) | {"uri": "nothing.png", "group": "", "status": "unreadable"}
    manifest = folder.with_suffix(".parquet")
    schema.write_table(
        pa.Table.from_pylist([*rows, unreadable], schema=schema.MANIFEST), schema.MANIFEST, manifest
    )
    return manifest


def rows_of(manifest: Path) -> list[dict[str, Any]]:
    return [row for row in pq.read_table(manifest).to_pylist() if row["status"] == "ok"]


def ids_of(manifest: Path) -> list[str]:
    return [row["image_id"] for row in rows_of(manifest)]


def folder_of(store: FeatureStore) -> Path:
    return Path(store.place.uri)


def files_of(store: FeatureStore, feature: str = "") -> list[Path]:
    return sorted((folder_of(store) / feature).rglob("*"))


@pytest.fixture(scope="module")
def extracted(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FeatureStore]:
    """A store filled from a manifest of which one file has gone and one has changed since it was made."""
    folder = tmp_path_factory.mktemp("extracted")
    manifest = write_manifest(folder / "files", 20)
    (folder / "files" / f"{GONE}.png").unlink()
    (folder / "files" / f"{CHANGED}.png").write_bytes(b"something else")
    store = FeatureStore(folder / "store")
    progress: list[tuple[int, int, int]] = []
    summary = extract(manifest, store, config(), lambda *counts: progress.append(counts))
    assert (summary.rows, summary.worked) == (20, 20)
    for feature in (summary.captions, summary.embeddings):
        assert (feature.present, feature.done, feature.failed) == (0, 18, 2)
        assert sum(feature.failures.values()) == 2
    assert progress[0] == (0, 0, 20)
    assert progress[-1] == (20, 2, 20)
    assert progress == sorted(progress)
    return manifest, store


def test_every_usable_row_has_both_features_and_a_bad_one_its_reason(
    extracted: tuple[Path, FeatureStore],
) -> None:
    manifest, store = extracted
    ids = ids_of(manifest)
    for feature in FEATURES:
        (fingerprint,) = store.fingerprints(feature)
        rows = {row["image_id"]: row for row in store.read(feature, fingerprint).to_pylist()}
        assert sorted(rows) == sorted(ids)
        for number, image in enumerate(ids):
            bad = number in (GONE, CHANGED)
            assert rows[image]["status"] == ("failed" if bad else "ok")
            assert (rows[image]["reason"] is not None) == bad


def test_without_a_captioner_radiographs_are_embedded_only(
    extracted: tuple[Path, FeatureStore], tmp_path: Path
) -> None:
    manifest, _ = extracted
    store = FeatureStore(tmp_path / "store")
    summary = extract(manifest, store, config("captions.captioner=none"))
    assert summary.captions is None
    assert (summary.embeddings.done, summary.embeddings.failed) == (18, 2)
    assert summary.busy_seconds["captioning"] == 0
    assert list(summary.features) == ["embeddings"]
    assert store.fingerprints("captions") == []
    assert len(store.fingerprints("embeddings")) == 1


def test_a_run_of_many_blocks_is_several_jobs_that_lose_and_repeat_nothing(
    extracted: tuple[Path, FeatureStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, _ = extracted
    jobs: list[int] = []

    def counted(blocks: list[Any], *arguments: Any) -> ray.data.Dataset:
        jobs.append(len(blocks))
        return job_of(blocks, *arguments)

    job_of = pipeline._job
    monkeypatch.setattr(pipeline, "_job", counted)
    monkeypatch.setattr("fracray.extraction.cluster.BLOCKS_PER_JOB", 3)
    store = FeatureStore(tmp_path / "store")
    summary = extract(manifest, store, config("captions.captioner=none"))
    assert jobs == [3, 2]
    assert (summary.embeddings.done, summary.embeddings.failed) == (18, 2)
    (fingerprint,) = store.fingerprints("embeddings")
    assert sorted(store.read("embeddings", fingerprint)["image_id"].to_pylist()) == sorted(ids_of(manifest))


def test_a_second_run_does_nothing_and_starts_no_model(
    extracted: tuple[Path, FeatureStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, store = extracted
    before = files_of(store)
    monkeypatch.setattr("fracray.extraction.pipeline.connected", lambda: pytest.fail("Ray was asked for"))
    summary = extract(manifest, store, config())
    assert (summary.rows, summary.worked) == (20, 0)
    assert (summary.captions.present, summary.captions.failed_before) == (20, 2)
    assert (summary.embeddings.present, summary.embeddings.done) == (20, 0)
    assert files_of(store) == before


def test_other_caption_settings_recompute_captions_only(
    extracted: tuple[Path, FeatureStore], tmp_path: Path
) -> None:
    manifest, store = extracted
    (fingerprint,) = store.fingerprints("captions")
    embeddings = files_of(store, "embeddings")
    pq.write_table(store.read("captions", fingerprint), tmp_path / "told.parquet")
    told = config("captions.captioner=replay", f"captions.model={tmp_path / 'told.parquet'}")

    summary = extract(manifest, store, told)

    assert (summary.captions.present, summary.captions.done) == (0, 18)
    assert (summary.embeddings.present, summary.embeddings.done, summary.embeddings.failed) == (20, 0, 0)
    assert files_of(store, "embeddings") == embeddings
    first = store.read("captions", fingerprint)
    second = store.read("captions", summary.captions.fingerprint)
    assert summary.captions.fingerprint != fingerprint
    assert second["caption"].equals(first["caption"])


def test_failed_rows_are_tried_again_when_asked(extracted: tuple[Path, FeatureStore], tmp_path: Path) -> None:
    manifest, filled = extracted
    store = FeatureStore(shutil.copytree(folder_of(filled), tmp_path / "store"))
    path = Path(rows_of(manifest)[GONE]["uri"])
    write_radiograph(path, GONE)

    assert extract(manifest, store, config()).worked == 0
    summary = extract(manifest, store, config(), retry_failed=True)
    path.unlink()

    assert (summary.worked, summary.captions.done, summary.embeddings.done) == (2, 1, 1)
    fingerprint = {"captions": summary.captions.fingerprint, "embeddings": summary.embeddings.fingerprint}
    for feature in FEATURES:
        table = store.read(feature, fingerprint[feature])
        assert table["image_id"].to_pylist() == sorted(ids_of(manifest))
        failed = table.filter(pc.equal(table["status"], "failed"))
        assert failed["image_id"].to_pylist() == [ids_of(manifest)[CHANGED]]


KILLED_DRIVER = """
import os, signal, sys
from pathlib import Path
from fracray.config import load_config
from fracray.extraction.pipeline import extract
from fracray.extraction.store import FeatureStore

def die_in_the_middle(done, failed, total):
    if done >= total // 4:
        os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[1])
store = FeatureStore(folder / "store")
extract(folder / "files.parquet", store, load_config(overrides=sys.argv[2:]), die_in_the_middle)
"""


def test_after_a_killed_run_the_next_one_completes_the_store(cluster: str, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "files", 40)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_DRIVER, str(tmp_path), *SETTINGS, "extraction.rows_per_block=2"],
        env={**os.environ, "RAY_ADDRESS": cluster},
        timeout=500,
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    store = FeatureStore(tmp_path / "store")

    summary = extract(manifest, store, config())

    assert summary.captions.present >= 10
    assert summary.captions.present + summary.captions.done == 40
    for feature in FEATURES:
        (fingerprint,) = store.fingerprints(feature)
        table = store.read(feature, fingerprint)
        assert table["image_id"].to_pylist() == sorted(ids_of(manifest))
        assert set(table["status"].to_pylist()) == {"ok"}


def test_a_model_that_cannot_be_loaded_ends_the_run_with_its_own_error(cluster: str, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"these are no weights" * 10)
    manifest = write_manifest(tmp_path / "files", 2)
    with pytest.raises(BackboneError, match=r"weights\.safetensors"):
        extract(manifest, FeatureStore(tmp_path / "store"), config(f"vision.backbone.weights={weights}"))


def test_a_plan_too_large_for_the_cluster_is_refused_at_once(cluster: str, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "files", 2)
    store = FeatureStore(tmp_path / "store")
    with pytest.raises(ClusterError, match=r"--set extraction\.caption_actors=1"):
        extract(manifest, store, config("extraction.caption_actors=3"))
    assert store.fingerprints("captions") == []
