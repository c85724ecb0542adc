"""DICOM pixels pass modality LUT, VOI LUT or window, inversion and scaling, in that order."""

import logging
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import apply_modality_lut, apply_windowing
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid

from fracray.config import RadiographSettings
from fracray.errors import RadiographError, RadiographTooLargeError
from fracray.radiographs.read import read_radiograph

SETTINGS = RadiographSettings()
STORED = np.arange(0, 4096, 64, dtype=np.uint16).reshape(8, 8)
NAME = "Doe^Jane"


def made(stored: NDArray[Any] = STORED, **elements: Any) -> Dataset:
    """A grey dataset as a detector would write it: 12 bits in 16, a patient's name, no window."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", generate_uid()
    dataset.PatientName, dataset.PatientID = NAME, "4711"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = stored.dtype.itemsize * 8
    dataset.BitsStored = 12 if stored.dtype.itemsize == 2 else 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def file_of(dataset: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        dataset.SOPClassUID,
        dataset.SOPInstanceUID,
    )
    buffer = BytesIO()
    FileDataset(None, dataset, preamble=bytes(128), file_meta=meta).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def pixels_of(dataset: Dataset) -> NDArray[np.float32]:
    return read_radiograph(file_of(dataset), SETTINGS).pixels


def table(entries: list[int], first: int, bits: int, kind: str = "OW") -> list[Dataset]:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    if kind == "US":
        item.add_new("LUTData", kind, entries)
    else:
        item.add_new("LUTData", kind, np.array(entries, dtype="u1" if kind == "OB" else "<u2").tobytes())
    return [item]


def test_without_a_window_the_range_of_the_data_counts() -> None:
    radiograph = read_radiograph(file_of(made()), SETTINGS)
    np.testing.assert_allclose(radiograph.pixels, STORED / STORED.max(), atol=1e-6)
    assert (radiograph.format, radiograph.bits, str(radiograph.pixels.dtype)) == ("DICOM", 12, "float32")


def test_monochrome1_is_the_negative_of_monochrome2() -> None:
    window: dict[str, Any] = {"WindowCenter": 1000, "WindowWidth": 1500}
    dense = pixels_of(made(**window))
    inverted = pixels_of(made(PhotometricInterpretation="MONOCHROME1", **window))
    np.testing.assert_allclose(inverted, 1 - dense, atol=1e-6)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (2.5, -1024)])
def test_windows_agree_with_pydicom(function: str | None, slope: float, intercept: float) -> None:
    extra: dict[str, Any] = {"VOILUTFunction": function} if function else {}
    dataset = made(
        WindowCenter=900, WindowWidth=1200, RescaleSlope=slope, RescaleIntercept=intercept, **extra
    )
    theirs = apply_windowing(apply_modality_lut(STORED, dataset), dataset)
    darkest, brightest = intercept, 4095 * slope + intercept
    np.testing.assert_allclose(pixels_of(dataset), (theirs - darkest) / (brightest - darkest), atol=1e-6)


def test_the_first_of_several_windows_counts() -> None:
    several = pixels_of(made(WindowCenter=[1000, 3000], WindowWidth=[500, 100]))
    np.testing.assert_array_equal(several, pixels_of(made(WindowCenter=1000, WindowWidth=500)))


def test_a_window_one_value_wide_is_a_threshold() -> None:
    np.testing.assert_array_equal(pixels_of(made(WindowCenter=2000, WindowWidth=1)), STORED > 1999.5)


def test_a_window_of_no_width_is_ignored() -> None:
    np.testing.assert_array_equal(pixels_of(made(WindowCenter=2000, WindowWidth=0)), pixels_of(made()))


def test_signed_values() -> None:
    signed = STORED.astype(np.int16) - 2000
    np.testing.assert_allclose(pixels_of(made(signed)), STORED / STORED.max(), atol=1e-6)
    windowed = pixels_of(made(signed, WindowCenter=0.5, WindowWidth=1001))
    np.testing.assert_allclose(windowed, np.clip(signed / 1000 + 0.5, 0, 1), atol=1e-6)


@pytest.mark.parametrize("kind", ["OW", "US", "OB"])
def test_a_voi_table_of_8_bits_with_many_entries(kind: str) -> None:
    entries = [min(255, value // 8) for value in range(4096)]
    dataset = made(VOILUTSequence=table(entries, 0, 8, kind), WindowCenter=1, WindowWidth=1)
    np.testing.assert_allclose(pixels_of(dataset), np.minimum(255, STORED // 8) / 255, atol=1e-6)


def test_values_outside_a_voi_table_take_its_ends() -> None:
    pixels = pixels_of(made(VOILUTSequence=table([100, 200, 65535], 1000, 16)))
    np.testing.assert_allclose(pixels, np.where(STORED <= 1000, 100 / 65535, 1.0), atol=1e-6)


def test_a_modality_table_comes_before_the_window() -> None:
    entries = [value // 2 for value in range(4096)]
    dataset = made(ModalityLUTSequence=table(entries, 0, 16), WindowCenter=1000.5, WindowWidth=1001)
    np.testing.assert_allclose(pixels_of(dataset), np.clip((STORED // 2 - 500.0) / 1000, 0, 1), atol=1e-6)


def test_8_bits() -> None:
    radiograph = read_radiograph(file_of(made(np.arange(256, dtype=np.uint8).reshape(16, 16))), SETTINGS)
    assert radiograph.bits == 8
    np.testing.assert_allclose(radiograph.pixels.ravel(), np.arange(256) / 255, atol=1e-6)


def test_an_even_picture_is_black() -> None:
    assert pixels_of(made(np.full((4, 4), 700, dtype=np.uint16))).max() == 0


@pytest.mark.parametrize(
    ("elements", "spacing"),
    [
        ({}, None),
        ({"ImagerPixelSpacing": [0.2, 0.1]}, (0.2, 0.1)),
        ({"ImagerPixelSpacing": [0.2, 0.1], "PixelSpacing": [0.15, 0.14]}, (0.15, 0.14)),
        ({"PixelSpacing": [0, 0]}, None),
    ],
)
def test_pixel_spacing_is_kept(elements: dict[str, Any], spacing: tuple[float, float] | None) -> None:
    assert read_radiograph(file_of(made(**elements)), SETTINGS).pixel_spacing_mm == spacing


# Files that come inside pydicom, with values of their pixels that pydicom documents.
@pytest.mark.parametrize(
    ("name", "window", "place", "value"),
    [
        ("MR_small.dcm", (600, 1600), (0, 31), 422),
        ("MR_small_RLE.dcm", (600, 1600), (0, 31), 422),
        ("MR_small_jp2klossless.dcm", (600, 1600), (0, 31), 422),
        ("MR_small_jpeg_ls_lossless.dcm", (600, 1600), (31, 0), 366),
        ("MR_small_bigendian.dcm", (600, 1600), (31, 0), 366),
        ("MR_small_implicit.dcm", (600, 1600), (-1, -1), 862),
    ],
)
def test_files_of_pydicom(name: str, window: tuple[int, int], place: tuple[int, int], value: int) -> None:
    pixels = read_radiograph(bundled_file(name), SETTINGS).pixels
    assert pixels.shape == (64, 64)
    expected = np.clip((value - (window[0] - 0.5)) / (window[1] - 1) + 0.5, 0, 1)
    assert pixels[place] == pytest.approx(expected, abs=1e-6)


def test_a_ct_without_window_is_scaled_by_its_data() -> None:
    pixels = read_radiograph(bundled_file("CT_small.dcm"), SETTINGS).pixels
    theirs = pydicom.dcmread(BytesIO(bundled_file("CT_small.dcm"))).pixel_array.astype(np.float64)
    np.testing.assert_allclose(pixels, (theirs - theirs.min()) / np.ptp(theirs), atol=1e-6)


def bundled_file(name: str) -> bytes:
    path = get_testdata_file(name, download=False)
    assert path is not None
    return Path(str(path)).read_bytes()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("examples_ybr_color.dcm", "several frames"),
        ("SC_rgb_rle.dcm", "colour picture"),
        ("examples_palette.dcm", "colour picture"),
        ("rtplan.dcm", "holds no picture"),
        ("test-SR.dcm", "holds no picture"),
        ("liver_1frame.dcm", "8 to 16 bits"),
        ("rtdose_1frame.dcm", "8 to 16 bits"),
        ("MR_truncated.dcm", "damaged"),
        ("image_dfl.dcm", "deflated"),
    ],
)
def test_what_is_no_grey_picture_is_refused(name: str, reason: str) -> None:
    with pytest.raises(RadiographError, match=reason):
        read_radiograph(bundled_file(name), SETTINGS)


def test_declared_size_is_checked_before_decoding() -> None:
    huge = made(Rows=65535, Columns=65535)
    with pytest.raises(RadiographTooLargeError, match="65,535 x 65,535"):
        read_radiograph(file_of(huge), SETTINGS)


@pytest.mark.parametrize(
    ("name", "where"),
    [("MR_small_jp2klossless.dcm", b"\xff\x4f\xff\x51"), ("JPGExtended.dcm", b"\xff\xc1")],
)
def test_a_stream_larger_than_its_header_says_is_refused(name: str, where: bytes) -> None:
    dataset = pydicom.dcmread(BytesIO(bundled_file(name)))
    frame = bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    place = frame.index(where)
    if where == b"\xff\xc1":
        frame[place + 5 : place + 9] = b"\xff\xff\xff\xff"
    else:
        frame[place + 8 : place + 16] = bytes([0, 1, 0, 0] * 2)
    dataset.PixelData = encapsulate([bytes(frame)])
    buffer = BytesIO()
    dataset.save_as(buffer)
    with pytest.raises(RadiographError, match="disagree on the size"):
        read_radiograph(buffer.getvalue(), SETTINGS)


def test_nothing_that_names_a_patient_comes_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    whole = file_of(made(PatientComments=NAME, WindowCenter=1000, WindowWidth=100))
    assert NAME.encode() in whole
    texts = [repr(read_radiograph(whole, SETTINGS))]
    for damaged in (whole[:-40], whole.replace(b"MONOCHROME2 ", NAME.encode().ljust(12))):
        with pytest.raises(RadiographError) as caught:
            read_radiograph(damaged, SETTINGS)
        texts.append(str(caught.value))
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert not any("Doe" in text or "Jane" in text or "4711" in text for text in [*texts, caplog.text])


def test_a_deflated_file_is_not_inflated() -> None:
    with pytest.raises(RadiographError, match="deflated"):
        read_radiograph(file_of(made(), DeflatedExplicitVRLittleEndian), SETTINGS)
