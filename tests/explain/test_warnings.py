"""The answer says what is wrong with a radiograph beside the number it gives."""

from pathlib import Path

import numpy as np
import pytest

from fracray.bundle.bundle import Bundle
from fracray.captions.captioner import Caption
from fracray.config import load_config
from fracray.explain.answer import answer
from fracray.fusion.training import fit_pipeline
from fracray.radiographs.phantoms import make_phantom
from fracray.radiographs.read import Radiograph
from tests.serving.conftest import SETTINGS, small_rows


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    config = load_config(overrides=SETTINGS)
    rows = small_rows(config)
    return Bundle(
        "0" * 16,
        Path(),
        config,
        fit_pipeline(rows, config).pipeline,
        frozenset(),
        "phantoms",
        "Phantoms.",
        None,
    )


def test_each_answer_carries_the_warnings_of_its_own_radiograph(bundle: Bundle) -> None:
    bones = Radiograph(make_phantom(4_900_100, long_side=300).pixels, 8, "PNG")
    blank = Radiograph(np.full((300, 260), 0.5, np.float32), 8, "PNG")
    photograph = Radiograph(bones.pixels, 8, "JPEG", coloured=0.9)
    captions = [
        Caption("Impression: No fracture.", "ok"),
        Caption("Impression", "truncated"),
        Caption("", "ok"),
    ]
    sound, empty, coloured = answer(bundle, [bones, blank, photograph], captions, with_overlay=False)
    assert sound.warnings == []
    assert [warning.split(":")[0] for warning in empty.warnings] == ["blank", "the caption is truncated"]
    assert [warning.split(":")[0] for warning in coloured.warnings] == ["in colour"]
