"""What the commands that fit and score say, and what they do without a captioner."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from fracray.bundle.bundle import load_bundle
from fracray.captions.choose import open_captioner
from fracray.cli import fitting
from fracray.cli.predict import answer_file
from fracray.config import load_config
from fracray.errors import BundleError, SearchError, UsageError
from fracray.fingerprint import image_id
from fracray.schema import BOXES, MANIFEST, read_table, write_table
from fracray.search.result import SearchResult, Trials, save_result
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


def test_train_refuses_an_occupied_folder_before_it_reads_anything(tmp_path: Path) -> None:
    (tmp_path / "work").touch()
    with pytest.raises(BundleError, match="not empty"):
        fitting.train("absent.parquet", out=tmp_path)
    with pytest.raises(BundleError, match="is a file"):
        fitting.train("absent.parquet", out=tmp_path / "work")


def searched(folder: Path, *overrides: str) -> Path:
    folder.mkdir()
    found = SearchResult(
        config=load_config(overrides=overrides), vision_score=None, fusion_score=None,
        vision_trials=Trials(), fusion_trials=Trials(), seconds=1,
    )  # fmt: skip
    save_result(found, folder)
    return folder


def test_a_searchs_settings_need_not_be_given_again_and_may_be_changed_one_by_one(tmp_path: Path) -> None:
    folder = searched(tmp_path / "s", "captions.captioner=none", "fusion.ngrams=3", "search.test_fold=2")
    settings = fitting.with_search(folder, ["fusion.min_sensitivity=0.95"])
    assert (settings.captions.captioner, settings.fusion.ngrams, settings.search.test_fold) == ("none", 3, 2)
    assert settings.fusion.min_sensitivity == 0.95
    with pytest.raises(UsageError, match="leave out --profile"):
        fitting.train("m.parquet", search=folder, out=tmp_path / "b", profile="radiographs")


def test_a_fold_that_chose_the_settings_is_no_test_fold(tmp_path: Path) -> None:
    folder = searched(tmp_path / "s", "search.test_fold=1")
    with pytest.raises(SearchError, match="rows of fold 0 chose the settings"):
        fitting.with_search(folder, ["search.test_fold=0"])


def test_boxes_that_teach_nothing_are_told_and_not_on_the_card(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fractured = [row["image_id"] for row in read_table(manifest, MANIFEST).to_pylist() if row["label"]]
    line = {"image_id": fractured[0], "xmin": 3, "ymin": 3, "xmax": 9, "ymax": 9}
    write_table(pa.Table.from_pylist([line], schema=BOXES), BOXES, tmp_path / "boxes.parquet")
    fitting.train(
        str(manifest),
        boxes=str(tmp_path / "boxes.parquet"),
        out=tmp_path / "bundle",
        overrides=[*SETTINGS, *IMAGE_ALONE, "vision.finetune.unfrozen=none", "search.test_fold=99"],
    )
    assert "warning: the boxes teach nothing" in capsys.readouterr().out
    assert "boxes on" not in (tmp_path / "bundle" / "README.md").read_text()


def test_figures_on_radiographs_of_another_manifest_are_not_named_after_the_training_data(
    manifest: Path, tmp_path: Path
) -> None:
    other = read_table(manifest, MANIFEST)
    fitted = other.filter(pc.field("fold") != 3)
    write_table(fitted, MANIFEST, tmp_path / "fitted.parquet")
    write_table(other.filter(pc.field("fold") == 3), MANIFEST, tmp_path / "other.parquet")
    folder, out = tmp_path / "bundle", tmp_path / "evaluation"
    settings = [*SETTINGS, *IMAGE_ALONE]
    fitting.train(str(tmp_path / "fitted.parquet"), out=folder, data="Ours.", overrides=settings)
    fitting.evaluate(folder, str(tmp_path / "fitted.parquet"), out=out)
    assert json.loads((out / "figures.json").read_text())["data_note"] == "Ours."
    fitting.evaluate(folder, str(tmp_path / "other.parquet"), out=out)
    assert "--data" in json.loads((out / "figures.json").read_text())["data_note"]
    fitting.evaluate(folder, str(tmp_path / "other.parquet"), out=out, data="Theirs.")
    assert json.loads((out / "figures.json").read_text())["data_note"] == "Theirs."
    assert load_bundle(folder).data_note == "Ours."
