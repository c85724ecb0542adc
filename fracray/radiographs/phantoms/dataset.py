"""Phantoms as files, like a hospital's export: mixed formats, class folders, a table of the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from fracray.errors import UsageError
from fracray.radiographs.phantoms.phantom import Phantom, make_phantom
from fracray.schema import PHANTOM_TRUTH

FORMATS = ("png8", "png16", "jpeg", "dicom", "dicom-inverted")
_SHARES = (0.3, 0.15, 0.3, 0.17, 0.08)
_UID_ROOT = "2.25."


def write_phantoms(
    folder: Path, *, count: int, fractured: int, seed: int, on_written: Callable[[int], None] | None = None
) -> Path:
    """Write `count` phantoms, `fractured` of them fractured, and return `folder`.

    The radiographs go to `Fractured/` and `Non-Fractured/` as 8 and 16 bit PNG, JPEG and 12 bit DICOM, the
    truth to `truth.parquet` (schema PHANTOM_TRUTH), the fractures' masks to `masks/` as 1 bit PNG. Phantom i
    has the seed `seed` + i. `on_written` receives the number written so far. Raises `UsageError` when the
    numbers do not fit or the folder holds something already.
    """
    if count < 1:
        raise UsageError(f"cannot write {count} phantoms; ask for at least 1")
    if not 0 <= fractured <= count:
        raise UsageError(
            f"cannot make {fractured} of {count} phantoms fractured; give a number from 0 to {count}"
        )
    if seed < 0:
        raise UsageError(f"phantom seed {seed} is negative; give a number from 0 on")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not an empty folder; choose a new one, phantoms never overwrite files")
    for name in ("Fractured", "Non-Fractured", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    chosen = np.random.Generator(np.random.PCG64([seed, count])).permutation(count)[:fractured]
    broken = set(chosen.tolist())
    rows = []
    for i in range(count):
        phantom = make_phantom(seed + i, fractured=i in broken)
        rows.append(_written(phantom, folder, f"phantom-{i:06d}"))
        if on_written is not None:
            on_written(i + 1)
    pq.write_table(pa.Table.from_pylist(rows, schema=PHANTOM_TRUTH), folder / "truth.parquet")
    return folder


def _written(phantom: Phantom, folder: Path, stem: str) -> dict[str, object]:
    truth = phantom.truth
    draw = np.random.Generator(np.random.PCG64([truth.seed, 1]))
    form = FORMATS[int(draw.choice(len(FORMATS), p=_SHARES))]
    place = "Fractured" if truth.label else "Non-Fractured"
    name = f"{place}/{stem}.{ {'png8': 'png', 'png16': 'png', 'jpeg': 'jpg'}.get(form, 'dcm') }"
    path = folder / name
    if form == "png8":
        Image.fromarray(quantised(phantom.pixels, 8).astype(np.uint8)).save(path)
    elif form == "png16":
        Image.fromarray(quantised(phantom.pixels, 16)).save(path)
    elif form == "jpeg":
        Image.fromarray(quantised(phantom.pixels, 8).astype(np.uint8)).save(path, quality=90)
    else:
        _write_dicom(phantom, path, inverted=form == "dicom-inverted")
    if truth.label:
        Image.fromarray(phantom.mask).save(folder / "masks" / f"{stem}.png")
    xmin, ymin, xmax, ymax = truth.box or (None, None, None, None)
    return {
        "file": name,
        "seed": truth.seed,
        "label": truth.label,
        "region": truth.region,
        "projection": truth.projection,
        "bone": truth.bone,
        "place": truth.place,
        "kind": truth.kind,
        "xmin": xmin,
        "ymin": ymin,
        "xmax": xmax,
        "ymax": ymax,
        "displacement_mm": truth.displacement_mm,
        "angulation_deg": truth.angulation_deg,
        "lookalikes": list(truth.lookalikes),
        "soft_tissue_swelling": truth.soft_tissue_swelling,
        "hardware": truth.hardware,
        "pixel_spacing_mm": phantom.pixel_spacing_mm,
    }


def quantised(pixels: NDArray[np.float32], bits: int) -> NDArray[np.uint16]:
    """Grey values 0 to 1 as whole numbers 0 to 2**bits - 1, `[H, W]`."""
    levels = np.rint(np.clip(pixels, 0, 1) * np.float32(2**bits - 1))
    return np.asarray(levels, dtype=np.uint16)


def _write_dicom(phantom: Phantom, path: Path, *, inverted: bool) -> None:
    stored = quantised(phantom.pixels, 12)
    if inverted:
        stored = np.asarray(4095 - stored, np.uint16)
    seed = phantom.truth.seed
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    data.SOPClassUID = DigitalXRayImageStorageForPresentation
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{_UID_ROOT}{3 * 10**20 + seed}"
    data.StudyInstanceUID = f"{_UID_ROOT}{10**20 + seed}"
    data.SeriesInstanceUID = f"{_UID_ROOT}{2 * 10**20 + seed}"
    data.Modality = "DX"
    data.PresentationIntentType = "FOR PRESENTATION"
    data.PatientID = f"PHANTOM-{seed}"
    data.PatientName = ""
    data.ImageComments = "Synthetic phantom, not a patient"
    data.ImageType = ["DERIVED", "PRIMARY"]
    data.Rows, data.Columns = stored.shape
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelSpacing = [f"{phantom.pixel_spacing_mm:.6f}"] * 2
    data.WindowCenter, data.WindowWidth = "2047.5", "4096"
    data.PixelData = stored.astype("<u2").tobytes()
    data.save_as(path, enforce_file_format=True)


def contact_sheet(seeds: Sequence[int], columns: int = 6, tile: int = 224) -> Image.Image:
    """Phantoms of the given seeds, each squeezed to `tile` pixels square under a line of its truth."""
    if not seeds:
        raise UsageError("a contact sheet needs at least one phantom seed")
    title = 14
    rows = -(-len(seeds) // columns)
    sheet = Image.new("L", (columns * tile, rows * (tile + title)))
    pen = ImageDraw.Draw(sheet)
    for i, seed in enumerate(seeds):
        phantom = make_phantom(seed, long_side=max(256, tile))
        picture = Image.fromarray(quantised(phantom.pixels, 8).astype(np.uint8))
        x, y = (i % columns) * tile, (i // columns) * (tile + title)
        sheet.paste(picture.resize((tile, tile), Image.Resampling.BILINEAR), (x, y + title))
        truth = phantom.truth
        pen.text(
            (x + 2, y + 1),
            f"{seed} {truth.kind or 'sound'}, {truth.bone or truth.region}"[: tile // 6],
            fill=255,
        )
    return sheet
