import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.calibration import _SigmoidCalibration

from fracray.errors import UsageError
from fracray.fusion.calibration import fit_calibration, operating_point


def scored(seed: int, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose probabilities are true: the label is drawn with expit(logit)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 2, n)
    return logits, (rng.random(n) < expit(logits)).astype(np.int8)


def test_true_probabilities_stay_as_they_are() -> None:
    logits, labels = scored(1)
    assert fit_calibration(logits, labels) == pytest.approx((1, 0), abs=0.12)


def test_overconfident_logits_are_brought_back() -> None:
    logits, labels = scored(2)
    assert fit_calibration(4 * logits + 3, labels) == pytest.approx((0.25, -0.75), abs=0.1)


def test_agrees_with_scikit_learns_platt_scaling() -> None:
    logits, labels = scored(3, 84)
    reference = _SigmoidCalibration().fit(logits, labels)
    assert fit_calibration(logits, labels) == pytest.approx((-reference.a_, -reference.b_), abs=1e-4)


def test_perfectly_separated_scores_stay_finite() -> None:
    logits = np.array([-3.0, -2.0, 2.0, 3.0])
    slope, intercept = fit_calibration(logits, np.array([0, 0, 1, 1], dtype=np.int8))
    assert expit(slope * logits + intercept) == pytest.approx([0.25, 0.25, 0.75, 0.75], abs=0.06)


def test_scores_that_say_nothing_become_the_prevalence() -> None:
    labels = np.array([1] * 30 + [0] * 70, dtype=np.int8)
    slope, intercept = fit_calibration(np.full(100, 5.0), labels)
    assert slope * 5 + intercept == pytest.approx(logit(0.3), abs=0.1)


def test_a_reversed_score_is_not_turned_round() -> None:
    logits, labels = scored(4)
    slope, _ = fit_calibration(-logits, labels)
    assert slope > 0


def test_operating_point_reaches_the_sensitivity_and_no_higher_one_does() -> None:
    labels = np.array([1] * 10 + [0] * 3, dtype=np.int8)
    probabilities = np.concatenate([np.arange(1, 11) / 10, [0.15, 0.55, 0.95]])
    assert operating_point(probabilities, labels, 0.7) == 0.4
    assert operating_point(probabilities, labels, 1.0) == 0.1


@settings(deadline=None)
@given(
    positives=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    negatives=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    share=st.floats(0.01, 1),
    more=st.floats(0, 1),
)
def test_operating_point_is_the_highest_and_falls_with_the_sensitivity_asked(
    positives: list[float], negatives: list[float], share: float, more: float
) -> None:
    probabilities = np.array(positives + negatives)
    labels = np.array([1] * len(positives) + [0] * len(negatives), dtype=np.int8)
    threshold = operating_point(probabilities, labels, share)
    fractured = probabilities[labels == 1]
    assert np.mean(fractured >= threshold) >= share - 1e-9
    assert np.mean(fractured >= np.nextafter(threshold, 2)) < share
    assert operating_point(probabilities, labels, share + (1 - share) * more) <= threshold


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_refused(label: int) -> None:
    labels = np.full(5, label, dtype=np.int8)
    with pytest.raises(UsageError, match="one class"):
        fit_calibration(np.arange(5.0), labels)
    with pytest.raises(UsageError, match="one class"):
        operating_point(np.full(5, 0.5), labels, 0.9)
