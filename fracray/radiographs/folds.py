"""Outer folds: grouped, stratified, fixed before anything is fitted."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import StratifiedGroupKFold

from fracray.errors import ManifestError

_ATTEMPTS = 20
"""Shuffles tried until every fold holds both classes."""


def assign_folds(labels: ArrayLike, groups: Sequence[str], folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold, 0 to `folds` - 1, of each of n rows, int64 `[n]`.

    `labels` are 0 or 1, `[n]`; `groups` name the group of each row. No group stands in two folds, every fold
    holds both classes, and their shares are as equal as the groups allow. The same rows and seed give the
    same folds in whatever order the rows come. Raises `ManifestError` when a class has fewer groups than
    folds.
    """
    labels, names = np.asarray(labels), np.asarray(groups)
    for label, meaning in ((1, "fractured"), (0, "not fractured")):
        available = len(set(names[labels == label].tolist()))
        if available < folds:
            raise ManifestError(
                f"{folds} folds need {folds} groups that are {meaning}, and there are {available}; "
                "add radiographs or lower radiographs.folds"
            )
    for attempt in range(_ATTEMPTS):
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed + attempt)
        assigned = np.full(len(labels), -1, dtype=np.int64)
        for fold, (_, test) in enumerate(splitter.split(names, labels, names)):
            assigned[test] = fold
        if all(set(labels[assigned == fold].tolist()) == {0, 1} for fold in range(folds)):
            return assigned
    raise ManifestError(
        f"the groups are too unequal for {folds} folds with both classes; lower radiographs.folds"
    )
