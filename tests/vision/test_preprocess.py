import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fracray.config import Preprocessing
from fracray.vision.preprocess import placement, preprocess, restore

SQUEEZED = Preprocessing(size=64)
PADDED = Preprocessing(size=64, keep_proportions=True)


@pytest.mark.parametrize("settings", [SQUEEZED, PADDED])
@hypothesis_settings(deadline=None)
@given(value=st.integers(0, 255), height=st.integers(1, 300), width=st.integers(1, 300))
def test_a_uniform_radiograph_keeps_its_value(
    settings: Preprocessing, value: int, height: int, width: int
) -> None:
    square = preprocess(np.full((height, width), value / 255, np.float32), settings)
    place = placement((height, width), settings)
    inside = square[place.top : place.top + place.height, place.left : place.left + place.width]
    assert square.shape == (64, 64)
    assert (inside == value).all()
    assert square.sum() == inside.sum()


def test_shrinking_averages_like_a_block_mean() -> None:
    fine = np.random.default_rng(0).random((1024, 1024), dtype=np.float32)
    blocks = fine.reshape(64, 16, 64, 16).mean(axis=(1, 3))
    small = preprocess(fine, SQUEEZED) / 255
    assert abs(small.mean() - fine.mean()) < 0.003
    # A triangle filter averages over a little more than a block; plain sampling would keep all noise.
    assert small.std() < 1.2 * blocks.std()


def test_a_thin_bright_line_does_not_vanish_between_samples() -> None:
    for column in range(500, 520):
        radiograph = np.zeros((1000, 1000), np.float32)
        radiograph[:, column] = 1
        assert preprocess(radiograph, SQUEEZED).max() >= 8


def test_padding_keeps_a_circle_round_and_squeezing_does_not() -> None:
    y, x = np.mgrid[:200, :400]
    disc = ((x - 200) ** 2 + (y - 100) ** 2 < 80**2).astype(np.float32)

    def extents(settings: Preprocessing) -> tuple[int, int]:
        lit = preprocess(disc, settings) > 127
        return int(lit.any(axis=1).sum()), int(lit.any(axis=0).sum())

    assert extents(PADDED)[0] == pytest.approx(extents(PADDED)[1], abs=1)
    assert extents(SQUEEZED)[0] == pytest.approx(2 * extents(SQUEEZED)[1], abs=2)


@pytest.mark.parametrize("settings", [SQUEEZED, PADDED])
@hypothesis_settings(deadline=None)
@given(
    height=st.integers(40, 400),
    width=st.integers(40, 400),
    down=st.floats(0.1, 0.9),
    right=st.floats(0.1, 0.9),
)
def test_restore_brings_a_spot_back_to_where_it_was(
    settings: Preprocessing, height: int, width: int, down: float, right: float
) -> None:
    y, x = np.mgrid[:height, :width]
    spread = max(height, width) / 12
    radiograph = np.exp(-((y - down * height) ** 2 + (x - right * width) ** 2) / spread**2).astype(np.float32)
    back = restore(preprocess(radiograph, settings).astype(np.float32), (height, width), settings)
    assert back.shape == (height, width)
    row, column = np.unravel_index(np.argmax(back), back.shape)
    pixel = max(height, width) / 64
    assert abs(row - down * height) <= 1.5 * pixel + 1
    assert abs(column - right * width) <= 1.5 * pixel + 1
