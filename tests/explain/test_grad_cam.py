import gc

import numpy as np
import pytest
import torch

from fracray.config import BackboneSettings
from fracray.errors import UsageError
from fracray.explain.grad_cam import decision_map
from fracray.vision.backbone import Backbone, load_backbone, normalise

METHODS = ["gradcam", "gradcam++", "layercam", "eigencam"]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(BackboneSettings(weights="random"))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 128, 128), dtype=np.uint8)


@pytest.fixture(scope="module")
def gradient() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1e-4, 512)


def at_cells(heat: np.ndarray, backbone: Backbone) -> np.ndarray:
    return heat[:, :: backbone.stride, :: backbone.stride]


def test_the_map_is_the_part_of_the_logit_that_each_place_adds(
    backbone: Backbone, pixels: np.ndarray, gradient: np.ndarray
) -> None:
    activations = backbone.feature_map(normalise(pixels)).numpy()
    added = np.maximum(np.einsum("k,nkij->nij", gradient, activations), 0)
    lowest, highest = (f(axis=(1, 2), keepdims=True) for f in (added.min, added.max))
    heat = decision_map(backbone, gradient, pixels)
    np.testing.assert_allclose(at_cells(heat, backbone), (added - lowest) / (highest - lowest), atol=1e-4)


def test_the_map_agrees_with_finite_differences_of_the_logit(
    backbone: Backbone, pixels: np.ndarray, gradient: np.ndarray
) -> None:
    """Grad-CAM's channel weights are the logit's mean derivatives over places: measured by small steps."""
    feature_map = backbone.feature_map(normalise(pixels[:1])).double()
    weights = np.empty(512)
    for channel in range(512):
        stepped = feature_map.clone()
        stepped[0, channel] += 1e-3
        change = (stepped - feature_map).mean(dim=(2, 3))[0].numpy() @ gradient
        weights[channel] = change / 1e-3
    added = np.maximum(np.einsum("k,kij->ij", weights, feature_map[0].numpy()), 0)
    expected = (added - added.min()) / (added.max() - added.min())
    heat = at_cells(decision_map(backbone, gradient, pixels[:1]), backbone)[0]
    np.testing.assert_allclose(heat, expected, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_heat_lies_between_0_and_1_and_does_not_depend_on_the_batch(
    backbone: Backbone, pixels: np.ndarray, gradient: np.ndarray, method: str
) -> None:
    heat = decision_map(backbone, gradient, pixels, method)
    assert heat.shape == (3, 128, 128)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    np.testing.assert_allclose(heat.max(axis=(1, 2)), 1, atol=1e-6)
    np.testing.assert_allclose(decision_map(backbone, gradient, pixels[1:2], method)[0], heat[1], atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_of_one_value_has_no_heat(backbone: Backbone, gradient: np.ndarray, method: str) -> None:
    blank = np.stack([np.zeros((64, 64), np.uint8), np.full((64, 64), 255, np.uint8)])
    assert not decision_map(backbone, gradient, blank, method).any()


def test_no_heat_where_nothing_speaks_for_a_fracture(backbone: Backbone, pixels: np.ndarray) -> None:
    assert not decision_map(backbone, -np.ones(512), pixels).any()
    assert not decision_map(backbone, np.zeros(512), pixels).any()


def tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def test_no_hook_stays_behind(backbone: Backbone, pixels: np.ndarray, gradient: np.ndarray) -> None:
    decision_map(backbone, gradient, pixels)
    before = tensors()
    for _ in range(3):
        decision_map(backbone, gradient, pixels)
    assert tensors() == before
    assert not any(module._forward_hooks or module._backward_hooks for module in backbone.modules())
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_impossible_requests_are_refused(backbone: Backbone, pixels: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"shape \(2048,\), the embedding 512"):
        decision_map(backbone, np.ones(2048), pixels)
    with pytest.raises(UsageError, match="'scorecam' is not known; choose one of: gradcam, "):
        decision_map(backbone, np.ones(512), pixels, "scorecam")
