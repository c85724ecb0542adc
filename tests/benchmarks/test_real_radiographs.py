import numpy as np
import pandas as pd
from real_radiographs import at_sensitivity, out_of_fold, regression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def test_the_labels_of_a_fold_do_not_reach_its_own_scores() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(60, 5))
    table = pd.DataFrame({"label": rng.integers(0, 2, 60), "fold": np.arange(60) % 3})
    turned = table.assign(label=np.where(table.fold == 1, 1 - table.label, table.label))
    model = make_pipeline(StandardScaler(), regression())
    first, second = out_of_fold(model, numbers, table), out_of_fold(model, numbers, turned)
    same = np.isclose(first, second)
    assert same[table.fold == 1].all()
    assert not same[table.fold != 1].any()


def test_the_threshold_calls_as_many_fractures_as_wanted_and_no_higher_one_does() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 1], np.int8)
    assert at_sensitivity(scores, labels, 0.8) == 0.4
    assert at_sensitivity(scores, labels, 0.81) == 0.2
    assert at_sensitivity(scores, labels, 1.0) == 0.2
