import numpy as np
import pytest
from pointing_game import judge, overlap

BOXES = np.array([[10.0, 20.0, 30.0, 40.0]])


def picture() -> np.ndarray:
    grey = np.zeros((100, 200), np.float32)
    grey[:, :50] = 0.5
    return grey


def hot(row: int, column: int) -> np.ndarray:
    heat = np.zeros((100, 200), np.float32)
    heat[row, column] = 1
    return heat


def test_a_hit_is_the_hottest_pixel_inside_and_not_on_the_far_edge() -> None:
    assert judge(picture(), hot(20, 10), (10, 20, 30, 40), BOXES).hit
    assert judge(picture(), hot(39, 29), (10, 20, 30, 40), BOXES).hit
    assert not judge(picture(), hot(40, 29), (10, 20, 30, 40), BOXES).hit
    # Row and column are not mixed up.
    assert not judge(picture(), hot(25, 35), (10, 20, 30, 40), BOXES).hit


def test_overlap_counts_the_box_that_fits_best() -> None:
    boxes = np.array([[100.0, 50.0, 120.0, 60.0], *BOXES])
    assert judge(picture(), hot(25, 15), (10, 20, 30, 30), boxes).overlap == pytest.approx(0.5)
    assert overlap(np.array([0, 0, 2, 2]), np.array([1, 1, 3, 3])) == pytest.approx(1 / 7)
    assert overlap(np.array([0, 0, 2, 2]), np.array([2, 2, 3, 3])) == 0


def test_guesses_and_chance() -> None:
    pointed = judge(picture(), hot(0, 0), (0, 0, 5, 5), BOXES)
    assert pointed.box_share == pytest.approx(20 * 20 / (100 * 200))
    assert not pointed.centre
    assert not pointed.centre_of_mass
    assert pointed.heat_inside == 0
    middle = judge(picture(), hot(30, 20), (10, 20, 30, 40), np.array([[20.0, 45.0, 30.0, 55.0]]))
    assert middle.centre_of_mass


def test_an_empty_map_hits_nothing() -> None:
    corner = np.array([[0.0, 0.0, 30.0, 40.0]])
    pointed = judge(picture(), np.zeros((100, 200), np.float32), None, corner)
    assert pointed.empty
    assert (pointed.hit, pointed.overlap, pointed.heat_inside) == (False, 0.0, 0.0)
