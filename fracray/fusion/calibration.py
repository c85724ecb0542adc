"""From raw logits to probabilities that mean something, and the threshold at which to call a fracture."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from fracray.errors import UsageError

_SMALLEST_SLOPE = 1e-3
"""Keeps the order of scores: a useless system gets the prevalence for all, never a reversed ranking."""


def fit_calibration(logits: NDArray[np.float64], labels: NDArray[np.int8]) -> tuple[float, float]:
    """Return (slope, intercept) such that `expit(slope * logit + intercept)` is a probability.

    `logits` [n] must be out-of-fold: of rows that their classifier was not fitted on. Least cross-entropy to
    smoothed targets, (N+ + 1) / (N+ + 2) and 1 / (N- + 2), which keeps separable scores finite (Platt,
    "Probabilistic outputs for support vector machines", 1999). The slope is positive.

    Raises `UsageError` when one class is missing.
    """
    positives = _count_positives(labels)
    negatives = len(labels) - positives
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    spread = float(np.std(logits)) or 1.0
    scaled = logits / spread

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = parameters[0] * scaled + parameters[1]
        error = expit(z) - targets
        entropy = float(np.mean(np.logaddexp(0, z) - targets * z))
        return entropy, np.array([np.mean(error * scaled), np.mean(error)])

    start = np.array([spread, 0.0])
    bounds = [(_SMALLEST_SLOPE * spread, None), (None, None)]
    options = {"ftol": 1e-14, "gtol": 1e-9}
    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return float(best.x[0]) / spread, float(best.x[1])


def operating_point(
    probabilities: NDArray[np.float64], labels: NDArray[np.int8], min_sensitivity: float
) -> float:
    """Return the highest threshold at which a share `min_sensitivity` of the fractured rows is still called.

    A row is called at or above the threshold. `probabilities` [n] must be out-of-fold. Raises `UsageError`
    when one class is missing or `min_sensitivity` is not in (0, 1].
    """
    positives = _count_positives(labels)
    if not 0 < min_sensitivity <= 1:
        raise UsageError(f"min_sensitivity is {min_sensitivity}; choose a share above 0 and up to 1")
    # The subtraction keeps 0.7 * 10 = 7.000000000000001 from asking for an eighth row.
    needed = max(1, math.ceil(min_sensitivity * positives - 1e-9))
    descending = np.sort(probabilities[labels == 1])[::-1]
    return float(descending[needed - 1])


def _count_positives(labels: NDArray[np.int8]) -> int:
    positives = int(np.sum(labels == 1))
    if positives in (0, len(labels)):
        raise UsageError("calibration needs fractured and not fractured rows; these are all of one class")
    return positives
