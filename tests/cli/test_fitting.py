"""What the commands that fit and score say, and what they do without a captioner."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from fracray.bundle.bundle import load_bundle
from fracray.captions.choose import open_captioner
from fracray.cli import fitting
from fracray.cli.predict import answer_file
from fracray.fingerprint import image_id
from fracray.schema import BOXES, MANIFEST, read_table, write_table
from tests.serving.conftest import SETTINGS, png


def test_evaluate_names_the_command_that_serves_its_bundle(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fitting, "read_table", lambda *_: None)
    monkeypatch.setattr(fitting, "make_evaluation", lambda *_: {})
    fitting.evaluate(Path("mine"), "manifest.parquet")
    assert "next: fracray serve --bundle mine\n" in capsys.readouterr().out


IMAGE_ALONE = ("captions.captioner=none", "evaluation.bootstrap=100", "evaluation.gallery=1")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Sixteen phantoms in four folds."""
    rows = []
    for number in range(16):
        path = tmp_path / f"{number}.png"
        path.write_bytes(png(number, fractured=number % 2 == 0))
        rows.append(
            dict.fromkeys(MANIFEST.names)
            | {"image_id": image_id(path.read_bytes()), "uri": str(path), "label": 1 - number % 2,
               "group": str(number), "fold": number // 2 % 4, "status": "ok"}
        )  # fmt: skip
    write_table(pa.Table.from_pylist(rows, schema=MANIFEST), MANIFEST, tmp_path / "manifest.parquet")
    return tmp_path / "manifest.parquet"


def test_without_a_captioner_a_manifest_is_all_that_training_and_evaluation_need(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out, store = tmp_path / "bundle", tmp_path / "evaluation", str(tmp_path / "absent")
    settings = [*SETTINGS, *IMAGE_ALONE]
    fitting.train(str(manifest), store, out=folder, overrides=settings)
    assert f"next: fracray evaluate {folder} {manifest} --out evaluation\n" in capsys.readouterr().out
    fitting.evaluate(folder, str(manifest), store, out=out)
    systems = json.loads((out / "figures.json").read_text())["systems"]
    assert list(systems) == ["majority", "image", "fused"]
    assert systems["fused"] == systems["image"]
    bundle = load_bundle(folder)
    assert "On 4 held-out" in bundle.reliability
    reply = answer_file(
        bundle, open_captioner(bundle.config.captions), tmp_path / "0.png", with_overlay=False
    )
    assert reply.by_system["fused"] == reply.by_system["image"] == reply.probability
    assert not Path(store).exists()


def test_training_with_boxes_says_on_the_card_how_many_it_learned_from(
    manifest: Path, tmp_path: Path
) -> None:
    fractured = [row["image_id"] for row in read_table(manifest, MANIFEST).to_pylist() if row["label"]]
    lines = [{"image_id": image, "xmin": 3, "ymin": 3, "xmax": 9, "ymax": 9} for image in fractured[:4]]
    boxes, folder = tmp_path / "boxes.parquet", tmp_path / "bundle"
    write_table(pa.Table.from_pylist(lines, schema=BOXES), BOXES, boxes)
    settings = [*SETTINGS, *IMAGE_ALONE, "vision.finetune.unfrozen=layer4", "vision.finetune.epochs=1"]
    fitting.train(str(manifest), boxes=str(boxes), out=folder, overrides=settings)
    # One of the four stands in the test fold.
    assert "taught where the fractures are by boxes on 3 radiographs" in (folder / "README.md").read_text()
