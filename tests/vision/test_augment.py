import math

import numpy as np
import torch

from fracray.vision.augment import MAX_ROTATION_DEG, augment, draw_augmentations


def test_no_strength_changes_nothing() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 33, 33), dtype=np.uint8))
    assert torch.equal(augment(pixels, draw_augmentations(5, 0.0, [1])), pixels)


def test_flips_are_exact_and_contrast_keeps_the_mean() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(80, 170, (1, 32, 32), dtype=np.uint8))

    def changed(*row: float) -> torch.Tensor:
        return augment(pixels, np.array([row], np.float32))

    assert torch.equal(changed(-1, 1, 0, 1, 1, 0), pixels.flip(2))
    assert torch.equal(changed(1, -1, 0, 1, 1, 0), pixels.flip(1))
    softer = changed(1, 1, 0, 1, 0.5, 0).float()
    assert abs(float(softer.mean() - pixels.float().mean())) < 0.5
    assert 0.48 < float(softer.std() / pixels.float().std()) < 0.52


def test_a_quarter_turn_turns_the_picture_by_a_quarter() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 32, 32), dtype=np.uint8))
    turned = augment(pixels, np.array([[1, 1, math.pi / 2, 1, 1, 0]], np.float32))
    either_way = [torch.rot90(pixels, turns, (1, 2)) for turns in (1, 3)]
    assert any(torch.equal(turned, expected) for expected in either_way)


def test_a_zoom_enlarges_about_the_middle_and_brightness_spares_what_is_black() -> None:
    pixels = torch.zeros((1, 40, 40), dtype=torch.uint8)
    pixels[:, 15:25, 15:25] = 100
    larger = augment(pixels, np.array([[1, 1, 0, 1.2, 1, 0]], np.float32))
    assert 130 < int((larger[0] > 50).sum()) < 160
    assert torch.equal(larger, larger.flip(1, 2))
    brighter = augment(pixels, np.array([[1, 1, 0, 1, 1, 0.1]], np.float32))
    assert set(brighter.unique().tolist()) <= {0, 125, 126}
    assert int(brighter.max()) > 120


def test_draws_are_repeatable_and_stay_within_the_strength() -> None:
    first, second = draw_augmentations(400, 0.5, [3, 1]), draw_augmentations(400, 0.5, [3, 1])
    assert np.array_equal(first, second)
    assert not np.array_equal(first, draw_augmentations(400, 0.5, [3, 2]))
    assert np.abs(first[:, 2]).max() <= math.radians(MAX_ROTATION_DEG) / 2 + 1e-6
    assert 0.15 < (first[:, 0] < 0).mean() < 0.35
