"""Fit backbone and classifiers on given rows, everything inside the training rows of its fold."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fracray.config import Config, FusionSettings, VisionSettings
from fracray.errors import UsageError
from fracray.fusion.calibration import fit_calibration, operating_point
from fracray.fusion.classifier import SYSTEMS, Classifier, System, fit_classifier
from fracray.fusion.familiarity import Familiarity, fit_familiarity
from fracray.fusion.rows import Rows
from fracray.fusion.unfinished import UnfinishedFit
from fracray.vision.backbone import Backbone, load_backbone
from fracray.vision.folds import FineTuning, iterate_by_folds


@dataclass(frozen=True)
class Pipeline:
    """What scores a radiograph: the fine-tuned backbone and one classifier for image, words and fused.

    `familiarity` says whether a radiograph looks like those that these were fitted on.
    """

    backbone: Backbone
    classifiers: dict[str, Classifier]
    familiarity: Familiarity


@dataclass(frozen=True)
class Fit:
    """A pipeline, and per system the calibrated probabilities [n] of its rows, each out of fold.

    Network and classifier of a row's probability never saw its fold; calibration, two numbers, saw all.
    """

    pipeline: Pipeline
    out_of_fold: dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class FoldEmbeddings:
    """Per inner fold, embeddings [n, d] of all rows by a network that never saw the rows of that fold."""

    by_fold: dict[int, NDArray[np.float32]]


def fine_tuning(rows: Rows, vision: VisionSettings, seed: int) -> FineTuning:
    """Return what makes fine-tuned networks from any of `rows`, starting from the backbone that is set.

    Raises `BackboneError` when its weights are missing.
    """
    return FineTuning(
        load_backbone(vision.backbone),
        rows.pixels,
        rows.labels,
        vision.finetune,
        seed,
        learned_from=rows.learned_from,
        boxes=rows.boxes,
        batch_size=vision.batch_size,
        device=vision.device,
        precision=vision.precision,
    )


def iterate_fold_embeddings(
    rows: Rows, training: FineTuning, only: Collection[int] | None = None
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield each fold in `rows.folds` with embeddings [n, d] of all `rows` by a network that never saw it.

    That network is fine-tuned on the rows of the other folds, for the set number of epochs: stopping early by
    the fold itself would leak it. Where nothing of the backbone is unfrozen, one pretrained network serves
    all folds. `only` names the folds to yield; None: all. Raises `UsageError` when the folds cannot be
    trained on.
    """
    _inner_folds(rows)
    yield from iterate_by_folds(training, rows.folds, only)


def fold_embeddings(rows: Rows, training: FineTuning) -> FoldEmbeddings:
    """Collect `iterate_fold_embeddings`."""
    return FoldEmbeddings(dict(iterate_fold_embeddings(rows, training)))


def out_of_fold_logits(
    system: System, rows: Rows, embeddings: FoldEmbeddings, settings: FusionSettings, seed: int
) -> NDArray[np.float64]:
    """Return the logits [n] of `rows`, each by a classifier fitted on the other folds only; not calibrated.

    Raises `UsageError` when the folds cannot be trained on or lack embeddings.
    """
    logits = np.full(len(rows), np.nan)
    for fold in _inner_folds(rows):
        numbers = embeddings.by_fold.get(fold)
        if numbers is None or len(numbers) != len(rows):
            raise UsageError(f"no embeddings of these rows for fold {fold}; make them from the same rows")
        logits[rows.folds == fold] = held_out_logits(system, rows, fold, numbers, settings, seed)
    return logits


def held_out_logits(
    system: System, rows: Rows, fold: int, numbers: NDArray[np.float32], settings: FusionSettings, seed: int
) -> NDArray[np.float64]:
    """Return the logits of the rows in `fold`, in their order, by a classifier fitted on all other rows.

    `numbers` [n, d] are the embeddings of all `rows` by the network of that fold. Vocabulary, scaler and
    regression see the other rows only. Raises `UsageError` when these are all of one class.
    """
    train, held_out = np.flatnonzero(rows.folds != fold), np.flatnonzero(rows.folds == fold)
    known = [rows.captions[row] for row in train]
    classifier = fit_classifier(system, numbers[train], known, rows.labels[train], settings, seed)
    return classifier.logits(numbers[held_out], [rows.captions[row] for row in held_out])


def fit_pipeline(
    rows: Rows,
    config: Config,
    *,
    unfinished: UnfinishedFit | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Fit:
    """Fit everything that a bundle ships on all `rows` (development rows; never those it is tested on).

    The backbone is fine-tuned and each classifier fitted on all rows; calibration and operating point come
    from out-of-fold logits over the folds in `rows.folds`. What `unfinished` holds is not made again, and
    what takes long is kept there. `on_step` hears what starts. Raises `UsageError` when there are fewer than
    two folds or a fold's training rows are all of one class.
    """
    say = on_step if on_step is not None else _silent
    training = fine_tuning(rows, config.vision, config.seed)
    folds = _inner_folds(rows)
    by_fold = unfinished.embeddings() if unfinished is not None else {}
    missing = [fold for fold in folds if fold not in by_fold]
    say(f"embeddings, fold by fold: {len(by_fold)} of {len(folds)} there")
    for fold, numbers in iterate_fold_embeddings(rows, training, missing):
        by_fold[fold] = numbers
        if unfinished is not None:
            unfinished.keep_embeddings(fold, numbers)
        say(f"fold {len(by_fold)} of {len(folds)} embedded")
    backbone = unfinished.backbone() if unfinished is not None else None
    if backbone is None:
        say("backbone on all rows")
        backbone = training.on(np.arange(len(rows)))
        if unfinished is not None:
            unfinished.keep_backbone(backbone)
    say("classifiers")
    embeddings, inner = training.embed(backbone), FoldEmbeddings(by_fold)
    classifiers, out_of_fold = fit_classifiers(rows, embeddings, inner, config)
    familiarity = fit_familiarity(training.statistics(backbone), rows.folds)
    return Fit(Pipeline(backbone, classifiers, familiarity), out_of_fold)


def fit_classifiers(
    rows: Rows, embeddings: NDArray[np.float32], inner: FoldEmbeddings, config: Config
) -> tuple[dict[str, Classifier], dict[str, NDArray[np.float64]]]:
    """Return classifiers fitted on the `embeddings` [n, d] of all `rows`, and out-of-fold probabilities [n].

    Calibration and operating point come from `inner`. Raises `UsageError` as `fit_pipeline` does.
    """
    classifiers: dict[str, Classifier] = {}
    probabilities: dict[str, NDArray[np.float64]] = {}
    settings, seed = config.fusion, config.seed
    for system in SYSTEMS:
        logits = out_of_fold_logits(system, rows, inner, settings, seed)
        slope, intercept = fit_calibration(logits, rows.labels)
        calibrated = expit(slope * logits + intercept)
        threshold = operating_point(calibrated, rows.labels, settings.min_sensitivity)
        classifier = fit_classifier(system, embeddings, rows.captions, rows.labels, settings, seed)
        classifiers[system] = classifier.with_calibration(slope, intercept, threshold)
        probabilities[system] = calibrated
    return classifiers, probabilities


def _inner_folds(rows: Rows) -> list[int]:
    folds = [int(fold) for fold in np.unique(rows.folds)]
    if len(folds) < 2:
        raise UsageError(
            f"the rows stand in {len(folds)} fold; training needs two or more beside the test fold"
        )
    for fold in folds:
        if len(np.unique(rows.labels[rows.folds != fold])) != 2:
            raise UsageError(f"without fold {fold} all rows are of one class; add radiographs of the other")
    return folds


def _silent(_: str) -> None:
    """Stand in for a listener that was not given."""
