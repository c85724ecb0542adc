"""Every file of a class folder, or line of a CSV, becomes one row; groups and folds follow."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset

from fracray.config import RadiographSettings
from fracray.errors import ManifestError
from fracray.fingerprint import image_id
from fracray.radiographs.manifest import build_manifest
from fracray.schema import MANIFEST, check
from tests.radiographs.drawing import drawn_bones

SETTINGS = RadiographSettings(folds=2)


def save(path: Path, picture: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((picture * 255).astype(np.uint8)).save(path)


def save_dicom(path: Path, picture: NDArray[np.float32]) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(), "1.2.3"
    dataset = FileDataset(None, {}, preamble=bytes(128), file_meta=meta)
    dataset.Rows, dataset.Columns = picture.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME1"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = np.uint16((1 - picture) * 4095).tobytes()
    dataset.save_as(path, enforce_file_format=True)


def rows_of(table: pa.Table) -> dict[str, dict[str, object]]:
    return {Path(row["uri"]).name: row for row in check(table, MANIFEST, "manifest").to_pylist()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(4):
        save(tmp_path / ("Fractured" if seed % 2 else "Non-Fractured") / f"{seed}.png", drawn_bones(seed))
    return tmp_path


def test_every_file_of_a_class_folder_is_a_row_readable_or_not(folder: Path) -> None:
    broken = folder / "Fractured" / "left wrist"
    save(broken / "cut.jpg", drawn_bones(10))
    (broken / "cut.jpg").write_bytes((broken / "cut.jpg").read_bytes()[:700])
    (broken / "note.txt").write_text("seen by the night shift")
    (broken / "empty.png").touch()
    Image.fromarray((drawn_bones(11) * 65535).astype(np.uint16)).save(broken / "deep.png")
    save_dicom(broken / "inverted.dcm", drawn_bones(12, height=120, width=90))
    progress: list[tuple[int, int]] = []
    table = build_manifest(folder, SETTINGS, 7, on_file=lambda done, total: progress.append((done, total)))
    rows = rows_of(table)
    assert progress == [(done, 9) for done in range(1, 10)]
    for name, reason in (
        ("cut.jpg", "damaged or incomplete"),
        ("note.txt", "not a PNG"),
        ("empty.png", "file is empty"),
    ):
        row = rows.pop(name)
        assert reason in str(row["reason"])
        assert (row["status"], row["label"], row["fold"], row["image_id"], row["bits"]) == (
            "unreadable", 1, None, None, None,
        )  # fmt: skip
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert {row["reason"] for row in rows.values()} == {None}
    deep, inverted = rows["deep.png"], rows["inverted.dcm"]
    assert [deep[name] for name in ("width", "height", "bits", "format")] == [160, 200, 16, "PNG"]
    assert [inverted[name] for name in ("width", "height", "bits", "format")] == [90, 120, 12, "DICOM"]
    assert deep["image_id"] == image_id((broken / "deep.png").read_bytes())
    assert len({row["group"] for row in rows.values()}) == 6
    for fold in (0, 1):
        assert {row["label"] for row in rows.values() if row["fold"] == fold} == {0, 1}


def test_what_looks_wrong_is_noted_and_changes_nothing_else(folder: Path) -> None:
    save(folder / "Fractured" / "film.png", np.full((100, 300), 0.1, np.float32))
    rows = rows_of(build_manifest(folder, SETTINGS, 7))
    film = rows.pop("film.png")
    noted = [warning.partition(":")[0] for warning in str(film["warnings"]).split("; ")]
    assert noted == ["tiny", "blank", "too dark"]
    assert film["status"] == "ok"
    assert film["fold"] is not None
    assert {row["warnings"] for row in rows.values()} == {None}


def test_files_elsewhere_are_left_out_and_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(folder / "masks" / "0.png", drawn_bones(20))
    (folder / "truth.parquet").touch()
    (folder / "Fractured" / ".hidden").touch()
    (folder / "Fractured" / "Thumbs.db").touch()
    with caplog.at_level(logging.WARNING):
        table = build_manifest(folder, SETTINGS, 7)
    assert sorted(rows_of(table)) == ["0.png", "1.png", "2.png", "3.png"]
    assert "'masks' (1)" in caplog.text


def test_flipped_and_turned_copies_share_a_group_and_a_fold(folder: Path) -> None:
    original = drawn_bones(1)
    save(folder / "Fractured" / "flipped.png", original[:, ::-1])
    save(folder / "Fractured" / "turned.png", np.rot90(original))
    rows = rows_of(build_manifest(folder, SETTINGS, 7))
    copies = [rows[name] for name in ("1.png", "flipped.png", "turned.png")]
    assert {row["status"] for row in copies} == {"ok"}
    assert len({(row["group"], row["fold"]) for row in copies}) == 1
    assert len({row["group"] for row in rows.values()}) == 4
    assert copies[0]["group"] == min(str(row["image_id"]) for row in copies)[:16]


def test_the_same_bytes_again_are_a_duplicate(folder: Path) -> None:
    (folder / "Fractured" / "z.png").write_bytes((folder / "Fractured" / "1.png").read_bytes())
    rows = rows_of(build_manifest(folder, SETTINGS, 7))
    assert (rows["1.png"]["status"], rows["z.png"]["status"], rows["z.png"]["fold"]) == (
        "ok",
        "duplicate",
        None,
    )
    assert str(rows["z.png"]["reason"]).endswith("1.png")
    assert rows["z.png"]["group"] == rows["1.png"]["group"]


def test_the_same_bytes_under_both_labels_get_no_fold(folder: Path) -> None:
    save(folder / "Fractured" / "a.png", drawn_bones(30))
    (folder / "Non-Fractured" / "b.png").write_bytes((folder / "Fractured" / "a.png").read_bytes())
    rows = rows_of(build_manifest(folder, SETTINGS, 7))
    for name, other in (("a.png", "b.png"), ("b.png", "a.png")):
        assert (rows[name]["status"], rows[name]["fold"]) == ("duplicate", None)
        assert f"{other}, which has the other label" in str(rows[name]["reason"])


def test_labels_of_folders_can_be_given(tmp_path: Path) -> None:
    for seed in range(4):
        save(tmp_path / ("Befund A" if seed % 2 else "normal") / f"{seed}.png", drawn_bones(seed))
    table = build_manifest(tmp_path, SETTINGS, 7, label_folders={"befund_a": 1})
    assert [row["label"] for row in rows_of(table).values()] == [1, 1, 0, 0]
    with pytest.raises(ManifestError, match="'befundb'"):
        build_manifest(tmp_path, SETTINGS, 7, label_folders={"Befund B": 1})


def test_the_nearest_class_folder_counts(tmp_path: Path) -> None:
    for seed in range(4):
        save(tmp_path / "positive" / ("normal" if seed % 2 else "hand") / f"{seed}.png", drawn_bones(seed))
    labels = {name: row["label"] for name, row in rows_of(build_manifest(tmp_path, SETTINGS, 7)).items()}
    assert labels == {"0.png": 1, "1.png": 0, "2.png": 1, "3.png": 0}


def test_a_csv_gives_paths_labels_and_groups(folder: Path) -> None:
    for seed in (4, 5):
        save(folder / "more" / f"{seed}.png", drawn_bones(seed))
    save(folder / "more" / "6.png", drawn_bones(4)[:, ::-1])
    lines = [
        "path,label,group",
        "Non-Fractured/0.png,0,anna",
        "Fractured/1.png,fractured,anna",
        f"{folder / 'Non-Fractured' / '2.png'},no fracture,",
        f"{(folder / 'Fractured' / '3.png').as_uri()},1,",
        "more/4.png,1,bert",
        "more/5.png,,cleo",
        "more/6.png,1,cleo",
        "more/none.png,1,",
    ]
    (folder / "list.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    rows = rows_of(build_manifest(folder / "list.csv", SETTINGS, 7))
    assert [row["label"] for row in rows.values()] == [0, 1, 0, 1, 1, None, 1, 1]
    assert rows["0.png"]["group"] == rows["1.png"]["group"]
    assert rows["4.png"]["group"] == rows["5.png"]["group"] == rows["6.png"]["group"]
    assert len({row["group"] for row in rows.values()}) == 5
    assert (rows["5.png"]["status"], rows["5.png"]["fold"]) == ("ok", None)
    assert (rows["none.png"]["status"], rows["none.png"]["reason"]) == (
        "unreadable",
        "no such file; check the path",
    )


def test_a_csv_may_say_what_the_radiographs_show(folder: Path) -> None:
    lines = [
        "path,label,hardware,projection,region,several_views",
        "Non-Fractured/0.png,0,0,frontal,Hand,no",
        "Fractured/1.png,1,TRUE,lateral + frontal,mixed,1",
        "Non-Fractured/2.png,0,,,,",
        "Fractured/3.png,1",
    ]
    (folder / "list.csv").write_text("\n".join(lines))
    rows = rows_of(build_manifest(folder / "list.csv", SETTINGS, 7))
    names = ("region", "projection", "several_views", "hardware")
    assert [tuple(row[name] for name in names) for row in rows.values()] == [
        ("hand", "frontal", False, False),
        ("mixed", "frontal+lateral", True, True),
        (None, None, None, None),
        (None, None, None, None),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("path,label,region\na.png,1,paw\n", "line 2: region 'paw' is not known; write hand, leg, hip"),
        ("path,label,projection\na.png,1,frontal+up\n", r"line 2: projection 'frontal\+up' is not known"),
        ("path,label,hardware\na.png,1,screw\n", "line 2: hardware 'screw' is not known; write 1, 0"),
        ("path,label,several_views\na.png,1,2\n", "line 2: several_views '2' is not known"),
        ("file,label\na.png,1\n", "column 'path' is missing"),
        ("path\na.png\n", "column 'label' is missing"),
        ("", "is missing"),
        ("path,label\na.png,1\nb.png,perhaps\n", "line 3: label 'perhaps' is not known"),
        ("path,label\n,1\n", "line 2: the path is empty"),
        ("path,label\n\u00e4.png,1\n".encode("latin-1"), "not a readable CSV in UTF-8"),
    ],
)
def test_an_unusable_csv_is_an_error_that_names_the_place(
    tmp_path: Path, text: str | bytes, reason: str
) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ManifestError, match=reason):
        build_manifest(path, SETTINGS, 7)


def test_a_source_without_class_folders_is_an_error(tmp_path: Path) -> None:
    save(tmp_path / "hands" / "0.png", drawn_bones(0))
    with pytest.raises(ManifestError, match=r"'hands' \(1\)"):
        build_manifest(tmp_path, SETTINGS, 7)
    with pytest.raises(ManifestError, match="no such folder or CSV"):
        build_manifest(tmp_path / "missing", SETTINGS, 7)


def test_the_manifest_is_the_same_every_time(folder: Path) -> None:
    assert build_manifest(folder, SETTINGS, 7).equals(build_manifest(folder, SETTINGS, 7))


def test_copies_of_another_manifests_radiographs_are_left_out(folder: Path, tmp_path: Path) -> None:
    fitted = tmp_path / "fitted"
    for seed in (1, 2, 40, 41):
        save(fitted / ("Fractured" if seed % 2 else "Normal") / f"{seed}.png", drawn_bones(seed)[:, ::-1])
    fitted_rows = build_manifest(fitted, SETTINGS, 7)
    source, lines = folder / "ours.csv", ["path,label,group"]
    for seed in range(8):
        save(folder / "all" / f"{seed}.png", drawn_bones(seed))
        lines.append(f"all/{seed}.png,{seed % 2},{seed // 3}")
    source.write_text("\n".join(lines))
    rows = rows_of(build_manifest(source, SETTINGS, 7, beside=fitted_rows))
    # 0.png is no copy itself, but belongs to one group with two that are.
    left_out = {name for name, row in rows.items() if row["status"] == "duplicate"}
    assert left_out == {"0.png", "1.png", "2.png"} == {name for name in rows if rows[name]["fold"] is None}
    assert "of the other manifest" in str(rows["1.png"]["reason"])
    (fitted / "Fractured" / "41.png").unlink()
    with pytest.raises(ManifestError, match=r"41\.png: cannot be compared"):
        build_manifest(source, SETTINGS, 7, beside=fitted_rows)
