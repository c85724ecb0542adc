from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf
from sklearn.preprocessing import StandardScaler

from fracray.errors import BundleError, UsageError
from fracray.fusion.familiarity import fit_familiarity, load_familiarity

WIDTH = 20


def features(n: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(WIDTH, WIDTH)) * np.logspace(-2, 2, WIDTH)
    return (rng.normal(size=(n, WIDTH)) @ mixing + 5).astype(np.float32)


def test_distances_are_those_of_mahalanobis() -> None:
    training, other = features(200, 1), features(5, 2)
    familiarity = fit_familiarity(training, np.arange(200) % 4)
    scaler = StandardScaler().fit(training.astype(np.float64))
    precision = LedoitWolf().fit(scaler.transform(training)).precision_
    expected = [mahalanobis(row, np.zeros(WIDTH), precision) for row in scaler.transform(other)]
    np.testing.assert_allclose(familiarity.distances(other), expected, rtol=1e-3)


def test_the_threshold_holds_for_rows_that_were_not_fitted_on() -> None:
    """With few rows for their width, their own Gaussian would call many of the next ones unfamiliar."""
    training = features(60, 3)
    familiarity = fit_familiarity(training, np.arange(60) % 5)
    later = familiarity.distances(features(2000, 4))
    by_own_rows = np.quantile(familiarity.distances(training), 0.99)
    assert (later > familiarity.threshold).mean() < 0.07 < 2 * 0.07 < (later > by_own_rows).mean()


def test_what_is_a_mixture_never_seen_is_far_although_each_number_is_common() -> None:
    training = features(500, 5)
    shuffled = np.random.default_rng(6).permuted(training, axis=0)
    familiarity = fit_familiarity(training, np.arange(500) % 5)
    assert (familiarity.distances(shuffled) > familiarity.threshold).mean() > 0.9


def test_it_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    familiarity = fit_familiarity(features(50, 7), np.arange(50) % 2)
    familiarity.save(tmp_path / "familiarity.safetensors")
    again = load_familiarity(tmp_path / "familiarity.safetensors")
    assert again.threshold == familiarity.threshold
    np.testing.assert_array_equal(again.distances(features(9, 8)), familiarity.distances(features(9, 8)))


def test_damage_and_misuse_are_named(tmp_path: Path) -> None:
    (tmp_path / "f.safetensors").write_bytes(b"no")
    for path in (tmp_path / "f.safetensors", tmp_path / "nowhere.safetensors"):
        with pytest.raises(BundleError, match="train a new bundle"):
            load_familiarity(path)
    with pytest.raises(UsageError, match="two folds"):
        fit_familiarity(features(9, 1), np.zeros(9, np.int16))
    familiarity = fit_familiarity(features(50, 7), np.arange(50) % 2)
    with pytest.raises(UsageError, match=r"\[n, 20\]"):
        familiarity.distances(np.zeros((3, 4)))
