"""What holds for every captioner, whichever stands behind the protocol."""

from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest

from fracray.captions.captioner import Captioner, Status, prepare
from fracray.captions.choose import captioner_image_size, open_captioner
from fracray.config import CaptionSettings
from fracray.radiographs.phantoms import make_phantom
from fracray.schema import CAPTIONS, write_table

IDS = [f"{seed:064x}" for seed in range(5)]


@pytest.fixture(scope="module", params=["fake", "replay", "gemma"])
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CaptionSettings:
    if request.param != "replay":
        return CaptionSettings(captioner=request.param, batch_size=2)
    table = tmp_path_factory.mktemp("replay") / "captions.parquet"
    write_captions(table, IDS)
    return CaptionSettings(captioner="replay", model=str(table))


@pytest.fixture(scope="module")
def captioner(settings: CaptionSettings) -> Captioner:
    return open_captioner(settings)


@pytest.fixture(scope="module")
def pictures(captioner: Captioner) -> list[np.ndarray]:
    phantoms = [make_phantom(seed, long_side=300) for seed in range(len(IDS))]
    return [prepare(phantom.pixels, captioner.image_size) for phantom in phantoms]


def write_captions(path: Path, ids: list[str]) -> None:
    rows = [
        {"image_id": name, "fingerprint": "f", "caption": f"text {name}", "verdict": "none", "tokens": 2,
         "findings": "unparsed", "image_vector": [0.5, 1.0], "seconds": 0.5, "status": "ok", "reason": None}
        for name in ids
    ]  # fmt: skip
    write_table(pa.Table.from_pylist(rows, schema=CAPTIONS), CAPTIONS, path)


def test_the_size_is_known_before_anything_is_loaded(captioner: Captioner, settings: CaptionSettings) -> None:
    assert captioner.image_size == captioner_image_size(settings)


def test_every_picture_gets_its_own_answer_in_order(captioner: Captioner, pictures: list[np.ndarray]) -> None:
    answers = captioner.caption(pictures, IDS)
    assert [answer.status for answer in answers] == ["ok"] * len(IDS)
    backwards = captioner.caption(pictures[::-1], IDS[::-1])
    assert [answer.text for answer in backwards[::-1]] == [answer.text for answer in answers]


def test_an_answer_does_not_depend_on_its_neighbours(
    captioner: Captioner, pictures: list[np.ndarray]
) -> None:
    together = captioner.caption(pictures, IDS)
    alone = [captioner.caption([picture], [name])[0] for picture, name in zip(pictures, IDS, strict=True)]
    assert [answer.text for answer in alone] == [answer.text for answer in together]


def test_no_pictures_no_answers(captioner: Captioner) -> None:
    assert captioner.caption([], []) == []


def test_an_answer_that_is_not_ok_has_a_known_status_and_a_reason(
    captioner: Captioner, pictures: list[np.ndarray]
) -> None:
    bad = [pictures[0], pictures[1].astype(np.float32)]
    for answer in captioner.caption(bad, [IDS[0], "f" * 64]):
        assert answer.status in get_args(Status)
        assert (answer.reason is None) == (answer.status == "ok")


def test_the_fingerprint_stays(captioner: Captioner, settings: CaptionSettings) -> None:
    assert open_captioner(settings).fingerprint == captioner.fingerprint
