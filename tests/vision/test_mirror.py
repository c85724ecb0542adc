"""A backbone that looks at a radiograph and its mirror image: one answer for left and right."""

import numpy as np
import pytest

from fracray.config import BackboneSettings, FinetuneSettings, VisionSettings
from fracray.explain.grad_cam import decision_map
from fracray.vision.backbone import backbone_fingerprint, load_backbone
from fracray.vision.embed import embed, embed_with_statistics
from fracray.vision.folds import FineTuning

PLAIN = BackboneSettings(weights="random", attention=True)
MIRRORING = PLAIN.model_copy(update={"mirror": True})


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (4, 96, 96), dtype=np.uint8)


def test_the_embedding_is_the_mean_of_both_and_the_same_for_the_mirror_image(pictures: np.ndarray) -> None:
    plain, mirroring = load_backbone(PLAIN), load_backbone(MIRRORING)
    mirrored = pictures[:, :, ::-1].copy()
    numbers = embed(mirroring, pictures, 3)
    expected = (embed(plain, pictures, 3) + embed(plain, mirrored, 3)) / 2
    np.testing.assert_allclose(numbers, expected, atol=1e-5)
    np.testing.assert_allclose(embed(mirroring, mirrored, 3), numbers, atol=1e-5)
    with_statistics, statistics = embed_with_statistics(mirroring, pictures, 3)
    np.testing.assert_allclose(with_statistics, numbers, atol=1e-5)
    np.testing.assert_allclose(statistics, embed_with_statistics(plain, pictures, 3)[1], atol=1e-5)


@pytest.mark.parametrize("cache_gb", [0.0, 1.0])
@pytest.mark.parametrize("every", [1, 2])
def test_fine_tuning_embeds_as_the_network_it_made_does(
    pictures: np.ndarray, cache_gb: float, every: int
) -> None:
    settings = FinetuneSettings(epochs=1, batch_size=2, augmentation=0.5, draws=2, cache_gb=cache_gb)
    labels = np.array([0, 1, 0, 1], np.int8)
    smaller = pictures[:, ::every, ::every].copy()
    training = FineTuning(
        load_backbone(MIRRORING), pictures, labels, settings, 3, learned_from=smaller, device="cpu"
    )
    tuned = training.on(np.arange(4))
    np.testing.assert_allclose(training.embed(tuned), embed(tuned, pictures, 4), rtol=1e-3, atol=1e-4)


def test_the_heat_map_of_the_mirror_image_is_the_mirrored_heat_map(pictures: np.ndarray) -> None:
    backbone = load_backbone(MIRRORING)
    heat, of_mirrored = (
        decision_map(backbone, lambda embeddings: embeddings[:, ::7].sum(dim=1), shown)
        for shown in (pictures, pictures[:, :, ::-1].copy())
    )
    assert heat.shape == pictures.shape
    np.testing.assert_allclose(of_mirrored[:, :, ::-1], heat, atol=1e-3)
    assert not np.allclose(of_mirrored, heat, atol=0.05)
    np.testing.assert_allclose(heat.max(axis=(1, 2)), 1, atol=1e-6)


def test_features_with_and_without_the_mirror_image_are_not_taken_for_each_other() -> None:
    plain, mirroring = (backbone_fingerprint(VisionSettings(backbone=one)) for one in (PLAIN, MIRRORING))
    assert plain != mirroring
