"""What a setting is judged by, on development rows and inner folds; nothing here knows Ray or Optuna."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from fracray.config import FusionSettings
from fracray.errors import SearchError
from fracray.fusion.calibration import fit_calibration
from fracray.fusion.rows import Rows
from fracray.fusion.training import FoldEmbeddings, held_out_logits, out_of_fold_logits


def check_rows(rows: Rows, test_fold: int) -> None:
    """Raise `SearchError` if `rows` hold the test fold, or inner folds on which nothing can be scored."""
    folds = np.unique(rows.folds)
    if test_fold in folds:
        raise SearchError(
            f"search: the rows hold fold {test_fold}, the test fold, which a search must never see; "
            "give rows.development(test_fold)"
        )
    if len(folds) < 2:
        raise SearchError(f"search: {len(folds)} inner folds; make a manifest with 3 folds or more")
    for fold in folds:
        if len(np.unique(rows.labels[rows.folds == fold])) < 2:
            raise SearchError(
                f"search: all rows of fold {fold} have the same label, so it gives no AUROC; "
                "make a manifest with fewer folds or more radiographs"
            )


def image_auroc(
    rows: Rows, fold: int, embeddings: NDArray[np.float32], settings: FusionSettings, seed: int
) -> float:
    """Return the AUROC, 0 to 1, on the rows of `fold` of an image-only classifier fitted on the other folds.

    `embeddings` `[n, d]` come from a network that never saw `fold`.
    """
    logits = held_out_logits("image", rows, fold, embeddings, settings, seed)
    return float(roc_auc_score(rows.labels[rows.folds == fold], logits))


def fused_log_loss(rows: Rows, embeddings: FoldEmbeddings, settings: FusionSettings, seed: int) -> float:
    """Return the log loss, in nats, of the fused classifier's calibrated out-of-fold probabilities.

    The log loss and not the AUROC, since on a few hundred rows the AUROC has ties among most good settings.
    Calibrated in the way the shipped classifier is, by two numbers, since otherwise class weights and weak
    regularisation would be judged by a shift that calibration takes away.
    """
    logits = out_of_fold_logits("fused", rows, embeddings, settings, seed)
    slope, intercept = fit_calibration(logits, rows.labels)
    towards_label = np.where(rows.labels == 1, 1, -1) * (slope * logits + intercept)
    return float(np.mean(np.logaddexp(0, -towards_label)))
