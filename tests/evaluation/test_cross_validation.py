import numpy as np
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from fracray.evaluation.cross_validation import cross_validation, out_of_fold_table
from fracray.fusion.training import Fit
from fracray.schema import OUT_OF_FOLD, check
from tests.evaluation.conftest import CONFIG, Study


def test_each_row_is_scored_by_its_own_out_of_fold_probability(study: Study) -> None:
    rows = study.rows
    rng = np.random.default_rng(3)
    probabilities = {name: rng.random(len(rows)) for name in ("image", "words", "fused")}
    fit = Fit(study.bundle.pipeline, probabilities)
    figures = cross_validation(rows, fit, CONFIG.evaluation, seed=1)
    assert figures["rows"]["count"] == len(rows)
    for name, scores in probabilities.items():
        found = figures["systems"][name]
        assert found["auroc"]["value"] == pytest.approx(roc_auc_score(rows.labels, scores))
        assert found["auroc"]["low"] < found["auroc"]["value"] < found["auroc"]["high"]
        assert found["threshold"] == 0.4
        assert found["sensitivity"]["value"] == pytest.approx(recall_score(rows.labels, scores >= 0.4))
    table = check(out_of_fold_table(rows, fit), OUT_OF_FOLD, "out of fold")
    assert table.column("image_id").to_pylist() == rows.image_ids
    np.testing.assert_array_equal(table.column("words").to_numpy(), probabilities["words"])
