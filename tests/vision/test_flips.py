"""A backbone that looks at a radiograph from four sides: one answer however it is flipped."""

import numpy as np
import pytest

from fracray.config import BackboneSettings, FinetuneSettings, VisionSettings
from fracray.explain.grad_cam import decision_map
from fracray.vision.backbone import backbone_fingerprint, load_backbone
from fracray.vision.embed import embed, embed_with_statistics
from fracray.vision.folds import FineTuning

PLAIN = BackboneSettings(weights="random", attention=True)
FLIPPING = PLAIN.model_copy(update={"flips": True})


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (4, 96, 96), dtype=np.uint8)


def test_the_embedding_is_the_mean_of_all_sides_and_the_same_for_a_flipped_radiograph(
    pictures: np.ndarray,
) -> None:
    plain, flipping = load_backbone(PLAIN), load_backbone(FLIPPING)
    sides = [pictures, pictures[:, :, ::-1], pictures[:, ::-1], pictures[:, ::-1, ::-1]]
    numbers = embed(flipping, pictures, 3)
    of_sides = [embed(plain, side.copy(), 3) for side in sides]
    np.testing.assert_allclose(numbers, np.mean(of_sides, axis=0), atol=1e-5)
    for side in sides:
        np.testing.assert_allclose(embed(flipping, side.copy(), 3), numbers, atol=1e-5)
    with_statistics, statistics = embed_with_statistics(flipping, pictures, 3)
    np.testing.assert_allclose(with_statistics, numbers, atol=1e-5)
    np.testing.assert_allclose(statistics, embed_with_statistics(plain, pictures, 3)[1], atol=1e-5)


@pytest.mark.parametrize(("cache_gb", "size"), [(1.0, None), (0.0, None), (1.0, 64), (0.0, 64)])
def test_fine_tuning_embeds_as_the_network_it_made_does(
    pictures: np.ndarray, cache_gb: float, size: int | None
) -> None:
    settings = FinetuneSettings(
        epochs=1, batch_size=2, augmentation=0.5, draws=2, cache_gb=cache_gb, size=size
    )
    labels = np.array([0, 1, 0, 1], np.int8)
    training = FineTuning(load_backbone(FLIPPING), pictures, labels, settings, 3, device="cpu")
    tuned = training.on(np.arange(4))
    np.testing.assert_allclose(training.embed(tuned), embed(tuned, pictures, 4), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dims", [(1,), (2,), (1, 2)])
def test_the_heat_map_of_a_flipped_radiograph_is_the_flipped_heat_map(
    pictures: np.ndarray, dims: tuple[int, ...]
) -> None:
    backbone = load_backbone(FLIPPING)
    heat, turned = (
        decision_map(backbone, lambda embeddings: embeddings[:, ::7].sum(dim=1), shown)
        for shown in (pictures, np.flip(pictures, dims).copy())
    )
    assert heat.shape == pictures.shape
    np.testing.assert_allclose(np.flip(turned, dims), heat, atol=1e-3)
    assert not np.allclose(turned, heat, atol=0.05)
    np.testing.assert_allclose(heat.max(axis=(1, 2)), 1, atol=1e-6)


def test_features_with_and_without_flips_are_not_taken_for_each_other() -> None:
    plain, flipping = (backbone_fingerprint(VisionSettings(backbone=one)) for one in (PLAIN, FLIPPING))
    assert plain != flipping
