"""Last stages beside each other on one trunk: each learns alone, and all of them decide."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fracray.config import BackboneSettings, FinetuneSettings, VisionSettings
from fracray.errors import BackboneError
from fracray.explain.grad_cam import decision_map
from fracray.vision.backbone import Backbone, backbone_fingerprint, load_backbone, save_backbone
from fracray.vision.embed import embed, embed_with_statistics
from fracray.vision.folds import FineTuning

ONE = BackboneSettings(weights="random", attention=True, plain_mean=False)
TWO = ONE.model_copy(update={"members": 2})
LEARNING = FinetuneSettings(epochs=2, batch_size=2, augmentation=0)
LABELS = np.array([0, 1, 0, 1], np.int8)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (4, 96, 96), dtype=np.uint8)


def training(
    backbone: BackboneSettings, pictures: np.ndarray, seed: int, settings: FinetuneSettings = LEARNING
) -> FineTuning:
    return FineTuning(load_backbone(backbone), pictures, LABELS, settings, seed, device="cpu")


@pytest.fixture(scope="module")
def tuned(pictures: np.ndarray) -> Backbone:
    return training(TWO, pictures, 3).on(np.arange(4))


def test_members_learn_as_networks_of_their_own_would(pictures: np.ndarray, tuned: Backbone) -> None:
    alone = [training(ONE, pictures, seed).on(np.arange(4)) for seed in (3, 4)]
    apart = [embed(network, pictures, 4) for network in alone]
    assert not np.allclose(*apart, rtol=1e-3)
    together, statistics = embed_with_statistics(tuned, pictures, 4)
    np.testing.assert_allclose(together, np.hstack(apart), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(statistics, embed_with_statistics(alone[0], pictures, 4)[1], rtol=1e-5)


@pytest.mark.parametrize("unfrozen", ["none", "fc", "layer4", "layer3+4"])
def test_fine_tuning_embeds_as_the_members_do_whatever_learns(pictures: np.ndarray, unfrozen: str) -> None:
    settings = LEARNING.model_copy(update={"unfrozen": unfrozen, "epochs": 1})
    of_two = training(TWO, pictures, 3, settings)
    network = of_two.on(np.arange(4))
    np.testing.assert_allclose(of_two.embed(network), embed(network, pictures, 4), rtol=1e-3, atol=1e-4)


def test_fine_tuned_weights_take_half_the_bytes_and_come_back_as_they_were(
    tmp_path: Path, pictures: np.ndarray, tuned: Backbone
) -> None:
    path = tmp_path / "backbone.safetensors"
    save_backbone(tuned, path)
    loaded = load_backbone(TWO.model_copy(update={"weights": str(path)}))
    np.testing.assert_array_equal(embed(loaded, pictures, 4), embed(tuned, pictures, 4))
    types = {name: weights.dtype for name, weights in load_file(path).items()}
    assert types["layer4.0.conv1.weight"] == types["layer4.0.conv1.weight.member1"] == torch.float16
    assert types["layer3.0.conv1.weight"] == torch.float32
    with pytest.raises(BackboneError, match=r"member1' is no weight of resnet10"):
        load_backbone(ONE.model_copy(update={"weights": str(path)}))


def test_published_weights_are_where_all_members_begin(tmp_path: Path, pictures: np.ndarray) -> None:
    published = load_backbone(BackboneSettings(weights="random"))
    save_backbone(published, tmp_path / "published.safetensors")
    weights = str(tmp_path / "published.safetensors")
    both = np.split(embed(load_backbone(TWO.model_copy(update={"weights": weights})), pictures, 4), 2, axis=1)
    expected = embed(published, pictures, 4)
    for member in both:
        np.testing.assert_allclose(member, expected, rtol=1e-4, atol=1e-6)


def test_a_decision_by_one_member_alone_has_its_heat_map(pictures: np.ndarray, tuned: Backbone) -> None:
    second = training(ONE, pictures, 4).on(np.arange(4))
    width = second.embedding_dim
    expected = decision_map(second, lambda embeddings: embeddings[:, ::7].sum(dim=1), pictures)
    heat = decision_map(tuned, lambda embeddings: embeddings[:, width::7].sum(dim=1), pictures)
    np.testing.assert_allclose(heat, expected, atol=1e-3)
    of_first = decision_map(tuned, lambda embeddings: embeddings[:, :width:7].sum(dim=1), pictures)
    assert not np.allclose(of_first, expected, atol=0.02)


def test_features_of_one_and_of_two_members_are_not_taken_for_each_other() -> None:
    one, two = (backbone_fingerprint(VisionSettings(backbone=settings)) for settings in (ONE, TWO))
    assert one != two
