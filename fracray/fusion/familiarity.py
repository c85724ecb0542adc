"""Whether a picture looks like those that a bundle was fitted on.

The Mahalanobis distance of what the stage before the network's last one makes of it to what that stage made
of the training radiographs (Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples
and Adversarial Attacks", 2018; here one Gaussian for all, as the radiograph matters and not its class).
The last stage has learned to tell fractures and forgotten what does not help with it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from sklearn.covariance import LedoitWolf
from sklearn.preprocessing import StandardScaler

from fracray.errors import BundleError, UsageError

QUANTILE = 0.99
"""Share of the training radiographs that the threshold calls familiar."""


@dataclass(frozen=True)
class Familiarity:
    """The training radiographs as one Gaussian.

    `mean` float32 [d]; `whitening` float32 [d, d] turns a difference from it into one of unit covariance;
    distances above `threshold` are unfamiliar.
    """

    mean: NDArray[np.float32]
    whitening: NDArray[np.float32]
    threshold: float

    def distances(self, features: ArrayLike) -> NDArray[np.float64]:
        """Return the Mahalanobis distances [n], 0 or more, of `features` [n, d] to the training radiographs.

        Raises `UsageError` when the features are of another width.
        """
        given = np.asarray(features, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] != len(self.mean):
            raise UsageError(
                f"the features are of shape {list(given.shape)}, these of the bundle's radiographs of "
                f"[n, {len(self.mean)}]; make them with the bundle's own backbone"
            )
        distances: NDArray[np.float64] = np.linalg.norm((given - self.mean) @ self.whitening, axis=1)
        return distances

    def save(self, path: Path) -> None:
        """Write the numbers to `path` (safetensors)."""
        numbers = {"mean": self.mean, "whitening": self.whitening, "threshold": np.array([self.threshold])}
        # `save_file` of safetensors would leave a file that only its owner can read.
        path.write_bytes(save(numbers))


def fit_familiarity(features: NDArray[np.float32], folds: NDArray[np.integer]) -> Familiarity:
    """Return the Gaussian of the training radiographs' `features` [n, d].

    The covariance is shrunk (Ledoit and Wolf 2004) on standardised features. The threshold is the quantile
    `QUANTILE` of cross-fitted distances: each fold's by the Gaussian of the other `folds` [n], because those
    by its own are too small where features are many. Raises `UsageError` for fewer than two folds.
    """
    values = np.unique(folds)
    if len(values) < 2:
        raise UsageError("one fold has no others to measure its distances by; give two folds or more")
    held_out = np.empty(len(features))
    for fold in values:
        held_out[folds == fold] = _gaussian(features[folds != fold]).distances(features[folds == fold])
    gaussian = _gaussian(features)
    return Familiarity(gaussian.mean, gaussian.whitening, float(np.quantile(held_out, QUANTILE)))


def load_familiarity(path: Path) -> Familiarity:
    """Read what `Familiarity.save` wrote; raises `BundleError` when it is missing or not whole."""
    try:
        numbers = load_file(path)
        return Familiarity(numbers["mean"], numbers["whitening"], float(numbers["threshold"][0]))
    except (OSError, SafetensorError, KeyError):
        raise BundleError(f"{path}: is missing or not readable; train a new bundle") from None


def _gaussian(features: NDArray[np.float32]) -> Familiarity:
    scaler = StandardScaler()
    precision = LedoitWolf().fit(scaler.fit_transform(features.astype(np.float64))).precision_
    whitening = np.linalg.cholesky(precision) / scaler.scale_[:, None]
    return Familiarity(scaler.mean_.astype(np.float32), whitening.astype(np.float32), np.inf)
