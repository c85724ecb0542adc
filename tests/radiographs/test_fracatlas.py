"""The archive of FracAtlas becomes a manifest and boxes."""

import logging
import shutil
from pathlib import Path

import pytest

from fracray.config import RadiographSettings
from fracray.errors import ManifestError
from fracray.location import Location
from fracray.radiographs.boxes import boxes_table
from fracray.radiographs.fracatlas import boxes_of_fracatlas, is_fracatlas
from fracray.radiographs.manifest import build_manifest
from fracray.schema import MANIFEST, check
from tests.radiographs.archive import BOXES, SHOWN, name_of, write_archive
from tests.s3 import s3_server

SETTINGS = RadiographSettings(folds=2)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "FracAtlas")


def rows_of(source: Path | Location) -> dict[int, dict[str, object]]:
    table = check(build_manifest(source, SETTINGS, 7), MANIFEST, "manifest")
    return {int(Path(row["uri"]).stem.removeprefix("IMG")): row for row in table.to_pylist()}


def test_what_dataset_csv_says_becomes_the_rows(archive: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        rows = rows_of(archive)
    assert list(rows) == list(SHOWN)
    names = ("label", "region", "projection", "several_views", "hardware")
    assert [tuple(row[name] for name in names) for row in rows.values()] == [
        (1, "hand", "frontal", False, False),
        (0, "leg", "lateral", False, False),
        (0, None, None, False, False),
        (0, "mixed", "frontal+lateral", True, False),
        (1, "hip", "oblique", False, True),
        (1, "leg", "frontal", False, False),
        (0, "mixed", "frontal", False, False),
    ]
    assert {number: row["reason"] for number, row in rows.items() if row["status"] != "ok"} == {
        50: "the JPEG file is damaged or incomplete; export it again",
        51: "no such file; check the path",
    }
    assert rows[51]["uri"] == str(archive / "images" / "Non_fractured" / name_of(51))
    assert f"Non_fractured/{name_of(99)}" in caplog.text


def test_blocks_of_25_numbers_share_a_group_and_a_fold(archive: Path) -> None:
    rows = rows_of(archive)
    groups = {number: row["group"] for number, row in rows.items()}
    assert groups[0] == groups[1] == groups[24] != groups[25] == groups[26] != groups[50] == groups[51]
    assert rows[0]["fold"] != rows[25]["fold"]


def test_the_label_is_dataset_csvs_and_not_the_folders(archive: Path) -> None:
    images = archive / "images"
    (images / "Fractured" / name_of(0)).rename(images / "Non_fractured" / name_of(0))
    row = rows_of(archive)[0]
    assert (row["label"], row["status"]) == (1, "ok")


def test_boxes_come_from_voc_or_else_from_coco(archive: Path) -> None:
    voc = boxes_of_fracatlas(Location.of(archive))
    assert voc == {name_of(number): BOXES.get(number, []) for number in SHOWN}
    shutil.rmtree(archive / "Annotations" / "PASCAL VOC")
    assert boxes_of_fracatlas(Location.of(archive)) == {name_of(number): BOXES[number] for number in BOXES}
    shutil.rmtree(archive / "Annotations" / "COCO JSON")
    with pytest.raises(ManifestError, match="neither 'PASCAL VOC' nor 'COCO JSON' is there"):
        boxes_of_fracatlas(Location.of(archive))


def test_boxes_are_found_by_the_radiographs_identity(archive: Path) -> None:
    manifest = build_manifest(archive, SETTINGS, 7)
    table = boxes_table(boxes_of_fracatlas(Location.of(archive)), manifest).to_pylist()
    ids = {Path(row["uri"]).name: row["image_id"] for row in manifest.to_pylist()}
    assert [tuple(row.values()) for row in table] == [
        (ids[name_of(0)], 10, 20, 30, 45),
        (ids[name_of(0)], 50.5, 60, 70, 80.25),
        (ids[name_of(26)], 0, 150, 40, 200),
    ]


def test_an_archive_in_s3_reads_the_same(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        place = Location.of("s3://radiographs/FracAtlas")
        for path in Location.of(archive).files():
            data = (archive / path).read_bytes()
            (place / path).write_whole(lambda file, data=data: file.write(data))
        there, here = rows_of(place), rows_of(archive)
        assert [row.pop("uri") for row in there.values()] == [
            f"{place}/{Path(str(row.pop('uri'))).relative_to(archive)}" for row in here.values()
        ]
        # Of what cannot be read, the path decides the group's name.
        for number, row in there.items():
            assert row | {"group": None} == here[number] | {"group": None}
        assert boxes_of_fracatlas(place) == boxes_of_fracatlas(Location.of(archive))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (f"{name_of(1)},0,1", f"{name_of(1)},0,2", "line 3: leg '2' is not known; flags are 0 or 1"),
        (f"{name_of(1)},0,1", f"{name_of(1)},0", "line 3: oblique '' is not known"),
        (name_of(1), "../secret.jpg", r"line 3: image_id '../secret\.jpg' is not known"),
        (name_of(1), name_of(0), f"line 3: {name_of(0)} stands here a second time"),
    ],
)
def test_a_damaged_dataset_csv_is_an_error_that_names_the_line(
    archive: Path, old: str, new: str, reason: str
) -> None:
    table = archive / "dataset.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(ManifestError, match=rf"dataset\.csv.*{reason}"):
        build_manifest(archive, SETTINGS, 7)


def test_what_does_not_fit_fracatlas_is_said(archive: Path) -> None:
    with pytest.raises(ManifestError, match="leave out --label"):
        build_manifest(archive, SETTINGS, 7, label_folders={"Fractured": 1})
    (archive / "dataset.csv").write_text((archive / "dataset.csv").read_text().splitlines()[0])
    with pytest.raises(ManifestError, match="names no radiograph"):
        build_manifest(archive, SETTINGS, 7)
    shutil.rmtree(archive / "images")
    with pytest.raises(ManifestError, match="no folder images; unpack all of the zip"):
        build_manifest(archive, SETTINGS, 7)


@pytest.mark.parametrize("table", [None, b"", b"image_id,fractured\na.png,1\n", b"\xff\xfe\0"])
def test_other_folders_are_no_fracatlas(archive: Path, table: bytes | None) -> None:
    (archive / "dataset.csv").unlink()
    if table is not None:
        (archive / "dataset.csv").write_bytes(table)
    assert not is_fracatlas(Location.of(archive))
    with pytest.raises(ManifestError, match="the only source with boxes; leave out --boxes"):
        boxes_of_fracatlas(Location.of(archive))
    rows = rows_of(archive)
    assert {row["region"] for row in rows.values()} == {row["hardware"] for row in rows.values()} == {None}
    assert 99 in rows
