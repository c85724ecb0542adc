"""The commands around the feature store, on a store written by hand: no model, no Ray."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from fracray import schema
from fracray.cli import features, store
from fracray.config import load_config
from fracray.errors import StoreError, UsageError
from fracray.extraction.plan import feature_fingerprints, plan_extraction
from fracray.extraction.store import FeatureStore
from fracray.extraction.summary import CaptionVariety, ExtractionSummary, FeatureSummary

SETTINGS = ("captions.captioner=fake", "vision.backbone.weights=random")
OVERRIDES = [part for setting in SETTINGS for part in ("--set", setting)]
IDS = [f"{number:064x}" for number in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store of three radiographs in six files, one caption failed."""
    fingerprints = feature_fingerprints(load_config(overrides=SETTINGS))
    filled = FeatureStore(tmp_path / "features")
    for number, image in enumerate(IDS):
        failed = number == 2
        caption = {
            "image_id": image, "fingerprint": fingerprints["captions"], "verdict": "none",
            "caption": None if failed else f"words {number}", "findings": "unparsed", "tokens": 2,
            "image_vector": None, "seconds": 0.1, "status": "failed" if failed else "ok",
            "reason": "the model broke" if failed else None,
        }  # fmt: skip
        embedding = {
            "image_id": image, "fingerprint": fingerprints["embeddings"], "embedding": [float(number), 1.0],
            "status": "ok", "reason": None,
        }  # fmt: skip
        for feature, row in (("captions", caption), ("embeddings", embedding)):
            table = pa.Table.from_pylist([row], schema=getattr(schema, feature.upper()))
            filled.write(feature, fingerprints[feature], table)  # type: ignore[arg-type]
    filled.write_settings("captions", fingerprints["captions"], {"captioner": "fake"})
    return tmp_path / "features"


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(store.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_ls_counts_rows_and_failures(folder: Path) -> None:
    lines = [line.split() for line in run("ls", folder).splitlines()]
    cells = [line for line in lines if line and line[0] in ("captions", "embeddings")]
    assert [row[0] for row in cells] == ["captions", "embeddings"]
    assert cells[0][2:5] == ["3", "1", "3"]
    assert cells[0][-1] == "fake"


def test_show_gives_reasons_and_captions(folder: Path) -> None:
    (fingerprint,) = FeatureStore(folder).fingerprints("captions")
    shown = run("show", fingerprint, folder)
    assert "1 x the model broke" in shown
    assert "words 0" in shown
    with pytest.raises(StoreError, match="no fingerprint abc"):
        run("show", "abc", folder)


def test_an_empty_store_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="fracray extract"):
        run("ls", tmp_path)


def test_compact_leaves_one_file_for_each_feature(folder: Path) -> None:
    run("compact", folder)
    assert len(list(folder.glob("*/*/part-*.parquet"))) == 2


def test_export_joins_by_image_and_leaves_gaps_empty(folder: Path, tmp_path: Path) -> None:
    names = [*IDS[::-1], "f" * 64]
    rows = [
        {"image_id": image, "uri": image, "label": 1, "group": "g", "fold": 0, "width": 1, "height": 1,
         "bits": 8, "format": "PNG", "status": "ok", "reason": None}
        for image in names
    ]  # fmt: skip
    full = [{name: row.get(name) for name in schema.MANIFEST.names} for row in rows]
    manifest = tmp_path / "manifest.parquet"
    schema.write_table(pa.Table.from_pylist(full, schema=schema.MANIFEST), schema.MANIFEST, manifest)
    out = tmp_path / "all.parquet"
    run("export", manifest, out, "--store", folder, *OVERRIDES)
    joined = pq.read_table(out).to_pylist()
    assert [row["image_id"] for row in joined] == names
    assert [row["caption"] for row in joined] == [None, "words 1", "words 0", None]
    assert [row["embedding"] for row in joined] == [[2.0, 1.0], [1.0, 1.0], [0.0, 1.0], None]
    assert [row["captions_status"] for row in joined] == ["failed", "ok", "ok", None]


def test_without_a_captioner_only_embeddings_are_wanted_and_exported(folder: Path, tmp_path: Path) -> None:
    settings = ("captions.captioner=none", SETTINGS[1])
    rows = [{"image_id": image, "uri": image, "group": "g", "status": "ok"} for image in IDS]
    full = [dict.fromkeys(schema.MANIFEST.names) | row for row in rows]
    manifest, out = tmp_path / "manifest.parquet", tmp_path / "all.parquet"
    schema.write_table(pa.Table.from_pylist(full, schema=schema.MANIFEST), schema.MANIFEST, manifest)
    plan = plan_extraction(manifest, FeatureStore(folder), load_config(overrides=settings))
    assert (plan.todo, dict(plan.pools)) == (0, {})
    plan = plan_extraction(manifest, FeatureStore(tmp_path / "new"), load_config(overrides=settings))
    assert (plan.todo, list(plan.pools)) == (3, ["embeddings"])
    run("export", manifest, out, "--store", folder, *(part for one in settings for part in ("--set", one)))
    names = pq.read_table(out).column_names
    assert "embedding" in names
    assert "caption" not in names


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.2", 0.2), ("0%", 0.0), ("100%", 1.0)])
def test_a_share_may_be_percent_or_fraction(text: str, share: float) -> None:
    assert features._share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["5 of 10", "120%", "-1", ""])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="max-failed"):
        features._share(text)


@pytest.mark.parametrize(("failed", "before", "passes"), [(5, 0, True), (6, 0, False), (3, 3, False)])
def test_too_many_failed_rows_end_with_an_error(failed: int, before: int, passes: bool) -> None:
    done = FeatureSummary("f", before, before, {"ok": 100 - failed, "failed": failed}, {"broken": failed})
    good = FeatureSummary("e", 0, 0, {"ok": 100}, {})
    summary = ExtractionSummary(100, 100, done, good, CaptionVariety(0, 0, {}), (), 1.0, {})
    if passes:
        features._refuse_failures(summary, 0.05)
        return
    with pytest.raises(StoreError, match="6 of 100 captions failed, more than 5"):
        features._refuse_failures(summary, 0.05)
