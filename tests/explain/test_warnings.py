"""The answer says what is wrong with a radiograph beside the number it gives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fracray.bundle.bundle import Bundle
from fracray.captions.captioner import Caption
from fracray.captions.choose import open_captioner
from fracray.captions.none import NO_CAPTION
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


def test_without_a_captioner_nothing_is_said_about_words(bundle: Bundle) -> None:
    captions = bundle.config.captions.model_copy(update={"captioner": "none"})
    alone = replace(bundle, config=bundle.config.model_copy(update={"captions": captions}))
    bones = Radiograph(make_phantom(4_900_100, long_side=300).pixels, 8, "PNG")
    (reply,) = answer(alone, [bones], open_captioner(captions).caption([bones.pixels]), with_overlay=False)
    assert (reply.image_alone, reply.caption, reply.warnings) == (True, None, [])
    assert list(reply.by_system) == ["image", "fused"]
    assert (reply.contributions.words, reply.contributions.terms) == (0, [])
    (with_words,) = answer(bundle, [bones], [NO_CAPTION], with_overlay=False)
    assert not with_words.image_alone
    assert [warning.split(" (")[0] for warning in with_words.warnings] == ["no caption"]


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
