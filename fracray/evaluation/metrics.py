"""Figures of a binary decision, each with an interval or a word on why it has none.

Labels are 1 for fractured and 0 for not. Proportions carry exact intervals, the rest bootstrap intervals over
groups. A value or interval that does not exist is None, never NaN.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binomtest

Labels = NDArray[np.int8]
Floats = NDArray[np.float64]
Metric = Callable[[Labels, Floats, NDArray[np.int64]], Floats]
"""A figure of labels [n] and scores [n] under row weights [draws, n], one value per draw; NaN: undefined."""

_DRAWS_AT_ONCE = 250
"""Bounds memory: 250 draws of 100,000 rows are 200 MB."""


@dataclass(frozen=True)
class Figure:
    """A value with its interval; `note` says why the value or the interval is None, or what limits it."""

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Confusion:
    """Counts of decisions: true and false positives, false and true negatives."""

    tp: int
    fp: int
    fn: int
    tn: int


def confusion(labels: Labels, decisions: Labels) -> Confusion:
    """Count `decisions` [n] (1: fracture called) against `labels` [n]."""
    called, fractured = decisions == 1, labels == 1
    return Confusion(
        tp=int(np.sum(called & fractured)),
        fp=int(np.sum(called & ~fractured)),
        fn=int(np.sum(~called & fractured)),
        tn=int(np.sum(~called & ~fractured)),
    )


def proportion(successes: int, total: int, confidence: float, undefined: str) -> Figure:
    """Return successes / total with its exact interval (Clopper and Pearson, Biometrika 26, 1934).

    `undefined` is the note where `total` is 0.
    """
    if total == 0:
        return Figure(None, note=undefined)
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, total - successes + 1))
    high = 1.0 if successes == total else float(beta.ppf(1 - tail, successes + 1, total - successes))
    return Figure(successes / total, low, high)


def proportions(counts: Confusion, confidence: float) -> dict[str, Figure]:
    """Return accuracy, sensitivity, specificity and precision of `counts` with exact intervals."""
    total = counts.tp + counts.fp + counts.fn + counts.tn
    no_call, no_fracture = "no fracture was called", "no fractured row"
    return {
        "accuracy": proportion(counts.tp + counts.tn, total, confidence, "no rows"),
        "sensitivity": proportion(counts.tp, counts.tp + counts.fn, confidence, no_fracture),
        "specificity": proportion(counts.tn, counts.tn + counts.fp, confidence, "all rows are fractured"),
        "precision": proportion(counts.tp, counts.tp + counts.fp, confidence, no_call),
    }


def auroc(labels: Labels, scores: Floats, weights: NDArray[np.int64]) -> Floats:
    """Area under the ROC curve: chance that a fractured row scores above another, ties counting half."""
    positives, negatives = _by_descending_score(labels, scores, weights)
    above = np.cumsum(positives, axis=1) - positives
    wins = np.sum(negatives * (above + positives / 2), axis=1)
    return _ratio(wins, positives.sum(axis=1) * negatives.sum(axis=1))


def auprc(labels: Labels, scores: Floats, weights: NDArray[np.int64]) -> Floats:
    """Average precision: precision at each distinct score, weighted by the recall gained there."""
    positives, negatives = _by_descending_score(labels, scores, weights)
    found = np.cumsum(positives, axis=1)
    precision = found / np.maximum(found + np.cumsum(negatives, axis=1), 1)
    total = positives.sum(axis=1)
    # Without a negative row every order is perfect, which says nothing.
    return np.where(negatives.sum(axis=1) > 0, _ratio(np.sum(positives * precision, axis=1), total), np.nan)


def f1(labels: Labels, decisions: Floats, weights: NDArray[np.int64]) -> Floats:
    """Harmonic mean of precision and sensitivity of `decisions` (0 or 1): 2 tp / (2 tp + fp + fn)."""
    called, fractured = decisions == 1, labels == 1
    hits = weights @ (called & fractured)
    return _ratio(2.0 * hits, weights @ called.astype(np.int64) + weights @ fractured.astype(np.int64))


def brier(labels: Labels, probabilities: Floats, weights: NDArray[np.int64]) -> Floats:
    """Brier score: mean squared distance of the probability from the label; 0 is best."""
    return _ratio(weights @ (probabilities - labels) ** 2, weights.sum(axis=1))


def bootstrap_weights(groups: Sequence[str], draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield `draws` resamplings of whole groups, in parts [<= 250, n]: how often each row was drawn.

    A draw takes as many groups as there are, with replacement; rows of one group go together. The same seed
    gives the same draws, so two systems compared on them are paired.
    """
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    count = int(member.max()) + 1
    rng = np.random.default_rng(seed)
    for start in range(0, draws, _DRAWS_AT_ONCE):
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=min(_DRAWS_AT_ONCE, draws - start))
        yield drawn[:, member]


@dataclass(frozen=True)
class Bootstrap:
    """Percentile bootstrap over `groups` [n] with `draws` draws (Efron and Tibshirani 1993, chapter 13)."""

    groups: Sequence[str]
    draws: int
    confidence: float
    seed: int

    def figure(self, metric: Metric, labels: Labels, scores: Floats, undefined: str) -> Figure:
        """Return `metric` on these rows with its interval; `undefined` is the note where it has no value."""
        return self._figure(lambda weights: metric(labels, scores, weights), undefined)

    def difference(
        self, metric: Metric, labels: Labels, first: Floats, second: Floats, undefined: str
    ) -> Figure:
        """Return `metric` of `first` minus that of `second`, both on the same draws."""
        return self._figure(
            lambda weights: metric(labels, first, weights) - metric(labels, second, weights), undefined
        )

    def _figure(self, statistic: Callable[[NDArray[np.int64]], Floats], undefined: str) -> Figure:
        value = float(statistic(np.ones((1, len(self.groups)), dtype=np.int64))[0])
        if np.isnan(value):
            return Figure(None, note=undefined)
        parts = [statistic(weights) for weights in bootstrap_weights(self.groups, self.draws, self.seed)]
        values = np.concatenate(parts)
        values = values[~np.isnan(values)]
        if len(values) == 0 or np.ptp(values) < 1e-12:
            return Figure(value, note="no interval: resampling these rows never changes the value")
        tail = 100 * (1 - self.confidence) / 2
        low, high = np.percentile(values, [tail, 100 - tail])
        left_out = self.draws - len(values)
        note = f"{left_out} of {self.draws} draws left out: undefined on them" if left_out else None
        return Figure(value, float(low), float(high), note)


def mcnemar(labels: Labels, first: Labels, second: Labels) -> tuple[int, int, float]:
    """Compare two systems' `decisions` on the same rows by McNemar's exact test.

    Returns how many rows only `first` decides right, how many only `second`, and the two-sided p value of the
    binomial test on these (1 where there are none).
    """
    first_right, second_right = first == labels, second == labels
    only_first = int(np.sum(first_right & ~second_right))
    only_second = int(np.sum(~first_right & second_right))
    discordant = only_first + only_second
    p = float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    return only_first, only_second, p


def _by_descending_score(labels: Labels, scores: Floats, weights: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the weight of fractured and of other rows [draws, distinct scores], the highest score first."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    ordered = weights[:, order].astype(np.float64)
    fractured = labels[order] == 1
    return (
        np.add.reduceat(ordered * fractured, starts, axis=1),
        np.add.reduceat(ordered * ~fractured, starts, axis=1),
    )


def _ratio(numerator: Floats, denominator: NDArray[np.int64] | Floats) -> Floats:
    quotient = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
