"""Pictures that are no usable radiograph are told apart from those that are."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from fracray.config import RadiographSettings
from fracray.radiographs.phantoms import make_phantom
from fracray.radiographs.quality import MIN_SIDE, quality_warnings
from fracray.radiographs.read import read_radiograph


def warned(image: Image.Image, kind: str = "PNG", **options: Any) -> list[str]:
    """Return the names of the warnings that the file of `image` raises."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    radiograph = read_radiograph(buffer.getvalue(), RadiographSettings())
    return [warning.partition(":")[0] for warning in quality_warnings(radiograph)]


def grey(pixels: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))


def photograph(seed: int) -> Image.Image:
    """Sky over ground with textured shapes of many colours, and the noise of a sensor."""
    rng = np.random.default_rng(seed)
    rows = np.linspace(0, 1, 300)[:, None, None]
    sky, ground = rng.uniform(0.2, 0.9, (2, 3))
    image = Image.fromarray(np.uint8(255 * (sky * (1 - rows) + ground * rows) * np.ones((1, 400, 1))))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        left, top = rng.uniform(0, 350), rng.uniform(0, 250)
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        draw.ellipse((left, top, left + rng.uniform(20, 120), top + rng.uniform(20, 120)), fill=colour)
    texture = rng.normal(0, 12, (300, 400, 1)) + rng.normal(0, 4, (300, 400, 3))
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(1)))
    return Image.fromarray(np.uint8(np.clip(soft + texture, 0, 255)))


def document() -> Image.Image:
    image = Image.new("L", (600, 850), 252)
    draw = ImageDraw.Draw(image)
    for line in range(60, 800, 18):
        draw.text((50, line), "No fracture is seen. The joint is in its place, the soft tissue normal. " * 2)
    return image


@pytest.mark.parametrize("seed", range(4_900_100, 4_900_112))
def test_a_radiograph_raises_no_warning_however_it_is_saved(seed: int) -> None:
    bones = grey(make_phantom(seed, long_side=300).pixels)
    assert warned(bones) == []
    assert warned(bones.convert("RGB"), "JPEG", quality=70) == []
    assert warned(bones.convert("RGBA")) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_colour_photograph_is_in_colour_and_a_grey_copy_is_not(seed: int) -> None:
    picture = photograph(seed)
    assert warned(picture) == ["in colour"]
    assert warned(picture, "JPEG", quality=60) == ["in colour"]
    assert warned(picture.quantize(64)) == ["in colour"]
    assert warned(picture.convert("L").convert("RGB")) == []


def test_a_document_and_inverted_grey_are_mostly_white() -> None:
    assert warned(document()) == ["mostly white"]
    bones = make_phantom(4_900_103, long_side=300).pixels
    assert warned(grey(1 - bones)) == ["mostly white"]


def test_film_without_a_picture_is_blank_whatever_its_level_and_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, (300, 260))
    assert warned(grey(0.5 + noise)) == ["blank"]
    assert warned(grey(0.02 + noise)) == ["blank", "too dark"]
    assert warned(grey(0.98 + noise)) == ["blank", "mostly white"]


def test_an_underexposed_radiograph_is_too_dark_and_a_marker_does_not_hide_it() -> None:
    bones = make_phantom(4_900_101, long_side=400).pixels
    dark = 0.18 * bones / bones.max()
    dark[:12, :12] = 1.0
    assert warned(grey(dark)) == ["too dark"]


def test_the_shorter_side_decides_what_is_tiny() -> None:
    bones = grey(make_phantom(4_900_102, long_side=300).pixels)
    assert warned(bones.resize((400, MIN_SIDE))) == []
    assert warned(bones.resize((400, MIN_SIDE - 1))) == ["tiny"]
