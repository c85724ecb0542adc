from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fracray.captions.captioner import prepare
from fracray.captions.choose import captioner_fingerprint
from fracray.config import (
    BackboneSettings,
    CaptionSettings,
    Preprocessing,
    RadiographSettings,
    VisionSettings,
)
from fracray.errors import BackboneError, CaptionerError
from fracray.extraction.captioning import CaptionRows
from fracray.extraction.embedding import EmbedRows
from fracray.extraction.reading import read_rows
from fracray.extraction.rows import WORK, Row, infer
from fracray.extraction.store import FeatureStore
from fracray.extraction.writing import write_rows
from fracray.fingerprint import image_id
from fracray.location import Location
from fracray.radiographs.read import read_radiograph
from fracray.vision.backbone import backbone_fingerprint
from fracray.vision.preprocess import preprocess

SIZE = 64
PREPROCESSING = Preprocessing(size=SIZE)
VISION = VisionSettings(
    preprocessing=PREPROCESSING, backbone=BackboneSettings(architecture="resnet10", weights="random")
)


def radiograph(path: Path, seed: int) -> str:
    """Write a small picture and return its image_id."""
    grey = np.random.default_rng(seed).integers(0, 256, (50, 40), dtype=np.uint8)
    Image.fromarray(grey).save(path)
    return image_id(path.read_bytes())


def work(rows: list[tuple[str, Path, bool, bool]]) -> pa.Table:
    names = WORK.names
    values = [(image, str(path), captions, embeddings, None) for image, path, captions, embeddings in rows]
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in values], schema=WORK)


def test_pixels_are_those_of_the_stages_themselves_and_only_where_wished_for(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    ids = [radiograph(path, number) for number, path in enumerate(paths)]
    wishes = [(True, True), (True, False), (False, True)]
    table = work([(i, path, *wish) for i, path, wish in zip(ids, paths, wishes, strict=True)])

    read = read_rows(table, RadiographSettings(), 32, PREPROCESSING).to_pylist()

    for row, path, (captions, embeddings) in zip(read, paths, wishes, strict=True):
        pixels = read_radiograph(path.read_bytes(), RadiographSettings()).pixels
        assert row["caption_pixels"] == (prepare(pixels, 32).tobytes() if captions else None)
        assert row["vision_pixels"] == (preprocess(pixels, PREPROCESSING).tobytes() if embeddings else None)
        assert row["reason"] is None


def test_a_file_that_is_gone_changed_or_broken_keeps_its_row_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, gone, changed, broken, odd = (
        tmp_path / f"{name}.png" for name in ("good", "gone", "changed", "b", "o")
    )
    ids = [radiograph(path, number) for number, path in enumerate((good, gone, changed, broken, odd))]
    gone.unlink()
    radiograph(changed, 99)
    broken.write_bytes(b"no picture")
    ids[3] = image_id(b"no picture")
    odd_bytes = odd.read_bytes()

    def decoder(data: bytes, settings: RadiographSettings, *, enough: int | None) -> object:
        if data == odd_bytes:
            raise ZeroDivisionError("inside a decoder")
        return read_radiograph(data, settings, enough=enough)

    monkeypatch.setattr("fracray.extraction.reading.read_radiograph", decoder)
    table = work([(i, p, True, True) for i, p in zip(ids, (good, gone, changed, broken, odd), strict=True)])
    rows = read_rows(table, RadiographSettings(), 32, PREPROCESSING).to_pylist()

    assert [row["image_id"] for row in rows] == ids
    assert rows[0]["reason"] is None
    assert all(row["reason"] and row["caption_pixels"] is None for row in rows[1:])
    assert "manifest" in rows[2]["reason"]
    assert rows[4]["reason"] == "ZeroDivisionError: inside a decoder"


@settings(deadline=None)
@given(bad=st.sets(st.integers(0, 11)), wished=st.lists(st.booleans(), min_size=12, max_size=12))
def test_a_picture_on_which_the_model_fails_fails_alone(bad: set[int], wished: list[bool]) -> None:
    pixels = [np.full((2, 2), number, np.uint8).tobytes() for number in range(12)]
    table = pa.table(
        {
            "image_id": [str(number) for number in range(12)],
            "want_captions": wished,
            "caption_pixels": pixels,
            "reason": pa.nulls(12, pa.string()),
        }
    )

    def model(rows: Sequence[Row]) -> list[str]:
        if any(int(row.pixels[0, 0]) in bad for row in rows):
            raise ValueError("too dark")
        return [f"{row.image_id}={row.pixels[1, 1]}" for row in rows]

    results = infer(table, "captions", "caption_pixels", 2, model, lambda reason: reason)

    expected = ["ValueError: too dark" if number in bad else f"{number}={number}" for number in range(12)]
    assert results == [text if wish else None for text, wish in zip(expected, wished, strict=True)]


def test_written_rows_are_the_wished_ones_with_status_and_reason(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    ids = [radiograph(path, number) for number, path in enumerate(paths)]
    paths[2].unlink()
    table = work(
        [(ids[0], paths[0], True, False), (ids[1], paths[1], False, True), (ids[2], paths[2], True, True)]
    )
    settings = CaptionSettings(captioner="fake")
    captioner_id, vision_id = captioner_fingerprint(settings), backbone_fingerprint(VISION)

    table = read_rows(table, RadiographSettings(), 64, PREPROCESSING)
    table = CaptionRows(settings, captioner_id, 64, 1)(table)
    table = EmbedRows(VISION, vision_id, 1)(table)
    write_rows(table, Location.of(tmp_path / "store"), {"captions": captioner_id, "embeddings": vision_id})

    store = FeatureStore(tmp_path / "store")
    captions = {row["image_id"]: row for row in store.read("captions", captioner_id).to_pylist()}
    embeddings = {row["image_id"]: row for row in store.read("embeddings", vision_id).to_pylist()}
    assert set(captions) == {ids[0], ids[2]}
    assert set(embeddings) == {ids[1], ids[2]}
    assert captions[ids[0]]["status"] == "ok"
    assert captions[ids[0]]["verdict"] in ("positive", "negative")
    assert len(embeddings[ids[1]]["embedding"]) == 512
    assert captions[ids[2]]["status"] == embeddings[ids[2]]["status"] == "failed"
    assert captions[ids[2]]["reason"] == embeddings[ids[2]]["reason"] != ""
    assert captions[ids[2]]["verdict"] == "none"


def test_another_model_on_a_worker_than_on_the_driver_is_refused() -> None:
    with pytest.raises(CaptionerError, match="all of them"):
        CaptionRows(CaptionSettings(captioner="fake"), "0" * 16, 64, 1)
    with pytest.raises(BackboneError, match="all of them"):
        EmbedRows(VISION, "0" * 16, 1)


def test_an_embedding_that_is_not_finite_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "0.png"
    table = read_rows(
        work([(radiograph(path, 0), path, False, True)]), RadiographSettings(), 64, PREPROCESSING
    )
    monkeypatch.setattr(
        "fracray.extraction.embedding.embed", lambda *_: np.full((1, 512), np.nan, dtype=np.float32)
    )
    row = EmbedRows(VISION, backbone_fingerprint(VISION), 1)(table).to_pylist()[0]
    assert row["embeddings"] == {
        "embedding": None,
        "status": "failed",
        "reason": "the embedding is not finite",
    }
