import numpy as np
import pytest
from PIL import Image

from fracray.errors import UsageError
from fracray.explain.heat_map import heat_maps
from fracray.fusion.training import Pipeline
from fracray.radiographs.read import Radiograph
from tests.explain.conftest import bundle_of, squares

SHAPES = [(192, 96), (80, 160), (64, 64)]
BOTH = pytest.mark.parametrize("keep_proportions", ["true", "false"])


def radiograph(pixels: np.ndarray) -> Radiograph:
    return Radiograph((pixels / 255).astype(np.float32), 8, "PNG")


def with_square(shape: tuple[int, int], keep_proportions: str) -> tuple[Radiograph, tuple[float, ...]]:
    """A radiograph whose picture of 64 pixels is one that the network knows, and the square's box in it."""
    longest = np.array(shape) if keep_proportions == "false" else max(shape)
    height, width = (64 * np.array(shape) // longest).tolist()
    small = squares(2, sum(shape), (height, width))
    across, down = shape[1] / width, shape[0] / height
    large = np.asarray(Image.fromarray(small.pixels[1]).resize((shape[1], shape[0])))
    return radiograph(large), tuple(small.boxes[1] * (across, down, across, down))


@BOTH
@pytest.mark.parametrize("system", ["image", "fused"])
def test_heat_and_box_lie_on_the_place_in_the_radiographs_own_pixels(
    pipeline: Pipeline, keep_proportions: str, system: str
) -> None:
    bundle = bundle_of(pipeline, f"vision.preprocessing.keep_proportions={keep_proportions}")
    given = [with_square(shape, keep_proportions) for shape in SHAPES]
    found = heat_maps(bundle, [each for each, _ in given], ["Nothing seen."] * 3, system)
    for (picture, (left, top, right, bottom)), result in zip(given, found, strict=True):
        assert result.heat.shape == picture.pixels.shape
        assert result.heat.dtype == np.float32
        assert result.heat.min() >= 0
        assert result.heat.max() == pytest.approx(1, abs=0.15)
        y, x = np.unravel_index(result.heat.argmax(), result.heat.shape)
        cell = 8 * max(picture.pixels.shape) / 64
        assert left - cell / 2 <= x < right + cell / 2
        assert top - cell / 2 <= y < bottom + cell / 2
        assert result.box is not None
        xmin, ymin, xmax, ymax = result.box
        assert xmin <= x < xmax
        assert ymin <= y < ymax
        assert 0 <= xmin < xmax <= picture.pixels.shape[1]
        assert 0 <= ymin < ymax <= picture.pixels.shape[0]


@BOTH
@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "layercam", "eigencam"])
def test_a_radiograph_of_one_value_has_no_region(
    pipeline: Pipeline, keep_proportions: str, grey: float, method: str
) -> None:
    """With padding beside it, its square is not of one value: the padding's edge must not become heat."""
    bundle = bundle_of(
        pipeline,
        f"vision.preprocessing.keep_proportions={keep_proportions}",
        f"explain.method={method}",
    )
    blank = Radiograph(np.full((50, 120), grey, np.float32), 8, "PNG")
    (result,) = heat_maps(bundle, [blank], [""])
    assert not result.heat.any()
    assert result.box is None


def test_the_bundles_method_is_used(pipeline: Pipeline) -> None:
    picture, _ = with_square((64, 64), "false")
    heat = {
        method: heat_maps(bundle_of(pipeline, f"explain.method={method}"), [picture], [""])[0].heat
        for method in ("gradcam", "layercam", "eigencam")
    }
    assert np.abs(heat["gradcam"] - heat["layercam"]).max() > 1e-3
    assert np.abs(heat["gradcam"] - heat["eigencam"]).max() > 1e-3


def test_words_have_no_map(pipeline: Pipeline) -> None:
    with pytest.raises(UsageError, match="look at no pixel"):
        heat_maps(bundle_of(pipeline), [radiograph(squares(1, 0).pixels[0])], [""], "words")
