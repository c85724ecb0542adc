import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from fracray.config import Config
from fracray.errors import ManifestError, RadiographError, StoreError, TableError, UsageError
from fracray.fingerprint import image_id
from fracray.fusion.rows import Rows, load_rows
from fracray.schema import BOXES, CAPTIONS, MANIFEST

CONFIG = Config.model_validate({"vision": {"preprocessing": {"size": 32}}})


def write_radiograph(path: Path, brightness: int) -> str:
    buffer = io.BytesIO()
    Image.new("L", (40, 50), brightness).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())
    return image_id(buffer.getvalue())


@pytest.fixture
def study(tmp_path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Six radiographs of growing brightness in three folds, and their captions in another order."""
    manifest, captions = [], []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        identity = write_radiograph(path, 40 * number)
        manifest.append(
            {
                "image_id": identity, "uri": str(path), "label": number % 2, "group": f"g{number}",
                "fold": number % 3, "width": 40, "height": 50, "bits": 8, "format": "PNG", "status": "ok",
                "reason": None,
            }
        )  # fmt: skip
        captions.append(
            {
                "image_id": identity, "fingerprint": "f", "caption": f"words of {number}", "verdict": "none",
                "findings": "unparsed", "image_vector": None,
                "tokens": 3, "seconds": 0.1, "status": "ok", "reason": None,
            }
        )  # fmt: skip
    return manifest, captions[::-1]


def load(manifest: list[dict[str, Any]], captions: list[dict[str, Any]]) -> Rows:
    return load_rows(
        pa.Table.from_pylist(manifest, schema=MANIFEST),
        pa.Table.from_pylist(captions, schema=CAPTIONS),
        CONFIG,
    )


Study = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def test_every_row_gets_its_own_caption_and_pixels(study: Study) -> None:
    rows = load(*study)
    assert rows.captions == [f"words of {number}" for number in range(6)]
    assert rows.pixels.shape == (6, 32, 32)
    assert rows.pixels.dtype == np.uint8
    assert rows.pixels[:, 16, 16].tolist() == pytest.approx([40 * number for number in range(6)], abs=1)
    assert rows.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert rows.folds.tolist() == [0, 1, 2, 0, 1, 2]


def test_rows_that_cannot_be_fitted_on_stay_out(study: Study) -> None:
    manifest, captions = study
    manifest[0] |= {"status": "unreadable", "reason": "damaged", "image_id": None}
    manifest[1]["label"] = None
    manifest[2]["fold"] = None
    manifest[3]["status"] = "duplicate"
    assert load(manifest, captions).groups == ["g4", "g5"]


def test_a_failed_caption_is_empty_but_a_missing_one_is_an_error(study: Study) -> None:
    manifest, captions = study
    captions[0] |= {"caption": None, "status": "failed", "reason": "out of memory"}
    assert load(manifest, captions).captions[5] == ""
    with pytest.raises(StoreError, match=r"2 of 6 .*fracray extract"):
        load(manifest, captions[2:])


def test_without_captions_all_are_empty(study: Study) -> None:
    rows = load_rows(pa.Table.from_pylist(study[0], schema=MANIFEST), None, CONFIG)
    assert rows.captions == [""] * 6
    assert rows.labels.tolist() == [0, 1, 0, 1, 0, 1]


def boxed(study: Study, *numbers: int, config: Config = CONFIG) -> Rows:
    manifest = study[0]
    boxes = [
        {"image_id": manifest[number]["image_id"], "xmin": 20, "ymin": 0, "xmax": 40, "ymax": 25}
        for number in numbers
    ]
    return load_rows(
        pa.Table.from_pylist(manifest, schema=MANIFEST),
        None,
        config,
        pa.Table.from_pylist(boxes, schema=BOXES),
    )


def test_boxes_come_along_in_pixels_of_the_square(study: Study) -> None:
    rows = boxed(study, 1, 3, 3)
    assert rows.boxes is not None
    assert [len(of_one) for of_one in rows.boxes] == [0, 1, 0, 2, 0, 0]
    np.testing.assert_allclose(rows.boxes[3][0], [16, 0, 32, 16], atol=1e-4)
    taken = rows.take(np.array([3, 0])).boxes
    assert taken is not None
    assert [len(of_one) for of_one in taken] == [2, 0]


def sized(study: Study, answered: int, learned: int | None) -> Rows:
    vision = {"preprocessing": {"size": answered}, "finetune": {"size": learned}}
    return boxed(study, 1, config=Config.model_validate({"vision": vision}))


def test_stages_may_learn_from_smaller_pictures_with_the_boxes_on_these(study: Study) -> None:
    rows, small = sized(study, 64, 32), sized(study, 32, None)
    assert rows.pixels.shape == (6, 64, 64)
    assert rows.learned_from is not None
    assert rows.boxes is not None
    assert small.boxes is not None
    np.testing.assert_array_equal(rows.learned_from, small.pixels)
    np.testing.assert_array_equal(rows.boxes[1], small.boxes[1])
    np.testing.assert_array_equal(rows.take(np.array([4, 1])).learned_from, small.pixels[[4, 1]])


@pytest.mark.parametrize("size", [None, 32, 64])
def test_stages_never_learn_from_larger_pictures(study: Study, size: int | None) -> None:
    assert sized(study, 32, size).learned_from is None


def test_a_box_on_what_is_not_fractured_does_not_count(study: Study) -> None:
    rows = boxed(study, 0, 1)
    assert rows.boxes is not None
    assert [len(of_one) for of_one in rows.boxes] == [0, 1, 0, 0, 0, 0]
    with pytest.raises(ManifestError, match="none of the 2 boxes is on a fractured row"):
        boxed(study, 0, 2)


def test_captions_of_two_settings_are_refused(study: Study) -> None:
    manifest, captions = study
    with pytest.raises(TableError, match="1 rows repeat"):
        load(manifest, [*captions, captions[0] | {"fingerprint": "other"}])


def spoil_group(manifest: list[dict[str, Any]]) -> None:
    manifest[1]["group"] = "g0"


def spoil_labels(manifest: list[dict[str, Any]]) -> None:
    for row in manifest:
        row["label"] = None


def spoil_content(manifest: list[dict[str, Any]]) -> None:
    write_radiograph(Path(manifest[2]["uri"]), 255)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_group, "group 'g0' .* several folds"),
        (spoil_labels, "none of the manifest's 6 rows"),
        (spoil_content, r"2\.png: changed since the manifest"),
    ],
)
def test_a_manifest_that_cannot_be_trusted_is_refused(
    study: Study, spoil: Callable[[list[dict[str, Any]]], None], message: str
) -> None:
    manifest, captions = study
    spoil(manifest)
    with pytest.raises(ManifestError, match=message):
        load(manifest, captions)


def test_a_file_gone_since_is_named(study: Study) -> None:
    manifest, captions = study
    Path(manifest[4]["uri"]).unlink()
    with pytest.raises(RadiographError, match=r"4\.png"):
        load(manifest, captions)


def test_development_rows_and_those_unseen_by_them_part_the_rows(study: Study) -> None:
    rows = load(*study)
    development = rows.development(1)
    unseen = rows.unseen(development.image_ids)
    assert unseen.groups == ["g1", "g4"]
    assert unseen.captions == ["words of 1", "words of 4"]
    assert np.array_equal(unseen.pixels, rows.pixels[[1, 4]])
    assert sorted(unseen.image_ids + development.image_ids) == sorted(rows.image_ids)
    with pytest.raises(UsageError, match="outside fold 1"):
        unseen.development(1)


def test_who_shares_a_group_with_a_training_row_is_not_unseen(study: Study) -> None:
    manifest, captions = study
    manifest[3]["group"], manifest[3]["fold"] = "g0", 0
    rows = load(manifest, captions)
    assert rows.unseen([rows.image_ids[0]]).groups == ["g1", "g2", "g4", "g5"]
    assert rows.unseen(["0" * 64]).groups == rows.groups
    with pytest.raises(UsageError, match="fitted on these radiographs"):
        rows.unseen(rows.image_ids)
