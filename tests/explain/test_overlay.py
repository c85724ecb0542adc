import io

import numpy as np
from PIL import Image

from fracray.explain.overlay import BOX_COLOUR, LONG_SIDE, overlay


def opened(png: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG"
    return np.asarray(picture).astype(int)


def boxed(picture: np.ndarray) -> np.ndarray:
    return (picture == BOX_COLOUR).all(axis=2)


def test_without_heat_the_radiograph_is_unchanged() -> None:
    radiograph = np.random.default_rng(0).random((90, 150), dtype=np.float32)
    picture = opened(overlay(radiograph, np.zeros((90, 150), np.float32), None))
    assert picture.shape == (90, 150, 3)
    assert np.abs(picture - np.rint(radiograph * 255)[..., None]).max() == 0


def test_a_large_radiograph_keeps_its_proportions_and_its_box() -> None:
    radiograph = np.zeros((3000, 1500), np.float32)
    picture = opened(overlay(radiograph, radiograph, (300, 600, 900, 2400)))
    assert picture.shape == (LONG_SIDE, LONG_SIDE // 2, 3)
    rows, columns = np.nonzero(boxed(picture))
    scale = LONG_SIDE / 3000
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    np.testing.assert_allclose(found, np.array([300, 600, 900, 2400]) * scale, atol=1)


def test_the_box_is_one_pixel_thin_and_its_upper_ends_are_exclusive() -> None:
    blank = np.zeros((40, 60), np.float32)
    lines = boxed(opened(overlay(blank, blank, (10, 5, 30, 25))))
    expected = np.zeros((40, 60), bool)
    expected[5:25, 10:30] = True
    expected[6:24, 11:29] = False
    assert np.array_equal(lines, expected)


def test_a_box_of_one_pixel_can_be_drawn() -> None:
    blank = np.zeros((40, 60), np.float32)
    assert np.argwhere(boxed(opened(overlay(blank, blank, (59, 39, 60, 40))))).tolist() == [[39, 59]]


def test_bone_stays_readable_under_the_hottest_heat() -> None:
    stripes = np.tile(np.float32([0.1, 0.9]).repeat(8), (64, 4))
    picture = opened(overlay(stripes, np.ones((64, 64), np.float32), None)).mean(axis=2)
    assert picture[:, 12].mean() - picture[:, 4].mean() > 60


def test_colours_grow_lighter_with_the_heat() -> None:
    heat = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    light = opened(overlay(np.zeros((64, 64), np.float32), heat, None)) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light[32]) >= -0.5).all()
