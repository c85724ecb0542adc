"""Score a bundle on rows it never saw, beside the answers that need no model."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fracray.bundle.bundle import Bundle
from fracray.captions.findings import parse_findings
from fracray.captions.prompt import load_prompt
from fracray.captions.verdict import verdict
from fracray.config import CaptionSettings, EvaluationSettings
from fracray.errors import EvaluationError
from fracray.evaluation.metrics import (
    Bootstrap,
    Figure,
    auprc,
    auroc,
    brier,
    confusion,
    f1,
    mcnemar,
    proportion,
    proportions,
)
from fracray.explain.answer import NOTICE
from fracray.fusion.rows import Rows
from fracray.radiographs.phantoms.note import are_phantoms
from fracray.schema import PREDICTIONS, write_table
from fracray.vision.embed import embed

FORMAT = 1
METRICS = ("accuracy", "sensitivity", "specificity", "precision", "f1", "auroc", "auprc", "brier")
VERDICTS = ("positive", "negative", "uncertain", "none")
COMPARISONS = (("fused", "image"), ("fused", "words"), ("fused", "caption_verdict"))

_ONE_CLASS = "all rows are of one class"


@dataclass(frozen=True)
class Evaluation:
    """`figures` is ready for JSON; `predictions` has the schema `PREDICTIONS`: each row once per system."""

    figures: dict[str, Any]
    predictions: pa.Table


@dataclass(frozen=True)
class Scores:
    """What one system says about the rows: probabilities [n], decisions [n] and the threshold between them.

    `graded` tells a probability from a mere yes or no; `threshold` is None where there is none.
    """

    probabilities: NDArray[np.float64]
    decisions: NDArray[np.int8]
    threshold: float | None
    graded: bool


def evaluate(
    bundle: Bundle, rows: Rows, settings: EvaluationSettings, seed: int, data_note: str | None = None
) -> Evaluation:
    """Score `rows` by every system and measure each.

    Systems: `majority`, the commoner class of these very rows for all, the best that any constant answer can
    do; `caption_verdict`, a fracture where the caption reports one for certain; the bundle's `image`, `words`
    and `fused`. Of a bundle without a captioner only what needs no words is scored; `captions` is null then
    and nothing is compared, as `fused` is `image`. `seed` draws the bootstrap. `data_note` is a sentence on
    what the rows are; None: they are of the data that the bundle was fitted on.

    Raises `EvaluationError` when there are no rows, the bundle was fitted on one of them, or their pixels
    were prepared for another bundle.
    """
    _refuse_unfit(bundle, rows)
    scores = _score(bundle, rows)
    bootstrap = Bootstrap(rows.groups, settings.bootstrap, settings.confidence, seed)
    figures = {
        "format": FORMAT,
        "bundle_id": bundle.id,
        "data_note": data_note or bundle.data_note,
        "data_kind": "phantoms" if are_phantoms(rows.uris) else "radiographs",
        "notice": NOTICE,
        "confidence": settings.confidence,
        "bootstrap_draws": settings.bootstrap,
        "seed": seed,
        "rows": describe_rows(rows, settings.confidence),
        "systems": {
            name: measure(rows.labels, system, bootstrap, settings.confidence)
            for name, system in scores.items()
        },
        "comparisons": [
            _compare(first, second, rows.labels, scores, bootstrap)
            for first, second in (() if bundle.image_alone else COMPARISONS)
        ],
        "captions": None
        if bundle.image_alone
        else _describe_captions(rows, settings.confidence, bundle.config.captions),
    }
    return Evaluation(figures, _predictions(rows, scores))


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write figures.json and predictions.parquet into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(evaluation.figures, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    unfinished = folder / ".figures.json.unfinished"
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(folder / "figures.json")
    write_table(evaluation.predictions, PREDICTIONS, folder / "predictions.parquet")


def _refuse_unfit(bundle: Bundle, rows: Rows) -> None:
    if len(rows) == 0:
        raise EvaluationError("there are no rows to evaluate; name a manifest with labelled radiographs")
    seen = sum(identity in bundle.training_ids for identity in rows.image_ids)
    if seen:
        raise EvaluationError(
            f"bundle {bundle.id} was fitted on {seen} of these {len(rows)} rows, so figures on them would "
            "flatter it; evaluate on its test fold or on other radiographs"
        )
    size = bundle.config.vision.preprocessing.size
    if rows.pixels.shape[1:] != (size, size):
        raise EvaluationError(
            f"rows hold pictures of {rows.pixels.shape[1]} pixels, bundle {bundle.id} takes {size}; "
            "load the rows with the bundle's own configuration"
        )


def _score(bundle: Bundle, rows: Rows) -> dict[str, Scores]:
    n = len(rows)
    prevalence = float(np.mean(rows.labels))
    majority = np.full(n, int(prevalence > 0.5), dtype=np.int8)
    scores = {"majority": Scores(np.full(n, prevalence), majority, None, graded=True)}
    if not bundle.image_alone:
        said = np.array([verdict(caption) == "positive" for caption in rows.captions])
        scores["caption_verdict"] = Scores(said.astype(np.float64), said.astype(np.int8), None, graded=False)
    vision = bundle.config.vision
    embeddings = embed(
        bundle.pipeline.backbone, rows.pixels, vision.batch_size, vision.device, vision.precision
    )
    for name in bundle.systems:
        classifier = bundle.pipeline.classifiers[name]
        probabilities = classifier.probabilities(embeddings, rows.captions)
        decisions = (probabilities >= classifier.threshold).astype(np.int8)
        scores[name] = Scores(probabilities, decisions, classifier.threshold, graded=True)
    return scores


def measure(
    labels: NDArray[np.int8], system: Scores, bootstrap: Bootstrap, confidence: float
) -> dict[str, Any]:
    """Return threshold, counts and all `METRICS` of what `system` says about rows with `labels` [n]."""
    counts = confusion(labels, system.decisions)
    probabilities = system.probabilities
    calibration = (
        bootstrap.figure(brier, labels, probabilities, "no rows")
        if system.graded
        else Figure(None, note="a yes or no is not a probability")
    )
    figures = proportions(counts, confidence) | {
        "f1": bootstrap.figure(
            f1, labels, system.decisions.astype(np.float64), "no fracture there and none called"
        ),
        "auroc": bootstrap.figure(auroc, labels, probabilities, _ONE_CLASS),
        "auprc": bootstrap.figure(auprc, labels, probabilities, _ONE_CLASS),
        "brier": calibration,
    }
    return {
        "threshold": system.threshold,
        "confusion": asdict(counts),
        **{name: asdict(figures[name]) for name in METRICS},
    }


def _compare(
    first: str, second: str, labels: NDArray[np.int8], scores: dict[str, Scores], bootstrap: Bootstrap
) -> dict[str, Any]:
    difference = bootstrap.difference(
        auroc, labels, scores[first].probabilities, scores[second].probabilities, _ONE_CLASS
    )
    only_first, only_second, p = mcnemar(labels, scores[first].decisions, scores[second].decisions)
    return {
        "first": first,
        "second": second,
        "auroc_difference": asdict(difference),
        "only_first_right": only_first,
        "only_second_right": only_second,
        "mcnemar_p": p,
    }


def describe_rows(rows: Rows, confidence: float) -> dict[str, Any]:
    """Return how many rows, groups and fractures the figures are from, and what that does to intervals."""
    fractured, groups = int(np.sum(rows.labels == 1)), len(set(rows.groups))
    note = (
        f"{len(rows)} rows in {groups} groups: the exact intervals and McNemar's test count each row as "
        "independent and are somewhat too narrow; the bootstrap intervals draw whole groups"
    )
    return {
        "count": len(rows),
        "groups": groups,
        "fractured": fractured,
        "prevalence": asdict(proportion(fractured, len(rows), confidence, "no rows")),
        "folds": [int(fold) for fold in np.unique(rows.folds)],
        "note": note if groups < len(rows) else None,
    }


def _describe_captions(rows: Rows, confidence: float, settings: CaptionSettings) -> dict[str, Any]:
    """Count captions and verdicts; agreement is over rows whose caption says yes or no for certain."""
    asked = load_prompt(settings.prompt).asks_for_impression
    findings = Counter(parse_findings(caption, impression_asked=asked).status for caption in rows.captions)
    verdicts = [verdict(caption) for caption in rows.captions]
    counts = {name: {"fractured": 0, "not_fractured": 0} for name in VERDICTS}
    for said, label in zip(verdicts, rows.labels, strict=True):
        counts[said]["fractured" if label == 1 else "not_fractured"] += 1
    agreeing = counts["positive"]["fractured"] + counts["negative"]["not_fractured"]
    decided = sum(sum(counts[name].values()) for name in ("positive", "negative"))
    return {
        "count": len(rows),
        "empty": sum(not caption.strip() for caption in rows.captions),
        "distinct": len(set(rows.captions)),
        "commonest_share": _commonest(rows.captions) / len(rows),
        "findings": {status: findings[status] for status in ("ok", "partial", "unparsed")},
        "verdicts": counts,
        "agreement": asdict(proportion(agreeing, decided, confidence, "no caption says yes or no")),
        "decided": decided,
    }


def _commonest(captions: Sequence[str]) -> int:
    return Counter(captions).most_common(1)[0][1]


def _predictions(rows: Rows, scores: dict[str, Scores]) -> pa.Table:
    n, systems = len(rows), len(scores)
    return pa.table(
        {
            "image_id": rows.image_ids * systems,
            "uri": rows.uris * systems,
            "group": rows.groups * systems,
            "fold": np.tile(rows.folds, systems),
            "label": np.tile(rows.labels, systems),
            "system": [name for name in scores for _ in range(n)],
            "probability": np.concatenate([system.probabilities for system in scores.values()]),
            "decision": np.concatenate([system.decisions for system in scores.values()]),
            "caption": pa.array([caption or None for caption in rows.captions] * systems, pa.string()),
        },
        schema=PREDICTIONS,
    )
