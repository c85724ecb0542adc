from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, roc_auc_score

from fracray.evaluation.metrics import (
    Bootstrap,
    Confusion,
    auprc,
    auroc,
    bootstrap_weights,
    brier,
    confusion,
    f1,
    mcnemar,
    proportion,
    proportions,
)


def ones(n: int) -> np.ndarray:
    return np.ones((1, n), dtype=np.int64)


def scored(n: int, seed: int, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 3 == 0).astype(np.int8)
    return labels, rng.normal(size=n) + shift * labels


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [(80, 84, 0.883, 0.987), (26, 26, 0.868, 1.0), (0, 26, 0.0, 0.132), (58, 84, 0.580, 0.787)],
)
def test_exact_intervals_of_known_proportions(successes: int, total: int, low: float, high: float) -> None:
    figure = proportion(successes, total, 0.95, "")
    assert figure.value == successes / total
    assert (figure.low, figure.high) == pytest.approx((low, high), abs=6e-4)


@settings(deadline=None)
@given(total=st.integers(1, 300), share=st.floats(0, 1), confidence=st.floats(0.51, 0.999))
def test_exact_intervals_agree_with_scipy(total: int, share: float, confidence: float) -> None:
    successes = round(share * total)
    figure = proportion(successes, total, confidence, "")
    reference = binomtest(successes, total).proportion_ci(confidence, method="exact")
    assert (figure.low, figure.high) == pytest.approx((reference.low, reference.high), abs=1e-7)


def test_never_calling_a_fracture_has_accuracy_but_no_precision() -> None:
    labels = np.array([1] * 26 + [0] * 58, dtype=np.int8)
    figures = proportions(confusion(labels, np.zeros(84, dtype=np.int8)), 0.95)
    assert figures["accuracy"].value == pytest.approx(0.6905, abs=1e-4)
    assert (figures["sensitivity"].value, figures["specificity"].value) == (0, 1)
    assert figures["precision"].value is None
    assert figures["precision"].low is None
    assert figures["precision"].note == "no fracture was called"


def test_confusion_counts_each_kind() -> None:
    labels = np.array([1, 1, 1, 0, 0, 0, 0], dtype=np.int8)
    decisions = np.array([1, 1, 0, 1, 0, 0, 0], dtype=np.int8)
    assert confusion(labels, decisions) == Confusion(tp=2, fp=1, fn=1, tn=3)


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8), st.integers(0, 3)), min_size=2, max_size=40)
)
def test_weighted_figures_agree_with_scikit_learn(rows: list[tuple[int, int, int]]) -> None:
    """Few distinct scores, so that ties are common; weights as a bootstrap draw gives them."""
    labels = np.array([row[0] for row in rows], dtype=np.int8)
    scores = np.array([row[1] / 8 for row in rows])
    weights = np.array([row[2] for row in rows])
    drawn_labels, drawn_scores = np.repeat(labels, weights), np.repeat(scores, weights)
    both = len(np.unique(drawn_labels)) == 2
    ranked = [metric(labels, scores, weights[None])[0] for metric in (auroc, auprc)]
    if both:
        expected = [
            roc_auc_score(drawn_labels, drawn_scores),
            average_precision_score(drawn_labels, drawn_scores),
        ]
        assert ranked == pytest.approx(expected)
    else:
        assert np.isnan(ranked).all()
    if len(drawn_labels):
        expected_brier = np.mean((drawn_scores - drawn_labels) ** 2)
        assert brier(labels, scores, weights[None])[0] == pytest.approx(expected_brier)
    decisions = (scores >= 0.5).astype(np.int8)
    value = f1(labels, decisions.astype(np.float64), weights[None])[0]
    if np.repeat(decisions, weights).any() or drawn_labels.any():
        assert value == pytest.approx(f1_score(drawn_labels, np.repeat(decisions, weights), zero_division=0))
    else:
        assert np.isnan(value)


def test_brier_agrees_with_scikit_learn() -> None:
    labels, scores = scored(50, 1)
    probabilities = 1 / (1 + np.exp(-scores))
    assert brier(labels, probabilities, ones(50))[0] == pytest.approx(brier_score_loss(labels, probabilities))


def test_a_draw_takes_whole_groups_and_as_many_as_there_are() -> None:
    groups = ["a", "b", "b", "c", "a", "d"]
    draws = np.concatenate(list(bootstrap_weights(groups, 600, seed=5)))
    assert draws.shape == (600, 6)
    assert np.array_equal(draws[:, 0], draws[:, 4])
    assert np.array_equal(draws[:, 1], draws[:, 2])
    assert (draws[:, [0, 1, 3, 5]].sum(axis=1) == 4).all()
    assert draws[:, 0].mean() == pytest.approx(1, abs=0.15)
    again = np.concatenate(list(bootstrap_weights(groups, 600, seed=5)))
    assert np.array_equal(draws, again)
    assert not np.array_equal(draws, np.concatenate(list(bootstrap_weights(groups, 600, seed=6))))


def test_bootstrap_interval_of_an_auroc_is_near_that_of_hanley_and_mcneil() -> None:
    """Standard error by Hanley and McNeil, Radiology 143 (1982): an independent, analytical reference."""
    labels, scores = scored(400, 2)
    figure = Bootstrap([str(row) for row in range(400)], 1500, 0.95, 1).figure(auroc, labels, scores, "")
    area = figure.value
    assert area is not None
    positives = int(labels.sum())
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positives - 1) * (q1 - area**2) + (400 - positives - 1) * (q2 - area**2)
    half = NormalDist().inv_cdf(0.975) * np.sqrt(variance / (positives * (400 - positives)))
    assert figure.low == pytest.approx(area - half, abs=0.015)
    assert figure.high == pytest.approx(area + half, abs=0.015)


def test_copies_of_a_row_in_one_group_do_not_narrow_the_interval() -> None:
    labels, scores = scored(60, 3)
    groups = [str(row) for row in range(60)]
    once = Bootstrap(groups, 1000, 0.95, 1).figure(auroc, labels, scores, "")
    copied = Bootstrap(groups * 4, 1000, 0.95, 1).figure(auroc, np.tile(labels, 4), np.tile(scores, 4), "")
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), abs=1e-9)
    fooled = Bootstrap([str(row) for row in range(240)], 1000, 0.95, 1).figure(
        auroc, np.tile(labels, 4), np.tile(scores, 4), ""
    )
    assert fooled.high - fooled.low < 0.7 * (once.high - once.low)  # type: ignore[operator]


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_labels_give_an_auroc_interval_around_a_half(seed: int) -> None:
    labels, scores = scored(120, seed, shift=3)
    shuffled = np.random.default_rng(seed + 100).permutation(labels)
    figure = Bootstrap([str(row) for row in range(120)], 500, 0.99, seed).figure(auroc, shuffled, scores, "")
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < 0.5 < figure.high


def test_draws_of_one_class_are_left_out_and_said() -> None:
    labels = np.array([1, 0, 0, 0, 0], dtype=np.int8)
    scores = np.array([0.5, 0.6, 0.1, 0.2, 0.7])
    figure = Bootstrap(list("abcde"), 400, 0.95, 1).figure(auroc, labels, scores, "")
    assert figure.value == 0.5
    assert figure.low is not None
    assert figure.note is not None
    assert "of 400 draws left out" in figure.note


@pytest.mark.parametrize(
    ("labels", "scores", "value", "note"),
    [
        ([0, 1, 0, 1], [0.3, 0.3, 0.3, 0.3], 0.5, "no interval"),
        ([0, 1, 0, 1], [0.1, 0.9, 0.2, 0.8], 1.0, "no interval"),
        ([0, 0, 0, 0], [0.1, 0.9, 0.2, 0.8], None, "one class"),
    ],
)
def test_what_resampling_cannot_measure_has_no_interval(
    labels: list[int], scores: list[float], value: float | None, note: str
) -> None:
    figure = Bootstrap(list("abcd"), 200, 0.95, 1).figure(
        auroc, np.array(labels, dtype=np.int8), np.array(scores), "rows of one class only"
    )
    assert (figure.value, figure.low, figure.high) == (value, None, None)
    assert figure.note is not None
    assert note in figure.note


def test_a_better_system_is_better_by_an_interval_above_zero() -> None:
    labels, good = scored(300, 4, shift=2)
    poor = np.random.default_rng(9).normal(size=300)
    bootstrap = Bootstrap([str(row) for row in range(300)], 500, 0.95, 1)
    better = bootstrap.difference(auroc, labels, good, poor, "")
    assert better.low is not None
    assert better.low > 0.2
    worse = bootstrap.difference(auroc, labels, poor, good, "")
    assert (worse.value, worse.low, worse.high) == pytest.approx((-better.value, -better.high, -better.low))  # type: ignore[operator]
    nothing = bootstrap.difference(auroc, labels, good, good * 2 + 1, "")
    assert (nothing.value, nothing.low) == (0, None)


def test_mcnemar_counts_rows_that_only_one_system_gets_right() -> None:
    labels = np.array([1] * 10 + [0] * 10, dtype=np.int8)
    first = labels.copy()
    second = labels.copy()
    second[[0, 1, 2, 3, 4, 10]] ^= 1
    first[19] ^= 1
    assert mcnemar(labels, first, second) == pytest.approx((6, 1, binomtest(6, 7, 0.5).pvalue))
    assert mcnemar(labels, first, first) == (0, 0, 1.0)
