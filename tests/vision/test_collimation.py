"""The exposed field is found where it was drawn, and never cut into."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fracray.radiographs.phantoms import make_phantom
from fracray.vision.collimation import MAX_CROPPED, Field, exposed_field


def collimated(
    shape: tuple[int, int], edges: tuple[float, float, float, float], level: float
) -> tuple[NDArray[np.float32], tuple[int, int, int, int]]:
    """Return exposed texture within a border of `level`; `edges`: shares at top, bottom, left, right."""
    rng = np.random.default_rng(0)
    height, width = shape
    top, bottom = round(edges[0] * height), height - round(edges[1] * height)
    left, right = round(edges[2] * width), width - round(edges[3] * width)
    pixels = level + rng.normal(0, 0.004, shape)
    y, x = np.mgrid[: bottom - top, : right - left] / np.array([bottom - top, right - left])[:, None, None]
    pixels[top:bottom, left:right] = 0.35 + 0.25 * np.sin(9 * x + 4 * y) + rng.normal(0, 0.03, x.shape)
    return np.clip(pixels, 0, 1).astype(np.float32), (top, bottom, left, right)


share = st.floats(0, 0.24)


@pytest.mark.parametrize("level", [0.02, 0.98])
@hypothesis_settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(64, 700), st.integers(64, 700)), edges=st.tuples(share, share, share, share)
)
def test_a_dark_or_white_border_is_cut_off_and_nothing_of_the_field(
    level: float, shape: tuple[int, int], edges: tuple[float, float, float, float]
) -> None:
    pixels, (top, bottom, left, right) = collimated(shape, edges, level)
    field = exposed_field(pixels)
    allowed = [2 * max(1, side / 256) for side in shape]
    assert 0 <= top - field.top <= allowed[0]
    assert 0 <= field.top + field.height - bottom <= allowed[0]
    assert 0 <= left - field.left <= allowed[1]
    assert 0 <= field.left + field.width - right <= allowed[1]


def test_never_more_than_the_stated_share_is_cut_off() -> None:
    pixels = np.zeros((400, 400), np.float32)
    pixels[190:210, 190:210] = np.random.default_rng(0).uniform(0.3, 0.9, (20, 20))
    cut = round(MAX_CROPPED * 400)
    assert exposed_field(pixels) == Field(cut, cut, 400 - 2 * cut, 400 - 2 * cut)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_an_even_picture_stays_whole(level: float) -> None:
    assert exposed_field(np.full((90, 60), level, np.float32)) == Field(0, 0, 90, 60)


def test_an_even_grey_edge_is_tissue_and_stays() -> None:
    pixels, _ = collimated((300, 300), (0.1, 0.1, 0.1, 0.1), 0.4)
    assert exposed_field(pixels) == Field(0, 0, 300, 300)


@pytest.mark.parametrize("seed", range(4_900_200, 4_900_206))
def test_what_is_cut_off_from_a_phantom_is_dark(seed: int) -> None:
    pixels = make_phantom(seed, long_side=400).pixels
    field = exposed_field(pixels)
    outside = pixels.copy()
    outside[field.top : field.top + field.height, field.left : field.left + field.width] = 0
    assert np.quantile(outside, 0.99) < 0.15
