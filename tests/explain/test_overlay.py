import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from fracray.config import Preprocessing
from fracray.explain.overlay import LONG_SIDE, hottest_box, overlay
from fracray.vision.preprocess import preprocess

SQUEEZED = Preprocessing(size=64)
PADDED = Preprocessing(size=64, keep_proportions=True)
BOTH = pytest.mark.parametrize("settings", [SQUEEZED, PADDED])


def opened(png: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG"
    return np.asarray(picture).astype(int)


def spot(shape: tuple[int, int], down: float, right: float) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    away = (y - down * shape[0]) ** 2 + (x - right * shape[1]) ** 2
    return np.exp(-away / (max(shape) / 12) ** 2).astype(np.float32)


@BOTH
def test_without_heat_the_radiograph_is_unchanged(settings: Preprocessing) -> None:
    radiograph = np.random.default_rng(0).random((90, 150), dtype=np.float32)
    picture = opened(overlay(radiograph, np.zeros((64, 64), np.float32), settings))
    assert picture.shape == (90, 150, 3)
    assert np.abs(picture - np.rint(radiograph * 255)[..., None]).max() == 0


@BOTH
def test_a_large_radiograph_keeps_its_proportions(settings: Preprocessing) -> None:
    picture = opened(overlay(np.zeros((3000, 1500), np.float32), np.zeros((64, 64), np.float32), settings))
    assert picture.shape == (LONG_SIDE, LONG_SIDE // 2, 3)


@BOTH
@hypothesis_settings(deadline=None, max_examples=40)
@given(
    height=st.integers(60, 400),
    width=st.integers(60, 400),
    down=st.floats(0.2, 0.8),
    right=st.floats(0.2, 0.8),
)
def test_heat_and_box_land_on_the_place_they_came_from(
    settings: Preprocessing, height: int, width: int, down: float, right: float
) -> None:
    shape = (height, width)
    heat = preprocess(spot(shape, down, right), settings).astype(np.float32) / 255
    picture = opened(overlay(np.full(shape, 0.2, np.float32), heat, settings))
    coloured = np.abs(picture - picture.mean(axis=2, keepdims=True)).sum(axis=2) > 60
    rows, columns = np.nonzero(coloured)
    tolerance = 2.5 * max(shape) / 64
    assert rows.mean() == pytest.approx(down * height, abs=tolerance)
    assert columns.mean() == pytest.approx(right * width, abs=tolerance)

    box = hottest_box(heat, shape, settings)
    assert box is not None
    xmin, ymin, xmax, ymax = box
    assert 0 <= xmin <= right * width < xmax <= width
    assert 0 <= ymin <= down * height < ymax <= height
    # Half of the peak of exp(-(r / w)^2) lies at r = 0.83 w: the box is about 1.67 w wide.
    wide = 1.67 * max(shape) / 12
    assert xmax - xmin == pytest.approx(wide, abs=2 * tolerance)
    assert ymax - ymin == pytest.approx(wide, abs=2 * tolerance)


def test_bone_stays_readable_under_the_hottest_heat() -> None:
    stripes = np.tile(np.float32([0.1, 0.9]).repeat(8), (64, 4))
    picture = opened(overlay(stripes, np.ones((64, 64), np.float32), SQUEEZED)).mean(axis=2)
    assert picture[:, 12].mean() - picture[:, 4].mean() > 60


def test_colours_grow_lighter_with_the_heat() -> None:
    heat = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    light = opened(overlay(np.zeros((64, 64), np.float32), heat, SQUEEZED)) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light[32]) >= -0.5).all()


def test_of_two_hot_places_the_hotter_one_gets_the_box() -> None:
    heat = np.zeros((64, 64), np.float32)
    heat[10:14, 20:30] = 0.9
    heat[40:50, 50:55] = 1.0
    assert hottest_box(heat, (64, 64), SQUEEZED) == (50, 40, 55, 50)
    assert hottest_box(heat, (128, 640), SQUEEZED) == (500, 80, 550, 100)


def test_no_heat_no_box() -> None:
    assert hottest_box(np.zeros((64, 64), np.float32), (100, 50), SQUEEZED) is None
