"""Every picture format becomes the same grey numbers, and nothing else gets through."""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, features

from fracray.config import RadiographSettings
from fracray.errors import RadiographError, RadiographTooLargeError
from fracray.radiographs.phantoms import make_phantom
from fracray.radiographs.read import read_bytes, read_radiograph

SETTINGS = RadiographSettings()
GREY = np.arange(24 * 36, dtype=np.uint32).reshape(24, 36).astype(np.uint8)
DEEP = (np.arange(24 * 36, dtype=np.uint32).reshape(24, 36) * 75).astype(np.uint16)


def encoded(pixels: NDArray[np.generic], kind: str, mode: str | None = None, **options: Any) -> bytes:
    image = Image.fromarray(pixels)
    buffer = BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff_of_16_bits(pixels: NDArray[np.uint16], photometric: int) -> bytes:
    """Write the smallest TIFF by the letter of its specification, independent of Pillow's writer."""
    height, width = pixels.shape
    data = pixels.astype("<u2").tobytes()
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, len(data)),
    ]
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(data))
        + data
        + struct.pack("<H", len(tags))
        + directory
        + bytes(4)
    )


def png_declaring(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("TIFF", "CMYK")]
    + [(kind, mode) for kind in ("PNG", "TIFF") for mode in ("L", "RGB", "RGBA", "LA", "P")],
)
def test_grey_survives_every_lossless_way_of_storing_it(kind: str, mode: str) -> None:
    radiograph = read_radiograph(encoded(GREY, kind, mode), SETTINGS)
    np.testing.assert_array_equal(np.rint(radiograph.pixels * 255), GREY)
    assert (radiograph.format, radiograph.bits, str(radiograph.pixels.dtype)) == (kind, 8, "float32")


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_colour_spaces_give_the_same_grey(mode: str) -> None:
    smooth = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    radiograph = read_radiograph(encoded(smooth, "JPEG", mode, quality=100), SETTINGS)
    assert np.abs(radiograph.pixels * 255 - smooth).max() <= 3
    assert radiograph.format == "JPEG"


def test_colour_becomes_luma() -> None:
    colour = np.zeros((1, 3, 3), dtype=np.uint8)
    colour[0, [0, 1, 2], [0, 1, 2]] = 255
    pixels = read_radiograph(encoded(colour, "PNG"), SETTINGS).pixels
    np.testing.assert_allclose(pixels[0], [0.299, 0.587, 0.114], atol=1 / 255)


def test_transparent_parts_are_black() -> None:
    layered = np.full((2, 2, 4), 255, dtype=np.uint8)
    layered[0, 0, 3] = 0
    pixels = read_radiograph(encoded(layered, "PNG"), SETTINGS).pixels
    np.testing.assert_array_equal(pixels, [[0, 1], [1, 1]])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_keep_their_precision_over_the_full_range(kind: str) -> None:
    radiograph = read_radiograph(encoded(DEEP, kind), SETTINGS)
    np.testing.assert_array_equal(np.rint(radiograph.pixels.astype(np.float64) * 65535), DEEP)
    assert radiograph.bits == 16


@pytest.mark.parametrize(("photometric", "expected"), [(1, DEEP / 65535), (0, 1 - DEEP / 65535)])
def test_tiff_in_which_white_is_zero_is_inverted(photometric: int, expected: NDArray[np.float64]) -> None:
    pixels = read_radiograph(tiff_of_16_bits(DEEP, photometric), SETTINGS).pixels
    np.testing.assert_allclose(pixels, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, GREY), (2, GREY[:, ::-1]), (3, GREY[::-1, ::-1]), (6, np.rot90(GREY, -1)), (8, np.rot90(GREY))],
)
def test_exif_orientation_is_applied(kind: str, orientation: int, upright: NDArray[np.uint8]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"quality": 100} if kind == "JPEG" else {}
    pixels = read_radiograph(encoded(GREY, kind, exif=exif, **options), SETTINGS).pixels
    assert pixels.shape == upright.shape
    assert np.abs(pixels * 255 - upright).max() <= 3


def test_a_file_with_too_many_bytes_is_refused() -> None:
    with pytest.raises(RadiographTooLargeError, match=r"radiographs\.max_bytes = 100"):
        read_radiograph(bytes(101), RadiographSettings(max_bytes=100))


def test_a_file_with_too_many_bytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(bytes(101))
    with pytest.raises(RadiographTooLargeError, match="101 bytes"):
        read_bytes(str(path), RadiographSettings(max_bytes=100))


@pytest.mark.parametrize("size", [(7100, 7100), (100_000, 100_000), (2**31 - 1, 2**31 - 1)])
def test_a_picture_that_declares_too_many_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(RadiographTooLargeError, match=r"radiographs\.max_pixels = 50,000,000"):
        read_radiograph(png_declaring(*size), SETTINGS)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_the_pixel_limit_is_a_setting_and_holds_for_every_format(kind: str) -> None:
    data = encoded(GREY, kind)
    read_radiograph(data, RadiographSettings(max_pixels=GREY.size))
    with pytest.raises(RadiographTooLargeError, match="36 x 24 pixels"):
        read_radiograph(data, RadiographSettings(max_pixels=GREY.size - 1))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"Patient came in at noon.\n", "not a PNG, JPEG, TIFF or DICOM file"),
        (encoded(GREY, "GIF"), "not a PNG, JPEG, TIFF or DICOM file"),
        (encoded(GREY, "JPEG")[:-200], "the JPEG file is damaged or incomplete"),
        (encoded(DEEP, "PNG")[:100], "the PNG file is damaged or incomplete"),
        (encoded(GREY, "TIFF")[:150], "the TIFF file is damaged or incomplete"),
        (png_declaring(600, 600), "the PNG file is damaged or incomplete"),
        (encoded(GREY.astype(np.float32), "TIFF"), "32-bit or floating-point pixels"),
    ],
)
def test_what_is_no_radiograph_has_a_reason_of_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(RadiographError, match=reason) as caught:
        read_radiograph(data, SETTINGS)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, RadiographTooLargeError)


ORIGINALS = [
    encoded(GREY, "PNG"),
    encoded(GREY, "JPEG"),
    encoded(DEEP, "TIFF"),
    encoded(GREY, "TIFF", "CMYK"),
]
if features.check("libtiff"):
    ORIGINALS.append(encoded(GREY, "TIFF", compression="tiff_lzw"))


@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(st.sampled_from(ORIGINALS), st.data())
def test_damage_never_escapes_as_another_error(original: bytes, data: st.DataObject) -> None:
    damaged = bytearray(original)
    for place in data.draw(st.lists(st.integers(4, len(original) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        pixels = read_radiograph(bytes(damaged[: data.draw(st.integers(0, len(original)))]), SETTINGS).pixels
    except RadiographError:
        return
    assert pixels.ndim == 2
    assert 0 <= pixels.min() <= pixels.max() <= 1


def test_read_bytes_takes_paths_and_uris(tmp_path: Path) -> None:
    path = tmp_path / "a radiograph.png"
    path.write_bytes(b"content")
    assert read_bytes(str(path), SETTINGS) == read_bytes(path.as_uri(), SETTINGS) == b"content"


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("missing.png", "check the path"),
        (".", "is a folder; name the files in it"),
        ("unknown-scheme://bucket/key.png", "check the path"),
    ],
)
def test_read_bytes_of_nothing_is_a_radiograph_error(uri: str, says: str) -> None:
    with pytest.raises(RadiographError, match=says):
        read_bytes(uri, SETTINGS)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_large_jpeg_read_at_reduced_size_gives_hardly_another_picture(mode: str) -> None:
    phantom = np.rint(make_phantom(4_711, long_side=1800).pixels * 255).astype(np.uint8)
    data = encoded(phantom, "JPEG", mode, quality=90)
    size = 224
    whole = read_radiograph(data, SETTINGS).pixels
    reduced = read_radiograph(data, SETTINGS, enough=2 * size).pixels
    assert 2 * size <= min(reduced.shape) < min(whole.shape) / 1.9
    shown, expected = (
        np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
        for pixels in (reduced, whole)
    )
    # In grey levels; a side of an odd length moves by half a pixel, which tells at sharp edges.
    apart = 255 * np.abs(shown - expected)
    assert apart.mean() < 0.4
    assert np.percentile(apart, 99) < 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_other_formats_and_small_jpegs_are_read_whole(kind: str) -> None:
    assert read_radiograph(encoded(GREY, kind), SETTINGS, enough=20).pixels.shape == GREY.shape
