"""Figures of the rows that a bundle was fitted on, each scored by parts that never saw its fold."""

from typing import Any

import numpy as np
import pyarrow as pa

from fracray.config import EvaluationSettings
from fracray.evaluation.evaluate import Scores, describe_rows, measure
from fracray.evaluation.metrics import Bootstrap
from fracray.fusion.classifier import SYSTEMS
from fracray.fusion.rows import Rows
from fracray.fusion.training import Fit
from fracray.schema import OUT_OF_FOLD


def cross_validation(rows: Rows, fit: Fit, settings: EvaluationSettings, seed: int) -> dict[str, Any]:
    """Return the figures of each system on `rows`, which `fit` was fitted on; `seed` draws the bootstrap.

    The operating point was chosen on these very probabilities, so sensitivity and specificity at it flatter a
    little; the AUROC does not depend on it. `words` is left out where no row has any.
    """
    bootstrap = Bootstrap(rows.groups, settings.bootstrap, settings.confidence, seed)
    systems = {}
    for name in SYSTEMS if any(rows.captions) else ("image", "fused"):
        probabilities, threshold = fit.out_of_fold[name], fit.pipeline.classifiers[name].threshold
        scores = Scores(probabilities, (probabilities >= threshold).astype(np.int8), threshold, graded=True)
        systems[name] = measure(rows.labels, scores, bootstrap, settings.confidence)
    return {
        "confidence": settings.confidence,
        "bootstrap_draws": settings.bootstrap,
        "seed": seed,
        "rows": describe_rows(rows, settings.confidence),
        "systems": systems,
    }


def out_of_fold_table(rows: Rows, fit: Fit) -> pa.Table:
    """Return the probabilities behind `cross_validation` in the schema `OUT_OF_FOLD`."""
    known = {"image_id": rows.image_ids, "fold": rows.folds, "label": rows.labels}
    return pa.table(known | fit.out_of_fold, schema=OUT_OF_FOLD)
