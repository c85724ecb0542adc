import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fracray.config import Preprocessing
from fracray.radiographs.phantoms import make_phantom
from fracray.vision.preprocess import geometry, preprocess, resize

SQUEEZED = Preprocessing(size=64)
PADDED = Preprocessing(size=64, keep_proportions=True)
CROPPED = Preprocessing(size=64, crop_borders=True)
CROPPED_AND_PADDED = Preprocessing(size=64, crop_borders=True, keep_proportions=True)


def inside(radiograph: np.ndarray, settings: Preprocessing) -> tuple[slice, slice]:
    """The part of the square that shows the radiograph and not its padding."""
    where, (height, width) = geometry(radiograph, settings), radiograph.shape
    rows, columns = settings.size / where.height, settings.size / where.width
    top, left = round(-where.top * rows), round(-where.left * columns)
    return slice(top, top + round(height * rows)), slice(left, left + round(width * columns))


@pytest.mark.parametrize("settings", [SQUEEZED, PADDED])
@hypothesis_settings(deadline=None)
@given(value=st.integers(0, 255), height=st.integers(1, 300), width=st.integers(1, 300))
def test_a_uniform_radiograph_keeps_its_value(
    settings: Preprocessing, value: int, height: int, width: int
) -> None:
    uniform = np.full((height, width), value / 255, np.float32)
    square = preprocess(uniform, settings)
    shown = inside(uniform, settings)
    assert square.shape == (64, 64)
    assert (square[shown] == value).all()
    assert square.sum() == square[shown].sum()


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
    square = preprocess(radiograph, settings).astype(np.float32)
    back = geometry(radiograph, settings).restore(square, (height, width))
    assert back.shape == (height, width)
    row, column = np.unravel_index(np.argmax(back), back.shape)
    pixel = max(height, width) / 64
    assert abs(row - down * height) <= 1.5 * pixel + 1
    assert abs(column - right * width) <= 1.5 * pixel + 1


@pytest.mark.parametrize("settings", [SQUEEZED, PADDED, CROPPED, CROPPED_AND_PADDED])
@pytest.mark.parametrize("scale", [1.0, 0.4])
def test_the_geometry_leads_from_a_place_in_the_square_back_to_the_radiograph(
    settings: Preprocessing, scale: float
) -> None:
    y, x = np.mgrid[:300, :420]
    radiograph = np.zeros((300, 420), np.float32)
    radiograph[30:270, 90:400] = 0.3 + 0.1 * np.sin(x / 9 + y / 7)[30:270, 90:400]
    for down, right in ((60, 130), (150, 250), (240, 360)):
        marked = radiograph + 0.6 * np.exp(-((y - down) ** 2 + (x - right) ** 2) / 12**2).astype(np.float32)
        square = preprocess(marked, settings).astype(np.float32)
        where = geometry(marked, settings)
        row, column = np.unravel_index(np.argmax(square), square.shape)
        assert where.top + (row + 0.5) / 64 * where.height == pytest.approx(down, abs=7)
        assert where.left + (column + 0.5) / 64 * where.width == pytest.approx(right, abs=7)
        around = where.into_square(np.array([[right - 9, down - 9, right + 9, down + 9]], np.float32), 64)[0]
        assert around[0] < column + 0.5 < around[2]
        assert around[1] < row + 0.5 < around[3]
        shape = round(300 * scale), round(420 * scale)
        back = where.restore(square, shape, scale)
        assert back.shape == shape
        found = np.unravel_index(np.argmax(back), shape)
        assert found == pytest.approx((down * scale, right * scale), abs=7 * scale)


def test_restoring_agrees_with_resizing_and_is_zero_where_borders_were_cut_off() -> None:
    heat = resize(np.random.default_rng(0).random((5, 5), dtype=np.float32), (64, 64))
    radiograph = make_phantom(4_900_200, long_side=300).pixels
    by_geometry = geometry(radiograph, PADDED).restore(heat, radiograph.shape)
    by_resizing = resize(heat[inside(radiograph, PADDED)], radiograph.shape)
    inner = (slice(8, -8), slice(8, -8))
    np.testing.assert_allclose(by_geometry[inner], by_resizing[inner], atol=0.02)

    bordered = np.zeros((300, 400), np.float32)
    bordered[40:260, 60:340] = np.random.default_rng(1).uniform(0.2, 0.8, (220, 280))
    lit = geometry(bordered, CROPPED).restore(np.ones((64, 64), np.float32), bordered.shape) > 0
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    assert (rows[0], rows[-1]) == pytest.approx((40, 259), abs=2)
    assert (columns[0], columns[-1]) == pytest.approx((60, 339), abs=2)


def test_cropping_makes_a_collimated_radiograph_look_like_its_exposed_part() -> None:
    exposed = make_phantom(4_900_203, long_side=320).pixels[40:280, 40:200] * 0.8 + 0.15
    framed = np.pad(exposed, ((50, 60), (40, 30)))
    difference = preprocess(framed, CROPPED).astype(float) - preprocess(exposed, CROPPED)
    assert np.abs(difference).mean() < 6
    assert np.abs(preprocess(framed, SQUEEZED).astype(float) - preprocess(exposed, SQUEEZED)).mean() > 20


def test_clahe_raises_local_contrast_where_it_is_low_and_leaves_padding_black() -> None:
    settings = Preprocessing(size=128, keep_proportions=True, clahe=True)
    plain = settings.model_copy(update={"clahe": False})
    rng = np.random.default_rng(0)
    faint = np.clip(0.3 + rng.normal(0, 0.02, (200, 400)), 0, 1).astype(np.float32)
    before, after = preprocess(faint, plain), preprocess(faint, settings)
    shown = inside(faint, settings)
    assert after[shown].std() > 1.5 * before[shown].std()
    after[shown] = 0
    assert not after.any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 9)])
def test_all_steps_together_take_a_radiograph_of_any_shape(shape: tuple[int, int]) -> None:
    settings = Preprocessing(size=64, keep_proportions=True, crop_borders=True, clahe=True)
    pixels = np.random.default_rng(0).random(shape, dtype=np.float32)
    assert preprocess(pixels, settings).shape == (64, 64)
