import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from sklearn.metrics import roc_auc_score

from fracray.config import EvaluationSettings
from fracray.errors import EvaluationError
from fracray.evaluation.evaluate import METRICS, Evaluation, evaluate, write_evaluation
from fracray.fusion.rows import Rows
from fracray.schema import PREDICTIONS, read_table
from fracray.vision.embed import embed
from tests.evaluation.conftest import CAPTIONS, NOTE, Study, make_rows

SETTINGS = EvaluationSettings(bootstrap=200)


@pytest.fixture(scope="module")
def evaluation(study: Study) -> Evaluation:
    return evaluate(study.bundle, study.rows, SETTINGS, seed=3)


def with_labels(rows: Rows, labels: np.ndarray) -> Rows:
    return replace(rows, labels=labels.astype(np.int8))


def test_rows_that_the_bundle_was_fitted_on_are_refused(study: Study) -> None:
    seen = replace(study.rows, image_ids=[*study.rows.image_ids[:-1], next(iter(study.bundle.training_ids))])
    with pytest.raises(EvaluationError, match="fitted on 1 of these 90 rows"):
        evaluate(study.bundle, seen, SETTINGS, seed=3)


def test_rows_that_cannot_be_scored_are_refused(study: Study) -> None:
    with pytest.raises(EvaluationError, match="no rows"):
        evaluate(study.bundle, study.rows.take(np.array([], dtype=np.intp)), SETTINGS, seed=3)
    small = replace(study.rows, pixels=study.rows.pixels[:, :16, :16])
    with pytest.raises(EvaluationError, match="16 pixels"):
        evaluate(study.bundle, small, SETTINGS, seed=3)


def test_the_bundles_own_scores_are_measured(study: Study, evaluation: Evaluation) -> None:
    embeddings = embed(study.bundle.pipeline.backbone, study.rows.pixels, 32, "cpu")
    classifier = study.bundle.pipeline.classifiers["fused"]
    expected = classifier.probabilities(embeddings, study.rows.captions)
    fused = evaluation.predictions.filter(pc.field("system") == "fused")
    assert fused["probability"].to_numpy() == pytest.approx(expected)
    assert np.array_equal(fused["decision"].to_numpy(), (expected >= 0.4).astype(np.int8))
    figures = evaluation.figures["systems"]["fused"]
    assert figures["auroc"]["value"] == pytest.approx(roc_auc_score(study.rows.labels, expected))
    assert figures["accuracy"]["value"] == pytest.approx(np.mean((expected >= 0.4) == study.rows.labels))
    assert figures["threshold"] == 0.4
    assert evaluation.figures["systems"]["image"]["auroc"]["low"] < figures["auroc"]["value"]


def test_without_a_captioner_nothing_is_scored_by_words(image_alone: Study) -> None:
    evaluation = evaluate(image_alone.bundle, image_alone.rows, SETTINGS, seed=3)
    assert list(evaluation.figures["systems"]) == ["majority", "image", "fused"]
    assert (evaluation.figures["comparisons"], evaluation.figures["captions"]) == ([], None)
    assert set(evaluation.predictions["system"].to_pylist()) == {"majority", "image", "fused"}


def test_the_commoner_class_is_the_floor(study: Study, evaluation: Evaluation) -> None:
    majority = evaluation.figures["systems"]["majority"]
    assert majority["accuracy"]["value"] == pytest.approx(60 / 90)
    assert majority["confusion"] == {"tp": 0, "fp": 0, "fn": 30, "tn": 60}
    assert majority["precision"]["value"] is None
    assert (majority["auroc"]["value"], majority["auroc"]["low"]) == (0.5, None)
    mostly_fractured = with_labels(study.rows, 1 - study.rows.labels)
    other = evaluate(study.bundle, mostly_fractured, SETTINGS, seed=3).figures["systems"]["majority"]
    assert other["sensitivity"]["value"] == 1


def test_the_captions_verdict_is_scored_and_counted(study: Study) -> None:
    said = [CAPTIONS[1].format(place="distal", sure=""), CAPTIONS[1].format(place="distal", sure="possible ")]
    said += [CAPTIONS[0].format(place="distal"), ""]
    rows = make_rows(8, seed=5)
    rows = replace(
        with_labels(rows, np.array([1, 1, 1, 1, 0, 0, 0, 0])), captions=[*said, said[0], said[2], "", ""]
    )
    figures = evaluate(study.bundle, rows, SETTINGS, seed=3).figures
    assert figures["systems"]["caption_verdict"]["confusion"] == {"tp": 1, "fp": 1, "fn": 3, "tn": 3}
    captions = figures["captions"]
    assert captions["verdicts"] == {
        "positive": {"fractured": 1, "not_fractured": 1},
        "negative": {"fractured": 1, "not_fractured": 1},
        "uncertain": {"fractured": 1, "not_fractured": 0},
        "none": {"fractured": 1, "not_fractured": 2},
    }
    assert (captions["count"], captions["empty"], captions["distinct"]) == (8, 3, 4)
    assert captions["commonest_share"] == 3 / 8
    assert (captions["decided"], captions["agreement"]["value"]) == (4, 0.5)


def test_a_captioner_that_repeats_itself_shows(study: Study) -> None:
    rows = replace(study.rows, captions=[CAPTIONS[0].format(place="distal")] * 90)
    captions = evaluate(study.bundle, rows, SETTINGS, seed=3).figures["captions"]
    assert (captions["distinct"], captions["commonest_share"]) == (1, 1.0)


def test_shuffled_labels_are_no_better_than_chance(study: Study) -> None:
    shuffled = np.random.default_rng(8).permutation(study.rows.labels)
    wide = EvaluationSettings(bootstrap=200, confidence=0.999)
    figures = evaluate(study.bundle, with_labels(study.rows, shuffled), wide, seed=3).figures
    for system in ("caption_verdict", "image", "words", "fused"):
        area = figures["systems"][system]["auroc"]
        assert area["low"] < 0.5 < area["high"]


@pytest.mark.parametrize("label", [0, 1])
def test_rows_of_one_class_have_no_ranking_but_do_not_fail(study: Study, label: int) -> None:
    figures = evaluate(study.bundle, with_labels(study.rows, np.full(90, label)), SETTINGS, seed=3).figures
    fused = figures["systems"]["fused"]
    assert fused["auroc"]["value"] is None
    assert fused["auroc"]["note"] == "all rows are of one class"
    assert fused["specificity" if label else "sensitivity"]["value"] is None
    assert fused["sensitivity" if label else "specificity"]["value"] is not None
    assert figures["comparisons"][0]["auroc_difference"]["value"] is None
    json.dumps(figures, allow_nan=False)


def test_rows_that_share_groups_are_said_to(study: Study) -> None:
    alone = evaluate(study.bundle, study.rows, SETTINGS, seed=3).figures["rows"]
    assert (alone["groups"], alone["note"]) == (90, None)
    together = evaluate(study.bundle, make_rows(90, seed=2, per_group=3), SETTINGS, seed=3).figures["rows"]
    assert together["groups"] == 30
    assert "90 rows in 30 groups" in together["note"]


def test_the_same_seed_gives_the_same_figures(study: Study, evaluation: Evaluation) -> None:
    assert evaluate(study.bundle, study.rows, SETTINGS, seed=3).figures == evaluation.figures


def test_what_is_written_can_be_read_and_names_its_data(evaluation: Evaluation, tmp_path: Path) -> None:
    write_evaluation(evaluation, tmp_path / "out")
    figures = json.loads((tmp_path / "out" / "figures.json").read_text(encoding="utf-8"))
    assert figures == evaluation.figures
    assert figures["data_note"] == NOTE
    assert all(
        {"value", "low", "high", "note"} == set(figures["systems"]["words"][metric]) for metric in METRICS
    )
    predictions = read_table(tmp_path / "out" / "predictions.parquet", PREDICTIONS)
    assert predictions.num_rows == 5 * 90
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "figures.json",
        "predictions.parquet",
    ]


def test_a_bundle_of_lower_precision_is_scored_in_it_as_it_answers(study: Study) -> None:
    vision = study.bundle.config.vision.model_copy(update={"precision": "bfloat16"})
    config = study.bundle.config.model_copy(update={"vision": vision})
    coarse = evaluate(replace(study.bundle, config=config), study.rows, SETTINGS, seed=3).predictions
    embeddings = embed(study.bundle.pipeline.backbone, study.rows.pixels, 32, "cpu", "bfloat16")
    expected = study.bundle.pipeline.classifiers["image"].probabilities(embeddings, study.rows.captions)
    image = coarse.filter(pc.field("system") == "image")["probability"].to_numpy()
    assert image == pytest.approx(expected)
    fine = evaluate(study.bundle, study.rows, SETTINGS, seed=3).predictions
    assert image != pytest.approx(fine.filter(pc.field("system") == "image")["probability"].to_numpy())


def test_figures_are_named_after_the_rows_they_are_from(study: Study) -> None:
    assert evaluate(study.bundle, study.rows, SETTINGS, seed=3).figures["data_note"] == NOTE
    ours = evaluate(study.bundle, study.rows, SETTINGS, seed=3, data_note="Wrists of one clinic.").figures
    assert (ours["data_note"], ours["data_kind"]) == ("Wrists of one clinic.", "radiographs")
