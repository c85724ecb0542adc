"""From the bytes of a file to one grey picture in [0, 1], the same for every format."""

import logging
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps
from PIL.Image import Image, Resampling
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from fracray.config import RadiographSettings
from fracray.errors import LocationError, RadiographError, RadiographTooLargeError
from fracray.location import Location
from fracray.radiographs.dicom import is_dicom, read_dicom, refuse_many_pixels

_log = logging.getLogger(__name__)

# The classes themselves instead of PIL.Image.open: its guard against large pictures is a global of the
# process and only warns up to twice its limit; ours is a setting and stands before any decoding.
_FORMATS: dict[str, tuple[tuple[bytes, ...], type[ImageFile]]] = {
    "PNG": ((b"\x89PNG\r\n\x1a\n",), PngImageFile),
    "JPEG": ((b"\xff\xd8\xff",), JpegImageFile),
    "TIFF": ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImageFile),
}

# What Pillow raises on damaged bytes, depending on where the damage is.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
)


_SAMPLED = 96
_CLEARLY = 0.1
"""Rows and columns sampled for colour, and how far channels must differ; more than a JPEG's own error."""


@dataclass(frozen=True)
class Radiograph:
    """One radiograph, upright, ready for preprocessing.

    `pixels`: float32 `[h, w]` in [0, 1], bright is dense (bone is brighter than soft tissue, air is dark).
    `bits`: bits of grey that were read per pixel. `format`: PNG, JPEG, TIFF or DICOM.
    `pixel_spacing_mm`: distance of rows and of columns in mm; None where the file says nothing.
    `coloured`: share of pixels whose red, green and blue differ by more than a tenth of the range.
    """

    pixels: NDArray[np.float32]
    bits: int
    format: str
    pixel_spacing_mm: tuple[float, float] | None = None
    coloured: float = 0.0


def read_radiograph(data: bytes, settings: RadiographSettings, *, enough: int | None = None) -> Radiograph:
    """Decode the bytes of a PNG, JPEG, TIFF or DICOM file.

    With `enough` a JPEG of which both sides are at least twice as long comes out at a half, a quarter or an
    eighth of its size, with no side below `enough` pixels: decoded in a fraction of the time, and after a
    resize to `enough` / 2 or less hardly another picture.

    Colour becomes luma (ITU-R BT.601), transparent parts become black, the EXIF orientation is applied, grey
    of 16 bits is divided by 65,535 and keeps its precision; colour of 16 bits is read with 8. Of a TIFF with
    several pages the first counts. Raises `RadiographTooLargeError` before decoding when the file or the
    picture that it declares exceeds `settings`, and `RadiographError` with a one-line reason when it cannot
    be read.
    """
    _refuse_many_bytes(len(data), settings)
    if not data:
        raise RadiographError("the file is empty; copy it again from its source")
    if is_dicom(data):
        pixels, bits, spacing = read_dicom(data, settings.max_pixels)
        return Radiograph(pixels, bits, "DICOM", spacing)
    for name, (beginnings, plugin) in _FORMATS.items():
        if data.startswith(beginnings):
            return _read_picture(data, name, plugin, settings.max_pixels, enough)
    raise RadiographError("not a PNG, JPEG, TIFF or DICOM file; export it in one of these formats")


def read_bytes(uri: str, settings: RadiographSettings) -> bytes:
    """Return the bytes of a local path or of a URI that `Location` knows, such as s3://.

    Raises `RadiographTooLargeError` before reading when the file exceeds `settings.max_bytes`, and
    `RadiographError` when it cannot be reached.
    """
    place = Location.of(uri)
    try:
        info = place.info()
        if info.type.name == "Directory":
            raise RadiographError("is a folder; name the files in it")
        if not info.is_file:
            raise RadiographError("no such file; check the path")
        _refuse_many_bytes(info.size, settings)
        return place.read_bytes()
    except LocationError as error:
        _log.debug("%s", error)
        raise RadiographError("the file cannot be opened; check the path and the rights to it") from None


def _refuse_many_bytes(size: int, settings: RadiographSettings) -> None:
    if size > settings.max_bytes:
        raise RadiographTooLargeError(
            f"the file has {size:,} bytes, more than radiographs.max_bytes = {settings.max_bytes:,}"
        )


def _read_picture(
    data: bytes, name: str, plugin: type[ImageFile], max_pixels: int, enough: int | None
) -> Radiograph:
    try:
        image: Image = plugin(BytesIO(data))
        refuse_many_pixels(*image.size, max_pixels)
        bits, inverted = _deep_grey(image)
        if enough is not None:
            # Only a JPEG can do this; for all others it does nothing.
            image.draft(None, (enough, enough))
        image.load()
        image = _upright(image)
        if image.mode.startswith("I;16"):
            pixels = np.asarray(image).astype(np.float32) / np.float32(2**bits - 1)
            return Radiograph(np.float32(1) - pixels if inverted else pixels, bits, name)
        if image.mode in ("I", "F"):
            raise RadiographError(
                f"the {name} file holds signed, 32-bit or floating-point pixels; export it with 8 or 16 bits"
            )
        return Radiograph(_grey(image), 1 if image.mode == "1" else 8, name, coloured=_coloured(image))
    except _DAMAGED as error:
        _log.debug("Pillow could not read a %s file: %s", name, error)
        raise RadiographError(f"the {name} file is damaged or incomplete; export it again") from None


def _deep_grey(image: Image) -> tuple[int, bool]:
    """Return bits per pixel, and whether white is zero, of grey with more than 8 bits.

    Pillow inverts grey of 8 bits by itself and leaves deeper grey as it is stored.
    """
    if not isinstance(image, TiffImageFile):
        return 16, False
    return int(image.tag_v2.get(BITSPERSAMPLE, (16,))[0]), image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0


def _upright(image: Image) -> Image:
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGED:
        _log.debug("ignored unreadable EXIF data")
        return image


def _coloured(image: Image) -> float:
    """Return the share of pixels with clearly different channels, on a sample of them."""
    sample = np.asarray(image.resize((_SAMPLED, _SAMPLED), Resampling.NEAREST).convert("RGB"), np.int16)
    return float((np.ptp(sample, axis=2) > 255 * _CLEARLY).mean())


def _grey(image: Image) -> NDArray[np.float32]:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return _unit(image.convert("L")) * _unit(image.getchannel("A"))
    if image.mode == "CMYK":
        image = image.convert("RGB")
    return _unit(image.convert("L"))


def _unit(image: Image) -> NDArray[np.float32]:
    return np.asarray(image, dtype=np.float32) / np.float32(255)
