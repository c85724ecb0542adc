"""The whole way once, on a small messy collection: the same commands, files and models that a user has."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest
from PIL import Image

from fracray.config import ServingSettings
from fracray.radiographs.phantoms import make_phantom, write_phantoms
from fracray.schema import CAPTIONS, MANIFEST, PREDICTIONS, read_table
from fracray.serving.service import serve_bundle

pytestmark = pytest.mark.ray

SETTINGS = (
    "radiographs.folds=3", "search.vision_trials=1", "search.fusion_trials=4", "vision.finetune.epochs=1",
    "vision.preprocessing.size=96", "evaluation.bootstrap=100", "evaluation.gallery=2",
)  # fmt: skip
BAD = {"notes.txt": "not an image", "truncated.jpg": "truncated", "empty.png": "empty"}


def run(folder: Path, *arguments: str | Path, fails: bool = False) -> str:
    """Run a fracray command in `folder` and return what it printed."""
    command = [Path(sys.executable).parent / "fracray", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=400, check=False)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with phantoms and bad files, taken from manifest to evaluation by the command line."""
    folder = tmp_path_factory.mktemp("whole")
    images = write_phantoms(folder / "images", count=48, fractured=20, seed=11)
    _add_odd_files(images)
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    run(folder, "manifest", "images", "--out", "manifest.parquet", *settings)
    run(folder, "extract", "manifest.parquet", "--store", "features", *settings)
    run(folder, "search", "manifest.parquet", "--store", "features", "--out", "search", *settings)
    # The search brings its settings.
    run(folder, "train", "manifest.parquet", "--store", "features", "--search", "search", "--out", "bundle")
    run(folder, "evaluate", "bundle", "manifest.parquet", "--store", "features", "--out", "evaluation")
    return folder


def _add_odd_files(images: Path) -> None:
    sound, fractured = images / "Non-Fractured", images / "Fractured"
    (sound / "notes.txt").write_text("not an image")
    whole = next(path for path in sorted(sound.glob("*.jpg"))).read_bytes()
    (sound / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (fractured / "empty.png").write_bytes(b"")
    deep = (make_phantom(501, fractured=False, long_side=512).pixels * 65535).astype(np.uint16)
    Image.fromarray(deep).save(sound / "deep.png")
    inverted = pydicom.dcmread(next(path for path in sorted(images.rglob("*.dcm"))))
    inverted.pixel_array  # noqa: B018  (decodes before the pixels are replaced)
    pixels = 4095 - (make_phantom(502, fractured=False, long_side=512).pixels * 4095).astype(np.uint16)
    inverted.PhotometricInterpretation = "MONOCHROME1"
    inverted.Rows, inverted.Columns = pixels.shape
    inverted.PixelData = pixels.tobytes()
    inverted.save_as(sound / "monochrome1.dcm")


def test_bad_files_are_rows_with_a_reason_and_odd_ones_are_used(work: Path) -> None:
    rows = {Path(row["uri"]).name: row for row in read_table(work / "manifest.parquet", MANIFEST).to_pylist()}
    assert len(rows) == 48 + 5
    for name in BAD:
        assert rows[name]["status"] == "unreadable"
        assert rows[name]["reason"]
    assert (rows["deep.png"]["status"], rows["deep.png"]["bits"]) == ("ok", 16)
    assert (rows["monochrome1.dcm"]["status"], rows["monochrome1.dcm"]["format"]) == ("ok", "DICOM")


def test_every_usable_radiograph_has_exactly_one_caption(work: Path) -> None:
    usable = {
        row["image_id"]
        for row in read_table(work / "manifest.parquet", MANIFEST).to_pylist()
        if row["status"] == "ok"
    }
    parts = (work / "features" / "captions").rglob("part-*.parquet")
    captions = [row for part in parts for row in read_table(part, CAPTIONS).to_pylist()]
    assert sorted(row["image_id"] for row in captions) == sorted(usable)
    assert len({row["caption"] for row in captions}) > 10


def test_a_second_extraction_does_nothing_and_says_so(work: Path) -> None:
    before = sorted((work / "features").rglob("*"))
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    assert "nothing to do" in run(work, "extract", "manifest.parquet", "--store", "features", *settings)
    assert sorted((work / "features").rglob("*")) == before


def test_figures_are_those_of_rows_outside_the_fit_and_stand_in_the_bundle(work: Path) -> None:
    predictions = read_table(work / "evaluation" / "predictions.parquet", PREDICTIONS).to_pylist()
    training = set((work / "bundle" / "training_ids.txt").read_text().split())
    assert predictions
    assert not training & {row["image_id"] for row in predictions}
    assert {row["system"] for row in predictions} == {
        "majority",
        "caption_verdict",
        "image",
        "words",
        "fused",
    }
    figures = json.loads((work / "evaluation" / "figures.json").read_text())
    assert json.loads((work / "bundle" / "figures.json").read_text()) == figures
    assert "phantom" in (work / "evaluation" / "report.html").read_text().lower()


def test_evaluation_prediction_and_service_give_one_probability(work: Path) -> None:
    rows = read_table(work / "evaluation" / "predictions.parquet", PREDICTIONS).to_pylist()
    fused = [row for row in rows if row["system"] == "fused"][:6]
    lines = run(
        work, "predict", "--json", "--bundle", "bundle", *[Path(row["uri"]) for row in fused]
    ).splitlines()
    predicted = [json.loads(line) for line in lines if line.startswith("{")]
    with serve_bundle(work / "bundle", ServingSettings(port=8123)) as service:
        served = [_post(service.url, Path(row["uri"])) for row in fused]
    for row, here, there in zip(fused, predicted, served, strict=True):
        assert here["probability"] == pytest.approx(row["probability"], abs=1e-4)
        assert there["probability"] == pytest.approx(row["probability"], abs=1e-4)
        assert there["caption"] == row["caption"]
        assert there["contributions"]["logit"] == pytest.approx(here["contributions"]["logit"], abs=1e-3)


def _post(url: str, path: Path) -> dict[str, Any]:
    reply = httpx.post(
        f"{url}/v1/predict?overlay=false", files={"file": ("x", path.read_bytes())}, timeout=120
    )
    reply.raise_for_status()
    body: dict[str, Any] = reply.json()
    return body


def test_commands_refuse_what_makes_no_sense_in_one_line(work: Path) -> None:
    cases = {
        ("predict", "images/Fractured/empty.png", "--bundle", "bundle"): "empty",
        ("predict", "images/Fractured/empty.png", "--bundle", "features"): "no bundle here",
        (
            "train",
            "manifest.parquet",
            "--store",
            "features",
            "--out",
            "bundle",
            "--set",
            SETTINGS[0],
        ): "not empty",
        ("evaluate", "bundle", "absent.parquet"): "absent.parquet",
        ("search", "manifest.parquet", "--store", "features", "--set", "search.trials=3"): "unknown setting",
    }
    for arguments, says in cases.items():
        assert says in run(work, *arguments, fails=True)
