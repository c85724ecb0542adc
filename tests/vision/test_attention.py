from pathlib import Path

import numpy as np
import pytest
import torch

from fracray.config import BackboneSettings, FinetuneSettings, VisionSettings
from fracray.explain.grad_cam import decision_map
from fracray.vision.attention import PlaceAttention
from fracray.vision.backbone import Backbone, backbone_fingerprint, load_backbone, save_backbone
from fracray.vision.embed import embed
from fracray.vision.folds import FineTuning

PLAIN = BackboneSettings(weights="random")
ATTENTIVE = BackboneSettings(weights="random", attention=True)
ALONE = BackboneSettings(weights="random", attention=True, plain_mean=False)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (3, 96, 96), dtype=np.uint8)


def attention_of(backbone: Backbone) -> PlaceAttention:
    return next(module for module in backbone.modules() if isinstance(module, PlaceAttention))


def test_before_it_has_learned_both_halves_are_the_plain_embedding(pictures: np.ndarray) -> None:
    plain, attentive = load_backbone(PLAIN), load_backbone(ATTENTIVE)
    assert attentive.embedding_dim == 2 * plain.embedding_dim
    expected = embed(plain, pictures, 3)
    np.testing.assert_allclose(embed(attentive, pictures, 3), np.hstack([expected, expected]), rtol=1e-4)


def test_a_place_that_is_surely_broken_is_all_that_the_second_half_holds() -> None:
    attention = PlaceAttention(2)
    feature_map = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [1.0, 0.0]]]])
    with torch.no_grad():
        attention.logits.weight[0, 1] = 60.0
        pooled = attention(feature_map).mean(dim=(2, 3))
    torch.testing.assert_close(pooled, torch.tensor([[2.5, 0.25, 3.0, 1.0]]))


def test_saved_and_loaded_it_looks_at_the_same_places(tmp_path: Path, pictures: np.ndarray) -> None:
    backbone = load_backbone(ATTENTIVE)
    torch.nn.init.normal_(attention_of(backbone).logits.weight, generator=torch.Generator().manual_seed(1))
    save_backbone(backbone, tmp_path / "b.safetensors")
    weights = str(tmp_path / "b.safetensors")
    loaded = load_backbone(ATTENTIVE.model_copy(update={"weights": weights}))
    halves = np.split(embed(loaded, pictures, 3), 2, axis=1)
    assert not np.allclose(*halves, rtol=0.01)
    np.testing.assert_array_equal(embed(backbone, pictures, 3), np.hstack(halves))


def test_the_plain_mean_may_be_left_out_of_the_embedding(pictures: np.ndarray) -> None:
    both, alone = load_backbone(ATTENTIVE), load_backbone(ALONE)
    for backbone in (both, alone):
        weights = attention_of(backbone).logits.weight
        torch.nn.init.normal_(weights, generator=torch.Generator().manual_seed(1))
    assert alone.embedding_dim == load_backbone(PLAIN).embedding_dim
    np.testing.assert_allclose(embed(alone, pictures, 3), np.split(embed(both, pictures, 3), 2, axis=1)[1])
    settings = FinetuneSettings(epochs=2, batch_size=3, augmentation=0)
    labels = np.array([0, 1, 0], np.int8)
    trainings = [FineTuning(one, pictures, labels, settings, 3, device="cpu") for one in (both, alone)]
    learned, expected = (training.embed(training.on(np.arange(3))) for training in reversed(trainings))
    np.testing.assert_allclose(learned, np.split(expected, 2, axis=1)[1], rtol=1e-4, atol=1e-5)


def test_features_with_and_without_attention_are_not_taken_for_each_other() -> None:
    named = {backbone_fingerprint(VisionSettings(backbone=one)) for one in (PLAIN, ATTENTIVE, ALONE)}
    assert len(named) == 3


def test_it_learns_to_look_where_boxes_are_and_the_heat_map_follows() -> None:
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 60, (48, 96, 96), dtype=np.uint8)
    labels, places = np.arange(48, dtype=np.int8) % 2, rng.integers(0, 3, (48, 2)) * 32
    boxes = []
    for picture, label, (left, top) in zip(pixels, labels, places, strict=True):
        if label:
            picture[top : top + 32, left : left + 32 : 6] += 150
        boxes.append(np.array([[left, top, left + 32, top + 32]] * label, np.float32).reshape(-1, 4))
    settings = FinetuneSettings(
        epochs=10, learning_rate=1e-3, batch_size=12, augmentation=0, localisation=5.0, unfrozen="layer3+4"
    )
    training = FineTuning(load_backbone(ATTENTIVE), pixels, labels, settings, 3, boxes=boxes, device="cpu")
    tuned = training.on(np.arange(36))
    numbers = training.embed(tuned)
    slopes = torch.from_numpy(numbers[:36][labels[:36] == 1].mean(0) - numbers[:36][labels[:36] == 0].mean(0))
    unseen = np.flatnonzero(labels[36:]) + 36
    heat = decision_map(tuned, lambda embeddings: embeddings @ slopes, pixels[unseen])
    hits = [
        left <= x < left + 32 and top <= y < top + 32
        for (y, x), (left, top) in zip(
            (np.unravel_index(one.argmax(), one.shape) for one in heat), places[unseen], strict=True
        )
    ]
    assert len(hits) == 6
    assert sum(hits) >= 5
