import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from fracray.bundle import bundle as bundle_module
from fracray.bundle.bundle import load_bundle, record_cross_validation, record_figures, save_bundle
from fracray.bundle.reliability import reliability
from fracray.config import Config
from fracray.errors import BundleError
from fracray.fusion.training import Pipeline
from fracray.schema import OUT_OF_FOLD, read_table
from tests.bundle.conftest import NOTE


def test_a_loaded_bundle_decides_like_the_pipeline_that_was_saved(
    bundle_folder: Path, pipeline: Pipeline
) -> None:
    loaded = load_bundle(bundle_folder).pipeline
    x = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    embeddings = pipeline.backbone(x).numpy()
    np.testing.assert_allclose(loaded.backbone(x).numpy(), embeddings, rtol=1e-6)
    captions = ["No fracture seen.", "Fracture of the shaft.", ""]
    for name, classifier in pipeline.classifiers.items():
        ours = loaded.classifiers[name]
        np.testing.assert_allclose(
            ours.probabilities(embeddings, captions),
            classifier.probabilities(embeddings, captions),
            rtol=1e-9,
        )
        assert ours.threshold == classifier.threshold


def test_a_bundle_knows_what_it_was_fitted_on(bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder)
    assert bundle.training_ids == {"a" * 64, "b" * 64}
    assert (bundle.data_kind, bundle.data_note) == ("phantoms", NOTE)
    assert bundle.reliability == reliability("phantoms", None)
    card = (bundle_folder / "README.md").read_text()
    assert f"fitted on: 2 phantoms. {NOTE}" in card
    assert "means nothing on a real radiograph" in card


def test_a_bundle_without_a_captioner_says_so_and_carries_none(
    tmp_path: Path, bundle_folder: Path, pipeline: Pipeline, config: Config
) -> None:
    captions = config.captions.model_copy(update={"captioner": "none"})
    alone, folder = config.model_copy(update={"captions": captions}), tmp_path / "alone"
    save_bundle(folder, pipeline, alone, training_ids=["a" * 64], data_kind="phantoms", data_note=NOTE)
    assert "- captioner: none; decides by the image alone\n" in (folder / "README.md").read_text()
    assert not (folder / "captioner").exists()
    assert load_bundle(folder).image_alone
    assert not load_bundle(bundle_folder).image_alone


def test_a_bundle_that_does_not_say_what_kind_of_data_it_is_from_is_refused(bundle_folder: Path) -> None:
    (bundle_folder / "training.json").write_text(json.dumps({"rows": 2, "data_note": NOTE}))
    bundle_module._write_hashes(
        bundle_folder, json.loads((bundle_folder / "hashes.json").read_text())["files"]
    )
    with pytest.raises(BundleError, match="data_kind"):
        load_bundle(bundle_folder)


def test_the_id_stays_with_the_content_wherever_the_folder_goes(tmp_path: Path, bundle_folder: Path) -> None:
    before = load_bundle(bundle_folder).id
    moved = shutil.move(bundle_folder, tmp_path / "elsewhere")
    assert load_bundle(Path(moved)).id == before


def test_bundles_that_differ_in_their_training_rows_have_different_ids(
    tmp_path: Path, bundle_folder: Path, pipeline: Pipeline, config: Config
) -> None:
    other = save_bundle(
        tmp_path / "other", pipeline, config, training_ids=["a" * 64], data_kind="phantoms", data_note=NOTE
    )
    assert load_bundle(bundle_folder).id != other


def test_a_flipped_bit_in_any_file_is_refused(bundle_folder: Path) -> None:
    generator = np.random.default_rng(3)
    files = sorted(path for path in bundle_folder.rglob("*") if path.is_file())
    assert len(files) >= 8
    for path in files:
        whole = path.read_bytes()
        for position in {0, len(whole) - 1, *generator.integers(len(whole), size=8).tolist()}:
            damaged = bytearray(whole)
            damaged[position] ^= 1 << int(generator.integers(8))
            path.write_bytes(damaged)
            with pytest.raises(BundleError) as caught:
                load_bundle(bundle_folder)
            assert "\n" not in str(caught.value)
        path.write_bytes(whole)
    load_bundle(bundle_folder)


def test_a_missing_file_is_named(bundle_folder: Path) -> None:
    (bundle_folder / "fused.skops").unlink()
    with pytest.raises(BundleError, match=r"fused\.skops' is missing"):
        load_bundle(bundle_folder)


def test_a_folder_that_is_no_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="fracray train"):
        load_bundle(tmp_path)


def test_a_bundle_of_a_later_format_is_not_guessed_at(bundle_folder: Path) -> None:
    path = bundle_folder / "hashes.json"
    hashes = {**json.loads(path.read_text()), "format": 99}
    path.write_text(json.dumps(hashes, indent=1, sort_keys=True) + "\n")
    with pytest.raises(BundleError, match="format 99"):
        load_bundle(bundle_folder)


def test_an_existing_folder_is_never_overwritten(
    bundle_folder: Path, pipeline: Pipeline, config: Config
) -> None:
    before = (bundle_folder / "hashes.json").read_bytes()
    with pytest.raises(BundleError, match="not empty"):
        save_bundle(bundle_folder, pipeline, config, training_ids=[], data_kind="phantoms", data_note=NOTE)
    assert (bundle_folder / "hashes.json").read_bytes() == before


ACCURACY = {"value": 80 / 84, "low": 0.883, "high": 0.987}
SYSTEM = {"accuracy": ACCURACY, "sensitivity": ACCURACY, "specificity": ACCURACY}
FIGURES = {
    "rows": {"count": 84, "fractured": 26, "folds": [0, 1, 2]},
    "confidence": 0.95,
    "data_note": NOTE,
    "systems": {"fused": SYSTEM | {"auroc": {"value": None, "low": None, "high": None}}},
}


def test_figures_are_added_without_a_new_identity(bundle_folder: Path) -> None:
    before = load_bundle(bundle_folder)
    assert before.figures is None
    record_figures(bundle_folder, FIGURES)
    after = load_bundle(bundle_folder)
    assert after.figures == FIGURES
    assert after.id == before.id
    assert "0.952 (0.883 to 0.987)" in (bundle_folder / "README.md").read_text()


def test_the_card_states_the_cross_validation_beside_the_figures(bundle_folder: Path) -> None:
    before = load_bundle(bundle_folder)
    table = pa.table(
        {
            "image_id": ["a" * 64, "b" * 64], "fold": [0, 1], "label": [0, 1],
            "image": [0.1, 0.8], "words": [0.5, 0.5], "fused": [0.1, 0.9],
        },
        schema=OUT_OF_FOLD,
    )  # fmt: skip
    record_cross_validation(bundle_folder, FIGURES, table)
    record_figures(bundle_folder, FIGURES)
    assert load_bundle(bundle_folder).id == before.id
    card = (bundle_folder / "README.md").read_text()
    assert card.count("0.952 (0.883 to 0.987)") == 2 * 3
    assert "84 rows it was fitted on (26 fractured), each scored without its fold (3 folds" in card
    assert read_table(bundle_folder / "out_of_fold.parquet", OUT_OF_FOLD).equals(table)


def test_a_bundle_on_replayed_captions_is_made_without_asking_a_hub_for_them(
    tmp_path: Path, pipeline: Pipeline, config: Config
) -> None:
    captions = config.captions.model_copy(update={"captioner": "replay", "model": "captions.csv"})
    replayed, folder = config.model_copy(update={"captions": captions}), tmp_path / "replayed"
    save_bundle(folder, pipeline, replayed, training_ids=["a" * 64], data_kind="phantoms", data_note=NOTE)
    assert load_bundle(folder).config.captions.model == "captions.csv"
    assert not (folder / "captioner").exists()


def test_a_bundle_fitted_on_a_gpu_answers_on_a_machine_without(
    tmp_path: Path, pipeline: Pipeline, config: Config
) -> None:
    on_gpu = config.model_copy(
        update={
            "vision": config.vision.model_copy(update={"device": "cuda:1"}),
            "captions": config.captions.model_copy(update={"device": "cuda"}),
        }
    )
    folder = tmp_path / "gpu"
    save_bundle(folder, pipeline, on_gpu, training_ids=["a" * 64], data_kind="phantoms", data_note=NOTE)
    loaded = load_bundle(folder).config
    assert (loaded.vision.device, loaded.captions.device) == ("auto", "auto")


def test_what_else_lies_in_the_folder_does_not_become_part_of_the_bundle(bundle_folder: Path) -> None:
    before = load_bundle(bundle_folder).id
    stray = bundle_folder / "evaluation" / "notes.txt"
    stray.parent.mkdir()
    stray.write_text("first")
    (bundle_folder / ".hashes.json").write_text("left by a crash")
    record_figures(bundle_folder, FIGURES)
    stray.write_text("second")
    assert load_bundle(bundle_folder).id == before


def test_a_bundle_is_for_everyone_who_may_read_its_folder(
    tmp_path: Path, pipeline: Pipeline, config: Config
) -> None:
    before = os.umask(0o022)
    try:
        folder = tmp_path / "shared"
        save_bundle(folder, pipeline, config, training_ids=["a" * 64], data_kind="phantoms", data_note=NOTE)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o644}


def test_a_bundle_appears_whole_or_not_at_all(
    tmp_path: Path, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(bundle_module, "_describe", killed)
        with pytest.raises(KeyboardInterrupt):
            save_bundle(
                tmp_path / "b", pipeline, config, training_ids=[], data_kind="phantoms", data_note=NOTE
            )
    assert not (tmp_path / "b").exists()
    save_bundle(tmp_path / "b", pipeline, config, training_ids=[], data_kind="phantoms", data_note=NOTE)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
