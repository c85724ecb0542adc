import numpy as np
import pytest

from fracray.explain.regions import HOT_SHARE, hottest_box


def bump(shape: tuple[int, int], y: float, x: float, width: float) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / width**2).astype(np.float32)


def test_of_two_hot_places_the_hotter_one_gets_the_box() -> None:
    heat = np.zeros((64, 80), np.float32)
    heat[10:14, 20:30] = 0.9
    heat[40:50, 70:75] = 1.0
    assert hottest_box(heat) == (70, 40, 75, 50)


def test_the_region_is_what_is_nearly_as_hot_as_its_maximum() -> None:
    heat = bump((200, 300), 120, 90, 60)
    box = hottest_box(heat)
    assert box is not None
    xmin, ymin, xmax, ymax = box
    # So far from its middle the bump has fallen to that share.
    diameter = 2 * 60 * np.sqrt(-np.log(HOT_SHARE))
    assert xmax - xmin == pytest.approx(diameter, abs=2)
    assert ymax - ymin == pytest.approx(diameter, abs=2)
    assert (xmin + xmax) / 2 == pytest.approx(90.5, abs=1)
    assert (ymin + ymax) / 2 == pytest.approx(120.5, abs=1)


def test_a_single_hot_pixel_in_the_corner_has_a_box_of_its_size() -> None:
    heat = np.zeros((30, 50), np.float32)
    heat[29, 49] = 0.1
    assert hottest_box(heat) == (49, 29, 50, 30)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_map_of_one_value_has_no_region(value: float) -> None:
    assert hottest_box(np.full((20, 30), value, np.float32)) is None
