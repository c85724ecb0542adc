"""No row may influence its own out-of-fold score: not by network, scaler, vocabulary or classifier."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from fracray.config import FusionSettings
from fracray.errors import UsageError
from fracray.fusion.classifier import SYSTEMS, System
from fracray.fusion.rows import Rows
from fracray.fusion.training import (
    FoldEmbeddings,
    fine_tuning,
    fit_pipeline,
    fold_embeddings,
    out_of_fold_logits,
)
from fracray.vision.backbone import load_backbone
from fracray.vision.embed import embed
from tests.fusion.conftest import FOLDS, configured, make_rows

SETTINGS = FusionSettings()

pytestmark = pytest.mark.usefixtures("one_thread")


def invented_embeddings(rows: Rows, seed: int = 0) -> FoldEmbeddings:
    numbers = np.random.default_rng(seed).normal(size=(len(rows), 8)).astype(np.float32)
    numbers[:, 0] += rows.labels
    return FoldEmbeddings(dict.fromkeys(range(FOLDS), numbers))


def flipped(rows: Rows, row: int) -> Rows:
    labels = rows.labels.copy()
    labels[row] ^= 1
    return replace(rows, labels=labels)


def test_a_rows_own_label_never_reaches_the_network_that_embeds_it() -> None:
    rows, vision = make_rows(24), configured("layer4").vision
    before = fold_embeddings(rows, fine_tuning(rows, vision, 1)).by_fold
    after = fold_embeddings(rows, fine_tuning(flipped(rows, 5), vision, 1)).by_fold
    unchanged = {fold for fold in range(FOLDS) if np.array_equal(before[fold], after[fold])}
    assert unchanged == {rows.folds[5]}


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_rows_own_label_never_reaches_its_score(system: System) -> None:
    rows = make_rows()
    embeddings = invented_embeddings(rows)
    before = out_of_fold_logits(system, rows, embeddings, SETTINGS, 1)
    for row in (3, 40):
        after = out_of_fold_logits(system, flipped(rows, row), embeddings, SETTINGS, 1)
        same_fold = rows.folds == rows.folds[row]
        assert np.array_equal(after[same_fold], before[same_fold])
        assert not np.allclose(after[~same_fold], before[~same_fold], atol=1e-6)


def test_words_of_a_held_out_fold_are_unknown_to_its_classifier() -> None:
    rows = make_rows()
    embeddings = invented_embeddings(rows)
    captions = list(rows.captions)
    captions[5] += " comminuted comminuted comminuted"
    before = out_of_fold_logits("words", rows, embeddings, SETTINGS, 1)
    after = out_of_fold_logits("words", replace(rows, captions=captions), embeddings, SETTINGS, 1)
    same_fold = rows.folds == rows.folds[5]
    assert np.array_equal(after[same_fold], before[same_fold])
    assert not np.allclose(after[~same_fold], before[~same_fold], atol=1e-6)


def test_an_embedding_of_a_held_out_fold_does_not_move_its_scaler() -> None:
    rows = make_rows()
    embeddings = invented_embeddings(rows)
    changed = {fold: numbers.copy() for fold, numbers in embeddings.by_fold.items()}
    for numbers in changed.values():
        numbers[5] += 100
    before = out_of_fold_logits("image", rows, embeddings, SETTINGS, 1)
    after = out_of_fold_logits("image", rows, FoldEmbeddings(changed), SETTINGS, 1)
    others = (rows.folds == rows.folds[5]) & (np.arange(len(rows)) != 5)
    assert np.array_equal(after[others], before[others])


def test_each_score_comes_from_the_embeddings_of_its_own_fold() -> None:
    rows = make_rows()
    numbers = invented_embeddings(rows).by_fold[0]
    mixed = FoldEmbeddings({fold: invented_embeddings(rows, seed=fold).by_fold[0] for fold in range(FOLDS)})
    expected = out_of_fold_logits(
        "fused", rows, FoldEmbeddings(dict.fromkeys(range(FOLDS), numbers)), SETTINGS, 1
    )
    mixed.by_fold[2] = numbers
    agreeing = np.isclose(out_of_fold_logits("fused", rows, mixed, SETTINGS, 1), expected)
    assert agreeing[(rows.folds == 0) | (rows.folds == 2)].all()
    assert not agreeing[(rows.folds == 1) | (rows.folds == 3)].any()


def test_a_frozen_backbone_is_run_once_for_all_folds() -> None:
    rows = make_rows()
    training = fine_tuning(rows, configured("none").vision, 1)
    embeddings = fold_embeddings(rows, training)
    assert len({id(numbers) for numbers in embeddings.by_fold.values()}) == 1
    assert sorted(embeddings.by_fold) == list(range(FOLDS))


def test_the_pipeline_is_calibrated_and_its_threshold_chosen_out_of_fold() -> None:
    rows, config = make_rows(24, telling=1.0), configured("layer4")
    fit = fit_pipeline(rows, config)
    pipeline = fit.pipeline
    inner = fold_embeddings(rows, fine_tuning(rows, config.vision, config.seed))
    for system in SYSTEMS:
        classifier = pipeline.classifiers[system]
        logits = out_of_fold_logits(system, rows, inner, config.fusion, config.seed)
        probabilities = expit(classifier.slope * logits + classifier.intercept)
        np.testing.assert_allclose(fit.out_of_fold[system], probabilities, rtol=1e-6)
        called = probabilities[rows.labels == 1] >= classifier.threshold - 1e-9
        assert called.mean() >= config.fusion.min_sensitivity
        assert probabilities.mean() == pytest.approx(rows.labels.mean(), abs=0.08)
    numbers = embed(pipeline.backbone, rows.pixels, 16, "cpu")
    untouched = embed(load_backbone(config.vision.backbone), rows.pixels, 16, "cpu")
    assert not np.allclose(numbers, untouched, atol=1e-3)
    assert roc_auc_score(rows.labels, pipeline.classifiers["words"].logits(numbers, rows.captions)) > 0.8


def test_telling_captions_beat_silent_ones() -> None:
    def separation(telling: float) -> float:
        rows = make_rows(160, telling=telling)
        logits = out_of_fold_logits("words", rows, invented_embeddings(rows), SETTINGS, 1)
        return float(logits[rows.labels == 1].mean() - logits[rows.labels == 0].mean())

    assert separation(0.9) > separation(0.0) + 1


def test_rows_that_cannot_be_trained_on_are_refused() -> None:
    rows, vision = make_rows(), configured("none").vision
    with pytest.raises(UsageError, match="1 fold"):
        fold_embeddings(one := rows.take(np.flatnonzero(rows.folds == 0)), fine_tuning(one, vision, 1))
    lopsided = replace(rows, labels=(rows.folds == 2).astype(np.int8))
    with pytest.raises(UsageError, match="without fold 2"):
        out_of_fold_logits("image", lopsided, invented_embeddings(rows), SETTINGS, 1)
    with pytest.raises(UsageError, match="no embeddings of these rows"):
        out_of_fold_logits("image", rows, invented_embeddings(rows.development(3)), SETTINGS, 1)
