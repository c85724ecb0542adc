import gc

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor, nn

from fracray.errors import UsageError
from fracray.explain.grad_cam import LogitFunction, decision_map, place_map, spread
from fracray.fusion.training import Pipeline
from fracray.vision.backbone import Backbone
from fracray.vision.normalise import normalise
from tests.explain.conftest import squares

METHODS = ["gradcam", "gradcam++", "layercam", "eigencam"]
CAPTIONS = ["Bright square.", "Nothing seen.", ""]


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return squares(6, 3).pixels[1::2]


def linear(gradient: np.ndarray) -> LogitFunction:
    def logit(embeddings: Tensor) -> Tensor:
        return embeddings @ torch.tensor(gradient, dtype=embeddings.dtype)

    return logit


def mlp() -> nn.Module:
    torch.manual_seed(2)
    layers = nn.Sequential(nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 1), nn.Flatten(0))
    with torch.no_grad():
        layers[0].weight *= 5
    return layers


def by_finite_differences(feature_map: np.ndarray, logit: LogitFunction) -> np.ndarray:
    """Grad-CAM [n, h, w] by its definition, the channel weights measured by small steps of each channel."""
    weights = np.empty(feature_map.shape[:2])
    for channel in range(feature_map.shape[1]):
        both = []
        for step in (-1e-4, 1e-4):
            stepped = feature_map.copy()
            stepped[:, channel] += step
            with torch.no_grad():
                both.append(logit(torch.tensor(stepped.mean(axis=(2, 3)))).numpy())
        weights[:, channel] = (both[1] - both[0]) / 2e-4
    added = np.maximum(np.einsum("nk,nkij->nij", weights, feature_map), 0)
    lowest, highest = (f(axis=(1, 2), keepdims=True) for f in (added.min, added.max))
    return (added - lowest) / (highest - lowest)


@pytest.mark.parametrize("system", ["image", "fused"])
def test_the_channel_weights_are_finite_differences_of_the_classifiers_own_logit(
    pipeline: Pipeline, pixels: np.ndarray, system: str
) -> None:
    classifier = pipeline.classifiers[system]
    feature_map = pipeline.backbone.feature_map(normalise(pixels)).double().numpy()

    def logit(embeddings: Tensor) -> Tensor:
        return torch.tensor(classifier.logits(embeddings.numpy(), CAPTIONS))

    cells = place_map(pipeline.backbone, classifier.logit_function(CAPTIONS), pixels)
    np.testing.assert_allclose(cells, by_finite_differences(feature_map, logit), atol=1e-4)


def test_any_differentiable_function_of_the_embedding_can_be_explained(
    seeing: Backbone, pixels: np.ndarray
) -> None:
    head = mlp()
    feature_map = seeing.feature_map(normalise(pixels)).double().numpy()
    expected = by_finite_differences(feature_map, mlp().double())
    np.testing.assert_allclose(place_map(seeing, head, pixels), expected, atol=1e-3)
    assert all(parameter.grad is None for parameter in head.parameters())


def test_the_hottest_pixel_is_a_cells_middle_drawn_towards_its_warmer_neighbours() -> None:
    cells = np.zeros((7, 7), np.float32)
    cells[2, 4] = 1
    alone = spread(cells, 224, 32, 0)
    assert np.unravel_index(alone.argmax(), alone.shape) == (64, 128)
    assert np.unravel_index(spread(cells, 224, 32, 16).argmax(), alone.shape) == (80, 144)
    cells[2, 5] = 1
    y, x = np.unravel_index(spread(cells, 224, 32, 0).argmax(), alone.shape)
    assert (y, x) == (64, 144)
    cells[2, 5], cells[3, 4] = 0.5, 0.25
    y, x = np.unravel_index(spread(cells, 224, 32, 0).argmax(), alone.shape)
    assert 64 < y < 80
    assert 128 < x < 144
    assert x - 128 > y - 64


@pytest.mark.parametrize("method", METHODS)
def test_heat_lies_between_0_and_1_and_does_not_depend_on_the_batch(
    seeing: Backbone, pixels: np.ndarray, method: str
) -> None:
    heat = decision_map(seeing, mlp(), pixels, method)
    assert heat.shape == (3, 64, 64)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    np.testing.assert_allclose(heat.max(axis=(1, 2)), 1, atol=1e-6)
    np.testing.assert_allclose(decision_map(seeing, mlp(), pixels[1:2], method)[0], heat[1], atol=1e-3)


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "layercam"])
def test_the_map_does_not_depend_on_the_scale_of_the_logit(
    seeing: Backbone, pixels: np.ndarray, method: str
) -> None:
    gradient = np.random.default_rng(1).normal(size=32)
    heat = decision_map(seeing, linear(gradient), pixels, method)
    for scale in (1e-5, 1e5):
        scaled = decision_map(seeing, linear(scale * gradient), pixels, method)
        np.testing.assert_allclose(scaled, heat, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_picture_of_one_value_gives_numbers(seeing: Backbone, method: str, grey: int) -> None:
    heat = decision_map(seeing, mlp(), np.full((2, 64, 64), grey, np.uint8), method)
    assert np.isfinite(heat).all()


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "layercam"])
def test_no_heat_where_nothing_speaks_for_a_fracture(
    seeing: Backbone, pixels: np.ndarray, method: str
) -> None:
    """The last layer is a ReLU, so every place adds to each number of the embedding or leaves it."""
    assert not decision_map(seeing, linear(-np.ones(32)), pixels, method).any()
    assert not decision_map(seeing, linear(np.zeros(32)), pixels, method).any()


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


def test_500_maps_in_a_row_leave_memory_and_network_as_they_were(seeing: Backbone) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 256, 256), dtype=np.uint8)
    head, process = mlp(), psutil.Process()

    def explain(times: int) -> tuple[int, int]:
        for _ in range(times):
            decision_map(seeing, head, pixels)
        return live_tensors(), process.memory_info().rss

    tensors, resident = explain(20)
    tensors_after, resident_after = explain(500)
    assert tensors_after == tensors
    # One feature map of these four is 0.5 MB: kept 500 times it would take 260 MB.
    assert resident_after - resident < 20e6
    for module in [*seeing.modules(), *head.modules()]:
        assert not module._forward_hooks
        assert not module._backward_hooks
    assert all(parameter.grad is None for parameter in [*seeing.parameters(), *head.parameters()])


def test_impossible_requests_are_refused(seeing: Backbone, pixels: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"does not take embeddings \[3, 32\]"):
        decision_map(seeing, linear(np.ones(2048)), pixels)
    with pytest.raises(UsageError, match=r"gives \[3, 1\] for 3 embeddings"):
        decision_map(seeing, nn.Linear(32, 1), pixels)
    with pytest.raises(UsageError, match="'scorecam' is not known; choose one of: gradcam, "):
        decision_map(seeing, mlp(), pixels, "scorecam")
