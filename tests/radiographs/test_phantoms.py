from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
from PIL import Image

from fracray.errors import UsageError
from fracray.radiographs.phantoms import contact_sheet, make_phantom, write_phantoms
from fracray.radiographs.phantoms.attenuation import resized
from fracray.radiographs.phantoms.geometry import Tube, View, chords, patch, profile
from fracray.radiographs.phantoms.scene import build_scene

SMALL = 160
REFERENCE = {
    101: [
        [6.9, 2.6, 11.0, 51.0, 89.1, 90.2, 53.7, 5.1],
        [6.0, 3.2, 23.7, 60.7, 81.7, 82.6, 48.2, 4.8],
        [4.9, 4.8, 38.9, 72.2, 96.6, 98.2, 56.5, 5.2],
        [6.0, 10.8, 51.1, 80.5, 96.7, 98.4, 55.6, 5.6],
        [7.2, 17.8, 64.3, 83.4, 101.6, 98.7, 51.8, 4.7],
        [8.5, 26.2, 76.9, 91.5, 99.9, 101.1, 59.1, 11.9],
        [12.2, 26.5, 59.5, 80.7, 85.8, 95.4, 51.7, 13.3],
        [14.9, 18.8, 26.4, 28.1, 30.3, 48.2, 36.3, 10.6],
    ],
    102: [
        [92.9, 68.8, 27.9, 3.7, 0.0, 0.0, 0.0, 0.0],
        [99.3, 83.6, 50.7, 12.4, 0.1, 0.0, 0.0, 0.0],
        [99.9, 106.6, 70.0, 22.9, 3.3, 0.0, 0.0, 0.0],
        [114.1, 118.1, 90.5, 38.5, 11.4, 0.0, 0.0, 0.0],
        [133.1, 136.8, 125.3, 62.5, 21.5, 0.4, 0.1, 0.1],
        [155.9, 147.3, 132.5, 85.0, 34.4, 3.0, 0.6, 0.7],
        [117.8, 116.9, 131.5, 106.5, 51.5, 9.7, 1.6, 1.7],
        [75.2, 75.3, 81.3, 84.4, 38.9, 13.0, 1.8, 1.9],
    ],
    103: [
        [88.6, 104.2, 137.7, 147.1, 158.4, 170.2, 151.8, 82.2],
        [94.2, 126.2, 125.0, 148.5, 154.4, 144.6, 156.8, 67.5],
        [99.7, 143.5, 125.7, 137.9, 163.4, 125.6, 161.5, 67.2],
        [123.5, 138.4, 142.4, 128.1, 169.4, 119.1, 164.7, 67.0],
        [146.3, 138.0, 159.2, 140.5, 163.7, 136.8, 156.3, 85.0],
        [123.5, 89.0, 137.6, 111.1, 148.2, 116.9, 150.7, 76.5],
        [87.0, 81.9, 102.3, 78.0, 124.8, 61.1, 128.6, 46.9],
        [35.4, 60.5, 57.4, 51.9, 69.4, 28.0, 78.1, 26.9],
    ],
    104: [
        [36.5, 81.3, 122.5, 114.8, 86.5, 51.8, 5.9, 4.0],
        [27.6, 77.0, 115.9, 123.2, 85.1, 51.9, 5.1, 3.5],
        [20.4, 79.5, 143.8, 166.2, 114.1, 51.2, 4.3, 3.1],
        [17.6, 73.4, 112.7, 135.6, 95.8, 50.2, 4.3, 2.7],
        [14.7, 61.7, 97.2, 106.5, 83.9, 49.3, 5.2, 2.3],
        [11.5, 58.3, 98.1, 92.4, 80.8, 49.7, 5.9, 2.0],
        [6.2, 50.8, 92.0, 89.6, 76.8, 46.5, 4.2, 1.7],
        [2.6, 35.1, 81.3, 84.6, 66.7, 36.3, 2.2, 1.5],
    ],
}


def thumbnail(pixels: np.ndarray, size: int = 8) -> np.ndarray:
    """Mean grey values (0 to 255) of size x size areas."""
    rows = np.array_split(np.arange(pixels.shape[0]), size)
    columns = np.array_split(np.arange(pixels.shape[1]), size)
    return np.array([[pixels[np.ix_(r, c)].mean() * 255 for c in columns] for r in rows])


def first_with(kind: str) -> int:
    scenes = ((seed, build_scene(seed, True).fracture) for seed in range(500, 600))
    return next(seed for seed, fracture in scenes if fracture is not None and fracture.kind == kind)


def test_same_seed_gives_the_same_pixels() -> None:
    one, two = make_phantom(11, long_side=SMALL), make_phantom(11, long_side=SMALL)
    np.testing.assert_array_equal(one.pixels, two.pixels)
    assert one.truth == two.truth
    assert not np.array_equal(one.pixels, make_phantom(12, long_side=SMALL).pixels)


def test_pixels_are_float32_from_0_to_1_with_the_long_side_asked_for() -> None:
    for seed in range(8):
        phantom = make_phantom(seed, long_side=SMALL)
        assert phantom.pixels.dtype == np.float32
        assert max(phantom.pixels.shape) == SMALL
        assert phantom.mask.shape == phantom.pixels.shape
        assert phantom.pixels.min() >= 0
        assert phantom.pixels.max() <= 1
        assert phantom.pixels.std() > 0.05
        assert 0.2 < phantom.pixel_spacing_mm < 2


@pytest.mark.parametrize("seed", [3, 21, 40])
def test_a_coarse_picture_is_the_average_of_a_fine_one(seed: int) -> None:
    coarse, fine = make_phantom(seed, long_side=128), make_phantom(seed, long_side=512)
    shrunk = resized(fine.pixels, *coarse.pixels.shape)
    assert np.abs(shrunk - coarse.pixels).mean() < 0.02
    assert fine.pixel_spacing_mm == pytest.approx(coarse.pixel_spacing_mm / 4)
    assert fine.truth.kind == coarse.truth.kind


@pytest.mark.parametrize("kind", ["hairline", "buckle", "transverse", "oblique", "spiral"])
def test_the_fracture_is_where_the_mask_says(kind: str) -> None:
    seed = first_with(kind)
    broken, sound = (make_phantom(seed, fractured=f, long_side=384) for f in (True, False))
    change = np.abs(broken.pixels - sound.pixels)
    here = change[broken.mask].mean()
    xmin, ymin, xmax, ymax = broken.truth.box or (0, 0, 0, 0)
    away = np.ones_like(broken.mask)
    away[max(ymin - 8, 0) : ymax + 8, max(xmin - 8, 0) : xmax + 8] = False
    assert here > 1.3 * change[away].mean()


def test_the_box_encloses_the_mask_tightly() -> None:
    for seed in range(6):
        phantom = make_phantom(seed, fractured=True, long_side=SMALL)
        assert phantom.truth.box is not None
        xmin, ymin, xmax, ymax = phantom.truth.box
        inside = phantom.mask[ymin:ymax, xmin:xmax]
        assert inside.sum() == phantom.mask.sum() > 0
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_a_sound_phantom_has_no_fracture_in_its_truth() -> None:
    phantom = make_phantom(5, fractured=False, long_side=SMALL)
    truth = phantom.truth
    assert not phantom.mask.any()
    assert truth.label == 0
    assert (truth.bone, truth.place, truth.kind, truth.box, truth.displacement_mm, truth.angulation_deg) == (
        None,
    ) * 6


def test_seeds_show_every_kind_region_and_lookalike_and_about_31_percent_are_fractured() -> None:
    scenes = [build_scene(seed, None) for seed in range(300)]
    broken = [scene for scene in scenes if scene.fracture is not None]
    assert 0.24 < len(broken) / len(scenes) < 0.38
    assert len({scene.fracture.kind for scene in broken if scene.fracture}) == 7
    assert len({scene.region for scene in scenes}) == 8
    for group in (broken, [scene for scene in scenes if scene.fracture is None]):
        seen = {name for scene in group for name in scene.lookalikes}
        assert {"nutrient canal", "growth plate", "skin fold", "accessory ossicle", "healed fracture"} <= seen


def test_hairlines_buckles_and_greensticks_are_not_displaced() -> None:
    for kind in ("hairline", "buckle", "greenstick"):
        assert make_phantom(first_with(kind), fractured=True, long_side=SMALL).truth.displacement_mm == 0
    assert (
        make_phantom(first_with("oblique"), fractured=True, long_side=SMALL).truth.displacement_mm or 0
    ) > 0


def test_a_straight_hollow_tube_has_the_chords_of_two_ellipses() -> None:
    tube = Tube("bone", (0, -100), (0, 100), ((0, 10, 10), (1, 10, 10)), depth=0.8, cortex=3.0)
    view = View(height=9, width=61, pixel=0.5, centre=(0.0, 0.0), angle=0.0, mirrored=False)
    area = patch(view, tube.start, tube.end, 20)
    assert area is not None
    compact, marrow, _ = chords(profile(tube), area.s, area.u)
    u = area.u[4]
    outer = 2 * 8 * np.sqrt(np.clip(1 - (u / 10) ** 2, 0, None))
    inner = 2 * 5 * np.sqrt(np.clip(1 - (u / 7) ** 2, 0, None))
    np.testing.assert_allclose(marrow[4], inner, atol=0.02)
    np.testing.assert_allclose(compact[4] + marrow[4], outer, atol=0.02)


@pytest.mark.parametrize(("seed", "expected"), sorted(REFERENCE.items()))
def test_pixels_stay_what_they_were(seed: int, expected: list[list[float]]) -> None:
    found = thumbnail(make_phantom(seed, fractured=seed % 2 == 0, long_side=SMALL).pixels)
    np.testing.assert_allclose(found, expected, atol=1.0)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    seen: list[int] = []
    folder = tmp_path_factory.mktemp("phantoms") / "set"
    write_phantoms(folder, count=9, fractured=4, seed=803, on_written=seen.append)
    assert seen == list(range(1, 10))
    return folder


def test_the_truth_table_fits_the_files(written: Path) -> None:
    rows = pq.read_table(written / "truth.parquet").to_pylist()
    assert len(rows) == 9
    assert sum(row["label"] for row in rows) == 4
    files = {str(path.relative_to(written)) for place in ("Fractured", "Non-Fractured")
             for path in (written / place).iterdir()}  # fmt: skip
    assert files == {row["file"] for row in rows}
    for row in rows:
        assert row["file"].startswith("Fractured/" if row["label"] else "Non-Fractured/")
        mask = written / "masks" / f"{Path(row['file']).stem}.png"
        assert mask.exists() == bool(row["label"])
        if row["label"]:
            with Image.open(mask) as image:
                assert image.mode == "1"
                assert image.getbbox() == (row["xmin"], row["ymin"], row["xmax"], row["ymax"])


def test_every_format_is_written_and_shows_the_phantom(written: Path) -> None:
    depths = set()
    for row in pq.read_table(written / "truth.parquet").to_pylist():
        path = written / row["file"]
        if path.suffix == ".dcm":
            data = pydicom.dcmread(path)
            grey = data.pixel_array / 4095
            if data.PhotometricInterpretation == "MONOCHROME1":
                grey = 1 - grey
            assert data.BitsStored == 12
            assert not data.PatientName
            assert float(data.PixelSpacing[0]) == pytest.approx(row["pixel_spacing_mm"], abs=1e-5)
            depths.add(str(data.PhotometricInterpretation))
        else:
            with Image.open(path) as image:
                depth = "16" if image.mode.startswith("I") else "8"
                depths.add(f"{image.format} {depth}")
                grey = np.asarray(image) / (65535 if depth == "16" else 255)
        expected = make_phantom(row["seed"], fractured=bool(row["label"])).pixels
        assert grey.shape == expected.shape
        assert np.abs(grey - expected).mean() < 0.015
    assert depths == {"PNG 8", "PNG 16", "JPEG 8", "MONOCHROME1", "MONOCHROME2"}


@pytest.mark.parametrize(("count", "fractured", "seed"), [(3, 4, 0), (0, 0, 0), (3, -1, 0), (3, 1, -5)])
def test_numbers_that_do_not_fit_are_refused(tmp_path: Path, count: int, fractured: int, seed: int) -> None:
    with pytest.raises(UsageError):
        write_phantoms(tmp_path / "set", count=count, fractured=fractured, seed=seed)
    assert not (tmp_path / "set").exists()


def test_a_folder_with_files_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="empty"):
        write_phantoms(tmp_path, count=1, fractured=0, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_seeds_and_sizes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError):
        make_phantom(-1)
    with pytest.raises(UsageError):
        make_phantom(1, long_side=8)
    with pytest.raises(UsageError):
        contact_sheet([])


def test_a_contact_sheet_holds_its_tiles() -> None:
    assert contact_sheet([1, 2, 3], columns=2, tile=100).size == (200, 228)
