"""Reading grey single-frame DICOM radiographs in the order of the standard.

Modality LUT, then VOI LUT or window, then inversion of MONOCHROME1, then [0, 1] (DICOM PS3.3 C.11.1, C.11.2,
C.7.6.3.1.2). Only the elements listed here are read at all, so that nothing that could name a patient reaches
the rest of the program, an error or a log.
"""

import logging
import struct
import zlib
from io import BytesIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.pixels import pixel_array

from fracray.errors import RadiographError, RadiographTooLargeError

_log = logging.getLogger(__name__)

_ELEMENTS = [
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "PixelData",
]

# What pydicom and its decoders raise on damaged bytes. Their texts may quote the header and are dropped.
_DAMAGED = (
    BytesLengthException,
    InvalidDicomError,
    OSError,
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

_DEFLATED = pydicom.uid.DeflatedExplicitVRLittleEndian.encode()


def is_dicom(data: bytes) -> bool:
    """Return whether `data` begins like a DICOM file: 128 bytes of preamble, then `DICM` (PS3.10, 7.1)."""
    return data[128:132] == b"DICM"


def read_dicom(data: bytes, max_pixels: int) -> tuple[NDArray[np.float32], int, tuple[float, float] | None]:
    """Return pixels float32 `[h, w]` in [0, 1] (bright is dense), bits stored, spacing (rows, columns) in mm.

    The spacing is PixelSpacing, else ImagerPixelSpacing, else None. Raises `RadiographTooLargeError` when
    Rows x Columns exceed `max_pixels`, before decoding, and `RadiographError` for several frames, colour,
    no pixels, a deflated data set, fewer than 8 or more than 16 bits, and damaged files.
    """
    if _DEFLATED in data:
        # Inflating has no limit and happens before a size could be checked.
        raise RadiographError("a deflated DICOM file, which is not read; export it uncompressed")
    try:
        dataset = pydicom.dcmread(BytesIO(data), specific_tags=_ELEMENTS)
        _refuse_unsuitable(dataset, max_pixels)
        stored = pixel_array(dataset)
        grey = _values_of_interest(_modality(stored, dataset), dataset)
        if not np.isfinite(grey).all():
            raise ValueError("a rescale or window that is not a number")
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            grey = 1 - grey
        return grey.astype(np.float32), int(dataset.BitsStored), _spacing(dataset)
    except _DAMAGED as error:
        _log.debug("pydicom could not read a file: %s", type(error).__name__)
        raise RadiographError(
            "the DICOM file is damaged or its compression unknown; export it again"
        ) from None


def _refuse_unsuitable(dataset: pydicom.Dataset, max_pixels: int) -> None:
    if "PixelData" not in dataset:
        raise RadiographError("the DICOM file holds no picture; choose the file with the image")
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise RadiographError("the DICOM file holds several frames; export one frame as a file of its own")
    grey = dataset.PhotometricInterpretation in ("MONOCHROME1", "MONOCHROME2")
    if not grey or dataset.SamplesPerPixel != 1:
        raise RadiographError("the DICOM file holds a colour picture; export it in grey (MONOCHROME2)")
    if not 8 <= dataset.BitsStored <= 16 or dataset.BitsAllocated not in (8, 16):
        raise RadiographError("the DICOM file does not store 8 to 16 bits per pixel; export it so")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    refuse_many_pixels(columns, rows, max_pixels)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        size = _codestream_size(get_frame(dataset.PixelData, 0, number_of_frames=1))
        if size is not None and size != (rows, columns):
            raise RadiographError("the DICOM header and its picture disagree on the size; export it again")


def refuse_many_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise `RadiographTooLargeError` when a picture of `width` x `height` exceeds `max_pixels`."""
    if width * height > max_pixels:
        raise RadiographTooLargeError(
            f"the picture declares {width:,} x {height:,} pixels, "
            f"more than radiographs.max_pixels = {max_pixels:,}"
        )


def _codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Return rows and columns that a JPEG, JPEG-LS or JPEG 2000 stream declares; None for other streams.

    The decoders allocate what the stream says, whatever the DICOM header says.
    """
    start = frame.find(b"\xff\x4f\xff\x51") if frame[4:8] == b"jP  " else 0
    if frame[start : start + 4] == b"\xff\x4f\xff\x51":  # JPEG 2000: SOC, SIZ (ISO 15444-1, A.5.1)
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        return bottom - top, right - left
    if frame[:2] != b"\xff\xd8":
        return None
    place = 2
    # JPEG and JPEG-LS: the frame header (ISO 10918-1, B.2.2; ISO 14495-1, C.2.2)
    while place + 9 <= len(frame):
        marker, length = struct.unpack_from(">HH", frame, place)
        if (0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC)) or marker == 0xFFF7:
            rows, columns = struct.unpack_from(">HH", frame, place + 5)
            return rows, columns
        place += 1 if marker == 0xFFFF else 2 + length
    raise ValueError("a JPEG stream without a frame header")


def _modality(stored: NDArray[np.generic], dataset: pydicom.Dataset) -> NDArray[np.float64]:
    values = stored.astype(np.float64)
    if dataset.get("ModalityLUTSequence"):
        return _through_table(values, dataset.ModalityLUTSequence[0], dataset)
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope is not None and intercept is not None:
        values = values * float(slope) + float(intercept)
    return values


def _values_of_interest(values: NDArray[np.float64], dataset: pydicom.Dataset) -> NDArray[np.float64]:
    """Return `values` in [0, 1]: by the first VOI LUT, else the first window, else from minimum to maximum.

    Without either the range of the data counts and not that of the bits, because files often reserve more
    bits than the detector fills and would come out nearly black.
    """
    if dataset.get("VOILUTSequence"):
        item = dataset.VOILUTSequence[0]
        white = 2 ** int(item.LUTDescriptor[2]) - 1
        return np.asarray(np.clip(_through_table(values, item, dataset) / white, 0, 1))
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if centre is not None and width is not None and width > 0:
        return _window(values, centre, width, str(dataset.get("VOILUTFunction") or "LINEAR"))
    low, high = values.min(), values.max()
    return np.asarray((values - low) / (high - low)) if high > low else np.zeros_like(values)


def _window(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """Return `values` through a window of `centre` and `width` in [0, 1] (PS3.3 C.11.2.1.2, C.11.2.1.3)."""
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-4 * (values - centre) / width)))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width <= 0:
        return (values > centre).astype(np.float64)
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _through_table(
    values: NDArray[np.float64], item: pydicom.Dataset, dataset: pydicom.Dataset
) -> NDArray[np.float64]:
    """Return `values` looked up in the table of one LUT item (PS3.3 C.11.1.1, C.11.2.1.1).

    Not `pydicom.pixels.apply_voi_lut`: it counts the entries in their own type, so that a table of more than
    256 entries of 8 bits wraps around.
    """
    count, first = int(item.LUTDescriptor[0]) or 2**16, int(item.LUTDescriptor[1])
    entries = item.LUTData
    if isinstance(entries, bytes):
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        entries = np.frombuffer(entries, dtype="u1" if len(entries) == count else f"{order}u2")
    table = np.asarray(entries, dtype=np.float64)
    index = np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.intp)
    return np.asarray(table[index])


def _first(value: object) -> float | None:
    if isinstance(value, MultiValue):
        value = value[0] if value else None
    return None if value is None or value == "" else float(value)  # type: ignore[arg-type]


def _spacing(dataset: pydicom.Dataset) -> tuple[float, float] | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        try:
            rows, columns = (float(number) for number in dataset.get(keyword) or ())
        except (ValueError, TypeError):
            continue
        if rows > 0 and columns > 0:
            return rows, columns
    return None
