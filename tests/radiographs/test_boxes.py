"""Annotations become boxes, or an error that names the file."""

import json
import logging
import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fracray.errors import ManifestError
from fracray.radiographs.boxes import Box, boxes_table, read_coco, read_voc
from fracray.schema import BOXES, MANIFEST, check
from tests.radiographs.archive import coco_file, voc_text

SIDES = st.floats(-1e6, 1e6)
WRITTEN = st.builds(
    lambda left, top, width, height: Box(left, top, left + width, top + height),
    SIDES, SIDES, st.floats(1, 1e6), st.floats(1, 1e6),
)  # fmt: skip


@given(st.lists(WRITTEN, max_size=4))
def test_voc_boxes_come_back_as_written(boxes: list[Box]) -> None:
    assert read_voc(voc_text(boxes).encode(), "a.xml") == boxes


@given(st.dictionaries(st.integers(0, 99), st.lists(WRITTEN, max_size=3), max_size=4))
def test_coco_boxes_come_back_by_the_images_names(boxes: dict[int, list[Box]]) -> None:
    file = {
        "images": [{"id": number, "file_name": f"images/{number}.jpg"} for number in boxes],
        "annotations": [
            {"image_id": number, "bbox": [box.xmin, box.ymin, box.xmax - box.xmin, box.ymax - box.ymin]}
            for number, found in boxes.items()
            for box in found
        ],
    }
    read = read_coco(json.dumps(file).encode(), "coco.json")
    assert read.keys() == {f"{number}.jpg" for number in boxes}
    for number, found in boxes.items():
        for box, other in zip(found, read[f"{number}.jpg"], strict=True):
            assert all(map(math.isclose, box, other))


NUMBERS = st.text("0.e-+nainf_ ", max_size=4)
DAMAGED = (
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
    | st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS).map(lambda box: voc_text([box]).encode())
)


@given(DAMAGED)
def test_whatever_a_voc_file_holds_is_boxes_or_an_error_of_one_line(data: bytes) -> None:
    try:
        boxes = read_voc(data, "here.xml")
    except ManifestError as error:
        message = str(error)
    else:
        message = "here.xml: read"
        assert all(math.isfinite(side) for box in boxes for side in box)
        assert all(box.xmin < box.xmax and box.ymin < box.ymax for box in boxes)
    assert message.startswith("here.xml: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotation>", "not readable XML"),
        ("<html/>", "'html', not a Pascal VOC"),
        ('<!DOCTYPE a [<!ENTITY e "e">]><annotation>&e;</annotation>', "a document type"),
        ("<annotation><object/></annotation>", "is no box"),
        (voc_text([(5, 5, 5, 9)]), r"'5', '5', '5', '9'\] is no box"),
        (voc_text([(5, 5, math.nan, 9)]), "is no box"),
    ],
)
def test_a_damaged_voc_file_is_named(text: str, reason: str) -> None:
    with pytest.raises(ManifestError, match=rf"^IMG\.xml: .*{reason}"):
        read_voc(text.encode(), "IMG.xml")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"images": ...}, "images: Field required"),
        ({"annotations": [{"image_id": 0, "bbox": [1, 2, 3]}]}, r"annotations\.0\.bbox\.3"),
        ({"annotations": [{"image_id": 7, "bbox": [1, 2, 3, 4]}]}, "no image has the id 7"),
        ({"annotations": [{"image_id": 0, "bbox": [1, 2, 0, 4]}]}, "is no box"),
    ],
)
def test_a_damaged_coco_file_is_named(change: dict[str, object], reason: str) -> None:
    file = {name: value for name, value in (coco_file() | change).items() if value is not ...}
    with pytest.raises(ManifestError, match=rf"^coco\.json: .*{reason}"):
        read_coco(json.dumps(file).encode(), "coco.json")


def manifest_of(*rows: dict[str, object]) -> pa.Table:
    usual = dict.fromkeys(MANIFEST.names) | {
        "label": 1, "group": "g", "status": "ok", "width": 100, "height": 50
    }  # fmt: skip
    return pa.Table.from_pylist([usual | row for row in rows], schema=MANIFEST)


def test_boxes_end_where_their_picture_does(caplog: pytest.LogCaptureFixture) -> None:
    manifest = manifest_of(
        {"image_id": "a", "uri": "/x/a.jpg"},
        {"image_id": "b", "uri": "s3://bucket/b.jpg?region=eu-west-1"},
        {"image_id": "c", "uri": "/x/c.jpg"},
        {"image_id": "d", "uri": "/x/d.jpg", "label": 0},
        {"image_id": "a", "uri": "/y/a.jpg", "status": "duplicate"},
    )
    boxes = {
        "a.jpg": [Box(-5, 10, 120, 20), Box(1, 1, 2, 2)],
        "b.jpg": [Box(0, 0, 100, 50)],
        "c.jpg": [Box(10, 60, 20, 70)],
        "elsewhere.jpg": [Box(1, 1, 2, 2)],
    }
    with caplog.at_level(logging.WARNING):
        table = check(boxes_table(boxes, manifest), BOXES, "boxes")
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        ("a", 0, 10, 100, 20),
        ("a", 1, 1, 2, 2),
        ("b", 0, 0, 100, 50),
    ]
    assert "1 radiographs: ['c.jpg']" in caplog.text
    assert "1 fractured radiographs have no box" in caplog.text


def test_without_boxes_the_table_is_empty() -> None:
    assert boxes_table({}, manifest_of()).schema == BOXES
