"""Teaching the tiny captioner annotated radiographs: what it is shown and what it learns to write."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fracray.captions.findings import parse_findings
from fracray.captions.tiny.architecture import IMAGE_SIZE
from fracray.captions.tiny.radiograph_card import agreement
from fracray.captions.tiny.radiograph_findings import place, write_radiograph_findings
from fracray.captions.tiny.radiograph_set import (
    Annotations,
    RadiographSet,
    box_masks,
    load_radiographs,
    mirrored,
)
from fracray.captions.tiny.radiograph_training import RadiographPlan, make_radiograph_captioners
from fracray.captions.tiny.radiograph_vision import altered
from fracray.captions.tiny.work import claim
from fracray.captions.verdict import verdict
from fracray.config import RadiographSettings
from fracray.errors import UsageError
from fracray.fingerprint import image_id
from fracray.schema import BOXES, MANIFEST
from tests.radiographs.drawing import drawn_bones

SOUND = Annotations(False, "hand", "frontal+oblique", True, False, ())
BROKEN = Annotations(True, "leg", "lateral", False, True, ((0.1, 0.7, 0.2, 0.9), (0.5, 0.5, 0.55, 0.52)))


@pytest.mark.parametrize("annotations", [SOUND, BROKEN])
@pytest.mark.parametrize("impression", [True, False])
def test_findings_are_read_back_as_annotated(annotations: Annotations, impression: bool) -> None:
    for wording in range(6):
        text = write_radiograph_findings(annotations, wording, impression=impression)
        findings = parse_findings(text, impression_asked=impression)
        assert findings.status == "ok"
        assert findings.region.startswith(annotations.region)
        assert ("hardware" in findings.devices) is annotations.hardware
        if impression:
            assert verdict(text) == ("positive" if annotations.fractured else "negative")


def test_the_largest_fractures_place_is_named_and_turns_with_the_picture() -> None:
    assert place(BROKEN.boxes[0]) == "lower third, left"
    assert "broken, lower third, left" in write_radiograph_findings(BROKEN, 0)
    assert "broken, lower third, right" in write_radiograph_findings(mirrored(BROKEN), 0)
    np.testing.assert_allclose(mirrored(mirrored(BROKEN)).boxes, BROKEN.boxes)


def test_masks_follow_the_picture_through_every_alteration() -> None:
    masks = box_masks([BROKEN] * 40)
    pixels, moved, turned = altered(255 * masks, masks, np.random.default_rng(1))
    bright = pixels > 110
    both = (bright & (moved > 0)).sum() / (bright | (moved > 0)).sum()
    assert both > 0.9
    assert 5 < turned.sum() < 35
    left = moved[:, :, : IMAGE_SIZE // 2].sum((1, 2)) > moved[:, :, IMAGE_SIZE // 2 :].sum((1, 2))
    assert (left == ~turned).all()


def row(path: Path, label: int, **known: object) -> dict[str, object]:
    values: dict[str, object] = dict.fromkeys(MANIFEST.names)
    values |= {"uri": str(path), "image_id": image_id(path.read_bytes()), "label": label, "status": "ok"}
    return values | {"group": path.stem, "fold": 0, "region": "hand", "projection": "frontal"} | known


def test_rows_without_annotations_or_boxes_are_left_out(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for i, path in enumerate(paths):
        Image.fromarray((drawn_bones(i) * 255).astype(np.uint8)).save(path)
    known = {"several_views": False, "hardware": False}
    rows = [row(paths[0], 1, **known), row(paths[1], 1, **known), row(paths[2], 0), row(paths[3], 0, **known)]
    height, width = drawn_bones(0).shape
    box = {"image_id": rows[0]["image_id"], "xmin": 0, "ymin": 0, "xmax": width / 2, "ymax": height / 4}
    manifest, boxes = pa.Table.from_pylist(rows, MANIFEST), pa.Table.from_pylist([box], BOXES)
    data = load_radiographs(manifest, boxes, RadiographSettings())
    assert data.image_ids == [rows[0]["image_id"], rows[3]["image_id"]]
    assert data.pixels.shape == (2, IMAGE_SIZE, IMAGE_SIZE)
    assert data.annotations[0].boxes == ((0, 0, 0.5, 0.25),)
    with pytest.raises(UsageError, match="--boxes"):
        load_radiographs(manifest.slice(2, 1), boxes, RadiographSettings())


def radiographs(folds: int) -> RadiographSet:
    rng = np.random.default_rng(0)
    n = 72
    annotations = [BROKEN if i % 2 else SOUND for i in range(n)]
    pixels = rng.integers(0, 255, (n, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    return RadiographSet(pixels, annotations, np.arange(n) // 2 % folds, [str(i) for i in range(n)])


def test_every_radiograph_is_captioned_by_one_that_has_not_seen_it(tmp_path: Path) -> None:
    plan = RadiographPlan(1, eye_steps=1, word_steps=1, versions=1, processes=2)
    folder = make_radiograph_captioners(radiographs(3), tmp_path, plan)
    captions = pq.read_table(tmp_path / "out_of_fold.parquet")
    assert set(captions["image_id"].to_pylist()) == {str(i) for i in range(72)}
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/model.safetensors")}
    assert len(made) == 4
    assert "| region right | 0." in (folder / "README.md").read_text()
    assert make_radiograph_captioners(radiographs(3), tmp_path, plan) == folder
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_agreement_counts_what_is_named_rightly() -> None:
    texts = [write_radiograph_findings(row, 0) for row in (SOUND, BROKEN, SOUND, BROKEN)]
    found = agreement(texts, [SOUND, BROKEN, BROKEN, BROKEN])
    assert (found.region, found.projection) == (0.75, 0.75)
    assert (found.sensitivity, found.specificity) == (pytest.approx(2 / 3), 1)
    assert found.by_region == {"hand": 1, "leg": pytest.approx(2 / 3)}
    assert (found.place, found.metal) == (1, pytest.approx(2 / 3))
    assert (found.findings_ok, found.distinct, found.fractured) == (4, 2, 3)


def test_two_folds_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="three"):
        make_radiograph_captioners(radiographs(2), tmp_path, RadiographPlan(1))


def test_captioners_of_other_folds_or_another_plan_are_not_taken_for_these(tmp_path: Path) -> None:
    claim(tmp_path / "work", "plan and folds")
    claim(tmp_path / "work", "plan and folds")
    with pytest.raises(UsageError, match="another folder with --work"):
        claim(tmp_path / "work", "plan and other folds")
