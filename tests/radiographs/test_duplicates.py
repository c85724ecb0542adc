"""Copies of a radiograph are found, and different radiographs stay apart."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from fracray.radiographs.duplicates import near_duplicate_groups
from tests.radiographs.drawing import drawn_bones

Picture = NDArray[np.float32]
DISTANCE = 10


def recompressed(picture: Picture) -> Picture:
    buffer = BytesIO()
    small = Image.fromarray((picture * 255).astype(np.uint8)).resize((97, 131))
    small.save(buffer, "JPEG", quality=40)
    return np.asarray(Image.open(buffer), dtype=np.float32) / np.float32(255)


def turned(picture: Picture, degrees: float) -> Picture:
    return np.asarray(ndimage.rotate(picture, degrees, reshape=False, order=1), dtype=np.float32)


COPIES: dict[str, Callable[[Picture], Picture]] = {
    "mirrored": lambda picture: picture[:, ::-1],
    "upside down": lambda picture: picture[::-1],
    "a quarter turn": lambda picture: np.rot90(picture),
    "a quarter turn, mirrored": lambda picture: np.rot90(picture)[:, ::-1],
    "turned by 4 degrees": lambda picture: turned(picture, 4),
    "turned by -12 degrees": lambda picture: turned(picture, -12),
    "mirrored, turned by 8 degrees": lambda picture: turned(picture[:, ::-1], 8),
    "cropped": lambda picture: picture[10:-6, 4:-8],
    "darker, less contrast": lambda picture: picture**1.3 * 0.6 + 0.1,
    "smaller, recompressed": recompressed,
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_joins_its_original_and_nothing_else(name: str) -> None:
    originals = [drawn_bones(seed) for seed in range(4)]
    groups = near_duplicate_groups([*originals, COPIES[name](originals[1])], DISTANCE)
    assert groups[4] == groups[1]
    assert len(set(groups.tolist())) == 4


def test_different_bones_stay_apart_even_when_every_pair_is_a_candidate() -> None:
    groups = near_duplicate_groups([drawn_bones(seed) for seed in range(8)], 32)
    assert len(set(groups.tolist())) == 8


def test_copies_of_copies_are_one_group() -> None:
    first = drawn_bones(3)
    chain = [turned(first, 10 * step) for step in range(4)]
    assert len(set(near_duplicate_groups(chain, DISTANCE).tolist())) == 1


def test_pictures_without_details_are_no_copies() -> None:
    blank = [np.full((50, 50), level, dtype=np.float32) for level in (0, 0.5, 1)]
    assert len(set(near_duplicate_groups(blank, DISTANCE).tolist())) == 3


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count: int) -> None:
    assert near_duplicate_groups([drawn_bones(0)] * count, DISTANCE).tolist() == [0] * count
