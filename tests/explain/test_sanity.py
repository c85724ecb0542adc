"""Is the map about what the network sees? Pictures with a known place, and networks that forgot it."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from torch import Tensor

from fracray.explain.grad_cam import LogitFunction, decision_map
from fracray.explain.regions import hottest_box
from fracray.fusion.training import Pipeline
from fracray.vision.backbone import Backbone
from tests.explain.conftest import SIDE, SQUARE, Squares, small_backbone, squares

AREA_SHARE = (SQUARE / SIDE) ** 2


@pytest.fixture(scope="module")
def shown() -> Squares:
    """100 pictures, all with a bright square, none of them learned from."""
    both = squares(200, 50)
    return Squares(both.pixels[1::2], both.labels[1::2], both.boxes[1::2])


@pytest.fixture(scope="module")
def logit(pipeline: Pipeline) -> LogitFunction:
    return pipeline.classifiers["fused"].logit_function(["Nothing seen."] * 100)


def pointing_accuracy(heat: np.ndarray, boxes: np.ndarray) -> float:
    """Share of maps whose maximum lies in the box (Zhang et al. 2018, without a tolerance)."""
    rows, columns = np.divmod(heat.reshape(len(heat), -1).argmax(axis=1), heat.shape[2])
    across = (boxes[:, 0] <= columns) & (columns < boxes[:, 2])
    return float((across & (boxes[:, 1] <= rows) & (rows < boxes[:, 3])).mean())


def rank_correlation(one: np.ndarray, other: np.ndarray, stride: int) -> float:
    """Mean over pictures of Spearman's correlation between two maps' cells; a map of one value counts 0."""
    pairs = zip(one[:, ::stride, ::stride], other[:, ::stride, ::stride], strict=True)
    varied = [(a.ravel(), b.ravel()) for a, b in pairs if np.ptp(a) and np.ptp(b)]
    return float(sum(spearmanr(a, b).statistic for a, b in varied) / len(one))


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "layercam", "eigencam"])
def test_the_hottest_place_lies_on_the_square(
    seeing: Backbone, shown: Squares, logit: LogitFunction, method: str
) -> None:
    assert AREA_SHARE < 0.05
    heat = decision_map(seeing, logit, shown.pixels, method)
    assert pointing_accuracy(heat, shown.boxes) > 0.65
    # The hottest region lies there as well, and is not the whole picture.
    boxes = np.array([hottest_box(each) for each in heat])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 - (shown.boxes[:, :2] + shown.boxes[:, 2:]) / 2
    assert np.median(np.abs(centres)) < SQUARE / 2
    assert np.median(boxes[:, 2:] - boxes[:, :2]) < 3 * SQUARE


def test_random_weights_destroy_the_map(seeing: Backbone, shown: Squares, logit: LogitFunction) -> None:
    """The sanity check of Adebayo et al. 2018: a map that survives them draws edges, not evidence."""
    heat = decision_map(seeing, logit, shown.pixels)
    noise = np.random.default_rng(0).integers(-3, 4, shown.pixels.shape)
    noisy = decision_map(seeing, logit, np.clip(shown.pixels + noise, 0, 255).astype(np.uint8))
    assert rank_correlation(heat, noisy, seeing.stride) > 0.9
    forgotten = [decision_map(small_backbone(seed), logit, shown.pixels) for seed in range(1, 6)]
    assert abs(np.mean([rank_correlation(heat, each, seeing.stride) for each in forgotten])) < 0.3
    assert np.mean([pointing_accuracy(each, shown.boxes) for each in forgotten]) < 0.4


def test_eigen_cam_does_not_look_at_the_decision(
    seeing: Backbone, shown: Squares, logit: LogitFunction
) -> None:
    """Which is why it can be no default: whatever is decided, it shows the same."""

    def turned_round(embeddings: Tensor) -> Tensor:
        return -logit(embeddings)

    for method, same in (("gradcam", False), ("gradcam++", False), ("layercam", False), ("eigencam", True)):
        one, other = (decision_map(seeing, f, shown.pixels, method) for f in (logit, turned_round))
        assert np.array_equal(one, other) is same
