import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fracray.config import FinetuneSettings
from fracray.vision.attention import place_logits
from fracray.vision.augment import augment, draw_augmentations
from fracray.vision.backbone import Backbone
from fracray.vision.folds import FineTuning
from fracray.vision.localisation import FracturePlaces, localisation_losses
from fracray.vision.normalise import normalise

NONE = np.zeros((0, 4), np.float32)
BROKEN = np.ones(1, np.int8)


def box(left: float, top: float, side: float) -> NDArray[np.float32]:
    return np.array([[left, top, left + side, top + side]], np.float32)


@given(seed=st.integers(0, 10_000), left=st.floats(20, 60), top=st.floats(20, 60), strength=st.floats(0, 1))
def test_a_place_moves_with_what_is_seen_there(seed: int, left: float, top: float, strength: float) -> None:
    changes = draw_augmentations(1, strength, [seed])
    picture = torch.zeros(1, 96, 96, dtype=torch.uint8)
    picture[:, round(top) : round(top + 14), round(left) : round(left + 14)] = 200
    seen = augment(picture, changes)[0].float().reshape(6, 16, 6, 16).mean(dim=(1, 3))
    places = FracturePlaces([box(left, top, 14)], BROKEN, 96)
    targets, known = places.targets(np.arange(1), changes, (6, 6))
    assert known.tolist() == [True]
    brightest = divmod(int(seen.argmax()), 6)
    assert targets[0][brightest] == 1
    assert targets.sum() <= 9


@given(left=st.floats(-5, 95.9), top=st.floats(-5, 95.9), side=st.floats(0, 3))
def test_the_smallest_box_marks_one_place_or_more(left: float, top: float, side: float) -> None:
    targets, _ = FracturePlaces([box(left, top, side)], BROKEN, 96).targets(np.arange(1), None, (3, 3))
    marked = np.argwhere(targets[0].numpy())
    assert 1 <= len(marked) <= 4
    for cell, start in zip(marked.T, (top, left), strict=True):
        assert np.all((32 * cell <= max(0.0, start) + side + 1) & (max(0.0, start) - 1 <= 32 * cell + 32))


def test_nothing_is_learned_of_a_fracture_that_nobody_has_found() -> None:
    places = FracturePlaces([NONE, NONE, box(4, 4, 8)], np.array([0, 1, 1], np.int8), 32)
    targets, known = places.targets(np.arange(3), None, (2, 2))
    assert known.tolist() == [True, False, True]
    assert targets[0].sum() == 0
    losses = localisation_losses(place_logits(5), torch.ones(3, 5, 2, 2), targets, known).tolist()
    assert losses[1] == 0
    assert min(losses[0], losses[2]) > 0


def signs(seed: int, *, upright: bool, lying: bool) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Twenty-four pictures of noise with up to two gratings, and both gratings' boxes [24, 2, 4]."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (24, 96, 96), dtype=np.uint8)
    boxes = np.empty((24, 2, 4), np.float32)
    for picture, of_one in zip(pixels, boxes, strict=True):
        places = [divmod(int(place), 3) for place in rng.permutation(9)[:2]]
        of_one[:] = [(32 * x, 32 * y, 32 * x + 32, 32 * y + 32) for y, x in places]
        for (y, x), there, step in zip(places, (upright, lying), ((1, 6), (6, 1)), strict=True):
            if there:
                picture[32 * y : 32 * y + 32 : step[0], 32 * x : 32 * x + 32 : step[1]] += 150
    return pixels, boxes


@pytest.mark.parametrize("marked", [0, 1])
def test_of_two_signs_that_tell_the_label_the_boxed_one_is_learned(backbone: Backbone, marked: int) -> None:
    (broken, boxes), (whole, _) = (signs(seed, upright=not seed, lying=not seed) for seed in (0, 1))
    settings = FinetuneSettings(
        epochs=12, learning_rate=1e-3, batch_size=12, augmentation=0, localisation=5.0, unfrozen="layer3+4"
    )
    training = FineTuning(
        backbone, np.concatenate([broken, whole]), np.repeat(np.array([1, 0], np.int8), 24), settings, 3,
        boxes=[*boxes[:, [marked]], *[NONE] * 24], device="cpu",
    )  # fmt: skip
    tuned = training.on(np.arange(48))
    direction = embedding(tuned, broken) - embedding(tuned, whole)
    upright, lying = (
        float(embedding(tuned, signs(2, upright=sign == 0, lying=sign == 1)[0]) @ direction)
        for sign in (0, 1)
    )
    assert (lying > upright) == bool(marked)


def embedding(backbone: Backbone, pixels: NDArray[np.uint8]) -> torch.Tensor:
    with torch.no_grad():
        return backbone(normalise(torch.tensor(pixels))).mean(dim=0)
